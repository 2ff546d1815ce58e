//! Bounds the connections of each client process, so that none can use up threads and descriptors that others need.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::peer::ClientProcess;

/// Connections in use, by client process.
#[derive(Debug)]
pub(crate) struct ClientQuotas {
    max_per_process: usize,
    in_use: Mutex<HashMap<ClientProcess, usize>>,
}

impl ClientQuotas {
    pub(crate) fn new(max_per_process: usize) -> Self {
        Self { max_per_process, in_use: Mutex::default() }
    }

    /// Counts one more connection of `process`, unless its quota is used up. Returns whether it was counted.
    pub(crate) fn admit(&self, process: ClientProcess) -> bool {
        let mut in_use = self.lock();
        let count = in_use.entry(process).or_default();
        // The entry is never 0 here unless it is new, and a quota is at least 1.
        let is_admitted = *count < self.max_per_process;
        if is_admitted {
            *count = count.saturating_add(1);
        }
        is_admitted
    }

    /// Counts one connection less of `process`.
    pub(crate) fn release(&self, process: ClientProcess) {
        let mut in_use = self.lock();
        if let Some(count) = in_use.get_mut(&process) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                in_use.remove(&process);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClientProcess, usize>> {
        // No operation under this lock leaves the map half changed.
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quota_is_fixed_per_process() {
        let quotas = ClientQuotas::new(3);
        let [one, other] = [1, 2].map(ClientProcess::Connection);
        assert_eq!([(); 5].map(|()| quotas.admit(one)), [true, true, true, false, false]);
        assert!(quotas.admit(other), "another process has its own");
        quotas.release(one);
        assert!(quotas.admit(one) && !quotas.admit(one));
        (0..3).for_each(|_| quotas.release(one));
        quotas.release(other);
        assert!(quotas.lock().is_empty());
    }
}
