//! `icecore init`

use clap::Args;
use repo_core::{InitOptions, Repository, WeakStore, policy, system};
use serde::Serialize;

use crate::args::with_exit_codes;
use crate::context::{Context, Made};
use crate::exit::{Failure, Outcome};
use crate::names;
use crate::numbers;
use crate::others::From;
use crate::owner;
use crate::secrets::NewSecret;

/// Make a new, empty repository.
///
/// It opens with a password (asked for, or from --password-file and the like) or with a key file. Without them
/// nobody can read what is stored, not even you: print a recovery kit with `icecore key export` and keep it in a safe place.
#[derive(Debug, Args)]
#[command(after_help = with_exit_codes!("Examples:\n  icecore init --repo /backup\n  icecore init --repo /backup --new-key-file ~/icecore.key"))]
pub struct Init {
    #[command(flatten)]
    new: NewSecret,

    /// What `key list` shows of the first key [default: user@host]
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,

    /// Cut files by the same sizes as another repository (--from-repo), whatever its cut points are: those are secrets of each
    #[arg(long)]
    copy_chunker_params: bool,

    #[command(flatten)]
    from: From,

    /// Percent of parity that packs get, 0 to 100, by which damaged ones can be brought back [default: 2 in a directory]
    #[arg(long, value_name = "N", value_parser = numbers::parse_percent)]
    parity: Option<u8>,

    /// Do not rely on the place to decide which of two writers is first: for file systems that cannot, or of which one does not
    /// know (some network shares). What is promised then rests on clocks, and this client alone may prune and change keys
    #[arg(long)]
    weak_store: bool,

    /// Accepted for restic's scripts: there is one format, which no number of restic's means
    #[arg(long, value_name = "VERSION", hide_short_help = true, value_parser = ["stable", "latest", "1", "2"])]
    repository_version: Option<String>,
}

#[derive(Serialize)]
struct Initialized {
    message_type: &'static str,
    id: String,
    repository: String,
    append_only: Policy,
    #[serde(skip_serializing_if = "Option::is_none")]
    weak_store: Option<Weak>,
}

/// What a weak repository rests on.
#[derive(Serialize)]
struct Weak {
    owner: String,
    assumes: Vec<String>,
}

impl Weak {
    fn of(repository: &Repository) -> Option<Self> {
        let owner = repository.config().gc_owner()?.to_string();
        let rules = WeakStore::rules();
        Some(Self { owner, assumes: owner::assumptions(&rules) })
    }
}

/// What a store would have to allow clients so that they can only add.
#[derive(Serialize)]
struct Policy {
    /// Whether the place holds clients to it.
    enforced: bool,
    clients_put: Vec<&'static str>,
    maintenance_puts: Vec<&'static str>,
    clients_remove: Vec<&'static str>,
}

impl Policy {
    fn of_a_directory() -> Self {
        let of =
            |writer| policy::RULES.iter().filter(move |rule| rule.writer == writer).map(|rule| rule.prefix).collect();
        Self {
            enforced: false,
            clients_put: of(policy::Writer::Client),
            maintenance_puts: of(policy::Writer::Maintenance),
            clients_remove: Vec::new(),
        }
    }
}

impl Init {
    pub fn run(self, context: &Context) -> Outcome {
        let label = self.label.unwrap_or_else(default_label);
        let chunker = match (self.copy_chunker_params, self.from.is_given()) {
            (true, _) => Some(self.from.open(context)?.config().chunker),
            (false, true) => {
                return Err(Failure::told("--from-repo has a meaning here only together with --copy-chunker-params"));
            }
            (false, false) => None,
        };
        let mut options = InitOptions::default();
        options.label = label;
        options.parity_percent = self.parity;
        if self.weak_store {
            options.weak_store = Some(owner::known_or_new(&context.global)?);
        }
        options.chunker = chunker.unwrap_or(options.chunker);
        let made = context.init(&self.new, options)?;
        tell(context, &made)
    }
}

/// `user@host`.
pub fn default_label() -> String {
    let user = system::current_user();
    let name = user.name.map_or_else(|| user.uid.to_string(), |name| name.to_string());
    format!("{name}@{}", system::host_name())
}

/// Says that a repository was made, and what its owner should do now.
pub fn tell(context: &Context, made: &Made) -> Outcome {
    let output = &context.output;
    let place = context.place()?;
    let id = made.repository.id().to_string();
    if output.is_json() {
        let repository = place.to_string_lossy().into_owned();
        let append_only = Policy::of_a_directory();
        let weak_store = Weak::of(&made.repository);
        return output.json(&Initialized { message_type: "initialized", id, repository, append_only, weak_store });
    }
    output.line(&format!("created repository {} at {}", &id[..10], names::path(&place)))?;
    let secret = match &made.key_file {
        Some(path) => format!("the key file {}", names::path(path)),
        None => "its password or key".to_owned(),
    };
    output.say(1, "")?;
    output.say(1, &format!("Whoever loses {secret} loses every backup in it: nothing else opens the repository,"))?;
    output.say(1, "unless a recovery kit was printed. Do that now, and keep the paper apart from this machine:")?;
    output.say(1, "")?;
    output.say(1, &format!("  icecore -r {} key export", names::for_shell(&place)))?;
    output.say(1, "")?;
    let policy = Policy::of_a_directory();
    output.say(1, "A directory holds nobody to only adding: who can write here can destroy every backup. In front of a store that")?;
    output.say(1, "can tell clients apart, let those that back up read and list everything, put new objects under")?;
    output.say(1, &format!("  {}", policy.clients_put.join("  ")))?;
    output.say(1, "and remove or replace nothing; and leave to maintenance (forget, prune, repair, keys)")?;
    output.say(1, &format!("  {}", policy.maintenance_puts.join("  ")))?;
    let Some(weak) = Weak::of(&made.repository) else { return Ok(()) };
    output.say(1, "")?;
    output.say(
        1,
        "This is a weak repository: it does not rely on the place to decide which of two writers is first, but on",
    )?;
    weak.assumes.iter().try_for_each(|line| output.say(1, &format!("  {line}")))
}
