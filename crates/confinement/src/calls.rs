//! The filter of system calls (seccomp).

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use crate::{
    rule::{Rule, When},
    sys,
};

/// Whether system calls can be restricted on this architecture: the filter is a program for the kernel, which `seccompiler`
/// compiles for these.
pub const IS_SUPPORTED: bool =
    cfg!(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"));

/// What happens at a call that no rule allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The call is not made, and the process exits with [`FORBIDDEN_EXIT_STATUS`](crate::FORBIDDEN_EXIT_STATUS) and a line on standard error.
    Kill,
    /// The call is made, and the kernel logs it (`type=1326` in the audit log or in dmesg).
    Log,
}

/// How calls are restricted.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// What happens at a forbidden call.
    pub mode: Mode,
    /// Begins the line on standard error, such as `my-daemon: `.
    pub log_prefix: &'static str,
}

/// System calls could not be restricted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not on this architecture: see [`IS_SUPPORTED`].
    #[error("system calls cannot be restricted on this architecture")]
    Unsupported,
    /// The rules cannot be compiled. This does not depend on the process or the kernel.
    #[error("the rules for system calls are invalid")]
    Rules(#[source] seccompiler::BackendError),
    /// The kernel refuses the filter.
    #[error("the kernel does not restrict system calls (is seccomp missing, CONFIG_SECCOMP_FILTER?)")]
    Kernel(#[source] seccompiler::Error),
    /// The handler of SIGSYS cannot be installed.
    #[error("cannot handle SIGSYS")]
    Handler(#[source] nix::Error),
}

/// Restricts the system calls of this thread, and of all threads and processes that it starts from now on. Cannot be undone;
/// another call can only restrict them further. Sets `no_new_privs`.
///
/// The lists are joined. A call is allowed if one of its rules allows it.
///
/// # Errors
///
/// [`Error`]; then nothing is restricted.
pub fn restrict_calls(lists: &[&[Rule]], settings: Settings) -> Result<(), Error> {
    let program = compile(lists, settings.mode)?;
    if settings.mode == Mode::Kill {
        sys::exit_on_forbidden_calls(settings.log_prefix).map_err(Error::Handler)?;
    }
    seccompiler::apply_filter(&program).map_err(Error::Kernel)
}

fn compile(lists: &[&[Rule]], mode: Mode) -> Result<BpfProgram, Error> {
    if !IS_SUPPORTED {
        return Err(Error::Unsupported);
    }
    let mut calls: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let mut unconditional = Vec::new();
    for rule in lists.iter().copied().flatten() {
        let number = rule.number;
        let alternatives = calls.entry(number).or_default();
        match conditions(rule.when).map_err(Error::Rules)? {
            Some(conditions) => alternatives.extend(conditions),
            None => unconditional.push(number),
        }
    }
    for number in unconditional {
        // An empty list matches all arguments.
        calls.insert(number, Vec::new());
    }
    // The handler of SIGSYS ends the process.
    let otherwise = match mode {
        Mode::Kill => SeccompAction::Trap,
        Mode::Log => SeccompAction::Log,
    };
    let architecture = std::env::consts::ARCH.try_into().map_err(Error::Rules)?;
    SeccompFilter::new(calls, otherwise, SeccompAction::Allow, architecture)
        .and_then(BpfProgram::try_from)
        .map_err(Error::Rules)
}

/// Returns the alternatives for the arguments; `None` if any arguments will do.
fn conditions(when: When) -> Result<Option<Vec<SeccompRule>>, seccompiler::BackendError> {
    let one = |argument, operator, value| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
            .and_then(|condition| SeccompRule::new(vec![condition]))
    };
    Ok(Some(match when {
        When::Always => return Ok(None),
        When::OneOf { argument, values } => values
            .iter()
            .map(|value| one(argument, SeccompCmpOp::Eq, u64::from(*value)))
            .collect::<Result<_, _>>()?,
        When::Without { argument, bits } => {
            vec![one(argument, SeccompCmpOp::MaskedEq(u64::from(bits)), 0)?]
        }
    }))
}
