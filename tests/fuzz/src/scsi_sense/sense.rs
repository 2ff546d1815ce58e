//! Sense data.

use arbitrary::{Result, Unstructured};
use scsi_sense::{
    BuildError, Descriptor, DescriptorSense, FixedSense, Sense, SenseCode, SenseFormat, SenseKey,
    SenseKeySpecific,
};

/// Reads sense data, writes them again, and cuts them at a length that `cut` determines.
pub(super) fn parsed(bytes: &[u8], cut: u8) {
    let Ok(sense) = Sense::parse(bytes) else { return };
    assert_eq!(sense.as_bytes(), &bytes[..sense.as_bytes().len()]);
    assert!(!format!("{sense} {sense:?}").is_empty());
    for descriptor in sense.descriptors() {
        if let Descriptor::ForwardedSense { sense, .. } = descriptor {
            parsed(sense, cut);
        }
    }
    let length = sense.as_bytes().len() * usize::from(cut & 0x1f) / 0x20;
    if length > 0 {
        assert_is_part(Sense::parse(&bytes[..length]).expect("its first byte"), sense);
    }
    match sense.format() {
        SenseFormat::Fixed => fixed(sense),
        SenseFormat::Descriptor => descriptors(sense),
    }
}

/// Writes sense data of fixed format again, if they have all fields.
fn fixed(sense: Sense<'_>) {
    let (Some(code), Some(command_specific), Some(unit)) =
        (sense.code(), sense.command_specific(), sense.field_replaceable_unit().or(Some(0)))
    else {
        return;
    };
    let narrow = |wide: u64| u32::try_from(wide).expect("fields of fixed format have four bytes");
    let written = FixedSense {
        code,
        deferred: sense.is_deferred(),
        information: sense.information().map(narrow),
        command_specific: narrow(command_specific),
        field_replaceable_unit: unit,
        sense_key_specific: sense.sense_key_specific(),
        filemark: sense.is_filemark().unwrap_or_default(),
        end_of_medium: sense.is_end_of_medium().unwrap_or_default(),
        incorrect_length: sense.is_incorrect_length().unwrap_or_default(),
        overflow: sense.has_overflow().unwrap_or_default(),
    }
    .to_bytes();
    assert_same_fields(Sense::parse(&written).expect("sense data"), sense);
}

/// Writes sense data of descriptor format again.
fn descriptors(sense: Sense<'_>) {
    let (Some(code), Some(overflow)) = (sense.code(), sense.has_overflow()) else { return };
    let descriptors: Vec<_> = sense.descriptors().collect();
    let mut buffer = [0xee; DescriptorSense::MAX_LENGTH];
    let written =
        DescriptorSense { code, deferred: sense.is_deferred(), overflow, descriptors: &descriptors };
    match written.write(&mut buffer) {
        Ok(length) => {
            assert!(buffer[length..].iter().all(|byte| *byte == 0xee));
            let again = Sense::parse(&buffer[..length]).expect("sense data");
            assert!(!again.is_truncated());
            assert!(again.descriptors().eq(descriptors), "{sense:?}");
            assert_same_fields(again, sense);
        }
        Err(BuildError::TooLong { .. } | BuildError::BufferTooSmall { .. }) => {
            assert!(sense.as_bytes().len() + 8 > DescriptorSense::MAX_LENGTH, "{sense:?}");
        }
        Err(error) => panic!("{error}: {sense:?}"),
    }
}

fn assert_same_fields(one: Sense<'_>, other: Sense<'_>) {
    assert_eq!((one.code(), one.is_deferred()), (other.code(), other.is_deferred()));
    assert_eq!(one.information(), other.information(), "{other:?}");
    assert_eq!(one.command_specific(), other.command_specific(), "{other:?}");
    assert_eq!(one.sense_key_specific(), other.sense_key_specific(), "{other:?}");
    assert_eq!(one.field_replaceable_unit(), other.field_replaceable_unit(), "{other:?}");
}

/// Checks that fields of sense data that are cut are missing or have their value.
fn assert_is_part(cut: Sense<'_>, whole: Sense<'_>) {
    fn check<T: PartialEq + Copy + std::fmt::Debug>(cut: Option<T>, whole: Option<T>) {
        assert!(cut.is_none() || cut == whole, "{cut:?} is not {whole:?}");
    }
    check(cut.key(), whole.key());
    check(cut.additional(), whole.additional());
    check(cut.information(), whole.information());
    check(cut.command_specific(), whole.command_specific());
    check(cut.field_replaceable_unit(), whole.field_replaceable_unit());
    check(cut.sense_key_specific(), whole.sense_key_specific());
    check(cut.is_filemark(), whole.is_filemark());
    check(cut.is_end_of_medium(), whole.is_end_of_medium());
    check(cut.is_incorrect_length(), whole.is_incorrect_length());
    check(cut.has_overflow(), whole.has_overflow());
    let count = cut.descriptors().count();
    assert!(cut.descriptors().eq(whole.descriptors().take(count)), "{whole:?}");
}

/// Writes sense data of any values, and reads them.
pub(super) fn built(input: &mut Unstructured<'_>) -> Result<()> {
    let code = SenseCode::new(SenseKey::new(input.arbitrary()?), input.arbitrary()?, input.arbitrary()?);
    let [deferred, filemark, end_of_medium, incorrect_length, overflow]: [bool; 5] = input.arbitrary()?;
    let fixed = FixedSense {
        code,
        deferred,
        information: input.arbitrary()?,
        command_specific: input.arbitrary()?,
        field_replaceable_unit: input.arbitrary()?,
        sense_key_specific: SenseKeySpecific::decode(code.key, input.arbitrary()?),
        filemark,
        end_of_medium,
        incorrect_length,
        overflow,
    };
    let bytes = fixed.to_bytes();
    let sense = Sense::parse(&bytes).expect("sense data");
    assert!(!sense.is_truncated());
    assert_eq!((sense.code(), sense.is_deferred()), (Some(code), deferred));
    assert_eq!(sense.information(), fixed.information.map(u64::from));
    assert_eq!(sense.command_specific(), Some(fixed.command_specific.into()));
    assert_eq!(sense.field_replaceable_unit().unwrap_or(0), fixed.field_replaceable_unit);
    assert_eq!(sense.sense_key_specific(), fixed.sense_key_specific);
    let flags = [sense.is_filemark(), sense.is_end_of_medium(), sense.is_incorrect_length()];
    assert_eq!(flags, [Some(filemark), Some(end_of_medium), Some(incorrect_length)]);
    assert_eq!(sense.has_overflow(), Some(overflow));

    let mut descriptors = Vec::new();
    while !input.is_empty() && descriptors.len() < 8 {
        let (kind, length): (u8, u8) = input.arbitrary()?;
        let body = input.bytes(usize::from(length & 0x1f).min(input.len()))?;
        descriptors.push(Descriptor::decode(code.key, kind, body));
    }
    let mut buffer = [0; DescriptorSense::MAX_LENGTH];
    let written = DescriptorSense { code, deferred, overflow, descriptors: &descriptors };
    if let Ok(length) = written.write(&mut buffer) {
        let sense = Sense::parse(&buffer[..length]).expect("sense data");
        assert_eq!((sense.code(), sense.is_deferred()), (Some(code), deferred));
        assert!(sense.descriptors().eq(descriptors), "{sense:?}");
    }
    Ok(())
}
