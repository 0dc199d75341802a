//! From what was wished and what retention keeps to lifecycle rules, or to the reason why not. Pure.
//!
//! A lifecycle rule knows an object's age and nothing else: not whether a newer backup exists, not whether this one
//! was proven, held, or is needed by another. So nothing that the catalog may still need goes by age alone.

use super::super::setting::Advice;
use super::kept::{Content, Kept};
use super::{LifecycleParams, PrefixRule, days};
use crate::action::{LifecycleFilter, LifecycleRule, Moment, NoncurrentExpiry, StorageClass, Transition, Versioning};
use crate::base::units::{Span, human_duration};
use crate::language::inventory::RetrievalSpeed;

/// Days between the end of what retention keeps and the earliest expiry behind it.
pub(super) const MARGIN_DAYS: u32 = 30;

/// What the compiler knows of the store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ground<'a> {
    /// The store's name, part of our rules' ids.
    pub(super) store: &'a str,
    /// What its keys begin with inside the bucket.
    pub(super) root: &'a str,
    /// Whether the bucket keeps versions.
    pub(super) versioning: Versioning,
    /// What retention keeps.
    pub(super) kept: &'a [Kept],
}

/// Rules, or the reasons why there are none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Compiled {
    pub(super) rules: Vec<LifecycleRule>,
    pub(super) refusals: Vec<Advice>,
    pub(super) warnings: Vec<Advice>,
}

/// Begins the ids of the rules that this program made for a store.
pub(super) fn own_id(store: &str) -> String {
    format!("runbook:{store}")
}

/// Compiles the rules. Anything refused: no rules at all.
pub(super) fn compile(wished: &LifecycleParams, ground: Ground<'_>) -> Compiled {
    let mut compiled = Compiled::default();
    compiled.rules.push(general(wished, ground));
    if ground.versioning != Versioning::On {
        compiled.warnings.push(Advice::new(
            "the bucket keeps no versions: what is deleted is gone at once",
            "turn them on with `s3.versioning`",
        ));
    }
    for rule in &wished.prefixes {
        compiled.rules.push(one(rule, ground));
        transitions(rule, wished, ground, &mut compiled);
        if let Some(after) = rule.expire_after.and_then(days) {
            for kept in ground.kept.iter().filter(|kept| kept.overlaps(&rule.prefix)) {
                expiry(after, kept, ground.versioning, &mut compiled);
            }
        }
    }
    if !compiled.refusals.is_empty() {
        compiled.rules.clear();
    }
    compiled
}

/// What is right for every bucket: uploads that never ended, old versions, delete markers with nothing behind them.
fn general(wished: &LifecycleParams, ground: Ground<'_>) -> LifecycleRule {
    LifecycleRule {
        id: own_id(ground.store),
        enabled: true,
        filter: LifecycleFilter { prefix: ground.root.to_owned(), ..LifecycleFilter::default() },
        lone_delete_markers: true,
        noncurrent_expiry: days(wished.noncurrent_expire_after).map(|days| NoncurrentExpiry { days, newer_kept: None }),
        abort_uploads_after_days: days(wished.abort_uploads_after),
        ..LifecycleRule::default()
    }
}

fn one(rule: &PrefixRule, ground: Ground<'_>) -> LifecycleRule {
    let transition = |step: &super::TransitionRule| {
        Some(Transition { when: Moment::AfterDays(days(step.after)?), class: step.to.clone() })
    };
    LifecycleRule {
        id: format!("{}:{}", own_id(ground.store), rule.prefix),
        enabled: true,
        filter: LifecycleFilter { prefix: format!("{}{}", ground.root, rule.prefix), ..LifecycleFilter::default() },
        transitions: rule.transitions.iter().filter_map(transition).collect(),
        expiry: rule.expire_after.and_then(days).map(Moment::AfterDays),
        ..LifecycleRule::default()
    }
}

/// Judges an expiry by age over something that retention keeps.
pub(super) fn expiry(after_days: u32, kept: &Kept, versioning: Versioning, compiled: &mut Compiled) {
    let what = format!("an expiry after {after_days} days below `{}`", kept.prefix);
    let leave = "leave it to `backup.prune`, which knows what is needed; old versions of what it deletes go by \
                 `noncurrent_expire_after`";
    match kept.content {
        Content::Wal => {
            let why =
                format!("{what} would delete WAL by its age alone, and the backups that need it could not be restored");
            return compiled.refusals.push(Advice::new(why, leave));
        }
        Content::Backups => {}
    }
    let Some(longest) = kept.longest_days else {
        let why = format!("{what} would delete backups of `{}` that are kept without an end", kept.source);
        return compiled
            .refusals
            .push(Advice::new(why, "give `retention` an end for every tier, or remove the expiry"));
    };
    if let Some(backup) = kept.backups.iter().find(|backup| backup.held) {
        let why = format!("{what} would delete the backup `{}` of `{}`, which is held", backup.id, kept.source);
        return compiled.refusals.push(Advice::new(why, "lift the hold, or remove the expiry"));
    }
    if after_days < longest + MARGIN_DAYS {
        let named = kept.backups.last().map_or_else(String::new, |backup| format!(", for example `{}`", backup.id));
        let why = format!(
            "{what} would delete backups of `{}` that retention keeps for up to {longest} days{named}",
            kept.source
        );
        let help = format!("make it at least {}d, or shorten the retention", longest + MARGIN_DAYS);
        return compiled.refusals.push(Advice::new(why, help));
    }
    if let Some(backup) = kept.backups.iter().find(|backup| backup.age_days >= after_days) {
        let why = format!(
            "{what} would delete the backup `{}` of `{}` at once, which is {} days old and still there",
            backup.id, kept.source, backup.age_days
        );
        return compiled.refusals.push(Advice::new(why, "find out why `backup.prune` keeps it, or remove the expiry"));
    }
    if kept.floor == 0 {
        return;
    }
    if versioning == Versioning::On {
        compiled.warnings.push(Advice::new(
            format!("when no backup of `{}` is made for {after_days} days, {what} hides even the last ones", kept.source),
            "`runbook backups health` has to page long before; until they expire as old versions they can be brought back",
        ));
        return;
    }
    let why = format!(
        "{what} would delete the last {} backups of `{}` once no new ones are made, and the bucket keeps no versions",
        kept.floor, kept.source
    );
    compiled.refusals.push(Advice::new(why, "turn versions on with `s3.versioning`, or remove the expiry"));
}

fn transitions(rule: &PrefixRule, wished: &LifecycleParams, ground: Ground<'_>, compiled: &mut Compiled) {
    for (at, step) in rule.transitions.iter().enumerate() {
        let (Some(class), Some(after)) = (StorageClass::named(&step.to), days(step.after)) else { continue };
        let next = rule.transitions.get(at + 1).and_then(|next| days(next.after));
        let leaves = next.or_else(|| rule.expire_after.and_then(days)).or_else(|| longest(&rule.prefix, ground.kept));
        early(class, (after, leaves), &rule.prefix, compiled);
        small(class, &rule.prefix, compiled);
        for kept in ground.kept.iter().filter(|kept| kept.overlaps(&rule.prefix)) {
            retrieval(class, wished.rto, kept, compiled);
        }
    }
}

fn longest(prefix: &str, kept: &[Kept]) -> Option<u32> {
    kept.iter().filter(|kept| kept.overlaps(prefix)).filter_map(|kept| kept.longest_days).min()
}

/// What leaves a class before its minimum is billed for the rest.
fn early(class: &StorageClass, (after, leaves): (u32, Option<u32>), prefix: &str, compiled: &mut Compiled) {
    let Some(stays) = leaves.map(|leaves| leaves.saturating_sub(after)) else { return };
    if stays < class.minimum_days {
        let fact = format!(
            "what lies below `{prefix}` stays {stays} days in {} and is billed for {}",
            class.name, class.minimum_days
        );
        compiled.warnings.push(Advice::new(fact, "move it later, keep it longer, or choose a class without a minimum"));
    }
}

fn small(class: &StorageClass, prefix: &str, compiled: &mut Compiled) {
    if class.minimum_bytes > 0 || class.overhead_bytes > 0 {
        let fact = format!(
            "in {} an object below `{prefix}` is billed for at least {} KiB, and one below 128 KiB is not moved by default",
            class.name,
            class.billed_bytes(0) / 1024
        );
        compiled.warnings.push(Advice::new(fact, "nothing to do for backups of ordinary size"));
    }
}

/// An archived class makes every restore wait.
fn retrieval(class: &StorageClass, rto: Option<Span>, kept: &Kept, compiled: &mut Compiled) {
    let Some(wait) = class.retrieval(RetrievalSpeed::Standard) else { return };
    let what = match kept.content {
        Content::Wal => "a recovery that needs WAL",
        Content::Backups => "a restore of a backup",
    };
    let fact =
        format!("{what} of `{}` in {} waits up to {} for its retrieval", kept.source, class.name, human_duration(wait));
    match rto {
        Some(rto) if wait >= rto.0 => compiled.refusals.push(Advice::new(
            format!("{fact}, and its objective is {rto}"),
            "choose GLACIER_IR, move only what is older than any backup you would recover from, or change the objective",
        )),
        Some(_) | None => compiled.warnings.push(Advice::new(fact, "count it into the objective (`rto`)")),
    }
}
