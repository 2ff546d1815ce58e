//! What PERSISTENT RESERVE IN returns, out of the memory that the library wrote it to.
//!
//! That memory is believed in nothing: numbers in it are checked, and pointers in it are compared and not followed.

use std::{io, mem::offset_of};

use mpathpersist_sys as sys;
use scsi_sense::pr::{
    self, Capabilities, InDataError, InServiceAction, Reservation, ReservationData, ReservationKey,
    ReservationType, Scope, TransportId, TransportIdBuf,
};

use crate::{Error, area::Area};

/// The keys that are registered (SPC-4 clause 6.15.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// PRGENERATION: how often registrations were changed since power on. It wraps.
    pub generation: u32,
    /// The key of each registration, at most 1023 of them.
    pub keys: Vec<ReservationKey>,
    /// Whether the device has more.
    pub is_truncated: bool,
}

/// The reservation, if there is one (SPC-4 clause 6.15.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservationReport {
    /// PRGENERATION: how often registrations were changed since power on. It wraps.
    pub generation: u32,
    /// The reservation.
    pub reservation: Option<Reservation>,
}

/// Each registration with its I_T nexus (SPC-4 clause 6.15.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullStatus {
    /// PRGENERATION: how often registrations were changed since power on. It wraps.
    pub generation: u32,
    /// The registrations.
    pub registrations: Vec<Registration>,
}

/// One registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// RESERVATION KEY.
    pub key: ReservationKey,
    /// `ALL_TG_PT`: it is with all target ports.
    pub all_target_ports: bool,
    /// `R_HOLDER`: it holds the reservation.
    pub reservation_holder: bool,
    /// SCOPE. Of no meaning unless it holds the reservation.
    pub scope: Scope,
    /// TYPE. Of no meaning unless it holds the reservation.
    pub kind: ReservationType,
    /// RELATIVE TARGET PORT IDENTIFIER. Of no meaning if it is with all target ports.
    pub relative_port: u16,
    /// The initiator port; `None` if it is not one of Fibre Channel, iSCSI or SAS, or malformed.
    pub transport_id: Option<TransportIdBuf>,
}

/// Where `private_buffer` begins and ends.
const BUFFER: usize = offset_of!(sys::print_fulldescr_list, private_buffer);
const BUFFER_LENGTH: usize = 8192;
const BUFFER_END: usize = offset_of!(sys::print_fulldescr_list, descriptors);
const _: () = assert!(BUFFER_END == BUFFER + BUFFER_LENGTH);

/// Bytes of a decoded descriptor, and of a pointer to one.
const DESCRIPTOR: usize = size_of::<sys::prin_fulldescr>();
const POINTER: usize = size_of::<usize>();

/// How many descriptors the library decodes at most: the device's have 24 bytes or more, and the last may be cut.
const DESCRIPTORS_MAX: usize = BUFFER_LENGTH.div_ceil(24);
/// How many of them fit into `private_buffer`. The next is written over the pointers, or left out.
const DESCRIPTORS_FIT: usize = BUFFER_LENGTH / DESCRIPTOR;

/// How far the library writes at most, if the device's lengths are such that it goes forward: far behind what its header
/// tells to allocate.
const REACH: usize = {
    let descriptors = BUFFER + DESCRIPTORS_MAX * DESCRIPTOR;
    let pointers = BUFFER_END + DESCRIPTORS_MAX * POINTER;
    if descriptors > pointers { descriptors } else { pointers }
};

/// Behind that is a zone to see by whether it wrote there, and behind the zone the area's end.
const ZONE: usize = 4096;
const PATTERN: u8 = 0x5a;
const AREA: usize = REACH.next_multiple_of(8) + ZONE;

/// What the library cannot return, and a device should not: an ADDITIONAL LENGTH that says that nothing was written.
const NOTHING: u32 = u32::MAX;

/// Memory for answers, larger than any answer.
///
/// An ADDITIONAL DESCRIPTOR LENGTH of `FFFFFFE8h` has the library write the same descriptor again and again without an end.
/// The area's end ends the process then.
#[derive(Debug)]
pub(crate) struct Answer {
    area: Area,
}

impl Answer {
    pub(crate) fn new() -> io::Result<Self> {
        Area::new(AREA).map(|area| Self { area })
    }

    /// Forgets the last answer. Until the library has written, ADDITIONAL LENGTH is [`NOTHING`], or, for REPORT
    /// CAPABILITIES, LENGTH is 0, which is too little; all keys are zero.
    pub(crate) fn prepare(&mut self, action: InServiceAction) {
        let bytes = self.area.bytes_mut();
        bytes.fill(0);
        let listing = action != InServiceAction::ReportCapabilities;
        bytes.iter_mut().take(8).for_each(|byte| *byte = if listing { 0xff } else { 0 });
        bytes.iter_mut().skip(AREA - ZONE).for_each(|byte| *byte = PATTERN);
    }

    /// Where the library is to write.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut sys::prin_resp {
        self.area.as_mut_ptr().cast()
    }

    /// What it wrote.
    pub(crate) fn read(&self) -> Result<Memory<'_>, Error> {
        let bytes = self.area.bytes();
        if bytes.iter().skip(AREA - ZONE).any(|byte| *byte != PATTERN) {
            return Err(Error::Overrun);
        }
        Ok(Memory { bytes })
    }
}

/// An answer. All numbers in it are the host's: the library has turned them, but for keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory<'a> {
    bytes: &'a [u8],
}

impl Memory<'_> {
    pub(crate) fn keys(self) -> Result<Keys, Error> {
        let data = self.listing(offset_of!(sys::prin_readdescr, key_list), BUFFER_LENGTH)?;
        let listing = pr::Keys::parse(&data)?;
        let keys: Vec<_> = listing.iter().collect();
        // A device registers no such key: here the bytes end that it sent, whatever it says.
        if let Some(sent) = keys.iter().position(|key| key.is_zero()) {
            let needed = data.len().min(usize::try_from(listing.full_length()).unwrap_or(usize::MAX));
            return Err(InDataError::TooShort { needed, got: 8 + sent * 8 }.into());
        }
        Ok(Keys { generation: listing.generation(), keys, is_truncated: listing.is_truncated() })
    }

    pub(crate) fn reservation(self) -> Result<ReservationReport, Error> {
        let data = self.listing(offset_of!(sys::prin_resvdescr, key), size_of::<sys::prin_resvdescr>())?;
        let data = ReservationData::parse(&data)?;
        Ok(ReservationReport { generation: data.generation(), reservation: data.reservation()? })
    }

    pub(crate) fn capabilities(self) -> Result<Capabilities, Error> {
        let [l0, l1, b2, b3, b4, b5, b6, b7] = self.array(0)?;
        let [l0, l1] = u16::from_ne_bytes([l0, l1]).to_be_bytes();
        let [b4, b5] = u16::from_ne_bytes([b4, b5]).to_be_bytes();
        Ok(Capabilities::parse(&[l0, l1, b2, b3, b4, b5, b6, b7])?)
    }

    pub(crate) fn full_status(self) -> Result<FullStatus, Error> {
        let (generation, count) = self.header()?;
        let count = match usize::try_from(count) {
            Ok(count) if count < DESCRIPTORS_FIT => count,
            // As many, and perhaps others were left out; or more; or the device's ADDITIONAL LENGTH, where the library
            // found it too large to look further.
            _ => return Err(Error::TooManyRegistrations),
        };
        let registrations: Vec<_> =
            (0..count).map(|index| self.registration(index)).collect::<Result<_, _>>()?;
        // As above. Each has 24 bytes or more.
        if let Some(sent) = registrations.iter().position(|registration| registration.key.is_zero()) {
            return Err(InDataError::TooShort { needed: 8 + count * 24, got: 8 + sent * 24 }.into());
        }
        Ok(FullStatus { generation, registrations })
    }

    /// What the pointer of this index points to.
    fn registration(self, index: usize) -> Result<Registration, Error> {
        let pointer = usize::from_ne_bytes(self.array(BUFFER_END + index * POINTER)?);
        let at = pointer.checked_sub(self.bytes.as_ptr().addr()).ok_or(Error::Overrun)?;
        if !(BUFFER..=BUFFER_END - DESCRIPTOR).contains(&at) {
            return Err(Error::Overrun);
        }
        let [flags] = self.array(at + offset_of!(sys::prin_fulldescr, flag))?;
        let [scope_type] = self.array(at + offset_of!(sys::prin_fulldescr, scope_type))?;
        Ok(Registration {
            key: ReservationKey::from_be_bytes(self.array(at + offset_of!(sys::prin_fulldescr, key))?),
            all_target_ports: flags & 0x02 != 0,
            reservation_holder: flags & 0x01 != 0,
            scope: Scope::new(scope_type >> 4),
            kind: ReservationType::new(scope_type),
            relative_port: u16::from_ne_bytes(self.array(at + offset_of!(sys::prin_fulldescr, rtpi))?),
            transport_id: self.transport_id(at + offset_of!(sys::prin_fulldescr, trnptid))?,
        })
    }

    /// The `struct transportid` at `at`. Unlike what is sent, its format is shifted and iSCSI's name has no length.
    fn transport_id(self, at: usize) -> Result<Option<TransportIdBuf>, Error> {
        let [format] = self.array(at + offset_of!(sys::transportid, format_code))?;
        let [protocol] = self.array(at + offset_of!(sys::transportid, protocol_id))?;
        let payload: [u8; 256] = self.array(at + offset_of!(sys::transportid, __bindgen_anon_1))?;
        let [p0, p1, p2, p3, p4, p5, p6, p7, ..] = payload;
        let name = u64::from_be_bytes([p0, p1, p2, p3, p4, p5, p6, p7]);
        let id = match (protocol, format) {
            (0, 0) => TransportIdBuf::new(TransportId::FibreChannel { port_name: name }).ok(),
            (6, 0) => TransportIdBuf::new(TransportId::Sas { address: name }).ok(),
            (5, 0 | 1) => iscsi(format, &payload),
            _ => None,
        };
        Ok(id)
    }

    /// The data of READ KEYS or READ RESERVATION as the device sent them, up to byte `end`.
    fn listing(self, body: usize, end: usize) -> Result<Vec<u8>, Error> {
        let (generation, additional_length) = self.header()?;
        let mut data = Vec::with_capacity(end);
        data.extend(generation.to_be_bytes());
        data.extend(additional_length.to_be_bytes());
        data.extend(self.bytes.get(body..end).unwrap_or_default());
        Ok(data)
    }

    /// PRGENERATION, and what is behind it.
    fn header(self) -> Result<(u32, u32), Error> {
        let (generation, length) = (u32::from_ne_bytes(self.array(0)?), u32::from_ne_bytes(self.array(4)?));
        if length == NOTHING {
            return Err(InDataError::TooShort { needed: 8, got: 0 }.into());
        }
        Ok((generation, length))
    }

    fn array<const N: usize>(self, at: usize) -> Result<[u8; N], Error> {
        self.bytes.get(at..).and_then(<[u8]>::first_chunk).copied().ok_or(Error::Overrun)
    }
}

/// The TransportID of a name that ends at a zero, or nowhere.
fn iscsi(format: u8, name: &[u8]) -> Option<TransportIdBuf> {
    let name = name.split(|byte| *byte == 0).next()?;
    let additional = name.len().checked_add(1)?.max(20).checked_next_multiple_of(4)?;
    let mut bytes = vec![format << 6 | 0x05, 0, 0, u8::try_from(additional).ok()?];
    bytes.extend(name);
    bytes.resize(4 + additional, 0);
    TransportIdBuf::new(TransportId::parse(&bytes).ok()?).ok()
}
