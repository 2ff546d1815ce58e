//! A helper in a thread of another program, with an observer of its own: `embedded SOCKET DIRECTORY`.
//!
//! Serves regular files, whose reservations it keeps in DIRECTORY, so it takes neither a SCSI disk nor root. Ends when its
//! standard input does.

use std::{
    env,
    error::Error,
    io,
    os::unix::net::UnixListener,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use pr_backend::{DEFAULT_INITIATOR, Emulated, Executor};
use pr_server::{CommandName, Event, Observer, Server};

/// Counts commands and prints each.
#[derive(Default)]
struct Count(AtomicU64);

impl Observer for Count {
    fn event(&self, event: &Event<'_>) {
        if let Event::Completed(command) = event {
            self.0.fetch_add(1, Ordering::Relaxed);
            println!("{}: {}: {}", command.client, CommandName(command.cdb), command.outcome.status());
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1);
    let (Some(socket), Some(directory)) = (arguments.next(), arguments.next()) else {
        return Err("usage: embedded SOCKET DIRECTORY".into());
    };
    let executor = Executor::new().with(Emulated::open(Path::new(&directory), &[DEFAULT_INITIATOR])?);
    let count = Arc::new(Count::default());
    let listener = UnixListener::bind(&socket)?;
    let server = Server::builder(executor).listen(listener).observer(Arc::clone(&count)).build()?;
    let handle = server.handle();
    let running = thread::spawn(|| server.run());
    io::copy(&mut io::stdin(), &mut io::sink())?;
    handle.shutdown(Duration::from_secs(10));
    let ended = running.join().map_err(|_| "the server has panicked")??;
    println!("{} commands; {ended:?}", count.0.load(Ordering::Relaxed));
    std::fs::remove_file(socket)?;
    Ok(())
}
