//! The C interface of libmpathpersist, the part of multipath-tools that runs SCSI persistent reservations on multipath
//! maps: its types and constants, and its functions, which are found when the program runs.
//!
//! A program that is built with these declarations needs neither header nor library to be built, runs on hosts without
//! the library, and on all that have one: from multipath-tools 0.9.4 to 0.15.1 (Debian 12 to 14) the soname, the symbols'
//! version (`LIBMPATHPERSIST_2.1.0`) and the structures are the same.
//!
//! ```no_run
//! // SAFETY: the host's libmpathpersist is multipath-tools'.
//! let library = unsafe { mpathpersist_sys::Symbols::load() }?;
//! // SAFETY: it is called once in this process, by its only thread.
//! let status = unsafe { (library.libmpathpersist_init)() };
//! assert_eq!(status, 0, "what is wrong is on standard error");
//! # Ok::<(), mpathpersist_sys::LoadError>(())
//! ```
//!
//! The crate `mpathpersist` is the safe face of this one, and says what the functions do.
//!
//! # Structures that go on behind their end
//!
//! [`print_fulldescr_list`] and [`prout_param_descriptor`] end in arrays of pointers without a length. The library's own
//! limit is [`MPATH_MX_TIDS`] of them: always allocate as many (in truth it writes more, see `mpathpersist`). A
//! [`prin_resp`] does not contain them.
//!
//! # The feature `link`
//!
//! With it the library is linked at build time (`-lmpathpersist`, for which multipath-tools' development files must be
//! installed: there is no pkg-config file), and a host that lacks it cannot start the program.
//!
//! # What this crate does not do
//!
//! It checks nothing: neither arguments nor answers. It does not declare `mpath_lib_init` and the functions with
//! underscores, which are the same for programs with libmultipath's own `struct config`.

#[allow(
    non_camel_case_types,
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks,
    reason = "written by bindgen, with the header's names"
)]
mod bindings;
mod load;

pub use bindings::*;
pub use load::{LoadError, SONAME, Symbols};

/// An error that might not happen on another path; for the library's own use, and yet returned by RELEASE since 0.13.
///
/// Since multipath-tools 0.12: older headers do not have it.
pub const MPATH_PR_RETRYABLE_ERROR: i32 = 16;

/// Success, and all paths are unregistered; for the library's own use.
///
/// Since multipath-tools 0.13: older headers do not have it.
pub const MPATH_PR_SUCCESS_UNREGISTER: i32 = 17;

/// What a C compiler says of the headers of multipath-tools 0.9.4, 0.11.1 and 0.15.1, all three, where pointers have
/// eight bytes.
#[cfg(target_pointer_width = "64")]
const _: () = {
    use std::mem::offset_of;

    assert!(size_of::<prin_resp>() == 8200 && align_of::<prin_resp>() == 8);
    assert!(size_of::<prin_readdescr>() == 8200 && align_of::<prin_readdescr>() == 4);
    assert!(offset_of!(prin_readdescr, additional_length) == 4);
    assert!(offset_of!(prin_readdescr, key_list) == 8);
    assert!(size_of::<prin_resvdescr>() == 24 && align_of::<prin_resvdescr>() == 4);
    assert!(offset_of!(prin_resvdescr, key) == 8);
    assert!(offset_of!(prin_resvdescr, scope_type) == 21);
    assert!(size_of::<prin_capdescr>() == 8 && align_of::<prin_capdescr>() == 2);
    assert!(offset_of!(prin_capdescr, flags) == 2);
    assert!(offset_of!(prin_capdescr, pr_type_mask) == 4);

    assert!(size_of::<transportid>() == 258 && align_of::<transportid>() == 1);
    assert!(offset_of!(transportid, protocol_id) == 1);
    assert!(offset_of!(transportid, __bindgen_anon_1) == 2);
    assert!(size_of::<prin_fulldescr>() == 270 && align_of::<prin_fulldescr>() == 2);
    assert!(offset_of!(prin_fulldescr, flag) == 8);
    assert!(offset_of!(prin_fulldescr, scope_type) == 9);
    assert!(offset_of!(prin_fulldescr, rtpi) == 10);
    assert!(offset_of!(prin_fulldescr, trnptid) == 12);
    assert!(size_of::<print_fulldescr_list>() == 8200 && align_of::<print_fulldescr_list>() == 8);
    assert!(offset_of!(print_fulldescr_list, number_of_descriptor) == 4);
    assert!(offset_of!(print_fulldescr_list, private_buffer) == 8);
    assert!(offset_of!(print_fulldescr_list, descriptors) == 8200);

    assert!(size_of::<prout_param_descriptor>() == 8224 && align_of::<prout_param_descriptor>() == 8);
    assert!(offset_of!(prout_param_descriptor, sa_key) == 8);
    assert!(offset_of!(prout_param_descriptor, sa_flags) == 20);
    assert!(offset_of!(prout_param_descriptor, private_buffer) == 24);
    assert!(offset_of!(prout_param_descriptor, num_transportid) == 8216);
    assert!(offset_of!(prout_param_descriptor, trnptid_list) == 8224);
};
