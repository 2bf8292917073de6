//! What the policy keeps: the rules as restic documents them, the same answers as an oracle that knows no better than to
//! count, and what a stolen client may try.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3600 * SECOND;
const DAY: i64 = 24 * HOUR;
/// 2026-11-21 14:00 UTC, a Saturday.
const NOW: i64 = 1_795_269_600 * SECOND;

pub fn record() -> SnapshotRecord {
    SnapshotRecord::blank(SnapshotId([0; 16]))
}

/// Taken and written at this time, in UTC.
fn taken(time_ns: i64) -> Candidate {
    let id = SnapshotId::new((time_ns / 1_000_000) as u64, [7; 10]);
    Candidate { id, time_ns, zone_minutes: 0, tags: Vec::new(), pinned: false, ..times(time_ns, time_ns) }
}

impl Candidate {
    fn at_times(self, id_ns: i64, stored_ns: i64) -> Self {
        let Self { begun_ms, stored_ms, .. } = times(id_ns, stored_ns);
        self.witnessed(begun_ms, stored_ms)
    }
}

/// Its id and the storage say this; the rest is of no matter.
fn times(id_ns: i64, stored_ns: i64) -> Candidate {
    let ms = |time_ns: i64| (time_ns.max(0) / 1_000_000) as u64;
    Candidate::new(&record()).witnessed(ms(id_ns), Some(ms(stored_ns)))
}

fn tagged(time_ns: i64, tags: &[&str]) -> Candidate {
    Candidate { tags: tags.iter().map(|tag| (*tag).to_owned()).collect(), ..taken(time_ns) }
}

/// `2026-11-20 12:30`, counted from 1970 year by year and month by month.
fn at(text: &str) -> i64 {
    let numbers: Vec<i64> = text.split(['-', ' ', ':']).map(|part| part.parse().expect("a number")).collect();
    let [year, month, day, hour, minute] = numbers[..] else { panic!("{text}") };
    let days = (1970..year).map(|year| 365 + i64::from(is_leap(year))).sum::<i64>()
        + (1..month).map(|month| month_days(year, month)).sum::<i64>()
        + day
        - 1;
    ((days * 24 + hour) * 60 + minute) * 60 * SECOND
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn month_days(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Times of what is kept, newest first, each with its reasons.
fn kept(policy: &Policy, snapshots: &[Candidate]) -> Vec<(i64, String)> {
    let decisions = policy.apply(snapshots, NOW);
    assert_eq!(decisions.len(), snapshots.len());
    let words = |decision: &Decision| decision.reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let keeps = decisions.iter().filter(|decision| decision.keeps());
    keeps.map(|decision| (snapshots[decision.index].time_ns, words(decision))).collect()
}

fn expect(policy: &Policy, snapshots: &[&str], wanted: &[(&str, &str)]) {
    let snapshots: Vec<_> = snapshots.iter().map(|text| taken(at(text))).collect();
    let wanted: Vec<_> = wanted.iter().map(|(text, why)| (at(text), (*why).to_owned())).collect();
    assert_eq!(kept(policy, &snapshots), wanted);
}

#[test]
fn the_last_few_are_kept_whatever_order_they_come_in() {
    let policy = Policy::new().keep_last(2);
    let given = ["2026-01-02 00:00", "2026-01-04 00:00", "2026-01-01 00:00", "2026-01-03 00:00"];
    expect(&policy, &given, &[("2026-01-04 00:00", "last snapshot"), ("2026-01-03 00:00", "last snapshot")]);
}

#[test]
fn of_each_day_the_newest_is_kept_and_days_without_a_snapshot_do_not_count() {
    let policy = Policy::new().keep(Period::Day, 2);
    let given = ["2026-01-01 09:00", "2026-01-01 21:00", "2026-01-09 01:00", "2026-01-09 02:00", "2025-12-31 09:00"];
    expect(&policy, &given, &[("2026-01-09 02:00", "daily snapshot"), ("2026-01-01 21:00", "daily snapshot")]);
}

#[test]
fn while_a_rule_has_places_left_the_oldest_is_kept_too() {
    let given = ["2026-01-01 09:00", "2026-01-01 21:00", "2026-01-02 09:00"];
    let two = [("2026-01-02 09:00", "daily snapshot"), ("2026-01-01 21:00", "daily snapshot")];
    expect(&Policy::new().keep(Period::Day, 2), &given, &two);
    let three = [two[0], two[1], ("2026-01-01 09:00", "oldest daily snapshot")];
    expect(&Policy::new().keep(Period::Day, 3), &given, &three);
    expect(&Policy::new().keep(Period::Day, Count::Unlimited), &given, &three);
}

#[test]
fn every_rule_counts_for_itself_and_tells_its_reason() {
    let policy = Policy::new().keep_last(1).keep(Period::Day, 2).keep(Period::Month, 2);
    let given = ["2026-03-01 08:00", "2026-03-01 09:00", "2026-02-28 08:00", "2026-02-27 08:00", "2026-01-31 08:00"];
    let wanted = [
        ("2026-03-01 09:00", "last snapshot, daily snapshot, monthly snapshot"),
        ("2026-02-28 08:00", "daily snapshot, monthly snapshot"),
    ];
    expect(&policy, &given, &wanted);
}

#[test]
fn each_period_has_its_rule() {
    let given = ["2026-07-01 00:01", "2026-07-01 00:00", "2026-06-30 23:59", "2026-03-31 00:00", "2025-12-31 00:00"];
    let two = |period: Period, second: &str| {
        let why = format!("{} snapshot", period.adverb());
        expect(&Policy::new().keep(period, 2), &given, &[(given[0], &why), (second, &why)]);
    };
    two(Period::Minute, "2026-07-01 00:00");
    two(Period::Hour, "2026-06-30 23:59");
    two(Period::Day, "2026-06-30 23:59");
    two(Period::Week, "2026-03-31 00:00");
    two(Period::Month, "2026-06-30 23:59");
    two(Period::Quarter, "2026-06-30 23:59");
    two(Period::HalfYear, "2026-06-30 23:59");
    two(Period::Year, "2025-12-31 00:00");
}

#[test]
fn a_window_is_measured_from_the_newest_snapshot_and_not_from_now() {
    let policy = Policy::new().keep_within("1m2d".parse().unwrap());
    let given = ["2020-03-05 12:00", "2020-02-03 12:01", "2020-02-03 12:00", "2020-01-01 00:00"];
    expect(&policy, &given, &[(given[0], "within 1m2d"), (given[1], "within 1m2d")]);
}

#[test]
fn a_window_of_periods_keeps_the_newest_of_each_within_it() {
    let policy = Policy::new().keep_each_within(Period::Day, "3d".parse().unwrap());
    let given = ["2020-03-05 12:00", "2020-03-05 11:00", "2020-03-03 12:00", "2020-03-02 12:00", "2020-03-01 12:00"];
    expect(&policy, &given, &[(given[0], "daily within 3d"), (given[2], "daily within 3d")]);
    // The oldest of all is kept only if it lies in the window.
    let given = ["2020-03-05 12:00", "2020-03-05 11:00"];
    expect(&policy, &given, &[(given[0], "daily within 3d"), (given[1], "oldest daily within 3d")]);
}

#[test]
fn tags_keep_without_being_counted() {
    let policy = Policy::new().keep_last(1).keep_tags(["a", "b"]).keep_tags([] as [&str; 0]);
    let given = [tagged(5, &["a"]), tagged(4, &["b", "c", "a"]), tagged(3, &[]), tagged(2, &["a"]), tagged(1, &["b"])];
    let wanted = [(5, "last snapshot"), (4, "has tags [a, b]"), (3, "has tags []")];
    assert_eq!(kept(&policy, &given), wanted.map(|(time, why)| (time, why.to_owned())));
}

#[test]
fn a_pinned_snapshot_stays_and_takes_its_place_like_any_other() {
    let given = [Candidate { pinned: true, ..taken(3) }, taken(2), Candidate { pinned: true, ..taken(1) }];
    let wanted = [(3, "pinned, last snapshot".to_owned()), (1, "pinned".to_owned())];
    assert_eq!(kept(&Policy::new().keep_last(1), &given), wanted);
}

#[test]
fn the_day_is_that_of_the_snapshots_own_zone_or_of_the_one_given() {
    // 23:30 and 00:30 in Greenwich; one day in Vienna, which both recorded.
    let given = ["2026-01-01 23:30", "2026-01-02 00:30"].map(|text| Candidate { zone_minutes: 60, ..taken(at(text)) });
    let policy = Policy::new().keep(Period::Day, 2);
    assert_eq!(kept(&policy, &given).last().expect("two").1, "oldest daily snapshot");
    assert_eq!(kept(&policy.clone().zone(Zone::Minutes(0)), &given).last().expect("two").1, "daily snapshot");
}

#[test]
fn as_of_a_date_later_snapshots_are_kept_and_do_not_count() {
    let policy = Policy::new().keep_last(1).as_of_ns(at("2026-01-02 12:00"));
    let given = ["2026-01-01 12:00", "2026-01-02 12:00", "2026-01-03 12:00"];
    let later = Uncounted::Later.to_string();
    expect(&policy, &given, &[(given[2], &later), (given[1], "last snapshot")]);
    // A window is measured from the newest as of then.
    let policy = Policy::new().keep_within("1d".parse().unwrap()).as_of_ns(at("2026-01-02 23:00"));
    expect(&policy, &given, &[(given[2], &later), (given[1], "within 1d")]);
}

#[test]
fn a_snapshot_in_the_future_is_kept_and_takes_nobodys_place() {
    let given = [taken(NOW + 1), taken(NOW), taken(NOW - DAY)];
    let policy = Policy::new().keep_last(1).keep_within("1d".parse().unwrap());
    let wanted = [(NOW + 1, Uncounted::Later.to_string()), (NOW, "within 1d, last snapshot".to_owned())];
    assert_eq!(kept(&policy, &given), wanted);
}

#[test]
fn no_rules_keep_nothing_and_say_so() {
    assert!(Policy::new().is_empty() && Policy::new().keep_last(0).keep(Period::Day, 0).is_empty());
    assert!(!Policy::new().keep_tags(["a"]).is_empty());
    assert_eq!(kept(&Policy::new(), &[taken(1)]), []);
    assert_eq!(Policy::new().apply(&[], NOW), []);
}

#[test]
fn a_group_of_which_nothing_that_counts_stays_is_told_from_others() {
    let tagged_only = Policy::new().keep_tags(["a"]);
    let is_emptied = |policy: &Policy, given: &[Candidate]| empties(&policy.apply(given, NOW));
    assert!(is_emptied(&tagged_only, &[taken(1), taken(2)]));
    assert!(is_emptied(&tagged_only, &[taken(1), taken(NOW + 1)]), "the one in the future does not count");
    assert!(!is_emptied(&tagged_only, &[taken(1), tagged(2, &["a"])]));
    assert!(!is_emptied(&tagged_only, &[taken(NOW + 1)]), "nothing goes");
    assert!(!is_emptied(&tagged_only, &[]));
}

#[test]
fn a_policy_is_told_in_words() {
    let policy = Policy::new()
        .keep_last(Count::Unlimited)
        .keep(Period::Quarter, 3)
        .keep_each_within(Period::Day, "7d".parse().unwrap())
        .keep_tags(["a", "b"])
        .keep_within("1y2h".parse().unwrap());
    let words = "keep all latest, 3 quarterly snapshots, daily snapshots within 7d and all snapshots with tags [a, b] and \
                 all snapshots within 1y2h of the newest";
    assert_eq!(policy.to_string(), words);
}

// ------------------------------------------------------------------------------------------------- the oracle

/// A date as text, found by taking years and months off one by one; and the Monday of its week.
fn leafed(time_ns: i64, zone_minutes: i16, period: Period) -> String {
    let minutes = time_ns.div_euclid(60 * SECOND) + i64::from(zone_minutes);
    let (mut days, of_day) = (minutes.div_euclid(1440), minutes.rem_euclid(1440));
    if period == Period::Week {
        while days.rem_euclid(7) != 4 {
            days -= 1; // 1970-01-05, day 4, was a Monday
        }
    }
    let (mut year, mut month) = (1970, 1);
    while days >= 365 + i64::from(is_leap(year)) {
        days -= 365 + i64::from(is_leap(year));
        year += 1;
    }
    while days >= month_days(year, month) {
        days -= month_days(year, month);
        month += 1;
    }
    let (hour, minute) = (of_day / 60, of_day % 60);
    match period {
        Period::Minute => format!("{year}-{month}-{days} {hour}:{minute}"),
        Period::Hour => format!("{year}-{month}-{days} {hour}"),
        Period::Day | Period::Week => format!("{year}-{month}-{days}"),
        Period::Month => format!("{year}-{month}"),
        Period::Quarter => format!("{year} quarter {}", (month + 2) / 3),
        Period::HalfYear => format!("{year} half {}", (month + 5) / 6),
        Period::Year => format!("{year}"),
    }
}

/// The newest of each period, newest first. In one zone alone: elsewhere a day may come twice.
fn newest_of_each<'c>(snapshots: &[&'c Candidate], period: Period, zone: i16) -> Vec<&'c Candidate> {
    let mut by_period: BTreeMap<String, &Candidate> = BTreeMap::new();
    for snapshot in snapshots {
        let newest = by_period.entry(leafed(snapshot.time_ns, zone, period)).or_insert(snapshot);
        if (snapshot.time_ns, snapshot.id) > (newest.time_ns, newest.id) {
            *newest = snapshot;
        }
    }
    let mut newest: Vec<&Candidate> = by_period.into_values().collect();
    newest.sort_by_key(|snapshot| Reverse((snapshot.time_ns, snapshot.id)));
    newest
}

/// All that a policy keeps, by the oracle.
fn oracle_of(policy: &Policy, snapshots: &[Candidate], zone: i16) -> BTreeSet<SnapshotId> {
    let horizon = policy.as_of_ns.unwrap_or(NOW);
    let usize_of = |count: &Count| match count {
        Count::None => 0,
        Count::Of(count) => *count as usize,
        Count::Unlimited => usize::MAX,
    };
    let counted: Vec<&Candidate> = snapshots.iter().filter(|snapshot| snapshot.time_ns <= horizon).collect();
    let mut kept: BTreeSet<SnapshotId> = snapshots
        .iter()
        .filter(|snapshot| snapshot.pinned || snapshot.time_ns > horizon)
        .map(|snapshot| snapshot.id)
        .collect();
    for tags in &policy.tags {
        let has = |snapshot: &&Candidate| tags.iter().all(|tag| snapshot.tags.contains(tag));
        kept.extend(snapshots.iter().filter(has).map(|snapshot| snapshot.id));
    }
    let mut sorted = counted.clone();
    sorted.sort_by_key(|snapshot| Reverse((snapshot.time_ns, snapshot.id)));
    kept.extend(sorted.iter().take(usize_of(&policy.last)).map(|snapshot| snapshot.id));
    let newest = sorted.first().map_or(0, |snapshot| snapshot.time_ns);
    let newer_than = |span: CalendarSpan| -> Vec<&Candidate> {
        sorted.iter().copied().filter(|other| i128::from(other.time_ns) > span.before(newest, zone)).collect()
    };
    if !policy.within.is_zero() {
        kept.extend(newer_than(policy.within).iter().map(|snapshot| snapshot.id));
    }
    for period in Period::ALL {
        // Those that are the newest of their period, if fewer than `count` periods are newer; and the oldest of all, if
        // there are fewer than `count` periods.
        let count = usize_of(&policy.periods[period as usize]);
        let newest = newest_of_each(&counted, period, zone);
        let oldest = sorted.last().filter(|_| newest.len() < count);
        kept.extend(newest.iter().take(count).chain(oldest).map(|snapshot| snapshot.id));
        let span = policy.periods_within[period as usize];
        if !span.is_zero() {
            let of_window = newer_than(span);
            let oldest = sorted.last().filter(|_| of_window.len() == sorted.len());
            kept.extend(newest_of_each(&of_window, period, zone).iter().chain(oldest).map(|snapshot| snapshot.id));
        }
    }
    kept
}

fn kept_ids(policy: &Policy, snapshots: &[Candidate]) -> BTreeSet<SnapshotId> {
    let decisions = policy.apply(snapshots, NOW);
    decisions.iter().filter(|decision| decision.keeps()).map(|decision| snapshots[decision.index].id).collect()
}

/// Times that crowd around borders: steps of minutes, hours, days, months from one to the next.
fn some_snapshots() -> impl Strategy<Value = Vec<Candidate>> {
    let step = prop_oneof![Just(0), 1..90i64, 60..3000i64, 1000..20_000i64, 40_000..600_000i64];
    let one = (step, 0..8u8, 0..16u8);
    (proptest::collection::vec(one, 0..40), -10..400i64).prop_map(|(steps, hours_ago)| {
        let mut time_ns = NOW - hours_ago * HOUR;
        let snapshot = |(number, (step, tags, pinned)): (usize, (i64, u8, u8))| {
            time_ns -= step * 60 * SECOND;
            let tags = ["a", "b", "c"].iter().enumerate().filter(|(bit, _)| tags & 1 << bit != 0);
            Candidate {
                id: SnapshotId::new((time_ns / 1_000_000) as u64, [number as u8; 10]),
                time_ns,
                zone_minutes: 0,
                tags: tags.map(|(_, tag)| (*tag).to_owned()).collect(),
                pinned: pinned == 0,
                ..times(time_ns, time_ns)
            }
        };
        steps.into_iter().enumerate().map(snapshot).collect()
    })
}

fn some_count() -> impl Strategy<Value = Count> {
    prop_oneof![4 => Just(Count::None), 3 => (0..6u32).prop_map(Count::Of), 1 => Just(Count::Unlimited)]
}

fn some_span() -> impl Strategy<Value = CalendarSpan> {
    let span = (0..2u32, 0..4u32, 0..20u32, 0..30u32);
    let span = span.prop_map(|(years, months, days, hours)| CalendarSpan { years, months, days, hours });
    prop_oneof![3 => Just(CalendarSpan::default()), 1 => span]
}

fn some_policy() -> impl Strategy<Value = Policy> {
    let counts = proptest::array::uniform8(some_count());
    let spans = proptest::array::uniform8(some_span());
    let tags = proptest::collection::vec(proptest::sample::subsequence(vec!["a", "b", "c"], 1..=2), 0..2);
    let as_of = proptest::option::of((0..3000i64).prop_map(|hours| NOW - hours * HOUR));
    (some_count(), counts, some_span(), spans, tags, as_of).prop_map(
        |(last, periods, within, periods_within, tags, as_of)| {
            let tags = tags.into_iter().map(|tags| tags.into_iter().map(str::to_owned).collect()).collect();
            Policy { last, periods, within, periods_within, tags, as_of_ns: as_of, ..Policy::default() }
        },
    )
}

/// Zones of the snapshots' own, as one would meet them, and as an attacker would write them.
fn with_zones(snapshots: Vec<Candidate>) -> impl Strategy<Value = Vec<Candidate>> {
    let count = snapshots.len();
    proptest::collection::vec(-1439..=1439i16, count..=count).prop_map(move |zones| {
        let with = |(snapshot, zone_minutes): (&Candidate, i16)| Candidate { zone_minutes, ..snapshot.clone() };
        snapshots.iter().zip(zones).map(with).collect()
    })
}

/// Some of them partial.
fn with_partial(snapshots: Vec<Candidate>) -> impl Strategy<Value = Vec<Candidate>> {
    let count = snapshots.len();
    proptest::collection::vec(any::<bool>(), count..=count).prop_map(move |partial| {
        let with = |(snapshot, partial): (&Candidate, bool)| Candidate { partial, ..snapshot.clone() };
        snapshots.iter().zip(partial).map(with).collect()
    })
}

/// What was decided on the complete ones, newest first.
fn on_complete(policy: &Policy, snapshots: &[Candidate]) -> Vec<(SnapshotId, Vec<Reason>, bool)> {
    let decisions = policy.apply(snapshots, NOW).into_iter();
    let decisions = decisions.map(|decision| (&snapshots[decision.index], decision.reasons, decision.counted));
    let complete = decisions.filter(|(snapshot, ..)| !snapshot.partial);
    complete.map(|(snapshot, reasons, counted)| (snapshot.id, reasons, counted)).collect()
}

#[test]
fn a_partial_snapshot_stays_while_no_complete_one_that_counts_is_newer() {
    let partial = |time_ns| Candidate { partial: true, ..taken(time_ns) };
    let policy = Policy::new().keep_last(1);
    let why = Uncounted::Partial.to_string();
    let given = [partial(5), partial(4), taken(3), partial(2), taken(1)];
    let wanted = [(5, why.clone()), (4, why.clone()), (3, "last snapshot".to_owned())];
    assert_eq!(kept(&policy, &given), wanted);
    // One in the future counts for nothing, here neither.
    let given = [taken(NOW + 1), partial(NOW), taken(NOW - 1)];
    assert_eq!(kept(&policy, &given)[1], (NOW, why.clone()));
    // A window is measured from the newest complete one, and what holds any snapshot holds a partial one.
    let within = Policy::new().keep_within("1d".parse().unwrap()).keep_tags(["a"]);
    let held = [Candidate { pinned: true, ..partial(1) }, Candidate { partial: true, ..tagged(2, &["a"]) }];
    let given = [partial(9 * DAY), taken(5 * DAY), taken(4 * DAY + 1)].into_iter().chain(held).collect::<Vec<_>>();
    let reasons: Vec<String> = kept(&within, &given).into_iter().map(|(_, why)| why).collect();
    assert_eq!(reasons, [&why, "within 1d", "within 1d", "has tags [a]", "pinned"]);
    // A group of partial ones alone is not emptied, nor is what is left of it a comfort to a policy.
    assert_eq!(kept(&policy, &[partial(1)]), [(1, why)]);
    let emptied = Policy::new().keep_tags(["a"]).apply(&[partial(2), taken(1)], NOW);
    assert!(empties(&emptied));
}

/// What a stolen client adds removes no partial snapshot before it is of age.
#[test]
fn under_a_guard_a_young_complete_snapshot_takes_no_partial_ones_place() {
    let given = [taken(NOW - DAY), Candidate { partial: true, ..taken(NOW - 30 * DAY) }, taken(NOW - 31 * DAY)];
    let policy = Policy::new().keep_last(1).guard(Guard::new());
    let reasons: Vec<String> = kept(&policy, &given).into_iter().map(|(_, why)| why).collect();
    let wanted = [Uncounted::Young.to_string(), Uncounted::Partial.to_string(), "last snapshot".to_owned()];
    assert_eq!(reasons, wanted);
}

proptest! {
    #[test]
    fn partial_snapshots_change_no_decision_on_complete_ones(
        policy in some_policy(), guarded in any::<bool>(),
        snapshots in some_snapshots().prop_flat_map(with_zones).prop_flat_map(with_partial),
    ) {
        let policy = if guarded { policy.guard(Guard::new()) } else { policy };
        let complete: Vec<_> = snapshots.iter().filter(|snapshot| !snapshot.partial).cloned().collect();
        prop_assert_eq!(on_complete(&policy, &snapshots), on_complete(&policy, &complete));
        let decisions = policy.apply(&snapshots, NOW);
        prop_assert!(decisions.iter().all(|decision| !(decision.counted && snapshots[decision.index].partial)));
    }

    #[test]
    fn the_policy_keeps_what_an_oracle_that_only_counts_keeps(
        policy in some_policy(), snapshots in some_snapshots(), zone in -1439..=1439i16,
    ) {
        let policy = policy.zone(Zone::Minutes(zone));
        prop_assert_eq!(kept_ids(&policy, &snapshots), oracle_of(&policy, &snapshots, zone));
    }

    #[test]
    fn applied_again_to_what_it_kept_a_policy_removes_nothing(
        policy in some_policy(), snapshots in some_snapshots().prop_flat_map(with_zones),
    ) {
        let kept = kept_ids(&policy, &snapshots);
        let left: Vec<_> = snapshots.into_iter().filter(|snapshot| kept.contains(&snapshot.id)).collect();
        prop_assert_eq!(kept_ids(&policy, &left), kept);
    }

    #[test]
    fn partial_ones_that_stayed_stay_when_it_is_applied_again(
        policy in some_policy(), snapshots in some_snapshots().prop_flat_map(with_partial),
    ) {
        let kept = kept_ids(&policy, &snapshots);
        let left: Vec<_> = snapshots.into_iter().filter(|snapshot| kept.contains(&snapshot.id)).collect();
        prop_assert_eq!(kept_ids(&policy, &left), kept);
    }

    #[test]
    fn one_more_rule_never_removes_more(
        policy in some_policy(), more in some_policy(), snapshots in some_snapshots().prop_flat_map(with_zones),
    ) {
        let mut both = policy.clone();
        let most = |one: Count, other: Count| match (one, other) {
            (Count::None, count) | (count, Count::None) => count,
            (Count::Of(one), Count::Of(other)) => Count::Of(one.max(other)),
            _ => Count::Unlimited,
        };
        both.last = most(policy.last, more.last);
        for (mine, others) in both.periods.iter_mut().zip(more.periods) {
            *mine = most(*mine, others);
        }
        if both.within.is_zero() {
            both.within = more.within;
        }
        for (mine, others) in both.periods_within.iter_mut().zip(more.periods_within) {
            if mine.is_zero() {
                *mine = others;
            }
        }
        both.tags.extend(more.tags);
        prop_assert!(kept_ids(&policy, &snapshots).is_subset(&kept_ids(&both, &snapshots)));
    }

    #[test]
    fn the_order_of_the_list_does_not_matter(
        policy in some_policy(), mut snapshots in some_snapshots().prop_flat_map(with_zones), turn in 0..40usize,
    ) {
        let kept = kept_ids(&policy, &snapshots);
        let middle = turn % snapshots.len().max(1);
        snapshots.rotate_left(middle);
        snapshots.reverse();
        prop_assert_eq!(kept_ids(&policy, &snapshots), kept);
    }
}

// ------------------------------------------------------------------------------------------- a stolen client

/// One backup each day at noon, for a year, the newest a day and two hours ago.
fn honest_year() -> Vec<Candidate> {
    (0..365).map(|days| taken(NOW - (days + 1) * DAY - 2 * HOUR)).collect()
}

/// Written at one time, dated at another, in words and in the id.
fn forged(dated_ns: i64, stored_ns: i64) -> Candidate {
    let id = SnapshotId::new((dated_ns.max(0) / 1_000_000) as u64, [0xff; 10]);
    Candidate { id, ..taken(dated_ns) }.at_times(dated_ns, stored_ns)
}

fn usual() -> Policy {
    Policy::new().keep_last(3).keep(Period::Day, 7).keep(Period::Week, 4).keep(Period::Month, 12)
}

/// What is kept of the honest ones.
fn honest_kept(policy: &Policy, honest: &[Candidate], forged: &[Candidate]) -> BTreeSet<SnapshotId> {
    let all: Vec<_> = honest.iter().chain(forged).cloned().collect();
    let kept = kept_ids(policy, &all);
    honest.iter().map(|snapshot| snapshot.id).filter(|id| kept.contains(id)).collect()
}

/// The attack that restic's users reported in September 2026: one snapshot a day, dated a minute before midnight, for each
/// day of the past. Without a guard, and with restic, every honest snapshot goes. With one, none that would have stayed.
#[test]
fn snapshots_dated_to_the_end_of_each_past_day_displace_nothing_under_a_guard() {
    let honest = honest_year();
    let midnight = NOW - NOW.rem_euclid(DAY) - 60 * SECOND;
    let fakes: Vec<_> = (0..400).map(|days| forged(midnight - days * DAY, NOW - HOUR)).collect();
    assert_eq!(honest_kept(&usual(), &honest, &fakes).len(), 1, "the attack works where nothing guards");
    let guarded = usual().guard(Guard::new().min_age_ns(0));
    assert_eq!(honest_kept(&guarded, &honest, &fakes), honest_kept(&guarded, &honest, &[]));
}

#[test]
fn the_record_the_id_and_the_storage_must_agree_within_the_tolerance() {
    let stored = NOW - 30 * DAY;
    let objection = |time_ns: i64, id_ns: i64| Guard::new().objection(&taken(time_ns).at_times(id_ns, stored), NOW);
    assert_eq!(objection(stored, stored), None);
    assert_eq!(objection(stored - DAY, stored - DAY), None, "a backup may take as long as the tolerance");
    for moved in [-DAY - SECOND, DAY + SECOND] {
        assert_eq!(objection(stored + moved, stored), Some(Uncounted::Disputed), "the record lies");
        assert_eq!(objection(stored, stored + moved), Some(Uncounted::Disputed), "the id lies");
        assert_eq!(objection(stored + moved, stored + moved), Some(Uncounted::Disputed), "both do");
    }
    assert_eq!(objection(stored - DAY, stored + DAY), Some(Uncounted::Disputed), "they disagree with each other");
    assert_eq!(objection(i64::MIN, stored), Some(Uncounted::Disputed));
}

#[test]
fn a_hundred_snapshots_at_once_displace_nothing_before_they_are_of_age() {
    let honest = honest_year();
    let fakes: Vec<_> = (0..100).map(|number| taken(NOW - HOUR + number * SECOND)).collect();
    let lost = |policy: &Policy| {
        let before = honest_kept(policy, &honest, &[]);
        before.difference(&honest_kept(policy, &honest, &fakes)).count()
    };
    assert_eq!(lost(&Policy::new().keep_last(30)), 30);
    assert_eq!(lost(&Policy::new().keep_last(30).guard(Guard::new())), 0);
}

/// A day is what the snapshot's zone says, so two zones make as many "days" of one minute as one likes: the rule's places
/// are taken although no time has passed.
#[test]
fn alternating_zones_do_not_make_days() {
    let honest = honest_year();
    let zoned = |number: i64| Candidate {
        zone_minutes: if number % 2 == 0 { 14 * 60 } else { -12 * 60 },
        ..taken(NOW - 10 * DAY + number * SECOND)
    };
    let fakes: Vec<_> = (0..40).map(zoned).collect();
    let of_days = Policy::new().keep(Period::Day, 30);
    let oldest = |policy: &Policy| honest_kept(policy, &honest, &fakes).len();
    assert!(oldest(&of_days) <= 11, "without a guard the fakes take the places");
    assert_eq!(oldest(&of_days.guard(Guard::new())), 6 + 29, "with one they are one day; six are too young to count");
}

#[test]
fn a_snapshot_of_which_the_storage_says_nothing_is_kept_and_not_counted() {
    let given = [Candidate { stored_ms: None, ..taken(NOW - 30 * DAY) }, taken(NOW - 31 * DAY), taken(NOW - 32 * DAY)];
    let policy = Policy::new().keep_last(1).guard(Guard::new());
    let wanted = [Uncounted::Unwitnessed.to_string(), "last snapshot".to_owned()];
    assert_eq!(kept(&policy, &given).into_iter().map(|(_, why)| why).collect::<Vec<_>>(), wanted);
}

/// Anything that a client can write: any time, any zone, any id, pinned or not; the storage's time is not his to choose.
fn anything_written(after_ns: i64, until_ns: i64) -> impl Strategy<Value = Vec<Candidate>> {
    let time = || prop_oneof![Just(None), (-400 * DAY..400 * DAY).prop_map(Some)];
    let one = (after_ns..until_ns, time(), time(), -1439..=1439i16, any::<[u8; 10]>(), any::<bool>());
    let one = one.prop_map(|(stored_ns, moved, id_moved, zone_minutes, random, pinned)| {
        let time_ns = stored_ns + moved.unwrap_or(0);
        let id_ns = stored_ns + id_moved.or(moved).unwrap_or(0);
        let id = SnapshotId::new((id_ns / 1_000_000) as u64, random);
        Candidate { id, zone_minutes, pinned, ..taken(time_ns) }.at_times(id_ns, stored_ns)
    });
    proptest::collection::vec(one, 0..60)
}

proptest! {
    #[test]
    fn what_was_written_within_the_guards_age_changes_no_other_decision(
        policy in some_policy(), forged in anything_written(NOW - 7 * DAY + 1, NOW),
    ) {
        let policy = Policy { as_of_ns: None, ..policy }.guard(Guard::new());
        let honest = honest_year();
        prop_assert_eq!(honest_kept(&policy, &honest, &forged), honest_kept(&policy, &honest, &[]));
    }

    /// Stolen 40 days ago: a rule of n days keeps of the time before what it kept, less the days that have passed since.
    #[test]
    fn since_the_theft_a_rule_of_days_loses_a_day_a_day(
        places in 1..400u32, forged in anything_written(NOW - 40 * DAY, NOW),
    ) {
        let stolen_ns = NOW - 40 * DAY;
        let honest: Vec<_> = honest_year().into_iter().filter(|snapshot| snapshot.time_ns < stolen_ns).collect();
        let guarded = |places| Policy::new().keep(Period::Day, places).guard(Guard::new());
        // Days since the theft, the day of tolerance before it, and the one that both begin in; less the age of those that count.
        let days = 40 + 1 + 1 - 7;
        // The day of tolerance before the theft is shared: its newest may be a forged one.
        let mut before = honest_kept(&guarded(places.saturating_sub(days)), &honest, &[]);
        let shared = Period::Day.number(stolen_ns - DAY, 0);
        before.retain(|id| Period::Day.number(id.started_ms() as i64 * 1_000_000, 0) < shared);
        // The oldest is kept while places are left, of which there may be none now.
        before.remove(&honest.last().expect("many").id);
        prop_assert!(before.is_subset(&honest_kept(&guarded(places), &honest, &forged)));
    }
}
