//! Structures and ioctl numbers of `<linux/nvme_ioctl.h>` and `<linux/pr.h>`. The test below compares them with those
//! headers.

use std::{marker::PhantomData, mem::offset_of};

/// `'N'`, the type of the NVMe ioctls.
const NVME: u32 = b'N' as u32;
/// `'p'`, the type of the reservation ioctls.
const PR: u32 = b'p' as u32;

/// Size of `struct nvme_passthru_cmd`, which is the start of the larger structure.
pub(crate) const PASSTHRU_SIZE: usize = 72;

pub(crate) const NVME_IOCTL_ID: libc::Ioctl = libc::_IO(NVME, 0x40);
pub(crate) const NVME_IOCTL_ADMIN_CMD: libc::Ioctl = libc::_IOWR::<[u8; PASSTHRU_SIZE]>(NVME, 0x41);
pub(crate) const NVME_IOCTL_IO_CMD: libc::Ioctl = libc::_IOWR::<[u8; PASSTHRU_SIZE]>(NVME, 0x43);
pub(crate) const NVME_IOCTL_IO64_CMD: libc::Ioctl = libc::_IOWR::<PassthruCmd64>(NVME, 0x48);

pub(crate) const IOC_PR_REGISTER: PrCall<PrRegistration> = PrCall::write(200);
pub(crate) const IOC_PR_RESERVE: PrCall<PrReservation> = PrCall::write(201);
pub(crate) const IOC_PR_RELEASE: PrCall<PrReservation> = PrCall::write(202);
pub(crate) const IOC_PR_PREEMPT: PrCall<PrPreempt> = PrCall::write(203);
pub(crate) const IOC_PR_PREEMPT_ABORT: PrCall<PrPreempt> = PrCall::write(204);
pub(crate) const IOC_PR_CLEAR: PrCall<PrClear> = PrCall::write(205);
pub(crate) const IOC_PR_READ_KEYS: PrCall<PrReadKeys> = PrCall::write_and_read(206);
pub(crate) const IOC_PR_READ_RESERVATION: PrCall<PrReadReservation> = PrCall::read(207);

/// The number of a reservation ioctl whose argument is a `T`: the kernel accesses no more bytes than a `T` has.
#[derive(Debug)]
pub(crate) struct PrCall<T> {
    number: libc::Ioctl,
    argument: PhantomData<fn(&mut T)>,
}

impl<T> PrCall<T> {
    const fn write(number: u32) -> Self {
        Self { number: libc::_IOW::<T>(PR, number), argument: PhantomData }
    }

    const fn read(number: u32) -> Self {
        Self { number: libc::_IOR::<T>(PR, number), argument: PhantomData }
    }

    const fn write_and_read(number: u32) -> Self {
        Self { number: libc::_IOWR::<T>(PR, number), argument: PhantomData }
    }

    pub(crate) const fn number(&self) -> libc::Ioctl {
        self.number
    }
}

/// `PR_FL_IGNORE_KEY`: the key that the host has is not compared.
pub(crate) const PR_FL_IGNORE_KEY: u32 = 1;

macro_rules! structure {
    ($(#[$attribute:meta])* $name:ident = $kernel:literal { $($field:ident / $kernel_field:literal: $type:ty,)+ }) => {
        $(#[$attribute])*
        #[derive(Debug, Default, Clone, Copy)]
        #[repr(C)]
        pub(crate) struct $name { $(pub(crate) $field: $type,)+ }

        impl $name {
            /// The kernel's name of the structure, its size, and name, offset and size of every field.
            #[cfg(test)]
            const LAYOUT: (&str, usize, &[(&str, usize, usize)]) = ($kernel, size_of::<Self>(), &[
                $(($kernel_field, offset_of!(Self, $field), size_of::<$type>()),)+
            ]);
        }
    };
}

structure! {
    /// The argument of `NVME_IOCTL_IO64_CMD`. Its first 72 bytes are also the argument of `NVME_IOCTL_ADMIN_CMD` and
    /// `NVME_IOCTL_IO_CMD`, whose 32-bit result is where this has `rsvd2`.
    PassthruCmd64 = "nvme_passthru_cmd64" {
        opcode / "opcode": u8,
        flags / "flags": u8,
        rsvd1 / "rsvd1": u16,
        nsid / "nsid": u32,
        cdw2 / "cdw2": u32,
        cdw3 / "cdw3": u32,
        metadata / "metadata": u64,
        addr / "addr": u64,
        metadata_len / "metadata_len": u32,
        data_len / "data_len": u32,
        cdw10 / "cdw10": u32,
        cdw11 / "cdw11": u32,
        cdw12 / "cdw12": u32,
        cdw13 / "cdw13": u32,
        cdw14 / "cdw14": u32,
        cdw15 / "cdw15": u32,
        timeout_ms / "timeout_ms": u32,
        rsvd2 / "rsvd2": u32,
        result / "result": u64,
    }
}

structure! {
    /// The argument of `IOC_PR_REGISTER`.
    PrRegistration = "pr_registration" {
        old_key / "old_key": u64,
        new_key / "new_key": u64,
        flags / "flags": u32,
        pad / "__pad": u32,
    }
}

structure! {
    /// The argument of `IOC_PR_RESERVE` and `IOC_PR_RELEASE`.
    PrReservation = "pr_reservation" {
        key / "key": u64,
        kind / "type": u32,
        flags / "flags": u32,
    }
}

structure! {
    /// The argument of `IOC_PR_PREEMPT` and `IOC_PR_PREEMPT_ABORT`.
    PrPreempt = "pr_preempt" {
        old_key / "old_key": u64,
        new_key / "new_key": u64,
        kind / "type": u32,
        flags / "flags": u32,
    }
}

structure! {
    /// The argument of `IOC_PR_CLEAR`.
    PrClear = "pr_clear" {
        key / "key": u64,
        flags / "flags": u32,
        pad / "__pad": u32,
    }
}

structure! {
    /// The argument of `IOC_PR_READ_KEYS`.
    PrReadKeys = "pr_read_keys" {
        generation / "generation": u32,
        num_keys / "num_keys": u32,
        keys_ptr / "keys_ptr": u64,
    }
}

structure! {
    /// The argument of `IOC_PR_READ_RESERVATION`.
    PrReadReservation = "pr_read_reservation" {
        key / "key": u64,
        generation / "generation": u32,
        kind / "type": u32,
    }
}

const _: () = {
    assert!(size_of::<PassthruCmd64>() == 80);
    assert!(offset_of!(PassthruCmd64, timeout_ms) == 64);
    assert!(offset_of!(PassthruCmd64, rsvd2) == PASSTHRU_SIZE - 4);
    assert!(offset_of!(PassthruCmd64, result) == PASSTHRU_SIZE);
};

#[cfg(test)]
mod tests {
    use std::{
        fmt::Write as _,
        io::Write as _,
        process::{Command, Stdio},
    };

    use crate::ReservationType;

    use super::*;

    /// The structures of kernel 6.19, for hosts with older headers: so their layout is the C compiler's, too.
    const NEWER: &str = "
        #ifndef IOC_PR_READ_KEYS
        struct pr_read_keys { __u32 generation; __u32 num_keys; __u64 keys_ptr; };
        struct pr_read_reservation { __u64 key; __u32 generation; __u32 type; };
        #define IOC_PR_READ_KEYS _IOWR('p', 206, struct pr_read_keys)
        #define IOC_PR_READ_RESERVATION _IOR('p', 207, struct pr_read_reservation)
        #endif
    ";

    /// Compares structures and constants with the kernel's headers, by a C program.
    #[test]
    fn layout_matches_the_kernel_headers() {
        let mut source = String::from(
            "#include <stddef.h>\n#include <stdio.h>\n#include <sys/ioctl.h>\n#include <linux/nvme_ioctl.h>\n#include <linux/pr.h>\n",
        );
        source.push_str(NEWER);
        source.push_str("int main(void) {\n");
        let mut expected = String::new();
        for (structure, size, fields) in [
            PassthruCmd64::LAYOUT,
            PrRegistration::LAYOUT,
            PrReservation::LAYOUT,
            PrPreempt::LAYOUT,
            PrClear::LAYOUT,
            PrReadKeys::LAYOUT,
            PrReadReservation::LAYOUT,
        ] {
            let mut structures = vec![(structure, size)];
            if structure == "nvme_passthru_cmd64" {
                structures.push(("nvme_passthru_cmd", PASSTHRU_SIZE));
            }
            for (structure, size) in structures {
                writeln!(source, "printf(\"{structure} %zu\\n\", sizeof(struct {structure}));").unwrap();
                writeln!(expected, "{structure} {size}").unwrap();
                for (field, offset, length) in fields {
                    // The smaller structure has its result where the larger one has a reserved field.
                    let field = match (structure, *field) {
                        ("nvme_passthru_cmd", "rsvd2") => "result",
                        ("nvme_passthru_cmd", "result") => continue,
                        (_, field) => field,
                    };
                    writeln!(
                        source,
                        "printf(\"{field} %zu %zu\\n\", offsetof(struct {structure}, {field}), sizeof(((struct {structure} *)0)->{field}));"
                    )
                    .unwrap();
                    writeln!(expected, "{field} {offset} {length}").unwrap();
                }
            }
        }
        for (name, number) in [
            ("NVME_IOCTL_ID", NVME_IOCTL_ID),
            ("NVME_IOCTL_ADMIN_CMD", NVME_IOCTL_ADMIN_CMD),
            ("NVME_IOCTL_IO_CMD", NVME_IOCTL_IO_CMD),
            ("NVME_IOCTL_IO64_CMD", NVME_IOCTL_IO64_CMD),
            ("IOC_PR_REGISTER", IOC_PR_REGISTER.number()),
            ("IOC_PR_RESERVE", IOC_PR_RESERVE.number()),
            ("IOC_PR_RELEASE", IOC_PR_RELEASE.number()),
            ("IOC_PR_PREEMPT", IOC_PR_PREEMPT.number()),
            ("IOC_PR_PREEMPT_ABORT", IOC_PR_PREEMPT_ABORT.number()),
            ("IOC_PR_CLEAR", IOC_PR_CLEAR.number()),
            ("IOC_PR_READ_KEYS", IOC_PR_READ_KEYS.number()),
            ("IOC_PR_READ_RESERVATION", IOC_PR_READ_RESERVATION.number()),
            ("PR_FL_IGNORE_KEY", PR_FL_IGNORE_KEY.into()),
        ] {
            writeln!(source, "printf(\"{name} %#lx\\n\", (unsigned long){name});").unwrap();
            writeln!(expected, "{name} {number:#x}").unwrap();
        }
        for (name, kind) in [
            ("PR_WRITE_EXCLUSIVE", ReservationType::WriteExclusive),
            ("PR_EXCLUSIVE_ACCESS", ReservationType::ExclusiveAccess),
            ("PR_WRITE_EXCLUSIVE_REG_ONLY", ReservationType::WriteExclusiveRegistrantsOnly),
            ("PR_EXCLUSIVE_ACCESS_REG_ONLY", ReservationType::ExclusiveAccessRegistrantsOnly),
            ("PR_WRITE_EXCLUSIVE_ALL_REGS", ReservationType::WriteExclusiveAllRegistrants),
            ("PR_EXCLUSIVE_ACCESS_ALL_REGS", ReservationType::ExclusiveAccessAllRegistrants),
        ] {
            writeln!(source, "printf(\"{name} %d\\n\", {name});").unwrap();
            writeln!(expected, "{name} {}", kind.code()).unwrap();
        }
        source.push_str("}\n");

        let program = std::env::temp_dir().join(format!("block-pr-layout-{}", std::process::id()));
        let mut compiler = Command::new("cc")
            .args(["-x", "c", "-", "-o"])
            .arg(&program)
            .stdin(Stdio::piped())
            .spawn()
            .expect("a C compiler, cc, is needed for this test");
        compiler.stdin.take().unwrap().write_all(source.as_bytes()).unwrap();
        assert!(compiler.wait().unwrap().success());
        let printed = Command::new(&program).output().unwrap();
        std::fs::remove_file(&program).unwrap();
        assert_eq!(String::from_utf8(printed.stdout).unwrap(), expected);
    }

    /// The numbers that were seen with a kernel, on architectures with the usual encoding.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    #[test]
    fn ioctl_numbers_are_those_seen() {
        assert_eq!(NVME_IOCTL_ID, 0x4e40);
        assert_eq!(NVME_IOCTL_ADMIN_CMD, 0xc048_4e41);
        assert_eq!(NVME_IOCTL_IO_CMD, 0xc048_4e43);
        assert_eq!(NVME_IOCTL_IO64_CMD, 0xc050_4e48);
        assert_eq!(IOC_PR_REGISTER.number(), 0x4018_70c8);
        assert_eq!(IOC_PR_READ_KEYS.number(), 0xc010_70ce);
        assert_eq!(IOC_PR_READ_RESERVATION.number(), 0x8010_70cf);
    }
}
