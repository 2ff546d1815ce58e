//! The helper's session, with a client that sends anything. Its replies are read by a client's session.

use std::collections::BTreeMap;

use arbitrary::{Result, Unstructured};
use pr_proto::{ClientSession, Command, Completion, Data, HelperSession, SENSE_LEN, Violation};
use scsi_sense::Status;

/// What a client sends.
#[derive(Debug, Default)]
struct Stream {
    bytes: Vec<u8>,
    /// The numbers of descriptors, by the offset of the byte with which they arrive.
    descriptors: BTreeMap<usize, Vec<usize>>,
}

/// A request as the helper must see it.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    cdb: [u8; 10],
    parameters: Vec<u8>,
    descriptor: usize,
}

/// The answer of the device, which may lie about its lengths.
#[derive(Debug)]
struct Answer {
    status: Status,
    transferred: usize,
    sense_len: usize,
    /// How many bytes of data and of sense data are written, and their value.
    written: usize,
    value: u8,
}

/// Sends messages of the input to a session, in reads of the input's lengths.
pub(super) fn run(input: &mut Unstructured<'_>) -> Result<()> {
    let (step, answer) = (usize::from(input.arbitrary::<u8>()?), Answer::take(input)?);
    let stream = Stream::take(input)?;
    let (expected, end) = plain(&stream);
    let mut seen = Vec::new();

    let mut session = HelperSession::<usize>::new();
    assert_eq!(session.greeting(), [0; 4]);
    let mut client = ClientSession::new();
    let length = feed(client.buffer(), &[0; 4]);
    client.received(length).expect("a greeting");
    let mut at = 0;
    let result = loop {
        if let Some(request) = session.request() {
            let descriptor = *request.descriptor().expect("a descriptor");
            let cdb = request.cdb();
            let mut parameters = Vec::new();
            let reply = request.answer(|command, given| {
                assert_eq!((given, *command.cdb), (descriptor, cdb));
                if let Data::Out(bytes) = command.data {
                    parameters = bytes.to_vec();
                }
                answer.run(command)
            });
            answer.check(&cdb, reply);
            let begun = if cdb[0] == 0x5e { client.read(&cdb) } else { client.write(&cdb, &parameters) };
            begun.expect("the client may send it, too");
            check_client(&mut client, reply);
            seen.push(Request { cdb, parameters, descriptor });
        }
        if at == stream.bytes.len() {
            break session.end_of_stream();
        }
        // A read ends before the next bytes that have descriptors, as in the kernel.
        let mut descriptors = stream.descriptors.get(&at).cloned().unwrap_or_default();
        let until = stream.descriptors.range(at + 1..).next();
        let until = until.map_or(stream.bytes.len(), |(offset, _)| *offset).min(at + step.max(1));
        let length = feed(session.buffer(), &stream.bytes[at..until]);
        assert!(length > 0, "a session without a request reads on: {session:?}");
        at += length;
        let result = session.received(length, &mut descriptors);
        if result.is_err() {
            assert_eq!(session.received(0, &mut descriptors), result, "a violation stays");
            assert!(session.buffer().is_empty() && session.request().is_none());
            break result;
        }
        assert!(descriptors.is_empty(), "all descriptors are taken or refused");
    };
    assert_eq!((&seen, result), (&expected, end), "{stream:?}");
    Ok(())
}

impl Stream {
    /// Takes messages: a tag, then a greeting, a command with its parameters, or bytes.
    fn take(input: &mut Unstructured<'_>) -> Result<Self> {
        let mut stream = Self::default();
        let mut next = 0;
        while !input.is_empty() && stream.bytes.len() < 20_000 {
            let tag: u8 = input.arbitrary()?;
            let at = stream.bytes.len();
            match tag & 3 {
                0 => stream.bytes.extend([0; 4]),
                1 => {
                    let (opcode, action) = (0x5e + (tag >> 7), input.arbitrary()?);
                    let length = if tag >> 6 & 1 == 1 {
                        input.arbitrary::<u8>()?.into()
                    } else {
                        input.arbitrary()?
                    };
                    let [high, low] = u16::to_be_bytes(length);
                    stream.bytes.extend([opcode, action, 0, 0, 0, 0, 0, high, low, 0, 0, 0, 0, 0, 0, 0]);
                    if opcode == 0x5f {
                        stream.bytes.resize(stream.bytes.len() + usize::from(length), action);
                    }
                }
                _ => {
                    let length = usize::from(tag >> 4).min(input.len());
                    stream.bytes.extend(input.bytes(length)?);
                }
            }
            // One descriptor in the usual case, none or several in others, somewhere in the message.
            let (count, skip) = match tag >> 2 & 3 {
                0 => (0, 0),
                1 => (1, 0),
                2 => (1, usize::from(input.arbitrary::<u8>()?)),
                _ => (usize::from(input.arbitrary::<u8>()? % 4), 0),
            };
            if count > 0 && at + skip < stream.bytes.len() {
                stream.descriptors.entry(at + skip).or_default().extend(next..next + count);
                next += count;
            }
        }
        Ok(stream)
    }
}

/// Reads the whole stream as the protocol says: a greeting, then commands. Returns the requests and the end.
fn plain(stream: &Stream) -> (Vec<Request>, std::result::Result<(), Violation>) {
    let (mut requests, mut at) = (Vec::new(), 0);
    loop {
        match plain_request(stream, &mut at) {
            Ok(Some(request)) => requests.push(request),
            Ok(None) => return (requests, Ok(())),
            Err(violation) => return (requests, Err(violation)),
        }
    }
}

/// Reads the request at `at`, with the greeting before the first.
fn plain_request(stream: &Stream, at: &mut usize) -> std::result::Result<Option<Request>, Violation> {
    if *at == 0 {
        let Some((greeting, _)) = plain_message(stream, at, 4, 0)? else { return Ok(None) };
        let wanted = u32::from_be_bytes(greeting.try_into().expect("four bytes"));
        if wanted != 0 {
            return Err(Violation::UnsupportedFeatures { wanted, missing: wanted });
        }
    }
    let Some((cdb, descriptors)) = plain_message(stream, at, 16, 1)? else { return Ok(None) };
    let [descriptor] = descriptors[..] else { return Err(Violation::NoDescriptor) };
    let length = match cdb[0] {
        0x5e => u32::from(cdb[7]) << 8 | u32::from(cdb[8]),
        0x5f => u32::from_be_bytes([cdb[5], cdb[6], cdb[7], cdb[8]]),
        opcode => return Err(Violation::Opcode(opcode)),
    };
    if length > 8192 {
        return Err(Violation::TransferLength(length));
    }
    let mut parameters = Vec::new();
    if cdb[0] == 0x5f && length > 0 {
        let length = usize::try_from(length).expect("at most 8192");
        parameters = plain_message(stream, at, length, 0)?.ok_or(Violation::Truncated)?.0.to_vec();
    }
    let cdb = cdb[..10].try_into().expect("ten bytes");
    Ok(Some(Request { cdb, parameters, descriptor }))
}

/// The bytes of a message, and its descriptors.
type Message<'a> = (&'a [u8], Vec<usize>);

/// Reads a message that may have `allowed` descriptors; `None` at the end of the stream before its first byte.
fn plain_message<'a>(
    stream: &'a Stream,
    at: &mut usize,
    length: usize,
    allowed: usize,
) -> std::result::Result<Option<Message<'a>>, Violation> {
    let start = *at;
    *at = stream.bytes.len().min(start + length);
    let arrived = stream.descriptors.range(start..*at);
    let descriptors: Vec<usize> = arrived.flat_map(|(_, numbers)| numbers).copied().collect();
    match *at - start {
        0 => Ok(None),
        _ if descriptors.len() > allowed && allowed == 0 => Err(Violation::StrayDescriptor),
        _ if descriptors.len() > allowed => Err(Violation::ManyDescriptors),
        read if read < length => Err(Violation::Truncated),
        _ => Ok(Some((&stream.bytes[start..*at], descriptors))),
    }
}

impl Answer {
    fn take(input: &mut Unstructured<'_>) -> Result<Self> {
        Ok(Self {
            status: Status(if input.arbitrary()? { 0 } else { input.arbitrary()? }),
            transferred: usize::from(input.arbitrary::<u16>()?),
            sense_len: usize::from(input.arbitrary::<u8>()?),
            written: usize::from(input.arbitrary::<u8>()?),
            value: input.arbitrary()?,
        })
    }

    fn run(&self, command: Command<'_>) -> Completion {
        assert!(command.sense.iter().all(|byte| *byte == 0) && command.sense.len() == SENSE_LEN);
        command.sense.iter_mut().take(self.written).for_each(|byte| *byte = self.value);
        if let Data::In(data) = command.data {
            assert!(data.iter().all(|byte| *byte == 0));
            data.iter_mut().take(self.written).for_each(|byte| *byte = self.value);
        }
        Completion { status: self.status, transferred: self.transferred, sense_len: self.sense_len }
    }

    /// Checks that a reply has what was written for it, and otherwise zeros.
    fn check(&self, cdb: &[u8; 10], reply: &[u8]) {
        let room = if cdb[0] == 0x5e { usize::from(cdb[7]) << 8 | usize::from(cdb[8]) } else { 0 };
        let size = if self.status == Status::GOOD { self.transferred.min(room) } else { 0 };
        let filled = |length: usize, valid: usize| -> Vec<u8> {
            (0..length).map(|at| if at < valid.min(self.written) { self.value } else { 0 }).collect()
        };
        let sense_len = if self.status == Status::CHECK_CONDITION { self.sense_len } else { 0 };
        let size_field = u32::try_from(size).expect("at most 8192").to_be_bytes();
        let expected =
            [&[0, 0, 0, self.status.0], &size_field[..], &filled(SENSE_LEN, sense_len), &filled(size, size)];
        assert_eq!(reply, expected.concat(), "{self:?}");
    }
}

/// Checks that a client accepts the reply to its command.
fn check_client(client: &mut ClientSession, reply: &[u8]) {
    let mut rest = reply;
    while client.response().is_none() {
        let length = feed(client.buffer(), rest);
        rest = &rest[length..];
        client.received(length).expect("a reply of the helper is well-formed");
    }
    let response = client.response().expect("the loop has ended");
    assert_eq!(rest, []);
    assert_eq!((response.status.0, &response.sense[..]), (reply[3], &reply[8..104]));
    assert_eq!(response.payload, &reply[104..]);
}

/// Copies as many bytes as fit, and returns their number.
fn feed(buffer: &mut [u8], bytes: &[u8]) -> usize {
    let length = buffer.len().min(bytes.len());
    buffer[..length].copy_from_slice(&bytes[..length]);
    length
}
