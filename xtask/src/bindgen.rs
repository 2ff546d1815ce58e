//! `cargo xtask bindgen`: generates the Rust declarations of libmpathpersist from its C header.
//!
//! The header is from Debian 12, which no longer changes. Later headers, up to that of Debian 14, give the
//! same text: two codes for the library's internal use, which they add, are excluded here.

use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bindgen::{Builder, Formatter, MacroTypeVariation, NonCopyUnionStyle, RustEdition, RustTarget};

use tools::error::{Context as _, Error, Result};
use tools::packages::{self, Apt};
use tools::workspace;

/// The source of the header.
const SUITE: &str = "bookworm";
const PACKAGE: &str = "multipath-tools";
const HEADER: &str = "usr/include/mpath_persist.h";

/// The path of the bindings in the workspace.
const BINDINGS: &str = "crates/mpathpersist-sys/src/bindings.rs";

/// The first lines of the bindings.
const PREFACE: &str = "\
// Written by `cargo xtask bindgen` from the header of libmpathpersist: do not edit.
";

/// Options of `cargo xtask bindgen`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Change nothing; fail if the bindings are out of date
    #[arg(long)]
    check: bool,

    /// Read this header instead of that of Debian 12
    #[arg(long, value_name = "PATH")]
    header: Option<PathBuf>,
}

/// Writes the bindings, or compares them.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let scratch = tempfile::tempdir().context(|| "create a temporary directory".into())?;
    let header = options.header.clone().map_or_else(|| download(scratch.path()), Ok)?;
    let bindings = generate(&header)?;
    let path = workspace::root().join(BINDINGS);
    if !options.check {
        fs::write(&path, bindings).context(|| format!("write {}", path.display()))?;
    } else if fs::read_to_string(&path).context(|| format!("read {}", path.display()))? != bindings {
        return Err(Error::new(format!(
            "{BINDINGS} is out of date: run cargo xtask bindgen and review the changes"
        )));
    }
    Ok(ExitCode::SUCCESS)
}

/// Downloads the package to `scratch` and returns the path of the header.
fn download(scratch: &Path) -> Result<PathBuf> {
    let apt = Apt::new(&scratch.join("apt"), SUITE)?;
    apt.update()?;
    let package = apt.download_alone(PACKAGE)?;
    let root = scratch.join("root");
    packages::unpack(&package, &root)?;
    Ok(root.join(HEADER))
}

/// Generates the text of the bindings.
fn generate(header: &Path) -> Result<String> {
    let header = header.to_str().ok_or_else(|| Error::new("the header's path is not UTF-8"))?;
    let target = RustTarget::stable(85, 0).map_err(|_| Error::new("bindgen does not know Rust 1.85"))?;
    let builder = Builder::default()
        .header(header)
        .allowlist_function("libmpathpersist_(init|exit)")
        .allowlist_function("mpath_persistent_reserve_(in|out)")
        .allowlist_var("mpath_mx_alloc_len|MPATH_.*")
        .blocklist_item("MPATH_PR_RETRYABLE_ERROR|MPATH_PR_SUCCESS_UNREGISTER|MPATH_PERSIST_.*")
        .default_macro_constant_type(MacroTypeVariation::Signed)
        .default_non_copy_union_style(NonCopyUnionStyle::ManuallyDrop)
        .generate_comments(false)
        // The generated tests hold only for the pointer width of this host. The crate has tests of its own.
        .layout_tests(false)
        .derive_debug(false)
        .wrap_unsafe_ops(true)
        .use_core()
        .rust_target(target)
        .rust_edition(RustEdition::Edition2024)
        .formatter(Formatter::Rustfmt)
        .rustfmt_configuration_file(Some(workspace::root().join("rustfmt.toml")))
        .disable_header_comment();
    let bindings = with_libclang(|| builder.generate())?.context(|| format!("read {header}"))?;
    Ok(format!("{PREFACE}\n{bindings}"))
}

/// Runs a function that needs libclang. The library is loaded at run time, so that no other command needs it;
/// bindgen panics if it is missing.
fn with_libclang<T>(run: impl FnOnce() -> T) -> Result<T> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let result = panic::catch_unwind(AssertUnwindSafe(run));
    panic::set_hook(hook);
    result.map_err(|panic| {
        let message = panic.downcast_ref::<String>().map_or("bindgen panicked", String::as_str);
        Error::new(format!(
            "{message}\nIf libclang is missing, run as root:\n  \
             apt-get install --no-install-recommends libclang1 libc6-dev"
        ))
    })
}
