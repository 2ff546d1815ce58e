//! The daemon's files in directories that belong to other users.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
    path::Path,
};

use scsi_sense::{Status, pr::OutServiceAction};
use test_support::{Client, Daemon, eventually};

use crate::{
    emulate::{A, B, Cluster, NONE, change},
    null, read_keys,
};

/// A user ID that no user has.
const OTHER: u32 = 54_321;

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("not run: this needs root");
    }
    is_root
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn socket_gets_its_mode_and_owner() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    chown(directory.path(), Some(OTHER), Some(OTHER)).unwrap();
    // New files get the group of a set-group-ID directory.
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o2755)).unwrap();
    let socket = directory.path().join("socket");
    let mut child = Daemon::command()
        .args(["--unprivileged", "--socket-mode=0662", "--socket-owner=1234", "--socket-group=2345"])
        .args(["-k", text(&socket)])
        .spawn()
        .unwrap();
    eventually("the daemon listens", || Client::connect(&socket).is_ok());
    let metadata = fs::metadata(&socket).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (1234, 2345, 0o662));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn another_users_pidfile_is_replaced() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let pidfile = directory.path().join("pid");
    fs::write(&pidfile, "1\n").unwrap();
    chown(&pidfile, Some(OTHER), Some(OTHER)).unwrap();
    fs::set_permissions(&pidfile, fs::Permissions::from_mode(0o666)).unwrap();
    let daemon = Daemon::start(&["-f", text(&pidfile)]);
    assert_eq!(fs::read_to_string(&pidfile).unwrap(), format!("{}\n", daemon.pid()));
    let metadata = fs::metadata(&pidfile).unwrap();
    assert_eq!((metadata.uid(), metadata.mode() & 0o777), (0, 0o600));
    daemon.stop();
    assert!(!pidfile.exists());
}

#[test]
fn trace_file_symlink_is_refused() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (victim, path) = (directory.path().join("victim"), directory.path().join("trace"));
    fs::write(&victim, "").unwrap();
    symlink(&victim, &path).unwrap();
    chown(directory.path(), Some(OTHER), Some(OTHER)).unwrap();
    let trace = format!("*,file={}", path.display());
    let (socket, log) = (directory.path().join("socket"), directory.path().join("log"));
    let mut child = Daemon::command()
        .args(["--unprivileged", "-k", text(&socket), "-T", &trace])
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    eventually("the daemon listens or exits", || socket.exists() || child.try_wait().unwrap().is_some());
    let _ = child.kill();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let message = fs::read_to_string(&log).unwrap();
    assert!(message.contains(&format!("--trace: {}: is a link", path.display())), "{message}");

    fs::remove_file(&path).unwrap();
    let daemon = Daemon::start(&["-T", &trace]);
    daemon.client().read(null(), &read_keys(8)[..10]).unwrap();
    eventually("the command is traced", || {
        fs::read_to_string(&path).is_ok_and(|text| text.contains("READ KEYS"))
    });
    assert_eq!(fs::read_to_string(&victim).unwrap(), "");
}

/// Registrations must not change when the path of the directory is moved to another one.
#[test]
fn reservations_stay_in_the_opened_directory() {
    let cluster = Cluster::new();
    let _daemon = cluster.start_with(&[]);
    let register = |disk: &str, key, aptpl| {
        let disk = cluster.disk(disk);
        change(&mut cluster.node("a"), &disk, OutServiceAction::Register, (NONE, key), aptpl).status
    };
    assert_eq!(register("disk", A, true), Status::GOOD);
    let saved = cluster.state_files();
    assert_eq!(saved.len(), 1);
    fs::rename(cluster.path("state"), cluster.path("away")).unwrap();
    fs::create_dir(cluster.path("state")).unwrap();
    assert_eq!(register("other", B, true), Status::GOOD);
    assert_eq!(cluster.state_files(), Vec::<std::path::PathBuf>::new());
    assert_eq!(fs::read_dir(cluster.path("away")).unwrap().count(), 2);
}
