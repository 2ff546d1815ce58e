//! A helper and a device, both at hand.

use std::{fmt, os::fd::OwnedFd, path::Path};

use pr_client::{Client, CommandError};

use crate::{args::Args, device, failure::Failure};

/// What a command needs.
pub(crate) struct Session<'a> {
    client: Client,
    device: OwnedFd,
    path: &'a Path,
}

impl<'a> Session<'a> {
    /// For commands that read.
    pub(crate) fn open(args: &Args, path: &'a Path) -> Result<Self, Failure> {
        Self::with(args, path, device::open)
    }

    /// For commands that change something.
    pub(crate) fn open_for_writing(args: &Args, path: &'a Path) -> Result<Self, Failure> {
        Self::with(args, path, device::open_for_writing)
    }

    fn with(
        args: &Args,
        path: &'a Path,
        open: impl FnOnce(&Path) -> Result<OwnedFd, Failure>,
    ) -> Result<Self, Failure> {
        let device = open(path)?;
        let client = connect(args).map_err(|source| Failure::Helper { path: args.socket.clone(), source })?;
        Ok(Self { client, device, path })
    }

    /// Runs a command, which goes by this name if it fails.
    pub(crate) fn run<T>(
        &self,
        name: impl fmt::Display,
        command: impl FnOnce(&Client, &OwnedFd) -> Result<T, CommandError>,
    ) -> Result<T, Failure> {
        command(&self.client, &self.device).map_err(|source| Failure::Command {
            command: name.to_string(),
            device: self.path.to_owned(),
            source: Box::new(source),
        })
    }
}

/// Connects to the helper. Who waits at a terminal wants to know at once that it is not there: one attempt each time.
pub(crate) fn connect(args: &Args) -> Result<Client, pr_client::Error> {
    Client::options().timeout(args.timeout).attempts(1).connections(1).connect(&args.socket)
}
