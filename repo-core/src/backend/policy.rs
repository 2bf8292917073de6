//! Who writes which objects: one table, by which stores are told what to let clients do, and by which [`AppendOnly`] does it.
//!
//! Clients add; maintenance removes, and writes what decides about others' data. A store that holds clients to this takes from
//! a stolen one the means to destroy, whatever keys it has. A store that cannot (a plain directory) leaves it to the client's
//! good will, and nothing is claimed of it.
//!
//! [`AppendOnly`]: super::AppendOnly

use crate::id::{Doubled, ObjectName};

/// Who writes objects of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Writer {
    /// Whoever backs up or copies.
    Client,
    /// Whoever forgets, prunes, repairs, and manages keys.
    Maintenance,
}

/// What holds for the names that begin in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rule {
    /// How the names begin, below the repository's root; with a slash at its end a folder, else one whole name.
    pub prefix: &'static str,
    /// Who puts new objects there.
    pub writer: Writer,
    /// What lies there, in a few words.
    pub what: &'static str,
}

const fn rule(prefix: &'static str, writer: Writer, what: &'static str) -> Rule {
    Rule { prefix, writer, what }
}

/// All rules: each name of the grammar begins as exactly one of them says. Everybody reads and lists everything; only
/// maintenance removes or replaces anything.
pub const RULES: [Rule; 15] = [
    rule("packs/", Writer::Client, "contents"),
    rule("index/", Writer::Client, "where chunks lie"),
    rule("parity/", Writer::Client, "parity of packs"),
    rule("sessions/", Writer::Client, "writers at work"),
    rule("snapshots/", Writer::Client, "snapshots"),
    rule("r/snapshots/", Writer::Client, "their second copies"),
    rule("format", Writer::Maintenance, "that there is a repository"),
    rule("config/", Writer::Maintenance, "parameters"),
    rule("keys/", Writer::Maintenance, "key slots"),
    rule("keyring/", Writer::Maintenance, "keys"),
    rule("r/", Writer::Maintenance, "second copies of the four before"),
    rule("gc/", Writer::Maintenance, "what is deleted"),
    rule("forgotten/", Writer::Maintenance, "what is forgotten"),
    rule("damaged/", Writer::Maintenance, "what is damaged"),
    rule("mirror", Writer::Maintenance, "that it is a mirror"),
];

/// Who writes this object.
pub fn writer(name: &ObjectName) -> Writer {
    match name {
        ObjectName::Pack(..)
        | ObjectName::Index(_)
        | ObjectName::Parity(..)
        | ObjectName::Session(_)
        | ObjectName::Renewal(..)
        | ObjectName::Snapshot(_)
        | ObjectName::SecondCopy(Doubled::Snapshot(_)) => Writer::Client,
        ObjectName::Format
        | ObjectName::KeySlot(_)
        | ObjectName::Keyring(_)
        | ObjectName::Config(_)
        | ObjectName::Gc(..)
        | ObjectName::Forgotten(_)
        | ObjectName::Damaged(..)
        | ObjectName::Mirror
        | ObjectName::SecondCopy(_) => Writer::Maintenance,
    }
}

/// The prefixes under which clients put new objects: a store allows them that, reading and listing, and nothing else.
pub fn client_prefixes() -> impl Iterator<Item = &'static str> {
    RULES.iter().filter(|rule| rule.writer == Writer::Client).map(|rule| rule.prefix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{GcStage, IndexId, PackId, PackKind, SlotId, SnapshotId};

    #[test]
    fn the_table_and_the_names_say_the_same() {
        let (snapshot, pack, slot) = (SnapshotId([1; 16]), PackId([2; 32]), SlotId([3; 16]));
        let doubled = [
            Doubled::Format,
            Doubled::KeySlot(slot),
            Doubled::Keyring(1),
            Doubled::Config(1),
            Doubled::Snapshot(snapshot),
        ];
        let mut names: Vec<ObjectName> = doubled.into_iter().map(ObjectName::from).collect();
        names.extend(doubled.map(ObjectName::SecondCopy));
        names.extend(GcStage::ALL.map(|stage| ObjectName::Gc(1, stage)));
        names.extend([
            ObjectName::Pack(PackKind::Data, pack),
            ObjectName::Pack(PackKind::Meta, pack),
            ObjectName::Index(IndexId([4; 32])),
            ObjectName::Parity(pack, 1),
            ObjectName::Session(snapshot),
            ObjectName::Renewal(snapshot, 1),
            ObjectName::Forgotten(snapshot),
            ObjectName::Damaged(pack, 1),
            ObjectName::Mirror,
        ]);
        for name in names {
            let text = name.to_string();
            let rules = RULES.iter().filter(|rule| text.starts_with(rule.prefix));
            // The longest beginning counts, as it does in stores.
            let rule = rules.max_by_key(|rule| rule.prefix.len()).unwrap_or_else(|| panic!("no rule for {text}"));
            assert_eq!(rule.writer, writer(&name), "{text}");
        }
    }
}
