//! Every status and every error number, at every step.

use block_pr::Status as NvmeStatus;

use super::*;
use crate::block::model::Fault;

/// One command of each kind that succeeds for host A: A has key a1 and holds a reservation of type 5, B has key b2.
const COMMANDS: [(u8, u8, u64, u64); 9] = [
    (REGISTER, 0, 0xa1, 0xa2),
    (REGISTER, 0, 0xa1, 0),
    (IGNORE, 0, 0, 0xa2),
    (IGNORE, 0, 0, 0),
    (RESERVE, 5, 0xa1, 0),
    (RELEASE, 5, 0xa1, 0),
    (CLEAR, 0, 0xa1, 0),
    (PREEMPT, 5, 0xa1, 0xb2),
    (PREEMPT_AND_ABORT, 5, 0xa1, 0xb2),
];

fn model() -> Model {
    let model = Model::new(Flavour::Standard);
    let [a, b] = [0, 1].map(|number| model.host(number));
    assert_eq!(change(a, REGISTER, 0, 0, 0xa1), GOOD);
    assert_eq!(change(b, REGISTER, 0, 0, 0xb2), GOOD);
    assert_eq!(change(a, RESERVE, 5, 0xa1, 0), GOOD);
    model
}

/// Returns the answer if the command's step number `after` ends so, and how many steps were sent after that. `None` if the
/// command has fewer steps.
fn with_fault(
    command: (u8, u8, u64, u64),
    after: usize,
    result: Result<NvmeStatus, i32>,
    has_effect: bool,
) -> Option<((u8, u32), usize, Model)> {
    let model = model();
    model.fault.set(Some(Fault { after, result, has_effect }));
    model.sent.set(0);
    let (action, kind, key, new) = command;
    let answer = change(model.host(0), action, kind, key, new);
    let later = model.sent.get().saturating_sub(after + 1);
    model.fault.take().is_none().then_some((answer, later, model))
}

/// GOOD after a status that is no success: only if the state is what a GOOD command leaves.
#[test]
fn no_status_leads_to_wrong_good() {
    for command in COMMANDS {
        let (action, kind, key, new) = command;
        let done = model();
        assert_eq!(change(done.host(0), action, kind, key, new), GOOD, "{command:x?}");
        for after in 0.. {
            if with_fault(command, after, Ok(NvmeStatus::new(1)), false).is_none() {
                assert!(after >= 1, "{command:x?} has a step");
                break;
            }
            for code in 1..=0x7ff {
                let fault = with_fault(command, after, Ok(NvmeStatus::new(code)), false);
                let (answer, _, model) = fault.unwrap();
                if answer == GOOD {
                    let keys = |model: &Model| read(model.host(1), READ_KEYS, 8192)[8..].to_owned();
                    let reservation =
                        |model: &Model| read(model.host(1), READ_RESERVATION, 24)[8..].to_owned();
                    let context = format!("{command:x?}, step {after}, status {code:x}");
                    assert_eq!(
                        (keys(&model), reservation(&model)),
                        (keys(&done), reservation(&done)),
                        "{context}"
                    );
                }
            }
        }
    }
}

/// A command that was cancelled may have taken effect: it is a failure, and nothing is sent again.
#[test]
fn cancelled_step_is_never_good_nor_repeated() {
    for command in COMMANDS {
        for has_effect in [false, true] {
            for after in 0.. {
                let Some((answer, later, _)) = with_fault(command, after, Err(libc::EINTR), has_effect)
                else {
                    break;
                };
                assert_eq!(answer, check(0x0b_0800), "{command:x?}, step {after}");
                assert_eq!(later, 0, "{command:x?}, step {after}");
            }
        }
    }
}

#[test]
fn no_error_number_is_good() {
    for command in COMMANDS {
        for after in 0..4 {
            for errno in 1..=200 {
                if let Some((answer, later, _)) = with_fault(command, after, Err(errno), false) {
                    assert_ne!(answer, GOOD, "{command:x?}, step {after}, errno {errno}");
                    // Identify tells why the kernel did not permit the command.
                    let identifies = usize::from([libc::EPERM, libc::EACCES].contains(&errno));
                    assert!(later <= identifies, "{command:x?}, step {after}, errno {errno}");
                }
            }
        }
    }
}

/// BUSY, or a conflict, would tell the guest that nothing was changed.
#[test]
fn failed_verification_is_an_aborted_command() {
    for command in [(PREEMPT, 5, 0xa1, 0xb2), (RELEASE, 5, 0xa1, 0)] {
        let is_preempt = command.0 == PREEMPT;
        let last = if is_preempt { 2 } else { 1 };
        for result in [
            Ok(NvmeStatus::RESERVATION_CONFLICT),
            Ok(NvmeStatus::INTERRUPTED),
            Ok(NvmeStatus::INVALID_OPCODE),
            Ok(NvmeStatus::INVALID_NAMESPACE),
            Err(libc::ENOMEM),
            Err(libc::ENOTTY),
            Err(libc::EINVAL),
        ] {
            let (answer, _, _) = with_fault(command, last, result, false).unwrap();
            assert_eq!(answer, check(0x0b_0006), "{command:x?}, {result:?}");
        }
    }
}

/// Statuses and error numbers of a RESERVE, in SCSI.
#[test]
fn statuses_are_those_of_scsi() {
    let of = |result| with_fault((RESERVE, 5, 0xa1, 0), 0, result, false).unwrap().0;
    let other = check(0x0b_0006);
    for code in 1..=0x7ff {
        let expected = match code {
            0x001 => check(0x05_2000),
            0x002 => check(0x05_2400),
            0x006 => check(0x04_4400),
            0x00b => check(0x05_2500),
            0x021 => BUSY,
            0x082 => check(0x02_0400),
            0x083 => CONFLICT,
            0x300..=0x303 | 0x360 | 0x370 | 0x371 => check(0x0b_0800),
            _ => other,
        };
        assert_eq!(of(Ok(NvmeStatus::new(code))), expected, "{code:x}");
    }
    for errno in 1..=200 {
        let expected = match errno {
            libc::ENOTTY | libc::EOPNOTSUPP | libc::EBADF => check(0x05_2000),
            libc::ENODEV | libc::ENXIO => check(0x04_4400),
            libc::EINTR | libc::EAGAIN => check(0x0b_0800),
            libc::ENOMEM => BUSY,
            _ => other,
        };
        assert_eq!(of(Err(errno)), expected, "{errno}");
    }
    // Of other changes the parameter list is to blame.
    let (answer, _, _) = with_fault((CLEAR, 0, 0xa1, 0), 0, Ok(NvmeStatus::INVALID_FIELD), false).unwrap();
    assert_eq!(answer, check(0x05_2600));
}

#[test]
fn refusals_name_the_remedy() {
    let outcome = |result| {
        let model = model();
        model.fault.set(Some(Fault { after: 0, result, has_effect: false }));
        send(model.host(0), &[0x5f, CLEAR, 0, 0, 0, 0, 0, 0, 24, 0], &[0; 24]).0
    };
    let Outcome::Refused(refusal) = outcome(Ok(NvmeStatus::INVALID_OPCODE)) else { panic!() };
    assert_eq!(refusal.label(), "no_reservations");
    assert!(refusal.to_string().contains("resv_enable"), "{refusal}");
    let Outcome::Failed(failure) = outcome(Err(libc::EACCES)) else { panic!() };
    assert!(failure.cause().to_string().contains("CAP_SYS_ADMIN"), "{}", failure.cause());
    // A controller without reservations does not list the commands, so the kernel denies them.
    let mut none = Model::new(Flavour::Standard);
    none.rescap = 0;
    for action in [READ_KEYS, CAPABILITIES] {
        none.fault.set((action == READ_KEYS).then_some(Fault {
            after: 0,
            result: Err(libc::EACCES),
            has_effect: false,
        }));
        let (cdb, mut sense) = ([0x5e, action, 0, 0, 0, 0, 0, 0, 8, 0], [0; 96]);
        let mut command = Command { cdb: &cdb, data: Data::In(&mut [0; 8]), sense: &mut sense };
        let host = none.host(0);
        let outcome = execute(host, Duration::from_secs(1), &identity(host), &mut command);
        assert!(matches!(&outcome, Outcome::Refused(why) if why.label() == "no_reservations"), "{outcome:?}");
    }
}
