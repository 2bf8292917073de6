//! Who this client is to weak repositories: a random number in the state directory, one for each host that uses the directory
//! (a home may be shared). The owner of a weak repository alone prunes it and changes its keys, and one process of his at a
//! time: that is held here, since the library cannot see other processes.

use std::fs::File;

use repo_core::{OwnerId, Repository, WeakStore, system};

use crate::args::Global;
use crate::exit::{Failure, Outcome};
use crate::names;
use crate::state::State;

/// What is held while the owner is at work.
const AT_WORK: &str = "owner";

/// Who this client is; `None`: nobody has asked it to be an owner yet, or nothing is to be remembered.
pub fn known(global: &Global) -> Option<OwnerId> {
    if global.no_state {
        return None;
    }
    let bytes = State::of_client(global.state_dir.as_deref())?.read(&file_name()).ok()??;
    std::str::from_utf8(&bytes).ok()?.trim_end().parse().ok()
}

/// Who this client is; from now on somebody, if it was nobody.
pub fn known_or_new(global: &Global) -> Outcome<OwnerId> {
    if let Some(owner) = known(global) {
        return Ok(owner);
    }
    let state = (!global.no_state).then(|| State::of_client(global.state_dir.as_deref())).flatten();
    let Some(state) = state else {
        return Err(Failure::with_hint(
            "the owner of a weak repository is remembered in the state directory, and there is none",
            "name one with --state-dir, and do not use --no-state",
        ));
    };
    let failed = |state: &State, error: &_| Failure::file("remembering who the owner is in", &state.path(""), error);
    let _held = state.hold(&file_name()).map_err(|error| failed(&state, &error))?;
    // Another process may have been faster.
    if let Some(owner) = known(global) {
        return Ok(owner);
    }
    let owner = OwnerId::generate()?;
    state.write(&file_name(), format!("{owner}\n").as_bytes()).map_err(|error| failed(&state, &error))?;
    Ok(owner)
}

/// In a weak repository nobody else of this state directory prunes or changes keys until what is returned is dropped; in
/// others there is nothing to hold. Does not wait.
pub fn alone(global: &Global, repository: &Repository) -> Outcome<Option<File>> {
    if repository.config().gc_owner().is_none() || global.no_state {
        return Ok(None);
    }
    let Some(state) = State::of(global.state_dir.as_deref(), repository.id()) else { return Ok(None) };
    match state.try_hold(AT_WORK) {
        Ok(Some(held)) => Ok(Some(held)),
        Ok(None) => Err(Failure::with_hint(
            "another command of this client is pruning this weak repository or changing its keys",
            "run this one when that has ended: such a place does not decide which of two is first",
        )),
        Err(error) => Err(Failure::file("holding", &state.path(AT_WORK), &error)),
    }
}

/// What a weak repository rests on, a line each.
pub fn assumptions(rules: &WeakStore) -> Vec<String> {
    let (days, hours) = (rules.fence_idle.as_secs() / 86400, rules.sign_valid.as_secs() / 3600);
    let margin = (rules.fence_idle - rules.sign_valid).as_secs() / 86400;
    vec![
        format!(
            "clocks: a backup publishes within {hours} hours of its last sign of life, and prune gives one up after {days} days of \
             silence, dead or not; so clocks must be right to {margin} days, and no write may take that long"
        ),
        "one owner: one client alone prunes and changes keys, from one host and state directory, one command at a time"
            .to_owned(),
    ]
}

/// A name of a host may have anything in it.
fn file_name() -> String {
    let safe = |letter: char| if letter.is_ascii_alphanumeric() || "-_".contains(letter) { letter } else { '_' };
    format!("owner-{}", names::words(&system::host_name()).chars().map(safe).collect::<String>())
}
