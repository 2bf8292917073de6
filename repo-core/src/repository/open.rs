//! Init and open: from a secret to the keys and the parameters.
//!
//! Init's order: key slot, keyring, config, and last `format`, from which on the repository exists. A crash before
//! that leaves what the next init with the same secret completes.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use zeroize::Zeroizing;

use super::keys::{self, NewSlot, slot_kind};
use super::{InitOptions, Inner, OpenOptions, Repository, default_threads, doubled, weak};
use crate::backend::{Backend, Listed, Prefix, Put, Span, Weak};
use crate::crypto::{self, Keys, Secret};
use crate::error::{Corruption, Error, Result};
use crate::format::FORMAT_VERSION;
use crate::format::config::{Config, FrameParameters};
use crate::format::header::{HEADER_LENGTH, Header, ObjectType};
use crate::format::key_slot::{Derivation, KeySlot, SlotBody};
use crate::format::keyring::{Epoch, GC_FROM_UNSET, Keyring, Purpose};
use crate::format::marker::Marker;
use crate::id::{Doubled, ObjectName, OwnerId, RepositoryId, SlotId};
use crate::platform::host;
use crate::seal;

const PACK_META_BYTES: u32 = 6 << 20;

/// What unlocking gives.
pub(super) struct Unlocked {
    pub root_key: Zeroizing<[u8; 32]>,
    pub slot: Option<SlotId>,
    pub keyring: Keyring,
}

impl Repository {
    /// Makes a repository. Its place must be empty, or hold what an interrupted init with the same secret left. The
    /// `lost+found` of a file system's own root does not count.
    ///
    /// # Errors
    /// [`Error::RepositoryExists`]; [`Error::NotEmpty`] and, unless [`InitOptions::weak_store`] is asked for,
    /// [`Error::NoPutIfAbsent`], with nothing made; [`Error::Usage`] for
    /// parameters out of bounds; backend errors.
    ///
    /// # Example
    /// ```
    /// use std::sync::Arc;
    ///
    /// use repo_core::{InitOptions, Memory, Repository, Secret};
    ///
    /// let place = Arc::new(Memory::new());
    /// let (secret, key_file) = Secret::generate_key()?;
    /// let repository = Repository::init(place.clone(), &secret, &InitOptions::new().label("nightly job"))?;
    /// // Whoever loses all of these loses the backups: keep the key file's text, and the kit on paper.
    /// assert_eq!(key_file.len(), 65);
    /// assert!(repository.recovery_kit().starts_with("# icecore recovery kit"));
    ///
    /// let again = Repository::init(place, &secret, &InitOptions::new());
    /// assert!(matches!(again, Err(repo_core::Error::RepositoryExists { .. })));
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    pub fn init(backend: Arc<dyn Backend>, secret: &Secret, options: &InitOptions) -> Result<Self> {
        let backend = match options.weak_store {
            Some(_) => Weak::around(backend),
            None if backend.capabilities().put_if_absent => backend,
            None => return Err(Error::NoPutIfAbsent { place: backend.place() }),
        };
        let config = new_config(options, backend.as_ref())?;
        if is_missing_marker(backend.as_ref()) {
            refuse_other_things(backend.as_ref())?;
        }
        backend.prepare()?;
        if read_marker(backend.as_ref()).map_or_else(|error| !is_missing(&error), |_| true) {
            return Err(Error::RepositoryExists { place: backend.place() });
        }
        let keyring = match unlock(backend.as_ref(), secret, &OpenOptions::default()) {
            Ok(unlocked) => {
                finish_copies(backend.as_ref())?;
                unlocked.keyring
            }
            Err(_) => new_keyring(backend.as_ref(), secret, options)?,
        };
        let keys = Keys::from_keyring(&keyring)?;
        match doubled::list(backend.as_ref(), Prefix::Configs)?.is_empty() {
            true => drop(put_config(backend.as_ref(), &keys, &config)?),
            false => refuse_other_owner(&newest_config(backend.as_ref(), &keys, None)?.config, options)?,
        }
        let marker = marker_of(&keyring)?;
        match doubled::put(backend.as_ref(), Doubled::Format, &Bytes::copy_from_slice(&marker.encode()))? {
            Put::Created => {}
            Put::Exists(_) | Put::Unknown => return Err(Error::RepositoryExists { place: backend.place() }),
        }
        // Read back from the place, so that what is reported is what is there.
        let owner = options.weak_store;
        Self::open_with(backend, secret, &OpenOptions { owner, ..OpenOptions::default() })
    }

    /// Opens a repository.
    ///
    /// # Errors
    /// [`Error::NoRepository`], [`Error::Unsupported`], [`Error::WrongSecret`], [`Error::Revoked`],
    /// [`Error::Corrupt`] naming an object of which no copy can be read.
    ///
    /// # Example
    /// ```
    /// use std::sync::Arc;
    ///
    /// use repo_core::{Error, InitOptions, Local, Repository, Secret};
    ///
    /// # let scratch = tempfile::tempdir().expect("a scratch directory");
    /// # let place = scratch.path().join("vault");
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # Repository::init(Arc::new(Local::new(&place)), &secret, &InitOptions::new())?;
    /// let repository = Repository::open(Arc::new(Local::new(&place)), &secret)?;
    ///
    /// let (another, _) = Secret::generate_key()?;
    /// let refused = Repository::open(Arc::new(Local::new(&place)), &another);
    /// assert!(matches!(refused, Err(Error::WrongSecret { slots: 1 })));
    ///
    /// let nothing = Repository::open(Arc::new(Local::new(scratch.path())), &secret);
    /// assert!(matches!(nothing, Err(Error::NoRepository { .. })));
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    pub fn open(backend: Arc<dyn Backend>, secret: &Secret) -> Result<Self> {
        Self::open_with(backend, secret, &OpenOptions::default())
    }

    /// Opens a repository in a way of one's own.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    ///
    /// # Example
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{Memory, InitOptions, Repository, Secret};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// use repo_core::{OpenOptions, PasswordCost};
    ///
    /// // The same secret may have several slots; the hint says which one counts as the one in use.
    /// let second = repository.add_key(&secret, "the other machine", PasswordCost::Default)?;
    /// let options = OpenOptions::new().key_hint(second.slot.to_string());
    /// let opened = Repository::open_with(repository.backend().clone(), &secret, &options)?;
    /// assert!(opened.keys()?.iter().any(|key| key.current && key.slot == second.slot));
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    pub fn open_with(backend: Arc<dyn Backend>, secret: &Secret, options: &OpenOptions) -> Result<Self> {
        let marker_bytes = read_marker(backend.as_ref())?;
        let marker = Marker::decode(&marker_bytes).map_err(|problem| problem.of(ObjectName::Format))?;
        let unlocked = unlock(backend.as_ref(), secret, options)?;
        let keyring = &unlocked.keyring;
        if keyring.marker_digest != *blake3::hash(&marker_bytes).as_bytes() || keyring.repository != marker.repository {
            return Err(Corruption::Malformed("its keyring belongs to another repository").of(ObjectName::Format));
        }
        Self::unlocked(backend, unlocked, options.owner)
    }

    /// With the keys of a keyring; it must be the newest, and the repository's.
    pub(super) fn unlocked(backend: Arc<dyn Backend>, unlocked: Unlocked, owner: Option<OwnerId>) -> Result<Self> {
        let Unlocked { root_key, slot, keyring } = unlocked;
        let keys = Keys::from_keyring(&keyring)?;
        let rotation = keyring.rotation();
        let interim_config = rotation.as_ref().map(|rotation| rotation.config_digest);
        let config = newest_config(backend.as_ref(), &keys, interim_config)?.config;
        let has_no_cycle = keyring.epochs.last().is_some_and(|epoch| epoch.gc_from == GC_FROM_UNSET);
        let backend = weak::handle(backend, &config)?;
        Ok(Self {
            inner: Arc::new(Inner {
                backend,
                keys: Arc::new(keys),
                config,
                keyring_generation: keyring.generation,
                interim_config,
                is_rotating: rotation.is_some() || has_no_cycle,
                id: keyring.repository,
                slot,
                owner,
                root_key,
                threads: default_threads(),
                store: Mutex::new(None),
            }),
        })
    }
}

fn is_missing_marker(backend: &dyn Backend) -> bool {
    read_marker(backend).is_err_and(|error| is_missing(&error))
}

/// Folders of objects strewn among someone's files would be hard to gather again, and a repository that is removed one day
/// could take the files with it. What an init left that was cut off has names of ours, and is no hindrance.
fn refuse_other_things(backend: &dyn Backend) -> Result<()> {
    /// Enough to see whose place it is.
    const NAMED: usize = 3;
    let mut found = Vec::new();
    let listed = backend.list(Prefix::All, &mut |listed| {
        match listed {
            // Made by mkfs in the root of ext file systems, and by nobody else.
            Listed::Foreign { name } if name != "lost+found" => found.push(name),
            _ => {}
        }
        if found.len() > NAMED { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    match listed {
        // Not made yet.
        Err(error) if error.is_absent() => Ok(()),
        Err(error) => Err(error.into()),
        Ok(()) if found.is_empty() => Ok(()),
        Ok(()) => {
            let more = found.len() > NAMED;
            found.truncate(NAMED);
            found.sort_unstable();
            Err(Error::NotEmpty { place: backend.place(), found, more })
        }
    }
}

fn is_missing(error: &Error) -> bool {
    matches!(error, Error::NoRepository { .. })
}

/// The bytes of `format`, from either copy.
fn read_marker(backend: &dyn Backend) -> Result<Vec<u8>> {
    let read = doubled::get(backend, Doubled::Format, |bytes| Marker::decode(bytes).map(|_| bytes.to_vec()));
    read.map_err(|error| match error {
        Error::Corrupt { problem: Corruption::Missing, .. } => Error::NoRepository { place: backend.place() },
        Error::Corrupt { object, problem: problem @ Corruption::Unknown { .. } } => Error::Unsupported {
            object: object.to_string(),
            problem: format!("{problem}; this build reads format {FORMAT_VERSION}"),
        },
        // A place that is no directory holds no repository.
        Error::Backend(error) if error.is_absent() => Error::NoRepository { place: backend.place() },
        other => other,
    })
}

fn marker_of(keyring: &Keyring) -> Result<Marker> {
    let first = keyring.epochs.first().ok_or(Error::Malformed("a keyring without keys"))?;
    Ok(Marker { min_reader: FORMAT_VERSION, repository: keyring.repository, created_ms: first.created_ms })
}

/// Tries every key slot that this kind of secret may open, until one opens the newest keyring and stands in it.
///
/// A slot that does not is a leftover: of an init, or of adding a key, that was cut off before its keyring, or of a
/// removal that was cut off after it. The same secret may have a slot that counts.
fn unlock(backend: &dyn Backend, secret: &Secret, options: &OpenOptions) -> Result<Unlocked> {
    if let Secret::RootKey(root_key) = secret {
        let keyring = newest_keyring(backend, root_key)?;
        return Ok(Unlocked { root_key: root_key.clone(), slot: None, keyring });
    }
    let mut slots = 0;
    let mut damaged = None;
    let mut is_revoked = false;
    for id in slots_to_try(backend, options)? {
        let name = Doubled::KeySlot(id);
        slots += 1;
        let slot = match doubled::get(backend, name, KeySlot::decode) {
            Ok(slot) if slot.slot == id => slot,
            Ok(_) => {
                damaged = Some(Corruption::Malformed("a key slot under another's name").of(name.into()));
                continue;
            }
            Err(error) => {
                damaged = Some(error);
                continue;
            }
        };
        let fits = matches!(
            (secret, slot.derivation),
            (Secret::Password(_), Derivation::Argon2id { .. }) | (Secret::Key(_), Derivation::Raw)
        );
        if fits && let Some(SlotBody { root_key, .. }) = crypto::open_slot(&slot, secret)? {
            match newest_keyring(backend, &root_key) {
                Ok(keyring) if keyring.slots.iter().any(|entry| entry.slot == id) => {
                    return Ok(Unlocked { root_key, slot: Some(id), keyring });
                }
                Ok(_) | Err(Error::Revoked) => is_revoked = true,
                Err(error) => return Err(error),
            }
        }
    }
    // Damage is said only where it may be the reason.
    if is_revoked && damaged.is_none() {
        return Err(Error::Revoked);
    }
    Err(damaged.unwrap_or(Error::WrongSecret { slots }))
}

/// All key slots, ascending, but the hinted one first: each one tried costs a password's whole Argon2. A hint that names
/// none, or several, is none.
fn slots_to_try(backend: &dyn Backend, options: &OpenOptions) -> Result<Vec<SlotId>> {
    let names = doubled::list(backend, Prefix::KeySlots)?;
    let mut slots: Vec<SlotId> =
        names.into_iter().filter_map(|name| if let Doubled::KeySlot(id) = name { Some(id) } else { None }).collect();
    if let Some(hint) = options.key_hint.as_deref().filter(|hint| !hint.is_empty()) {
        let is_hinted = |id: &SlotId| id.to_string().starts_with(hint);
        if slots.iter().filter(|id| is_hinted(id)).count() == 1 {
            // Stable: the others keep their order.
            slots.sort_by_key(|id| !is_hinted(id));
        }
    }
    Ok(slots)
}

/// The keyring of the highest generation that is listed; no older one will do, since it may have been revoked.
pub(super) fn newest_keyring(backend: &dyn Backend, root_key: &[u8; 32]) -> Result<Keyring> {
    let names = doubled::list(backend, Prefix::Keyrings)?;
    let Some(Doubled::Keyring(generation)) = names.last().copied() else {
        return Err(Corruption::Missing.of(ObjectName::Keyring(1)));
    };
    let keyring = doubled::get(backend, Doubled::Keyring(generation), |bytes| {
        Keyring::decode(&seal::open_keyring(root_key, generation, bytes)?)
    });
    match keyring {
        Ok(keyring) if keyring.generation == generation => Ok(keyring),
        Ok(_) => Err(Corruption::Malformed("a keyring under another's name").of(ObjectName::Keyring(generation))),
        // Whole by its checksum, and not ours: the root key was replaced.
        Err(Error::Corrupt { problem: Corruption::Authentication, .. }) => Err(Error::Revoked),
        Err(error) => Err(error),
    }
}

/// The config that counts.
pub(super) struct NewestConfig {
    pub config: Config,
    /// Of its stored object.
    pub digest: [u8; 32],
    /// The highest generation that is listed, whether or not it counts: the next one is after it.
    pub highest_generation: u64,
}

/// The config of the highest generation that is sealed under the newest keys. Those that the keys before a rotation sealed do
/// not count, whoever wrote them; but as long as there is no other, the one that the keyring names (`interim`).
pub(super) fn newest_config(backend: &dyn Backend, keys: &Keys, interim: Option<[u8; 32]>) -> Result<NewestConfig> {
    let names = doubled::list(backend, Prefix::Configs)?;
    let Some(Doubled::Config(highest_generation)) = names.last().copied() else {
        return Err(Corruption::Missing.of(ObjectName::Config(1)));
    };
    for name in names.into_iter().rev() {
        let read = doubled::get(backend, name, |bytes| {
            let digest = *blake3::hash(bytes).as_bytes();
            let header = Header::decode(bytes.first_chunk::<HEADER_LENGTH>().ok_or(Corruption::Truncated)?)?;
            if header.key_epoch < keys.newest_epoch() && interim != Some(digest) {
                return Ok(None);
            }
            let payload = seal::open_box(keys, Purpose::Config, ObjectType::Config, &name.into(), bytes)?;
            Ok(Some((Config::decode(&payload)?, digest)))
        })?;
        let Some((config, digest)) = read else { continue };
        if Doubled::Config(config.generation) != name {
            return Err(Corruption::Malformed("a config under another's name").of(name.into()));
        }
        if config.incompatible != 0 {
            let problem = format!("features {:#x} are unknown to this build", config.incompatible);
            return Err(Error::Unsupported { object: ObjectName::from(name).to_string(), problem });
        }
        return Ok(NewestConfig { config, digest, highest_generation });
    }
    Err(Corruption::Malformed("none of them is sealed under the newest keys")
        .of(ObjectName::Config(highest_generation)))
}

fn new_config(options: &InitOptions, backend: &dyn Backend) -> Result<Config> {
    let config = Config {
        generation: 1,
        previous_digest: [0; 32],
        incompatible: 0,
        read_only_compatible: 0,
        compatible: 0,
        chunker: options.chunker,
        frame: FrameParameters { target_bytes: options.frame_target_bytes, isolation: 1 },
        level: options.level,
        pack_data_bytes: options.pack_data_bytes,
        pack_meta_bytes: PACK_META_BYTES,
        padding: 1,
        put_if_absent: true,
        label: options.label.clone(),
        extensions: Vec::new(),
    };
    let config = config.with_parity_percent(options.parity_percent.unwrap_or_else(|| backend.default_parity_percent()));
    let config = match options.weak_store {
        Some(owner) => config.with_gc_owner(owner),
        None => config,
    };
    // The decoder is the one judge of parameters.
    Config::decode(&config.encode())
        .map_err(|problem| Error::Usage(format!("these parameters are not possible: {problem}")))
}

/// What an init that was cut off left is gone on with, but not under other rules than are asked for now.
fn refuse_other_owner(config: &Config, options: &InitOptions) -> Result<()> {
    match config.gc_owner() == options.weak_store {
        true => Ok(()),
        false => Err(Error::Usage(
            "an init that was cut off here began a repository with another owner, or with none: give the same, or remove what it left".into(),
        )),
    }
}

pub(super) fn put_config(backend: &dyn Backend, keys: &Keys, config: &Config) -> Result<Put> {
    let name = Doubled::Config(config.generation);
    let writer = crypto::random()?;
    let object = name.into();
    let bytes = seal::seal_box(keys, Purpose::Config, ObjectType::Config, &object, &writer, &config.encode())?;
    doubled::put(backend, name, &bytes.into())
}

/// A first keyring with fresh keys, and the slot that opens it.
fn new_keyring(backend: &dyn Backend, secret: &Secret, options: &InitOptions) -> Result<Keyring> {
    let root_key = Zeroizing::new(crypto::random()?);
    let master = Zeroizing::new(crypto::random()?);
    let created_ms = host::now_ms();
    let repository = RepositoryId(crypto::random()?);
    let new = NewSlot { secret, label: &options.label, cost: options.password_cost, created_ms };
    let (slot, entry) = keys::make_slot(&new, repository, &root_key, 1)?;
    let mut keyring = Keyring {
        generation: 1,
        previous_digest: [0; 32],
        repository,
        marker_digest: [0; 32],
        root_secret: crypto::random()?,
        epochs: vec![Epoch { epoch: 1, keys: crypto::new_epoch_keys(&master), created_ms, gc_from: 0, state: 0 }],
        slots: vec![entry],
        extensions: Vec::new(),
    };
    keyring.marker_digest = *blake3::hash(&marker_of(&keyring)?.encode()).as_bytes();
    debug_assert_eq!(keyring.slots[0].kind, slot_kind(secret));
    doubled::put(backend, Doubled::KeySlot(slot.slot), &slot.encode().into())?;
    match keys::put_keyring(backend, &root_key, &keyring)? {
        Put::Created => Ok(keyring),
        Put::Exists(_) | Put::Unknown => {
            // Another init came first; this one leaves nothing behind.
            doubled::remove(backend, Doubled::KeySlot(slot.slot))?;
            Err(Error::RepositoryExists { place: backend.place() })
        }
    }
}

/// Makes the copies that an interrupted init did not come to, and those durable that it did not live to make so: to put
/// what is there already costs a sync and changes nothing.
fn finish_copies(backend: &dyn Backend) -> Result<()> {
    for prefix in [Prefix::KeySlots, Prefix::Keyrings, Prefix::Configs] {
        for name in doubled::list(backend, prefix)? {
            let copies = [ObjectName::from(name), ObjectName::SecondCopy(name)];
            let Some(bytes) = copies.iter().find_map(|copy| backend.get(copy, Span::All).ok()) else { continue };
            for copy in copies {
                backend.put_new(&copy, bytes.clone())?;
            }
        }
    }
    Ok(())
}
