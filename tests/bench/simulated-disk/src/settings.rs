//! The settings of the disk, read from environment variables.

use std::{env, ffi::c_int, fs, mem::MaybeUninit, process, sync::LazyLock, thread, time::Duration};

use crate::prepared::{self, Answers, Prepared};

/// The major number of `/dev/loopN`, `LOOP_MAJOR` of `<linux/major.h>`.
const LOOP_MAJOR: libc::c_uint = 7;

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Each command makes an ioctl without effect.
    pub(crate) syscall: bool,
    /// The time that a command takes.
    delay: Duration,
    /// The minor number of a `/dev/loopN` with another delay.
    slow: Option<(u32, Duration)>,
    /// The minor number of a `/dev/loopN` that never answers.
    hanging: Option<u32>,
    /// Only loop devices are disks.
    loop_only: bool,
    answers: Answers,
}

impl Settings {
    /// Returns the settings of this process, which are read once.
    pub(crate) fn get() -> &'static Self {
        static SETTINGS: LazyLock<Settings> = LazyLock::new(|| Settings::read(|name| env::var(name).ok()));
        &SETTINGS
    }

    /// Reads the settings. Missing and malformed variables have no effect.
    fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let microseconds = |text: &str| text.parse().ok().map(Duration::from_micros);
        Self {
            syscall: variable("SIMULATED_DISK_SYSCALL").is_some(),
            delay: variable("SIMULATED_DISK_DELAY").and_then(|text| microseconds(&text)).unwrap_or_default(),
            slow: variable("SIMULATED_DISK_SLOW").and_then(|text| {
                let (minor, delay) = text.split_once(':')?;
                Some((minor.parse().ok()?, microseconds(delay)?))
            }),
            hanging: variable("SIMULATED_DISK_HANGING").and_then(|text| text.parse().ok()),
            loop_only: variable("SIMULATED_DISK_LOOP_ONLY").is_some(),
            answers: variable("SIMULATED_DISK_ANSWERS").map(|path| answers(&path)).unwrap_or_default(),
        }
    }

    /// Returns whether the simulation answers commands to this descriptor.
    pub(crate) fn is_disk(&self, descriptor: c_int) -> bool {
        !self.loop_only || (loop_minor(descriptor).is_some() && !is_path(descriptor))
    }

    /// Returns the prepared answer that a command selects, if any.
    pub(crate) fn prepared(&self, cdb: &[u8]) -> Option<&Prepared> {
        self.answers.get(&prepared::number(cdb))
    }

    /// Sleeps for the time that a command to this descriptor takes.
    pub(crate) fn wait(&self, descriptor: c_int) {
        let delay = self.delay_of(|| loop_minor(descriptor));
        match delay {
            Some(Duration::ZERO) => {}
            Some(delay) => thread::sleep(delay),
            None => loop {
                thread::sleep(Duration::from_secs(3600));
            },
        }
    }

    /// Returns how long a command takes; `None` means for ever. Calls `minor` only if the result depends on
    /// the device.
    fn delay_of(&self, minor: impl FnOnce() -> Option<u32>) -> Option<Duration> {
        if self.slow.is_none() && self.hanging.is_none() {
            return Some(self.delay);
        }
        let minor = minor();
        if minor.is_some() && minor == self.hanging {
            return None;
        }
        match self.slow {
            Some((slow, delay)) if minor == Some(slow) => Some(delay),
            _ => Some(self.delay),
        }
    }
}

/// Reads a file of answers. Aborts the process if that fails: with other answers a test would draw wrong
/// conclusions about the helper.
fn answers(path: &str) -> Answers {
    let answers = fs::read_to_string(path).map_err(|error| error.to_string());
    answers.and_then(|text| prepared::parse(&text)).unwrap_or_else(|error| {
        eprintln!("simulated disk: {path}: {error}");
        process::abort()
    })
}

/// Returns whether `descriptor` was opened with `O_PATH`.
fn is_path(descriptor: c_int) -> bool {
    // SAFETY: F_GETFL takes no argument and changes nothing.
    let flags = unsafe { libc::fcntl(descriptor, libc::F_GETFL) };
    flags >= 0 && flags & libc::O_PATH != 0
}

/// Returns N if `descriptor` refers to `/dev/loopN`.
fn loop_minor(descriptor: c_int) -> Option<u32> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `stat` is valid for writes of its type.
    if unsafe { libc::fstat(descriptor, stat.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: fstat(2) has succeeded and therefore initialised all of it.
    let stat = unsafe { stat.assume_init() };
    let is_loop = stat.st_mode & libc::S_IFMT == libc::S_IFBLK && libc::major(stat.st_rdev) == LOOP_MAJOR;
    is_loop.then(|| libc::minor(stat.st_rdev))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Settings {
        Settings::read(|name| {
            let name = name.strip_prefix("SIMULATED_DISK_").expect("a variable of this library");
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn each_device_has_its_delay() {
        let (none, usual, slow) = (Duration::ZERO, Duration::from_micros(100), Duration::from_millis(5));
        let all = settings(&[("DELAY", "100"), ("SLOW", "1:5000"), ("HANGING", "0")]);
        for (minor, delay) in
            [(Some(0), None), (Some(1), Some(slow)), (Some(2), Some(usual)), (None, Some(usual))]
        {
            assert_eq!(all.delay_of(|| minor), delay, "{minor:?}");
        }
        assert_eq!(settings(&[]).delay_of(|| panic!("the device does not matter")), Some(none));
        assert_eq!(settings(&[("HANGING", "3")]).delay_of(|| None), Some(none));
    }

    #[test]
    fn malformed_settings_have_no_effect() {
        let nonsense = settings(&[("DELAY", "soon"), ("SLOW", "5000"), ("HANGING", "loop0")]);
        assert_eq!(nonsense, Settings::default());
    }

    #[test]
    fn loop_only_excludes_other_devices() {
        assert!(settings(&[]).is_disk(-1));
        assert!(!settings(&[("LOOP_ONLY", "1")]).is_disk(-1));
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(!settings(&[("LOOP_ONLY", "1")]).is_disk(std::os::fd::AsRawFd::as_raw_fd(&null)));
    }

    #[test]
    fn other_devices_have_no_loop_minor() {
        let null = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(loop_minor(std::os::fd::AsRawFd::as_raw_fd(&null)), None);
        assert_eq!(loop_minor(-1), None);
    }
}
