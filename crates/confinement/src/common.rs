//! The system calls of every Rust process with threads.

use crate::{Rule, rules};

/// `PROT_EXEC`, `PR_SET_NAME` and SIGABRT as the kernel sees them.
const PROT_EXEC: u32 = 4;
const PR_SET_NAME: u32 = 15;
const SIGABRT: u32 = 6;
const _: () = assert!(libc::PROT_EXEC == 4 && libc::PR_SET_NAME == 15 && libc::SIGABRT == 6);

/// `PR_SET_VMA` of `<linux/prctl.h>`: glibc names its memory.
const PR_SET_VMA: u32 = 0x5356_4d41;

/// Signals whose action a process may change: SIGABRT, by abort(3), and the two that glibc keeps for itself.
const SIGNALS: &[u32] = &[SIGABRT, 32, 33];

/// The system calls that the standard library and the C library make for memory, threads, time and the end of the process, in
/// their versions of 2021 to 2026. No memory can become executable.
pub const COMMON: &[Rule] = rules![
    Rule::new(libc::SYS_brk, "allocates memory"),
    Rule::without(libc::SYS_mmap, 2, PROT_EXEC, "allocates memory, and stacks of threads"),
    Rule::without(libc::SYS_mprotect, 2, PROT_EXEC, "allocates memory, and guards stacks of threads"),
    Rule::new(libc::SYS_munmap, "frees memory"),
    Rule::new(libc::SYS_mremap, "grows and shrinks allocations"),
    Rule::new(libc::SYS_madvise, "frees memory, and stacks of threads"),
    Rule::new(libc::SYS_futex, "threads wait for each other"),
    Rule::new(libc::SYS_clone3, "spawns threads"),
    Rule::new(libc::SYS_clone, "spawns threads, with C libraries before glibc 2.34"),
    Rule::new(libc::SYS_set_robust_list, "starts threads"),
    Rule::new(libc::SYS_rseq, "starts threads"),
    Rule::new(libc::SYS_sched_getaffinity, "finds the stack of a thread, and the number of processors"),
    Rule::new(libc::SYS_sched_yield, "waits in short loops"),
    Rule::new(libc::SYS_gettid, "starts threads"),
    Rule::new(libc::SYS_getpid, "aborts"),
    Rule::new(libc::SYS_tgkill, "aborts"),
    Rule::new(libc::SYS_sigaltstack, "starts and ends threads"),
    Rule::new(libc::SYS_rt_sigprocmask, "starts and ends threads, aborts"),
    Rule::one_of(libc::SYS_rt_sigaction, 0, SIGNALS, "aborts; the C library's first thread"),
    Rule::new(libc::SYS_rt_sigreturn, "returns from a handler"),
    Rule::new(libc::SYS_restart_syscall, "continues after SIGSTOP and SIGCONT"),
    Rule::one_of(libc::SYS_prctl, 0, &[PR_SET_NAME, PR_SET_VMA], "names threads, and their memory"),
    Rule::new(libc::SYS_membarrier, "frees thread-local memory"),
    Rule::new(libc::SYS_clock_gettime, "reads the time, where the kernel's shared page cannot"),
    Rule::new(libc::SYS_gettimeofday, "reads the time, where the kernel's shared page cannot"),
    Rule::new(libc::SYS_clock_nanosleep, "sleeps"),
    Rule::new(libc::SYS_nanosleep, "sleeps"),
    Rule::new(libc::SYS_getrandom, "seeds hash tables"),
    Rule::new(libc::SYS_exit, "ends a thread"),
    Rule::new(libc::SYS_exit_group, "ends the process"),
    Rule::new(libc::SYS_read, "reads"),
    Rule::new(libc::SYS_readv, "reads"),
    Rule::new(libc::SYS_write, "writes: replies, the log"),
    Rule::new(libc::SYS_writev, "writes several buffers"),
    Rule::new(libc::SYS_close, "closes descriptors"),
    Rule::new(libc::SYS_fcntl, "reads and sets flags of descriptors"),
    Rule::new(libc::SYS_fstat, "examines descriptors"),
    Rule::new(libc::SYS_statx, "examines files"),
    Rule::new(libc::SYS_newfstatat, "examines files, with older C libraries"),
    // A panic prints where it happened, with RUST_BACKTRACE from which files, relative to the working directory.
    Rule::new(libc::SYS_getcwd, "prints a panic"),
    Rule::new(libc::SYS_readlinkat, "prints a panic"),
    #[cfg(target_arch = "x86_64")]
    Rule::new(libc::SYS_readlink, "prints a panic"),
    Rule::new(libc::SYS_lseek, "reads files to their end"),
    Rule::new(libc::SYS_ppoll, "waits for descriptors"),
    #[cfg(target_arch = "x86_64")]
    Rule::new(libc::SYS_poll, "waits for descriptors"),
];
