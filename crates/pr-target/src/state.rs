//! Registrations and the reservation, and what holds of them at all times: the holder is registered, and where all
//! registrants hold, there is one.

use alloc::vec::Vec;

use scsi_sense::pr::{ReservationKey, ReservationType};

use crate::Nexus;

/// How many I_T nexuses can be registered with a logical unit.
///
/// It bounds memory, the saved state and the time of a command: who may register may name any initiator ports
/// (SPEC_I_PT).
pub const MAX_REGISTRATIONS: usize = 1024;

/// One registered I_T nexus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RegisteredNexus {
    pub(crate) nexus: Nexus,
    /// Not zero.
    pub(crate) key: ReservationKey,
}

/// The persistent reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// One of the six that have a name.
    pub(crate) kind: ReservationType,
    /// `None` if all registrants hold it, which is so if the type says so.
    pub(crate) holder: Option<Nexus>,
}

/// What a device keeps over a loss of power, if it is asked to (SPC-4 clause 5.13.5.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    registrations: Vec<RegisteredNexus>,
    reservation: Option<Held>,
    pub(crate) aptpl: bool,
}

/// There is no room for another registration.
#[derive(Debug)]
pub(crate) struct Full;

impl State {
    pub(crate) fn registrations(&self) -> &[RegisteredNexus] {
        &self.registrations
    }

    pub(crate) fn reservation(&self) -> Option<&Held> {
        self.reservation.as_ref()
    }

    pub(crate) fn key_of(&self, nexus: &Nexus) -> Option<ReservationKey> {
        self.registrations.iter().find(|one| one.nexus == *nexus).map(|one| one.key)
    }

    pub(crate) fn is_registered(&self, nexus: &Nexus) -> bool {
        self.key_of(nexus).is_some()
    }

    /// Whether the nexus is a persistent reservation holder (SPC-4 clause 5.13.10).
    pub(crate) fn is_holder(&self, nexus: &Nexus) -> bool {
        self.reservation.is_some_and(|held| match held.holder {
            Some(holder) => holder == *nexus,
            None => self.is_registered(nexus),
        })
    }

    /// The key under which the reservation is held; zero if all registrants hold it (SPC-4 clause 5.13.10).
    pub(crate) fn holders_key(&self) -> ReservationKey {
        let holder = self.reservation.and_then(|held| held.holder);
        holder.and_then(|holder| self.key_of(&holder)).unwrap_or(ReservationKey::ZERO)
    }

    /// Registers the nexus, or changes the key of its registration.
    pub(crate) fn register(&mut self, nexus: &Nexus, key: ReservationKey) -> Result<(), Full> {
        if let Some(registration) = self.registrations.iter_mut().find(|one| one.nexus == *nexus) {
            registration.key = key;
        } else if self.registrations.len() < MAX_REGISTRATIONS {
            self.registrations.push(RegisteredNexus { nexus: *nexus, key });
        } else {
            return Err(Full);
        }
        Ok(())
    }

    /// Removes the registrations for which `goes` says so, and returns them.
    ///
    /// The reservation goes with its holder, or with the last of all registrants (SPC-4 clause 5.13.10).
    pub(crate) fn unregister(
        &mut self,
        mut goes: impl FnMut(&RegisteredNexus) -> bool,
    ) -> Vec<RegisteredNexus> {
        let (gone, stay) = self.registrations.iter().partition(|one| goes(one));
        self.registrations = stay;
        if let Some(held) = self.reservation {
            let remains = match held.holder {
                Some(holder) => self.is_registered(&holder),
                None => !self.registrations.is_empty(),
            };
            if !remains {
                self.reservation = None;
            }
        }
        gone
    }

    /// Gives the reservation to a nexus that is registered, in place of the one that there is.
    pub(crate) fn reserve(&mut self, nexus: &Nexus, kind: ReservationType) {
        debug_assert!(self.is_registered(nexus), "a holder is registered");
        let holder = if kind.is_all_registrants() { None } else { Some(*nexus) };
        self.reservation = Some(Held { kind, holder });
    }

    pub(crate) fn release(&mut self) {
        self.reservation = None;
    }
}
