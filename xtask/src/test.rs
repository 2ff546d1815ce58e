//! `cargo xtask test`: every test there is.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::ExitCode;

use crate::c_helper::CHelper;
use crate::error::{Context as _, Error, Result};
use crate::{lab, workspace};

/// The suite with the other generation of multipath-tools and of the kernel, and the tests for which that matters.
const OTHER_SUITE: &str = "forky";
const ITS_TESTS: &str = "multipath";

/// Tests that a plain `cargo test` leaves out, since they take root, loop devices, and QEMU's helper or as well with it.
const WITH_DEVICES: [WithDevices; 3] = [
    WithDevices { name: "daemon", loops: &[0, 1], without_c_helper: true },
    WithDevices { name: "smoke", loops: &[0, 1], without_c_helper: true },
    WithDevices { name: "compat", loops: &[0], without_c_helper: false },
];

struct WithDevices {
    /// The test of the package `tests`.
    name: &'static str,
    /// The numbers of the loop devices.
    loops: &'static [u32],
    /// Whether it also runs without QEMU's helper.
    without_c_helper: bool,
}

/// Runs the tests of all packages on this host, also those that take devices if it has them, then those of the lab in its
/// machine, and of these some in a machine of another suite. Whoever chooses tests or a suite gets these and no others of the
/// lab.
pub(crate) fn run(options: &lab::TestOptions) -> Result<ExitCode> {
    let mut cargo = workspace::cargo();
    cargo.args(["test", "--workspace", "--locked"]);
    let status = cargo.status().context(|| "run cargo test".into())?;
    if !status.success() {
        return Err(Error::new("tests failed on this host: those of the lab were not run"));
    }
    let c_helper = CHelper::find(None);
    for test in &WITH_DEVICES {
        test.run(&c_helper)?;
    }
    let ended = lab::run(options)?;
    if ended != ExitCode::SUCCESS || options.are_chosen() {
        return Ok(ended);
    }
    lab::run(&options.in_suite(OTHER_SUITE, ITS_TESTS))
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
        cargo.args([
            "test",
            "--package",
            "tests",
            "--locked",
            "--test",
            name,
            "--",
            "--ignored",
            "--show-output",
        ]);
        if let Ok(CHelper { program, libraries }) = c_helper {
            cargo.env("C_HELPER", program);
            if let Some(libraries) = libraries {
                cargo.env("C_LIBRARIES", libraries);
            }
        }
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
