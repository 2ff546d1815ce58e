//! What a backend from outside answers is counted, and shown by its own labels.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::{
    fs::File,
    os::unix::net::UnixListener,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use pr_backend::{
    Backend, Cause, Command, Descriptor, DescriptorKind, Device, Executor, Failure, NotServed, Outcome,
    Refusal, Target,
};
use pr_client::{Client, Data};
use pr_metrics::{Counters, Tracer, trace};
use pr_server::{Ended, Server};
use scsi_sense::{SenseCode, Status};

/// READ KEYS, allocation length 8.
const READ_KEYS: [u8; 10] = [0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0];

/// Fails every command on /dev/null, and refuses /dev/zero and /dev/full; only the label of the former is announced.
struct Own;

impl Backend for Own {
    fn claim(&self, descriptor: &Descriptor<'_>) -> Option<Result<Device, NotServed>> {
        let DescriptorKind::Character(id) = descriptor.kind() else { return None };
        match id.to_string().as_str() {
            "character device 1:3" => Some(Ok(Device::new(id))),
            "character device 1:5" => Some(Err(Refusal::new("zero", "/dev/zero has no keys").into())),
            "character device 1:7" => Some(Err(Refusal::new("full", "/dev/full has no room").into())),
            _ => None,
        }
    }

    fn execute(&self, _: Target<'_>, _: &mut Command<'_>) -> Outcome {
        let cause = Cause::new("zero", "the own device has failed");
        Outcome::Failed(Failure::check_condition(SenseCode::NOT_READY, cause))
    }

    fn refusal_labels(&self) -> &'static [&'static str] {
        &["zero"]
    }
}

/// Output that can be read while the tracer has it.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn own_labels_reach_the_exposition() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let executor = Executor::new().with(Own);
    let counters = Arc::new(Counters::new(&executor.refusal_labels()));
    let traced = Output::default();
    let options = trace::Options::parse("*").unwrap();
    let server = Server::builder(executor)
        .listen(UnixListener::bind(&socket).unwrap())
        .observer(Arc::clone(&counters))
        .observer(Tracer::open(&options, traced.clone()).unwrap().unwrap())
        .build()
        .unwrap();
    let handle = server.handle();
    let running = thread::spawn(|| server.run());
    let value = |sample: &str| {
        let text = counters.exposition(handle.state(), "1", Duration::from_secs(10));
        let found = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        found.map(str::to_owned)
    };
    let reason = |reason: &str| value(&format!("pr_helper_descriptors_refused_total{{reason=\"{reason}\"}}"));
    let read_keys = |outcome: &str| {
        let labels = "opcode=\"persistent_reserve_in\",service_action=\"read_keys\"";
        value(&format!("pr_helper_commands_total{{{labels},outcome=\"{outcome}\"}}"))
    };
    let shown = || [reason("zero"), reason("other"), read_keys("refused"), read_keys("failed")];
    let text = |value: &str| Some(value.to_owned());
    assert_eq!(shown(), [text("0"), None, text("0"), text("0")], "the announced label exists from the start");

    let client = Client::connect(&socket).unwrap();
    for path in ["/dev/zero", "/dev/zero", "/dev/full", "/dev/null"] {
        let device = File::options().read(true).write(true).open(path).unwrap();
        let reply = client.execute(&device, &READ_KEYS, Data::In(&mut [0; 8])).unwrap();
        assert_eq!(reply.status, Status::CHECK_CONDITION, "{path}");
    }
    assert_eq!(shown(), [text("2"), text("1"), text("3"), text("1")]);
    let duration = value("pr_helper_command_duration_seconds_count{opcode=\"persistent_reserve_in\"}");
    assert_eq!(duration, text("1"), "the device was given one command");

    drop(client);
    handle.shutdown(Duration::from_secs(60));
    assert_eq!(running.join().unwrap().unwrap(), Ended::Clean);
    let traced = String::from_utf8(traced.0.lock().unwrap().clone()).unwrap();
    for text in ["refused (/dev/zero has no keys): ", " (the own device has failed), "] {
        assert!(traced.contains(text), "{traced}");
    }
}
