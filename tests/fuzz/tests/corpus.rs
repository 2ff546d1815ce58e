//! Calls each fuzz target with the files of its corpus.

use std::fs;
use std::path::Path;

fn corpus() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus"))
}

#[test]
fn corpus_breaks_no_promise() {
    for (name, target) in fuzz::TARGETS {
        let files = fs::read_dir(corpus().join(name)).unwrap();
        let mut count = 0;
        for file in files {
            let path = file.unwrap().path();
            // Printed if the target panics.
            eprintln!("{}", path.display());
            target(&fs::read(&path).unwrap());
            count += 1;
        }
        assert!(count >= 10, "{name} has {count} files");
    }
}

#[test]
fn each_target_has_program_and_corpus() {
    let names: Vec<String> = fuzz::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    for (directory, suffix) in [("corpus", ""), ("fuzz_targets", ".rs")] {
        let entries = fs::read_dir(corpus().join("..").join(directory)).unwrap();
        let files = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut found: Vec<String> =
            files.map(|name| name.strip_suffix(suffix).unwrap_or(&name).to_owned()).collect();
        found.sort();
        assert_eq!(found, names, "{directory}");
    }
}
