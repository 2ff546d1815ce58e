//! Connections to other daemons' sockets.

use std::{io, os::unix::net::UnixStream, time::Duration};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// How long a daemon may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Connects without blocking: if the daemon's queue of connections is full, the error is `WouldBlock`. The connection
/// blocks for at most [`TIMEOUT`] in a read or write.
pub(crate) fn connect(address: &SocketAddrUnix) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, address)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}
