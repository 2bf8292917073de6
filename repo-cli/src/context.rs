//! What every command starts from: the place of the repository, the repository opened, the output.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{env, fs};

use repo_core::{
    AppendOnly, Backend, BackendErrorKind, Error, InitOptions, Limited, Local, Mirrored, ObjectName, OpenOptions,
    Repository, Secret, Span,
};

use crate::args::Global;
use crate::exit::{Failure, Outcome};
use crate::memory::Memory;
use crate::names;
use crate::output::Output;
use crate::owner;
use crate::secrets::{self, NewSecret};

/// What every command starts from.
#[derive(Debug)]
pub struct Context {
    pub global: Global,
    pub output: Output,
    /// What is remembered from one command to the next.
    pub memory: Memory,
}

/// A repository that was just made.
#[derive(Debug)]
pub struct Made {
    pub repository: Repository,
    pub key_file: Option<PathBuf>,
}

impl Context {
    /// Nothing is read yet.
    pub fn new(global: Global, output: Output) -> Self {
        Self { memory: Memory::new(&global), global, output }
    }

    /// The directory that the command line or the environment names.
    pub fn place(&self) -> Outcome<PathBuf> {
        let (place, file) = (self.global.repo.as_deref(), self.global.repository_file.as_deref());
        named_place(place, file, "")?
            .ok_or_else(|| Failure::with_hint("no repository is named", "use --repo DIRECTORY or ICECORE_REPOSITORY"))
    }

    /// A directory as a backend, as fast as the command line allows.
    pub fn backend_at(&self, place: &Path) -> Arc<dyn Backend> {
        let mut place: Arc<dyn Backend> = Arc::new(Local::new(place));
        if self.global.append_only {
            place = Arc::new(AppendOnly::new(place));
        }
        let rate = |kib: Option<u32>| u64::from(kib.unwrap_or(0)) << 10;
        let (put, get) = (rate(self.global.limit_upload), rate(self.global.limit_download));
        match (put, get) {
            (0, 0) => place,
            _ => Arc::new(Limited::new(place).put_bytes_per_second(put).get_bytes_per_second(get)),
        }
    }

    /// Opens the repository.
    pub fn open(&self) -> Outcome<Repository> {
        self.open_at(&self.place()?, self.key_hint(), &(&self.global).into())
    }

    /// Opens the repository, and tells by which secret.
    pub fn open_knowing_how(&self) -> Outcome<(Repository, Secret)> {
        let place = self.place()?;
        self.open_by(&place, self.backend_at(&place), self.key_hint(), &(&self.global).into())
    }

    /// The key to try first.
    fn key_hint(&self) -> Option<String> {
        self.global.key_hint.clone().or_else(|| env::var("ICECORE_KEY_HINT").ok())
    }

    /// Opens the repository to read it, with a mirror for what it cannot give itself.
    pub fn open_mirrored(&self, mirror: &Path) -> Outcome<(Repository, Arc<Mirrored>)> {
        let place = self.place()?;
        let (first, second) = (self.backend_at(&place), self.backend_at(mirror));
        let formats = [&first, &second].map(|place| place.get(&ObjectName::Format, Span::All));
        match formats {
            [_, Err(error)] if error.is_absent() => {
                return Err(Failure::told(format!("there is no mirror at {}", names::path(mirror))));
            }
            [Ok(ours), Ok(theirs)] if ours != theirs => {
                return Err(Failure::told(format!("{} mirrors another repository", names::path(mirror))));
            }
            _ => {}
        }
        let both = Arc::new(Mirrored::new(first, second));
        let (repository, _) =
            self.open_by(&place, Arc::clone(&both) as Arc<dyn Backend>, self.key_hint(), &(&self.global).into())?;
        Ok((repository, both))
    }

    /// Opens a repository, be it that of the command line or another.
    pub fn open_at(&self, place: &Path, hint: Option<String>, sources: &secrets::Sources<'_>) -> Outcome<Repository> {
        self.open_by(place, self.backend_at(place), hint, sources).map(|(repository, _)| repository)
    }

    fn open_by(
        &self,
        place: &Path,
        backend: Arc<dyn Backend>,
        hint: Option<String>,
        sources: &secrets::Sources<'_>,
    ) -> Outcome<(Repository, Secret)> {
        // Before a password is asked for: there may be nothing to open.
        match backend.get(&ObjectName::Format, Span::All) {
            Err(_) if place.is_file() => {
                return Err(Error::NoRepository { place: format!("{}, which is a file", backend.place()) }.into());
            }
            Err(error)
                if error.is_absent()
                    && backend.get(&ObjectName::SecondCopy(repo_core::Doubled::Format), Span::All).is_err() =>
            {
                return Err(Error::NoRepository { place: backend.place() }.into());
            }
            // The error names the object alone; who came here by a variable should learn which repository it is of.
            Err(error) if error.kind == BackendErrorKind::Denied => {
                return Err(Failure::with_hint(
                    format!("the repository at {} cannot be opened: {error}", backend.place()),
                    "this user may not read it: check its owner and mode",
                ));
            }
            _ => {}
        }
        let mut options = OpenOptions::default();
        options.key_hint = hint;
        options.owner = owner::known(&self.global);
        let open = |secret: &Secret| {
            let repository = Repository::open_with(Arc::clone(&backend), secret, &options)?;
            Ok((repository, secret.clone()))
        };
        let (repository, secret) = secrets::open(sources, open)?;
        let repository = self.threaded(repository);
        self.memory.compare(&self.output, place, &repository)?;
        Ok((repository, secret))
    }

    /// Opens it, and says so on a terminal.
    pub fn open_aloud(&self) -> Outcome<Repository> {
        let repository = self.open()?;
        if self.output.out_is_terminal() {
            self.output.say(1, &format!("repository {} opened", &repository.id().to_string()[..8]))?;
        }
        Ok(repository)
    }

    /// Makes a repository.
    pub fn init(&self, new: &NewSecret, mut options: InitOptions) -> Outcome<Made> {
        if self.global.append_only {
            return Err(Failure::with_hint(
                "a repository is not made with --append-only",
                "make it where its maintenance is done, without --append-only or ICECORE_APPEND_ONLY",
            ));
        }
        let place = self.place()?;
        if place.is_file() {
            return Err(Failure::with_hint(
                format!("{} is a file", names::path(&place)),
                "name an empty directory, or one that does not exist yet: it is made",
            ));
        }
        let backend = self.backend_at(&place);
        // Before a new password is thought of.
        if backend.get(&ObjectName::Format, Span::All).is_ok() {
            return Err(Error::RepositoryExists { place: backend.place() }.into());
        }
        let made = secrets::for_new_repository(&self.global, new)?;
        // Off is of a run alone: what a repository is made with is a level.
        if let Some(level @ 1..) = self.global.compression.level() {
            options.level = level;
        }
        let repository = Repository::init(backend, &made.secret, &options)?;
        self.memory.made(&self.output, &place, &repository)?;
        Ok(Made { repository: self.threaded(repository), key_file: made.keep() })
    }

    fn threaded(&self, repository: Repository) -> Repository {
        match self.global.threads {
            Some(threads) => repository.with_threads(usize::from(threads)),
            None => repository,
        }
    }
}

/// The directory that flags or, if they name none, variables name: `ICECORE_{kind}REPOSITORY` and its file.
pub fn named_place(place: Option<&Path>, file: Option<&Path>, kind: &str) -> Outcome<Option<PathBuf>> {
    let from_file = |path: &Path| -> Outcome<PathBuf> {
        let text = fs::read_to_string(path)
            .map_err(|error| Failure::file("reading the repository's place from", path, &error))?;
        Ok(PathBuf::from(text.trim()))
    };
    let variable = |name| env::var_os(format!("ICECORE_{kind}{name}")).filter(|value| !value.is_empty());
    // The command line goes before the environment, whichever of the two spellings it uses.
    let place = if let Some(place) = place {
        place.to_owned()
    } else if let Some(path) = file {
        from_file(path)?
    } else if let Some(place) = variable("REPOSITORY") {
        place.into()
    } else if let Some(path) = variable("REPOSITORY_FILE") {
        from_file(path.as_ref())?
    } else {
        return Ok(None);
    };
    local(&place).map(Some)
}

/// The directory that a place means. What looks like a place of another kind is refused, not made as a directory.
pub fn local(place: &Path) -> Outcome<PathBuf> {
    let Some(text) = place.to_str() else { return Ok(place.to_owned()) };
    if text.is_empty() {
        return Err(Failure::told("the repository's place is empty"));
    }
    if let Some(path) = text.strip_prefix("local:") {
        return Ok(PathBuf::from(path));
    }
    match text.split_once(':') {
        Some((scheme, _)) if !scheme.contains('/') && !scheme.starts_with('.') => Err(Failure::with_hint(
            format!("{}: this version keeps repositories in local directories only", names::words(text)),
            "write a path, or local:PATH for a directory whose name has a colon",
        )),
        _ => Ok(place.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_a_path_is_taken_for_one() {
        let good = [("/a/b", "/a/b"), ("rel/x", "rel/x"), ("local:x:y", "x:y"), ("./a:b", "./a:b"), ("/a:b", "/a:b")];
        for (place, path) in good {
            assert_eq!(local(Path::new(place)).expect(place), Path::new(path));
        }
        for bad in ["s3:bucket", "sftp:user@host:/x", "user@host:/x", "rest:https://h/", "", "https://h/x"] {
            assert!(local(Path::new(bad)).is_err(), "{bad}");
        }
    }
}
