//! Clients that pass descriptors to the metrics socket.

use std::{fs, os::fd::AsFd as _, path::Path};

use rustix::io::Errno;
use test_support::{
    Client, Daemon,
    scrape::{connect, get},
};

use crate::null;

/// Returns whether the kernel can refuse messages with descriptors for a socket (`SO_PASSRIGHTS`, since
/// 6.16).
fn kernel_refuses_descriptors() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(16))
}

fn pass_descriptor(socket: &Path) -> std::io::Result<()> {
    Client::connect_silently(socket)?.send(b"GET", &[null().as_fd()])
}

#[test]
fn metrics_socket_refuses_descriptors() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("metrics");
    let daemon = Daemon::start(&[&format!("--metrics-socket={}", socket.display())]);
    pass_descriptor(&daemon.socket()).expect("the command socket takes descriptors");
    let passed = pass_descriptor(&socket);
    if kernel_refuses_descriptors() {
        let error = passed.expect_err("refused by the kernel").raw_os_error();
        assert_eq!(error, Some(Errno::PERM.raw_os_error()));
    } else {
        eprintln!("not run: kernels before 6.16 cannot refuse descriptors");
        passed.unwrap();
    }
    let _idle = connect(&socket);
    assert!(get(&socket, "/state").starts_with("pr-helper "));
    daemon.stop();
}
