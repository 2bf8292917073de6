//! From new chunks to durable packs and their index: gathers chunks into frames in the order they come, seals frames
//! on several threads, uploads packs on one, and writes the index when its packs are durable (invariant 2).

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, Sender, bounded};
use hashbrown::HashTable;

use super::Store;
use super::index::{Index, hash, pack_row};
use super::session::SignsOfLife;
use crate::backend::{self, Put, Span};
use crate::crypto;
use crate::error::{Error, Result};
use crate::format::INDEX_BLOCK_BYTES_MAX;
use crate::format::index::{ChunkRow, FrameRow, IndexBlock, PackRow};
use crate::format::pack::{ChunkRecord, Codec, Footer, FrameRecord};
use crate::format::snapshot::Root;
use crate::frame::FrameCodec;
use crate::id::{ChunkId, ChunkKind, ObjectName, PackId, PackKind, SnapshotId};
use crate::parity;
use crate::pipeline::{FirstError, Pool, Scope, lock};
use crate::seal::{self, PackBuilder, Part, SealedPack};

/// A tree whose every chunk is durable and indexed. Made by [`Sealing::finish`] alone, wanted by
/// [`Session::publish`](super::Session::publish): the order of writes in types (invariant 1).
#[derive(Debug)]
pub struct DurableTree {
    root: Root,
}

impl DurableTree {
    /// The top of the tree.
    pub fn root(&self) -> Root {
        self.root
    }
}

/// How chunks are gathered and sealed. Sizes in bytes.
#[derive(Debug, Clone, Copy)]
pub struct WriterOptions {
    pub threads: usize,
    /// zstd's, 1 to 19; 0: data is not compressed, and metadata at level 1.
    pub level: i32,
    /// Open every frame again before it leaves.
    pub verify: bool,
    /// Seal, count and drop.
    pub dry_run: bool,
    pub frame_target_bytes: usize,
    pub pack_data_bytes: usize,
    pub pack_meta_bytes: usize,
    /// Frames end where the owner changes.
    pub isolate_owners: bool,
    /// Of each pack's length; 0 for none.
    pub parity_percent: u8,
}

/// Bytes that went out, by kind of pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stored {
    pub data_bytes: u64,
    pub meta_bytes: u64,
}

/// Plaintext of a frame of tree nodes and lists, in bytes, if frames are not smaller anyway. Whoever looks for an entry, or for
/// what differs, opens a frame for each node he wants (docs/design.md, "Frames of trees").
const META_FRAME_BYTES: usize = 256 << 10;

/// A look at the clock costs a little: every so many calls are enough.
const CALLS_A_LOOK: u32 = 256;
/// Chunks a block of an index object: their rows stay below 1 MiB.
const BLOCK_CHUNKS: usize = 16 << 10;
/// Chunks a frame, however small they are: its rows must fit into one block of the index.
const FRAME_CHUNKS_MAX: usize = BLOCK_CHUNKS;
/// An index object is written when this many chunks wait for one.
pub(super) const INDEX_OBJECT_CHUNKS: usize = 64 << 10;

/// The sealing threads' common ground. Outlives them; [`finish`](Self::finish) is called when they have ended.
pub struct Sealing<'s> {
    store: &'s Store,
    session: SnapshotId,
    signs: SignsOfLife,
    options: WriterOptions,
    /// Objects made so far: part of every salt.
    objects: AtomicU64,
    /// Metadata is little: all threads share one pack for it.
    meta: Mutex<Option<OpenPack>>,
    failure: FirstError,
    /// Buffers of packs, and of frames' plaintext.
    buffers: Arc<Pool>,
    frames: Arc<Pool>,
    rows: Mutex<Vec<(PackRow, Footer)>>,
    written: Mutex<Vec<PackId>>,
    stored_data: AtomicU64,
    stored_meta: AtomicU64,
}

impl fmt::Debug for Sealing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealing({})", self.session)
    }
}

struct OpenPack {
    builder: PackBuilder,
    /// Drawn anew for each pack, so that sizes do not tell where content was cut.
    close_at: usize,
}

/// Chunks that are compressed and sealed together. Their bytes are copied here, once, as they come: a frame that held
/// on to the buffers they were read into would keep a whole buffer alive for every small chunk, and the reading
/// threads waiting for memory that only their own progress could free.
#[derive(Default)]
struct Frame {
    raw: Vec<u8>,
    chunks: Vec<(ChunkId, ChunkKind, u32)>,
    owner: u64,
}

struct FrameJob {
    kind: PackKind,
    frame: Frame,
    /// The frame as it was compressed before; empty: it is compressed now.
    packed: Option<(Codec, Vec<u8>)>,
}

impl<'s> Sealing<'s> {
    /// Nothing is started yet.
    pub fn new(store: &'s Store, session: SnapshotId, options: WriterOptions) -> Self {
        let largest = options.pack_data_bytes.max(options.pack_meta_bytes);
        // The largest threshold, the last frame, the padding and the table, so that a pack never moves while it grows;
        // untouched pages cost nothing.
        let buffers = Pool::new(largest / 4 * 5 + 2 * options.frame_target_bytes + (1 << 20));
        Self {
            buffers,
            frames: Pool::new(options.frame_target_bytes / 4 * 5),
            store,
            session,
            signs: SignsOfLife::new(session),
            options,
            objects: AtomicU64::new(0),
            meta: Mutex::new(None),
            failure: FirstError::default(),
            rows: Mutex::default(),
            written: Mutex::default(),
            stored_data: AtomicU64::new(0),
            stored_meta: AtomicU64::new(0),
        }
    }

    /// Starts the threads. They end when the writer is dropped.
    pub fn start<'scope>(&'scope self, scope: &Scope<'scope, '_>) -> Result<Writer<'scope, 's>> {
        let (jobs, todo) = bounded::<FrameJob>(self.options.threads);
        // One pack may wait while one is written; together with the open ones this bounds the memory of packs.
        let (uploads, sealed) = bounded::<SealedPack>(0);
        for _ in 0..self.options.threads {
            let (todo, uploads) = (todo.clone(), uploads.clone());
            scope.spawn("seal", move || self.seal_frames(&todo, &uploads))?;
        }
        scope.spawn("upload", move || self.upload(&sealed))?;
        Ok(Writer { sealing: self, jobs, open: Default::default(), new: NewChunks::default(), calls: 0 })
    }

    fn seal_frames(&self, jobs: &Receiver<FrameJob>, uploads: &Sender<SealedPack>) {
        let mut worker = SealWorker { sealing: self, codec: FrameCodec::new(self.options.level), data: None, uploads };
        // Goes on receiving after a failure, so that nobody waits for this thread.
        for job in jobs {
            if !self.failure.is_set()
                && let Err(error) = worker.seal(&job)
            {
                self.failure.set(error);
            }
            self.frames.give(job.frame.raw);
        }
        if !self.failure.is_set()
            && let Err(error) = worker.close_all()
        {
            self.failure.set(error);
        }
    }

    fn upload(&self, packs: &Receiver<SealedPack>) {
        for pack in packs {
            if !self.failure.is_set()
                && let Err(error) = self.put_pack(pack)
            {
                self.failure.set(error);
            }
        }
    }

    fn put_pack(&self, pack: SealedPack) -> Result<()> {
        let length = pack.bytes.len() as u64;
        let stored = match pack.kind {
            PackKind::Data => &self.stored_data,
            PackKind::Meta => &self.stored_meta,
        };
        stored.fetch_add(length, Ordering::Relaxed);
        if !self.options.dry_run {
            match self.store.backend().put_new(&ObjectName::Pack(pack.kind, pack.id), pack.bytes.clone())? {
                Put::Created | Put::Exists(_) => {}
                Put::Unknown => return Err(lost_answer("a pack")),
            }
            self.put_parity(pack.id, &pack.bytes)?;
        }
        // A backend that keeps the bytes keeps the buffer.
        if let Ok(buffer) = pack.bytes.try_into_mut() {
            self.buffers.give(buffer.into());
        }
        if self.options.dry_run {
            return Ok(());
        }
        lock(&self.written).push(pack.id);
        let row = pack_row(pack.kind, pack.id, length, &pack.footer);
        let full = {
            let mut rows = lock(&self.rows);
            rows.push((row, pack.footer));
            let chunks: usize = rows.iter().map(|(_, footer)| footer.chunks.len()).sum();
            (chunks >= INDEX_OBJECT_CHUNKS).then(|| std::mem::take(&mut *rows))
        };
        full.map_or(Ok(()), |rows| self.write_index(rows))
    }

    /// After its pack and before the index that speaks of it: whoever finds a pack by the index finds its parity.
    fn put_parity(&self, pack: PackId, bytes: &[u8]) -> Result<()> {
        let shards = parity::shard_count(bytes.len() as u64, self.options.parity_percent);
        if shards == 0 {
            return Ok(());
        }
        let parity = parity::encode(pack, bytes, shards);
        match self.store.backend().put_new(&ObjectName::Parity(pack, shards), parity.into())? {
            Put::Created | Put::Exists(_) => Ok(()),
            Put::Unknown => Err(lost_answer("a parity object")),
        }
    }

    /// Makes durable what this session will speak of though another wrote it, its parity too. A writer who died between the
    /// two left a pack without: then it is read, and if it is what its name says, given what it lacks.
    fn adopt(&self, row: &PackRow) -> Result<()> {
        let backend = self.store.backend();
        let name = ObjectName::Pack(row.kind, row.id);
        // It was listed, but its writer may have died before its name was durable (invariant 2).
        backend.make_durable(&name)?;
        let shards = parity::shard_count(row.length.into(), self.options.parity_percent);
        let parity = ObjectName::Parity(row.id, shards);
        if shards == 0 {
            return Ok(());
        }
        if backend::is_there(backend.as_ref(), &parity)? {
            return Ok(backend.make_durable(&parity)?);
        }
        match backend.get(&name, Span::All) {
            Ok(bytes) if seal::has_name(&bytes, &row.id.0) => self.put_parity(row.id, &bytes),
            // Damaged, or gone since it was listed: there is none to be made, and a check says so.
            _ => Ok(()),
        }
    }

    /// Writes an index object for packs that are durable.
    fn write_index(&self, rows: Vec<(PackRow, Footer)>) -> Result<()> {
        if rows.is_empty() || self.options.dry_run {
            return Ok(());
        }
        let blocks = index_blocks(rows.iter().map(|(row, footer)| (*row, frames_of(footer))));
        let (id, bytes) = seal::seal_index(self.store.keys(), self.session, self.next_object(), &blocks)?;
        match self.store.backend().put_new(&ObjectName::Index(id), bytes)? {
            Put::Created | Put::Exists(_) => Ok(()),
            Put::Unknown => Err(lost_answer("an index object")),
        }
    }

    fn next_object(&self) -> u64 {
        self.objects.fetch_add(1, Ordering::Relaxed)
    }

    /// The first failure of any thread, if there was one.
    pub fn check(&self) -> Result<()> {
        self.failure.check()
    }

    /// Whether a thread failed.
    pub fn has_failed(&self) -> bool {
        self.failure.is_set()
    }

    /// Bytes of packs so far.
    pub fn stored(&self) -> Stored {
        Stored {
            data_bytes: self.stored_data.load(Ordering::Relaxed),
            meta_bytes: self.stored_meta.load(Ordering::Relaxed),
        }
    }

    /// When all threads have ended: every pack is durable, now the index is made so. Packs that a crashed run left
    /// behind without one are indexed too, since this tree may use them.
    pub fn finish(&self, root: Root, view: &Index) -> Result<DurableTree> {
        self.finish_index(view)?;
        Ok(DurableTree { root })
    }

    /// The same without a tree: packs that moved chunks.
    pub fn finish_index(&self, view: &Index) -> Result<()> {
        self.failure.check()?;
        let mut rows = std::mem::take(&mut *lock(&self.rows));
        // What is condemned is about to go: this tree does not use it.
        let unindexed = || view.report().unindexed.iter().filter(|(row, _)| !view.is_condemned(&row.id));
        if !self.options.dry_run {
            for (row, _) in unindexed() {
                self.adopt(row)?;
            }
        }
        rows.extend(unindexed().cloned());
        self.write_index(rows)
    }

    /// The packs that were written.
    pub fn written(&self) -> Vec<PackId> {
        lock(&self.written).clone()
    }
}

/// One thread that seals: its own open data pack, so that no lock is held while it compresses.
struct SealWorker<'w, 's> {
    sealing: &'w Sealing<'s>,
    codec: FrameCodec,
    data: Option<OpenPack>,
    uploads: &'w Sender<SealedPack>,
}

impl SealWorker<'_, '_> {
    fn seal(&mut self, job: &FrameJob) -> Result<()> {
        let raw = &job.frame.raw;
        let mut rest = raw.as_slice();
        let mut parts = Vec::with_capacity(job.frame.chunks.len());
        for (id, kind, length) in &job.frame.chunks {
            let (bytes, behind) = rest.split_at(*length as usize);
            parts.push(Part { id: *id, kind: *kind, bytes });
            rest = behind;
        }
        let sealing = self.sealing;
        match job.kind {
            PackKind::Data => {
                self.codec.store_raw(sealing.options.level == 0);
                let packed = job.packed.as_ref().map(|(codec, bytes)| (*codec, bytes.as_slice()));
                let full = sealing.push(&mut self.data, PackKind::Data, &mut self.codec, &parts, raw, packed)?;
                full.map_or(Ok(()), |pack| self.close(pack))
            }
            PackKind::Meta => {
                self.codec.store_raw(false);
                let packed = job.packed.as_ref().map(|(codec, bytes)| (*codec, bytes.as_slice()));
                let full =
                    sealing.push(&mut lock(&sealing.meta), PackKind::Meta, &mut self.codec, &parts, raw, packed)?;
                full.map_or(Ok(()), |pack| self.close(pack))
            }
        }
    }

    fn close_all(&mut self) -> Result<()> {
        if let Some(pack) = self.data.take() {
            self.close(pack)?;
        }
        let meta = lock(&self.sealing.meta).take();
        meta.map_or(Ok(()), |pack| self.close(pack))
    }

    fn close(&self, pack: OpenPack) -> Result<()> {
        // The receiver lives as long as any sealing thread; it only ends early together with the process.
        self.uploads.send(pack.builder.finish()?).map_err(|_| Error::Bug("the uploading thread ended early".into()))
    }
}

impl Sealing<'_> {
    /// Adds a frame to the pack that is open at `open`, and takes the pack out when it is full.
    fn push(
        &self,
        open: &mut Option<OpenPack>,
        kind: PackKind,
        codec: &mut FrameCodec,
        parts: &[Part<'_>],
        raw: &[u8],
        packed: Option<(Codec, &[u8])>,
    ) -> Result<Option<OpenPack>> {
        if open.is_none() {
            *open = Some(self.open_pack(kind)?);
        }
        let Some(pack) = open.as_mut() else { return Ok(None) };
        let (keys, verify) = (self.store.keys(), self.options.verify);
        match packed {
            Some(packed) => pack.builder.push_packed(keys, codec, parts, raw, packed, verify)?,
            None => pack.builder.push_frame(keys, codec, parts, raw, verify)?,
        };
        // Frames of a few bytes each fill the table before they fill the pack.
        let is_full = pack.builder.length() >= pack.close_at || !pack.builder.has_room_for(FRAME_CHUNKS_MAX);
        Ok(if is_full { open.take() } else { None })
    }

    fn open_pack(&self, kind: PackKind) -> Result<OpenPack> {
        let target = match kind {
            PackKind::Data => self.options.pack_data_bytes,
            PackKind::Meta => self.options.pack_meta_bytes,
        };
        // Uniform in [0.75, 1.25] of the target.
        let draw = usize::from(u16::from_le_bytes(crypto::random()?));
        let close_at = target / 4 * 3 + ((target / 2) >> 16) * draw;
        let buffer = self.buffers.take();
        let builder = PackBuilder::new(self.store.keys(), kind, self.session, self.next_object(), buffer)?;
        Ok(OpenPack { builder, close_at })
    }
}

/// Which frame a chunk goes to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lane {
    Compressible = 0,
    Incompressible = 1,
    Meta = 2,
}

/// Takes chunks in order, drops those that are stored, gathers the rest. Used by one thread.
pub struct Writer<'scope, 's> {
    sealing: &'scope Sealing<'s>,
    jobs: Sender<FrameJob>,
    open: [Frame; 3],
    new: NewChunks,
    calls: u32,
}

impl fmt::Debug for Writer<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writer({})", self.sealing.session)
    }
}

impl Writer<'_, '_> {
    /// Takes a chunk; `true` if it was new. `owner` is who may see its frame's neighbours.
    pub fn put(
        &mut self,
        kind: ChunkKind,
        id: ChunkId,
        bytes: &[u8],
        incompressible: bool,
        owner: u64,
        view: &Index,
    ) -> Result<bool> {
        if view.contains(kind, &id) || !self.new.insert(id) {
            return Ok(false);
        }
        if self.sealing.has_failed() {
            self.sealing.check()?;
        }
        let lane = match kind {
            ChunkKind::Data if incompressible => Lane::Incompressible,
            ChunkKind::Data => Lane::Compressible,
            _ => Lane::Meta,
        };
        let target = self.sealing.options.frame_target_bytes;
        let target = if lane == Lane::Meta { target.min(META_FRAME_BYTES) } else { target };
        let frame = &self.open[lane as usize];
        let other_owner =
            self.sealing.options.isolate_owners && frame.owner != owner && matches!(kind, ChunkKind::Data);
        // A chunk that would make the frame much larger than its target begins the next one.
        let too_large = frame.raw.len() + bytes.len() > target + target / 4;
        if !frame.chunks.is_empty() && (other_owner || too_large) {
            self.close(lane)?;
        }
        let frame = &mut self.open[lane as usize];
        if frame.chunks.is_empty() {
            frame.raw = self.sealing.frames.take();
        }
        frame.owner = owner;
        frame.raw.extend_from_slice(bytes);
        frame.chunks.push((id, kind, bytes.len() as u32));
        let is_full = frame.raw.len() >= target || frame.chunks.len() >= FRAME_CHUNKS_MAX;
        if is_full { self.close(lane).map(|()| true) } else { Ok(true) }
    }

    /// Says that this run lives, now and then: called often, also while nothing new is found.
    pub fn keep_alive(&mut self) {
        self.calls = self.calls.wrapping_add(1);
        if self.calls.is_multiple_of(CALLS_A_LOOK) && !self.sealing.options.dry_run {
            self.sealing.signs.give(self.sealing.store.backend().as_ref(), self.sealing.store.keys());
        }
    }

    /// Sends what is open on its way, and lets the threads end.
    pub fn finish(mut self) -> Result<()> {
        for lane in [Lane::Compressible, Lane::Incompressible, Lane::Meta] {
            self.close(lane)?;
        }
        Ok(())
    }

    fn close(&mut self, lane: Lane) -> Result<()> {
        let frame = std::mem::take(&mut self.open[lane as usize]);
        let Some((_, kind, _)) = frame.chunks.first() else { return Ok(()) };
        self.send(FrameJob { kind: kind.pack_kind(), frame, packed: None })
    }

    fn send(&self, job: FrameJob) -> Result<()> {
        self.jobs.send(job).map_err(|_| Error::Bug("the sealing threads ended early".into()))
    }

    /// Takes a frame that lay in another pack, with chunks whose names the caller has proven. It stays a frame of its own:
    /// who may see whose neighbours was decided when it was made. `packed`: as it was compressed, if all of it moves.
    pub fn put_frame(
        &mut self,
        chunks: Vec<(ChunkId, ChunkKind, u32)>,
        raw: Vec<u8>,
        packed: Option<(Codec, Vec<u8>)>,
    ) -> Result<()> {
        if self.sealing.has_failed() {
            self.sealing.check()?;
        }
        let Some((_, kind, _)) = chunks.first() else { return Ok(()) };
        let kind = kind.pack_kind();
        self.send(FrameJob { kind, frame: Frame { raw, chunks, owner: 0 }, packed })
    }
}

/// The chunks of this session, which no index knows yet: 32 bytes and a table slot each.
#[derive(Default)]
struct NewChunks {
    ids: Vec<ChunkId>,
    table: HashTable<u32>,
}

impl NewChunks {
    /// `true` if it was not there. Names of different kinds never meet: they are hashes under different keys.
    fn insert(&mut self, id: ChunkId) -> bool {
        let ids = &self.ids;
        if self.table.find(hash(&id), |position| ids[*position as usize] == id).is_some() {
            return false;
        }
        let position = self.ids.len() as u32;
        self.ids.push(id);
        let ids = &self.ids;
        self.table.insert_unique(hash(&id), position, |other| hash(&ids[*other as usize]));
        true
    }
}

/// What may be there and may not counts as not there; a second run finds it if it is.
pub(super) fn lost_answer(what: &str) -> Error {
    Error::Usage(format!("the store lost its answer to {what}; run the command again"))
}

/// A frame of a pack with its chunks, as it stands in the index.
#[derive(Debug, Clone, Copy)]
pub(super) struct FrameRows<'f> {
    pub ordinal: u32,
    pub record: FrameRecord,
    pub chunks: &'f [ChunkRecord],
}

/// All frames of a pack's table.
pub(super) fn frames_of(footer: &Footer) -> impl Iterator<Item = FrameRows<'_>> {
    footer.frames.iter().enumerate().map(|(ordinal, record)| FrameRows {
        ordinal: ordinal as u32,
        record: *record,
        chunks: footer.chunks_of(ordinal),
    })
}

/// The rows of these packs, in blocks that stand alone.
pub(super) fn index_blocks<'f, F: Iterator<Item = FrameRows<'f>>>(
    packs: impl Iterator<Item = (PackRow, F)>,
) -> Vec<IndexBlock> {
    let mut blocks = Vec::new();
    let mut block = IndexBlock::default();
    for (pack, frames) in packs {
        let mut pack_number = None;
        for FrameRows { ordinal, record, chunks } in frames {
            // With one more pack, this frame and its chunks: a block over its limit could not be sealed.
            let length =
                IndexBlock::length(block.packs.len() + 1, block.frames.len() + 1, block.chunks.len() + chunks.len());
            let is_full = block.chunks.len() + chunks.len() > BLOCK_CHUNKS || length > INDEX_BLOCK_BYTES_MAX;
            if is_full && !block.frames.is_empty() {
                blocks.push(sorted(std::mem::take(&mut block)));
                pack_number = None;
            }
            let number = *pack_number.get_or_insert_with(|| {
                block.packs.push(pack);
                (block.packs.len() - 1) as u16
            });
            let frame = block.frames.len() as u16;
            block.frames.push(FrameRow {
                pack: number,
                ordinal,
                offset: record.offset,
                stored_length: record.stored_length,
                raw_length: record.raw_length,
                codec: record.codec,
            });
            block.chunks.extend(chunks.iter().map(|chunk| ChunkRow {
                id: chunk.id,
                frame,
                offset: chunk.offset,
                length: chunk.length,
                kind: chunk.kind,
            }));
        }
    }
    if !block.packs.is_empty() {
        blocks.push(sorted(block));
    }
    blocks
}

fn sorted(mut block: IndexBlock) -> IndexBlock {
    block.chunks.sort_unstable_by_key(|row| row.id);
    block
}
