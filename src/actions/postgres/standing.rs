//! How a database's server stands right now: for people who look, not for steps. Only reads.

use serde::Serialize;

use super::connect::{Endpoint, Session};
use super::layout::Cluster;
use super::live;
use super::overseer;
use crate::action::{ActionError, DatabaseRef, ReadHost, Secrets};
use crate::base::Timestamp;
use crate::language::inventory::Inventory;

/// What a look at a server showed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Standing {
    /// Whether it answers.
    pub answers: bool,
    /// Why it does not; empty when it does.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// Its version.
    pub version: Option<String>,
    /// Whether it is in recovery.
    pub in_recovery: bool,
    /// How it archives, for a server that is open.
    pub archiving: Option<Archiving>,
    /// What looks after it and is not paused.
    pub overseer: Option<String>,
}

/// How a server archives its WAL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Archiving {
    /// Whether it archives at all.
    pub on: bool,
    /// The last file that it archived.
    pub last_archived: Option<String>,
    /// When that was.
    pub last_archived_at: Option<Timestamp>,
    /// WAL that is written and not archived, in bytes.
    pub behind_bytes: Option<u64>,
    /// Whether its last attempt failed.
    pub failing: bool,
}

/// WAL counts from the end of the last segment that was archived: an idle server writes none, and is not behind.
const ARCHIVING: &str = "SELECT current_setting('archive_mode') <> 'off', last_archived_wal, \
 to_char(last_archived_time AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), \
 last_failed_time IS NOT NULL AND (last_archived_time IS NULL OR last_failed_time > last_archived_time), \
 CASE WHEN last_archived_wal ~ '^[0-9A-F]{24}' THEN \
   greatest(0, (pg_current_wal_lsn() - '0/0'::pg_lsn) - \
     ((('x' || substr(last_archived_wal, 9, 8))::bit(32)::bigint * (4294967296 / s.bytes) \
       + ('x' || substr(last_archived_wal, 17, 8))::bit(32)::bigint + 1) * s.bytes)) END \
 FROM pg_stat_archiver, (SELECT setting::bigint AS bytes FROM pg_settings WHERE name = 'wal_segment_size') s";

/// Looks at the server of a database.
///
/// # Errors
/// Fails when the inventory has no such database, or its place cannot be looked at. A server that does not answer is
/// no failure.
pub async fn look(
    database: &str,
    inventory: &Inventory,
    (host, secrets): (&dyn ReadHost, &dyn Secrets),
) -> Result<Standing, ActionError> {
    let cluster = Cluster::of(&DatabaseRef(database.to_owned()), inventory, std::path::Path::new("/"))?;
    let overseer = overseer::in_charge(&cluster, host).await?.map(|fact| fact.what);
    let session = match Endpoint::of(&cluster, None, secrets) {
        Ok(endpoint) => endpoint.open().await,
        Err(error) => Err(error),
    };
    let mut session = match session {
        Ok(session) => session,
        Err(error) => {
            if cluster.is_managed() {
                let causes = error.info().causes.iter().map(|cause| format!(": {cause}")).collect::<String>();
                return Ok(Standing { why: format!("{error}{causes}"), ..Standing::default() });
            }
            let signs = live::signs(&cluster, host.read_files().as_ref()).await?;
            let causes = error.info().causes.iter().map(|cause| format!(": {cause}")).collect::<String>();
            let why = match signs.is_empty() {
                true => format!("no server runs for `{}`", cluster.pgdata.display()),
                false => format!("a server runs, but {error}{causes}"),
            };
            return Ok(Standing { why, overseer, ..Standing::default() });
        }
    };
    let table = session.query("SELECT current_setting('server_version'), pg_is_in_recovery()").await?;
    let in_recovery = table.at(0, 1) == Some("t");
    let archiving = if in_recovery { None } else { Some(archiving(&mut session).await?) };
    Ok(Standing {
        answers: true,
        why: String::new(),
        version: table.at(0, 0).map(ToOwned::to_owned),
        in_recovery,
        archiving,
        overseer,
    })
}

async fn archiving(session: &mut Session) -> Result<Archiving, ActionError> {
    let table = session.query(ARCHIVING).await?;
    Ok(Archiving {
        on: table.at(0, 0) == Some("t"),
        last_archived: table.at(0, 1).map(ToOwned::to_owned),
        last_archived_at: table.at(0, 2).and_then(|text| text.parse().ok()),
        failing: table.at(0, 3) == Some("t"),
        behind_bytes: table.at(0, 4).and_then(|text| text.split('.').next()?.parse().ok()),
    })
}
