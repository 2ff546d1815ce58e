//! Runs READ KEYS on a disk: `execute /dev/sda`.

use std::{
    env,
    error::Error,
    fs::File,
    io::{self, Write},
    os::fd::AsFd as _,
    time::Duration,
};

use pr_backend::{Command, Data, Executor, Outcome, Scsi};
use scsi_sense::pr::{InServiceAction, PersistentReserveIn};

fn main() -> Result<(), Box<dyn Error>> {
    let disk = File::open(env::args_os().nth(1).ok_or("usage: execute DEVICE")?)?;
    let executor = Executor::new().with(Scsi::new(Duration::from_secs(30)));
    run(&executor, &disk, &mut io::stdout())?;
    Ok(())
}

/// Prints the device's answer, or the reason why there is none.
pub fn run(executor: &Executor, disk: &File, output: &mut impl Write) -> io::Result<()> {
    let cdb = PersistentReserveIn { action: InServiceAction::ReadKeys, allocation_length: 8192 }.to_cdb();
    let (mut data, mut sense) = (vec![0; 8192], [0; 96]);
    let mut command = Command { cdb: &cdb, data: Data::In(&mut data), sense: &mut sense };
    match executor.run(disk.as_fd(), &mut command) {
        Outcome::Device { status, transferred, .. } => {
            writeln!(output, "{status}: {:02x?}", data.get(..transferred).unwrap_or_default())
        }
        Outcome::Failed(failure) => writeln!(output, "no answer: {}", failure.cause()),
        Outcome::Rejected(sense) => writeln!(output, "not sent: {sense}"),
        Outcome::Refused(refusal) => writeln!(output, "not served: {refusal}"),
    }
}
