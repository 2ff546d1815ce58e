//! Reservations of any block device, by the calls of `<linux/pr.h>`.

use crate::{
    error::Error,
    kind::ReservationType,
    pr_request::{PrIoctl, PrRequest},
    report::Malformed,
};

/// A block device, whose reservations are reached by `P`.
///
/// The kernel refuses partitions (`EPERM`), but no maps of the device-mapper: through a map with one linear target the
/// calls reach the whole device below it, and a map with an `error` target answers success and does nothing. Drivers
/// translate the calls as they can:
///
/// - `sd` sends PERSISTENT RESERVE OUT and always sets APTPL;
/// - `nvme` registers a key of 0 where SCSI would unregister, so that **no call unregisters a host**, and treats
///   `PR_FL_IGNORE_KEY` with an old key of 0 as a first registration. Use [`Namespace`](crate::Namespace) instead;
/// - loop devices, virtio-blk and most others answer `EOPNOTSUPP`.
#[derive(Debug)]
pub struct BlockDevice<P> {
    device: P,
}

/// The registrations of a block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyList {
    /// The generation of the registrations.
    pub generation: u32,
    /// The keys, one for each registration.
    pub keys: Vec<u64>,
}

/// The reservation of a block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The generation of the registrations.
    pub generation: u32,
    /// The holder's key; 0 if all registrants hold the reservation.
    pub key: u64,
    /// The type.
    pub kind: ReservationType,
}

/// Keys that the first call has room for, and how often it is made with more room.
const FIRST_KEYS: usize = 32;
const ATTEMPTS: usize = 5;

impl<P: PrIoctl> BlockDevice<P> {
    /// Returns the block device. Nothing is sent.
    pub fn new(device: P) -> Self {
        Self { device }
    }

    /// Registers `new` for this host, whose key is `old`; 0 if it is not registered. With `ignore_key` the driver does not
    /// compare `old`.
    ///
    /// # Errors
    ///
    /// [`Error`]: [`Error::Pr`] with [`PrStatus::CONFLICT`](crate::PrStatus::CONFLICT) if the host has another key.
    pub fn register(&self, old: u64, new: u64, ignore_key: bool) -> Result<(), Error> {
        self.call(&mut PrRequest::Register { old, new, ignore_key })
    }

    /// Makes a reservation.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn reserve(&self, key: u64, kind: ReservationType) -> Result<(), Error> {
        self.call(&mut PrRequest::Reserve { key, kind })
    }

    /// Releases the reservation.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn release(&self, key: u64, kind: ReservationType) -> Result<(), Error> {
        self.call(&mut PrRequest::Release { key, kind })
    }

    /// Removes the registrations with the key `victim` and takes over its reservation; with `abort`, the victim's commands
    /// are aborted (the device-mapper does not).
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn preempt(&self, own: u64, victim: u64, kind: ReservationType, abort: bool) -> Result<(), Error> {
        self.call(&mut PrRequest::Preempt { own, victim, kind, abort })
    }

    /// Removes the reservation and all registrations.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn clear(&self, key: u64) -> Result<(), Error> {
        self.call(&mut PrRequest::Clear { key })
    }

    /// Returns all keys.
    ///
    /// # Errors
    ///
    /// [`Error`]; [`Error::NotSupported`] on kernels before 6.19; [`Error::Malformed`] if there are more keys each time.
    pub fn keys(&self) -> Result<KeyList, Error> {
        let mut room = FIRST_KEYS;
        for _ in 0..ATTEMPTS {
            let mut keys = vec![0; room];
            let mut request = PrRequest::ReadKeys { keys: &mut keys, generation: 0, total: 0 };
            self.call(&mut request)?;
            let PrRequest::ReadKeys { generation, total, .. } = request else { break };
            let total = usize::try_from(total).unwrap_or(usize::MAX);
            // At most 65,535 hosts or nexuses can be registered in either protocol's usual lists; more is no answer.
            if total > usize::from(u16::MAX) {
                return Err(Error::Malformed(Malformed::Value(total.try_into().unwrap_or(u64::MAX))));
            }
            if total <= room {
                keys.truncate(total);
                return Ok(KeyList { generation, keys });
            }
            room = total.saturating_add(FIRST_KEYS);
        }
        Err(Error::Malformed(Malformed::Growing))
    }

    /// Returns the reservation, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error`]; [`Error::NotSupported`] on kernels before 6.19; [`Error::Malformed`] for an unknown type.
    pub fn reservation(&self) -> Result<Option<Held>, Error> {
        let mut request = PrRequest::ReadReservation { key: 0, generation: 0, kind: 0 };
        self.call(&mut request)?;
        match request {
            PrRequest::ReadReservation { kind: 0, .. } => Ok(None),
            PrRequest::ReadReservation { key, generation, kind } => {
                let known = u8::try_from(kind).ok().and_then(ReservationType::new);
                let kind = known.ok_or(Error::Malformed(Malformed::Value(kind.into())))?;
                Ok(Some(Held { generation, key, kind }))
            }
            _ => Ok(None),
        }
    }

    fn call(&self, request: &mut PrRequest<'_>) -> Result<(), Error> {
        let status = self.device.call(request).map_err(Error::from_os)?;
        if status.is_success() { Ok(()) } else { Err(Error::Pr(status)) }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, io};

    use super::*;
    use crate::PrStatus;

    /// A device with these keys and this type of reservation, that answers changes with a status or an error number.
    struct Fake {
        keys: Vec<u64>,
        kind: u32,
        answer: Result<u32, i32>,
        calls: RefCell<Vec<String>>,
    }

    impl Fake {
        fn new(keys: Vec<u64>, kind: u32) -> Self {
            Self { keys, kind, answer: Ok(0), calls: RefCell::default() }
        }
    }

    impl PrIoctl for Fake {
        fn call(&self, request: &mut PrRequest<'_>) -> io::Result<PrStatus> {
            self.calls.borrow_mut().push(format!("{request:?}"));
            match request {
                PrRequest::ReadKeys { keys, generation, total } => {
                    for (to, from) in keys.iter_mut().zip(&self.keys) {
                        *to = *from;
                    }
                    (*generation, *total) = (9, u32::try_from(self.keys.len()).unwrap());
                }
                PrRequest::ReadReservation { key, generation, kind } => {
                    (*key, *generation, *kind) = (7, 9, self.kind);
                }
                _ => {}
            }
            self.answer.map(PrStatus).map_err(io::Error::from_raw_os_error)
        }
    }

    #[test]
    fn all_keys_are_read() {
        for count in [0, 1, 31, 32, 33, 1500, 65535] {
            let keys: Vec<u64> = (0..count).collect();
            let fake = Fake::new(keys.clone(), 0);
            assert_eq!(BlockDevice::new(&fake).keys().unwrap(), KeyList { generation: 9, keys });
            assert_eq!(fake.calls.borrow().len(), if count <= 32 { 1 } else { 2 }, "{count}");
        }
        let many = Fake::new((0..70_000).collect(), 0);
        assert!(matches!(BlockDevice::new(&many).keys(), Err(Error::Malformed(Malformed::Value(70_000)))));
    }

    #[test]
    fn reservation_has_a_known_type() {
        let reservation = |kind| BlockDevice::new(Fake::new(Vec::new(), kind)).reservation();
        assert_eq!(reservation(0).unwrap(), None);
        let held = Held { generation: 9, key: 7, kind: ReservationType::ExclusiveAccessAllRegistrants };
        assert_eq!(reservation(6).unwrap(), Some(held));
        for kind in [7, 256, 257, u32::MAX] {
            assert!(matches!(reservation(kind), Err(Error::Malformed(Malformed::Value(_)))), "{kind}");
        }
    }

    #[test]
    fn every_status_but_zero_is_an_error() {
        let kind = ReservationType::WriteExclusive;
        for answer in
            [Ok(2), Ok(0x18), Ok(0x4083), Ok(0x1_0000), Ok(u32::MAX), Err(libc::EINTR), Err(libc::EPERM)]
        {
            let fake = Fake { answer, ..Fake::new(vec![1], 1) };
            let device = BlockDevice::new(&fake);
            for result in [
                device.register(1, 2, false),
                device.reserve(1, kind),
                device.release(1, kind),
                device.preempt(1, 2, kind, true),
                device.clear(1),
                device.keys().map(drop),
                device.reservation().map(drop),
            ] {
                match (answer, result.unwrap_err()) {
                    (Ok(status), Error::Pr(reported)) => assert_eq!(reported, PrStatus(status)),
                    (Err(libc::EINTR), Error::Cancelled) | (Err(libc::EPERM), Error::Permission(_)) => {}
                    (answer, error) => panic!("{answer:?}: {error:?}"),
                }
            }
            assert_eq!(fake.calls.borrow().len(), 7, "nothing is repeated");
        }
    }
}
