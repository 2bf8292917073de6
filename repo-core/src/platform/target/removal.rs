//! Removing a whole directory from the target, by descriptors: never through a symlink, never into another file system.

use std::io;

use rustix::io::Errno;

use super::{Directory, Identity, NodeKind};

/// Descriptors kept while descending; directories above are opened again from the top when their turn comes.
const OPEN_MAX: usize = 32;

/// What became of one entry.
#[derive(Debug)]
pub enum Removal {
    Removed,
    /// `keep` wanted it, or it holds something that stayed.
    Kept,
    /// Another file system is mounted there.
    Mounted,
    Failed(io::Error),
}

struct Level {
    /// Length of the path of this directory, without a final `/`.
    path_length: usize,
    identity: Identity,
    directory: Option<Directory>,
    /// What is left to descend into.
    directories: Vec<Vec<u8>>,
    /// Something below stays.
    stays: bool,
}

/// Removes the directory `name` of `parent` with all that is in it, except what `keep` wants by its path (`path` is
/// that of the directory itself) and what holds such. `told` hears of everything but what went along unharmed.
/// With `dry` nothing is removed. Returns whether all of it is gone.
pub fn remove_tree(
    parent: &Directory,
    name: &[u8],
    path: &[u8],
    dry: bool,
    keep: &mut dyn FnMut(&[u8]) -> bool,
    told: &mut dyn FnMut(&[u8], Removal),
) -> bool {
    let mut path = path.to_vec();
    let base_length = path.len();
    let top = match parent.status(name).and_then(|status| status.ok_or_else(|| Errno::NOENT.into())) {
        Ok(status) => status.identity,
        Err(error) => {
            told(&path, Removal::Failed(error));
            return false;
        }
    };
    let mut levels: Vec<Level> = Vec::new();
    let mut names: Vec<Vec<u8>> = vec![name.to_vec()];
    match enter(parent, name, top, &mut path, dry, keep, told) {
        Some(level) => levels.push(level),
        None => return false,
    }
    loop {
        let depth = levels.len();
        let level = levels.last_mut().expect("the loop ends when the last level is left");
        path.truncate(level.path_length);
        if let Some(next) = level.directories.pop() {
            let directory = match level.directory.take().map_or_else(|| reopen(parent, &names, level.identity), Ok) {
                Ok(directory) => directory,
                Err(error) => {
                    told(&path, Removal::Failed(error));
                    level.stays = true;
                    level.directories.clear();
                    continue;
                }
            };
            path.push(b'/');
            path.extend_from_slice(&next);
            let entered = enter(&directory, &next, top, &mut path, dry, keep, told);
            if depth < OPEN_MAX {
                level.directory = Some(directory);
            }
            match entered {
                Some(entered) => {
                    levels.push(entered);
                    names.push(next);
                }
                None => level.stays = true,
            }
            continue;
        }
        let left = levels.pop().expect("just looked at");
        let own_name = names.pop().expect("one name a level");
        let removal = if left.stays {
            Removal::Kept
        } else if dry {
            Removal::Removed
        } else {
            let from = match levels.last_mut() {
                None => None,
                Some(above) if above.directory.is_some() => above.directory.take().map(Ok),
                Some(above) => Some(reopen(parent, &names, above.identity)),
            };
            let result = match &from {
                None => parent.remove_directory(&own_name),
                Some(Ok(above)) => above.remove_directory(&own_name),
                Some(Err(error)) => Err(io::Error::new(error.kind(), error.to_string())),
            };
            if let (Some(level), Some(Ok(directory))) = (levels.last_mut(), from) {
                level.directory = Some(directory);
            }
            result.map_or_else(Removal::Failed, |()| Removal::Removed)
        };
        let gone = matches!(removal, Removal::Removed);
        told(&path, removal);
        match levels.last_mut() {
            Some(above) => above.stays |= !gone,
            None => {
                debug_assert_eq!(path.len(), base_length);
                return gone;
            }
        }
    }
}

fn reopen(parent: &Directory, names: &[Vec<u8>], identity: Identity) -> io::Result<Directory> {
    let directory = parent.open_below(&names.join(&b'/'))?;
    if directory.own_status()?.identity != identity {
        return Err(io::Error::other("was replaced meanwhile"));
    }
    Ok(directory)
}

/// Removes what is no directory in a directory and notes the rest. `None`, and told, if it cannot be entered.
fn enter(
    parent: &Directory,
    name: &[u8],
    top: Identity,
    path: &mut Vec<u8>,
    dry: bool,
    keep: &mut dyn FnMut(&[u8]) -> bool,
    told: &mut dyn FnMut(&[u8], Removal),
) -> Option<Level> {
    let opened = open(parent, name, dry).and_then(|directory| {
        let names = directory.names()?;
        Ok((directory.own_status()?.identity, directory, names))
    });
    let (identity, directory, entries) = match opened {
        Ok((identity, ..)) if identity.device != top.device => {
            told(path, Removal::Mounted);
            return None;
        }
        Ok(opened) => opened,
        Err(error) => {
            told(path, Removal::Failed(error));
            return None;
        }
    };
    let mut level = Level { path_length: path.len(), identity, directory: None, directories: Vec::new(), stays: false };
    for entry in entries {
        path.truncate(level.path_length);
        let looked = entry.and_then(|entry| Ok(directory.status(&entry)?.map(|status| (entry, status.kind))));
        let (entry, kind) = match looked {
            Ok(Some(found)) => found,
            Ok(None) => continue,
            Err(error) => {
                told(path, Removal::Failed(error));
                level.stays = true;
                break;
            }
        };
        path.push(b'/');
        path.extend_from_slice(&entry);
        if keep(path) {
            told(path, Removal::Kept);
            level.stays = true;
        } else if kind == NodeKind::Directory {
            level.directories.push(entry);
        } else {
            let removed = if dry { Ok(()) } else { directory.remove(&entry) };
            level.stays |= removed.is_err();
            told(path, removed.map_or_else(Removal::Failed, |()| Removal::Removed));
        }
    }
    path.truncate(level.path_length);
    level.directory = Some(directory);
    Some(level)
}

fn open(parent: &Directory, name: &[u8], dry: bool) -> io::Result<Directory> {
    if dry {
        return parent.open_directory(name);
    }
    let status = parent.status(name)?.ok_or_else(|| io::Error::from(Errno::NOENT))?;
    if status.mode & 0o700 != 0o700 {
        parent.unlock(name, &status)?;
    }
    let directory = parent.open_directory(name)?;
    directory.attributes().remove_protection()?;
    Ok(directory)
}
