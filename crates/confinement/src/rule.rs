//! Allowed system calls.

use libc::c_long;

/// A system call that a process may make, with the reason.
// Without the feature, conditions are written only.
#[cfg_attr(not(feature = "restrict"), allow(dead_code))]
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    pub(crate) number: c_long,
    pub(crate) when: When,
    pub(crate) reason: &'static str,
}

#[cfg_attr(not(feature = "restrict"), allow(dead_code))]
/// The condition on an argument, of which the lower 32 bits count.
#[derive(Debug, Clone, Copy)]
pub(crate) enum When {
    Always,
    OneOf { argument: u8, values: &'static [u32] },
    Without { argument: u8, bits: u32 },
}

/// Makes a list of rules, `&[Rule]`. It is empty on architectures for which there are no filters: their system calls have
/// other names, and the list need not compile there.
#[macro_export]
macro_rules! rules {
    ($($rules:tt)*) => {{
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
        {
            &[$($rules)*]
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
        {
            &[]
        }
    }};
}

impl Rule {
    /// Allows a system call (`libc::SYS_*`) with any arguments.
    pub const fn new(number: c_long, reason: &'static str) -> Self {
        Self { number, when: When::Always, reason }
    }

    /// Allows a system call if this argument (the first is 0) has one of these values.
    pub const fn one_of(number: c_long, argument: u8, values: &'static [u32], reason: &'static str) -> Self {
        Self { number, when: When::OneOf { argument, values }, reason }
    }

    /// Allows a system call if this argument (the first is 0) has none of these bits.
    pub const fn without(number: c_long, argument: u8, bits: u32, reason: &'static str) -> Self {
        Self { number, when: When::Without { argument, bits }, reason }
    }

    /// Returns the number of the system call.
    pub const fn number(&self) -> c_long {
        self.number
    }

    /// Returns why it is allowed.
    pub const fn reason(&self) -> &'static str {
        self.reason
    }
}
