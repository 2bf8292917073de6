//! Trees to back up: planned as plain data, within what the place can do, then grown on disk.
//! A plan comes from a proptest strategy (and shrinks), from a seed, or from the list of everything that must not
//! be lost. Comparing trees is `compare`'s business.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rustix::fs::IFlags;

mod abilities;
pub mod dice;
mod edit;
pub mod grow;

pub use abilities::Abilities;
pub use dice::Dice;
pub use edit::edit;
pub use grow::{grow, soften};

/// Raw bytes; not empty, no `/`, no NUL.
pub type Name = Vec<u8>;

/// One named thing, before it exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    pub kind: Kind,
    pub attributes: Attributes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    File(Vec<Piece>),
    Directory(BTreeMap<Name, Planned>),
    Symlink(Vec<u8>),
    /// A further name of something made before: of the n-th, counted round; then its attributes are not used.
    /// Where nothing was made before, an empty file.
    Link(u16),
    Fifo,
    Socket,
    BlockDevice(u32, u32),
    CharDevice(u32, u32),
}

/// A piece of a file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    Random {
        seed: u64,
        length: u64,
    },
    Text {
        seed: u64,
        length: u64,
    },
    /// Written, and so no hole.
    Zeros {
        length: u64,
    },
    Hole {
        length: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    pub mode: u32,
    /// `None`: whoever makes it.
    pub owner: Option<(u32, u32)>,
    /// Seconds since 1970 and nanoseconds that count forward.
    pub modified: (i64, u32),
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// inode flags.
    pub flags: u32,
}

/// The ends of what file systems keep, and both sides of 1970, 2038 and 2106.
pub const DATES: [i64; 12] = [
    -62_135_596_800, // year 1
    i32::MIN as i64,
    -86_400 * 365,
    -1,
    0,
    1_700_000_000,
    i32::MAX as i64,
    i32::MAX as i64 + 1,
    u32::MAX as i64,
    u32::MAX as i64 + 1,
    15_032_385_535,  // the last second of ext4, in 2446
    253_402_300_799, // the last second of year 9999
];

/// inode flags that a backup should bring back, where the file system has them.
pub const FLAGS: [u32; 6] = [
    IFlags::NODUMP.bits(),
    IFlags::NOATIME.bits(),
    IFlags::SYNC.bits(),
    IFlags::DIRSYNC.bits(),
    IFlags::APPEND.bits(),
    IFlags::IMMUTABLE.bits(),
];

/// Plans trees within what a place can do.
#[derive(Debug, Clone)]
pub struct Planner {
    pub abilities: Abilities,
    /// Sizes at which something changes, in bytes: of files that are inlined, of chunks, of frames.
    pub borders: Vec<u64>,
}

/// What an entry is, for the attributes that it may have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    File,
    Directory,
    Symlink,
    Special,
}

impl Planner {
    /// Plans for the place `path`, with the given borders and those that every format has.
    pub fn new(path: &Path, borders: &[u64]) -> Self {
        let borders = [0, 512, 4096].iter().chain(borders).copied().collect();
        Self { abilities: Abilities::of(path), borders }
    }

    /// Trees of some dozens of entries at most. Its value is always a directory.
    pub fn strategy(&self) -> BoxedStrategy<Planned> {
        let entries = prop::collection::btree_map(name(), self.entry(), 0..12);
        (entries, self.attributes(Sort::Directory))
            .prop_map(|(entries, attributes)| Planned { kind: Kind::Directory(entries), attributes })
            .boxed()
    }

    /// The tree of this seed: the same in every run on a place with the same abilities.
    pub fn from_seed(&self, seed: u64) -> Planned {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
        self.strategy().new_tree(&mut runner).expect("no strategy here rejects").current()
    }

    fn entry(&self) -> BoxedStrategy<Planned> {
        let planner = self.clone();
        self.leaf()
            .prop_recursive(4, 48, 8, move |inner| {
                let entries = prop::collection::btree_map(name(), inner, 0..8);
                (entries, planner.attributes(Sort::Directory))
                    .prop_map(|(entries, attributes)| Planned { kind: Kind::Directory(entries), attributes })
            })
            .boxed()
    }

    fn leaf(&self) -> BoxedStrategy<Planned> {
        let with = |kind: BoxedStrategy<Kind>, sort| {
            (kind, self.attributes(sort)).prop_map(|(kind, attributes)| Planned { kind, attributes }).boxed()
        };
        let special = |kind: Kind, able: bool| with(Just(if able { kind } else { Kind::Fifo }).boxed(), Sort::Special);
        prop_oneof![
            12 => with(self.file(), Sort::File),
            2 => with(any::<u16>().prop_map(Kind::Link).boxed(), Sort::File), // it may become an empty file
            2 => with(link_target().prop_map(Kind::Symlink).boxed(), Sort::Symlink),
            1 => special(Kind::Fifo, true),
            1 => special(Kind::Socket, self.abilities.sockets),
            1 => special(Kind::BlockDevice(7, 259), self.abilities.devices),
            1 => special(Kind::CharDevice(4095, 1_048_575), self.abilities.devices),
        ]
        .boxed()
    }

    fn file(&self) -> BoxedStrategy<Kind> {
        let borders = self.borders.clone();
        let length = prop_oneof![
            6 => 0..2000_u64,
            2 => (0..borders.len(), 0..3_u64).prop_map(move |(which, above)| (borders[which] + above).saturating_sub(1)),
            1 => 0..300_000_u64,
        ];
        // Few seeds, so that contents repeat within and between trees, as they do in life.
        let seed = 0..20_u64;
        let holes = self.abilities.holes;
        let piece = (0..6, seed, length).prop_map(move |(sort, seed, length)| match sort {
            0 => Piece::Zeros { length },
            1 if holes => Piece::Hole { length: length.next_multiple_of(4096) },
            2 | 3 => Piece::Text { seed, length },
            _ => Piece::Random { seed, length },
        });
        prop::collection::vec(piece, 0..4).prop_map(Kind::File).boxed()
    }

    fn attributes(&self, sort: Sort) -> BoxedStrategy<Attributes> {
        let abilities = self.abilities.clone();
        let owners = abilities.owners;
        let id = prop::sample::select(vec![0, 1, 1000, 65_534, 65_536, u32::MAX - 1]);
        // Without privilege, what the owner cannot read can be neither backed up nor compared.
        let must = match sort {
            Sort::Directory if !owners => 0o700,
            Sort::File if !owners => 0o600,
            _ => 0,
        };
        let modified = (prop::sample::select(abilities.dates.clone()), 0..1_000_000_000_u32);
        let flags = prop_oneof![8 => Just(0), 1 => any::<u32>()];
        let (of_flags, of_xattrs) = (abilities.flags, self.xattrs(sort));
        (0..0o10000_u32, (id.clone(), id), modified, of_xattrs, flags)
            .prop_map(move |(mode, owner, modified, xattrs, flags)| Attributes {
                mode: mode | must,
                owner: owners.then_some(owner),
                modified,
                xattrs,
                flags: flags & of_flags & flags_of(sort),
            })
            .boxed()
    }

    fn xattrs(&self, sort: Sort) -> BoxedStrategy<BTreeMap<Vec<u8>, Vec<u8>>> {
        let mut choice = Vec::new();
        let has_content = matches!(sort, Sort::File | Sort::Directory);
        if self.abilities.user_xattrs && has_content {
            let value = prop::collection::vec(any::<u8>(), 0..400);
            choice.push((b"user.icecore".to_vec(), value.boxed()));
            choice.push((b"user.\xff not UTF-8 \n".to_vec(), Just(b"value".to_vec()).boxed()));
            choice.push((b"user.empty".to_vec(), Just(Vec::new()).boxed()));
        }
        if self.abilities.large_xattrs && has_content {
            choice.push((b"user.large".to_vec(), (4000..20_000_usize).prop_map(|length| vec![9; length]).boxed()));
        }
        if self.abilities.trusted_xattrs {
            choice.push((b"trusted.icecore".to_vec(), prop::collection::vec(any::<u8>(), 0..40).boxed()));
        }
        if self.abilities.capabilities && sort == Sort::File {
            choice.push((b"security.capability".to_vec(), Just(capability(1 << 12)).boxed()));
        }
        if self.abilities.acls && has_content {
            let entries = prop::collection::btree_map(1..100_u32, 0..8_u16, 1..4);
            let value = (0..8_u16, entries).prop_map(|(mask, users)| acl(mask, &users.into_iter().collect::<Vec<_>>()));
            // Only for the privileged: a mask may take from the owner's group what comparing needs.
            if self.abilities.owners {
                choice.push((b"system.posix_acl_access".to_vec(), value.clone().boxed()));
            }
            if sort == Sort::Directory {
                choice.push((b"system.posix_acl_default".to_vec(), value.boxed()));
            }
        }
        let each: Vec<_> = choice
            .into_iter()
            .map(|(name, value)| prop::option::weighted(0.1, value.prop_map(move |value| (name.clone(), value))))
            .collect();
        each.prop_map(|each| each.into_iter().flatten().collect()).boxed()
    }

    /// One of everything that must not be lost, as far as the place can hold it.
    pub fn everything(&self) -> Planned {
        let can = &self.abilities;
        let mut top = BTreeMap::new();
        let plain =
            |kind| Planned { kind, attributes: Attributes { mode: 0o640, modified: DAY, ..Default::default() } };
        let file = |length| plain(Kind::File(vec![Piece::Random { seed: length, length }]));
        let dressed = |change: &dyn Fn(&mut Attributes)| {
            let mut planned = plain(Kind::File(vec![Piece::Text { seed: 5, length: 700 }]));
            change(&mut planned.attributes);
            planned
        };
        let named = |entries: Vec<(&[u8], Planned)>| -> Planned {
            let entries = entries.into_iter().map(|(name, planned)| (name.to_vec(), planned)).collect();
            let attributes = Attributes { mode: 0o750, modified: DAY, ..Default::default() };
            Planned { kind: Kind::Directory(entries), attributes }
        };
        let mut put = |name: &str, planned| top.insert(name.as_bytes().to_vec(), planned);

        put("empty file", file(0));
        put("empty directory", named(vec![]));
        for size in &self.borders {
            for size in [size.saturating_sub(1), *size, size + 1] {
                put(&format!("size {size:08}"), file(size));
            }
        }
        put("several MiB", file((5 << 20) + 17));
        for mode in [0o400, 0o600, 0o644, 0o777, 0o4755, 0o2755, 0o1644, 0o7777] {
            put(&format!("mode {mode:04o}"), dressed(&|attributes| attributes.mode = mode));
        }
        for mode in [0o700, 0o1777, 0o2770, 0o6711] {
            let mut directory = named(vec![(b"inside", file(3))]);
            directory.attributes.mode = mode;
            put(&format!("directory mode {mode:04o}"), directory);
        }
        for date in &can.dates {
            for nanoseconds in [0, 1, 999_999_999] {
                let planned = dressed(&|attributes| attributes.modified = (*date, nanoseconds));
                put(&format!("dated {date} {nanoseconds}"), planned);
            }
        }
        let names: [&[u8]; 8] =
            [b"\xff\xfe not UTF-8", &[b'n'; 255], &[0xc3; 255], b"new\nline\x1b[31m", b"-rf", b" ", b"...", b"*?[a]\\"];
        put("names", named(names.into_iter().map(|name| (name, file(9))).collect()));

        put("links a", file(600));
        let last = (top.len() - 1) as u16; // counted round; which of them does not matter
        let mut put = |name: &str, planned| top.insert(name.as_bytes().to_vec(), planned);
        let links = named(vec![(b"one", plain(Kind::Link(last))), (b"two", plain(Kind::Link(3)))]);
        put("links b", links);
        put("links c", plain(Kind::Link(last)));
        put("symlink", plain(Kind::Symlink(b"links a".to_vec())));
        put("symlink dangling", plain(Kind::Symlink(b"../no/such\xff/thing".to_vec())));
        put("symlink long", plain(Kind::Symlink(vec![b'l'; 4000])));
        put("symlink to itself", plain(Kind::Symlink(b"symlink to itself".to_vec())));
        put("fifo", plain(Kind::Fifo));
        if can.sockets {
            put("socket", plain(Kind::Socket));
        }
        if can.devices {
            put("device block", plain(Kind::BlockDevice(259, 65_535)));
            put("device char", plain(Kind::CharDevice(1, 3)));
        }
        if can.owners {
            put("owned", dressed(&|attributes| attributes.owner = Some((u32::MAX - 1, 12_345))));
        }
        if can.holes {
            let (hole, zeros) = (Piece::Hole { length: 1 << 20 }, Piece::Zeros { length: 128 << 10 });
            let data = Piece::Random { seed: 77, length: 100_000 };
            put("sparse only", plain(Kind::File(vec![hole])));
            put("sparse head", plain(Kind::File(vec![hole, data])));
            put("sparse tail", plain(Kind::File(vec![data, hole])));
            put("sparse and written zeros", plain(Kind::File(vec![zeros, hole, data, zeros, hole, zeros])));
            put("sparse to 5 GiB", plain(Kind::File(vec![data, Piece::Hole { length: 5 << 30 }, data])));
        }
        put("written zeros", plain(Kind::File(vec![Piece::Zeros { length: 1 << 20 }])));
        let mut attribute = |able: bool, name: &str, value: Vec<u8>| {
            if able {
                let planned = dressed(&|attributes| {
                    attributes.xattrs.insert(name.as_bytes().to_vec(), value.clone());
                });
                put(&format!("attribute {name} {}", value.len()), planned);
            }
        };
        attribute(can.user_xattrs, "user.plain", b"value".to_vec());
        attribute(can.user_xattrs, "user.empty", Vec::new());
        attribute(can.user_xattrs, "user.binary", (0..=255).collect());
        attribute(can.user_xattrs, "user.three thousand", vec![3; 3000]);
        attribute(can.large_xattrs, "user.large", Dice::new(3).bytes(60_000));
        attribute(can.trusted_xattrs, "trusted.icecore", b"only root".to_vec());
        attribute(can.capabilities, "security.capability", capability(1 << 10));
        attribute(can.acls, "system.posix_acl_access", acl(0o6, &[(1, 0o4), (65_533, 0o6)]));
        if can.acls {
            let mut directory = named(vec![(b"inside", file(1))]);
            let default = acl(0o7, &[(2, 0o7)]);
            directory.attributes.xattrs.insert(b"system.posix_acl_default".to_vec(), default);
            put("default acl", directory);
        }
        for flag in FLAGS.into_iter().filter(|flag| can.flags & flag != 0) {
            put(&format!("flag {flag:#x}"), dressed(&|attributes| attributes.flags = flag & flags_of(Sort::File)));
            let mut directory = named(vec![(b"inside", file(2))]);
            directory.attributes.flags = flag;
            put(&format!("directory flag {flag:#x}"), directory);
        }
        put("deep", deep(24));
        let mut root = named(vec![]);
        root.kind = Kind::Directory(top);
        root
    }
}

/// A date with nanoseconds.
const DAY: (i64, u32) = (1_600_000_000, 123_456_789);

/// Directories in directories, far beyond PATH_MAX with their names of 200 bytes, and a file at the bottom.
fn deep(levels: usize) -> Planned {
    let attributes = Attributes { mode: 0o700, modified: DAY, ..Default::default() };
    let bottom =
        Planned { kind: Kind::File(vec![Piece::Text { seed: 1, length: 800 }]), attributes: attributes.clone() };
    (0..levels).fold(bottom, |below, level| {
        let name = format!("{level:03}{}", "d".repeat(197)).into_bytes();
        Planned { kind: Kind::Directory(BTreeMap::from([(name, below)])), attributes: attributes.clone() }
    })
}

fn flags_of(sort: Sort) -> u32 {
    match sort {
        Sort::Directory => u32::MAX,
        Sort::File => !IFlags::DIRSYNC.bits(),
        Sort::Symlink | Sort::Special => 0,
    }
}

fn name() -> impl Strategy<Value = Name> {
    let any = prop::collection::vec(1..=255_u8, 1..20);
    let longest = (1..=255_u8).prop_map(|byte| vec![byte; 255]);
    let plain = prop::collection::vec(b'a'..=b'e', 1..4);
    prop_oneof![6 => plain, 3 => any, 1 => longest].prop_map(|mut name| {
        name.iter_mut().filter(|byte| **byte == b'/').for_each(|byte| *byte = b'\\');
        if name == b"." || name == b".." {
            name.push(b'x');
        }
        name
    })
}

fn link_target() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(1..=255_u8, 1..300)
}

/// A directory of a file system in memory, which keeps larger attributes and later dates than most disks do; that for
/// temporary files where there is none.
pub fn memory_place() -> PathBuf {
    let shared = PathBuf::from("/dev/shm");
    if tempfile::tempdir_in(&shared).is_ok() { shared } else { std::env::temp_dir() }
}

/// The bytes of a POSIX ACL as Linux keeps them: the owner may all, then the named users, then a mask.
pub fn acl(mask: u16, users: &[(u32, u16)]) -> Vec<u8> {
    const UNDEFINED: u32 = u32::MAX;
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    let mut entry = |tag: u16, may: u16, id: u32| {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(may.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    };
    entry(1, 0o7, UNDEFINED);
    users.iter().for_each(|(id, may)| entry(2, *may, *id));
    entry(4, 0o5, UNDEFINED);
    entry(16, mask, UNDEFINED);
    entry(32, 0, UNDEFINED);
    bytes
}

/// The bytes of a file capability, version 2, effective.
pub fn capability(permitted: u32) -> Vec<u8> {
    [0x0200_0001, permitted, 0, 0, 0].iter().flat_map(|word: &u32| word.to_le_bytes()).collect()
}
