//! The argument of the ioctl, as the kernel sees it: `struct sg_io_hdr` of `<scsi/sg.h>`. The crate `sg-io`
//! has the caller's side and proves the layout against that header.

use std::ffi::c_void;
use std::mem::offset_of;

use crate::{
    disk::{Answer, CHECK_CONDITION},
    prepared::Prepared,
};

/// The number of the ioctl, `SG_IO` of `<scsi/sg.h>`.
pub(crate) const SG_IO: libc::Ioctl = 0x2285;

/// `SG_DXFER_TO_DEV` and `SG_DXFER_FROM_DEV` of `<scsi/sg.h>`.
const TO_DEVICE: i32 = -2;
const FROM_DEVICE: i32 = -3;

/// `DRIVER_SENSE`: the command returned sense data.
const DRIVER_SENSE: u16 = 0x08;

/// `struct sg_io_hdr`, with the kernel's names of fields.
#[repr(C)]
pub(crate) struct SgIoHdr {
    interface_id: i32,
    dxfer_direction: i32,
    cmd_len: u8,
    mx_sb_len: u8,
    iovec_count: u16,
    dxfer_len: u32,
    dxferp: *mut u8,
    cmdp: *const u8,
    sbp: *mut u8,
    timeout: u32,
    flags: u32,
    pack_id: i32,
    usr_ptr: *mut c_void,
    status: u8,
    masked_status: u8,
    msg_status: u8,
    sb_len_wr: u8,
    host_status: u16,
    driver_status: u16,
    resid: i32,
    duration: u32,
    info: u32,
}

#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<SgIoHdr>() == 88);
    assert!(offset_of!(SgIoHdr, dxferp) == 16);
    assert!(offset_of!(SgIoHdr, status) == 64);
    assert!(offset_of!(SgIoHdr, info) == 80);
};

/// The result of a command, as the driver reports it.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    status: u8,
    host_status: u16,
    driver_status: u16,
    sense: &'a [u8],
    data: &'a [u8],
    /// The residual count; `None` for the correct one.
    resid: Option<i32>,
}

impl<'a> Report<'a> {
    /// Returns the report of an answer of [`disk`](crate::disk).
    pub(crate) fn usual(answer: &'a Answer) -> Self {
        let sense: &[u8] = if answer.status == CHECK_CONDITION { &answer.sense } else { &[] };
        Self {
            status: answer.status,
            host_status: 0,
            driver_status: driver_status(sense),
            sense,
            data: answer.data(),
            resid: None,
        }
    }

    /// Returns the report of a prepared answer. Its data default to those of `usual`.
    pub(crate) fn prepared(answer: &'a Prepared, usual: &'a Answer) -> Self {
        Self {
            status: answer.status,
            host_status: answer.host_status,
            driver_status: answer.driver_status.unwrap_or_else(|| driver_status(&answer.sense)),
            sense: &answer.sense,
            data: answer.data.as_deref().unwrap_or_else(|| usual.data()),
            resid: answer.resid,
        }
    }
}

fn driver_status(sense: &[u8]) -> u16 {
    if sense.is_empty() { 0 } else { DRIVER_SENSE }
}

/// A command and the buffers for its answer.
pub(crate) struct Exchange<'a> {
    header: &'a mut SgIoHdr,
    cdb: &'a [u8],
    parameters: &'a [u8],
    data: &'a mut [u8],
    sense: &'a mut [u8],
}

impl Exchange<'_> {
    /// Takes a caller's header. Returns `None` if it is null, not of version 3, has a scatter-gather list, or
    /// has no CDB.
    ///
    /// # Safety
    ///
    /// `header` is null, or valid for reads and writes as long as the returned value lives. The same holds
    /// for its `cmdp` (reads of `cmd_len` bytes), its `sbp` (writes of `mx_sb_len` bytes) and its `dxferp`
    /// (`dxfer_len` bytes: reads if the direction is to the device, writes if it is from the device). These
    /// buffers do not overlap, and no other code accesses them in that time.
    pub(crate) unsafe fn new(header: *mut SgIoHdr) -> Option<Self> {
        // SAFETY: by the caller's promise it is null, or valid and not accessed by other code.
        let header = unsafe { header.as_mut() }?;
        if header.interface_id != i32::from(b'S') || header.iovec_count != 0 || header.cmdp.is_null() {
            return None;
        }
        // SAFETY: `cmdp` is not null, and valid for `cmd_len` bytes by the caller's promise.
        let cdb = unsafe { std::slice::from_raw_parts(header.cmdp, header.cmd_len.into()) };
        let length = usize::try_from(header.dxfer_len).ok()?;
        let (mut parameters, mut data, mut sense): (&[u8], &mut [u8], &mut [u8]) = (&[], &mut [], &mut []);
        match header.dxfer_direction {
            _ if header.dxferp.is_null() => {}
            TO_DEVICE => {
                // SAFETY: `dxferp` is not null, and valid for reads of `dxfer_len` bytes by the caller's
                // promise.
                parameters = unsafe { std::slice::from_raw_parts(header.dxferp, length) };
            }
            FROM_DEVICE => {
                // SAFETY: `dxferp` is not null, and valid for writes of `dxfer_len` bytes by the caller's
                // promise. The caller may not have initialised it: it is only written.
                data = unsafe { std::slice::from_raw_parts_mut(header.dxferp, length) };
            }
            _ => {}
        }
        if !header.sbp.is_null() {
            // SAFETY: `sbp` is not null, and valid for writes of `mx_sb_len` bytes by the caller's promise.
            sense = unsafe { std::slice::from_raw_parts_mut(header.sbp, header.mx_sb_len.into()) };
        }
        Some(Self { header, cdb, parameters, data, sense })
    }

    pub(crate) fn cdb(&self) -> &[u8] {
        self.cdb
    }

    pub(crate) fn parameters(&self) -> &[u8] {
        self.parameters
    }

    /// Writes the answer, cut to the caller's buffers.
    pub(crate) fn complete(&mut self, report: &Report<'_>) {
        let transferred = copy(self.data, report.data);
        let moved = if self.parameters.is_empty() { transferred } else { self.parameters.len() };
        let header = &mut *self.header;
        header.status = report.status;
        header.masked_status = report.status >> 1;
        header.msg_status = 0;
        header.host_status = report.host_status;
        header.driver_status = report.driver_status;
        let rest = i32::try_from(header.dxfer_len).unwrap_or(0) - i32::try_from(moved).unwrap_or(0);
        header.resid = report.resid.unwrap_or(rest);
        header.duration = 0;
        header.sb_len_wr = u8::try_from(copy(self.sense, report.sense)).unwrap_or(u8::MAX);
        let failed = (report.status, report.host_status, report.driver_status) != (0, 0, 0);
        header.info = u32::from(failed);
    }
}

/// Copies as much as fits and returns its length.
fn copy(to: &mut [u8], from: &[u8]) -> usize {
    let length = to.len().min(from.len());
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk;

    fn run(cdb: &[u8], direction: i32, buffer: &mut [u8], sense: &mut [u8]) -> (u8, i32, u8, u16) {
        let header = answered(cdb, direction, buffer, sense, None);
        (header.status, header.resid, header.sb_len_wr, header.driver_status)
    }

    fn answered(
        cdb: &[u8],
        direction: i32,
        buffer: &mut [u8],
        sense: &mut [u8],
        prepared: Option<&Prepared>,
    ) -> SgIoHdr {
        let mut header = SgIoHdr {
            interface_id: i32::from(b'S'),
            dxfer_direction: direction,
            cmd_len: cdb.len().try_into().unwrap(),
            mx_sb_len: sense.len().try_into().unwrap(),
            iovec_count: 0,
            dxfer_len: buffer.len().try_into().unwrap(),
            dxferp: buffer.as_mut_ptr(),
            cmdp: cdb.as_ptr(),
            sbp: sense.as_mut_ptr(),
            timeout: 0,
            flags: 0,
            pack_id: 0,
            usr_ptr: std::ptr::null_mut(),
            status: 0xff,
            masked_status: 0xff,
            msg_status: 0xff,
            sb_len_wr: 0xff,
            host_status: 0xff,
            driver_status: 0xff,
            resid: -1,
            duration: 1,
            info: 1,
        };
        // SAFETY: this function borrows all buffers, with the lengths in the header.
        let mut exchange = unsafe { Exchange::new(&raw mut header) }.expect("a header of version 3");
        let answer = disk::answer(exchange.cdb(), exchange.parameters());
        exchange.complete(&match prepared {
            Some(prepared) => Report::prepared(prepared, &answer),
            None => Report::usual(&answer),
        });
        header
    }

    #[test]
    fn prepared_answer_is_reported_unchanged() {
        let keys = [0x5e, 0, 0, 0, 0, 0, 0, 0, 255, 0];
        let (mut buffer, mut sense) = ([0; 100], [0; 32]);
        let usual = Prepared { host_status: 0x107, resid: Some(-1), ..Prepared::default() };
        let header = answered(&keys, FROM_DEVICE, &mut buffer, &mut sense, Some(&usual));
        assert_eq!((header.status, header.host_status, header.driver_status), (0, 0x107, 0));
        assert_eq!((header.resid, header.sb_len_wr, buffer[71]), (-1, 0, 8), "the usual data");

        let mut buffer = [0; 100];
        let other =
            Prepared { status: 8, sense: vec![0x70; 40], data: Some(vec![1, 2]), ..Prepared::default() };
        let header = answered(&keys, FROM_DEVICE, &mut buffer, &mut sense, Some(&other));
        assert_eq!((header.status, header.driver_status, header.resid), (8, 8, 98));
        assert_eq!((header.sb_len_wr, sense, &buffer[..3]), (32, [0x70; 32], &[1, 2, 0][..]));
    }

    #[test]
    fn residual_is_the_unused_part_of_buffer() {
        let mut buffer = [0xee; 100];
        let keys = [0x5e, 0, 0, 0, 0, 0, 0, 0, 255, 0];
        assert_eq!(run(&keys, FROM_DEVICE, &mut buffer, &mut []), (0, 28, 0, 0));
        assert_eq!((buffer[3], buffer[71], buffer[72]), (7, 8, 0xee));
        let mut short = [0; 16];
        assert_eq!(run(&keys, FROM_DEVICE, &mut short, &mut []), (0, 0, 0, 0));
        assert_eq!(short[7], 64);
        let register = [0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0];
        let mut parameters = [0; 24];
        parameters[7] = 1;
        assert_eq!(run(&register, TO_DEVICE, &mut parameters, &mut []), (0, 0, 0, 0));
    }

    #[test]
    fn sense_data_is_cut_to_buffer() {
        let full_status = [0x5e, 3, 0, 0, 0, 0, 0, 0, 8, 0];
        let (mut buffer, mut sense) = ([0xee; 8], [0xee; 20]);
        assert_eq!(run(&full_status, FROM_DEVICE, &mut buffer, &mut sense), (2, 8, 18, 8));
        assert_eq!((sense[2], sense[12], sense[18], buffer), (5, 0x24, 0xee, [0xee; 8]));
        assert_eq!(run(&full_status, FROM_DEVICE, &mut buffer, &mut sense[..4]), (2, 8, 4, 8));
    }

    #[test]
    fn header_of_other_version_is_none() {
        // SAFETY: null is allowed.
        assert!(unsafe { Exchange::new(std::ptr::null_mut()) }.is_none());
        // SAFETY: all fields are integers and pointers, for which zeros are valid.
        let mut header: SgIoHdr = unsafe { std::mem::zeroed() };
        // SAFETY: all lengths are 0, so only the header itself must be valid.
        assert!(unsafe { Exchange::new(&raw mut header) }.is_none());
    }
}
