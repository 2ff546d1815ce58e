//! All of the crate with a library that was compiled for the purpose: it writes down what it is called with and answers
//! what it is told to. Each test is a process of its own, since the library is opened once in a process.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail as tests do"
)]

use std::{
    env,
    fs::{self, File},
    io::{ErrorKind, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::process::ExitStatusExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use mpathpersist::{Error, Failure, Generation, Library, OpenError, Verbosity};
use scsi_sense::pr::{
    BasicParameters, Capabilities, InDataError, IscsiName, IscsiSessionId, OutServiceAction, Reservation,
    ReservationKey, ReservationType, Scope, TransportId, TransportIds, TypeMask,
};

/// The directory with the fake library, what it is told and what it has seen: in the process where it is the library.
struct Fake {
    directory: PathBuf,
}

impl Fake {
    /// What the library returns from now on.
    fn result(&self, code: i32) {
        self.write("result", code.to_string().as_bytes());
    }

    /// What IN writes from now on, and the pointers into it that it writes behind that: where, and to where.
    fn answer(&self, bytes: &[u8], pointers: &[(u64, u64)]) {
        self.write("answer", bytes);
        let pointers: Vec<u8> =
            pointers.iter().flat_map(|(at, to)| [at.to_ne_bytes(), to.to_ne_bytes()].concat()).collect();
        self.write("pointers", &pointers);
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.directory.join(name), bytes).unwrap();
    }

    /// What the library was called with since this was asked last.
    fn seen(&self) -> String {
        let seen = fs::read_to_string(self.directory.join("seen")).unwrap_or_default();
        self.write("seen", b"");
        seen
    }

    /// The parameter list that the device would have got last.
    fn list(&self) -> Vec<u8> {
        fs::read(self.directory.join("list")).unwrap()
    }
}

/// Runs `body` in a process in which the library is the fake, compiled with `flags`. `test` is the name of the caller.
fn run(test: &str, flags: &[&str], body: impl FnOnce(&Fake)) -> Output {
    if let Some(directory) = env::var_os("FAKE") {
        let fake = Fake { directory: directory.into() };
        body(&fake);
        fake.write("done", b"");
        std::process::exit(0);
    }
    let directory = tempfile::tempdir().unwrap();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake");
    let script = format!("-Wl,--version-script={}", sources.join("libmpathpersist.version").display());
    let source = fs::read(sources.join("libmpathpersist.c")).unwrap();
    compile(&source, directory.path(), &[&[script.as_str()], flags].concat());
    let output = Command::new(env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .envs([("FAKE", directory.path()), ("LD_LIBRARY_PATH", directory.path())])
        .output()
        .unwrap();
    let died = output.status.signal().is_some();
    assert!(died || !output.status.success() || directory.path().join("done").exists(), "{test} did not run");
    output
}

fn with_fake_of(test: &str, flags: &[&str], body: impl FnOnce(&Fake)) {
    let output = run(test, flags, body);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn with_fake(test: &str, body: impl FnOnce(&Fake)) {
    with_fake_of(test, &[], body);
}

/// Compiles `source` as the library, in `directory`.
fn compile(source: &[u8], directory: &Path, flags: &[&str]) {
    let mut compiler = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wall", "-Werror", "-Wl,-soname,libmpathpersist.so.0"])
        .args(flags)
        .args(["-x", "c", "-", "-o"])
        .arg(directory.join("libmpathpersist.so.0"))
        .stdin(Stdio::piped())
        .spawn()
        .expect("a C compiler, cc, is needed for this test");
    compiler.stdin.take().unwrap().write_all(source).unwrap();
    assert!(compiler.wait().unwrap().success());
}

/// Any descriptor: the fake looks at none.
fn map() -> File {
    File::open("/dev/null").unwrap()
}

fn register(library: &mut Library, ids: Option<TransportIds<'_>>) -> Result<(), Error> {
    let parameters = BasicParameters { transport_ids: ids, ..BasicParameters::default() };
    let (scope, kind) = (Scope::LogicalUnit, ReservationType::Other(0));
    library.reserve_out(map().as_fd(), OutServiceAction::Register, scope, kind, &parameters)
}

/// The header of a listing, as the library leaves it.
fn header(generation: u32, length: u32) -> Vec<u8> {
    [generation.to_ne_bytes(), length.to_ne_bytes()].concat()
}

#[test]
fn it_is_opened_once_in_a_process() {
    with_fake("it_is_opened_once_in_a_process", |fake| {
        let library = Library::open().unwrap();
        assert!(matches!(Library::open(), Err(OpenError::AlreadyOpen)));
        assert_eq!(library.version().file, Some(fake.directory.join("libmpathpersist.so.0")));
        drop(library);
        assert!(matches!(Library::open(), Err(OpenError::AlreadyOpen)));
        assert_eq!(fake.seen(), "", "libmpathpersist_exit is not called");
    });
}

#[test]
fn what_cannot_be_loaded_can_be_opened_later() {
    with_fake("what_cannot_be_loaded_can_be_opened_later", |fake| {
        let file = fake.directory.join("libmpathpersist.so.0");
        fs::rename(&file, fake.directory.join("kept")).unwrap();
        fs::write(&file, "no library").unwrap();
        let error = Library::open().unwrap_err();
        assert!(matches!(error, OpenError::Load(_)));
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("libmpathpersist.so.0"));
        fs::rename(fake.directory.join("kept"), &file).unwrap();
        Library::open().unwrap();
    });
}

#[test]
fn a_library_without_a_symbol_is_not_opened() {
    with_fake("a_library_without_a_symbol_is_not_opened", |fake| {
        fs::remove_file(fake.directory.join("libmpathpersist.so.0")).unwrap();
        compile(b"int libmpathpersist_init(void) { return 0; }", &fake.directory, &[]);
        let error = Library::open().unwrap_err();
        assert!(matches!(error, OpenError::Load(_)));
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("libmpathpersist_exit"));
    });
}

#[test]
fn a_library_that_cannot_be_initialised_is_not_tried_again() {
    with_fake("a_library_that_cannot_be_initialised_is_not_tried_again", |fake| {
        fake.write("init", b"1");
        assert!(matches!(Library::open(), Err(OpenError::Initialise)));
        fake.write("init", b"0");
        assert!(matches!(Library::open(), Err(OpenError::AlreadyOpen)));
    });
}

/// The generation is what its symbols say.
fn generation(test: &str, flags: &[&str], expected: Generation, shown: &str) {
    with_fake_of(test, flags, |_| {
        let version = Library::open().unwrap().version();
        assert_eq!(version.generation, expected);
        assert!(version.to_string().ends_with(shown), "{version}");
    });
}

#[test]
fn a_library_up_to_0_9_is_known() {
    generation("a_library_up_to_0_9_is_known", &[], Generation::UpTo9, "(multipath-tools 0.9 or older)");
}

#[test]
fn a_library_of_0_10_to_0_12_is_known() {
    let (flags, shown) = (&["-DGENERATION_10"], "(multipath-tools 0.10 to 0.12)");
    generation("a_library_of_0_10_to_0_12_is_known", flags, Generation::From10To12, shown);
}

#[test]
fn a_library_from_0_13_is_known() {
    let (flags, shown) = (&["-DGENERATION_10", "-DGENERATION_13"], "(multipath-tools 0.13 or newer)");
    generation("a_library_from_0_13_is_known", flags, Generation::From13, shown);
}

#[test]
fn each_code_comes_out() {
    with_fake("each_code_comes_out", |fake| {
        let mut library = Library::open().unwrap();
        let codes =
            Failure::ALL.iter().map(|failure| failure.code()).chain([-2, 18, 255, i32::MIN, i32::MAX]);
        for code in codes {
            fake.result(code);
            for error in [
                register(&mut library, None).unwrap_err(),
                library.read_keys(map().as_fd()).unwrap_err(),
                library.read_reservation(map().as_fd()).unwrap_err(),
                library.report_capabilities(map().as_fd()).unwrap_err(),
                library.read_full_status(map().as_fd()).unwrap_err(),
            ] {
                let failure = error.failure().unwrap();
                assert_eq!(failure.code(), code);
                assert_eq!(Failure::new(code), Some(failure));
                assert_eq!(matches!(failure, Failure::Unknown(_)), failure.name().is_none());
                assert_eq!(error.advice(), failure.advice());
            }
        }
        fake.result(0);
        register(&mut library, None).unwrap();
    });
}

#[test]
fn the_library_is_called_with_what_was_given() {
    with_fake("the_library_is_called_with_what_was_given", |fake| {
        let mut library = Library::open().unwrap();
        let map = map();
        let fd = map.as_raw_fd();
        let parameters = BasicParameters {
            reservation_key: ReservationKey(0x0102_0304_0506_0708),
            service_action_key: ReservationKey(0x1112_1314_1516_1718),
            aptpl: true,
            ..BasicParameters::default()
        };
        for code in [0, 1, 3, 4, 5, 6] {
            let action = OutServiceAction::new(code);
            let (scope, kind) = (Scope::new(code), ReservationType::new(15 - code));
            library.reserve_out(map.as_fd(), action, scope, kind, &parameters).unwrap();
            assert_eq!(fake.seen(), format!("out {fd} {code} {code} {} 0 0\n", 15 - code));
            assert_eq!(fake.list(), parameters.to_bytes());
        }
        for (verbosity, number) in [
            (Verbosity::Warnings, 1),
            (Verbosity::Notes, 2),
            (Verbosity::Answers, 3),
            (Verbosity::Everything, 4),
            (Verbosity::Errors, 0),
        ] {
            library.set_verbosity(verbosity);
            let (scope, kind) = (Scope::LogicalUnit, ReservationType::WriteExclusive);
            library.reserve_out(map.as_fd(), OutServiceAction::Clear, scope, kind, &parameters).unwrap();
            assert_eq!(fake.seen(), format!("out {fd} 3 0 1 0 {number}\n"));
        }
        let _ = library.read_keys(map.as_fd());
        let _ = library.read_reservation(map.as_fd());
        let _ = library.report_capabilities(map.as_fd());
        let _ = library.read_full_status(map.as_fd());
        assert_eq!(fake.seen(), format!("in {fd} 0 0 0\nin {fd} 1 0 0\nin {fd} 2 0 0\nin {fd} 3 0 0\n"));
    });
}

#[test]
fn thirty_two_transport_ids_reach_the_device_and_thirty_three_are_refused() {
    let test = "thirty_two_transport_ids_reach_the_device_and_thirty_three_are_refused";
    with_fake(test, |fake| {
        let mut library = Library::open().unwrap();
        let names: Vec<_> = (0..33).map(|number| format!("iqn.1994-05.com.example:host{number}")).collect();
        let ids: Vec<_> = (0..33_u8)
            .map(|number| {
                let name = IscsiName::new(names[usize::from(number)].as_bytes()).unwrap();
                match number % 4 {
                    0 => TransportId::FibreChannel { port_name: 0x1000_0000_c9f3_a500 + u64::from(number) },
                    1 => TransportId::IscsiDevice { name },
                    2 => TransportId::IscsiPort {
                        name,
                        session: IscsiSessionId::from_bytes([0, 2, 0x3d, 0, 0, number]),
                    },
                    _ => TransportId::Sas { address: 0x5000_c500_05b3_2000 + u64::from(number) },
                }
            })
            .collect();
        let mut buffer = [0; 4096];
        for count in [0, 1, 4, 32] {
            let list = TransportIds::build(&ids[..count], &mut buffer).unwrap();
            let parameters = BasicParameters {
                service_action_key: ReservationKey(0x0012_3abc),
                transport_ids: Some(list),
                all_target_ports: true,
                ..BasicParameters::default()
            };
            let (scope, kind) = (Scope::LogicalUnit, ReservationType::Other(0));
            library.reserve_out(map().as_fd(), OutServiceAction::Register, scope, kind, &parameters).unwrap();
            let mut expected = [0; 8192];
            let length = parameters.write(&mut expected).unwrap();
            assert_eq!(fake.list(), &expected[..length]);
        }
        fake.seen();
        let error =
            register(&mut library, Some(TransportIds::build(&ids, &mut buffer).unwrap())).unwrap_err();
        assert!(matches!(error, Error::TransportIdCount(33)));
        assert_eq!(fake.seen(), "", "the library is not called");
    });
}

#[test]
fn what_the_library_does_not_have_does_not_reach_it() {
    with_fake("what_the_library_does_not_have_does_not_reach_it", |fake| {
        let mut library = Library::open().unwrap();
        for action in [
            OutServiceAction::RegisterAndMove,
            OutServiceAction::ReplaceLostReservation,
            OutServiceAction::new(9),
        ] {
            let (scope, kind) = (Scope::LogicalUnit, ReservationType::WriteExclusive);
            let parameters = BasicParameters::default();
            let error = library.reserve_out(map().as_fd(), action, scope, kind, &parameters).unwrap_err();
            assert!(matches!(error, Error::ServiceAction(it) if it == action));
        }
        assert_eq!(fake.seen(), "");
    });
}

#[test]
fn only_what_is_held_is_released() {
    with_fake("only_what_is_held_is_released", |fake| {
        let mut library = Library::open().unwrap();
        let held = |key: u64, scope_type: u8| {
            [&header(1, 16)[..], &key.to_be_bytes(), &[0, 0, 0, 0, 0, scope_type, 0, 0]].concat()
        };
        let parameters = BasicParameters { reservation_key: ReservationKey(7), ..BasicParameters::default() };
        let kind = ReservationType::WriteExclusiveRegistrantsOnly;
        let mut release = |answer: &[u8], kind| {
            fake.answer(answer, &[]);
            fake.seen();
            let action = OutServiceAction::Release;
            let result = library.reserve_out(map().as_fd(), action, Scope::LogicalUnit, kind, &parameters);
            assert_eq!(fake.seen().contains("out"), result.is_ok(), "{result:?}");
            result
        };
        release(&held(7, 0x05), kind).unwrap();
        release(&header(1, 0), kind).unwrap();
        release(&held(0, 0x08), ReservationType::ExclusiveAccessAllRegistrants).unwrap();
        for (key, scope_type) in [(8, 0x05), (0, 0x05), (8, 0x01)] {
            assert!(matches!(
                release(&held(key, scope_type), kind),
                Err(Error::NotReservationHolder(Reservation { key: ReservationKey(it), .. })) if it == key
            ));
        }
        for (key, scope_type) in [(7, 0x06), (7, 0x15), (0, 0x07)] {
            assert!(matches!(release(&held(key, scope_type), kind), Err(Error::InvalidRelease(_))));
        }
        fake.result(15);
        assert_eq!(release(&held(7, 0x05), kind).unwrap_err().failure(), Some(Failure::Other));
    });
}

#[test]
fn keys_are_read_and_lengths_not_believed() {
    with_fake("keys_are_read_and_lengths_not_believed", |fake| {
        let mut library = Library::open().unwrap();
        let keys: Vec<_> = (1..=1023_u64).map(|key| key << 32 | 0xab).collect();
        let bytes: Vec<u8> = keys.iter().flat_map(|key| key.to_be_bytes()).collect();
        for (length, count, is_truncated) in [
            (0, 0, false),
            (8, 1, false),
            (20, 2, false),
            (8184, 1023, false),
            (8192, 1023, true),
            (0xffff_fff8, 1023, true),
        ] {
            fake.answer(&[&header(5, length)[..], &bytes].concat(), &[]);
            let read = library.read_keys(map().as_fd()).unwrap();
            assert_eq!(read.generation, 5);
            assert!(read.keys.iter().map(|key| key.0).eq(keys[..count].iter().copied()));
            assert_eq!(read.is_truncated, is_truncated);
        }
        for (answer, needed, got) in [
            // Three keys, it says, and sends two of them.
            ([&header(5, 24)[..], &bytes[..16]].concat(), 32, 24),
            // More than there can be, it says, and sends none.
            (header(5, 0x1_0000), 8192, 8),
            // Nothing at all.
            (Vec::new(), 8, 0),
        ] {
            fake.answer(&answer, &[]);
            let error = library.read_keys(map().as_fd()).unwrap_err();
            assert!(
                matches!(error, Error::Answer(InDataError::TooShort { needed: n, got: g }) if (n, g) == (needed, got)),
                "{error:?}"
            );
        }
    });
}

#[test]
fn the_reservation_is_read() {
    with_fake("the_reservation_is_read", |fake| {
        let mut library = Library::open().unwrap();
        let body = [0, 0, 0, 0, 0, 0x12, 0x3a, 0xbc, 0, 0, 0, 0, 0, 0x06, 0, 0];
        let kind = ReservationType::ExclusiveAccessRegistrantsOnly;
        let held = Reservation { key: ReservationKey(0x0012_3abc), scope: Scope::LogicalUnit, kind };
        for (length, expected) in [(0, None), (16, Some(held)), (u32::MAX - 1, Some(held))] {
            fake.answer(&[&header(0x0102_0304, length)[..], &body].concat(), &[]);
            let report = library.read_reservation(map().as_fd()).unwrap();
            assert_eq!((report.generation, report.reservation), (0x0102_0304, expected));
        }
        fake.answer(&[&header(1, 8)[..], &body].concat(), &[]);
        let error = library.read_reservation(map().as_fd()).unwrap_err();
        assert!(matches!(error, Error::Answer(InDataError::Length(8))));
        fake.answer(&[], &[]);
        let error = library.read_reservation(map().as_fd()).unwrap_err();
        assert!(matches!(error, Error::Answer(InDataError::TooShort { .. })));
    });
}

#[test]
fn capabilities_are_in_the_devices_byte_order_again() {
    with_fake("capabilities_are_in_the_devices_byte_order_again", |fake| {
        let mut library = Library::open().unwrap();
        let capabilities = Capabilities {
            specify_initiator_ports: true,
            persist_through_power_loss_activated: true,
            allow_commands: 3,
            types: Some(TypeMask::new([
                ReservationType::WriteExclusive,
                ReservationType::ExclusiveAccessAllRegistrants,
            ])),
            ..Capabilities::default()
        };
        let [l0, l1, b2, b3, b4, b5, b6, b7] = capabilities.to_bytes();
        let [l0, l1] = u16::from_be_bytes([l0, l1]).to_ne_bytes();
        let [b4, b5] = u16::from_be_bytes([b4, b5]).to_ne_bytes();
        fake.answer(&[l0, l1, b2, b3, b4, b5, b6, b7], &[]);
        assert_eq!(library.report_capabilities(map().as_fd()).unwrap(), capabilities);
        fake.answer(&[], &[]);
        let error = library.report_capabilities(map().as_fd()).unwrap_err();
        assert!(matches!(error, Error::Answer(InDataError::Length(0))));
    });
}

/// What the library makes of registrations: each decoded, and a pointer to each.
fn full_status(registrations: &[Vec<u8>]) -> (Vec<u8>, Vec<(u64, u64)>) {
    let mut bytes = header(9, u32::try_from(registrations.len()).unwrap());
    let mut pointers = Vec::new();
    for (slot, registration) in (0..).zip(registrations) {
        pointers.push((8200 + 8 * slot, 8 + 270 * slot));
        bytes.extend(registration);
        bytes.resize(8 + 270 * (usize::try_from(slot).unwrap() + 1), 0);
    }
    (bytes, pointers)
}

fn registration(key: u64, flags: u8, format: u8, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let head = [flags, 0x05, 0x02, 0x01, format, protocol];
    [&key.to_be_bytes()[..], &head, payload].concat()
}

#[test]
fn the_full_status_is_read() {
    with_fake("the_full_status_is_read", |fake| {
        let mut library = Library::open().unwrap();
        let (name, long) = (b"iqn.1994-05.com.example:host,i,0x00023d000001\0stale", [b'x'; 256]);
        let (bytes, pointers) = full_status(&[
            registration(1, 0x00, 0, 0, &[0x10, 0, 0, 0, 0xc9, 0xf3, 0xa5, 0x71]),
            registration(2, 0x01, 1, 5, name),
            registration(3, 0x02, 0, 5, &name[..28]),
            registration(4, 0x03, 0, 6, &[0x50, 0, 0xc5, 0, 0x05, 0xb3, 0x20, 0x01]),
            registration(5, 0x00, 0, 4, &[0xff; 16]),
            registration(6, 0x00, 1, 5, b"iqn.no.separator"),
            registration(7, 0x00, 0, 5, &long),
            registration(8, 0x00, 2, 6, &[0xff; 8]),
        ]);
        fake.answer(&bytes, &pointers);
        let status = library.read_full_status(map().as_fd()).unwrap();
        assert_eq!(status.generation, 9);
        let ids: Vec<_> = status
            .registrations
            .iter()
            .map(|registration| registration.transport_id.map(|id| id.to_string()).unwrap_or_default())
            .collect();
        assert_eq!(
            ids,
            [
                "fcp,10000000c9f3a571",
                "iqn.1994-05.com.example:host,i,0x00023d000001",
                "iqn.1994-05.com.example:host",
                "sas,5000c50005b32001",
                "",
                "",
                "",
                "",
            ]
        );
        for (number, registration) in (1..).zip(&status.registrations) {
            assert_eq!(registration.key, ReservationKey(number));
            assert_eq!(registration.scope, Scope::LogicalUnit);
            assert_eq!(registration.kind, ReservationType::WriteExclusiveRegistrantsOnly);
            assert_eq!(registration.relative_port, u16::from_ne_bytes([0x02, 0x01]));
            assert_eq!(registration.reservation_holder, number == 2 || number == 4);
            assert_eq!(registration.all_target_ports, number == 3 || number == 4);
        }
    });
}

#[test]
fn twenty_nine_registrations_are_read_and_thirty_refused() {
    with_fake("twenty_nine_registrations_are_read_and_thirty_refused", |fake| {
        let mut library = Library::open().unwrap();
        let registrations: Vec<_> = (1..=30).map(|key| registration(key, 0, 0, 6, &[1; 8])).collect();
        for count in [0, 1, 29] {
            let (bytes, pointers) = full_status(&registrations[..count]);
            fake.answer(&bytes, &pointers);
            assert_eq!(library.read_full_status(map().as_fd()).unwrap().registrations.len(), count);
        }
        let (bytes, pointers) = full_status(&registrations);
        fake.answer(&bytes, &pointers);
        let error = library.read_full_status(map().as_fd()).unwrap_err();
        assert!(matches!(error, Error::TooManyRegistrations));
        // ADDITIONAL LENGTH, as the library leaves it where it is too large.
        fake.answer(&header(1, 8200), &[]);
        let error = library.read_full_status(map().as_fd()).unwrap_err();
        assert!(matches!(error, Error::TooManyRegistrations));
    });
}

#[test]
fn a_full_status_that_lies_is_an_error() {
    with_fake("a_full_status_that_lies_is_an_error", |fake| {
        let mut library = Library::open().unwrap();
        let (bytes, pointers) = full_status(&[registration(1, 0, 0, 6, &[1; 8]), vec![0; 270]]);
        fake.answer(&bytes, &pointers);
        let error = library.read_full_status(map().as_fd()).unwrap_err();
        assert!(matches!(error, Error::Answer(InDataError::TooShort { needed: 56, got: 32 })), "{error:?}");
        fake.answer(&[], &[]);
        let error = library.read_full_status(map().as_fd()).unwrap_err();
        assert!(matches!(error, Error::Answer(InDataError::TooShort { needed: 8, got: 0 })));
        // Pointers to elsewhere, before, behind and across the end, and none.
        let bytes = full_status(&[registration(1, 0, 0, 6, &[1; 8])]).0;
        for to in [0, 7, 8200 - 269, 8200, 1 << 40, u64::MAX, u64::MAX - 4096] {
            fake.answer(&bytes, &[(8200, to)]);
            let error = library.read_full_status(map().as_fd()).unwrap_err();
            assert!(matches!(error, Error::Overrun), "{error:?}");
        }
        fake.answer(&bytes, &[]);
        assert!(matches!(library.read_full_status(map().as_fd()), Err(Error::Overrun)));
    });
}

/// How far 0.9.4 to 0.15.1 write at most while they go forward.
const REACH: usize = 8 + 342 * 270;

#[test]
fn what_is_written_too_far_is_noticed() {
    with_fake("what_is_written_too_far_is_noticed", |fake| {
        let mut library = Library::open().unwrap();
        fake.answer(&[&header(1, 342)[..], &vec![1; REACH - 8]].concat(), &[]);
        let error = library.read_full_status(map().as_fd()).unwrap_err();
        assert!(matches!(error, Error::TooManyRegistrations));
        fake.answer(&[&header(1, 1)[..], &vec![1; REACH]].concat(), &[]);
        for error in [
            library.read_keys(map().as_fd()).unwrap_err(),
            library.read_reservation(map().as_fd()).unwrap_err(),
            library.report_capabilities(map().as_fd()).unwrap_err(),
            library.read_full_status(map().as_fd()).unwrap_err(),
        ] {
            assert!(matches!(error, Error::Overrun));
        }
        // And forgotten.
        fake.answer(&header(1, 0), &[]);
        assert_eq!(library.read_keys(map().as_fd()).unwrap().keys, []);
    });
}

#[test]
fn what_is_written_without_an_end_ends_the_process() {
    let output = run("what_is_written_without_an_end_ends_the_process", &[], |fake| {
        let mut library = Library::open().unwrap();
        fake.answer(&vec![1; REACH + 2 * 4096], &[]);
        let result = library.read_full_status(map().as_fd());
        panic!("{result:?}");
    });
    assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn multipathd_is_asked() {
    with_fake("multipathd_is_asked", |fake| {
        let library = Library::open().unwrap();
        let ask = || library.multipathd_is_running(Duration::from_millis(1500));
        fake.write("multipathd", b"running");
        assert!(ask().unwrap());
        assert_eq!(fake.seen(), "multipathd show daemon 1500\n");
        fake.write("multipathd", b"refused");
        assert!(!ask().unwrap());
        fake.write("multipathd", b"busy");
        assert_eq!(ask().unwrap_err().kind(), ErrorKind::WouldBlock);
        fake.write("multipathd", b"silent");
        assert_eq!(ask().unwrap_err().kind(), ErrorKind::TimedOut);
    });
}
