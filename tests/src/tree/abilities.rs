//! What this file system and this user can do, found out by trying. A tree is planned within it,
//! and a test that needs more says so through `privilege`, where a required thing must not be skipped.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Gid, IFlags, Mode, SeekFrom, Uid, XattrFlags};

use super::grow;

/// What can be made in one directory of this machine by this user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abilities {
    /// Effective uid and gid: all that the unprivileged may give.
    pub uid: u32,
    pub gid: u32,
    /// Files may be given away.
    pub owners: bool,
    pub user_xattrs: bool,
    /// Values over 4 KiB: ext4 keeps all of a file's attributes in one block, tmpfs does not.
    pub large_xattrs: bool,
    /// `trusted.*`, on every kind of entry.
    pub trusted_xattrs: bool,
    /// `security.capability`.
    pub capabilities: bool,
    pub acls: bool,
    /// inode flags that this user may set, of those worth trying.
    pub flags: u32,
    pub devices: bool,
    pub sockets: bool,
    pub holes: bool,
    /// Seconds since 1970 that are kept as given, of [`super::DATES`].
    pub dates: Vec<i64>,
}

impl Abilities {
    /// Tries everything in a scratch directory below `place`.
    pub fn of(place: &Path) -> Self {
        let scratch = tempfile::Builder::new().prefix("abilities").tempdir_in(place).expect("a scratch directory");
        let file = scratch.path().join("file");
        File::create(&file).expect("a scratch file");
        let set = |name: &str, value: &[u8]| rustix::fs::lsetxattr(&file, name, value, XattrFlags::empty()).is_ok();
        let mut abilities = Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            owners: false,
            user_xattrs: set("user.probe", b"x"),
            large_xattrs: set("user.large", &vec![7; 20_000]),
            trusted_xattrs: set("trusted.probe", b"x"),
            acls: set("system.posix_acl_access", &super::acl(0o6, &[(1, 0o4)])),
            capabilities: set("security.capability", &super::capability(1 << 10)),
            flags: 0,
            devices: make(scratch.path(), "device", FileType::CharacterDevice).is_ok(),
            sockets: make(scratch.path(), "socket", FileType::Socket).is_ok(),
            holes: keeps_holes(&scratch.path().join("sparse")).unwrap_or(false),
            dates: Vec::new(),
        };
        abilities.dates = super::DATES.into_iter().filter(|date| keeps_date(&file, *date).unwrap_or(false)).collect();
        abilities.flags = super::FLAGS.into_iter().filter(|flag| keeps_flag(&file, *flag).unwrap_or(false)).sum();
        abilities.owners = gives_away(&file).is_ok();
        abilities
    }

    /// What a full test needs and is not here, in words; the names that `ICECORE_TEST_REQUIRED` knows.
    pub fn missing(&self) -> Vec<&'static str> {
        let has = [
            ("owners", self.owners),
            ("xattrs", self.user_xattrs),
            ("large-xattrs", self.large_xattrs),
            ("trusted-xattrs", self.trusted_xattrs),
            ("capabilities", self.capabilities),
            ("acls", self.acls),
            ("flags", self.flags != 0),
            ("immutable", self.flags & IFlags::IMMUTABLE.bits() != 0),
            ("devices", self.devices),
            ("sockets", self.sockets),
            ("holes", self.holes),
            ("dates", self.dates.iter().any(|date| *date < 0) && self.dates.iter().any(|date| *date > 1 << 32)),
        ];
        has.into_iter().filter(|(_, is)| !is).map(|(name, _)| name).collect()
    }
}

fn make(directory: &Path, name: &str, kind: FileType) -> io::Result<()> {
    Ok(rustix::fs::mknodat(CWD, directory.join(name), kind, Mode::RUSR, rustix::fs::makedev(1, 3))?)
}

fn gives_away(file: &Path) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(4242), Gid::from_raw(4243));
    Ok(rustix::fs::chownat(CWD, file, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn keeps_holes(path: &Path) -> io::Result<bool> {
    let file = File::create_new(path)?;
    file.set_len(1 << 20)?;
    Ok(matches!(rustix::fs::seek(&file, SeekFrom::Data(0)), Err(rustix::io::Errno::NXIO)))
}

fn keeps_date(path: &Path, seconds: i64) -> io::Result<bool> {
    grow::set_modified(CWD, path, (seconds, 999_999_999))?;
    let seen = rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, rustix::fs::StatxFlags::MTIME)?.stx_mtime;
    Ok((seen.tv_sec, seen.tv_nsec) == (seconds, 999_999_999))
}

fn keeps_flag(path: &Path, flag: u32) -> io::Result<bool> {
    let file = fs::OpenOptions::new().read(true).open(path)?;
    let before = rustix::fs::ioctl_getflags(&file)?;
    rustix::fs::ioctl_setflags(&file, before | IFlags::from_bits_retain(flag))?;
    let kept = rustix::fs::ioctl_getflags(&file)?.bits() & flag != 0;
    rustix::fs::ioctl_setflags(&file, before)?;
    Ok(kept)
}
