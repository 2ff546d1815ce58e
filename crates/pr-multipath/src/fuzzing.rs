//! The messages between the daemon, the supervisor and the workers, for the fuzz targets of this repository.

use pr_backend::Outcome;

use crate::{
    reply,
    wire::{Hello, SupervisorCommand, WorkerRequest},
};

/// Parses a command to the supervisor, and returns it as bytes again.
pub fn supervisor_command(bytes: &[u8]) -> Option<Vec<u8>> {
    SupervisorCommand::decode(bytes).map(|command| command.encode().to_vec())
}

/// Parses a request to a worker, and returns it as bytes again.
pub fn worker_request(bytes: &[u8]) -> Option<Vec<u8>> {
    WorkerRequest::decode(bytes).map(|request| [&request.encode_head()[..], request.parameters()].concat())
}

/// Parses the first message of a worker, and returns it as bytes again.
pub fn hello(bytes: &[u8]) -> Option<Vec<u8>> {
    Hello::decode(bytes).map(|hello| hello.encode())
}

/// Parses a worker's answer to a command with room for `data_max` bytes, into the outcome, sense data and data.
pub fn reply(bytes: &[u8], data_max: usize) -> Option<(Outcome, &[u8], &[u8])> {
    reply::decode(bytes, data_max).map(|reply| (reply.outcome, reply.sense, reply.data))
}

/// Returns a worker's answer up to its sense data and data.
pub fn reply_head(outcome: &Outcome) -> Option<Vec<u8>> {
    reply::encode_head(outcome)
}
