//! Transactions that were prepared for a two-phase commit and are not ended: a recovery brings them back open, with the rows
//! that they wrote. Nobody sees these rows before the commit, so nobody can erase them.

use super::table::written;
use super::wanted::Group;
use crate::action::ActionError;
use crate::actions::postgres::cluster::name::literal;
use crate::actions::postgres::session::connect::Session;

/// Prepared transactions of this database that hold one of the tables, or what inherits from it, as writers do. Only its own
/// number tells which locks are one's: the number of its session is kept until the server is started anew.
const HOLDING: &str = "WITH RECURSIVE held(oid) AS (SELECT one FROM unnest(ARRAY[$]::oid[]) one \
  UNION SELECT i.inhrelid FROM pg_inherits i JOIN held h ON i.inhparent = h.oid) \
 SELECT p.gid, string_agg(DISTINCT l.relation::regclass::text, ', ') FROM pg_prepared_xacts p \
 JOIN pg_locks x ON x.locktype = 'transactionid' AND x.transactionid = p.transaction AND x.granted AND x.mode = 'ExclusiveLock' AND x.pid IS NULL \
 JOIN pg_locks l ON l.virtualtransaction = x.virtualtransaction AND l.pid IS NULL AND l.locktype = 'relation' \
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
 WHERE p.database = current_database() AND l.mode NOT IN ('AccessShareLock', 'RowShareLock') AND l.relation IN (SELECT oid FROM held) \
 GROUP BY p.gid ORDER BY p.gid";

/// Refuses where such a transaction may hold rows of who must be forgotten.
///
/// # Errors
/// Fails where one does, and as the server says.
pub(super) async fn refuse(session: &mut Session, groups: &[Group]) -> Result<(), ActionError> {
    let mut names = Vec::new();
    for group in groups {
        // Whoever came back since may stay.
        if group.lines().iter().any(|line| !group.is_back(*line)) {
            names.push(format!("to_regclass({})::oid", literal(&written(&group.table))));
        }
    }
    if names.is_empty() {
        return Ok(());
    }
    let found = session.query(&HOLDING.replace('$', &names.join(", "))).await?;
    let (mut told, mut ends) = (Vec::new(), Vec::new());
    for row in 0..found.rows.len() {
        let (Some(gid), Some(tables)) = (found.at(row, 0), found.at(row, 1)) else { continue };
        let gid = literal(gid);
        told.push(format!("{gid} (in {tables})"));
        ends.push(format!("`COMMIT PREPARED {gid}` or `ROLLBACK PREPARED {gid}`"));
    }
    if told.is_empty() {
        return Ok(());
    }
    let fact = format!(
        "prepared transactions have written to tables of the erasure ledger, and nobody sees their rows before they are committed: {}",
        told.join(", ")
    );
    Err(ActionError::retryable(fact).help(format!(
        "somebody who must be forgotten would be back with the commit: end each first, as its transaction manager has it: {}; then \
         erase again; nothing was erased",
        ends.join("; ")
    )))
}
