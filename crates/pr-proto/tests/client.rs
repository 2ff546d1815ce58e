//! The client's session against correct and incorrect helpers.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panicking")]

use pr_proto::{ClientError, ClientSession, InvalidCommand, REPLY_LEN};
use proptest::prelude::*;
use scsi_sense::Status;

const READ_KEYS_16: [u8; 10] = [0x5e, 0, 0, 0, 0, 0, 0, 0, 16, 0];
const REGISTER: [u8; 10] = [0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0];

fn greeted() -> ClientSession {
    let mut session = ClientSession::new();
    assert_eq!(session.greeting(), None);
    assert_eq!(session.read(&READ_KEYS_16), Err(InvalidCommand::NotReady));
    session.received(4).unwrap();
    assert_eq!(session.greeting(), Some([0; 4]));
    session
}

fn reply(status: u32, size: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = [status.to_be_bytes(), size.to_be_bytes()].concat();
    bytes.resize(REPLY_LEN, 0);
    bytes[8] = 0x70;
    bytes.extend_from_slice(payload);
    bytes
}

/// Feeds `bytes` in pieces of at most `piece` bytes. Returns the rest for which the session has no buffer.
fn feed<'a>(session: &mut ClientSession, mut bytes: &'a [u8], piece: usize) -> Result<&'a [u8], ClientError> {
    while !bytes.is_empty() && !session.buffer().is_empty() {
        let n = session.buffer().len().min(piece).min(bytes.len());
        session.buffer()[..n].copy_from_slice(&bytes[..n]);
        session.received(n)?;
        bytes = &bytes[n..];
    }
    Ok(bytes)
}

#[test]
fn reply_may_arrive_in_pieces() {
    let bytes = reply(0, 16, b"sixteen bytes ok");
    for piece in 1..=bytes.len() {
        let mut session = greeted();
        assert_eq!(session.read(&READ_KEYS_16).unwrap()[..10], READ_KEYS_16);
        assert_eq!(session.read(&READ_KEYS_16), Err(InvalidCommand::NotReady), "one command at a time");
        assert_eq!(feed(&mut session, &bytes, piece), Ok(&[][..]));
        let response = session.response().unwrap();
        assert_eq!((response.status, response.payload), (Status::GOOD, &b"sixteen bytes ok"[..]));
        assert!(session.read(&READ_KEYS_16).is_ok(), "the next command");
        assert!(session.response().is_none(), "and no response to it");
    }
}

#[test]
fn failed_command_has_sense_without_payload() {
    let mut session = greeted();
    session.write(&REGISTER, &[0; 24]).unwrap();
    feed(&mut session, &reply(2, 0, &[]), usize::MAX).unwrap();
    let response = session.response().unwrap();
    assert_eq!(
        (response.status, response.sense[0], response.payload),
        (Status::CHECK_CONDITION, 0x70, &[][..])
    );
}

#[test]
fn helper_violations_are_told_apart() {
    let cases = [
        ("IN", reply(0x100, 0, &[]), ClientError::Status(0x100)),
        ("IN", reply(0, 17, &[]), ClientError::PayloadLength { size: 17, allocation_length: 16 }),
        ("IN", reply(0, u32::MAX, &[]), ClientError::PayloadLength { size: u32::MAX, allocation_length: 16 }),
        ("IN", reply(2, 1, &[]), ClientError::PayloadOfFailure(1)),
        ("OUT", reply(0, 1, &[]), ClientError::UnexpectedPayload(1)),
        ("OUT", reply(2, 1, &[]), ClientError::UnexpectedPayload(1)),
    ];
    for (direction, bytes, error) in cases {
        let mut session = greeted();
        match direction {
            "IN" => session.read(&READ_KEYS_16).map(drop).unwrap(),
            _ => session.write(&REGISTER, &[0; 24]).map(drop).unwrap(),
        }
        assert_eq!(feed(&mut session, &bytes, usize::MAX), Err(error), "{direction}");
        assert_eq!(session.end_of_stream(), Err(error), "it stays closed");
        assert!(session.buffer().is_empty() && session.response().is_none());
        assert_eq!(session.read(&READ_KEYS_16), Err(InvalidCommand::NotReady));
    }
}

#[test]
fn truncated_reply_is_an_error() {
    let bytes = reply(0, 16, &[1; 16]);
    for end in 0..bytes.len() {
        let mut session = greeted();
        session.read(&READ_KEYS_16).unwrap();
        feed(&mut session, &bytes[..end], usize::MAX).unwrap();
        assert_eq!(session.end_of_stream(), Err(ClientError::Truncated), "at {end}");
    }
    assert_eq!(ClientSession::new().end_of_stream(), Err(ClientError::Truncated), "before the greeting");
    assert_eq!(greeted().end_of_stream(), Ok(()), "between commands");
}

#[test]
fn invalid_commands_are_not_sent() {
    let mut session = greeted();
    assert_eq!(session.read(&[0x12, 0, 0, 0, 36, 0]), Err(InvalidCommand::Cdb));
    assert_eq!(session.read(&REGISTER), Err(InvalidCommand::Cdb));
    assert_eq!(session.read(&READ_KEYS_16[..9]), Err(InvalidCommand::Cdb));
    assert_eq!(session.read(&[0x5e; 17]), Err(InvalidCommand::Cdb));
    assert_eq!(session.write(&READ_KEYS_16, &[]), Err(InvalidCommand::Cdb));
    assert_eq!(
        session.read(&[0x5e, 0, 0, 0, 0, 0, 0, 0x20, 1, 0]),
        Err(InvalidCommand::TransferLength(8193)),
    );
    assert_eq!(
        session.write(&REGISTER, &[0; 23]),
        Err(InvalidCommand::ParameterLength { announced: 24, given: 23 }),
    );
    assert_eq!(
        session.write(&[0x5f, 0, 0, 0, 0, 0, 1, 0, 0, 0], &vec![0; 65536]),
        Err(InvalidCommand::TransferLength(65536)),
    );
    assert!(session.write(&REGISTER, &[0; 24]).is_ok(), "the session is unchanged by the errors");
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), piece in 1_usize..200) {
        let mut session = ClientSession::new();
        let mut rest: &[u8] = &bytes;
        while !rest.is_empty() {
            let _ = session.read(&READ_KEYS_16);
            match feed(&mut session, rest, piece) {
                Ok(left) => rest = left,
                Err(_) => break,
            }
            if let Some(response) = session.response() {
                prop_assert!(response.payload.len() <= 16);
            }
        }
        let _ = session.end_of_stream();
    }
}
