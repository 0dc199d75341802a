//! What a backup needs that stays after all: the chain below it, and WAL.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::PostgresFacts;
use crate::catalog::survey::{Holdings, WalObject};

/// Backups by id, with what each rests on. An id that two of them have counts for both.
#[derive(Debug, Default)]
pub(super) struct Bonds(BTreeMap<String, Vec<Bond>>);

#[derive(Debug)]
struct Bond {
    parent: Option<String>,
    cluster: Option<PostgresFacts>,
}

impl Bonds {
    /// Those of every backup that was found.
    pub(super) fn of(found: &Holdings) -> Self {
        let mut bonds = Self::default();
        for manifest in found.list.backups.iter().map(|backup| &backup.manifest) {
            let bond = Bond { parent: manifest.parent.clone(), cluster: manifest.postgres.clone() };
            bonds.0.entry(manifest.id.clone()).or_default().push(bond);
        }
        bonds
    }

    /// Everything it rests on; always more than what its parent rests on, a circle aside.
    pub(super) fn below(&self, id: &str) -> BTreeSet<String> {
        let mut below = BTreeSet::new();
        let mut open = vec![id];
        while let Some(bonds) = open.pop().map(|id| self.0.get(id)) {
            for parent in bonds.into_iter().flatten().filter_map(|bond| bond.parent.as_ref()) {
                if below.insert(parent.clone()) {
                    open.push(parent);
                }
            }
        }
        below
    }

    /// Tells whether the backup, or a point in time after it, may need a segment. One that is not known may need all.
    pub(super) fn needs(&self, id: &str, wal: &WalObject) -> bool {
        let leads_on = |facts: &PostgresFacts| {
            facts.system_id == wal.system_id
                && wal.segment.name.timeline() >= facts.timeline
                && wal.segment.name.end(facts.segment_size) > facts.start_lsn
        };
        self.0.get(id).is_none_or(|bonds| bonds.iter().filter_map(|bond| bond.cluster.as_ref()).any(leads_on))
    }
}
