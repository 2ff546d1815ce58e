//! Parameter lists, returned data and TransportIDs of persistent reservations.

use scsi_sense::{
    SenseKey,
    pr::{
        Capabilities, FullStatus, IscsiName, IscsiSessionId, Keys, OutParameters, OutServiceAction,
        ReservationData, ReservationType, TransportId, TransportIdBuf, TransportIds,
    },
};

/// Reads a parameter list of this service action, and writes it again.
pub(super) fn parameters(action: u8, bytes: &[u8]) {
    let action = OutServiceAction::new(action);
    match OutParameters::parse(action, bytes) {
        Ok(list) => {
            assert_eq!(list.reservation_key().to_be_bytes(), bytes[..8]);
            assert_eq!(list.service_action_key().to_be_bytes(), bytes[8..16]);
            let mut buffer = vec![0xee; bytes.len()];
            // TransportIDs keep their length, except for padding.
            let length = list.write(&mut buffer).expect("it is not longer");
            assert!(buffer[length..].iter().all(|byte| *byte == 0xee));
            assert_eq!(OutParameters::parse(action, &buffer[..length]), Ok(list));
            assert!(length == bytes.len() || bytes[24..].contains(&0), "only padding is left out");
        }
        Err(error) => {
            assert_eq!(error.sense_code().key, SenseKey::ILLEGAL_REQUEST);
            assert!(!error.to_string().is_empty());
        }
    }
}

/// Reads TransportIDs, and writes them again.
pub(super) fn transport_ids(bytes: &[u8]) {
    if let Ok((id, rest)) = TransportId::split_first(bytes) {
        assert!(bytes.ends_with(rest) && bytes.len() - rest.len() >= TransportId::LENGTH);
        assert_eq!(TransportId::parse(&bytes[..bytes.len() - rest.len()]), Ok(id));
        let kept = TransportIdBuf::new(id).expect("it was read, so it is short enough");
        assert_eq!((kept.get(), kept.to_string()), (id, id.to_string()));
        assert!(kept.as_bytes().len() <= bytes.len() - rest.len() && kept.as_bytes().len() % 4 == 0);
    }
    let Ok(list) = TransportIds::parse(bytes) else { return };
    assert_eq!(list.as_bytes(), bytes);
    let ids: Vec<_> = list.iter().collect();
    let mut buffer = vec![0; bytes.len()];
    let again = TransportIds::build(&ids, &mut buffer).expect("it is not longer");
    assert!(again.iter().eq(ids.iter().copied()));
    assert!(TransportIds::parse(again.as_bytes()).expect("a list").iter().eq(ids));
}

/// Makes an iSCSI TransportID of a name, whose length is the first byte, and the text of a session identifier, if any is left.
pub(super) fn iscsi(bytes: &[u8]) {
    let Some((length, text)) = bytes.split_first() else { return };
    let (name, session) = text.split_at(text.len().min((*length).into()));
    let Ok(name) = IscsiName::new(name) else {
        assert!(name.is_empty() || name.contains(&0), "{name:02x?}");
        return;
    };
    let id = match IscsiSessionId::parse(session) {
        _ if session.is_empty() => TransportId::IscsiDevice { name },
        Ok(session) => TransportId::IscsiPort { name, session },
        Err(_) => return,
    };
    match TransportIdBuf::new(id) {
        Ok(kept) => {
            assert_eq!(kept.get(), id);
            assert_eq!(TransportId::parse(kept.as_bytes()), Ok(id));
        }
        // The standard allows 223 bytes.
        Err(_) => assert!(name.as_bytes().len() > 223, "{id}"),
    }
}

/// Reads the data of each service action of PERSISTENT RESERVE IN, and writes them again.
pub(super) fn data(bytes: &[u8]) {
    let mut buffer = vec![0; bytes.len() + 32];
    if let Ok(keys) = Keys::parse(bytes) {
        let length = Keys::build(keys.generation(), keys, &mut buffer).expect("it is short");
        let again = Keys::parse(&buffer[..length]).expect("keys");
        assert!(again.iter().eq(keys.iter()) && again.generation() == keys.generation());
        assert!(!again.is_truncated());
        if keys.is_complete(bytes.len() + 8) == Ok(true) {
            assert_eq!(again.additional_length(), keys.additional_length());
        }
    }
    if let Ok(data) = ReservationData::parse(bytes) {
        if let Ok(reservation) = data.reservation() {
            let length = ReservationData::build(data.generation(), reservation, &mut buffer);
            let again = ReservationData::parse(&buffer[..length]).expect("a reservation");
            assert_eq!((again.generation(), again.reservation()), (data.generation(), Ok(reservation)));
        }
    }
    if let Ok(capabilities) = Capabilities::parse(bytes) {
        assert_eq!(Capabilities::parse(&capabilities.to_bytes()), Ok(capabilities));
        let types = capabilities.types.unwrap_or_default();
        assert!(
            ReservationType::ALL
                .iter()
                .all(|kind| types.contains(*kind) == types.iter().any(|one| one == *kind))
        );
    }
    if let Ok(status) = FullStatus::parse(bytes) {
        let length = FullStatus::build(status.generation(), status, &mut buffer).expect("it is short");
        let again = FullStatus::parse(&buffer[..length]).expect("registrations");
        assert!(again.iter().eq(status.iter()) && !again.is_truncated());
        if status.is_complete(bytes.len() + 280) == Ok(true) {
            assert_eq!(again.additional_length(), status.additional_length());
        }
        for registration in &status {
            let _ = registration.transport_id().map(|id| id.to_string());
        }
    }
}
