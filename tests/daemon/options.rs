//! The command line: options, errors, `--trace` and the log format.

use std::{fs, process::Output};

use test_support::Daemon;

use crate::{null, read_keys};

fn run(arguments: &[&str]) -> Output {
    Daemon::command().args(arguments).output().expect("pr-helper")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

#[test]
fn help_and_version_exit_0() {
    for (argument, text) in [
        ("--help", "--pidfile"),
        ("-h", "--socket"),
        ("--version", concat!("pr-helper ", env!("CARGO_PKG_VERSION"))),
        ("-V", "pr-helper "),
    ] {
        let output = run(&[argument]);
        assert_eq!(output.status.code(), Some(0), "{argument}");
        assert!(String::from_utf8(output.stdout).unwrap().contains(text), "{argument}");
        assert!(output.stderr.is_empty(), "{argument}");
    }
}

#[test]
fn bad_option_exits_1() {
    for arguments in [&["--no-such-option"][..], &["-k"], &["--timeout=never"], &["--log-format=xml"]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(!stderr(&output).is_empty() && output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn start_error_names_cause_and_remedy() {
    let cases: &[(&[&str], &str)] = &[
        (&["--unprivileged", "-u", "no-such-user"], "there is no user \"no-such-user\""),
        (&["--unprivileged", "-g", "no-such-group"], "there is no group \"no-such-group\""),
        (&["--unprivileged", "--socket-group", "no-such-group"], "there is no group"),
        (&["--unprivileged", "-T", "*,depth=3"], "[enable=]PATTERN[,events=FILE][,file=FILE]"),
        (
            &["--unprivileged", "-T", "*,file=/no/such/directory/file"],
            "/no/such/directory/file: No such file",
        ),
        (
            &["--unprivileged", "-k", "/no/such/directory/socket"],
            "/no/such/directory/socket: cannot open its directory",
        ),
        (&["--unprivileged", "-f", "/no/such/directory/pid", "-k", "/no/socket"], "cannot write the pidfile"),
    ];
    for (arguments, message) in cases {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&output).contains(message), "{arguments:?}: {}", stderr(&output));
    }
    let long = format!("/{}", "x".repeat(200));
    let output = run(&["--unprivileged", "-k", &long]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("not a path for a socket"), "{}", stderr(&output));
}

#[test]
fn trace_has_a_line_per_command() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let daemon = Daemon::start(&["-T", &format!("pr_*,file={}", file.path().display())]);
    let mut client = daemon.client();
    client.read(null(), &read_keys(8)[..10]).unwrap();
    client.read(null(), &read_keys(24)[..10]).unwrap();
    let pid = daemon.pid();
    daemon.stop();
    let trace = fs::read_to_string(file.path()).unwrap();
    assert_eq!(trace.lines().count(), 2, "{trace}");
    let line = trace.lines().next().unwrap();
    assert!(line.starts_with(&format!("{pid}@")), "{line}");
    for part in [
        ":pr_helper_command client pid ",
        "character device 1:3",
        "PERSISTENT RESERVE IN, READ KEYS",
        "CHECK CONDITION",
        "ILLEGAL REQUEST, INVALID COMMAND OPERATION CODE (05/20/00)",
        " us",
    ] {
        assert!(line.contains(part), "{part:?} in {line}");
    }
}

#[test]
fn trace_events_can_be_listed_and_chosen() {
    let output = run(&["-T", "help"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("pr_helper_command"));

    let events = tempfile::NamedTempFile::new().unwrap();
    fs::write(events.path(), "# commands\npr_helper_command\nno_such_event\n").unwrap();
    let daemon = Daemon::start(&["-T", &format!("events={}", events.path().display())]);
    daemon.client().read(null(), &read_keys(8)[..10]).unwrap();
    daemon.wait_for_log(":pr_helper_command client pid");
    daemon.wait_for_log("there is no event \"no_such_event\"");
    daemon.stop();
}

#[test]
fn verbosity_and_log_format_apply() {
    let quiet =
        Daemon::command().args(["--unprivileged", "-q", "-k", "/no/such/directory/s"]).output().unwrap();
    assert!(stderr(&quiet).contains("error: "), "-q keeps errors: {}", stderr(&quiet));

    let daemon = Daemon::start(&["-v", "--log-format", "journal"]);
    daemon.client().read(null(), &read_keys(8)[..10]).unwrap();
    daemon.wait_for_log("refused PERSISTENT RESERVE IN");
    let log = daemon.log();
    assert!(log.lines().all(|line| line.starts_with('<') && line.chars().nth(2) == Some('>')), "{log}");
    assert!(
        log.contains("<6>version") && log.contains("<4>client pid") && log.contains("<7>client pid"),
        "{log}"
    );
    daemon.stop();
}
