//! The typed calls against canned answers.

use std::fs::File;

use pr_client::{Client, CommandError, CurrentReservation, Error};
use scsi_sense::{
    SenseCode, SenseKey, Status,
    pr::{
        BasicParameters, Capabilities, FullStatus, InDataError, IscsiName, IscsiSessionId, Keys,
        RegisterAndMoveParameters, Registration, Reservation, ReservationData, ReservationKey,
        ReservationType, Scope, TransportId, TransportIds, TypeMask,
    },
};

use crate::{
    connect,
    helper::{Answer, Arrived, Helper, Plan, Stage},
};

const KEY: ReservationKey = ReservationKey(0x1122_3344_5566_7788);
const OTHER: ReservationKey = ReservationKey(0x99aa_bbcc_ddee_ff00);
const TYPE: ReservationType = ReservationType::ExclusiveAccessRegistrantsOnly;
const SAS: TransportId<'static> = TransportId::Sas { address: 0x5000_c500_05b3_2001 };

/// Starts a helper for a device that returns this data, truncated to the allocation length.
fn disk(data: impl Fn(&Arrived) -> Vec<u8> + Send + Sync + 'static) -> (Helper, Client, File) {
    let helper = Helper::answering(&[], move |arrived| Answer::good(&data(arrived)));
    let client = connect(helper.path());
    let device = helper.device();
    (helper, client, device)
}

fn allocation_lengths(helper: &Helper) -> Vec<u16> {
    helper.arrived().iter().map(|arrived| u16::from_be_bytes([arrived.cdb[7], arrived.cdb[8]])).collect()
}

#[test]
fn read_keys_uses_one_command() {
    for (count, complete) in [(0, true), (64, true), (1022, true), (1023, false), (1024, false)] {
        let (helper, client, device) = disk(move |_| {
            let mut data = vec![0; 10_000];
            let length = Keys::build(7, (1..=count).map(ReservationKey), &mut data).unwrap();
            data.truncate(length);
            data
        });
        let keys = client.read_keys(&device).unwrap();
        assert_eq!((keys.generation, keys.is_complete), (7, complete), "{count}");
        let expected: Vec<_> = (1..=count.min(1023)).map(ReservationKey).collect();
        assert_eq!(keys.keys, expected);
        assert_eq!(allocation_lengths(&helper), [8192]);
        assert!(helper.arrived().iter().all(|arrived| arrived.cdb[..2] == [0x5e, 0]));
    }
}

#[test]
fn read_full_status_returns_each_nexus() {
    for (count, complete) in [(2, true), (12, true), (164, true), (200, false)] {
        let (helper, client, device) = disk(move |_| {
            let mut id = [0; 24];
            SAS.write(&mut id).unwrap();
            let registration = |number: u16| Registration {
                key: ReservationKey(number.into()),
                all_target_ports: number == 2,
                reservation_holder: number == 1,
                scope: Scope::LogicalUnit,
                kind: TYPE,
                relative_port: number,
                transport_id_bytes: if number == 2 { b"no" } else { &id[..] },
            };
            let mut data = vec![0; 10_000];
            let length = FullStatus::build(9, (1..=count).map(registration), &mut data).unwrap();
            data.truncate(length);
            data
        });
        let status = client.read_full_status(&device).unwrap();
        assert_eq!((status.generation, status.is_complete), (9, complete));
        assert_eq!(status.registrations.len() == usize::from(count), complete);
        let [first, second, ..] = &status.registrations[..] else { panic!("{status:?}") };
        let held = Reservation { key: ReservationKey(1), scope: Scope::LogicalUnit, kind: TYPE };
        assert_eq!((first.key, first.target_port(), first.reservation()), (held.key, Some(1), Some(held)));
        assert_eq!(first.transport_id(), Ok(SAS));
        assert_eq!((second.target_port(), second.reservation()), (None, None));
        assert!(second.transport_id().is_err());
        assert_eq!(second.transport_id_bytes, b"no");
        assert_eq!(allocation_lengths(&helper), [8192]);
        assert!(helper.arrived().iter().all(|arrived| arrived.cdb[..2] == [0x5e, 3]));
    }
}

/// Returns the answer of LIO to READ KEYS, until Linux 5.10: ADDITIONAL LENGTH counts only the keys that fit.
fn lio_keys(arrived: &Arrived, count: u64) -> Vec<u8> {
    let buffer = usize::from(u16::from_be_bytes([arrived.cdb[7], arrived.cdb[8]])) - 8;
    let keys: Vec<_> = (1..=count).map(ReservationKey).take(buffer / 8).collect();
    let mut data = vec![0; 8 + keys.len() * 8];
    Keys::build(7, keys, &mut data).unwrap();
    data
}

/// Returns the answer of LIO to READ FULL STATUS: a registration is left out, and not counted, unless its TransportID
/// fits after the previous ones. The last registration holds the reservation.
fn lio_full_status(arrived: &Arrived, count: u64) -> Vec<u8> {
    let buffer = usize::from(u16::from_be_bytes([arrived.cdb[7], arrived.cdb[8]]));
    let name = IscsiName::new(b"iqn.1993-08.org.debian:1:a").unwrap();
    let session = IscsiSessionId::from_bytes([0, 2, 0x3d, 0, 0, 1]);
    let mut id = [0; 256];
    let length = TransportId::IscsiPort { name, session }.write(&mut id).unwrap();
    let registrations = (1..=count).map(|key| Registration {
        key: ReservationKey(key),
        all_target_ports: false,
        reservation_holder: key == count,
        scope: Scope::LogicalUnit,
        kind: TYPE,
        relative_port: 1,
        transport_id_bytes: &id[..length],
    });
    let fitting = registrations.enumerate().take_while(|(index, _)| index * (24 + length) + length <= buffer);
    let mut data = vec![0; 20_000];
    let length = FullStatus::build(7, fitting.map(|(_, one)| one), &mut data).unwrap();
    data.truncate(length);
    data
}

/// A list that may be truncated is never called complete.
#[test]
fn truncated_lio_lists_are_incomplete() {
    for (count, shown, complete) in [(9, 9, true), (80, 80, true), (1022, 1022, true), (1023, 1023, false)] {
        let (_helper, client, device) = disk(move |arrived| lio_keys(arrived, count));
        let keys = client.read_keys(&device).unwrap();
        assert_eq!((keys.keys.len(), keys.is_complete), (shown, complete), "{count}");
    }
    let (_helper, client, device) = disk(move |arrived| lio_keys(arrived, 2000));
    let keys = client.read_keys(&device).unwrap();
    assert_eq!((keys.keys.len(), keys.is_complete), (1023, false));

    for (count, complete) in [(1, true), (9, true), (100, true), (200, false)] {
        let (_helper, client, device) = disk(move |arrived| lio_full_status(arrived, count));
        let status = client.read_full_status(&device).unwrap();
        assert_eq!(status.is_complete, complete, "{count}");
        let held = status.registrations.last().unwrap().reservation();
        assert_eq!(
            held.is_some_and(|held| held.key.0 == count),
            complete,
            "the holder is in the list: {count}"
        );
    }
}

#[test]
fn malformed_lists_are_an_error() {
    // Descriptor length 400h where 16 bytes are left.
    let status =
        "00000001000000280000000000000abc0000000001050000000000010000040006000000500000000000000100000000";
    let status: Vec<u8> =
        (0..status.len()).step_by(2).map(|at| u8::from_str_radix(&status[at..at + 2], 16).unwrap()).collect();
    let (_helper, client, device) = disk(move |_| status.clone());
    let error = client.read_full_status(&device).unwrap_err();
    let CommandError::Registrations { read, source: InDataError::Entry { at: 8 } } = &error else {
        panic!("{error:?}")
    };
    assert_eq!((&read.registrations[..], read.is_complete), (&[][..], false));
    let text = "the device's list of registrations cannot be read to its end: the entry at byte 8 goes beyond the end \
                of the list";
    assert_eq!(format!("{error:#}"), text);

    // ADDITIONAL LENGTH 10h, and one key and a half.
    for (extra, keys) in [(&[0; 6][..], 0), (&[0, 0, 0, 0, 0, 0, 0, 1, 0, 0], 1)] {
        let data = [&[0, 0, 0, 1, 0, 0, 0, 0x10], extra].concat();
        let (_helper, client, device) = disk(move |_| data.clone());
        let error = client.read_keys(&device).unwrap_err();
        let CommandError::Keys { read, source: InDataError::TooShort { needed: 24, .. } } = &error else {
            panic!("{error:?}")
        };
        assert_eq!((read.keys.len(), read.is_complete), (keys, false));
        let error = client.read_full_status(&device).unwrap_err();
        assert!(matches!(error, CommandError::Registrations { .. }), "{error:?}");
    }
}

#[test]
fn read_reservation_returns_the_reservation() {
    for reservation in [None, Some(Reservation { key: KEY, scope: Scope::LogicalUnit, kind: TYPE })] {
        let (helper, client, device) = disk(move |_| {
            let mut data = [0; 24];
            let length = ReservationData::build(3, reservation, &mut data);
            data[..length].to_vec()
        });
        let current = client.read_reservation(&device).unwrap();
        assert_eq!(current, CurrentReservation { generation: 3, reservation });
        assert_eq!(helper.arrived()[0].cdb[..2], [0x5e, 1]);
    }
}

#[test]
fn report_capabilities_returns_capabilities() {
    let capabilities = Capabilities {
        persist_through_power_loss_capable: true,
        types: Some(TypeMask::new(ReservationType::ALL)),
        ..Capabilities::default()
    };
    let (helper, client, device) = disk(move |_| capabilities.to_bytes().to_vec());
    assert_eq!(client.report_capabilities(&device).unwrap(), capabilities);
    assert_eq!(helper.arrived()[0].cdb[..2], [0x5e, 2]);
}

/// A call that changes reservations.
type Change = dyn Fn(&Client, &File) -> Result<(), CommandError>;

/// Bytes 1 and 2 of the CDB, the two keys, bytes 17 and 20 of the list, its bytes from 24 on.
type Sent = (u8, u8, ReservationKey, ReservationKey, u8, u8, Vec<u8>);

fn changes() -> Vec<(&'static str, Box<Change>, Sent)> {
    let mut buffer = [0; 64];
    let ids = TransportIds::build(&[SAS], &mut buffer).unwrap().as_bytes().to_vec();
    let register = BasicParameters { service_action_key: KEY, aptpl: true, ..Default::default() };
    let ignore = BasicParameters {
        reservation_key: OTHER,
        service_action_key: KEY,
        all_target_ports: true,
        ..Default::default()
    };
    let move_to = RegisterAndMoveParameters {
        reservation_key: KEY,
        service_action_key: OTHER,
        unregister: true,
        aptpl: true,
        relative_port: 0x1234,
        transport_id: SAS,
    };
    let zero = ReservationKey::ZERO;
    vec![
        ("register", Box::new(move |c, d| c.register(d, &register)), (0, 0, zero, KEY, 0, 1, vec![])),
        (
            "register with others",
            Box::new({
                let ids = ids.clone();
                move |c, d| {
                    let ids = TransportIds::parse(&ids).unwrap();
                    c.register(d, &BasicParameters { transport_ids: Some(ids), ..register })
                }
            }),
            (0, 0, zero, KEY, 0, 9, [&[0, 0, 0, 24], &ids[..]].concat()),
        ),
        ("reserve", Box::new(|c, d| c.reserve(d, KEY, TYPE)), (1, 6, KEY, zero, 0, 0, vec![])),
        ("release", Box::new(|c, d| c.release(d, KEY, TYPE)), (2, 6, KEY, zero, 0, 0, vec![])),
        ("clear", Box::new(|c, d| c.clear(d, KEY)), (3, 0, KEY, zero, 0, 0, vec![])),
        ("preempt", Box::new(|c, d| c.preempt(d, KEY, OTHER, TYPE)), (4, 6, KEY, OTHER, 0, 0, vec![])),
        (
            "preempt_and_abort",
            Box::new(|c, d| c.preempt_and_abort(d, KEY, OTHER, TYPE)),
            (5, 6, KEY, OTHER, 0, 0, vec![]),
        ),
        (
            "register_and_ignore",
            Box::new(move |c, d| c.register_and_ignore(d, &ignore)),
            (6, 0, OTHER, KEY, 0, 4, vec![]),
        ),
        (
            "register_and_move",
            Box::new(move |c, d| c.register_and_move(d, &move_to)),
            (7, 0, KEY, OTHER, 3, 0, ids),
        ),
    ]
}

#[test]
fn each_change_sends_one_command() {
    for (name, change, (action, scope_type, key, other, byte_17, byte_20, tail)) in changes() {
        let (helper, client, device) = disk(|_| vec![]);
        change(&client, &device).unwrap();
        let [Arrived { cdb, parameters, device: received }] = &helper.arrived()[..] else { panic!("{name}") };
        let length = u32::try_from(parameters.len()).unwrap().to_be_bytes();
        assert_eq!(cdb[..5], [0x5f, action, scope_type, 0, 0], "{name}");
        assert_eq!((&cdb[5..9], cdb[9]), (&length[..], 0), "{name}");
        assert_eq!(parameters[..8], key.to_be_bytes(), "{name}");
        assert_eq!(parameters[8..16], other.to_be_bytes(), "{name}");
        assert_eq!(parameters[17], byte_17, "{name}");
        if name == "register_and_move" {
            assert_eq!(parameters[18..24], [0x12, 0x34, 0, 0, 0, 24]);
        } else {
            assert_eq!(parameters[20], byte_20, "{name}");
        }
        assert_eq!(parameters[24..], tail, "{name}");
        let stat = rustix::fs::fstat(&device).unwrap();
        assert_eq!(*received, (stat.st_dev, stat.st_ino), "{name}: it has the device's descriptor");
    }
}

fn failing(answer: Answer) -> (Helper, Client, File) {
    let helper = Helper::answering(&[], move |_| answer.clone());
    let client = connect(helper.path());
    let device = helper.device();
    (helper, client, device)
}

/// The error has the device's status and sense.
#[test]
fn refused_commands_are_errors() {
    let reads: [(&str, Box<Change>); 4] = [
        ("read_keys", Box::new(|c, d| c.read_keys(d).map(drop))),
        ("read_reservation", Box::new(|c, d| c.read_reservation(d).map(drop))),
        ("report_capabilities", Box::new(|c, d| c.report_capabilities(d).map(drop))),
        ("read_full_status", Box::new(|c, d| c.read_full_status(d).map(drop))),
    ];
    let changes = changes().into_iter().map(|(name, change, _)| (name, change));
    for (name, call) in reads.into_iter().chain(changes) {
        let (helper, client, device) = failing(Answer::status(Status::RESERVATION_CONFLICT));
        let error = call(&client, &device).unwrap_err();
        assert!(matches!(error, CommandError::Conflict), "{name}: {error:?}");
        assert_eq!(error.to_string(), "RESERVATION CONFLICT (18h)");
        assert_eq!(helper.begun(), 1, "{name}");

        let attention = SenseCode::RESERVATIONS_PREEMPTED;
        let (helper, client, device) = failing(Answer::check_condition(attention));
        let error = call(&client, &device).unwrap_err();
        assert!(matches!(error, CommandError::CheckCondition(_)), "{name}: {error:?}");
        assert_eq!(error.sense_code(), Some(attention));
        assert_eq!(
            error.to_string(),
            "CHECK CONDITION (02h): UNIT ATTENTION, RESERVATIONS PREEMPTED (06/2A/03)"
        );
        assert_eq!(helper.begun(), 1, "{name}: it is not repeated");

        let (_helper, client, device) = failing(Answer::status(Status::BUSY));
        let error = call(&client, &device).unwrap_err();
        assert!(matches!(error, CommandError::Status(Status::BUSY)), "{name}: {error:?}");

        let helper = Helper::start(&[Plan::CloseAt(Stage::Reply(0))]);
        let error = call(&connect(helper.path()), &helper.device()).unwrap_err();
        assert!(matches!(error, CommandError::Client(Error::Lost(_))), "{name}: {error:?}");
        assert_eq!(error.sense_code(), None);
    }
}

#[test]
fn any_sense_data_can_be_shown() {
    for (sense, text) in [
        (vec![], "no sense data"),
        (vec![0x7f, 1], "response code 7Fh is not of sense data"),
        (vec![0x72, 5, 0x24, 0, 0, 0, 0, 0], "ILLEGAL REQUEST, INVALID FIELD IN CDB (05/24/00)"),
    ] {
        let (_helper, client, device) = failing(Answer { status: 2, sense, payload: vec![] });
        let error = client.clear(&device, KEY).unwrap_err();
        assert_eq!(error.to_string(), format!("CHECK CONDITION (02h): {text}"));
        let is_known = error.sense_code().is_some_and(|code| code.key == SenseKey::ILLEGAL_REQUEST);
        assert_eq!(is_known, text.starts_with("ILLEGAL"));
    }
}

#[test]
fn too_short_data_is_an_error() {
    let (_helper, client, device) = disk(|_| vec![0; 7]);
    for error in [
        client.read_keys(&device).unwrap_err(),
        client.read_reservation(&device).unwrap_err(),
        client.report_capabilities(&device).unwrap_err(),
        client.read_full_status(&device).unwrap_err(),
    ] {
        assert!(
            matches!(error, CommandError::Data(InDataError::TooShort { needed: 8, got: 7 })),
            "{error:?}"
        );
    }
}

#[test]
fn too_many_transport_ids_are_not_sent() {
    let (helper, client, device) = disk(|_| vec![]);
    let mut buffer = vec![0; 16384];
    let ids = TransportIds::build(&[SAS; 400], &mut buffer).unwrap();
    let parameters = BasicParameters { transport_ids: Some(ids), ..Default::default() };
    let error = client.register(&device, &parameters).unwrap_err();
    assert!(matches!(error, CommandError::Parameters(_)), "{error:?}");
    assert_eq!(helper.begun(), 0);
}
