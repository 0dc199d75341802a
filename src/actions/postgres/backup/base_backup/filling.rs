//! The stores that lack the backup which the others have: each gets that very one, or, where no key here reads it to pack it
//! anew, one of its own.

use super::super::copies::{Copies, Outcome};
use super::super::delivery::BackupStore;
use super::super::duplicate;
use super::BaseBackupParams;
use super::round::{Others, Round, Server, place};
use crate::action::{ActionError, RunContext};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::stores::archive;
use crate::catalog::Backup;
use crate::event::ErrorClass;

/// What the step wants.
type Wish<'a> = (&'a BaseBackupParams, &'a Cluster, &'a Copies<'a>);

/// Brings the backup into the stores that lack it. What they failed with before is asked anew.
///
/// # Errors
/// Fails when too few stores have one in the end, and when it is cancelled.
pub(super) async fn complete(
    wish: Wish<'_>,
    outcome: &mut Outcome,
    original: &Backup,
    cx: &RunContext,
) -> Result<(), ActionError> {
    let (_, _, copies) = wish;
    let system_id = original.manifest.cluster().map_err(|error| archive::broken(&error))?.system_id;
    outcome.failures.clear();
    let mut lacking = copies.ready(outcome, (&original.place(), system_id), cx).await;
    copies.judge(lacking.len(), outcome, cx)?;
    let originals = outcome.backups.clone();
    while let Some(backup_store) = lacking.pop() {
        match duplicate::readable(&originals, &backup_store, cx).await {
            Ok(duplicate::Readable::By(original)) => copies.copy_into(outcome, (original, &backup_store), cx).await?,
            Ok(duplicate::Readable::ByNoKey(why)) => {
                apart(wish, (backup_store, why, lacking.len()), outcome, cx).await?
            }
            Err(error) => outcome.failures.push((backup_store.store.name().to_owned(), error)),
        }
    }
    copies.judge(0, outcome, cx)
}

/// Takes a backup of its own into one store, under its own id, unless an earlier attempt did. What fails there is noted.
async fn apart(
    (params, cluster, copies): Wish<'_>,
    (backup_store, why, hopeful): (BackupStore, Option<ActionError>, usize),
    outcome: &mut Outcome,
    cx: &RunContext,
) -> Result<(), ActionError> {
    let store = backup_store.store.name().to_owned();
    let place = place(&format!("{}/{store}", cx.step), (params, copies), cx);
    let brought = async {
        if let Some(copy) = backup_store.committed(&place).await? {
            outcome.backups.push(copy);
            return Ok(());
        }
        let (id, why) = (&place.id, why.map(|error| error.in_full()).unwrap_or_default());
        let message = format!(
            "store `{store}` gets a base backup of its own, `{id}`, which begins later than the one that the other stores have: {why}"
        );
        cx.reporter.note(message, serde_json::json!({ "store": store, "backup": id }));
        let server = Server::of(cluster, cx).await?;
        let round = Round { params, cluster, copies, server: &server, cx };
        round.bring(&place, (vec![backup_store], Others { needed: 1, hopeful }), outcome).await
    };
    match brought.await {
        Err(error) if error.info().class != ErrorClass::Cancelled => outcome.failures.push((store.clone(), error)),
        done => done?,
    }
    Ok(())
}
