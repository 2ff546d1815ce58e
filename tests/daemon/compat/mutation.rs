//! Random changes of the cases in the corpus, for input that the corpus does not have. A seed always gives
//! the same cases.

use crate::corpus::{Case, Kind, Message, Step};

/// The random number generator `SplitMix64` (Steele, Lea, Flood: Fast Splittable Pseudorandom Number
/// Generators, 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `bound`, or 0 if `bound` is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.next() % bound).unwrap_or(0)
    }
}

/// Makes one to four changes to the messages of `case`. The result has no step that waits for a reply, and
/// ends its stream after the last message, so that neither side waits for bytes that never come.
pub(crate) fn mutate(case: &Case, random: &mut Random) -> Case {
    let mut messages: Vec<Message> = case.steps.iter().filter_map(Step::message).cloned().collect();
    for _ in 0..=random.below(4) {
        change(&mut messages, random);
    }
    messages.retain(|message| !message.bytes.is_empty());
    let steps = messages.into_iter().map(Step::Send).chain([Step::End]).collect();
    Case { name: format!("{}, mutated", case.name), steps }
}

/// Bytes with a meaning in some field: opcodes, lengths, flags, limits.
const INTERESTING: [u8; 12] = [0x00, 0x01, 0x08, 0x18, 0x20, 0x45, 0x5e, 0x5f, 0x7f, 0x80, 0xfe, 0xff];

fn change(messages: &mut Vec<Message>, random: &mut Random) {
    // Leaves the greeting alone in seven of eight cases.
    let first = usize::from(messages.len() > 1 && random.below(8) > 0);
    let index = first + random.below(messages.len().saturating_sub(first));
    let Some(message) = messages.get_mut(index) else { return };
    let at = random.below(message.bytes.len());
    let Some(byte) = message.bytes.get_mut(at) else { return };
    match random.below(12) {
        0..=2 => *byte ^= 1 << random.below(8),
        3 | 4 => *byte = INTERESTING[random.below(INTERESTING.len())],
        5 => *byte = random.next().to_be_bytes()[0],
        6 => message.bytes.truncate(at),
        7 => {
            let more = vec![INTERESTING[random.below(INTERESTING.len())]; random.below(40)];
            message.bytes.splice(at..at, more);
        }
        8 => {
            let bytes = message.bytes.split_off(at);
            messages.insert(index + 1, Message { bytes, descriptors: Vec::new() });
        }
        9 => {
            let copy = message.clone();
            messages.insert(index, copy);
        }
        10 => message.descriptors = vec![Kind::ALL[random.below(Kind::ALL.len())].1],
        _ => message.descriptors.truncate(random.below(2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{corpus, prepared::Answers};

    #[test]
    fn same_seed_makes_same_cases() {
        let case = &corpus::parse("a: [rw] 5f 00*7 18 00*7 | 01*24", &Answers::new()).unwrap()[0][0];
        let all = |seed| {
            let mut random = Random(seed);
            (0..100).map(|_| mutate(case, &mut random).to_string()).collect::<Vec<_>>()
        };
        assert_eq!(all(1), all(1));
        assert_ne!(all(1), all(2));
        let mut different = all(1);
        different.sort();
        different.dedup();
        assert!(different.len() > 90, "{}", different.len());
        assert!(all(1).iter().all(|case| case.ends_with(" | eof")));
    }
}
