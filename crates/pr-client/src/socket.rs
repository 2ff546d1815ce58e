//! The four system calls: connect, send with a descriptor, receive, wait. But for the wait, none of them waits unless
//! told until when.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
        SocketFlags, SocketType,
        sockopt::{Timeout, set_socket_timeout},
    },
};

use crate::deadline::Deadline;

/// The kernel's clock for sockets counts microseconds, and takes zero for no limit.
const SHORTEST: Duration = Duration::from_micros(1);

/// The longest single wait: what is longer is waited for in pieces.
const LONGEST: Duration = Duration::from_secs(3600);

/// What a descriptor is to be watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Until it is readable.
    Read,
    /// Until it is writable.
    Write,
}

/// Connects, and does not wait for room in the queue of a helper that is busy accepting: that is `WouldBlock`.
pub(crate) fn connect_now(path: &Path) -> io::Result<OwnedFd> {
    let socket = socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// Connects, and waits until the deadline for room in the queue of a helper that is busy accepting.
pub(crate) fn connect(path: &Path, deadline: Deadline) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let socket = socket(SocketFlags::CLOEXEC)?;
    loop {
        // unix(7) does not say it: SO_SNDTIMEO bounds the wait of connect(2).
        let timeout = deadline.remaining().map(|remaining| remaining.clamp(SHORTEST, LONGEST));
        set_socket_timeout(&socket, Timeout::Send, timeout)?;
        match rustix::net::connect(&socket, &address) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if deadline.allows(Duration::ZERO) => {}
            Err(Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
            result => return Ok(result.map(|()| socket)?),
        }
    }
}

fn socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// Sends what there is room for, with `descriptor` on the first byte. An error means that not a byte was taken.
pub(crate) fn send(
    socket: impl AsFd,
    bytes: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if let Some(descriptor) = &descriptor {
        // There is room for one: the other case is for the compiler.
        let message = SendAncillaryMessage::ScmRights(std::slice::from_ref(descriptor));
        if !control.push(message) {
            return Err(Errno::NOBUFS);
        }
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    rustix::io::retry_on_intr(|| rustix::net::sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, flags))
}

/// Receives what is there; zero is the end of the stream. Descriptors that come with it are closed by the kernel.
pub(crate) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> rustix::io::Result<usize> {
    rustix::io::retry_on_intr(|| rustix::net::recv(&socket, &mut *buffer, RecvFlags::DONTWAIT))
        .map(|(n, _)| n)
}

/// Like [`receive`], and leaves the byte where it is.
pub(crate) fn peek(socket: impl AsFd) -> rustix::io::Result<usize> {
    let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
    rustix::io::retry_on_intr(|| rustix::net::recv(&socket, &mut [0], flags)).map(|(n, _)| n)
}

/// Waits until the socket is ready. False: the deadline has passed.
pub(crate) fn wait(socket: impl AsFd, interest: Interest, deadline: Deadline) -> io::Result<bool> {
    let flags = match interest {
        Interest::Read => PollFlags::IN,
        Interest::Write => PollFlags::OUT,
    };
    loop {
        let remaining = deadline.remaining();
        let timeout = remaining.unwrap_or(LONGEST).min(LONGEST);
        let timeout = Timespec::try_from(timeout).unwrap_or_default();
        match rustix::event::poll(&mut [PollFd::new(&socket, flags)], Some(&timeout)) {
            Ok(0) if remaining == Some(Duration::ZERO) => return Ok(false),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}
