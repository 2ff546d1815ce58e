//! The same commands without the helper, by `SG_IO`, as a privileged process could always send them.

use std::{os::fd::AsFd, time::Duration};

use pr_proto::SENSE_LEN;
use scsi_sense::Status;

use crate::Reply;

/// Sends a PERSISTENT RESERVE command straight to the device: OUT if there are `parameters`, else IN.
///
/// # Panics
///
/// If the command did not reach the device: what it answers is what tests compare with.
pub fn direct(device: impl AsFd, cdb: &[u8], parameters: Option<&[u8]>) -> Reply {
    let mut sense = [0; SENSE_LEN];
    let mut payload = vec![0; usize::from(u16::from_be_bytes([cdb[7], cdb[8]]))];
    let command = sg_io::Command::new(cdb).sense(&mut sense).timeout(Duration::from_secs(30));
    let command = match parameters {
        Some(parameters) => command.write(parameters),
        None => command.read(&mut payload),
    };
    let done = command.execute(device.as_fd()).expect("SG_IO");
    assert_eq!(done.host_status, 0, "the command did not reach the device: {done:?}");
    let status = Status(done.status);
    payload.truncate(if parameters.is_none() && status == Status::GOOD { done.transferred } else { 0 });
    Reply { status, sense, payload }
}
