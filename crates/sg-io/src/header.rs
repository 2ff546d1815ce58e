//! `struct sg_io_hdr` of `<scsi/sg.h>`. The test below compares its layout with that header.

use std::mem::offset_of;

/// The ioctl's number, `SG_IO` of `<scsi/sg.h>`.
pub(crate) const SG_IO: libc::Ioctl = 0x2285;

/// Direction of the data transfer: `SG_DXFER_*` of `<scsi/sg.h>`.
#[derive(Debug, Clone, Copy)]
#[repr(i32)]
pub(crate) enum Direction {
    None = -1,
    ToDevice = -2,
    FromDevice = -3,
}

/// The argument of the ioctl; field names are the kernel's.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct SgIoHdr {
    interface_id: i32,
    dxfer_direction: i32,
    pub(crate) cmd_len: u8,
    pub(crate) mx_sb_len: u8,
    iovec_count: u16,
    pub(crate) dxfer_len: u32,
    pub(crate) dxferp: *mut libc::c_void,
    pub(crate) cmdp: *mut u8,
    pub(crate) sbp: *mut u8,
    pub(crate) timeout: u32,
    flags: u32,
    pack_id: i32,
    usr_ptr: *mut libc::c_void,
    pub(crate) status: u8,
    masked_status: u8,
    msg_status: u8,
    pub(crate) sb_len_wr: u8,
    pub(crate) host_status: u16,
    pub(crate) driver_status: u16,
    pub(crate) resid: i32,
    pub(crate) duration: u32,
    info: u32,
}

impl SgIoHdr {
    /// Returns a header of version 3 without command, data or sense buffer.
    pub(crate) fn new(direction: Direction) -> Self {
        Self {
            interface_id: i32::from(b'S'),
            dxfer_direction: direction as i32,
            cmd_len: 0,
            mx_sb_len: 0,
            iovec_count: 0,
            dxfer_len: 0,
            dxferp: std::ptr::null_mut(),
            cmdp: std::ptr::null_mut(),
            sbp: std::ptr::null_mut(),
            timeout: 0,
            flags: 0,
            pack_id: 0,
            usr_ptr: std::ptr::null_mut(),
            status: 0,
            masked_status: 0,
            msg_status: 0,
            sb_len_wr: 0,
            host_status: 0,
            driver_status: 0,
            resid: 0,
            duration: 0,
            info: 0,
        }
    }
}

macro_rules! layout {
    ($($field:ident),+ $(,)?) => {
        /// Name and offset of every field, to compare with the kernel's header.
        #[cfg(test)]
        const OFFSETS: &[(&str, usize)] = &[$((stringify!($field), offset_of!(SgIoHdr, $field))),+];
    };
}

layout![
    interface_id,
    dxfer_direction,
    cmd_len,
    mx_sb_len,
    iovec_count,
    dxfer_len,
    dxferp,
    cmdp,
    sbp,
    timeout,
    flags,
    pack_id,
    usr_ptr,
    status,
    masked_status,
    msg_status,
    sb_len_wr,
    host_status,
    driver_status,
    resid,
    duration,
    info,
];

#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<SgIoHdr>() == 88);
    assert!(offset_of!(SgIoHdr, dxferp) == 16);
    assert!(offset_of!(SgIoHdr, status) == 64);
    assert!(offset_of!(SgIoHdr, info) == 80);
};

#[cfg(target_pointer_width = "32")]
const _: () = assert!(size_of::<SgIoHdr>() == 64);

#[cfg(test)]
mod tests {
    use std::{
        fmt::Write as _,
        io::Write as _,
        process::{Command, Stdio},
    };

    use super::*;

    /// Compares layout and constants with `<scsi/sg.h>`, by a C program.
    #[test]
    fn layout_matches_the_kernel_header() {
        let mut source =
            String::from("#include <stddef.h>\n#include <stdio.h>\n#include <scsi/sg.h>\nint main(void) {\n");
        let mut expected = String::new();
        for (field, offset) in OFFSETS {
            writeln!(source, "printf(\"{field} %zu\\n\", offsetof(struct sg_io_hdr, {field}));").unwrap();
            writeln!(expected, "{field} {offset}").unwrap();
        }
        source.push_str("printf(\"%zu %#x %d %d %d\\n\", sizeof(struct sg_io_hdr), SG_IO, SG_DXFER_NONE, SG_DXFER_TO_DEV, SG_DXFER_FROM_DEV); }\n");
        writeln!(
            expected,
            "{} {SG_IO:#x} {} {} {}",
            size_of::<SgIoHdr>(),
            Direction::None as i32,
            Direction::ToDevice as i32,
            Direction::FromDevice as i32
        )
        .unwrap();

        let program = std::env::temp_dir().join(format!("sg-io-layout-{}", std::process::id()));
        let mut compiler = Command::new("cc")
            .args(["-x", "c", "-", "-o"])
            .arg(&program)
            .stdin(Stdio::piped())
            .spawn()
            .expect("a C compiler, cc, is needed for this test");
        compiler.stdin.take().unwrap().write_all(source.as_bytes()).unwrap();
        assert!(compiler.wait().unwrap().success());
        let printed = Command::new(&program).output().unwrap();
        std::fs::remove_file(&program).unwrap();
        assert_eq!(String::from_utf8(printed.stdout).unwrap(), expected);
    }
}
