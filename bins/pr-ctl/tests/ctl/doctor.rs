//! `doctor`: READY or NOT READY, and the registration for a moment.

use std::sync::{Arc, Mutex};

use scsi_sense::{
    SenseCode, Status,
    pr::{Capabilities, Keys, ReservationKey, ReservationType, TypeMask},
};

use crate::{
    Run,
    helper::{Answer, Arrived, Helper, remove_socket},
    run, run_with,
};

/// Service actions of PERSISTENT RESERVE IN and OUT.
const READ_KEYS: u8 = 0;
const REGISTER: u8 = 0;

#[derive(Clone, Default)]
struct Disk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// The key of the nexus through which the helper reaches the disk.
    own: Option<u64>,
    others: Vec<u64>,
    capabilities: Capabilities,
    /// APTPL of the last REGISTER.
    aptpl: Option<bool>,
    fault: Fault,
    /// Number of REGISTER commands that have arrived.
    registers: usize,
}

/// A fault of the disk or of the helper.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Fault {
    #[default]
    None,
    /// READ KEYS fails while the nexus is registered.
    UnreadableKeys,
    /// REGISTER succeeds without effect.
    IneffectiveRegister,
    /// The first REGISTER takes effect, and the helper hangs up.
    LostReply,
    /// Unregistering fails.
    Unremovable,
    /// Unregistering succeeds without effect.
    IneffectiveRemoval,
    /// Each REGISTER meets a unit attention first.
    Attentions,
}

impl Disk {
    fn new(types: Option<TypeMask>) -> Self {
        let disk = Self::default();
        disk.set(|state| state.capabilities.types = types);
        disk
    }

    /// A disk that supports what Windows and Pacemaker need.
    fn supported() -> Self {
        Self::new(Some(TypeMask::new([ReservationType::WriteExclusiveRegistrantsOnly])))
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.lock().unwrap());
    }

    /// Returns the disk's own and other registrations.
    fn registrations(&self) -> (Option<u64>, Vec<u64>) {
        let state = self.0.lock().unwrap();
        (state.own, state.others.clone())
    }

    fn helper(&self) -> Helper {
        let Self(state) = self.clone();
        Helper::start(move |arrived| state.lock().unwrap().answer(arrived))
    }
}

impl State {
    fn answer(&mut self, arrived: &Arrived) -> Answer {
        match (arrived.cdb[0], arrived.cdb[1]) {
            (0x5e, READ_KEYS) if self.fault == Fault::UnreadableKeys && self.own.is_some() => {
                Answer::CheckCondition(SenseCode::INTERNAL_TARGET_FAILURE)
            }
            (0x5e, READ_KEYS) => {
                let mut data = vec![0; 512];
                let keys = self.own.iter().chain(&self.others).copied().map(ReservationKey);
                let length = Keys::build(7, keys, &mut data).unwrap();
                Answer::Good(data[..length].to_vec())
            }
            (0x5e, 1) => Answer::Good(vec![0; 8]),
            (0x5e, 2) => Answer::Good(self.capabilities.to_bytes().to_vec()),
            (0x5f, REGISTER) => self.register(&arrived.parameters),
            _ => Answer::CheckCondition(SenseCode::INVALID_FIELD_IN_CDB),
        }
    }

    fn register(&mut self, parameters: &[u8]) -> Answer {
        self.registers += 1;
        if self.fault == Fault::Attentions && self.registers % 2 == 1 {
            return Answer::CheckCondition(SenseCode::RESERVATIONS_PREEMPTED);
        }
        let key = |at: usize| u64::from_be_bytes(parameters[at..at + 8].try_into().unwrap());
        let (key, new_key) = (key(0), key(8));
        if key != self.own.unwrap_or(0) {
            return Answer::Status(Status::RESERVATION_CONFLICT);
        }
        match (self.fault, new_key) {
            (Fault::IneffectiveRegister, _) | (Fault::IneffectiveRemoval, 0) => return Answer::Good(vec![]),
            (Fault::Unremovable, 0) => return Answer::Status(Status::BUSY),
            _ => {}
        }
        self.own = (new_key != 0).then_some(new_key);
        self.aptpl = Some(parameters[20] & 1 == 1);
        if self.fault == Fault::LostReply && self.registers == 1 {
            Answer::HangUp
        } else {
            Answer::Good(vec![])
        }
    }
}

/// Runs `doctor --write` and checks that the last line is the verdict that belongs to the exit status.
fn write(disk: &Disk) -> Run {
    judged(run_with(&disk.helper(), &["doctor", "DEVICE", "--write"]))
}

#[track_caller]
fn judged(run: Run) -> Run {
    let verdict = if run.0 == Some(0) { "READY" } else { "NOT READY" };
    assert_eq!(run.1.lines().last(), Some(verdict), "{run:?}");
    run
}

/// Returns the command that removes a key, from the advice in the output.
fn removal(output: &str) -> Option<&str> {
    let (_, rest) = output.split_once("remove it by `pr-ctl register ")?;
    rest.split_once('`').map(|(command, _)| command)
}

#[test]
fn supported_disk_is_ready() {
    let helper = Disk::supported().helper();
    let (status, output, errors) = judged(run_with(&helper, &["doctor", "DEVICE"]));
    assert_eq!((status, errors.as_str()), (Some(0), ""), "{output}");
    for line in [
        "  ok  kernel: ",
        "  ok  user: ",
        "  ok  a helper answers",
        "the helper's process: pid ",
        "  ok  READ KEYS: 0 registrations",
        "  ok  PERSISTENT RESERVE OUT: gets through",
        "  ok  Windows failover clusters: WRITE EXCLUSIVE, REGISTRANTS ONLY (5h)",
        "  ok  Pacemaker with fence_scsi or fence_mpath: ",
        "  ??  Oracle Solaris Cluster: its documentation names no type",
    ] {
        assert!(output.contains(line), "{line}:\n{output}");
    }
    let arrived = helper.arrived();
    let changes: Vec<_> = arrived.iter().filter(|arrived| arrived.cdb[0] == 0x5f).collect();
    let [change] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!(change.cdb[1], 0x1f, "without --write it changes nothing");
}

#[test]
fn missing_type_is_not_ready() {
    let disk = Disk::new(Some(TypeMask::new([ReservationType::WriteExclusive])));
    let (status, output, _) = judged(run_with(&disk.helper(), &["doctor", "DEVICE"]));
    assert_eq!(status, Some(36), "{output}");
    let line =
        "  NO  Windows failover clusters: needs WRITE EXCLUSIVE, REGISTRANTS ONLY (5h), which the disk lacks";
    assert!(output.contains(line), "{output}");
}

#[test]
fn unreported_types_are_unknown() {
    let (status, output, _) = judged(run_with(&Disk::new(None).helper(), &["doctor", "DEVICE"]));
    assert_eq!(status, Some(0), "{output}");
    assert!(output.contains("  ??  Windows failover clusters: needs WRITE EXCLUSIVE, "), "{output}");
}

#[test]
fn failed_probe_is_not_ready() {
    let helper = Helper::always(Answer::Status(Status::BUSY));
    let (status, output, _) = judged(run_with(&helper, &["doctor", "DEVICE", "--write"]));
    assert_eq!(status, Some(26), "{output}");
    assert!(output.contains("NO  READ KEYS: BUSY (08h)") && !output.contains("Windows"), "{output}");
    remove_socket(&helper);
    let (status, output, _) = judged(run_with(&helper, &["doctor"]));
    assert_eq!(status, Some(35), "{output}");
}

#[test]
fn doctor_json_has_each_check() {
    let disk = Disk::new(Some(TypeMask::new([])));
    let (status, output, _) = run_with(&disk.helper(), &["--json", "doctor", "DEVICE"]);
    assert_eq!((status, output.lines().count()), (Some(36), 1), "{output}");
    for member in [
        "{\"checks\": [{\"subject\": \"this node\", \"check\": \"kernel\", \"result\": \"ok\", ",
        "\"check\": \"Windows failover clusters\", \"result\": \"no\", ",
        "\"check\": \"Oracle Solaris Cluster\", \"result\": \"unknown\", ",
        "], \"ok\": false, \"exit_status\": 36}\n",
    ] {
        assert!(output.contains(member), "{member}:\n{output}");
    }
}

#[test]
fn write_requires_a_device() {
    let (status, output, errors) = run(&["doctor", "--write"]);
    assert_eq!((status, output.as_str()), (Some(1), ""), "{errors}");
}

/// Another host's registration stays, and so does APTPL.
#[test]
fn write_leaves_no_registration() {
    for fault in [Fault::None, Fault::Attentions] {
        let disk = Disk::supported();
        disk.set(|state| {
            state.others = vec![0x2b];
            state.capabilities.persist_through_power_loss_activated = true;
            state.fault = fault;
        });
        let (status, output, errors) = write(&disk);
        assert_eq!(status, Some(0), "{output}");
        let (_, key) = output.split_once("  ok  REGISTER: key ").unwrap();
        let key = key.lines().next().unwrap();
        assert!(errors.starts_with(&format!("pr-ctl: registers key {key} with ")), "{errors}");
        assert!(output.contains("  ok  registered\n  ok  unregistered\n"), "{output}");
        assert_eq!(disk.registrations(), (None, vec![0x2b]));
        assert_eq!(disk.0.lock().unwrap().aptpl, Some(true));
    }
}

#[test]
fn trials_use_different_keys() {
    let key = || write(&Disk::supported()).2;
    let (one, other) = (key(), key());
    let word = |text: &str| text.split_whitespace().find(|word| word.starts_with("0x")).unwrap().to_owned();
    assert_ne!(word(&one), word(&other));
}

#[test]
fn conflict_leaves_the_existing_key() {
    let disk = Disk::supported();
    disk.set(|state| state.own = Some(0x1a));
    let (status, output, _) = write(&disk);
    assert_eq!(status, Some(24), "{output}");
    assert!(output.contains("  NO  REGISTER: RESERVATION CONFLICT (18h)\n"), "{output}");
    assert!(output.contains("registered with another key, which is unchanged"), "{output}");
    assert_eq!(disk.registrations(), (Some(0x1a), vec![]));
    assert_eq!(disk.0.lock().unwrap().registers, 1, "nothing is sent after a conflict");
}

/// APTPL of a REGISTER holds for all registrations, so nothing is sent if the disk does not tell it.
#[test]
fn unknown_aptpl_of_others_is_kept() {
    let helper = Helper::start(|arrived| match (arrived.cdb[0], arrived.cdb[1]) {
        (0x5e, 0) => Answer::Good([&[0, 0, 0, 1, 0, 0, 0, 8][..], &[0; 7], &[0x2b]].concat()),
        (0x5e, 1) => Answer::Good(vec![0; 8]),
        _ => Answer::CheckCondition(SenseCode::INVALID_FIELD_IN_CDB),
    });
    let (status, output, errors) = judged(run_with(&helper, &["doctor", "DEVICE", "--write"]));
    assert_eq!((status, errors.as_str()), (Some(36), ""), "{output}");
    assert!(output.contains("  NO  REGISTER: skipped: "), "{output}");
    assert!(!helper.arrived().iter().any(|arrived| arrived.cdb[..2] == [0x5f, REGISTER]));
}

#[test]
fn failing_read_back_is_cleaned_up() {
    for (fault, expected, finding) in [
        (Fault::UnreadableKeys, 3, "  NO  registered: CHECK CONDITION (02h): HARDWARE ERROR"),
        (Fault::IneffectiveRegister, 36, "  NO  registered: the key is not in READ KEYS"),
        (Fault::LostReply, 99, "  NO  REGISTER: the connection to the helper was lost"),
    ] {
        let disk = Disk::supported();
        disk.set(|state| state.fault = fault);
        let (status, output, _) = write(&disk);
        assert_eq!(status, Some(expected), "{fault:?}\n{output}");
        assert!(output.contains(finding), "{finding}:\n{output}");
        assert_eq!(disk.registrations(), (None, vec![]), "{fault:?}");
        assert_eq!(disk.0.lock().unwrap().registers, 2, "{fault:?}");
        // A REGISTER without an answer may take effect later.
        assert_eq!(removal(&output).is_some(), fault == Fault::LostReply, "{output}");
    }
}

#[test]
fn remaining_key_is_shown() {
    for (fault, expected, finding) in [
        (Fault::Unremovable, 26, "  NO  unregistered: BUSY (08h)"),
        (Fault::IneffectiveRemoval, 36, "  NO  unregistered: the key is still in READ KEYS"),
    ] {
        let disk = Disk::supported();
        disk.set(|state| state.fault = fault);
        let helper = disk.helper();
        let (status, output, _) = judged(run_with(&helper, &["doctor", "DEVICE", "--write"]));
        assert_eq!(status, Some(expected), "{output}");
        assert!(output.contains(finding), "{finding}:\n{output}");
        assert!(disk.registrations().0.is_some());
        // The advice is a command that removes the key once the disk lets it.
        disk.set(|state| state.fault = Fault::None);
        let removal = removal(&output).unwrap();
        let words: Vec<&str> = ["register"].into_iter().chain(removal.split(' ')).collect();
        assert_eq!(run_with(&helper, &words).0, Some(0), "{removal}");
        assert_eq!(disk.registrations(), (None, vec![]));
    }
}
