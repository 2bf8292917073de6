//! Removing from the target what the snapshot has not: only inside directories that were there before and are
//! restored, and never what a filter leaves out.

use std::cell::RefCell;
use std::io;

use super::plan::Folder;
use super::{Purpose, Run, is_of_the_whole, local};
use crate::error::{Error, Result};
use crate::format::tree::{NodeKind, Subtree};
use crate::ops::lookup::Listing;
use crate::platform::target::{Directory, Removal, as_path, remove_tree};
use crate::progress::{Action, Event};

/// Names of the target compared at a time with the snapshot's: some megabytes, also in a directory of 10^7 entries.
const COMPARED_NAMES: usize = 1 << 16;

/// Removes from a directory what `subtree` does not name.
/// If any part of the subtree cannot be read, nothing is removed: what cannot be proven absent stays.
pub(super) fn surplus(run: &Run<'_>, folder: &Folder, subtree: Option<Subtree>) -> Result<()> {
    let Some(directory) = &folder.directory else { return Ok(()) };
    let path = &folder.record.path;
    let listing = |error| local(path, "listing the directory")(error);
    let mut names = directory.names().map_err(listing)?;
    loop {
        let mut some = names.by_ref().take(COMPARED_NAMES).collect::<io::Result<Vec<_>>>().map_err(listing)?;
        if some.is_empty() {
            return Ok(());
        }
        some.sort_unstable();
        let mut unknown = Vec::new();
        let mut some = some.into_iter().peekable();
        for node in Listing::new(run.store, subtree) {
            // The walk over the same nodes will tell of this.
            let Ok(node) = node else { return Ok(()) };
            while let Some(name) = some.next_if(|name| *name < node.name) {
                unknown.push(name);
            }
            some.next_if(|name| *name == node.name);
            if some.peek().is_none() {
                break;
            }
        }
        unknown.extend(some);
        for name in unknown {
            run.check_cancelled()?;
            let mut path = path.clone();
            path.push(b'/');
            path.extend_from_slice(&name);
            if run.selects(&path) {
                remove(run, directory, &name, &path).or_else(|error| run.survive(&path, error))?;
            }
        }
    }
}

fn remove(run: &Run<'_>, directory: &Directory, name: &[u8], path: &[u8]) -> Result<()> {
    let Some(status) = directory.status(name).map_err(local(path, "removing"))? else { return Ok(()) };
    if status.kind == NodeKind::Directory {
        tree(run, directory, name, path)?;
        return Ok(());
    }
    if run.purpose == Purpose::Restore {
        directory.remove(name).map_err(local(path, "removing"))?;
    }
    run.done(path, Action::Deleted, 0);
    Ok(())
}

/// Removes a directory of the target with all in it that no filter leaves out. Returns whether it is gone.
pub(super) fn tree(run: &Run<'_>, directory: &Directory, name: &[u8], path: &[u8]) -> Result<bool> {
    let fatal: RefCell<Option<Error>> = RefCell::default();
    let gone = {
        let mut keep = |path: &[u8]| {
            if fatal.borrow().is_none() && run.progress.is_cancelled() {
                fatal.replace(Some(Error::Cancelled));
            }
            fatal.borrow().is_some() || !run.selects(path)
        };
        let mut told = |path: &[u8], removal: Removal| match removal {
            Removal::Removed => run.done(path, Action::Deleted, 0),
            Removal::Kept => {}
            Removal::Mounted => {
                let message =
                    format!("{}: another file system is mounted there; it was left alone", as_path(path).display());
                run.progress.report(Event::Note { message: &message });
            }
            Removal::Failed(error) if is_of_the_whole(&error) => {
                fatal.replace(Some(local(path, "removing")(error)));
            }
            Removal::Failed(error) => run.problem(path, "removing", &error.to_string()),
        };
        remove_tree(directory, name, path, run.purpose != Purpose::Restore, &mut keep, &mut told)
    };
    fatal.into_inner().map_or(Ok(gone), Err)
}
