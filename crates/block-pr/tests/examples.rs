//! The example prints the expected output, for a namespace in software.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::io;

use block_pr::{Passthrough, Request, Status, opcode};

#[path = "../examples/registrants.rs"]
#[allow(dead_code, unreachable_pub, reason = "all of it but main is used")]
mod registrants;

/// A namespace with one registrant, which holds a reservation.
struct OneRegistrant;

impl Passthrough for OneRegistrant {
    fn namespace_id(&self) -> io::Result<u32> {
        Ok(1)
    }

    fn submit(&self, request: &mut Request<'_>) -> io::Result<Status> {
        assert_eq!(request.opcode(), opcode::REPORT);
        let data = request.from_device();
        data[..6].copy_from_slice(&[5, 0, 0, 0, 1, 1]);
        data[66] = 1;
        data[72] = 0xa1;
        data[80..96].copy_from_slice(&[0xab; 16]);
        Ok(Status::SUCCESS)
    }
}

#[test]
fn registrants_example_prints_each_host() {
    let mut output = Vec::new();
    registrants::print(OneRegistrant, &mut output).unwrap();
    assert_eq!(
        String::from_utf8(output).unwrap(),
        "namespace 1, generation 5: write exclusive\n\
         host abababab-abab-abab-abab-abababababab, key 0xa1, holds the reservation\n"
    );
}
