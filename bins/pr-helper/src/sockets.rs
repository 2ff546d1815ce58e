//! The sockets that clients connect to: those of the command line, or the one that systemd passed.

use std::{
    error::Error,
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
};

use nix::unistd::Gid;
use pr_backend::DEFAULT_INITIATOR;
use pr_server::{Access, Builder, ListenError, Listener, SocketFile};

use crate::{
    absolute,
    args::{Args, DEFAULT_SOCKET},
    privileges::{self, PrivilegeError},
    sys,
};

/// Sockets to listen on.
pub(crate) struct Sockets<'a>(Vec<Socket<'a>>);

struct Socket<'a> {
    listener: Listener,
    /// For the log.
    name: String,
    initiator: &'a str,
}

/// The files of sockets that were made here.
#[derive(Debug, Clone)]
pub(crate) struct SocketFiles(Arc<[SocketFile]>);

impl SocketFiles {
    /// Removes those that are still there and still the same.
    pub(crate) fn remove(&self) {
        self.0.iter().for_each(SocketFile::remove);
    }
}
