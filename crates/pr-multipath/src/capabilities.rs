//! Capabilities of the supervisor and the workers.

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};
use nix::{
    errno::Errno,
    sys::prctl,
    unistd::{Uid, setgroups},
};

/// Capabilities of a worker: `CAP_SYS_ADMIN` for device-mapper ioctls, `CAP_SYS_RAWIO` for SCSI commands, and `CAP_DAC_OVERRIDE`
/// to open paths of another user, such as the device nodes that libvirt creates for its guests.
const NEEDED: [Capability; 3] =
    [Capability::CAP_SYS_ADMIN, Capability::CAP_SYS_RAWIO, Capability::CAP_DAC_OVERRIDE];

/// An error of reading or dropping privileges.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CapabilityError {
    #[error("cannot {doing}")]
    Capabilities { doing: &'static str, source: CapsError },
    #[error("cannot rule out new privileges")]
    NoNewPrivileges(#[source] Errno),
}

/// Returns whether this process is root and has the capabilities of a worker, to pass on to its children.
pub(crate) fn can_keep() -> Result<bool, CapabilityError> {
    for capability in NEEDED {
        if !has(capability)? {
            return Ok(false);
        }
    }
    Ok(Uid::effective().is_root())
}

/// Drops all capabilities except those of a worker, for this process and its children. The user stays root.
pub(crate) fn confine() -> Result<(), CapabilityError> {
    caps::clear(None, CapSet::Ambient).map_err(failed("clear the ambient capabilities"))?;
    if has(Capability::CAP_SETPCAP)? {
        let bounding = failed("reduce the capability bounding set");
        for capability in caps::read(None, CapSet::Bounding).map_err(&bounding)? {
            if !NEEDED.contains(&capability) {
                caps::drop(None, CapSet::Bounding, capability).map_err(&bounding)?;
            }
        }
    }
    // Without CAP_SETGID this fails, and the groups remain: they permit nothing that root may not do anyway.
    let _ = setgroups(&[]);
    let kept: CapsHashSet = NEEDED.into();
    caps::clear(None, CapSet::Inheritable).map_err(failed("clear the inheritable capabilities"))?;
    caps::set(None, CapSet::Effective, &kept).map_err(failed("keep capabilities"))?;
    caps::set(None, CapSet::Permitted, &kept).map_err(failed("give up capabilities"))?;
    prctl::set_no_new_privs().map_err(CapabilityError::NoNewPrivileges)
}

fn has(capability: Capability) -> Result<bool, CapabilityError> {
    caps::has_cap(None, CapSet::Permitted, capability).map_err(failed("read the capabilities"))
}

fn failed(doing: &'static str) -> impl Fn(CapsError) -> CapabilityError {
    move |source| CapabilityError::Capabilities { doing, source }
}
