//! Holds the point that a recovery reached against the one it was told, and lists what stands open there.

use super::replay::Told;
use crate::action::ActionError;
use crate::actions::postgres::restore::recovery_target::{AskedTarget, Edge, words};
use crate::actions::postgres::session::connect::Session;
use crate::actions::postgres::stores::target::Goal;
use crate::base::Timestamp;
use crate::pgformat::Lsn;

/// Confirms what was asked for. The server itself ends with an error when it runs out of WAL before the target it was told
/// (from PostgreSQL 13 on); what it does not say is that it went past it, or that nothing was there to stop at. One that was
/// told nothing, since nothing lay behind what was asked for, may have found more than was seen then: `seen` is how far it
/// was looked. Its newest transaction may be one that was rolled back, which no time is held against.
///
/// # Errors
/// Fails when another point than the target was reached.
pub(crate) async fn confirm(
    (asked, told, seen): (&AskedTarget, Told, Option<Lsn>),
    (at, newest_commit): (Lsn, Option<Timestamp>),
    session: &mut Session,
) -> Result<(), ActionError> {
    let missed = |reached: String| {
        let fact = format!("the recovery was to end at {}, but {reached}", words(&asked.goal));
        Err(ActionError::fatal(fact).help("recover the same backup again, to a target that the archive contains"))
    };
    match (&asked.goal, asked.edge) {
        (Goal::Time(_), _) if told == Told::Nothing && seen.is_some_and(|seen| at <= seen) => Ok(()),
        (Goal::Time(wanted), edge) => match newest_commit {
            Some(newest) if newest > *wanted || (edge == Edge::Excluded && newest == *wanted) => {
                missed(format!("its newest commit is of {newest}"))
            }
            Some(_) | None => Ok(()),
        },
        // No record begins behind the position: then the end of the archive is all there is.
        (Goal::Lsn(wanted), Edge::Included) if told == Told::Target && at < *wanted => {
            missed(format!("it ended at {at}"))
        }
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
    let text = session.value("SELECT pg_snapshot_xmax(pg_current_snapshot())").await?;
    let next: u64 = text.parse().map_err(|_| ActionError::fatal(format!("`{text}` is no number of a transaction")))?;
    match with_epoch(xid, next) {
        None => Ok("unknown".to_owned()),
        Some(xid) => session.value(&format!("SELECT coalesce(txid_status({xid}), 'too old to tell')")).await,
    }
}

/// The full number of a transaction of which the WAL tells the lower half only: of all that have it, the last one before
/// `next`, half of the numbers lying in the past (`TransactionIdPrecedes` in `transam.c`). `None` for one that is still
/// to come.
fn with_epoch(xid: u64, next: u64) -> Option<u64> {
    let half = |number: u64| u32::try_from(number & u64::from(u32::MAX)).unwrap_or_default();
    let back = half(next).wrapping_sub(half(xid));
    if back == 0 || back > u32::MAX / 2 { None } else { next.checked_sub(u64::from(back)) }
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

#[cfg(test)]
mod tests {
    use super::with_epoch;

    #[test]
    fn a_transaction_is_the_last_one_of_its_number_also_after_the_numbers_began_anew() {
        let epoch = 1_u64 << 32;
        assert_eq!(with_epoch(740, 750), Some(740));
        assert_eq!(with_epoch(740, epoch + 750), Some(epoch + 740));
        assert_eq!(with_epoch(epoch + 740, epoch + 750), Some(epoch + 740));
        assert_eq!(with_epoch(0xFFFF_FFF0, epoch + 5), Some(0xFFFF_FFF0));
        assert_eq!(with_epoch(0xFFFF_FFF0, 5), None, "there was none before");
        assert_eq!(with_epoch(750, 750), None);
        assert_eq!(with_epoch(3, epoch - 16), None, "it comes in the next epoch");
    }
}
