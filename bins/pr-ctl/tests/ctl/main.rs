//! Runs the program and checks its output, its exit status, and the commands that it sends to the helper.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail by panicking")]
#![allow(clippy::indexing_slicing, reason = "a test may fail by panicking")]

mod arguments;
mod changes;
mod doctor;
mod failures;
mod helper;
mod json;
mod probe;
mod raw;
mod show;
mod watch;

use std::process::{Command, Output, Stdio};

use helper::Helper;

/// The result of a run: exit status, standard output, standard error.
type Run = (Option<i32>, String, String);

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pr-ctl"));
    command.stdin(Stdio::null());
    command
}

fn done(Output { status, stdout, stderr }: Output) -> Run {
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// Runs the program with these arguments alone.
fn run(arguments: &[&str]) -> Run {
    done(command().args(arguments).output().unwrap())
}

/// Runs the program with the socket of `helper`. Replaces `DEVICE` in arguments by the path of the helper's device.
fn run_with(helper: &Helper, arguments: &[&str]) -> Run {
    let device = helper.device().into_os_string().into_string().unwrap();
    let arguments = arguments.iter().map(|argument| argument.replace("DEVICE", &device));
    done(command().arg("--socket").arg(helper.socket()).args(arguments).output().unwrap())
}
