//! A guest that migrates between two hosts with a disk in common. QEMU 11 takes the guest's registration and reservation
//! along, by commands of its own through the destination's helper. Earlier versions leave them with the source.

mod hosts;

use std::{fs, process::Command};

use fixtures::{Disk, Map, Multipath, PREEMPT, REGISTER, State, change_disk, clean, open};
use rustix::process::Signal;
use scsi_sense::{Status, pr::ReservationType};

use self::hosts::{Fenced, Host};
use crate::qemu::{CONFLICT, Qemu};

const KEY: u64 = 0xa1;

/// Write exclusive; write exclusive, registrants only; write exclusive, all registrants.
const TYPES: [u8; 3] = [1, 5, 7];

const READS_RESERVATION: &str = "PERSISTENT RESERVE IN, READ RESERVATION, 24 bytes: GOOD (00h)";
const REGISTERS: &str = "PERSISTENT RESERVE OUT, REGISTER, 24 bytes: GOOD (00h)";

/// Returns the commands that QEMU 11.1 sends through the destination's helper before a guest continues there that is registered
/// and, as far as QEMU knows, holds no reservation. The PREEMPT removes the source's registration. If there is no reservation,
/// it removes the destination's own, too, which the last REGISTER makes again.
fn moves_registration(is_reserved: bool) -> Vec<String> {
    let again = if is_reserved { "RESERVATION CONFLICT (18h)" } else { "GOOD (00h)" };
    vec![
        "PERSISTENT RESERVE IN, READ KEYS, 136 bytes: GOOD (00h)".into(),
        REGISTERS.into(),
        "PERSISTENT RESERVE OUT, PREEMPT, type WRITE EXCLUSIVE (1h), 24 bytes: GOOD (00h)".into(),
        format!("PERSISTENT RESERVE OUT, REGISTER, 24 bytes: {again}"),
    ]
}

/// Returns the commands that QEMU 11.1 sends through the destination's helper before a guest that holds a reservation of this
/// type continues there.
fn moves_reservation(kind: ReservationType) -> Vec<String> {
    let preempts = format!("PERSISTENT RESERVE OUT, PREEMPT, type {kind}, 24 bytes: GOOD (00h)");
    vec![READS_RESERVATION.into(), REGISTERS.into(), preempts]
}

/// Returns the commands of the first migration of a guest that holds a reservation of all registrants. READ RESERVATION has key
/// zero, so QEMU warns that the reservation is not the guest's, and from then on moves the registration alone.
fn takes_for_registration() -> Vec<String> {
    [vec![READS_RESERVATION.into()], moves_registration(true)].concat()
}

/// Returns the two hosts of the plain disk, which has no registrations.
fn hosts_on_disk() -> [Host; 2] {
    let disks = [Disk::nexus_a(), Disk::nexus_b(), Disk::nexus_c()];
    clean(&disks.each_ref().map(|disk| open(&disk.block)));
    let [source, destination, _] = disks;
    [Host::on_disk("source", &source), Host::on_disk("destination", &destination)]
}

/// Returns the two hosts with maps of a disk, which has no registrations.
fn hosts_on_maps() -> [Host; 2] {
    [Host::on_map("source", &Map::a()), Host::on_map("destination", &Map::a_away())]
}

/// Returns whether this version of QEMU migrates reservations.
fn migrates_reservations() -> bool {
    let help = Command::new("qemu-system-x86_64").args(["-device", "scsi-block,help"]).output().unwrap();
    String::from_utf8_lossy(&help.stdout).contains("migrate-pr")
}

#[test]
fn reservation_moves_with_the_guest() {
    let [source, destination] = hosts_on_disk();
    let mut qemu = Qemu::start(&source.helper, &[source.drive()]);
    if !migrates_reservations() {
        return assert_reservation_stays(&source, &destination, qemu);
    }
    let third = Disk::nexus_c();
    for kind in TYPES {
        qemu = move_reservation(&source, &destination, &third, qemu, kind);
    }
    move_registration(&source, &destination, qemu);
}

#[test]
fn reservation_moves_with_the_guest_between_maps() {
    let _multipath = Multipath::with_destination();
    let [source, destination] = hosts_on_maps();
    let mut qemu = Qemu::start(&source.helper, &[source.drive()]);
    if !migrates_reservations() {
        return assert_reservation_stays(&source, &destination, qemu);
    }
    let third = Disk::map_a_other_host();
    for kind in TYPES {
        qemu = move_reservation(&source, &destination, &third, qemu, kind);
    }
    move_registration(&source, &destination, qemu);
}

/// Moves a guest with a reservation of this type to the destination and back. A third host cannot write meanwhile.
fn move_reservation(source: &Host, destination: &Host, third: &Disk, mut qemu: Qemu, kind: u8) -> Qemu {
    println!("--- type {kind}");
    qemu.expect_success(0, &format!("--out --register --param-sark={KEY:#x}"));
    qemu.expect_success(0, &format!("--out --reserve --param-rk={KEY:#x} --prout-type={kind}"));
    assert_eq!(source.state(), source.registered(KEY).with_reservation(KEY, kind));
    let is_all_registrants = ReservationType::new(kind).is_all_registrants();
    // LIO gives the reservation the type of the PREEMPT, which QEMU sends for the registration. By SPC-4 clause 5.13.11.2.4 the
    // reservation would remain, as a PREEMPT of a key other than zero does not preempt all registrants.
    let moved = if is_all_registrants { 1 } else { kind };
    let fenced = Fenced::start(third);
    for (number, (from, to)) in [(source, destination), (destination, source)].into_iter().enumerate() {
        let expected = match (is_all_registrants, number) {
            (false, _) => moves_reservation(ReservationType::new(kind)),
            (true, 0) => takes_for_registration(),
            (true, _) => moves_registration(true),
        };
        let (mark_from, mark_to) = (from.mark(), to.mark());
        qemu = qemu.migrate(Qemu::incoming(&to.helper, &[to.drive()]));
        assert_eq!(to.commands_since(mark_to), expected);
        assert_eq!(from.commands_since(mark_from), [""; 0]);
        assert_eq!(to.state(), to.registered(KEY).with_reservation(KEY, moved));
        // A reservation of type 1 is held by one path, and the kernel may choose another for a write.
        if moved != 1 || to.has_one_path() {
            assert!(qemu.can_write(0), "the guest continues to write");
        }
    }
    fenced.stop();
    qemu.expect_success(0, &format!("--out --clear --param-rk={KEY:#x}"));
    assert_eq!(source.state(), State::default());
    qemu
}

/// Moves a guest with a registration and no reservation to the destination and back.
fn move_registration(source: &Host, destination: &Host, mut qemu: Qemu) {
    println!("--- registered only");
    qemu.expect_success(0, &format!("--out --register --param-sark={KEY:#x}"));
    for to in [destination, source] {
        let mark = to.mark();
        qemu = qemu.migrate(Qemu::incoming(&to.helper, &[to.drive()]));
        assert_eq!(to.commands_since(mark), moves_registration(false));
        assert_eq!(to.state(), to.registered(KEY));
    }
    qemu.expect_success(0, &format!("--out --reserve --param-rk={KEY:#x} --prout-type=5"));
    assert_eq!(source.state(), source.registered(KEY).with_reservation(KEY, 5));
}

/// Checks that a guest is fenced from its own disk after it has moved by a QEMU that does not take the reservation along.
fn assert_reservation_stays(source: &Host, destination: &Host, mut qemu: Qemu) {
    qemu.expect_success(0, &format!("--out --register --param-sark={KEY:#x}"));
    qemu.expect_success(0, &format!("--out --reserve --param-rk={KEY:#x} --prout-type=5"));
    let held = source.registered(KEY).with_reservation(KEY, 5);
    let mark = destination.mark();
    qemu = qemu.migrate(Qemu::incoming(&destination.helper, &[destination.drive()]));
    assert_eq!(destination.commands_since(mark), [""; 0]);
    assert_eq!(destination.state(), held);
    assert!(!qemu.can_write(0));
    let reserve = format!("--out --reserve --param-rk={KEY:#x} --prout-type=5");
    assert_eq!(qemu.after_unit_attentions(0, &reserve).status, CONFLICT);
    assert_eq!(source.state(), held);
}

#[test]
fn cancelled_migration_leaves_the_source() {
    let [source, destination] = hosts_on_disk();
    cancel(&source, &destination, &Disk::nexus_c());
}

#[test]
fn cancelled_migration_leaves_the_source_map() {
    let _multipath = Multipath::with_destination();
    let [source, destination] = hosts_on_maps();
    cancel(&source, &destination, &Disk::map_a_other_host());
}

fn cancel(source: &Host, destination: &Host, third: &Disk) {
    let mut qemu = Qemu::start(&source.helper, &[source.drive()]);
    let held = hold(source, &mut qemu);
    let fenced = Fenced::start(third);
    let mark = destination.mark();
    let incoming = Qemu::incoming(&destination.helper, &[destination.drive()]);
    qemu.cancel_migration(&incoming);
    drop(incoming);
    assert_eq!(source.state(), held);
    assert_eq!(destination.commands_since(mark), [""; 0]);
    assert!(qemu.is_running() && qemu.can_write(0));
    fenced.stop();
}

/// Registers the guest and lets it hold a reservation; returns the state of the disk.
fn hold(source: &Host, qemu: &mut Qemu) -> State {
    qemu.expect_success(0, &format!("--out --register --param-sark={KEY:#x}"));
    qemu.expect_success(0, &format!("--out --reserve --param-rk={KEY:#x} --prout-type=5"));
    let held = source.registered(KEY).with_reservation(KEY, 5);
    assert_eq!(source.state(), held);
    held
}

#[test]
fn failed_migration_leaves_the_source() {
    if migrates_reservations() {
        let [source, destination] = hosts_on_disk();
        fail(&source, destination, &Disk::nexus_c());
    }
}

#[test]
fn failed_migration_leaves_the_source_map() {
    if migrates_reservations() {
        let _multipath = Multipath::with_destination();
        let [source, destination] = hosts_on_maps();
        fail(&source, destination, &Disk::map_a_other_host());
    }
}

/// The destination's helper dies after QEMU has connected to it, so the destination cannot take the reservation.
fn fail(source: &Host, mut destination: Host, third: &Disk) {
    let mut qemu = Qemu::start(&source.helper, &[source.drive()]);
    let held = hold(source, &mut qemu);
    let fenced = Fenced::start(third);
    let incoming = Qemu::incoming(&destination.helper, &[destination.drive()]);
    destination.helper.signal(Signal::KILL);
    destination.helper.wait();
    qemu.fail_to_migrate(incoming);
    assert_eq!(source.state(), held);
    assert!(qemu.can_write(0));
    fenced.stop();
}

/// A disk reports a unit attention once for each nexus, as the answer to the next command. One from before QEMU has opened the
/// disk is not met: the kernel's own commands get it. One that occurs while QEMU waits for the guest fails the migration; the
/// next one succeeds. The helper cannot repeat the command: the guest must see unit attentions.
#[test]
fn unit_attention_fails_one_migration() {
    if !migrates_reservations() {
        return;
    }
    let [source, destination] = hosts_on_disk();
    let mut qemu = Qemu::start(&source.helper, &[source.drive()]);
    qemu.expect_success(0, &format!("--out --register --param-sark={KEY:#x}"));
    let events: [(fn(), &str); 3] = [
        (preempt_destination, "UNIT ATTENTION, REGISTRATIONS PREEMPTED (06/2A/05)"),
        (reset_unit, "UNIT ATTENTION, BUS DEVICE RESET FUNCTION OCCURRED (06/29/03)"),
        (interrupt_path, "UNIT ATTENTION, I_T NEXUS LOSS OCCURRED (06/29/07)"),
    ];
    for (occur, attention) in events {
        let mark = destination.mark();
        let incoming = Qemu::incoming(&destination.helper, &[destination.drive()]);
        occur();
        qemu.fail_to_migrate(incoming);
        let read = format!("PERSISTENT RESERVE IN, READ KEYS, 136 bytes: CHECK CONDITION (02h), {attention}");
        assert_eq!(destination.commands_since(mark), [read]);
        assert_eq!(source.state(), source.registered(KEY));
        occur();
        qemu = qemu.migrate(Qemu::incoming(&destination.helper, &[destination.drive()]));
        assert_eq!(destination.state(), destination.registered(KEY));
        qemu = qemu.migrate(Qemu::incoming(&source.helper, &[source.drive()]));
    }
}

/// Takes the destination's path away and back.
fn interrupt_path() {
    for status in ["offline", "online"] {
        fs::write(Disk::nexus_b().target_port.join("transport_status"), status).unwrap();
    }
}

/// Lets the third host remove a registration of the destination.
fn preempt_destination() {
    let (away, third) = (open(&Disk::nexus_b().block), open(&Disk::nexus_c().block));
    let (away_key, third_key) = (0xb1, 0xc1);
    assert_eq!(change_disk(&away, REGISTER, 0, 0, away_key).status, Status::GOOD);
    assert_eq!(change_disk(&third, REGISTER, 0, 0, third_key).status, Status::GOOD);
    assert_eq!(change_disk(&third, PREEMPT, 5, third_key, away_key).status, Status::GOOD);
    assert_eq!(change_disk(&third, REGISTER, 0, third_key, 0).status, Status::GOOD);
}

/// Lets the third host reset the logical unit.
fn reset_unit() {
    let reset = Command::new("sg_reset").arg("--device").arg(Disk::nexus_c().generic).output().unwrap();
    assert!(reset.status.success(), "{reset:?}");
}
