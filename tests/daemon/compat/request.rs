//! Splits the bytes of a case into requests, as the protocol does. The differences between helpers are
//! defined on requests.

use crate::{
    corpus::{Case, GREETING, Kind, Step},
    prepared::{self, Answers, Prepared},
};

/// A request, which may be cut off.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    /// Sixteen bytes; fewer if the request is cut off.
    pub(crate) cdb: Vec<u8>,
    /// As many bytes as the CDB announces; fewer if the request is cut off.
    pub(crate) parameters: Vec<u8>,
    /// The descriptors that arrive with the CDB.
    pub(crate) descriptors: Vec<Kind>,
    /// Descriptors where the protocol allows none: with the parameters, or with the greeting before the first
    /// request.
    pub(crate) stray: Vec<Kind>,
    /// The answer that the simulated disk is prepared to give, if any.
    pub(crate) answer: Option<Prepared>,
}

impl Request {
    pub(crate) fn is_out(&self) -> bool {
        self.cdb.first() == Some(&0x5f)
    }

    pub(crate) fn is_in(&self) -> bool {
        self.cdb.first() == Some(&0x5e)
    }

    fn number(&self, from: usize, to: usize) -> usize {
        let bytes = self.cdb.get(from..to).unwrap_or_default();
        bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
    }

    /// Returns ALLOCATION LENGTH or PARAMETER LIST LENGTH.
    pub(crate) fn length(&self) -> usize {
        if self.is_out() { self.number(5, 9) } else { self.number(7, 9) }
    }

    /// Returns whether the command reaches the disk: it has one descriptor, which is of the disk.
    pub(crate) fn reaches_disk(&self) -> bool {
        matches!(self.descriptors[..], [kind] if kind.is_disk())
    }
}

/// Returns the requests of a case, without its greeting.
pub(crate) fn requests(case: &Case, answers: &Answers) -> Vec<Request> {
    let mut stream = Stream::new(case);
    let (_, mut stray) = stream.take(GREETING.len());
    let mut requests = Vec::new();
    while !stream.is_empty() {
        let (cdb, descriptors) = stream.take(16);
        let answer = answers.get(&prepared::number(&cdb)).cloned();
        let stray = std::mem::take(&mut stray);
        let mut request = Request { cdb, parameters: Vec::new(), descriptors, stray, answer };
        if request.is_out() {
            let (parameters, stray) = stream.take(request.length());
            request.parameters = parameters;
            request.stray.extend(stray);
        }
        requests.push(request);
    }
    requests
}

/// All bytes of a case, with the positions at which descriptors arrive.
struct Stream {
    bytes: Vec<u8>,
    descriptors: Vec<(usize, Kind)>,
    at: usize,
}

impl Stream {
    fn new(case: &Case) -> Self {
        let mut stream = Self { bytes: Vec::new(), descriptors: Vec::new(), at: 0 };
        for message in case.steps.iter().filter_map(Step::message) {
            let at = stream.bytes.len();
            stream.descriptors.extend(message.descriptors.iter().map(|kind| (at, *kind)));
            stream.bytes.extend(&message.bytes);
        }
        stream
    }

    fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    fn take(&mut self, length: usize) -> (Vec<u8>, Vec<Kind>) {
        let range = self.at..self.at.saturating_add(length).min(self.bytes.len());
        self.at = range.end;
        let descriptors = self.descriptors.iter().filter(|(at, _)| range.contains(at));
        let descriptors = descriptors.map(|(_, kind)| *kind).collect();
        (self.bytes[range].to_vec(), descriptors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus;

    #[test]
    fn stream_is_split_into_requests() {
        let answers = prepared::parse("0107 host_status=07").unwrap();
        let text = "a: [rw] 5f 00 0000 00 00000002 00*7 | [ro] ff | ff 5e 00 00 0107 00*2 0040 | [wo+null] 00*7 | 5f | eof";
        let cases = corpus::parse(text, &answers).unwrap().concat();
        let requests = requests(&cases[0], &answers);
        let [out, read, rest] = &requests[..] else { panic!("{requests:?}") };
        assert!(out.is_out() && out.reaches_disk());
        assert_eq!((&out.parameters[..], &out.stray[..]), (&[0xff, 0xff][..], &[Kind::ReadOnly][..]));
        assert!(read.is_in() && !read.reaches_disk());
        assert_eq!((read.length(), read.answer.as_ref().unwrap().host_status), (64, 7));
        assert_eq!(read.descriptors, [Kind::WriteOnly, Kind::Null]);
        assert_eq!(rest.cdb, [0x5f]);
    }
}
