//! Numbers of block devices, and their two encodings: those of the C library and of the ioctls.

use std::fmt;

/// The number of a block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceNumber {
    /// Number of the driver. The device-mapper has a dynamic one (see `/proc/devices`), often 253 or 254.
    pub major: u32,
    /// Number of the device within its driver.
    pub minor: u32,
}

/// Greatest major: majors have 12 bits (of 32, the minor has 20: `MINORBITS` of the kernel's `<linux/kdev_t.h>`).
const MAJOR_MAX: u32 = 0xfff;

/// Greatest minor: minors have 20 bits.
const MINOR_MAX: u32 = 0xf_ffff;

impl DeviceNumber {
    /// Decodes `st_rdev` of a device node's `fstat`, in the C library's encoding of `dev_t`.
    pub fn from_rdev(rdev: libc::dev_t) -> Self {
        Self { major: libc::major(rdev), minor: libc::minor(rdev) }
    }

    /// Encodes the number for the field `dev` of the ioctls, like `huge_encode_dev` of the kernel's `<linux/kdev_t.h>`:
    /// from bit 0, the lower eight bits of the minor, the twelve bits of the major, the upper twelve bits of the minor.
    ///
    /// Returns `None` for a number with more bits: the kernel would drop them, and answer for another device.
    pub(crate) fn encode(self) -> Option<u64> {
        let fits = self.major <= MAJOR_MAX && self.minor <= MINOR_MAX;
        fits.then(|| u64::from((self.minor & 0xff) | (self.major << 8) | ((self.minor & !0xff) << 12)))
    }

    /// Reverses [`encode`](Self::encode). Returns `None` if one of the upper 32 bits is set.
    pub(crate) fn decode(dev: u64) -> Option<Self> {
        let dev = u32::try_from(dev).ok()?;
        Some(Self {
            major: (dev >> 8) & MAJOR_MAX,
            minor: (dev & 0xff) | ((dev >> 12) & (MINOR_MAX & !0xff)),
        })
    }
}

impl fmt::Display for DeviceNumber {
    /// Shows the number like sysfs and the tables of the device-mapper: `253:0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn device_numbers_are_encoded_for_the_kernel() {
        for (major, minor, dev) in [
            (0, 0, 0),
            (8, 16, 0x810),
            (253, 0, 0xfd00),
            (253, 255, 0xfdff),
            (259, 300, 0x0011_032c),
            (0xfff, 0xf_ffff, 0xffff_ffff),
        ] {
            let number = DeviceNumber { major, minor };
            assert_eq!(number.encode(), Some(dev), "{number}");
            assert_eq!(DeviceNumber::decode(dev), Some(number), "{dev:#x}");
        }
    }

    #[test]
    fn too_large_device_numbers_are_not_encoded() {
        for (major, minor) in [(0x1000, 0), (0x10fd, 0), (u32::MAX, 0), (253, 0x10_0000), (253, u32::MAX)] {
            assert_eq!(DeviceNumber { major, minor }.encode(), None);
        }
        for dev in [1 << 32, u64::MAX] {
            assert_eq!(DeviceNumber::decode(dev), None);
        }
    }

    #[test]
    fn device_numbers_are_printed_like_sysfs() {
        assert_eq!(DeviceNumber { major: 253, minor: 7 }.to_string(), "253:7");
    }

    proptest! {
        #[test]
        fn decoded_device_number_encodes_to_same(dev: u32) {
            let number = DeviceNumber::decode(dev.into()).unwrap();
            prop_assert_eq!(number.encode(), Some(u64::from(dev)));
        }

        #[test]
        fn rdev_of_the_c_library_is_decoded(major: u32, minor: u32) {
            let rdev = libc::makedev(major, minor);
            prop_assert_eq!(DeviceNumber::from_rdev(rdev), DeviceNumber { major, minor });
        }
    }
}
