//! The message with a worker's answer to a command.
//!
//! | bytes | content |
//! |---|---|
//! | 0 | 1: the device's answer, 2: failed, 3: rejected, 4: refused |
//! | 1 | SCSI status |
//! | 2 | 1 if bytes 3-5 are sense key, ASC and ASCQ |
//! | 6 | index of the label of the cause or refusal |
//! | 7-8 | length of the text of the cause or refusal |
//! | 9-10, 11-12 | length of the sense data and of the data |
//! | 13- | text, sense data, data |

use bytes::{Buf as _, BufMut as _};
use pr_backend::{Cause, Failure, Outcome, Refusal};
use pr_proto::{DATA_MAX, SENSE_LEN};
use scsi_sense::{SenseCode, SenseKey, Status};

use crate::{cause, refusal, text};

/// Length of the fields before the text.
const FIELDS: usize = 13;

/// Maximum length of the text. A longer text is cut.
const TEXT_MAX: usize = 512;

/// Maximum length of a message.
pub(crate) const LENGTH_MAX: usize = FIELDS + TEXT_MAX + SENSE_LEN + DATA_MAX;

const DEVICE: u8 = 1;
const FAILED: u8 = 2;
const REJECTED: u8 = 3;
const REFUSED: u8 = 4;

/// A parsed message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply<'a> {
    pub(crate) outcome: Outcome,
    pub(crate) sense: &'a [u8],
    pub(crate) data: &'a [u8],
}

/// Returns the message of `outcome` up to its sense data and data, which follow with the lengths that `outcome` has.
///
/// The text is cut to [`TEXT_MAX`] bytes, and its control characters are replaced. A cause with an unknown label gets the
/// label [`cause::OTHER`]. Returns `None` if a length does not fit its field or a refusal has an unknown label.
pub(crate) fn encode_head(outcome: &Outcome) -> Option<Vec<u8>> {
    let no_text = String::new();
    let (tag, status, code, label, text, sense_len, transferred) = match outcome {
        &Outcome::Device { status, transferred, sense_len } => {
            (DEVICE, status, None, 0, no_text, sense_len, transferred)
        }
        Outcome::Failed(failure) => {
            let cause = failure.cause();
            let label = index(cause::LABELS, cause.label()).or_else(|| index(cause::LABELS, cause::OTHER))?;
            (FAILED, failure.status(), failure.sense(), label, cause.to_string(), 0, 0)
        }
        Outcome::Rejected(code) => (REJECTED, outcome.status(), Some(*code), 0, no_text, 0, 0),
        Outcome::Refused(refusal) => {
            let label = index(refusal::LABELS, refusal.label())?;
            (REFUSED, outcome.status(), None, label, refusal.to_string(), 0, 0)
        }
    };
    let text = text::printable(&text, TEXT_MAX);
    let mut head = Vec::with_capacity(FIELDS + text.len());
    head.put_u8(tag);
    head.put_u8(status.0);
    head.put_slice(&match code {
        Some(SenseCode { key, additional }) => [1, key.code(), additional.asc, additional.ascq],
        None => [0; 4],
    });
    head.put_u8(label);
    for length in [text.len(), sense_len, transferred] {
        head.put_u16(length.try_into().ok()?);
    }
    head.put_slice(text.as_bytes());
    Some(head)
}

/// Parses a message, the answer to a command with room for `data_max` bytes of data.
///
/// A worker runs foreign code on foreign data and is not trusted. Returns `None` if the message is not exactly as
/// [`encode_head`] writes it, or if its parts contradict each other. Invariant (no failure reads as success): GOOD is the
/// device's own status, without sense data and with no more data than there is room for.
pub(crate) fn decode(bytes: &[u8], data_max: usize) -> Option<Reply<'_>> {
    let mut fields = bytes;
    let (tag, status) = (fields.try_get_u8().ok()?, Status(fields.try_get_u8().ok()?));
    let mut codes = [0; 4];
    fields.try_copy_to_slice(&mut codes).ok()?;
    let [has_code, key, asc, ascq] = codes;
    let code = (has_code == 1).then(|| SenseCode::new(SenseKey::new(key), asc, ascq));
    let label = usize::from(fields.try_get_u8().ok()?);
    let mut length = || fields.try_get_u16().ok().map(usize::from);
    let (text_len, sense_len, transferred) = (length()?, length()?, length()?);
    let (text, rest) = fields.split_at_checked(text_len)?;
    let text = text::parse(text, TEXT_MAX)?;
    let (sense, data) = rest.split_at_checked(sense_len)?;
    let outcome = match tag {
        DEVICE => Outcome::Device { status, transferred, sense_len },
        FAILED => {
            let cause = Cause::new(cause::LABELS.get(label)?, text.to_owned());
            // `Failure::new` replaces a status that initiators would read as success; then `is_canonical` is false.
            Outcome::Failed(Failure::new(status, code, cause))
        }
        REJECTED => Outcome::Rejected(code.filter(|code| code.key.is_failure())?),
        REFUSED => Outcome::Refused(Refusal::new(refusal::LABELS.get(label)?, text.to_owned())),
        _ => return None,
    };
    let is_consistent = match outcome {
        Outcome::Device { .. } => {
            (status == Status::GOOD || data.is_empty())
                && (status == Status::CHECK_CONDITION) != sense.is_empty()
        }
        _ => true,
    };
    let fits = sense.len() <= SENSE_LEN && data.len() == transferred && data.len() <= data_max;
    // Each outcome has exactly one encoding. Any other message does not come from a healthy worker.
    let head = bytes.get(..FIELDS.checked_add(text_len)?)?;
    let is_canonical = encode_head(&outcome).is_some_and(|encoded| encoded == head);
    (is_consistent && fits && is_canonical).then_some(Reply { outcome, sense, data })
}

/// Returns the index of `label` in `labels`.
fn index(labels: &[&str], label: &str) -> Option<u8> {
    labels.iter().position(|other| *other == label)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pr_backend::{Backend as _, DeviceId, Scsi};
    use proptest::prelude::*;

    use super::*;

    const MAP: DeviceId = DeviceId::Block { major: 253, minor: 1 };
    const CODE: SenseCode = SenseCode::INVALID_FIELD_IN_CDB;

    fn device(status: Status, transferred: usize, sense_len: usize) -> Outcome {
        Outcome::Device { status, transferred, sense_len }
    }

    /// Returns the message of an outcome, with arbitrary sense data and data of its lengths.
    fn message(outcome: &Outcome) -> Vec<u8> {
        let (transferred, sense_len) = match *outcome {
            Outcome::Device { transferred, sense_len, .. } => (transferred, sense_len),
            _ => (0, 0),
        };
        [&encode_head(outcome).unwrap()[..], &vec![0x70; sense_len], &vec![1; transferred]].concat()
    }

    /// Returns an outcome of each kind and label.
    fn outcomes() -> Vec<Outcome> {
        let mut outcomes = vec![
            device(Status::GOOD, 24, 0),
            device(Status::GOOD, 0, 0),
            device(Status::CHECK_CONDITION, 0, 18),
            device(Status::RESERVATION_CONFLICT, 0, 0),
            Outcome::Rejected(CODE),
            Outcome::Failed(Failure::busy(cause::suspended())),
            Outcome::Failed(Failure::check_condition(CODE, cause::no_path())),
            Outcome::Refused(refusal::other_map(MAP)),
            Outcome::Refused(refusal::no_multipathd(MAP)),
            Outcome::Refused(Refusal::path_only()),
        ];
        outcomes.extend(cause::LABELS.iter().map(|label| {
            Outcome::Failed(Failure::check_condition(CODE, Cause::new(label, "the text of a cause: \u{e4}")))
        }));
        outcomes.extend(
            refusal::LABELS.iter().map(|label| Outcome::Refused(Refusal::new(label, "the text: \u{20ac}"))),
        );
        outcomes
    }

    #[test]
    fn replies_come_back_whole() {
        for outcome in outcomes() {
            let bytes = message(&outcome);
            let reply = decode(&bytes, 24).unwrap();
            assert_eq!(reply.outcome, outcome);
            if let Outcome::Device { transferred, sense_len, .. } = outcome {
                assert_eq!((reply.sense, reply.data), (&[0x70; 18][..sense_len], &[1; 24][..transferred]));
            }
            for end in 0..bytes.len() {
                assert_eq!(decode(&bytes[..end], 24), None, "{outcome:?}, {end} bytes");
            }
            assert_eq!(decode(&[&bytes[..], &[0]].concat(), 24), None, "{outcome:?}");
        }
    }

    #[test]
    fn labels_and_lengths_fit_their_fields() {
        for labels in [cause::LABELS, refusal::LABELS] {
            assert!(u8::try_from(labels.len()).is_ok());
            for (index, label) in labels.iter().enumerate() {
                assert!(!labels[..index].contains(label), "{label} occurs twice");
            }
        }
        assert!(u16::try_from(TEXT_MAX.max(DATA_MAX).max(SENSE_LEN)).is_ok());
    }

    #[test]
    fn refusals_of_paths_have_labels() {
        for label in Scsi::new(Duration::ZERO).refusal_labels() {
            assert!(refusal::LABELS.contains(label), "{label}");
        }
        assert!(refusal::LABELS.contains(&Refusal::path_only().label()));
        assert_eq!(encode_head(&Outcome::Refused(Refusal::new("no_such_label", "text"))), None);
    }

    #[test]
    fn texts_are_cut_and_made_printable() {
        let texts =
            [("a\nb\u{1b}[1m", "a b [1m".to_owned()), (&"\u{20ac}".repeat(999), "\u{20ac}".repeat(170))];
        for (text, expected) in texts {
            let cause = Cause::new("library", text.to_owned());
            let bytes = message(&Outcome::Failed(Failure::busy(cause)));
            match decode(&bytes, 0).unwrap().outcome {
                Outcome::Failed(failure) => assert_eq!(failure.cause().to_string(), expected),
                other => panic!("{other:?}"),
            }
        }
        let unknown = Outcome::Failed(Failure::busy(Cause::new("no_such_label", "text")));
        match decode(&message(&unknown), 0).unwrap().outcome {
            Outcome::Failed(failure) => {
                assert_eq!((failure.cause().label(), failure.cause().to_string()), ("other", "text".into()));
            }
            other => panic!("{other:?}"),
        }
    }

    /// The remedy at the end of a text must not be cut off.
    #[test]
    fn texts_of_the_library_are_not_cut() {
        for failure in mpathpersist::Failure::ALL {
            let text = cause::library(*failure).to_string();
            assert!(text.len() <= TEXT_MAX, "{} bytes: {text}", text.len());
        }
    }

    #[test]
    fn malformed_texts_and_labels_are_no_reply() {
        let good = message(&Outcome::Failed(Failure::busy(Cause::new("library", "text"))));
        assert!(decode(&good, 0).is_some());
        for bad in [&b"te\nt"[..], b"te\x00t", b"te\xfft", b"te\xc2\x9b", b"text\x7f"] {
            let mut bytes = good.clone();
            bytes[8] = bad.len().try_into().unwrap();
            bytes.splice(FIELDS.., bad.iter().copied());
            assert_eq!(decode(&bytes, 0), None, "{bad:?}");
        }
        for label in u8::try_from(cause::LABELS.len()).unwrap()..=u8::MAX {
            let mut bytes = good.clone();
            bytes[6] = label;
            assert_eq!(decode(&bytes, 0), None, "cause {label}");
        }
        let refused = message(&Outcome::Refused(refusal::other_map(MAP)));
        for label in u8::try_from(refusal::LABELS.len()).unwrap()..=u8::MAX {
            let mut bytes = refused.clone();
            bytes[6] = label;
            assert_eq!(decode(&bytes, 0), None, "refusal {label}");
        }
        let mut long = good.clone();
        long.truncate(FIELDS);
        long[7..9].copy_from_slice(&513_u16.to_be_bytes());
        long.extend([b'a'; 513]);
        assert_eq!(decode(&long, 0), None, "513 bytes of text");
    }

    #[test]
    fn surplus_data_is_no_reply() {
        for outcome in [
            device(Status::GOOD, 25, 0),
            device(Status::GOOD, 0, 18),
            device(Status::CHECK_CONDITION, 0, 0),
            device(Status::CHECK_CONDITION, 1, 18),
            device(Status::CHECK_CONDITION, 0, 97),
            device(Status::RESERVATION_CONFLICT, 1, 0),
        ] {
            assert_eq!(decode(&message(&outcome), 24), None, "{outcome:?}");
        }
    }

    /// Tries each status and sense key in the place of a failure's own.
    #[test]
    fn no_failure_reads_as_success() {
        let failed = |status: u8, code: [u8; 4]| {
            let mut bytes = message(&Outcome::Failed(Failure::busy(cause::no_path())));
            bytes[1] = status;
            bytes[2..6].copy_from_slice(&code);
            bytes
        };
        for tag in [FAILED, REJECTED, REFUSED] {
            for status in 0..=u8::MAX {
                for code in [[0; 4]].into_iter().chain((0..=0xf).map(|key| [1, key, 0x44, 0])) {
                    let mut bytes = failed(status, code);
                    bytes[0] = tag;
                    let Some(reply) = decode(&bytes, 24) else { continue };
                    let completion = reply.outcome.completion(&mut [0; 96]);
                    assert!(completion.status.is_failure(), "{reply:?}");
                    assert_eq!(completion.status, Status(status), "{reply:?}");
                    assert!(completion.status != Status::CHECK_CONDITION || completion.sense_len == 18);
                }
            }
        }
        for (status, code) in
            [(0, [0; 4]), (2, [0; 4]), (2, [1, 0, 0, 0]), (2, [1, 1, 0, 0]), (8, [1, 5, 0, 0])]
        {
            assert_eq!(decode(&failed(status, code), 24), None, "{status} {code:?}");
        }
        for key in [0, 1, 0xf] {
            let rejected = Outcome::Rejected(SenseCode::new(SenseKey::new(key), 0, 0));
            assert_eq!(decode(&message(&rejected), 24), None, "{rejected:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..128),
            tag in 0_u8..6,
        ) {
            let _ = decode(&bytes, 24);
            if let Some(first) = bytes.first_mut() {
                *first = tag;
            }
            let _ = decode(&bytes, 24);
        }

        /// A decoded message encodes to the same bytes, so no two messages have the same meaning.
        #[test]
        fn changed_bit_changes_the_meaning(
            index in 0..outcomes().len(),
            at in any::<proptest::sample::Index>(),
        ) {
            let outcome = &outcomes()[index];
            let original = message(outcome);
            let mut bytes = original.clone();
            let head = encode_head(outcome).unwrap().len();
            let bit = at.index(head * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Some(reply) = decode(&bytes, 24) {
                prop_assert_ne!(&reply.outcome, outcome);
                prop_assert_eq!(message(&reply.outcome).len(), bytes.len());
                prop_assert_eq!(&encode_head(&reply.outcome).unwrap()[..], &bytes[..head]);
            }
        }
    }
}
