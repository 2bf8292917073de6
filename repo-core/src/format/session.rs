//! One writer's run: registered before it reads the index, removed after its snapshot is published.

use serde::{Deserialize, Serialize};

use super::{Extensions, SMALL_PAYLOAD_BYTES_MAX, check_extensions};
use crate::codec;
use crate::error::Corruption;
use crate::id::SnapshotId;

/// Payload of `sessions/<id>`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Session {
    pub id: SnapshotId,
    /// 0 backup; 1 copy, 2 retag, 3 adopt, 4 upgrade, 5 read-hold are reserved.
    pub kind: u8,
    pub started_ms: u64,
    pub lease_s: u32,
    /// Host, boot and process, so that a dead local writer is known at once.
    pub host: String,
    pub boot: [u8; 16],
    pub process: u32,
    pub program: String,
    pub extensions: Extensions,
}

/// Tag of an extension: when the writing process began, as its system counts, so that another one that was given the same
/// process id later is not taken for it. 8 bytes, little-endian.
const PROCESS_START: u16 = 1;

/// The extensions of a session whose process began then; none if the system cannot tell.
pub fn process_start_extension(start: Option<u64>) -> Extensions {
    start.map(|start| (PROCESS_START, start.to_le_bytes().to_vec())).into_iter().collect()
}

impl Session {
    /// When the writing process began, as its system counts.
    pub fn process_start(&self) -> Option<u64> {
        let (_, bytes) = self.extensions.iter().find(|(tag, _)| *tag == PROCESS_START)?;
        Some(u64::from_le_bytes(bytes.as_slice().try_into().ok()?))
    }

    /// The payload, by the codec's rules.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// A session of any reserved kind is read: whoever waits for sessions must see them all.
    pub fn decode(bytes: &[u8]) -> Result<Self, Corruption> {
        let session: Self = codec::decode(bytes, SMALL_PAYLOAD_BYTES_MAX, "session")?;
        if session.kind > 5 {
            return Err(Corruption::Unknown { field: "session kind", value: session.kind.into() });
        }
        check_extensions(&session.extensions)?;
        Ok(session)
    }
}

#[cfg(test)]
mod tests {
    use super::super::vectors::vector;
    use super::*;

    #[test]
    fn reserved_kinds_are_read_and_others_refused() {
        let session = Session::decode(&vector!("session")).unwrap();
        for kind in 0..=5 {
            assert!(Session::decode(&Session { kind, ..session.clone() }.encode()).is_ok());
        }
        let unknown = Err(Corruption::Unknown { field: "session kind", value: 6 });
        assert_eq!(Session::decode(&Session { kind: 6, ..session.clone() }.encode()), unknown);
    }

    #[test]
    fn a_session_over_its_limit_is_refused() {
        let session = Session::decode(&vector!("session")).unwrap();
        let long = Session { host: "h".repeat(SMALL_PAYLOAD_BYTES_MAX), ..session };
        assert_eq!(Session::decode(&long.encode()), Err(Corruption::OverLimit("session")));
    }
}
