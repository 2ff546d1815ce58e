//! A helper with canned answers.

use std::{
    fs::{self, File},
    io::{IoSliceMut, Write as _},
    mem::MaybeUninit,
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    sync::{Arc, Mutex},
    thread,
};

use pr_proto::{Completion, Data, HelperSession};
use rustix::{
    fs::OFlags,
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags},
};
use scsi_sense::{SenseCode, Status};
use tempfile::TempDir;

/// The answer to a command.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Good(Vec<u8>),
    Status(Status),
    CheckCondition(SenseCode),
    Sense(Vec<u8>),
    /// The connection is closed without a reply.
    HangUp,
    /// The connection stays open without a reply.
    Silence,
}

/// A command as the helper received it.
#[derive(Debug, Clone)]
pub(crate) struct Arrived {
    pub(crate) cdb: [u8; 10],
    pub(crate) parameters: Vec<u8>,
    pub(crate) is_writable: bool,
}

/// A running helper, with a file in place of a disk. It runs until the test program exits.
pub(crate) struct Helper {
    directory: TempDir,
    arrived: Arc<Mutex<Vec<Arrived>>>,
}

type Responder = dyn Fn(&Arrived) -> Answer + Send + Sync;

impl Helper {
    pub(crate) fn start(responder: impl Fn(&Arrived) -> Answer + Send + Sync + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        File::create(directory.path().join("disk")).unwrap();
        let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
        let arrived = Arc::new(Mutex::new(Vec::new()));
        let responder: Arc<Responder> = Arc::new(responder);
        let helper = Self { directory, arrived: Arc::clone(&arrived) };
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (arrived, responder) = (Arc::clone(&arrived), Arc::clone(&responder));
                thread::spawn(move || serve(&stream.unwrap(), &arrived, &*responder));
            }
        });
        helper
    }

    /// Starts a helper that gives the same answer to every command.
    pub(crate) fn always(answer: Answer) -> Self {
        Self::start(move |_| answer.clone())
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    pub(crate) fn device(&self) -> PathBuf {
        self.directory.path().join("disk")
    }

    pub(crate) fn arrived(&self) -> Vec<Arrived> {
        self.arrived.lock().unwrap().clone()
    }

    /// Returns the command received, which must be the only one.
    pub(crate) fn only(&self) -> Arrived {
        let arrived = self.arrived();
        assert_eq!(arrived.len(), 1, "{arrived:?}");
        arrived[0].clone()
    }
}

/// Removes the helper's socket, so that connecting fails.
pub(crate) fn remove_socket(helper: &Helper) {
    fs::remove_file(helper.socket()).unwrap();
}

fn serve(mut stream: &UnixStream, arrived: &Mutex<Vec<Arrived>>, responder: &Responder) {
    let mut session = HelperSession::<OwnedFd>::new();
    let _ = stream.write_all(&session.greeting());
    let mut descriptors = Vec::new();
    loop {
        let n = receive(stream, session.buffer(), &mut descriptors);
        if n == 0 {
            return;
        }
        session.received(n, &mut descriptors).unwrap();
        let Some(request) = session.request() else { continue };
        let mut answer = Answer::Silence;
        let reply = request.answer(|command, descriptor| {
            let parameters =
                if let Data::Out(parameters) = command.data { parameters.to_vec() } else { vec![] };
            let mode = rustix::fs::fcntl_getfl(&descriptor).unwrap() & OFlags::RWMODE;
            let command_arrived =
                Arrived { cdb: *command.cdb, parameters, is_writable: mode == OFlags::RDWR };
            answer = responder(&command_arrived);
            arrived.lock().unwrap().push(command_arrived);
            let (status, payload, sense) = match &answer {
                Answer::Good(payload) => (Status::GOOD, payload.clone(), vec![]),
                Answer::Status(status) => (*status, vec![], vec![]),
                Answer::CheckCondition(code) => (Status::CHECK_CONDITION, vec![], code.to_fixed().to_vec()),
                Answer::Sense(sense) => (Status::CHECK_CONDITION, vec![], sense.clone()),
                Answer::HangUp | Answer::Silence => (Status::GOOD, vec![], vec![]),
            };
            command.sense[..sense.len()].copy_from_slice(&sense);
            let mut transferred = 0;
            if let Data::In(buffer) = command.data {
                transferred = buffer.len().min(payload.len());
                buffer[..transferred].copy_from_slice(&payload[..transferred]);
            }
            Completion { status, transferred, sense_len: sense.len() }
        });
        match answer {
            Answer::HangUp => return,
            Answer::Silence => {
                // Blocks until the client disconnects.
                receive(stream, &mut [0], &mut Vec::new());
                return;
            }
            _ => {
                let _ = stream.write_all(reply);
            }
        }
    }
}

fn receive(stream: &UnixStream, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> usize {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut buffer = [IoSliceMut::new(buffer)];
    let received = rustix::net::recvmsg(stream, &mut buffer, &mut control, RecvFlags::CMSG_CLOEXEC);
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received_descriptors) = message {
            descriptors.extend(received_descriptors);
        }
    }
    received.map_or(0, |received| received.bytes)
}
