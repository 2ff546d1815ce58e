//! Drops all privileges but `CAP_SYS_RAWIO`, with which a process may send any SCSI command to a device that
//! it has a descriptor of.

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};
use nix::{
    errno::Errno,
    sys::prctl,
    unistd::{Gid, Group, Uid, User, getgroups, setgroups, setresgid, setresuid},
};

/// User and group to run as; `None` leaves it unchanged.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Identity {
    uid: Option<Uid>,
    gid: Option<Gid>,
}

/// Errors of looking up identities and changing privileges.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrivilegeError {
    #[error("there is no user {0:?}")]
    NoUser(String),
    #[error("there is no group {0:?}")]
    NoGroup(String),
    #[error("cannot look up {name:?}: {error}")]
    LookUp { name: String, error: Errno },
    #[error(
        "not permitted to send persistent reservations: CAP_SYS_RAWIO is missing; start pr-helper as root, or with AmbientCapabilities=CAP_SYS_RAWIO in its systemd unit (--unprivileged starts it anyway)"
    )]
    NoRawIo,
    #[error(
        "--keep-sys-admin: CAP_SYS_ADMIN is missing; start pr-helper as root, or with the drop-in /usr/share/pr-helper/nvme.conf of its systemd unit"
    )]
    NoSysAdmin,
    #[error("cannot {doing}: {error} (root is required)")]
    Change { doing: &'static str, error: Errno },
    #[error("cannot {doing}: {error}")]
    Capabilities { doing: &'static str, error: CapsError },
}

impl Identity {
    /// Looks up a user and a group, each by name or number. Without `group`, the primary group of `user` is
    /// taken, if the user database has one.
    pub(crate) fn find(user: Option<&str>, group: Option<&str>) -> Result<Self, PrivilegeError> {
        let (uid, users_gid) = user.map(find_user).transpose()?.unzip();
        let gid = group.map(find_group).transpose()?;
        if let (Some(user), Some(None), None) = (user, users_gid, gid) {
            log::warn!(
                "user {user} is not in the user database, so the group is not changed; set one with --group"
            );
        }
        Ok(Self { uid, gid: gid.or(users_gid.flatten()) })
    }
}

/// Finds a user by name or number, and its primary group, if the user database has one.
pub(crate) fn find_user(name: &str) -> Result<(Uid, Option<Gid>), PrivilegeError> {
    let failed = |error| PrivilegeError::LookUp { name: name.into(), error };
    if let Some(user) = User::from_name(name).map_err(failed)? {
        return Ok((user.uid, Some(user.gid)));
    }
    let uid = number(name).map(Uid::from_raw).ok_or_else(|| PrivilegeError::NoUser(name.into()))?;
    Ok((uid, User::from_uid(uid).map_err(failed)?.map(|user| user.gid)))
}

/// Finds a group by name or number.
pub(crate) fn find_group(name: &str) -> Result<Gid, PrivilegeError> {
    let failed = |error| PrivilegeError::LookUp { name: name.into(), error };
    if let Some(group) = Group::from_name(name).map_err(failed)? {
        return Ok(group.gid);
    }
    number(name).map(Gid::from_raw).ok_or_else(|| PrivilegeError::NoGroup(name.into()))
}

/// Parses the number of a user or group. The largest one is refused: setresuid(2) takes it for "unchanged".
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|&number| number != u32::MAX)
}

/// Checks that this process has `CAP_SYS_RAWIO`, and `CAP_SYS_ADMIN` if it must keep that.
pub(crate) fn check(keeps_sys_admin: bool) -> Result<(), PrivilegeError> {
    if !has(Capability::CAP_SYS_RAWIO)? {
        return Err(PrivilegeError::NoRawIo);
    }
    if keeps_sys_admin && !has(Capability::CAP_SYS_ADMIN)? {
        return Err(PrivilegeError::NoSysAdmin);
    }
    Ok(())
}

/// Changes to `identity` and drops all capabilities but `CAP_SYS_RAWIO`, and `CAP_SYS_ADMIN` if it must keep that, for this
/// thread and for threads that it spawns later.
pub(crate) fn drop_to(identity: Identity, keeps_sys_admin: bool) -> Result<(), PrivilegeError> {
    let mut keep = CapsHashSet::new();
    for (capability, is_kept) in
        [(Capability::CAP_SYS_RAWIO, true), (Capability::CAP_SYS_ADMIN, keeps_sys_admin)]
    {
        if is_kept && has(capability)? {
            keep.insert(capability);
        }
    }
    let capabilities = |doing| move |error| PrivilegeError::Capabilities { doing, error };
    caps::clear(None, CapSet::Ambient).map_err(capabilities("clear the ambient capabilities"))?;
    if has(Capability::CAP_SETPCAP)? {
        caps::clear(None, CapSet::Bounding).map_err(capabilities("clear the capability bounding set"))?;
    } else {
        log::debug!("the capability bounding set is not changed: CAP_SETPCAP is missing");
    }
    become_identity(identity)?;
    caps::set(None, CapSet::Effective, &keep).map_err(capabilities("keep capabilities"))?;
    caps::set(None, CapSet::Permitted, &keep).map_err(capabilities("give up capabilities"))?;
    caps::clear(None, CapSet::Inheritable).map_err(capabilities("clear the inheritable capabilities"))?;
    prctl::set_no_new_privs()
        .map_err(|error| PrivilegeError::Change { doing: "rule out new privileges", error })
}

fn become_identity(Identity { uid, gid }: Identity) -> Result<(), PrivilegeError> {
    let failed = |doing| move |error| PrivilegeError::Change { doing, error };
    // Without CAP_SETGID the process was not started as root and has none of root's groups: an error only if
    // a change of identity was asked for.
    match setgroups(&[]) {
        Ok(()) => {}
        Err(Errno::EPERM) if gid.is_none() && uid.is_none() => {
            if getgroups().is_ok_and(|groups| !groups.is_empty()) {
                log::info!("the supplementary groups are not changed: CAP_SETGID is missing");
            }
        }
        Err(error) => return Err(failed("give up supplementary groups")(error)),
    }
    if let Some(gid) = gid {
        setresgid(gid, gid, gid).map_err(failed("change the group"))?;
    }
    if let Some(uid) = uid {
        prctl::set_keepcaps(true).map_err(failed("keep capabilities"))?;
        setresuid(uid, uid, uid).map_err(failed("change the user"))?;
        prctl::set_keepcaps(false).map_err(failed("give up capabilities"))?;
    }
    Ok(())
}

fn has(capability: Capability) -> Result<bool, PrivilegeError> {
    caps::has_cap(None, CapSet::Permitted, capability)
        .map_err(|error| PrivilegeError::Capabilities { doing: "read the capabilities", error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_is_found_by_name_or_number() {
        let root = Identity::find(Some("root"), None).unwrap();
        assert_eq!((root.uid, root.gid), (Some(Uid::from_raw(0)), Some(Gid::from_raw(0))));
        let both = Identity::find(Some("root"), Some("12345")).unwrap();
        assert_eq!(both.gid, Some(Gid::from_raw(12345)));
        let number = Identity::find(Some("4000000"), None).unwrap();
        assert_eq!((number.uid, number.gid), (Some(Uid::from_raw(4_000_000)), None));
        let nobody = "no-such-name";
        assert!(
            matches!(Identity::find(Some(nobody), None), Err(PrivilegeError::NoUser(name)) if name == nobody)
        );
        assert!(matches!(Identity::find(Some("4294967295"), None), Err(PrivilegeError::NoUser(_))));
        assert!(matches!(Identity::find(None, Some("4294967295")), Err(PrivilegeError::NoGroup(_))));
        assert!(matches!(Identity::find(None, Some("-1")), Err(PrivilegeError::NoGroup(_))));
    }
}
