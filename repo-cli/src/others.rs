//! Repositories beside that of `--repo`: where a copy comes from, and where else it goes.

use std::env;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};
use repo_core::{Error, Repository};

use crate::context::{Context, local, named_place};
use crate::exit::{Failure, Outcome};
use crate::names;
use crate::secrets::Sources;

/// The repository that things come from.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "The source repository")]
pub struct From {
    /// Where it is [env: ICECORE_FROM_REPOSITORY]
    #[arg(long, value_name = "PLACE", conflicts_with = "from_repository_file")]
    from_repo: Option<PathBuf>,

    /// File that holds its place [env: ICECORE_FROM_REPOSITORY_FILE]
    #[arg(long, value_name = "FILE")]
    from_repository_file: Option<PathBuf>,

    /// File that holds its password [env: ICECORE_FROM_PASSWORD_FILE, or the password itself in ICECORE_FROM_PASSWORD]
    #[arg(long, value_name = "FILE", group = "from_secret")]
    from_password_file: Option<PathBuf>,

    /// Command that prints its password [env: ICECORE_FROM_PASSWORD_COMMAND]
    #[arg(long, value_name = "COMMAND", group = "from_secret")]
    from_password_command: Option<String>,

    /// File of 32 random bytes that opens it [env: ICECORE_FROM_KEY_FILE]
    #[arg(long, value_name = "FILE", group = "from_secret")]
    from_key_file: Option<PathBuf>,

    /// File with the text of its recovery kit
    #[arg(long, value_name = "FILE", group = "from_secret")]
    from_recovery_kit: Option<PathBuf>,

    /// The first digits of its key to try first [env: ICECORE_FROM_KEY_HINT]
    #[arg(long, value_name = "ID")]
    from_key_hint: Option<String>,

    /// It has the empty password
    #[arg(long, group = "from_secret")]
    from_insecure_no_password: bool,
}

impl From {
    /// Whether the command line names one; variables are for all commands, and no reason to complain.
    pub fn is_given(&self) -> bool {
        self.from_repo.is_some() || self.from_repository_file.is_some()
    }

    /// Opens it.
    pub fn open(&self, context: &Context) -> Outcome<Repository> {
        let place = named_place(self.from_repo.as_deref(), self.from_repository_file.as_deref(), "FROM_")?;
        let place = place.ok_or_else(|| {
            Failure::with_hint(
                "no repository to copy from is named",
                "use --from-repo DIRECTORY or ICECORE_FROM_REPOSITORY",
            )
        })?;
        let hint = self.from_key_hint.clone().or_else(|| env::var("ICECORE_FROM_KEY_HINT").ok());
        let sources = Sources {
            key_file: self.from_key_file.as_deref(),
            recovery_kit: self.from_recovery_kit.as_deref(),
            password_file: self.from_password_file.as_deref(),
            password_command: self.from_password_command.as_deref(),
            insecure_no_password: self.from_insecure_no_password,
            variables: Some("FROM_"),
            of: "source repository",
        };
        context.open_at(&place, hint, &sources).map_err(|failure| said_of(failure, "the repository to copy from"))
    }
}

/// Further targets, each with where its secret comes from.
#[derive(Debug, Clone, Default)]
pub struct Also {
    targets: Vec<AlsoTarget>,
}

#[derive(Debug, Clone, Default)]
struct AlsoTarget {
    place: PathBuf,
    key_file: Option<PathBuf>,
    password_file: Option<PathBuf>,
    password_command: Option<String>,
}

/// The flags that say how the target before them opens.
const ALSO_SECRETS: [(&str, &str, &str); 3] = [
    ("also-password-file", "FILE", "File that holds the password of the --also before it"),
    ("also-password-command", "COMMAND", "Command that prints the password of the --also before it"),
    ("also-key-file", "FILE", "File of 32 random bytes that opens the --also before it"),
];

impl Args for Also {
    fn augment_args(command: Command) -> Command {
        let place = Arg::new("also").long("also").value_name("PLACE").action(ArgAction::Append);
        let help = "Copy to this repository too, in the same pass; may be repeated. It opens with the secret of --repo, unless one \
                    of the next three follows";
        let mut command =
            command.next_help_heading("Further targets").arg(place.value_parser(value_parser!(PathBuf)).help(help));
        for (flag, value, help) in ALSO_SECRETS {
            let arg = Arg::new(flag).long(flag).value_name(value).action(ArgAction::Append).requires("also");
            command = command.arg(arg.value_parser(value_parser!(PathBuf)).help(help));
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Also {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        // In the order of the command line: a secret belongs to the place before it.
        let mut given: Vec<(usize, &str, PathBuf)> = Vec::new();
        for flag in std::iter::once("also").chain(ALSO_SECRETS.map(|(flag, ..)| flag)) {
            let values = matches.get_many::<PathBuf>(flag).into_iter().flatten();
            given.extend(
                matches.indices_of(flag).into_iter().flatten().zip(values).map(|(at, value)| (at, flag, value.clone())),
            );
        }
        given.sort_by_key(|(at, ..)| *at);
        let mut targets: Vec<AlsoTarget> = Vec::new();
        for (_, flag, value) in given {
            if flag == "also" {
                targets.push(AlsoTarget { place: value, ..AlsoTarget::default() });
                continue;
            }
            let refused = |problem: &str| {
                Err(clap::Error::raw(clap::error::ErrorKind::ArgumentConflict, format!("--{flag} {problem}")))
            };
            let Some(target) = targets.last_mut() else { return refused("comes before any --also") };
            if target.has_secret() {
                return refused("is a second secret of the --also before it");
            }
            match flag {
                "also-password-file" => target.password_file = Some(value),
                "also-key-file" => target.key_file = Some(value),
                _ => target.password_command = Some(value.to_string_lossy().into_owned()),
            }
        }
        Ok(Self { targets })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl AlsoTarget {
    fn has_secret(&self) -> bool {
        self.key_file.is_some() || self.password_file.is_some() || self.password_command.is_some()
    }
}

impl Also {
    /// Opens them, in their order.
    pub fn open(&self, context: &Context) -> Outcome<Vec<Repository>> {
        let open = |target: &AlsoTarget| {
            let place = local(&target.place)?;
            let of = format!("repository {}", names::path(&place));
            let sources = match target.has_secret() {
                true => Sources {
                    key_file: target.key_file.as_deref(),
                    password_file: target.password_file.as_deref(),
                    password_command: target.password_command.as_deref(),
                    of: &of,
                    ..Sources::default()
                },
                false => Sources { of: &of, ..(&context.global).into() },
            };
            context.open_at(&place, None, &sources).map_err(|failure| said_of(failure, &names::path(&place)))
        };
        self.targets.iter().map(open).collect()
    }
}

/// Of several repositories, which one?
fn said_of(failure: Failure, which: &str) -> Failure {
    match failure {
        // Its place says which.
        Failure::Core(Error::NoRepository { place }) if place == which => Error::NoRepository { place }.into(),
        Failure::Core(error @ (Error::WrongSecret { .. } | Error::NoRepository { .. })) => {
            Failure::Of { which: which.to_owned(), error }
        }
        other => other,
    }
}
