//! What `prune` prints: restic's table for people, its summary for scripts.

use repo_core::{PruneOptions, PruneReport, Writer};
use serde::Serialize;

use crate::context::Context;
use crate::exit::Outcome;
use crate::names;
use crate::numbers;
use crate::owner;
use crate::time;

/// Each place of a chunk counts; restic calls them blobs.
#[derive(Serialize)]
struct Blobs {
    used: u64,
    duplicate: u64,
    unused: u64,
    total: u64,
    repack: u64,
    repack_remove: u64,
    remove: u64,
    remove_total: u64,
    remaining: u64,
}

#[derive(Serialize)]
struct Bytes {
    used: u64,
    unused: u64,
    total: u64,
    repack: u64,
    repack_remove: u64,
    remove: u64,
    remove_total: u64,
    remaining: u64,
    remaining_unused: u64,
}

#[derive(Serialize)]
struct PackFiles {
    used: u64,
    unused: u64,
    partly_used: u64,
    total: u64,
    keep: u64,
    repack: u64,
    remove: u64,
    remove_total: u64,
}

#[derive(Serialize)]
struct Summary {
    message_type: &'static str,
    dry_run: bool,
    blobs: Blobs,
    bytes: Bytes,
    packfiles: PackFiles,
    deleted_packs: u64,
    freed_bytes: u64,
    written_bytes: u64,
    retained_packs: u64,
    expired_snapshots: Vec<String>,
    held_snapshots: u64,
    held_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    held_until: Option<String>,
    waiting_for: Vec<WriterShape>,
    fenced: Vec<WriterShape>,
    continued: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    rekey: Option<Rekey>,
    lost_chunks: u64,
    no_room_to_move: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    weak_store: Option<Weak>,
    problems: Vec<String>,
}

/// What a prune of a weak repository rests on.
#[derive(Serialize)]
struct Weak {
    fence_idle_seconds: u64,
    sign_valid_seconds: u64,
    assumes: Vec<String>,
}

/// What was sealed under keys from before a rotation, and what of it stays so.
#[derive(Serialize)]
struct Rekey {
    packs: u64,
    bytes: u64,
    packs_left: u64,
    bytes_left: u64,
    snapshots_left: u64,
}

#[derive(Serialize)]
struct WriterShape {
    session: String,
    host: String,
    process: u32,
    started: String,
}

impl From<&PruneReport> for Blobs {
    fn from(report: &PruneReport) -> Self {
        let repack_remove = report.repack_places.saturating_sub(report.repack_used_places);
        let remove_total = report.unused_packs_places + repack_remove;
        Self {
            used: report.used_places,
            duplicate: report.duplicate_places,
            unused: report.places.saturating_sub(report.used_places + report.duplicate_places),
            total: report.places,
            repack: report.repack_places,
            repack_remove,
            remove: report.unused_packs_places,
            remove_total,
            remaining: report.places.saturating_sub(remove_total),
        }
    }
}

impl From<&PruneReport> for Bytes {
    fn from(report: &PruneReport) -> Self {
        let repack_remove = report.repack_bytes.saturating_sub(report.repack_live_bytes);
        let remove_total = report.unused_packs_bytes + repack_remove;
        Self {
            used: report.used_bytes,
            unused: report.packs_bytes.saturating_sub(report.used_bytes),
            total: report.packs_bytes,
            repack: report.repack_bytes,
            repack_remove,
            remove: report.unused_packs_bytes,
            remove_total,
            remaining: report.packs_bytes.saturating_sub(remove_total),
            remaining_unused: report.remaining_unused_bytes,
        }
    }
}

impl From<&PruneReport> for PackFiles {
    fn from(report: &PruneReport) -> Self {
        let remove_total = report.unused_packs + report.repack_packs;
        Self {
            used: report.used_packs,
            unused: report.unused_packs,
            partly_used: report.packs.saturating_sub(report.used_packs + report.unused_packs),
            total: report.packs,
            keep: report.packs.saturating_sub(remove_total),
            repack: report.repack_packs,
            remove: report.unused_packs,
            remove_total,
        }
    }
}

impl From<&Writer> for WriterShape {
    fn from(writer: &Writer) -> Self {
        let started_ns = nanoseconds(writer.started_ms);
        Self {
            session: writer.session.short(),
            host: writer.host.clone(),
            process: writer.process,
            started: time::rfc3339_ns(started_ns, time::zone_minutes(Some(started_ns))),
        }
    }
}

/// What was done, or would be.
pub fn report(context: &Context, options: &PruneOptions, report: &PruneReport) -> Outcome {
    let output = &context.output;
    if output.is_json() {
        return output.json(&summary(options, report));
    }
    for problem in &report.problems {
        output.error_line(&format!("error: {}", names::words(problem)));
    }
    if report.lost_chunks > 0 {
        let lost = numbers::count(report.lost_chunks, "chunk");
        output.error_line(&format!("error: {lost} that snapshots need are stored nowhere"));
    }
    if options.dry_run && report.continued {
        output.say(1, "an earlier prune is not finished; a run would finish it first")?;
    }
    if let Some(rules) = &report.weak_store {
        output.say(1, "this is a weak repository, so that nothing needed was deleted rests on")?;
        owner::assumptions(rules).iter().try_for_each(|line| output.say(1, &format!("  {line}")))?;
    }
    // What somebody else had begun was continued and is not over: nothing was looked at.
    if report.packs > 0 {
        table(context, report)?;
    }
    held(context, report)?;
    if options.rekey {
        rekeyed(context, options, report)?;
    }
    if options.dry_run {
        if !report.expired_snapshots.is_empty() {
            let count = numbers::count(report.expired_snapshots.len() as u64, "forgotten snapshot");
            output.say(1, &format!("would remove {count} for good"))?;
        }
        return output.say(1, "nothing was changed");
    }
    for writer in &report.fenced {
        output.say(1, &format!("not waited for, as it is dead or silent: {}", described(writer)))?;
    }
    outcome(context, report)
}

fn table(context: &Context, report: &PruneReport) -> Outcome {
    let output = &context.output;
    let (blobs, bytes, packs) = (Blobs::from(report), Bytes::from(report), PackFiles::from(report));
    let row = |name: &str, count: u64, size: u64| format!("{name:<14}{count:>10} chunks / {}", numbers::size(size));
    output.say(2, &row("used:", blobs.used, bytes.used))?;
    output.say(2, &row("unused:", blobs.unused + blobs.duplicate, bytes.unused))?;
    output.say(2, &row("total:", blobs.total, bytes.total))?;
    output.say(1, "")?;
    output.say(1, &row("to repack:", blobs.repack, bytes.repack))?;
    output.say(1, &row("this removes:", blobs.repack_remove, bytes.repack_remove))?;
    output.say(1, &row("to delete:", blobs.remove, bytes.remove))?;
    output.say(1, &row("total prune:", blobs.remove_total, bytes.remove_total))?;
    output.say(1, &row("remaining:", blobs.remaining, bytes.remaining))?;
    let share = numbers::share(bytes.remaining_unused, bytes.remaining) * 100.0;
    let unused = numbers::size(bytes.remaining_unused);
    output.say(1, &format!("unused size after prune: {unused} ({share:.2}% of remaining size)"))?;
    output.say(1, "")?;
    for (name, count) in [
        ("totally used packs:", packs.used),
        ("partly used packs:", packs.partly_used),
        ("unused packs:", packs.unused),
        ("to keep:", packs.keep),
        ("to repack:", packs.repack),
        ("to delete:", packs.remove),
    ] {
        output.say(2, &format!("{name:<20}{count:>8}"))?;
    }
    Ok(())
}

/// What stays because it can still be brought back.
fn held(context: &Context, report: &PruneReport) -> Outcome {
    if report.held_snapshots == 0 {
        return Ok(());
    }
    let forgotten = numbers::count(report.held_snapshots, "forgotten snapshot");
    let keeps = if report.held_snapshots == 1 { "keeps" } else { "keep" };
    context.output.say(
        1,
        &format!(
            "{forgotten} {keeps} {} until {}, since `icecore undelete` can bring them back; what is forgotten with \
             --undelete-within 0 goes with the next prune",
            numbers::size(report.held_bytes),
            time::shown(nanoseconds(report.held_until_ms))
        ),
    )
}

/// How far the sealing anew came.
fn rekeyed(context: &Context, options: &PruneOptions, report: &PruneReport) -> Outcome {
    let output = &context.output;
    if !report.waiting_for.is_empty() && report.packs == 0 {
        return Ok(());
    }
    let packs = numbers::count(report.old_packs - report.old_packs_left, "pack");
    let of = numbers::size(report.old_packs_bytes - report.old_packs_left_bytes);
    match (report.old_packs, report.old_packs_left) {
        (0, _) => output.say(1, "no pack is sealed under keys from before a rotation")?,
        (_, left) => {
            let verb = if options.dry_run { "would seal" } else { "sealed" };
            output.say(1, &format!("{verb} {packs} anew under the newest keys, {of}"))?;
            if left > 0 {
                let left = numbers::count(left, "pack");
                let bytes = numbers::size(report.old_packs_left_bytes);
                output.say(1, &format!("{left} under old keys stay for the next `prune --rekey`, {bytes}"))?;
            }
        }
    }
    if report.old_snapshots == 0 {
        return Ok(());
    }
    let snapshots = numbers::count(report.old_snapshots, "snapshot");
    output
        .say(1, &format!("{snapshots} from before: host, paths and tags stay under old keys as long as they are kept"))
}

fn outcome(context: &Context, report: &PruneReport) -> Outcome {
    let output = &context.output;
    for writer in &report.waiting_for {
        output.line(&format!("at work: {}", described(writer)))?;
    }
    if report.continued {
        output.say(1, "went on with what an earlier prune had begun")?;
    }
    if report.written_bytes > 0 {
        output.say(1, &format!("moved {} into new packs", numbers::size(report.written_bytes)))?;
    }
    if !report.expired_snapshots.is_empty() {
        let count = numbers::count(report.expired_snapshots.len() as u64, "forgotten snapshot");
        output.say(1, &format!("removed {count} for good"))?;
    }
    if report.no_room_to_move {
        output.say(1, "the storage is too full to move anything; only what needed no moving was deleted")?;
    }
    if report.retained_packs > 0 {
        let packs = numbers::count(report.retained_packs, "pack");
        output.say(1, &format!("the storage does not let go of {packs} yet; later runs ask again"))?;
    }
    match (report.deleted_packs, report.waiting_for.is_empty()) {
        (0, true) => output.say(1, "nothing was deleted"),
        (0, false) => Ok(()),
        (packs, _) => {
            let freed = numbers::size(report.freed_bytes);
            output.say(1, &format!("deleted {}, {freed}", numbers::count(packs, "pack")))
        }
    }
}

/// Who it is, for somebody who wants to look for it.
fn described(writer: &Writer) -> String {
    let since = time::shown(nanoseconds(writer.started_ms));
    match writer.host.as_str() {
        "" => format!("a writer whose session cannot be read, since {since}"),
        host => format!("process {} on {}, since {since}", writer.process, names::words(host)),
    }
}

fn summary(options: &PruneOptions, report: &PruneReport) -> Summary {
    let held_until_ns = nanoseconds(report.held_until_ms);
    Summary {
        message_type: "summary",
        dry_run: options.dry_run,
        blobs: Blobs::from(report),
        bytes: Bytes::from(report),
        packfiles: PackFiles::from(report),
        deleted_packs: report.deleted_packs,
        freed_bytes: report.freed_bytes,
        written_bytes: report.written_bytes,
        retained_packs: report.retained_packs,
        expired_snapshots: report.expired_snapshots.iter().map(|id| id.short()).collect(),
        held_snapshots: report.held_snapshots,
        held_bytes: report.held_bytes,
        held_until: (report.held_snapshots > 0)
            .then(|| time::rfc3339_ns(held_until_ns, time::zone_minutes(Some(held_until_ns)))),
        waiting_for: report.waiting_for.iter().map(WriterShape::from).collect(),
        fenced: report.fenced.iter().map(WriterShape::from).collect(),
        continued: report.continued,
        rekey: options.rekey.then_some(Rekey {
            packs: report.old_packs,
            bytes: report.old_packs_bytes,
            packs_left: report.old_packs_left,
            bytes_left: report.old_packs_left_bytes,
            snapshots_left: report.old_snapshots,
        }),
        lost_chunks: report.lost_chunks,
        no_room_to_move: report.no_room_to_move,
        weak_store: report.weak_store.as_ref().map(|rules| Weak {
            fence_idle_seconds: rules.fence_idle.as_secs(),
            sign_valid_seconds: rules.sign_valid.as_secs(),
            assumes: owner::assumptions(rules),
        }),
        problems: report.problems.clone(),
    }
}

/// Since 1970; what is beyond the calendar is its end.
fn nanoseconds(milliseconds: u64) -> i64 {
    i64::try_from(milliseconds).ok().and_then(|ms| ms.checked_mul(1_000_000)).unwrap_or(i64::MAX)
}
