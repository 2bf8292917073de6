//! The first line of a status: how far a verb has come at one moment, in words. A pure function of what was counted.

use std::time::Duration;

use super::Task;
use crate::numbers::{self, share};

/// Speeds of a shorter time say nothing yet.
const SETTLED: Duration = Duration::from_secs(1);

/// Entries and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Total {
    pub files: u64,
    pub bytes: u64,
}

/// What is known at one moment.
#[derive(Debug, Clone)]
pub struct Moment {
    pub elapsed: Duration,
    /// Handled, unchanged ones too.
    pub done: Total,
    /// Of those bytes, what was moved and not just found unchanged: it tells the speed.
    pub moved_bytes: u64,
    /// `None`: not known, or not yet.
    pub total: Option<Total>,
    pub problems: u64,
}

impl Moment {
    /// From 0 to 1; 0 as long as there is no total. What has no bytes is measured by its entries.
    fn share(&self) -> f64 {
        match self.total {
            Some(total) if total.bytes > 0 => share(self.done.bytes, total.bytes),
            Some(total) => share(self.done.files, total.files),
            None => 0.0,
        }
    }

    /// For people. What matters least stands last, where a narrow terminal cuts.
    pub fn line(&self, task: Task, stage: &str) -> String {
        // A check goes through packs, not through files.
        let counted = |counted: Total| match task {
            Task::Check | Task::Mirror | Task::Prune | Task::Repair => numbers::size(counted.bytes),
            _ => format!("{} {}", numbers::count(counted.files, "file"), numbers::size(counted.bytes)),
        };
        let mut line = format!("[{}]", numbers::duration(self.elapsed));
        if self.total.is_some() {
            line += &format!(" {:.2}%", self.share() * 100.0);
        }
        if !stage.is_empty() {
            line += &format!("  {stage}:");
        }
        line += &format!("  {}", counted(self.done));
        if let Some(total) = self.total {
            line += &format!(", total {}", counted(total));
        }
        if let Some(remaining) = remaining(self.elapsed, self.share()) {
            line += &format!(", ETA {}", numbers::duration(remaining));
        }
        if self.moved_bytes > 0 && self.elapsed > SETTLED {
            let speed = self.moved_bytes as f64 / self.elapsed.as_secs_f64();
            line += &format!(", {}/s", numbers::size(speed as u64));
        }
        if self.problems > 0 {
            line += &format!(", {}", numbers::count(self.problems, "error"));
        }
        line
    }
}

/// By the mean speed so far; not before there is one.
pub fn remaining(elapsed: Duration, share: f64) -> Option<Duration> {
    (share > 0.001 && elapsed > SETTLED)
        .then(|| Duration::try_from_secs_f64(elapsed.as_secs_f64() * (1.0 - share) / share).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(seconds: u64, done: (u64, u64), total: Option<(u64, u64)>) -> Moment {
        let [done, total] = [Some(done), total].map(|pair| pair.map(|(files, bytes)| Total { files, bytes }));
        let done = done.expect("given");
        Moment { elapsed: Duration::from_secs(seconds), done, moved_bytes: done.bytes, total, problems: 0 }
    }

    #[test]
    fn without_a_total_there_is_no_share_and_no_end() {
        let line = moment(90, (1, 3 << 20), None).line(Task::Backup, "");
        assert_eq!(line, "[1:30]  1 file 3.000 MiB, 34.133 KiB/s");
    }

    #[test]
    fn with_a_total_share_and_remaining_time_are_told_by_bytes() {
        let line = moment(30, (7, 1 << 30), Some((900, 4 << 30))).line(Task::Backup, "");
        assert_eq!(line, "[0:30] 25.00%  7 files 1.000 GiB, total 900 files 4.000 GiB, ETA 1:30, 34.133 MiB/s");
    }

    #[test]
    fn what_was_found_unchanged_makes_no_speed() {
        let unchanged = Moment { moved_bytes: 0, ..moment(30, (7, 1 << 30), None) };
        assert_eq!(unchanged.line(Task::Backup, ""), "[0:30]  7 files 1.000 GiB");
    }

    #[test]
    fn in_the_first_second_no_speed_and_no_end_is_guessed() {
        let line = moment(1, (7, 1 << 30), Some((900, 4 << 30))).line(Task::Restore, "");
        assert_eq!(line, "[0:01] 25.00%  7 files 1.000 GiB, total 900 files 4.000 GiB");
    }

    #[test]
    fn empty_files_are_counted_by_their_number() {
        let line = moment(10, (5, 0), Some((10, 0))).line(Task::Backup, "");
        assert_eq!(line, "[0:10] 50.00%  5 files 0 B, total 10 files 0 B, ETA 0:10");
    }

    #[test]
    fn a_total_that_was_too_small_is_never_exceeded() {
        let line = moment(10, (12, 90), Some((10, 60))).line(Task::Backup, "");
        assert!(line.starts_with("[0:10] 100.00%  ") && line.contains("ETA 0:00"), "{line}");
    }

    #[test]
    fn a_check_tells_its_stage_and_bytes_alone_and_errors_come_last() {
        let check = Moment { problems: 2, ..moment(20, (3, 512), Some((6, 1024))) };
        assert_eq!(
            check.line(Task::Check, "packs"),
            "[0:20] 50.00%  packs:  512 B, total 1.000 KiB, ETA 0:20, 25 B/s, 2 errors"
        );
    }
}
