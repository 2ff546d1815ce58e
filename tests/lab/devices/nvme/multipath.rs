//! NVMe's native multipath: one device for several controllers.

use std::time::Instant;

use super::*;

/// Returns a target with native multipath, or `None` if this kernel's has no reservations.
fn target() -> Option<Nvmet> {
    Nvmet::has_reservations()
        .then(|| Nvmet::make(NvmetOptions { has_reservations: true, native_multipath: true }))
}

#[test]
fn native_multipath_device_is_one_host() {
    let Some(target) = target() else { return };
    let disks = [target.connect(0), target.connect(0)];
    assert_eq!(disks[0].block, disks[1].block, "one device for two controllers");
    let daemon = daemon();
    for path in [&disks[0].block, &disks[0].generic] {
        let mut host = Host::new(daemon.client(), path);
        assert_eq!(host.change(REGISTER, 0, 0, 0xa1), GOOD);
        assert_eq!(host.change(REGISTER, 0, 0, 0xa1), CONFLICT);
        assert_eq!(host.change(RESERVE, 5, 0xa1, 0), GOOD);
        assert_eq!(host.read(READ_KEYS, 8192)[8..], *"0000000800000000000000a1");
        assert_eq!(host.change(RELEASE, 5, 0xa1, 0), GOOD);
        assert_eq!(host.change(REGISTER, 0, 0xa1, 0), GOOD);
    }
    daemon.stop();
}

/// The kernel sends each command as either.
#[test]
fn native_multipath_of_two_hosts_is_refused() {
    let Some(target) = target() else { return };
    let disks = [target.connect(0), target.connect(1)];
    assert_eq!(disks[0].block, disks[1].block, "one device for two hosts");
    let daemon = daemon();
    let mut host = Host::new(daemon.client(), &disks[0].block);
    assert_eq!(host.change(REGISTER, 0, 0, 0xa1), check(5, 0x20, 0));
    assert_eq!(host.read(READ_KEYS, 8192), "0000000000000000", "reading is the same for both");
    daemon.wait_for_log("have different host identifiers");
    daemon.stop();
}

#[test]
fn native_multipath_waits_for_a_path() {
    let Some(target) = target() else { return };
    let disk = target.connect(0);
    let daemon = daemon();
    let mut host = Host::new(daemon.client(), &disk.block);
    assert_eq!(host.change(REGISTER, 0, 0, 0xa1), GOOD);
    target.set_access("inaccessible");
    let begun = Instant::now();
    let mut answer = host.ask(READ_KEYS, 8192);
    // The kernel learns of the state by an event of the controller.
    while answer.status == Status::GOOD && begun.elapsed().as_secs() < 30 {
        answer = host.ask(READ_KEYS, 8192);
    }
    assert_eq!(answer.sense_code(), Some((0xb, 8, 0)), "{answer:?}");
    let begun = Instant::now();
    assert_eq!(host.change(RESERVE, 1, 0xa1, 0), check(0xb, 8, 0));
    let waited = begun.elapsed().as_secs();
    assert!((4..30).contains(&waited), "{waited} s");
    daemon.wait_for_log("no usable path");
    target.set_access("optimized");
    test_support::eventually("the path is back", || host.ask(READ_KEYS, 8192).status == Status::GOOD);
    assert_eq!(host.read(READ_RESERVATION, 24).len(), 16, "the reservation was not made");
    assert_eq!(host.change(RESERVE, 1, 0xa1, 0), GOOD);
    daemon.stop();
}
