//! Compares LIO's reservations with those of `pr-target`. Both get the same commands, and must give the same answers, states
//! and unit attentions, except where LIO deviates from SPC-4.

mod deviations;
mod pair;

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;

use pr_target::test_utils::random_command;
use scsi_sense::pr::OutServiceAction;

use self::deviations::DEVIATIONS;
use self::pair::Pair;
use fixtures::Disk;

/// Number of commands in each test. Each test must end in time, also in an emulated machine.
const COMMANDS: u64 = 3_000;

#[test]
fn lio_and_model_agree_1() {
    compare_part(0);
}

#[test]
fn lio_and_model_agree_2() {
    compare_part(1);
}

#[test]
fn lio_and_model_agree_3() {
    compare_part(2);
}

#[test]
fn lio_and_model_agree_4() {
    compare_part(3);
}

/// Uses two initiators at one target port, and PREEMPT AND ABORT.
#[test]
fn lio_and_model_agree_over_iscsi() {
    let [a, b] = fixtures::iscsi::nexuses();
    compare(&mut Pair::open([a, b]), &(100_000..100_400), true);
}

/// Returns the disk through two nexuses with a target port each. Gives the ports relative identifiers, which REGISTER AND MOVE
/// needs: `tcm_loop` gives them none.
fn two_target_ports() -> [Disk; 2] {
    let nexuses = [Disk::nexus_a(), Disk::nexus_b()];
    for (nexus, port) in nexuses.iter().zip(["1", "2"]) {
        fs::write(nexus.target_port.join("rtpi"), port).unwrap();
    }
    nexuses
}

/// Compares the part of the commands that has this number.
fn compare_part(number: u64) {
    let part = number * COMMANDS..(number + 1) * COMMANDS;
    compare(&mut Pair::open(two_target_ports()), &part, false);
}

fn compare(pair: &mut Pair, numbers: &Range<u64>, aborts: bool) {
    let (mut sent, mut unexplained) = (0, Vec::new());
    let mut explained: BTreeMap<&str, u32> = BTreeMap::new();
    for number in numbers.clone() {
        let mut command = random_command(number, pair.nexuses());
        // LIO over tcm_loop hangs forever in PREEMPT AND ABORT.
        if !aborts && command.cdb[..2] == [0x5f, OutServiceAction::PreemptAndAbort.code()] {
            command.cdb[1] = OutServiceAction::Preempt.code();
        }
        let step = pair.send(&command);
        sent += 1;
        if !step.agrees() {
            match DEVIATIONS.iter().find(|deviation| (deviation.matches)(&step)) {
                Some(deviation) => *explained.entry(deviation.behaviour).or_default() += 1,
                None => unexplained.push(format!("number {number}: {step:#?}")),
            }
        }
        if !step.has_same_state() {
            pair.reset();
        }
    }
    for deviation in DEVIATIONS {
        let count = explained.get(deviation.behaviour).copied().unwrap_or_default();
        println!("{count:5} x {} ({})", deviation.behaviour, deviation.clause);
    }
    assert!(unexplained.is_empty(), "{} of {sent}:\n{}", unexplained.len(), unexplained.join("\n"));
}
