//! `cargo xtask test`: runs all tests.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::ExitCode;

use tools::c_helper::CHelper;
use tools::error::{Context as _, Error, Result};
use tools::workspace;

use crate::dispatch;

/// Tests that `cargo test` ignores by default, because they need root, loop devices and in part QEMU's
/// helper.
const WITH_DEVICES: [WithDevices; 3] = [
    WithDevices { package: "daemon-tests", name: "daemon", loops: &[0, 1], without_c_helper: true },
    WithDevices { package: "bench", name: "smoke", loops: &[0, 1], without_c_helper: true },
    WithDevices { package: "daemon-tests", name: "compat", loops: &[0], without_c_helper: false },
];

/// A test program with ignored tests.
struct WithDevices {
    package: &'static str,
    /// The name of the test program.
    name: &'static str,
    /// The numbers of the loop devices that it needs.
    loops: &'static [u32],
    /// Whether it also runs without QEMU's helper.
    without_c_helper: bool,
}

/// Runs the tests of all packages on this host, then those that need devices if the host has them, then those
/// of the lab in its virtual machine, and some of these also in a machine of another suite. `arguments` are
/// passed to the lab; if they choose tests or a suite, the lab runs only those.
pub(crate) fn run(arguments: &[OsString]) -> Result<ExitCode> {
    // Reports wrong arguments and missing packages now, not after ten minutes of tests.
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
    /// Runs the ignored tests of the program, or prints why they cannot run.
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

    /// Checks the requirements. The error says which is not met.
    fn can_run(&self, c_helper: &Result<CHelper>) -> Result<()> {
        let user = fs::metadata("/proc/self").context(|| "find the user of this process".into())?.uid();
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
