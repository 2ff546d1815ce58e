//! The client library for VMMs (`pr-client`) against the daemon.

use std::{sync::mpsc, thread, time::Duration};

use pr_client::{Client, CommandError, State};
use rustix::process::Signal;
use scsi_sense::{
    SenseCode,
    pr::{BasicParameters, ReservationKey, ReservationType},
};
use test_support::{Daemon, eventually};

use crate::null;

const KEY: ReservationKey = ReservationKey(0x1a);

fn assert_refused(result: Result<impl std::fmt::Debug, CommandError>) {
    let error = result.expect_err("refused: not a disk");
    assert_eq!(error.sense_code(), Some(SenseCode::INVALID_OPCODE), "{error:?}");
}

#[test]
fn vmm_client_serves_many_threads() {
    let daemon = Daemon::start(&[]);
    let client = Client::options().connections(3).connect(daemon.socket()).unwrap();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert_refused(client.read_keys(null()));
                    assert_refused(client.read_full_status(null()));
                    assert_refused(client.register(null(), &BasicParameters::default()));
                    assert_refused(client.reserve(null(), KEY, ReservationType::WriteExclusive));
                }
            });
        }
    });
    // The daemon closes a refused descriptor only after it has sent the reply.
    eventually("the client keeps to its limit of connections", || {
        daemon.descriptors() <= daemon.idle_descriptors() + 3
    });
    drop(client);
    daemon.stop();
}

#[test]
fn vmm_client_reconnects_after_daemon_restart() {
    let mut daemon = Daemon::start(&[]);
    let (sender, states) = mpsc::channel();
    let client = Client::options()
        .attempts(600)
        .pause(Duration::from_millis(100))
        .on_state_change(move |state| sender.send(state).unwrap())
        .connect(daemon.socket())
        .unwrap();
    assert_refused(client.read_keys(null()));
    daemon.signal(Signal::TERM);
    assert!(daemon.wait().success());

    thread::scope(|scope| {
        let waiting = scope.spawn(|| client.read_keys(null()));
        assert_eq!(states.recv(), Ok(State::Connected));
        assert_eq!(states.recv(), Ok(State::Disconnected), "the client is reconnecting");
        let mut second = Daemon::command();
        let mut second = second.arg("--unprivileged").arg("-k").arg(daemon.socket()).spawn().unwrap();
        assert_refused(waiting.join().unwrap());
        assert_eq!(states.recv(), Ok(State::Connected));
        second.kill().unwrap();
        second.wait().unwrap();
    });
}
