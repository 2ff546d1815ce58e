//! Fuzz targets of everything that parses what a stranger wrote: a guest, a client, a disk, the kernel on behalf of another
//! process, a process with lower privileges.
//!
//! A target is a function that takes any bytes and panics if a promise of the parser is broken. The programs in
//! `fuzz_targets` give it to libFuzzer (`cargo xtask fuzz`); the test `corpus` calls it with each file of `corpus`.

#![forbid(unsafe_code)]

mod announcements;
mod dm_ioctl;
mod metrics_request;
mod multipath_wire;
mod nvme_report;
mod pr_proto;
mod pr_target;
mod saved_state;
mod scsi_sense;
mod sg_io;
mod trace_options;

pub use announcements::announcements;
pub use dm_ioctl::dm_ioctl;
pub use metrics_request::metrics_request;
pub use multipath_wire::multipath_wire;
pub use nvme_report::nvme_report;
pub use pr_proto::pr_proto;
pub use pr_target::pr_target;
pub use saved_state::saved_state;
pub use scsi_sense::scsi_sense;
pub use sg_io::sg_io;
pub use trace_options::trace_options;

/// A fuzz target: its name, which is that of its program and of its directory in the corpus, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets, by name.
pub const TARGETS: [Target; 11] = [
    ("announcements", announcements),
    ("dm_ioctl", dm_ioctl),
    ("metrics_request", metrics_request),
    ("multipath_wire", multipath_wire),
    ("nvme_report", nvme_report),
    ("pr_proto", pr_proto),
    ("pr_target", pr_target),
    ("saved_state", saved_state),
    ("scsi_sense", scsi_sense),
    ("sg_io", sg_io),
    ("trace_options", trace_options),
];
