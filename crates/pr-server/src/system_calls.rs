//! The system calls of this crate, with the reason for each.

use confinement::{Rule, rules};

/// `AF_UNIX`.
const UNIX: &[u32] = &[1];

/// The system calls that a [`Server`](crate::Server) makes once it is built, beside those of every process
/// ([`confinement::COMMON`]) and those of its executor
/// ([`Executor::system_calls`](pr_backend::Executor::system_calls)).
pub const SYSTEM_CALLS: &[Rule] = rules![
    Rule::new(libc::SYS_accept4, "accepts clients"),
    Rule::new(libc::SYS_recvmsg, "receives requests and descriptors"),
    Rule::new(libc::SYS_recvfrom, "receives greetings"),
    Rule::new(libc::SYS_sendto, "sends replies"),
    Rule::new(libc::SYS_shutdown, "disconnects clients"),
    Rule::new(libc::SYS_getsockopt, "reads who a client is"),
    Rule::new(libc::SYS_setsockopt, "sets buffers and time limits"),
    // FIONBIO, FIOCLEX.
    Rule::one_of(libc::SYS_ioctl, 1, &[0x5421, 0x5451], "sets flags of sockets"),
    Rule::new(libc::SYS_epoll_ctl, "watches connections"),
    Rule::new(libc::SYS_epoll_pwait, "waits for connections"),
    #[cfg(target_arch = "x86_64")]
    Rule::new(libc::SYS_epoll_wait, "waits for connections"),
    Rule::new(libc::SYS_timerfd_settime, "sets deadlines"),
    Rule::new(libc::SYS_fstatfs, "tells pidfds of client processes apart"),
    Rule::new(libc::SYS_pidfd_open, "tells whether a client process has ended"),
    Rule::one_of(libc::SYS_socket, 0, UNIX, "announces registrations to other servers"),
    Rule::new(libc::SYS_bind, "announces registrations to other servers"),
    Rule::new(libc::SYS_listen, "announces registrations to other servers"),
    Rule::new(libc::SYS_connect, "reads who announces a registration"),
    Rule::new(libc::SYS_geteuid, "compares who announces a registration"),
    Rule::without(
        libc::SYS_openat,
        2,
        0o3 | 0o100,
        "reads /proc/self/net/unix: neither O_WRONLY, O_RDWR nor O_CREAT"
    ),
];
