//! Clients of the metrics socket.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    time::Duration,
};

use crate::target::{Target, pause};

pub(super) fn run(target: &Target) -> Result<(), String> {
    let mut silent = Vec::new();
    while !target.is_gone() {
        match attack(target, &mut silent) {
            Ok(None) => {}
            Ok(Some(wrong)) => return Err(wrong),
            Err(_) => pause(50),
        }
        pause(20);
    }
    Ok(())
}

/// Opens a connection and does something with it. Returns the description of a wrong answer.
fn attack(target: &Target, silent: &mut Vec<UnixStream>) -> io::Result<Option<String>> {
    let mut stream = UnixStream::connect(target.directory.join("metrics"))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.set_write_timeout(Some(Duration::from_secs(2)))?;
    let page = if fastrand::bool() { "metrics" } else { "state" };
    let request = format!("GET /{page} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes();
    match fastrand::u8(..6) {
        // A scraper.
        0 | 1 => {
            stream.write_all(&request)?;
            let mut reply = Vec::new();
            stream.read_to_end(&mut reply)?;
            // Nothing, if it was the oldest of too many connections.
            if !reply.is_empty() && !reply.starts_with(b"HTTP/1.1 200 OK\r\n") {
                return Ok(Some(format!("/{page}: {}", String::from_utf8_lossy(&reply))));
            }
        }
        // A reply that is not read.
        2 => stream.write_all(&request)?,
        // A request in pieces that ends early.
        3 => {
            let end = fastrand::usize(1..request.len());
            for byte in &request[..end] {
                stream.write_all(&[*byte])?;
            }
        }
        // Any bytes.
        4 => {
            let bytes: Vec<u8> = (0..fastrand::usize(1..20_000)).map(|_| fastrand::u8(..)).collect();
            stream.write_all(&bytes)?;
        }
        // Silence: more connections than are served at a time.
        _ => {
            silent.push(stream);
            if silent.len() > 30 {
                silent.clear();
            }
        }
    }
    Ok(None)
}
