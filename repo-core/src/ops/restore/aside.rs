//! Files that are written beside their place and given their name when they are whole, so that nobody sees the half of one.
//! `files` fills them as any other.

use std::io;
use std::path::Path;

use super::files::{self, Opened};
use super::plan::Folder;
use super::{Overwrite, Run, local};
use crate::crypto;
use crate::error::Result;
use crate::format::tree::{Node, NodeKind};
use crate::pipeline::lock;
use crate::platform::target::{self, Directory};

/// Digits drawn by chance, so that what an earlier run left there, or a snapshot has of it, is never met.
const DRAWN_BYTES: usize = 12;

/// Whether an entry is restored so: files of one name. The names of others share what they hold, so none can wait.
pub(super) fn is_for(run: &Run<'_>, node: &Node) -> bool {
    run.options.atomic && run.writes() && node.metadata.kind == NodeKind::File && node.metadata.links <= 1
}

/// Makes the file. `None`: what is there stays, and that has been told; or it is so already, and is treated as any other.
pub(super) fn open(run: &Run<'_>, directory: &Directory, path: &[u8], node: &Node) -> Result<Made> {
    let there = directory.status(&node.name).map_err(local(path, "looking at the file"))?;
    if let Some(status) = &there {
        if !files::may_replace(run, node, status) {
            files::skip(run, path, node);
            return Ok(Made::Stays);
        }
        let same = status.kind == NodeKind::File
            && (status.size, status.modified) == (node.metadata.size, node.metadata.modified);
        if same && run.options.overwrite == Overwrite::IfChanged {
            return Ok(Made::InPlace);
        }
    }
    let drawn: [u8; DRAWN_BYTES] = crypto::random()?;
    let digits: String = drawn.iter().map(|byte| format!("{byte:02x}")).collect();
    let name = format!(".icecore-{digits}.part").into_bytes();
    lock(&run.asides).insert(path_of(path, node, &name));
    let file = directory.create_file(&name).map_err(local(path, "making the file"))?;
    let file = file.ok_or_else(|| local(path, "making the file")(io::ErrorKind::AlreadyExists.into()))?;
    Ok(Made::Aside(files::fresh(path, node, file, Some(Aside { name, replaces: there.is_some() }))?))
}

/// What became of [`open`].
pub(super) enum Made {
    Stays,
    InPlace,
    Aside(Opened),
}

/// A file that has not taken its name yet.
#[derive(Debug)]
pub(super) struct Aside {
    name: Vec<u8>,
    /// Something has the name.
    pub replaces: bool,
}

/// Gives a file that is whole its name.
pub(super) fn take_name(run: &Run<'_>, folder: &Folder, path: &[u8], node: &Node, aside: &Aside) -> Result<()> {
    let Some(directory) = &folder.directory else { return Ok(()) };
    if let Some(status) = directory.status(&node.name).map_err(local(path, "looking at what is in the way"))? {
        match status.kind {
            NodeKind::Directory => files::clear_way(run, directory, path, &node.name, &status)?,
            // Append-only or immutable: it could not be replaced. If that cannot be undone, the renaming tells.
            _ => _ = directory.unlock(&node.name, &status),
        }
    }
    directory.rename(&aside.name, &node.name).map_err(local(path, "giving the file its name"))?;
    lock(&run.asides).remove(&path_of(path, node, &aside.name));
    Ok(())
}

/// The path of the entry beside `path` with this name.
fn path_of(path: &[u8], node: &Node, name: &[u8]) -> Vec<u8> {
    [&path[..path.len() - node.name.len()], name].concat()
}

/// Removes what did not come to its name. What cannot be removed now is in nobody's way: its name says what it is.
pub(super) fn sweep(run: &Run<'_>, target: &Path) {
    let asides = std::mem::take(&mut *lock(&run.asides));
    if asides.is_empty() {
        return;
    }
    let Ok(Some(top)) = target::open_target(target, false) else { return };
    for path in asides {
        let split = path.iter().rposition(|byte| *byte == b'/').unwrap_or_default();
        let removed = top.open_below(&path[..split]).and_then(|parent| parent.remove(&path[split + 1..]));
        if let Err(error) = removed
            && error.kind() != io::ErrorKind::NotFound
        {
            run.problem(&path, "removing an unfinished file", &error.to_string());
        }
    }
}
