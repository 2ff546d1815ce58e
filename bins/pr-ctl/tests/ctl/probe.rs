//! `probe`: its findings and its advice.

use std::os::unix::net::UnixListener;

use scsi_sense::{SenseCode, Status};

use crate::{
    helper::{Answer, Helper},
    run, run_with,
};

/// Returns the indented lines: all but the headings.
fn lines(output: &str) -> Vec<&str> {
    output.lines().filter(|line| line.starts_with(' ')).map(str::trim_start).collect()
}

/// Starts a helper whose disk supports all commands that only read, except READ FULL STATUS, and gives the answer
/// `change` to all others.
fn disk(change: Answer) -> Helper {
    Helper::start(move |arrived| match (arrived.cdb[0], arrived.cdb[1]) {
        (0x5e, 0 | 1) => Answer::Good(vec![0; 8]),
        (0x5e, 2) => Answer::Good(vec![0, 8, 1, 0, 0, 0, 0, 0]),
        (0x5e, _) => Answer::CheckCondition(SenseCode::INVALID_FIELD_IN_CDB),
        _ => change.clone(),
    })
}

#[test]
fn working_disk_passes_probe() {
    for change in [
        Answer::CheckCondition(SenseCode::INVALID_FIELD_IN_CDB),
        Answer::CheckCondition(SenseCode::INVALID_FIELD_IN_PARAMETER_LIST),
        Answer::Status(Status::RESERVATION_CONFLICT),
        Answer::Good(vec![]),
    ] {
        let helper = disk(change);
        let (status, output, errors) = run_with(&helper, &["probe", "DEVICE"]);
        assert_eq!((status, errors.as_str()), (Some(0), ""), "{output}");
        let [socket, rest @ ..] = &lines(&output)[..] else { panic!("{output}") };
        assert!(socket.starts_with("ok  a socket: mode "), "{output}");
        assert_eq!(
            rest,
            [
                "ok  a helper answers",
                "ok  opened for reading",
                "ok  opened for writing",
                "ok  READ KEYS: 0 registrations",
                "ok  READ RESERVATION: none",
                "ok  REPORT CAPABILITIES: can be kept over a loss of power (--aptpl)",
                "--  READ FULL STATUS: CHECK CONDITION (02h): ILLEGAL REQUEST, INVALID FIELD IN CDB (05/24/00)",
                "ok  PERSISTENT RESERVE OUT: gets through",
            ]
        );
        let arrived = helper.arrived();
        let changes: Vec<_> = arrived.iter().filter(|arrived| arrived.cdb[0] == 0x5f).collect();
        let [change] = &changes[..] else { panic!("{changes:?}") };
        assert_eq!((change.cdb[1], &change.parameters[..]), (0x1f, &[0; 24][..]), "it changes nothing");
    }
}

#[test]
fn faults_are_shown_with_advice() {
    let cases = [
        (
            Helper::always(Answer::CheckCondition(SenseCode::INVALID_OPCODE)),
            9,
            "NO  READ KEYS: CHECK CONDITION (02h): ILLEGAL REQUEST, INVALID COMMAND OPERATION CODE (05/20/00)",
            "it is no disk: use /dev/sdX or /dev/sgN, or a helper that emulates reservations on files",
        ),
        (
            // The answer of QEMU's helper for a device that takes no SCSI commands.
            Helper::always(Answer::CheckCondition(SenseCode::IO_PROCESS_TERMINATED)),
            11,
            "NO  READ KEYS: CHECK CONDITION (02h): ABORTED COMMAND, I/O PROCESS TERMINATED (0B/00/06)",
            "it is no disk",
        ),
        (
            Helper::always(Answer::CheckCondition(SenseCode::LU_COMMUNICATION_FAILURE)),
            11,
            "NO  READ KEYS",
            "see the kernel's log",
        ),
        (Helper::always(Answer::Status(Status::BUSY)), 26, "NO  READ KEYS: BUSY (08h)", "try again"),
        (
            Helper::always(Answer::Status(Status::RESERVATION_CONFLICT)),
            24,
            "NO  READ KEYS: RESERVATION CONFLICT (18h)",
            "RESERVE(6)",
        ),
        (Helper::always(Answer::HangUp), 99, "NO  READ KEYS", "the helper has hung up on the command"),
        (Helper::always(Answer::Silence), 33, "NO  READ KEYS", "the disk hangs, or the helper"),
        (
            disk(Answer::CheckCondition(SenseCode::INVALID_OPCODE)),
            9,
            "NO  PERSISTENT RESERVE OUT",
            "lets reservations be read only",
        ),
    ];
    for (helper, expected, finding, advice) in cases {
        let (status, output, _) = run_with(&helper, &["--timeout", "1", "probe", "DEVICE"]);
        assert_eq!(status, Some(expected), "{output}");
        let lines = lines(&output);
        let found = lines.iter().position(|line| line.starts_with(finding));
        let found = found.unwrap_or_else(|| panic!("{finding}:\n{output}"));
        assert!(lines[found + 1].contains(advice), "{advice}:\n{output}");
    }
}

/// A device may lack a command, but a malformed or missing answer is a fault.
#[test]
fn malformed_answers_are_findings() {
    let malformed = vec![0, 0, 0, 1, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0];
    for (action, answer, status, finding) in [
        (
            3,
            Answer::Good(malformed.clone()),
            97,
            "NO  READ FULL STATUS: the device's list of registrations cannot be ",
        ),
        (
            0,
            Answer::Good(malformed),
            97,
            "NO  READ KEYS: the device's list of keys cannot be read to its end: 14 bytes",
        ),
        (
            2,
            Answer::Good(vec![0, 4]),
            97,
            "NO  REPORT CAPABILITIES: the device's data cannot be read: 2 bytes of data",
        ),
        (3, Answer::Silence, 33, "NO  READ FULL STATUS: the helper has not answered in time"),
    ] {
        let helper = Helper::start(move |arrived| match (arrived.cdb[0], arrived.cdb[1]) {
            (0x5e, asked) if asked == action => answer.clone(),
            (0x5e, 2) => Answer::Good(vec![0, 8, 1, 0, 0, 0, 0, 0]),
            (0x5e, _) => Answer::Good(vec![0; 8]),
            _ => Answer::CheckCondition(SenseCode::INVALID_FIELD_IN_CDB),
        });
        let (exit_status, output, _) = run_with(&helper, &["--timeout", "1", "probe", "DEVICE"]);
        assert_eq!(exit_status, Some(status), "{output}");
        assert!(lines(&output).iter().any(|line| line.starts_with(finding)), "{finding}:\n{output}");
    }
}

#[test]
fn unit_attention_is_no_finding() {
    let attentions = std::sync::Mutex::new(3);
    let helper = Helper::start(move |arrived| {
        let mut left = attentions.lock().unwrap();
        if *left > 0 {
            *left -= 1;
            return Answer::CheckCondition(SenseCode::RESERVATIONS_PREEMPTED);
        }
        if arrived.cdb[0] == 0x5e {
            Answer::Good(vec![0, 8, 0, 0, 0, 0, 0, 0])
        } else {
            Answer::CheckCondition(SenseCode::INVALID_FIELD_IN_CDB)
        }
    });
    let (_, output, _) = run_with(&helper, &["probe", "DEVICE"]);
    assert!(output.contains("ok  READ KEYS") && !output.contains("UNIT ATTENTION"), "{output}");
}

#[test]
fn probe_works_without_a_device() {
    let helper = disk(Answer::Good(vec![]));
    let (status, output, _) = run_with(&helper, &["probe"]);
    assert_eq!((status, lines(&output).len()), (Some(0), 2), "{output}");
    assert!(helper.arrived().is_empty());

    let directory = helper.directory();
    let path = |name: &str| directory.join(name).into_os_string().into_string().unwrap();
    drop(UnixListener::bind(path("gone")).unwrap());
    for (socket, advice) in [
        (path("nowhere"), "there is no such socket"),
        (path("gone"), "no process listens there"),
        (path("disk"), "name it with --socket"),
    ] {
        let (status, output, _) = run(&["probe", "-k", &socket]);
        assert_eq!(status, Some(35), "{output}");
        assert!(output.contains(advice), "{advice}:\n{output}");
    }
}

#[test]
fn files_other_than_disks_are_recognized() {
    let helper = Helper::always(Answer::CheckCondition(SenseCode::INVALID_OPCODE));
    for (device, what, advice) in [
        ("/dev/null", "character device that is neither of SCSI nor of NVMe", "it is no disk"),
        ("DEVICE", ": file", "emulates reservations on files"),
        ("/nonexistent", "not there", "/dev/disk/by-id"),
    ] {
        let (_, output, _) = run_with(&helper, &["probe", device]);
        assert!(output.contains(what) && output.contains(advice), "{output}");
    }
}

#[test]
fn probe_json_has_each_check() {
    let helper = Helper::always(Answer::Status(Status::BUSY));
    let (status, output, _) = run_with(&helper, &["probe", "DEVICE", "--json"]);
    assert_eq!(status, Some(26));
    assert!(output.starts_with("{\"checks\": [{\"subject\": \"helper at "), "{output}");
    let check = "\"check\": \"READ KEYS\", \"result\": \"no\", \"detail\": \"BUSY (08h)\", \"advice\": \"the disk is busy";
    assert!(output.contains(check), "{output}");
    assert!(output.ends_with("], \"ok\": false, \"exit_status\": 26}\n"), "{output}");
}
