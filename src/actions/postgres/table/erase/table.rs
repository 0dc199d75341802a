//! One table of the ledger: found, looked through, and rid of whom it must forget.
//!
//! Values are hashed here, not in the server: no statement, and so no log of the server, ever names somebody. Rows are
//! found and changed by their place (`ctid`), which holds while the table is locked against writers.

use std::collections::BTreeMap;

use super::brought::Brought;
use super::wanted::Group;
use crate::action::{ActionError, Treatment};
use crate::actions::postgres::cluster::name::{ident, literal};
use crate::actions::postgres::session::connect::Session;

/// Rows that are read at once.
const BATCH: usize = 5_000;
/// Rows that are changed by one statement.
const CHUNK: usize = 1_000;

/// A table that the ledger names, as it is there.
pub(super) struct Table {
    /// Its number.
    pub(super) oid: u32,
    /// Its name as SQL wants it.
    pub(super) full: String,
    /// The column, as SQL wants it.
    column: String,
    /// What is written into which column of the rows that stay.
    cleared: Vec<(String, Cleared)>,
}

/// What a table of the ledger is in a database.
pub(super) enum Found {
    /// No relation has that name.
    Absent,
    /// It is there: the table, or those parts of it whose rows were brought back; none where no row of it was.
    There(Vec<Table>),
}

/// What a column gets that tells nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cleared {
    Null,
    /// So many characters of a word, which is all that fits.
    Word(usize),
}

/// A row of somebody who must be forgotten.
pub(super) struct Hit {
    /// The table or partition that holds it.
    leaf: String,
    /// Its place in it.
    ctid: String,
    /// The line of the ledger.
    pub(super) line: u64,
}

/// A table's name with its schema.
pub(super) fn written(table: &str) -> String {
    if table.contains('.') { table.to_owned() } else { format!("public.{table}") }
}

impl Table {
    /// Finds the table and the columns of a group.
    ///
    /// # Errors
    /// Fails when it is no table, when a column is not there, or could not be emptied, and when the key of a line is not known.
    pub(super) async fn of(session: &mut Session, group: &Group, brought: &Brought) -> Result<Found, ActionError> {
        let name = literal(&written(&group.table));
        let oid = session.query(&format!("SELECT to_regclass({name})::oid")).await?;
        let Some(oid) = oid.first().and_then(|oid| oid.parse().ok()) else { return Ok(Found::Absent) };
        let mut tables = Vec::new();
        for part in brought.parts_of(oid) {
            group.keyed()?;
            tables.push(Self::at(session, group, part).await?);
        }
        Ok(Found::There(tables))
    }

    async fn at(session: &mut Session, group: &Group, oid: u32) -> Result<Self, ActionError> {
        let found = session
            .query(&format!(
                "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c \
                 JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {oid} AND c.relkind IN ('r', 'p')"
            ))
            .await?;
        let Some(full) = found.first() else {
            return Err(absent(group, &format!("no table `{}`", group.table)));
        };
        let (full, mut cleared) = (full.to_owned(), Vec::new());
        let columns = columns(session, oid).await?;
        let known = |name: &str| {
            columns
                .get(name)
                .copied()
                .ok_or_else(|| absent(group, &format!("no column `{name}` in table `{}`", group.table)))
        };
        known(&group.column)?;
        if let Treatment::Anonymise(others) = &group.treatment {
            for name in std::iter::once(&group.column).chain(others) {
                let with = known(name)?.ok_or_else(|| {
                    ActionError::fatal(format!(
                        "column `{name}` of table `{}` may not be NULL and holds no text",
                        group.table
                    ))
                    .help(
                        "it cannot be made to tell nothing: leave it out of the line, or have the line delete the rows",
                    )
                })?;
                cleared.push((ident(name), with));
            }
        }
        Ok(Self { oid, full, column: ident(&group.column), cleared })
    }

    /// Locks the table against writers until the transaction ends.
    ///
    /// # Errors
    /// Fails when somebody does not let go of it.
    pub(super) async fn lock(&self, session: &mut Session) -> Result<(), ActionError> {
        session.query(&format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", self.full)).await.map(drop)
    }

    /// Finds the rows of those who must be forgotten.
    ///
    /// # Errors
    /// Fails as the server says.
    pub(super) async fn hits(&self, session: &mut Session, group: &Group) -> Result<Vec<Hit>, ActionError> {
        let (column, full) = (&self.column, &self.full);
        session
            .query(&format!(
                "DECLARE runbook_forget NO SCROLL CURSOR FOR \
                 SELECT tableoid::regclass::text, ctid::text, {column}::text FROM {full} WHERE {column} IS NOT NULL"
            ))
            .await?;
        let mut hits = Vec::new();
        loop {
            let batch = session.query(&format!("FETCH {BATCH} FROM runbook_forget")).await?;
            let count = batch.rows.len();
            for row in batch.rows {
                let [Some(leaf), Some(ctid), Some(value)] = row.as_slice() else { continue };
                if let Some(line) = group.line(value) {
                    hits.push(Hit { leaf: leaf.clone(), ctid: ctid.clone(), line });
                }
            }
            if count < BATCH {
                break;
            }
        }
        session.query("CLOSE runbook_forget").await?;
        Ok(hits)
    }

    /// Deletes the rows, or makes them tell nothing.
    ///
    /// # Errors
    /// Fails as the server says, without what it tells of the rows.
    pub(super) async fn treat(&self, session: &mut Session, group: &Group, hits: &[Hit]) -> Result<(), ActionError> {
        let mut places: BTreeMap<(&str, Option<u64>), Vec<&str>> = BTreeMap::new();
        for hit in hits {
            // Rows that are deleted need not be told apart.
            let line = (!group.treatment.is_delete()).then_some(hit.line);
            places.entry((&hit.leaf, line)).or_default().push(&hit.ctid);
        }
        for ((leaf, line), ctids) in places {
            let subject = line.and_then(|line| group.subject(line)).unwrap_or_default();
            for chunk in ctids.chunks(CHUNK) {
                let ctids: Vec<String> = chunk.iter().map(|ctid| format!("\"{ctid}\"")).collect();
                let change = self.change(leaf, &group.treatment, subject);
                session.query(&format!("{change} WHERE ctid = ANY ('{{{}}}'::tid[])", ctids.join(","))).await?;
            }
        }
        Ok(())
    }

    fn change(&self, leaf: &str, treatment: &Treatment, subject: &str) -> String {
        match treatment {
            Treatment::Delete => format!("DELETE FROM ONLY {leaf}"),
            Treatment::Anonymise(_) => {
                let word = format!("erased-{}", subject.get(..16).unwrap_or(subject));
                let set = |(column, with): &(String, Cleared)| match with {
                    Cleared::Null => format!("{column} = NULL"),
                    Cleared::Word(most) => format!("{column} = {}", literal(word.get(..*most).unwrap_or(&word))),
                };
                let sets: Vec<String> = self.cleared.iter().map(set).collect();
                format!("UPDATE ONLY {leaf} SET {}", sets.join(", "))
            }
        }
    }
}

/// The columns, with what each can be emptied with.
async fn columns(session: &mut Session, oid: u32) -> Result<BTreeMap<String, Option<Cleared>>, ActionError> {
    let found = session
        .query(&format!(
            "SELECT a.attname, a.attnotnull OR t.typnotnull, t.typcategory = 'S', \
             information_schema._pg_char_max_length(information_schema._pg_truetypid(a, t), information_schema._pg_truetypmod(a, t)) \
             FROM pg_attribute a \
             JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped"
        ))
        .await?;
    let is = |cell: &Option<String>| cell.as_deref() == Some("t");
    let columns = found.rows.iter().filter_map(|row| {
        let [Some(name), needed, text, most] = row.as_slice() else { return None };
        let most = most.as_ref().and_then(|most| most.parse().ok()).unwrap_or(usize::MAX);
        let with = match (is(needed), is(text)) {
            (false, _) => Some(Cleared::Null),
            (true, true) => Some(Cleared::Word(most)),
            (true, false) => None,
        };
        Some((name.clone(), with))
    });
    Ok(columns.collect())
}

fn absent(group: &Group, what: &str) -> ActionError {
    let lines: Vec<String> = group.lines().iter().map(ToString::to_string).collect();
    let fact =
        format!("database `{}` has {what}, which the erasure ledger names in line {}", group.dbname, lines.join(", "));
    ActionError::fatal(fact).help("somebody who must be forgotten may stand elsewhere in this state of the database: find out where, and erase by hand; a column of that name, added empty, then lets the other lines be erased; nothing was erased")
}
