//! A helper in a thread of another program, with an observer of its own: `embedded SOCKET DIRECTORY`.
//!
//! Serves regular files, whose reservations it keeps in DIRECTORY, so it takes neither a SCSI disk nor root. Ends when its
//! standard input does.

use std::{
    env,
    error::Error,
    io::{self, Read, Write},
    os::unix::net::UnixListener,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use pr_backend::{DEFAULT_INITIATOR, Emulated, Executor};
use pr_server::{CommandName, Event, Observer, Server};

/// Counts commands and prints each.
struct Count<W> {
    commands: AtomicU64,
    output: Mutex<W>,
}

impl<W: Write> Count<W> {
    fn print(&self, line: &str) -> io::Result<()> {
        writeln!(self.output.lock().unwrap_or_else(PoisonError::into_inner), "{line}")
    }
}

impl<W: Write + Send> Observer for Count<W> {
    fn event(&self, event: &Event<'_>) {
        if let Event::Completed(command) = event {
            self.commands.fetch_add(1, Ordering::Relaxed);
            let (client, name, status) = (command.client, CommandName(command.cdb), command.outcome.status());
            // The client gets its reply even if nothing reads this output.
            let _ = self.print(&format!("{client}: {name}: {status}"));
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1);
    let (Some(socket), Some(directory)) = (arguments.next(), arguments.next()) else {
        return Err("usage: embedded SOCKET DIRECTORY".into());
    };
    run(Path::new(&socket), Path::new(&directory), &mut io::stdin(), io::stdout())
}

/// Serves clients until `input` ends.
pub fn run(
    socket: &Path,
    directory: &Path,
    input: &mut impl Read,
    output: impl Write + Send + 'static,
) -> Result<(), Box<dyn Error>> {
    let executor = Executor::new().with(Emulated::open(directory, &[DEFAULT_INITIATOR])?);
    let count = Arc::new(Count { commands: AtomicU64::new(0), output: Mutex::new(output) });
    let listener = UnixListener::bind(socket)?;
    let server = Server::builder(executor).listen(listener).observer(Arc::clone(&count)).build()?;
    let handle = server.handle();
    let running = thread::spawn(|| server.run());
    io::copy(input, &mut io::sink())?;
    handle.shutdown(Duration::from_secs(10));
    let ended = running.join().map_err(|_| "the server has panicked")??;
    count.print(&format!("{} commands; {ended:?}", count.commands.load(Ordering::Relaxed)))?;
    std::fs::remove_file(socket)?;
    Ok(())
}
