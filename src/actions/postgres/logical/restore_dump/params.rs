//! The arguments of `postgres.restore_dump`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::action::{BackupHandle, DatabaseRef, InstanceHandle, Late, ParamFault};
use crate::actions::postgres::cluster::name;
use crate::base::Timestamp;
use crate::catalog::Manifest;

/// The arguments of `postgres.restore_dump`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreDumpParams {
    /// The database of the inventory: one server.
    pub database: DatabaseRef,
    /// The instance to restore into. Default: the database's own server; in a drill a throw-away one.
    #[serde(default)]
    pub instance: Option<Late<InstanceHandle>>,
    /// The dump, as `backup.find` or `postgres.dump` gave it.
    pub backup: Late<BackupHandle>,
    /// The moment that the dump was chosen for, with offset. What was committed after it is given up by choice and counts as
    /// chosen loss; without it the run's incident is the reference, and all since the dump is unwanted loss.
    #[serde(default)]
    pub target_time: Option<Late<String>>,
    /// The name the database has in the end. Default: the one it was dumped under.
    #[serde(default)]
    pub dbname: Option<String>,
    /// How the database gets its name. Default `swap`.
    #[serde(default)]
    pub mode: RestoreMode,
    /// What is done about roles that the server lacks. Default `create_missing`.
    #[serde(default)]
    pub roles: Roles,
    /// How many connections load at the same time; SQL text is loaded by one. Default 1.
    #[serde(default)]
    pub jobs: Option<u32>,
    /// Everything belongs to the role that restores.
    #[serde(default)]
    pub no_owner: bool,
    /// Rights are left out.
    #[serde(default)]
    pub no_privileges: bool,
    /// Only these schemas.
    #[serde(default)]
    pub schemas: Vec<String>,
    /// Only these tables; without their indexes, constraints and triggers, as `pg_restore --table` does.
    #[serde(default)]
    pub tables: Vec<String>,
    /// `mode: into`: drops each object before it is made anew.
    #[serde(default)]
    pub clean: bool,
    /// `mode: into` with `clean`: an object that is not there is in order.
    #[serde(default)]
    pub if_exists: bool,
}

/// How a restored database gets its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RestoreMode {
    /// Restored under a new name, verified, then swapped by rename in one transaction; the old one is kept.
    #[default]
    Swap,
    /// The old one is dropped first: for a server without room for both.
    Replace,
    /// Restored under a new name, and left there.
    Beside,
    /// Restored into the database as it is.
    Into,
}

/// What is done about roles that the server lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Roles {
    /// They are made as they were, with their memberships and settings. Those that are there stay as they are.
    #[default]
    CreateMissing,
    /// Nothing.
    Skip,
}

impl RestoreDumpParams {
    /// The arguments that are wrong whatever the backup holds.
    pub(super) fn faults(&self) -> Vec<ParamFault> {
        let mut faults = Vec::new();
        if let Some(text) = self.target_time.as_ref().and_then(Late::known)
            && text.parse::<Timestamp>().is_err()
        {
            let fact = format!("`{text}` is not a time with an offset, such as `2026-01-28T14:30:00Z`");
            faults.push(ParamFault::new("/target_time", fact));
        }
        if let Some(Err(what)) = self.dbname.as_deref().map(name::dbname) {
            faults.push(ParamFault::new("/dbname", what));
        }
        if !self.jobs.is_none_or(|jobs| (1..=256).contains(&jobs)) {
            faults.push(ParamFault::new("/jobs", "it must lie between 1 and 256"));
        }
        if self.clean && self.mode != RestoreMode::Into {
            faults
                .push(ParamFault::new("/clean", "only `mode: into` finds anything to clean: other modes begin empty"));
        }
        if self.if_exists && !self.clean {
            faults.push(ParamFault::new("/if_exists", "it belongs to `clean: true`"));
        }
        faults
    }

    /// Why what comes of it may not take the name of a database that is there, with advice: it is a part of one.
    pub(super) fn a_part(&self, manifest: &Manifest) -> Option<(&'static str, &'static str)> {
        match self.mode {
            RestoreMode::Beside | RestoreMode::Into => return None,
            RestoreMode::Swap | RestoreMode::Replace => {}
        }
        let help = "say `mode: beside`, or bring tables back with `postgres.restore_table`; nothing was changed";
        if self.is_partial() {
            return Some(("a part of the dump would take the name of the whole database", help));
        }
        let partial = manifest.dump.as_ref().is_some_and(|dump| dump.partial);
        partial.then_some(("the dump holds a part of its database and would take the name of the whole", help))
    }

    /// Whether only a part of the dump is restored.
    pub(super) fn is_partial(&self) -> bool {
        !self.schemas.is_empty() || !self.tables.is_empty()
    }
}
