//! The structures of `<linux/dm-ioctl.h>`. The test below compares them with that header.

/// The type of all ioctls of the device-mapper, `DM_IOCTL`.
pub(crate) const DM_IOCTL: u32 = 0xfd;

/// Flags of requests and answers, in the field `flags`.
pub(crate) mod flag {
    /// Requests the table instead of the status.
    pub(crate) const STATUS_TABLE: u32 = 1 << 4;
    /// Set by the kernel: the buffer was too small for the answer.
    pub(crate) const BUFFER_FULL: u32 = 1 << 8;
    /// Targets flush no data for the request.
    pub(crate) const NOFLUSH: u32 = 1 << 11;
    /// The kernel wipes its copies.
    pub(crate) const SECURE_DATA: u32 = 1 << 15;
}

/// A field of a structure; all offsets and lengths are in bytes, all numbers in the host's byte order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    /// The kernel's name.
    pub(crate) name: &'static str,
    /// Offset from the start of the structure.
    pub(crate) offset: usize,
    pub(crate) size: usize,
}

impl Field {
    /// Returns the bytes of this field of the structure that starts at `record` in `bytes`, if all of them exist.
    pub(crate) fn read(self, bytes: &[u8], record: usize) -> Option<&[u8]> {
        let start = record.checked_add(self.offset)?;
        bytes.get(start..start.checked_add(self.size)?)
    }

    /// Writes `value` to the start of this field of the structure at the start of `bytes`. Bytes of `value` that do not
    /// fit are omitted.
    pub(crate) fn write(self, bytes: &mut [u8], value: &[u8]) {
        for (to, from) in bytes.iter_mut().skip(self.offset).take(self.size).zip(value) {
            *to = *from;
        }
    }
}

macro_rules! structure {
    ($(#[$attribute:meta])* $structure:ident, $size:literal; $($constant:ident = $field:ident, $offset:literal, $length:literal;)+) => {
        $(#[$attribute])*
        pub(crate) mod $structure {
            use super::Field;

            pub(crate) const SIZE: usize = $size;
            $(pub(crate) const $constant: Field =
                Field { name: stringify!($field), offset: $offset, size: $length };)+

            /// The structure's name, size and fields, to compare with the kernel's header.
            #[cfg(test)]
            pub(super) const ALL: (&str, usize, &[Field]) = (stringify!($structure), SIZE, &[$($constant),+]);
        }
    };
}

structure! {
    /// The start of every request and answer.
    dm_ioctl, 312;
    VERSION = version, 0, 12;
    DATA_SIZE = data_size, 12, 4;
    DATA_START = data_start, 16, 4;
    TARGET_COUNT = target_count, 20, 4;
    OPEN_COUNT = open_count, 24, 4;
    FLAGS = flags, 28, 4;
    EVENT_NR = event_nr, 32, 4;
    DEV = dev, 40, 8;
    NAME = name, 48, 128;
    UUID = uuid, 176, 129;
    DATA = data, 305, 7;
}

structure! {
    /// The start of a target's entry in an answer to `DM_TABLE_STATUS`; its parameters follow.
    dm_target_spec, 40;
    SECTOR_START = sector_start, 0, 8;
    LENGTH = length, 8, 8;
    NEXT = next, 20, 4;
    TARGET_TYPE = target_type, 24, 16;
}

structure! {
    /// The start of the data of an answer to `DM_TABLE_DEPS`; the numbers of the devices follow.
    dm_target_deps, 8;
    COUNT = count, 0, 4;
}

#[cfg(test)]
mod tests {
    use std::{
        fmt::Write as _,
        io::Write as _,
        process::{Command, Stdio},
    };

    use crate::{Flags, ioctl};

    use super::*;

    /// Compares structures and constants with `<linux/dm-ioctl.h>`, by a C program.
    #[test]
    fn layout_matches_the_kernel_header() {
        let mut source = String::from(
            "#include <stddef.h>\n#include <stdio.h>\n#include <sys/ioctl.h>\n#include <linux/dm-ioctl.h>\nint main(void) {\n",
        );
        let mut expected = String::new();
        for (structure, size, fields) in [dm_ioctl::ALL, dm_target_spec::ALL, dm_target_deps::ALL] {
            writeln!(source, "printf(\"{structure} %zu\\n\", sizeof(struct {structure}));").unwrap();
            writeln!(expected, "{structure} {size}").unwrap();
            for Field { name, offset, size } in fields {
                writeln!(
                    source,
                    "printf(\"{name} %zu %zu\\n\", offsetof(struct {structure}, {name}), sizeof(((struct {structure} *)0)->{name}));"
                )
                .unwrap();
                writeln!(expected, "{name} {offset} {size}").unwrap();
            }
        }
        // The devices follow `struct dm_target_deps` without a gap, in eight bytes each.
        source.push_str("printf(\"%zu %zu\\n\", offsetof(struct dm_target_deps, dev), sizeof(__u64));\n");
        writeln!(expected, "{} 8", dm_target_deps::SIZE).unwrap();
        for command in [
            ioctl::Command::Version,
            ioctl::Command::Resume,
            ioctl::Command::TableDeps,
            ioctl::Command::TableStatus,
        ] {
            writeln!(source, "printf(\"%#lx\\n\", (unsigned long){});", command.name()).unwrap();
            writeln!(expected, "{:#x}", command.number()).unwrap();
        }
        for (name, flag) in [
            ("DM_STATUS_TABLE_FLAG", flag::STATUS_TABLE),
            ("DM_BUFFER_FULL_FLAG", flag::BUFFER_FULL),
            ("DM_NOFLUSH_FLAG", flag::NOFLUSH),
            ("DM_SECURE_DATA_FLAG", flag::SECURE_DATA),
            ("DM_READONLY_FLAG", Flags::READONLY.bits()),
            ("DM_SUSPEND_FLAG", Flags::SUSPEND.bits()),
            ("DM_ACTIVE_PRESENT_FLAG", Flags::ACTIVE_PRESENT.bits()),
            ("DM_INACTIVE_PRESENT_FLAG", Flags::INACTIVE_PRESENT.bits()),
            ("DM_DEFERRED_REMOVE", Flags::DEFERRED_REMOVE.bits()),
            ("DM_INTERNAL_SUSPEND_FLAG", Flags::INTERNAL_SUSPEND.bits()),
            ("DM_IOCTL", DM_IOCTL),
        ] {
            writeln!(source, "printf(\"{name} %#x\\n\", {name});").unwrap();
            writeln!(expected, "{name} {flag:#x}").unwrap();
        }
        source.push_str("}\n");

        let program = std::env::temp_dir().join(format!("dm-ioctl-layout-{}", std::process::id()));
        let mut compiler = Command::new("cc")
            .args(["-x", "c", "-", "-o"])
            .arg(&program)
            .stdin(Stdio::piped())
            .spawn()
            .expect("a C compiler, cc, is needed for this test");
        compiler.stdin.take().unwrap().write_all(source.as_bytes()).unwrap();
        assert!(compiler.wait().unwrap().success());
        let printed = Command::new(&program).output().unwrap();
        std::fs::remove_file(&program).unwrap();
        assert_eq!(String::from_utf8(printed.stdout).unwrap(), expected);
    }

    #[test]
    fn incomplete_field_is_not_read() {
        let bytes = [7; 40];
        assert_eq!(dm_target_spec::NEXT.read(&bytes, 0), Some(&[7; 4][..]));
        assert_eq!(dm_target_spec::NEXT.read(&bytes, 16), Some(&[7; 4][..]));
        for record in [17, 20, 40, usize::MAX - 20, usize::MAX] {
            assert_eq!(dm_target_spec::NEXT.read(&bytes, record), None, "{record}");
        }
    }

    #[test]
    fn field_is_written_within_its_bounds() {
        let mut bytes = [0; 16];
        dm_ioctl::DATA_SIZE.write(&mut bytes, &[1, 2, 3, 4, 5]);
        assert_eq!(bytes, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
        let mut short = [0; 14];
        dm_ioctl::DATA_SIZE.write(&mut short, &[1, 2, 3, 4]);
        assert_eq!(short[12..], [1, 2]);
    }
}
