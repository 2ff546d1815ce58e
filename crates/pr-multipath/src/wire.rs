//! Messages between the daemon, the supervisor and the workers, except the answer of a worker to a command, which is in
//! [`reply`](crate::reply).
//!
//! Each message is one datagram with a fixed layout, big-endian. All processes run the same binary, so there are no
//! versions. No message is trusted: `decode` accepts exactly the bytes that `encode` can produce.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _};
use pr_proto::DATA_MAX;
use scsi_sense::{Cdb, Transfer};

use crate::text;

/// A message from the daemon to the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SupervisorCommand {
    /// Start the worker of this number. The message has two descriptors: the worker's channel and its output.
    Start(u64),
    /// Kill the worker of this number.
    Kill(u64),
    /// Exit, while the daemon continues without a supervisor.
    Leave,
}

impl SupervisorCommand {
    /// Length of each command in bytes: tag and number.
    pub(crate) const LENGTH: usize = 9;

    /// Returns the message.
    pub(crate) fn encode(self) -> [u8; Self::LENGTH] {
        let (tag, number) = match self {
            Self::Start(number) => (1, number),
            Self::Kill(number) => (2, number),
            Self::Leave => (3, 0),
        };
        let mut message = [0; Self::LENGTH];
        let mut fields = message.as_mut_slice();
        fields.put_u8(tag);
        fields.put_u64(number);
        message
    }

    /// Parses a message.
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let (tag, number) = (bytes.try_get_u8().ok()?, bytes.try_get_u64().ok()?);
        match tag {
            _ if bytes.has_remaining() => None,
            1 => Some(Self::Start(number)),
            2 => Some(Self::Kill(number)),
            3 if number == 0 => Some(Self::Leave),
            _ => None,
        }
    }
}

/// A message from the daemon to a worker, with the map's descriptor.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WorkerRequest<'a> {
    /// Run a command.
    Run {
        /// Time limit on each path, in whole milliseconds.
        timeout: Duration,
        /// PERSISTENT RESERVE IN or OUT.
        cdb: &'a [u8; 10],
        /// Empty for PERSISTENT RESERVE IN.
        parameters: &'a [u8],
    },
    /// Resume the map if it is suspended, after another worker was lost during a change.
    Resume,
}

/// Length of tag, timeout and CDB in bytes.
const RUN_HEAD: usize = 1 + 4 + 10;

impl<'a> WorkerRequest<'a> {
    /// Maximum length of a request.
    pub(crate) const LENGTH_MAX: usize = RUN_HEAD + DATA_MAX;

    /// Returns the part of the message before the parameters.
    pub(crate) fn encode_head(&self) -> Vec<u8> {
        let mut head = Vec::with_capacity(RUN_HEAD);
        match self {
            Self::Run { timeout, cdb, .. } => {
                head.put_u8(1);
                head.put_u32(u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX));
                head.put_slice(*cdb);
            }
            Self::Resume => head.put_u8(2),
        }
        head
    }

    /// Returns the parameters.
    pub(crate) fn parameters(&self) -> &'a [u8] {
        match self {
            Self::Run { parameters, .. } => parameters,
            Self::Resume => &[],
        }
    }

    /// Parses a message. A command must be PERSISTENT RESERVE IN or OUT, with as many bytes of parameters as its CDB says
    /// and at most [`DATA_MAX`] bytes of data.
    pub(crate) fn decode(mut bytes: &'a [u8]) -> Option<Self> {
        match bytes.try_get_u8().ok()? {
            1 => Self::decode_run(bytes),
            2 if bytes.is_empty() => Some(Self::Resume),
            _ => None,
        }
    }

    fn decode_run(mut bytes: &'a [u8]) -> Option<Self> {
        let timeout = Duration::from_millis(bytes.try_get_u32().ok()?.into());
        let (cdb, parameters) = bytes.split_first_chunk()?;
        let expected = match Cdb::new(cdb).ok()?.transfer()? {
            Transfer::In { allocation_length } if usize::from(allocation_length) <= DATA_MAX => 0,
            Transfer::Out { parameter_list_length } => {
                usize::try_from(parameter_list_length).ok().filter(|length| *length <= DATA_MAX)?
            }
            Transfer::In { .. } => return None,
        };
        (parameters.len() == expected).then_some(Self::Run { timeout, cdb, parameters })
    }
}

/// The first message from a worker to the daemon: whether it is ready, with a text that explains it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Hello<'a> {
    /// The worker is ready. The text is name and version of its library.
    Ready(&'a str),
    /// The worker cannot work for now. Another may be able to later.
    Unfit(&'a str),
    /// No worker can work on this host.
    Never(&'a str),
    /// The worker or the host lacks a resource. The guest may repeat its command.
    Shortage(&'a str),
}

impl<'a> Hello<'a> {
    /// Maximum length of a message.
    pub(crate) const LENGTH_MAX: usize = 1024;

    /// Returns the message, with the text cut to fit.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (tag, text) = match self {
            Self::Ready(text) => (1, text),
            Self::Unfit(text) => (2, text),
            Self::Never(text) => (3, text),
            Self::Shortage(text) => (4, text),
        };
        let mut message = vec![tag];
        message.put_slice(text::printable(text, Self::LENGTH_MAX - 1).as_bytes());
        message
    }

    /// Parses a message.
    pub(crate) fn decode(mut bytes: &'a [u8]) -> Option<Self> {
        let tag = bytes.try_get_u8().ok()?;
        let text = text::parse(bytes, Self::LENGTH_MAX - 1)?;
        match tag {
            1 => Some(Self::Ready(text)),
            2 => Some(Self::Unfit(text)),
            3 => Some(Self::Never(text)),
            4 => Some(Self::Shortage(text)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IN: [u8; 10] = [0x5e, 0, 0, 0, 0, 0, 0, 0x20, 0, 0];
    const OUT: [u8; 10] = [0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0];

    #[test]
    fn supervisor_commands_come_back_whole() {
        for command in
            [SupervisorCommand::Start(1), SupervisorCommand::Kill(u64::MAX), SupervisorCommand::Leave]
        {
            assert_eq!(SupervisorCommand::decode(&command.encode()), Some(command));
        }
        for bytes in [&[][..], &[1; 8], &[1; 10], &[0; 9], &[3; 9]] {
            assert_eq!(SupervisorCommand::decode(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn worker_requests_come_back_whole() {
        let timeout = Duration::from_millis(30_001);
        for request in [
            WorkerRequest::Run { timeout, cdb: &IN, parameters: &[] },
            WorkerRequest::Run { timeout, cdb: &OUT, parameters: &[7; 24] },
            WorkerRequest::Resume,
        ] {
            let bytes = [&request.encode_head()[..], request.parameters()].concat();
            assert_eq!(WorkerRequest::decode(&bytes).as_ref(), Some(&request));
            for end in 0..bytes.len() {
                assert_eq!(WorkerRequest::decode(&bytes[..end]), None, "{end} bytes");
            }
            assert_eq!(WorkerRequest::decode(&[&bytes[..], &[0]].concat()), None);
        }
        let mut long = OUT;
        long[5..9].copy_from_slice(&8193_u32.to_be_bytes());
        let bytes = [&[1, 0, 0, 0, 0], &long[..], &[0; 8193]].concat();
        assert_eq!(WorkerRequest::decode(&bytes), None);
        let mut long = IN;
        long[7..9].copy_from_slice(&8193_u16.to_be_bytes());
        assert_eq!(WorkerRequest::decode(&[&[1, 0, 0, 0, 0], &long[..]].concat()), None);
        assert_eq!(WorkerRequest::decode(&[1; 15]), None, "not a PERSISTENT RESERVE");
        assert_eq!(WorkerRequest::decode(&[3]), None);
    }

    #[test]
    fn hello_is_cut_to_fit() {
        for hello in [
            Hello::Ready("0.11.1"),
            Hello::Unfit("no map"),
            Hello::Never("no library"),
            Hello::Shortage("no memory"),
            Hello::Ready(""),
        ] {
            assert_eq!(Hello::decode(&hello.encode()), Some(hello));
        }
        let long = "\u{e4}".repeat(Hello::LENGTH_MAX);
        let bytes = Hello::Unfit(&long).encode();
        assert!(bytes.len() <= Hello::LENGTH_MAX && Hello::decode(&bytes).is_some(), "{}", bytes.len());
        for bytes in [&[][..], b"\x05text", b"\x01\xff", b"\x02a\x1b[1m"] {
            assert_eq!(Hello::decode(bytes), None, "{bytes:?}");
        }
    }

    proptest! {
        /// Each message has exactly one encoding.
        #[test]
        fn decoded_messages_encode_to_their_bytes(bytes in proptest::collection::vec(0_u8..6, 0..40)) {
            if let Some(command) = SupervisorCommand::decode(&bytes) {
                prop_assert_eq!(&command.encode()[..], &bytes[..]);
            }
            if let Some(request) = WorkerRequest::decode(&bytes) {
                prop_assert_eq!([&request.encode_head()[..], request.parameters()].concat(), bytes);
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ = SupervisorCommand::decode(&bytes);
            let _ = WorkerRequest::decode(&bytes);
            if let Some(hello) = Hello::decode(&bytes) {
                prop_assert_eq!(hello.encode(), bytes);
            }
        }
    }
}
