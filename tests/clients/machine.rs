//! The machine is what the other tests take it for.

use std::process::Command;

#[test]
fn qemu_and_the_c_helper_are_debians() {
    for (program, arguments) in [("qemu-system-x86_64", &["--version"]), ("qemu-pr-helper", &["--version"])] {
        let output = Command::new(program).args(arguments).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains("Debian"), "{program}: {said}");
    }
}
