//! How large should chunks and frames be, and how hard should zstd try?
//!
//! Reads two versions of a tree or of a file as a first and a second backup would, once for
//! every combination of parameters, and prints what would be stored. Nothing is written and
//! nothing is encrypted; the steps that decide the size are the real ones:
//!
//! * FastCDC v2020 with a gear table of our own; min = average / 4, max = average * 4,
//!   starting anew in every file and after every hole;
//! * chunks are told apart by keyed BLAKE3;
//! * unique chunks are gathered in path order into frames of compressible and of
//!   incompressible ones, and each frame is compressed as a whole, or kept raw if zstd saves
//!   less than 3 %;
//! * files of at most 512 bytes would be inlined in the tree, chunks of zeros and holes
//!   need no chunk: none of them is counted as stored.

use std::collections::HashSet;
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fastcdc::v2020::{Normalization, cut_gear, select_masks};
use rayon::prelude::*;
use rustix::fs as sys;
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use zstd::bulk::Compressor;

const USAGE: &str = "\
Usage: chunking [options] A B

A and B are two versions of a directory or of a file. For each combination of parameters
the table shows what a backup of A stores and what a backup of B then adds.

  --grid chunk|frame|both  vary chunk size and normalisation at frame 1 MiB, level 3;
                           or frame target and level at the chosen chunk  (default: both)
  --chunk KIB              the chosen average chunk size                   (default: 128)
  --norm N                 the chosen normalisation, 0 to 2                (default: 2)
  --levels N,...           zstd levels beside the frame targets            (default: 1,3)
  --seed N                 another gear table                              (default: 0)
  --threads N              combinations measured at once                   (default: 2)
  --json                   one JSON object a combination instead of the table
  -h, --help               this text
";

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Files up to this size live in the tree record.
const INLINE_MAX: u64 = 512;
/// Bytes a chunk takes in the pack's table: id, place and length.
const TABLE_PER_CHUNK: u64 = 44;
/// Bytes a frame takes in the pack's table.
const TABLE_PER_FRAME: u64 = 20;
/// Chunks smaller than this are taken for compressible without a probe.
const PROBE_MIN: usize = 64 * KIB;
const PROBE_LEN: usize = 4 * KIB;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Clone, Copy)]
struct Params {
    avg: usize,
    norm: u8,
    frame: usize,
    level: i32,
}

impl Params {
    fn min(&self) -> usize {
        self.avg / 4
    }

    fn max(&self) -> usize {
        self.avg * 4
    }

    fn normalization(&self) -> Normalization {
        match self.norm {
            0 => Normalization::Level0,
            1 => Normalization::Level1,
            _ => Normalization::Level2,
        }
    }
}

/// What one backup found and stored.
#[derive(Clone, Copy, Default)]
struct Totals {
    files: u64,
    bytes: u64,
    holes: u64,
    zeros: u64,
    inlined: u64,
    inlined_bytes: u64,
    chunks: u64,
    unique: u64,
    unique_bytes: u64,
    frames: u64,
    stored: u64,
}

impl Totals {
    fn table(&self) -> u64 {
        TABLE_PER_CHUNK * self.unique + TABLE_PER_FRAME * self.frames
    }

    fn json(&self) -> Value {
        json!({
            "files": self.files, "bytes": self.bytes, "hole_bytes": self.holes,
            "zero_bytes": self.zeros, "inlined_files": self.inlined,
            "inlined_bytes": self.inlined_bytes, "chunks": self.chunks,
            "unique_chunks": self.unique, "unique_bytes": self.unique_bytes,
            "frames": self.frames, "stored_bytes": self.stored, "table_bytes": self.table(),
        })
    }
}

struct Row {
    params: Params,
    a: Totals,
    b: Totals,
    compressed: u64,
    compress_time: Duration,
}

impl Row {
    fn total(&self) -> u64 {
        self.a.stored + self.b.stored + self.a.table() + self.b.table()
    }

    /// Raw bytes a second of one thread's processor time.
    fn throughput(&self) -> f64 {
        self.compressed as f64 / self.compress_time.as_secs_f64().max(1e-9)
    }

    fn json(&self) -> Value {
        json!({
            "average": self.params.avg, "normalisation": self.params.norm,
            "frame": self.params.frame, "level": self.params.level,
            "a": self.a.json(), "b": self.b.json(), "total_bytes": self.total(),
            "compress_bytes_per_cpu_second": self.throughput().round(),
        })
    }
}

struct Chunker {
    params: Params,
    masks: (u64, u64),
    gear: Vec<u64>,
    gear_ls: Vec<u64>,
}

impl Chunker {
    fn new(params: Params, seed: u64) -> Self {
        let mut xof = blake3::Hasher::new_derive_key("icecore benches 2026 chunker gear")
            .update(&seed.to_le_bytes())
            .finalize_xof();
        let gear: Vec<u64> = (0..256)
            .map(|_| {
                let mut word = [0; 8];
                xof.fill(&mut word);
                u64::from_le_bytes(word)
            })
            .collect();
        Self {
            params,
            masks: select_masks(params.avg, params.normalization()),
            gear_ls: gear.iter().map(|word| word << 1).collect(),
            gear,
        }
    }

    /// Length of the first chunk. `data` holds at least the maximum, or all that is left.
    fn cut(&self, data: &[u8]) -> usize {
        let (strict, loose) = self.masks;
        let (_, len) = cut_gear(
            data,
            self.params.min(),
            self.params.avg,
            self.params.max(),
            strict,
            loose,
            strict << 1,
            loose << 1,
            &self.gear,
            &self.gear_ls,
        );
        len
    }
}

/// One run with one set of parameters: the chunks seen so far and the two open frames.
struct Run {
    chunker: Chunker,
    seen: HashSet<[u8; 16]>,
    input: Vec<u8>,
    compressible: Vec<u8>,
    incompressible: Vec<u8>,
    out: Vec<u8>,
    compressor: Compressor<'static>,
    probe: Compressor<'static>,
    totals: Totals,
    compressed: u64,
    compress_time: Duration,
}

impl Run {
    fn new(params: Params, seed: u64) -> Outcome<Self> {
        Ok(Self {
            chunker: Chunker::new(params, seed),
            seen: HashSet::new(),
            input: Vec::with_capacity(params.max().max(MIB) * 2),
            compressible: Vec::new(),
            incompressible: Vec::new(),
            out: Vec::new(),
            compressor: Compressor::new(params.level)?,
            probe: Compressor::new(1)?,
            totals: Totals::default(),
            compressed: 0,
            compress_time: Duration::ZERO,
        })
    }

    /// Backs up one version and hands out its totals.
    fn backup(&mut self, root: &Path) -> Outcome<Totals> {
        self.visit(root).map_err(|error| format!("{}: {error}", root.display()))?;
        for incompressible in [false, true] {
            self.close_frame(incompressible)?;
        }
        Ok(std::mem::take(&mut self.totals))
    }

    fn visit(&mut self, path: &Path) -> Outcome<()> {
        let kind = fs::symlink_metadata(path)?.file_type();
        if kind.is_file() {
            return self.file(path);
        }
        if kind.is_dir() {
            let mut names = fs::read_dir(path)?
                .map(|entry| entry.map(|entry| entry.file_name()))
                .collect::<io::Result<Vec<_>>>()?;
            names.sort_unstable();
            for name in names {
                self.visit(&path.join(name))?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> Outcome<()> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        self.totals.files += 1;
        self.totals.bytes += size;
        if size <= INLINE_MAX {
            self.totals.inlined += 1;
            self.totals.inlined_bytes += size;
            return Ok(());
        }
        let mut at = 0;
        while let Some((start, end)) = next_extent(&file, at, size)? {
            self.totals.holes += start - at;
            file.seek(SeekFrom::Start(start))?;
            self.extent((&file).take(end - start))?;
            at = end;
        }
        self.totals.holes += size - at;
        Ok(())
    }

    fn extent(&mut self, mut source: impl Read) -> Outcome<()> {
        let mut input = std::mem::take(&mut self.input);
        let max = self.chunker.params.max();
        let refill = input.capacity();
        input.clear();
        let mut start = 0;
        let mut ended = false;
        loop {
            if !ended && input.len() - start < max {
                input.drain(..start);
                start = 0;
                let wanted = refill - input.len();
                ended = source.by_ref().take(wanted as u64).read_to_end(&mut input)? < wanted;
            }
            if start == input.len() {
                break;
            }
            let len = self.chunker.cut(&input[start..]);
            self.chunk(&input[start..start + len])?;
            start += len;
        }
        self.input = input;
        Ok(())
    }

    fn chunk(&mut self, chunk: &[u8]) -> Outcome<()> {
        self.totals.chunks += 1;
        if chunk.iter().all(|&byte| byte == 0) {
            self.totals.zeros += chunk.len() as u64;
            return Ok(());
        }
        let id = blake3::keyed_hash(&[7; 32], chunk);
        let mut short = [0; 16];
        short.copy_from_slice(&id.as_bytes()[..16]);
        if !self.seen.insert(short) {
            return Ok(());
        }
        self.totals.unique += 1;
        self.totals.unique_bytes += chunk.len() as u64;
        let incompressible = self.looks_incompressible(chunk)?;
        let limit = (2 * self.chunker.params.frame).max(self.chunker.params.max());
        if self.frame(incompressible).len() + chunk.len() > limit {
            self.close_frame(incompressible)?;
        }
        self.frame(incompressible).extend_from_slice(chunk);
        if self.frame(incompressible).len() >= self.chunker.params.frame {
            self.close_frame(incompressible)?;
        }
        Ok(())
    }

    /// Start, middle and end at level 1: are less than 3 % to be gained?
    fn looks_incompressible(&mut self, chunk: &[u8]) -> Outcome<bool> {
        if chunk.len() < PROBE_MIN {
            return Ok(false);
        }
        let middle = (chunk.len() - PROBE_LEN) / 2;
        let mut size = 0;
        for at in [0, middle, chunk.len() - PROBE_LEN] {
            size += self.probe.compress(&chunk[at..at + PROBE_LEN])?.len();
        }
        Ok(saves_too_little(3 * PROBE_LEN, size))
    }

    fn frame(&mut self, incompressible: bool) -> &mut Vec<u8> {
        match incompressible {
            true => &mut self.incompressible,
            false => &mut self.compressible,
        }
    }

    fn close_frame(&mut self, incompressible: bool) -> Outcome<()> {
        let raw = std::mem::take(self.frame(incompressible));
        if raw.is_empty() {
            return Ok(());
        }
        let mut stored = raw.len();
        if !incompressible {
            self.out.clear();
            self.out.reserve(zstd::zstd_safe::compress_bound(raw.len()));
            let before = thread_time();
            let size = self.compressor.compress_to_buffer(&raw, &mut self.out)?;
            self.compress_time += thread_time() - before;
            self.compressed += raw.len() as u64;
            if !saves_too_little(raw.len(), size) {
                stored = size;
            }
        }
        self.totals.frames += 1;
        self.totals.stored += stored as u64;
        *self.frame(incompressible) = raw;
        self.frame(incompressible).clear();
        Ok(())
    }
}

fn saves_too_little(raw: usize, compressed: usize) -> bool {
    compressed * 100 > raw * 97
}

/// The next stretch of data at or after `at`; `None` if only a hole or nothing is left.
fn next_extent(file: &File, at: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
    if at >= size {
        return Ok(None);
    }
    let start = match sys::seek(file, sys::SeekFrom::Data(at)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let end = sys::seek(file, sys::SeekFrom::Hole(start))?;
    Ok(Some((start, end.min(size))))
}

/// Processor time of this thread, which other load does not stretch as it does wall time.
fn thread_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn measure(params: Params, seed: u64, a: &Path, b: &Path) -> Outcome<Row> {
    let mut run = Run::new(params, seed)?;
    Ok(Row {
        params,
        a: run.backup(a)?,
        b: run.backup(b)?,
        compressed: run.compressed,
        compress_time: run.compress_time,
    })
}

fn print_table(title: &str, rows: &[Row]) {
    let mib = |bytes: u64| format!("{:.1}", bytes as f64 / MIB as f64);
    println!("{title}\n");
    println!(
        "| chunk KiB | norm. | frame KiB | zstd | chunks A | mean KiB | unique A | stored A \
         | table A | chunks B | unique B | stored B | table B | total | zstd MB/s |"
    );
    println!("|{}", "--:|".repeat(15));
    for row in rows {
        let Row { params, a, b, .. } = row;
        println!(
            "| {} | {} | {} | {} | {} | {:.1} | {} | {} | {} | {} | {} | {} | {} | {} | {:.0} |",
            params.avg / KIB,
            params.norm,
            params.frame / KIB,
            params.level,
            a.unique,
            a.unique_bytes as f64 / a.unique.max(1) as f64 / KIB as f64,
            mib(a.unique_bytes),
            mib(a.stored),
            mib(a.table()),
            b.unique,
            mib(b.unique_bytes),
            mib(b.stored),
            mib(b.table()),
            mib(row.total()),
            row.throughput() / 1e6,
        );
    }
    println!();
}

struct Options {
    grids: Vec<(&'static str, Vec<Params>)>,
    seed: u64,
    threads: usize,
    json: bool,
    a: PathBuf,
    b: PathBuf,
}

fn options() -> Outcome<Option<Options>> {
    let (mut grid, mut json) = ("both".to_string(), false);
    let (mut chunk, mut norm, mut seed, mut threads) = (128_usize, 2, 0, 2);
    let (mut levels, mut paths) = (vec![1, 3], Vec::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "-h" | "--help" => return Ok(None),
            "--json" => json = true,
            "--grid" => grid = value()?,
            "--chunk" => chunk = value()?.parse()?,
            "--norm" => norm = value()?.parse()?,
            "--levels" => {
                levels = value()?.split(',').map(str::parse).collect::<Result<_, _>>()?;
            }
            "--seed" => seed = value()?.parse()?,
            "--threads" => threads = value()?.parse()?,
            option if option.starts_with('-') => {
                return Err(format!("unknown option {option}").into());
            }
            path => paths.push(PathBuf::from(path)),
        }
    }
    let Ok([a, b]) = <[PathBuf; 2]>::try_from(paths) else {
        return Err("two paths are needed, see --help".into());
    };
    if !["chunk", "frame", "both"].contains(&grid.as_str()) {
        return Err(format!("unknown grid {grid}").into());
    }
    if norm > 2 || !(4..=4096).contains(&chunk) || !chunk.is_power_of_two() {
        return Err("--norm is 0 to 2, --chunk a power of two from 4 to 4096".into());
    }
    let mut chunks = Vec::new();
    for avg in [64, 128, 256, 512, 1024] {
        for norm in 0..=2 {
            chunks.push(Params { avg: avg * KIB, norm, frame: MIB, level: 3 });
        }
    }
    let mut frames = Vec::new();
    for frame in [128, 512, 1024, 2048] {
        for &level in &levels {
            frames.push(Params { avg: chunk * KIB, norm, frame: frame * KIB, level });
        }
    }
    let mut grids = vec![("Chunk size and normalisation (MiB)", chunks), ("Frame target and level (MiB)", frames)];
    match grid.as_str() {
        "chunk" => grids.truncate(1),
        "frame" => drop(grids.remove(0)),
        _ => {}
    }
    Ok(Some(Options { grids, seed, threads, json, a, b }))
}

fn main() -> Outcome<()> {
    let Some(options) = options()? else {
        print!("{USAGE}");
        return Ok(());
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build()?;
    for (title, grid) in options.grids {
        let rows = pool.install(|| {
            grid.into_par_iter()
                .with_max_len(1)
                .map(|params| measure(params, options.seed, &options.a, &options.b))
                .collect::<Outcome<Vec<Row>>>()
        })?;
        if options.json {
            for row in &rows {
                println!("{}", row.json());
            }
            continue;
        }
        if let Some(Row { a, b, .. }) = rows.first() {
            for (name, version) in [("A", a), ("B", b)] {
                eprintln!(
                    "{name}: {} files, {} bytes; {} of at most {INLINE_MAX} bytes ({} bytes); \
                     {} bytes of holes",
                    version.files, version.bytes, version.inlined, version.inlined_bytes, version.holes,
                );
            }
        }
        print_table(title, &rows);
    }
    Ok(())
}
