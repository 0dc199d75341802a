//! What a restore of a dump would meet, before anything is stopped for it: the dump's objects and keys, the room for it,
//! and the server with its rights and names.

use super::{RestoreDumpParams, RestoreMode, dbname, major, serving};
use crate::action::{ActionError, CheckContext, Findings, ReadStore};
use crate::actions::backup::find_check::STILL_TO_COME;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::name;
use crate::actions::postgres::session::attached::Attached;
use crate::actions::postgres::session::origin::Origin;
use crate::actions::postgres::session::sessions;
use crate::actions::postgres::stores::archive;
use crate::actions::postgres::stores::readable::{RETRIEVED_FIRST, Reading, TRIED};
use crate::base::units::ByteSize;
use crate::catalog::{Backup, Catalog, KIND_POSTGRES_DUMP, Manifest};
use crate::pgformat::Major;

/// Judges a restore whose dump is not chosen yet by the newest ones of its database: what none of them could be restored
/// for must show before anything stops.
///
/// # Errors
/// Fails when the store or the server gives no answer.
pub(super) async fn judge(
    params: &RestoreDumpParams,
    cluster: &Cluster,
    cx: &CheckContext,
) -> Result<Findings, ActionError> {
    let findings = Findings::default().pending("the backup is not chosen yet");
    if !cx.ahead {
        return Ok(findings);
    }
    let (store_name, prefix) = cluster.archive()?;
    let store = cx.store(store_name)?;
    let mut first: Option<Findings> = None;
    for backup in newest((store.as_ref(), prefix), &cluster.name, params).await? {
        let judged = readable((store.as_ref(), &backup), cx, Findings::default()).await?;
        if judged.refused() {
            first = first.or(Some(judged));
            continue;
        }
        let doubts = first.into_iter().flat_map(|first| first.0);
        let findings = doubts.fold(findings, |all, doubt| all.warn(doubt.message, doubt.help.unwrap_or_default()));
        // A step before this one may bring the server.
        return match server(params, (cluster, &backup.manifest), cx, findings.clone()).await {
            Ok(findings) => Ok(findings),
            Err(error) => Ok(findings.warn(error.to_string(), "it is asked again when the step starts")),
        };
    }
    let refused = first.into_iter().flat_map(|first| first.0);
    if cx.may_still_change(store_name) {
        return Ok(refused.fold(findings, |all, doubt| all.warn(doubt.message, STILL_TO_COME)));
    }
    let mut findings = findings;
    findings.0.extend(refused);
    Ok(findings)
}

/// The newest dumps that may be meant, newest first. Parts of a database come last: they take no name of a whole one.
async fn newest(
    (store, prefix): (&dyn ReadStore, &str),
    database: &str,
    params: &RestoreDumpParams,
) -> Result<Vec<Backup>, ActionError> {
    let list = Catalog::of(store).manifests(prefix, KIND_POSTGRES_DUMP).await;
    let list = list.map_err(|error| archive::broken(&error))?;
    let fits = |backup: &Backup| {
        let dumped = backup.manifest.dump.as_ref().map(|dump| &dump.dbname);
        backup.manifest.source == database && (params.dbname.is_none() || dumped == params.dbname.as_ref())
    };
    let mut all: Vec<Backup> = list.backups.into_iter().rev().filter(fits).take(TRIED).collect();
    all.sort_by_key(|backup| params.a_part(&backup.manifest).is_some());
    Ok(all)
}

/// Judges whether a dump's objects are there and can be read, and whether there is room to bring them.
///
/// # Errors
/// Fails when the store gives no answer.
pub(super) async fn readable(
    (store, backup): (&dyn ReadStore, &Backup),
    cx: &CheckContext,
    findings: Findings,
) -> Result<Findings, ActionError> {
    let reading = Reading { store, backup, about: &cx.about };
    let findings = reading.judge_objects(findings).await?;
    let findings = match findings.refused() && reading.is_brought_back(cx).await {
        true => findings.softened(RETRIEVED_FIRST),
        false => findings,
    };
    space(&backup.manifest, cx, findings)
}

/// Judges the server, where it is known and there already.
///
/// # Errors
/// Fails when it gives no answer.
pub(super) async fn server(
    params: &RestoreDumpParams,
    (own, manifest): (&Cluster, &Manifest),
    cx: &CheckContext,
    findings: Findings,
) -> Result<Findings, ActionError> {
    let late = params.instance.as_ref().is_some_and(|instance| instance.known().is_none());
    if late || own.is_scratch() {
        return Ok(findings.pending("the server is looked at when the step starts"));
    }
    let cluster = serving(params, &cx.about)?;
    judge_server(params, (&cluster, manifest), cx, findings).await
}

/// Refuses a scratch folder that the dump does not fit into.
fn space(manifest: &Manifest, cx: &CheckContext, findings: Findings) -> Result<Findings, ActionError> {
    let needed: u64 = manifest.objects.iter().map(|object| object.plain_facts().size_bytes).sum();
    let space = cx.host.read_files().space(&cx.about.scratch);
    let space = space.map_err(|error| ActionError::fatal("the scratch folder cannot be looked at").because(&error))?;
    if space.free_bytes >= needed {
        return Ok(findings);
    }
    let fact = format!("the scratch folder has {} free, the dump {}", ByteSize(space.free_bytes), ByteSize(needed));
    Ok(findings.refuse(fact, "free some space, or move the state folder"))
}

/// Judges the server: its version, the role's rights, the names, what stands in the way of a rename.
async fn judge_server(
    params: &RestoreDumpParams,
    (cluster, manifest): (&Cluster, &Manifest),
    cx: &CheckContext,
    findings: Findings,
) -> Result<Findings, ActionError> {
    let name = dbname(params, manifest)?;
    let mut findings = findings;
    let mut session = sessions::beside(cluster, &name, cx.about.secrets.as_ref()).await?;
    let origin = Origin::of(&mut session).await?;
    if let Some(dumped) = Major::of_text(&major(manifest)).filter(|dumped| *dumped > origin.major) {
        let fact = format!("the dump is of PostgreSQL {dumped}, the server is {}", origin.version);
        findings = findings.warn(fact, "an older server may not know what the dump says; `mode: beside` tries it");
    }
    let may = session.value("SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user").await?;
    if may != "t" && params.mode != RestoreMode::Into {
        findings = findings.refuse("the role may not create databases", "ALTER ROLE … CREATEDB, or restore as another");
    }
    let there = sessions::number(&mut session, &name).await?.is_some();
    if let Some((fact, help)) = params.a_part(manifest).filter(|_| there) {
        findings = findings.refuse(fact, help);
    }
    if manifest.dump.is_none() {
        let fact =
            format!("another program made dump `{}`: whether it holds the whole of `{name}` is not known", manifest.id);
        let help =
            "`runbook drill restore-dump` with the same parameters shows what comes of it; what it replaces is kept";
        findings =
            findings.warn(fact, if params.mode == RestoreMode::Replace { "say `mode: beside` and look" } else { help });
    }
    match (params.mode, there) {
        (RestoreMode::Into, false) => {
            findings = findings.refuse(
                format!("there is no database `{name}` to restore into"),
                "create it with `postgres.create_database`, or leave `mode` out",
            );
        }
        (RestoreMode::Swap | RestoreMode::Replace, true) => {
            let prepared = format!("SELECT count(*) FROM pg_prepared_xacts WHERE database = {}", name::literal(&name));
            let prepared = session.value(&prepared).await?;
            if prepared != "0" {
                let fact = format!("database `{name}` has {prepared} prepared transactions and cannot be renamed");
                findings = findings.refuse(fact, "commit or roll them back: `SELECT * FROM pg_prepared_xacts`");
            }
            let attached = Attached::of(&mut session, &name).await?;
            findings = match params.mode {
                RestoreMode::Replace => attached.judge_drop(&name, findings),
                RestoreMode::Swap | RestoreMode::Beside | RestoreMode::Into => attached.judge_rename(&name, findings),
            };
        }
        (RestoreMode::Into, true) | (RestoreMode::Beside, _) | (RestoreMode::Swap | RestoreMode::Replace, false) => {}
    }
    let shown = if there { "is there" } else { "is not there" };
    Ok(findings.pass(format!("PostgreSQL {} answers; database `{name}` {shown}", origin.version)))
}
