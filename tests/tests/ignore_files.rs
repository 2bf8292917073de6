//! Ignore files: what git itself leaves out is left out, pattern by pattern; those of one's own follow the same rules; and
//! what cannot be read or understood leaves nothing out and is said.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use icecore_tests::cli::{Cli, Runs};
use icecore_tests::privilege;
use proptest::prelude::*;
use repo_core::{LocalTree, LocalTreeOptions, NodeKind, Source, SourceDirectory};
use tempfile::TempDir;

/// Files of the work tree; a name that ends in `@` is a link.
const FILES: &[&[u8]] = &[
    b"a.txt",
    b"A.TXT",
    b"b.txt",
    b"ab.txt",
    b".hidden",
    b"with space",
    b"trail ",
    b"tab\t",
    b"star*name",
    b"br[1]",
    b"x1",
    b"back\\slash",
    b"#hash",
    b"!bang",
    b"{a,b}",
    b"a,b",
    b"a",
    b"b/c",
    b"uml/\xc3\x84pfel.txt",
    b"latin/\xc4pfel.txt",
    b"src/main.c",
    b"src/main.o",
    b"src/lib/util.c",
    b"src/lib/util.o",
    b"src/lib/deep/x.o",
    b"build/out/a.o",
    b"build/keep.txt",
    b"docs/build/index.html",
    b"docs/readme.md",
    b"foo/bar/baz",
    b"foo/bar/qux",
    b"foo/baz",
    b"bar/foo/baz",
    b"node_modules/pkg/index.js",
    b"app/node_modules/pkg/index.js",
    b"tmp1",
    b"tmp22",
    b"tmp_a",
    b"tmp-b",
    b"log/2024/01.log",
    b"log/2024/12.log",
    b"log/2025/01.log",
    b"log/2025/deep/er/01.log",
    b"a-b",
    b"a+b",
    b"a]b",
    b"a^b",
    b"x/y/z/w/v",
    b"x/y/z2/w/v",
    b"build@",
    b"src@",
];

/// Contents of `.gitignore`, each tried alone.
const PATTERNS: &[&str] = &[
    "*.txt",
    "a.txt",
    "a*",
    "?.txt",
    "??.txt",
    "[ab].txt",
    "[!a].txt",
    "[^a].txt",
    "[a-c]b.txt",
    ".*",
    "with space",
    "trail\\ ",
    "trail ",
    "tab\t",
    "a.txt   ",
    "*\\**",
    "star\\*name",
    "br\\[1\\]",
    "br[[]1]",
    "br[1]",
    "back\\\\slash",
    "back\\slash",
    "\\#hash",
    "#hash",
    "\\!bang",
    "!bang",
    "{a,b}",
    "{*",
    "*,*",
    "src",
    "src/",
    "/src",
    "/src/",
    "src/*",
    "src/**",
    "src/*.o",
    "src/**/*.o",
    "**/*.o",
    "lib",
    "src/lib",
    "lib/*.o",
    "**/lib",
    "**/deep/*",
    "src/**/x.o",
    "build",
    "/build",
    "build/",
    "docs/build",
    "foo",
    "foo/baz",
    "bar/foo",
    "foo/*/baz",
    "foo/**/baz",
    "**/foo/baz",
    "node_modules/",
    "tmp?",
    "tmp[0-9]",
    "tmp[!0-9]*",
    "tmp[[:digit:]]",
    "tmp[![:alnum:]]*",
    "tmp[[:punct:]]?",
    "log/*/01.log",
    "log/**/01.log",
    "log/202[45]/",
    "a[-+]b",
    "a[]]b",
    "a[\\]^]b",
    "a[^]]b",
    "a[+--]b",
    "a[,-.]b",
    "x[!a]y",
    "x/?/z",
    "x?y",
    "*\n!*.txt",
    "*\n!*/\n!*.o",
    "/*\n!/src/",
    "build/\n!build/keep.txt",
    "build/*\n!build/keep.txt",
    "*.o\n!main.o",
    "foo\n!foo/baz",
    "!a.txt\na.txt",
    "a.txt\r\nb.txt\r",
    "# note\n\n  \nab.txt",
    "\u{feff}a.txt\nb.txt",
    "**",
    "*",
    "/",
    "!",
    "/**",
    "**/",
    "/*/",
    "***",
    "x/***/v",
    "//src",
    "src//main.c",
    "./src",
    "../a.txt",
    "\u{c4}pfel.txt",
    "uml/?pfel.txt",
    "uml/??pfel.txt",
    "latin/?pfel.txt",
    "[[:upper:]]*",
    "[[:space:]]",
    "with[[:blank:]]space",
    "a[[:x]b",
    "x[1-0]",
];

fn path_of(name: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(name))
}

fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().expect("in a scratch directory")).unwrap();
    fs::write(path, content).unwrap();
}

fn git(directory: &Path, arguments: &[&str]) -> Vec<u8> {
    let mut command = Command::new("git");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(b"GIT_")) {
        command.env_remove(name);
    }
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", directory);
    command.env_remove("XDG_CONFIG_HOME").env("LC_ALL", "C");
    let run = command.current_dir(directory).args(arguments).output().expect("git runs");
    assert!(run.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
    run.stdout
}

fn has_git() -> bool {
    let there = Command::new("git").arg("--version").output().is_ok_and(|run| run.status.success());
    if !there {
        privilege::skip("git", "git cannot be run");
    }
    there
}

fn work_tree(files: &[&[u8]]) -> TempDir {
    let scratch = tempfile::tempdir().unwrap();
    git(scratch.path(), &["init", "-q"]);
    for name in files {
        match name.strip_suffix(b"@") {
            Some(target) => symlink(path_of(target), scratch.path().join(path_of(name))).unwrap(),
            None => write(&scratch.path().join(path_of(name)), "x"),
        }
    }
    scratch
}

/// What git would add.
fn listed_by_git(directory: &Path) -> BTreeSet<PathBuf> {
    let out = git(directory, &["ls-files", "-z", "--others", "--cached", "--exclude-standard"]);
    let names = out.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| PathBuf::from(std::ffi::OsString::from_vec(name.to_vec()))).collect()
}

/// What a walk shows below `top` but for what is in a `.git`, and what it says that went wrong.
fn walked(paths: &[&Path], top: &Path, options: LocalTreeOptions) -> (BTreeSet<PathBuf>, Vec<String>) {
    fn below(
        directory: &Arc<dyn SourceDirectory>,
        path: &Path,
        found: &mut BTreeSet<PathBuf>,
        wrong: &mut Vec<String>,
    ) {
        for entry in directory.entries().unwrap() {
            match entry {
                Err(problem) => {
                    let name = path.join(path_of(&problem.name));
                    wrong.push(format!("{}: {}: {}", name.display(), problem.during, problem.error));
                }
                Ok(entry) if entry.metadata.kind == NodeKind::Directory => {
                    let path = path.join(path_of(&entry.name));
                    below(&directory.open_directory(&entry).unwrap(), &path, found, wrong);
                }
                Ok(entry) => _ = found.insert(path.join(path_of(&entry.name))),
            }
        }
    }
    let paths: Vec<PathBuf> = paths.iter().map(|path| path.to_path_buf()).collect();
    let source = LocalTree::new(&paths, options).unwrap();
    let (mut found, mut wrong) = (BTreeSet::new(), Vec::new());
    below(&source.root().unwrap(), Path::new("/"), &mut found, &mut wrong);
    let found = found.iter().map(|path| path.strip_prefix(top).unwrap().to_owned());
    (found.filter(|path| !path.components().any(|name| name.as_os_str() == ".git")).collect(), wrong)
}

#[track_caller]
fn same_as_git(top: &Path, what: &str) {
    let (found, _) = walked(&[top], top, LocalTreeOptions::new().git_ignore());
    let expected = listed_by_git(top);
    let only = |one: &BTreeSet<PathBuf>, other: &BTreeSet<PathBuf>| one.difference(other).cloned().collect::<Vec<_>>();
    let (kept, lost) = (only(&found, &expected), only(&expected, &found));
    assert!(kept.is_empty() && lost.is_empty(), "{what:?}: git leaves out {kept:?}, git keeps {lost:?}");
}

#[test]
fn every_pattern_leaves_out_what_git_leaves_out() {
    if !has_git() {
        return;
    }
    let tree = work_tree(FILES);
    let mut verdicts = BTreeSet::new();
    for pattern in PATTERNS {
        fs::write(tree.path().join(".gitignore"), pattern).unwrap();
        same_as_git(tree.path(), pattern);
        verdicts.insert(listed_by_git(tree.path()));
    }
    assert!(verdicts.len() > 50, "the patterns differ: {}", verdicts.len());
}

#[test]
fn nested_files_and_info_exclude_count_in_gits_order() {
    if !has_git() {
        return;
    }
    let tree = work_tree(FILES);
    for (name, content) in [
        (".git/info/exclude", "*.md\n*.c\n/tmp1\n"),
        (".gitignore", "*.o\n!/build/\nlog/2024\n/docs\n*.js\n"),
        ("src/.gitignore", "!main.o\n/lib/util.c\nmain.c\n"),
        ("src/lib/.gitignore", "!util.c\n!deep/*.o\n"),
        ("log/.gitignore", "!2024/12.log\n**/er/\n"),
        ("docs/.gitignore", "!readme.md\n"),
        ("app/.gitignore", "!*.js\n"),
        ("x/y/.gitignore", "/z\n!/z/w\n.gitignore\n"),
    ] {
        write(&tree.path().join(name), content);
    }
    same_as_git(tree.path(), "nested files");
    let (found, _) = walked(&[tree.path()], tree.path(), LocalTreeOptions::new().git_ignore());
    assert!(found.contains(Path::new("src/main.o")) && found.contains(Path::new("app/node_modules/pkg/index.js")));
    assert!(!found.contains(Path::new("docs/readme.md")), "a directory that is left out is not entered");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_mixture_of_patterns_leaves_out_what_git_leaves_out(
        top in mixture(), src in mixture(), foo in mixture(), exclude in mixture(),
    ) {
        if has_git() {
            let tree = work_tree(FILES);
            for (name, lines) in [
                (".gitignore", top), ("src/.gitignore", src), ("foo/.gitignore", foo), (".git/info/exclude", exclude),
            ] {
                write(&tree.path().join(name), lines);
            }
            same_as_git(tree.path(), "a mixture");
        }
    }
}

/// Some lines, half of them taken back.
fn mixture() -> impl Strategy<Value = String> {
    let lines: Vec<&'static str> = PATTERNS.iter().flat_map(|pattern| pattern.split('\n')).collect();
    let line = (proptest::sample::select(lines), any::<bool>());
    proptest::collection::vec(line, 0..6).prop_map(|lines| {
        let lines = lines.into_iter().map(|(line, back)| if back { format!("!{line}\n") } else { format!("{line}\n") });
        lines.collect()
    })
}

#[test]
fn a_directory_within_a_work_tree_obeys_what_lies_above_it() {
    if !has_git() {
        return;
    }
    let tree = work_tree(FILES);
    write(&tree.path().join(".gitignore"), "/src/main.o\ndeep/\n/a*\n");
    write(&tree.path().join(".git/info/exclude"), "util.*\n");
    let src = tree.path().join("src");
    let options = || LocalTreeOptions::new().git_ignore();
    let names = |found: BTreeSet<PathBuf>| found.into_iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
    assert_eq!(names(walked(&[&src], &src, options()).0), ["main.c"]);
    // By a link too: what counts is where it lies.
    let elsewhere = tempfile::tempdir().unwrap();
    symlink(tree.path(), elsewhere.path().join("link")).unwrap();
    let by_link = elsewhere.path().join("link/src");
    assert_eq!(names(walked(&[&by_link], &by_link, options()).0), ["main.c"]);
    // What is named is stored, and what is in it is judged as it would be.
    let deep = tree.path().join("src/lib/deep");
    assert_eq!(names(walked(&[&deep], &deep, options()).0), ["x.o"]);
}

#[test]
fn outside_a_work_tree_and_in_gits_own_directory_gits_files_mean_nothing() {
    if !has_git() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let top = scratch.path();
    for name in ["plain/.gitignore", "repo/.gitignore", "repo/inner/.gitignore"] {
        write(&top.join(name), "*.o\nHEAD\nobjects\n.git\n");
    }
    for name in ["plain/a.o", "repo/a.o", "repo/inner/b.o", "repo/other/c.o", "repo/other/d.x", "repo/not/.git/e.x"] {
        write(&top.join(name), "x");
    }
    git(&top.join("repo"), &["init", "-q"]);
    git(&top.join("repo/other"), &["init", "-q"]);
    write(&top.join("repo/other/.gitignore"), "*.x\n");
    let (found, wrong) = walked(&[top], top, LocalTreeOptions::new().git_ignore());
    assert_eq!(wrong, Vec::<String>::new());
    assert!(found.contains(Path::new("plain/a.o")), "no work tree, no rules");
    assert!(!found.contains(Path::new("repo/a.o")) && !found.contains(Path::new("repo/inner/b.o")));
    // A repository within another is one of its own.
    assert!(found.contains(Path::new("repo/other/c.o")) && !found.contains(Path::new("repo/other/d.x")));
    let tree = LocalTree::new(&[top.to_owned()], LocalTreeOptions::new().git_ignore()).unwrap();
    let mut directory = tree.root().unwrap();
    let below = [
        &top.components().skip(1).map(|name| name.as_os_str().as_bytes()).collect::<Vec<_>>()[..],
        &[b"repo", b".git"],
    ];
    for name in below.concat() {
        let entry = directory.entries().unwrap().flatten().find(|entry| entry.name == name).expect("it is shown");
        directory = directory.open_directory(&entry).unwrap();
    }
    let names: Vec<_> = directory.entries().unwrap().flatten().map(|entry| entry.name).collect();
    assert!(names.contains(&b"HEAD".to_vec()) && names.contains(&b"objects".to_vec()), "{names:?}");
}

#[test]
fn a_further_work_tree_obeys_the_exclude_file_of_its_repository() {
    if !has_git() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let main = scratch.path().join("main");
    write(&main.join("file"), "x");
    git(&main, &["init", "-q"]);
    let identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"];
    git(&main, &["add", "file"]);
    git(&main, &[&identity[..], &["commit", "-q", "-m", "x"]].concat());
    git(&main, &["worktree", "add", "-q", "../further"]);
    write(&main.join(".git/info/exclude"), "secret\n");
    let further = scratch.path().join("further");
    write(&further.join("secret"), "x");
    write(&further.join("open"), "x");
    let (found, wrong) = walked(&[&further], &further, LocalTreeOptions::new().git_ignore());
    assert_eq!((found, wrong), (listed_by_git(&further), Vec::new()));
}

#[test]
fn files_of_ones_own_follow_the_same_rules_everywhere_and_count_before_gits() {
    let cli = Cli::new();
    for name in ["a.o", "b.o", "c.x", "sub/a.o", "sub/b.o", "sub/d.tmp", "sub/only/x", "sub/.hg/store.o"] {
        cli.write(&format!("source/{name}"), "x");
    }
    cli.write("source/.icecoreignore", "*.o\n/sub/only/\n");
    cli.write("source/sub/.icecoreignore", "!b.o\n");
    cli.write("source/.second", "!a.o\n*.x\n");
    cli.write("source/sub/.nobackup", "*.tmp\n");
    let listing = |arguments: &[&str]| {
        cli.backup(arguments);
        let lines = cli.run(&["ls", "latest", "--recursive", "/source"]).succeeds().out;
        let names = lines.lines().filter_map(|line| line.strip_prefix("/source/")).map(str::to_owned);
        names.filter(|name| !name.starts_with('.') && !name.contains("/.")).collect::<Vec<_>>()
    };
    let all = ["a.o", "b.o", "c.x", "sub", "sub/a.o", "sub/b.o", "sub/d.tmp", "sub/only", "sub/only/x"];
    assert_eq!(listing(&[]), all, "nobody asked");
    assert_eq!(listing(&["--ignore-file", ".icecoreignore"]), ["c.x", "sub", "sub/b.o", "sub/d.tmp"]);
    let both = ["--ignore-file", ".icecoreignore", "--ignore-file", ".second", "--ignore-file", ".nobackup"];
    assert_eq!(listing(&both), ["a.o", "sub", "sub/a.o", "sub/b.o"]);
    assert_eq!(
        cli.json(&[&["backup", "source", "--skip-if-unchanged"][..], &both].concat()).last().unwrap()["snapshot_id"],
        serde_json::Value::Null,
        "the same rules give the same tree"
    );
    if has_git() {
        git(&cli.path("source"), &["init", "-q"]);
        cli.write("source/.gitignore", "*\n");
        assert_eq!(listing(&["--git-ignore"]), Vec::<String>::new());
        let taken_back = listing(&["--git-ignore", "--ignore-file", ".second"]);
        assert_eq!(taken_back, ["a.o"], "what is nearer to the user decides");
    }
    cli.run(&["backup", "source", "--ignore-file", "a/b"]).fails(1, &["not a file's name"]);
}

#[test]
fn what_cannot_be_read_or_understood_leaves_nothing_out_and_is_said() {
    let scratch = tempfile::tempdir().unwrap();
    let top = scratch.path();
    for directory in ["broken", "huge", "link", "directory", "many", "fine"] {
        write(&top.join(directory).join("a.o"), "x");
        write(&top.join(directory).join("b.o"), "x");
    }
    write(&top.join("broken/.ignore"), b"b[\n*.x\nb.o\n\xff\n");
    write(&top.join("huge/.ignore"), [b"*.o\n".repeat(1 << 18), b"\n".to_vec()].concat());
    write(&top.join("fine/.ignore"), [b"b.o\n".to_vec(), b"\n".repeat((1 << 20) - 4)].concat());
    symlink("../fine/.ignore", top.join("link/.ignore")).unwrap();
    fs::create_dir(top.join("directory/.ignore")).unwrap();
    write(&top.join("many/.ignore"), "[\n".repeat(100));
    let (found, wrong) = walked(&[top], top, LocalTreeOptions::new().ignore_file(".ignore"));
    let names = |directory: &str| ["a.o", "b.o"].map(|name| found.contains(&Path::new(directory).join(name)));
    assert_eq!(names("broken"), [true, false], "the rest of the file holds");
    assert_eq!(names("fine"), [true, false], "1 MiB is read");
    for directory in ["huge", "link", "directory", "many"] {
        assert_eq!(names(directory), [true, true], "{directory}");
    }
    let said = |file: &str, what: &str| {
        let path = top.join(file).display().to_string();
        let found = wrong.iter().filter(|line| line.starts_with(&path) && line.contains(what)).count();
        assert!(found == 1, "{file}, {what}: {wrong:#?}");
    };
    said("broken/.ignore", "line 1 ");
    said("broken/.ignore", "line 4 is passed over: it is not UTF-8");
    said("huge/.ignore", "it leaves nothing out: larger than 1048576 bytes");
    said("link/.ignore", "a symbolic link");
    said("directory/.ignore", "not a file");
    said("many/.ignore", "line 10 ");
    said("many/.ignore", "90 more lines");
    assert_eq!(wrong.len(), 2 + 1 + 1 + 1 + 11, "{wrong:#?}");
}

#[test]
fn an_unreadable_ignore_file_ends_with_exit_code_3() {
    let cli = Cli::new();
    cli.write("source/kept.o", "x");
    cli.write("source/.ignore", "*.o\n");
    fs::set_permissions(cli.path("source/.ignore"), fs::Permissions::from_mode(0o000)).unwrap();
    let run = cli.command_as_nobody(&["backup", "source", "--ignore-file", ".ignore", "--exclude", ".ignore"]).run();
    let run = run.ends(3);
    assert!(run.error.contains("/source/.ignore") && run.error.contains("leaves nothing out"), "{}", run.error);
    cli.run(&["ls", "latest", "/source"]).succeeds().tells("/source/kept.o");
}
