//! Random commands, compared with the reservations of a SCSI disk (`pr-target`).

use pr_target::{
    LogicalUnit, Nexus,
    test_utils::{RandomCommand, random_command},
};
use scsi_sense::pr::{OutServiceAction, TransportId};

use super::*;
use crate::block::model::State;

/// Status and sense, and the data.
pub(super) type Answer = ((u8, u32), Vec<u8>);

pub(super) fn nexuses() -> [Nexus; 3] {
    [1, 2, 3].map(|number| Nexus::new(TransportId::Sas { address: number }, 1).unwrap())
}

/// An NVMe namespace and a SCSI disk with the same registrations.
#[derive(Clone)]
pub(super) struct Pair {
    pub(super) unit: LogicalUnit,
    pub(super) state: State,
}

impl Pair {
    pub(super) fn new() -> Self {
        Self { unit: LogicalUnit::new(&[1]).unwrap(), state: State::default() }
    }
}

/// Returns whether both have to give the same answer: not to what NVMe does not have, nor to an IN with TransportIDs.
pub(super) fn is_comparable(command: &RandomCommand) -> bool {
    let RandomCommand { cdb, parameters, .. } = command;
    let action = OutServiceAction::new(cdb[1]);
    let has_ids = parameters.get(20).is_some_and(|flags| flags & 8 != 0);
    match cdb[0] {
        0x5e => matches!(cdb[1], 0 | 1),
        _ => {
            !has_ids
                && action != OutServiceAction::RegisterAndMove
                && action != OutServiceAction::ReplaceLostReservation
        }
    }
}

/// Runs the command on the SCSI disk. Returns status, sense and data.
pub(super) fn on_unit(unit: &mut LogicalUnit, command: &RandomCommand) -> Answer {
    let nexuses = nexuses();
    // Passthrough has no unit attentions.
    for nexus in &nexuses {
        while unit.take_unit_attention(nexus).is_some() {}
    }
    let mut data = vec![0; 8192];
    let answer = unit.execute(&nexuses[command.sender], &command.cdb, &command.parameters, &mut data);
    data.truncate(answer.length);
    let sense = answer.sense.map_or(0, |code| {
        u32::from_be_bytes([0, code.key.code(), code.additional.asc, code.additional.ascq])
    });
    ((answer.status.0, sense), data)
}

/// Runs the command on the namespace. Returns status, sense and data.
pub(super) fn on_namespace(model: &Model, command: &RandomCommand) -> Answer {
    let host = model.host(u8::try_from(command.sender).unwrap());
    if command.cdb[0] == 0x5f {
        return (send(host, &command.cdb, &command.parameters).1, Vec::new());
    }
    let (mut sense, mut data) = ([0; 96], vec![0; 8192]);
    let mut ran = Command { cdb: &command.cdb, data: Data::In(&mut data), sense: &mut sense };
    let outcome = execute(host, Duration::from_secs(1), &identity(host), &mut ran);
    let Completion { transferred, .. } = outcome.completion(&mut [0; 96]);
    data.truncate(transferred);
    (answer(&outcome, sense), data)
}

/// Returns the data of READ KEYS and READ RESERVATION, without the generation: SCSI and NVMe count a REGISTER without
/// effect differently.
pub(super) fn state_of(read: &mut dyn FnMut(&RandomCommand) -> Answer) -> [Vec<u8>; 2] {
    [0, 1].map(|action| {
        let cdb = [0x5e, action, 0, 0, 0, 0, 0, 0x20, 0, 0];
        let (status, data) = read(&RandomCommand { sender: 0, cdb, parameters: Vec::new() });
        assert_eq!(status, GOOD);
        data[4..].to_vec()
    })
}

/// Returns whether the answers are the same, or both failures of which SCSI puts the conflict first: the namespace does not
/// ask the device before it rejects an invalid command.
fn is_same_answer(namespace: (u8, u32), unit: (u8, u32)) -> bool {
    namespace == unit
        || (unit == CONFLICT && [check(0x05_2400), check(0x05_2600), check(0x05_1a00)].contains(&namespace))
}

/// Compares so many random commands. Returns how often both answered GOOD to a change, and how often the namespace failed
/// where SCSI answers GOOD.
fn compare(flavour: Flavour, count: u64) -> (usize, usize) {
    let model = Model::new(flavour);
    let mut unit = LogicalUnit::new(&[1]).unwrap();
    let (mut good, mut failed) = (0, 0);
    for number in 0..count {
        let command = random_command(number, &nexuses());
        if !is_comparable(&command) {
            if command.cdb[0] == 0x5f {
                let before = model.state();
                let (answer, _) = on_namespace(&model, &command);
                assert_ne!(answer, GOOD, "{command:x?}");
                assert_eq!(model.state(), before, "{command:x?}");
            }
            continue;
        }
        let (ours, our_data) = on_namespace(&model, &command);
        let (expected, data) = on_unit(&mut unit, &command);
        let state = state_of(&mut |command| on_namespace(&model, command));
        let expected_state = state_of(&mut |command| on_unit(&mut unit, command));
        let context = format!("{flavour:?}, number {number}: {command:x?}: {ours:x?} for {expected:x?}");
        if ours == GOOD {
            assert_eq!(expected, GOOD, "{context}");
            assert_eq!(state, expected_state, "{context}");
            if command.cdb[0] == 0x5e {
                // The state was compared above; cut data are the start of it.
                assert_eq!(our_data.get(4..), data.get(4..), "{context}");
            } else {
                good += 1;
            }
        } else if expected == GOOD {
            // What the namespace cannot do is a failure, and never a conflict that a cluster could take for another host's.
            assert_eq!(ours, check(0x0b_0006), "{context}");
            failed += 1;
            model.set_state(State::default());
            unit = LogicalUnit::new(&[1]).unwrap();
        } else {
            assert!(is_same_answer(ours, expected), "{context}");
            assert_eq!(state, expected_state, "{context}");
        }
    }
    (good, failed)
}

#[test]
fn namespace_and_scsi_disk_agree() {
    for flavour in [Flavour::Standard, Flavour::Spdk, Flavour::Old] {
        let (good, failed) = compare(flavour, 12_000);
        assert!(good > 3_000, "{flavour:?}: {good}");
        assert_eq!(failed, 0, "{flavour:?}");
    }
}

/// Where nvmet deviates, the answer is a failure.
#[test]
fn nvmet_and_scsi_disk_agree_where_good() {
    let (good, failed) = compare(Flavour::Nvmet, 20_000);
    assert!(good > 5_000, "{good}");
    assert!(failed > 100, "{failed}");
}
