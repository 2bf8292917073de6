//! What a check found: each damaged object once, and what needs it.

use std::collections::{BTreeSet, HashMap};

use crate::error::Error;
use crate::id::{ChunkId, ObjectName, PackId, SnapshotId};

/// Damaged objects, and what they touch, that are named one by one; of the rest there are counts.
pub(super) const NAMED_MAX: usize = 1000;

/// What a check found.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct CheckReport {
    /// Each damaged or missing object, named.
    pub errors: Vec<Error>,
    /// The same objects in the same order, each with the files and snapshots that need it.
    pub damage: Vec<Damage>,
    /// Errors beyond those: a repository that lost so much has them all for the same reason.
    pub unnamed_errors: u64,
    /// Harmless: foreign names, packs that no index names, sessions left by a crash.
    pub notes: Vec<String>,
    /// Snapshots whose trees were looked at.
    pub snapshots: u64,
    /// Packs that are there.
    pub packs: u64,
    /// Chunks that are stored.
    pub chunks: u64,
    /// Stored bytes of packs read.
    pub read_bytes: u64,
    /// Packs read.
    pub read_packs: u64,
    /// Packs that were to be read, and were not because the time was over ([`CheckOptions::until`](super::CheckOptions::until)).
    pub unread_packs: u64,
    /// Packs that are damaged or missing.
    pub damaged_packs: Vec<PackId>,
    /// Snapshots that refer to something lost.
    pub damaged_snapshots: Vec<SnapshotId>,
}

/// A damaged object, and what needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// Which one.
    pub object: Damaged,
    /// What is wrong with it, in words.
    pub problem: String,
    /// What it touches. Of all objects together a thousand, and at least one of each.
    pub touched: Vec<Touched>,
    /// How much it touches.
    pub touched_count: u64,
    /// The snapshots that need it, ascending.
    pub snapshots: Vec<SnapshotId>,
}

/// What is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Damaged {
    /// An object of the place.
    Object(ObjectName),
    /// A chunk: it is in no pack at all, or holds what no writer makes.
    Chunk(ChunkId),
}

/// An entry of a snapshot that needs what is damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Touched {
    /// In which snapshot.
    pub snapshot: SnapshotId,
    /// Raw bytes, beginning with `/`; `/` alone for the top.
    pub path: Vec<u8>,
    /// What it lost.
    pub loss: Loss,
}

/// What an entry lost.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// Some of a file's content.
    Content,
    /// Its extended attributes.
    Attributes,
    /// Entries of a directory, and all below those.
    Entries {
        /// Their names are this or come after it; empty for the directory's first.
        from: Vec<u8>,
        /// How many they are.
        count: u64,
    },
}

impl CheckReport {
    /// Whether everything looked at is whole.
    pub fn is_whole(&self) -> bool {
        self.errors.is_empty()
    }
}

/// What is being found: each damaged object once, whoever meets it.
#[derive(Debug, Default)]
pub(super) struct Findings {
    list: Vec<Finding>,
    numbers: HashMap<Damaged, usize>,
    unnamed: u64,
    named_touched: usize,
}

#[derive(Debug)]
struct Finding {
    object: Damaged,
    error: Error,
    touched: Vec<Touched>,
    touched_count: u64,
    snapshots: BTreeSet<SnapshotId>,
}

impl Findings {
    /// Names a damaged object, if it was not yet. `None`: there are too many, it is only counted.
    pub fn add(&mut self, object: Damaged, error: Error) -> Option<usize> {
        if let Some(number) = self.numbers.get(&object) {
            return Some(*number);
        }
        // Objects can be listed, so there are as many as there are; chunks can be anything a tree says.
        if matches!(object, Damaged::Chunk(_)) && self.list.len() >= NAMED_MAX {
            self.unnamed += 1;
            return None;
        }
        self.numbers.insert(object, self.list.len());
        self.list.push(Finding { object, error, touched: Vec::new(), touched_count: 0, snapshots: BTreeSet::new() });
        Some(self.list.len() - 1)
    }

    /// Names the object that the error is about.
    pub fn add_error(&mut self, error: Error) {
        if let Error::Corrupt { object, .. } = &error {
            self.add(Damaged::Object(*object), error);
        }
    }

    /// The number of an object that was named.
    pub fn number(&self, object: &Damaged) -> Option<usize> {
        self.numbers.get(object).copied()
    }

    /// A snapshot as a whole needs that object.
    pub fn touch_snapshot(&mut self, object: &Damaged, snapshot: SnapshotId) {
        if let Some(number) = self.numbers.get(object) {
            self.list[*number].snapshots.insert(snapshot);
        }
    }

    /// An entry needs that object.
    pub fn touch(&mut self, number: usize, touched: &Touched) {
        let finding = &mut self.list[number];
        finding.snapshots.insert(touched.snapshot);
        finding.touched_count += 1;
        if self.named_touched < NAMED_MAX || finding.touched.is_empty() {
            self.named_touched += 1;
            finding.touched.push(touched.clone());
        }
    }

    /// Takes away what does not matter to those who asked, and says how many that was.
    pub fn retain(&mut self, matters: impl Fn(&Damaged, bool) -> bool) -> usize {
        let before = self.list.len();
        self.list.retain(|finding| matters(&finding.object, !finding.snapshots.is_empty()));
        self.numbers = self.list.iter().enumerate().map(|(number, finding)| (finding.object, number)).collect();
        before - self.list.len()
    }

    /// Hands everything over.
    pub fn finish(self, report: &mut CheckReport) {
        let mut packs = BTreeSet::new();
        let mut snapshots = BTreeSet::new();
        for finding in self.list {
            if let Damaged::Object(ObjectName::Pack(_, id)) = finding.object {
                packs.insert(id);
            }
            snapshots.extend(&finding.snapshots);
            report.damage.push(Damage {
                object: finding.object,
                problem: finding.error.to_string(),
                touched: finding.touched,
                touched_count: finding.touched_count,
                snapshots: finding.snapshots.into_iter().collect(),
            });
            report.errors.push(finding.error);
        }
        report.unnamed_errors = self.unnamed;
        report.damaged_packs = packs.into_iter().collect();
        snapshots.extend(&report.damaged_snapshots);
        report.damaged_snapshots = snapshots.into_iter().collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Corruption;
    use crate::id::PackKind;

    fn pack(number: u8) -> ObjectName {
        ObjectName::Pack(PackKind::Data, PackId([number; 32]))
    }

    fn lost(id: ChunkId) -> Error {
        Error::ChunkLost { id, problem: "gone".to_owned() }
    }

    fn report(findings: Findings) -> CheckReport {
        let mut report = CheckReport::default();
        findings.finish(&mut report);
        report
    }

    #[test]
    fn an_object_is_named_once_and_by_who_meets_it_first() {
        let mut findings = Findings::default();
        findings.add_error(Corruption::Missing.of(pack(1)));
        findings.add_error(Corruption::Hash.of(pack(1)));
        let report = report(findings);
        assert!(matches!(report.errors[..], [Error::Corrupt { problem: Corruption::Missing, .. }]), "{report:?}");
    }

    #[test]
    fn a_thousand_touched_entries_are_named_one_of_each_object_at_least_and_all_are_counted() {
        let mut findings = Findings::default();
        for number in [1, 2] {
            findings.add_error(Corruption::Missing.of(pack(number)));
        }
        let snapshot = SnapshotId([9; 16]);
        let touched = Touched { snapshot, path: b"/x".to_vec(), loss: Loss::Content };
        (0..5000).for_each(|_| findings.touch(0, &touched));
        (0..3).for_each(|_| findings.touch(1, &touched));
        let report = report(findings);
        let counts = report.damage.iter().map(|damage| (damage.touched.len(), damage.touched_count));
        assert_eq!(counts.collect::<Vec<_>>(), [(NAMED_MAX, 5000), (1, 3)]);
        assert_eq!(
            (report.damage[1].snapshots.as_slice(), &report.damaged_snapshots),
            (&[snapshot][..], &vec![snapshot])
        );
    }

    #[test]
    fn chunks_are_named_up_to_a_bound_and_objects_always() {
        let mut findings = Findings::default();
        for number in 0..NAMED_MAX as u32 + 7 {
            let id = ChunkId(*blake3::hash(&number.to_le_bytes()).as_bytes());
            let is_named = findings.add(Damaged::Chunk(id), lost(id)).is_some();
            assert_eq!(is_named, (number as usize) < NAMED_MAX);
        }
        findings.add_error(Corruption::Missing.of(pack(1)));
        let report = report(findings);
        assert_eq!((report.errors.len(), report.unnamed_errors), (NAMED_MAX + 1, 7));
        assert_eq!(report.damaged_packs, [PackId([1; 32])]);
    }
}
