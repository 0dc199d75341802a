//! `backup.get`: the content of a backup as plain files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::failure::transfer_failed;
use super::pipe::{Read, expected, read};
use super::place::{Place, PlaceSpec};
use super::sighting;
use super::tarball;
use crate::action::by_hand::{command_line, remark};
use crate::action::{
    Access, Action, ActionError, ActionSpec, BackupHandle, CheckContext, EffectClass, Effects, Example, Findings,
    HostError, Idempotency, Late, ParamFault, PlanContext, ReadStore, RunContext, StoreError, Target,
};
use crate::actions::store::catalog_failed;
use crate::catalog::{self, Backup, CatalogError, ManifestObject, Query};
use crate::event::Progress;
use crate::transfer::{Unpacking, download};

/// Fetches a backup.
#[derive(Debug, Clone, Copy, Default)]
pub struct Get;

/// The arguments of `backup.get`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetParams {
    /// Where the backups lie.
    #[serde(flatten)]
    pub place: PlaceSpec,
    /// The backup, as `backup.find` gave it. Default: the newest.
    #[serde(default)]
    pub backup: Option<Late<BackupHandle>>,
    /// The folder to make, an absolute path; it must not exist.
    pub into: PathBuf,
}

/// The outputs of `backup.get`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackupFiles {
    /// The backup.
    pub backup: BackupHandle,
    /// The folder.
    pub into: PathBuf,
    /// What it holds: each file by its name, each archived folder by its own.
    pub names: Vec<String>,
    /// The plain bytes that were written and verified.
    pub size_bytes: u64,
}

/// The backup that is meant: the one given, or the copy of it that this store has; else the newest.
pub(super) async fn chosen(
    store: &dyn ReadStore,
    place: &Place,
    handle: Option<&BackupHandle>,
) -> Result<Backup, ActionError> {
    let Some(handle) = handle else {
        let query = Query { source: Some(place.source.clone()), ..Query::default() };
        return catalog::find(store, &place.prefix, &query).await.map_err(catalog_failed);
    };
    if handle.database != place.source {
        let fact = format!("backup `{}` is of `{}`, not of `{}`", handle.id, handle.database, place.source);
        return Err(ActionError::fatal(fact).help("name what the backup is of"));
    }
    if handle.store != place.store {
        return copy(store, place, handle).await;
    }
    catalog::open(store, &place.prefix, handle).await.map_err(catalog_failed)
}

/// Another store's copy of a backup: it has the same id and a manifest of its own, since each store packs in its own way.
async fn copy(store: &dyn ReadStore, place: &Place, handle: &BackupHandle) -> Result<Backup, ActionError> {
    let none = || {
        let fact = format!("backup `{}` of store `{}` has no copy in `{}`", handle.id, handle.store, place.store);
        ActionError::fatal(fact).help(format!("read it with `store: {}`", handle.store))
    };
    if handle.described.is_some() {
        return Err(none());
    }
    catalog::open_copy(store, &place.prefix, handle).await.map_err(|error| match error {
        CatalogError::Changed(_) | CatalogError::Store(StoreError::NotFound { .. }) => none(),
        error => catalog_failed(error),
    })
}

fn failed(error: HostError) -> ActionError {
    ActionError::fatal(error.to_string()).because(&error)
}

impl Action for Get {
    const SPEC: ActionSpec = ActionSpec {
        name: "backup.get",
        summary: "Fetches a backup: verified, decrypted, decompressed and unpacked into a new folder.",
        effect: EffectClass::Write,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[Example {
            title: "The newest backup of a folder",
            with: "{ source: media, store: primary, into: /srv/restored/media }",
        }],
    };
    type Params = GetParams;
    type Output = BackupFiles;

    fn effects(&self, params: &GetParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        if params.into.is_relative() || tarball::name(&params.into).is_none() {
            return Err(vec![ParamFault::new("/into", "it is no absolute path of a folder to make")]);
        }
        let place = params.place.resolve(cx.inventory).map_err(|fault| vec![fault])?;
        let folder = Target::Path { host: cx.host.to_owned(), path: params.into.clone() };
        // What was chosen may lie in any store of the database.
        let elsewhere: Vec<String> = match (&params.backup, &params.place.store) {
            (Some(_), None) => place.backup_destinations(cx.inventory).map(str::to_owned).collect(),
            (Some(_), Some(_)) | (None, _) => Vec::new(),
        };
        let from = |name: String| Target::Store { name, prefix: place.prefix.clone() };
        let effects = Effects::of(EffectClass::Write).target(Access::Read, from(place.store.clone()));
        let effects = elsewhere.into_iter().fold(effects, |effects, name| effects.target(Access::Read, from(name)));
        Ok(effects.target(Access::Write, folder))
    }

    fn by_hand(&self, params: &GetParams, cx: &PlanContext<'_>) -> Vec<String> {
        let Ok(place) = params.place.resolve(cx.inventory) else { return Vec::new() };
        let from = super::super::store::by_hand::location(cx.inventory, &place.store, &format!("{}/", place.prefix));
        let into = params.into.display().to_string();
        vec![
            remark(&format!("copy the folder of the backup from below {from} to a disk; each has a `restore.sh`")),
            command_line(["sh", "‹backup›/restore.sh", &into]),
        ]
    }

    async fn check(&self, params: &GetParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let findings = Findings::default();
        if cx.host.read_files().facts(&params.into).map_err(failed)?.is_some() {
            let fact = format!("`{}` exists", params.into.display());
            return Ok(findings.refuse(fact, "name a folder that does not exist: nothing is ever overwritten"));
        }
        let place = params.place.resolve(&cx.about.inventory).map_err(|fault| ActionError::fatal(fault.message))?;
        if let Some(Late::Pending(expression)) = &params.backup {
            return Ok(findings.pending(format!("`{expression}` is not known yet")));
        }
        let handle = params.backup.as_ref().and_then(Late::known);
        let place = place.of_chosen(handle, params.place.store.as_ref(), &cx.about.inventory);
        let store = cx.store(&place.store)?;
        let backup = chosen(&*store, &place, handle).await?;
        let missing = backup.missing_objects(&*store).await.map_err(catalog_failed)?;
        if !missing.is_empty() {
            let fact = format!("backup `{}` lacks {}", backup.manifest.id, missing.join(", "));
            return Ok(findings.refuse(fact, "choose another backup"));
        }
        let needed = plain_bytes(&backup);
        let space = cx.host.read_files().space(&params.into).map_err(failed)?;
        if space.free_bytes < needed {
            let fact =
                format!("{} bytes are free for `{}`, {needed} are needed", space.free_bytes, params.into.display());
            return Ok(findings.refuse(fact, "free some space, or name another folder"));
        }
        Ok(findings.pass(format!("backup `{}` is complete and fits", backup.manifest.id)))
    }

    async fn run(&self, params: &GetParams, cx: &RunContext) -> Result<BackupFiles, ActionError> {
        let work = get(params, cx);
        tokio::select! {
            done = work => done,
            () = cx.cancel.cancelled() => Err(ActionError::cancelled("fetching the backup was cancelled; the folder was not made")),
        }
    }
}

fn plain_bytes(backup: &Backup) -> u64 {
    backup.manifest.objects.iter().map(|object| object.plain_facts().size_bytes).sum()
}

async fn get(params: &GetParams, cx: &RunContext) -> Result<BackupFiles, ActionError> {
    let inventory = &cx.about.inventory;
    let place = params.place.resolve(inventory).map_err(|fault| ActionError::fatal(fault.message))?;
    let handle = params.backup.as_ref().map(Late::get).transpose()?;
    let place = place.of_chosen(handle, params.place.store.as_ref(), inventory);
    let store = cx.store(&place.store)?;
    let backup = chosen(store.as_read(), &place, handle).await?;
    let files = cx.host.files();
    if files.facts(&params.into).map_err(failed)?.is_some() {
        let fact = format!("`{}` exists", params.into.display());
        return Err(ActionError::fatal(fact).help("name a folder that does not exist: nothing is ever overwritten"));
    }
    let stage = stage(&params.into, cx);
    if files.facts(&stage).map_err(failed)?.is_some() {
        files.remove_tree(&stage).map_err(failed)?;
    }
    files.create_dir(&stage, 0o700).map_err(failed)?;
    let (mut names, mut done) = (Vec::new(), 0);
    for object in &backup.manifest.objects {
        let total = Some(plain_bytes(&backup));
        cx.reporter.progress(Progress::Units { done, total, unit: "bytes" });
        let fetched = fetch(store.as_read(), (&backup, object), &stage, cx).await;
        names.push(fetched.inspect_err(|error| sighting::noted(error, &backup, cx))?);
        done += object.plain_facts().size_bytes;
    }
    files.rename(&stage, &params.into).map_err(failed)?;
    if let Some(parent) = params.into.parent() {
        files.sync(parent).map_err(failed)?;
    }
    Ok(BackupFiles { backup: backup.handle(), into: params.into.clone(), names, size_bytes: done })
}

/// Where the content lies until all of it is verified; an earlier attempt of this step used the same place.
fn stage(into: &Path, cx: &RunContext) -> PathBuf {
    let name = tarball::name(into).unwrap_or_default();
    into.with_file_name(format!(".{name}.{}.runbook-part", cx.about.run))
}

/// Fetches one object; gives the name it has in the folder.
async fn fetch(
    store: &dyn ReadStore,
    (backup, object): (&Backup, &ManifestObject),
    stage: &Path,
    cx: &RunContext,
) -> Result<String, ActionError> {
    let keys = cx.about.inventory.stores.get(&backup.store).and_then(|entry| entry.encryption.as_ref());
    let unpacking = Unpacking::of(&object.encoding, keys, cx.about.secrets.as_ref()).map_err(transfer_failed)?;
    let key = backup.manifest.key_of(&backup.prefix, object).map_err(catalog_failed)?;
    let files = cx.host.files();
    if let Some(folder) = &object.archive_of {
        let root = stage.join(folder);
        files.create_dir(&root, 0o755).map_err(failed)?;
        let extracted = read((store, &key), &unpacking, object, move |from| tarball::extract(from, &root)).await?;
        return match extracted {
            Read::Whole(_) => Ok(folder.clone()),
            Read::Damaged(what) => Err(ActionError::fatal(format!("the backup is damaged: {what}"))
                .help("use another copy of it")
                .of_damage()),
        };
    }
    let name = object.plain_name();
    let path = stage.join(&name);
    if let Some(parent) = path.parent().filter(|parent| *parent != stage)
        && files.facts(parent).map_err(failed)?.is_none()
    {
        files.create_dir(parent, 0o755).map_err(failed)?;
    }
    let mut file = tokio::fs::File::from_std(files.create(&path, 0o600).map_err(failed)?);
    let passed = download((store, &key), &unpacking, expected(object), &mut file, Arc::new(|_| {})).await;
    passed.map_err(transfer_failed)?;
    file.sync_all().await.map_err(|error| ActionError::retryable(format!("cannot write `{name}`")).because(&error))?;
    Ok(name)
}
