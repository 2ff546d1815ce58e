//! A helper that follows the protocol, or on planned connections hangs or closes the connection at any byte.

use std::{
    collections::{HashMap, VecDeque},
    fs,
    io::{self, IoSliceMut, Read as _, Write as _},
    mem::MaybeUninit,
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use pr_proto::{Command, Completion, Data, HelperSession};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags},
};
use scsi_sense::{SenseCode, Status};
use tempfile::TempDir;

/// How long a test waits for a condition before it fails.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The helper's behaviour on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Commands are answered until the client closes.
    Serve,
    /// This many commands are answered; after the last reply the connection is closed.
    ServeOnly(usize),
    /// The connection is closed at this stage.
    CloseAt(Stage),
    /// The greetings are exchanged, and [`Helper::close_idle`] closes the connection.
    CloseOnSignal,
    /// From this stage on, nothing is sent or read, and the connection stays open.
    HangAt(Stage),
    /// The helper ends before it accepts the connection, and starts again.
    Restart,
    /// The greetings are exchanged, and [`Helper::send_unsolicited`] sends a reply without a command.
    SendUnsolicited,
    /// The first command is answered with these four bytes of status, and these of size.
    Violate(u32, u32),
}

/// The stage that a connection reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// This many bytes of the helper's greeting are sent.
    Greeting(usize),
    /// The helper's greeting is sent, the client's is read.
    Greeted,
    /// A command has begun to arrive; nothing of it is read.
    Unread,
    /// This many bytes of the command are read: the CDB, then the parameters.
    Request(usize),
    /// The command is read, and this many bytes of its reply are sent.
    Reply(usize),
}

/// The answer to a command.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u8,
    pub(crate) sense: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

impl Answer {
    pub(crate) fn good(payload: &[u8]) -> Self {
        Self { payload: payload.to_vec(), ..Self::default() }
    }

    pub(crate) fn status(status: Status) -> Self {
        Self { status: status.0, ..Self::default() }
    }

    pub(crate) fn check_condition(code: SenseCode) -> Self {
        Self { status: 2, sense: code.to_fixed().to_vec(), ..Self::default() }
    }
}

/// A command that arrived whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) cdb: [u8; 10],
    pub(crate) parameters: Vec<u8>,
    /// Device and inode of its descriptor.
    pub(crate) device: (u64, u64),
}

pub(crate) type Responder = dyn Fn(&Arrived) -> Answer + Send + Sync;

/// A running helper. On drop it ends and closes all connections.
pub(crate) struct Helper {
    directory: TempDir,
    shared: Arc<Shared>,
    accepting: Option<thread::JoinHandle<()>>,
}

struct Shared {
    path: PathBuf,
    plans: Mutex<VecDeque<Plan>>,
    responder: Box<Responder>,
    /// Number of commands of which at least one byte has arrived.
    begun: AtomicUsize,
    arrived: Mutex<Vec<Arrived>>,
    /// Number of connections accepted.
    accepted: AtomicUsize,
    /// Number of connections closed.
    closed: AtomicUsize,
    /// Set by the test when waiting connections must continue.
    signal: AtomicBool,
    ending: Mutex<bool>,
    ended: Condvar,
    open: Mutex<HashMap<usize, UnixStream>>,
}

impl Helper {
    /// Starts a helper with a plan for each of its first connections, in the order in which it accepts them; it serves
    /// all further ones. All commands succeed; IN returns as many zeros as the allocation length.
    pub(crate) fn start(plans: &[Plan]) -> Self {
        Self::answering(plans, |arrived| {
            let length = usize::from(u16::from_be_bytes([arrived.cdb[7], arrived.cdb[8]]));
            let is_in = arrived.cdb[0] == 0x5e;
            Answer::good(&vec![0; if is_in { length } else { 0 }])
        })
    }

    /// Starts a helper with these plans and answers.
    pub(crate) fn answering(
        plans: &[Plan],
        responder: impl Fn(&Arrived) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let shared = Arc::new(Shared {
            path,
            plans: Mutex::new(plans.iter().copied().collect()),
            responder: Box::new(responder),
            begun: AtomicUsize::new(0),
            arrived: Mutex::default(),
            accepted: AtomicUsize::new(0),
            closed: AtomicUsize::new(0),
            signal: AtomicBool::new(false),
            ending: Mutex::new(false),
            ended: Condvar::new(),
            open: Mutex::default(),
        });
        let accepting = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.accept(listener)
        });
        Self { directory, shared, accepting: Some(accepting) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Opens a file beside the socket, in place of a device.
    pub(crate) fn device(&self) -> fs::File {
        let path = self.directory.path().join("device");
        fs::File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap()
    }

    /// Returns the number of commands of which at least one byte has arrived.
    pub(crate) fn begun(&self) -> usize {
        self.shared.begun.load(Ordering::SeqCst)
    }

    /// Returns the commands that arrived whole and were answered.
    pub(crate) fn arrived(&self) -> Vec<Arrived> {
        self.shared.arrived.lock().unwrap().clone()
    }

    pub(crate) fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Closes the connections planned as [`Plan::CloseOnSignal`], of which there must be this many.
    pub(crate) fn close_idle(&self, connections: usize) {
        self.shared.signal.store(true, Ordering::SeqCst);
        self.wait_until_closed(connections);
    }

    /// Closes the connections that hang.
    pub(crate) fn close_hung(&self) {
        self.shared.signal.store(true, Ordering::SeqCst);
    }

    /// Sends a reply on the connection planned as [`Plan::SendUnsolicited`].
    pub(crate) fn send_unsolicited(&self) {
        self.shared.signal.store(true, Ordering::SeqCst);
        eventually(|| !self.shared.signal.load(Ordering::SeqCst));
    }

    /// Waits until this many connections are closed.
    pub(crate) fn wait_until_closed(&self, connections: usize) {
        eventually(|| self.shared.closed.load(Ordering::SeqCst) >= connections);
    }

    /// Ends the helper: closes every connection and removes its socket.
    pub(crate) fn stop(&mut self) {
        let Some(accepting) = self.accepting.take() else { return };
        *self.shared.ending.lock().unwrap() = true;
        self.shared.ended.notify_all();
        for stream in self.shared.open.lock().unwrap().values() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        accepting.join().unwrap();
        eventually(|| self.shared.closed.load(Ordering::SeqCst) == self.accepted());
    }

    /// Starts the helper again, with the remaining plans.
    pub(crate) fn start_again(&mut self) {
        *self.shared.ending.lock().unwrap() = false;
        let listener = UnixListener::bind(&self.shared.path).unwrap();
        let shared = Arc::clone(&self.shared);
        self.accepting = Some(thread::spawn(move || shared.accept(listener)));
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.stop();
        }
    }
}

/// Waits until `condition` holds.
pub(crate) fn eventually(mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < TIMEOUT, "timed out");
        thread::sleep(Duration::from_millis(1));
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, mut listener: UnixListener) {
        while self.wait_for_client(&listener) {
            let plan = self.plans.lock().unwrap().pop_front().unwrap_or(Plan::Serve);
            if plan == Plan::Restart {
                drop(listener);
                fs::remove_file(&self.path).unwrap();
                listener = UnixListener::bind(&self.path).unwrap();
                continue;
            }
            let (stream, _) = listener.accept().unwrap();
            let number = self.accepted.fetch_add(1, Ordering::SeqCst);
            self.open.lock().unwrap().insert(number, stream.try_clone().unwrap());
            let shared = Arc::clone(self);
            thread::spawn(move || {
                // A client that disconnects is not a failure of the helper.
                let _ = shared.play(plan, &stream);
                // Closed as if the process was killed: data may be unread.
                shared.open.lock().unwrap().remove(&number);
                drop(stream);
                shared.closed.fetch_add(1, Ordering::SeqCst);
            });
        }
        fs::remove_file(&self.path).unwrap();
    }

    /// Waits for a connection. Returns false if the helper ends.
    fn wait_for_client(&self, listener: &UnixListener) -> bool {
        let moment = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        loop {
            if *self.ending.lock().unwrap() {
                return false;
            }
            let mut events = [PollFd::new(listener, PollFlags::IN)];
            if rustix::event::poll(&mut events, Some(&moment)).unwrap() > 0 {
                return true;
            }
        }
    }

    fn play(&self, plan: Plan, stream: &UnixStream) -> io::Result<()> {
        match plan {
            Plan::Serve => self.serve(stream, usize::MAX),
            Plan::ServeOnly(commands) => self.serve(stream, commands),
            Plan::CloseAt(stage) => self.reach(stage, stream),
            Plan::CloseOnSignal => {
                self.reach(Stage::Greeted, stream)?;
                eventually(|| self.signal.load(Ordering::SeqCst));
                Ok(())
            }
            Plan::HangAt(stage) => {
                self.reach(stage, stream)?;
                self.wait_for_end(stream);
                Ok(())
            }
            Plan::Restart => unreachable!("before the connection is accepted"),
            Plan::SendUnsolicited => {
                self.reach(Stage::Greeted, stream)?;
                eventually(|| self.signal.load(Ordering::SeqCst));
                (&*stream).write_all(&[0; 104])?;
                self.signal.store(false, Ordering::SeqCst);
                self.wait_for_end(stream);
                Ok(())
            }
            Plan::Violate(status, size) => {
                self.reach(Stage::Reply(0), stream)?;
                (&*stream).write_all(&[status.to_be_bytes(), size.to_be_bytes()].concat())?;
                (&*stream).write_all(&[0x55; 96 + 8192])?;
                self.wait_for_end(stream);
                Ok(())
            }
        }
    }

    /// Waits until the helper or the client ends.
    fn wait_for_end(&self, stream: &UnixStream) {
        loop {
            let ending = self.ending.lock().unwrap();
            let (ending, _) = self.ended.wait_timeout(ending, Duration::from_millis(1)).unwrap();
            // poll(2) always reports POLLHUP.
            let mut events = [PollFd::new(stream, PollFlags::empty())];
            let gone = rustix::event::poll(&mut events, Some(&Timespec::default())).unwrap() > 0;
            if *ending || gone || self.signal.load(Ordering::SeqCst) {
                return;
            }
        }
    }

    fn reach(&self, stage: Stage, mut stream: &UnixStream) -> io::Result<()> {
        if let Stage::Greeting(n) = stage {
            return stream.write_all(&[0; 4][..n]);
        }
        stream.write_all(&[0; 4])?;
        stream.read_exact(&mut [0; 4])?;
        if stage == Stage::Greeted {
            return Ok(());
        }
        rustix::net::recv(stream, &mut [0], RecvFlags::PEEK)?;
        self.begun.fetch_add(1, Ordering::SeqCst);
        match stage {
            Stage::Greeting(_) | Stage::Greeted => unreachable!("returned above"),
            Stage::Unread => Ok(()),
            Stage::Request(n) => stream.read_exact(&mut vec![0; n]),
            Stage::Reply(n) => {
                let mut cdb = [0; 16];
                stream.read_exact(&mut cdb)?;
                if cdb[0] == 0x5f {
                    stream.read_exact(&mut vec![0; usize::from(u16::from_be_bytes([cdb[7], cdb[8]]))])?;
                }
                let mut reply = vec![0; 104 + 8192];
                reply[4..8].copy_from_slice(&if cdb[0] == 0x5e { [0, 0, cdb[7], cdb[8]] } else { [0; 4] });
                stream.write_all(&reply[..n])
            }
        }
    }

    fn serve(&self, mut stream: &UnixStream, commands: usize) -> io::Result<()> {
        let mut session = HelperSession::<OwnedFd>::new();
        stream.write_all(&session.greeting())?;
        let mut greeted = false;
        let mut served = 0;
        let mut descriptors = Vec::new();
        while served < commands {
            let begins = greeted && !session.is_inside_message();
            let n = receive(stream, session.buffer(), &mut descriptors)?;
            if n == 0 {
                break;
            }
            self.begun.fetch_add(usize::from(begins), Ordering::SeqCst);
            session.received(n, &mut descriptors).expect("the client follows the protocol");
            greeted |= !session.is_inside_message();
            if let Some(request) = session.request() {
                stream.write_all(request.answer(|command, device| self.answer(command, &device)))?;
                served += 1;
            }
        }
        Ok(())
    }

    fn answer(&self, command: Command<'_>, device: &OwnedFd) -> Completion {
        let stat = rustix::fs::fstat(device).unwrap();
        let parameters = if let Data::Out(parameters) = command.data { parameters.to_vec() } else { vec![] };
        let arrived = Arrived { cdb: *command.cdb, parameters, device: (stat.st_dev, stat.st_ino) };
        let answer = (self.responder)(&arrived);
        self.arrived.lock().unwrap().push(arrived);
        command.sense[..answer.sense.len()].copy_from_slice(&answer.sense);
        let mut transferred = 0;
        if let Data::In(buffer) = command.data {
            transferred = buffer.len().min(answer.payload.len());
            buffer[..transferred].copy_from_slice(&answer.payload[..transferred]);
        }
        Completion { status: Status(answer.status), transferred, sense_len: answer.sense.len() }
    }
}

/// Returns all bytes and descriptors that can be received now.
pub(crate) fn receive_all(stream: &UnixStream) -> (Vec<u8>, Vec<OwnedFd>) {
    stream.set_nonblocking(true).unwrap();
    let (mut bytes, mut descriptors, mut buffer) = (Vec::new(), Vec::new(), [0; 4096]);
    while let Ok(n @ 1..) = receive(stream, &mut buffer, &mut descriptors) {
        bytes.extend_from_slice(&buffer[..n]);
    }
    (bytes, descriptors)
}

fn receive(stream: &UnixStream, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut buffer = [IoSliceMut::new(buffer)];
    let received = rustix::net::recvmsg(stream, &mut buffer, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Ok(received.bytes)
}
