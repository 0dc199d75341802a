//! `backup.find`: chooses the backup to restore.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::store::by_hand::location;
use crate::action::by_hand::{command_line, remark};
use crate::action::{
    Access, Action, ActionError, ActionSpec, BackupHandle, CheckContext, DatabaseRef, EffectClass, Effects, Example,
    Findings, Idempotency, Late, ParamFault, PlanContext, ReadStore, RunContext, Target,
};
use crate::actions::postgres::hole;
use crate::actions::store::catalog_failed;
use crate::base::units::human_duration;
use crate::base::{Timestamp, clock};
use crate::catalog::{self, Backup, CatalogError, Query, Which};
use crate::language::inventory::Inventory;

/// Chooses a backup.
#[derive(Debug, Clone, Copy, Default)]
pub struct Find;

/// The arguments of `backup.find`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FindParams {
    /// The database of the inventory that the backup is of.
    pub database: DatabaseRef,
    /// The kind of backup. Default `postgres.base`.
    #[serde(default = "base")]
    pub kind: String,
    /// Takes the last backup that ended before this time, with an offset or `Z`. Default: the newest.
    #[serde(default)]
    pub before: Option<Late<String>>,
    /// Takes the backup with this id.
    #[serde(default)]
    pub id: Option<Late<String>>,
}

fn base() -> String {
    catalog::KIND_POSTGRES_BASE.to_owned()
}

/// The outputs of `backup.find`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FindOutput {
    /// The backup, for `postgres.restore_base`.
    pub backup: BackupHandle,
    /// Its id.
    pub id: String,
    /// When it began.
    #[schemars(with = "String")]
    pub started_at: Timestamp,
    /// When it ended.
    #[schemars(with = "String")]
    pub stopped_at: Timestamp,
    /// How long ago it ended.
    pub age_ms: u64,
    /// The sizes of its objects together.
    pub size_bytes: u64,
    /// The server's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_version: Option<String>,
    /// The cluster's system identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_id: Option<String>,
}

/// Where the backups of a database lie.
struct Place {
    store: String,
    prefix: String,
}

impl Place {
    fn of(database: &DatabaseRef, inventory: &Inventory) -> Result<Self, String> {
        let name = database.as_str();
        let entry = inventory.databases.get(name).ok_or_else(|| format!("there is no database `{name}`"))?;
        let store = entry.store.clone().ok_or_else(|| format!("database `{name}` names no store"))?;
        Ok(Self { store, prefix: entry.prefix.clone().unwrap_or_else(|| name.to_owned()) })
    }
}

impl FindParams {
    /// The query, or the expression it waits for.
    fn query(&self) -> Result<Result<Query, &str>, ActionError> {
        let which = match (&self.before, &self.id) {
            (Some(Late::Pending(expression)), _) | (_, Some(Late::Pending(expression))) => return Ok(Err(expression)),
            (Some(Late::Known(_)), Some(Late::Known(_))) => {
                return Err(ActionError::fatal("`before` and `id` exclude each other"));
            }
            (Some(Late::Known(text)), None) => Which::Before(time(text).map_err(ActionError::fatal)?),
            (None, Some(Late::Known(id))) => Which::Id(id.clone()),
            (None, None) => Which::Newest,
        };
        Ok(Ok(Query { database: self.database.0.clone(), kind: self.kind.clone(), which }))
    }
}

/// Reads a time, which must say its offset.
fn time(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| format!("`{text}` is not a time with an offset, such as `2026-01-28T14:30:00Z`"))
}

fn help(error: &CatalogError) -> &'static str {
    match error {
        CatalogError::Damaged { .. } => {
            "bring its objects back, or choose another backup (`full-db-loss` takes `-p backup=ID`)"
        }
        _ => "only a backup with a valid manifest and all its objects counts",
    }
}

/// Finds the backup and makes sure that the store has all of it.
async fn find(store: &dyn ReadStore, prefix: &str, query: &Query) -> Result<Backup, CatalogError> {
    let backup = catalog::find(store, prefix, query).await?;
    let missing = backup.missing_objects(store).await?;
    if missing.is_empty() {
        return Ok(backup);
    }
    let what = format!("these objects are missing or have another size: {}", missing.join(", "));
    Err(CatalogError::Damaged { key: format!("{prefix}/base/{}", backup.manifest.id), what })
}

impl Action for Find {
    const SPEC: ActionSpec = ActionSpec {
        name: "backup.find",
        summary: "Chooses a backup: the newest, the last before a time, or one by its id.",
        effect: EffectClass::Read,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: false,
        version: 1,
        examples: &[
            Example { title: "The newest", with: "{ database: orders }" },
            Example {
                title: "The last one before a time",
                with: "{ database: orders, kind: postgres.base, before: '2026-01-28T14:30:00Z' }",
            },
        ],
    };
    type Params = FindParams;
    type Output = FindOutput;

    fn effects(&self, params: &FindParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let mut faults = Vec::new();
        if params.before.is_some() && params.id.is_some() {
            faults.push(ParamFault::new("/id", "`before` and `id` exclude each other"));
        }
        if let Some(Err(what)) = params.before.as_ref().and_then(Late::known).map(|text| time(text)) {
            faults.push(ParamFault::new("/before", what));
        }
        match Place::of(&params.database, cx.inventory) {
            Ok(place) if faults.is_empty() => {
                let target = Target::Store { name: place.store, prefix: place.prefix };
                Ok(Effects::of(EffectClass::Read).target(Access::Read, target))
            }
            Ok(_) => Err(faults),
            Err(what) => {
                faults.push(ParamFault::new("/database", what).help("give the database a `store` in the inventory"));
                Err(faults)
            }
        }
    }

    fn by_hand(&self, params: &FindParams, cx: &PlanContext<'_>) -> Vec<String> {
        let entry = cx.inventory.databases.get(params.database.as_str());
        let Some((entry, store)) = entry.and_then(|entry| Some((entry, entry.store.as_deref()?))) else {
            return Vec::new();
        };
        let prefix = entry.prefix.as_deref().unwrap_or(params.database.as_str());
        let folder = location(cx.inventory, store, &format!("{prefix}/base/"));
        let before = params.before.as_ref().map(|at| format!(" that began before {}", at.shown(Clone::clone)));
        let wanted = match &params.id {
            Some(id) => format!("the backup {}", id.shown(Clone::clone)),
            None => format!("the newest backup{}", before.unwrap_or_default()),
        };
        let list = if folder.contains("://") {
            remark(&format!("list {folder} with the store's own tool"))
        } else {
            command_line(["ls", "-r", &folder])
        };
        vec![list, remark(&format!("{wanted}; one without `manifest.json` is not whole; its id: ‹write it down›"))]
    }

    async fn check(&self, params: &FindParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let place = Place::of(&params.database, &cx.about.inventory).map_err(ActionError::fatal)?;
        let query = match params.query()? {
            Ok(query) => query,
            Err(expression) => return Ok(Findings::default().pending(format!("`{expression}` is not known yet"))),
        };
        let store = cx.store(&place.store)?;
        match find(&*store, &place.prefix, &query).await {
            Ok(backup) => {
                let age = human_duration(clock::between(backup.manifest.stopped_at, clock::now()));
                let findings = Findings::default().pass(format!("backup `{}` ended {age} ago", backup.manifest.id));
                Ok(match hole(&*store, &place.prefix, &backup.manifest).await? {
                    None => findings,
                    Some(segment) => findings.warn(
                        format!("the archive has a hole after it: `{segment}` is missing, though later segments exist"),
                        "a recovery gets past it only if the old `pg_wal` still holds the segment; \
                         else recover to a target before it, or from a later backup",
                    ),
                })
            }
            Err(error @ (CatalogError::NoBackup(_) | CatalogError::Damaged { .. })) => {
                Ok(Findings::default().refuse(error.to_string(), help(&error)))
            }
            Err(error) => Err(catalog_failed(error)),
        }
    }

    async fn run(&self, params: &FindParams, cx: &RunContext) -> Result<FindOutput, ActionError> {
        let place = Place::of(&params.database, &cx.about.inventory).map_err(ActionError::fatal)?;
        let query = params
            .query()?
            .map_err(|expression| ActionError::fatal(format!("the value of `{expression}` is not known yet")))?;
        let store = cx.store(&place.store)?;
        let backup = find(store.as_read(), &place.prefix, &query).await.map_err(catalog_failed)?;
        let age = clock::between(backup.manifest.stopped_at, clock::now());
        Ok(FindOutput {
            backup: backup.handle(),
            id: backup.manifest.id.clone(),
            started_at: backup.manifest.started_at,
            stopped_at: backup.manifest.stopped_at,
            age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
            size_bytes: backup.manifest.size_bytes(),
            server_version: backup.manifest.postgres.as_ref().map(|facts| facts.server_version.clone()),
            system_id: backup.manifest.postgres.as_ref().map(|facts| facts.system_id.to_string()),
        })
    }
}
