//! Every way in which the library says no: facts, not advice. Sentences are in `Display`; what to do is the CLI's business.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::id::{ChunkId, ObjectName, OwnerId, RepositoryId, SnapshotId};

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a verb could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No object `format`: the place holds no repository.
    #[error("no repository at {place}")]
    NoRepository {
        /// Where it was looked for.
        place: String,
    },
    /// `init` found one already.
    #[error("a repository exists already at {place}")]
    RepositoryExists {
        /// Where it is.
        place: String,
    },
    /// `init` found things at the place that are not a repository's; it made nothing.
    #[error("{place} is not empty: it has {}{}", found.join(", "), if *more { " and more" } else { "" })]
    NotEmpty {
        /// Where they are.
        place: String,
        /// Some of their names.
        found: Vec<String>,
        /// Whether there are others.
        more: bool,
    },
    /// The place has objects but no `format` that can be read.
    #[error("{object} was written by another version: {problem}")]
    Unsupported {
        /// The object that says so.
        object: String,
        /// What this build does not know.
        problem: String,
    },
    /// No key slot opens with this secret.
    #[error("wrong password or key: {} with it", no_slot_opens(*slots))]
    WrongSecret {
        /// How many slots there are, of every kind.
        slots: usize,
    },
    /// The secret opens a slot that is no longer in the keyring, or an old keyring.
    #[error("this password or key was revoked")]
    Revoked,
    /// The keys were rotated since this repository was opened: what it would write would be sealed under keys that others
    /// may know. Nothing was published.
    #[error("the keys were rotated since this repository was opened")]
    Rotated,
    /// An object's bytes are not what was written.
    #[error("{object} is damaged: {problem}")]
    Corrupt {
        /// Which one.
        object: ObjectName,
        /// What is wrong with it.
        problem: Corruption,
    },
    /// A chunk that something refers to is nowhere, or nowhere undamaged.
    #[error("chunk {id} is lost: {problem}")]
    ChunkLost {
        /// Its name.
        id: ChunkId,
        /// Why the last place where it should be is of no use.
        problem: String,
    },
    /// A chunk opened and has its name, but holds what no writer of this format makes.
    #[error("chunk {id} is malformed: {problem}")]
    CorruptChunk {
        /// Its name.
        id: ChunkId,
        /// What is wrong with it.
        problem: Corruption,
    },
    /// A tree or list whose parts contradict each other.
    #[error("{0}")]
    Malformed(&'static str),
    /// The store could not do it.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A local file or directory: the source, or the target of a restore.
    #[error("{}: {what}: {source}", path.display())]
    Local {
        /// Which one.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// No snapshot matches.
    #[error("no snapshot {selector}")]
    NoSnapshot {
        /// What was asked for.
        selector: String,
    },
    /// Several snapshots match a prefix.
    #[error("{prefix} is ambiguous: {candidates} snapshots begin with it")]
    AmbiguousSnapshot {
        /// What was typed.
        prefix: String,
        /// How many snapshots it fits.
        candidates: usize,
    },
    /// The path is not in the snapshot, or is not of the kind needed.
    #[error("{} {problem}", path.display())]
    Path {
        /// Within the snapshot.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// An option or argument that cannot be carried out.
    #[error("{0}")]
    Usage(String),
    /// A limit of the format was met.
    #[error("{what} is over the limit of {limit}")]
    Limit {
        /// What is too large.
        what: String,
        /// The most that is allowed.
        limit: u64,
    },
    /// Another client fenced this session; nothing was published.
    #[error("the session was ended by another client; run the command again")]
    Fenced,
    /// Snapshots that the last prune kept are gone, and nobody forgot them: nothing is deleted on that ground.
    #[error("{}", vanished(*count, first))]
    SnapshotsVanished {
        /// How many.
        count: usize,
        /// One of them.
        first: SnapshotId,
    },
    /// The repository is older than this client knows it, or another one. Nothing was read from it or written to it.
    #[error("{place} is not as it was: {}", joined(signs))]
    Rollback {
        /// Where it is.
        place: String,
        /// Everything that shows it, one at least.
        signs: Vec<RollbackSign>,
        /// When it was last found to be as new as it was known, in milliseconds since 1970 UTC.
        compared_ms: Option<u64>,
    },
    /// Of two writers who give one name at once, the place does not say who was first; nothing was written.
    #[error("{place} does not decide which of two writers is first, as every writer relies on")]
    NoPutIfAbsent {
        /// Where that is.
        place: String,
    },
    /// A weak repository: what several clients could write at once there is written by one alone, and this is another.
    #[error("the repository at {place} is a weak one, and this client is not its owner: that is {owner}")]
    NotOwner {
        /// Where it is.
        place: String,
        /// Who is.
        owner: OwnerId,
    },
    /// The place is a mirror, which takes nothing but from its source; nothing was written.
    #[error("{place} is a mirror of another place and takes nothing but from there")]
    Mirror {
        /// Where that is.
        place: String,
    },
    /// Two places that should be one repository are not, or have both been written to.
    #[error("{place} has gone on by itself: {problem}")]
    SplitBrain {
        /// The mirror.
        place: String,
        /// By what that shows.
        problem: String,
    },
    /// [`Progress::is_cancelled`](crate::Progress::is_cancelled) said so.
    #[error("interrupted")]
    Cancelled,
    /// The operating system gave no randomness.
    #[error("no randomness from the operating system: {0}")]
    Randomness(String),
    /// What was just sealed did not open to the same bytes: failing memory or processor. Nothing was stored.
    #[error("what was just sealed did not open again: {0}; check this machine's memory")]
    SelfCheck(String),
    /// A source that is a stream ended with an error; nothing was published.
    #[error("the stream to back up failed: {0}")]
    Stream(io::Error),
    /// What was to be written out could not be: the reader of a pipe is gone, or there is no room.
    #[error("writing the output: {0}")]
    Output(io::Error),
    /// The content or the attributes of an entry are lost; it was to be written out whole.
    #[error("{}: {source}", path.display())]
    Entry {
        /// Within the snapshot.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// An assumption of this library does not hold: please report it. Nothing was published.
    #[error("internal error: {0}")]
    Bug(String),
}

/// What shows that a repository went back, or is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RollbackSign {
    /// The last snapshot that was made from here is gone, and nobody forgot it.
    SnapshotGone {
        /// That one.
        snapshot: SnapshotId,
    },
    /// Under its name there is something else.
    SnapshotReplaced {
        /// That one.
        snapshot: SnapshotId,
    },
    /// The newest keyring is older than one that was seen: a secret that was removed since may open it.
    KeyringOlder {
        /// The generation that was seen.
        known: u64,
        /// The one that is there.
        found: u64,
    },
    /// A keyring of the same generation is another one.
    KeyringReplaced {
        /// Its generation.
        generation: u64,
    },
    /// The newest parameters are older than what was seen.
    ConfigOlder {
        /// The generation that was seen.
        known: u64,
        /// The one that is there.
        found: u64,
    },
    /// Parameters of the same generation are others.
    ConfigReplaced {
        /// Their generation.
        generation: u64,
    },
    /// At this place was another repository, which its owner made or accepted.
    AnotherRepository {
        /// The one that was.
        known: RepositoryId,
        /// The one that is; `None`: none.
        found: Option<RepositoryId>,
    },
}

impl fmt::Display for RollbackSign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SnapshotGone { snapshot } => {
                write!(f, "snapshot {}, made from here, is gone and nobody forgot it", snapshot.short())
            }
            Self::SnapshotReplaced { snapshot } => {
                write!(f, "snapshot {} is not the one that was made from here", snapshot.short())
            }
            Self::KeyringOlder { known, found } => {
                write!(f, "its keys are those of generation {found}, and {known} was seen")
            }
            Self::KeyringReplaced { generation } => write!(f, "the keys of generation {generation} are others"),
            Self::ConfigOlder { known, found } => {
                write!(f, "its parameters are those of generation {found}, and {known} was seen")
            }
            Self::ConfigReplaced { generation } => write!(f, "the parameters of generation {generation} are others"),
            Self::AnotherRepository { known, found: Some(found) } => {
                write!(f, "repository {} was there, and now it is {}", first_digits(known), first_digits(found))
            }
            Self::AnotherRepository { known, found: None } => {
                write!(f, "repository {} was there, and now there is none", first_digits(known))
            }
        }
    }
}

fn first_digits(repository: &RepositoryId) -> String {
    repository.to_string()[..10].to_owned()
}

fn joined(signs: &[RollbackSign]) -> String {
    signs.iter().map(RollbackSign::to_string).collect::<Vec<_>>().join("; ")
}

/// What is wrong with an object's bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Corruption {
    /// Shorter than its own structure says.
    #[error("cut short")]
    Truncated,
    /// The hash is not the name, or not the trailing checksum.
    #[error("its bytes changed (hash differs)")]
    Hash,
    /// Not an object of ours.
    #[error("not an icecore object (no magic)")]
    Magic,
    /// Another type of object than its name says.
    #[error("an object of type {0} under a name of another type")]
    WrongType(u8),
    /// A version, suite, flag or field of a later or another build.
    #[error("unknown {field} {value}")]
    Unknown {
        /// Which field.
        field: &'static str,
        /// What it says.
        value: u64,
    },
    /// Authentication failed.
    #[error("authentication failed")]
    Authentication,
    /// A chunk's plaintext has another name.
    #[error("a chunk's content does not match its id")]
    ChunkId,
    /// A structure that no writer produces.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// A length or count over its limit.
    #[error("{0} over its limit")]
    OverLimit(&'static str),
    /// The object is not there.
    #[error("missing")]
    Missing,
}

impl Corruption {
    /// Adds the name, where it is known.
    pub fn of(self, object: ObjectName) -> Error {
        Error::Corrupt { object, problem: self }
    }
}

/// Why a backend could not do something with an object.
#[derive(Debug, thiserror::Error)]
#[error("{action} {object}: {source}")]
pub struct BackendError {
    /// The object's or place's name.
    pub object: String,
    /// "reading", "writing", "listing", "removing".
    pub action: &'static str,
    /// What kind of failure, for callers that react.
    pub kind: BackendErrorKind,
    /// The cause.
    pub source: io::Error,
}

/// The failures that callers tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackendErrorKind {
    /// No such object.
    Absent,
    /// No permission.
    Denied,
    /// No space, or a quota.
    Full,
    /// May work when tried again.
    Transient,
    /// Anything else: final.
    Final,
}

impl BackendError {
    /// Classifies an I/O error.
    pub fn io(action: &'static str, object: impl ToString, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::NotFound => BackendErrorKind::Absent,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => BackendErrorKind::Denied,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => BackendErrorKind::Full,
            io::ErrorKind::Interrupted | io::ErrorKind::TimedOut => BackendErrorKind::Transient,
            _ => BackendErrorKind::Final,
        };
        Self { object: object.to_string(), action, kind, source }
    }

    /// Whether this place cannot do such a thing at all.
    pub fn is_unsupported(&self) -> bool {
        self.source.kind() == io::ErrorKind::Unsupported
    }

    /// Whether this says something of the object, and not only of this attempt: it is gone, or on sectors that its disk has
    /// lost. Of an object that could not be read for another reason nothing is known.
    pub fn is_damage(&self) -> bool {
        matches!(self.kind, BackendErrorKind::Absent | BackendErrorKind::Final)
    }

    /// Whether the object is simply not there.
    pub fn is_absent(&self) -> bool {
        self.kind == BackendErrorKind::Absent
    }
}

fn no_slot_opens(slots: usize) -> String {
    match slots {
        1 => "the only key slot does not open".to_owned(),
        _ => format!("none of {slots} key slots opens"),
    }
}

fn vanished(count: usize, first: &SnapshotId) -> String {
    match count {
        1 => format!("snapshot {first}, which the last prune kept, is gone without having been forgotten"),
        _ => format!(
            "{count} snapshots that the last prune kept are gone without having been forgotten, {first} among them"
        ),
    }
}
