//! Many clients, few descriptors.

use std::{os::fd::AsFd, thread, time::Duration};

use scsi_sense::Status;
use test_support::{Client, Daemon, Options, eventually};

use crate::{disks, null, read_keys};

#[test]
fn thousand_idle_clients_keep_no_threads() {
    let daemon = Daemon::start(&[]);
    let before = daemon.idle_descriptors();
    let mut clients: Vec<Client> = (0..1000).map(|_| daemon.client()).collect();
    eventually("all are connected", || daemon.descriptors() == before + 1000);
    for client in clients.iter_mut().step_by(100) {
        assert!(client.read(null(), &read_keys(8)[..10]).unwrap().sense_code().is_some());
    }
    eventually("the threads leave", || daemon.status("Threads").parse::<u32>().unwrap() <= 3);
    drop(clients);
    eventually("their descriptors are closed", || daemon.descriptors() == before);
    daemon.stop();
}

#[test]
fn simultaneous_connections_are_all_served() {
    let daemon = Daemon::start(&[]);
    thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let mut client = daemon.client();
                    for _ in 0..5 {
                        assert!(client.read(null(), &read_keys(8)[..10]).unwrap().sense_code().is_some());
                    }
                }
            });
        }
    });
    daemon.stop();
}

#[test]
fn clients_beyond_max_clients_wait() {
    let daemon = Daemon::start(&["--max-clients", "2"]);
    let first = daemon.client();
    let mut second = daemon.client();
    let mut third = Client::connect_silently(&daemon.socket()).unwrap();
    daemon.wait_for_log("2 clients are connected, which is the limit (--max-clients)");
    assert!(second.read(null(), &read_keys(8)[..10]).is_ok(), "the others are served");
    drop(first);
    third.receive_greeting().unwrap();
    third.send(&[0; 4], &[]).unwrap();
    assert!(third.read(null(), &read_keys(8)[..10]).is_ok());
    assert_eq!(daemon.log().matches("which is the limit").count(), 1, "logged once");
    daemon.stop();
}

#[test]
fn connections_of_one_process_are_limited() {
    let daemon = Daemon::start(&["--max-clients", "200"]);
    // A process may have a quarter of all connections, and always 64.
    let mut clients: Vec<Client> = (0..64).map(|_| daemon.client()).collect();
    for _ in 0..3 {
        let mut excess = Client::connect_silently(&daemon.socket()).unwrap();
        assert!(excess.is_closed());
    }
    let complaint = "its process has too many connections (see --max-clients)";
    daemon.wait_for_log(complaint);
    assert_eq!(daemon.log().matches(complaint).count(), 1, "logged once");
    assert!(!daemon.log().contains("new clients wait"), "the daemon has room for other clients");
    for client in &mut clients {
        assert!(client.read(null(), &read_keys(8)[..10]).is_ok());
    }
    drop(clients);
    eventually("the process may connect again", || {
        let again = Client::connect(&daemon.socket());
        again.and_then(|mut client| client.read(null(), &read_keys(8)[..10])).is_ok()
    });
    daemon.stop();
}

/// The C helper spins here and uses 99 % of a processor.
#[test]
fn clients_wait_at_open_files_limit() {
    let options = Options {
        arguments: vec!["--unprivileged".into()],
        open_files: Some((20, 20)),
        ..Options::default()
    };
    let daemon = Daemon::with(options);
    // The daemon always announces room for one client, however low the limit of open files is. Whether that
    // client can connect depends on the kernel's limit.
    daemon.wait_for_log("room for 1 clients");
    daemon.stop();

    let options = Options {
        arguments: vec!["--unprivileged".into(), "--max-clients=4000".into()],
        open_files: Some((500, 500)),
        ..Options::default()
    };
    let daemon = Daemon::with(options);
    daemon.wait_for_log("room for 25 clients");
    let clients: Vec<Client> = (0..25).map(|_| daemon.client()).collect();
    let waiting: Vec<Client> = (0..25).map(|_| Client::connect_silently(&daemon.socket()).unwrap()).collect();
    let spent = daemon.processor_time_in(Duration::from_secs(2));
    assert!(spent < 40, "{spent} hundredths of a second of processor time in 2 s");
    drop(clients);
    for mut client in waiting {
        client.receive_greeting().unwrap();
    }
    daemon.stop();
}

#[test]
fn clients_wait_when_accept_fails_with_emfile() {
    let daemon = Daemon::start(&[]);
    // All numbers below the limit are in use: the next accept fails with EMFILE.
    daemon.limit_open_files(daemon.idle_descriptors());
    let mut waiting: Vec<Client> =
        (0..10).map(|_| Client::connect_silently(&daemon.socket()).unwrap()).collect();
    daemon.wait_for_log("new clients wait: this process is at its limit of open files");
    thread::sleep(Duration::from_millis(500));
    assert_eq!(daemon.log().matches("new clients wait").count(), 1, "logged once");
    daemon.limit_open_files(1024);
    for client in &mut waiting {
        client.receive_greeting().unwrap();
        client.send(&[0; 4], &[]).unwrap();
        assert!(client.read(null(), &read_keys(8)[..10]).is_ok());
    }
    daemon.stop();
}

#[test]
fn unreceivable_descriptors_close_only_their_client() {
    let options = Options {
        arguments: vec!["--unprivileged".into()],
        open_files: Some((64, 64)),
        ..Options::default()
    };
    let daemon = Daemon::with(options);
    let before = daemon.idle_descriptors();
    let null = null();
    let mut client = daemon.client();
    client.send(&read_keys(8), &[null.as_fd(); 253]).unwrap();
    assert!(client.is_closed());
    daemon.wait_for_log("more than one file descriptor");
    drop(client);
    eventually("nothing is left of it", || daemon.descriptors() == before);
    let mut client = daemon.client();
    daemon.limit_open_files(3);
    client.send(&read_keys(8), &[null.as_fd()]).unwrap();
    assert!(client.is_closed());
    daemon.wait_for_log("limit of open files (RLIMIT_NOFILE)");
    daemon.limit_open_files(64);
    drop(client);
    eventually("nothing is left of it", || daemon.descriptors() == before);
    assert!(daemon.client().read(&null, &read_keys(8)[..10]).is_ok());
    daemon.stop();
}

#[test]
fn soft_limit_of_open_files_is_raised() {
    let options = Options {
        arguments: vec!["--unprivileged".into()],
        open_files: Some((256, 2048)),
        ..Options::default()
    };
    let daemon = Daemon::with(options);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().nth(3), Some("2048"), "{files}");
    daemon.stop();
}

/// A command waits for the next free thread if none can be spawned. The shortage is logged once a minute.
#[test]
fn commands_share_threads_during_a_shortage() {
    // The limit does not apply to root.
    let user: &[&str] = if rustix::process::geteuid().is_root() { &["--user", "nobody"] } else { &[] };
    let daemon = Daemon::start(user);
    let first = daemon.client();
    daemon.limit_processes(1);
    let others = (0..16).map(|_| daemon.client());
    let mut clients: Vec<Client> = [first].into_iter().chain(others).collect();
    for _ in 0..2 {
        // The threads of the first commands linger when the others arrive.
        for client in &mut clients {
            assert!(client.read(null(), &read_keys(8)[..10]).unwrap().sense_code().is_some());
        }
    }
    let log = daemon.log();
    assert_eq!(log.matches("threads can be started").count(), 1, "{log}");
    daemon.limit_processes(10_000);
    daemon.stop();
}

/// A shortage in the helper says nothing about the disk: the guest must repeat the command.
#[test]
#[ignore = "needs root and /dev/loop0, /dev/loop1"]
fn shortage_of_descriptors_is_busy() {
    let daemon = disks::start(Options { arguments: vec!["--unprivileged".into()], ..Options::default() });
    let mut client = daemon.client();
    let disk = disks::disk(0);
    // Leaves one number free, for the client's descriptor, and none for a directory of /sys.
    let open = format!("/proc/{}/fd", daemon.pid());
    let is_open = |number: &usize| std::path::Path::new(&open).join(number.to_string()).exists();
    eventually("its thread has parked", || daemon.descriptors() == daemon.idle_descriptors() + 1);
    let free = (0..1024).find(|number| !is_open(number)).unwrap();
    daemon.limit_open_files(free + 1);
    assert_eq!(client.read(&disk, &read_keys(8)[..10]).unwrap().status, Status::BUSY);
    daemon.wait_for_log("raise the helper's limit of open files");
    daemon.limit_open_files(1024);
    assert_eq!(client.read(&disk, &read_keys(8)[..10]).unwrap().status, Status::GOOD);
    daemon.stop();
}
