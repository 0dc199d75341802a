//! Holds the point that a recovery reached against the one it was told, and lists what stands open there.

use super::aim::{Aim, Edge, words};
use super::connect::Session;
use super::target::Goal;
use crate::action::ActionError;
use crate::base::Timestamp;
use crate::pgformat::Lsn;

/// Confirms the target. The server itself ends with an error when it runs out of WAL before it (from PostgreSQL 13
/// on); what it does not say is that it went past it, or that nothing was there to stop at.
///
/// # Errors
/// Fails when another point than the target was reached.
pub(crate) async fn confirm(
    aim: &Aim,
    (at, newest_commit): (Lsn, Option<Timestamp>),
    session: &mut Session,
) -> Result<(), ActionError> {
    let missed = |reached: String| {
        let fact = format!("the recovery was to end at {}, but {reached}", words(&aim.goal));
        Err(ActionError::fatal(fact).help("recover the same backup again, to a target that the archive contains"))
    };
    match (&aim.goal, aim.edge) {
        (Goal::Time(wanted), edge) => match newest_commit {
            Some(newest) if newest > *wanted || (edge == Edge::Excluded && newest == *wanted) => {
                missed(format!("its newest commit is of {newest}"))
            }
            Some(_) | None => Ok(()),
        },
        (Goal::Lsn(wanted), Edge::Included) if at < *wanted => missed(format!("it ended at {at}")),
        (Goal::Xid(xid), edge) => {
            let status = status(*xid, session).await?;
            match (edge, status.as_str()) {
                (Edge::Included, "committed" | "aborted") | (Edge::Excluded, "in progress" | "aborted" | "unknown") => {
                    Ok(())
                }
                (Edge::Included | Edge::Excluded, other) => missed(format!("there the transaction is `{other}`")),
            }
        }
        (Goal::Lsn(_) | Goal::Name(_) | Goal::Immediate | Goal::Newest, _) => Ok(()),
    }
}

/// What the server says of a transaction; one that it does not know yet is `unknown`.
async fn status(xid: u64, session: &mut Session) -> Result<String, ActionError> {
    let sql = format!(
        "SELECT CASE WHEN {xid} < pg_snapshot_xmax(pg_current_snapshot())::text::bigint \
         THEN coalesce(txid_status({xid}), 'too old to tell') ELSE 'unknown' END"
    );
    session.value(&sql).await
}

/// The prepared transactions that nobody has ended yet: `'name' of role in database, prepared at …`.
///
/// # Errors
/// Fails as the server does.
pub(crate) async fn prepared(session: &mut Session) -> Result<Vec<String>, ActionError> {
    let sql = "SELECT format('%L of %s in %s, prepared %s', gid, owner, database, \
               to_char(prepared AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')) FROM pg_prepared_xacts ORDER BY prepared";
    let table = session.query(sql).await?;
    Ok(table.rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
}
