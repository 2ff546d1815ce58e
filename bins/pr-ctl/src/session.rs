//! A connection to the helper, together with an open device.

use std::{os::fd::OwnedFd, path::Path};

use pr_client::{Client, CommandError};
use scsi_sense::SenseKey;

use crate::{
    args::Args,
    device,
    failure::{Failure, Request},
};

/// A client of the helper, and an open device with its path for error messages.
pub(crate) struct Session<'a> {
    client: Client,
    device: OwnedFd,
    path: &'a Path,
}

impl<'a> Session<'a> {
    /// Opens a device for commands that change nothing, and connects to the helper.
    pub(crate) fn open(args: &Args, path: &'a Path) -> Result<Self, Failure> {
        Self::with(args, path, device::open)
    }

    /// Opens a device for commands that change something, and connects to the helper.
    pub(crate) fn open_for_writing(args: &Args, path: &'a Path) -> Result<Self, Failure> {
        Self::with(args, path, device::open_for_writing)
    }

    fn with(
        args: &Args,
        path: &'a Path,
        open: impl FnOnce(&Path) -> Result<OwnedFd, Failure>,
    ) -> Result<Self, Failure> {
        let device = open(path)?;
        let client = connect(args)?;
        Ok(Self { client, device, path })
    }

    /// Runs a command. `request` names it in the failure.
    pub(crate) fn run<T>(
        &self,
        request: impl Into<Request>,
        command: impl FnOnce(&Client, &OwnedFd) -> Result<T, CommandError>,
    ) -> Result<T, Failure> {
        command(&self.client, &self.device).map_err(|source| Failure::Command {
            request: request.into(),
            device: self.path.to_owned(),
            source: Box::new(source),
        })
    }
}

/// Connects to the helper. Each connection gets a single attempt: at a terminal, a missing helper must be reported at
/// once.
pub(crate) fn connect(args: &Args) -> Result<Client, Failure> {
    let options = Client::options().timeout(args.timeout).attempts(1).connections(1);
    options.connect(&args.socket).map_err(Failure::Unreachable)
}

/// How many unit attentions are skipped before an answer.
const ATTENTIONS_MAX: u32 = 3;

/// Runs a command, again after a unit attention: that reports an earlier event, and the device did not run the command.
pub(crate) fn skip_attentions<T>(
    mut command: impl FnMut() -> Result<T, CommandError>,
) -> Result<T, CommandError> {
    for _ in 0..ATTENTIONS_MAX {
        match command() {
            Err(error) if is_attention(&error) => {}
            found => return found,
        }
    }
    command()
}

/// Returns whether the device reported an event instead of running the command.
pub(crate) fn is_attention(error: &CommandError) -> bool {
    error.sense_code().is_some_and(|code| code.key == SenseKey::UNIT_ATTENTION)
}
