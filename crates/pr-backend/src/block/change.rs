//! PERSISTENT RESERVE OUT, by NVMe's Reservation Register, Acquire and Release.

use block_pr::{
    Acquire, Error, Namespace, Passthrough, Persist, Register, Release, Report, Status as NvmeStatus,
};
use scsi_sense::{
    SenseCode,
    pr::{BasicParameters, OutParameters, OutServiceAction, PersistentReserveOut, ReservationType, Scope},
};

use super::{
    answer::{Stop, Use, no_reservations},
    identity::{Identity, Registrants},
    kinds::to_nvme,
    preempt,
};

/// Runs a PERSISTENT RESERVE OUT. `Ok` means GOOD: the state is as SCSI says.
pub(super) fn run(
    namespace: &Namespace<impl Passthrough>,
    identity: &Identity,
    command: PersistentReserveOut,
    parameters: &[u8],
) -> Result<(), Stop> {
    let PersistentReserveOut { action, scope, kind, .. } = command;
    let change = Change { namespace, identity };
    let is_served = match action {
        OutServiceAction::Register
        | OutServiceAction::Reserve
        | OutServiceAction::Release
        | OutServiceAction::Clear
        | OutServiceAction::Preempt
        | OutServiceAction::PreemptAndAbort
        | OutServiceAction::RegisterAndIgnoreExistingKey => true,
        // NVMe has neither REGISTER AND MOVE nor REPLACE LOST RESERVATION.
        _ => false,
    };
    // PREEMPT checks its scope itself: it does not matter if no reservation is preempted.
    let has_scope = matches!(action, OutServiceAction::Reserve | OutServiceAction::Release);
    if !is_served || (has_scope && scope != Scope::LogicalUnit) {
        return Err(Stop::Rejected(SenseCode::INVALID_FIELD_IN_CDB));
    }
    let list = match OutParameters::parse(action, parameters) {
        Ok(OutParameters::Basic(list)) => list,
        Ok(OutParameters::RegisterAndMove(_)) => return Err(Stop::Rejected(SenseCode::INVALID_FIELD_IN_CDB)),
        Err(error) => return Err(Stop::Rejected(error.sense_code())),
    };
    identity.check()?;
    let key = list.reservation_key.0;
    match action {
        OutServiceAction::Register => change.register(&list),
        OutServiceAction::RegisterAndIgnoreExistingKey => change.register_and_ignore(&list),
        OutServiceAction::Reserve => change.reserve(key, kind),
        OutServiceAction::Release => change.release(key, kind),
        OutServiceAction::Clear => {
            namespace.release(Release::Clear, key).map_err(|error| Stop::of(&error, Use::Change))
        }
        OutServiceAction::Preempt | OutServiceAction::PreemptAndAbort => {
            let is_abort = action == OutServiceAction::PreemptAndAbort;
            preempt::run(
                namespace,
                identity,
                &preempt::Request { key, victim: list.service_action_key.0, scope, kind, is_abort },
            )
        }
        _ => Err(Stop::Rejected(SenseCode::INVALID_FIELD_IN_CDB)),
    }
}

struct Change<'a, P> {
    namespace: &'a Namespace<P>,
    identity: &'a Identity,
}

impl<P: Passthrough> Change<'_, P> {
    /// Reads the registrants.
    fn report(&self, used: Use) -> Result<Report, Stop> {
        self.namespace.report().map_err(|error| Stop::of(&error, used))
    }

    /// Returns this host's key; `None` if it is not registered.
    fn own_key(&self) -> Result<Option<u64>, Stop> {
        Ok(self.identity.split(&self.report(Use::Read)?)?.own_key())
    }

    /// Performs REGISTER (SPC-4 clause 5.13.7).
    ///
    /// NVMe takes a second first registration with the same key for a success, where SCSI demands a conflict; and it would
    /// register a key of zero. So a first registration looks at the registrants before, and zero is never registered.
    fn register(&self, list: &BasicParameters<'_>) -> Result<(), Stop> {
        let persist = match self.persist(list)? {
            Ok(persist) => persist,
            Err(code) => return self.reject(list, Some(list.reservation_key.0), code),
        };
        match (list.reservation_key.0, list.service_action_key.0) {
            (0, new) => {
                if self.own_key()?.is_some() {
                    return Err(Stop::Conflict);
                }
                if new == 0 {
                    Ok(())
                } else {
                    self.send_register(Register::New, persist, 0, new).map_err(|error| changed(&error))
                }
            }
            (current, 0) => {
                self.send_register(Register::Unregister, persist, current, 0).map_err(|error| changed(&error))
            }
            (current, new) => {
                self.send_register(Register::Replace, persist, current, new).map_err(|error| changed(&error))
            }
        }
    }

    /// Performs REGISTER AND IGNORE EXISTING KEY (SPC-4 clause 5.13.7).
    fn register_and_ignore(&self, list: &BasicParameters<'_>) -> Result<(), Stop> {
        let persist = match self.persist(list)? {
            Ok(persist) => persist,
            Err(code) => return self.reject(list, None, code),
        };
        let new = list.service_action_key.0;
        if new == 0 {
            return match self.send_register(Register::UnregisterAny, persist, 0, 0) {
                // The host is not registered: nothing to do.
                Err(Error::Status(NvmeStatus::RESERVATION_CONFLICT)) if self.own_key()?.is_none() => Ok(()),
                sent => sent.map_err(|error| changed(&error)),
            };
        }
        // Controllers before NVM Express 1.3 ignore the key of a registered host only.
        for (what, is_last) in
            [(Register::ReplaceAny, false), (Register::New, false), (Register::ReplaceAny, true)]
        {
            match self.send_register(what, persist, 0, new) {
                Err(Error::Status(NvmeStatus::RESERVATION_CONFLICT)) if !is_last => {}
                sent => return sent.map_err(|error| changed(&error)),
            }
        }
        Err(Stop::Conflict)
    }

    fn send_register(&self, what: Register, persist: Persist, current: u64, new: u64) -> Result<(), Error> {
        self.namespace.register(what, persist, current, new)
    }

    /// Returns what APTPL means for this namespace. The inner error is the sense code of a list with APTPL for a namespace
    /// without persistence, or with TransportIDs.
    fn persist(&self, list: &BasicParameters<'_>) -> Result<Result<Persist, SenseCode>, Stop> {
        let capabilities = self.namespace.capabilities().map_err(|error| Stop::of(&error, Use::Read))?;
        if !capabilities.is_supported() {
            return Err(Stop::Refused(no_reservations("its RESCAP is 0")));
        }
        let can_persist = capabilities.persists_through_power_loss();
        if list.transport_ids.is_some() || (list.aptpl && !can_persist) {
            return Ok(Err(SenseCode::INVALID_FIELD_IN_PARAMETER_LIST));
        }
        Ok(Ok(match (can_persist, list.aptpl) {
            (false, _) => Persist::Keep,
            (true, false) => Persist::Off,
            (true, true) => Persist::On,
        }))
    }

    /// Returns the answer to a list that cannot be performed. A wrong key is a conflict, whatever else is wrong (SAM-5
    /// clause 5.3.3), and a host that is not registered may unregister (SPC-4 tables 67 and 68).
    fn reject(&self, list: &BasicParameters<'_>, expected: Option<u64>, code: SenseCode) -> Result<(), Stop> {
        let own = self.own_key()?;
        if expected.is_some_and(|expected| expected != own.unwrap_or(0)) {
            return Err(Stop::Conflict);
        }
        let does_nothing = own.is_none() && list.service_action_key.is_zero() && list.transport_ids.is_none();
        if does_nothing { Ok(()) } else { Err(Stop::Rejected(code)) }
    }

    /// Performs RESERVE (SPC-4 clause 5.13.9).
    ///
    /// If all registrants hold the reservation, another registrant may send RESERVE with the same type, and nothing
    /// changes; NVMe controllers answer a conflict.
    fn reserve(&self, key: u64, kind: ReservationType) -> Result<(), Stop> {
        let kind = to_nvme(kind)?;
        match self.namespace.acquire(Acquire::Acquire, kind, key) {
            Err(Error::Status(NvmeStatus::RESERVATION_CONFLICT)) if kind.is_all_registrants() => {
                let report = self.report(Use::Read)?;
                let own_key = self.identity.split(&report)?.own_key();
                let is_held = report.reservation_type == Some(kind) && own_key == Some(key);
                if is_held { Ok(()) } else { Err(Stop::Conflict) }
            }
            sent => sent.map_err(|error| Stop::of(&error, Use::Reserve)),
        }
    }

    /// Performs RELEASE (SPC-4 clause 5.13.11.2.2).
    ///
    /// NVMe takes it for a success if the host does not hold the reservation, as SCSI does. nvmet says so, too, to a
    /// registrant that is one of all holders. Other controllers check the type before they know whether the host holds the
    /// reservation.
    fn release(&self, key: u64, kind: ReservationType) -> Result<(), Stop> {
        let kind = to_nvme(kind)?;
        let status = match self.namespace.release(Release::Release(kind), key) {
            Ok(()) => {
                let after = self.report(Use::Verify)?;
                let still_holds = self.identity.split(&after)?.own_holds(&after);
                return match (still_holds, after.reservation_type == Some(kind)) {
                    (false, _) => Ok(()),
                    (true, true) => Err(Stop::unverified("this host still holds the reservation")),
                    (true, false) => Err(Stop::Check(SenseCode::INVALID_RELEASE_OF_PERSISTENT_RESERVATION)),
                };
            }
            Err(Error::Status(status @ (NvmeStatus::RESERVATION_CONFLICT | NvmeStatus::INVALID_FIELD))) => {
                status
            }
            Err(error) => return Err(changed(&error)),
        };
        let report = self.report(Use::Read)?;
        let registrants: Registrants<'_> = self.identity.split(&report)?;
        if registrants.own_key() != Some(key) {
            return Err(Stop::Conflict);
        }
        match (registrants.own_holds(&report), status) {
            (true, _) if report.reservation_type != Some(kind) => {
                Err(Stop::Check(SenseCode::INVALID_RELEASE_OF_PERSISTENT_RESERVATION))
            }
            (false, NvmeStatus::INVALID_FIELD) => Ok(()),
            _ => Err(Stop::Conflict),
        }
    }
}

fn changed(error: &Error) -> Stop {
    Stop::of(error, Use::Change)
}
