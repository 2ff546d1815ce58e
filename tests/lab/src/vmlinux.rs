//! Extracts the uncompressed kernel from the file that boot loaders read.
//!
//! QEMU can start it at its PVH entry, so a machine that is emulated within an emulated one need not decompress it.

use std::fs;
use std::path::Path;
use std::process::Command;

use tools::error::{Context as _, Error, Result};
use tools::process;

/// Magic numbers of compressed data, and the programs that decompress them.
const COMPRESSIONS: [(&[u8], &str); 2] = [(b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\0", "xz")];

/// Returns the uncompressed kernel in the file `vmlinuz`. `scratch` is a directory for a temporary file.
pub(crate) fn extract(vmlinuz: &Path, scratch: &Path) -> Result<Vec<u8>> {
    let image = fs::read(vmlinuz).context(|| format!("read {}", vmlinuz.display()))?;
    let unknown = || Error::new(format!("{} holds no kernel that the lab can unpack", vmlinuz.display()));
    let (compressed, size) = payload(&image).ok_or_else(unknown)?;
    let (_, program) =
        COMPRESSIONS.into_iter().find(|(magic, _)| compressed.starts_with(magic)).ok_or_else(unknown)?;
    let file = scratch.join("vmlinux.compressed");
    fs::write(&file, compressed).context(|| format!("write {}", file.display()))?;
    let unpacked = process::output(Command::new(program).args(["-d", "-c"]).arg(&file))?;
    if unpacked.len() != size {
        return Err(unknown());
    }
    Ok(unpacked)
}

/// Returns the compressed kernel and its uncompressed size: see Documentation/arch/x86/boot.rst in the kernel's source
/// (`setup_sects`, `payload_offset`, `payload_length`). The last four bytes of the payload are the size.
fn payload(image: &[u8]) -> Option<(&[u8], usize)> {
    let number = |at: usize| {
        let bytes: [u8; 4] = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let sectors = match *image.get(0x1f1)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let from = (sectors + 1) * 512 + number(0x248)?;
    let end = from.checked_add(number(0x24c)?)?.checked_sub(4)?;
    Some((image.get(from..end)?, number(end)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_is_found_by_its_header() {
        let mut image = vec![0; 0x600];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x1f1] = 1;
        image[0x248] = 0x10;
        image[0x24c] = 8;
        image[0x410..0x418].copy_from_slice(b"data\x05\0\0\0");
        assert_eq!(payload(&image), Some((&b"data"[..], 5)));
        image[0x24c] = 3;
        assert_eq!(payload(&image), None);
        assert_eq!(payload(b"not a kernel"), None);
    }
}
