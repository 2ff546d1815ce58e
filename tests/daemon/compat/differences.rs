//! Where the C helper's answers differ from ours. The reasons are in docs/compatibility.md, under the same names.

use std::os::unix::process::ExitStatusExt as _;

use crate::{
    contestant::{Event, Reply},
    corpus::Kind,
    prepared::Prepared,
    request::Request,
};

/// A difference between what the two helpers answer to a request.
pub(crate) struct Difference {
    pub(crate) name: &'static str,
    /// Why we differ.
    pub(crate) why: &'static str,
    /// In which versions of QEMU it has been seen; versions between those that were compared are given the benefit.
    pub(crate) seen_in: fn(Version) -> bool,
    /// Whether it is the reason for these two different answers.
    applies: fn(Both<'_>) -> bool,
}

impl Difference {
    /// The reason for two different answers to a request, ours and the C helper's.
    pub(crate) fn between(request: &Request, ours: &Event, theirs: &Event) -> Option<&'static Self> {
        DIFFERENCES.iter().find(|difference| (difference.applies)(Both { request, ours, theirs }))
    }
}

/// QEMU's version: major and minor number.
pub(crate) type Version = (u32, u32);

const ALWAYS: fn(Version) -> bool = |_| true;

/// All of them. Each is seen at least once, if the helper is of a version that has it.
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

/// A request, and what came of it on either side.
#[derive(Clone, Copy)]
struct Both<'a> {
    request: &'a Request,
    ours: &'a Event,
    theirs: &'a Event,
}

/// Statuses of SAM-5.
const GOOD: u32 = 0x00;
const CHECK_CONDITION: u32 = 0x02;
const BUSY: u32 = 0x08;

/// Sense key, additional sense code and qualifier.
const INVALID_OPCODE: (u8, u8, u8) = (0x5, 0x20, 0x00);
const INVALID_FIELD: (u8, u8, u8) = (0x5, 0x24, 0x00);
const LIST_LENGTH: (u8, u8, u8) = (0x5, 0x1a, 0x00);
const TERMINATED: (u8, u8, u8) = (0xb, 0x00, 0x06);
const TARGET_FAILURE: (u8, u8, u8) = (0x4, 0x44, 0x00);
const READ_ERROR: (u8, u8, u8) = (0x3, 0x11, 0x00);

/// Numbers of errno.
const EBADF: i32 = 9;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;
const ENOTTY: i32 = 25;
const EILSEQ: i32 = 84;

/// What the C helper always asks the disk for.
const THEIR_TRANSFER: i64 = 8192;

/// `SIGABRT`.
const ABORTED: i32 = 6;

impl Both<'_> {
    /// Both replies, if there are two.
    fn replies(&self) -> Option<(&Reply, &Reply)> {
        match (self.ours, self.theirs) {
            (Event::Reply(ours), Event::Reply(theirs)) => Some((ours, theirs)),
            _ => None,
        }
    }

    /// Both replies, and what the disk has been prepared to answer, if it was asked.
    fn answered(&self) -> Option<(&Reply, &Reply, &Prepared)> {
        let (ours, theirs) = self.replies()?;
        let answer = self.request.answer.as_ref().filter(|_| self.request.reaches_disk())?;
        Some((ours, theirs, answer))
    }

    fn we_close(&self) -> bool {
        *self.ours == Event::Closed && !matches!(self.theirs, Event::Crashed(_))
    }
}

fn stray_descriptor(both: Both<'_>) -> bool {
    !both.request.stray.is_empty() && both.we_close()
}

fn length_above_65535(both: Both<'_>) -> bool {
    both.request.is_out() && both.request.length() > 0xffff && both.we_close()
}

/// The loop device, which stands for a disk here, is not known by its number to be one, so that what the kernel says to an
/// ioctl that there is not counts for it.
fn not_a_disk(both: Both<'_>) -> bool {
    let [kind] = both.request.descriptors[..] else { return false };
    let errno = both.request.answer.as_ref().and_then(|answer| answer.errno).filter(|_| kind.is_disk());
    let refused = !kind.is_disk() || matches!(errno, Some(EBADF | EINVAL | ENOTTY));
    let code = if errno == Some(EINVAL) { INVALID_FIELD } else { TERMINATED };
    both.replies().is_some_and(|(ours, theirs)| {
        refused && ours.is_check_condition(INVALID_OPCODE) && theirs.is_check_condition(code)
    })
}

fn path_only(both: Both<'_>) -> bool {
    let refused = matches!(both.ours, Event::Reply(reply) if reply.is_check_condition(INVALID_OPCODE));
    both.request.descriptors == [Kind::Path] && refused && *both.theirs == Event::Closed
}

/// The simulated disk says the same, unless it has been prepared to say something else.
fn short_parameter_list(both: Both<'_>) -> bool {
    let short = both.request.is_out() && both.request.length() < 24;
    both.answered().is_some_and(|(ours, ..)| short && ours.is_check_condition(LIST_LENGTH))
}

fn memory_in_sense(both: Both<'_>) -> bool {
    let read_only =
        both.request.is_out() && matches!(both.request.descriptors[..], [kind] if kind != Kind::ReadWrite);
    both.replies().is_some_and(|(ours, theirs)| {
        let same = theirs.status == CHECK_CONDITION && theirs.sense[..18] == ours.sense[..18];
        read_only && ours.is_check_condition(INVALID_OPCODE) && same && theirs.sense[18..] != ours.sense[18..]
    })
}

fn false_good(both: Both<'_>) -> bool {
    both.answered().is_some_and(|(ours, theirs, answer)| {
        answer.host_status != 0 && ours.status != GOOD && ours.size == 0 && theirs.status == GOOD
    })
}

fn driver_status(both: Both<'_>) -> bool {
    both.answered().is_some_and(|(ours, theirs, answer)| {
        let driver = answer.host_status == 0 && answer.driver_status.is_some_and(|status| status != 0);
        driver && ours.status != GOOD && ours.size == 0 && matches!(theirs.status, GOOD | BUSY)
    })
}

fn errno(both: Both<'_>) -> bool {
    both.answered().is_some_and(|(ours, theirs, answer)| {
        let code = match answer.errno {
            Some(ENODEV) => TARGET_FAILURE,
            Some(EILSEQ) => READ_ERROR,
            _ => return false,
        };
        ours.is_check_condition(code) && theirs.is_check_condition(TERMINATED)
    })
}

fn no_sense(both: Both<'_>) -> bool {
    both.answered().is_some_and(|(ours, theirs, answer)| {
        // Data that end before the sense key: with zeros behind them it is NO SENSE.
        let is_cut = matches!(answer.sense[..], [0x70..=0x73 | 0xf0..=0xf3] | [0x70 | 0x71 | 0xf0 | 0xf1, _]);
        let nothing = answer.status == 2 && (is_cut || answer.sense.iter().all(|byte| *byte == 0));
        let sent = if is_cut { &answer.sense[..] } else { &[] };
        let theirs_says_nothing = theirs.status == CHECK_CONDITION
            && theirs.sense.starts_with(sent)
            && theirs.sense.iter().skip(sent.len()).all(|byte| *byte == 0);
        nothing && ours.is_check_condition(TERMINATED) && theirs_says_nothing
    })
}

fn unknown_sense_format(both: Both<'_>) -> bool {
    both.answered().is_some_and(|(ours, theirs, answer)| {
        let unknown = answer.status == 2 && !matches!(answer.sense[..], [0x70..=0x73 | 0xf0..=0xf3, ..] | []);
        unknown && ours.is_check_condition(TERMINATED) && theirs.sense.starts_with(&answer.sense)
    })
}

fn sense_without_check_condition(both: Both<'_>) -> bool {
    both.answered().is_some_and(|(ours, theirs, answer)| {
        let same = ours.status == u32::from(answer.status) && ours.status == theirs.status;
        let sent = ours.sense.iter().all(|byte| *byte == 0) && theirs.sense.starts_with(&answer.sense);
        same && ours.status != CHECK_CONDITION && sent && !answer.sense.is_empty()
    })
}

/// What the C helper takes the disk to have sent, of what the driver says was not.
fn their_size(answer: &Prepared) -> Option<i64> {
    answer.resid.map(|resid| THEIR_TRANSFER - i64::from(resid))
}

fn residual_crash(both: Both<'_>) -> bool {
    let impossible = both
        .request
        .answer
        .as_ref()
        .and_then(their_size)
        .is_some_and(|size| !(0..=THEIR_TRANSFER).contains(&size));
    let aborted = matches!(both.theirs, Event::Crashed(status) if status.signal() == Some(ABORTED));
    both.request.is_in()
        && impossible
        && aborted
        && matches!(both.ours, Event::Reply(reply) if reply.status == GOOD)
}

/// Whether both payloads begin with what the disk wrote, as far as they reach, and ours has nothing but zeros behind it.
fn have_the_disks_data(ours: &Reply, theirs: &Reply, answer: &Prepared) -> bool {
    let usual = || ours.payload.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let written = answer.data.as_ref().map_or_else(usual, |data| data.len().min(ours.payload.len()));
    let (before, behind) = ours.payload.split_at(written);
    let common = before.len().min(theirs.payload.len());
    theirs.payload[..common] == before[..common] && behind.iter().all(|byte| *byte == 0)
}

fn memory_in_data(both: Both<'_>) -> bool {
    both.answered().is_some_and(|(ours, theirs, answer)| {
        let good = (ours.status, ours.size, &ours.sense) == (GOOD, theirs.size, &theirs.sense);
        good && answer.resid.is_some() && have_the_disks_data(ours, theirs, answer)
    })
}

fn residual(both: Both<'_>) -> bool {
    let length = i64::try_from(both.request.length()).unwrap_or(i64::MAX);
    both.answered().is_some_and(|(ours, theirs, answer)| {
        let (Some(resid), Some(theirs_sent)) = (answer.resid, their_size(answer)) else { return false };
        let good = ours.status == GOOD && theirs.status == GOOD && ours.size != theirs.size;
        let sizes = (i64::from(ours.size), i64::from(theirs.size));
        let expected = ((length - i64::from(resid)).clamp(0, length), theirs_sent.clamp(0, length));
        good && sizes == expected && have_the_disks_data(ours, theirs, answer)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No two answers are equal by a rule alone.
    #[test]
    fn a_reply_for_a_reply_of_a_healthy_disk_has_no_excuse() {
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
            for ours in &events {
                for theirs in &events {
                    assert!(Difference::between(&request, ours, theirs).is_none(), "{ours:?} {theirs:?}");
                }
            }
        }
    }
}
