//! Sense data as devices send them, read field by field.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail as tests do"
)]

use scsi_sense::{
    AdditionalSense, AtaStatusReturn, BuildError, Descriptor, DescriptorSense, DirectAccessBlockDevice,
    FixedSense, Sense, SenseCode, SenseError, SenseFormat, SenseKey, SenseKeySpecific, Status,
};

#[test]
fn reservations_preempted_in_fixed_format() {
    let bytes = [0x70, 0, 0x06, 0, 0, 0, 0, 0x0a, 0, 0, 0, 0, 0x2a, 0x03, 0, 0, 0, 0];
    let sense = Sense::parse(&bytes).unwrap();
    assert_eq!(sense.format(), SenseFormat::Fixed);
    assert_eq!(sense.response_code(), 0x70);
    assert!(!sense.is_deferred());
    assert!(!sense.is_truncated());
    assert_eq!(sense.code(), Some(SenseCode::RESERVATIONS_PREEMPTED));
    assert_eq!(sense.information(), None);
    assert_eq!(sense.command_specific(), Some(0));
    assert_eq!(sense.field_replaceable_unit(), None);
    assert_eq!(sense.sense_key_specific(), None);
    assert_eq!(sense.descriptors().next(), None);
    assert_eq!(sense.to_string(), "UNIT ATTENTION, RESERVATIONS PREEMPTED (06/2A/03)");
}

#[test]
fn every_fixed_format_field_is_read() {
    let bytes = [
        0xf1, 0x00, 0xf3, 0x00, 0x12, 0x34, 0x56, 0x0a, 0x00, 0x00, 0x00, 0x07, 0x11, 0x04, 0x2c, 0x80, 0x00,
        0x05,
    ];
    let sense = Sense::parse(&bytes).unwrap();
    assert!(sense.is_deferred());
    assert_eq!(sense.key(), Some(SenseKey::MEDIUM_ERROR));
    assert_eq!(sense.additional(), Some(AdditionalSense::UNRECOVERED_READ_ERROR_AUTO_REALLOCATE_FAILED));
    assert_eq!(sense.is_filemark(), Some(true));
    assert_eq!(sense.is_end_of_medium(), Some(true));
    assert_eq!(sense.is_incorrect_length(), Some(true));
    assert_eq!(sense.has_overflow(), Some(true));
    assert_eq!(sense.information(), Some(0x12_3456));
    assert_eq!(sense.command_specific(), Some(7));
    assert_eq!(sense.field_replaceable_unit(), Some(0x2c));
    assert_eq!(sense.sense_key_specific(), Some(SenseKeySpecific::ActualRetryCount(5)));
    assert_eq!(
        sense.to_string(),
        "MEDIUM ERROR, UNRECOVERED READ ERROR - AUTO REALLOCATE FAILED (03/11/04), deferred, filemark, \
         end of medium, incorrect length, more sense data lost, information 0x123456, \
         command-specific information 0x7, 5 retries, field replaceable unit 2Ch"
    );
    let built = FixedSense {
        deferred: true,
        information: Some(0x12_3456),
        command_specific: 7,
        field_replaceable_unit: 0x2c,
        sense_key_specific: Some(SenseKeySpecific::ActualRetryCount(5)),
        filemark: true,
        end_of_medium: true,
        incorrect_length: true,
        overflow: true,
        ..FixedSense::new(SenseCode::new(SenseKey::MEDIUM_ERROR, 0x11, 0x04))
    };
    assert_eq!(built.to_bytes(), bytes);
}

#[test]
fn sense_code_builds_plain_fixed_sense() {
    let code = SenseCode::IO_PROCESS_TERMINATED;
    assert_eq!(code.to_fixed(), FixedSense::new(code).to_bytes());
}

/// Returns cases of a sense key, the bytes of a descriptor, and the expected descriptor.
fn descriptors() -> Vec<(u8, Vec<u8>, Descriptor<'static>)> {
    vec![
        (
            0x03,
            vec![0x00, 0x0a, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 2],
            Descriptor::Information { valid: true, information: 0x1_0000_0002 },
        ),
        (0x03, vec![0x01, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9], Descriptor::CommandSpecific(9)),
        (
            0x05,
            vec![0x02, 0x06, 0, 0, 0xc8, 0, 2, 0],
            Descriptor::SenseKeySpecific(SenseKeySpecific::FieldPointer {
                in_cdb: true,
                byte: 2,
                bit: Some(0),
            }),
        ),
        (0x04, vec![0x03, 0x02, 0, 0x2a], Descriptor::FieldReplaceableUnit(0x2a)),
        (
            0x00,
            vec![0x04, 0x02, 0, 0xa0],
            Descriptor::StreamCommands { filemark: true, end_of_medium: false, incorrect_length: true },
        ),
        (0x05, vec![0x05, 0x02, 0, 0x20], Descriptor::BlockCommands { incorrect_length: true }),
        (
            0x01,
            vec![0x09, 0x0c, 0x01, 0x04, 0x12, 0x34, 0x33, 0x66, 0x22, 0x55, 0x11, 0x44, 0xe0, 0x51],
            Descriptor::AtaStatusReturn(AtaStatusReturn {
                extend: true,
                error: 0x04,
                count: 0x1234,
                lba: 0x1122_3344_5566,
                device: 0xe0,
                status: 0x51,
            }),
        ),
        (
            0x02,
            vec![0x0a, 0x06, 0x02, 0x04, 0x04, 0, 0x40, 0x00],
            Descriptor::AnotherProgress {
                code: SenseCode::new(SenseKey::NOT_READY, 0x04, 0x04),
                progress: 0x4000,
            },
        ),
        (
            0x0a,
            vec![0x0c, 0x06, 0x81, 0x02, 0x72, 0x05, 0x20, 0x00],
            Descriptor::ForwardedSense {
                truncated: true,
                source: 1,
                status: Status::CHECK_CONDITION,
                sense: &[0x72, 0x05, 0x20, 0x00],
            },
        ),
        (
            0x03,
            vec![
                0x0d, 0x1e, 0xa0, 0x00, 0x80, 0x01, 0x02, 0x77, 0, 0, 0, 0, 0, 0, 0x12, 0x34, 0, 0, 0, 0, 0,
                0, 0, 0x56, 0, 0, 0, 0, 0, 0, 0, 0,
            ],
            Descriptor::DirectAccessBlockDevice(DirectAccessBlockDevice {
                information: Some(0x1234),
                command_specific: 0x56,
                sense_key_specific: Some(SenseKeySpecific::ActualRetryCount(0x0102)),
                field_replaceable_unit: 0x77,
                incorrect_length: true,
            }),
        ),
        (0x00, vec![0x80, 0x03, 1, 2, 3], Descriptor::Other { kind: 0x80, body: &[1, 2, 3] }),
        (0x00, vec![0x00, 0x00], Descriptor::Other { kind: 0x00, body: &[] }),
    ]
}

#[test]
fn every_descriptor_is_read_and_built() {
    for (key, descriptor, expected) in descriptors() {
        let length = u8::try_from(descriptor.len()).unwrap();
        let mut bytes = vec![0x72, key, 0x11, 0x22, 0, 0, 0, length];
        bytes.extend(&descriptor);
        let sense = Sense::parse(&bytes).unwrap();
        assert_eq!(sense.format(), SenseFormat::Descriptor);
        assert!(sense.descriptors().eq([expected]), "{expected:?}");
        assert_eq!(expected.kind(), descriptor[0]);

        let mut built = [0xee; 64];
        let built_length =
            DescriptorSense { descriptors: &[expected], ..DescriptorSense::new(sense.code().unwrap()) }
                .write(&mut built)
                .unwrap();
        assert_eq!(&built[..built_length], bytes, "{expected:?}");
    }
}

#[test]
fn fields_are_found_in_any_descriptor() {
    for (key, descriptor, _) in descriptors() {
        let length = u8::try_from(descriptor.len()).unwrap();
        let mut bytes = vec![0x73, key, 0x11, 0x22, 0x80, 0, 0, length];
        bytes.extend(&descriptor);
        let sense = Sense::parse(&bytes).unwrap();
        assert!(sense.is_deferred());
        assert_eq!(sense.has_overflow(), Some(true));
        let kind = descriptor[0];
        let whole = descriptor.len() > 2;
        assert_eq!(sense.information().is_some(), whole && [0x00, 0x0d].contains(&kind), "{kind:02X}h");
        assert_eq!(sense.command_specific().is_some(), [0x01, 0x0d].contains(&kind), "{kind:02X}h");
        assert_eq!(sense.sense_key_specific().is_some(), [0x02, 0x0d].contains(&kind), "{kind:02X}h");
        assert_eq!(sense.field_replaceable_unit().is_some(), [0x03, 0x0d].contains(&kind), "{kind:02X}h");
        assert_eq!(sense.is_filemark().is_some(), kind == 0x04, "{kind:02X}h");
        assert_eq!(sense.is_end_of_medium().is_some(), kind == 0x04, "{kind:02X}h");
        assert_eq!(sense.is_incorrect_length().is_some(), [4, 5, 0x0d].contains(&kind), "{kind:02X}h");
    }
}

#[test]
fn invalid_field_in_cdb_in_descriptor_format() {
    let bytes = [
        0x72, 0x05, 0x24, 0x00, 0, 0, 0, 0x14, 0x00, 0x0a, 0x00, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0x06, 0, 0,
        0xcf, 0x00, 0x01, 0,
    ];
    let sense = Sense::parse(&bytes).unwrap();
    assert_eq!(sense.information(), None, "its VALID is not set");
    assert_eq!(sense.to_string(), "ILLEGAL REQUEST, INVALID FIELD IN CDB (05/24/00), CDB byte 1, bit 7");
}

#[test]
fn additional_sense_length_ends_sense_data() {
    let mut bytes = [0xff; 32];
    bytes[..18].copy_from_slice(&SenseCode::INVALID_OPCODE.to_fixed());
    assert_eq!(Sense::parse(&bytes).unwrap().as_bytes(), SenseCode::INVALID_OPCODE.to_fixed());
    bytes[7] = 6;
    let sense = Sense::parse(&bytes).unwrap();
    assert_eq!(sense.as_bytes().len(), 14);
    assert!(!sense.is_truncated());
    assert_eq!(sense.code(), Some(SenseCode::INVALID_OPCODE));
    assert_eq!(sense.sense_key_specific(), None);
    bytes[7] = 0;
    let sense = Sense::parse(&bytes).unwrap();
    assert_eq!(sense.key(), Some(SenseKey::ILLEGAL_REQUEST));
    assert_eq!(sense.additional(), None);
    assert_eq!(sense.to_string(), "ILLEGAL REQUEST, sense data cut after 8 bytes");
}

#[test]
fn truncated_sense_keeps_the_present_fields() {
    let bytes = SenseCode::RESERVATIONS_RELEASED.to_fixed();
    for length in 1..bytes.len() {
        let sense = Sense::parse(&bytes[..length]).unwrap();
        assert!(sense.is_truncated());
        assert_eq!(sense.key().is_some(), length > 2);
        assert_eq!(sense.code().is_some(), length > 13);
    }
    assert_eq!(Sense::parse(&bytes[..1]).unwrap().to_string(), "sense data cut after 1 bytes");
}

#[test]
fn zeros_and_vendor_formats_are_refused() {
    assert_eq!(Sense::parse(&[]), Err(SenseError::Empty));
    assert_eq!(Sense::parse(&[0; 18]), Err(SenseError::ResponseCode(0)));
    assert_eq!(Sense::parse(&[0xff; 18]), Err(SenseError::ResponseCode(0x7f)));
    assert_eq!(SenseError::ResponseCode(0).to_string(), "response code 00h is not of sense data");
}

#[test]
fn sense_data_over_length_limit_are_refused() {
    let body = [0; 240];
    let fits = Descriptor::Other { kind: 0x80, body: &body };
    let mut buffer = [0; 600];
    let sense = DescriptorSense { descriptors: &[fits], ..DescriptorSense::new(SenseCode::NO_SENSE) };
    assert_eq!(sense.write(&mut buffer), Ok(250));
    assert_eq!(sense.write(&mut buffer[..249]), Err(BuildError::BufferTooSmall { needed: 250, got: 249 }));
    let more = Descriptor::FieldReplaceableUnit(1);
    let sense = DescriptorSense { descriptors: &[fits, more], ..sense };
    assert_eq!(sense.write(&mut buffer), Err(BuildError::TooLong { limit: 252, got: 254 }));
    let huge = [0; 300];
    let huge = Descriptor::Other { kind: 0x80, body: &huge };
    let sense = DescriptorSense { descriptors: &[huge], ..sense };
    assert_eq!(sense.write(&mut buffer), Err(BuildError::TooLong { limit: 252, got: 310 }));
}

#[test]
fn truncated_descriptor_ends_the_list() {
    let bytes = [0x72, 0x04, 0x44, 0x00, 0, 0, 0, 10, 0x03, 0x02, 0, 0x11, 0x00, 0x0a, 0x80, 0, 0, 0];
    let sense = Sense::parse(&bytes).unwrap();
    assert!(!sense.is_truncated(), "the outer length is right");
    assert!(sense.descriptors().eq([Descriptor::FieldReplaceableUnit(0x11)]));
}
