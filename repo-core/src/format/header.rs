//! The 80 bytes that every sealed object begins with.

use crate::error::Corruption;

/// What an object is. The number stands in its header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum ObjectType {
    DataPack = 1,
    MetaPack = 2,
    Index = 3,
    Snapshot = 4,
    Session = 5,
    Config = 10,
    Keyring = 11,
    KeySlot = 13,
    Format = 15,
}

/// Bytes of a header without extension.
pub const HEADER_LENGTH: usize = 80;

/// The header of a sealed object (suite 1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    pub object_type: ObjectType,
    pub padded: bool,
    pub key_epoch: u32,
    pub salt: [u8; 32],
    pub commitment: [u8; 32],
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER_LENGTH] {
        todo!()
    }

    pub fn decode(_bytes: &[u8]) -> Result<Self, Corruption> {
        todo!()
    }
}
