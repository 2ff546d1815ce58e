//! The benchmark, as short as it can be: does it run, and are all answers right? Nothing is said about time.

use std::process::Command;

/// In the words of its own check: root, and loop devices. `cargo xtask test` runs this where it can be.
#[test]
#[ignore = "needs root and /dev/loop0, /dev/loop1"]
fn the_benchmark_runs_and_all_answers_are_right() {
    let helper = test_support::build("pr-helper").expect("pr-helper").join("pr-helper");
    let disk = test_support::build("simulated-disk").expect("the disk").join("libsimulated_disk.so");
    let output = tempfile::tempdir().unwrap();
    let mut bench = Command::new(env!("CARGO_BIN_EXE_pr-bench"));
    bench.args(["--smoke", "--floor", env!("CARGO_BIN_EXE_pr-floor")]);
    bench.arg("--pr-helper").arg(&helper).arg("--disk").arg(disk).arg("--output").arg(output.path());
    // Twice, as it is when two builds are compared.
    bench.arg("--also").arg(format!("again={}", helper.display()));
    let done = bench.output().expect("pr-bench");
    let (table, complaints) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{complaints}");
    for scenario in
        ["one-in", "one-out", "many-in", "many-out", "slow", "hung", "flood", "memory", "start", "clients"]
    {
        assert!(table.contains(&format!("\n{scenario}: ")), "{scenario} is missing in:\n{table}");
    }
    for file in ["bench.json", "latency.svg"] {
        let text = std::fs::read_to_string(output.path().join(file)).unwrap();
        assert!(text.contains("pr-helper") && text.contains("again"), "{file}: {text}");
    }
}
