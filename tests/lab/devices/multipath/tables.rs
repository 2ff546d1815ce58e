//! The tables and dependencies of maps in the device-mapper of a real kernel.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use dm_ioctl::{Control, DeviceNumber, Flags};

use super::{Map, Multipath};

fn number(node: &Path) -> DeviceNumber {
    let number = fs::metadata(node).unwrap().rdev();
    DeviceNumber { major: rustix::fs::major(number), minor: rustix::fs::minor(number) }
}

#[test]
fn multipath_map_depends_on_its_paths() {
    let _multipath = Multipath::start();
    let control = Control::open().unwrap();
    for map in [Map::a(), Map::b()] {
        let device = number(&map.node);
        let table = control.table(device).unwrap();
        let target = table.multipath_target().expect("one target, which is multipath");
        assert_eq!(target.start, 0);
        assert_eq!(table.name.to_str(), Ok(map.name()));
        assert!(!table.flags.contains(Flags::SUSPEND));
        let mut paths = map.paths.clone().map(|path| number(&path.block));
        let mut dependencies = control.dependencies(device).unwrap();
        paths.sort_unstable();
        dependencies.sort_unstable();
        assert_eq!(dependencies, paths);
        let status = control.status(device).unwrap();
        let words =
            String::from_utf8_lossy(status.multipath_target().unwrap().parameters.to_bytes()).into_owned();
        for path in paths {
            assert!(words.contains(&format!("{}:{} A ", path.major, path.minor)), "active: {words}");
        }
    }
}
