//! Lines of a worker for the daemon's log.

/// Prints a line to standard error, which the daemon reads and logs. The daemon may have ended: that is no reason to panic.
macro_rules! worker_log {
    ($($argument:tt)*) => {{
        let _ = ::std::io::Write::write_fmt(&mut ::std::io::stderr(), format_args!("{}\n", format_args!($($argument)*)));
    }};
}

pub(crate) use worker_log;
