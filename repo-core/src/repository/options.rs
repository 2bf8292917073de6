//! How a repository is made and opened, and which of its snapshots are looked at, one wish a call.

use std::path::PathBuf;

use super::{InitOptions, OpenOptions, SnapshotFilter};
use crate::crypto::PasswordCost;
use crate::format::config::ChunkerParameters;
use crate::id::OwnerId;

impl InitOptions {
    /// The defaults, which were measured (docs/design.md).
    pub fn new() -> Self {
        Self::default()
    }

    /// What a guess at the first slot's password costs; means nothing for a key.
    pub fn password_cost(mut self, cost: PasswordCost) -> Self {
        self.password_cost = cost;
        self
    }

    /// Where files are cut. It can never be changed: other cuts would be other chunks.
    pub fn chunker(mut self, parameters: ChunkerParameters) -> Self {
        self.chunker = parameters;
        self
    }

    /// Plaintext bytes that are compressed and sealed together; of trees 256 KiB at most.
    pub fn frame_target_bytes(mut self, bytes: u32) -> Self {
        self.frame_target_bytes = bytes;
        self
    }

    /// The mean size of data packs, 64 KiB to 512 MiB; a backup may ask for another.
    pub fn pack_data_bytes(mut self, bytes: u32) -> Self {
        self.pack_data_bytes = bytes;
        self
    }

    /// zstd level, 1 to 19.
    pub fn level(mut self, level: i8) -> Self {
        self.level = level;
        self
    }

    /// Percent of parity that packs get, 0 to 100; without this call, what the place says
    /// ([`Backend::default_parity_percent`](crate::Backend::default_parity_percent)). It can be changed later.
    pub fn parity_percent(mut self, percent: u8) -> Self {
        self.parity_percent = Some(percent);
        self
    }

    /// What the first key slot is called, at most 214 bytes.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Makes a weak repository, for a place that does not decide which of two writers is first
    /// ([`Capabilities::put_if_absent`](crate::Capabilities::put_if_absent)), or of which that is not to be trusted, as of some
    /// network file systems. It cannot be changed later.
    ///
    /// What is promised then rests on clocks. A writer publishes only within 24 hours of its last sign of life, and prune takes
    /// the name of one that has been silent for 7 days, never sooner: so nothing is lost as long as clocks are wrong by less
    /// than six days together, and no put takes that long. And one client alone, the `owner`, prunes and changes keys and
    /// parameters, one at a time: others are refused ([`Error::NotOwner`](crate::Error::NotOwner)) until they take ownership
    /// ([`Repository::take_ownership`](crate::Repository::take_ownership)). `owner` is a random number that this client makes
    /// up, keeps outside the repository, and gives to [`OpenOptions::owner`]; it is no secret.
    pub fn weak_store(mut self, owner: OwnerId) -> Self {
        self.weak_store = Some(owner);
        self
    }
}

impl OpenOptions {
    /// Every slot is tried, in the order of their ids.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tries the slot whose id begins with these hexadecimal digits first: with many passwords that saves one Argon2
    /// each. Without such a slot, or if it is not the secret's, the others are tried as ever.
    pub fn key_hint(mut self, digits: impl Into<String>) -> Self {
        self.key_hint = Some(digits.into());
        self
    }

    /// Who this client is: matters to weak repositories alone, of which one client is the owner
    /// ([`InitOptions::weak_store`]). Without it, it is not.
    pub fn owner(mut self, owner: OwnerId) -> Self {
        self.owner = Some(owner);
        self
    }
}

impl SnapshotFilter {
    /// Lets every snapshot pass.
    pub fn new() -> Self {
        Self::default()
    }

    /// Of this host, or of another that was named.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.hosts.push(host.into());
        self
    }

    /// With this tag, or with another that was named.
    pub fn tag(self, tag: impl Into<String>) -> Self {
        self.tags([tag.into()])
    }

    /// With all of these tags, or all of another list that was named; an empty list: without any tag.
    pub fn tags(mut self, tags: impl IntoIterator<Item = String>) -> Self {
        self.tags.push(tags.into_iter().collect());
        self
    }

    /// Whose source had this path, and every other that was named.
    pub fn path(mut self, path: impl Into<PathBuf>) -> Self {
        self.paths.push(path.into());
        self
    }
}
