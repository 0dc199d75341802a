//! What recoveries leave beside a data directory: the data that was there before, and what tries that failed have staged.
//!
//! Which of it may go is not told here: that depends on what became of the runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::dismantled::bytes_while;
use super::marker::{self, Marker};
use crate::action::{ActionError, DatabaseRef, FileKind, ReadFiles};
use crate::actions::postgres::cluster::layout::{Cluster, MARKER};
use crate::actions::postgres::cluster::placement::{INSIDE, Placement};
use crate::base::{RunId, clock};
use crate::language::inventory::Inventory;

/// What stands between the name of a folder and what is left beside it.
const BESIDE: &str = ".runbook-";

/// How long all of them together are measured: who asks how a database stands does not wait for millions of files.
const MEASURED_WITHIN: Duration = Duration::from_secs(2);

/// A folder that a run has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Where it lies.
    pub path: PathBuf,
    /// The run that left it.
    pub run: RunId,
    /// What it is.
    pub what: Left,
    /// How much it holds.
    pub size_bytes: u64,
    /// Whether it holds more than that, perhaps: it was not measured to its end.
    pub at_least: bool,
}

/// What a run has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// What was in the data directory, or in a tablespace, before the run moved it aside.
    Old,
    /// The same, and it is itself a recovery that did not come to its end.
    OldTry,
    /// What the run had recovered and opened, put aside by a person: what was committed since may lie only there.
    Abandoned,
    /// What the run had staged, fetched or put aside for itself.
    Own,
}

/// Finds what runs have left beside the data directory of a database, its tablespaces and its WAL.
///
/// # Errors
/// Fails when the inventory makes nothing of the database, and when its folders cannot be looked at.
pub fn leftovers(database: &str, inventory: &Inventory, files: &dyn ReadFiles) -> Result<Vec<Leftover>, ActionError> {
    measured(database, inventory, files, MEASURED_WITHIN)
}

fn measured(
    database: &str,
    inventory: &Inventory,
    files: &dyn ReadFiles,
    within: Duration,
) -> Result<Vec<Leftover>, ActionError> {
    let begun = clock::monotonic();
    let cluster = Cluster::of(&DatabaseRef(database.to_owned()), inventory, Path::new("/"))?;
    if cluster.is_contained() || cluster.entry.elsewhere().is_some() {
        return Ok(Vec::new());
    }
    let unseen = |error| ActionError::retryable("the folders of the server cannot be looked at").because(&error);
    // No run has moved anything aside for this one.
    let nobody = RunId::generate(clock::now());
    let links = marker::links(files, &cluster.pgdata, &nobody).map_err(unseen)?;
    let places = std::iter::once(cluster.pgdata.clone()).chain(links.into_iter().map(|(_, place)| place));
    let mut found = Vec::new();
    for live in places {
        for (path, word, run) in beside(&live, files).map_err(unseen)? {
            let what = match word.as_str() {
                "old" | "abandoned" if is_try(&path, files) => Left::OldTry,
                "abandoned" => Left::Abandoned,
                "old" => Left::Old,
                "staged" | "tried" | "ahead" => Left::Own,
                _ => continue,
            };
            let (bytes, is_all) = bytes_while(vec![path.clone()], files, || begun.elapsed() < within);
            let size_bytes = bytes.into_iter().map(|(_, bytes)| bytes).sum();
            found.push(Leftover { path, run, what, size_bytes, at_least: !is_all });
        }
    }
    found.sort_by(|a, b| (&a.run, &a.path).cmp(&(&b.run, &b.path)));
    found.dedup();
    Ok(found)
}

/// Whether a folder that was moved aside is a recovery that never opened. One that makes no sense counts as such.
fn is_try(path: &Path, files: &dyn ReadFiles) -> bool {
    match Marker::read(files, path) {
        Ok(marker) => marker.is_some_and(|marker| !marker.has_opened()),
        Err(_) => true,
    }
}

/// Whether a data directory is in the middle of a recovery, or holds no data at all.
#[must_use]
pub fn is_unfinished(pgdata: &Path, files: &dyn ReadFiles) -> bool {
    let is_there = |name: &str| matches!(files.facts(&pgdata.join(name)), Ok(Some(_)));
    is_there(MARKER) || !is_there("PG_VERSION")
}

/// The folders that runs have made for a live one, each with its word and its run.
fn beside(live: &Path, files: &dyn ReadFiles) -> Result<Vec<(PathBuf, String, RunId)>, crate::action::HostError> {
    let own = live.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (folder, begin) = match Placement::of(files, live) {
        Placement::Beside => (live.parent().unwrap_or(live), format!("{own}{BESIDE}")),
        Placement::Inside => (live, INSIDE.to_owned()),
    };
    if files.facts(folder)?.is_none() {
        return Ok(Vec::new());
    }
    let entries = files.list(folder)?.into_iter().filter(|entry| entry.facts.kind == FileKind::Directory);
    let named = entries.filter_map(|entry| {
        let name = entry.name.to_string_lossy().into_owned();
        let (word, run) = word_and_run(name.strip_prefix(&begin)?)?;
        Some((folder.join(&entry.name), word.to_owned(), run))
    });
    Ok(named.collect())
}

/// Reads `WORD-RUN`, with whatever follows: increments are put together in several folders.
fn word_and_run(text: &str) -> Option<(&str, RunId)> {
    let (word, rest) = text.split_once('-')?;
    let run = rest.get(..RUN_ID).filter(|run| run.bytes().take(8).all(|byte| byte.is_ascii_digit()))?;
    Some((word, run.parse().ok()?))
}

/// How long the id of a run is: `20260128-143002-3fa9c1`.
const RUN_ID: usize = 22;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{measured, word_and_run};
    use crate::host::{HostSettings, LocalHost};
    use crate::language::inventory::{Database, Inventory};

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test's own file")]
    fn a_folder_that_takes_long_to_measure_is_told_all_the_same() {
        let dir = tempfile::tempdir().expect("a folder");
        let (pgdata, left) = (dir.path().join("data"), dir.path().join("data.runbook-old-20260128-143002-3fa9c1"));
        for folder in [&pgdata, &left] {
            std::fs::create_dir(folder).expect("a folder");
            std::fs::write(folder.join("PG_VERSION"), "15\n").expect("a file");
        }
        let entry = Database { pgdata, ..Database::default() };
        let inventory = Inventory { databases: [("main".to_owned(), entry)].into(), ..Inventory::default() };
        let host = LocalHost::reader(&HostSettings::new("runbook".into(), "/usr/bin:/bin"));
        let found =
            |within| measured("main", &inventory, host.read_files().as_ref(), within).expect("it can be looked at");
        let told = |within| found(within).iter().map(|one| (one.size_bytes, one.at_least)).collect::<Vec<_>>();
        assert_eq!(told(Duration::from_secs(60)), [(3, false)]);
        assert_eq!(told(Duration::ZERO), [(0, true)]);
    }

    #[test]
    fn what_a_run_has_left_is_known_by_its_name() {
        let of = |text: &str| word_and_run(text).map(|(word, run)| (word.to_owned(), run.to_string()));
        let run = "20260128-143002-3fa9c1";
        assert_eq!(of(&format!("old-{run}")), Some(("old".to_owned(), run.to_owned())));
        assert_eq!(of(&format!("staged-{run}.part-1")), Some(("staged".to_owned(), run.to_owned())));
        assert_eq!(of("old-copy"), None);
        assert_eq!(of("given"), None);
    }
}
