//! The machine has the properties on which the other tests rely.

use std::process::Command;

#[test]
fn qemu_and_c_helper_are_from_debian() {
    for program in ["qemu-system-x86_64", "qemu-pr-helper"] {
        let output = Command::new(program).arg("--version").output().unwrap();
        let version_text = String::from_utf8(output.stdout).unwrap();
        assert!(version_text.contains("Debian"), "{program}: {version_text}");
    }
}

#[test]
fn qemu_is_version_10_or_later() {
    let output = Command::new("qemu-system-x86_64").arg("--version").output().unwrap();
    let version_text = String::from_utf8(output.stdout).unwrap();
    let (_, version) = version_text.lines().next().unwrap().split_once("version ").unwrap();
    let major: u32 = version.split('.').next().unwrap().parse().unwrap();
    assert!(major >= 10, "{version_text}");
}
