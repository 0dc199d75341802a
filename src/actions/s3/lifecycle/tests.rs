//! What the compiler refuses, and ten simulated years in which it may delete nothing that is kept.
#![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::compare::{compare, merged};
use super::compile::{Compiled, Ground, compile};
use super::kept::{Content, Kept, KeptBackup};
use super::{LifecycleParams, faults};
use crate::action::{Lifecycle, LifecycleRule, Moment, Versioning};

fn wished(text: &str) -> LifecycleParams {
    serde_json::from_str(text).unwrap()
}

fn backups(longest_days: Option<u32>) -> Kept {
    Kept {
        prefix: "orders/base/".into(),
        content: Content::Backups,
        source: "orders".into(),
        longest_days,
        floor: 3,
        backups: vec![KeptBackup { id: "20260101T000000Z-base".into(), held: false, age_days: 3 }],
    }
}

fn wal() -> Kept {
    Kept { prefix: "orders/wal/".into(), content: Content::Wal, backups: Vec::new(), ..backups(Some(30)) }
}

fn ground(kept: &[Kept], versioning: Versioning) -> Ground<'_> {
    Ground { store: "primary", root: "prod/", versioning, kept }
}

fn expiring(prefix: &str, days: u32) -> LifecycleParams {
    wished(&format!(
        r#"{{ "store": "primary", "prefixes": [ {{ "prefix": "{prefix}", "expire_after": "{days}d" }} ] }}"#
    ))
}

#[track_caller]
fn refused(compiled: &Compiled, words: &str) {
    assert!(compiled.rules.is_empty());
    assert!(compiled.refusals.iter().any(|advice| advice.fact.contains(words)), "{:?}", compiled.refusals);
}

#[test]
fn uploads_that_never_ended_always_go() {
    let kept = [backups(None), wal()];
    let compiled = compile(&wished(r#"{ "store": "primary" }"#), ground(&kept, Versioning::On));
    let [rule] = compiled.rules.as_slice() else { panic!("{compiled:?}") };
    assert_eq!((rule.filter.prefix.as_str(), rule.abort_uploads_after_days, rule.expiry), ("prod/", Some(7), None));
}

#[test]
fn wal_never_goes_by_age_alone() {
    let kept = [backups(Some(30)), wal()];
    for prefix in ["", "orders/", "orders/wal/", "orders/wal/7/00000001/"] {
        refused(&compile(&expiring(prefix, 3000), ground(&kept, Versioning::On)), "WAL by its age alone");
    }
}

#[test]
fn an_expiry_before_the_end_of_retention_is_refused_and_names_a_backup() {
    let kept = [backups(Some(365))];
    let compiled = compile(&expiring("orders/base/", 365), ground(&kept, Versioning::On));
    refused(&compiled, "for up to 365 days, for example `20260101T000000Z-base`");
    assert_eq!(compile(&expiring("orders/base/", 395), ground(&kept, Versioning::On)).rules.len(), 2);
    refused(&compile(&expiring("orders/", 9999), ground(&[backups(None)], Versioning::On)), "without an end");
}

#[test]
fn without_versions_the_last_backups_could_go_for_good() {
    let kept = [backups(Some(30))];
    refused(&compile(&expiring("orders/base/", 400), ground(&kept, Versioning::Suspended)), "the last 3 backups");
}

#[test]
fn a_backup_that_outlived_the_expiry_refuses_it() {
    let mut kept = backups(Some(30));
    kept.backups[0].age_days = 400;
    refused(
        &compile(&expiring("orders/base/", 400), ground(&[kept], Versioning::On)),
        "is 400 days old and still there",
    );
}

#[test]
fn a_held_backup_refuses_every_expiry() {
    let mut kept = backups(Some(30));
    kept.backups[0].held = true;
    refused(&compile(&expiring("orders/base/", 4000), ground(&[kept], Versioning::On)), "which is held");
}

#[test]
fn what_the_catalog_does_not_know_goes_as_wished() {
    let kept = [backups(None), wal()];
    let compiled = compile(&expiring("exports/", 60), ground(&kept, Versioning::On));
    assert_eq!(compiled.rules[1].expiry, Some(Moment::AfterDays(60)));
    assert_eq!(compiled.rules[1].filter.prefix, "prod/exports/");
}

#[test]
fn a_class_that_breaks_the_objective_is_refused() {
    let params = |rto: &str| {
        wished(&format!(
            r#"{{ "store": "primary", {rto} "prefixes": [ {{ "prefix": "orders/base/", "transitions": [ {{ "after": "30d", "to": "GLACIER" }} ] }} ] }}"#
        ))
    };
    let kept = [backups(Some(60))];
    refused(&compile(&params(r#""rto": "4h","#), ground(&kept, Versioning::On)), "waits up to 5h 00m");
    let told = compile(&params(""), ground(&kept, Versioning::On));
    let facts: Vec<&str> = told.warnings.iter().map(|advice| advice.fact.as_str()).collect();
    assert!(facts.iter().any(|fact| fact.contains("stays 30 days in GLACIER and is billed for 90")), "{facts:?}");
    assert!(facts.iter().any(|fact| fact.contains("waits up to 5h 00m")), "{facts:?}");
}

#[test]
fn rules_that_make_no_sense_are_faults() {
    let of = |rules: &str| {
        let found = faults(&wished(&format!(r#"{{ "store": "primary", "prefixes": {rules} }}"#)));
        found.into_iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(of(r#"[ { "prefix": "a/", "expire_after": "90d" } ]"#), "");
    assert!(of(r#"[ { "prefix": "a/", "expire_after": "36h" } ]"#).contains("whole days"));
    assert!(of(r#"[ { "prefix": "a/" }, { "prefix": "a/b/" } ]"#).contains("lie inside each other"));
    let moves =
        |steps: &str| of(&format!(r#"[ {{ "prefix": "a/", "expire_after": "300d", "transitions": [ {steps} ] }} ]"#));
    assert!(moves(r#"{ "after": "1d", "to": "STANDARD_IA" }"#).contains("30 days at the earliest"));
    assert!(moves(r#"{ "after": "1d", "to": "COLD" }"#).contains("not a storage class"));
    assert!(moves(r#"{ "after": "400d", "to": "GLACIER" }"#).contains("before they move"));
    assert!(
        moves(r#"{ "after": "40d", "to": "GLACIER" }, { "after": "90d", "to": "STANDARD_IA" }"#)
            .contains("from GLACIER to STANDARD_IA")
    );
}

#[test]
fn the_rules_of_others_are_kept_and_judged() {
    let kept = [backups(Some(30)), wal()];
    let ground = ground(&kept, Versioning::On);
    let compiled = compile(&wished(r#"{ "store": "primary" }"#), ground);
    let mut foreign = LifecycleRule { id: "theirs".into(), enabled: true, ..LifecycleRule::default() };
    foreign.filter.prefix = "other/".into();
    foreign.expiry = Some(Moment::AfterDays(1));
    let stale = LifecycleRule { id: "runbook:primary:gone/".into(), enabled: true, ..LifecycleRule::default() };
    let near = LifecycleRule { id: "runbook:primary2".into(), enabled: true, ..LifecycleRule::default() };
    let is = Lifecycle { rules: vec![foreign.clone(), stale, near.clone()], smallest_transition: None };

    let compared = compare(&is, compiled.clone(), ground);
    assert_eq!(compared.kept.len(), 2, "{compared:?}");
    let settings: Vec<&str> = compared.differences.iter().map(|d| d.setting.as_str()).collect();
    assert_eq!(settings, ["rule `runbook:primary`", "rule `runbook:primary:gone/`"]);
    let next = merged(&is, &compiled, "primary");
    assert_eq!(next.rules, [foreign.clone(), near, compiled.rules[0].clone()]);
    assert!(compare(&next, compiled.clone(), ground).differences.is_empty());

    foreign.filter.prefix = String::new();
    let is = Lifecycle { rules: vec![foreign, compiled.rules[0].clone()], smallest_transition: None };
    let compared = compare(&is, compiled, ground);
    assert!(compared.differences.iter().any(|d| d.setting.contains("`theirs` of others deletes what is needed")));
}

/// A model of retention, written a second time: days since the first backup, one backup a day.
#[derive(Debug, Clone)]
struct Model {
    within: u32,
    last: usize,
    weekly: usize,
    monthly: usize,
}

impl Model {
    fn keeps(&self, backups: &[u32]) -> BTreeSet<u32> {
        let Some(newest) = backups.last() else { return BTreeSet::new() };
        let mut kept: BTreeSet<u32> = backups.iter().rev().take(self.last.max(3)).copied().collect();
        kept.extend(backups.iter().filter(|day| newest - *day <= self.within));
        for (length, count) in [(7, self.weekly), (31, self.monthly)] {
            let mut buckets = BTreeSet::new();
            for day in backups.iter().rev() {
                if buckets.len() == count {
                    break;
                }
                if buckets.insert(day / length) {
                    kept.insert(*day);
                }
            }
        }
        kept
    }

    fn longest(&self) -> u32 {
        let counted = |count: usize, length: u32| u32::try_from(count).unwrap() * length;
        let weekly = counted(self.weekly, 7);
        self.within.max(counted(self.last.max(3), 1)).max(weekly).max(counted(self.monthly, 31))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_compiled_rule_ever_expires_what_retention_keeps(
        within in 0u32..60, last in 0usize..20, weekly in 0usize..14, monthly in 0usize..25, after in 1u32..1200,
    ) {
        let model = Model { within, last, weekly, monthly };
        let kept = [backups(Some(model.longest()))];
        let compiled = compile(&expiring("orders/base/", after), ground(&kept, Versioning::On));
        let Some(Moment::AfterDays(after)) = compiled.rules.get(1).and_then(|rule| rule.expiry) else {
            prop_assert!(after < model.longest() + super::compile::MARGIN_DAYS);
            return Ok(());
        };
        let mut there: Vec<u32> = Vec::new();
        for today in 0..3653u32 {
            there.push(today);
            let kept = model.keeps(&there);
            there.retain(|day| kept.contains(day));
            let expired: Vec<&u32> = kept.iter().filter(|day| today - *day >= after).collect();
            prop_assert!(expired.is_empty(), "day {today}: {expired:?} are kept and expire after {after} days");
        }
    }
}
