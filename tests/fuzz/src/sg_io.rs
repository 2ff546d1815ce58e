//! The results of commands, as a disk, the kernel and a worker report them: no failure may read as success.

use std::{io, time::Duration};

use arbitrary::Unstructured;
use pr_backend::{Cause, Failure, Outcome};
use scsi_sense::{Sense, SenseCode, SenseKey, Status};
use sg_io::{Completion, Error, Verdict};

/// The fields of the kernel's header, and then the sense data, are taken from the input.
pub fn sg_io(data: &[u8]) {
    let _ = completion(&mut Unstructured::new(data));
    let _ = failure(&mut Unstructured::new(data));
}

fn completion(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let (status, host_status, driver_status) = input.arbitrary()?;
    let sense_len = input.arbitrary()?;
    let errno = i32::from(input.arbitrary::<i16>()?);
    let sense = input.bytes(input.len())?;
    let (transferred, duration) = (24, Duration::ZERO);
    let completion = Completion { status, host_status, driver_status, sense_len, transferred, duration };

    let is_success = (status, host_status, driver_status) == (0, 0, 0);
    assert_eq!(completion.verdict().is_good(), is_success, "{completion:?}");
    let verdict = completion.verdict_with_sense(sense);
    assert_eq!(verdict.is_good(), is_success, "{completion:?}");

    let has_transport_error = host_status != 0 || ![0, 8].contains(&(driver_status & 0x0f));
    let written = sense.get(..sense_len.into()).map(Sense::parse);
    match verdict {
        Verdict::Host { .. } => assert_is_failure(verdict),
        Verdict::Device(Status::CHECK_CONDITION) => {
            // The guest gets these sense data.
            let sense = written.expect("sense data of that length").expect("sense data");
            let key = sense.key().expect("a sense key");
            let may_be_success = !has_transport_error && !sense.is_deferred();
            assert!(may_be_success || key.is_failure(), "{completion:?} {sense:?}");
        }
        Verdict::Device(device) => {
            assert_eq!(device, Status(status), "the device's own");
            assert!(device.is_failure() || !has_transport_error, "{completion:?}");
        }
    }
    assert_is_failure(Verdict::of_block_error(errno));
    assert_is_failure(Error::Os(io::Error::from_raw_os_error(errno)).verdict());
    Ok(())
}

fn assert_is_failure(verdict: Verdict) {
    let Verdict::Host { status, sense } = verdict else { panic!("{verdict:?}") };
    assert!(status.is_failure(), "{verdict:?}");
    assert_eq!(sense.is_some(), status == Status::CHECK_CONDITION, "{verdict:?}");
    assert!(sense.is_none_or(|code| code.key.is_failure()), "{verdict:?}");
}

/// Makes failures of any status and sense: what a guest gets of them is a failure.
fn failure(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let status = Status(input.arbitrary()?);
    let code = SenseCode::new(SenseKey::new(input.arbitrary()?), input.arbitrary()?, input.arbitrary()?);
    let code = input.arbitrary::<bool>()?.then_some(code);
    let failure = Failure::new(status, code, Cause::new("fuzz", "made up"));
    let rejected = code.map(Outcome::Rejected);
    for outcome in [Some(Outcome::Failed(failure)), rejected].into_iter().flatten() {
        let mut sense = [0; 96];
        let completion = outcome.completion(&mut sense);
        assert!(completion.status.is_failure(), "{outcome:?}");
        assert_eq!(completion.transferred, 0, "{outcome:?}");
        let is_check = completion.status == Status::CHECK_CONDITION;
        assert_eq!(completion.sense_len > 0, is_check, "{outcome:?}");
        if is_check {
            let key = Sense::parse(&sense[..completion.sense_len]).expect("sense data").key();
            assert!(key.expect("a sense key").is_failure(), "{outcome:?}");
        }
    }
    Ok(())
}
