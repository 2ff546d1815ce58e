//! REGISTER with SPEC_I_PT, which registers a key for other initiator ports.

use std::{fs, os::unix::fs::symlink, path::Path};

use fixtures::Disk;
use scsi_sense::Status;
use test_support::Reply;

use super::{CLEAR, Host, Hosts, KEY, NEW_KEY, OTHER_KEY, REGISTER, RELEASE, RESERVE, State, with_hosts};
use crate::reservations::with_transport_ids;

pub(super) const INVALID_FIELD_IN_PARAMETER_LIST: Option<(u8, u8, u8)> = Some((5, 0x26, 0));

/// Returns a SAS TransportID (SPC-4 table 394).
pub(super) fn sas(address: u64) -> Vec<u8> {
    [&[6, 0, 0, 0][..], &address.to_be_bytes(), &[0; 12]].concat()
}

/// Registers `key` for the ports of these TransportIDs and for the own ports.
fn register(host: &mut Host, key: u64, ids: &[Vec<u8>]) -> Reply {
    let ids = ids.concat();
    register_raw(host, key, u32::try_from(ids.len()).unwrap(), &ids)
}

/// Sends a REGISTER with `ids`, any bytes, as TransportIDs and `stated` as their length.
fn register_raw(host: &mut Host, key: u64, stated: u32, ids: &[u8]) -> Reply {
    host.send(REGISTER, 0, &with_transport_ids(0, key, stated, ids))
}

/// Returns initiator ports that LIO knows, of machines that have not connected to the disk yet.
fn absent_ports(count: u64) -> Vec<u64> {
    let unit = Path::new("/sys/kernel/config/target/core/fileio_3/map_a");
    let ports = (0..count).map(|number| 0x6001_4050_0000_0100 + number);
    ports
        .inspect(|port| {
            let target = format!("naa.5001405{:09x}", port & 0xf_ffff_ffff);
            let group = Path::new("/sys/kernel/config/target/loopback").join(target).join("tpgt_1");
            if group.exists() {
                return;
            }
            let lun = group.join("lun/lun_0");
            fs::create_dir_all(&lun).unwrap();
            fs::write(group.join("nexus"), format!("naa.{port:x}")).unwrap();
            // So that no disk appears.
            fs::write(group.join("transport_status"), "offline").unwrap();
            symlink(unit, lun.join("unit")).unwrap();
        })
        .collect()
}

#[test]
fn other_initiator_port_is_registered() {
    with_hosts(|Hosts { map, host, .. }| {
        let other = Disk::map_a_other_host().initiator_port();
        // Repeated, because the library's threads race with each other.
        for _ in 0..5 {
            let reply = register(host, KEY, &[sas(other)]);
            assert_eq!(reply.status, Status::GOOD, "{:02x?}", reply.sense_code());
            assert_eq!(map.state(), map.registered(KEY).with_other_host(KEY));
            host.expect_good(CLEAR, 0, KEY, 0);
        }
    });
}

#[test]
fn at_most_thirty_two_transport_ids() {
    with_hosts(|Hosts { map, host, .. }| {
        let ports = absent_ports(33);
        let ids: Vec<Vec<u8>> = ports.iter().copied().map(sas).collect();
        assert_eq!(register(host, KEY, &ids).sense_code(), INVALID_FIELD_IN_PARAMETER_LIST);
        assert_eq!(map.state(), State::default());

        let reply = register(host, KEY, &ids[..32]);
        assert_eq!(reply.status, Status::GOOD, "{:02x?}", reply.sense_code());
        let mut expected = map.registered(KEY);
        expected.registered.extend(ports[..32].iter().map(|port| (*port, KEY)));
        assert_eq!(map.state(), expected);
        // All can be read, although mpathpersist handles no more than thirty-two.
        let status = host.ask(super::READ_FULL_STATUS, 8192);
        let length = u32::from_be_bytes(*status.payload[4..].first_chunk().unwrap());
        assert_eq!((status.status, length), (Status::GOOD, 34 * 48));
        host.expect_good(CLEAR, 0, KEY, 0);
    });
}

/// A registered host must send its key, also if it registers others: else it would be unregistered by the failure.
#[test]
fn registered_host_keeps_its_reservation() {
    with_hosts(|Hosts { map, host, .. }| {
        let other = Disk::map_a_other_host().initiator_port();
        host.expect_good(REGISTER, 0, 0, KEY);
        host.expect_good(RESERVE, 5, KEY, 0);
        let held = map.registered(KEY).with_reservation(KEY, 5);
        for ids in [&[sas(other)][..], &[sas(0x1234)], &[]] {
            for key in [KEY, NEW_KEY] {
                let reply = register(host, key, ids);
                assert_eq!((reply.status, reply.sense_code()), (Status::RESERVATION_CONFLICT, None));
                assert_eq!(map.state(), held, "{ids:02x?}");
            }
        }
        host.expect_good(RELEASE, 5, KEY, 0);
        assert_eq!(map.state(), map.registered(KEY));
    });
}

#[test]
fn unknown_port_registers_nothing() {
    with_hosts(|Hosts { map, host, .. }| {
        let other = Disk::map_a_other_host().initiator_port();
        for ids in [vec![sas(0x1234)], vec![sas(other), sas(0x1234)]] {
            assert_eq!(register(host, KEY, &ids).sense_code(), INVALID_FIELD_IN_PARAMETER_LIST);
            assert_eq!(map.state(), State::default());
        }
    });
}

#[test]
fn malformed_transport_ids_register_nothing() {
    with_hosts(|Hosts { map, host, other, .. }| {
        other.expect_good(REGISTER, 0, 0, OTHER_KEY);
        let good = sas(Disk::map_a_other_host().initiator_port());
        let iscsi = |format: u8, additional: u16, name: &[u8]| {
            let mut id = [&[format, 0], &additional.to_be_bytes()[..], name].concat();
            id.resize(24.max(4 + usize::from(additional)), 0);
            id
        };
        let cases: [(&str, u32, Vec<u8>); 11] = [
            ("none", 0, vec![]),
            ("cut", 20, good[..20].to_vec()),
            ("a second one cut", 47, [&good[..], &good[..23]].concat()),
            ("fewer bytes than stated", 48, good.clone()),
            ("more bytes than stated", 24, [&good[..], &good[..]].concat()),
            ("2^32 - 1 stated", u32::MAX, good.clone()),
            ("of a protocol that has none", 24, [&[0x0f], &good[1..]].concat()),
            ("iSCSI of another format", 24, iscsi(0x85, 20, b"iqn.a\0")),
            ("iSCSI shorter than allowed", 24, iscsi(5, 16, b"iqn.a\0")),
            ("iSCSI of a length that four does not divide", 26, iscsi(5, 22, b"iqn.a\0")),
            ("iSCSI without an end", 24, iscsi(5, 20, &[b'a'; 20])),
        ];
        for (what, stated, ids) in cases {
            let reply = register_raw(host, KEY, stated, &ids);
            if what == "none" {
                // An empty list of TransportIDs is valid. A disk may accept or refuse it.
                println!("none: {} {:02x?}", reply.status, reply.sense_code());
                host.change(REGISTER, 0, KEY, 0);
                continue;
            }
            assert_eq!(reply.sense_code(), INVALID_FIELD_IN_PARAMETER_LIST, "{what}");
            assert_eq!(map.state(), State::default().with_other_host(OTHER_KEY), "{what}");
        }
    });
}
