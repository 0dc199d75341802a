//! Gives a restored database its name, in one transaction.
//!
//! The database that has the name is shut first, so that nobody comes in between; its sessions are ended. Both renames
//! are one transaction: at no moment, also not after a crash, is there no database of the name. A rename that fails
//! opens the old one again.

use super::seat::Seat;
use crate::action::ActionError;
use crate::actions::postgres::cluster::name::ident;
use crate::actions::postgres::session::connect::Session;
use crate::actions::postgres::session::sessions::{self, Door, number};

/// Swaps the restored database in; gives the name of the old one, where there was one.
///
/// # Errors
/// Fails when a session does not end, and as the server does. What had the name has it again then, and is open.
pub(super) async fn swap(session: &mut Session, seat: &Seat) -> Result<Option<String>, ActionError> {
    if number(session, &seat.name).await?.is_none() {
        session.query(&rename(&seat.fresh, &seat.name)).await?;
        return Ok(None);
    }
    exchange(session, (&seat.name, &seat.old), &seat.fresh).await?;
    Ok(Some(seat.old.clone()))
}

/// Gives `incoming` the name of a database that is called `aside` from then on.
///
/// # Errors
/// Fails as [`swap`].
pub(crate) async fn exchange(
    session: &mut Session,
    (name, aside): (&str, &str),
    incoming: &str,
) -> Result<(), ActionError> {
    sessions::set(session, name, Door::Shut).await?;
    let exchanged = renamed(session, (name, aside), incoming).await;
    if exchanged.is_err() {
        // A lost connection leaves it shut; the next attempt finds and opens it.
        let _ = session.query("ROLLBACK").await;
        let _ = sessions::set(session, name, Door::Open).await;
    }
    exchanged
}

async fn renamed(session: &mut Session, (name, aside): (&str, &str), incoming: &str) -> Result<(), ActionError> {
    sessions::vacate(session, (name, incoming)).await?;
    let (out, back) = (rename(name, aside), rename(incoming, name));
    let open = format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", ident(aside));
    session.query(&format!("BEGIN; {out}; {back}; {open}; COMMIT")).await.map(drop)
}

fn rename(from: &str, to: &str) -> String {
    format!("ALTER DATABASE {} RENAME TO {}", ident(from), ident(to))
}
