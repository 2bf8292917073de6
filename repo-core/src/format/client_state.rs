//! What a client remembers of a repository from one command to the next, so that it notices when the repository goes back: a
//! file of the client's own, beside no repository and part of none. Where it lies is the caller's business.
//!
//! `magic[8] ‖ repository[16] ‖ u64 compared ‖ u64 keyring generation ‖ its digest[32] ‖ u64 config generation ‖ its digest[32]
//! ‖ (series[16] ‖ u64 sequence ‖ snapshot[16] ‖ digest[32]) … ‖ BLAKE3[32] of all before`; little-endian; the time in
//! milliseconds since 1970 UTC, 0 is never; generation 0 is none yet; heads ascending. The hash finds accidents; who can write
//! here is this client.

use std::collections::BTreeSet;

use super::cursor::between_magic_and_hash;
use crate::error::Corruption;
use crate::id::{RepositoryId, SeriesId, SnapshotId};

const MAGIC: [u8; 8] = *b"RCOHEA\0\x01";
const HASH_LENGTH: usize = 32;
const FIXED_LENGTH: usize = 8 + 16 + 8 + 2 * (8 + 32);
const HEAD_LENGTH: usize = 16 + 8 + 16 + 32;
/// Of one series: as many backups of it may run at once and all be remembered.
const HEADS_OF_SERIES_MAX: usize = 16;

/// The newest keyring or config that was seen: its generation, and the BLAKE3 of its object.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Generation {
    pub number: u64,
    pub digest: [u8; 32],
}

/// The last snapshot of a series.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Head {
    pub series: SeriesId,
    pub sequence: u64,
    pub snapshot: SnapshotId,
    /// BLAKE3 of its stored object.
    pub digest: [u8; 32],
}

/// What a client remembers of one repository: the last snapshots that it made, and how new keys and parameters were.
/// [`Repository::compare`](crate::Repository::compare) tells whether the repository still is at least as new.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientState {
    pub(crate) repository: RepositoryId,
    /// When the repository was last found to be as new as this, in milliseconds since 1970 UTC.
    pub(crate) compared_ms: u64,
    pub(crate) keyring: Generation,
    pub(crate) config: Generation,
    /// Several of a series only if they were made at once.
    pub(crate) heads: BTreeSet<Head>,
}

impl ClientState {
    /// Of a repository that was not seen before: nothing in it is a surprise.
    pub fn new(repository: RepositoryId) -> Self {
        let (keyring, config) = (Generation::default(), Generation::default());
        Self { repository, compared_ms: 0, keyring, config, heads: BTreeSet::new() }
    }

    /// The bytes to keep: 144, and 72 for each series. They hold names and hashes of objects, and no secret.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIXED_LENGTH + self.heads.len() * HEAD_LENGTH + HASH_LENGTH);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.repository.0);
        out.extend_from_slice(&self.compared_ms.to_le_bytes());
        for generation in [&self.keyring, &self.config] {
            out.extend_from_slice(&generation.number.to_le_bytes());
            out.extend_from_slice(&generation.digest);
        }
        for head in &self.heads {
            out.extend_from_slice(&head.series.0);
            out.extend_from_slice(&head.sequence.to_le_bytes());
            out.extend_from_slice(&head.snapshot.0);
            out.extend_from_slice(&head.digest);
        }
        out.extend_from_slice(blake3::hash(&out).as_bytes());
        out
    }

    /// What [`encode`](Self::encode) made.
    ///
    /// # Errors
    /// The bytes are damaged, or of another repository: nothing in them is to be believed.
    pub fn decode(bytes: &[u8], repository: RepositoryId) -> Result<Self, Corruption> {
        let mut cursor = between_magic_and_hash(bytes, &MAGIC, "beginning of a client's memory")?;
        if cursor.array::<16>()? != repository.0 {
            return Err(Corruption::Malformed("repository of a client's memory: another one"));
        }
        let compared_ms = cursor.u64()?;
        let keyring = Generation { number: cursor.u64()?, digest: cursor.array()? };
        let config = Generation { number: cursor.u64()?, digest: cursor.array()? };
        let mut heads = BTreeSet::new();
        for _ in 0..cursor.remaining() / HEAD_LENGTH {
            let head = Head {
                series: SeriesId(cursor.array()?),
                sequence: cursor.u64()?,
                snapshot: SnapshotId(cursor.array()?),
                digest: cursor.array()?,
            };
            if heads.last().is_some_and(|last| *last >= head) {
                return Err(Corruption::Malformed("order of heads"));
            }
            heads.insert(head);
        }
        cursor.finish()?;
        Ok(Self { repository, compared_ms, keyring, config, heads })
    }

    /// Adds a head. Those of its series that come before it need no memory of their own: it speaks for them.
    pub(crate) fn add(&mut self, head: Head) {
        self.heads.insert(head);
        let of_series: Vec<Head> = self.heads.iter().filter(|known| known.series == head.series).copied().collect();
        let newest = of_series.last().map_or(0, |last| last.sequence);
        let keep_from = of_series.len().saturating_sub(HEADS_OF_SERIES_MAX);
        for (at, old) in of_series.into_iter().enumerate() {
            if old.sequence < newest || at < keep_from {
                self.heads.remove(&old);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: RepositoryId = RepositoryId([3; 16]);

    fn head(series: u8, sequence: u64, snapshot: u8) -> Head {
        Head { series: SeriesId([series; 16]), sequence, snapshot: SnapshotId([snapshot; 16]), digest: [snapshot; 32] }
    }

    fn state() -> ClientState {
        let keyring = Generation { number: 4, digest: [7; 32] };
        let heads = BTreeSet::from([head(1, 9, 1), head(1, 9, 2), head(2, 0, 3)]);
        ClientState { compared_ms: 5, keyring, heads, ..ClientState::new(OURS) }
    }

    #[test]
    fn what_was_written_reads_back() {
        for state in [state(), ClientState::new(OURS)] {
            assert_eq!(ClientState::decode(&state.encode(), OURS), Ok(state));
        }
        assert_eq!(ClientState::new(OURS).encode().len(), 144);
    }

    #[test]
    fn no_other_bytes_are_believed() {
        let whole = state().encode();
        for at in 0..whole.len() {
            let mut turned = whole.clone();
            turned[at] ^= 1;
            assert!(ClientState::decode(&turned, OURS).is_err(), "a bit turned at {at}");
            assert!(ClientState::decode(&whole[..at], OURS).is_err(), "cut to {at}");
        }
        assert!(ClientState::decode(&whole, RepositoryId([4; 16])).is_err(), "of another repository");
    }

    #[test]
    fn of_a_series_the_last_are_remembered_and_of_several_at_once_all() {
        let mut state = ClientState::new(OURS);
        for head in [head(1, 1, 1), head(2, 5, 2), head(1, 2, 3), head(1, 2, 4), head(1, 1, 9)] {
            state.add(head);
        }
        assert_eq!(state.heads, BTreeSet::from([head(1, 2, 3), head(1, 2, 4), head(2, 5, 2)]));
        for number in 10..100 {
            state.add(head(1, 2, number));
        }
        assert_eq!(state.heads.len(), HEADS_OF_SERIES_MAX + 1, "bounded, whoever writes");
    }
}
