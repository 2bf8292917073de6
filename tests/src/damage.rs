//! Damage to stored objects, through the backend's own verbs, so that it can be done to any place.

use std::fmt;
use std::ops::ControlFlow;

use repo_core::{Backend, Doubled, Listed, ObjectName, PackKind, Prefix, Put, Span};

/// The kinds of object that a repository may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Format,
    KeySlot,
    Keyring,
    Config,
    DataPack,
    MetaPack,
    Index,
    Snapshot,
    Session,
    Parity,
}

impl Kind {
    pub const ALL: [Self; 10] = [
        Self::Format,
        Self::KeySlot,
        Self::Keyring,
        Self::Config,
        Self::DataPack,
        Self::MetaPack,
        Self::Index,
        Self::Snapshot,
        Self::Session,
        Self::Parity,
    ];

    /// Whether a second copy is kept under `r/`.
    pub fn is_doubled(self) -> bool {
        matches!(self, Self::Format | Self::KeySlot | Self::Keyring | Self::Config | Self::Snapshot)
    }

    /// The kind of a primary object; `None` for a second copy.
    pub fn of(name: &ObjectName) -> Option<Self> {
        Some(match name {
            ObjectName::Format => Self::Format,
            ObjectName::KeySlot(_) => Self::KeySlot,
            ObjectName::Keyring(_) => Self::Keyring,
            ObjectName::Config(_) => Self::Config,
            ObjectName::Pack(PackKind::Data, _) => Self::DataPack,
            ObjectName::Pack(PackKind::Meta, _) => Self::MetaPack,
            ObjectName::Index(_) => Self::Index,
            ObjectName::Snapshot(_) => Self::Snapshot,
            ObjectName::Session(_) => Self::Session,
            ObjectName::Parity(..) => Self::Parity,
            _ => return None,
        })
    }
}

/// What is done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    Delete,
    /// Only this many hundredths of it stay.
    Truncate {
        keep_percent: u64,
    },
    /// One bit is turned, at this many hundredths of its length.
    Flip {
        at_percent: u64,
    },
}

impl Damage {
    /// One of each, and where it matters several: head, middle, and the very end of an object.
    pub const ALL: [Self; 8] = [
        Self::Delete,
        Self::Truncate { keep_percent: 0 },
        Self::Truncate { keep_percent: 50 },
        Self::Truncate { keep_percent: 99 },
        Self::Flip { at_percent: 0 },
        Self::Flip { at_percent: 10 },
        Self::Flip { at_percent: 55 },
        Self::Flip { at_percent: 100 },
    ];

    /// What is left of `bytes`; `None` for nothing at all.
    pub fn done_to(self, bytes: &[u8]) -> Option<Vec<u8>> {
        let position = |percent: u64| (bytes.len() as u64 * percent / 100) as usize;
        let mut bytes = bytes.to_vec();
        match self {
            Self::Delete => return None,
            Self::Truncate { keep_percent } => bytes.truncate(position(keep_percent).min(bytes.len() - 1)),
            Self::Flip { at_percent } => {
                let at = position(at_percent).min(bytes.len() - 1);
                bytes[at] ^= 1 << (at % 8);
            }
        }
        Some(bytes)
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delete => f.write_str("deleted"),
            Self::Truncate { keep_percent } => write!(f, "cut to {keep_percent} %"),
            Self::Flip { at_percent } => write!(f, "with a bit turned at {at_percent} %"),
        }
    }
}

/// All objects of a place, ascending.
pub fn objects(place: &dyn Backend) -> Vec<ObjectName> {
    let mut names = Vec::new();
    let listed = place.list(Prefix::All, &mut |listed| {
        if let Listed::Object { name, .. } = listed {
            names.push(name);
        }
        ControlFlow::Continue(())
    });
    listed.expect("the place can be listed");
    names.sort();
    names
}

/// The primary objects of a kind, ascending.
pub fn of_kind(place: &dyn Backend, kind: Kind) -> Vec<ObjectName> {
    objects(place).into_iter().filter(|name| Kind::of(name) == Some(kind)).collect()
}

/// Damages one object. Its second copy, if it has one, stays.
pub fn damage(place: &dyn Backend, name: &ObjectName, damage: Damage) {
    let bytes = place.get(name, Span::All).expect("what is to be damaged is there");
    let left = damage.done_to(&bytes);
    place.remove(name).expect("an object can be removed");
    if let Some(left) = left {
        assert_eq!(place.put_new(name, left.into()).expect("the name is free"), Put::Created);
    }
}

/// Damages an object and its second copy alike.
pub fn damage_both(place: &dyn Backend, name: &ObjectName, how: Damage) {
    damage(place, name, how);
    if let Some(copy) = second_copy(name) {
        damage(place, &copy, how);
    }
}

/// The name of the second copy, for what has one.
pub fn second_copy(name: &ObjectName) -> Option<ObjectName> {
    Some(ObjectName::SecondCopy(match name {
        ObjectName::Format => Doubled::Format,
        ObjectName::KeySlot(id) => Doubled::KeySlot(*id),
        ObjectName::Keyring(generation) => Doubled::Keyring(*generation),
        ObjectName::Config(generation) => Doubled::Config(*generation),
        ObjectName::Snapshot(id) => Doubled::Snapshot(*id),
        _ => return None,
    }))
}
