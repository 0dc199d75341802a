//! What may go, held against a model that is written in another way: one backup at a time, by its own eyes.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use runbook::base::{Digest, Timestamp};
use runbook::catalog::retention::{
    Attestations, Candidate, ClockTrust, ClusterSpan, DamagedManifest, DumpSeries, Elsewhere, KeepReason, Known,
    Moment, Policy, Refusal, RetentionPlan, Survey, WalSegment, plan,
};
use runbook::language::inventory::Retention;
use runbook::pgformat::{Lsn, SegmentName, SegmentSize, SystemId, Timeline};
use serde_json::json;

const CLUSTER: SystemId = SystemId(7_000_000_000_000_000_001);
const SEGMENT: u64 = 16 << 20;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn backup(id: &str, ended: &str) -> Candidate {
    Candidate {
        id: id.to_owned(),
        manifest: Digest::of(id.as_bytes()),
        source: "orders".to_owned(),
        kind: "postgres.dump".to_owned(),
        tier: Some("daily".to_owned()),
        environment: None,
        dump: None,
        parent: None,
        ended_at: at(ended),
        size_bytes: 1,
        cluster: None,
        standing: Attestations::default(),
    }
}

fn policy(value: serde_json::Value) -> Policy {
    Policy::single(serde_json::from_value::<Retention>(value).unwrap())
}

fn moment(now: &str) -> Moment {
    Moment::at(at(now))
}

fn judge(backups: Vec<Candidate>, rules: serde_json::Value, now: &str) -> RetentionPlan {
    plan(&Survey { backups, ..Survey::default() }, &policy(rules), &moment(now))
}

fn removed(plan: &RetentionPlan) -> Vec<&str> {
    plan.remove.iter().map(|removed| removed.backup.id.as_str()).collect()
}

fn reasons<'a>(plan: &'a RetentionPlan, id: &str) -> &'a [KeepReason] {
    &plan.keep.iter().find(|kept| kept.backup.id == id).unwrap().reasons
}

/// One backup a day at noon UTC, the last on the given day.
fn daily(last: &str, count: i32) -> Vec<Candidate> {
    let last: jiff::civil::Date = last.parse().unwrap();
    let day = |back: i32| last.checked_sub(jiff::Span::new().days(back)).unwrap();
    (0..count).map(|back| backup(&day(back).to_string(), &format!("{}T12:00:00Z", day(back)))).collect()
}

/// A server's dumps come one after the other each night: what counts of one database says nothing of another.
#[test]
fn the_dumps_of_each_database_are_a_series_of_their_own_and_those_of_a_part_too() {
    let of = |id: &str, dbname: &str, is_partial: bool, at: &str| Candidate {
        dump: Some(if is_partial { DumpSeries::Part(dbname.to_owned()) } else { DumpSeries::Whole(dbname.to_owned()) }),
        ..backup(id, at)
    };
    let night = |day: &str| {
        vec![
            of(&format!("{day}.billing"), "billing", false, &format!("2026-01-{day}T02:00:00Z")),
            of(&format!("{day}.shop"), "shop", false, &format!("2026-01-{day}T02:00:01Z")),
            of(&format!("{day}.part"), "shop", true, &format!("2026-01-{day}T02:00:02Z")),
        ]
    };
    let all = [night("01"), night("02")].concat();
    for rules in [json!({ "keep_last": 1 }), json!({ "monthly": 12 })] {
        let plan = judge(all.clone(), json!({ "never_below": 1, "default": rules.clone() }), "2026-01-03T00:00:00Z");
        assert_eq!(removed(&plan), ["01.billing", "01.shop", "01.part"], "{rules}");
    }
    let one = [of("1", "billing", false, "2025-01-01T00:00:00Z"), of("2", "shop", false, "2026-01-01T00:00:00Z")];
    let plan =
        judge(one.to_vec(), json!({ "never_below": 1, "default": { "keep_within": "30d" } }), "2026-01-03T00:00:00Z");
    assert!(removed(&plan).is_empty(), "the newest good one of each stays");
    // Whether it was dropped or fails only a person knows: it is said, and nothing goes for it.
    let [stalled] = plan.stalled.as_slice() else { panic!("{:?}", plan.stalled) };
    assert_eq!((&stalled.series, stalled.count), (&DumpSeries::Whole("billing".to_owned()), 1));
    assert!(
        stalled.to_string().contains("dumps of database `billing` of `orders`: the newest is of 2025-01-01"),
        "{stalled}"
    );
    assert!(judge(all, json!({ "default": { "keep_within": "30d" } }), "2026-01-03T00:00:00Z").stalled.is_empty());
}

#[test]
fn thirty_days_and_the_last_seven_stay() {
    let rules = json!({ "tiers": { "daily": { "keep_within": "30d", "keep_last": 7 } } });
    let plan = judge(daily("2026-03-31", 40), rules, "2026-03-31T13:00:00Z");
    assert_eq!((plan.keep.len(), plan.remove.len()), (31, 9), "the day it is counted from is not one of the thirty");
    assert!(plan.remove.iter().all(|removed| removed.why.contains("keep_within: 30d")), "{:?}", plan.remove);
}

#[test]
fn when_backups_stop_expiry_stops_with_them() {
    let rules = json!({ "never_below": 1, "default": { "keep_within": "30d" } });
    let then = judge(daily("2026-03-31", 20), rules.clone(), "2026-03-31T13:00:00Z");
    let years_later = judge(daily("2026-03-31", 20), rules, "2031-03-31T13:00:00Z");
    assert!(then.remove.is_empty() && years_later.remove.is_empty(), "{:?}", removed(&years_later));
}

#[test]
fn seven_years_are_counted_by_the_calendar_of_the_zone() {
    let rules = json!({ "timezone": "Europe/Berlin", "never_below": 1, "default": { "keep_within": "7y" } });
    let ends = ["2019-03-09T22:59:59Z", "2019-03-09T23:00:00Z", "2026-03-10T12:00:00Z"];
    let backups = ends.iter().map(|end| backup(end, end)).collect();
    assert_eq!(removed(&judge(backups, rules, "2026-03-10T13:00:00Z")), ["2019-03-09T22:59:59Z"]);
}

#[test]
fn months_and_years_are_stood_for_by_their_newest() {
    let rules = json!({ "never_below": 1, "default": { "monthly": 3, "yearly": 2 } });
    let plan = judge(daily("2026-03-31", 500), rules, "2026-03-31T13:00:00Z");
    let kept: Vec<&str> = plan.keep.iter().map(|kept| kept.backup.id.as_str()).collect();
    assert_eq!(kept, ["2025-12-31", "2026-01-31", "2026-02-28", "2026-03-31"]);
    assert_eq!(reasons(&plan, "2025-12-31")[0].to_string(), "yearly: 2025");
    assert_eq!(reasons(&plan, "2026-02-28")[0].to_string(), "monthly: 2026-02");
}

#[test]
fn weeks_begin_on_monday_and_days_at_midnight_of_the_zone() {
    let rules = |zone: &str| json!({ "timezone": zone, "never_below": 1, "default": { "daily": 9 } });
    let ends =
        || ["2026-01-28T22:30:00Z", "2026-01-28T23:30:00Z"].iter().map(|end| backup(end, end)).collect::<Vec<_>>();
    assert_eq!(removed(&judge(ends(), rules("UTC"), "2026-01-29T00:00:00Z")), ["2026-01-28T22:30:00Z"]);
    assert!(judge(ends(), rules("Europe/Berlin"), "2026-01-29T00:00:00Z").remove.is_empty(), "two days in Berlin");
    let weekly = json!({ "never_below": 1, "default": { "weekly": 9 } });
    let sunday_and_monday = ["2026-01-04T12:00:00Z", "2026-01-05T12:00:00Z"].map(|end| backup(end, end)).to_vec();
    let plan = judge(sunday_and_monday, weekly, "2026-01-06T00:00:00Z");
    assert_eq!(reasons(&plan, "2026-01-04T12:00:00Z")[0].to_string(), "weekly: 2026-W01");
}

#[test]
fn an_hour_that_happens_twice_is_two_hours() {
    let rules = json!({ "timezone": "Europe/Berlin", "never_below": 1, "default": { "hourly": 9 } });
    let ends = ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"].map(|end| backup(end, end)).to_vec();
    assert!(judge(ends, rules, "2026-10-25T02:00:00Z").remove.is_empty());
}

#[test]
fn a_backup_before_a_deployment_stays_until_a_later_one_is_verified() {
    let rules = json!({ "never_below": 1, "tiers": {
        "before_deployment": { "keep_until": "verified" }, "daily": { "keep_last": 1 } } });
    let before = Candidate { tier: Some("before_deployment".to_owned()), ..backup("before", "2026-01-01T00:00:00Z") };
    let mut after = backup("after", "2026-01-02T00:00:00Z");
    let plan = judge(vec![before.clone(), after.clone()], rules.clone(), "2026-01-03T00:00:00Z");
    assert_eq!(reasons(&plan, "before"), [KeepReason::Unverified]);
    after.standing.verified_at = Some(at("2026-01-02T12:00:00Z"));
    assert_eq!(removed(&judge(vec![before.clone(), after], rules.clone(), "2026-01-03T00:00:00Z")), ["before"]);
    let own = Candidate {
        standing: Attestations { verified_at: Some(at("2026-01-01T12:00:00Z")), ..Attestations::default() },
        ..before
    };
    let plan = judge(vec![own, backup("after", "2026-01-02T00:00:00Z")], rules, "2026-01-03T00:00:00Z");
    assert_eq!(
        reasons(&plan, "before"),
        [KeepReason::Unverified],
        "its own verification tells nothing of what came after"
    );
}

#[test]
fn what_is_held_damaged_last_proven_or_not_spoken_of_stays() {
    let rules = json!({ "never_below": 1, "tiers": { "daily": { "keep_last": 1 } } });
    let with =
        |id: &str, standing: Attestations| Candidate { standing, ..backup(id, &format!("2026-01-0{id}T00:00:00Z")) };
    let backups = vec![
        with("1", Attestations { hold: Some("lawyers: case 7".to_owned()), ..Attestations::default() }),
        with("2", Attestations { damage: Some("digests".to_owned()), ..Attestations::default() }),
        with("3", Attestations { proven_at: Some(at("2026-01-08T00:00:00Z")), ..Attestations::default() }),
        with("4", Attestations { proven_at: Some(at("2026-01-07T00:00:00Z")), ..Attestations::default() }),
        Candidate { tier: Some("odd".to_owned()), ..backup("5", "2026-01-05T00:00:00Z") },
        with("6", Attestations::default()),
    ];
    let plan = judge(backups, rules, "2026-01-09T00:00:00Z");
    assert_eq!(removed(&plan), ["3"], "a newer one is proven too");
    assert_eq!(reasons(&plan, "1")[0].to_string(), "held: lawyers: case 7");
    assert_eq!(reasons(&plan, "5"), [KeepReason::Unruled(Some("odd".to_owned()))]);
}

#[test]
fn damaged_ones_are_no_good_ones() {
    let rules = json!({ "never_below": 2, "default": { "keep_last": 1 } });
    let mut backups = daily("2026-01-05", 5);
    backups[0].standing.damage = Some("digests".to_owned());
    backups[1].standing.damage = Some("digests".to_owned());
    let plan = judge(backups, rules, "2026-01-06T00:00:00Z");
    assert_eq!(removed(&plan), ["2026-01-01"], "two good ones stay beside the two damaged ones");
    assert!(reasons(&plan, "2026-01-03").contains(&KeepReason::Newest));
    assert_eq!(reasons(&plan, "2026-01-02"), [KeepReason::Floor(2)]);
}

#[test]
fn a_chain_stays_whole() {
    let rules = json!({ "never_below": 1, "default": { "keep_last": 1 } });
    let on = |id: &str, parent: &str| Candidate {
        parent: Some(parent.to_owned()),
        ..backup(id, &format!("2026-01-0{id}T00:00:00Z"))
    };
    let full = backup("1", "2026-01-01T00:00:00Z");
    let plan =
        judge(vec![on("4", "2"), on("3", "1"), full.clone(), on("2", "1")], rules.clone(), "2026-01-09T00:00:00Z");
    assert_eq!(removed(&plan), ["3"]);
    assert_eq!(reasons(&plan, "1"), [KeepReason::NeededBy("2".to_owned())]);
    let orphan = judge(vec![full, on("4", "2")], rules, "2026-01-09T00:00:00Z");
    assert!(reasons(&orphan, "1").contains(&KeepReason::Newest), "what its parent is missing for is no good one");
    assert!(matches!(reasons(&orphan, "4"), [KeepReason::Damaged(_)]));
}

#[test]
fn an_increment_rests_on_what_was_taken_in_another_environment() {
    let rules = json!({ "never_below": 1, "default": { "keep_last": 1 } });
    let of = |environment: &str, id: &str, parent: Option<&str>| Candidate {
        environment: Some(environment.to_owned()),
        parent: parent.map(str::to_owned),
        ..backup(id, &format!("2026-01-0{id}T00:00:00Z"))
    };
    let backups = || {
        vec![
            of("production", "1", None),
            of("dr", "2", Some("1")),
            of("dr", "3", Some("2")),
            of("production", "4", None),
        ]
    };
    let plan = judge(backups(), rules.clone(), "2026-01-09T00:00:00Z");
    assert!(plan.remove.is_empty(), "{:?}", removed(&plan));
    assert!(reasons(&plan, "3").contains(&KeepReason::Newest), "it is good: what it rests on is there");
    assert_eq!(reasons(&plan, "1"), [KeepReason::NeededBy("2".to_owned())]);
    let mut later = backups();
    later.push(of("dr", "5", None));
    assert_eq!(removed(&judge(later, rules, "2026-01-09T00:00:00Z")), ["3", "2", "1"], "increments first");
}

#[test]
fn a_clock_in_doubt_stops_everything() {
    let rules = json!({ "never_below": 1, "default": { "keep_last": 1 } });
    let ahead = judge(daily("2026-01-05", 5), rules.clone(), "2026-01-05T11:54:00Z");
    assert!(matches!(ahead.refusals.as_slice(), [Refusal::FromTheFuture { .. }]) && ahead.remove.is_empty());
    assert!(
        !judge(daily("2026-01-05", 5), rules.clone(), "2026-01-05T11:56:00Z").remove.is_empty(),
        "clocks differ a bit"
    );
    let survey = Survey { backups: daily("2026-01-05", 5), ..Survey::default() };
    let known = Known { at: at("2026-01-07T00:00:00Z"), what: "run `x` ended".to_owned() };
    let clock = Moment { known: Some(known), ..moment("2026-01-06T00:00:00Z") };
    let behind = plan(&survey, &policy(rules.clone()), &clock);
    assert!(matches!(behind.refusals.as_slice(), [Refusal::ClockWentBack { .. }]) && behind.remove.is_empty());
    let said = behind.refusals[0].to_string();
    assert!(said.contains("run `x` ended at 2026-01-07T00:00:00Z, 1d 00h later"), "{said}");
    let trusted = plan(&survey, &policy(rules), &clock.trusted(ClockTrust::Asserted));
    assert!(trusted.refusals.is_empty());
    assert_eq!(removed(&trusted), ["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04"]);
}

#[test]
fn with_a_clock_that_is_vouched_for_what_is_dated_in_the_future_stays_and_stands_for_no_other() {
    let rules = json!({ "never_below": 1, "default": { "keep_last": 1 }, "wal": { "keep_within": "1d" } });
    let of_day = |day: u64| base(&day.to_string(), &format!("2026-01-{day:02}T12:00:00Z"), 1, (10 * day, 10 * day + 1));
    let future = Candidate { parent: Some("2".to_owned()), ..base("future", "2026-01-09T12:00:00Z", 1, (60, 61)) };
    let backups = (1..=5).map(of_day).chain([future]).collect();
    let survey = Survey { backups, wal: BTreeMap::from([(CLUSTER, segments(1, 0..70))]), ..Survey::default() };
    let clock = moment("2026-01-06T00:00:00Z").trusted(ClockTrust::Asserted);
    let planned = plan(&survey, &policy(rules), &clock);
    assert!(planned.refusals.is_empty());
    assert_eq!(removed(&planned), ["1", "3", "4"], "the future one's parent stays with it");
    assert_eq!(reasons(&planned, "5")[0], KeepReason::Newest, "the true newest one");
    let why = reasons(&planned, "future")[0].to_string();
    assert_eq!(why, "dated 3d 12h in the future, so its age is not known");
    let gone: Vec<u64> = planned.wal.remove.iter().map(|range| range.segments).collect();
    assert_eq!(gone, [20], "the window of the WAL is not counted from it: what leads on from day 2 stays");
}

#[test]
fn each_environment_has_its_own_policy_and_an_unknown_one_keeps_all() {
    let own: Retention = serde_json::from_value(json!({ "never_below": 1, "default": { "keep_last": 1 } })).unwrap();
    let environments = BTreeMap::from([("staging".to_owned(), own.clone())]);
    let policy = Policy { own, environments };
    let of = |environment: &str| {
        daily("2026-01-05", 3)
            .into_iter()
            .map(|backup| Candidate {
                id: format!("{environment}-{}", backup.id),
                environment: Some(environment.to_owned()),
                ..backup
            })
            .collect::<Vec<_>>()
    };
    let survey = Survey { backups: [of("staging"), of("gone")].concat(), ..Survey::default() };
    let plan = plan(&survey, &policy, &moment("2026-01-06T00:00:00Z"));
    assert_eq!(removed(&plan), ["staging-2026-01-03", "staging-2026-01-04"]);
}

fn base(id: &str, ended: &str, timeline: u32, (start, stop): (u64, u64)) -> Candidate {
    let cluster = ClusterSpan {
        system_id: CLUSTER,
        timeline: Timeline(timeline),
        start: Lsn(start * SEGMENT + 40),
        stop: Lsn(stop * SEGMENT + 300),
        segment_size: SegmentSize::DEFAULT,
    };
    Candidate { kind: "postgres.base".to_owned(), cluster: Some(cluster), ..backup(id, ended) }
}

fn segments(timeline: u32, numbers: std::ops::Range<u64>) -> Vec<WalSegment> {
    let archived_at = at("2026-01-01T00:00:00Z");
    let name = |number| SegmentName::new(Timeline(timeline), number, SegmentSize::DEFAULT);
    numbers.map(|number| WalSegment { name: name(number), size_bytes: SEGMENT, archived_at }).collect()
}

fn wal(backups: Vec<Candidate>, wal: Vec<WalSegment>, rules: serde_json::Value) -> Vec<(u64, u64)> {
    let survey = Survey { backups, wal: BTreeMap::from([(CLUSTER, wal)]), ..Survey::default() };
    let plan = plan(&survey, &policy(rules), &moment("2026-12-31T00:00:00Z"));
    let number = |name: SegmentName| name.number(SegmentSize::DEFAULT);
    plan.wal.remove.iter().map(|range| (number(range.first), number(range.last))).collect()
}

#[test]
fn wal_below_the_oldest_kept_backup_goes_and_nothing_else() {
    let backups =
        || vec![base("a", "2026-02-01T00:00:00Z", 1, (10, 11)), base("b", "2026-03-01T00:00:00Z", 1, (20, 21))];
    let keep = json!({ "default": { "keep_last": 2 } });
    assert_eq!(wal(backups(), segments(1, 0..30), keep.clone()), [(0, 9)]);
    assert_eq!(wal(Vec::new(), segments(1, 0..30), keep.clone()), [], "without a backup nothing says what is needed");
    let survey = Survey {
        backups: backups(),
        damaged: vec![DamagedManifest { key: "orders/base/x/manifest.json".to_owned(), why: "torn".to_owned() }],
        wal: BTreeMap::from([(CLUSTER, segments(1, 0..30))]),
        ..Survey::default()
    };
    assert!(
        plan(&survey, &policy(keep), &moment("2026-12-31T00:00:00Z")).wal.remove.is_empty(),
        "nor with an unreadable one"
    );
}

#[test]
fn a_store_of_wal_alone_keeps_what_any_backup_elsewhere_needs() {
    let backups = || {
        vec![
            base("old", "2026-02-01T00:00:00Z", 1, (10, 11)),
            base("base", "2026-03-01T00:00:00Z", 1, (20, 21)),
            base("new", "2026-03-10T00:00:00Z", 1, (30, 31)),
        ]
    };
    let judged = |elsewhere: Elsewhere, rules: serde_json::Value| {
        let survey = Survey {
            wal: BTreeMap::from([(CLUSTER, segments(1, 0..40))]),
            elsewhere: BTreeMap::from([(CLUSTER, elsewhere)]),
            ..Survey::default()
        };
        let plan = plan(&survey, &policy(rules), &moment("2026-12-31T00:00:00Z"));
        let number = |name: SegmentName| name.number(SegmentSize::DEFAULT);
        let ranges: Vec<_> = plan.wal.remove.iter().map(|range| (number(range.first), number(range.last))).collect();
        (ranges, plan.wal.spared.len())
    };
    let known = |backups, wal| Elsewhere::Known { backups, wal };
    // What a rule will take from those stores is there still.
    let last = || json!({ "default": { "keep_last": 1 }, "never_below": 1 });
    assert_eq!(judged(known(backups(), Vec::new()), last()), (vec![(0, 9)], 0));
    let window = || json!({ "default": { "keep_last": 3 }, "wal": { "keep_within": "7d" } });
    assert_eq!(judged(known(backups(), Vec::new()), window()), (vec![(0, 9), (12, 19)], 0));
    // Only another store has the timeline that is written: the window leads on to it from before the branch.
    let archived_at = at("2026-03-09T00:00:00Z");
    let written = segments(2, 15..35).into_iter().map(|one| WalSegment { archived_at, ..one }).collect();
    assert_eq!(judged(known(backups(), written), window()), (vec![(0, 9)], 0));
    let (ranges, spared) = judged(Elsewhere::Unknown("silent".to_owned()), window());
    assert_eq!((ranges.len(), spared), (0, 1));
    assert_eq!(judged(known(Vec::new(), Vec::new()), window()), (Vec::new(), 1), "nothing says what is needed");
    let ahead = vec![base("ahead", "2027-03-10T00:00:00Z", 1, (30, 31))];
    assert_eq!(judged(known(ahead, Vec::new()), window()), (Vec::new(), 1));
}

#[test]
fn between_archive_backups_only_the_wal_that_makes_them_consistent_stays() {
    let backups = vec![
        base("old", "2026-02-01T00:00:00Z", 1, (10, 11)),
        base("base", "2026-03-01T00:00:00Z", 1, (20, 21)),
        base("new", "2026-03-10T00:00:00Z", 1, (30, 31)),
    ];
    let rules = json!({ "default": { "keep_last": 3 }, "wal": { "keep_within": "7d" } });
    assert_eq!(wal(backups.clone(), segments(1, 0..40), rules.clone()), [(0, 9), (12, 19)]);
    let young =
        segments(1, 0..40).into_iter().map(|s| WalSegment { archived_at: at("2026-03-09T00:00:00Z"), ..s }).collect();
    assert_eq!(wal(backups, young, rules), [], "young WAL stays in any case");
}

#[test]
fn a_timeline_stays_as_long_as_a_backup_before_its_fork() {
    let on_two = segments(2, 12..30);
    let first = base("first", "2026-02-01T00:00:00Z", 1, (10, 11));
    let second = base("second", "2026-03-01T00:00:00Z", 2, (20, 21));
    let keep = json!({ "default": { "keep_last": 2 } });
    let both = [segments(1, 5..15), on_two.clone()].concat();
    assert_eq!(wal(vec![first, second.clone()], both.clone(), keep.clone()), [(5, 9)]);
    assert_eq!(wal(vec![second], both, keep), [(5, 14), (12, 19)], "nobody starts before the fork any more");
}

#[test]
fn the_window_begins_at_a_backup_that_leads_to_the_timeline_it_is_written_on() {
    let backups = || {
        vec![
            base("before", "2026-03-01T00:00:00Z", 1, (10, 11)),
            base("left", "2026-03-06T00:00:00Z", 1, (50, 51)),
            base("after", "2026-03-14T00:00:00Z", 2, (60, 61)),
        ]
    };
    let rules = || json!({ "default": { "keep_last": 3 }, "wal": { "keep_within": "7d" } });
    let archived = |timeline, numbers, day: &str| {
        let segments = segments(timeline, numbers).into_iter();
        segments.map(|one| WalSegment { archived_at: at(day), ..one }).collect::<Vec<_>>()
    };
    let first = || archived(1, 5..55, "2026-03-06T00:00:00Z");
    // A recovery went back to where segment 30 is, and the next backup came only after the window began.
    let live = [archived(2, 30..45, "2026-03-06T12:00:00Z"), archived(2, 45..65, "2026-03-10T00:00:00Z")].concat();
    assert_eq!(wal(backups(), [first(), live].concat(), rules()), [(5, 9)], "every moment of it is promised");
    // A branch that nobody writes any more keeps nothing.
    let given_up = archived(2, 30..40, "2026-02-01T00:00:00Z");
    let mut on_one = backups();
    on_one[2] = base("after", "2026-03-14T00:00:00Z", 1, (60, 61));
    assert_eq!(wal(on_one, [first(), given_up].concat(), rules()), [(5, 9), (12, 49), (30, 39)]);
}

#[test]
fn the_wal_of_an_environment_stays_as_long_as_its_own_policy_says() {
    let of = |wal: &str| -> Retention {
        serde_json::from_value(json!({ "default": { "keep_last": 3 }, "wal": { "keep_within": wal } })).unwrap()
    };
    let policy = Policy { own: of("1d"), environments: BTreeMap::from([("production".to_owned(), of("90d"))]) };
    let backups = [
        ("a", "2026-02-01T00:00:00Z", (10, 11)),
        ("b", "2026-03-01T00:00:00Z", (20, 21)),
        ("c", "2026-03-10T00:00:00Z", (30, 31)),
    ];
    let backups = backups
        .map(|(id, ended, span)| Candidate { environment: Some("production".to_owned()), ..base(id, ended, 1, span) });
    let survey =
        Survey { backups: backups.to_vec(), wal: BTreeMap::from([(CLUSTER, segments(1, 0..30))]), ..Survey::default() };
    let planned = plan(&survey, &policy, &moment("2026-03-02T00:00:00Z")).wal;
    let gone = |number: u64| {
        let name = SegmentName::new(Timeline(1), number, SegmentSize::DEFAULT);
        planned.remove.iter().any(|range| range.contains(CLUSTER, name))
    };
    assert!(!gone(15), "production can go back to any moment between its backups");
}

// ── the model ────────────────────────────────────────────────────────────────────────────────────────────────

#[derive(Debug, Clone)]
struct World {
    backups: Vec<Candidate>,
    wal: Vec<WalSegment>,
    rules: serde_json::Value,
    now: Timestamp,
}

const START: i64 = 1_767_225_600;

fn candidate() -> impl Strategy<Value = Candidate> {
    let standing = (prop::option::weighted(0.2, Just(0)), prop::option::weighted(0.2, Just(0)), 0..20u8, 0..8u8);
    let what = ((0..2u8, any::<bool>()), 0..3u8, prop::option::weighted(0.3, 0..12usize));
    (0..400 * 24i64, standing, what, 0..60u64, 1..3u32).prop_map(
        |(hour, (verified, proven, hold, damage), ((source, elsewhere), tier, parent), start, timeline)| {
            let ended_at = Timestamp::from_second(START + hour * 3600).unwrap();
            let tiers = [None, Some("daily".to_owned()), Some("monthly".to_owned())];
            let standing = Attestations {
                verified_at: verified.map(|_: i32| ended_at),
                proven_at: proven.map(|_: i32| ended_at),
                hold: (hold == 0).then(|| "case".to_owned()),
                damage: (damage == 0).then(|| "flip".to_owned()),
            };
            let span = base("x", "2026-01-01T00:00:00Z", timeline, (start, start + 1)).cluster;
            Candidate {
                source: ["orders", "users"][usize::from(source)].to_owned(),
                tier: tiers[usize::from(tier)].clone(),
                environment: elsewhere.then(|| "dr".to_owned()),
                parent: parent.map(|index| index.to_string()),
                cluster: (source == 0).then_some(span).flatten(),
                standing,
                ended_at,
                ..backup("x", "2026-01-01T00:00:00Z")
            }
        },
    )
}

fn world() -> impl Strategy<Value = World> {
    let count = || prop::option::of(1..4u32);
    let rule = || {
        (count(), count(), count(), count(), prop::option::of(1..60u32), any::<bool>()).prop_map(
            |(last, daily, weekly, monthly, within, until)| {
                let mut rule = json!({ "keep_last": last, "daily": daily, "weekly": weekly, "monthly": monthly });
                if let Some(days) = within {
                    rule["keep_within"] = json!(format!("{days}d"));
                }
                if until {
                    rule["keep_until"] = json!("verified");
                }
                rule
            },
        )
    };
    let wal_rule = prop::option::of(1..90u32);
    (prop::collection::vec(candidate(), 0..12), rule(), prop::option::of(rule()), 1..5u32, wal_rule, 0..100i64)
        .prop_map(|(mut backups, daily, default, floor, wal, late)| {
            for (index, backup) in backups.iter_mut().enumerate() {
                backup.id = index.to_string();
                // An increment is younger than what it rests on, and of its kind.
                backup.parent = backup.parent.take().filter(|parent| parent.parse::<usize>().unwrap() < index);
            }
            let mut rules = json!({ "timezone": "Europe/Berlin", "never_below": floor, "tiers": { "daily": daily } });
            if let Some(default) = default {
                rules["default"] = default;
            }
            if let Some(days) = wal {
                rules["wal"] = json!({ "keep_within": format!("{days}d") });
            }
            let now = Timestamp::from_second(START + (400 * 24 + late) * 3600).unwrap();
            let wal = [segments(1, 0..64), segments(2, 20..64)].concat();
            World { backups, wal, rules, now }
        })
}

impl World {
    fn plan(&self) -> RetentionPlan {
        let wal = BTreeMap::from([(CLUSTER, self.wal.clone())]);
        let survey = Survey { backups: self.backups.clone(), damaged: Vec::new(), wal, ..Survey::default() };
        plan(&survey, &policy(self.rules.clone()), &Moment::at(self.now))
    }

    fn peers<'a>(&'a self, of: &'a Candidate) -> impl Iterator<Item = &'a Candidate> {
        self.kin(of).filter(move |other| other.environment == of.environment)
    }

    /// What an increment may rest on, whatever environment it was taken in.
    fn kin<'a>(&'a self, of: &'a Candidate) -> impl Iterator<Item = &'a Candidate> {
        self.backups.iter().filter(move |other| other.source == of.source)
    }

    fn is_good(&self, backup: &Candidate) -> bool {
        let parent = || backup.parent.as_ref().map(|id| self.kin(backup).find(|other| other.id == *id));
        backup.standing.damage.is_none()
            && parent().is_none_or(|parent| parent.is_some_and(|parent| self.is_good(parent)))
    }

    /// Whether the rule of its tier names a backup, looking at nothing but how many stand before it.
    fn is_named(&self, backup: &Candidate) -> bool {
        let tier = backup.tier.as_ref().and_then(|tier| self.rules["tiers"].get(tier));
        let Some(rule) = tier.or(self.rules.get("default")) else { return true };
        let good = |other: &&Candidate| self.is_good(other);
        let newer = |other: &&Candidate| (other.ended_at, &other.id) > (backup.ended_at, &backup.id);
        let same = |other: &&Candidate| other.tier == backup.tier;
        let newest = self.peers(backup).filter(good).map(|other| other.ended_at).max().unwrap_or(self.now);
        let zone = jiff::tz::TimeZone::get("Europe/Berlin").unwrap();
        let date = |at: Timestamp| at.to_zoned(zone.clone()).date();
        let newer_places = |name: &dyn Fn(&Candidate) -> String| -> (bool, usize) {
            let names: BTreeSet<String> =
                self.peers(backup).filter(good).filter(same).filter(newer).map(name).collect();
            (names.contains(&name(backup)), names.len())
        };
        let stands = |key: &str, name: &dyn Fn(&Candidate) -> String| {
            let (is_taken, before) = newer_places(name);
            rule[key].as_u64().is_some_and(|count| !is_taken && (before as u64) < count)
        };
        let month = |b: &Candidate| date(b.ended_at).first_of_month().to_string();
        let monday = |b: &Candidate| {
            let day = date(b.ended_at);
            day.checked_sub(jiff::Span::new().days(i64::from(day.weekday().to_monday_zero_offset())))
                .unwrap()
                .to_string()
        };
        let within = rule["keep_within"].as_str().is_some_and(|days| {
            let days: i64 = days.trim_end_matches('d').parse().unwrap();
            date(backup.ended_at) >= date(newest).checked_sub(jiff::Span::new().days(days)).unwrap()
        });
        let attested = |other: &&Candidate| other.standing.verified_at.is_some() || other.standing.proven_at.is_some();
        let unverified = rule["keep_until"].is_string()
            && !self.peers(backup).filter(good).filter(attested).any(|other| other.ended_at > backup.ended_at);
        within
            || unverified
            || stands("keep_last", &|b| b.id.clone())
            || stands("daily", &|b| date(b.ended_at).to_string())
            || stands("weekly", &monday)
            || stands("monthly", &month)
    }

    /// What must stay whatever the plan says.
    fn must_stay(&self, backup: &Candidate) -> bool {
        let newest =
            self.peers(backup).filter(|other| self.is_good(other)).max_by_key(|other| (other.ended_at, &other.id));
        !self.is_good(backup) || backup.standing.hold.is_some() || newest == Some(backup) || self.is_named(backup)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn no_plan_removes_what_a_rule_names_or_goes_below(world in world()) {
        let plan = world.plan();
        prop_assert_eq!(plan.keep.len() + plan.remove.len(), world.backups.len());
        for gone in &plan.remove {
            prop_assert!(!world.must_stay(&gone.backup), "{} goes: {}", gone.backup.id, gone.why);
        }
        for kept in &plan.keep {
            prop_assert!(!kept.reasons.is_empty());
            let parent = kept.backup.parent.as_ref();
            prop_assert!(!plan.remove.iter().any(|gone| Some(&gone.backup.id) == parent && gone.backup.source == kept.backup.source));
        }
        for (source, environment) in ["orders", "users"].into_iter().flat_map(|one| [(one, None), (one, Some("dr"))]) {
            let is_of = |backup: &Candidate| backup.source == source && backup.environment.as_deref() == environment;
            let good = |backup: &&Candidate| is_of(backup) && world.is_good(backup);
            let there = world.backups.iter().filter(good).count() as u64;
            let stay = plan.keep.iter().map(|kept| &kept.backup).filter(good).count() as u64;
            prop_assert!(stay >= there.min(world.rules["never_below"].as_u64().unwrap()));
            let proven = |backup: &&Candidate| backup.standing.proven_at.is_some();
            prop_assert_eq!(world.backups.iter().filter(good).any(|b| proven(&b)), plan.keep.iter().map(|kept| &kept.backup).filter(good).any(|b| proven(&b)));
        }
    }

    #[test]
    fn what_goes_is_named_by_no_rule_and_what_stays_has_a_true_reason(world in world()) {
        for kept in &world.plan().keep {
            let of_rules = kept.reasons.iter().any(|reason| matches!(reason,
                KeepReason::Last(..) | KeepReason::Within(_) | KeepReason::Bucket(..) | KeepReason::Unverified | KeepReason::Unruled(_)));
            if of_rules {
                prop_assert!(world.is_named(&kept.backup), "{:?}", kept.reasons);
            }
        }
    }

    #[test]
    fn carried_out_in_whole_or_in_part_it_comes_to_the_same(world in world(), cut in 0..12usize) {
        let plan = world.plan();
        let gone: BTreeSet<&str> = plan.remove.iter().map(|gone| gone.backup.id.as_str()).collect();
        // An increment goes before what it rests on.
        let depth = |backup: &&Candidate| {
            let parent = |one: &&Candidate| {
                let id = one.parent.as_ref()?;
                world.backups.iter().position(|other| other.id == *id)
            };
            let (mut count, mut next) = (0, parent(backup));
            while let Some(at) = next {
                (count, next) = (count + 1, parent(&&world.backups[at]));
            }
            count
        };
        let mut order: Vec<&Candidate> = plan.remove.iter().map(|gone| &gone.backup).collect();
        order.sort_by_key(|backup| std::cmp::Reverse(depth(backup)));
        let first: BTreeSet<&str> = order.iter().take(cut).map(|backup| backup.id.as_str()).collect();
        let without = |ids: &BTreeSet<&str>| World {
            backups: world.backups.iter().filter(|backup| !ids.contains(backup.id.as_str())).cloned().collect(),
            ..world.clone()
        };
        prop_assert!(without(&gone).plan().remove.is_empty(), "once is enough");
        let rest = without(&first).plan();
        let rest: BTreeSet<&str> = rest.remove.iter().map(|gone| gone.backup.id.as_str()).collect();
        prop_assert_eq!(&gone - &first, rest);
    }

    #[test]
    fn later_it_never_keeps_less_without_a_new_backup_and_order_is_irrelevant(world in world(), days in 0..4000i64) {
        let later = World { now: Timestamp::from_second(world.now.as_second() + days * 86_400).unwrap(), ..world.clone() };
        prop_assert_eq!(later.plan(), world.plan(), "time alone removes nothing");
        let mut turned = world.clone();
        turned.backups.reverse();
        turned.wal.reverse();
        prop_assert_eq!(turned.plan(), world.plan());
    }

    #[test]
    fn no_wal_goes_that_a_kept_backup_can_use(world in world()) {
        let plan = world.plan();
        let window = world.rules["wal"]["keep_within"].is_string();
        for range in &plan.wal.remove {
            for segment in world.wal.iter().filter(|segment| range.contains(CLUSTER, segment.name)) {
                let number = segment.name.number(SegmentSize::DEFAULT);
                for kept in &plan.keep {
                    let Some(span) = kept.backup.cluster else { continue };
                    let (first, last) = (span.start.0 / SEGMENT, span.stop.0 / SEGMENT);
                    let same = span.timeline == segment.name.timeline();
                    prop_assert!(!(same && (first..=last).contains(&number)), "segment {number} makes {} consistent", kept.backup.id);
                    let leads_on = segment.name.timeline() >= span.timeline && number >= first;
                    prop_assert!(window || !leads_on, "segment {number} leads on from {}", kept.backup.id);
                }
            }
        }
        let goes: u64 = plan.wal.remove.iter().map(|range| range.segments).sum();
        let listed = world.wal.iter().filter(|s| plan.wal.remove.iter().any(|range| range.contains(CLUSTER, s.name))).count();
        prop_assert_eq!(goes, listed as u64);
    }
}
