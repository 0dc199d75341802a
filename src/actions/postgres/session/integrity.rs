//! Statements that prove a database whole: foreign keys by anti-join, indexes valid, B-trees by `amcheck`.

use super::connect::Session;
use crate::action::ActionError;
use crate::event::ErrorClass;
use crate::pgformat::major_text;

/// One proof with its verdict.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Proof {
    /// How many things were looked at.
    pub(crate) looked_at: u64,
    /// Each thing that is wrong.
    pub(crate) faults: Vec<String>,
    /// What could not be judged, and why.
    pub(crate) notes: Vec<String>,
    /// What was wanted and could not be looked at at all, for want of something that has to be installed.
    pub(crate) unmade: Vec<String>,
}

/// How B-trees are walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Walk {
    /// Their order, where `amcheck` is installed.
    WhereInstalled,
    /// Their order, and that each row of the table is in them; without `amcheck` nothing is known.
    HeapAllIndexed,
}

/// Lists each validated foreign key with the statement that counts its orphans.
///
/// The statement compares as the constraint itself does: its own operators, `ONLY` where the table
/// is not partitioned, and for `MATCH FULL` a key that is half NULL counts as an orphan. Of a key with a `PERIOD` (from
/// PostgreSQL 18 on) all rows of the parent that overlap must cover the child's together. Servers before have no column
/// that says so; read through the row as a document it is absent there.
const FOREIGN_KEYS: &str = "
SELECT f.conname || ' on ' || f.conrelid::regclass::text, f.convalidated,
  format(CASE WHEN (to_jsonb(f) ->> 'conperiod')::boolean
    THEN 'SELECT count(*) FROM %1$s%2$s c WHERE (%3$s) AND NOT coalesce(c.%7$I OPERATOR(pg_catalog.<@) '
      '(SELECT pg_catalog.range_agg(p.%8$I) FROM %4$s%5$s p WHERE %6$s), false)'
    ELSE 'SELECT count(*) FROM %1$s%2$s c WHERE (%3$s) AND NOT EXISTS (SELECT 1 FROM %4$s%5$s p WHERE %6$s)' END,
    CASE WHEN r.relkind = 'p' THEN '' ELSE 'ONLY ' END, f.conrelid::regclass,
    string_agg(format('c.%I IS NOT NULL', a.attname), CASE WHEN f.confmatchtype = 'f' THEN ' OR ' ELSE ' AND ' END),
    CASE WHEN t.relkind = 'p' THEN '' ELSE 'ONLY ' END, f.confrelid::regclass,
    string_agg(format('p.%I OPERATOR(%I.%s) c.%I', b.attname, n.nspname, o.oprname, a.attname), ' AND '),
    (array_agg(a.attname ORDER BY k.place DESC))[1], (array_agg(b.attname ORDER BY k.place DESC))[1])
FROM pg_constraint f
JOIN pg_class r ON r.oid = f.conrelid
JOIN pg_class t ON t.oid = f.confrelid
CROSS JOIN LATERAL unnest(f.conkey, f.confkey, f.conpfeqop) WITH ORDINALITY AS k(child, parent, operator, place)
JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.child
JOIN pg_attribute b ON b.attrelid = f.confrelid AND b.attnum = k.parent
JOIN pg_operator o ON o.oid = k.operator
JOIN pg_namespace n ON n.oid = o.oprnamespace
WHERE f.contype = 'f' AND f.conparentid = 0 /* which */
GROUP BY f.oid, f.conname, f.conrelid, f.confrelid, f.convalidated, f.confmatchtype, r.relkind, t.relkind, to_jsonb(f)
ORDER BY 1";

const INVALID_INDEXES: &str = "
SELECT i.indexrelid::regclass::text FROM pg_index i WHERE NOT (i.indisvalid AND i.indisready AND i.indislive) ORDER BY 1";

const INDEX_COUNT: &str = "SELECT count(*) FROM pg_index";

const AMCHECK_SCHEMA: &str = "
SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'amcheck'";

const BTREES: &str = "
SELECT c.oid, c.oid::regclass::text FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_am m ON m.oid = c.relam
WHERE m.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence = 'p' AND i.indisvalid AND i.indisready ORDER BY 2";

/// Databases whose content belongs to users.
const DATABASES: &str = "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1";

/// Lists the databases that hold users' data.
pub(crate) async fn databases(session: &mut Session) -> Result<Vec<String>, ActionError> {
    let table = session.query(DATABASES).await?;
    Ok(table.rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
}

/// Hides no row from a role that policies hold back: a statement that they would narrow fails instead, and says so.
pub(crate) const ALL_ROWS: &str = "SET row_security = off";

/// Opens the transaction all proofs run in: read-only, one snapshot, names always qualified, every row seen.
pub(crate) async fn begin(session: &mut Session) -> Result<(), ActionError> {
    let begun = format!("SET search_path TO pg_catalog; {ALL_ROWS}; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    session.query(&begun).await.map(drop)
}

/// Lends a database `amcheck` for one transaction that is never committed; it can only read from then on. Tells whether
/// it could: an extension that is there needs no loan, and a server in recovery takes none.
pub(crate) async fn lend_amcheck(session: &mut Session) -> Result<bool, ActionError> {
    let wanted = "SELECT NOT pg_is_in_recovery() AND NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'amcheck') \
                  AND EXISTS (SELECT FROM pg_available_extensions WHERE name = 'amcheck') \
                  AND (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)";
    if session.value(wanted).await? != "t" {
        return Ok(false);
    }
    session.query("SET search_path TO pg_catalog; BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    session.query("CREATE EXTENSION amcheck WITH SCHEMA public").await?;
    session.query("SET TRANSACTION READ ONLY").await?;
    Ok(true)
}

/// Why no B-tree can be walked, and what has to be installed or created for that.
async fn without_amcheck(session: &mut Session) -> Result<String, ActionError> {
    let available = "SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'";
    let version = session.value("SELECT current_setting('server_version')").await?;
    let major = major_text(&version);
    Ok(match session.value(available).await?.as_str() {
        "0" => format!(
            "the B-trees' content was not walked: the extension `amcheck` is not installed on this machine; install the contrib \
             modules of PostgreSQL {major} (`postgresql{major}-contrib` or `postgresql-contrib`; of Debian part of \
             `postgresql-{major}`)"
        ),
        _ => "the B-trees' content was not walked: this database has no `amcheck`, and only a superuser of a server that is \
              thrown away and is not in recovery can lend it one; `CREATE EXTENSION amcheck` adds it"
            .to_owned(),
    })
}

/// Counts the orphans of every foreign key of a database.
pub(crate) async fn foreign_keys(session: &mut Session) -> Result<Proof, ActionError> {
    orphans(session, FOREIGN_KEYS).await
}

/// Counts the orphans of the foreign keys that lead from or to one of the tables, given by their numbers.
pub(crate) async fn foreign_keys_of(session: &mut Session, tables: &[u32]) -> Result<Proof, ActionError> {
    let list: Vec<String> = tables.iter().map(ToString::to_string).collect();
    let list = format!("ARRAY[{}]::oid[]", list.join(","));
    let which = format!("AND (f.conrelid = ANY ({list}) OR f.confrelid = ANY ({list}))");
    orphans(session, &FOREIGN_KEYS.replace("/* which */", &which)).await
}

/// What is said of a foreign key that nothing was proven of.
pub(crate) const NOT_VALID: &str = "is NOT VALID, so the database itself does not promise it";

/// A foreign key, and the statement that counts its orphans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForeignKey {
    /// Its name and its table, as the `search_path` writes it: `orders_user_id_fkey on public.orders`.
    pub(crate) name: String,
    /// Whether the database promises it.
    pub(crate) is_valid: bool,
    /// Counts the rows without their parent.
    pub(crate) orphans: String,
}

/// Lists the foreign keys that lead to one of the tables, given by their numbers; all of them where none is given.
pub(crate) async fn foreign_keys_to(session: &mut Session, tables: &[u32]) -> Result<Vec<ForeignKey>, ActionError> {
    let list: Vec<String> = tables.iter().map(ToString::to_string).collect();
    let which = match list.is_empty() {
        true => String::new(),
        false => format!("AND f.confrelid = ANY (ARRAY[{}]::oid[])", list.join(",")),
    };
    keys(session, &FOREIGN_KEYS.replace("/* which */", &which)).await
}

async fn keys(session: &mut Session, sql: &str) -> Result<Vec<ForeignKey>, ActionError> {
    let found = session.query(sql).await?;
    let key = |row: Vec<Option<String>>| {
        let mut row = row.into_iter();
        let (name, validated, orphans) = (row.next()??, row.next()?, row.next()??);
        Some(ForeignKey { name, is_valid: validated.as_deref() == Some("t"), orphans })
    };
    Ok(found.rows.into_iter().filter_map(key).collect())
}

async fn orphans(session: &mut Session, sql: &str) -> Result<Proof, ActionError> {
    let mut proof = Proof::default();
    for ForeignKey { name, is_valid, orphans } in keys(session, sql).await? {
        if !is_valid {
            proof.notes.push(format!("`{name}` {NOT_VALID}"));
            continue;
        }
        let orphans = session.value(&orphans).await?;
        proof.looked_at += 1;
        if orphans != "0" {
            proof.faults.push(format!("`{name}` has {orphans} rows without their parent"));
        }
    }
    Ok(proof)
}

/// Finds invalid indexes and walks every B-tree.
pub(crate) async fn indexes(session: &mut Session, walk: Walk) -> Result<Proof, ActionError> {
    let invalid = session.query(INVALID_INDEXES).await?;
    let looked_at = session.value(INDEX_COUNT).await?.parse().unwrap_or_default();
    let names = invalid.rows.iter().filter_map(|row| row.first()?.as_deref());
    let faults = names.map(|name| format!("index `{name}` is invalid")).collect();
    let mut proof = Proof { looked_at, faults, ..Proof::default() };
    let schema = session.query(AMCHECK_SCHEMA).await?;
    let Some(schema) = schema.first() else {
        match walk {
            Walk::WhereInstalled => {
                proof.notes.push("`amcheck` is not installed, so the B-trees' content was not walked".to_owned());
            }
            Walk::HeapAllIndexed => proof.unmade.push(without_amcheck(session).await?),
        }
        return Ok(proof);
    };
    let whole = match walk {
        Walk::WhereInstalled => "",
        Walk::HeapAllIndexed => ", heapallindexed => true",
    };
    let trees = session.query(BTREES).await?;
    for row in &trees.rows {
        let [Some(oid), Some(name)] = row.as_slice() else { continue };
        session.query("SAVEPOINT tree").await?;
        if let Err(error) = session.query(&format!("SELECT {schema}.bt_index_check({oid}::regclass{whole})")).await {
            // No memory, no room or a time limit says nothing of the index.
            if error.info().class == ErrorClass::Retryable {
                if proof.faults.is_empty() {
                    return Err(error);
                }
                // What was found stands, whatever keeps the rest from being looked at.
                proof.unmade.push(format!("index `{name}` and those after it were not walked: {}", error.in_full()));
                return Ok(proof);
            }
            let cause = error.info().causes.last().cloned().unwrap_or_else(|| error.to_string());
            proof.faults.push(format!("index `{name}`: {cause}"));
            session.query("ROLLBACK TO SAVEPOINT tree").await?;
        }
        session.query("RELEASE SAVEPOINT tree").await?;
    }
    proof.notes.push(format!("`amcheck` walked {} B-trees", trees.rows.len()));
    Ok(proof)
}
