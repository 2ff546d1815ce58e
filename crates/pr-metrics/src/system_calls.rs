//! The system calls of this crate, with the reason for each.

use confinement::{Rule, rules};

/// The system calls that the threads of [`serve`](crate::serve) make, beside those of every process
/// ([`confinement::COMMON`]).
pub const SYSTEM_CALLS: &[Rule] = rules![
    Rule::new(libc::SYS_accept4, "accepts scrapers"),
    Rule::new(libc::SYS_recvfrom, "receives requests"),
    Rule::new(libc::SYS_recvmsg, "receives requests"),
    Rule::new(libc::SYS_sendto, "sends pages"),
    Rule::new(libc::SYS_setsockopt, "sets time limits"),
    Rule::new(libc::SYS_shutdown, "disconnects scrapers"),
    // FIONBIO, FIOCLEX.
    Rule::one_of(libc::SYS_ioctl, 1, &[0x5421, 0x5451], "sets flags of sockets"),
    Rule::new(libc::SYS_pidfd_open, "tells whether a registered client process has ended"),
    Rule::without(libc::SYS_openat, 2, 0o3 | 0o100, "the C library counts processors, for its memory"),
];
