//! PREEMPT and PREEMPT AND ABORT, by NVMe's Reservation Acquire.
//!
//! A success of the controller does not mean that the victim's registration is gone: Linux's nvmet (up to 7.2 at least)
//! removes no registration if the preempting host holds the reservation. A cluster would take the victim for fenced. So the
//! registrants are read before the command, to know what SCSI demands, and after it, to see whether that happened.

use block_pr::{Acquire, Namespace, Passthrough, Report, ReservationType as NvmeType};
use scsi_sense::{
    SenseCode,
    pr::{ReservationType, Scope},
};

use super::{
    answer::{Stop, Use},
    identity::{Identity, Registrants},
    kinds::to_nvme,
};

/// What the guest asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    /// RESERVATION KEY: this host's.
    pub(super) key: u64,
    /// SERVICE ACTION RESERVATION KEY: the key to preempt.
    pub(super) victim: u64,
    /// SCOPE and TYPE of the CDB, which matter only if the reservation is preempted.
    pub(super) scope: Scope,
    pub(super) kind: ReservationType,
    pub(super) is_abort: bool,
}

impl Request {
    /// Returns the requested type, or INVALID FIELD IN CDB.
    fn kind(&self) -> Result<NvmeType, Stop> {
        match self.scope {
            Scope::LogicalUnit => to_nvme(self.kind),
            _ => Err(Stop::Rejected(SenseCode::INVALID_FIELD_IN_CDB)),
        }
    }
}

/// What SCSI demands (SPC-4 table 72 and figure 9), and how it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    /// The type that is sent.
    kind: NvmeType,
    /// This host gets the reservation. Otherwise it stays as it is, unless its holder goes.
    takes_reservation: bool,
    /// The registrations of all other hosts go, not only those with the victim's key.
    removes_all_others: bool,
    /// This host's own registration goes, too.
    removes_own: bool,
}

pub(super) fn run(
    namespace: &Namespace<impl Passthrough>,
    identity: &Identity,
    request: &Request,
) -> Result<(), Stop> {
    let before = namespace.report().map_err(|error| Stop::of(&error, Use::Read))?;
    let registrants = identity.split(&before)?;
    let plan = plan(request, &before, &registrants)?;
    let victim = request.victim;
    let what =
        if request.is_abort { Acquire::PreemptAndAbort { victim } } else { Acquire::Preempt { victim } };
    namespace.acquire(what, plan.kind, request.key).map_err(|error| Stop::of(&error, Use::Change))?;
    let after = namespace.report().map_err(|error| Stop::of(&error, Use::Verify))?;
    let held_before = registrants.own_holds(&before);
    verify(request, plan, held_before, &after, &identity.split(&after)?)
}

/// Returns what SCSI demands, or why it demands nothing: then nothing is sent.
fn plan(request: &Request, before: &Report, registrants: &Registrants<'_>) -> Result<Plan, Stop> {
    let Request { key, victim, .. } = *request;
    if registrants.own_key() != Some(key) {
        return Err(Stop::Conflict);
    }
    let is_there = before.registrants.iter().any(|registrant| registrant.key == victim);
    let removes_own = key == victim;
    match before.reservation_type {
        Some(held) if held.is_all_registrants() && victim == 0 => {
            let kind = request.kind()?;
            Ok(Plan { kind, takes_reservation: true, removes_all_others: true, removes_own: false })
        }
        Some(held) if !held.is_all_registrants() && victim == 0 => {
            Err(Stop::Rejected(SenseCode::INVALID_FIELD_IN_PARAMETER_LIST))
        }
        _ if victim == 0 || !is_there => Err(Stop::Conflict),
        Some(held) => {
            let is_holder = before.registrants.iter().any(|one| one.holds && one.key == victim);
            let takes_reservation = is_holder && !held.is_all_registrants();
            // Controllers check the type even where it does not matter, and nvmet gives it to the reservation of a holder
            // that preempts: the present one changes nothing.
            let kind = if takes_reservation { request.kind()? } else { held };
            let removes_own = removes_own && !takes_reservation;
            Ok(Plan { kind, takes_reservation, removes_all_others: false, removes_own })
        }
        None => {
            let kind = request.kind().unwrap_or(NvmeType::WriteExclusive);
            Ok(Plan { kind, takes_reservation: false, removes_all_others: false, removes_own })
        }
    }
}

/// Checks that the registrants are as the plan demands. If another host has registered the victim's key meanwhile,
/// the guest gets a failure, too, and must read the registrants itself.
fn verify(
    request: &Request,
    plan: Plan,
    held_before: bool,
    after: &Report,
    registrants: &Registrants<'_>,
) -> Result<(), Stop> {
    let victim = request.victim;
    if plan.removes_all_others && !registrants.others.is_empty() {
        return Err(Stop::unverified("other hosts are still registered"));
    }
    if registrants.others.iter().any(|registrant| registrant.key == victim) {
        return Err(Stop::unverified("another host is still registered with the preempted key"));
    }
    if plan.removes_own && !registrants.own.is_empty() {
        return Err(Stop::unverified("this host, which preempted its own key, is still registered"));
    }
    let holds_now = registrants.own_holds(after);
    let has_type = || request.kind().is_ok_and(|kind| after.reservation_type == Some(kind));
    if plan.takes_reservation && !(holds_now && has_type()) {
        return Err(Stop::unverified("this host does not hold the reservation with the requested type"));
    }
    // The victim reserved after the first look, so that this host has taken a reservation whose type it did not check.
    if !plan.takes_reservation && holds_now && !held_before && !has_type() {
        return Err(Stop::unverified("this host holds a reservation of another type than requested"));
    }
    Ok(())
}
