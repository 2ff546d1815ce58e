//! Sense data.

use proptest::prelude::*;
use scsi_sense::{
    AtaStatusReturn, Descriptor, DescriptorSense, DirectAccessBlockDevice, FixedSense, Sense, SenseCode,
    SenseKey, SenseKeySpecific, Status,
};

use crate::leak;

fn codes() -> impl Strategy<Value = SenseCode> {
    any::<(u8, u8, u8)>().prop_map(|(key, asc, ascq)| SenseCode::new(SenseKey::new(key), asc, ascq))
}

/// Generates every form of SENSE KEY SPECIFIC that this sense key allows, and none.
fn specifics(key: SenseKey) -> impl Strategy<Value = Option<SenseKeySpecific>> {
    any::<[u8; 3]>().prop_map(move |bytes| SenseKeySpecific::decode(key, bytes))
}

fn fixed() -> impl Strategy<Value = FixedSense> {
    codes().prop_flat_map(|code| {
        (specifics(code.key), any::<Option<u32>>(), any::<(u32, u8)>(), any::<[bool; 5]>()).prop_map(
            move |(sense_key_specific, information, (command_specific, unit), flags)| FixedSense {
                code,
                deferred: flags[0],
                information,
                command_specific,
                field_replaceable_unit: unit,
                sense_key_specific,
                filemark: flags[1],
                end_of_medium: flags[2],
                incorrect_length: flags[3],
                overflow: flags[4],
            },
        )
    })
}

fn descriptors(key: SenseKey) -> impl Strategy<Value = Descriptor<'static>> {
    let body = || prop::collection::vec(any::<u8>(), 0..30).prop_map(leak);
    prop_oneof![
        any::<(bool, u64)>().prop_map(|(valid, information)| Descriptor::Information { valid, information }),
        any::<u64>().prop_map(Descriptor::CommandSpecific),
        specifics(key).prop_filter_map("no SKSV", |specific| specific.map(Descriptor::SenseKeySpecific)),
        any::<u8>().prop_map(Descriptor::FieldReplaceableUnit),
        any::<[bool; 3]>().prop_map(|[filemark, end_of_medium, incorrect_length]| {
            Descriptor::StreamCommands { filemark, end_of_medium, incorrect_length }
        }),
        any::<bool>().prop_map(|incorrect_length| Descriptor::BlockCommands { incorrect_length }),
        (any::<(bool, u8, u16, u8, u8)>(), 0..1_u64 << 48).prop_map(
            |((extend, error, count, device, status), lba)| {
                Descriptor::AtaStatusReturn(AtaStatusReturn { extend, error, count, lba, device, status })
            }
        ),
        (codes(), any::<u16>()).prop_map(|(code, progress)| Descriptor::AnotherProgress { code, progress }),
        (any::<(bool, u8)>(), 0..16_u8, body()).prop_map(|((truncated, status), source, sense)| {
            Descriptor::ForwardedSense { truncated, source, status: Status(status), sense }
        }),
        (any::<(Option<u64>, u64, u8, bool)>(), specifics(key)).prop_map(
            |((information, command_specific, unit, incorrect_length), sense_key_specific)| {
                Descriptor::DirectAccessBlockDevice(DirectAccessBlockDevice {
                    information,
                    command_specific,
                    sense_key_specific,
                    field_replaceable_unit: unit,
                    incorrect_length,
                })
            }
        ),
        (0x0e_u8.., body()).prop_map(|(kind, body)| Descriptor::Other { kind, body }),
    ]
}

/// Generates descriptor format sense data: the bytes, and the fields from which they were built.
fn with_descriptors() -> impl Strategy<Value = (Vec<u8>, SenseCode, bool, bool, Vec<Descriptor<'static>>)> {
    (codes(), any::<(bool, bool)>())
        .prop_flat_map(|(code, flags)| {
            (Just(code), Just(flags), prop::collection::vec(descriptors(code.key), 0..6))
        })
        .prop_map(|(code, (deferred, overflow), descriptors)| {
            let mut bytes = vec![0xee; DescriptorSense::MAX_LENGTH];
            let sense = DescriptorSense { code, deferred, overflow, descriptors: &descriptors };
            let length = sense.write(&mut bytes).expect("six descriptors fit");
            bytes.truncate(length);
            (bytes, code, deferred, overflow, descriptors)
        })
}

/// Checks that every field of truncated sense data equals that of the complete data, or is missing.
fn assert_fields_equal_or_missing(cut: Sense<'_>, whole: Sense<'_>) -> Result<(), TestCaseError> {
    fn subset<T: PartialEq + Copy>(cut: Option<T>, whole: Option<T>) -> bool {
        cut.is_none() || cut == whole
    }
    prop_assert!(cut.is_truncated());
    prop_assert_eq!(cut.response_code(), whole.response_code());
    prop_assert!(subset(cut.key(), whole.key()));
    prop_assert!(subset(cut.code(), whole.code()));
    prop_assert!(subset(cut.information(), whole.information()));
    prop_assert!(subset(cut.command_specific(), whole.command_specific()));
    prop_assert!(subset(cut.field_replaceable_unit(), whole.field_replaceable_unit()));
    prop_assert!(subset(cut.sense_key_specific(), whole.sense_key_specific()));
    prop_assert!(subset(cut.is_filemark(), whole.is_filemark()));
    prop_assert!(subset(cut.is_end_of_medium(), whole.is_end_of_medium()));
    prop_assert!(subset(cut.is_incorrect_length(), whole.is_incorrect_length()));
    prop_assert!(subset(cut.has_overflow(), whole.has_overflow()));
    let count = cut.descriptors().count();
    prop_assert!(cut.descriptors().eq(whole.descriptors().take(count)));
    Ok(())
}

proptest! {
    #[test]
    fn fixed_format_is_read_as_built(built in fixed()) {
        let bytes = built.to_bytes();
        let sense = Sense::parse(&bytes).unwrap();
        prop_assert!(!sense.is_truncated());
        prop_assert_eq!(
            FixedSense {
                code: sense.code().unwrap(),
                deferred: sense.is_deferred(),
                information: sense.information().map(|information| information.try_into().unwrap()),
                command_specific: sense.command_specific().unwrap().try_into().unwrap(),
                field_replaceable_unit: sense.field_replaceable_unit().unwrap_or(0),
                sense_key_specific: sense.sense_key_specific(),
                filemark: sense.is_filemark().unwrap(),
                end_of_medium: sense.is_end_of_medium().unwrap(),
                incorrect_length: sense.is_incorrect_length().unwrap(),
                overflow: sense.has_overflow().unwrap(),
            },
            built
        );
    }

    #[test]
    fn descriptor_format_is_read_as_built((bytes, code, deferred, overflow, descriptors) in with_descriptors()) {
        let sense = Sense::parse(&bytes).unwrap();
        prop_assert!(!sense.is_truncated());
        prop_assert_eq!(sense.as_bytes(), &bytes[..]);
        prop_assert_eq!(sense.code(), Some(code));
        prop_assert_eq!(sense.is_deferred(), deferred);
        prop_assert_eq!(sense.has_overflow(), Some(overflow));
        prop_assert!(sense.descriptors().eq(descriptors));
    }

    #[test]
    fn truncated_sense_is_not_misread(fixed in fixed(), (bytes, ..) in with_descriptors()) {
        for bytes in [&fixed.to_bytes()[..], &bytes] {
            let whole = Sense::parse(bytes).unwrap();
            for length in 1..bytes.len() {
                assert_fields_equal_or_missing(Sense::parse(&bytes[..length]).unwrap(), whole)?;
            }
        }
    }

    #[test]
    fn bytes_after_the_end_are_ignored(
        (bytes, ..) in with_descriptors(),
        more in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let longer = [&bytes[..], &more].concat();
        prop_assert_eq!(Sense::parse(&longer), Sense::parse(&bytes));
    }
}
