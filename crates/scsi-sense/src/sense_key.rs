//! Sense keys.

use core::fmt;

/// The kind of an error or event: four bits of sense data (SPC-4 clause 4.5.6).
///
/// All sixteen have names, so nothing is lost and nothing is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SenseKey(u8);

macro_rules! sense_keys {
    ($($code:literal $name:ident $text:literal $what:literal,)+) => {
        impl SenseKey {
            $(
                #[doc = concat!("`", $text, "` (", stringify!($code), "): ", $what, ".")]
                pub const $name: Self = Self($code);
            )+

            /// The standard's name.
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
    0x1 RECOVERED_ERROR "RECOVERED ERROR" "the command is done, with some recovery by the device",
    0x2 NOT_READY "NOT READY" "the logical unit cannot be accessed",
    0x3 MEDIUM_ERROR "MEDIUM ERROR" "a flaw in the medium or in the recorded data",
    0x4 HARDWARE_ERROR "HARDWARE ERROR" "a failure that the device could not recover from",
    0x5 ILLEGAL_REQUEST "ILLEGAL REQUEST" "something in the CDB or its parameters is not valid",
    0x6 UNIT_ATTENTION "UNIT ATTENTION" "something happened to the device that the initiator should know",
    0x7 DATA_PROTECT "DATA PROTECT" "the blocks are protected against what was asked for",
    0x8 BLANK_CHECK "BLANK CHECK" "blank or non-blank medium where the other was expected",
    0x9 VENDOR_SPECIFIC "VENDOR SPECIFIC" "what the vendor says it is",
    0xa COPY_ABORTED "COPY ABORTED" "a third-party copy was aborted",
    0xb ABORTED_COMMAND "ABORTED COMMAND" "the device aborted the command; sending it again may help",
    0xc RESERVED "RESERVED" "no meaning; it was EQUAL in old standards",
    0xd VOLUME_OVERFLOW "VOLUME OVERFLOW" "data are left in the buffer at the end of the partition",
    0xe MISCOMPARE "MISCOMPARE" "the data do not match those on the medium",
    0xf COMPLETED "COMPLETED" "the command is done, and there is information about it",
}

impl SenseKey {
    /// The sense key that bits 3-0 of `code` mean.
    pub const fn new(code: u8) -> Self {
        Self(code & 0x0f)
    }

    /// The four-bit code.
    pub const fn code(self) -> u8 {
        self.0
    }

    /// Whether every client takes CHECK CONDITION with this sense key for a failure of the command.
    ///
    /// NO SENSE and RECOVERED ERROR are success to `sg3_utils`: its `sg_persist`, and `fence_scsi` with it, exit 0. Linux takes
    /// RECOVERED ERROR for success. With COMPLETED the standard itself says that the command is done. A command that
    /// failed must not be reported with one of these.
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
    fn every_sense_key_has_four_bits_and_a_name() {
        for code in 0..=u8::MAX {
            assert_eq!(SenseKey::new(code).code(), code & 0x0f);
            assert!(!SenseKey::new(code).to_string().is_empty());
        }
        assert_eq!(SenseKey::new(5), SenseKey::ILLEGAL_REQUEST);
        assert_eq!(SenseKey::new(0xb).to_string(), "ABORTED COMMAND");
    }

    /// `sg_err_category_sense` of `sg3_utils`, and what its PERSISTENT RESERVE functions make of the category.
    #[test]
    fn keys_read_as_success_are_known() {
        let success: std::vec::Vec<u8> =
            (0..=0xf).filter(|code| !SenseKey::new(*code).is_failure()).collect();
        assert_eq!(success, [0x0, 0x1, 0xf]);
    }
}
