//! The server that a base backup is read from, and what it must be.

use std::path::Path;

use super::super::replication::Wire;
use super::BaseBackupParams;
use crate::action::{ActionError, Findings};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::session::connect::{Endpoint, Session};
use crate::actions::postgres::session::facts::{ServerFacts, archives};
use crate::actions::postgres::session::maintenance_db::MaintenanceDb;
use crate::language::inventory::Inventory;
use crate::pgformat::Change;

/// Whether the role is told where the server's files are and who streams from it (manual, "Predefined Roles").
const SEES_ALL: &str = "SELECT pg_has_role(current_user, 'pg_read_all_settings', 'USAGE') \
 AND pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')";

/// Judges whether a base backup can be taken of it.
pub(super) async fn judge(
    session: &mut Session,
    facts: &ServerFacts,
    findings: Findings,
) -> Result<Findings, ActionError> {
    let mut findings = findings;
    let role = session.value("SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user").await?;
    if role != "t" {
        findings = findings.refuse("the role may not take base backups", "ALTER ROLE … REPLICATION");
    }
    if session.value(SEES_ALL).await? != "t" {
        findings = findings.warn(
            "the role does not see all settings and statistics: configuration files outside the data directory, the \
             libraries that the server loads and its standbys are not in the backup",
            "GRANT pg_monitor TO it",
        );
    }
    if facts.wal_level == "minimal" {
        findings = findings.refuse("`wal_level` is `minimal`", "set `wal_level = replica` and restart the server");
    }
    let senders =
        session.value("SELECT current_setting('max_wal_senders')::int - count(*) FROM pg_stat_replication").await?;
    if senders.parse::<i64>().unwrap_or_default() < 1 {
        findings = findings.refuse("no WAL sender is free", "raise `max_wal_senders`");
    }
    if !facts.major().has(Change::BackupManifest) {
        let fact = format!("PostgreSQL {} gives no `backup_manifest`, so nothing could be verified", facts.version);
        findings = findings.refuse(fact, "upgrade to PostgreSQL 13 or newer");
    }
    if !archives(&facts.archiving) {
        findings = findings.warn(
            "the server archives no WAL, so only the moment of the backup can be restored",
            "set `archive_mode = on` and `archive_command` to `runbook wal push`",
        );
    }
    Ok(findings)
}

/// The server that the data is read from.
pub(super) fn source(
    params: &BaseBackupParams,
    cluster: &Cluster,
    (inventory, scratch): (&Inventory, &Path),
) -> Result<Cluster, ActionError> {
    params.source.as_ref().map_or_else(|| Ok(cluster.clone()), |source| Cluster::of(source, inventory, scratch))
}

/// Proves that the source answers for replication, which is in no database, and that another entry is a standby of this very
/// cluster.
pub(super) async fn same_cluster(
    (endpoint, maintenance_db): (&Endpoint, &MaintenanceDb),
    facts: &ServerFacts,
    params: &BaseBackupParams,
) -> Result<(), ActionError> {
    let mut wire = Wire::open(endpoint).await?;
    let told = wire.rows("IDENTIFY_SYSTEM").await?;
    let system_id = told.first().and_then(|row| row.first()).cloned().flatten().unwrap_or_default();
    if system_id != facts.system_id.to_string() {
        let fact = format!("cluster {system_id} answers for replication where cluster {} is wanted", facts.system_id);
        return Err(
            ActionError::fatal(fact).help("see which server listens there, and whether a pooler stands between")
        );
    }
    let Some(source) = &params.source else { return Ok(()) };
    if maintenance_db.open().await?.value("SELECT pg_is_in_recovery()").await? != "t" {
        let fact = format!("database `{}` is no standby", source.as_str());
        return Err(ActionError::fatal(fact).help("leave `source` out, or name the entry of a standby"));
    }
    Ok(())
}
