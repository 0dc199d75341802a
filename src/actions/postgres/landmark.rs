//! Finds a transaction's end or a restore point in archived WAL, and so the timeline it lies on (facts 2.10.3).
//!
//! Neither tells its own timeline. Where several lead on from a backup, the server would follow the newest, and end
//! with an error behind all of it when the landmark is on another one.

use std::collections::BTreeSet;

use super::aim::words;
use super::archive::Shelf;
use super::target::{Archive, Base, Goal};
use crate::action::ActionError;
use crate::pgformat::{Landmark, Lsn, SegmentName, Timeline, TimelineHistory, TransactionEnd, WalRecord, WalWalker};

/// Says on which timeline a goal lies; `None` where one leads on from the backup anyway, or the goal tells itself.
///
/// # Errors
/// Fails when a segment cannot be read, when no timeline has it, and when several have one of that name.
pub(crate) async fn timeline(
    shelf: &Shelf<'_>,
    archive: &Archive,
    base: Base,
    goal: &Goal,
) -> Result<Option<Timeline>, ActionError> {
    let wanted = match goal {
        Goal::Xid(_) | Goal::Name(_) => goal.clone(),
        Goal::Newest | Goal::Immediate | Goal::Time(_) | Goal::Lsn(_) => return Ok(None),
    };
    let leading = archive.leading(base);
    if leading.len() < 2 {
        return Ok(None);
    }
    let mut found: BTreeSet<(Lsn, Timeline)> = BTreeSet::new();
    for timeline in &leading {
        // What came with the backup or is still to be rescued cannot be read here, and begins a walk anew.
        let path = own(archive, *timeline, base).into_iter().filter(|segment| archive.holds(*segment)).collect();
        found.extend(positions(shelf, path, &wanted).await?.into_iter().map(|lsn| (lsn, *timeline)));
    }
    let found: BTreeSet<(Lsn, Timeline)> = found.iter().filter(|one| !is_copy(archive, &found, one)).copied().collect();
    let list = |found: &BTreeSet<(Lsn, Timeline)>| {
        found.iter().map(|(lsn, timeline)| format!("`{timeline}` at {lsn}")).collect::<Vec<_>>().join(", ")
    };
    match found.iter().next() {
        Some((_, timeline)) if found.len() == 1 => Ok(Some(*timeline)),
        Some(_) => Err(ActionError::fatal(format!("several timelines contain {}: {}", words(goal), list(&found)))
            .help("say which one with `timeline`")),
        None => Err(ActionError::fatal(format!("no WAL of the archive after the backup contains {}", words(goal)))
            .help("say its `timeline`, or give a time or a position instead")),
    }
}

/// Whether a timeline only has it because it begins with a copy of what its ancestor wrote, and the ancestor has it too.
fn is_copy(archive: &Archive, found: &BTreeSet<(Lsn, Timeline)>, (lsn, timeline): &(Lsn, Timeline)) -> bool {
    let Some(history) = archive.history(*timeline) else { return false };
    let shared = |other: &Timeline| history.switch_of(*other).is_some_and(|fork| *lsn < fork);
    found.iter().any(|(at, other)| at == lsn && shared(other))
}

/// The segments of a timeline itself, without those it shares with its parent.
fn own(archive: &Archive, timeline: Timeline, base: Base) -> Vec<SegmentName> {
    let history = archive.history(timeline).unwrap_or_else(|| TimelineHistory::root(timeline));
    let reach = archive.reach(timeline, base);
    let Some(last) = reach.last else { return Vec::new() };
    let numbers = archive.size.number_of(base.start)..=last.number(archive.size);
    let path = numbers.map(|number| history.segment(number, archive.size));
    path.filter(|segment| segment.timeline() == timeline).collect()
}

async fn positions(shelf: &Shelf<'_>, path: Vec<SegmentName>, goal: &Goal) -> Result<BTreeSet<Lsn>, ActionError> {
    let mut walker = WalWalker::new(shelf.size);
    let mut all = BTreeSet::new();
    for name in path {
        let bytes = shelf.segment(name).await?;
        let wanted = goal.clone();
        let walked = tokio::task::spawn_blocking(move || {
            let mut found = Vec::new();
            walker.segment(name, &bytes, &mut |record| {
                if is_it(record, &wanted) {
                    found.push(record.lsn);
                }
            });
            (walker, found)
        });
        let found;
        (walker, found) =
            walked.await.map_err(|error| ActionError::fatal("walking a segment panicked").because(&error))?;
        all.extend(found);
    }
    Ok(all)
}

fn is_it(record: &WalRecord<'_>, goal: &Goal) -> bool {
    match goal {
        // The record has no epoch; a target's is dropped by the server as well. A prepared one counts by its own number.
        Goal::Xid(xid) => TransactionEnd::of(record).is_some_and(|end| u64::from(end.xid) == xid & u64::from(u32::MAX)),
        Goal::Name(name) => match Landmark::of(record) {
            Some(Landmark::RestorePoint { name: own, .. }) => own == *name,
            Some(Landmark::Checkpoint { .. } | Landmark::Promotion { .. } | Landmark::DatabaseDropped { .. })
            | None => false,
        },
        Goal::Newest | Goal::Immediate | Goal::Time(_) | Goal::Lsn(_) => false,
    }
}
