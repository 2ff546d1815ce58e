//! The cost of the protocol for a helper: parsing a request and building its reply.

#![allow(clippy::expect_used, reason = "a benchmark may fail by panicking")]

use std::hint::black_box;

use criterion::Criterion;
use pr_proto::{Command, Completion, Data, HelperSession};
use scsi_sense::Status;

/// READ KEYS, allocation length 72.
const READ_KEYS: [u8; 16] = [0x5e, 0, 0, 0, 0, 0, 0, 0, 72, 0, 0, 0, 0, 0, 0, 0];
/// REGISTER, parameter list length 24.
const REGISTER: [u8; 16] = [0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0];

/// Returns a session that has received its greeting. Numbers stand for descriptors.
fn session() -> HelperSession<u32> {
    let mut session = HelperSession::new();
    receive(&mut session, &[0; 4], &mut Vec::new());
    session
}

fn receive(session: &mut HelperSession<u32>, bytes: &[u8], descriptors: &mut Vec<u32>) {
    session.buffer().copy_from_slice(bytes);
    session.received(bytes.len(), descriptors).expect("the protocol is kept to");
}

fn answer(session: &mut HelperSession<u32>) -> &[u8] {
    let request = session.request().expect("a request");
    request.answer(|Command { data, .. }, _| {
        let transferred = match data {
            Data::In(buffer) => buffer.len(),
            Data::Out(_) => 0,
        };
        Completion { status: Status::GOOD, transferred, sense_len: 0 }
    })
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    codec(&mut criterion);
    criterion.final_summary();
}

fn codec(criterion: &mut Criterion) {
    let mut descriptors = Vec::with_capacity(1);
    let mut session = session();
    criterion.bench_function("IN: request parsed, reply built", |bencher| {
        bencher.iter(|| {
            descriptors.push(3);
            receive(&mut session, black_box(&READ_KEYS), &mut descriptors);
            black_box(answer(&mut session));
        });
    });
    criterion.bench_function("OUT: request parsed, reply built", |bencher| {
        bencher.iter(|| {
            descriptors.push(3);
            receive(&mut session, black_box(&REGISTER), &mut descriptors);
            receive(&mut session, black_box(&[0; 24]), &mut descriptors);
            black_box(answer(&mut session));
        });
    });
}
