//! What `forget` prints: policies and tables for people, restic's array for scripts.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use repo_core::{ForgetGroup, ForgetPlan, ForgetReport, Freed, GroupKey, Policy, Reason, Snapshot, SnapshotId};
use serde::Serialize;

use crate::context::Context;
use crate::exit::Outcome;
use crate::json::{self, SnapshotShape};
use crate::names;
use crate::numbers;
use crate::output::Table;
use crate::time;

#[derive(Serialize)]
struct GroupShape {
    tags: Option<Vec<String>>,
    host: String,
    paths: Option<Vec<String>>,
    keep: Vec<SnapshotShape>,
    remove: Vec<SnapshotShape>,
    reasons: Vec<ReasonShape>,
}

#[derive(Serialize)]
struct ReasonShape {
    snapshot: SnapshotShape,
    matches: Vec<String>,
}

#[derive(Serialize)]
struct FreedShape {
    message_type: &'static str,
    freed_bytes: u64,
    unique: Vec<UniqueShape>,
}

#[derive(Serialize)]
struct UniqueShape {
    id: String,
    bytes: u64,
}

#[derive(Serialize)]
struct ErrorShape {
    message_type: &'static str,
    error: MessageShape,
    during: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    item: String,
}

#[derive(Serialize)]
struct MessageShape {
    message: String,
}

/// The policy, and for each group what stays and what goes.
pub fn plan(context: &Context, policy: &Policy, plan: &ForgetPlan, compact: bool) -> Outcome {
    let output = &context.output;
    if !policy.is_empty() {
        output.say(1, &format!("Applying Policy: {}", names::words(&policy.to_string())))?;
    }
    for group in &plan.groups {
        output.say(2, &format!("snapshots for ({}):", names::words(&group.key.to_string())))?;
        show_group(context, group, plan.freed.as_ref(), compact)?;
    }
    Ok(())
}

fn show_group(context: &Context, group: &ForgetGroup, freed: Option<&Freed>, compact: bool) -> Outcome {
    let output = &context.output;
    if output.verbosity() == 0 {
        return Ok(());
    }
    if !group.keep.is_empty() {
        output.line(&format!("keep {}:", numbers::count(group.keep.len() as u64, "snapshot")))?;
        let rows = group.keep.iter().map(|(snapshot, reasons)| (snapshot, words(reasons)));
        table(context, rows.collect(), "Reasons", compact)?;
    }
    let partial = group.remove.iter().filter(|snapshot| snapshot.is_partial()).count() as u64;
    if !group.remove.is_empty() {
        output.line(&format!("remove {}:", numbers::count(group.remove.len() as u64, "snapshot")))?;
        let unique: BTreeMap<_, _> = freed.iter().flat_map(|freed| freed.unique_bytes.iter().copied()).collect();
        let own = |snapshot: &Snapshot| unique.get(&snapshot.id()).map(|bytes| numbers::size(*bytes));
        let rows = group.remove.iter().map(|snapshot| (snapshot, Vec::from_iter(own(snapshot))));
        table(context, rows.collect(), if freed.is_some() { "Unique" } else { "" }, compact && freed.is_none())?;
    }
    if partial > 0 {
        let snapshots = numbers::count(partial, "partial snapshot");
        output.line(&format!("of these {snapshots}: kept only while no complete one is newer\n"))?;
    }
    Ok(())
}

/// The oldest first, as lists of snapshots are; one more column of this name, if it has one.
fn table(context: &Context, mut rows: Vec<(&Snapshot, Vec<String>)>, column: &'static str, compact: bool) -> Outcome {
    let more = !compact && !column.is_empty();
    let mut heading = vec!["ID", "Time", "Host", "Tags"];
    heading.extend(more.then_some(column));
    heading.extend((!compact).then_some("Paths"));
    heading.push("Size");
    let flexible = if compact { 3 } else { heading.len() - 2 };
    let mut table = Table::new(heading, flexible);
    rows.reverse();
    let count = rows.len();
    for (snapshot, words) in rows {
        let record = snapshot.record();
        let mut cells = vec![
            vec![short(snapshot.id())],
            vec![time::shown(record.start_ns)],
            vec![names::words(&record.host).into_owned()],
            record.tags.iter().map(|tag| names::words(tag).into_owned()).collect(),
        ];
        cells.extend(more.then_some(words));
        cells.extend((!compact).then(|| record.paths.iter().map(|path| names::shown(path).into_owned()).collect()));
        cells.push(vec![numbers::size(record.root.bytes)]);
        table.row(cells);
    }
    table.foot(numbers::count(count as u64, "snapshot"));
    table.print(&context.output)?;
    context.output.line("")
}

fn words(reasons: &[Reason]) -> Vec<String> {
    reasons.iter().map(|reason| names::words(&reason.to_string()).into_owned()).collect()
}

fn short(id: SnapshotId) -> String {
    id.short()[..8].to_owned()
}

/// What was done, or would be (`report` is `None`), and what could not be.
pub fn outcome(context: &Context, plan: &ForgetPlan, report: Option<&ForgetReport>, measured: bool) -> Outcome {
    let output = &context.output;
    complain(context, plan, report);
    if output.is_json() {
        // restic prints nothing where ids were given.
        if plan.named.is_empty() && plan.pinned.is_empty() {
            output.json(&plan.groups.iter().map(GroupShape::from).collect::<Vec<_>>())?;
        }
        return match plan.freed.as_ref().filter(|_| measured) {
            Some(freed) => output.json(&FreedShape::from(freed)),
            None => Ok(()),
        };
    }
    match report {
        None if plan.remove().next().is_none() => output.say(1, "Would have removed nothing")?,
        None => {
            let ids: Vec<_> = plan.remove().map(|snapshot| short(snapshot.id())).collect();
            output.say(1, &format!("Would have removed the following snapshots:\n{}", ids.join(" ")))?;
        }
        Some(report) if report.forgotten.is_empty() => output.say(1, "no snapshots were removed")?,
        Some(report) => output.say(1, &format!("removed {}; {}", removed(report), until(report)))?,
    }
    if let Some(freed) = &plan.freed {
        let guess = if freed.problems.is_empty() { "" } else { " at most (parts of trees could not be read)" };
        output.say(1, &format!("frees {}{guess}, once it is pruned", numbers::size(freed.bytes)))?;
    }
    Ok(())
}

fn removed(report: &ForgetReport) -> String {
    numbers::count(report.forgotten.len() as u64, "snapshot")
}

fn until(report: &ForgetReport) -> String {
    if let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH)
        && u128::from(report.purge_after_ms) <= now.as_millis()
    {
        return "`icecore undelete` brings back what is not pruned yet".to_owned();
    }
    let purge_ns = i64::try_from(report.purge_after_ms).ok().and_then(|ms| ms.checked_mul(1_000_000));
    let time = purge_ns.map_or_else(|| "the end of time".to_owned(), time::shown);
    format!("`icecore undelete` brings back what is not pruned, which nothing is before {time}")
}

fn complain(context: &Context, plan: &ForgetPlan, report: Option<&ForgetReport>) {
    let output = &context.output;
    let tell = |item: String, message: String| match output.is_json() {
        true => output.error_json(&ErrorShape {
            message_type: "error",
            error: MessageShape { message: names::words(&message).into_owned() },
            during: "forget",
            item,
        }),
        false if item.is_empty() => output.error_line(&format!("error: {}", names::words(&message))),
        false => output.error_line(&format!("error: {}: {}", &item[..8], names::words(&message))),
    };
    for snapshot in &plan.pinned {
        tell(snapshot.id().short(), "is pinned and stays; `icecore tag --unpin` first".to_owned());
    }
    for error in &plan.unreadable {
        tell(String::new(), error.to_string());
    }
    for (id, error) in report.iter().flat_map(|report| &report.failed) {
        tell(id.short(), error.to_string());
    }
}

impl From<&ForgetGroup> for GroupShape {
    fn from(group: &ForgetGroup) -> Self {
        let GroupKey { host, paths, tags, .. } = &group.key;
        let reasons = group.keep.iter().map(|(snapshot, reasons)| ReasonShape {
            snapshot: SnapshotShape::from(snapshot),
            matches: reasons.iter().map(ToString::to_string).collect(),
        });
        Self {
            tags: tags.clone(),
            host: host.clone().unwrap_or_default(),
            paths: paths.as_ref().map(|paths| paths.iter().map(|path| json::text(path)).collect()),
            keep: group.keep.iter().map(|(snapshot, _)| SnapshotShape::from(snapshot)).collect(),
            remove: group.remove.iter().map(SnapshotShape::from).collect(),
            reasons: reasons.collect(),
        }
    }
}

impl From<&Freed> for FreedShape {
    fn from(freed: &Freed) -> Self {
        let unique = freed.unique_bytes.iter().map(|(id, bytes)| UniqueShape { id: id.short(), bytes: *bytes });
        Self { message_type: "freed", freed_bytes: freed.bytes, unique: unique.collect() }
    }
}
