//! Service actions of PERSISTENT RESERVE IN and OUT.

use core::fmt;

macro_rules! service_actions {
    (
        $(#[$attr:meta])*
        $type:ident {
            $($(#[$doc:meta])* $variant:ident = $code:literal $text:literal,)+
        }
    ) => {
        $(#[$attr])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum $type {
            $($(#[$doc])* $variant,)+
            /// A reserved code. Only bits 4-0 count.
            Other(u8),
        }

        impl $type {
            /// The service actions that the standard names, in the order of their codes.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Returns the service action with the code in bits 4-0 of `code`.
            pub const fn new(code: u8) -> Self {
                match code & 0x1f {
                    $($code => Self::$variant,)+
                    other => Self::Other(other),
                }
            }

            /// Returns the five-bit SERVICE ACTION code.
            pub const fn code(self) -> u8 {
                match self {
                    $(Self::$variant => $code,)+
                    Self::Other(code) => code & 0x1f,
                }
            }

            /// Returns the standard's name, if the code has one.
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$variant => Some($text),)+
                    Self::Other(_) => None,
                }
            }
        }

        /// Shows the name, or the code of a reserved one: `service action 1Fh`.
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, "service action {:02X}h", self.code()),
                }
            }
        }
    };
}

service_actions! {
    /// The service action of a PERSISTENT RESERVE IN: the data to return (SPC-4 clause 6.15.1).
    InServiceAction {
        /// 00h: the keys of all registrations ([`Keys`](crate::pr::Keys)).
        ReadKeys = 0x00 "READ KEYS",
        /// 01h: the reservation, if there is one ([`ReservationData`](crate::pr::ReservationData)).
        ReadReservation = 0x01 "READ RESERVATION",
        /// 02h: the features that the device supports ([`Capabilities`](crate::pr::Capabilities)).
        ReportCapabilities = 0x02 "REPORT CAPABILITIES",
        /// 03h: each registration with its I_T nexus ([`FullStatus`](crate::pr::FullStatus)).
        ReadFullStatus = 0x03 "READ FULL STATUS",
    }
}

service_actions! {
    /// The service action of a PERSISTENT RESERVE OUT: the change to make (SPC-4 clause 6.16.2).
    OutServiceAction {
        /// 00h: registers or unregisters this I_T nexus, if RESERVATION KEY is its current key.
        Register = 0x00 "REGISTER",
        /// 01h: creates a reservation.
        Reserve = 0x01 "RESERVE",
        /// 02h: releases the reservation.
        Release = 0x02 "RELEASE",
        /// 03h: removes the reservation and all registrations.
        Clear = 0x03 "CLEAR",
        /// 04h: removes the registrations of another key, and takes over its reservation.
        Preempt = 0x04 "PREEMPT",
        /// 05h: PREEMPT, and aborts the commands of the preempted I_T nexuses.
        PreemptAndAbort = 0x05 "PREEMPT AND ABORT",
        /// 06h: REGISTER, regardless of the current key of this I_T nexus.
        RegisterAndIgnoreExistingKey = 0x06 "REGISTER AND IGNORE EXISTING KEY",
        /// 07h: registers another I_T nexus and moves the reservation to it.
        RegisterAndMove = 0x07 "REGISTER AND MOVE",
        /// 08h: replaces registrations and reservation after the device lost reservation information.
        ReplaceLostReservation = 0x08 "REPLACE LOST RESERVATION",
    }
}

impl OutServiceAction {
    /// Returns whether this service action uses SCOPE and TYPE of the CDB.
    ///
    /// All other service actions ignore both fields (SPC-4 clause 6.16.2).
    pub const fn has_type(self) -> bool {
        matches!(
            self,
            Self::Reserve
                | Self::Release
                | Self::Preempt
                | Self::PreemptAndAbort
                | Self::ReplaceLostReservation
        )
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn every_service_action_code_is_kept() {
        for code in 0..=u8::MAX {
            assert_eq!(InServiceAction::new(code).code(), code & 0x1f);
            assert_eq!(OutServiceAction::new(code).code(), code & 0x1f);
        }
    }

    #[test]
    fn standard_service_actions_have_names() {
        assert_eq!(InServiceAction::ALL.iter().map(|action| action.code()).max(), Some(3));
        assert_eq!(OutServiceAction::ALL.iter().map(|action| action.code()).max(), Some(8));
        assert_eq!(InServiceAction::new(3).to_string(), "READ FULL STATUS");
        assert_eq!(OutServiceAction::new(7).to_string(), "REGISTER AND MOVE");
        assert_eq!(OutServiceAction::new(0x1f).to_string(), "service action 1Fh");
    }
}
