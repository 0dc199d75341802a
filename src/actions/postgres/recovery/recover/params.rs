//! The arguments of `postgres.recover`: what is recovered, where to, and how it ends.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::takeover;
use super::target::TargetSpec;
use crate::action::{ActionError, DatabaseRef, InstanceHandle, Late, ParamFault, ReadFiles, StagedHandle};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::wal_location::WalLocation;
use crate::actions::postgres::restore::marker::Marker;
use crate::actions::postgres::restore::recovery_target::{Ending, RecoveryTarget};
use crate::base::RunId;

/// The arguments of `postgres.recover`: one of `staged` and `instance`, and at most one target.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecoverParams {
    /// The database of the inventory.
    pub database: DatabaseRef,
    /// The staged backup, as `postgres.restore_base` gave it.
    #[serde(default)]
    pub staged: Option<Late<StagedHandle>>,
    /// An instance that an earlier step of this run left paused: it goes on to a later target.
    #[serde(default)]
    pub instance: Option<Late<InstanceHandle>>,
    /// Where replay ends.
    #[serde(flatten)]
    pub target: TargetSpec,
    /// What becomes of the server: `promote` (default) opens it for good; `pause` lets it wait and be read, then
    /// `postgres.promote` opens it, or a step with `instance` goes on; `standby` follows the archive.
    #[serde(default)]
    pub action: Option<Ending>,
    /// WAL that another program archived is read where it lies, beside the database's own archive. It is *unproven*: each
    /// file counts as far as its own content proves it.
    #[serde(default)]
    pub wal_location: Option<WalLocation>,
}

impl RecoverParams {
    /// The unfinished recovery that this step goes on with, where there is one.
    ///
    /// # Errors
    /// Fails when the marker of that recovery makes no sense.
    pub(super) fn unfinished(
        &self,
        cluster: &Cluster,
        run: &RunId,
        files: &dyn ReadFiles,
    ) -> Result<Option<Marker>, ActionError> {
        let staged = self.staged.as_ref().map(Late::get).transpose()?;
        takeover::unfinished(cluster, (run, staged), files)
    }

    /// Where the recovery is to end, and how.
    pub(crate) fn recovery_target(&self) -> Result<RecoveryTarget, ParamFault> {
        match (&self.staged, &self.instance) {
            (Some(_), None) | (None, Some(_)) => {}
            (Some(_), Some(_)) | (None, None) => {
                return Err(ParamFault::new("", "exactly one of `staged` and `instance` is wanted"));
            }
        }
        self.target.recovery_target(self.action.unwrap_or_default(), self.instance.as_ref())
    }
}
