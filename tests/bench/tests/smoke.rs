//! Runs the benchmark as briefly as possible, to check that it works and that all replies are right. Times
//! are not checked.

use std::process::Command;

/// Needs root and loop devices. `cargo xtask test` runs it if the host has them.
#[test]
#[ignore = "needs root and /dev/loop0, /dev/loop1"]
fn benchmark_runs_with_right_replies() {
    let helper = test_support::build("pr-helper").expect("pr-helper").join("pr-helper");
    let disk = test_support::build("simulated-disk").expect("the disk").join("libsimulated_disk.so");
    let output = tempfile::tempdir().unwrap();
    let mut bench = Command::new(env!("CARGO_BIN_EXE_pr-bench"));
    bench.args(["--smoke", "--floor", env!("CARGO_BIN_EXE_pr-floor")]);
    bench.arg("--pr-helper").arg(&helper).arg("--disk").arg(disk).arg("--output").arg(output.path());
    // Runs the same build twice, as in a comparison of two builds.
    bench.arg("--also").arg(format!("again={}", helper.display()));
    let done = bench.output().expect("pr-bench");
    let (table, errors) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{errors}");
    for scenario in [
        "one-in",
        "one-out",
        "many-in",
        "many-out",
        "slow",
        "hung",
        "flood",
        "flood-over-quota",
        "memory",
        "start",
        "clients",
    ] {
        assert!(table.contains(&format!("\n{scenario}: ")), "{scenario} is missing in:\n{table}");
    }
    for file in ["bench.json", "latency.svg"] {
        let text = std::fs::read_to_string(output.path().join(file)).unwrap();
        assert!(text.contains("pr-helper") && text.contains("again"), "{file}: {text}");
    }
}
