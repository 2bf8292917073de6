//! A repository that was stored earlier, in `tests/fixture`, still opens, checks and comes back as its manifests say;
//! and so it does for `tests/reader.py`, which knows of the format only what `docs/format.md` says. That reader is also
//! let at a repository made on the spot of everything that must not be lost.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use icecore_tests::bench::{Bench, Ears, options, published};
use icecore_tests::compare::{Entry, Portrait, portrait};
use icecore_tests::counting::CountingSource;
use icecore_tests::damage::{self, Damage};
use icecore_tests::privilege;
use icecore_tests::tree::{self, Abilities, Attributes, Dice, Kind, Name, Piece, Planned, Planner, acl, grow, soften};
use repo_core::{
    CheckOptions, ChunkerParameters, InitOptions, LineageRecord, Local, LocalTree, LocalTreeOptions, Mode,
    PasswordCost, Repository, RestoreOptions, Secret, Selector, SnapshotFilter, Source, SourceDirectory,
};
use rustix::fs::{FileType, IFlags};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixture")
}

fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("icecore-fixture-").tempdir_in(tree::memory_place()).expect("a directory")
}

fn open_fixture(secret: &Secret) -> Repository {
    Repository::open(Arc::new(Local::new(fixture().join("repository"))), secret).expect("the fixture opens")
}

fn by_key_file() -> Repository {
    let key = fs::read(fixture().join("key-file")).expect("the fixture has a key file");
    open_fixture(&Secret::from_key_file(&key).expect("it is one"))
}

#[test]
fn the_fixture_opens_by_key_file_password_and_recovery_kit() {
    let password = fs::read(fixture().join("password-file")).expect("the fixture has a password");
    let kit = fs::read_to_string(fixture().join("recovery-kit")).expect("the fixture has a recovery kit");
    let by_password = open_fixture(&Secret::password(password.trim_ascii_end()));
    let by_kit = open_fixture(&Secret::from_recovery_kit(&kit).expect("it is one"));
    assert_eq!((by_password.id(), by_kit.id()), (by_key_file().id(), by_key_file().id()));
}

#[test]
fn every_byte_of_the_fixture_is_sound() {
    let options = CheckOptions::new().read_data();
    let report = by_key_file().check(&options, &Ears::default()).expect("a check runs to its end");
    assert!(report.errors.is_empty(), "check found: {:?}", report.errors);
}

#[test]
fn both_snapshots_of_the_fixture_come_back_as_their_manifests_say() {
    let repository = by_key_file();
    let first = fs::read_to_string(fixture().join("first.id")).expect("the fixture names its first snapshot");
    for (selector, manifest) in [(first.trim(), "first.manifest"), ("latest", "second.manifest")] {
        let selector: Selector = selector.parse().expect("a selector");
        let snapshot = repository.snapshot(&selector, &SnapshotFilter::default()).expect("the snapshot is there");
        let room = scratch();
        let heard = Ears::default();
        let target = room.path().join("restored");
        repository.restore(&snapshot, &target, &RestoreOptions::default(), &heard).expect("a snapshot is restored");
        let but = not_kept(room.path());
        if but.is_empty() {
            assert_eq!(heard.problems(), Vec::<String>::new(), "of the restore");
        }
        let restored = lines(&portrait(&target).expect("a tree can be looked at"));
        soften(room.path());
        let written = fs::read_to_string(fixture().join(manifest)).expect("the fixture has its manifests");
        let differences = differences(&parse(&written), &restored, &but);
        assert!(differences.is_empty(), "{manifest}:\n{}", differences.join("\n"));
    }
}

/// Fields of a manifest that cannot be restored below `place` by this user; each is said.
fn not_kept(place: &Path) -> Vec<&'static str> {
    let can = Abilities::of(place);
    let fields = [
        ("owner", "owners", can.owners),
        // Who cannot give a file away does not give its setuid bit to himself.
        ("mode", "owners", can.owners),
        ("xattr:user", "large-xattrs", can.user_xattrs && can.large_xattrs),
        ("xattr:system", "acls", can.acls),
        ("flags", "flags", can.flags & IFlags::NODUMP.bits() != 0),
        ("data", "holes", can.holes),
    ];
    let lacking = fields.into_iter().filter(|(_, _, able)| !able);
    lacking
        .map(|(field, ability, _)| {
            privilege::skip(ability, &format!("`{field}` of the fixture cannot be restored here"));
            field
        })
        .collect()
}

#[test]
fn the_independent_reader_reads_the_vectors_and_the_fixture() {
    reader(&[]);
}

#[test]
fn the_independent_reader_restores_everything_that_must_not_be_lost() {
    if !reader_is_here() {
        return;
    }
    let bench = Bench::within(&tree::memory_place());
    let planner = Planner::new(bench.path(), &[32 << 10, 128 << 10]);
    bench.grow(&planner.everything());
    bench.backup_from(&Rooted::new(&bench.source()), Mode::Full);
    bench.write("added later", Dice::new(11).bytes(300_000));
    bench.backup_from(&Rooted::new(&bench.source()), Mode::Incremental);
    let at = |name: &str| bench.path().join(name);
    // Bench's key.
    fs::write(at("key"), [42; 32]).expect("a key file can be written");
    fs::write(at("manifest"), written(&lines(&portrait(&bench.source()).expect("a tree can be looked at"))))
        .expect("a manifest can be written");
    let given = [
        ("--repository", at("repository")),
        ("--key-file", at("key")),
        ("--restore", at("by reader")),
        ("--manifest", at("manifest")),
    ];
    reader(&flat(given));
}

#[test]
fn the_independent_reader_finds_one_wrong_bit_and_one_wrong_mode() {
    if !reader_is_here() {
        return;
    }
    let room = scratch();
    let damaged = room.path().join("repository");
    copy_files(&fixture().join("repository"), &damaged).expect("the fixture is copied");
    let packs = Local::new(&damaged);
    damage::damage(&packs, &damage::of_kind(&packs, damage::Kind::DataPack)[0], Damage::Flip { at_percent: 50 });
    let key = fixture().join("key-file");
    let found = run_reader(&["--repository".into(), damaged, "--key-file".into(), key.clone()]);
    assert!(found.is_err_and(|said| said.contains("its name is not its hash")));

    let manifest = fs::read_to_string(fixture().join("second.manifest")).expect("the fixture has its manifests");
    let changed = manifest.replace("mode=4755", "mode=0755");
    let [manifest, target] = ["manifest", "restored"].map(|name| room.path().join(name));
    fs::write(&manifest, changed).expect("a manifest can be written");
    let repository = fixture().join("repository");
    let given = [("--repository", repository), ("--key-file", key), ("--restore", target), ("--manifest", manifest)];
    let found = run_reader(&flat(given));
    assert!(found.is_err_and(|said| said.contains("setuid: mode: 0755 became 4755")));
    soften(room.path());
}

fn flat<const N: usize>(given: [(&str, PathBuf); N]) -> Vec<PathBuf> {
    given.into_iter().flat_map(|(option, path)| [PathBuf::from(option), path]).collect()
}

/// Runs the reader, and fails with what it says if anything differs. Does nothing where it cannot run, and says so.
fn reader(arguments: &[PathBuf]) {
    if reader_is_here() {
        let told = run_reader(arguments).unwrap_or_else(|said| panic!("the reader found:\n{said}"));
        assert!(told.contains("all is as the document says"), "the reader said:\n{told}");
        assert!(!told.contains("not in the index") && !told.contains("series that has a name"), "it said:\n{told}");
    }
}

/// What the reader says; as an error if it found a difference.
fn run_reader(arguments: &[PathBuf]) -> Result<String, String> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("reader.py");
    let run = Command::new("python3")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("TMPDIR", tree::memory_place())
        .arg(program)
        .args(arguments)
        .output()
        .expect("python3 ran a moment ago");
    let said = String::from_utf8_lossy(&[run.stdout, run.stderr].concat()).into_owned();
    if run.status.success() { Ok(said) } else { Err(said) }
}

fn reader_is_here() -> bool {
    let run = Command::new("python3").args(["-c", "import blake3, cryptography, zstandard, argon2"]).output();
    let why = match run {
        Ok(run) if run.status.success() => return true,
        Ok(run) => String::from_utf8_lossy(&run.stderr).lines().last().unwrap_or("it failed").to_owned(),
        Err(error) => error.to_string(),
    };
    privilege::skip("reader", &format!("python3 with blake3, cryptography, zstandard and argon2-cffi: {why}"));
    false
}

/// Makes `tests/fixture` anew, as its README says. To be run after the format changed, by root, so that it has owners.
#[test]
#[ignore = "writes into tests/fixture"]
fn make_fixture() {
    let room = scratch();
    let can = Abilities::of(room.path());
    let flags = IFlags::NODUMP.bits();
    assert!(can.owners && can.large_xattrs && can.acls && can.holes && can.flags & flags != 0, "not here: {can:?}");
    let source = room.path().join("source");
    grow(&source, &first_tree()).expect("the place can hold it");

    let backend = Arc::new(Local::new(room.path().join("repository")));
    let key: String = (0..32).map(|byte| format!("{byte:02x}")).collect();
    let mut settings = InitOptions::default();
    settings.label = "key file of the fixture".to_owned();
    settings.chunker = ChunkerParameters {
        algorithm: 1,
        normalization: 2,
        min_bytes: 1 << 10,
        average_bytes: 4 << 10,
        max_bytes: 16 << 10,
    };
    settings.frame_target_bytes = 64 << 10;
    let secret = Secret::from_key_file(key.as_bytes()).expect("a key");
    let repository = Repository::init(backend, &secret, &settings).expect("a repository can be made");
    let password = "correct horse battery staple";
    repository.add_key(&Secret::password(password), "a password", PasswordCost::Default).expect("a key is added");

    let back_up = |tag: &str| {
        let mut options = options(Mode::Incremental);
        (options.host, options.tags) = ("fixture".to_owned(), vec![tag.to_owned()]);
        // All ctimes an hour older: what did not change is taken over from the first snapshot.
        let source = CountingSource::aged(Rooted::new(&source), 3600);
        let report = repository.backup(&source, &options, &Ears::default()).expect("a backup is made");
        let manifest = written(&lines(&portrait(room.path().join("source").as_path()).expect("looked at")));
        (published(&report).clone(), manifest)
    };
    let (first, first_manifest) = back_up("first");
    edit(&source);
    let (second, second_manifest) = back_up("second");
    assert_eq!(second.record().lineage, LineageRecord::Incremental { parent: first.id() });

    let _ = fs::remove_dir_all(fixture().join("repository"));
    copy_files(&room.path().join("repository"), &fixture().join("repository")).expect("the repository is copied");
    let write = |name: &str, text: &str| fs::write(fixture().join(name), text).expect("the fixture can be written");
    write("key-file", &format!("{key}\n"));
    write("password-file", &format!("{password}\n"));
    write("recovery-kit", &repository.recovery_kit());
    write("first.id", &format!("{}\n", first.id()));
    write("first.manifest", &first_manifest);
    write("second.manifest", &second_manifest);
}

/// Files, without the directories that are empty: so does whatever carries the fixture about.
fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_files(&entry.path(), &target)?;
        } else {
            fs::create_dir_all(to)?;
            fs::write(target, fs::read(entry.path())?)?;
        }
    }
    Ok(())
}

/// One of everything that is stored in a way of its own.
fn first_tree() -> Planned {
    let attributes = Attributes { mode: 0o640, modified: (1_600_000_000, 123_456_789), ..Default::default() };
    let plain = |kind| Planned { kind, attributes: attributes.clone() };
    let file = |pieces: &[Piece]| plain(Kind::File(pieces.to_vec()));
    let dressed = |change: &dyn Fn(&mut Attributes)| {
        let mut planned = file(&[Piece::Text { seed: 1, length: 700 }]);
        change(&mut planned.attributes);
        planned
    };
    let (text, random) = (|seed, length| Piece::Text { seed, length }, |seed, length| Piece::Random { seed, length });
    let (zeros, hole) = (|length| Piece::Zeros { length }, |length| Piece::Hole { length });
    let directory = |entries: BTreeMap<Name, Planned>| {
        let mut planned = plain(Kind::Directory(entries));
        planned.attributes.mode = 0o750;
        planned
    };
    // Enough names to split a directory by its key, and enough bytes to split one by its size.
    let many = (0..600).map(|i| (format!("{i:03}").into_bytes(), file(&[])));
    let long = (0..40).map(|i| (format!("{i:02}").into_bytes(), plain(Kind::Symlink(vec![b'a' + i % 26; 4000]))));
    // Enough extents to split a list.
    let pieces: Vec<_> = (0..2100).flat_map(|_| [text(7, 4096), hole(4096)]).collect();
    let mixed =
        [zeros(65_536), hole(65_536), random(2, 12_288), zeros(32_768), hole(65_536), text(3, 8192), hole(16_384)];

    let mut top: BTreeMap<Name, Planned> = BTreeMap::new();
    let mut put = |name: &[u8], planned| top.insert(name.to_vec(), planned);
    put(b"empty directory", directory(BTreeMap::new()));
    put(b"empty file", file(&[]));
    put(b"size 512", file(&[text(4, 512)]));
    put(b"size 513", file(&[text(4, 513)]));
    put(b"some chunks", file(&[random(5, 40_000)]));
    put(b"more than 64 chunks", file(&[text(6, 600_000)]));
    put(b"more than 4096 extents", file(&pieces));
    put(b"zeros and holes", file(&mixed));
    put(b"only a hole", file(&[hole(1 << 20)]));
    put(b"only zeros", file(&[zeros(100_000)]));
    put(b"many", directory(many.collect()));
    put(b"long links", directory(long.collect()));
    put(b"\xff\xfe not UTF-8\n", file(&[text(8, 9)]));
    put(b"symlink", plain(Kind::Symlink(b"size 512".to_vec())));
    put(b"symlink to nowhere", plain(Kind::Symlink(b"../no/such\xff/thing".to_vec())));
    put(b"fifo", plain(Kind::Fifo));
    put(b"setuid", dressed(&|attributes| attributes.mode = 0o4755));
    put(b"owned", dressed(&|attributes| attributes.owner = Some((1000, 1001))));
    put(b"before 1970", dressed(&|attributes| attributes.modified = (-2, 500_000_000)));
    put(b"nodump", dressed(&|attributes| attributes.flags = IFlags::NODUMP.bits()));
    let mut attribute = |file: &[u8], name: &[u8], value: Vec<u8>| {
        put(
            file,
            dressed(&|attributes| {
                attributes.xattrs.insert(name.to_vec(), value.clone());
            }),
        );
    };
    attribute(b"attribute", b"user.\xff", (0..=255).collect());
    attribute(b"attribute, large", b"user.large", Dice::new(9).bytes(9000));
    attribute(b"attribute, access", b"system.posix_acl_access", acl(0o6, &[(1, 0o4), (65_533, 0o6)]));
    // Last by name, so that what it links to was made before: counted round, the thing made first.
    let links = [(b"one".to_vec(), plain(Kind::Link(0))), (b"two".to_vec(), plain(Kind::Link(0)))];
    top.insert(b"zz links".to_vec(), directory(BTreeMap::from(links)));
    directory(top)
}

/// What the second snapshot finds changed.
fn edit(source: &Path) {
    let path = |name: &str| source.join(name);
    let content = fs::read(path("some chunks")).expect("it is there");
    let edited = [&content[..20_000], b"something put in", &content[20_000..]].concat();
    fs::write(path("some chunks"), edited).expect("a file can be written");
    fs::write(path("many/new"), "new").expect("a file can be written");
    fs::remove_file(path("many/300")).expect("it is there");
    fs::remove_file(path("symlink")).expect("it is there");
    fs::create_dir(path("symlink")).expect("a directory can be made");
    fs::rename(path("size 513"), path("symlink/moved")).expect("a file can be moved");
}

/// A directory as a source whose top level is the directory's own: what is above it is not recorded.
struct Rooted {
    inner: LocalTree,
    names: Vec<Name>,
}

impl Rooted {
    fn new(path: &Path) -> Self {
        let inner = LocalTree::new(&[path.to_owned()], LocalTreeOptions::default()).expect("the source is there");
        let names = path.iter().skip(1).map(|name| name.as_bytes().to_vec()).collect();
        Self { inner, names }
    }
}

impl Source for Rooted {
    fn root(&self) -> io::Result<Arc<dyn SourceDirectory>> {
        self.names.iter().try_fold(self.inner.root()?, |directory, name| {
            let entry = directory.entries()?.flatten().find(|entry| entry.name == *name);
            directory.open_directory(&entry.ok_or(io::ErrorKind::NotFound)?)
        })
    }

    fn paths(&self) -> Vec<Vec<u8>> {
        vec![b"/fixture".to_vec()]
    }
}

/// An entry's fields by name, and entries by path: what `tests/fixture/README.md` says of manifests.
type Lines = BTreeMap<String, BTreeMap<String, String>>;

fn lines(portrait: &Portrait) -> Lines {
    let entries = portrait.entries.iter().filter(|(path, _)| !path.is_empty());
    let mut lines: Lines = entries.map(|(path, entry)| (escaped(path), fields(entry))).collect();
    for group in &portrait.link_groups {
        let names: BTreeSet<_> = group.iter().map(|path| escaped(path)).collect();
        let first = names.first().expect("a group has names").clone();
        for name in names {
            lines.get_mut(&name).expect("a name of an entry").insert("links".to_owned(), first.clone());
        }
    }
    lines
}

fn fields(entry: &Entry) -> BTreeMap<String, String> {
    let kind = match entry.kind {
        FileType::RegularFile => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "symlink",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
        FileType::BlockDevice => "block",
        FileType::CharacterDevice => "char",
        FileType::Unknown => unreachable!("statx knows every kind"),
    };
    let mut fields = BTreeMap::new();
    let mut put = |name: &str, value: String| fields.insert(name.to_owned(), value);
    put("kind", kind.to_owned());
    put("mode", format!("{:04o}", entry.mode));
    put("owner", format!("{}:{}", entry.owner.0, entry.owner.1));
    put("modified", format!("{}.{:09}", entry.modified.0, entry.modified.1));
    if let Some(content) = entry.content {
        put("size", entry.size.to_string());
        put("content", hex::encode(content));
        let runs: Vec<_> = entry.data.iter().map(|(start, end)| format!("{start}-{end}")).collect();
        put("data", shown(runs.join(".").as_bytes()));
    }
    if entry.flags != 0 {
        put("flags", format!("{:#x}", entry.flags));
    }
    match entry.kind {
        FileType::Symlink => drop(put("target", shown(&entry.target))),
        FileType::BlockDevice | FileType::CharacterDevice => {
            put("special", format!("{}:{}", entry.device.0, entry.device.1));
        }
        _ => {}
    }
    for (name, value) in &entry.xattrs {
        put(&format!("xattr:{}", shown(name)), shown(value));
    }
    fields
}

fn escaped(bytes: &[u8]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    bytes.iter().map(|byte| if plain(*byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Long values by their hash.
fn shown(bytes: &[u8]) -> String {
    let escaped = escaped(bytes);
    if escaped.len() <= 100 { escaped } else { format!("blake3:{}", blake3::hash(bytes)) }
}

fn written(lines: &Lines) -> String {
    let line = |(path, fields): (&String, &BTreeMap<String, String>)| {
        let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{path} {}\n", fields.join(" "))
    };
    lines.iter().map(line).collect()
}

fn parse(text: &str) -> Lines {
    let field = |field: &str| {
        let (name, value) = field.split_once('=').expect("a field has a value");
        (name.to_owned(), value.to_owned())
    };
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split(' ');
            let path = words.next().expect("split gives at least one").to_owned();
            (path, words.map(field).collect())
        })
        .collect()
}

/// What differs, in words, but for fields that begin with one of `but`.
fn differences(before: &Lines, after: &Lines, but: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let paths: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    for path in paths {
        let (Some(left), Some(right)) = (before.get(path), after.get(path)) else {
            found.push(format!("{path}: {}", if before.contains_key(path) { "missing" } else { "extra" }));
            continue;
        };
        let names: BTreeSet<_> = left.keys().chain(right.keys()).collect();
        let compared = names.into_iter().filter(|name| !but.iter().any(|start| name.starts_with(start)));
        let different = compared.filter(|name| left.get(*name) != right.get(*name));
        found
            .extend(different.map(|name| format!("{path}: {name}: {:?} became {:?}", left.get(name), right.get(name))));
    }
    found
}
