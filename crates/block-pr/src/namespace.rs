//! Reservation commands of an NVMe namespace.

use std::time::Duration;

use crate::{
    error::Error,
    identify::{CommandEffects, HostIdentifier, ReservationCapabilities},
    kind::ReservationType,
    report::{Format, Malformed, Report},
    request::{Data, Passthrough, Queue, Request},
    status::Status,
};

/// Opcodes of the commands that this crate sends.
pub mod opcode {
    /// Admin: Get Log Page.
    pub const GET_LOG_PAGE: u8 = 0x02;
    /// Admin: Identify.
    pub const IDENTIFY: u8 = 0x06;
    /// Admin: Get Features.
    pub const GET_FEATURES: u8 = 0x0a;
    /// I/O: Reservation Register.
    pub const REGISTER: u8 = 0x0d;
    /// I/O: Reservation Report.
    pub const REPORT: u8 = 0x0e;
    /// I/O: Reservation Acquire.
    pub const ACQUIRE: u8 = 0x11;
    /// I/O: Reservation Release.
    pub const RELEASE: u8 = 0x15;
}

/// CNS of Identify: the namespace.
const CNS_NAMESPACE: u32 = 0;
/// CNS of Identify: the controller.
const CNS_CONTROLLER: u32 = 1;
/// Length of the data of Identify, in bytes.
const IDENTIFY_LENGTH: usize = 4096;
/// RESCAP, byte of Identify Namespace.
const RESCAP: usize = 31;
/// ONCS, first byte of Identify Controller. Its bit 5: the controller has reservation commands.
const ONCS: usize = 520;
const ONCS_RESERVATIONS: u8 = 1 << 5;
/// Commands Supported and Effects log page, of 4096 bytes, and the offset of its entries for I/O commands.
const LOG_EFFECTS: u32 = 0x05;
const LOG_EFFECTS_LENGTH: usize = 4096;
const LOG_EFFECTS_IO: usize = 1024;
/// Feature identifier of the host identifier.
const FEATURE_HOST_IDENTIFIER: u32 = 0x81;
/// Registrants that the first Report has room for.
const FIRST_REGISTRANTS: usize = 16;
/// How often a Report is sent with a larger buffer.
const REPORT_ATTEMPTS: usize = 5;

/// What Reservation Register does (RREGA, with IEKEY).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Register {
    /// Registers the new key for a host that is not registered. A host that is registered with this very key gets success,
    /// too.
    ///
    /// A new key of 0 would be registered: see [`Register::Unregister`].
    New,
    /// Replaces the current key by the new one.
    Replace,
    /// Registers the new key, whatever the host's key is now (IEKEY). Before NVM Express 1.3 the host must be
    /// registered.
    ReplaceAny,
    /// Unregisters the host, if the current key is its key.
    Unregister,
    /// Unregisters the host, whatever its key is (IEKEY).
    UnregisterAny,
}

impl Register {
    /// RREGA in bits 2-0, IEKEY in bit 3.
    const fn code(self) -> u32 {
        match self {
            Self::New => 0,
            Self::Unregister => 1,
            Self::Replace => 2,
            Self::UnregisterAny => 1 | 1 << 3,
            Self::ReplaceAny => 2 | 1 << 3,
        }
    }
}

/// What Reservation Register does to persistence through power loss (CPTPL).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Persist {
    /// Leaves it as it is: the only choice if the namespace has no such feature.
    #[default]
    Keep,
    /// Registrations and reservation are lost with power.
    Off,
    /// Registrations and reservation persist.
    On,
}

impl Persist {
    /// CPTPL, bits 31-30.
    const fn code(self) -> u32 {
        match self {
            Self::Keep => 0,
            Self::Off => 0b10 << 30,
            Self::On => 0b11 << 30,
        }
    }
}

/// What Reservation Acquire does (RACQA).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acquire {
    /// Makes a reservation.
    Acquire,
    /// Removes the registrations of a key, and takes over its reservation.
    Preempt {
        /// The key to remove.
        victim: u64,
    },
    /// The same, and aborts the commands of the removed hosts.
    PreemptAndAbort {
        /// The key to remove.
        victim: u64,
    },
}

/// What Reservation Release does (RRELA).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// Releases the reservation of this type. A host that does not hold the reservation gets success, and nothing changes.
    Release(ReservationType),
    /// Removes the reservation and all registrations.
    Clear,
}

/// An NVMe namespace, to which commands are sent by `P`.
#[derive(Debug)]
pub struct Namespace<P> {
    device: P,
    id: u32,
    timeout: Duration,
}

impl<P: Passthrough> Namespace<P> {
    /// Asks for the identifier of the namespace behind `device`. Each command may take `timeout`; then the kernel aborts it,
    /// and resets the controller if it does not answer.
    ///
    /// # Errors
    ///
    /// [`Error::NotSupported`] if the device is no NVMe namespace, and all that [`Error::from_os`] returns.
    pub fn open(device: P, timeout: Duration) -> Result<Self, Error> {
        let id = device.namespace_id().map_err(Error::from_os)?;
        Ok(Self { device, id, timeout })
    }

    /// Returns the namespace identifier.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Sends Reservation Register. `current` is the host's key, `new` the key that it gets; both are 0 where they do not
    /// matter.
    ///
    /// # Errors
    ///
    /// [`Error`]: [`Error::Status`] with [`Status::RESERVATION_CONFLICT`] if the host has another key, or none.
    pub fn register(&self, what: Register, persist: Persist, current: u64, new: u64) -> Result<(), Error> {
        self.change(opcode::REGISTER, what.code() | persist.code(), &keys([current, new]))
    }

    /// Sends Reservation Acquire. `current` is the host's key.
    ///
    /// Success does not mean that a victim was removed: see [the crate](crate#what-success-does-not-mean).
    ///
    /// # Errors
    ///
    /// [`Error`]: [`Error::Status`] with [`Status::RESERVATION_CONFLICT`] if the host has another key or none, or another
    /// host holds the reservation.
    pub fn acquire(&self, what: Acquire, kind: ReservationType, current: u64) -> Result<(), Error> {
        let (code, victim) = match what {
            Acquire::Acquire => (0, 0),
            Acquire::Preempt { victim } => (1, victim),
            Acquire::PreemptAndAbort { victim } => (2, victim),
        };
        self.change(opcode::ACQUIRE, code | u32::from(kind.code()) << 8, &keys([current, victim]))
    }

    /// Sends Reservation Release. `current` is the host's key.
    ///
    /// # Errors
    ///
    /// [`Error`]: [`Error::Status`] with [`Status::RESERVATION_CONFLICT`] if the host has another key or none; for a type
    /// that is not the reservation's, with that or [`Status::INVALID_FIELD`].
    pub fn release(&self, what: Release, current: u64) -> Result<(), Error> {
        let cdw10 = match what {
            Release::Release(kind) => u32::from(kind.code()) << 8,
            Release::Clear => 1,
        };
        self.change(opcode::RELEASE, cdw10, &current.to_le_bytes())
    }

    /// Reads all registrants: by Reservation Report in the extended format, or in the short one if the controller has no
    /// other for its hosts.
    ///
    /// # Errors
    ///
    /// [`Error`]; [`Error::Malformed`] also if there are more registrants each time. `EINVAL` ([`Error::Os`]) if the report
    /// exceeds the greatest transfer of the device (`max_hw_sectors_kb` in /sys).
    pub fn report(&self) -> Result<Report, Error> {
        match self.report_in(Format::Extended) {
            Err(Error::Status(Status::HOST_IDENTIFIER_FORMAT | Status::INVALID_FIELD)) => {
                self.report_in(Format::Short)
            }
            report => report,
        }
    }

    /// Reads all registrants by Reservation Report in this format.
    ///
    /// # Errors
    ///
    /// Those of [`report`](Self::report); [`Error::Status`] with [`Status::HOST_IDENTIFIER_FORMAT`] if the format does not
    /// fit the host identifiers.
    pub fn report_in(&self, format: Format) -> Result<Report, Error> {
        let mut room = FIRST_REGISTRANTS;
        for _ in 0..REPORT_ATTEMPTS {
            let mut buffer = vec![0; format.length(room)];
            let extended = u32::from(format == Format::Extended);
            let number_of_dwords = dwords(buffer.len()).saturating_sub(1);
            let data = Data::FromDevice(&mut buffer);
            self.send(Queue::Io, self.id, opcode::REPORT, number_of_dwords, extended, data)?;
            let report = Report::parse(&buffer, format).map_err(Error::Malformed)?;
            if report.is_complete() {
                return Ok(report);
            }
            room = usize::from(report.total).saturating_add(FIRST_REGISTRANTS);
        }
        Err(Error::Malformed(Malformed::Growing))
    }

    /// Returns the reservation features of the namespace, by Identify.
    ///
    /// # Errors
    ///
    /// [`Error`]. Kernels before 6.2 need `CAP_SYS_ADMIN` for it.
    pub fn capabilities(&self) -> Result<ReservationCapabilities, Error> {
        let mut data = [0; IDENTIFY_LENGTH];
        let buffer = Data::FromDevice(&mut data);
        self.send(Queue::Admin, self.id, opcode::IDENTIFY, CNS_NAMESPACE, 0, buffer)?;
        Ok(ReservationCapabilities(byte(&data, RESCAP)))
    }

    /// Returns whether the controller has reservation commands (ONCS bit 5), by Identify.
    ///
    /// # Errors
    ///
    /// As for [`capabilities`](Self::capabilities).
    pub fn controller_has_reservations(&self) -> Result<bool, Error> {
        let mut data = [0; IDENTIFY_LENGTH];
        let buffer = Data::FromDevice(&mut data);
        self.send(Queue::Admin, 0, opcode::IDENTIFY, CNS_CONTROLLER, 0, buffer)?;
        Ok(byte(&data, ONCS) & ONCS_RESERVATIONS != 0)
    }

    /// Returns the I/O commands that the controller lists as supported, by the Commands Supported and Effects log.
    ///
    /// # Errors
    ///
    /// [`Error`]. It takes `CAP_SYS_ADMIN`. Controllers may lack this log.
    pub fn command_effects(&self) -> Result<CommandEffects, Error> {
        let mut data = vec![0; LOG_EFFECTS_LENGTH];
        let cdw10 = dwords(data.len()).saturating_sub(1) << 16 | LOG_EFFECTS;
        let buffer = Data::FromDevice(&mut data);
        self.send(Queue::Admin, u32::MAX, opcode::GET_LOG_PAGE, cdw10, 0, buffer)?;
        let entries = data.get(LOG_EFFECTS_IO..).unwrap_or_default().chunks_exact(4).take(256);
        Ok(CommandEffects(
            entries.filter_map(|entry| entry.first_chunk()).map(|entry| u32::from_le_bytes(*entry)).collect(),
        ))
    }

    /// Returns the host identifier that the controller has for this host, by Get Features: of 128 bits, or of 64 if the
    /// controller has no longer ones.
    ///
    /// For fabrics, the file `hostid` of the controller in /sys has it, too, without a command and without privilege.
    ///
    /// # Errors
    ///
    /// [`Error`]. It takes `CAP_SYS_ADMIN`.
    pub fn host_identifier(&self) -> Result<HostIdentifier, Error> {
        let mut data = [0; 16];
        let get = |extended, buffer| {
            self.send(Queue::Admin, 0, opcode::GET_FEATURES, FEATURE_HOST_IDENTIFIER, extended, buffer)
        };
        match get(1, Data::FromDevice(&mut data)) {
            Ok(()) => Ok(HostIdentifier::Extended(data)),
            Err(Error::Status(Status::INVALID_FIELD)) => {
                let mut short = [0; 8];
                get(0, Data::FromDevice(&mut short))?;
                Ok(HostIdentifier::Short(short))
            }
            Err(error) => Err(error),
        }
    }

    fn change(&self, opcode: u8, cdw10: u32, data: &[u8]) -> Result<(), Error> {
        self.send(Queue::Io, self.id, opcode, cdw10, 0, Data::ToDevice(data))
    }

    fn send(
        &self,
        queue: Queue,
        namespace: u32,
        opcode: u8,
        cdw10: u32,
        cdw11: u32,
        data: Data<'_>,
    ) -> Result<(), Error> {
        let mut request = Request { queue, opcode, namespace, cdw10, cdw11, data, timeout: self.timeout };
        let status = self.device.submit(&mut request).map_err(Error::from_os)?;
        if status.is_success() { Ok(()) } else { Err(Error::Status(status)) }
    }
}

/// Returns the data of Register and Acquire.
fn keys([first, second]: [u64; 2]) -> Vec<u8> {
    [first.to_le_bytes(), second.to_le_bytes()].concat()
}

/// Returns the number of double words in this many bytes.
fn dwords(bytes: usize) -> u32 {
    u32::try_from(bytes / 4).unwrap_or(u32::MAX)
}

fn byte(data: &[u8], index: usize) -> u8 {
    data.get(index).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;
