//! The backend with its real supervisor and workers: this program, started again. As root, processes are started; otherwise
//! the backend must say that it is not available. Whether libmpathpersist is installed does not matter.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]

use std::{
    fs::{self, File},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use pr_backend::{Backend as _, Command, Data, Device, DeviceId, Outcome, Target};
use pr_multipath::{Config, Multipath, Role, Unavailable};
use scsi_sense::Status;

/// How long a process may take to start, serve or end.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    if let Some(role) = Role::from_args(std::env::args_os()) {
        let mark = match &role {
            Role::Supervisor(arguments) => arguments.first().map(PathBuf::from),
            Role::Worker => None,
        };
        return role.run(|| {
            if let Some(mark) = mark {
                fs::write(mark, std::process::id().to_string()).unwrap();
            }
        });
    }
    // `cargo test` and its like may pass a filter or ask for a list.
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

/// Returns the backend, if this process may start it.
fn start(mark: &Path) -> Option<Multipath> {
    let arguments = vec![mark.into(), "--verbose".into()];
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

/// Runs a PERSISTENT RESERVE IN and a PERSISTENT RESERVE OUT on a descriptor that is of no map.
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
        assert!(begun.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn supervisor_ends_with_the_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let mark = directory.path().join("mark");
    let Some(multipath) = start(&mark) else { return };
    assert!(!mark.exists());
    assert!(multipath.end(), "there is a supervisor");
    eventually("the supervisor hears of the end", || fs::read(&mark).is_ok_and(|pid| !pid.is_empty()));
    assert_eq!(multipath.availability(), Err(Unavailable::NotStarted));
    assert!(!multipath.end(), "there is none any more");
    assert!(outcomes(&multipath).iter().all(|outcome| matches!(outcome, Outcome::Refused(_))));
}

fn worker_never_answers_good_without_map() {
    let directory = tempfile::tempdir().unwrap();
    let mark = directory.path().join("mark");
    let Some(multipath) = start(&mark) else { return };
    for outcome in outcomes(&multipath) {
        match outcome {
            // Without the library; with the library, the worker does not find a map.
            Outcome::Refused(refusal) => {
                assert!(["no_multipath", "not_in_sysfs"].contains(&refusal.label()), "{refusal}");
                assert!(multipath.refusal_labels().contains(&refusal.label()));
            }
            other => panic!("{other:?}"),
        }
    }
    multipath.end();
    eventually("the supervisor hears of the end", || fs::read(&mark).is_ok_and(|pid| !pid.is_empty()));
}

fn backend_without_supervisor_fails() {
    let directory = tempfile::tempdir().unwrap();
    let Some(multipath) = start(&directory.path().join("mark")) else { return };
    // It has one child: the supervisor, or what is left of the supervisors of other tests.
    let pids = fs::read_to_string(format!("/proc/self/task/{}/children", std::process::id())).unwrap();
    let supervisor = pids.split_whitespace().last().unwrap();
    assert!(std::process::Command::new("kill").args(["-KILL", supervisor]).status().unwrap().success());
    eventually("the daemon notices", || {
        outcomes(&multipath).iter().all(|outcome| match outcome {
            Outcome::Failed(failure) => {
                assert_eq!((failure.status(), failure.cause().label()), (Status::CHECK_CONDITION, "worker"));
                failure.cause().to_string().contains("supervisor process has gone")
            }
            // It was not dead yet.
            Outcome::Refused(_) => false,
            other => panic!("{other:?}"),
        })
    });
}
