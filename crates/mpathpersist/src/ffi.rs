//! Calls of the library's C functions.

use std::{
    ffi::{CStr, c_int, c_uint},
    io,
    marker::PhantomData,
    mem::offset_of,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr,
    time::Duration,
};

use mpathpersist_sys::{self as sys, LoadError, Symbols};

use crate::{
    out_command::{MAX_TRANSPORT_IDS, OutCommand},
    returned::Answer,
};

/// The loaded library. There is at most one, see [`Library`](crate::Library), and it is not `Send`.
#[derive(Debug)]
pub(crate) struct Calls {
    symbols: Symbols,
    thread: PhantomData<*mut ()>,
}

impl Calls {
    pub(crate) fn load() -> Result<Self, LoadError> {
        // SAFETY: a library with this soname is that of multipath-tools, unless the host's library directories are
        // corrupt. Every dynamically linked program relies on the sonames of its libraries.
        let symbols = unsafe { Symbols::load() }?;
        Ok(Self { symbols, thread: PhantomData })
    }

    pub(crate) fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    /// Initialises the library. Must be called exactly once, before any other call.
    pub(crate) fn initialise(&mut self) -> c_int {
        // SAFETY: no other call is in progress: `self` is the only `Calls` and is borrowed exclusively.
        unsafe { (self.symbols.libmpathpersist_init)() }
    }

    /// Executes READ RESERVATION. Other service actions have longer answers, whose length the library does not check.
    pub(crate) fn read_reservation(
        &mut self,
        map: BorrowedFd<'_>,
        answer: &mut Answer,
        verbosity: c_int,
    ) -> c_int {
        let (action, to) = (READ_RESERVATION, answer.as_mut_ptr());
        // SAFETY: the library is initialised, and no other call is in progress (see above). It writes to the answer,
        // which is borrowed exclusively and has the size of a `prin_resp`: for READ RESERVATION it requests the 24
        // bytes of `prin_resvdescr` from a path. It keeps no pointer to the answer. `map` stays open during the call.
        unsafe {
            (self.symbols.mpath_persistent_reserve_in)(map.as_raw_fd(), action, to, NOT_NOISY, verbosity)
        }
    }

    pub(crate) fn reserve_out(
        &mut self,
        map: BorrowedFd<'_>,
        command: &OutCommand,
        verbosity: c_int,
    ) -> c_int {
        let mut ids: Vec<_> = command
            .ids
            .iter()
            .take(MAX_TRANSPORT_IDS)
            .map(|id| sys::transportid {
                format_code: id.format,
                protocol_id: id.protocol,
                __bindgen_anon_1: sys::transportid__bindgen_ty_1 { iscsi_name: id.payload },
            })
            .collect();
        let mut list = Box::new(List {
            head: sys::prout_param_descriptor {
                key: command.key,
                sa_key: command.sa_key,
                _obsolete: 0,
                sa_flags: command.flags,
                _reserved: 0,
                _obsolete1: 0,
                private_buffer: [0; 8192],
                num_transportid: 0,
                trnptid_list: sys::__IncompleteArrayField::new(),
            },
            slots: [ptr::null_mut(); MAX_TRANSPORT_IDS],
        });
        for (slot, id) in list.slots.iter_mut().zip(&mut ids) {
            *slot = id;
            list.head.num_transportid += 1;
        }
        let parameters = (&raw mut *list).cast();
        let (action, scope, kind) = (command.action, command.scope, command.kind);
        // SAFETY: the library is initialised, and no other call is in progress (see above). It reads and writes the
        // fixed part of the list, whose `private_buffer` holds every list that `OutCommand` allows (at most 8192
        // bytes), and reads the first `num_transportid` slots, each of which points into `ids`. It joins the threads
        // that it starts before it returns, and keeps no pointer: `list` and `ids` outlive the call. `map` stays open
        // during the call.
        unsafe {
            (self.symbols.mpath_persistent_reserve_out)(
                map.as_raw_fd(),
                action,
                scope,
                kind,
                parameters,
                NOT_NOISY,
                verbosity,
            )
        }
    }

    /// Sends a command to multipathd and waits for the reply. `timeout` applies to each piece of the reply separately.
    pub(crate) fn ask_multipathd(&self, command: &CStr, timeout: Duration) -> io::Result<Vec<u8>> {
        let timeout =
            c_uint::try_from(timeout.as_millis()).unwrap_or(c_uint::MAX).min(c_int::MAX.unsigned_abs());
        // SAFETY: the function takes no pointer, and libmpathcmd has no state.
        let socket = unsafe { (self.symbols.mpath_connect)(NONBLOCKING) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut reply = ptr::null_mut();
        // SAFETY: `socket` is open, `command` is terminated by a zero and only read, `reply` receives a pointer.
        let status =
            unsafe { (self.symbols.mpath_process_cmd)(socket, command.as_ptr(), &raw mut reply, timeout) };
        let result = if status != 0 {
            Err(io::Error::last_os_error())
        } else if reply.is_null() {
            Ok(Vec::new())
        } else {
            // SAFETY: `reply` is not null, and the library terminates each reply with a zero inside its allocation.
            Ok(unsafe { CStr::from_ptr(reply) }.to_bytes().to_vec())
        };
        // SAFETY: `reply` is null, or was allocated with malloc for the caller to free.
        unsafe { libc::free(reply.cast()) };
        // SAFETY: `socket` came from mpath_connect, is closed here, and is not used afterwards.
        unsafe { (self.symbols.mpath_disconnect)(socket) };
        result
    }
}

const READ_RESERVATION: c_int = sys::MPATH_PRIN_RRES_SA as c_int;
/// Value of `noisy`: the library does not log whole parameter lists.
const NOT_NOISY: c_int = 0;
/// Argument of `mpath_connect`: fail at once if the queue of multipathd's socket is full.
const NONBLOCKING: c_int = 1;

/// `struct prout_param_descriptor` with the array of pointers that follows it.
#[repr(C)]
struct List {
    head: sys::prout_param_descriptor,
    slots: [*mut sys::transportid; MAX_TRANSPORT_IDS],
}

const _: () = assert!(offset_of!(List, slots) == offset_of!(sys::prout_param_descriptor, trnptid_list));
