//! The command line: the options of QEMU's qemu-pr-helper, and a few more.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{ArgAction, Parser, ValueEnum};

/// Path of the socket without `--socket`: QEMU's default, on both ends.
pub(crate) const DEFAULT_SOCKET: &str = "/var/run/qemu-pr-helper.sock";
/// Path of the pidfile with `--daemon` and without `--pidfile`: QEMU's default.
pub(crate) const DEFAULT_PIDFILE: &str = "/var/run/qemu-pr-helper.pid";

/// Runs SCSI persistent reservation commands on behalf of unprivileged virtual machine monitors.
///
/// A drop-in replacement for qemu-pr-helper: clients connect to a Unix socket and pass PERSISTENT RESERVE
/// commands together with the descriptor of the disk.
// As with getopt_long(3) in the C helper, options may be repeated (the last one counts) and abbreviated. An
// abbreviation that is unique among the C helper's options but not among these is an alias.
#[derive(Debug, Parser)]
#[command(name = "pr-helper", version, infer_long_args = true, args_override_self = true)]
pub(crate) struct Args {
    /// Run in the background; implies a pidfile
    #[arg(short, long)]
    pub(crate) daemon: bool,

    /// Write the process ID to PATH and lock it while the helper runs [default with -d:
    /// /var/run/qemu-pr-helper.pid]
    #[arg(short = 'f', long, value_name = "PATH")]
    pub(crate) pidfile: Option<PathBuf>,

    /// Listen on this socket, unless activated by systemd [default: /var/run/qemu-pr-helper.sock]
    #[arg(short = 'k', long, value_name = "PATH", aliases = ["s", "so", "soc", "sock", "socke"])]
    pub(crate) socket: Option<PathBuf>,

    /// Trace commands: events that match PATTERN (or are listed in events=FILE), to standard error or to
    /// file=FILE
    ///
    /// `-T '*'` traces everything, `-T help` lists the events.
    #[arg(short = 'T', long, alias = "t", value_name = "[enable=]PATTERN[,events=FILE][,file=FILE]")]
    pub(crate) trace: Option<String>,

    /// Run as this user (name or number) once the sockets are open
    #[arg(short, long, alias = "u")]
    pub(crate) user: Option<String>,

    /// Run as this group (name or number) once the sockets are open
    #[arg(short, long)]
    pub(crate) group: Option<String>,

    /// Log more: once for each refused or failed command, twice for everything
    #[arg(short, long, action = ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Log errors only
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Permissions of the socket, in octal [default: 0777 minus the umask]
    #[arg(long, value_name = "MODE", value_parser = parse_mode)]
    pub(crate) socket_mode: Option<u32>,

    /// Owner of the socket, name or number
    #[arg(long, value_name = "USER")]
    pub(crate) socket_owner: Option<String>,

    /// Group of the socket, name or number
    #[arg(long, value_name = "GROUP")]
    pub(crate) socket_group: Option<String>,

    /// Time limit of a command, after which the kernel aborts it
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = parse_seconds)]
    pub(crate) timeout: Duration,

    /// Time limit for commands in flight after SIGTERM
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = parse_seconds)]
    pub(crate) stop_grace: Duration,

    /// Maximum number of connected clients; one process may have a quarter of it, and always 64
    #[arg(long, value_name = "NUMBER", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_clients: u32,

    /// Log a warning when a device has not answered a command for this time
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = parse_seconds)]
    pub(crate) slow: Duration,

    /// What to do when two client processes register keys through the same I_T nexus
    ///
    /// Two guests of one host that share a disk are one host to the disk, and their reservations do not keep
    /// them apart. `refuse` answers the second REGISTER with RESERVATION CONFLICT.
    #[arg(long, value_name = "POLICY", default_value = "warn")]
    pub(crate) shared_nexus: SharedNexusPolicy,

    /// Serve metrics on this Unix socket (mode 0600)
    ///
    /// By HTTP: /metrics is OpenMetrics text; /state lists clients and commands in flight, the same report
    /// that SIGUSR1 writes to the log.
    #[arg(long, value_name = "PATH")]
    pub(crate) metrics_socket: Option<PathBuf>,

    /// Format of log lines
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    pub(crate) log_format: LogFormat,

    /// Emulate disks: serve regular files, with persistent reservations in software
    ///
    /// Registrations with APTPL are stored in DIRECTORY and outlive the daemon; all others are lost when it
    /// exits, as when a disk loses power. For demonstrations and tests, without hardware and without
    /// privilege. Reservations are shared among the clients of this daemon only, and do not prevent any
    /// process from reading or writing a file.
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) emulate: Option<PathBuf>,

    /// With --emulate: also listen on PATH, as the initiator NAME; may be repeated
    ///
    /// Each socket is an initiator of its own, such as a node of a cluster. Without this option there is one
    /// initiator, on the socket of --socket.
    #[arg(long, value_name = "NAME=PATH", requires = "emulate", action = ArgAction::Append, value_parser = parse_initiator)]
    pub(crate) initiator: Vec<(String, PathBuf)>,

    /// Keep `CAP_SYS_ADMIN`, too: for NVMe controllers that do not list the reservation commands in their
    /// effects log, and for Linux before 6.2
    #[arg(long)]
    pub(crate) keep_sys_admin: bool,

    /// What happens when the daemon, once it has started, makes a system call that it does not need
    ///
    /// Such a call is a sign that a client has taken the process over, or of an error of pr-helper. `log` and
    /// `off` are for the search for such an error.
    #[arg(long, value_name = "MODE", default_value = "kill")]
    pub(crate) seccomp: Seccomp,

    /// Start without `CAP_SYS_RAWIO`, the privilege to send reservation commands: for tests, and for devices
    /// that need none
    #[arg(long)]
    pub(crate) unprivileged: bool,

    /// Words that are not options: ignored, as by the C helper
    #[arg(hide = true)]
    pub(crate) ignored: Vec<OsString>,
}

impl Args {
    /// Returns the options with which another process of this binary logs and restricts itself like this one.
    pub(crate) fn passed_on(&self) -> Vec<&'static str> {
        let mut options = vec![match self.log_format {
            LogFormat::Auto => "--log-format=auto",
            LogFormat::Plain => "--log-format=plain",
            LogFormat::Journal => "--log-format=journal",
        }];
        options.push(match self.seccomp {
            Seccomp::Kill => "--seccomp=kill",
            Seccomp::Log => "--seccomp=log",
            Seccomp::Off => "--seccomp=off",
        });
        options.extend(self.quiet.then_some("--quiet"));
        options.extend(std::iter::repeat_n("--verbose", self.verbose.into()));
        options
    }
}

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// `journal` if standard error is the journal, else `plain`
    Auto,
    /// `pr-helper: warning: TEXT`
    Plain,
    /// `<4>TEXT`, with the priorities of sd-daemon(3)
    Journal,
}

/// What to do when two client processes register keys through the same I_T nexus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SharedNexusPolicy {
    /// Log a warning, once for each client, and count it in the metrics
    Warn,
    /// Log a warning and answer RESERVATION CONFLICT
    Refuse,
    /// Do not look
    Ignore,
}

/// What happens at a system call that the process does not need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Seccomp {
    /// The process ends, with the call's number in the log
    Kill,
    /// The call is made, and the kernel logs it
    Log,
    /// System calls are not restricted
    Off,
}

fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("must be three octal digits, such as 0660".into()),
    }
}

/// Longest time limit, one day. The kernel's limit is 32 bits of milliseconds, which overflow after 49 days.
const SECONDS_MAX: u32 = 86400;

fn parse_seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u32>() {
        Ok(seconds @ 1..=SECONDS_MAX) => Ok(Duration::from_secs(seconds.into())),
        _ => Err(format!("must be a whole number of seconds from 1 to {SECONDS_MAX}")),
    }
}

fn parse_initiator(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !path.is_empty() => {
            if name.is_empty()
                || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".:-_".contains(&byte))
            {
                return Err("the name must be of letters, digits and .:-_".into());
            }
            Ok((name.to_owned(), path.into()))
        }
        _ => Err("must be NAME=PATH".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from(std::iter::once("pr-helper").chain(words.iter().copied()))
    }

    #[test]
    fn definition_is_sound() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
    }

    /// Long and short, with the value attached or apart, combined and abbreviated.
    #[test]
    fn spellings_of_the_c_helper_are_accepted() {
        for words in [
            &["-d", "-f", "/p", "-k", "/s", "-T", "*", "-u", "nobody", "-g", "0", "-v", "-q"][..],
            &[
                "--daemon",
                "--pidfile=/p",
                "--socket=/s",
                "--trace=*",
                "--user=nobody",
                "--group=0",
                "--verbose",
                "--quiet",
            ],
            &[
                "--daemon",
                "--pidfile",
                "/p",
                "--socket",
                "/s",
                "--trace",
                "*",
                "--user",
                "nobody",
                "--group",
                "0",
                "-v",
                "-q",
            ],
            &["-df/p", "-k/s", "-T*", "-unobody", "-g0", "-vq"],
            &["--dae", "--pid=/p", "--socket=/s", "--tr=*", "--us=nobody", "--gr=0", "--verb", "--qui"],
        ] {
            let args = parse(words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
            assert!(args.daemon && args.quiet && args.verbose == 1, "{words:?}");
            assert_eq!(args.pidfile, Some("/p".into()), "{words:?}");
            assert_eq!(args.socket, Some("/s".into()), "{words:?}");
            assert_eq!(args.trace.as_deref(), Some("*"), "{words:?}");
            assert_eq!(
                (args.user.as_deref(), args.group.as_deref()),
                (Some("nobody"), Some("0")),
                "{words:?}"
            );
        }
    }

    /// Every prefix that `getopt_long(3)` accepts with the C helper's options.
    #[test]
    fn abbreviations_of_the_c_helper_are_accepted() {
        let with_value = ["pidfile", "socket", "trace", "user", "group"];
        let lone = ["daemon", "verbose", "quiet"];
        let all = [&with_value[..], &lone, &["help", "version"]].concat();
        for option in with_value.into_iter().chain(lone) {
            for length in 1..=option.len() {
                let short = &option[..length];
                if all.iter().filter(|other| other.starts_with(short)).count() > 1 {
                    continue;
                }
                let word = format!("--{short}");
                let words =
                    if with_value.contains(&option) { vec![word.as_str(), "0"] } else { vec![word.as_str()] };
                let args = parse(&words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
                let given = [
                    args.pidfile.is_some(),
                    args.socket.is_some(),
                    args.trace.is_some(),
                    args.user.is_some(),
                    args.group.is_some(),
                    args.daemon,
                    args.verbose > 0,
                    args.quiet,
                ];
                let expected = with_value.into_iter().chain(lone).map(|name| name == option);
                assert!(given.into_iter().eq(expected), "{words:?}");
            }
        }
    }

    #[test]
    fn last_repeated_option_counts() {
        let args = parse(&["-k", "/a", "word", "-k", "/b", "-d", "-d", "-vv", "-v"]).unwrap();
        assert_eq!((args.socket, args.verbose), (Some("/b".into()), 3));
        assert_eq!(args.ignored, ["word"]);
    }

    #[test]
    fn options_of_all_processes_are_passed_on() {
        for words in [&["-vv", "--log-format=journal"][..], &["-q", "--seccomp=log"], &[]] {
            let args = parse(words).unwrap();
            let other = parse(&args.passed_on()).unwrap();
            let logging = |args: Args| (args.verbose, args.quiet, args.log_format, args.seccomp);
            assert_eq!(logging(other), logging(args), "{words:?}");
        }
    }

    #[test]
    fn initiators_have_name_and_socket() {
        let args = parse(&["--emulate", "/d", "--initiator", "a=/a", "--initiator=iqn.x:b=/b=c"]).unwrap();
        assert_eq!(args.initiator, [("a".into(), "/a".into()), ("iqn.x:b".into(), "/b=c".into())]);
        for wrong in ["a", "=/a", "a=", "a b=/a"] {
            assert!(parse(&["--emulate", "/d", "--initiator", wrong]).is_err(), "{wrong}");
        }
        assert!(parse(&["--initiator", "a=/a"]).is_err(), "without --emulate there are no initiators");
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        for words in [
            ["--timeout", "0"],
            ["--timeout", "-1"],
            ["--timeout", "86401"],
            ["--slow", "0"],
            ["--max-clients", "0"],
            ["--socket-mode", "8"],
            ["--socket-mode", "1777"],
        ] {
            assert!(parse(&words).is_err(), "{words:?}");
        }
        assert_eq!(parse(&["--socket-mode", "0660"]).unwrap().socket_mode, Some(0o660));
    }
}
