//! What one table holds.

use std::collections::BTreeMap;

use super::super::connect::Session;
use super::FactsDepth;
use crate::action::ActionError;
use crate::actions::postgres::cluster::name::literal;
use crate::catalog::TableFacts;

/// Ordinary tables with rows of their own. Those of an extension come with it and are no content.
const NAMES: &str = "SELECT format('%I.%I', n.nspname, c.relname), n.nspname, c.relname FROM pg_class c \
 JOIN pg_namespace n ON n.oid = c.relnamespace \
 WHERE c.relkind = 'r' AND c.relpersistence IN ('p', 'u') \
 AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
 AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') \
 ORDER BY 1";

/// Tables that a dump of the whole database locks, as far as the role may.
const LOCKABLE: &str = "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c \
 JOIN pg_namespace n ON n.oid = c.relnamespace \
 WHERE c.relkind IN ('r', 'p') AND c.relpersistence IN ('p', 'u') \
 AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND has_table_privilege(c.oid, 'SELECT') ORDER BY 1";

/// How many tables are locked by one statement.
const LOCKED_AT_ONCE: usize = 500;

/// How rows were hashed: stands before the hash, so that another way can follow one day.
const WAY: &str = "r1";

/// A table's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableName {
    /// As SQL wants it: `public."Order"`.
    pub(crate) quoted: String,
    /// The schema, bare.
    pub(crate) schema: String,
    /// The table in it, bare.
    pub(crate) name: String,
}

/// Gives the tables whose rows are content.
pub(super) async fn names(session: &mut Session) -> Result<Vec<TableName>, ActionError> {
    let mut names = Vec::new();
    for row in session.query(NAMES).await?.rows {
        if let [Some(quoted), Some(schema), Some(name)] = row.as_slice() {
            names.push(TableName { quoted: quoted.clone(), schema: schema.clone(), name: name.clone() });
        }
    }
    Ok(names)
}

/// Gives the tables that can be locked, as SQL wants their names.
pub(super) async fn lockable(session: &mut Session) -> Result<Vec<String>, ActionError> {
    Ok(session.query(LOCKABLE).await?.rows.into_iter().flatten().flatten().collect())
}

/// Keeps everybody from emptying, rewriting or dropping tables until the transaction ends; reading and writing go on.
pub(super) async fn lock(session: &mut Session, names: &[String]) -> Result<(), ActionError> {
    for some in names.chunks(LOCKED_AT_ONCE) {
        session.query(&format!("LOCK TABLE ONLY {} IN ACCESS SHARE MODE", some.join(", ONLY "))).await?;
    }
    Ok(())
}

/// Tells whether a table has the file that the transaction's snapshot knows: one that was emptied, rewritten or dropped
/// since has another one, or none.
pub(super) async fn is_untouched(session: &mut Session, table: &TableName) -> Result<bool, ActionError> {
    let statement = format!(
        "SELECT coalesce(bool_or(c.relfilenode = pg_relation_filenode(c.oid)), false) FROM pg_class c \
         JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = {} AND c.relname = {}",
        literal(&table.schema),
        literal(&table.name)
    );
    Ok(session.value(&statement).await? == "t")
}

/// Counts the rows of every materialized view that was filled.
pub(super) async fn materialized_views(session: &mut Session) -> Result<BTreeMap<String, u64>, ActionError> {
    let filled = NAMES.replace("c.relkind = 'r'", "c.relkind = 'm' AND c.relispopulated");
    let mut counted = BTreeMap::new();
    for row in session.query(&filled).await?.rows {
        let Some(name) = row.into_iter().next().flatten() else { continue };
        let rows = facts(session, &name, FactsDepth::Counts).await?.rows;
        counted.insert(name, rows);
    }
    Ok(counted)
}

/// Counts a table, and hashes its rows where that is asked for.
///
/// The hash is the sum of 128 bits per row, so that order does not matter and equal rows do not cancel each other.
pub(super) async fn facts(session: &mut Session, table: &str, depth: FactsDepth) -> Result<TableFacts, ActionError> {
    let found = session.query(&statement(table, depth)).await?;
    let rows = found.first().and_then(|rows| rows.parse().ok());
    let rows = rows.ok_or_else(|| ActionError::fatal(format!("the server told no count of `{table}`")))?;
    let hash = match (depth, found.at(0, 1), found.at(0, 2)) {
        (FactsDepth::Hashes, Some(low), Some(high)) => Some(format!("{WAY}:{low}:{high}")),
        (FactsDepth::Hashes | FactsDepth::Counts | FactsDepth::Off, _, _) => None,
    };
    Ok(TableFacts { rows, hash })
}

fn statement(table: &str, depth: FactsDepth) -> String {
    let sum = |seed: u8| {
        format!("coalesce(sum(hashtextextended((t.*)::text COLLATE \"C\", {seed})::numeric), 0) % 18446744073709551616")
    };
    match depth {
        FactsDepth::Off | FactsDepth::Counts => format!("SELECT count(*) FROM ONLY {table}"),
        FactsDepth::Hashes => format!("SELECT count(*), {}, {} FROM ONLY {table} AS t", sum(0), sum(1)),
    }
}
