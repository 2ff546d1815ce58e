//! `pr-ctl doctor`: checks whether this node and its disks are ready for a cluster.
//!
//! To the checks of [`probe`] it adds those of the node ([`node`]), of the process behind the socket ([`helper`]), of
//! multipath maps ([`multipath`]), what cluster software needs of a disk ([`needs`]), and with `--write` a registration
//! for a moment ([`trial`]).

mod helper;
mod multipath;
mod needs;
mod node;
mod trial;

use std::path::{Path, PathBuf};

use pr_client::Client;

use crate::{
    args::{Args, Doctor},
    device::Kind,
    findings::Findings,
    probe::{self, Answering},
    report::Report,
};

/// Checks the node, the helper, and each device.
pub(crate) fn run(args: &Args, doctor: &Doctor) -> Report {
    let root = Path::new("/");
    let mut findings = Findings::default();
    findings.heading("this node".into());
    node::check(root, &mut findings);
    let is_map = |path: &PathBuf| matches!(Kind::of(path), Ok(Kind::Multipath { .. }));
    let multipathd = multipath::find_multipathd(root, doctor.devices.iter().any(is_map), &mut findings);
    let client = probe::check_helper(args, &mut findings);
    if client.is_some() {
        findings.add(helper::check(&args.socket, &root.join("proc")));
    }
    for path in &doctor.devices {
        let answering = probe::check_device(client.as_ref(), path, &mut findings);
        multipath::check_device(path, multipathd.as_ref(), &mut findings);
        if let (Some(client), Some(answering)) = (&client, &answering) {
            check_answering(client, path, answering, doctor.write, &mut findings);
        }
    }
    let verdict = if findings.is_good() { "READY" } else { "NOT READY" };
    findings.heading(verdict.into());
    findings.report()
}

/// Checks a device that answers through the helper.
fn check_answering(
    client: &Client,
    path: &Path,
    answering: &Answering,
    is_trial_wanted: bool,
    findings: &mut Findings,
) {
    findings.heading(format!("{} for cluster software", path.display()));
    needs::check(answering.capabilities.as_ref(), findings);
    if let (true, Some(device)) = (is_trial_wanted, &answering.writing) {
        findings.heading(format!("{} with a registration for a moment", path.display()));
        trial::run(client, path, device, answering, findings);
    }
}
