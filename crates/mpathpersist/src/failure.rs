//! The library's codes.

use std::{error, ffi::c_int, fmt};

use mpathpersist_sys as sys;

macro_rules! failures {
    ($($(#[$doc:meta])* $variant:ident = $code:ident $text:literal $advice:literal,)+) => {
        /// The code with which the library reports a failed call: `MPATH_PR_*` of its header.
        ///
        /// [`behaviour`](crate::behaviour#codes) documents when each version returns which code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Failure {
            $($(#[$doc])* $variant,)+
            /// A code that no header until 0.15.1 has.
            Unknown(i32),
        }

        impl Failure {
            /// The failures that have a name, in the order of their codes.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Returns the failure with this code; `None` for 0, which is success.
            pub const fn new(code: c_int) -> Option<Self> {
                Some(match code {
                    sys::MPATH_PR_SUCCESS => return None,
                    $(sys::$code => Self::$variant,)+
                    other => Self::Unknown(other),
                })
            }

            /// Returns the library's code.
            pub const fn code(self) -> c_int {
                match self {
                    $(Self::$variant => sys::$code,)+
                    Self::Unknown(code) => code,
                }
            }

            /// Returns the name in the library's header, if the code has one.
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$variant => Some(stringify!($code)),)+
                    Self::Unknown(_) => None,
                }
            }

            /// Returns advice for an operator, in one sentence.
            pub const fn advice(self) -> &'static str {
                match self {
                    $(Self::$variant => $advice,)+
                    Self::Unknown(_) => "a newer library: see its mpath_persist.h",
                }
            }

            const fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Unknown(_) => "code without a name",
                }
            }
        }
    };
}

failures! {
    /// -1: the kernel refused `SG_IO` on a path. Until 0.12; later versions return [`Other`](Self::Other).
    Skip = MPATH_PR_SKIP
        "SG_IO failed on a path"
        "are the map's paths SCSI disks, and does the process have CAP_SYS_RAWIO?",
    /// 1: the keys do not match `reservation_key` in multipath.conf; for IN, an unknown service action.
    SyntaxError = MPATH_PR_SYNTAX_ERROR
        "no reservation_key is configured, or the keys do not match it"
        "set `reservation_key file` in the section defaults of /etc/multipath.conf, run `multipathd reconfigure` and \
         restart this process; if it is set, /etc/multipath/prkeys has another key for this map: \
         `multipathd unsetprkey map NAME` forgets it",
    /// 2: NOT READY. From OUT until 0.11; later versions try other paths, and return [`Other`](Self::Other) if all
    /// fail.
    SenseNotReady = MPATH_PR_SENSE_NOT_READY
        "a path answered NOT READY"
        "check the disk and its controller",
    /// 3: MEDIUM ERROR.
    SenseMediumError = MPATH_PR_SENSE_MEDIUM_ERROR
        "a path answered MEDIUM ERROR"
        "check the disk",
    /// 4: HARDWARE ERROR.
    SenseHardwareError = MPATH_PR_SENSE_HARDWARE_ERROR
        "a path answered HARDWARE ERROR"
        "check the disk and its controller",
    /// 5: ILLEGAL REQUEST with any additional sense code, including INVALID COMMAND OPERATION CODE.
    IllegalRequest = MPATH_PR_ILLEGAL_REQ
        "a path answered ILLEGAL REQUEST"
        "the disk does not support persistent reservations or this command, or the command is invalid",
    /// 6: UNIT ATTENTION, six times in succession.
    SenseUnitAttention = MPATH_PR_SENSE_UNIT_ATTENTION
        "a path answers UNIT ATTENTION repeatedly"
        "try again; if that does not help, find out why the disk is reset",
    /// 7: not returned by any version: INVALID COMMAND OPERATION CODE is [`IllegalRequest`](Self::IllegalRequest).
    SenseInvalidOperation = MPATH_PR_SENSE_INVALID_OP
        "a path answered INVALID COMMAND OPERATION CODE"
        "the disk does not support persistent reservations",
    /// 8: ABORTED COMMAND.
    SenseAbortedCommand = MPATH_PR_SENSE_ABORTED_COMMAND
        "a path answered ABORTED COMMAND"
        "try again; check the disk and the transport",
    /// 9: CHECK CONDITION with the sense key NO SENSE.
    NoSense = MPATH_PR_NO_SENSE
        "a path answered CHECK CONDITION without sense data"
        "check the disk and the host adapter",
    /// 10: not returned by any version.
    SenseMalformed = MPATH_PR_SENSE_MALFORMED
        "a path's answer is malformed"
        "check the disk",
    /// 11: RESERVATION CONFLICT.
    ReservationConflict = MPATH_PR_RESERV_CONFLICT
        "reservation conflict"
        "another initiator holds the reservation, or this one is not registered with that key",
    /// 12: the descriptor is not of a block device; until 0.11, a path's device node cannot be opened.
    FileError = MPATH_PR_FILE_ERROR
        "the map or a path cannot be opened"
        "are the map's paths in this process's /dev, and does it have permission to open them?",
    /// 13: device-mapper does not list the map as a multipath map with a usable path; or, with `reservation_key file`,
    /// multipathd did not accept the key.
    MapError = MPATH_PR_DMMP_ERROR
        "no multipath map, no usable path, or multipathd did not accept the key"
        "does `multipathd show maps` list the map, and `multipathd show paths` an active path of it?",
    /// 14: a thread could not be started.
    ThreadError = MPATH_PR_THREAD_ERROR
        "a thread cannot be started"
        "check the limits of tasks and memory",
    /// 15: any other failure: another SCSI status, a transport error, a timeout.
    Other = MPATH_PR_OTHER
        "a path failed, did not answer in time, or answered with another status"
        "check the kernel's log, and try again with more verbosity: the library then logs each path's answer",
    /// 16: the command failed on all paths, each time with an error that another path might not have. Since 0.13, from
    /// RELEASE and PREEMPT, although the header says that it is never returned.
    RetryableError = MPATH_PR_RETRYABLE_ERROR
        "all paths failed"
        "check the kernel's log, and `multipathd show paths`",
    /// 17: not returned by any version: internal to the library.
    SuccessUnregister = MPATH_PR_SUCCESS_UNREGISTER
        "an internal code of the library, which means unregistered"
        "read the keys to find out what was done",
}

/// Shows the meaning and the code: `reservation conflict (11)`.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text(), self.code())
    }
}

impl error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_code_is_kept() {
        for code in -300..300 {
            assert_eq!(Failure::new(code).map_or(0, Failure::code), code);
        }
        assert_eq!(Failure::new(0), None);
    }

    #[test]
    fn failure_codes_match_the_header() {
        let codes: Vec<_> = Failure::ALL.iter().map(|failure| failure.code()).collect();
        assert_eq!(codes, [-1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]);
        assert_eq!(Failure::ReservationConflict.to_string(), "reservation conflict (11)");
        assert_eq!(Failure::MapError.name(), Some("MPATH_PR_DMMP_ERROR"));
        assert_eq!(Failure::Unknown(18).to_string(), "code without a name (18)");
    }
}
