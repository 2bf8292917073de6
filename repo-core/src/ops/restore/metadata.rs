//! Owner, mode, extended attributes, times and inode flags, in the one order in which each survives the next.
//!
//! A change of owner clears setuid and capabilities, so it comes first; writing attributes changes ctime only, but an
//! ACL changes the mode's group bits to what was recorded with them; nothing may follow the times but the flags, and
//! nothing at all may follow a flag that makes the entry immutable.

use std::io;
use std::path::Path;

use super::aside;
use super::plan::Folder;
use super::{Lack, Owner, RestoreOptions, Run, add, local};
use crate::error::{Error, Result};
use crate::format::tree::{Node, NodeKind, Xattrs, decode_xattrs};
use crate::id::ChunkKind;
use crate::pipeline::lock;
use crate::platform::target::{self, Attributes, Directory, Identity, PROTECTING_FLAGS, Status};
use crate::walk::filter::Patterns;

/// The attribute by which a directory gives an ACL to what is made in it.
pub(super) const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

/// One entry of the target, and what it is to become.
pub(super) struct Subject<'a> {
    pub path: &'a [u8],
    pub node: &'a Node,
    pub attributes: Attributes<'a>,
    /// As it was before.
    pub now: Status,
    /// It may have attributes or flags that the snapshot has not.
    pub exact: bool,
    /// Its content is whole.
    pub complete: bool,
}

/// What is set at the very end, because it would keep the restore itself out: flags that forbid further hard links,
/// and modes of directories that their owner cannot enter.
#[derive(Debug)]
pub(super) struct Late {
    path: Vec<u8>,
    identity: Identity,
    mode: Option<u32>,
    flags: Option<u32>,
}

/// Sets everything. What this user or file system cannot do is noted, once for the entry in the count of problems.
pub(super) fn apply(run: &Run<'_>, subject: &Subject<'_>) -> Result<()> {
    let mut lacking = false;
    let strip = set_owner(run, subject, &mut lacking);
    if subject.node.metadata.kind != NodeKind::Symlink {
        set_mode(run, subject, strip, &mut lacking)?;
    }
    if !run.options.no_xattrs {
        set_xattrs(run, subject, &mut lacking)?;
    }
    if subject.complete {
        let metadata = &subject.node.metadata;
        subject
            .attributes
            .set_times(metadata.modified, metadata.accessed)
            .map_err(local(subject.path, "setting times"))?;
    }
    set_flags(run, subject, &mut lacking);
    add(&run.counters.problems, u64::from(lacking));
    Ok(())
}

/// Sets the metadata of a directory whose content is done.
pub(super) fn finish_folder(run: &Run<'_>, folder: &Folder) -> Result<()> {
    let record = &folder.record;
    let (Some(directory), Some(node), true) = (&folder.directory, &record.node, run.writes()) else { return Ok(()) };
    if record.keep_metadata {
        return Ok(());
    }
    let now = directory.own_status().map_err(local(&record.path, "looking at the directory"))?;
    let attributes = directory.attributes();
    apply(run, &Subject { path: &record.path, node, attributes, now, exact: record.exact, complete: true })
}

/// Sets owner and group where they differ. Returns the mode bits that must not be set, since they would lend the
/// rights of another owner than the one they were meant for.
fn set_owner(run: &Run<'_>, subject: &Subject<'_>, lacking: &mut bool) -> u32 {
    let metadata = &subject.node.metadata;
    let by_name = |name: &[u8], find: &dyn Fn(&str) -> Option<u32>| {
        let name = std::str::from_utf8(name).ok().filter(|name| run.options.ownership_by_name && !name.is_empty())?;
        find(name)
    };
    let uid = mapped(&run.options.map_users, metadata.uid, &metadata.user)
        .or_else(|| by_name(&metadata.user, &|name| run.names.user_id(name)))
        .unwrap_or(metadata.uid);
    let gid = mapped(&run.options.map_groups, metadata.gid, &metadata.group)
        .or_else(|| by_name(&metadata.group, &|name| run.names.group_id(name)))
        .unwrap_or(metadata.gid);
    let new_uid = (subject.now.uid != uid).then_some(uid);
    let new_gid = (subject.now.gid != gid).then_some(gid);
    let (mut uid_is_set, mut gid_is_set) = (new_uid.is_none(), new_gid.is_none());
    if !run.options.no_ownership && (new_uid.is_some() || new_gid.is_some()) {
        match subject.attributes.set_owner(new_uid, new_gid) {
            Ok(()) => (uid_is_set, gid_is_set) = (true, true),
            Err(error) => {
                // A group of one's own may be given also where the owner may not.
                gid_is_set |= new_uid.is_some() && subject.attributes.set_owner(None, new_gid).is_ok();
                run.lack(subject.path, Lack::Owner, &error);
                *lacking = true;
            }
        }
    }
    (if uid_is_set { 0 } else { 0o4000 }) | (if gid_is_set { 0 } else { 0o2000 })
}

/// Whom the first pair that names this owner gives its things to.
fn mapped(pairs: &[(Owner, u32)], id: u32, name: &[u8]) -> Option<u32> {
    let names = |(from, _): &&(Owner, u32)| match from {
        Owner::Id(number) => *number == id,
        Owner::Name(known) => !known.is_empty() && known == name,
    };
    pairs.iter().find(names).map(|(_, to)| *to)
}

fn set_mode(run: &Run<'_>, subject: &Subject<'_>, strip: u32, lacking: &mut bool) -> Result<()> {
    let metadata = &subject.node.metadata;
    let is_directory = metadata.kind == NodeKind::Directory;
    // The group bit of a directory runs nothing; it is kept whoever owns it.
    let wanted = metadata.mode & 0o7777 & !if is_directory { 0 } else { strip };
    let mut mode = wanted;
    if is_directory && !run.is_root && wanted & 0o100 == 0 {
        mode |= 0o100;
        push_late(run, subject, Some(wanted), None);
    }
    // A change of owner may just have cleared some bits, so comparing with what was before is not enough.
    let result = subject.attributes.set_mode(mode);
    let result = result.and_then(|()| {
        // The kernel drops the setgid bit of others' groups without a word.
        if mode & 0o7000 != 0 && subject.attributes.mode()? != mode {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(())
    });
    match result {
        Err(error) if error.kind() != io::ErrorKind::PermissionDenied => {
            Err(local(subject.path, "setting the mode")(error))
        }
        Err(error) => {
            run.lack(subject.path, Lack::Mode, &error);
            *lacking = true;
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

fn set_xattrs(run: &Run<'_>, subject: &Subject<'_>, lacking: &mut bool) -> Result<()> {
    let decoded;
    let wanted = match &subject.node.xattrs {
        Xattrs::Inline(xattrs) => xattrs,
        Xattrs::Chunk(id) => {
            let bytes = run.store.get(ChunkKind::Xattr, id)?;
            decoded = decode_xattrs(&bytes).map_err(|problem| run.store.corrupt(ChunkKind::Xattr, id, problem))?;
            &decoded
        }
    };
    let attributes = &subject.attributes;
    let mut note = |name: &[u8], error: &io::Error| {
        let kind = if name.starts_with(b"user.") { Lack::Xattr } else { Lack::SystemXattr };
        run.lack(subject.path, kind, error);
        *lacking = true;
    };
    if subject.exact {
        for name in attributes.xattr_names().map_err(local(subject.path, "listing extended attributes"))? {
            if is_restored(&name)
                && is_chosen(run.options, &name)
                && !wanted.iter().any(|(wanted, _)| *wanted == name)
                && let Err(error) = attributes.remove_xattr(&name)
            {
                note(&name, &error);
            }
        }
    }
    for (name, value) in wanted.iter().filter(|(name, _)| is_chosen(run.options, name)) {
        let has = subject.exact && attributes.xattr(name).is_ok_and(|there| there.as_ref() == Some(value));
        if !has && let Err(error) = attributes.set_xattr(name, value) {
            note(name, &error);
        }
    }
    Ok(())
}

/// Whether the attribute is to become as in the snapshot; the others are not looked at.
fn is_chosen(options: &RestoreOptions, name: &[u8]) -> bool {
    // A name is matched like that of an entry at the top.
    let matches = |patterns: &Patterns| patterns.matches(&[b"/", name].concat());
    match options.include_xattrs.is_empty() {
        true => options.exclude_xattrs.is_empty() || !matches(&options.exclude_xattrs),
        false => matches(&options.include_xattrs),
    }
}

/// Whether an attribute that the snapshot has not is to go: not those that the system gives by itself (labels).
fn is_restored(name: &[u8]) -> bool {
    [&b"user."[..], b"trusted.", b"system.posix_acl_"].iter().any(|prefix| name.starts_with(prefix))
        || name == b"security.capability"
}

fn set_flags(run: &Run<'_>, subject: &Subject<'_>, lacking: &mut bool) {
    let metadata = &subject.node.metadata;
    let openable = matches!(metadata.kind, NodeKind::File | NodeKind::Directory);
    if !openable || metadata.flags == 0 && !subject.exact {
        return;
    }
    let mut flags = metadata.flags;
    // They forbid further names as well as another one.
    let is_named_later = metadata.links > 1 || aside::is_for(run, subject.node);
    if metadata.kind == NodeKind::File && is_named_later && flags & PROTECTING_FLAGS != 0 {
        push_late(run, subject, None, Some(flags));
        flags &= !PROTECTING_FLAGS;
    }
    match subject.attributes.flags() {
        Ok(None) if flags == 0 => return,
        Ok(Some(now)) if now == flags => return,
        _ => {}
    }
    if let Err(error) = subject.attributes.set_flags(flags) {
        run.lack(subject.path, Lack::Flags, &error);
        *lacking = true;
    }
}

fn push_late(run: &Run<'_>, subject: &Subject<'_>, mode: Option<u32>, flags: Option<u32>) {
    let late = Late { path: subject.path.to_vec(), identity: subject.now.identity, mode, flags };
    lock(&run.late).push(late);
}

/// Sets what had to wait for the end, the deepest first: a directory that cannot be entered closes all below.
pub(super) fn set_late(run: &Run<'_>, target: &Path) -> Result<()> {
    let mut late = std::mem::take(&mut *lock(&run.late));
    if late.is_empty() {
        return Ok(());
    }
    late.sort_by_key(|late| std::cmp::Reverse(late.path.iter().filter(|byte| **byte == b'/').count()));
    let opening = |source| Error::Local { path: target.to_owned(), what: "opening the target", source };
    let Some(top) = target::open_target(target, false).map_err(opening)? else { return Ok(()) };
    for late in &late {
        run.check_cancelled()?;
        if let Err(error) = set_one_late(&top, late) {
            let kind = if late.flags.is_some() { Lack::Flags } else { Lack::Mode };
            run.lack(&late.path, kind, &error);
            add(&run.counters.problems, 1);
        }
    }
    Ok(())
}

fn set_one_late(top: &Directory, late: &Late) -> io::Result<()> {
    let split = late.path.iter().rposition(|byte| *byte == b'/').unwrap_or_default();
    let parent = top.open_below(&late.path[..split])?;
    let name = late.path.get(split + 1..).unwrap_or_default();
    let replaced = || io::Error::other("was replaced meanwhile");
    let status = parent.status(name)?.filter(|status| status.identity == late.identity).ok_or_else(replaced)?;
    let set = |attributes: Attributes<'_>| -> io::Result<()> {
        late.mode.map_or(Ok(()), |mode| attributes.set_mode(mode))?;
        late.flags.map_or(Ok(()), |flags| attributes.set_flags(flags))
    };
    if late.mode.is_some() {
        let pinned = parent.pin(name)?;
        return if pinned.status()?.identity == late.identity { set(pinned.attributes()) } else { Err(replaced()) };
    }
    // Several names are no danger here: this restore made this inode.
    set(parent.open_file(name, &status, false)?.0.attributes())
}
