//! Clients that break the protocol. None of them may leak a descriptor of the daemon or affect any connection
//! but its own.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    thread,
    time::Duration,
};

use scsi_sense::Status;
use test_support::{Client, Daemon, Reply, eventually};

use crate::{null, read_keys, register};

const INVALID_OPCODE: Option<(u8, u8, u8)> = Some((5, 0x20, 0));

/// Runs `attack`, then checks that the daemon still serves another client and has closed all descriptors of
/// the attack.
fn assert_survives(daemon: &Daemon, name: &str, attack: impl FnOnce()) {
    let mut witness = daemon.client();
    attack();
    let reply =
        witness.read(null(), &read_keys(8)[..10]).unwrap_or_else(|error| panic!("after {name}: {error}"));
    assert_eq!(reply.sense_code(), INVALID_OPCODE, "after {name}");
    drop(witness);
    eventually(&format!("all descriptors are closed after {name}"), || {
        daemon.descriptors() == daemon.idle_descriptors()
    });
}

/// The connection stays open after each refusal.
#[test]
fn non_disk_descriptors_are_refused() {
    let daemon = Daemon::start(&[]);
    let (pipe, _writer) = rustix::pipe::pipe().unwrap();
    let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
    let file = tempfile::tempfile().unwrap();
    let path = rustix::fs::open("/dev/null", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    let things: [(&str, OwnedFd); 5] = [
        ("/dev/null", null()),
        ("pipe", pipe),
        ("socket", socket.into()),
        ("file", file.into()),
        ("O_PATH", path),
    ];
    let mut client = daemon.client();
    for (name, thing) in things {
        for _ in 0..2 {
            let read = client.read(&thing, &read_keys(8192)[..10]).unwrap();
            assert_eq!((read.sense_code(), read.payload.len()), (INVALID_OPCODE, 0), "{name}");
            let written = client.write(&thing, &register(24)[..10], &[0; 24]).unwrap();
            assert_eq!(written.sense_code(), INVALID_OPCODE, "{name}");
        }
    }
    let pid = std::process::id();
    daemon.wait_for_log(&format!("client pid {pid} uid"));
    daemon.wait_for_log("the descriptor is of a pipe, not of a disk");
    daemon.stop();
}

/// There is no reply, and the log has one line for each.
#[test]
fn protocol_violations_close_the_connection() {
    let daemon = Daemon::start(&[]);
    let null = null();
    let one: &[BorrowedFd<'_>] = &[null.as_fd()];
    let many: Vec<BorrowedFd<'_>> = vec![null.as_fd(); 253];
    let cases: &[(&str, &[u8], &[BorrowedFd<'_>], &str)] = &[
        ("no descriptor", &read_keys(8), &[], "without a file descriptor"),
        ("two descriptors", &read_keys(8), &many[..2], "more than one file descriptor"),
        ("three descriptors", &read_keys(8), &many[..3], "more than one file descriptor"),
        ("253 descriptors", &read_keys(8), &many, "more than one file descriptor"),
        ("INQUIRY", &[0x12; 16], one, "not PERSISTENT RESERVE (opcode 12h)"),
        ("opcode FFh", &[0xff; 16], one, "not PERSISTENT RESERVE (opcode FFh)"),
        ("IN of 8193", &read_keys(8193), one, "transfer length of 8193"),
        ("IN of 65535", &read_keys(65535), one, "transfer length of 65535"),
        ("OUT of 8193", &register(8193), one, "transfer length of 8193"),
        ("OUT of 65536", &register(65536), one, "transfer length of 65536"),
        ("OUT of 65560", &register(65560), one, "transfer length of 65560"),
        ("OUT of 2^32 - 1", &register(u32::MAX), one, "transfer length of 4294967295"),
    ];
    for (name, bytes, descriptors, message) in cases {
        assert_survives(&daemon, name, || {
            let before = daemon.log().matches(message).count();
            let mut client = daemon.client();
            client.send(bytes, descriptors).unwrap();
            assert!(client.is_closed(), "{name}");
            assert_eq!(daemon.log().matches(message).count(), before + 1, "{name}:\n{}", daemon.log());
        });
    }
    assert_survives(&daemon, "descriptors with the parameters", || {
        let mut client = daemon.client();
        client.send(&register(24), one).unwrap();
        client.send(&[0; 24], one).unwrap();
        assert!(client.is_closed());
    });
    assert_survives(&daemon, "descriptors with the greeting", || {
        let mut client = Client::connect_silently(&daemon.socket()).unwrap();
        client.receive_greeting().unwrap();
        client.send(&[0; 4], one).unwrap();
        assert!(client.is_closed());
    });
    assert_survives(&daemon, "a feature that was not offered", || {
        let mut client = Client::connect_silently(&daemon.socket()).unwrap();
        client.receive_greeting().unwrap();
        client.send(&[0, 0, 0, 1], &[]).unwrap();
        assert!(client.is_closed());
    });
    daemon.stop();
}

/// The client disconnects after each possible number of bytes.
#[test]
fn vanished_client_leaves_no_descriptor() {
    let daemon = Daemon::start(&[]);
    let null = null();
    let request = [&[0; 4][..], &register(24), &[0; 24]].concat();
    assert_survives(&daemon, "clients that vanish", || {
        for length in 0..=request.len() {
            for greeting_read in [false, true] {
                let mut client = Client::connect_silently(&daemon.socket()).unwrap();
                if greeting_read {
                    client.receive_greeting().unwrap();
                }
                let (greeting, rest) = request[..length].split_at(length.min(4));
                if !greeting.is_empty() {
                    client.send(greeting, &[]).unwrap();
                }
                if !rest.is_empty() {
                    client.send(rest, &[null.as_fd()]).unwrap();
                }
            }
        }
    });
    daemon.stop();
}

#[test]
fn request_may_arrive_in_pieces() {
    let daemon = Daemon::start(&[]);
    let null = null();
    let request = [&register(24)[..], &[0; 24]].concat();
    let mut client = daemon.client();
    for cut in 1..16 {
        client.expect_reply_to(&register(24)[..10], &[0; 24]);
        client.send(&request[..cut], &[null.as_fd()]).unwrap();
        thread::sleep(Duration::from_millis(2));
        client.send(&request[cut..], &[]).unwrap();
        assert_eq!(client.reply().unwrap().sense_code(), INVALID_OPCODE, "cut at {cut}");
    }
    client.expect_reply_to(&register(24)[..10], &[0; 24]);
    for (at, byte) in request.iter().enumerate() {
        // The descriptor arrives with the last byte of the CDB.
        let descriptors = [null.as_fd()];
        client.send(&[*byte], if at == 15 { &descriptors } else { &[] }).unwrap();
    }
    assert_eq!(client.reply().unwrap().sense_code(), INVALID_OPCODE, "byte by byte");
    daemon.stop();
}

#[test]
fn pipelined_commands_are_answered_in_order() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.client();
    let null = null();
    for _ in 0..8 {
        client.send(&read_keys(8), &[null.as_fd()]).unwrap();
        client.send(&[&register(24)[..], &[0; 24]].concat(), &[null.as_fd()]).unwrap();
    }
    for _ in 0..8 {
        client.expect_reply_to(&read_keys(8)[..10], &[]);
        assert_eq!(client.reply().unwrap().sense_code(), INVALID_OPCODE);
        client.expect_reply_to(&register(24)[..10], &[0; 24]);
        assert_eq!(client.reply().unwrap().sense_code(), INVALID_OPCODE);
    }
    daemon.stop();
}

#[test]
fn client_not_reading_replies_is_closed() {
    let daemon = Daemon::start(&[]);
    let null = null();
    assert_survives(&daemon, "a client that does not read", || {
        let mut client = daemon.client();
        // The replies fill the socket's buffer. Then the daemon closes the connection, and sending fails.
        let failed = (0..100_000).any(|_| client.send(&read_keys(8), &[null.as_fd()]).is_err());
        assert!(failed, "the daemon never closes the connection");
        daemon.wait_for_log("does not read its replies");
    });
    daemon.stop();
}

#[test]
fn random_input_does_not_harm_daemon() {
    let daemon = Daemon::start(&[]);
    let null = null();
    // xorshift64, with the same sequence in each run.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % bound
    };
    assert_survives(&daemon, "random clients", || {
        for _ in 0..500 {
            let mut client = daemon.client();
            for _ in 0..=random(4) {
                let mut bytes: Vec<u8> = (0..=random(64)).map(|_| random(256).to_le_bytes()[0]).collect();
                bytes[0] = [0x5e, 0x5f, bytes[0]][random(3)];
                let descriptors = vec![null.as_fd(); random(4)];
                if client.send(&bytes, &descriptors).is_err() {
                    break;
                }
            }
        }
    });
    daemon.stop();
}

#[test]
fn unwritten_reply_bytes_are_zero() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.client();
    // These parameters would show up if the reply reused their buffer without clearing it.
    let Reply { status, sense, .. } = client.write(null(), &register(8192)[..10], &[0xaa; 8192]).unwrap();
    assert_eq!(status, Status::CHECK_CONDITION);
    assert!(sense[18..].iter().all(|&byte| byte == 0), "{sense:02x?}");
    let reply = client.read(null(), &read_keys(8192)[..10]).unwrap();
    assert!(reply.payload.is_empty());
    assert!(reply.sense[18..].iter().all(|&byte| byte == 0));
    daemon.stop();
}

/// An idle client, and one that has not greeted, stay connected.
#[test]
fn stalled_request_is_dropped_after_30_seconds() {
    let daemon = Daemon::start(&[]);
    let null = null();
    let mut idle = daemon.client();
    let mut silent = Client::connect_silently(&daemon.socket()).unwrap();
    let mut in_cdb = daemon.client();
    in_cdb.send(&read_keys(8)[..5], &[null.as_fd()]).unwrap();
    let mut in_parameters = daemon.client();
    in_parameters.send(&register(24), &[null.as_fd()]).unwrap();
    let begun = std::time::Instant::now();
    assert!(in_cdb.is_closed() && in_parameters.is_closed());
    assert!(begun.elapsed() >= Duration::from_secs(29), "after {:?}", begun.elapsed());
    daemon.wait_for_log("stayed in the middle of a message for 30 seconds");
    assert_eq!(idle.read(&null, &read_keys(8)[..10]).unwrap().sense_code(), INVALID_OPCODE);
    silent.receive_greeting().unwrap();
    silent.send(&[0; 4], &[]).unwrap();
    assert_eq!(silent.read(&null, &read_keys(8)[..10]).unwrap().sense_code(), INVALID_OPCODE);
    daemon.stop();
}

/// The kernel reports such a byte as readable, but a normal read does not return it.
#[test]
fn out_of_band_bytes_cause_no_spinning() {
    let daemon = Daemon::start(&[]);
    assert_survives(&daemon, "bytes out of band", || {
        let clients: Vec<Client> = (0..8).map(|_| daemon.client()).collect();
        for (client, bytes) in clients.iter().zip([&b"x"[..], b"xy", b"0123456789abcdef"].into_iter().cycle())
        {
            // Fails on kernels without out-of-band data on Unix sockets.
            let _ = rustix::net::send(client.stream(), bytes, rustix::net::SendFlags::OOB);
        }
        let spent = daemon.processor_time_in(Duration::from_secs(1));
        assert!(spent < 20, "{spent} hundredths of a second of processor time in 1 s");
    });
    daemon.stop();
}
