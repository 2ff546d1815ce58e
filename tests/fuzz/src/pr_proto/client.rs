//! The client's session, with a helper that sends anything.

use arbitrary::{Result, Unstructured};
use pr_proto::{ClientError, ClientSession, InvalidCommand};
use scsi_sense::Status;

/// Sends commands of the input, and answers them with bytes of the input.
pub(super) fn run(input: &mut Unstructured<'_>) -> Result<()> {
    let step = usize::from(input.arbitrary::<u8>()?).max(1);
    let mut session = ClientSession::new();
    assert_eq!(session.greeting(), None);
    assert_eq!(session.read(&[0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0]), Err(InvalidCommand::NotReady));
    let features: [u8; 4] = input.arbitrary()?;
    assert_eq!(feed(&mut session, &features, step), Ok(()));
    assert_eq!(session.greeting(), Some([0; 4]));
    assert_eq!(session.offered().bits(), u32::from_be_bytes(features));

    while !input.is_empty() {
        let is_write: bool = input.arbitrary()?;
        let cdb = if input.arbitrary()? {
            let [high, low] = u16::to_be_bytes(input.arbitrary()?);
            vec![0x5e + u8::from(is_write), 0, 0, 0, 0, 0, 0, high, low, 0]
        } else {
            let length = input.int_in_range(0..=20)?;
            input.bytes(length)?.to_vec()
        };
        let parameters = vec![0; usize::from(input.arbitrary::<u16>()?)];
        let begun = if is_write { session.write(&cdb, &parameters) } else { session.read(&cdb) };
        let room = plain_command(&cdb, is_write, parameters.len());
        assert_eq!(begun.is_ok(), room.is_some(), "{cdb:02x?}: {begun:?}");
        let (Ok(sent), Some(room)) = (begun, room) else { continue };
        assert_eq!(sent[..cdb.len()], cdb);
        assert!(sent[cdb.len()..].iter().all(|byte| *byte == 0));

        let (status, size): (u32, u32) = if input.arbitrary()? {
            (input.arbitrary::<u8>()?.into(), input.arbitrary::<u16>()?.into())
        } else {
            input.arbitrary()?
        };
        let value: u8 = input.arbitrary()?;
        let head = [&status.to_be_bytes()[..], &size.to_be_bytes(), &[value; 96]].concat();
        let expected = plain_reply(status, size, room);
        let end = feed(&mut session, &head, step);
        assert_eq!(end.err(), expected.err());
        let Ok(length) = expected else {
            assert!(session.buffer().is_empty() && session.response().is_none());
            assert_eq!(session.read(&cdb), Err(InvalidCommand::NotReady));
            return Ok(());
        };
        let payload = vec![value ^ 1; length];
        assert_eq!(feed(&mut session, &payload, step), Ok(()));
        let response = session.response().expect("a whole reply");
        assert_eq!((u32::from(response.status.0), response.sense), (status, &[value; 96]));
        assert_eq!(response.payload, payload);
        assert_eq!(session.end_of_stream(), Ok(()));
    }
    Ok(())
}

/// The answer that a command may have.
#[derive(Clone, Copy)]
enum Room {
    /// At most this many bytes.
    In(u16),
    Out,
}

/// Returns the answer that a command may have; `None` if the protocol does not carry it.
fn plain_command(cdb: &[u8], is_write: bool, parameters: usize) -> Option<Room> {
    if !(10..=16).contains(&cdb.len()) || cdb[0] != 0x5e + u8::from(is_write) {
        return None;
    }
    let low = u16::from_be_bytes([cdb[7], cdb[8]]);
    if !is_write {
        return (low <= 8192).then_some(Room::In(low));
    }
    let announced = u32::from_be_bytes([cdb[5], cdb[6], cdb[7], cdb[8]]);
    (announced <= 8192 && usize::try_from(announced) == Ok(parameters)).then_some(Room::Out)
}

/// Returns the length of the payload that follows a header.
fn plain_reply(status: u32, size: u32, room: Room) -> std::result::Result<usize, ClientError> {
    let is_good = status == u32::from(Status::GOOD.0);
    match (size, room) {
        _ if status > 0xff => Err(ClientError::Status(status)),
        (0, _) => Ok(0),
        (_, Room::Out) => Err(ClientError::UnexpectedPayload(size)),
        _ if !is_good => Err(ClientError::PayloadOfFailure(size)),
        (_, Room::In(room)) if size <= room.into() => Ok(usize::try_from(size).expect("at most 8192")),
        (_, Room::In(allocation_length)) => Err(ClientError::PayloadLength { size, allocation_length }),
    }
}

/// Feeds a message to the session in reads of at most `step` bytes, and checks that it wants exactly the rest of it.
fn feed(session: &mut ClientSession, bytes: &[u8], step: usize) -> std::result::Result<(), ClientError> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let buffer = session.buffer();
        assert_eq!(buffer.len(), rest.len(), "the rest of one message");
        let length = rest.len().min(step);
        buffer[..length].copy_from_slice(&rest[..length]);
        rest = &rest[length..];
        session.received(length)?;
    }
    Ok(())
}
