//! The backup that an incremental one rests on: chosen, known to be whole, and its `backup_manifest` at hand, by which
//! the server knows since when to look for changes (manual, "Making an Incremental Backup", PostgreSQL 17 on).

use std::sync::Arc;

use bytes::Bytes;

use super::base_backup::BaseBackupParams;
use super::copies::Outcome;
use super::delivery::BackupStore;
use crate::action::{ActionError, CheckContext, Findings, ReadHost, ReadStore, RunContext};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::server::Programs;
use crate::actions::postgres::session::facts::ServerFacts;
use crate::actions::postgres::session::maintenance_db::MaintenanceDb;
use crate::actions::postgres::stores::archive;
use crate::actions::postgres::stores::readable::Reading;
use crate::catalog::{self, Backup, BackupPlace, CatalogError, KIND_POSTGRES_BASE, Query};
use crate::pgformat::{Change, Lsn, SystemId, major_text};

/// The backup that the next one is an increment to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prior {
    /// Its id.
    pub(crate) id: String,
    /// Where it ends.
    pub(crate) stop_lsn: Lsn,
    /// The server's own manifest of it.
    pub(crate) manifest: Bytes,
}

/// Judges whether the server can take an incremental backup.
///
/// # Errors
/// Fails when the server gives no answer.
pub(crate) async fn judge(
    params: &BaseBackupParams,
    (source, facts): (&MaintenanceDb, &ServerFacts),
    (cluster, host): (&Cluster, &dyn ReadHost),
    findings: Findings,
) -> Result<Findings, ActionError> {
    if !params.incremental {
        return Ok(findings);
    }
    if !facts.major().has(Change::IncrementalBackup) {
        let fact = format!("PostgreSQL {} takes no incremental backups, 17 is the first that does", facts.version);
        return Ok(findings.refuse(fact, "leave `incremental` out, or upgrade the server"));
    }
    let summarizes = source.open().await?.value("SELECT current_setting('summarize_wal')").await?;
    if summarizes != "on" {
        let fact = "`summarize_wal` is off, so the server does not know what changed";
        let help = "ALTER SYSTEM SET summarize_wal = on; SELECT pg_reload_conf(); then take a full backup first";
        return Ok(findings.refuse(fact, help));
    }
    let findings = findings.pass("the server summarizes its WAL, so it knows what changed");
    let version = major_text(&facts.version);
    let lacks = match Programs::of(cluster, version, host) {
        Ok(programs) => programs.cannot_combine(version, host),
        Err(_) => None,
    };
    Ok(match lacks {
        Some((fact, help)) => findings.warn(
            format!("the increment cannot be restored on this machine: {fact}"),
            format!("{help}, or leave `incremental` out"),
        ),
        None => findings,
    })
}

/// Judges whether there is a backup to rest on.
///
/// # Errors
/// Fails when the store gives no answer.
pub(crate) async fn judge_prior(
    params: &BaseBackupParams,
    (cluster, prefix, usable): (&Cluster, &str, &[&str]),
    cx: &CheckContext,
    findings: Findings,
) -> Result<Findings, ActionError> {
    if !params.incremental || params.parent.as_ref().is_some_and(|parent| parent.known().is_none()) {
        return Ok(findings);
    }
    let store = cx.store(usable.first().copied().unwrap_or_default())?;
    match chosen(params, cluster, store.as_ref(), prefix).await? {
        Some(backup) => {
            let links = catalog::lineage(store.as_ref(), &backup).await;
            match links {
                Ok(links) => {
                    Ok(findings.pass(format!("it will rest on `{}`, with {} in all", backup.manifest.id, links.len())))
                }
                Err(error @ CatalogError::Torn { .. }) => {
                    Ok(findings.refuse(error.to_string(), "name another `parent`, or take a full backup"))
                }
                Err(error) => Err(archive::broken(&error)),
            }
        }
        None => Ok(findings.warn(
            "there is no whole base backup to rest on, so a full one will be taken",
            "this is expected the first time",
        )),
    }
}

/// The backup that is to be an increment, if it is to be one.
pub(crate) struct Wanted<'a> {
    /// The step's arguments.
    pub(crate) params: &'a BaseBackupParams,
    /// The cluster.
    pub(crate) cluster: &'a Cluster,
    /// What its server tells.
    pub(crate) facts: &'a ServerFacts,
    /// Where the new one lies.
    pub(crate) place: &'a BackupPlace,
    /// The prefix inside the stores.
    pub(crate) prefix: &'a str,
    /// The attempt.
    pub(crate) cx: &'a RunContext,
}

impl Wanted<'_> {
    /// Finds the backup to rest on, in the first of the stores; `None` where a full one is wanted, or there is none to
    /// rest on. A store that has not that very backup gets no increment to it: it is taken out, with the reason.
    ///
    /// # Errors
    /// Fails when the named one is not whole or of another cluster.
    pub(crate) async fn prior(
        &self,
        backup_stores: &mut Vec<BackupStore>,
        outcome: &mut Outcome,
    ) -> Result<Option<Prior>, ActionError> {
        let Self { params, cluster, facts, cx, .. } = *self;
        let Some(first) = backup_stores.first().filter(|_| params.incremental) else { return Ok(None) };
        if !facts.major().has(Change::IncrementalBackup) {
            let fact = format!("PostgreSQL {} takes no incremental backups, 17 is the first that does", facts.version);
            return Err(ActionError::fatal(fact).help("leave `incremental` out, or upgrade the server"));
        }
        let store = Arc::clone(&first.store);
        let Some(backup) = chosen(params, cluster, store.as_read(), self.prefix).await? else {
            let message = "there is no whole base backup to rest on, so this one is full".to_owned();
            cx.reporter.note(message, serde_json::Value::Null);
            return Ok(None);
        };
        let id = backup.manifest.id.clone();
        if backup.place() == *self.place {
            let fact = format!("store `{}` has this very backup, though it did not say so before", store.name());
            return Err(ActionError::retryable(fact).help("run the step again: it is copied then"));
        }
        let described = backup.manifest.cluster().map_err(|error| archive::broken(&error))?;
        let (theirs, stop_lsn) = (described.system_id, described.stop_lsn);
        if theirs != SystemId(facts.system_id) {
            let fact = format!("backup `{id}` is of cluster {theirs}, and this one is {}", facts.system_id);
            return Err(ActionError::fatal(fact).help("take a full backup"));
        }
        catalog::lineage(store.as_read(), &backup).await.map_err(|error| torn(&error))?;
        for backup_store in std::mem::take(backup_stores) {
            let rests = match backup_stores.is_empty() {
                true => Ok(()),
                false => rests_in(backup_store.store.as_read(), &backup, store.as_read()).await,
            };
            match rests {
                Ok(()) => backup_stores.push(backup_store),
                Err(error) => outcome.failures.push((backup_store.store.name().to_owned(), error)),
            }
        }
        let reading = Reading { store: store.as_read(), backup: &backup, about: &cx.about };
        let (_, manifest) = reading.server_manifest_and_text().await?;
        let message = format!("this backup holds what changed since `{id}`, and rests on it");
        cx.reporter.note(message, serde_json::json!({ "parent": id }));
        Ok(Some(Prior { id, stop_lsn, manifest }))
    }
}

/// Makes sure that a store has the very backup that an increment rests on, and all that rests on: the same moments of the
/// cluster, as `original`, the store that it was chosen in, has them.
///
/// # Errors
/// Fails when a link is not there, is not whole, or is another backup under the same id.
pub(crate) async fn rests_in(
    store: &dyn ReadStore,
    parent: &Backup,
    original: &dyn ReadStore,
) -> Result<(), ActionError> {
    const TAKE_FULL: &str = "take a full backup into all stores; or copy what is missing with `store.copy`";
    let (name, id) = (store.name(), &parent.manifest.id);
    let copy = catalog::load(store, &parent.place()).await.map_err(|error| {
        let fact = format!("store `{name}` has not the backup `{id}`, which the new one would rest on");
        let told = if error.is_passing() { ActionError::retryable(fact) } else { ActionError::fatal(fact) };
        told.because(&error).help(TAKE_FULL)
    })?;
    let theirs = catalog::lineage(store, &copy).await.map_err(|error| torn(&error))?;
    let ours = catalog::lineage(original, parent).await.map_err(|error| torn(&error))?;
    let moment = |link: &Backup| {
        let facts = link.manifest.cluster().map_err(|error| archive::broken(&error))?;
        Ok::<_, ActionError>((link.manifest.id.clone(), facts.timeline, facts.start_lsn, facts.stop_lsn))
    };
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let (ours, theirs) = (moment(ours)?, moment(theirs)?);
        if ours != theirs {
            let fact = format!(
                "store `{name}` has another backup as `{}`: it begins at {}, the one to rest on at {}",
                theirs.0, theirs.2, ours.2
            );
            return Err(ActionError::fatal(fact).help(TAKE_FULL));
        }
    }
    Ok(())
}

/// The backup that was named, else the newest one that is whole.
async fn chosen(
    params: &BaseBackupParams,
    cluster: &Cluster,
    store: &dyn ReadStore,
    prefix: &str,
) -> Result<Option<Backup>, ActionError> {
    if let Some(parent) = &params.parent {
        let handle = parent.get()?;
        if handle.kind != KIND_POSTGRES_BASE || handle.database != cluster.name || handle.described.is_some() {
            let fact = format!("backup `{}` is no base backup of `{}` in the catalog", handle.id, cluster.name);
            return Err(ActionError::fatal(fact).help("name one that `postgres.base_backup` took"));
        }
        return catalog::open(store, prefix, handle).await.map(Some).map_err(|error| archive::broken(&error));
    }
    let query =
        Query { source: Some(cluster.name.clone()), kind: Some(KIND_POSTGRES_BASE.to_owned()), ..Query::default() };
    match catalog::find(store, prefix, &query).await {
        Ok(backup) => Ok(Some(backup)),
        Err(CatalogError::NoBackup(_)) => Ok(None),
        Err(CatalogError::Store(error)) if error.is_unborn() => Ok(None),
        Err(error) => Err(archive::broken(&error)),
    }
}

fn torn(error: &CatalogError) -> ActionError {
    archive::broken(error).help("name another `parent`, or take a full backup")
}
