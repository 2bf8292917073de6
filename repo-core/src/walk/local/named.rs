//! The paths that a tree was made of, as a tree of their names.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::relocated::Origin;
use super::{Shared, c_string};
use crate::error::{Error, Result};
use crate::format::tree::{Metadata, NodeKind};
use crate::platform::source::{self, Access, Handle, Identity, Links};

/// Bytes: what the system takes for a path (PATH_MAX). It bounds how deep the tree of names can be; what lies below
/// a path may lie as deep as it likes.
const PATH_BYTES_MAX: u64 = 4096;

/// Where a path begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    Root,
    Current,
}

/// A path as given, cleaned.
#[derive(Debug, PartialEq, Eq)]
pub struct Resolved {
    pub beginning: Beginning,
    pub names: Vec<Vec<u8>>,
    pub absolute: Vec<u8>,
}

/// A name in the tree of paths.
#[derive(Debug, Default, Clone)]
pub struct Named {
    /// Where it lies, if not in the directory above: only just below the top, where paths of both beginnings meet.
    pub beginning: Option<Beginning>,
    /// A path ends here: everything below is shown. Else only what leads on.
    pub whole: bool,
    /// What it stands for, if that is not what has this name.
    pub origin: Option<Origin>,
    pub children: BTreeMap<Vec<u8>, Arc<Named>>,
}

/// Cleans paths: `.`, empty components and `..` are taken out by their spelling, as a shell user sees them. What `..`
/// leads out of the current directory becomes absolute.
pub fn resolve_all(paths: &[PathBuf], current: &[u8]) -> Result<Vec<Resolved>> {
    paths.iter().map(|path| resolve(source::path_bytes(path), current)).collect()
}

fn resolve(path: &[u8], current: &[u8]) -> Result<Resolved> {
    if path.is_empty() {
        return Err(Error::Usage("an empty path was given".into()));
    }
    if path.contains(&0) {
        return Err(Error::Usage(format!("{:?} has a NUL byte in it", String::from_utf8_lossy(path))));
    }
    let full = if path.starts_with(b"/") { path.to_vec() } else { [current, b"/", path].concat() };
    if path.len() as u64 > PATH_BYTES_MAX || full.len() as u64 > 2 * PATH_BYTES_MAX {
        return Err(Error::Limit { what: "the length of a path".into(), limit: PATH_BYTES_MAX });
    }
    let (absolute, _) = clean(&full);
    let (relative, leads_out) = clean(path);
    let from_root = path.starts_with(b"/") || leads_out;
    Ok(Resolved {
        beginning: if from_root { Beginning::Root } else { Beginning::Current },
        absolute: absolute.iter().flat_map(|name| [b"/".as_slice(), name].concat()).collect::<Vec<u8>>().into_path(),
        names: if from_root { absolute } else { relative },
    })
}

trait IntoPath {
    fn into_path(self) -> Vec<u8>;
}

impl IntoPath for Vec<u8> {
    fn into_path(self) -> Vec<u8> {
        if self.is_empty() { b"/".to_vec() } else { self }
    }
}

/// The names of a path, and whether `..` leads out above its beginning.
fn clean(path: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let (mut names, mut leads_out) = (Vec::new(), false);
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => leads_out |= names.pop().is_none(),
            name => names.push(name.to_vec()),
        }
    }
    (names, leads_out)
}

impl Named {
    /// The tree of these paths.
    pub fn tree(paths: &[Resolved], shared: &Shared) -> Result<Self> {
        let mut top = Self::default();
        for path in paths {
            top.insert(path, shared)?;
        }
        Ok(top)
    }

    fn insert(&mut self, path: &Resolved, shared: &Shared) -> Result<()> {
        let Some((first, rest)) = path.names.split_first() else { return self.insert_beginning(path, shared) };
        let mut beginning = path.beginning;
        let known = self.children.get(first).map(|child| child.beginning).unwrap_or(self.beginning);
        if let Some(known) = known.filter(|known| *known != beginning) {
            match (look(shared, known, first), look(shared, beginning, first)) {
                (Ok(one), Ok(other)) if Identity::of(&one) == Identity::of(&other) => beginning = known,
                // The current directory has no such name: no conflict, unless both were asked for by it.
                (Err(error), _) if error.kind() == io::ErrorKind::NotFound && !self.children.contains_key(first) => {}
                _ => return Err(conflict(first)),
            }
        }
        let mut at = Arc::make_mut(self.children.entry(first.clone()).or_default());
        at.beginning = Some(beginning);
        for name in rest {
            at = Arc::make_mut(at.children.entry(name.clone()).or_default());
        }
        at.whole = true;
        Ok(())
    }

    /// `/` or `.`: the top is a directory itself.
    fn insert_beginning(&mut self, path: &Resolved, shared: &Shared) -> Result<()> {
        let identity = |of| shared.beginning(of).handle.identity();
        if let Some(known) = self.beginning
            && identity(known) != identity(path.beginning)
        {
            return Err(Error::Usage("/ and the current directory cannot both be the top of one tree".into()));
        }
        for (name, child) in &mut self.children {
            let other = child.beginning.expect("set just below the top");
            if other != path.beginning
                && let Ok(own) = look(shared, path.beginning, name)
            {
                match look(shared, other, name) {
                    Ok(other) if Identity::of(&other) == Identity::of(&own) => {}
                    _ => return Err(conflict(name)),
                }
                Arc::make_mut(child).beginning = Some(path.beginning);
            }
        }
        self.beginning = Some(path.beginning);
        self.whole = true;
        Ok(())
    }

    /// Looks whether at least one path exists, and that no name would have to be two things at once.
    pub fn examine(&self, shared: &Shared) -> Result<()> {
        let mut found = Found { any: self.whole, missing: None };
        self.examine_below(shared, None, &mut Vec::new(), &mut found)?;
        match found.missing {
            Some((path, source)) if !found.any => {
                Err(Error::Local { path: source::path_of(path), what: "looking at what is to be backed up", source })
            }
            _ => Ok(()),
        }
    }

    fn examine_below(
        &self,
        shared: &Shared,
        handle: Option<&Arc<Handle>>,
        path: &mut Vec<u8>,
        found: &mut Found,
    ) -> Result<()> {
        for (name, child) in &self.children {
            let length = path.len();
            if !path.is_empty() || child.beginning == Some(Beginning::Root) {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            let holder = child.holder(shared, handle).expect("given below the top");
            match child.examine_one(shared, holder, name, self.whole) {
                Ok(Examined::Seen) => found.any |= child.whole,
                Ok(Examined::TwoThings) => return Err(link_and_directory(path)),
                Err(error) => drop(found.missing.get_or_insert((path.clone(), error))),
            }
            if !child.children.is_empty() {
                match holder.child(&c_string(name).map_err(usage)?, None, Access::Pass, Links::Follow) {
                    Ok(below) => child.examine_below(shared, Some(&below), path, found)?,
                    Err(error) => drop(found.missing.get_or_insert((path.clone(), error))),
                }
            }
            path.truncate(length);
        }
        Ok(())
    }

    /// A link on the way to a path is followed and shown as a directory; it cannot be shown as a link as well.
    fn examine_one(&self, shared: &Shared, holder: &Handle, name: &[u8], in_whole: bool) -> io::Result<Examined> {
        let metadata = shared.looker.look(&*holder.descriptor()?, &c_string(name)?)?;
        let as_itself = self.whole || in_whole;
        let both = as_itself && !self.children.is_empty() && metadata.kind == NodeKind::Symlink;
        Ok(if both { Examined::TwoThings } else { Examined::Seen })
    }

    /// The directory that holds this name: `above`, unless it lies elsewhere.
    pub fn holder<'a>(&self, shared: &'a Shared, above: Option<&'a Arc<Handle>>) -> Option<&'a Arc<Handle>> {
        self.beginning.map(|beginning| &shared.beginning(beginning).handle).or(above)
    }
}

enum Examined {
    Seen,
    TwoThings,
}

struct Found {
    any: bool,
    missing: Option<(Vec<u8>, io::Error)>,
}

fn look(shared: &Shared, beginning: Beginning, name: &[u8]) -> io::Result<Metadata> {
    shared.looker.look(&*shared.beginning(beginning).handle.descriptor()?, &c_string(name)?)
}

fn usage(error: io::Error) -> Error {
    Error::Usage(error.to_string())
}

fn conflict(name: &[u8]) -> Error {
    let name = String::from_utf8_lossy(name);
    Error::Usage(format!("two different things would be stored as {name:?}: name both by absolute paths"))
}

fn link_and_directory(path: &[u8]) -> Error {
    let path = String::from_utf8_lossy(path);
    Error::Usage(format!(
        "{path:?} is a symbolic link that would be stored as such, and another path leads through it: name that by where it is"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(path: &str) -> (Beginning, String, String) {
        let path = resolve(path.as_bytes(), b"/home/user").unwrap();
        (path.beginning, String::from_utf8(path.names.join(&b'/')).unwrap(), String::from_utf8(path.absolute).unwrap())
    }

    #[test]
    fn paths_are_cleaned_by_their_spelling() {
        use Beginning::{Current, Root};
        for (given, beginning, names, absolute) in [
            ("/etc", Root, "etc", "/etc"),
            ("//etc/./ssh//", Root, "etc/ssh", "/etc/ssh"),
            ("/a/../b", Root, "b", "/b"),
            ("/../..", Root, "", "/"),
            ("/", Root, "", "/"),
            (".", Current, "", "/home/user"),
            ("./", Current, "", "/home/user"),
            ("a/..", Current, "", "/home/user"),
            ("a/b/../c", Current, "a/c", "/home/user/a/c"),
            ("./a", Current, "a", "/home/user/a"),
            ("..", Root, "home", "/home"),
            ("../x", Root, "home/x", "/home/x"),
            ("a/../../user/y", Root, "home/user/y", "/home/user/y"),
            ("../../../..", Root, "", "/"),
            ("...", Current, "...", "/home/user/..."),
        ] {
            assert_eq!(resolved(given), (beginning, names.into(), absolute.into()), "{given}");
        }
    }

    #[test]
    fn paths_that_the_system_would_not_take_are_refused() {
        assert!(matches!(resolve(b"", b"/"), Err(Error::Usage(_))));
        assert!(matches!(resolve(b"a\0b", b"/"), Err(Error::Usage(_))));
        assert!(matches!(resolve(&[b'a'; 5000], b"/"), Err(Error::Limit { .. })));
    }
}
