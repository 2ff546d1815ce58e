//! Serves metrics and state over a Unix socket of their own, by as much HTTP as a scraper needs. One thread does it,
//! which touches nothing of the commands' but what an [`Observer`] reads, and which nobody waits for.

use std::{
    collections::VecDeque,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
    net::SocketFlags,
};

use super::exposition;
use crate::{listen::Listener, state::Observer};

/// How many may ask at once. Whoever comes when there are so many takes the place of who came first.
const EXCHANGES_MAX: usize = 16;

/// How long one may take, from its connection to the last byte of the reply.
const DEADLINE: Duration = Duration::from_secs(10);

/// The longest request that is read. Prometheus sends a few hundred bytes.
const REQUEST_MAX: usize = 8 << 10;

/// How long to wait before clients are accepted again, when there was no room for one.
const BACK_OFF: Duration = Duration::from_millis(100);

const STACK: usize = 256 << 10;

/// Starts to serve. The socket's file is the listener's, which stays with the caller.
pub(crate) fn start(listener: &Listener, observer: Observer) -> io::Result<()> {
    let socket = listener.as_fd().try_clone_to_owned()?;
    thread::Builder::new()
        .name("metrics".into())
        .stack_size(STACK)
        .spawn(move || serve(&socket, &observer))
        .map(drop)
}

fn serve(listener: &OwnedFd, observer: &Observer) {
    let mut exchanges = VecDeque::new();
    loop {
        wait(listener, &exchanges);
        accept(listener, &mut exchanges);
        exchanges.retain_mut(|exchange| exchange.deadline > Instant::now() && exchange.advance(observer));
    }
}

/// Waits until there is something to do.
fn wait(listener: &OwnedFd, exchanges: &VecDeque<Exchange>) {
    let mut events = vec![PollFd::new(listener, PollFlags::IN)];
    events.extend(exchanges.iter().map(|exchange| PollFd::new(&exchange.stream, exchange.interest())));
    let deadline = exchanges.front().map(|oldest| oldest.deadline);
    let patience = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let timeout = patience.and_then(|patience| Timespec::try_from(patience).ok());
    match rustix::event::poll(&mut events, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(_) => thread::sleep(BACK_OFF),
    }
}

/// Accepts those that wait; not for ever, however many come.
fn accept(listener: &OwnedFd, exchanges: &mut VecDeque<Exchange>) {
    for _ in 0..EXCHANGES_MAX {
        match rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(socket) => {
                exchanges.push_back(Exchange::new(socket));
                if exchanges.len() > EXCHANGES_MAX {
                    exchanges.pop_front();
                }
            }
            Err(Errno::AGAIN) => return,
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            // No descriptor is left for it. It goes on waiting, and so would poll(2) not.
            Err(_) => return thread::sleep(BACK_OFF),
        }
    }
}

/// One request and its reply.
struct Exchange {
    stream: UnixStream,
    deadline: Instant,
    phase: Phase,
}

enum Phase {
    Request(Vec<u8>),
    Reply { bytes: Vec<u8>, sent: usize },
}

impl Exchange {
    fn new(socket: OwnedFd) -> Self {
        Self { stream: socket.into(), deadline: Instant::now() + DEADLINE, phase: Phase::Request(Vec::new()) }
    }

    fn interest(&self) -> PollFlags {
        match self.phase {
            Phase::Request(_) => PollFlags::IN,
            Phase::Reply { .. } => PollFlags::OUT,
        }
    }

    /// Goes on as far as that is possible without waiting, and says whether there is more to do.
    fn advance(&mut self, observer: &Observer) -> bool {
        loop {
            let moved = match &mut self.phase {
                Phase::Request(request) => match Asked::parse(request) {
                    Some(asked) => {
                        self.phase = Phase::Reply { bytes: asked.reply(observer), sent: 0 };
                        continue;
                    }
                    None => receive(&self.stream, request),
                },
                Phase::Reply { bytes, sent } => {
                    let left = bytes.get(*sent..).unwrap_or_default();
                    (&self.stream).write(left).inspect(|n| *sent = sent.saturating_add(*n))
                }
            };
            match moved {
                // The client has gone, or all is said.
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return true,
                    io::ErrorKind::Interrupted => {}
                    _ => return false,
                },
            }
        }
    }
}

/// Reads some more of a request.
fn receive(mut stream: &UnixStream, request: &mut Vec<u8>) -> io::Result<usize> {
    let mut chunk = [0; 1024];
    let n = stream.read(&mut chunk)?;
    request.extend(chunk.iter().take(n));
    Ok(n)
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Metrics,
    State,
    SomethingElse,
    AnotherMethod,
    Nonsense,
}

impl Asked {
    /// `None` if the request is not whole. Of its fields none matters.
    fn parse(request: &[u8]) -> Option<Self> {
        let is_whole = request.windows(4).any(|bytes| bytes == b"\r\n\r\n");
        if !is_whole {
            return (request.len() > REQUEST_MAX).then_some(Self::Nonsense);
        }
        let line = request.split(|&byte| byte == b'\r').next().unwrap_or_default();
        let words: Vec<_> = line.split(|&byte| byte == b' ').collect();
        let &[method, target, version] = &*words else { return Some(Self::Nonsense) };
        if !version.starts_with(b"HTTP/1.") || !target.starts_with(b"/") {
            return Some(Self::Nonsense);
        }
        let path = target.split(|&byte| byte == b'?').next().unwrap_or_default();
        Some(match path {
            b"/metrics" | b"/state" if method != b"GET" => Self::AnotherMethod,
            b"/metrics" => Self::Metrics,
            b"/state" => Self::State,
            _ => Self::SomethingElse,
        })
    }

    fn reply(self, observer: &Observer) -> Vec<u8> {
        const PLAIN: &str = "text/plain; charset=utf-8";
        let (status, kind, body) = match self {
            Self::Metrics => ("200 OK", exposition::CONTENT_TYPE, observer.metrics()),
            Self::State => ("200 OK", PLAIN, observer.state()),
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
    use super::*;

    #[test]
    fn a_request_is_known_by_its_first_line() {
        for (line, asked) in [
            ("GET /metrics HTTP/1.1", Asked::Metrics),
            ("GET /metrics HTTP/1.0", Asked::Metrics),
            ("GET /metrics?collect=all HTTP/1.1", Asked::Metrics),
            ("GET /state HTTP/1.1", Asked::State),
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
    fn a_request_is_waited_for_until_it_is_whole_or_too_long() {
        let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
        for length in 0..request.len() {
            assert_eq!(Asked::parse(&request[..length]), None, "{length}");
        }
        assert_eq!(Asked::parse(&[b'x'; REQUEST_MAX]), None);
        assert_eq!(Asked::parse(&[b'x'; REQUEST_MAX + 1]), Some(Asked::Nonsense));
    }

    proptest::proptest! {
        #[test]
        fn no_request_makes_it_panic(request: Vec<u8>) {
            let _ = Asked::parse(&request);
            let _ = Asked::parse(&[&request, &b"\r\n\r\n"[..]].concat());
        }
    }
}
