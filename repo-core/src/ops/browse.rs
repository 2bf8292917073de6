//! All snapshots as one tree of directories, to be walked, listed and read piece by piece, in any order and by many threads
//! at once. It knows nothing of who asks: a mount, a server and a test see the same.

mod content;
mod handles;
mod layout;
mod pages;
mod template;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use template::PathTemplate;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use content::Contents;
use handles::Handles;
use layout::{Layout, Numbers, Standing};
use pages::Pages;

use super::lookup::{DEPTH_MAX, check_node, root, subtree};
use crate::error::{Corruption, Error, Result};
use crate::format::tree::{Node, NodeKind, Subtree};
use crate::id::SnapshotId;
use crate::pipeline::lock;
use crate::platform::target::as_path;
use crate::repository::{Repository, Snapshot, SnapshotFilter};
use crate::store::Store;

/// The number of the top.
const TOP: u64 = 1;
/// Beside snapshots that are called by their time: the newest of them.
const NAME_OF_LATEST: &[u8] = b"latest";
/// Entries of a directory above the snapshots that are listed at a time.
const LISTED_MAX: usize = 1024;

/// How a time is written.
type TimeName = dyn Fn(&Snapshot) -> String + Send + Sync;

/// What is shown, and where.
#[derive(Clone)]
#[non_exhaustive]
pub struct BrowseOptions {
    /// Which snapshots.
    pub filter: SnapshotFilter,
    /// Where each of them is.
    pub templates: Vec<PathTemplate>,
    /// What `%T` stands for; a `/` in it leads into a directory.
    time_name: Arc<TimeName>,
}

impl fmt::Debug for BrowseOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrowseOptions").field("filter", &self.filter).field("templates", &self.templates).finish()
    }
}

impl BrowseOptions {
    /// All snapshots, at `ids/%i`, `snapshots/%T`, `hosts/%h/%T` and `tags/%t/%T`. The library knows no calendar: how the
    /// time of a snapshot is written is the caller's to say.
    pub fn new(time_name: impl Fn(&Snapshot) -> String + Send + Sync + 'static) -> Self {
        let templates = ["ids/%i", "snapshots/%T", "hosts/%h/%T", "tags/%t/%T"];
        let templates = templates.map(|text| text.parse().expect("these are templates")).to_vec();
        Self { filter: SnapshotFilter::default(), templates, time_name: Arc::new(time_name) }
    }

    /// Only these snapshots.
    pub fn filter(mut self, filter: SnapshotFilter) -> Self {
        self.filter = filter;
        self
    }

    /// At these places instead.
    pub fn templates(mut self, templates: Vec<PathTemplate>) -> Self {
        self.templates = templates;
        self
    }
}

/// All snapshots of a repository, as directories. Memory: what describes the snapshots, a few decoded pages of directories
/// (about 20 MB at most), the frames that the store keeps, and what is [remembered](Self::remember).
pub struct Browser {
    repository: Repository,
    store: Arc<Store>,
    options: BrowseOptions,
    average_chunk_bytes: u32,
    numbers: Numbers,
    layout: RwLock<Arc<Layout>>,
    /// What is under the names of snapshots, as far as it was read: it never changes. `None`: nothing that is shown, a
    /// fence or a snapshot that was forgotten.
    known: Mutex<BTreeMap<SnapshotId, Option<Arc<Snapshot>>>>,
    pages: Pages,
    contents: Contents,
    handles: Handles,
}

impl fmt::Debug for Browser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Browser({:?})", self.store)
    }
}

/// Something with a name: cheap to clone, and as it was when it was found.
#[derive(Debug, Clone)]
pub struct Item {
    place: Place,
    number: u64,
}

#[derive(Debug, Clone)]
enum Place {
    Hall { above: u64, name: Vec<u8>, changed_ns: i64 },
    Link { above: u64, name: Vec<u8>, target: Vec<u8>, changed_ns: i64 },
    Top(Arc<Directory>),
    Entry { home: Arc<Directory>, node: Arc<Node> },
}

/// What an item is.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum ItemKind<'i> {
    /// A directory above the snapshots.
    Directory {
        /// When the newest snapshot below it was begun, in nanoseconds since 1970 UTC; 0 if there is none.
        changed_ns: i64,
    },
    /// A symlink beside snapshots, to the newest of them.
    Latest {
        /// What it leads to, from where it is.
        target: &'i [u8],
        /// As of a directory.
        changed_ns: i64,
    },
    /// The top of a snapshot: a directory.
    Snapshot(&'i Snapshot),
    /// An entry of a snapshot.
    Entry(&'i Node),
}

/// A directory of a snapshot, at one of the snapshot's places.
#[derive(Debug)]
struct Directory {
    number: u64,
    snapshot: Arc<Snapshot>,
    tree: Option<Subtree>,
    /// Its name; of a top the whole path from the top of all.
    name: Vec<u8>,
    /// The number of the one it is in.
    above_number: u64,
    /// The one it is in; `None`: it is a snapshot's top.
    above: Option<Arc<Directory>>,
    depth: usize,
}

impl Directory {
    fn top(number: u64, above_number: u64, name: Vec<u8>, snapshot: Arc<Snapshot>) -> Self {
        Self { number, tree: root(&snapshot), snapshot, name, above_number, above: None, depth: 0 }
    }

    /// The number of the snapshot's top.
    fn top_number(&self) -> u64 {
        let mut at = self;
        while let Some(above) = &at.above {
            at = above;
        }
        at.number
    }
}

/// One after the other: a chain of thousands would need a stack as deep.
impl Drop for Directory {
    fn drop(&mut self) {
        let mut above = self.above.take();
        while let Some(directory) = above {
            above = Arc::into_inner(directory).and_then(|mut directory| directory.above.take());
        }
    }
}

impl Item {
    fn top(top: Arc<Directory>) -> Self {
        Self { number: top.number, place: Place::Top(top) }
    }

    /// Stays the same as long as the browser does, and is no other item's; names of one file have the same. Never 0; 1 is
    /// the top's.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The number of the directory it is in; the top is in itself.
    pub fn above(&self) -> u64 {
        match &self.place {
            Place::Hall { above, .. } | Place::Link { above, .. } => *above,
            Place::Top(top) => top.above_number,
            Place::Entry { home, .. } => home.number,
        }
    }

    /// Its name in that directory, raw bytes; of the top none.
    pub fn name(&self) -> &[u8] {
        match &self.place {
            Place::Hall { name, .. } | Place::Link { name, .. } => name,
            Place::Top(top) => top.name.rsplit(|byte| *byte == b'/').next().unwrap_or_default(),
            Place::Entry { node, .. } => &node.name,
        }
    }

    /// What it is.
    pub fn kind(&self) -> ItemKind<'_> {
        match &self.place {
            Place::Hall { changed_ns, .. } => ItemKind::Directory { changed_ns: *changed_ns },
            Place::Link { target, changed_ns, .. } => ItemKind::Latest { target, changed_ns: *changed_ns },
            Place::Top(top) => ItemKind::Snapshot(&top.snapshot),
            Place::Entry { node, .. } => ItemKind::Entry(node),
        }
    }

    fn node(&self) -> Option<&Arc<Node>> {
        match &self.place {
            Place::Entry { node, .. } => Some(node),
            _ => None,
        }
    }
}

/// A stretch of a directory.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ItemList {
    /// Ascending by name.
    pub items: Vec<Item>,
    /// Names that nothing can have, or nodes that are nothing: what is wrong with each.
    pub left_out: Vec<(Vec<u8>, &'static str)>,
    /// The name from which the next stretch goes on; `None`: this is the last.
    pub next: Option<Vec<u8>>,
}

impl Repository {
    /// Shows the snapshots there are now as directories; [`Browser::refresh`] shows those that come.
    ///
    /// # Errors
    /// The list or the index cannot be read. A snapshot that cannot be read is left out: `refresh` names it.
    ///
    /// # Example
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{Memory, InitOptions, ReaderSource, Repository, Secret};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// use repo_core::{BackupOptions, BrowseOptions, Silent};
    ///
    /// # let source = ReaderSource::new("/notes/today".as_ref(), &b"buy milk"[..]);
    /// # repository.backup(&source, &BackupOptions::new().host("laptop"), &Silent)?;
    /// let browser = repository.browse(BrowseOptions::new(|snapshot| format!("at {}", snapshot.record().start_ns)))?;
    /// let mut item = browser.top();
    /// for name in [&b"hosts"[..], b"laptop"] {
    ///     item = browser.find(&item, name)?.expect("it is there");
    /// }
    /// let newest = browser.list(&item, b"")?.items.into_iter().next().expect("a snapshot");
    /// let notes = browser.find(&newest, b"notes")?.expect("it is there");
    /// let today = browser.find(&notes, b"today")?.expect("it is there");
    /// assert_eq!(browser.read(&today, 4, 100)?, b"milk");
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    pub fn browse(&self, options: BrowseOptions) -> Result<Browser> {
        let numbers = Numbers::default();
        let layout = Layout::new(&[], &options.templates, &*options.time_name, &numbers);
        let browser = Browser {
            store: self.fresh_store()?,
            repository: self.clone(),
            options,
            average_chunk_bytes: self.config().chunker.average_bytes,
            numbers,
            layout: RwLock::new(Arc::new(layout)),
            known: Mutex::default(),
            pages: Pages::default(),
            contents: Contents::default(),
            handles: Handles::default(),
        };
        browser.refresh()?;
        Ok(browser)
    }
}

impl Browser {
    /// Lists the snapshots again and shows what came and not what went; what was found in one that went stays as it was.
    /// Only those that are new are read. Gives the reasons why some cannot be shown.
    pub fn refresh(&self) -> Result<Vec<Error>> {
        // Held all the while: who asks at the same time wants what comes of it.
        let mut known = lock(&self.known);
        let ids: BTreeSet<SnapshotId> = self.repository.snapshot_ids()?.into_iter().collect();
        let forgotten = self.repository.forgotten_ids()?;
        let mut unreadable = Vec::new();
        known.retain(|id, _| ids.contains(id));
        for id in &ids {
            let is_nothing = matches!(known.get(id), Some(None));
            if forgotten.contains(id) && !is_nothing && self.is_hidden(*id, &mut unreadable)? {
                known.insert(*id, None);
            }
            if known.contains_key(id) {
                continue;
            }
            match self.repository.read_published(*id) {
                Ok(snapshot) => _ = known.insert(*id, snapshot.map(Arc::new)),
                // Gone since it was listed.
                Err(Error::Corrupt { problem: Corruption::Missing, .. }) => {}
                Err(error @ Error::Corrupt { .. }) => unreadable.push(error),
                Err(error) => return Err(error),
            }
        }
        let mut shown: Vec<Arc<Snapshot>> = known.values().flatten().cloned().collect();
        shown.retain(|snapshot| self.options.filter.matches(snapshot.record()));
        shown.sort_by_key(|snapshot| (snapshot.record().end_ns, snapshot.record().sequence, snapshot.id()));
        let layout = Layout::new(&shown, &self.options.templates, &*self.options.time_name, &self.numbers);
        *self.layout.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(layout);
        Ok(unreadable)
    }

    /// Whether a forget record says so. One that cannot be read hides nothing.
    fn is_hidden(&self, id: SnapshotId, unreadable: &mut Vec<Error>) -> Result<bool> {
        match self.repository.read_forgotten(id) {
            Ok(_) => Ok(true),
            Err(Error::Corrupt { problem: Corruption::Missing, .. }) => Ok(false),
            Err(error @ Error::Corrupt { .. }) => {
                unreadable.push(error);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn layout(&self) -> Arc<Layout> {
        self.layout.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Entries and bytes of all snapshots, as if they shared nothing.
    pub fn totals(&self) -> (u64, u64) {
        let layout = self.layout();
        (layout.entries, layout.bytes)
    }

    /// Where everything begins.
    pub fn top(&self) -> Item {
        let changed_ns = self.layout().halls.get(&TOP).map_or(0, |hall| hall.changed_ns);
        Item { number: TOP, place: Place::Hall { above: TOP, name: Vec::new(), changed_ns } }
    }

    /// What has this name in a directory; `None`: nothing.
    ///
    /// # Errors
    /// [`Error::Path`] if it is no directory, or if what has the name is malformed; what cannot be read.
    pub fn find(&self, directory: &Item, name: &[u8]) -> Result<Option<Item>> {
        if let Place::Hall { .. } = directory.place {
            let layout = self.layout();
            let standing = layout.halls.get(&directory.number).and_then(|hall| hall.entries.get(name));
            return Ok(standing.map(|standing| shown(&layout, directory.number, name, standing)));
        }
        self.entry_of(&self.directory(directory)?, name)
    }

    /// The entries of a directory whose names are `from` or come after it (empty: all), as many as come at once. Who goes on
    /// with [`ItemList::next`] meets each once.
    ///
    /// # Errors
    /// As of [`find`](Self::find); what is malformed is left out, and named.
    pub fn list(&self, directory: &Item, from: &[u8]) -> Result<ItemList> {
        let mut listed = ItemList::default();
        if let Place::Hall { .. } = directory.place {
            let layout = self.layout();
            let Some(hall) = layout.halls.get(&directory.number) else { return Ok(listed) };
            for (name, standing) in hall.entries.range(from.to_vec()..) {
                if listed.items.len() == LISTED_MAX {
                    listed.next = Some(name.clone());
                    break;
                }
                listed.items.push(shown(&layout, directory.number, name, standing));
            }
            return Ok(listed);
        }
        let home = self.directory(directory)?;
        let Some(tree) = &home.tree else { return Ok(listed) };
        let page = self.pages.get(&self.store, tree, from)?;
        for node in &page.nodes[page.position(from)..] {
            match check_node(node) {
                Ok(()) => listed.items.push(self.item_of(&home, node)),
                Err(problem) => listed.left_out.push((node.name.clone(), problem)),
            }
        }
        listed.next.clone_from(&page.next);
        Ok(listed)
    }

    /// Its names from the top on, each with a `/` before it.
    pub fn path(&self, item: &Item) -> Vec<u8> {
        let mut names: Vec<&[u8]> = Vec::new();
        let mut at = match &item.place {
            Place::Hall { above, name, .. } | Place::Link { above, name, .. } => {
                return [b"/".as_slice(), &self.layout().path(*above, name)].concat();
            }
            Place::Top(top) => Some(top),
            Place::Entry { home, node } => {
                names.push(node.name.as_slice());
                Some(home)
            }
        };
        while let Some(directory) = at {
            names.push(&directory.name);
            at = directory.above.as_ref();
        }
        names.iter().rev().flat_map(|name| [b"/".as_slice(), name].concat()).collect()
    }

    /// What is found in it.
    fn directory(&self, item: &Item) -> Result<Arc<Directory>> {
        let refuse = |problem| Err(Error::Path { path: as_path(&self.path(item)).to_owned(), problem });
        let (home, node) = match &item.place {
            Place::Top(top) => return Ok(top.clone()),
            Place::Entry { home, node } => (home, node),
            Place::Hall { .. } | Place::Link { .. } => return refuse("is not a directory"),
        };
        if node.metadata.kind != NodeKind::Directory {
            return refuse("is not a directory");
        }
        if home.depth >= DEPTH_MAX {
            return Err(Error::Limit { what: "the depth of directories".to_owned(), limit: DEPTH_MAX as u64 });
        }
        Ok(Arc::new(Directory {
            number: item.number,
            snapshot: home.snapshot.clone(),
            tree: subtree(node),
            name: node.name.clone(),
            above_number: home.number,
            above: Some(home.clone()),
            depth: home.depth + 1,
        }))
    }

    fn entry_of(&self, home: &Arc<Directory>, name: &[u8]) -> Result<Option<Item>> {
        let Some(tree) = &home.tree else { return Ok(None) };
        let page = self.pages.get(&self.store, tree, name)?;
        let Some(node) = page.node(name) else { return Ok(None) };
        let item = self.item_of(home, node);
        match check_node(node) {
            Ok(()) => Ok(Some(item)),
            Err(problem) => Err(Error::Path { path: as_path(&self.path(&item)).to_owned(), problem }),
        }
    }

    fn item_of(&self, home: &Arc<Directory>, node: &Arc<Node>) -> Item {
        let metadata = &node.metadata;
        let is_linked = metadata.links > 1 && metadata.kind != NodeKind::Directory;
        let number = match is_linked {
            true => self.numbers.linked(home.top_number(), metadata),
            false => self.numbers.named(home.number, &node.name),
        };
        Item { number, place: Place::Entry { home: home.clone(), node: node.clone() } }
    }

    /// A directory or a `latest` above the snapshots, by its number.
    fn above_snapshots(&self, number: u64) -> Option<Item> {
        let layout = self.layout();
        if let Some(hall) = layout.halls.get(&number) {
            return Some(shown(&layout, hall.above, &hall.name, &Standing::Directory(number)));
        }
        let (hall, name) = layout.links.get(&number)?;
        let standing = layout.halls.get(hall)?.entries.get(name)?;
        Some(shown(&layout, *hall, name, standing))
    }
}

/// What stands in a directory above the snapshots.
fn shown(layout: &Layout, above: u64, name: &[u8], standing: &Standing) -> Item {
    let changed_ns = |hall| layout.halls.get(hall).map_or(0, |hall| hall.changed_ns);
    let name = name.to_vec();
    match standing {
        Standing::Snapshot(top) => Item::top(top.clone()),
        Standing::Directory(number) => {
            Item { number: *number, place: Place::Hall { above, name, changed_ns: changed_ns(number) } }
        }
        Standing::Link(number, target) => {
            let changed_ns = changed_ns(&above);
            Item { number: *number, place: Place::Link { above, name, target: target.clone(), changed_ns } }
        }
    }
}
