//! The daemon's connection to a worker.

use std::{os::fd::AsFd as _, os::fd::BorrowedFd, sync::Arc, time::Instant};

use pr_backend::Outcome;
use pr_proto::{Command, Data};
use rustix::io::Errno;

use crate::{
    channel::{self, Channel, Received},
    output::Output,
    recent_lines::RecentLines,
    reply,
    supervisor_client::SupervisorClient,
    wire::{Hello, WorkerRequest},
    worker_error::{WorkerError, WorkerFault},
};

/// The daemon's connection to a worker.
pub(crate) struct WorkerClient {
    number: u64,
    channel: Channel,
    output: Output,
}

impl WorkerClient {
    /// Lets `supervisor` start a worker, and blocks until it is ready; returns its connection, and name and version of its
    /// library.
    pub(crate) fn launch(
        supervisor: &SupervisorClient,
        recent: Arc<RecentLines>,
        deadline: Option<Instant>,
    ) -> Result<(Self, String), WorkerError> {
        let (channel, worker_channel) = Channel::pair().map_err(WorkerFault::before_command)?;
        let (output, worker_output) = Output::pair(recent).map_err(WorkerFault::before_command)?;
        let number = supervisor.launch(&worker_channel, &worker_output).map_err(|error| match error {
            Errno::PIPE | Errno::CONNRESET => WorkerFault::NoSupervisor,
            error => WorkerFault::before_command(error),
        })?;
        // While these are open here, the channel does not close when the worker exits.
        drop((worker_channel, worker_output));
        let mut worker = Self { number, channel, output };
        let mut buffer = [0; Hello::LENGTH_MAX];
        match worker.wait(&mut buffer, deadline) {
            Ok(length) => match buffer.get(..length).and_then(Hello::decode) {
                Some(Hello::Ready(version)) => Ok((worker, version.to_owned())),
                Some(Hello::Unfit(why)) => Err(WorkerError::Unfit(why.to_owned())),
                Some(Hello::Never(why)) => Err(WorkerError::Never(why.to_owned())),
                Some(Hello::Shortage(why)) => Err(WorkerFault::shortage_of_worker(why).into()),
                None => {
                    supervisor.kill(number);
                    Err(WorkerFault::Malformed.into())
                }
            },
            Err(WorkerFault::Ended) => Err(WorkerFault::NotStarted.into()),
            Err(fault) => {
                supervisor.kill(number);
                let fault = if fault == WorkerFault::Late { WorkerFault::NotStarted } else { fault };
                Err(fault.into())
            }
        }
    }

    /// Returns the worker's number, for commands to the supervisor.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Sends a request, completely or not at all. From then on the worker may have run it.
    pub(crate) fn send(&self, request: &WorkerRequest<'_>, map: BorrowedFd<'_>) -> Result<(), Errno> {
        self.channel.send(&[&request.encode_head(), request.parameters()], &[map])
    }

    /// Blocks until the answer to a request arrives, and copies its sense data and data to `command`.
    pub(crate) fn receive_reply(
        &mut self,
        deadline: Option<Instant>,
        command: &mut Command<'_>,
    ) -> Result<Outcome, WorkerFault> {
        let mut buffer = [0; reply::LENGTH_MAX];
        let length = self.wait(&mut buffer, deadline)?;
        take_reply(buffer.get(..length).unwrap_or_default(), command).ok_or(WorkerFault::Malformed)
    }

    /// Blocks until the worker has exited.
    pub(crate) fn wait_for_end(mut self) {
        let mut buffer = [0; reply::LENGTH_MAX];
        while matches!(self.wait(&mut buffer, None), Ok(_) | Err(WorkerFault::Malformed)) {}
    }

    /// Returns whether the idle worker has not exited yet. It sends nothing without a request, so its channel is readable
    /// only after its exit.
    pub(crate) fn is_running(&mut self) -> bool {
        let has_ended = channel::wait(&[self.channel.as_fd()], Some(Instant::now()));
        let is_running = matches!(has_ended, Ok(false));
        if !is_running {
            self.output.log();
        }
        is_running
    }

    /// Blocks until the next message arrives, and logs the lines that the worker prints meanwhile.
    fn wait(&mut self, buffer: &mut [u8], deadline: Option<Instant>) -> Result<usize, WorkerFault> {
        loop {
            let received = self.channel.receive(buffer);
            // Lines that the worker printed before its answer must be in the log before the answer is used.
            self.output.log();
            match received {
                Ok(Received::Message(length, none)) if none.is_empty() => return Ok(length),
                Ok(Received::Message(..)) | Err(Errno::MSGSIZE) => return Err(WorkerFault::Malformed),
                Ok(Received::End) => return Err(WorkerFault::Ended),
                Ok(Received::Nothing) => {}
                Err(error) => return Err(WorkerFault::System(error)),
            }
            let both = [self.channel.as_fd(), self.output.as_fd()];
            // The end of its output does not mean that the worker has exited; the end of its channel does.
            let open = if self.output.has_ended() { both.get(..1) } else { both.get(..) };
            if !channel::wait(open.unwrap_or_default(), deadline).map_err(WorkerFault::System)? {
                return Err(WorkerFault::Late);
            }
        }
    }
}

/// Copies sense data and data of a worker's answer to `command`; returns the outcome. Returns `None` if the message cannot be
/// the answer to this command.
fn take_reply(message: &[u8], command: &mut Command<'_>) -> Option<Outcome> {
    let room = match &command.data {
        Data::In(buffer) => buffer.len(),
        Data::Out(_) => 0,
    };
    let reply = reply::decode(message, room)?;
    command.sense.get_mut(..reply.sense.len())?.copy_from_slice(reply.sense);
    if let Data::In(buffer) = &mut command.data {
        buffer.get_mut(..reply.data.len())?.copy_from_slice(reply.data);
    }
    Some(reply.outcome)
}

#[cfg(test)]
mod tests {
    use scsi_sense::Status;

    use super::*;

    /// Returns a client, the worker's end of its channel, and the worker's end of its output.
    fn worker() -> (WorkerClient, Channel, std::os::fd::OwnedFd) {
        let (channel, worker_channel) = Channel::pair().unwrap();
        let (output, worker_output) = Output::pair(Arc::default()).unwrap();
        (WorkerClient { number: 1, channel, output }, worker_channel, worker_output)
    }

    fn good(transferred: usize) -> Vec<u8> {
        let outcome = Outcome::Device { status: Status::GOOD, transferred, sense_len: 0 };
        [reply::encode_head(&outcome).unwrap(), vec![7; transferred]].concat()
    }

    #[test]
    fn reply_is_copied_to_command() {
        let (mut data, mut sense) = ([0; 8], [0; 96]);
        let mut command = Command { cdb: &[0; 10], data: Data::In(&mut data), sense: &mut sense };
        assert!(take_reply(&good(5), &mut command).is_some());
        assert_eq!(take_reply(&good(9), &mut command), None, "more data than room");
        assert_eq!(data, [7, 7, 7, 7, 7, 0, 0, 0]);
        let mut command = Command { cdb: &[0; 10], data: Data::Out(&[]), sense: &mut [] };
        assert_eq!(take_reply(&good(1), &mut command), None, "a change has no data");
    }

    #[test]
    fn missing_or_malformed_reply_is_fault() {
        let receive_reply = |worker: &mut WorkerClient| {
            let mut command = Command { cdb: &[0; 10], data: Data::Out(&[]), sense: &mut [] };
            worker.receive_reply(Some(Instant::now()), &mut command)
        };
        let (mut worker, worker_channel, _output) = self::worker();
        assert!(worker.is_running());
        assert_eq!(receive_reply(&mut worker), Err(WorkerFault::Late));
        worker_channel.send(&[&good(0)], &[]).unwrap();
        assert_eq!(receive_reply(&mut worker), Ok(Outcome::bare(Status::GOOD)));
        worker_channel.send(&[b"nonsense"], &[]).unwrap();
        assert_eq!(receive_reply(&mut worker), Err(WorkerFault::Malformed));
        worker_channel.send(&[&good(0)], &[worker_channel.as_fd()]).unwrap();
        assert_eq!(receive_reply(&mut worker), Err(WorkerFault::Malformed), "a message with a descriptor");
        drop(worker_channel);
        assert!(!worker.is_running());
        assert_eq!(receive_reply(&mut worker), Err(WorkerFault::Ended));
    }
}
