//! Loads the library and looks up its symbols at run time.

use std::{
    error,
    ffi::{CStr, OsStr, c_char, c_int, c_uint, c_void},
    fmt,
    mem::{self, MaybeUninit},
    os::unix::ffi::OsStrExt as _,
    path::PathBuf,
};

use libloading::os::unix::Library;

use crate::{prin_resp, prout_param_descriptor};

/// The library's soname.
pub const SONAME: &str = "libmpathpersist.so.0";

/// The reason why the library or one of its symbols is not available: the dynamic loader's message.
#[derive(Debug)]
pub struct LoadError {
    error: libloading::Error,
}

impl LoadError {
    /// Returns whether the dynamic loader found no file with the library's name. Otherwise the file exists, but a
    /// library or symbol that it needs is missing, or the file is not a valid library.
    pub fn is_not_installed(&self) -> bool {
        // Only the text has this information: `NAME: cannot open shared object file: No such file or directory`
        // (glibc), where NAME is the missing file, which may be a dependency of the library.
        let message = self.to_string();
        message.strip_prefix(SONAME).is_some_and(|rest| rest.starts_with(':') && rest.ends_with(NO_SUCH_FILE))
    }
}

/// Text of strerror(3) for ENOENT in a program that has set no locale.
const NO_SUCH_FILE: &str = "No such file or directory";

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl error::Error for LoadError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.error.source()
    }
}

impl From<libloading::Error> for LoadError {
    fn from(error: libloading::Error) -> Self {
        Self { error }
    }
}

macro_rules! symbols {
    ($($(#[$doc:meta])* $name:ident = $symbol:literal: $type:ty,)+) => {
        /// The library's functions and its variable, and the functions of libmpathcmd, which the library depends on.
        ///
        /// The library is never unloaded, so the pointers are valid until the process ends.
        #[derive(Clone, Copy, Debug)]
        #[non_exhaustive]
        pub struct Symbols {
            $($(#[$doc])* pub $name: $type,)+
            /// The library has `mpath_persistent_reserve_in__`: since multipath-tools 0.10.
            pub has_reserve_in__: bool,
            /// The library has `update_map_pr`: until multipath-tools 0.12.
            pub has_update_map_pr: bool,
        }

        impl Symbols {
            /// Looks up all symbols. An error names the missing one.
            ///
            /// # Safety
            ///
            /// `library` must be that of multipath-tools and stay loaded: its symbols must have the types of the
            /// fields.
            unsafe fn resolve(library: &Library) -> Result<Self, LoadError> {
                Ok(Self {
                    $($name: {
                        // SAFETY: by this function's contract the symbol has the type of the field.
                        let symbol = unsafe { library.get::<$type>($symbol.to_bytes_with_nul()) }?;
                        *symbol
                    },)+
                    has_reserve_in__: has(library, c"mpath_persistent_reserve_in__"),
                    has_update_map_pr: has(library, c"update_map_pr"),
                })
            }
        }
    };
}

symbols! {
    /// Reads multipath.conf. Returns 0 for success. It must be the first call, and must not be repeated after
    /// `libmpathpersist_exit`. Repeating it without leaks the earlier configuration.
    libmpathpersist_init = c"libmpathpersist_init": unsafe extern "C" fn() -> c_int,
    /// Frees all memory of the library. Always returns 0.
    libmpathpersist_exit = c"libmpathpersist_exit": unsafe extern "C" fn() -> c_int,
    /// Executes PERSISTENT RESERVE IN. Arguments: map's descriptor, service action, answer, noisy, verbosity. Returns
    /// an `MPATH_PR_` code.
    mpath_persistent_reserve_in = c"mpath_persistent_reserve_in": unsafe extern "C" fn(c_int, c_int, *mut prin_resp, c_int, c_int) -> c_int,
    /// Executes PERSISTENT RESERVE OUT. Arguments: map's descriptor, service action, scope, type, parameters (which the
    /// library overwrites), noisy, verbosity. Returns an `MPATH_PR_` code.
    mpath_persistent_reserve_out = c"mpath_persistent_reserve_out":
        unsafe extern "C" fn(c_int, c_int, c_int, c_uint, *mut prout_param_descriptor, c_int, c_int) -> c_int,
    /// The allocation length of every PERSISTENT RESERVE IN. 0 selects the length of the structure, at most 8192.
    /// Invariant: it stays 0, because the library also sends PERSISTENT RESERVE IN during an OUT, into smaller buffers of
    /// its own.
    mpath_mx_alloc_len = c"mpath_mx_alloc_len": *mut c_uint,
    /// libmpathcmd: `__mpath_connect`, which newer headers call `mpath_connect__`; all versions export it by this name.
    /// Connects to multipathd. If the argument is not 0, fails instead of waiting for space in its queue. Returns a
    /// descriptor, or -1 and errno.
    mpath_connect = c"__mpath_connect": unsafe extern "C" fn(c_int) -> c_int,
    /// libmpathcmd: closes a descriptor of `mpath_connect`.
    mpath_disconnect = c"mpath_disconnect": unsafe extern "C" fn(c_int) -> c_int,
    /// libmpathcmd: sends a command and waits for the reply. Arguments: descriptor, command, reply (which the caller
    /// must `free`), timeout in milliseconds for each piece of the reply. Returns 0, or -1 and errno.
    mpath_process_cmd = c"mpath_process_cmd": unsafe extern "C" fn(c_int, *const c_char, *mut *mut c_char, c_uint) -> c_int,
}

impl Symbols {
    /// Loads the library that the dynamic loader finds by its soname, and never unloads it. With the feature `link`, it
    /// was loaded with the program.
    ///
    /// The symbols are versioned. This uses the default versions, which are the only ones.
    ///
    /// # Errors
    ///
    /// [`LoadError`] if there is no such library, or a library or symbol that it needs is missing.
    ///
    /// # Safety
    ///
    /// The library must be that of multipath-tools, 0.9.4 or later: its initialisers and those of its dependencies are
    /// executed, and its symbols must have the types declared here.
    pub unsafe fn load() -> Result<Self, LoadError> {
        // SAFETY: by this function's contract the library's initialisers may run.
        let library = unsafe { open() }?;
        // SAFETY: by this function's contract it is that of multipath-tools; it is not unloaded, see below.
        let symbols = unsafe { Self::resolve(&library) };
        // It must not be unloaded: the symbols would dangle, and its dependencies have thread-local data.
        mem::forget(library);
        symbols
    }

    /// Returns the file of the library, as the dynamic loader names it.
    pub fn file(&self) -> Option<PathBuf> {
        let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
        let address = self.libmpathpersist_init as *const c_void;
        // SAFETY: dladdr accepts any address, and writes only the given structure.
        if unsafe { libc::dladdr(address, info.as_mut_ptr()) } == 0 {
            return None;
        }
        // SAFETY: the structure was zeroed, which is valid: all of its fields are pointers.
        let info = unsafe { info.assume_init() };
        if info.dli_fname.is_null() {
            return None;
        }
        // SAFETY: the name belongs to the loaded library, which is never unloaded, and is terminated by a zero.
        let name = unsafe { CStr::from_ptr(info.dli_fname) };
        Some(OsStr::from_bytes(name.to_bytes()).into())
    }
}

/// Returns whether the library has this symbol.
fn has(library: &Library, name: &CStr) -> bool {
    // SAFETY: the symbol's address is only looked up, not used.
    unsafe { library.get::<*const c_void>(name.to_bytes_with_nul()) }.is_ok()
}

/// Loads the library.
///
/// # Safety
///
/// The library with the soname must be that of multipath-tools.
#[cfg(not(feature = "link"))]
unsafe fn open() -> Result<Library, LoadError> {
    // Resolve all symbols at once: a missing one is an error here, instead of ending the process later.
    // SAFETY: by this function's contract the library's initialisers may run.
    Ok(unsafe { Library::open(Some(SONAME), libc::RTLD_NOW | libc::RTLD_LOCAL) }?)
}

/// Returns the library, which was loaded with the program.
///
/// # Safety
///
/// No requirements. The function is unsafe only to match the version without the feature `link`.
#[cfg(feature = "link")]
#[allow(clippy::unnecessary_wraps, reason = "the version without `link` can fail")]
unsafe fn open() -> Result<Library, LoadError> {
    #[link(name = "mpathpersist")]
    unsafe extern "C" {}

    // The linker omits a library without a used symbol.
    std::hint::black_box(crate::libmpathpersist_init as *const c_void);
    Ok(Library::this())
}

/// Checks at compile time that the types above equal bindgen's types of the header.
const _: () = {
    #[allow(dead_code, reason = "only compiled")]
    fn agree(symbols: &mut Symbols) {
        symbols.libmpathpersist_init = crate::libmpathpersist_init;
        symbols.libmpathpersist_exit = crate::libmpathpersist_exit;
        symbols.mpath_persistent_reserve_in = crate::mpath_persistent_reserve_in;
        symbols.mpath_persistent_reserve_out = crate::mpath_persistent_reserve_out;
        symbols.mpath_mx_alloc_len = &raw mut crate::mpath_mx_alloc_len;
    }
};
