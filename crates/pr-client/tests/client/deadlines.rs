//! Deadlines: a helper that does not answer, greet or accept.

use std::{
    io::{self, Write as _},
    os::unix::net::UnixListener,
    sync::atomic::{AtomicU8, Ordering},
    thread,
    time::Duration,
};

use pr_client::{Client, Data, Error, State, nonblocking::Connection};
use scsi_sense::{SenseCode, Status};

use crate::{
    Kind, READ_KEYS,
    helper::{Answer, Helper, Plan, Stage},
    options,
};

/// The timeout of calls that must time out: nothing else happens on the connection, so a slow machine does no harm.
const SHORT: Duration = Duration::from_millis(30);

#[track_caller]
fn assert_unreachable(result: Result<impl std::fmt::Debug, Error>, kind: io::ErrorKind) {
    match result {
        Err(Error::Unreachable { source, .. }) if source.kind() == kind => {}
        other => panic!("{other:?}"),
    }
}

/// The connection is closed at the deadline, so that the next command cannot receive the late answer.
#[test]
fn late_answer_is_never_received() {
    for kind in Kind::BOTH {
        let stages = [Stage::Unread, Stage::Request(1), Stage::Request(16), Stage::Reply(0), Stage::Reply(1)];
        for stage in stages.into_iter().chain([Stage::Reply(103), Stage::Reply(kind.reply_len() - 1)]) {
            let number = AtomicU8::new(0);
            let helper = Helper::answering(&[Plan::HangAt(stage)], move |_| {
                Answer::good(&[number.fetch_add(1, Ordering::SeqCst) + 1; 16])
            });
            let client = options().connect(helper.path()).unwrap();
            let device = helper.device();
            let error = kind.run_within(&client, &device, SHORT).unwrap_err();
            assert!(matches!(error, Error::TimedOut), "{kind:?}, {stage:?}: {error:?}");
            assert!(error.may_have_run());
            assert_eq!(error.sense_code(), SenseCode::COMMAND_TIMEOUT_DURING_PROCESSING);
            // The helper sees that the connection is closed and the client no longer waits.
            helper.wait_until_closed(1);
            assert_eq!(client.state(), State::Connected, "a slow disk is no lost helper");

            let mut data = [0; 16];
            let completion = client.execute(&device, &READ_KEYS, Data::In(&mut data)).unwrap();
            assert_eq!((completion.status, completion.transferred, data), (Status::GOOD, 16, [1; 16]));
            assert_eq!((helper.begun(), helper.accepted()), (2, 2));
        }
    }
}

#[test]
fn connect_without_greeting_times_out() {
    for sent in 0..4 {
        let helper = Helper::start(&[Plan::HangAt(Stage::Greeting(sent)); 2]);
        assert_unreachable(options().timeout(SHORT).connect(helper.path()), io::ErrorKind::TimedOut);
        assert_unreachable(options().timeout(Duration::ZERO).connect(helper.path()), io::ErrorKind::TimedOut);
        assert!(options().timeout(None).connect(helper.path()).is_ok());
    }
}

#[test]
fn connect_without_accept_times_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let mut waiting = Vec::new();
    let full = loop {
        match Connection::connect(&path) {
            Ok(connection) => waiting.push(connection),
            Err(error) => break Err::<(), _>(error),
        }
    };
    assert_unreachable(full, io::ErrorKind::WouldBlock);
    assert_unreachable(options().timeout(SHORT).connect(&path), io::ErrorKind::TimedOut);
    assert_unreachable(options().timeout(Duration::ZERO).connect(&path), io::ErrorKind::TimedOut);

    // Without a timeout it connects once the helper accepts.
    let client = thread::spawn(move || options().timeout(None).connect(&path).map(drop));
    let accept = |_| {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(&[0; 4]).unwrap();
        stream
    };
    let accepted: Vec<_> = (0..=waiting.len()).map(accept).collect();
    client.join().unwrap().unwrap();
    drop(accepted);
}

#[test]
fn pause_beyond_the_deadline_is_skipped() {
    let mut helper = Helper::start(&[]);
    let client = Client::options()
        .timeout(Duration::from_secs(60))
        .pause(Duration::from_secs(100_000))
        .connect(helper.path())
        .unwrap();
    let device = helper.device();
    helper.stop();
    assert_unreachable(Kind::In.run(&client, &device), io::ErrorKind::NotFound);
    assert_unreachable(Kind::In.run(&client, &device), io::ErrorKind::NotFound);
}

#[test]
fn huge_timeout_means_no_deadline() {
    let helper = Helper::start(&[]);
    let client = options().timeout(Duration::MAX).connect(helper.path()).unwrap();
    Kind::In.succeed(&client, &helper.device());
}
