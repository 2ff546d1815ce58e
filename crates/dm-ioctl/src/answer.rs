//! Converts the kernel's answers from bytes to types.
//!
//! All functions are pure. They check every offset and count in the bytes before they use it.

use std::ffi::{CStr, CString};

use crate::{
    DeviceNumber, Error, Flags, Table, Target, Version,
    ioctl::Command,
    layout::{Field, dm_ioctl, dm_target_deps, dm_target_spec, flag},
};

/// The NUL-terminated string of any length after a `struct dm_target_spec`.
const PARAMETERS: Field = Field { name: "parameters", offset: dm_target_spec::SIZE, size: 1 };

/// An entry of the array after `struct dm_target_deps`.
const DEPENDENCY: Field = Field { name: "dev", offset: dm_target_deps::SIZE, size: 8 };

/// Reads the answer to `DM_VERSION`.
pub(crate) fn version(bytes: &[u8]) -> Result<Version, Error> {
    let answer = Answer { command: Command::Version, bytes };
    let number = |index: usize| answer.u32(0, Field { offset: 4 * index, size: 4, ..dm_ioctl::VERSION });
    Ok(Version { major: number(0)?, minor: number(1)?, patch: number(2)? })
}

/// Returns whether the answer is truncated because the buffer was too small.
pub(crate) fn is_truncated(command: Command, bytes: &[u8]) -> Result<bool, Error> {
    let flags = Answer { command, bytes }.u32(0, dm_ioctl::FLAGS)?;
    Ok(flags & flag::BUFFER_FULL != 0)
}

/// Reads a complete answer to `DM_TABLE_STATUS`, with or without `DM_STATUS_TABLE_FLAG`.
pub(crate) fn table(bytes: &[u8]) -> Result<Table, Error> {
    let answer = Answer::new(Command::TableStatus, bytes)?;
    Ok(Table {
        name: answer.string(0, dm_ioctl::NAME)?,
        uuid: answer.string(0, dm_ioctl::UUID)?,
        flags: answer.flags()?,
        open_count: i32::from_ne_bytes(answer.array(0, dm_ioctl::OPEN_COUNT)?),
        event_nr: answer.u32(0, dm_ioctl::EVENT_NR)?,
        targets: answer.targets()?,
    })
}

/// Reads a complete answer to `DM_TABLE_DEPS`.
pub(crate) fn dependencies(bytes: &[u8]) -> Result<Vec<DeviceNumber>, Error> {
    let answer = Answer::new(Command::TableDeps, bytes)?;
    // Without a live table the kernel writes no data, not even a count of zero.
    if !answer.flags()?.contains(Flags::ACTIVE_PRESENT) {
        return Ok(Vec::new());
    }
    let record = answer.data_start()?;
    let count = answer.offset(record, dm_target_deps::COUNT)?;
    let devices = count.checked_mul(DEPENDENCY.size).map(|size| Field { size, ..DEPENDENCY });
    if devices.and_then(|devices| devices.read(answer.bytes, record)).is_none() {
        return Err(answer.malformed(record, dm_target_deps::COUNT));
    }
    (0..count)
        .map(|index| {
            let record = record + index * DEPENDENCY.size;
            DeviceNumber::decode(answer.u64(record, DEPENDENCY)?)
                .ok_or_else(|| answer.malformed(record, DEPENDENCY))
        })
        .collect()
}

/// An answer, up to the end that its `data_size` states.
struct Answer<'a> {
    command: Command,
    bytes: &'a [u8],
}

impl<'a> Answer<'a> {
    fn new(command: Command, bytes: &'a [u8]) -> Result<Self, Error> {
        let whole = Self { command, bytes };
        let size = whole.offset(0, dm_ioctl::DATA_SIZE)?;
        // An answer without data ends where the field `data` starts.
        match bytes.get(..size) {
            Some(bytes) if size >= dm_ioctl::DATA.offset => Ok(Self { command, bytes }),
            _ => Err(whole.malformed(0, dm_ioctl::DATA_SIZE)),
        }
    }

    /// Returns the state, without flags of the request and without unknown flags.
    fn flags(&self) -> Result<Flags, Error> {
        self.u32(0, dm_ioctl::FLAGS).map(Flags::from_bits_truncate)
    }

    /// Returns the offset of the data: after the fixed fields and before the end.
    fn data_start(&self) -> Result<usize, Error> {
        let start = self.offset(0, dm_ioctl::DATA_START)?;
        let possible = dm_ioctl::DATA.offset..self.bytes.len();
        if possible.contains(&start) { Ok(start) } else { Err(self.malformed(0, dm_ioctl::DATA_START)) }
    }

    fn targets(&self) -> Result<Vec<Target>, Error> {
        // The count is not trusted: nothing is allocated for it, and each target uses up some of the bytes.
        let count = self.u32(0, dm_ioctl::TARGET_COUNT)?;
        let mut targets = Vec::new();
        if count == 0 {
            return Ok(targets);
        }
        let data_start = self.data_start()?;
        let mut record = data_start;
        loop {
            let (target, end) = self.target(record)?;
            targets.push(target);
            // `next` of the last target points to the place of a further one, which does not exist.
            if targets.len() as u64 == u64::from(count) {
                return Ok(targets);
            }
            let next = data_start.checked_add(self.offset(record, dm_target_spec::NEXT)?);
            record = next
                .filter(|next| (end..self.bytes.len()).contains(next))
                .ok_or_else(|| self.malformed(record, dm_target_spec::NEXT))?;
        }
    }

    /// Reads the target whose entry starts at `record`. Returns it and the offset of the end of the entry.
    fn target(&self, record: usize) -> Result<(Target, usize), Error> {
        let start = self.u64(record, dm_target_spec::SECTOR_START)?;
        let length = self.u64(record, dm_target_spec::LENGTH)?;
        let kind = self.string(record, dm_target_spec::TARGET_TYPE)?;
        let rest = record.checked_add(PARAMETERS.offset).and_then(|offset| self.bytes.get(offset..));
        let parameters = rest
            .and_then(|rest| CStr::from_bytes_until_nul(rest).ok())
            .ok_or_else(|| self.malformed(record, PARAMETERS))?;
        let end = record + PARAMETERS.offset + parameters.to_bytes_with_nul().len();
        Ok((Target { start, length, kind, parameters: parameters.to_owned() }, end))
    }

    fn string(&self, record: usize, field: Field) -> Result<CString, Error> {
        let string = CStr::from_bytes_until_nul(self.field(record, field)?);
        string.map(CStr::to_owned).map_err(|_| self.malformed(record, field))
    }

    /// Reads a 32-bit number of bytes or entries.
    fn offset(&self, record: usize, field: Field) -> Result<usize, Error> {
        self.u32(record, field)?.try_into().map_err(|_| self.malformed(record, field))
    }

    fn u32(&self, record: usize, field: Field) -> Result<u32, Error> {
        self.array(record, field).map(u32::from_ne_bytes)
    }

    fn u64(&self, record: usize, field: Field) -> Result<u64, Error> {
        self.array(record, field).map(u64::from_ne_bytes)
    }

    fn array<const N: usize>(&self, record: usize, field: Field) -> Result<[u8; N], Error> {
        self.field(record, field)?.try_into().map_err(|_| self.malformed(record, field))
    }

    /// Returns the bytes of `field` in the structure that starts at `record`.
    fn field(&self, record: usize, field: Field) -> Result<&'a [u8], Error> {
        field.read(self.bytes, record).ok_or_else(|| self.malformed(record, field))
    }

    fn malformed(&self, record: usize, field: Field) -> Error {
        Error::malformed(self.command, record, field)
    }
}

#[cfg(test)]
mod tests;
