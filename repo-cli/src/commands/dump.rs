//! `icecore dump`

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use clap::{Args, ValueEnum};
use repo_core::{
    ArchiveFormat, DumpOptions, Error, Event, NodeKind, Progress, Repository, Snapshot, StoredFile, system,
};

use crate::args::with_exit_codes;
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::interrupt;
use crate::names;
use crate::output::Output;
use crate::problems;
use crate::selection::{self, At, Filters};

/// Write a file of a snapshot, or a directory as an archive, to standard output.
///
/// A file comes out as its bytes, a directory as an archive with everything in it. What is damaged ends the command by
/// its name, since no archive can take back what it began.
#[derive(Debug, Args)]
#[command(after_help = with_exit_codes!("Examples:\n  icecore dump latest /etc/hosts\n  icecore dump latest /db.sql | psql mydb\n  icecore dump latest /etc > etc.tar\n  icecore dump latest:/home/ann / --archive zip --target ann.zip\n  icecore dump latest /srv | ssh host tar -x --xattrs --xattrs-include='*' -C /"))]
pub struct Dump {
    /// The snapshot: latest, latest~N, or the first digits of an id; :PATH is a directory in it
    #[arg(value_name = "ID[:PATH]")]
    snapshot: OsString,

    /// The file or directory, within the snapshot or within PATH; / is all of it
    #[arg(value_name = "FILE")]
    file: OsString,

    /// What a directory is written as [default: what the target's name ends with, or tar]
    #[arg(short, long, value_name = "FORM")]
    archive: Option<Form>,

    /// Write to this new file instead; until it is complete its name ends with .partial
    #[arg(short, long, value_name = "FILE")]
    target: Option<PathBuf>,

    #[command(flatten)]
    at: At,

    #[command(flatten)]
    filters: Filters,
}

/// The forms of archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// With owners, attributes, holes, hard links, devices: as GNU tar and bsdtar read it (POSIX.1-2001)
    Tar,
    /// The same, compressed by zstd
    #[value(name = "tar.zst")]
    TarZst,
    /// Files, directories and symbolic links, with modes
    Zip,
}

impl Form {
    fn of_name(target: &Path) -> Option<Self> {
        let name = target.file_name()?.as_encoded_bytes().to_ascii_lowercase();
        let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end.as_bytes()));
        match () {
            () if ends(&[".zip"]) => Some(Self::Zip),
            () if ends(&[".tar.zst", ".tar.zstd", ".tzst"]) => Some(Self::TarZst),
            () => None,
        }
    }

    fn format(self) -> ArchiveFormat {
        match self {
            Self::Tar => ArchiveFormat::Tar,
            Self::TarZst => ArchiveFormat::TarZstd,
            Self::Zip => ArchiveFormat::Zip,
        }
    }
}

/// What is to be written.
struct Wanted {
    repository: Repository,
    snapshot: Snapshot,
    path: Vec<u8>,
    /// The directory that names in an archive are told from.
    below: Vec<u8>,
    /// `None`: a file as it is.
    form: Option<Form>,
}

impl Dump {
    pub fn run(self, context: &Context) -> Outcome {
        let (name, below) = selection::split_path(&self.snapshot)?;
        let path = selection::join(&below, self.file.as_encoded_bytes());
        let repository = context.open()?;
        let snapshot = selection::select(context, &repository, &name, &self.at, &self.filters)?;
        let kind = match path.as_slice() {
            b"/" => NodeKind::Directory,
            path => repository.node(&snapshot, path)?.metadata.kind,
        };
        let form = match kind {
            NodeKind::File => None,
            NodeKind::Directory => {
                let named = self.target.as_deref().and_then(Form::of_name);
                Some(self.archive.or(named).unwrap_or(Form::Tar))
            }
            NodeKind::Symlink => return Err(no_content(&path, "a symbolic link")),
            _ => return Err(no_content(&path, "a device, fifo or socket")),
        };
        let wanted = Wanted { repository, snapshot, path, below, form };
        // Into a pipe that nobody reads only a signal can end it, and it must: a flag would wait for the write to come back.
        let deaf = Listener { output: &context.output, stop: Arc::default() };
        match &self.target {
            Some(target) => wanted.to_file(target, &Listener::new(&context.output)?),
            None if form.is_some() && context.output.out_is_terminal() => Err(Failure::with_hint(
                "an archive does not belong on a terminal",
                "write it to a file (--target FILE) or into a pipe",
            )),
            None => wanted.write(&mut context.output.stream(), &deaf, &|error| error.into()),
        }
    }
}

impl Wanted {
    fn write(&self, out: &mut dyn Write, listener: &Listener<'_>, failed: &dyn Fn(io::Error) -> Failure) -> Outcome {
        let Some(form) = self.form else {
            let mut file = self.repository.read(&self.snapshot, &self.path)?;
            return copy(&mut file, &self.path, out, listener, failed);
        };
        let options = DumpOptions::new().format(form.format()).relative_to(self.below.clone());
        let result = self.repository.dump(&self.snapshot, &self.path, out, &options, listener);
        result.map(drop).map_err(|error| match error {
            Error::Output(error) => failed(error),
            error => Failure::from_verb(error, KEPT),
        })
    }

    /// Under another name until it is whole: half an archive must not look like one.
    fn to_file(&self, target: &Path, listener: &Listener<'_>) -> Outcome {
        let failed = |error: io::Error| Failure::file("writing", target, &error);
        if target.symlink_metadata().is_ok() {
            return Err(is_there(target));
        }
        let mut partial = target.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        // Others may be kept from reading the files it is a copy of.
        let file = system::create_private_file(&partial).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Failure::with_hint(
                format!("{} is there already: an earlier dump did not come to its end", names::path(&partial)),
                "remove it, or choose another target",
            ),
            _ => Failure::file("making", &partial, &error),
        })?;
        let mut out = BufWriter::with_capacity(256 << 10, file);
        let written = self.write(&mut out, listener, &failed);
        let written = written.and_then(|()| out.flush().and_then(|()| out.get_ref().sync_all()).map_err(failed));
        if let Err(failure) = written {
            out.flush().ok();
            give_up(out.get_ref(), &partial, listener.output);
            return Err(failure);
        }
        give_name(&partial, target).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => is_there(target),
            _ => failed(error),
        })
    }
}

fn is_there(target: &Path) -> Failure {
    Failure::with_hint(
        format!("{} is there already, and is not written over", names::path(target)),
        "remove it, or choose another target",
    )
}

const KEPT: &str = "what was written so far is no whole archive";

/// Says where the part is; nothing is left of what has none.
fn give_up(file: &File, partial: &Path, output: &Output) {
    match file.metadata() {
        Ok(metadata) if metadata.len() > 0 => {
            problems::note(
                output,
                "note",
                &format!("what was written is in {}; it is incomplete", names::path(partial)),
            );
        }
        _ => _ = fs::remove_file(partial),
    }
}

/// Without taking the name from what may have come there meanwhile, where the file system can.
fn give_name(partial: &Path, target: &Path) -> io::Result<()> {
    match fs::hard_link(partial, target) {
        Ok(()) => fs::remove_file(partial),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        Err(_) => fs::rename(partial, target),
    }
}

fn no_content(path: &[u8], what: &str) -> Failure {
    Failure::with_hint(
        format!("{} is {what}; only files and directories can be dumped", names::shown(path)),
        "dump the directory it is in, or bring it back by `icecore restore ID:PATH --target DIRECTORY`",
    )
}

/// Tells apart which side failed.
fn copy(
    file: &mut StoredFile,
    path: &[u8],
    out: &mut dyn Write,
    listener: &Listener<'_>,
    failed: &dyn Fn(io::Error) -> Failure,
) -> Outcome {
    use io::Read;
    let mut buffer = vec![0; 256 << 10];
    loop {
        if listener.is_cancelled() {
            return Err(Failure::Interrupted(KEPT.replace("archive", "file")));
        }
        match file.read(&mut buffer) {
            Ok(0) => return out.flush().map_err(failed),
            Ok(length) => out.write_all(&buffer[..length]).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(Failure::with_hint(
                    format!("{}: {error}", names::shown(path)),
                    "`icecore check --read-data` names everything that is damaged and which snapshots need it",
                ));
            }
        }
    }
}

/// Hears notes, and of a dump to a file Ctrl-C. It draws nothing: a status would be where the archive goes.
struct Listener<'o> {
    output: &'o Output,
    stop: Arc<AtomicBool>,
}

impl<'o> Listener<'o> {
    fn new(output: &'o Output) -> Outcome<Self> {
        let stop = interrupt::stop_flag().map_err(|error| Failure::told(format!("listening for Ctrl-C: {error}")))?;
        Ok(Self { output, stop })
    }
}

impl Progress for Listener<'_> {
    fn report(&self, event: Event<'_>) {
        if let Event::Note { message } = event {
            problems::note(self.output, "warning", message);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.stop.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_target_tells_the_form() {
        let form = |name: &str| Form::of_name(Path::new(name));
        assert_eq!(form("a/b.ZIP"), Some(Form::Zip));
        assert_eq!(form("b.tar.zst"), Some(Form::TarZst));
        assert_eq!((form("b.tar"), form("zip"), form("b.zst"), form("/")), (None, None, None, None));
    }
}
