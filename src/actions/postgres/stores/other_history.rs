//! Another history under the names of a cluster's own WAL: two servers of one system identifier and one timeline archived under
//! one prefix.
//!
//! That is what a snapshot of a machine or a volume makes that is rolled back, and a copy of a server that archives. The
//! archive keeps what came first; pushes of the other server fail from there on, and what it writes is in no archive. A backup
//! of it begins in one history and would be replayed along the other: no server would notice.

use std::collections::BTreeMap;

use crate::action::{ActionError, ReadStore};
use crate::base::Digest;
use crate::catalog::CatalogError;
use crate::pgformat::{SegmentName, SystemId};
use crate::wal::{Standing, standings};

/// A segment of which a store has another content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OtherHistory {
    /// The segment.
    pub(crate) segment: SegmentName,
    /// The store.
    pub(crate) store: String,
}

impl OtherHistory {
    /// Why the backup of a server that finds it is of no use, and what to do.
    pub(crate) fn of_server(&self, (database, prefix): (&str, &str)) -> ActionError {
        let Self { segment, store } = self;
        let fact = format!(
            "another server has archived `{segment}`: store `{store}` has it under prefix `{prefix}` with other content than this \
             server's. This one was rolled back to a snapshot, or one of the two is a copy of the other. What this server writes is \
             not archived (its pushes of that name fail), and a restore would replay the other one's WAL onto this backup"
        );
        let help = format!(
            "see which server is to go on as `{database}`. The other one must archive no more; this one, if it goes on, needs a \
             `prefix` of its own in the inventory: then `runbook run setup-archiving -p database={database}`, then a base backup. \
             Keep what lies under `{prefix}`: its backups and its WAL belong together, and restore as before"
        );
        ActionError::fatal(fact).help(help)
    }

    /// Why a backup that it is found for cannot be restored with the archive, and what leads on.
    pub(crate) fn of_backup(&self, id: &str) -> (String, String) {
        let Self { segment, store } = self;
        let fact = format!(
            "backup `{id}` is of another history than the archive: `{segment}` has other records in store `{store}` than in the \
             backup. Its server was rolled back to a snapshot, or copied, and another one archived that segment: a restore would \
             mix the two, and nobody would notice"
        );
        let help = format!(
            "choose a backup of the history that is archived, as one that ended before the two parted (`runbook backups list`; \
             `-p backup=ID` of `full-db-loss` and `pitr`): it leads to all that is archived. Or take what `{id}` itself holds, as of \
             its end: `restore.sh` in its folder (see `RESTORE.md` there) needs no archive"
        );
        (fact, help)
    }
}

/// Tells which of some finished segments, by their SHA-256, a store has with other content; the first one is enough. What is
/// only the beginning of a segment is none: the whole one takes its place.
///
/// # Errors
/// Fails when the store does.
pub(crate) async fn found(
    store: &dyn ReadStore,
    place: (&str, SystemId),
    segments: &BTreeMap<SegmentName, Digest>,
) -> Result<Option<OtherHistory>, CatalogError> {
    let standings = standings(store, place, segments).await?;
    let other = standings.into_iter().find(|(_, standing)| *standing == Standing::Other);
    Ok(other.map(|(segment, _)| OtherHistory { segment, store: store.name().to_owned() }))
}
