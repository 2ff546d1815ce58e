//! Commands on disks that are slow or fail. Some clients leave before the answer.

use std::{io, os::fd::AsFd as _, time::Duration};

use scsi_sense::Status;
use test_support::Client;

use crate::{
    daemon::{self, SLOW, open_loop},
    target::{Target, pause},
};

pub(super) fn run(target: &Target) -> Result<(), String> {
    while !target.is_gone() {
        let result = if target.has_simulation { simulated(target) } else { emulated(target) };
        match result {
            Ok(None) => {}
            Ok(Some(wrong)) => return Err(wrong),
            Err(_) => pause(50),
        }
    }
    Ok(())
}

/// Sends a command to a simulated disk. Returns the description of a wrong answer.
fn simulated(target: &Target) -> io::Result<Option<String>> {
    let mut client = Client::connect(&target.socket())?;
    client.stream().set_read_timeout(Some(2 * SLOW + Duration::from_secs(5)))?;
    let mut cdb = [0x5e, 0, 0, 0, 0, 0, 0, 0, 72, 0];
    if fastrand::u8(..4) == 0 {
        let disk = open_loop(2)?;
        client.send(&[&cdb[..], &[0; 6]].concat(), &[disk.as_fd()])?;
        // Some wait for the answer.
        if fastrand::bool() {
            client.expect_reply_to(&cdb, &[]);
            let reply = client.reply()?;
            return Ok((reply.payload.len() != 72).then(|| format!("the slow disk: {reply:02x?}")));
        }
        pause(500);
        return Ok(None);
    }
    let disk = open_loop(0)?;
    for _ in 0..fastrand::usize(1..50) {
        let Some(failure) = fastrand::choice(daemon::failures()) else { continue };
        cdb[3..5].copy_from_slice(&failure.to_be_bytes());
        let is_out = fastrand::bool();
        cdb[0] = if is_out { 0x5f } else { 0x5e };
        let reply = if is_out { client.write(&disk, &cdb, &[1; 72])? } else { client.read(&disk, &cdb)? };
        let reads_as_success = !reply.status.is_failure()
            || reply.sense_code().is_some_and(|(key, ..)| [0, 1, 0xf].contains(&key))
            || (reply.status == Status::CHECK_CONDITION && reply.sense == [0; 96]);
        if reads_as_success || !reply.payload.is_empty() {
            return Ok(Some(format!("failure {failure}: {reply:02x?}")));
        }
    }
    pause(20);
    Ok(None)
}

/// Sends changes to the emulated disk, and does not wait for all replies.
fn emulated(target: &Target) -> io::Result<Option<String>> {
    let mut client = Client::connect(&target.socket())?;
    let disk = daemon::open(target.directory.join("other"))?;
    let mut parameters = [0; 24];
    parameters[8..16].fill(fastrand::u8(..3));
    parameters[20] = fastrand::u8(..2);
    for _ in 0..fastrand::usize(1..10) {
        client.send(&[0x5f, 6, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0], &[disk.as_fd()])?;
        client.send(&parameters, &[])?;
    }
    pause(50);
    Ok(None)
}
