//! Tests the whole crate with a fake library, compiled for each test, that records its arguments and returns prepared
//! answers. Each test runs in a separate process, since a process can open the library only once.

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
    BasicParameters, InDataError, IscsiName, IscsiSessionId, OutServiceAction, Reservation, ReservationKey,
    ReservationType, Scope, TransportId, TransportIds,
};

/// The directory of the fake library, with the files of its prepared answers and recorded calls. Used in the process
/// that loads the fake library.
struct Fake {
    directory: PathBuf,
}

impl Fake {
    /// Sets the code that the library returns from now on.
    fn set_result(&self, code: i32) {
        self.write("result", code.to_string().as_bytes());
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.directory.join(name), bytes).unwrap();
    }

    /// Returns the calls of the library since the last call of this method.
    fn take_calls(&self) -> String {
        let calls = fs::read_to_string(self.directory.join("calls")).unwrap_or_default();
        self.write("calls", b"");
        calls
    }

    /// Returns the last parameter list that a device would have received.
    fn list(&self) -> Vec<u8> {
        fs::read(self.directory.join("list")).unwrap()
    }
}

/// Runs `body` in a process that loads the fake library, compiled with `flags`. `test` is the name of the calling test.
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

/// Compiles `source` as the library in `directory`.
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

/// Returns the dynamic loader's message.
fn loader_message(error: &OpenError) -> String {
    std::error::Error::source(error).unwrap().to_string()
}

/// Returns a descriptor for the map. The fake library does not use it, so any file will do.
fn map() -> File {
    File::open("/dev/null").unwrap()
}

fn register(library: &mut Library, ids: Option<TransportIds<'_>>) -> Result<(), Error> {
    let parameters = BasicParameters { transport_ids: ids, ..BasicParameters::default() };
    let (scope, kind) = (Scope::LogicalUnit, ReservationType::Other(0));
    library.reserve_out(map().as_fd(), OutServiceAction::Register, scope, kind, &parameters)
}

fn release(library: &mut Library) -> Result<(), Error> {
    let (scope, kind) = (Scope::LogicalUnit, ReservationType::WriteExclusive);
    library.reserve_out(map().as_fd(), OutServiceAction::Release, scope, kind, &BasicParameters::default())
}

/// Returns the header of an answer in the format of the library, which converts it to the host's byte order.
fn header(generation: u32, length: u32) -> Vec<u8> {
    [generation.to_ne_bytes(), length.to_ne_bytes()].concat()
}

#[test]
fn library_is_opened_once_in_a_process() {
    with_fake("library_is_opened_once_in_a_process", |fake| {
        let library = Library::open().unwrap();
        assert!(matches!(Library::open(), Err(OpenError::AlreadyOpen)));
        assert_eq!(library.version().file, Some(fake.directory.join("libmpathpersist.so.0")));
        assert!(matches!(Library::open(), Err(OpenError::AlreadyOpen)));
        assert_eq!(fake.take_calls(), "", "libmpathpersist_exit is not called");
    });
}

#[test]
fn open_succeeds_after_load_failure_is_fixed() {
    with_fake("open_succeeds_after_load_failure_is_fixed", |fake| {
        let file = fake.directory.join("libmpathpersist.so.0");
        fs::rename(&file, fake.directory.join("kept")).unwrap();
        fs::write(&file, "no library").unwrap();
        let error = Library::open().unwrap_err();
        assert!(matches!(error, OpenError::Load(_)), "{error:?}");
        assert!(loader_message(&error).contains("libmpathpersist.so.0"));
        fs::rename(fake.directory.join("kept"), &file).unwrap();
        Library::open().unwrap();
    });
}

#[test]
fn library_without_symbol_is_not_opened() {
    with_fake("library_without_symbol_is_not_opened", |fake| {
        fs::remove_file(fake.directory.join("libmpathpersist.so.0")).unwrap();
        compile(b"int libmpathpersist_init(void) { return 0; }", &fake.directory, &[]);
        let error = Library::open().unwrap_err();
        assert!(matches!(error, OpenError::Load(_)), "{error:?}");
        assert!(loader_message(&error).contains("undefined symbol: libmpathpersist_exit"), "{error:?}");
    });
}

#[test]
fn missing_dependency_is_not_missing_library() {
    with_fake("missing_dependency_is_not_missing_library", |fake| {
        let (file, below) =
            (fake.directory.join("libmpathpersist.so.0"), fake.directory.join("libbelow.so.8"));
        fs::rename(&file, &below).unwrap();
        let needed = format!("-Wl,--no-as-needed,-soname,libmpathpersist.so.0,{}", below.display());
        compile(b"int below;", &fake.directory, &["-Wl,-soname,libbelow.so.8"]);
        fs::rename(&file, &below).unwrap();
        compile(b"int above;", &fake.directory, &[&needed]);
        fs::remove_file(&below).unwrap();
        let error = Library::open().unwrap_err();
        let expected = "libbelow.so.8: cannot open shared object file: No such file or directory";
        assert!(matches!(&error, OpenError::Load(message) if message.to_string() == expected), "{error:?}");

        // The loader continues its search in the host's directories, which may have the library.
        fs::remove_file(&file).unwrap();
        match Library::open() {
            Err(OpenError::NotInstalled(message)) => {
                let expected =
                    "libmpathpersist.so.0: cannot open shared object file: No such file or directory";
                assert_eq!(message.to_string(), expected);
            }
            other => assert!(other.is_ok(), "{other:?}"),
        }
    });
}

#[test]
fn failed_initialisation_is_not_repeated() {
    with_fake("failed_initialisation_is_not_repeated", |fake| {
        fake.write("init", b"1");
        assert!(matches!(Library::open(), Err(OpenError::Initialise)));
        fake.write("init", b"0");
        assert!(matches!(Library::open(), Err(OpenError::AlreadyOpen)));
    });
}

/// Checks that a library compiled with `flags` has the `expected` generation.
fn generation(test: &str, flags: &[&str], expected: Generation, shown: &str) {
    with_fake_of(test, flags, |_| {
        let version = Library::open().unwrap().version();
        assert_eq!(version.generation, expected);
        assert!(version.to_string().ends_with(shown), "{version}");
    });
}

#[test]
fn library_up_to_0_9_is_recognised() {
    generation("library_up_to_0_9_is_recognised", &[], Generation::UpTo9, "(multipath-tools 0.9 or older)");
}

#[test]
fn library_of_0_10_is_recognised() {
    let (flags, shown) = (&["-DGENERATION_10"], "(multipath-tools 0.10 to 0.12)");
    generation("library_of_0_10_is_recognised", flags, Generation::From10To12, shown);
}

#[test]
fn library_from_0_13_is_recognised() {
    let (flags, shown) = (&["-DGENERATION_10", "-DGENERATION_13"], "(multipath-tools 0.13 or newer)");
    generation("library_from_0_13_is_recognised", flags, Generation::From13, shown);
}

#[test]
fn every_failure_code_is_returned() {
    with_fake("every_failure_code_is_returned", |fake| {
        let mut library = Library::open().unwrap();
        let codes =
            Failure::ALL.iter().map(|failure| failure.code()).chain([-2, 18, 255, i32::MIN, i32::MAX]);
        for code in codes {
            fake.set_result(code);
            for error in [register(&mut library, None).unwrap_err(), release(&mut library).unwrap_err()] {
                let failure = error.failure().unwrap();
                assert_eq!(failure.code(), code);
                assert_eq!(Failure::new(code), Some(failure));
                assert_eq!(matches!(failure, Failure::Unknown(_)), failure.name().is_none());
                assert_eq!(error.advice(), failure.advice());
            }
        }
        fake.set_result(0);
        register(&mut library, None).unwrap();
    });
}

#[test]
fn library_gets_the_given_arguments() {
    with_fake("library_gets_the_given_arguments", |fake| {
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
            assert_eq!(fake.take_calls(), format!("out {fd} {code} {code} {} 0 0\n", 15 - code));
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
            assert_eq!(fake.take_calls(), format!("out {fd} 3 0 1 0 {number}\n"));
        }
        fake.write("answer", &header(1, 0));
        let action = OutServiceAction::Release;
        let (scope, kind) = (Scope::LogicalUnit, ReservationType::WriteExclusive);
        library.reserve_out(map.as_fd(), action, scope, kind, &parameters).unwrap();
        assert_eq!(fake.take_calls(), format!("in {fd} 1 0 0\nout {fd} 2 0 1 0 0\n"));
    });
}

#[test]
fn at_most_32_transport_ids_are_sent() {
    let test = "at_most_32_transport_ids_are_sent";
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
        fake.take_calls();
        let error =
            register(&mut library, Some(TransportIds::build(&ids, &mut buffer).unwrap())).unwrap_err();
        assert!(matches!(error, Error::TransportIdCount(33)));
        assert_eq!(fake.take_calls(), "", "the library is not called");
    });
}

#[test]
fn unsupported_service_actions_are_refused() {
    with_fake("unsupported_service_actions_are_refused", |fake| {
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
        assert_eq!(fake.take_calls(), "");
    });
}

#[test]
fn release_needs_the_held_reservation() {
    with_fake("release_needs_the_held_reservation", |fake| {
        let mut library = Library::open().unwrap();
        let held = |key: u64, scope_type: u8| {
            [&header(1, 16)[..], &key.to_be_bytes(), &[0, 0, 0, 0, 0, scope_type, 0, 0]].concat()
        };
        let parameters = BasicParameters { reservation_key: ReservationKey(7), ..BasicParameters::default() };
        let kind = ReservationType::WriteExclusiveRegistrantsOnly;
        let mut release = |answer: &[u8], kind| {
            fake.write("answer", answer);
            fake.take_calls();
            let action = OutServiceAction::Release;
            let result = library.reserve_out(map().as_fd(), action, Scope::LogicalUnit, kind, &parameters);
            assert_eq!(fake.take_calls().contains("out"), result.is_ok(), "{result:?}");
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
        fake.set_result(15);
        assert_eq!(release(&held(7, 0x05), kind).unwrap_err().failure(), Some(Failure::Other));
    });
}

/// RELEASE reads the reservation first, and sends nothing if that fails.
#[test]
fn unreadable_reservation_is_not_released() {
    with_fake("unreadable_reservation_is_not_released", |fake| {
        let mut library = Library::open().unwrap();
        let parameters =
            BasicParameters { reservation_key: ReservationKey(0x0012_3abc), ..BasicParameters::default() };
        let mut release = |answer: &[u8]| {
            fake.write("answer", answer);
            fake.take_calls();
            let (action, kind) = (OutServiceAction::Release, ReservationType::ExclusiveAccessRegistrantsOnly);
            let result = library.reserve_out(map().as_fd(), action, Scope::LogicalUnit, kind, &parameters);
            assert_eq!(fake.take_calls().contains("out"), result.is_ok(), "{result:?}");
            result
        };
        let body = [0, 0, 0, 0, 0, 0x12, 0x3a, 0xbc, 0, 0, 0, 0, 0, 0x06, 0, 0];
        for length in [0, 16, u32::MAX - 1] {
            release(&[&header(0x0102_0304, length)[..], &body].concat()).unwrap();
        }
        let error = release(&[&header(1, 8)[..], &body].concat()).unwrap_err();
        assert!(matches!(error, Error::Answer(InDataError::Length(8))), "{error:?}");
        let error = release(&[]).unwrap_err();
        assert!(matches!(error, Error::Answer(InDataError::TooShort { needed: 8, got: 0 })), "{error:?}");
        // The size of the library's structure.
        release(&[&header(1, 0)[..], &[0xff; 8192]].concat()).unwrap();
    });
}

#[test]
fn multipathd_state_is_queried() {
    with_fake("multipathd_state_is_queried", |fake| {
        let library = Library::open().unwrap();
        let ask = || library.multipathd_is_running(Duration::from_millis(1500));
        fake.write("multipathd", b"running");
        assert!(ask().unwrap());
        assert_eq!(fake.take_calls(), "multipathd show daemon 1500\n");
        fake.write("multipathd", b"refused");
        assert!(!ask().unwrap());
        fake.write("multipathd", b"busy");
        assert_eq!(ask().unwrap_err().kind(), ErrorKind::WouldBlock);
        fake.write("multipathd", b"silent");
        assert_eq!(ask().unwrap_err().kind(), ErrorKind::TimedOut);
    });
}
