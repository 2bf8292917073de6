//! Names that are taken or bad, both lists merged, and directories that cannot be read.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use crate::walk::local::{LocalTree, LocalTreeOptions};

fn streams(names: &[&str]) -> Result<Streams> {
    names.iter().try_fold(Streams::new(), |streams, name| streams.add(Path::new(name), io::empty()))
}

fn tree(path: &Path) -> LocalTree {
    LocalTree::new(&[path.to_owned()], LocalTreeOptions::new()).unwrap()
}

/// The directory under a path.
fn directory(source: &Streams, path: &Path) -> Arc<dyn SourceDirectory> {
    let mut at = source.root().unwrap();
    for name in source::path_bytes(path).split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        let entry = at.entries().unwrap().flatten().find(|entry| entry.name == name).unwrap();
        at = at.open_directory(&entry).unwrap();
    }
    at
}

fn names(directory: &Arc<dyn SourceDirectory>) -> Vec<String> {
    let name = |entry: Result<SourceEntry, Unreadable>| match entry {
        Ok(entry) => String::from_utf8(entry.name).unwrap(),
        Err(unreadable) => format!("!{}", String::from_utf8(unreadable.name).unwrap()),
    };
    directory.entries().unwrap().map(name).collect()
}

#[test]
fn names_that_lead_out_or_nowhere_are_refused() {
    for bad in ["", "/", ".", "..", "../a", "a/../b", "a\0b", &"n".repeat(256), &"d/".repeat(2050)] {
        assert!(matches!(streams(&[bad]), Err(Error::Usage(_))), "{bad:?}");
    }
    assert_eq!(streams(&["./b//c", "/a"]).unwrap().paths(), [b"/a".to_vec(), b"/b/c".to_vec()]);
    assert!(streams(&[&"n".repeat(255)]).is_ok());
}

#[test]
fn no_name_comes_twice_or_lies_below_another() {
    for bad in [["a", "/a"], ["a", "a/b"], ["a/b", "a"], ["x/./y", "/x/y/"]] {
        assert!(matches!(streams(&bad), Err(Error::Usage(_))), "{bad:?}");
    }
    assert!(streams(&["a/b", "a/c", "ab"]).is_ok());
}

#[test]
fn entries_of_both_come_in_the_order_of_names() {
    let room = tempfile::tempdir().unwrap();
    for name in ["b", "d", "f"] {
        fs::write(room.path().join(name), name).unwrap();
    }
    let below = |name: &str| room.path().join(name).to_str().unwrap().to_owned();
    let source = streams(&[&below("a"), &below("c"), &below("d!"), &below("g/x")]).unwrap();
    let source = source.beside(tree(room.path())).unwrap();
    let directory = directory(&source, room.path());
    assert_eq!(names(&directory), ["a", "b", "c", "d", "d!", "f", "g"]);
    let entries: Vec<SourceEntry> = directory.entries().unwrap().flatten().collect();
    let are_streams = entries.iter().map(|entry| directory.is_stream(entry)).collect::<Vec<_>>();
    assert_eq!(are_streams, [true, false, true, false, true, false, false]);
    assert!(!source.is_stream() && source.is_read_once());
    assert!(directory.details(&entries[0]).is_ok() && directory.details(&entries[1]).is_ok());
    let mut buffer = [0; 4];
    assert_eq!(directory.open_file(&entries[1]).unwrap().read_at(0, &mut buffer).unwrap(), 1);
    assert_eq!(directory.open_file(&entries[0]).unwrap().read_at(0, &mut buffer).unwrap(), 0);
}

/// A directory is described by what is there, and not by what would have been made up.
#[test]
fn a_directory_that_both_have_is_that_of_the_other_source() {
    let room = tempfile::tempdir().unwrap();
    fs::create_dir(room.path().join("d")).unwrap();
    fs::set_permissions(room.path().join("d"), fs::Permissions::from_mode(0o710)).unwrap();
    fs::write(room.path().join("d/own"), "own").unwrap();
    let name = room.path().join("d/stream");
    let source = Streams::new().add(&name, io::empty()).unwrap().beside(tree(room.path())).unwrap();
    let above = directory(&source, room.path());
    let entry = above.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(entry.metadata.mode & 0o777, 0o710);
    assert_eq!(entry.metadata.inode, fs::metadata(room.path().join("d")).unwrap().ino());
    assert_eq!(names(&above.open_directory(&entry).unwrap()), ["own", "stream"]);
}

#[test]
fn a_name_that_is_taken_is_refused_at_every_depth() {
    let room = tempfile::tempdir().unwrap();
    fs::create_dir(room.path().join("d")).unwrap();
    fs::write(room.path().join("d/f"), "own").unwrap();
    for (name, is_free) in [("d", false), ("d/f", false), ("d/f/x", false), ("d/g", true), ("e", true)] {
        let streams = Streams::new().add(&room.path().join(name), io::empty()).unwrap();
        assert_eq!(streams.beside(tree(room.path())).is_ok(), is_free, "{name}");
    }
}

#[test]
fn what_comes_later_under_the_name_of_a_stream_is_named_and_the_stream_is_there() {
    let room = tempfile::tempdir().unwrap();
    for (late, stream) in [("a", "a"), ("b", "b/x")] {
        let streams = Streams::new().add(&room.path().join(stream), io::empty()).unwrap();
        let source = streams.beside(tree(room.path())).unwrap();
        fs::write(room.path().join(late), "own").unwrap();
        let names = names(&directory(&source, room.path()));
        let position = names.iter().position(|name| *name == format!("!{late}")).unwrap();
        assert_eq!(names[position + 1], late);
    }
}

#[test]
fn streams_outlive_a_directory_that_cannot_be_read() {
    struct Shut;
    impl Source for Shut {
        fn root(&self) -> io::Result<Arc<dyn SourceDirectory>> {
            Ok(Arc::new(Top))
        }
        fn paths(&self) -> Vec<Vec<u8>> {
            vec![b"/shut".to_vec()]
        }
    }
    struct Top;
    impl SourceDirectory for Top {
        fn entries(&self) -> io::Result<Entries> {
            let entry = |name: &str, descend| {
                let metadata = Metadata::unknown(NodeKind::Directory, 0o700);
                Ok(SourceEntry { name: name.into(), metadata, descend })
            };
            Ok(Box::new([entry("closed", false), entry("shut", true)].into_iter()))
        }
        fn open_directory(&self, entry: &SourceEntry) -> io::Result<Arc<dyn SourceDirectory>> {
            assert_ne!(entry.name, b"closed", "nothing below it is to be read");
            Err(io::ErrorKind::PermissionDenied.into())
        }
        fn open_file(&self, _: &SourceEntry) -> io::Result<Box<dyn SourceFile>> {
            Err(io::ErrorKind::NotFound.into())
        }
        fn details(&self, _: &SourceEntry) -> io::Result<Details> {
            Ok(Details::default())
        }
    }
    // What is not to be read cannot be looked into for names that are taken either.
    let source = streams(&["closed/x", "shut/y"]).unwrap();
    let source = source.beside(Shut).unwrap();
    assert_eq!(source.paths(), [b"/closed/x".to_vec(), b"/shut".to_vec(), b"/shut/y".to_vec()]);
    assert_eq!(names(&directory(&source, Path::new("closed"))), ["x"]);
    assert_eq!(names(&directory(&source, Path::new("shut"))), ["!", "y"]);
}
