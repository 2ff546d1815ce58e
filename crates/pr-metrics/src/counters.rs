//! Counters, from the start of the server on. Counting takes no lock and no memory: each counter exists from the start.

use std::sync::atomic::{AtomicU64, Ordering};

use pr_backend::Outcome;
use pr_server::{Completed, DisconnectReason, Event, Observer};
use scsi_sense::{
    Status, opcode,
    pr::{InServiceAction, OutServiceAction},
};

use crate::histogram::Histogram;

/// Counts what happens in a server. Add it as an observer, and read it by [`Counters::exposition`].
#[derive(Debug)]
pub struct Counters {
    pub(crate) opcodes: [Opcode; 2],
    pub(crate) accepted: AtomicU64,
    /// By [`DisconnectReason::LABELS`].
    pub(crate) dropped: Labelled,
    pub(crate) refused: Labelled,
}

/// Label of a command that was skipped, because its client had disconnected.
const ABANDONED: &str = "abandoned";

/// All labels of how a command ended, in the order in which metrics show them: those of [`label`], and [`ABANDONED`].
const LABELS: [&str; 8] = [
    "good",
    "reservation_conflict",
    "check_condition",
    "other_status",
    "failed",
    "rejected",
    "refused",
    ABANDONED,
];

/// Returns the label of how a command ended.
fn label(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Device { status: Status::GOOD, .. } => "good",
        Outcome::Device { status: Status::RESERVATION_CONFLICT, .. } => "reservation_conflict",
        Outcome::Device { status: Status::CHECK_CONDITION, .. } => "check_condition",
        Outcome::Device { .. } => "other_status",
        Outcome::Failed(_) => "failed",
        Outcome::Rejected(_) => "rejected",
        Outcome::Refused(_) => "refused",
    }
}

/// A counter for each value of a label.
#[derive(Debug)]
pub(crate) struct Labelled {
    counts: Vec<(&'static str, AtomicU64)>,
    /// Counts values that are not among them.
    other: AtomicU64,
}

impl Labelled {
    fn new(labels: &[&'static str]) -> Self {
        let counts = labels.iter().map(|label| (*label, AtomicU64::new(0))).collect();
        Self { counts, other: AtomicU64::new(0) }
    }

    fn add(&self, label: &str) {
        let count = self.counts.iter().find(|(known, _)| *known == label).map(|(_, count)| count);
        count.unwrap_or(&self.other).fetch_add(1, Ordering::Relaxed);
    }

    /// Returns each label and its count; `other` only if it was counted.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let other = Some(("other", self.other.load(Ordering::Relaxed))).filter(|(_, count)| *count > 0);
        self.counts.iter().map(|(label, count)| (*label, count.load(Ordering::Relaxed))).chain(other)
    }
}

/// Counters of one opcode.
#[derive(Debug)]
pub(crate) struct Opcode {
    code: u8,
    pub(crate) name: String,
    /// By the code of the service action; the last one counts those without a name.
    pub(crate) actions: Vec<(String, Labelled)>,
    pub(crate) duration: Histogram,
}

impl Opcode {
    /// `actions` are the names of the service actions 0, 1, 2, ...
    fn new(code: u8, actions: impl Iterator<Item = Option<&'static str>>) -> Self {
        let text = |name: Option<&str>| name.unwrap_or("other").to_ascii_lowercase().replace(' ', "_");
        Self {
            code,
            name: text(opcode::name(code)),
            actions: actions.chain([None]).map(|name| (text(name), Labelled::new(&LABELS))).collect(),
            duration: Histogram::default(),
        }
    }

    fn add(&self, [_, byte_1, ..]: &[u8; 10], label: &str) {
        // SERVICE ACTION is bits 4-0.
        let counters = self.actions.get(usize::from(byte_1 & 0x1f)).or(self.actions.last());
        if let Some((_, outcomes)) = counters {
            outcomes.add(label);
        }
    }
}

impl Counters {
    /// Returns counters that are all zero. `refusal_labels` are those of the executor
    /// ([`Executor::refusal_labels`](pr_backend::Executor::refusal_labels)), each of which is shown from the start.
    pub fn new(refusal_labels: &[&'static str]) -> Self {
        let inbound = InServiceAction::ALL.iter().map(|action| action.name());
        let outbound = OutServiceAction::ALL.iter().map(|action| action.name());
        Self {
            opcodes: [
                Opcode::new(opcode::PERSISTENT_RESERVE_IN, inbound),
                Opcode::new(opcode::PERSISTENT_RESERVE_OUT, outbound),
            ],
            accepted: AtomicU64::new(0),
            dropped: Labelled::new(&DisconnectReason::LABELS),
            refused: Labelled::new(refusal_labels),
        }
    }

    fn opcode(&self, [code, ..]: &[u8; 10]) -> &Opcode {
        let [inbound, outbound] = &self.opcodes;
        if *code == outbound.code { outbound } else { inbound }
    }

    fn completed(&self, completed: &Completed<'_>) {
        let opcode = self.opcode(completed.cdb);
        opcode.add(completed.cdb, label(completed.outcome));
        match completed.outcome {
            Outcome::Refused(refusal) => self.refused.add(refusal.label()),
            Outcome::Device { .. } | Outcome::Failed(_) if completed.device.is_some() => {
                opcode.duration.observe(completed.elapsed);
            }
            _ => {}
        }
    }
}

impl Observer for Counters {
    fn event(&self, event: &Event<'_>) {
        match *event {
            Event::Connected(_) => {
                self.accepted.fetch_add(1, Ordering::Relaxed);
            }
            Event::Completed(completed) => self.completed(completed),
            Event::Abandoned(_, cdb) => self.opcode(&cdb).add(&cdb, ABANDONED),
            Event::Disconnected(_, reason) => {
                if let Some(label) = reason.label() {
                    self.dropped.add(label);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pr_backend::{Cause, DeviceId, Failure, Refusal};
    use pr_proto::Violation;
    use pr_server::{Client, Peer};
    use scsi_sense::SenseCode;

    use super::*;

    const CLIENT: Client = Client { connection: 1, peer: Peer { pid: 1, uid: 2, process: None } };

    fn complete(counters: &Counters, opcode: u8, action: u8, outcome: &Outcome) {
        let completed = Completed {
            client: CLIENT,
            device: Some(DeviceId::Block { major: 8, minor: 0 }),
            cdb: &[opcode, action, 0, 0, 0, 0, 0, 0, 0, 0],
            outcome,
            sense: &[],
            elapsed: Duration::from_millis(1),
        };
        counters.event(&Event::Completed(&completed));
    }

    /// Returns opcode, action and outcome of each counter of commands that is not zero.
    fn counted(counters: &Counters) -> Vec<(&str, &str, &str)> {
        let all = counters.opcodes.iter().flat_map(|opcode| {
            opcode.actions.iter().flat_map(|(action, outcomes)| {
                let counted = outcomes.iter().filter(|(_, count)| *count == 1);
                counted.map(|(outcome, _)| (&*opcode.name, &**action, outcome))
            })
        });
        all.collect()
    }

    #[test]
    fn every_outcome_has_a_label_of_its_own() {
        let failure = Failure::busy(Cause::new("no_path", "no path"));
        let outcomes = [
            Outcome::bare(Status::GOOD),
            Outcome::bare(Status::RESERVATION_CONFLICT),
            Outcome::bare(Status::CHECK_CONDITION),
            Outcome::bare(Status::BUSY),
            Outcome::Failed(failure),
            Outcome::Rejected(SenseCode::INVALID_OPCODE),
            Outcome::Refused(Refusal::path_only()),
        ];
        let labels: Vec<_> = outcomes.iter().map(label).chain([ABANDONED]).collect();
        assert_eq!(labels, LABELS);
    }

    #[test]
    fn commands_are_counted_by_action_and_label() {
        let device = Outcome::bare;
        let failed = Outcome::Failed(Failure::busy(Cause::new("no_path", "no path")));
        for (opcode, action, outcome, expected) in [
            (0x5e, 0, device(Status::GOOD), ("persistent_reserve_in", "read_keys", "good")),
            (0x5e, 3, device(Status::BUSY), ("persistent_reserve_in", "read_full_status", "other_status")),
            (0x5e, 4, device(Status::CHECK_CONDITION), ("persistent_reserve_in", "other", "check_condition")),
            (0x5e, 0x1f, device(Status::GOOD), ("persistent_reserve_in", "other", "good")),
            (0x5f, 0, failed, ("persistent_reserve_out", "register", "failed")),
            // Bits 7-5 are reserved.
            (
                0x5f,
                0xe8,
                device(Status::GOOD),
                ("persistent_reserve_out", "replace_lost_reservation", "good"),
            ),
            (
                0x5f,
                9,
                Outcome::Rejected(SenseCode::INVALID_OPCODE),
                ("persistent_reserve_out", "other", "rejected"),
            ),
            (
                0x5f,
                4,
                device(Status::RESERVATION_CONFLICT),
                ("persistent_reserve_out", "preempt", "reservation_conflict"),
            ),
        ] {
            let counters = Counters::new(&[]);
            complete(&counters, opcode, action, &outcome);
            assert_eq!(counted(&counters), [expected]);
            let durations: u64 = counters.opcodes.iter().map(|opcode| opcode.duration.snapshot().count).sum();
            assert_eq!(durations, u64::from(expected.2 != "rejected"));
        }
    }

    #[test]
    fn reasons_are_counted_by_label() {
        let counters = Counters::new(&["path_only", "partition"]);
        for label in ["path_only", "path_only", "own_label"] {
            complete(&counters, 0x5e, 0, &Outcome::Refused(Refusal::new(label, "a test")));
        }
        let refused: Vec<_> = counters.refused.iter().collect();
        assert_eq!(refused, [("path_only", 2), ("partition", 0), ("other", 1)]);
        counters.event(&Event::Connected(CLIENT));
        counters.event(&Event::Abandoned(CLIENT, [0x5f, 4, 0, 0, 0, 0, 0, 0, 0, 0]));
        for reason in [DisconnectReason::Client, Violation::Opcode(0x12).into(), DisconnectReason::Unread] {
            counters.event(&Event::Disconnected(CLIENT, &reason));
        }
        assert_eq!(counters.accepted.load(Ordering::Relaxed), 1);
        assert!(counted(&counters).contains(&("persistent_reserve_out", "preempt", "abandoned")));
        let dropped: Vec<_> = counters.dropped.iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(dropped, [("other_opcode", 1), ("unread", 1)]);
    }

    #[test]
    fn service_actions_have_names_of_their_own() {
        let counters = Counters::new(&[]);
        for opcode in &counters.opcodes {
            let mut names: Vec<_> = opcode.actions.iter().map(|(name, _)| name).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), opcode.actions.len());
        }
        let [inbound, outbound] = &counters.opcodes;
        for action in InServiceAction::ALL {
            assert!(usize::from(action.code()) < inbound.actions.len() - 1, "{action}");
        }
        for action in OutServiceAction::ALL {
            assert!(usize::from(action.code()) < outbound.actions.len() - 1, "{action}");
        }
    }
}
