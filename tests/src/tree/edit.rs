//! What people do to a tree between two backups: a random share of it is changed in random ways.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::dice::Dice;
use super::grow;

/// Makes about `count` changes below `root`, and says each in words. What cannot be changed (immutable, or a path
/// beyond PATH_MAX) is left as it is.
pub fn edit(root: &Path, seed: u64, count: usize) -> Vec<String> {
    let mut dice = Dice::new(seed);
    (0..count * 4).filter_map(|_| change(root, &mut dice).ok()).take(count).collect()
}

fn change(root: &Path, dice: &mut Dice) -> io::Result<String> {
    let mut paths = Vec::new();
    collect(root, &mut paths);
    let Some(path) = paths.get(dice.below(paths.len().max(1) as u64) as usize) else {
        fs::write(root.join("first"), dice.bytes(1000))?;
        return Ok("made the first file".to_owned());
    };
    let metadata = fs::symlink_metadata(path)?;
    let done = if metadata.is_file() {
        change_file(path, metadata.len(), dice)?
    } else if metadata.is_dir() {
        change_directory(path, dice)?
    } else {
        fs::remove_file(path)?;
        "removed"
    };
    Ok(format!("{done} {}", path.display()))
}

fn change_file(path: &Path, size: u64, dice: &mut Dice) -> io::Result<&'static str> {
    let file = || OpenOptions::new().write(true).open(path);
    Ok(match dice.below(9) {
        0 => {
            file()?.write_all_at(&dice.bytes(50), dice.below(size + 1))?;
            "overwrote a part of"
        }
        1 => {
            file()?.write_all_at(&dice.text(3000), size)?;
            "appended to"
        }
        2 => {
            file()?.set_len(size / 2)?;
            "cut"
        }
        3 => {
            file()?.set_len(size + (1 << 20))?;
            "added a hole to"
        }
        4 => {
            fs::remove_file(path)?;
            "removed"
        }
        5 => {
            fs::rename(path, beside(path, dice))?;
            "renamed"
        }
        6 => {
            fs::set_permissions(path, fs::Permissions::from_mode(0o600 | dice.below(0o200) as u32))?;
            "changed the mode of"
        }
        7 => {
            // The content changes and the old date comes back: only ctime tells.
            let modified = fs::symlink_metadata(path)?.modified()?;
            let file = file()?;
            file.write_all_at(&dice.bytes(1), size / 2)?;
            file.set_modified(modified)?;
            "changed and backdated"
        }
        _ => {
            fs::remove_file(path)?;
            fs::create_dir(path)?;
            fs::write(path.join("was a file"), dice.text(10))?;
            "made a directory of"
        }
    })
}

fn change_directory(path: &Path, dice: &mut Dice) -> io::Result<&'static str> {
    Ok(match dice.below(5) {
        0 => {
            fs::rename(path, beside(path, dice))?;
            "renamed"
        }
        1 => {
            grow::soften(path);
            fs::remove_dir_all(path)?;
            fs::write(path, dice.text(2000))?;
            "made a file of"
        }
        2 => {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700 | dice.below(0o100) as u32))?;
            "changed the mode of"
        }
        _ => {
            let length = dice.below(100_000);
            fs::write(path.join(format!("new {}", dice.below(1000))), dice.bytes(length))?;
            "added a file to"
        }
    })
}

fn beside(path: &Path, dice: &mut Dice) -> PathBuf {
    path.with_file_name(OsStr::from_bytes(format!("renamed {}", dice.below(100_000)).as_bytes()))
}

/// Everything below `directory` that a path can reach, in an order that does not depend on the disk.
fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let mut entries: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        let is_directory = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir());
        paths.push(path.clone());
        if is_directory {
            collect(&path, paths);
        }
    }
}
