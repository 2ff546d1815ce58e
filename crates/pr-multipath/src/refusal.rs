//! Why a map's descriptor is not served.

use pr_backend::{DeviceId, Refusal};

use crate::unavailable::Unavailable;

/// Labels of all refusals that this backend makes, those of pr-backend's functions included.
pub(crate) const LABELS: &[&str] =
    &["other_map", "no_multipath", "no_multipathd", "not_in_sysfs", "not_scsi", "path_only", "unreadable"];

/// The map is not multipath's.
pub(crate) fn other_map(id: DeviceId) -> Refusal {
    Refusal::new(
        "other_map",
        format!(
            "{id} is a device-mapper map that is not multipath, and a command sent to it would reach the disk behind it: pass a descriptor of the disk itself"
        ),
    )
}

/// No map is served.
pub(crate) fn no_multipath(id: DeviceId, why: Unavailable) -> Refusal {
    Refusal::new(
        "no_multipath",
        format!(
            "{id} is a device-mapper map, and of these only multipath could be served, which is not possible: {why}"
        ),
    )
}

/// multipathd is not running.
pub(crate) fn no_multipathd(id: DeviceId) -> Refusal {
    Refusal::new(
        "no_multipathd",
        format!(
            "multipathd does not answer, and only it can keep registrations on all paths of {id}: start it (systemctl start multipathd)"
        ),
    )
}

/// /sys does not say whose map it is.
pub(crate) fn not_in_sysfs(id: DeviceId) -> Refusal {
    Refusal::new(
        "not_in_sysfs",
        format!("{id} is not known to /sys, so it cannot be told whether it is multipath: is /sys mounted?"),
    )
}

/// A worker does not find what the daemon has found.
pub(crate) fn no_map() -> Refusal {
    Refusal::new(
        "not_in_sysfs",
        "the descriptor is not of a device-mapper map that /sys shows: was the map removed, and is /sys mounted?",
    )
}
