use pr_backend::*;
use std::{ffi::OsString, process::ExitCode, time::Duration};
pub(crate) struct Config {
    pub(crate) timeout: Duration,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) discard_stderr: bool,
}
#[derive(Clone)]
pub(crate) struct Multipath;
impl Multipath {
    pub(crate) fn start(_: Config) -> Self {
        Self
    }
    pub(crate) fn availability(&self) -> Result<(), &'static str> {
        Err("stub")
    }
    pub(crate) fn probe_library(&self) {
        log::info!("multipath maps are not served: stub");
    }
    pub(crate) fn end(&self) -> bool {
        false
    }
}
impl Backend for Multipath {
    fn claim(&self, _: &Descriptor<'_>) -> Option<Result<Device, NotServed>> {
        None
    }
    fn execute(&self, _: Target<'_>, _: &mut Command<'_>) -> Outcome {
        Outcome::Rejected(scsi_sense::SenseCode::INVALID_OPCODE)
    }
}
pub(crate) enum Role {
    Supervisor(Vec<OsString>),
}
impl Role {
    pub(crate) fn from_args(_: impl Iterator<Item = OsString>) -> Option<Self> {
        None
    }
    pub(crate) fn run(self, f: impl FnOnce()) -> ExitCode {
        f();
        ExitCode::SUCCESS
    }
}
