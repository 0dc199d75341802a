//! Whether a snapshot is the one that a backup's label belongs to.
//!
//! A server that starts with a label replays from where it says, whatever the pages are: of an older snapshot the changes
//! in between would be missing, and nothing would notice. `pg_control` lies among the pages and tells their age. The
//! checkpoint that begins a backup is written there before the snapshot, and none from behind its end can be there.

use std::path::Path;

use crate::action::{FileKind, HostError, ReadFiles};
use crate::catalog::PostgresFacts;
use crate::pgformat::{ControlFile, SegmentName, WalFileName};

/// Says why the snapshot was not taken between the start and the end of the backup; `None` when nothing in it says so.
///
/// # Errors
/// Fails when it cannot be looked at.
pub(super) fn apart(
    (data, control): (&Path, &ControlFile),
    facts: &PostgresFacts,
    files: &dyn ReadFiles,
) -> Result<Option<String>, HostError> {
    let shown = data.display();
    if control.timeline != facts.timeline {
        let (theirs, ours) = (control.timeline, facts.timeline);
        return Ok(Some(format!("`{shown}` is of timeline {theirs}, the backup of timeline {ours}")));
    }
    if control.redo < facts.start_lsn {
        let (theirs, start) = (control.redo, facts.start_lsn);
        return Ok(Some(format!(
            "`{shown}` was taken before the backup began: its last checkpoint is of {theirs}, the backup's of {start}"
        )));
    }
    if control.checkpoint >= facts.stop_lsn {
        let (theirs, stop) = (control.checkpoint, facts.stop_lsn);
        return Ok(Some(format!(
            "`{shown}` was taken after the backup ended: its last checkpoint is at {theirs}, the end at {stop}"
        )));
    }
    let noted = history(facts);
    Ok(ended(data, &noted, files)?.then(|| {
        format!(
            "`{shown}` was taken after the backup ended: it has `pg_wal/{noted}`, which the server writes at the end"
        )
    }))
}

/// What the server notes in `pg_wal` when the backup ends.
fn history(facts: &PostgresFacts) -> String {
    let segment = SegmentName::holding(facts.timeline, facts.start_lsn, facts.segment_size);
    let offset = facts.start_lsn.0 % facts.segment_size.bytes();
    let offset = u32::try_from(offset).unwrap_or_default();
    WalFileName::BackupHistory { segment, offset }.to_string()
}

/// Whether the note of the end is there. Behind a link lies another `pg_wal`, most often the live one.
fn ended(data: &Path, noted: &str, files: &dyn ReadFiles) -> Result<bool, HostError> {
    let wal = data.join("pg_wal");
    let is_folder = files.facts(&wal)?.is_some_and(|facts| facts.kind == FileKind::Directory);
    Ok(is_folder && files.facts(&wal.join(noted))?.is_some())
}
