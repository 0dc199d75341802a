//! Backups that another program made, used where they lie: only read, without a catalog, and so *unproven*.
//!
//! What is read of one becomes its manifest, which travels in the handle: the steps behind hold every byte against it.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::foreign::{Foreign, Reader, Survey};
use crate::action::{ActionError, BackupHandle, ReadStore, Secrets, StoreRef};
use crate::actions::store::{catalog_failed, store_failed};
use crate::base::{Digest, Timestamp};
use crate::catalog::{Backup, KIND_POSTGRES_BASE, KIND_POSTGRES_DUMP, Pick, Query};
use crate::language::inventory::Encryption;

/// Where another program stores its backups.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawLocation {
    /// The store of the inventory. It may be read-only.
    pub store: StoreRef,
    /// What the keys begin with.
    pub prefix: String,
    /// What lies there.
    pub layout: Layout,
}

/// How another program stores its backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// Dumps with a time in their names: `orders_20260128_143002.sql.gz`.
    Dumps,
    /// Folders of `pg_basebackup --format=tar`, each with its `backup_manifest`.
    BaseBackups,
}

impl Layout {
    /// The kind of backup that lies there.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Dumps => KIND_POSTGRES_DUMP,
            Self::BaseBackups => KIND_POSTGRES_BASE,
        }
    }

    fn has(self, foreign: &Foreign) -> bool {
        match (self, foreign) {
            (Self::Dumps, Foreign::Dump(_)) | (Self::BaseBackups, Foreign::Base(_)) => true,
            (Self::Dumps, Foreign::Base(_)) | (Self::BaseBackups, Foreign::Dump(_)) => false,
        }
    }
}

/// When a backup had ended at the latest.
pub(super) fn ended_by(foreign: &Foreign) -> Timestamp {
    match foreign {
        Foreign::Dump(dump) => dump.taken_at,
        Foreign::Base(base) => base.ended_by,
    }
}

/// What the name of a dump has before its time; a base backup is of a whole cluster.
fn name_of(foreign: &Foreign) -> Option<&str> {
    match foreign {
        Foreign::Dump(dump) => Some(&dump.name),
        Foreign::Base(_) => None,
    }
}

/// Refuses dumps of several databases: which of them is meant is nothing to guess.
fn of_one(fitting: &[Foreign], prefix: &str) -> Result<(), ActionError> {
    let names: BTreeSet<&str> = fitting.iter().filter_map(name_of).collect();
    if names.len() < 2 {
        return Ok(());
    }
    let names = names.into_iter().collect::<Vec<_>>().join("`, `");
    Err(ActionError::fatal(format!("below `{prefix}/` lie dumps of several databases: `{names}`"))
        .help("say `dbname`: what their names have before the time"))
}

/// Chooses by name and time; nothing is read yet.
///
/// # Errors
/// Fails when the store does, and when dumps of several databases fit.
pub(super) async fn choose(
    store: &dyn ReadStore,
    location: &RawLocation,
    query: &Query,
) -> Result<Option<Foreign>, ActionError> {
    let listed = store.list(&format!("{}/", location.prefix)).await.map_err(store_failed)?;
    let mut fitting = Survey::of(&listed).backups;
    let dbname = query.dbname.as_deref();
    let is_of = |foreign: &Foreign| dbname.is_none() || name_of(foreign) == dbname;
    fitting.retain(|foreign| location.layout.has(foreign) && is_of(foreign));
    of_one(&fitting, &location.prefix)?;
    fitting.retain(|foreign| query.before.is_none_or(|before| ended_by(foreign) < before));
    fitting.sort_by_key(|foreign| (ended_by(foreign), foreign.place().to_owned()));
    Ok(match &query.pick {
        Pick::Latest => fitting.pop(),
        Pick::Oldest => fitting.into_iter().next(),
        Pick::Random { seed } => {
            let lot = |foreign: &Foreign| Digest::of(format!("{seed} {}", foreign.place()).as_bytes()).to_string();
            fitting.into_iter().min_by_key(lot)
        }
    })
}

/// Reads all of a backup and describes it.
///
/// # Errors
/// Fails when the store does, when none of the keys fits, and when it is damaged or incomplete.
pub(super) async fn describe(
    (store, keys): (&dyn ReadStore, Option<&Encryption>),
    secrets: &dyn Secrets,
    (foreign, source): (&Foreign, &str),
) -> Result<(Backup, BackupHandle), ActionError> {
    let reader = Reader { store, keys, secrets };
    let manifest = match foreign {
        Foreign::Dump(dump) => dump.describe(&reader, source).await?,
        Foreign::Base(base) => base.describe(&reader, source).await?,
    };
    Backup::described(store.name(), manifest).map_err(catalog_failed)
}
