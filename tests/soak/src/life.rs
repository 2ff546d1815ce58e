//! The life of one daemon: rounds of abuse, and after each a pause in which it must be back to what it used before.

use std::{
    io::{self, Read as _, Write as _},
    os::{fd::AsFd as _, unix::net::UnixStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use test_support::Client;

use crate::{
    daemon::{Daemon, Figures, Place, open_loop},
    mob::Mob,
    target::Target,
    verdict::Round,
    watch::Watch,
};

/// How long the hostile processes run in a round.
const ABUSE: Duration = Duration::from_secs(40);

/// How long the daemon may take to close what is left of the hostile processes, and to let threads exit. Commands on the slow
/// disk take two seconds, and parked threads exit after five.
const SETTLE: Duration = Duration::from_secs(20);

/// How many clients wait for the disk that never answers.
const HUNG: usize = 4;

/// A running daemon.
pub(crate) struct Life<'a> {
    daemon: Daemon,
    place: &'a Place,
    number: u32,
    /// Clients that wait for ever.
    hung: Vec<Client>,
    /// Hostile processes at the end of the life.
    mob: Option<Mob>,
}

/// How a life ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// By SIGTERM.
    Stop,
    /// By SIGKILL.
    Kill,
}

impl<'a> Life<'a> {
    /// Starts a daemon, and the clients that wait for the hung disk.
    pub(crate) fn start(program: &Path, place: &'a Place, number: u32) -> io::Result<Self> {
        let daemon = Daemon::start(program, place, number)?;
        let mut hung = Vec::new();
        if place.has_simulation() {
            for _ in 0..HUNG {
                let mut client = Client::connect(&place.socket())?;
                let request = [0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0];
                client.send(&request, &[open_loop(1)?.as_fd()])?;
                hung.push(client);
            }
        }
        Ok(Self { daemon, place, number, hung, mob: None })
    }

    /// Runs rounds until `end`, when the abuse is still going on.
    pub(crate) fn run(&mut self, watch: &Watch, end: Instant) -> io::Result<Vec<Round>> {
        let begun = Instant::now();
        let target = Target {
            directory: self.place.directory().to_owned(),
            has_simulation: self.place.has_simulation(),
        };
        let before = self.busiest(Duration::from_secs(2))?;
        let mut rounds = Vec::new();
        let length = ABUSE.min(end.saturating_duration_since(begun) / 3);
        while watch.faults().is_empty() {
            let mut mob = Mob::start(&target)?;
            let peak = self.abuse(watch, &mut mob, &target, end.min(Instant::now() + length))?;
            if Instant::now() >= end {
                self.mob = Some(mob);
                break;
            }
            drop(mob);
            let quiet = self.quiet(watch, before)?;
            let round = Round { life: self.number, at: begun.elapsed(), peak, quiet };
            eprintln!("soak: {round}");
            rounds.push(round);
        }
        Ok(rounds)
    }

    /// Lets the hostile processes run. Returns the greatest figures.
    fn abuse(&self, watch: &Watch, mob: &mut Mob, target: &Target, end: Instant) -> io::Result<Figures> {
        let mut peak = self.daemon.figures()?;
        while Instant::now() < end && watch.faults().is_empty() {
            match fastrand::u8(..8) {
                0 => mob.freeze_one(),
                1 => mob.replace_one(target)?,
                _ => thread::sleep(Duration::from_millis(500)),
            }
            peak = greatest(peak, self.daemon.figures()?);
            for kind in mob.complaints() {
                watch.fault(format!("a hostile process has seen a wrong answer (see above): {kind:?}"));
            }
        }
        Ok(peak)
    }

    /// Returns the greatest figures within `time`.
    fn busiest(&self, time: Duration) -> io::Result<Figures> {
        let begun = Instant::now();
        let mut peak = self.daemon.figures()?;
        while begun.elapsed() < time {
            thread::sleep(Duration::from_millis(20));
            peak = greatest(peak, self.daemon.figures()?);
        }
        Ok(peak)
    }

    /// Waits until the daemon uses no more descriptors and threads than `before`.
    fn quiet(&self, watch: &Watch, before: Figures) -> io::Result<Figures> {
        let begun = Instant::now();
        loop {
            let now = self.busiest(Duration::from_secs(1))?;
            if now.descriptors <= before.descriptors && now.threads <= before.threads {
                self.check_metrics(watch);
                return Ok(now);
            }
            if begun.elapsed() > SETTLE {
                watch.fault(format!(
                    "{} descriptors and {} threads {SETTLE:.0?} after the abuse, before it {} and {}",
                    now.descriptors, now.threads, before.descriptors, before.threads
                ));
                return Ok(now);
            }
        }
    }

    /// Checks that the metrics are served and that there was no panic.
    fn check_metrics(&self, watch: &Watch) {
        let ask = || {
            let mut stream = UnixStream::connect(self.place.path("metrics"))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n")?;
            let mut reply = String::new();
            stream.read_to_string(&mut reply)?;
            Ok::<_, io::Error>(reply)
        };
        match ask() {
            Ok(reply) if reply.contains("\npr_helper_panics_total 0\n") => {}
            Ok(reply) => watch.fault(format!("pr_helper_panics_total is not 0: {reply}")),
            Err(error) => watch.fault(format!("the metrics are not served: {error}")),
        }
    }

    /// Ends the daemon while hostile processes have commands in flight.
    pub(crate) fn end(&mut self, watch: &Watch, end: End) -> io::Result<()> {
        let status = match end {
            End::Stop => self.daemon.end(Signal::TERM)?,
            End::Kill => self.daemon.end(Signal::KILL)?,
        };
        // It ends with 1 if commands took longer than its grace time, as on the disk that never answers.
        let is_in_flight = self.daemon.log().contains("stopped with commands in flight");
        if matches!(end, End::Stop) && status.code() != Some(is_in_flight.into()) {
            watch.fault(format!("the daemon ended with {status} after SIGTERM:\n{}", self.daemon.log()));
        }
        if let Some(panic) = self.daemon.whole_log().lines().find(|line| line.contains("panicked")) {
            watch.fault(format!("the daemon has panicked: {panic}"));
        }
        if !watch.faults().is_empty() {
            // What the daemon says of the clients of this process.
            let own = format!("client pid {} ", std::process::id());
            let log = self.daemon.whole_log();
            log.lines().filter(|line| line.contains(&own)).for_each(|line| eprintln!("soak: {line}"));
        }
        self.mob = None;
        self.hung.clear();
        Ok(())
    }
}

fn greatest(one: Figures, other: Figures) -> Figures {
    Figures {
        resident: one.resident.max(other.resident),
        descriptors: one.descriptors.max(other.descriptors),
        threads: one.threads.max(other.threads),
    }
}
