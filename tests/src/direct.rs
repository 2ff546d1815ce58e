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
    // At an odd address, or LIO may write over what is behind: see `sg_io::Command::read`.
    let mut buffer = vec![0; 1 + usize::from(u16::from_be_bytes([cdb[7], cdb[8]]))];
    let payload = &mut buffer[1..];
    let command = sg_io::Command::new(cdb).sense(&mut sense).timeout(Duration::from_secs(30));
    let command = match parameters {
        Some(parameters) => command.write(parameters),
        None => command.read(payload),
    };
    let done = command.execute(device.as_fd()).expect("SG_IO");
    assert_eq!(done.host_status, 0, "the command did not reach the device: {done:?}");
    let status = Status(done.status);
    let length = if parameters.is_none() && status == Status::GOOD { done.transferred } else { 0 };
    Reply { status, sense, payload: payload[..length].to_vec() }
}
