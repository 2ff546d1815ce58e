//! What cluster software needs of a disk, as far as it is published and a disk reports it.

use scsi_sense::pr::{Capabilities, ReservationType};

use crate::findings::{ANSWER_IS_NO, Finding, Findings, Outcome};

/// Cluster software with the reservation type that it uses; `None` if its documentation does not name one.
struct Software {
    name: &'static str,
    kind: Option<ReservationType>,
}

const WERO: ReservationType = ReservationType::WriteExclusiveRegistrantsOnly;

/// Disks report the types that they support, but not the service actions. docs/operations.md has those, with links.
const SOFTWARE: [Software; 5] = [
    // The service actions of its validation are in [MS-CSVP] (3.2.4.16 REGISTER AND IGNORE EXISTING KEY, 3.4.4.11
    // PREEMPT).
    Software { name: "Windows failover clusters", kind: Some(WERO) },
    // fence_scsi(8): "write exclusive, registrants only", and support for preempt-and-abort; fence_scsi.py:
    // `sg_persist -T 5`. fence_mpath(8) and fence_mpath.py: the same, with `mpathpersist --prout-type=5`.
    Software { name: "Pacemaker with fence_scsi or fence_mpath", kind: Some(WERO) },
    // "Description of SCSI-3 persistent group reservations" (article 100022642): WERO, PREEMPT AND ABORT.
    Software { name: "Veritas InfoScale, also for Oracle RAC", kind: Some(WERO) },
    // "Reduced recovery time by using Persistent Reserve": "all disks must be PR-capable", with a list of devices.
    Software { name: "IBM Storage Scale (GPFS), usePersistentReserve", kind: None },
    // "Global Fencing" of the installation guide, 4.4: the "SCSI-3 protocol".
    Software { name: "Oracle Solaris Cluster", kind: None },
];

/// Compares the capabilities of a disk with what each cluster software needs.
pub(super) fn check(capabilities: Option<&Capabilities>, findings: &mut Findings) {
    for Software { name, kind } in SOFTWARE {
        let types = capabilities.and_then(|found| found.types);
        findings.add(match (kind, types) {
            (None, _) => {
                Finding::new(name, Outcome::Unknown, "its documentation names no type of reservation")
                    .advise("look for the disk in its list of supported devices")
            }
            (Some(kind), None) => Finding::new(
                name,
                Outcome::Unknown,
                format!("needs {kind}; the disk does not report its types"),
            ),
            (Some(kind), Some(types)) if types.contains(kind) => Finding::ok(name, kind.to_string()),
            (Some(kind), Some(_)) => Finding::new(
                name,
                Outcome::Failed(ANSWER_IS_NO),
                format!("needs {kind}, which the disk lacks"),
            )
            .advise("no helper can add it: enable persistent reservations on the array, or use another disk"),
        });
    }
}
