//! Commands that fail in transport, and devices that do not answer.

use std::{
    fs, io, thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use scsi_sense::Status;
use test_support::{Client, Daemon, Options, Reply, eventually};

use fixtures::{Disk, Faulty, open};

use crate::reservations::daemon;

const READ_KEYS: [u8; 10] = [0x5e, 0, 0, 0, 0, 0, 0, 2, 0, 0];
const PREEMPT: [u8; 10] = [0x5f, 4, 5, 0, 0, 0, 0, 0, 24, 0];

/// The C helper reports GOOD for host bytes 06 07 09 0A 0B 0C 0D 0F 14, so a PREEMPT that did not happen looks successful.
#[test]
fn transport_failure_is_never_good() {
    let faulty = Faulty::make();
    let daemon = daemon();
    let mut client = daemon.client();
    let mut tried = Vec::new();
    for path in [&faulty.block, &faulty.generic] {
        let disk = open(path);
        for host_byte in 1..=0x14 {
            // The kernel treats 0A (PASSTHROUGH) as success and clears it (scsi_decide_disposition), so no program can see it.
            // With 0C and 0D it repeats the command as long as the disk fails.
            if matches!(host_byte, 0x0a | 0x0c | 0x0d) {
                continue;
            }
            for opcode in [0x5e, 0x5f] {
                faulty.heal();
                faulty.fail(opcode, host_byte);
                let reply = if opcode == 0x5e {
                    client.read(&disk, &READ_KEYS)
                } else {
                    client.write(&disk, &PREEMPT, &[0; 24])
                }
                .unwrap();
                assert_ne!(reply.status, Status::GOOD, "{path:?}, host byte {host_byte:02x}");
                assert!(reply.payload.is_empty());
                if reply.status == Status::CHECK_CONDITION {
                    assert_ne!(reply.sense[0], 0, "host byte {host_byte:02x}: {reply:02x?}");
                }
                tried.push((host_byte, reply.status, reply.sense_code()));
            }
        }
    }
    tried.sort_unstable_by_key(|(host_byte, ..)| *host_byte);
    tried.dedup();
    for (host_byte, status, sense) in &tried {
        println!("host byte {host_byte:02X}h: {status}, {sense:02x?}");
    }
    daemon.wait_for_log("did not answer PERSISTENT RESERVE OUT, PREEMPT");
    daemon.stop();
}

/// With the C helper, a hundred clients on a hung disk keep all other clients from getting an answer. Commands on the hung disk
/// fail after the timeout.
#[test]
fn hung_disk_does_not_delay_others() {
    let faulty = Faulty::make();
    let arguments = vec!["--timeout=8".into(), "--slow=2".into()];
    let daemon = Daemon::with(Options { arguments, ..Options::default() });
    faulty.hang(0x5e);
    let hung = open(&faulty.block);
    let healthy = open(&Disk::nexus_a().block);
    let mut client = daemon.client();
    let _ = client.read(&healthy, &READ_KEYS).unwrap();

    thread::scope(|scope| {
        let stuck: Vec<_> = (0..100)
            .map(|_| {
                let (daemon, hung) = (&daemon, &hung);
                scope.spawn(move || {
                    let begun = Instant::now();
                    let reply = daemon.client().read(hung, &READ_KEYS).unwrap();
                    (begun.elapsed(), reply)
                })
            })
            .collect();
        eventually("a hundred clients are stuck", || daemon.descriptors() >= daemon.idle_descriptors() + 201);
        let begun = Instant::now();
        for _ in 0..100 {
            assert_eq!(client.read(&healthy, &READ_KEYS).unwrap().status, Status::GOOD);
            let mut newcomer = daemon.client();
            assert_eq!(newcomer.read(&healthy, &READ_KEYS).unwrap().status, Status::GOOD);
        }
        let took = begun.elapsed();
        assert!(stuck.iter().all(|thread| !thread.is_finished()), "the commands were stuck all the time");
        println!("two hundred commands beside a hundred hung ones: {took:?}");
        for thread in stuck {
            let (elapsed, reply) = thread.join().unwrap();
            assert_ne!(reply.status, Status::GOOD, "{reply:02x?}");
            assert!(elapsed > Duration::from_secs(7), "{elapsed:?}");
        }
    });
    // Each of the hundred commands is logged when it is slow and when it ends.
    for line in
        ["has not answered PERSISTENT RESERVE IN, READ KEYS", "seconds for PERSISTENT RESERVE IN, READ KEYS"]
    {
        assert_eq!(daemon.log().matches(line).count(), 100, "{line}:\n{}", daemon.log());
    }
    faulty.heal();
    eventually("the threads exit", || daemon.status("Threads").parse::<u32>().unwrap() <= 4);
    daemon.stop();
}

/// Sends READ KEYS to a disk that hangs, and calls `meanwhile` while the command is in flight. The client must be
/// the only one. Returns the reply.
fn with_command_in_flight(
    daemon: &Daemon,
    client: &mut Client,
    faulty: &Faulty,
    meanwhile: impl FnOnce(),
) -> io::Result<Reply> {
    faulty.hang(0x5e);
    let hung = open(&faulty.block);
    thread::scope(|scope| {
        let reply = scope.spawn(|| client.read(&hung, &READ_KEYS));
        eventually("the command is in flight", || daemon.descriptors() >= daemon.idle_descriptors() + 2);
        // Time for the command to get from the socket to the disk.
        thread::sleep(Duration::from_millis(300));
        meanwhile();
        reply.join().unwrap()
    })
}

#[test]
fn stop_waits_for_commands_in_flight() {
    let faulty = Faulty::make();
    let mut daemon = Daemon::with(Options { arguments: vec!["--timeout=8".into()], ..Options::default() });
    let mut client = daemon.client();
    let reply = with_command_in_flight(&daemon, &mut client, &faulty, || {
        daemon.signal(Signal::TERM);
        daemon.wait_for_log("SIGTERM received, stopping: 1 commands in flight");
        assert!(Client::connect(&daemon.socket()).is_err(), "no new clients");
    });
    let reply = reply.expect("the command in flight is answered");
    assert_ne!(reply.status, Status::GOOD);
    assert_eq!(daemon.wait().code(), Some(0), "{}", daemon.log());
}

#[test]
fn second_signal_or_grace_period_ends_it() {
    let faulty = Faulty::make();
    for (arguments, signals, message) in [
        (vec!["--timeout=8".to_string()], 2, "were cut short by SIGTERM"),
        (vec!["--timeout=8".to_string(), "--stop-grace=1".to_string()], 1, "did not end within 1 seconds"),
    ] {
        let daemon = Daemon::with(Options { arguments, ..Options::default() });
        let mut client = daemon.client();
        let reply = with_command_in_flight(&daemon, &mut client, &faulty, || {
            for _ in 0..signals {
                daemon.signal(Signal::TERM);
                daemon.wait_for_log("SIGTERM received");
                // Signals within a second count as one.
                thread::sleep(Duration::from_millis(1100));
            }
            daemon.wait_for_log(message);
            daemon.wait_for_log("whether they take effect is up to the devices");
        });
        // The connection is lost, or the command is answered if the device gave up first, but never with GOOD.
        if let Ok(reply) = reply {
            assert_ne!(reply.status, Status::GOOD);
        }
        faulty.heal();
    }
}

#[test]
fn lost_path_is_an_error_meanwhile() {
    let daemon = daemon();
    let b = Disk::nexus_b();
    let disk = open(&b.block);
    let mut client = daemon.client();
    let port = b.target_port.join("transport_status");
    fs::write(&port, "offline").unwrap();
    let reply = client.write(&disk, &PREEMPT, &[0; 24]).unwrap();
    fs::write(&port, "online").unwrap();
    assert_ne!(reply.status, Status::GOOD, "{reply:02x?}");
    println!("offline: {:?} {:02x?}", reply.status, reply.sense_code());
    eventually("it works again", || client.read(&disk, &READ_KEYS).unwrap().status == Status::GOOD);
    daemon.stop();
}
