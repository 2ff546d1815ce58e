//! Giving up all that is not needed: of root's privileges, `CAP_SYS_RAWIO` stays, which lets a process send any SCSI
//! command to a device that it has a descriptor of.

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};
use nix::{
    errno::Errno,
    sys::prctl,
    unistd::{Gid, Group, Uid, User, getgroups, setgroups, setresgid, setresuid},
};

/// Who to be.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Identity {
    uid: Option<Uid>,
    gid: Option<Gid>,
}

/// What stands in the way.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrivilegeError {
    #[error("there is no user {0:?}")]
    NoUser(String),
    #[error("there is no group {0:?}")]
    NoGroup(String),
    #[error("cannot look up {name:?}: {error}")]
    LookUp { name: String, error: Errno },
    #[error(
        "not permitted to send persistent reservations: CAP_SYS_RAWIO is missing; start pr-helper as root, or with AmbientCapabilities=CAP_SYS_RAWIO in its systemd unit (--unprivileged starts it all the same)"
    )]
    NoRawIo,
    #[error("cannot {doing}: {error} (that takes root)")]
    Change { doing: &'static str, error: Errno },
    #[error("cannot {doing}: {error}")]
    Capabilities { doing: &'static str, error: CapsError },
}

impl Identity {
    /// Looks up a user and a group, each by name or number. A user that is known by name brings its group along.
    pub(crate) fn find(user: Option<&str>, group: Option<&str>) -> Result<Self, PrivilegeError> {
        let (uid, users_gid) = user.map(find_user).transpose()?.unzip();
        let gid = group.map(find_group).transpose()?;
        if let (Some(user), Some(None), None) = (user, users_gid, gid) {
            log::warn!(
                "user {user} has no entry that names its group: the group stays as it is; set one with --group"
            );
        }
        Ok(Self { uid, gid: gid.or(users_gid.flatten()) })
    }
}

/// Finds a user by name or number, and its group, if it has an entry.
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

/// A user's or group's number. The largest stands for "leave it as it is" in setresuid(2).
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|&number| number != u32::MAX)
}

/// Makes sure that what cannot be given later is there now.
pub(crate) fn check() -> Result<(), PrivilegeError> {
    if has(Capability::CAP_SYS_RAWIO)? { Ok(()) } else { Err(PrivilegeError::NoRawIo) }
}

/// Becomes `identity` and gives up everything but `CAP_SYS_RAWIO`: for this thread, and for those that it starts.
pub(crate) fn drop_to(identity: Identity) -> Result<(), PrivilegeError> {
    let keep: CapsHashSet =
        if has(Capability::CAP_SYS_RAWIO)? { [Capability::CAP_SYS_RAWIO].into() } else { CapsHashSet::new() };
    let capabilities = |doing| move |error| PrivilegeError::Capabilities { doing, error };
    caps::clear(None, CapSet::Ambient).map_err(capabilities("clear the ambient capabilities"))?;
    if has(Capability::CAP_SETPCAP)? {
        caps::clear(None, CapSet::Bounding).map_err(capabilities("clear the capability bounding set"))?;
    } else {
        log::debug!("the capability bounding set stays as it is: CAP_SETPCAP is missing");
    }
    become_identity(identity)?;
    caps::set(None, CapSet::Effective, &keep).map_err(capabilities("keep CAP_SYS_RAWIO"))?;
    caps::set(None, CapSet::Permitted, &keep).map_err(capabilities("give up capabilities"))?;
    caps::clear(None, CapSet::Inheritable).map_err(capabilities("clear the inheritable capabilities"))?;
    prctl::set_no_new_privs()
        .map_err(|error| PrivilegeError::Change { doing: "rule out new privileges", error })
}

fn become_identity(Identity { uid, gid }: Identity) -> Result<(), PrivilegeError> {
    let failed = |doing| move |error| PrivilegeError::Change { doing, error };
    // Who may not change groups has none of root's.
    match setgroups(&[]) {
        Ok(()) => {}
        Err(Errno::EPERM) if gid.is_none() && uid.is_none() => {
            if getgroups().is_ok_and(|groups| !groups.is_empty()) {
                log::info!("the supplementary groups stay as they are: CAP_SETGID is missing");
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
    fn users_and_groups_go_by_name_or_number() {
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
