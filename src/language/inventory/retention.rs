//! How long backups are kept. Without it nothing is ever pruned.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::file::InventoryFile;
use super::{Inventory, is_name};
use crate::base::age::Age;
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::base::zone::Zone;

/// How many good backups of a source and kind are never gone below, unless the policy says another number.
const NEVER_BELOW: u32 = 3;

/// How long backups are kept, by tier.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// The zone whose days, weeks, months and years count. Default `UTC`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<Zone>,
    /// How many good backups of each source and kind stay, whatever else is said. Default 3, at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub never_below: Option<u32>,
    /// Rules by tier.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tiers: BTreeMap<String, KeepRule>,
    /// The rule of backups without a tier, and of tiers without a rule. Without it they are kept for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<KeepRule>,
    /// What WAL is kept. Default: all of it from the oldest kept backup on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wal: Option<WalRule>,
}

/// What keeps a backup: any one of these is enough.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeepRule {
    /// The last so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub keep_last: Option<u32>,
    /// Those at most this much older than the newest of the same source and kind: `30d`, `12w`, `7y`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_within: Option<Age>,
    /// The newest of each of the last so many hours that have a backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub hourly: Option<u32>,
    /// The newest of each of the last so many days that have a backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub daily: Option<u32>,
    /// The newest of each of the last so many weeks, from Monday, that have a backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub weekly: Option<u32>,
    /// The newest of each of the last so many months that have a backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub monthly: Option<u32>,
    /// The newest of each of the last so many years that have a backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub yearly: Option<u32>,
    /// Every one until this has happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_until: Option<KeepUntil>,
}

/// What must have happened before a backup may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeepUntil {
    /// A later backup of the same source and kind was verified or proven: what came after is safe too.
    Verified,
}

/// What WAL is kept beside what kept backups cannot do without.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WalRule {
    /// How far back every point in time can be restored, counted from the newest backup. Older backups keep only
    /// the WAL that makes them consistent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_within: Option<Age>,
}

impl Retention {
    /// The zone whose calendar counts.
    #[must_use]
    pub fn zone(&self) -> Zone {
        self.timezone.clone().unwrap_or_default()
    }

    /// How many good backups of a source and kind stay.
    #[must_use]
    pub fn floor(&self) -> usize {
        usize::try_from(self.never_below.unwrap_or(NEVER_BELOW).max(1)).unwrap_or(usize::MAX)
    }

    /// The rule of a tier; `None` keeps everything.
    #[must_use]
    pub fn rule(&self, tier: Option<&str>) -> Option<&KeepRule> {
        tier.and_then(|tier| self.tiers.get(tier)).or(self.default.as_ref())
    }

    /// The same with what another one says instead: whole tiers by name, everything else as a whole.
    #[must_use]
    pub fn overlaid(&self, other: &Self) -> Self {
        let mut tiers = self.tiers.clone();
        tiers.extend(other.tiers.clone());
        Self {
            timezone: other.timezone.clone().or_else(|| self.timezone.clone()),
            never_below: other.never_below.or(self.never_below),
            tiers,
            default: other.default.clone().or_else(|| self.default.clone()),
            wal: other.wal.clone().or_else(|| self.wal.clone()),
        }
    }
}

impl Inventory {
    /// The policy of an environment, known or not; `None` when nothing is said: then nothing is pruned.
    #[must_use]
    pub fn retention_in(&self, environment: &str) -> Option<Retention> {
        let own = self.environments.get(environment).and_then(|environment| environment.retention.as_ref());
        match (&self.retention, own) {
            (Some(base), Some(own)) => Some(base.overlaid(own)),
            (base, own) => own.or(base.as_ref()).cloned(),
        }
    }
}

impl KeepRule {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for KeepRule {
    /// Writes the rule as the inventory does: `keep_last: 7, monthly: 12`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            ("keep_last", self.keep_last),
            ("hourly", self.hourly),
            ("daily", self.daily),
            ("weekly", self.weekly),
            ("monthly", self.monthly),
            ("yearly", self.yearly),
        ];
        let within = self.keep_within.map(|age| format!("keep_within: {age}"));
        let counted = counts.iter().filter_map(|(name, count)| count.map(|count| format!("{name}: {count}")));
        let until = self.keep_until.map(|KeepUntil::Verified| "keep_until: verified".to_owned());
        let words: Vec<String> = within.into_iter().chain(counted).chain(until).collect();
        f.write_str(&words.join(", "))
    }
}

impl InventoryFile {
    /// Rules that keep nothing, and names that no backup can have.
    pub(super) fn keeping(&self, faults: &mut Diagnostics) {
        let own = self.environments.iter().filter_map(|(name, environment)| {
            Some((format!("/environments/{name}/retention"), environment.retention.as_ref()?))
        });
        let base = self.retention.iter().map(|retention| ("/retention".to_owned(), retention));
        for (pointer, retention) in base.chain(own) {
            let default = retention.default.iter().map(|rule| (format!("{pointer}/default"), rule));
            let tiers = retention.tiers.iter().map(|(tier, rule)| (format!("{pointer}/tiers/{tier}"), rule));
            for (pointer, _) in tiers.chain(default).filter(|(_, rule)| rule.is_empty()) {
                let fault = Diagnostic::new(Code::MissingKey, "the rule keeps nothing").at(self.place(&pointer));
                faults.push(
                    fault.help("say what it keeps: `{ keep_last: 7 }`, `{ keep_within: 30d }`, `{ monthly: 12 }`"),
                );
            }
            for tier in retention.tiers.keys().filter(|tier| !is_name(tier)) {
                let place = self.name_place(&format!("{pointer}/tiers/{tier}"));
                let fault = Diagnostic::new(Code::BadName, format!("`{tier}` cannot name a tier")).at(place);
                faults.push(fault.help("lower-case letters, digits, `_` and `-`, beginning with a letter"));
            }
        }
    }
}
