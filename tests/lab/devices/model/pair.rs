//! An LIO disk and its model, with two nexuses.

use std::fs::File;
use std::os::fd::AsFd as _;

use fixtures::{Disk, direct, open};
use pr_target::test_utils::{MemoryStore, RandomCommand};
use pr_target::{LogicalUnit, Nexus};
use scsi_sense::pr::{
    Capabilities, FullStatus, InServiceAction, Keys, OutParameters, OutServiceAction, PersistentReserveIn,
    PersistentReserveOut, ReservationType, TransportId,
};
use scsi_sense::{Cdb, Status};
use test_support::Reply;

const ALLOCATION_LENGTH: u16 = 4096;

/// A disk and its model, in the same visible state.
pub(super) struct Pair {
    disks: [File; 2],
    nexuses: [Nexus; 2],
    model: LogicalUnit<MemoryStore>,
    /// LIO's PRGENERATION minus the model's.
    generation_offset: u32,
    /// The state before the next command.
    state: State,
    /// For each initiator port, whether LIO has a registration of it with ALL_TG_PT.
    all_target_ports: [bool; 2],
    /// Whether the holder got the reservation by REGISTER AND MOVE.
    is_moved: bool,
}

/// The end of a command: its status; sense key, additional sense code and qualifier.
pub(super) type End = (Status, Option<(u8, u8, u8)>);

pub(super) const GOOD: End = (Status::GOOD, None);
pub(super) const CONFLICT: End = (Status::RESERVATION_CONFLICT, None);

pub(super) const fn check(key: u8, asc: u8, ascq: u8) -> End {
    (Status::CHECK_CONDITION, Some((key, asc, ascq)))
}

/// The answer of the disk or of the model.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) end: End,
    /// The data without PRGENERATION, which is in the state, and without fields that SPC-4 leaves to the device.
    pub(super) data: Vec<u8>,
    /// The additional sense code qualifiers of unit attentions with ASC 2Ah that each nexus got afterwards.
    pub(super) attentions: [Vec<u8>; 2],
    pub(super) after: State,
}

/// The visible state of reservations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) generation: u32,
    pub(super) aptpl: bool,
    /// The registrations, in the order of the device.
    pub(super) registrations: Vec<Registration>,
}

/// One registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registration {
    /// Index of the initiator port.
    pub(super) initiator: usize,
    /// The target port.
    pub(super) port: u16,
    pub(super) key: u64,
    /// Type of the reservation that the registrant holds.
    pub(super) holds: Option<ReservationType>,
}

impl State {
    pub(super) fn registration_of(&self, initiator: usize) -> Option<&Registration> {
        self.registrations.iter().find(|one| one.initiator == initiator)
    }

    pub(super) fn held(&self) -> Option<ReservationType> {
        self.registrations.iter().find_map(|one| one.holds)
    }
}

/// A command with its results.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) command: RandomCommand,
    nexuses: [Nexus; 2],
    pub(super) before: State,
    /// Whether the sender's registration was made with ALL_TG_PT.
    pub(super) has_all_target_ports: bool,
    /// Whether the holder got the reservation by REGISTER AND MOVE.
    pub(super) is_moved: bool,
    pub(super) model: Answer,
    pub(super) lio: Answer,
}

impl Step {
    pub(super) fn agrees(&self) -> bool {
        self.model == self.lio
    }

    pub(super) fn has_same_state(&self) -> bool {
        self.model.after == self.lio.after
    }

    pub(super) fn in_command(&self) -> Option<PersistentReserveIn> {
        Cdb::new(&self.command.cdb).unwrap().try_into().ok()
    }

    pub(super) fn out_command(&self) -> Option<PersistentReserveOut> {
        Cdb::new(&self.command.cdb).unwrap().try_into().ok()
    }

    pub(super) fn is(&self, action: OutServiceAction) -> bool {
        self.out_command().is_some_and(|command| command.action == action)
    }

    pub(super) fn parameters(&self) -> Option<OutParameters<'_>> {
        OutParameters::parse(self.out_command()?.action, &self.command.parameters).ok()
    }

    pub(super) fn is_registered(&self) -> bool {
        self.before.registration_of(self.command.sender).is_some()
    }

    pub(super) fn is_holder(&self) -> bool {
        self.before.registration_of(self.command.sender).is_some_and(|one| one.holds.is_some())
    }

    /// Returns whether model and LIO ended the command like this, and, unless both ended it with GOOD, LIO changed nothing.
    pub(super) fn ended(&self, model: End, lio: End) -> bool {
        let is_done = (model, lio) == (GOOD, GOOD) || self.lio_changed_nothing();
        (self.model.end, self.lio.end) == (model, lio) && is_done
    }

    pub(super) fn lio_changed_nothing(&self) -> bool {
        self.lio.after == self.before && self.lio.attentions.iter().all(Vec::is_empty)
    }

    /// Returns whether both reported the same unit attentions to the same nexuses.
    pub(super) fn has_same_attentions(&self) -> bool {
        self.model.attentions == self.lio.attentions
    }

    /// Returns whether the reservation after the command was moved to its holder.
    fn leaves_moved(&self) -> bool {
        let has_holders_key = self.parameters().is_some_and(|list| {
            let mut holders = self.before.registrations.iter().filter(|one| one.holds.is_some());
            holders.any(|one| one.key == list.service_action_key().0)
        });
        match self.out_command() {
            _ if self.lio.after.held().is_none() => false,
            Some(out) if self.lio.end == GOOD => match out.action {
                OutServiceAction::RegisterAndMove => true,
                OutServiceAction::Preempt => self.is_moved && !has_holders_key,
                _ => self.is_moved,
            },
            _ => self.is_moved,
        }
    }

    /// Returns the index of an initiator port.
    pub(super) fn index_of(&self, id: TransportId<'_>) -> Option<usize> {
        self.nexuses.iter().position(|nexus| nexus.initiator().get() == id)
    }

    /// Returns the relative target port identifier of an initiator port.
    pub(super) fn port_of(&self, initiator: usize) -> u16 {
        self.nexuses[initiator].relative_port()
    }
}

impl Pair {
    pub(super) fn open(nexuses: [Disk; 2]) -> Self {
        let disks = nexuses.map(|nexus| open(&nexus.block));
        let nexuses = [0, 1].map(|number| nexus_of(&disks[number]));
        let model = new_model(&nexuses);
        let state = State::default();
        let mut pair = Self {
            disks,
            nexuses,
            model,
            generation_offset: 0,
            state,
            all_target_ports: [false; 2],
            is_moved: false,
        };
        pair.reset();
        pair
    }

    pub(super) fn nexuses(&self) -> &[Nexus] {
        &self.nexuses
    }

    /// Sends a command to both; returns their answers, with the unit attentions for both nexuses.
    pub(super) fn send(&mut self, command: &RandomCommand) -> Step {
        let (status, sense, data) = self.run_on_model(command);
        let model = Answer {
            end: (status, sense),
            data: self.without_device_choices(command, data),
            attentions: self.nexuses.map(|nexus| {
                std::iter::from_fn(|| self.model.take_unit_attention(&nexus))
                    .map(|code| code.additional.ascq)
                    .collect()
            }),
            after: self.read_state(|pair, command| pair.run_on_model(command).2).0,
        };
        let reply = self.run_on_lio(command);
        let attentions = [0, 1].map(|number| unit_attentions(&self.disks[number]));
        let (after, all_target_ports) = self.read_state(|pair, command| pair.run_on_lio(command).payload);
        let lio = Answer {
            end: (reply.status, reply.sense_code()),
            data: self.without_device_choices(command, reply.payload),
            attentions,
            after,
        };
        let step = Step {
            command: command.clone(),
            nexuses: self.nexuses,
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

    /// Removes registrations, reservation, APTPL and unit attentions from both.
    pub(super) fn reset(&mut self) {
        clear(&self.disks);
        self.model = new_model(&self.nexuses);
        self.generation_offset = 0;
        (self.state, self.all_target_ports) =
            self.read_state(|pair, command| pair.run_on_lio(command).payload);
        self.is_moved = false;
        self.generation_offset = self.state.generation;
        self.state.generation = 0;
        assert_eq!(self.state, State::default());
    }

    fn run_on_model(&mut self, command: &RandomCommand) -> (Status, Option<(u8, u8, u8)>, Vec<u8>) {
        let mut data = vec![0; 8192];
        let mut parameters = command.parameters.clone();
        // Each initiator port has one nexus, so ALL_TG_PT makes no difference.
        if command.cdb[1] != OutServiceAction::RegisterAndMove.code() {
            parameters.iter_mut().skip(20).take(1).for_each(|flags| *flags &= !0x04);
        }
        let nexus = &self.nexuses[command.sender];
        let answer = self.model.execute(nexus, &command.cdb, &parameters, &mut data);
        data.truncate(answer.length);
        let sense = answer.sense.map(|code| (code.key.code(), code.additional.asc, code.additional.ascq));
        (answer.status, sense, data)
    }

    /// Runs a command on LIO. PRGENERATION in the data is adjusted to the model's.
    fn run_on_lio(&mut self, command: &RandomCommand) -> Reply {
        let parameters = (command.cdb[0] == 0x5f).then_some(&command.parameters[..]);
        let mut reply = direct(&self.disks[command.sender], &command.cdb, parameters);
        if command.cdb[1] & 0x1f != InServiceAction::ReportCapabilities.code() {
            if let Some(bytes) = reply.payload.first_chunk_mut() {
                *bytes = u32::from_be_bytes(*bytes).wrapping_sub(self.generation_offset).to_be_bytes();
            }
        }
        reply
    }

    /// Returns the data of an IN without the fields that SPC-4 leaves to the device.
    fn without_device_choices(&self, command: &RandomCommand, mut data: Vec<u8>) -> Vec<u8> {
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
                    let length = 24 + self.nexuses[one.initiator].initiator().as_bytes().len();
                    let (descriptor, behind) = rest.split_at_mut(length.min(rest.len()));
                    rest = behind;
                    let Some([flags, kind, _, _, _, _, port @ ..]) = descriptor.get_mut(12..) else { break };
                    // With ALL_TG_PT the target port is undefined.
                    if *flags & 0x02 != 0 {
                        *flags &= !0x02;
                        port.iter_mut().zip(one.port.to_be_bytes()).for_each(|(to, from)| *to = from);
                    }
                    // Scope and type are undefined for a registrant that does not hold the reservation.
                    *kind *= *flags & 0x01;
                }
            }
            _ => {}
        }
        data
    }

    /// Returns the state, and for each initiator port whether its registration has ALL_TG_PT.
    fn read_state(
        &mut self,
        mut read: impl FnMut(&mut Self, &RandomCommand) -> Vec<u8>,
    ) -> (State, [bool; 2]) {
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
            let transport_id = one.transport_id().unwrap();
            let initiator =
                self.nexuses.iter().position(|nexus| nexus.initiator().get() == transport_id).unwrap();
            all_target_ports[initiator] |= one.all_target_ports;
            // With ALL_TG_PT the target port is undefined.
            let port = if one.all_target_ports {
                self.nexuses[initiator].relative_port()
            } else {
                one.relative_port
            };
            Registration {
                initiator,
                port,
                key: one.key.0,
                holds: one.reservation_holder.then_some(one.kind),
            }
        });
        let state = State {
            generation: status.generation(),
            aptpl: capabilities.persist_through_power_loss_activated,
            registrations: registrations.collect(),
        };
        (state, all_target_ports)
    }
}

fn new_model(nexuses: &[Nexus; 2]) -> LogicalUnit<MemoryStore> {
    LogicalUnit::open(&nexuses.map(|nexus| nexus.relative_port()), MemoryStore::default()).unwrap()
}

/// Returns the nexus of this path, as the disk reports it.
fn nexus_of(disk: &File) -> Nexus {
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
    // With ALL_TG_PT: without it, LIO does not change a registration that was made with it.
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

/// Clears pending unit attentions by TEST UNIT READY; returns the qualifiers of those with ASC 2Ah.
fn unit_attentions(disk: &File) -> Vec<u8> {
    let mut qualifiers = Vec::new();
    loop {
        let mut sense = [0; 96];
        let command = sg_io::Command::new(&[0; 6]).sense(&mut sense);
        if command.execute(disk.as_fd()).unwrap().status == 0 {
            return qualifiers;
        }
        // The first commands in the machine get other unit attentions.
        if sense[12] == 0x2a {
            qualifiers.push(sense[13]);
        }
        assert_eq!(sense[2] & 0xf, 6, "{sense:02x?}");
    }
}
