//! `backup.create`: a backup of files that exist, in one or more stores.

use std::collections::BTreeSet;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::copy::{Job, Part, digest, part, parts};
use super::place::is_key;
use super::reach;
use crate::action::by_hand::{command_line, remark};
use crate::action::{
    Access, Action, ActionError, ActionSpec, BackupHandle, CheckContext, EffectClass, Effects, Example, FileKind,
    Findings, Idempotency, ParamFault, PlanContext, RunContext, StoreRef, Target,
};
use crate::catalog::{self, Backup, KIND_FILES, KIND_POSTGRES_BASE};

/// Backs up files.
#[derive(Debug, Clone, Copy, Default)]
pub struct Create;

/// The arguments of `backup.create`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateParams {
    /// What it is a backup of, as `backup.find` will ask for it.
    pub source: String,
    /// The files and folders, absolute paths. A folder becomes one tar archive.
    pub paths: Vec<PathBuf>,
    /// The stores of the inventory; each gets a complete backup, packed as its settings say.
    pub stores: Vec<StoreRef>,
    /// How many stores must have it for the step to succeed. Default: all.
    #[serde(default)]
    pub at_least: Option<usize>,
    /// The kind. Default `files`.
    #[serde(default = "files")]
    pub kind: String,
    /// The tier whose retention applies: `daily`, `monthly`, `before_deployment` …
    #[serde(default)]
    pub tier: Option<String>,
    /// What the backup is called, for people.
    #[serde(default)]
    pub label: Option<String>,
    /// What the keys begin with. Default: the source.
    #[serde(default)]
    pub prefix: Option<String>,
    /// Removes the files once every store's copy was read back and is right. Files only, no folders.
    #[serde(default)]
    pub remove_local: bool,
}

fn files() -> String {
    KIND_FILES.to_owned()
}

/// The outputs of `backup.create`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreateOutput {
    /// The backup, in the first store that has it.
    pub backup: BackupHandle,
    /// Its id, the same in every store.
    pub id: String,
    /// The bytes of its objects before packing.
    pub plain_size_bytes: u64,
    /// The copies, by store.
    pub copies: Vec<CopyFacts>,
    /// The stores that do not have it, and why.
    pub failed: Vec<FailedCopy>,
    /// Whether the files were removed.
    pub removed: bool,
}

/// One store's copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CopyFacts {
    /// The store.
    pub store: String,
    /// The folder of the backup there.
    pub folder: String,
    /// The bytes of its objects as stored.
    pub size_bytes: u64,
    /// Whether it was there before this attempt.
    pub existed: bool,
}

/// A store that does not have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailedCopy {
    /// The store.
    pub store: String,
    /// Why.
    pub why: String,
}

impl CreateParams {
    pub(super) fn prefix(&self) -> &str {
        self.prefix.as_deref().unwrap_or(&self.source)
    }

    fn faults(&self) -> Vec<ParamFault> {
        let mut faults = Vec::new();
        let mut hold = |fits: bool, path: &str, what: String| {
            if !fits {
                faults.push(ParamFault::new(path, what));
            }
        };
        let single = |text: &str| is_key(text) && !text.contains('/');
        hold(is_key(self.prefix()), "/prefix", format!("`{}` cannot begin an object's key", self.prefix()));
        hold(single(&self.kind) && self.kind != "wal", "/kind", format!("`{}` cannot be a kind", self.kind));
        hold(self.kind != KIND_POSTGRES_BASE, "/kind", "base backups are taken by `postgres.base_backup`".to_owned());
        let tier = self.tier.as_deref().unwrap_or("none");
        hold(single(tier), "/tier", format!("`{tier}` cannot be a tier"));
        hold(!self.paths.is_empty(), "/paths", "no path is given".to_owned());
        hold(!self.stores.is_empty(), "/stores", "no store is given".to_owned());
        let distinct: BTreeSet<_> = self.stores.iter().collect();
        hold(distinct.len() == self.stores.len(), "/stores", "a store is given twice".to_owned());
        let enough = self.at_least.is_none_or(|count| (1..=self.stores.len()).contains(&count));
        hold(enough, "/at_least", format!("it must lie between 1 and {}", self.stores.len()));
        let mut names = BTreeSet::new();
        for (at, path) in self.paths.iter().enumerate() {
            hold(path.is_absolute(), &format!("/paths/{at}"), "the path is not absolute".to_owned());
            let name = path.file_name().unwrap_or_default();
            hold(names.insert(name), &format!("/paths/{at}"), format!("two paths are called `{}`", name.display()));
        }
        faults
    }
}

impl Action for Create {
    const SPEC: ActionSpec = ActionSpec {
        name: "backup.create",
        summary: "Makes a backup of files and folders in one or more stores, each read back, its manifest last.",
        effect: EffectClass::Destroy,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[
            Example {
                title: "A folder into two stores",
                with: "{ source: media, paths: [/srv/media], stores: [primary, offsite], tier: weekly }",
            },
            Example {
                title: "A dump that another program made; the local file goes when both copies are proven",
                with: "{ source: orders, kind: postgres.dump, paths: [/var/backups/orders.dump], stores: [primary, offsite], remove_local: true }",
            },
        ],
    };
    type Params = CreateParams;
    type Output = CreateOutput;

    fn effects(&self, params: &CreateParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let faults = params.faults();
        if !faults.is_empty() {
            return Err(faults);
        }
        let (class, access) = match params.remove_local {
            true => (EffectClass::Destroy, Access::Destroy),
            false => (EffectClass::Write, Access::Read),
        };
        let mut effects = Effects::of(class);
        for path in &params.paths {
            effects = effects.target(access, Target::Path { host: cx.host.to_owned(), path: path.clone() });
        }
        for store in &params.stores {
            let target = Target::Store { name: store.0.clone(), prefix: params.prefix().to_owned() };
            effects = effects.target(Access::Write, target);
        }
        Ok(effects)
    }

    fn by_hand(&self, params: &CreateParams, cx: &PlanContext<'_>) -> Vec<String> {
        let mut lines = Vec::new();
        for path in &params.paths {
            let (shown, name) =
                (path.display().to_string(), path.file_name().unwrap_or_default().display().to_string());
            lines.push(remark(&format!("{shown}: a folder is archived first")));
            lines.push(command_line(["tar", "-cf", &format!("/tmp/{name}.tar"), "-C", &shown, "."]));
        }
        for store in &params.stores {
            let family = catalog::family_prefix(params.prefix(), &catalog::family(&params.kind));
            let to = super::super::store::by_hand::location(cx.inventory, store.as_str(), &family);
            lines.push(remark(&format!("copy them to a new folder below {to}, with their `sha256sum`")));
        }
        lines
    }

    async fn check(&self, params: &CreateParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let files = cx.host.read_files();
        let mut findings = Findings::default();
        for path in &params.paths {
            let shown = path.display();
            let found = files.facts(path).map_err(|error| ActionError::fatal(error.to_string()).because(&error))?;
            findings = match found.map(|facts| facts.kind) {
                None if cx.ahead => findings.pending(format!("`{shown}` is not there yet")),
                Some(FileKind::Directory) if params.remove_local => {
                    findings.refuse(format!("`{shown}` is a folder"), "`remove_local` takes files only")
                }
                kind => match part(path, kind) {
                    Ok(_) => findings.pass(format!("`{shown}` is there")),
                    Err(what) => findings.refuse(what, "name a file or a folder, or make it in an earlier step"),
                },
            };
        }
        reach::judge(params, cx, findings).await
    }

    async fn run(&self, params: &CreateParams, cx: &RunContext) -> Result<CreateOutput, ActionError> {
        let work = create(params, cx);
        tokio::select! {
            done = work => done,
            () = cx.cancel.cancelled() => Err(ActionError::cancelled("the backup was cancelled; stores that have its manifest keep it")),
        }
    }
}

async fn create(params: &CreateParams, cx: &RunContext) -> Result<CreateOutput, ActionError> {
    let id = catalog::backup_id(&cx.about.run.to_string(), &cx.step.to_string());
    let nothing = Job { params, cx, id: &id, parts: &[] };
    let mut existing = Vec::new();
    for store in &params.stores {
        existing.push(nothing.existing(cx.store(store.as_str())?.as_ref()).await);
    }
    // What an earlier attempt finished is not read again: its files may be gone by now.
    let whole = existing.iter().all(|found| matches!(found, Ok(Some(_))));
    let parts = if whole { Vec::new() } else { parts(&params.paths, cx)? };
    let job = Job { parts: &parts, ..nothing };
    let mut first = existing.iter().find_map(|found| found.as_ref().ok()?.clone());
    let (mut copies, mut failed) = (Vec::new(), Vec::new());
    for (store, found) in params.stores.iter().zip(existing) {
        let copied = match found {
            Ok(Some(backup)) => Ok((backup, true)),
            Ok(None) => {
                job.copy(cx.store(store.as_str())?.as_ref(), first.as_ref()).await.map(|backup| (backup, false))
            }
            Err(error) => Err(error),
        };
        match copied {
            Ok((backup, existed)) => {
                copies.push(facts(&backup, existed));
                first.get_or_insert(backup);
            }
            Err(error) => failed.push((store.0.clone(), error)),
        }
    }
    conclude(params, (cx, &id), first, (copies, failed)).await
}

fn facts(backup: &Backup, existed: bool) -> CopyFacts {
    let (folder, size_bytes) = (backup.place().folder(), backup.manifest.size_bytes());
    CopyFacts { store: backup.store.clone(), folder, size_bytes, existed }
}

/// Judges whether enough stores have it, and removes the files when all do.
async fn conclude(
    params: &CreateParams,
    (cx, id): (&RunContext, &str),
    first: Option<Backup>,
    (copies, failed): (Vec<CopyFacts>, Vec<(String, ActionError)>),
) -> Result<CreateOutput, ActionError> {
    let wanted = params.at_least.unwrap_or(params.stores.len());
    let Some(backup) = first.filter(|_| copies.len() >= wanted) else {
        let (store, error) =
            failed.into_iter().next().unwrap_or_else(|| (String::new(), ActionError::fatal("no store")));
        let mut info = error.into_info();
        info.message = format!("{} of {wanted} stores have the backup; `{store}`: {}", copies.len(), info.message);
        return Err(info.into());
    };
    for (store, error) in &failed {
        let why = error.in_full();
        let data = serde_json::json!({ "store": store, "lacking": { "store": store, "why": why } });
        cx.reporter.note(format!("warning: store `{store}` does not have the backup: {why}"), data);
    }
    let removed = params.remove_local && failed.is_empty();
    if removed {
        remove(params, &backup, cx).await?;
    }
    Ok(CreateOutput {
        id: id.to_owned(),
        plain_size_bytes: backup.manifest.objects.iter().map(|object| object.plain_facts().size_bytes).sum(),
        backup: backup.handle(),
        copies,
        failed: failed.into_iter().map(|(store, error)| FailedCopy { store, why: error.to_string() }).collect(),
        removed,
    })
}

/// Removes the files that are in the backup, each only while it still has the content that was stored.
async fn remove(params: &CreateParams, backup: &Backup, cx: &RunContext) -> Result<(), ActionError> {
    let files = cx.host.files();
    for path in &params.paths {
        let failed = |error: crate::action::HostError| ActionError::fatal(error.to_string()).because(&error);
        let Some(found) = files.facts(path).map_err(failed)? else { continue };
        let Part { name, kind, .. } = part(path, Some(found.kind)).map_err(ActionError::fatal)?;
        let stored = backup.manifest.objects.iter().find(|object| object.plain_name() == name);
        let stored = stored.filter(|_| kind == FileKind::File).and_then(|stored| stored.plain_facts().facts());
        let body = Box::new(tokio::fs::File::from_std(files.open(path).map_err(failed)?));
        let now = digest(body).await.map_err(|error| ActionError::fatal("a file cannot be read").because(&error))?;
        if stored.map(|stored| (stored.size_bytes, stored.sha256)) != Some(now) {
            let fact = format!("`{}` is not what was stored any more", path.display());
            return Err(ActionError::fatal(fact).help("it is kept; back it up again, or remove it yourself"));
        }
        files.remove_file(path).map_err(failed)?;
    }
    Ok(())
}
