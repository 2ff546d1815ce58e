//! Comparison of pr-helper with QEMU's helper. Both get the same requests, well-formed, malformed and random,
//! with the same simulated disk. Their replies must be equal byte for byte; each permitted difference is in
//! `differences` and, with its reason, in docs/compatibility.md.

#![forbid(unsafe_code)]

mod comparison;
mod contestant;
mod corpus;
mod differences;
mod life;
mod mutation;
#[path = "../../bench/simulated-disk/src/prepared.rs"]
mod prepared;
mod request;

use std::{collections::BTreeSet, env, path::Path, process::Command, time::Instant};

use comparison::Comparison;
use contestant::{Contestant, Descriptors};
use corpus::{Case, Kind};
use differences::{DIFFERENCES, Version};
use mutation::{Random, mutate};
use prepared::Answers;
use request::{Request, requests};
use test_support::Daemon;
use tools::c_helper::CHelper;

const ANSWERS: &str = include_str!("answers.txt");
const CORPUS: &str = include_str!("corpus.txt");

/// The number of cases with random changes made from each line of the corpus.
const MUTATIONS: usize = 100;

fn answers() -> Answers {
    prepared::parse(ANSWERS).expect("answers.txt")
}

/// Returns the seed of the random cases, which is fixed unless `COMPAT_SEED` sets another.
fn seed() -> u64 {
    env::var("COMPAT_SEED").map_or(1, |text| text.parse().expect("COMPAT_SEED is a number"))
}

/// Returns the cases of each line of the corpus.
fn cases() -> Vec<Vec<Case>> {
    corpus::parse(CORPUS, &answers()).expect("corpus.txt")
}

#[test]
#[ignore = "needs root, /dev/loop0 and QEMU's qemu-pr-helper"]
fn both_helpers_start_and_stop_alike() {
    let c_helper = CHelper::find().expect("QEMU's qemu-pr-helper");
    let disk = test_support::build("simulated-disk").expect("the disk").join("libsimulated_disk.so");
    let with_disk = |mut command: Command| {
        command.env("LD_PRELOAD", &disk);
        command
    };
    let (start_rust, start_qemu) = (|| with_disk(Daemon::command()), || with_disk(c_helper.command()));
    let mut wrong = Vec::new();
    for &(name, scenario) in life::SCENARIOS {
        let outcome = |command: &dyn Fn() -> Command| {
            life::Stage::new(command)
                .and_then(|stage| scenario(&stage))
                .unwrap_or_else(|error| error.to_string())
        };
        let (rust, qemu) = (outcome(&start_rust), outcome(&start_qemu));
        let expected = life::DIFFERENCES.iter().find(|(known, ..)| *known == name);
        let as_expected = match expected {
            Some(&(_, expected_rust, expected_qemu)) => (expected_rust, expected_qemu) == (&rust, &qemu),
            None => rust == qemu,
        };
        if !as_expected {
            wrong.push(format!("{name}\n    pr-helper: {rust}\n    QEMU:      {qemu}"));
        }
        println!("{name}: {}", if rust == qemu { "the same" } else { "different, as documented" });
    }
    assert!(wrong.is_empty(), "not what docs/compatibility.md says:\n{}", wrong.join("\n"));
}

/// Returns the version from the C helper's `--version`, such as "qemu-pr-helper 7.2.22 (...)".
fn version(c_helper: &CHelper) -> Version {
    let output = c_helper.command().arg("--version").output().expect("the C helper");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers = text.split_whitespace().nth(1).and_then(|word| {
        let mut numbers = word.split('.').map(|number| number.parse().ok());
        Some((numbers.next()??, numbers.next()??))
    });
    numbers.unwrap_or_else(|| panic!("no version in {text:?}"))
}

#[test]
#[ignore = "needs root, /dev/loop0 and QEMU's qemu-pr-helper"]
fn both_helpers_answer_alike() {
    let c_helper = CHelper::find().expect("QEMU's qemu-pr-helper");
    let version = version(&c_helper);
    let disk = test_support::build("simulated-disk").expect("the disk").join("libsimulated_disk.so");
    let prepared = concat!(env!("CARGO_MANIFEST_DIR"), "/compat/answers.txt");
    let with_disk = |mut command: Command, socket: &Path| {
        command.arg("-k").arg(socket).env("LD_PRELOAD", &disk);
        command.env("SIMULATED_DISK_LOOP_ONLY", "1").env("SIMULATED_DISK_ANSWERS", prepared);
        command
    };
    let start_rust = |socket: &Path| with_disk(Daemon::command(), socket);
    let start_qemu = |socket: &Path| with_disk(c_helper.command(), socket);
    let mut both = [Contestant::new(&start_rust), Contestant::new(&start_qemu)];
    let (descriptors, answers) = (Descriptors::open().expect("descriptors"), answers());

    let (lines, mut random) = (cases(), Random(seed()));
    let mut mutated = Vec::new();
    for cases in &lines {
        mutated.extend((0..MUTATIONS).map(|_| mutate(&cases[random.below(cases.len())], &mut random)));
    }
    let begun = Instant::now();
    let mut comparison = Comparison::default();
    for case in lines.iter().flatten().chain(&mutated) {
        comparison.run(case, &mut both, &descriptors, &answers).expect("the helpers start");
    }
    let Comparison { cases, requests, seen, .. } = &comparison;
    let time = begun.elapsed();
    println!(
        "QEMU {version:?}: {cases} cases with {requests} requests in {time:.1?}; differences: {seen:#?}"
    );
    comparison.conclude(version);
}

#[test]
fn corpus_covers_actions_answers_and_lengths() {
    let cases = cases().concat();
    assert!(cases.len() > 10_000, "{}", cases.len());
    let answers = answers();
    let requests: Vec<Request> = cases.iter().flat_map(|case| requests(case, &answers)).collect();
    let (reads, writes): (Vec<&Request>, Vec<&Request>) = requests
        .iter()
        .filter(|request| request.is_in() || request.is_out())
        .partition(|request| request.is_in());
    for (what, some) in [("IN", &reads), ("OUT", &writes)] {
        let actions: BTreeSet<u8> =
            some.iter().filter_map(|request| Some(request.cdb.get(1)? & 0x1f)).collect();
        assert!((0..32).all(|action| actions.contains(&action)), "{what}: {actions:?}");
        let numbers: BTreeSet<u16> = some.iter().map(|request| prepared::number(&request.cdb)).collect();
        let missing: Vec<&u16> = answers.keys().filter(|number| !numbers.contains(number)).collect();
        assert!(missing.is_empty(), "{what}: {missing:x?}");
        for (name, kind) in Kind::ALL {
            assert!(some.iter().any(|request| request.descriptors == [kind]), "{what}: {name}");
        }
    }
    let lengths: BTreeSet<usize> = reads.iter().map(|request| request.length()).collect();
    assert!((0..=8193).all(|length| lengths.contains(&length)));
}

/// Each difference has a line in one of the document's tables, and each line of the tables has a difference.
#[test]
fn every_difference_is_documented() {
    let document = include_str!("../../../docs/compatibility.md");
    let table = |heading: &str| -> Vec<(&str, &str)> {
        let section = document.split_once(&format!("\n## {heading}\n")).expect("the section").1;
        let section = section.split("\n## ").next().unwrap_or_default();
        section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | ")).collect()
    };
    let answers = table("Answers");
    let names: Vec<&str> = DIFFERENCES.iter().map(|difference| difference.name).collect();
    assert_eq!(answers.iter().map(|(name, _)| *name).collect::<Vec<_>>(), names);
    for (difference, (_, line)) in DIFFERENCES.iter().zip(&answers) {
        assert!(line.ends_with(&format!("| {} |", difference.why)), "{}: {line}", difference.name);
    }
    let life: Vec<&str> = table("Life").iter().map(|(name, _)| *name).collect();
    assert_eq!(life, life::DIFFERENCES.map(|(name, ..)| name));
}
