//! Descriptors of a FUSE file. Any user with a FUSE server can make close(2) of such a descriptor block for
//! ever, and unlike the close of a socket it cannot be interrupted by SIGKILL.

use std::{
    ffi::CString,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::Path,
    process::Command,
    ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    process::Signal,
};
use test_support::{Client, Daemon, eventually};

use crate::{null, read_keys};

/// The server ends after this time in any case: threads that wait for it cannot be killed.
const WATCHDOG: Duration = Duration::from_secs(120);

/// A file system with one file. The server answers the requests of all processes but the victim's. The
/// children of this process must be answered, too: they close its files when they execute a program.
struct Fuse {
    /// Open for writing.
    file: Option<File>,
    /// The `abort` file of the connection in the fusectl file system, if that could be mounted.
    abort: Option<File>,
    /// The process ID of the victim.
    victim: Arc<AtomicU32>,
    /// The number of requests that were left without an answer.
    unanswered: Arc<AtomicUsize>,
    /// Tells the server to end.
    stop: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Fuse {
    /// Mounts the file system. Returns `None` and prints the reason if there is no FUSE or no permission to
    /// mount.
    fn start() -> Option<Self> {
        let connection =
            File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/fuse");
        let connection = match connection {
            Ok(connection) => connection,
            Err(error) => {
                eprintln!("not run: FUSE cannot be used: /dev/fuse: {error}");
                return None;
            }
        };
        let data = format!("fd={},rootmode=40000,user_id=0,group_id=0", connection.as_raw_fd());
        let mut fuse = Self {
            file: None,
            abort: None,
            victim: Arc::default(),
            unanswered: Arc::default(),
            stop: Arc::default(),
            server: None,
        };
        let (victim, unanswered) = (Arc::clone(&fuse.victim), Arc::clone(&fuse.unanswered));
        let stop = Arc::clone(&fuse.stop);
        // The thread owns the only descriptor of the connection, which therefore ends with it.
        let server = thread::spawn(move || serve(&connection, &victim, &unanswered, &stop));
        fuse.server = Some(server);
        // The mounts exist only in the thread's mount namespace: they vanish with the thread and the files
        // opened there.
        match thread::spawn(move || mount(&data)).join().unwrap() {
            Ok((file, abort)) => (fuse.file, fuse.abort) = (Some(file), abort),
            Err(error) => {
                eprintln!("not run: FUSE cannot be used: {error}");
                return None;
            }
        }
        Some(fuse)
    }

    fn file(&self) -> File {
        self.file.as_ref().unwrap().try_clone().unwrap()
    }

    /// Returns how many requests were left without an answer.
    fn unanswered(&self) -> usize {
        self.unanswered.load(Ordering::SeqCst)
    }

    /// Ends the server without unmounting, like a crash.
    fn end(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(server) = self.server.take() {
            server.join().unwrap();
        }
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        // The file must go first: the server has to answer its close.
        self.file = None;
        self.end();
    }
}

/// Mounts the file system in a mount namespace of its own. Opens its file and, if fusectl can be mounted, the
/// `abort` file.
fn mount(data: &str) -> io::Result<(File, Option<File>)> {
    let directory = tempfile::tempdir()?;
    let [target, control] = ["fuse", "control"].map(|name| directory.path().join(name));
    for path in [&target, &control] {
        fs::create_dir(path)?;
    }
    // SAFETY: the call takes no pointers and affects only this thread.
    if unsafe { libc::unshare(libc::CLONE_FS | libc::CLONE_NEWNS) } != 0 {
        return Err(io::Error::last_os_error());
    }
    call_mount("none", Path::new("/"), None, libc::MS_REC | libc::MS_PRIVATE, "")?;
    call_mount("pr-helper-test", &target, Some("fuse"), libc::MS_NOSUID | libc::MS_NODEV, data)?;
    let file = File::options().read(true).write(true).open(target.join("file"))?;
    let minor = libc::minor(file.metadata()?.dev());
    let abort = call_mount("none", &control, Some("fusectl"), 0, "")
        .and_then(|()| File::options().write(true).open(control.join(minor.to_string()).join("abort")));
    Ok((file, abort.inspect_err(|error| eprintln!("there is no fusectl: {error}")).ok()))
}

fn call_mount(source: &str, target: &Path, kind: Option<&str>, flags: u64, data: &str) -> io::Result<()> {
    let source = CString::new(source)?;
    let target = CString::new(target.as_os_str().as_encoded_bytes())?;
    let kind = kind.map(CString::new).transpose()?;
    let data = CString::new(data)?;
    // SAFETY: all pointers are to strings that outlive the call, or null where that is allowed.
    let result = unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            kind.as_ref().map_or(ptr::null(), |kind| kind.as_ptr()),
            flags,
            data.as_ptr().cast(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Opcodes of `<linux/fuse.h>`.
const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const RELEASE: u32 = 18;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

fn serve(mut connection: &File, victim: &AtomicU32, unanswered: &AtomicUsize, stop: &AtomicBool) {
    let mut buffer = vec![0; 1 << 17];
    let begun = Instant::now();
    while !stop.load(Ordering::SeqCst) && begun.elapsed() < WATCHDOG {
        let timeout = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        let mut events = [PollFd::new(connection, PollFlags::IN)];
        rustix::event::poll(&mut events, Some(&timeout)).unwrap();
        let request = match connection.read(&mut buffer) {
            Ok(length) => &buffer[..length],
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR | libc::ENOENT) => continue,
                // Not mounted yet.
                Some(libc::EPERM) => {
                    thread::sleep(Duration::from_millis(1));
                    continue;
                }
                // Aborted, or unmounted.
                _ => return,
            },
        };
        // struct fuse_in_header
        let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
        let (opcode, thread) = (word(4), word(32));
        if [FORGET, BATCH_FORGET, INTERRUPT].contains(&opcode) {
            continue;
        }
        // Requests of the kernel itself, such as INIT, have thread 0.
        let task = format!("/proc/{}/task/{thread}", victim.load(Ordering::SeqCst));
        if thread != 0 && Path::new(&task).exists() {
            unanswered.fetch_add(1, Ordering::SeqCst);
            continue;
        }
        let (error, body) = answer(opcode);
        // struct fuse_out_header
        let mut reply = Vec::new();
        reply.extend(u32::try_from(16 + body.len()).unwrap().to_ne_bytes());
        reply.extend((-error).to_ne_bytes());
        reply.extend(&request[8..16]);
        reply.extend(body);
        // ENOENT if the request was interrupted meanwhile.
        let _ = connection.write_all(&reply);
    }
}

/// Returns the errno and the body of the answer to this opcode.
fn answer(opcode: u32) -> (i32, Vec<u8>) {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
    // struct fuse_attr: zero except for mode, links and block size.
    let attributes = |mode| {
        let mut attributes = vec![0; 15];
        attributes.extend([mode, 1, 0, 0, 0, 4096, 0]);
        words(&attributes)
    };
    let file = attributes(libc::S_IFREG | 0o600);
    match opcode {
        // struct fuse_init_out, version 7.31: max_write is a page.
        INIT => (0, words(&[7, 31, 0, 0, 0, 4096, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
        // struct fuse_entry_out: node 2. Nothing may be cached, so that each access sends a request.
        LOOKUP => (0, [words(&[2, 0, 0, 0, 0, 0, 0, 0, 0, 0]), file].concat()),
        // struct fuse_attr_out
        GETATTR => (0, [words(&[0, 0, 0, 0]), file].concat()),
        // struct fuse_open_out
        OPEN => (0, words(&[0, 0, 0, 0])),
        FLUSH | RELEASE => (0, Vec::new()),
        _ => (libc::ENOSYS, Vec::new()),
    }
}

/// Sends a command with a descriptor of the file. The daemon refuses it and replies before it closes the
/// descriptor.
fn send(daemon: &Daemon, fuse: &Fuse) -> Client {
    fuse.victim.store(daemon.pid(), Ordering::SeqCst);
    let mut client = daemon.client();
    client.expect_reply_to(&read_keys(8)[..10], &[]);
    client.send(&read_keys(8), &[fuse.file().as_fd()]).unwrap();
    assert_eq!(client.reply().unwrap().sense_code(), Some((5, 0x20, 0)));
    client
}

/// Makes the daemon hang in closing a descriptor of the file.
fn hang(daemon: &Daemon, fuse: &Fuse) -> Client {
    let client = send(daemon, fuse);
    eventually("the daemon closes the descriptor", || fuse.unanswered() > 0);
    client
}

/// The environment variable that passes the daemon's socket to the bystander.
const SOCKET: &str = "FUSE_SOCKET";

/// Not a test: an unrelated client in a process of its own, so that the quotas of the attacking process do
/// not apply to it.
#[test]
#[ignore = "is started by another test"]
fn bystander() {
    let Some(socket) = std::env::var_os(SOCKET) else { return };
    let mut client = Client::connect(Path::new(&socket)).unwrap();
    for _ in 0..20 {
        let begun = Instant::now();
        assert!(client.read(null(), &read_keys(8)[..10]).unwrap().sense_code().is_some());
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}

fn assert_bystander_is_served(daemon: &Daemon) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "fuse::bystander", "--ignored"]).env(SOCKET, daemon.socket());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Returns how many threads of the process are in uninterruptible sleep (state D).
fn uninterruptible_threads(daemon: &Daemon) -> usize {
    let Ok(threads) = fs::read_dir(format!("/proc/{}/task", daemon.pid())) else { return 0 };
    let stats = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("stat")).ok());
    stats.filter(|stat| stat.contains(") D ")).count()
}

/// Starts a daemon and stops it while it hangs in closing a descriptor of this file system.
fn stop_while_hanging(fuse: &Fuse) -> Daemon {
    let daemon = Daemon::start(&[]);
    let (mut healthy, mut hostile) = (daemon.client(), hang(&daemon, fuse));
    daemon.signal(Signal::TERM);
    assert!(healthy.is_closed() && hostile.is_closed());
    eventually("the socket is removed", || !daemon.socket().exists());
    // The process is a zombie with one remaining thread.
    eventually("one thread remains", || {
        uninterruptible_threads(&daemon) == 1 && daemon.status("State").starts_with('Z')
    });
    daemon.signal(Signal::KILL);
    thread::sleep(Duration::from_secs(1));
    assert_eq!(uninterruptible_threads(&daemon), 1, "not even SIGKILL ends it");
    daemon
}

#[test]
fn hanging_fuse_close_delays_no_client() {
    let Some(mut fuse) = Fuse::start() else { return };
    let daemon = Daemon::start(&[]);
    let mut hostile = vec![hang(&daemon, &fuse)];
    hostile.extend((0..7).map(|_| send(&daemon, &fuse)));
    assert_bystander_is_served(&daemon);
    // Other connections of the attacking process are not delayed either.
    let begun = Instant::now();
    assert!(daemon.client().read(null(), &read_keys(8)[..10]).is_ok());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    // The daemon closes these connections before their descriptors.
    drop(hostile);
    assert_bystander_is_served(&daemon);
    fuse.end();
    eventually("all descriptors are closed", || daemon.descriptors() == daemon.idle_descriptors());
    daemon.stop();
}

#[test]
fn process_exits_after_fuse_server_ends() {
    let Some(mut fuse) = Fuse::start() else { return };
    let mut daemon = stop_while_hanging(&fuse);
    let successor = Daemon::command().args(["--unprivileged", "-k"]).arg(daemon.socket()).spawn();
    let mut successor = successor.unwrap();
    eventually("another daemon can use the socket", || Client::connect(&daemon.socket()).is_ok());
    successor.kill().unwrap();
    successor.wait().unwrap();
    fuse.end();
    daemon.wait();
}

/// Follows the remedy that docs/security.md gives to operators.
#[test]
fn process_exits_after_fuse_abort() {
    let Some(fuse) = Fuse::start() else { return };
    let Some(mut abort) = fuse.abort.as_ref() else { return };
    let mut daemon = stop_while_hanging(&fuse);
    abort.write_all(b"1").unwrap();
    daemon.wait();
}
