//! What a restore makes of the data that is there: kept whole, taken as its own beginning, or given up for its room.
//!
//! Only keeping it needs room for two. The other two destroy it, so they begin only when no server lives there, and
//! when the whole backup was read and verified. What the archive may not have yet, the old WAL, is never given up.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dismantled::{self, DismantledDirectory};
use super::stage::{Stage, Unstaged};
use super::verify_backup;
use crate::action::{ActionError, Files, RunContext};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::{ha_manager, live};
use crate::actions::postgres::stores::readable::Reading;
use crate::catalog::Backup;

/// What becomes of the data that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Existing {
    /// It stays whole until the recovery moves it aside, where it is kept.
    #[default]
    KeepBeside,
    /// It becomes the restored data: every file is compared with the verified backup byte by byte, and only what differs
    /// is written.
    Delta,
    /// It is removed before the backup is written.
    Replace,
}

impl Existing {
    /// What it is where nothing is there to keep: a throw-away cluster has its place for itself.
    pub(crate) fn on(self, cluster: &Cluster) -> Self {
        if cluster.is_scratch() { Self::KeepBeside } else { self }
    }

    /// Whether the data that is there is given up.
    pub(crate) fn destroys(self) -> bool {
        match self {
            Self::KeepBeside => false,
            Self::Delta | Self::Replace => true,
        }
    }
}

/// Takes the data that is there apart, once nothing stands against it and the backup is known to be good.
///
/// # Errors
/// Fails before anything is touched when a server lives there, something looks after it, or the backup does not
/// hold; afterwards when the old folders cannot be taken apart: the same step goes on from there.
pub(crate) async fn give_up(
    existing: Existing,
    (cluster, stage): (&Cluster, &Arc<Stage>),
    (reading, links): (Reading<'_>, &[Backup]),
    cx: &RunContext,
) -> Result<(), Unstaged> {
    let files: Arc<dyn Files> = cx.host.files();
    let dismantled = DismantledDirectory::of(cluster, files.as_ref(), &cx.about.run)?;
    if dismantled.is_empty(files.as_ref())? {
        return Ok(());
    }
    if let Some(fact) = dismantled.store_within(files.as_ref())? {
        return Err(ActionError::fatal(fact.what).help(fact.help).into());
    }
    if let Some(fact) = ha_manager::in_charge(cluster, cx.host.as_read()).await? {
        return Err(ActionError::fatal(fact.what).help(fact.help).into());
    }
    live::refuse(cluster, files.as_ref()).await?;
    if !dismantled::is_one(files.as_ref(), &cluster.pgdata) {
        let message = "the whole backup is read and verified before the old data is given up".to_owned();
        cx.reporter.note(message, serde_json::Value::Null);
        for link in links {
            let held = verify_backup::holds(Reading { backup: link, ..reading }, cluster, cx).await;
            held.map_err(Unstaged::Copy)?;
        }
        live::refuse(cluster, files.as_ref()).await?;
    }
    let (stage, words) = (Arc::clone(stage), dismantled.words());
    let taking = tokio::task::spawn_blocking(move || match existing {
        Existing::KeepBeside => Ok(()),
        Existing::Delta => dismantled.empty_into(&stage.shape, files.as_ref()),
        Existing::Replace => dismantled.empty(files.as_ref()),
    });
    let taken =
        taking.await.map_err(|error| ActionError::fatal("taking the old data apart panicked").because(&error))?;
    taken.map_err(|error| ActionError::retryable("the old data cannot be taken apart").because(&error))?;
    cx.reporter.note(words, serde_json::json!({ "pgdata": cluster.pgdata }));
    Ok(())
}
