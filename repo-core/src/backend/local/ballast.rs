//! Room that is kept for the moment when the disk is full. To take back space prune must write a few small objects first,
//! and on a full disk it could not: then it gives up this file, which holds nothing, and makes it again afterwards.

use std::path::PathBuf;

use super::{Local, TEMPORARY};

/// 4 MiB: the objects of a cycle have a few hundred bytes a thousand packs, an index object 4 MiB at most.
const BALLAST_BYTES: u64 = 4 << 20;
/// It is made only where so much is free: a disk that is nearly full has better uses for its last bytes.
const FREE_BYTES_MIN: u64 = 4 * BALLAST_BYTES;
/// In `tmp/`, so that it is never listed. No temporary file has such a name, so that it never counts as one left behind.
const BALLAST: &str = "ballast";

impl Local {
    /// Makes the file if it is not there and there is room. Nothing depends on it, so that a failure is no error.
    pub(super) fn keep_ballast(&self) {
        let _ = self.operations.allocate(&self.ballast(), BALLAST_BYTES, FREE_BYTES_MIN);
    }

    /// Gives its room up; whether there was any. The directory is synced, since some file systems give room back no sooner.
    pub(super) fn give_up_ballast(&self) -> bool {
        self.operations.unlink(&self.ballast()).is_ok()
            && self.operations.fsync_directory(&self.root.join(TEMPORARY)).is_ok()
    }

    fn ballast(&self) -> PathBuf {
        self.root.join(TEMPORARY).join(BALLAST)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::backend::{Backend, Prefix};
    use crate::id::ObjectName;

    #[test]
    fn the_first_write_keeps_room_that_is_really_allocated_and_never_listed() {
        let directory = tempfile::tempdir().unwrap();
        let local = Local::new(directory.path());
        local.prepare().unwrap();
        local.put_new(&ObjectName::Format, Bytes::new()).unwrap();
        let metadata = std::fs::metadata(local.ballast()).unwrap();
        assert_eq!(metadata.len(), BALLAST_BYTES);
        assert!(metadata.blocks() * 512 >= BALLAST_BYTES, "{} blocks", metadata.blocks());
        assert_eq!(metadata.mode() & 0o777, 0o600);
        let mut names = Vec::new();
        local
            .list(Prefix::All, &mut |listed| {
                names.push(format!("{listed:?}"));
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(names.len(), 1, "{names:?}");
        assert!(local.release_reserve(), "there was room to give up");
        assert!(!local.release_reserve(), "but once");
        local.keep_reserve();
        assert!(local.ballast().exists());
        assert!(Arc::new(Local::new(directory.path())).release_reserve(), "another process gives it up as well");
    }

    #[test]
    fn where_there_is_little_room_none_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let local = Local::new(directory.path());
        local.prepare().unwrap();
        let refused = local.operations.allocate(&local.ballast(), BALLAST_BYTES, u64::MAX).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::StorageFull);
        assert!(!local.ballast().exists());
    }
}
