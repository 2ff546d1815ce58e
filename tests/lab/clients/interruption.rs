//! A helper that is stopped or killed while QEMU uses it, and started again.

use std::time::Instant;

use fixtures::{Disk, Faulty, State, clean, open};
use rustix::process::Signal;
use test_support::eventually;

use crate::helper::{Helper, Program};
use crate::qemu::{ABORTED, Drive, ILLEGAL_REQUEST, INVALID_OPCODE, Qemu};

const READ_KEYS: &str = "--in --read-keys";
const PERSISTENT_RESERVE_IN: u8 = 0x5e;

fn connected(is_connected: bool) -> (String, bool) {
    ("helper0".to_owned(), is_connected)
}

#[test]
fn qemu_reconnects_to_restarted_helper() {
    let disk = Disk::nexus_a();
    clean(&[open(&disk.block), open(&Disk::nexus_b().block)]);
    let mut helper = Helper::start(Program::PrHelper, &[]);
    let mut qemu = Qemu::start(&helper, &[Drive::block(&disk.block)]);
    qemu.expect_success(0, "--out --register --param-sark=0xa1");
    assert_eq!(qemu.qmp.changes(), []);

    // The guest does not notice a restart between its commands.
    for (signal, code) in [(Signal::TERM, Some(0)), (Signal::KILL, None)] {
        helper.signal(signal);
        assert_eq!(helper.wait().code(), code);
        helper.start_again();
        qemu.expect_success(0, "--out --reserve --param-rk=0xa1 --prout-type=5");
        assert_eq!(qemu.qmp.changes(), [connected(false), connected(true)]);
        assert_eq!(qemu.qmp.managers(), [connected(true)]);
    }
    let port = disk.initiator_port();
    let reserved = State { registered: vec![(port, 0xa1)], reservation: Some((0xa1, 5)) };
    assert_eq!(State::seen_by(&disk), reserved);

    helper.signal(Signal::TERM);
    helper.wait();
    assert_eq!(qemu.qmp.managers(), [connected(true)], "QEMU detects it with the next command");
    let begun = Instant::now();
    assert_eq!(qemu.sg_persist(0, "--out --clear --param-rk=0xa1").status, ABORTED);
    let took = begun.elapsed().as_secs();
    assert!((4..60).contains(&took), "QEMU tries five times in five seconds: {took} s");
    assert_eq!(qemu.qmp.managers(), [connected(false)]);
    assert_eq!(qemu.qmp.changes(), [connected(false)]);
    assert_eq!(State::seen_by(&disk), reserved);

    helper.start_again();
    qemu.expect_success(0, "--out --clear --param-rk=0xa1");
    assert_eq!(qemu.qmp.managers(), [connected(true)]);
    assert_eq!(qemu.qmp.changes(), [connected(true)]);
    assert_eq!(State::seen_by(&disk), State::default());
}

/// The command is in flight on a disk that hangs: on the block device, where the process cannot exit before the kernel aborts
/// the command, and on the generic device, where it exits at once. The guest gets an error, and is served by the next helper.
#[test]
fn helper_killed_with_command_in_flight() {
    let faulty = Faulty::make();
    let healthy = Disk::nexus_a();
    let mut helper = Helper::start(Program::PrHelper, &["--timeout=10", "--slow=1"]);
    let generic = Drive { kind: "scsi-generic", ..Drive::block(&faulty.generic) };
    let drives = [Drive::block(&faulty.block), generic, Drive::block(&healthy.block)];
    let mut qemu = Qemu::start(&helper, &drives);
    for (number, path) in [(0, &faulty.block), (1, &faulty.generic)] {
        assert_eq!(qemu.qmp.changes(), []);
        faulty.hang(PERSISTENT_RESERVE_IN);
        let slow = || helper.log().matches("has not answered PERSISTENT RESERVE IN, READ KEYS").count();
        let before = slow();
        qemu.begin_sg_persist(number, READ_KEYS);
        eventually("the command is in flight", || slow() > before);
        helper.signal(Signal::KILL);
        let outcome = qemu.end();
        // QEMU reports a command without a reply as ILLEGAL REQUEST.
        assert_eq!(outcome.status, ILLEGAL_REQUEST, "{path:?}: {outcome:?}");
        assert_eq!(qemu.qmp.managers(), [connected(false)]);
        assert_eq!(qemu.qmp.changes(), [connected(false)]);
        faulty.heal();
        helper.start_again();
        qemu.expect_success(2, READ_KEYS);
        assert_eq!(qemu.qmp.changes(), [connected(true)]);
        // scsi_debug has no reservations. Its own answer shows that the command reached it.
        assert_eq!(qemu.after_unit_attentions(number, READ_KEYS).status, INVALID_OPCODE);
    }
}
