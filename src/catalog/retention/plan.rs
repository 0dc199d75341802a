//! The plan: every backup with the reasons that keep it, or with why none does.

use std::collections::BTreeMap;
use std::time::Duration;

use super::chain::Chains;
use super::rule::{self, Bench};
use super::stalled::{Stalled, stalled};
use super::{Candidate, CandidateKey, ClockTrust, KeepReason, Moment, Policy, Refusal, Survey, WalPlan, wal};
use crate::base::units::human_duration;
use crate::base::{Timestamp, clock};
use crate::language::inventory::Retention;

/// How far two clocks may differ before one of them is called wrong.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(300);

/// What stays and what goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RetentionPlan {
    /// What stays, oldest first.
    pub keep: Vec<Kept>,
    /// What no rule keeps, oldest first.
    pub remove: Vec<Removed>,
    /// What of the WAL goes.
    pub wal: WalPlan,
    /// Series of dumps that stay for good, because no newer one of them comes.
    pub stalled: Vec<Stalled>,
    /// Why nothing is removed at all; empty when there is no doubt.
    pub refusals: Vec<Refusal>,
}

/// A backup that stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The backup.
    pub backup: Candidate,
    /// Why, all of it; never empty.
    pub reasons: Vec<KeepReason>,
}

/// A backup that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The backup.
    pub backup: Candidate,
    /// Why nothing keeps it.
    pub why: String,
}

/// What stays so far, of all environments, with every reason.
pub(super) type Reasons<'a> = BTreeMap<CandidateKey<'a>, Vec<KeepReason>>;

/// Plans what may go. The order of what was found is irrelevant; after the plan was carried out, in whole or in
/// part, each increment before what it rests on, the same survey gives the rest of it.
#[must_use]
pub fn plan(survey: &Survey, policy: &Policy, moment: &Moment) -> RetentionPlan {
    let refusals = match moment.trust {
        ClockTrust::Checked => refusals(survey, moment),
        ClockTrust::Asserted => Vec::new(),
    };
    let mut all: Vec<&Candidate> = survey.backups.iter().collect();
    all.sort_by(|a, b| (a.ended_at, &a.id, &a.tier).cmp(&(b.ended_at, &b.id, &b.tier)));
    if !refusals.is_empty() {
        let kept = |backup: &&Candidate| Kept { backup: (*backup).clone(), reasons: vec![KeepReason::Refused] };
        return RetentionPlan { keep: all.iter().map(kept).collect(), refusals, ..RetentionPlan::default() };
    }
    let mut groups: BTreeMap<_, Vec<&Candidate>> = BTreeMap::new();
    for backup in &all {
        groups.entry(backup.group()).or_default().push(backup);
    }
    let (chains, mut kept) = (Chains::of(&all), Reasons::new());
    let mut judged: BTreeMap<_, Judged<'_>> = BTreeMap::new();
    for (key, group) in groups {
        let (environment, ..) = key;
        match (policy.for_environment(environment), environment) {
            (Some(retention), _) => {
                judged.insert(key, judge(&group, &chains, (retention, moment.now), &mut kept));
            }
            (None, name) => {
                for backup in group {
                    let reason = KeepReason::OtherEnvironment(name.unwrap_or_default().to_owned());
                    kept.entry(backup.key()).or_default().push(reason);
                }
            }
        }
    }
    // An increment may rest on a backup of another environment, so all are closed together, before the floor and after.
    chains.close(&mut kept);
    judged.values().for_each(|one| floor(&one.good, one.retention.floor(), &mut kept));
    chains.close(&mut kept);
    let mut plan = RetentionPlan::default();
    for backup in all {
        match (kept.get(&backup.key()), judged.get(&backup.group())) {
            (Some(reasons), _) => plan.keep.push(Kept { backup: backup.clone(), reasons: reasons.clone() }),
            (None, Some(group)) => plan.remove.push(Removed { backup: backup.clone(), why: group.why(backup) }),
            // What nobody judged is kept above.
            (None, None) => {}
        }
    }
    // An increment goes before what it rests on: whoever stops in between leaves nothing that is of no use.
    plan.remove.sort_by_cached_key(|removed| std::cmp::Reverse(chains.depth(&removed.backup)));
    plan.stalled = stalled(&plan.keep.iter().map(|kept| &kept.backup).collect::<Vec<_>>());
    plan.wal = wal::plan(survey, &plan.keep, policy, moment.now);
    plan
}

/// Tells whether a backup ended later than the clock says, by more than clocks differ.
pub(super) fn is_future(backup: &Candidate, now: Timestamp) -> bool {
    backup.ended_at > clock::after(now, CLOCK_TOLERANCE)
}

fn refusals(survey: &Survey, moment: &Moment) -> Vec<Refusal> {
    let now = moment.now;
    let latest = clock::after(now, CLOCK_TOLERANCE);
    let known = moment.known.clone().filter(|known| known.at > latest);
    let behind = known.map(|known| Refusal::ClockWentBack { now, known });
    let future = survey.backups.iter().filter(|backup| is_future(backup, now)).max_by_key(|backup| backup.ended_at);
    let future = future.map(|backup| Refusal::FromTheFuture { id: backup.id.clone(), ended_at: backup.ended_at, now });
    behind.into_iter().chain(future).collect()
}

/// The backups of one environment, source and kind, held against the rules.
struct Judged<'a> {
    /// The good ones, newest first.
    good: Vec<&'a Candidate>,
    /// The rules.
    retention: &'a Retention,
    /// What ages are counted from.
    anchor: Timestamp,
}

/// Names what stays of one environment, source and kind, oldest first, for its own sake.
///
/// One that is dated in the future stays, and stands for no other: who takes it for the newest lets the true one go.
fn judge<'a>(
    group: &[&'a Candidate],
    chains: &Chains<'a>,
    (retention, now): (&'a Retention, Timestamp),
    kept: &mut Reasons<'a>,
) -> Judged<'a> {
    let counts = |backup: &&Candidate| chains.is_good(backup) && !is_future(backup, now);
    let good: Vec<&Candidate> = group.iter().rev().copied().filter(counts).collect();
    let anchor = good.first().map_or(now, |newest| newest.ended_at.min(now));
    for backup in group.iter().filter(|backup| is_future(backup, now)) {
        let by = clock::between(now, backup.ended_at);
        kept.entry(backup.key()).or_default().push(KeepReason::FromTheFuture(by));
    }
    named(group, chains, kept);
    by_rule(&good, retention, anchor, kept);
    if let Some(newest) = good.first() {
        kept.entry(newest.key()).or_default().insert(0, KeepReason::Newest);
    }
    if let Some(proven) = good.iter().find(|backup| backup.standing.proven_at.is_some()) {
        kept.entry(proven.key()).or_default().push(KeepReason::LastProven);
    }
    unruled(group, retention, kept);
    Judged { good, retention, anchor }
}

/// What people and damage keep.
fn named<'a>(group: &[&'a Candidate], chains: &Chains<'a>, kept: &mut Reasons<'a>) {
    for backup in group {
        if let Some(why) = &backup.standing.hold {
            kept.entry(backup.key()).or_default().push(KeepReason::Held(why.clone()));
        }
        let damage = match &backup.standing.damage {
            Some(what) => what.clone(),
            None if chains.is_good(backup) => continue,
            None => "what it is an increment to is missing or damaged".to_owned(),
        };
        kept.entry(backup.key()).or_default().push(KeepReason::Damaged(damage));
    }
}

/// What the rules of the tiers keep among the good ones, newest first.
fn by_rule<'a>(good: &[&'a Candidate], retention: &Retention, anchor: Timestamp, kept: &mut Reasons<'a>) {
    let attested = |backup: &&&Candidate| backup.standing.verified_at.is_some() || backup.standing.proven_at.is_some();
    let verified_until = good.iter().find(attested).map(|backup| backup.ended_at);
    let mut tiers: BTreeMap<Option<&str>, Vec<&Candidate>> = BTreeMap::new();
    for backup in good {
        tiers.entry(backup.tier.as_deref()).or_default().push(backup);
    }
    let zone = retention.zone();
    for (tier, backups) in tiers {
        if let Some(rule) = retention.rule(tier) {
            rule::keep(rule, &Bench { backups, anchor, zone: zone.as_tz(), verified_until }, kept);
        }
    }
}

/// What no rule speaks of.
fn unruled<'a>(group: &[&'a Candidate], retention: &Retention, kept: &mut Reasons<'a>) {
    for backup in group.iter().filter(|backup| retention.rule(backup.tier.as_deref()).is_none()) {
        kept.entry(backup.key()).or_default().push(KeepReason::Unruled(backup.tier.clone()));
    }
}

/// Keeps the newest good ones that are missing to the floor.
fn floor<'a>(good: &[&'a Candidate], floor: usize, kept: &mut Reasons<'a>) {
    let mut count = good.iter().filter(|backup| kept.contains_key(&backup.key())).count();
    for backup in good {
        if count >= floor {
            return;
        }
        if let std::collections::btree_map::Entry::Vacant(free) = kept.entry(backup.key()) {
            free.insert(vec![KeepReason::Floor(floor)]);
            count += 1;
        }
    }
}

impl Judged<'_> {
    /// Why nothing keeps a backup.
    fn why(&self, backup: &Candidate) -> String {
        let age = human_duration(clock::between(backup.ended_at, self.anchor));
        let tier = backup.tier.as_ref().map_or("no tier".to_owned(), |tier| format!("tier `{tier}`"));
        let rule = self.retention.rule(backup.tier.as_deref()).map(ToString::to_string).unwrap_or_default();
        format!("{tier} keeps {rule}; it is {age} older than the newest")
    }
}
