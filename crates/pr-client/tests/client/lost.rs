//! A helper that is gone at any byte of a command: how often does the command arrive, and what is the caller told?

use std::io;

use pr_client::{ClientError, Error, State};
use scsi_sense::{SenseCode, Status};

use crate::{
    Kind, connect,
    helper::{Helper, Plan, Stage},
    options,
};

/// The connection that the client has ends while it is idle; the next one fares as planned; then all is well.
fn after_an_idle_connection_ended(plans: &[Plan]) -> (Helper, pr_client::Client) {
    let plans: Vec<_> = [Plan::CloseWhenTold].iter().chain(plans).copied().collect();
    let helper = Helper::start(&plans);
    let client = connect(helper.path());
    helper.close_idle(1);
    (helper, client)
}

#[track_caller]
fn assert_answered(
    helper: &Helper,
    result: Result<pr_client::Completion, Error>,
    what: impl std::fmt::Debug,
) {
    let completion = result.unwrap_or_else(|error| panic!("{what:?}: {error:?}"));
    assert_eq!(completion.status, Status::GOOD, "{what:?}");
    assert_eq!((helper.begun(), helper.arrived().len()), (1, 1), "{what:?}: it arrived once");
}

#[test]
fn as_long_as_nothing_was_sent_the_client_reconnects_and_the_command_arrives_once() {
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

        // What is said unasked is 104 zeros: the reply to a command that succeeded.
        let helper = Helper::start(&[Plan::Babble]);
        let client = connect(helper.path());
        helper.babble();
        assert_answered(&helper, kind.run(&client, &helper.device()), "something was said unasked");
        assert_eq!(helper.accepted(), 2);
    }
}

/// Here it is chance whether the command is in the socket when the helper closes it. Whichever it is, the client must
/// know.
#[test]
fn a_helper_that_closes_as_the_command_is_sent_gets_it_once_or_it_is_lost() {
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

/// Every stage at which a command is under way.
fn stages(kind: Kind) -> impl Iterator<Item = Stage> {
    let requests = (1..=kind.request_len()).map(Stage::Request);
    let replies = (0..kind.reply_len()).map(Stage::Reply);
    [Stage::Unread].into_iter().chain(requests).chain(replies)
}

#[test]
fn from_its_first_byte_on_a_command_is_never_sent_again() {
    for kind in Kind::BOTH {
        for stage in stages(kind) {
            // On the connection that was there, and on one that was made for the command.
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
fn an_answer_counts_although_the_helper_closes_behind_it() {
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

#[test]
fn a_client_gives_up_after_its_attempts_and_recovers_when_the_helper_is_back() {
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
fn a_helper_that_greets_nobody_is_tried_as_often_as_was_said() {
    for attempts in [1, 2, 5] {
        let plans = [&[Plan::CloseWhenTold][..], &[Plan::CloseAt(Stage::Greeting(0)); 10]].concat();
        let helper = Helper::start(&plans);
        let client = options().attempts(attempts).connect(helper.path()).unwrap();
        helper.close_idle(1);
        let error = Kind::Out.run(&client, &helper.device()).unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
        assert_eq!((helper.begun(), helper.accepted()), (0, 1 + attempts as usize));
    }
}

#[test]
fn connecting_tries_once() {
    let helper = Helper::start(&[Plan::CloseAt(Stage::Greeting(0))]);
    assert!(matches!(options().connect(helper.path()), Err(Error::Unreachable { .. })));
    assert!(options().connect(helper.path()).is_ok());
    let error = options().connect("/nonexistent/socket").unwrap_err();
    assert_eq!(error.to_string(), "cannot reach the helper at /nonexistent/socket");
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.to_string(), "No such file or directory (os error 2)");
    let whole = "cannot reach the helper at /nonexistent/socket: No such file or directory (os error 2)";
    assert_eq!(format!("{error:#}"), whole);
    assert!(
        matches!(options().connect("/".repeat(200)), Err(Error::Unreachable { .. })),
        "too long for a socket"
    );
}

#[test]
fn a_helper_that_breaks_the_protocol_is_told_by_how_and_its_connection_is_not_used_again() {
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
fn what_cannot_be_sent_costs_no_connection() {
    let helper = Helper::start(&[]);
    let client = connect(helper.path());
    let device = helper.device();
    let mut buffer = [0; 8192];
    for (what, cdb, data) in [
        ("INQUIRY", &[0x12, 0, 0, 0, 36, 0][..], pr_client::Data::In(&mut [0; 36])),
        ("nothing", &[], pr_client::Data::In(&mut [0; 36])),
        ("IN with parameters", &crate::READ_KEYS, pr_client::Data::Out(&[0; 24])),
        ("OUT with a buffer", &crate::REGISTER, pr_client::Data::In(&mut [0; 24])),
        ("a short list", &crate::REGISTER, pr_client::Data::Out(&[0; 23])),
        ("8193 bytes", &[0x5e, 0, 0, 0, 0, 0, 0, 0x20, 1, 0], pr_client::Data::In(&mut [0; 8193])),
        ("a short buffer", &[0x5e, 0, 0, 0, 0, 0, 0, 0x20, 0, 0], pr_client::Data::In(&mut buffer[1..])),
    ] {
        let error = client.execute(&device, cdb, data).unwrap_err();
        assert!(matches!(error, Error::Command(_) | Error::Buffer { .. }), "{what}: {error:?}");
        assert!(!error.may_have_run());
        assert_eq!(error.sense_code(), SenseCode::INVALID_FIELD_IN_CDB);
    }
    Kind::In.succeed(&client, &device);
    assert_eq!((helper.begun(), helper.accepted()), (1, 1));
}
