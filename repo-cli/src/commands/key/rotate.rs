//! `icecore key rotate`

use std::fs;
use std::path::Path;

use clap::Args;
use repo_core::{Error, KeyInfo, Repository, RotateOptions, Rotated, Secret};
use serde::Serialize;

use crate::args::with_exit_codes;
use crate::commands::init;
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::names;
use crate::owner;

use super::{Fresh, Shape, label};

/// Make new keys for all that is stored from now on; drop every other password, key file and recovery kit.
///
/// For when a machine, a password or a kit was lost to somebody. Whoever held one of them reads nothing that is stored
/// after this. What was stored before can still be read with keys that were kept: `prune --rekey` seals it anew, so that
/// only copies of the old objects open with old keys. A backup that is running now ends without a snapshot.
#[derive(Debug, Args)]
#[command(after_help = with_exit_codes!("Examples:\n  icecore key rotate\n  icecore key rotate --new-key-file /root/icecore-2.key --yes && icecore key export --target kit.txt\n  icecore prune --rekey --max-repack-size 20G"))]
pub struct Rotate {
    #[command(flatten)]
    fresh: Fresh,

    /// Ask for a new password, instead of going on with the one in use
    #[arg(long, group = "new_secret")]
    new_password: bool,

    /// Drop other keys than the one in use, without which that is refused
    #[arg(long)]
    yes: bool,

    /// User to note with the key [default: as it was]
    #[arg(long)]
    user: Option<String>,

    /// Host to note with the key [default: as it was]
    #[arg(long)]
    host: Option<String>,
}

#[derive(Serialize)]
struct RotatedShape {
    message_type: &'static str,
    epoch: u32,
    key: Option<Shape>,
    dropped: Vec<Shape>,
    left: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unfinished: Option<String>,
}

impl Rotate {
    pub fn run(self, context: &Context) -> Outcome {
        let (repository, used) = context.open_knowing_how()?;
        let _alone = owner::alone(&context.global, &repository)?;
        let before = repository.keys()?;
        self.refuse_others(&before)?;
        let current = before.iter().find(|key| key.current).map(|key| key.label.clone());
        let label = label(&current.unwrap_or_else(init::default_label), self.user.as_deref(), self.host.as_deref());
        let is_fresh = self.new_password || self.fresh.is_given() || matches!(used, Secret::RootKey(_));
        if !is_fresh {
            let rotated = self.rotate(&repository, &used, label, None)?;
            return tell(context, &rotated, None, false);
        }
        let made = self.fresh.secret()?;
        let secret = made.secret.clone();
        // Kept from here on: it may be all that opens the repository, whatever this run is told.
        let file = made.keep();
        let rotated = self.rotate(&repository, &secret, label, file.as_deref())?;
        tell(context, &rotated, file.as_deref(), true)
    }

    /// Who has another key does not expect to lose it.
    fn refuse_others(&self, keys: &[KeyInfo]) -> Outcome {
        let others: Vec<String> = keys.iter().filter(|key| !key.current).map(described).collect();
        if self.yes || others.is_empty() {
            return Ok(());
        }
        let message = format!("other keys would be dropped: {}", others.join(", "));
        Err(Failure::with_hint(message, "use --yes to drop them; `icecore key add` gives their owners new ones"))
    }

    fn rotate(&self, repository: &Repository, secret: &Secret, label: String, file: Option<&Path>) -> Outcome<Rotated> {
        let options = RotateOptions::new().key(secret, label, self.fresh.cost());
        repository.rotate_keys(&options).map_err(|error| match (error, file) {
            // It is certain that the file opens nothing.
            (Error::Rotated, Some(path)) => {
                fs::remove_file(path).ok();
                Error::Rotated.into()
            }
            (error, Some(path)) => Failure::with_hint(
                error.to_string(),
                format!(
                    "the key file {} stays: if the repository opens with it, the keys were rotated",
                    names::path(path)
                ),
            ),
            (error, None) => error.into(),
        })
    }
}

impl Fresh {
    /// Whether a new secret is named.
    fn is_given(&self) -> bool {
        self.new_password_file.is_some() || self.new_insecure_no_password || self.new.new_key_file.is_some()
    }
}

fn described(key: &KeyInfo) -> String {
    let id = &key.slot.to_string()[..8];
    match key.label.as_str() {
        "" => id.to_owned(),
        label => format!("{id} ({})", names::words(label)),
    }
}

/// What is revoked, what is not, and what is left to do.
fn tell(context: &Context, rotated: &Rotated, file: Option<&Path>, is_fresh: bool) -> Outcome {
    let output = &context.output;
    // The same password or key file opens another slot now: nobody lost it.
    let dropped: Vec<&KeyInfo> = rotated.dropped.iter().filter(|key| is_fresh || !key.current).collect();
    if output.is_json() {
        return output.json(&RotatedShape {
            message_type: "keys_rotated",
            epoch: rotated.epoch,
            key: rotated.kept.first().map(Shape::from),
            dropped: dropped.into_iter().map(Shape::from).collect(),
            left: rotated.left.iter().map(ToString::to_string).collect(),
            unfinished: rotated.unfinished.as_ref().map(ToString::to_string),
        });
    }
    output.say(
        1,
        &format!("the keys were rotated; what is stored from now on is sealed under key epoch {}", rotated.epoch),
    )?;
    for key in &rotated.kept {
        let file = file.map(|path| format!(", key file {}", names::path(path))).unwrap_or_default();
        output.say(1, &format!("the key in use is now {}{file}", key.slot))?;
    }
    if !dropped.is_empty() {
        let dropped: Vec<String> = dropped.into_iter().map(described).collect();
        output.say(1, &format!("dropped, and opens nothing any more: {}", dropped.join(", ")))?;
    }
    if !rotated.left.is_empty() {
        let left: Vec<String> = rotated.left.iter().map(|slot| slot.to_string()[..8].to_owned()).collect();
        output.error_line(&format!("the storage still has the dropped slots {}", left.join(", ")));
    }
    if let Some(error) = &rotated.unfinished {
        output.error_line(&format!("what is left to tidy up is done by the next `icecore prune`: {error}"));
    }
    output.say(1, "Earlier recovery kits open nothing any more: `icecore key export` prints a new one.")?;
    output.say(1, "What was stored before can still be read by whoever kept its keys and reaches the storage;")?;
    output.say(1, "`icecore prune --rekey` seals it anew.")
}
