//! Finding the library and its symbols when the program runs.

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

/// Why the library, or one of its symbols, cannot be had: the dynamic loader's words.
#[derive(Debug)]
pub struct LoadError {
    error: libloading::Error,
}

impl LoadError {
    /// Whether the dynamic loader finds no file of this name. If not, the file is there, but a library or symbol that it
    /// needs is missing, or it is not such a library.
    pub fn is_not_installed(&self) -> bool {
        // The loader has no other way to tell: `NAME: cannot open shared object file: No such file or directory` (glibc)
        // names the file that is missing, which may be that of a library below.
        let words = self.to_string();
        words.strip_prefix(SONAME).is_some_and(|rest| rest.starts_with(':') && rest.ends_with(NO_SUCH_FILE))
    }
}

/// ENOENT, as strerror(3) has it in a program that has set no locale.
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
        /// The library's functions and its variable, and those of libmpathcmd, which comes along with it.
        ///
        /// Found in a library that is never unloaded: they are valid as long as the process lives.
        #[derive(Clone, Copy, Debug)]
        #[non_exhaustive]
        pub struct Symbols {
            $($(#[$doc])* pub $name: $type,)+
            /// Whether there is `mpath_persistent_reserve_in__`: since multipath-tools 0.10.
            pub has_reserve_in__: bool,
            /// Whether there is `update_map_pr`: until multipath-tools 0.12.
            pub has_update_map_pr: bool,
        }

        impl Symbols {
            /// All of them, or which one is missing.
            ///
            /// # Safety
            ///
            /// `library` must be multipath-tools' and stay loaded: what has these names there must have these types.
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
    /// Reads multipath.conf; 0 is success. It must be the first call, must not be repeated after
    /// `libmpathpersist_exit`, and leaks what was read when it is repeated without.
    libmpathpersist_init = c"libmpathpersist_init": unsafe extern "C" fn() -> c_int,
    /// Frees everything; 0 always.
    libmpathpersist_exit = c"libmpathpersist_exit": unsafe extern "C" fn() -> c_int,
    /// PERSISTENT RESERVE IN: map's descriptor, service action, answer, noisy, verbosity. An `MPATH_PR_` code.
    mpath_persistent_reserve_in = c"mpath_persistent_reserve_in": unsafe extern "C" fn(c_int, c_int, *mut prin_resp, c_int, c_int) -> c_int,
    /// PERSISTENT RESERVE OUT: map's descriptor, service action, scope, type, parameters (it writes to them), noisy,
    /// verbosity. An `MPATH_PR_` code.
    mpath_persistent_reserve_out = c"mpath_persistent_reserve_out":
        unsafe extern "C" fn(c_int, c_int, c_int, c_uint, *mut prout_param_descriptor, c_int, c_int) -> c_int,
    /// The allocation length of all PERSISTENT RESERVE IN, also of those that are part of an OUT and go to small
    /// buffers of the library's own. 0: that of the structure, and 8192 at most. Leave it 0.
    mpath_mx_alloc_len = c"mpath_mx_alloc_len": *mut c_uint,
    /// libmpathcmd's `__mpath_connect`, which newer headers call `mpath_connect__` and all versions have under this name:
    /// connects to multipathd, without waiting for room in its queue if the argument is not 0. A descriptor, or -1 and
    /// errno.
    mpath_connect = c"__mpath_connect": unsafe extern "C" fn(c_int) -> c_int,
    /// libmpathcmd: closes what `mpath_connect` returned.
    mpath_disconnect = c"mpath_disconnect": unsafe extern "C" fn(c_int) -> c_int,
    /// libmpathcmd: sends a command and waits for the reply: descriptor, command, reply (to be freed with `free`),
    /// timeout in milliseconds for each piece of the reply. 0, or -1 and errno.
    mpath_process_cmd = c"mpath_process_cmd": unsafe extern "C" fn(c_int, *const c_char, *mut *mut c_char, c_uint) -> c_int,
}

impl Symbols {
    /// Loads the library that the dynamic loader finds by its soname, never to unload it. With the feature `link`, it has
    /// been loaded with the program.
    ///
    /// The symbols are versioned; what is found are the default versions, which are the only ones there are.
    ///
    /// # Errors
    ///
    /// [`LoadError`], if there is no such library, or something that it needs is missing.
    ///
    /// # Safety
    ///
    /// The library must be multipath-tools', 0.9.4 or later: it is run (its initialisers, and those of the libraries that
    /// it needs), and its symbols are believed to have the types that they have here.
    pub unsafe fn load() -> Result<Self, LoadError> {
        // SAFETY: by this function's contract the library's initialisers may run.
        let library = unsafe { open() }?;
        // SAFETY: by this function's contract it is multipath-tools'; it is not unloaded, see below.
        let symbols = unsafe { Self::resolve(&library) };
        // Nothing unloads it: the symbols would dangle, and libraries below it have data of threads.
        mem::forget(library);
        symbols
    }

    /// The file that the library was loaded from, as the dynamic loader names it.
    pub fn file(&self) -> Option<PathBuf> {
        let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
        let address = self.libmpathpersist_init as *const c_void;
        // SAFETY: dladdr takes any address, and writes no more than the structure it is given.
        if unsafe { libc::dladdr(address, info.as_mut_ptr()) } == 0 {
            return None;
        }
        // SAFETY: zeroed, it is valid: all of its fields are pointers.
        let info = unsafe { info.assume_init() };
        if info.dli_fname.is_null() {
            return None;
        }
        // SAFETY: the name belongs to the loaded library, which is never unloaded, and ends in a zero.
        let name = unsafe { CStr::from_ptr(info.dli_fname) };
        Some(OsStr::from_bytes(name.to_bytes()).into())
    }
}

/// Whether the library has such a symbol.
fn has(library: &Library, name: &CStr) -> bool {
    // SAFETY: the symbol's address is looked up and not used.
    unsafe { library.get::<*const c_void>(name.to_bytes_with_nul()) }.is_ok()
}

/// # Safety
///
/// What has the soname must be multipath-tools'.
#[cfg(not(feature = "link"))]
unsafe fn open() -> Result<Library, LoadError> {
    // All symbols at once: a missing one is an error here, and not the process's end later.
    // SAFETY: by this function's contract its initialisers may run.
    Ok(unsafe { Library::open(Some(SONAME), libc::RTLD_NOW | libc::RTLD_LOCAL) }?)
}

/// # Safety
///
/// None: the library is loaded already. The name is that of the other form.
#[cfg(feature = "link")]
#[allow(clippy::unnecessary_wraps, reason = "the other form can fail")]
unsafe fn open() -> Result<Library, LoadError> {
    #[link(name = "mpathpersist")]
    unsafe extern "C" {}

    // A library of which nothing is used would not be linked.
    std::hint::black_box(crate::libmpathpersist_init as *const c_void);
    Ok(Library::this())
}

/// The types above are those that bindgen read in the header, and would not compile here if they were others.
const _: () = {
    #[allow(dead_code, reason = "it is there to be compiled")]
    fn agree(symbols: &mut Symbols) {
        symbols.libmpathpersist_init = crate::libmpathpersist_init;
        symbols.libmpathpersist_exit = crate::libmpathpersist_exit;
        symbols.mpath_persistent_reserve_in = crate::mpath_persistent_reserve_in;
        symbols.mpath_persistent_reserve_out = crate::mpath_persistent_reserve_out;
        symbols.mpath_mx_alloc_len = &raw mut crate::mpath_mx_alloc_len;
    }
};
