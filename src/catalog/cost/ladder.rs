//! The classes an object goes through as it ages, by the bucket's lifecycle rules.

use std::collections::BTreeMap;

use crate::action::{LifecycleFilter, LifecycleRule, Moment, StorageClass};

/// Below this size lifecycle rules leave an object where it is, unless they say another size ("Transitioning objects
/// using Amazon S3 Lifecycle").
const SMALLEST: u64 = 128 * 1024;

/// The classes an object goes through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ladder {
    /// From what age in days it lies in which class, youngest first; the first is day 0.
    pub steps: Vec<(u32, String)>,
    /// The age at which a rule removes it.
    pub expiry_days: Option<u32>,
}

/// An object as rules see it.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Its key inside the bucket, or what its key begins with.
    pub key: &'a str,
    /// Its size.
    pub size_bytes: u64,
    /// Its tags.
    pub tags: &'a BTreeMap<String, String>,
}

impl Ladder {
    /// One class for ever.
    #[must_use]
    pub fn flat(class: &str) -> Self {
        Self { steps: vec![(0, class.to_owned())], expiry_days: None }
    }

    /// What rules make of an object that is put in a class. Rules that act on one day of the calendar are left out.
    #[must_use]
    pub fn of(rules: &[LifecycleRule], subject: Subject<'_>, class: &str) -> Self {
        let mut ladder = Self::flat(class);
        let mut moves: Vec<(u32, &str)> = Vec::new();
        for rule in rules.iter().filter(|rule| rule.enabled && fits(&rule.filter, subject)) {
            let sized = rule.filter.larger_than_bytes.is_some() || rule.filter.smaller_than_bytes.is_some();
            for transition in rule.transitions.iter().filter(|_| sized || subject.size_bytes >= SMALLEST) {
                if let Moment::AfterDays(days) = transition.when {
                    moves.push((days, &transition.class));
                }
            }
            if let Some(Moment::AfterDays(days)) = rule.expiry {
                ladder.expiry_days = Some(ladder.expiry_days.map_or(days, |known| known.min(days)));
            }
        }
        moves.sort_unstable();
        for (days, to) in moves {
            let here = ladder.steps.last().map(|(_, class)| class.as_str()).unwrap_or_default();
            if depth(to) > depth(here) {
                ladder.steps.push((days, to.to_owned()));
            }
        }
        ladder
    }

    /// The class at an age, and since what age.
    #[must_use]
    pub fn at(&self, age_days: u32) -> (u32, &str) {
        let reached = self.steps.iter().rev().find(|(from, _)| *from <= age_days).or(self.steps.first());
        reached.map_or((0, ""), |(from, class)| (*from, class))
    }

    /// How many of the first `days` days an object lies in each class.
    #[must_use]
    pub fn spread(&self, days: u32) -> Vec<(&str, u32)> {
        let days = self.expiry_days.map_or(days, |expiry| expiry.min(days));
        let ends = self.steps.iter().skip(1).map(|(from, _)| *from).chain([u32::MAX]);
        let spans = self.steps.iter().zip(ends);
        spans.map(|((from, class), end)| (class.as_str(), end.min(days).saturating_sub(*from))).collect()
    }
}

/// How far from at hand a class is; one of another provider counts as deepest, so that its own order stands.
fn depth(class: &str) -> u8 {
    StorageClass::named(class).map_or(u8::MAX, |class| class.depth)
}

fn fits(filter: &LifecycleFilter, subject: Subject<'_>) -> bool {
    subject.key.starts_with(&filter.prefix)
        && filter.tags.iter().all(|(name, value)| subject.tags.get(name) == Some(value))
        && filter.larger_than_bytes.is_none_or(|size| subject.size_bytes > size)
        && filter.smaller_than_bytes.is_none_or(|size| subject.size_bytes < size)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Ladder, Subject};
    use crate::action::{LifecycleFilter, LifecycleRule, Moment, Transition};

    fn rule(prefix: &str, moves: &[(u32, &str)], expiry: Option<u32>) -> LifecycleRule {
        let step =
            |(days, class): &(u32, &str)| Transition { when: Moment::AfterDays(*days), class: (*class).to_owned() };
        LifecycleRule {
            enabled: true,
            filter: LifecycleFilter { prefix: prefix.to_owned(), ..LifecycleFilter::default() },
            transitions: moves.iter().map(step).collect(),
            expiry: expiry.map(Moment::AfterDays),
            ..LifecycleRule::default()
        }
    }

    #[test]
    fn rules_lead_deeper_and_never_back() {
        let tags = BTreeMap::new();
        let subject = Subject { key: "prod/orders/base/x/", size_bytes: 1 << 30, tags: &tags };
        let rules = [
            rule("prod/", &[(90, "GLACIER"), (30, "STANDARD_IA")], Some(400)),
            rule("other/", &[(1, "DEEP_ARCHIVE")], Some(2)),
            rule("prod/orders/", &[(120, "STANDARD_IA")], Some(365)),
        ];
        let ladder = Ladder::of(&rules, subject, "STANDARD");
        assert_eq!(ladder.at(0), (0, "STANDARD"));
        assert_eq!(ladder.at(89), (30, "STANDARD_IA"));
        assert_eq!((ladder.at(1000), ladder.expiry_days), ((90, "GLACIER"), Some(365)));
        assert_eq!(ladder.spread(100), [("STANDARD", 30), ("STANDARD_IA", 60), ("GLACIER", 10)]);
        let small = Subject { size_bytes: 1000, ..subject };
        assert_eq!(Ladder::of(&rules, small, "STANDARD").steps.len(), 1, "small objects are not moved");
    }
}
