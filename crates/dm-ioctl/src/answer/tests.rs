//! Tests with answers in the kernel's layout, malformed answers, and random bytes.

use proptest::prelude::*;

use super::*;

/// Offset at which the kernel puts the data: after the whole structure.
const DATA_START: usize = dm_ioctl::SIZE;

/// Returns an answer without data: `mpatha`, open three times, event number 7.
fn header(flags: Flags, target_count: u32) -> Vec<u8> {
    let mut bytes = vec![0; dm_ioctl::DATA.offset];
    put(&mut bytes, dm_ioctl::VERSION, &4_u32.to_ne_bytes());
    put(&mut bytes, dm_ioctl::DATA_SIZE, &305_u32.to_ne_bytes());
    put(&mut bytes, dm_ioctl::TARGET_COUNT, &target_count.to_ne_bytes());
    put(&mut bytes, dm_ioctl::OPEN_COUNT, &3_i32.to_ne_bytes());
    put(&mut bytes, dm_ioctl::FLAGS, &(flags.bits() | flag::STATUS_TABLE | flag::NOFLUSH).to_ne_bytes());
    put(&mut bytes, dm_ioctl::EVENT_NR, &7_u32.to_ne_bytes());
    put(&mut bytes, dm_ioctl::NAME, b"mpatha");
    put(&mut bytes, dm_ioctl::UUID, b"mpath-3600140500000000");
    bytes
}

fn put(bytes: &mut [u8], field: Field, value: &[u8]) {
    put_at(bytes, 0, field, value);
}

fn put_at(bytes: &mut [u8], record: usize, field: Field, value: &[u8]) {
    assert!(value.len() <= field.size);
    bytes[record + field.offset..][..value.len()].copy_from_slice(value);
}

/// Adds data to an answer.
fn with_data(mut bytes: Vec<u8>, data: &[u8]) -> Vec<u8> {
    let size = u32::try_from(DATA_START + data.len()).unwrap();
    put(&mut bytes, dm_ioctl::DATA_SIZE, &size.to_ne_bytes());
    put(&mut bytes, dm_ioctl::DATA_START, &u32::try_from(DATA_START).unwrap().to_ne_bytes());
    bytes.resize(DATA_START, 0);
    bytes.extend(data);
    bytes
}

fn target(start: u64, length: u64, kind: &CStr, parameters: &CStr) -> Target {
    Target { start, length, kind: kind.to_owned(), parameters: parameters.to_owned() }
}

/// Returns the data of a table. Each entry is followed by its parameters, and by zeros that align the next entry to
/// eight bytes. The last entry is not padded.
fn table_data(targets: &[Target]) -> Vec<u8> {
    let mut data = Vec::new();
    for target in targets {
        data.resize(data.len().next_multiple_of(8), 0);
        let record = data.len();
        data.resize(record + dm_target_spec::SIZE, 0);
        data.extend(target.parameters.to_bytes_with_nul());
        let next = u32::try_from(data.len().next_multiple_of(8)).unwrap();
        put_at(&mut data, record, dm_target_spec::SECTOR_START, &target.start.to_ne_bytes());
        put_at(&mut data, record, dm_target_spec::LENGTH, &target.length.to_ne_bytes());
        put_at(&mut data, record, dm_target_spec::NEXT, &next.to_ne_bytes());
        put_at(&mut data, record, dm_target_spec::TARGET_TYPE, target.kind.to_bytes_with_nul());
    }
    data
}

fn table_answer(targets: &[Target]) -> Vec<u8> {
    let header = header(Flags::ACTIVE_PRESENT, u32::try_from(targets.len()).unwrap());
    with_data(header, &table_data(targets))
}

fn dependencies_answer(numbers: &[u64]) -> Vec<u8> {
    let mut data = vec![0; dm_target_deps::SIZE];
    put(&mut data, dm_target_deps::COUNT, &u32::try_from(numbers.len()).unwrap().to_ne_bytes());
    data.extend(numbers.iter().flat_map(|number| number.to_ne_bytes()));
    with_data(header(Flags::ACTIVE_PRESENT, 1), &data)
}

fn multipath() -> Target {
    let parameters = c"0 0 1 1 service-time 0 2 2 8:0 1 1 8:16 1 1";
    target(0, 131_072, c"multipath", parameters)
}

fn three_targets() -> [Target; 3] {
    [
        target(0, 8, c"linear", c"8:0 2048"),
        target(8, u64::MAX, c"zero", c""),
        target(16, 24, c"crypt", c"\xff\xfe"),
    ]
}

/// Returns the field for which an answer is refused, and its offset.
fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> (&'static str, usize) {
    match result.unwrap_err() {
        Error::Malformed { field, offset, .. } => (field, offset),
        other => panic!("{other:?}"),
    }
}

#[test]
fn multipath_map_is_read() {
    let table = table(&table_answer(&[multipath()])).unwrap();
    assert_eq!(
        table,
        Table {
            name: c"mpatha".to_owned(),
            uuid: c"mpath-3600140500000000".to_owned(),
            flags: Flags::ACTIVE_PRESENT,
            open_count: 3,
            event_nr: 7,
            targets: vec![multipath()],
        }
    );
    assert_eq!(table.multipath_target(), Some(&multipath()));
}

#[test]
fn targets_are_read_in_order() {
    let table = table(&table_answer(&three_targets())).unwrap();
    assert_eq!(table.targets, three_targets());
    assert_eq!(table.multipath_target(), None);
}

#[test]
fn device_without_live_table_has_no_targets() {
    // `data_size` of such an answer from an older and from a newer kernel.
    for size in [312_u32, 305] {
        let mut bytes = header(Flags::SUSPEND | Flags::INACTIVE_PRESENT, 0);
        bytes.resize(4096, 0);
        put(&mut bytes, dm_ioctl::DATA_SIZE, &size.to_ne_bytes());
        let table = table(&bytes).unwrap();
        assert_eq!(table.targets, []);
        assert_eq!(table.flags, Flags::SUSPEND | Flags::INACTIVE_PRESENT);
        assert_eq!(dependencies(&bytes).unwrap(), []);
    }
}

#[test]
fn request_flags_and_unknown_flags_are_omitted() {
    let mut bytes = table_answer(&[multipath()]);
    put(&mut bytes, dm_ioctl::FLAGS, &u32::MAX.to_ne_bytes());
    let flags = table(&bytes).unwrap().flags;
    assert_eq!(flags, Flags::all());
    assert_eq!(flags.bits(), 0x0006_0063);
}

#[test]
fn names_that_are_not_utf8_are_kept() {
    let mut bytes = table_answer(&[]);
    put(&mut bytes, dm_ioctl::NAME, b"\xff\x80 \n\0not this");
    put(&mut bytes, dm_ioctl::UUID, b"\0");
    let table = table(&bytes).unwrap();
    assert_eq!(table.name.as_bytes(), b"\xff\x80 \n");
    assert_eq!(table.uuid.as_bytes(), b"");
}

#[test]
fn longest_name_and_uuid_are_read() {
    let mut bytes = table_answer(&[]);
    put(&mut bytes, dm_ioctl::NAME, &[b'n'; 127]);
    put(&mut bytes, dm_ioctl::UUID, &[b'u'; 128]);
    let table = table(&bytes).unwrap();
    assert_eq!((table.name.as_bytes().len(), table.uuid.as_bytes().len()), (127, 128));
}

#[test]
fn unterminated_names_and_types_are_refused() {
    let mut bytes = table_answer(&[multipath()]);
    put(&mut bytes, dm_ioctl::NAME, &[b'n'; 128]);
    assert_eq!(refused(table(&bytes)), ("name", 48));

    let mut bytes = table_answer(&[multipath()]);
    put(&mut bytes, dm_ioctl::UUID, &[b'u'; 129]);
    assert_eq!(refused(table(&bytes)), ("uuid", 176));

    let mut bytes = table_answer(&[multipath()]);
    put_at(&mut bytes, DATA_START, dm_target_spec::TARGET_TYPE, b"multipath-------");
    assert_eq!(refused(table(&bytes)), ("target_type", DATA_START + 24));
}

#[test]
fn unterminated_parameters_are_refused() {
    for targets in [&[multipath()][..], &three_targets()] {
        let whole = table_answer(targets);
        let mut bytes = whole[..whole.len() - 1].to_vec();
        let size = u32::try_from(bytes.len()).unwrap();
        put(&mut bytes, dm_ioctl::DATA_SIZE, &size.to_ne_bytes());
        let last = whole.len() - targets.last().unwrap().parameters.as_bytes_with_nul().len();
        assert_eq!(refused(table(&bytes)), ("parameters", last));
        // A NUL after the end that `data_size` states is not part of the answer.
        bytes.resize(4096, 0);
        assert_eq!(refused(table(&bytes)), ("parameters", last));
    }
}

#[test]
fn next_target_must_be_inside_the_answer() {
    let whole = table_answer(&three_targets());
    let linear = DATA_START;
    // The first entry has 40 bytes and nine bytes of parameters, so the next one starts at 56.
    let end = u32::try_from(whole.len() - DATA_START).unwrap();
    for next in [0, 1, 39, 40, 48, end, 4096, u32::MAX] {
        let mut bytes = whole.clone();
        put_at(&mut bytes, linear, dm_target_spec::NEXT, &next.to_ne_bytes());
        assert_eq!(refused(table(&bytes)), ("next", linear + 20), "{next}");
    }
    // Too close to the end for another entry.
    let mut bytes = whole.clone();
    put_at(&mut bytes, linear, dm_target_spec::NEXT, &(end - 12).to_ne_bytes());
    assert_eq!(refused(table(&bytes)), ("length", whole.len() - 4));
}

#[test]
fn next_of_last_target_is_ignored() {
    for next in [0, 1, 4096, u32::MAX] {
        let mut bytes = table_answer(&[multipath()]);
        put_at(&mut bytes, DATA_START, dm_target_spec::NEXT, &next.to_ne_bytes());
        assert_eq!(table(&bytes).unwrap().targets, [multipath()], "{next}");
    }
}

#[test]
fn too_large_target_count_is_refused() {
    for count in [4, 5, 1000, u32::MAX] {
        let mut bytes = table_answer(&three_targets());
        put(&mut bytes, dm_ioctl::TARGET_COUNT, &count.to_ne_bytes());
        let last = bytes.len() - 3 - 40;
        assert_eq!(refused(table(&bytes)), ("next", last + 20), "{count}");
    }
}

#[test]
fn target_count_limits_the_targets() {
    let mut bytes = table_answer(&three_targets());
    put(&mut bytes, dm_ioctl::TARGET_COUNT, &2_u32.to_ne_bytes());
    assert_eq!(table(&bytes).unwrap().targets, three_targets()[..2]);
}

#[test]
fn data_outside_the_answer_are_refused() {
    for whole in [table_answer(&[multipath()]), dependencies_answer(&[0x810])] {
        let end = u32::try_from(whole.len()).unwrap();
        for start in [0, 1, 40, 304, end, end + 1, u32::MAX] {
            let mut bytes = whole.clone();
            put(&mut bytes, dm_ioctl::DATA_START, &start.to_ne_bytes());
            assert_eq!(refused(table(&bytes)), ("data_start", 16), "{start}");
            assert_eq!(refused(dependencies(&bytes)), ("data_start", 16), "{start}");
        }
    }
    // A target count without data.
    assert_eq!(refused(table(&header(Flags::ACTIVE_PRESENT, 1))), ("data_start", 16));
    assert_eq!(refused(dependencies(&header(Flags::ACTIVE_PRESENT, 1))), ("data_start", 16));
}

#[test]
fn impossible_data_size_is_refused() {
    let whole = table_answer(&[multipath()]);
    let end = u32::try_from(whole.len()).unwrap();
    for size in [0, 16, 304, end + 1, u32::MAX] {
        let mut bytes = whole.clone();
        put(&mut bytes, dm_ioctl::DATA_SIZE, &size.to_ne_bytes());
        assert_eq!(refused(table(&bytes)), ("data_size", 12), "{size}");
        assert_eq!(refused(dependencies(&bytes)), ("data_size", 12), "{size}");
    }
}

#[test]
fn every_truncated_answer_is_refused() {
    let answer = table_answer(&three_targets());
    for length in 0..answer.len() {
        refused(table(&answer[..length]));
    }
    let answer = dependencies_answer(&[0x810, 0x800]);
    for length in 0..answer.len() {
        refused(dependencies(&answer[..length]));
    }
    for length in 0..12 {
        assert_eq!(refused(version(&answer[..length])).0, "version", "{length}");
    }
    for length in 0..32 {
        assert_eq!(refused(is_truncated(Command::TableDeps, &answer[..length])), ("flags", 28), "{length}");
    }
}

#[test]
fn malformed_answer_error_names_the_field() {
    let error = table(&header(Flags::ACTIVE_PRESENT, 1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the answer to DM_TABLE_STATUS is malformed: its field data_start, at byte 16"
    );
    let error = dependencies(&[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the answer to DM_TABLE_DEPS is malformed: its field data_size, at byte 12"
    );
}

#[test]
fn dependencies_are_read() {
    for (numbers, devices) in [
        (&[][..], &[][..]),
        (&[0x810], &[(8, 16)]),
        (&[0x800, 0x0011_032c, 0xffff_ffff], &[(8, 0), (259, 300), (0xfff, 0xf_ffff)]),
    ] {
        let expected: Vec<_> = devices.iter().map(|&(major, minor)| DeviceNumber { major, minor }).collect();
        assert_eq!(dependencies(&dependencies_answer(numbers)).unwrap(), expected);
    }
}

#[test]
fn too_large_dependency_count_is_refused() {
    for count in [3, 4, 0x1fff_ffff, 0x2000_0000, u32::MAX] {
        let mut bytes = dependencies_answer(&[0x800, 0x810]);
        put_at(&mut bytes, DATA_START, dm_target_deps::COUNT, &count.to_ne_bytes());
        // Bytes after the end do not count.
        bytes.resize(4096, 0);
        assert_eq!(refused(dependencies(&bytes)), ("count", DATA_START), "{count}");
    }
}

#[test]
fn invalid_dependency_number_is_refused() {
    let bytes = dependencies_answer(&[0x800, 1 << 32]);
    assert_eq!(refused(dependencies(&bytes)), ("dev", DATA_START + 16));
}

/// Runs every parser, prints every result, and checks every error.
fn parse_everything(bytes: &[u8]) {
    for result in [
        version(bytes).map(|version| version.to_string()),
        is_truncated(Command::TableStatus, bytes).map(|is_truncated| is_truncated.to_string()),
        table(bytes).map(|table| format!("{table:?}")),
        dependencies(bytes).map(|devices| format!("{devices:?}")),
    ] {
        match result {
            Ok(text) => assert!(!text.is_empty()),
            // The field can be the first missing one, in a record that begins at the end.
            Err(Error::Malformed { offset, .. }) => assert!(offset <= bytes.len().max(DATA_START) + 40),
            Err(other) => panic!("{other:?}"),
        }
    }
}

prop_compose! {
    fn any_target()(
        start: u64,
        length: u64,
        kind in prop::collection::vec(1_u8.., 0..16),
        parameters in prop::collection::vec(1_u8.., 0..100),
    ) -> Target {
        let string = |bytes| CString::new(bytes).unwrap();
        Target { start, length, kind: string(kind), parameters: string(parameters) }
    }
}

prop_compose! {
    /// Generates answers of both kinds with some of their numbers replaced, mostly by nearly valid ones.
    fn corrupted_answer()(
        targets in prop::collection::vec(any_target(), 0..5),
        numbers in prop::collection::vec(any::<u64>(), 0..5),
        is_table: bool,
        corruptions in prop::collection::vec(
            (prop::sample::select(vec![12_usize, 16, 20, 28, 312, 332, 336]), prop_oneof![0_u32..600, any::<u32>()]),
            0..3,
        ),
        cut in 0_usize..700,
    ) -> Vec<u8> {
        let mut bytes = if is_table { table_answer(&targets) } else { dependencies_answer(&numbers) };
        for (offset, value) in corruptions {
            if let Some(place) = bytes.get_mut(offset..offset + 4) {
                place.copy_from_slice(&value.to_ne_bytes());
            }
        }
        bytes.truncate(cut.max(305));
        bytes
    }
}

proptest! {
    #[test]
    fn every_table_is_read_as_built(targets in prop::collection::vec(any_target(), 0..20), trailing: Vec<u8>) {
        let mut bytes = table_answer(&targets);
        bytes.extend(trailing);
        prop_assert_eq!(table(&bytes).unwrap().targets, targets);
    }

    #[test]
    fn every_dependency_list_is_read_as_built(numbers: Vec<u32>, trailing: Vec<u8>) {
        let numbers: Vec<u64> = numbers.into_iter().map(u64::from).collect();
        let mut bytes = dependencies_answer(&numbers);
        bytes.extend(trailing);
        let devices = dependencies(&bytes).unwrap();
        let read: Vec<u64> = devices.into_iter().map(|device| device.encode().unwrap()).collect();
        prop_assert_eq!(read, numbers);
    }

    #[test]
    fn random_answers_cause_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..1000)) {
        parse_everything(&bytes);
    }

    #[test]
    fn corrupted_answers_cause_no_panic(bytes in corrupted_answer()) {
        parse_everything(&bytes);
    }

    #[test]
    fn bytes_after_the_answer_are_ignored(mut bytes in corrupted_answer(), trailing: Vec<u8>) {
        let size = u32::from_ne_bytes(bytes[12..16].try_into().unwrap());
        let size = size.min(u32::try_from(bytes.len()).unwrap());
        put(&mut bytes, dm_ioctl::DATA_SIZE, &size.to_ne_bytes());
        let longer = [bytes.clone(), trailing].concat();
        let text = |error: Error| error.to_string();
        prop_assert_eq!(table(&bytes).map_err(text), table(&longer).map_err(text));
        prop_assert_eq!(dependencies(&bytes).map_err(text), dependencies(&longer).map_err(text));
    }
}
