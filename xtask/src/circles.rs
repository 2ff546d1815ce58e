//! A test that the files of a crate do not depend on each other in a circle, so that each file can be read
//! after those that it names.
//!
//! It has a small parser of its own. It reads the module tree of each root file (`mod name;`, `mod name { }`,
//! `#[path]`) with all paths in it, and follows `crate`, `self`, `super`, child modules, `use` with its
//! braces, renaming and globs, and re-exports, to the file that defines the item. A file has an arrow to each
//! file whose items it names, except that
//! - `mod` and `pub use` alone make no arrow: a parent may list its children, and a re-export leads to the item's file;
//! - items behind `#[cfg(test)]` are ignored: unit tests may use the whole crate.
//!
//! The parser does not see methods and fields of another file's type that are used without the type's name,
//! paths in strings (`#[serde(with = "...")]`), and names that occur only in a macro's expansion behind a
//! glob import.

mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use tools::workspace;

/// All modules that belong to one root file. The first is the root.
#[derive(Default)]
struct Tree {
    modules: Vec<Module>,
    /// Files of modules behind `#[cfg(test)]`.
    test_files: Vec<PathBuf>,
}

#[derive(Default)]
struct Module {
    file: PathBuf,
    parent: Option<usize>,
    children: BTreeMap<String, usize>,
    /// Names that the module defines itself.
    items: BTreeSet<String>,
    imports: Vec<Import>,
    /// Every path outside of `use`.
    paths: Vec<Vec<String>>,
}

/// One name of a `use`.
struct Import {
    path: Vec<String>,
    /// `*` for a glob.
    name: String,
    is_reexport: bool,
}

/// The keywords before the name of an item.
const ITEMS: [&str; 8] = ["struct", "enum", "union", "fn", "const", "static", "trait", "type"];

/// The target of a path.
#[derive(Clone, Copy)]
enum Target {
    Module(usize),
    /// An item, in the module that defines it.
    Item(usize),
    /// Something outside of the crate.
    Outside,
}

/// The arrows: for each file the files that it names, with one of the paths that name them.
type Graph = BTreeMap<PathBuf, BTreeMap<PathBuf, String>>;

impl Tree {
    fn of(root: &Path) -> Self {
        let mut tree = Self::default();
        tree.read_file(root, None);
        tree
    }

    fn add(&mut self, file: &Path, parent: Option<usize>) -> usize {
        self.modules.push(Module { file: file.to_owned(), parent, ..Module::default() });
        self.modules.len() - 1
    }

    fn read_file(&mut self, file: &Path, parent: Option<usize>) -> usize {
        let module = self.add(file, parent);
        self.read(&tokens::of(&fs::read_to_string(file).unwrap()), module);
        module
    }

    fn read(&mut self, tokens: &[String], module: usize) {
        let file = self.modules[module].file.clone();
        let mut at = 0;
        let mut path_attribute = None;
        while at < tokens.len() {
            let rest: Vec<&str> = tokens[at..].iter().take(7).map(String::as_str).collect();
            let before = at.checked_sub(1).map_or("", |before| tokens[before].as_str());
            match *rest {
                ["#", "[", "cfg", "(", "test", ")", "]", ..] => {
                    let end = tokens::end_of_item(tokens, at + 7);
                    if let [.., keyword, name, semicolon] = &tokens[at + 7..end] {
                        if keyword == "mod" && semicolon == ";" {
                            self.test_files.push(child_file(&file, name));
                        }
                    }
                    at = end;
                }
                ["#", "[", "path", "=", text, "]", ..] => {
                    let path = file.with_file_name(text.trim_start_matches('"'));
                    path_attribute = Some(path.canonicalize().unwrap());
                    at += 6;
                }
                ["mod", name, ";", ..] => {
                    let child = path_attribute.take().unwrap_or_else(|| child_file(&file, name));
                    let child = self.read_file(&child, Some(module));
                    self.modules[module].children.insert(name.to_owned(), child);
                    at += 3;
                }
                ["mod", name, "{", ..] => {
                    let end = tokens::end_of_item(tokens, at);
                    let child = self.add(&file, Some(module));
                    self.read(&tokens[at + 3..end - 1], child);
                    self.modules[module].children.insert(name.to_owned(), child);
                    at = end;
                }
                // A macro that defines a module. Its content is read as a module without a name.
                ["mod", "$", _, "{", ..] => {
                    let end = tokens::end_of_item(tokens, at);
                    let child = self.add(&file, Some(module));
                    self.read(&tokens[at + 4..end - 1], child);
                    at = end;
                }
                ["use", next, ..] if next != "<" => {
                    let end = at + tokens[at..].iter().position(|token| token == ";").unwrap();
                    let imports = &mut self.modules[module].imports;
                    read_use(&tokens[at + 1..end], &[], before == "pub" || before == ")", imports);
                    at = end + 1;
                }
                ["macro_rules", "!", name, ..] => {
                    self.modules[module].items.insert(name.to_owned());
                    at += 3;
                }
                [token, ..] if tokens::is_name(token) => {
                    let mut path = vec![token.to_owned()];
                    let is_pointer = before == "const" && at >= 2 && tokens[at - 2] == "*";
                    while let [colons, name, ..] = &tokens[at + 1..] {
                        if colons != "::" || !tokens::is_name(name) {
                            break;
                        }
                        path.push(name.clone());
                        at += 2;
                    }
                    if ITEMS.contains(&before) && !is_pointer {
                        self.modules[module].items.insert(token.to_owned());
                    } else if before != "." {
                        self.modules[module].paths.push(path);
                    }
                    at += 1;
                }
                _ => at += 1,
            }
        }
    }

    /// Returns the target of a path in a module. `steps` limits the number of imports on the way, which may
    /// form a circle.
    fn follow(&self, from: usize, path: &[String], steps: usize) -> Target {
        let mut place = None;
        for name in path {
            let module = match place {
                None => from,
                Some(Target::Module(module)) => module,
                Some(place) => return place,
            };
            place = Some(match name.as_str() {
                "crate" => Target::Module(0),
                "self" => Target::Module(module),
                "super" => self.modules[module].parent.map_or(Target::Outside, Target::Module),
                name => match self.look_up(module, name, steps) {
                    Some(found) => found,
                    // The name of another crate or of an item of the prelude.
                    None if place.is_none() => Target::Outside,
                    None => Target::Item(module),
                },
            });
        }
        place.unwrap_or(Target::Outside)
    }

    fn look_up(&self, module: usize, name: &str, steps: usize) -> Option<Target> {
        let Module { children, items, imports, .. } = &self.modules[module];
        if let Some(child) = children.get(name) {
            return Some(Target::Module(*child));
        }
        let steps = steps.checked_sub(1)?;
        // An import of a macro's own name makes the macro an item of its module.
        let is_import = |import: &&Import| import.name == name && *import.path != [name];
        if let Some(import) = imports.iter().find(is_import) {
            return Some(self.follow(module, &import.path, steps));
        }
        if items.contains(name) {
            return Some(Target::Item(module));
        }
        imports.iter().filter(|import| import.name == "*").find_map(|glob| {
            match self.follow(module, &glob.path, steps) {
                Target::Module(other) => self.look_up(other, name, steps),
                _ => None,
            }
        })
    }

    /// Adds the arrows between the files to `graph`, with paths relative to `directory`.
    fn draw(&self, directory: &Path, graph: &mut Graph) {
        const STEPS: usize = 16;
        for (from, module) in self.modules.iter().enumerate() {
            let mut arrow = |to: usize, path: &[String]| {
                let to = &self.modules[to].file;
                if *to != module.file {
                    let relative = |file: &Path| file.strip_prefix(directory).unwrap_or(file).to_owned();
                    let arrows = graph.entry(relative(&module.file)).or_default();
                    arrows.entry(relative(to)).or_insert_with(|| path.join("::"));
                }
            };
            for path in &module.paths {
                if let Target::Item(to) = self.follow(from, path, STEPS) {
                    arrow(to, path);
                }
            }
            for import in module.imports.iter().filter(|import| !import.is_reexport) {
                match self.follow(from, &import.path, STEPS) {
                    Target::Item(to) => arrow(to, &import.path),
                    Target::Module(to) if import.name == "*" => arrow(to, &import.path),
                    _ => {}
                }
            }
        }
    }
}

/// Reads the tokens after `use`, or those of a group, which has `prefix` before its braces.
fn read_use(tokens: &[String], prefix: &[String], is_reexport: bool, imports: &mut Vec<Import>) {
    for part in tokens::split_at_commas(tokens) {
        let position = |of: &str| part.iter().position(|token| token == of);
        let (group, renaming) = (position("{"), position("as"));
        let head = group.or(renaming).unwrap_or(part.len());
        let mut path = prefix.to_vec();
        path.extend(part[..head].iter().filter(|token| !["::", "$"].contains(&token.as_str())).cloned());
        if let Some(at) = group {
            read_use(&part[at + 1..part.len() - 1], &path, is_reexport, imports);
            continue;
        }
        let Some(mut name) = path.last().cloned() else { continue };
        if name == "*" || (name == "self" && path.len() > 1) {
            path.pop();
        }
        if let Some(at) = renaming {
            name.clone_from(&part[at + 1]);
        } else if name == "self" {
            name = path.last().cloned().unwrap_or_default();
        }
        imports.push(Import { path, name, is_reexport });
    }
}

/// Returns the file of a child module. The children of a root and of a `mod.rs` are in its own directory.
fn child_file(parent: &Path, name: &str) -> PathBuf {
    let beside = parent.with_file_name("");
    [parent.with_extension(""), beside]
        .iter()
        .flat_map(|directory| {
            [directory.join(name).with_extension("rs"), directory.join(name).join("mod.rs")]
        })
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{} has no file for mod {name}", parent.display()))
}

/// Collects all Rust files below a directory, except in hidden directories and `target`.
fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Reads all crates below a directory. A root is a file that is not a module of another file.
fn graph(directory: &Path) -> Graph {
    let directory = directory.canonicalize().unwrap();
    let mut files = Vec::new();
    sources(&directory, &mut files);
    let trees: Vec<Tree> = files.iter().map(|file| Tree::of(file)).collect();
    let mut children = BTreeSet::new();
    for tree in &trees {
        let root = &tree.modules[0].file;
        let files = tree.modules.iter().map(|module| &module.file).chain(&tree.test_files);
        children.extend(files.filter(|file| *file != root));
    }
    let mut graph = Graph::new();
    for tree in trees.iter().filter(|tree| !children.contains(&tree.modules[0].file)) {
        tree.draw(&directory, &mut graph);
    }
    graph
}

/// Returns a line for each arrow that is part of a circle.
fn circles(graph: &Graph) -> Vec<String> {
    let reachable = |from: &PathBuf| {
        let mut seen = BTreeSet::new();
        let mut next = vec![from];
        while let Some(file) = next.pop() {
            for to in graph.get(file).into_iter().flat_map(BTreeMap::keys) {
                if seen.insert(to) {
                    next.push(to);
                }
            }
        }
        seen
    };
    let mut arrows = Vec::new();
    for (from, targets) in graph {
        for (to, path) in targets {
            if reachable(to).contains(from) {
                arrows.push(format!("{} names {path} of {}", from.display(), to.display()));
            }
        }
    }
    arrows
}

#[test]
fn files_form_no_circle() {
    let found = circles(&graph(&workspace::root()));
    assert!(
        found.is_empty(),
        "move the items that both sides need to a file of their own:\n{}",
        found.join("\n")
    );
}

/// In each case a.rs depends on b.rs.
#[test]
fn each_way_to_name_an_item_counts() {
    let plain = "mod a;\nmod b;\n";
    let exported = "mod a;\npub(crate) mod b;\npub use a::A;\npub use self::b::{B, C as D};\n";
    for (root, b, is_circle) in [
        (plain, "pub struct B;", false),
        (plain, "use crate::a::A; pub struct B;", true),
        (plain, "use super::a::{self as other, A as _}; pub struct B;", true),
        (plain, "use std::{fmt, io}; use crate::{a::{A}}; pub struct B;", true),
        (plain, "pub struct B; fn f(_: crate::a::A) {}", true),
        (plain, "use crate::a; pub struct B; fn f(_: a::A) {}", true),
        (plain, "use crate::a as c; pub struct B(c::A);", true),
        (plain, "use super::a::*; pub struct B;", true),
        (plain, "pub struct B; mod inner { use super::super::a::A; }", true),
        (plain, "pub struct B; macro_rules! a { () => { $crate::a::A } }", true),
        (plain, "pub struct B; macro_rules! a { () => { use $crate::a::A; } }", true),
        (plain, "pub struct B; macro_rules! a { ($n:ident) => { mod $n { use super::B; } } }", false),
        (plain, "pub struct B; fn f(_: *const A) { } use crate::a::A;", true),
        (plain, "use r#crate::a::A; pub struct B;", true),
        // The name is not the item.
        (plain, "pub struct B; // crate::a::A", false),
        (plain, "pub struct B; /* /* */ fn f(_: crate::a::A) {} */", false),
        (plain, r##"pub struct B; const C: &str = r#"" crate::a::A"#;"##, false),
        (
            plain,
            "pub struct B; const C: [char; 3] = ['\"', '\\'', 'x']; fn f<'a>(_: &'a crate::a::A) {}",
            true,
        ),
        (plain, "pub use crate::a::A; pub struct B;", false),
        (plain, "pub use crate::a::A; pub struct B(A);", true),
        (plain, "use crate::a; pub struct B;", false),
        (plain, "use a::A; pub struct B;", false),
        (plain, "pub struct B; #[cfg(test)] mod tests { use crate::a::A; } ", false),
        (plain, "pub struct B; #[cfg(test)] mod tests { } use crate::a::A;", true),
        // A re-export does not hide a circle.
        (exported, "use crate::A; pub struct B; pub struct C;", true),
        (exported, "use super::*; pub struct B; pub struct C; fn f(_: A) {}", true),
        (exported, "use crate::D; pub struct B; pub struct C;", false),
        // Parent and child.
        ("mod a; mod b; pub struct R; fn f(_: b::B) {}", "use crate::R; pub struct B;", true),
        ("mod a; mod b; pub struct R; pub use b::B;", "use crate::R; pub struct B;", false),
        ("mod a; mod b; pub struct R; pub use b::B; fn f(_: B) {}", "use crate::R; pub struct B;", true),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let a = "use crate::b::B; pub struct A(B);";
        for (name, text) in [("lib.rs", root), ("a.rs", a), ("b.rs", b)] {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let found = circles(&graph(directory.path()));
        assert_eq!(!found.is_empty(), is_circle, "{root}{b}\n{found:?}");
    }
}

/// Covers nested modules, `#[path]` and files of tests.
#[test]
fn files_are_found_where_modules_are() {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("src/main.rs", "mod a; #[path = \"../far/b.rs\"] mod b; #[cfg(test)] mod tests;"),
        ("src/a/mod.rs", "mod deep; pub struct A;"),
        ("src/a/deep.rs", "mod deeper; use crate::b::B;"),
        ("src/a/deep/deeper.rs", "use super::super::A;"),
        ("src/tests.rs", "mod more; use crate::a::A;"),
        ("src/tests/more.rs", "use super::super::a::A;"),
        ("far/b.rs", "mod near; use crate::a::A; use near::N; pub struct B;"),
        ("far/near.rs", "use crate::a::A; pub struct N;"),
    ] {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let graph = graph(directory.path());
    let arrows: Vec<String> = graph.values().flat_map(BTreeMap::values).cloned().collect();
    assert_eq!(arrows, ["near::N", "crate::a::A", "crate::a::A", "super::super::A", "crate::b::B"]);
    assert!(circles(&graph).is_empty());
}
