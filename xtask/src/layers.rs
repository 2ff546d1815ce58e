//! Tests that the published packages depend only on packages of lower layers, as docs/architecture.md draws
//! them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tools::workspace;

/// The layers, the lowest first. A package may depend only on packages of lower layers, also in its tests.
const LAYERS: [&[&str]; 6] = [
    &["block-pr", "confinement", "daemon-files", "dm-ioctl", "mpathpersist-sys", "scsi-sense"],
    &["mpathpersist", "pr-proto", "pr-target", "sg-io"],
    &["pr-backend", "pr-client"],
    &["pr-multipath", "pr-server"],
    &["pr-metrics"],
    &["pr-ctl", "pr-helper"],
];

/// The packages that may depend on libmpathpersist: pr-multipath, and the crates through which it uses that
/// library.
const OF_LIBMPATHPERSIST: [&str; 3] = ["mpathpersist-sys", "mpathpersist", "pr-multipath"];

/// Crates whose files may not even mention the library and the daemon of multipath-tools.
const WITHOUT_MULTIPATH: [&str; 5] = ["pr-backend", "pr-server", "pr-proto", "sg-io", "scsi-sense"];

/// Returns the names in all sections of a manifest whose names end in `dependencies`.
fn dependencies(manifest: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    let mut is_list = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            let header = header.trim_end_matches(']');
            is_list = header.ends_with("dependencies");
            if let Some((_, name)) = header.rsplit_once("dependencies.") {
                names.insert(name);
            }
        } else if is_list && line.starts_with(|c: char| c.is_ascii_alphabetic()) {
            names.insert(line.split(['.', ' ', '=']).next().unwrap_or_default());
        }
        assert!(!line.contains("package ="), "this test does not support renamed dependencies: {line}");
    }
    names
}

/// Returns the names and directories of all published packages.
fn published() -> Vec<(String, PathBuf)> {
    let directories = ["crates", "bins"].map(|above| fs::read_dir(workspace::root().join(above)).unwrap());
    let paths = directories.into_iter().flatten().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), path)).collect()
}

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&name))
}

/// Returns the faults in the dependencies of a package. `members` are all packages of the workspace.
fn faults(name: &str, manifest: &str, members: &BTreeSet<String>) -> Vec<String> {
    let mut faults = Vec::new();
    let Some(own) = layer(name) else { return vec![format!("{name} has no layer in xtask/src/layers.rs")] };
    for dependency in dependencies(manifest) {
        let is_below = layer(dependency).is_some_and(|layer| layer < own);
        // A package may depend on itself, to have its features in its tests.
        if members.contains(dependency) && !is_below && dependency != name {
            faults.push(format!("{name} must not depend on {dependency}"));
        }
        let is_library = dependency != "pr-multipath" && OF_LIBMPATHPERSIST.contains(&dependency);
        if is_library && !OF_LIBMPATHPERSIST.contains(&name) {
            faults.push(format!("{name} must not depend on {dependency}"));
        }
    }
    faults
}

/// Returns the names of all packages of the workspace.
fn members() -> BTreeSet<String> {
    let lock = fs::read_to_string(workspace::root().join("Cargo.lock")).unwrap();
    let packages = lock.split("[[package]]").filter(|package| !package.contains("\nsource = "));
    let names = packages.filter_map(|package| package.split("name = \"").nth(1)?.split('"').next());
    names.map(str::to_owned).collect()
}

fn mentions_multipath(directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            mentions_multipath(&path, found);
            continue;
        }
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).to_lowercase();
        if ["mpathpersist", "multipathd"].iter().any(|word| text.contains(word)) {
            found.push(path.display().to_string());
        }
    }
}

#[test]
fn crates_point_downward() {
    let members = members();
    let published = published();
    assert!(published.iter().all(|(name, _)| members.contains(name)), "{members:?}");
    for (name, directory) in &published {
        let manifest = fs::read_to_string(directory.join("Cargo.toml")).unwrap();
        let faults = faults(name, &manifest, &members);
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
    for name in LAYERS.concat() {
        assert!(
            published.iter().any(|(published, _)| published == name),
            "{name} has a layer but does not exist"
        );
    }
}

#[test]
fn lower_crates_do_not_mention_multipath() {
    let mut found = Vec::new();
    for name in WITHOUT_MULTIPATH {
        mentions_multipath(&workspace::root().join("crates").join(name), &mut found);
    }
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn upward_dependencies_are_found() {
    let members = ["pr-server", "pr-metrics", "pr-backend", "mpathpersist", "pr-helper", "tools"];
    let members: BTreeSet<String> = members.into_iter().map(str::to_owned).collect();
    for (name, manifest, is_fine) in [
        ("pr-server", "[dependencies]\nlog.workspace = true\npr-backend.workspace = true\n", true),
        ("pr-server", "[dependencies]\npr-metrics.workspace = true\n", false),
        ("pr-server", "[dev-dependencies]\npr-metrics = { workspace = true }\n", false),
        ("pr-server", "[dependencies.pr-metrics]\nworkspace = true\n", false),
        ("pr-backend", "[target.'cfg(unix)'.dependencies]\npr-server.workspace = true\n", false),
        ("pr-backend", "[dependencies]\nmpathpersist.workspace = true\n", false),
        ("pr-multipath", "[dependencies]\nmpathpersist.workspace = true\n", true),
        ("pr-metrics", "[dependencies]\npr-helper.workspace = true\n", false),
        ("pr-metrics", "[dev-dependencies]\ntools.workspace = true\n", false),
        ("pr-metrics", "[dependencies]\nlog.workspace = true\n[features]\npr-helper = []\n", true),
        ("new-crate", "[dependencies]\n", false),
    ] {
        let faults = faults(name, manifest, &members);
        assert_eq!(faults.is_empty(), is_fine, "{name}: {manifest}{faults:?}");
    }
}
