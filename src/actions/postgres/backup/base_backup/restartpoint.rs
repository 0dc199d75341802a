//! Where a backup from a standby begins: at its last restartpoint, which only a checkpoint of the primary gives it.
//!
//! An increment must begin at or after the end of the backup that it rests on, and the server refuses it otherwise
//! ("This can happen for incremental backups on a standby if there was little activity since the previous backup",
//! PostgreSQL 17). An idle primary makes no checkpoint by itself, so it is told to.

use std::time::Duration;

use super::super::increment::Prior;
use crate::action::{ActionError, RunContext};
use crate::actions::postgres::session::maintenance_db::MaintenanceDb;
use crate::base::clock;
use crate::pgformat::Lsn;

/// How long the standby may take to replay the checkpoint.
const REPLAYED_WITHIN: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

/// Sees to it that a standby can begin the increment: that it has replayed a checkpoint which is not before the end of `prior`.
///
/// # Errors
/// Fails when the primary refuses to make one, when the standby does not replay it in time, and when it is cancelled.
pub(super) async fn bring_forward(
    (primary, standby): (&MaintenanceDb, &MaintenanceDb),
    prior: &Prior,
    cx: &RunContext,
) -> Result<(), ActionError> {
    let (id, end) = (&prior.id, prior.stop_lsn);
    if standby.open().await?.value(&begins_after(end)).await? == "t" {
        return Ok(());
    }
    let mut session = primary.open().await?;
    if session.value(&begins_after(end)).await? != "t" {
        cx.reporter.note(
            format!(
                "the primary makes a checkpoint: the standby begins at the last one, which is before the end of `{id}`"
            ),
            serde_json::json!({ "parent": id, "stop_lsn": end.to_string() }),
        );
        session.query("CHECKPOINT").await.map_err(|error| {
            let fact = format!(
                "the standby can begin only before {end}, where backup `{id}` ends that this one would rest on, and the primary makes no \
                 checkpoint"
            );
            let help = "GRANT pg_checkpoint TO the role on the primary, or read the increment from the primary, or run the step again \
                        after its next checkpoint";
            ActionError::retryable(fact).because(&error).help(help)
        })?;
    }
    let checkpoint = session.value("SELECT checkpoint_lsn FROM pg_control_checkpoint()").await?;
    drop(session);
    let (sql, begun) = (format!("SELECT pg_last_wal_replay_lsn() > '{checkpoint}'"), clock::monotonic());
    // It begins with a restartpoint of its own, which takes the last checkpoint that it has replayed.
    while standby.open().await?.value(&sql).await? != "t" {
        if begun.elapsed() > REPLAYED_WITHIN {
            let fact = format!(
                "the standby has not replayed the primary's checkpoint at {checkpoint} within {}s, and before it no increment to `{id}` \
                 can begin",
                REPLAYED_WITHIN.as_secs()
            );
            let help = "see whether it streams and whether its replay is paused or delayed, or read the increment from the primary";
            return Err(ActionError::retryable(fact).help(help));
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = cx.cancel.cancelled() => return Err(ActionError::cancelled("the backup was cancelled before it began")),
        }
    }
    Ok(())
}

/// Whether the newest checkpoint a server knows begins at this position or after it.
fn begins_after(end: Lsn) -> String {
    format!("SELECT redo_lsn >= '{end}' FROM pg_control_checkpoint()")
}
