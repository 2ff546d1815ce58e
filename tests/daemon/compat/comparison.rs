//! Compares what both helpers send, event by event.

use std::{collections::BTreeMap, io};

use crate::{
    contestant::{Contestant, Descriptors, Event, Reply},
    corpus::Case,
    differences::{DIFFERENCES, Difference, Version},
    prepared::Answers,
    request::{Request, requests},
};

/// How many undocumented differences are printed at most. Many of them often have the same cause.
const SHOWN: usize = 20;

/// The state of the comparison.
#[derive(Default)]
pub(crate) struct Comparison {
    pub(crate) cases: usize,
    /// The number of requests in these cases.
    pub(crate) requests: usize,
    /// How often each documented difference was seen, by its name.
    pub(crate) seen: BTreeMap<&'static str, usize>,
    /// Undocumented differences, [`SHOWN`] at most.
    undocumented: Vec<String>,
    /// The number of all undocumented differences.
    undocumented_count: usize,
}

impl Comparison {
    /// Sends a case to both helpers and compares what they send back.
    pub(crate) fn run(
        &mut self,
        case: &Case,
        [rust, qemu]: &mut [Contestant<'_>; 2],
        descriptors: &Descriptors,
        answers: &Answers,
    ) -> io::Result<()> {
        let events = [rust.run(case, descriptors)?, qemu.run(case, descriptors)?];
        let requests = requests(case, answers);
        self.cases += 1;
        self.requests += requests.len();
        self.compare(case, &requests, &events);
        Ok(())
    }

    fn compare(&mut self, case: &Case, requests: &[Request], [rust, qemu]: &[Vec<Event>; 2]) {
        let nothing = Request::default();
        for (index, (rust, qemu)) in rust.iter().zip(qemu).enumerate() {
            // The first event is the greeting, which belongs to no request.
            let request = index.checked_sub(1).and_then(|index| requests.get(index)).unwrap_or(&nothing);
            for event in [rust, qemu] {
                if has_forbidden_payload(request, event) {
                    self.undocumented(format!("{case}\n    no helper may send: {event:?}"));
                }
            }
            if *rust == Event::Silence {
                // Whatever was sent, pr-helper must reply or close the connection.
                return self.undocumented(format!("{case}\n    pr-helper: {rust:?}"));
            }
            if rust == qemu {
                continue;
            }
            match Difference::between(request, rust, qemu) {
                Some(difference) => *self.seen.entry(difference.name).or_default() += 1,
                None => {
                    self.undocumented(format!("{case}\n    pr-helper: {rust:?}\n    QEMU:      {qemu:?}"));
                }
            }
            if !matches!((rust, qemu), (Event::Reply(_), Event::Reply(_))) {
                // From here on the two streams are out of step.
                return;
            }
        }
        if rust.len() != qemu.len() {
            self.undocumented(format!("{case}\n    pr-helper: {rust:?}\n    QEMU:      {qemu:?}"));
        }
    }

    fn undocumented(&mut self, difference: String) {
        self.undocumented_count += 1;
        if self.undocumented.len() < SHOWN {
            self.undocumented.push(difference);
        }
    }

    /// Fails if an undocumented difference was seen, or if a documented one was not.
    pub(crate) fn conclude(&self, version: Version) {
        assert!(
            self.undocumented_count == 0,
            "{} differences are not in docs/compatibility.md; {} of them:\n{}",
            self.undocumented_count,
            self.undocumented.len(),
            self.undocumented.join("\n")
        );
        let expected = DIFFERENCES.iter().filter(|difference| (difference.seen_in)(version));
        let unseen: Vec<&str> =
            expected.map(|difference| difference.name).filter(|name| !self.seen.contains_key(name)).collect();
        assert!(unseen.is_empty(), "documented differences that were not seen: {unseen:?}");
    }
}

/// Returns whether the payload is longer than the request allows. QEMU would end the virtual machine for it.
fn has_forbidden_payload(request: &Request, event: &Event) -> bool {
    let Event::Reply(Reply { status, size, .. }) = event else { return false };
    let max = if request.is_in() && *status == 0 { request.length() } else { 0 };
    usize::try_from(*size).is_ok_and(|size| size > max)
}
