//! Which registrant of a namespace is this host.

use block_pr::{HostIdentifier, Registrant, Report};

use super::answer::Stop;
use crate::outcome::{Cause, Refusal};

/// The first CNTLID that is reserved. A report has `FFFFh` for a host with dynamic controllers, or without a connection.
const FIRST_DYNAMIC: u16 = 0xfff0;

/// What /sys says of the host and its controllers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Identity {
    /// The host identifiers of the controllers, each once.
    pub(super) hosts: Vec<HostIdentifier>,
    /// CNTLID of each controller on PCI Express. These are static: if this host is registered, the report has one of them.
    pub(super) controllers: Vec<u16>,
}

impl Identity {
    /// Returns the refusal of changes if the controllers of a native multipath device belong to different hosts: each
    /// command would be of one host or the other, as the kernel chooses a path.
    pub(super) fn check(&self) -> Result<(), Stop> {
        if self.hosts.len() < 2 {
            return Ok(());
        }
        let hosts: Vec<_> = self.hosts.iter().map(ToString::to_string).collect();
        Err(Stop::Refused(Refusal::new(
            "nvme_hosts_differ",
            format!(
                "the controllers of this NVMe device have different host identifiers ({}), so a reservation would be of one or the other: connect them with the same hostnqn and hostid",
                hosts.join(", ")
            ),
        )))
    }

    /// Splits the registrants into this host's and all others.
    pub(super) fn split<'r>(&self, report: &'r Report) -> Result<Registrants<'r>, Stop> {
        let mut registrants = Registrants::default();
        for registrant in &report.registrants {
            if self.is(registrant)? {
                registrants.own.push(registrant);
            } else {
                registrants.others.push(registrant);
            }
        }
        Ok(registrants)
    }

    fn is(&self, registrant: &Registrant) -> Result<bool, Stop> {
        match (self.hosts.first(), registrant.host) {
            (Some(own @ HostIdentifier::Extended(_)), other @ HostIdentifier::Extended(_))
            | (Some(own @ HostIdentifier::Short(_)), other @ HostIdentifier::Short(_)) => {
                return Ok(*own == other);
            }
            _ => {}
        }
        let is_static = |controller: &u16| *controller < FIRST_DYNAMIC;
        if !self.controllers.is_empty() && self.controllers.iter().all(is_static) {
            return Ok(self.controllers.contains(&registrant.controller));
        }
        Err(Stop::terminated(Cause::new(
            "no_host_identifier",
            "the namespace has registrants, and it cannot be told whether this host is one of them: /sys shows neither a host identifier (hostid) nor a static controller identifier (cntlid) of the NVMe controller",
        )))
    }
}

/// The registrants of a namespace.
#[derive(Debug, Default)]
pub(super) struct Registrants<'r> {
    /// This host: none if it is not registered, several if it has several controllers.
    pub(super) own: Vec<&'r Registrant>,
    /// All other hosts.
    pub(super) others: Vec<&'r Registrant>,
}

impl Registrants<'_> {
    /// Returns this host's key, if it is registered.
    pub(super) fn own_key(&self) -> Option<u64> {
        self.own.first().map(|own| own.key)
    }

    /// Returns whether this host holds the reservation, as SCSI counts holders (SPC-4 clause 5.13.10).
    pub(super) fn own_holds(&self, report: &Report) -> bool {
        match report.reservation_type {
            Some(kind) if kind.is_all_registrants() => !self.own.is_empty(),
            Some(_) => self.own.iter().any(|own| own.holds),
            None => false,
        }
    }
}
