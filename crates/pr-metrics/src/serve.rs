//! Serves metrics and state over a Unix socket of their own, by as much HTTP as a scraper needs.
//!
//! Each exchange has a thread of its own, which also closes the connection. A message can carry a descriptor whose close
//! blocks for as long as the sender likes, when the message is read or the connection closed; so a client delays only
//! itself. The threads read the server's state to render a page, and the process never waits for them to end.

use std::{
    collections::VecDeque,
    io::{self, Read as _, Write as _},
    net::Shutdown,
    os::{fd::OwnedFd, unix::net::UnixStream},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags},
    io::Errno,
    net::SocketFlags,
};

use crate::exposition;

/// How many exchanges are served at a time. A new exchange beyond that ends the oldest.
const EXCHANGES_MAX: usize = 16;

/// Maximum number of threads: for exchanges, for closing connections, and for accepting. If all are blocked, new clients wait
/// until a thread is free.
const THREADS_MAX: usize = 64;

/// How long an exchange may take, from the connection to the last byte of the reply.
const DEADLINE: Duration = Duration::from_secs(10);

/// The longest request that is read. Prometheus sends a few hundred bytes.
const REQUEST_MAX: usize = 8 << 10;

/// How long to wait before clients are accepted again, when there was no room for one.
const BACK_OFF: Duration = Duration::from_millis(100);

/// How many header fields a request can have.
const HEADERS_MAX: usize = 64;

/// Stack of a thread, in bytes.
const STACK: usize = 256 << 10;

/// A page that can be requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// `/metrics`
    Metrics,
    /// `/state`
    State,
}

/// Starts to serve on this listening Unix stream socket, on threads of its own, for the rest of the process. Pages come from
/// `render`. The first thread, which spawns all others, calls `prepare` first, for example to give up what it does not need.
///
/// # Errors
///
/// No thread can be started.
pub fn serve(
    listener: OwnedFd,
    prepare: impl FnOnce() + Send + 'static,
    render: impl Fn(Page) -> String + Send + Sync + 'static,
) -> io::Result<()> {
    let threads = Threads { count: 1, accepting: true, exchanges: VecDeque::new(), next: 0 };
    let server = Server { listener, render: Box::new(render), threads: Mutex::new(threads) };
    spawn(Arc::new(server), prepare)
}

struct Server {
    listener: OwnedFd,
    render: Box<dyn Fn(Page) -> String + Send + Sync>,
    threads: Mutex<Threads>,
}

struct Threads {
    count: usize,
    /// A thread accepts clients, or is about to.
    accepting: bool,
    /// Connections of the exchanges that are served, the oldest first, each with its number.
    exchanges: VecDeque<(u64, Arc<UnixStream>)>,
    next: u64,
}

fn spawn(server: Arc<Server>, prepare: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = thread::Builder::new().name("metrics".into()).stack_size(STACK);
    let run = move || {
        prepare();
        server.run();
    };
    thread.spawn(run).map(drop)
}

impl Server {
    /// Accepts a client, starts another thread to accept the next one, and serves the client.
    fn run(self: Arc<Self>) {
        loop {
            let stream = Arc::new(self.accept());
            Arc::clone(&self).accept_elsewhere();
            let number = self.begin(&stream);
            // A panic costs the client its reply; the panic hook logs it.
            let _ = catch_unwind(AssertUnwindSafe(|| exchange(&stream, &self.render)));
            self.end(number);
            // The last reference. This may block.
            drop(stream);
            let mut threads = self.threads();
            if threads.accepting {
                threads.count = threads.count.saturating_sub(1);
                return;
            }
            threads.accepting = true;
        }
    }

    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a client.
    fn accept(&self) -> UnixStream {
        loop {
            match rustix::event::poll(&mut [PollFd::new(&self.listener, PollFlags::IN)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => thread::sleep(BACK_OFF),
            }
            match rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC) {
                Ok(socket) => return socket.into(),
                Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
                // No descriptor is left: the client stays in the queue, and poll(2) would return at once.
                Err(_) => thread::sleep(BACK_OFF),
            }
        }
    }

    /// Starts a thread to accept the next client. At the limit, the next thread that is free accepts it.
    fn accept_elsewhere(self: Arc<Self>) {
        let mut threads = self.threads();
        threads.accepting = threads.count < THREADS_MAX;
        if !threads.accepting {
            return;
        }
        threads.count = threads.count.saturating_add(1);
        drop(threads);
        if spawn(Arc::clone(&self), || {}).is_err() {
            let mut threads = self.threads();
            threads.count = threads.count.saturating_sub(1);
            threads.accepting = false;
        }
    }

    /// Registers an exchange and returns its number. Shuts down the oldest if there are too many.
    fn begin(&self, stream: &Arc<UnixStream>) -> u64 {
        let mut threads = self.threads();
        let number = threads.next;
        threads.next = number.wrapping_add(1);
        threads.exchanges.push_back((number, Arc::clone(stream)));
        if threads.exchanges.len() > EXCHANGES_MAX {
            if let Some((_, oldest)) = threads.exchanges.pop_front() {
                // Its thread wakes and closes it. This is not the last reference: that thread takes the lock before it drops its own.
                let _ = oldest.shutdown(Shutdown::Both);
            }
        }
        number
    }

    fn end(&self, number: u64) {
        self.threads().exchanges.retain(|(other, _)| *other != number);
    }
}

/// Reads a request and sends the reply.
fn exchange(mut stream: &UnixStream, render: &dyn Fn(Page) -> String) {
    let deadline = Instant::now() + DEADLINE;
    // A timeout of zero would mean none.
    let left = || Some(deadline.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero());
    let mut request = Vec::new();
    let asked = loop {
        if let Some(asked) = Asked::parse(&request) {
            break asked;
        }
        let mut chunk = [0; 1024];
        let Some(left) = left() else { return };
        match stream.set_read_timeout(Some(left)).and_then(|()| stream.read(&mut chunk)) {
            // The client has gone.
            Ok(0) => return,
            Ok(n) => request.extend(chunk.iter().take(n)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    };
    let reply = asked.reply(render);
    let mut unsent = &*reply;
    while !unsent.is_empty() {
        let Some(left) = left() else { return };
        match stream.set_write_timeout(Some(left)).and_then(|()| stream.write(unsent)) {
            Ok(0) => return,
            Ok(n) => unsent = unsent.get(n..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Page(Page),
    SomethingElse,
    AnotherMethod,
    Nonsense,
}

impl Asked {
    /// Returns `None` if the request is not whole. None of its header fields matters.
    pub(crate) fn parse(request: &[u8]) -> Option<Self> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut parsed = httparse::Request::new(&mut headers);
        match parsed.parse(request) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) if request.len() <= REQUEST_MAX => return None,
            Ok(httparse::Status::Partial) | Err(_) => return Some(Self::Nonsense),
        }
        let (Some(method), Some(target)) = (parsed.method, parsed.path) else { return Some(Self::Nonsense) };
        Some(match target.split('?').next().unwrap_or_default() {
            path if !path.starts_with('/') => Self::Nonsense,
            "/metrics" | "/state" if method != "GET" => Self::AnotherMethod,
            "/metrics" => Self::Page(Page::Metrics),
            "/state" => Self::Page(Page::State),
            _ => Self::SomethingElse,
        })
    }

    pub(crate) fn reply(self, render: &dyn Fn(Page) -> String) -> Vec<u8> {
        const PLAIN: &str = "text/plain; charset=utf-8";
        let (status, kind, body) = match self {
            Self::Page(Page::Metrics) => ("200 OK", exposition::CONTENT_TYPE, render(Page::Metrics)),
            Self::Page(Page::State) => ("200 OK", PLAIN, render(Page::State)),
            Self::SomethingElse => ("404 Not Found", PLAIN, "there are /metrics and /state\n".into()),
            Self::AnotherMethod => {
                ("405 Method Not Allowed\r\nAllow: GET", PLAIN, "there is only GET\n".into())
            }
            Self::Nonsense => ("400 Bad Request", PLAIN, "this is no request of HTTP/1.1\n".into()),
        };
        let length = body.len();
        format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
            .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::IoSlice,
        mem::MaybeUninit,
        net::{TcpListener, TcpStream},
        os::{fd::AsFd as _, unix::net::UnixListener},
        path::PathBuf,
    };

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

    use super::*;

    /// A listening socket that is not served yet, and sockets whose close blocks until this is dropped.
    struct Place {
        directory: tempfile::TempDir,
        unserved: Option<UnixListener>,
        far: TcpListener,
        far_ends: Vec<TcpStream>,
    }

    impl Place {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
            listener.set_nonblocking(true).unwrap();
            let far = TcpListener::bind("127.0.0.1:0").unwrap();
            Self { directory, unserved: Some(listener), far, far_ends: Vec::new() }
        }

        fn socket(&self) -> PathBuf {
            self.directory.path().join("socket")
        }

        fn serve(&mut self) {
            serve(self.unserved.take().unwrap().into(), || {}, |page| format!("{page:?}")).unwrap();
        }

        /// Returns a client that has passed its only copy of a descriptor whose close blocks.
        fn hostile(&mut self, bytes: &[u8]) -> UnixStream {
            let mut near = TcpStream::connect(self.far.local_addr().unwrap()).unwrap();
            self.far_ends.push(self.far.accept().unwrap().0);
            rustix::net::sockopt::set_socket_linger(&near, Some(Duration::from_secs(300))).unwrap();
            near.set_nonblocking(true).unwrap();
            while near.write(&[0; 8192]).is_ok() {}
            let client = UnixStream::connect(self.socket()).unwrap();
            let descriptors = [near.as_fd()];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
            let bytes = [IoSlice::new(bytes)];
            rustix::net::sendmsg(&client, &bytes, &mut control, SendFlags::NOSIGNAL).unwrap();
            client
        }

        /// Requests the state, and returns what has arrived within `timeout`.
        fn ask(&self, timeout: Duration) -> String {
            let mut client = UnixStream::connect(self.socket()).unwrap();
            client.write_all(b"GET /state HTTP/1.1\r\n\r\n").unwrap();
            client.set_read_timeout(Some(timeout)).unwrap();
            let mut reply = String::new();
            let _ = client.read_to_string(&mut reply);
            reply
        }
    }

    const TIMEOUT: Duration = Duration::from_secs(20);

    #[test]
    fn blocking_close_delays_its_sender_only() {
        let mut place = Place::new();
        // The first is closed when it is read, the others when the connection is closed with an unread message.
        let mut hostile = vec![place.hostile(b"GET /state HTTP/1.1\r\n\r\n"), place.hostile(b"GET")];
        drop(place.hostile(b"GET"));
        for _ in 0..EXCHANGES_MAX {
            hostile.push(place.hostile(&[b'x'; 2 * REQUEST_MAX]));
        }
        place.serve();
        for _ in 0..3 {
            let begun = Instant::now();
            let reply = place.ask(TIMEOUT);
            assert!(reply.ends_with("\r\n\r\nState"), "{reply:?}");
            assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        }
    }

    #[test]
    fn clients_wait_while_all_threads_are_blocked() {
        let mut place = Place::new();
        let hostile: Vec<_> = (0..THREADS_MAX).map(|_| place.hostile(b"GET")).collect();
        place.serve();
        // The last thread accepts the last hostile client; no thread is left for the next one.
        assert_eq!(place.ask(Duration::from_millis(500)), "");
        // Lets half of the closes end.
        place.far_ends.truncate(THREADS_MAX / 2);
        assert!(place.ask(TIMEOUT).ends_with("State"));
        drop(hostile);
    }

    #[test]
    fn oldest_exchange_is_shut_down() {
        let mut place = Place::new();
        place.serve();
        let mut silent: Vec<_> =
            (0..=EXCHANGES_MAX).map(|_| UnixStream::connect(place.socket()).unwrap()).collect();
        let mut oldest = silent.remove(0);
        oldest.set_read_timeout(Some(TIMEOUT)).unwrap();
        let begun = Instant::now();
        assert_eq!(oldest.read(&mut [0]).unwrap(), 0);
        assert!(begun.elapsed() < DEADLINE / 2);
        for mut other in silent {
            other.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
            let mut reply = String::new();
            other.read_to_string(&mut reply).unwrap();
            assert!(reply.ends_with("Metrics"), "{reply:?}");
        }
    }

    #[test]
    fn panic_costs_one_reply() {
        let mut place = Place::new();
        let listener = place.unserved.take().unwrap();
        serve(
            listener.into(),
            || {},
            |page| if page == Page::Metrics { panic!("a test") } else { "fine".into() },
        )
        .unwrap();
        for _ in 0..THREADS_MAX {
            let mut client = UnixStream::connect(place.socket()).unwrap();
            client.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
        }
        assert!(place.ask(TIMEOUT).ends_with("fine"));
    }

    #[test]
    fn first_line_tells_the_page() {
        for (line, asked) in [
            ("GET /metrics HTTP/1.1", Asked::Page(Page::Metrics)),
            ("GET /metrics HTTP/1.0", Asked::Page(Page::Metrics)),
            ("GET /metrics?collect=all HTTP/1.1", Asked::Page(Page::Metrics)),
            ("GET /state HTTP/1.1", Asked::Page(Page::State)),
            ("GET / HTTP/1.1", Asked::SomethingElse),
            ("GET /metrics/ HTTP/1.1", Asked::SomethingElse),
            ("POST /nowhere HTTP/1.1", Asked::SomethingElse),
            ("POST /metrics HTTP/1.1", Asked::AnotherMethod),
            ("get /state HTTP/1.1", Asked::AnotherMethod),
            ("GET metrics HTTP/1.1", Asked::Nonsense),
            ("GET /metrics HTTP/2", Asked::Nonsense),
            ("GET /metrics", Asked::Nonsense),
            ("GET  /metrics HTTP/1.1", Asked::Nonsense),
            ("GET /metrics HTTP/1.1 ", Asked::Nonsense),
            ("", Asked::Nonsense),
            ("\0\u{ff}", Asked::Nonsense),
        ] {
            let request = format!("{line}\r\nHost: localhost\r\n\r\n");
            assert_eq!(Asked::parse(request.as_bytes()), Some(asked), "{line:?}");
        }
    }

    #[test]
    fn requests_are_awaited_up_to_a_limit() {
        let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
        for length in 0..request.len() {
            assert_eq!(Asked::parse(&request[..length]), None, "{length}");
        }
        assert_eq!(Asked::parse(&[b'x'; REQUEST_MAX]), None);
        assert_eq!(Asked::parse(&[b'x'; REQUEST_MAX + 1]), Some(Asked::Nonsense));
    }

    proptest::proptest! {
        #[test]
        fn no_request_causes_a_panic(request: Vec<u8>) {
            let _ = Asked::parse(&request);
            let _ = Asked::parse(&[&request, &b"\r\n\r\n"[..]].concat());
        }
    }
}
