//! Persistent reservations, as plainly as SPC-4 clauses 5.13 and 6.16 can be written down: what a command must do, without a
//! reason where it must fail.

use std::collections::BTreeMap;

use scsi_sense::SenseCode;

/// The state of a logical unit. Nexuses have names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) keys: BTreeMap<String, u64>,
    pub(super) held: Option<Held>,
    pub(super) generation: u32,
    pub(super) aptpl: bool,
}

/// A reservation: its type, and its holder unless all registrants are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) kind: u8,
    pub(super) holder: Option<String>,
}

/// Where a command comes from.
pub(super) struct Place {
    pub(super) sender: String,
    /// The nexuses of the sender's initiator port with all target ports.
    pub(super) all_ports: [String; 2],
}

/// What a command must do.
pub(super) enum Expected {
    /// GOOD, with this state afterwards, and these unit attention conditions for other nexuses.
    Good(Model, Vec<(String, SenseCode)>),
    /// No GOOD, and no change.
    Failure,
    /// Not modelled: SPEC_I_PT.
    Unknown,
}

/// Returns names of a nexus, and of that initiator port's nexuses with all ports.
type Name = (String, [String; 2]);

impl Model {
    pub(super) fn key_of(&self, name: &str) -> Option<u64> {
        self.keys.get(name).copied()
    }

    pub(super) fn lose_power(&mut self) {
        self.generation = 0;
        if !self.aptpl {
            *self = Self::default();
        }
    }

    /// Returns what a PERSISTENT RESERVE IN or OUT must do. `name` parses a TransportID.
    pub(super) fn expect(
        &self,
        place: &Place,
        cdb: &[u8; 10],
        parameters: &[u8],
        name: impl Fn(&[u8], u16) -> Option<Name>,
    ) -> Expected {
        let requests_aca = cdb[9] & 0x04 != 0;
        if cdb[0] == 0x5e {
            let is_known = cdb[1] & 0x1f < 4;
            let same = Expected::Good(self.clone(), Vec::new());
            return if is_known && !requests_aca { same } else { Expected::Failure };
        }
        let length = u32::from_be_bytes([cdb[5], cdb[6], cdb[7], cdb[8]]);
        let list = usize::try_from(length).ok().and_then(|length| parameters.get(..length));
        match list {
            Some(list) if list.len() >= 24 && !requests_aca => {
                let mut after = Change { model: self.clone(), told: Vec::new(), sender: &place.sender };
                match after.perform(place, cdb[1] & 0x1f, cdb[2], list, name) {
                    Some(true) => Expected::Good(after.model, after.told),
                    Some(false) => Expected::Unknown,
                    None => Expected::Failure,
                }
            }
            _ => Expected::Failure,
        }
    }

    fn holds(&self, name: &str) -> bool {
        self.held.as_ref().is_some_and(|held| held.holder.as_ref().is_none_or(|holder| holder == name))
            && self.keys.contains_key(name)
    }
}

/// The types of a reservation.
const TYPES: [u8; 6] = [1, 3, 5, 6, 7, 8];

fn is_registrants_only(kind: u8) -> bool {
    [5, 6].contains(&kind)
}

fn is_all_registrants(kind: u8) -> bool {
    [7, 8].contains(&kind)
}

/// A state while a command changes it.
struct Change<'a> {
    model: Model,
    told: Vec<(String, SenseCode)>,
    sender: &'a str,
}

impl Change<'_> {
    /// Performs a command. Returns `None` if it must fail, and `Some(false)` if it is not modelled.
    fn perform(
        &mut self,
        place: &Place,
        action: u8,
        scope_type: u8,
        list: &[u8],
        name: impl Fn(&[u8], u16) -> Option<Name>,
    ) -> Option<bool> {
        let key = |at: usize| list[at..at + 8].iter().fold(0, |key: u64, byte| key << 8 | u64::from(*byte));
        let (own, other) = (key(0), key(8));
        let kind = TYPES.contains(&scope_type).then_some(scope_type);
        let registered = self.model.key_of(self.sender);
        let is_registered = registered.is_some();
        // All service actions but these two need a registered nexus and its key.
        if ![0, 6].contains(&action) && registered != Some(own) {
            return None;
        }
        if action == 7 {
            return self.register_and_move(other, list, name).map(|()| true);
        }
        let (is_specified, is_all_ports) = (list[20] & 0x08 != 0, list[20] & 0x04 != 0);
        match (is_specified, action) {
            (true, 0) if registered.unwrap_or(0) == own && !is_registered => return Some(false),
            (true, _) => return None,
            (false, _) if list.len() != 24 => return None,
            (false, _) => {}
        }
        match action {
            0 | 6 => {
                let nexuses =
                    if is_all_ports { &place.all_ports[..] } else { std::slice::from_ref(&place.sender) };
                let expected = (action == 0).then_some(own);
                self.register(nexuses, expected, other, list[20] & 1 != 0)?;
            }
            1 => self.reserve(kind?)?,
            2 => self.release(kind?)?,
            3 => {
                self.model.generation = self.model.generation.wrapping_add(1);
                self.tell(SenseCode::RESERVATIONS_PREEMPTED);
                self.model.keys.clear();
                self.model.held = None;
            }
            4 | 5 => self.preempt(kind, other)?,
            _ => return None,
        }
        Some(true)
    }

    /// REGISTER, or without `expected` REGISTER AND IGNORE EXISTING KEY.
    fn register(&mut self, nexuses: &[String], expected: Option<u64>, key: u64, aptpl: bool) -> Option<()> {
        let known: Vec<_> = nexuses.iter().map(|name| self.model.key_of(name)).collect();
        if expected.is_some_and(|expected| known.iter().any(|known| known.unwrap_or(0) != expected)) {
            return None;
        }
        if key == 0 && known.iter().all(Option::is_none) {
            return Some(());
        }
        self.model.generation = self.model.generation.wrapping_add(1);
        self.model.aptpl = aptpl;
        for name in nexuses {
            if key == 0 {
                self.model.keys.remove(name);
            } else {
                self.model.keys.insert(name.clone(), key);
            }
        }
        if let Some(kind) = self.end_without_holder().filter(|kind| is_registrants_only(*kind)) {
            debug_assert!(TYPES.contains(&kind));
            self.tell(SenseCode::RESERVATIONS_RELEASED);
        }
        Some(())
    }

    fn reserve(&mut self, kind: u8) -> Option<()> {
        match &self.model.held {
            None => {
                self.hold(kind);
                Some(())
            }
            Some(held) => (held.kind == kind && self.model.holds(self.sender)).then_some(()),
        }
    }

    fn release(&mut self, kind: u8) -> Option<()> {
        if !self.model.holds(self.sender) {
            return Some(());
        }
        let held = self.model.held.take()?;
        if held.kind != kind {
            return None;
        }
        if is_registrants_only(kind) || is_all_registrants(kind) {
            self.tell(SenseCode::RESERVATIONS_RELEASED);
        }
        Some(())
    }

    fn preempt(&mut self, kind: Option<u8>, key: u64) -> Option<()> {
        let held = self.model.held.clone();
        let holders_key = match &held {
            Some(Held { holder: Some(holder), .. }) => self.model.key_of(holder),
            // The key of a reservation that all registrants hold.
            Some(Held { holder: None, .. }) => Some(0),
            None => None,
        };
        let everybody = key == 0 && holders_key == Some(0);
        let preempted: Vec<String> = self
            .model
            .keys
            .iter()
            .filter(|(_, other)| everybody || **other == key)
            .map(|(name, _)| name.clone())
            .collect();
        if preempted.is_empty() {
            return None;
        }
        let takes = held.filter(|_| holders_key == Some(key));
        for name in preempted {
            let is_own = name == self.sender;
            if !is_own || takes.is_none() {
                self.model.keys.remove(&name);
            }
            if !is_own {
                self.told.push((name, SenseCode::REGISTRATIONS_PREEMPTED));
            }
        }
        if let Some(before) = takes {
            let kind = kind?;
            self.hold(kind);
            if kind != before.kind {
                self.tell(SenseCode::RESERVATIONS_RELEASED);
            }
        } else {
            self.end_without_holder();
        }
        self.model.generation = self.model.generation.wrapping_add(1);
        Some(())
    }

    fn register_and_move(
        &mut self,
        key: u64,
        list: &[u8],
        name: impl Fn(&[u8], u16) -> Option<Name>,
    ) -> Option<()> {
        let port = u16::from_be_bytes([list[18], list[19]]);
        let stated = u32::from_be_bytes([list[20], list[21], list[22], list[23]]);
        if usize::try_from(stated) != Ok(list.len() - 24) {
            return None;
        }
        let (destination, others) = name(&list[24..], port)?;
        let held = self.model.held.clone()?;
        // Only its single holder moves a reservation, to another initiator port, at a target port that exists.
        if held.holder.as_deref() != Some(self.sender)
            || others.iter().any(|name| name == self.sender)
            || !others.contains(&destination)
            || key == 0
        {
            return None;
        }
        self.model.generation = self.model.generation.wrapping_add(1);
        self.model.aptpl = list[17] & 1 != 0;
        self.model.keys.insert(destination.clone(), key);
        self.model.held = Some(Held { kind: held.kind, holder: Some(destination) });
        if list[17] & 2 != 0 {
            self.model.keys.remove(self.sender);
        }
        Some(())
    }

    fn hold(&mut self, kind: u8) {
        let holder = (!is_all_registrants(kind)).then(|| self.sender.to_owned());
        self.model.held = Some(Held { kind, holder });
    }

    /// Ends a reservation whose holder is not registered any more. Returns its type.
    fn end_without_holder(&mut self) -> Option<u8> {
        let remains = |held: &mut Held| match &held.holder {
            Some(holder) => self.model.keys.contains_key(holder),
            None => !self.model.keys.is_empty(),
        };
        let mut held = self.model.held.clone()?;
        if remains(&mut held) {
            return None;
        }
        self.model.held = None;
        Some(held.kind)
    }

    /// Tells all registered nexuses but the sender.
    fn tell(&mut self, code: SenseCode) {
        let others = self.model.keys.keys().filter(|name| *name != self.sender);
        self.told.extend(others.map(|name| (name.clone(), code)));
    }
}
