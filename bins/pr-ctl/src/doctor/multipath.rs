//! What a map needs of multipathd.

use std::{fs, io, path::Path};

use crate::{
    device::{self, Kind},
    findings::{ANSWER_IS_NO, Finding, Findings, Outcome},
    multipathd::Multipathd,
    report::count,
};

/// Beginning of the device-mapper UUID of a multipath map; the rest is its WWID.
const MAP_PREFIX: &str = "mpath-";

/// Looks for multipathd, unless there is no map: to ask would start it on a node that does not use it, if systemd
/// listens for it. That it does not answer is a fault only with maps among the devices.
pub(super) fn find_multipathd(root: &Path, is_needed: bool, findings: &mut Findings) -> Option<Multipathd> {
    const NAME: &str = "multipathd";
    if !is_needed && !has_maps(root) {
        findings.add(Finding::new(NAME, Outcome::Lacking, "not asked, since there are no multipath maps"));
        return None;
    }
    let detail = match Multipathd::find() {
        Ok(Some((multipathd, state))) => {
            findings.add(Finding::ok(NAME, state.trim()));
            return Some(multipathd);
        }
        Ok(None) => "it does not run".into(),
        Err(error) => error.to_string(),
    };
    let outcome = if is_needed { Outcome::Failed(ANSWER_IS_NO) } else { Outcome::Warning };
    findings.add(
        Finding::new(NAME, outcome, detail)
            .advise("systemctl enable --now multipathd; in a container, mount /run/multipathd.socket"),
    );
    None
}

/// Returns whether the node has multipath maps.
fn has_maps(root: &Path) -> bool {
    let devices = fs::read_dir(root.join("sys/block")).into_iter().flatten().flatten();
    let mut names = devices.filter_map(|device| fs::read_to_string(device.path().join("dm/uuid")).ok());
    names.any(|uuid| uuid.starts_with(MAP_PREFIX))
}

/// Checks the paths of a map and its reservation key, or whether a disk is a path of a map. Other devices need nothing.
pub(super) fn check_device(path: &Path, multipathd: Option<&Multipathd>, findings: &mut Findings) {
    let Ok(metadata) = fs::metadata(path) else { return };
    let directory = device::sysfs_directory(&metadata);
    match Kind::of(path) {
        Ok(Kind::Multipath { .. }) => {
            findings.add(paths(&directory));
            if let Some(multipathd) = multipathd {
                findings.add(key(&directory, &multipathd.ask("show config local")));
            }
        }
        Ok(Kind::Disk { .. }) => {
            if let Some(map) = map_above(&directory) {
                let finding =
                    Finding::new("whole disk", Outcome::Warning, format!("a path of the map {map}"));
                findings.add(finding.with_advice(format!(
                    "use /dev/mapper/{map}: a registration through one path is not one of the others"
                )));
            }
        }
        _ => {}
    }
}

/// Checks that a map has several paths that the kernel uses. `directory` is that of the map in /sys.
fn paths(directory: &Path) -> Finding {
    const NAME: &str = "paths";
    let mut names: Vec<(String, bool)> = Vec::new();
    for entry in fs::read_dir(directory.join("slaves")).into_iter().flatten().flatten() {
        let state = fs::read_to_string(entry.path().join("device/state"));
        let is_running = state.is_ok_and(|state| state.trim() == "running");
        names.push((entry.file_name().to_string_lossy().into_owned(), is_running));
    }
    names.sort();
    let detail: Vec<String> = names
        .iter()
        .map(|(name, is_running)| if *is_running { name.clone() } else { format!("{name} (down)") })
        .collect();
    let detail = format!("{}: {}", count(names.len(), "path"), detail.join(", "));
    match names.iter().filter(|(_, is_running)| *is_running).count() {
        0 => Finding::new(NAME, Outcome::Failed(ANSWER_IS_NO), detail).advise("see `multipath -ll`"),
        running if running == names.len() && running > 1 => Finding::ok(NAME, detail),
        running => {
            let advice = if running > 1 {
                "a path is down: see `multipath -ll`"
            } else {
                "nothing is left if this path fails: see `multipath -ll`"
            };
            Finding::new(NAME, Outcome::Warning, detail).advise(advice)
        }
    }
}

/// Checks that multipathd's configuration has a reservation key for a map, without which the map gets no registrations.
fn key(directory: &Path, config: &io::Result<String>) -> Finding {
    const NAME: &str = "reservation_key";
    let wwid = fs::read_to_string(directory.join("dm/uuid")).unwrap_or_default();
    let wwid = wwid.trim_end().strip_prefix(MAP_PREFIX).unwrap_or_default();
    match config {
        Ok(config) if config.trim_start().starts_with("defaults") => match reservation_key(config, wwid) {
            Some(key) => Finding::ok(NAME, key),
            None => Finding::new(NAME, Outcome::Failed(ANSWER_IS_NO), "not set").advise(
                "put the line `reservation_key file` into the section `defaults` of /etc/multipath.conf, then mkdir \
                 -p /etc/multipath && multipathd reconfigure",
            ),
        },
        Ok(refusal) => Finding::new(NAME, Outcome::Unknown, refusal.trim()).advise("run this as root"),
        Err(error) => Finding::new(NAME, Outcome::Unknown, error.to_string()),
    }
}

/// Returns the value of `reservation_key` that applies to a map: that of its own section, or else of the defaults.
fn reservation_key<'a>(config: &'a str, wwid: &str) -> Option<&'a str> {
    let (mut sections, mut default, mut own) = (Vec::new(), None, None);
    let (mut map, mut map_key) = (None, None);
    for line in config.lines().map(str::trim) {
        if let Some(section) = line.strip_suffix('{') {
            sections.push(section.trim());
            (map, map_key) = (None, None);
        } else if line == "}" {
            if map == Some(wwid) {
                own = own.or(map_key);
            }
            sections.pop();
        } else if let Some((name, value)) = line.split_once(char::is_whitespace) {
            let value = value.trim().trim_matches('"');
            match (&sections[..], name) {
                (["defaults"], "reservation_key") => default = Some(value),
                (["multipaths", "multipath"], "wwid") => map = Some(value),
                (["multipaths", "multipath"], "reservation_key") => map_key = Some(value),
                _ => {}
            }
        }
    }
    own.or(default)
}

/// Returns the name of the multipath map of which a disk is a path. `directory` is that of the disk in /sys.
fn map_above(directory: &Path) -> Option<String> {
    let holders = fs::read_dir(directory.join("holders")).ok()?.flatten();
    let mut maps = holders.filter_map(|holder| {
        let read = |file| fs::read_to_string(holder.path().join(file)).ok();
        read("dm/uuid")?.starts_with(MAP_PREFIX).then(|| read("dm/name"))?
    });
    maps.next().map(|name| name.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::findings::line;

    fn sysfs(files: &[(&str, &str)]) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        directory
    }

    #[test]
    fn maps_need_several_running_paths() {
        let (a, b) = ("slaves/sda/device/state", "slaves/sdb/device/state");
        for (files, expected) in [
            (&[(a, "running\n"), (b, "running\n")][..], "ok  paths: 2 paths: sda, sdb"),
            (&[(a, "running\n")], "!!  paths: 1 path: sda"),
            (&[(a, "running\n"), (b, "offline\n")], "!!  paths: 2 paths: sda, sdb (down)"),
            (&[(a, "offline\n")], "NO  paths: 1 path: sda (down)"),
            (&[], "NO  paths: 0 paths: "),
        ] {
            assert_eq!(line(paths(sysfs(files).path())), expected);
        }
    }

    const CONFIG: &str = "defaults {\n\tverbosity 2\nDEFAULT}\nblacklist {\n\treservation_key 9\n}\nmultipaths {\n\t\
                          multipath {\n\t\twwid \"36001\"\n\t\treservation_key 0x1a\n\t}\n\tmultipath {\n\t\twwid \
                          36002\n\t\talias a\n\t}\n}\n";

    #[test]
    fn reservation_key_of_a_map_is_found() {
        let with_file = CONFIG.replace("DEFAULT", "\treservation_key \"file\"\n");
        let without = CONFIG.replace("DEFAULT", "");
        for (config, wwid, expected) in [
            (&with_file, "36001", Some("0x1a")),
            (&with_file, "36002", Some("file")),
            (&without, "36001", Some("0x1a")),
            (&without, "36002", None),
            (&without, "", None),
        ] {
            assert_eq!(reservation_key(config, wwid), expected, "{wwid}\n{config}");
        }
        let map = sysfs(&[("dm/uuid", "mpath-36002\n")]);
        assert_eq!(line(key(map.path(), &Ok(with_file))), "ok  reservation_key: file");
        assert_eq!(line(key(map.path(), &Ok(without))), "NO  reservation_key: not set");
        let refused = Ok("permission deny: need to be root\n".to_owned());
        assert_eq!(line(key(map.path(), &refused)), "??  reservation_key: permission deny: need to be root");
    }

    #[test]
    fn multipathd_is_left_alone_without_maps() {
        let root = sysfs(&[("sys/block/dm-0/dm/uuid", "LVM-x\n"), ("sys/block/sda/size", "8")]);
        assert!(!has_maps(root.path()));
        let mut findings = Findings::default();
        assert!(find_multipathd(root.path(), false, &mut findings).is_none());
        assert!(findings.report().lines[0].starts_with("  --  multipathd: not asked"));
        assert!(has_maps(sysfs(&[("sys/block/dm-0/dm/uuid", "mpath-36001\n")]).path()));
    }

    #[test]
    fn path_of_a_map_is_recognized() {
        let disk = sysfs(&[("holders/dm-0/dm/uuid", "mpath-36002\n"), ("holders/dm-0/dm/name", "a\n")]);
        assert_eq!(map_above(disk.path()).as_deref(), Some("a"));
        let volume = sysfs(&[("holders/dm-0/dm/uuid", "LVM-x\n"), ("holders/dm-0/dm/name", "v\n")]);
        assert_eq!(map_above(volume.path()), None);
    }
}
