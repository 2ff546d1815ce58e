//! Help, version and invalid command lines.

use crate::run;

const COMMANDS: [&str; 15] = [
    "keys",
    "reservation",
    "capabilities",
    "status",
    "register",
    "register-ignore",
    "register-move",
    "reserve",
    "release",
    "clear",
    "preempt",
    "preempt-abort",
    "raw",
    "watch",
    "probe",
];

#[test]
fn help_and_version_exit_0() {
    let (status, help, errors) = run(&["--help"]);
    assert_eq!((status, errors.as_str()), (Some(0), ""));
    for command in COMMANDS {
        assert!(
            help.lines().any(|line| line.trim_start().starts_with(&format!("{command} "))),
            "{command}: {help}"
        );
        let (status, help, errors) = run(&[command, "--help"]);
        assert_eq!((status, errors.as_str()), (Some(0), ""));
        assert!(help.contains("--socket") && help.contains("DEVICE"), "{command}: {help}");
    }
    for text in ["/var/run/qemu-pr-helper.sock", "24  RESERVATION CONFLICT", "wero", "--json", "sas,HEX16"] {
        assert!(help.contains(text), "{text}: {help}");
    }
    for argument in ["--version", "-V"] {
        let expected = format!("pr-ctl {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(run(&[argument]), (Some(0), expected, String::new()));
    }
}

/// The message names the wrong argument.
#[test]
fn wrong_arguments_exit_1() {
    let cases: &[(&[&str], &str)] = &[
        (&[], "Usage"),
        (&["no-such-command"], "no-such-command"),
        (&["keys"], "<DEVICE>"),
        (&["keys", "/dev/null", "/dev/zero"], "/dev/zero"),
        (&["keys", "/dev/null", "--no-such-option"], "--no-such-option"),
        (&["--timeout", "0", "keys", "/dev/null"], "whole number of seconds from 1"),
        (&["reserve", "/dev/null", "--key", "1"], "--type"),
        (&["reserve", "/dev/null", "--type", "1"], "--key"),
        (&["reserve", "/dev/null", "--key", "1", "--type", "2"], "must be 1, 3, 5, 6, 7, 8 or a name"),
        (&["reserve", "/dev/null", "--key", "1", "--type", "shared"], "must be 1, 3, 5, 6, 7, 8 or a name"),
        (&["clear", "/dev/null", "--key", "1a"], "a hexadecimal key begins with 0x: 0x1a"),
        (&["clear", "/dev/null", "--key", "0x"], "at most 64 bits"),
        (&["clear", "/dev/null", "--key", "0x10000000000000000"], "at most 64 bits"),
        (&["clear", "/dev/null", "--key", "18446744073709551616"], "at most 64 bits"),
        (&["clear", "/dev/null", "--key=-1"], "at most 64 bits"),
        (&["clear", "/dev/null", "--key", "+1"], "at most 64 bits"),
        (&["preempt", "/dev/null", "--key", "1", "--type", "1"], "--victim"),
        (&["register", "/dev/null"], "--new-key"),
        (&["register", "/dev/null", "--new-key", "1", "--transport-id", "usb,1"], "must be like sas,"),
        (&["register", "/dev/null", "--new-key", "1", "--transport-id", "sas,1"], "16 hexadecimal digits"),
        (&["register-move", "/dev/null", "--key", "1", "--new-key", "2"], "--transport-id"),
        (&["watch", "/dev/null", "--interval", "0"], "seconds from 0.01"),
        (&["watch", "/dev/null", "--interval", "inf"], "seconds from 0.01"),
        (&["raw", "/dev/null"], "<CDB>"),
        (&["raw", "/dev/null", "5e0"], "the CDB must be pairs of hexadecimal digits"),
        (&["raw", "/dev/null", "5e00"], "a CDB of 2 bytes where 10 are needed"),
        (&["raw", "/dev/null", "5e", "--in", "8", "--out", "00"], "cannot be used with"),
        (&["raw", "/dev/null", "5e000000000000000800", "--out", "00"], "--out is for PERSISTENT RESERVE OUT"),
        (&["raw", "/dev/null", "5f000000000000001800", "--in", "8"], "--in is for PERSISTENT RESERVE IN"),
    ];
    for (arguments, message) in cases {
        let (status, output, errors) = run(arguments);
        assert_eq!((status, output.as_str()), (Some(1), ""), "{arguments:?}");
        assert!(errors.contains(message), "{arguments:?}: {errors}");
    }
}
