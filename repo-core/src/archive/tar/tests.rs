//! tar written and read again, and archives that nobody honest writes.

use std::io;

use proptest::prelude::*;

use super::sparse::Region;
use super::*;
use crate::format::tree::{Metadata, NodeKind, Timestamp};

fn metadata(kind: NodeKind, size: u64) -> Metadata {
    Metadata {
        uid: 1000,
        gid: 1001,
        user: b"ann".to_vec(),
        group: b"staff".to_vec(),
        modified: Timestamp { seconds: 1_600_000_000, nanoseconds: 123 },
        changed: Timestamp { seconds: 1_600_000_001, nanoseconds: 0 },
        size,
        ..Metadata::unknown(kind, 0o640)
    }
}

/// An archive of these entries, each with its content.
fn archive(entries: &[(Entry<'_>, &[u8])]) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    for (entry, content) in entries {
        tar.entry(entry).unwrap();
        tar.content(content).unwrap();
    }
    tar.finish().unwrap()
}

/// All members with their data.
fn read(bytes: &[u8]) -> io::Result<Vec<(Member, Vec<u8>)>> {
    let mut tar = TarReader::new(bytes);
    let mut members = Vec::new();
    while let Some(member) = tar.next_member()? {
        let mut data = Vec::new();
        let mut buffer = [0; 100];
        loop {
            match tar.read(&mut buffer)? {
                0 => break,
                count => data.extend_from_slice(&buffer[..count]),
            }
        }
        members.push((member, data));
    }
    Ok(members)
}

fn file<'a>(path: &'a [u8], metadata: &'a Metadata) -> Entry<'a> {
    Entry { path, metadata, xattrs: &[], shape: Shape::Whole }
}

/// A header made by hand, with a right checksum.
fn raw(kind: u8, name: &str, size: u64) -> [u8; BLOCK_BYTES] {
    let header = header::Header { kind, name: name.into(), size: size as i64, mode: 0o644, ..Default::default() };
    header.encode()
}

/// Blocks of these parts, each filled up, and the end.
fn blocks(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        out.extend_from_slice(part);
        out.resize(out.len().next_multiple_of(BLOCK_BYTES), 0);
    }
    out.resize(out.len() + 2 * BLOCK_BYTES, 0);
    out
}

fn records(pairs: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    pairs.iter().for_each(|(key, value)| pax::put(&mut out, key.as_bytes(), value));
    out
}

#[track_caller]
fn refuses(bytes: &[u8], words: &str) {
    let error = read(bytes).expect_err(words).to_string();
    assert!(error.contains(words), "{words:?} is missing: {error}");
}

fn any_metadata() -> impl Strategy<Value = Metadata> {
    let seconds = prop_oneof![Just(0), Just(-1), Just(1 << 33), Just(i64::MIN), Just(i64::MAX), any::<i64>()];
    let time = (seconds, prop_oneof![Just(0), 0..1_000_000_000u32]);
    let time = time.prop_map(|(seconds, nanoseconds)| Timestamp { seconds, nanoseconds });
    let name = prop_oneof![Just(Vec::new()), prop::collection::vec(1..=255u8, 1..60)];
    let id = prop_oneof![Just(0), Just(0o7_777_777), Just(0o10_000_000), Just(u32::MAX), any::<u32>()];
    let kinds = vec![NodeKind::File, NodeKind::Directory, NodeKind::Fifo, NodeKind::CharDevice, NodeKind::BlockDevice];
    let times = (time.clone(), time.clone(), prop::option::of(time));
    (
        prop::sample::select(kinds),
        0..0o10000u32,
        (id.clone(), id),
        (name.clone(), name),
        times,
        0..3000u64,
        any::<u32>(),
    )
        .prop_map(|(kind, mode, (uid, gid), (user, group), (modified, changed, accessed), size, number)| {
            let is_device = matches!(kind, NodeKind::CharDevice | NodeKind::BlockDevice);
            let special_device = source_number(if is_device { number } else { 0 });
            let size = if kind == NodeKind::File { size } else { 0 };
            let base = metadata(kind, size);
            Metadata { mode, uid, gid, user, group, modified, changed, accessed, special_device, ..base }
        })
}

fn source_number(number: u32) -> u64 {
    crate::platform::source::device_number(number >> 20, number & 0xf_ffff)
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        metadata in any_metadata(),
        path in prop::collection::vec(prop::collection::vec(1..=255u8, 1..120), 1..5),
        xattrs in prop::collection::btree_map(prop::collection::vec(1..=255u8, 1..20), prop::collection::vec(any::<u8>(), 0..200), 0..4),
    ) {
        let path: Vec<u8> = path.concat().into_iter().map(|byte| if byte == b'/' { b'-' } else { byte }).collect();
        let content = vec![7; metadata.size as usize];
        let xattrs: Vec<_> = xattrs.into_iter().collect();
        let entry = Entry { path: &path, metadata: &metadata, xattrs: &xattrs, shape: Shape::Whole };
        let other = file(b"behind it", &metadata);
        let members = read(&archive(&[(entry, &content), (other, &content)])).unwrap();
        let (member, data) = &members[0];
        let slash: &[u8] = if metadata.kind == NodeKind::Directory { b"/" } else { b"" };
        prop_assert_eq!(&member.path, &[&path[..], slash].concat());
        prop_assert_eq!(&member.metadata, &metadata);
        prop_assert_eq!(&member.xattrs, &xattrs);
        prop_assert_eq!(data, &content);
        prop_assert_eq!((members.len(), &members[1].1), (2, &content));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let _ = read(&bytes);
    }

    #[test]
    fn no_change_of_an_archive_makes_it_panic(at in 0..4096usize, byte in any::<u8>()) {
        let metadata = metadata(NodeKind::File, 5);
        let mut bytes = archive(&[(file(&[b'n'; 200], &metadata), b"hello")]);
        let at = at % bytes.len();
        bytes[at] = byte;
        // Also with a right checksum.
        let _ = read(&bytes);
    }
}

#[test]
fn links_are_told_whole_and_by_kind() {
    let of_link = metadata(NodeKind::Symlink, 0);
    let of_file = metadata(NodeKind::File, 3);
    let long = vec![b'l'; 4000];
    let shaped = |path: &'static [u8], metadata, shape| Entry { path, metadata, xattrs: &[], shape };
    let bytes = archive(&[
        (shaped(b"s", &of_link, Shape::Symlink(&long)), b""),
        (shaped(b"odd", &of_link, Shape::Symlink(b"\xff/../x")), b""),
        (shaped(b"h", &of_file, Shape::HardLink(b"first")), b""),
    ]);
    let members = read(&bytes).unwrap();
    let told: Vec<_> = members.iter().map(|(member, _)| (member.is_hard_link, member.link.as_slice())).collect();
    assert_eq!(told, [(false, &long[..]), (false, b"\xff/../x"), (true, b"first")]);
    assert_eq!(members[0].0.metadata, of_link);
}

#[test]
fn a_sparse_file_keeps_its_regions() {
    let metadata = metadata(NodeKind::File, 1 << 40);
    let regions = [Region { start: 4096, end: 4608 }, Region { start: 1 << 39, end: (1 << 39) + 512 }];
    let end = Region { start: 1 << 40, end: 1 << 40 };
    let mut map = MapSize::default();
    regions.iter().chain([&end]).for_each(|region| map.add(*region));
    let mut tar = TarWriter::new(Vec::new());
    let shape = Shape::Sparse { stored_bytes: map.stored_bytes() };
    tar.entry(&Entry { path: b"dir/sparse", metadata: &metadata, xattrs: &[], shape }).unwrap();
    tar.map_begins(&map).unwrap();
    regions.iter().chain([&end]).for_each(|region| tar.map_region(*region).unwrap());
    tar.map_ends(&map).unwrap();
    tar.content(&[1; 512]).unwrap();
    tar.content(&[2; 512]).unwrap();
    let members = read(&tar.finish().unwrap()).unwrap();
    let (member, data) = &members[0];
    assert_eq!((member.path.as_slice(), &member.metadata), (&b"dir/sparse"[..], &metadata));
    assert_eq!(member.regions, regions);
    assert_eq!(data, &[[1; 512], [2; 512]].concat());
}

#[test]
fn a_writer_that_gives_another_length_than_it_said_is_stopped() {
    let metadata = metadata(NodeKind::File, 5);
    let mut tar = TarWriter::new(Vec::new());
    tar.entry(&file(b"a", &metadata)).unwrap();
    assert!(tar.content(b"hello!").is_err());
    assert!(tar.finish().is_err(), "nothing of it came");
}

#[test]
fn names_of_gnu_and_global_headers_count() {
    let long = "n".repeat(300);
    let global = records(&[("uname", b"all"), ("mtime", b"5.5"), ("comment", b"none")]);
    let taken_back = records(&[("uname", b"")]);
    let bytes = blocks(&[
        &raw(b'g', "global", global.len() as u64),
        &global,
        &raw(b'L', "././@LongLink", 301),
        format!("{long}\0").as_bytes(),
        &raw(b'0', "short", 3),
        b"abc",
        &raw(b'x', "x", taken_back.len() as u64),
        &taken_back,
        &raw(b'5', "directory/", 0),
        &raw(b'V', "a label", 0),
        &raw(0, "old directory/", 0),
    ]);
    let members = read(&bytes).unwrap();
    let told: Vec<_> =
        members.iter().map(|(member, _)| (member.path.as_slice(), member.metadata.user.as_slice())).collect();
    assert_eq!(told, [(long.as_bytes(), &b"all"[..]), (b"directory/", b""), (b"old directory/", b"all")]);
    assert_eq!(members[0].0.metadata.modified, Timestamp { seconds: 5, nanoseconds: 500_000_000 });
    assert_eq!(members[2].0.metadata.kind, NodeKind::Directory);
}

#[test]
fn what_breaks_off_or_contradicts_itself_is_refused() {
    let metadata = metadata(NodeKind::File, 600);
    let whole = archive(&[(file(b"a", &metadata), &[7; 600])]);
    let end = whole.len() - 2 * BLOCK_BYTES;
    for length in 1..=end {
        assert!(read(&whole[..length]).is_err(), "cut after {length}");
    }
    refuses(&whole[..end], "without the mark of its end");
    assert_eq!(read(&whole[..end + BLOCK_BYTES]).unwrap().len(), 1, "one block of zeros is a mark");
    assert_eq!(read(&[0; 1024]).unwrap(), [], "an empty archive");
    refuses(b"", "without the mark of its end");
    refuses(&blocks(&[&[b'x'; 512]]), "no number");
    let mut wrong = whole.clone();
    wrong[BLOCK_BYTES * 2 + 3] ^= 1;
    refuses(&wrong, "checksum");
    refuses(&blocks(&[&raw(b'x', "x", 0)]), "after an extended header");
    refuses(&blocks(&[&raw(b'M', "rest", 0)]), "several volumes");
    refuses(&blocks(&[&raw(b'0', "negative", u64::MAX)]), "negative size");
    let mut many = vec![];
    let header = raw(b'x', "x", 0);
    (0..100).for_each(|_| many.push(&header[..]));
    refuses(&blocks(&many), "more extended headers than any file needs");
    refuses(&blocks(&[&raw(b'x', "x", 1 << 40)]), "more extended headers than any file needs");
    let large = records(&[("comment", &vec![b'x'; 2 << 20])]);
    refuses(&blocks(&[&raw(b'g', "g", large.len() as u64), &large]), "over 1 MiB");
    for (key, value) in
        [("size", "-5"), ("uid", "99999999999"), ("mtime", "soon"), ("size", "x"), ("gid", "-5000000000")]
    {
        let header = records(&[(key, value.as_bytes())]);
        let bytes = blocks(&[&raw(b'x', "x", header.len() as u64), &header, &raw(b'0', "a", 0)]);
        assert!(read(&bytes).is_err(), "{key}={value}");
    }
}

#[test]
fn lists_of_sparse_files_that_lie_are_refused() {
    let sparse = |pairs: &[(&str, &[u8])], stored: &[u8]| {
        let header = records(pairs);
        blocks(&[&raw(b'x', "x", header.len() as u64), &header, &raw(b'0', "a", stored.len() as u64), stored])
    };
    let map = |map: &'static str| [("GNU.sparse.map", map.as_bytes()), ("GNU.sparse.size", b"1000")];
    assert_eq!(read(&sparse(&map("0,3,500,2"), b"abcde")).unwrap()[0].0.regions.len(), 2);
    for bad in ["0,3,500,3", "500,3,0,2", "0,3,2,2", "0,5,0", "999,5", "0,x", "-1,5"] {
        assert!(read(&sparse(&map(bad), b"abcde")).is_err(), "{bad}");
    }
    refuses(&sparse(&[("GNU.sparse.map", b"0,5")], b"abcde"), "without its size");
    refuses(&sparse(&[("GNU.sparse.numbytes", b"5"), ("GNU.sparse.size", b"5")], b"abcde"), "without its offsets");
    let first = [("GNU.sparse.major", &b"1"[..]), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"1000")];
    for bad in ["2\n0\n3\n", "99999999999999999999\n", "1\nx\n3\n", "", "1"] {
        assert!(read(&sparse(&first, bad.as_bytes())).is_err(), "{bad:?}");
    }
    // A list that never ends: each block is read and none believed.
    let endless = [b"9999999999\n".to_vec(), b"0\n0\n".repeat(600_000)].concat();
    assert!(read(&sparse(&first, &endless)).is_err());
    // GNU's own: the flag for more, without more.
    let mut old = raw(b'S', "old", 0);
    old[482] = 1;
    assert!(read(&old).is_err());
}

#[test]
fn what_follows_the_end_is_told() {
    let metadata = metadata(NodeKind::File, 1);
    let one = archive(&[(file(b"a", &metadata), b"x")]);
    let both = [one.clone(), one].concat();
    let mut tar = TarReader::new(&both[..]);
    while tar.next_member().unwrap().is_some() {}
    assert!(tar.take_notes()[0].contains("follows the end"));
}

#[test]
fn lists_of_access_are_taken_as_text_where_there_is_no_attribute() {
    let header = records(&[("SCHILY.acl.access", b"user::rw-,user:5:r--,group::r--,mask::r--,other::---")]);
    let nobody = records(&[("SCHILY.acl.access", b"user::rw-,user:lisa:r--,group::r--,mask::r--,other::---")]);
    let same = records(&[("SCHILY.acl.access", b"user::rw-,group::r--,other::r--"), ("SCHILY.fflags", b"nodump")]);
    let a = raw(b'0', "a", 0);
    let x = |records: &[u8]| raw(b'x', "x", records.len() as u64);
    let bytes = blocks(&[&x(&header), &header, &a, &x(&nobody), &nobody, &a, &x(&same), &same, &a]);
    let members = read(&bytes).unwrap();
    assert_eq!(members[0].0.xattrs[0].0, ACL_ACCESS);
    assert!(members[1].0.xattrs.is_empty() && members[1].0.problems.len() == 1);
    assert!(members[2].0.xattrs.is_empty() && members[2].0.problems.is_empty());
    assert_eq!(members[2].0.metadata.flags, 0x40);
}
