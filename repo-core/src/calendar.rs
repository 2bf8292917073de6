//! Days and dates of the Gregorian calendar, extended to all years. No clock, no zones, no times of day: whoever counts
//! by the calendar (retention, dates in archives) takes a day's number apart here, and nowhere else.
//!
//! After Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms": years begin in March, so that leap days end them.

/// Days of 400 years, after which the calendar repeats itself.
const ERA_DAYS: i64 = 146_097;
/// Days from the first of March of the year 0 to the first of January 1970.
const SHIFT_DAYS: i64 = 719_468;

/// Days since the first of January 1970. `month` is 1 to 12; `day` may lie outside its month, and counts on from there.
/// For years up to 10^15 either way.
pub fn day_number(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * ERA_DAYS + of_era * 365 + of_era / 4 - of_era / 100 + of_year - SHIFT_DAYS
}

/// Year, month (1 to 12) and day of the month of a day's number; the inverse of [`day_number`], for days up to 10^17 either
/// way.
pub fn date(days: i64) -> (i64, i64, i64) {
    let shifted = days + SHIFT_DAYS;
    let (era, of_era) = (shifted.div_euclid(ERA_DAYS), shifted.rem_euclid(ERA_DAYS));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Days of a month, by the rule of leap years alone.
    fn month_days(year: i64, month: i64) -> i64 {
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        match month {
            2 => 28 + i64::from(is_leap),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }

    /// The day after a date.
    fn next((year, month, day): (i64, i64, i64)) -> (i64, i64, i64) {
        match (day < month_days(year, month), month < 12) {
            (true, _) => (year, month, day + 1),
            (false, true) => (year, month + 1, 1),
            (false, false) => (year + 1, 1, 1),
        }
    }

    /// Counts days one by one, and meets every date that a snapshot can have.
    #[test]
    fn days_and_dates_agree_with_a_calendar_that_is_leafed_through() {
        let mut leaf = (1677, 1, 1);
        let mut number = day_number(1677, 1, 1);
        assert_eq!(day_number(1970, 1, 1), 0);
        while leaf.0 < 2263 {
            assert_eq!((date(number), day_number(leaf.0, leaf.1, leaf.2)), (leaf, number));
            (leaf, number) = (next(leaf), number + 1);
        }
    }

    /// As far as [`date`] goes, and [`day_number`].
    const DAYS_MAX: i64 = 100_000_000_000_000_000;
    const YEARS_MAX: i64 = 1_000_000_000_000_000;

    proptest! {
        #[test]
        fn a_day_has_one_date_in_its_month_and_the_next_day_the_next(days in -DAYS_MAX..=DAYS_MAX) {
            let (year, month, day) = date(days);
            prop_assert!((1..=12).contains(&month) && (1..=month_days(year, month)).contains(&day));
            prop_assert_eq!(day_number(year, month, day), days);
            prop_assert_eq!(date(days + 1), next((year, month, day)));
        }

        #[test]
        fn a_day_outside_its_month_counts_on_from_there(
            year in -YEARS_MAX..=YEARS_MAX, month in 1..=12_i64, day in -1_000_000..1_000_000_i64,
        ) {
            prop_assert_eq!(day_number(year, month, day), day_number(year, month, 1) + day - 1);
        }
    }
}
