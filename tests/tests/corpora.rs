//! Every corpus file, and mutations of it, through its fuzz target.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use trackerless_core::rng::{Choice, Label};
use trackerless_tests::fuzzing::TARGETS;

/// Mutations tried per target; `fuzz/` tries millions.
const MUTATIONS: u64 = 200;
/// Longest input made by a mutation.
const MAX_LEN: usize = 4096;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = root().join("corpus").join(name);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("the entry can be read").path())
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let bytes = std::fs::read(&path).expect("the file can be read");
            (path, bytes)
        })
        .collect()
}

fn names_in(folder: &str) -> BTreeSet<String> {
    std::fs::read_dir(root().join(folder))
        .expect("the folder can be read")
        .map(|entry| entry.expect("the entry can be read").path())
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_string()))
        .collect()
}

/// Runs one input; a panic names the file it came from.
fn run(name: &str, target: fn(&[u8]), origin: &str, bytes: &[u8]) {
    let outcome = std::panic::catch_unwind(|| target(bytes));
    if outcome.is_err() {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!("{name} fails on {origin}, as bytes: {hex}");
    }
}

#[test]
fn every_target_has_its_file_and_its_corpus() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names_in("fuzz_targets"), targets);
    assert_eq!(names_in("corpus"), targets);
    for (name, _) in TARGETS {
        assert!(!corpus(name).is_empty(), "{name} has no corpus");
    }
}

#[test]
fn every_corpus_file_passes() {
    for (name, target) in TARGETS {
        for (path, bytes) in corpus(name) {
            run(name, *target, &path.display().to_string(), &bytes);
        }
    }
}

#[test]
fn mutations_of_corpus_files_pass() {
    for (index, (name, target)) in TARGETS.iter().enumerate() {
        let files = corpus(name);
        let mut choice = Choice::new(&[42; 32], Label::Custom(index as u64));
        for round in 0..MUTATIONS {
            let (_, mut bytes) = files[choice.index(files.len())].clone();
            for _ in 0..=choice.below(4) {
                mutate(&mut bytes, &files[choice.index(files.len())].1, &mut choice);
            }
            bytes.truncate(MAX_LEN);
            run(name, *target, &format!("mutation {round}"), &bytes);
        }
    }
}

fn mutate(bytes: &mut Vec<u8>, other: &[u8], choice: &mut Choice) {
    let at = choice.index(bytes.len() + 1);
    match choice.below(5) {
        0 => bytes.insert(at, choice.next_u64() as u8),
        1 if at < bytes.len() => bytes[at] = choice.next_u64() as u8,
        2 if at < bytes.len() => bytes[at] ^= 1 << choice.below(8),
        3 => {
            let end = (at + choice.index(16)).min(bytes.len());
            bytes.drain(at..end);
        }
        _ => {
            let from = choice.index(other.len() + 1);
            let until = from + choice.index(other.len() - from + 1);
            bytes.splice(at..at, other[from..until].iter().copied());
        }
    }
}
