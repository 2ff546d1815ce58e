//! One run: a machine boots, and the guest is followed until it is done.

use std::io::{self, BufWriter};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{fs, fs::File};

use tempfile::TempDir;
use tools::error::{Context as _, Error, Result};
use tools::workspace;

use crate::flavour::Flavour;
use crate::host::{self, KvmVerdict};
use crate::image::Image;
use crate::machine::{Accelerator, Machine, Output, Parts};
use crate::options::{Choice, Options};
use crate::programs::{self, Task};
use crate::report::{Tally, Word, seconds};
use crate::scratch;

/// How long a machine that really has KVM may take until its init runs: it takes two seconds.
const KVM_PATIENCE: Duration = Duration::from_secs(15);

/// A machine that has booted, and the files of this run.
#[derive(Debug)]
pub(crate) struct Lab {
    machine: Machine,
    began: Instant,
    limit: Duration,
    /// Where the files of this suite are.
    directory: PathBuf,
    run: TempDir,
}

impl Lab {
    /// Builds what is missing and boots; the guest's init runs when this returns.
    pub(crate) fn boot(flavour: &'static Flavour, options: &Options, task: &Task) -> Result<Self> {
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
        programs::archive(flavour, task, options.keep)?.write(&mut output)?;
        output.into_inner().context(writing)?;

        let began = Instant::now();
        let limit = Duration::from_secs(options.time_limit.unwrap_or(flavour.time_limit));
        let parts = Parts {
            kernel: &image.kernel(),
            initrd: &initrd,
            mebibytes: flavour.mebibytes,
            processors: flavour.processors,
            console: &run.path().join("console.log"),
            interactive: options.keep || matches!(task, Task::Shell),
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
    pub(crate) fn follow(mut self, task: &Task) -> Result<ExitCode> {
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
