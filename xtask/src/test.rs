//! `cargo xtask test`: every test there is.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::ExitCode;

use tools::c_helper::CHelper;
use tools::error::{Context as _, Error, Result};
use tools::workspace;

use crate::dispatch;

/// Tests that a plain `cargo test` leaves out, since they take root, loop devices, and QEMU's helper or as well with it.
const WITH_DEVICES: [WithDevices; 3] = [
    WithDevices { package: "daemon-tests", name: "daemon", loops: &[0, 1], without_c_helper: true },
    WithDevices { package: "bench", name: "smoke", loops: &[0, 1], without_c_helper: true },
    WithDevices { package: "daemon-tests", name: "compat", loops: &[0], without_c_helper: false },
];

struct WithDevices {
    package: &'static str,
    /// The package's test.
    name: &'static str,
    /// The numbers of the loop devices.
    loops: &'static [u32],
    /// Whether it also runs without QEMU's helper.
    without_c_helper: bool,
}

/// Runs the tests of all packages on this host, also those that take devices if it has them, then those of the lab in its
/// machine, and of these some in a machine of another suite. `arguments` are the lab's: tests or a suite that they choose
/// are the only ones of the lab that run.
pub(crate) fn run(arguments: &[OsString]) -> Result<ExitCode> {
    // A mistake in them, or a package that the host lacks, is better told now than in ten minutes.
    let lab = |first: &str| dispatch::lab(&[&[OsString::from(first)], arguments].concat());
    let checked = lab("--check")?;
    if checked != ExitCode::SUCCESS {
        return Ok(checked);
    }
    let mut cargo = workspace::cargo();
    cargo.args(["test", "--workspace", "--locked"]);
    let status = cargo.status().context(|| "run cargo test".into())?;
    if !status.success() {
        return Err(Error::new("tests failed on this host: those of the lab were not run"));
    }
    let c_helper = CHelper::find();
    for test in &WITH_DEVICES {
        test.run(&c_helper)?;
    }
    lab("--both-suites")
}

impl WithDevices {
    /// Runs it, or says why not.
    fn run(&self, c_helper: &Result<CHelper>) -> Result<()> {
        let name = self.name;
        if let Err(why) = self.can_run(c_helper) {
            eprintln!("test: {name} was NOT RUN: {why}");
            return Ok(());
        }
        let mut cargo = workspace::cargo();
        cargo.args(["test", "--locked", "--package", self.package, "--test", name]);
        cargo.args(["--", "--ignored", "--show-output"]);
        let status = cargo.status().context(|| "run cargo test".into())?;
        if status.success() { Ok(()) } else { Err(Error::new(format!("{name} failed (see above)"))) }
    }

    fn can_run(&self, c_helper: &Result<CHelper>) -> Result<()> {
        let user = fs::metadata("/proc/self").context(|| "tell who runs this".into())?.uid();
        if user != 0 {
            return Err(Error::new("it needs root"));
        }
        for number in self.loops {
            let device = format!("/dev/loop{number}");
            fs::File::options()
                .read(true)
                .write(true)
                .open(&device)
                .context(|| format!("open {device} (modprobe loop)"))?;
        }
        match c_helper {
            Err(error) if !self.without_c_helper => Err(Error::new(error.to_string())),
            _ => Ok(()),
        }
    }
}
