//! One path that is stored as if it lay elsewhere: a snapshot of a volume, mounted anywhere, under the path that the
//! volume has in daily life. Directories on the way to that path are those of this machine; where there are none they
//! are made up, the same each time.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::named::{Beginning, Named, Resolved, resolve_all};
use super::{Place, Shared, c_string};
use crate::error::{Error, Result};
use crate::platform::source::{self, Access, Handle, Links};
use crate::walk::filter::Patterns;

/// What a name in the tree stands for, where it is not the entry that has it.
#[derive(Debug, Clone)]
pub enum Origin {
    /// The entry of this name in that directory.
    Entry { holder: Arc<Handle>, name: CString },
    /// Nothing: a directory on the way, where this machine has none.
    MadeUp,
}

/// The tree of the one path in `given`, stored at `at`; and what `at` is when it is cleaned.
pub fn tree(given: &[Resolved], at: &Path, shared: &mut Shared, excludes: &Patterns) -> Result<(Named, Vec<u8>)> {
    let [given] = given else {
        return Err(Error::Usage("only a single path can be stored as another".into()));
    };
    let at = target(at)?;
    let failed = |source| Error::Local {
        path: source::path_of(given.absolute.clone()),
        what: "looking at what is to be backed up",
        source,
    };
    let (holder, name) = entry(given, shared).map_err(failed)?;
    let Some((last, above)) = at.names.split_last() else {
        // The top itself: from here on `/` is that directory.
        let handle = holder.child(&name, None, Access::List, Links::Refuse).map_err(failed)?;
        *shared.beginning_mut(Beginning::Root) = Place { handle, reached: excludes.reach(b"/") };
        let top = Named { beginning: Some(Beginning::Root), whole: true, ..Named::default() };
        return Ok((top, at.absolute));
    };
    let mut on_the_way = Some(shared.beginning(Beginning::Root).handle.clone());
    let mut is_there = Vec::with_capacity(above.len());
    for name in above {
        let name = c_string(name).map_err(failed)?;
        on_the_way = on_the_way.and_then(|holder| holder.child(&name, None, Access::Pass, Links::Follow).ok());
        is_there.push(on_the_way.is_some());
    }
    let origin = Some(Origin::Entry { holder, name });
    let mut below = (last, Named { whole: true, origin, ..Named::default() });
    for (name, is_there) in above.iter().zip(is_there).rev() {
        let origin = (!is_there).then_some(Origin::MadeUp);
        below = (name, Named { origin, children: only(below), ..Named::default() });
    }
    below.1.beginning = Some(Beginning::Root);
    Ok((Named { children: only(below), ..Named::default() }, at.absolute))
}

fn only((name, child): (&Vec<u8>, Named)) -> BTreeMap<Vec<u8>, Arc<Named>> {
    BTreeMap::from([(name.clone(), Arc::new(child))])
}

/// A path to be stored at: it means the same whoever reads it, so it is absolute and has no `..`.
fn target(at: &Path) -> Result<Resolved> {
    let bytes = source::path_bytes(at);
    if !bytes.starts_with(b"/") || bytes.split(|byte| *byte == b'/').any(|name| name == b"..") {
        let at = at.display();
        return Err(Error::Usage(format!("{at}: a path to be stored at must be absolute and without ..")));
    }
    let mut resolved = resolve_all(&[at.to_owned()], b"/")?;
    Ok(resolved.pop().expect("one path was given"))
}

/// Where the path leads, which must be there: a directory, and a name in it. Links on the way are followed.
fn entry(given: &Resolved, shared: &Shared) -> io::Result<(Arc<Handle>, CString)> {
    let mut holder = shared.beginning(given.beginning).handle.clone();
    let Some((last, above)) = given.names.split_last() else { return Ok((holder, c".".to_owned())) };
    for name in above {
        holder = holder.child(&c_string(name)?, None, Access::Pass, Links::Follow)?;
    }
    let name = c_string(last)?;
    shared.looker.look(&*holder.descriptor()?, &name)?;
    Ok((holder, name))
}
