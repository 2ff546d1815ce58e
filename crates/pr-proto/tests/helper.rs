//! The helper's session against correct and incorrect clients.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panicking")]

use pr_proto::{Completion, DATA_MAX, Data, HelperSession, REPLY_LEN, SENSE_LEN, Violation};
use proptest::prelude::*;
use scsi_sense::Status;

/// The result of a conversation: the replies, the executed commands (CDB, parameter list, descriptor), and its end.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcome {
    replies: Vec<Vec<u8>>,
    executed: Vec<(Vec<u8>, Vec<u8>, u32)>,
    end: Result<(), Violation>,
}

/// A stream of bytes, and its descriptors with the offsets of their bytes.
type Stream<'a> = (&'a [u8], &'a [(usize, u32)]);

/// Feeds a stream in pieces that end at `cuts`, like a kernel: a read ends at the end of the buffer or of a piece, and
/// returns the descriptors of the bytes read.
fn converse((bytes, descriptors): Stream, cuts: &[usize]) -> Outcome {
    let mut session = HelperSession::new();
    let mut outcome = Outcome { replies: Vec::new(), executed: Vec::new(), end: Ok(()) };
    let mut at = 0;
    while at < bytes.len() {
        if let Some(request) = session.request() {
            let reply = request.answer(|command, descriptor: u32| {
                let parameters = match command.data {
                    Data::In(data) => {
                        data.fill(0xda);
                        Vec::new()
                    }
                    Data::Out(parameters) => parameters.to_vec(),
                };
                outcome.executed.push((command.cdb.to_vec(), parameters, descriptor));
                Completion { status: Status::GOOD, transferred: usize::MAX, sense_len: 0 }
            });
            outcome.replies.push(reply.to_vec());
        }
        let piece = cuts.iter().copied().find(|&cut| cut > at).unwrap_or(bytes.len()).min(bytes.len());
        let buffer = session.buffer();
        let n = buffer.len().min(piece - at);
        buffer[..n].copy_from_slice(&bytes[at..at + n]);
        let mut received =
            descriptors.iter().filter(|(place, _)| (at..at + n).contains(place)).map(|d| d.1).collect();
        at += n;
        if let Err(violation) = session.received(n, &mut received) {
            outcome.end = Err(violation);
            return outcome;
        }
    }
    if let Some(request) = session.request() {
        let reply = request.answer(|command, descriptor| {
            let parameters =
                if let Data::Out(parameters) = command.data { parameters.to_vec() } else { Vec::new() };
            outcome.executed.push((command.cdb.to_vec(), parameters, descriptor));
            Completion { status: Status::BUSY, transferred: 0, sense_len: 0 }
        });
        outcome.replies.push(reply.to_vec());
    }
    outcome.end = session.end_of_stream();
    outcome
}

fn read_keys(allocation_length: u16) -> [u8; 16] {
    let [high, low] = allocation_length.to_be_bytes();
    [0x5e, 0, 0, 0, 0, 0, 0, high, low, 0, 0, 0, 0, 0, 0, 0]
}

fn register(length: u32) -> [u8; 16] {
    let [a, b, c, d] = length.to_be_bytes();
    [0x5f, 0, 0, 0, 0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0]
}

fn stream(parts: &[&[u8]]) -> Vec<u8> {
    let greeting: &[u8] = &[0; 4];
    std::iter::once(greeting).chain(parts.iter().copied()).flatten().copied().collect()
}

/// The descriptor may come with any byte of its CDB.
#[test]
fn split_stream_gives_the_same_result() {
    let parameters: Vec<u8> = (1..=24).collect();
    let bytes = stream(&[&register(24), &parameters, &read_keys(8)]);
    let (out_at, in_at) = (4, 4 + 16 + 24);
    let whole = converse((&bytes, &[(out_at, 7), (in_at, 8)]), &[]);
    assert_eq!(whole.end, Ok(()));
    assert_eq!(whole.executed.len(), 2);
    assert_eq!(whole.executed[0], (register(24)[..10].to_vec(), parameters, 7));
    assert_eq!(whole.executed[1].2, 8);
    for first in 1..bytes.len() {
        for second in first..bytes.len() {
            assert_eq!(converse((&bytes, &[(out_at, 7), (in_at, 8)]), &[first, second]), whole);
        }
        for place in 0..16 {
            let descriptors = [(out_at + place, 7), (in_at + place, 8)];
            assert_eq!(converse((&bytes, &descriptors), &[first]), whole, "cut {first}, place {place}");
        }
    }
    let every_byte: Vec<usize> = (1..bytes.len()).collect();
    for place in 0..16 {
        assert_eq!(converse((&bytes, &[(out_at + place, 7), (in_at + place, 8)]), &every_byte), whole);
    }
}

/// A name, the stream that the client sends (bytes, descriptors), and the violation in it.
type Case<'a> = (&'a str, Vec<u8>, &'a [(usize, u32)], Violation);

/// They are the same however the stream is split.
#[test]
fn client_violations_are_told_apart() {
    let oversize = u32::try_from(DATA_MAX).unwrap() + 1;
    let parameters = [0; 24];
    let cases: &[Case] = &[
        ("a feature", vec![0, 0, 0, 2], &[], Violation::UnsupportedFeatures { wanted: 2, missing: 2 }),
        ("a descriptor with the greeting", stream(&[]), &[(0, 1)], Violation::StrayDescriptor),
        ("no descriptor", stream(&[&read_keys(8)]), &[], Violation::NoDescriptor),
        ("two descriptors", stream(&[&read_keys(8)]), &[(4, 1), (4, 2)], Violation::ManyDescriptors),
        ("two descriptors apart", stream(&[&read_keys(8)]), &[(4, 1), (19, 2)], Violation::ManyDescriptors),
        ("INQUIRY", stream(&[&[0x12; 16]]), &[(4, 1)], Violation::Opcode(0x12)),
        ("a vendor's opcode", stream(&[&[0xff; 16]]), &[(4, 1)], Violation::Opcode(0xff)),
        ("IN of 8193", stream(&[&read_keys(8193)]), &[(4, 1)], Violation::TransferLength(8193)),
        ("IN of 65535", stream(&[&read_keys(65535)]), &[(4, 1)], Violation::TransferLength(65535)),
        ("OUT of 8193", stream(&[&register(oversize)]), &[(4, 1)], Violation::TransferLength(oversize)),
        ("OUT of 65536 + 24", stream(&[&register(65560)]), &[(4, 1)], Violation::TransferLength(65560)),
        ("OUT of 2^32 - 1", stream(&[&register(u32::MAX)]), &[(4, 1)], Violation::TransferLength(u32::MAX)),
        (
            "a descriptor with the parameters",
            stream(&[&register(24), &parameters]),
            &[(4, 1), (30, 2)],
            Violation::StrayDescriptor,
        ),
    ];
    for (name, bytes, descriptors, violation) in cases {
        for first in 0..=bytes.len() {
            let outcome = converse((bytes, descriptors), &[first]);
            assert_eq!(outcome.end, Err(*violation), "{name}, cut at {first}");
            assert_eq!(outcome.executed, [], "{name}: nothing is executed");
        }
    }
}

#[test]
fn stream_may_end_only_between_messages() {
    let bytes = stream(&[&register(24), &[0; 24], &read_keys(8)]);
    let between = [0, 4, 4 + 16 + 24, bytes.len()];
    for end in 0..=bytes.len() {
        let outcome = converse((&bytes[..end], &[(4, 1), (44, 2)]), &[]);
        let expected = if between.contains(&end) { Ok(()) } else { Err(Violation::Truncated) };
        assert_eq!(outcome.end, expected, "at {end}");
    }
}

#[test]
fn partial_message_is_inside_message() {
    let mut session = HelperSession::<u32>::new();
    assert!(!session.is_inside_message(), "an idle client has no deadline");
    session.received(1, &mut vec![]).unwrap();
    assert!(session.is_inside_message());
    session.received(3, &mut vec![]).unwrap();
    assert!(!session.is_inside_message());
    session.buffer().copy_from_slice(&register(24));
    session.received(16, &mut vec![1]).unwrap();
    assert!(session.is_inside_message(), "the parameters are missing");
    session.received(24, &mut vec![]).unwrap();
    assert!(!session.is_inside_message(), "the request is complete");
    assert!(session.request().is_some());
}

/// The caller closes them.
#[test]
fn violation_leaves_descriptors_to_caller() {
    let mut session = HelperSession::<u32>::new();
    session.received(4, &mut vec![]).unwrap();
    let mut received = vec![1, 2, 3];
    assert_eq!(session.received(5, &mut received), Err(Violation::ManyDescriptors));
    assert_eq!(received, [1, 2, 3]);
    assert!(session.buffer().is_empty());
    assert_eq!(session.received(0, &mut vec![]), Err(Violation::ManyDescriptors), "it stays closed");
    assert!(session.request().is_none());
}

#[test]
fn dropped_request_stays_in_session() {
    let mut session = HelperSession::new();
    session.received(4, &mut vec![]).unwrap();
    session.buffer().copy_from_slice(&read_keys(8));
    session.received(16, &mut vec![5]).unwrap();
    drop(session.request().unwrap());
    assert!(session.buffer().is_empty(), "nothing is read before the answer");
    let request = session.request().unwrap();
    assert_eq!(request.descriptor(), Some(&5));
    assert_eq!(request.cdb()[..], read_keys(8)[..10]);
}

/// Returns a session that has received this request.
fn with_request(cdb: [u8; 16], parameters: &[u8]) -> HelperSession<u32> {
    let mut session = HelperSession::new();
    session.received(4, &mut vec![]).unwrap();
    session.buffer().copy_from_slice(&cdb);
    session.received(16, &mut vec![5]).unwrap();
    if !parameters.is_empty() {
        session.buffer().copy_from_slice(parameters);
        session.received(parameters.len(), &mut vec![]).unwrap();
    }
    session
}

proptest! {
    /// A reply has a payload only for an IN command with GOOD, and never more than the allocation length: QEMU aborts
    /// the virtual machine over a payload that it did not request.
    #[test]
    fn reply_never_has_an_unrequested_payload(
        is_in: bool,
        length in prop_oneof![0_u16..64, 0..=8192_u16],
        status: u8,
        transferred: usize,
        sense_len: usize,
    ) {
        let mut session = if is_in {
            with_request(read_keys(length), &[])
        } else {
            with_request(register(length.into()), &vec![0xaa; length.into()])
        };
        let reply = session.request().unwrap().answer(|command, _| {
            command.sense.fill(0x5e);
            if let Data::In(data) = command.data {
                assert_eq!(data.len(), usize::from(length));
                assert!(data.is_empty() || data.as_ptr().addr() % 2 == 1);
                data.fill(0xda);
            }
            Completion { status: Status(status), transferred, sense_len }
        });
        let expected = if is_in && status == 0 { transferred.min(length.into()) } else { 0 };
        prop_assert_eq!(&reply[..4], &u32::from(status).to_be_bytes());
        prop_assert_eq!(&reply[4..8], &u32::try_from(expected).unwrap().to_be_bytes());
        let sense = if status == 2 { sense_len.min(SENSE_LEN) } else { 0 };
        prop_assert!(reply[8..8 + sense].iter().all(|&byte| byte == 0x5e));
        prop_assert!(reply[8 + sense..REPLY_LEN].iter().all(|&byte| byte == 0));
        prop_assert_eq!(&reply[REPLY_LEN..], &vec![0xda; expected]);
    }

    /// Data of an earlier command is still in the buffer, but must not reach the client.
    #[test]
    fn reply_has_no_data_of_earlier_commands(length in 0..=8192_u16) {
        let mut session = with_request(register(8192), &[0xaa; 8192]);
        let _ = session.request().unwrap().answer(|command, _| {
            command.sense.fill(0xbb);
            Completion { status: Status::CHECK_CONDITION, transferred: 0, sense_len: 96 }
        });
        session.buffer().copy_from_slice(&read_keys(length));
        session.received(16, &mut vec![5]).unwrap();
        // The device claims to have filled the buffer, but has written nothing.
        let reply = session.request().unwrap().answer(|_, _| {
            Completion { status: Status::GOOD, transferred: length.into(), sense_len: 96 }
        });
        prop_assert!(reply[8..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn random_bytes_and_descriptors_never_panic(
        bytes in proptest::collection::vec(prop_oneof![Just(0_u8), Just(0x5e), Just(0x5f), any::<u8>()], 0..200),
        places in proptest::collection::vec(0_usize..200, 0..6),
        cuts in proptest::collection::vec(0_usize..200, 0..10),
    ) {
        let mut cuts = cuts;
        cuts.sort_unstable();
        let descriptors: Vec<(usize, u32)> = places.into_iter().map(|place| (place, 1)).collect();
        let pieces = converse((&bytes, &descriptors), &cuts);
        let whole = converse((&bytes, &descriptors), &[]);
        prop_assert_eq!(pieces.executed, whole.executed);
        prop_assert_eq!(pieces.end.is_ok(), whole.end.is_ok());
    }
}
