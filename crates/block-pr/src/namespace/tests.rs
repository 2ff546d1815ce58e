use std::{cell::RefCell, io};

use super::*;

/// What was sent: queue, namespace, opcode, cdw10, cdw11, data to the device, length of the data from it.
type Sent = (Queue, u32, u8, u32, u32, Vec<u8>, usize);

/// What the ioctl returns, with the data; or its error number.
type Answer = Result<(i32, Vec<u8>), i32>;

/// Answers each request with the next of the prepared answers.
#[derive(Default)]
struct Fake {
    answers: RefCell<Vec<Answer>>,
    sent: RefCell<Vec<Sent>>,
}

impl Fake {
    fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        let mut answers: Vec<_> = answers.into_iter().collect();
        answers.reverse();
        Self { answers: answers.into(), sent: RefCell::default() }
    }

    fn namespace(&self) -> Namespace<&Self> {
        Namespace::open(self, Duration::from_secs(7)).unwrap()
    }
}

impl Passthrough for Fake {
    fn namespace_id(&self) -> io::Result<u32> {
        Ok(5)
    }

    fn submit(&self, request: &mut Request<'_>) -> io::Result<Status> {
        assert_eq!(request.timeout(), Duration::from_secs(7));
        assert!(request.has_matching_direction(), "{request:?}");
        let to_device = request.to_device().to_vec();
        let length = request.from_device().len();
        let (queue, namespace, opcode) = (request.queue(), request.namespace(), request.opcode());
        let sent = (queue, namespace, opcode, request.cdw10(), request.cdw11(), to_device, length);
        self.sent.borrow_mut().push(sent);
        let (status, data) =
            self.answers.borrow_mut().pop().expect("an answer").map_err(io::Error::from_raw_os_error)?;
        for (to, from) in request.from_device().iter_mut().zip(data) {
            *to = from;
        }
        Ok(Status::from_ioctl(status))
    }
}

const DONE: Answer = Ok((0, Vec::new()));

/// Returns cdw10 and the data of the one change that `make_change` sends.
fn sent(expected: u8, make_change: impl FnOnce(&Namespace<&Fake>) -> Result<(), Error>) -> (u32, Vec<u8>) {
    let fake = Fake::new([DONE]);
    make_change(&fake.namespace()).unwrap();
    let [(queue, namespace, opcode, cdw10, cdw11, data, 0)] = &fake.sent.borrow()[..] else { panic!("one") };
    assert_eq!((*queue, *namespace, *opcode, *cdw11), (Queue::Io, 5, expected, 0));
    (*cdw10, data.clone())
}

#[test]
fn changes_are_encoded_by_the_standard() {
    let two = |first: u8, second: u8| [[first, 0, 0, 0, 0, 0, 0, 0], [second, 0, 0, 0, 0, 0, 0, 0]].concat();
    for (what, persist, cdw10) in [
        (Register::New, Persist::Keep, 0),
        (Register::Unregister, Persist::Keep, 1),
        (Register::Replace, Persist::Keep, 2),
        (Register::UnregisterAny, Persist::Keep, 9),
        (Register::ReplaceAny, Persist::Keep, 0xa),
        (Register::New, Persist::Off, 0x8000_0000),
        (Register::ReplaceAny, Persist::On, 0xc000_000a),
    ] {
        let sent = sent(opcode::REGISTER, |namespace| namespace.register(what, persist, 0xa1, 0xb2));
        assert_eq!(sent, (cdw10, two(0xa1, 0xb2)), "{what:?}");
    }
    let kind = ReservationType::WriteExclusiveRegistrantsOnly;
    for (what, cdw10, victim) in [
        (Acquire::Acquire, 0x300, 0),
        (Acquire::Preempt { victim: 0xb2 }, 0x301, 0xb2),
        (Acquire::PreemptAndAbort { victim: 0xb2 }, 0x302, 0xb2),
    ] {
        let sent = sent(opcode::ACQUIRE, |namespace| namespace.acquire(what, kind, 0xa1));
        assert_eq!(sent, (cdw10, two(0xa1, victim)), "{what:?}");
    }
    for (what, cdw10) in [(Release::Release(kind), 0x300), (Release::Clear, 1)] {
        let sent = sent(opcode::RELEASE, |namespace| namespace.release(what, 0xa1));
        assert_eq!(sent, (cdw10, vec![0xa1, 0, 0, 0, 0, 0, 0, 0]), "{what:?}");
    }
}

/// Every status but success is an error, and no command is sent again.
#[test]
fn no_status_but_zero_is_success() {
    for raw in (1..=0x7fff).chain([0x8000, 0xffff, i32::MAX]) {
        let fake = Fake::new([Ok((raw, Vec::new()))]);
        let error = fake.namespace().release(Release::Clear, 1).unwrap_err();
        assert_eq!(error.status(), Some(Status::from_ioctl(raw)), "{raw:x}");
    }
}

#[test]
fn cancelled_command_is_not_repeated() {
    for (errno, is_cancelled) in [(libc::EINTR, true), (libc::EAGAIN, false), (libc::EIO, false)] {
        let fake = Fake::new([Err(errno)]);
        let error =
            fake.namespace().acquire(Acquire::Acquire, ReservationType::WriteExclusive, 1).unwrap_err();
        assert_eq!(matches!(error, Error::Cancelled), is_cancelled, "{error:?}");
        assert_eq!(fake.sent.borrow().len(), 1);
    }
    let fake = Fake::new([Err(libc::EINTR)]);
    assert!(matches!(fake.namespace().report(), Err(Error::Cancelled)));
    assert_eq!(fake.sent.borrow().len(), 1, "nor is a report, in whatever format");
}

/// Returns the data of a report with this many registrants, of which `room` fit.
fn report_data(format: Format, total: u16, room: usize) -> Vec<u8> {
    let mut bytes = vec![0; format.length(room.min(total.into()))];
    bytes[5..7].copy_from_slice(&total.to_le_bytes());
    bytes
}

#[test]
fn report_grows_to_all_registrants() {
    let answer = |room| Ok((0, report_data(Format::Extended, 1500, room)));
    let fake = Fake::new([answer(16), answer(1516)]);
    let report = fake.namespace().report().unwrap();
    assert_eq!((report.registrants.len(), report.is_complete()), (1500, true));
    let sent: Vec<_> = fake.sent.borrow().iter().map(|sent| (sent.2, sent.3, sent.4, sent.6)).collect();
    // NUMD counts from zero; EDS is 1.
    assert_eq!(sent, [(0x0e, 271, 1, 1088), (0x0e, 24271, 1, 97088)]);
}

#[test]
fn report_that_always_grows_ends() {
    let answers = (0..10).map(|number| Ok((0, report_data(Format::Extended, 1000 * (number + 1), 0))));
    let fake = Fake::new(answers);
    assert!(matches!(fake.namespace().report(), Err(Error::Malformed(Malformed::Growing))));
    assert_eq!(fake.sent.borrow().len(), REPORT_ATTEMPTS);
}

#[test]
fn report_falls_back_to_short_format() {
    for status in [0x4018, 0x4002] {
        let fake = Fake::new([Ok((status, Vec::new())), Ok((0, report_data(Format::Short, 2, 16)))]);
        assert_eq!(fake.namespace().report().unwrap().registrants.len(), 2);
        let sent: Vec<_> = fake.sent.borrow().iter().map(|sent| (sent.3, sent.4, sent.6)).collect();
        assert_eq!(sent, [(271, 1, 1088), (101, 0, 408)]);
    }
    let fake = Fake::new([Ok((0x4001, Vec::new()))]);
    let error = fake.namespace().report().unwrap_err();
    assert_eq!(error.status(), Some(Status::INVALID_OPCODE), "there is no report in whatever format");
}

#[test]
fn identify_tells_reservation_features() {
    let mut data = vec![0; 4096];
    data[31] = 0xfe;
    let fake = Fake::new([Ok((0, data))]);
    assert_eq!(fake.namespace().capabilities().unwrap(), ReservationCapabilities(0xfe));
    let mut data = vec![0; 4096];
    data[520] = 0x20;
    let controller = Fake::new([Ok((0, data)), DONE]);
    assert!(controller.namespace().controller_has_reservations().unwrap());
    assert!(!controller.namespace().controller_has_reservations().unwrap());
    assert_eq!(fake.sent.borrow()[0], (Queue::Admin, 5, 0x06, 0, 0, Vec::new(), 4096));
    assert_eq!(controller.sent.borrow()[0], (Queue::Admin, 0, 0x06, 1, 0, Vec::new(), 4096));
}

#[test]
fn effects_log_lists_io_commands() {
    let mut data = vec![0; 4096];
    data[1024 + 4 * 0x0e] = 1;
    data[4 * 0x0d] = 1;
    let fake = Fake::new([Ok((0, data))]);
    let effects = fake.namespace().command_effects().unwrap();
    assert!(effects.supports(opcode::REPORT));
    assert!(!effects.supports(opcode::REGISTER), "an admin command of that number");
    assert_eq!(fake.sent.borrow()[0], (Queue::Admin, u32::MAX, 0x02, 0x03ff_0005, 0, Vec::new(), 4096));
}

#[test]
fn host_identifier_has_either_length() {
    let fake = Fake::new([Ok((0, b"0123456789abcdef".to_vec()))]);
    assert_eq!(fake.namespace().host_identifier().unwrap(), HostIdentifier::Extended(*b"0123456789abcdef"));
    let short = Fake::new([Ok((0x4002, Vec::new())), Ok((0, b"01234567".to_vec()))]);
    assert_eq!(short.namespace().host_identifier().unwrap(), HostIdentifier::Short(*b"01234567"));
    let sent: Vec<_> = short.sent.borrow().iter().map(|sent| (sent.2, sent.3, sent.4, sent.6)).collect();
    assert_eq!(sent, [(0x0a, 0x81, 1, 16), (0x0a, 0x81, 0, 8)]);
}
