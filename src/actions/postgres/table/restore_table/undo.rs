//! The script that takes back what was done to tables: SQL for `psql`, rows included.
//!
//! It refuses rows that somebody changed since. It lies in the folder of the attempt, with the run's journal, and is
//! durable before what it undoes is.

use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::apply::{LOCK_WITHIN, undo};
use super::around::Trigger;
use super::large_object::Objects;
use super::pair::{OP, Pair, WAS};
use super::shape::Reference;
use crate::action::{ActionError, Files, ReadFiles};
use crate::actions::postgres::session::connect::Session;
use crate::actions::postgres::session::copying;
use crate::base::Digest;
use crate::base::digest::Hasher;

/// Within as many lines the transaction is named.
const HEAD: usize = 20;

/// The script that takes changed rows back.
pub(super) const ROWS: &str = "undo-rows.sql";
/// The same for rows that came before the tables that were gone: it is run after the script that takes these back.
pub(super) const ROWS_BEFORE: &str = "undo-rows-before-tables.sql";
/// The script that takes recreated tables back.
pub(super) const TABLES: &str = "undo-tables.sql";

/// How the line of a script begins that names the transaction it takes back.
const TRANSACTION: &str = "-- transaction ";

/// What takes an application back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TableUndo {
    /// The database of the inventory.
    pub database: String,
    /// The database within it.
    pub dbname: String,
    /// The scripts, in the order in which they are run.
    pub scripts: Vec<UndoScript>,
}

/// One script: SQL for `psql`, which stops when a row was changed since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UndoScript {
    /// Where it lies.
    pub path: PathBuf,
    /// SHA-256 of its text.
    #[schemars(with = "String")]
    pub sha256: Digest,
}

/// A script that is to be written.
pub(super) struct Script {
    files: Arc<dyn Files>,
    path: PathBuf,
}

impl Script {
    /// One in the folder of an attempt.
    pub(super) fn new(files: Arc<dyn Files>, folder: &Path, name: &str) -> Self {
        Self { files, path: folder.join(name) }
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes it with the rows that an application is about to change; durable when this returns.
    ///
    /// # Errors
    /// Fails when the file cannot be written or the server does not give the rows.
    pub(super) async fn write(
        &self,
        (pairs, objects): (&[Pair], &Objects),
        (order, triggers): (&[usize], &[Trigger]),
        live: &mut Session,
    ) -> Result<(), ActionError> {
        let mut to = self.begin()?;
        let transaction = live.value("SELECT pg_current_xact_id()").await?;
        line(&mut to, &format!("{TRANSACTION}{transaction}"))?;
        for (number, pair) in pairs.iter().enumerate() {
            self.rows(&mut to, (pair, number), live).await?;
        }
        let mut references = Vec::new();
        for pair in pairs {
            references.push(pair.live.references(live).await?);
        }
        let mut all: Vec<String> = objects.guard().into_iter().collect();
        all.extend(statements((pairs, &references), order, triggers));
        all.extend(objects.removal());
        self.end(to, &all)
    }

    /// Writes statements alone.
    ///
    /// # Errors
    /// Fails when the file cannot be written.
    pub(super) fn write_statements(&self, statements: &[String]) -> Result<(), ActionError> {
        self.end(self.begin()?, statements)
    }

    fn begin(&self) -> Result<BufWriter<File>, ActionError> {
        if matches!(self.files.facts(&self.path), Ok(Some(_))) {
            self.files.remove_file(&self.path).map_err(|error| unwritten().because(&error))?;
        }
        let file = self.files.create(&self.path, 0o600).map_err(|error| unwritten().because(&error))?;
        let mut to = BufWriter::new(file);
        line(&mut to, "-- Takes back what runbook did to these tables. Run it with: psql -X -f FILE")?;
        line(&mut to, "-- Rows that were changed since make it stop, and then nothing is changed.")?;
        line(&mut to, "\\set ON_ERROR_STOP on")?;
        line(&mut to, "BEGIN;")?;
        line(&mut to, &format!("{};", copying::SAME_TEXT))?;
        line(&mut to, &format!("SET lock_timeout = '{LOCK_WITHIN}'; SET statement_timeout = 0;"))?;
        Ok(to)
    }

    fn end(&self, mut to: BufWriter<File>, statements: &[String]) -> Result<(), ActionError> {
        for statement in statements {
            line(&mut to, &format!("{statement};"))?;
        }
        line(&mut to, "COMMIT;")?;
        let file = to.into_inner().map_err(|error| unwritten().because(error.error()))?;
        file.sync_all().map_err(|error| unwritten().because(&error))?;
        match self.path.parent() {
            Some(folder) => self.files.sync(folder).map_err(|error| unwritten().because(&error)),
            None => Ok(()),
        }
    }

    /// Puts the rows of one table into the script.
    async fn rows(
        &self,
        to: &mut BufWriter<File>,
        (pair, number): (&Pair, usize),
        live: &mut Session,
    ) -> Result<(), ActionError> {
        let columns = format!("{OP}, {WAS}, {}", pair.list(""));
        line(to, &format!("{};", pair.difference(&undo(number), "")))?;
        line(to, &format!("COPY {} ({columns}) FROM stdin;", undo(number)))?;
        let give = format!("COPY (SELECT {columns} FROM {}) TO STDOUT", undo(number));
        copying::write((live, &give), to, |error| unwritten().because(&error)).await?;
        line(to, "\\.")
    }

    /// The script as it was written.
    ///
    /// # Errors
    /// Fails when it cannot be read.
    pub(super) fn finish(self) -> Result<UndoScript, ActionError> {
        Ok(UndoScript { sha256: digest(self.files.as_ref(), &self.path)?, path: self.path })
    }
}

/// Finds the scripts that earlier attempts of the same step left, the last one's first, those of an attempt in the order of `names`:
/// one that was cut off after its commit told nobody, and one may have brought tables back before it failed.
pub(super) fn earlier(files: &dyn ReadFiles, attempt_dir: &Path, names: &[&str]) -> Vec<UndoScript> {
    let Some(step) = attempt_dir.parent() else { return Vec::new() };
    let mut attempts = files.list(step).unwrap_or_default();
    let number = |name: &std::ffi::OsStr| name.to_string_lossy().parse::<u32>().ok();
    attempts.retain(|entry| {
        Some(entry.name.as_os_str()) != attempt_dir.file_name() && number(entry.name.as_os_str()).is_some()
    });
    attempts.sort_by_key(|entry| std::cmp::Reverse(number(entry.name.as_os_str())));
    let paths = attempts.iter().flat_map(|attempt| names.iter().map(|name| step.join(&attempt.name).join(name)));
    paths.filter_map(|path| Some(UndoScript { sha256: digest(files, &path).ok()?, path })).collect()
}

/// Whether the script of an earlier attempt may have something to take back: its transaction was not rolled back. Where that
/// is not known it counts, since it refuses by itself where the rows are not those that it wrote.
pub(super) async fn counts(files: &dyn ReadFiles, path: &Path, live: &mut Session) -> bool {
    let Ok(file) = files.open(path) else { return true };
    let mut head = BufReader::new(file).lines().take(HEAD).map_while(Result::ok);
    let Some(xid) = head.find_map(|line| line.strip_prefix(TRANSACTION)?.parse::<u64>().ok()) else { return true };
    // A number that is still to come is of another server, or of this one before it was recovered.
    let asked = format!(
        "SELECT (CASE WHEN '{xid}'::xid8 < pg_snapshot_xmax(pg_current_snapshot()) THEN pg_xact_status('{xid}') END = 'aborted') IS TRUE"
    );
    live.value(&asked).await.map_or(true, |aborted| aborted != "t")
}

/// The statements between the rows and the commit.
fn statements((pairs, references): (&[Pair], &[Vec<Reference>]), order: &[usize], triggers: &[Trigger]) -> Vec<String> {
    let mut all = Vec::new();
    if !pairs.is_empty() {
        let names: Vec<&str> = pairs.iter().map(|pair| pair.live.name.as_str()).collect();
        all.push(format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", names.join(", ")));
    }
    for (number, pair) in pairs.iter().enumerate() {
        all.push(refusing(&pair.moved(&undo(number)), &format!("rows of {} were changed since", pair.live.name)));
    }
    all.extend(triggers.iter().map(|trigger| trigger.off.clone()));
    all.push("SET CONSTRAINTS ALL DEFERRED".to_owned());
    for &number in order.iter().rev() {
        for reference in references[number].iter().filter(|reference| reference.on_delete) {
            let hit = pairs[number].followed(reference, &undo(number));
            all.push(refusing(&hit, &format!("rows of {} refer to rows that would be deleted", reference.child)));
        }
        all.push(pairs[number].delete(&undo(number)));
    }
    for &number in order {
        for reference in &references[number] {
            let what = format!("rows of {} would be changed with rows that they refer to", reference.child);
            all.extend(pairs[number].spread(reference, &undo(number)).map(|hit| refusing(&hit, &what)));
        }
        all.extend(pairs[number].update(&undo(number)));
        all.push(pairs[number].insert(&undo(number)));
    }
    all.push("SET CONSTRAINTS ALL IMMEDIATE".to_owned());
    all.extend(triggers.iter().map(|trigger| trigger.on.clone()));
    all
}

/// A statement that stops the script unless `count` gives 0.
pub(super) fn refusing(count: &str, what: &str) -> String {
    let what = what.replace('\'', "''").replace('%', "%%");
    format!(
        "DO $runbook$ DECLARE n bigint; BEGIN EXECUTE $count${count}$count$ INTO n; \
         IF n > 0 THEN RAISE EXCEPTION '% {what}', n; END IF; END $runbook$"
    )
}

/// SHA-256 of a script.
///
/// # Errors
/// Fails when it cannot be read.
pub(super) fn digest(files: &dyn ReadFiles, path: &Path) -> Result<Digest, ActionError> {
    let gone = || ActionError::fatal(format!("the undo script `{}` cannot be read", path.display()));
    let mut file = files.open(path).map_err(|error| gone().because(&error))?;
    let mut hasher = Hasher::default();
    std::io::copy(&mut file, &mut hasher).map_err(|error| gone().because(&error))?;
    Ok(hasher.finish())
}

fn line(to: &mut BufWriter<File>, text: &str) -> Result<(), ActionError> {
    writeln!(to, "{text}").map_err(|error| unwritten().because(&error))
}

fn unwritten() -> ActionError {
    ActionError::retryable("the script that would undo this cannot be written, so nothing was changed")
}
