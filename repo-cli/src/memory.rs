//! What this machine remembers of repositories, compared with what is there: a storage that shows an old state, or another
//! repository, is believed by nobody who was there before. The core says what is older; here is where it is kept.
//!
//! A memory that cannot be read or written never fails a command: that is said, once.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, io, path};

use repo_core::{
    ClientState, Error, KnownPlace, ObjectName, Repository, RepositoryId, RollbackSign, Sighting, Snapshot, Span,
};

use crate::args::Global;
use crate::exit::Outcome;
use crate::names;
use crate::output::Output;
use crate::problems;
use crate::state::State;

/// What is remembered of one repository.
pub const HEADS: &str = "heads";
/// How long a repository explains where a forgotten snapshot went.
const EXPLAINED_MS: u64 = 90 * 24 * 3600 * 1000;

/// The memory, or that there is none.
#[derive(Debug)]
pub struct Memory {
    given: Option<PathBuf>,
    is_off: bool,
    accepts: bool,
    has_warned: AtomicBool,
}

impl Memory {
    /// Nothing is read yet.
    pub fn new(global: &Global) -> Self {
        Self {
            given: global.state_dir.clone(),
            is_off: global.no_state,
            accepts: global.accept_rollback,
            has_warned: AtomicBool::new(false),
        }
    }

    /// Compares a repository that was just opened with what is remembered of it and of its place.
    pub fn compare(&self, output: &Output, place: &Path, repository: &Repository) -> Outcome {
        let Some((state, places)) = self.stores(output, repository) else { return Ok(()) };
        let place = place_name(place);
        let known = self.recall_place(output, &places, &place);
        let id = repository.id();
        // A mirror follows its source and may be behind. One that the owner worked with before is none of those.
        if !known.knows(id) && repository.backend().get(&ObjectName::Mirror, Span::All).is_ok() {
            return Ok(());
        }
        if let Some(last) = known.last().filter(|_| !known.knows(id)) {
            let error = another_repository(place.clone(), last, Some(id));
            self.accept(output, error)?;
        }
        let remembered = self.recall(output, &state, repository);
        match repository.compare(&remembered) {
            Ok(sighting) => self.take(output, &state, repository, &sighting, &mut remembered.clone()),
            Err(error @ Error::Rollback { .. }) => {
                self.accept(output, error)?;
                let accepted = repository.accept(&remembered)?;
                self.written(output, replace(&state, &accepted));
            }
            Err(error) => return Err(error.into()),
        }
        self.meet(output, &places, &place, known, repository);
        Ok(())
    }

    /// Remembers a snapshot that was just made. It is made whatever becomes of this.
    pub fn remember(&self, output: &Output, repository: &Repository, snapshot: &Snapshot) {
        let Some((state, _)) = self.stores(output, repository) else { return };
        match repository.sight(snapshot) {
            Ok(sighting) => {
                let mut remembered = self.recall(output, &state, repository);
                self.take(output, &state, repository, &sighting, &mut remembered);
            }
            Err(error) => self.warn(output, &format!("the new snapshot is not remembered: {error}")),
        }
    }

    /// Remembers a repository that was just made by its owner, whatever was at this place before.
    pub fn made(&self, output: &Output, place: &Path, repository: &Repository) -> Outcome {
        let Some((_, places)) = self.stores(output, repository) else { return Ok(()) };
        let name = place_name(place);
        let known = self.recall_place(output, &places, &name);
        if let Some(last) = known.last() {
            let digits = &last.to_string()[..10];
            self.say(
                output,
                "note",
                &format!("repository {digits} was at {} before; it is no longer expected there", names::path(place)),
            );
        }
        self.meet(output, &places, &name, known, repository);
        self.compare(output, place, repository)
    }

    /// Before a repository is made by the way: where one was remembered and none is found, the place is not what it seems.
    pub fn refuse_vanished(&self, output: &Output, place: &Path) -> Outcome {
        let Some(places) = State::of_places(self.given.as_deref()).filter(|_| !self.is_off) else { return Ok(()) };
        let name = place_name(place);
        match self.recall_place(output, &places, &name).last() {
            Some(last) => self.accept(output, another_repository(name, last, None)),
            None => Ok(()),
        }
    }

    /// Where the memories of a repository and of places are; `None`: nothing is to be remembered.
    fn stores(&self, output: &Output, repository: &Repository) -> Option<(State, State)> {
        if self.is_off {
            return None;
        }
        let given = self.given.as_deref();
        let stores = State::of(given, repository.id()).zip(State::of_places(given));
        if stores.is_none() {
            self.warn(output, "without a home directory or --state-dir nobody remembers how new the repository was");
        }
        stores
    }

    /// What its owner says is right is said and not in the way; anything else is an alarm.
    fn accept(&self, output: &Output, error: Error) -> Outcome {
        if !self.accepts {
            return Err(error.into());
        }
        self.say(output, "note", &format!("{error}; accepted, and remembered as it is now"));
        Ok(())
    }

    /// What is remembered of a repository. Of what is damaged nothing is believed: then it is as if it was never seen.
    fn recall(&self, output: &Output, state: &State, repository: &Repository) -> ClientState {
        let new = ClientState::new(repository.id());
        match state.read(HEADS) {
            Ok(Some(bytes)) => ClientState::decode(&bytes, repository.id()).unwrap_or_else(|problem| {
                self.of_no_use(output, state, HEADS, &problem.to_string());
                new
            }),
            Ok(None) => new,
            Err(error) => {
                self.of_no_use(output, state, HEADS, &error.to_string());
                new
            }
        }
    }

    fn recall_place(&self, output: &Output, places: &State, place: &str) -> KnownPlace {
        let name = KnownPlace::file_name(place.as_bytes());
        match places.read(&name) {
            Ok(Some(bytes)) => KnownPlace::decode(&bytes).unwrap_or_else(|problem| {
                self.of_no_use(output, places, &name, &problem.to_string());
                KnownPlace::new()
            }),
            Ok(None) => KnownPlace::new(),
            Err(error) => {
                self.of_no_use(output, places, &name, &error.to_string());
                KnownPlace::new()
            }
        }
    }

    fn of_no_use(&self, output: &Output, state: &State, name: &str, problem: &str) {
        let path = state.path(name);
        let path = names::path(&path);
        self.warn(output, &format!("what was known of the repository is forgotten, {path} is of no use: {problem}"));
    }

    /// Adds what was seen to what is kept. `remembered` was read without a lock: most often it says that there is no news.
    fn take(
        &self,
        output: &Output,
        state: &State,
        repository: &Repository,
        sighting: &Sighting,
        remembered: &mut ClientState,
    ) {
        if !remembered.take(sighting) {
            return;
        }
        let added = state.hold(HEADS).and_then(|_held| {
            // Another process may have added something since.
            let bytes = state.read(HEADS)?.unwrap_or_default();
            let mut kept =
                ClientState::decode(&bytes, repository.id()).unwrap_or_else(|_| ClientState::new(repository.id()));
            kept.take(sighting);
            state.write(HEADS, &kept.encode())
        });
        self.written(output, added);
    }

    /// This repository is at this place, and its owner knows.
    fn meet(&self, output: &Output, places: &State, place: &str, known: KnownPlace, repository: &Repository) {
        if known.last() == Some(repository.id()) {
            return;
        }
        let name = KnownPlace::file_name(place.as_bytes());
        let met = places.hold(&name).and_then(|_held| {
            let bytes = places.read(&name)?.unwrap_or_default();
            let mut known = KnownPlace::decode(&bytes).unwrap_or_default();
            known.meet(repository.id());
            places.write(&name, &known.encode())
        });
        self.written(output, met);
    }

    fn written(&self, output: &Output, result: io::Result<()>) {
        if let Err(error) = result {
            self.warn(output, &format!("how new the repository is cannot be remembered: {error}"));
        }
    }

    /// Said once in a command.
    fn warn(&self, output: &Output, text: &str) {
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            self.say(output, "warning", text);
        }
    }

    fn say(&self, output: &Output, kind: &'static str, text: &str) {
        problems::note(output, kind, text);
    }
}

/// Nobody else adds to it meanwhile; what one did before is gone with the rest.
fn replace(state: &State, accepted: &ClientState) -> io::Result<()> {
    let _held = state.hold(HEADS)?;
    state.write(HEADS, &accepted.encode())
}

/// What to do about an alarm.
pub fn hint(compared_ms: Option<u64>) -> String {
    let mut hint = "nothing was changed; look at what is there with --no-state. If it is right as it is (brought back from a copy, moved, \
                    made anew), run this once with --accept-rollback"
        .to_owned();
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64);
    if let Some(age_ms) = compared_ms.and_then(|then| now_ms.checked_sub(then)).filter(|age| *age > EXPLAINED_MS) {
        let days = age_ms / (24 * 3600 * 1000);
        hint.push_str(&format!(
            ". This machine last looked {days} days ago, and a repository tells for 90 which snapshots were forgotten"
        ));
    }
    hint
}

fn another_repository(place: String, known: RepositoryId, found: Option<RepositoryId>) -> Error {
    let signs = vec![RollbackSign::AnotherRepository { known, found }];
    Error::Rollback { place, signs, compared_ms: None }
}

/// The same by whichever way one came there.
fn place_name(place: &Path) -> String {
    let whole = fs::canonicalize(place).or_else(|_| path::absolute(place)).unwrap_or_else(|_| place.to_owned());
    names::path(&whole).into_owned()
}
