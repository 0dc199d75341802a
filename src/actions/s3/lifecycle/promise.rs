//! What the inventory's retention promises, in numbers of days.

use jiff::tz::TimeZone;

use crate::base::Timestamp;
use crate::base::age::Age;
use crate::language::inventory::{Inventory, KeepRule, Retention};

/// Seconds of a day.
const DAY: i64 = 86_400;

/// How long backups are kept at most while new ones are made, and how many whatever their age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Promise {
    /// `None`: without an end.
    pub(super) longest_days: Option<u32>,
    /// At least so many, whatever their age.
    pub(super) floor: u32,
}

/// What is promised of the backups of a tier that are made every so many days: the most that any environment of
/// the inventory promises. Where nothing is said, everything is kept for ever.
pub(super) fn of(inventory: &Inventory, tier: Option<&str>, every_days: u32) -> Promise {
    let base = || inventory.retention.clone().unwrap_or_default();
    let own = inventory.environments.values().filter_map(|environment| environment.retention.as_ref());
    let policies: Vec<Retention> = std::iter::once(base()).chain(own.map(|own| base().overlaid(own))).collect();
    let longest: Option<Vec<u32>> =
        policies.iter().map(|policy| policy.rule(tier).and_then(|rule| longest(rule, every_days))).collect();
    let last = |policy: &Retention| policy.rule(tier).and_then(|rule| rule.keep_last).unwrap_or_default();
    let floor = policies.iter().map(|policy| last(policy).max(u32::try_from(policy.floor()).unwrap_or(u32::MAX))).max();
    Promise { longest_days: longest.and_then(|all| all.into_iter().max()), floor: floor.unwrap_or(1) }
}

/// The longest that a rule keeps one, a day more than exact; `None` when there is no end.
fn longest(rule: &KeepRule, every_days: u32) -> Option<u32> {
    let KeepRule { keep_last, keep_within, hourly, daily, weekly, monthly, yearly, keep_until } = rule;
    if keep_until.is_some() {
        return None;
    }
    let counted = [(keep_last, 1), (hourly, 1), (daily, 1), (weekly, 7), (monthly, 31), (yearly, 366)];
    let counted = counted.iter().filter_map(|(count, days)| Some((**count)?.saturating_mul(every_days.max(*days))));
    counted.chain(keep_within.map(days)).max().map(|days| days.saturating_add(1))
}

/// An age in days, leap years counted.
fn days(age: Age) -> u32 {
    let anchors = ["2028-03-01T00:00:00Z", "2029-01-01T00:00:00Z", "2031-03-31T23:59:59Z"];
    let anchors = anchors.iter().filter_map(|text| text.parse::<Timestamp>().ok());
    let back = anchors.map(|anchor| anchor.as_second() - age.before(anchor, &TimeZone::UTC).as_second());
    u32::try_from(back.max().unwrap_or(i64::MAX) / DAY + 1).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]

    use serde_json::json;

    use super::{Inventory, of};

    fn inventory(retention: serde_json::Value) -> Inventory {
        Inventory { retention: Some(serde_json::from_value(retention).unwrap()), ..Inventory::default() }
    }

    #[test]
    fn the_longest_rule_counts_and_seven_years_have_leap_days() {
        let inventory = inventory(json!({
            "tiers": { "monthly": { "monthly": 12, "keep_within": "7y" }, "daily": { "keep_within": "30d", "keep_last": 7 } },
            "default": { "daily": 7 },
        }));
        assert!((2557..2561).contains(&of(&inventory, Some("monthly"), 31).longest_days.unwrap()));
        let daily = of(&inventory, Some("daily"), 1);
        assert!((30..34).contains(&daily.longest_days.unwrap()));
        assert_eq!(daily.floor, 7);
        assert_eq!(of(&inventory, None, 1).longest_days, Some(8));
        assert_eq!(of(&inventory, None, 30).longest_days, Some(211), "seven days that have a backup, one a month");
    }

    #[test]
    fn what_nothing_is_said_of_is_kept_for_ever() {
        assert_eq!(of(&Inventory::default(), None, 1).longest_days, None);
        let some = inventory(json!({ "tiers": { "daily": { "keep_within": "30d" } } }));
        assert_eq!(of(&some, Some("monthly"), 1).longest_days, None);
        let until = inventory(json!({ "default": { "keep_within": "14d", "keep_until": "verified" } }));
        assert_eq!(of(&until, None, 1).longest_days, None);
    }

    #[test]
    fn the_environment_that_keeps_longest_counts() {
        let mut inventory = inventory(json!({ "default": { "keep_within": "10d" } }));
        let own = json!({ "retention": { "default": { "keep_within": "90d" } } });
        inventory.environments.insert("production".into(), serde_json::from_value(own).unwrap());
        assert!((90..94).contains(&of(&inventory, None, 1).longest_days.unwrap()));
    }
}
