//! Small sealed objects: `header ‖ iv8 ‖ GCM ‖ checksum`. Bound to their names, padded, checkable without a key.

use zeroize::Zeroizing;

use super::padding::padme;
use crate::crypto::{Domain, Keys, ObjectKeys, SEAL_OVERHEAD, keyring_object, new_keyring_object};
use crate::error::{Corruption, Error, Result};
use crate::format::PAYLOAD_BYTES_MAX;
use crate::format::header::{HEADER_LENGTH, Header, ObjectType};
use crate::format::keyring::Purpose;
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

/// Whether a small object's trailing checksum is right. Needs no key.
pub fn has_checksum(bytes: &[u8]) -> bool {
    bytes.split_last_chunk::<CHECKSUM_LENGTH>().is_some_and(|(content, checksum)| blake3::hash(content) == *checksum)
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

fn seal_under(header: &Header, keys: &ObjectKeys, name: &str, payload: &[u8]) -> Result<Vec<u8>> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(Error::Limit { what: format!("{name}, in bytes,"), limit: PAYLOAD_BYTES_MAX as u64 });
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
    if bytes.len() > overhead + padme((LENGTH_BYTES + PAYLOAD_BYTES_MAX) as u64) as usize {
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
