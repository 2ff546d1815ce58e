//! A minimal helper: a blocking thread for each connection receives a command, sends it to the device, closes
//! the descriptor and replies. It has no checks, no limits and no log. `pr-bench` measures other helpers
//! against it.
//!
//! Only the benchmark may use it: each client can send any command to any device.

#![forbid(unsafe_code)]

use std::{
    env,
    error::Error,
    io::{self, IoSliceMut, Read as _, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    thread,
};

use pr_proto::{CDB_LEN, DATA_MAX, GREETING_LEN, REPLY_LEN, SENSE_LEN};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args_os().nth(1).ok_or("usage: pr-floor SOCKET")?;
    let listener = UnixListener::bind(path)?;
    for stream in listener.incoming() {
        let stream = stream?;
        // The thread ends when its client disconnects or a call fails.
        thread::spawn(move || serve(stream));
    }
    Ok(())
}

fn serve(mut stream: UnixStream) -> io::Result<()> {
    stream.write_all(&[0; GREETING_LEN])?;
    stream.read_exact(&mut [0; GREETING_LEN])?;
    let mut frame = [0; REPLY_LEN + DATA_MAX];
    let mut cdb = [0; CDB_LEN];
    while let Some(device) = receive(&stream, &mut cdb)? {
        let length = u16::from_be_bytes([cdb[7], cdb[8]]).into();
        let (header, data) = frame.split_at_mut(REPLY_LEN);
        let data = &mut data[..length];
        let (announcement, sense) = header.split_at_mut(REPLY_LEN - SENSE_LEN);
        let is_out = cdb[0] == 0x5f;
        if is_out {
            stream.read_exact(data)?;
        }
        let command = sg_io::Command::new(&cdb[..10]).sense(sense);
        let command = if is_out { command.write(data) } else { command.read(data) };
        let done = command.execute(device.as_fd()).map_err(io::Error::other)?;
        drop(device);
        let size = if is_out || done.status != 0 { 0 } else { done.transferred };
        announcement[..4].copy_from_slice(&u32::from(done.status).to_be_bytes());
        announcement[4..].copy_from_slice(&u32::try_from(size).map_err(io::Error::other)?.to_be_bytes());
        stream.write_all(&frame[..REPLY_LEN + size])?;
    }
    Ok(())
}

/// Receives the next CDB and returns its descriptor, or `None` at the end of the stream. Clients must send
/// the 16 bytes at once.
fn receive(stream: &UnixStream, cdb: &mut [u8; CDB_LEN]) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    rustix::net::recvmsg(stream, &mut [IoSliceMut::new(cdb)], &mut control, flags)?;
    let mut messages = control.drain();
    Ok(messages.find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    }))
}
