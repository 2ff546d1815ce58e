//! The example serves clients and prints the expected output.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    io::Read as _,
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use pr_client::Client;
use scsi_sense::pr::{BasicParameters, ReservationKey};

#[path = "../examples/embedded.rs"]
#[allow(dead_code, unreachable_pub, reason = "all of it but main is used")]
mod embedded;

#[test]
fn embedded_example_serves_and_counts() {
    let directory = tempfile::tempdir().unwrap();
    let (socket, state) = (directory.path().join("socket"), directory.path().join("state"));
    let (end, mut input) = UnixStream::pair().unwrap();
    let (mut printed, output) = UnixStream::pair().unwrap();
    let example = {
        let socket = socket.clone();
        thread::spawn(move || {
            embedded::run(&socket, &state, &mut input, output).map_err(|error| error.to_string())
        })
    };
    let begun = Instant::now();
    while !socket.exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not listen");
        thread::sleep(Duration::from_millis(2));
    }
    let client = Client::connect(&socket).unwrap();
    let disk = tempfile::tempfile().unwrap();
    let parameters =
        BasicParameters { service_action_key: ReservationKey(0x1a), ..BasicParameters::default() };
    client.register(&disk, &parameters).unwrap();
    assert_eq!(client.read_keys(&disk).unwrap().keys, [ReservationKey(0x1a)]);
    drop(end);
    assert_eq!(example.join().unwrap(), Ok(()));
    assert!(!socket.exists());
    let mut text = String::new();
    printed.read_to_string(&mut text).unwrap();
    let lines = text.lines().map(|line| line.split_once(": ").map_or(line, |(_, rest)| rest));
    let expected = [
        "PERSISTENT RESERVE OUT, REGISTER, 24 bytes: GOOD (00h)",
        "PERSISTENT RESERVE IN, READ KEYS, 8192 bytes: GOOD (00h)",
        "2 commands; Clean",
    ];
    assert_eq!(lines.collect::<Vec<_>>(), expected, "{text}");
}
