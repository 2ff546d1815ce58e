//! Where registrations and reservation are kept over a loss of power.

use alloc::vec::Vec;
use core::convert::Infallible;

/// Keeps one sequence of bytes: what a [`LogicalUnit`](crate::LogicalUnit) saves.
///
/// `FileStore` is one. A monitor that has storage of its own for a disk's state writes another.
///
/// # The bytes
///
/// They are a text that an administrator can read, and of which every byte counts:
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
/// - Lines end with a line feed; fields are separated by one space; numbers are without leading zeros, those of
///   `registration` and the reservation's type in hexadecimal, digits in lower case.
/// - `aptpl`: 1 or 0. With 0 there is nothing between it and the checksum.
/// - `reservation`, if there is one: the type (SPC-4 table 206), and the number of the registration that holds it,
///   counted from 0 in decimal, or `all`.
/// - `registration`, for each in the order of their making: the key, the RELATIVE TARGET PORT IDENTIFIER, the
///   TransportID.
/// - `crc32`: the CRC-32 (ISO-HDLC: reflected, polynomial 04C11DB7h, inverted at both ends) of all bytes before
///   this line, eight digits.
///
/// PRGENERATION is not saved: it is zero after a loss of power (SPC-4 clause 6.15.2). A text that is not exactly what
/// would be written for the state that it describes is damaged.
pub trait Store {
    /// Why bytes cannot be kept or had back.
    type Error: core::error::Error + 'static;

    /// What was saved last; `None` if nothing ever was.
    ///
    /// # Errors
    ///
    /// It cannot be known. That something was saved and is gone is an error, too.
    fn load(&mut self) -> Result<Option<Vec<u8>>, Self::Error>;

    /// Replaces what was saved last. When this returns `Ok`, a loss of power does not undo it; if power is lost before,
    /// either the old bytes are kept or the new ones, whole.
    ///
    /// # Errors
    ///
    /// They are not kept, or it is not known.
    fn save(&mut self, state: &[u8]) -> Result<(), Self::Error>;

    /// Whether it does keep what is saved, which REPORT CAPABILITIES tells (`PTPL_C`) and without which APTPL is
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
