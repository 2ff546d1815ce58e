//! Measures the time to read sense data in both formats.

use std::hint::black_box;

use criterion::Criterion;
use scsi_sense::{Sense, SenseCode, SenseError};

/// UNIT ATTENTION, RESERVATIONS PREEMPTED, with an information field (SPC-4 4.5.3 and 4.5.2).
const FIXED: [u8; 18] = [0xf0, 0, 6, 0, 0, 0, 9, 10, 0, 0, 0, 0, 0x2a, 3, 0, 0, 0, 0];
const DESCRIPTOR: [u8; 20] = [0x72, 6, 0x2a, 3, 0, 0, 0, 12, 0, 10, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 9];

/// Reads the fields that most programs need.
fn read(bytes: &[u8]) -> Result<(Option<SenseCode>, Option<u64>), SenseError> {
    let sense = Sense::parse(bytes)?;
    Ok((sense.code(), sense.information()))
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    sense(&mut criterion);
    criterion.final_summary();
}

fn sense(criterion: &mut Criterion) {
    let expected = Ok((Some(SenseCode::RESERVATIONS_PREEMPTED), Some(9)));
    for (name, bytes) in [("fixed", &FIXED[..]), ("descriptor", &DESCRIPTOR)] {
        assert_eq!(read(bytes), expected, "{name}");
        criterion.bench_function(&format!("sense data read, {name} format"), |bencher| {
            bencher.iter(|| black_box(read(black_box(bytes))));
        });
    }
}
