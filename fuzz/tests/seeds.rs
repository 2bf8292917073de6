//! The seeds reach what they are for, without a fuzzer.

use std::collections::BTreeSet;
use std::path::Path;

use icecore_fuzz::TARGETS;

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries
        .map(|entry| entry.expect("a seed"))
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).expect("a seed")))
        .collect()
}

/// All of them are golden: one that is refused means that the format changed under them.
#[test]
fn every_seed_is_accepted_by_its_target() {
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "{name} has seeds");
        for (seed, bytes) in seeds {
            assert!(target(&bytes), "{name}/{seed}");
        }
    }
}

#[test]
fn every_target_is_a_binary_and_every_binary_a_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets");
    let binaries: BTreeSet<String> = std::fs::read_dir(folder)
        .expect("the targets")
        .map(|entry| entry.expect("a target").path().file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(binaries, targets);
}

/// What a short run of a fuzzer tries first, tried here on every run of the tests: cuts, flips and extreme bytes.
#[test]
fn no_small_change_of_a_seed_panics() {
    for (name, target) in TARGETS {
        for (_, bytes) in seeds(name) {
            let step = bytes.len() / 300 + 1;
            for place in (0..bytes.len()).step_by(step) {
                target(&bytes[..place]);
                for value in [0, 1, 0x7f, 0x80, 0xfb, 0xfc, 0xfd, 0xff, bytes[place] ^ 1, bytes[place].wrapping_add(1)]
                {
                    let mut changed = bytes.clone();
                    changed[place] = value;
                    target(&changed);
                }
            }
        }
    }
}
