//! Finds a transaction's end or a restore point in the WAL that replay will read, and so the timeline it lies on
//! (facts 2.10.3).
//!
//! Neither tells its own timeline, nor whether it is there at all: the server would find that out at the end of all WAL,
//! in an error, with the old data moved aside. So it is looked for before anything is touched.

use std::collections::BTreeSet;

use super::wal_source::UnarchivedWal;
use crate::action::ActionError;
use crate::actions::postgres::restore::recovery_target::{passed, words};
use crate::actions::postgres::stores::archive::WalArchive;
use crate::actions::postgres::stores::target::{Archive, Base, Goal};
use crate::catalog::recovery::{Refusal, without_epoch};
use crate::event::ErrorClass;
use crate::pgformat::{
    Landmark, Lsn, Outcome, SegmentName, Timeline, TimelineHistory, TransactionEnd, WalRecord, WalWalker, Walked,
};

/// What is searched: the archive behind a backup, and what replay will find beside it.
pub(crate) struct Searched<'a> {
    /// Where archived segments are read.
    pub(crate) wal_archive: &'a WalArchive<'a>,
    /// What there is.
    pub(crate) archive: &'a Archive,
    /// The rest.
    pub(crate) aside: UnarchivedWal<'a>,
    /// The backup.
    pub(crate) base: Base,
    /// Where replay is, of a recovery that waits.
    pub(crate) reached: Option<Lsn>,
}

/// Where a goal was found, and what could not be looked through.
#[derive(Default)]
struct Found {
    at: BTreeSet<(Lsn, Timeline)>,
    /// Why an end of that transaction is not a commit of its own.
    refused: Option<Refusal>,
    damaged: Vec<(SegmentName, ActionError)>,
}

/// Where a goal lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Located {
    /// Its timeline, where the server must be told one.
    pub(crate) timeline: Option<Timeline>,
    /// Where the record begins at which the server stops, of a transaction or a restore point.
    pub(crate) at: Option<Lsn>,
}

/// Says where a goal lies; on the wanted timeline where the goal tells itself.
///
/// # Errors
/// Fails when a store gives no answer, when no timeline has it up to its first damaged segment, when it lies before the
/// backup's end or replay has passed it, and when several timelines have one of that name.
pub(crate) async fn timeline(
    searched: &Searched<'_>,
    goal: &Goal,
    wanted: Option<Timeline>,
) -> Result<Located, ActionError> {
    let sought = match goal {
        Goal::Xid(_) | Goal::Name(_) => goal.clone(),
        Goal::Newest | Goal::Immediate | Goal::Time(_) | Goal::Lsn(_) => {
            return Ok(Located { timeline: wanted, at: None });
        }
    };
    let (archive, base) = (searched.archive, searched.base);
    let mut found = Found::default();
    if let Some(wanted) = wanted {
        archive.timeline(goal, base, Some(wanted))?;
        searched.look((searched.path(wanted), wanted), &sought, &mut found).await?;
        let found = searched.still_ahead(goal, found)?;
        return Ok(Located { timeline: Some(wanted), at: first(&found) });
    }
    for timeline in archive.leading(base) {
        let own = searched.path(timeline).into_iter().filter(|segment| segment.timeline() == timeline).collect();
        searched.look((own, timeline), &sought, &mut found).await?;
    }
    found.at = found.at.iter().filter(|one| !is_copy(archive, &found.at, one)).copied().collect();
    let found = searched.still_ahead(goal, found)?;
    let timelines: BTreeSet<Timeline> = found.iter().map(|(_, timeline)| *timeline).collect();
    match timelines.first() {
        Some(only) if timelines.len() == 1 => {
            let timeline = (archive.leading(base).len() > 1).then_some(*only);
            Ok(Located { timeline, at: first(&found) })
        }
        Some(_) | None => {
            let list: Vec<String> = found.iter().map(|(lsn, timeline)| format!("`{timeline}` at {lsn}")).collect();
            let fact = format!("several timelines contain {}: {}", words(goal), list.join(", "));
            Err(ActionError::fatal(fact).help("say which one with `timeline`"))
        }
    }
}

/// The server stops at the first that it meets.
fn first(found: &BTreeSet<(Lsn, Timeline)>) -> Option<Lsn> {
    found.first().map(|(lsn, _)| *lsn)
}

impl Searched<'_> {
    /// The segments from the backup to the end of a timeline, those shared with its parents included.
    fn path(&self, timeline: Timeline) -> Vec<SegmentName> {
        let (archive, base) = (self.archive, self.base);
        let history = archive.history(timeline).unwrap_or_else(|| TimelineHistory::root(timeline));
        let Some(last) = archive.reach(timeline, base).last else { return Vec::new() };
        let numbers = archive.size.number_of(base.start)..=last.number(archive.size);
        numbers.map(|number| history.segment(number, archive.size)).collect()
    }

    /// Refuses what is not there, or only where replay does not come by: the server stops at the first it meets. What lies
    /// behind a damaged segment cannot be reached.
    fn still_ahead(&self, goal: &Goal, found: Found) -> Result<BTreeSet<(Lsn, Timeline)>, ActionError> {
        let Found { mut at, refused, damaged } = found;
        if at.iter().any(|(lsn, _)| *lsn < self.base.stop) {
            let end = format!("`{}`", self.base.stop);
            return Err(Refusal::BeforeBackup { goal: goal.clone(), end }.into());
        }
        if let Some(reached) = self.reached.filter(|reached| at.iter().any(|(lsn, _)| lsn < reached)) {
            return Err(passed(goal, &reached.to_string()));
        }
        at.retain(|(lsn, timeline)| {
            let path = self.archive.path(*timeline);
            !damaged.iter().any(|(name, _)| name.start(self.wal_archive.size) <= *lsn && path.holds(*name))
        });
        if !at.is_empty() {
            return Ok(at);
        }
        if let Some(why) = refused {
            return Err(why.into());
        }
        Err(damaged.into_iter().next().map_or_else(
            || {
                ActionError::fatal(format!("no WAL after the backup contains {}", words(goal)))
                    .help("`runbook wal search` finds transactions and restore points; or give a time or a position")
            },
            |(_, error)| error,
        ))
    }

    async fn look(
        &self,
        (path, timeline): (Vec<SegmentName>, Timeline),
        goal: &Goal,
        found: &mut Found,
    ) -> Result<(), ActionError> {
        let mut walker = WalWalker::new(self.wal_archive.size);
        for name in path {
            // Where a segment is missing or damaged, or ends early, a walk begins anew behind it.
            let bytes = match self.segment(name).await {
                Err(error) if error.info().class == ErrorClass::Fatal => {
                    found.damaged.push((name, error));
                    None
                }
                read => read?,
            };
            let Some(bytes) = bytes else {
                walker = WalWalker::new(self.wal_archive.size);
                continue;
            };
            let wanted = goal.clone();
            let walked = tokio::task::spawn_blocking(move || {
                let (mut seen, mut refused) = (Vec::new(), None);
                let walked = walker.segment(name, &bytes, &mut |record| match judge(record, &wanted) {
                    Some(Ok(())) => seen.push(record.lsn),
                    Some(Err(why)) => refused = refused.take().or(Some(why)),
                    None => {}
                });
                (walker, walked, (seen, refused))
            });
            let (next, walked, (seen, refused)) =
                walked.await.map_err(|error| ActionError::fatal("walking a segment panicked").because(&error))?;
            walker = if walked == Walked::ToTheEnd { next } else { WalWalker::new(self.wal_archive.size) };
            found.refused = found.refused.take().or(refused);
            found.at.extend(seen.into_iter().map(|lsn| (lsn, timeline)));
        }
        Ok(())
    }

    /// Reads a segment from the archive, else from beside it; `None` where neither has it any more.
    async fn segment(&self, name: SegmentName) -> Result<Option<Vec<u8>>, ActionError> {
        if self.archive.holds(name) {
            return self.wal_archive.segment(name).await.map(Some);
        }
        let UnarchivedWal { files, embedded, folders, tail } = self.aside;
        let beside = folders.iter().filter(|_| embedded.contains(&name)).map(|folder| folder.join(name.to_string()));
        let mut paths = tail.path_of(name).into_iter().chain(beside);
        Ok(paths.find_map(|path| files.read(&path, self.wal_archive.size.bytes()).ok()))
    }
}

/// Whether a timeline only has it because it begins with a copy of what its ancestor wrote, and the ancestor has it too.
fn is_copy(archive: &Archive, found: &BTreeSet<(Lsn, Timeline)>, (lsn, timeline): &(Lsn, Timeline)) -> bool {
    let Some(history) = archive.history(*timeline) else { return false };
    let shared = |other: &Timeline| history.switch_of(*other).is_some_and(|fork| *lsn < fork);
    found.iter().any(|(at, other)| at == lsn && shared(other))
}

/// Whether a record is the transaction's end or the restore point that is the goal.
pub(super) fn is_goal(record: &WalRecord<'_>, goal: &Goal) -> bool {
    judge(record, goal).is_some_and(|judged| judged.is_ok())
}

/// Whether a record is the goal; `None` for any other. A transaction that was rolled back, or ended with another one, is none.
fn judge(record: &WalRecord<'_>, goal: &Goal) -> Option<Result<(), Refusal>> {
    match goal {
        // The record has no epoch; a target's is dropped by the server as well. A prepared one counts by its own number.
        Goal::Xid(xid) => {
            let (end, own) = (TransactionEnd::of(record)?, without_epoch(*xid));
            let is_its = end.xid == own || end.subtransactions.contains(&own);
            let refusal = || Refusal::of_end(*xid, end.xid, end.outcome == Outcome::Committed);
            is_its.then(|| refusal().map_or(Ok(()), Err))
        }
        Goal::Name(name) => match Landmark::of(record)? {
            Landmark::RestorePoint { name: own, .. } => (own == *name).then_some(Ok(())),
            Landmark::Checkpoint { .. } | Landmark::Promotion { .. } | Landmark::DatabaseDropped { .. } => None,
        },
        Goal::Newest | Goal::Immediate | Goal::Time(_) | Goal::Lsn(_) => None,
    }
}
