//! What a device of the device-mapper is made of.

use std::{ffi::CString, fmt};

/// A device of the device-mapper and its live table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The device's name, at most 127 bytes, any but `/` and NUL. Its node below `/dev/mapper` can have another: udev
    /// writes some bytes there as `\xNN`.
    pub name: CString,
    /// The device's UUID, at most 128 bytes, which need not be that of a UUID: who creates a device chooses them, and
    /// multipath-tools choose `mpath-` and the WWID of the disk. Empty, if the device has none.
    pub uuid: CString,
    /// The device's state.
    pub flags: Flags,
    /// How often the device is open now, also by other devices of the device-mapper.
    pub open_count: i32,
    /// How many events the device has had. It wraps.
    pub event_nr: u32,
    /// The targets, in the order of the sectors that they serve. None, if the device has no live table.
    pub targets: Vec<Target>,
}

impl Table {
    /// The target, if there is exactly one and it is `multipath`.
    ///
    /// Only such a device is another face of a whole disk. One with a multipath target beside others, or with one
    /// linear target on a multipath map, is a part of something or made of several things.
    pub fn multipath_target(&self) -> Option<&Target> {
        match self.targets.as_slice() {
            [target] if target.kind.as_c_str() == c"multipath" => Some(target),
            _ => None,
        }
    }
}

bitflags::bitflags! {
    /// The state of a device: what the kernel sets of `flags` in `struct dm_ioctl`, with the header's names.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Flags: u32 {
        /// The device has a live table and is read-only.
        const READONLY = 1 << 0;
        /// The device is suspended: I/O to it waits.
        const SUSPEND = 1 << 1;
        /// The device has a live table.
        const ACTIVE_PRESENT = 1 << 5;
        /// Another table is loaded, which the next resume will make the live one.
        const INACTIVE_PRESENT = 1 << 6;
        /// The device will be removed when the last user closes it.
        const DEFERRED_REMOVE = 1 << 17;
        /// The device is suspended by the kernel itself, on behalf of another device.
        const INTERNAL_SUSPEND = 1 << 18;
    }
}

/// A run of a device's sectors and what serves it.
///
/// `{:?}` leaves the [`parameters`](Self::parameters) out.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// The first sector, in units of 512 bytes from the start of the device.
    pub start: u64,
    /// How many sectors of 512 bytes.
    pub length: u64,
    /// The target's type, at most 15 bytes: `multipath`, `linear`, `crypt` and so on.
    pub kind: CString,
    /// What follows in the table, in the target's own language.
    ///
    /// **Can be secret**: `crypt` writes the volume's key here, unless that is in the kernel's keyring.
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
    fn a_multipath_map_is_one_target_of_that_type_and_nothing_else() {
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
    fn parameters_do_not_reach_a_log_by_way_of_debug() {
        let printed = format!("{:?}", target(c"crypt"));
        assert_eq!(printed, r#"Target { start: 0, length: 8, kind: "crypt", .. }"#);
    }
}
