//! The saved state of an emulated disk: a damaged file must not give access to a fenced initiator.

use pr_target::{LogicalUnit, Nexus, test_utils::MemoryStore};
use scsi_sense::{
    Status,
    pr::{FullStatus, InServiceAction, PersistentReserveIn, ReservationData, TransportId},
};

/// The bytes are a saved state, as they are and as the lines between the first and the checksum.
pub fn saved_state(data: &[u8]) {
    load(data);
    let mut whole = [b"pr-target state, version 1\n", data].concat();
    if !whole.ends_with(b"\n") {
        whole.push(b'\n');
    }
    whole.extend(format!("crc32 {:08x}\n", checksum(&whole)).bytes());
    load(&whole);
}

/// Opens a unit with this state, and checks that it agrees with itself and with the lines.
fn load(bytes: &[u8]) {
    let store = MemoryStore::default();
    store.set_content(Some(bytes.to_vec()));
    let Ok(mut unit) = LogicalUnit::open(&[1, 2], store) else { return };
    let text = std::str::from_utf8(bytes).expect("a state is text");
    let lines = |name: &str| text.lines().filter(|line| line.split(' ').next() == Some(name)).count();

    let data = read(&mut unit, InServiceAction::ReadFullStatus);
    let status = FullStatus::parse(&data).expect("READ FULL STATUS");
    let data = read(&mut unit, InServiceAction::ReadReservation);
    let reservation = ReservationData::parse(&data).and_then(|data| data.reservation());
    let reservation = reservation.expect("READ RESERVATION");
    assert_eq!(status.iter().count(), lines("registration"), "{text}");
    assert_eq!(usize::from(reservation.is_some()), lines("reservation"), "{text}");
    assert!(status.iter().all(|one| !one.key.is_zero()), "{text}");
    let holders = status.iter().filter(|one| one.reservation_holder).count();
    let expected = match reservation {
        None => 0,
        Some(held) if held.kind.is_all_registrants() => status.iter().count(),
        Some(_) => 1,
    };
    assert_eq!(holders, expected, "{text}");
    assert!(reservation.is_none_or(|held| held.kind.name().is_some()), "{text}");
}

fn read(unit: &mut LogicalUnit<MemoryStore>, action: InServiceAction) -> Vec<u8> {
    let reader = Nexus::new(TransportId::Sas { address: 0xfeed }, 1).expect("a nexus");
    let cdb = PersistentReserveIn { action, allocation_length: u16::MAX }.to_cdb();
    let mut data = vec![0; usize::from(u16::MAX)];
    let answer = unit.execute(&reader, &cdb, &[], &mut data);
    assert_eq!(answer.status, Status::GOOD);
    data.truncate(answer.length);
    data
}

/// CRC-32 of IEEE 802.3, by a table.
fn checksum(bytes: &[u8]) -> u32 {
    let table: [u32; 256] = std::array::from_fn(|index| {
        (0..8).fold(u32::try_from(index).unwrap_or(0), |value, _| {
            if value % 2 == 1 { 0xedb8_8320 ^ value >> 1 } else { value >> 1 }
        })
    });
    !bytes.iter().fold(!0, |crc: u32, byte| {
        let [.., low] = crc.to_be_bytes();
        crc >> 8 ^ table[usize::from(low ^ byte)]
    })
}
