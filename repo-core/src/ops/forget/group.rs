//! Groups of snapshots, to each of which a policy is applied alone.

use std::collections::BTreeMap;
use std::fmt;

use crate::format::snapshot::SnapshotRecord;
use crate::id::SeriesId;
use crate::repository::Snapshot;

/// What the snapshots of a group have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupBy {
    /// The host.
    pub host: bool,
    /// All paths, in whatever order.
    pub paths: bool,
    /// All tags, in whatever order.
    pub tags: bool,
    /// The series. With a guard, always.
    pub series: bool,
}

/// What one group has in common; what it is not grouped by is `None`. Ordered, so that groups come in a stable order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
#[non_exhaustive]
pub struct GroupKey {
    /// The host.
    pub host: Option<String>,
    /// Paths as raw bytes, ascending.
    pub paths: Option<Vec<Vec<u8>>>,
    /// Tags, ascending, each once.
    pub tags: Option<Vec<String>>,
    /// The series.
    pub series: Option<SeriesId>,
}

impl Default for GroupBy {
    /// Host and paths.
    fn default() -> Self {
        Self { host: true, paths: true, tags: false, series: false }
    }
}

impl GroupBy {
    /// These three; not by series.
    pub fn new(host: bool, paths: bool, tags: bool) -> Self {
        Self { host, paths, tags, series: false }
    }

    /// The group of a snapshot.
    pub fn key(&self, record: &SnapshotRecord) -> GroupKey {
        let paths = || {
            let mut paths = record.paths.clone();
            paths.sort_unstable();
            paths
        };
        let tags = || {
            let mut tags = record.tags.clone();
            tags.sort_unstable();
            tags.dedup();
            tags
        };
        GroupKey {
            host: self.host.then(|| record.host.clone()),
            paths: self.paths.then(paths),
            tags: self.tags.then(tags),
            series: self.series.then_some(record.series),
        }
    }

    /// Every group with its snapshots, in the order in which they come.
    pub fn groups(&self, snapshots: Vec<Snapshot>) -> BTreeMap<GroupKey, Vec<Snapshot>> {
        let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for snapshot in snapshots {
            groups.entry(self.key(&snapshot.record)).or_default().push(snapshot);
        }
        groups
    }
}

impl fmt::Display for GroupKey {
    /// `host [h], tags [t], paths [/a, /b]`. Names may hold anything; who shows them escapes them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = |paths: &Vec<Vec<u8>>| {
            paths.iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect::<Vec<_>>().join(", ")
        };
        let host = self.host.as_ref().map(|host| format!("host [{host}]"));
        let tags = self.tags.as_ref().map(|tags| format!("tags [{}]", tags.join(", ")));
        let paths = self.paths.as_ref().map(|paths| format!("paths [{}]", texts(paths)));
        let series = self.series.map(|series| format!("series {series}"));
        let parts: Vec<String> = [host, tags, paths, series].into_iter().flatten().collect();
        f.write_str(&if parts.is_empty() { "all".to_owned() } else { parts.join(", ") })
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::tests::record;
    use super::*;

    fn with(host: &str, paths: &[&str], tags: &[&str], series: u8) -> Snapshot {
        let mut record = record();
        record.host = host.to_owned();
        record.paths = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
        record.tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        record.series = SeriesId([series; 16]);
        Snapshot { record }
    }

    fn count(by: GroupBy) -> usize {
        let snapshots = vec![
            with("a", &["/x", "/y"], &[], 1),
            with("a", &["/y", "/x"], &["t", "u", "t"], 1),
            with("a", &["/x"], &["u", "t"], 2),
            with("b", &["/x"], &["t"], 2),
        ];
        let groups = by.groups(snapshots);
        assert_eq!(groups.values().map(Vec::len).sum::<usize>(), 4, "each is in one group");
        groups.len()
    }

    #[test]
    fn snapshots_that_have_in_common_what_is_asked_for_are_one_group() {
        assert_eq!(count(GroupBy::default()), 3);
        assert_eq!(count(GroupBy::new(false, false, false)), 1);
        assert_eq!(count(GroupBy::new(true, false, false)), 2);
        assert_eq!(count(GroupBy::new(false, true, false)), 2);
        assert_eq!(count(GroupBy::new(false, false, true)), 3);
        assert_eq!(count(GroupBy::new(true, true, true)), 4);
        assert_eq!(count(GroupBy { series: true, ..GroupBy::new(false, false, false) }), 2);
    }
}
