//! A client of the helper with control over each byte and descriptor, so that it can also break the protocol.

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

/// A test fails if the helper sends nothing for this long.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// A connection to a helper.
pub struct Client {
    stream: UnixStream,
    session: ClientSession,
}

/// An owned reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The SCSI status.
    pub status: Status,
    /// The whole field of 96 bytes for sense data.
    pub sense: [u8; SENSE_LEN],
    /// The data of an IN command.
    pub payload: Vec<u8>,
}

impl Reply {
    /// Returns sense key, additional sense code and qualifier of sense data in fixed format, or `None` if the
    /// status is not CHECK CONDITION.
    pub fn sense_code(&self) -> Option<(u8, u8, u8)> {
        (self.status == Status::CHECK_CONDITION).then_some((
            self.sense[2] & 0xf,
            self.sense[12],
            self.sense[13],
        ))
    }
}

impl Client {
    /// Connects and exchanges greetings.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let mut client = Self::connect_silently(path)?;
        client.receive_greeting()?;
        client.send(&[0; 4], &[])?;
        Ok(client)
    }

    /// Connects without reading or writing anything.
    pub fn connect_silently(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(READ_TIMEOUT))?;
        Ok(Self { stream, session: ClientSession::new() })
    }

    /// Waits for the helper's greeting.
    pub fn receive_greeting(&mut self) -> io::Result<()> {
        while self.session.greeting().is_none() {
            self.receive_some()?;
        }
        Ok(())
    }

    /// Returns the underlying stream.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Sends these bytes with these descriptors, without regard to the protocol.
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

    /// Runs an OUT command. CDB and parameters go in two messages, as QEMU sends them.
    pub fn write(&mut self, device: impl AsFd, cdb: &[u8], parameters: &[u8]) -> io::Result<Reply> {
        let request = self.session.write(cdb, parameters).map_err(io::Error::other)?;
        self.send(&request, &[device.as_fd()])?;
        self.send(parameters, &[])?;
        self.reply()
    }

    /// Records that a command was sent by [`send`](Self::send), so that [`reply`](Self::reply) can read its
    /// reply.
    pub fn expect_reply_to(&mut self, cdb: &[u8], parameters: &[u8]) {
        let begun = if cdb[0] == 0x5e { self.session.read(cdb) } else { self.session.write(cdb, parameters) };
        begun.expect("a command that the protocol carries");
    }

    /// Waits for the reply to the command in flight.
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

    /// Waits until the helper closes the connection. Returns `false` if it does not before the read times
    /// out.
    ///
    /// # Panics
    ///
    /// If the helper sends anything instead.
    pub fn is_closed(&mut self) -> bool {
        let read = loop {
            match self.stream.read(&mut [0]) {
                // The kernel does not restart a read with a timeout if the process was stopped meanwhile.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        match read {
            Ok(0) => true,
            Ok(_) => panic!("the helper sent data instead of closing the connection"),
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
