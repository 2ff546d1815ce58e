//! Causes of a map's failures.

use std::{error::Error, io};

use mpathpersist::Failure;
use pr_backend::{Cause, with_sources};

/// Labels of all causes of a failure that a worker reports, those of pr-backend's functions included.
pub(crate) const LABELS: &[&str] = &[
    OTHER,
    "errno",
    "transport",
    "status",
    "shortage",
    "library",
    "device_mapper",
    "no_path",
    "multipathd",
    "suspended",
];

/// Label of a cause whose own label is not among [`LABELS`].
pub(crate) const OTHER: &str = "other";

/// Parts of the texts of strerror(3) for `EMFILE` and `ENFILE`, and for `ENOMEM`. The dynamic loader reports no error number.
const SHORTAGES: [&str; 2] = ["Too many open files", "Cannot allocate memory"];

/// Returns the cause of a failure that libmpathpersist reported.
pub(crate) fn library(failure: Failure) -> Cause {
    let text = match failure {
        // The most frequent failure of a new installation.
        Failure::SyntaxError => "libmpathpersist takes no key for this map, or another one: put the line \"reservation_key file\" into the section \"defaults\" of /etc/multipath.conf, then mkdir -p /etc/multipath && multipathd reconfigure".into(),
        failure => format!("libmpathpersist: {failure}: {}", failure.advice()),
    };
    Cause::new("library", text)
}

/// Returns the cause of a failed device-mapper ioctl.
pub(crate) fn device_mapper(error: &dm_ioctl::Error) -> Cause {
    Cause::new("device_mapper", format!("device-mapper: {}", with_sources(error)))
}

/// Returns the cause if no path of a map could be opened.
pub(crate) fn no_path() -> Cause {
    Cause::new(
        "no_path",
        "no path of the map could be opened: see what \"multipath -ll\" and \"dmesg\" say about its paths",
    )
}

/// Returns the cause if multipathd is running and does not answer.
pub(crate) fn multipathd(error: &io::Error) -> Cause {
    Cause::new(
        "multipathd",
        format!("multipathd is running but does not answer: {error}: see \"systemctl status multipathd\""),
    )
}

/// Returns the cause if a map is suspended, but not by the library.
pub(crate) fn suspended() -> Cause {
    Cause::new(
        "suspended",
        "the map is suspended (\"dmsetup info\"): \"dmsetup resume\" it when the operation that suspended it is finished",
    )
}

/// Returns the cause if `error` or one of its sources is a lack of resources of this process or host.
pub(crate) fn of_shortage(error: &(dyn Error + 'static)) -> Option<Cause> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(cause) = error.downcast_ref().and_then(Cause::of_shortage) {
            return Some(cause);
        }
        next = error.source();
    }
    // The dynamic loader reports only text.
    let text = with_sources(error);
    SHORTAGES
        .iter()
        .any(|words| text.contains(words))
        .then(|| Cause::new("shortage", format!("the helper lacks a resource: {text}")))
}

/// Returns the cause if communication with multipathd failed for lack of resources. `EAGAIN` is none: multipathd is busy.
pub(crate) fn of_shortage_with_multipathd(error: &io::Error) -> Option<Cause> {
    if error.kind() == io::ErrorKind::WouldBlock { None } else { Cause::of_shortage(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(errno: i32) -> io::Error {
        io::Error::from_raw_os_error(errno)
    }

    #[test]
    fn shortage_is_found_among_sources() {
        let device_mapper = |errno| dm_ioctl::Error::Os { operation: "DM_TABLE_STATUS", source: os(errno) };
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOMEM] {
            assert_eq!(of_shortage(&device_mapper(errno)).unwrap().label(), "shortage", "{errno}");
            assert!(of_shortage_with_multipathd(&os(errno)).is_some(), "{errno}");
            let words = os(errno).to_string();
            let loader = io::Error::other(format!("libmpathpersist.so.0: cannot open: {words}"));
            assert_eq!(of_shortage(&loader).unwrap().label(), "shortage", "{errno}");
        }
        for errno in [libc::ENOENT, libc::ENXIO, libc::EACCES] {
            assert_eq!(of_shortage(&device_mapper(errno)), None, "{errno}");
        }
        for errno in [libc::EAGAIN, libc::ETIMEDOUT, libc::EACCES] {
            assert_eq!(of_shortage_with_multipathd(&os(errno)), None, "{errno}");
        }
    }

    #[test]
    fn device_mapper_cause_names_its_source() {
        let error = dm_ioctl::Error::Os { operation: "DM_TABLE_STATUS", source: os(libc::EIO) };
        let text = device_mapper(&error).to_string();
        assert!(text.starts_with("device-mapper: DM_TABLE_STATUS failed: Input/output error"), "{text}");
    }
}
