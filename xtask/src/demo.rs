//! `cargo xtask demo`: shows two nodes of a cluster fence each other on a shared disk, without hardware and
//! without root.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tools::error::{Context as _, Error, Result};
use tools::workspace;

/// The longest time that the helper may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Exit statuses of pr-ctl for success, RESERVATION CONFLICT and a unit attention. They are those of
/// `sg_persist`.
const GOOD: i32 = 0;
const CONFLICT: i32 = 24;
const UNIT_ATTENTION: i32 = 6;

/// The arguments of the helper, with a socket for each node.
const HELPER: &str = "--emulate state --initiator a=a.sock --initiator b=b.sock";

/// The steps: the text to print, the arguments of pr-ctl, and its expected exit status.
const STEPS: [(&str, &str, i32); 9] = [
    ("Node A registers its key with the disk, ...", "--socket a.sock register disk --new-key 0xa", GOOD),
    ("... and so does node B.", "--socket b.sock register disk --new-key 0xb", GOOD),
    (
        "A reserves the disk: only registered nodes may write.",
        "--socket a.sock reserve disk --key 0xa --type 5",
        GOOD,
    ),
    (
        "B cannot reserve it while A holds the reservation: RESERVATION CONFLICT.",
        "--socket b.sock reserve disk --key 0xb --type 5",
        CONFLICT,
    ),
    ("The registrations and the reservation on the disk:", "--socket b.sock status disk", GOOD),
    (
        "A no longer answers. B fences it and takes over the reservation.",
        "--socket b.sock preempt disk --key 0xb --victim 0xa --type 5",
        GOOD,
    ),
    (
        "A was alive after all. The disk reports once that A lost its registration, ...",
        "--socket a.sock keys disk",
        UNIT_ATTENTION,
    ),
    ("... and refuses its changes from now on.", "--socket a.sock reserve disk --key 0xa --type 5", CONFLICT),
    ("A's registration is gone, and so is its permission to write.", "--socket b.sock status disk", GOOD),
];

/// Builds the daemon and the client, and runs the steps.
pub(crate) fn run() -> Result<ExitCode> {
    let packages = ["--package", "pr-helper", "--package", "pr-ctl"];
    let built = workspace::cargo().args(["build", "--quiet"]).args(packages).status();
    if !built.context(|| "run cargo".into())?.success() {
        return Err(Error::new("the daemon and the client could not be built"));
    }
    let programs = workspace::target().join("debug");
    let directory = tempfile::tempdir().context(|| "create a temporary directory".into())?;
    let directory_path = directory.path();
    File::create(directory_path.join("disk"))
        .and_then(|disk| disk.set_len(1 << 20))
        .context(|| "make a disk".into())?;

    println!("To do the same by hand:\n");
    println!("    export PATH={}:$PATH; cd $(mktemp -d); truncate -s 1M disk", programs.display());
    println!("\nThe helper, with a socket for each of two nodes:\n\n    $ pr-helper {HELPER} &\n");
    let log = File::create(directory_path.join("log")).context(|| "make a log".into())?;
    let mut helper = Helper(
        Command::new(programs.join("pr-helper"))
            .args(HELPER.split(' '))
            .current_dir(directory_path)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .context(|| "start pr-helper".into())?,
    );
    helper.wait_until_listening(directory_path)?;
    for (text, words, expected) in STEPS {
        println!("{text}\n\n    $ pr-ctl {words}");
        let output = Command::new(programs.join("pr-ctl"))
            .args(words.split(' '))
            .current_dir(directory_path)
            .stdin(Stdio::null())
            .output()
            .context(|| "run pr-ctl".into())?;
        for line in String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).lines() {
            println!("    {line}");
        }
        println!();
        if output.status.code() != Some(expected) {
            let log = fs::read_to_string(directory_path.join("log")).unwrap_or_default();
            return Err(Error::new(format!("pr-ctl ended with {}, not {expected}\n{log}", output.status)));
        }
    }
    println!("With a real disk, leave out --emulate: then the disk itself keeps A from writing.");
    Ok(ExitCode::SUCCESS)
}

/// The running helper. It is killed on drop.
struct Helper(Child);

impl Helper {
    fn wait_until_listening(&mut self, directory_path: &Path) -> Result<()> {
        let begun = Instant::now();
        loop {
            let log = fs::read_to_string(directory_path.join("log")).unwrap_or_default();
            if log.contains("listening on") {
                return Ok(());
            }
            let ended = self.0.try_wait().context(|| "wait for pr-helper".into())?;
            if ended.is_some() || begun.elapsed() > START_TIMEOUT {
                return Err(Error::new(format!("pr-helper did not start\n{log}")));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
