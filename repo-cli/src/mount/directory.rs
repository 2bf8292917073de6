//! A directory that a program has open: which entry is at which place, though the library tells them by name, a page at a
//! time. A program may go back to any place it was told.

use repo_core::{Browser, Item, Result};

/// Entries between two places that are remembered by name: 50 KB for a directory of a million.
const ANCHOR_EVERY: u64 = 1024;

/// Where a reader of a directory is, and the page around it.
#[derive(Debug)]
pub struct OpenDirectory {
    pub directory: Item,
    /// Places that pages begin at, ascending, with the name each begins with.
    anchors: Vec<(u64, Vec<u8>)>,
    page: Option<Page>,
}

#[derive(Debug)]
struct Page {
    begins: u64,
    items: Vec<Item>,
    left_out: Vec<(Vec<u8>, &'static str)>,
    next: Option<Vec<u8>>,
}

impl Page {
    fn ends(&self) -> u64 {
        self.begins + self.items.len() as u64
    }
}

impl OpenDirectory {
    pub fn new(directory: Item) -> Self {
        Self { directory, anchors: vec![(0, Vec::new())], page: None }
    }

    /// The entry at a place, counted from 0; `None`: it is behind the last.
    pub fn at(&mut self, browser: &Browser, place: u64) -> Result<Option<&Item>> {
        loop {
            let (begins, from) = match &self.page {
                Some(page) if page.begins <= place && place < page.ends() => break,
                // The page behind this one.
                Some(page) if page.ends() <= place && self.nearest(place).0 <= page.begins => match &page.next {
                    Some(next) => (page.ends(), next.clone()),
                    None => return Ok(None),
                },
                _ => self.nearest(place).clone(),
            };
            let listed = browser.list(&self.directory, &from)?;
            if self.anchors.last().is_some_and(|(last, _)| begins >= last + ANCHOR_EVERY) {
                self.anchors.push((begins, from));
            }
            self.page = Some(Page { begins, items: listed.items, left_out: listed.left_out, next: listed.next });
        }
        let page = self.page.as_ref();
        Ok(page.and_then(|page| page.items.get(usize::try_from(place - page.begins).ok()?)))
    }

    /// What the page at hand leaves out; told once.
    pub fn take_left_out(&mut self) -> Vec<(Vec<u8>, &'static str)> {
        self.page.as_mut().map(|page| std::mem::take(&mut page.left_out)).unwrap_or_default()
    }

    /// The last place remembered that is not behind this one.
    fn nearest(&self, place: u64) -> &(u64, Vec<u8>) {
        let after = self.anchors.partition_point(|(begins, _)| *begins <= place);
        &self.anchors[after.max(1) - 1]
    }
}
