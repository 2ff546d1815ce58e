//! The calls into C.

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
    outbound::{Outbound, TRANSPORT_IDS},
    returned::Answer,
};

/// The loaded library. There is one at most, see [`Library`](crate::Library), and it stays in its thread.
#[derive(Debug)]
pub(crate) struct Calls {
    symbols: Symbols,
    thread: PhantomData<*mut ()>,
}

impl Calls {
    pub(crate) fn load() -> Result<Self, LoadError> {
        // SAFETY: what has this soname is multipath-tools', if the host's directories of libraries are in order: a
        // program believes of each library that it is what its name says.
        let symbols = unsafe { Symbols::load() }?;
        Ok(Self { symbols, thread: PhantomData })
    }

    pub(crate) fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    /// To be called first, and once.
    pub(crate) fn initialise(&mut self) -> c_int {
        // SAFETY: no other call is under way: `self` is the only one of its kind, and borrowed for this.
        unsafe { (self.symbols.libmpathpersist_init)() }
    }

    /// READ RESERVATION. Other service actions have longer answers, for which the library has no bounds.
    pub(crate) fn read_reservation(
        &mut self,
        map: BorrowedFd<'_>,
        answer: &mut Answer,
        verbosity: c_int,
    ) -> c_int {
        let (action, to) = (READ_RESERVATION, answer.as_mut_ptr());
        // SAFETY: the library is initialised, and no other call is under way (see above). It writes to the answer, which
        // is borrowed for this and has all bytes of a `prin_resp`: of READ RESERVATION it asks a path for the 24 bytes of
        // `prin_resvdescr`. It keeps no pointer to it. `map` is open for the length of the call.
        unsafe {
            (self.symbols.mpath_persistent_reserve_in)(map.as_raw_fd(), action, to, NOT_NOISY, verbosity)
        }
    }

    pub(crate) fn reserve_out(
        &mut self,
        map: BorrowedFd<'_>,
        outbound: &Outbound,
        verbosity: c_int,
    ) -> c_int {
        let mut ids: Vec<_> = outbound
            .ids
            .iter()
            .take(TRANSPORT_IDS)
            .map(|id| sys::transportid {
                format_code: id.format,
                protocol_id: id.protocol,
                __bindgen_anon_1: sys::transportid__bindgen_ty_1 { iscsi_name: id.payload },
            })
            .collect();
        let mut list = Box::new(List {
            head: sys::prout_param_descriptor {
                key: outbound.key,
                sa_key: outbound.sa_key,
                _obsolete: 0,
                sa_flags: outbound.flags,
                _reserved: 0,
                _obsolete1: 0,
                private_buffer: [0; 8192],
                num_transportid: 0,
                trnptid_list: sys::__IncompleteArrayField::new(),
            },
            slots: [ptr::null_mut(); TRANSPORT_IDS],
        });
        for (slot, id) in list.slots.iter_mut().zip(&mut ids) {
            *slot = id;
            list.head.num_transportid += 1;
        }
        let parameters = (&raw mut *list).cast();
        let (action, scope, kind) = (outbound.action, outbound.scope, outbound.kind);
        // SAFETY: the library is initialised, and no other call is under way (see above). It reads and writes the fixed
        // part of the list, of which `private_buffer` takes all that `Outbound` allows (no more than 8192 bytes in all),
        // and reads as many slots as `num_transportid` says, each of which points into `ids`. The threads that it starts
        // are joined before it returns, and it keeps no pointer: `list` and `ids` live longer. `map` is open for the
        // length of the call.
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

    /// Sends a command to multipathd and waits for a reply, as long for each of its pieces.
    pub(crate) fn ask_multipathd(&self, command: &CStr, timeout: Duration) -> io::Result<Vec<u8>> {
        let timeout =
            c_uint::try_from(timeout.as_millis()).unwrap_or(c_uint::MAX).min(c_int::MAX.unsigned_abs());
        // SAFETY: it takes no pointer, and libmpathcmd has no state.
        let socket = unsafe { (self.symbols.mpath_connect)(WITHOUT_WAITING) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut reply = ptr::null_mut();
        // SAFETY: `socket` is open, `command` ends in a zero and is only read, `reply` takes a pointer.
        let status =
            unsafe { (self.symbols.mpath_process_cmd)(socket, command.as_ptr(), &raw mut reply, timeout) };
        let result = if status != 0 {
            Err(io::Error::last_os_error())
        } else if reply.is_null() {
            Ok(Vec::new())
        } else {
            // SAFETY: it is not null, and the library ends each reply with a zero within what it allocated.
            Ok(unsafe { CStr::from_ptr(reply) }.to_bytes().to_vec())
        };
        // SAFETY: it is null, or was allocated with malloc for the caller to free.
        unsafe { libc::free(reply.cast()) };
        // SAFETY: `socket` came from mpath_connect, is closed here, and not used after.
        unsafe { (self.symbols.mpath_disconnect)(socket) };
        result
    }
}

const READ_RESERVATION: c_int = sys::MPATH_PRIN_RRES_SA as c_int;
/// `noisy`: the library shall not log whole parameter lists.
const NOT_NOISY: c_int = 0;
/// The argument of `mpath_connect`.
const WITHOUT_WAITING: c_int = 1;

/// `struct prout_param_descriptor` with the array that it goes on in.
#[repr(C)]
struct List {
    head: sys::prout_param_descriptor,
    slots: [*mut sys::transportid; TRANSPORT_IDS],
}

const _: () = assert!(offset_of!(List, slots) == offset_of!(sys::prout_param_descriptor, trnptid_list));
