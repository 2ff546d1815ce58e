//! Parameter lists and data of PERSISTENT RESERVE OUT and IN, byte by byte.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail as tests do"
)]

use scsi_sense::pr::{
    BasicParameters, Capabilities, FullStatus, InDataError, Keys, OutParameters, OutServiceAction,
    ParameterError, RegisterAndMoveParameters, Registration, Reservation, ReservationData, ReservationKey,
    ReservationType, Scope, TransportId, TransportIdError, TransportIds, TypeMask,
};
use scsi_sense::{BuildError, SenseCode};

const SAS: [u8; 24] =
    [6, 0, 0, 0, 0x50, 0x00, 0xc5, 0x00, 0x05, 0xb3, 0x20, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

const BASIC: [u8; 24] =
    [0, 0, 0, 0, 0, 0x12, 0x3a, 0xbc, 0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 1, 0, 0, 0, 0, 0x05, 0, 0, 0];

/// Returns the basic list with SPEC_I_PT and these TransportIDs.
fn with_transport_ids(stated: u32, ids: &[u8]) -> Vec<u8> {
    let mut bytes = BASIC.to_vec();
    bytes[20] |= 0x08;
    bytes.extend(stated.to_be_bytes());
    bytes.extend(ids);
    bytes
}

/// Returns a REGISTER AND MOVE list with this TransportID.
fn register_and_move(stated: u32, id: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 24];
    bytes[7] = 0x11;
    bytes[15] = 0x22;
    bytes[17] = 0x03;
    bytes[18..20].copy_from_slice(&[0x01, 0x02]);
    bytes[20..24].copy_from_slice(&stated.to_be_bytes());
    bytes.extend(id);
    bytes
}

#[test]
fn basic_parameters_have_keys_and_flags() {
    let expected = BasicParameters {
        reservation_key: ReservationKey(0x12_3abc),
        service_action_key: ReservationKey(0xdead_beef_0000_0001),
        transport_ids: None,
        all_target_ports: true,
        aptpl: true,
    };
    for action in OutServiceAction::ALL {
        if *action == OutServiceAction::RegisterAndMove {
            continue;
        }
        let list = OutParameters::parse(*action, &BASIC).unwrap();
        assert_eq!(list, OutParameters::Basic(expected), "{action}");
        assert_eq!(list.reservation_key(), expected.reservation_key);
        assert_eq!(list.service_action_key(), expected.service_action_key);
    }
    assert_eq!(expected.to_bytes(), BASIC);
    let mut buffer = [0xee; 24];
    assert_eq!(expected.write(&mut buffer), Ok(24));
    assert_eq!(buffer, BASIC);
}

#[test]
fn register_accepts_initiator_ports() {
    let ids = [SAS, SAS].concat();
    let bytes = with_transport_ids(48, &ids);
    let list = OutParameters::parse(OutServiceAction::Register, &bytes).unwrap();
    let OutParameters::Basic(basic) = list else { panic!("{list:?}") };
    let sas = TransportId::Sas { address: 0x5000_c500_05b3_2001 };
    assert!(basic.transport_ids.unwrap().iter().eq([sas, sas]));
    let mut buffer = [0xee; 80];
    assert_eq!(list.write(&mut buffer), Ok(76));
    assert_eq!(buffer[..76], bytes);
    assert_eq!(list.write(&mut buffer[..75]), Err(BuildError::BufferTooSmall { needed: 76, got: 75 }));

    let empty = with_transport_ids(0, &[]);
    let list = OutParameters::parse(OutServiceAction::Register, &empty).unwrap();
    let OutParameters::Basic(basic) = list else { panic!("{list:?}") };
    assert_eq!(basic.transport_ids, Some(TransportIds::default()));
    assert_eq!(list.write(&mut buffer), Ok(28));
    assert_eq!(buffer[..28], empty);
}

#[test]
fn register_and_move_has_one_initiator_port() {
    let bytes = register_and_move(24, &SAS);
    let list = OutParameters::parse(OutServiceAction::RegisterAndMove, &bytes).unwrap();
    assert_eq!(
        list,
        OutParameters::RegisterAndMove(RegisterAndMoveParameters {
            reservation_key: ReservationKey(0x11),
            service_action_key: ReservationKey(0x22),
            unregister: true,
            aptpl: true,
            relative_port: 0x0102,
            transport_id: TransportId::Sas { address: 0x5000_c500_05b3_2001 },
        })
    );
    let mut buffer = [0xee; 64];
    assert_eq!(list.write(&mut buffer), Ok(48));
    assert_eq!(buffer[..48], bytes);
    assert_eq!(list.write(&mut buffer[..10]), Err(BuildError::BufferTooSmall { needed: 48, got: 10 }));
}

#[test]
fn malformed_parameters_are_refused_with_sense() {
    let length = SenseCode::PARAMETER_LIST_LENGTH_ERROR;
    let field = SenseCode::INVALID_FIELD_IN_PARAMETER_LIST;
    let register = OutServiceAction::Register;
    let moving = OutServiceAction::RegisterAndMove;
    let two = [SAS, SAS].concat();
    let cut_id = TransportIdError::TooShort { needed: 24, got: 4 };
    for (action, bytes, error, sense) in [
        (register, vec![], ParameterError::Length { needed: 24, got: 0 }, length),
        (register, BASIC[..23].to_vec(), ParameterError::Length { needed: 24, got: 23 }, length),
        (register, [&BASIC[..], &[0]].concat(), ParameterError::Length { needed: 24, got: 25 }, length),
        (moving, BASIC[..23].to_vec(), ParameterError::Length { needed: 24, got: 23 }, length),
        (
            register,
            with_transport_ids(0, &[])[..27].to_vec(),
            ParameterError::Length { needed: 28, got: 27 },
            length,
        ),
        (
            OutServiceAction::Reserve,
            with_transport_ids(24, &SAS),
            ParameterError::SpecifyInitiatorPorts,
            field,
        ),
        (
            OutServiceAction::RegisterAndIgnoreExistingKey,
            with_transport_ids(24, &SAS),
            ParameterError::SpecifyInitiatorPorts,
            field,
        ),
        (
            register,
            with_transport_ids(48, &SAS),
            ParameterError::TransportIdLength { stated: 48, got: 24 },
            field,
        ),
        (
            register,
            with_transport_ids(u32::MAX, &SAS),
            ParameterError::TransportIdLength { stated: u32::MAX, got: 24 },
            field,
        ),
        (register, with_transport_ids(4, &SAS[..4]), ParameterError::TransportId(cut_id), field),
        (moving, register_and_move(4, &SAS[..4]), ParameterError::TransportId(cut_id), field),
        (
            moving,
            register_and_move(0, &[]),
            ParameterError::TransportId(TransportIdError::TooShort { needed: 24, got: 0 }),
            field,
        ),
        (
            moving,
            register_and_move(23, &SAS),
            ParameterError::TransportIdLength { stated: 23, got: 24 },
            field,
        ),
        (
            moving,
            register_and_move(48, &two),
            ParameterError::TransportId(TransportIdError::TrailingBytes(24)),
            field,
        ),
    ] {
        assert_eq!(OutParameters::parse(action, &bytes), Err(error), "{action}");
        assert_eq!(error.sense_code(), sense);
    }
}

#[test]
fn keys_are_read_and_built() {
    let data = [
        0x00, 0x00, 0x00, 0x07, 0x00, 0x00, 0x00, 0x10, 0, 0, 0, 0, 0, 0x12, 0x3a, 0xbc, 0, 0, 0, 0, 0, 0x00,
        0xab, 0xcd,
    ];
    let keys = [ReservationKey(0x12_3abc), ReservationKey(0xabcd)];
    let parsed = Keys::parse(&data).unwrap();
    assert_eq!((parsed.generation(), parsed.additional_length()), (7, 16));
    assert!(!parsed.is_truncated());
    assert_eq!(parsed.full_length(), 24);
    assert_eq!(parsed.iter().len(), 2);
    assert!(parsed.iter().eq(keys));
    let mut buffer = [0xee; 64];
    assert_eq!(Keys::build(7, keys, &mut buffer), Ok(24));
    assert_eq!(buffer[..24], data);
}

#[test]
fn allocation_length_keeps_additional_length() {
    let keys = [ReservationKey(1), ReservationKey(2), ReservationKey(3)];
    for allocation_length in 0..40 {
        let mut buffer = vec![0xee; allocation_length];
        let length = Keys::build(9, keys, &mut buffer).unwrap();
        assert_eq!(length, allocation_length.min(32));
        let Ok(parsed) = Keys::parse(&buffer[..length]) else {
            assert!(length < 8);
            continue;
        };
        assert_eq!(parsed.additional_length(), 24);
        assert_eq!(parsed.is_truncated(), length < 32);
        assert!(parsed.iter().eq(keys[..(length - 8) / 8].iter().copied()));
    }
}

#[test]
fn additional_length_of_four_gigabytes_is_harmless() {
    let mut data = [0; 24];
    data[4..8].fill(0xff);
    data[15] = 1;
    data[23] = 2;
    let keys = Keys::parse(&data).unwrap();
    assert_eq!(keys.additional_length(), u32::MAX);
    assert_eq!(keys.full_length(), 0x1_0000_0007);
    assert!(keys.is_truncated());
    assert!(keys.iter().eq([ReservationKey(1), ReservationKey(2)]));

    let mut data = [0; 56];
    data[4..8].fill(0xff);
    data[28..32].fill(0xff);
    let status = FullStatus::parse(&data).unwrap();
    assert_eq!(status.iter().next(), None);
    assert!(status.is_truncated());
}

#[test]
fn additional_length_ends_the_keys() {
    let mut data = [0xff; 64];
    data[4..8].copy_from_slice(&12_u32.to_be_bytes());
    let keys = Keys::parse(&data).unwrap();
    assert!(!keys.is_truncated());
    assert!(keys.iter().eq([ReservationKey(u64::MAX)]));
}

#[test]
fn reservation_is_read_unless_truncated() {
    let none = [0, 0, 0, 3, 0, 0, 0, 0];
    assert_eq!(ReservationData::parse(&none).unwrap().reservation(), Ok(None));

    let data = [0, 0, 0, 3, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0x12, 0x3a, 0xbc, 0, 0, 0, 0, 0, 0x05, 0, 0];
    let reservation = Reservation {
        key: ReservationKey(0x12_3abc),
        scope: Scope::LogicalUnit,
        kind: ReservationType::WriteExclusiveRegistrantsOnly,
    };
    let parsed = ReservationData::parse(&data).unwrap();
    assert_eq!(parsed.generation(), 3);
    assert_eq!(parsed.reservation(), Ok(Some(reservation)));
    assert_eq!(reservation.to_string(), "WRITE EXCLUSIVE, REGISTRANTS ONLY (5h), key 0x123abc");

    // A truncated reservation is not read as no reservation.
    for length in 8..24 {
        let parsed = ReservationData::parse(&data[..length]).unwrap();
        assert!(parsed.is_truncated());
        assert_eq!(parsed.reservation(), Err(InDataError::TooShort { needed: 24, got: length }));
    }
    let mut short = data;
    short[7] = 15;
    assert_eq!(ReservationData::parse(&short).unwrap().reservation(), Err(InDataError::Length(15)));

    let mut buffer = [0xee; 24];
    assert_eq!(ReservationData::build(3, Some(reservation), &mut buffer), 24);
    assert_eq!(buffer, data);
    assert_eq!(ReservationData::build(3, None, &mut buffer), 8);
    assert_eq!(buffer[..8], none);
    assert_eq!(ReservationData::build(3, Some(reservation), &mut buffer[..5]), 5);
}

#[test]
fn capabilities_are_read_bit_by_bit() {
    let all = Capabilities {
        replace_lost_reservation: true,
        compatible_reservation_handling: true,
        specify_initiator_ports: true,
        all_target_ports: true,
        persist_through_power_loss_capable: true,
        persist_through_power_loss_activated: true,
        allow_commands: 5,
        types: Some(TypeMask::new(ReservationType::ALL)),
    };
    let none = Capabilities::default();
    for (data, expected) in [
        ([0, 8, 0, 0, 0, 0, 0, 0], none),
        ([0, 8, 0x9d, 0xd1, 0xea, 0x01, 0, 0], all),
        ([0, 8, 0x80, 0, 0, 0, 0, 0], Capabilities { replace_lost_reservation: true, ..none }),
        ([0, 8, 0x10, 0, 0, 0, 0, 0], Capabilities { compatible_reservation_handling: true, ..none }),
        ([0, 8, 0x08, 0, 0, 0, 0, 0], Capabilities { specify_initiator_ports: true, ..none }),
        ([0, 8, 0x04, 0, 0, 0, 0, 0], Capabilities { all_target_ports: true, ..none }),
        ([0, 8, 0x01, 0, 0, 0, 0, 0], Capabilities { persist_through_power_loss_capable: true, ..none }),
        ([0, 8, 0, 0x01, 0, 0, 0, 0], Capabilities { persist_through_power_loss_activated: true, ..none }),
        ([0, 8, 0, 0x70, 0, 0, 0, 0], Capabilities { allow_commands: 7, ..none }),
        ([0, 8, 0, 0x80, 0, 0, 0, 0], Capabilities { types: Some(TypeMask(0)), ..none }),
    ] {
        assert_eq!(Capabilities::parse(&data), Ok(expected));
        assert_eq!(expected.to_bytes(), data);
    }
    assert_eq!(Capabilities::parse(&[0, 8, 0x9d]), Err(InDataError::TooShort { needed: 8, got: 3 }));
    assert_eq!(Capabilities::parse(&[0, 6, 0, 0, 0, 0, 0, 0]), Err(InDataError::Length(6)));
    assert!(all.types.unwrap().iter().eq(ReservationType::ALL));
}

#[test]
fn type_mask_has_every_type() {
    for (mask, kind) in [
        (0x8000, ReservationType::WriteExclusiveAllRegistrants),
        (0x4000, ReservationType::ExclusiveAccessRegistrantsOnly),
        (0x2000, ReservationType::WriteExclusiveRegistrantsOnly),
        (0x0800, ReservationType::ExclusiveAccess),
        (0x0200, ReservationType::WriteExclusive),
        (0x0001, ReservationType::ExclusiveAccessAllRegistrants),
    ] {
        assert!(TypeMask(mask).iter().eq([kind]));
        assert_eq!(TypeMask::new([kind, ReservationType::new(2)]), TypeMask(mask));
    }
    assert_eq!(TypeMask(0x0a00).to_string(), "WRITE EXCLUSIVE (1h); EXCLUSIVE ACCESS (3h)");
}

#[test]
fn full_status_is_read_and_built() {
    let mut data = vec![0, 0, 0, 4, 0, 0, 0, 96];
    for (key, flags, scope_type, port, address) in
        [(0x11, 0x01, 0x06, 0x0001_u16, 0x01), (0x22, 0x02, 0x00, 0x0203, 0x02)]
    {
        data.extend([0, 0, 0, 0, 0, 0, 0, key, 0, 0, 0, 0, flags, scope_type, 0, 0, 0, 0]);
        data.extend(port.to_be_bytes());
        data.extend([0, 0, 0, 24]);
        data.extend([6, 0, 0, 0, 0x50, 0, 0, 0, 0, 0, 0, address, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
    let status = FullStatus::parse(&data).unwrap();
    assert_eq!((status.generation(), status.is_truncated()), (4, false));
    let registrations: Vec<_> = status.iter().collect();
    let [holder, other] = registrations[..] else { panic!("{registrations:?}") };
    assert_eq!(
        holder,
        Registration {
            key: ReservationKey(0x11),
            all_target_ports: false,
            reservation_holder: true,
            scope: Scope::LogicalUnit,
            kind: ReservationType::ExclusiveAccessRegistrantsOnly,
            relative_port: 1,
            transport_id_bytes: &data[32..56],
        }
    );
    assert_eq!(holder.transport_id(), Ok(TransportId::Sas { address: 0x5000_0000_0000_0001 }));
    assert_eq!((other.all_target_ports, other.relative_port), (true, 0x0203));

    let mut buffer = [0xee; 128];
    assert_eq!(FullStatus::build(4, registrations.iter().copied(), &mut buffer), Ok(104));
    assert_eq!(buffer[..104], data);

    // Truncated data have only complete registrations.
    for length in 8..104 {
        let mut cut = vec![0; length];
        assert_eq!(FullStatus::build(4, registrations.iter().copied(), &mut cut), Ok(length));
        assert_eq!(cut, data[..length]);
        let status = FullStatus::parse(&cut).unwrap();
        assert!(status.is_truncated());
        assert_eq!(status.full_length(), 104);
        let whole = (length - 8) / 48;
        assert!(status.iter().eq(registrations[..whole].iter().copied()));
    }
}

#[test]
fn registration_keeps_malformed_transport_id() {
    let bytes = [6, 0, 0, 0];
    let descriptor = Registration {
        key: ReservationKey(1),
        all_target_ports: false,
        reservation_holder: false,
        scope: Scope::LogicalUnit,
        kind: ReservationType::new(0),
        relative_port: 1,
        transport_id_bytes: &bytes[..],
    };
    let mut buffer = [0; 36];
    assert_eq!(FullStatus::build(0, [descriptor], &mut buffer), Ok(36));
    let status = FullStatus::parse(&buffer).unwrap();
    assert!(status.iter().eq([descriptor]));
    assert_eq!(
        status.iter().next().unwrap().transport_id(),
        Err(TransportIdError::TooShort { needed: 24, got: 4 })
    );
}

#[test]
fn registration_has_nexus_and_reservation() {
    let registration = Registration {
        key: ReservationKey(1),
        all_target_ports: false,
        reservation_holder: true,
        scope: Scope::LogicalUnit,
        kind: ReservationType::WriteExclusive,
        relative_port: 3,
        transport_id_bytes: &[6, 0, 0, 0][..],
    };
    let held = Reservation {
        key: ReservationKey(1),
        scope: Scope::LogicalUnit,
        kind: ReservationType::WriteExclusive,
    };
    assert_eq!((registration.target_port(), registration.reservation()), (Some(3), Some(held)));
    let other = Registration { all_target_ports: true, reservation_holder: false, ..registration };
    assert_eq!((other.target_port(), other.reservation()), (None, None));
    let kept = registration.map_bytes(<[u8]>::to_vec);
    assert_eq!(kept.transport_id_bytes, registration.transport_id_bytes);
    assert_eq!(kept.transport_id(), registration.transport_id());
    assert_eq!(kept.reservation(), registration.reservation());
}

/// LIO counts only the keys that fit in ADDITIONAL LENGTH: a list without room for another key may be incomplete.
#[test]
fn keys_are_complete_with_room_left() {
    for (keys, allocation_length, expected) in [
        (0, 8, false),
        (0, 15, false),
        (0, 16, true),
        (2, 24, false),
        (2, 31, false),
        (2, 32, true),
        (1022, 8192, true),
        (1023, 8192, false),
    ] {
        let mut data = vec![0; 8192];
        let length = Keys::build(1, (0..keys).map(ReservationKey), &mut data).unwrap();
        let list = Keys::parse(&data[..length]).unwrap();
        assert!(!list.is_truncated());
        assert_eq!(list.is_complete(allocation_length), Ok(expected), "{keys} {allocation_length}");
    }
}

#[test]
fn keys_that_end_early_are_malformed() {
    let data = [&[0, 0, 0, 1, 0, 0, 0, 0x10][..], &[0, 0, 0, 0, 0, 0]].concat();
    let list = Keys::parse(&data).unwrap();
    assert_eq!(list.is_complete(512), Err(InDataError::TooShort { needed: 24, got: 14 }));
    assert_eq!(list.is_complete(20), Err(InDataError::TooShort { needed: 20, got: 14 }));
    assert_eq!(list.is_complete(14), Ok(false), "cut by the allocation length");
    let mut data = [0; 20];
    data[7] = 12;
    let list = Keys::parse(&data).unwrap();
    assert_eq!(list.is_complete(512), Err(InDataError::Entry { at: 16 }));
    assert_eq!(list.iter().count(), 1, "the complete entry is available");
}

#[test]
fn full_status_is_complete_with_room_left() {
    let registration = Registration {
        key: ReservationKey(1),
        all_target_ports: false,
        reservation_holder: false,
        scope: Scope::LogicalUnit,
        kind: ReservationType::new(0),
        relative_port: 1,
        transport_id_bytes: &[0; 64][..],
    };
    let mut data = vec![0; 8192];
    let length = FullStatus::build(1, [registration; 3], &mut data).unwrap();
    let list = FullStatus::parse(&data[..length]).unwrap();
    let longest = 24 + TransportId::MAX_LENGTH;
    for (room, expected) in [(0, false), (1, false), (longest - 1, false), (longest, true)] {
        assert_eq!(list.is_complete(length + room), Ok(expected), "{room}");
    }
    assert_eq!(FullStatus::parse(&[0; 8]).unwrap().is_complete(8192), Ok(true));
}

#[test]
fn full_status_that_ends_early_is_malformed() {
    // ADDITIONAL DESCRIPTOR LENGTH is 4000h, but only 16 bytes follow.
    let mut data =
        vec![0, 0, 0, 1, 0, 0, 0, 0x28, 0, 0, 0, 0, 0, 0, 0x0a, 0xbc, 0, 0, 0, 0, 1, 5, 0, 0, 0, 0, 0, 1];
    data.extend([0, 0, 0x40, 0, 6, 0, 0, 0, 0x50, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    let list = FullStatus::parse(&data).unwrap();
    assert_eq!(list.is_complete(8192), Err(InDataError::Entry { at: 8 }));
    assert_eq!(list.is_complete(data.len()), Ok(false), "cut by the allocation length");
    let list = FullStatus::parse(&data[..40]).unwrap();
    assert_eq!(list.is_complete(8192), Err(InDataError::TooShort { needed: 48, got: 40 }));
    // Fewer bytes than the head of a descriptor follow the last one.
    data[31] = 0x00;
    data[30] = 0x00;
    let list = FullStatus::parse(&data).unwrap();
    assert_eq!(list.is_complete(8192), Err(InDataError::Entry { at: 32 }));
    assert_eq!(list.iter().count(), 1, "the complete entry is available");
    let list = FullStatus::parse(&[0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 0]).unwrap();
    assert_eq!(list.is_complete(8192), Err(InDataError::Entry { at: 8 }));
}

#[test]
fn data_without_header_are_refused() {
    for length in 0..8 {
        let data = vec![0; length];
        let error = InDataError::TooShort { needed: 8, got: length };
        assert_eq!(Keys::parse(&data), Err(error));
        assert_eq!(ReservationData::parse(&data), Err(error));
        assert_eq!(FullStatus::parse(&data), Err(error));
        assert_eq!(Capabilities::parse(&data), Err(error));
    }
}
