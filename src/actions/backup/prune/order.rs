//! What goes in this step: what was planned and shown, as far as it is still planned.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PruneParams;
use super::bond::Bonds;
use crate::action::Unfinished;
use crate::base::{Digest, Timestamp, clock};
use crate::catalog::family;
use crate::catalog::retention::{KeepReason, Kept, RetentionPlan};
use crate::catalog::survey::{Holdings, Orphan, WalObject};
use crate::pgformat::{SegmentName, SystemId};

/// What to do when a plan does not fit any more.
pub(super) const ANEW: &str = "plan again with `runbook backups prune --plan`; nothing was removed";

/// For how long nothing may have been written where a backup was never finished.
const ORPHANED_AFTER: Duration = Duration::from_secs(7 * 86_400);

/// A plan as it was shown.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PlannedPrune {
    /// The backups that go.
    pub backups: Vec<PlannedBackup>,
    /// The WAL that goes.
    pub wal: Vec<PlannedWal>,
    /// The folders without a manifest that go.
    pub orphans: Vec<String>,
    /// The keys of what writers did not finish, which goes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unfinished: Vec<String>,
}

/// A backup that is planned to go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlannedBackup {
    /// Its id.
    pub id: String,
    /// Its kind.
    pub kind: String,
    /// Its tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// SHA-256 of its manifest: this very backup.
    #[schemars(with = "String")]
    pub manifest: Digest,
}

/// Consecutive segments of one timeline that are planned to go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlannedWal {
    /// The cluster's system identifier.
    pub system_id: String,
    /// The first segment.
    pub first: String,
    /// The last segment.
    pub last: String,
}

/// What goes in this step.
pub(super) struct Order {
    /// Backups, each before what it rests on, else oldest first. Some may be half gone already.
    pub backups: Vec<PlannedBackup>,
    /// Those of them that are kept now, and why: they stay, whatever becomes of the reason meanwhile.
    pub kept: BTreeMap<PlannedBackup, String>,
    /// WAL objects in order.
    pub wal: Vec<WalObject>,
    /// Folders without a manifest.
    pub orphans: Vec<Orphan>,
    /// What writers did not finish.
    pub unfinished: Vec<Unfinished>,
    /// What those need that stay after all.
    pub bonds: Bonds,
    /// The sizes of backups that are whole.
    backup_bytes: u64,
}

impl PlannedPrune {
    /// What a plan removes, in the words of the step. Orphans are given by those who asked for them.
    #[must_use]
    pub fn of(plan: &RetentionPlan) -> Self {
        let backups = plan.remove.iter().map(|removed| PlannedBackup {
            id: removed.backup.id.clone(),
            kind: removed.backup.kind.clone(),
            tier: removed.backup.tier.clone(),
            manifest: removed.backup.manifest,
        });
        let wal = plan.wal.remove.iter().map(|range| PlannedWal {
            system_id: range.system_id.to_string(),
            first: range.first.to_string(),
            last: range.last.to_string(),
        });
        Self { backups: backups.collect(), wal: wal.collect(), ..Self::default() }
    }

    /// Tells whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Makes sure that the store still shows what was planned. What is gone already is no difference, and what a
    /// person holds since is left alone later.
    pub(super) fn held_against(&self, now: &RetentionPlan) -> Result<(), String> {
        for asked in &self.backups {
            let kept =
                now.keep.iter().find(|kept| asked.is(&kept.backup.id, &kept.backup.kind, kept.backup.tier.as_ref()));
            let is_held = |reason: &KeepReason| matches!(reason, KeepReason::Held(_));
            if let Some(kept) = kept.filter(|kept| !kept.reasons.iter().any(is_held)) {
                let reasons = told(&kept.reasons);
                return Err(format!("the plan removes backup `{}`, which is kept now: {reasons}", asked.id));
            }
            let planned = now.remove.iter().map(|removed| &removed.backup);
            let mut same = planned.filter(|backup| asked.is(&backup.id, &backup.kind, backup.tier.as_ref()));
            if same.any(|backup| backup.manifest != asked.manifest) {
                return Err(format!("backup `{}` is not the one that was planned: its manifest differs", asked.id));
            }
        }
        Ok(())
    }

    fn names_wal(&self, system_id: SystemId, segment: SegmentName) -> bool {
        let name = segment.to_string();
        self.wal.iter().any(|range| {
            range.system_id == system_id.to_string()
                && range.first.get(..8) == name.get(..8)
                && (range.first.as_str()..=range.last.as_str()).contains(&name.as_str())
        })
    }
}

fn told(reasons: &[KeepReason]) -> String {
    reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl PlannedBackup {
    fn is(&self, id: &str, kind: &str, tier: Option<&String>) -> bool {
        self.id == id && family(&self.kind) == family(kind) && self.tier.as_ref() == tier
    }
}

/// Tells whether a folder without a manifest was left behind long enough ago.
#[must_use]
pub fn is_abandoned(orphan: &Orphan, now: Timestamp) -> bool {
    clock::between(orphan.newest_at, now) >= ORPHANED_AFTER
}

/// Tells whether whoever began to write something has not gone on with it for so long that he is gone.
#[must_use]
pub fn is_given_up(unfinished: &Unfinished, now: Timestamp) -> bool {
    unfinished.touched_at.is_some_and(|at| clock::between(at, now) >= ORPHANED_AFTER)
}

impl Order {
    /// Everything that may go now, and of it only what a plan that was shown names.
    pub(super) fn of(params: &PruneParams, found: &Holdings, now: &RetentionPlan, at: Timestamp) -> Self {
        let planned = PlannedPrune::of(now);
        let mut backups = params.plan.as_ref().map_or(planned.backups, |asked| asked.backups.clone());
        let bonds = Bonds::of(found);
        backups.sort_by_cached_key(|backup| std::cmp::Reverse(bonds.below(&backup.id).len()));
        let still = |backup: &PlannedBackup| {
            let is_it = |kept: &&Kept| backup.is(&kept.backup.id, &kept.backup.kind, kept.backup.tier.as_ref());
            now.keep.iter().find(is_it).map(|kept| (backup.clone(), told(&kept.reasons)))
        };
        let kept = backups.iter().filter_map(still).collect();
        let named: BTreeSet<&PlannedBackup> = backups.iter().collect();
        let backup_bytes = now.remove.iter().map(|removed| &removed.backup);
        let backup_bytes = backup_bytes
            .filter(|backup| named.iter().any(|one| one.manifest == backup.manifest))
            .map(|backup| backup.size_bytes)
            .sum();
        let goes = |object: &&WalObject| {
            let (system_id, name) = (object.system_id, object.segment.name);
            now.wal.remove.iter().any(|range| range.contains(system_id, name))
                && params.plan.as_ref().is_none_or(|asked| asked.names_wal(system_id, name))
        };
        let abandoned = |orphan: &&Orphan| {
            params.orphans
                && is_abandoned(orphan, at)
                && params.plan.as_ref().is_none_or(|asked| asked.orphans.contains(&orphan.folder))
        };
        let given_up = |one: &&Unfinished| {
            params.orphans
                && is_given_up(one, at)
                && params.plan.as_ref().is_none_or(|asked| asked.unfinished.iter().any(|key| *key == one.key.as_str()))
        };
        Self {
            unfinished: found.unfinished.iter().filter(given_up).cloned().collect(),
            wal: found.wal.iter().filter(goes).cloned().collect(),
            orphans: found.orphans.iter().filter(abandoned).cloned().collect(),
            backups,
            kept,
            bonds,
            backup_bytes,
        }
    }

    /// The stored bytes that go.
    pub(super) fn size_bytes(&self) -> u64 {
        let wal: u64 = self.wal.iter().map(|object| object.segment.size_bytes).sum();
        let unfinished: u64 = self.unfinished.iter().map(|one| one.size_bytes).sum();
        self.backup_bytes + wal + unfinished + self.orphans.iter().map(|orphan| orphan.size_bytes).sum::<u64>()
    }
}
