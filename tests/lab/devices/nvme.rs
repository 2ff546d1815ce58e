//! NVMe namespaces of a real kernel, with three hosts: nvmet, to which this machine connects by nvme-loop.
//!
//! nvmet has reservations from kernel 6.13 on: with older kernels most of these tests are not run.

mod interface;
mod model;
mod multipath;

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use scsi_sense::Status;
use test_support::{Client, Reply};

use fixtures::{
    CLEAR, NvmeDisk, Nvmet, NvmetOptions, PREEMPT, PREEMPT_AND_ABORT, READ_FULL_STATUS, READ_KEYS,
    READ_RESERVATION, REGISTER, REGISTER_AND_IGNORE, RELEASE, RESERVE, basic, in_cdb, open, out_cdb,
};

use crate::reservations::daemon;

const REPORT_CAPABILITIES: u8 = 2;

type SenseCode = (u8, u8, u8);

const GOOD: (u8, Option<SenseCode>) = (0x00, None);
const CONFLICT: (u8, Option<SenseCode>) = (0x18, None);

const fn check(key: u8, asc: u8, ascq: u8) -> (u8, Option<SenseCode>) {
    (0x02, Some((key, asc, ascq)))
}

/// A client of a helper with a device of one host.
struct Host {
    client: Client,
    device: File,
}

impl Host {
    fn new(client: Client, path: &Path) -> Self {
        Self { client, device: open(path) }
    }

    fn change(&mut self, action: u8, kind: u8, key: u64, new_key: u64) -> (u8, Option<SenseCode>) {
        let parameters = basic(key, new_key);
        self.send(&out_cdb(action, kind, &parameters), &parameters)
    }

    fn send(&mut self, cdb: &[u8], parameters: &[u8]) -> (u8, Option<SenseCode>) {
        let reply = self.client.write(&self.device, cdb, parameters).unwrap();
        (reply.status.0, reply.sense_code())
    }

    fn ask(&mut self, action: u8, length: u16) -> Reply {
        self.client.read(&self.device, &in_cdb(action, length)).unwrap()
    }

    /// Returns the data of a PERSISTENT RESERVE IN in hexadecimal.
    #[track_caller]
    fn read(&mut self, action: u8, length: u16) -> String {
        let reply = self.ask(action, length);
        assert_eq!(reply.status, Status::GOOD, "{reply:?}");
        reply.payload.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    }
}

/// Returns a target with reservations and three hosts, or `None` if this kernel has none.
fn three_hosts() -> Option<(Nvmet, [NvmeDisk; 3])> {
    if !Nvmet::has_reservations() {
        return None;
    }
    let target = Nvmet::make(NvmetOptions { has_reservations: true, native_multipath: false });
    let disks = [0, 1, 2].map(|number| target.connect(number));
    Some((target, disks))
}

/// The same by both kinds of device.
#[test]
fn nvme_answers_are_those_of_scsi() {
    for node in [|disk: &NvmeDisk| disk.block.clone(), |disk: &NvmeDisk| disk.generic.clone()] {
        let Some((target, disks)) = three_hosts() else { return };
        check_cases(disks.each_ref().map(node));
        drop(target);
    }
}

fn check_cases(paths: [PathBuf; 3]) {
    let daemon = daemon();
    let [mut a, mut b, mut c] = paths.map(|path| Host::new(daemon.client(), &path));
    assert_eq!(a.read(READ_KEYS, 8192), "0000000000000000");
    assert_eq!(a.read(REPORT_CAPABILITIES, 8192), "00080480ea010000");
    assert_eq!(a.change(REGISTER, 0, 0, 0), GOOD);
    assert_eq!(a.change(REGISTER, 0, 5, 0xa1), CONFLICT);
    assert_eq!(a.change(REGISTER, 0, 0, 0xa1), GOOD);
    assert_eq!(a.change(REGISTER, 0, 0, 0xa1), CONFLICT, "registered already");
    assert_eq!(a.change(REGISTER, 0, 0, 0), CONFLICT);
    assert_eq!(a.change(REGISTER, 0, 0xa1, 0xa2), GOOD);
    assert_eq!(a.change(REGISTER, 0, 0xa1, 0xa3), CONFLICT);
    let aptpl = [&basic(0xa2, 0xa1)[..20], &[1, 0, 0, 0]].concat();
    assert_eq!(a.send(&out_cdb(REGISTER, 0, &aptpl), &aptpl), check(5, 0x26, 0));
    assert_eq!(a.change(REGISTER_AND_IGNORE, 0, 0x99, 0xa1), GOOD);
    assert_eq!(b.change(REGISTER_AND_IGNORE, 0, 0x99, 0xb2), GOOD);
    assert_eq!(c.change(REGISTER_AND_IGNORE, 0, 0x99, 0), GOOD, "nothing to unregister");
    let spec_i_pt = [&basic(0xa1, 0xa1)[..20], &[8, 0, 0, 0], &[0; 4]].concat();
    assert_eq!(a.send(&out_cdb(REGISTER, 0, &spec_i_pt), &spec_i_pt), check(5, 0x26, 0));
    assert_eq!(c.change(REGISTER, 0, 0, 0xc3), GOOD);
    assert_eq!(a.change(RESERVE, 2, 0xa1, 0), check(5, 0x24, 0));
    assert_eq!(a.change(RESERVE, 0x15, 0xa1, 0), check(5, 0x24, 0));
    assert_eq!(a.change(RESERVE, 5, 0x77, 0), CONFLICT);
    assert_eq!(a.change(RESERVE, 5, 0xa1, 0), GOOD);
    assert_eq!(a.change(RESERVE, 5, 0xa1, 0), GOOD);
    assert_eq!(a.change(RESERVE, 6, 0xa1, 0), CONFLICT);
    assert_eq!(b.change(RESERVE, 5, 0xb2, 0), CONFLICT);
    let keys = "000000050000001800000000000000a100000000000000b200000000000000c3";
    assert_eq!(b.read(READ_KEYS, 8192), keys);
    let held = "000000050000001000000000000000a10000000000050000";
    assert_eq!(b.read(READ_RESERVATION, 8192), held);
    for length in [0, 8, 12] {
        assert_eq!(b.read(READ_KEYS, length), keys[..usize::from(length) * 2]);
    }
    assert_eq!(
        c.read(READ_FULL_STATUS, 40),
        "000000050000009000000000000000a1000000000305000000000000000000180b00000000000000"
    );
    assert_eq!(c.read(READ_FULL_STATUS, 56)[80..], Nvmet::host_id(0).replace('-', ""));
    assert_eq!(b.change(RELEASE, 5, 0xb2, 0), GOOD, "not the holder");
    assert_eq!(b.read(READ_RESERVATION, 8192), held);
    assert_eq!(a.change(RELEASE, 6, 0xa1, 0), check(5, 0x26, 4));
    assert_eq!(a.change(RELEASE, 5, 0x77, 0), CONFLICT);
    assert_eq!(b.change(PREEMPT, 0, 0xb2, 0xc3), GOOD, "the victim holds nothing: the type stays");
    assert_eq!(b.read(READ_KEYS, 8192), "000000060000001000000000000000a100000000000000b2");
    assert_eq!(b.change(PREEMPT, 5, 0xb2, 0xc3), CONFLICT, "nobody has the key");
    assert_eq!(b.change(PREEMPT, 5, 0xb2, 0), check(5, 0x26, 0));
    assert_eq!(b.change(PREEMPT, 2, 0xb2, 0xa1), check(5, 0x24, 0), "the victim holds it: the type matters");
    assert_eq!(b.change(PREEMPT_AND_ABORT, 6, 0xb2, 0xa1), GOOD);
    assert_eq!(b.read(READ_RESERVATION, 8192), "000000070000001000000000000000b20000000000060000");
    assert_eq!(b.change(PREEMPT, 1, 0xb2, 0xb2), GOOD, "its own key: another type");
    assert!(b.read(READ_RESERVATION, 8192).ends_with("00000000000000b20000000000010000"));
    assert_eq!(b.change(RELEASE, 1, 0xb2, 0), GOOD);
    assert_eq!(b.read(READ_RESERVATION, 8192).len(), 16);
    assert_eq!(a.change(CLEAR, 0, 0xa1, 0), CONFLICT, "not registered any more");
    assert_eq!(b.change(CLEAR, 0, 0xb2, 0), GOOD);
    assert_eq!(b.read(READ_KEYS, 8192).len(), 16);
    for action in [7, 8, 9, 0x1f] {
        assert_eq!(a.change(action, 1, 0, 0), check(5, 0x24, 0), "{action}");
    }
    daemon.stop();
}

/// nvmet up to 7.2 answers success to PREEMPT by the holder, and removes no registration.
#[test]
fn nvme_preempt_without_effect_is_failure() {
    let Some((_target, disks)) = three_hosts() else { return };
    let daemon = daemon();
    let [mut a, mut b, _] = disks.map(|disk| Host::new(daemon.client(), &disk.block));
    for kind in [1, 3, 5, 6] {
        assert_eq!(a.change(REGISTER_AND_IGNORE, 0, 0, 0xa1), GOOD);
        assert_eq!(b.change(REGISTER_AND_IGNORE, 0, 0, 0xb2), GOOD);
        assert_eq!(a.change(RESERVE, kind, 0xa1, 0), GOOD);
        let answer = a.change(PREEMPT, kind, 0xa1, 0xb2);
        let is_registered = a.read(READ_KEYS, 8192).contains("b2");
        println!("type {kind}: {answer:x?}, the victim is registered: {is_registered}");
        assert_eq!(answer, if is_registered { check(0xb, 0, 6) } else { GOOD }, "type {kind}");
        assert_eq!(a.change(CLEAR, 0, 0xa1, 0), GOOD);
    }
    daemon.stop();
}

/// By `pr-ctl`, as an operator or a fence agent does.
#[test]
fn fenced_nvme_host_cannot_write() {
    let Some((target, [a, b, _])) = three_hosts() else { return };
    let daemon = daemon();
    let pr_ctl = |arguments: &[&str], disk: &NvmeDisk| {
        let mut command = Command::new("pr-ctl");
        command.arg("--socket").arg(daemon.socket()).args(arguments).arg(&disk.block);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}\n{}", daemon.log());
        String::from_utf8(output.stdout).unwrap()
    };
    pr_ctl(&["register", "--new-key", "0xa1"], &a);
    pr_ctl(&["register", "--new-key", "0xb2"], &b);
    pr_ctl(&["reserve", "--key", "0xa1", "--type", "5"], &a);
    write(&a, 4096, 1).unwrap();
    write(&b, 8192, 2).unwrap();
    assert_eq!(target.content(4096, 1), [1]);

    pr_ctl(&["preempt", "--key", "0xb2", "--victim", "0xa1", "--type", "5"], &b);
    write(&a, 4096, 3).unwrap_err();
    write(&b, 8192, 4).unwrap();
    assert_eq!((target.content(4096, 1), target.content(8192, 1)), (vec![1], vec![4]), "only B has written");
    let keys = pr_ctl(&["--json", "keys"], &b);
    assert!(keys.contains("b2") && !keys.contains("a1"), "{keys}");
    daemon.stop();
}

/// Writes a block and waits until it is on the disk.
fn write(disk: &NvmeDisk, offset: u64, byte: u8) -> std::io::Result<()> {
    let file = open(&disk.block);
    file.write_all_at(&[byte; 4096], offset)?;
    file.sync_all()
}

/// A command on each of these would reach the whole namespace, or more than a namespace.
#[test]
fn parts_of_nvme_namespace_are_refused() {
    let Some((_target, [a, b, _])) = three_hosts() else { return };
    let daemon = daemon();
    let mut whole = Host::new(daemon.client(), &a.block);
    assert_eq!(whole.change(REGISTER, 0, 0, 0xa1), GOOD);
    let partition = PathBuf::from(format!("{}p1", b.block.display()));
    test_support::eventually("the partition appears", || partition.exists());
    let table = format!("0 2048 linear {} 0", b.block.display());
    let dmsetup = |arguments: &[&str]| {
        assert!(Command::new("dmsetup").args(arguments).status().unwrap().success(), "{arguments:?}");
    };
    dmsetup(&["create", "nvme_part", "--table", &table]);
    for part in [&partition, Path::new("/dev/mapper/nvme_part"), &b.controller] {
        let mut part_host = Host::new(daemon.client(), part);
        assert_eq!(part_host.change(REGISTER, 0, 0, 0xb2), check(5, 0x20, 0), "{part:?}");
        assert_eq!(part_host.ask(READ_KEYS, 8192).sense_code(), Some((5, 0x20, 0)), "{part:?}");
        drop(part_host);
    }
    dmsetup(&["remove", "nvme_part"]);
    daemon.wait_for_log("is a partition");
    daemon.wait_for_log("is neither a SCSI generic device nor an NVMe namespace");
    // A descriptor that is not open for writing changes nothing.
    let reading = File::open(&b.block).unwrap();
    let parameters = basic(0, 0xb2);
    let reply = daemon.client().write(&reading, &out_cdb(REGISTER, 0, &parameters), &parameters).unwrap();
    assert_eq!(reply.sense_code(), Some((5, 0x20, 0)));
    assert_eq!(whole.read(READ_KEYS, 8192), "000000010000000800000000000000a1");
    daemon.stop();
}

/// On every kernel.
#[test]
fn nvme_without_reservations_is_refused() {
    let target = Nvmet::make(NvmetOptions { has_reservations: false, native_multipath: false });
    let disk = target.connect(0);
    let daemon = daemon();
    for path in [&disk.block, &disk.generic] {
        let mut host = Host::new(daemon.client(), path);
        for action in [READ_KEYS, READ_RESERVATION, READ_FULL_STATUS, REPORT_CAPABILITIES] {
            let reply = host.ask(action, 8192);
            assert_eq!((reply.sense_code(), reply.payload.len()), (Some((5, 0x20, 0)), 0), "{action}");
        }
        for action in [REGISTER, REGISTER_AND_IGNORE, RESERVE, RELEASE, CLEAR, PREEMPT] {
            assert_eq!(host.change(action, 1, 0, 0xa1), check(5, 0x20, 0), "{action}");
        }
    }
    daemon.wait_for_log("the NVMe namespace has no reservations");
    daemon.stop();
}

/// `nvme resv-report` sees the same.
#[test]
fn nvme_cli_agrees_with_helper() {
    let Some((_target, disks)) = three_hosts() else { return };
    let daemon = daemon();
    let [mut a, mut b, _] = disks.each_ref().map(|disk| Host::new(daemon.client(), &disk.block));
    assert_eq!(a.change(REGISTER, 0, 0, 0xa1a1), GOOD);
    assert_eq!(b.change(REGISTER, 0, 0, 0xb2b2), GOOD);
    assert_eq!(b.change(RESERVE, 6, 0xb2b2, 0), GOOD);
    let mut command = Command::new("nvme");
    let output = command.args(["resv-report", "--eds", "--output-format=json"]).arg(&disks[2].block).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    println!("{report:#}");
    assert_eq!((report["gen"].as_u64(), report["rtype"].as_u64()), (Some(2), Some(4)), "{report}");
    let registrants = report["regctlext"].as_array().or(report["regctl_ext"].as_array()).unwrap();
    let read = a.read(READ_FULL_STATUS, 8192);
    let keys = [0xa1a1, 0xb2b2];
    for (index, (registrant, key)) in registrants.iter().zip(keys).enumerate() {
        assert_eq!(registrant["rkey"].as_u64(), Some(key), "{report}");
        assert_eq!(registrant["rcsts"].as_u64().map(|status| status & 1), Some(u64::from(index == 1)));
        assert_eq!(read[16 + 96 * index..][..16], format!("{key:016x}"), "{read}");
    }
    assert_eq!((registrants.len(), read.len()), (2, 16 + 2 * 96));
    daemon.stop();
}
