//! The sense data of a reply.

use std::fmt;

use pr_proto::SENSE_LEN;
use scsi_sense::{Sense, SenseCode, SenseError};

/// The sense data of a reply: 96 bytes, padded with zeros.
///
/// Its `Display` form is the sense in words, or the reason why there is none.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SenseData(pub(crate) [u8; SENSE_LEN]);

impl SenseData {
    /// Returns all bytes.
    pub const fn as_bytes(&self) -> &[u8; SENSE_LEN] {
        &self.0
    }

    /// Parses the sense data.
    ///
    /// # Errors
    ///
    /// [`SenseError`], if there are none or they have a vendor-specific format.
    pub fn parse(&self) -> Result<Sense<'_>, SenseError> {
        Sense::parse(&self.0)
    }

    /// Returns sense key, additional sense code and qualifier, if there are any.
    pub fn code(&self) -> Option<SenseCode> {
        self.parse().ok()?.code()
    }

    /// Returns whether all bytes are zero: a CHECK CONDITION without sense data.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }
}

/// For example `ILLEGAL REQUEST, INVALID FIELD IN CDB (05/24/00)`.
impl fmt::Display for SenseData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parse() {
            Ok(sense) => sense.fmt(f),
            Err(_) if self.is_empty() => f.write_str("no sense data"),
            Err(error) => error.fmt(f),
        }
    }
}

impl fmt::Debug for SenseData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SenseData({self})")
    }
}
