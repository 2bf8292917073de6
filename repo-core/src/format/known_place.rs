//! Which repositories a client met at one place: a file of the client's own, beside no repository and part of none.
//! An empty repository in the place of a full one has nothing that is older than what a client remembers of the full one; that
//! it is another one shows here.
//!
//! `magic[8] ‖ repository[16] … ‖ BLAKE3[32] of all before`; the one met last is last, each once.

use super::cursor::between_magic_and_hash;
use crate::error::Corruption;
use crate::id::RepositoryId;

const MAGIC: [u8; 8] = *b"RCOPLA\0\x01";
/// Disks that take turns at one mount point are a few.
const REPOSITORIES_MAX: usize = 64;

/// The repositories that were met at one place, and that its owner knows to be there: disks may take turns.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KnownPlace {
    repositories: Vec<RepositoryId>,
}

impl KnownPlace {
    /// A place where none was met.
    pub fn new() -> Self {
        Self::default()
    }

    /// The name of the file to keep this in, for a place that is named so: digits that tell nothing of it.
    pub fn file_name(place: &[u8]) -> String {
        blake3::hash(place).to_hex()[..32].to_owned()
    }

    /// The one that was met last.
    pub fn last(&self) -> Option<RepositoryId> {
        self.repositories.last().copied()
    }

    /// Whether this one was met here.
    pub fn knows(&self, repository: RepositoryId) -> bool {
        self.repositories.contains(&repository)
    }

    /// This one is here now.
    pub fn meet(&mut self, repository: RepositoryId) {
        self.repositories.retain(|known| *known != repository);
        self.repositories.push(repository);
        let surplus = self.repositories.len().saturating_sub(REPOSITORIES_MAX);
        self.repositories.drain(..surplus);
    }

    /// The bytes to keep.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        self.repositories.iter().for_each(|repository| out.extend_from_slice(&repository.0));
        out.extend_from_slice(blake3::hash(&out).as_bytes());
        out
    }

    /// What [`encode`](Self::encode) made.
    ///
    /// # Errors
    /// The bytes are damaged: nothing in them is to be believed.
    pub fn decode(bytes: &[u8]) -> Result<Self, Corruption> {
        let mut cursor = between_magic_and_hash(bytes, &MAGIC, "beginning of a known place")?;
        let mut place = Self::new();
        for _ in 0..cursor.remaining() / 16 {
            let repository = RepositoryId(cursor.array()?);
            if place.knows(repository) || place.repositories.len() == REPOSITORIES_MAX {
                return Err(Corruption::Malformed("repositories of a known place"));
            }
            place.repositories.push(repository);
        }
        cursor.finish()?;
        Ok(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: RepositoryId = RepositoryId([1; 16]);
    const TWO: RepositoryId = RepositoryId([2; 16]);

    #[test]
    fn disks_that_take_turns_are_all_known_and_the_last_is_last() {
        let mut place = KnownPlace::new();
        [ONE, TWO, ONE].into_iter().for_each(|repository| place.meet(repository));
        assert_eq!(place.last(), Some(ONE));
        assert!(place.knows(TWO) && !place.knows(RepositoryId([3; 16])));
        assert_eq!(KnownPlace::decode(&place.encode()), Ok(place.clone()));
        (0..200).for_each(|number| place.meet(RepositoryId([number; 16])));
        assert_eq!(KnownPlace::decode(&place.encode()), Ok(place), "bounded");
    }

    #[test]
    fn no_other_bytes_are_believed() {
        let mut place = KnownPlace::new();
        [ONE, TWO].into_iter().for_each(|repository| place.meet(repository));
        let whole = place.encode();
        for at in 0..whole.len() {
            let mut turned = whole.clone();
            turned[at] ^= 1;
            assert!(KnownPlace::decode(&turned).is_err(), "a bit turned at {at}");
            assert!(KnownPlace::decode(&whole[..at]).is_err(), "cut to {at}");
        }
    }
}
