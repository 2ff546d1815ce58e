//! Failures: their messages, advice and exit status.

use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt as _, net::UnixListener, process::CommandExt as _},
    process::{Command, Stdio},
};

use scsi_sense::{SenseCode, SenseKey, Status};

use crate::{
    command, done,
    helper::{Answer, Helper, remove_socket},
    run, run_with,
};

const RESERVE: [&str; 6] = ["reserve", "DEVICE", "--key", "1", "--type", "1"];

#[test]
fn answers_have_sg_persist_exit_status() {
    let sense = |key, asc| Answer::CheckCondition(SenseCode::new(SenseKey::new(key), asc, 0));
    for (answer, expected, text) in [
        (Answer::Status(Status::RESERVATION_CONFLICT), 24, "RESERVATION CONFLICT (18h)"),
        (Answer::Status(Status::CONDITION_MET), 25, "CONDITION MET (04h)"),
        (Answer::Status(Status::BUSY), 26, "BUSY (08h)"),
        (Answer::Status(Status::TASK_SET_FULL), 27, "TASK SET FULL (28h)"),
        (Answer::Status(Status::ACA_ACTIVE), 28, "ACA ACTIVE (30h)"),
        (Answer::Status(Status::TASK_ABORTED), 29, "TASK ABORTED (40h)"),
        (Answer::Status(Status(0x77)), 99, "unknown status (77h)"),
        (sense(0x0, 0x00), 20, "NO SENSE"),
        (sense(0x1, 0x17), 21, "RECOVERED ERROR"),
        (sense(0x2, 0x04), 2, "NOT READY, LOGICAL UNIT NOT READY, CAUSE NOT REPORTABLE (02/04/00)"),
        (sense(0x3, 0x11), 3, "MEDIUM ERROR"),
        (sense(0x4, 0x44), 3, "HARDWARE ERROR, INTERNAL TARGET FAILURE (04/44/00)"),
        (sense(0x5, 0x24), 5, "ILLEGAL REQUEST, INVALID FIELD IN CDB (05/24/00)"),
        (sense(0x5, 0x20), 9, "ILLEGAL REQUEST, INVALID COMMAND OPERATION CODE (05/20/00)"),
        (sense(0x6, 0x29), 6, "UNIT ATTENTION, POWER ON, RESET, OR BUS DEVICE RESET OCCURRED (06/29/00)"),
        (sense(0x7, 0x27), 7, "DATA PROTECT"),
        (sense(0x8, 0x00), 3, "BLANK CHECK"),
        (sense(0x9, 0x80), 98, "VENDOR SPECIFIC"),
        (sense(0xa, 0x00), 10, "COPY ABORTED"),
        (sense(0xb, 0x08), 11, "ABORTED COMMAND, LOGICAL UNIT COMMUNICATION FAILURE (0B/08/00)"),
        (sense(0xe, 0x1d), 14, "MISCOMPARE"),
        (Answer::Sense(vec![]), 98, "no sense data"),
        (Answer::HangUp, 99, "was lost after the command was sent: whether it has run is unknown"),
    ] {
        let helper = Helper::always(answer);
        let (status, output, errors) = run_with(&helper, &RESERVE);
        assert_eq!((status, output.as_str()), (Some(expected), ""), "{text}");
        assert!(errors.contains(text) && errors.starts_with("pr-ctl: RESERVE "), "{text}: {errors}");
        assert_eq!(helper.arrived().len(), 1, "{text}: it is not repeated");
    }
}

#[test]
fn malformed_answer_exits_97() {
    let helper = Helper::always(Answer::Good(vec![0; 7]));
    let (status, _, errors) = run_with(&helper, &["keys", "DEVICE"]);
    assert_eq!(status, Some(97));
    assert!(errors.contains("7 bytes of data where 8 are needed"), "{errors}");
}

/// READ FULL STATUS data with a descriptor length of 400h where 16 bytes are left.
const MALFORMED_STATUS: &str =
    "00000001000000280000000000000abc0000000001050000000000010000040006000000500000000000000100000000";

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// The part of the list that could be read is printed.
#[test]
fn malformed_lists_exit_97() {
    let key_and_a_half = "0000000100000010 0000000000000abc 0000".replace(' ', "");
    for (command, data, shown, why) in [
        (
            "status",
            MALFORMED_STATUS,
            "at least 0 registrations, generation 1\n",
            "the entry at byte 8 goes beyond",
        ),
        (
            "keys",
            "0000000100000010000000000000",
            "at least 0 registrations, generation 1\n",
            "14 bytes of data where 24",
        ),
        (
            "keys",
            &key_and_a_half,
            "at least 1 registration, generation 1\n0xabc\n",
            "18 bytes of data where 24",
        ),
    ] {
        let helper = Helper::always(Answer::Good(bytes(data)));
        let (status, output, errors) = run_with(&helper, &[command, "DEVICE"]);
        assert_eq!((status, output), (Some(97), format!("{shown}(the rest of the list cannot be read)\n")));
        assert!(errors.contains("cannot be read to its end: ") && errors.contains(why), "{errors}");
        assert!(errors.contains("pr-ctl raw "), "{errors}");

        let (status, output, errors) = run_with(&helper, &["--json", command, "DEVICE"]);
        assert_eq!((status, output.lines().count()), (Some(97), 1), "{output}");
        assert!(output.contains("\"complete\": false, \"error\": \"READ "), "{output}");
        assert!(output.ends_with("\"exit_status\": 97}\n") && errors.contains(why), "{output}");
    }
    let helper = Helper::always(Answer::Good(bytes("0000000100000010000000000000")));
    let (status, output, _) = run_with(&helper, &["watch", "DEVICE"]);
    assert_eq!((status, output.as_str()), (Some(97), ""));
}

#[test]
fn no_answer_in_time_exits_33() {
    let helper = Helper::always(Answer::Silence);
    let (status, _, errors) = run_with(&helper, &[&["--timeout", "1"][..], &RESERVE].concat());
    assert_eq!(status, Some(33));
    assert!(
        errors.contains("has not answered in time") && errors.contains("look before you repeat it"),
        "{errors}"
    );
}

#[test]
fn json_reports_failures() {
    let conflict = Helper::always(Answer::Status(Status::RESERVATION_CONFLICT));
    let (status, output, errors) = run_with(&conflict, &[&["--json"][..], &RESERVE].concat());
    assert_eq!(status, Some(24));
    let device = conflict.device();
    let expected = format!(
        "{{\"error\": \"RESERVE {}: RESERVATION CONFLICT (18h)\", \
         \"status\": {{\"code\": 24, \"name\": \"RESERVATION CONFLICT\"}}, \"advice\": \"this initiator ",
        device.display()
    );
    assert!(output.starts_with(&expected) && output.ends_with(", \"exit_status\": 24}\n"), "{output}");
    assert!(errors.contains("RESERVATION CONFLICT"), "{errors}");

    let refused = Helper::always(Answer::CheckCondition(SenseCode::INVALID_OPCODE));
    let (_, output, _) = run_with(&refused, &["--json", "keys", "DEVICE"]);
    let sense =
        "\"sense\": {\"key\": 5, \"asc\": 32, \"ascq\": 0, \"text\": \"ILLEGAL REQUEST, INVALID COMMAND";
    assert!(output.contains(sense), "{output}");
}

#[test]
fn unreachable_helper_exits_35_with_advice() {
    let helper = Helper::always(Answer::Good(vec![]));
    let gone = helper.directory().join("gone");
    drop(UnixListener::bind(&gone).unwrap());
    let deaf = helper.directory().join("deaf");
    let _deaf = UnixListener::bind(&deaf).unwrap();
    let nowhere = helper.directory().join("nowhere");
    let device = helper.device();
    for (socket, message) in [
        (&nowhere, "there is no such socket: start the helper with -k "),
        (&gone, "no process listens there"),
        (&device, "no process listens there"),
        (&deaf, "a process listens there and does not answer"),
    ] {
        let (socket, device) = (socket.to_str().unwrap(), device.to_str().unwrap());
        let (status, output, errors) = run(&["--timeout", "1", "-k", socket, "keys", device]);
        assert_eq!((status, output.as_str()), (Some(35), ""), "{message}");
        assert!(errors.contains(message) && errors.contains(socket), "{message}: {errors}");
    }
}

#[test]
fn unreachable_helper_is_named_with_errno() {
    let helper = Helper::always(Answer::Good(vec![]));
    remove_socket(&helper);
    let socket = helper.socket();
    let text =
        format!("cannot reach the helper at {}: No such file or directory (os error 2)", socket.display());
    for (arguments, is_output, is_error) in [
        (&["keys", "DEVICE"][..], false, true),
        (&["--json", "keys", "DEVICE"], true, true),
        (&["watch", "DEVICE"], false, true),
        (&["probe"], true, false),
    ] {
        let (status, output, errors) = run_with(&helper, arguments);
        assert_eq!(status, Some(35), "{arguments:?}");
        let named = (output.contains(&text), errors.contains(&text));
        assert_eq!(named, (is_output, is_error), "{arguments:?}: {output} {errors}");
    }
}

#[test]
fn unopenable_device_exits_15_with_advice() {
    let helper = Helper::always(Answer::Good(vec![]));
    let (status, _, errors) = run_with(&helper, &["keys", "DEVICE-not"]);
    assert_eq!(status, Some(15));
    assert!(errors.contains("No such file") && errors.contains("/dev/disk/by-id"), "{errors}");
    let (status, _, errors) = run(&["clear", "/", "--key", "1"]);
    assert_eq!(status, Some(15));
    assert!(errors.contains("cannot open / for writing: Is a directory"), "{errors}");
}

#[test]
fn advice_names_unsupported_features() {
    let in_list = SenseCode::INVALID_FIELD_IN_PARAMETER_LIST;
    for (arguments, code, hint) in [
        (
            &["register", "DEVICE", "--new-key", "1", "--aptpl"][..],
            in_list,
            Some("may not support --aptpl (PTPL_C)"),
        ),
        (&["register-ignore", "DEVICE", "--new-key", "1", "--aptpl"], in_list, Some("pr-ctl capabilities ")),
        (
            &["register", "DEVICE", "--new-key", "1", "--transport-id", "sas,5000c50005b32001"],
            in_list,
            Some("--transport-id (SIP_C)"),
        ),
        (&["register", "DEVICE", "--new-key", "1"], in_list, None),
        (&["status", "DEVICE"], SenseCode::INVALID_FIELD_IN_CDB, Some("does not support READ FULL STATUS")),
        (
            &["capabilities", "DEVICE"],
            SenseCode::INVALID_FIELD_IN_CDB,
            Some("does not support REPORT CAPABILITIES"),
        ),
        (&["keys", "DEVICE"], SenseCode::INVALID_FIELD_IN_CDB, None),
    ] {
        let helper = Helper::always(Answer::CheckCondition(code));
        let (status, _, errors) = run_with(&helper, arguments);
        assert_eq!(status, Some(5), "{errors}");
        match hint {
            Some(hint) => assert!(errors.contains(hint), "{hint}: {errors}"),
            None => assert_eq!(errors.lines().count(), 1, "{errors}"),
        }
    }
}

/// Runs the program as a user that owns neither device nor socket. The advice names the missing permission.
#[test]
fn missing_permission_is_explained() {
    let helper = Helper::start(|_| Answer::Good(vec![0; 8]));
    let directory = helper.directory();
    fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
    let program = directory.join("pr-ctl");
    // A process of its own copies the file. If this process did, a child forked by another test at that moment would
    // have the file open for writing, and it could not be run (ETXTBSY).
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_pr-ctl")).arg(&program).status().unwrap();
    assert!(copied.success());
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        if rustix::process::geteuid().is_root() {
            command.uid(65534).gid(65534);
        }
        done(command.arg("-k").arg(helper.socket()).args(arguments).output().unwrap())
    };
    let device = helper.device();
    let device = device.to_str().unwrap();
    let mode = |path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    mode(helper.socket(), 0o666);

    mode(helper.device(), 0o444);
    assert_eq!(run(&["keys", device]).0, Some(0), "reading is enough to read");
    let (status, _, errors) = run(&["clear", device, "--key", "1"]);
    assert_eq!(status, Some(15));
    let advice = "you need permission to read and write the device (it is mode 0444, user ";
    assert!(errors.contains(advice) && errors.contains("Permission denied"), "{errors}");

    mode(helper.device(), 0o000);
    let (status, _, errors) = run(&["keys", device]);
    assert_eq!(status, Some(15));
    assert!(errors.contains("you need permission to read the device (it is mode 0000, user "), "{errors}");

    mode(helper.device(), 0o666);
    mode(helper.socket(), 0o000);
    let (status, _, errors) = run(&["keys", device]);
    assert_eq!(status, Some(35));
    assert!(errors.contains("you need permission to write to the socket"), "{errors}");
    let (status, output, _) = run(&["probe", device]);
    assert_eq!(status, Some(35));
    assert!(output.contains("mode 0000, user ") && output.contains("you need permission"), "{output}");
}

/// A closed pipe is no failure, a full disk is.
#[test]
fn only_unwritable_output_is_a_failure() {
    let helper = crate::show::disk(&[1]);
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    drop(reader);
    let mut closed = command();
    closed.arg("-k").arg(helper.socket()).arg("keys").arg(helper.device());
    let output = closed.stdout(Stdio::from(writer)).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(done(output), (Some(0), String::new(), String::new()));

    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = closed.stdout(full).output().unwrap();
    let (status, _, errors) = done(output);
    assert_eq!(status, Some(99), "not 15: the device was opened, and the command done");
    assert!(errors.contains("standard output: No space left"), "{errors}");
}
