//! Waits for a path of a native multipath device.

use std::{cell::Cell, io, thread, time::Duration};

use block_pr::{Passthrough, Request, Status};

/// How long a command waits for a path, and how often it looks. All steps of a SCSI command share the time.
const ATTEMPTS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

/// Sends a command again while the kernel says `EAGAIN`: the device has no usable path, and the command **was not sent**.
/// No other error is repeated.
#[derive(Debug)]
pub(super) struct Waiting<P> {
    device: P,
    left: Cell<u32>,
    pause: Duration,
}

impl<P> Waiting<P> {
    pub(super) fn new(device: P) -> Self {
        Self { device, left: Cell::new(ATTEMPTS), pause: PAUSE }
    }

    fn repeat<T>(&self, mut send: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        loop {
            match send() {
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) && self.left.get() > 0 => {
                    self.left.set(self.left.get() - 1);
                    thread::sleep(self.pause);
                }
                ended => return ended,
            }
        }
    }
}

impl<P: Passthrough> Passthrough for Waiting<P> {
    fn namespace_id(&self) -> io::Result<u32> {
        self.repeat(|| self.device.namespace_id())
    }

    fn submit(&self, request: &mut Request<'_>) -> io::Result<Status> {
        self.repeat(|| self.device.submit(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails so many times with an error number, and counts the attempts.
    struct Failing {
        errno: i32,
        failures: u32,
        attempts: Cell<u32>,
    }

    impl Passthrough for Failing {
        fn namespace_id(&self) -> io::Result<u32> {
            self.attempts.set(self.attempts.get() + 1);
            if self.attempts.get() > self.failures {
                Ok(7)
            } else {
                Err(io::Error::from_raw_os_error(self.errno))
            }
        }

        fn submit(&self, _: &mut Request<'_>) -> io::Result<Status> {
            self.namespace_id().map(|_| Status::SUCCESS)
        }
    }

    /// Returns the result, and how often the device was asked.
    fn ask(errno: i32, failures: u32) -> (Option<u32>, u32) {
        let device = Failing { errno, failures, attempts: Cell::new(0) };
        let waiting = Waiting { pause: Duration::ZERO, ..Waiting::new(device) };
        (waiting.namespace_id().ok(), waiting.device.attempts.get())
    }

    #[test]
    fn only_missing_path_is_waited_for() {
        assert_eq!(ask(libc::EAGAIN, 3), (Some(7), 4));
        assert_eq!(ask(libc::EAGAIN, 1000), (None, 51), "for five seconds");
        for errno in [libc::EINTR, libc::EIO, libc::ENOTTY, libc::EACCES, libc::ENOMEM] {
            assert_eq!(ask(errno, 1), (None, 1), "{errno} is never repeated");
        }
    }

    #[test]
    fn all_steps_share_the_waiting_time() {
        let device = Failing { errno: libc::EAGAIN, failures: 1000, attempts: Cell::new(0) };
        let waiting = Waiting { pause: Duration::ZERO, ..Waiting::new(device) };
        assert!(waiting.namespace_id().is_err());
        assert!(waiting.namespace_id().is_err());
        assert_eq!(waiting.device.attempts.get(), 52);
    }
}
