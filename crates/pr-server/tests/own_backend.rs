//! A backend from outside, served over a socket: it takes a `claim`, an `execute` and one `.with(..)`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use std::{
    fs::File,
    os::unix::net::UnixListener,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use pr_backend::{
    Backend, Cause, Command, Data, Descriptor, DescriptorKind, Device, Executor, Failure, NotServed, Outcome,
    Refusal, Target,
};
use pr_client::{Client, Completion};
use pr_server::{Ended, Event, Handle, Limits, Observer, Server};
use scsi_sense::{SenseCode, Status};

/// READ KEYS, allocation length 8.
const READ_KEYS: [u8; 10] = [0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0];
/// REGISTER, parameter list length 24.
const REGISTER: [u8; 10] = [0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0];

/// Serves /dev/null, and refuses /dev/zero by a label of its own.
struct Null {
    /// What each command does.
    script: Mutex<Receiver<Step>>,
    running: Arc<AtomicUsize>,
    is_serial: bool,
}

enum Step {
    Answer,
    Fail,
    Panic,
    /// Blocks until the sender is dropped.
    Hang(Receiver<()>),
}

impl Backend for Null {
    fn claim(&self, descriptor: &Descriptor<'_>) -> Option<Result<Device, NotServed>> {
        let DescriptorKind::Character(id) = descriptor.kind() else { return None };
        match id.to_string().as_str() {
            "character device 1:3" if self.is_serial => Some(Ok(Device::new(id).one_command_at_a_time())),
            "character device 1:3" => Some(Ok(Device::new(id))),
            "character device 1:5" => Some(Err(Refusal::new("zero", "/dev/zero has no keys").into())),
            _ => None,
        }
    }

    fn execute(&self, _: Target<'_>, command: &mut Command<'_>) -> Outcome {
        let step = self.script.lock().unwrap().recv().unwrap_or(Step::Answer);
        self.running.fetch_add(1, Ordering::SeqCst);
        match step {
            Step::Answer => {}
            Step::Fail => {
                let cause = Cause::new("own", "as the script has it");
                return Outcome::Failed(Failure::check_condition(SenseCode::NOT_READY, cause));
            }
            Step::Panic => panic!("as the script has it"),
            Step::Hang(end) => drop(end.recv()),
        }
        match &mut command.data {
            Data::In(data) => {
                data.copy_from_slice(b"keyskeys");
                Outcome::Device { status: Status::GOOD, transferred: 8, sense_len: 0 }
            }
            Data::Out(_) => Outcome::bare(Status::RESERVATION_CONFLICT),
        }
    }

    fn refusal_labels(&self) -> &'static [&'static str] {
        &["zero"]
    }
}

/// Notes events by name.
#[derive(Default)]
struct Names(Mutex<Vec<String>>);

impl Observer for Names {
    fn event(&self, event: &Event<'_>) {
        let name = match event {
            Event::Completed(completed) => format!("completed {}", completed.outcome.status()),
            Event::Disconnected(_, reason) => format!("disconnected: {reason}"),
            other => format!("{other:?}").split(['(', ' ']).next().unwrap_or_default().to_lowercase(),
        };
        self.0.lock().unwrap().push(name);
    }
}

/// A server in a thread.
struct Helper {
    handle: Handle,
    running: JoinHandle<std::io::Result<Ended>>,
    events: Arc<Names>,
    script: Sender<Step>,
    commands: Arc<AtomicUsize>,
    socket: PathBuf,
    _directory: tempfile::TempDir,
}

impl Helper {
    fn start(limits: Limits, is_serial: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let (script, steps) = channel();
        let commands = Arc::new(AtomicUsize::new(0));
        let null = Null { script: Mutex::new(steps), running: Arc::clone(&commands), is_serial };
        let executor = Executor::new().with(null);
        assert!(executor.refusal_labels().contains(&"zero"));
        let events = Arc::new(Names::default());
        let server = Server::builder(executor)
            .listen(UnixListener::bind(&socket).unwrap())
            .observer(Arc::clone(&events))
            .limits(limits)
            .build()
            .unwrap();
        let handle = server.handle();
        let running = thread::spawn(|| server.run());
        Self { handle, running, events, script, commands, socket, _directory: directory }
    }

    fn client(&self) -> Client {
        Client::connect(&self.socket).unwrap()
    }

    /// Has a client send a command that hangs until the sender is dropped. Returns once the device has it.
    fn hang(&self) -> (Sender<()>, JoinHandle<Result<Status, pr_client::Error>>) {
        let before = self.commands.load(Ordering::SeqCst);
        let (end, hung) = channel();
        self.script.send(Step::Hang(hung)).unwrap();
        let client = self.client();
        let waiting = thread::spawn(move || read(&client, "/dev/null").map(|reply| reply.status));
        eventually("it hangs", || self.commands.load(Ordering::SeqCst) > before);
        (end, waiting)
    }

    fn events(&self) -> Vec<String> {
        self.events.0.lock().unwrap().clone()
    }

    fn stop(self, grace: Duration) -> Ended {
        self.handle.shutdown(grace);
        self.running.join().unwrap().unwrap()
    }
}

fn read(client: &Client, path: &str) -> Result<Completion, pr_client::Error> {
    let mut data = [0; 8];
    let device = File::options().read(true).write(true).open(path).unwrap();
    client.execute(&device, &READ_KEYS, pr_client::Data::In(&mut data))
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(30), "timed out: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn own_backend_is_served_over_a_socket() {
    let helper = Helper::start(Limits::default(), false);
    let client = helper.client();
    let device = File::options().read(true).write(true).open("/dev/null").unwrap();
    helper.script.send(Step::Answer).unwrap();
    let mut data = [0; 8];
    let reply = client.execute(&device, &READ_KEYS, pr_client::Data::In(&mut data)).unwrap();
    assert_eq!((reply.status, &data), (Status::GOOD, b"keyskeys"));
    helper.script.send(Step::Answer).unwrap();
    let reply = client.execute(&device, &REGISTER, pr_client::Data::Out(&[0; 24])).unwrap();
    assert_eq!(reply.status, Status::RESERVATION_CONFLICT);
    helper.script.send(Step::Fail).unwrap();
    assert_eq!(read(&client, "/dev/null").unwrap().status, Status::CHECK_CONDITION);
    // Refused by the backend, and by none.
    assert_eq!(read(&client, "/dev/zero").unwrap().status, Status::CHECK_CONDITION);
    assert_eq!(read(&client, "/dev/full").unwrap().status, Status::CHECK_CONDITION);
    assert_eq!(helper.commands.load(Ordering::SeqCst), 3, "refused commands do not run");
    drop(client);
    eventually("the client has gone", || helper.handle.state().connections.is_empty());
    let expected = [
        "connected",
        "started",
        "completed GOOD (00h)",
        "replied",
        "started",
        "completed RESERVATION CONFLICT (18h)",
        "replied",
        "started",
        "completed CHECK CONDITION (02h)",
        "replied",
        "completed CHECK CONDITION (02h)",
        "replied",
        "completed CHECK CONDITION (02h)",
        "replied",
        "disconnected: closed by the client",
    ];
    assert_eq!(helper.events(), expected);
    assert_eq!(helper.stop(Duration::from_secs(10)), Ended::Clean);
}

#[test]
fn panic_costs_one_connection() {
    let helper = Helper::start(Limits::default(), false);
    helper.script.send(Step::Panic).unwrap();
    assert!(read(&helper.client(), "/dev/null").is_err(), "no reply");
    eventually("it is counted", || helper.handle.state().panics == 1);
    helper.script.send(Step::Answer).unwrap();
    assert_eq!(read(&helper.client(), "/dev/null").unwrap().status, Status::GOOD);
    assert!(helper.events().contains(&"panicked".to_owned()));
    assert_eq!(helper.stop(Duration::from_secs(10)), Ended::Clean);
}

#[test]
fn hung_command_delays_no_other_connection() {
    let helper = Helper::start(Limits { slow: Duration::from_millis(10), ..Limits::default() }, false);
    let (end, waiting) = helper.hang();
    for _ in 0..10 {
        helper.script.send(Step::Answer).unwrap();
        assert_eq!(read(&helper.client(), "/dev/null").unwrap().status, Status::GOOD);
    }
    eventually("it is slow", || helper.events().contains(&"slow".to_owned()));
    let load = helper.handle.state().devices["character device 1:3"];
    assert_eq!((load.in_flight, load.waiting), (1, 0));
    drop(end);
    assert_eq!(waiting.join().unwrap().unwrap(), Status::GOOD);
    assert!(helper.events().contains(&"slowended".to_owned()));
    assert_eq!(helper.stop(Duration::from_secs(10)), Ended::Clean);
}

#[test]
fn serial_device_runs_commands_one_by_one() {
    let helper = Helper::start(Limits::default(), true);
    let (end, first) = helper.hang();
    let others = (0..4)
        .map(|_| {
            let client = helper.client();
            thread::spawn(move || read(&client, "/dev/null").map(|reply| reply.status))
        })
        .collect::<Vec<_>>();
    eventually("four wait", || {
        helper.handle.state().devices.get("character device 1:3").is_some_and(|load| load.waiting == 4)
    });
    assert_eq!(helper.commands.load(Ordering::SeqCst), 1);
    (0..4).for_each(|_| helper.script.send(Step::Answer).unwrap());
    drop(end);
    for client in others.into_iter().chain([first]) {
        assert_eq!(client.join().unwrap().unwrap(), Status::GOOD);
    }
    assert_eq!(helper.stop(Duration::from_secs(10)), Ended::Clean);
}

#[test]
fn shutdown_waits_until_its_grace_ends() {
    let helper = Helper::start(Limits::default(), false);
    let (end, waiting) = helper.hang();
    let (handle, commands) = (helper.handle.clone(), Arc::clone(&helper.commands));
    handle.shutdown(Duration::from_secs(60));
    drop(end);
    assert_eq!(helper.stop(Duration::from_secs(60)), Ended::Clean);
    assert_eq!(waiting.join().unwrap().unwrap(), Status::GOOD, "it was answered");
    assert_eq!(commands.load(Ordering::SeqCst), 1);

    let helper = Helper::start(Limits::default(), false);
    let (end, waiting) = helper.hang();
    let Ended::CutShort(devices) = helper.stop(Duration::ZERO) else { panic!("it hangs") };
    assert_eq!((devices[0].0.as_str(), devices[0].1.in_flight), ("character device 1:3", 1));
    assert!(waiting.join().unwrap().is_err(), "its client is told");
    drop(end);
}

#[test]
fn longest_grace_does_not_cut_short() {
    let helper = Helper::start(Limits::default(), false);
    let (end, waiting) = helper.hang();
    helper.handle.shutdown(Duration::MAX);
    thread::sleep(Duration::from_millis(50));
    assert_eq!(helper.handle.commands_in_flight(), 1);
    drop(end);
    assert_eq!(helper.running.join().unwrap().unwrap(), Ended::Clean);
    assert_eq!(waiting.join().unwrap().unwrap(), Status::GOOD);
}

#[test]
fn quota_rejects_connections_of_one_process() {
    let limits = Limits { max_clients: 100, max_clients_per_process: 3, ..Limits::default() };
    let helper = Helper::start(limits, false);
    let clients = [(); 3].map(|()| helper.client());
    for _ in 0..10 {
        assert!(Client::connect(&helper.socket).is_err());
    }
    helper.script.send(Step::Answer).unwrap();
    assert_eq!(read(&clients[0], "/dev/null").unwrap().status, Status::GOOD, "the others are served");
    drop(clients);
    eventually("there is room again", || Client::connect(&helper.socket).is_ok());
    assert_eq!(helper.stop(Duration::from_secs(10)), Ended::Clean);
}

/// The client has told its guest that the command failed: a PREEMPT that takes effect later fences the wrong node.
#[test]
fn change_of_a_gone_client_is_skipped() {
    let helper = Helper::start(Limits::default(), true);
    let (end, waiting) = helper.hang();
    let device = File::options().read(true).write(true).open("/dev/null").unwrap();
    let gone = helper.client();
    let parameters = pr_client::Data::Out(&[0; 24]);
    assert!(gone.execute_within(&device, &REGISTER, parameters, Duration::from_millis(200)).is_err());
    drop(gone);
    drop(end);
    assert_eq!(waiting.join().unwrap().unwrap(), Status::GOOD);
    eventually("the change is skipped", || helper.events().contains(&"abandoned".to_owned()));
    assert_eq!(helper.commands.load(Ordering::SeqCst), 1, "the device has seen one command");
    assert_eq!(helper.stop(Duration::from_secs(10)), Ended::Clean);
}
