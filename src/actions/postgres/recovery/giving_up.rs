//! A timeline that a recovery opened too early is given up, so that no later recovery takes it for the newest.
//!
//! By then the server has archived its history, and most often its first segment. It is noted in the stopped data directory,
//! which the next recovery finds as the old one, and in every store of the archive, for everybody else.

use std::path::Path;

use serde_json::json;

use super::lost_history;
use crate::action::{ActionError, HostError, ReadFiles, Store};
use crate::actions::postgres::cluster::pg_control::control;
use crate::actions::postgres::restore::context::RecoveryContext;
use crate::actions::postgres::restore::marker::Marker;
use crate::base::clock;
use crate::catalog::{GivenUp, GivenUpNote};
use crate::pgformat::{Lsn, SegmentName, SegmentScan, SegmentSize, Timeline, WalFileName};

/// Gives up the timeline of a stopped server, which left `parent`. Says what leads on from here, also where that could not
/// be noted.
pub(crate) async fn give_up(
    context: &RecoveryContext<'_>,
    marker: &Marker,
    (timeline, parent): (Timeline, Timeline),
    why: &str,
) -> String {
    let lacking = match everywhere(context, marker, timeline, why).await {
        Ok(lacking) => lacking,
        Err(error) => vec![error.to_string()],
    };
    match lacking.is_empty() {
        true => format!(
            "and recover again: timeline {timeline}, which began here, is noted as given up in the archive, so timeline \
             {parent} is followed again"
        ),
        false => format!(
            "and recover again with `timeline: {parent}` (`-p timeline={parent}`): timeline {timeline} began here, and that \
             it is given up could not be noted everywhere: {}",
            lacking.join(", ")
        ),
    }
}

/// Notes a timeline in every store anew that its data directory tells to be given up: who gave it up may have died before
/// each store had the note. Gives the stores that lack it, with the reason.
pub(crate) async fn note_again(
    context: &RecoveryContext<'_>,
    marker: &Marker,
    (given_up, why): (GivenUp, &str),
) -> Vec<String> {
    let note = GivenUpNote { format: 1, run: context.cx.about.run.to_string(), at: clock::now(), why: why.to_owned() };
    let mut lacking = Vec::new();
    for store in context.stores() {
        if let Err(error) = noted(context, store.as_ref(), (marker, given_up), &note).await {
            lacking.push(format!("`{}` ({error})", store.name()));
        }
    }
    lacking
}

/// Notes it in the data directory and in every store; gives the stores that lack it, with the reason.
async fn everywhere(
    context: &RecoveryContext<'_>,
    marker: &Marker,
    timeline: Timeline,
    why: &str,
) -> Result<Vec<String>, ActionError> {
    let (files, pgdata) = (context.cx.host.files(), &context.cluster.pgdata);
    // A server that had to be killed has written on behind its checkpoint. Where that cannot be read, the checkpoint tells.
    let written = written_to(files.as_ref(), pgdata, (timeline, marker.segment_size)).ok().flatten();
    let until = control(files.as_ref(), pgdata)?.checkpoint.max(written.unwrap_or_default());
    let given_up = GivenUp { timeline, until };
    let marker = Marker { given_up: Some(given_up), ..marker.clone() };
    marker.write(files.as_ref(), pgdata, &context.owner)?;
    let lacking = note_again(context, &marker, (given_up, why)).await;
    let message = format!("timeline {timeline} was opened too early and is given up");
    context.cx.reporter.note(message, json!({ "timeline": timeline.0, "until": given_up.until.to_string() }));
    Ok(lacking)
}

/// Where the records of a stopped server end on its timeline; `None` where it wrote none.
fn written_to(
    files: &dyn ReadFiles,
    pgdata: &Path,
    (timeline, size): (Timeline, SegmentSize),
) -> Result<Option<Lsn>, HostError> {
    let folder = files.canonical(&pgdata.join("pg_wal"))?;
    let names = files.list(&folder)?.into_iter().filter_map(|entry| entry.name.to_str()?.parse::<SegmentName>().ok());
    let mut own: Vec<SegmentName> = names.filter(|name| name.timeline() == timeline).collect();
    own.sort_unstable();
    // The last ones may be kept for later use, and hold nothing of their own.
    for segment in own.into_iter().rev() {
        let scan = SegmentScan::of(segment, size, &files.read(&folder.join(segment.to_string()), size.bytes())?);
        if scan.records > 0 {
            // One that was switched away from is over, and archived as it is.
            return Ok(Some(if scan.halt.is_none() { segment.end(size) } else { scan.end }));
        }
    }
    Ok(None)
}

/// The timeline that an unfinished recovery has opened: its server wrote the history of it, and reads no WAL of the archive
/// any more. `None` while it has not, and where nothing is there to tell.
pub(crate) fn opened(files: &dyn ReadFiles, pgdata: &Path, marker: &Marker) -> Option<Timeline> {
    let is_there = |name: &str| matches!(files.facts(&pgdata.join(name)), Ok(Some(_)));
    if ["recovery.signal", "standby.signal"].into_iter().any(is_there) {
        return None;
    }
    let followed = marker.course?.timeline;
    let folder = pgdata.join("pg_wal");
    let listed = files.list(&folder).ok()?;
    let histories = listed.iter().filter_map(|entry| match entry.name.to_str()?.parse() {
        Ok(WalFileName::History(timeline)) if timeline > followed => Some(timeline),
        _ => None,
    });
    histories.filter(|one| lost_history::is_history(files, &folder.join(one.history_file()))).max()
}

async fn noted(
    context: &RecoveryContext<'_>,
    store: &dyn Store,
    (marker, given_up): (&Marker, GivenUp),
    note: &GivenUpNote,
) -> Result<(), String> {
    if context.entry(store).is_ok_and(|entry| entry.read_only) {
        return Err("it is read-only here".to_owned());
    }
    given_up.note(store, (context.prefix, marker.system_id), note).await.map_err(|error| error.to_string())
}
