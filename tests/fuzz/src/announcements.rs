//! Registrations that other helpers announce by names of abstract sockets. Every process of the host can choose such a name.

use pr_server::fuzzing::announcement;

/// Parses a line of /proc/net/unix. The name of the announcement must be one that has the same meaning.
pub fn announcements(data: &[u8]) {
    let Ok(line) = std::str::from_utf8(data) else { return };
    let Some(name) = announcement(line) else { return };
    assert!(line.contains("@pr-helper/nexus/"), "{line:?}");
    // An address has 108 bytes, of which the first is the zero of an abstract name.
    assert!(name.len() < 108, "{name:?}");
    let whole = format!("0000000000000000: 00000002 00000000 00010000 0001 01 12345 @{name}");
    assert_eq!(announcement(&whole).as_ref(), Some(&name), "{line:?}");
}
