//! What retention took out of one store and another one still has.

use crate::action::ReadStore;
use crate::base::clock;
use crate::catalog::CatalogError;
use crate::catalog::elsewhere::{self, further};
use crate::catalog::retention::{Moment, Policy, WalRange, WalSegment, plan};
use crate::catalog::survey::holdings;
use crate::cli::site::Site;
use crate::language::inventory::Retention;
use crate::pgformat::{SystemId, WalFileName};
use crate::wal::LackedFile;

/// Tells whether a file that a store lacks is one that the store's own retention would remove again.
pub struct Pruned {
    ranges: Vec<WalRange>,
    system_id: SystemId,
}

impl Pruned {
    /// Judges what a store lacks by the backups that it keeps: what lies before the oldest of them, and where the WAL has
    /// a window of its own what lies between them. One that gets no backups is judged by those of all other stores; where
    /// these cannot be told, it needs all of the WAL.
    ///
    /// # Errors
    /// Fails when the store gives no answer.
    pub async fn of(
        (store, prefix): (&dyn ReadStore, &str),
        (policy, site): (Option<&Policy>, &Site),
        (system_id, lacking): (SystemId, &[LackedFile]),
    ) -> Result<Self, CatalogError> {
        let now = clock::now();
        let mut survey = holdings(store, prefix).await?.survey(now);
        survey.wal.entry(system_id).or_default().extend(lacking.iter().filter_map(segment));
        if let Some(further) = further(&site.inventory, (store.name(), prefix)) {
            let open = |name: &str| site.read_store(name).map_err(|failure| failure.message);
            elsewhere::complete(&mut survey, (&further, prefix), open, now).await;
        }
        let planned = plan(&survey, &keeping_backups(policy), &Moment::at(now));
        Ok(Self { ranges: planned.wal.remove, system_id })
    }

    /// Tells whether a file is one of those.
    pub fn has(&self, file: &LackedFile) -> bool {
        let segment = segment(file);
        segment.is_some_and(|one| self.ranges.iter().any(|range| range.contains(self.system_id, one.name)))
    }
}

/// What a policy says of WAL alone: as long as a backup is there, what it needs is copied.
fn keeping_backups(policy: Option<&Policy>) -> Policy {
    let of_wal = |retention: &Retention| Retention {
        timezone: retention.timezone.clone(),
        wal: retention.wal.clone(),
        ..Retention::default()
    };
    let Some(policy) = policy else { return Policy::single(Retention::default()) };
    let each = policy.environments.iter().map(|(name, retention)| (name.clone(), of_wal(retention)));
    Policy { own: of_wal(&policy.own), environments: each.collect() }
}

/// Histories, labels and unfinished segments are small, and no retention removes them.
fn segment(file: &LackedFile) -> Option<WalSegment> {
    match file.name {
        WalFileName::Segment(name) => Some(WalSegment { name, size_bytes: 0, archived_at: file.archived_at }),
        WalFileName::PartialSegment(_) | WalFileName::History(_) | WalFileName::BackupHistory { .. } => None,
    }
}
