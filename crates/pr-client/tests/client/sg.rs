//! `sg`: guests' commands and their outcome as the guest sees it.

use std::{fs::File, time::Duration};

use pr_client::{
    Client, Error,
    sg::{self, Outcome, Request, Transfer},
};
use scsi_sense::{SenseCode, Status};

use crate::{
    READ_KEYS, REGISTER, connect,
    helper::{Answer, Helper, Plan, Stage},
    options,
};

/// The outcome as a guest sees it: status, host status, driver status, residue, sense.
type Seen = (u8, u16, u16, usize, Vec<u8>);

fn run(client: &Client, device: &File, cdb: &[u8], data: Transfer<'_>, size: usize) -> (Seen, Outcome) {
    let mut sense = vec![0xee; size];
    let request = Request { cdb, data, sense: &mut sense, timeout: None };
    let outcome = sg::execute(client, device, request);
    let (written, untouched) = sense.split_at(outcome.sense_len.into());
    assert!(untouched.iter().all(|byte| *byte == 0xee));
    let Outcome { status, host_status, driver_status, resid, .. } = outcome;
    ((status, host_status, driver_status, resid, written.to_vec()), outcome)
}

fn check_condition(code: SenseCode, resid: usize) -> Seen {
    (2, 0, 8, resid, code.to_fixed().to_vec())
}

#[test]
fn sg_returns_data_and_residue() {
    let helper = Helper::answering(&[], |_| Answer::good(&[7; 10]));
    let (client, device) = (connect(helper.path()), helper.device());
    for size in [16, 17, 8192, 100_000] {
        let mut data = vec![0; size];
        let (seen, outcome) = run(&client, &device, &READ_KEYS, Transfer::FromDevice(&mut data), 96);
        assert_eq!(seen, (0, 0, 0, size - 10, vec![]));
        assert!(outcome.error.is_none());
        assert_eq!((&data[..10], &data[10..12]), (&[7; 10][..], &[0; 2][..]));
    }
    for size in [24, 25, 100_000] {
        let mut list = vec![1; 24];
        list.resize(size, 2);
        let (seen, _) = run(&client, &device, &REGISTER, Transfer::ToDevice(&list), 96);
        assert_eq!(seen, (0, 0, 0, size - 24, vec![]));
    }
    assert!(helper.arrived()[4..].iter().all(|arrived| arrived.parameters == [1; 24]));
    let nothing = [0x5e, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(run(&client, &device, &nothing, Transfer::None, 96).0, (0, 0, 0, 0, vec![]));
    let padded = [&READ_KEYS[..], &[0xff; 22]].concat();
    let (seen, _) = run(&client, &device, &padded, Transfer::FromDevice(&mut [0; 16]), 96);
    assert_eq!(seen.0, 0, "a padded CDB");
}

/// Sense data are truncated to the guest's buffer.
#[test]
fn sg_passes_on_status_and_sense() {
    for status in [Status::RESERVATION_CONFLICT, Status::BUSY, Status::TASK_ABORTED, Status(0x77)] {
        let helper = Helper::answering(&[], move |_| Answer::status(status));
        let client = connect(helper.path());
        let (seen, _) = run(&client, &helper.device(), &READ_KEYS, Transfer::FromDevice(&mut [0; 16]), 96);
        assert_eq!(seen, (status.0, 0, 0, 16, vec![]));
    }
    let fixed = SenseCode::INVALID_RELEASE_OF_PERSISTENT_RESERVATION.to_fixed().to_vec();
    let descriptor = vec![0x72, 6, 0x2a, 3, 0, 0, 0, 12, 0, 10, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 5];
    let vendor = vec![0x7f; 96];
    for sense in [fixed, descriptor, vendor] {
        let delivered = sense.clone();
        let helper =
            Helper::answering(&[], move |_| Answer { status: 2, sense: sense.clone(), payload: vec![] });
        let (client, device) = (connect(helper.path()), helper.device());
        for size in [0, 1, 18, 96, 255, 300] {
            let (seen, outcome) = run(&client, &device, &REGISTER, Transfer::ToDevice(&[0; 24]), size);
            let written = delivered[..delivered.len().min(size)].to_vec();
            assert_eq!(seen, (2, 0, 8, 0, written));
            assert!(outcome.error.is_none());
        }
    }
}

#[test]
fn empty_sense_is_replaced() {
    let helper = Helper::answering(&[], |_| Answer::status(Status::CHECK_CONDITION));
    let client = connect(helper.path());
    let (seen, _) = run(&client, &helper.device(), &READ_KEYS, Transfer::FromDevice(&mut [0; 16]), 96);
    assert_eq!(seen, check_condition(SenseCode::IO_PROCESS_TERMINATED, 16));
}

#[test]
fn lost_helper_is_never_good() {
    for (plans, sense) in [
        (&[Plan::CloseAt(Stage::Request(16))][..], SenseCode::LU_COMMUNICATION_FAILURE),
        (&[Plan::CloseAt(Stage::Reply(100))], SenseCode::LU_COMMUNICATION_FAILURE),
        (&[Plan::Violate(0, 9999)], SenseCode::LU_COMMUNICATION_FAILURE),
        (&[Plan::CloseOnSignal, Plan::CloseAt(Stage::Greeting(1))], SenseCode::LU_COMMUNICATION_FAILURE),
    ] {
        let helper = Helper::start(plans);
        let client = options().attempts(1).connect(helper.path()).unwrap();
        if plans[0] == Plan::CloseOnSignal {
            helper.close_idle(1);
        }
        let device = helper.device();
        let mut data = [0x55; 16];
        let (seen, outcome) = run(&client, &device, &READ_KEYS, Transfer::FromDevice(&mut data), 96);
        assert_eq!(seen, check_condition(sense, 16), "{plans:?}");
        assert!(outcome.error.is_some());
        assert_eq!(data, [0x55; 16], "nothing was transferred");
    }
}

#[test]
fn sg_timeout_overrides_the_clients() {
    let helper = Helper::start(&[Plan::HangAt(Stage::Reply(0))]);
    let client = options().timeout(None).connect(helper.path()).unwrap();
    let mut sense = [0; 96];
    let outcome = sg::execute(
        &client,
        helper.device(),
        Request {
            cdb: &REGISTER,
            data: Transfer::ToDevice(&[0; 24]),
            sense: &mut sense,
            timeout: Some(Duration::from_millis(20)),
        },
    );
    assert_eq!((outcome.status, outcome.host_status, outcome.driver_status, outcome.resid), (2, 0, 8, 24));
    assert_eq!(sense[..18], SenseCode::COMMAND_TIMEOUT_DURING_PROCESSING.to_fixed());
    assert!(matches!(outcome.error, Some(Error::TimedOut)));
}

#[test]
fn sg_refuses_commands_like_a_device() {
    let helper = Helper::start(&[]);
    let (client, device) = (connect(helper.path()), helper.device());
    let mut buffer = [0; 16];
    let mut refused = |cdb: &[u8], direction: &str, length: usize, sense: SenseCode| {
        let data = match direction {
            "none" => Transfer::None,
            "from" => Transfer::FromDevice(&mut buffer[..length]),
            _ => Transfer::ToDevice(&[0; 64][..length]),
        };
        let (seen, outcome) = run(&client, &device, cdb, data, 96);
        assert_eq!(seen, check_condition(sense, length), "{cdb:02x?} {direction} {length}");
        assert!(outcome.error.is_some_and(|error| !error.may_have_run()));
    };
    let (opcode, field) = (SenseCode::INVALID_OPCODE, SenseCode::INVALID_FIELD_IN_CDB);
    refused(&[], "none", 0, opcode);
    refused(&[0x12, 0, 0, 0, 16, 0], "from", 16, opcode);
    refused(&[0x2a; 10], "to", 24, opcode);
    refused(&READ_KEYS[..9], "from", 16, field);
    refused(&READ_KEYS, "to", 16, field);
    refused(&READ_KEYS, "none", 0, field);
    refused(&READ_KEYS, "from", 15, field);
    refused(&REGISTER, "from", 16, field);
    refused(&REGISTER, "to", 23, field);
    refused(&REGISTER, "none", 0, field);
    refused(&[0x5f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0], "to", 24, field);
    assert_eq!(helper.begun(), 0);
}
