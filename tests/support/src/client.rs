//! A client of the helper that keeps to the protocol, or does not, byte by byte.

use std::{
    io::{self, IoSlice, Read as _, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::Path,
    time::Duration,
};

use pr_proto::{ClientSession, SENSE_LEN};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use scsi_sense::Status;

/// No answer for this long is a failed test.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to a helper.
pub struct Client {
    stream: UnixStream,
    session: ClientSession,
}

/// A reply, to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The SCSI status.
    pub status: Status,
    /// All ninety-six bytes.
    pub sense: [u8; SENSE_LEN],
    /// The data of an IN command.
    pub payload: Vec<u8>,
}

impl Reply {
    /// Sense key, additional sense code and qualifier of fixed format sense data, `None` if the status has none.
    pub fn sense_code(&self) -> Option<(u8, u8, u8)> {
        (self.status == Status::CHECK_CONDITION).then_some((
            self.sense[2] & 0xf,
            self.sense[12],
            self.sense[13],
        ))
    }
}

impl Client {
    /// Connects and greets.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let mut client = Self::connect_silently(path)?;
        client.receive_greeting()?;
        client.send(&[0; 4], &[])?;
        Ok(client)
    }

    /// Connects, and neither reads nor writes.
    pub fn connect_silently(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, session: ClientSession::new() })
    }

    /// Waits for the helper's greeting.
    pub fn receive_greeting(&mut self) -> io::Result<()> {
        while self.session.greeting().is_none() {
            self.receive_some()?;
        }
        Ok(())
    }

    /// The connection itself.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Sends these bytes with these descriptors, whatever the protocol says.
    pub fn send(&mut self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)), "at most 253 descriptors");
        }
        let sent =
            rustix::net::sendmsg(&self.stream, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
        self.stream.write_all(&bytes[sent..])
    }

    /// Runs an IN command.
    pub fn read(&mut self, device: impl AsFd, cdb: &[u8]) -> io::Result<Reply> {
        let request = self.session.read(cdb).map_err(io::Error::other)?;
        self.send(&request, &[device.as_fd()])?;
        self.reply()
    }

    /// Runs an OUT command, CDB and parameters in two messages as QEMU sends them.
    pub fn write(&mut self, device: impl AsFd, cdb: &[u8], parameters: &[u8]) -> io::Result<Reply> {
        let request = self.session.write(cdb, parameters).map_err(io::Error::other)?;
        self.send(&request, &[device.as_fd()])?;
        self.send(parameters, &[])?;
        self.reply()
    }

    /// Tells the session that a command was sent by [`send`](Self::send), so that [`reply`](Self::reply) can be read.
    pub fn expect_reply_to(&mut self, cdb: &[u8], parameters: &[u8]) {
        let begun = if cdb[0] == 0x5e { self.session.read(cdb) } else { self.session.write(cdb, parameters) };
        begun.expect("a command that the protocol carries");
    }

    /// Waits for the reply to the command under way.
    pub fn reply(&mut self) -> io::Result<Reply> {
        loop {
            if let Some(response) = self.session.response() {
                return Ok(Reply {
                    status: response.status,
                    sense: *response.sense,
                    payload: response.payload.to_vec(),
                });
            }
            self.receive_some()?;
        }
    }

    /// Whether the helper has closed the connection, or does so before long. Fails if it says something instead.
    pub fn is_closed(&mut self) -> bool {
        let read = loop {
            match self.stream.read(&mut [0]) {
                // A read with a timeout is not taken up again when the process was stopped meanwhile.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        match read {
            Ok(0) => true,
            Ok(_) => panic!("the helper said something"),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => true,
            Err(_) => false,
        }
    }

    fn receive_some(&mut self) -> io::Result<()> {
        let n = self.stream.read(self.session.buffer())?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.session.received(n).map_err(io::Error::other)
    }
}
