//! What stands around the tables that forget: foreign keys, and views that keep a copy.

use crate::action::ActionError;
use crate::actions::postgres::session::connect::Session;

/// Foreign keys that follow a deleted row, and what they do: those to the table, to its partitions, to what it is a partition of.
const FOLLOWING: &str = "SELECT format('%I on %s', conname, conrelid::regclass), CASE confdeltype WHEN 'c' THEN 'are deleted' \
 WHEN 'n' THEN 'get NULL' ELSE 'get their default' END FROM pg_constraint \
 WHERE contype = 'f' AND confdeltype IN ('c', 'n', 'd') AND conparentid = 0 AND confrelid IN (SELECT $::oid \
  UNION SELECT relid FROM pg_partition_tree($) UNION SELECT relid FROM pg_partition_ancestors($)) ORDER BY 1";

/// Foreign keys whose proof is switched off for a table or one of its partitions.
const UNPROVEN: &str = "SELECT DISTINCT format('%I on %s', c.conname, c.conrelid::regclass) FROM pg_trigger g \
 JOIN pg_constraint c ON c.oid = g.tgconstraint AND c.contype = 'f' \
 WHERE g.tgisinternal AND g.tgenabled NOT IN ('O', 'A') \
 AND g.tgrelid IN (SELECT $::oid UNION SELECT relid FROM pg_partition_tree($)) ORDER BY 1";

/// The tables that a table or its partitions refer to, with what they are partitions of and what are theirs.
const PARENTS: &str = "SELECT DISTINCT p.oid FROM pg_constraint f CROSS JOIN LATERAL (SELECT f.confrelid \
  UNION SELECT relid FROM pg_partition_tree(f.confrelid) UNION SELECT relid FROM pg_partition_ancestors(f.confrelid)) p(oid) \
 WHERE f.contype = 'f' AND (f.conrelid = $ OR f.conrelid IN (SELECT relid FROM pg_partition_tree($)))";

/// Materialized views that read some tables, directly or through other views; what others are made of comes first.
const COPIES: &str = "WITH RECURSIVE readers(oid, depth) AS (SELECT one, 0 FROM unnest('{$}'::oid[]) one UNION \
 SELECT r.ev_class, depth + 1 FROM readers JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = readers.oid \
 AND d.classid = 'pg_rewrite'::regclass JOIN pg_rewrite r ON r.oid = d.objid AND r.ev_class <> readers.oid \
 WHERE depth < 64) SELECT c.oid::regclass::text FROM readers JOIN pg_class c ON c.oid = readers.oid \
 WHERE c.relkind = 'm' AND c.relispopulated GROUP BY c.oid ORDER BY max(depth), c.oid";

/// Says which rows of other tables go with those of a table.
///
/// # Errors
/// Fails as the server says.
pub(super) async fn following(session: &mut Session, oid: u32) -> Result<Vec<String>, ActionError> {
    let found = session.query(&FOLLOWING.replace('$', &oid.to_string())).await?;
    let told = found.rows.iter().filter_map(|row| match row.as_slice() {
        [Some(key), Some(what)] => Some(format!("rows that refer to it {what}: foreign key {key}")),
        _ => None,
    });
    Ok(told.collect())
}

/// Refuses where the server would not notice a broken foreign key.
///
/// # Errors
/// Fails when foreign keys are switched off, for the session or for the table.
pub(super) async fn proven(session: &mut Session, oid: u32) -> Result<(), ActionError> {
    if session.value("SELECT current_setting('session_replication_role')").await? != "origin" {
        return Err(ActionError::fatal("the role's sessions do not prove foreign keys (`session_replication_role`)")
            .help("reset that setting for the role and the database; nothing was erased"));
    }
    let found = session.query(&UNPROVEN.replace('$', &oid.to_string())).await?;
    match found.first() {
        None => Ok(()),
        Some(key) => Err(ActionError::fatal(format!("the foreign key {key} is switched off"))
            .help("`ALTER TABLE … ENABLE TRIGGER ALL` proves it again; nothing was erased")),
    }
}

/// Orders tables so that what refers to others comes before them. A circle stays in the order it was given in.
///
/// # Errors
/// Fails as the server says.
pub(super) async fn children_first(session: &mut Session, tables: &[u32]) -> Result<Vec<usize>, ActionError> {
    let mut parents = Vec::new();
    for oid in tables {
        let found = session.query(&PARENTS.replace('$', &oid.to_string())).await?;
        let oids = found.rows.iter().filter_map(|row| row.first()?.as_deref()?.parse::<u32>().ok());
        parents.push(oids.collect::<Vec<u32>>());
    }
    let mut left: Vec<usize> = (0..tables.len()).collect();
    let mut order = Vec::new();
    while !left.is_empty() {
        let referred = |at: usize| left.iter().any(|other| *other != at && parents[*other].contains(&tables[at]));
        let next = left.iter().position(|at| !referred(*at)).unwrap_or(0);
        order.push(left.remove(next));
    }
    Ok(order)
}

/// Lists the materialized views that hold a copy of what some tables held.
///
/// # Errors
/// Fails as the server says.
pub(super) async fn copies(session: &mut Session, tables: &[u32]) -> Result<Vec<String>, ActionError> {
    let oids: Vec<String> = tables.iter().map(ToString::to_string).collect();
    let found = session.query(&COPIES.replace('$', &oids.join(","))).await?;
    Ok(found.rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
}
