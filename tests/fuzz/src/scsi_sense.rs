//! Commands, sense data and reservations as bytes. Read and written again, each must keep its meaning.

mod lists;
mod sense;

use scsi_sense::{
    Cdb,
    pr::{PersistentReserveIn, PersistentReserveOut},
};

/// The first byte chooses the parser.
pub fn scsi_sense(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    match kind & 7 {
        0 | 1 => sense::parsed(bytes, kind >> 3),
        2 => drop(sense::built(&mut arbitrary::Unstructured::new(bytes))),
        3 => cdb(bytes),
        4 => lists::parameters(kind >> 3, bytes),
        5 => lists::transport_ids(bytes),
        6 => lists::data(bytes),
        _ => lists::iscsi(bytes),
    }
}

fn cdb(bytes: &[u8]) {
    let Ok(cdb) = Cdb::new(bytes) else { return };
    assert_eq!(cdb.as_bytes(), &bytes[..cdb.as_bytes().len()]);
    assert_eq!(Cdb::new(cdb.as_bytes()), Ok(cdb), "without padding");
    assert!(!cdb.to_string().is_empty());
    let (read, write) = (PersistentReserveIn::try_from(cdb), PersistentReserveOut::try_from(cdb));
    assert_eq!((read.is_ok(), write.is_ok()), (bytes[0] == 0x5e, bytes[0] == 0x5f));
    assert_eq!(cdb.transfer().is_some(), read.is_ok() || write.is_ok());
    if let Ok(read) = read {
        let again = read.to_cdb();
        assert_eq!(PersistentReserveIn::try_from(Cdb::new(&again).expect("ten bytes")), Ok(read));
        assert_eq!(again, [0x5e, bytes[1] & 0x1f, 0, 0, 0, 0, 0, bytes[7], bytes[8], 0]);
    }
    if let Ok(write) = write {
        let again = write.to_cdb();
        assert_eq!(PersistentReserveOut::try_from(Cdb::new(&again).expect("ten bytes")), Ok(write));
        let [b5, b6, b7, b8] = [bytes[5], bytes[6], bytes[7], bytes[8]];
        assert_eq!(again, [0x5f, bytes[1] & 0x1f, bytes[2], 0, 0, b5, b6, b7, b8, 0]);
    }
}
