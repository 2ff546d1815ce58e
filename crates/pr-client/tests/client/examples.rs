//! The examples print the expected output.

use std::path::PathBuf;

use scsi_sense::pr::{Keys, ReservationKey};

use crate::helper::{Answer, Helper, Plan, Stage};

#[path = "../../examples/mio.rs"]
#[allow(dead_code, unreachable_pub, reason = "all of it but main is used")]
mod mio;
#[path = "../../examples/quick_start.rs"]
#[allow(dead_code, unreachable_pub, reason = "all of it but main is used")]
mod quick_start;

/// Starts a helper with a disk on which two keys are registered.
fn helper(plans: &[Plan]) -> Helper {
    Helper::answering(plans, |_| {
        let mut data = [0; 24];
        Keys::build(7, [ReservationKey(0x1a), ReservationKey(0x2b)], &mut data).unwrap();
        Answer::good(&data)
    })
}

fn device(helper: &Helper) -> PathBuf {
    drop(helper.device());
    helper.path().with_file_name("device")
}

#[test]
fn quick_start_example_prints_the_keys() {
    let helper = helper(&[]);
    let mut output = Vec::new();
    quick_start::run(helper.path(), &device(&helper), &mut output).unwrap();
    assert_eq!(String::from_utf8(output).unwrap(), "0x1a\n0x2b\n");
}

#[test]
fn mio_example_reports_lost_connection() {
    let helper = helper(&[Plan::Serve, Plan::CloseAt(Stage::Reply(10)), Plan::Serve]);
    let device = device(&helper);
    let mut output = Vec::new();
    mio::run(helper.path(), &[device.clone(), device.clone(), device.clone()], &mut output).unwrap();
    let output = String::from_utf8(output).unwrap();
    let mut lines: Vec<_> = output.lines().map(|line| line.rsplit_once("device: ").unwrap().1).collect();
    lines.sort_unstable();
    let lost = "the connection to the helper was lost after the command was sent: whether it has run is unknown: \
                the helper closed the connection";
    assert_eq!(lines, ["2 keys", "2 keys", lost]);
    assert_eq!(helper.begun(), 3);
}
