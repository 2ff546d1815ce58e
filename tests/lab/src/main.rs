//! `cargo xtask lab`: tests on a real kernel with real SCSI disks, in a virtual machine made of Debian packages.
//!
//! The image is built once and kept under target/lab/SUITE. A run adds the programs of this workspace, boots, and
//! reports what `init.sh`, the guest's first process, says on the second serial port.

mod cpio;
mod flavour;
pub(crate) mod host;
mod image;
mod inner;
mod machine;
mod modules;
pub(crate) mod packages;
mod programs;
mod report;
mod scratch;
mod vmlinux;

use std::io::{self, BufWriter};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{fs, fs::File};

use tempfile::TempDir;

use self::flavour::{CLIENTS, DEVICES, Flavour};
use self::host::KvmVerdict;
use self::image::Image;
use self::machine::{Accelerator, Machine, Output, Parts};
pub(crate) use self::programs::{Target, Task};
use self::report::{Tally, Word, seconds};
use crate::error::{Context as _, Error, Result};
use crate::workspace;

/// How long a machine that really has KVM may take until its init runs: it takes two seconds.
const KVM_PATIENCE: Duration = Duration::from_secs(15);

/// The suite that the machine is made of if nobody wants another.
const SUITE: &str = "trixie";

/// What every command that boots the machine has.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Debian suite that the machine is made of
    #[arg(long, default_value = SUITE)]
    suite: String,

    /// Build the machine's image even if there is one
    #[arg(long)]
    rebuild: bool,

    /// What runs the guest; KVM is used only if it does boot the machine
    #[arg(long, value_enum, default_value_t = Choice::Auto)]
    accel: Choice,

    /// End the machine after so many seconds [default: 1200, with --real-clients 3600]
    #[arg(long, value_name = "SECONDS")]
    time_limit: Option<u64>,
}

/// The accelerators to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Choice {
    Auto,
    Kvm,
    Tcg,
}

/// Options of `cargo xtask lab`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct TestOptions {
    #[command(flatten)]
    machine: Options,

    /// Run the tests of the programs that use the helper, in a larger machine that has them
    #[arg(long)]
    real_clients: bool,

    /// Leave the machine running after the tests, with a shell on this terminal
    #[arg(long, conflicts_with = "shell")]
    keep: bool,

    /// Run no tests: boot to a shell on this terminal
    #[arg(long)]
    shell: bool,

    /// End a test that takes longer than so many seconds [default: 90, with --real-clients 600]
    #[arg(long, value_name = "SECONDS")]
    test_limit: Option<u64>,

    /// Arguments of the tests' program: parts of the names of those to run, --skip NAME, --exact, --ignored
    #[arg(last = true)]
    tests: Vec<String>,
}

impl TestOptions {
    /// Whether it was said which tests to run, or in which machine.
    pub(crate) fn are_chosen(&self) -> bool {
        self.shell || self.real_clients || !self.tests.is_empty() || self.machine.suite != SUITE
    }

    /// The same for tests whose names hold `filter`, in another suite.
    pub(crate) fn in_suite(&self, suite: &str, filter: &str) -> Self {
        let machine = Options { suite: suite.to_owned(), ..self.machine.clone() };
        Self { machine, tests: vec![filter.to_owned()], ..self.clone() }
    }
}

/// Runs the tests, or a shell.
pub(crate) fn run(options: &TestOptions) -> Result<ExitCode> {
    let flavour = if options.real_clients { &CLIENTS } else { &DEVICES };
    let task = if options.shell {
        Task::Shell
    } else {
        let seconds = options.test_limit.unwrap_or(flavour.test_limit);
        Task::Tests { program: flavour.tests, arguments: &options.tests, seconds }
    };
    let targets = [
        Target::Bin("pr-ctl", "pr-ctl"),
        Target::Bin("pr-helper", "pr-helper"),
        Target::Test("tests", flavour.tests),
    ];
    Lab::boot(flavour, &options.machine, &targets, &task, options.keep)?.follow(&task)
}

/// A machine that has booted, and the files of this run.
#[derive(Debug)]
struct Lab {
    machine: Machine,
    began: Instant,
    limit: Duration,
    /// Where the files of this suite are.
    directory: PathBuf,
    run: TempDir,
}

impl Lab {
    /// Builds what is missing and boots; the guest's init runs when this returns.
    fn boot(
        flavour: &'static Flavour,
        options: &Options,
        targets: &[Target],
        task: &Task,
        keep: bool,
    ) -> Result<Self> {
        host::check(flavour.more_programs())?;
        let above = workspace::target().join("lab");
        let directory = above.join(&options.suite);
        fs::create_dir_all(&directory).context(|| format!("create {}", directory.display()))?;
        scratch::sweep(&directory);
        let image = Image::prepare(flavour, &directory, &options.suite, options.rebuild)?;
        image.check_libc()?;
        let run = scratch::create(&directory)?;

        let initrd = run.path().join("initrd.cpio");
        let writing = || format!("write {}", initrd.display());
        let mut output = BufWriter::new(File::create(&initrd).context(writing)?);
        io::copy(&mut File::open(image.base()).context(writing)?, &mut output).context(writing)?;
        programs::archive(targets, task, keep)?.write(&mut output)?;
        output.into_inner().context(writing)?;

        let began = Instant::now();
        let limit = Duration::from_secs(options.time_limit.unwrap_or(flavour.time_limit));
        let parts = Parts {
            kernel: &image.kernel(),
            initrd: &initrd,
            mebibytes: flavour.mebibytes,
            processors: flavour.processors,
            console: &run.path().join("console.log"),
            interactive: keep || matches!(task, Task::Shell),
        };
        let verdict_file = above.join("kvm-is-useless");
        let verdict = KvmVerdict::kept_in(&verdict_file);
        let kvm = match options.accel {
            Choice::Auto => host::kvm_can_be_opened() && !verdict.is_useless(),
            Choice::Kvm => true,
            Choice::Tcg => false,
        };
        if kvm {
            let mut machine = Machine::start(&parts, Accelerator::Kvm)?;
            if is_up(&mut machine, began + KVM_PATIENCE) {
                eprintln!("lab: booted with KVM in {}", seconds(began.elapsed()));
                return Ok(Self { machine, began, limit, directory, run });
            }
            if options.accel == Choice::Kvm {
                let words = machine.last_words();
                return Err(Error::new(format!("the machine does not boot with KVM\n{words}")));
            }
            eprintln!("lab: /dev/kvm does not boot the machine; it is emulated until the host's next boot");
            verdict.set_useless()?;
        }
        let began = Instant::now();
        let mut machine = Machine::start(&parts, Accelerator::Tcg)?;
        if !is_up(&mut machine, began + limit) {
            let words = machine.last_words();
            return Err(Error::new(format!("the machine does not boot\n{words}")));
        }
        eprintln!("lab: booted with emulation in {}", seconds(began.elapsed()));
        Ok(Self { machine, began, limit, directory, run })
    }

    /// Shows what happens until the guest is done, and says what came of it.
    fn follow(mut self, task: &Task) -> Result<ExitCode> {
        let mut tally = Tally::default();
        let deadline = self.began + self.limit;
        let trouble = loop {
            match self.machine.next(Some(deadline)) {
                Output::Line(line) => match Word::parse(&line) {
                    Some(Word::Done) => break None,
                    Some(Word::Shell) => {
                        self.machine.show()?;
                        break None;
                    }
                    Some(Word::Broken(why)) => break Some(format!("the guest cannot go on: {why}")),
                    Some(word) => tally.take(&word).iter().for_each(|line| println!("{line}")),
                    None => println!("{line}"),
                },
                Output::Late => {
                    break Some(format!("the machine was not done after {}", seconds(self.limit)));
                }
                Output::Ended => break Some("the machine stopped before it was done".to_owned()),
            }
        };
        if let Some(trouble) = &trouble {
            tally.stop().iter().for_each(|line| println!("{line}"));
            eprint!("{}", self.machine.last_words());
            eprintln!("lab: {trouble}; all that the kernel said is in {}", self.kept_console().display());
        }
        let success = match task {
            Task::Tests { .. } => {
                if trouble.is_none() && tally.is_empty() {
                    eprintln!("lab: no test ran; what follows -- are parts of the names of tests");
                }
                println!("{}", tally.summary());
                tally.is_success()
            }
            Task::Shell => true,
        };
        Ok(if success && trouble.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Where the console's file of the last run is found.
    fn kept_console(&self) -> PathBuf {
        self.directory.join("console.log")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = fs::rename(self.run.path().join("console.log"), self.kept_console());
    }
}

/// Whether the guest's init runs before `deadline`.
fn is_up(machine: &mut Machine, deadline: Instant) -> bool {
    loop {
        match machine.next(Some(deadline)) {
            Output::Line(line) if Word::parse(&line) == Some(Word::Up) => return true,
            Output::Line(_) => {}
            Output::Late | Output::Ended => return false,
        }
    }
}
