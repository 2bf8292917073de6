//! Handles of directories. A handle knows the way to its directory, name by name, and not a path: so a tree may be
//! deeper than any path may be long. Its descriptor is lent from a pool: a walk may hold thousands of handles
//! while no more than [`OPEN_MAX`] descriptors are open; a closed one is opened again on need, and must then be
//! the same directory.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustix::fs::{AtFlags, Mode, OFlags, Statx, StatxFlags};
use rustix::io::Errno;

use crate::format::tree::Metadata;

use super::listing::Listing;
use super::{explain_opening, replaced};

/// Descriptors of directories that a pool keeps open: far below the usual limit of 1024 a process, which files,
/// sockets and the embedding program share.
pub const OPEN_MAX: usize = 128;

/// Of a way that has to be opened again, as many of its last directories are kept open. A walk that climbs out of
/// a deep tree needs them next; without, each step up would go the whole way again.
const REOPENED_KEPT: usize = OPEN_MAX / 2;

/// What tells one thing from another as long as it exists: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    pub device: u64,
    pub inode: u64,
}

impl Identity {
    /// Of an entry that was looked at.
    pub fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.device, inode: metadata.inode }
    }

    pub(super) fn of_statx(found: &Statx) -> Self {
        Self { device: rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor), inode: found.stx_ino }
    }
}

/// What a directory is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Its names will be read.
    List,
    /// Only what is below it is wanted: permission to search it is enough.
    Pass,
}

/// Whether a name may be a symbolic link to the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    Refuse,
    /// Only for names that the user wrote.
    Follow,
}

/// The open descriptors of all handles of one walk.
#[derive(Debug, Default)]
pub struct Pool {
    slots: Mutex<Slots>,
    handles: AtomicU64,
}

#[derive(Debug, Default)]
struct Slots {
    slots: Vec<Slot>,
    clock: u64,
}

#[derive(Debug)]
struct Slot {
    /// The handle's number; 0 is nobody's.
    owner: u64,
    used: u64,
    descriptor: Option<Arc<OwnedFd>>,
}

impl Pool {
    fn get(&self, owner: u64, position: usize) -> Option<Arc<OwnedFd>> {
        let mut slots = self.slots.lock().expect("no holder of this lock can panic");
        slots.clock += 1;
        let now = slots.clock;
        let slot = slots.slots.get_mut(position).filter(|slot| slot.owner == owner)?;
        slot.used = now;
        slot.descriptor.clone()
    }

    /// Puts a descriptor into the place longest unused, and says which that is.
    fn put(&self, owner: u64, descriptor: Arc<OwnedFd>) -> usize {
        let mut slots = self.slots.lock().expect("no holder of this lock can panic");
        slots.clock += 1;
        let slot = Slot { owner, used: slots.clock, descriptor: Some(descriptor) };
        // Another thread may just have opened the same directory again.
        let mine = slots.slots.iter().position(|slot| slot.owner == owner);
        if mine.is_none() && slots.slots.len() < OPEN_MAX {
            slots.slots.push(slot);
            return slots.slots.len() - 1;
        }
        let oldest =
            || slots.slots.iter().enumerate().min_by_key(|(_, slot)| slot.used).map_or(0, |(oldest, _)| oldest);
        let position = mine.unwrap_or_else(oldest);
        let evicted = std::mem::replace(&mut slots.slots[position], slot);
        drop(slots);
        drop(evicted); // closes it, if nobody is using it: not under the lock
        position
    }

    fn release(&self, owner: u64, position: usize) {
        let mut slots = self.slots.lock().expect("no holder of this lock can panic");
        if let Some(slot) = slots.slots.get_mut(position).filter(|slot| slot.owner == owner) {
            let freed = std::mem::replace(slot, Slot { owner: 0, used: 0, descriptor: None });
            drop(slots);
            drop(freed);
        }
    }

    #[cfg(test)]
    fn open_count(&self) -> usize {
        self.slots.lock().unwrap().slots.iter().filter(|slot| slot.descriptor.is_some()).count()
    }
}

/// A directory that can be looked into, whether its descriptor is open just now or not.
#[derive(Debug)]
pub struct Handle {
    pool: Arc<Pool>,
    number: u64,
    slot: AtomicUsize,
    /// `None`: where a way begins; its descriptor is never closed.
    parent: Option<Arc<Handle>>,
    pinned: Option<Arc<OwnedFd>>,
    /// Below the parent; of a beginning, the path that is shown for it.
    name: CString,
    identity: Identity,
    access: Access,
    links: Links,
    /// Names are read by one thread at a time: an open directory has one position.
    listing: Mutex<()>,
}

impl Handle {
    /// Where ways begin: `/`, or the current directory, as it is now.
    pub fn beginning(pool: &Arc<Pool>, path: &CStr, shown: CString) -> io::Result<Arc<Self>> {
        let flags = flags_for(Access::List, Links::Follow);
        let descriptor = match rustix::fs::open(path, flags, Mode::empty()) {
            Err(Errno::ACCESS) => rustix::fs::open(path, flags_for(Access::Pass, Links::Follow), Mode::empty()),
            result => result,
        }?;
        let identity = identity(&descriptor)?;
        let mut handle = Self::unopened(pool, shown, identity, Access::List, Links::Follow);
        handle.pinned = Some(Arc::new(descriptor));
        Ok(Arc::new(handle))
    }

    fn unopened(pool: &Arc<Pool>, name: CString, identity: Identity, access: Access, links: Links) -> Self {
        Self {
            pool: pool.clone(),
            number: pool.handles.fetch_add(1, Ordering::Relaxed) + 1,
            slot: AtomicUsize::new(usize::MAX),
            parent: None,
            pinned: None,
            name,
            identity,
            access,
            links,
            listing: Mutex::new(()),
        }
    }

    /// The directory `name` below this one; it must be the one that `expected` says, if that says anything.
    pub fn child(
        self: &Arc<Self>,
        name: &CStr,
        expected: Option<Identity>,
        access: Access,
        links: Links,
    ) -> io::Result<Arc<Self>> {
        let descriptor = open(&*self.descriptor()?, name, access, links)?;
        let found = identity(&descriptor)?;
        if expected.is_some_and(|expected| expected != found) {
            return Err(replaced());
        }
        let mut handle = Self::unopened(&self.pool, name.to_owned(), found, access, links);
        handle.parent = Some(self.clone());
        handle.keep(Arc::new(descriptor));
        Ok(Arc::new(handle))
    }

    /// The directory's descriptor, opened again if it had to be closed. It stays open while the caller holds it,
    /// so hold it for a call or two and not for the time of a walk.
    pub fn descriptor(&self) -> io::Result<Arc<OwnedFd>> {
        if let Some(descriptor) = self.open_descriptor() {
            return Ok(descriptor);
        }
        // Up to the nearest that is open, then down again. A loop, no recursion: ways are thousands of names long.
        let mut closed = vec![self];
        let mut descriptor = loop {
            let last = closed.last().expect("begins with this handle and only grows");
            let parent = last.parent.as_deref().expect("a handle without parent is pinned open");
            match parent.open_descriptor() {
                Some(descriptor) => break descriptor,
                None => closed.push(parent),
            }
        };
        while let Some(handle) = closed.pop() {
            let opened = Arc::new(open(&descriptor, &handle.name, handle.access, handle.links)?);
            if identity(&opened)? != handle.identity {
                return Err(replaced());
            }
            if closed.len() < REOPENED_KEPT {
                handle.keep(opened.clone());
            }
            descriptor = opened;
        }
        Ok(descriptor)
    }

    fn open_descriptor(&self) -> Option<Arc<OwnedFd>> {
        match &self.pinned {
            Some(descriptor) => Some(descriptor.clone()),
            None => self.pool.get(self.number, self.slot.load(Ordering::Relaxed)),
        }
    }

    fn keep(&self, descriptor: Arc<OwnedFd>) {
        let slot = self.pool.put(self.number, descriptor);
        self.slot.store(slot, Ordering::Relaxed);
    }

    /// The directory's names. Needs [`Access::List`].
    pub fn list(&self) -> io::Result<Listing> {
        let descriptor = self.descriptor()?;
        let _one_at_a_time = self.listing.lock().expect("no holder of this lock can panic");
        Listing::read(descriptor.as_fd()).map_err(|error| match Errno::from_io_error(&error) {
            // A beginning that may only be passed through.
            Some(Errno::BADF) => Errno::ACCESS.into(),
            _ => error,
        })
    }

    /// What tells this directory from any other.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The way here as a path, for messages: it may be longer than the system takes.
    pub fn path(&self) -> Vec<u8> {
        let mut names = vec![self.name.to_bytes()];
        let mut at = self;
        while let Some(parent) = at.parent.as_deref() {
            names.push(parent.name.to_bytes());
            at = parent;
        }
        let mut path = Vec::new();
        for name in names.into_iter().rev() {
            if !path.is_empty() && !path.ends_with(b"/") {
                path.push(b'/');
            }
            path.extend_from_slice(name);
        }
        path
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.pool.release(self.number, *self.slot.get_mut());
        // One after the other: left to themselves, a way of thousands of handles would drop by recursion.
        let mut parent = self.parent.take();
        while let Some(handle) = parent {
            parent = Arc::into_inner(handle).and_then(|mut handle| handle.parent.take());
        }
    }
}

fn flags_for(access: Access, links: Links) -> OFlags {
    let mut flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    match access {
        Access::List => flags |= OFlags::RDONLY | OFlags::NONBLOCK,
        Access::Pass => flags |= OFlags::PATH,
    }
    if links == Links::Refuse {
        flags |= OFlags::NOFOLLOW;
    }
    flags
}

fn open(directory: &OwnedFd, name: &CStr, access: Access, links: Links) -> io::Result<OwnedFd> {
    let flags = flags_for(access, links);
    // Without touching the access time where this user may; a followed link's own is beyond reach anyway.
    let quiet = if access == Access::List { OFlags::NOATIME } else { OFlags::empty() };
    match rustix::fs::openat(directory, name, flags | quiet, Mode::empty()) {
        Err(Errno::PERM) if !quiet.is_empty() => rustix::fs::openat(directory, name, flags, Mode::empty()),
        result => result,
    }
    .map_err(|error| if links == Links::Refuse { explain_opening(error) } else { error.into() })
}

fn identity(descriptor: &OwnedFd) -> io::Result<Identity> {
    Ok(Identity::of_statx(&rustix::fs::statx(descriptor, c"", AtFlags::EMPTY_PATH, StatxFlags::INO)?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    fn beginning(pool: &Arc<Pool>, path: &std::path::Path) -> Arc<Handle> {
        let path = CString::new(path.as_os_str().as_bytes()).unwrap();
        Handle::beginning(pool, &path, path.clone()).unwrap()
    }

    fn down(handle: &Arc<Handle>, name: &CStr) -> Arc<Handle> {
        handle.child(name, None, Access::List, Links::Refuse).unwrap()
    }

    /// A chain deep enough to need several pools, held whole as a depth-first walk holds it.
    fn chain(top: &Arc<Handle>, depth: usize) -> Vec<Arc<Handle>> {
        let mut handles = vec![top.clone()];
        for _ in 0..depth {
            let last = handles.last().unwrap();
            rustix::fs::mkdirat(&*last.descriptor().unwrap(), c"d", Mode::RWXU).unwrap();
            handles.push(down(last, c"d"));
        }
        handles
    }

    #[test]
    fn more_handles_than_descriptors_all_still_lead_to_their_own_directory() {
        let scratch = tempfile::tempdir().unwrap();
        let pool = Arc::new(Pool::default());
        let handles = chain(&beginning(&pool, scratch.path()), 3 * OPEN_MAX);
        assert_eq!(pool.open_count(), OPEN_MAX);
        for handle in handles.iter().rev().chain(&handles) {
            assert_eq!(identity(&handle.descriptor().unwrap()).unwrap(), handle.identity());
            assert!(pool.open_count() <= OPEN_MAX);
        }
        drop(handles);
        assert_eq!(pool.open_count(), 0, "a dropped handle gives its descriptor back");
    }

    #[test]
    fn a_closed_directory_that_was_replaced_is_not_mistaken_for_the_old_one() {
        let scratch = tempfile::tempdir().unwrap();
        let pool = Arc::new(Pool::default());
        let top = beginning(&pool, scratch.path());
        let handles = chain(&top, 2);
        let handle = handles[1].clone();
        let others: Vec<_> = (0..OPEN_MAX).map(|_| down(&handles[0], c"d")).collect();
        assert!(handle.open_descriptor().is_none(), "closed in favour of the others");
        drop(others);
        std::fs::rename(scratch.path().join("d"), scratch.path().join("away")).unwrap();
        assert!(handle.descriptor().is_err());
        std::fs::create_dir(scratch.path().join("d")).unwrap();
        assert!(handle.descriptor().is_err());
        std::fs::remove_dir(scratch.path().join("d")).unwrap();
        std::os::unix::fs::symlink("away", scratch.path().join("d")).unwrap();
        assert!(handle.descriptor().is_err(), "the same directory, but behind a link");
        std::fs::remove_file(scratch.path().join("d")).unwrap();
        std::fs::rename(scratch.path().join("away"), scratch.path().join("d")).unwrap();
        assert!(handle.descriptor().is_ok());
    }

    #[test]
    fn links_are_followed_only_where_that_is_asked_for() {
        let scratch = tempfile::tempdir().unwrap();
        let pool = Arc::new(Pool::default());
        std::fs::create_dir(scratch.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", scratch.path().join("link")).unwrap();
        let top = beginning(&pool, scratch.path());
        assert!(top.child(c"link", None, Access::List, Links::Refuse).is_err());
        let followed = top.child(c"link", None, Access::Pass, Links::Follow).unwrap();
        assert_eq!(followed.identity(), down(&top, c"real").identity());
    }

    #[test]
    fn a_path_is_the_names_on_the_way() {
        let scratch = tempfile::tempdir().unwrap();
        let pool = Arc::new(Pool::default());
        let handles = chain(&beginning(&pool, scratch.path()), 2);
        let expected = [scratch.path().as_os_str().as_bytes(), b"/d/d"].concat();
        assert_eq!(handles[2].path(), expected);
    }
}
