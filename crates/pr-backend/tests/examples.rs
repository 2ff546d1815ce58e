//! The example prints the expected output.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{fs::File, os::fd::AsFd as _, time::Duration};

use pr_backend::{Command, DEFAULT_INITIATOR, Data, Emulated, Executor, Outcome, Scsi};
use scsi_sense::Status;

#[path = "../examples/execute.rs"]
#[allow(dead_code, unreachable_pub, reason = "all of it but main is used")]
mod execute;

fn output(executor: &Executor, disk: &File) -> String {
    let mut output = Vec::new();
    execute::run(executor, disk, &mut output).unwrap();
    String::from_utf8(output).unwrap()
}

#[test]
fn execute_example_prints_the_answer() {
    let directory = tempfile::tempdir().unwrap();
    let executor = Executor::new().with(Emulated::open(directory.path(), &[DEFAULT_INITIATOR]).unwrap());
    let disk = tempfile::tempfile().unwrap();
    assert_eq!(output(&executor, &disk), "GOOD (00h): [00, 00, 00, 00, 00, 00, 00, 00]\n");
    let parameters = [&[0; 8][..], b"some key", &[0; 8]].concat();
    let (cdb, mut sense) = ([0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0], [0; 96]);
    let mut register = Command { cdb: &cdb, data: Data::Out(&parameters), sense: &mut sense };
    assert_eq!(executor.run(disk.as_fd(), &mut register), Outcome::bare(Status::GOOD));
    assert_eq!(
        output(&executor, &disk),
        "GOOD (00h): [00, 00, 00, 01, 00, 00, 00, 08, 73, 6f, 6d, 65, 20, 6b, 65, 79]\n"
    );
}

#[test]
fn execute_example_explains_refusals() {
    let executor = Executor::new().with(Scsi::new(Duration::from_secs(1)));
    assert_eq!(
        output(&executor, &tempfile::tempfile().unwrap()),
        "not served: the descriptor is of a file, not of a disk: pass one of the disk itself\n"
    );
}
