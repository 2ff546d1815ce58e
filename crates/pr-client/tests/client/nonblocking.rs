//! The nonblocking connection, driven step by step.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::{fd::AsFd as _, unix::net::UnixStream},
};

use pr_client::{
    Error, InvalidCommand,
    nonblocking::{Connection, Interest, Step},
};
use rustix::event::{PollFd, PollFlags};
use scsi_sense::Status;

use crate::{
    READ_KEYS, REGISTER,
    helper::{Answer, Helper, Plan, Stage},
};

/// Returns both ends of a connection. The test plays the helper.
fn pair() -> (UnixStream, Connection) {
    let (helper, client) = UnixStream::pair().unwrap();
    (helper, Connection::from_stream(client))
}

fn greeted() -> (UnixStream, Connection) {
    let (mut helper, mut connection) = pair();
    helper.write_all(&[0; 4]).unwrap();
    assert!(matches!(connection.advance(), Ok(Step::Ready)));
    helper.read_exact(&mut [0; 4]).unwrap();
    (helper, connection)
}

fn null() -> File {
    File::options().read(true).write(true).open("/dev/null").unwrap()
}

/// Polls for the connection's interest, then advances it. Returns whether the command is answered.
fn wait_and_advance(connection: &mut Connection) -> Result<bool, Error> {
    let flags = match connection.interest() {
        Interest::Read => PollFlags::IN,
        Interest::Write => PollFlags::OUT,
    };
    rustix::event::poll(&mut [PollFd::new(connection, flags)], None).unwrap();
    Ok(matches!(connection.advance()?, Step::Answered(_)))
}

#[test]
fn commands_follow_one_another() {
    let helper = Helper::answering(&[], |arrived| Answer::good(&arrived.cdb));
    let mut connection = Connection::connect(helper.path()).unwrap();
    let device = helper.device();
    while !matches!(connection.advance().unwrap(), Step::Ready) {
        rustix::event::poll(&mut [PollFd::new(&connection, PollFlags::IN)], None).unwrap();
    }
    for number in 0..100 {
        if number % 2 == 0 {
            connection.read(&device, &READ_KEYS).unwrap();
        } else {
            connection.write(&device, &REGISTER, &[0; 24]).unwrap();
        }
        assert!(connection.response().is_none());
        while !wait_and_advance(&mut connection).unwrap() {}
        let response = connection.response().unwrap();
        assert_eq!(response.status, Status::GOOD);
        assert_eq!(response.payload.len(), if number % 2 == 0 { 10 } else { 0 });
        assert!(matches!(connection.advance(), Ok(Step::Ready)), "an answer is returned once");
        assert!(connection.response().is_some(), "but it stays available");
    }
    assert_eq!((helper.begun(), helper.accepted()), (100, 1));
}

#[test]
fn messages_may_arrive_byte_by_byte() {
    let (mut helper, mut connection) = pair();
    for _ in 0..4 {
        assert!(matches!(connection.advance(), Ok(Step::Wait(Interest::Read))));
        assert!(matches!(connection.read(null(), &READ_KEYS), Err(Error::Command(InvalidCommand::NotReady))));
        helper.write_all(&[0]).unwrap();
    }
    assert!(matches!(connection.advance(), Ok(Step::Ready)));
    connection.read(null(), &READ_KEYS).unwrap();
    for _ in 0..104 {
        assert!(matches!(connection.advance(), Ok(Step::Wait(Interest::Read))));
        assert!(matches!(connection.read(null(), &READ_KEYS), Err(Error::Command(InvalidCommand::NotReady))));
        helper.write_all(&[0]).unwrap();
    }
    assert!(matches!(connection.advance(), Ok(Step::Answered(response)) if response.payload.is_empty()));
}

#[test]
fn idle_connection_detects_helper_exit() {
    let (helper, mut connection) = greeted();
    assert!(matches!(connection.advance(), Ok(Step::Ready)));
    drop(helper);
    assert!(matches!(connection.advance(), Err(Error::Unreachable { .. })));
    for _ in 0..2 {
        assert!(matches!(connection.advance(), Err(Error::Unreachable { .. })), "it stays closed");
        assert!(matches!(connection.read(null(), &READ_KEYS), Err(Error::Unreachable { .. })));
        assert!(matches!(connection.write(null(), &REGISTER, &[0; 24]), Err(Error::Unreachable { .. })));
    }
}

#[test]
fn unsolicited_data_is_never_an_answer() {
    let (mut helper, mut connection) = greeted();
    helper.write_all(&[0; 104]).unwrap();
    let error = connection.read(null(), &READ_KEYS).unwrap_err();
    assert!(
        matches!(&error, Error::Unreachable { source, .. } if source.kind() == io::ErrorKind::InvalidData)
    );
    assert!(!error.may_have_run());
    let mut sent = Vec::new();
    drop(connection);
    // The kernel resets a connection that is closed with unread data.
    let _ = helper.read_to_end(&mut sent);
    assert_eq!(sent, []);
}

/// Returns a connection whose socket is full: helper's end, a second descriptor of the client's end, the connection.
fn full() -> (UnixStream, UnixStream, Connection) {
    let (helper, client) = UnixStream::pair().unwrap();
    rustix::net::sockopt::set_socket_send_buffer_size(&client, 0).unwrap();
    let filler = client.try_clone().unwrap();
    let mut connection = Connection::from_stream(client);
    (&helper).write_all(&[0; 4]).unwrap();
    assert!(matches!(connection.advance(), Ok(Step::Ready)));
    filler.set_nonblocking(true).unwrap();
    while (&filler).write(&[0x77; 64]).is_ok() {}
    (helper, filler, connection)
}

#[test]
fn blocked_command_keeps_its_descriptor() {
    let (helper, _filler, mut connection) = full();
    // The caller's descriptor is closed at once.
    connection.read(null(), &READ_KEYS).unwrap();
    assert_eq!(connection.interest(), Interest::Write);
    assert!(matches!(connection.advance(), Ok(Step::Wait(Interest::Write))));
    helper.set_nonblocking(true).unwrap();
    let mut junk = vec![0; 1 << 20];
    while (&helper).read(&mut junk).is_ok() {}
    assert!(matches!(connection.advance(), Ok(Step::Wait(Interest::Read))));
    let (bytes, descriptors) = crate::helper::receive_all(&helper);
    assert_eq!((&bytes[..10], bytes.len(), descriptors.len()), (&READ_KEYS[..], 16, 1));
    let (received, null) = (rustix::fs::fstat(&descriptors[0]).unwrap(), rustix::fs::fstat(null()).unwrap());
    assert_eq!(received.st_rdev, null.st_rdev);
}

#[test]
fn blocked_list_sends_one_descriptor() {
    let (helper, _filler, mut connection) = full();
    connection.write(null(), &[0x5f, 0, 0, 0, 0, 0, 0, 0x20, 0, 0], &[0x11; 8192]).unwrap();
    let (mut bytes, mut descriptors) = (Vec::new(), Vec::new());
    // The bytes that filled the socket come first.
    while !bytes.ends_with(&[0x11; 8192]) {
        let (more, received) = crate::helper::receive_all(&helper);
        bytes.extend(more);
        descriptors.extend(received);
        assert!(matches!(connection.advance(), Ok(Step::Wait(_))));
    }
    assert_eq!(descriptors.len(), 1);
}

#[test]
fn command_waits_for_the_greeting() {
    let (helper, client) = UnixStream::pair().unwrap();
    let filler = client.try_clone().unwrap();
    filler.set_nonblocking(true).unwrap();
    while (&filler).write(&[0x77; 64]).is_ok() {}
    let mut connection = Connection::from_stream(client);
    (&helper).write_all(&[0; 4]).unwrap();
    assert!(matches!(connection.advance(), Ok(Step::Wait(Interest::Write))));
    assert!(matches!(connection.read(null(), &READ_KEYS), Err(Error::Command(InvalidCommand::NotReady))));
    drop(crate::helper::receive_all(&helper));
    assert!(matches!(connection.advance(), Ok(Step::Ready)));
    connection.read(null(), &READ_KEYS).unwrap();
    let (bytes, _) = crate::helper::receive_all(&helper);
    assert_eq!((&bytes[..4], &bytes[4..14], bytes.len()), (&[0; 4][..], &READ_KEYS[..], 20));
}

#[test]
fn blocked_command_was_not_sent() {
    let (helper, filler, mut connection) = full();
    connection.read(null(), &READ_KEYS).unwrap();
    drop((helper, filler));
    let error = connection.advance().unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
}

#[test]
fn partly_sent_command_is_lost() {
    let cdb = [0x5f, 0, 0, 0, 0, 0, 0, 0x20, 0, 0];
    for read in [0, 1, 15, 16, 17, 1000] {
        let (helper, client) = UnixStream::pair().unwrap();
        rustix::net::sockopt::set_socket_send_buffer_size(&client, 0).unwrap();
        let mut connection = Connection::from_stream(client);
        (&helper).write_all(&[0; 4]).unwrap();
        assert!(matches!(connection.advance(), Ok(Step::Ready)));
        (&helper).read_exact(&mut [0; 4]).unwrap();
        connection.write(null(), &cdb, &[1; 8192]).unwrap();
        assert!(matches!(connection.advance(), Ok(Step::Wait(Interest::Write))), "the list is too long");
        (&helper).read_exact(&mut vec![0; read]).unwrap();
        drop(helper);
        let error = connection.advance().unwrap_err();
        assert!(matches!(error, Error::Lost(_)), "{error:?}");
        assert!(error.may_have_run());
    }
}

#[test]
fn long_list_arrives_with_one_descriptor() {
    let cdb = [0x5f, 0, 0, 0, 0, 0, 0, 0x20, 0, 0];
    let list: Vec<u8> = (0..8192_u32).map(|number| number.to_le_bytes()[0]).collect();
    let (helper, client) = UnixStream::pair().unwrap();
    rustix::net::sockopt::set_socket_send_buffer_size(&client, 0).unwrap();
    let mut connection = Connection::from_stream(client);
    (&helper).write_all(&[0; 4]).unwrap();
    assert!(matches!(connection.advance(), Ok(Step::Ready)));
    (&helper).read_exact(&mut [0; 4]).unwrap();
    connection.write(null(), &cdb, &list).unwrap();
    let (mut bytes, mut descriptors) = (Vec::new(), Vec::new());
    while let Step::Wait(interest) = connection.advance().unwrap() {
        let (more, received) = crate::helper::receive_all(&helper);
        bytes.extend(more);
        descriptors.extend(received);
        if interest == Interest::Read {
            break;
        }
    }
    let (more, received) = crate::helper::receive_all(&helper);
    bytes.extend(more);
    descriptors.extend(received);
    assert_eq!(descriptors.len(), 1);
    assert_eq!((&bytes[..10], &bytes[16..]), (&cdb[..], &list[..]));
}

#[test]
fn failed_connect_is_reported_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    assert!(matches!(Connection::connect(&path), Err(Error::Unreachable { .. })));
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let refused = Connection::connect(&path).unwrap_err();
    assert!(
        matches!(refused, Error::Unreachable { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused)
    );
}

#[test]
fn lost_differs_from_unreachable() {
    let helper = Helper::start(&[Plan::CloseAt(Stage::Greeting(2)), Plan::CloseAt(Stage::Reply(50))]);
    let mut connection = Connection::connect(helper.path()).unwrap();
    let error = loop {
        if let Err(error) = wait_and_advance(&mut connection) {
            break error;
        }
    };
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");

    let mut connection = Connection::connect(helper.path()).unwrap();
    while !matches!(connection.advance().unwrap(), Step::Ready) {
        rustix::event::poll(&mut [PollFd::new(&connection, PollFlags::IN)], None).unwrap();
    }
    connection.write(helper.device(), &REGISTER, &[0; 24]).unwrap();
    let error = loop {
        if let Err(error) = wait_and_advance(&mut connection) {
            break error;
        }
    };
    assert!(matches!(error, Error::Lost(_)), "{error:?}");
    assert!(connection.as_fd().try_clone_to_owned().is_ok(), "the descriptor stays open until drop");
}
