//! pr-ctl: shows and changes SCSI persistent reservations through a helper, without root.
//!
//! [`args`] parses the command line; [`commands`] (or [`raw`], [`watch`], [`probe`],
//! [`doctor`]) runs it through `pr-client` with
//! the descriptor that [`device`] opened, and returns a [`report`] or a [`failure`]. This file prints the result, as
//! text or as [`json`].

#![forbid(unsafe_code)]

mod args;
mod commands;
mod device;
mod doctor;
mod failure;
mod findings;
mod json;
mod multipathd;
mod nvme;
mod probe;
mod raw;
mod recorded_key;
mod report;
mod session;
mod socket;
mod watch;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;

use args::{Args, Command};
use failure::Failure;
use report::Report;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(help_or_error) => {
            // If it cannot be printed, the exit status still tells help from an error.
            let _ = help_or_error.print();
            return if help_or_error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let printed = run(&args).and_then(|report| match print(&report, args.json) {
        // The reader has closed the pipe, as `head` does: no failure.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(report.exit_status),
        printed => {
            if let Some(failure) = &report.failure {
                print_failure(failure);
            }
            printed
        }
    });
    match printed {
        Ok(exit_status) => ExitCode::from(exit_status),
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            if args.json {
                // If standard output cannot be written, the text on standard error must do.
                let _ = json::write_line(&mut io::stdout(), &failure.json());
            }
            print_failure(&failure);
            ExitCode::from(failure.exit_status())
        }
    }
}

fn run(args: &Args) -> Result<Report, Failure> {
    match &args.command {
        Command::Keys(target) => commands::keys(args, &target.device),
        Command::Reservation(target) => commands::reservation(args, &target.device),
        Command::Capabilities(target) => commands::capabilities(args, &target.device),
        Command::Status(target) => commands::status(args, &target.device),
        Command::Register(register) => commands::register(args, register),
        Command::RegisterIgnore(register) => commands::register_ignore(args, register),
        Command::RegisterMove(register) => commands::register_move(args, register),
        Command::Reserve(reserve) => commands::reserve(args, reserve),
        Command::Release(release) => commands::release(args, release),
        Command::Clear(clear) => commands::clear(args, clear),
        Command::Preempt(preempt) => commands::preempt(args, preempt),
        Command::PreemptAbort(preempt) => commands::preempt_abort(args, preempt),
        Command::Raw(raw) => raw::run(args, raw),
        Command::Watch(watch) => watch::run(args, watch),
        Command::Probe(probe) => Ok(probe::run(args, probe.device.as_deref())),
        Command::Doctor(doctor) => Ok(doctor::run(args, doctor)),
    }
}

/// Prints a report to standard output and returns its exit status.
fn print(report: &Report, as_json: bool) -> Result<u8, Failure> {
    let mut output = io::stdout().lock();
    if as_json {
        json::write_line(&mut output, &report.json)?;
    } else {
        for line in &report.lines {
            writeln!(output, "{line}")?;
        }
    }
    output.flush()?;
    Ok(report.exit_status)
}

fn print_failure(failure: &Failure) {
    // If standard error cannot be written, the exit status must do.
    let _ = writeln!(io::stderr(), "pr-ctl: {}", failure.text());
    if let Some(advice) = failure.advice() {
        let _ = writeln!(io::stderr(), "pr-ctl: {advice}");
    }
}
