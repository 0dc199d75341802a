//! What stands around a table while its rows are changed: its user's triggers, its sequences, what refers to it.

use super::shape::{Shape, of, texts};
use crate::action::ActionError;
use crate::actions::postgres::session::connect::Session;

/// Triggers of users on a table and its partitions, as statements that switch each off and on again as it was: each relation for
/// itself, since one may be off on a partition alone. Before PostgreSQL 15 what a partition has of its table's triggers counts as
/// internal, and depends on that one.
const TRIGGERS: &str = "SELECT format('ALTER TABLE ONLY %I.%I DISABLE TRIGGER %I', n.nspname, c.relname, t.tgname), \
 format('ALTER TABLE ONLY %I.%I ENABLE %sTRIGGER %I', n.nspname, c.relname, \
  CASE t.tgenabled WHEN 'A' THEN 'ALWAYS ' WHEN 'R' THEN 'REPLICA ' ELSE '' END, t.tgname) \
 FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
 WHERE t.tgenabled <> 'D' AND (NOT t.tgisinternal OR EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_trigger'::regclass \
   AND d.objid = t.oid AND d.refclassid = 'pg_trigger'::regclass) \
  AND NOT EXISTS (SELECT 1 FROM pg_constraint f WHERE f.oid = t.tgconstraint AND f.contype = 'f')) \
 AND (t.tgrelid = $ OR t.tgrelid IN (SELECT relid FROM pg_partition_tree($))) ORDER BY 1";

/// Sequences that number a column, owned by it or used by its default, as statements that only ever move one ahead.
const SEQUENCES: &str = "SELECT DISTINCT format('SELECT setval(%L, m) FROM (SELECT max(%I)::bigint AS m FROM %I.%I) x, %I.%I q \
  WHERE m > q.last_value OR m = q.last_value AND NOT q.is_called', \
  format('%I.%I', sn.nspname, s.relname), a.attname, tn.nspname, t.relname, sn.nspname, s.relname) \
 FROM (SELECT d.objid AS sequence, d.refobjsubid AS number FROM pg_depend d \
   WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = $ AND d.deptype IN ('a', 'i') \
  UNION SELECT d.refobjid, ad.adnum FROM pg_attrdef ad JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = ad.oid \
   WHERE ad.adrelid = $ AND d.refclassid = 'pg_class'::regclass) u \
 JOIN pg_class s ON s.oid = u.sequence AND s.relkind = 'S' JOIN pg_namespace sn ON sn.oid = s.relnamespace \
 JOIN pg_sequence k ON k.seqrelid = s.oid AND k.seqincrement > 0 \
 JOIN pg_class t ON t.oid = $ JOIN pg_namespace tn ON tn.oid = t.relnamespace \
 JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = u.number AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) \
 ORDER BY 1";

/// The tables that the foreign keys of a table or its partitions lead to, with what they are partitions of and what are theirs.
const PARENTS: &str = "SELECT DISTINCT p.oid FROM pg_constraint f CROSS JOIN LATERAL (SELECT f.confrelid \
  UNION SELECT relid FROM pg_partition_tree(f.confrelid) UNION SELECT relid FROM pg_partition_ancestors(f.confrelid)) p(oid) \
 WHERE f.contype = 'f' AND (f.conrelid = $ OR f.conrelid IN (SELECT relid FROM pg_partition_tree($)))";

/// A table and its partitions.
const FAMILY: &str = "SELECT $::oid UNION SELECT relid FROM pg_partition_tree($)";

/// A user's trigger: how it is switched off, and on again as it was.
pub(super) struct Trigger {
    pub(super) off: String,
    pub(super) on: String,
}

/// The triggers of users that would fire.
///
/// # Errors
/// Fails as the server says.
pub(super) async fn triggers(session: &mut Session, shape: &Shape) -> Result<Vec<Trigger>, ActionError> {
    let table = session.query(&of(TRIGGERS, shape.oid)).await?;
    let text = |row, column| table.at(row, column).unwrap_or_default().to_owned();
    Ok((0..table.rows.len()).map(|row| Trigger { off: text(row, 0), on: text(row, 1) }).collect())
}

/// Moves the sequences of a table ahead of its rows. Gives how many had to be moved.
///
/// # Errors
/// Fails as the server says.
pub(super) async fn sequences(session: &mut Session, shape: &Shape) -> Result<u64, ActionError> {
    let mut moved = 0;
    for statement in texts(session, &of(SEQUENCES, shape.oid)).await? {
        moved += session.query(&statement).await?.rows.len() as u64;
    }
    Ok(moved)
}

/// The numbers of a table and its partitions.
///
/// # Errors
/// Fails as the server says.
pub(super) async fn family(session: &mut Session, shape: &Shape) -> Result<Vec<u32>, ActionError> {
    let oids = texts(session, &of(FAMILY, shape.oid)).await?;
    Ok(oids.iter().filter_map(|oid| oid.parse().ok()).collect())
}

/// Orders tables so that what a foreign key leads to comes first. A circle stays in the order it was given in: its
/// keys must be deferrable, or the server refuses.
///
/// # Errors
/// Fails as the server says.
pub(super) async fn parents_first(session: &mut Session, tables: &[&Shape]) -> Result<Vec<usize>, ActionError> {
    let mut parents = Vec::new();
    for table in tables {
        let found = texts(session, &of(PARENTS, table.oid)).await?;
        let found: Vec<u32> = found.iter().filter_map(|oid| oid.parse().ok()).collect();
        parents.push(found);
    }
    let mut order: Vec<usize> = Vec::new();
    while order.len() < tables.len() {
        let left = |at: &usize| !order.contains(at);
        let waits = |at: usize| {
            (0..tables.len()).filter(left).any(|other| other != at && parents[at].contains(&tables[other].oid))
        };
        let all: Vec<usize> = (0..tables.len()).filter(left).collect();
        let next = all.iter().copied().find(|at| !waits(*at)).or(all.first().copied());
        order.extend(next);
    }
    Ok(order)
}
