//! Refusals of the ioctl for descriptors without a SCSI device. These tests need neither a device nor privileges.

use std::{fs::File, os::fd::AsFd};

use sg_io::{Command, Error, Verdict};

#[test]
fn descriptors_without_scsi_are_refused() {
    let null = File::open("/dev/null").unwrap();
    let error = Command::new(&[0; 6]).execute(null.as_fd()).unwrap_err();
    assert_eq!(error.errno(), Some(libc::ENOTTY));
    assert_eq!(error.to_string(), "SG_IO failed");
    let source = std::error::Error::source(&error).expect("the kernel's error is the source");
    assert!(source.to_string().contains("ioctl"), "{source}");
    assert_eq!(error.verdict(), Verdict::of_block_error(libc::ENOTTY));
    assert!(!error.verdict().is_good());
}

#[test]
fn cdbs_of_impossible_length_are_not_sent() {
    let null = File::open("/dev/null").unwrap();
    for length in [0, 253, 256, 512] {
        let cdb = vec![0; length];
        let error = Command::new(&cdb).execute(null.as_fd()).unwrap_err();
        assert!(matches!(error, Error::CdbLength(n) if n == length), "{error}");
        assert_eq!(error.errno(), None);
        assert!(!error.verdict().is_good());
    }
}
