//! The tables, and how they are brought up to date.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior, params};

use super::IndexError;
use super::entry::{Entry, Mark};
use crate::base::RunId;
use crate::journal::durable;
use crate::journal::runs::Runs;

/// The version of the tables; another one is thrown away.
const VERSION: i64 = 2;

/// How long another process may be writing.
const PATIENCE: Duration = Duration::from_secs(5);

const TABLES: &str = "
CREATE TABLE runs (
  id TEXT PRIMARY KEY, journal_bytes INTEGER NOT NULL, journal_changed INTEGER NOT NULL, head TEXT,
  name TEXT NOT NULL, mode TEXT, environment TEXT NOT NULL, actor TEXT NOT NULL, origin TEXT,
  started_us INTEGER, ended_us INTEGER, outcome TEXT, exit_code INTEGER, figures TEXT, summary TEXT NOT NULL, subject TEXT
) WITHOUT ROWID;
CREATE INDEX runs_by_name ON runs (name, id);
CREATE TABLE steps (
  run TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE, step TEXT NOT NULL, status TEXT NOT NULL,
  attempts INTEGER NOT NULL, elapsed_ms INTEGER, bytes INTEGER, PRIMARY KEY (run, step)
) WITHOUT ROWID;";

/// An open index.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) connection: Connection,
}

impl Database {
    /// Opens the file, made when it is missing, with tables of this version.
    pub(super) fn at(file: &Path) -> Result<Self, IndexError> {
        // Made here, so that the group of the state folder shares it; where it cannot be made, SQLite says so.
        drop(durable::create_file(file));
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut database = Self { connection: Connection::open_with_flags(file, flags)? };
        database.connection.busy_timeout(PATIENCE)?;
        database.prepare()?;
        Ok(database)
    }

    /// An index that nobody keeps, begun with what a file has that can only be read.
    pub(super) fn in_memory(file: &Path) -> Result<Self, IndexError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_URI;
        let mut database = Self { connection: Connection::open_with_flags(":memory:", flags)? };
        database.prepare()?;
        // A head start, no more: what is not copied is read from the journals.
        drop(database.copy_from(file));
        Ok(database)
    }

    /// Tells whether the file exists and is no index of this version.
    pub(super) fn is_damaged(file: &Path) -> bool {
        let Ok(connection) = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY) else { return false };
        let sound = connection.query_row("PRAGMA quick_check", [], |row| row.get::<_, String>(0));
        let same = connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0));
        match (sound, same) {
            (Ok(verdict), Ok(version)) => verdict != "ok" || version != VERSION,
            (Err(error), _) | (_, Err(error)) => !matches!(
                error.sqlite_error_code(),
                Some(
                    rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::CannotOpen | rusqlite::ErrorCode::ReadOnly
                )
            ),
        }
    }

    fn copy_from(&mut self, file: &Path) -> rusqlite::Result<()> {
        let path: String = file.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
        self.connection.execute("ATTACH ?1 AS kept", params![format!("file:{path}?mode=ro")])?;
        let version: i64 = self.connection.query_row("PRAGMA kept.user_version", [], |row| row.get(0))?;
        if version != VERSION {
            return Ok(());
        }
        let copy = self.connection.transaction()?;
        copy.execute("INSERT INTO runs SELECT * FROM kept.runs", [])?;
        copy.execute("INSERT INTO steps SELECT * FROM kept.steps", [])?;
        copy.commit()
    }

    fn prepare(&mut self) -> Result<(), IndexError> {
        self.connection.pragma_update(None, "foreign_keys", true)?;
        // A power cut may cost the cache, never a wait for the disk.
        self.connection.pragma_update(None, "synchronous", "OFF")?;
        if self.version()? == VERSION {
            return Ok(());
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        match version {
            VERSION => {}
            0 => {
                transaction.execute_batch(TABLES)?;
                transaction.pragma_update(None, "user_version", VERSION)?;
            }
            _ => return Err(rusqlite::Error::InvalidQuery.into()),
        }
        Ok(transaction.commit()?)
    }

    fn version(&self) -> rusqlite::Result<i64> {
        self.connection.query_row("PRAGMA user_version", [], |row| row.get(0))
    }

    /// Reads the journals that changed since they were last read, and forgets the runs that are gone.
    pub(super) fn refresh(&mut self, runs: &Runs) -> Result<(), IndexError> {
        let known = self.known()?;
        let ids = runs.ids()?;
        let mut changed: Vec<(&RunId, Mark)> = Vec::new();
        for id in &ids {
            let mark = Mark::of(&runs.dir(id));
            if known.get(id.as_str()) != Some(&mark) {
                changed.push((id, mark));
            }
        }
        let there: BTreeSet<&str> = ids.iter().map(RunId::as_str).collect();
        let gone: Vec<&String> = known.keys().filter(|known| !there.contains(known.as_str())).collect();
        if changed.is_empty() && gone.is_empty() {
            return Ok(());
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for id in gone {
            transaction.execute("DELETE FROM runs WHERE id = ?1", params![id])?;
        }
        for (id, mark) in changed {
            put(&transaction, &Entry::read(&runs.dir(id), mark))?;
        }
        Ok(transaction.commit()?)
    }

    fn known(&self) -> rusqlite::Result<BTreeMap<String, Mark>> {
        let mut statement = self.connection.prepare("SELECT id, journal_bytes, journal_changed FROM runs")?;
        let rows = statement.query_map([], |row| {
            Ok((row.get(0)?, Mark { journal_bytes: row.get(1)?, journal_changed: row.get(2)? }))
        })?;
        rows.collect()
    }
}

fn put(transaction: &Transaction<'_>, entry: &Entry) -> Result<(), IndexError> {
    let summary = &entry.summary;
    let text = |value: serde_json::Result<String>| {
        value.map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
    };
    transaction.execute("DELETE FROM runs WHERE id = ?1", params![summary.id.as_str()])?;
    let mut insert = transaction
        .prepare_cached("INSERT INTO runs VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16)")?;
    insert.execute(params![
        summary.id.as_str(),
        entry.mark.journal_bytes,
        entry.mark.journal_changed,
        entry.head.map(|head| head.to_string()),
        summary.name,
        summary.mode.map(|mode| mode.as_str()),
        summary.environment,
        summary.actor,
        entry.origin.as_ref().map(RunId::as_str),
        summary.started_at.map(jiff::Timestamp::as_microsecond),
        entry.ended_at.map(jiff::Timestamp::as_microsecond),
        entry.outcome,
        entry.exit_code,
        entry.figures.as_ref().map(|figures| text(serde_json::to_string(figures))).transpose()?,
        text(serde_json::to_string(summary))?,
        entry.subject,
    ])?;
    let mut insert = transaction.prepare_cached("INSERT INTO steps VALUES (?1,?2,?3,?4,?5,?6)")?;
    for (step, fact) in &entry.steps {
        insert.execute(params![
            summary.id.as_str(),
            step.as_str(),
            fact.status,
            fact.attempts,
            fact.elapsed_ms.map(whole),
            fact.bytes.map(whole)
        ])?;
    }
    Ok(())
}

/// SQLite's numbers are signed.
fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
