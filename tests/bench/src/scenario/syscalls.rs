//! System calls per command, counted by strace in a helper that has already run commands.

use std::{
    fs,
    io::{self, BufRead as _, BufReader},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    bench::{Bench, DISK},
    helper::{Disk, Helper},
    kind::Kind,
    load::{Crowd, Direction},
    report::{Bound, Figure, Goal, Section},
};

const ALL: &str = "all";

/// The pause between two commands. A traced helper is slow and would find the next command already there
/// without it; a helper without tracing is waiting again by then.
const PAUSE: Duration = Duration::from_millis(1);

pub(super) fn run(bench: &Bench) -> io::Result<Section> {
    let commands = bench.effort.choose(1000, 300, 20);
    let mut section = Section::new("syscalls", "1 client, system calls per command, by strace");
    for direction in [Direction::In, Direction::Out] {
        for kind in bench.programs.kinds() {
            let counts = match count(bench, kind, direction, commands) {
                Ok(counts) => counts,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    section.title.push_str(": not measured, strace is missing");
                    return Ok(section);
                }
                Err(error) => return Err(error),
            };
            // Drops calls that are made less than once in fifty commands, such as those of timers.
            let of_commands: Vec<_> =
                counts.into_iter().filter(|(_, count)| *count >= commands / 50).collect();
            let sum = of_commands.iter().map(|(_, count)| count).sum();
            for (name, count) in of_commands.into_iter().chain([(ALL.into(), sum)]) {
                let value = (kind, f64::from(count) / f64::from(commands));
                add(&mut section.figures, format!("{direction:?}: {name}"), value);
            }
        }
    }
    // Sorts the sums last: a helper with calls that previous helpers lack has added figures after them.
    section.figures.sort_by_key(|figure| {
        (figure.name.starts_with("Out"), figure.name.ends_with(ALL), figure.name.clone())
    });
    let all = section.figures.iter().find(|figure| figure.name == format!("In: {ALL}"));
    section.goals.extend(bench.programs.daemons().map(|helper| Goal {
        what: "system calls of an IN command".into(),
        helper,
        value: all.and_then(|all| all.of(helper)),
        // Six calls, and one more in one of twenty commands.
        bound: Bound::AtMost(6.05),
    }));
    Ok(section)
}

fn add(figures: &mut Vec<Figure>, name: String, value: (Kind, f64)) {
    match figures.iter_mut().find(|figure| figure.name == name) {
        Some(figure) => figure.values.push(value),
        None => figures.push(Figure { name, unit: "", values: vec![value] }),
    }
}

/// Returns how often each system call was made during this number of commands.
fn count(bench: &Bench, kind: Kind, direction: Direction, commands: u32) -> io::Result<Vec<(String, u32)>> {
    let disk = Disk { syscall: true, ..Disk::default() };
    let helper = Helper::start(&bench.programs, kind, Some(&disk))?;
    let mut crowd = Crowd::connect(&helper, &Bench::device(DISK), 1)?;
    let member = &mut crowd.members()[0];
    for _ in 0..100 {
        member.command(direction)?;
    }

    let directory = tempfile::tempdir()?;
    let output = directory.path().join("strace");
    let mut strace = Command::new("strace")
        .args(["--follow-forks", "--summary-only", "--attach", &helper.pid().to_string(), "--output"])
        .arg(&output)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut messages = String::new();
    let mut stderr = BufReader::new(strace.stderr.take().expect("just piped"));
    while !messages.contains("attached") {
        if stderr.read_line(&mut messages)? == 0 {
            strace.wait()?;
            return Err(io::Error::other(format!("strace does not work here: {messages}")));
        }
    }
    let done = (0..commands).try_for_each(|_| {
        thread::sleep(PAUSE);
        member.command(direction)
    });
    let pid = i32::try_from(strace.id()).ok().and_then(Pid::from_raw).expect("a process");
    kill_process(pid, Signal::INT)?;
    strace.wait()?;
    done?;
    Ok(parse(&fs::read_to_string(output)?))
}

/// Parses strace's summary. Its columns are share, seconds, microseconds per call, calls, errors if any, and
/// name.
fn parse(summary: &str) -> Vec<(String, u32)> {
    let mut counts = Vec::new();
    for line in summary.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(calls), Some(name)) = (fields.get(3).and_then(|calls| calls.parse().ok()), fields.last())
        else {
            continue;
        };
        if *name != "total" {
            counts.push(((*name).to_owned(), calls));
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strace_summary_is_parsed() {
        let summary = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 40.00    0.000040           4        10         2 recvmsg
 60.00    0.000060           6        10           ioctl
------ ----------- ----------- --------- --------- ----------------
100.00    0.000100           5        20         2 total
";
        assert_eq!(parse(summary), [("recvmsg".to_owned(), 10), ("ioctl".to_owned(), 10)]);
        assert_eq!(parse(""), []);
    }
}
