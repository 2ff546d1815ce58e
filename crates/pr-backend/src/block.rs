//! NVMe namespaces, by their own reservation commands.
//!
//! NVMe's reservations are modelled on SCSI's, but some commands succeed without an effect where SCSI demands a conflict,
//! or an effect. So most changes take several steps: the registrants are read before, after, or both, and GOOD is reported
//! only if they are as SCSI says. docs/architecture.md says why a change by another host between two steps leads to no
//! wrong GOOD.

mod answer;
mod change;
mod identity;
mod kinds;
#[cfg(test)]
mod model;
mod preempt;
mod read;
mod sysfs;
#[cfg(test)]
mod tests;
mod waiting;

use std::time::Duration;

use block_pr::{Kernel, Namespace, Passthrough};
use confinement::Rule;
use pr_proto::{Command, Data};
use scsi_sense::{
    Cdb, SenseCode, Status,
    pr::{PersistentReserveIn, PersistentReserveOut},
};

use self::{
    answer::{Stop, Use, no_reservations},
    identity::Identity,
    sysfs::Sysfs,
    waiting::Waiting,
};
use crate::{
    descriptor::Descriptor,
    device::Device,
    executor::{Backend, Target},
    kind::DescriptorKind,
    nexus::Nexus,
    outcome::{NotServed, Outcome},
    system_calls,
};

/// NACA, bit 2 of CONTROL: there is no auto contingent allegiance here (SAM-5 clause 5.2).
const NACA: u8 = 0x04;

/// The backend of NVMe namespaces: block devices (`/dev/nvmeXnY`) and their character devices (`/dev/ngXnY`), with and
/// without native multipath. Ask it before [`Scsi`](crate::Scsi), which claims every disk.
///
/// Linux needs no privilege for it from 6.2 on, if the controller lists the reservation commands in its Commands Supported
/// and Effects log; else it takes `CAP_SYS_ADMIN`.
#[derive(Debug, Clone)]
pub struct Block {
    timeout: Duration,
    sysfs: Sysfs,
}

impl Block {
    /// Returns the backend. The controller may take `timeout` for each NVMe command, of which a SCSI command takes up to
    /// four; then the kernel aborts it, and resets the controller if that does not help.
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, sysfs: Sysfs::default() }
    }
}

impl Backend for Block {
    fn claim(&self, descriptor: &Descriptor<'_>) -> Option<Result<Device, NotServed>> {
        let id = match descriptor.kind() {
            DescriptorKind::Disk(id) | DescriptorKind::Character(id) if !id.is_scsi() => id,
            _ => return None,
        };
        match self.sysfs.is_namespace(id) {
            // Its character device and its block device are one namespace.
            Ok(true) => Some(Ok(Device::new(id).one_command_at_a_time_with(self.sysfs.block_device(id)))),
            Ok(false) => None,
            Err(failure) => Some(Err(failure.into())),
        }
    }

    fn execute(&self, target: Target<'_>, command: &mut Command<'_>) -> Outcome {
        let identity = self.sysfs.identity(target.device.id());
        let device = Waiting::new(Kernel::new(target.descriptor));
        execute(device, self.timeout, &identity, command)
    }

    fn nexuses(&self, target: Target<'_>) -> Vec<Nexus> {
        vec![self.sysfs.nexus(target.device.id())]
    }

    fn refusal_labels(&self) -> &'static [&'static str] {
        &["no_reservations", "nvme_hosts_differ", "path_only"]
    }

    fn system_calls(&self) -> &'static [Rule] {
        system_calls::NVME
    }
}

/// Runs `command` on the namespace behind `device`, for the host that `identity` names.
fn execute(
    device: impl Passthrough,
    timeout: Duration,
    identity: &Identity,
    command: &mut Command<'_>,
) -> Outcome {
    let is_read = matches!(command.data, Data::In(_));
    let namespace = Namespace::open(device, timeout)
        .map_err(|error| Stop::of(&error, if is_read { Use::Read } else { Use::Change }));
    let ended = namespace
        .and_then(|namespace| run(&namespace, identity, command).map_err(|stop| explain(stop, &namespace)));
    match ended {
        Ok(transferred) => Outcome::Device { status: Status::GOOD, transferred, sense_len: 0 },
        Err(stop) => stop.outcome(command.sense),
    }
}

/// Runs `command`. Returns the number of bytes of data, if the answer is GOOD.
fn run(
    namespace: &Namespace<impl Passthrough>,
    identity: &Identity,
    command: &mut Command<'_>,
) -> Result<usize, Stop> {
    let invalid = || Stop::Rejected(SenseCode::INVALID_FIELD_IN_CDB);
    let cdb = Cdb::new(command.cdb).map_err(|_| invalid())?;
    if cdb.as_bytes().last().is_some_and(|control| control & NACA != 0) {
        return Err(invalid());
    }
    match &mut command.data {
        Data::In(buffer) => {
            let command = PersistentReserveIn::try_from(cdb).map_err(|_| invalid())?;
            let length = buffer.len().min(command.allocation_length.into());
            read::run(namespace, command.action, buffer.get_mut(..length).unwrap_or_default())
        }
        Data::Out(parameters) => {
            let command = PersistentReserveOut::try_from(cdb).map_err(|_| invalid())?;
            change::run(namespace, identity, command, parameters).map(|()| 0)
        }
    }
}

/// Returns why the kernel did not permit a command, if the reason is that the namespace has no reservations: its controller
/// does not list the commands then, and the kernel has sent nothing.
fn explain(stop: Stop, namespace: &Namespace<impl Passthrough>) -> Stop {
    let Stop::Denied(failure) = stop else { return stop };
    match namespace.capabilities() {
        Ok(found) if !found.is_supported() => Stop::Refused(no_reservations("its RESCAP is 0")),
        _ => Stop::Failed(failure),
    }
}
