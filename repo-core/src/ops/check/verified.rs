//! What was verified when: the memory of a client, so that the next check begins with what waited longest. Where it is kept
//! is the caller's business.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};

use super::options::CheckLevel;
use crate::error::Corruption;
use crate::format::verified::{self, VerifiedRow};
use crate::id::{PackId, RepositoryId};
use crate::pipeline::lock;

/// When each pack was last verified. Clones are one and the same: a check notes in it while the caller holds it.
///
/// ```
/// # use std::sync::Arc;
/// # use repo_core::{Memory, InitOptions, ReaderSource, Repository, Secret};
/// # let (secret, _key_file) = Secret::generate_key()?;
/// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
/// use repo_core::{BackupOptions, CheckLevel, CheckOptions, Silent, VerifiedPacks};
///
/// # let source = ReaderSource::new("/notes".as_ref(), &b"buy milk"[..]);
/// # repository.backup(&source, &BackupOptions::new(), &Silent)?;
/// // As it was kept after the last check; damaged or of another repository, one begins anew.
/// let kept: Vec<u8> = Vec::new();
/// let verified = VerifiedPacks::decode(&kept, repository.id()).unwrap_or_default();
/// let start = std::time::Instant::now();
/// let ten_minutes = move || start.elapsed().as_secs() > 600;
/// let options = CheckOptions::new().level(CheckLevel::Packs).verified(&verified).until(ten_minutes);
/// let report = repository.check(&options, &Silent)?;
/// assert_eq!(report.unread_packs, 0);
/// let to_keep = verified.encode(repository.id());
/// # assert_eq!(VerifiedPacks::decode(&to_keep, repository.id()).expect("just made").len() as u64, report.packs);
/// # Ok::<(), repo_core::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct VerifiedPacks {
    times: Arc<Mutex<BTreeMap<PackId, Times>>>,
}

/// In nanoseconds since 1970 UTC; 0 is never.
#[derive(Debug, Clone, Copy, Default)]
struct Times {
    hashed_ns: i64,
    decoded_ns: i64,
}

impl VerifiedPacks {
    /// Nothing was verified yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What [`encode`](Self::encode) made.
    ///
    /// # Errors
    /// The bytes are damaged, or of another repository.
    pub fn decode(bytes: &[u8], repository: RepositoryId) -> Result<Self, Corruption> {
        let rows = verified::decode(bytes, repository)?;
        let times = rows.into_iter().map(|row| {
            let VerifiedRow { pack, hashed_ns, decoded_ns } = row;
            (pack, Times { hashed_ns, decoded_ns })
        });
        Ok(Self { times: Arc::new(Mutex::new(times.collect())) })
    }

    /// The bytes to keep: 48 a pack. They hold the packs' names and times, and no secret.
    pub fn encode(&self, repository: RepositoryId) -> Vec<u8> {
        let rows: Vec<_> = lock(&self.times)
            .iter()
            .map(|(pack, times)| VerifiedRow { pack: *pack, hashed_ns: times.hashed_ns, decoded_ns: times.decoded_ns })
            .collect();
        verified::encode(repository, &rows)
    }

    /// How many packs were ever verified.
    pub fn len(&self) -> usize {
        lock(&self.times).len()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When the pack was last verified at this level or a deeper one, in nanoseconds since 1970 UTC. A time after `now_ns`
    /// is none: a clock that was wrong once must not put a pack off for years.
    pub fn time_ns(&self, pack: &PackId, level: CheckLevel, now_ns: i64) -> Option<i64> {
        let times = lock(&self.times).get(pack).copied().unwrap_or_default();
        let known = |time_ns: i64| (0 < time_ns && time_ns <= now_ns).then_some(time_ns);
        match level {
            CheckLevel::Data => known(times.decoded_ns),
            _ => known(times.hashed_ns).max(known(times.decoded_ns)),
        }
    }

    pub(super) fn note(&self, pack: PackId, level: CheckLevel, time_ns: i64) {
        let mut times = lock(&self.times);
        let times = times.entry(pack).or_default();
        match level {
            CheckLevel::Data => times.decoded_ns = time_ns,
            _ => times.hashed_ns = time_ns,
        }
    }

    /// A damaged pack: it comes first again.
    pub(super) fn forget(&self, pack: &PackId) {
        lock(&self.times).remove(pack);
    }

    /// Drops packs that are no longer there.
    pub(super) fn retain(&self, listed: &HashSet<PackId>) {
        lock(&self.times).retain(|pack, _| listed.contains(pack));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_in_the_future_is_no_time_and_a_deeper_level_counts_for_a_shallower_one() {
        let (verified, pack) = (VerifiedPacks::new(), PackId([1; 32]));
        assert_eq!(verified.time_ns(&pack, CheckLevel::Packs, 100), None);
        verified.note(pack, CheckLevel::Packs, 50);
        assert_eq!(verified.time_ns(&pack, CheckLevel::Packs, 100), Some(50));
        assert_eq!(verified.time_ns(&pack, CheckLevel::Packs, 49), None);
        assert_eq!(verified.time_ns(&pack, CheckLevel::Data, 100), None);
        verified.note(pack, CheckLevel::Data, 60);
        assert_eq!(verified.time_ns(&pack, CheckLevel::Packs, 100), Some(60));
        verified.forget(&pack);
        assert!(verified.is_empty());
    }
}
