//! The call itself: `struct dm_ioctl` of `<linux/dm-ioctl.h>`, 312 bytes of header in front of the data.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

/// Length of the header, `sizeof(struct dm_ioctl)`, in bytes.
pub(crate) const HEADER: usize = 312;

/// Offsets in the header.
pub(crate) const VERSION: usize = 0;
pub(crate) const DATA_SIZE: usize = 12;
pub(crate) const DATA_START: usize = 16;
pub(crate) const TARGET_COUNT: usize = 20;
pub(crate) const OPEN_COUNT: usize = 24;
pub(crate) const FLAGS: usize = 28;
pub(crate) const EVENT_NR: usize = 32;
pub(crate) const DEV: usize = 40;
pub(crate) const NAME: usize = 48;
pub(crate) const UUID: usize = 176;
pub(crate) const NAME_LEN: usize = 128;
pub(crate) const UUID_LEN: usize = 129;

/// `DM_STATUS_TABLE_FLAG`: the table instead of the status.
pub(crate) const STATUS_TABLE: u32 = 1 << 4;
/// `DM_BUFFER_FULL_FLAG`: there was more to say.
pub(crate) const BUFFER_FULL: u32 = 1 << 8;
/// `DM_NOFLUSH_FLAG`: do not wait for writes.
pub(crate) const NO_FLUSH: u32 = 1 << 11;

/// Which call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Version,
    Suspend,
    Dependencies,
    TableStatus,
}

impl Verb {
    /// The ioctl's number: `_IOWR(0xfd, command, struct dm_ioctl)`.
    pub(crate) const fn number(self) -> libc::Ioctl {
        match self {
            Self::Version => 0xc138_fd00,
            Self::Suspend => 0xc138_fd06,
            Self::Dependencies => 0xc138_fd0b,
            Self::TableStatus => 0xc138_fd0c,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Version => "DM_VERSION",
            Self::Suspend => "DM_DEV_SUSPEND",
            Self::Dependencies => "DM_TABLE_DEPS",
            Self::TableStatus => "DM_TABLE_STATUS",
        }
    }
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    pub(crate) verb: Verb,
    pub(crate) flags: u32,
    /// The device's number, as the kernel encodes it.
    pub(crate) device: u64,
}

impl Request {
    /// The header, and room for the answer: `length` bytes in all, and no fewer than the header has.
    pub(crate) fn encode(self, length: usize) -> Vec<u8> {
        let mut buffer = vec![0; length.max(HEADER)];
        let size = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
        let mut put = |at: usize, bytes: &[u8]| {
            for (to, from) in buffer.iter_mut().skip(at).zip(bytes) {
                *to = *from;
            }
        };
        put(VERSION, &crate::MAJOR.to_ne_bytes());
        put(DATA_SIZE, &size.to_ne_bytes());
        put(DATA_START, &312_u32.to_ne_bytes());
        put(FLAGS, &self.flags.to_ne_bytes());
        put(DEV, &self.device.to_ne_bytes());
        buffer
    }
}

/// Makes the call. The answer replaces the request in `buffer`.
#[allow(unsafe_code)]
pub(crate) fn call(control: &OwnedFd, verb: Verb, buffer: &mut [u8]) -> io::Result<()> {
    let said =
        buffer.get(DATA_SIZE..DATA_START).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
    if buffer.len() < HEADER || said.is_none_or(|said| said as usize > buffer.len()) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: `control` is open, and the number says what the pointer is: a `struct dm_ioctl` (any alignment will do,
    // the kernel copies it). The kernel reads and writes no more than the `data_size` bytes that are said in it, all
    // of which lie in `buffer`, borrowed mutably for the call, as was checked above. It keeps no pointer.
    let result = unsafe { libc::ioctl(control.as_raw_fd(), verb.number(), buffer.as_mut_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::{
        fmt::Write as _,
        io::Write as _,
        process::{Command, Stdio},
    };

    use super::*;
    use crate::{State, answer};

    /// Has the C compiler say what `<linux/dm-ioctl.h>` says, and compares.
    #[test]
    fn the_layout_is_that_of_the_kernels_header() {
        let mut source = String::from(
            "#include <stddef.h>\n#include <stdio.h>\n#include <sys/ioctl.h>\n#include <linux/dm-ioctl.h>\nint main(void) {\n",
        );
        let mut expected = String::new();
        let header = |field| format!("offsetof(struct dm_ioctl, {field})");
        let target = |field| format!("offsetof(struct dm_target_spec, {field})");
        for (expression, value) in [
            ("sizeof(struct dm_ioctl)".into(), HEADER),
            (header("version"), VERSION),
            (header("data_size"), DATA_SIZE),
            (header("data_start"), DATA_START),
            (header("target_count"), TARGET_COUNT),
            (header("open_count"), OPEN_COUNT),
            (header("flags"), FLAGS),
            (header("event_nr"), EVENT_NR),
            (header("dev"), DEV),
            (header("name"), NAME),
            (header("uuid"), UUID),
            ("DM_NAME_LEN".into(), NAME_LEN),
            ("DM_UUID_LEN".into(), UUID_LEN),
            ("sizeof(struct dm_target_spec)".into(), answer::TARGET),
            (target("sector_start"), answer::TARGET_START),
            (target("length"), answer::TARGET_LENGTH),
            (target("next"), answer::TARGET_NEXT),
            (target("target_type"), answer::TARGET_TYPE),
            ("DM_MAX_TYPE_NAME".into(), answer::TARGET_TYPE_LEN),
            ("offsetof(struct dm_target_deps, dev)".into(), answer::DEPENDENCIES),
            ("DM_VERSION_MAJOR".into(), crate::MAJOR as usize),
            ("DM_VERSION".into(), usize::try_from(Verb::Version.number()).unwrap()),
            ("DM_DEV_SUSPEND".into(), usize::try_from(Verb::Suspend.number()).unwrap()),
            ("DM_TABLE_DEPS".into(), usize::try_from(Verb::Dependencies.number()).unwrap()),
            ("DM_TABLE_STATUS".into(), usize::try_from(Verb::TableStatus.number()).unwrap()),
            ("DM_STATUS_TABLE_FLAG".into(), STATUS_TABLE as usize),
            ("DM_BUFFER_FULL_FLAG".into(), BUFFER_FULL as usize),
            ("DM_NOFLUSH_FLAG".into(), NO_FLUSH as usize),
            ("DM_READONLY_FLAG".into(), State::READ_ONLY.bits() as usize),
            ("DM_SUSPEND_FLAG".into(), State::SUSPENDED.bits() as usize),
            ("DM_ACTIVE_PRESENT_FLAG".into(), State::HAS_TABLE.bits() as usize),
            ("DM_INACTIVE_PRESENT_FLAG".into(), State::HAS_INACTIVE_TABLE.bits() as usize),
            ("DM_DEFERRED_REMOVE".into(), State::DEFERRED_REMOVE.bits() as usize),
            ("DM_INTERNAL_SUSPEND_FLAG".into(), State::SUSPENDED_INTERNALLY.bits() as usize),
        ] {
            writeln!(source, "printf(\"%s %zu\\n\", \"{expression}\", (size_t)({expression}));").unwrap();
            writeln!(expected, "{expression} {value}").unwrap();
        }
        source.push('}');

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
    fn the_kernel_is_never_told_of_more_room_than_there_is() {
        let null: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
        let request = Request { verb: Verb::Version, flags: 0, device: 0 };
        let mut buffer = request.encode(400);
        assert_eq!(buffer.len(), 400);
        assert_eq!(request.encode(0).len(), HEADER);
        for wrong in [&mut buffer[..399], &mut [0; HEADER - 1][..], &mut []] {
            let error = call(&null, Verb::Version, wrong).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
