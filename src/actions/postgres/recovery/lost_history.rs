//! The number of a timeline whose history file is lost stays its own: a server that is promoted takes the first number of which it
//! finds no history (`findNewestTimeLine` in `timeline.c` asks only whether there is one), and what it archives then would meet
//! the lost one's segments under the same names.

use std::path::Path;

use crate::action::{Files, HostError, ReadFiles};
use crate::actions::postgres::restore::context::RecoveryContext;
use crate::pgformat::{NUMBER_TAKEN, Timeline, is_number_taken};

/// No history file is longer.
const LONGEST: u64 = 4 << 20;

/// Lays something down in the staged `pg_wal` under the names of lost history files. The server hands it on to its standbys and
/// archives nothing of it; `wal push` takes it for what it is.
///
/// # Errors
/// Fails when it cannot be written.
pub(crate) fn keep_numbers(
    context: &RecoveryContext<'_>,
    (files, staged): (&dyn Files, &Path),
    taken: &[Timeline],
) -> Result<(), HostError> {
    let folder = staged.join("pg_wal");
    // In the middle of a swap a linked one is in its place already, with what an earlier attempt laid down there.
    if files.canonical(&folder).is_err() {
        return Ok(());
    }
    for timeline in taken {
        let path = folder.join(timeline.history_file());
        if files.facts(&path)?.is_none() {
            context.write(
                files,
                &path,
                &format!("{NUMBER_TAKEN} this keeps its number from being given to another one\n"),
            )?;
        }
    }
    Ok(())
}

/// Whether a file is the history of a timeline, and does not only keep the number of a lost one.
pub(crate) fn is_history(files: &dyn ReadFiles, path: &Path) -> bool {
    match files.read(path, LONGEST) {
        Ok(content) => !is_number_taken(&content),
        Err(_) => matches!(files.facts(path), Ok(Some(_))),
    }
}
