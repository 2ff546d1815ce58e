//! A disk that does not answer, made without a disk: `--emulate` reads a disk's state from a file, and
//! open(2) of that file blocks while another process holds a lease on it.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use scsi_sense::pr::OutServiceAction;
use test_support::Client;

use crate::{
    emulate::{A, Cluster, NONE, change},
    read_keys,
};

/// The disk `disk` of a cluster. The first command to it hangs until [`release`](Self::release) is called, or
/// until the kernel breaks the lease (/proc/sys/fs/lease-break-time, 45 seconds).
pub(crate) struct HungDisk {
    cluster: Cluster,
    lease: Option<File>,
}

impl HungDisk {
    pub(crate) fn new() -> Self {
        let cluster = Cluster::new();
        let daemon = cluster.start_with(&[]);
        change(&mut cluster.node("a"), &cluster.disk("disk"), OutServiceAction::Register, (NONE, A), true);
        daemon.stop();
        let state = cluster.state_files().remove(0);
        let lease = lease(File::options().write(true).open(state).unwrap()).expect("a lease");
        Self { cluster, lease: Some(lease) }
    }

    /// Returns the cluster, to start a daemon in it.
    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Sends READ KEYS, which hangs, and returns without waiting for the reply.
    pub(crate) fn begin(&self) -> Client {
        let mut client = self.cluster.node("a");
        client.expect_reply_to(&read_keys(8)[..10], &[]);
        client.send(&read_keys(8), &[self.cluster.disk("disk").as_fd()]).unwrap();
        client
    }

    /// Lets the disk answer.
    pub(crate) fn release(&mut self) {
        self.lease = None;
    }
}

/// Takes a write lease, which ends when the file is closed. The kernel reports a blocked open(2) by SIGURG,
/// which is ignored.
fn lease(file: File) -> io::Result<File> {
    // <asm-generic/fcntl.h>
    const F_SETSIG: i32 = 10;
    for (operation, argument) in [(F_SETSIG, libc::SIGURG), (libc::F_SETLEASE, libc::F_WRLCK)] {
        // SAFETY: both operations take an integer argument, and the descriptor is open.
        if unsafe { libc::fcntl(file.as_raw_fd(), operation, argument) } == -1 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(file)
}
