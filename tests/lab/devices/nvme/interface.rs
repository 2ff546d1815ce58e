//! The crate block-pr on a real namespace, without the helper.

use std::{os::fd::AsFd as _, time::Duration};

use block_pr::{
    BlockDevice, Error, Held, Kernel, KeyList, Namespace, Persist, PrStatus, Register, ReservationType,
    opcode,
};

use super::*;

const TIMEOUT: Duration = Duration::from_secs(10);

fn namespace(device: &File) -> Namespace<Kernel<'_>> {
    Namespace::open(Kernel::new(device.as_fd()), TIMEOUT).unwrap()
}

#[test]
fn nvme_interface_reads_a_real_namespace() {
    let Some((_target, [a, b, _])) = three_hosts() else { return };
    for path in [&a.block, &a.generic] {
        let device = open(path);
        let namespace = namespace(&device);
        assert_eq!(namespace.id(), 1);
        assert_eq!(namespace.capabilities().unwrap().0, 0xfe);
        assert!(namespace.controller_has_reservations().unwrap());
        let effects = namespace.command_effects().unwrap();
        for opcode in [opcode::REGISTER, opcode::REPORT, opcode::ACQUIRE, opcode::RELEASE] {
            assert!(effects.supports(opcode), "{opcode:x}");
        }
        assert!(!effects.supports(0xff));
        assert_eq!(namespace.host_identifier().unwrap().to_string(), Nvmet::host_id(0));
    }
    let (device, other) = (open(&a.block), open(&b.generic));
    namespace(&device).register(Register::New, Persist::Keep, 0, 0xa1).unwrap();
    namespace(&other).register(Register::New, Persist::Keep, 0, 0xb2).unwrap();
    let report = namespace(&other).report().unwrap();
    let hosts: Vec<_> = report.registrants.iter().map(|one| (one.host.to_string(), one.key)).collect();
    assert_eq!(hosts, [(Nvmet::host_id(0), 0xa1), (Nvmet::host_id(1), 0xb2)]);
    assert_eq!((report.generation, report.reservation_type, report.total), (2, None, 2));
}

/// The calls of `<linux/pr.h>`, on an NVMe namespace. The kernel's traps are those that the helper avoids.
#[test]
fn pr_calls_reach_a_real_namespace() {
    let Some((_target, [a, b, _])) = three_hosts() else { return };
    let (device, other) = (open(&a.block), open(&b.block));
    let own = BlockDevice::new(Kernel::new(device.as_fd()));
    let second = BlockDevice::new(Kernel::new(other.as_fd()));
    let kind = ReservationType::WriteExclusiveRegistrantsOnly;
    own.register(0, 0xa1, false).unwrap();
    second.register(0, 0xb2, false).unwrap();
    own.reserve(0xa1, kind).unwrap();
    let conflict = second.reserve(0xb2, kind).unwrap_err();
    assert!(matches!(conflict, Error::Pr(PrStatus::CONFLICT)), "{conflict:?}");
    match own.keys() {
        Ok(found) => assert_eq!(found, KeyList { generation: 2, keys: vec![0xa1, 0xb2] }),
        // Before kernel 6.19.
        Err(error) => assert!(matches!(error, Error::NotSupported(_)), "{error:?}"),
    }
    match second.reservation() {
        Ok(found) => assert_eq!(found, Some(Held { generation: 2, key: 0xa1, kind })),
        Err(error) => assert!(matches!(error, Error::NotSupported(_)), "{error:?}"),
    }
    second.preempt(0xb2, 0xa1, kind, true).unwrap();
    let keys = || -> Vec<u64> {
        namespace(&other).report().unwrap().registrants.iter().map(|registrant| registrant.key).collect()
    };
    assert_eq!(keys(), [0xb2]);
    second.release(0xb2, kind).unwrap();
    own.register(0, 0xa1, false).unwrap();
    // SCSI would unregister the host. Linux up to 7.2 registers the key 0, so the helper does not use these calls.
    own.register(0xa1, 0, false).unwrap();
    println!("after unregistering: {:x?}", keys());
    assert!([&[0xb2, 0][..], &[0xb2]].contains(&&keys()[..]), "{:x?}", keys());
    second.clear(0xb2).unwrap();
    assert_eq!(keys(), [0; 0]);
    let generic = open(&a.generic);
    let refused = BlockDevice::new(Kernel::new(generic.as_fd())).clear(1).unwrap_err();
    assert!(matches!(refused, Error::NotSupported(_)), "{refused:?}");
}
