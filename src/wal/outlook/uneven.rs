//! What only some of a database's stores have of its WAL.

use super::Recoverable;
use crate::base::Timestamp;
use crate::catalog::CatalogError;
use crate::pgformat::SegmentName;
use crate::wal::{Since, lacks};

impl Recoverable {
    /// Tells by URL how many files each store lacks that another one has, of those archived until `before`: what is
    /// younger may be on its way. Counted is what the newest base backup leads on with: what is older may have been pruned
    /// in one store and not in another. Nothing for a database whose WAL goes into one store.
    ///
    /// # Errors
    /// Fails when a store gives no answer.
    pub async fn uneven(&self, before: Timestamp) -> Result<Vec<(String, usize)>, CatalogError> {
        let Some(cluster) = self.clusters.first().filter(|_| self.stores.len() > 1) else { return Ok(Vec::new()) };
        let sources = self.sources(cluster.system_id, Some(cluster.archive.size));
        let newest = cluster.backups.iter().rfind(|backup| backup.fault.is_none());
        let since = newest.map_or(Since::Own, |backup| {
            let base = backup.base;
            Since::Segment(SegmentName::holding(base.timeline, base.start, cluster.archive.size))
        });
        let found = lacks(&sources, since, before).await?;
        Ok(found.into_iter().map(|lack| (self.stores[lack.store].1.url.clone(), lack.files.len())).collect())
    }
}
