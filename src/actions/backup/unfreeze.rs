//! `backup.unfreeze`: says that a recovery is over, so that backups are taken, pruned and moved again (facts 2.10.22).
//!
//! A recovery freezes them from its first destroying step on, whatever became of it: the old backups may be needed for
//! another try. What lifts the freeze is a new base backup, taken after the recovery, or somebody's reason. By a backup a
//! freeze of another recovery that came after it was begun is not lifted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::action::by_hand::remark;
use crate::action::{
    Access, Action, ActionError, ActionSpec, BackupHandle, CheckContext, DatabaseRef, EffectClass, Effects, Example,
    Findings, Idempotency, Late, ParamFault, PlanContext, RunContext, Target,
};
use crate::actions::pgbackrest;
use crate::actions::store::catalog_failed;
use crate::base::{Timestamp, clock};
use crate::catalog;
use crate::catalog::attest::Lifted;
use crate::catalog::freeze::{self, FreezeNote};
use crate::language::inventory::Inventory;

/// Lifts the freeze of a database's backups.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unfreeze;

/// The arguments of `backup.unfreeze`: one of `backup` and `reason`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnfreezeParams {
    /// The database of the inventory.
    pub database: DatabaseRef,
    /// The base backup that was taken after the recovery: from now on the old ones are not the only ones.
    #[serde(default)]
    pub backup: Option<Late<BackupHandle>>,
    /// Why there is none, and the freeze is lifted all the same; kept with the run.
    #[serde(default)]
    pub reason: Option<String>,
}

/// The outputs of `backup.unfreeze`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnfreezeOutput {
    /// The new base backup.
    pub backup: Option<String>,
    /// The reason that was given.
    pub reason: Option<String>,
}

impl Action for Unfreeze {
    const SPEC: ActionSpec = ActionSpec {
        name: "backup.unfreeze",
        summary: "Lifts the freeze that a recovery put on prune, unattended backups and lifecycle changes of a database.",
        effect: EffectClass::Write,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: false,
        version: 1,
        examples: &[
            Example {
                title: "After the new base backup",
                with: "{ database: orders, backup: '{{ steps.new_backup.backup }}' }",
            },
            Example {
                title: "Without one",
                with: "{ database: orders, reason: 'the recovery was cancelled before anything was restored' }",
            },
        ],
    };
    type Params = UnfreezeParams;
    type Output = UnfreezeOutput;

    fn effects(&self, params: &UnfreezeParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let name = params.database.as_str();
        if !cx.inventory.databases.contains_key(name) {
            return Err(vec![ParamFault::new("/database", format!("the inventory has no database `{name}`"))]);
        }
        match (&params.backup, &params.reason) {
            (Some(_), None) => {}
            (None, Some(reason)) if !reason.trim().is_empty() => {}
            (Some(_) | None, Some(_) | None) => {
                return Err(vec![ParamFault::new("", "exactly one of `backup` and `reason` is wanted")]);
            }
        }
        let effects = places(name, cx.inventory).into_iter().fold(Effects::of(EffectClass::Write), |effects, place| {
            let (name, prefix) = place;
            effects.target(Access::Write, Target::Store { name, prefix })
        });
        Ok(effects.hold(name))
    }

    fn by_hand(&self, _: &UnfreezeParams, _: &PlanContext<'_>) -> Vec<String> {
        vec![remark("tell whoever prunes, and start the timers of backups again: the recovery is over")]
    }

    async fn check(&self, params: &UnfreezeParams, _: &CheckContext) -> Result<Findings, ActionError> {
        let findings = Findings::default();
        Ok(match &params.reason {
            Some(reason) => findings.pass(format!("the freeze is lifted without a new base backup: {reason}")),
            None => findings.pending("the new base backup is looked at when the step starts"),
        })
    }

    async fn run(&self, params: &UnfreezeParams, cx: &RunContext) -> Result<UnfreezeOutput, ActionError> {
        let name = params.database.as_str();
        let Some(handle) = &params.backup else {
            thaw(name, params.reason.as_deref().unwrap_or_default(), None, cx).await;
            cx.reporter.note(format!("backups of database `{name}` are not frozen any more"), json!({}));
            return Ok(UnfreezeOutput { backup: None, reason: params.reason.clone() });
        };
        let handle = handle.get()?;
        let taken_at = begun_at(handle, params, cx).await?;
        if taken_at < cx.about.incident_at {
            let fact = format!("backup `{}` was begun at {taken_at}, before the incident", handle.id);
            return Err(ActionError::fatal(fact).help("take a new base backup of the recovered server first"));
        }
        let left = thaw(name, &format!("`{}` is the new base backup", handle.id), Some(taken_at), cx).await;
        let message = match left {
            0 => format!("backups of database `{name}` are not frozen any more: `{}` is the new one", handle.id),
            _ => format!("backup `{}` is the new one; another recovery keeps backups of `{name}` frozen", handle.id),
        };
        cx.reporter.note(message, json!({ "backup": handle.id }));
        Ok(UnfreezeOutput { backup: Some(handle.id.clone()), reason: None })
    }
}

/// Where a recovery of a database freezes its backups: every store of its WAL and of its backups that may be written to.
fn places(database: &str, inventory: &Inventory) -> Vec<(String, String)> {
    let Some(entry) = inventory.databases.get(database) else { return Vec::new() };
    let prefix = entry.prefix.as_deref().unwrap_or(database);
    let is_writable = |name: &&str| inventory.stores.get(*name).is_some_and(|store| !store.read_only);
    entry.keeping().into_iter().filter(is_writable).map(|name| (name.to_owned(), prefix.to_owned())).collect()
}

/// Lifts what recoveries, wherever they ran, have frozen in the stores; tells how many freezes stay. By a new backup those
/// end that this run has made, and those from before the backup was begun: a recovery that began later may need older ones.
async fn thaw(database: &str, reason: &str, begun_at: Option<Timestamp>, cx: &RunContext) -> usize {
    let about = &cx.about;
    let (own, mut left) = (about.run.to_string(), 0);
    let lifted = Lifted { by: format!("run {own}"), reason: reason.to_owned(), at: clock::now() };
    let goes = |note: &FreezeNote| note.run == own || begun_at.is_none_or(|begun_at| note.is_over_with(begun_at));
    for (name, prefix) in places(database, &about.inventory) {
        let thawed = match cx.store(&name) {
            Ok(store) => freeze::thaw(store.as_ref(), &prefix, &lifted, goes).await.map_err(catalog_failed),
            Err(error) => Err(error),
        };
        let thawed = match thawed {
            Ok(thawed) => thawed,
            // Whoever prunes there looks there, too. A store that is lost must not keep all the others frozen.
            Err(error) => {
                let message = format!(
                    "`{prefix}` in store `{name}` stays frozen: {error}; `lift-freeze` lifts it when the store answers"
                );
                let facts = json!({ "store": name, "prefix": prefix, "causes": error.info().causes });
                cx.reporter.note(message, facts);
                continue;
            }
        };
        for freeze in &thawed.left {
            let message = format!("{}, and not over with this backup; {}", freeze.fact(), freeze.help());
            cx.reporter.note(message, json!({ "store": name, "prefix": prefix, "run": freeze.note.run }));
        }
        left += thawed.left.len();
        if !thawed.runs.is_empty() {
            let message = format!("the freeze of `{prefix}` in store `{name}` is lifted");
            cx.reporter.note(message, json!({ "store": name, "prefix": prefix, "runs": thawed.runs }));
        }
    }
    left
}

/// When a backup was begun, as the place where it lies tells.
async fn begun_at(handle: &BackupHandle, params: &UnfreezeParams, cx: &RunContext) -> Result<Timestamp, ActionError> {
    let name = params.database.as_str();
    let physical = [catalog::KIND_POSTGRES_BASE, pgbackrest::KIND].contains(&handle.kind.as_str());
    if handle.database != name || !physical {
        let fact = format!("backup `{}` is a `{}` of `{}`", handle.id, handle.kind, handle.database);
        return Err(ActionError::fatal(format!("{fact}, not a base backup of `{name}`")));
    }
    if handle.kind == pgbackrest::KIND {
        let standing = pgbackrest::look(name, &cx.about.inventory, cx.host.as_read()).await?;
        let listed = standing.backups.iter().find(|backup| backup.id == handle.id);
        return listed.map(|backup| backup.started_at).ok_or_else(|| {
            ActionError::fatal(format!("pgBackRest lists no backup `{}`", handle.id)).help("take a new one first")
        });
    }
    let entry = cx.about.inventory.databases.get(name);
    let prefix = entry.and_then(|entry| entry.prefix.as_deref()).unwrap_or(name);
    let store = cx.store(&handle.store)?;
    let backup = catalog::open(store.as_read(), prefix, handle).await.map_err(catalog_failed)?;
    Ok(backup.manifest.started_at)
}
