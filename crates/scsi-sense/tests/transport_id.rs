//! TransportIDs of every protocol, byte by byte.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail as tests do"
)]

use scsi_sense::BuildError;
use scsi_sense::pr::{
    IscsiName, IscsiSessionId, ProtocolIdentifier, TransportId, TransportIdBuf, TransportIdError,
    TransportIds,
};

/// Returns an iSCSI TransportID with this text, padded to `field` bytes after its header.
fn iscsi(first: u8, text: &[u8], field: usize) -> Vec<u8> {
    let mut bytes = vec![first, 0];
    bytes.extend(u16::try_from(field).unwrap().to_be_bytes());
    bytes.extend(text);
    bytes.resize(4 + field, 0);
    bytes
}

fn at(first: u8, offset: usize, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 24];
    bytes[0] = first;
    bytes[offset..offset + value.len()].copy_from_slice(value);
    bytes
}

fn examples() -> Vec<(Vec<u8>, TransportId<'static>, &'static str)> {
    let name = IscsiName::new(b"iqn.1994-05.com.redhat:8f1b").unwrap();
    let session = IscsiSessionId::from_bytes([0x00, 0x02, 0x3d, 0x00, 0x00, 0x01]);
    let mut spi = at(0x01, 2, &[0x00, 0x07]);
    spi[7] = 0x02;
    let gid = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x02, 0xc9, 0x03, 0, 0x4e, 0xd0, 0x01];
    vec![
        (
            at(0x00, 8, &[0x10, 0, 0, 0, 0xc9, 0xf3, 0xa5, 0x71]),
            TransportId::FibreChannel { port_name: 0x1000_0000_c9f3_a571 },
            "fcp,10000000c9f3a571",
        ),
        (spi, TransportId::ParallelScsi { address: 7, relative_port: 2 }, "spi,7,2"),
        (
            at(0x03, 8, &[0x00, 0x11, 0x06, 0x66, 0x66, 0, 0x01, 0x02]),
            TransportId::Sbp { eui64: 0x0011_0666_6600_0102 },
            "sbp,0011066666000102",
        ),
        (at(0x04, 8, &gid), TransportId::Srp { port: gid }, "srp,fe800000000000000002c903004ed001"),
        (
            iscsi(0x05, b"iqn.1994-05.com.redhat:8f1b", 28),
            TransportId::IscsiDevice { name },
            "iqn.1994-05.com.redhat:8f1b",
        ),
        (
            iscsi(0x45, b"iqn.1994-05.com.redhat:8f1b,i,0x00023d000001", 48),
            TransportId::IscsiPort { name, session },
            "iqn.1994-05.com.redhat:8f1b,i,0x00023d000001",
        ),
        (
            at(0x06, 4, &[0x50, 0x00, 0xc5, 0x00, 0x05, 0xb3, 0x20, 0x01]),
            TransportId::Sas { address: 0x5000_c500_05b3_2001 },
            "sas,5000c50005b32001",
        ),
        (at(0x0a, 2, &[0x01, 0x08]), TransportId::Sop { routing_id: 0x0108 }, "sop,108"),
    ]
}

#[test]
fn every_protocol_is_read_built_and_shown() {
    for (bytes, id, shown) in examples() {
        assert_eq!(TransportId::parse(&bytes), Ok(id), "{shown}");
        assert_eq!(id.to_string(), shown);
        assert_eq!(id.protocol(), ProtocolIdentifier(bytes[0] & 0x0f));
        let mut built = [0xee; TransportId::MAX_LENGTH];
        let length = id.write(&mut built).unwrap();
        assert_eq!(&built[..length], bytes, "{shown}");
        assert_eq!(
            id.write(&mut built[..length - 1]),
            Err(BuildError::BufferTooSmall { needed: length, got: length - 1 })
        );
    }
}

#[test]
fn transport_id_buf_keeps_transport_id() {
    for (bytes, id, shown) in examples() {
        let kept = TransportIdBuf::new(id).unwrap();
        assert_eq!(kept.as_bytes(), bytes);
        assert_eq!(kept.get(), id);
        assert_eq!(kept.to_string(), shown);
        assert_eq!(kept, TransportIdBuf::new(TransportId::parse(&bytes).unwrap()).unwrap());
    }
}

#[test]
fn truncated_transport_id_is_refused() {
    for (bytes, _, shown) in examples() {
        for got in 0..bytes.len() {
            let Err(TransportIdError::TooShort { needed, got: reported }) = TransportId::parse(&bytes[..got])
            else {
                panic!("{got} bytes of {shown} were accepted");
            };
            assert_eq!(reported, got);
            assert!(needed > got && needed <= bytes.len());
        }
    }
}

#[test]
fn transport_id_without_layout_is_kept() {
    for first in [0x02, 0x07, 0x08, 0x09, 0x0b, 0x0f, 0x40, 0x86, 0xca] {
        let bytes = at(first, 1, &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let id = TransportId::parse(&bytes).unwrap();
        let TransportId::Other(raw) = id else { panic!("{id:?}") };
        assert_eq!(raw.as_bytes(), bytes);
        assert_eq!((raw.protocol().0, raw.format()), (first & 0x0f, first >> 6));
        assert_eq!(TransportIdBuf::new(id).unwrap().as_bytes(), bytes);
    }
    let reserved_iscsi = iscsi(0x85, b"\xff\xff no text at all", 20);
    let id = TransportId::parse(&reserved_iscsi).unwrap();
    assert_eq!(id.to_string(), "iSCSI (5h), format 2: 85000014ffff206e6f207465787420617420616c6c000000");
}

#[test]
fn malformed_iscsi_transport_id_is_refused() {
    let mut hole = iscsi(0x05, b"iqn.a", 20);
    hole[20] = b'x';
    let long = [b'a'; 252];
    for (bytes, error) in [
        (iscsi(0x05, b"iqn.a", 16), TransportIdError::AdditionalLength(16)),
        (iscsi(0x05, b"iqn.a", 21), TransportIdError::AdditionalLength(21)),
        (iscsi(0x05, b"iqn.a", 256), TransportIdError::AdditionalLength(256)),
        (iscsi(0x05, b"iqn.a", 65532), TransportIdError::AdditionalLength(65532)),
        (iscsi(0x05, &long, 252), TransportIdError::NotTerminated),
        (hole, TransportIdError::Padding),
        (iscsi(0x05, b"", 20), TransportIdError::EmptyName),
        (iscsi(0x45, b",i,0x1", 20), TransportIdError::EmptyName),
        (iscsi(0x45, b"iqn.a", 20), TransportIdError::NoSeparator),
        (iscsi(0x45, b"iqn.a,i,0x", 20), TransportIdError::SessionId),
        (iscsi(0x45, b"iqn.a,i,0x12x", 20), TransportIdError::SessionId),
        (iscsi(0x45, b"iqn.a,i,0x0123456789abc", 24), TransportIdError::SessionId),
    ] {
        assert_eq!(TransportId::parse(&bytes), Err(error));
    }
}

#[test]
fn longest_iscsi_name_fits() {
    let name = [b'n'; 223];
    let session = IscsiSessionId::from_bytes([0xff; 6]);
    let id = TransportId::IscsiPort { name: IscsiName::new(&name).unwrap(), session };
    let kept = TransportIdBuf::new(id).unwrap();
    assert_eq!(kept.as_bytes().len(), 4 + 244);
    assert_eq!(kept.get(), id);

    let name = [b'n'; 251];
    let id = TransportId::IscsiDevice { name: IscsiName::new(&name).unwrap() };
    assert_eq!(TransportIdBuf::new(id).unwrap().as_bytes().len(), TransportId::MAX_LENGTH);
    let name = [b'n'; 252];
    let id = TransportId::IscsiDevice { name: IscsiName::new(&name).unwrap() };
    assert_eq!(TransportIdBuf::new(id), Err(BuildError::TooLong { limit: 256, got: 260 }));
}

#[test]
fn truncated_transport_id_list_is_refused() {
    let ids: Vec<_> = examples().into_iter().map(|(_, id, _)| id).collect();
    let mut buffer = [0; 512];
    let list = TransportIds::build(&ids, &mut buffer).unwrap();
    assert!(list.iter().eq(ids.iter().copied()));
    assert_eq!(TransportIds::parse(list.as_bytes()), Ok(list));

    let bytes = list.as_bytes();
    let ends: Vec<_> = examples()
        .iter()
        .scan(0, |end, (bytes, _, _)| {
            *end += bytes.len();
            Some(*end)
        })
        .collect();
    for length in 1..bytes.len() {
        assert_eq!(TransportIds::parse(&bytes[..length]).is_ok(), ends.contains(&length), "{length} bytes");
    }
    assert!(TransportIds::parse(&[]).unwrap().is_empty());
}

#[test]
fn bytes_after_transport_id_are_refused() {
    let bytes = [at(0x06, 4, &[0x50]), at(0x06, 4, &[0x51])].concat();
    assert_eq!(TransportId::parse(&bytes), Err(TransportIdError::TrailingBytes(24)));
    let (first, rest) = TransportId::split_first(&bytes).unwrap();
    assert_eq!(first, TransportId::Sas { address: 0x50 << 56 });
    assert_eq!(TransportId::parse(rest), Ok(TransportId::Sas { address: 0x51 << 56 }));
}
