//! Parity end to end: packs of a real repository are damaged, and come back by it, through the command line and without a
//! key; what it cannot bring back is said, and nothing is ever mended to other bytes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use icecore_tests::cli::{Cli, Runs};
use icecore_tests::damage::{self, Damage, Kind};
use icecore_tests::whole::{self, Known, back_up, noise, open_on, secret, write_edition};
use repo_core::{
    Backend, CheckOptions, InitOptions, Local, Memory, ObjectName, PackKind, ParityOptions, ParityReport, Prefix,
    Repository, Silent, Span,
};

/// A repository in memory with one snapshot, and what is in it.
struct Bench {
    backend: Arc<Memory>,
    known: Known,
    _source: tempfile::TempDir,
}

impl Bench {
    fn new(percent: u8) -> Self {
        let backend = Arc::new(Memory::new());
        Repository::init(backend.clone(), &secret(), &InitOptions::new().parity_percent(percent)).unwrap();
        let source = tempfile::tempdir().unwrap();
        write_edition(source.path(), 0);
        let mut known = Known::default();
        known.add(&back_up(&open_on(backend.clone()), source.path()).unwrap(), source.path());
        Self { backend, known, _source: source }
    }

    fn packs(&self) -> Vec<ObjectName> {
        [Kind::DataPack, Kind::MetaPack].into_iter().flat_map(|kind| damage::of_kind(&*self.backend, kind)).collect()
    }

    fn parity(&self) -> Vec<ObjectName> {
        let all = damage::objects(&*self.backend);
        all.into_iter().filter(|name| matches!(name, ObjectName::Parity(..))).collect()
    }

    fn bytes(&self, name: &ObjectName) -> Vec<u8> {
        self.backend.get(name, Span::All).unwrap().to_vec()
    }

    /// Puts other bytes under a name.
    fn replace(&self, name: &ObjectName, bytes: Vec<u8>) {
        self.backend.replace_damaged(name, bytes.into()).unwrap();
    }

    fn repair(&self, options: &ParityOptions) -> ParityReport {
        open_on(self.backend.clone()).repair_parity(options, &Silent).unwrap()
    }

    fn is_whole(&self) -> Result<(), String> {
        let repository = open_on(self.backend.clone());
        whole::is_spotless(&repository)?;
        self.known.are_whole(&repository, self.known.0.keys().copied())
    }
}

fn reading_packs() -> ParityOptions {
    ParityOptions::new().read_packs()
}

/// How many shards a parity object says to have.
fn shards(name: &ObjectName) -> u16 {
    match name {
        ObjectName::Parity(_, shards) => *shards,
        other => panic!("{other} is no parity object"),
    }
}

#[test]
fn every_pack_of_a_backup_has_its_parity_and_check_finds_nothing_to_say() {
    let bench = Bench::new(2);
    assert_eq!(bench.parity().len(), bench.packs().len());
    assert!(bench.packs().len() >= 2, "a data pack and a metadata pack");
    assert_eq!(bench.is_whole(), Ok(()));
    let report = bench.repair(&reading_packs());
    assert_eq!((report.written, report.mended, report.removed, report.percent), (0, 0, 0, 2));
    assert_eq!(Bench::new(0).parity(), []);
}

#[test]
fn a_directory_gives_parity_and_memory_gives_none_unless_they_are_told_otherwise() {
    let percent = |backend: Arc<dyn Backend>, options: &InitOptions| {
        Repository::init(backend, &secret(), options).unwrap().config().parity_percent()
    };
    let directory = tempfile::tempdir().unwrap();
    let local = |name: &str| Arc::new(Local::new(directory.path().join(name)));
    assert_eq!(percent(local("default"), &InitOptions::new()), 2);
    assert_eq!(percent(local("none"), &InitOptions::new().parity_percent(0)), 0);
    assert_eq!(percent(local("much"), &InitOptions::new().parity_percent(100)), 100);
    assert_eq!(percent(Arc::new(Memory::new()), &InitOptions::new()), 0);
    assert!(Repository::init(local("more"), &secret(), &InitOptions::new().parity_percent(101)).is_err());
    assert!(!directory.path().join("more").exists());
}

#[test]
fn packs_that_changed_or_were_cut_come_back_byte_for_byte() {
    for how in Damage::ALL.into_iter().filter(|how| *how != Damage::Delete) {
        // As much parity as data, so that every cut heals.
        let bench = Bench::new(100);
        let before: Vec<_> = bench.packs().iter().map(|name| bench.bytes(name)).collect();
        for name in bench.packs() {
            bench.replace(&name, how.done_to(&bench.bytes(&name)).unwrap());
        }
        assert!(bench.is_whole().is_err(), "{how}");
        let report = bench.repair(&reading_packs());
        assert_eq!((report.healed_packs.len(), report.unhealed.len()), (before.len(), 0), "{how}");
        let after: Vec<_> = bench.packs().iter().map(|name| bench.bytes(name)).collect();
        assert!(after == before, "{how}");
        assert_eq!(bench.is_whole(), Ok(()), "{how}");
    }
}

#[test]
fn as_many_lost_places_as_shards_heal_and_one_more_is_reported_and_left_as_it_is() {
    let bench = Bench::new(5);
    let pack = bench.packs().into_iter().max_by_key(|name| bench.bytes(name).len()).unwrap();
    let ObjectName::Pack(_, id) = pack else { panic!("a pack") };
    let parity = bench.parity().into_iter().find(|name| matches!(name, ObjectName::Parity(of, _) if *of == id));
    let count = usize::from(shards(&parity.unwrap()));
    let before = bench.bytes(&pack);
    let damaged = |places: usize| {
        let mut bytes = before.clone();
        for place in 0..places {
            // The least shard has 2048 bytes, so these lie in different ones.
            bytes[place * before.len() / (count + 1)] ^= 0x20;
        }
        bytes
    };
    assert!(before.len() / (count + 1) > 4096, "the places lie in different shards");
    bench.replace(&pack, damaged(count));
    assert_eq!(bench.repair(&reading_packs()).healed_packs, [id]);
    assert!(bench.bytes(&pack) == before);

    bench.replace(&pack, damaged(count + 1));
    let report = bench.repair(&reading_packs());
    assert_eq!(report.healed_packs, []);
    let [unhealed] = &report.unhealed[..] else { panic!("{:?}", report.unhealed) };
    assert_eq!(unhealed.object, pack);
    assert!(unhealed.reason.contains(&format!("{} of its", count + 1)), "{}", unhealed.reason);
    assert!(bench.bytes(&pack) == damaged(count + 1), "what is there is left as it is");
}

/// Damage of a pack and of its parity together is still healed as far as whole shards go, a header less included.
#[test]
fn damaged_parity_heals_what_it_can_and_is_made_whole_itself() {
    let bench = Bench::new(10);
    let before: Vec<_> = damage::objects(&*bench.backend).iter().map(|name| (*name, bench.bytes(name))).collect();
    for name in bench.parity() {
        let mut bytes = bench.bytes(&name);
        bytes[0] ^= 1;
        bench.replace(&name, bytes);
    }
    for name in bench.packs() {
        bench.replace(&name, Damage::Flip { at_percent: 55 }.done_to(&bench.bytes(&name)).unwrap());
    }
    let report = open_on(bench.backend.clone()).check(&CheckOptions::new().read_data(), &Silent).unwrap();
    assert!(report.errors.len() >= before.len().min(bench.packs().len() * 2), "{:?}", report.errors);
    // Not even asked to read packs: where parity is damaged, the pack must be read to make it anew.
    let report = bench.repair(&ParityOptions::new());
    assert_eq!((report.healed_packs.len(), report.mended as usize), (bench.packs().len(), bench.parity().len()));
    for (name, bytes) in before {
        assert!(bench.bytes(&name) == bytes, "{name}");
    }
    assert_eq!(bench.is_whole(), Ok(()));
}

#[test]
fn check_names_every_damaged_parity_object_and_notes_those_without_a_pack() {
    let bench = Bench::new(2);
    for how in [Damage::Flip { at_percent: 0 }, Damage::Flip { at_percent: 55 }, Damage::Truncate { keep_percent: 99 }]
    {
        let name = bench.parity()[0];
        let before = bench.bytes(&name);
        bench.replace(&name, how.done_to(&before).unwrap());
        let report = whole::check(&open_on(bench.backend.clone())).unwrap();
        assert_eq!(report.errors.len(), 1, "{how}");
        assert!(report.errors[0].to_string().starts_with(&name.to_string()), "{}", report.errors[0]);
        assert_eq!(report.damaged_packs, [], "{how}: no data is");
        bench.replace(&name, before);
    }
    // A parity object under another's name is damage too.
    let [one, other] = [bench.parity()[0], bench.parity()[1]];
    let bytes = bench.bytes(&one);
    bench.replace(&one, bench.bytes(&other));
    assert_eq!(whole::check(&open_on(bench.backend.clone())).unwrap().errors.len(), 1);
    bench.replace(&one, bytes);

    let ObjectName::Parity(mut pack, shards) = one else { panic!("a parity object") };
    pack.0[5] ^= 1;
    let orphan = ObjectName::Parity(pack, shards);
    bench.backend.put_new(&orphan, bench.bytes(&one).into()).unwrap();
    let report = open_on(bench.backend.clone()).check(&CheckOptions::new(), &Silent).unwrap();
    assert!(report.is_whole(), "{:?}", report.errors);
    assert!(report.notes.iter().any(|note| note.contains(&orphan.to_string())), "{:?}", report.notes);
    assert_eq!(bench.repair(&ParityOptions::new()).orphaned, 1);
    assert!(bench.parity().contains(&orphan), "it may be all that is left of a pack");
}

#[test]
fn the_percentage_can_be_changed_and_packs_follow() {
    let bench = Bench::new(0);
    let config = || open_on(bench.backend.clone()).config().clone();
    assert_eq!((config().generation, config().parity_percent()), (1, 0));
    let packs = bench.packs().len() as u64;
    let report = bench.repair(&ParityOptions::new().percent(5));
    assert_eq!((report.percent, report.written, report.removed), (5, packs, 0));
    assert_eq!((config().generation, config().parity_percent()), (2, 5));
    assert_eq!(bench.is_whole(), Ok(()));
    let few: u16 = bench.parity().iter().map(shards).sum();

    let report = bench.repair(&ParityOptions::new().percent(100));
    assert_eq!((report.written, report.removed), (packs, packs));
    assert!(bench.parity().iter().map(shards).sum::<u16>() > 2 * few);
    assert_eq!((bench.parity().len() as u64, config().generation), (packs, 3));

    // Nothing to change: no new generation, nothing written.
    let report = bench.repair(&ParityOptions::new().percent(100));
    assert_eq!((report.written, report.removed, config().generation), (0, 0, 3));

    let report = bench.repair(&ParityOptions::new().percent(0));
    assert_eq!((report.written, report.removed, bench.parity().len()), (0, packs, 0));
    assert_eq!((config().generation, config().parity_percent()), (4, 0));
    assert_eq!(bench.is_whole(), Ok(()));
    let refused = open_on(bench.backend.clone()).repair_parity(&ParityOptions::new().percent(101), &Silent);
    assert!(refused.is_err());
    assert_eq!(config().generation, 4);
}

/// A writer died between a pack and its parity, or before the parity's name was durable; the next backup uses the pack.
#[test]
fn a_pack_that_a_dead_writer_left_without_parity_gets_it_from_whoever_uses_it() {
    let bench = Bench::new(2);
    for index in damage::of_kind(&*bench.backend, Kind::Index) {
        bench.backend.remove(&index).unwrap();
    }
    let lost = bench.parity().remove(0);
    let bytes = bench.bytes(&lost);
    bench.backend.remove(&lost).unwrap();
    let report = open_on(bench.backend.clone()).check(&CheckOptions::new(), &Silent).unwrap();
    assert!(report.notes.iter().any(|note| note.contains("has no parity")), "{:?}", report.notes);
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("file"), "content").unwrap();
    back_up(&open_on(bench.backend.clone()), other.path()).unwrap();
    assert!(bench.bytes(&lost) == bytes);
    assert_eq!(whole::is_spotless(&open_on(bench.backend.clone())), Ok(()));
}

/// The same pack's parity, made by a writer and by a repair, is one object.
#[test]
fn parity_made_later_is_what_the_writer_would_have_written() {
    let bench = Bench::new(7);
    let before: Vec<_> = bench.parity().iter().map(|name| (*name, bench.bytes(name))).collect();
    for (name, _) in &before {
        bench.backend.remove(name).unwrap();
    }
    assert_eq!(bench.repair(&ParityOptions::new()).written as usize, before.len());
    for (name, bytes) in &before {
        assert!(bench.bytes(name) == *bytes, "{name}");
    }
}

#[test]
fn forged_parity_changes_no_byte_of_a_pack() {
    let bench = Bench::new(100);
    let pack = bench.packs()[0];
    let ObjectName::Pack(_, id) = pack else { panic!("a pack") };
    let name = *bench.parity().iter().find(|name| matches!(name, ObjectName::Parity(of, _) if *of == id)).unwrap();
    // Right in itself, and of other bytes: every shard of the pack seems lost, and every one of parity is there.
    let length = bench.bytes(&pack).len();
    let forged = repo_core::internals::parity::encode(id, &noise(5, length), shards(&name));
    bench.replace(&name, forged);
    let before = damage::objects(&*bench.backend);
    let whole = bench.bytes(&pack);
    let report = bench.repair(&reading_packs());
    assert_eq!((report.healed_packs.len(), report.unhealed.len()), (0, 0), "the pack was whole, and stays so");
    assert!(bench.bytes(&pack) == whole);
    let mut damaged = whole.clone();
    damaged[100] ^= 1;
    bench.replace(&pack, damaged.clone());
    let report = bench.repair(&reading_packs());
    assert_eq!((report.healed_packs.len(), report.unhealed.len()), (0, 1));
    assert!(bench.bytes(&pack) == damaged);
    assert_eq!(damage::objects(&*bench.backend), before);
}

/// The files of a kind of object in a repository of the command line's.
fn files(cli: &Cli, prefix: Prefix) -> Vec<PathBuf> {
    let local = Local::new(cli.path("repo"));
    let all = damage::objects(&local).into_iter().filter(|name| prefix.contains(name));
    all.map(|name| cli.path("repo").join(name.to_string())).collect()
}

fn largest(paths: Vec<PathBuf>) -> PathBuf {
    paths.into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[test]
fn the_command_line_heals_a_repository_and_says_what_it_cannot() {
    let cli = Cli::new();
    for file in 0..4 {
        cli.write(&format!("source/{file}"), noise(file, 700_000));
    }
    cli.run(&["backup", "source"]).succeeds();
    let data = || largest(files(&cli, Prefix::Packs(PackKind::Data)));
    let whole = fs::read(data()).unwrap();

    // Bits that turned, and an end that is missing.
    change(&data(), |bytes| bytes[1_000_000] ^= 1);
    cli.run(&["check", "--read-data"]).fails(1, &[]);
    let healed = cli.run(&["repair", "parity", "--read-all-packs"]).succeeds();
    assert!(healed.out.contains("was damaged and is whole again"), "{}", healed.out);
    change(&data(), |bytes| bytes.truncate(bytes.len() - 10_000));
    let lines = cli.json(&["repair", "parity", "--read-all-packs"]);
    let healed = lines.last().unwrap();
    assert_eq!(healed["healed_packs"].as_array().unwrap().len(), 1, "{healed}");
    assert!(fs::read(data()).unwrap() == whole);
    cli.run(&["check", "--read-data"]).succeeds();

    // More than two hundredths: named, not mended.
    change(&data(), |bytes| bytes[..200_000].fill(0));
    cli.run(&["repair", "parity", "--read-all-packs"]).fails(1, &["is lost", "shards are lost", "hint:"]);
    fs::write(data(), &whole).unwrap();

    // A pack that is gone does not come back under its name, however much parity there is: somebody may have removed it on
    // purpose. Its chunks come back in a new pack, by a backup of what is still there.
    cli.run(&["repair", "parity", "--set", "100%"]).succeeds();
    let gone = data();
    fs::remove_file(&gone).unwrap();
    cli.run(&["check"]).fails(1, &[]);
    cli.run(&["repair", "parity", "--read-all-packs"]).succeeds();
    assert!(!gone.exists());
    cli.run(&["backup", "--full", "source"]).succeeds();
    assert!(!gone.exists());
    let restored = cli.path("restored");
    cli.run(&["restore", "latest", "--target", restored.to_str().unwrap()]).succeeds();
    for file in 0..4 {
        assert!(fs::read(restored.join("source").join(file.to_string())).unwrap() == noise(file, 700_000));
    }
}

#[test]
fn init_takes_a_percentage_and_refuses_nonsense() {
    let cli = Cli::without_repository();
    let init = |percent: &str| {
        let mut command = cli.command(&["init", "--new-key-file", "key", "--parity", percent]);
        command.env_remove("ICECORE_KEY_FILE").run()
    };
    init("101").fails(1, &["from 0 to 100"]);
    init("0").succeeds();
    cli.write("source/file", noise(1, 100_000));
    cli.run(&["backup", "source"]).succeeds();
    assert!(files(&cli, Prefix::Parity).is_empty());
    cli.run(&["repair", "parity", "--set", "2.5"]).fails(1, &["from 0 to 100"]);
    cli.run(&["repair", "parity", "--set", "3"]).succeeds();
    let packs = [PackKind::Data, PackKind::Meta].map(|kind| files(&cli, Prefix::Packs(kind)).len());
    assert!(packs[0] > 0 && packs[1] > 0, "{packs:?}");
    assert_eq!(files(&cli, Prefix::Parity).len(), packs[0] + packs[1], "one a pack");
    cli.run(&["check", "--read-data"]).succeeds();
}
