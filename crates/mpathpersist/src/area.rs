//! Memory for a writer that may not know where to stop.

use std::{io, ptr, slice};

/// Memory that ends where a page begins that nobody may touch: who writes beyond it ends the process, and changes nothing
/// else.
#[derive(Debug)]
pub(crate) struct Area {
    /// The mapping: some bytes to fill its first page, those of the area, and the page.
    mapping: *mut libc::c_void,
    mapped: usize,
    bytes: *mut u8,
    length: usize,
}

impl Area {
    /// Zeros, aligned to eight bytes if `length` is a multiple of eight.
    pub(crate) fn new(length: usize) -> io::Result<Self> {
        // SAFETY: it takes no pointers.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let too_long = || io::Error::from(io::ErrorKind::InvalidInput);
        let page = usize::try_from(page).map_err(|_| io::Error::last_os_error())?;
        let before = length.checked_next_multiple_of(page).ok_or_else(too_long)?;
        let mapped = before.checked_add(page).ok_or_else(too_long)?;
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, where the kernel finds room for it, takes no memory from anybody.
        let mapping = unsafe { libc::mmap(ptr::null_mut(), mapped, access, kind, -1, 0) };
        if mapping == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let end = mapping.wrapping_byte_add(before);
        let area = Self { mapping, mapped, bytes: end.wrapping_byte_sub(length).cast(), length };
        // SAFETY: the last page of the mapping, of which nobody has a reference.
        if unsafe { libc::mprotect(end, page, libc::PROT_NONE) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(area)
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.bytes
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `bytes` and the `length` bytes there are in the mapping, in front of the page that cannot be read; they
        // are initialised (anonymous memory is zeros), and live as long as `self`, which is borrowed.
        unsafe { slice::from_raw_parts(self.bytes, self.length) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed for this alone.
        unsafe { slice::from_raw_parts_mut(self.bytes, self.length) }
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: the mapping is this one's own, and no reference to it outlives `self`.
        unsafe { libc::munmap(self.mapping, self.mapped) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_can_be_used() {
        let mut area = Area::new(100_000).unwrap();
        assert_eq!(area.as_mut_ptr().addr() % 8, 0);
        assert!(area.bytes().iter().all(|byte| *byte == 0));
        area.bytes_mut().fill(0xff);
        assert!(area.bytes().len() == 100_000 && area.bytes().iter().all(|byte| *byte == 0xff));
    }
}
