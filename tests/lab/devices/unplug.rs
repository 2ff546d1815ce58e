//! A disk that is unplugged during use. This is the last of the tests, because the disk comes back with another name.

use std::{fs, fs::File, thread, time::Duration};

use scsi_sense::Status;
use test_support::Reply;

use fixtures::{Disk, open};

use crate::reservations::daemon;

const READ_KEYS: [u8; 10] = [0x5e, 0, 0, 0, 0, 0, 0, 2, 0, 0];

/// The helper continues to serve other disks.
#[test]
fn unplugged_disk_is_an_error() {
    let daemon = daemon();
    let unplugged = Disk::other();
    let disk = open(&unplugged.block);
    let generic = open(&unplugged.generic);
    let healthy = File::open(Disk::nexus_a().block).unwrap();
    let read_until_failure = |disk: &File| -> Reply {
        let mut client = daemon.client();
        let mut last = client.read(disk, &READ_KEYS).unwrap();
        for _ in 0..2000 {
            let reply = client.read(disk, &READ_KEYS).unwrap();
            if last.status == Status::GOOD && reply.status != Status::GOOD {
                return reply;
            }
            last = reply;
            thread::sleep(Duration::from_millis(1));
        }
        panic!("the disk still answers");
    };
    thread::scope(|scope| {
        let users = [scope.spawn(|| read_until_failure(&disk)), scope.spawn(|| read_until_failure(&generic))];
        thread::sleep(Duration::from_millis(300));
        fs::write(unplugged.sysfs().join("delete"), "1").unwrap();
        for user in users {
            let reply = user.join().unwrap();
            println!("unplugged: {} {:02x?}", reply.status, reply.sense_code());
            assert!(reply.payload.is_empty());
        }
    });
    let mut client = daemon.client();
    for _ in 0..3 {
        assert_ne!(client.read(&disk, &READ_KEYS).unwrap().status, Status::GOOD);
        assert_ne!(client.read(&generic, &READ_KEYS).unwrap().status, Status::GOOD);
    }
    let mut replies = (0..3).map(|_| client.read(&healthy, &READ_KEYS).unwrap().status);
    assert!(replies.any(|status| status == Status::GOOD));
    daemon.wait_for_log("did not answer");
    daemon.stop();
}
