//! PERSISTENT RESERVE OUT in the form that the library takes it in.

use std::ffi::{c_int, c_uint};

use mpathpersist_sys as sys;
use scsi_sense::pr::{
    BasicParameters, OutServiceAction, ProtocolIdentifier, ReservationType, Scope, TransportId, TransportIds,
};

use crate::Error;

/// The most TransportIDs that the library takes: `MPATH_MX_TIDS`.
pub(crate) const TRANSPORT_IDS: usize = 32;
/// The longest parameter list that it sends: `MPATH_MAX_PARAM_LEN`.
const LIST_LENGTH: usize = 8192;
const _: () = assert!(sys::MPATH_MX_TIDS == 32 && sys::MPATH_MAX_PARAM_LEN == 8192);

/// Bytes of a list in front of its TransportIDs: the basic list and their length.
const HEAD: usize = 28;

const APTPL: u8 = 0x01;
const ALL_TG_PT: u8 = 0x04;
const SPEC_I_PT: u8 = 0x08;
const _: () = assert!(
    sys::MPATH_F_APTPL_MASK == 0x01
        && sys::MPATH_F_ALL_TG_PT_MASK == 0x04
        && sys::MPATH_F_SPEC_I_PT_MASK == 0x08
);

/// All arguments of `mpath_persistent_reserve_out` but the map's descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outbound {
    pub(crate) action: c_int,
    pub(crate) scope: c_int,
    pub(crate) kind: c_uint,
    pub(crate) key: [u8; 8],
    pub(crate) sa_key: [u8; 8],
    /// Byte 20 of the list.
    pub(crate) flags: u8,
    /// At most [`TRANSPORT_IDS`].
    pub(crate) ids: Vec<OutboundId>,
}

/// `struct transportid`, whose union is the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutboundId {
    /// Byte 0 of the TransportID, the library's way: FORMAT CODE is bits 7-6, not shifted.
    pub(crate) format: u8,
    /// The other bits of byte 0.
    pub(crate) protocol: u8,
    /// Fibre Channel: bytes 8-15 of the TransportID. SAS: bytes 4-11. iSCSI: all from byte 2 on, so ADDITIONAL LENGTH is
    /// in front of the name.
    pub(crate) payload: [u8; 256],
}

impl Outbound {
    /// What the library is to do; an error, if it would do something else.
    pub(crate) fn new(
        action: OutServiceAction,
        scope: Scope,
        kind: ReservationType,
        parameters: &BasicParameters<'_>,
    ) -> Result<Self, Error> {
        match action {
            OutServiceAction::Register
            | OutServiceAction::Reserve
            | OutServiceAction::Release
            | OutServiceAction::Clear
            | OutServiceAction::Preempt
            | OutServiceAction::PreemptAndAbort
            | OutServiceAction::RegisterAndIgnoreExistingKey => {}
            _ => return Err(Error::ServiceAction(action)),
        }
        let mut flags = 0;
        for (set, flag) in [
            (parameters.transport_ids.is_some(), SPEC_I_PT),
            (parameters.all_target_ports, ALL_TG_PT),
            (parameters.aptpl, APTPL),
        ] {
            if set {
                flags |= flag;
            }
        }
        let ids = match parameters.transport_ids {
            None => Vec::new(),
            Some(ids) if action == OutServiceAction::Register => outbound_ids(ids)?,
            Some(_) => return Err(Error::SpecifyInitiatorPorts(action)),
        };
        Ok(Self {
            action: action.code().into(),
            scope: scope.code().into(),
            kind: kind.code().into(),
            key: parameters.reservation_key.to_be_bytes(),
            sa_key: parameters.service_action_key.to_be_bytes(),
            flags,
            ids,
        })
    }
}

fn outbound_ids(ids: TransportIds<'_>) -> Result<Vec<OutboundId>, Error> {
    let count = ids.iter().count();
    if count > TRANSPORT_IDS {
        return Err(Error::TransportIdCount(count));
    }
    let length = ids.as_bytes().len().saturating_add(HEAD);
    if length > LIST_LENGTH {
        return Err(Error::ParameterListLength(length));
    }
    let mut outbound = Vec::with_capacity(count);
    let mut rest = ids.as_bytes();
    // They are well-formed: this ends at their end.
    while let Ok((id, behind)) = TransportId::split_first(rest) {
        let (bytes, _) = rest.split_at(rest.len().saturating_sub(behind.len()));
        outbound.push(OutboundId::new(id, bytes)?);
        rest = behind;
    }
    Ok(outbound)
}

impl OutboundId {
    /// `bytes` are those of `id`: an iSCSI TransportID is sent with the padding that it has.
    fn new(id: TransportId<'_>, bytes: &[u8]) -> Result<Self, Error> {
        let (format, payload) = match id {
            TransportId::FibreChannel { port_name: name } | TransportId::Sas { address: name } => {
                (0x00, &name.to_be_bytes()[..])
            }
            TransportId::IscsiDevice { .. } => (0x00, bytes.get(2..).unwrap_or_default()),
            TransportId::IscsiPort { .. } => (0x40, bytes.get(2..).unwrap_or_default()),
            _ => {
                let format = bytes.first().map_or(0, |byte| byte >> 6);
                return Err(Error::TransportId { protocol: id.protocol(), format });
            }
        };
        let ProtocolIdentifier(protocol) = id.protocol();
        // The longest TransportID has 256 bytes.
        let mut room = [0; 256];
        room.iter_mut().zip(payload).for_each(|(to, from)| *to = *from);
        Ok(Self { format, protocol, payload: room })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use scsi_sense::pr::{IscsiName, IscsiSessionId, ReservationKey, TransportIdBuf};

    use super::*;

    /// The parameter list that the library makes of it: from its sources, 0.9.4 to 0.15.0.
    fn as_sent(outbound: &Outbound) -> Vec<u8> {
        let mut list = [outbound.key, outbound.sa_key].concat();
        list.extend([0, 0, 0, 0, outbound.flags, 0, 0, 0]);
        if outbound.flags & SPEC_I_PT == 0 {
            return list;
        }
        let mut ids = Vec::new();
        for id in &outbound.ids {
            ids.push(id.format | id.protocol);
            match id.protocol {
                0 => ids.extend([&[0; 7], &id.payload[..8], &[0; 8]].concat()),
                6 => ids.extend([&[0; 3], &id.payload[..8], &[0; 12]].concat()),
                5 => {
                    ids.push(0);
                    ids.extend(&id.payload[..usize::from(id.payload[1]) + 2]);
                }
                other => panic!("protocol {other}"),
            }
        }
        list.extend(u32::try_from(ids.len()).unwrap().to_be_bytes());
        list.extend(ids);
        assert!(list.len() <= 8192, "the library drops the last TransportIDs");
        list
    }

    fn leak(bytes: Vec<u8>) -> &'static [u8] {
        bytes.leak()
    }

    fn iscsi_name() -> impl Strategy<Value = IscsiName<'static>> {
        prop::collection::vec(1_u8.., 1..=223).prop_map(|name| IscsiName::new(leak(name)).unwrap())
    }

    /// TransportIDs of the three protocols, as bytes; those of iSCSI with more padding than they need.
    fn transport_id() -> impl Strategy<Value = Vec<u8>> {
        let session = any::<[u8; 6]>().prop_map(IscsiSessionId::from_bytes);
        let id = prop_oneof![
            any::<u64>().prop_map(|port_name| TransportId::FibreChannel { port_name }),
            any::<u64>().prop_map(|address| TransportId::Sas { address }),
            iscsi_name().prop_map(|name| TransportId::IscsiDevice { name }),
            (iscsi_name(), session).prop_map(|(name, session)| TransportId::IscsiPort { name, session }),
        ];
        (id, 0_usize..4).prop_map(|(id, padding)| {
            let mut bytes = TransportIdBuf::new(id).unwrap().as_bytes().to_vec();
            if id.protocol() == ProtocolIdentifier::ISCSI && bytes.len() + padding * 4 <= 256 {
                bytes.resize(bytes.len() + padding * 4, 0);
                bytes[3] = u8::try_from(bytes.len() - 4).unwrap();
            }
            bytes
        })
    }

    fn register(ids: Option<TransportIds<'_>>) -> Result<Outbound, Error> {
        let parameters = BasicParameters { transport_ids: ids, ..BasicParameters::default() };
        Outbound::new(OutServiceAction::Register, Scope::LogicalUnit, ReservationType::Other(0), &parameters)
    }

    proptest! {
        #[test]
        fn the_device_gets_what_was_given(
            keys in any::<(u64, u64)>(),
            flags in any::<(bool, bool)>(),
            ids in prop::option::of(prop::collection::vec(transport_id(), 0..=32)),
        ) {
            let bytes = ids.map(|ids| ids.concat());
            let parameters = BasicParameters {
                reservation_key: ReservationKey(keys.0),
                service_action_key: ReservationKey(keys.1),
                transport_ids: bytes.as_ref().map(|bytes| TransportIds::parse(bytes).unwrap()),
                all_target_ports: flags.0,
                aptpl: flags.1,
            };
            let mut list = [0; 9000];
            let length = parameters.write(&mut list).unwrap();
            let (scope, kind) = (Scope::LogicalUnit, ReservationType::Other(0));
            match Outbound::new(OutServiceAction::Register, scope, kind, &parameters) {
                Ok(outbound) => prop_assert_eq!(as_sent(&outbound), &list[..length]),
                Err(error) => {
                    prop_assert!(matches!(error, Error::ParameterListLength(n) if n == length));
                    prop_assert!(length > 8192);
                }
            }
        }

        #[test]
        fn scope_and_type_are_passed_on_whatever_they_are(scope in 0_u8..16, kind in 0_u8..16) {
            let outbound = Outbound::new(
                OutServiceAction::Reserve,
                Scope::new(scope),
                ReservationType::new(kind),
                &BasicParameters::default(),
            ).unwrap();
            prop_assert_eq!((outbound.scope, outbound.kind), (scope.into(), kind.into()));
        }
    }

    #[test]
    fn the_service_actions_that_the_library_has_are_passed_on_and_others_refused() {
        for code in 0..0x20 {
            let action = OutServiceAction::new(code);
            let (scope, kind) = (Scope::LogicalUnit, ReservationType::WriteExclusive);
            match Outbound::new(action, scope, kind, &BasicParameters::default()) {
                Ok(outbound) => assert!(code <= 6 && outbound.action == i32::from(code)),
                Err(error) => assert!(code > 6 && matches!(error, Error::ServiceAction(it) if it == action)),
            }
        }
    }

    #[test]
    fn transport_ids_are_for_register_alone() {
        let parameters =
            BasicParameters { transport_ids: Some(TransportIds::default()), ..BasicParameters::default() };
        let action = OutServiceAction::RegisterAndIgnoreExistingKey;
        let error =
            Outbound::new(action, Scope::LogicalUnit, ReservationType::Other(0), &parameters).unwrap_err();
        assert!(matches!(error, Error::SpecifyInitiatorPorts(it) if it == action));
    }

    #[test]
    fn what_the_library_cannot_send_whole_is_refused() {
        let sas =
            |count| TransportIdBuf::new(TransportId::Sas { address: 1 }).unwrap().as_bytes().repeat(count);
        assert_eq!(register(Some(TransportIds::parse(&sas(32)).unwrap())).unwrap().ids.len(), 32);
        let error = register(Some(TransportIds::parse(&sas(33)).unwrap())).unwrap_err();
        assert!(matches!(error, Error::TransportIdCount(33)));

        let mut longest = vec![b'a'; 256];
        longest[..4].copy_from_slice(&[0x05, 0, 0, 252]);
        longest[255] = 0;
        let list = longest.repeat(31);
        assert_eq!(register(Some(TransportIds::parse(&list).unwrap())).unwrap().ids.len(), 31);
        let list = longest.repeat(32);
        let error = register(Some(TransportIds::parse(&list).unwrap())).unwrap_err();
        assert!(matches!(error, Error::ParameterListLength(8220)));
    }

    #[test]
    fn other_protocols_and_formats_are_refused() {
        for (byte_0, protocol, format) in [
            (0x01, 1, 0),
            (0x03, 3, 0),
            (0x04, 4, 0),
            (0x0a, 10, 0),
            (0x40, 0, 1),
            (0x86, 6, 2),
            (0x0f, 15, 0),
        ] {
            let mut bytes = [0; 24];
            bytes[0] = byte_0;
            let error = register(Some(TransportIds::parse(&bytes).unwrap())).unwrap_err();
            assert!(
                matches!(error, Error::TransportId { protocol: ProtocolIdentifier(p), format: f } if (p, f) == (protocol, format)),
                "{error}"
            );
        }
        let iscsi_of_format_2 = [&[0x85, 0, 0, 20, b'a'][..], &[0; 19]].concat();
        let error = register(Some(TransportIds::parse(&iscsi_of_format_2).unwrap())).unwrap_err();
        assert!(matches!(error, Error::TransportId { protocol: ProtocolIdentifier::ISCSI, format: 2 }));
    }
}
