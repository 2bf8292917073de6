//! How a restore is asked for, one wish a call: `RestoreOptions::new().subpath("etc").verify()`.

use super::{Overwrite, Owner, RestoreOptions};
use crate::walk::filter::Patterns;

impl RestoreOptions {
    /// Only this directory's content, or this file: a path within the snapshot, raw bytes.
    pub fn subpath(mut self, path: impl Into<Vec<u8>>) -> Self {
        self.subpath = path.into();
        self
    }

    /// What happens to files that are in the target already.
    pub fn overwrite(mut self, overwrite: Overwrite) -> Self {
        self.overwrite = overwrite;
        self
    }

    /// Only what matches. Not together with [`exclude`](Self::exclude).
    pub fn include(mut self, patterns: Patterns) -> Self {
        self.include = patterns;
        self
    }

    /// Nothing that matches. Not together with [`include`](Self::include).
    pub fn exclude(mut self, patterns: Patterns) -> Self {
        self.exclude = patterns;
        self
    }

    /// Removes from restored directories what the snapshot has not; never what a filter leaves out.
    pub fn delete(mut self) -> Self {
        self.delete = true;
        self
    }

    /// Looks and tells what would be done, writes nothing.
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// Afterwards reads everything again and compares it.
    pub fn verify(mut self) -> Self {
        self.verify = true;
        self
    }

    /// Makes holes of zeros that were written, too. Holes of the snapshot are holes in any case.
    pub fn sparse(mut self) -> Self {
        self.sparse = true;
        self
    }

    /// Leaves owner and group as they come.
    pub fn without_ownership(mut self) -> Self {
        self.no_ownership = true;
        self
    }

    /// Leaves extended attributes and ACLs as they come.
    pub fn without_xattrs(mut self) -> Self {
        self.no_xattrs = true;
        self
    }

    /// Only extended attributes (ACLs among them) whose name matches, such as `user.*`; others stay as they are in the
    /// target. Not together with [`exclude_xattrs`](Self::exclude_xattrs).
    pub fn include_xattrs(mut self, patterns: Patterns) -> Self {
        self.include_xattrs = patterns;
        self
    }

    /// No extended attribute whose name matches, such as `security.*`: it stays as it is in the target. Not together with
    /// [`include_xattrs`](Self::include_xattrs).
    pub fn exclude_xattrs(mut self, patterns: Patterns) -> Self {
        self.exclude_xattrs = patterns;
        self
    }

    /// Makes no devices, fifos and sockets.
    pub fn without_special(mut self) -> Self {
        self.no_special = true;
        self
    }

    /// Sets owners by the names recorded where this machine knows them, by number where it does not.
    pub fn ownership_by_name(mut self) -> Self {
        self.ownership_by_name = true;
        self
    }

    /// What was `from` in the snapshot belongs to `to` in the target. The first pair that fits counts, before names and
    /// numbers.
    pub fn map_user(mut self, from: Owner, to: u32) -> Self {
        self.map_users.push((from, to));
        self
    }

    /// The same of groups.
    pub fn map_group(mut self, from: Owner, to: u32) -> Self {
        self.map_groups.push((from, to));
        self
    }

    /// Gives files of one name that name when they are whole, and not before.
    pub fn atomic(mut self) -> Self {
        self.atomic = true;
        self
    }
}
