//! Leaves of directories, decoded, the last few that were asked for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use crate::error::Result;
use crate::format::tree::{Node, Subtree};
use crate::id::ChunkId;
use crate::pipeline::lock;
use crate::store::Store;
use crate::tree;

/// Pages that are kept: enough for a walk to a depth of 30 with a page of each directory.
const PAGES_MAX: usize = 32;
/// Nodes of all of them: about 20 MB, whatever a page holds.
const NODES_MAX: usize = 32_768;

/// Which names a page answers for, and what there is of them.
#[derive(Debug)]
pub(super) struct Page {
    /// The directory's root node.
    root: ChunkId,
    from: Vec<u8>,
    /// Ascending by name.
    pub nodes: Vec<Arc<Node>>,
    /// Where the next one begins.
    pub next: Option<Vec<u8>>,
}

impl Page {
    fn answers(&self, root: &ChunkId, name: &[u8]) -> bool {
        self.root == *root
            && self.from.as_slice() <= name
            && self.next.as_ref().is_none_or(|next| name < next.as_slice())
    }

    /// Where the first name is that is `name` or comes after it.
    pub fn position(&self, name: &[u8]) -> usize {
        self.nodes.partition_point(|node| node.name.as_slice() < name)
    }

    /// What has this name.
    pub fn node(&self, name: &[u8]) -> Option<&Arc<Node>> {
        self.nodes.get(self.position(name)).filter(|node| node.name == name)
    }
}

/// The last ones first.
#[derive(Debug, Default)]
pub(super) struct Pages(Mutex<VecDeque<Arc<Page>>>);

impl Pages {
    /// The page of a directory that answers for a name.
    pub fn get(&self, store: &Store, directory: &Subtree, name: &[u8]) -> Result<Arc<Page>> {
        if let Some(page) = self.kept(&directory.root, name) {
            return Ok(page);
        }
        // Not under the lock: a page may come from far away. Two who want the same one both fetch it.
        let tree::Page { from, nodes, next } = tree::page(store, Some(directory), name)?;
        let nodes = nodes.into_iter().map(Arc::new).collect();
        let page = Arc::new(Page { root: directory.root, from, nodes, next });
        self.keep(page.clone());
        Ok(page)
    }

    fn kept(&self, root: &ChunkId, name: &[u8]) -> Option<Arc<Page>> {
        let mut pages = lock(&self.0);
        let position = pages.iter().position(|page| page.answers(root, name))?;
        let page = pages.remove(position)?;
        pages.push_front(page.clone());
        Some(page)
    }

    fn keep(&self, page: Arc<Page>) {
        let mut pages = lock(&self.0);
        pages.push_front(page);
        let nodes = |pages: &VecDeque<Arc<Page>>| pages.iter().map(|page| page.nodes.len()).sum::<usize>();
        while pages.len() > 1 && (pages.len() > PAGES_MAX || nodes(&pages) > NODES_MAX) {
            pages.pop_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(root: u8, from: &[u8], next: Option<&[u8]>) -> Arc<Page> {
        let next = next.map(<[u8]>::to_vec);
        Arc::new(Page { root: ChunkId([root; 32]), from: from.to_vec(), nodes: Vec::new(), next })
    }

    #[test]
    fn a_page_answers_for_its_own_names_of_its_own_directory() {
        let pages = Pages::default();
        pages.keep(page(1, b"", Some(b"m")));
        pages.keep(page(2, b"m", None));
        let has = |root, name: &[u8]| pages.kept(&ChunkId([root; 32]), name).is_some();
        assert!(has(1, b"") && has(1, b"lz") && !has(1, b"m"));
        assert!(has(2, b"m") && has(2, b"z") && !has(2, b"l") && !has(3, b"m"));
    }

    #[test]
    fn the_page_that_was_asked_for_longest_ago_goes_first() {
        let pages = Pages::default();
        let kept = |root: u8| pages.kept(&ChunkId([root; 32]), b"").is_some();
        for root in 0..PAGES_MAX as u8 {
            pages.keep(page(root, b"", None));
        }
        assert!(kept(0));
        pages.keep(page(200, b"", None));
        assert!(kept(0) && !kept(1) && kept(2) && kept(200));
    }
}
