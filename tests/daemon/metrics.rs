//! Observability: metrics, the state in text form, and log lines about slow commands.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use scsi_sense::{Status, pr::OutServiceAction};
use tempfile::TempDir;
use test_support::{
    Daemon, eventually,
    scrape::{self, ask, connect},
};

use crate::{
    emulate::{A, B, Cluster, NONE, change},
    hung::HungDisk,
    null,
    openmetrics::Samples,
    read_keys, register,
};

/// The metrics socket of a daemon, in a temporary directory that must outlive the daemon.
struct MetricsSocket(TempDir);

impl MetricsSocket {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn socket(&self) -> PathBuf {
        self.0.path().join("metrics")
    }

    fn argument(&self) -> String {
        format!("--metrics-socket={}", self.socket().display())
    }

    fn start(&self) -> Daemon {
        Daemon::start(&[&self.argument()])
    }

    fn get(&self, path: &str) -> String {
        scrape::get(&self.socket(), path)
    }

    fn samples(&self) -> Samples {
        Samples::parse(&self.get("/metrics"))
    }
}

/// Returns the name and labels of a counter of commands. `direction` is `in` or `out`.
fn commands(direction: &str, action: &str, outcome: &str) -> String {
    format!(
        "pr_helper_commands_total{{opcode=\"persistent_reserve_{direction}\",service_action=\"{action}\",outcome=\"{outcome}\"}}"
    )
}

#[test]
fn commands_are_counted_by_action_and_outcome() {
    let (metrics, cluster) = (MetricsSocket::new(), Cluster::new());
    let daemon = cluster.start_with(&[metrics.argument()]);
    let (mut a, mut b) = (cluster.node("a"), cluster.node("b"));
    let (disk, read_only) = (cluster.disk("disk"), File::open(cluster.path("disk")).unwrap());
    for _ in 0..3 {
        assert_eq!(a.read(&disk, &read_keys(8)[..10]).unwrap().status, Status::GOOD);
    }
    assert_eq!(change(&mut a, &disk, OutServiceAction::Register, (NONE, A), false).status, Status::GOOD);
    let reply = change(&mut b, &disk, OutServiceAction::Reserve, (B, NONE), false);
    assert_eq!(reply.status, Status::RESERVATION_CONFLICT);
    // The last service action is READ FULL STATUS, 03h; 1Fh is reserved.
    let reserved = [0x5e, 0x1f, 0, 0, 0, 0, 0, 0, 8, 0];
    assert_eq!(b.read(&disk, &reserved).unwrap().status, Status::CHECK_CONDITION);
    change(&mut b, &read_only, OutServiceAction::Clear, (B, NONE), false);
    b.write(&disk, &register(8)[..10], &[0; 8]).unwrap();
    b.read(null(), &read_keys(8)[..10]).unwrap();
    b.read(File::open("/").unwrap(), &read_keys(8)[..10]).unwrap();

    let samples = metrics.samples();
    let expected = [
        (&*commands("in", "other", "check_condition"), "1"),
        (&commands("in", "read_keys", "good"), "3"),
        (&commands("in", "read_keys", "refused"), "2"),
        (&commands("out", "clear", "refused"), "1"),
        (&commands("out", "register", "good"), "1"),
        (&commands("out", "register", "rejected"), "1"),
        (&commands("out", "reserve", "reservation_conflict"), "1"),
    ];
    let mut counted = samples.with_prefix("pr_helper_commands_total");
    assert_eq!(counted.len(), (5 + 10) * 8, "all counters exist from the start");
    counted.retain(|(_, value)| *value != "0");
    assert_eq!(counted, expected);
    for (sample, value) in [
        ("pr_helper_command_duration_seconds_count{opcode=\"persistent_reserve_in\"}", "4"),
        ("pr_helper_command_duration_seconds_count{opcode=\"persistent_reserve_out\"}", "2"),
        ("pr_helper_descriptors_refused_total{reason=\"other_character_device\"}", "1"),
        ("pr_helper_descriptors_refused_total{reason=\"not_a_device\"}", "1"),
        ("pr_helper_descriptors_refused_total{reason=\"read_only\"}", "1"),
        ("pr_helper_clients", "2"),
        ("pr_helper_clients_accepted_total", "2"),
        ("pr_helper_slow_commands", "0"),
        ("pr_helper_panics_total", "0"),
        (concat!("pr_helper_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), "1"),
    ] {
        assert_eq!(samples.get(sample), value, "{sample}");
    }
    drop(a);
    eventually("the gauge has fallen to one client", || metrics.samples().get("pr_helper_clients") == "1");
    daemon.stop();
    assert!(!metrics.socket().exists());
}

#[test]
fn dropped_clients_are_counted_by_reason() {
    let metrics = MetricsSocket::new();
    let daemon = metrics.start();
    let null = null();
    for (bytes, descriptors, reason) in [
        (&read_keys(8)[..], 0, "no_descriptor"),
        (&read_keys(8), 2, "many_descriptors"),
        (&[0x12; 16], 1, "other_opcode"),
        (&read_keys(8193), 1, "transfer_length"),
    ] {
        let mut client = daemon.client();
        client.send(bytes, &vec![null.as_fd(); descriptors]).unwrap();
        assert!(client.is_closed());
        let sample = format!("pr_helper_clients_dropped_total{{reason=\"{reason}\"}}");
        assert_eq!(metrics.samples().get(&sample), "1");
    }
    daemon.stop();
}

#[test]
fn metrics_socket_is_private_and_speaks_http() {
    let metrics = MetricsSocket::new();
    let daemon = metrics.start();
    assert_eq!(fs::metadata(metrics.socket()).unwrap().mode() & 0o777, 0o600);
    let reply = ask(&metrics.socket(), b"GET /metrics HTTP/1.0\r\n\r\n");
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    let kind = "\r\nContent-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";
    assert!(head.contains(kind), "{head}");
    Samples::parse(body);
    let state = metrics.get("/state");
    assert!(state.starts_with(concat!("pr-helper ", env!("CARGO_PKG_VERSION"), ", process ")), "{state}");
    for (request, status) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "404"),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", "405"),
        (b"GET\r\n\r\n", "400"),
        (b"\x00\x00\x00\x00\r\n\r\n", "400"),
    ] {
        let reply = ask(&metrics.socket(), request);
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{reply}");
    }
    daemon.stop();
}

#[test]
fn no_metrics_thread_without_the_option() {
    let daemon = Daemon::start(&[]);
    let names: Vec<_> = fs::read_dir(format!("/proc/{}/task", daemon.pid()))
        .unwrap()
        .filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok())
        .collect();
    assert!(names.iter().any(|name| name == "signals\n"), "{names:?}");
    assert!(names.iter().all(|name| name != "metrics\n"), "{names:?}");
    daemon.stop();
}

#[test]
fn metrics_socket_needs_its_own_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket").display().to_string();
    let arguments = ["--unprivileged", "-k", &path, "--metrics-socket", &path];
    let output = Daemon::command().args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("--metrics-socket: ") && message.contains("choose another path"), "{message}");
}

/// Hostile scrapers delay neither commands nor other scrapers nor the shutdown.
#[test]
fn hostile_scrapers_delay_nothing() {
    let metrics = MetricsSocket::new();
    let daemon = metrics.start();
    let mut client = daemon.client();
    let mut hostile = Vec::new();
    let mut be_hostile = |request: &[u8]| {
        let mut stream = connect(&metrics.socket());
        // The daemon may already have dropped this connection in favour of a newer one.
        let _ = stream.write_all(request);
        hostile.push(stream);
    };
    for _ in 0..100 {
        be_hostile(b"");
        be_hostile(b"GET /met");
        // The reply is not read.
        be_hostile(b"GET /state HTTP/1.1\r\n\r\n");
        be_hostile(&vec![b'x'; 1 << 16]);
    }
    let begun = Instant::now();
    for _ in 0..10 {
        assert!(client.read(null(), &read_keys(8)[..10]).unwrap().sense_code().is_some());
        metrics.samples();
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    drop(client);
    // The scrapers are still connected, but the daemon drops them soon.
    eventually("all scrapers are dropped", || daemon.descriptors() == daemon.idle_descriptors());
    metrics.samples();

    let _silent: Vec<_> = (0..100).map(|_| connect(&metrics.socket())).collect();
    let begun = Instant::now();
    daemon.stop();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn endless_http_request_is_refused() {
    let metrics = MetricsSocket::new();
    let daemon = metrics.start();
    let mut stream = connect(&metrics.socket());
    let mut sent = 0_usize;
    // Writing fails soon after the daemon has closed the connection.
    while sent < 1 << 24 && stream.write_all(&[b'x'; 1024]).is_ok() {
        sent += 1024;
    }
    assert!(sent < 1 << 24);
    let mut reply = Vec::new();
    match stream.read_to_end(&mut reply) {
        Ok(_) => {}
        // The daemon did not read all that was sent.
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
    assert!(reply.starts_with(b"HTTP/1.1 400 "));
    daemon.stop();
}

/// The log has one line when the command becomes slow and one when it ends; metrics and state show it in
/// between.
#[test]
fn slow_command_is_logged_and_reported() {
    let (metrics, mut hung) = (MetricsSocket::new(), HungDisk::new());
    let daemon = hung.cluster().start_with(&[metrics.argument(), "--slow=1".into()]);
    let mut client = hung.begin();
    let slow = "has not answered PERSISTENT RESERVE IN, READ KEYS, 8 bytes for ";
    daemon.wait_for_log(slow);
    let samples = metrics.samples();
    assert_eq!(samples.get("pr_helper_slow_commands"), "1");
    let devices = samples.with_prefix("pr_helper_device_commands_in_flight{device=\"file ");
    assert!(matches!(devices[..], [(_, "1")]), "{devices:?}");

    let peer = format!("client pid {} uid {}", std::process::id(), rustix::process::geteuid().as_raw());
    let inode = fs::metadata(hung.cluster().path("disk")).unwrap().ino();
    let state = metrics.get("/state");
    daemon.signal(Signal::USR1);
    daemon.wait_for_log("state: clients: 1");
    daemon.wait_for_log(&format!("state:   {peer}: for "));
    for text in [&state, &daemon.log()] {
        let line = text.lines().find(|line| line.contains("  for ")).unwrap_or_else(|| panic!("{text}"));
        for part in [&peer, &format!("file {inode} of "), "PERSISTENT RESERVE IN, READ KEYS, 8 bytes"] {
            assert!(line.contains(part), "{part:?} in {line}");
        }
        assert!(text.contains("commands in flight: 1\n"), "{text}");
        assert!(text.contains(": 1 in flight, 0 waiting\n"), "{text}");
        assert!(text.contains(", 1 commands\n"), "{text}");
    }

    // The daemon checks for slow commands several times in between.
    thread::sleep(Duration::from_secs(3));
    let log = daemon.log();
    assert_eq!(log.matches(slow).count(), 1, "{log}");
    assert!(log.contains(&format!("warning: {peer}: file {inode} of ")), "{log}");
    hung.release();
    assert_eq!(client.reply().unwrap().status, Status::GOOD);
    daemon.wait_for_log("seconds for PERSISTENT RESERVE IN, READ KEYS, 8 bytes");
    let samples = metrics.samples();
    assert_eq!(samples.get("pr_helper_slow_commands"), "0");
    assert_eq!(samples.get(&commands("in", "read_keys", "good")), "1");
    assert!(metrics.get("/state").contains("commands in flight: 0\n"));
    daemon.stop();
}

/// The event loop checks for slow commands only while commands are in flight.
#[test]
fn idle_daemon_is_not_woken() {
    let metrics = MetricsSocket::new();
    let daemon = metrics.start();
    let mut client = daemon.client();
    client.read(null(), &read_keys(8)[..10]).unwrap();
    metrics.samples();
    eventually("the daemon sleeps", || {
        let before = daemon.status("voluntary_ctxt_switches");
        thread::sleep(Duration::from_millis(2500));
        daemon.status("voluntary_ctxt_switches") == before
    });
    assert!(client.read(null(), &read_keys(8)[..10]).is_ok());
    daemon.stop();
}

#[test]
fn sigusr1_logs_state_also_while_stopping() {
    let mut hung = HungDisk::new();
    let mut daemon = hung.cluster().start_with(&[]);
    daemon.signal(Signal::USR1);
    daemon.wait_for_log("state: commands in flight: 0");
    let mut client = hung.begin();
    eventually("the command is in flight", || {
        daemon.signal(Signal::USR1);
        daemon.log().contains("state: commands in flight: 1")
    });
    daemon.signal(Signal::TERM);
    daemon.wait_for_log("SIGTERM received, stopping: 1 commands in flight");
    // Late enough that the daemon does not merge the next signal with the previous one.
    thread::sleep(Duration::from_millis(1100));
    let before = daemon.log().matches("state: clients: 1").count();
    daemon.signal(Signal::USR1);
    eventually("the daemon logs its state", || daemon.log().matches("state: clients: 1").count() > before);
    hung.release();
    assert_eq!(client.reply().unwrap().status, Status::GOOD, "the command is answered");
    assert_eq!(daemon.wait().code(), Some(0), "{}", daemon.log());
}
