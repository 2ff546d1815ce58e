//! `pr-ctl doctor` on a map and on its paths.

use fixtures::Multipath;

use super::{Hosts, OTHER_KEY, REGISTER, State, take_away, with_hosts, with_hosts_on};
use crate::doctor::doctor;

#[test]
fn map_is_ready_and_left_unregistered() {
    with_hosts(|Hosts { map, other, daemon, .. }| {
        let (status, output) = doctor(daemon, &map.node);
        assert_eq!(status, 0, "{output}");
        for line in [
            "ok  multipathd: ",
            "ok  paths: 2 paths: ",
            "ok  reservation_key: file",
            "ok  Pacemaker with fence_scsi or fence_mpath: ",
            "ok  registered\n  ok  unregistered\n",
        ] {
            assert!(output.contains(line), "{line}:\n{output}");
        }
        assert_eq!(map.state(), State::default());

        let away = take_away(&map.paths[0]);
        let (status, output) = doctor(daemon, &map.node);
        assert_eq!(status, 0, "{output}");
        assert!(output.contains("!!  paths: 2 paths: ") && output.contains("(down)"), "{output}");
        drop(away);

        other.expect_good(REGISTER, 0, 0, OTHER_KEY);
        let (status, output) = doctor(daemon, &map.node);
        assert_eq!(status, 36, "{output}");
        assert!(output.contains("NO  REGISTER: skipped: the map has registrations"), "{output}");
        assert_eq!(map.state(), State::default().with_other_host(OTHER_KEY));
    });
}

#[test]
fn path_of_a_map_is_a_warning() {
    with_hosts(|Hosts { map, daemon, .. }| {
        let (_, output) = doctor(daemon, &map.paths[0].block);
        assert!(output.contains("!!  whole disk: a path of the map map-a\n"), "{output}");
        assert_eq!(map.state(), State::default());
    });
}

#[test]
fn missing_reservation_key_is_not_ready() {
    with_hosts_on(Multipath::with(""), |Hosts { map, daemon, .. }| {
        let (status, output) = doctor(daemon, &map.node);
        assert_ne!(status, 0, "{output}");
        assert!(output.contains("NO  reservation_key: not set\n"), "{output}");
        assert_eq!(map.state(), State::default());
    });
}

#[test]
fn missing_multipathd_is_not_ready() {
    with_hosts(|Hosts { map, daemon, multipath, .. }| {
        multipath.stop_multipathd();
        let (status, output) = doctor(daemon, &map.node);
        assert_eq!(status, 36, "{output}");
        assert!(output.contains("NO  multipathd: it does not run\n"), "{output}");
        assert_eq!(map.state(), State::default());
    });
}
