//! The commands that change something: what they send and print.

use crate::{
    helper::{Answer, Helper},
    run_with,
};

/// Arguments except the device, bytes 1 and 2 of the CDB, the two keys, the parameter list from byte 16 on, and the
/// output.
type Case = (&'static [&'static str], [u8; 2], u64, u64, Vec<u8>, &'static str);

/// Returns bytes 16 to 23 of the basic parameter list.
fn flags(flags: u8) -> Vec<u8> {
    vec![0, 0, 0, 0, flags, 0, 0, 0]
}

fn registrations() -> Vec<Case> {
    let mut sas = vec![0; 24];
    sas[0] = 6;
    sas[4..12].copy_from_slice(&[0x50, 0, 0xc5, 0, 5, 0xb3, 0x20, 1]);
    let mut iscsi = vec![0x05, 0, 0, 24];
    iscsi.extend(b"iqn.2001-04.com.exa:Abc\0");
    vec![
        (
            &["register", "--new-key", "0x1A"],
            [0, 0],
            0,
            0x1a,
            flags(0),
            "REGISTER, key 0x0, new key 0x1a: done\n",
        ),
        (
            &["register", "--key", "26", "--new-key", "0", "--aptpl", "--all-target-ports"],
            [0, 0],
            0x1a,
            0,
            flags(5),
            "REGISTER, key 0x1a, new key 0x0: done\n",
        ),
        (
            &[
                "register",
                "--new-key",
                "1",
                "--transport-id",
                "SAS,5000C50005B32001",
                "--transport-id",
                "iqn.2001-04.com.exa:Abc",
            ],
            [0, 0],
            0,
            1,
            [&flags(8)[..], &[0, 0, 0, 52], &sas, &iscsi].concat(),
            "REGISTER, key 0x0, new key 0x1: done\n",
        ),
        (
            &["register-ignore", "--new-key", "0xffffffffffffffff", "--aptpl"],
            [6, 0],
            0,
            u64::MAX,
            flags(1),
            "REGISTER AND IGNORE EXISTING KEY, new key 0xffffffffffffffff: done\n",
        ),
        (
            &[
                "register-move",
                "--key",
                "1",
                "--new-key",
                "2",
                "--relative-target-port",
                "513",
                "--unregister",
                "--aptpl",
                "--transport-id",
                "sas,5000c50005b32001",
            ],
            [7, 0],
            1,
            2,
            [&[0, 3, 2, 1, 0, 0, 0, 24][..], &sas].concat(),
            "REGISTER AND MOVE, key 0x1, new key 0x2, initiator sas,5000c50005b32001: done\n",
        ),
    ]
}

fn reservations() -> Vec<Case> {
    vec![
        (
            &["reserve", "--key", "0x1a", "--type", "5"],
            [1, 5],
            0x1a,
            0,
            flags(0),
            "RESERVE, key 0x1a, type WRITE EXCLUSIVE, REGISTRANTS ONLY (5h): done\n",
        ),
        (
            &["release", "--key", "0x1a", "--type", "Exclusive_Access-All-Registrants"],
            [2, 8],
            0x1a,
            0,
            flags(0),
            "RELEASE, key 0x1a, type EXCLUSIVE ACCESS, ALL REGISTRANTS (8h): done\n",
        ),
        (&["clear", "--key", "0x1a"], [3, 0], 0x1a, 0, flags(0), "CLEAR, key 0x1a: done\n"),
        (
            &["preempt", "--key", "0x2b", "--victim", "0x1a", "--type", "we"],
            [4, 1],
            0x2b,
            0x1a,
            flags(0),
            "PREEMPT, key 0x2b, victim 0x1a, type WRITE EXCLUSIVE (1h): done\n",
        ),
        (
            &["preempt-abort", "--key", "0x2b", "--new-key", "0x1a", "--type", "earo"],
            [5, 6],
            0x2b,
            0x1a,
            flags(0),
            "PREEMPT AND ABORT, key 0x2b, victim 0x1a, type EXCLUSIVE ACCESS, REGISTRANTS ONLY (6h): done\n",
        ),
    ]
}

#[test]
fn changes_send_their_arguments() {
    for (arguments, action_and_type, key, other, rest, text) in
        registrations().into_iter().chain(reservations())
    {
        let helper = Helper::always(Answer::Good(vec![]));
        let line = [arguments, &["DEVICE"]].concat();
        assert_eq!(run_with(&helper, &line), (Some(0), text.into(), String::new()), "{arguments:?}");
        let arrived = helper.only();
        assert!(arrived.is_writable, "{arguments:?}");
        let length = u8::try_from(arrived.parameters.len()).unwrap();
        let [action, kind] = action_and_type;
        assert_eq!(arrived.cdb, [0x5f, action, kind, 0, 0, 0, 0, 0, length, 0], "{arguments:?}");
        let expected = [&key.to_be_bytes()[..], &other.to_be_bytes(), &rest].concat();
        assert_eq!(arrived.parameters, expected, "{arguments:?}");
    }
}

#[test]
fn json_reports_a_change() {
    let helper = Helper::always(Answer::Good(vec![]));
    let (status, output, _) = run_with(
        &helper,
        &["--json", "preempt", "DEVICE", "--key", "10", "--victim", "0x1a", "--type", "we"],
    );
    assert_eq!(status, Some(0));
    assert_eq!(
        output.replace(helper.device().to_str().unwrap(), "DEVICE"),
        "{\"device\": \"DEVICE\", \"command\": \"PREEMPT\", \"key\": \"0xa\", \"victim\": \"0x1a\", \
         \"type\": {\"code\": 1, \"name\": \"WRITE EXCLUSIVE\"}, \"status\": {\"code\": 0, \"name\": \"GOOD\"}}\n"
    );
}

#[test]
fn too_many_initiators_are_not_sent() {
    let helper = Helper::always(Answer::Good(vec![]));
    let mut arguments = vec!["register", "DEVICE", "--new-key", "1"];
    arguments.extend(["--transport-id", "sas,5000c50005b32001"].repeat(400));
    let (status, _, errors) = run_with(&helper, &arguments);
    assert_eq!(status, Some(1));
    assert!(errors.contains("too many initiators"), "{errors}");
    assert!(helper.arrived().is_empty());
}
