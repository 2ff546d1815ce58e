//! The data of Reservation Report (NVM Express Base 2.1, "Reservation Report command").

use crate::{identify::HostIdentifier, kind::ReservationType};

/// The two formats of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// EDS = 1: host identifiers of 128 bits.
    Extended,
    /// EDS = 0: host identifiers of 64 bits.
    Short,
}

impl Format {
    /// Length in bytes of the header, and of each registrant after it.
    pub const fn sizes(self) -> (usize, usize) {
        match self {
            Self::Extended => (64, 64),
            Self::Short => (24, 24),
        }
    }

    /// Returns the length in bytes of data with this number of registrants.
    pub const fn length(self, registrants: usize) -> usize {
        let (header, entry) = self.sizes();
        header.saturating_add(entry.saturating_mul(registrants))
    }
}

/// The registrants of a namespace and its reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// GEN: grows by one with each successful Register, Preempt and Clear, and wraps around.
    pub generation: u32,
    /// RTYPE: the type of the reservation, if there is one.
    pub reservation_type: Option<ReservationType>,
    /// REGSTRNT: the number of all registrants of the namespace, even if the data have fewer.
    pub total: u16,
    /// PTPLS: registrations and reservation persist through a loss of power.
    pub persists: bool,
    /// The registrants that the data have, at most `total`.
    pub registrants: Vec<Registrant>,
}

/// A registered host. A host with several controllers can be here several times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registrant {
    /// CNTLID: the controller through which the host is connected; `FFFFh` for a dynamic controller, or if it has none.
    pub controller: u16,
    /// RCSTS bit 0: the host holds the reservation.
    pub holds: bool,
    /// RKEY.
    pub key: u64,
    /// HOSTID.
    pub host: HostIdentifier,
}

/// Data that are no report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The data are shorter than a header.
    #[error("the report has {got} bytes, fewer than the {needed} of its header")]
    TooShort {
        /// Length of the header in bytes.
        needed: usize,
        /// Length of the data in bytes.
        got: usize,
    },
    /// The type of the reservation is not one of six.
    #[error("the report has the unknown reservation type {0}")]
    ReservationType(u8),
    /// There is a reservation, and no registrant.
    #[error("the report has a reservation but no registrant")]
    NoRegistrant,
    /// A reservation that one host holds does not have one holder.
    #[error("the report has a reservation that one host holds, but not one holder")]
    Holder,
    /// A registrant holds a reservation, and there is none.
    #[error("the report has a holder but no reservation")]
    NoReservation,
    /// The number of registrants grew with each attempt to read all of them.
    #[error("the report grew with each attempt to read it")]
    Growing,
    /// `IOC_PR_READ_KEYS`, `IOC_PR_READ_RESERVATION` or `NVME_IOCTL_ID` returned a value that it cannot have.
    #[error("the kernel returned the impossible value {0}")]
    Value(u64),
}

impl Report {
    /// Reads the data of a report, which may be cut after any registrant: `total` says how many there are.
    ///
    /// # Errors
    ///
    /// [`Malformed`]: the header is not complete, the type is unknown, or type and registrants contradict each other.
    pub fn parse(bytes: &[u8], format: Format) -> Result<Self, Malformed> {
        let (header, entry) = format.sizes();
        let short = Malformed::TooShort { needed: header, got: bytes.len() };
        let (header, entries) = bytes.split_at_checked(header).ok_or(short)?;
        let &[g0, g1, g2, g3, kind, n0, n1, _, _, ptpls, ..] = header else { return Err(short) };
        let reservation_type = match kind {
            0 => None,
            code => Some(ReservationType::new(code).ok_or(Malformed::ReservationType(code))?),
        };
        let total = u16::from_le_bytes([n0, n1]);
        let registrants = entries
            .chunks_exact(entry)
            .take(total.into())
            .filter_map(|entry| Registrant::parse(entry, format))
            .collect();
        let generation = u32::from_le_bytes([g0, g1, g2, g3]);
        let report = Self { generation, reservation_type, total, persists: ptpls != 0, registrants };
        report.check()?;
        Ok(report)
    }

    /// Returns whether all registrants of the namespace are here.
    pub fn is_complete(&self) -> bool {
        self.registrants.len() >= usize::from(self.total)
    }

    /// Returns the registrants with this host identifier.
    pub fn of_host(&self, host: HostIdentifier) -> impl Iterator<Item = &Registrant> {
        self.registrants.iter().filter(move |registrant| registrant.host == host)
    }

    /// Checks that reservation and holders agree.
    fn check(&self) -> Result<(), Malformed> {
        let mut holders: Vec<_> =
            self.registrants.iter().filter(|one| one.holds).map(|one| (one.host, one.key)).collect();
        holders.sort_unstable();
        holders.dedup();
        match self.reservation_type {
            None if holders.is_empty() => Ok(()),
            None => Err(Malformed::NoReservation),
            Some(_) if self.total == 0 => Err(Malformed::NoRegistrant),
            Some(kind) if kind.is_all_registrants() => Ok(()),
            // A host can be connected by several controllers, each of which is listed as a holder.
            Some(_) if holders.len() == 1 || (holders.is_empty() && !self.is_complete()) => Ok(()),
            Some(_) => Err(Malformed::Holder),
        }
    }
}

impl Registrant {
    fn parse(entry: &[u8], format: Format) -> Option<Self> {
        let (controller, rest) = entry.split_first_chunk()?;
        let (&[status], rest) = rest.split_first_chunk()?;
        let (_, rest) = rest.split_first_chunk::<5>()?;
        let (key, host) = match format {
            Format::Extended => {
                let (key, rest) = rest.split_first_chunk()?;
                (key, HostIdentifier::Extended(*rest.first_chunk()?))
            }
            Format::Short => {
                let (host, rest) = rest.split_first_chunk()?;
                (rest.first_chunk()?, HostIdentifier::Short(*host))
            }
        };
        Some(Self {
            controller: u16::from_le_bytes(*controller),
            holds: status & 1 != 0,
            key: u64::from_le_bytes(*key),
            host,
        })
    }
}

#[cfg(test)]
mod tests;
