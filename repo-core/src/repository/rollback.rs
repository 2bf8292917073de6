//! Whether a repository is at least as new as a client remembers it. Storage that shows an old state shows nothing that is
//! forged, so that only a memory outside of it can tell. What is remembered where is the caller's business.
//!
//! Not an alarm: a remembered snapshot that has a forget record, or of which another one says that it took its place. Forget
//! records outlive their snapshots by 90 days; a client that looks in more rarely may be alarmed by what was forgotten long ago,
//! and is told so.

use super::{Repository, Snapshot, doubled};
use crate::backend::Prefix;
use crate::error::{Corruption, Error, Result, RollbackSign};
use crate::format::client_state::{ClientState, Generation, Head};
use crate::format::header::ObjectType;
use crate::format::keyring::Purpose;
use crate::id::{Doubled, SeriesId, SnapshotId};
use crate::platform::host;
use crate::seal;

/// How often the time of the last look is worth a write.
const LOOK_MS: u64 = 24 * 3600 * 1000;

/// What a look at the repository adds to a memory of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    looked_ms: u64,
    keyring: Generation,
    config: Generation,
    heads: Vec<Head>,
    /// Forgotten, or replaced by a successor: nobody need look for them again.
    explained: Vec<SnapshotId>,
}

impl ClientState {
    /// Takes in what was seen; whether that is news worth keeping. What another process remembered meanwhile stays: call it
    /// on what is kept now, while nobody else writes there.
    pub fn take(&mut self, sighting: &Sighting) -> bool {
        let before = self.clone();
        self.heads.retain(|head| !sighting.explained.contains(&head.snapshot));
        for head in &sighting.heads {
            self.add(*head);
        }
        for (known, seen) in [(&mut self.keyring, sighting.keyring), (&mut self.config, sighting.config)] {
            if seen.number > known.number {
                *known = seen;
            }
        }
        if *self != before || sighting.looked_ms.saturating_sub(self.compared_ms) >= LOOK_MS {
            self.compared_ms = self.compared_ms.max(sighting.looked_ms);
            return true;
        }
        false
    }
}

impl Repository {
    /// Compares the repository with what is remembered of it. A few small reads; nothing is listed as long as what is
    /// remembered is there.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{Memory, InitOptions, ReaderSource, Repository, Secret};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// use repo_core::{BackupOptions, ClientState, Silent};
    ///
    /// // Read from where it is kept; of what is damaged nothing is believed.
    /// let kept: Vec<u8> = Vec::new();
    /// let id = repository.id();
    /// let mut state = ClientState::decode(&kept, id).unwrap_or_else(|_| ClientState::new(id));
    /// state.take(&repository.compare(&state)?);
    /// # let source = ReaderSource::new("/notes".as_ref(), &b"buy milk"[..]);
    /// let report = repository.backup(&source, &BackupOptions::new(), &Silent)?;
    /// if let Some(snapshot) = &report.snapshot {
    ///     state.take(&repository.sight(snapshot)?);
    /// }
    /// let to_keep = state.encode();
    /// # assert!(repository.compare(&state).is_ok());
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Rollback`] with everything that is older or other than remembered; backend errors.
    pub fn compare(&self, known: &ClientState) -> Result<Sighting> {
        let mut signs = Vec::new();
        let mut sighting = self.look()?;
        self.compare_generations(known, &sighting, &mut signs)?;
        for head in &known.heads {
            match self.snapshot_digest(head.snapshot) {
                Ok(digest) if digest == head.digest => {}
                Ok(_) => signs.push(RollbackSign::SnapshotReplaced { snapshot: head.snapshot }),
                Err(Error::Corrupt { problem: Corruption::Missing, .. }) => {
                    if self.is_explained(head.snapshot)? {
                        sighting.explained.push(head.snapshot);
                        sighting.heads.extend(self.newest_head(head.series)?);
                    } else {
                        signs.push(RollbackSign::SnapshotGone { snapshot: head.snapshot });
                    }
                }
                // Damage is no older state: who needs the snapshot is told so.
                Err(Error::Corrupt { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        match signs.is_empty() {
            true => Ok(sighting),
            false => Err(Error::Rollback {
                place: self.inner.backend.place(),
                signs,
                compared_ms: Some(known.compared_ms).filter(|compared_ms| *compared_ms > 0),
            }),
        }
    }

    /// What is to be remembered of a repository whose owner says that it is right as it is: of each series that was
    /// remembered, what is newest now.
    pub fn accept(&self, known: &ClientState) -> Result<ClientState> {
        let mut state = ClientState::new(self.inner.id);
        let mut sighting = self.look()?;
        for head in &known.heads {
            sighting.heads.extend(self.newest_head(head.series)?);
        }
        state.take(&sighting);
        Ok(state)
    }

    /// A snapshot that was just made: from now on its series' head.
    pub fn sight(&self, snapshot: &Snapshot) -> Result<Sighting> {
        let mut sighting = self.look()?;
        sighting.heads.push(self.head(snapshot)?);
        Ok(sighting)
    }

    fn look(&self) -> Result<Sighting> {
        let inner = &self.inner;
        let (backend, keyring) = (inner.backend.as_ref(), inner.keyring_generation);
        let keyring_digest = doubled::get(backend, Doubled::Keyring(keyring), |bytes| {
            seal::open_keyring(&inner.root_key, keyring, bytes).map(|_| *blake3::hash(bytes).as_bytes())
        })?;
        let config = Doubled::Config(inner.config.generation);
        let config_digest = doubled::get(backend, config, |bytes| {
            seal::open_box(&inner.keys, Purpose::Config, ObjectType::Config, &config.into(), bytes)
                .map(|_| *blake3::hash(bytes).as_bytes())
        })?;
        Ok(Sighting {
            looked_ms: host::now_ms(),
            keyring: Generation { number: keyring, digest: keyring_digest },
            config: Generation { number: inner.config.generation, digest: config_digest },
            heads: Vec::new(),
            explained: Vec::new(),
        })
    }

    fn compare_generations(&self, known: &ClientState, seen: &Sighting, signs: &mut Vec<RollbackSign>) -> Result<()> {
        let newest = |prefix| -> Result<u64> {
            let names = doubled::list(self.inner.backend.as_ref(), prefix)?;
            Ok(names.last().map_or(0, |name| match name {
                Doubled::Keyring(generation) | Doubled::Config(generation) => *generation,
                _ => 0,
            }))
        };
        if seen.keyring.number < known.keyring.number {
            // Another process may have changed it, and remembered that, since this handle was opened.
            let (known, found) = (known.keyring.number, newest(Prefix::Keyrings)?);
            if found < known {
                signs.push(RollbackSign::KeyringOlder { known, found });
            }
        } else if seen.keyring.number == known.keyring.number && seen.keyring != known.keyring {
            signs.push(RollbackSign::KeyringReplaced { generation: known.keyring.number });
        }
        if seen.config.number < known.config.number {
            let (known, found) = (known.config.number, newest(Prefix::Configs)?);
            if found < known {
                signs.push(RollbackSign::ConfigOlder { known, found });
            }
        } else if seen.config.number == known.config.number && seen.config != known.config {
            signs.push(RollbackSign::ConfigReplaced { generation: known.config.number });
        }
        Ok(())
    }

    /// Whether a snapshot that is gone was forgotten, or says another that it took its place. A record that cannot be read
    /// explains nothing: anybody can put one there.
    fn is_explained(&self, snapshot: SnapshotId) -> Result<bool> {
        match self.read_forgotten(snapshot) {
            Ok(_) => return Ok(true),
            Err(Error::Corrupt { .. }) => {}
            Err(error) => return Err(error),
        }
        let published = self.published()?.snapshots;
        Ok(published.iter().any(|(other, _)| other.record.origin == Some(snapshot)))
    }

    fn newest_head(&self, series: SeriesId) -> Result<Option<Head>> {
        match self.series(series)?.last().map(|newest| self.head(newest)) {
            // Forgotten and pruned since it was listed.
            Some(Err(Error::Corrupt { .. })) | None => Ok(None),
            Some(head) => head.map(Some),
        }
    }

    fn head(&self, snapshot: &Snapshot) -> Result<Head> {
        let (series, sequence) = (snapshot.record.series, snapshot.record.sequence);
        Ok(Head { series, sequence, snapshot: snapshot.id(), digest: self.snapshot_digest(snapshot.id())? })
    }
}
