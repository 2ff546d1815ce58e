//! Prints the registered keys of a disk: `cargo run --example quick_start -- /run/pr-helper.sock /dev/sdb`

use std::{
    env,
    error::Error,
    fs::File,
    io::{self, Write},
    path::Path,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let [socket, device] = arguments.as_slice() else {
        return Err("usage: quick_start SOCKET DEVICE".into());
    };
    run(Path::new(socket), Path::new(device), &mut io::stdout())
}

/// Prints the keys, one per line.
pub fn run(socket: &Path, device: &Path, output: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let client = pr_client::Client::connect(socket)?;
    let disk = File::open(device)?;
    let registered = client.read_keys(&disk)?;
    for key in registered.keys {
        writeln!(output, "{key}")?;
    }
    if !registered.is_complete {
        writeln!(output, "and perhaps more")?;
    }
    Ok(())
}
