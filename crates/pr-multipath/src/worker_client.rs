//! The daemon's end of a worker.

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

/// The daemon's end of a worker.
pub(crate) struct WorkerClient {
    number: u64,
    channel: Channel,
    output: Output,
}

impl WorkerClient {
    /// Has `supervisor` start a worker and waits until it is ready; returns it, and name and version of its library.
    pub(crate) fn launch(
        supervisor: &SupervisorClient,
        recent: Arc<RecentLines>,
        deadline: Option<Instant>,
    ) -> Result<(Self, String), WorkerError> {
        let (channel, its_channel) = Channel::pair().map_err(WorkerFault::before_command)?;
        let (output, its_output) = Output::pair(recent).map_err(WorkerFault::before_command)?;
        let number = supervisor.launch(&its_channel, &its_output).map_err(|error| match error {
            Errno::PIPE | Errno::CONNRESET => WorkerFault::NoSupervisor,
            error => WorkerFault::before_command(error),
        })?;
        // While they are open here, the end of the worker does not show.
        drop((its_channel, its_output));
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
                Err(fault.into())
            }
        }
    }

    /// Returns the number that the supervisor knows the worker by.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Sends a request, whole or not at all. From then on the worker may have run it.
    pub(crate) fn send(&self, request: &WorkerRequest<'_>, map: BorrowedFd<'_>) -> Result<(), Errno> {
        self.channel.send(&[&request.encode_head(), request.parameters()], &[map])
    }

    /// Waits for the answer to a request, and copies sense data and data to `command`.
    pub(crate) fn finish(
        &mut self,
        deadline: Option<Instant>,
        command: &mut Command<'_>,
    ) -> Result<Outcome, WorkerFault> {
        let mut buffer = [0; reply::LENGTH_MAX];
        let length = self.wait(&mut buffer, deadline)?;
        take_reply(buffer.get(..length).unwrap_or_default(), command).ok_or(WorkerFault::Malformed)
    }

    /// Waits for the end of the worker.
    pub(crate) fn wait_for_end(mut self) {
        let mut buffer = [0; reply::LENGTH_MAX];
        while matches!(self.wait(&mut buffer, None), Ok(_) | Err(WorkerFault::Malformed)) {}
    }

    /// Returns whether the worker has not left yet. It sends nothing without a request, so anything to read is its end.
    pub(crate) fn is_there(&mut self) -> bool {
        let has_ended = channel::wait(&[self.channel.as_fd()], Some(Instant::now()));
        let is_there = matches!(has_ended, Ok(false));
        if !is_there {
            self.output.log();
        }
        is_there
    }

    /// Waits for the next message, and logs meanwhile what the worker prints.
    fn wait(&mut self, buffer: &mut [u8], deadline: Option<Instant>) -> Result<usize, WorkerFault> {
        loop {
            let received = self.channel.receive(buffer);
            // Lines that it printed before it answered belong to the answer.
            self.output.log();
            match received {
                Ok(Received::Message(length, none)) if none.is_empty() => return Ok(length),
                Ok(Received::Message(..)) | Err(Errno::MSGSIZE) => return Err(WorkerFault::Malformed),
                Ok(Received::End) => return Err(WorkerFault::Ended),
                Ok(Received::Nothing) => {}
                Err(error) => return Err(WorkerFault::System(error)),
            }
            let both = [self.channel.as_fd(), self.output.as_fd()];
            // Only its channel tells of its end.
            let open = if self.output.has_ended() { both.get(..1) } else { both.get(..) };
            if !channel::wait(open.unwrap_or_default(), deadline).map_err(WorkerFault::System)? {
                return Err(WorkerFault::Late);
            }
        }
    }
}

/// Copies sense data and data of a worker's answer to `command`; returns the outcome. `None` if it is no answer to this
/// command.
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
        let (channel, its_channel) = Channel::pair().unwrap();
        let (output, its_output) = Output::pair(Arc::default()).unwrap();
        (WorkerClient { number: 1, channel, output }, its_channel, its_output)
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
        assert_eq!(take_reply(&good(9), &mut command), None, "more than there is room for");
        assert_eq!(data, [7, 7, 7, 7, 7, 0, 0, 0]);
        let mut command = Command { cdb: &[0; 10], data: Data::Out(&[]), sense: &mut [] };
        assert_eq!(take_reply(&good(1), &mut command), None, "a change has no data");
    }

    #[test]
    fn worker_that_does_not_answer_is_a_fault() {
        let finish = |worker: &mut WorkerClient| {
            let mut command = Command { cdb: &[0; 10], data: Data::Out(&[]), sense: &mut [] };
            worker.finish(Some(Instant::now()), &mut command)
        };
        let (mut worker, its_channel, _output) = self::worker();
        assert!(worker.is_there());
        assert_eq!(finish(&mut worker), Err(WorkerFault::Late));
        its_channel.send(&[&good(0)], &[]).unwrap();
        assert_eq!(finish(&mut worker), Ok(Outcome::bare(Status::GOOD)));
        its_channel.send(&[b"nonsense"], &[]).unwrap();
        assert_eq!(finish(&mut worker), Err(WorkerFault::Malformed));
        its_channel.send(&[&good(0)], &[its_channel.as_fd()]).unwrap();
        assert_eq!(finish(&mut worker), Err(WorkerFault::Malformed), "a descriptor came along");
        drop(its_channel);
        assert!(!worker.is_there());
        assert_eq!(finish(&mut worker), Err(WorkerFault::Ended));
    }
}
