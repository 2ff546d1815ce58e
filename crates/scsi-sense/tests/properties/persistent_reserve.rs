//! PERSISTENT RESERVE commands, parameter lists and data.

use proptest::prelude::*;
use scsi_sense::Cdb;
use scsi_sense::pr::{
    BasicParameters, Capabilities, FullStatus, InServiceAction, Keys, OutParameters, OutServiceAction,
    PersistentReserveIn, PersistentReserveOut, RegisterAndMoveParameters, Registration, Reservation,
    ReservationData, ReservationKey, ReservationType, Scope, TransportId, TransportIds, TypeMask,
};

use crate::{leak, transport_ids};

fn keys() -> impl Strategy<Value = ReservationKey> {
    any::<u64>().prop_map(ReservationKey)
}

fn scopes() -> impl Strategy<Value = Scope> {
    any::<u8>().prop_map(Scope::new)
}

fn kinds() -> impl Strategy<Value = ReservationType> {
    any::<u8>().prop_map(ReservationType::new)
}

fn lists_of_transport_ids() -> impl Strategy<Value = TransportIds<'static>> {
    prop::collection::vec(transport_ids(), 0..6).prop_map(|ids| {
        let buffer = vec![0; 6 * TransportId::MAX_LENGTH].leak();
        TransportIds::build(&ids, buffer).expect("room for six")
    })
}

fn parameter_lists() -> impl Strategy<Value = (OutServiceAction, OutParameters<'static>)> {
    let flags = any::<(bool, bool)>();
    let basic = (0..7_u8, keys(), keys(), flags, prop::option::of(lists_of_transport_ids())).prop_map(
        |(action, reservation_key, service_action_key, (all_target_ports, aptpl), ids)| {
            let action = OutServiceAction::new(action);
            let transport_ids = ids.filter(|_| action == OutServiceAction::Register);
            let list = BasicParameters {
                reservation_key,
                service_action_key,
                transport_ids,
                all_target_ports,
                aptpl,
            };
            (action, OutParameters::Basic(list))
        },
    );
    let moving = (keys(), keys(), any::<(bool, bool, u16)>(), transport_ids()).prop_map(
        |(reservation_key, service_action_key, (unregister, aptpl, relative_port), transport_id)| {
            let list = RegisterAndMoveParameters {
                reservation_key,
                service_action_key,
                unregister,
                aptpl,
                relative_port,
                transport_id,
            };
            (OutServiceAction::RegisterAndMove, OutParameters::RegisterAndMove(list))
        },
    );
    prop_oneof![basic, moving]
}

fn registrations() -> impl Strategy<Value = Registration<&'static [u8]>> {
    let bytes = prop::collection::vec(any::<u8>(), 0..80).prop_map(leak);
    (keys(), any::<(bool, bool, u16)>(), scopes(), kinds(), bytes).prop_map(
        |(key, (all_target_ports, reservation_holder, relative_port), scope, kind, transport_id_bytes)| {
            Registration {
                key,
                all_target_ports,
                reservation_holder,
                scope,
                kind,
                relative_port,
                transport_id_bytes,
            }
        },
    )
}

proptest! {
    #[test]
    fn commands_are_read_as_built(action: u8, kind in kinds(), scope in scopes(), length: u32, allocation_length: u16) {
        let action_in = InServiceAction::new(action);
        let command = PersistentReserveIn { action: action_in, allocation_length };
        prop_assert_eq!(Cdb::new(&command.to_cdb()).unwrap().try_into(), Ok(command));
        let command = PersistentReserveOut {
            action: OutServiceAction::new(action),
            scope,
            kind,
            parameter_list_length: length,
        };
        prop_assert_eq!(Cdb::new(&command.to_cdb()).unwrap().try_into(), Ok(command));
    }

    #[test]
    fn parameter_lists_are_read_as_built((action, list) in parameter_lists()) {
        let mut buffer = [0; 2048];
        let length = list.write(&mut buffer).unwrap();
        prop_assert_eq!(OutParameters::parse(action, &buffer[..length]), Ok(list));
        for cut in 0..length {
            prop_assert!(OutParameters::parse(action, &buffer[..cut]).is_err());
        }
        prop_assert!(OutParameters::parse(action, &buffer[..=length]).is_err());
    }

    #[test]
    fn keys_are_read_as_built(
        generation: u32,
        list in prop::collection::vec(keys(), 0..40),
        allocation_length in 0..400_usize,
    ) {
        let mut buffer = vec![0xee; allocation_length];
        let length = Keys::build(generation, list.iter().copied(), &mut buffer).unwrap();
        let whole = 8 + 8 * list.len();
        prop_assert_eq!(length, whole.min(allocation_length));
        if let Ok(parsed) = Keys::parse(&buffer[..length]) {
            prop_assert_eq!(parsed.generation(), generation);
            prop_assert_eq!(parsed.full_length(), whole as u64);
            prop_assert_eq!(parsed.is_truncated(), length < whole);
            prop_assert!(parsed.iter().eq(list[..(length - 8) / 8].iter().copied()));
        } else {
            prop_assert!(length < 8);
        }
    }

    #[test]
    fn reservations_are_read_as_built(generation: u32, key in keys(), scope in scopes(), kind in kinds()) {
        let reservation = Reservation { key, scope, kind };
        let mut buffer = [0xee; 24];
        prop_assert_eq!(ReservationData::build(generation, Some(reservation), &mut buffer), 24);
        let parsed = ReservationData::parse(&buffer).unwrap();
        prop_assert_eq!(parsed.generation(), generation);
        prop_assert_eq!(parsed.reservation(), Ok(Some(reservation)));
    }

    #[test]
    fn capabilities_are_read_as_built(flags: [bool; 6], allow_commands in 0..8_u8, mask: Option<u16>) {
        let capabilities = Capabilities {
            replace_lost_reservation: flags[0],
            compatible_reservation_handling: flags[1],
            specify_initiator_ports: flags[2],
            all_target_ports: flags[3],
            persist_through_power_loss_capable: flags[4],
            persist_through_power_loss_activated: flags[5],
            allow_commands,
            types: mask.map(TypeMask),
        };
        prop_assert_eq!(Capabilities::parse(&capabilities.to_bytes()), Ok(capabilities));
    }

    #[test]
    fn full_status_is_read_as_built(
        generation: u32,
        list in prop::collection::vec(registrations(), 0..8),
        allocation_length in 0..1000_usize,
    ) {
        let mut buffer = vec![0xee; allocation_length];
        let length = FullStatus::build(generation, list.iter().copied(), &mut buffer).unwrap();
        let whole = list.iter().fold(8, |sum, registration| sum + 24 + registration.transport_id_bytes.len());
        prop_assert_eq!(length, whole.min(allocation_length));
        if let Ok(parsed) = FullStatus::parse(&buffer[..length]) {
            prop_assert_eq!(parsed.generation(), generation);
            prop_assert_eq!(parsed.full_length(), whole as u64);
            prop_assert_eq!(parsed.is_truncated(), length < whole);
            let got: Vec<_> = parsed.iter().collect();
            prop_assert_eq!(&got[..], &list[..got.len()]);
            prop_assert_eq!(got.len() == list.len(), length == whole);
        } else {
            prop_assert!(length < 8);
        }
    }
}
