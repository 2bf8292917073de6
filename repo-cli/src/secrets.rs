//! Passwords, key files and recovery kits: where they come from. None is ever taken from the command line itself,
//! nor repeated in a message.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs, io};

use clap::Args;
use repo_core::{Error, Secret, system};
use zeroize::Zeroizing;

use crate::args::Global;
use crate::exit::{Failure, Outcome};
use crate::interrupt;
use crate::names;

/// How often a person may mistype a password.
const TRIES: usize = 3;

/// A new secret, for commands that set one.
#[derive(Debug, Clone, Args)]
pub struct NewSecret {
    /// Make a new key file here (32 random bytes in hexadecimal) instead of using a password
    #[arg(long, value_name = "FILE", group = "new_secret")]
    pub new_key_file: Option<PathBuf>,
}

/// Where the secret comes from.
#[derive(Debug)]
enum Origin {
    KeyFile(PathBuf),
    RecoveryKit(PathBuf),
    PasswordFile(PathBuf),
    PasswordCommand(String),
    Environment(Zeroizing<Vec<u8>>),
    /// The empty password, which was asked for by name.
    Nothing,
    Prompt,
}

/// A variable that is set and not empty.
fn variable(name: &str) -> Option<std::ffi::OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// Where the secret of one repository may come from: flags of the command line, and variables of the environment.
#[derive(Debug, Default)]
pub struct Sources<'a> {
    pub key_file: Option<&'a Path>,
    pub recovery_kit: Option<&'a Path>,
    pub password_file: Option<&'a Path>,
    pub password_command: Option<&'a str>,
    pub insecure_no_password: bool,
    /// What is between `ICECORE_` and the rest of the variables' names; `None`: there are none.
    pub variables: Option<&'static str>,
    /// Which repository, for whoever is asked.
    pub of: &'a str,
}

impl<'a> From<&'a Global> for Sources<'a> {
    fn from(global: &'a Global) -> Self {
        Self {
            key_file: global.key_file.as_deref(),
            recovery_kit: global.recovery_kit.as_deref(),
            password_file: global.password_file.as_deref(),
            password_command: global.password_command.as_deref(),
            insecure_no_password: global.insecure_no_password,
            variables: Some(""),
            of: "repository",
        }
    }
}

/// The command line first; then the environment, where only one source may be named; then a person.
fn origin(sources: &Sources<'_>) -> Outcome<Origin> {
    let named = |name: &str| sources.variables.map(|kind| format!("ICECORE_{kind}{name}"));
    let value = |name: &str| named(name).and_then(|name| variable(&name));
    if let Some(path) = sources.key_file {
        return Ok(Origin::KeyFile(path.to_owned()));
    } else if let Some(path) = sources.recovery_kit {
        return Ok(Origin::RecoveryKit(path.to_owned()));
    } else if let Some(path) = sources.password_file {
        return Ok(Origin::PasswordFile(path.to_owned()));
    } else if let Some(command) = sources.password_command {
        return Ok(Origin::PasswordCommand(command.to_owned()));
    } else if sources.insecure_no_password {
        const SECRETS: [&str; 4] = ["PASSWORD", "PASSWORD_FILE", "PASSWORD_COMMAND", "KEY_FILE"];
        return match SECRETS.into_iter().find(|name| value(name).is_some()).and_then(named) {
            // Which of the two was meant? To take either would be to guess.
            Some(name) => {
                let flag = if name.starts_with("ICECORE_FROM_") {
                    "--from-insecure-no-password"
                } else {
                    "--insecure-no-password"
                };
                Err(Failure::told(format!("{flag} and {name} cannot be used together")))
            }
            None => Ok(Origin::Nothing),
        };
    }
    let key_file = value("KEY_FILE").map(|value| Origin::KeyFile(value.into()));
    let password_file = value("PASSWORD_FILE").map(|value| Origin::PasswordFile(value.into()));
    let kind = sources.variables.unwrap_or_default();
    let command = match value("PASSWORD_COMMAND").map(std::ffi::OsString::into_string).transpose() {
        Ok(command) => command.map(Origin::PasswordCommand),
        Err(_) => return Err(Failure::told(format!("ICECORE_{kind}PASSWORD_COMMAND is not UTF-8"))),
    };
    let mut given = [key_file, password_file, command].into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(_), Some(_)) => Err(Failure::told(format!(
            "of ICECORE_{kind}KEY_FILE, ICECORE_{kind}PASSWORD_FILE and ICECORE_{kind}PASSWORD_COMMAND only one may be set",
        ))),
        (Some(origin), None) => Ok(origin),
        (None, _) => match named("PASSWORD").and_then(env::var_os) {
            Some(password) => Ok(Origin::Environment(Zeroizing::new(password.into_encoded_bytes()))),
            None => Ok(Origin::Prompt),
        },
    }
}

/// Whether flags or variables name a secret, so that no person is asked.
pub fn asks_nobody(sources: &Sources<'_>) -> bool {
    origin(sources).is_ok_and(|origin| !matches!(origin, Origin::Prompt))
}

/// Opens something with the secret that was named, or asks for a password up to three times.
pub fn open<T>(sources: &Sources<'_>, mut open: impl FnMut(&Secret) -> repo_core::Result<T>) -> Outcome<T> {
    let origin = origin(sources)?;
    let Origin::Prompt = origin else {
        return Ok(open(&read(&origin)?)?);
    };
    for left in (0..TRIES).rev() {
        let password = ask(&format!("enter password for {}: ", sources.of))?;
        checked(&password)?;
        match open(&Secret::password(password.as_slice())) {
            Err(Error::WrongSecret { .. }) if left > 0 => eprintln!("wrong password; try again"),
            result => return Ok(result?),
        }
    }
    unreachable!("the last try returns")
}

/// The secret of a repository that is being made: from the same sources, or a new key file.
pub fn for_new_repository(global: &Global, new: &NewSecret) -> Outcome<NewlyMade> {
    if let Some(path) = &new.new_key_file {
        return make_key_file(path);
    }
    let secret = match origin(&global.into())? {
        Origin::Prompt => ask_twice("enter password for new repository: ")?,
        Origin::RecoveryKit(_) => return Err(Failure::told("a recovery kit opens a repository; it cannot make one")),
        origin => read(&origin)?,
    };
    Ok(NewlyMade { secret, file: None })
}

/// The secret of a new key slot: the empty password if that was asked for, a new key file, a file with a password, or
/// what a person types.
pub fn for_new_key(new: &NewSecret, password_file: Option<&Path>, empty: bool) -> Outcome<NewlyMade> {
    let secret = match (&new.new_key_file, password_file) {
        _ if empty => read(&Origin::Nothing)?,
        (Some(path), _) => return make_key_file(path),
        (None, Some(path)) => read(&Origin::PasswordFile(path.to_owned()))?,
        (None, None) => ask_twice("enter new password: ")?,
    };
    Ok(NewlyMade { secret, file: None })
}

/// A secret for a slot that is not there yet. The file made for it goes away again unless [`NewlyMade::keep`] is called.
#[derive(Debug)]
pub struct NewlyMade {
    pub secret: Secret,
    file: Option<PathBuf>,
}

impl NewlyMade {
    /// Its slot is stored: the key file stays.
    pub fn keep(mut self) -> Option<PathBuf> {
        self.file.take()
    }
}

impl Drop for NewlyMade {
    fn drop(&mut self) {
        if let Some(path) = &self.file {
            fs::remove_file(path).ok();
        }
    }
}

/// The file is on disk, and its name too, before any slot needs it.
fn make_key_file(path: &Path) -> Outcome<NewlyMade> {
    let (secret, text) = Secret::generate_key()?;
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::with_hint(
            format!("making the key file {}: there is such a file already", names::path(path)),
            "choose another name: it may be the key of another repository, and is not written over",
        ),
        _ => Failure::file("making the key file", path, &error),
    };
    let mut file = system::create_private_file(path).map_err(failed)?;
    let made = NewlyMade { secret, file: Some(path.to_owned()) };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::File::open(directory)?.sync_all())
        .map_err(failed)?;
    Ok(made)
}

fn read(origin: &Origin) -> Outcome<Secret> {
    let password = match origin {
        Origin::KeyFile(path) => {
            let contents = read_small(path, "reading the key file")?;
            return Secret::from_key_file(&contents)
                .map_err(|error| Failure::told(format!("{}: {error}", names::path(path))));
        }
        Origin::RecoveryKit(path) => {
            let contents = read_small(path, "reading the recovery kit")?;
            let text = std::str::from_utf8(&contents)
                .map_err(|_| Failure::told(format!("{} is no text", names::path(path))))?;
            return Secret::from_recovery_kit(text).map_err(|error| {
                Failure::with_hint(
                    format!("{}: {error}", names::path(path)),
                    "compare it with the paper: five lines of 16 digits 0-9 and letters A-Z, of which I, L, O and U are none",
                )
            });
        }
        Origin::PasswordFile(path) => trimmed(&decoded(read_small(path, "reading the password file")?)),
        Origin::PasswordCommand(command) => trimmed(&run(command)?),
        Origin::Environment(password) => password.clone(),
        Origin::Nothing => return Ok(Secret::password([])),
        Origin::Prompt => ask("enter password: ")?,
    };
    checked(&password)?;
    Ok(Secret::password(password.as_slice()))
}

/// An empty password is most often a variable that was not set, or a file that was not written.
fn checked(password: &[u8]) -> Outcome {
    match password.is_empty() {
        true => Err(Failure::with_hint(
            "the password is empty",
            "an empty password protects nothing; `--new-key-file` makes a key that no one must remember, and --insecure-no-password takes it all the same",
        )),
        false => Ok(()),
    }
}

/// Secrets are short: a file that is not is the wrong one.
fn read_small(path: &Path, doing: &str) -> Outcome<Zeroizing<Vec<u8>>> {
    use io::Read;
    let failed = |error: io::Error| Failure::file(doing, path, &error);
    // Reserved at once: a buffer that grows leaves copies behind.
    let mut contents = Zeroizing::new(Vec::with_capacity(64 << 10));
    let limit = contents.capacity() as u64;
    fs::File::open(path).map_err(failed)?.take(limit).read_to_end(&mut contents).map_err(failed)?;
    if contents.len() as u64 == limit {
        return Err(Failure::told(format!("{doing} {}: it is too long to be one", names::path(path))));
    }
    Ok(contents)
}

/// Without a byte order mark; UTF-16, which some editors write, becomes UTF-8.
fn decoded(contents: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    type ReadUnit = fn([u8; 2]) -> u16;
    let units: ReadUnit = match contents.as_slice() {
        [0xef, 0xbb, 0xbf, rest @ ..] => return Zeroizing::new(rest.to_vec()),
        [0xff, 0xfe, ..] => u16::from_le_bytes,
        [0xfe, 0xff, ..] => u16::from_be_bytes,
        _ => return contents,
    };
    let wide: Zeroizing<Vec<u16>> =
        Zeroizing::new(contents[2..].as_chunks().0.iter().map(|pair| units(*pair)).collect());
    Zeroizing::new(String::from_utf16_lossy(&wide).into_bytes())
}

fn trimmed(contents: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(contents.trim_ascii().to_vec())
}

fn run(command: &str) -> Outcome<Zeroizing<Vec<u8>>> {
    let words = shell_words::split(command).map_err(|_| Failure::told("the password command has an open quote"))?;
    let [program, arguments @ ..] = words.as_slice() else {
        return Err(Failure::told("the password command is empty"));
    };
    // Standard input may be what is to be backed up.
    let result = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let result = result.map_err(|error| Failure::told(format!("the password command could not be run: {error}")))?;
    if !result.status.success() {
        return Err(Failure::told(format!("the password command failed: {}", result.status)));
    }
    Ok(Zeroizing::new(result.stdout))
}

fn ask(prompt: &str) -> Outcome<Zeroizing<Vec<u8>>> {
    let answer = interrupt::while_asking(|| rpassword::prompt_password(prompt));
    let password = answer.map_err(|error| match error.kind() {
        io::ErrorKind::Interrupted => Failure::Interrupted("no password was entered".to_owned()),
        io::ErrorKind::UnexpectedEof => Failure::told("no password was entered"),
        _ => Failure::with_hint(
            "no password is given, and there is no terminal to ask for one",
            "use --password-file, --password-command, --key-file or ICECORE_PASSWORD",
        ),
    })?;
    Ok(Zeroizing::new(password.into_bytes()))
}

/// A new password, typed twice alike. A slip is no reason to begin the whole command again.
fn ask_twice(prompt: &str) -> Outcome<Secret> {
    let mut slip = "";
    for left in (0..TRIES).rev() {
        let first = ask(prompt)?;
        slip = if first.is_empty() {
            "the password is empty"
        } else if *first != *ask("enter password again: ")? {
            "the passwords differ"
        } else {
            return Ok(Secret::password(first.as_slice()));
        };
        if left > 0 {
            eprintln!("{slip}; try again");
        }
    }
    Err(Failure::with_hint(slip, "nothing was stored; `--new-key-file` makes a key that no one must remember"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_file_may_have_a_line_end_a_mark_or_be_utf16() {
        let read = |bytes: &[u8]| trimmed(&decoded(Zeroizing::new(bytes.to_vec()))).to_vec();
        assert_eq!(read(b"secret\r\n"), b"secret");
        assert_eq!(read(b"\xef\xbb\xbfsecret"), b"secret");
        assert_eq!(read(b"\xff\xfes\0\xfc\0\n\0"), "sü".as_bytes());
        assert_eq!(read(b"\xfe\xff\0s\0\xfc"), "sü".as_bytes());
        assert_eq!(read(b"two words"), b"two words");
    }
}
