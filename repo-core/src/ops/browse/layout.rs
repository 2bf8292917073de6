//! The directories above the snapshots: which there are and what is in them, for one list of snapshots. Pure.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::template::{Path, PathTemplate};
use super::{Directory, NAME_OF_LATEST, TOP};
use crate::format::tree::Metadata;
use crate::repository::Snapshot;

/// Numbers of what is shown, 64 bits each. They follow from where a thing is, so that one that was forgotten has the same
/// number when it is met again. A secret of this process takes part: with it left out, somebody who backs up files here
/// could find names whose numbers are the same, and have one file shown in the place of another.
#[derive(Debug, Default)]
pub(super) struct Numbers(RandomState);

impl Numbers {
    /// Of what has this name in a directory.
    pub fn named(&self, directory: u64, name: &[u8]) -> u64 {
        usable(self.0.hash_one((0u8, directory, name)))
    }

    /// Of a snapshot at one of its places: another if another snapshot is there later.
    pub fn top(&self, directory: u64, name: &[u8], snapshot: &Snapshot) -> u64 {
        usable(self.0.hash_one((1u8, directory, name, snapshot.id())))
    }

    /// Of a file that has several names in what is below `top`, whichever of them it is met by.
    pub fn linked(&self, top: u64, metadata: &Metadata) -> u64 {
        let what = (metadata.kind as u8, metadata.size, metadata.modified);
        usable(self.0.hash_one((2u8, top, metadata.device, metadata.inode, what)))
    }
}

/// 0 is no number, 1 is the top.
fn usable(number: u64) -> u64 {
    if number > TOP { number } else { number + 2 }
}

/// What stands in a directory above the snapshots.
#[derive(Debug, Clone)]
pub(super) enum Standing {
    /// Another one, by its number.
    Directory(u64),
    /// The top of a snapshot.
    Snapshot(Arc<Directory>),
    /// `latest`: its number, and what it leads to.
    Link(u64, Vec<u8>),
}

/// A directory above the snapshots.
#[derive(Debug)]
pub(super) struct Hall {
    /// The one it is in; the top is in itself.
    pub above: u64,
    pub name: Vec<u8>,
    pub entries: BTreeMap<Vec<u8>, Standing>,
    /// When the newest snapshot below it was begun, in nanoseconds since 1970 UTC; 0 if there is none.
    pub changed_ns: i64,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Layout {
    pub halls: HashMap<u64, Hall>,
    /// The `latest`s, by their number: the directory each is in, and its name there.
    pub links: HashMap<u64, (u64, Vec<u8>)>,
    /// Of all snapshots, as if they shared nothing.
    pub entries: u64,
    pub bytes: u64,
}

impl Layout {
    /// For snapshots of which the newest comes last.
    pub fn new(
        snapshots: &[Arc<Snapshot>],
        templates: &[PathTemplate],
        time_name: &dyn Fn(&Snapshot) -> String,
        numbers: &Numbers,
    ) -> Self {
        let top = Hall { above: TOP, name: Vec::new(), entries: BTreeMap::new(), changed_ns: 0 };
        let halls = HashMap::from([(TOP, top)]);
        let mut layout = Self { halls, links: HashMap::new(), entries: 0, bytes: 0 };
        for template in templates {
            template.fixed().into_iter().fold(TOP, |hall, name| layout.hall_in(hall, name, numbers));
        }
        // The directories that have a `latest`, and what it leads to: the last one wins.
        let mut latest = HashMap::new();
        for snapshot in snapshots {
            let time = time_name(snapshot);
            for path in templates.iter().flat_map(|template| template.paths(snapshot.record(), &time)) {
                layout.place(snapshot, path, &mut latest, numbers);
            }
            layout.entries = layout.entries.saturating_add(snapshot.record().root.entries);
            layout.bytes = layout.bytes.saturating_add(snapshot.record().root.bytes);
        }
        for (hall, target) in latest {
            // Another one if it leads elsewhere: what is asked of a number once need not be asked again.
            let number = numbers.named(hall, &[NAME_OF_LATEST, b"\0", &target].concat());
            let entries = &mut layout.hall(hall).entries;
            // A host or a tag of that name stays what it is.
            if !entries.contains_key(NAME_OF_LATEST) {
                entries.insert(NAME_OF_LATEST.to_vec(), Standing::Link(number, target));
                layout.links.insert(number, (hall, NAME_OF_LATEST.to_vec()));
            }
        }
        layout
    }

    fn place(&mut self, snapshot: &Arc<Snapshot>, path: Path, latest: &mut HashMap<u64, Vec<u8>>, numbers: &Numbers) {
        let mut hall = TOP;
        let mut of_latest = None;
        let mut names = path.names;
        let Some(last) = names.pop() else { return };
        for depth in 0..names.len() {
            if path.time_names > 0 && depth + path.time_names == names.len() + 1 {
                of_latest = Some((hall, depth));
            }
            hall = self.hall_in(hall, std::mem::take(&mut names[depth]), numbers);
            names[depth].clone_from(&self.hall(hall).name);
        }
        if path.time_names == 1 {
            of_latest = Some((hall, names.len()));
        }
        let name = self.vacant(hall, last);
        let number = numbers.top(hall, &name, snapshot);
        let top = Arc::new(Directory::top(number, hall, self.path(hall, &name), snapshot.clone()));
        self.hall(hall).entries.insert(name.clone(), Standing::Snapshot(top));
        // As where one is selected, a partial one is found by its name alone.
        if let Some((hall, depth)) = of_latest.filter(|_| !snapshot.is_partial()) {
            latest
                .insert(hall, names[depth..].iter().chain([&name]).map(Vec::as_slice).collect::<Vec<_>>().join(&b'/'));
        }
        let mut above = hall;
        loop {
            let hall = self.hall(above);
            hall.changed_ns = hall.changed_ns.max(snapshot.record().start_ns);
            if above == TOP {
                break;
            }
            above = hall.above;
        }
    }

    fn hall(&mut self, number: u64) -> &mut Hall {
        self.halls.get_mut(&number).expect("numbers are given to halls that are kept")
    }

    /// The directory of that name in another, made if it is not there.
    fn hall_in(&mut self, above: u64, name: Vec<u8>, numbers: &Numbers) -> u64 {
        let name = match self.hall(above).entries.get(&name) {
            Some(Standing::Directory(number)) => return *number,
            // A snapshot stands where another template has a directory.
            Some(_) => self.vacant(above, name),
            None => name,
        };
        let number = numbers.named(above, &name);
        self.hall(above).entries.insert(name.clone(), Standing::Directory(number));
        self.halls.insert(number, Hall { above, name, entries: BTreeMap::new(), changed_ns: 0 });
        number
    }

    /// The name, or with a number behind it if something has it already.
    fn vacant(&mut self, hall: u64, name: Vec<u8>) -> Vec<u8> {
        let entries = &self.hall(hall).entries;
        let numbered = |number: u64| [name.as_slice(), format!("-{number}").as_bytes()].concat();
        let free = |name: &Vec<u8>| !entries.contains_key(name);
        if free(&name) { name } else { (1..).map(numbered).find(free).expect("there are more numbers than entries") }
    }

    /// The names from the top to an entry, `/` between them.
    pub fn path(&self, hall: u64, name: &[u8]) -> Vec<u8> {
        let mut names = vec![name];
        let mut at = hall;
        while at != TOP {
            let Some(hall) = self.halls.get(&at) else { break };
            names.push(&hall.name);
            at = hall.above;
        }
        names.reverse();
        names.join(&b'/')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::browse::testing::snapshot;

    /// Everything there is, as paths; links with what they lead to.
    fn shown(layout: &Layout) -> Vec<String> {
        let mut found = Vec::new();
        for (number, hall) in &layout.halls {
            for (name, standing) in &hall.entries {
                let path = String::from_utf8(layout.path(*number, name)).expect("text");
                found.push(match standing {
                    Standing::Directory(_) => format!("{path}/"),
                    Standing::Snapshot(top) => format!("{path} = {}", top.snapshot.record().sequence),
                    Standing::Link(_, target) => format!("{path} -> {}", String::from_utf8_lossy(target)),
                });
            }
        }
        found.sort();
        found
    }

    fn layout(snapshots: &[Arc<Snapshot>], templates: &[&str], numbers: &Numbers) -> Layout {
        let templates: Vec<PathTemplate> = templates.iter().map(|text| text.parse().expect(text)).collect();
        Layout::new(snapshots, &templates, &|snapshot| format!("t{}", snapshot.record().start_ns), numbers)
    }

    #[test]
    fn latest_passes_over_what_is_partial() {
        let mut partial = snapshot(2, 20, "a").record().clone();
        partial.flags = crate::format::snapshot::FLAG_PARTIAL;
        let partial = Arc::new(Snapshot { record: partial });
        let one = layout(&[snapshot(1, 10, "a"), partial.clone()], &["s/%T"], &Numbers::default());
        assert_eq!(shown(&one), ["s/", "s/latest -> t10", "s/t10 = 1", "s/t20 = 2"]);
        assert_eq!(shown(&layout(&[partial], &["s/%T"], &Numbers::default())), ["s/", "s/t20 = 2"]);
    }

    #[test]
    fn latest_leads_to_the_newest_beside_it_and_two_of_one_time_are_told_apart() {
        let snapshots = [snapshot(1, 10, "a"), snapshot(2, 20, "b"), snapshot(3, 20, "a")];
        let layout = layout(&snapshots, &["s/%T", "hosts/%h/%T"], &Numbers::default());
        let expected = [
            "hosts/",
            "hosts/a/",
            "hosts/a/latest -> t20",
            "hosts/a/t10 = 1",
            "hosts/a/t20 = 3",
            "hosts/b/",
            "hosts/b/latest -> t20",
            "hosts/b/t20 = 2",
            "s/",
            "s/latest -> t20-1",
            "s/t10 = 1",
            "s/t20 = 2",
            "s/t20-1 = 3",
        ];
        assert_eq!(shown(&layout), expected);
        assert_eq!(layout.halls[&TOP].changed_ns, 20);
    }

    #[test]
    fn a_time_may_be_directories_within_one_another() {
        let templates = ["s/%T".parse().expect("a template")];
        let snapshots = [snapshot(1, 10, "a"), snapshot(2, 20, "a")];
        let time = |snapshot: &Snapshot| format!("y/{}/t", snapshot.record().start_ns);
        let layout = Layout::new(&snapshots, &templates, &time, &Numbers::default());
        let expected = ["s/", "s/latest -> y/20/t", "s/y/", "s/y/10/", "s/y/10/t = 1", "s/y/20/", "s/y/20/t = 2"];
        assert_eq!(shown(&layout), expected);
    }

    #[test]
    fn without_snapshots_the_directories_are_there() {
        assert_eq!(shown(&layout(&[], &["s/%T", "hosts/%h/%T", "%i"], &Numbers::default())), ["hosts/", "s/"]);
    }

    #[test]
    fn templates_that_meet_at_one_name_both_show_their_snapshots() {
        let layout = layout(&[snapshot(1, 10, "latest")], &["%h", "%h/%T", "x/%h", "x/%T"], &Numbers::default());
        let expected = [
            "latest = 1",
            "latest-1/",
            "latest-1/latest -> t10",
            "latest-1/t10 = 1",
            "x/",
            "x/latest = 1",
            "x/t10 = 1",
        ];
        assert_eq!(shown(&layout), expected, "a host of that name keeps it");
    }

    #[test]
    fn numbers_stay_while_more_snapshots_come_and_are_never_those_of_the_top() {
        let numbers = Numbers::default();
        let one = layout(&[snapshot(1, 10, "a")], &["s/%T"], &numbers);
        let two = layout(&[snapshot(1, 10, "a"), snapshot(2, 20, "a")], &["s/%T"], &numbers);
        assert!(one.halls.keys().all(|number| two.halls.contains_key(number)));
        let number = |layout: &Layout, name: &[u8]| {
            layout.halls.values().find_map(|hall| match hall.entries.get(name) {
                Some(Standing::Snapshot(top)) => Some(top.number),
                _ => None,
            })
        };
        assert_eq!(number(&one, b"t10").expect("shown"), number(&two, b"t10").expect("shown"));
        let other = layout(&[snapshot(3, 10, "a")], &["s/%T"], &numbers);
        assert_ne!(number(&one, b"t10"), number(&other, b"t10"), "another snapshot in its place is another thing");
        assert_eq!((usable(0), usable(1), usable(2), usable(3)), (2, 3, 2, 3));
    }
}
