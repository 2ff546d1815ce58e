//! Numbers of block devices, and their two encodings: the C library's and that of the ioctls.

use std::fmt;

/// The number of a block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceNumber {
    /// The driver: the kernel gives the device-mapper a free one (a line of `/proc/devices`), often 253 or 254.
    pub major: u32,
    /// The driver's device.
    pub minor: u32,
}

/// Majors have 12 bits (`MINORBITS` of the kernel's `<linux/kdev_t.h>` is 20, of 32).
const MAJOR_MAX: u32 = 0xfff;

/// Minors have 20 bits.
const MINOR_MAX: u32 = 0xf_ffff;

impl DeviceNumber {
    /// The number in `st_rdev` of a device node's `fstat`, in the C library's encoding of `dev_t`.
    pub fn from_rdev(rdev: libc::dev_t) -> Self {
        Self { major: libc::major(rdev), minor: libc::minor(rdev) }
    }

    /// The field `dev` of the ioctls, `huge_encode_dev` of the kernel's `<linux/kdev_t.h>`: from bit 0, eight bits of
    /// the minor, twelve of the major, and the minor's other twelve.
    ///
    /// `None` for a number with more bits than the kernel has for it. It would drop them, and answer for another device.
    pub(crate) fn encode(self) -> Option<u64> {
        let fits = self.major <= MAJOR_MAX && self.minor <= MINOR_MAX;
        fits.then(|| u64::from((self.minor & 0xff) | (self.major << 8) | ((self.minor & !0xff) << 12)))
    }

    /// The reverse of [`encode`](Self::encode), `None` if one of the upper 32 bits is set.
    pub(crate) fn decode(dev: u64) -> Option<Self> {
        let dev = u32::try_from(dev).ok()?;
        Some(Self {
            major: (dev >> 8) & MAJOR_MAX,
            minor: (dev & 0xff) | ((dev >> 12) & (MINOR_MAX & !0xff)),
        })
    }
}

impl fmt::Display for DeviceNumber {
    /// `253:0`, as in sysfs and in the tables of the device-mapper.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_encoded_as_the_kernel_does() {
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
    fn numbers_that_the_kernel_would_cut_are_not_encoded() {
        for (major, minor) in [(0x1000, 0), (0x10fd, 0), (u32::MAX, 0), (253, 0x10_0000), (253, u32::MAX)] {
            assert_eq!(DeviceNumber { major, minor }.encode(), None);
        }
        for dev in [1 << 32, u64::MAX] {
            assert_eq!(DeviceNumber::decode(dev), None);
        }
    }

    #[test]
    fn numbers_are_printed_as_in_sysfs() {
        assert_eq!(DeviceNumber { major: 253, minor: 7 }.to_string(), "253:7");
    }

    proptest! {
        #[test]
        fn every_encoding_is_that_of_one_number(dev: u32) {
            let number = DeviceNumber::decode(dev.into()).unwrap();
            prop_assert_eq!(number.encode(), Some(u64::from(dev)));
        }

        #[test]
        fn the_c_librarys_numbers_are_read(major: u32, minor: u32) {
            let rdev = libc::makedev(major, minor);
            prop_assert_eq!(DeviceNumber::from_rdev(rdev), DeviceNumber { major, minor });
        }
    }
}
