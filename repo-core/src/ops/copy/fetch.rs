//! Reading threads: chunks of the source, opened, proven, and named as each target names them.

use std::sync::Arc;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};

use crate::crypto::Keys;
use crate::error::Result;
use crate::frame;
use crate::id::{ChunkId, ChunkKind};
use crate::pipeline::Permit;
use crate::store::Store;

/// What reading threads share.
pub struct Fetcher<'f> {
    pub source: &'f Store,
    /// Whose names are wanted: the targets', or nobody's.
    pub names: Vec<Arc<Keys>>,
}

/// A chunk that is wanted.
pub struct Request {
    pub kind: ChunkKind,
    pub id: ChunkId,
    pub reply: Sender<Result<Fetched>>,
}

/// Chunks that lie near each other, most often in one frame.
pub struct Job {
    pub requests: Vec<Request>,
    pub permit: Permit,
}

/// A chunk, read.
pub struct Fetched {
    pub bytes: Bytes,
    /// Its names in the targets.
    pub ids: Vec<ChunkId>,
    pub incompressible: bool,
    /// Goes back when the last chunk of the job is stored.
    _permit: Arc<Permit>,
}

impl Fetcher<'_> {
    /// Works until there is no more.
    pub fn work(&self, todo: &Receiver<Job>) {
        for Job { requests, permit } in todo {
            let permit = Arc::new(permit);
            for request in requests {
                // Fails only if the assembly has given up; then nobody wants it.
                let _ = request.reply.send(self.fetch(request.kind, &request.id, &permit));
            }
        }
    }

    fn fetch(&self, kind: ChunkKind, id: &ChunkId, permit: &Arc<Permit>) -> Result<Fetched> {
        let slice = self.source.get(kind, id)?;
        let ids = self.names.iter().map(|keys| keys.chunk_id(kind, &slice)).collect();
        let incompressible = kind == ChunkKind::Data && frame::looks_incompressible(&slice);
        // A copy of its own: a slice would keep its whole frame in memory, which no permit counts.
        Ok(Fetched { bytes: Bytes::copy_from_slice(&slice), ids, incompressible, _permit: permit.clone() })
    }
}
