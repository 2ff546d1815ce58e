//! Prints the registrants of an NVMe namespace: `registrants /dev/nvme0n1`.

use std::{
    env,
    error::Error,
    fs::File,
    io::{self, Write},
    os::fd::AsFd as _,
    time::Duration,
};

use block_pr::{Kernel, Namespace, Passthrough, Report};

fn main() -> Result<(), Box<dyn Error>> {
    let disk = File::open(env::args_os().nth(1).ok_or("usage: registrants DEVICE")?)?;
    print(Kernel::new(disk.as_fd()), &mut io::stdout())
}

/// Prints the registrants of the namespace behind `device`.
pub fn print(device: impl Passthrough, output: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let namespace = Namespace::open(device, Duration::from_secs(30))?;
    let Report { generation, reservation_type, registrants, .. } = namespace.report()?;
    let reservation = reservation_type.map_or_else(|| "no reservation".to_owned(), |kind| kind.to_string());
    writeln!(output, "namespace {}, generation {generation}: {reservation}", namespace.id())?;
    for registrant in registrants {
        let holds = if registrant.holds { ", holds the reservation" } else { "" };
        writeln!(output, "host {}, key {:#x}{holds}", registrant.host, registrant.key)?;
    }
    Ok(())
}
