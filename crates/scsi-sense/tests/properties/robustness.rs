//! Every parser, and everything that it returns, with untrusted bytes.

use proptest::prelude::*;
use scsi_sense::pr::{
    BasicParameters, Capabilities, FullStatus, Keys, OutParameters, OutServiceAction, PersistentReserveIn,
    PersistentReserveOut, Registration, ReservationData, ReservationKey, ReservationType, Scope, TransportId,
    TransportIdBuf, TransportIds,
};
use scsi_sense::{Cdb, Descriptor, Sense};

use crate::transport_ids;

/// Runs every parser and formats its results. Returns the sum of their lengths, so that the compiler cannot remove any.
fn parse_everything(bytes: &[u8]) -> usize {
    parse_cdb(bytes) + parse_sense(bytes) + parse_parameters(bytes) + parse_data(bytes)
}

fn parse_cdb(bytes: &[u8]) -> usize {
    let Ok(cdb) = Cdb::new(bytes) else { return 0 };
    assert!(cdb.as_bytes().len() <= Cdb::MAX_LENGTH);
    let typed = PersistentReserveIn::try_from(cdb).is_ok() || PersistentReserveOut::try_from(cdb).is_ok();
    assert_eq!(cdb.transfer().is_some(), typed);
    format!("{cdb} {cdb:?} {:?} {:?}", cdb.service_action(), cdb.variable_length_service_action()).len()
}

fn parse_sense(bytes: &[u8]) -> usize {
    let Ok(sense) = Sense::parse(bytes) else { return 0 };
    assert!(sense.as_bytes().len() <= bytes.len());
    let nested: usize = sense
        .descriptors()
        .map(|descriptor| match descriptor {
            Descriptor::ForwardedSense { sense, .. } => parse_sense(sense),
            other => format!("{other:?}").len(),
        })
        .sum();
    nested + format!("{sense} {sense:?}").len()
}

fn parse_parameters(bytes: &[u8]) -> usize {
    let lists: usize = (0..0x20)
        .map(|action| match OutParameters::parse(OutServiceAction::new(action), bytes) {
            Ok(list) => {
                let mut buffer = vec![0; bytes.len()];
                // TransportIDs keep their length, except for padding.
                assert!(list.write(&mut buffer).unwrap() <= bytes.len());
                format!("{list:?}").len()
            }
            Err(error) => format!("{error} {}", error.sense_code()).len(),
        })
        .sum();
    let id = match TransportId::parse(bytes) {
        Ok(id) => format!("{id} {id:?}").len(),
        Err(error) => error.to_string().len(),
    };
    let ids =
        TransportIds::parse(bytes).map_or(0, |ids| ids.iter().map(|id| id.to_string().len()).sum::<usize>());
    lists + id + ids
}

fn parse_data(bytes: &[u8]) -> usize {
    let keys = Keys::parse(bytes).map_or(0, |keys| {
        assert!(keys.iter().len() <= bytes.len() / 8);
        for allocation_length in [0, bytes.len(), bytes.len() + 1, usize::MAX] {
            assert!(!keys.is_truncated() || keys.is_complete(allocation_length) != Ok(true));
        }
        keys.iter().map(|key| key.to_string().len()).sum()
    });
    let reservation = ReservationData::parse(bytes)
        .map_or(0, |data| data.reservation().map_or(0, |reservation| format!("{reservation:?}").len()));
    let capabilities =
        Capabilities::parse(bytes).map_or(0, |data| data.types.map_or(0, |mask| mask.to_string().len()));
    let status = FullStatus::parse(bytes).map_or(0, |status| {
        let used: usize = status.iter().map(|registration| 24 + registration.transport_id_bytes.len()).sum();
        assert!(used + 8 <= bytes.len());
        for allocation_length in [0, bytes.len(), bytes.len() + 1, usize::MAX] {
            let is_whole = !status.is_truncated() && used as u64 + 8 == status.full_length();
            assert!(is_whole || status.is_complete(allocation_length) != Ok(true));
        }
        status
            .iter()
            .map(|registration| registration.transport_id().map_or(0, |id| id.to_string().len()))
            .sum()
    });
    keys + reservation + capabilities + status
}

/// Generates starts that pass a parser's first check.
fn headers() -> impl Strategy<Value = Vec<u8>> {
    let additional_length = prop_oneof![Just(u32::MAX), Just(u32::MAX - 7), 0..200_u32];
    prop_oneof![
        Just(vec![]),
        (0x70..=0x73_u8).prop_map(|code| vec![code]),
        (0x72..=0x73_u8, any::<u8>()).prop_map(|(code, length)| vec![code, 5, 0x24, 0, 0, 0, 0, length]),
        Just(vec![0x5e]),
        Just(vec![0x5f]),
        Just(vec![0x7f]),
        prop_oneof![Just(5_u8), Just(0x45)].prop_map(|first| vec![first, 0, 0, 20]),
        additional_length.prop_map(|length| [&[0, 0, 0, 1][..], &length.to_be_bytes()].concat()),
    ]
}

/// Generates valid parameter lists and data, to be corrupted.
fn valid() -> impl Strategy<Value = Vec<u8>> {
    let ids = || prop::collection::vec(transport_ids(), 1..4);
    prop_oneof![
        ids().prop_map(|ids| {
            let mut buffer = [0; 1024];
            let list = BasicParameters {
                transport_ids: Some(TransportIds::build(&ids, &mut buffer).unwrap()),
                ..BasicParameters::default()
            };
            let mut bytes = vec![0; 1024];
            let length = list.write(&mut bytes).unwrap();
            bytes.truncate(length);
            bytes
        }),
        ids().prop_map(|ids| {
            let kept: Vec<_> = ids.iter().map(|id| TransportIdBuf::new(*id).unwrap()).collect();
            let registrations = kept.iter().map(|id| Registration {
                key: ReservationKey(1),
                all_target_ports: false,
                reservation_holder: true,
                scope: Scope::LogicalUnit,
                kind: ReservationType::WriteExclusive,
                relative_port: 1,
                transport_id_bytes: id.as_bytes(),
            });
            let mut bytes = vec![0; 1024];
            let length = FullStatus::build(1, registrations, &mut bytes).unwrap();
            bytes.truncate(length);
            bytes
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes_cause_no_panic(
        header in headers(),
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..600),
            // Small numbers make plausible types, lengths and counts.
            prop::collection::vec(0..32_u8, 0..300),
        ],
    ) {
        let bytes = [header, body].concat();
        parse_everything(&bytes);
    }

    #[test]
    fn corrupted_bytes_cause_no_panic(
        bytes in valid(),
        corruptions in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = bytes;
        for (at, value) in corruptions {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        parse_everything(&bytes);
    }

    #[test]
    fn huge_lengths_cause_no_panic(at in 0..40_usize, value in prop_oneof![
        Just(u32::MAX), Just(u32::MAX - 3), Just(u32::MAX - 7), Just(u32::MAX - 23), Just(1 << 31),
    ]) {
        let mut bytes = [0; 64];
        bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
        parse_everything(&bytes);
    }
}
