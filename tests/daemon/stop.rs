//! How the daemon stops, and events that must neither stop nor delay it.

use std::{
    os::{fd::AsFd, unix::process::ExitStatusExt as _},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal};
use test_support::{Client, Daemon, eventually};

use crate::{null, read_keys};

#[test]
fn term_int_and_hup_stop_cleanly() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut daemon = Daemon::start(&[]);
        let socket = daemon.socket();
        let mut client = daemon.client();
        daemon.signal(signal);
        let status = daemon.wait();
        assert_eq!((status.code(), status.signal()), (Some(0), None), "{signal:?}: {}", daemon.log());
        assert!(client.is_closed() && !socket.exists());
    }
}

#[test]
fn several_signals_stop_cleanly() {
    for _ in 0..10 {
        let mut daemon = Daemon::start(&[]);
        let _idle = daemon.client();
        for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
            daemon.signal(signal);
        }
        assert_eq!(daemon.wait().code(), Some(0), "{}", daemon.log());
    }
}

#[test]
fn signals_during_start_are_not_lost() {
    // At each stage of its start the signal ends the daemon, either by the default action or with exit status
    // 0.
    for delay in 0..40 {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let mut child = Daemon::command()
            .args(["--unprivileged", "-k"])
            .arg(&socket)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_micros(delay * 100));
        rustix::process::kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let mut ended = None;
        eventually("the daemon ends", || {
            ended = child.try_wait().unwrap();
            ended.is_some()
        });
        let status = ended.unwrap();
        assert!(status.code() == Some(0) || status.signal() == Some(15), "{status:?}");
        assert!(!socket.exists(), "no socket is left");
    }
}

#[test]
fn half_request_does_not_delay_shutdown() {
    let daemon = Daemon::start(&[]);
    let null = null();
    let mut half = daemon.client();
    half.send(&read_keys(8)[..7], &[null.as_fd()]).unwrap();
    let _silent = Client::connect_silently(&daemon.socket()).unwrap();
    thread::sleep(Duration::from_millis(50));
    daemon.stop();
    assert!(half.is_closed());
}

#[test]
fn closed_standard_error_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    for redirection in ["2>&-", "2>&1 >/dev/null | true"] {
        let socket = directory.path().join("socket");
        let helper = Daemon::command();
        let script = format!("\"$0\" --unprivileged -vv -k \"$1\" {redirection}");
        let mut shell = Command::new("sh")
            .args(["-c", &script])
            .arg(helper.get_program())
            .arg(&socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually("the daemon listens", || Client::connect(&socket).is_ok());
        let mut client = Client::connect(&socket).unwrap();
        for _ in 0..10 {
            // Each command writes to the log.
            assert!(client.read(null(), &read_keys(8)[..10]).is_ok(), "{redirection}");
        }
        let pid = rustix::net::sockopt::socket_peercred(client.stream()).unwrap().pid;
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
        shell.wait().unwrap();
        assert!(!socket.exists(), "{redirection}");
    }
}

#[test]
fn full_standard_error_delays_no_client() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    // The pipe is never read; it holds 64 KiB.
    let mut child = Daemon::command()
        .args(["--unprivileged", "-vv", "-k"])
        .arg(&socket)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("the daemon listens", || Client::connect(&socket).is_ok());
    let mut client = Client::connect(&socket).unwrap();
    for _ in 0..2000 {
        assert!(client.read(null(), &read_keys(8)[..10]).is_ok());
    }
    rustix::process::kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
