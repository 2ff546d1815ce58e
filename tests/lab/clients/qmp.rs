//! QEMU's own socket for its managers: one JSON object a line.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::messages::said;

/// No line for so long is a failed test.
const PATIENCE: Duration = Duration::from_secs(120);

/// A connection that has greeted.
pub(crate) struct Qmp {
    stream: BufReader<UnixStream>,
    /// `PR_MANAGER_STATUS_CHANGED`, received and not yet taken: whose, and whether it is connected now.
    changes: Vec<(String, bool)>,
}

impl Qmp {
    pub(crate) fn greet(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut qmp = Self { stream: BufReader::new(stream), changes: Vec::new() };
        let greeting = qmp.next();
        assert!(greeting["QMP"]["version"].is_object(), "{greeting}");
        qmp.execute("qmp_capabilities");
        qmp
    }

    /// What a command returns.
    pub(crate) fn execute(&mut self, command: &str) -> Value {
        let line = format!("{}\n", json!({ "execute": command }));
        self.stream.get_mut().write_all(line.as_bytes()).unwrap();
        loop {
            let message = self.next();
            assert!(message["error"].is_null(), "{command}: {message}");
            if !message["return"].is_null() {
                return message["return"].clone();
            }
        }
    }

    /// `query-pr-managers`: names, and whether they are connected.
    pub(crate) fn managers(&mut self) -> Vec<(String, bool)> {
        let managers = self.execute("query-pr-managers");
        managers.as_array().unwrap().iter().map(status).collect()
    }

    /// The events that came since this was last asked.
    pub(crate) fn changes(&mut self) -> Vec<(String, bool)> {
        // Events come before the reply to what is asked after them.
        self.managers();
        std::mem::take(&mut self.changes)
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line);
        assert!(matches!(read, Ok(1..)), "QMP: {read:?}\n{}", said());
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
