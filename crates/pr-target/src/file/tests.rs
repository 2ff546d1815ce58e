//! Crashes at every step, on a disk that keeps flushed data, and an arbitrary part of all other data.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::string::ToString as _;
use std::vec;

use scsi_sense::pr::{Keys, TransportId};
use scsi_sense::{SenseCode, Status};

use super::*;
use crate::{LogicalUnit, Nexus};

type Names = BTreeMap<PathBuf, usize>;

/// The content of a file, as programs see it and as flushed to the disk.
#[derive(Clone, Debug, Default)]
struct Content {
    seen: Vec<u8>,
    flushed: Vec<u8>,
}

/// A directory on a machine that may crash.
#[derive(Clone, Debug, Default)]
struct Crashing {
    contents: Vec<Content>,
    /// The directory as flushed, and then after each change since.
    names: Vec<Names>,
    /// The first step that fails, if any, and whether it has its effect nevertheless. All later steps fail, too.
    fails_at: Option<(usize, bool)>,
    steps: usize,
}

impl Crashing {
    fn new() -> Self {
        Self { names: vec![Names::new()], ..Self::default() }
    }

    fn fail_at(&mut self, step: (usize, bool)) {
        (self.steps, self.fails_at) = (0, Some(step));
    }

    fn seen(&self) -> &Names {
        self.names.last().unwrap()
    }

    fn change(&mut self, change: impl FnOnce(&mut Names)) {
        let mut names = self.seen().clone();
        change(&mut names);
        self.names.push(names);
    }

    /// Runs a step, unless it must fail.
    fn step<T>(&mut self, effect: impl FnOnce(&mut Self) -> T) -> io::Result<T> {
        let step = self.steps;
        self.steps += 1;
        match self.fails_at {
            Some((at, has_effect)) if step >= at => {
                if has_effect && step == at {
                    effect(self);
                }
                Err(io::Error::other("a fault"))
            }
            _ => Ok(effect(self)),
        }
    }

    /// Returns every content that `path` may have after a crash now.
    fn after_a_crash(&self, path: &Path) -> Vec<Option<Vec<u8>>> {
        let mut found = Vec::new();
        for names in &self.names {
            let Some(content) = names.get(path).map(|number| &self.contents[*number]) else {
                found.push(None);
                continue;
            };
            let half = content.seen[..content.seen.len() / 2].to_vec();
            let unflushed = [content.seen.clone(), half, vec![0; content.seen.len()], vec![]];
            found.push(Some(content.flushed.clone()));
            if content.flushed != content.seen {
                found.extend(unflushed.map(Some));
            }
        }
        found
    }
}

impl Files for Crashing {
    type Open = usize;

    fn create(&mut self, path: &Path, bytes: &[u8]) -> io::Result<usize> {
        self.step(|files| {
            let number = files.seen().get(path).copied().unwrap_or_else(|| {
                files.contents.push(Content::default());
                let number = files.contents.len() - 1;
                files.change(|names| assert_eq!(names.insert(path.into(), number), None));
                number
            });
            files.contents[number].seen = bytes.to_vec();
            number
        })
    }

    fn flush(&mut self, file: &usize) -> io::Result<()> {
        self.step(|files| {
            let content = &mut files.contents[*file];
            content.flushed = content.seen.clone();
        })
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(|files| {
            files.change(|names| {
                let number = names.remove(from).unwrap();
                names.insert(to.into(), number);
            });
        })
    }

    fn flush_directory(&mut self, _: &Path) -> io::Result<()> {
        self.step(|files| {
            let names = files.seen().clone();
            files.names = vec![names];
        })
    }
}

const PATH: &str = "/state/unit";

/// A store that saves to these files, and loads fixed bytes.
#[derive(Clone, Debug)]
struct CrashingStore {
    files: Rc<RefCell<Crashing>>,
    found: Option<Vec<u8>>,
}

impl Store for CrashingStore {
    type Error = FileError;

    fn load(&mut self) -> Result<Option<Vec<u8>>, FileError> {
        Ok(self.found.clone())
    }

    fn save(&mut self, state: &[u8]) -> Result<(), FileError> {
        replace(&mut *self.files.borrow_mut(), Path::new(PATH), state)
    }
}

/// Returns a unit after a power on, with `found` as its saved state, and its files.
fn unit_that_found(found: Option<Vec<u8>>) -> (LogicalUnit<CrashingStore>, Rc<RefCell<Crashing>>) {
    let files = Rc::new(RefCell::new(Crashing::new()));
    let store = CrashingStore { files: Rc::clone(&files), found };
    (LogicalUnit::open(&[1], store).expect("never damaged"), files)
}

fn nexus() -> Nexus {
    Nexus::new(TransportId::Sas { address: 0xa }, 1).unwrap()
}

/// REGISTER AND IGNORE EXISTING KEY with APTPL.
fn register<S: Store>(unit: &mut LogicalUnit<S>, key: u8) -> crate::Answer {
    let mut parameters = [0; 24];
    parameters[15] = key;
    parameters[20] = 0x01;
    unit.execute(&nexus(), &[0x5f, 0x06, 0, 0, 0, 0, 0, 0, 24, 0], &parameters, &mut [])
}

fn keys<S: Store>(unit: &mut LogicalUnit<S>) -> Vec<u64> {
    let mut data = [0; 64];
    let answer = unit.execute(&nexus(), &[0x5e, 0, 0, 0, 0, 0, 0, 0, 64, 0], &[], &mut data);
    assert_eq!(answer.status, Status::GOOD);
    Keys::parse(&data[..answer.length]).unwrap().iter().map(|key| key.0).collect()
}

/// A crash at any step leaves the old state or the new one. After GOOD it leaves the new one.
#[test]
fn crash_leaves_old_or_new_state() {
    let mut outcomes = BTreeSet::new();
    // Four steps, and none that fails.
    for fails_at in (0..=4).flat_map(|step| [(step, false), (step, true)]) {
        for first in [false, true] {
            let (mut unit, files) = unit_that_found(None);
            if !first {
                assert_eq!(register(&mut unit, 1).status, Status::GOOD);
            }
            let before = if first { vec![] } else { vec![1] };
            files.borrow_mut().fail_at(fails_at);
            let answer = register(&mut unit, 2);
            let is_good = answer.status == Status::GOOD;
            assert_eq!(is_good, fails_at.0 == 4, "{fails_at:?}");
            if !is_good {
                assert_eq!(answer.sense, Some(SenseCode::INTERNAL_TARGET_FAILURE));
                assert!(unit.take_save_error().is_some());
                assert_eq!(keys(&mut unit), before, "nothing has changed");
            }
            for found in files.borrow().after_a_crash(Path::new(PATH)) {
                let after = keys(&mut unit_that_found(found).0);
                assert!(after == [2] || (!is_good && after == before), "{fails_at:?}: {after:?}");
                outcomes.insert((fails_at, after == before));
            }
        }
    }
    // Both outcomes must occur where both are possible, otherwise this test could not fail.
    assert!(
        outcomes.contains(&((3, false), true)) && outcomes.contains(&((3, false), false)),
        "{outcomes:?}"
    );
}

#[test]
fn failed_save_is_repeated_by_next_command() {
    let (mut unit, files) = unit_that_found(None);
    assert_eq!(register(&mut unit, 1).status, Status::GOOD);
    // The rename has its effect, and the directory cannot be flushed.
    files.borrow_mut().fail_at((3, false));
    assert_eq!(register(&mut unit, 2).status, Status::CHECK_CONDITION);
    files.borrow_mut().fails_at = None;
    // RELEASE of no reservation.
    let mut parameters = [0; 24];
    parameters[7] = 1;
    let answer = unit.execute(&nexus(), &[0x5f, 0x02, 0x01, 0, 0, 0, 0, 0, 24, 0], &parameters, &mut []);
    assert_eq!(answer.status, Status::GOOD);
    for found in files.borrow().after_a_crash(Path::new(PATH)) {
        assert_eq!(keys(&mut unit_that_found(found).0), [1]);
    }
}

#[test]
fn file_error_names_step_and_file() {
    for (step, text) in [
        (0, "cannot write /state/unit.new"),
        (1, "cannot flush /state/unit.new"),
        (2, "cannot rename another to /state/unit"),
        (3, "cannot flush the directory /state"),
    ] {
        let mut files = Crashing { fails_at: Some((step, false)), ..Crashing::new() };
        let error = replace(&mut files, Path::new(PATH), b"").unwrap_err();
        assert_eq!(error.to_string(), text);
        assert_eq!(error.source.to_string(), "a fault");
    }
}

#[test]
fn bare_file_name_is_in_current_directory() {
    assert_eq!(directory_of(Path::new("unit")), Path::new("."));
    assert_eq!(directory_of(Path::new("state/unit")), Path::new("state"));
}
