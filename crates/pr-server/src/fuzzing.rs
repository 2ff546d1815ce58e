//! The parser of announced registrations, for the fuzz targets of this repository.

use crate::announcements;

/// Returns the name of the announcement that a line of /proc/net/unix shows.
pub fn announcement(line: &str) -> Option<String> {
    announcements::parse(line).map(|announced| announcements::name(announced.subject, announced.registrant))
}
