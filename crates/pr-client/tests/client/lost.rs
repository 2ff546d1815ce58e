//! Connections lost at any byte of a command: how often the command arrives, and the error that the caller gets.

use std::io;

use pr_client::{ClientError, Error, State, nonblocking::Connection};
use scsi_sense::{SenseCode, Status};

use crate::{
    Kind, connect,
    helper::{Helper, Plan, Stage},
    options,
};

/// Returns a client whose idle connection has ended, and its helper: the next connections follow the plans, all further
/// ones are served.
fn after_an_idle_connection_ended(plans: &[Plan]) -> (Helper, pr_client::Client) {
    let plans: Vec<_> = [Plan::CloseOnSignal].iter().chain(plans).copied().collect();
    let helper = Helper::start(&plans);
    let client = connect(helper.path());
    helper.close_idle(1);
    (helper, client)
}

#[track_caller]
fn assert_answered(
    helper: &Helper,
    result: Result<pr_client::Completion, Error>,
    case: impl std::fmt::Debug,
) {
    let completion = result.unwrap_or_else(|error| panic!("{case:?}: {error:?}"));
    assert_eq!(completion.status, Status::GOOD, "{case:?}");
    assert_eq!((helper.begun(), helper.arrived().len()), (1, 1), "{case:?}: it arrived once");
}

/// The command arrives once.
#[test]
fn unsent_command_is_retried() {
    for kind in Kind::BOTH {
        let (helper, client) = after_an_idle_connection_ended(&[]);
        assert_answered(&helper, kind.run(&client, &helper.device()), "closed while idle");

        for sent in 0..4 {
            let plan = Plan::CloseAt(Stage::Greeting(sent));
            let (helper, client) = after_an_idle_connection_ended(&[plan, plan]);
            assert_answered(&helper, kind.run(&client, &helper.device()), (kind, plan));
            assert_eq!(helper.accepted(), 4, "{plan:?}");
        }

        let (helper, client) = after_an_idle_connection_ended(&[Plan::Restart, Plan::Restart]);
        assert_answered(&helper, kind.run(&client, &helper.device()), "ended before it accepted");

        // The unsolicited data are 104 zeros: the reply to a command that succeeded.
        let helper = Helper::start(&[Plan::SendUnsolicited]);
        let client = connect(helper.path());
        helper.send_unsolicited();
        assert_answered(&helper, kind.run(&client, &helper.device()), "unsolicited data");
        assert_eq!(helper.accepted(), 2);
    }
}

/// The helper closes the connection while the command is being sent, so it is a race whether the command arrives.
/// Either it arrives once, or the client must report it as lost.
#[test]
fn close_while_sending_never_duplicates() {
    for kind in Kind::BOTH {
        for _ in 0..50 {
            let (helper, client) = after_an_idle_connection_ended(&[Plan::CloseAt(Stage::Greeted)]);
            match kind.run(&client, &helper.device()) {
                Ok(completion) => assert_answered(&helper, Ok(completion), kind),
                Err(Error::Lost(_)) => assert_eq!(helper.begun(), 0, "{kind:?}"),
                Err(other) => panic!("{kind:?}: {other:?}"),
            }
        }
    }
}

/// Returns every stage at which a command is in flight.
fn stages(kind: Kind) -> impl Iterator<Item = Stage> {
    let requests = (1..=kind.request_len()).map(Stage::Request);
    let replies = (0..kind.reply_len()).map(Stage::Reply);
    [Stage::Unread].into_iter().chain(requests).chain(replies)
}

#[test]
fn partly_sent_command_is_never_retried() {
    for kind in Kind::BOTH {
        for stage in stages(kind) {
            // On an idle connection, and on one made for the command.
            let idle = Helper::start(&[Plan::CloseAt(stage)]);
            let client = connect(idle.path());
            let made = after_an_idle_connection_ended(&[Plan::CloseAt(stage)]);
            for (helper, client) in [(idle, client), made] {
                let device = helper.device();
                let error = kind.run(&client, &device).unwrap_err();
                assert!(matches!(error, Error::Lost(_)), "{kind:?}, {stage:?}: {error:?}");
                assert!(error.may_have_run());
                assert_eq!(error.sense_code(), SenseCode::LU_COMMUNICATION_FAILURE);
                assert_eq!(client.state(), State::Disconnected);
                assert_eq!((helper.begun(), helper.arrived().len()), (1, 0), "{kind:?}, {stage:?}");

                kind.succeed(&client, &device);
                assert_eq!(client.state(), State::Connected);
                assert_eq!(
                    (helper.begun(), helper.arrived().len()),
                    (2, 1),
                    "the next one arrives: {stage:?}"
                );
            }
        }
    }
}

#[test]
fn answer_before_close_counts() {
    for kind in Kind::BOTH {
        let helper = Helper::start(&[Plan::ServeOnly(1), Plan::ServeOnly(2)]);
        let client = connect(helper.path());
        let device = helper.device();
        for commands in 1..=4 {
            kind.succeed(&client, &device);
            if commands == 1 {
                helper.wait_until_closed(1);
            } else if commands == 3 {
                helper.wait_until_closed(2);
            }
            assert_eq!((helper.begun(), helper.arrived().len()), (commands, commands));
        }
    }
}

/// While the helper is away, commands fail; afterwards they succeed.
#[test]
fn client_recovers_when_helper_restarts() {
    for attempts in [0, 1, 3] {
        let mut helper = Helper::start(&[]);
        let client = options().attempts(attempts).connect(helper.path()).unwrap();
        let device = helper.device();
        helper.stop();
        for _ in 0..2 {
            let error = Kind::In.run(&client, &device).unwrap_err();
            assert!(
                matches!(&error, Error::Unreachable { source, .. } if source.kind() == io::ErrorKind::NotFound),
                "{error:?}"
            );
            assert!(!error.may_have_run());
        }
        helper.start_again();
        Kind::In.succeed(&client, &device);
        assert_eq!(helper.begun(), 1);
    }
}

#[test]
fn attempts_without_greeting_are_limited() {
    for attempts in [1, 2, 5] {
        let plans = [&[Plan::CloseOnSignal][..], &[Plan::CloseAt(Stage::Greeting(0)); 10]].concat();
        let helper = Helper::start(&plans);
        let client = options().attempts(attempts).connect(helper.path()).unwrap();
        helper.close_idle(1);
        let error = Kind::Out.run(&client, &helper.device()).unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
        assert_eq!((helper.begun(), helper.accepted()), (0, 1 + attempts as usize));
    }
}

#[test]
fn connect_tries_once() {
    let helper = Helper::start(&[Plan::CloseAt(Stage::Greeting(0))]);
    assert!(matches!(options().connect(helper.path()), Err(Error::Unreachable { .. })));
    assert!(options().connect(helper.path()).is_ok());
    assert!(
        matches!(options().connect("/".repeat(200)), Err(Error::Unreachable { .. })),
        "too long for a socket"
    );
}

/// By each way to connect: at first, again after the helper has gone, and without blocking.
#[test]
fn unreachable_error_names_path_and_errno() {
    let mut helper = Helper::start(&[]);
    let client = options().connect(helper.path()).unwrap();
    let (device, path) = (helper.device(), helper.path().to_owned());
    helper.stop();
    let errors = [
        options().connect(&path).unwrap_err(),
        Kind::In.run(&client, &device).unwrap_err(),
        Connection::connect(&path).map(drop).unwrap_err(),
    ];
    for error in errors {
        let text = format!("cannot reach the helper at {}", path.display());
        assert_eq!(error.to_string(), text);
        assert_eq!(format!("{error:#}"), format!("{text}: No such file or directory (os error 2)"));
        let printed_by_main = format!("{error:?}");
        assert!(printed_by_main.contains(path.to_str().unwrap()), "{printed_by_main}");
        assert!(printed_by_main.contains("code: 2"), "{printed_by_main}");
    }
}

/// The error tells the violation, and the connection is not used again.
#[test]
fn protocol_violation_closes_the_connection() {
    let cases = [
        (Kind::In, (0, 17), ClientError::PayloadLength { size: 17, allocation_length: 16 }),
        (Kind::In, (0, u32::MAX), ClientError::PayloadLength { size: u32::MAX, allocation_length: 16 }),
        (Kind::In, (2, 16), ClientError::PayloadOfFailure(16)),
        (Kind::Out, (0, 1), ClientError::UnexpectedPayload(1)),
        (Kind::Out, (0x1_0000, 0), ClientError::Status(0x1_0000)),
    ];
    for (kind, (status, size), expected) in cases {
        let helper = Helper::start(&[Plan::Violate(status, size)]);
        let client = connect(helper.path());
        let device = helper.device();
        let error = kind.run(&client, &device).unwrap_err();
        assert!(matches!(error, Error::Protocol(found) if found == expected), "{error:?}");
        assert!(error.may_have_run());
        assert_eq!(helper.begun(), 1);
        kind.succeed(&client, &device);
        assert_eq!((helper.begun(), helper.accepted()), (2, 2));
    }
}

#[test]
fn unsendable_command_keeps_the_connection() {
    let helper = Helper::start(&[]);
    let client = connect(helper.path());
    let device = helper.device();
    let mut buffer = [0; 8192];
    for (case, cdb, data) in [
        ("INQUIRY", &[0x12, 0, 0, 0, 36, 0][..], pr_client::Data::In(&mut [0; 36])),
        ("nothing", &[], pr_client::Data::In(&mut [0; 36])),
        ("IN with parameters", &crate::READ_KEYS, pr_client::Data::Out(&[0; 24])),
        ("OUT with a buffer", &crate::REGISTER, pr_client::Data::In(&mut [0; 24])),
        ("a short list", &crate::REGISTER, pr_client::Data::Out(&[0; 23])),
        ("8193 bytes", &[0x5e, 0, 0, 0, 0, 0, 0, 0x20, 1, 0], pr_client::Data::In(&mut [0; 8193])),
        ("a short buffer", &[0x5e, 0, 0, 0, 0, 0, 0, 0x20, 0, 0], pr_client::Data::In(&mut buffer[1..])),
    ] {
        let error = client.execute(&device, cdb, data).unwrap_err();
        assert!(matches!(error, Error::Command(_) | Error::Buffer { .. }), "{case}: {error:?}");
        assert!(!error.may_have_run());
        assert_eq!(error.sense_code(), SenseCode::INVALID_FIELD_IN_CDB);
    }
    Kind::In.succeed(&client, &device);
    assert_eq!((helper.begun(), helper.accepted()), (1, 1));
}
