//! Both helpers' answers, event by event.

use std::{collections::BTreeMap, io};

use crate::{
    contestant::{Contestant, Descriptors, Event, Reply},
    corpus::Case,
    differences::{DIFFERENCES, Difference, Version},
    prepared::Answers,
    request::{Request, requests},
};

/// How many differences without a reason are shown. One reason is often behind many of them.
const SHOWN: usize = 20;

/// What came of it so far.
#[derive(Default)]
pub(crate) struct Comparison {
    pub(crate) cases: usize,
    /// Requests that were answered, or for which the connection was closed.
    pub(crate) requests: usize,
    /// How often each difference was seen, by its name.
    pub(crate) seen: BTreeMap<&'static str, usize>,
    /// Differences that have no reason.
    unexplained: Vec<String>,
    count: usize,
}

impl Comparison {
    /// Sends a case to both.
    pub(crate) fn run(
        &mut self,
        case: &Case,
        [ours, theirs]: &mut [Contestant<'_>; 2],
        descriptors: &Descriptors,
        answers: &Answers,
    ) -> io::Result<()> {
        let events = [ours.run(case, descriptors)?, theirs.run(case, descriptors)?];
        let requests = requests(case, answers);
        self.cases += 1;
        self.requests += requests.len();
        self.compare(case, &requests, &events);
        Ok(())
    }

    fn compare(&mut self, case: &Case, requests: &[Request], [ours, theirs]: &[Vec<Event>; 2]) {
        let nothing = Request::default();
        for (index, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
            // The first event is the greeting.
            let request = index.checked_sub(1).and_then(|index| requests.get(index)).unwrap_or(&nothing);
            for event in [ours, theirs] {
                if has_forbidden_payload(request, event) {
                    self.unexplained(format!("{case}\n    nobody may say: {event:?}"));
                }
            }
            if *ours == Event::Silence {
                // Whatever was sent: we say something, or close.
                return self.unexplained(format!("{case}\n    ours:   {ours:?}"));
            }
            if ours == theirs {
                continue;
            }
            match Difference::between(request, ours, theirs) {
                Some(difference) => *self.seen.entry(difference.name).or_default() += 1,
                None => self.unexplained(format!("{case}\n    ours:   {ours:?}\n    theirs: {theirs:?}")),
            }
            if !matches!((ours, theirs), (Event::Reply(_), Event::Reply(_))) {
                // From here on they do not speak of the same.
                return;
            }
        }
        if ours.len() != theirs.len() {
            self.unexplained(format!("{case}\n    ours:   {ours:?}\n    theirs: {theirs:?}"));
        }
    }

    fn unexplained(&mut self, what: String) {
        self.count += 1;
        if self.unexplained.len() < SHOWN {
            self.unexplained.push(what);
        }
    }

    /// Fails if there is a difference that has no reason, or a reason without a difference.
    pub(crate) fn conclude(&self, version: Version) {
        assert!(
            self.count == 0,
            "{} differences that docs/compatibility.md does not have; {} of them:\n{}",
            self.count,
            self.unexplained.len(),
            self.unexplained.join("\n")
        );
        let expected = DIFFERENCES.iter().filter(|difference| (difference.seen_in)(version));
        let unseen: Vec<&str> =
            expected.map(|difference| difference.name).filter(|name| !self.seen.contains_key(name)).collect();
        assert!(unseen.is_empty(), "differences that were not seen: {unseen:?}");
    }
}

/// A payload for which QEMU would end the virtual machine.
fn has_forbidden_payload(request: &Request, event: &Event) -> bool {
    let Event::Reply(Reply { status, size, .. }) = event else { return false };
    let most = if request.is_in() && *status == 0 { request.length() } else { 0 };
    usize::try_from(*size).is_ok_and(|size| size > most)
}
