//! Sense keys.

use core::fmt;

/// The kind of an error or event: four bits of sense data (SPC-4 clause 4.5.6).
///
/// All sixteen codes have names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SenseKey(u8);

macro_rules! sense_keys {
    ($($code:literal $name:ident $text:literal $meaning:literal,)+) => {
        impl SenseKey {
            $(
                #[doc = concat!("`", $text, "` (", stringify!($code), "): ", $meaning, ".")]
                pub const $name: Self = Self($code);
            )+

            /// Returns the standard's name.
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($code => $text,)+
                    // Unreachable: there are sixteen codes and sixteen names.
                    _ => "",
                }
            }
        }
    };
}

sense_keys! {
    0x0 NO_SENSE "NO SENSE" "nothing to report",
    0x1 RECOVERED_ERROR "RECOVERED ERROR" "the command completed, after a recovery by the device",
    0x2 NOT_READY "NOT READY" "the logical unit cannot be accessed",
    0x3 MEDIUM_ERROR "MEDIUM ERROR" "a flaw in the medium or in the recorded data",
    0x4 HARDWARE_ERROR "HARDWARE ERROR" "a failure that the device could not recover from",
    0x5 ILLEGAL_REQUEST "ILLEGAL REQUEST" "something in the CDB or its parameters is not valid",
    0x6 UNIT_ATTENTION "UNIT ATTENTION" "something happened to the device that the initiator should know",
    0x7 DATA_PROTECT "DATA PROTECT" "the blocks are protected against this access",
    0x8 BLANK_CHECK "BLANK CHECK" "the medium is blank where data were expected, or the reverse",
    0x9 VENDOR_SPECIFIC "VENDOR SPECIFIC" "defined by the vendor",
    0xa COPY_ABORTED "COPY ABORTED" "a third-party copy was aborted",
    0xb ABORTED_COMMAND "ABORTED COMMAND" "the device aborted the command; sending it again may help",
    0xc RESERVED "RESERVED" "no meaning; it was EQUAL in old standards",
    0xd VOLUME_OVERFLOW "VOLUME OVERFLOW" "data remain in the buffer at the end of the partition",
    0xe MISCOMPARE "MISCOMPARE" "the data do not match the data on the medium",
    0xf COMPLETED "COMPLETED" "the command completed, with information about it",
}

impl SenseKey {
    /// Returns the sense key with the code in bits 3-0 of `code`.
    pub const fn new(code: u8) -> Self {
        Self(code & 0x0f)
    }

    /// Returns the four-bit code.
    pub const fn code(self) -> u8 {
        self.0
    }

    /// Returns whether every known client treats CHECK CONDITION with this sense key as a failure of the command.
    ///
    /// A command that failed must not be reported with NO SENSE, RECOVERED ERROR or COMPLETED. `sg3_utils` treats NO
    /// SENSE and RECOVERED ERROR as success: `sg_persist`, and with it `fence_scsi`, exits 0. Linux treats RECOVERED
    /// ERROR as success. By the standard, COMPLETED means that the command completed.
    pub const fn is_failure(self) -> bool {
        !matches!(self, Self::NO_SENSE | Self::RECOVERED_ERROR | Self::COMPLETED)
    }
}

impl fmt::Display for SenseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn every_sense_key_has_a_name() {
        for code in 0..=u8::MAX {
            assert_eq!(SenseKey::new(code).code(), code & 0x0f);
            assert!(!SenseKey::new(code).to_string().is_empty());
        }
        assert_eq!(SenseKey::new(5), SenseKey::ILLEGAL_REQUEST);
        assert_eq!(SenseKey::new(0xb).to_string(), "ABORTED COMMAND");
    }

    /// Compares with `sg_err_category_sense` of `sg3_utils` and with how its PERSISTENT RESERVE functions treat the
    /// category.
    #[test]
    fn success_sense_keys_are_no_failures() {
        let success: std::vec::Vec<u8> =
            (0..=0xf).filter(|code| !SenseKey::new(*code).is_failure()).collect();
        assert_eq!(success, [0x0, 0x1, 0xf]);
    }
}
