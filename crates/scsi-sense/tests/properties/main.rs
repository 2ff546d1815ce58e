//! Properties of all values: built data can be read, truncated data are never misread, no input causes a panic.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail as tests do"
)]

mod persistent_reserve;
mod robustness;
mod sense;
mod transport_id;

use scsi_sense::pr::{IscsiName, IscsiSessionId, TransportId};

/// Leaks the bytes, so that a strategy can return types that borrow them.
fn leak(bytes: Vec<u8>) -> &'static [u8] {
    bytes.leak()
}

/// Returns a name of these bytes, with a dot instead of each zero.
fn iscsi_name(mut bytes: Vec<u8>) -> IscsiName<'static> {
    bytes.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b'.');
    IscsiName::new(leak(bytes)).expect("not empty, no zeros")
}

/// Generates TransportIDs of every kind.
fn transport_ids() -> impl proptest::strategy::Strategy<Value = TransportId<'static>> {
    use proptest::prelude::*;
    let name = || prop::collection::vec(any::<u8>(), 1..=223).prop_map(iscsi_name);
    let session = prop_oneof![
        any::<[u8; 6]>().prop_map(IscsiSessionId::from_bytes),
        "[0-9a-fA-F]{1,12}".prop_map(|text| IscsiSessionId::parse(text.as_bytes()).expect("digits")),
    ];
    let other = (any::<[u8; 24]>(), prop_oneof![Just(2_u8), 7_u8..=9, 0x0b_u8..=0x0f]).prop_map(
        |(mut bytes, protocol)| {
            bytes[0] = bytes[0] & 0xf0 | protocol;
            TransportId::parse(leak(bytes.to_vec())).expect("24 bytes")
        },
    );
    prop_oneof![
        any::<u64>().prop_map(|port_name| TransportId::FibreChannel { port_name }),
        any::<(u16, u16)>()
            .prop_map(|(address, relative_port)| TransportId::ParallelScsi { address, relative_port }),
        any::<u64>().prop_map(|eui64| TransportId::Sbp { eui64 }),
        any::<[u8; 16]>().prop_map(|port| TransportId::Srp { port }),
        name().prop_map(|name| TransportId::IscsiDevice { name }),
        (name(), session).prop_map(|(name, session)| TransportId::IscsiPort { name, session }),
        any::<u64>().prop_map(|address| TransportId::Sas { address }),
        any::<u16>().prop_map(|routing_id| TransportId::Sop { routing_id }),
        other,
    ]
}
