//! `icecore dump`

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use repo_core::{NodeKind, StoredFile, system};

use crate::args::with_exit_codes;
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::names;
use crate::selection::{self, At, Filters};

/// Write one file of a snapshot to standard output.
#[derive(Debug, Args)]
#[command(after_help = with_exit_codes!("Examples:\n  icecore dump latest /etc/hosts\n  icecore dump latest /db.sql | psql mydb"))]
pub struct Dump {
    /// The snapshot: latest, latest~N, or the first digits of an id; :PATH is a directory in it
    #[arg(value_name = "ID[:PATH]")]
    snapshot: OsString,

    /// The file, within the snapshot or within PATH
    #[arg(value_name = "FILE")]
    file: OsString,

    /// Write to this new file instead
    #[arg(short, long, value_name = "FILE")]
    target: Option<PathBuf>,

    #[command(flatten)]
    at: At,

    #[command(flatten)]
    filters: Filters,
}

impl Dump {
    pub fn run(self, context: &Context) -> Outcome {
        let (name, subpath) = selection::split_path(&self.snapshot)?;
        let path = selection::join(&subpath, self.file.as_encoded_bytes());
        let repository = context.open()?;
        let snapshot = selection::select(context, &repository, &name, &self.at, &self.filters)?;
        if path == b"/" {
            return Err(not_a_file(&path, "a directory"));
        }
        match repository.node(&snapshot, &path)?.metadata.kind {
            NodeKind::File => {}
            NodeKind::Directory => return Err(not_a_file(&path, "a directory")),
            NodeKind::Symlink => return Err(not_a_file(&path, "a symbolic link")),
            _ => return Err(not_a_file(&path, "a device, fifo or socket")),
        }
        let mut file = repository.read(&snapshot, &path)?;
        let Some(target) = &self.target else {
            return context.output.raw(|out| copy(&mut file, out, |error| error.into()));
        };
        let failed = |error: io::Error| Failure::file("writing", target, &error);
        // Others may be kept from reading the file it is a copy of.
        let mut out = system::create_private_file(target).map_err(failed)?;
        copy(&mut file, &mut out, failed)?;
        out.sync_all().map_err(failed)
    }
}

fn not_a_file(path: &[u8], what: &str) -> Failure {
    Failure::with_hint(
        format!("{} is {what}; only files can be dumped", names::shown(path)),
        "`icecore restore ID:PATH --target DIRECTORY` brings back anything",
    )
}

/// Tells apart which side failed.
fn copy(file: &mut StoredFile, out: &mut dyn Write, failed: impl Fn(io::Error) -> Failure) -> Outcome {
    use io::Read;
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return out.flush().map_err(failed),
            Ok(length) => out.write_all(&buffer[..length]).map_err(&failed)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::told(format!("reading from the repository: {error}"))),
        }
    }
}
