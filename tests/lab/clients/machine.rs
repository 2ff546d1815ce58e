//! The machine is what the other tests take it for.

use std::process::Command;

#[test]
fn qemu_and_the_c_helper_are_debians() {
    for program in ["qemu-system-x86_64", "qemu-pr-helper"] {
        let output = Command::new(program).arg("--version").output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains("Debian"), "{program}: {said}");
    }
}

#[test]
fn qemu_is_of_version_10_or_later() {
    let output = Command::new("qemu-system-x86_64").arg("--version").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let (_, version) = said.lines().next().unwrap().split_once("version ").unwrap();
    let major: u32 = version.split('.').next().unwrap().parse().unwrap();
    assert!(major >= 10, "{said}");
}
