//! `raw`: commands sent unchanged.

use scsi_sense::{SenseCode, Status};

use crate::{
    helper::{Answer, Helper},
    run_with,
};

#[test]
fn raw_cdb_is_sent_unchanged() {
    let helper = Helper::always(Answer::Good((0..18).collect()));
    for words in [&["5e1fab00000000001200"][..], &["5E", "1F", "ab 00 00", "00:00:00", "12,00"]] {
        let (status, output, errors) = run_with(&helper, &[&["raw", "DEVICE"], words].concat());
        assert_eq!((status, errors.as_str()), (Some(0), ""), "{words:?}");
        assert_eq!(
            output,
            "GOOD (00h), 18 bytes of data\n\
             00000000  00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f\n\
             00000010  10 11\n"
        );
    }
    let (_, json, _) = run_with(&helper, &["raw", "DEVICE", "5e1fab00000000000200", "--in", "100", "--json"]);
    assert_eq!(json, "{\"status\": {\"code\": 0, \"name\": \"GOOD\"}, \"data\": \"0001\"}\n");
    let arrived = helper.arrived();
    assert_eq!(arrived[0].cdb, [0x5e, 0x1f, 0xab, 0, 0, 0, 0, 0, 18, 0]);
    assert!(arrived.iter().all(|arrived| !arrived.is_writable));
}

#[test]
fn raw_parameter_list_is_sent_unchanged() {
    let helper = Helper::always(Answer::Good(vec![]));
    let list = "11 22 33 44";
    let (status, output, _) =
        run_with(&helper, &["raw", "DEVICE", "5f", "00000000 00000004", "00", "--out", list]);
    assert_eq!((status, output.as_str()), (Some(0), "GOOD (00h), 0 bytes of data\n"));
    let (status, ..) = run_with(&helper, &["raw", "DEVICE", "5f000000000000000000"]);
    assert_eq!(status, Some(0));
    let arrived = helper.arrived();
    assert_eq!((&arrived[0].parameters[..], arrived[0].is_writable), (&[0x11, 0x22, 0x33, 0x44][..], true));
    assert_eq!(arrived[1].parameters, []);
}

#[test]
fn failed_raw_command_sets_exit_status() {
    let helper = Helper::always(Answer::CheckCondition(SenseCode::INVALID_FIELD_IN_CDB));
    let (status, output, errors) = run_with(&helper, &["raw", "DEVICE", "5e000000000000000800"]);
    assert_eq!((status, errors.as_str()), (Some(5), ""));
    assert_eq!(
        output,
        "CHECK CONDITION (02h): ILLEGAL REQUEST, INVALID FIELD IN CDB (05/24/00)\n\
         00000000  70 00 05 00 00 00 00 0a 00 00 00 00 24 00 00 00\n\
         00000010  00 00\n"
    );
    let (status, json, _) = run_with(&helper, &["raw", "DEVICE", "5e000000000000000800", "--json"]);
    assert_eq!(status, Some(5));
    let sense = "\"sense_data\": \"700005000000000a00000000240000000000\"}\n";
    assert!(json.contains("\"sense\": {\"key\": 5, \"asc\": 36, ") && json.ends_with(sense), "{json}");

    let helper = Helper::always(Answer::Status(Status::RESERVATION_CONFLICT));
    let (status, output, _) = run_with(&helper, &["raw", "DEVICE", "5e000000000000000800"]);
    assert_eq!((status, output.as_str()), (Some(24), "RESERVATION CONFLICT (18h), 0 bytes of data\n"));
}

#[test]
fn invalid_raw_command_is_not_sent() {
    let helper = Helper::always(Answer::Good(vec![]));
    for (cdb, options) in [
        ("12 00 00 00 24 00", &[][..]),
        ("5e 00 00 00 00 00 00 ff ff 00", &[]),
        ("5e 00 00 00 00 00 00 00 08 00", &["--in", "7"]),
        ("5f 00 00 00 00 00 00 00 18 00", &["--out", "00"]),
        ("5f 00 00 00 00 00 00 00 18 00", &[]),
    ] {
        let (status, output, errors) = run_with(&helper, &[&["raw", "DEVICE", cdb], options].concat());
        assert_eq!((status, output.as_str()), (Some(1), ""), "{cdb} {options:?}: {errors}");
        assert!(!errors.is_empty());
    }
    assert!(helper.arrived().is_empty());
}
