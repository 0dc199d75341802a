//! How a database's server stands right now: for people who look, not for steps. Only reads.

use serde::Serialize;

use super::{crashed, replica};
use crate::action::{ActionError, DatabaseRef, ReadFiles, ReadHost, Secrets};
use crate::actions::postgres::cluster::ha_manager::{self, Fact};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::live;
use crate::actions::postgres::cluster::server::with_programs;
use crate::actions::postgres::restore::dismantled;
use crate::actions::postgres::restore::marker::Marker;
use crate::actions::postgres::restore::swap::VERSION;
use crate::actions::postgres::session::connect::{Endpoint, Refusal, Session};
use crate::actions::postgres::session::identity_check::{contradictions, strangers};
use crate::actions::postgres::session::maintenance_db::MaintenanceDb;
use crate::language::inventory::Inventory;
use crate::pgformat::ControlFile;

/// What a look at a server showed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ServerStatus {
    /// Whether it answers.
    pub answers: bool,
    /// Why it does not; empty when it does.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// What a server that is there all the same refuses. Only where that is the login is nothing said against its data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refuses: Option<Refusal>,
    /// The entry's own database, where the server answers without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<LostDatabase>,
    /// The names of its databases.
    pub databases: Vec<String>,
    /// Those of them that are shut: `ALLOW_CONNECTIONS false`. The server's own template is always so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shut: Vec<String>,
    /// Its version.
    pub version: Option<String>,
    /// Whether it is in recovery.
    pub in_recovery: bool,
    /// What looks after it and is not paused.
    pub ha_manager: Option<String>,
    /// What starts a server that does not run though its data is whole: it was shut down in order, or it `crashed`. Nothing is to
    /// be restored before that was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub startable: Option<String>,
    /// Whether nothing shut it down: it was at work until it went down, and its start is a crash recovery.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub crashed: bool,
    /// Disks of a server that does not answer on which no WAL can be written any more, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub full_disks: Vec<String>,
    /// Whether a restore took the old data apart and did not end: no server starts there, and only another restore leads on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub taken_apart: bool,
    /// What contradicts the inventory's entry, and what to correct: then all the rest may be about another server.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub contradictions: Vec<Contradiction>,
}

/// A database that takes no session on a server that does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LostDatabase {
    /// Its name.
    pub dbname: String,
    /// What the server says of it.
    pub why: String,
}

/// Something that is not as the inventory says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Contradiction {
    /// What is so, and what the inventory says instead.
    pub what: String,
    /// What to correct.
    pub help: String,
}

/// Looks at the server of a database.
///
/// # Errors
/// Fails when the inventory has no such database, or its place cannot be looked at. A server that does not answer is
/// no failure.
pub async fn look(
    database: &str,
    inventory: &Inventory,
    (host, secrets): (&dyn ReadHost, &dyn Secrets),
) -> Result<ServerStatus, ActionError> {
    let cluster = Cluster::of(&DatabaseRef(database.to_owned()), inventory, std::path::Path::new("/"))?;
    let contradictions = contradictions(database, inventory, (host, secrets)).await?;
    let told = |fact: Fact| Contradiction { what: fact.what, help: fact.help };
    let risen = replica::risen(&cluster, replica::held(&cluster, host.read_files().as_ref()), secrets).await;
    let contradictions: Vec<Contradiction> = contradictions.into_iter().chain(risen).map(told).collect();
    let ha_manager = ha_manager::in_charge(&cluster, host).await?.map(|fact| fact.what);
    let (session, lost) = asked(&cluster, secrets).await;
    let mut session = match session {
        Ok(session) => session,
        Err((refuses, error)) => {
            if cluster.is_managed() || cluster.entry.elsewhere().is_some() {
                return Ok(ServerStatus { why: error.in_full(), refuses, ..ServerStatus::default() });
            }
            let signs = live::signs(&cluster, host.read_files().as_ref()).await?;
            let refuses = refuses.or_else(|| (!signs.is_empty()).then_some(Refusal::Session));
            let why = match signs.is_empty() {
                true => {
                    let hint = strangers(database, inventory, host.read_files().as_ref())?;
                    let hint = hint.map(|fact| format!("; {}: {}", fact.what, fact.help)).unwrap_or_default();
                    format!("no server runs for `{}`{hint}", cluster.pgdata.display())
                }
                false => format!("a server runs, but {}", error.in_full()),
            };
            let taken_apart = signs.is_empty() && dismantled::is_one(host.read_files().as_ref(), &cluster.pgdata);
            let may_start = signs.is_empty() && !taken_apart;
            let crashed = may_start && crashed::is_one(&cluster, host.read_files().as_ref());
            let is_clean = || may_start && is_clean(&cluster, host.read_files().as_ref());
            let startable = (crashed || is_clean()).then(|| started_by(&cluster, host.read_files().as_ref()));
            return Ok(ServerStatus {
                why,
                refuses,
                ha_manager,
                startable,
                crashed,
                full_disks: crashed::full_disks(&cluster, host.read_files().as_ref()),
                taken_apart,
                contradictions,
                ..ServerStatus::default()
            });
        }
    };
    let table = session.query("SELECT current_setting('server_version'), pg_is_in_recovery()").await?;
    let in_recovery = table.at(0, 1) == Some("t");
    let sql = "SELECT datname, datallowconn OR datname = 'template0' FROM pg_database ORDER BY 1";
    let listed = session.query(sql).await?;
    let named = |row| Some((listed.at(row, 0)?.to_owned(), listed.at(row, 1) == Some("t")));
    let databases: Vec<(String, bool)> = (0..listed.rows.len()).filter_map(named).collect();
    let shut = databases.iter().filter(|(_, is_open)| !is_open).map(|(name, _)| name.clone()).collect();
    Ok(ServerStatus {
        answers: true,
        why: String::new(),
        refuses: None,
        lost,
        databases: databases.into_iter().map(|(name, _)| name).collect(),
        shut,
        version: table.at(0, 0).map(ToOwned::to_owned),
        in_recovery,
        ha_manager,
        startable: None,
        crashed: false,
        full_disks: Vec::new(),
        taken_apart: false,
        contradictions,
    })
}

/// Opens a session in the entry's database; where only that one is closed, in another one.
async fn asked(
    cluster: &Cluster,
    secrets: &dyn Secrets,
) -> (Result<Session, (Option<Refusal>, ActionError)>, Option<LostDatabase>) {
    let endpoint = match Endpoint::of(cluster, None, secrets) {
        Ok(endpoint) => endpoint,
        Err(error) => return (Err((None, error)), None),
    };
    let (refuses, error) = match endpoint.ask().await {
        Ok(session) => return (Ok(session), None),
        Err(refused) => refused,
    };
    let elsewhere = match (refuses, MaintenanceDb::common(cluster, secrets)) {
        (Some(Refusal::Database), Ok(maintenance_db)) => maintenance_db.open().await.ok(),
        (Some(Refusal::Database | Refusal::Login | Refusal::Session) | None, _) => None,
    };
    let Some(session) = elsewhere else { return (Err((refuses, error)), None) };
    let why = error.in_full();
    (Ok(session), Some(LostDatabase { dbname: cluster.dbname.clone(), why }))
}

/// Whether the data of a server lies there as its own clean shutdown left it.
fn is_clean(cluster: &Cluster, files: &dyn ReadFiles) -> bool {
    let Ok(control) = files.read(&cluster.pgdata.join(ControlFile::PATH), 1 << 20) else { return false };
    let is_own =
        Marker::read(files, &cluster.pgdata).is_ok_and(|marker| marker.is_none_or(|marker| marker.has_opened()));
    let is_clean = ControlFile::parse(&control).is_ok_and(|control| control.state.is_clean());
    let is_whole = matches!(files.facts(&cluster.pgdata.join(VERSION)), Ok(Some(_)));
    is_own && is_clean && is_whole
}

/// The command that starts it.
fn started_by(cluster: &Cluster, files: &dyn ReadFiles) -> String {
    let cluster = with_programs(cluster, files);
    cluster.service_manager().start_by_hand(&cluster)
}
