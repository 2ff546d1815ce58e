//! A helper that goes away while QEMU uses it, and comes back.

use std::time::Instant;

use fixtures::{Disk, Faulty, State, clean, open};
use rustix::process::Signal;
use test_support::eventually;

use crate::helper::{Helper, Program};
use crate::qemu::{ABORTED, Drive, ILLEGAL_REQUEST, INVALID_OPCODE, Qemu};

const READ_KEYS: &str = "--in --read-keys";
const PERSISTENT_RESERVE_IN: u8 = 0x5e;

fn connected(is: bool) -> (String, bool) {
    ("helper0".to_owned(), is)
}

#[test]
fn qemu_returns_to_a_helper_that_was_started_again_and_fails_commands_while_there_is_none() {
    let disk = Disk::nexus_a();
    clean(&[open(&disk.block), open(&Disk::nexus_b().block)]);
    let mut helper = Helper::start(Program::Ours, &[]);
    let mut qemu = Qemu::start(&helper, &[Drive::block(&disk.block)]);
    qemu.expect_success(0, "--out --register --param-sark=0xa1");
    assert_eq!(qemu.qmp.changes(), []);

    // In the middle of a story the guest sees nothing of it.
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
    assert_eq!(qemu.qmp.managers(), [connected(true)], "QEMU learns of it with the next command");
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

/// With a command in flight on a disk that hangs: on the block device, where the process cannot end before the kernel
/// gives the command up, and on the generic one, where it ends at once.
#[test]
fn a_helper_that_is_killed_with_a_command_in_flight_is_an_error_and_the_guest_recovers() {
    let faulty = Faulty::make();
    let healthy = Disk::nexus_a();
    let mut helper = Helper::start(Program::Ours, &["--timeout=10", "--slow=1"]);
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
        // So QEMU has it for what it did not hear the end of.
        assert_eq!(outcome.status, ILLEGAL_REQUEST, "{path:?}: {outcome:?}");
        assert_eq!(qemu.qmp.managers(), [connected(false)]);
        assert_eq!(qemu.qmp.changes(), [connected(false)]);
        faulty.heal();
        helper.start_again();
        qemu.expect_success(2, READ_KEYS);
        assert_eq!(qemu.qmp.changes(), [connected(true)]);
        // scsi_debug has no reservations: what counts is that it says so.
        assert_eq!(qemu.after_unit_attentions(number, READ_KEYS).status, INVALID_OPCODE);
    }
}
