//! The commands that show the state of a disk, as text and as JSON.

use scsi_sense::pr::{
    Capabilities, FullStatus, IscsiName, IscsiSessionId, Keys, Registration, Reservation, ReservationData,
    ReservationKey, ReservationType, Scope, TransportId, TypeMask,
};

use crate::{
    helper::{Answer, Helper},
    run_with,
};

const TYPE: ReservationType = ReservationType::WriteExclusiveRegistrantsOnly;

/// Starts a helper whose disk has these keys registered. The first one holds a reservation.
pub(crate) fn disk(keys: &[u64]) -> Helper {
    let keys: Vec<_> = keys.iter().copied().map(ReservationKey).collect();
    Helper::start(move |arrived| {
        let mut data = vec![0; 20_000];
        let reservation =
            keys.first().map(|key| Reservation { key: *key, scope: Scope::LogicalUnit, kind: TYPE });
        let length = match arrived.cdb[1] {
            0 => Keys::build(7, keys.iter().copied(), &mut data).unwrap(),
            1 => ReservationData::build(7, reservation, &mut data),
            2 => {
                let types = Some(TypeMask::new([TYPE, ReservationType::ExclusiveAccess]));
                let capabilities = Capabilities { all_target_ports: true, types, ..Capabilities::default() };
                data[..8].copy_from_slice(&capabilities.to_bytes());
                8
            }
            _ => full_status(&keys, &mut data),
        };
        Answer::Good(data[..length].to_vec())
    })
}

fn full_status(keys: &[ReservationKey], data: &mut [u8]) -> usize {
    let name = IscsiName::new(b"iqn.2001-04.com.example:host").unwrap();
    let session = IscsiSessionId::from_bytes([0, 2, 0x3d, 0, 0, 1]);
    let (mut iscsi, mut sas) = ([0; 256], [0; 24]);
    let length = TransportId::IscsiPort { name, session }.write(&mut iscsi).unwrap();
    TransportId::Sas { address: 0x5000_c500_05b3_2001 }.write(&mut sas).unwrap();
    let ids = [&iscsi[..length], &sas[..], b"?"];
    let registrations = keys.iter().zip(ids).enumerate().map(|(index, (key, id))| Registration {
        key: *key,
        all_target_ports: index == 1,
        reservation_holder: index == 0,
        scope: Scope::LogicalUnit,
        kind: TYPE,
        relative_port: 3,
        transport_id_bytes: id,
    });
    FullStatus::build(7, registrations, data).unwrap()
}

fn shown(helper: &Helper, arguments: &[&str]) -> String {
    let (status, output, errors) = run_with(helper, arguments);
    assert_eq!((status, errors.as_str()), (Some(0), ""), "{arguments:?}");
    output.replace(helper.device().to_str().unwrap(), "DEVICE")
}

#[test]
fn keys_are_listed() {
    let helper = disk(&[0x1a, 0x2b]);
    assert_eq!(shown(&helper, &["keys", "DEVICE"]), "2 registrations, generation 7\n0x1a\n0x2b\n");
    assert_eq!(
        shown(&helper, &["keys", "DEVICE", "--json"]),
        "{\"device\": \"DEVICE\", \"generation\": 7, \"keys\": [\"0x1a\", \"0x2b\"], \"complete\": true}\n"
    );
    assert!(helper.arrived().iter().all(|arrived| arrived.cdb[..2] == [0x5e, 0] && !arrived.is_writable));
    assert_eq!(shown(&disk(&[]), &["keys", "DEVICE"]), "0 registrations, generation 7\n");
}

#[test]
fn truncated_list_says_so() {
    let keys: Vec<u64> = (0..2000).collect();
    let helper = disk(&keys);
    let output = shown(&helper, &["keys", "DEVICE"]);
    assert!(output.starts_with("at least 1023 registrations, generation 7\n"), "{output}");
    assert!(output.ends_with("\n(there may be more, for which there is no room in an answer)\n"));
    assert_eq!(output.lines().count(), 1 + 1023 + 1);
    assert!(shown(&helper, &["--json", "keys", "DEVICE"]).contains("\"complete\": false"));
}

/// LIO's ADDITIONAL LENGTH counts only the registrations that fit the allocation length, so it does not tell that there
/// are more: all nine must be shown.
#[test]
fn lio_registrations_are_all_shown() {
    let helper = Helper::start(|arrived| {
        let room = usize::from(u16::from_be_bytes([arrived.cdb[7], arrived.cdb[8]]));
        let mut id = [0; 48];
        let name = IscsiName::new(b"iqn.1993-08.org.debian:1:a").unwrap();
        let session = IscsiSessionId::from_bytes([0, 2, 0x3d, 0, 0, 1]);
        let length = TransportId::IscsiPort { name, session }.write(&mut id).unwrap();
        let fitting = (1..=9).take_while(|number| 8 + number * (24 + length) <= room);
        let registrations = fitting.map(|number| Registration {
            key: ReservationKey(number as u64),
            all_target_ports: false,
            reservation_holder: number == 9,
            scope: Scope::LogicalUnit,
            kind: TYPE,
            relative_port: 1,
            transport_id_bytes: &id[..length],
        });
        let mut data = vec![0; room];
        let length = FullStatus::build(7, registrations, &mut data).unwrap();
        Answer::Good(data[..length].to_vec())
    });
    let output = shown(&helper, &["status", "DEVICE"]);
    assert!(output.starts_with("9 registrations, generation 7\n"), "{output}");
    assert!(output.lines().any(|line| line.starts_with("0x9  1            WRITE EXCLUSIVE, ")), "{output}");
    assert!(shown(&helper, &["status", "DEVICE", "--json"]).ends_with("\"complete\": true}\n"));
}

/// A list that fills an answer to the last byte may have more entries.
#[test]
fn full_answers_are_not_called_complete() {
    let helper = Helper::start(|arrived| {
        let room = usize::from(u16::from_be_bytes([arrived.cdb[7], arrived.cdb[8]]));
        let mut data = vec![0; room];
        let keys = (1..).map(ReservationKey).take(room / 8 - 1);
        let length = Keys::build(7, keys, &mut data).unwrap();
        Answer::Good(data[..length].to_vec())
    });
    assert!(shown(&helper, &["keys", "DEVICE", "--json"]).ends_with("\"complete\": false}\n"));
    let output = shown(&helper, &["keys", "DEVICE"]);
    assert!(output.starts_with("at least 1023 registrations, "), "{output}");
}

#[test]
fn reservation_is_shown() {
    let helper = disk(&[0x1a]);
    let text = "WRITE EXCLUSIVE, REGISTRANTS ONLY (5h), key 0x1a\n";
    assert_eq!(shown(&helper, &["reservation", "DEVICE"]), text);
    assert_eq!(
        shown(&helper, &["reservation", "DEVICE", "--json"]),
        "{\"device\": \"DEVICE\", \"generation\": 7, \"reservation\": {\"key\": \"0x1a\", \"scope\": 0, \
         \"type\": {\"code\": 5, \"name\": \"WRITE EXCLUSIVE, REGISTRANTS ONLY\"}}}\n"
    );
    let helper = disk(&[]);
    assert_eq!(shown(&helper, &["reservation", "DEVICE"]), "no reservation\n");
    let json = shown(&helper, &["reservation", "DEVICE", "--json"]);
    assert_eq!(json, "{\"device\": \"DEVICE\", \"generation\": 7, \"reservation\": null}\n");
}

#[test]
fn capabilities_are_shown() {
    let helper = disk(&[]);
    let text = shown(&helper, &["capabilities", "DEVICE"]);
    for line in [
        "registering other initiators (SIP_C)                    no",
        "registering with all target ports (ATP_C)               yes",
        "types:",
        "  EXCLUSIVE ACCESS (3h)",
        "  WRITE EXCLUSIVE, REGISTRANTS ONLY (5h)",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line:?} in:\n{text}");
    }
    let json = shown(&helper, &["capabilities", "DEVICE", "--json"]);
    for member in [
        "\"all_target_ports\": true",
        "\"specify_initiator_ports\": false",
        "\"allow_commands\": 0",
        "\"types\": [{\"code\": 3, \"name\": \"EXCLUSIVE ACCESS\"}, {\"code\": 5, ",
    ] {
        assert!(json.contains(member), "{member:?} in:\n{json}");
    }
}

#[test]
fn status_is_a_table_of_registrations() {
    let helper = disk(&[0x1a, 0x2b, 0x3c]);
    assert_eq!(
        shown(&helper, &["status", "DEVICE"]),
        "3 registrations, generation 7\n\
         KEY   TARGET PORT  RESERVATION                             INITIATOR\n\
         0x1a  3            WRITE EXCLUSIVE, REGISTRANTS ONLY (5h)  iqn.2001-04.com.example:host,i,0x00023d000001\n\
         0x2b  all          -                                       sas,5000c50005b32001\n\
         0x3c  3            -                                       hex:3f\n"
    );
    let json = shown(&helper, &["status", "DEVICE", "--json"]);
    for member in [
        "{\"key\": \"0x1a\", \"target_port\": 3, \"reservation\": {\"key\": \"0x1a\", ",
        "\"initiator\": \"iqn.2001-04.com.example:host,i,0x00023d000001\", \"transport_id\": \"4500003069716e",
        "{\"key\": \"0x2b\", \"target_port\": null, \"reservation\": null, \"initiator\": \"sas,5000c50005b32001\"",
        "\"initiator\": null, \"transport_id\": \"3f\"}]",
    ] {
        assert!(json.contains(member), "{member:?} in:\n{json}");
    }
    assert_eq!(shown(&disk(&[]), &["status", "DEVICE"]), "0 registrations, generation 7\n");
}
