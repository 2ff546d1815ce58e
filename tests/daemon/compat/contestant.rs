//! A helper under comparison. If it crashes or hangs, that is recorded as an event and the helper is
//! restarted.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    net::Shutdown,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    process::{Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use pr_proto::{GREETING_LEN, REPLY_LEN, SENSE_LEN};
use rustix::{
    event::EventfdFlags,
    fs::{Mode, OFlags},
    io::Errno,
    net::RecvFlags,
};
use test_support::{Client, Helper};

use crate::corpus::{Case, Kind, Message, Step};

/// A helper that sends nothing for this long is silent.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The longest valid payload. If a reply announces more, its payload is not read.
const PAYLOAD_MAX: usize = 1 << 20;

/// The device that the simulated disk takes over.
pub(crate) const DISK: &str = "/dev/loop0";

/// What a client receives from the helper.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Greeting(Vec<u8>),
    Reply(Reply),
    /// A reply that was cut off, or that announces a payload above [`PAYLOAD_MAX`].
    Torn(Vec<u8>),
    Closed,
    /// Neither a reply nor the end of the connection came in time, or the next client got no greeting.
    Silence,
    /// The helper's process has ended.
    Crashed(ExitStatus),
}

impl Event {
    /// Returns whether it is the last event of its connection.
    fn is_the_end(&self) -> bool {
        !matches!(self, Self::Greeting(_) | Self::Reply(_))
    }
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u32,
    pub(crate) size: u32,
    /// The whole field of [`SENSE_LEN`] bytes.
    pub(crate) sense: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

impl Reply {
    /// Returns sense key, additional sense code and qualifier of sense data in fixed format.
    pub(crate) fn sense_code(&self) -> (u8, u8, u8) {
        (self.sense[2] & 0xf, self.sense[12], self.sense[13])
    }

    /// Returns whether this is CHECK CONDITION with 18 bytes of sense data in fixed format, this sense code
    /// and zeros after it.
    pub(crate) fn is_check_condition(&self, code: (u8, u8, u8)) -> bool {
        let fixed = self.sense[0] == 0x70 && self.sense[18..].iter().all(|byte| *byte == 0);
        self.status == 2 && self.size == 0 && fixed && self.sense_code() == code
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |f: &mut fmt::Formatter<'_>, bytes: &[u8]| {
            let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            bytes[..end].iter().take(200).try_for_each(|byte| write!(f, "{byte:02x}"))?;
            if end < bytes.len() { write!(f, "(00*{})", bytes.len() - end) } else { Ok(()) }
        };
        match self {
            Self::Greeting(features) => write!(f, "greeting {features:02x?}"),
            Self::Reply(reply) => {
                write!(f, "status {:02x} size {} sense ", reply.status, reply.size)?;
                hex(f, &reply.sense)?;
                f.write_str(" payload ")?;
                hex(f, &reply.payload)
            }
            Self::Torn(bytes) => write!(f, "cut off: {bytes:02x?}"),
            Self::Closed => f.write_str("closed"),
            Self::Silence => f.write_str("silence"),
            Self::Crashed(status) => write!(f, "crashed: {status}"),
        }
    }
}

/// A descriptor of each kind, with the descriptors that keep it usable.
pub(crate) struct Descriptors(Vec<(Kind, OwnedFd, Vec<OwnedFd>)>);

impl Descriptors {
    pub(crate) fn open() -> io::Result<Self> {
        let mut all = Vec::new();
        for (_, kind) in Kind::ALL {
            let (descriptor, beside) = open(kind).map_err(|error| {
                io::Error::new(error.kind(), format!("{kind:?}: {error}: this needs root and {DISK}"))
            })?;
            all.push((kind, descriptor, beside));
        }
        Ok(Self(all))
    }

    fn get(&self, kind: Kind) -> BorrowedFd<'_> {
        let found = self.0.iter().find(|(known, ..)| *known == kind);
        found.expect("one of each kind").1.as_fd()
    }
}

/// Opens a descriptor, and the other end of a pipe or socket, which must live as long.
fn open(kind: Kind) -> io::Result<(OwnedFd, Vec<OwnedFd>)> {
    let disk = |read, write| File::options().read(read).write(write).open(DISK).map(OwnedFd::from);
    let alone = |descriptor: OwnedFd| (descriptor, Vec::new());
    let path = |path: &str, flags| rustix::fs::open(path, flags, Mode::empty());
    Ok(match kind {
        Kind::ReadWrite => alone(disk(true, true)?),
        Kind::ReadOnly => alone(disk(true, false)?),
        Kind::WriteOnly => alone(disk(false, true)?),
        Kind::Path => alone(path(DISK, OFlags::PATH)?),
        Kind::Null => alone(path("/dev/null", OFlags::RDWR)?),
        Kind::File => alone(tempfile::tempfile()?.into()),
        Kind::Directory => alone(path("/", OFlags::RDONLY | OFlags::DIRECTORY)?),
        Kind::Pipe => {
            let (reader, writer) = rustix::pipe::pipe()?;
            (reader, vec![writer])
        }
        Kind::Socket => {
            let (one, other) = UnixStream::pair()?;
            (one.into(), vec![other.into()])
        }
        Kind::Event => alone(rustix::event::eventfd(0, EventfdFlags::empty())?),
    })
}

/// A helper under comparison.
pub(crate) struct Contestant<'a> {
    command: &'a dyn Fn(&Path) -> Command,
    helper: Option<Helper>,
    /// The connection of the next case. It was opened to check that the helper survived the previous case.
    next: Option<Client>,
}

impl<'a> Contestant<'a> {
    /// Creates a helper that `command` starts on a socket at first use.
    pub(crate) fn new(command: &'a dyn Fn(&Path) -> Command) -> Self {
        Self { command, helper: None, next: None }
    }

    /// Sends a case and returns what its client receives.
    pub(crate) fn run(&mut self, case: &Case, descriptors: &Descriptors) -> io::Result<Vec<Event>> {
        let mut client = match self.next.take() {
            Some(client) => client,
            None => self.connect()?,
        };
        let mut events = vec![receive(&client, GREETING_LEN).map_or_else(|event| event, Event::Greeting)];
        for step in &case.steps {
            if events.last().is_some_and(Event::is_the_end) {
                break;
            }
            match step {
                Step::Send(Message { bytes, descriptors: kinds }) => {
                    let passed: Vec<BorrowedFd<'_>> =
                        kinds.iter().map(|kind| descriptors.get(*kind)).collect();
                    // Fails if the helper has closed the connection. Bytes that it sent before can still be
                    // read.
                    let _ = client.send(bytes, &passed);
                }
                Step::Reply => events.push(reply(&client)),
                Step::End => {
                    let _ = client.stream().shutdown(Shutdown::Write);
                    while !events.last().is_some_and(Event::is_the_end) {
                        events.push(reply(&client));
                    }
                }
            }
        }
        drop(client);
        match events.last() {
            Some(Event::Silence) => self.helper = None,
            Some(Event::Closed | Event::Torn(_)) => {
                if let Err(ended) = self.is_alive()? {
                    self.helper = None;
                    events.pop();
                    events.push(ended.map_or(Event::Silence, Event::Crashed));
                }
            }
            _ => {}
        }
        Ok(events)
    }

    /// Connects to the helper, after starting it if none runs.
    fn connect(&mut self) -> io::Result<Client> {
        if self.helper.is_none() {
            let mut helper = Helper::spawn(self.command)?;
            helper.first_client()?;
            self.helper = Some(helper);
        }
        let socket = self.helper.as_ref().map(Helper::socket).unwrap_or_default();
        let client = Client::connect_silently(&socket)?;
        client.stream().set_read_timeout(Some(TIMEOUT))?;
        client.stream().set_write_timeout(Some(TIMEOUT))?;
        Ok(client)
    }

    /// Checks that the helper greets another client. The error is its exit status, or `None` if it hangs.
    fn is_alive(&mut self) -> io::Result<Result<(), Option<ExitStatus>>> {
        if let Ok(client) = self.connect() {
            if peek(&client) {
                self.next = Some(client);
                return Ok(Ok(()));
            }
        }
        let Some(helper) = &mut self.helper else { return Ok(Err(None)) };
        let begun = Instant::now();
        while begun.elapsed() < TIMEOUT {
            if let Some(status) = helper.ended()? {
                return Ok(Err(Some(status)));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(Err(None))
    }
}

/// Waits for the first byte. Returns `false` if none comes in time or the connection is closed.
fn peek(client: &Client) -> bool {
    let mut byte = [0; 1];
    loop {
        match rustix::net::recv(client.stream(), &mut byte, RecvFlags::PEEK) {
            // The kernel does not restart a read with a timeout if the process was stopped meanwhile.
            Err(Errno::INTR) => {}
            read => return matches!(read, Ok((1.., _))),
        }
    }
}

fn reply(client: &Client) -> Event {
    let header = match receive(client, REPLY_LEN) {
        Ok(header) => header,
        Err(event) => return event,
    };
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (status, size) = (number(0), number(4));
    let sense = header[REPLY_LEN - SENSE_LEN..].to_vec();
    match usize::try_from(size) {
        Ok(0) => Event::Reply(Reply { status, size, sense, payload: Vec::new() }),
        Ok(length @ 1..=PAYLOAD_MAX) => match receive(client, length) {
            Ok(payload) => Event::Reply(Reply { status, size, sense, payload }),
            Err(Event::Silence) => Event::Silence,
            Err(_) => Event::Torn(header),
        },
        _ => Event::Torn(header),
    }
}

/// Reads `length` bytes. The error is the event that came instead.
fn receive(client: &Client, length: usize) -> Result<Vec<u8>, Event> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match client.stream().read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(Event::Silence),
            // A reset: the helper closed the connection with unread bytes.
            Err(_) => break,
        }
    }
    if filled == length {
        return Ok(bytes);
    }
    bytes.truncate(filled);
    Err(if bytes.is_empty() { Event::Closed } else { Event::Torn(bytes) })
}
