//! Log lines of a worker.

/// Prints a line to standard error, which the daemon reads and logs. Unlike `eprintln!`, it does not panic if the daemon has
/// exited.
macro_rules! worker_log {
    ($($argument:tt)*) => {{
        let _ = ::std::io::Write::write_fmt(&mut ::std::io::stderr(), format_args!("{}\n", format_args!($($argument)*)));
    }};
}

pub(crate) use worker_log;
