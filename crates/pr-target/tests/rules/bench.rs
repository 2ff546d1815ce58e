//! A logical unit with two target ports, and the nexuses that send it commands.

use pr_target::{Answer, LogicalUnit, Nexus, Store, Volatile};
use scsi_sense::pr::{
    BasicParameters, FullStatus, InServiceAction, OutServiceAction, PersistentReserveIn,
    PersistentReserveOut, RegisterAndMoveParameters, ReservationData, ReservationKey, ReservationType, Scope,
    TransportId, TransportIds,
};
use scsi_sense::{SenseCode, Status};

pub(crate) const REGISTER: OutServiceAction = OutServiceAction::Register;
pub(crate) const RESERVE: OutServiceAction = OutServiceAction::Reserve;
pub(crate) const RELEASE: OutServiceAction = OutServiceAction::Release;
pub(crate) const CLEAR: OutServiceAction = OutServiceAction::Clear;
pub(crate) const PREEMPT: OutServiceAction = OutServiceAction::Preempt;
pub(crate) const PREEMPT_AND_ABORT: OutServiceAction = OutServiceAction::PreemptAndAbort;
pub(crate) const REGISTER_AND_IGNORE: OutServiceAction = OutServiceAction::RegisterAndIgnoreExistingKey;
pub(crate) const REPLACE_LOST: OutServiceAction = OutServiceAction::ReplaceLostReservation;

/// The codes of the types.
pub(crate) const ALL_TYPES: [u8; 6] = [1, 3, 5, 6, 7, 8];

/// The keys of A, B, C and D.
pub(crate) const KA: u64 = 0xa;
pub(crate) const KB: u64 = 0xb;
pub(crate) const KC: u64 = 0xc;
pub(crate) const KD: u64 = 0xd;

/// The nexus that sends a command: an initiator port, at target port 1 unless noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sender {
    A,
    B,
    C,
    D,
    /// A at target port 2.
    A2,
    /// Never registered, only reads.
    Observer,
}
pub(crate) use Sender::{A, A2, B, C, D, Observer};

impl Sender {
    const ALL: [Self; 6] = [A, B, C, D, A2, Observer];

    pub(crate) fn id(self) -> TransportId<'static> {
        TransportId::Sas {
            address: match self {
                A | A2 => 0x5000_0000_0000_000a,
                B => 0x5000_0000_0000_000b,
                C => 0x5000_0000_0000_000c,
                D => 0x5000_0000_0000_000d,
                Observer => 0x5000_0000_0000_000e,
            },
        }
    }

    pub(crate) fn nexus(self) -> Nexus {
        Nexus::new(self.id(), if self == A2 { 2 } else { 1 }).unwrap()
    }
}

/// The result of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Good,
    Conflict,
    Check(SenseCode),
}

pub(crate) const INVALID_CDB: End = End::Check(SenseCode::INVALID_FIELD_IN_CDB);
pub(crate) const INVALID_LIST: End = End::Check(SenseCode::INVALID_FIELD_IN_PARAMETER_LIST);
pub(crate) const LIST_LENGTH: End = End::Check(SenseCode::PARAMETER_LIST_LENGTH_ERROR);
pub(crate) const INVALID_RELEASE: End = End::Check(SenseCode::INVALID_RELEASE_OF_PERSISTENT_RESERVATION);
pub(crate) const NO_ROOM: End = End::Check(SenseCode::INSUFFICIENT_REGISTRATION_RESOURCES);

pub(crate) fn end(answer: &Answer) -> End {
    match (answer.status, answer.sense) {
        (Status::GOOD, None) => End::Good,
        (Status::RESERVATION_CONFLICT, None) => End::Conflict,
        (Status::CHECK_CONDITION, Some(code)) => End::Check(code),
        _ => panic!("{answer:?}"),
    }
}

/// The state of a unit as its commands report it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) generation: u32,
    /// In the order in which they were made: the nexus, its key, and the type if it holds the reservation.
    pub(crate) registrations: Vec<(Sender, u64, Option<u8>)>,
    /// Type and key.
    pub(crate) reservation: Option<(u8, u64)>,
}

impl View {
    /// Returns the registered nexuses and their keys, sorted.
    pub(crate) fn registered(&self) -> Vec<(Sender, u64)> {
        let mut all: Vec<_> = self.registrations.iter().map(|(sender, key, _)| (*sender, *key)).collect();
        all.sort_unstable();
        all
    }

    /// Returns the reservation holders.
    pub(crate) fn holders(&self) -> Vec<Sender> {
        self.registrations.iter().filter(|(.., kind)| kind.is_some()).map(|(sender, ..)| *sender).collect()
    }
}

/// A unit under test.
pub(crate) struct Bench<S: Store = Volatile>(pub(crate) LogicalUnit<S>);

impl Bench {
    pub(crate) fn new() -> Self {
        Self(LogicalUnit::new(&[1, 2]).unwrap())
    }

    /// Returns a unit with these registrations, and the first of them as holder of a reservation of this type.
    pub(crate) fn reserved(kind: u8, registrations: &[(Sender, u64)]) -> Self {
        let mut bench = Self::new();
        for (sender, key) in registrations {
            bench.register(*sender, *key);
        }
        let (holder, key) = registrations[0];
        assert_eq!(bench.out(holder, RESERVE, kind, key, 0), End::Good);
        bench
    }
}

impl<S: Store> Bench<S> {
    /// Sends an OUT with a basic list. `kind` is the CDB byte of scope and type.
    pub(crate) fn out(
        &mut self,
        sender: Sender,
        action: OutServiceAction,
        kind: u8,
        key: u64,
        new_key: u64,
    ) -> End {
        end(&self.answer(sender, action, kind, &basic(key, new_key)))
    }

    /// Sends an OUT with any list.
    pub(crate) fn answer(
        &mut self,
        sender: Sender,
        action: OutServiceAction,
        kind: u8,
        list: &[u8],
    ) -> Answer {
        let command = PersistentReserveOut {
            action,
            scope: Scope::new(kind >> 4),
            kind: ReservationType::new(kind),
            parameter_list_length: list.len().try_into().unwrap(),
        };
        self.0.execute(&sender.nexus(), &command.to_cdb(), list, &mut [])
    }

    pub(crate) fn end_of(&mut self, sender: Sender, action: OutServiceAction, kind: u8, list: &[u8]) -> End {
        end(&self.answer(sender, action, kind, list))
    }

    pub(crate) fn register(&mut self, sender: Sender, key: u64) {
        assert_eq!(self.out(sender, REGISTER_AND_IGNORE, 0, 0, key), End::Good);
    }

    /// Sends an IN from the observer, which never has a unit attention pending, and returns the data.
    pub(crate) fn read(&mut self, action: InServiceAction, allocation_length: u16) -> Vec<u8> {
        let mut data = vec![0xee; usize::from(allocation_length)];
        let cdb = PersistentReserveIn { action, allocation_length }.to_cdb();
        let answer = self.0.execute(&Observer.nexus(), &cdb, &[], &mut data);
        assert_eq!(end(&answer), End::Good);
        assert!(data[answer.length..].iter().all(|byte| *byte == 0xee), "bytes after the data are unchanged");
        data.truncate(answer.length);
        data
    }

    pub(crate) fn view(&mut self) -> View {
        let data = self.read(InServiceAction::ReadFullStatus, u16::MAX);
        let status = FullStatus::parse(&data).unwrap();
        assert!(!status.is_truncated());
        let registrations = status
            .iter()
            .map(|one| {
                let nexus = Nexus::new(one.transport_id().unwrap(), one.relative_port).unwrap();
                let sender =
                    Sender::ALL.into_iter().find(|sender| sender.nexus() == nexus).expect("one of them");
                (sender, one.key.0, one.reservation_holder.then(|| one.kind.code()))
            })
            .collect();
        let data = self.read(InServiceAction::ReadReservation, 24);
        let reservation = ReservationData::parse(&data).unwrap();
        assert_eq!(reservation.generation(), status.generation());
        View {
            generation: status.generation(),
            registrations,
            reservation: reservation.reservation().unwrap().map(|it| (it.kind.code(), it.key.0)),
        }
    }

    /// Returns the qualifiers of the unit attention conditions (06/2A/..) that are pending for each of these nexuses,
    /// and clears the conditions.
    pub(crate) fn attentions<const N: usize>(&mut self, senders: [Sender; N]) -> [Vec<u8>; N] {
        senders.map(|sender| {
            std::iter::from_fn(|| self.0.take_unit_attention(&sender.nexus()))
                .map(|code| {
                    assert_eq!((code.key.code(), code.additional.asc), (6, 0x2a));
                    code.additional.ascq
                })
                .collect()
        })
    }
}

/// Additional sense code qualifiers of 2Ah.
pub(crate) const RESERVATIONS_PREEMPTED: u8 = 3;
pub(crate) const RESERVATIONS_RELEASED: u8 = 4;
pub(crate) const REGISTRATIONS_PREEMPTED: u8 = 5;

pub(crate) fn basic(key: u64, new_key: u64) -> Vec<u8> {
    basic_with(key, new_key, 0)
}

/// Flags in byte 20 of the basic list.
pub(crate) const APTPL: u8 = 0x01;
pub(crate) const ALL_TG_PT: u8 = 0x04;

/// Returns the basic list with these flags.
pub(crate) fn basic_with(key: u64, new_key: u64, flags: u8) -> Vec<u8> {
    let mut list = [key.to_be_bytes(), new_key.to_be_bytes(), [0; 8]].concat();
    list[20] = flags;
    list
}

/// Returns the basic list with SPEC_I_PT and these initiator ports.
pub(crate) fn specifying(key: u64, new_key: u64, all_target_ports: bool, ports: &[Sender]) -> Vec<u8> {
    let mut buffer = [0; 1024];
    let ids: Vec<_> = ports.iter().map(|port| port.id()).collect();
    let list = BasicParameters {
        reservation_key: ReservationKey(key),
        service_action_key: ReservationKey(new_key),
        transport_ids: Some(TransportIds::build(&ids, &mut buffer).unwrap()),
        all_target_ports,
        aptpl: false,
    };
    let mut bytes = vec![0; 2048];
    let length = list.write(&mut bytes).unwrap();
    bytes.truncate(length);
    bytes
}

/// Returns the list of REGISTER AND MOVE.
pub(crate) fn moving_to(key: u64, new_key: u64, to: TransportId<'_>, port: u16, flags: u8) -> Vec<u8> {
    let list = RegisterAndMoveParameters {
        reservation_key: ReservationKey(key),
        service_action_key: ReservationKey(new_key),
        unregister: flags & 0x02 != 0,
        aptpl: flags & 0x01 != 0,
        relative_port: port,
        transport_id: to,
    };
    let mut bytes = vec![0; 300];
    let length = list.write(&mut bytes).unwrap();
    bytes.truncate(length);
    bytes
}

/// Commands other than PERSISTENT RESERVE, for another target port, or with NACA.
#[test]
fn commands_not_for_this_unit_are_refused() {
    let mut unit = LogicalUnit::new(&[1]).unwrap();
    let mut execute = |sender: Sender, cdb: &[u8]| end(&unit.execute(&sender.nexus(), cdb, &[], &mut [0; 8]));
    let read_keys = [0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0];
    assert_eq!(execute(A, &[0; 6]), End::Check(SenseCode::INVALID_OPCODE));
    assert_eq!(execute(A, &[]), INVALID_CDB);
    assert_eq!(execute(A, &read_keys[..9]), INVALID_CDB, "cut");
    assert_eq!(execute(A, &read_keys), End::Good);
    assert_eq!(
        execute(A2, &read_keys),
        End::Check(SenseCode::LOGICAL_UNIT_NOT_SUPPORTED),
        "no such target port"
    );
    // SAM-5 clause 5.2: NACA, where ACA is not supported.
    assert_eq!(execute(A, &[0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0x04]), INVALID_CDB);
    assert_eq!(execute(A, &[0x5f, 6, 0, 0, 0, 0, 0, 0, 0, 0x04]), INVALID_CDB);
}

/// Errors in the CDB come before a conflict, and a conflict before errors in the list.
#[test]
fn conflict_comes_between_cdb_and_list() {
    let mut unit = LogicalUnit::new(&[1]).unwrap();
    let mut execute =
        |sender: Sender, cdb: &[u8], list: &[u8]| end(&unit.execute(&sender.nexus(), cdb, list, &mut []));
    assert_eq!(execute(A, &[0x5f, 6, 0, 0, 0, 0, 0, 0, 24, 0], &basic(0, 1)), End::Good);
    // CLEAR by B, which is not registered, and by A with a key that is not A's.
    for (sender, list) in [(B, basic(0, 0)), (A, basic(9, 0))] {
        assert_eq!(execute(sender, &[0x5f, 3, 0, 0, 0, 0, 0, 0, 24, 0], &list), End::Conflict);
        // SPEC_I_PT is for REGISTER only.
        let mut wrong = list.clone();
        wrong[20] |= 0x08;
        assert_eq!(execute(sender, &[0x5f, 3, 0, 0, 0, 0, 0, 0, 24, 0], &wrong), End::Conflict, "the list");
        assert_eq!(execute(sender, &[0x5f, 3, 0, 0, 0, 0, 0, 0, 24, 4], &list), INVALID_CDB, "NACA");
        assert_eq!(
            execute(sender, &[0x5f, 0x1f, 0, 0, 0, 0, 0, 0, 24, 0], &list),
            INVALID_CDB,
            "service action"
        );
    }
}

#[test]
fn number_of_target_ports_is_limited() {
    let ports: Vec<u16> = (1..=65).collect();
    assert_eq!(
        LogicalUnit::new(&[]).unwrap_err().to_string(),
        "a logical unit is reached through 1 to 64 target ports, not 0"
    );
    assert!(LogicalUnit::new(&ports[..64]).is_ok());
    assert!(LogicalUnit::new(&ports).is_err());
    assert!(LogicalUnit::new(&[1; 65]).is_ok(), "a port counts once, however often it is named");
}

#[test]
fn iscsi_session_identifier_ignores_case() {
    use scsi_sense::pr::{IscsiName, IscsiSessionId};
    let port = |digits: &[u8]| TransportId::IscsiPort {
        name: IscsiName::new(b"iqn.2026-11.lab:a").unwrap(),
        session: IscsiSessionId::parse(digits).unwrap(),
    };
    let lower = Nexus::new(port(b"00023d00000a"), 1).unwrap();
    assert_eq!(Nexus::new(port(b"00023D00000A"), 1).unwrap(), lower);
    assert_ne!(Nexus::new(port(b"00023d00000b"), 1).unwrap(), lower);
    assert_ne!(Nexus::new(port(b"00023d00000a"), 2).unwrap(), lower);
}
