//! The arguments of `postgres.recover`: what is recovered, where to, and how it ends.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::takeover;
use crate::action::{ActionError, DatabaseRef, InstanceHandle, Late, ParamFault, ReadFiles, StagedHandle};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::wal_location::WalLocation;
use crate::actions::postgres::restore::aim::{Aim, Edge, Ending};
use crate::actions::postgres::restore::marker::Marker;
use crate::base::{RunId, Timestamp};
use crate::catalog::recovery::Goal;
use crate::pgformat::{Lsn, Timeline};

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
    /// `latest` (default): the end of the archive. `immediate`: the end of the backup. `here`: opens `instance` where it waits.
    #[serde(default)]
    pub target: Option<Landmark>,
    /// A point in time with offset; the last commit not after it is the last one there is.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub target_time: Option<Timestamp>,
    /// A position.
    #[serde(default)]
    pub target_lsn: Option<String>,
    /// A restore point made with `pg_create_restore_point`.
    #[serde(default)]
    pub target_name: Option<String>,
    /// A transaction; what counts is its commit.
    #[serde(default)]
    pub target_xid: Option<u64>,
    /// With `false` replay ends just before the time, position or transaction. Default: with it.
    #[serde(default)]
    pub inclusive: Option<bool>,
    /// What becomes of the server: `promote` (default) opens it for good; `pause` lets it wait and be read, then
    /// `postgres.promote` opens it, or a step with `instance` goes on; `standby` follows the archive.
    #[serde(default)]
    pub action: Option<Ending>,
    /// The timeline to follow; default: the one that was live at the target, the latest without target.
    #[serde(default)]
    pub timeline: Option<u32>,
    /// WAL that another program archived is read where it lies, beside the database's own archive. It is *unproven*: each
    /// file counts as far as its own content proves it.
    #[serde(default)]
    pub wal_location: Option<WalLocation>,
}

/// Targets that need no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Landmark {
    /// The end of the archive.
    Latest,
    /// The end of the backup, as soon as the data is consistent.
    Immediate,
    /// Where the paused `instance` is: nothing more is replayed, it opens.
    Here,
}

impl RecoverParams {
    /// The one target, the end of the archive without any.
    pub(crate) fn goal(&self) -> Result<Goal, ParamFault> {
        let mut goals = Vec::new();
        goals.extend(self.target.map(|landmark| match landmark {
            Landmark::Latest | Landmark::Here => Goal::Newest,
            Landmark::Immediate => Goal::Immediate,
        }));
        goals.extend(self.target_time.map(Goal::Time));
        if let Some(text) = &self.target_lsn {
            let lsn: Lsn = text.parse().map_err(|_| {
                ParamFault::new("/target_lsn", format!("`{text}` is no position; write for example `16/B374D848`"))
            })?;
            goals.push(Goal::Lsn(lsn));
        }
        goals.extend(self.target_name.clone().map(Goal::Name));
        goals.extend(self.target_xid.map(Goal::Xid));
        match goals.len() {
            0 => Ok(Goal::Newest),
            1 => Ok(goals.remove(0)),
            _ => Err(ParamFault::new("", "a recovery has at most one target")),
        }
    }

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
    pub(crate) fn aim(&self) -> Result<Aim, ParamFault> {
        let goal = self.goal()?;
        let ending = self.action.unwrap_or_default();
        let bounded = matches!(goal, Goal::Time(_) | Goal::Lsn(_) | Goal::Xid(_));
        if self.inclusive.is_some() && !bounded {
            return Err(ParamFault::new("/inclusive", "only a time, a position or a transaction can be left out"));
        }
        if ending == Ending::Standby && goal != Goal::Newest {
            return Err(ParamFault::new("/action", "a standby follows the archive and stops at no target"));
        }
        match (&self.staged, &self.instance) {
            (Some(_), None) | (None, Some(_)) => {}
            (Some(_), Some(_)) | (None, None) => {
                return Err(ParamFault::new("", "exactly one of `staged` and `instance` is wanted"));
            }
        }
        if self.timeline == Some(0) {
            return Err(ParamFault::new("/timeline", "there is no timeline 0; leave `timeline` out, or name one"));
        }
        if self.target == Some(Landmark::Here) && (self.instance.is_none() || ending != Ending::Promote) {
            return Err(ParamFault::new("/target", "`here` opens an `instance` that waits, and does nothing else"));
        }
        let edge = if self.inclusive == Some(false) { Edge::Excluded } else { Edge::Included };
        Ok(Aim { goal, edge, ending, timeline: self.timeline.map(Timeline) })
    }
}
