//! The number of a timeline whose history file is lost stays its own: a server that is promoted takes the first number of which it
//! finds no history (`findNewestTimeLine` in `timeline.c` asks only whether there is one), and what it archives then would meet
//! the lost one's segments under the same names.

use std::path::Path;

use crate::action::{Files, HostError};
use crate::actions::postgres::restore::context::RecoveryContext;
use crate::pgformat::{Timeline, WalFileName};

/// How the content begins; to the server it is a comment.
const MARK: &str = "# the history file of this timeline is lost;";

/// Lays something down in the staged `pg_wal` under the names of lost history files. It is never archived.
///
/// # Errors
/// Fails when it cannot be written.
pub(crate) fn keep_numbers(
    context: &RecoveryContext<'_>,
    (files, staged): (&dyn Files, &Path),
    lost: &[Timeline],
) -> Result<(), HostError> {
    for timeline in lost {
        let path = staged.join("pg_wal").join(WalFileName::History(*timeline).to_string());
        if files.facts(&path)?.is_none() {
            context.write(files, &path, &format!("{MARK} this keeps its number from being given to another one\n"))?;
        }
    }
    Ok(())
}

/// Whether the content of a history file only keeps the number of a lost one.
pub(crate) fn only_keeps_a_number(content: &[u8]) -> bool {
    content.starts_with(MARK.as_bytes())
}
