//! What /proc says of processes and of the host.

use std::{fs, io};

/// Memory of a process and all below it, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Resident, shared pages counted whole.
    pub resident: u64,
    /// Each shared page divided by the number of those that share it.
    pub proportional: u64,
}

impl Memory {
    pub fn of(pid: u32) -> io::Result<Self> {
        let mut memory = Self { resident: 0, proportional: 0 };
        for member in family(pid)? {
            let rollup = match fs::read_to_string(format!("/proc/{member}/smaps_rollup")) {
                Ok(rollup) => rollup,
                Err(error) if member == pid => return Err(error),
                // It has ended meanwhile.
                Err(_) => continue,
            };
            memory.resident += kibibytes(&rollup, "Rss:") << 10;
            memory.proportional += kibibytes(&rollup, "Pss:") << 10;
        }
        Ok(memory)
    }
}

fn kibibytes(text: &str, field: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// How many threads a process has.
pub fn threads(pid: u32) -> io::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/task"))?.count())
}

/// A process and all below it.
fn family(pid: u32) -> io::Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // One that has ended meanwhile is of no interest.
        if let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) {
            parents.push((pid, field(&stat, 4)));
        }
    }
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        family.extend(parents.iter().filter(|(_, of)| *of == u64::from(parent)).map(|(pid, _)| *pid));
        next += 1;
    }
    Ok(family)
}

/// A number of /proc/PID/stat, counted as proc(5) does; from the fourth on.
fn field(stat: &str, number: usize) -> u64 {
    // The second is a name in parentheses that may have anything in it.
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    behind_name.split_whitespace().nth(number - 3).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Time that a process and its children that have ended have been busy: utime, stime, cutime, cstime.
pub fn busy_ticks(pid: &str) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    Ok((14..=17).map(|number| field(&stat, number)).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_in_its_parents_family() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let family = family(std::process::id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(family.contains(&child.id()), "{family:?}");
    }

    #[test]
    fn a_name_in_proc_stat_may_hold_anything() {
        let stat = "12 (a) R 1 (b) S 34 56 78 90";
        assert_eq!((field(stat, 4), field(stat, 5)), (34, 56));
    }

    #[test]
    fn memory_is_what_the_kernel_says() {
        let rollup = "5581-7ffd [rollup]\nRss:     3420 kB\nPss:      977 kB\nPss_Anon:   120 kB\n";
        assert_eq!((kibibytes(rollup, "Rss:"), kibibytes(rollup, "Pss:")), (3420, 977));
        let memory = Memory::of(std::process::id()).unwrap();
        assert!(memory.resident >= memory.proportional && memory.proportional > 0);
    }
}
