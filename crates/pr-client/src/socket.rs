//! The four system calls: connect, send with a descriptor, receive, poll. Only [`connect`] and [`wait`] block, until a
//! deadline.

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

/// The shortest timeout of a socket: the kernel counts microseconds, and zero means no timeout.
const SHORTEST: Duration = Duration::from_micros(1);

/// The longest single wait: a longer one is made of several.
const LONGEST: Duration = Duration::from_secs(3600);

/// The readiness to poll a descriptor for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Readable.
    Read,
    /// Writable.
    Write,
}

/// Connects without blocking. If the helper's queue of connections is full, the error is `WouldBlock`.
pub(crate) fn connect_now(path: &Path) -> io::Result<OwnedFd> {
    let socket = socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// Connects. While the helper's queue of connections is full, blocks until the deadline.
pub(crate) fn connect(path: &Path, deadline: Deadline) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let socket = socket(SocketFlags::CLOEXEC)?;
    loop {
        // unix(7) does not mention it, but SO_SNDTIMEO also limits how long connect(2) blocks.
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

/// Sends as much as fits into the socket, with `descriptor` on the first byte. After an error, no byte was sent.
pub(crate) fn send(
    socket: impl AsFd,
    bytes: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if let Some(descriptor) = &descriptor {
        // The buffer is large enough for one descriptor, so this does not fail.
        let message = SendAncillaryMessage::ScmRights(std::slice::from_ref(descriptor));
        if !control.push(message) {
            return Err(Errno::NOBUFS);
        }
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    rustix::io::retry_on_intr(|| rustix::net::sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, flags))
}

/// Receives the data that is available; zero is the end of the stream. The kernel closes descriptors received with it.
pub(crate) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> rustix::io::Result<usize> {
    rustix::io::retry_on_intr(|| rustix::net::recv(&socket, &mut *buffer, RecvFlags::DONTWAIT))
        .map(|(n, _)| n)
}

/// Like [`receive`], but leaves the data in the socket.
pub(crate) fn peek(socket: impl AsFd) -> rustix::io::Result<usize> {
    let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
    rustix::io::retry_on_intr(|| rustix::net::recv(&socket, &mut [0], flags)).map(|(n, _)| n)
}

/// Blocks until the socket is ready. Returns false if the deadline passes first.
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
