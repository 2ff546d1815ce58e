//! The key that multipathd has on record for a map.
//!
//! multipathd registers this key with every path that returns. It keeps the key after the guest has migrated away, and then
//! registers a host on which the guest no longer runs.

use std::{
    fs, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use pr_client::{Client, CommandError, RegisteredKeys};
use scsi_sense::pr::{BasicParameters, Capabilities, ReservationKey};

use crate::{
    device,
    findings::{Finding, Findings, Outcome},
    multipathd::Multipathd,
    session::skip_attentions,
};

const NAME: &str = "key on multipathd's record";

/// Checks that this host is registered with the recorded key of a map, if there is one.
///
/// READ KEYS does not tell whose registration a key is. If the key is in it, each path is asked by a REGISTER that replaces
/// the key by itself: a path that is not registered with it answers RESERVATION CONFLICT, and nothing changes.
pub(crate) fn check(
    client: &Client,
    path: &Path,
    map: &str,
    registered: &RegisteredKeys,
    capabilities: Option<&Capabilities>,
    findings: &mut Findings,
) {
    // If multipathd does not run, other checks say so.
    let Ok(Some((multipathd, _))) = Multipathd::find() else { return };
    let reply = multipathd.ask(&format!("getprkey map {map}"));
    let Some(key) = recorded_key(&reply) else {
        return findings.add(no_key(&reply));
    };
    let is_unknown = registered.is_complete && !registered.keys.contains(&key);
    let is_registered = if is_unknown { Some(false) } else { has_key(client, path, key, capabilities) };
    findings.add(finding(map, key, is_registered));
}

/// Parses multipathd's answer to `getprkey`: `0xa1`, or `0xa1:aptpl`.
fn recorded_key(reply: &io::Result<String>) -> Option<ReservationKey> {
    let word = reply.as_ref().ok()?.split_whitespace().next()?;
    let digits = word.split(':').next()?.strip_prefix("0x")?;
    u64::from_str_radix(digits, 16).ok().map(ReservationKey)
}

/// Builds the finding of an answer without a key.
fn no_key(reply: &io::Result<String>) -> Finding {
    match reply {
        Ok(text) if text.trim() == "none" => Finding::ok(NAME, "none"),
        Ok(text) => Finding::new(NAME, Outcome::Unknown, text.trim()).advise("run this as root"),
        Err(error) => Finding::new(NAME, Outcome::Unknown, error.to_string()),
    }
}

fn finding(map: &str, key: ReservationKey, is_registered: Option<bool>) -> Finding {
    match is_registered {
        Some(true) => Finding::ok(NAME, format!("{key}, and this host is registered with it")),
        Some(false) => {
            let detail = format!("{key}, but no path of this host is registered with it");
            Finding::new(NAME, Outcome::Warning, detail).with_advice(format!(
                "multipathd registers it again when a path returns. If its guest has left this host: multipathd \
                 unsetprkey map {map} && multipathd unsetprstatus map {map}"
            ))
        }
        None => Finding::new(
            NAME,
            Outcome::Unknown,
            format!("{key}; no path says whether it is registered with it"),
        ),
    }
}

/// Returns whether a path of the map is registered with `key`; `None` if no path says so. Sends nothing if the device does
/// not report APTPL, which each REGISTER sets for all registrations.
fn has_key(
    client: &Client,
    map: &Path,
    key: ReservationKey,
    capabilities: Option<&Capabilities>,
) -> Option<bool> {
    let parameters = BasicParameters {
        reservation_key: key,
        service_action_key: key,
        aptpl: capabilities?.persist_through_power_loss_activated,
        ..BasicParameters::default()
    };
    let mut answer = None;
    for path in paths(map) {
        let Ok(path) = device::open_for_writing(&path) else { continue };
        match skip_attentions(|| client.register(path.as_fd(), &parameters)) {
            Ok(()) => return Some(true),
            Err(CommandError::Conflict) => answer = Some(false),
            // The path is away, or standing by.
            Err(_) => {}
        }
    }
    answer
}

/// Returns the nodes of a map's paths.
fn paths(map: &Path) -> Vec<PathBuf> {
    let Ok(metadata) = fs::metadata(map) else { return Vec::new() };
    let slaves = fs::read_dir(device::sysfs_directory(&metadata).join("slaves"));
    slaves.into_iter().flatten().flatten().map(|slave| Path::new("/dev").join(slave.file_name())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_of_the_reply_is_parsed() {
        for (reply, expected) in [
            ("0xa1\n", Some(0xa1)),
            ("0xffffffffffffffff:aptpl\n", Some(u64::MAX)),
            ("none\n", None),
            ("fail\n", None),
            ("permission deny: need to be root\n", None),
            ("0x\n", None),
            ("0x11111111111111111\n", None),
            ("", None),
        ] {
            assert_eq!(recorded_key(&Ok(reply.into())), expected.map(ReservationKey), "{reply:?}");
        }
        assert_eq!(recorded_key(&Err(io::ErrorKind::TimedOut.into())), None);
    }
}
