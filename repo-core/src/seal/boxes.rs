//! Small sealed objects: `header ‖ iv8 ‖ GCM ‖ checksum`. Bound to their names, padded, checkable without a key.

use zeroize::Zeroizing;

use super::padding::padme;
use crate::crypto::{Domain, Keys, ObjectKeys, SEAL_OVERHEAD, keyring_object, new_keyring_object};
use crate::error::{Corruption, Error, Result};
use crate::format::header::{HEADER_LENGTH, Header, ObjectType};
use crate::format::keyring::Purpose;
use crate::format::{LARGE_PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MAX};
use crate::id::ObjectName;

const LENGTH_BYTES: usize = 4;
const CHECKSUM_LENGTH: usize = 32;

/// Seals a small object's payload: padded, bound to its name, checksummed.
///
/// # Errors
/// [`Error::Limit`] if the payload is over 1 MiB.
pub fn seal_box(
    keys: &Keys,
    purpose: Purpose,
    object_type: ObjectType,
    name: &ObjectName,
    writer: &[u8; 16],
    payload: &[u8],
) -> Result<Vec<u8>> {
    let name = primary_name(name);
    let counter = keys.content_counter(&[name.as_bytes(), payload]);
    let (header, object_keys) = keys.new_object(purpose, object_type, writer, counter)?;
    seal_under(&header, &object_keys, &name, payload)
}

/// Opens a small object under the name it was found by (a second copy under its first name).
pub fn open_box(
    keys: &Keys,
    purpose: Purpose,
    object_type: ObjectType,
    name: &ObjectName,
    bytes: &[u8],
) -> Result<Vec<u8>, Corruption> {
    // Only the keyring's payload is secret enough to be wiped.
    open_under(|header| keys.of_object(purpose, header), object_type, name, bytes)
        .map(|mut payload| std::mem::take(&mut *payload))
}

/// Seals the keyring of `generation` under the root key itself: it is what all other keys come from.
pub fn seal_keyring(root_key: &[u8; 32], generation: u64, payload: &[u8]) -> Result<Vec<u8>> {
    let name = ObjectName::Keyring(generation).to_string();
    let (header, object_keys) = new_keyring_object(root_key, payload)?;
    seal_under(&header, &object_keys, &name, payload)
}

/// Opens the keyring of `generation`.
pub fn open_keyring(root_key: &[u8; 32], generation: u64, bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, Corruption> {
    let name = ObjectName::Keyring(generation);
    open_under(|header| keyring_object(root_key, header), ObjectType::Keyring, &name, bytes)
}

/// Whether a small object's trailing checksum is right; the marker and key slots end in one too. Needs no key.
pub fn has_checksum(bytes: &[u8]) -> bool {
    bytes.split_last_chunk::<CHECKSUM_LENGTH>().is_some_and(|(content, checksum)| blake3::hash(content) == *checksum)
}

/// The key epoch that a sealed object's header names; `None`: there is no header that could be read. A word and no proof, until
/// the object was opened.
pub fn key_epoch(bytes: &[u8]) -> Option<u32> {
    let header = bytes.first_chunk::<HEADER_LENGTH>()?;
    Header::decode(header).ok().map(|header| header.key_epoch)
}

/// A second copy is bound to the name of the first, byte for byte the same object.
fn primary_name(name: &ObjectName) -> String {
    match name {
        ObjectName::SecondCopy(doubled) => ObjectName::from(*doubled).to_string(),
        primary => primary.to_string(),
    }
}

fn associated_data(header: &[u8; HEADER_LENGTH], name: &str) -> Vec<u8> {
    [header, name.as_bytes()].concat()
}

/// Lists of packs are longer than anything else in a box.
fn payload_bytes_max(object_type: ObjectType) -> usize {
    match object_type {
        ObjectType::Mark | ObjectType::Pending | ObjectType::Plan | ObjectType::Done | ObjectType::Damaged => {
            LARGE_PAYLOAD_BYTES_MAX
        }
        _ => PAYLOAD_BYTES_MAX,
    }
}

fn seal_under(header: &Header, keys: &ObjectKeys, name: &str, payload: &[u8]) -> Result<Vec<u8>> {
    let limit = payload_bytes_max(header.object_type);
    if payload.len() > limit {
        return Err(Error::Limit { what: format!("{name}, in bytes,"), limit: limit as u64 });
    }
    let header = header.encode();
    let plain_length = padme((LENGTH_BYTES + payload.len()) as u64) as usize;
    let message_end = HEADER_LENGTH + SEAL_OVERHEAD + plain_length;
    let mut object = vec![0; message_end + CHECKSUM_LENGTH];
    object[..HEADER_LENGTH].copy_from_slice(&header);
    let message = &mut object[HEADER_LENGTH..message_end];
    let plain = &mut message[8..];
    plain[..LENGTH_BYTES].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    plain[LENGTH_BYTES..][..payload.len()].copy_from_slice(payload);
    keys.seal_in_place(Domain::Box, 0, &associated_data(&header, name), message);
    let checksum = blake3::hash(&object[..message_end]);
    object[message_end..].copy_from_slice(checksum.as_bytes());
    Ok(object)
}

fn open_under(
    keys_of: impl FnOnce(&Header) -> Result<ObjectKeys, Corruption>,
    object_type: ObjectType,
    name: &ObjectName,
    bytes: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Corruption> {
    let overhead = HEADER_LENGTH + SEAL_OVERHEAD + CHECKSUM_LENGTH;
    if bytes.len() < overhead + LENGTH_BYTES {
        return Err(Corruption::Truncated);
    }
    if bytes.len() > overhead + padme((LENGTH_BYTES + payload_bytes_max(object_type)) as u64) as usize {
        return Err(Corruption::OverLimit("object length"));
    }
    if !has_checksum(bytes) {
        return Err(Corruption::Hash);
    }
    let (header_bytes, rest) = bytes.split_first_chunk::<HEADER_LENGTH>().expect("the length was checked");
    let header = Header::decode(header_bytes)?;
    if header.object_type != object_type {
        return Err(Corruption::WrongType(header.object_type as u8));
    }
    let keys = keys_of(&header)?;
    let mut message = Zeroizing::new(rest[..rest.len() - CHECKSUM_LENGTH].to_vec());
    let associated = associated_data(header_bytes, &primary_name(name));
    let plain = keys.open_in_place(Domain::Box, 0, &associated, &mut message)?;
    unpad(plain).map(|payload| Zeroizing::new(payload.to_vec()))
}

/// The payload of `u32 length ‖ payload ‖ zeros`; one padding only is accepted for each length.
fn unpad(plain: &[u8]) -> Result<&[u8], Corruption> {
    const MALFORMED: Corruption = Corruption::Malformed("padding");
    let (length, rest) = plain.split_first_chunk::<LENGTH_BYTES>().ok_or(Corruption::Truncated)?;
    let length = u32::from_le_bytes(*length) as usize;
    let (payload, zeros) = rest.split_at_checked(length).ok_or(MALFORMED)?;
    let exact = plain.len() as u64 == padme((LENGTH_BYTES + length) as u64);
    if exact && zeros.iter().all(|byte| *byte == 0) { Ok(payload) } else { Err(MALFORMED) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::testing;
    use crate::id::{Doubled, SnapshotId};

    const NAME: ObjectName = ObjectName::Snapshot(SnapshotId([1; 16]));

    fn seal(keys: &Keys, payload: &[u8]) -> Vec<u8> {
        seal_box(keys, Purpose::Snapshot, ObjectType::Snapshot, &NAME, &[1; 16], payload).unwrap()
    }

    fn open(keys: &Keys, bytes: &[u8]) -> Result<Vec<u8>, Corruption> {
        open_box(keys, Purpose::Snapshot, ObjectType::Snapshot, &NAME, bytes)
    }

    /// As one who tampers would: with the checksum made right again.
    fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
        let end = bytes.len() - CHECKSUM_LENGTH;
        let checksum = blake3::hash(&bytes[..end]);
        bytes[end..].copy_from_slice(checksum.as_bytes());
        bytes
    }

    /// Made by other implementations of BLAKE3 and AES-GCM, from the same salt.
    #[test]
    fn a_box_is_that_of_the_format_description() {
        let bytes = seal(&testing::keys().with_randomness(testing::stuck), b"abc");
        assert_eq!(hex::encode(&bytes[..80]), GOLDEN_HEADER);
        assert_eq!(hex::encode(&bytes[80..]), GOLDEN_REST);
    }

    const GOLDEN_HEADER: &str = "\
        52434f31040001010000000000000000\
        23a654898b39005f079ef8616aeab445c3896ad767abf69b3ffd410b96f9ebe3\
        f4ebb9cc23e524d2a267484bbd5f5f8dea2f7f0a2e6124d6dd780d9465cbbb80";
    const GOLDEN_REST: &str = "\
        f044db5fe92368e7\
        45ee24af8b459b6ef4749884c4a993d1b2821a110459f9\
        3f5777331b3b4dbd445971ee37c9725175baa3f26d5bfe9516bfdb606607f89f";

    #[test]
    fn a_box_gives_its_payload_back_under_both_its_names() {
        let keys = testing::keys();
        for length in [0, 1, 3, 100, 5_000, PAYLOAD_BYTES_MAX] {
            let payload = testing::noise(length as u64, length);
            let bytes = seal(&keys, &payload);
            assert!(has_checksum(&bytes));
            assert_eq!(open(&keys, &bytes).unwrap(), payload);
            let second = ObjectName::SecondCopy(Doubled::Snapshot(SnapshotId([1; 16])));
            let copy = open_box(&keys, Purpose::Snapshot, ObjectType::Snapshot, &second, &bytes);
            assert_eq!(copy.unwrap(), payload);
        }
    }

    #[test]
    fn the_length_of_a_box_is_padded() {
        let keys = testing::keys();
        for length in 0..2_000 {
            let stored = seal(&keys, &vec![0; length]).len() - HEADER_LENGTH - SEAL_OVERHEAD - CHECKSUM_LENGTH;
            assert_eq!(stored as u64, padme(length as u64 + 4));
        }
    }

    #[test]
    fn a_payload_over_the_limit_is_refused_on_both_ways() {
        let keys = testing::keys();
        let payload = vec![0; PAYLOAD_BYTES_MAX + 1];
        let error = seal_box(&keys, Purpose::Snapshot, ObjectType::Snapshot, &NAME, &[1; 16], &payload).unwrap_err();
        assert!(matches!(error, Error::Limit { .. }), "{error}");
        assert_eq!(open(&keys, &vec![0; 2 << 20]), Err(Corruption::OverLimit("object length")));
    }

    #[test]
    fn every_flipped_bit_of_a_box_is_noticed_with_and_without_the_key() {
        let keys = testing::keys();
        let bytes = seal(&keys, b"a payload");
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!has_checksum(&changed));
            assert_eq!(open(&keys, &changed), Err(Corruption::Hash), "bit {bit}");
            if bit / 8 < bytes.len() - CHECKSUM_LENGTH {
                open(&keys, &with_checksum(changed)).unwrap_err();
            }
        }
    }

    #[test]
    fn a_box_cut_short_anywhere_is_refused() {
        let keys = testing::keys();
        let bytes = seal(&keys, b"a payload");
        for length in 0..bytes.len() {
            open(&keys, &bytes[..length]).unwrap_err();
        }
    }

    #[test]
    fn a_box_under_another_name_type_or_purpose_is_refused() {
        let keys = testing::keys();
        let bytes = seal(&keys, b"a payload");
        let elsewhere = ObjectName::Snapshot(SnapshotId([2; 16]));
        let open = |purpose, object_type, name: &ObjectName| open_box(&keys, purpose, object_type, name, &bytes);
        let refused = Err(Corruption::Authentication);
        assert_eq!(open(Purpose::Snapshot, ObjectType::Snapshot, &elsewhere), refused);
        assert_eq!(open(Purpose::Session, ObjectType::Snapshot, &NAME), refused);
        assert_eq!(open(Purpose::Session, ObjectType::Session, &NAME), Err(Corruption::WrongType(4)));
    }

    /// The header alone is asked: nothing is decrypted for it.
    #[test]
    fn another_repositorys_key_is_refused_by_the_commitment() {
        let bytes = seal(&testing::keys(), b"a payload");
        assert_eq!(open(&testing::other_keys(), &bytes), Err(Corruption::Authentication));
        let header = Header::decode(&bytes).unwrap();
        let refused = testing::other_keys().of_object(Purpose::Snapshot, &header).unwrap_err();
        assert_eq!(refused, Corruption::Authentication);
    }

    #[test]
    fn stuck_randomness_repeats_no_key_and_nonce_for_other_payloads() {
        let keys = testing::keys().with_randomness(testing::stuck);
        let mut seen = std::collections::HashSet::new();
        for number in 0..1000_u32 {
            let bytes = seal(&keys, &number.to_le_bytes());
            assert!(seen.insert(bytes[16..48].to_vec()), "not even a salt");
        }
        assert_eq!(seal(&keys, b"same"), seal(&keys, b"same"), "the same bytes may be the same object");
    }

    #[test]
    fn one_padding_only_is_accepted() {
        for (plain, expected) in [
            (&b"\x03\0\0\0abc"[..], Ok(&b"abc"[..])),
            (b"\x05\0\0\0abcde\0", Ok(b"abcde")),
            (b"\x05\0\0\0abcde", Err(Corruption::Malformed("padding"))),
            (b"\x05\0\0\0abcde\x01", Err(Corruption::Malformed("padding"))),
            (b"\x05\0\0\0abcde\0\0\0", Err(Corruption::Malformed("padding"))),
            (b"\xff\xff\xff\xffabc", Err(Corruption::Malformed("padding"))),
            (b"\0\0\0", Err(Corruption::Truncated)),
        ] {
            assert_eq!(unpad(plain), expected, "{plain:?}");
        }
    }

    #[test]
    fn a_keyring_opens_with_its_root_key_and_generation_only() {
        let bytes = seal_keyring(&[1; 32], 7, b"keys").unwrap();
        assert_eq!(**open_keyring(&[1; 32], 7, &bytes).unwrap(), *b"keys");
        assert_eq!(open_keyring(&[2; 32], 7, &bytes).unwrap_err(), Corruption::Authentication);
        assert_eq!(open_keyring(&[1; 32], 8, &bytes).unwrap_err(), Corruption::Authentication);
        assert_ne!(seal_keyring(&[1; 32], 7, b"keys").unwrap()[16..48], bytes[16..48]);
    }
}
