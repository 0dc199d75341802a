//! Carries the ledger out in one database, in one transaction.

use std::collections::BTreeMap;

use super::around;
use super::brought::Brought;
use super::table::{Found, Hit, Table, written};
use super::wanted::Group;
use super::{EraseOutput, ErasedLine};
use crate::action::{ActionError, Treatment};
use crate::actions::postgres::cluster::name::literal;
use crate::actions::postgres::session::commit::Commit;
use crate::actions::postgres::session::connect::Session;
use crate::actions::postgres::session::copying;
use crate::event::ErrorClass;

/// Nothing cuts the transaction short, and nobody is waited for long.
const SETTINGS: &str =
    "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET lock_timeout = '30s'";

/// An error's detail shows the values of a row: the server's log leaves it out, where the role may say so.
const TERSE: &str = "SELECT set_config('log_error_verbosity', 'terse', true) \
                     WHERE (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)";

/// What was done in one database.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Each line with its rows.
    pub(super) lines: Vec<ErasedLine>,
    /// What else is worth knowing.
    pub(super) notes: Vec<String>,
    /// Tables that are not there, each with the lines that name it.
    pub(super) absent: Vec<String>,
    /// Rows that were deleted from the named tables, from all where none is named; those included that foreign keys let
    /// follow.
    pub(super) removed: u64,
    /// Where each line stands in `lines`.
    places: BTreeMap<u64, usize>,
}

impl Done {
    /// Adds lines; one that several parts of a table hold is one.
    fn count(&mut self, lines: Vec<ErasedLine>) {
        for line in lines {
            match self.places.get(&line.line).and_then(|place| self.lines.get_mut(*place)) {
                Some(known) => {
                    known.rows += line.rows;
                    known.back += line.back;
                }
                None => {
                    self.places.insert(line.line, self.lines.len());
                    self.lines.push(line);
                }
            }
        }
    }

    /// Keeps what is worth knowing, once.
    fn know(&mut self, notes: impl Iterator<Item = String>) {
        for note in notes {
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
    }
}

/// Counts the rows of those who must be forgotten; changes nothing.
///
/// # Errors
/// Fails when a column of the ledger is not there.
pub(super) async fn count(session: &mut Session, groups: &[Group], named: &[String]) -> Result<Done, ActionError> {
    session.query(copying::SAME_TEXT).await?;
    session.query("SET statement_timeout = 0; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let mut done = Done::default();
    let brought = Brought::of(session, named).await?;
    for group in groups {
        let Found::There(tables) = Table::of(session, group, &brought).await? else {
            done.absent.push(absent(group));
            continue;
        };
        for table in tables {
            let hits = table.hits(session, group).await?;
            done.count(counted(group, &hits));
            if group.treatment.is_delete() && hits.iter().any(|hit| !group.is_back(hit.line)) {
                let following = around::following(session, table.oid).await?;
                done.know(following.into_iter().map(|what| format!("{}: {what}", table.full)));
            }
        }
    }
    session.query("ROLLBACK").await?;
    Ok(done)
}

/// Erases, proves that nobody of the ledger is left, and commits.
///
/// # Errors
/// Fails without having changed anything; of unknown outcome only when the connection breaks during the commit.
pub(super) async fn erase(
    session: &mut Session,
    groups: &[Group],
    tables: &[String],
    commit: &Commit,
) -> Result<Done, ActionError> {
    session.query(copying::SAME_TEXT).await?;
    session.query(SETTINGS).await?;
    session.query("BEGIN").await?;
    session.query(TERSE).await?;
    let done = changed(session, groups, tables).await.map_err(discreet)?;
    let committed = commit.during(session.commit("the erasure was")).await;
    committed.map_err(|error| if error.info().class == ErrorClass::Unknown { error } else { discreet(error) })?;
    Ok(done)
}

async fn changed(session: &mut Session, groups: &[Group], named: &[String]) -> Result<Done, ActionError> {
    let (mut tables, mut there, mut touched, mut done) = (Vec::new(), Vec::new(), Vec::new(), Done::default());
    let brought = Brought::of(session, named).await?;
    for group in groups {
        let Found::There(parts) = Table::of(session, group, &brought).await? else {
            done.count(counted(group, &[]));
            done.absent.push(absent(group));
            continue;
        };
        for table in parts {
            around::proven(session, table.oid).await?;
            tables.push(table);
            there.push(group);
        }
    }
    let groups = there;
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    let mut order = around::children_first(session, &oids).await?;
    // Looked through before it is locked: nobody waits for a table that holds nobody who must go.
    for (number, (table, group)) in tables.iter().zip(&groups).enumerate() {
        let hits = table.hits(session, group).await?;
        if hits.iter().all(|hit| group.is_back(hit.line)) {
            done.count(counted(group, &hits));
            order.retain(|at| *at != number);
        }
    }
    for at in &order {
        tables[*at].lock(session).await?;
    }
    let before = deleted(session, named).await?;
    session.query("SET CONSTRAINTS ALL DEFERRED").await?;
    // A row that one line deletes and another one keeps is deleted.
    let (deleting, keeping): (Vec<usize>, Vec<usize>) =
        order.into_iter().partition(|at| groups[*at].treatment.is_delete());
    for at in deleting.into_iter().chain(keeping) {
        let (group, table) = (groups[at], &tables[at]);
        let hits = table.hits(session, group).await?;
        done.count(counted(group, &hits));
        let hits: Vec<Hit> = hits.into_iter().filter(|hit| !group.is_back(hit.line)).collect();
        if hits.is_empty() {
            continue;
        }
        if group.treatment.is_delete() {
            let following = around::following(session, table.oid).await?;
            done.know(following.into_iter().map(|what| format!("{}: {what}", table.full)));
        }
        table.treat(session, group, &hits).await?;
        touched.push(at);
    }
    session.query("SET CONSTRAINTS ALL IMMEDIATE").await?;
    for at in &touched {
        gone(session, &tables[*at], groups[*at]).await?;
    }
    done.removed = deleted(session, named).await?.saturating_sub(before);
    let oids: Vec<u32> = touched.iter().map(|at| oids[*at]).collect();
    for view in around::copies(session, &oids).await? {
        session.query(&format!("REFRESH MATERIALIZED VIEW {view}")).await?;
        done.notes.push(format!("materialized view {view} was made anew"));
    }
    done.lines.sort_by_key(|line| line.line);
    Ok(done)
}

/// How many rows this transaction has deleted so far from these tables, or from all, as the server counts. Those of a
/// partitioned table lie in its partitions.
async fn deleted(session: &mut Session, tables: &[String]) -> Result<u64, ActionError> {
    let all = "SELECT coalesce(sum(n_tup_del), 0)::bigint FROM pg_stat_xact_user_tables";
    let numbers: Vec<String> =
        tables.iter().map(|table| format!("to_regclass({})", literal(&written(table)))).collect();
    let counted = match numbers.is_empty() {
        true => session.value(all).await?,
        false => {
            let named = format!(
                "WITH RECURSIVE named(oid) AS (SELECT unnest(ARRAY[{}])::oid \
                 UNION SELECT i.inhrelid FROM pg_inherits i JOIN named n ON i.inhparent = n.oid)",
                numbers.join(", ")
            );
            session.value(&format!("{named} {all} WHERE relid IN (SELECT oid FROM named)")).await?
        }
    };
    Ok(counted.parse().unwrap_or_default())
}

/// Proves that nobody of a group is left: a trigger or a rule may have stood in the way.
async fn gone(session: &mut Session, table: &Table, group: &Group) -> Result<(), ActionError> {
    let left = table.hits(session, group).await?.iter().filter(|hit| !group.is_back(hit.line)).count();
    if left == 0 {
        return Ok(());
    }
    Err(ActionError::fatal(format!("{left} rows of {} are still there after they were erased", table.full))
        .help("a trigger or a rule stands in the way; nothing was erased"))
}

/// Says that a table of the ledger is not there: it was made later than this state of the database, or had another name.
fn absent(group: &Group) -> String {
    let lines: Vec<String> = group.lines().iter().map(ToString::to_string).collect();
    let (dbname, table) = (&group.dbname, &group.table);
    let lines = lines.join(", ");
    format!("line {lines}: database `{dbname}` has no table `{table}` in this state, so none of its rows is there")
}

/// How many rows each line of a group is about.
fn counted(group: &Group, hits: &[Hit]) -> Vec<ErasedLine> {
    let mut rows: BTreeMap<u64, u64> = group.lines().into_iter().map(|line| (line, 0)).collect();
    for hit in hits {
        *rows.entry(hit.line).or_default() += 1;
    }
    let told = |(line, rows)| ErasedLine {
        line,
        dbname: group.dbname.clone(),
        table: group.table.clone(),
        column: group.column.clone(),
        kept: match group.treatment {
            Treatment::Delete => false,
            Treatment::Anonymise(_) => true,
        },
        rows: if group.is_back(line) { 0 } else { rows },
        back: if group.is_back(line) { rows } else { 0 },
    };
    rows.into_iter().map(told).collect()
}

impl EraseOutput {
    /// Adds what was done in one database.
    pub(super) fn add(&mut self, lines: Vec<ErasedLine>) {
        for line in &lines {
            self.back += line.back;
            let sum = if line.kept { &mut self.anonymised } else { &mut self.deleted };
            *sum += line.rows;
        }
        self.lines.extend(lines);
    }
}

/// The server's word without its detail, which shows the values of a row.
fn discreet(error: ActionError) -> ActionError {
    let mut info = error.into_info();
    for cause in &mut info.causes {
        if let Some(at) = cause.find("\nDETAIL") {
            cause.truncate(at);
        }
    }
    if info.help.is_none() {
        info.help = Some("nothing was erased; where other rows refer to those that go, add a line for their table as well, keep the rows with `--anonymise`, or let the foreign key follow (`ON DELETE …`)".to_owned());
    }
    ActionError::from(info)
}
