//! A check's report, for people and as JSON.

use repo_core::{CheckLevel, CheckReport, Damage, Damaged, Loss, ObjectName, PackKind, Touched};
use serde::Serialize;

use super::advice;
use crate::context::Context;
use crate::exit::Outcome;
use crate::json;
use crate::names;
use crate::numbers;
use crate::output::Output;
use crate::progress::Reporter;

#[derive(Serialize)]
struct SummaryLine {
    message_type: &'static str,
    num_errors: u64,
    broken_packs: Vec<String>,
    broken_snapshots: Vec<String>,
    suggest_repair_index: bool,
    suggest_prune: bool,
    level: &'static str,
    snapshots: u64,
    packs: u64,
    packs_read: u64,
    packs_left: u64,
    bytes_read: u64,
}

#[derive(Serialize)]
struct TextLine<'a> {
    message_type: &'static str,
    message: &'a str,
}

#[derive(Serialize)]
struct DamageLine {
    message_type: &'static str,
    kind: &'static str,
    object: String,
    message: String,
    snapshots: Vec<String>,
    touched: Vec<TouchedShape>,
    touched_count: u64,
}

#[derive(Serialize)]
struct TouchedShape {
    snapshot: String,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    lost: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_base64: Option<String>,
}

/// Prints all of it, problems to standard error.
pub fn print(context: &Context, reporter: &Reporter<'_>, level: CheckLevel, report: &CheckReport) -> Outcome {
    let output = &context.output;
    if output.is_json() { print_json(output, level, report) } else { print_text(output, reporter, level, report) }
}

/// Good to know, and no failure.
pub fn note(output: &Output, text: &str) -> Outcome {
    if output.is_json() {
        output.error_json(&TextLine { message_type: "note", message: &names::words(text) });
        return Ok(());
    }
    output.say(1, &format!("note: {}", names::words(text)))
}

fn print_text(output: &Output, reporter: &Reporter<'_>, level: CheckLevel, report: &CheckReport) -> Outcome {
    for damage in &report.damage {
        output.error_line(&format!("error: {}", names::words(&damage.problem)));
        damage.touched.iter().for_each(|touched| output.error_line(&format!("  {}", in_words(touched))));
        match damage.touched_count - damage.touched.len() as u64 {
            0 => {}
            more => output.error_line(&format!("  and {more} more")),
        }
    }
    if report.unnamed_errors > 0 {
        output.error_line(&format!(
            "error: and {} more, all of them lost",
            numbers::count(report.unnamed_errors, "chunk")
        ));
    }
    for id in &report.damaged_snapshots {
        output.error_line(&format!("error: snapshot {} cannot be restored in full", &id.short()[..8]));
    }
    report.notes.iter().try_for_each(|text| note(output, text))?;
    if report.unread_packs > 0 {
        let left = numbers::count(report.unread_packs, "pack");
        note(output, &format!("the time was over with {left} not read; the next check begins with those"))?;
    }
    let read = match level {
        CheckLevel::Packs | CheckLevel::Data => {
            let packs = numbers::count(report.read_packs, "pack");
            format!(", {packs} with {} read", numbers::size(report.read_bytes))
        }
        _ => String::new(),
    };
    output.say(
        1,
        &format!(
            "checked {}, {}, {}{read} in {}",
            numbers::count(report.snapshots, "snapshot"),
            numbers::count(report.packs, "pack"),
            numbers::count(report.chunks, "chunk"),
            numbers::duration(reporter.elapsed())
        ),
    )?;
    if report.is_whole() { output.line("no errors were found") } else { Ok(()) }
}

fn in_words(touched: &Touched) -> String {
    let place = format!("{}: {}", &touched.snapshot.short()[..8], names::shown(&touched.path));
    match &touched.loss {
        Loss::Attributes => format!("{place} (extended attributes)"),
        Loss::Entries { from, count } if from.is_empty() => {
            format!("{place} ({} of it)", numbers::count(*count, "entry"))
        }
        Loss::Entries { from, count } => {
            format!("{place} ({} of it, from {} on)", numbers::count(*count, "entry"), names::shown(from))
        }
        _ => place,
    }
}

fn print_json(output: &Output, level: CheckLevel, report: &CheckReport) -> Outcome {
    for damage in &report.damage {
        output.error_json(&TextLine { message_type: "error", message: &names::words(&damage.problem) });
        output.json(&DamageLine::from(damage))?;
    }
    report.notes.iter().try_for_each(|text| note(output, text))?;
    output.json(&SummaryLine {
        message_type: "summary",
        num_errors: report.errors.len() as u64 + report.unnamed_errors,
        broken_packs: report.damaged_packs.iter().map(ToString::to_string).collect(),
        broken_snapshots: report.damaged_snapshots.iter().map(|id| id.short()).collect(),
        suggest_repair_index: report.errors.iter().any(advice::is_of_index),
        suggest_prune: false,
        level: match level {
            CheckLevel::Names => "names",
            CheckLevel::Packs => "packs",
            CheckLevel::Data => "data",
            _ => "trees",
        },
        snapshots: report.snapshots,
        packs: report.packs,
        packs_read: report.read_packs,
        packs_left: report.unread_packs,
        bytes_read: report.read_bytes,
    })
}

impl From<&Damage> for DamageLine {
    fn from(damage: &Damage) -> Self {
        let (kind, object) = match &damage.object {
            Damaged::Chunk(id) => ("chunk", id.to_string()),
            Damaged::Object(name) => (kind_of(name), name.to_string()),
            _ => ("other", String::new()),
        };
        Self {
            message_type: "damage",
            kind,
            object,
            message: names::words(&damage.problem).into_owned(),
            snapshots: damage.snapshots.iter().map(|id| id.short()).collect(),
            touched: damage.touched.iter().map(TouchedShape::from).collect(),
            touched_count: damage.touched_count,
        }
    }
}

impl From<&Touched> for TouchedShape {
    fn from(touched: &Touched) -> Self {
        let (lost, entries, from) = match &touched.loss {
            Loss::Attributes => ("attributes", None, None),
            Loss::Entries { from, count } => ("entries", Some(*count), Some(from)),
            _ => ("content", None, None),
        };
        Self {
            snapshot: touched.snapshot.short(),
            path: json::text(&touched.path),
            path_base64: json::exact(&touched.path),
            lost,
            entries,
            from: from.map(|name| json::text(name)),
            from_base64: from.and_then(|name| json::exact(name)),
        }
    }
}

fn kind_of(name: &ObjectName) -> &'static str {
    match name {
        ObjectName::Pack(PackKind::Data, _) => "data pack",
        ObjectName::Pack(PackKind::Meta, _) => "meta pack",
        ObjectName::Parity(..) => "parity",
        ObjectName::Index(_) => "index",
        ObjectName::Snapshot(_) => "snapshot",
        ObjectName::Session(_) => "session",
        ObjectName::KeySlot(_) => "key",
        ObjectName::Keyring(_) => "keyring",
        ObjectName::Config(_) => "config",
        ObjectName::Format => "format",
        ObjectName::SecondCopy(_) => "second copy",
        _ => "other",
    }
}
