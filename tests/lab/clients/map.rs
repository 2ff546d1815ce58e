//! A guest whose disk is a multipath map, and another machine with a path to the same disk.

use fixtures::{CLEAR, Disk, Map, Multipath, PREEMPT, REGISTER, RESERVE, State, change_disk, open};
use scsi_sense::Status;

use crate::helper::{Helper, Program};
use crate::qemu::{CONFLICT, Drive, Qemu};

#[test]
fn guest_uses_reservations_on_a_map() {
    let _multipath = Multipath::start();
    let map = Map::a();
    let other = open(&Disk::map_a_other_host().block);
    let change_other = |action, key, new_key| change_disk(&other, action, 5, key, new_key).status;
    let helper = Helper::start(Program::PrHelper, &[]);
    let mut qemu = Qemu::start(&helper, &[Drive::block(&map.node)]);

    qemu.expect_success(0, "--out --register --param-sark=0xa1");
    assert_eq!(map.state(), map.registered(0xa1));
    qemu.expect_success(0, "--out --reserve --param-rk=0xa1 --prout-type=5");
    assert_eq!(map.state(), map.registered(0xa1).with_reservation(0xa1, 5));
    let status = qemu.expect_success(0, "--in --read-full-status");
    assert_eq!(status.matches("Key=0xa1").count(), 2, "one for each path: {status}");
    for arguments in ["--in --read-keys", "--in --read-reservation"] {
        assert!(qemu.expect_success(0, arguments).contains("0xa1"));
    }
    assert!(qemu.expect_success(0, "--in --report-capabilities").contains("(PTPL_C): 1"));

    assert_eq!(change_other(REGISTER, 0, 0x07), Status::GOOD);
    assert_eq!(change_other(RESERVE, 0x07, 0), Status::RESERVATION_CONFLICT);
    assert_eq!(change_other(PREEMPT, 0x07, 0xa1), Status::GOOD);
    assert_eq!(map.state(), State::default().with_other_host(0x07).with_reservation(0x07, 5));
    assert_eq!(
        qemu.after_unit_attentions(0, "--out --reserve --param-rk=0xa1 --prout-type=5").status,
        CONFLICT
    );

    assert_eq!(qemu.after_unit_attentions(0, "--out --register-ignore --param-sark=0xa2").status, 0);
    assert_eq!(
        qemu.after_unit_attentions(0, "--out --reserve --param-rk=0xa2 --prout-type=5").status,
        CONFLICT
    );
    qemu.expect_success(0, "--out --preempt --param-rk=0xa2 --param-sark=0x07 --prout-type=5");
    assert_eq!(map.state(), map.registered(0xa2).with_reservation(0xa2, 5));
    assert_eq!(change_other(CLEAR, 0x07, 0), Status::RESERVATION_CONFLICT);
    qemu.expect_success(0, "--out --release --param-rk=0xa2 --prout-type=5");
    assert_eq!(map.state(), map.registered(0xa2));
    qemu.expect_success(0, "--out --clear --param-rk=0xa2");
    assert_eq!(map.state(), State::default());
    assert_eq!(qemu.qmp.changes(), []);
}
