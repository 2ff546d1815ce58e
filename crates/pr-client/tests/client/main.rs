//! The client against helpers that follow the protocol, and others that hang or close the connection at any byte.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail by panicking")]
#![allow(clippy::indexing_slicing, reason = "a test may fail by panicking")]

mod deadlines;
mod examples;
mod helper;
mod lost;
mod nonblocking;
mod reservations;
mod sg;
mod sharing;
mod states;

use std::{fs::File, path::Path, time::Duration};

use pr_client::{Client, Completion, Data, Error, Options};
use scsi_sense::Status;

/// READ KEYS with an allocation length of 16.
const READ_KEYS: [u8; 10] = [0x5e, 0, 0, 0, 0, 0, 0, 0, 16, 0];
/// REGISTER.
const REGISTER: [u8; 10] = [0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0];

/// Returns options with as many attempts as by default, and a shorter pause and timeout.
fn options() -> Options {
    Client::options().pause(Duration::from_millis(1)).timeout(Duration::from_secs(60))
}

fn connect(path: &Path) -> Client {
    options().connect(path).unwrap()
}

/// The two kinds of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    In,
    Out,
}

impl Kind {
    const BOTH: [Self; 2] = [Self::In, Self::Out];

    /// Runs a command that must be answered with GOOD.
    #[track_caller]
    fn succeed(self, client: &Client, device: &File) {
        let status = self.run(client, device).map(|completion| completion.status);
        assert_eq!(status.unwrap_or_else(|error| panic!("{error:?}")), Status::GOOD);
    }

    fn run(self, client: &Client, device: &File) -> Result<Completion, Error> {
        self.run_within(client, device, Duration::from_secs(60))
    }

    fn run_within(self, client: &Client, device: &File, timeout: Duration) -> Result<Completion, Error> {
        match self {
            Self::In => client.execute_within(device, &READ_KEYS, Data::In(&mut [0; 16]), timeout),
            Self::Out => client.execute_within(device, &REGISTER, Data::Out(&[0; 24]), timeout),
        }
    }

    /// Returns the length of a request in bytes.
    const fn request_len(self) -> usize {
        match self {
            Self::In => 16,
            Self::Out => 16 + 24,
        }
    }

    /// Returns the length of a reply in bytes.
    const fn reply_len(self) -> usize {
        match self {
            Self::In => 104 + 16,
            Self::Out => 104,
        }
    }
}
