//! Two cluster nodes on one SCSI disk, played by a guest with two I_T nexuses.

use fixtures::{Disk, State, clean, open};

use crate::helper::{Helper, Program};
use crate::qemu::{ABORTED, CONFLICT, Drive, Qemu};

const A: usize = 0;
const B: usize = 1;
const WITHOUT_HELPER: usize = 2;

#[test]
fn guest_uses_reservations_on_a_disk() {
    run_story(Program::PrHelper);
}

/// Shows that the expected results do not depend on the helper.
#[test]
fn guest_uses_reservations_with_c_helper() {
    run_story(Program::CHelper);
}

fn run_story(program: Program) {
    let (a, b, other) = (Disk::nexus_a(), Disk::nexus_b(), Disk::other());
    clean(&[open(&a.block), open(&b.block)]);
    let registered = |key_a, key_b| {
        let both = [(a.initiator_port(), key_a), (b.initiator_port(), key_b)];
        State { registered: both.into_iter().filter(|(_, key)| *key != 0).collect(), reservation: None }
    };
    let helper = Helper::start(program, &[]);
    let without = Drive { has_manager: false, ..Drive::block(&other.block) };
    let mut qemu = Qemu::start(&helper, &[Drive::block(&a.block), Drive::block(&b.block), without]);
    assert_eq!(qemu.qmp.managers(), [("helper0".to_owned(), true)]);

    // Both kinds of commands need the helper, because QEMU runs as nobody.
    for arguments in ["--in --read-keys", "--out --register --param-sark=0xc1"] {
        assert_eq!(qemu.sg_persist(WITHOUT_HELPER, arguments).status, ABORTED);
    }
    assert_eq!(State::seen_by(&other), State::default());

    let capabilities = qemu.expect_success(A, "--in --report-capabilities");
    for line in ["(PTPL_C): 1", "(CRH): 1", "(TMV): 1", "Write Exclusive, registrants only: 1"] {
        assert!(capabilities.contains(line), "{line}: {capabilities}");
    }
    assert!(qemu.expect_success(A, "--in --read-keys").contains("there are NO registered reservation keys"));

    qemu.expect_success(A, "--out --register --param-sark=0xa1");
    assert_eq!(State::seen_by(&a), registered(0xa1, 0));
    qemu.expect_success(B, "--out --register --param-sark=0xb1");
    assert_eq!(State::seen_by(&a), registered(0xa1, 0xb1));
    let keys = qemu.expect_success(B, "--in --read-keys");
    for text in ["2 registered reservation keys", "0xa1", "0xb1"] {
        assert!(keys.contains(text), "{keys}");
    }

    qemu.expect_success(A, "--out --reserve --param-rk=0xa1 --prout-type=5");
    assert_eq!(State::seen_by(&a), registered(0xa1, 0xb1).with_reservation(0xa1, 5));
    assert_eq!(qemu.sg_persist(B, "--out --reserve --param-rk=0xb1 --prout-type=5").status, CONFLICT);
    assert_eq!(qemu.sg_persist(B, "--out --register --param-rk=0xbad --param-sark=0xb2").status, CONFLICT);
    assert_eq!(State::seen_by(&a), registered(0xa1, 0xb1).with_reservation(0xa1, 5));
    let reservation = qemu.expect_success(B, "--in --read-reservation");
    for text in ["Key=0xa1", "Write Exclusive, registrants only"] {
        assert!(reservation.contains(text), "{reservation}");
    }
    let status = qemu.expect_success(B, "--in --read-full-status");
    assert!(registration(&status, "0xa1").contains("<< Reservation holder >>"), "{status}");
    assert!(registration(&status, "0xb1").contains("not reservation holder"), "{status}");

    qemu.expect_success(B, "--out --preempt --param-rk=0xb1 --param-sark=0xa1 --prout-type=5");
    assert_eq!(State::seen_by(&b), registered(0, 0xb1).with_reservation(0xb1, 5));
    assert_eq!(
        qemu.after_unit_attentions(A, "--out --reserve --param-rk=0xa1 --prout-type=5").status,
        CONFLICT
    );

    qemu.expect_success(B, "--out --release --param-rk=0xb1 --prout-type=5");
    assert_eq!(State::seen_by(&b), registered(0, 0xb1));
    qemu.expect_success(A, "--out --register-ignore --param-sark=0xa2");
    qemu.expect_success(B, "--out --clear --param-rk=0xb1");
    assert_eq!(State::seen_by(&b), State::default());
    assert_eq!(qemu.qmp.managers(), [("helper0".to_owned(), true)]);
    assert_eq!(qemu.qmp.changes(), []);
}

/// Returns the registration of this key in a READ FULL STATUS as printed by `sg_persist`.
fn registration<'a>(status: &'a str, key: &str) -> &'a str {
    let mut registrations = status.split("Key=");
    registrations.find(|text| text.lines().next() == Some(key)).unwrap_or_else(|| panic!("{key}: {status}"))
}
