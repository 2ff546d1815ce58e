//! Tests of the packages to publish: each has the metadata and files that a registry shows, and no other is
//! published.

use std::fs;
use std::path::{Path, PathBuf};

use tools::workspace;

/// Returns the directories of the packages in the directory `above`.
fn packages(above: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(workspace::root().join(above)).unwrap();
    let mut packages: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    packages.sort();
    packages
}

/// Returns the section `[package]` of a manifest.
fn package_section(directory: &Path) -> String {
    let manifest = fs::read_to_string(directory.join("Cargo.toml")).unwrap();
    let (_, rest) = manifest.split_once("[package]\n").unwrap();
    rest.split("\n[").next().unwrap_or_default().to_owned()
}

#[test]
fn published_packages_have_all_metadata() {
    for directory in packages("crates").into_iter().chain(packages("bins")) {
        let name = directory.file_name().unwrap().to_string_lossy().into_owned();
        let section = package_section(&directory);
        let fields = ["name", "description", "readme", "version", "edition", "rust-version", "license"];
        for field in fields.into_iter().chain(["categories", "keywords"]) {
            let is_there = |line: &str| line.split([' ', '.']).next() == Some(field);
            assert!(section.lines().any(is_there), "{name} has no {field}");
        }
        assert!(!section.contains("publish"), "{name}");
        for file in ["README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"] {
            assert!(directory.join(file).exists(), "{name} has no {file}");
        }
        let changelog = fs::read_to_string(directory.join("CHANGELOG.md")).unwrap();
        let version = env!("CARGO_PKG_VERSION");
        assert!(changelog.contains(&format!("\n## {version}")), "{name} has no changes for {version}");
    }
}

#[test]
fn internal_packages_are_not_published() {
    for directory in [
        "tests/bench",
        "tests/bench/simulated-disk",
        "tests/daemon",
        "tests/fuzz",
        "tests/lab",
        "tests/soak",
        "tests/support",
        "xtask",
        "xtask/tools",
    ] {
        let section = package_section(&workspace::root().join(directory));
        assert!(section.contains("publish = false"), "{directory}");
    }
}
