//! The table of a device of the device-mapper.

use std::{ffi::CString, fmt};

/// A device of the device-mapper and its live table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The device's name: at most 127 bytes, any except `/` and NUL. Its node below `/dev/mapper` can have another
    /// name: udev writes some bytes there as `\xNN`.
    pub name: CString,
    /// The device's UUID: at most 128 bytes, not necessarily in the format of a UUID. The program that creates a device
    /// chooses it: multipath-tools uses `mpath-` and the WWID of the disk. Empty if the device has none.
    pub uuid: CString,
    /// The device's state.
    pub flags: Flags,
    /// How many times the device is currently open, including by other devices of the device-mapper.
    pub open_count: i32,
    /// Number of events of the device. It wraps.
    pub event_nr: u32,
    /// The targets, in the order of their sectors. Empty if the device has no live table.
    pub targets: Vec<Target>,
}

impl Table {
    /// Returns the target, if there is exactly one and its type is `multipath`.
    ///
    /// Only such a device represents a whole disk. A device with a multipath target and other targets, or with a linear
    /// target on a multipath map, is a part of a disk or consists of several parts.
    pub fn multipath_target(&self) -> Option<&Target> {
        match self.targets.as_slice() {
            [target] if target.kind.as_c_str() == c"multipath" => Some(target),
            _ => None,
        }
    }
}

bitflags::bitflags! {
    /// The state of a device: the bits of `flags` in `struct dm_ioctl` that the kernel sets, with the header's names.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Flags: u32 {
        /// The device has a live table and is read-only.
        const READONLY = 1 << 0;
        /// The device is suspended: I/O to it waits.
        const SUSPEND = 1 << 1;
        /// The device has a live table.
        const ACTIVE_PRESENT = 1 << 5;
        /// An inactive table is loaded, which the next resume makes live.
        const INACTIVE_PRESENT = 1 << 6;
        /// The device is removed when its last user closes it.
        const DEFERRED_REMOVE = 1 << 17;
        /// The device is suspended by the kernel itself, on behalf of another device.
        const INTERNAL_SUSPEND = 1 << 18;
    }
}

/// A target: the driver of a contiguous range of a device's sectors.
///
/// `{:?}` omits the [`parameters`](Self::parameters).
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// The first sector, in units of 512 bytes from the start of the device.
    pub start: u64,
    /// Number of sectors of 512 bytes.
    pub length: u64,
    /// The target's type, at most 15 bytes: `multipath`, `linear`, `crypt` and so on.
    pub kind: CString,
    /// The rest of the target's entry, in the format of the target's type.
    ///
    /// **Can be secret**: with `crypt` it has the volume's key, unless that is in the kernel's keyring.
    pub parameters: CString,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("start", &self.start)
            .field("length", &self.length)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    fn target(kind: &CStr) -> Target {
        Target { start: 0, length: 8, kind: kind.to_owned(), parameters: c"secret".to_owned() }
    }

    #[test]
    fn multipath_target_must_be_the_only_one() {
        for (kinds, is_multipath) in [
            (&[c"multipath"][..], true),
            (&[], false),
            (&[c"linear"], false),
            (&[c"multipath", c"multipath"], false),
            (&[c"multipath", c"linear"], false),
            (&[c"linear", c"multipath"], false),
            (&[c"multipath2"], false),
            (&[c"multi"], false),
            (&[c"Multipath"], false),
            (&[c""], false),
        ] {
            let table = Table {
                name: c"mpatha".to_owned(),
                uuid: c"".to_owned(),
                flags: Flags::ACTIVE_PRESENT,
                open_count: 0,
                event_nr: 0,
                targets: kinds.iter().map(|kind| target(kind)).collect(),
            };
            let found = table.multipath_target();
            assert_eq!(found, table.targets.first().filter(|_| is_multipath), "{kinds:?}");
        }
    }

    #[test]
    fn debug_output_omits_target_parameters() {
        let printed = format!("{:?}", target(c"crypt"));
        assert_eq!(printed, r#"Target { start: 0, length: 8, kind: "crypt", .. }"#);
    }
}
