//! What a confined process can still do: each test runs a part of itself in a process of its own.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    env,
    fs::{self, File},
    os::unix::{net::UnixStream, process::ExitStatusExt as _},
    path::Path,
    process::{Command, Output},
    thread,
};

use confinement::{
    COMMON, FORBIDDEN_EXIT_STATUS, FileAccess, FileRestriction, IS_SUPPORTED, Mode, Rule, Settings,
};

/// Names the part that the process runs.
const PART: &str = "CONFINEMENT_PART";

/// What a test program and its output need beside [`COMMON`].
const OF_TESTS: &[Rule] = &[
    Rule::without(libc::SYS_openat, 2, 0o3 | 0o100, "reads files"),
    Rule::one_of(libc::SYS_ioctl, 1, &[0x5421], "FIONBIO"),
];

const SETTINGS: Settings = Settings { mode: Mode::Kill, log_prefix: "test: " };

/// Runs a part of this program in a process of its own.
fn child(part: &str, arguments: &[&Path]) -> Output {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "part", "--ignored", "--nocapture", "--test-threads=1"]).env(PART, part);
    command.env("RUST_BACKTRACE", "1");
    for (number, argument) in arguments.iter().enumerate() {
        command.env(format!("{PART}_{number}"), argument);
    }
    command.output().unwrap()
}

fn argument(number: usize) -> std::path::PathBuf {
    env::var_os(format!("{PART}_{number}")).unwrap().into()
}

/// Not a test: what the other tests run in processes of their own.
#[test]
#[ignore = "is started by other tests"]
fn part() {
    let Ok(part) = env::var(PART) else { return };
    let restrict = |mode| {
        confinement::restrict_calls(&[COMMON, OF_TESTS], Settings { mode, ..SETTINGS }).unwrap();
    };
    match &*part {
        "allowed" => {
            let (socket, _other) = UnixStream::pair().unwrap();
            restrict(Mode::Kill);
            assert!(thread::spawn(|| fs::read("/proc/self/status").is_ok()).join().unwrap());
            socket.set_nonblocking(true).unwrap();
        }
        "forbidden" => {
            restrict(Mode::Kill);
            nix::unistd::getppid();
        }
        "forbidden in a thread" => {
            restrict(Mode::Kill);
            let _ = thread::spawn(nix::unistd::getppid).join();
        }
        "forbidden argument" => {
            restrict(Mode::Kill);
            let _ = File::create("/dev/null");
        }
        "logged" => {
            restrict(Mode::Log);
            nix::unistd::getppid();
            File::options().write(true).open("/dev/null").unwrap();
        }
        "panicked" => {
            restrict(Mode::Kill);
            assert!(thread::spawn(|| panic!("a test")).join().is_err());
        }
        "aborted" => {
            restrict(Mode::Kill);
            std::process::abort();
        }
        "files" => {
            let (readable, writable, other) = (argument(0), argument(1), argument(2));
            let access = FileAccess { read: &[&readable], write: &[&writable], ..FileAccess::default() };
            if confinement::restrict_files(access).unwrap() == FileRestriction::None {
                println!("no Landlock");
                return;
            }
            assert!(fs::read(readable.join("file")).is_ok());
            assert!(fs::write(readable.join("file"), "x").is_err());
            fs::write(writable.join("file"), "x").unwrap();
            fs::remove_file(writable.join("file")).unwrap();
            assert!(fs::read(other.join("file")).is_err() && fs::write(other.join("new"), "x").is_err());
        }
        "hardened" => {
            confinement::harden().unwrap();
            let limit = rustix::process::getrlimit(rustix::process::Resource::Core);
            assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
            assert!(!nix::sys::prctl::get_dumpable().unwrap());
            let file = argument(0).join("file");
            File::create(&file).unwrap();
            let mode = rustix::fs::stat(&file).unwrap().st_mode;
            assert_eq!(mode & 0o777, 0o600);
        }
        other => panic!("{other}"),
    }
}

fn assert_ok(output: &Output) {
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
}

#[test]
fn forbidden_call_ends_the_process() {
    if !IS_SUPPORTED {
        return;
    }
    for (part, number) in [
        ("forbidden", libc::SYS_getppid),
        ("forbidden in a thread", libc::SYS_getppid),
        ("forbidden argument", libc::SYS_openat),
    ] {
        let output = child(part, &[]);
        assert_eq!(output.status.code(), Some(FORBIDDEN_EXIT_STATUS), "{part}: {output:?}");
        let line = format!("test: error: forbidden system call {number}: ");
        assert!(String::from_utf8_lossy(&output.stderr).contains(&line), "{part}: {output:?}");
    }
}

#[test]
fn allowed_calls_work() {
    if IS_SUPPORTED {
        assert_ok(&child("allowed", &[]));
        assert_eq!(child("aborted", &[]).status.signal(), Some(libc::SIGABRT));
    }
}

/// A panic prints a backtrace, for which the standard library reads files. It must not end the process.
#[test]
fn panic_ends_its_thread_only() {
    if IS_SUPPORTED {
        let output = child("panicked", &[]);
        assert_ok(&output);
        assert!(String::from_utf8_lossy(&output.stderr).contains("stack backtrace:"), "{output:?}");
    }
}

#[test]
fn log_mode_forbids_nothing() {
    if IS_SUPPORTED {
        assert_ok(&child("logged", &[]));
    }
}

#[test]
fn other_files_are_out_of_reach() {
    let directories = [(); 3].map(|()| tempfile::tempdir().unwrap());
    for directory in &directories {
        fs::write(directory.path().join("file"), "content").unwrap();
    }
    let paths = directories.each_ref().map(tempfile::TempDir::path);
    assert_ok(&child("files", &paths));
}

#[test]
fn hardened_process_is_not_dumpable() {
    let directory = tempfile::tempdir().unwrap();
    assert_ok(&child("hardened", &[directory.path()]));
}

#[test]
fn inherited_descriptors_are_closed_unless_locked() {
    let directory = tempfile::tempdir().unwrap();
    let (plain, locked) = (directory.path().join("plain"), directory.path().join("locked"));
    for path in [&plain, &locked] {
        fs::write(path, "").unwrap();
    }
    // As a program does that starts a daemon: descriptors 8 and 9, the second with a lock.
    let script = r#"exec 8<>"$1" 9<>"$2" && flock 9 && exec "$0" --exact close --ignored --nocapture"#;
    let output = Command::new("sh")
        .args(["-c", script])
        .args([env::current_exe().unwrap(), plain, locked])
        .env(PART, "close")
        .output()
        .unwrap();
    assert_ok(&output);
}

/// Not a test: what another test runs in a process of its own.
#[test]
#[ignore = "is started by another test"]
fn close() {
    if env::var_os(PART).is_none() {
        return;
    }
    let is_open = |number: u32| Path::new(&format!("/proc/self/fd/{number}")).exists();
    assert!(is_open(8) && is_open(9));
    confinement::close_inherited(&[]);
    assert!(!is_open(8) && is_open(9));
}
