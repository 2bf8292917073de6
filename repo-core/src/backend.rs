//! A place that keeps immutable, named byte strings ("objects"), and what it promises.
//! A backend knows no keys and no meaning; choosing paths, fsync and retries is its own affair.

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;

use crate::error::BackendError;
use crate::id::{ObjectName, PackKind};

mod append_only;
mod draft;
mod limit;
mod local;
mod memory;
mod mirrored;
pub mod policy;
mod weak;

pub use append_only::AppendOnly;
pub(crate) use draft::Draft;
pub use limit::Limited;
pub use local::Local;
pub use memory::Memory;
pub use mirrored::Mirrored;
pub use weak::Weak;

/// A place for objects. The promises, which the contract suite checks on every implementation:
///
/// 1. `put_new` is all or nothing, and durable when it returns.
/// 2. What was written is at once readable and listed.
/// 3. An existing name is never replaced, but by `replace_damaged`: `put_new` answers [`Put::Exists`] with the bytes that
///    are there.
/// 4. A missing name is an error that [`BackendError::is_absent`], never empty bytes.
/// 5. `remove` is durable when it returns.
/// 6. `list` shows every object that existed throughout, and of those written or removed meanwhile any subset.
///
/// ```
/// use repo_core::{Backend, Bytes, Memory, ObjectName, Put, Span};
///
/// let place = Memory::new();
/// place.prepare()?;
/// let name: ObjectName = "format".parse().expect("a name of the grammar");
/// assert_eq!(place.put_new(&name, Bytes::from_static(b"first"))?, Put::Created);
/// assert_eq!(place.put_new(&name, Bytes::from_static(b"second"))?, Put::Exists(Bytes::from_static(b"first")));
/// assert_eq!(place.get(&name, Span::Suffix(3))?, "rst");
/// # Ok::<(), repo_core::Error>(())
/// ```
///
/// How to write one is shown whole in `examples/write_a_backend.rs`.
pub trait Backend: Send + Sync + fmt::Debug {
    /// Where this is, for people.
    fn place(&self) -> String;

    /// Makes the place ready for a first object: directories, buckets. Harmless if that was done before.
    fn prepare(&self) -> Result<(), BackendError>;

    /// Writes an object under a name that has none. A place that does not decide races
    /// ([`Capabilities::put_if_absent`]) refuses with an error that [`BackendError::is_unsupported`].
    fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<Put, BackendError>;

    /// Writes an object whatever has its name: all or nothing, and durable when it returns. For places that have no `put_new`;
    /// asked for by weak repositories alone ([`InitOptions::weak_store`](crate::InitOptions::weak_store)), which look before
    /// and after.
    ///
    /// The default refuses with an error that [`BackendError::is_unsupported`]: where `put_new` works nothing needs this.
    fn put_over(&self, name: &ObjectName, _bytes: Bytes) -> Result<(), BackendError> {
        Err(BackendError::io("writing over", name, io::ErrorKind::Unsupported.into()))
    }

    /// Makes durable an object that was listed or read. Its writer may have died, or may be about to, between giving it
    /// its name and making that durable: who builds on an object that he did not put himself asks for this first.
    /// The default is for places where whatever can be read is durable.
    fn make_durable(&self, _name: &ObjectName) -> Result<(), BackendError> {
        Ok(())
    }

    /// Reads an object or a part of it. A range or suffix that goes beyond the object is cut to what is there.
    fn get(&self, name: &ObjectName, span: Span) -> Result<Bytes, BackendError>;

    /// Calls `each` for every name below `prefix`, in no order, until it breaks.
    fn list(&self, prefix: Prefix, each: &mut dyn FnMut(Listed) -> ControlFlow<()>) -> Result<(), BackendError>;

    /// How long ago an object got its name, by the place's own clock; `None` where the place cannot tell. Decides only how
    /// soon a silent writer is given up, never what is safe.
    fn age(&self, _name: &ObjectName) -> Result<Option<Duration>, BackendError> {
        Ok(None)
    }

    /// Removes an object.
    fn remove(&self, name: &ObjectName) -> Result<Removal, BackendError>;

    /// Puts `bytes` in the place of a damaged object, in one step: at every moment, and after a power failure, all of the
    /// old or all of the new stands under the name. Durable when it returns.
    ///
    /// A name that is free stays free, which is an error that [`BackendError::is_absent`]: who removed it had a reason.
    /// For repair alone, and only with bytes that are proven to be this object's: then several at once do no harm.
    ///
    /// The default refuses with an error that [`BackendError::is_unsupported`]: a place that cannot do it so does not do it.
    fn replace_damaged(&self, name: &ObjectName, _bytes: Bytes) -> Result<(), BackendError> {
        Err(BackendError::io("replacing", name, io::ErrorKind::Unsupported.into()))
    }

    /// Percent of parity that a new repository at this place gives its packs unless it is told otherwise. The default is
    /// none: most stores keep several copies themselves.
    fn default_parity_percent(&self) -> u8 {
        0
    }

    /// Gives up the room that this place keeps for the moment when it is full; whether there was any. Prune asks for it
    /// when a write fails for want of room: to take back space it must write a little first. The default keeps none.
    fn release_reserve(&self) -> bool {
        false
    }

    /// Keeps such room again, if there is enough; nothing depends on it. The default keeps none.
    fn keep_reserve(&self) {}

    /// Another place with the same objects, byte for byte, to ask where the bytes of this one prove to be damaged. The
    /// default is none.
    fn mirror(&self) -> Option<&dyn Backend> {
        None
    }

    /// What this place can do.
    fn capabilities(&self) -> Capabilities;

    /// The handle of a weak repository, by whose rules everybody goes who was given it. Nobody but the library makes one:
    /// implementations leave this as it is.
    #[doc(hidden)]
    fn weak(&self) -> Option<&Weak> {
        None
    }
}

/// What `put_new` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// The object is there, durable, and was not before.
    Created,
    /// The name was taken; these are the bytes that are there.
    Exists(Bytes),
    /// The answer was lost: it may be there, now or soon. Only remote backends say so.
    Unknown,
}

/// Which part of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// All of it.
    All,
    /// `length` bytes from `offset`.
    Range {
        /// Where it begins.
        offset: u64,
        /// How many bytes.
        length: u64,
    },
    /// The last so many bytes.
    Suffix(u64),
}

/// Which names to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefix {
    /// Everything, the second copies too.
    All,
    /// `keys/`
    KeySlots,
    /// `keyring/`
    Keyrings,
    /// `config/`
    Configs,
    /// `packs/d/` or `packs/m/`
    Packs(PackKind),
    /// `index/`
    Indexes,
    /// `snapshots/`
    Snapshots,
    /// `sessions/`: sessions and their renewals.
    Sessions,
    /// `gc/`
    Gc,
    /// `forgotten/`
    Forgotten,
    /// `damaged/`
    Damaged,
    /// `parity/`
    Parity,
    /// `r/`
    SecondCopies,
}

impl Prefix {
    /// The text that all names with this prefix begin with, without its last slash; empty for all names.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::All => "",
            Self::KeySlots => "keys",
            Self::Keyrings => "keyring",
            Self::Configs => "config",
            Self::Packs(PackKind::Data) => "packs/d",
            Self::Packs(PackKind::Meta) => "packs/m",
            Self::Indexes => "index",
            Self::Snapshots => "snapshots",
            Self::Sessions => "sessions",
            Self::Gc => "gc",
            Self::Forgotten => "forgotten",
            Self::Damaged => "damaged",
            Self::Parity => "parity",
            Self::SecondCopies => "r",
        }
    }

    /// Whether a listing of this prefix shows the name: what a backend without folders asks of each name it has.
    pub fn contains(self, name: &ObjectName) -> bool {
        match self {
            Self::All => true,
            Self::KeySlots => matches!(name, ObjectName::KeySlot(_)),
            Self::Keyrings => matches!(name, ObjectName::Keyring(_)),
            Self::Configs => matches!(name, ObjectName::Config(_)),
            Self::Packs(kind) => matches!(name, ObjectName::Pack(of, _) if *of == kind),
            Self::Indexes => matches!(name, ObjectName::Index(_)),
            Self::Snapshots => matches!(name, ObjectName::Snapshot(_)),
            Self::Sessions => matches!(name, ObjectName::Session(_) | ObjectName::Renewal(..)),
            Self::Gc => matches!(name, ObjectName::Gc(..)),
            Self::Forgotten => matches!(name, ObjectName::Forgotten(_)),
            Self::Damaged => matches!(name, ObjectName::Damaged(..)),
            Self::Parity => matches!(name, ObjectName::Parity(..)),
            Self::SecondCopies => matches!(name, ObjectName::SecondCopy(_)),
        }
    }
}

/// Whether an object is there, by a read of its first byte.
pub fn is_there(backend: &dyn Backend, name: &ObjectName) -> Result<bool, BackendError> {
    match backend.get(name, Span::Range { offset: 0, length: 1 }) {
        Ok(_) => Ok(true),
        Err(error) if error.is_absent() => Ok(false),
        Err(error) => Err(error),
    }
}

impl Span {
    /// The part of an object of `size` bytes: offset and length, cut to what is there.
    pub fn within(self, size: u64) -> (u64, u64) {
        match self {
            Self::All => (0, size),
            Self::Range { offset, length } => {
                let offset = offset.min(size);
                (offset, length.min(size - offset))
            }
            Self::Suffix(length) => {
                let length = length.min(size);
                (size - length, length)
            }
        }
    }
}

/// What a listing shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// An object.
    Object {
        /// Its name.
        name: ObjectName,
        /// Its length in bytes.
        size: u64,
    },
    /// A name outside the grammar: never read, never removed, reported by `check`.
    Foreign {
        /// As the place has it, below the root.
        name: String,
    },
}

/// What `remove` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It was there and is gone.
    Removed,
    /// It was not there.
    Absent,
    /// The place refuses, by retention or object lock.
    Retained,
}

/// What a place can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// `put_new` is decided by the place itself, so that of two racing writers exactly one wins. Where that is not so, a
    /// repository can be read, and nothing writes to it unless it was made a weak one, which takes
    /// [`put_over`](Backend::put_over).
    pub put_if_absent: bool,
}
