//! Builds requests, and repeats them with larger buffers until the answer fits.

use std::io;

use crate::{ANSWER_MAX, DeviceNumber, Error, Version, answer, ioctl::Command, layout::dm_ioctl};

/// Size in bytes of the first buffer for an answer, enough for the table of any usual device.
const ANSWER_FIRST: usize = 4096;

/// The requested version of the interface. The kernel refuses a minor version greater than its own. This crate needs
/// only the first.
const VERSION: Version = Version { major: 4, minor: 0, patch: 0 };

/// Reads the kernel's version of the interface by `call`. Returns an error if this crate does not support it.
pub(crate) fn version(call: impl FnOnce(&mut [u8]) -> io::Result<()>) -> Result<Version, Error> {
    let mut buffer = request(dm_ioctl::SIZE, 0, 0);
    let result = call(&mut buffer);
    // A kernel that refuses the requested version still writes its own. After any other failure, the requested one
    // remains.
    let version = answer::version(&buffer)?;
    if version.major != VERSION.major {
        return Err(Error::Version(version));
    }
    result.map_err(|source| Error::from_ioctl(Command::Version, source))?;
    Ok(version)
}

/// Requests the answer for a device by `call`, doubling the buffer until the answer fits. Returns the complete answer.
pub(crate) fn for_device(
    device: DeviceNumber,
    command: Command,
    mut call: impl FnMut(&mut [u8]) -> io::Result<()>,
) -> Result<Vec<u8>, Error> {
    let dev = device.encode().ok_or(Error::NoSuchMap(device))?;
    let mut size = ANSWER_FIRST;
    while size <= ANSWER_MAX {
        let mut buffer = request(size, dev, command.flags());
        call(&mut buffer).map_err(|source| Error::from_device_ioctl(device, command, source))?;
        if !answer::is_truncated(command, &buffer)? {
            return Ok(buffer);
        }
        size *= 2;
    }
    Err(Error::AnswerTooLong { ioctl: command.name() })
}

/// Returns a request whose buffer has `size` bytes for the answer.
fn request(size: usize, dev: u64, flags: u32) -> Vec<u8> {
    let mut buffer = vec![0; size];
    let version: Vec<u8> =
        [VERSION.major, VERSION.minor, VERSION.patch].into_iter().flat_map(u32::to_ne_bytes).collect();
    dm_ioctl::VERSION.write(&mut buffer, &version);
    dm_ioctl::FLAGS.write(&mut buffer, &flags.to_ne_bytes());
    dm_ioctl::DEV.write(&mut buffer, &dev.to_ne_bytes());
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::flag;

    const DEVICE: DeviceNumber = DeviceNumber { major: 253, minor: 300 };

    /// Reads the version from a simulated kernel that writes `version`, if there is one, and fails with `errno`, if
    /// any.
    fn version_of_kernel(version: Option<[u32; 3]>, errno: Option<i32>) -> Result<Version, Error> {
        super::version(|buffer| {
            assert_eq!(buffer.len(), 312);
            let requested: Vec<u8> = [4_u32, 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
            assert_eq!(buffer[..12], requested);
            for (to, number) in buffer.chunks_exact_mut(4).zip(version.into_iter().flatten()) {
                to.copy_from_slice(&number.to_ne_bytes());
            }
            errno.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
        })
    }

    #[test]
    fn supported_major_version_is_accepted() {
        for version in [[4, 0, 0], [4, 47, 0], [4, 50, 9]] {
            let [major, minor, patch] = version;
            let answered = version_of_kernel(Some(version), None).unwrap();
            assert_eq!(answered, Version { major, minor, patch });
        }
    }

    #[test]
    fn other_major_version_is_refused() {
        for errno in [None, Some(libc::EINVAL)] {
            for (version, text) in [([3, 2, 1], "3.2.1"), ([5, 0, 0], "5.0.0"), ([0, 0, 0], "0.0.0")] {
                let error = version_of_kernel(Some(version), errno).unwrap_err();
                assert!(matches!(error, Error::Version(_)), "{error:?}");
                assert!(
                    error.to_string().contains(&format!("version {text}, but only version 4")),
                    "{error}"
                );
            }
        }
    }

    #[test]
    fn failed_version_ioctl_keeps_its_error() {
        for (errno, text) in
            [(libc::EINVAL, "DM_VERSION failed"), (libc::EACCES, "DM_VERSION is not permitted")]
        {
            for version in [None, Some([4, 47, 0])] {
                let error = version_of_kernel(version, Some(errno)).unwrap_err();
                assert!(error.to_string().starts_with(text), "{error}");
            }
        }
    }

    #[test]
    fn request_has_version_flags_and_device() {
        let mut request = Vec::new();
        let answer = for_device(DEVICE, Command::TableStatus, |buffer| {
            request = buffer.to_vec();
            Ok(())
        })
        .unwrap();

        let mut expected = vec![0; 4096];
        expected[0..4].copy_from_slice(&4_u32.to_ne_bytes());
        expected[28..32].copy_from_slice(&0x8810_u32.to_ne_bytes());
        expected[40..48].copy_from_slice(&0x0010_fd2c_u64.to_ne_bytes());
        assert_eq!(request, expected);
        assert_eq!(answer.len(), 4096);
    }

    /// Requests an answer of `enough` bytes from a simulated kernel. Returns the sizes of the buffers, and the result.
    fn request_answer_of(enough: usize) -> (Vec<usize>, Result<Vec<u8>, Error>) {
        let mut sizes = Vec::new();
        let answer = for_device(DEVICE, Command::TableDeps, |buffer| {
            // Every request starts from a new buffer, without bytes of the last answer.
            assert!(buffer[305..].iter().all(|byte| *byte == 0));
            assert_eq!(buffer[28..32], 0x8800_u32.to_ne_bytes());
            sizes.push(buffer.len());
            buffer[305..].fill(0xee);
            let full = if buffer.len() < enough { flag::BUFFER_FULL } else { 0 };
            dm_ioctl::FLAGS.write(buffer, &full.to_ne_bytes());
            Ok(())
        });
        (sizes, answer)
    }

    #[test]
    fn buffer_is_doubled_until_answer_fits() {
        let (sizes, answer) = request_answer_of(20_000);
        assert_eq!(sizes, [4096, 8192, 16384, 32768]);
        assert_eq!(answer.unwrap().len(), 32768);

        let (sizes, answer) = request_answer_of(ANSWER_MAX);
        assert_eq!((sizes.len(), sizes.last()), (13, Some(&ANSWER_MAX)));
        assert_eq!(answer.unwrap().len(), ANSWER_MAX);
    }

    #[test]
    fn too_long_answer_is_refused() {
        let (sizes, answer) = request_answer_of(ANSWER_MAX + 1);
        assert_eq!((sizes.len(), sizes.last()), (13, Some(&ANSWER_MAX)));
        let error = answer.unwrap_err();
        assert!(matches!(error, Error::AnswerTooLong { ioctl: "DM_TABLE_DEPS" }), "{error:?}");
    }

    #[test]
    fn impossible_device_number_is_not_requested() {
        let device = DeviceNumber { major: 253 + 4096, minor: 0 };
        let error = for_device(device, Command::TableStatus, |_| panic!("requested")).unwrap_err();
        assert!(matches!(error, Error::NoSuchMap(number) if number == device), "{error:?}");
    }

    #[test]
    fn missing_device_differs_from_other_failures() {
        for (errno, is_missing) in [(libc::ENXIO, true), (libc::ENOMEM, false), (libc::EACCES, false)] {
            let failure = |_: &mut [u8]| Err(io::Error::from_raw_os_error(errno));
            let error = for_device(DEVICE, Command::TableStatus, failure).unwrap_err();
            assert_eq!(matches!(error, Error::NoSuchMap(DEVICE)), is_missing, "{error:?}");
        }
    }
}
