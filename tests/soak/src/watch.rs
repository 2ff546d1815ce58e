//! What all threads of the test share: faults, restarts of the daemon, and latencies.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use hdrhistogram::Histogram;

/// The longest time that an answer may take. It only tells a client that is not served from a slow machine.
pub(crate) const PROMPT: Duration = Duration::from_secs(3);

/// The faults and measurements of a run.
pub(crate) struct Watch {
    faults: Mutex<Vec<String>>,
    /// In microseconds.
    latencies: Mutex<Histogram<u64>>,
    /// Counts each beginning and each end of a restart: odd while the daemon is away.
    restarts: AtomicU64,
    /// Commands that failed because of a restart.
    failed: AtomicU64,
    is_over: AtomicBool,
}

impl Watch {
    pub(crate) fn new() -> Self {
        let latencies = Histogram::new(3).expect("three digits are possible");
        Self {
            faults: Mutex::default(),
            latencies: Mutex::new(latencies),
            restarts: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        }
    }

    /// Records a fault and prints it.
    pub(crate) fn fault(&self, fault: String) {
        eprintln!("soak: FAULT: {fault}");
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records how long an answer took.
    pub(crate) fn answered(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).record(micros).expect("it grows");
        if time > PROMPT {
            self.fault(format!("an answer took {time:.1?}"));
        }
    }

    pub(crate) fn latencies(&self) -> Histogram<u64> {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The daemon goes away, or is back.
    pub(crate) fn restart(&self) {
        self.restarts.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.restarts.load(Ordering::SeqCst)
    }

    /// Returns whether the daemon was away at any time since `epoch`, and counts a failed command if so.
    pub(crate) fn was_restarted(&self, epoch: u64) -> bool {
        let is_restart = epoch % 2 == 1 || self.epoch() != epoch;
        self.failed.fetch_add(u64::from(is_restart), Ordering::SeqCst);
        is_restart
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::SeqCst)
    }

    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }
}
