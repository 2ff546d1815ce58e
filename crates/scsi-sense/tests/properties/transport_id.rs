//! TransportIDs.

use proptest::prelude::*;
use scsi_sense::pr::{TransportId, TransportIdBuf, TransportIds};

use crate::transport_ids;

proptest! {
    #[test]
    fn transport_ids_are_read_as_built(id in transport_ids()) {
        let mut buffer = [0xee; TransportId::MAX_LENGTH];
        let length = id.write(&mut buffer).unwrap();
        prop_assert!(length >= 24 && length % 4 == 0);
        prop_assert_eq!(TransportId::parse(&buffer[..length]), Ok(id));
        prop_assert!(buffer[length..].iter().all(|byte| *byte == 0xee));
        let kept = TransportIdBuf::new(id).unwrap();
        prop_assert_eq!(kept.get(), id);
    }

    #[test]
    fn truncated_transport_ids_are_refused(id in transport_ids()) {
        let kept = TransportIdBuf::new(id).unwrap();
        for length in 0..kept.as_bytes().len() {
            prop_assert!(TransportId::parse(&kept.as_bytes()[..length]).is_err());
        }
    }

    #[test]
    fn transport_id_lists_keep_their_order(ids in prop::collection::vec(transport_ids(), 0..8)) {
        let mut buffer = [0; 8 * TransportId::MAX_LENGTH];
        let list = TransportIds::build(&ids, &mut buffer).unwrap();
        prop_assert!(TransportIds::parse(list.as_bytes()).unwrap().iter().eq(ids));
    }

    #[test]
    fn transport_ids_are_rebuilt_with_same_meaning(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok((id, rest)) = TransportId::split_first(&bytes) {
            prop_assert!(rest.len() < bytes.len());
            let kept = TransportIdBuf::new(id).unwrap();
            prop_assert_eq!(kept.get(), id);
        }
    }
}
