//! Question and answer: what the kernel is asked, and how it gets enough room for what it says.

use std::io;

use crate::{ANSWER_MAX, DeviceNumber, Error, Version, answer, ioctl::Command, layout::dm_ioctl};

/// The room for an answer at first, which is enough for the table of any usual device.
const ANSWER_FIRST: usize = 4096;

/// The version of the interface that is asked for. The kernel refuses a greater minor version than its own; nothing
/// here needs a later one than the first.
const VERSION: Version = Version { major: 4, minor: 0, patch: 0 };

/// Asks for the kernel's version of the interface by `call`, and takes it only if it is understood here.
pub(crate) fn version(call: impl FnOnce(&mut [u8]) -> io::Result<()>) -> Result<Version, Error> {
    let mut buffer = request(dm_ioctl::SIZE, 0, 0);
    let result = call(&mut buffer);
    // A kernel that refuses our version has written its own nevertheless; any other failure leaves ours there.
    let version = answer::version(&buffer)?;
    if version.major != VERSION.major {
        return Err(Error::Version(version));
    }
    result.map_err(|source| Error::from_ioctl(Command::Version, source))?;
    Ok(version)
}

/// Asks about a device by `call`, again with twice the room as long as the answer does not fit, and returns the whole.
pub(crate) fn about(
    device: DeviceNumber,
    command: Command,
    mut call: impl FnMut(&mut [u8]) -> io::Result<()>,
) -> Result<Vec<u8>, Error> {
    let dev = device.encode().ok_or(Error::NoSuchMap(device))?;
    let mut size = ANSWER_FIRST;
    while size <= ANSWER_MAX {
        let mut buffer = request(size, dev, command.flags());
        call(&mut buffer).map_err(|source| Error::from_ioctl_about(device, command, source))?;
        if !answer::is_cut(command, &buffer)? {
            return Ok(buffer);
        }
        size *= 2;
    }
    Err(Error::AnswerTooLong { ioctl: command.name() })
}

/// A request with `size` bytes of room for the answer.
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

    /// A kernel that fails with `errno`, having written `version` if it is one.
    fn asked_for_its_version(version: Option<[u32; 3]>, errno: Option<i32>) -> Result<Version, Error> {
        super::version(|buffer| {
            assert_eq!(buffer.len(), 312);
            let ours: Vec<u8> = [4_u32, 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
            assert_eq!(buffer[..12], ours);
            for (to, number) in buffer.chunks_exact_mut(4).zip(version.into_iter().flatten()) {
                to.copy_from_slice(&number.to_ne_bytes());
            }
            errno.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
        })
    }

    #[test]
    fn a_kernel_of_our_major_version_is_understood() {
        for version in [[4, 0, 0], [4, 47, 0], [4, 50, 9]] {
            let [major, minor, patch] = version;
            let answered = asked_for_its_version(Some(version), None).unwrap();
            assert_eq!(answered, Version { major, minor, patch });
        }
    }

    #[test]
    fn a_kernel_of_another_major_version_is_refused_by_name() {
        for errno in [None, Some(libc::EINVAL)] {
            for (version, text) in [([3, 2, 1], "3.2.1"), ([5, 0, 0], "5.0.0"), ([0, 0, 0], "0.0.0")] {
                let error = asked_for_its_version(Some(version), errno).unwrap_err();
                assert!(matches!(error, Error::Version(_)), "{error:?}");
                assert!(error.to_string().contains(&format!("version {text}, and only 4")), "{error}");
            }
        }
    }

    #[test]
    fn a_kernel_that_fails_otherwise_says_how() {
        for (errno, text) in
            [(libc::EINVAL, "DM_VERSION failed"), (libc::EACCES, "DM_VERSION is not permitted")]
        {
            for version in [None, Some([4, 47, 0])] {
                let error = asked_for_its_version(version, Some(errno)).unwrap_err();
                assert!(error.to_string().starts_with(text), "{error}");
            }
        }
    }

    #[test]
    fn a_request_is_a_structure_with_version_flags_and_device_and_else_zeros() {
        let mut request = Vec::new();
        let answer = about(DEVICE, Command::TableStatus, |buffer| {
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

    /// What a kernel is asked for that has no room for its answer in less than `enough` bytes, and what comes of it.
    fn asked_in_ever_larger_buffers(enough: usize) -> (Vec<usize>, Result<Vec<u8>, Error>) {
        let mut sizes = Vec::new();
        let answer = about(DEVICE, Command::TableDeps, |buffer| {
            // Every request is a new one: nothing of the last answer is in it.
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
    fn the_room_is_doubled_until_the_answer_fits() {
        let (sizes, answer) = asked_in_ever_larger_buffers(20_000);
        assert_eq!(sizes, [4096, 8192, 16384, 32768]);
        assert_eq!(answer.unwrap().len(), 32768);

        let (sizes, answer) = asked_in_ever_larger_buffers(ANSWER_MAX);
        assert_eq!((sizes.len(), sizes.last()), (13, Some(&ANSWER_MAX)));
        assert_eq!(answer.unwrap().len(), ANSWER_MAX);
    }

    #[test]
    fn an_answer_without_end_is_given_up() {
        let (sizes, answer) = asked_in_ever_larger_buffers(ANSWER_MAX + 1);
        assert_eq!((sizes.len(), sizes.last()), (13, Some(&ANSWER_MAX)));
        let error = answer.unwrap_err();
        assert!(matches!(error, Error::AnswerTooLong { ioctl: "DM_TABLE_DEPS" }), "{error:?}");
    }

    #[test]
    fn a_number_that_no_device_can_have_is_never_asked_for() {
        let device = DeviceNumber { major: 253 + 4096, minor: 0 };
        let error = about(device, Command::TableStatus, |_| panic!("asked")).unwrap_err();
        assert!(matches!(error, Error::NoSuchMap(number) if number == device), "{error:?}");
    }

    #[test]
    fn a_device_that_does_not_exist_is_told_from_other_failures() {
        for (errno, is_missing) in [(libc::ENXIO, true), (libc::ENOMEM, false), (libc::EACCES, false)] {
            let failure = |_: &mut [u8]| Err(io::Error::from_raw_os_error(errno));
            let error = about(DEVICE, Command::TableStatus, failure).unwrap_err();
            assert_eq!(matches!(error, Error::NoSuchMap(DEVICE)), is_missing, "{error:?}");
        }
    }
}
