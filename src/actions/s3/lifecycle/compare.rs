//! The difference between the rules a bucket has and those that were compiled. Pure.

use super::super::setting::{Advice, Comparison, Difference};
use super::compile::{Compiled, Ground, expiry, own_id};
use crate::action::{Lifecycle, LifecycleRule, Moment};

/// Whether this program made a rule for this store.
fn is_own(rule: &LifecycleRule, store: &str) -> bool {
    let own = own_id(store);
    rule.id == own || rule.id.strip_prefix(&own).is_some_and(|rest| rest.starts_with(':'))
}

/// Everything that would be set: the foreign rules as they are, then ours.
pub(super) fn merged(is: &Lifecycle, compiled: &Compiled, store: &str) -> Lifecycle {
    let foreign = is.rules.iter().filter(|rule| !is_own(rule, store)).cloned();
    Lifecycle {
        rules: foreign.chain(compiled.rules.iter().cloned()).collect(),
        smallest_transition: is.smallest_transition.clone(),
    }
}

/// Compares by id. Foreign rules are shown, and judged as ours are: one that deletes what is needed is named.
pub(super) fn compare(is: &Lifecycle, compiled: Compiled, ground: Ground<'_>) -> Comparison {
    let mut compared = Comparison { refusals: compiled.refusals, warnings: compiled.warnings, ..Comparison::default() };
    if !compared.refusals.is_empty() {
        return compared;
    }
    for wished in &compiled.rules {
        match is.rules.iter().find(|rule| rule.id == wished.id) {
            Some(rule) if same(rule, wished) => {}
            found => compared.differences.push(Difference {
                setting: format!("rule `{}`", wished.id),
                is: found.map(told),
                wished: Some(told(wished)),
            }),
        }
    }
    for rule in &is.rules {
        if compiled.rules.iter().any(|wished| wished.id == rule.id) {
            continue;
        }
        if is_own(rule, ground.store) {
            let setting = format!("rule `{}`", rule.id);
            compared.differences.push(Difference { setting, is: Some(told(rule)), wished: None });
        } else {
            foreign(rule, ground, &mut compared);
        }
    }
    compared
}

fn foreign(rule: &LifecycleRule, ground: Ground<'_>, compared: &mut Comparison) {
    compared.kept.push(format!("rule `{}` of others: {}", rule.id, told(rule)));
    let Some(moment) = rule.expiry.filter(|_| rule.enabled) else { return };
    let Some(prefix) = inside(&rule.filter.prefix, ground.root) else { return };
    let mut judged = Compiled::default();
    for kept in ground.kept.iter().filter(|kept| kept.overlaps(prefix)) {
        match moment {
            Moment::AfterDays(days) => expiry(days, kept, ground.versioning, &mut judged),
            Moment::On(day) => judged
                .refusals
                .push(Advice::new(format!("on {day} everything below `{}` would go", kept.prefix), "remove the rule")),
        }
    }
    for danger in judged.refusals {
        let fact = format!("the rule `{}` of others deletes what is needed: {}", rule.id, danger.fact);
        compared.differences.push(Difference { setting: fact.clone(), is: None, wished: None });
        compared
            .warnings
            .push(Advice::new(fact, "have its owner remove it: this step leaves the rules of others alone"));
    }
}

/// A prefix of the bucket as the store sees it; `None` when it is about nothing of the store.
fn inside<'a>(prefix: &'a str, root: &str) -> Option<&'a str> {
    match prefix.strip_prefix(root) {
        Some(rest) => Some(rest),
        None => root.starts_with(prefix).then_some(""),
    }
}

/// The same effect: lists in another order are no difference.
fn same(is: &LifecycleRule, wished: &LifecycleRule) -> bool {
    let sorted = |rule: &LifecycleRule| {
        let mut rule = rule.clone();
        rule.transitions.sort_by(|a, b| (a.when, &a.class).cmp(&(b.when, &b.class)));
        rule.noncurrent_transitions.sort_by(|a, b| (a.days, &a.class).cmp(&(b.days, &b.class)));
        rule
    };
    sorted(is) == sorted(wished)
}

fn moment(moment: Moment) -> String {
    match moment {
        Moment::AfterDays(days) => format!("after {days} days"),
        Moment::On(day) => format!("on {day}"),
    }
}

/// A rule on one line.
pub(super) fn told(rule: &LifecycleRule) -> String {
    let mut words = Vec::new();
    if !rule.enabled {
        words.push("disabled".to_owned());
    }
    words.extend(rule.transitions.iter().map(|step| format!("to {} {}", step.class, moment(step.when))));
    words.extend(rule.expiry.map(|when| format!("expire {}", moment(when))));
    let old = rule.noncurrent_transitions.iter();
    words.extend(old.map(|step| format!("old versions to {} after {} days", step.class, step.days)));
    words.extend(rule.noncurrent_expiry.as_ref().map(|expiry| match expiry.newer_kept {
        Some(kept) => format!("old versions but the newest {kept} go after {} days", expiry.days),
        None => format!("old versions go after {} days", expiry.days),
    }));
    words.extend(rule.abort_uploads_after_days.map(|days| format!("unfinished uploads go after {days} days")));
    if rule.lone_delete_markers {
        words.push("lone delete markers go".to_owned());
    }
    let mut about = format!("`{}*`", rule.filter.prefix);
    if !rule.filter.tags.is_empty() {
        let tags = rule.filter.tags.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>();
        about.push_str(&format!(" with the tags {}", tags.join(", ")));
    }
    format!("{about}: {}", if words.is_empty() { "nothing".to_owned() } else { words.join(", ") })
}
