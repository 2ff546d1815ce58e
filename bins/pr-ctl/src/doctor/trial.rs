//! A registration for a moment: the only check that changes something.
//!
//! The registration is made by REGISTER with key zero, which a device refuses to a host that is registered already, and
//! removed by REGISTER with exactly the key that was made up for it. So no other registration is touched.

use std::{
    io::{self, Write as _},
    os::fd::OwnedFd,
    path::Path,
};

use pr_client::{Client, CommandError, RegisteredKeys};
use rustix::rand::GetRandomFlags;
use scsi_sense::pr::{BasicParameters, ReservationKey};

use crate::{
    device::Kind,
    findings::{ANSWER_IS_NO, Finding, Findings, Outcome},
    probe::{Answering, refused},
    session::skip_attentions,
};

/// Registers a random key with the device, reads it, unregisters it, and reads that it is gone. Whatever fails in
/// between, the key is unregistered.
pub(super) fn run(
    client: &Client,
    path: &Path,
    device: &OwnedFd,
    answering: &Answering,
    findings: &mut Findings,
) {
    if let Some(finding) = unsafe_to_try(answering) {
        return findings.add(finding);
    }
    let key = match random_key() {
        Ok(key) => key,
        Err(error) => {
            let outcome = Outcome::Failed(ANSWER_IS_NO);
            return findings.add(Finding::new("a random key", outcome, error.to_string()));
        }
    };
    // In case that this process is killed before it can print what is left.
    let _ = writeln!(io::stderr(), "pr-ctl: registers key {key} with {} for a moment", path.display());
    // A REGISTER sets APTPL for all registrations of the device: keep what is set.
    let aptpl = answering.capabilities.is_some_and(|found| found.persist_through_power_loss_activated);
    let trial = Trial { client, path, device, answering, key, aptpl };
    trial.register_and_remove(findings);
}

/// Returns why a trial might change another registration, if it might.
fn unsafe_to_try(Answering { kind, registered, capabilities, .. }: &Answering) -> Option<Finding> {
    let is_empty = registered.is_complete && registered.keys.is_empty();
    let why = match kind {
        _ if is_empty => return None,
        Kind::Multipath { .. } => {
            "skipped: the map has registrations, and paths of a map that are not registered alike are registered anew"
        }
        _ if capabilities.is_none() => {
            "skipped: there are registrations, and the device does not report whether they survive a loss of power, \
             which a registration would change"
        }
        _ => return None,
    };
    Some(
        Finding::new("REGISTER", Outcome::Failed(ANSWER_IS_NO), why)
            .advise("remove what is left behind, while no cluster uses the disk: pr-ctl keys, pr-ctl clear"),
    )
}

fn random_key() -> io::Result<ReservationKey> {
    loop {
        let mut bytes = [0; 8];
        // Requests of up to 256 bytes are not interrupted.
        rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty())?;
        let key = ReservationKey(u64::from_ne_bytes(bytes));
        if key != ReservationKey::ZERO {
            return Ok(key);
        }
    }
}

struct Trial<'a> {
    client: &'a Client,
    path: &'a Path,
    device: &'a OwnedFd,
    answering: &'a Answering,
    key: ReservationKey,
    aptpl: bool,
}

impl Trial<'_> {
    fn register_and_remove(&self, findings: &mut Findings) {
        match self.register(ReservationKey::ZERO, self.key) {
            Ok(()) => {
                findings.add(Finding::ok("REGISTER", format!("key {}", self.key)));
                findings.add(self.registered());
                findings.add(self.removed("unregistered"));
            }
            Err(error @ CommandError::Conflict) => {
                let advice =
                    "this host is registered with another key, which is unchanged: see pr-ctl status";
                findings.add(Finding::refused("REGISTER", &error).advise(advice));
            }
            // Nothing says that it was not done.
            Err(error) => {
                findings.add(refused("REGISTER", &error, &self.answering.kind));
                findings.add(self.removed("nothing left"));
                if matches!(&error, CommandError::Client(error) if error.may_have_run()) {
                    let late = "the REGISTER without an answer may take effect later";
                    findings.add(self.left(Finding::new("no late registration", Outcome::Unknown, late)));
                }
            }
        }
    }

    /// Sends REGISTER. A device that reports a unit attention has not done it, so it is sent again.
    fn register(&self, from: ReservationKey, to: ReservationKey) -> Result<(), CommandError> {
        let parameters = BasicParameters {
            reservation_key: from,
            service_action_key: to,
            aptpl: self.aptpl,
            ..BasicParameters::default()
        };
        skip_attentions(|| self.client.register(self.device, &parameters))
    }

    /// Reads whether the key is registered.
    fn read(&self) -> Result<Presence, CommandError> {
        let RegisteredKeys { keys, is_complete, .. } =
            skip_attentions(|| self.client.read_keys(self.device))?;
        Ok(match keys.contains(&self.key) {
            true => Presence::Registered,
            false if is_complete => Presence::Absent,
            false => Presence::Unknown,
        })
    }

    fn registered(&self) -> Finding {
        const NAME: &str = "registered";
        match self.read() {
            Ok(Presence::Registered) => Finding::ok(NAME, ""),
            Ok(Presence::Absent) => {
                Finding::new(NAME, Outcome::Failed(ANSWER_IS_NO), "the key is not in READ KEYS").advise(
                    "REGISTER succeeds without effect: look at the helper and at the device's firmware",
                )
            }
            Ok(Presence::Unknown) => {
                Finding::new(NAME, Outcome::Unknown, "READ KEYS has no room for all keys, and not this one")
            }
            Err(error) => refused(NAME, &error, &self.answering.kind),
        }
    }

    /// Unregisters the key, and reads that it is gone.
    fn removed(&self, name: &str) -> Finding {
        let unregistered = self.register(self.key, ReservationKey::ZERO);
        match (unregistered, self.read()) {
            // A host that is not registered gets a conflict.
            (Ok(()) | Err(CommandError::Conflict), Ok(Presence::Absent)) => Finding::ok(name, ""),
            (Err(error), Ok(Presence::Absent)) => {
                Finding::refused(name, &error).advise("the key is gone nevertheless")
            }
            (Ok(()), Ok(Presence::Registered)) => {
                let still = "the key is still in READ KEYS";
                self.left(Finding::new(name, Outcome::Failed(ANSWER_IS_NO), still))
            }
            (Ok(()), Ok(Presence::Unknown)) => {
                self.left(Finding::new(name, Outcome::Unknown, "READ KEYS has no room for all keys"))
            }
            (Err(error), _) | (Ok(()), Err(error)) => self.left(Finding::refused(name, &error)),
        }
    }

    /// Adds how to remove a key that may be left.
    fn left(&self, finding: Finding) -> Finding {
        let (path, key) = (self.path.display(), self.key);
        finding.with_advice(format!(
            "key {key} may be left: see `pr-ctl keys {path}`, and remove it by `pr-ctl register {path} --key {key} \
             --new-key 0`"
        ))
    }
}

/// Whether a key is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Registered,
    Absent,
    /// The list is incomplete and lacks the key.
    Unknown,
}
