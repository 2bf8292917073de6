//! A place that is full. To delete, prune writes a few small objects; to move, it writes packs. So when a write finds no
//! room: first it leaves moving for later, then it asks the place for what that keeps for this moment.

use crate::error::{BackendErrorKind, Error};
use crate::progress::Event;

use super::cycle::{Outcome, Pruning};

/// What a run allows itself, as room allows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Room {
    moving: Moving,
    /// The reserve was given up.
    released: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Moving {
    #[default]
    Allowed,
    /// There was no room: first what needs none, and when that is deleted once more.
    Later,
    /// There is none even so.
    Never,
}

impl Room {
    /// Whether packs may be moved.
    pub(super) fn allows_moving(self) -> bool {
        self.moving == Moving::Allowed
    }
}

impl Pruning<'_> {
    /// After a step that found no room: whether it should be tried again, in another way. A step may be repeated like that
    /// of a run that died: what it wrote stands, or is nobody's and goes with this cycle.
    pub(super) fn makes_do(&mut self, error: &Error) -> bool {
        if !matches!(error, Error::Backend(error) if error.kind == BackendErrorKind::Full) {
            return false;
        }
        if self.was_moving && self.room.allows_moving() {
            self.room.moving = if self.report.no_room_to_move { Moving::Never } else { Moving::Later };
            self.report.no_room_to_move = true;
            self.progress
                .report(Event::Note { message: "there is no room to move anything; first goes what needs no moving" });
            return true;
        }
        if !self.room.released && self.repository.inner.backend.release_reserve() {
            self.room.released = true;
            return true;
        }
        false
    }

    /// When a cycle is done: whether what was left for want of room is tried again, now that there is more.
    pub(super) fn moves_now(&mut self, outcome: &Outcome) -> bool {
        let has_room = matches!(outcome, Outcome::Done) && self.report.deleted_packs > 0;
        if self.room.moving != Moving::Later || !has_room {
            return false;
        }
        self.room.moving = Moving::Allowed;
        true
    }

    /// At the end of a run, however it ended.
    pub(super) fn keep_reserve(&self) {
        if self.room.released {
            self.repository.inner.backend.keep_reserve();
        }
    }
}
