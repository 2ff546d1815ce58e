//! LIO's reservations and those of `pr-target` side by side: the same commands to both, and the same answers, states
//! and unit attentions from both, but where LIO does not keep to SPC-4.

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

/// In each test: each has to end in time, also where the machine is emulated.
const COMMANDS: u64 = 3_000;

#[test]
fn both_tell_one_story_1() {
    compare(&mut Pair::open(two_target_ports()), &part(0), false);
}

#[test]
fn both_tell_one_story_2() {
    compare(&mut Pair::open(two_target_ports()), &part(1), false);
}

#[test]
fn both_tell_one_story_3() {
    compare(&mut Pair::open(two_target_ports()), &part(2), false);
}

#[test]
fn both_tell_one_story_4() {
    compare(&mut Pair::open(two_target_ports()), &part(3), false);
}

/// Two initiators at one target port, and with PREEMPT AND ABORT.
#[test]
fn both_tell_one_story_over_iscsi() {
    let (a, b) = crate::iscsi::two_nexuses();
    compare(&mut Pair::open([a, b]), &(100_000..100_400), true);
}

/// The disk of two nexuses through a target port each, as REGISTER AND MOVE needs them: `tcm_loop` gives them no
/// identifier.
fn two_target_ports() -> [Disk; 2] {
    let nexuses = [Disk::nexus_a(), Disk::nexus_b()];
    for (nexus, port) in nexuses.iter().zip(["1", "2"]) {
        fs::write(nexus.target_port.join("rtpi"), port).unwrap();
    }
    nexuses
}

fn part(number: u64) -> Range<u64> {
    number * COMMANDS..(number + 1) * COMMANDS
}

fn compare(pair: &mut Pair, numbers: &Range<u64>, aborts: bool) {
    let (mut sent, mut unexplained) = (0, Vec::new());
    let mut explained: BTreeMap<&str, u32> = BTreeMap::new();
    for number in numbers.clone() {
        let mut command = random_command(number, pair.cast());
        // LIO over tcm_loop hangs in PREEMPT AND ABORT for ever.
        if !aborts && command.cdb[..2] == [0x5f, OutServiceAction::PreemptAndAbort.code()] {
            command.cdb[1] = OutServiceAction::Preempt.code();
        }
        let step = pair.send(&command);
        sent += 1;
        if !step.agrees() {
            match DEVIATIONS.iter().find(|deviation| (deviation.is_it)(&step)) {
                Some(deviation) => *explained.entry(deviation.what).or_default() += 1,
                None => unexplained.push(format!("number {number}: {step:#?}")),
            }
        }
        if !step.is_state_the_same() {
            pair.reset();
        }
    }
    for deviation in DEVIATIONS {
        let count = explained.get(deviation.what).copied().unwrap_or_default();
        println!("{count:5} x {} ({})", deviation.what, deviation.clause);
    }
    assert!(unexplained.is_empty(), "{} of {sent}:\n{}", unexplained.len(), unexplained.join("\n"));
}
