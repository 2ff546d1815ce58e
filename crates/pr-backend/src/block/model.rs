//! An NVMe namespace with reservations in software, for tests: hosts, faults on request, and the deviations of real
//! controllers.

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
};

use block_pr::{Passthrough, Queue, Request, Status, opcode};

/// Whose behaviour the namespace has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    /// As the standard says. RCSTS is set for all holders.
    Standard,
    /// Linux's nvmet up to 7.2: PREEMPT by the holder has no effect; RELEASE of a reservation that all registrants hold
    /// works for one of them only; a wrong type is a conflict.
    Nvmet,
    /// A RELEASE with a wrong type is an invalid field, also for a host that does not hold the reservation.
    Spdk,
    /// Before NVM Express 1.3: "ignore existing key" needs a registered host; reports have host identifiers of 64 bits.
    Old,
}

/// What happens to the next command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    /// Commands that succeed before.
    pub(super) after: usize,
    /// The status, or the error number.
    pub(super) result: Result<Status, i32>,
    /// Whether the command takes effect nevertheless.
    pub(super) has_effect: bool,
}

/// Called before each command; the argument is how many were sent before.
pub(super) type Hook = Rc<dyn Fn(usize)>;

pub(super) struct Model {
    pub(super) flavour: Flavour,
    pub(super) rescap: u8,
    pub(super) fault: Cell<Option<Fault>>,
    pub(super) hook: RefCell<Option<Hook>>,
    /// Opcode and cdw10 of each command but reports and Identify.
    pub(super) changes: RefCell<Vec<(u8, u32)>>,
    /// How many commands were sent.
    pub(super) sent: Cell<usize>,
    state: RefCell<State>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    generation: u32,
    /// Host and key.
    registrants: Vec<(u8, u64)>,
    /// Host and type.
    reservation: Option<(u8, u8)>,
    persists: bool,
}

/// One host of a namespace.
#[derive(Clone, Copy)]
pub(super) struct Host<'m> {
    pub(super) model: &'m Model,
    pub(super) number: u8,
}

impl Model {
    pub(super) fn new(flavour: Flavour) -> Self {
        Self {
            flavour,
            rescap: if flavour == Flavour::Old { 0x7e } else { 0xfe },
            fault: Cell::new(None),
            hook: RefCell::new(None),
            changes: RefCell::default(),
            sent: Cell::new(0),
            state: RefCell::default(),
        }
    }

    pub(super) fn host(&self, number: u8) -> Host<'_> {
        Host { model: self, number }
    }

    pub(super) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    pub(super) fn set_state(&self, state: State) {
        *self.state.borrow_mut() = state;
    }

    pub(super) fn register_many(&self, count: u16) {
        let hosts = (0..count).map(|number| (7, 0x1000 + u64::from(number)));
        self.state.borrow_mut().registrants.extend(hosts);
    }

    /// Returns the identifier of a host, of 128 bits.
    pub(super) fn identifier(number: u8) -> [u8; 16] {
        [0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, number]
    }
}

impl Passthrough for Host<'_> {
    fn namespace_id(&self) -> io::Result<u32> {
        Ok(1)
    }

    fn submit(&self, request: &mut Request<'_>) -> io::Result<Status> {
        let model = self.model;
        let before = model.sent.replace(model.sent.get() + 1);
        let hook = model.hook.borrow().clone();
        if let Some(hook) = hook {
            hook(before);
        }
        if !matches!(request.opcode(), opcode::REPORT | opcode::IDENTIFY) {
            model.changes.borrow_mut().push((request.opcode(), request.cdw10()));
        }
        if let Some(fault) = model.fault.get() {
            if fault.after == 0 {
                model.fault.set(None);
                if fault.has_effect {
                    let _ = self.perform(request);
                }
                return fault.result.map_err(io::Error::from_raw_os_error);
            }
            model.fault.set(Some(Fault { after: fault.after - 1, ..fault }));
        }
        Ok(self.perform(request))
    }
}

impl Host<'_> {
    fn perform(&self, request: &mut Request<'_>) -> Status {
        let mut state = self.model.state.borrow_mut();
        let mut words =
            request.to_device().chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
        let (first, second) = (words.next().unwrap_or(0), words.next().unwrap_or(0));
        let (cdw10, extended) = (request.cdw10(), request.cdw11() & 1 != 0);
        match (request.queue(), request.opcode()) {
            (Queue::Admin, opcode::IDENTIFY) => {
                request.from_device()[31] = self.model.rescap;
                Status::SUCCESS
            }
            (Queue::Io, opcode::REPORT) => self.report(&state, extended, request.from_device()),
            (Queue::Io, opcode::REGISTER) => self.register(&mut state, cdw10, first, second),
            (Queue::Io, opcode::ACQUIRE) => self.acquire(&mut state, cdw10, first, second),
            (Queue::Io, opcode::RELEASE) => self.release(&mut state, cdw10, first),
            _ => Status::INVALID_OPCODE,
        }
    }

    fn report(&self, state: &State, extended: bool, data: &mut [u8]) -> Status {
        if extended == (self.model.flavour == Flavour::Old) {
            return Status::HOST_IDENTIFIER_FORMAT;
        }
        let size = if extended { 64 } else { 24 };
        data[..4].copy_from_slice(&state.generation.to_le_bytes());
        data[4] = state.reservation.map_or(0, |(_, kind)| kind);
        data[5..7].copy_from_slice(&u16::try_from(state.registrants.len()).unwrap().to_le_bytes());
        data[9] = state.persists.into();
        for (entry, (host, key)) in data[size..].chunks_exact_mut(size).zip(&state.registrants) {
            let holds = state.reservation.is_some_and(|(holder, kind)| {
                holder == *host || (kind >= 5 && self.model.flavour == Flavour::Standard)
            });
            entry[2] = holds.into();
            if extended {
                entry[..2].fill(0xff);
                entry[8..16].copy_from_slice(&key.to_le_bytes());
                entry[16..32].copy_from_slice(&Model::identifier(*host));
            } else {
                // An old controller is static: its identifier is the host's number.
                entry[0] = *host;
                entry[8..16].copy_from_slice(&[0x20, 0, 0, 0, 0, 0, 0, *host]);
                entry[16..24].copy_from_slice(&key.to_le_bytes());
            }
        }
        Status::SUCCESS
    }

    fn register(&self, state: &mut State, cdw10: u32, current: u64, new: u64) -> Status {
        let ignores = cdw10 & 8 != 0;
        let own = state.key_of(self.number);
        let fits = own.is_some_and(|key| ignores || key == current);
        match (cdw10 & 7, own) {
            (0, Some(key)) if key != new => return Status::RESERVATION_CONFLICT,
            (0, Some(_)) => {}
            (0, None) => state.registrants.push((self.number, new)),
            (1, _) if fits => state.remove(|host, _| host == self.number),
            (2, _) if fits => state.set_key(self.number, new),
            (2, None) if ignores && self.model.flavour != Flavour::Old => {
                state.registrants.push((self.number, new));
            }
            (1 | 2, _) => return Status::RESERVATION_CONFLICT,
            _ => return Status::INVALID_FIELD,
        }
        match cdw10 >> 30 {
            2 => state.persists = false,
            3 => state.persists = self.model.rescap & 1 != 0,
            _ => {}
        }
        state.generation += 1;
        Status::SUCCESS
    }

    fn acquire(&self, state: &mut State, cdw10: u32, current: u64, victim: u64) -> Status {
        let kind = u8::try_from(cdw10 >> 8 & 0xff).unwrap();
        if !(1..=6).contains(&kind) {
            return Status::INVALID_FIELD;
        }
        if state.key_of(self.number) != Some(current) {
            return Status::RESERVATION_CONFLICT;
        }
        let is_acquire = cdw10.trailing_zeros() >= 3;
        if is_acquire {
            return match state.reservation {
                None => {
                    state.reservation = Some((self.number, kind));
                    Status::SUCCESS
                }
                Some(held) if held == (self.number, kind) => Status::SUCCESS,
                Some(_) => Status::RESERVATION_CONFLICT,
            };
        }
        let own = self.number;
        match state.reservation {
            Some((_, 5..)) if victim == 0 => {
                state.registrants.retain(|(host, _)| *host == own);
                state.reservation = Some((own, kind));
            }
            Some((_, ..5)) if victim == 0 => return Status::INVALID_FIELD,
            Some((holder, ..5)) if self.model.flavour == Flavour::Nvmet && holder == own => {
                state.reservation = Some((own, kind));
            }
            Some((holder, ..5)) if state.key_of(holder) == Some(victim) => {
                state.registrants.retain(|(host, key)| *host == own || *key != victim);
                state.reservation = Some((own, kind));
            }
            _ if !state.registrants.iter().any(|(_, key)| *key == victim) => {
                return Status::RESERVATION_CONFLICT;
            }
            _ => state.remove(|_, key| key == victim),
        }
        state.generation += 1;
        Status::SUCCESS
    }

    fn release(&self, state: &mut State, cdw10: u32, current: u64) -> Status {
        if state.key_of(self.number) != Some(current) {
            return Status::RESERVATION_CONFLICT;
        }
        if cdw10 & 7 == 1 {
            let generation = state.generation + 1;
            *state = State { generation, persists: state.persists, ..State::default() };
            return Status::SUCCESS;
        }
        let Some((holder, kind)) = state.reservation else { return Status::SUCCESS };
        let has_type = u32::from(kind) == cdw10 >> 8 & 0xff;
        let flavour = self.model.flavour;
        if flavour == Flavour::Spdk && !has_type {
            return Status::INVALID_FIELD;
        }
        let holds = holder == self.number || (kind >= 5 && flavour != Flavour::Nvmet);
        match (holds, has_type) {
            (false, _) => {}
            (true, true) => state.reservation = None,
            (true, false) if flavour == Flavour::Nvmet => return Status::RESERVATION_CONFLICT,
            (true, false) => return Status::INVALID_FIELD,
        }
        Status::SUCCESS
    }
}

impl State {
    fn key_of(&self, number: u8) -> Option<u64> {
        self.registrants.iter().find(|(host, _)| *host == number).map(|(_, key)| *key)
    }

    fn set_key(&mut self, number: u8, new: u64) {
        for (_, key) in self.registrants.iter_mut().filter(|(host, _)| *host == number) {
            *key = new;
        }
    }

    /// Removes registrations, and the reservation with its holder; if all registrants hold it, with the last.
    fn remove(&mut self, is_removed: impl Fn(u8, u64) -> bool) {
        self.registrants.retain(|(host, key)| !is_removed(*host, *key));
        if let Some((holder, kind)) = self.reservation {
            let first = self.registrants.first().map(|(host, _)| *host);
            self.reservation = match (kind, first) {
                (..5, _) if self.key_of(holder).is_none() => None,
                (5.., None) => None,
                (5.., Some(first)) if self.key_of(holder).is_none() => Some((first, kind)),
                _ => self.reservation,
            };
        }
    }
}
