//! The library's codes.

use std::{error, ffi::c_int, fmt};

use mpathpersist_sys as sys;

macro_rules! failures {
    ($($(#[$doc:meta])* $variant:ident = $code:ident $text:literal $advice:literal,)+) => {
        /// What the library says when a call failed: `MPATH_PR_*` of its header.
        ///
        /// Which version returns which of them when is told in [`behaviour`](crate::behaviour#codes).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Failure {
            $($(#[$doc])* $variant,)+
            /// A code that no header up to 0.15.1 has.
            Unknown(i32),
        }

        impl Failure {
            /// Those that have a name, in the order of their codes.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// What `code` means; `None` for 0, which is success.
            pub const fn new(code: c_int) -> Option<Self> {
                Some(match code {
                    sys::MPATH_PR_SUCCESS => return None,
                    $(sys::$code => Self::$variant,)+
                    other => Self::Unknown(other),
                })
            }

            /// The library's code.
            pub const fn code(self) -> c_int {
                match self {
                    $(Self::$variant => sys::$code,)+
                    Self::Unknown(code) => code,
                }
            }

            /// The name in the library's header.
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$variant => Some(stringify!($code)),)+
                    Self::Unknown(_) => None,
                }
            }

            /// What an operator can look at or do, in one sentence.
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
    /// -1: the kernel refused `SG_IO` on a path. Until 0.12; later it is [`Other`](Self::Other).
    Skip = MPATH_PR_SKIP
        "SG_IO failed on a path"
        "are the map's paths SCSI disks, and does the process have CAP_SYS_RAWIO?",
    /// 1: the keys are not those that `reservation_key` in multipath.conf allows; for IN, an unknown service action.
    SyntaxError = MPATH_PR_SYNTAX_ERROR
        "no reservation_key is configured, or the keys do not match it"
        "set `reservation_key file` in the section defaults of /etc/multipath.conf, run `multipathd reconfigure` and \
         start this process anew; if it is set, /etc/multipath/prkeys has another key for this map: \
         `multipathd unsetprkey map NAME` forgets it",
    /// 2: NOT READY. From OUT until 0.11; later other paths are tried, and if none can it is [`Other`](Self::Other).
    SenseNotReady = MPATH_PR_SENSE_NOT_READY
        "a path answered NOT READY"
        "look at the disk and its controller",
    /// 3: MEDIUM ERROR.
    SenseMediumError = MPATH_PR_SENSE_MEDIUM_ERROR
        "a path answered MEDIUM ERROR"
        "look at the disk",
    /// 4: HARDWARE ERROR.
    SenseHardwareError = MPATH_PR_SENSE_HARDWARE_ERROR
        "a path answered HARDWARE ERROR"
        "look at the disk and its controller",
    /// 5: ILLEGAL REQUEST, whatever the additional sense code; INVALID COMMAND OPERATION CODE as well.
    IllegalRequest = MPATH_PR_ILLEGAL_REQ
        "a path answered ILLEGAL REQUEST"
        "the disk does not support persistent reservations or this one, or the command makes no sense to it",
    /// 6: UNIT ATTENTION, six times one after the other.
    SenseUnitAttention = MPATH_PR_SENSE_UNIT_ATTENTION
        "a path answers UNIT ATTENTION again and again"
        "try again; if that does not help, look at why the disk is reset",
    /// 7: no version returns it: INVALID COMMAND OPERATION CODE comes as [`IllegalRequest`](Self::IllegalRequest).
    SenseInvalidOperation = MPATH_PR_SENSE_INVALID_OP
        "a path answered INVALID COMMAND OPERATION CODE"
        "the disk does not support persistent reservations",
    /// 8: ABORTED COMMAND.
    SenseAbortedCommand = MPATH_PR_SENSE_ABORTED_COMMAND
        "a path answered ABORTED COMMAND"
        "try again; look at the disk and the transport",
    /// 9: CHECK CONDITION with the sense key NO SENSE.
    NoSense = MPATH_PR_NO_SENSE
        "a path answered CHECK CONDITION without sense data"
        "look at the disk and the host adapter",
    /// 10: no version returns it.
    SenseMalformed = MPATH_PR_SENSE_MALFORMED
        "a path's answer is malformed"
        "look at the disk",
    /// 11: RESERVATION CONFLICT.
    ReservationConflict = MPATH_PR_RESERV_CONFLICT
        "reservation conflict"
        "another initiator holds the reservation, or this one is not registered with that key",
    /// 12: the descriptor is of no block device; until 0.11, a path's device node cannot be opened.
    FileError = MPATH_PR_FILE_ERROR
        "the map or a path cannot be opened"
        "are the map's paths in this process's /dev, and may it open them?",
    /// 13: device-mapper does not know the map as a multipath map with a usable path; or, with `reservation_key file`,
    /// multipathd did not take the key.
    MapError = MPATH_PR_DMMP_ERROR
        "no multipath map, no usable path, or multipathd did not take the key"
        "does `multipathd show maps` show the map, and `multipathd show paths` a path of it that is active?",
    /// 14: no thread could be started.
    ThreadError = MPATH_PR_THREAD_ERROR
        "a thread cannot be started"
        "look at the limits of tasks and memory",
    /// 15: anything else: another SCSI status, a transport's error, a timeout.
    Other = MPATH_PR_OTHER
        "a path failed, did not answer in time, or answered with another status"
        "look at the kernel's log, and try again with more verbosity: the library then says what each path answered",
    /// 16: no path could be used, and each might have been. Since 0.13, from RELEASE and PREEMPT; its header says that it
    /// does not come out.
    RetryableError = MPATH_PR_RETRYABLE_ERROR
        "all paths failed"
        "look at the kernel's log, and at `multipathd show paths`",
    /// 17: no version returns it: it is for the library's own use.
    SuccessUnregister = MPATH_PR_SUCCESS_UNREGISTER
        "unregistered, says a code for the library's own use"
        "read the keys to see what was done",
}

/// The meaning and the code: `reservation conflict (11)`.
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
    fn no_code_is_lost_and_only_zero_is_success() {
        for code in -300..300 {
            assert_eq!(Failure::new(code).map_or(0, Failure::code), code);
        }
        assert_eq!(Failure::new(0), None);
    }

    #[test]
    fn the_codes_are_those_of_the_header() {
        let codes: Vec<_> = Failure::ALL.iter().map(|failure| failure.code()).collect();
        assert_eq!(codes, [-1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]);
        assert_eq!(Failure::ReservationConflict.to_string(), "reservation conflict (11)");
        assert_eq!(Failure::MapError.name(), Some("MPATH_PR_DMMP_ERROR"));
        assert_eq!(Failure::Unknown(18).to_string(), "code without a name (18)");
    }
}
