//! The interface to storage that keeps registrations and reservation through a power loss.

use alloc::vec::Vec;
use core::convert::Infallible;

/// Keeps the saved state of a [`LogicalUnit`](crate::LogicalUnit): one sequence of bytes.
///
/// `FileStore` keeps it in a file. A monitor with its own storage for a disk's state implements another store.
///
/// # Format
///
/// The bytes are a text that an administrator can read, in which every byte is significant:
///
/// ```text
/// pr-target state, version 1
/// aptpl 1
/// reservation 5 0
/// registration 123abc 1 06000000500060c0f4b32001000000000000000000000000
/// registration 123abd 2 06000000500060c0f4b32002000000000000000000000000
/// crc32 f263211a
/// ```
///
/// - Lines end with a line feed; fields are separated by one space; numbers have no leading zeros. The numbers of
///   `registration` and the reservation's type are hexadecimal with lower-case digits.
/// - `aptpl`: 1 or 0. After 0, the next line is the checksum.
/// - `reservation`, if there is one: the type (SPC-4 table 206), and the number of the registration that holds it,
///   counted from 0 in decimal, or `all`.
/// - `registration`, one for each in the order in which they were made: the key, the RELATIVE TARGET PORT IDENTIFIER,
///   the TransportID.
/// - `crc32`: the CRC-32 (ISO-HDLC: reflected, polynomial 04C11DB7h, inverted at both ends) of all bytes before
///   this line, eight digits.
///
/// PRGENERATION is not saved: it is zero after a power loss (SPC-4 clause 6.15.2). A text is damaged unless it is
/// exactly the text that would be written for the state that it describes.
pub trait Store {
    /// The error if bytes cannot be saved or loaded.
    type Error: core::error::Error + 'static;

    /// Returns the bytes saved last, or `None` if none were ever saved.
    ///
    /// # Errors
    ///
    /// The bytes cannot be read, or it is unknown whether any were saved. If saved bytes are gone, that must be an
    /// error, too.
    fn load(&mut self) -> Result<Option<Vec<u8>>, Self::Error>;

    /// Replaces the saved bytes. Once this has returned `Ok`, a power loss must not undo it; after a power loss before
    /// that, either the old or the new bytes must be there, whole.
    ///
    /// # Errors
    ///
    /// The bytes are not saved, or it is unknown whether they are.
    fn save(&mut self, state: &[u8]) -> Result<(), Self::Error>;

    /// Returns whether the store keeps saved bytes. REPORT CAPABILITIES reports it (`PTPL_C`), and without it APTPL is
    /// refused.
    fn is_persistent(&self) -> bool {
        true
    }
}

/// Keeps nothing: the logical unit does not support APTPL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volatile;

impl Store for Volatile {
    type Error = Infallible;

    fn load(&mut self) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(None)
    }

    fn save(&mut self, _: &[u8]) -> Result<(), Infallible> {
        Ok(())
    }

    fn is_persistent(&self) -> bool {
        false
    }
}
