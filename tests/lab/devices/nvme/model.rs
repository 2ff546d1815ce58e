//! Random commands, compared with the reservations of a SCSI disk (`pr-target`). Where nvmet deviates from SCSI, the helper
//! must answer a failure, and never GOOD.

use pr_target::{
    LogicalUnit, Nexus,
    test_utils::{RandomCommand, random_command},
};
use scsi_sense::pr::{OutServiceAction, TransportId};
use test_support::Daemon;

use super::*;

/// Number of commands. The test must end in time, also in an emulated machine.
const COMMANDS: u64 = 400;

/// What the helper answers, and SCSI does not.
struct Deviation {
    /// SCSI's answer.
    scsi: (u8, Option<SenseCode>),
    /// The helper's answer.
    helper: (u8, Option<SenseCode>),
    why: &'static str,
}

const DEVIATIONS: [Deviation; 4] = [
    Deviation {
        scsi: GOOD,
        helper: check(0xb, 0, 6),
        why: "nvmet answers success and does nothing: PREEMPT by a holder, RELEASE by one of all holders (SPC-4 5.13.11.2.4, 5.13.11.2.2)",
    },
    Deviation {
        scsi: CONFLICT,
        helper: check(5, 0x24, 0),
        why: "an invalid CDB is rejected before the key is checked: both are failures (SAM-5 5.3.3)",
    },
    Deviation {
        scsi: CONFLICT,
        helper: check(5, 0x1a, 0),
        why: "a list of the wrong length is rejected before the key is checked (SAM-5 5.3.3)",
    },
    Deviation {
        scsi: CONFLICT,
        helper: check(5, 0x26, 0),
        why: "an invalid list is rejected before the key is checked (SAM-5 5.3.3)",
    },
];

struct Pair {
    nexuses: [Nexus; 3],
    unit: LogicalUnit,
    hosts: [Host; 3],
}

impl Pair {
    fn new(daemon: &Daemon, disks: &[NvmeDisk; 3]) -> Self {
        Self {
            nexuses: [1, 2, 3].map(|address| Nexus::new(TransportId::Sas { address }, 1).unwrap()),
            unit: LogicalUnit::new(&[1]).unwrap(),
            hosts: disks.each_ref().map(|disk| Host::new(daemon.client(), &disk.block)),
        }
    }

    /// Removes all registrations.
    fn reset(&mut self) {
        self.unit = LogicalUnit::new(&[1]).unwrap();
        let host = &mut self.hosts[0];
        assert_eq!(host.change(REGISTER_AND_IGNORE, 0, 0, 1), GOOD);
        assert_eq!(host.change(CLEAR, 0, 1, 0), GOOD);
    }

    fn on_unit(&mut self, command: &RandomCommand) -> ((u8, Option<SenseCode>), Vec<u8>) {
        // NVMe by passthrough has no unit attentions.
        for nexus in &self.nexuses {
            while self.unit.take_unit_attention(nexus).is_some() {}
        }
        let mut data = vec![0; 8192];
        let nexus = &self.nexuses[command.sender];
        let answer = self.unit.execute(nexus, &command.cdb, &command.parameters, &mut data);
        data.truncate(answer.length);
        let sense = answer.sense.map(|code| (code.key.code(), code.additional.asc, code.additional.ascq));
        ((answer.status.0, sense), data)
    }

    /// Returns the data of READ KEYS and READ RESERVATION without the generation, of the namespace and of the SCSI disk.
    fn states(&mut self) -> [[Vec<u8>; 2]; 2] {
        let namespace = [READ_KEYS, READ_RESERVATION].map(|action| {
            let reply = self.hosts[0].ask(action, 8192);
            assert_eq!(reply.status, Status::GOOD, "{reply:?}");
            reply.payload[4..].to_vec()
        });
        let unit = [READ_KEYS, READ_RESERVATION].map(|action| {
            let command = RandomCommand { sender: 0, cdb: in_cdb(action, 8192), parameters: Vec::new() };
            self.on_unit(&command).1[4..].to_vec()
        });
        [namespace, unit]
    }
}

/// Returns whether NVMe has the command: no REGISTER AND MOVE, no TransportIDs.
fn is_comparable(command: &RandomCommand) -> bool {
    let action = OutServiceAction::new(command.cdb[1]);
    let has_ids = command.parameters.get(20).is_some_and(|flags| flags & 8 != 0);
    command.cdb[0] == 0x5f
        && !has_ids
        && !matches!(action, OutServiceAction::RegisterAndMove | OutServiceAction::ReplaceLostReservation)
}

#[test]
fn nvmet_and_model_agree_where_good() {
    let Some((_target, disks)) = three_hosts() else { return };
    let daemon = daemon();
    let mut pair = Pair::new(&daemon, &disks);
    let (mut good, mut explained) = (0, [0; DEVIATIONS.len()]);
    for number in 0..COMMANDS {
        let command = random_command(number, &pair.nexuses);
        if !is_comparable(&command) {
            continue;
        }
        let ours = pair.hosts[command.sender].send(&command.cdb, &command.parameters);
        let (expected, _) = pair.on_unit(&command);
        let [namespace, unit] = pair.states();
        let context = format!("number {number}: {command:x?}: {ours:x?} for {expected:x?}");
        if ours == expected {
            assert_eq!(namespace, unit, "{context}");
            good += usize::from(ours == GOOD);
            continue;
        }
        assert_ne!(ours, GOOD, "{context}");
        let is_this = |deviation: &Deviation| (deviation.scsi, deviation.helper) == (expected, ours);
        let index = DEVIATIONS.iter().position(is_this).unwrap_or_else(|| panic!("{context}"));
        explained[index] += 1;
        if namespace != unit {
            pair.reset();
        }
    }
    for (deviation, count) in DEVIATIONS.iter().zip(explained) {
        println!("{count:5} x {}", deviation.why);
    }
    println!("{good:5} x GOOD");
    assert!(good > 40, "{good}");
    daemon.stop();
}
