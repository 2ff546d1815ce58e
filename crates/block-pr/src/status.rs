//! The status with which an NVMe controller, or the kernel in its place, completes a command.

use std::fmt;

/// How an NVMe command ended: status code (bits 7-0) and status code type (bits 10-8) of its completion (NVM Express Base
/// 2.1, "Status Field Definition").
///
/// The flags of the completion (Command Retry Delay, More, Do Not Retry) are not kept. A completion in which only flags
/// are set is no success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Status(u16);

/// Status code and status code type.
const CODE: u16 = 0x07ff;

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $code:literal $text:literal,)+) => {
        impl Status {
            $($(#[$doc])* pub const $name: Self = Self($code);)+

            /// The statuses that have a name here, except success.
            pub const NAMED: &[Self] = &[$(Self::$name),+];

            /// Returns the standard's name of the status, if it is known here.
            pub const fn name(self) -> Option<&'static str> {
                match self.code() {
                    0 => Some("Successful Completion"),
                    $($code => Some($text),)+
                    _ => None,
                }
            }
        }
    };
}

statuses! {
    /// 001h: the controller has no such command.
    INVALID_OPCODE = 0x001 "Invalid Command Opcode",
    /// 002h: a field of the command is not valid.
    INVALID_FIELD = 0x002 "Invalid Field in Command",
    /// 004h: the data could not be transferred.
    DATA_TRANSFER_ERROR = 0x004 "Data Transfer Error",
    /// 005h: power is about to be lost.
    ABORTED_POWER_LOSS = 0x005 "Commands Aborted due to Power Loss Notification",
    /// 006h: an error of the controller.
    INTERNAL_ERROR = 0x006 "Internal Error",
    /// 007h: an Abort command ended it.
    ABORT_REQUESTED = 0x007 "Command Abort Requested",
    /// 008h: its queue was deleted.
    QUEUE_DELETED = 0x008 "Command Aborted due to SQ Deletion",
    /// 00Bh: there is no such namespace, or its format is not valid.
    INVALID_NAMESPACE = 0x00b "Invalid Namespace or Format",
    /// 00Ch: the command is not allowed in this order.
    SEQUENCE_ERROR = 0x00c "Command Sequence Error",
    /// 018h: the format of the report does not fit the host identifiers.
    HOST_IDENTIFIER_FORMAT = 0x018 "Host Identifier Inconsistent Format",
    /// 01Dh: a sanitize operation is in progress.
    SANITIZE_IN_PROGRESS = 0x01d "Sanitize In Progress",
    /// 020h: the namespace is write protected.
    WRITE_PROTECTED = 0x020 "Namespace is Write Protected",
    /// 021h: the controller interrupted the command; it can be repeated.
    INTERRUPTED = 0x021 "Command Interrupted",
    /// 022h: the transport lost the command; it can be repeated.
    TRANSIENT_TRANSPORT_ERROR = 0x022 "Transient Transport Error",
    /// 082h: the namespace is not ready.
    NAMESPACE_NOT_READY = 0x082 "Namespace Not Ready",
    /// 083h: the command conflicts with a reservation or a registration.
    RESERVATION_CONFLICT = 0x083 "Reservation Conflict",
    /// 084h: the namespace is being formatted.
    FORMAT_IN_PROGRESS = 0x084 "Format In Progress",
    /// 300h: an error on the path that is internal to the controller.
    INTERNAL_PATH_ERROR = 0x300 "Internal Path Error",
    /// 301h: the path has lost the namespace for good.
    ANA_PERSISTENT_LOSS = 0x301 "Asymmetric Access Persistent Loss",
    /// 302h: the namespace cannot be reached through this path.
    ANA_INACCESSIBLE = 0x302 "Asymmetric Access Inaccessible",
    /// 303h: access through this path is changing.
    ANA_TRANSITION = 0x303 "Asymmetric Access Transition",
    /// 360h: the controller has a path error.
    CONTROLLER_PATHING_ERROR = 0x360 "Controller Pathing Error",
    /// 370h: the kernel could not send the command, or lost its completion.
    HOST_PATHING_ERROR = 0x370 "Host Pathing Error",
    /// 371h: the kernel aborted the command: it may have taken effect.
    HOST_ABORTED = 0x371 "Command Aborted By Host",
}

impl Status {
    /// 000h: the command was completed without an error.
    pub const SUCCESS: Self = Self(0);

    /// Returns the status for the value of a passthrough ioctl that did not fail: 0, or a status field with its flags.
    pub fn from_ioctl(value: i32) -> Self {
        if value == 0 {
            return Self::SUCCESS;
        }
        // The kernel returns 15 bits. Whatever else is not zero stays no success: 7FFh is no controller's code.
        match u16::try_from(value).unwrap_or(CODE) & CODE {
            0 => Self(CODE),
            code => Self(code),
        }
    }

    /// Returns the status with this code and status code type (bits 10-0).
    pub const fn new(code: u16) -> Self {
        Self(code & CODE)
    }

    /// Returns the status code type and the status code (bits 10-0); 0 only for success.
    pub const fn code(self) -> u16 {
        self.0
    }

    /// Returns whether the command was completed without an error.
    pub const fn is_success(self) -> bool {
        self.0 == 0
    }

    /// Returns whether the status is of the path to the namespace (status code type 3), not of the command. Such a command
    /// may or may not have taken effect.
    pub const fn is_path_related(self) -> bool {
        self.code() >> 8 == 3
    }
}

/// Shows name and code: `Reservation Conflict (083h)`.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:03X}h)", self.name().unwrap_or("unknown status"), self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_zero_is_success() {
        for value in (i32::MIN..=i32::MIN + 10).chain(-0x1_0000..=0x2_0000).chain(i32::MAX - 10..=i32::MAX) {
            let status = Status::from_ioctl(value);
            assert_eq!(status.is_success(), value == 0, "{value:#x}");
            assert_eq!(status.code() == 0, value == 0, "{value:#x}");
        }
    }

    #[test]
    fn flags_do_not_change_the_code() {
        for flags in [0, 0x0800, 0x1000, 0x2000, 0x4000, 0x7800] {
            assert_eq!(Status::from_ioctl(0x083 | flags), Status::RESERVATION_CONFLICT);
        }
        assert_eq!(Status::from_ioctl(0x4083).to_string(), "Reservation Conflict (083h)");
        assert_eq!(Status::new(0x1c5).to_string(), "unknown status (1C5h)");
        assert_eq!(Status::from_ioctl(0x4000).to_string(), "unknown status (7FFh)");
    }

    #[test]
    fn path_errors_are_told_apart() {
        for code in 0..=CODE {
            assert_eq!(Status::new(code).is_path_related(), (0x300..0x400).contains(&code), "{code:03x}");
        }
        assert!(Status::NAMED.iter().all(|status| !status.is_success() && status.name().is_some()));
    }
}
