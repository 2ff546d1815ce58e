//! Well-formed and malformed messages, with any descriptors.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use rustix::net::SendFlags;
use test_support::{Client, LingeringSockets};

use crate::{
    daemon,
    target::{Target, pause},
};

pub(super) fn run(target: &Target) -> Result<(), String> {
    let mut things = Things::new(target).map_err(|error| error.to_string())?;
    while !target.is_gone() {
        // Connections are refused while the daemon is away.
        match attack(target, &mut things) {
            Ok(Some(wrong)) => return Err(wrong),
            Ok(None) => {}
            Err(_) => pause(20),
        }
    }
    Ok(())
}

/// Descriptors to send.
struct Things {
    null: File,
    disk: File,
    pipe: OwnedFd,
    socket: UnixStream,
    lingering: LingeringSockets,
    /// How many lingering sockets were made, each of which occupies a thread of the daemon.
    made: usize,
}

impl Things {
    fn new(target: &Target) -> io::Result<Self> {
        Ok(Self {
            null: daemon::open("/dev/null")?,
            disk: daemon::open(target.directory.join("other"))?,
            pipe: rustix::pipe::pipe()?.0,
            socket: UnixStream::pair()?.0,
            lingering: LingeringSockets::new(),
            made: 0,
        })
    }

    fn any(&self) -> BorrowedFd<'_> {
        match fastrand::u8(..4) {
            0 => self.null.as_fd(),
            1 => self.pipe.as_fd(),
            2 => self.socket.as_fd(),
            _ => self.disk.as_fd(),
        }
    }
}

/// Returns a request with a plausible CDB: 16 bytes, and the parameters of an OUT.
fn request() -> (Vec<u8>, Vec<u8>) {
    let is_out = fastrand::bool();
    let length = if fastrand::u8(..) < 8 { fastrand::u16(..) } else { fastrand::u16(..300) };
    let [high, low] = length.to_be_bytes();
    let mut cdb = vec![0; 16];
    cdb[..9].copy_from_slice(&[
        if is_out { 0x5f } else { 0x5e },
        fastrand::u8(..10),
        fastrand::u8(..9),
        0,
        0,
        0,
        0,
        high,
        low,
    ]);
    let parameters = if is_out { (0..length).map(|_| fastrand::u8(..3)).collect() } else { Vec::new() };
    (cdb, parameters)
}

/// Opens a connection and does something with it. Returns the description of a wrong answer.
fn attack(target: &Target, things: &mut Things) -> io::Result<Option<String>> {
    let mut client = Client::connect(&target.socket())?;
    client.stream().set_read_timeout(Some(Duration::from_secs(5)))?;
    let (mut cdb, parameters) = request();
    match fastrand::u8(..8) {
        // Well-formed, several times.
        0 | 1 => {
            for _ in 0..fastrand::usize(1..20) {
                let (cdb, parameters) = request();
                let is_disk = fastrand::bool();
                let thing = if is_disk { things.disk.as_fd() } else { things.null.as_fd() };
                let reply = if cdb[0] == 0x5e {
                    client.read(thing, &cdb[..10])?
                } else {
                    client.write(thing, &cdb[..10], &parameters)?
                };
                if !is_disk && reply.sense_code() != Some((5, 0x20, 0)) {
                    return Ok(Some(format!("{cdb:02x?} on /dev/null: {reply:02x?}")));
                }
            }
        }
        // In pieces, with pauses.
        2 => {
            let bytes = [cdb, parameters].concat();
            let mut rest = &bytes[..];
            let mut descriptors = vec![things.any()];
            while !rest.is_empty() {
                let (piece, later) = rest.split_at(fastrand::usize(1..=rest.len().min(40)));
                client.send(piece, &descriptors)?;
                descriptors.clear();
                pause(3);
                rest = later;
            }
            read_some(&client)?;
        }
        // Random bytes, with random descriptors.
        3 => {
            let bytes: Vec<u8> = (0..fastrand::usize(1..200)).map(|_| fastrand::u8(..)).collect();
            let descriptors = vec![things.any(); [0, 1, 1, 2, 3, 253][fastrand::usize(..6)]];
            client.send(&bytes, &descriptors)?;
            read_some(&client)?;
        }
        // A damaged request.
        4 => {
            let at = fastrand::usize(..16);
            cdb[at] ^= 1 << fastrand::u8(..8);
            client.send(&cdb, &[things.any()])?;
            client.send(&parameters, &[])?;
            read_some(&client)?;
        }
        // The beginning of a request, and then nothing for a while.
        5 => {
            let bytes = [cdb, parameters].concat();
            client.send(&bytes[..fastrand::usize(1..bytes.len())], &[things.any()])?;
            pause(200);
        }
        // Requests whose replies are not read, and bytes out of band.
        6 => {
            for _ in 0..fastrand::usize(1..30) {
                client.send(&cdb, &[things.disk.as_fd()])?;
                client.send(&parameters, &[])?;
                if fastrand::u8(..) < 20 {
                    let _ = rustix::net::send(client.stream(), b"!", SendFlags::OOB | SendFlags::NOSIGNAL);
                }
            }
            pause(50);
        }
        // A descriptor whose close blocks in the daemon, until this process ends.
        _ if things.made < 16 => {
            things.made += 1;
            let lingering = things.lingering.make();
            let count = fastrand::usize(1..3);
            client.send(&cdb[..fastrand::usize(1..=16)], &vec![lingering.as_fd(); count])?;
            pause(50);
        }
        _ => {}
    }
    Ok(None)
}

/// Reads once what the daemon sends, if it does so soon.
fn read_some(client: &Client) -> io::Result<()> {
    client.stream().set_read_timeout(Some(Duration::from_millis(50)))?;
    let _ = rustix::net::recv(client.stream(), &mut [0; 9000], rustix::net::RecvFlags::empty());
    Ok(())
}
