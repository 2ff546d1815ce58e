//! multipathd's command socket.
//!
//! multipathd takes commands on a stream socket: the length of the command as a native `size_t`, then the command with
//! a NUL; its reply has the same form (`libmpathcmd/mpath_cmd.c` of multipath-tools).

use std::io::{self, Read as _, Write as _};

use rustix::net::SocketAddrUnix;

use crate::socket::connect;

/// multipathd's socket from multipath-tools 0.12 on.
const SOCKET: &str = "/run/multipathd.socket";
/// multipathd's socket without a path name, which belongs to a network namespace.
const ABSTRACT_SOCKET: &[u8] = b"/org/kernel/linux/storage/multipathd";

/// The maximum length of a reply (`MAX_REPLY_LEN` of multipath-tools is 32 MiB).
const REPLY_MAX: usize = 32 << 20;

/// A multipathd that answers.
pub(crate) struct Multipathd {
    address: SocketAddrUnix,
}

impl Multipathd {
    /// Finds the multipathd of this node, and returns it with its answer to `show daemon`; `Ok(None)` if none listens.
    pub(crate) fn find() -> io::Result<Option<(Self, String)>> {
        let mut result = Ok(None);
        for address in [SocketAddrUnix::new(SOCKET), SocketAddrUnix::new_abstract_name(ABSTRACT_SOCKET)] {
            let multipathd = Self { address: address? };
            match multipathd.ask("show daemon") {
                Ok(state) => return Ok(Some((multipathd, state))),
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                }
                Err(error) => result = Err(error),
            }
        }
        result
    }

    /// Runs a command; returns the text of the reply.
    pub(crate) fn ask(&self, command: &str) -> io::Result<String> {
        let mut stream = connect(&self.address)?;
        let command = [command.as_bytes(), b"\0"].concat();
        stream.write_all(&[&command.len().to_ne_bytes()[..], &command].concat())?;
        let mut length = [0; size_of::<usize>()];
        stream.read_exact(&mut length)?;
        let length = usize::from_ne_bytes(length);
        if length > REPLY_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut reply = vec![0; length];
        stream.read_exact(&mut reply)?;
        let text = reply.strip_suffix(b"\0").unwrap_or(&reply);
        Ok(String::from_utf8_lossy(text).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, thread};

    use super::*;

    /// A stand-in for multipathd answers with the command that it received.
    #[test]
    fn commands_and_replies_have_their_length() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let daemon = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut length = [0; size_of::<usize>()];
            stream.read_exact(&mut length).unwrap();
            let mut command = vec![0; usize::from_ne_bytes(length)];
            stream.read_exact(&mut command).unwrap();
            stream.write_all(&[&length[..], &command].concat()).unwrap();
            command
        });
        let multipathd = Multipathd { address: SocketAddrUnix::new(&path).unwrap() };
        assert_eq!(multipathd.ask("show daemon").unwrap(), "show daemon");
        assert_eq!(daemon.join().unwrap(), b"show daemon\0");
    }
}
