//! The sockets that clients connect to: of the command line, or passed by systemd.

use std::{
    error::Error,
    io,
    os::fd::OwnedFd,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use daemon_files::{Access, ListenError, Listener, SocketFile};
use nix::unistd::Gid;
use pr_backend::{DEFAULT_INITIATOR, with_sources};
use pr_server::Builder;

use crate::{
    args::{Args, DEFAULT_SOCKET},
    paths::absolute,
    privileges::{self, PrivilegeError},
};

/// Sockets to listen on, with the initiator of each.
pub(crate) struct Sockets<'a>(Vec<Socket<'a>>);

struct Socket<'a> {
    listener: Listener,
    /// Name for the log.
    name: String,
    initiator: &'a str,
}

/// The files of the sockets that this process has made. Dropping this, or a clone of it, removes them.
#[derive(Debug, Clone)]
pub(crate) struct SocketFiles(Arc<Mutex<Vec<SocketFile>>>);

impl<'a> Sockets<'a> {
    /// Opens all sockets: the one of `--socket` or of systemd, and those of `--initiator`. With `--initiator`
    /// and without `--socket` there is no default socket.
    pub(crate) fn open(
        args: &'a Args,
        activated: Option<OwnedFd>,
        access: &Access,
    ) -> Result<Self, Box<dyn Error>> {
        let initiator = DEFAULT_INITIATOR;
        let mut sockets = match activated {
            Some(socket) => vec![Socket {
                listener: Listener::from_activation(socket)?,
                name: "the socket that systemd passed".into(),
                initiator,
            }],
            None if args.socket.is_none() && !args.initiator.is_empty() => Vec::new(),
            None => {
                let path = absolute(args.socket.as_deref().unwrap_or(Path::new(DEFAULT_SOCKET)))?;
                let name = path.display().to_string();
                vec![Socket { listener: Listener::bind(&path, access)?, name, initiator }]
            }
        };
        for (initiator, path) in &args.initiator {
            let path = absolute(path)?;
            let name = format!("{} (initiator {initiator})", path.display());
            sockets.push(Socket { listener: Listener::bind(&path, access)?, name, initiator });
        }
        Ok(Self(sockets))
    }

    /// Returns the initiator of each socket.
    pub(crate) fn initiators(&self) -> Vec<&'a str> {
        self.0.iter().map(|socket| socket.initiator).collect()
    }

    /// Returns the paths of the sockets that this process has made.
    pub(crate) fn paths(&self) -> Vec<&Path> {
        self.0.iter().filter_map(|socket| Some(socket.listener.file()?.path())).collect()
    }

    /// Returns the file of the first socket that this process has made.
    pub(crate) fn first_file(&self) -> Option<SocketFile> {
        self.0.iter().find_map(|socket| socket.listener.file().cloned())
    }

    /// Adds all sockets to the server. Returns their names for the log, and their files.
    pub(crate) fn listen(self, mut builder: Builder) -> (Builder, Vec<String>, SocketFiles) {
        let (mut names, mut files) = (Vec::new(), Vec::new());
        for Socket { listener, name, .. } in self.0 {
            names.push(name);
            let (socket, file) = listener.into_parts();
            builder = match file {
                Some(file) => {
                    files.push(file);
                    builder.listen(socket)
                }
                None => builder.listen_shared(socket),
            };
        }
        (builder, names, SocketFiles(Arc::new(Mutex::new(files))))
    }
}

impl SocketFiles {
    /// Removes the files that still exist and are still this process's sockets. Tries each once: later,
    /// another socket can have the same inode number.
    pub(crate) fn remove(&self) {
        let files = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        files.iter().for_each(SocketFile::remove);
    }
}

impl Drop for SocketFiles {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Returns the socket among the descriptors that systemd passed, or `None`. More than one, or `--socket`
/// beside it, is an error.
pub(crate) fn activation(
    args: &Args,
    passed: io::Result<Vec<OwnedFd>>,
) -> Result<Option<OwnedFd>, Box<dyn Error>> {
    let mut passed = passed.map_err(ListenError::Activation)?;
    match (passed.pop(), passed.len()) {
        (None, _) => Ok(None),
        (Some(_), 0) if args.socket.is_some() => Err(
            "--socket cannot be used with socket activation: set the path by ListenStream= in the socket unit".into(),
        ),
        (Some(socket), 0) => Ok(Some(socket)),
        (Some(_), others) => {
            let all = others.saturating_add(1);
            Err(format!("socket activation: {all} sockets were passed where one is expected").into())
        }
    }
}

/// Binds the socket of `--metrics-socket` with mode 0600: clients that send commands must not see the
/// activity of others.
pub(crate) fn bind_for_metrics(path: &Path) -> Result<Listener, String> {
    let access = Access { mode: Some(0o600), without_descriptors: true, ..Access::default() };
    Listener::bind(path, &access).map_err(|error| format!("--metrics-socket: {}", with_sources(&error)))
}

/// Returns owner and mode of the sockets for clients.
pub(crate) fn access(args: &Args) -> Result<Access, PrivilegeError> {
    let owner = args.socket_owner.as_deref().map(privileges::find_user).transpose()?;
    let group = args.socket_group.as_deref().map(privileges::find_group).transpose()?;
    Ok(Access {
        mode: args.socket_mode,
        owner: owner.map(|(uid, _)| uid.as_raw()),
        group: group.map(Gid::as_raw),
        without_descriptors: false,
    })
}
