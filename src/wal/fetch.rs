//! Delivers one WAL file to a server in recovery.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::absence::{Absence, Archive};
use super::packed::{Source, read_into};
use super::preference::{Heard, gravest};
use super::preferred_store::PreferredStore;
use super::rescue::{later_rescued, read_rescued};
use super::staged_file::{StagedFile, deliver};
use super::{Identity, WalError};
use crate::action::StoreError;
use crate::base::clock::monotonic;
use crate::catalog::recovery::Requirement;
use crate::pgformat::{SegmentName, WalFileName};

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How a fetch ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Delivery {
    /// From the archive, verified.
    Archive,
    /// From a rescue folder, verified.
    Rescue(PathBuf),
    /// The file does not exist and nothing says that it should.
    Absent,
}

/// What one look into the archive gave.
enum Look {
    Found(StagedFile),
    Absent,
}

/// Delivers `name` to `target`: whole and verified, or not at all. Of several places the first that has it whole counts, and
/// it is absent only when it is absent in all of them. A segment that breaks off is delivered only when every place was
/// looked into and none proves more: to the server it is the end of the WAL.
///
/// `rescue` are folders with WAL outside the archive; `patience` is how long failures that may pass are tried again.
///
/// # Errors
/// Fails for everything but a proven absence.
pub(super) async fn fetch_file(
    (sources, preferred): (&[Source<'_>], &PreferredStore),
    rescue: &[PathBuf],
    (name, target): (WalFileName, &Path),
    patience: Duration,
) -> Result<Delivery, WalError> {
    let Some(identity) = sources.first().map(|source| source.identity) else {
        return Err(WalError::Usage("there is no store to fetch from".to_owned()));
    };
    // What a rescue folder has whole need not be waited for.
    let is_at_hand = |error: &WalError| {
        let rescued = || read_rescued(rescue, name, &identity);
        matches!(error, WalError::Overdue { .. }) && matches!(rescued(), Ok(Some(found)) if found.is_whole())
    };
    match look_patiently((sources, preferred), (name, target), (patience, &is_at_hand)).await {
        Ok(Look::Found(staged_file)) => {
            staged_file.settle(target)?;
            Ok(Delivery::Archive)
        }
        Ok(Look::Absent) => match name {
            WalFileName::Segment(segment) => beyond_the_archive(rescue, &identity, segment, target),
            WalFileName::PartialSegment(_) | WalFileName::History(_) | WalFileName::BackupHistory { .. } => {
                Ok(Delivery::Absent)
            }
        },
        Err(error) => match read_rescued(rescue, name, &identity) {
            // An unfinished segment would look like the end of the WAL, which it is not known to be.
            Ok(Some(found)) if found.is_whole() => {
                deliver(&found.bytes, target)?;
                Ok(Delivery::Rescue(found.path))
            }
            Ok(Some(_) | None) | Err(_) => Err(error),
        },
    }
}

/// Delivers a segment after the end of the archive from the rescued tail, whose own end is not the end of
/// the WAL either as long as something later was rescued.
fn beyond_the_archive(
    rescue: &[PathBuf],
    identity: &Identity,
    segment: SegmentName,
    target: &Path,
) -> Result<Delivery, WalError> {
    let name = WalFileName::Segment(segment);
    let found = read_rescued(rescue, name, identity)?;
    let later = later_rescued(rescue, segment, identity)?;
    match (found, later) {
        (Some(found), later) if later.is_none() || found.is_whole() => {
            deliver(&found.bytes, target).map(|()| Delivery::Rescue(found.path))
        }
        (Some(_), later) => {
            let later = later.map(|later| later.to_string()).unwrap_or_default();
            Err(WalError::Required { name, why: format!("it breaks off where it was rescued, and `{later}` follows") })
        }
        (None, Some(later)) => {
            Err(WalError::Required { name, why: format!("the later segment `{later}` was rescued") })
        }
        (None, None) => Ok(Delivery::Absent),
    }
}

async fn look_patiently(
    stores: (&[Source<'_>], &PreferredStore),
    wanted: (WalFileName, &Path),
    (patience, is_at_hand): (Duration, &(dyn Fn(&WalError) -> bool + Sync)),
) -> Result<Look, WalError> {
    let begin = monotonic();
    let mut pause = FIRST_PAUSE;
    loop {
        match look_everywhere(stores, wanted).await {
            Err(error) if error.is_passing() && begin.elapsed() + pause <= patience && !is_at_hand(&error) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            other => return other,
        }
    }
}

async fn look_everywhere(
    (sources, preferred): (&[Source<'_>], &PreferredStore),
    wanted: (WalFileName, &Path),
) -> Result<Look, WalError> {
    let mut heard = Heard::default();
    for place in preferred.order(sources.len()) {
        match look(&sources[place], wanted).await {
            Ok(Look::Found(staged_file)) => match staged_file.breaks_off() {
                // It may be the last of its timeline, or the beginning of one that another store has more of.
                Some(off) if sources.len() > 1 => heard.breaks_off(place, off.end),
                Some(_) | None => {
                    preferred.gave(place);
                    return Ok(Look::Found(staged_file));
                }
            },
            Ok(Look::Absent) => {}
            Err(error) => heard.failed(place, error),
        }
    }
    match heard.longest(sources, wanted.0).await? {
        None => Ok(Look::Absent),
        Some(place) => look_at_the_end(sources, place, wanted).await,
    }
}

/// Gives the copy that goes furthest of those that all break off, where no store proves that there is more of the segment.
async fn look_at_the_end(sources: &[Source<'_>], place: usize, wanted: (WalFileName, &Path)) -> Result<Look, WalError> {
    // Each is written to the same place, so it is read once more.
    let found = look(&sources[place], wanted).await?;
    if let Look::Found(staged_file) = &found {
        for source in sources {
            leads_on(source, wanted.0, staged_file).await?;
        }
    }
    Ok(found)
}

/// Reads a segment that the server has not asked for yet to where it is made, verified, from the first store that has it
/// whole. `None` says nothing of whether it should be there.
pub(super) async fn seek(
    (sources, preferred): (&[Source<'_>], &PreferredStore),
    segment: SegmentName,
    make: &(dyn Fn() -> Result<StagedFile, WalError> + Sync),
) -> Result<Option<StagedFile>, WalError> {
    let name = WalFileName::Segment(segment);
    let mut failures = Vec::new();
    for place in preferred.order(sources.len()) {
        match read_whole(&sources[place], name, make).await {
            Ok(staged_file) => {
                preferred.gave(place);
                return Ok(Some(staged_file));
            }
            Err(WalError::Store(StoreError::NotFound { .. })) => {}
            Err(error) => failures.push((place, error)),
        }
    }
    gravest(sources, failures).map_or(Ok(None), Err)
}

/// Reads a segment from one store. One that breaks off may be the last of its timeline: it is left to the server's own
/// question.
async fn read_whole(
    source: &Source<'_>,
    name: WalFileName,
    make: &(dyn Fn() -> Result<StagedFile, WalError> + Sync),
) -> Result<StagedFile, WalError> {
    let staged_file = read_into(source, name, &|_| Ok(make()?.walked(name, &source.identity))).await?;
    staged_file.verify(name, &source.identity)?;
    match staged_file.breaks_off() {
        None => Ok(staged_file),
        Some(off) => Err(WalError::Damaged { name, what: off.to_string() }),
    }
}

/// Refuses a segment whose records break off though something in the archive proves that there was more of it: the server
/// would take that for the end of the WAL, and open.
async fn leads_on(source: &Source<'_>, name: WalFileName, staged_file: &StagedFile) -> Result<(), WalError> {
    let (Some(off), WalFileName::Segment(segment), Some(size)) =
        (staged_file.breaks_off(), name, source.identity.segment_size)
    else {
        return Ok(());
    };
    let archive = Archive::read(source.store, source.prefix, &source.identity, segment.timeline()).await?;
    match archive.judge_end(segment, off.end, size) {
        Absence::End => Ok(()),
        Absence::Hole(why) => Err(WalError::Damaged { name, what: format!("{off}, though {why}") }),
    }
}

/// What later WAL proves may still come; what a fork or a backup needs was there before them.
fn lacking(name: WalFileName, why: Requirement) -> WalError {
    match why {
        Requirement::Later(_) | Requirement::LaterPartial(_) => WalError::Overdue { name, why, beside: String::new() },
        Requirement::Fork { .. } | Requirement::Backup(_) => WalError::Required { name, why: why.to_string() },
    }
}

async fn look(source: &Source<'_>, (name, target): (WalFileName, &Path)) -> Result<Look, WalError> {
    let identity = &source.identity;
    match read_into(source, name, &|_| Ok(StagedFile::beside(target)?.walked(name, identity))).await {
        Ok(staged_file) => {
            let proven = staged_file.verify(name, identity);
            proven.map_err(|error| WalError::Damaged { name, what: error.to_string() })?;
            leads_on(source, name, &staged_file).await?;
            Ok(Look::Found(staged_file))
        }
        Err(WalError::Store(StoreError::NotFound { key, .. })) => {
            // Said once is not enough: the listing must agree, and nothing later may be there.
            let archive = Archive::read(source.store, source.prefix, identity, name.timeline()).await?;
            if archive.lists(name) {
                let store = source.store.name().to_owned();
                let what = format!("`{key}` appeared meanwhile");
                let source = std::io::Error::other("it was not there a moment ago");
                return Err(StoreError::Unavailable { store, what, source }.into());
            }
            let size =
                identity.segment_size.ok_or_else(|| WalError::Unidentified(PathBuf::from("global/pg_control")))?;
            match archive.judge_file(name, size) {
                Absence::End => Ok(Look::Absent),
                Absence::Hole(why) => Err(lacking(name, why)),
            }
        }
        Err(error) => Err(error),
    }
}
