//! Rules that lie in the tree itself: ignore files in its directories, and those of git. Each directory has those of its
//! own files and, through the directory above, all that hold there; the nearest that says anything decides.
//!
//! What cannot be read or understood leaves nothing out, and is a problem: a backup that has too much is mended more
//! easily than one that lacks something.

mod pattern;

use std::ffi::{CStr, CString};
use std::path::Path;
use std::sync::Arc;
use std::{io, iter};

use ::ignore::Match;
use ::ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::LocalTreeOptions;
use crate::error::{Error, Result};
use crate::format::tree::NodeKind;
use crate::platform::source::{self, Handle, Pool};
use crate::platform::target::as_path;
use crate::walk::Unreadable;

/// Ignore files of more bytes are not believed to be such.
const FILE_BYTES_MAX: usize = 1 << 20;
/// What `.git` and `commondir` may say: a path.
const POINTER_BYTES_MAX: usize = 8 << 10;
/// Lines of one file that are named as not understood; of the others it is said how many there are.
const LINES_NAMED_MAX: usize = 10;

/// Which rules a tree is asked to obey.
#[derive(Debug)]
pub struct Asked {
    /// Names of ignore files; of two in one directory the later one counts.
    names: Vec<CString>,
    git: bool,
}

/// A rule file that could not be read or understood.
#[derive(Debug)]
pub struct Problem {
    /// Below the directory that is listed.
    name: Vec<u8>,
    message: String,
}

impl Problem {
    /// As the walk tells it.
    pub fn unreadable(&self) -> Unreadable {
        let error = io::Error::other(self.message.clone());
        Unreadable { name: self.name.clone(), during: "reading the ignore file", error }
    }
}

/// The rules that hold in one directory.
#[derive(Debug)]
pub struct Level {
    above: Option<Arc<Level>>,
    /// The directory's, in the one above.
    name: Vec<u8>,
    /// Those of the ignore files that were asked for, in that order.
    own: Vec<Gitignore>,
    /// `None`: outside a work tree, or within its `.git`.
    git: Option<Git>,
}

/// What git says in one directory.
#[derive(Debug)]
struct Git {
    rules: Gitignore,
    /// Of the top of a work tree: what `info/exclude` says. Nothing above it counts.
    top: Option<Gitignore>,
}

impl Asked {
    /// `None` if nothing is asked for.
    pub fn of(options: &LocalTreeOptions) -> Result<Option<Self>> {
        let names = options.ignore_files.iter().map(|name| match CString::new(name.clone()) {
            Ok(c_name) if !matches!(name.as_slice(), b"" | b"." | b"..") && !name.contains(&b'/') => Ok(c_name),
            _ => Err(Error::Usage(format!("{:?} is not a file's name", String::from_utf8_lossy(name)))),
        });
        let asked = Self { names: names.collect::<Result<_>>()?, git: options.git_ignore };
        Ok((asked.git || !asked.names.is_empty()).then_some(asked))
    }

    /// The rules of the directory `name` in one where those of `above` hold.
    pub fn below(
        &self,
        above: Option<Arc<Level>>,
        directory: &Handle,
        name: &[u8],
        problems: &mut Vec<Problem>,
    ) -> Arc<Level> {
        let own = self.names.iter().map(|file| read(directory, file, problems)).collect();
        let git = self.git.then(|| git(above.as_deref(), directory, name, problems)).flatten();
        Arc::new(Level { above, name: name.to_vec(), own, git })
    }

    /// The rules of a directory that was named: ignore files are obeyed from there on; those of git from the top of the
    /// work tree on, as git does, and where it lies, if it is reached through links.
    pub fn named(&self, directory: &Handle, problems: &mut Vec<Problem>) -> Arc<Level> {
        let path = directory.path();
        let real = if self.git { source::real_path(as_path(&path)).unwrap_or(path) } else { path };
        let above = if self.git { git_above(&real, problems) } else { None };
        let name = real.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        self.below(above, directory, name, problems)
    }
}

/// What git says in the directories above `path`, if they are of a work tree.
fn git_above(path: &[u8], problems: &mut Vec<Problem>) -> Option<Arc<Level>> {
    let git_alone = Asked { names: Vec::new(), git: true };
    let pool = Arc::new(Pool::default());
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    let (mut level, mut begin): (Option<Arc<Level>>, usize) = (None, 0);
    for end in slashes.filter(|_| path != b"/") {
        let (above, name) = (&path[..end.max(1)], &path[begin.min(end)..end]);
        begin = end + 1;
        let opened = CString::new(above).map_err(io::Error::from);
        let Ok(directory) = opened.and_then(|above| Handle::beginning(&pool, &above, above.clone())) else {
            // Git could not look there either.
            level = None;
            continue;
        };
        let mut found = Vec::new();
        let next = git_alone.below(level.take(), &directory, name, &mut found);
        // The walk shows names below the directory it lists: these lie above, and are told by their paths.
        problems.extend(found.into_iter().map(|Problem { name, message }| {
            let file = as_path(above).join(as_path(&name));
            Problem { name: Vec::new(), message: format!("{}: {message}", file.display()) }
        }));
        level = next.git.is_some().then_some(next);
    }
    level
}

impl Level {
    /// Whether the entry `name` of this directory is left out.
    pub fn leaves_out(&self, name: &[u8], is_directory: bool) -> bool {
        let path = self.path_of(name);
        let own = || {
            let mut levels = self.outwards(&path, name);
            levels.find_map(|(level, path)| level.own.iter().rev().find_map(|rules| says(rules, path, is_directory)))
        };
        own().or_else(|| self.git_says(&path, name, is_directory)).unwrap_or(false)
    }

    fn git_says(&self, path: &[u8], name: &[u8], is_directory: bool) -> Option<bool> {
        if name == b".git" {
            return None; // git does not look into it, whatever it is told
        }
        for (level, path) in self.outwards(path, name) {
            let git = level.git.as_ref()?;
            if let Some(verdict) = says(&git.rules, path, is_directory) {
                return Some(verdict);
            }
            if let Some(exclude) = &git.top {
                return says(exclude, path, is_directory);
            }
        }
        None
    }

    /// The levels from here outwards, each with the path of an entry of this directory as it is seen from there.
    fn outwards<'a>(&'a self, path: &'a [u8], name: &[u8]) -> impl Iterator<Item = (&'a Level, &'a Path)> {
        let mut start = path.len() - name.len();
        let mut next = Some(self);
        iter::from_fn(move || {
            let level = next?;
            let seen = as_path(&path[start..]);
            start = start.saturating_sub(level.name.len() + 1);
            next = level.above.as_deref();
            Some((level, seen))
        })
    }

    /// The path of an entry as the outermost level sees it.
    fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let inner =
            || iter::successors(Some(self), |level| level.above.as_deref()).filter(|level| level.above.is_some());
        let length = inner().map(|level| level.name.len() + 1).sum::<usize>() + name.len();
        let mut path = vec![b'/'; length];
        let mut end = length - name.len();
        path[end..].copy_from_slice(name);
        for level in inner() {
            let start = end - 1 - level.name.len();
            path[start..end - 1].copy_from_slice(&level.name);
            end = start;
        }
        path
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        // One after the other: left to itself, a way of thousands of levels would drop by recursion.
        let mut above = self.above.take();
        while let Some(level) = above {
            above = Arc::into_inner(level).and_then(|mut level| level.above.take());
        }
    }
}

/// `Some(true)`: it is left out; `Some(false)`: it is taken back; `None`: nothing is said of it.
fn says(rules: &Gitignore, path: &Path, is_directory: bool) -> Option<bool> {
    match rules.matched(path, is_directory) {
        Match::None => None,
        Match::Ignore(_) => Some(true),
        Match::Whitelist(_) => Some(false),
    }
}

/// What git says in this directory; `None` if it is in no work tree.
fn git(above: Option<&Level>, directory: &Handle, name: &[u8], problems: &mut Vec<Problem>) -> Option<Git> {
    let is_within = name != b".git" && above.is_some_and(|above| above.git.is_some());
    let top = work_tree_exclude(directory, problems);
    if !is_within && top.is_none() {
        return None;
    }
    Some(Git { rules: read(directory, c".gitignore", problems), top })
}

/// What `info/exclude` says, if this directory is the top of a work tree.
fn work_tree_exclude(directory: &Handle, problems: &mut Vec<Problem>) -> Option<Gitignore> {
    match git_directory(directory) {
        Ok(git) => Some(read(directory, &path_in(&git?, b"info/exclude")?, problems)),
        Err(error) => {
            problems.push(Problem { name: b".git".to_vec(), message: error.to_string() });
            None
        }
    }
}

/// Where git keeps what concerns all work trees, as a path from `directory` on; `None` if this is not the top of one.
fn git_directory(directory: &Handle) -> io::Result<Option<Vec<u8>>> {
    let descriptor = directory.descriptor()?;
    let holds_head = |git: &[u8]| match path_in(git, b"HEAD") {
        Some(head) => source::kind_at(&*descriptor, &head).map(|kind| kind.is_some()),
        None => Ok(false),
    };
    match source::kind_at(&*descriptor, c".git")? {
        Some(NodeKind::Directory | NodeKind::Symlink) => Ok(holds_head(b".git")?.then(|| b".git".to_vec())),
        // Of a further work tree, or a submodule: it says where its own is.
        Some(NodeKind::File) => {
            let content = source::read_small_file(&*descriptor, c".git", POINTER_BYTES_MAX)?.unwrap_or_default();
            let Some(git) = content.strip_prefix(b"gitdir: ").map(<[u8]>::trim_ascii_end) else { return Ok(None) };
            if !holds_head(git)? {
                return Ok(None);
            }
            let common = match path_in(git, b"commondir") {
                Some(file) => source::read_small_file(&*descriptor, &file, POINTER_BYTES_MAX)?,
                None => None,
            };
            Ok(Some(match common.as_deref().map(<[u8]>::trim_ascii_end) {
                None => git.to_vec(),
                Some(absolute) if absolute.starts_with(b"/") => absolute.to_vec(),
                Some(relative) => [git, b"/", relative].concat(),
            }))
        }
        _ => Ok(None),
    }
}

fn path_in(directory: &[u8], name: &[u8]) -> Option<CString> {
    CString::new([directory, b"/", name].concat()).ok()
}

/// The rules in a file; none if there is no such file. What is wrong with it is said, and the rest of it holds.
fn read(directory: &Handle, file: &CStr, problems: &mut Vec<Problem>) -> Gitignore {
    let mut say = |message: String| problems.push(Problem { name: file.to_bytes().to_vec(), message });
    let content =
        directory.descriptor().and_then(|descriptor| source::read_small_file(&*descriptor, file, FILE_BYTES_MAX));
    let content = match content {
        Ok(Some(content)) => content,
        Ok(None) => return Gitignore::empty(),
        Err(error) => {
            say(format!("it leaves nothing out: {error}"));
            return Gitignore::empty();
        }
    };
    let mut builder = GitignoreBuilder::new(".");
    let mut wrong = 0;
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&content);
    for (number, line) in (1..).zip(content.split(|byte| *byte == b'\n')) {
        let added = match pattern::translate(line) {
            Ok(None) => continue,
            Ok(Some(pattern)) => builder.add_line(None, &pattern).map(drop).map_err(|error| error.to_string()),
            Err(problem) => Err(problem.to_owned()),
        };
        if let Err(problem) = added {
            wrong += 1;
            if wrong <= LINES_NAMED_MAX {
                say(format!("line {number} is passed over: {problem}"));
            }
        }
    }
    if wrong > LINES_NAMED_MAX {
        say(format!("{} more lines are passed over", wrong - LINES_NAMED_MAX));
    }
    builder.build().unwrap_or_else(|error| {
        say(format!("it leaves nothing out: {error}"));
        Gitignore::empty()
    })
}
