//! `--trace`: a record of each command, in the C helper's syntax and QEMU's line format, `PID@SECONDS.MICROSECONDS:EVENT
//! TEXT`.

use std::{
    fmt, fs,
    io::{self, Write},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};
use scsi_sense::{Sense, Status};

use crate::{
    backend::Outcome,
    connection::{CommandName, Peer},
    device::{Device, Refusal},
    logging::Stderr,
    place::Place,
};

/// The one event there is: a command has ended.
const COMMAND: &str = "pr_helper_command";

/// All events, each with what it tells.
pub(crate) const EVENTS: &[(&str, &str)] =
    &[(COMMAND, "a command has ended: client, device, command, status, sense, microseconds")];

/// What `--trace` asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    patterns: Vec<String>,
    events: Option<PathBuf>,
    file: Option<PathBuf>,
}

impl Options {
    /// Parses `[enable=]PATTERN[,events=FILE][,file=FILE]`.
    pub(crate) fn parse(text: &str) -> Result<Self, TraceError> {
        let mut options = Self::default();
        for (index, word) in text.split(',').enumerate() {
            match word.split_once('=') {
                Some(("enable", pattern)) => options.patterns.push(pattern.into()),
                Some(("events", file)) => options.events = Some(file.into()),
                Some(("file", file)) => options.file = Some(file.into()),
                None if index == 0 => options.patterns.push(word.into()),
                _ => return Err(TraceError::Syntax(word.into())),
            }
        }
        Ok(options)
    }

    /// Whether it is the list of events that is asked for.
    pub(crate) fn is_help(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern == "help" || pattern == "?")
    }
}

/// What is wrong with `--trace`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TraceError {
    #[error("--trace: {0:?} is not of the form [enable=]PATTERN[,events=FILE][,file=FILE]")]
    Syntax(String),
    #[error("--trace: {}: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
}

/// Writes the records that were asked for.
pub(crate) struct Tracer(Option<Mutex<Box<dyn Write + Send>>>);

impl Tracer {
    /// One that writes nothing.
    pub(crate) fn disabled() -> Self {
        Self(None)
    }

    /// Opens the file that the options name. Relative paths are relative to where the daemon was started.
    pub(crate) fn open(options: &Options) -> Result<Self, TraceError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| TraceError::File { path, error }
        };
        let mut patterns = options.patterns.clone();
        if let Some(path) = &options.events {
            let list = fs::read_to_string(path).map_err(failed(path))?;
            let lines = list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            patterns.extend(lines.map(str::to_owned));
        }
        // As in QEMU, a leading minus takes an event out again.
        let mut enabled = false;
        for pattern in &patterns {
            let (pattern, enable) =
                pattern.strip_prefix('-').map_or((pattern.as_str(), true), |rest| (rest, false));
            if matches(pattern, COMMAND) {
                enabled = enable;
            } else {
                log::warn!("--trace: there is no event {pattern:?}; -T help lists those that there are");
            }
        }
        let writer: Box<dyn Write + Send> = match &options.file {
            Some(path) => Box::new(open_to_append(path).map_err(failed(path))?),
            None => Box::new(Stderr),
        };
        Ok(Self(enabled.then(|| Mutex::new(writer))))
    }

    pub(crate) fn wants_commands(&self) -> bool {
        self.0.is_some()
    }

    /// Writes the record of a command that has ended.
    pub(crate) fn command(&self, record: &Record<'_>) {
        if let Some(writer) = &self.0 {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let line = format!(
                "{}@{}.{:06}:{COMMAND} {record}\n",
                std::process::id(),
                now.as_secs(),
                now.subsec_micros()
            );
            // A full disk must not stop reservations.
            let _ = writer.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
        }
    }
}

/// Opens a file to append to, or makes it. In a directory that other users can put links into, it must be new, or empty, or
/// hold such records: root's records must not reach root's other files.
fn open_to_append(path: &Path) -> io::Result<fs::File> {
    let place = Place::of(path)?;
    let flags = OFlags::APPEND | OFlags::CREATE;
    let mode = Mode::from_raw_mode(0o666);
    if place.is_trusted()? {
        return Ok(place.open(flags | OFlags::WRONLY, mode)?);
    }
    let refused = || {
        let why = "is a link, or no file of trace records, in a directory that other users can write to: choose another";
        io::Error::new(io::ErrorKind::InvalidInput, why)
    };
    // Does not wait for the other end of a FIFO.
    match place.open(flags | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK, mode) {
        Err(Errno::LOOP) => Err(refused()),
        Err(error) => Err(error.into()),
        Ok(file) => {
            let metadata = file.metadata()?;
            let is_one = metadata.is_file() && metadata.nlink() == 1 && holds_records(&file)?;
            if is_one { Ok(file) } else { Err(refused()) }
        }
    }
}

/// Returns whether a file is empty or begins with a record. The content tells what a count of names does not: that changes as
/// other users like.
fn holds_records(file: &fs::File) -> io::Result<bool> {
    let mut beginning = [0; 128];
    let length = file.read_at(&mut beginning, 0)?;
    let text = String::from_utf8_lossy(beginning.get(..length).unwrap_or_default());
    let is_record = || {
        let (pid, rest) = text.split_once('@')?;
        let (time, rest) = rest.split_once(':')?;
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        Some(is_number(pid) && is_number(time) && rest.starts_with(COMMAND))
    };
    Ok(text.is_empty() || is_record() == Some(true))
}

/// A command that has ended.
pub(crate) struct Record<'a> {
    pub(crate) peer: Peer,
    pub(crate) target: Result<Device, Refusal>,
    pub(crate) cdb: &'a [u8],
    pub(crate) outcome: Outcome,
    /// The sense data of the reply.
    pub(crate) sense: &'a [u8],
    pub(crate) elapsed: Duration,
}

impl fmt::Display for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.peer)?;
        match self.target {
            Ok(Device { id, .. }) => write!(f, "{id}: ")?,
            Err(refusal) => write!(f, "refused ({refusal}): ")?,
        }
        let status = match self.outcome {
            Outcome::Device { status, .. } | Outcome::Failed { status, .. } => status,
            Outcome::Rejected(_) | Outcome::Refused(_) => Status::CHECK_CONDITION,
        };
        write!(f, "{}: {status}", CommandName(self.cdb))?;
        if let Outcome::Device { status: Status::GOOD, transferred, .. } = self.outcome {
            write!(f, ", {transferred} bytes")?;
        }
        if status == Status::CHECK_CONDITION {
            match Sense::parse(self.sense) {
                Ok(sense) => write!(f, ", {sense}")?,
                Err(error) => write!(f, ", sense unreadable ({error})")?,
            }
        }
        if let Outcome::Failed { cause, .. } = self.outcome {
            write!(f, " ({cause})")?;
        }
        write!(f, ", {} us", self.elapsed.as_micros())
    }
}

/// Shell patterns as QEMU's trace options have them: `*` is any text, `?` any one character.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.chars().next() {
        None => text.is_empty(),
        Some('*') => {
            let rest = pattern.trim_start_matches('*');
            text.char_indices()
                .map(|(at, _)| at)
                .chain([text.len()])
                .any(|at| text.get(at..).is_some_and(|tail| matches(rest, tail)))
        }
        Some(first) => {
            let mut characters = text.chars();
            characters.next().is_some_and(|character| first == '?' || first == character)
                && matches(pattern.get(first.len_utf8()..).unwrap_or_default(), characters.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_a_shell() {
        for pattern in ["*", "pr_helper_command", "pr_*", "*command", "pr_?elper_*", "p*r*d", "**"] {
            assert!(matches(pattern, COMMAND), "{pattern}");
        }
        for pattern in ["", "pr_helper", "*x*", "pr_helper_command?", "Pr_*", "?"] {
            assert!(!matches(pattern, COMMAND), "{pattern}");
        }
    }

    #[test]
    fn links_of_other_users_are_not_followed() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};

        let directory = tempfile::tempdir().unwrap();
        let [victim, path] = ["victim", "trace"].map(|name| directory.path().join(name));
        let allow = |mode| fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
        fs::write(&victim, "").unwrap();
        // Only root and this user could have made them.
        allow(0o700);
        symlink(&victim, &path).unwrap();
        open_to_append(&path).unwrap();
        allow(0o1777);
        assert!(open_to_append(&path).is_err(), "a symbolic link");
        fs::remove_file(&path).unwrap();
        fs::hard_link(&victim, &path).unwrap();
        assert!(open_to_append(&path).is_err(), "a hard link");
        fs::remove_file(&path).unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert!(open_to_append(&path).is_err(), "a FIFO");
        fs::remove_file(&path).unwrap();
        let record = format!("12@34.000056:{COMMAND} text\n");
        for _ in 0..2 {
            open_to_append(&path).unwrap().write_all(record.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), record.repeat(2));
        // Perhaps another file by a second name, whose first has gone for a moment.
        for other in ["root:x:0:0:", "12@34:x", "x"] {
            fs::write(&path, other).unwrap();
            assert!(open_to_append(&path).is_err(), "{other}");
        }
        assert_eq!(fs::read_to_string(&victim).unwrap(), "");
    }

    #[test]
    fn the_c_helpers_syntax_is_taken() {
        let parse = |text| Options::parse(text).unwrap();
        assert_eq!(parse("pr_*"), parse("enable=pr_*"));
        let options = parse("enable=*,events=/e,file=/f");
        assert_eq!((options.events, options.file), (Some("/e".into()), Some("/f".into())));
        assert_eq!(parse("events=/e").patterns, Vec::<String>::new());
        assert!(parse("help").is_help() && parse("?").is_help());
        for text in ["a,b", "*,files=x", "depth=3"] {
            assert!(Options::parse(text).is_err(), "{text}");
        }
    }
}
