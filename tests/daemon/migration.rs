//! The commands that QEMU sends for a guest that migrates, byte for byte, on the software target: node `b` is the destination.

use scsi_sense::{
    Status,
    pr::{FullStatus, OutServiceAction, ReservationData},
};
use test_support::Client;

use crate::emulate::{A, Cluster, NONE, change};

const REGISTER: [u8; 10] = [0x5f, 0x00, 0, 0, 0, 0, 0, 0, 24, 0];
/// PREEMPT with type 0, as QEMU 11.0 sends it for a guest that holds no reservation.
const PREEMPT_TYPE_0: [u8; 10] = [0x5f, 0x04, 0x00, 0, 0, 0, 0, 0, 24, 0];
/// PREEMPT with type 1, as QEMU 11.1 sends it in this case.
const PREEMPT_TYPE_1: [u8; 10] = [0x5f, 0x04, 0x01, 0, 0, 0, 0, 0, 24, 0];
const READ_RESERVATION: [u8; 10] = [0x5e, 0x01, 0, 0, 0, 0, 0, 0, 24, 0];
const READ_FULL_STATUS: [u8; 10] = [0x5e, 0x03, 0, 0, 0, 0, 0, 4, 0, 0];

/// Returns the parameter list with which QEMU replaces `from` by `to`, or preempts `to` as `from`.
fn parameters(from: u8, to: u8) -> [u8; 24] {
    let mut list = [0; 24];
    (list[7], list[15]) = (from, to);
    list
}

/// Returns number of registrations, and whether there is a reservation with its type.
fn state(node: &mut Client, disk: &std::fs::File) -> (usize, Option<u8>) {
    let full = node.read(disk, &READ_FULL_STATUS).unwrap();
    assert_eq!(full.status, Status::GOOD, "{:?}", full.sense_code());
    let held = node.read(disk, &READ_RESERVATION).unwrap();
    let held = ReservationData::parse(&held.payload).unwrap().reservation().unwrap();
    (FullStatus::parse(&full.payload).unwrap().iter().count(), held.map(|held| held.kind.code()))
}

/// Without a reservation, a PREEMPT of the own key removes the sender's registration, too (SPC-4 clause 5.13.11.2.5). So QEMU
/// 11.0 leaves the guest unregistered, and 11.1 registers it again.
#[test]
fn registration_moves_if_registered_again() {
    for (preempt, registers_again) in [(PREEMPT_TYPE_0, false), (PREEMPT_TYPE_1, true)] {
        let cluster = Cluster::new();
        let _daemon = cluster.start_with(&[]);
        let (mut source, mut destination) = (cluster.node("a"), cluster.node("b"));
        let disk = cluster.disk("disk");
        let reply = change(&mut source, &disk, OutServiceAction::Register, (NONE, A), false);
        assert_eq!(reply.status, Status::GOOD);
        let mut run = |cdb: [u8; 10], parameters: [u8; 24]| {
            let reply = destination.write(&disk, &cdb, &parameters).unwrap();
            assert_eq!(reply.status, Status::GOOD, "{cdb:02x?}: {:?}", reply.sense_code());
        };
        run(REGISTER, parameters(0, 0xa));
        run(preempt, parameters(0xa, 0xa));
        if registers_again {
            run(REGISTER, parameters(0, 0xa));
        }
        assert_eq!(state(&mut destination, &disk), (usize::from(registers_again), None));
    }
}

#[test]
fn reservation_moves_by_preempt_of_its_type() {
    for kind in [1, 3, 5, 6] {
        let cluster = Cluster::new();
        let _daemon = cluster.start_with(&[]);
        let (mut source, mut destination) = (cluster.node("a"), cluster.node("b"));
        let disk = cluster.disk("disk");
        let reserve = [0x5f, 0x01, kind, 0, 0, 0, 0, 0, 24, 0];
        for (cdb, parameters) in [(REGISTER, parameters(0, 0xa)), (reserve, parameters(0xa, 0))] {
            assert_eq!(source.write(&disk, &cdb, &parameters).unwrap().status, Status::GOOD);
        }
        let preempt = [0x5f, 0x04, kind, 0, 0, 0, 0, 0, 24, 0];
        for (cdb, parameters) in [(REGISTER, parameters(0, 0xa)), (preempt, parameters(0xa, 0xa))] {
            let reply = destination.write(&disk, &cdb, &parameters).unwrap();
            assert_eq!(reply.status, Status::GOOD, "type {kind}: {:?}", reply.sense_code());
        }
        assert_eq!(state(&mut destination, &disk), (1, Some(kind)));
        let reply = source.write(&disk, &reserve, &parameters(0xa, 0)).unwrap();
        assert_eq!(reply.status, Status::RESERVATION_CONFLICT, "the source is fenced");
    }
}
