//! Figures of processes from /proc.

use std::{fs, io};

/// The memory of a process and its descendants, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// The resident size, in which shared pages count fully.
    pub resident: u64,
    /// The proportional size: shared pages are divided by the number of processes that share them.
    pub proportional: u64,
}

impl Memory {
    /// Reads the memory of a process and its descendants.
    pub fn of(pid: u32) -> io::Result<Self> {
        let mut memory = Self { resident: 0, proportional: 0 };
        for member in family(pid)? {
            let rollup = match fs::read_to_string(format!("/proc/{member}/smaps_rollup")) {
                Ok(rollup) => rollup,
                Err(error) if member == pid => return Err(error),
                // The process has exited meanwhile.
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

/// Returns the number of threads of a process.
pub fn threads(pid: u32) -> io::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/task"))?.count())
}

/// Returns the IDs of a process and its descendants.
fn family(pid: u32) -> io::Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // Processes that have exited meanwhile are skipped.
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

/// Returns a numeric field of /proc/PID/stat, by its number in proc(5), which must be at least 4.
fn field(stat: &str, number: usize) -> u64 {
    // The second field is a name in parentheses, which may contain any characters.
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    behind_name.split_whitespace().nth(number - 3).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Returns the processor time of a process and its exited children, in ticks: utime, stime, cutime, cstime.
pub fn busy_ticks(pid: &str) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    Ok((14..=17).map(|number| field(&stat, number)).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn child_is_in_family_of_parent() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let family = family(std::process::id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(family.contains(&child.id()), "{family:?}");
    }

    #[test]
    fn name_in_proc_stat_may_hold_anything() {
        let stat = "12 (a) R 1 (b) S 34 56 78 90";
        assert_eq!((field(stat, 4), field(stat, 5)), (34, 56));
    }

    #[test]
    fn memory_is_read_from_smaps_rollup() {
        let rollup = "5581-7ffd [rollup]\nRss:     3420 kB\nPss:      977 kB\nPss_Anon:   120 kB\n";
        assert_eq!((kibibytes(rollup, "Rss:"), kibibytes(rollup, "Pss:")), (3420, 977));
        let memory = Memory::of(std::process::id()).unwrap();
        assert!(memory.resident >= memory.proportional && memory.proportional > 0);
    }
}
