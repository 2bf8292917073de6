//! The rules of a weak repository for those who write to it: a place where of two puts of one name both may believe that they
//! were first. There a fence and a commit must not meet, and nothing but time keeps them apart:
//!
//! - A writer publishes only within [`SIGN_VALID`] of its last sign of life, by its own two clocks, asked before the put and
//!   after it. Later it never gives a sign again, and never publishes under that name.
//! - Nobody takes a writer's name that has not been silent for [`FENCE_IDLE`] by the place's clock.
//!
//! So between the last put that a writer sends and the first that fences it lie six days: for clocks that are wrong, for a put
//! that is slow, for a process that sleeps between its look at the clock and its put. Who sleeps longer there finds out after
//! the put and takes it back. That nobody sees the snapshot meanwhile, and that he lives to do so, is not promised.

use std::time::Duration;

use bytes::Bytes;

use super::gc;
use crate::backend::{Backend, Span, Weak};
use crate::crypto::Keys;
use crate::error::{Error, Result};
use crate::id::{ObjectName, SnapshotId};
use crate::mutants::mutant;

const HOUR: Duration = Duration::from_secs(3600);

/// How long after its last sign of life a writer may publish.
pub const SIGN_VALID: Duration = Duration::from_secs(24 * 3600);

/// How long a writer must have been silent before its name is taken.
pub const FENCE_IDLE: Duration = Duration::from_secs(7 * 24 * 3600);

/// How often a writer gives a sign: six times while one is valid.
const SIGN_AFTER: Duration = Duration::from_secs(4 * 3600);

/// Whether a writer was silent for too long to publish, or to give another sign.
pub fn is_over(weak: &Weak, session: SnapshotId) -> bool {
    if mutant!("a weak writer does not ask how long it was silent") {
        return false;
    }
    weak.silent_for(session).is_none_or(|silent| silent > SIGN_VALID)
}

/// The writers of this handle for which it is time to say that they live, each with the number of its sign. All of them, since
/// a run may have several and asks for one of them only.
pub fn due_signs(weak: &Weak) -> Vec<(SnapshotId, u16)> {
    let due = weak.sessions().into_iter().filter(|session| !is_over(weak, *session));
    due.filter_map(|session| Some((session, weak.next_sign(session, SIGN_AFTER, HOUR)?))).collect()
}

/// After the put that published: whether it stands, and came in time. If not it is taken back.
///
/// # Errors
/// [`Error::Fenced`]: nothing is published under this name, and never will be.
pub fn confirm(
    backend: &dyn Backend,
    weak: &Weak,
    keys: &Keys,
    session: SnapshotId,
    name: &ObjectName,
    bytes: &Bytes,
) -> Result<()> {
    if mutant!("a weak writer does not look again after its put") {
        return Ok(());
    }
    if is_over(weak, session) {
        // A tombstone may have stood there, and been written over: what this snapshot needs may be gone.
        weak.replace(name, gc::tombstone(keys, session, 0, session)?)?;
        return Err(Error::Fenced);
    }
    match backend.get(name, Span::All)? == *bytes {
        true => Ok(()),
        false => Err(Error::Fenced),
    }
}
