//! The device-mapper's answers, whose tables were loaded by other programs. Compared with a plain reading of the structures
//! of `<linux/dm-ioctl.h>`.

use arbitrary::Unstructured;
use dm_ioctl::{DeviceNumber, fuzzing};

/// Offset of the data in an answer of the kernel: the size of `struct dm_ioctl`.
const DATA: usize = 312;

/// The bytes are an answer as they are, and the fields and data from which an answer is made.
pub fn dm_ioctl(data: &[u8]) {
    check(data);
    if let Ok(answer) = made(&mut Unstructured::new(data)) {
        check(&answer);
    }
}

fn check(answer: &[u8]) {
    let table = fuzzing::table(answer);
    match (table.is_ok(), plain_table(answer)) {
        (true, Some(targets)) => {
            let table = table.expect("it is one");
            let found: Vec<Target<'_>> = table
                .targets
                .iter()
                .map(|target| {
                    (target.start, target.length, target.kind.as_bytes(), target.parameters.as_bytes())
                })
                .collect();
            assert_eq!(found, targets);
            assert_eq!(Some(table.name.as_bytes()), text(answer, 48, 128));
            assert_eq!(Some(table.uuid.as_bytes()), text(answer, 176, 129));
            let multipath = matches!(targets[..], [(_, _, b"multipath", _)]);
            assert_eq!(table.multipath_target().is_some(), multipath);
        }
        (is_table, plain) => assert_eq!(is_table, plain.is_some(), "{table:?}"),
    }
    let found = fuzzing::dependencies(answer);
    match plain_dependencies(answer) {
        Some(plain) => assert_eq!(found.expect("the plain reading has some"), plain),
        None => assert!(found.is_err(), "{found:?}"),
    }
}

/// Returns an answer as the kernel lays it out, with arbitrary counts and offsets.
fn made(input: &mut Unstructured<'_>) -> arbitrary::Result<Vec<u8>> {
    let mut answer = vec![0; DATA];
    let is_honest: bool = input.arbitrary()?;
    let (size, start, count, flags): (u16, u16, u8, u8) = input.arbitrary()?;
    let name: [u8; 4] = input.arbitrary()?;
    answer.extend(input.bytes(input.len())?);
    let length = u32::try_from(answer.len()).unwrap_or(u32::MAX);
    let (size, start) = if is_honest { (length, 312) } else { (size.into(), start.into()) };
    for (offset, value) in [(12, size), (16, start), (20, count.into()), (28, flags.into())] {
        answer[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
    }
    // The last byte of a name without zeros: the field has no end then.
    for (offset, length, byte) in [(48, 128, name[0]), (176, 129, name[1])] {
        answer[offset..offset + length].fill(byte);
        answer[offset + length - 1] = name[2] & 1;
    }
    Ok(answer)
}

/// `sector_start`, `length`, `target_type` and parameters of a target.
type Target<'a> = (u64, u64, &'a [u8], &'a [u8]);

/// Returns the targets of a well-formed answer to `DM_TABLE_STATUS`.
fn plain_table(answer: &[u8]) -> Option<Vec<Target<'_>>> {
    let answer = cut(answer)?;
    text(answer, 48, 128)?;
    text(answer, 176, 129)?;
    let count = number(answer, 20)?;
    let mut targets = Vec::new();
    if count == 0 {
        return Some(targets);
    }
    let start = data_start(answer)?;
    let mut record = start;
    for index in 0..count {
        let parameters = text(answer, record + 40, usize::MAX)?;
        let kind = text(answer, record + 24, 16)?;
        targets.push((wide(answer, record)?, wide(answer, record + 8)?, kind, parameters));
        if index + 1 < count {
            let next = start + number(answer, record + 20)?;
            let end = record + 40 + parameters.len() + 1;
            record = Some(next).filter(|next| *next >= end && *next < answer.len())?;
        }
    }
    Some(targets)
}

/// Returns the devices of a well-formed answer to `DM_TABLE_DEPS`.
fn plain_dependencies(answer: &[u8]) -> Option<Vec<DeviceNumber>> {
    let answer = cut(answer)?;
    let is_active = number(answer, 28)? & 0x20 != 0;
    if !is_active {
        return Some(Vec::new());
    }
    let start = data_start(answer)?;
    let count = number(answer, start)?;
    // The count is followed by four bytes of padding.
    answer.get(start..start + 8)?;
    // `huge_encode_dev` of the kernel: twelve bits of the major number, twenty of the minor, and nothing else.
    (0..count)
        .map(|index| {
            let number = u32::try_from(wide(answer, start + 8 + 8 * index)?).ok()?;
            let minor = number & 0xff | number >> 12 & 0xf_ff00;
            Some(DeviceNumber { major: number >> 8 & 0xfff, minor })
        })
        .collect()
}

/// Returns the answer up to its `data_size`.
fn cut(answer: &[u8]) -> Option<&[u8]> {
    let size = number(answer, 12)?;
    answer.get(..size).filter(|answer| answer.len() >= 305)
}

fn data_start(answer: &[u8]) -> Option<usize> {
    number(answer, 16).filter(|start| *start >= 305 && *start < answer.len())
}

/// Returns a 32-bit number.
fn number(answer: &[u8], at: usize) -> Option<usize> {
    let bytes = answer.get(at..at + 4)?;
    u32::from_ne_bytes(bytes.try_into().ok()?).try_into().ok()
}

/// Returns a 64-bit number.
fn wide(answer: &[u8], at: usize) -> Option<u64> {
    answer.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes)
}

/// Returns the text that starts at `at` and ends with a zero, within `room` bytes that all exist unless there is no limit.
fn text(answer: &[u8], at: usize, room: usize) -> Option<&[u8]> {
    let rest = answer.get(at..)?;
    let field = if room == usize::MAX { rest } else { rest.get(..room)? };
    field.split(|byte| *byte == 0).next().filter(|text| text.len() < field.len())
}
