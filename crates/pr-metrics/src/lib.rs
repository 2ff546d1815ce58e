//! An operator asks three things of a helper of virtual machines: how many commands failed, what hangs right now, and which
//! command did that. This crate answers them for a [`pr_server::Server`], by observers that cost a command next to nothing:
//! [`Counters`] (OpenMetrics text, for Prometheus), [`report()`] (its state in words) and [`Tracer`] (a line for each command).
//! [`serve`] serves the first two over a Unix socket, by as much HTTP as a scraper needs.
//!
//! ```no_run
//! use std::{os::unix::net::UnixListener, sync::Arc, time::Duration};
//!
//! use pr_backend::{Executor, Scsi};
//! use pr_metrics::{Counters, Page};
//! use pr_server::Server;
//!
//! let executor = Executor::new().with(Scsi::new(Duration::from_secs(30)));
//! let counters = Arc::new(Counters::new(&executor.refusal_labels()));
//! let server = Server::builder(executor)
//!     .listen(UnixListener::bind("/run/my-helper.sock")?)
//!     .observer(Arc::clone(&counters))
//!     .build()?;
//! let handle = server.handle();
//! let render = move |page| match page {
//!     Page::Metrics => counters.exposition(handle.state(), "1.0", Duration::from_secs(10)),
//!     Page::State => pr_metrics::report(&handle.state(), "1.0", Err("not built in".into())),
//! };
//! pr_metrics::serve(UnixListener::bind("/run/my-metrics.sock")?.into(), || {}, render)?;
//! server.run()?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # What this crate does not do
//!
//! It makes no sockets and listens on no network: a Unix socket has an owner and permissions. It keeps no history.

#![forbid(unsafe_code)]

mod counters;
mod exposition;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod histogram;
mod report;
mod serve;
mod system_calls;
pub mod trace;

pub use counters::Counters;
pub use report::report;
pub use serve::{Page, serve};
pub use system_calls::SYSTEM_CALLS;
pub use trace::Tracer;
