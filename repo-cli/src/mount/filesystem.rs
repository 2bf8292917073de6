//! The kernel's questions, each asked of the library and answered. Nothing is decided here but how long an answer holds:
//! what is in a snapshot never changes.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fuser::{
    AccessFlags, Errno, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, IoctlFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyXattr, Request,
};
use repo_core::{Browser, Content, Error, Item, ItemKind, NodeKind, system};

use super::attributes::{Owners, attributes, file_type};
use super::directory::OpenDirectory;
use super::read_ahead::ReadAhead;
use super::{Look, Problem};

/// How long the kernel may believe what it was told of a snapshot's entries.
const FOREVER: Duration = Duration::from_secs(30 * 24 * 3600);
/// The same of what may change.
const SOON: Duration = Duration::from_secs(1);
/// The list of snapshots is not asked for more often.
const LIST_EVERY: Duration = Duration::from_secs(3);
/// Things whose damage was told; more are told again.
const TOLD_MAX: usize = 10_000;
/// The kernel refuses a directory with a longer name in it (FUSE_NAME_MAX).
const NAME_BYTES_MAX: usize = 1024;
/// Size of a block where the kernel counts in blocks.
const BLOCK_BYTES: u32 = 4096;
/// lseek(2).
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;
/// ioctl_iflags(2), on machines of 64 and of 32 bits.
const FS_IOC_GETFLAGS: [u32; 2] = [0x8008_6601, 0x8004_6601];

/// Names and values.
type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// All snapshots, as the kernel asks for them.
#[derive(Debug)]
pub struct Snapshots {
    browser: Arc<Browser>,
    look: Look,
    owners: Owners,
    problems: SyncSender<Problem>,
    told: Mutex<HashSet<u64>>,
    listed: Mutex<Instant>,
    /// Of the list of snapshots, so that the same is not told every few seconds.
    list_problems: Mutex<HashSet<String>>,
    directories: Mutex<HashMap<u64, Arc<Mutex<OpenDirectory>>>>,
    next_handle: AtomicU64,
    ahead: ReadAhead,
    /// The kernel need not ask whether a file may be opened.
    needs_no_open: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Snapshots {
    pub fn new(browser: Arc<Browser>, look: Look, problems: SyncSender<Problem>) -> Self {
        let user = system::current_user();
        Self {
            ahead: ReadAhead::start(&browser),
            browser,
            look,
            owners: Owners { own: (user.uid, user.gid), all_root: look.owned_by_root },
            problems,
            told: Mutex::default(),
            // What cannot be shown is told at the first look.
            listed: Mutex::new(Instant::now().checked_sub(LIST_EVERY).unwrap_or_else(Instant::now)),
            list_problems: Mutex::default(),
            directories: Mutex::default(),
            next_handle: AtomicU64::new(1),
            needs_no_open: false,
        }
    }

    fn item(&self, number: INodeNo) -> Result<Item, Errno> {
        match self.browser.item(number.0) {
            Ok(Some(item)) => Ok(item),
            Ok(None) => Err(Errno::ESTALE),
            Err(error) => Err(self.failed(number.0, || format!("#{}", number.0).into_bytes(), &error)),
        }
    }

    /// An item in whose directory snapshots may come and go.
    fn is_above_snapshots(item: &Item) -> bool {
        matches!(item.kind(), ItemKind::Directory { .. } | ItemKind::Latest { .. })
    }

    /// How long what was said of it holds.
    fn holds(item: &Item) -> Duration {
        if let ItemKind::Entry(_) = item.kind() { FOREVER } else { SOON }
    }

    /// Asks for the list of snapshots if it is old. If that fails, what was there is shown still.
    fn list_again(&self) {
        let mut listed = lock(&self.listed);
        if listed.elapsed() < LIST_EVERY {
            return;
        }
        let problems = match self.browser.refresh() {
            Ok(unreadable) => unreadable,
            Err(error) => vec![error],
        };
        // From its end: a slow place is not asked without a pause.
        *listed = Instant::now();
        drop(listed);
        let problems: HashSet<String> = problems.iter().map(ToString::to_string).collect();
        let mut known = lock(&self.list_problems);
        for message in problems.difference(&known) {
            self.problems.try_send(Problem { path: b"/".to_vec(), message: message.clone() }).ok();
        }
        *known = problems;
    }

    /// Tells once of each thing what is wrong with it; gives the kernel's word for it.
    fn failed(&self, number: u64, path: impl FnOnce() -> Vec<u8>, error: &Error) -> Errno {
        let mut told = lock(&self.told);
        if told.len() >= TOLD_MAX {
            told.clear();
        }
        if told.insert(number) {
            let message = match error {
                // Its path stands before it anyway.
                Error::Path { problem, .. } => (*problem).to_owned(),
                error => error.to_string(),
            };
            self.problems.try_send(Problem { path: path(), message }).ok();
        }
        Errno::EIO
    }

    fn failed_at(&self, item: &Item, error: &Error) -> Errno {
        self.failed(item.number(), || self.browser.path(item), error)
    }

    fn find(&self, directory: INodeNo, name: &OsStr) -> Result<Item, Errno> {
        let directory = self.item(directory)?;
        if file_type(&directory) != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        if Self::is_above_snapshots(&directory) {
            self.list_again();
        }
        match self.browser.find(&directory, name.as_encoded_bytes()) {
            Ok(found) => found.ok_or(Errno::ENOENT),
            Err(error) => Err(self.failed_at(&directory, &error)),
        }
    }

    /// The places of a directory's entries from `offset` on, each with the offset of the one behind it, until `add` says
    /// that no more fit. The first two are the directory and the one above.
    fn each_entry(
        &self,
        handle: FileHandle,
        offset: u64,
        mut add: impl FnMut(u64, &OsStr, &Item) -> bool,
    ) -> Result<(), Errno> {
        let open = lock(&self.directories).get(&handle.0).cloned().ok_or(Errno::EBADF)?;
        let mut open = lock(&open);
        let mut place = offset;
        loop {
            let full = match place {
                0 => add(1, OsStr::new("."), &open.directory),
                1 => {
                    let above = self.item(INodeNo(open.directory.above())).unwrap_or_else(|_| open.directory.clone());
                    add(2, OsStr::new(".."), &above)
                }
                _ => match open.at(&self.browser, place - 2) {
                    Ok(None) => true,
                    Ok(Some(item)) if item.name().len() > NAME_BYTES_MAX => {
                        let problem = Error::Path { path: "".into(), problem: "has a name too long for a mount" };
                        self.failed_at(item, &problem);
                        false
                    }
                    Ok(Some(item)) => {
                        let name = system::path_from_bytes(item.name().to_vec());
                        add(place + 1, name.as_os_str(), item)
                    }
                    Err(error) => return Err(self.failed_at(&open.directory, &error)),
                },
            };
            for (name, problem) in open.take_left_out() {
                let path = [self.browser.path(&open.directory).as_slice(), b"/", &name].concat();
                self.problems.try_send(Problem { path, message: problem.to_owned() }).ok();
            }
            if full {
                return Ok(());
            }
            place += 1;
        }
    }

    fn xattrs(&self, number: INodeNo) -> Result<Xattrs, Errno> {
        let item = self.item(number)?;
        self.browser.xattrs(&item).map_err(|error| self.failed_at(&item, &error))
    }

    fn seek(&self, number: INodeNo, offset: i64, whence: i32) -> Result<i64, Errno> {
        let item = self.item(number)?;
        let offset = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
        let found = match whence {
            SEEK_DATA => self.browser.next_data(&item, offset),
            SEEK_HOLE => self.browser.next_hole(&item, offset),
            _ => return Err(Errno::EINVAL),
        };
        let found = found.map_err(|error| self.failed_at(&item, &error))?.ok_or(Errno::ENXIO)?;
        i64::try_from(found).map_err(|_| Errno::EOVERFLOW)
    }
}

/// Gives a value, or how long it is to whom asks with no room for it.
fn give(reply: ReplyXattr, size: u32, value: &[u8]) {
    match u32::try_from(value.len()) {
        Ok(length) if size == 0 => reply.size(length),
        Ok(length) if length <= size => reply.data(value),
        _ => reply.error(Errno::ERANGE),
    }
}

impl Filesystem for Snapshots {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        self.needs_no_open = config.capabilities().contains(InitFlags::FUSE_NO_OPEN_SUPPORT);
        let wanted = [
            // Names and attributes in one answer, where they are asked for.
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_CACHE_SYMLINKS,
        ];
        for flag in wanted {
            config.add_capabilities(flag).ok();
        }
        if self.look.by_permissions && config.add_capabilities(InitFlags::FUSE_POSIX_ACL).is_err() {
            // Group bits of a file with an ACL are its mask: without the ACL they would let in whom it keeps out.
            return Err(io::Error::other(
                "this kernel does not check access control lists; use --no-default-permissions",
            ));
        }
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.find(parent, name) {
            Ok(item) => {
                self.browser.remember(&item);
                reply.entry(&Self::holds(&item), &attributes(&self.browser, &item, self.owners), Generation(0));
            }
            Err(error) => reply.error(error),
        }
    }

    fn forget(&self, _request: &Request, number: INodeNo, times: u64) {
        self.browser.forget(number.0, times);
    }

    fn getattr(&self, _request: &Request, number: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.item(number) {
            Ok(item) => reply.attr(&Self::holds(&item), &attributes(&self.browser, &item, self.owners)),
            Err(error) => reply.error(error),
        }
    }

    fn readlink(&self, _request: &Request, number: INodeNo, reply: ReplyData) {
        match self.item(number) {
            Ok(item) => match item.kind() {
                ItemKind::Latest { target, .. } => reply.data(target),
                ItemKind::Entry(node) => match &node.content {
                    Content::Symlink(target) => reply.data(target),
                    _ => reply.error(Errno::EINVAL),
                },
                _ => reply.error(Errno::EINVAL),
            },
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _request: &Request, _number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        // Nothing is kept for an open file; said so once, the kernel asks no more, and keeps what it has read.
        match self.needs_no_open {
            true => reply.error(Errno::ENOSYS),
            false => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE),
        }
    }

    fn flush(&self, _request: &Request, _number: INodeNo, _handle: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn access(&self, _request: &Request, _number: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let item = match self.item(number) {
            Ok(item) => item,
            Err(error) => return reply.error(error),
        };
        // All or nothing: the kernel takes less than it asked for as the end of the file, and fills up with zeros.
        match self.browser.read(&item, offset, size as usize) {
            Ok(bytes) => {
                reply.data(&bytes);
                self.ahead.note(&item, offset, bytes.len() as u64);
            }
            Err(error) => reply.error(self.failed_at(&item, &error)),
        }
    }

    fn lseek(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        match self.seek(number, offset, whence) {
            Ok(offset) => reply.offset(offset),
            Err(error) => reply.error(error),
        }
    }

    fn opendir(&self, _request: &Request, number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let item = match self.item(number) {
            Ok(item) if file_type(&item) == FileType::Directory => item,
            Ok(_) => return reply.error(Errno::ENOTDIR),
            Err(error) => return reply.error(error),
        };
        if Self::is_above_snapshots(&item) {
            self.list_again();
        }
        let handle = self.next_handle.fetch_add(1, Ordering::Relaxed);
        lock(&self.directories).insert(handle, Arc::new(Mutex::new(OpenDirectory::new(item))));
        reply.opened(FileHandle(handle), FopenFlags::empty());
    }

    fn readdir(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let add = |next: u64, name: &OsStr, item: &Item| reply.add(INodeNo(item.number()), next, file_type(item), name);
        match self.each_entry(handle, offset, add) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn readdirplus(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let mut given = Vec::new();
        let add = |next: u64, name: &OsStr, item: &Item| {
            let attributes = attributes(&self.browser, item, self.owners);
            let full = reply.add(attributes.ino, next, name, &Self::holds(item), &attributes, Generation(0));
            // The kernel counts what it was given, but for the directory itself and the one above.
            if !full && next > 2 {
                self.browser.remember(item);
                given.push(item.number());
            }
            full
        };
        match self.each_entry(handle, offset, add) {
            Ok(()) => reply.ok(),
            Err(error) => {
                given.into_iter().for_each(|number| self.browser.forget(number, 1));
                reply.error(error);
            }
        }
    }

    fn releasedir(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        lock(&self.directories).remove(&handle.0);
        reply.ok();
    }

    fn statfs(&self, _request: &Request, _number: INodeNo, reply: ReplyStatfs) {
        let (entries, bytes) = self.browser.totals();
        reply.statfs(bytes.div_ceil(BLOCK_BYTES.into()), 0, 0, entries, 0, BLOCK_BYTES, 255, BLOCK_BYTES);
    }

    fn getxattr(&self, _request: &Request, number: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        match self.xattrs(number) {
            Ok(xattrs) => match xattrs.iter().find(|(known, _)| known == name.as_encoded_bytes()) {
                Some((_, value)) => give(reply, size, value),
                None => reply.error(Errno::ENODATA),
            },
            Err(error) => reply.error(error),
        }
    }

    fn listxattr(&self, _request: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        match self.xattrs(number) {
            Ok(xattrs) => {
                let names: Vec<u8> = xattrs.iter().flat_map(|(name, _)| [name.as_slice(), b"\0"].concat()).collect();
                give(reply, size, &names);
            }
            Err(error) => reply.error(error),
        }
    }

    /// The flags that lsattr(1) shows.
    fn ioctl(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        _flags: IoctlFlags,
        command: u32,
        _input: &[u8],
        _output_length: u32,
        reply: ReplyIoctl,
    ) {
        match self.item(number) {
            Ok(item) => match item.kind() {
                ItemKind::Entry(node)
                    if FS_IOC_GETFLAGS.contains(&command)
                        && matches!(node.metadata.kind, NodeKind::File | NodeKind::Directory) =>
                {
                    reply.ioctl(0, &node.metadata.flags.to_ne_bytes());
                }
                _ => reply.error(Errno::ENOTTY),
            },
            Err(error) => reply.error(error),
        }
    }
}
