//! `watch`: changes of registrations and reservation.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::process::ExitStatusExt as _,
    process::{Child, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal};
use scsi_sense::{
    SenseCode,
    pr::{Keys, Reservation, ReservationData, ReservationKey, ReservationType, Scope},
};

use crate::{
    command,
    helper::{Answer, Helper, remove_socket},
    run_with,
};

/// How long a test waits for a line of output.
const LINE_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Clone, Default)]
struct Disk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    generation: u32,
    keys: Vec<u64>,
    holder: Option<u64>,
    trouble: Option<SenseCode>,
    attention: Option<SenseCode>,
    hangs_up: bool,
}

impl Disk {
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.0.lock().unwrap();
        state.generation += 1;
        change(&mut state);
    }

    fn helper(&self) -> Helper {
        let Self(state) = self.clone();
        Helper::start(move |arrived| {
            let mut state = state.lock().unwrap();
            if state.hangs_up {
                return Answer::HangUp;
            }
            if let Some(trouble) = state.trouble.or(state.attention.take()) {
                return Answer::CheckCondition(trouble);
            }
            let (scope, kind) = (Scope::LogicalUnit, ReservationType::WriteExclusive);
            let room = usize::from(u16::from_be_bytes([arrived.cdb[7], arrived.cdb[8]]));
            let mut data = vec![0; room];
            let length = if arrived.cdb[1] == 0 {
                // As in LIO, ADDITIONAL LENGTH counts only the keys that fit.
                let keys = state.keys.iter().copied().map(ReservationKey).take(room / 8 - 1);
                Keys::build(state.generation, keys, &mut data).unwrap()
            } else {
                let held = state.holder.map(|key| Reservation { key: ReservationKey(key), scope, kind });
                ReservationData::build(state.generation, held, &mut data)
            };
            Answer::Good(data[..length].to_vec())
        })
    }
}

/// A running `pr-ctl watch`, killed on drop.
struct Watch {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Watch {
    fn start(helper: &Helper, options: &[&str]) -> Self {
        let mut command = command();
        command.arg("-k").arg(helper.socket()).arg("watch").arg(helper.device());
        let mut child =
            command.args(["--interval", "0.01"]).args(options).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// Checks the next lines, except the time that each must begin with.
    #[track_caller]
    fn expect(&self, expected: &[&str]) {
        for expected in expected {
            let line = self.lines.recv_timeout(LINE_TIMEOUT).unwrap();
            let (time, text) = line.split_once("  ").unwrap();
            assert_eq!((time.len(), &time[10..11], &time[19..]), (20, "T", "Z"), "{line}");
            assert_eq!(text, *expected);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn watch_prints_each_change() {
    let disk = Disk::default();
    disk.change(|state| state.keys = vec![0x1a]);
    let helper = disk.helper();
    let mut watch = Watch::start(&helper, &[]);
    watch.expect(&["registered    0x1a", "reservation   none"]);
    disk.change(|state| (state.keys, state.holder) = (vec![0x2b, 0x1a], Some(0x1a)));
    watch.expect(&["registered    0x2b", "reservation   WRITE EXCLUSIVE (1h), key 0x1a"]);
    disk.change(|state| (state.keys, state.holder) = (vec![0x2b], Some(0x2b)));
    watch.expect(&["unregistered  0x1a", "reservation   WRITE EXCLUSIVE (1h), key 0x2b"]);
    disk.change(|state| state.holder = None);
    watch.expect(&["reservation   none"]);

    let pid = Pid::from_child(&watch.child);
    rustix::process::kill_process(pid, Signal::INT).unwrap();
    let status = watch.child.wait().unwrap();
    assert_eq!((status.code(), status.signal()), (None, Some(Signal::INT.as_raw())));
    assert!(helper.arrived().iter().all(|arrived| arrived.cdb[0] == 0x5e && !arrived.is_writable));
}

/// A disk that truncates its list to the allocation length, and says nothing of the rest. The truncated list moves when
/// the first key is unregistered: neither is the key at its end new, nor is a key that it lacks gone.
#[test]
fn truncated_lists_announce_no_changes() {
    let disk = Disk::default();
    let helper = disk.helper();
    let watch = Watch::start(&helper, &[]);
    watch.expect(&["reservation   none"]);
    let fitting = 8192 / 8 - 1;
    disk.change(|state| state.keys = (1..=fitting + 100).collect());
    for key in 1..=fitting {
        watch.expect(&[&format!("registered    {key:#x}")]);
    }
    watch.expect(&["incomplete    there may be more, for which there is no room in an answer"]);
    disk.change(|state| (state.keys, state.holder) = ((2..=fitting + 100).collect(), Some(2)));
    watch.expect(&["reservation   WRITE EXCLUSIVE (1h), key 0x2"]);
    disk.change(|state| state.keys = (3..fitting).chain([5000]).collect());
    watch.expect(&["unregistered  0x2"]);
    watch.expect(&["unregistered  0x3ff", "unregistered  0x400", "complete      1021 registrations"]);
    disk.change(|state| state.keys.retain(|key| *key != 5000));
    watch.expect(&["unregistered  0x1388"]);
}

#[test]
fn trouble_and_recovery_are_printed_once() {
    let disk = Disk::default();
    let helper = disk.helper();
    let watch = Watch::start(&helper, &[]);
    watch.expect(&["reservation   none"]);
    let name = helper.device();
    let name = name.display();
    for _ in 0..2 {
        disk.change(|state| state.trouble = Some(SenseCode::NOT_READY));
        watch.expect(&[&format!(
            "trouble       watch {name}: CHECK CONDITION (02h): NOT READY, LOGICAL UNIT NOT READY, CAUSE NOT \
             REPORTABLE (02/04/00)"
        )]);
        let before = helper.arrived().len();
        while helper.arrived().len() < before + 5 {
            thread::sleep(Duration::from_millis(5));
        }
        disk.change(|state| (state.trouble, state.keys) = (None, vec![]));
        watch.expect(&["recovered"]);
    }
}

#[test]
fn watch_names_the_helper_that_is_gone() {
    let disk = Disk::default();
    let helper = disk.helper();
    let watch = Watch::start(&helper, &[]);
    watch.expect(&["reservation   none"]);
    remove_socket(&helper);
    disk.change(|state| state.hangs_up = true);
    let (name, socket) = (helper.device(), helper.socket());
    let (name, socket) = (name.display(), socket.display());
    watch.expect(&[
        &format!(
            "trouble       watch {name}: the connection to the helper was lost after the command was sent: whether it \
             has run is unknown: the helper closed the connection"
        ),
        &format!(
            "trouble       watch {name}: cannot reach the helper at {socket}: No such file or directory (os error 2)"
        ),
    ]);
}

#[test]
fn unit_attention_is_printed() {
    let disk = Disk::default();
    let helper = disk.helper();
    let watch = Watch::start(&helper, &[]);
    watch.expect(&["reservation   none"]);
    disk.change(|state| {
        state.attention = Some(SenseCode::REGISTRATIONS_PREEMPTED);
        state.keys = vec![0x2b];
    });
    watch.expect(&[
        "attention     CHECK CONDITION (02h): UNIT ATTENTION, REGISTRATIONS PREEMPTED (06/2A/05)",
        "registered    0x2b",
    ]);
}

#[test]
fn watch_json_has_one_line_per_change() {
    let disk = Disk::default();
    let helper = disk.helper();
    let watch = Watch::start(&helper, &["--json"]);
    let next = || {
        let line = watch.lines.recv_timeout(LINE_TIMEOUT).unwrap();
        let (head, rest) = line.split_at(r#"{"time": "2026-11-02T12:03:04Z", "#.len());
        assert!(head.starts_with(r#"{"time": "2"#) && head.ends_with(r#"Z", "#), "{line}");
        rest.to_owned()
    };
    assert_eq!(next(), r#""event": "reservation", "reservation": null}"#);
    disk.change(|state| state.keys = vec![0x1a]);
    assert_eq!(next(), r#""event": "registered", "key": "0x1a"}"#);
}

#[test]
fn unwatchable_device_fails_at_once() {
    let helper = Helper::always(Answer::CheckCondition(SenseCode::INVALID_OPCODE));
    let (status, output, errors) = run_with(&helper, &["watch", "DEVICE"]);
    assert_eq!((status, output.as_str()), (Some(9), ""));
    assert!(errors.contains("pr-ctl probe"), "{errors}");
}

#[test]
fn unit_attention_at_start_is_skipped() {
    let attentions = Mutex::new(2);
    let helper = Helper::start(move |_| {
        let mut left = attentions.lock().unwrap();
        if *left > 0 {
            *left -= 1;
            return Answer::CheckCondition(SenseCode::POWER_ON_OR_RESET);
        }
        Answer::Good(vec![0; 8])
    });
    Watch::start(&helper, &[]).expect(&["reservation   none"]);
}
