//! What makes a host one with multipath maps: udevd and multipathd, which run while a test needs them.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{Disk, Map};
use crate::{Service, eventually};

/// The keys that multipathd keeps if it is told `reservation_key file`.
const KEYS: &str = "/etc/multipath/prkeys";
const LIBRARY: &str = "/usr/lib/libmpathpersist.so.0";
const HIDDEN_LIBRARY: &str = "/usr/lib/hidden.so.0";

/// A host on which both maps are there with all paths, and nothing is registered. Dropped, the daemons end; the maps stay,
/// so that the next test need not wait for them.
pub struct Multipath {
    multipathd: Option<Service>,
    _udevd: Service,
}

impl Multipath {
    /// As multipath-tools says that a host with reservations should be configured.
    pub fn start() -> Self {
        Self::with("reservation_key file")
    }

    /// With this line in the section `defaults` of multipath.conf.
    pub fn with(line: &str) -> Self {
        Self::new(line, None)
    }

    /// With a map of this disk, too, which has a name of its own.
    pub fn with_also(disk: &Path) -> Self {
        Self::new("reservation_key file", Some(disk))
    }

    fn new(line: &str, also: Option<&Path>) -> Self {
        // Their nodes are made by udevd, and their tables need these; multipath-tools' unit file has modprobe, too.
        let modules =
            Command::new("modprobe").args(["-a", "dm_multipath", "dm_service_time"]).status().unwrap();
        assert!(modules.success());
        fs::create_dir_all("/etc/multipath").unwrap();
        fs::write("/etc/multipath.conf", configuration(line, also)).unwrap();
        let _ = fs::remove_file(KEYS);
        // A test that was killed while it had hidden the library could not put it back.
        unhide_library();
        for map in [Map::a(), Map::b()] {
            for path in &map.paths {
                set_state(path, "running");
            }
            map.clean();
        }
        let udevd = start_udevd(also);
        let mut host = Self { multipathd: None, _udevd: udevd };
        host.start_multipathd();
        host
    }

    /// Starts multipathd, and waits until it has all paths.
    pub fn start_multipathd(&mut self) {
        let mut command = Command::new("multipathd");
        // In the foreground, and what it says to standard error.
        self.multipathd = Some(Service::start("multipathd", command.args(["-d", "-s"])));
        for map in [Map::a(), Map::b()] {
            for path in &map.paths {
                wait_for(path, "active ready");
            }
            eventually("the map has a node", || map.node.exists());
        }
    }

    /// Stops multipathd; the maps stay.
    pub fn stop_multipathd(&mut self) {
        self.multipathd = None;
    }
}

/// Takes a path away, and waits until multipathd has seen it.
pub fn take_away(path: &Disk) -> Away {
    set_state(path, "offline");
    let away = Away(path.clone());
    wait_for(path, "failed faulty");
    away
}

/// Waits until multipathd says so of a path: its state in the kernel and what the checker found.
pub fn wait_for(path: &Disk, state: &str) {
    let line = format!("{} {state}", path.name());
    eventually(&line, || show(&["paths", "raw", "format", "%d %t %T"]).lines().any(|other| other == line));
}

/// A path that is away until this is dropped.
pub struct Away(Disk);

impl Drop for Away {
    fn drop(&mut self) {
        set_state(&self.0, "running");
    }
}

/// Puts the library where nobody finds it.
pub fn hide_library() -> Hidden {
    fs::rename(LIBRARY, HIDDEN_LIBRARY).unwrap();
    Hidden
}

fn unhide_library() {
    if Path::new(HIDDEN_LIBRARY).exists() {
        fs::rename(HIDDEN_LIBRARY, LIBRARY).unwrap();
    }
}

/// The library is not found until this is dropped.
pub struct Hidden;

impl Drop for Hidden {
    fn drop(&mut self) {
        unhide_library();
    }
}

/// What the kernel lets pass to a path: `offline` is nothing.
fn set_state(path: &Disk, state: &str) {
    fs::write(path.sysfs().join("state"), format!("{state}\n")).unwrap();
}

/// Has multipathd record another key for the map of this name: nothing is registered by that.
pub fn set_recorded_key(map: &str, key: u64) {
    let key = format!("{key:#x}");
    let output = Command::new("multipathd").args(["setprkey", "map", map, "key", &key]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "ok", "{output:?}");
}

/// What `multipathd show` says.
fn show(what: &[&str]) -> String {
    let output = Command::new("multipathd").arg("show").args(what).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// multipath.conf with one line more among the defaults. It leaves all disks alone but those of the two maps, and of
/// these the path that stands for another host, and `also`.
fn configuration(line: &str, also: Option<&Path>) -> String {
    let maps = [Map::a(), Map::b()].map(|map| (wwid(&map.paths[0]), map.name().to_owned()));
    let [(a, name_a), (b, name_b)] = maps;
    let elsewhere = Disk::map_a_elsewhere();
    // Of a disk of scsi_debug, which has no property that udev knows it by.
    let (exception, property) = match also {
        Some(_) => ("|3?333333.*|.*scsi_debug.*", "property \".*\""),
        None => ("", ""),
    };
    format!(
        "defaults {{
            find_multipaths no
            polling_interval 1
            max_polling_interval 1
            {line}
        }}
        blacklist {{
            devnode \"^{}$\"
            wwid \".*\"
        }}
        blacklist_exceptions {{
            wwid \"^({a}|{b}{exception})$\"
            {property}
        }}
        overrides {{
            no_path_retry fail
            path_checker tur
        }}
        multipaths {{
            multipath {{
                wwid {a}
                alias {name_a}
            }}
            multipath {{
                wwid {b}
                alias {name_b}
            }}
        }}\n",
        elsewhere.name()
    )
}

/// How udev and multipath-tools name a logical unit: 3 is for NAA.
fn wwid(path: &Disk) -> String {
    let name = fs::read_to_string(path.sysfs().join("wwid")).unwrap();
    format!("3{}", name.trim().strip_prefix("naa.").unwrap())
}

fn start_udevd(also: Option<&Path>) -> Service {
    let mut command = Command::new("udevadm");
    let service = Service::start("udevd", command.arg0("systemd-udevd"));
    let udevadm = |arguments: &[&str]| {
        Command::new("udevadm").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap()
    };
    eventually("udevd answers", || udevadm(&["control", "--ping"]).success());
    let paths = Disk::map_a().into_iter().chain(Disk::map_b()).map(|path| path.block);
    let paths: Vec<PathBuf> = paths.chain(also.map(Path::to_owned)).collect();
    let is_known = |path: &PathBuf| {
        let name = path.file_name().unwrap();
        let number = fs::read_to_string(Path::new("/sys/class/block").join(name).join("dev")).unwrap();
        Path::new(&format!("/run/udev/data/b{}", number.trim())).exists()
    };
    // What it found out once stays, and takes a second.
    if !paths.iter().all(is_known) {
        let names = paths.iter().map(|path| path.to_str().unwrap());
        let trigger: Vec<&str> = ["trigger", "--action=add", "--settle"].into_iter().chain(names).collect();
        assert!(udevadm(&trigger).success());
    }
    service
}
