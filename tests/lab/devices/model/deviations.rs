//! Where LIO (of kernels 6.12 and 7.2) does something else than SPC-4 revision 37 says, one by one.

use scsi_sense::pr::{InServiceAction, OutParameters, OutServiceAction, ReservationType, Scope};

use super::pair::{CONFLICT, End, GOOD, State, Step, check};

/// One of them.
pub(super) struct Deviation {
    /// What LIO does.
    pub(super) what: &'static str,
    /// The clause that says otherwise, of SPC-4 unless another standard is named.
    pub(super) clause: &'static str,
    /// Whether this, and nothing more, is the difference.
    pub(super) is_it: fn(&Step) -> bool,
}

const INVALID_CDB: End = check(5, 0x24, 0x00);
const INVALID_LIST: End = check(5, 0x26, 0x00);
const INVALID_RELEASE: End = check(5, 0x26, 0x04);
const LIST_LENGTH: End = check(5, 0x1a, 0x00);

const REGISTER: OutServiceAction = OutServiceAction::Register;
const REGISTER_AND_IGNORE: OutServiceAction = OutServiceAction::RegisterAndIgnoreExistingKey;

pub(super) const DEVIATIONS: &[Deviation] = &[
    Deviation {
        what: "the OUT of an unregistered nexus ends with NOT READY, LOGICAL UNIT COMMUNICATION FAILURE",
        clause: "5.13.7: with RESERVATION CONFLICT",
        is_it: |step| !step.is_registered() && step.ended(CONFLICT, check(2, 0x08, 0x00)),
    },
    Deviation {
        what: "what is wrong with a command comes before its conflict",
        clause: "SAM-5 5.3.3: RESERVATION CONFLICT comes before CHECK CONDITION",
        is_it: |step| {
            has_fault(step)
                && [INVALID_CDB, INVALID_LIST, LIST_LENGTH].iter().any(|end| step.ended(CONFLICT, *end))
        },
    },
    Deviation {
        what: "REPLACE LOST RESERVATION is an invalid field in the CDB",
        clause: "5.13.11.3: an invalid release; LIO does say by RLR_C = 0 that it has no such thing",
        is_it: |step| {
            let ends = [INVALID_RELEASE, INVALID_LIST, LIST_LENGTH];
            step.is(OutServiceAction::ReplaceLostReservation)
                && ends.iter().any(|end| step.ended(*end, INVALID_CDB))
        },
    },
    Deviation {
        what: "an unknown service action conflicts if another nexus holds a reservation",
        clause: "6.16.2: it is a reserved code, whoever sends it",
        is_it: |step| {
            let is_unknown = step.orders().is_some_and(|out| {
                matches!(out.action, OutServiceAction::Other(_) | OutServiceAction::ReplaceLostReservation)
            });
            let is_of_another = step.before.held().is_some() && !step.is_holder();
            // Who made the reservation that all registrants hold is its only holder to LIO.
            let is_of_all = step.before.held().is_some_and(ReservationType::is_all_registrants);
            is_unknown
                && (is_of_another || is_of_all)
                && step.model.end.1.is_some()
                && step.ended(step.model.end, CONFLICT)
        },
    },
    Deviation {
        what: "RELEASE of another type conflicts",
        clause: "5.13.11.2.2: INVALID RELEASE OF PERSISTENT RESERVATION",
        is_it: |step| step.is(OutServiceAction::Release) && step.ended(INVALID_RELEASE, CONFLICT),
    },
    Deviation {
        what: "RELEASE with a wrong key is good from a nexus that holds no reservation",
        clause: "6.16.3: RESERVATION CONFLICT",
        is_it: |step| {
            step.is(OutServiceAction::Release)
                && step.is_registered()
                && !step.is_holder()
                && !has_right_key(step)
                && step.ended(CONFLICT, GOOD)
        },
    },
    Deviation {
        what: "RELEASE does not look at whether scope and type exist",
        clause: "6.16.1, 6.15.3.4: INVALID FIELD IN CDB",
        is_it: |step| {
            let as_of_another_type = if step.is_holder() { CONFLICT } else { GOOD };
            step.is(OutServiceAction::Release)
                && !names_scope_and_type(step)
                && step.ended(INVALID_CDB, as_of_another_type)
        },
    },
    Deviation {
        what: "RESERVE of an unknown scope is an invalid field in the parameter list",
        clause: "6.16.1: in the CDB",
        is_it: |step| {
            step.is(OutServiceAction::Reserve)
                && !names_scope_and_type(step)
                && step.ended(INVALID_CDB, INVALID_LIST)
        },
    },
    Deviation {
        what: "a reservation that was moved has a scope that nobody can name",
        clause: "5.13.8 g): the same scope; so the holder may RESERVE it again and RELEASE it",
        is_it: |step| {
            let is_repeated = step.is(OutServiceAction::Reserve) && step.model.after == step.before;
            let is_released = step.is(OutServiceAction::Release) && step.model.after.held().is_none();
            step.is_moved && step.is_holder() && (is_repeated || is_released) && step.ended(GOOD, CONFLICT)
        },
    },
    Deviation {
        what: "PREEMPT by zero, where there is no reservation, is an invalid field",
        clause: "5.13.11.2.5: a key that nobody has: RESERVATION CONFLICT",
        is_it: |step| {
            step.is(OutServiceAction::Preempt)
                && has_right_key(step)
                && step.before.held().is_none()
                && new_key(step) == Some(0)
                && step.ended(CONFLICT, INVALID_LIST)
        },
    },
    Deviation {
        what: "PREEMPT looks at scope and type where it only removes registrations",
        clause: "5.13.11.2.5 b): they are ignored",
        is_it: |step| {
            step.is(OutServiceAction::Preempt)
                && !names_scope_and_type(step)
                && [INVALID_CDB, INVALID_LIST].iter().any(|end| step.ended(GOOD, *end))
        },
    },
    Deviation {
        what: "PREEMPT by the key of who made it takes a reservation that all registrants hold",
        clause: "table 72: it removes registrations",
        is_it: |step| {
            let held = step.before.held();
            step.is(OutServiceAction::Preempt)
                && held.is_some_and(ReservationType::is_all_registrants)
                && new_key(step) != Some(0)
                && step.ended(GOOD, GOOD)
                && step.lio.after.of(step.command.sender).is_some_and(|one| one.holds.is_some())
                && step.model.after.of(step.command.sender).is_none_or(|one| one.holds == held)
        },
    },
    Deviation {
        what: "CLEAR deactivates persistence through power loss",
        clause: "5.13.5.1: only service actions with an APTPL bit do",
        is_it: |step| {
            let expected = State { aptpl: false, ..step.model.after.clone() };
            step.is(OutServiceAction::Clear)
                && step.ended(GOOD, GOOD)
                && step.tells_the_same()
                && step.lio.after == expected
        },
    },
    Deviation {
        what: "unregistering is not counted in PRGENERATION",
        clause: "6.15.2: every REGISTER that is performed is",
        is_it: |step| {
            let expected = State { generation: step.before.generation, ..step.model.after.clone() };
            (step.is(REGISTER) || step.is(REGISTER_AND_IGNORE))
                && new_key(step) == Some(0)
                && step.ended(GOOD, GOOD)
                && step.tells_the_same()
                && step.lio.after == expected
        },
    },
    Deviation {
        what: "a registration that was made with ALL_TG_PT cannot be changed without",
        clause: "tables 67 and 68",
        is_it: |step| {
            let is_without = step.command.parameters.get(20).is_some_and(|flags| flags & 0x04 == 0);
            (step.is(REGISTER) || step.is(REGISTER_AND_IGNORE))
                && step.has_all_target_ports
                && is_without
                && step.ended(GOOD, INVALID_CDB)
        },
    },
    Deviation {
        what: "SPEC_I_PT registers each initiator port at the target port where it is known, as often as it is named, \
               but not again if it was registered there",
        clause: "6.16.3, 5.13.1: at the target port that got the command, once; 6.15.2: PRGENERATION counts commands",
        is_it: |step| {
            let Some(OutParameters::Basic(list)) = step.parameters() else { return false };
            let sender = step.command.sender;
            let named = list.transport_ids.unwrap_or_default().iter().filter_map(|id| step.who(id));
            let others = named.filter(|who| step.before.of(*who).is_none());
            let added: Vec<_> = [sender].into_iter().chain(others).collect();
            let key = list.service_action_key.0;
            let mut expected: Vec<_> =
                step.before.registrations.iter().map(|one| (one.who, one.port, one.key)).collect();
            expected.extend(added.iter().map(|who| (*who, step.port_of(*who), key)));
            let mut found: Vec<_> =
                step.lio.after.registrations.iter().map(|one| (one.who, one.port, one.key)).collect();
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
        what: "of two things that are wrong another one is named",
        clause: "6.16 has no order, and nothing is changed",
        is_it: |step| {
            let is_move = step.is(OutServiceAction::RegisterAndMove) && step.before.held().is_none();
            let is_preempt =
                step.is(OutServiceAction::Preempt) && new_key(step) == Some(0) && !names_scope_and_type(step);
            (is_move && step.ended(INVALID_CDB, INVALID_LIST))
                || (is_preempt && step.ended(INVALID_LIST, INVALID_CDB))
        },
    },
    Deviation {
        what: "an allocation length below 8 is an invalid field",
        clause: "4.2.5.6: it is not an error",
        is_it: |step| {
            step.asks().is_some_and(|asked| asked.allocation_length < 8) && step.ended(GOOD, INVALID_CDB)
        },
    },
    Deviation {
        what: "of a key or a reservation that the allocation length cuts, zeros are returned",
        clause: "4.2.5.6: its first bytes",
        is_it: |step| {
            let Some(asked) = step.asks() else { return false };
            let (model, lio) = (&step.model.data, &step.lio.data);
            let whole = if asked.action == InServiceAction::ReadKeys { model.len() & !7 } else { 8 };
            let is_of_this_kind =
                [InServiceAction::ReadKeys, InServiceAction::ReadReservation].contains(&asked.action);
            is_of_this_kind
                && step.ended(GOOD, GOOD)
                && step.did_lio_nothing()
                && model.len() == usize::from(asked.allocation_length)
                && lio.len() == model.len()
                && lio[..whole] == model[..whole]
                && lio[whole..].iter().all(|byte| *byte == 0)
        },
    },
    Deviation {
        what: "ADDITIONAL LENGTH of READ FULL STATUS counts no registration that the allocation length cuts",
        clause: "6.15.5: it is not altered by the allocation length",
        is_it: |step| {
            let Some(asked) = step.asks() else { return false };
            let (model, lio) = (&step.model.data, &step.lio.data);
            let length =
                |data: &[u8]| data.get(4..8).map(|bytes| u32::from_be_bytes(bytes.try_into().unwrap()));
            asked.action == InServiceAction::ReadFullStatus
                && step.ended(GOOD, GOOD)
                && step.did_lio_nothing()
                && model.len() == usize::from(asked.allocation_length)
                && length(lio) < length(model)
        },
    },
];

/// Whether something is wrong with the command beside that it conflicts.
fn has_fault(step: &Step) -> bool {
    let Some(out) = step.orders() else { return false };
    let Some(list) = step.parameters() else { return true };
    match out.action {
        OutServiceAction::Reserve
        | OutServiceAction::Release
        | OutServiceAction::Preempt
        | OutServiceAction::PreemptAndAbort => !names_scope_and_type(step),
        // What it moves to, or where there is nothing to be moved.
        OutServiceAction::RegisterAndMove => {
            let OutParameters::RegisterAndMove(list) = list else { return false };
            list.service_action_key.is_zero()
                || list.relative_port == 0x7777
                || step.who(list.transport_id) == Some(step.command.sender)
                || step.before.held().is_none()
        }
        OutServiceAction::ReplaceLostReservation => true,
        _ => false,
    }
}

fn names_scope_and_type(step: &Step) -> bool {
    step.orders().is_some_and(|out| out.scope == Scope::LogicalUnit && out.kind.name().is_some())
}

fn new_key(step: &Step) -> Option<u64> {
    step.parameters().map(|list| list.service_action_key().0)
}

fn has_right_key(step: &Step) -> bool {
    let known = step.before.of(step.command.sender).map(|one| one.key);
    known.is_some() && step.parameters().map(|list| list.reservation_key().0) == known
}
