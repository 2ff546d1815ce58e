//! What the executor checks before a backend gets a command.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::{
    fs::File,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{Arc, Mutex},
};

use pr_backend::{
    Backend, Command, Data, Descriptor, DescriptorKind, Device, Executor, NotServed, Outcome, Refusal, Target,
};
use rustix::fs::{Mode, OFlags};
use scsi_sense::{SenseCode, Status};

/// READ KEYS, allocation length 8.
const READ_KEYS: [u8; 10] = [0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0];
/// REGISTER. The executor goes by the length of the data, not by this one.
const REGISTER: [u8; 10] = [0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0];

const NULL: &str = "character device 1:3";
const ZERO: &str = "character device 1:5";

/// Claims one character device, refuses another, and answers each command with a status of its own.
struct Own {
    name: &'static str,
    claims: &'static str,
    refuses: &'static str,
    checks_reads: bool,
    status: Status,
    /// Names of the backends that were asked for a claim or given a command, in order.
    calls: Calls,
}

type Calls = Arc<Mutex<Vec<String>>>;

impl Own {
    /// Returns a backend that claims /dev/null and answers RESERVATION CONFLICT, which no check of the executor does.
    fn new(name: &'static str, calls: &Calls) -> Self {
        let calls = Arc::clone(calls);
        let status = Status::RESERVATION_CONFLICT;
        Self { name, claims: NULL, refuses: "", checks_reads: false, status, calls }
    }

    fn note(&self, what: &str) {
        self.calls.lock().unwrap().push(format!("{} {what}", self.name));
    }
}

impl Backend for Own {
    fn claim(&self, descriptor: &Descriptor<'_>) -> Option<Result<Device, NotServed>> {
        let DescriptorKind::Character(id) = descriptor.kind() else { return None };
        self.note("is asked");
        match id.to_string() {
            name if name == self.claims && self.checks_reads => Some(Ok(Device::new(id).with_read_check())),
            name if name == self.claims => Some(Ok(Device::new(id))),
            name if name == self.refuses => Some(Err(Refusal::new("own_refusal", "a test").into())),
            _ => None,
        }
    }

    fn execute(&self, _: Target<'_>, _: &mut Command<'_>) -> Outcome {
        self.note("executes");
        Outcome::bare(self.status)
    }

    fn refusal_labels(&self) -> &'static [&'static str] {
        &["own_refusal", "path_only"]
    }
}

/// Returns an executor with one backend, and the calls of that backend.
fn executor(checks_reads: bool) -> (Executor, Calls) {
    let calls = Calls::default();
    let own = Own { checks_reads, ..Own::new("own", &calls) };
    (Executor::new().with(own), calls)
}

fn open(path: &str, flags: OFlags) -> OwnedFd {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn run_in(executor: &Executor, descriptor: &OwnedFd) -> Outcome {
    let (mut data, mut sense) = ([0; 8], [0; 96]);
    let mut command = Command { cdb: &READ_KEYS, data: Data::In(&mut data), sense: &mut sense };
    executor.run(descriptor.as_fd(), &mut command)
}

fn run_out(executor: &Executor, descriptor: &OwnedFd, parameters: &[u8]) -> Outcome {
    let mut sense = [0; 96];
    let mut command = Command { cdb: &REGISTER, data: Data::Out(parameters), sense: &mut sense };
    executor.run(descriptor.as_fd(), &mut command)
}

/// Returns the label of a refusal.
fn refused(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Refused(refusal) => refusal.label(),
        other => panic!("not refused: {other:?}"),
    }
}

const ANSWERED: Outcome =
    Outcome::Device { status: Status::RESERVATION_CONFLICT, transferred: 0, sense_len: 0 };

#[test]
fn read_only_descriptor_cannot_change_reservations() {
    for checks_reads in [false, true] {
        let (executor, calls) = executor(checks_reads);
        // Access mode 3 is neither reading nor writing: for ioctls only.
        for (flags, writes) in
            [(OFlags::RDONLY, false), (OFlags::RWMODE, false), (OFlags::WRONLY, true), (OFlags::RDWR, true)]
        {
            let descriptor = open("/dev/null", flags);
            calls.lock().unwrap().clear();
            let outcome = run_out(&executor, &descriptor, &[0; 24]);
            if writes {
                assert_eq!(outcome, ANSWERED, "{flags:?}");
            } else {
                assert_eq!(refused(&outcome), "read_only", "{flags:?}");
            }
            let executed = calls.lock().unwrap().contains(&"own executes".to_owned());
            assert_eq!(executed, writes, "{flags:?}");
            assert_eq!(run_in(&executor, &descriptor), ANSWERED, "reads need no write access: {flags:?}");
        }
    }
}

/// The kernel checks `O_PATH` for SCSI ioctls. A backend that reaches its device otherwise has reads checked here.
#[test]
fn path_descriptor_changes_nothing() {
    let path = open("/dev/null", OFlags::PATH);
    for checks_reads in [false, true] {
        let (executor, calls) = executor(checks_reads);
        assert_eq!(refused(&run_out(&executor, &path, &[0; 24])), "path_only");
        assert_eq!(*calls.lock().unwrap(), ["own is asked"]);
    }
    let (checking, calls) = executor(true);
    assert_eq!(refused(&run_in(&checking, &path)), "path_only");
    assert_eq!(*calls.lock().unwrap(), ["own is asked"]);
    let (leaving, _) = executor(false);
    assert_eq!(run_in(&leaving, &path), ANSWERED, "its backend leaves the check to the kernel");
}

#[test]
fn short_parameter_list_is_rejected() {
    let (executor, calls) = executor(false);
    let descriptor = open("/dev/null", OFlags::RDWR);
    for length in [0, 1, 8, 23] {
        let outcome = run_out(&executor, &descriptor, vec![0; length].as_slice());
        let expected = Outcome::Rejected(SenseCode::PARAMETER_LIST_LENGTH_ERROR);
        assert_eq!(outcome, expected, "{length} bytes");
    }
    assert!(!calls.lock().unwrap().contains(&"own executes".to_owned()));
    for length in [24, 25, 8192] {
        assert_eq!(run_out(&executor, &descriptor, vec![0; length].as_slice()), ANSWERED, "{length} bytes");
    }
}

/// A change that is labelled as a read would pass the check of the descriptor's access mode.
#[test]
fn opcode_must_match_the_data() {
    let (executor, calls) = executor(false);
    let descriptor = open("/dev/null", OFlags::RDWR);
    let inquiry = [0x12, 0, 0, 0, 8, 0, 0, 0, 0, 0];
    for (cdb, is_in) in [(REGISTER, true), (READ_KEYS, false), (inquiry, true), (inquiry, false)] {
        let (mut buffer, mut sense) = ([0; 24], [0; 96]);
        let data = if is_in { Data::In(&mut buffer) } else { Data::Out(&[0; 24]) };
        let outcome = executor.run(descriptor.as_fd(), &mut Command { cdb: &cdb, data, sense: &mut sense });
        assert_eq!(outcome, Outcome::Rejected(SenseCode::INVALID_OPCODE), "{cdb:02x?}, in: {is_in}");
    }
    assert!(!calls.lock().unwrap().contains(&"own executes".to_owned()));
}

#[test]
fn first_backend_that_claims_executes() {
    let calls = Calls::default();
    let own = |name| Own::new(name, &calls);
    let executor = Executor::new()
        .with(Own { claims: ZERO, ..own("first") })
        .with(Own { refuses: ZERO, ..own("second") })
        .with(Own { status: Status::BUSY, ..own("third") });
    let take = || std::mem::take(&mut *calls.lock().unwrap());

    assert_eq!(run_in(&executor, &open("/dev/null", OFlags::RDWR)), ANSWERED);
    assert_eq!(take(), ["first is asked", "second is asked", "second executes"]);
    assert_eq!(run_in(&executor, &open("/dev/zero", OFlags::RDWR)), ANSWERED);
    assert_eq!(take(), ["first is asked", "first executes"]);
    assert_eq!(refused(&run_in(&executor, &open("/dev/full", OFlags::RDWR))), "other_character_device");
    assert_eq!(take(), ["first is asked", "second is asked", "third is asked"]);
}

/// A refusal is final: a backend that knows less of the device must not get it.
#[test]
fn refusal_ends_the_search() {
    let calls = Calls::default();
    let executor = Executor::new()
        .with(Own { claims: "", refuses: NULL, ..Own::new("first", &calls) })
        .with(Own::new("second", &calls));
    assert_eq!(refused(&run_in(&executor, &open("/dev/null", OFlags::RDWR))), "own_refusal");
    assert_eq!(*calls.lock().unwrap(), ["first is asked"]);
}

#[test]
fn unclaimed_descriptors_are_refused_by_kind() {
    let (pipe, _writer) = rustix::pipe::pipe().unwrap();
    let (socket, _peer) = UnixStream::pair().unwrap();
    let (executor, _) = executor(false);
    for (descriptor, label, text) in [
        (pipe, "not_a_device", "the descriptor is of a pipe, not of a disk"),
        (socket.into(), "not_a_device", "the descriptor is of a socket, not of a disk"),
        (File::open("/").unwrap().into(), "not_a_device", "the descriptor is of a directory, not of a disk"),
        (tempfile::tempfile().unwrap().into(), "not_a_device", "the descriptor is of a file, not of a disk"),
        (
            open("/dev/full", OFlags::RDWR),
            "other_character_device",
            "character device 1:7 is neither a SCSI generic device nor an NVMe namespace",
        ),
    ] {
        for outcome in [run_in(&executor, &descriptor), run_out(&executor, &descriptor, &[0; 24])] {
            assert_eq!(refused(&outcome), label);
            let Outcome::Refused(refusal) = outcome else { panic!("checked above") };
            assert!(refusal.to_string().starts_with(text), "{refusal}");
        }
    }
    let null = open("/dev/null", OFlags::RDWR);
    assert_eq!(refused(&run_in(&Executor::new(), &null)), "other_character_device", "no backend at all");
}

#[test]
fn device_of_another_executor_is_refused() {
    let calls = Calls::default();
    let two = Executor::new()
        .with(Own { claims: ZERO, ..Own::new("first", &calls) })
        .with(Own::new("second", &calls));
    let (one, _) = executor(false);
    let descriptor = open("/dev/null", OFlags::RDWR);
    let claimed = two.claim(descriptor.as_fd()).unwrap();
    for device in [&claimed, &Device::new(claimed.id())] {
        let (mut data, mut sense) = ([0; 8], [0; 96]);
        let mut command = Command { cdb: &READ_KEYS, data: Data::In(&mut data), sense: &mut sense };
        let target = Target { descriptor: descriptor.as_fd(), device, listener: 0 };
        let outcome = one.execute(target, &mut command);
        assert_eq!(refused(&outcome), "not_a_device");
        assert_eq!(outcome.completion(&mut sense).status, Status::CHECK_CONDITION);
    }
}

#[test]
fn refusal_labels_are_listed_once() {
    let calls = Calls::default();
    let none = Executor::new().refusal_labels();
    let executor = Executor::new().with(Own::new("first", &calls)).with(Own::new("second", &calls));
    let labels = executor.refusal_labels();
    assert_eq!(labels.iter().filter(|label| **label == "own_refusal").count(), 1);
    assert_eq!(labels.iter().filter(|label| **label == "path_only").count(), 1, "the executor has it too");
    assert_eq!(labels.len(), none.len() + 1);
    assert!(labels.starts_with(&none), "the executor's own come first");
}
