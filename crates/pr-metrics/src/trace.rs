//! `--trace`: a record of each command, in the C helper's syntax and QEMU's line format, `PID@SECONDS.MICROSECONDS:EVENT
//! TEXT`.

use std::{
    fmt, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use pr_backend::Outcome;
use pr_server::{CommandName, Completed, Event, Observer};
use scsi_sense::{Sense, Status};

/// The only event: a command has ended.
const COMMAND: &str = "pr_helper_command";

/// All events, each with an explanation.
pub const EVENTS: &[(&str, &str)] =
    &[(COMMAND, "a command has ended: client, device, command, status, sense, microseconds")];

/// The value of `--trace`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    patterns: Vec<String>,
    events: Option<PathBuf>,
    file: Option<PathBuf>,
}

impl Options {
    /// Parses `[enable=]PATTERN[,events=FILE][,file=FILE]`.
    ///
    /// # Errors
    ///
    /// [`TraceError::Syntax`].
    pub fn parse(text: &str) -> Result<Self, TraceError> {
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

    /// Returns whether the list of events is requested.
    pub fn is_help(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern == "help" || pattern == "?")
    }
}

/// Error of `--trace`.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The option is malformed.
    #[error("--trace: {0:?} is not of the form [enable=]PATTERN[,events=FILE][,file=FILE]")]
    Syntax(String),
    /// A file cannot be opened or read.
    #[error("--trace: {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        #[source]
        error: io::Error,
    },
}

/// Writes a record of each command. Add it to a server as an observer.
pub struct Tracer(Mutex<Box<dyn Write + Send>>);

impl Tracer {
    /// Opens the file that the options name; records go to `fallback` if they name none. Returns `None` if no event is
    /// enabled. Relative paths are relative to the working directory.
    ///
    /// # Errors
    ///
    /// [`TraceError::File`].
    pub fn open(
        options: &Options,
        fallback: impl Write + Send + 'static,
    ) -> Result<Option<Self>, TraceError> {
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
        // As in QEMU, a leading minus disables an event again.
        let mut is_enabled = false;
        for pattern in &patterns {
            let (pattern, enable) =
                pattern.strip_prefix('-').map_or((pattern.as_str(), true), |rest| (rest, false));
            if matches(pattern, COMMAND) {
                is_enabled = enable;
            } else {
                log::warn!("--trace: there is no event {pattern:?}; -T help lists those that there are");
            }
        }
        let writer: Box<dyn Write + Send> = match &options.file {
            Some(path) => Box::new(daemon_files::open_to_append(path, is_record).map_err(failed(path))?),
            None => Box::new(fallback),
        };
        Ok(is_enabled.then(|| Self(Mutex::new(writer))))
    }
}

impl Observer for Tracer {
    fn event(&self, event: &Event<'_>) {
        let Event::Replied(completed) = event else { return };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let record = Record(completed);
        let (process, seconds, microseconds) = (std::process::id(), now.as_secs(), now.subsec_micros());
        let line = format!("{process}@{seconds}.{microseconds:06}:{COMMAND} {record}\n");
        // A full disk must not stop reservations.
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
    }
}

/// Returns whether a text begins with a record.
pub(crate) fn is_record(text: &str) -> bool {
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let parts = text.split_once('@').and_then(|(pid, rest)| Some((pid, rest.split_once(':')?)));
    parts.is_some_and(|(pid, (time, rest))| is_number(pid) && is_number(time) && rest.starts_with(COMMAND))
}

/// Displays a command that ended.
struct Record<'a>(&'a Completed<'a>);

impl fmt::Display for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Completed { client, device, cdb, outcome, sense, elapsed } = self.0;
        write!(f, "{client}: ")?;
        match (device, outcome) {
            (_, Outcome::Refused(refusal)) => write!(f, "refused ({refusal}): ")?,
            (Some(id), _) => write!(f, "{id}: ")?,
            (None, _) => {}
        }
        let status = outcome.status();
        write!(f, "{}: {status}", CommandName(*cdb))?;
        if let Outcome::Device { status: Status::GOOD, transferred, .. } = outcome {
            write!(f, ", {transferred} bytes")?;
        }
        if status == Status::CHECK_CONDITION {
            match Sense::parse(sense) {
                Ok(sense) => write!(f, ", {sense}")?,
                Err(error) => write!(f, ", sense unreadable ({error})")?,
            }
        }
        if let Outcome::Failed(failure) = outcome {
            write!(f, " ({})", failure.cause())?;
        }
        write!(f, ", {} us", elapsed.as_micros())
    }
}

/// Returns whether `text` matches a shell pattern as in QEMU's trace options: `*` is any text, `?` any one character.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
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
    fn patterns_match_as_in_a_shell() {
        for pattern in ["*", "pr_helper_command", "pr_*", "*command", "pr_?elper_*", "p*r*d", "**"] {
            assert!(matches(pattern, COMMAND), "{pattern}");
        }
        for pattern in ["", "pr_helper", "*x*", "pr_helper_command?", "Pr_*", "?"] {
            assert!(!matches(pattern, COMMAND), "{pattern}");
        }
    }

    #[test]
    fn records_are_known_by_their_beginning() {
        assert!(is_record(&format!("12@34.000056:{COMMAND} text")));
        for other in ["root:x:0:0:", "12@34:x", "x", ""] {
            assert!(!is_record(other), "{other}");
        }
    }

    #[test]
    fn syntax_of_the_c_helper_is_accepted() {
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
