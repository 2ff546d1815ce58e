//! QEMU's monitor socket for management programs: one JSON object per line.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::messages::all_messages;

/// Time limit for each line.
const READ_TIMEOUT: Duration = Duration::from_secs(120);

/// A connection after the greeting.
pub(crate) struct Qmp {
    stream: BufReader<UnixStream>,
    /// The `PR_MANAGER_STATUS_CHANGED` events that were received and not yet returned: name of the manager, and whether it is
    /// connected.
    changes: Vec<(String, bool)>,
}

impl Qmp {
    pub(crate) fn greet(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(READ_TIMEOUT)).unwrap();
        let mut qmp = Self { stream: BufReader::new(stream), changes: Vec::new() };
        let greeting = qmp.next();
        assert!(greeting["QMP"]["version"].is_object(), "{greeting}");
        qmp.execute("qmp_capabilities");
        qmp
    }

    /// Runs a command without arguments; returns its result.
    pub(crate) fn execute(&mut self, command: &str) -> Value {
        self.execute_with(command, &json!({}))
    }

    /// Runs a command with these arguments; returns its result.
    pub(crate) fn execute_with(&mut self, command: &str, arguments: &Value) -> Value {
        let line = format!("{}\n", json!({ "execute": command, "arguments": arguments }));
        self.stream.get_mut().write_all(line.as_bytes()).unwrap();
        loop {
            let message = self.next();
            assert!(message["error"].is_null(), "{command}: {message}");
            if !message["return"].is_null() {
                return message["return"].clone();
            }
        }
    }

    /// Returns the result of `query-pr-managers`: names, and whether they are connected.
    pub(crate) fn managers(&mut self) -> Vec<(String, bool)> {
        let managers = self.execute("query-pr-managers");
        managers.as_array().unwrap().iter().map(status).collect()
    }

    /// Returns the events since the last call.
    pub(crate) fn changes(&mut self) -> Vec<(String, bool)> {
        // Earlier events arrive before the reply to this command.
        self.managers();
        std::mem::take(&mut self.changes)
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line);
        assert!(matches!(read, Ok(1..)), "QMP: {read:?}\n{}", all_messages());
        let message: Value = serde_json::from_str(&line).unwrap();
        if message["event"] == "PR_MANAGER_STATUS_CHANGED" {
            self.changes.push(status(&message["data"]));
        }
        message
    }
}

fn status(of: &Value) -> (String, bool) {
    (of["id"].as_str().unwrap().to_owned(), of["connected"].as_bool().unwrap())
}
