//! Finds the backend of a descriptor and runs commands on it.

use std::os::fd::BorrowedFd;

use confinement::Rule;
use pr_proto::{Command, Data};
use scsi_sense::{
    SenseCode,
    opcode::{PERSISTENT_RESERVE_IN, PERSISTENT_RESERVE_OUT},
};

use crate::{
    descriptor::{Descriptor, is_writable},
    device::Device,
    disks::Disks,
    kind::DescriptorKind,
    nexus::{self, Nexus},
    outcome::{NotServed, Outcome, Refusal},
    system_calls,
};

/// Runs commands on devices of one kind.
pub trait Backend: Send + Sync {
    /// Claims a descriptor, or refuses one of its kind; `None` leaves it to the other backends. Must not block.
    fn claim(&self, descriptor: &Descriptor<'_>) -> Option<Result<Device, NotServed>>;

    /// Runs `command` on a device that this backend has claimed, and waits for its end.
    ///
    /// The executor has checked that the command is a PERSISTENT RESERVE IN or OUT; for an OUT, that the descriptor was
    /// opened for writing, and that the parameter list has at least 24 bytes.
    fn execute(&self, target: Target<'_>, command: &mut Command<'_>) -> Outcome;

    /// Returns the I_T nexuses through which commands reach a device that this backend has claimed. Must not block.
    ///
    /// Unless a backend knows better, they are those that /sys shows for the device.
    fn nexuses(&self, target: Target<'_>) -> Vec<Nexus> {
        nexus::of_device(target.device.id())
    }

    /// Returns the system calls that `claim`, `execute` and `nexuses` make beside those of every process
    /// ([`confinement::COMMON`]) and those that examine a descriptor, so that a program can restrict itself to what it needs.
    fn system_calls(&self) -> &'static [Rule] {
        &[]
    }

    /// Returns the labels of all refusals that this backend makes, so that metrics can show each from the start.
    fn refusal_labels(&self) -> &'static [&'static str] {
        &[]
    }
}

/// The device and descriptor that a command is for.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The descriptor that the client passed.
    pub descriptor: BorrowedFd<'a>,
    /// The device behind it, as [`Executor::claim`] returned it.
    pub device: &'a Device,
    /// Index of the listening socket that the client connected to; the first is 0. A backend can take each socket for an
    /// initiator of its own.
    pub listener: usize,
}

/// All backends, in the order in which they are asked.
#[derive(Default)]
pub struct Executor {
    backends: Vec<Box<dyn Backend>>,
    disks: Disks,
}

impl Executor {
    /// Labels of the refusals that the executor itself makes.
    const REFUSAL_LABELS: [&str; 9] = [
        "not_a_device",
        "other_character_device",
        "partition",
        "other_map",
        "not_in_sysfs",
        "stacked",
        "path_only",
        "read_only",
        "unreadable",
    ];

    /// Returns an executor without a backend, which refuses every descriptor.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a backend. It is asked after the backends that were added before.
    #[must_use]
    pub fn with(mut self, backend: impl Backend + 'static) -> Self {
        self.backends.push(Box::new(backend));
        self
    }

    /// Returns the labels of all refusals that the executor and its backends make, each once.
    pub fn refusal_labels(&self) -> Vec<&'static str> {
        let mut labels = Self::REFUSAL_LABELS.to_vec();
        for label in self.backends.iter().flat_map(|backend| backend.refusal_labels()) {
            if !labels.contains(label) {
                labels.push(label);
            }
        }
        labels
    }

    /// Returns the system calls that the executor and its backends make beside those of every process.
    pub fn system_calls(&self) -> Vec<&'static [Rule]> {
        let of_backends = self.backends.iter().map(|backend| backend.system_calls());
        [system_calls::EXAMINING].into_iter().chain(of_backends).collect()
    }

    /// Finds the device behind `descriptor`. Never blocks.
    ///
    /// # Errors
    ///
    /// [`NotServed`] if no backend serves the descriptor, whatever the command.
    pub fn claim(&self, descriptor: BorrowedFd<'_>) -> Result<Device, NotServed> {
        let descriptor = Descriptor::examine(descriptor, &self.disks)?;
        for (index, backend) in self.backends.iter().enumerate() {
            if let Some(claim) = backend.claim(&descriptor) {
                return claim.map(|device| device.claimed_by(index));
            }
        }
        Err(unclaimed(descriptor.kind()).into())
    }

    /// Runs `command` on `target` and waits for its end. Rejects any command but PERSISTENT RESERVE IN with [`Data::In`]
    /// and PERSISTENT RESERVE OUT with [`Data::Out`].
    ///
    /// A device that [takes one command at a time](Device::is_serial) must be locked by the caller.
    pub fn execute(&self, target: Target<'_>, command: &mut Command<'_>) -> Outcome {
        let is_change = match (command.cdb, &command.data) {
            ([PERSISTENT_RESERVE_IN, ..], Data::In(_)) => false,
            ([PERSISTENT_RESERVE_OUT, ..], Data::Out(_)) => true,
            // A change with a buffer to read into would pass the check of the access mode.
            _ => return Outcome::Rejected(SenseCode::INVALID_OPCODE),
        };
        if is_change || target.device.checks_reads() {
            match is_writable(target.descriptor) {
                Ok(is_writable) if is_writable || !is_change => {}
                Ok(_) => return Outcome::Refused(Refusal::read_only(target.device.id())),
                Err(not_served) => return not_served.into(),
            }
        }
        if command.parameters_too_short() {
            return Outcome::Rejected(SenseCode::PARAMETER_LIST_LENGTH_ERROR);
        }
        match self.backends.get(target.device.backend()) {
            Some(backend) => backend.execute(target, command),
            // The device is another executor's.
            None => Outcome::Refused(Refusal::new("not_a_device", "no backend of this executor claimed it")),
        }
    }

    /// Returns the I_T nexuses through which commands reach `target`. Never blocks.
    pub fn nexuses(&self, target: Target<'_>) -> Vec<Nexus> {
        self.backends.get(target.device.backend()).map_or_else(Vec::new, |backend| backend.nexuses(target))
    }

    /// Claims `descriptor` and runs `command` on it.
    pub fn run(&self, descriptor: BorrowedFd<'_>, command: &mut Command<'_>) -> Outcome {
        match self.claim(descriptor) {
            Ok(device) => self.execute(Target { descriptor, device: &device, listener: 0 }, command),
            Err(not_served) => not_served.into(),
        }
    }
}

/// Returns why no backend claims such a descriptor.
fn unclaimed(kind: DescriptorKind) -> Refusal {
    match kind {
        DescriptorKind::Disk(id) => Refusal::new("not_a_device", format!("{id}: no backend serves disks")),
        DescriptorKind::Partition(id) => Refusal::new(
            "partition",
            format!(
                "{id} is a partition, and a reservation is on the whole disk: pass a descriptor of the disk itself"
            ),
        ),
        DescriptorKind::Map(id) => Refusal::new(
            "other_map",
            format!(
                "{id} is a device-mapper map, and a command sent to it would reach the disk behind it: pass a descriptor of the disk itself"
            ),
        ),
        DescriptorKind::Stacked(id) => Refusal::new(
            "stacked",
            format!(
                "{id} is built on other devices, and a command sent to it could reach them: pass a descriptor of the disk itself"
            ),
        ),
        DescriptorKind::NotInSysfs(id) => Refusal::new(
            "not_in_sysfs",
            format!(
                "{id} is not known to /sys, so it cannot be told whether it is a whole disk: is /sys mounted?"
            ),
        ),
        DescriptorKind::Character(id) => Refusal::new(
            "other_character_device",
            format!("{id} is neither a SCSI generic device nor an NVMe namespace"),
        ),
        DescriptorKind::File(_) => not_a_device("file"),
        DescriptorKind::Other(name) => not_a_device(name),
    }
}

fn not_a_device(name: &str) -> Refusal {
    Refusal::new(
        "not_a_device",
        format!("the descriptor is of a {name}, not of a disk: pass one of the disk itself"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DeviceId;

    #[test]
    fn every_refusal_label_is_listed() {
        let id = DeviceId::Block { major: 8, minor: 1 };
        for kind in [
            DescriptorKind::Disk(id),
            DescriptorKind::Partition(id),
            DescriptorKind::Map(id),
            DescriptorKind::Stacked(id),
            DescriptorKind::NotInSysfs(id),
            DescriptorKind::Character(id),
            DescriptorKind::File(id),
            DescriptorKind::Other("pipe"),
        ] {
            let refusal = unclaimed(kind);
            assert!(Executor::REFUSAL_LABELS.contains(&refusal.label()), "{kind:?}: {}", refusal.label());
        }
        assert!(Executor::REFUSAL_LABELS.contains(&Refusal::path_only().label()));
    }
}
