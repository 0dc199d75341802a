//! Sessions of one database: closing it for new ones, ending those there are.

use std::time::Duration;

use super::connect::{Endpoint, Session};
use crate::action::{ActionError, Secrets};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::name::{ident, literal};
use crate::base::clock;

/// How long a session that was told to end may take: less than an attempt that is told to end, for whoever shut a
/// database before must open it again.
const GONE_WITHIN: Duration = Duration::from_secs(8);

/// Sessions of programs that connected.
const CLIENTS: &str = "backend_type = 'client backend'";
/// Whatever stands in the way of a rename or a drop: also senders of logical changes, and workers, such as those that apply
/// a subscription. The server ends its autovacuum workers by itself.
const USERS: &str = "backend_type IS DISTINCT FROM 'autovacuum worker'";

/// Whether a database takes new sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// It does.
    Open,
    /// It does not, not even those of a superuser.
    Shut,
}

/// Opens a session in another database than the named one: nobody renames or drops the database they are in.
///
/// # Errors
/// Fails when neither `postgres` nor `template1` takes it.
pub(crate) async fn beside(cluster: &Cluster, dbname: &str, secrets: &dyn Secrets) -> Result<Session, ActionError> {
    let mut refused = None;
    for other in [cluster.dbname.as_str(), "postgres", "template1"].into_iter().filter(|other| *other != dbname) {
        match Endpoint::of(cluster, Some(other), secrets)?.open().await {
            Ok(session) => return Ok(session),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.unwrap_or_else(|| ActionError::fatal(format!("there is no database beside `{dbname}`"))))
}

/// Opens or shuts a database.
///
/// # Errors
/// Fails as the server does.
pub(crate) async fn set(session: &mut Session, dbname: &str, door: Door) -> Result<(), ActionError> {
    let allow = matches!(door, Door::Open);
    session.query(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS {allow}", ident(dbname))).await.map(drop)
}

/// Ends every client's session that `whose` (a condition on `pg_stat_activity`) finds, and waits until they are gone; gives
/// their number.
///
/// # Errors
/// Fails when one does not end, naming it, and as the server does.
pub(crate) async fn end(session: &mut Session, whose: &str) -> Result<u64, ActionError> {
    end_all(session, &format!("{CLIENTS} AND ({whose})")).await
}

/// Ends everything that is in one of two databases, which may be the same, so that they can be renamed or dropped: the
/// first must be [`Door::Shut`], or what went comes back. Gives the number.
///
/// # Errors
/// Fails as [`end`], also for want of the right to end a worker.
pub(crate) async fn vacate(session: &mut Session, (one, other): (&str, &str)) -> Result<u64, ActionError> {
    end_all(session, &format!("{USERS} AND ({} OR {})", of(one), of(other))).await
}

/// Counts what is in a database.
///
/// # Errors
/// Fails as the server does.
pub(crate) async fn users(session: &mut Session, dbname: &str) -> Result<u64, ActionError> {
    let statement = format!("SELECT count(*) FROM pg_stat_activity WHERE {USERS} AND {}", of(dbname));
    Ok(session.value(&statement).await?.parse().unwrap_or_default())
}

async fn end_all(session: &mut Session, whose: &str) -> Result<u64, ActionError> {
    let found = format!(
        "SELECT pid, coalesce(usename, backend_type), application_name FROM pg_stat_activity \
         WHERE pid <> pg_backend_pid() AND {whose}"
    );
    let told = session.query(&format!("SELECT pg_terminate_backend(pid) FROM ({found}) AS found")).await?;
    let started = clock::monotonic();
    loop {
        let left = session.query(&found).await?;
        let Some(first) = left.rows.first() else { return Ok(told.rows.len() as u64) };
        if started.elapsed() > GONE_WITHIN {
            let shown: Vec<&str> = first.iter().flatten().map(String::as_str).collect();
            let fact = format!("{} sessions do not end within 8s, first process {}", left.rows.len(), shown.join(", "));
            return Err(ActionError::retryable(fact).help("look at what it waits for in `pg_stat_activity`"));
        }
        // New ones may have come in between where the database is not shut.
        session.query(&format!("SELECT pg_terminate_backend(pid) FROM ({found}) AS found")).await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The condition for the sessions of a database.
#[must_use]
pub(crate) fn of(dbname: &str) -> String {
    format!("datname = {}", literal(dbname))
}

/// The number of a database, which stays its own when it is renamed; `None` where there is none of the name.
///
/// # Errors
/// Fails as the server does.
pub(crate) async fn number(session: &mut Session, dbname: &str) -> Result<Option<u32>, ActionError> {
    let found = session.query(&format!("SELECT oid FROM pg_database WHERE {}", of(dbname))).await?;
    Ok(found.first().and_then(|oid| oid.parse().ok()))
}
