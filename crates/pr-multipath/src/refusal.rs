//! Refusals of a map's descriptor.

use pr_backend::{DeviceId, Refusal};

use crate::unavailable::Unavailable;

/// Labels of all refusals that this backend makes, those of pr-backend's functions included.
pub(crate) const LABELS: &[&str] = &[
    "other_map",
    "no_multipath",
    "no_multipathd",
    "not_in_sysfs",
    "not_scsi",
    "path_only",
    "read_only",
    "unreadable",
];

/// Refuses a map that is not multipath.
pub(crate) fn other_map(id: DeviceId) -> Refusal {
    Refusal::new(
        "other_map",
        format!(
            "{id} is a device-mapper map that is not multipath, and a command sent to it would reach the disk behind it: pass a descriptor of the disk itself"
        ),
    )
}

/// Refuses a map because no map is served.
pub(crate) fn no_multipath(id: DeviceId, why: Unavailable) -> Refusal {
    Refusal::new(
        "no_multipath",
        format!(
            "{id} is a device-mapper map; of these only multipath maps can be served, but that is not possible: {why}"
        ),
    )
}

/// Refuses a map because multipathd is not running.
pub(crate) fn no_multipathd(id: DeviceId) -> Refusal {
    Refusal::new(
        "no_multipathd",
        format!(
            "multipathd does not answer, and only it can keep registrations on all paths of {id}: start it (systemctl start multipathd)"
        ),
    )
}

/// Refuses a map that /sys does not show, so that its kind is not known.
pub(crate) fn not_in_sysfs(id: DeviceId) -> Refusal {
    Refusal::new(
        "not_in_sysfs",
        format!("{id} is not known to /sys, so it cannot be told whether it is multipath: is /sys mounted?"),
    )
}

/// Refuses a descriptor in which a worker does not find the map that the daemon found.
pub(crate) fn no_map() -> Refusal {
    Refusal::new(
        "not_in_sysfs",
        "the descriptor does not refer to a device-mapper map that /sys shows: was the map removed, and is /sys mounted?",
    )
}
