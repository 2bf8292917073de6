"""Turns rows into Markdown: targets first, then what was measured, with spread.

A table is made from rows of one session, machine, commit and data set, and of one binary a tool:
those of the newest row. What is left out is said. A figure that was not measured is a dash.
"""

import statistics

from . import tools
from .measuring import MIB

STEP_TITLES = {
    "init": "init", "first": "first backup", "again": "again, unchanged", "next": "next version",
    "restore": "restore all", "check": "check", "check-read-data": "check --read-data",
    "forget-prune": "forget --prune", "fresh": "next version alone",
}

# What the first release must reach: (step, the largest share of the peer's median allowed, the peer).
TIME_TARGETS = (
    ("first", 0.45, "restic"), ("again", 0.25, "restic"), ("next", 0.45, "restic"),
    ("restore", 0.50, "restic"), ("check-read-data", 0.60, "fastest"), ("forget-prune", 0.50, "fastest"),
)
PEERS = ("restic", "restic-unverified", "rustic")
SIZE_TARGET = 0.80
# What is left after all but the last version were forgotten and pruned, of what that version alone takes.
PRUNED_SIZE_TARGET = 1.05
PEAK_TARGET_MIB = 150
# On a disk a step may take this much more than the larger of its tmpfs time and dd or cp -a.
DISK_TARGET = 1.15

# The steps in which the extra verification works; elsewhere the setting changes nothing.
BACKUP_STEPS = ("first", "again", "next")
SIZED_STEPS = (*BACKUP_STEPS, "forget-prune", "fresh")
DISK_STEPS = ("first", "again", "next", "restore", "check-read-data")


def render(rows, set_name):
    """The whole section for one data set, or None if nothing of it was measured."""
    rows = [row for row in rows if row["set"] == set_name]
    if not rows:
        return None
    rows, left_out = of_the_newest(rows)
    failed = [row for row in rows if row.get("failed")]
    rows = [row for row in rows if not row.get("failed")]
    if not rows:
        return None
    views = [View(rows, place) for place in ("tmpfs", "disk") if any(
        row["place"] == place and row["run"] > 0 for row in rows)]
    parts = [heading(rows, left_out), failures(failed)]
    if set_name == "kernel":
        parts.append(targets(views))
    for view in views:
        parts.append(view.tables())
    parts.append(sync_table(rows))
    parts.append(restores(rows))
    return "\n\n".join(part for part in parts if part)


def of_the_newest(rows):
    last = rows[-1]
    same = [row for row in rows if all(row[k] == last[k] for k in ("session", "machine", "commit", "data"))]
    # A step measured twice counts with its newest figures.
    newest_binary = {row["tool"]: row["binary"] for row in same}
    newest = {(row["place"], row["tool"], row["run"], row["step"]): row for row in same
              if row["binary"] == newest_binary[row["tool"]]}
    return list(newest.values()), len(rows) - len(newest)


def heading(rows, left_out):
    last = rows[-1]
    versions = sorted({row["version"] for row in rows if row["version"]})
    dates = sorted({row["date"] for row in rows})
    disk = sorted({row["disk"] for row in rows if row["place"] == "disk" and row.get("disk")})
    sizes = ", then ".join(f"{files:,} files, {count / MIB:,.0f} MiB" for files, count in
                           zip(last["data_files"], last["data_bytes"]))
    lines = [
        f"## Side by side: {last['set']}", "",
        f"Measured {' to '.join(dict.fromkeys([dates[0], dates[-1]]))} at commit {last['commit']} "
        f"by `benches/peers`. {last['machine']}.  ",
        f"Data: {last['data']} ({sizes}).  ",
        f"Tools: {'; '.join(versions)}.  ",
        "Source, repository and target on tmpfs" + (
            f"; in the second part repository and target on a disk ({', '.join(disk)})." if disk else "."),
    ]
    lines[-1] += "  "
    lines.append("icecore's repositories are made with `--parity 0`, since the peers keep no parity and the targets are "
                 "stated without it; a directory's default is 2 %, which adds as much to its packs. Not in its sizes: the "
                 "4 MiB of `tmp/ballast`, which hold nothing and are given up on a full disk.")
    absent = sorted({t.program for t in tools.TOOLS if t.by_default} - {
        t.program for t in tools.TOOLS for row in rows if row["tool"] == t.slug})
    if absent:
        lines.append(f"**Not measured: {', '.join(absent)}.**")
    if left_out:
        lines.append(f"Left out: {left_out} rows of another session, machine, commit, binary or data.")
    return "\n".join(lines)


def failures(failed):
    """A step that failed has no figures, and must not look as if nobody had asked for it."""
    return "\n".join(f"- **FAILED: {row['tool']}, {STEP_TITLES.get(row['step'], row['step'])}, on {row['place']}, "
                     f"run {row['run']}, exit code {row['exit']}**" for row in failed)


def spread(values, scale=1.0, digits=2):
    """median (min–max), or a dash; of one value only that."""
    if not values:
        return "–"
    middle, low, high = (value * scale for value in (statistics.median(values), min(values), max(values)))
    if len(values) == 1:
        return f"{middle:,.{digits}f}"
    return f"{middle:,.{digits}f} ({low:,.{digits}f}–{high:,.{digits}f})"


def markdown(head, body):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(line) + " |" for line in body])


class View:
    """The rows of one place, looked up by tool and step."""

    def __init__(self, rows, place):
        self.place = place
        self.rows = [row for row in rows if row["place"] == place and row["run"] > 0]
        self.all_rows = rows
        known = {row["tool"] for row in self.rows}
        self.tools = [tool for tool in tools.TOOLS if tool.slug in known]
        self.steps = [step for step in tools.STEPS if any(row["step"] == step for row in self.rows)]

    def values(self, slug, step, field):
        if field == "cpu_s":
            return [row["user_s"] + row["system_s"] for row in self.of(slug, step)]
        return [row[field] for row in self.of(slug, step) if row.get(field) is not None]

    def of(self, slug, step):
        return [row for row in self.rows if row["tool"] == slug and row["step"] == step]

    def median(self, slug, step, field):
        values = self.values(slug, step, field)
        return statistics.median(values) if values else None

    def tables(self):
        where = "tmpfs" if self.place == "tmpfs" else "disk, sources on tmpfs"
        runs = max(row["run"] for row in self.rows)
        parts = [f"### On {where}: median of {runs} runs (lowest–highest), ratio of the median to restic's"]
        parts.append("Wall time, seconds\n\n" + self.by_step("wall_s", with_reference=True))
        parts.append("Processor time (user + system), seconds\n\n" + self.by_step("cpu_s"))
        parts.append("Peak resident memory, MiB\n\n" + self.by_step("peak_rss_kib", 1 / 1024, 0))
        parts.append("Repository\n\n" + self.repository())
        return "\n\n".join(parts)

    def by_step(self, field, scale=1.0, digits=2, with_reference=False):
        reference = with_reference and any(row["tool"] == "reference" for row in self.rows)
        head = ["step", *(tool.label for tool in self.tools), *([tools.REFERENCE.label] if reference else [])]
        body = []
        for step in self.steps:
            line = [STEP_TITLES[step]]
            for tool in self.tools:
                line.append(spread(self.values(tool.slug, step, field), scale, digits)
                            + self.ratio_to_restic(tool, step, field))
            if reference:
                line.append(spread(self.values("reference", self.reference_step(step), field), scale, digits))
            body.append(line)
        return markdown(head, body)

    def ratio_to_restic(self, tool, step, field):
        """Like with like: without verification against restic without it, if that was measured."""
        if tool.program == "restic":
            return ""
        peer = "restic" if tool.verifies or not self.values("restic-unverified", step, field) else "restic-unverified"
        ours, theirs = self.median(tool.slug, step, field), self.median(peer, step, field)
        return f" = {ours / theirs:.2f} ×" if ours is not None and theirs else ""

    def repository(self):
        body = []
        for step in [step for step in SIZED_STEPS if step in self.steps]:
            for field, title, scale, digits in (("repository_bytes", "MiB", 1 / MIB, 1),
                                                ("repository_files", "files", 1, 0)):
                line = [f"{title} after {STEP_TITLES[step]}"]
                for tool in self.tools:
                    ratio = self.ratio_to_restic(tool, step, field) if title == "MiB" else ""
                    line.append(spread(self.values(tool.slug, step, field), scale, digits) + ratio)
                body.append(line)
        return markdown(["", *(tool.label for tool in self.tools)], body)

    def reference_step(self, step):
        """Restore is held against the cp -a that syncs if our own restore does."""
        if step != "restore":
            return step
        counted = [row["sync_calls"] for row in self.all_rows
                   if row["tool"] == "icecore" and row["step"] == "restore" and row["run"] == 0]
        return "restore-synced" if any(sum(calls.values()) for calls in counted) else "restore"


# --- targets --------------------------------------------------------------------------


def targets(views):
    """What was to be reached and what was. What is missed comes first, and what could not be
    judged stays in the table: a target does not vanish because a peer or a step was left out."""
    lines = []
    for view in views:
        if view.place == "tmpfs":
            lines += time_targets(view) + size_targets(view)
        lines += peak_targets(view)
    if len(views) == 2:
        lines += disk_targets(*views)
    order = ("missed", "not measured", "met")
    lines.sort(key=lambda line: order.index(line[-1]))
    counts = ", ".join(f"{sum(line[-1] == word for line in lines)} {word}" for word in reversed(order))
    return (f"### Targets: {counts}\n\n"
            + markdown(["what", "ours", "held against", "ratio", "target", "verdict"],
                       [[*line[:-1], line[-1] if line[-1] == "met" else f"**{line[-1].upper()}**"] for line in lines]))


def verdict(met):
    return "met" if met else "missed"


def target_line(what, ours, theirs, share, against, unit, digits):
    """One judged line; a figure that is missing makes it "not measured"."""
    def figure(value):
        return "–" if value is None else f"{value:,.{digits}f} {unit}"
    known = ours is not None and theirs
    return [what, figure(ours), f"{against} {figure(theirs)}", f"{ours / theirs:.2f} ×" if known else "–",
            f"≤ {share:.2f} ×", verdict(ours <= share * theirs) if known else "not measured"]


def time_targets(view):
    lines = []
    for step, share, peer in TIME_TARGETS:
        if peer == "fastest":
            known = [slug for slug in PEERS if view.median(slug, step, "wall_s") is not None]
            peer = min(known, key=lambda slug: view.median(slug, step, "wall_s"), default=PEERS[0])
        pairs = [("icecore", peer)]
        if step in BACKUP_STEPS:
            pairs += [("icecore-unverified", peer + "-unverified"), ("icecore-unverified", peer)]
        for ours, theirs in pairs:
            lines.append(target_line(f"{STEP_TITLES[step]}: {label(ours)}", view.median(ours, step, "wall_s"),
                                     view.median(theirs, step, "wall_s"), share, label(theirs), "s", 2))
    return lines


def size_targets(view):
    lines = []
    for step in ("first", "next"):
        ours, theirs = (view.median(slug, step, "repository_bytes") for slug in ("icecore", "restic"))
        lines.append(target_line(f"repository after {STEP_TITLES[step]}", ours and ours / MIB, theirs and theirs / MIB,
                                 SIZE_TARGET, "restic", "MiB", 1))
    pruned, fresh = (view.median("icecore", step, "repository_bytes") for step in ("forget-prune", "fresh"))
    lines.append(target_line("repository after forget --prune", pruned and pruned / MIB, fresh and fresh / MIB,
                             PRUNED_SIZE_TARGET, "next version alone", "MiB", 1))
    return lines


def peak_targets(view):
    """The worst of all runs and steps, not a median: memory that is needed once is needed."""
    lines = []
    for slug in ("icecore", "icecore-unverified"):
        rows = [row for row in view.rows if row["tool"] == slug]
        if not rows:
            lines.append([f"peak memory on {view.place}: {label(slug)}", "–", "–", "–", f"≤ {PEAK_TARGET_MIB} MiB",
                          "not measured"])
        else:
            worst = max(rows, key=lambda row: row["peak_rss_kib"])
            mib = worst["peak_rss_kib"] / 1024
            lines.append([f"peak memory on {view.place}: {label(slug)}", f"{mib:.0f} MiB",
                          f"its worst step, {STEP_TITLES[worst['step']]}", "–", f"≤ {PEAK_TARGET_MIB} MiB",
                          verdict(mib <= PEAK_TARGET_MIB)])
    return lines


def disk_targets(tmpfs, disk):
    lines = []
    for slug in ("icecore", "icecore-unverified"):
        for step in DISK_STEPS:
            memory = tmpfs.median(slug, step, "wall_s")
            raw = disk.median("reference", disk.reference_step(step), "wall_s")
            floor, which = (None, "tmpfs") if memory is None or raw is None else max(
                (memory, "tmpfs"), (raw, "`cp -a`" if step == "restore" else "`dd`"))
            lines.append(target_line(f"{STEP_TITLES[step]} on disk: {label(slug)}", disk.median(slug, step, "wall_s"),
                                     floor, DISK_TARGET, which, "s", 2))
    return lines


def label(slug):
    return next(tool.label for tool in tools.TOOLS if tool.slug == slug)


# --- durability and restores ----------------------------------------------------------


def sync_table(rows):
    counted = [row for row in rows if row["run"] == 0]
    if not counted:
        return "Calls for durability were not counted."
    shown = [tool for tool in tools.TOOLS if any(row["tool"] == tool.slug for row in counted)]
    calls = {(row["tool"], row["step"]): row["sync_calls"] for row in counted}
    body = []
    for step in [step for step in tools.STEPS if any(row["step"] == step for row in counted)]:
        line = [STEP_TITLES[step]]
        for tool in shown:
            found = calls.get((tool.slug, step))
            line.append("–" if found is None else
                        ", ".join(f"{count} {name}" for name, count in sorted(found.items())) or "none")
        body.append(line)
    return ("### Calls that make data durable, counted once by strace\n\n"
            + markdown(["step", *(tool.label for tool in shown)], body))


def restores(rows):
    compared = [row for row in rows if row["step"] == "restore" and row.get("comparison")]
    if not compared:
        return ""
    lines = ["### Restores, each compared with its source: names, kinds, modes, owners, times (ns), attributes, bytes", ""]
    for tool in tools.TOOLS:
        mine = [row["comparison"] for row in compared if row["tool"] == tool.slug]
        wrong = [found for found in mine if found["differences"]]
        if mine and not wrong:
            lines.append(f"- {tool.label}: {len(mine)} of {len(mine)} identical, {mine[-1]['entries']:,} entries each")
        elif mine:
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(wrong[-1]["kinds"].items()))
            lines.append(f"- **{tool.label}: {len(wrong)} of {len(mine)} differ**: {kinds}; first `{wrong[-1]['examples'][0]}`")
    return "\n".join(lines)


# --- for the reference ----------------------------------------------------------------


def repository_sizes(rows, among):
    """Bytes that each step added to the repository, and all of them: of our own tool, else of the first."""
    for tool in sorted(among, key=lambda tool: tool.program != "icecore"):
        after = {row["step"]: row["repository_bytes"] for row in rows
                 if row["tool"] == tool.slug and row.get("repository_bytes")}
        if "first" in after:
            sizes, before = {}, 0
            for step in [step for step in BACKUP_STEPS if step in after]:
                sizes[step], before = max(0, after[step] - before), after[step]
            return {**sizes, "check-read-data": before}
    return {}
