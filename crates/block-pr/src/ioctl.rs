//! The ioctl system call.
#![allow(unsafe_code, reason = "the standard library has no ioctl")]

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
    time::Duration,
};

use crate::{
    layout::{
        IOC_PR_CLEAR, IOC_PR_PREEMPT, IOC_PR_PREEMPT_ABORT, IOC_PR_READ_KEYS, IOC_PR_READ_RESERVATION,
        IOC_PR_REGISTER, IOC_PR_RELEASE, IOC_PR_RESERVE, NVME_IOCTL_ADMIN_CMD, NVME_IOCTL_ID,
        NVME_IOCTL_IO_CMD, NVME_IOCTL_IO64_CMD, PR_FL_IGNORE_KEY, PassthruCmd64, PrCall, PrClear, PrPreempt,
        PrReadKeys, PrReadReservation, PrRegistration, PrReservation,
    },
    pr_request::{PrIoctl, PrRequest, PrStatus},
    request::{Data, Passthrough, Queue, Request},
    status::Status,
};

/// A descriptor of a block device or of an NVMe generic device (`/dev/ngXnY`), by whose ioctls commands reach it.
///
/// The descriptor must be of such a device: the numbers of the ioctls can mean something else to other drivers, though
/// none of them makes a driver access more memory than the numbers state.
#[derive(Debug, Clone, Copy)]
pub struct Kernel<'a> {
    descriptor: BorrowedFd<'a>,
}

impl<'a> Kernel<'a> {
    /// Returns the interface to the device of this descriptor. Nothing is sent.
    pub fn new(descriptor: BorrowedFd<'a>) -> Self {
        Self { descriptor }
    }
}

impl Passthrough for Kernel<'_> {
    fn namespace_id(&self) -> io::Result<u32> {
        // SAFETY: the descriptor is borrowed, so it is open; the ioctl has no argument.
        let result = unsafe { libc::ioctl(self.descriptor.as_raw_fd(), NVME_IOCTL_ID) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        u32::try_from(result).map_err(|_| io::ErrorKind::InvalidData.into())
    }

    fn submit(&self, request: &mut Request<'_>) -> io::Result<Status> {
        match request.queue {
            Queue::Admin => self.pass(NVME_IOCTL_ADMIN_CMD, request),
            // NVME_IOCTL_IO_CMD on a partition reaches the whole namespace; the kernel refuses NVME_IOCTL_IO64_CMD there.
            Queue::Io => match self.pass(NVME_IOCTL_IO64_CMD, request) {
                // Kernels before 5.4 do not have it, and sent nothing.
                Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => {
                    self.pass(NVME_IOCTL_IO_CMD, request)
                }
                passed => passed,
            },
        }
    }
}

impl Kernel<'_> {
    fn pass(&self, number: libc::Ioctl, request: &mut Request<'_>) -> io::Result<Status> {
        if !request.has_matching_direction() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let (address, length) = match &mut request.data {
            Data::FromDevice(buffer) => (buffer.as_mut_ptr().expose_provenance(), buffer.len()),
            Data::ToDevice(bytes) => (bytes.as_ptr().expose_provenance(), bytes.len()),
        };
        let mut command = PassthruCmd64 {
            opcode: request.opcode,
            nsid: request.namespace,
            addr: u64::try_from(address).map_err(|_| io::ErrorKind::InvalidInput)?,
            data_len: u32::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?,
            cdw10: request.cdw10,
            cdw11: request.cdw11,
            timeout_ms: milliseconds(request.timeout),
            ..PassthruCmd64::default()
        };
        // SAFETY: `command` is an initialised structure of 80 bytes that lives through the call, which is synchronous; the
        // kernel reads and writes as many bytes of it as `number` states, 72 or 80. `addr` and `data_len` are a buffer
        // that `request` borrows during the call: mutably if the controller writes it, which bits 1-0 of the opcode say as
        // checked above, else shared and only read. The transfer length in the command is that of the buffer, since only
        // this crate makes requests. The descriptor is open.
        let result = unsafe { libc::ioctl(self.descriptor.as_raw_fd(), number, &raw mut command) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(Status::from_ioctl(result)) }
    }

    /// Makes a call with its argument. A pointer in the argument must be valid for the call.
    fn call_with<T>(&self, call: &PrCall<T>, argument: &mut T) -> io::Result<PrStatus> {
        let number = call.number();
        // SAFETY: `number` states the size of `T`, and the kernel reads and writes that many bytes of `argument`, which is
        // borrowed mutably through the call. `T` is one of the structures of layout.rs: any bytes are valid in it. Its
        // only pointer is `keys_ptr`, for which the caller borrows a slice of `num_keys` numbers. The descriptor is open.
        let result =
            unsafe { libc::ioctl(self.descriptor.as_raw_fd(), number, std::ptr::from_mut(argument)) };
        u32::try_from(result).map(PrStatus).map_err(|_| io::Error::last_os_error())
    }
}

impl PrIoctl for Kernel<'_> {
    fn call(&self, request: &mut PrRequest<'_>) -> io::Result<PrStatus> {
        match request {
            PrRequest::Register { old, new, ignore_key } => {
                let flags = if *ignore_key { PR_FL_IGNORE_KEY } else { 0 };
                let mut argument = PrRegistration { old_key: *old, new_key: *new, flags, pad: 0 };
                self.call_with(&IOC_PR_REGISTER, &mut argument)
            }
            PrRequest::Reserve { key, kind } => {
                let mut argument = PrReservation { key: *key, kind: kind.code().into(), flags: 0 };
                self.call_with(&IOC_PR_RESERVE, &mut argument)
            }
            PrRequest::Release { key, kind } => {
                let mut argument = PrReservation { key: *key, kind: kind.code().into(), flags: 0 };
                self.call_with(&IOC_PR_RELEASE, &mut argument)
            }
            PrRequest::Preempt { own, victim, kind, abort } => {
                let call = if *abort { IOC_PR_PREEMPT_ABORT } else { IOC_PR_PREEMPT };
                let kind = kind.code().into();
                let mut argument = PrPreempt { old_key: *own, new_key: *victim, kind, flags: 0 };
                self.call_with(&call, &mut argument)
            }
            PrRequest::Clear { key } => {
                self.call_with(&IOC_PR_CLEAR, &mut PrClear { key: *key, flags: 0, pad: 0 })
            }
            PrRequest::ReadKeys { keys, generation, total } => {
                let address = keys.as_mut_ptr().expose_provenance();
                let mut argument = PrReadKeys {
                    generation: 0,
                    num_keys: u32::try_from(keys.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
                    keys_ptr: u64::try_from(address).map_err(|_| io::ErrorKind::InvalidInput)?,
                };
                let status = self.call_with(&IOC_PR_READ_KEYS, &mut argument)?;
                (*generation, *total) = (argument.generation, argument.num_keys);
                Ok(status)
            }
            PrRequest::ReadReservation { key, generation, kind } => {
                let mut argument = PrReadReservation::default();
                let status = self.call_with(&IOC_PR_READ_RESERVATION, &mut argument)?;
                (*key, *generation, *kind) = (argument.key, argument.generation, argument.kind);
                Ok(status)
            }
        }
    }
}

/// Returns the timeout in the unit of the structure. 0 would be the kernel's default.
fn milliseconds(timeout: Duration) -> u32 {
    u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsFd as _};

    use super::*;

    #[test]
    fn timeout_is_never_the_default() {
        for (timeout, expected) in [
            (Duration::ZERO, 1),
            (Duration::from_nanos(1), 1),
            (Duration::from_secs(30), 30_000),
            (Duration::MAX, u32::MAX),
        ] {
            assert_eq!(milliseconds(timeout), expected);
        }
    }

    fn request(opcode: u8, data: Data<'_>) -> Request<'_> {
        let timeout = Duration::from_secs(1);
        Request { queue: Queue::Io, opcode, namespace: 1, cdw10: 0, cdw11: 0, data, timeout }
    }

    #[test]
    fn other_drivers_have_no_such_ioctl() {
        let null = File::open("/dev/null").unwrap();
        let kernel = Kernel::new(null.as_fd());
        let errno = |error: io::Error| error.raw_os_error();
        assert_eq!(errno(kernel.namespace_id().unwrap_err()), Some(libc::ENOTTY));
        let mut buffer = [0; 16];
        let read = kernel.submit(&mut request(0x0e, Data::FromDevice(&mut buffer)));
        assert_eq!(errno(read.unwrap_err()), Some(libc::ENOTTY));
        let clear = kernel.call(&mut PrRequest::Clear { key: 1 });
        assert_eq!(errno(clear.unwrap_err()), Some(libc::ENOTTY));
    }

    /// The kernel would write to a buffer that is only borrowed for reading.
    #[test]
    fn opcode_against_the_data_is_not_sent() {
        let null = File::open("/dev/null").unwrap();
        let kernel = Kernel::new(null.as_fd());
        for opcode in [0x0e, 0x0c, 0x0f] {
            let error = kernel.submit(&mut request(opcode, Data::ToDevice(&[0; 16]))).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{opcode:x}");
        }
        let mut buffer = [0; 16];
        let error = kernel.submit(&mut request(0x0d, Data::FromDevice(&mut buffer))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
