//! PERSISTENT RESERVE IN and OUT as bytes, and sent to a disk without the helper.

use std::{fs::File, path::Path};

use crate::{Reply, direct};

pub const REGISTER: u8 = 0;
pub const RESERVE: u8 = 1;
pub const RELEASE: u8 = 2;
pub const CLEAR: u8 = 3;
pub const PREEMPT: u8 = 4;
pub const PREEMPT_AND_ABORT: u8 = 5;
pub const REGISTER_AND_IGNORE: u8 = 6;
pub const REGISTER_AND_MOVE: u8 = 7;
pub const REPLACE_LOST_RESERVATION: u8 = 8;

pub const READ_KEYS: u8 = 0;
pub const READ_RESERVATION: u8 = 1;
pub const READ_FULL_STATUS: u8 = 3;

/// Opens a device as a monitor does.
pub fn open(path: &Path) -> File {
    File::options().read(true).write(true).open(path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

/// The basic parameter list of an OUT command: the registered key, and the service action's.
pub fn basic(key: u64, new_key: u64) -> Vec<u8> {
    [key.to_be_bytes(), new_key.to_be_bytes(), [0; 8]].concat()
}

/// PERSISTENT RESERVE OUT. `kind` is scope and type.
pub fn out_cdb(action: u8, kind: u8, parameters: &[u8]) -> [u8; 10] {
    let [.., a, b] = parameters.len().to_be_bytes();
    [0x5f, action, kind, 0, 0, 0, 0, a, b, 0]
}

/// PERSISTENT RESERVE IN.
pub fn in_cdb(action: u8, allocation_length: u16) -> [u8; 10] {
    let [a, b] = allocation_length.to_be_bytes();
    [0x5e, action, 0, 0, 0, 0, 0, a, b, 0]
}

/// The answer to an IN command, behind all unit attentions.
pub fn ask_disk(disk: &File, action: u8) -> Reply {
    insist(|| direct(disk, &in_cdb(action, 8192), None))
}

/// The answer to an OUT command, behind all unit attentions.
pub fn change_disk(disk: &File, action: u8, kind: u8, key: u64, new_key: u64) -> Reply {
    let parameters = basic(key, new_key);
    insist(|| direct(disk, &out_cdb(action, kind, &parameters), Some(&parameters)))
}

fn insist(send: impl FnMut() -> Reply) -> Reply {
    let replies = std::iter::repeat_with(send).take(5);
    replies.into_iter().find(|reply| !matches!(reply.sense_code(), Some((6, ..)))).expect("an answer")
}
