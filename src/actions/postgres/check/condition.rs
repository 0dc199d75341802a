//! What must hold in each database beside keys and indexes: sequences, extensions, collations, tables, freshness.

use super::params::Newest;
use crate::action::ActionError;
use crate::actions::postgres::cluster::name::{ident, literal};
use crate::actions::postgres::session::connect::Session;
use crate::actions::postgres::session::integrity::Proof;
use crate::pgformat::Change;

/// Sequences that number a column, owned by it or given by its default as they are, with what tells the number they give next
/// and the column's highest. A default that a table has from its parent is looked at there, with the rows of both.
const SEQUENCES: &str = "
SELECT s.oid::regclass::text, format('%s.%I', t.oid::regclass, a.attname),
  format('SELECT (CASE WHEN q.is_called THEN q.last_value + %1$s ELSE q.last_value END)::text,
    (SELECT (CASE WHEN %1$s > 0 THEN max(x.%2$I) ELSE min(x.%2$I) END)::text FROM %3$s x) FROM %4$s q',
    p.seqincrement, a.attname, t.oid::regclass, s.oid::regclass), p.seqincrement > 0
FROM (SELECT d.objid AS sequence, d.refobjid AS relation, d.refobjsubid AS number FROM pg_depend d
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0
  UNION SELECT d.refobjid, ad.adrelid, ad.adnum FROM pg_attrdef ad
    JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = ad.oid AND d.refclassid = 'pg_class'::regclass
    WHERE pg_get_expr(ad.adbin, ad.adrelid) ~ '^\\(?nextval\\(''[^()]+''::regclass\\)\\)?(::(smallint|integer|bigint))?$'
    AND NOT EXISTS (SELECT FROM pg_inherits i JOIN pg_attrdef pa ON pa.adrelid = i.inhparent
      JOIN pg_depend pd ON pd.classid = 'pg_attrdef'::regclass AND pd.objid = pa.oid AND pd.refobjid = d.refobjid
      WHERE i.inhrelid = ad.adrelid)) u
JOIN pg_class s ON s.oid = u.sequence AND s.relkind = 'S'
JOIN pg_sequence p ON p.seqrelid = s.oid
JOIN pg_class t ON t.oid = u.relation AND t.relkind IN ('r', 'p')
JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = u.number
WHERE NOT p.seqcycle AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) ORDER BY 1, 2";

/// A version is known that can be installed here or be updated from: after `pg_upgrade` old ones live on.
const EXTENSIONS: &str = "
SELECT e.extname, e.extversion, a.name IS NOT NULL,
  EXISTS (SELECT FROM pg_available_extension_versions v WHERE v.name = e.extname AND v.version = e.extversion)
  OR CASE WHEN a.name IS NOT NULL THEN EXISTS (SELECT FROM pg_extension_update_paths(e.extname) u
    WHERE u.source = e.extversion AND u.path IS NOT NULL) END
FROM pg_extension e LEFT JOIN pg_available_extensions a ON a.name = e.extname ORDER BY 1";

/// The version that text was sorted by, and the one it is sorted by here. The first place is the database itself.
const COLLATIONS: &str = "
SELECT format('collation %I', c.collname), c.collversion, pg_collation_actual_version(c.oid) FROM pg_collation c
WHERE c.collversion IS NOT NULL ORDER BY 1";
const OF_DATABASE: &str = "
SELECT format('database %I', datname), datcollversion, pg_database_collation_actual_version(oid) FROM pg_database
WHERE datname = current_database() AND datcollversion IS NOT NULL";

/// Finds sequences that would give a number their column has.
pub(super) async fn sequences(session: &mut Session) -> Result<Proof, ActionError> {
    let mut proof = Proof::default();
    for row in session.query(SEQUENCES).await?.rows {
        let [Some(sequence), Some(column), Some(sql), upward] = row.as_slice() else { continue };
        proof.looked_at += 1;
        let found = session.query(sql).await?;
        let number = |at| found.at(0, at).and_then(|text| text.parse::<i128>().ok());
        let (Some(next), Some(most)) = (number(0), number(1)) else { continue };
        let ahead = if upward.as_deref() == Some("t") { next > most } else { next < most };
        if !ahead {
            proof.faults.push(format!("sequence `{sequence}` gives {next} next, but `{column}` is at {most} already"));
        }
    }
    Ok(proof)
}

/// Finds extensions whose files this machine lacks, and those of a version it does not know.
pub(super) async fn extensions(session: &mut Session) -> Result<Proof, ActionError> {
    let mut proof = Proof::default();
    for row in session.query(EXTENSIONS).await?.rows {
        let [Some(name), Some(version), there, known] = row.as_slice() else { continue };
        proof.looked_at += 1;
        match (there.as_deref(), known.as_deref()) {
            (Some("t"), Some("t")) => {}
            (Some("t"), _) => {
                proof
                    .faults
                    .push(format!("extension `{name}` is {version}, a version that is not known on this machine"));
            }
            (_, _) => proof.faults.push(format!("extension `{name}` {version} is not installed on this machine")),
        }
    }
    Ok(proof)
}

/// Finds collations of another version than their indexes were built by.
pub(super) async fn collations(session: &mut Session) -> Result<Proof, ActionError> {
    let keeps = session.major().await?.has(Change::CollationVersion);
    let mut rows = session.query(COLLATIONS).await?.rows;
    let mut proof = Proof::default();
    match keeps {
        true => rows.extend(session.query(OF_DATABASE).await?.rows),
        false => proof.notes.push("before PostgreSQL 15 a database does not keep its collation's version".to_owned()),
    }
    for row in rows {
        let [Some(what), Some(then), now] = row.as_slice() else { continue };
        proof.looked_at += 1;
        if now.as_ref() != Some(then) {
            let now = now.as_deref().unwrap_or("without version");
            proof.faults.push(format!("{what} was of version {then}, here it is {now}: its indexes must be rebuilt"));
        }
    }
    Ok(proof)
}

/// Gives the full name of a table as SQL wants it; `None` when it is not there.
pub(super) async fn table(session: &mut Session, written: &str) -> Result<Option<String>, ActionError> {
    let sql = format!(
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.oid = to_regclass({}) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')",
        literal(written)
    );
    Ok(session.query(&sql).await?.first().map(ToOwned::to_owned))
}

/// Gives the newest value of a column and whether it is newer than the bound, a time with offset.
pub(super) async fn newest(
    session: &mut Session,
    (newest, table): (&Newest, &str),
    bound: &str,
) -> Result<(Option<String>, bool), ActionError> {
    let column = ident(&newest.column);
    let bound = literal(bound);
    let sql = format!("SELECT max({column}), max({column}) >= {bound}::timestamptz FROM {table}");
    let found = session.query(&sql).await?;
    Ok((found.first().map(ToOwned::to_owned), found.at(0, 1) == Some("t")))
}
