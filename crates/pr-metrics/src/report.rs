//! What a server does now, in words.

use std::{
    fmt::{self, Write as _},
    time::Duration,
};

use pr_server::{CommandName, ConnectionState, State};

/// Returns what a server does now, in words. `version` is the program's; `multipath` says whether multipath maps are served,
/// or why not.
pub fn report(state: &State, version: &str, multipath: Result<(), String>) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_report(&mut text, state, version, multipath);
    text
}

fn write_report(
    text: &mut String,
    state: &State,
    version: &str,
    multipath: Result<(), String>,
) -> fmt::Result {
    let State { started, connections, devices, shared_nexuses, .. } = state;
    let up = Age(started.elapsed());
    writeln!(text, "pr-helper {version}, process {}, up {up}", std::process::id())?;
    match multipath {
        Ok(()) => writeln!(text, "multipath maps are served")?,
        Err(why) => writeln!(text, "multipath maps are not served: {why}")?,
    }

    let mut running: Vec<_> =
        connections.iter().filter_map(|connection| Some((connection.client, connection.running?))).collect();
    running.sort_by_key(|(_, running)| running.begun);
    writeln!(text, "commands in flight: {}", running.len())?;
    for (client, running) in running {
        let (age, command) = (Age(running.begun.elapsed()), CommandName(&running.cdb));
        writeln!(text, "  for {age}: {client}: {}: {command}", running.device)?;
    }

    writeln!(text, "devices with commands: {}", devices.len())?;
    for (device, load) in devices {
        writeln!(text, "  {device}: {} in flight, {} waiting", load.in_flight, load.waiting)?;
    }

    writeln!(text, "shared I_T nexuses: {}", shared_nexuses.len())?;
    for (nexus, registrants) in shared_nexuses {
        let registrants: Vec<_> = registrants.iter().map(ToString::to_string).collect();
        writeln!(text, "  {nexus}: registered by {}", registrants.join(", "))?;
    }

    writeln!(text, "clients: {}", connections.len())?;
    for ConnectionState { client, since, commands, .. } in connections {
        writeln!(text, "  {client}: for {}, {commands} commands", Age(since.elapsed()))?;
    }
    Ok(())
}

/// Displays a time span with two units at most.
struct Age(Duration);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
        match seconds {
            0..60 => write!(f, "{:.1} s", self.0.as_secs_f64()),
            60..3600 => write!(f, "{minutes} min {} s", seconds % 60),
            3600..86400 => write!(f, "{hours} h {} min", minutes % 60),
            _ => write!(f, "{days} d {} h", hours % 24),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_two_units_at_most() {
        for (seconds, text) in [
            (0.04, "0.0 s"),
            (12.34, "12.3 s"),
            (60.0, "1 min 0 s"),
            (3599.9, "59 min 59 s"),
            (3600.0, "1 h 0 min"),
            (90_000.0, "1 d 1 h"),
            (8_640_000.0, "100 d 0 h"),
        ] {
            assert_eq!(Age(Duration::from_secs_f64(seconds)).to_string(), text);
        }
    }
}
