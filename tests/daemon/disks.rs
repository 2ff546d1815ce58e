//! Simulated disks, for tests on hosts with loop devices.

use std::fs::File;

use test_support::{Daemon, Options};

/// Starts a daemon that sees `/dev/loop0` as a disk and `/dev/loop1` as a disk that never answers.
pub fn start(mut options: Options) -> Daemon {
    let disk = test_support::build("simulated-disk").expect("the disk").join("libsimulated_disk.so");
    options.environment.push(("LD_PRELOAD".into(), disk.display().to_string()));
    options.environment.push(("SIMULATED_DISK_HANGING".into(), "1".into()));
    options.arguments.push("--stop-grace=20".into());
    Daemon::with(options)
}

/// Opens the loop device with this number.
pub fn disk(minor: u32) -> File {
    File::options().read(true).write(true).open(format!("/dev/loop{minor}")).unwrap()
}
