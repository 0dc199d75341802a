//! `leads_to` of `backup.find`: the backup from which a recovery gets to where it is to end.
//!
//! Which one that is [`crate::wal::outlook`] decides, by the archive and by what the server has not archived yet: the
//! newest backup is the wrong one for every target that lies before its end, or on a timeline that had ended by then.

use std::collections::BTreeSet;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::find::{Choice, FindParams};
use crate::action::{ActionError, ParamFault, ReadFiles, ReadStore, Surroundings};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::wal_location::WalLocation;
use crate::actions::postgres::recovery::foresight::Foresight;
use crate::base::Timestamp;
use crate::catalog::recovery::{Edge, Goal, Refusal};
use crate::catalog::{BackupList, KIND_POSTGRES_BASE, Proven, Query};
use crate::pgformat::{Lsn, Timeline};
use crate::wal::outlook::Planned;

/// Where a recovery is to end: the same as the target of `postgres.recover`. At most one target; none at all takes every
/// backup.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LeadsTo {
    /// A point in time with offset.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub time: Option<Timestamp>,
    /// A position.
    #[serde(default)]
    pub lsn: Option<String>,
    /// A transaction; what counts is its commit.
    #[serde(default)]
    pub xid: Option<u64>,
    /// A restore point.
    #[serde(default)]
    pub name: Option<String>,
    /// The end of the backup itself: matters with a `timeline`.
    #[serde(default)]
    pub immediate: bool,
    /// Whether what happened at a time, a position or a transaction is recovered too; default: it is.
    #[serde(default)]
    pub inclusive: Option<bool>,
    /// The timeline to follow; default: the one that was live at the target.
    #[serde(default)]
    pub timeline: Option<u32>,
    /// WAL that another program archived counts as well.
    #[serde(default)]
    pub wal_location: Option<WalLocation>,
}

/// A query for the backup that leads there.
pub(super) struct Led {
    /// What to take.
    pub(super) query: Query,
    /// Newer backups that were passed over, with the reason.
    pub(super) passed_over: Vec<String>,
}

/// Where a recovery is to end, whether with what happened there, and along which timeline.
type Wanted = ((Goal, Edge), Option<Timeline>);

impl LeadsTo {
    /// Where it is to end, and along which timeline; `None` when every backup leads there.
    pub(super) fn goal(&self) -> Result<Option<Wanted>, ParamFault> {
        let mut goals = Vec::new();
        goals.extend(self.time.map(Goal::Time));
        if let Some(text) = &self.lsn {
            let lsn: Lsn = text.parse().map_err(|_| {
                ParamFault::new("/leads_to/lsn", format!("`{text}` is no position; write for example `16/B374D848`"))
            })?;
            goals.push(Goal::Lsn(lsn));
        }
        goals.extend(self.xid.map(Goal::Xid));
        goals.extend(self.name.clone().map(Goal::Name));
        goals.extend(self.immediate.then_some(Goal::Immediate));
        let timeline = self.timeline.map(Timeline);
        let bounded = matches!(goals.first(), Some(Goal::Time(_) | Goal::Lsn(_) | Goal::Xid(_)));
        if self.inclusive.is_some() && !bounded {
            let fact = "only a time, a position or a transaction can be left out";
            return Err(ParamFault::new("/leads_to/inclusive", fact));
        }
        let edge = if self.inclusive == Some(false) { Edge::Excluded } else { Edge::Included };
        match (goals.len(), timeline) {
            (0, None) => Ok(None),
            (0, Some(_)) => Ok(Some(((Goal::Newest, edge), timeline))),
            (1, _) if goals == [Goal::Immediate] && timeline.is_none() => Ok(None),
            (1, _) => Ok(Some(((goals.remove(0), edge), timeline))),
            _ => Err(ParamFault::new("/leads_to", "a recovery has at most one target")),
        }
    }
}

/// What a look ahead sees with.
pub(super) struct Sight<'a> {
    /// The run.
    pub(super) about: &'a Surroundings,
    /// Every store that the WAL lies in, that of the backups first.
    pub(super) stores: Vec<Arc<dyn ReadStore>>,
    /// The other stores that the backups go to.
    pub(super) copies: Vec<Arc<dyn ReadStore>>,
    /// The store in which another program archived WAL.
    pub(super) lying: Option<Arc<dyn ReadStore>>,
    /// The files of the database's machine.
    pub(super) files: Arc<dyn ReadFiles>,
}

/// Whether a backup is wanted that leads anywhere in particular.
pub(super) fn is_asked(params: &FindParams) -> bool {
    params.leads_to.as_ref().is_some_and(|leads| !matches!(leads.goal(), Ok(None)))
}

/// Where another program archived WAL that counts as well.
pub(super) fn location(params: &FindParams) -> Option<&WalLocation> {
    params.leads_to.as_ref()?.wal_location.as_ref()
}

/// Where it is to lead, in words.
pub(super) fn words(params: &FindParams) -> Option<String> {
    let (target, _) = params.leads_to.as_ref()?.goal().ok()??;
    Some(format!(" that leads to {}, as `runbook pitr` finds it", told(&target)))
}

/// What is wrong with where it is to lead.
pub(super) fn fault(params: &FindParams) -> Option<ParamFault> {
    if let Err(fault) = params.leads_to.as_ref()?.goal().transpose()? {
        return Some(fault);
    }
    let fault = |what: &str| Some(ParamFault::new("/leads_to", what));
    let base = params.kind.as_deref().is_none_or(|kind| kind == KIND_POSTGRES_BASE);
    if params.place.database.is_none() || !base {
        return fault("only a base backup of a `database` leads anywhere");
    }
    if params.before.is_some() || params.at.is_some() || params.pick != Choice::Latest {
        return fault("`leads_to` excludes `before`, `at` and `pick`: it takes the newest that leads there");
    }
    None
}

/// Narrows a query to the backup that leads where it is to; or says why none does, with advice.
///
/// # Errors
/// Fails when a store gives no answer or WAL cannot be read.
pub(super) async fn narrowed(
    params: &FindParams,
    sight: Sight<'_>,
    (list, query): (&BackupList, Query),
) -> Result<Result<Led, (String, String)>, ActionError> {
    let goal = params.leads_to.as_ref().map(LeadsTo::goal).transpose();
    let goal = goal.map_err(|fault| ActionError::fatal(fault.message))?.flatten();
    let (Some((target, timeline)), Some(database)) = (goal, &params.place.database) else {
        return Ok(Ok(Led { query, passed_over: Vec::new() }));
    };
    let cluster = Cluster::of(database, &sight.about.inventory, &sight.about.scratch)?;
    let ahead = Foresight::of(&cluster, sight.about, sight.stores, sight.files).with_copies(sight.copies);
    let ahead = match (location(params), sight.lying) {
        (Some(location), Some(lying)) => ahead.beside(location, lying)?,
        (Some(_) | None, _) => ahead,
    };
    let mut last = None;
    // Where none of the proven ones leads there, any other one is better than none.
    let anyway = Query { proven: Proven::Ignore, ..query.clone() };
    for wanted in std::iter::once(&query).chain((query.proven == Proven::Prefer).then_some(&anyway)) {
        let fitting = wanted.fitting(list.clone()).into_iter();
        let among: BTreeSet<String> = fitting.map(|backup| backup.manifest.id).collect();
        if among.is_empty() {
            continue;
        }
        let planned = ahead.planned((&target.0, target.1, timeline), ahead.remnant().await?, Some(&among)).await;
        let planned = planned.map_err(|error| {
            ActionError::retryable("which backup leads to the target cannot be told").because(&error)
        })?;
        match planned {
            Planned::Possible(plan) => {
                let passed_over = plan.passed_over.iter().map(|one| format!("`{}`: {}", one.id, one.why)).collect();
                return Ok(Ok(Led { query: Query { id: Some(plan.backup.id.clone()), ..query }, passed_over }));
            }
            Planned::Impossible(why) => last = Some(why.why),
        }
    }
    // Nothing fits at all: the search says so in its own words.
    Ok(match last {
        Some(why) => Err(refused(&told(&target), &query, &why)),
        None => Ok(Led { query, passed_over: Vec::new() }),
    })
}

/// Where it is to end, in words.
fn told((goal, edge): &(Goal, Edge)) -> String {
    match edge {
        Edge::Included => goal.to_string(),
        Edge::Excluded => format!("just before {goal}"),
    }
}

/// Why no backup leads there, with advice.
fn refused(goal: &str, query: &Query, why: &Refusal) -> (String, String) {
    let which = match &query.id {
        Some(id) => format!("backup `{id}` does not lead to {goal}"),
        None => format!("no backup leads to {goal}"),
    };
    let help = why.help().unwrap_or("`runbook backups map` shows what can be recovered").to_owned();
    match why {
        Refusal::NoBackup(_) => (which, help),
        Refusal::BeforeBackup { .. }
        | Refusal::NoWay { .. }
        | Refusal::HistoryLost { .. }
        | Refusal::HalfDropped { .. }
        | Refusal::RolledBack(_)
        | Refusal::PartOf { .. }
        | Refusal::Several(_)
        | Refusal::Outlived { .. }
        | Refusal::Left { .. }
        | Refusal::Unread { .. }
        | Refusal::Hole { .. }
        | Refusal::Unclear { .. }
        | Refusal::BehindEnd { .. }
        | Refusal::Backup { .. }
        | Refusal::NotFound(_) => (format!("{which}: {why}"), help),
    }
}

#[cfg(test)]
mod tests {
    use super::{Edge, Goal, LeadsTo, Lsn, Timeline};

    #[test]
    fn one_target_is_taken_none_takes_every_backup_and_two_are_refused() {
        let all = LeadsTo { immediate: true, ..LeadsTo::default() };
        assert_eq!(all.goal().expect("no fault"), None, "every backup leads to its own end");
        let along = LeadsTo { timeline: Some(2), ..LeadsTo::default() };
        assert_eq!(along.goal().expect("no fault"), Some(((Goal::Newest, Edge::Included), Some(Timeline(2)))));
        let lsn = LeadsTo { lsn: Some("0/3000000".to_owned()), ..LeadsTo::default() };
        let goal = Goal::Lsn(Lsn(3 << 24));
        assert_eq!(lsn.goal().expect("no fault"), Some(((goal.clone(), Edge::Included), None)));
        let before = LeadsTo { inclusive: Some(false), ..lsn.clone() };
        assert_eq!(before.goal().expect("no fault"), Some(((goal, Edge::Excluded), None)));
        for whole in [all, along, LeadsTo::default()] {
            assert!(LeadsTo { inclusive: Some(false), ..whole }.goal().is_err(), "nothing to leave out");
        }
        assert!(LeadsTo { xid: Some(7), ..lsn.clone() }.goal().is_err());
        assert!(LeadsTo { lsn: Some("yesterday".to_owned()), ..LeadsTo::default() }.goal().is_err());
    }
}
