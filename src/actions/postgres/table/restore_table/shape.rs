//! What a table looks like: its columns, the key that tells its rows apart, and what stands around it.

use crate::action::ActionError;
use crate::actions::postgres::cluster::name::literal;
use crate::actions::postgres::session::connect::Session;

/// One column that holds data of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    /// Its name, quoted.
    pub(super) name: String,
    /// Its type, as the server writes it.
    pub(super) kind: String,
    /// Whether only the system may set it (`GENERATED ALWAYS AS IDENTITY`).
    pub(super) system: bool,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    /// Its number.
    pub(super) oid: u32,
    /// Its name with its schema, quoted.
    pub(super) name: String,
    /// `ONLY ` for a table whose rows are its own; nothing for a partitioned one.
    pub(super) only: &'static str,
    /// Columns that are not computed, in their order.
    pub(super) columns: Vec<Column>,
    /// The columns of its primary key, else of a unique index without NULLs; empty without any.
    pub(super) key: Vec<String>,
    /// Which of it is unlogged, itself or partitions: no base backup and no WAL has their rows.
    pub(super) unlogged: Vec<String>,
}

/// A foreign key of another table, or of this one, that leads to a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    /// The constraint, quoted.
    pub(super) name: String,
    /// The table that it belongs to, quoted.
    pub(super) child: String,
    /// `c.child = d.parent AND …`
    pub(super) joined: String,
    /// The columns that it leads to, quoted.
    pub(super) columns: Vec<String>,
    /// Whether the deletion of a parent changes children.
    pub(super) on_delete: bool,
    /// Whether a new value of a parent changes children.
    pub(super) on_update: bool,
    /// Whether it belongs to the table that it leads to, or to one that it is a partition of, or that is one of its partitions.
    pub(super) own: bool,
}

impl Reference {
    /// Counts the children that go, or change, with the rows that a difference deletes. Rows of the same table that the
    /// difference deletes as well are none of them.
    pub(super) fn followed(&self, difference: &str, (op, same_key, parent): (&str, &str, &str)) -> String {
        let Self { child, joined, own, .. } = self;
        let all = format!("SELECT count(*) FROM {child} c JOIN {difference} d ON {joined} WHERE d.{op} = 'd'");
        if !own {
            return all;
        }
        // A key tells rows of this table and its partitions apart, and of no other one.
        let parent = literal(parent);
        format!(
            "{all} AND NOT (c.tableoid IN (SELECT {parent}::regclass UNION SELECT relid FROM pg_partition_tree({parent}::regclass)) \
             AND EXISTS (SELECT 1 FROM {difference} x WHERE x.{op} = 'd' AND {same_key}))"
        )
    }
}

const COLUMNS: &str = "SELECT quote_ident(attname), format_type(atttypid, atttypmod), attidentity = 'a' \
 FROM pg_attribute WHERE attrelid = $ AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum";

/// The primary key comes first.
const KEY: &str = "SELECT quote_ident(a.attname) FROM (SELECT i.indrelid, i.indkey, i.indnkeyatts FROM pg_index i \
 WHERE i.indrelid = $ AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL \
 AND NOT EXISTS (SELECT 1 FROM pg_attribute n WHERE n.attrelid = i.indrelid AND n.attnum = ANY (i.indkey) AND NOT n.attnotnull) \
 ORDER BY i.indisprimary DESC, i.indexrelid LIMIT 1) k \
 JOIN pg_attribute a ON a.attrelid = k.indrelid AND a.attnum = ANY ((k.indkey::int2[])[0:k.indnkeyatts - 1]) ORDER BY a.attnum";

/// The table itself or those of its partitions that hold rows and are `UNLOGGED`.
const UNLOGGED: &str = "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
 WHERE c.relkind = 'r' AND c.relpersistence = 'u' AND (c.oid = $ OR c.oid IN (SELECT relid FROM pg_partition_tree($))) ORDER BY 1";

/// The foreign keys that lead to a table, to one of its partitions, or to what it is a partition of: they all follow its rows.
const REFERENCES: &str = "WITH family(oid) AS (SELECT $::oid UNION SELECT relid FROM pg_partition_tree($) UNION SELECT relid FROM pg_partition_ancestors($)) \
 SELECT quote_ident(f.conname), format('%I.%I', n.nspname, r.relname), \
 (SELECT string_agg(format('c.%I = d.%I', a.attname, b.attname), ' AND ') FROM unnest(f.conkey, f.confkey) AS k(child, parent) \
  JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.child JOIN pg_attribute b ON b.attrelid = f.confrelid AND b.attnum = k.parent), \
 (SELECT json_agg(quote_ident(b.attname)) FROM pg_attribute b WHERE b.attrelid = f.confrelid AND b.attnum = ANY (f.confkey)), \
 f.confdeltype IN ('c', 'n', 'd'), f.confupdtype IN ('c', 'n', 'd'), f.conrelid IN (SELECT oid FROM family) \
 FROM pg_constraint f JOIN pg_class r ON r.oid = f.conrelid JOIN pg_namespace n ON n.oid = r.relnamespace \
 WHERE f.contype = 'f' AND f.confrelid IN (SELECT oid FROM family) AND f.conparentid = 0 ORDER BY 1, 2";

/// How a name is written that is not plain.
pub(super) const QUOTED: &str = "quote it as in SQL where it has capital letters, a comma, a dot or a blank: `-p 'tables=users,shop.\"Odd, name\"'`";

impl Shape {
    /// Looks at a table; `None` when there is none of that name.
    ///
    /// # Errors
    /// Fails when it is no table, or as the server says.
    pub(super) async fn look(session: &mut Session, table: &str) -> Result<Option<Self>, ActionError> {
        let name = literal(&qualified(table));
        let found = session
            .query(&format!(
                "SELECT c.oid, format('%I.%I', n.nspname, c.relname), c.relkind FROM pg_class c \
                 JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass({name}) AND parse_ident({name}) IS NOT NULL"
            ))
            .await
            .map_err(|error| {
                // One word of `to_regclass`, up to PostgreSQL 15, and one of `parse_ident`.
                let unnamed = ["invalid name syntax", "not a valid identifier"];
                match error.info().causes.iter().any(|cause| unnamed.iter().any(|words| cause.contains(words))) {
                    true => ActionError::fatal(format!("`{table}` is no name of a table")).help(QUOTED),
                    false => error,
                }
            })?;
        let Some(oid) = found.first().and_then(|oid| oid.parse().ok()) else { return Ok(None) };
        let only = match found.at(0, 2) {
            Some("r") => "ONLY ",
            Some("p") => "",
            _ => return Err(ActionError::fatal(format!("`{table}` is no table, so it has no rows of its own"))),
        };
        let columns = session.query(&of(COLUMNS, oid)).await?.rows.into_iter().filter_map(|row| {
            let mut row = row.into_iter();
            let (name, kind) = (row.next()??, row.next()??);
            Some(Column { name, kind, system: row.next().flatten().as_deref() == Some("t") })
        });
        let columns = columns.collect();
        let key = texts(session, &of(KEY, oid)).await?;
        let unlogged = texts(session, &of(UNLOGGED, oid)).await?;
        Ok(Some(Self { oid, name: found.at(0, 1).unwrap_or_default().to_owned(), only, columns, key, unlogged }))
    }

    /// The foreign keys that lead to it.
    ///
    /// # Errors
    /// Fails as the server says.
    pub(super) async fn references(&self, session: &mut Session) -> Result<Vec<Reference>, ActionError> {
        let table = session.query(&of(REFERENCES, self.oid)).await?;
        let reference = |row: usize| {
            let text = |column| table.at(row, column).unwrap_or_default().to_owned();
            Reference {
                name: text(0),
                child: text(1),
                joined: text(2),
                columns: serde_json::from_str(&text(3)).unwrap_or_default(),
                on_delete: text(4) == "t",
                on_update: text(5) == "t",
                own: text(6) == "t",
            }
        };
        Ok((0..table.rows.len()).map(reference).collect())
    }
}

/// A name as its user wrote it, in `public` unless it says another schema.
pub(super) fn qualified(table: &str) -> String {
    let table = table.trim();
    if table.contains('.') { table.to_owned() } else { format!("public.{table}") }
}

/// A statement about one table.
pub(super) fn of(sql: &str, oid: u32) -> String {
    sql.replace('$', &oid.to_string())
}

/// The first column of every row.
///
/// # Errors
/// Fails as the server says.
pub(super) async fn texts(session: &mut Session, sql: &str) -> Result<Vec<String>, ActionError> {
    Ok(session.query(sql).await?.rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
}
