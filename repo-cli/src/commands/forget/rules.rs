//! The `--keep` rules, as restic spells them, and more periods.

use clap::Args;
use repo_core::{CalendarSpan, Count, Period, Policy};

use crate::selection::split_tags;

/// What stays in each group: whatever any of these keeps.
#[derive(Debug, Args)]
#[command(next_help_heading = "What stays")]
pub struct Rules {
    /// The newest N (a number or `unlimited`, here and below)
    #[arg(short = 'l', long, value_name = "N", value_parser = parse_count, allow_negative_numbers = true)]
    keep_last: Option<Count>,

    /// The newest of each of the last N minutes that have a snapshot
    #[arg(long, value_name = "N", value_parser = parse_count, allow_negative_numbers = true)]
    keep_minutely: Option<Count>,

    /// Of each of the last N hours
    #[arg(short = 'H', long, value_name = "N", value_parser = parse_count, allow_negative_numbers = true)]
    keep_hourly: Option<Count>,

    /// Of each of the last N days
    #[arg(short = 'd', long, value_name = "N", value_parser = parse_count, allow_negative_numbers = true)]
    keep_daily: Option<Count>,

    /// Of each of the last N weeks, which begin on Monday
    #[arg(short = 'w', long, value_name = "N", value_parser = parse_count, allow_negative_numbers = true)]
    keep_weekly: Option<Count>,

    /// Of each of the last N months
    #[arg(short = 'm', long, value_name = "N", value_parser = parse_count, allow_negative_numbers = true)]
    keep_monthly: Option<Count>,

    /// Of each of the last N quarters
    #[arg(long, value_name = "N", alias = "keep-quarter-yearly", value_parser = parse_count, allow_negative_numbers = true)]
    keep_quarterly: Option<Count>,

    /// Of each of the last N half years
    #[arg(long, value_name = "N", value_parser = parse_count, allow_negative_numbers = true)]
    keep_half_yearly: Option<Count>,

    /// Of each of the last N years
    #[arg(short = 'y', long, value_name = "N", value_parser = parse_count, allow_negative_numbers = true)]
    keep_yearly: Option<Count>,

    /// All that are newer than this before the newest of the group: years, months, days, hours as in 1y5m7d2h
    #[arg(long, value_name = "DURATION")]
    keep_within: Option<CalendarSpan>,

    /// Of each minute within this before the newest
    #[arg(long, value_name = "DURATION")]
    keep_within_minutely: Option<CalendarSpan>,

    /// Of each hour within this before the newest
    #[arg(long, value_name = "DURATION")]
    keep_within_hourly: Option<CalendarSpan>,

    /// Of each day within this before the newest
    #[arg(long, value_name = "DURATION")]
    keep_within_daily: Option<CalendarSpan>,

    /// Of each week within this before the newest
    #[arg(long, value_name = "DURATION")]
    keep_within_weekly: Option<CalendarSpan>,

    /// Of each month within this before the newest
    #[arg(long, value_name = "DURATION")]
    keep_within_monthly: Option<CalendarSpan>,

    /// Of each quarter within this before the newest
    #[arg(long, value_name = "DURATION", alias = "keep-within-quarter-yearly")]
    keep_within_quarterly: Option<CalendarSpan>,

    /// Of each half year within this before the newest
    #[arg(long, value_name = "DURATION")]
    keep_within_half_yearly: Option<CalendarSpan>,

    /// Of each year within this before the newest
    #[arg(long, value_name = "DURATION")]
    keep_within_yearly: Option<CalendarSpan>,

    /// All with these tags (`a,b`); may be repeated for alternatives, '' means untagged
    #[arg(long, value_name = "TAGS")]
    keep_tag: Vec<String>,
}

impl Rules {
    /// As the library wants them.
    pub fn policy(&self) -> Policy {
        let counts = [
            (Period::Minute, self.keep_minutely, self.keep_within_minutely),
            (Period::Hour, self.keep_hourly, self.keep_within_hourly),
            (Period::Day, self.keep_daily, self.keep_within_daily),
            (Period::Week, self.keep_weekly, self.keep_within_weekly),
            (Period::Month, self.keep_monthly, self.keep_within_monthly),
            (Period::Quarter, self.keep_quarterly, self.keep_within_quarterly),
            (Period::HalfYear, self.keep_half_yearly, self.keep_within_half_yearly),
            (Period::Year, self.keep_yearly, self.keep_within_yearly),
        ];
        let mut policy = Policy::new()
            .keep_last(self.keep_last.unwrap_or_default())
            .keep_within(self.keep_within.unwrap_or_default());
        for (period, count, within) in counts {
            policy = policy.keep(period, count.unwrap_or_default());
            policy = policy.keep_each_within(period, within.unwrap_or_default());
        }
        self.keep_tag.iter().fold(policy, |policy, tags| policy.keep_tags(split_tags(tags)))
    }
}

/// `7`, or `unlimited`.
fn parse_count(text: &str) -> Result<Count, String> {
    match text {
        "unlimited" => Ok(Count::Unlimited),
        _ if text.starts_with('-') => {
            Err("a count is not negative; for as many as there are write `unlimited`".to_owned())
        }
        _ => text.parse().map(Count::Of).map_err(|_| "a count is a number, or `unlimited`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_a_number_or_unlimited() {
        assert_eq!(parse_count("7"), Ok(Count::Of(7)));
        assert_eq!(parse_count("unlimited"), Ok(Count::Unlimited));
        assert!(parse_count("-1").is_err_and(|problem| problem.contains("unlimited")));
        for bad in ["", "7d", "all", "4294967296"] {
            assert!(parse_count(bad).is_err(), "{bad}");
        }
    }
}
