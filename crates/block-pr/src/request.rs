//! One NVMe command, and the interface that passes it to a controller.

use std::{fmt, io, time::Duration};

use crate::status::Status;

/// Passes NVMe commands to the controller of one namespace. [`Kernel`](crate::Kernel) does it by ioctl; a test can
/// implement it in software.
pub trait Passthrough {
    /// Returns the identifier of the namespace (`NVME_IOCTL_ID`).
    ///
    /// # Errors
    ///
    /// The kernel's error, `ENOTTY` if this is not an NVMe namespace.
    fn namespace_id(&self) -> io::Result<u32>;

    /// Sends `request` once, blocks until it ends, and returns its status.
    ///
    /// # Errors
    ///
    /// The kernel's error: see [`Error::from_os`](crate::Error::from_os). `EINTR` means that the command was cancelled
    /// after it was sent; an implementation must not repeat it.
    fn submit(&self, request: &mut Request<'_>) -> io::Result<Status>;
}

impl<P: Passthrough + ?Sized> Passthrough for &P {
    fn namespace_id(&self) -> io::Result<u32> {
        (**self).namespace_id()
    }

    fn submit(&self, request: &mut Request<'_>) -> io::Result<Status> {
        (**self).submit(request)
    }
}

/// The queue that a command belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// The admin queue.
    Admin,
    /// An I/O queue.
    Io,
}

/// The data of a command, and with it the direction of the transfer.
#[derive(Debug)]
pub enum Data<'a> {
    /// The controller writes it.
    FromDevice(&'a mut [u8]),
    /// The controller reads it.
    ToDevice(&'a [u8]),
}

/// One NVMe command.
///
/// Only this crate makes requests. In each of them the length that the command states is that of its data: a controller
/// could otherwise write beyond the buffer.
pub struct Request<'a> {
    pub(crate) queue: Queue,
    pub(crate) opcode: u8,
    pub(crate) namespace: u32,
    pub(crate) cdw10: u32,
    pub(crate) cdw11: u32,
    pub(crate) data: Data<'a>,
    pub(crate) timeout: Duration,
}

impl Request<'_> {
    /// Returns the queue.
    pub fn queue(&self) -> Queue {
        self.queue
    }

    /// Returns the opcode.
    pub fn opcode(&self) -> u8 {
        self.opcode
    }

    /// Returns the namespace identifier.
    pub fn namespace(&self) -> u32 {
        self.namespace
    }

    /// Returns Command Dword 10.
    pub fn cdw10(&self) -> u32 {
        self.cdw10
    }

    /// Returns Command Dword 11.
    pub fn cdw11(&self) -> u32 {
        self.cdw11
    }

    /// Returns the data that the controller reads; empty if it writes.
    pub fn to_device(&self) -> &[u8] {
        match &self.data {
            Data::ToDevice(bytes) => bytes,
            Data::FromDevice(_) => &[],
        }
    }

    /// Returns the buffer that the controller writes; empty if it reads.
    pub fn from_device(&mut self) -> &mut [u8] {
        match &mut self.data {
            Data::FromDevice(buffer) => buffer,
            Data::ToDevice(_) => &mut [],
        }
    }

    /// Returns the time after which the kernel aborts the command.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Returns whether bits 1-0 of the opcode, by which the kernel transfers the data, agree with the data's direction
    /// (NVM Express Base 2.1, "Opcode": 01b host to controller, 10b controller to host).
    pub(crate) fn has_matching_direction(&self) -> bool {
        let direction = match self.data {
            Data::ToDevice(_) => 0b01,
            Data::FromDevice(_) => 0b10,
        };
        self.opcode & 0b11 == direction
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} command {:02X}h, namespace {}, cdw10 {:08X}h, cdw11 {:08X}h, data {:02x?}",
            self.queue,
            self.opcode,
            self.namespace,
            self.cdw10,
            self.cdw11,
            self.to_device()
        )
    }
}
