//! The comparer is itself proven: every kind of difference is found and named, and what is the same is the same.
//! A comparer that sees too little would let every other test pass.

use std::fs::{self, File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use icecore_tests::compare::{Compared, assert_same, differences, portrait, shown};
use icecore_tests::privilege;
use icecore_tests::tree::{self, Abilities, Dice, Kind, Planned, Planner, edit, grow, soften};
use rustix::fs::{CWD, FileType, IFlags, Mode, XattrFlags};
use tempfile::TempDir;

/// Two trees from one plan.
struct Twins {
    room: TempDir,
    abilities: Abilities,
}

impl Twins {
    fn of(plan: impl Fn(&Planner) -> Planned) -> Self {
        let room = tempfile::tempdir().expect("a temporary directory");
        let planner = Planner::new(room.path(), &[65_536]);
        let planned = plan(&planner);
        let twins = Self { room, abilities: planner.abilities };
        grow(&twins.left(), &planned).expect("the left tree grows");
        grow(&twins.right(), &planned).expect("the right tree grows");
        twins
    }

    fn left(&self) -> PathBuf {
        self.room.path().join("left")
    }

    fn right(&self) -> PathBuf {
        self.room.path().join("right")
    }

    fn differences(&self) -> Vec<String> {
        differences(&self.left(), &self.right(), Compared::default())
    }

    /// Makes one change to the right tree, and expects that exactly it is found.
    fn finds(change: impl FnOnce(&Path), expected: &str) {
        let twins = Self::of(|planner| planner.everything());
        let before = fs::metadata(twins.right()).expect("the tree is there").modified().expect("it has a date");
        change(&twins.right());
        // What adds or removes a name dates its directory anew; that is not the point here.
        File::open(twins.right()).and_then(|root| root.set_modified(before)).expect("the date comes back");
        let found = twins.differences();
        assert_eq!(found.len(), 1, "expected only {expected:?}, found {found:#?}");
        assert!(found[0].contains(expected), "expected {expected:?}, found {found:#?}");
    }
}

impl Drop for Twins {
    fn drop(&mut self) {
        soften(self.room.path());
    }
}

/// Does something to a file and gives it its date back.
fn undated(path: &Path, change: impl FnOnce(&Path)) {
    let modified = fs::symlink_metadata(path).and_then(|metadata| metadata.modified()).expect("the file is there");
    change(path);
    let file = File::open(path).expect("the file opens");
    file.set_modified(modified).expect("the date comes back");
}

fn set(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).expect("an attribute can be set");
}

#[test]
fn two_trees_of_one_plan_are_the_same() {
    let twins = Twins::of(|planner| planner.everything());
    assert_same(&twins.left(), &twins.right(), Compared::default());
}

#[test]
fn what_must_not_be_lost_can_be_made_on_disk_or_in_memory() {
    let missing = |place: &Path| Abilities::of(place).missing();
    let in_memory = missing(&tree::memory_place());
    for what in missing(&std::env::temp_dir()) {
        if in_memory.contains(&what) {
            privilege::skip(what, "neither the disk nor the memory here has it");
        }
    }
}

#[test]
fn two_trees_of_one_plan_are_the_same_for_nobody() {
    if privilege::runs_again_as_nobody("two_trees_of_one_plan_are_the_same_for_nobody") {
        return;
    }
    assert_eq!(rustix::process::geteuid().as_raw(), privilege::NOBODY);
    let twins = Twins::of(|planner| planner.everything());
    assert!(!twins.abilities.owners && !twins.abilities.devices, "nobody has no privilege");
    assert_same(&twins.left(), &twins.right(), Compared::default());
}

#[test]
fn a_seed_gives_the_same_tree_every_time_and_another_seed_another() {
    let seeds = (0..30).map(|seed| Twins::of(|planner| planner.from_seed(seed)));
    let portraits: Vec<_> = seeds
        .map(|twins| {
            assert_same(&twins.left(), &twins.right(), Compared::default());
            portrait(&twins.left()).expect("a tree can be looked at").entries
        })
        .collect();
    assert!(portraits.iter().map(|entries| entries.len()).sum::<usize>() > 150, "random trees have something in them");
    assert_ne!(portraits[0], portraits[1]);
}

#[test]
fn random_trees_hold_every_kind_of_entry() {
    let room = tempfile::tempdir().expect("a temporary directory");
    let planner = Planner::new(room.path(), &[]);
    let mut all = Vec::new();
    fn collect(planned: Planned, all: &mut Vec<Planned>) {
        if let Kind::Directory(entries) = &planned.kind {
            entries.values().for_each(|entry| collect(entry.clone(), all));
        }
        all.push(planned);
    }
    (0..100).for_each(|seed| collect(planner.from_seed(seed), &mut all));
    let has = |what: &str, test: &dyn Fn(&Planned) -> bool| assert!(all.iter().any(test), "{what}");
    has("a hard link", &|planned| matches!(planned.kind, Kind::Link(_)));
    has("a symlink", &|planned| matches!(planned.kind, Kind::Symlink(_)));
    has("a fifo", &|planned| matches!(planned.kind, Kind::Fifo));
    has("setuid", &|planned| planned.attributes.mode & 0o4000 != 0);
    has("before 1970", &|planned| planned.attributes.modified.0 < 0);
    has("after 2106", &|planned| planned.attributes.modified.0 > u32::MAX.into());
    has("an attribute", &|planned| !planned.attributes.xattrs.is_empty());
    has("flags", &|planned| planned.attributes.flags != 0 || planner.abilities.flags == 0);
}

#[test]
fn a_missing_entry_is_found() {
    Twins::finds(|root| fs::remove_file(root.join("fifo")).expect("removed"), "fifo: missing");
}

#[test]
fn an_extra_entry_is_found() {
    Twins::finds(|root| fs::write(root.join("more"), "").expect("written"), "more: extra");
}

#[test]
fn a_name_that_is_not_utf8_is_told_in_full() {
    let change = |root: &Path| fs::remove_dir_all(root.join("names")).expect("removed");
    let twins = Twins::of(|planner| planner.everything());
    change(&twins.right());
    assert!(twins.differences().contains(&r"names/\xff\xfe not UTF-8: missing".to_owned()));
}

#[test]
fn another_kind_is_found() {
    let change = |root: &Path| {
        fs::remove_file(root.join("fifo")).expect("removed");
        fs::write(root.join("fifo"), "").expect("written");
    };
    Twins::finds(change, "fifo: kind: Fifo became RegularFile");
}

#[test]
fn another_mode_is_found_down_to_the_sticky_bit() {
    let mode = |mode| {
        move |root: &Path| {
            fs::set_permissions(root.join("mode 0644"), fs::Permissions::from_mode(mode)).expect("mode set");
        }
    };
    Twins::finds(mode(0o645), "mode 0644: mode: 0644 became 0645");
    Twins::finds(mode(0o1644), "0644 became 1644");
    Twins::finds(mode(0o4644), "0644 became 4644");
}

#[test]
fn another_owner_or_group_is_found_also_of_a_symlink() {
    if !privilege::is_root() {
        return privilege::skip("owners", "not root");
    }
    let chowned = |uid, gid| move |root: &Path| chown(root.join("mode 0644"), uid, gid).expect("given away");
    Twins::finds(chowned(Some(7), None), "owner");
    Twins::finds(chowned(None, Some(7)), "owner");
    Twins::finds(|root| lchown(root.join("symlink"), Some(9), None).expect("given away"), "symlink: owner");
}

#[test]
fn another_nanosecond_is_found() {
    let change = |root: &Path| {
        let file = File::open(root.join("dated 0 0")).expect("opens");
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(1);
        file.set_modified(time).expect("dated");
    };
    Twins::finds(change, "modified: (0, 0) became (0, 1)");
}

#[test]
fn another_byte_is_found_where_size_and_date_are_the_same() {
    let change = |root: &Path| {
        undated(&root.join("several MiB"), |path| {
            let file = OpenOptions::new().read(true).write(true).open(path).expect("opens");
            let mut byte = [0];
            file.read_exact_at(&mut byte, 4 << 20).expect("read");
            file.write_all_at(&[byte[0] ^ 1], 4 << 20).expect("written");
        });
    };
    Twins::finds(change, "content");
}

#[test]
fn another_size_is_found() {
    let twins = Twins::of(|planner| planner.everything());
    undated(&twins.right().join("size 00000513"), |path| {
        OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(512)).expect("cut");
    });
    assert!(twins.differences().iter().any(|found| found.contains("size: 513 became 512")));
}

#[test]
fn a_hole_that_became_written_zeros_is_found_and_the_other_way_round() {
    let fill = |root: &Path| {
        undated(&root.join("sparse only"), |path| {
            let file = OpenOptions::new().write(true).open(path).expect("opens");
            file.write_all_at(&[0; 4096], 65_536).expect("written");
        });
    };
    Twins::finds(fill, "runs of data: [] became [(65536, 69632)]");
    let punch = |root: &Path| {
        undated(&root.join("written zeros"), |path| {
            let file = OpenOptions::new().write(true).truncate(true).open(path).expect("opens");
            file.set_len(1 << 20).expect("made a hole");
        });
    };
    Twins::finds(punch, "runs of data: [(0, 1048576)] became []");
}

#[test]
fn another_link_target_is_found() {
    // As long as the old one, and dated as it.
    let change = |root: &Path| {
        fs::remove_file(root.join("symlink")).expect("removed");
        symlink("links b", root.join("symlink")).expect("linked");
        let status = Command::new("touch")
            .args(["-h", "-d", "@1600000000.123456789"])
            .arg(root.join("symlink"))
            .status()
            .expect("touch runs");
        assert!(status.success());
    };
    Twins::finds(change, "symlink: link target: \"links a\" became \"links b\"");
}

#[test]
fn a_hard_link_that_became_a_copy_is_found() {
    let change = |root: &Path| {
        let (path, copy) = (root.join("links c"), root.join("copy"));
        let copied = Command::new("cp").arg("-a").args([&path, &copy]).status().expect("cp runs");
        assert!(copied.success());
        fs::rename(copy, path).expect("replaced");
    };
    let twins = Twins::of(|planner| planner.everything());
    change(&twins.right());
    let found = twins.differences();
    assert!(found.iter().any(|found| found.contains("no longer one thing") && found.contains("links c")), "{found:#?}");
}

#[test]
fn a_copy_that_became_a_hard_link_is_found() {
    let change = |root: &Path| {
        fs::remove_file(root.join("mode 0600")).expect("removed");
        fs::hard_link(root.join("mode 0644"), root.join("mode 0600")).expect("linked");
    };
    let twins = Twins::of(|planner| planner.everything());
    change(&twins.right());
    let found = twins.differences();
    assert!(found.iter().any(|found| found.contains("newly one thing: mode 0600, mode 0644")), "{found:#?}");
}

#[test]
fn another_attribute_value_and_a_missing_and_an_extra_one_are_found() {
    let twins = Twins::of(|planner| planner.everything());
    if !twins.abilities.user_xattrs {
        return privilege::skip("xattrs", "this place has none");
    }
    drop(twins);
    Twins::finds(|root| set(&root.join("mode 0644"), "user.more", b""), "attribute user.more: None became Some(\"\")");
    Twins::finds(|root| set(&root.join("attribute user.plain 5"), "user.plain", b"other"), "attribute user.plain");
    let remove = |root: &Path| {
        rustix::fs::lremovexattr(root.join("attribute user.empty 0"), "user.empty").expect("removed");
    };
    Twins::finds(remove, "attribute user.empty: Some(\"\") became None");
}

#[test]
fn another_acl_is_found() {
    let twins = Twins::of(|planner| planner.everything());
    if !twins.abilities.acls {
        return privilege::skip("acls", "this place has none");
    }
    drop(twins);
    let change = |root: &Path| {
        let path = root.join("default acl");
        set(&path, "system.posix_acl_default", &tree::acl(0o5, &[(2, 0o7)]));
    };
    Twins::finds(change, "default acl: attribute system.posix_acl_default");
}

#[test]
fn another_flag_is_found() {
    let twins = Twins::of(|planner| planner.everything());
    if twins.abilities.flags & IFlags::NODUMP.bits() == 0 {
        return privilege::skip("flags", "this place has none");
    }
    drop(twins);
    let change = |root: &Path| {
        let file = File::open(root.join("mode 0644")).expect("opens");
        let flags = rustix::fs::ioctl_getflags(&file).expect("has flags");
        rustix::fs::ioctl_setflags(&file, flags | IFlags::NODUMP).expect("takes flags");
    };
    Twins::finds(change, "mode 0644: flags");
}

#[test]
fn another_device_number_is_found() {
    let twins = Twins::of(|planner| planner.everything());
    if !twins.abilities.devices {
        return privilege::skip("devices", "not allowed here");
    }
    let path = twins.right().join("device char");
    fs::remove_file(&path).expect("removed");
    rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::RUSR, rustix::fs::makedev(1, 5)).expect("made");
    let found = twins.differences();
    assert!(found.iter().any(|found| found.contains("device number: (1, 3) became (1, 5)")), "{found:#?}");
}

#[test]
fn a_change_far_beyond_path_max_is_found() {
    let twins = Twins::of(|planner| planner.everything());
    let before = portrait(&twins.left()).expect("a tree can be looked at");
    let deepest = before.entries.keys().max_by_key(|path| path.len()).expect("the tree has entries").clone();
    assert!(deepest.len() > 4096, "PATH_MAX is 4096");
    let mut after = before.clone();
    after.entries.get_mut(&deepest).expect("it is there").mode ^= 1;
    assert_eq!(before.differences(&after, Compared::default()).len(), 1);
    // And on disk: the innermost directory alone is removed.
    let mut removed = portrait(&twins.right()).expect("a tree can be looked at");
    removed.entries.remove(&deepest);
    let expected = format!("{}: missing", shown(&deepest));
    assert_eq!(before.differences(&removed, Compared::default()), [expected]);
}

#[test]
fn what_is_told_not_to_be_compared_is_not() {
    let twins = Twins::of(|planner| planner.everything());
    let before = portrait(&twins.left()).expect("a tree can be looked at");
    let mut after = before.clone();
    for entry in after.entries.values_mut() {
        entry.owner = (1, 2);
        entry.flags = 0;
        entry.data.clear();
        entry.xattrs.clear();
    }
    let less = Compared { owners: false, xattrs: false, flags: false, holes: false, ..Compared::default() };
    assert_eq!(before.differences(&after, less), Vec::<String>::new());
    assert!(before.differences(&after, Compared::default()).len() >= before.entries.len());
}

#[test]
fn cp_a_gives_the_same_tree_but_for_what_cp_a_does_not_copy() {
    let twins = Twins::of(|planner| planner.from_seed(11));
    let copy = twins.room.path().join("copy");
    // Some names of the tree, sockets above all, are left out by other implementations of cp; this is GNU's.
    let copied = Command::new("cp").args(["-a", "--sparse=auto"]).args([twins.left(), copy.clone()]).status();
    assert!(copied.expect("cp runs").success());
    // Flags are not copied by cp, and its holes are those that it finds itself.
    let less = Compared { flags: false, holes: false, ..Compared::default() };
    assert_same(&twins.left(), &copy, less);
}

#[test]
fn edits_change_a_tree_and_say_how() {
    let twins = Twins::of(|planner| planner.from_seed(3));
    let mut dice = Dice::new(9);
    fs::write(twins.right().join("one"), dice.bytes(5000)).expect("written");
    let done = edit(&twins.right(), 7, 20);
    assert!(!done.is_empty());
    assert!(!twins.differences().is_empty());
    assert!(twins.right().as_os_str().as_bytes().len() < 4096);
}
