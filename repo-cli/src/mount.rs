//! A repository's snapshots as a file system of the kernel: mounted, served until somebody ends it, unmounted. What is shown
//! is the library's business, `filesystem` translates.

mod attributes;
mod directory;
mod filesystem;
mod read_ahead;
pub mod time_template;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use repo_core::{Browser, Repository, system};
use serde::Serialize;

use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::interrupt;
use crate::json;
use crate::names;

use filesystem::Snapshots;

/// The door to the kernel's half.
const DEVICE: &str = "/dev/fuse";
/// Between two looks whether it is to end.
const GLANCE: Duration = Duration::from_millis(100);
/// Problems that wait to be told; more at once are a flood that nobody reads.
const PROBLEMS_MAX: usize = 1000;

/// What others may see, and as whose.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    pub owned_by_root: bool,
    pub by_others: bool,
    /// The kernel checks modes and owners.
    pub by_permissions: bool,
}

/// Something that could not be shown.
#[derive(Debug)]
struct Problem {
    path: Vec<u8>,
    message: String,
}

#[derive(Serialize)]
struct Mounted<'a> {
    message_type: &'static str,
    mount_point: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mount_point_base64: Option<String>,
    repository: &'a str,
}

#[derive(Serialize)]
struct ProblemLine<'a> {
    message_type: &'static str,
    error: ProblemWords<'a>,
    during: &'static str,
    item: String,
}

#[derive(Serialize)]
struct ProblemWords<'a> {
    message: &'a str,
}

#[derive(Serialize)]
struct Note<'a> {
    message_type: &'static str,
    message: &'a str,
}

/// The directory to mount on, whole, if that can be done there.
pub fn place(directory: &Path) -> Outcome<PathBuf> {
    let shown = names::path(directory);
    let refuse = |problem: String, hint: String| Err(Failure::with_hint(problem, hint));
    let whole = fs::canonicalize(directory).and_then(|whole| fs::read_dir(&whole).map(|entries| (whole, entries)));
    let (whole, mut entries) = match whole {
        Ok(found) => found,
        Err(error) => {
            let for_shell = names::for_shell(directory);
            return match error.kind() {
                io::ErrorKind::NotFound => {
                    refuse(format!("there is no directory {shown} to mount on"), format!("make it: mkdir {for_shell}"))
                }
                io::ErrorKind::NotADirectory => {
                    refuse(format!("{shown} is not a directory"), "name an empty directory".to_owned())
                }
                io::ErrorKind::NotConnected => refuse(
                    format!("a mount that was killed is left at {shown}"),
                    format!("take it away: fusermount3 -u {for_shell}, or as root umount {for_shell}"),
                ),
                _ => Err(Failure::file("looking into", directory, &error)),
            };
        }
    };
    if entries.next().is_some() {
        let hint = "name an empty directory: what is in this one would be hidden until the end of the mount";
        return refuse(format!("{shown} is not empty"), hint.to_owned());
    }
    match File::options().read(true).write(true).open(DEVICE) {
        Ok(_) => Ok(whole),
        Err(error) => Err(no_device(&error)),
    }
}

fn no_device(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::NotFound => Failure::with_hint(
            format!("this machine has no {DEVICE}, through which file systems of programs are mounted"),
            "`modprobe fuse` as root brings it; a container has to be started with it (--device /dev/fuse --cap-add SYS_ADMIN)",
        ),
        io::ErrorKind::PermissionDenied => Failure::with_hint(
            format!("this user may not open {DEVICE}"),
            "mount as root, or let this user read and write it; `icecore restore` needs neither",
        ),
        _ => Failure::file("opening", Path::new(DEVICE), error),
    }
}

/// Mounts, and serves until Ctrl-C, TERM, the end of the terminal's connection, or somebody's umount.
pub fn serve(context: &Context, repository: &Repository, browser: Browser, directory: &Path, look: Look) -> Outcome {
    let repository = repository.id().to_string();
    // From here on nothing may end the program and leave a dead mount behind.
    let stop = interrupt::end_flag().map_err(|error| Failure::told(format!("listening for Ctrl-C: {error}")))?;
    let (problems, told) = mpsc::sync_channel(PROBLEMS_MAX);
    let snapshots = Snapshots::new(Arc::new(browser), look, problems);
    let session =
        Session::new(snapshots, directory, &config(context, look)).map_err(|error| refused(directory, &error))?;
    let background = session.spawn().map_err(|error| Failure::told(format!("starting threads: {error}")))?;
    let said = say_mounted(context, &repository, directory);
    let mut is_ending = false;
    while !background.guard.is_finished() {
        tell(context, &told);
        if !is_ending && (stop.load(SeqCst) || said.is_err()) {
            is_ending = true;
            unmount(context, directory);
        }
    }
    let ended = end(background);
    tell(context, &told);
    said?;
    ended.map_err(|error| Failure::told(format!("serving {}: {error}", names::path(directory))))?;
    match context.output.is_json() {
        true => context.output.json(&line("unmounted", &repository, directory)),
        false => context.output.say(1, &format!("{} is unmounted", names::path(directory))),
    }
}

/// The session's own result. What it has left of the mount is not dropped: it would unmount once more by the path, where
/// something else may be by now.
fn end(mut background: BackgroundSession) -> io::Result<()> {
    let guard = std::mem::replace(&mut background.guard, thread::spawn(|| Ok(())));
    std::mem::forget(background);
    guard.join().unwrap_or_else(|_| Err(io::Error::other("a thread of it panicked")))
}

fn config(context: &Context, look: Look) -> Config {
    let mut config = Config::default();
    config.mount_options = vec![MountOption::RO, MountOption::FSName("icecore".to_owned())];
    if look.by_permissions {
        config.mount_options.push(MountOption::DefaultPermissions);
    }
    config.acl = if look.by_others { SessionACL::All } else { SessionACL::Owner };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    // Each may wait for a disk or for another one's frame.
    config.n_threads = Some(context.global.threads.map_or(cores, usize::from).clamp(2, 16));
    config
}

/// Why the kernel, or fusermount3 in the place of who is not root, mounted nothing.
fn refused(directory: &Path, error: &io::Error) -> Failure {
    let message = format!("mounting on {}: {error}", names::path(directory));
    let text = error.to_string();
    if text.contains("user_allow_other") {
        return Failure::with_hint(message, "--allow-other needs the line user_allow_other in /etc/fuse.conf, or root");
    }
    match error.kind() {
        io::ErrorKind::NotFound => {
            Failure::with_hint(message, "who is not root needs the program fusermount3, of the package fuse3")
        }
        io::ErrorKind::PermissionDenied => no_device(error),
        _ => Failure::told(message),
    }
}

fn line<'a>(message_type: &'static str, repository: &'a str, directory: &Path) -> Mounted<'a> {
    let bytes = directory.as_os_str().as_encoded_bytes();
    Mounted { message_type, mount_point: json::text(bytes), mount_point_base64: json::exact(bytes), repository }
}

fn say_mounted(context: &Context, repository: &str, directory: &Path) -> Outcome {
    let output = &context.output;
    if output.is_json() {
        return output.json_now(&line("mounted", repository, directory));
    }
    output.say(1, &format!("repository {} is mounted on {}", &repository[..8], names::path(directory)))?;
    output.say(1, &format!("Ctrl-C ends it, and so does `{} {}`", unmounter(), names::for_shell(directory)))?;
    Ok(output.flush()?)
}

/// What ends it from another terminal.
fn unmounter() -> &'static str {
    if system::current_user().uid == 0 { "umount" } else { "fusermount3 -u" }
}

/// Tells what came up, waiting a moment for it.
fn tell(context: &Context, told: &Receiver<Problem>) {
    let mut next = told.recv_timeout(GLANCE).ok();
    while let Some(problem) = next {
        let message = problem.message.as_str();
        if context.output.is_json() {
            let item = json::text(&problem.path);
            let error = ProblemWords { message };
            context.output.error_json(&ProblemLine { message_type: "error", error, during: "mount", item });
        } else {
            context.output.error_line(&format!("error: {}: {}", names::shown(&problem.path), names::words(message)));
        }
        next = told.try_recv().ok();
    }
}

/// Takes the mount away, also if it is in use: then it is gone for all who come, and ends when the last one leaves.
fn unmount(context: &Context, directory: &Path) {
    let error = match unmount_as_anyone(directory, false) {
        Ok(()) => return,
        // Somebody else was faster.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
        Err(_) => unmount_as_anyone(directory, true).err(),
    };
    let shown = names::path(directory);
    let message = match error {
        None => format!("{shown} is in use: this ends when it no longer is; Ctrl-C again ends it now"),
        Some(error) => format!("unmounting {shown}: {error}; Ctrl-C again ends this, and leaves it mounted"),
    };
    match context.output.is_json() {
        true => context.output.error_json(&Note { message_type: "note", message: &message }),
        false => context.output.error_line(&format!("note: {message}")),
    }
}

fn unmount_as_anyone(directory: &Path, at_once: bool) -> io::Result<()> {
    match system::unmount(directory, at_once) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        done => return done,
    }
    let mut command = Command::new("fusermount3");
    command.arg("-u").args(at_once.then_some("-z")).arg("--").arg(directory);
    match command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?.success() {
        true => Ok(()),
        false => Err(io::Error::other("fusermount3 failed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(failure: Failure) -> (String, String) {
        match failure {
            Failure::Told { message, hint } => (message, hint.unwrap_or_default()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_cannot_mount_is_told_why_and_what_to_do() {
        let (message, hint) = words(no_device(&io::ErrorKind::NotFound.into()));
        assert!(message.contains("no /dev/fuse") && hint.contains("--device /dev/fuse"), "{message} {hint}");
        let (message, hint) = words(no_device(&io::ErrorKind::PermissionDenied.into()));
        assert!(message.contains("may not open /dev/fuse") && hint.contains("as root"), "{message} {hint}");
        let (_, hint) = words(refused(Path::new("/x"), &io::ErrorKind::NotFound.into()));
        assert!(hint.contains("fusermount3"), "{hint}");
        let error = io::Error::new(
            io::ErrorKind::PermissionDenied,
            "option allow_other only allowed if 'user_allow_other' is set in /etc/fuse.conf",
        );
        let (_, hint) = words(refused(Path::new("/x"), &error));
        assert!(hint.contains("/etc/fuse.conf"), "{hint}");
    }
}
