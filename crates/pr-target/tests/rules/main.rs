//! Tests of the rules of SPC-4 (revision 37), by clause.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail as tests do"
)]

mod access;
mod attention;
mod bench;
mod clear;
mod lost;
mod moving;
mod persistence;
mod preempt;
mod register;
mod release;
mod report;
mod reserve;
mod unregister;
