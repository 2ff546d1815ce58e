//! JSON, byte for byte as scripts read it.

use scsi_sense::{SenseCode, Status};

use crate::{
    helper::{Answer, Helper},
    run_with,
    show::disk,
};

/// Command lines and their output. Scripts depend on names, types and order: a line here may be added, not changed.
const EXPECTED: &str = include_str!("json.txt");

#[test]
fn json_output_is_stable() {
    let conflict = || Helper::always(Answer::Status(Status::RESERVATION_CONFLICT));
    let attention = || Helper::always(Answer::CheckCondition(SenseCode::RESERVATIONS_PREEMPTED));
    let done = || Helper::always(Answer::Good(vec![]));
    let mut lines = Vec::new();
    for (helper, line) in [
        (disk(&[0x1a, 0x2b]), "keys DEVICE"),
        (disk(&[]), "keys DEVICE"),
        (disk(&[0x1a]), "reservation DEVICE"),
        (disk(&[]), "reservation DEVICE"),
        (disk(&[]), "capabilities DEVICE"),
        (Helper::always(Answer::Good(vec![0, 8, 0, 0, 0, 0, 0, 0])), "capabilities DEVICE"),
        (disk(&[0x1a, 0x2b, 0x3c]), "status DEVICE"),
        (disk(&[]), "status DEVICE"),
        (done(), "register DEVICE --key 1 --new-key 0xffffffffffffffff --aptpl"),
        (done(), "register-ignore DEVICE --new-key 2"),
        (
            done(),
            "register-move DEVICE --key 1 --new-key 2 --relative-target-port 3 --transport-id sas,5000c50005b32001",
        ),
        (done(), "reserve DEVICE --key 1 --type 5"),
        (done(), "release DEVICE --key 1 --type 5"),
        (done(), "clear DEVICE --key 1"),
        (done(), "preempt DEVICE --key 1 --victim 2 --type 1"),
        (done(), "preempt-abort DEVICE --key 1 --victim 2 --type 1"),
        (disk(&[0x1a]), "raw DEVICE 5e000000000000200000"),
        (conflict(), "raw DEVICE 5e000000000000200000"),
        (attention(), "raw DEVICE 5e000000000000200000"),
        (conflict(), "reserve DEVICE --key 1 --type 5"),
        (attention(), "keys DEVICE"),
        (Helper::always(Answer::Status(Status(0x77))), "keys DEVICE"),
        (Helper::always(Answer::Good(vec![0; 7])), "reservation DEVICE"),
        (done(), "keys DEVICE-not"),
        (conflict(), "probe DEVICE"),
    ] {
        let words: Vec<&str> = ["--json"].into_iter().chain(line.split(' ')).collect();
        let (_, output, _) = run_with(&helper, &words);
        let output = output.replace(helper.device().to_str().unwrap(), "DEVICE");
        let output = output.replace(helper.socket().to_str().unwrap(), "SOCKET");
        lines.push(format!("$ pr-ctl --json {line}\n{}", without_owner(&output)));
    }
    let actual = lines.concat();
    assert!(actual == EXPECTED, "{actual}");
}

/// Hides mode and owner of the socket, which depend on the user that runs the test.
fn without_owner(output: &str) -> String {
    let Some((before, rest)) = output.split_once("\"mode ") else { return output.to_owned() };
    let (_, after) = rest.split_once('"').unwrap();
    format!("{before}\"MODE\"{after}")
}
