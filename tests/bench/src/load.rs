//! Clients that send one command after the other, each from a thread of its own, and check every reply.

use std::{
    fs::File,
    io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use scsi_sense::Status;
use test_support::{Client, Reply};

use crate::{helper::Helper, histogram::Histogram};

/// The time in which all threads of a run start.
const RAMP: Duration = Duration::from_millis(20);

/// One of this many OUT commands is one that the disk refuses.
const REFUSED: u64 = 16;

/// The commands that clients send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// PERSISTENT RESERVE IN, READ KEYS.
    In,
    /// PERSISTENT RESERVE OUT, REGISTER.
    Out,
}

/// The results of a run.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// Commands per second. `None` if the scenario does not measure a rate.
    pub rate: Option<f64>,
    pub latencies: Histogram,
}

/// A client and its device.
pub struct Member {
    client: Client,
    device: File,
    number: u8,
    sent: u64,
}

impl Member {
    /// Connects. The commands depend on `number`, so that a client recognises a reply to another client as
    /// wrong.
    pub fn connect(socket: &Path, device: File, number: usize) -> io::Result<Self> {
        let client = Client::connect(socket)?;
        Ok(Self::new(client, device, number))
    }

    /// Takes a connected client. `number` has the same meaning as for [`connect`](Self::connect).
    pub fn new(client: Client, device: File, number: usize) -> Self {
        Self { client, device, number: u8::try_from(number % 8).expect("below eight"), sent: 0 }
    }

    /// Makes a reply that takes longer than `timeout` an error.
    pub fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.client.stream().set_read_timeout(Some(timeout))
    }

    /// Sends a command. Fails unless the reply is that of the simulated disk.
    pub fn command(&mut self, direction: Direction) -> io::Result<()> {
        let (reply, expected) = match direction {
            Direction::In => self.read()?,
            Direction::Out => self.write()?,
        };
        self.sent += 1;
        let sense_is_clear = reply.sense.iter().all(|byte| *byte == 0);
        if (reply.status, &reply.payload) != (expected.status, &expected.payload) || !sense_is_clear {
            return Err(io::Error::other(format!("wrong reply: {reply:02x?} instead of {expected:02x?}")));
        }
        Ok(())
    }

    fn read(&mut self) -> io::Result<(Reply, Reply)> {
        // 24 to 80 bytes; the whole data are 72.
        let allocation_length = 24 + 8 * self.number;
        let reply = self.client.read(&self.device, &[0x5e, 0, 0, 0, 0, 0, 0, 0, allocation_length, 0])?;
        let mut payload = vec![0, 0, 0, 7, 0, 0, 0, 64];
        payload.extend((1..=8_u64).flat_map(u64::to_be_bytes));
        payload.truncate(allocation_length.into());
        Ok((reply, Reply { status: Status::GOOD, sense: [0; pr_proto::SENSE_LEN], payload }))
    }

    fn write(&mut self) -> io::Result<(Reply, Reply)> {
        let refused = self.sent % REFUSED == REFUSED - 1;
        let mut parameters = [0; 24];
        // RESERVATION KEY, of which 1 to 8 are registered, and SERVICE ACTION RESERVATION KEY.
        parameters[7] = if refused { 0x99 } else { self.number + 1 };
        parameters[15] = self.number + 1;
        let cdb = [0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0];
        let reply = self.client.write(&self.device, &cdb, &parameters)?;
        let status = if refused { Status::RESERVATION_CONFLICT } else { Status::GOOD };
        Ok((reply, Reply { status, sense: [0; pr_proto::SENSE_LEN], payload: Vec::new() }))
    }

    /// Sends commands from now until `end`, and counts those that begin at `begin` or later.
    fn run(&mut self, direction: Direction, begin: Instant, end: Instant) -> io::Result<(u64, Histogram)> {
        let (mut done, mut latencies) = (0, Histogram::default());
        let mut last = Instant::now();
        while last < end {
            let sent = last;
            self.command(direction)?;
            last = Instant::now();
            // A command that ends after `end` counts for the latency but not for the rate.
            if sent >= begin {
                latencies.record(last - sent);
            }
            if (begin..end).contains(&last) {
                done += 1;
            }
        }
        Ok((done, latencies))
    }
}

/// The clients of one helper.
pub struct Crowd(Vec<Member>);

impl Crowd {
    /// Connects this number of clients, each with a descriptor of its own for the device.
    pub fn connect(helper: &Helper, device: &Path, clients: usize) -> io::Result<Self> {
        let socket = helper.socket();
        let open = || File::options().read(true).write(true).open(device);
        (0..clients)
            .map(|number| Member::connect(&socket, open()?, number))
            .collect::<io::Result<_>>()
            .map(Self)
    }

    pub fn members(&mut self) -> &mut [Member] {
        &mut self.0
    }

    /// Lets all clients send commands, and measures for `time` after `warm_up`.
    pub fn run(&mut self, direction: Direction, warm_up: Duration, time: Duration) -> io::Result<Measured> {
        let begin = Instant::now() + RAMP + warm_up;
        let end = begin + time;
        let results: Vec<io::Result<(u64, Histogram)>> = thread::scope(|scope| {
            let threads: Vec<_> = self
                .0
                .iter_mut()
                .map(|member| scope.spawn(move || member.run(direction, begin, end)))
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let (mut done, mut latencies) = (0, Histogram::default());
        for result in results {
            let (count, histogram) = result?;
            done += count;
            latencies.add(&histogram);
        }
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let rate = Some(done as f64 / time.as_secs_f64());
        Ok(Measured { rate, latencies })
    }
}
