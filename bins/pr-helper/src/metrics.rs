//! What is counted from the start of the daemon on. To count takes no lock and no memory: each counter has been there
//! from the start.

pub(crate) mod exposition;
mod histogram;
pub(crate) mod server;

use std::{
    marker::PhantomData,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use pr_proto::Violation;
use scsi_sense::{
    Status, opcode,
    pr::{InServiceAction, OutServiceAction},
};

use self::{
    exposition::{Exposition, Kind},
    histogram::Histogram,
};
use crate::{backend::Outcome, connection::Fault, device::Refusal};

/// All that is counted.
pub(crate) struct Metrics {
    inbound: Opcode,
    outbound: Opcode,
    clients: AtomicU64,
    dropped: Counters<Offence>,
    refused: Counters<Ground>,
}

/// The values of a label.
trait Label: Copy + 'static {
    /// Each with its text, in the order of their indices.
    const ALL: &'static [(Self, &'static str)];
    fn index(self) -> usize;
}

macro_rules! labels {
    ($(#[$attr:meta])* $name:ident { $($variant:ident $text:literal,)+ }) => {
        $(#[$attr])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum $name { $($variant,)+ }

        impl Label for $name {
            const ALL: &'static [(Self, &'static str)] = &[$((Self::$variant, $text),)+];

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

labels! {
    /// How a command ended.
    Ending {
        Good "good",
        Conflict "reservation_conflict",
        CheckCondition "check_condition",
        OtherStatus "other_status",
        Failed "failed",
        Rejected "rejected",
        Refused "refused",
        Abandoned "abandoned",
    }
}

labels! {
    /// Why a connection was closed by us.
    Offence {
        UnsupportedFeatures "unsupported_features",
        NoDescriptor "no_descriptor",
        ManyDescriptors "many_descriptors",
        StrayDescriptor "stray_descriptor",
        OtherOpcode "other_opcode",
        TransferLength "transfer_length",
        Truncated "truncated",
        OtherViolation "other_violation",
        Deadline "deadline",
        Unread "unread",
        DescriptorLost "descriptor_lost",
        TooMany "too_many_connections",
        Io "io",
    }
}

labels! {
    /// Why a descriptor was refused.
    Ground {
        NotADevice "not_a_device",
        OtherCharacter "other_character_device",
        Partition "partition",
        DeviceMapper "other_map",
        NoMultipath "no_multipath",
        NoMultipathd "no_multipathd",
        Unknown "not_in_sysfs",
        Stacked "stacked",
        NotScsi "not_scsi",
        PathOnly "path_only",
        Unreadable "unreadable",
    }
}

impl From<Outcome> for Ending {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Device { status: Status::GOOD, .. } => Self::Good,
            Outcome::Device { status: Status::RESERVATION_CONFLICT, .. } => Self::Conflict,
            Outcome::Device { status: Status::CHECK_CONDITION, .. } => Self::CheckCondition,
            Outcome::Device { .. } => Self::OtherStatus,
            Outcome::Failed { .. } => Self::Failed,
            Outcome::Rejected(_) => Self::Rejected,
            Outcome::Refused(_) => Self::Refused,
        }
    }
}

impl From<&Fault> for Offence {
    fn from(fault: &Fault) -> Self {
        match fault {
            Fault::Violation(violation) => match violation {
                Violation::UnsupportedFeatures { .. } => Self::UnsupportedFeatures,
                Violation::NoDescriptor => Self::NoDescriptor,
                Violation::ManyDescriptors => Self::ManyDescriptors,
                Violation::StrayDescriptor => Self::StrayDescriptor,
                Violation::Opcode(_) => Self::OtherOpcode,
                Violation::TransferLength(_) => Self::TransferLength,
                Violation::Truncated => Self::Truncated,
                _ => Self::OtherViolation,
            },
            Fault::Deadline => Self::Deadline,
            Fault::Unread => Self::Unread,
            Fault::DescriptorLost => Self::DescriptorLost,
            Fault::TooMany => Self::TooMany,
            Fault::Io(_) => Self::Io,
        }
    }
}

impl From<Refusal> for Ground {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotADevice(_) => Self::NotADevice,
            Refusal::OtherCharacter(_) => Self::OtherCharacter,
            Refusal::Partition(_) => Self::Partition,
            Refusal::DeviceMapper(_) => Self::DeviceMapper,
            Refusal::NoMultipath(..) => Self::NoMultipath,
            Refusal::NoMultipathd(_) => Self::NoMultipathd,
            Refusal::Unknown(_) => Self::Unknown,
            Refusal::Stacked(_) => Self::Stacked,
            Refusal::NotScsi(_) => Self::NotScsi,
            Refusal::PathOnly => Self::PathOnly,
            Refusal::Unreadable(_) => Self::Unreadable,
        }
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let inbound = InServiceAction::ALL.iter().map(|action| action.name());
        let outbound = OutServiceAction::ALL.iter().map(|action| action.name());
        Self {
            inbound: Opcode::new(opcode::PERSISTENT_RESERVE_IN, inbound),
            outbound: Opcode::new(opcode::PERSISTENT_RESERVE_OUT, outbound),
            clients: AtomicU64::new(0),
            dropped: Counters::new(),
            refused: Counters::new(),
        }
    }

    /// A client has connected.
    pub(crate) fn accepted(&self) {
        self.clients.fetch_add(1, Ordering::Relaxed);
    }

    /// A client's connection is closed by us.
    pub(crate) fn dropped(&self, fault: &Fault) {
        self.dropped.add(fault.into());
    }

    /// A command has ended.
    pub(crate) fn command(&self, cdb: [u8; 10], outcome: Outcome, elapsed: Duration) {
        let opcode = self.opcode(cdb);
        opcode.add(cdb, outcome.into());
        match outcome {
            Outcome::Device { .. } | Outcome::Failed { .. } => opcode.duration.observe(elapsed),
            Outcome::Refused(refusal) => self.refused.add(refusal.into()),
            Outcome::Rejected(_) => {}
        }
    }

    /// A command was not run, since its client had gone.
    pub(crate) fn abandoned(&self, cdb: [u8; 10]) {
        self.opcode(cdb).add(cdb, Ending::Abandoned);
    }

    fn opcode(&self, [opcode, ..]: [u8; 10]) -> &Opcode {
        if opcode == opcode::PERSISTENT_RESERVE_OUT { &self.outbound } else { &self.inbound }
    }

    /// Writes all families.
    pub(crate) fn write(&self, exposition: &mut Exposition) {
        let opcodes = [&self.inbound, &self.outbound];
        let mut family = exposition.family(
            Kind::Counter,
            "pr_helper_commands",
            "Commands that clients have sent, by how they ended.",
        );
        for opcode in opcodes {
            for (action, endings) in &opcode.actions {
                for (ending, count) in endings.iter() {
                    let labels = [("opcode", &*opcode.name), ("service_action", action), ("outcome", ending)];
                    family.sample(&labels, count);
                }
            }
        }
        let mut family = exposition.family(
            Kind::Histogram,
            "pr_helper_command_duration_seconds",
            "How long devices took for the commands that they were given.",
        );
        for opcode in opcodes {
            opcode.duration.write(&mut family, ("opcode", &opcode.name));
        }
        let mut family = exposition.family(
            Kind::Counter,
            "pr_helper_descriptors_refused",
            "Commands that were refused for their descriptor, by what is wrong with it.",
        );
        for (ground, count) in self.refused.iter() {
            family.sample(&[("reason", ground)], count);
        }
        exposition
            .family(Kind::Counter, "pr_helper_clients_accepted", "Clients that have connected.")
            .sample(&[], self.clients.load(Ordering::Relaxed));
        let mut family = exposition.family(
            Kind::Counter,
            "pr_helper_clients_dropped",
            "Clients whose connection the helper has closed, by what they did.",
        );
        for (offence, count) in self.dropped.iter() {
            family.sample(&[("reason", offence)], count);
        }
    }
}

/// What is counted for one opcode.
struct Opcode {
    name: String,
    /// By the code of the service action; the last is of those without a name.
    actions: Vec<(String, Counters<Ending>)>,
    duration: Histogram,
}

impl Opcode {
    /// `actions` are the names of the service actions 0, 1, 2, ...
    fn new(opcode: u8, actions: impl Iterator<Item = Option<&'static str>>) -> Self {
        let text = |name: Option<&str>| name.unwrap_or("other").to_ascii_lowercase().replace(' ', "_");
        Self {
            name: text(opcode::name(opcode)),
            actions: actions.chain([None]).map(|name| (text(name), Counters::new())).collect(),
            duration: Histogram::default(),
        }
    }

    fn add(&self, [_, byte_1, ..]: [u8; 10], ending: Ending) {
        // SERVICE ACTION is bits 4-0.
        let counters = self.actions.get(usize::from(byte_1 & 0x1f)).or(self.actions.last());
        if let Some((_, endings)) = counters {
            endings.add(ending);
        }
    }
}

/// A counter for each value of a label.
struct Counters<L> {
    counts: Box<[AtomicU64]>,
    label: PhantomData<L>,
}

impl<L: Label> Counters<L> {
    fn new() -> Self {
        Self { counts: L::ALL.iter().map(|_| AtomicU64::new(0)).collect(), label: PhantomData }
    }

    fn add(&self, label: L) {
        if let Some(count) = self.counts.get(label.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        L::ALL.iter().map(|(_, text)| *text).zip(counts)
    }
}

#[cfg(test)]
mod tests {
    use scsi_sense::SenseCode;

    use super::*;
    use crate::backend::Cause;

    fn cdb(opcode: u8, action: u8) -> [u8; 10] {
        [opcode, action, 0, 0, 0, 0, 0, 0, 0, 0]
    }

    /// The samples that are not zero, without buckets and sums.
    fn counted(metrics: &Metrics) -> Vec<String> {
        let mut exposition = Exposition::default();
        metrics.write(&mut exposition);
        let text = exposition.finish();
        let samples = text.lines().filter(|line| !line.starts_with('#') && !line.ends_with(" 0"));
        samples
            .filter(|line| !line.contains("_bucket") && !line.contains("_sum"))
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn every_command_is_counted_where_it_belongs() {
        let device = |status| Outcome::Device { status, transferred: 0, sense_len: 0 };
        let failed = Outcome::Failed { status: Status::BUSY, sense: None, cause: Cause::NoPath };
        for (opcode, action, outcome, labels) in [
            (0x5e, 0, device(Status::GOOD), ("in", "read_keys", "good")),
            (0x5e, 3, device(Status::BUSY), ("in", "read_full_status", "other_status")),
            (0x5e, 4, device(Status::CHECK_CONDITION), ("in", "other", "check_condition")),
            (0x5e, 0x1f, device(Status::GOOD), ("in", "other", "good")),
            (0x5f, 0, failed, ("out", "register", "failed")),
            // Bits 7-5 are reserved.
            (0x5f, 0xe8, device(Status::GOOD), ("out", "replace_lost_reservation", "good")),
            (0x5f, 9, Outcome::Rejected(SenseCode::INVALID_OPCODE), ("out", "other", "rejected")),
            (0x5f, 4, device(Status::RESERVATION_CONFLICT), ("out", "preempt", "reservation_conflict")),
        ] {
            let metrics = Metrics::new();
            metrics.command(cdb(opcode, action), outcome, Duration::from_millis(1));
            let (direction, action, ending) = labels;
            let opcode = format!("opcode=\"persistent_reserve_{direction}\"");
            let mut expected = vec![format!(
                "pr_helper_commands_total{{{opcode},service_action=\"{action}\",outcome=\"{ending}\"}} 1"
            )];
            if ending != "rejected" {
                expected.push(format!("pr_helper_command_duration_seconds_count{{{opcode}}} 1"));
            }
            assert_eq!(counted(&metrics), expected);
        }
    }

    #[test]
    fn refusals_and_violations_are_counted_by_their_reason() {
        let metrics = Metrics::new();
        metrics.command(cdb(0x5e, 0), Outcome::Refused(Refusal::PathOnly), Duration::ZERO);
        metrics.abandoned(cdb(0x5f, 4));
        metrics.accepted();
        metrics.dropped(&Fault::Violation(Violation::Opcode(0x12)));
        metrics.dropped(&Fault::Unread);
        let expected = [
            r#"pr_helper_commands_total{opcode="persistent_reserve_in",service_action="read_keys",outcome="refused"} 1"#,
            r#"pr_helper_commands_total{opcode="persistent_reserve_out",service_action="preempt",outcome="abandoned"} 1"#,
            r#"pr_helper_descriptors_refused_total{reason="path_only"} 1"#,
            "pr_helper_clients_accepted_total 1",
            r#"pr_helper_clients_dropped_total{reason="other_opcode"} 1"#,
            r#"pr_helper_clients_dropped_total{reason="unread"} 1"#,
        ];
        assert_eq!(counted(&metrics), expected);
    }

    #[test]
    fn all_service_actions_and_labels_are_told_apart() {
        let metrics = Metrics::new();
        for opcode in [&metrics.inbound, &metrics.outbound] {
            let mut names: Vec<_> = opcode.actions.iter().map(|(name, _)| name).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), opcode.actions.len());
        }
        for action in InServiceAction::ALL {
            assert!(usize::from(action.code()) < metrics.inbound.actions.len() - 1, "{action}");
        }
        for action in OutServiceAction::ALL {
            assert!(usize::from(action.code()) < metrics.outbound.actions.len() - 1, "{action}");
        }
    }
}
