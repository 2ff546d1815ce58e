//! A session allocates when it is created, and never again: neither for a request nor for its reply.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use pr_proto::{Command, Completion, Data, HelperSession, REPLY_LEN};
use scsi_sense::Status;

thread_local! {
    /// Number of allocations by this thread. Allocations by other threads, such as the test harness's, do not count.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

impl Counting {
    fn count() {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
    }
}

// SAFETY: the system's allocator does all the work. Counting neither allocates nor unwinds: the counter is initialised
// at compile time and has no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count();
        // SAFETY: the caller guarantees what the system's allocator requires.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller guarantees, `pointer` is from this allocator, hence from the system's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::count();
        // SAFETY: the caller guarantees what the system's allocator requires.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count();
        // SAFETY: as the caller guarantees, `pointer` is from this allocator, hence from the system's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Returns the number of allocations by `run`.
fn allocations(run: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    run();
    ALLOCATIONS.get() - before
}

fn receive(session: &mut HelperSession<u32>, bytes: &[u8], descriptors: &mut Vec<u32>) {
    session.buffer().copy_from_slice(bytes);
    session.received(bytes.len(), descriptors).unwrap();
}

/// Runs one command, from its bytes to its reply. Returns the length of the reply.
fn exchange(
    session: &mut HelperSession<u32>,
    cdb: &[u8],
    parameters: &[u8],
    descriptors: &mut Vec<u32>,
) -> usize {
    descriptors.push(3);
    receive(session, cdb, descriptors);
    if !parameters.is_empty() {
        receive(session, parameters, descriptors);
    }
    let reply = session.request().unwrap().answer(|Command { data, sense, .. }, _| match data {
        Data::In(buffer) => {
            buffer.fill(1);
            Completion { status: Status::GOOD, transferred: buffer.len(), sense_len: 0 }
        }
        Data::Out(_) => {
            sense.fill(2);
            Completion { status: Status::CHECK_CONDITION, transferred: 0, sense_len: 18 }
        }
    });
    reply.len()
}

#[test]
fn commands_allocate_nothing() {
    let read_keys = [0x5e, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0];
    let register = [0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0];
    let mut descriptors = Vec::with_capacity(1);
    let mut session = None;
    let made = allocations(|| session = Some(HelperSession::new()));
    assert_eq!(made, 1, "its only buffer; this also shows that the counter counts");
    let mut session = session.unwrap();
    receive(&mut session, &[0; 4], &mut descriptors);
    let (mut read, mut written) = (0, 0);
    let taken = allocations(|| {
        for _ in 0..1000 {
            read += exchange(&mut session, &read_keys, &[], &mut descriptors);
            written += exchange(&mut session, &register, &[0; 24], &mut descriptors);
        }
    });
    assert_eq!((read, written), (1000 * (REPLY_LEN + 0x2000), 1000 * REPLY_LEN));
    assert_eq!(taken, 0);
}
