//! The deviations of LIO (kernels 6.12 and 7.2) from SPC-4 revision 37.

use scsi_sense::pr::{InServiceAction, OutParameters, OutServiceAction, ReservationType, Scope};

use super::pair::{CONFLICT, End, GOOD, State, Step, check};

/// A deviation of LIO from SPC-4.
pub(super) struct Deviation {
    /// LIO's behaviour.
    pub(super) behaviour: &'static str,
    /// The clause that requires something else, in SPC-4 unless another standard is named.
    pub(super) clause: &'static str,
    /// Returns whether this deviation explains the whole difference.
    pub(super) matches: fn(&Step) -> bool,
}

const INVALID_CDB: End = check(5, 0x24, 0x00);
const INVALID_LIST: End = check(5, 0x26, 0x00);
const INVALID_RELEASE: End = check(5, 0x26, 0x04);
const LIST_LENGTH: End = check(5, 0x1a, 0x00);

const REGISTER: OutServiceAction = OutServiceAction::Register;
const REGISTER_AND_IGNORE: OutServiceAction = OutServiceAction::RegisterAndIgnoreExistingKey;

pub(super) const DEVIATIONS: &[Deviation] = &[
    Deviation {
        behaviour: "the OUT of an unregistered nexus ends with NOT READY, LOGICAL UNIT COMMUNICATION FAILURE",
        clause: "5.13.7: with RESERVATION CONFLICT",
        matches: |step| !step.is_registered() && step.ended(CONFLICT, check(2, 0x08, 0x00)),
    },
    Deviation {
        behaviour: "an error in a command comes before its conflict",
        clause: "SAM-5 5.3.3: RESERVATION CONFLICT comes before CHECK CONDITION",
        matches: |step| {
            has_fault(step)
                && [INVALID_CDB, INVALID_LIST, LIST_LENGTH].iter().any(|end| step.ended(CONFLICT, *end))
        },
    },
    Deviation {
        behaviour: "REPLACE LOST RESERVATION is an invalid field in the CDB",
        clause: "5.13.11.3: an invalid release; LIO reports by RLR_C = 0 that it does not support it",
        matches: |step| {
            let ends = [INVALID_RELEASE, INVALID_LIST, LIST_LENGTH];
            step.is(OutServiceAction::ReplaceLostReservation)
                && ends.iter().any(|end| step.ended(*end, INVALID_CDB))
        },
    },
    Deviation {
        behaviour: "an unknown service action conflicts if another nexus holds a reservation",
        clause: "6.16.2: it is a reserved code for every nexus",
        matches: |step| {
            let is_unknown = step.out_command().is_some_and(|out| {
                matches!(out.action, OutServiceAction::Other(_) | OutServiceAction::ReplaceLostReservation)
            });
            let is_of_another = step.before.held().is_some() && !step.is_holder();
            // To LIO, the only holder of an all-registrants reservation is the nexus that made it.
            let is_of_all = step.before.held().is_some_and(ReservationType::is_all_registrants);
            is_unknown
                && (is_of_another || is_of_all)
                && step.model.end.1.is_some()
                && step.ended(step.model.end, CONFLICT)
        },
    },
    Deviation {
        behaviour: "RELEASE of another type conflicts",
        clause: "5.13.11.2.2: INVALID RELEASE OF PERSISTENT RESERVATION",
        matches: |step| step.is(OutServiceAction::Release) && step.ended(INVALID_RELEASE, CONFLICT),
    },
    Deviation {
        behaviour: "RELEASE with a wrong key is good from a nexus that holds no reservation",
        clause: "6.16.3: RESERVATION CONFLICT",
        matches: |step| {
            step.is(OutServiceAction::Release)
                && step.is_registered()
                && !step.is_holder()
                && !has_right_key(step)
                && step.ended(CONFLICT, GOOD)
        },
    },
    Deviation {
        behaviour: "RELEASE does not check whether scope and type exist",
        clause: "6.16.1, 6.15.3.4: INVALID FIELD IN CDB",
        matches: |step| {
            let as_of_another_type = if step.is_holder() { CONFLICT } else { GOOD };
            step.is(OutServiceAction::Release)
                && !names_scope_and_type(step)
                && step.ended(INVALID_CDB, as_of_another_type)
        },
    },
    Deviation {
        behaviour: "RESERVE of an unknown scope is an invalid field in the parameter list",
        clause: "6.16.1: in the CDB",
        matches: |step| {
            step.is(OutServiceAction::Reserve)
                && !names_scope_and_type(step)
                && step.ended(INVALID_CDB, INVALID_LIST)
        },
    },
    Deviation {
        behaviour: "a reservation that was moved has a scope that no command can specify",
        clause: "5.13.8 g): the same scope; so the holder may RESERVE it again and RELEASE it",
        matches: |step| {
            let is_repeated = step.is(OutServiceAction::Reserve) && step.model.after == step.before;
            let is_released = step.is(OutServiceAction::Release) && step.model.after.held().is_none();
            step.is_moved && step.is_holder() && (is_repeated || is_released) && step.ended(GOOD, CONFLICT)
        },
    },
    Deviation {
        behaviour: "PREEMPT of key zero without a reservation is an invalid field",
        clause: "5.13.11.2.5: a key that no nexus has: RESERVATION CONFLICT",
        matches: |step| {
            step.is(OutServiceAction::Preempt)
                && has_right_key(step)
                && step.before.held().is_none()
                && new_key(step) == Some(0)
                && step.ended(CONFLICT, INVALID_LIST)
        },
    },
    Deviation {
        behaviour: "PREEMPT checks scope and type even if it only removes registrations",
        clause: "5.13.11.2.5 b): they are ignored",
        matches: |step| {
            step.is(OutServiceAction::Preempt)
                && !names_scope_and_type(step)
                && [INVALID_CDB, INVALID_LIST].iter().any(|end| step.ended(GOOD, *end))
        },
    },
    Deviation {
        behaviour: "PREEMPT of the key of its maker takes a reservation that all registrants hold",
        clause: "table 72: it removes registrations",
        matches: |step| {
            let held = step.before.held();
            step.is(OutServiceAction::Preempt)
                && held.is_some_and(ReservationType::is_all_registrants)
                && new_key(step) != Some(0)
                && step.ended(GOOD, GOOD)
                && step.lio.after.registration_of(step.command.sender).is_some_and(|one| one.holds.is_some())
                && step.model.after.registration_of(step.command.sender).is_none_or(|one| one.holds == held)
        },
    },
    Deviation {
        behaviour: "CLEAR deactivates persistence through power loss",
        clause: "5.13.5.1: only service actions with an APTPL bit do",
        matches: |step| {
            let expected = State { aptpl: false, ..step.model.after.clone() };
            step.is(OutServiceAction::Clear)
                && step.ended(GOOD, GOOD)
                && step.has_same_attentions()
                && step.lio.after == expected
        },
    },
    Deviation {
        behaviour: "unregistering is not counted in PRGENERATION",
        clause: "6.15.2: every REGISTER that is performed is",
        matches: |step| {
            let expected = State { generation: step.before.generation, ..step.model.after.clone() };
            (step.is(REGISTER) || step.is(REGISTER_AND_IGNORE))
                && new_key(step) == Some(0)
                && step.ended(GOOD, GOOD)
                && step.has_same_attentions()
                && step.lio.after == expected
        },
    },
    Deviation {
        behaviour: "a registration that was made with ALL_TG_PT cannot be changed without it",
        clause: "tables 67 and 68",
        matches: |step| {
            let is_without = step.command.parameters.get(20).is_some_and(|flags| flags & 0x04 == 0);
            (step.is(REGISTER) || step.is(REGISTER_AND_IGNORE))
                && step.has_all_target_ports
                && is_without
                && step.ended(GOOD, INVALID_CDB)
        },
    },
    Deviation {
        behaviour: "SPEC_I_PT registers each initiator port at the target port where it is known, as often as it is named, \
               but not again if it was registered there",
        clause: "6.16.3, 5.13.1: at the target port that got the command, once; 6.15.2: PRGENERATION counts commands",
        matches: |step| {
            let Some(OutParameters::Basic(list)) = step.parameters() else { return false };
            let sender = step.command.sender;
            let named = list.transport_ids.unwrap_or_default().iter().filter_map(|id| step.index_of(id));
            let others = named.filter(|initiator| step.before.registration_of(*initiator).is_none());
            let added: Vec<_> = [sender].into_iter().chain(others).collect();
            let key = list.service_action_key.0;
            let mut expected: Vec<_> =
                step.before.registrations.iter().map(|one| (one.initiator, one.port, one.key)).collect();
            expected.extend(added.iter().map(|initiator| (*initiator, step.port_of(*initiator), key)));
            let mut found: Vec<_> =
                step.lio.after.registrations.iter().map(|one| (one.initiator, one.port, one.key)).collect();
            expected.sort_unstable();
            found.sort_unstable();
            step.is(REGISTER)
                && list.transport_ids.is_some()
                && step.ended(GOOD, GOOD)
                && found == expected
                && step.lio.after.generation == step.before.generation + u32::try_from(added.len()).unwrap()
                && step.lio.after.held() == step.before.held()
        },
    },
    Deviation {
        behaviour: "of two errors LIO reports the other one",
        clause: "6.16 specifies no order, and nothing is changed",
        matches: |step| {
            let is_move = step.is(OutServiceAction::RegisterAndMove) && step.before.held().is_none();
            let is_preempt =
                step.is(OutServiceAction::Preempt) && new_key(step) == Some(0) && !names_scope_and_type(step);
            (is_move && step.ended(INVALID_CDB, INVALID_LIST))
                || (is_preempt && step.ended(INVALID_LIST, INVALID_CDB))
        },
    },
    Deviation {
        behaviour: "an allocation length below 8 is an invalid field",
        clause: "4.2.5.6: it is not an error",
        matches: |step| {
            step.in_command().is_some_and(|command| command.allocation_length < 8)
                && step.ended(GOOD, INVALID_CDB)
        },
    },
    Deviation {
        behaviour: "a key or reservation that the allocation length cuts is returned as zeros",
        clause: "4.2.5.6: its first bytes",
        matches: |step| {
            let Some(command) = step.in_command() else { return false };
            let (model, lio) = (&step.model.data, &step.lio.data);
            let whole = if command.action == InServiceAction::ReadKeys { model.len() & !7 } else { 8 };
            let is_of_this_kind =
                [InServiceAction::ReadKeys, InServiceAction::ReadReservation].contains(&command.action);
            is_of_this_kind
                && step.ended(GOOD, GOOD)
                && step.lio_changed_nothing()
                && model.len() == usize::from(command.allocation_length)
                && lio.len() == model.len()
                && lio[..whole] == model[..whole]
                && lio[whole..].iter().all(|byte| *byte == 0)
        },
    },
    Deviation {
        behaviour: "ADDITIONAL LENGTH of READ FULL STATUS counts no registration that the allocation length cuts",
        clause: "6.15.5: it is not altered by the allocation length",
        matches: |step| {
            let Some(command) = step.in_command() else { return false };
            let (model, lio) = (&step.model.data, &step.lio.data);
            let length =
                |data: &[u8]| data.get(4..8).map(|bytes| u32::from_be_bytes(bytes.try_into().unwrap()));
            command.action == InServiceAction::ReadFullStatus
                && step.ended(GOOD, GOOD)
                && step.lio_changed_nothing()
                && model.len() == usize::from(command.allocation_length)
                && length(lio) < length(model)
        },
    },
];

/// Returns whether the command has an error besides its conflict.
fn has_fault(step: &Step) -> bool {
    let Some(out) = step.out_command() else { return false };
    let Some(list) = step.parameters() else { return true };
    match out.action {
        OutServiceAction::Reserve
        | OutServiceAction::Release
        | OutServiceAction::Preempt
        | OutServiceAction::PreemptAndAbort => !names_scope_and_type(step),
        // An invalid destination, or no reservation to move.
        OutServiceAction::RegisterAndMove => {
            let OutParameters::RegisterAndMove(list) = list else { return false };
            list.service_action_key.is_zero()
                || list.relative_port == 0x7777
                || step.index_of(list.transport_id) == Some(step.command.sender)
                || step.before.held().is_none()
        }
        OutServiceAction::ReplaceLostReservation => true,
        _ => false,
    }
}

fn names_scope_and_type(step: &Step) -> bool {
    step.out_command().is_some_and(|out| out.scope == Scope::LogicalUnit && out.kind.name().is_some())
}

fn new_key(step: &Step) -> Option<u64> {
    step.parameters().map(|list| list.service_action_key().0)
}

fn has_right_key(step: &Step) -> bool {
    let known = step.before.registration_of(step.command.sender).map(|one| one.key);
    known.is_some() && step.parameters().map(|list| list.reservation_key().0) == known
}
