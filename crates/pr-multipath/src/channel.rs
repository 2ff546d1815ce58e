//! A socket that keeps message boundaries (`SOCK_SEQPACKET`) and passes descriptors.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Instant,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType,
    },
};

/// Maximum number of descriptors in one message.
pub(crate) const DESCRIPTORS_MAX: usize = 2;

/// One end of a channel.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

/// Result of [`Channel::receive`].
#[derive(Debug)]
pub(crate) enum Received {
    /// A message: its length in bytes, and its descriptors.
    Message(usize, Vec<OwnedFd>),
    /// No message is available yet.
    Nothing,
    /// The other end is closed.
    End,
}

impl Channel {
    /// Returns both ends of a new channel.
    pub(crate) fn pair() -> Result<(Self, Self), Errno> {
        let (one, other) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(one), Self(other)))
    }

    /// Returns the end that was passed as standard input.
    pub(crate) fn stdin() -> io::Result<Self> {
        io::stdin().as_fd().try_clone_to_owned().map(Self::from)
    }

    /// Sends a message, completely or not at all. Never blocks.
    pub(crate) fn send(&self, parts: &[&[u8]], descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        // Because of its alignment, the space may hold one descriptor more than the maximum.
        let fits = descriptors.len() <= DESCRIPTORS_MAX;
        if !(descriptors.is_empty() || fits && control.push(SendAncillaryMessage::ScmRights(descriptors))) {
            return Err(Errno::TOOMANYREFS);
        }
        let parts: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        rustix::net::sendmsg(&self.0, &parts, &mut control, flags).map(drop)
    }

    /// Receives a message, if one is available. Never blocks.
    ///
    /// Fails with [`Errno::MSGSIZE`] if the message is longer than `buffer` or has more than [`DESCRIPTORS_MAX`] descriptors.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> Result<Received, Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(buffer)];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = match rustix::net::recvmsg(&self.0, &mut parts, &mut control, flags) {
            Ok(received) => received,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Received::Nothing),
            // The other end was closed with messages unread.
            Err(Errno::CONNRESET) => return Ok(Received::End),
            Err(error) => return Err(error),
        };
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                descriptors.extend(received);
            }
        }
        let cut = received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
        if cut || descriptors.len() > DESCRIPTORS_MAX {
            return Err(Errno::MSGSIZE);
        }
        if received.bytes == 0 && descriptors.is_empty() {
            return Ok(Received::End);
        }
        Ok(Received::Message(received.bytes, descriptors))
    }

    /// Closes the channel in both directions: the other end receives [`Received::End`].
    pub(crate) fn close(&self) -> Result<(), Errno> {
        rustix::net::shutdown(&self.0, Shutdown::Both)
    }

    /// Refuses further messages: [`send`](Self::send) at the other end fails with [`Errno::PIPE`] from now on. Messages that
    /// were sent before can still be received.
    pub(crate) fn refuse_more(&self) -> Result<(), Errno> {
        rustix::net::shutdown(&self.0, Shutdown::Read)
    }
}

/// Blocks until one of `descriptors` is readable or closed; returns `false` if `deadline` passes first.
pub(crate) fn wait(descriptors: &[BorrowedFd<'_>], deadline: Option<Instant>) -> Result<bool, Errno> {
    let mut events: Vec<PollFd<'_>> =
        descriptors.iter().map(|descriptor| PollFd::from_borrowed_fd(*descriptor, PollFlags::IN)).collect();
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match rustix::event::poll(&mut events, timeout.as_ref()) {
            Ok(0) if left.is_some_and(|left| !left.is_zero()) => {}
            Err(Errno::INTR) => {}
            Ok(ready) => return Ok(ready > 0),
            Err(error) => return Err(error),
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Channel {
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(channel: &Channel) -> Received {
        channel.receive(&mut [0; 4]).unwrap()
    }

    #[test]
    fn messages_and_descriptors_arrive_whole() {
        let (one, other) = Channel::pair().unwrap();
        assert!(matches!(receive(&other), Received::Nothing));
        one.send(&[b"ab", b"c"], &[one.as_fd()]).unwrap();
        one.send(&[b"d"], &[]).unwrap();
        let mut buffer = [0; 4];
        match other.receive(&mut buffer).unwrap() {
            Received::Message(3, descriptors) => {
                assert_eq!((descriptors.len(), &buffer[..3]), (1, &b"abc"[..]));
            }
            unexpected => panic!("{unexpected:?}"),
        }
        assert!(matches!(receive(&other), Received::Message(1, none) if none.is_empty()));
        drop(one);
        assert!(matches!(receive(&other), Received::End));
    }

    #[test]
    fn closed_channel_ends_on_both_sides() {
        let (one, other) = Channel::pair().unwrap();
        one.close().unwrap();
        assert!(matches!(receive(&one), Received::End));
        assert!(matches!(receive(&other), Received::End));
        assert_eq!(other.send(&[b"a"], &[]), Err(Errno::PIPE));
    }

    #[test]
    fn oversized_message_is_an_error() {
        let (one, other) = Channel::pair().unwrap();
        one.send(&[b"abcde"], &[]).unwrap();
        assert_eq!(other.receive(&mut [0; 4]).unwrap_err(), Errno::MSGSIZE);
        one.send(&[b"a"], &[one.as_fd(), one.as_fd()]).unwrap();
        assert!(matches!(receive(&other), Received::Message(1, two) if two.len() == 2));
        assert_eq!(one.send(&[b"a"], &[one.as_fd(); 3]), Err(Errno::TOOMANYREFS));
    }

    /// A worker that exits relies on this: no command is lost between its last receive and its exit.
    #[test]
    fn refused_messages_leave_earlier_ones_readable() {
        let (one, other) = Channel::pair().unwrap();
        one.send(&[b"a"], &[]).unwrap();
        other.refuse_more().unwrap();
        assert_eq!(one.send(&[b"b"], &[]), Err(Errno::PIPE));
        assert!(matches!(receive(&other), Received::Message(1, _)));
        assert!(matches!(receive(&other), Received::End));
        other.send(&[b"c"], &[]).unwrap();
        assert!(matches!(receive(&one), Received::Message(1, _)), "answers can still be sent");
    }
}
