//! Tests of the backend with real supervisor and worker processes: this program, started again. They need root; without it
//! they only check that the backend is not available. libmpathpersist need not be installed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]

use std::{
    fs::{self, File},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use confinement::{Mode, Settings};
use pr_backend::{Backend as _, Command, Data, Device, DeviceId, Outcome, Target};
use pr_multipath::{Config, Multipath, Role, Unavailable};
use scsi_sense::Status;

/// Time limit for a process to start, serve a command or exit.
const TIMEOUT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    if let Some(role) = Role::from_args(std::env::args_os()) {
        let marker = match &role {
            Role::Supervisor(arguments) => arguments.first().map(PathBuf::from),
            Role::Worker(_) => None,
        };
        let settings = Settings { mode: Mode::Kill, log_prefix: "test: " };
        return role.run(Some(settings), || {
            if let Some(marker) = marker {
                fs::write(marker, std::process::id().to_string()).unwrap();
            }
        });
    }
    // Test runners may ask for a list of tests.
    if std::env::args().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let tests: [(&str, fn()); 3] = [
        ("supervisor_ends_with_the_daemon", supervisor_ends_with_the_daemon),
        ("worker_never_answers_good_without_map", worker_never_answers_good_without_map),
        ("backend_without_supervisor_fails", backend_without_supervisor_fails),
    ];
    for (name, test) in tests {
        test();
        println!("test {name} ... ok");
    }
    ExitCode::SUCCESS
}

/// Starts the backend; returns `None` if this process may not. The supervisor writes `marker` when the daemon ends.
fn start(marker: &Path) -> Option<Multipath> {
    let arguments = vec![marker.into(), "--verbose".into()];
    let multipath =
        Multipath::start(Config { timeout: Duration::from_secs(1), arguments, discard_stderr: false });
    match multipath.availability() {
        Ok(()) => Some(multipath),
        Err(why) => {
            assert_eq!(why, Unavailable::NotRoot);
            None
        }
    }
}

/// Runs a PERSISTENT RESERVE IN and a PERSISTENT RESERVE OUT on a descriptor that does not refer to a map.
fn outcomes(multipath: &Multipath) -> [Outcome; 2] {
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let device = Device::new(DeviceId::Block { major: 253, minor: 4095 });
    let target = Target { descriptor: null.as_fd(), device: &device, listener: 0 };
    let (mut data, mut sense) = ([0xee; 8], [0; 96]);
    let read_keys = [0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0];
    let mut command = Command { cdb: &read_keys, data: Data::In(&mut data), sense: &mut sense };
    let inbound = multipath.execute(target, &mut command);
    assert_eq!(data, [0xee; 8], "nothing may be written without GOOD");
    let register = [0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0];
    let mut command = Command { cdb: &register, data: Data::Out(&[0; 24]), sense: &mut sense };
    [inbound, multipath.execute(target, &mut command)]
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < TIMEOUT, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn supervisor_ends_with_the_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let marker = directory.path().join("marker");
    let Some(multipath) = start(&marker) else { return };
    assert!(!marker.exists());
    assert!(multipath.end(), "there is a supervisor");
    eventually("the supervisor detects the daemon's end", || {
        fs::read(&marker).is_ok_and(|pid| !pid.is_empty())
    });
    assert_eq!(multipath.availability(), Err(Unavailable::NotStarted));
    assert!(!multipath.end(), "it has been ended");
    assert!(outcomes(&multipath).iter().all(|outcome| matches!(outcome, Outcome::Refused(_))));
}

fn worker_never_answers_good_without_map() {
    let directory = tempfile::tempdir().unwrap();
    let marker = directory.path().join("marker");
    let Some(multipath) = start(&marker) else { return };
    for outcome in outcomes(&multipath) {
        match outcome {
            // no_multipath without the library; not_in_sysfs with it, from the worker, which finds no map.
            Outcome::Refused(refusal) => {
                assert!(["no_multipath", "not_in_sysfs"].contains(&refusal.label()), "{refusal}");
                assert!(multipath.refusal_labels().contains(&refusal.label()));
            }
            other => panic!("{other:?}"),
        }
    }
    multipath.end();
    eventually("the supervisor detects the daemon's end", || {
        fs::read(&marker).is_ok_and(|pid| !pid.is_empty())
    });
}

fn backend_without_supervisor_fails() {
    let directory = tempfile::tempdir().unwrap();
    let Some(multipath) = start(&directory.path().join("marker")) else { return };
    // The last child is this supervisor. Supervisors of earlier tests may not have been reaped.
    let pids = fs::read_to_string(format!("/proc/self/task/{}/children", std::process::id())).unwrap();
    let supervisor = pids.split_whitespace().last().unwrap();
    assert!(std::process::Command::new("kill").args(["-KILL", supervisor]).status().unwrap().success());
    eventually("the daemon notices", || {
        outcomes(&multipath).iter().all(|outcome| match outcome {
            // It was killed before it had started a worker.
            Outcome::Failed(failure) if failure.status() == Status::BUSY => false,
            Outcome::Failed(failure) => {
                assert_eq!((failure.status(), failure.cause().label()), (Status::CHECK_CONDITION, "worker"));
                failure.cause().to_string().contains("supervisor process has gone")
            }
            // The supervisor was still running.
            Outcome::Refused(_) => false,
            other => panic!("{other:?}"),
        })
    });
}
