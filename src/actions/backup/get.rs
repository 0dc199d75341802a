//! `backup.get`: the content of a backup as plain files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::failure::transfer_failed;
use super::pipe::{Read, expected, read};
use super::place::{Place, PlaceSpec};
use super::sighting;
use super::tarball;
use crate::action::by_hand::{command_line, remark};
use crate::action::{
    Access, Action, ActionError, ActionSpec, BackupHandle, CheckContext, EffectClass, Effects, Example, Findings,
    HostError, Idempotency, Interrupted, Late, ParamFault, PlanContext, ReadStore, Recovery, RunContext, Store,
    StoreError, Target,
};
use crate::actions::store::body::on_files;
use crate::actions::store::catalog_failed;
use crate::base::RunId;
use crate::catalog::{self, Backup, CatalogError, ManifestObject, Query};
use crate::event::Progress;
use crate::transfer::{Unpacking, download};

/// Kept in the attempt's folder before the rename: what an interrupted attempt had done.
const RECEIPT: &str = "fetched.json";
const RECEIPT_BYTES: u64 = 8 << 20;

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
        let (store, backup) = until_cancelled(cx, wanted(params, cx)).await?;
        get((store.as_read(), &backup), &params.into, cx).await
    }

    /// The receipt is written before the folder gets its name: both there means that it happened.
    async fn recover(
        &self,
        params: &GetParams,
        cut: &Interrupted,
        cx: &CheckContext,
    ) -> Result<Recovery<BackupFiles>, ActionError> {
        let files = cx.host.read_files();
        let receipt = files.read(&cut.attempt_dir.join(RECEIPT), RECEIPT_BYTES).ok();
        let output = receipt.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let is_there = files.facts(&params.into).map_err(failed)?.is_some();
        let staged = files.facts(&stage(&params.into, &cx.about.run)).map_err(failed)?;
        Ok(output.filter(|_| is_there && staged.is_none()).map_or(Recovery::Rerun, Recovery::Adopt))
    }
}

/// Ends `work` when the attempt is cancelled.
async fn until_cancelled<T>(
    cx: &RunContext,
    work: impl Future<Output = Result<T, ActionError>>,
) -> Result<T, ActionError> {
    let done = cx.cancel.run_until_cancelled(work).await;
    done.unwrap_or_else(|| Err(ActionError::cancelled("fetching the backup was cancelled; the folder was not made")))
}

fn plain_bytes(backup: &Backup) -> u64 {
    backup.manifest.objects.iter().map(|object| object.plain_facts().size_bytes).sum()
}

/// The backup, and the store that it is read from.
async fn wanted(params: &GetParams, cx: &RunContext) -> Result<(Arc<dyn Store>, Backup), ActionError> {
    let inventory = &cx.about.inventory;
    let place = params.place.resolve(inventory).map_err(|fault| ActionError::fatal(fault.message))?;
    let handle = params.backup.as_ref().map(Late::get).transpose()?;
    let place = place.of_chosen(handle, params.place.store.as_ref(), inventory);
    let store = cx.store(&place.store)?;
    let backup = chosen(store.as_read(), &place, handle).await?;
    Ok((store, backup))
}

/// Brings everything into a hidden folder that gets its name in the end, and goes when that fails.
async fn get(
    (store, backup): (&dyn ReadStore, &Backup),
    into: &Path,
    cx: &RunContext,
) -> Result<BackupFiles, ActionError> {
    let files = cx.host.files();
    if files.facts(into).map_err(failed)?.is_some() {
        let fact = format!("`{}` exists", into.display());
        return Err(ActionError::fatal(fact).help("name a folder that does not exist: nothing is ever overwritten"));
    }
    let stage = stage(into, &cx.about.run);
    let made = stage.clone();
    on_files(Arc::clone(&files), move |files| {
        if files.facts(&made)?.is_some() {
            files.remove_tree(&made)?;
        }
        files.create_dir(&made, 0o700)
    })
    .await?;
    let (unpacks, mut unpacked) = mpsc::channel(1);
    let filled = until_cancelled(cx, fill((store, backup), &stage, unpacks, cx)).await;
    // Whoever still unpacks ends with the bytes: nothing is removed below it.
    let _ = unpacked.recv().await;
    let got = match filled {
        Ok((names, size_bytes)) => {
            let got = BackupFiles { backup: backup.handle(), into: into.to_owned(), names, size_bytes };
            place(&got, &stage, cx).await.map(|()| got)
        }
        Err(error) => Err(error),
    };
    if got.is_err() {
        let left = stage.clone();
        let removed = on_files(files, move |files| files.facts(&left)?.map_or(Ok(()), |_| files.remove_tree(&left)));
        if let Err(error) = removed.await {
            let message = format!(
                "warning: `{}` holds plain content of the backup and could not be removed: {}",
                stage.display(),
                error.in_full()
            );
            cx.reporter.note(message, serde_json::json!({ "path": stage }));
        }
    }
    got
}

/// Where the content lies until all of it is verified; an earlier attempt of this step used the same place.
fn stage(into: &Path, run: &RunId) -> PathBuf {
    let name = tarball::name(into).unwrap_or_default();
    into.with_file_name(format!(".{name}.{run}.runbook-part"))
}

/// Fetches every object, durably; gives their names and bytes. Whoever unpacks holds a share of `unpacks`.
async fn fill(
    (store, backup): (&dyn ReadStore, &Backup),
    stage: &Path,
    unpacks: mpsc::Sender<()>,
    cx: &RunContext,
) -> Result<(Vec<String>, u64), ActionError> {
    let (mut names, mut done) = (Vec::new(), 0);
    for object in &backup.manifest.objects {
        let total = Some(plain_bytes(backup));
        cx.reporter.progress(Progress::Units { done, total, unit: "bytes" });
        let fetched = fetch(store, (backup, object), (stage, &unpacks), cx).await;
        names.push(fetched.inspect_err(|error| sighting::noted(error, backup, cx))?);
        done += object.plain_facts().size_bytes;
    }
    let stage = stage.to_owned();
    // Only then may it get its name: a power cut would leave a folder of empty files that counts as whole.
    on_files(cx.host.files(), move |files| {
        let unsynced = |source| HostError::File { operation: "sync", path: stage.clone(), source };
        rustix::fs::syncfs(files.open(&stage)?).map_err(|error| unsynced(error.into()))
    })
    .await?;
    Ok((names, done))
}

/// Gives the folder its name, durably, or leaves it hidden.
async fn place(got: &BackupFiles, stage: &Path, cx: &RunContext) -> Result<(), ActionError> {
    let receipt =
        serde_json::to_vec(got).map_err(|error| ActionError::fatal("the receipt cannot be written").because(&error))?;
    let (stage, into, at) = (stage.to_owned(), got.into.clone(), cx.attempt_dir.join(RECEIPT));
    on_files(cx.host.files(), move |files| {
        files.replace(&at, &receipt, 0o600)?;
        files.rename(&stage, &into)?;
        let synced = into.parent().map_or(Ok(()), |parent| files.sync(parent));
        // A failure must not leave a folder that the next attempt takes for somebody else's.
        synced.or_else(|error| files.rename(&into, &stage).and(Err(error)))
    })
    .await
}

/// Fetches one object; gives the name it has in the folder.
async fn fetch(
    store: &dyn ReadStore,
    (backup, object): (&Backup, &ManifestObject),
    (stage, unpacks): (&Path, &mpsc::Sender<()>),
    cx: &RunContext,
) -> Result<String, ActionError> {
    let keys = cx.about.inventory.stores.get(&backup.store).and_then(|entry| entry.encryption.as_ref());
    let unpacking = Unpacking::of(&object.encoding, keys, cx.about.secrets.as_ref()).map_err(transfer_failed)?;
    let key = backup.manifest.key_of(&backup.prefix, object).map_err(catalog_failed)?;
    let files = cx.host.files();
    if let Some(folder) = &object.archive_of {
        let root = stage.join(folder);
        files.create_dir(&root, 0o755).map_err(failed)?;
        let unpacks = unpacks.clone();
        let extracted = read((store, &key), &unpacking, object, move |from| {
            let extracted = tarball::extract(from, &root);
            drop(unpacks);
            extracted
        });
        return match extracted.await? {
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
