//! Connections that are opened and closed in a loop, and connections that stay and seldom send a command.

use std::{os::unix::net::UnixStream, time::Duration};

use test_support::Client;

use crate::{
    daemon,
    target::{Target, pause},
};

/// How many connections each thread keeps open. Fewer than the quota of the process, so that no other client has to wait.
const HELD: usize = 100;

/// How many connections are opened and closed between two pauses.
const BURST: usize = 200;

pub(super) fn run(target: &Target) -> Result<(), String> {
    let disk = daemon::open(target.directory.join("other")).map_err(|error| error.to_string())?;
    let mut held: Vec<Client> = Vec::new();
    while !target.is_gone() {
        for _ in 0..BURST {
            if UnixStream::connect(target.socket()).is_err() {
                pause(20);
            }
        }
        while held.len() < HELD {
            let Ok(client) = Client::connect(&target.socket()) else {
                held.clear();
                pause(20);
                break;
            };
            let _ = client.stream().set_read_timeout(Some(Duration::from_secs(5)));
            held.push(client);
        }
        held.retain_mut(|client| {
            fastrand::u8(..) > 20 || client.read(&disk, &[0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0]).is_ok()
        });
        // Leaves the processor to others now and then.
        pause(30);
    }
    Ok(())
}
