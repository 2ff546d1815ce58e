//! The state of a unit, as its own commands report it.

use pr_target::{LogicalUnit, Nexus, test_utils::MemoryStore};
use scsi_sense::{
    Status,
    pr::{
        Capabilities, FullStatus, InServiceAction, Keys, PersistentReserveIn, ReservationData, TransportId,
    },
};

use super::model::{Held, Model};

/// Reads the state, and checks that its parts agree.
pub(super) fn of(unit: &mut LogicalUnit<MemoryStore>) -> Model {
    let data = read(unit, InServiceAction::ReadFullStatus);
    let status = FullStatus::parse(&data).expect("READ FULL STATUS");
    let data = read(unit, InServiceAction::ReadReservation);
    let reservation = ReservationData::parse(&data).expect("READ RESERVATION");
    let data = read(unit, InServiceAction::ReadKeys);
    let keys = Keys::parse(&data).expect("READ KEYS");
    let data = read(unit, InServiceAction::ReportCapabilities);
    let capabilities = Capabilities::parse(&data).expect("REPORT CAPABILITIES");
    assert!(keys.iter().eq(status.iter().map(|one| one.key)), "READ KEYS agrees with READ FULL STATUS");
    assert_eq!([keys.generation(), reservation.generation()], [status.generation(); 2]);

    let mut model = Model {
        generation: status.generation(),
        aptpl: capabilities.persist_through_power_loss_activated,
        ..Model::default()
    };
    let mut holders = Vec::new();
    for one in &status {
        let name = nexus(one.transport_id().expect("a TransportID"), one.relative_port).to_string();
        assert!(!one.key.is_zero(), "{name} is registered with a key");
        holders.extend(one.reservation_holder.then(|| name.clone()));
        assert_eq!(model.keys.insert(name, one.key.0), None, "a nexus is registered once");
    }
    if let Some(held) = reservation.reservation().expect("a reservation") {
        let kind = held.kind.code();
        let holder = if held.kind.is_all_registrants() {
            assert_eq!((holders.len(), held.key.0), (model.keys.len(), 0), "all registrants hold it");
            None
        } else {
            let [holder] = &holders[..] else { panic!("{holders:?} hold a reservation of type {kind}") };
            assert_eq!(model.keys.get(holder), Some(&held.key.0), "the holder's key");
            Some(holder.clone())
        };
        assert!(!holders.is_empty(), "somebody registered holds it");
        assert!(held.kind.name().is_some() && held.scope.code() == 0);
        model.held = Some(Held { kind, holder });
    } else {
        assert!(holders.is_empty());
    }
    model
}

fn read(unit: &mut LogicalUnit<MemoryStore>, action: InServiceAction) -> Vec<u8> {
    let reader = nexus(TransportId::Sas { address: 0xfeed }, 1);
    // Enough for all nexuses that the few TransportIDs of an input can register.
    let cdb = PersistentReserveIn { action, allocation_length: 8192 }.to_cdb();
    let mut data = vec![0; 8192];
    let answer = unit.execute(&reader, &cdb, &[], &mut data);
    assert_eq!(answer.status, Status::GOOD);
    assert!(answer.length < data.len());
    data.truncate(answer.length);
    data
}

fn nexus(id: TransportId<'_>, port: u16) -> Nexus {
    Nexus::new(id, port).expect("a TransportID that was parsed is short enough")
}

/// Returns the names of the initiator port's nexus with this port, and of its nexuses with all ports. `None` if the bytes are
/// no TransportID.
pub(super) fn names(id: &[u8], port: u16, ports: [u16; 2]) -> Option<(String, [String; 2])> {
    let id = TransportId::parse(id).ok()?;
    Some((nexus(id, port).to_string(), ports.map(|port| nexus(id, port).to_string())))
}
