//! `dump` to archives and `backup --from-tar`: everything that a backup keeps comes through a tar and back, GNU tar and
//! bsdtar restore what is dumped and their archives are taken in, and archives that mean harm are refused.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use icecore_tests::bench::{Bench, Ears, options, published};
use icecore_tests::cli::{Cli, Runs, end};
use icecore_tests::compare::{Compared, assert_same, differences};
use icecore_tests::damage::{Damage, Kind};
use icecore_tests::privilege::{is_root, runs_again_as_nobody, skip};
use icecore_tests::terminal::Terminal;
use icecore_tests::tree::{Planner, soften};
use icecore_tests::whole::noise;
use repo_core::internals::archive::tar::{Entry, Shape, TarWriter};
use repo_core::{
    ArchiveFormat, BackupOptions, BackupReport, DumpOptions, Error, Metadata, Mode, NodeKind, RestoreOptions, Snapshot,
    TarSource, Timestamp,
};

/// Sizes of the default format at which something changes.
const BORDERS: [u64; 4] = [32 << 10, 128 << 10, 512 << 10, 1 << 20];

/// A bench with everything that a backup must bring back, and its snapshot.
fn with_everything() -> (Bench, BackupReport) {
    let bench = Bench::new();
    bench.grow(&Planner::new(bench.path(), &BORDERS).everything());
    let report = bench.backup();
    (bench, report)
}

/// The same without paths that are longer than others can restore.
fn with_everything_but_depth() -> (Bench, BackupReport) {
    let bench = Bench::new();
    bench.grow(&Planner::new(bench.path(), &BORDERS).everything());
    remove_depth(&bench);
    let report = bench.backup();
    (bench, report)
}

fn remove_depth(bench: &Bench) {
    fs::remove_dir_all(bench.source().join("deep")).expect("it was grown");
}

/// The bench's source as an archive, its names without what is above them.
fn dump(bench: &Bench, snapshot: &Snapshot, format: ArchiveFormat, file: &str) -> std::path::PathBuf {
    let path = bench.path().join(file);
    let source = bench.source();
    let source = source.as_os_str().as_bytes();
    let options = DumpOptions::new().format(format).relative_to(source);
    let mut out = io::BufWriter::new(File::create(&path).expect("a file of ours"));
    let heard = Ears::default();
    bench.open().dump(snapshot, source, &mut out, &options, &heard).expect("it can be dumped");
    out.flush().expect("a file of ours");
    assert_eq!(heard.problems(), [""; 0]);
    path
}

/// Takes an archive in and restores it.
fn through(bench: &Bench, archive: &Path, name: &str) -> std::path::PathBuf {
    let source = TarSource::new(File::open(archive).expect("an archive of ours"));
    let report = bench.backup_from(&source, Mode::Full);
    let target = bench.path().join(name);
    let heard = Ears::default();
    let restored = bench.open().restore(published(&report), &target, &RestoreOptions::new(), &heard).expect("restored");
    assert_eq!((heard.problems(), restored.problems), (Vec::new(), 0));
    target
}

/// What no tar holds.
fn without_sockets(mut differences: Vec<String>) -> Vec<String> {
    differences.retain(|difference| !difference.starts_with("socket:"));
    differences
}

/// Not the root itself: names in the archives begin below it.
const BELOW: Compared = Compared { owners: true, xattrs: true, flags: true, holes: true, root: false };

fn succeeds(command: &mut Command) -> String {
    let run = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let told = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.success(), "{command:?}: {}\n{told}", run.status);
    String::from_utf8_lossy(&run.stdout).into_owned() + &told
}

/// Whether a program is here; where it must be and is not, the test fails.
fn has(program: &str) -> bool {
    let is_here = Command::new(program).arg("--version").output().is_ok_and(|run| run.status.success())
        || Command::new(program).arg("-v").output().is_ok_and(|run| run.status.success());
    if !is_here {
        skip(program, "it is not installed");
    }
    is_here
}

fn tar(arguments: &[&str], directory: &Path) -> Command {
    let mut command = Command::new("tar");
    command.args(["--xattrs", "--xattrs-include=*", "--numeric-owner"]).args(arguments);
    command.current_dir(directory).env("LC_ALL", "C");
    command
}

fn extracted(bench: &Bench, name: &str) -> std::path::PathBuf {
    let target = bench.path().join(name);
    fs::create_dir(&target).expect("a directory of ours");
    target
}

#[test]
fn everything_comes_through_a_tar_and_back() {
    let (bench, report) = with_everything();
    for (format, name) in [(ArchiveFormat::Tar, "a.tar"), (ArchiveFormat::TarZstd, "a.tar.zst")] {
        let archive = dump(&bench, published(&report), format, name);
        let back = through(&bench, &archive, &format!("back-{name}"));
        assert_eq!(without_sockets(differences(&bench.source(), &back, BELOW)), [""; 0]);
    }
    bench.check_is_clean();
}

#[test]
fn everything_comes_through_a_tar_and_back_for_nobody() {
    if runs_again_as_nobody("everything_comes_through_a_tar_and_back_for_nobody") {
        return;
    }
    let (bench, report) = with_everything();
    let archive = dump(&bench, published(&report), ArchiveFormat::Tar, "a.tar");
    let back = through(&bench, &archive, "back");
    assert_eq!(without_sockets(differences(&bench.source(), &back, BELOW)), [""; 0]);
}

#[test]
fn the_same_snapshot_is_the_same_archive_each_time() {
    let (bench, report) = with_everything();
    for format in [ArchiveFormat::Tar, ArchiveFormat::TarZstd, ArchiveFormat::Zip] {
        let [one, other] = ["one", "other"].map(|name| dump(&bench, published(&report), format, name));
        assert!(fs::read(one).expect("ours") == fs::read(other).expect("ours"), "{format:?}");
    }
}

#[test]
fn gnu_tar_restores_what_is_dumped() {
    let (bench, report) = with_everything_but_depth();
    let archive = dump(&bench, published(&report), ArchiveFormat::Tar, "a.tar");
    let target = extracted(&bench, "gnu");
    succeeds(tar(&["-xpf", archive.to_str().expect("plain")], &target).arg("-C").arg(&target));
    // GNU tar knows no inode flags.
    let compared = Compared { flags: false, owners: is_root(), ..BELOW };
    assert_eq!(without_sockets(differences(&bench.source(), &target, compared)), [""; 0]);
}

#[test]
fn bsdtar_restores_what_is_dumped() {
    if !has("bsdtar") {
        return;
    }
    let (bench, report) = with_everything_but_depth();
    let archive = dump(&bench, published(&report), ArchiveFormat::Tar, "a.tar");
    let target = extracted(&bench, "bsd");
    let mut command = Command::new("bsdtar");
    command
        .args(["-xp", "--xattrs", "--acls", "--fflags", "--numeric-owner", "-f"])
        .arg(&archive)
        .arg("-C")
        .arg(&target);
    succeeds(command.env("LC_ALL", "C.UTF-8"));
    let compared = Compared { owners: is_root(), ..BELOW };
    let mut found = without_sockets(differences(&bench.source(), &target, compared));
    // Of times before 1970 it takes the fraction for positive, and what it makes in a directory inherits the flags it
    // gave that before.
    let is_its_own = |line: &String| {
        line.contains("modified: (-") && !line.contains(", 0) became") || line.starts_with("directory flag")
    };
    found.retain(|line| !is_its_own(line));
    assert_eq!(found, [""; 0]);
}

/// What this program makes of an archive of GNU tar is what GNU tar itself makes of it.
#[test]
fn archives_of_gnu_tar_are_taken_in_as_it_reads_them() {
    let bench = Bench::new();
    bench.grow(&Planner::new(bench.path(), &BORDERS).everything());
    remove_depth(&bench);
    fs::remove_file(bench.source().join("socket")).ok();
    let ways: [&[&str]; 6] = [
        &["--format=gnu"],
        &["--format=gnu", "--sparse"],
        &["--format=posix", "--sparse", "--sparse-version=0.0"],
        &["--format=posix", "--sparse", "--sparse-version=0.1"],
        &["--format=posix", "--sparse", "--sparse-version=1.0"],
        &["--format=oldgnu", "--sparse"],
    ];
    for (index, way) in ways.iter().enumerate() {
        let archive = bench.path().join(format!("{index}.tar"));
        let mut make = Command::new("tar");
        let posix = way[0].contains("posix");
        make.args(*way).args(if posix { &["--xattrs", "--xattrs-include=*"][..] } else { &[] });
        succeeds(make.args(["--numeric-owner", "-cf"]).arg(&archive).arg("-C").arg(bench.source()).arg("."));
        let theirs = extracted(&bench, &format!("theirs-{index}"));
        succeeds(&mut tar(&["-xpf", archive.to_str().expect("plain")], &theirs));
        let ours = through(&bench, &archive, &format!("ours-{index}"));
        assert_eq!(differences(&theirs, &ours, Compared { flags: false, ..BELOW }), [""; 0], "{way:?}");
        // Not as a whole later: immutable files of several trees.
        [&theirs, &ours].iter().for_each(|tree| soften(tree));
    }
}

#[test]
fn archives_of_bsdtar_and_compressed_ones_are_taken_in() {
    if !has("bsdtar") {
        return;
    }
    let bench = Bench::new();
    bench.write("a/file", noise(1, 300_000));
    bench.write(&format!("a/{}", "long".repeat(60)), "text");
    symlink("file", bench.source().join("a/link")).expect("ours");
    fs::hard_link(bench.source().join("a/file"), bench.source().join("second")).expect("ours");
    let sparse = File::create(bench.source().join("sparse")).expect("ours");
    sparse.set_len(3 << 20).expect("ours");
    for (format, compression) in
        [("pax", "--gzip"), ("gnutar", "--zstd"), ("ustar", "--no-same-owner"), ("pax", "--xattrs")]
    {
        let archive = bench.path().join(format!("{format}{compression}"));
        let mut command = Command::new("bsdtar");
        command.args([
            "-c",
            "--format",
            format,
            compression,
            "--exclude",
            if format == "ustar" { "*long*" } else { "none" },
        ]);
        succeeds(command.arg("-f").arg(&archive).arg("-C").arg(bench.source()).arg(".").env("LC_ALL", "C.UTF-8"));
        let back = through(&bench, &archive, &format!("back-{format}{compression}"));
        let mut found = differences(&bench.source(), &back, Compared { holes: false, ..BELOW });
        // Of these two formats one has no nanoseconds, the other no long names either.
        found.retain(|line| format == "pax" || !line.contains("modified:") && !line.contains("longlong"));
        assert_eq!(found, [""; 0], "{format} {compression}");
    }
}

#[test]
fn zip_archives_are_what_others_take_for_such() {
    let bench = Bench::new();
    bench.write("dir/text", "some text, ".repeat(50_000));
    bench.write("dir/noise", noise(2, 200_000));
    bench.write("empty", "");
    bench.write("grün", "ä");
    fs::set_permissions(bench.source().join("empty"), fs::Permissions::from_mode(0o751)).expect("ours");
    symlink("dir/text", bench.source().join("link")).expect("ours");
    fs::hard_link(bench.source().join("empty"), bench.source().join("second")).expect("ours");
    let report = bench.backup();
    let archive = dump(&bench, published(&report), ArchiveFormat::Zip, "a.zip");
    let script = r#"
import sys, zipfile
archive = zipfile.ZipFile(sys.argv[1])
assert archive.testzip() is None
for info in archive.infolist():
    print(info.filename, oct(info.external_attr >> 16), info.file_size, archive.read(info)[:8])
"#;
    let told = succeeds(Command::new("python3").args(["-c", script]).arg(&archive).env("PYTHONIOENCODING", "utf-8"));
    let lines: BTreeSet<&str> = told.lines().collect();
    for line in [
        "dir/ 0o40755 0 b''",
        "dir/text 0o100644 550000 b'some tex'",
        "empty 0o100751 0 b''",
        "grün 0o100644 2 b'\\xc3\\xa4'",
        "link 0o120777 8 b'dir/text'",
        "second 0o100751 0 b''",
    ] {
        assert!(lines.contains(line), "{line}:\n{told}");
    }
    if has("unzip") {
        let target = extracted(&bench, "unzipped");
        succeeds(Command::new("unzip").arg("-q").arg("-X").arg(&archive).arg("-d").arg(&target));
        let found = differences(&bench.source(), &target, Compared { holes: false, ..BELOW });
        let rest: Vec<_> =
            found.iter().filter(|line| !line.contains("modified:") && !line.contains("hard links")).collect();
        assert!(rest.is_empty(), "{rest:?}");
    }
    if has("bsdtar") {
        // Read as a stream: without the directory at its end.
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("cat {} | bsdtar -tf -", archive.display()));
        assert_eq!(succeeds(&mut command).lines().count(), 7);
    }
}

#[test]
fn the_archive_of_what_is_backed_up_adds_no_content() {
    let bench = Bench::new();
    bench.write("large", noise(3, 5 << 20));
    for number in 0..50 {
        bench.write(&format!("small/{number}"), noise(100 + number, 3000));
    }
    bench.backup();
    let archive = bench.path().join("a.tar");
    succeeds(Command::new("tar").args(["-cf"]).arg(&archive).arg("-C").arg(bench.source()).arg("."));
    let read = || TarSource::new(File::open(&archive).expect("ours")).below(Path::new("/as/this"));
    let first = bench.backup_from(&read(), Mode::Incremental);
    let summary = &first.summary;
    assert_eq!((summary.data_chunks, summary.files_new, summary.directories_new), (0, 51, 3));
    assert!(summary.added_bytes < 20_000, "metadata of 54 entries: {}", summary.added_bytes);
    assert_eq!(published(&first).record().paths, [b"/as/this"]);
    let second = bench.backup_from(&read(), Mode::Incremental);
    let summary = &second.summary;
    assert_eq!((summary.files_unmodified, summary.directories_unmodified, summary.added_bytes), (51, 3, 0));
    assert_eq!(second.parent, first.snapshot.map(|snapshot| snapshot.id()));
}

/// An archive written by hand.
#[derive(Default)]
struct Made {
    tar: Option<TarWriter<Vec<u8>>>,
}

fn plain(kind: NodeKind, size: u64) -> Metadata {
    let time = Timestamp { seconds: 1_600_000_000, nanoseconds: 0 };
    Metadata {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        modified: time,
        changed: time,
        size,
        ..Metadata::unknown(kind, 0o644)
    }
}

impl Made {
    fn entry(mut self, path: &str, kind: NodeKind, shape: Shape<'_>, content: &[u8]) -> Self {
        let mut tar = self.tar.take().unwrap_or_else(|| TarWriter::new(Vec::new()));
        let metadata = plain(kind, content.len() as u64);
        tar.entry(&Entry { path: path.as_bytes(), metadata: &metadata, xattrs: &[], shape }).expect("in memory");
        tar.content(content).expect("in memory");
        self.tar = Some(tar);
        self
    }

    fn file(self, path: &str, content: &str) -> Self {
        self.entry(path, NodeKind::File, Shape::Whole, content.as_bytes())
    }

    fn directory(self, path: &str) -> Self {
        self.entry(path, NodeKind::Directory, Shape::Whole, b"")
    }

    fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(path, NodeKind::Symlink, Shape::Symlink(target.as_bytes()), b"")
    }

    fn link(self, path: &str, target: &str) -> Self {
        self.entry(path, NodeKind::File, Shape::HardLink(target.as_bytes()), b"")
    }

    fn bytes(self) -> Vec<u8> {
        self.tar.unwrap_or_else(|| TarWriter::new(Vec::new())).finish().expect("in memory")
    }
}

#[test]
fn archives_that_mean_harm_are_refused_and_publish_nothing() {
    let bench = Bench::in_memory();
    let made = Made::default;
    // Only an extended header can tell a name with a NUL.
    let nul = format!("{}\0b", "n".repeat(100));
    let refused: [(Made, &str); 14] = [
        (made().file("/etc/passwd", "x"), "/etc/passwd: an absolute path"),
        (made().file("a/../../b", "x"), "a/../../b: a path with .."),
        (made().file("..", "x"), "a path with .."),
        (made().file(".", "x"), "has no name"),
        (made().file(&nul, "x"), "a path with a NUL"),
        (made().symlink("a", "/etc").file("a/passwd", "x"), "a/passwd: lies below something that is no directory"),
        (made().file("a/passwd", "x").symlink("a", "/etc"), "a/passwd: lies below something that is no directory"),
        (made().file("a", "x").file("a/b/c", "x"), "a/b/c: lies below something that is no directory"),
        (made().link("a", "/etc/passwd"), "a: a hard link to /etc/passwd: an absolute path"),
        (made().link("a", "../x"), "a: a hard link to ../x: a path with .."),
        (made().link("a", "b"), "b: is linked to, and does not come in the archive before its link"),
        (made().link("a", "b").file("b", "x"), "b: is linked to, and does not come in the archive before its link"),
        (made().directory("d").link("a", "d"), "d: is a directory, and a hard link leads to it"),
        (made().file("x", "x").link("a", "a"), "a: is a hard link to itself"),
    ];
    let fails = |bytes: Vec<u8>, words: &str| {
        let source = TarSource::new(io::Cursor::new(bytes));
        let error = bench.open().backup(&source, &options(Mode::Full), &Ears::default()).expect_err(words);
        assert!(matches!(error, Error::Stream(_)), "{words}: {error:?}");
        assert!(error.to_string().contains(words), "{words:?} is missing: {error}");
    };
    refused.into_iter().for_each(|(archive, words)| fails(archive.bytes(), words));
    let deep = format!("{}x", "d/".repeat(5000));
    fails(made().file(&deep, "x").bytes(), "more than 4096 directories within one another");
    fails(made().file(&"n".repeat(5000), "x").bytes(), "cannot be stored");
    let whole = made().file("a", &"text".repeat(1000)).file("b", "x").bytes();
    for length in (0..whole.len() - 1024).step_by(100) {
        let source = TarSource::new(io::Cursor::new(whole[..length].to_vec()));
        assert!(bench.open().backup(&source, &options(Mode::Full), &Ears::default()).is_err(), "{length}");
    }
    let all = bench.open().snapshots(&Default::default()).expect("a listing").snapshots;
    assert!(all.is_empty(), "{} snapshots", all.len());
    bench.check_is_clean();
}

#[test]
fn entries_come_in_any_order_and_the_last_of_a_path_counts() {
    let bench = Bench::new();
    let archive = Made::default()
        .file("z/deep/down/file", "made-up directories")
        .file("b", "first")
        .file("./a//c", "odd")
        .link("l1", "b")
        .link("l2", "l1")
        .file("b", "second")
        .link("l3", "b")
        .directory("a")
        .file("gone", "replaced by a directory")
        .directory("gone")
        .file("gone/inside", "x")
        .link("l4", "l1")
        .file("l4", "a link no more")
        .symlink("sym", "b")
        .link("sym2", "sym")
        .file("z.file", "between z and what is in it")
        .bytes();
    let path = bench.path().join("a.tar");
    fs::write(&path, archive).expect("ours");
    let back = through(&bench, &path, "back");
    let text = |name: &str| fs::read_to_string(back.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!((text("b"), text("l1"), text("l3")), ("second".into(), "first".into(), "second".into()));
    assert_eq!((text("z/deep/down/file"), text("gone/inside")), ("made-up directories".into(), "x".into()));
    assert_eq!((text("a/c"), text("l4")), ("odd".into(), "a link no more".into()));
    let inode = |name: &str| back.join(name).symlink_metadata().expect("it is there").ino();
    assert_eq!((inode("l1"), inode("b")), (inode("l2"), inode("l3")));
    assert_eq!(inode("sym"), inode("sym2"));
    assert_ne!(inode("l1"), inode("b"));
    let links = |name: &str| back.join(name).metadata().expect("it is there").nlink();
    assert_eq!((links("l1"), links("b"), links("l4")), (2, 2, 1));
    assert_eq!(back.join("z/deep").metadata().expect("made up").mode() & 0o7777, 0o755);
    // GNU tar comes to the same.
    let theirs = extracted(&bench, "theirs");
    succeeds(&mut tar(&["-xpf", path.to_str().expect("plain")], &theirs));
    let found = differences(&theirs, &back, BELOW);
    let rest: Vec<_> = found.iter().filter(|line| !line.contains("modified:") && !line.contains("mode:")).collect();
    assert!(rest.is_empty(), "{rest:?}");
}

/// Far more metadata than is held in memory at once goes through a file.
#[test]
fn many_entries_are_sorted_on_disk() {
    let bench = Bench::in_memory();
    let mut tar = TarWriter::new(Vec::new());
    let metadata = plain(NodeKind::File, 1);
    let count = 60_000u32;
    for number in 0..count {
        let path = format!("{:03}/{:0>300}", number.wrapping_mul(2_654_435_761) % 500, number);
        tar.entry(&Entry { path: path.as_bytes(), metadata: &metadata, xattrs: &[], shape: Shape::Whole })
            .expect("memory");
        tar.content(b"x").expect("memory");
    }
    let bytes = tar.finish().expect("memory");
    let run = |options: BackupOptions| {
        let source = TarSource::new(io::Cursor::new(bytes.clone()));
        let report = bench.open().backup(&source, &options, &Ears::default()).expect("stored");
        published(&report).record().root
    };
    let spooled = run(options(Mode::Full).spool_directory(bench.path()));
    assert_eq!(spooled.entries, u64::from(count) + 500);
    assert_eq!(spooled, run(options(Mode::Full)), "the same in memory");
}

#[test]
fn damage_ends_a_dump_by_the_name_of_the_file_and_the_part_is_named_so() {
    let bench = Bench::new();
    bench.write("a", "small");
    bench.write("b", noise(5, 3 << 20));
    let report = bench.backup();
    bench.damage(Kind::DataPack, Damage::Delete);
    let mut out = Vec::new();
    let repository = bench.open();
    let dumped = repository.dump(published(&report), b"", &mut out, &DumpOptions::new(), &Ears::default());
    let error = dumped.expect_err("content is lost");
    let lost = bench.source().join("b");
    assert!(matches!(&error, Error::Entry { path, .. } if *path == lost), "{error:?}");
    assert!(!out.is_empty() && !out.ends_with(&[0; 1024]), "without the mark of its end");
}

fn grown() -> Cli {
    let cli = Cli::new();
    cli.write("source/a", "one");
    cli.write("source/sub/b.txt", vec![9; 200_000]);
    symlink("a", cli.path("source/link")).expect("a link of ours");
    cli.backup(&[]);
    cli
}

#[test]
fn a_directory_is_dumped_as_the_flag_or_the_targets_name_says() {
    let cli = grown();
    for (target, more, magic) in [
        ("a.tar", &[][..], &b"source/\0"[..]),
        ("b.tar.zst", &[], b"\x28\xb5\x2f\xfd"),
        ("c.zip", &[], b"PK\x03\x04"),
        ("d.zip", &["-a", "tar"], b"source/\0"),
        ("e", &["--archive", "tar.zst"], b"\x28\xb5\x2f\xfd"),
    ] {
        let arguments = [&["dump", "latest", "/source", "--target", target], more].concat();
        assert_eq!(cli.run(&arguments).succeeds().out, "");
        let bytes = cli.read(target);
        // An extended header, which has the exact times, comes first.
        let begin = if bytes.starts_with(b"PaxHeaders.0/") { &bytes[1024..] } else { &bytes[..] };
        assert!(begin.starts_with(magic), "{target}");
        assert!(!cli.path(&format!("{target}.partial")).exists());
    }
    let list = |archive: &str| succeeds(Command::new("tar").arg("-tf").arg(cli.path(archive)));
    assert_eq!(list("a.tar"), "source/\nsource/a\nsource/link\nsource/sub/\nsource/sub/b.txt\n");
    cli.run(&["dump", "latest:/source", "/", "-t", "f.tar"]).succeeds();
    assert_eq!(list("f.tar"), "a\nlink\nsub/\nsub/b.txt\n");
    cli.run(&["dump", "latest:/source", "sub", "-t", "g.tar"]).succeeds();
    assert_eq!(list("g.tar"), "sub/\nsub/b.txt\n");
    cli.run(&["dump", "latest", "/", "--at", "2100-01-01", "-t", "h.tar"]).succeeds();
    assert_eq!(list("h.tar"), list("a.tar"));
    assert_eq!(cli.run(&["dump", "latest", "/source/a", "-a", "zip"]).succeeds().out, "one", "a file is its bytes");
    cli.run(&["dump", "latest", "/source/link"]).fails(1, &["is a symbolic link", "hint:"]);
    cli.run(&["dump", "latest", "/source", "-t", "a.tar"]).fails(1, &["a.tar"]);
    cli.run(&["dump", "latest", "/source", "-a", "rar"]).fails(1, &["tar.zst"]);
    cli.run(&["dump", "latest", "/nope", "-t", "x"]).fails(1, &["/nope", "hint:"]);
    assert!(!cli.path("x").exists() && !cli.path("x.partial").exists());
}

#[test]
fn a_terminal_gets_no_archive_but_may_get_a_file() {
    let cli = grown();
    let run = |arguments: &[&str]| {
        let terminal = Terminal::new();
        let child = terminal.start(&cli.command(arguments));
        terminal.end(child)
    };
    let (status, written) = run(&["dump", "latest", "/source"]);
    assert_eq!(status.code(), Some(1));
    assert!(written.contains("does not belong on a terminal") && written.contains("--target"), "{written:?}");
    let (status, written) = run(&["dump", "latest", "/source/a"]);
    assert_eq!((status.code(), written.as_str()), (Some(0), "one"));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let cli = Cli::new();
    cli.write("source/large", noise(4, 4 << 20));
    cli.backup(&[]);
    for form in ["tar", "tar.zst", "zip"] {
        let mut command = cli.command(&["dump", "latest", "/", "-a", form]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        drop(child.stdout.take());
        assert_eq!(end(child).succeeds().error, "", "{form}");
    }
}

#[test]
fn what_is_lost_leaves_a_part_that_is_named_so() {
    let cli = Cli::new();
    cli.write("source/a", "small");
    cli.write("source/b", noise(6, 2 << 20));
    cli.backup(&[]);
    let packs = cli.path("repo/packs/d");
    fs::remove_dir_all(&packs).expect("ours");
    let run = cli.run(&["dump", "latest", "/source", "--target", "x.tar"]);
    run.fails(1, &["/source/b: ", "x.tar.partial; it is incomplete", "hint:"]);
    assert!(cli.path("x.tar.partial").exists() && !cli.path("x.tar").exists());
    cli.run(&["dump", "latest", "/source", "--target", "x.tar"]).fails(1, &["an earlier dump", "hint:"]);
}

#[test]
fn an_archive_is_backed_up_from_a_file_standard_input_or_a_command() {
    let cli = Cli::new();
    let archive = Made::default().file("www/index.html", "hello").symlink("www/link", "index.html").bytes();
    cli.write("a.tar", &archive);
    let run = cli.run(&["backup", "--from-tar", "a.tar", "--as-path", "/srv", "--tag", "old", "--time", "2019-05-04"]);
    run.succeeds().tells("Files:           1 new").tells("saved");
    assert_eq!(cli.run(&["dump", "latest", "/srv/www/index.html"]).succeeds().out, "hello");
    let snapshot = &cli.json(&["snapshots", "--tag", "old"])[0][0];
    assert_eq!((&snapshot["paths"][0], &snapshot["tags"][0]), (&"/srv".into(), &"old".into()));
    assert!(snapshot["time"].as_str().is_some_and(|time| time.starts_with("2019-05-04")));
    cli.command(&["backup", "--from-tar", "-"]).run_with(&archive).succeeds();
    assert_eq!(cli.run(&["dump", "latest", "/www/index.html"]).succeeds().out, "hello");
    cli.run(&["backup", "--from-tar", "-", "--stdin-from-command", "--", "cat", "a.tar"])
        .succeeds()
        .tells("1 unmodified");
    assert_eq!(cli.snapshots(), 3);
    cli.run(&["backup", "--from-tar", "a.tar", "--dry-run"]).succeeds().tells("nothing was stored");
    cli.run(&["backup", "--from-tar", "-", "--stdin-from-command", "--", "sh", "-c", "cat a.tar; exit 3"])
        .fails(1, &["sh failed", "no snapshot was made"]);
    cli.command(&["backup", "--from-tar", "-"])
        .run_with(&archive[..700])
        .fails(1, &["cut short", "no snapshot was made"]);
    cli.write("text", "no archive");
    cli.run(&["backup", "--from-tar", "text"]).fails(1, &["cut short"]);
    cli.run(&["backup", "--from-tar", "nowhere"]).fails(1, &["nowhere"]);
    for more in [&["source"][..], &["--stdin"], &["--files-from", "x"], &["-x"]] {
        cli.run(&[&["backup", "--from-tar", "a.tar"], more].concat()).fails(1, &["--from-tar"]);
    }
    cli.run(&["backup", "--from-tar", "a.tar", "--exclude", "*.html"]).fails(1, &["nothing can be excluded"]);
    assert_eq!(cli.snapshots(), 3);
}

#[test]
fn absolute_paths_are_taken_in_only_if_that_is_asked_for() {
    let cli = Cli::new();
    cli.write("a.tar", Made::default().file("/abs/file", "x").link("/abs/link", "/abs/file").bytes());
    cli.run(&["backup", "--from-tar", "a.tar"]).fails(1, &["an absolute path", "hint:", "--strip-leading-slash"]);
    assert_eq!(cli.snapshots(), 0);
    cli.run(&["backup", "--from-tar", "a.tar", "--strip-leading-slash"]).succeeds();
    assert_eq!(cli.run(&["dump", "latest", "/abs/link"]).succeeds().out, "x");
}

#[test]
fn a_tree_goes_through_a_pipe_of_both_commands() {
    let cli = grown();
    let mut first = cli.command(&["dump", "latest:/source", "/"]).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut second = cli.command(&["backup", "--from-tar", "-", "--as-path", "copy"]);
    let child = second.stdin(first.stdout.take().expect("piped")).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    end(child.expect("it starts")).succeeds();
    assert!(first.wait().expect("it ran").success());
    cli.run(&["restore", "latest:/copy", "--target", "out"]).succeeds();
    assert_same(&cli.path("source"), &cli.path("out"), BELOW);
}
