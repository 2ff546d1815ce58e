//! Names of iSCSI initiators in TransportIDs.

use core::fmt::{self, Write};

use super::TransportIdError;

/// The name of an iSCSI node: `iqn.…`, `eui.…` or `naa.…` (RFC 7143 clause 4.2.7).
///
/// It has at least one byte, and none is zero. The name should be UTF-8, but untrusted data may contain any bytes:
/// [`Display`](fmt::Display) escapes control characters and invalid UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IscsiName<'a>(&'a [u8]);

/// The initiator session identifier (ISID) of an iSCSI initiator port, as hexadecimal digits.
///
/// An ISID has six bytes, that is twelve digits. Some targets report fewer, so one to twelve digits are accepted and
/// kept unchanged.
///
/// ```
/// use scsi_sense::pr::IscsiSessionId;
///
/// let isid = IscsiSessionId::from_bytes([0x00, 0x02, 0x3d, 0x00, 0x00, 0x01]);
/// assert_eq!(isid.to_string(), "00023d000001");
/// assert_eq!(IscsiSessionId::parse(b"00023D000001")?.to_bytes(), isid.to_bytes());
/// # Ok::<(), scsi_sense::pr::TransportIdError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IscsiSessionId {
    /// The digits, padded with zero bytes.
    digits: [u8; 12],
    length: u8,
}

impl<'a> IscsiName<'a> {
    /// Returns the name with these bytes, which have no terminating zero.
    ///
    /// # Errors
    ///
    /// [`TransportIdError::EmptyName`] if there is no byte, [`TransportIdError::Padding`] if a byte is zero.
    pub fn new(name: &'a [u8]) -> Result<Self, TransportIdError> {
        if name.is_empty() {
            Err(TransportIdError::EmptyName)
        } else if name.contains(&0) {
            Err(TransportIdError::Padding)
        } else {
            Ok(Self(name))
        }
    }

    /// Returns the bytes, without a terminating zero.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

impl fmt::Display for IscsiName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for char in chunk.valid().chars() {
                if char.is_control() {
                    write!(f, "{}", char.escape_default())?;
                } else {
                    f.write_char(char)?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl IscsiSessionId {
    /// Reads one to twelve hexadecimal digits, in either case, without `0x`.
    ///
    /// # Errors
    ///
    /// [`TransportIdError::SessionId`] for any other text.
    pub fn parse(text: &[u8]) -> Result<Self, TransportIdError> {
        let mut digits = [0; 12];
        let room = digits.get_mut(..text.len()).ok_or(TransportIdError::SessionId)?;
        room.copy_from_slice(text);
        match u8::try_from(text.len()) {
            Ok(length) if length > 0 && text.iter().all(u8::is_ascii_hexdigit) => Ok(Self { digits, length }),
            _ => Err(TransportIdError::SessionId),
        }
    }

    /// Returns the identifier with these six bytes as twelve digits in lower case.
    pub fn from_bytes(bytes: [u8; 6]) -> Self {
        let mut digits = [0; 12];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte)]);
        }
        Self { digits, length: 12 }
    }

    /// Returns the six bytes, if there are twelve digits.
    pub fn to_bytes(self) -> Option<[u8; 6]> {
        if self.length != 12 {
            return None;
        }
        let value = self.digits.iter().try_fold(0_u64, |value, digit| {
            char::from(*digit).to_digit(16).map(|digit| value << 4 | u64::from(digit))
        })?;
        let [_, _, bytes @ ..] = value.to_be_bytes();
        Some(bytes)
    }

    /// Returns the digits.
    pub fn as_digits(&self) -> &[u8] {
        self.digits.get(..usize::from(self.length)).unwrap_or(&self.digits)
    }
}

/// Returns the hexadecimal digit of bits 3-0.
const fn digit(nibble: u8) -> u8 {
    match nibble & 0x0f {
        small @ 0..=9 => b'0' + small,
        large => b'a' + (large - 10),
    }
}

/// Shows the digits unchanged.
impl fmt::Display for IscsiSessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_digits().iter().try_for_each(|digit| f.write_char(char::from(*digit)))
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn iscsi_name_is_shown_without_control_characters() {
        for (name, shown) in [
            (&b"iqn.1994-05.com.redhat:host1"[..], "iqn.1994-05.com.redhat:host1"),
            ("iqn.2001-04.com.example:bücher".as_bytes(), "iqn.2001-04.com.example:bücher"),
            (b"iqn.\x1b[2J\xff", "iqn.\\u{1b}[2J\\xff"),
        ] {
            assert_eq!(IscsiName::new(name).unwrap().to_string(), shown);
        }
        assert_eq!(IscsiName::new(b""), Err(TransportIdError::EmptyName));
        assert_eq!(IscsiName::new(b"iqn\0"), Err(TransportIdError::Padding));
    }

    #[test]
    fn session_id_has_up_to_twelve_digits() {
        for (text, bytes) in [
            (&b"00023D000001"[..], Some([0x00, 0x02, 0x3d, 0x00, 0x00, 0x01])),
            (b"ffffffffffff", Some([0xff; 6])),
            (b"00023d", None),
        ] {
            let isid = IscsiSessionId::parse(text).unwrap();
            assert_eq!(isid.as_digits(), text);
            assert_eq!(isid.to_bytes(), bytes);
        }
        for text in [&b""[..], b"0123456789abc", b"0x1234", b"12 34"] {
            assert_eq!(IscsiSessionId::parse(text), Err(TransportIdError::SessionId));
        }
    }
}
