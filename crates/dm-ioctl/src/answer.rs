//! Reading an answer: a pure function of its bytes, none of which is believed.

use crate::{DeviceNumber, Malformed, State, Table, Target, Version, decode, ioctl};

/// `struct dm_target_spec`: its length and its fields' offsets, in bytes.
pub(crate) const TARGET: usize = 40;
pub(crate) const TARGET_START: usize = 0;
pub(crate) const TARGET_LENGTH: usize = 8;
pub(crate) const TARGET_NEXT: usize = 20;
pub(crate) const TARGET_TYPE: usize = 24;
pub(crate) const TARGET_TYPE_LEN: usize = 16;

/// Where the numbers of `struct dm_target_deps` begin.
pub(crate) const DEPENDENCIES: usize = 8;

/// An answer with all of its header.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    header: &'a [u8; ioctl::HEADER],
    /// What follows the header, as far as `data_start` and `data_size` say.
    data: &'a [u8],
}

impl<'a> Answer<'a> {
    pub(crate) fn new(buffer: &'a [u8]) -> Result<Self, Malformed> {
        let header = buffer.first_chunk().ok_or(Malformed::Data)?;
        let [start, size] = [ioctl::DATA_START, ioctl::DATA_SIZE].map(|at| number_at(header, at));
        let (start, size) = (start as usize, size as usize);
        // DM_VERSION has no data, and says nothing of where they would be.
        let data = if size <= ioctl::HEADER {
            &[]
        } else if start < ioctl::HEADER {
            return Err(Malformed::Data);
        } else {
            buffer.get(start..size).ok_or(Malformed::Data)?
        };
        Ok(Self { header, data })
    }

    fn number(&self, at: usize) -> u32 {
        number_at(self.header, at)
    }

    /// Whether there was more to say than the buffer could hold.
    pub(crate) fn is_cut(&self) -> bool {
        self.number(ioctl::FLAGS) & ioctl::BUFFER_FULL != 0
    }

    pub(crate) fn version(&self) -> Version {
        Version {
            major: self.number(ioctl::VERSION),
            minor: self.number(ioctl::VERSION + 4),
            patch: self.number(ioctl::VERSION + 8),
        }
    }

    pub(crate) fn table(&self) -> Result<Table, Malformed> {
        let mut targets = Vec::new();
        let mut at = 0;
        for index in 0..self.number(ioctl::TARGET_COUNT) {
            let (target, next) = self.target(index, at)?;
            targets.push(target);
            at = next;
        }
        Ok(Table {
            name: text(self.header.get(ioctl::NAME..).unwrap_or_default(), ioctl::NAME_LEN).to_vec(),
            uuid: text(self.header.get(ioctl::UUID..).unwrap_or_default(), ioctl::UUID_LEN).to_vec(),
            state: State::from_bits_retain(self.number(ioctl::FLAGS) & !REQUEST_FLAGS),
            open_count: self.number(ioctl::OPEN_COUNT),
            event_number: self.number(ioctl::EVENT_NR),
            targets,
        })
    }

    /// The target `at` this offset of the data, and the offset of the next.
    fn target(&self, index: u32, at: usize) -> Result<(Target, usize), Malformed> {
        let bytes = self.data.get(at..).ok_or(Malformed::Target(index))?;
        let (head, text_on) = bytes.split_first_chunk::<TARGET>().ok_or(Malformed::Target(index))?;
        // From the first target, as the kernel counts here.
        let next = number_at(head, TARGET_NEXT) as usize;
        if next < at.saturating_add(TARGET) {
            return Err(Malformed::Target(index));
        }
        let end = text_on.iter().position(|&byte| byte == 0).ok_or(Malformed::Unterminated(index))?;
        if at.saturating_add(TARGET).saturating_add(end) >= next {
            return Err(Malformed::Unterminated(index));
        }
        let target = Target {
            start: long_at(head, TARGET_START),
            length: long_at(head, TARGET_LENGTH),
            kind: text(head.get(TARGET_TYPE..).unwrap_or_default(), TARGET_TYPE_LEN).to_vec(),
            parameters: text_on.get(..end).unwrap_or_default().to_vec(),
        };
        Ok((target, next))
    }

    pub(crate) fn dependencies(&self) -> Result<Vec<DeviceNumber>, Malformed> {
        if self.data.is_empty() {
            return Ok(Vec::new());
        }
        let count = self.data.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
        let count = count.ok_or(Malformed::Dependencies)? as usize;
        let numbers = self.data.get(DEPENDENCIES..).unwrap_or_default();
        let numbers =
            count.checked_mul(8).and_then(|length| numbers.get(..length)).ok_or(Malformed::Dependencies)?;
        numbers
            .chunks_exact(8)
            .map(|bytes| decode(long_at(bytes, 0)).ok_or(Malformed::Dependencies))
            .collect()
    }
}

/// What a request sets, and an answer still has.
const REQUEST_FLAGS: u32 = ioctl::STATUS_TABLE | ioctl::NO_FLUSH;

fn number_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

fn long_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}

/// The text in a field of `length` bytes, as far as its NUL.
fn text(bytes: &[u8], length: usize) -> &[u8] {
    let field = bytes.get(..length).unwrap_or(bytes);
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An answer such as the kernel makes it.
    fn answer(targets: &[(&str, &str)]) -> Vec<u8> {
        let mut bytes = vec![0; ioctl::HEADER];
        for (kind, parameters) in targets {
            let at = bytes.len() - ioctl::HEADER;
            let next = (at + TARGET + parameters.len() + 1).next_multiple_of(8);
            let mut target = [0; TARGET];
            target[TARGET_START..8].copy_from_slice(&7_u64.to_ne_bytes());
            target[TARGET_LENGTH..16].copy_from_slice(&9_u64.to_ne_bytes());
            set(&mut target, TARGET_NEXT, u32::try_from(next).unwrap());
            target[TARGET_TYPE..TARGET_TYPE + kind.len()].copy_from_slice(kind.as_bytes());
            bytes.extend(target);
            bytes.extend(parameters.bytes());
            bytes.resize(ioctl::HEADER + next, 0);
        }
        finish(bytes, targets.len())
    }

    fn finish(mut bytes: Vec<u8>, count: usize) -> Vec<u8> {
        let size = u32::try_from(bytes.len()).unwrap();
        for (at, value) in [
            (ioctl::VERSION, 4),
            (ioctl::VERSION + 4, 48),
            (ioctl::DATA_SIZE, size),
            (ioctl::DATA_START, 312),
            (ioctl::TARGET_COUNT, u32::try_from(count).unwrap()),
            (ioctl::OPEN_COUNT, 2),
            (ioctl::FLAGS, (State::HAS_TABLE | State::SUSPENDED).bits() | ioctl::STATUS_TABLE),
            (ioctl::EVENT_NR, 5),
        ] {
            set(&mut bytes, at, value);
        }
        bytes[ioctl::NAME..ioctl::NAME + 6].copy_from_slice(b"mpatha");
        bytes[ioctl::UUID..ioctl::UUID + 7].copy_from_slice(b"mpath-3");
        bytes
    }

    fn set(bytes: &mut [u8], at: usize, value: u32) {
        bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }

    fn table(bytes: &[u8]) -> Result<Table, Malformed> {
        Answer::new(bytes)?.table()
    }

    #[test]
    fn a_table_is_read_whole() {
        let bytes = answer(&[("multipath", "0 0 1 1 8:0"), ("linear", ""), ("sixteen-letters!", "x")]);
        let table = table(&bytes).unwrap();
        assert_eq!((&table.name[..], &table.uuid[..]), (&b"mpatha"[..], &b"mpath-3"[..]));
        assert_eq!(table.state, State::HAS_TABLE | State::SUSPENDED);
        assert_eq!((table.open_count, table.event_number), (2, 5));
        let target = |kind: &str, parameters: &str| Target {
            start: 7,
            length: 9,
            kind: kind.into(),
            parameters: parameters.into(),
        };
        assert_eq!(
            table.targets,
            [target("multipath", "0 0 1 1 8:0"), target("linear", ""), target("sixteen-letters!", "x")]
        );
        assert_eq!(Answer::new(&bytes).unwrap().version(), Version { major: 4, minor: 48, patch: 0 });
        assert_eq!(super::tests::table(&answer(&[])).unwrap().targets, [], "no table");
    }

    #[test]
    fn offsets_that_lead_astray_are_not_followed() {
        let good = answer(&[("a", "1"), ("b", "2")]);
        let next = ioctl::HEADER + TARGET_NEXT;
        for (at, value, expected) in [
            (ioctl::TARGET_COUNT, 3, Malformed::Target(2)),
            (ioctl::TARGET_COUNT, u32::MAX, Malformed::Target(2)),
            (ioctl::DATA_START, 0, Malformed::Data),
            (ioctl::DATA_START, 10_000, Malformed::Data),
            (ioctl::DATA_SIZE, 10_000, Malformed::Data),
            (next, 0, Malformed::Target(0)),
            (next, 39, Malformed::Target(0)),
            (next, 40, Malformed::Unterminated(0)),
            (next, 10_000, Malformed::Target(1)),
            (next, u32::MAX, Malformed::Target(1)),
        ] {
            let mut bytes = good.clone();
            set(&mut bytes, at, value);
            assert_eq!(table(&bytes), Err(expected), "{value} at {at}");
        }
        let mut unterminated = answer(&[("a", "1234567")]);
        *unterminated.last_mut().unwrap() = b'8';
        assert_eq!(table(&unterminated), Err(Malformed::Unterminated(0)));
        for end in 0..ioctl::HEADER {
            assert_eq!(table(&good[..end]), Err(Malformed::Data));
        }
    }

    #[test]
    fn dependencies_are_read_as_far_as_they_are_there() {
        let dependencies = |count: u32, numbers: &[u64]| {
            let mut bytes = vec![0; ioctl::HEADER];
            bytes.extend(count.to_ne_bytes());
            bytes.extend([0; 4]);
            bytes.extend(numbers.iter().flat_map(|number| number.to_ne_bytes()));
            Answer::new(&finish(bytes, 0)).unwrap().dependencies()
        };
        let disk = |minor| DeviceNumber { major: 8, minor };
        assert_eq!(dependencies(2, &[0x800, 0x810]), Ok(vec![disk(0), disk(16)]));
        assert_eq!(dependencies(0, &[]), Ok(vec![]));
        assert_eq!(dependencies(2, &[0x800]), Err(Malformed::Dependencies));
        assert_eq!(dependencies(u32::MAX, &[0x800]), Err(Malformed::Dependencies));
        assert_eq!(dependencies(1, &[u64::MAX]), Err(Malformed::Dependencies));
        assert_eq!(Answer::new(&answer(&[])).unwrap().dependencies(), Ok(vec![]), "no table");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(
            mut bytes in proptest::collection::vec(any::<u8>(), ioctl::HEADER..500),
            start in 300_u32..520,
            size in 300_u32..520,
            count in 0_u32..4,
        ) {
            set(&mut bytes, ioctl::DATA_START, start);
            set(&mut bytes, ioctl::DATA_SIZE, size);
            set(&mut bytes, ioctl::TARGET_COUNT, count);
            if let Ok(answer) = Answer::new(&bytes) {
                let _ = answer.table();
                let _ = answer.dependencies();
            }
        }

        #[test]
        fn tables_come_back(targets in proptest::collection::vec(("[a-z]{1,16}", "[ -~]{0,60}"), 0..6)) {
            let targets: Vec<_> =
                targets.iter().map(|(kind, text)| (kind.as_str(), text.as_str())).collect();
            let table = table(&answer(&targets)).unwrap();
            let read: Vec<_> = table
                .targets
                .iter()
                .map(|target| (str::from_utf8(&target.kind).unwrap(), str::from_utf8(&target.parameters).unwrap()))
                .collect();
            prop_assert_eq!(read, targets);
        }
    }
}
