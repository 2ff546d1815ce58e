//! What daemon, supervisor and workers say to each other: one message each, of fixed layout, big-endian. All are the same
//! binary, so there are no versions. Whoever reads believes nothing: a message that is not exactly what its writer would
//! have written is none.

use std::time::Duration;

use pr_proto::{DATA_MAX, SENSE_LEN};
use scsi_sense::{Cdb, SenseCode, Status, Transfer};

use crate::{
    backend::{Cause, Outcome},
    device::{DeviceId, Refusal},
};

/// From the daemon to the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Start the worker of this number, with the two descriptors that come along: its channel, its output.
    Start(u64),
    /// Kill it.
    Kill(u64),
    /// Nothing more will come, and the daemon goes on without.
    Leave,
}

impl Order {
    pub(super) const LENGTH: usize = 9;

    pub(super) fn encode(self) -> [u8; Self::LENGTH] {
        let (tag, number) = match self {
            Self::Start(number) => (1, number),
            Self::Kill(number) => (2, number),
            Self::Leave => (3, 0),
        };
        let [b0, b1, b2, b3, b4, b5, b6, b7] = number.to_be_bytes();
        [tag, b0, b1, b2, b3, b4, b5, b6, b7]
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let [tag, number @ ..] = <[u8; Self::LENGTH]>::try_from(bytes).ok()?;
        let number = u64::from_be_bytes(number);
        match tag {
            1 => Some(Self::Start(number)),
            2 => Some(Self::Kill(number)),
            3 if number == 0 => Some(Self::Leave),
            _ => None,
        }
    }
}

/// From the daemon to a worker: what to do, with the map's descriptor.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Errand<'a> {
    /// Run a command.
    Run {
        /// How long one path may take for it. To the millisecond.
        timeout: Duration,
        cdb: &'a [u8; 10],
        /// None for PERSISTENT RESERVE IN.
        parameters: &'a [u8],
    },
    /// Another worker ended while it made a change: if it left the map suspended, have it go on.
    Resume,
}

/// Tag, timeout and CDB.
const RUN_HEAD: usize = 1 + 4 + 10;

impl<'a> Errand<'a> {
    pub(super) const LENGTH_MAX: usize = RUN_HEAD + DATA_MAX;

    /// What comes before the parameters.
    pub(super) fn encode_head(&self) -> Vec<u8> {
        match self {
            Self::Run { timeout, cdb, .. } => {
                let milliseconds = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
                [&[1][..], &milliseconds.to_be_bytes(), *cdb].concat()
            }
            Self::Resume => vec![2],
        }
    }

    /// The parameters.
    pub(super) fn parameters(&self) -> &'a [u8] {
        match self {
            Self::Run { parameters, .. } => parameters,
            Self::Resume => &[],
        }
    }

    /// Reads a message. A command is PERSISTENT RESERVE IN or OUT, with as many parameters as it announces and no more
    /// than [`DATA_MAX`] bytes of data.
    pub(super) fn decode(bytes: &'a [u8]) -> Option<Self> {
        match bytes.split_first()? {
            (1, rest) => Self::decode_run(rest),
            (2, []) => Some(Self::Resume),
            _ => None,
        }
    }

    fn decode_run(bytes: &'a [u8]) -> Option<Self> {
        let (milliseconds, rest) = bytes.split_first_chunk()?;
        let (cdb, parameters) = rest.split_first_chunk()?;
        let expected = match Cdb::new(cdb).ok()?.transfer()? {
            Transfer::In { allocation_length } if usize::from(allocation_length) <= DATA_MAX => 0,
            Transfer::Out { parameter_list_length } => {
                usize::try_from(parameter_list_length).ok().filter(|length| *length <= DATA_MAX)?
            }
            Transfer::In { .. } => return None,
        };
        (parameters.len() == expected).then_some(Self::Run {
            timeout: Duration::from_millis(u32::from_be_bytes(*milliseconds).into()),
            cdb,
            parameters,
        })
    }
}

/// From a worker to the daemon, once it is ready, or knows that it never will be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Hello<'a> {
    /// Ready; which library it has.
    Ready(&'a str),
    /// Of no use now: why.
    Unfit(&'a str),
    /// Of no use, and no other will be: why.
    Never(&'a str),
}

impl<'a> Hello<'a> {
    pub(super) const LENGTH_MAX: usize = 1024;

    /// The message, cut to its greatest length.
    pub(super) fn encode(&self) -> Vec<u8> {
        let (tag, text) = match self {
            Self::Ready(text) => (1, text),
            Self::Unfit(text) => (2, text),
            Self::Never(text) => (3, text),
        };
        let mut bytes = vec![tag];
        let cut = (0..Self::LENGTH_MAX).rev().find(|&at| text.is_char_boundary(at)).unwrap_or_default();
        bytes.extend(text.get(..cut).unwrap_or(text).bytes());
        bytes
    }

    pub(super) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (tag, text) = bytes.split_first()?;
        let text = std::str::from_utf8(text).ok()?;
        match tag {
            1 => Some(Self::Ready(text)),
            2 => Some(Self::Unfit(text)),
            3 => Some(Self::Never(text)),
            _ => None,
        }
    }
}

/// From a worker to the daemon: how a command ended, followed by its sense data and its data.
///
/// | bytes | what |
/// |---|---|
/// | 0 | 1 device's answer, 2 failed, 3 rejected, 4 refused |
/// | 1 | SCSI status |
/// | 2 | 1 if bytes 3-5 are sense key, ASC and ASCQ |
/// | 6 | which cause or refusal |
/// | 7 | 0 |
/// | 8-19 | its three numbers |
/// | 20-21, 22-23 | length of the sense data and of the data that follow |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reply(pub(super) Outcome);

impl Reply {
    pub(super) const HEAD: usize = 24;
    pub(super) const LENGTH_MAX: usize = Self::HEAD + SENSE_LEN + DATA_MAX;

    /// What comes before sense data and data. `None` for what a worker has no cause to say.
    pub(super) fn encode_head(self) -> Option<[u8; Self::HEAD]> {
        let (tag, status, code, (which, numbers), sense, data) = match self.0 {
            Outcome::Device { status, transferred, sense_len } => {
                (1, status, None, (0, [0; 3]), sense_len, transferred)
            }
            Outcome::Failed { status, sense, cause } => (2, status, sense, cause_numbers(cause)?, 0, 0),
            Outcome::Rejected(code) => (3, Status::CHECK_CONDITION, Some(code), (0, [0; 3]), 0, 0),
            Outcome::Refused(refusal) => (4, Status::CHECK_CONDITION, None, refusal_numbers(refusal)?, 0, 0),
        };
        let [has_code, key, asc, ascq] = match code {
            Some(SenseCode { key, additional }) => [1, key.code(), additional.asc, additional.ascq],
            None => [0; 4],
        };
        let [s0, s1] = u16::try_from(sense).ok()?.to_be_bytes();
        let [d0, d1] = u16::try_from(data).ok()?.to_be_bytes();
        let [[a0, a1, a2, a3], [b0, b1, b2, b3], [c0, c1, c2, c3]] = numbers.map(u32::to_be_bytes);
        Some([
            tag, status.0, has_code, key, asc, ascq, which, 0, a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2,
            c3, s0, s1, d0, d1,
        ])
    }

    /// Reads a message: the outcome, sense data, data. Of the latter there are at most `data_max` bytes.
    pub(super) fn decode(bytes: &[u8], data_max: usize) -> Option<(Self, &[u8], &[u8])> {
        let (head, rest) = bytes.split_first_chunk::<{ Self::HEAD }>()?;
        let &[
            tag,
            status,
            has_code,
            key,
            asc,
            ascq,
            which,
            _,
            a0,
            a1,
            a2,
            a3,
            b0,
            b1,
            b2,
            b3,
            c0,
            c1,
            c2,
            c3,
            s0,
            s1,
            d0,
            d1,
        ] = head;
        let status = Status(status);
        let code = (has_code == 1).then(|| SenseCode::new(scsi_sense::SenseKey::new(key), asc, ascq));
        let numbers = [[a0, a1, a2, a3], [b0, b1, b2, b3], [c0, c1, c2, c3]].map(u32::from_be_bytes);
        let sense_len = usize::from(u16::from_be_bytes([s0, s1]));
        let transferred = usize::from(u16::from_be_bytes([d0, d1]));
        let (sense, data) = rest.split_at_checked(sense_len)?;
        let outcome = match tag {
            1 => Outcome::Device { status, transferred, sense_len },
            2 => Outcome::Failed { status, sense: code, cause: cause(which, numbers)? },
            3 => Outcome::Rejected(code?),
            4 => Outcome::Refused(refusal(which, numbers)?),
            _ => return None,
        };
        let sound = match outcome {
            Outcome::Device { .. } => {
                (status == Status::GOOD || data.is_empty())
                    && (status == Status::CHECK_CONDITION) != sense.is_empty()
            }
            // A failure to every client: see `SenseKey::is_failure`.
            Outcome::Failed { sense: code, .. } => {
                status.is_failure()
                    && (status == Status::CHECK_CONDITION) == code.is_some()
                    && code.is_none_or(|code| code.key.is_failure())
            }
            Outcome::Rejected(code) => code.key.is_failure(),
            Outcome::Refused(_) => true,
        };
        let fits = sense.len() <= SENSE_LEN && data.len() == transferred && data.len() <= data_max;
        let reply = Self(outcome);
        // There is one way to say a thing: whatever else is set is not from a worker of ours.
        (sound && fits && reply.encode_head().as_ref() == Some(head)).then_some((reply, sense, data))
    }
}

fn cause_numbers(cause: Cause) -> Option<(u8, [u32; 3])> {
    Some(match cause {
        Cause::Errno(errno) => (1, [unsigned(errno), 0, 0]),
        Cause::Transport { status, host_status, driver_status } => {
            (2, [status.into(), host_status.into(), driver_status.into()])
        }
        Cause::Library(code) => (3, [unsigned(code), 0, 0]),
        Cause::DeviceMapper(errno) => (4, [unsigned(errno), 0, 0]),
        Cause::NoPath => (5, [0; 3]),
        Cause::Multipathd => (6, [0; 3]),
        Cause::Suspended => (7, [0; 3]),
        Cause::Worker(_) | Cause::State => return None,
    })
}

fn cause(which: u8, [a, b, c]: [u32; 3]) -> Option<Cause> {
    Some(match which {
        1 => Cause::Errno(signed(a)),
        2 => Cause::Transport {
            status: a.try_into().ok()?,
            host_status: b.try_into().ok()?,
            driver_status: c.try_into().ok()?,
        },
        3 => Cause::Library(signed(a)),
        4 => Cause::DeviceMapper(signed(a)),
        5 => Cause::NoPath,
        6 => Cause::Multipathd,
        7 => Cause::Suspended,
        _ => return None,
    })
}

/// The same bits.
fn unsigned(number: i32) -> u32 {
    u32::from_ne_bytes(number.to_ne_bytes())
}

/// The same bits.
fn signed(number: u32) -> i32 {
    i32::from_ne_bytes(number.to_ne_bytes())
}

fn refusal_numbers(refusal: Refusal) -> Option<(u8, [u32; 3])> {
    if refusal == Refusal::PathOnly {
        return Some((5, [0; 3]));
    }
    let (which, id) = match refusal {
        Refusal::DeviceMapper(id) => (1, id),
        Refusal::NoMultipathd(id) => (2, id),
        Refusal::NotScsi(id) => (3, id),
        Refusal::Unknown(id) => (4, id),
        _ => return None,
    };
    match id {
        DeviceId::Block { major, minor } => Some((which, [major, minor, 0])),
        DeviceId::Character { .. } | DeviceId::File { .. } => None,
    }
}

fn refusal(which: u8, [major, minor, _]: [u32; 3]) -> Option<Refusal> {
    let id = DeviceId::Block { major, minor };
    Some(match which {
        1 => Refusal::DeviceMapper(id),
        2 => Refusal::NoMultipathd(id),
        3 => Refusal::NotScsi(id),
        4 => Refusal::Unknown(id),
        5 => Refusal::PathOnly,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IN: [u8; 10] = [0x5e, 0, 0, 0, 0, 0, 0, 0x20, 0, 0];
    const OUT: [u8; 10] = [0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0];
    const MAP: DeviceId = DeviceId::Block { major: 253, minor: 1 };

    #[test]
    fn orders_come_back() {
        for order in [Order::Start(1), Order::Kill(u64::MAX), Order::Leave] {
            assert_eq!(Order::decode(&order.encode()), Some(order));
        }
        for bytes in [&[][..], &[1; 8], &[1; 10], &[0; 9], &[3; 9]] {
            assert_eq!(Order::decode(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn errands_come_back_and_their_lengths_must_agree() {
        let timeout = Duration::from_millis(30_001);
        for errand in [
            Errand::Run { timeout, cdb: &IN, parameters: &[] },
            Errand::Run { timeout, cdb: &OUT, parameters: &[7; 24] },
            Errand::Resume,
        ] {
            let bytes = [&errand.encode_head()[..], errand.parameters()].concat();
            assert_eq!(Errand::decode(&bytes).as_ref(), Some(&errand));
            for end in 0..bytes.len() {
                assert_eq!(Errand::decode(&bytes[..end]), None, "{end} bytes");
            }
            assert_eq!(Errand::decode(&[&bytes[..], &[0]].concat()), None);
        }
        let mut long = OUT;
        long[5..9].copy_from_slice(&8193_u32.to_be_bytes());
        let bytes = [&[1, 0, 0, 0, 0], &long[..], &[0; 8193]].concat();
        assert_eq!(Errand::decode(&bytes), None);
        let mut long = IN;
        long[7..9].copy_from_slice(&8193_u16.to_be_bytes());
        assert_eq!(Errand::decode(&[&[1, 0, 0, 0, 0], &long[..]].concat()), None);
        assert_eq!(Errand::decode(&[1; 15]), None, "not a PERSISTENT RESERVE");
        assert_eq!(Errand::decode(&[3]), None);
    }

    #[test]
    fn greetings_come_back_cut_to_their_length() {
        for hello in
            [Hello::Ready("0.11.1"), Hello::Unfit("no map"), Hello::Never("no library"), Hello::Ready("")]
        {
            assert_eq!(Hello::decode(&hello.encode()), Some(hello));
        }
        let long = "ä".repeat(Hello::LENGTH_MAX);
        let bytes = Hello::Unfit(&long).encode();
        assert!(bytes.len() <= Hello::LENGTH_MAX && Hello::decode(&bytes).is_some(), "{}", bytes.len());
        for bytes in [&[][..], b"\x04text", b"\x01\xff"] {
            assert_eq!(Hello::decode(bytes), None, "{bytes:?}");
        }
    }

    fn outcomes() -> Vec<(Outcome, usize, usize)> {
        let code = SenseCode::INVALID_FIELD_IN_CDB;
        let failed = |cause| Outcome::Failed { status: Status::CHECK_CONDITION, sense: Some(code), cause };
        vec![
            (Outcome::Device { status: Status::GOOD, transferred: 24, sense_len: 0 }, 0, 24),
            (Outcome::Device { status: Status::CHECK_CONDITION, transferred: 0, sense_len: 18 }, 18, 0),
            (Outcome::Device { status: Status::RESERVATION_CONFLICT, transferred: 0, sense_len: 0 }, 0, 0),
            (failed(Cause::Errno(5)), 0, 0),
            (failed(Cause::Transport { status: 2, host_status: 0xffff, driver_status: 8 }), 0, 0),
            (failed(Cause::Library(-1)), 0, 0),
            (failed(Cause::DeviceMapper(6)), 0, 0),
            (failed(Cause::NoPath), 0, 0),
            (failed(Cause::Multipathd), 0, 0),
            (Outcome::Failed { status: Status::BUSY, sense: None, cause: Cause::Suspended }, 0, 0),
            (Outcome::Rejected(code), 0, 0),
            (Outcome::Refused(Refusal::DeviceMapper(MAP)), 0, 0),
            (Outcome::Refused(Refusal::NoMultipathd(MAP)), 0, 0),
            (Outcome::Refused(Refusal::NotScsi(MAP)), 0, 0),
            (Outcome::Refused(Refusal::Unknown(MAP)), 0, 0),
            (Outcome::Refused(Refusal::PathOnly), 0, 0),
        ]
    }

    #[test]
    fn replies_come_back() {
        for (outcome, sense, data) in outcomes() {
            let bytes =
                [&Reply(outcome).encode_head().unwrap()[..], &vec![0x70; sense], &vec![1; data]].concat();
            let decoded = Reply::decode(&bytes, 24);
            assert_eq!(
                decoded,
                Some((Reply(outcome), &vec![0x70; sense][..], &vec![1; data][..])),
                "{outcome:?}"
            );
            for end in 0..bytes.len() {
                assert_eq!(Reply::decode(&bytes[..end], 24), None, "{outcome:?}, {end} bytes");
            }
            assert_eq!(Reply::decode(&[&bytes[..], &[0]].concat(), 24), None, "{outcome:?}");
        }
    }

    #[test]
    fn no_reply_brings_more_than_was_asked_for_or_a_success_with_a_fault() {
        let bytes = |outcome, sense: usize, data: usize| {
            [&Reply(outcome).encode_head().unwrap()[..], &vec![0x70; sense], &vec![1; data]].concat()
        };
        let device = |status, transferred, sense_len| Outcome::Device { status, transferred, sense_len };
        let failed = |status, sense| Outcome::Failed { status, sense, cause: Cause::NoPath };
        let recovered = SenseCode::new(scsi_sense::SenseKey::RECOVERED_ERROR, 0, 0);
        for (outcome, sense, data) in [
            (device(Status::GOOD, 25, 0), 0, 25),
            (device(Status::GOOD, 0, 18), 18, 0),
            (device(Status::CHECK_CONDITION, 0, 0), 0, 0),
            (device(Status::CHECK_CONDITION, 1, 18), 18, 1),
            (device(Status::CHECK_CONDITION, 0, 97), 97, 0),
            (device(Status::RESERVATION_CONFLICT, 1, 0), 0, 1),
            (failed(Status::GOOD, None), 0, 0),
            (failed(Status::CONDITION_MET, None), 0, 0),
            (failed(Status(0x80), None), 0, 0),
            (failed(Status::CHECK_CONDITION, None), 0, 0),
            (failed(Status::CHECK_CONDITION, Some(SenseCode::NO_SENSE)), 0, 0),
            (failed(Status::CHECK_CONDITION, Some(recovered)), 0, 0),
            (failed(Status::BUSY, Some(SenseCode::IO_PROCESS_TERMINATED)), 0, 0),
            (Outcome::Rejected(SenseCode::NO_SENSE), 0, 0),
            (Outcome::Rejected(recovered), 0, 0),
        ] {
            assert_eq!(Reply::decode(&bytes(outcome, sense, data), 24), None, "{outcome:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ = Order::decode(&bytes);
            let _ = Errand::decode(&bytes);
            let _ = Hello::decode(&bytes);
            let _ = Reply::decode(&bytes, 24);
        }

        /// There is one way to say a thing.
        #[test]
        fn a_changed_bit_is_noticed_or_means_something_else(index in 0_usize..16, at in 0_usize..192) {
            let (outcome, sense, data) = outcomes()[index];
            let mut bytes =
                [&Reply(outcome).encode_head().unwrap()[..], &vec![0x70; sense], &vec![1; data]].concat();
            bytes[at / 8] ^= 1 << (at % 8);
            if let Some((other, _, _)) = Reply::decode(&bytes, 24) {
                prop_assert_ne!(other.0, outcome);
            }
        }
    }
}
