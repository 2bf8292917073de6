//! The keys of an open repository, by what they are for; and from them the keys of one object.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

use super::aead::ObjectKeys;
use super::{SecretKey, context, derive, fill_random};
use crate::error::{Corruption, Error, Result};
use crate::format::header::{HEADER_KEYED_LENGTH, HEADER_LENGTH, Header, ObjectType};
use crate::format::keyring::{GC_FROM_UNSET, Keyring, Purpose};
use crate::id::{ChunkId, ChunkKind, ObjectName, SeriesId};

/// The keys of an open repository. `chunk_id` and the cutting tables derive from the root secret,
/// which lasts for the repository's life; object keys from the epoch's purpose keys.
pub struct Keys {
    /// By [`ChunkKind`].
    ids: [SecretKey; 4],
    gear: Box<Zeroizing<[u64; 256]>>,
    tree_split: SecretKey,
    series: SecretKey,
    salt_hedge: SecretKey,
    /// Ascending by epoch, never empty.
    epochs: Vec<EpochKeys>,
    /// Where salts come from: the operating system, except in tests of what happens when that fails.
    randomness: fn(&mut [u8]) -> Result<()>,
}

struct EpochKeys {
    epoch: u32,
    /// The first cycle that was done under it, or [`GC_FROM_UNSET`].
    gc_from: u64,
    /// By the purpose's number.
    keys: Vec<(u8, PurposeKey)>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(hidden)")
    }
}

impl Keys {
    /// Derives everything that a keyring's secrets give.
    pub fn from_keyring(keyring: &Keyring) -> Result<Self> {
        let root = &keyring.root_secret;
        let mut epochs: Vec<_> = keyring.epochs.iter().map(EpochKeys::new).collect();
        epochs.sort_by_key(|keys| keys.epoch);
        let unique = epochs.windows(2).all(|pair| pair[0].epoch < pair[1].epoch);
        if epochs.is_empty() || !unique {
            return Err(Corruption::Malformed("keyring epochs").of(ObjectName::Keyring(keyring.generation)));
        }
        Ok(Self {
            ids: ChunkKind::ALL.map(|kind| derive(id_context(kind), root)),
            gear: gear_table(root),
            tree_split: derive("tree split", root),
            series: derive("series", root),
            salt_hedge: derive("salt hedge", root),
            epochs,
            randomness: fill_random,
        })
    }

    fn newest(&self) -> &EpochKeys {
        self.epochs.last().expect("from_keyring refuses a keyring without epochs")
    }

    /// The epoch that new objects are of.
    pub fn newest_epoch(&self) -> u32 {
        self.newest().epoch
    }

    /// The epoch that steps of cycles are of at least, the newest that a cycle was done under: who knows only earlier keys
    /// says nothing about what is deleted.
    pub fn oldest_epoch_of_cycles(&self) -> u32 {
        let first = self.epochs.first().expect("from_keyring refuses a keyring without epochs").epoch;
        self.epochs.iter().rev().find(|keys| keys.gc_from != GC_FROM_UNSET).map_or(first, |keys| keys.epoch)
    }

    /// Whether there are keys of earlier epochs, and so there may be objects under them.
    pub fn has_older_epochs(&self) -> bool {
        self.epochs.len() > 1
    }

    /// A chunk's name.
    pub fn chunk_id(&self, kind: ChunkKind, plaintext: &[u8]) -> ChunkId {
        ChunkId(*blake3::keyed_hash(&self.ids[kind as usize], plaintext).as_bytes())
    }

    /// The gear table of this repository's FastCDC.
    pub fn gear(&self) -> &[u64; 256] {
        &self.gear
    }

    /// Whether a tree node that may end after `name` does: the low byte of a keyed hash is 0.
    pub fn splits_tree_after(&self, name: &[u8]) -> bool {
        blake3::keyed_hash(&self.tree_split, name).as_bytes()[0] == 0
    }

    /// The series of a host and its source.
    pub fn series(&self, label: &[u8]) -> SeriesId {
        let hash = blake3::keyed_hash(&self.series, label);
        SeriesId(hash.as_bytes()[..16].try_into().expect("16 of 32 bytes"))
    }

    /// A fresh header with a hedged salt and its commitment, and the keys of that object.
    /// `writer` and `counter` are mixed into the salt, so that a cloned machine with stuck randomness does not repeat one.
    pub fn new_object(
        &self,
        purpose: Purpose,
        object_type: ObjectType,
        writer: &[u8; 16],
        counter: u64,
    ) -> Result<(Header, ObjectKeys)> {
        let newest = self.newest();
        let key = newest.purpose(purpose).ok_or_else(|| {
            Error::Usage(format!("the role of this key does not allow writing: it lacks the purpose {purpose:?}"))
        })?;
        let mut random = [0; 32];
        (self.randomness)(&mut random)?;
        let mut hasher = blake3::Hasher::new_keyed(&self.salt_hedge);
        hasher.update(&random).update(writer).update(&counter.to_le_bytes());
        Ok(key.new_object(object_type, newest.epoch, *hasher.finalize().as_bytes()))
    }

    /// The keys of a stored object; refuses a header whose commitment is not theirs, before anything is decrypted.
    pub fn of_object(&self, purpose: Purpose, header: &Header) -> Result<ObjectKeys, Corruption> {
        let unknown = Corruption::Unknown { field: "key epoch", value: u64::from(header.key_epoch) };
        let epoch = self.epochs.iter().find(|keys| keys.epoch == header.key_epoch).ok_or(unknown)?;
        let unknown = Corruption::Unknown { field: "key purpose", value: purpose as u64 };
        epoch.purpose(purpose).ok_or(unknown)?.of_object(header)
    }

    /// A counter for objects whose plaintext is known when they are opened: a keyed hash of it, so that stuck randomness
    /// does not even repeat a salt.
    pub(crate) fn content_counter(&self, parts: &[&[u8]]) -> u64 {
        let mut hasher = blake3::Hasher::new_keyed(&self.salt_hedge);
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        u64::from_le_bytes(hasher.finalize().as_bytes()[..8].try_into().expect("8 of 32 bytes"))
    }

    /// Keys whose salts come from `randomness`.
    #[cfg(test)]
    pub(crate) fn with_randomness(self, randomness: fn(&mut [u8]) -> Result<()>) -> Self {
        Self { randomness, ..self }
    }
}

impl EpochKeys {
    fn new(epoch: &crate::format::keyring::Epoch) -> Self {
        let keys = epoch.keys.iter().map(|(number, key)| (*number, PurposeKey(Zeroizing::new(*key)))).collect();
        Self { epoch: epoch.epoch, gc_from: epoch.gc_from, keys }
    }

    fn purpose(&self, purpose: Purpose) -> Option<&PurposeKey> {
        self.keys.iter().find(|(number, _)| *number == purpose as u8).map(|(_, key)| key)
    }
}

fn id_context(kind: ChunkKind) -> &'static str {
    match kind {
        ChunkKind::Data => "id data",
        ChunkKind::Tree => "id tree",
        ChunkKind::List => "id list",
        ChunkKind::Xattr => "id xattr",
    }
}

/// 256 little-endian numbers from BLAKE3's key derivation, extended: a table that only this repository has, so that cut
/// points tell nobody else what a file is.
fn gear_table(root: &[u8; 32]) -> Box<Zeroizing<[u64; 256]>> {
    let mut stream = blake3::Hasher::new_derive_key(&context("chunker gear"));
    let mut bytes = Zeroizing::new([0; 2048]);
    stream.update(root).finalize_xof().fill(bytes.as_mut());
    stream.zeroize();
    let mut table = Box::new(Zeroizing::new([0; 256]));
    for (entry, number) in table.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *entry = u64::from_le_bytes(*number);
    }
    table
}

/// The purpose keys of a new epoch, from its fresh master key, which is then forgotten.
pub fn new_epoch_keys(master: &[u8; 32]) -> Vec<(u8, [u8; 32])> {
    let contexts = [
        (Purpose::PackData, "pack data"),
        (Purpose::PackMeta, "pack meta"),
        (Purpose::Index, "index"),
        (Purpose::Snapshot, "snapshot"),
        (Purpose::Session, "session"),
        (Purpose::GcMark, "gc mark"),
        (Purpose::GcPlan, "gc plan"),
        (Purpose::Config, "config"),
    ];
    contexts.map(|(purpose, context)| (purpose as u8, *derive(context, master))).to_vec()
}

/// The key of all objects of one purpose in one epoch.
struct PurposeKey(SecretKey);

impl PurposeKey {
    /// The header of a new object with this salt, and its keys.
    fn new_object(&self, object_type: ObjectType, key_epoch: u32, salt: [u8; 32]) -> (Header, ObjectKeys) {
        let mut header = Header { object_type, padded: true, key_epoch, salt, commitment: [0; 32] };
        let (commitment, keys) = self.expand(keyed_part(&header.encode()));
        header.commitment = *commitment.as_bytes();
        (header, keys)
    }

    /// The keys of a stored object. GCM does not commit to its key: without this comparison, in constant time, someone
    /// could craft an object that opens under two keys, or learn from errors which keys it does not open under.
    fn of_object(&self, header: &Header) -> Result<ObjectKeys, Corruption> {
        let (commitment, keys) = self.expand(keyed_part(&header.encode()));
        if commitment != header.commitment {
            return Err(Corruption::Authentication);
        }
        Ok(keys)
    }

    /// The commitment and the keys that belong to a header's first 48 bytes: to its type, version, suite, flags, epoch
    /// and salt.
    fn expand(&self, keyed: &[u8; HEADER_KEYED_LENGTH]) -> (blake3::Hash, ObjectKeys) {
        let stream = self.stream(keyed);
        let [object_key, commitment, pad_seed, iv_key] = std::array::from_fn(|part| {
            let mut key = Zeroizing::new([0; 32]);
            key.copy_from_slice(&stream[part * 32..][..32]);
            key
        });
        (blake3::Hash::from_bytes(*commitment), ObjectKeys::new(&object_key, pad_seed, iv_key))
    }

    /// `object key ‖ commitment ‖ padding seed ‖ key of the nonces' synthetic parts`.
    fn stream(&self, keyed: &[u8; HEADER_KEYED_LENGTH]) -> Zeroizing<[u8; 128]> {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        let mut reader = hasher.update(keyed).finalize_xof();
        let mut stream = Zeroizing::new([0; 128]);
        reader.fill(stream.as_mut());
        reader.zeroize();
        hasher.zeroize();
        stream
    }
}

fn keyed_part(header: &[u8; HEADER_LENGTH]) -> &[u8; HEADER_KEYED_LENGTH] {
    header.first_chunk().expect("48 of 80 bytes")
}

/// A new header and keys for the keyring's object, which is sealed under the root key itself.
/// `plaintext` is mixed into the salt, for the reason that [`Keys::new_object`] gives.
pub(crate) fn new_keyring_object(root_key: &[u8; 32], plaintext: &[u8]) -> Result<(Header, ObjectKeys)> {
    let mut random = [0; 32];
    fill_random(&mut random)?;
    let mut hasher = blake3::Hasher::new_keyed(&derive("keyring hedge", root_key));
    hasher.update(&random).update(plaintext);
    let salt = *hasher.finalize().as_bytes();
    Ok(PurposeKey(derive("keyring", root_key)).new_object(ObjectType::Keyring, 0, salt))
}

/// The keys of a stored keyring.
pub(crate) fn keyring_object(root_key: &[u8; 32], header: &Header) -> Result<ObjectKeys, Corruption> {
    PurposeKey(derive("keyring", root_key)).of_object(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Domain, testing};
    use crate::format::keyring::Epoch;

    /// The commitment and object key of docs/format.md's example, whose header is that of version 1.
    #[test]
    fn an_object_key_is_that_of_the_format_description() {
        let purpose_key = PurposeKey(derive("pack data", &testing::MASTER_KEY));
        let header = hex::decode(
            "52434f31010101000000000000000000404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f",
        );
        let stream = purpose_key.stream(header.unwrap().first_chunk().unwrap());
        assert_eq!(hex::encode(&stream[..32]), "f22622dc0272b1c78601fffcd8a2fe8e6a1312884f2bca8c3c20d52da01e08be");
        assert_eq!(hex::encode(&stream[32..64]), "66cc72e1c802111a5be5e33a89cab99c376308867c87131ae21e6da9bae6cd4d");
    }

    /// Were two parts of the stream cut from one place, a header would show the object's key as its commitment.
    #[test]
    fn the_parts_of_the_key_stream_are_neighbours_and_serve_as_the_format_description_says() {
        let keyed = &counting_header();
        let purpose_key = PurposeKey(derive("pack data", &testing::MASTER_KEY));
        let stream = purpose_key.stream(keyed);
        let (commitment, keys) = purpose_key.expand(keyed);
        assert_eq!(commitment.as_bytes()[..], stream[32..64]);
        let part = |number: usize| Zeroizing::new(<[u8; 32]>::try_from(&stream[number * 32..][..32]).unwrap());
        let expected = ObjectKeys::new(&part(0), part(2), part(3));
        let sealed = |keys: &ObjectKeys| {
            let (mut message, mut pad) = ([7; 40], [0; 40]);
            keys.seal_in_place(Domain::Box, 0, b"", &mut message);
            keys.fill_padding(&mut pad);
            (message, pad)
        };
        assert_eq!(sealed(&keys), sealed(&expected));
    }

    fn counting_header() -> [u8; HEADER_KEYED_LENGTH] {
        std::array::from_fn(|place| place as u8)
    }

    #[test]
    fn an_object_is_sealed_under_the_key_of_its_purpose() {
        let keys = testing::keys();
        for (purpose, context) in
            [(Purpose::PackData, "pack data"), (Purpose::Index, "index"), (Purpose::Config, "config")]
        {
            let (header, _) = keys.new_object(purpose, ObjectType::Session, &[1; 16], 0).unwrap();
            PurposeKey(derive(context, &testing::MASTER_KEY)).of_object(&header).unwrap();
        }
    }

    /// Two keys of one epoch: which of them seals would hang on the order of a list.
    #[test]
    fn a_keyring_without_epochs_or_with_one_twice_is_refused() {
        let keyring = testing::keyring(testing::ROOT_SECRET, testing::MASTER_KEY);
        let refused = |change: fn(&mut Keyring)| {
            let mut changed = keyring.clone();
            change(&mut changed);
            Keys::from_keyring(&changed).unwrap_err().to_string()
        };
        let expected = Corruption::Malformed("keyring epochs").of(ObjectName::Keyring(1)).to_string();
        assert_eq!(refused(|keyring| keyring.epochs.clear()), expected);
        assert_eq!(refused(|keyring| keyring.epochs.push(keyring.epochs[0].clone())), expected);
    }

    /// It is what parts the salts of different objects when randomness is stuck.
    #[test]
    fn a_counter_by_content_differs_by_every_part_by_their_borders_and_by_repository() {
        let keys = testing::keys();
        let base = keys.content_counter(&[b"name", b"payload"]);
        assert_eq!(base, keys.content_counter(&[b"name", b"payload"]));
        for parts in [[&b"nam"[..], b"epayload"], [b"nama", b"payload"], [b"name", b"payloae"], [b"payload", b"name"]] {
            assert_ne!(base, keys.content_counter(&parts), "{parts:?}");
        }
        assert_ne!(base, testing::other_keys().content_counter(&[b"name", b"payload"]));
    }

    #[test]
    fn steps_of_cycles_are_of_the_newest_epoch_that_a_cycle_was_done_under() {
        let oldest = |cycles: &[u64]| {
            let mut keyring = testing::keyring(testing::ROOT_SECRET, testing::MASTER_KEY);
            let first = keyring.epochs.remove(0);
            let epochs = (4..).zip(cycles);
            keyring.epochs =
                epochs.map(|(epoch, gc_from)| Epoch { epoch, gc_from: *gc_from, ..first.clone() }).collect();
            let keys = Keys::from_keyring(&keyring).unwrap();
            assert_eq!(keys.has_older_epochs(), cycles.len() > 1);
            keys.oldest_epoch_of_cycles()
        };
        assert_eq!([oldest(&[0]), oldest(&[GC_FROM_UNSET])], [4, 4]);
        assert_eq!([oldest(&[0, GC_FROM_UNSET]), oldest(&[0, GC_FROM_UNSET, 7, GC_FROM_UNSET])], [4, 6]);
        assert_eq!(oldest(&[0, 9, 9]), 6);
    }

    #[test]
    fn keys_do_not_show_themselves() {
        assert_eq!(format!("{:?}", testing::keys()), "Keys(hidden)");
    }

    #[test]
    fn derived_keys_are_those_of_the_format_description() {
        for (purpose, key, expected) in [
            ("id data", testing::ROOT_SECRET, "8a79a868ace634affab2d5ea211cb8c9a480a635de696795aa52fe47bc610b6b"),
            ("id tree", testing::ROOT_SECRET, "f39d8445a96e98ba9f17285f18d2d252c774fccccbc907a865572b12d0ddb705"),
            ("tree split", testing::ROOT_SECRET, "abb2d683a4201269b12f5c91b3e3b9cca8365f5cd10d316260cecbfebb82a1a3"),
            ("pack data", testing::MASTER_KEY, "ff6718bbf22c01b3592e344991b0714ee6d4eab1f5248f938d856859c0511d87"),
            ("snapshot", testing::MASTER_KEY, "d05063ac6d8d957dd4fdb5624612c3fb02d0b7694cdb34411b66e4c55d763548"),
        ] {
            assert_eq!(hex::encode(*derive(purpose, &key)), expected, "{purpose}");
        }
        let epoch = new_epoch_keys(&testing::MASTER_KEY);
        assert_eq!(epoch.iter().find(|(number, _)| *number == 4).unwrap().1, *derive("snapshot", &testing::MASTER_KEY));
    }

    #[test]
    fn the_gear_table_is_that_of_the_format_description() {
        let keys = testing::keys();
        let gear = keys.gear();
        assert_eq!(gear[..3], [0xde45_f9dc_d489_730e, 0x9887_17eb_0daa_ad3a, 0x827a_b93c_af39_0519]);
        assert_eq!(gear[255], 0x2153_ab62_b2cf_8044);
    }

    #[test]
    fn a_chunk_id_is_that_of_the_format_description_and_differs_by_kind_and_repository() {
        let keys = testing::keys();
        let id = keys.chunk_id(ChunkKind::Data, b"hello");
        assert_eq!(id.to_string(), "935f93e3f8b9497140b93918ddb6d02f2108c0e2ba8ce99f165b69645980615c");
        let mut ids: Vec<_> = ChunkKind::ALL.map(|kind| keys.chunk_id(kind, b"hello")).to_vec();
        ids.push(testing::other_keys().chunk_id(ChunkKind::Data, b"hello"));
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 5);
    }

    #[test]
    fn every_purpose_has_a_key_of_its_own() {
        let keys = testing::keys();
        let (header, _) = keys.new_object(Purpose::PackData, ObjectType::DataPack, &[1; 16], 0).unwrap();
        for purpose in [Purpose::PackMeta, Purpose::Index, Purpose::Snapshot, Purpose::Session, Purpose::Config] {
            assert_eq!(keys.of_object(purpose, &header).unwrap_err(), Corruption::Authentication);
        }
        keys.of_object(Purpose::PackData, &header).unwrap();
    }

    #[test]
    fn any_change_of_a_header_is_refused_by_its_commitment() {
        let keys = testing::keys();
        let (header, _) = keys.new_object(Purpose::Index, ObjectType::Index, &[1; 16], 0).unwrap();
        let changes: [fn(&mut Header); 4] = [
            |header| header.object_type = ObjectType::DataPack,
            |header| header.padded = false,
            |header| header.salt[31] ^= 1,
            |header| header.commitment[0] ^= 0x80,
        ];
        for change in changes {
            let mut changed = header.clone();
            change(&mut changed);
            assert_eq!(keys.of_object(Purpose::Index, &changed).unwrap_err(), Corruption::Authentication);
        }
        let later = Header { key_epoch: 9, ..header };
        let unknown = Corruption::Unknown { field: "key epoch", value: 9 };
        assert_eq!(keys.of_object(Purpose::Index, &later).unwrap_err(), unknown);
    }

    #[test]
    fn objects_of_an_older_epoch_open_and_new_ones_are_of_the_newest() {
        let mut keyring = testing::keyring(testing::ROOT_SECRET, testing::MASTER_KEY);
        let old = Keys::from_keyring(&keyring).unwrap();
        let (header, _) = old.new_object(Purpose::Session, ObjectType::Session, &[1; 16], 0).unwrap();
        let mut newer = keyring.epochs[0].clone();
        newer.epoch = 3;
        newer.keys = new_epoch_keys(&[9; 32]);
        keyring.epochs.push(newer);
        let rotated = Keys::from_keyring(&keyring).unwrap();
        rotated.of_object(Purpose::Session, &header).unwrap();
        let (header, _) = rotated.new_object(Purpose::Session, ObjectType::Session, &[1; 16], 0).unwrap();
        assert_eq!(header.key_epoch, 3);
        old.of_object(Purpose::Session, &header).unwrap_err();
    }

    #[test]
    fn a_salt_repeats_only_if_randomness_writer_and_counter_all_do() {
        let keys = testing::keys().with_randomness(testing::stuck);
        let salt = |writer: u8, counter| {
            keys.new_object(Purpose::Index, ObjectType::Index, &[writer; 16], counter).unwrap().0.salt
        };
        assert_eq!(salt(1, 1), salt(1, 1));
        assert_ne!(salt(1, 1), salt(1, 2));
        assert_ne!(salt(1, 1), salt(2, 1));
        let working = testing::keys();
        let salt = || working.new_object(Purpose::Index, ObjectType::Index, &[1; 16], 1).unwrap().0.salt;
        assert_ne!(salt(), salt());
    }

    /// One name in 256 ends a node; the rule is the same for ever.
    #[test]
    fn tree_splits_are_rare_and_fixed() {
        let keys = testing::keys();
        let splits: Vec<u32> =
            (0_u32..2000).filter(|number| keys.splits_tree_after(number.to_string().as_bytes())).collect();
        assert_eq!(splits, TREE_SPLITS);
    }

    const TREE_SPLITS: [u32; 12] = [273, 349, 463, 551, 576, 608, 799, 803, 1043, 1071, 1256, 1511];

    #[test]
    fn a_series_depends_on_its_label_and_repository() {
        let keys = testing::keys();
        assert_eq!(keys.series(b"host"), keys.series(b"host"));
        assert_ne!(keys.series(b"host"), keys.series(b"host2"));
        assert_ne!(keys.series(b"host"), testing::other_keys().series(b"host"));
    }
}
