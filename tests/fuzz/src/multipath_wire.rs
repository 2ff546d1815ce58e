//! Messages between the daemon, the supervisor and the workers. Each side may have been taken over.

use arbitrary::Unstructured;
use pr_backend::{Cause, Failure, Outcome, Refusal};
use pr_multipath::fuzzing;
use pr_proto::{DATA_MAX, SENSE_LEN};
use scsi_sense::{SenseCode, SenseKey, Status};

/// The room that a command has for data, unless it is taken from the input.
const ROOM: usize = 24;

/// The first byte chooses the kind of message. Whatever is accepted must be exactly what its encoder writes.
pub fn multipath_wire(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    match kind % 5 {
        0 => assert_canonical(bytes, fuzzing::supervisor_command(bytes)),
        1 => {
            let accepted = fuzzing::worker_request(bytes);
            if accepted.is_some() {
                assert_eq!(plain_request(bytes), Some(()), "{bytes:02x?}");
            }
            assert_canonical(bytes, accepted);
        }
        2 => assert_canonical(bytes, fuzzing::hello(bytes)),
        3 => reply(bytes, ROOM),
        _ => drop(written(&mut Unstructured::new(bytes))),
    }
}

fn assert_canonical(bytes: &[u8], encoded: Option<Vec<u8>>) {
    assert!(encoded.is_none_or(|encoded| encoded == bytes), "{bytes:02x?}");
}

/// Returns something for a well-formed request to a worker.
fn plain_request(bytes: &[u8]) -> Option<()> {
    let is_well_formed = match *bytes {
        [2] => true,
        [1, _, _, _, _, 0x5e, _, _, _, _, _, _, high, low, _] => {
            usize::from(u16::from_be_bytes([high, low])) <= DATA_MAX
        }
        [1, _, _, _, _, 0x5f, _, _, _, _, 0, 0, high, low, _, ref parameters @ ..] => {
            let length = usize::from(u16::from_be_bytes([high, low]));
            length <= DATA_MAX && parameters.len() == length
        }
        _ => false,
    };
    is_well_formed.then_some(())
}

/// Parses a reply. Its outcome is GOOD only as the device's own answer that fits the request, and it has one encoding.
fn reply(bytes: &[u8], room: usize) {
    let Some((outcome, sense, data)) = fuzzing::reply(bytes, room) else { return };
    let head = fuzzing::reply_head(&outcome).expect("its encoding");
    assert_eq!([&head[..], sense, data].concat(), bytes, "{outcome:?}");
    let completion = outcome.completion(&mut [0; SENSE_LEN]);
    if let Outcome::Device { status, transferred, sense_len } = outcome {
        assert_eq!((transferred, sense_len), (data.len(), sense.len()), "{outcome:?}");
        assert!(transferred <= room && sense_len <= SENSE_LEN, "{outcome:?}");
        assert!(status == Status::GOOD || transferred == 0, "{outcome:?}");
        assert_eq!(sense_len > 0, status == Status::CHECK_CONDITION, "{outcome:?}");
    } else {
        assert!(completion.status.is_failure(), "{outcome:?}");
        assert_eq!((sense, data), (&[][..], &[][..]), "{outcome:?}");
    }
}

/// Writes the reply of an outcome, and reads it again.
fn written(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let kind: u8 = input.arbitrary()?;
    let status = Status(input.arbitrary()?);
    let code = SenseCode::new(SenseKey::new(input.arbitrary()?), input.arbitrary()?, input.arbitrary()?);
    let has_code: bool = input.arbitrary()?;
    let (transferred, sense_len): (u16, u8) = input.arbitrary()?;
    let label = *input.choose(&["other", "status", "no_path", "no_such_label", "other_map", "path_only"])?;
    let text = String::from_utf8_lossy(input.bytes(input.len())?).into_owned();
    let outcome = match kind % 4 {
        0 => Outcome::Device { status, transferred: transferred.into(), sense_len: sense_len.into() },
        1 => Outcome::Failed(Failure::new(status, has_code.then_some(code), Cause::new(label, text))),
        2 => Outcome::Rejected(code),
        _ => Outcome::Refused(Refusal::new(label, text)),
    };
    let Some(mut bytes) = fuzzing::reply_head(&outcome) else {
        assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
        return Ok(());
    };
    if let Outcome::Device { transferred, sense_len, .. } = outcome {
        bytes.resize(bytes.len() + sense_len + transferred, 0x70);
    }
    reply(&bytes, DATA_MAX);
    let Some((read, ..)) = fuzzing::reply(&bytes, DATA_MAX) else {
        // Only outcomes that contradict themselves are not accepted, and rejections that read as success.
        let is_wrong = matches!(outcome, Outcome::Device { .. }) || !code.key.is_failure();
        assert!(is_wrong, "{outcome:?}");
        return Ok(());
    };
    assert_eq!(read.status(), outcome.status());
    if let (Outcome::Failed(read), Outcome::Failed(written)) = (&read, &outcome) {
        assert_eq!(read.sense(), written.sense());
        let is_known = label != "no_such_label" && !["other_map", "path_only"].contains(&label);
        assert_eq!(read.cause().label(), if is_known { label } else { "other" });
    }
    Ok(())
}
