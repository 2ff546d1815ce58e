//! Sockets whose close(2) blocks: for a TCP socket with unsent data and `SO_LINGER`, it takes as long as its peer likes.
//! Any process can make such a socket and pass it on.

use std::{
    io::Write as _,
    net::{TcpListener, TcpStream},
    time::Duration,
};

/// A factory of sockets whose close(2) blocks until the factory is dropped.
pub struct LingeringSockets {
    listener: TcpListener,
    peers: Vec<TcpStream>,
}

impl LingeringSockets {
    /// Returns a factory that has made no socket.
    #[expect(clippy::new_without_default, reason = "it opens a socket")]
    pub fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").expect("a socket"), peers: Vec::new() }
    }

    /// Returns a new socket.
    pub fn make(&mut self) -> TcpStream {
        let mut socket =
            TcpStream::connect(self.listener.local_addr().expect("an address")).expect("a connection");
        self.peers.push(self.listener.accept().expect("a connection").0);
        rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::from_secs(300))).expect("SO_LINGER");
        socket.set_nonblocking(true).expect("O_NONBLOCK");
        while socket.write(&[0; 8192]).is_ok() {}
        socket
    }
}
