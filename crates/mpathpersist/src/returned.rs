//! The answer to READ RESERVATION, decoded from the memory that the library wrote.

use mpathpersist_sys as sys;
use scsi_sense::pr::{InDataError, Reservation, ReservationData};

/// A buffer for an answer, with the size of the library's structure.
#[derive(Debug)]
pub(crate) struct Answer {
    words: Box<[u64]>,
}

/// Size of the library's structure in words of eight bytes.
const WORDS: usize = size_of::<sys::prin_resp>() / size_of::<u64>();
const _: () = assert!(WORDS * size_of::<u64>() == size_of::<sys::prin_resp>());
const _: () = assert!(align_of::<sys::prin_resp>() <= align_of::<u64>());

/// An ADDITIONAL LENGTH that no device returns. It marks a buffer that the library has not written to.
const UNWRITTEN: u32 = u32::MAX;

impl Answer {
    /// Returns an answer with [`UNWRITTEN`] for its ADDITIONAL LENGTH.
    pub(crate) fn new() -> Self {
        let mut words = vec![0; WORDS].into_boxed_slice();
        if let Some(header) = words.first_mut() {
            *header = u64::MAX;
        }
        Self { words }
    }

    /// Returns the pointer for the library.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut sys::prin_resp {
        self.words.as_mut_ptr().cast()
    }

    /// Decodes the reservation. The library converts numbers to the host's byte order, but not keys.
    pub(crate) fn reservation(&self) -> Result<Option<Reservation>, InDataError> {
        let mut bytes: Vec<u8> =
            self.words.iter().take(RESERVATION / 8).flat_map(|word| word.to_ne_bytes()).collect();
        let Some((header, _)) = bytes.split_first_chunk_mut::<8>() else {
            return Err(InDataError::TooShort { needed: 8, got: 0 });
        };
        let [g0, g1, g2, g3, l0, l1, l2, l3] = *header;
        let generation = u32::from_ne_bytes([g0, g1, g2, g3]);
        let additional_length = u32::from_ne_bytes([l0, l1, l2, l3]);
        if additional_length == UNWRITTEN {
            return Err(InDataError::TooShort { needed: 8, got: 0 });
        }
        // Restores the big-endian header that the device sent.
        let sent = u64::from(generation) << 32 | u64::from(additional_length);
        *header = sent.to_be_bytes();
        ReservationData::parse(&bytes)?.reservation()
    }
}

/// Size in bytes of a reservation with its header.
const RESERVATION: usize = size_of::<sys::prin_resvdescr>();
const _: () = assert!(RESERVATION == 24);
