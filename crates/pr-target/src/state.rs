//! Registrations and the reservation. Invariants: the holder is registered, and a reservation that all registrants hold
//! has at least one registrant.

use alloc::vec::Vec;

use scsi_sense::pr::{ReservationKey, ReservationType};

use crate::Nexus;

/// The maximum number of I_T nexuses registered with a logical unit.
///
/// It bounds memory, the saved state and the time of a command: with SPEC_I_PT, an initiator may register any number of
/// initiator ports.
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
    /// One of the six types that SPC-4 defines.
    pub(crate) kind: ReservationType,
    /// `None` if, and only if, all registrants hold a reservation of this type.
    pub(crate) holder: Option<Nexus>,
}

/// The state that a device keeps through a power loss if APTPL is set (SPC-4 clause 5.13.5.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    registrations: Vec<RegisteredNexus>,
    reservation: Option<Held>,
    pub(crate) aptpl: bool,
}

/// There are [`MAX_REGISTRATIONS`] registrations already.
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

    /// Returns whether the nexus is a persistent reservation holder (SPC-4 clause 5.13.10).
    pub(crate) fn is_holder(&self, nexus: &Nexus) -> bool {
        self.reservation.is_some_and(|held| match held.holder {
            Some(holder) => holder == *nexus,
            None => self.is_registered(nexus),
        })
    }

    /// Returns the holder's key; zero if all registrants hold the reservation (SPC-4 clause 5.13.10), or there is none.
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

    /// Removes the registrations for which `is_removed` returns true, and returns them.
    ///
    /// The reservation ends with the registration of its holder, or if all registrants hold it, with the last one
    /// (SPC-4 clause 5.13.10).
    pub(crate) fn unregister(
        &mut self,
        mut is_removed: impl FnMut(&RegisteredNexus) -> bool,
    ) -> Vec<RegisteredNexus> {
        let (removed, kept) = self.registrations.iter().partition(|one| is_removed(one));
        self.registrations = kept;
        if let Some(held) = self.reservation {
            let remains = match held.holder {
                Some(holder) => self.is_registered(&holder),
                None => !self.registrations.is_empty(),
            };
            if !remains {
                self.reservation = None;
            }
        }
        removed
    }

    /// Gives a reservation to a nexus, which must be registered. It replaces the current reservation.
    pub(crate) fn reserve(&mut self, nexus: &Nexus, kind: ReservationType) {
        debug_assert!(self.is_registered(nexus), "a holder is registered");
        let holder = if kind.is_all_registrants() { None } else { Some(*nexus) };
        self.reservation = Some(Held { kind, holder });
    }

    pub(crate) fn release(&mut self) {
        self.reservation = None;
    }
}
