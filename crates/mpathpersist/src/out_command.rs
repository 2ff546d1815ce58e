//! The arguments of a PERSISTENT RESERVE OUT, as the library takes them.

use std::ffi::{c_int, c_uint};

use mpathpersist_sys as sys;
use scsi_sense::pr::{
    BasicParameters, OutServiceAction, ProtocolIdentifier, ReservationType, Scope, TransportId, TransportIds,
};

use crate::Error;

/// Maximum number of TransportIDs that the library accepts: `MPATH_MX_TIDS`.
pub(crate) const MAX_TRANSPORT_IDS: usize = 32;
/// Maximum length in bytes of the parameter list that the library sends: `MPATH_MAX_PARAM_LEN`.
const MAX_LIST_LENGTH: usize = 8192;
const _: () = assert!(sys::MPATH_MX_TIDS == 32 && sys::MPATH_MAX_PARAM_LEN == 8192);

/// Length in bytes of a list up to its TransportIDs: the basic list and the length field of the TransportIDs.
const HEAD: usize = 28;

const APTPL: u8 = 0x01;
const ALL_TG_PT: u8 = 0x04;
const SPEC_I_PT: u8 = 0x08;
const _: () = assert!(
    sys::MPATH_F_APTPL_MASK == 0x01
        && sys::MPATH_F_ALL_TG_PT_MASK == 0x04
        && sys::MPATH_F_SPEC_I_PT_MASK == 0x08
);

/// All arguments of `mpath_persistent_reserve_out` except the map's descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutCommand {
    pub(crate) action: c_int,
    pub(crate) scope: c_int,
    pub(crate) kind: c_uint,
    pub(crate) key: [u8; 8],
    pub(crate) sa_key: [u8; 8],
    /// Byte 20 of the list.
    pub(crate) flags: u8,
    /// The TransportIDs; at most [`MAX_TRANSPORT_IDS`].
    pub(crate) ids: Vec<OutTransportId>,
}

/// The fields of `struct transportid`; `payload` is its union.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutTransportId {
    /// FORMAT CODE: bits 7-6 of byte 0 of the TransportID, not shifted.
    pub(crate) format: u8,
    /// PROTOCOL IDENTIFIER: bits 3-0 of byte 0 of the TransportID.
    pub(crate) protocol: u8,
    /// Fibre Channel: bytes 8-15 of the TransportID. SAS: bytes 4-11. iSCSI: all bytes from byte 2 on, which is
    /// ADDITIONAL LENGTH and the name.
    pub(crate) payload: [u8; 256],
}

impl OutCommand {
    /// Converts a command to the library's arguments. Returns an error if the library would send another command.
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
            Some(ids) if action == OutServiceAction::Register => out_transport_ids(ids)?,
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

fn out_transport_ids(ids: TransportIds<'_>) -> Result<Vec<OutTransportId>, Error> {
    let count = ids.iter().count();
    if count > MAX_TRANSPORT_IDS {
        return Err(Error::TransportIdCount(count));
    }
    let length = ids.as_bytes().len().saturating_add(HEAD);
    if length > MAX_LIST_LENGTH {
        return Err(Error::ParameterListLength(length));
    }
    let mut converted = Vec::with_capacity(count);
    let mut rest = ids.as_bytes();
    // All TransportIDs are well-formed, so the loop consumes the whole list.
    while let Ok((id, tail)) = TransportId::split_first(rest) {
        let (bytes, _) = rest.split_at(rest.len().saturating_sub(tail.len()));
        converted.push(OutTransportId::new(id, bytes)?);
        rest = tail;
    }
    Ok(converted)
}

impl OutTransportId {
    /// Converts `id`. `bytes` are its original bytes: an iSCSI TransportID is sent with its original padding.
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

    /// Returns the parameter list that the library builds from the command, according to its sources, 0.9.4 to 0.15.0.
    fn as_sent(command: &OutCommand) -> Vec<u8> {
        let mut list = [command.key, command.sa_key].concat();
        list.extend([0, 0, 0, 0, command.flags, 0, 0, 0]);
        if command.flags & SPEC_I_PT == 0 {
            return list;
        }
        let mut ids = Vec::new();
        for id in &command.ids {
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

    /// Generates the bytes of TransportIDs of the three protocols; iSCSI TransportIDs have up to 12 bytes of extra
    /// padding.
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

    fn register(ids: Option<TransportIds<'_>>) -> Result<OutCommand, Error> {
        let parameters = BasicParameters { transport_ids: ids, ..BasicParameters::default() };
        OutCommand::new(
            OutServiceAction::Register,
            Scope::LogicalUnit,
            ReservationType::Other(0),
            &parameters,
        )
    }

    proptest! {
        #[test]
        fn parameter_list_is_sent_unchanged(
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
            match OutCommand::new(OutServiceAction::Register, scope, kind, &parameters) {
                Ok(command) => prop_assert_eq!(as_sent(&command), &list[..length]),
                Err(error) => {
                    prop_assert!(matches!(error, Error::ParameterListLength(n) if n == length));
                    prop_assert!(length > 8192);
                }
            }
        }

        #[test]
        fn every_scope_and_type_is_passed_on(scope in 0_u8..16, kind in 0_u8..16) {
            let command = OutCommand::new(
                OutServiceAction::Reserve,
                Scope::new(scope),
                ReservationType::new(kind),
                &BasicParameters::default(),
            ).unwrap();
            prop_assert_eq!((command.scope, command.kind), (scope.into(), kind.into()));
        }
    }

    #[test]
    fn unsupported_service_actions_are_refused() {
        for code in 0..0x20 {
            let action = OutServiceAction::new(code);
            let (scope, kind) = (Scope::LogicalUnit, ReservationType::WriteExclusive);
            match OutCommand::new(action, scope, kind, &BasicParameters::default()) {
                Ok(command) => assert!(code <= 6 && command.action == i32::from(code)),
                Err(error) => assert!(code > 6 && matches!(error, Error::ServiceAction(it) if it == action)),
            }
        }
    }

    #[test]
    fn transport_ids_without_register_are_refused() {
        let parameters =
            BasicParameters { transport_ids: Some(TransportIds::default()), ..BasicParameters::default() };
        let action = OutServiceAction::RegisterAndIgnoreExistingKey;
        let error =
            OutCommand::new(action, Scope::LogicalUnit, ReservationType::Other(0), &parameters).unwrap_err();
        assert!(matches!(error, Error::SpecifyInitiatorPorts(it) if it == action));
    }

    #[test]
    fn too_many_transport_ids_are_refused() {
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
    fn unsupported_transport_id_protocols_are_refused() {
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
