//! `postgres.restore_base`: a backup extracted and verified beside the live data; nothing else is touched, unless the data
//! that is there is given up for it by choice.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::configured;
use super::dismantled::DismantledDirectory;
use super::existing::Existing;
use super::fetching;
use super::freezing;
use super::neighbours;
use super::obstacle;
use super::restore_base_by_hand;
use super::space::{self, Fit, Replay, Site};
use super::spare;
use super::stage::{self, room_for};
use crate::action::{
    Access, Action, ActionError, ActionSpec, BackupHandle, CheckContext, DatabaseRef, EffectClass, Effects, Example,
    Findings, Idempotency, Late, Machine, ParamFault, PlanContext, ReadStore, RunContext, StagedHandle, Target,
};
use crate::actions::backup::find_check::STILL_TO_COME;
use crate::actions::postgres::backup::outside::{self, ConfigFiles};
use crate::actions::postgres::backup::own_wal::{self, Effort};
use crate::actions::postgres::cluster::container::ServerHost;
use crate::actions::postgres::cluster::enclosed;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::live;
use crate::actions::postgres::cluster::machine;
use crate::actions::postgres::cluster::owner::Owner;
use crate::actions::postgres::cluster::scratch;
use crate::actions::postgres::cluster::server::Programs;
use crate::actions::postgres::cluster::service_manager::Wish;
use crate::actions::postgres::stores::archive;
use crate::actions::postgres::stores::readable::{RETRIEVED_FIRST, Reading};
use crate::catalog::{self, Backup, PostgresFacts};
use crate::pgformat::major_text;

/// Stages a base backup.
#[derive(Debug, Clone, Copy, Default)]
pub struct RestoreBase;

/// The arguments of `postgres.restore_base`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreBaseParams {
    /// The database of the inventory.
    pub database: DatabaseRef,
    /// The backup, as `backup.find` or `postgres.base_backup` gave it.
    pub backup: Late<BackupHandle>,
    /// Configuration files that its server kept outside the data directory: `beside` (default) puts them into a
    /// folder of their own, `missing` where they were unless something is there, `leave` nowhere.
    #[serde(default)]
    pub config_files: ConfigFiles,
    /// What becomes of the data that is there. `keep_beside` (default) keeps it whole and needs room for two; `delta`
    /// compares it with the backup and writes only what differs; `replace` removes it first. Those two destroy it, after
    /// the whole backup was verified; its WAL, `pg_control` and configuration are kept in any case.
    #[serde(default)]
    pub existing: Existing,
}

/// The outputs of `postgres.restore_base`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestoreBaseOutput {
    /// The staged backup.
    pub staged: StagedHandle,
    /// The bytes that were read and verified.
    pub size_bytes: u64,
    /// The files that were verified.
    pub files: u64,
    /// The configuration files from outside the data directory, where they were put.
    #[serde(default)]
    pub config_files: Vec<PathBuf>,
    /// With `existing: delta` the bytes that were there already and were not written again.
    #[serde(default)]
    pub reused_bytes: Option<u64>,
}

impl Action for RestoreBase {
    const SPEC: ActionSpec = ActionSpec {
        name: "postgres.restore_base",
        summary: "Extracts and verifies a base backup beside the live data, or over it where that is asked for.",
        effect: EffectClass::Destroy,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[
            Example {
                title: "The backup that was found",
                with: "{ database: orders, backup: '{{ steps.choose.backup }}' }",
            },
            Example {
                title: "Over the stopped server's data, where there is no room for two",
                with: "{ database: orders, backup: '{{ steps.choose.backup }}', existing: delta }",
            },
        ],
    };
    type Params = RestoreBaseParams;
    type Output = RestoreBaseOutput;

    fn effects(&self, params: &RestoreBaseParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let fault = |error: &ActionError| vec![ParamFault::new("/database", error.to_string())];
        let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch).map_err(|error| fault(&error))?;
        cluster.within_reach(Wish::DataDirectory)?;
        let (store, prefix) = cluster.archive().map_err(|error| fault(&error))?;
        let from = Target::Store { name: store.to_owned(), prefix: prefix.to_owned() };
        let (class, access) = match params.existing.on(&cluster) {
            Existing::KeepBeside => (EffectClass::Write, Access::Write),
            Existing::Delta | Existing::Replace => (EffectClass::Destroy, Access::Destroy),
        };
        let read = archive::read(&cluster, spare::read(&cluster, Effects::of(class).target(Access::Read, from)));
        let effects = match cluster.is_scratch() {
            true => read,
            // The note that freezes what the recovery rests on.
            false => freezing::written(&cluster, cx.inventory, read),
        };
        let effects = if cluster.is_contained() { cluster.service_manager().named(effects) } else { effects };
        Ok(effects.target(access, Target::Database { name: cluster.name }))
    }

    fn by_hand(&self, params: &RestoreBaseParams, cx: &PlanContext<'_>) -> Vec<String> {
        restore_base_by_hand::lines(params, cx).unwrap_or_default()
    }

    async fn check(&self, params: &RestoreBaseParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let mut findings = Findings::default();
        match ServerHost::seen(&cluster, cx.host.as_ref()).await? {
            Some(_) => drop(Owner::of(&cluster, cx.host.as_ref())?),
            None => findings = findings.pending("the server's container is not there: it is made when the step starts"),
        }
        if let Some(fact) = cluster.linked(cx.host.read_files().as_ref()) {
            return Ok(findings.refuse(fact.what, fact.help));
        }
        if let Some(fact) = enclosed::replaced((&cluster, &[]), &cx.about, cx.host.read_files().as_ref()) {
            return Ok(findings.refuse(fact.what, fact.help));
        }
        let existing = params.existing.on(&cluster);
        if existing.destroys() {
            // Nobody may have named it in this inventory.
            let dismantled = DismantledDirectory::of(&cluster, cx.host.read_files().as_ref(), &cx.about.run)?;
            if let Some(fact) = dismantled.store_within(cx.host.read_files().as_ref())? {
                return Ok(findings.refuse(fact.what, fact.help));
            }
        }
        if existing.destroys() && !cx.ahead {
            let signs = live::signs(&cluster, cx.host.read_files().as_ref()).await?;
            if let Some(sign) = signs.first() {
                let fact = format!("the server whose data is to be given up is alive: {sign}");
                return Ok(findings.refuse(fact, "stop it first (`postgres.stop`)"));
            }
        }
        if existing.destroys() {
            findings = findings.warn(
                format!("the data in `{}` is given up before the backup is there", cluster.pgdata.display()),
                "`existing: keep_beside` keeps it, where there is room for two",
            );
        }
        let Some(handle) = cx.foreseen.of(&params.backup) else {
            return any_readable(&cluster, cx, findings.pending("the backup is not chosen yet")).await;
        };
        let dir = cluster.staged(cx.host.read_files().as_ref(), &cx.about.run);
        let staged = StagedHandle { database: cluster.name.clone(), backup: handle.clone(), dir };
        cx.foreseen.tell("staged", &staged);
        cx.foreseen.tell(EXISTING, &existing);
        fits(&cluster, (&handle, existing), cx, findings).await
    }

    async fn run(&self, params: &RestoreBaseParams, cx: &RunContext) -> Result<RestoreBaseOutput, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let handle = params.backup.get()?;
        if let Some(fact) = cluster.linked(cx.host.files().as_ref()) {
            return Err(ActionError::fatal(fact.what).help(fact.help));
        }
        let server_host = ServerHost::made(&cluster, cx.host.as_ref()).await?;
        if params.config_files == ConfigFiles::Missing && cluster.is_contained() {
            let fact = "configuration files of a container are not put back: their places are the container's own";
            return Err(ActionError::fatal(fact).help("use `config_files: beside`, and mount what is wanted"));
        }
        proven(&cluster, (&server_host, handle), cx).await?;
        // It may take hours to read a backup, and nothing else keeps it, or the WAL behind it, from whoever prunes.
        freezing::begin(&cluster, cx).await;
        let output = spare::stage_whole(&cluster, handle, params.existing, cx).await?;
        let handle = &output.staged.backup;
        if cluster.is_scratch() {
            return Ok(output);
        }
        fetching::rehearse(&cluster, cx).await?;
        let config_files = config_files(&cluster, handle, params.config_files, cx).await?;
        Ok(RestoreBaseOutput { config_files, ..output })
    }

    async fn remove(&self, _: &str, data: &serde_json::Value, cx: &RunContext) -> Result<(), ActionError> {
        scratch::remove(data, cx).await
    }
}

/// Puts the configuration files of a staged backup where they are wanted, and says where.
async fn config_files(
    cluster: &Cluster,
    handle: &BackupHandle,
    how: ConfigFiles,
    cx: &RunContext,
) -> Result<Vec<PathBuf>, ActionError> {
    let (store_name, prefix) = place(cluster, handle)?;
    let store = cx.store(store_name)?;
    let backup = opened(store.as_read(), prefix, cluster, handle).await?;
    let reading = Reading { store: store.as_read(), backup: &backup, about: &cx.about };
    let owner = Owner::of(cluster, cx.host.as_ref())?;
    let placement = cluster.placement(cx.host.files().as_ref());
    let beside = placement.config(&cluster.pgdata, &cx.about.run);
    let made = outside::put_back(reading, (how, &beside), &owner, cx).await?;
    if let Some(first) = made.first() {
        let message = match how {
            ConfigFiles::Missing => {
                format!("configuration files from outside the data directory were put back: `{}`", first.display())
            }
            ConfigFiles::Beside | ConfigFiles::Leave => format!(
                "configuration files from outside the data directory lie beside it, where no server reads them: `{}`",
                first.display()
            ),
        };
        cx.reporter.note(message, serde_json::json!({ "files": made }));
    }
    Ok(made)
}

/// Proves that a container's server is of the backup's version, before anything is written.
async fn proven(
    cluster: &Cluster,
    (server_host, handle): (&ServerHost, &BackupHandle),
    cx: &RunContext,
) -> Result<(), ActionError> {
    let (store_name, prefix) = place(cluster, handle)?;
    let backup = opened(cx.store(store_name)?.as_read(), prefix, cluster, handle).await?;
    let facts = backup.manifest.cluster().map_err(|error| archive::broken(&error))?;
    stage::fits_container(cluster, facts)?;
    let version = major_text(&facts.server_version);
    server_host.verify(version, &Owner::of(cluster, cx.host.as_ref())?, cx.host.as_read()).await
}

/// What a check foretells beside `staged`: what becomes of the data that is there.
pub(crate) const EXISTING: &str = "existing";
/// What to do about a machine that is not ready yet.
pub(crate) const MADE_READY: &str = "a step before this one makes the machine ready; it is looked at again then";

/// Judges whether the chosen backup can be read and fits where `cluster` wants it.
///
/// # Errors
/// Fails when the store gives no answer.
pub(crate) async fn fits(
    cluster: &Cluster,
    (handle, existing): (&BackupHandle, Existing),
    cx: &CheckContext,
    findings: Findings,
) -> Result<Findings, ActionError> {
    let (store_name, prefix) = place(cluster, handle)?;
    let store = cx.store(store_name)?;
    let backup = opened(store.as_ref(), prefix, cluster, handle).await?;
    let links = match stage::lineage(store.as_ref(), &backup, existing).await {
        Ok(links) => links,
        Err(error) if error.info().class == crate::event::ErrorClass::Fatal => {
            let help = error.info().help.clone().unwrap_or_default();
            return Ok(findings.refuse(error.to_string(), help));
        }
        Err(error) => return Err(error),
    };
    let mut findings = findings;
    for link in &links {
        let reading = Reading { store: store.as_ref(), backup: link, about: &cx.about };
        let judged = reading.judge(findings.clone()).await?;
        if judged.refused() {
            let help = if reading.is_brought_back(cx).await {
                RETRIEVED_FIRST.to_owned()
            } else if cx.may_still_change(store_name) {
                STILL_TO_COME.to_owned()
            } else if let Some(other) = spare::readable(cluster, handle, (&cx.about, &|name| cx.store(name))).await? {
                format!("its copy in store `{other}` can be read and is taken instead")
            } else {
                return Ok(judged);
            };
            findings = judged.softened(&help);
            break;
        }
        findings = judged;
    }
    let rivals = own_wal::stores(cluster, |name| cx.store(name))?;
    let reading = Reading { store: store.as_ref(), backup: &backup, about: &cx.about };
    let (place, cancel) = ((cluster, rivals.as_slice()), CancellationToken::new());
    if let Some(found) = own_wal::rival(reading, place, Effort::Little, &cancel).await {
        let (fact, help) = found.of_backup(&backup.manifest.id);
        return Ok(findings.refuse(fact, help));
    }
    let placed = match placed(cluster, (&links, existing), cx, findings.clone()).await {
        Ok(placed) if !placed.refused() => {
            let reading = Reading { store: store.as_ref(), backup: &backup, about: &cx.about };
            Ok(configured::judge(cluster, reading, cx, placed).await)
        }
        placed => placed,
    };
    match cx.foreseen.machine() {
        Machine::AsItIs => placed,
        Machine::MadeReady => Ok(match placed {
            Ok(placed) => placed.softened(MADE_READY),
            Err(error) => findings.warn(error.to_string(), MADE_READY),
        }),
    }
}

/// Judges whether the machine has what a backup with everything it rests on needs, and the room for it.
async fn placed(
    cluster: &Cluster,
    (links, existing): (&[Backup], Existing),
    cx: &CheckContext,
    findings: Findings,
) -> Result<Findings, ActionError> {
    let Some(backup) = links.last() else { return Ok(findings) };
    let facts = backup.manifest.cluster().map_err(|error| archive::broken(&error))?;
    let findings = match cluster.is_contained() {
        true if links.len() > 1 => {
            let fact = "incremental backups are put together by programs of this machine, not of a container";
            let full = links.first().map_or_else(|| "use a full backup".to_owned(), |full| full_instead(cluster, full));
            return Ok(findings.refuse(fact, full));
        }
        true => match stage::fits_container(cluster, facts) {
            Ok(()) => findings,
            Err(error) => {
                let help = error.info().help.clone().unwrap_or_default();
                return Ok(findings.refuse(error.to_string(), help));
            }
        },
        false => {
            let findings = runs_here(cluster, (facts, links), cx, findings).await?;
            if findings.refused() {
                return Ok(findings);
            }
            findings
        }
    };
    let files = cx.host.read_files();
    let findings = neighbours::judge((cluster, &facts.tablespaces), &cx.about, files.as_ref(), findings);
    let findings = obstacle::judge((cluster, &facts.tablespaces), &cx.about, files.as_ref(), findings);
    if findings.refused() {
        return Ok(findings);
    }
    let site = Site { cluster, run: &cx.about.run, files: files.as_ref() };
    let gain = stage::gain(&site, (backup, links.len()), existing)?;
    Ok(match site.fit(&space::parts(links), &gain, Replay::Unknown) {
        Fit::Not(fact) => findings.refuse(fact, room_for(existing, cluster)),
        Fit::Tightly(fact) => findings.warn(fact, "free some space before: a recovery that runs out of it ends"),
        Fit::Well => findings.pass(format!("backup `{}` fits", backup.manifest.id)),
    })
}

/// The way around the increments: their full backup, from where the archived WAL leads to the same place.
fn full_instead(cluster: &Cluster, full: &Backup) -> String {
    let id = &full.manifest.id;
    if cluster.is_scratch() {
        return format!(
            "use the full backup that it rests on, `{id}`, where the procedure takes one (`-p backup={id}`)"
        );
    }
    format!(
        "use the full backup that it rests on, from which the archived WAL leads on: `runbook run full-db-loss -p database={} -p \
         backup={}`",
        cluster.name, id
    )
}

/// Judges whether this machine has what runs the backup's server.
async fn runs_here(
    cluster: &Cluster,
    (facts, links): (&PostgresFacts, &[Backup]),
    cx: &CheckContext,
    findings: Findings,
) -> Result<Findings, ActionError> {
    let version = major_text(&facts.server_version).to_owned();
    let programs = Programs::of(cluster, &version, cx.host.as_ref())?;
    programs.verify(&version, cx.host.as_ref()).await?;
    let lacks = programs.cannot_combine(&version, cx.host.as_ref()).filter(|_| links.len() > 1);
    if let (Some((fact, help)), Some(full)) = (lacks, links.first()) {
        return Ok(findings.refuse(fact, format!("{help}, or {}", full_instead(cluster, full))));
    }
    Ok(machine::judge(facts, &programs, cx.host.as_ref(), findings).await)
}

/// The store a backup is read from, and the prefix of the catalog in it: a copy lies in any of the database's stores,
/// another program's backup anywhere.
pub(crate) fn place<'a>(cluster: &'a Cluster, handle: &'a BackupHandle) -> Result<(&'a str, &'a str), ActionError> {
    let (store, prefix) = cluster.archive()?;
    let is_copy = cluster.entry.backup_destinations().any(|wal_archive| wal_archive == handle.store);
    Ok(if handle.described.is_some() || is_copy { (handle.store.as_str(), prefix) } else { (store, prefix) })
}

/// Opens the very backup that was chosen, of this database.
pub(crate) async fn opened(
    store: &dyn ReadStore,
    prefix: &str,
    cluster: &Cluster,
    handle: &BackupHandle,
) -> Result<Backup, ActionError> {
    if handle.database != cluster.name || handle.kind != catalog::KIND_POSTGRES_BASE || handle.store != store.name() {
        let fact = format!("backup `{}` is a `{}` of database `{}`", handle.id, handle.kind, handle.database);
        return Err(ActionError::fatal(format!("{fact}, not a base backup of `{}` in its store", cluster.name)));
    }
    catalog::open(store, prefix, handle).await.map_err(|error| archive::broken(&error))
}

/// Judges the backups there are while none is chosen yet, newest first: a key that fits none of them must show
/// before anything stops.
pub(crate) async fn any_readable(
    cluster: &Cluster,
    cx: &CheckContext,
    findings: Findings,
) -> Result<Findings, ActionError> {
    if !cx.ahead {
        return Ok(findings);
    }
    let (store_name, _) = cluster.archive()?;
    let mut newest: Option<Findings> = None;
    for (store, backup) in spare::choosable(cluster, cx).await? {
        let reading = Reading { store: store.as_ref(), backup: &backup, about: &cx.about };
        let judged = reading.judge(Findings::default()).await?;
        if !judged.refused() {
            let doubts = newest.into_iter().flat_map(|newest| newest.0);
            let doubted = doubts.fold(findings, |all, doubt| all.warn(doubt.message, doubt.help.unwrap_or_default()));
            let files = cx.host.read_files();
            let tablespaces = backup.manifest.postgres.as_ref().map_or(&[][..], |facts| &facts.tablespaces);
            let doubted = neighbours::judge((cluster, tablespaces), &cx.about, files.as_ref(), doubted);
            let doubted = obstacle::judge((cluster, tablespaces), &cx.about, files.as_ref(), doubted);
            // Which one it will be is not known yet: this one shows that there is one.
            let shown = |message: String| format!("should it be the one that is chosen: {message}");
            return Ok(judged.0.into_iter().fold(doubted, |all, found| all.pass(shown(found.message))));
        }
        newest = newest.or(Some(judged));
    }
    let refused = newest.into_iter().flat_map(|newest| newest.0);
    if cx.may_still_change(store_name) {
        return Ok(refused.fold(findings, |all, doubt| all.warn(doubt.message, STILL_TO_COME)));
    }
    let mut findings = findings;
    findings.0.extend(refused);
    Ok(findings)
}
