//! Permitted differences between pr-helper and the C helper. Their reasons are in docs/compatibility.md under
//! the same names.

use std::os::unix::process::ExitStatusExt as _;

use crate::{
    contestant::{Event, Reply},
    corpus::Kind,
    prepared::Prepared,
    request::Request,
};

/// A difference between the replies of the two helpers.
pub(crate) struct Difference {
    pub(crate) name: &'static str,
    /// Why pr-helper differs. It is part of the line in docs/compatibility.md.
    pub(crate) why: &'static str,
    /// Returns whether a version of QEMU has the difference. Versions between the compared ones are assumed
    /// not to have it.
    pub(crate) seen_in: fn(Version) -> bool,
    /// Returns whether it explains these two different replies.
    applies: fn(Both<'_>) -> bool,
}

impl Difference {
    /// Returns the first difference that explains two different events for a request.
    pub(crate) fn between(request: &Request, rust: &Event, qemu: &Event) -> Option<&'static Self> {
        DIFFERENCES.iter().find(|difference| (difference.applies)(Both { request, rust, qemu }))
    }
}

/// QEMU's version: major and minor number.
pub(crate) type Version = (u32, u32);

const ALWAYS: fn(Version) -> bool = |_| true;

/// All permitted differences. Each must be seen at least once with a version of QEMU that has it.
pub(crate) const DIFFERENCES: &[Difference] = &[
    Difference {
        name: "stray-descriptor",
        why: "the protocol has it a violation",
        seen_in: ALWAYS,
        applies: stray_descriptor,
    },
    Difference {
        name: "length-above-65535",
        why: "what it takes for the next command is the guest's data",
        seen_in: ALWAYS,
        applies: length_above_65535,
    },
    Difference {
        name: "not-a-disk",
        why: "a guest repeats what was aborted, and this cannot succeed",
        seen_in: ALWAYS,
        applies: not_a_disk,
    },
    Difference {
        name: "path-only",
        why: "the connection is in step, and can be used for other disks",
        seen_in: |version| version >= (11, 1),
        applies: path_only,
    },
    Difference {
        name: "short-parameter-list",
        why: "no list is that short",
        seen_in: ALWAYS,
        applies: short_parameter_list,
    },
    Difference {
        name: "memory-in-sense",
        why: "it is not the client's to see",
        seen_in: |version| version <= (7, 2),
        applies: memory_in_sense,
    },
    Difference {
        name: "false-good",
        why: "a PREEMPT that failed must not look done",
        seen_in: ALWAYS,
        applies: false_good,
    },
    Difference {
        name: "driver-status",
        why: "GOOD is wrong, and BUSY would say that nothing was begun",
        seen_in: ALWAYS,
        applies: driver_status,
    },
    Difference {
        name: "errno",
        why: "a disk that is gone does not come back by repeating",
        seen_in: ALWAYS,
        applies: errno,
    },
    Difference {
        name: "shortage",
        why: "nothing was sent, and memory comes back",
        seen_in: ALWAYS,
        applies: shortage,
    },
    Difference {
        name: "unknown-status",
        why: "clients take it for success, and it answers no such command",
        seen_in: ALWAYS,
        applies: unknown_status,
    },
    Difference {
        name: "deferred-sense",
        why: "it is about an earlier command, and this one was not executed",
        seen_in: ALWAYS,
        applies: deferred_sense,
    },
    Difference {
        name: "no-sense",
        why: "zeros read as NO SENSE, which clients take for success",
        seen_in: ALWAYS,
        applies: no_sense,
    },
    Difference {
        name: "unknown-sense-format",
        why: "a guest cannot tell what happened",
        seen_in: ALWAYS,
        applies: unknown_sense_format,
    },
    Difference {
        name: "sense-without-check-condition",
        why: "the protocol has it with CHECK CONDITION alone",
        seen_in: ALWAYS,
        applies: sense_without_check_condition,
    },
    Difference {
        name: "residual-crash",
        why: "a disk must not stop the helper of all its clients",
        seen_in: ALWAYS,
        applies: residual_crash,
    },
    Difference {
        name: "memory-in-data",
        why: "one guest's data is not another's",
        seen_in: ALWAYS,
        applies: memory_in_data,
    },
    Difference {
        name: "residual",
        why: "the disk is asked for what the guest wants, no more",
        seen_in: ALWAYS,
        applies: residual,
    },
];

/// A request with the events of both helpers.
#[derive(Clone, Copy)]
struct Both<'a> {
    request: &'a Request,
    rust: &'a Event,
    qemu: &'a Event,
}

/// SCSI statuses of SAM-5.
const GOOD: u32 = 0x00;
const CHECK_CONDITION: u32 = 0x02;
const BUSY: u32 = 0x08;

/// Sense codes: sense key, additional sense code and qualifier.
const INVALID_OPCODE: (u8, u8, u8) = (0x5, 0x20, 0x00);
const INVALID_FIELD: (u8, u8, u8) = (0x5, 0x24, 0x00);
const LIST_LENGTH: (u8, u8, u8) = (0x5, 0x1a, 0x00);
const TERMINATED: (u8, u8, u8) = (0xb, 0x00, 0x06);
const TARGET_FAILURE: (u8, u8, u8) = (0x4, 0x44, 0x00);
const READ_ERROR: (u8, u8, u8) = (0x3, 0x11, 0x00);

/// Linux numbers of errno.
const EBADF: i32 = 9;
const ENOMEM: i32 = 12;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;
const ENOTTY: i32 = 25;
const EILSEQ: i32 = 84;

/// The transfer length of all IN commands of the C helper.
const QEMU_TRANSFER: i64 = 8192;

/// `SIGABRT`.
const ABORTED: i32 = 6;

impl Both<'_> {
    /// Returns both replies, if both events are replies.
    fn replies(&self) -> Option<(&Reply, &Reply)> {
        match (self.rust, self.qemu) {
            (Event::Reply(rust), Event::Reply(qemu)) => Some((rust, qemu)),
            _ => None,
        }
    }

    /// Returns both replies and the prepared answer of the disk, if the command reached it and has one.
    fn answered(&self) -> Option<(&Reply, &Reply, &Prepared)> {
        let (rust, qemu) = self.replies()?;
        let answer = self.request.answer.as_ref().filter(|_| self.request.reaches_disk())?;
        Some((rust, qemu, answer))
    }

    /// Returns whether pr-helper closed the connection and the C helper did not crash.
    fn rust_closes(&self) -> bool {
        *self.rust == Event::Closed && !matches!(self.qemu, Event::Crashed(_))
    }
}

fn stray_descriptor(both: Both<'_>) -> bool {
    !both.request.stray.is_empty() && both.rust_closes()
}

fn length_above_65535(both: Both<'_>) -> bool {
    both.request.is_out() && both.request.length() > 0xffff && both.rust_closes()
}

/// pr-helper does not know the loop device, which acts as the disk here, as a disk by its number. It
/// therefore takes an errno that the kernel returns for an unknown ioctl as proof that it is not a disk.
fn not_a_disk(both: Both<'_>) -> bool {
    let [kind] = both.request.descriptors[..] else { return false };
    let errno = both.request.answer.as_ref().and_then(|answer| answer.errno).filter(|_| kind.is_disk());
    let refused = !kind.is_disk() || matches!(errno, Some(EBADF | EINVAL | ENOTTY));
    let code = if errno == Some(EINVAL) { INVALID_FIELD } else { TERMINATED };
    both.replies().is_some_and(|(rust, qemu)| {
        refused && rust.is_check_condition(INVALID_OPCODE) && qemu.is_check_condition(code)
    })
}

fn path_only(both: Both<'_>) -> bool {
    let refused = matches!(both.rust, Event::Reply(reply) if reply.is_check_condition(INVALID_OPCODE));
    both.request.descriptors == [Kind::Path] && refused && *both.qemu == Event::Closed
}

/// The simulated disk has the same reply, unless an answer is prepared for the request.
fn short_parameter_list(both: Both<'_>) -> bool {
    let short = both.request.is_out() && both.request.length() < 24;
    both.answered().is_some_and(|(rust, ..)| short && rust.is_check_condition(LIST_LENGTH))
}

fn memory_in_sense(both: Both<'_>) -> bool {
    let read_only =
        both.request.is_out() && matches!(both.request.descriptors[..], [kind] if kind != Kind::ReadWrite);
    both.replies().is_some_and(|(rust, qemu)| {
        let same = qemu.status == CHECK_CONDITION && qemu.sense[..18] == rust.sense[..18];
        read_only && rust.is_check_condition(INVALID_OPCODE) && same && qemu.sense[18..] != rust.sense[18..]
    })
}

fn false_good(both: Both<'_>) -> bool {
    both.answered().is_some_and(|(rust, qemu, answer)| {
        answer.host_status != 0 && rust.status != GOOD && rust.size == 0 && qemu.status == GOOD
    })
}

fn driver_status(both: Both<'_>) -> bool {
    both.answered().is_some_and(|(rust, qemu, answer)| {
        let driver = answer.host_status == 0 && answer.driver_status.is_some_and(|status| status != 0);
        driver && rust.status != GOOD && rust.size == 0 && matches!(qemu.status, GOOD | BUSY)
    })
}

fn errno(both: Both<'_>) -> bool {
    both.answered().is_some_and(|(rust, qemu, answer)| {
        let code = match answer.errno {
            Some(ENODEV) => TARGET_FAILURE,
            Some(EILSEQ) => READ_ERROR,
            _ => return false,
        };
        rust.is_check_condition(code) && qemu.is_check_condition(TERMINATED)
    })
}

fn shortage(both: Both<'_>) -> bool {
    both.answered().is_some_and(|(rust, qemu, answer)| {
        let is_busy = (rust.status, rust.size) == (BUSY, 0) && rust.sense.iter().all(|byte| *byte == 0);
        answer.errno == Some(ENOMEM) && is_busy && qemu.status == CHECK_CONDITION
    })
}

fn unknown_status(both: Both<'_>) -> bool {
    both.answered().is_some_and(|(rust, qemu, answer)| {
        let known = matches!(answer.status, 0x00 | 0x02 | 0x08 | 0x18 | 0x28 | 0x30 | 0x40);
        !known && rust.is_check_condition(TERMINATED) && qemu.status == u32::from(answer.status)
    })
}

fn deferred_sense(both: Both<'_>) -> bool {
    both.answered().is_some_and(|(rust, qemu, answer)| {
        let key = match answer.sense[..] {
            [0x71 | 0xf1, _, key, ..] | [0x73 | 0xf3, key, ..] => key & 0xf,
            _ => return false,
        };
        let reads_as_success = answer.status == 2 && [0x0, 0x1, 0xf].contains(&key);
        reads_as_success && rust.is_check_condition(TERMINATED) && qemu.sense.starts_with(&answer.sense)
    })
}

fn no_sense(both: Both<'_>) -> bool {
    both.answered().is_some_and(|(rust, qemu, answer)| {
        // Sense data that end before the sense key. Filled up with zeros, they read as NO SENSE.
        let is_cut = matches!(answer.sense[..], [0x70..=0x73 | 0xf0..=0xf3] | [0x70 | 0x71 | 0xf0 | 0xf1, _]);
        let nothing = answer.status == 2 && (is_cut || answer.sense.iter().all(|byte| *byte == 0));
        let sent = if is_cut { &answer.sense[..] } else { &[] };
        let qemu_says_nothing = qemu.status == CHECK_CONDITION
            && qemu.sense.starts_with(sent)
            && qemu.sense.iter().skip(sent.len()).all(|byte| *byte == 0);
        nothing && rust.is_check_condition(TERMINATED) && qemu_says_nothing
    })
}

fn unknown_sense_format(both: Both<'_>) -> bool {
    both.answered().is_some_and(|(rust, qemu, answer)| {
        let unknown = answer.status == 2 && !matches!(answer.sense[..], [0x70..=0x73 | 0xf0..=0xf3, ..] | []);
        unknown && rust.is_check_condition(TERMINATED) && qemu.sense.starts_with(&answer.sense)
    })
}

fn sense_without_check_condition(both: Both<'_>) -> bool {
    both.answered().is_some_and(|(rust, qemu, answer)| {
        let same = rust.status == u32::from(answer.status) && rust.status == qemu.status;
        let sent = rust.sense.iter().all(|byte| *byte == 0) && qemu.sense.starts_with(&answer.sense);
        same && rust.status != CHECK_CONDITION && sent && !answer.sense.is_empty()
    })
}

/// Returns the size that the C helper computes from the prepared residual count.
fn qemu_size(answer: &Prepared) -> Option<i64> {
    answer.resid.map(|resid| QEMU_TRANSFER - i64::from(resid))
}

fn residual_crash(both: Both<'_>) -> bool {
    let impossible = both
        .request
        .answer
        .as_ref()
        .and_then(qemu_size)
        .is_some_and(|size| !(0..=QEMU_TRANSFER).contains(&size));
    let aborted = matches!(both.qemu, Event::Crashed(status) if status.signal() == Some(ABORTED));
    both.request.is_in()
        && impossible
        && aborted
        && matches!(both.rust, Event::Reply(reply) if reply.status == GOOD)
}

/// Returns whether both payloads begin with the data that the disk wrote, and pr-helper's has only zeros
/// after them.
fn have_same_disk_data(rust: &Reply, qemu: &Reply, answer: &Prepared) -> bool {
    let usual = || rust.payload.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let written = answer.data.as_ref().map_or_else(usual, |data| data.len().min(rust.payload.len()));
    let (before, behind) = rust.payload.split_at(written);
    let common = before.len().min(qemu.payload.len());
    qemu.payload[..common] == before[..common] && behind.iter().all(|byte| *byte == 0)
}

fn memory_in_data(both: Both<'_>) -> bool {
    both.answered().is_some_and(|(rust, qemu, answer)| {
        let good = (rust.status, rust.size, &rust.sense) == (GOOD, qemu.size, &qemu.sense);
        good && answer.resid.is_some() && have_same_disk_data(rust, qemu, answer)
    })
}

fn residual(both: Both<'_>) -> bool {
    let length = i64::try_from(both.request.length()).unwrap_or(i64::MAX);
    both.answered().is_some_and(|(rust, qemu, answer)| {
        let (Some(resid), Some(qemu_sent)) = (answer.resid, qemu_size(answer)) else { return false };
        let good = rust.status == GOOD && qemu.status == GOOD && rust.size != qemu.size;
        let sizes = (i64::from(rust.size), i64::from(qemu.size));
        let expected = ((length - i64::from(resid)).clamp(0, length), qemu_sent.clamp(0, length));
        good && sizes == expected && have_same_disk_data(rust, qemu, answer)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No permitted difference may match two different replies of a disk without a prepared answer.
    #[test]
    fn healthy_disk_has_no_permitted_difference() {
        let reply = |status, payload: &[u8]| {
            Event::Reply(Reply {
                status,
                size: payload.len().try_into().unwrap(),
                sense: vec![0; 96],
                payload: payload.to_vec(),
            })
        };
        let mut request =
            Request { cdb: vec![0; 16], descriptors: vec![Kind::ReadWrite], ..Request::default() };
        for opcode in [0x5e, 0x5f] {
            request.cdb[0] = opcode;
            request.cdb[8] = 64;
            let events = [
                reply(GOOD, &[1; 64]),
                reply(GOOD, &[1; 63]),
                reply(0x18, &[]),
                reply(2, &[]),
                Event::Closed,
                Event::Silence,
            ];
            for rust in &events {
                for qemu in &events {
                    assert!(Difference::between(&request, rust, qemu).is_none(), "{rust:?} {qemu:?}");
                }
            }
        }
    }
}
