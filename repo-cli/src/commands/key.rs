//! `icecore key`

mod rotate;

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use repo_core::{KeyInfo, KeyKind, PasswordCost, system};
use serde::Serialize;

use crate::args::with_exit_codes;
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::names;
use crate::output::Table;
use crate::owner;
use crate::secrets::{self, NewSecret, NewlyMade};
use crate::time;

use super::{cat, init};

/// Manage the passwords and key files that open the repository.
#[derive(Debug, Args)]
#[command(after_help = with_exit_codes!("Examples:\n  icecore key add --new-key-file /root/icecore.key\n  icecore key rotate --new-key-file /root/icecore-2.key --yes\n  icecore key export > kit.txt"))]
pub struct Key {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the keys; the one in use is marked
    List,
    /// Add a password or a key file
    Add(Add),
    /// Remove a key; never the last, never the one in use
    Remove {
        /// The first digits of its id
        id: String,
    },
    /// Replace the password or key file in use by another
    Passwd(Change),
    /// Make new keys for all that is stored from now on; drop every other password, key file and recovery kit
    Rotate(rotate::Rotate),
    /// Print a recovery kit: with it alone the repository opens
    Export {
        /// Write it to this new file, readable by its owner only, instead of standard output
        #[arg(short, long, value_name = "FILE")]
        target: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct Add {
    #[command(flatten)]
    fresh: Fresh,

    /// User to note with the key [default: you]
    #[arg(long)]
    user: Option<String>,

    /// Host to note with the key [default: this one]
    #[arg(long)]
    host: Option<String>,
}

#[derive(Debug, Args)]
struct Change {
    #[command(flatten)]
    fresh: Fresh,

    /// User to note with the key [default: as it was]
    #[arg(long)]
    user: Option<String>,

    /// Host to note with the key [default: as it was]
    #[arg(long)]
    host: Option<String>,
}

/// What a new slot opens with.
#[derive(Debug, Args)]
struct Fresh {
    /// File that holds the new password
    #[arg(long, value_name = "FILE", group = "new_secret")]
    new_password_file: Option<PathBuf>,

    /// Let the empty password open it, which protects nothing
    #[arg(long, group = "new_secret")]
    new_insecure_no_password: bool,

    #[command(flatten)]
    new: NewSecret,

    /// Spend 1 GiB of memory on every guess at the password instead of 64 MiB
    #[arg(long)]
    high_cost: bool,
}

/// A key, as `key list` and `cat key` print it.
#[derive(Debug, Serialize)]
pub struct Shape {
    current: bool,
    id: String,
    kind: &'static str,
    #[serde(rename = "userName")]
    user_name: String,
    #[serde(rename = "hostName")]
    host_name: String,
    created: String,
}

impl From<&KeyInfo> for Shape {
    fn from(key: &KeyInfo) -> Self {
        // The label is user@host, unless `init --label` chose another.
        let (user, host) = key.label.rsplit_once('@').unwrap_or((&key.label, ""));
        Self {
            current: key.current,
            id: key.slot.to_string(),
            kind: kind(key.kind),
            user_name: user.to_owned(),
            host_name: host.to_owned(),
            created: time::rfc3339_ns(created_ns(key), time::zone_minutes(Some(created_ns(key)))),
        }
    }
}

impl Key {
    /// The name of a verb that changes key slots.
    pub fn maintenance(&self) -> Option<&'static str> {
        match self.verb {
            Verb::Add(_) => Some("key add"),
            Verb::Remove { .. } => Some("key remove"),
            Verb::Passwd(_) => Some("key passwd"),
            Verb::Rotate(_) => Some("key rotate"),
            Verb::List | Verb::Export { .. } => None,
        }
    }

    pub fn run(self, context: &Context) -> Outcome {
        match self.verb {
            Verb::List => list(context),
            Verb::Add(add) => add.run(context),
            Verb::Remove { id } => {
                let repository = context.open()?;
                let _alone = owner::alone(&context.global, &repository)?;
                let key = cat::find_key(&repository, &id)?;
                repository.remove_key(key.slot)?;
                context.output.say(1, &format!("removed key {}", key.slot))
            }
            Verb::Passwd(change) => change.run(context),
            Verb::Rotate(rotate) => rotate.run(context),
            Verb::Export { target } => export(context, target),
        }
    }
}

impl Add {
    fn run(self, context: &Context) -> Outcome {
        let repository = context.open()?;
        let _alone = owner::alone(&context.global, &repository)?;
        let made = self.fresh.secret()?;
        let label = label(&init::default_label(), self.user.as_deref(), self.host.as_deref());
        let key = repository.add_key(&made.secret, &label, self.fresh.cost())?;
        tell(context, "added key", &key, made)
    }
}

impl Change {
    fn run(self, context: &Context) -> Outcome {
        let repository = context.open()?;
        let _alone = owner::alone(&context.global, &repository)?;
        let made = self.fresh.secret()?;
        let cost = self.fresh.cost();
        let key = match (self.user.as_deref(), self.host.as_deref()) {
            (None, None) => repository.change_key(&made.secret, cost)?,
            (user, host) => {
                let before = repository.keys()?.into_iter().find(|key| key.current).map(|key| key.label);
                let label = label(&before.unwrap_or_default(), user, host);
                repository.change_key_and_label(&made.secret, &label, cost)?
            }
        };
        tell(context, "the key in use is now", &key, made)
    }
}

/// `user@host`, where what is not given is as in `before`; one of another form is what its owner wrote, and all of it
/// is taken for the user.
fn label(before: &str, user: Option<&str>, host: Option<&str>) -> String {
    if user.is_none() && host.is_none() {
        return before.to_owned();
    }
    let (old_user, old_host) = match before.rsplit_once('@') {
        Some((user, host)) => (user, host.to_owned()),
        None => (before, system::host_name()),
    };
    format!("{}@{}", user.unwrap_or(old_user), host.unwrap_or(&old_host))
}

impl Fresh {
    fn secret(&self) -> Outcome<NewlyMade> {
        secrets::for_new_key(&self.new, self.new_password_file.as_deref(), self.new_insecure_no_password)
    }

    fn cost(&self) -> PasswordCost {
        if self.high_cost { PasswordCost::High } else { PasswordCost::Default }
    }
}

fn tell(context: &Context, what: &str, key: &KeyInfo, made: NewlyMade) -> Outcome {
    let file = made.keep();
    if context.output.is_json() {
        return context.output.json(&Shape::from(key));
    }
    let file = file.map(|path| format!(", key file {}", names::path(&path))).unwrap_or_default();
    context.output.say(1, &format!("{what} {}{file}", key.slot))
}

/// A key, as `key list` alone prints it.
#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    key: Shape,
    epoch: u32,
}

fn list(context: &Context) -> Outcome {
    let repository = context.open()?;
    let (keys, epoch) = (repository.keys()?, repository.key_epoch());
    if context.output.is_json() {
        let listed = keys.iter().map(|key| Listed { key: Shape::from(key), epoch });
        return context.output.json(&listed.collect::<Vec<_>>());
    }
    let mut table = Table::new(vec![" ID", "Kind", "Label", "Created"], 2);
    for key in &keys {
        let mark = if key.current { '*' } else { ' ' };
        table.row(vec![
            vec![format!("{mark}{}", &key.slot.to_string()[..8])],
            vec![kind(key.kind).to_owned()],
            vec![names::words(&key.label).into_owned()],
            vec![time::shown(created_ns(key))],
        ]);
    }
    table.print(&context.output)?;
    match epoch {
        1 => Ok(()),
        epoch => context.output.say(1, &format!("what is new is sealed under key epoch {epoch}")),
    }
}

/// A recovery kit as JSON: its text, or where that was written to.
#[derive(Serialize)]
struct KitShape<'k> {
    message_type: &'static str,
    repository: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kit: Option<&'k str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

fn export(context: &Context, target: Option<PathBuf>) -> Outcome {
    let repository = context.open()?;
    let kit = repository.recovery_kit();
    let shape = KitShape {
        message_type: "recovery_kit",
        repository: repository.id().to_string(),
        kit: target.is_none().then_some(kit.as_str()),
        target: target.as_ref().map(|path| path.to_string_lossy().into_owned()),
    };
    match target {
        Some(path) => {
            let failed = |error| Failure::file("writing the recovery kit to", &path, &error);
            let mut file = system::create_private_file(&path).map_err(failed)?;
            file.write_all(kit.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        }
        None if context.output.is_json() => {}
        None => context.output.raw(|out| Ok(out.write_all(kit.as_bytes())?))?,
    }
    if context.output.is_json() {
        // Straight to the output: a string of it in between would leave a copy of the key in memory.
        return context.output.raw(|out| {
            serde_json::to_writer(&mut *out, &shape).map_err(std::io::Error::from)?;
            Ok(out.write_all(b"\n")?)
        });
    }
    if context.output.verbosity() > 0 {
        context
            .output
            .error_line("Whoever has this text and the repository can read everything: print it, keep it safe,");
        context.output.error_line("leave no copy on this machine. `icecore --recovery-kit FILE …` opens with it.");
    }
    Ok(())
}

fn kind(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Password => "password",
        KeyKind::KeyFile => "key file",
        _ => "other",
    }
}

fn created_ns(key: &KeyInfo) -> i64 {
    i64::try_from(key.created_ms).ok().and_then(|ms| ms.checked_mul(1_000_000)).unwrap_or(i64::MAX)
}
