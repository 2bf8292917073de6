//! The command line: flags that every command has, and the list of commands. Each command's own flags are in its file.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::commands;
use crate::numbers;

/// Deduplicating, encrypted backups.
///
/// A repository holds snapshots of directory trees. Equal content is stored once, and nothing leaves this program
/// unencrypted. Start with `icecore init`, then `icecore backup`.
#[derive(Debug, Parser)]
#[command(name = "icecore", version, max_term_width = 100, subcommand_required = true, arg_required_else_help = true)]
pub struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Where the repository is: a directory, or `local:DIRECTORY` [env: ICECORE_REPOSITORY]
    #[arg(short, long, value_name = "PLACE", global = true, conflicts_with = "repository_file")]
    pub repo: Option<PathBuf>,

    /// File that holds the place of the repository [env: ICECORE_REPOSITORY_FILE]
    #[arg(long, value_name = "FILE", global = true)]
    pub repository_file: Option<PathBuf>,

    /// File that holds the password [env: ICECORE_PASSWORD_FILE, or the password itself in ICECORE_PASSWORD]
    #[arg(short, long, value_name = "FILE", global = true, group = "secret")]
    pub password_file: Option<PathBuf>,

    /// Command that prints the password [env: ICECORE_PASSWORD_COMMAND]
    #[arg(long, value_name = "COMMAND", global = true, group = "secret")]
    pub password_command: Option<String>,

    /// File of 32 random bytes that opens the repository instead of a password [env: ICECORE_KEY_FILE]
    #[arg(long, value_name = "FILE", global = true, group = "secret")]
    pub key_file: Option<PathBuf>,

    /// File with the text of a recovery kit (`key export`), which opens the repository alone
    #[arg(long, value_name = "FILE", global = true, group = "secret")]
    pub recovery_kit: Option<PathBuf>,

    /// Print results and problems only, no progress
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Print more; twice, or `--verbose=2`: every entry
    #[arg(short, long, global = true, value_name = "N", num_args = 0..=1, require_equals = true,
          default_missing_value = "1", action = clap::ArgAction::Append)]
    pub verbose: Vec<u8>,

    /// Print JSON, one value a line, as docs/json.md describes it
    #[arg(long, global = true)]
    pub json: bool,

    /// Do not open again what was just encrypted; faster, but failing memory goes unnoticed
    #[arg(long, global = true)]
    pub no_extra_verify: bool,

    /// How hard to compress new data: auto (what the repository was made with), off, fastest, better, max, or a level from 1 to 19
    #[arg(long, value_name = "HOW", global = true, env = "ICECORE_COMPRESSION", hide_env_values = true, default_value = "auto",
          hide_default_value = true, value_parser = numbers::parse_compression)]
    pub compression: numbers::Compression,

    /// Worker threads [default: one a core]
    #[arg(long, value_name = "N", global = true, env = "ICECORE_THREADS", hide_env_values = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,

    /// Mean size of new data packs in MiB, 4 to 128; each thread holds one in memory [default: the repository's, 12]
    #[arg(long, value_name = "MIB", global = true, env = "ICECORE_PACK_SIZE", hide_env_values = true, value_parser = numbers::parse_pack_size)]
    pub pack_size: Option<numbers::PackSize>,

    /// Write no more than so many KiB a second to the repository; 0: as fast as it can
    #[arg(long, value_name = "KIB", global = true, value_parser = numbers::parse_number)]
    pub limit_upload: Option<u32>,

    /// Read no more than so many KiB a second from the repository; 0: as fast as it can
    #[arg(long, value_name = "KIB", global = true, value_parser = numbers::parse_number)]
    pub limit_download: Option<u32>,

    /// The first digits of the key to try first, from `key list` [env: ICECORE_KEY_HINT]
    #[arg(long, value_name = "ID", global = true)]
    pub key_hint: Option<String>,

    /// Use the empty password, which protects nothing; without this it is refused
    #[arg(long, global = true, group = "secret")]
    pub insecure_no_password: bool,

    /// Where to remember what this machine knows of repositories [default: $XDG_STATE_HOME/icecore, ~/.local/state/icecore]
    /// [env: ICECORE_STATE_DIR]
    #[arg(long, value_name = "DIRECTORY", global = true)]
    pub state_dir: Option<PathBuf>,

    /// Compare the repository with nothing that is remembered of it, and remember nothing: for a look at an older copy
    #[arg(long, global = true, conflicts_with = "accept_rollback")]
    pub no_state: bool,

    /// The repository is right as it is, though it is older than what is remembered, or another one: remember it so
    #[arg(long, global = true)]
    pub accept_rollback: bool,

    /// Only add: refuse every command that removes, replaces or forgets; where the store lets this machine do no more anyway
    #[arg(long, global = true, env = "ICECORE_APPEND_ONLY", hide_env_values = true,
          value_parser = clap::builder::FalseyValueParser::new())]
    pub append_only: bool,

    #[command(flatten)]
    pub accepted: Accepted,
}

/// Flags of restic that scripts pass and that have nothing to do here. They are understood, so that a mistyped value is
/// still said, and shown by `--help` but not by `-h`.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Accepted {
    /// Accepted for restic's scripts: there are no locks
    #[arg(long, global = true, hide_short_help = true)]
    pub no_lock: bool,

    /// Accepted for restic's scripts: there are no locks to wait for
    #[arg(long, value_name = "DURATION", global = true, hide_short_help = true, value_parser = numbers::parse_duration)]
    pub retry_lock: Option<Duration>,

    /// Accepted for restic's scripts: a repository in a directory has no cache
    #[arg(long, global = true, hide_short_help = true)]
    pub no_cache: bool,

    /// Accepted for restic's scripts: a repository in a directory has no cache
    #[arg(long, value_name = "DIRECTORY", global = true, hide_short_help = true)]
    pub cache_dir: Option<PathBuf>,

    /// Accepted for restic's scripts: a repository in a directory has no cache
    #[arg(long, global = true, hide_short_help = true)]
    pub cleanup_cache: bool,

    /// Accepted for restic's scripts: options of places (s3.region=…), of which a directory needs none; unknown ones are refused
    #[arg(short, long, value_name = "KEY=VALUE", global = true, hide_short_help = true, value_parser = numbers::parse_option)]
    pub option: Vec<String>,
}

impl Global {
    /// 0 quiet, 1 as usual, 2 `-v`, 3 `-vv`.
    pub fn verbosity(&self) -> u8 {
        match self.quiet {
            true => 0,
            false => 1 + self.verbose.iter().fold(0u8, |sum, more| sum.saturating_add(*more)).min(2),
        }
    }
}

/// The exit codes, in the help of every command.
macro_rules! with_exit_codes {
    ($example:literal) => {
        concat!(
            $example,
            "\n\nExit codes:\n",
            "  0    done\n",
            "  1    failed, or the command line was not understood\n",
            "  3    incomplete: something could not be read, restored or removed\n",
            "  10   there is no repository\n",
            "  12   wrong password or key\n",
            "  13   alarm: snapshots are gone that nobody forgot, or the repository is older than it was\n",
            "  130  interrupted"
        )
    };
}
pub(crate) use with_exit_codes;

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    Init(commands::init::Init),
    Backup(Box<commands::backup::Backup>),
    Snapshots(commands::snapshots::Snapshots),
    Forget(Box<commands::forget::Forget>),
    Undelete(commands::undelete::Undelete),
    Tag(commands::tag::Tag),
    Ls(commands::ls::Ls),
    Diff(commands::diff::Diff),
    Find(Box<commands::find::Find>),
    Stats(commands::stats::Stats),
    Restore(Box<commands::restore::Restore>),
    #[cfg(target_os = "linux")]
    Mount(Box<commands::mount::Mount>),
    Prune(commands::prune::Prune),
    Check(commands::check::Check),
    Copy(Box<commands::copy::Copy>),
    Mirror(commands::mirror::Mirror),
    CrossCheck(commands::mirror::CrossCheck),
    Repair(commands::repair::Repair),
    Rewrite(Box<commands::rewrite::Rewrite>),
    Recover(commands::recover::Recover),
    Cat(commands::cat::Cat),
    List(commands::list::List),
    Dump(commands::dump::Dump),
    Key(commands::key::Key),
    Unlock(commands::unlock::Unlock),
    Cache(commands::cache::Cache),
    Generate(commands::generate::Generate),
    Complete(commands::complete::Complete),
    Version(commands::version::Version),
}
