//! Hostile client processes. The daemon gives each process a quota, so they are processes of their own: this program again.

use std::{
    env, io,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use clap::ValueEnum as _;
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    abuse::{Kind, WRONG_ANSWER},
    target::Target,
};

/// All hostile processes. They are killed on drop.
pub(crate) struct Mob(Vec<Child>);

impl Mob {
    pub(crate) fn start(target: &Target) -> io::Result<Self> {
        Kind::value_variants().iter().map(|kind| spawn(*kind, target)).collect::<io::Result<_>>().map(Self)
    }

    /// Stops one process for a while, as by a debugger or a suspended container.
    pub(crate) fn freeze_one(&self) {
        let Some(child) = fastrand::choice(&self.0) else { return };
        let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return };
        let _ = kill_process(pid, Signal::STOP);
        thread::sleep(Duration::from_millis(fastrand::u64(100..2000)));
        let _ = kill_process(pid, Signal::CONT);
    }

    /// Kills one process and starts it again. Its connections and commands in flight are abandoned.
    pub(crate) fn replace_one(&mut self, target: &Target) -> io::Result<()> {
        let index = fastrand::usize(..self.0.len());
        if let (Some(child), Some(kind)) = (self.0.get_mut(index), Kind::value_variants().get(index)) {
            child.kill()?;
            child.wait()?;
            *child = spawn(*kind, target)?;
        }
        Ok(())
    }

    /// Returns the kinds of the processes that have ended by themselves because of a wrong answer.
    pub(crate) fn complaints(&mut self) -> Vec<Kind> {
        let kinds = Kind::value_variants().iter();
        let ended = self.0.iter_mut().zip(kinds).filter_map(|(child, kind)| {
            let status = child.try_wait().ok()??;
            (status.code() == Some(WRONG_ANSWER.into())).then_some(*kind)
        });
        ended.collect()
    }
}

impl Drop for Mob {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
        }
        for child in &mut self.0 {
            let _ = child.wait();
        }
    }
}

fn spawn(kind: Kind, target: &Target) -> io::Result<Child> {
    let mut command = Command::new(env::current_exe()?);
    command.arg("--abuse").arg(kind.name()).arg("--directory").arg(&target.directory);
    if target.has_simulation {
        command.arg("--has-simulation");
    }
    command.stdin(Stdio::null()).spawn()
}
