//! Registrations that servers of one host announce to each other.
//!
//! An announcement is the name of an abstract Unix socket: it takes no privilege and no file, ends with its process, and
//! every process of the network namespace can read it in /proc/net/unix. It has hashes of the nexus and of the key, and
//! number and user of the client process. Any process can announce anything: an announcement is the reason for a warning,
//! but for more only if root or the server's own user made it ([`is_trusted`]).

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    os::fd::OwnedFd,
};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use pr_backend::Nexus;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use scsi_sense::pr::ReservationKey;

use crate::Registrant;

/// First part of all names.
const PREFIX: &str = "pr-helper/nexus/";

/// How much of /proc/net/unix is read, in bytes: tens of thousands of sockets.
const READ_MAX: u64 = 4 << 20;

/// Connections that a socket queues. None is accepted: a connection only tells who listens.
const BACKLOG: i32 = 128;

/// The part of an announcement that tells registrations apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Subject {
    nexus: u64,
    key: u64,
}

impl Subject {
    pub(crate) fn new(nexus: &Nexus, key: ReservationKey) -> Self {
        Self { nexus: hash(nexus.to_string().as_bytes()), key: hash(&key.to_be_bytes()) }
    }

    pub(crate) fn is_same_nexus(self, other: Self) -> bool {
        self.nexus == other.nexus
    }
}

/// An announcement of this process, until it is dropped.
#[derive(Debug)]
pub(crate) struct Announcement {
    _socket: OwnedFd,
}

impl Announcement {
    /// Announces a registration; `None` if the kernel refuses it, or it is announced already.
    pub(crate) fn new(subject: Subject, registrant: Registrant) -> Option<Self> {
        let address = SocketAddrUnix::new_abstract_name(name(subject, registrant).as_bytes()).ok()?;
        let socket = stream_socket()?;
        rustix::net::bind(&socket, &address).ok()?;
        rustix::net::listen(&socket, BACKLOG).ok()?;
        Some(Self { _socket: socket })
    }
}

/// An announcement of any process, this one included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Announced {
    pub(crate) subject: Subject,
    pub(crate) registrant: Registrant,
}

/// Returns all announcements of this network namespace.
pub(crate) fn read() -> Vec<Announced> {
    // Not /proc/net, which a service's ProcSubset=pid hides.
    let Ok(file) = File::open("/proc/self/net/unix") else { return Vec::new() };
    // A name can have any bytes.
    let lines = BufReader::new(file.take(READ_MAX)).split(b'\n').map_while(Result::ok);
    lines.filter_map(|line| parse(std::str::from_utf8(&line).ok()?)).collect()
}

/// Returns the announcement that a line of /proc/net/unix shows.
pub(crate) fn parse(line: &str) -> Option<Announced> {
    let (_, name) = line.split_once('@')?;
    let mut fields = name.strip_prefix(PREFIX)?.split('/');
    let mut next = || fields.next();
    let subject = Subject {
        nexus: u64::from_str_radix(next()?, 16).ok()?,
        key: u64::from_str_radix(next()?, 16).ok()?,
    };
    let registrant =
        Registrant { pid: next()?.parse().ok()?, uid: next()?.parse().ok()?, is_of_other_server: true };
    next().is_none().then_some(Announced { subject, registrant })
}

/// Returns whether root or the user of this process made the announcement.
pub(crate) fn is_trusted(Announced { subject, registrant }: &Announced) -> bool {
    let owner = || {
        let address = SocketAddrUnix::new_abstract_name(name(*subject, *registrant).as_bytes()).ok()?;
        let socket = stream_socket()?;
        rustix::net::connect(&socket, &address).ok()?;
        getsockopt(&socket, PeerCredentials).ok()
    };
    owner().is_some_and(|owner| [0, rustix::process::geteuid().as_raw()].contains(&owner.uid()))
}

fn stream_socket() -> Option<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).ok()
}

pub(crate) fn name(Subject { nexus, key }: Subject, Registrant { pid, uid, .. }: Registrant) -> String {
    format!("{PREFIX}{nexus:016x}/{key:016x}/{pid}/{uid}")
}

/// FNV-1a: the same in all versions of this program, unlike the hashes of the standard library.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registrant(pid: i32) -> Registrant {
        Registrant { pid, uid: 107, is_of_other_server: true }
    }

    fn subject(name: &str) -> Subject {
        Subject::new(&Nexus::host_wide(format!("{name} of {}", std::process::id())), ReservationKey(0xabc))
    }

    #[test]
    fn announcement_is_read_until_dropped() {
        let (subject, registrant) = (subject("read"), registrant(4711));
        let mine = || read().into_iter().filter(|announced| announced.subject == subject).collect::<Vec<_>>();
        assert_eq!(mine(), []);
        let announcement = Announcement::new(subject, registrant).unwrap();
        assert_eq!(mine(), [Announced { subject, registrant }]);
        assert!(Announcement::new(subject, registrant).is_none());
        assert!(is_trusted(&Announced { subject, registrant }));
        drop(announcement);
        assert_eq!(mine(), []);
        assert!(!is_trusted(&Announced { subject, registrant }));
    }

    #[test]
    fn longest_name_fits_an_address() {
        let subject = Subject { nexus: u64::MAX, key: u64::MAX };
        let registrant = Registrant { pid: i32::MIN, uid: u32::MAX, is_of_other_server: false };
        SocketAddrUnix::new_abstract_name(name(subject, registrant).as_bytes()).unwrap();
    }

    #[test]
    fn malformed_names_are_no_announcements() {
        let line = |name: &str| format!("0000000000000000: 00000002 00000000 00010000 0001 01 12345 @{name}");
        let well_formed = name(subject("line"), registrant(1));
        assert!(parse(&line(&well_formed)).is_some());
        for malformed in [
            "",
            "pr-helper/nexus/",
            "pr-helper/nexus/1/2/3",
            "pr-helper/nexus/1/2/3/4/5",
            "pr-helper/nexus/x/2/3/4",
            "pr-helper/nexus/1/2/x/4",
            "pr-helper/nexus/1/2/3/-4",
            "pr-helper/nexus/11111111111111111/2/3/4",
            "other/nexus/1/2/3/4",
        ] {
            assert_eq!(parse(&line(malformed)), None, "{malformed}");
        }
        assert_eq!(parse("no name"), None);
    }

    /// Servers of different versions must agree.
    #[test]
    fn hash_is_fnv_1a() {
        assert_eq!(hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(hash(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
