#![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]

use std::time::Duration;

use serde_json::json;

use super::{Ground, Lot, OldVersions, Outlook, TooShort, WalLot, outlook};
use crate::base::{Digest, Timestamp, clock};
use crate::catalog::cost::{Ladder, PriceTable};
use crate::catalog::retention::{Attestations, Candidate, ClusterSpan, Policy};
use crate::pgformat::{Lsn, SegmentSize, SystemId, Timeline};

const GIB: u64 = 1 << 30;

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn days_ago(days: u64) -> Timestamp {
    clock::before(now(), Duration::from_secs(days * 86_400 + 3600))
}

/// Daily base backups of one GiB, the newest an hour old.
fn daily(count: u64, ladder: &Ladder) -> Vec<Lot> {
    let span = ClusterSpan {
        system_id: SystemId(1),
        timeline: Timeline(1),
        start: Lsn(1),
        stop: Lsn(2),
        segment_size: SegmentSize::DEFAULT,
    };
    let lot = |ago: u64| Lot {
        candidate: Candidate {
            id: format!("b{ago}"),
            manifest: Digest::default(),
            source: "orders".to_owned(),
            kind: "postgres.base".to_owned(),
            tier: None,
            environment: None,
            dump: None,
            parent: None,
            ended_at: days_ago(ago),
            size_bytes: GIB,
            cluster: Some(span),
            standing: Attestations::default(),
        },
        objects: 4,
        ladder: ladder.clone(),
    };
    (0..count).map(lot).collect()
}

fn policy(retention: serde_json::Value) -> Policy {
    Policy::single(serde_json::from_value(retention).unwrap())
}

struct Case {
    policy: Option<Policy>,
    old_versions: OldVersions,
    ladder: Ladder,
    wal: Vec<WalLot>,
    wal_ladder: Ladder,
    days: u32,
}

impl Case {
    fn new(policy: Option<Policy>) -> Self {
        let standard = Ladder::flat("STANDARD");
        let (ladder, wal_ladder) = (standard.clone(), standard);
        Self { policy, old_versions: OldVersions::Gone, ladder, wal: Vec::new(), wal_ladder, days: 365 }
    }

    fn look(&self, count: u64) -> Outlook {
        let table = PriceTable::own().unwrap();
        let ground = Ground {
            policy: self.policy.as_ref(),
            old_versions: self.old_versions,
            tariff: Some(&table.regions["us-east-1"]),
            now: now(),
            days: self.days,
            wal_ladder: &self.wal_ladder,
        };
        outlook(daily(count, &self.ladder), &self.wal, ground)
    }
}

fn gib(outlook: &Outlook, class: &str) -> u64 {
    outlook.stock.0.get(class).map_or(0, |pile| pile.size_bytes / GIB)
}

#[test]
fn what_retention_keeps_stays_and_what_nothing_prunes_grows() {
    let kept = Case::new(Some(policy(json!({ "default": { "keep_last": 7 } })))).look(3);
    assert_eq!((gib(&kept, "STANDARD"), kept.lingering.0.len()), (7, 0));
    assert_eq!(kept.stock.0["STANDARD"].objects, 28);
    let grows = Case::new(None).look(3);
    assert_eq!(gib(&grows, "STANDARD"), 368);
}

#[test]
fn a_class_with_a_minimum_that_outlives_retention_is_named_and_billed_on() {
    let mut case = Case::new(Some(policy(json!({ "default": { "keep_within": "40d" } }))));
    case.ladder = Ladder { steps: vec![(0, "STANDARD".to_owned()), (30, "GLACIER".to_owned())], expiry_days: None };
    let told = case.look(3);
    assert_eq!(gib(&told, "STANDARD"), 30);
    let [TooShort { class, kept_days, minimum_days, .. }] = told.too_short.as_slice() else {
        panic!("{:?}", told.too_short)
    };
    assert_eq!((class.as_str(), *minimum_days), ("GLACIER", 90));
    assert!((10..=12).contains(kept_days), "{kept_days}");
    let lingering = told.lingering.0["GLACIER"].size_bytes / GIB;
    assert!((78..=81).contains(&lingering), "{lingering} days' backups are billed though they are gone");
}

#[test]
fn old_versions_are_billed_until_a_rule_removes_them() {
    let mut case = Case::new(Some(policy(json!({ "default": { "keep_last": 7 } }))));
    case.old_versions = OldVersions::Days(30);
    let lingering = case.look(7).lingering.0["STANDARD"].size_bytes / GIB;
    assert_eq!(lingering, 30);
    case.old_versions = OldVersions::ForEver;
    let lingering = case.look(7).lingering.0["STANDARD"].size_bytes / GIB;
    assert!((364..=366).contains(&lingering), "{lingering}");
}

#[test]
fn wal_of_seven_days_in_a_class_of_thirty_is_billed_for_thirty() {
    let retention = json!({ "default": { "keep_last": 3 }, "wal": { "keep_within": "7d" } });
    let mut case = Case::new(Some(policy(retention)));
    case.wal_ladder = Ladder::flat("STANDARD_IA");
    // Ten a day, of 16 MiB.
    let at = |n: u64| clock::before(now(), Duration::from_secs(n * 8640));
    case.wal = (0..50).map(|n| WalLot { size_bytes: 16 << 20, archived_at: at(n) }).collect();
    let told = case.look(10);
    let kept = told.stock.0["STANDARD_IA"];
    let days = kept.size_bytes / (160 << 20);
    assert!((3..=9).contains(&days), "{days} days of WAL");
    assert!(told.too_short.iter().any(|one| one.what == "WAL" && one.minimum_days == 30), "{:?}", told.too_short);
    assert!(told.lingering.0["STANDARD_IA"].size_bytes > kept.size_bytes, "{told:?}");
}

#[test]
fn two_tries_in_one_second_are_no_pace() {
    let case = Case::new(None);
    let mut lots = daily(2, &case.ladder);
    lots[1].candidate.ended_at = clock::before(lots[0].candidate.ended_at, Duration::from_millis(80));
    let ground = Ground {
        policy: None,
        old_versions: OldVersions::Gone,
        tariff: None,
        now: now(),
        days: 3650,
        wal_ladder: &case.wal_ladder,
    };
    let told = outlook(lots, &[], ground);
    assert_eq!((gib(&told, "STANDARD"), told.without_pace.len()), (2, 1));
}

#[test]
fn one_backup_alone_has_no_pace_and_stays_as_it_is() {
    let told = Case::new(Some(policy(json!({ "default": { "keep_last": 7 } })))).look(1);
    assert_eq!((gib(&told, "STANDARD"), told.without_pace.len()), (1, 1));
}
