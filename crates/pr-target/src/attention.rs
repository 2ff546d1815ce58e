//! Unit attention conditions.

use alloc::collections::VecDeque;

use scsi_sense::{SenseCode, opcode};

use crate::Nexus;
use crate::state::MAX_REGISTRATIONS;

/// All three conditions that reservations establish, for as many nexuses as can be registered.
const MAX_PENDING: usize = 3 * MAX_REGISTRATIONS;

/// The pending conditions, the oldest first.
///
/// A condition is established for a registered nexus, but outlives the registration, and the nexus may never send a
/// command that reports it. To bound their number, the oldest of all is dropped when there are too many.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnitAttentions(VecDeque<(Nexus, SenseCode)>);

impl UnitAttentions {
    /// Establishes a condition, unless it is already pending for this nexus.
    pub(crate) fn establish(&mut self, nexus: &Nexus, code: SenseCode) {
        if self.0.contains(&(*nexus, code)) {
            return;
        }
        if self.0.len() >= MAX_PENDING {
            self.0.pop_front();
        }
        self.0.push_back((*nexus, code));
    }

    /// Returns whether no condition is pending.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the oldest condition of this nexus, and clears it.
    pub(crate) fn take(&mut self, nexus: &Nexus) -> Option<SenseCode> {
        let at = self.0.iter().position(|(to, _)| to == nexus)?;
        self.0.remove(at).map(|(_, code)| code)
    }
}

/// Returns whether a pending unit attention condition ends this command with CHECK CONDITION (SAM-5 clause 5.14).
///
/// INQUIRY and REPORT LUNS are performed nevertheless and leave the condition pending; REQUEST SENSE returns it as
/// its data, and so clears it.
pub(crate) fn is_reported_by(cdb: &[u8]) -> bool {
    !matches!(cdb.first(), Some(&(opcode::INQUIRY | opcode::REPORT_LUNS | opcode::REQUEST_SENSE)))
}

#[cfg(test)]
mod tests {
    use scsi_sense::pr::TransportId;

    use super::*;

    fn nexus(address: u64) -> Nexus {
        Nexus::new(TransportId::Sas { address }, 1).unwrap()
    }

    #[test]
    fn conditions_are_reported_once_in_order() {
        let mut pending = UnitAttentions::default();
        let (a, b) = (nexus(1), nexus(2));
        pending.establish(&a, SenseCode::RESERVATIONS_RELEASED);
        pending.establish(&a, SenseCode::REGISTRATIONS_PREEMPTED);
        pending.establish(&a, SenseCode::RESERVATIONS_RELEASED);
        pending.establish(&b, SenseCode::RESERVATIONS_PREEMPTED);
        assert_eq!(pending.take(&a), Some(SenseCode::RESERVATIONS_RELEASED));
        assert_eq!(pending.take(&a), Some(SenseCode::REGISTRATIONS_PREEMPTED));
        assert_eq!(pending.take(&a), None);
        assert_eq!(pending.take(&b), Some(SenseCode::RESERVATIONS_PREEMPTED));
        assert_eq!(pending.take(&b), None);
    }

    #[test]
    fn unreported_conditions_are_bounded() {
        let mut pending = UnitAttentions::default();
        let count = u64::try_from(MAX_PENDING).unwrap();
        for address in 0..=count {
            pending.establish(&nexus(address), SenseCode::RESERVATIONS_PREEMPTED);
        }
        assert_eq!(pending.0.len(), MAX_PENDING);
        assert_eq!(pending.take(&nexus(0)), None, "the oldest was dropped");
        assert!(pending.take(&nexus(1)).is_some());
        assert!(pending.take(&nexus(count)).is_some());
    }
}
