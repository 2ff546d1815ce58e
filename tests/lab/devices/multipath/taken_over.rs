//! A daemon that was taken over: messages to supervisor and workers that pr-helper never sends. They must neither change
//! anything that the sender may not change, nor leave a process behind.

use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use fixtures::{Disk, State};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{
        AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
        SocketType, recv, sendmsg, socketpair,
    },
};
use test_support::Daemon;

use super::{KEY, Map, Multipath, REGISTER, basic, open, out_cdb};

/// A supervisor or worker whose daemon is the test.
struct Role {
    process: Child,
    channel: OwnedFd,
}

impl Role {
    fn start(argument: &str) -> Self {
        let (channel, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let mut command = Daemon::command();
        command.arg(argument).stdin(theirs).stdout(Stdio::null()).stderr(Stdio::null());
        Self { process: command.spawn().unwrap(), channel }
    }

    fn worker() -> Self {
        let worker = Self::start("--multipath-worker");
        assert_eq!(worker.receive().map(|hello| hello[0]), Some(1), "the worker is ready");
        worker
    }

    /// Sends a message with descriptors; returns whether that was possible.
    fn send(&self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> bool {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(descriptors.is_empty() || control.push(SendAncillaryMessage::ScmRights(descriptors)));
        let slices = [std::io::IoSlice::new(message)];
        sendmsg(&self.channel, &slices, &mut control, SendFlags::NOSIGNAL).is_ok()
    }

    /// Returns the next message; `None` if the process has closed the channel.
    fn receive(&self) -> Option<Vec<u8>> {
        let timeout = Timespec { tv_sec: 60, tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(&self.channel, PollFlags::IN)], Some(&timeout)).unwrap();
        assert_eq!(ready, 1, "neither an answer nor an end");
        let mut buffer = vec![0; 16 << 10];
        let (length, _) = recv(&self.channel, &mut buffer[..], RecvFlags::empty()).ok()?;
        (length > 0).then(|| buffer[..length].to_vec())
    }

    /// Closes the channel; returns the exit code, which there must be within a minute.
    fn end(mut self) -> i32 {
        drop(self.channel);
        let begun = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.code().unwrap_or_else(|| panic!("{status}"));
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "the process remains");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Returns a request to a worker: tag, time limit in milliseconds, CDB and parameters.
fn request(cdb: &[u8; 10], parameters: &[u8]) -> Vec<u8> {
    [&[1][..], &5000_u32.to_be_bytes(), cdb, parameters].concat()
}

/// A small generator of random numbers (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((value ^ (value >> 31)) % u64::try_from(below).unwrap()).unwrap()
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| u8::try_from(self.next(256)).unwrap()).collect()
    }
}

#[test]
fn worker_checks_what_it_is_sent() {
    let _multipath = Multipath::start();
    let (map, disk) = (Map::a(), Disk::other());
    let null = File::open("/dev/null").unwrap();
    let (read_only, partition) = (File::open(&map.node).unwrap(), open(&Disk::other_partition()));
    let plain = open(&disk.block);
    let parameters = basic(0, KEY);
    let register = request(&out_cdb(REGISTER, 0, &parameters), &parameters);
    let worker = Role::worker();
    for descriptor in [null.as_fd(), read_only.as_fd(), partition.as_fd(), plain.as_fd()] {
        assert!(worker.send(&register, &[descriptor]));
        worker.receive().expect("an answer");
    }
    assert_eq!((map.state(), State::seen_by(&disk)), (State::default(), State::default()));
    assert_eq!(worker.end(), 0);

    // Not even one byte may be surplus, and other commands are not run: here WRITE (10).
    let write = request(&[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[0; 512]);
    for (message, descriptors) in [
        ([&register[..], &[0]].concat(), vec![plain.as_fd()]),
        (register[..register.len() - 1].to_vec(), vec![plain.as_fd()]),
        (register.clone(), vec![]),
        (register.clone(), vec![plain.as_fd(), plain.as_fd()]),
        (write, vec![plain.as_fd()]),
    ] {
        let worker = Role::worker();
        assert!(worker.send(&message, &descriptors));
        assert_eq!(worker.receive(), None);
        assert_eq!(worker.end(), 1, "{message:02x?}");
    }
    assert_eq!((map.state(), State::seen_by(&disk)), (State::default(), State::default()));
}

#[test]
fn random_messages_end_a_process_at_most() {
    let null = File::open("/dev/null").unwrap();
    let mut random = Random(4711);
    for role in ["--multipath-supervisor", "--multipath-worker"] {
        for _ in 0..20 {
            let process = Role::start(role);
            for _ in 0..=random.next(3) {
                let (length, count) = (random.next(40), random.next(4));
                let mut message = random.bytes(length);
                // Most are close to well-formed ones.
                if let Some(tag) = message.first_mut() {
                    *tag = u8::try_from(random.next(5)).unwrap();
                }
                process.send(&message, &vec![null.as_fd(); count]);
            }
            let code = process.end();
            assert!([0, 1].contains(&code), "{role}: exit code {code}");
        }
    }
}
