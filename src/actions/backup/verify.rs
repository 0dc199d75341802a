//! `backup.verify`: reads backups and writes beside them that they hold.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::get::chosen;
use super::inspect::{Demands, Encrypted, Inspected, Inspector, ReadBudget, judge, sort_by_due};
use super::place::{Place, PlaceSpec};
use super::sighting;
use crate::action::by_hand::{command_line, remark};
use crate::action::{
    Access, Action, ActionError, ActionSpec, BackupHandle, CheckContext, EffectClass, Effects, Example, Findings,
    Idempotency, Late, ParamFault, PlanContext, ReadStore, RunContext, Store, Target,
};
use crate::actions::store::catalog_failed;
use crate::base::clock;
use crate::base::units::ByteSize;
use crate::catalog::attest::{self, Level, Verdict, Verification};
use crate::catalog::{self, Backup, ManifestObject};
use crate::event::{ErrorClass, Progress};
use crate::transfer::Unpacking;

/// Verifies backups.
#[derive(Debug, Clone, Copy, Default)]
pub struct Verify;

/// The arguments of `backup.verify`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyParams {
    /// Where the backups lie.
    #[serde(flatten)]
    pub place: PlaceSpec,
    /// The backup, as `backup.find` or `backup.create` gave it. Default: the newest, or with `budget` those due.
    #[serde(default)]
    pub backup: Option<Late<BackupHandle>>,
    /// Verifies every backup of the source, those never verified first, then the longest not verified, until so many
    /// bytes were read: `50GB`. The next run goes on from there.
    #[serde(default)]
    pub budget: Option<ByteSize>,
    /// How closely: `manifest`, `sizes`, `digests` (default: every stored byte) or `content` (decrypted, decompressed, listed).
    #[serde(default)]
    pub level: Level,
    /// `required`: every object must be encrypted.
    #[serde(default)]
    pub encrypted: Encrypted,
    /// The fewest bytes it may have, as stored.
    #[serde(default)]
    pub min_size: Option<ByteSize>,
    /// How many percent its size may differ from the median of the other backups of its kind and tier.
    #[serde(default)]
    pub within_percent: Option<u32>,
    /// Keeps what was found beside the manifest. Default yes; `false` for a store that may only be read. Of a backup that
    /// was found by its `location` nothing is kept.
    #[serde(default = "yes")]
    pub record: bool,
}

fn yes() -> bool {
    true
}

/// The outputs of `backup.verify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerifyOutput {
    /// The backups that hold, by id.
    pub verified: Vec<String>,
    /// How closely they were looked at.
    pub level: Level,
    /// The bytes that were read.
    pub read_bytes: u64,
    /// How many backups of the source were left for another time.
    pub left: usize,
    /// What could not be looked at.
    pub skipped: Vec<String>,
}

impl VerifyParams {
    /// The backup, where it is another program's and in no catalog.
    fn foreign(&self) -> Option<&BackupHandle> {
        self.backup.as_ref().and_then(Late::known).filter(|handle| handle.described.is_some())
    }

    /// Whether what is found is kept: where another program's backup lies nothing is written, and no catalog would read it.
    fn keeps(&self) -> bool {
        self.record && self.foreign().is_none()
    }

    fn demands(&self) -> Demands {
        Demands { encrypted: self.encrypted, min_size: self.min_size, within_percent: self.within_percent }
    }
}

impl Action for Verify {
    const SPEC: ActionSpec = ActionSpec {
        name: "backup.verify",
        summary: "Reads a backup, or as many as a budget allows, and keeps beside it whether it holds.",
        effect: EffectClass::Write,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[
            Example {
                title: "Decrypt, decompress and list the newest one",
                with: "{ database: orders, level: content, min_size: 1MiB, within_percent: 50 }",
            },
            Example {
                title: "Every byte of every backup, spread over the nights",
                with: "{ source: media, store: offsite, budget: 50GB, encrypted: required }",
            },
        ],
    };
    type Params = VerifyParams;
    type Output = VerifyOutput;

    fn effects(&self, params: &VerifyParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let place = params.place.resolve(cx.inventory).map_err(|fault| vec![fault])?;
        if params.backup.is_some() && params.budget.is_some() {
            return Err(vec![ParamFault::new("/budget", "`backup` and `budget` exclude each other")]);
        }
        let elsewhere: Vec<String> = match (&params.backup, &params.place.store) {
            (Some(_), None) => place.backup_destinations(cx.inventory).map(str::to_owned).collect(),
            (Some(_), Some(_)) | (None, _) => Vec::new(),
        };
        let target = Target::Store { name: place.store, prefix: place.prefix.clone() };
        let effects = match params.record {
            true => Effects::of(EffectClass::Write).target(Access::Write, target),
            false => Effects::of(EffectClass::Read).target(Access::Read, target),
        };
        Ok(elsewhere.into_iter().fold(effects, |effects, name| {
            effects.target(Access::Read, Target::Store { name, prefix: place.prefix.clone() })
        }))
    }

    fn by_hand(&self, params: &VerifyParams, cx: &PlanContext<'_>) -> Vec<String> {
        let Ok(place) = params.place.resolve(cx.inventory) else { return Vec::new() };
        let from = super::super::store::by_hand::location(cx.inventory, &place.store, &format!("{}/", place.prefix));
        vec![
            remark(&format!("in the folder of the backup, somewhere below {from}")),
            command_line(["sha256sum", "-c", "SHA256SUMS"]),
        ]
    }

    async fn check(&self, params: &VerifyParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let own = params.place.resolve(&cx.about.inventory).map_err(|fault| ActionError::fatal(fault.message))?;
        let handle = params.backup.as_ref().and_then(Late::known);
        let place = own.of_chosen(handle, params.place.store.as_ref(), &cx.about.inventory);
        let store = cx.store(&place.store)?;
        if cx.ahead {
            return Ok(Findings::default().pending("which backups there are is judged when the step starts"));
        }
        if let Some(handle) = params.foreign() {
            return Ok(Findings::default().pass(format!("backup `{}` is read where it lies", handle.id)));
        }
        let list = catalog::list(&*store, &place.prefix).await.map_err(catalog_failed)?;
        let count = list.backups.iter().filter(|backup| backup.manifest.source == place.source).count();
        Ok(match count {
            0 => Findings::default().refuse(
                format!("there is no backup of `{}` in `{}`", place.source, place.store),
                "make one first, or correct `store` and `prefix`",
            ),
            count => Findings::default().pass(format!("{count} backups of `{}`", place.source)),
        })
    }

    async fn run(&self, params: &VerifyParams, cx: &RunContext) -> Result<VerifyOutput, ActionError> {
        let work = verify(params, cx);
        tokio::select! {
            done = work => done,
            () = cx.cancel.cancelled() => Err(ActionError::cancelled("the verification was cancelled; what was verified before is kept")),
        }
    }
}

/// What becomes of what is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeps {
    /// It is written beside the manifest.
    Beside,
    /// The copy lies in a store that the step does not say it writes to: the end of the run keeps it.
    InTheEnd,
    /// Nothing is kept.
    Not,
}

async fn verify(params: &VerifyParams, cx: &RunContext) -> Result<VerifyOutput, ActionError> {
    let inventory = &cx.about.inventory;
    let own = params.place.resolve(inventory).map_err(|fault| ActionError::fatal(fault.message))?;
    let handle = params.backup.as_ref().map(Late::get).transpose()?;
    let place = own.clone().of_chosen(handle, params.place.store.as_ref(), inventory);
    let keeps = match params.keeps() {
        true if place == own => Keeps::Beside,
        true => Keeps::InTheEnd,
        false => Keeps::Not,
    };
    let store = cx.store(&place.store)?;
    let list = catalog::list(store.as_read(), &place.prefix).await.map_err(catalog_failed)?;
    let mut faults: Vec<String> = Vec::new();
    if params.budget.is_some() {
        faults.extend(list.damaged.iter().map(|damaged| format!("`{}`: {}", damaged.key, damaged.why)));
    }
    let like: Vec<Backup> = list.backups.into_iter().filter(|one| one.manifest.source == place.source).collect();
    let chosen = match params.budget {
        Some(_) => {
            let mut all = like.clone();
            sort_by_due(&mut all, params.level);
            all
        }
        None => vec![chosen(store.as_read(), &place, handle).await?],
    };
    let level = params.level;
    let mut output = VerifyOutput { verified: Vec::new(), level, read_bytes: 0, left: 0, skipped: Vec::new() };
    let (mut unread, mut looked_at) = (Vec::new(), 0);
    let mut budget = params.budget.map(ReadBudget::new);
    for (done, backup) in chosen.iter().enumerate() {
        if budget.as_mut().is_some_and(|budget| !budget.covers(backup)) {
            output.left = chosen.len() - done;
            break;
        }
        looked_at += 1;
        let total = params.budget.is_none().then_some(1);
        cx.reporter.progress(Progress::Units { done: done as u64, total, unit: "backups" });
        let found = match one((params, keeps), (store.as_ref(), backup), &like, cx).await {
            // Nothing is kept of it, since a key that is not here says nothing of the bytes; the others are read all the same.
            Err(error) if error.info().class == ErrorClass::Fatal => {
                unread.push((told_of_others(&error, (&place, backup), cx).await, error));
                continue;
            }
            // What was found is told now: another attempt would begin with those that were not looked at yet, and may not
            // come to what is damaged any more.
            Err(error) if !faults.is_empty() => {
                let (id, store) = (&backup.manifest.id, &place.store);
                let told =
                    format!("`{id}` could not be read in store `{store}`, and none after it: {}", error.in_full());
                unread.push((told, error));
                break;
            }
            found => found?,
        };
        output.read_bytes += found.read_bytes;
        if let Some(budget) = &mut budget {
            budget.took(found.read_bytes);
        }
        for what in &found.beside {
            let data = serde_json::json!({ "backup": backup.manifest.id, "beside": what });
            cx.reporter.note(format!("warning: beside backup `{}` {what}", backup.manifest.id), data);
        }
        output.skipped.extend(found.skipped);
        match found.faults.is_empty() {
            true => output.verified.push(backup.manifest.id.clone()),
            false => {
                let id = &backup.manifest.id;
                if params.budget.is_some() {
                    // The others may take hours yet.
                    let data = serde_json::json!({ "backup": id, "faults": found.faults });
                    cx.reporter.note(format!("warning: backup `{id}` does not hold"), data);
                }
                faults.extend(found.faults.iter().map(|fault| format!("`{id}`: {fault}")));
            }
        }
    }
    if faults.is_empty() {
        return unread_is_none(unread, looked_at).map(|()| output);
    }
    let of_them = looked_at - output.verified.len() - unread.len();
    faults.extend(unread.into_iter().map(|(told, _)| told));
    let message = format!("{of_them} of {looked_at} backups do not hold");
    cx.reporter.note(message.clone(), serde_json::json!({ "faults": faults }));
    let help = "take a new backup now; keep the damaged one until you know why; the next search passes this copy over";
    Err(ActionError::fatal(format!("{message}: {}", faults.join("; "))).help(help))
}

/// Says which copy could not be read and why, and which other one can.
async fn told_of_others(error: &ActionError, (place, backup): (&Place, &Backup), cx: &RunContext) -> String {
    let other = readable_elsewhere(place, backup, cx).await;
    let other = other.map_or_else(String::new, |name| format!("; for its copy in store `{name}` the keys are here"));
    format!("`{}` cannot be read in store `{}`: {}{other}", backup.manifest.id, place.store, error.in_full())
}

/// Fails where backups could not be read: that is no verdict on them.
fn unread_is_none(mut unread: Vec<(String, ActionError)>, all: usize) -> Result<(), ActionError> {
    let Some((told, error)) = unread.pop() else { return Ok(()) };
    let help =
        error.info().help.clone().unwrap_or_else(|| "see that its store and its keys can be had here".to_owned());
    if unread.is_empty() {
        return Err(ActionError::fatal(told).help(help));
    }
    let tellings: Vec<String> = unread.into_iter().map(|(told, _)| told).chain([told]).collect();
    let message = format!("{} of {all} backups could not be read: {}", tellings.len(), tellings.join("; "));
    Err(ActionError::fatal(message).help(help))
}

/// Another store that has a copy of the backup for which every key is at hand.
async fn readable_elsewhere(place: &Place, backup: &Backup, cx: &RunContext) -> Option<String> {
    let inventory = &cx.about.inventory;
    for name in place.backup_destinations(inventory) {
        let Ok(store) = cx.store(name) else { continue };
        let Ok(copy) = catalog::open_copy(store.as_read(), &place.prefix, &backup.handle()).await else { continue };
        let keys = inventory.stores.get(name).and_then(|entry| entry.encryption.as_ref());
        let opens = |object: &ManifestObject| Unpacking::of(&object.encoding, keys, cx.about.secrets.as_ref()).is_ok();
        if copy.manifest.objects.iter().all(opens) {
            return Some(name.to_owned());
        }
    }
    None
}

/// Verifies one backup, and sees to it that what was found is kept.
async fn one(
    (params, keeps): (&VerifyParams, Keeps),
    (store, backup): (&dyn Store, &Backup),
    like: &[Backup],
    cx: &RunContext,
) -> Result<Inspected, ActionError> {
    let scratch = cx.attempt_dir.as_path();
    let keys = cx.about.inventory.stores.get(&backup.store).and_then(|entry| entry.encryption.as_ref());
    let read: &dyn ReadStore = store.as_read();
    let inspector =
        Inspector { store: read, keys, secrets: cx.about.secrets.as_ref(), host: cx.host.as_read(), scratch };
    let mut found = match params.foreign() {
        Some(_) => inspector.inspect_described(backup, params.level).await?,
        None => inspector.inspect(backup, params.level).await?,
    };
    let whole = found.faults.is_empty();
    let note = Verification {
        format: 1,
        manifest: backup.digest,
        level: params.level,
        at: clock::now(),
        by: format!("run {}", cx.about.run),
        read_bytes: found.read_bytes,
        verdict: if whole { Verdict::Passed } else { Verdict::Failed },
        faults: found.faults.clone(),
    };
    match keeps {
        Keeps::Beside => attest::verified(store, &backup.place(), &note).await.map_err(catalog_failed)?,
        Keeps::InTheEnd => sighting::told(backup, note, cx),
        Keeps::Not => {}
    }
    // A whole backup may still be none that was wanted; that is no verdict on its bytes.
    found.faults.extend(judge(backup, like, &params.demands()));
    Ok(found)
}
