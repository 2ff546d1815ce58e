//! A disk of LIO's and its model, with two nexuses.

use std::fs::File;
use std::os::fd::AsFd as _;

use fixtures::direct;
use pr_target::test_utils::{MemoryStore, RandomCommand};
use pr_target::{LogicalUnit, Nexus};
use scsi_sense::pr::{
    Capabilities, FullStatus, InServiceAction, Keys, OutParameters, OutServiceAction, PersistentReserveIn,
    PersistentReserveOut, ReservationType, TransportId,
};
use scsi_sense::{Cdb, Status};
use test_support::Reply;

use fixtures::Disk;

const ALLOCATION_LENGTH: u16 = 4096;

/// Both, in the same state as far as can be seen.
pub(super) struct Pair {
    disks: [File; 2],
    cast: [Nexus; 2],
    model: LogicalUnit<MemoryStore>,
    /// How much more LIO's PRGENERATION is.
    ahead: u32,
    /// What both were in before.
    state: State,
    /// Whose registrations LIO has from ALL_TG_PT.
    all_target_ports: [bool; 2],
    /// The reservation came to its holder by REGISTER AND MOVE.
    is_moved: bool,
}

/// How a command ended: the status; sense key, additional sense code and qualifier.
pub(super) type End = (Status, Option<(u8, u8, u8)>);

pub(super) const GOOD: End = (Status::GOOD, None);
pub(super) const CONFLICT: End = (Status::RESERVATION_CONFLICT, None);

pub(super) const fn check(key: u8, asc: u8, ascq: u8) -> End {
    (Status::CHECK_CONDITION, Some((key, asc, ascq)))
}

/// What one of the two did.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) end: End,
    /// Without PRGENERATION, which is in the state, and without what is a device's choice.
    pub(super) data: Vec<u8>,
    /// The qualifiers of 2Ah that each nexus got afterwards.
    pub(super) attentions: [Vec<u8>; 2],
    pub(super) after: State,
}

/// What can be seen of reservations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) generation: u32,
    pub(super) aptpl: bool,
    /// In the order of the device.
    pub(super) registrations: Vec<Registration>,
}

/// One registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registration {
    /// The initiator port: an index.
    pub(super) who: usize,
    /// The target port.
    pub(super) port: u16,
    pub(super) key: u64,
    /// The type of the reservation that it holds.
    pub(super) holds: Option<ReservationType>,
}

impl State {
    pub(super) fn of(&self, who: usize) -> Option<&Registration> {
        self.registrations.iter().find(|one| one.who == who)
    }

    pub(super) fn held(&self) -> Option<ReservationType> {
        self.registrations.iter().find_map(|one| one.holds)
    }
}

/// A command, and what became of it.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) command: RandomCommand,
    cast: [Nexus; 2],
    pub(super) before: State,
    /// The sender's registration was made with ALL_TG_PT.
    pub(super) has_all_target_ports: bool,
    /// The reservation came to its holder by REGISTER AND MOVE.
    pub(super) is_moved: bool,
    pub(super) model: Answer,
    pub(super) lio: Answer,
}

impl Step {
    pub(super) fn agrees(&self) -> bool {
        self.model == self.lio
    }

    pub(super) fn is_state_the_same(&self) -> bool {
        self.model.after == self.lio.after
    }

    pub(super) fn asks(&self) -> Option<PersistentReserveIn> {
        Cdb::new(&self.command.cdb).unwrap().try_into().ok()
    }

    pub(super) fn orders(&self) -> Option<PersistentReserveOut> {
        Cdb::new(&self.command.cdb).unwrap().try_into().ok()
    }

    pub(super) fn is(&self, action: OutServiceAction) -> bool {
        self.orders().is_some_and(|command| command.action == action)
    }

    pub(super) fn parameters(&self) -> Option<OutParameters<'_>> {
        OutParameters::parse(self.orders()?.action, &self.command.parameters).ok()
    }

    pub(super) fn is_registered(&self) -> bool {
        self.before.of(self.command.sender).is_some()
    }

    pub(super) fn is_holder(&self) -> bool {
        self.before.of(self.command.sender).is_some_and(|one| one.holds.is_some())
    }

    /// Model and LIO ended so; and if that is not GOOD for both, LIO did nothing.
    pub(super) fn ended(&self, model: End, lio: End) -> bool {
        let is_done = (model, lio) == (GOOD, GOOD) || self.did_lio_nothing();
        (self.model.end, self.lio.end) == (model, lio) && is_done
    }

    pub(super) fn did_lio_nothing(&self) -> bool {
        self.lio.after == self.before && self.lio.attentions.iter().all(Vec::is_empty)
    }

    /// Whether both told the same nexuses the same.
    pub(super) fn tells_the_same(&self) -> bool {
        self.model.attentions == self.lio.attentions
    }

    /// Whether the reservation afterwards is one that was moved.
    fn leaves_moved(&self) -> bool {
        let has_holders_key = self.parameters().is_some_and(|list| {
            let mut holders = self.before.registrations.iter().filter(|one| one.holds.is_some());
            holders.any(|one| one.key == list.service_action_key().0)
        });
        match self.orders() {
            _ if self.lio.after.held().is_none() => false,
            Some(out) if self.lio.end == GOOD => match out.action {
                OutServiceAction::RegisterAndMove => true,
                OutServiceAction::Preempt => self.is_moved && !has_holders_key,
                _ => self.is_moved,
            },
            _ => self.is_moved,
        }
    }

    /// Whose initiator port this is.
    pub(super) fn who(&self, id: TransportId<'_>) -> Option<usize> {
        self.cast.iter().position(|nexus| nexus.initiator().get() == id)
    }

    /// The target port of an initiator port.
    pub(super) fn port_of(&self, who: usize) -> u16 {
        self.cast[who].relative_port()
    }
}

impl Pair {
    pub(super) fn open(nexuses: [Disk; 2]) -> Self {
        let disks = nexuses.map(|nexus| File::options().read(true).write(true).open(nexus.block).unwrap());
        let cast = [0, 1].map(|number| who_is(&disks[number]));
        let model = new_model(&cast);
        let state = State::default();
        let mut pair =
            Self { disks, cast, model, ahead: 0, state, all_target_ports: [false; 2], is_moved: false };
        pair.reset();
        pair
    }

    pub(super) fn cast(&self) -> &[Nexus] {
        &self.cast
    }

    /// Both get the command, and tell both nexuses what there is to tell.
    pub(super) fn send(&mut self, command: &RandomCommand) -> Step {
        let (status, sense, data) = self.run_on_model(command);
        let model = Answer {
            end: (status, sense),
            data: self.without_choices(command, data),
            attentions: self.cast.map(|nexus| {
                std::iter::from_fn(|| self.model.take_unit_attention(&nexus))
                    .map(|code| code.additional.ascq)
                    .collect()
            }),
            after: self.look(|pair, look| pair.run_on_model(look).2).0,
        };
        let reply = self.run_on_lio(command);
        let attentions = [0, 1].map(|number| unit_attentions(&self.disks[number]));
        let (after, all_target_ports) = self.look(|pair, look| pair.run_on_lio(look).payload);
        let lio = Answer {
            end: (reply.status, reply.sense_code()),
            data: self.without_choices(command, reply.payload),
            attentions,
            after,
        };
        let step = Step {
            command: command.clone(),
            cast: self.cast,
            before: std::mem::replace(&mut self.state, model.after.clone()),
            has_all_target_ports: std::mem::replace(&mut self.all_target_ports, all_target_ports)
                [command.sender],
            is_moved: self.is_moved,
            model,
            lio,
        };
        self.is_moved = step.leaves_moved();
        step
    }

    /// Neither has registrations, a reservation, APTPL or something to tell.
    pub(super) fn reset(&mut self) {
        clear(&self.disks);
        self.model = new_model(&self.cast);
        self.ahead = 0;
        (self.state, self.all_target_ports) = self.look(|pair, look| pair.run_on_lio(look).payload);
        self.is_moved = false;
        self.ahead = self.state.generation;
        self.state.generation = 0;
        assert_eq!(self.state, State::default());
    }

    fn run_on_model(&mut self, command: &RandomCommand) -> (Status, Option<(u8, u8, u8)>, Vec<u8>) {
        let mut data = vec![0; 8192];
        let mut parameters = command.parameters.clone();
        // Each initiator port has one nexus: the same, then, with ALL_TG_PT or without.
        if command.cdb[1] != OutServiceAction::RegisterAndMove.code() {
            parameters.iter_mut().skip(20).take(1).for_each(|flags| *flags &= !0x04);
        }
        let nexus = &self.cast[command.sender];
        let answer = self.model.execute(nexus, &command.cdb, &parameters, &mut data);
        data.truncate(answer.length);
        let sense = answer.sense.map(|code| (code.key.code(), code.additional.asc, code.additional.ascq));
        (answer.status, sense, data)
    }

    /// PRGENERATION counted as the model's.
    fn run_on_lio(&mut self, command: &RandomCommand) -> Reply {
        let parameters = (command.cdb[0] == 0x5f).then_some(&command.parameters[..]);
        let mut reply = direct(&self.disks[command.sender], &command.cdb, parameters);
        if command.cdb[1] & 0x1f != InServiceAction::ReportCapabilities.code() {
            if let Some(bytes) = reply.payload.first_chunk_mut() {
                *bytes = u32::from_be_bytes(*bytes).wrapping_sub(self.ahead).to_be_bytes();
            }
        }
        reply
    }

    /// The data of an IN without what SPC-4 leaves to the device.
    fn without_choices(&self, command: &RandomCommand, mut data: Vec<u8>) -> Vec<u8> {
        match InServiceAction::new(command.cdb[1]) {
            InServiceAction::ReportCapabilities => {
                // RLR_C, CRH; ALLOW COMMANDS.
                for (byte, mask) in data.iter_mut().skip(2).zip([!0x90, !0x70]) {
                    *byte &= mask;
                }
            }
            InServiceAction::ReadFullStatus => {
                let mut rest = data.get_mut(8..).unwrap_or_default();
                for one in &self.state.registrations {
                    let length = 24 + self.cast[one.who].initiator().as_bytes().len();
                    let (descriptor, behind) = rest.split_at_mut(length.min(rest.len()));
                    rest = behind;
                    let Some([flags, kind, _, _, _, _, port @ ..]) = descriptor.get_mut(12..) else { break };
                    // ALL_TG_PT, with which the target port is undefined.
                    if *flags & 0x02 != 0 {
                        *flags &= !0x02;
                        port.iter_mut().zip(one.port.to_be_bytes()).for_each(|(to, from)| *to = from);
                    }
                    // Of who does not hold the reservation scope and type are undefined.
                    *kind *= *flags & 0x01;
                }
            }
            _ => {}
        }
        data
    }

    /// The state, and of whose registrations it says that they are with all target ports.
    fn look(&mut self, mut read: impl FnMut(&mut Self, &RandomCommand) -> Vec<u8>) -> (State, [bool; 2]) {
        let mut ask = |action| {
            let cdb = PersistentReserveIn { action, allocation_length: ALLOCATION_LENGTH }.to_cdb();
            read(self, &RandomCommand { sender: 0, cdb, parameters: Vec::new() })
        };
        let capabilities = Capabilities::parse(&ask(InServiceAction::ReportCapabilities)).unwrap();
        let data = ask(InServiceAction::ReadFullStatus);
        let status = FullStatus::parse(&data).unwrap();
        assert!(!status.is_truncated());
        let mut all_target_ports = [false; 2];
        let registrations = status.iter().map(|one| {
            let initiator = one.transport_id().unwrap();
            let who = self.cast.iter().position(|nexus| nexus.initiator().get() == initiator).unwrap();
            all_target_ports[who] |= one.all_target_ports;
            // With ALL_TG_PT it is undefined.
            let port = if one.all_target_ports { self.cast[who].relative_port() } else { one.relative_port };
            Registration { who, port, key: one.key.0, holds: one.reservation_holder.then_some(one.kind) }
        });
        let state = State {
            generation: status.generation(),
            aptpl: capabilities.persist_through_power_loss_activated,
            registrations: registrations.collect(),
        };
        (state, all_target_ports)
    }
}

fn new_model(cast: &[Nexus; 2]) -> LogicalUnit<MemoryStore> {
    LogicalUnit::open(&cast.map(|nexus| nexus.relative_port()), MemoryStore::default()).unwrap()
}

/// The nexus that this is, by the disk's own words.
fn who_is(disk: &File) -> Nexus {
    let disks = [disk.try_clone().unwrap()];
    clear(&disks);
    register_and_ignore(disk, 0);
    let reply = direct(disk, &[0x5e, 3, 0, 0, 0, 0, 0, 0x10, 0, 0], None);
    let status = FullStatus::parse(&reply.payload).unwrap();
    let one = status.iter().next().unwrap();
    let nexus = Nexus::new(one.transport_id().unwrap(), one.relative_port).unwrap();
    clear(&disks);
    nexus
}

fn clear(disks: &[File]) {
    for disk in disks {
        drop(unit_attentions(disk));
    }
    // With ALL_TG_PT, without which LIO does not change a registration that was made with it.
    register_and_ignore(&disks[0], 0x04);
    let list = [[0xff; 8], [0; 8], [0; 8]].concat();
    let reply = direct(&disks[0], &[0x5f, 3, 0, 0, 0, 0, 0, 0, 24, 0], Some(&list));
    assert_eq!(reply.status, Status::GOOD, "{reply:02x?}");
    for disk in disks {
        drop(unit_attentions(disk));
    }
    let reply = direct(&disks[0], &[0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0], None);
    assert_eq!(Keys::parse(&reply.payload).unwrap().full_length(), 8);
}

fn register_and_ignore(disk: &File, flags: u8) {
    let mut list = [[0; 8], [0xff; 8], [0; 8]].concat();
    list[20] = flags;
    let reply = direct(disk, &[0x5f, 6, 0, 0, 0, 0, 0, 0, 24, 0], Some(&list));
    assert_eq!(reply.status, Status::GOOD, "{reply:02x?}");
}

/// Takes what is pending, by TEST UNIT READY.
fn unit_attentions(disk: &File) -> Vec<u8> {
    let mut qualifiers = Vec::new();
    loop {
        let mut sense = [0; 96];
        let command = sg_io::Command::new(&[0; 6]).sense(&mut sense);
        if command.execute(disk.as_fd()).unwrap().status == 0 {
            return qualifiers;
        }
        // The machine's first commands find another one.
        if sense[12] == 0x2a {
            qualifiers.push(sense[13]);
        }
        assert_eq!(sense[2] & 0xf, 6, "{sense:02x?}");
    }
}
