//! A directory of a local tree: which of its names are shown, and how what is shown is opened.

use std::ffi::{CStr, CString};
use std::io;
use std::sync::Arc;

use super::named::{Beginning, Named};
use super::relocated::Origin;
use super::rules::{Level, Problem};
use super::{LeftOut, Place, Shared, c_string};
use crate::format::tree::{Metadata, NodeKind};
use crate::platform::source::{self, Access, Handle, Identity, Links, Listing, OpenFile};
use crate::walk::filter::Reached;
use crate::walk::{Details, Entries, SourceDirectory, SourceEntry, SourceFile, Unreadable};

/// A directory of a [`LocalTree`](super::LocalTree).
#[derive(Debug, Clone)]
pub struct LocalDirectory {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    left_out: Arc<LeftOut>,
    /// `None`: a top that is no directory, but holds what paths of both beginnings begin with.
    place: Option<Place>,
    /// Everything here is shown, as far as no option leaves it out. Else only tags and named paths.
    whole: bool,
    /// Files that say that the rest is not to be shown.
    tags: Vec<CString>,
    /// What the tree itself says of what lies here, if that is asked for.
    rules: Option<Arc<Level>>,
    /// Rules that could not be read, told before the entries.
    problems: Vec<Problem>,
    /// The paths that lead on from here.
    named: Option<Arc<Named>>,
    /// The file system to stay on.
    device: u64,
}

/// How an entry is shown.
struct Shown {
    whole: bool,
    descend: bool,
}

impl LocalDirectory {
    /// The top of the tree.
    pub fn top(shared: Arc<Shared>, named: Arc<Named>, left_out: LeftOut) -> Self {
        let place = named.beginning.map(|beginning| {
            let place = shared.beginning(beginning);
            Place { handle: place.handle.clone(), reached: shared.excludes.forgiven(&place.reached) }
        });
        let device = place.as_ref().map_or(0, |place| place.handle.identity().device);
        let mut problems = Vec::new();
        let rules = match (&shared.rules, &place) {
            (Some(asked), Some(place)) if named.whole => Some(asked.named(&place.handle, &mut problems)),
            _ => None,
        };
        let inner = Inner {
            shared,
            left_out: Arc::new(left_out),
            place,
            whole: named.whole,
            tags: Vec::new(),
            rules,
            problems,
            named: Some(named),
            device,
        };
        Self { inner: Arc::new(inner) }
    }
}

impl Inner {
    fn named(&self, name: &[u8]) -> Option<&Arc<Named>> {
        self.named.as_ref()?.children.get(name)
    }

    /// The directory in which `name` lies.
    fn holder(&self, named: Option<&Arc<Named>>) -> io::Result<&Arc<Handle>> {
        let own = self.place.as_ref().map(|place| &place.handle);
        match named {
            Some(named) => named.holder(&self.shared, own),
            None => own,
        }
        .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// Where what `name` stands for lies: a directory, and its name there.
    fn origin<'a>(&'a self, name: &'a CStr, named: Option<&'a Arc<Named>>) -> io::Result<(&'a Arc<Handle>, &'a CStr)> {
        match named.and_then(|named| named.origin.as_ref()) {
            Some(Origin::Entry { holder, name }) => Ok((holder, name)),
            Some(Origin::MadeUp) => Err(io::ErrorKind::NotFound.into()),
            None => Ok((self.holder(named)?, name)),
        }
    }

    /// How far the path of `name` has come in the patterns.
    fn reached(&self, name: &[u8], named: Option<&Arc<Named>>) -> Reached {
        let from = match named.and_then(|named| named.beginning) {
            Some(beginning) => Some(self.shared.beginning(beginning)),
            None => self.place.as_ref(),
        };
        from.map(|place| self.shared.excludes.step(&place.reached, name)).unwrap_or_default()
    }

    /// Whether `name` is shown because everything here is.
    fn in_whole(&self, named: Option<&Arc<Named>>) -> bool {
        let elsewhere = named.is_some_and(|named| {
            named.beginning.is_some() && named.beginning != self.named.as_ref().and_then(|own| own.beginning)
        });
        self.whole && !elsewhere
    }

    /// Whether a name can be passed over without a look at it.
    fn excluded_by_name(&self, name: &[u8], named: Option<&Arc<Named>>) -> bool {
        let place = self.place.as_ref();
        named.is_none()
            && self.whole
            && !self.shared.excludes.is_empty()
            && place.is_some_and(|place| self.shared.excludes.matches_next(&place.reached, name))
    }

    /// A path leads through a name that is not shown as itself: links are followed.
    fn links(&self, named: Option<&Arc<Named>>) -> Links {
        match named {
            Some(named) if !named.whole && !self.in_whole(Some(named)) => Links::Follow,
            _ => Links::Refuse,
        }
    }

    fn look(&self, name: &CStr, named: Option<&Arc<Named>>) -> io::Result<Metadata> {
        if is_made_up(named) {
            return Ok(Metadata::unknown(NodeKind::Directory, 0o755));
        }
        let (holder, name) = self.origin(name, named)?;
        match self.links(named) {
            Links::Refuse => {
                let descriptor = holder.descriptor()?;
                if self.reads_device(named)
                    && let Some(device) = self.shared.looker.look_at_device(&*descriptor, name)?
                {
                    return Ok(device);
                }
                self.shared.looker.look(&*descriptor, name)
            }
            Links::Follow => {
                let passed = holder.child(name, None, Access::Pass, Links::Follow)?;
                self.shared.looker.look_through(&*passed.descriptor()?)
            }
        }
    }

    /// Only what was named itself is looked at as a device that may be read.
    fn reads_device(&self, named: Option<&Arc<Named>>) -> bool {
        self.shared.read_devices && named.is_some_and(|named| named.whole)
    }

    /// Whether and how an entry is shown.
    fn judge(&self, name: &[u8], named: Option<&Arc<Named>>, metadata: &Metadata) -> Option<Shown> {
        let is_directory = metadata.kind == NodeKind::Directory;
        if is_directory && self.left_out.contains(&Identity::of(metadata)) {
            self.note_left_out(name, named);
            return None;
        }
        let everything = Shown { whole: true, descend: true };
        let what_leads_on = named.is_some().then_some(Shown { whole: false, descend: true });
        if named.is_some_and(|named| named.whole) {
            return Some(everything);
        }
        if !self.in_whole(named) {
            let is_tag = self.tags.iter().any(|tag| tag.to_bytes() == name);
            return if is_tag { Some(everything) } else { what_leads_on };
        }
        let excluded_by_pattern = !self.shared.excludes.is_empty() && {
            let place = self.place.as_ref();
            place.is_some_and(|place| self.shared.excludes.matches_next(&place.reached, name))
        };
        let too_large = self.shared.larger_than_bytes.is_some_and(|limit| metadata.size > limit);
        let ignored = || self.rules.as_ref().is_some_and(|rules| rules.leaves_out(name, is_directory));
        if excluded_by_pattern || too_large || ignored() {
            return what_leads_on;
        }
        if self.shared.one_file_system && metadata.device != self.device {
            // Where another file system is mounted, the directory is kept. A file that is mounted is that one's.
            let mount_point = is_directory.then_some(Shown { whole: false, descend: false });
            return what_leads_on.or(mount_point);
        }
        Some(everything)
    }

    fn note_left_out(&self, name: &[u8], named: Option<&Arc<Named>>) {
        let origin = c_string(name).and_then(|name| {
            let (holder, name) = self.origin(&name, named)?;
            Ok((holder.path(), name.to_bytes().to_vec()))
        });
        let (mut path, name) = origin.unwrap_or_default();
        if !path.ends_with(b"/") {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        let path = String::from_utf8_lossy(&path);
        self.shared.note(format!("{path} was left out: a backup does not hold its own repository or cache"));
    }

    /// The files that say that a directory's content is not to be shown.
    fn tags_of(&self, handle: &Handle) -> io::Result<Vec<CString>> {
        if self.shared.tags.is_empty() {
            return Ok(Vec::new());
        }
        let descriptor = handle.descriptor()?;
        let present = self.shared.tags.iter().filter(|(name, head)| source::holds_file(&*descriptor, name, head));
        Ok(present.map(|(name, _)| name.clone()).collect())
    }
}

impl SourceDirectory for LocalDirectory {
    fn entries(&self) -> io::Result<Entries> {
        let inner = self.inner.clone();
        let listing = match &inner.place {
            Some(place) if inner.whole => place.handle.list()?,
            _ => Listing::of(inner.tags.iter().map(CString::as_c_str))?,
        };
        let named: Vec<CString> = match &inner.named {
            Some(named) => named.children.keys().map(|name| c_string(name)).collect::<io::Result<_>>()?,
            None => Vec::new(),
        };
        Ok(Box::new(Walk { inner, listing, next: 0, problems_told: 0, named: named.into_iter().peekable() }))
    }

    fn open_directory(&self, entry: &SourceEntry) -> io::Result<Arc<dyn SourceDirectory>> {
        let inner = &self.inner;
        let named = inner.named(&entry.name);
        let shown = inner.judge(&entry.name, named, &entry.metadata);
        let Some(shown) = shown.filter(|shown| shown.descend && entry.metadata.kind == NodeKind::Directory) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a directory to be read"));
        };
        let access = if shown.whole { Access::List } else { Access::Pass };
        let (name, expected) = (c_string(&entry.name)?, Some(Identity::of(&entry.metadata)));
        let handle = if is_made_up(named) {
            // Never looked into: what leads on from here lies elsewhere.
            inner.shared.beginning(Beginning::Root).handle.clone()
        } else {
            let (holder, name) = inner.origin(&name, named)?;
            holder.child(name, expected, access, inner.links(named))?
        };
        let reached = inner.reached(&entry.name, named);
        let named_itself = named.is_some_and(|named| named.whole);
        let (tags, reached) = if named_itself || !shown.whole {
            (Vec::new(), inner.shared.excludes.forgiven(&reached))
        } else {
            (inner.tags_of(&handle)?, reached)
        };
        let mut problems = Vec::new();
        let rules = inner.shared.rules.as_ref().filter(|_| shown.whole).map(|asked| match &inner.rules {
            Some(above) if inner.in_whole(named) => {
                asked.below(Some(above.clone()), &handle, &entry.name, &mut problems)
            }
            _ => asked.named(&handle, &mut problems),
        });
        Ok(Arc::new(Self {
            inner: Arc::new(Inner {
                shared: inner.shared.clone(),
                left_out: inner.left_out.clone(),
                place: Some(Place { handle, reached }),
                whole: shown.whole && tags.is_empty(),
                tags,
                rules,
                problems,
                named: named.filter(|named| !named.children.is_empty()).cloned(),
                device: if named_itself { entry.metadata.device } else { inner.device },
            }),
        }))
    }

    fn open_file(&self, entry: &SourceEntry) -> io::Result<Box<dyn SourceFile>> {
        let named = self.inner.named(&entry.name);
        let name = c_string(&entry.name)?;
        let (holder, name) = self.inner.origin(&name, named)?;
        let (descriptor, shared) = (holder.descriptor()?, self.inner.shared.clone());
        if self.inner.reads_device(named)
            && let Some(file) = OpenFile::open_device(&*descriptor, name, &entry.metadata)?
        {
            return Ok(Box::new(LocalFile { file, shared, device: Some(Box::new(entry.metadata.clone())) }));
        }
        let file = OpenFile::open(&*descriptor, name, &entry.metadata)?;
        Ok(Box::new(LocalFile { file, shared, device: None }))
    }

    fn details(&self, entry: &SourceEntry) -> io::Result<Details> {
        let named = self.inner.named(&entry.name);
        if is_made_up(named) {
            return Ok(Details::default());
        }
        let name = c_string(&entry.name)?;
        let (holder, name) = self.inner.origin(&name, named)?;
        let parent = holder.descriptor()?;
        let attributes = match entry.metadata.kind {
            NodeKind::Directory if self.inner.links(named) == Links::Follow => {
                let expected = Some(Identity::of(&entry.metadata));
                let passed = holder.child(name, expected, Access::Pass, Links::Follow)?;
                source::attributes_of_passed(&*passed.descriptor()?)
            }
            NodeKind::Directory => source::attributes_of_directory(&*parent, name, &entry.metadata)?,
            NodeKind::File => source::attributes_of_file(&OpenFile::open(&*parent, name, &entry.metadata)?),
            _ => source::attributes_of_other(&*parent, name, &entry.metadata)?,
        };
        Ok(details(attributes))
    }

    fn numbers_last(&self) -> bool {
        let descriptor = self.inner.place.as_ref().map(|place| place.handle.descriptor());
        descriptor.is_some_and(|descriptor| descriptor.is_ok_and(|descriptor| source::numbers_last(&*descriptor)))
    }
}

fn is_made_up(named: Option<&Arc<Named>>) -> bool {
    named.is_some_and(|named| matches!(named.origin, Some(Origin::MadeUp)))
}

fn details(attributes: source::Attributes) -> Details {
    let source::Attributes { link_target, xattrs, flags, problems } = attributes;
    Details { link_target, xattrs, flags, problems }
}

/// The names of a directory and the paths that lead on from it, in step, each looked at when its turn comes.
struct Walk {
    inner: Arc<Inner>,
    listing: Listing,
    next: usize,
    problems_told: usize,
    named: std::iter::Peekable<std::vec::IntoIter<CString>>,
}

impl Walk {
    fn entry(&self, name: &CStr) -> Option<Result<SourceEntry, Unreadable>> {
        let bytes = name.to_bytes();
        let named = self.inner.named(bytes);
        if self.inner.excluded_by_name(bytes, named) {
            return None;
        }
        match self.inner.look(name, named) {
            Ok(metadata) => {
                let descend = self.inner.judge(bytes, named, &metadata)?.descend;
                Some(Ok(SourceEntry { name: bytes.to_vec(), metadata, descend }))
            }
            Err(error) => Some(Err(Unreadable { name: bytes.to_vec(), during: "looking at the entry", error })),
        }
    }
}

impl Iterator for Walk {
    type Item = Result<SourceEntry, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(problem) = self.inner.problems.get(self.problems_told) {
            self.problems_told += 1;
            return Some(Err(problem.unreadable()));
        }
        loop {
            let listed = self.listing.name(self.next);
            let entry = match self.named.next_if(|named| listed.is_none_or(|listed| named.as_c_str() <= listed)) {
                Some(named) => {
                    let also_listed = listed == Some(named.as_c_str());
                    self.next += usize::from(also_listed);
                    self.entry(&named)
                }
                None => {
                    let Some(listed) = listed else {
                        let error = self.listing.take_failure()?;
                        return Some(Err(Unreadable { name: Vec::new(), during: "reading the directory", error }));
                    };
                    let entry = self.entry(listed);
                    self.next += 1;
                    entry
                }
            };
            if let Some(entry) = entry {
                return Some(entry);
            }
        }
    }
}

/// An open file of this machine.
#[derive(Debug)]
struct LocalFile {
    file: OpenFile,
    shared: Arc<Shared>,
    /// Of a device that is read: what it is stored as.
    device: Option<Box<Metadata>>,
}

impl SourceFile for LocalFile {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buffer)
    }

    fn next_data(&mut self, offset: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
        self.file.next_data(offset, size)
    }

    fn metadata(&mut self) -> io::Result<Metadata> {
        match &self.device {
            Some(device) => Ok((**device).clone()),
            None => self.shared.looker.look_through(&self.file),
        }
    }

    fn details(&mut self) -> io::Result<Details> {
        // A device's node has no attributes that an image of it should have, and its flags would be asked of its driver.
        match self.device {
            Some(_) => Ok(Details::default()),
            None => Ok(details(source::attributes_of_file(&self.file))),
        }
    }
}
