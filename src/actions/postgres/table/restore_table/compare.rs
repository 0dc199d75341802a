//! Compares a copy's table with the live one: by key, row by row, inside the copy.
//!
//! The live database is only read, in one snapshot of all tables: its rows come into the copy, which is thrown away
//! anyway, and the work is done there.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::pair::{OP, Pair, WAS};
use crate::action::ActionError;
use crate::actions::postgres::session::connect::Session;
use crate::actions::postgres::session::copying;

/// The schema inside the copy that takes the live rows.
const SCHEMA: &str = "runbook_compare";

/// What it would take to make the live table as the copy is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// Rows of the copy that the live table lacks.
    pub missing: u64,
    /// Rows that are others now.
    pub changed: u64,
    /// Rows that only the live table has.
    pub extra: u64,
    /// Some of them, by key; never a value.
    #[serde(default)]
    pub samples: Vec<Sample>,
}

impl Difference {
    /// Whether there is none.
    pub(super) fn is_none(&self) -> bool {
        self.missing + self.changed + self.extra == 0
    }
}

/// One row that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    /// `missing`, `changed` or `extra`.
    pub difference: String,
    /// Its key.
    pub key: Map<String, Value>,
    /// The columns that differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
}

/// The name of the difference of a table within the copy.
pub(super) fn difference(number: usize) -> String {
    format!("{SCHEMA}.difference_{number}")
}

/// Begins a comparison: an empty place in the copy, one snapshot of the live database.
///
/// # Errors
/// Fails as a server says.
pub(super) async fn begin(copy: &mut Session, live: &mut Session) -> Result<(), ActionError> {
    copy.query(copying::SAME_TEXT).await?;
    copy.query(&format!(
        "SET client_min_messages = error; DROP SCHEMA IF EXISTS {SCHEMA} CASCADE; CREATE SCHEMA {SCHEMA}"
    ))
    .await?;
    live.query(copying::SAME_TEXT).await?;
    live.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.map(drop)
}

/// Compares one table; its difference stays in the copy under [`difference`] of its number.
///
/// # Errors
/// Fails as a server says.
pub(super) async fn table(
    (copy, live): (&mut Session, &mut Session),
    (pair, number): (&Pair, usize),
    samples: u32,
) -> Result<Difference, ActionError> {
    let taken = format!("{SCHEMA}.live_{number}");
    let (all, columns) = (pair.copy(), pair.list(""));
    copy.query(&format!("CREATE UNLOGGED TABLE {taken} AS SELECT {columns} FROM {all} WITH NO DATA")).await?;
    let give = format!("COPY (SELECT {columns} FROM {}) TO STDOUT", pair.live());
    copying::copy((&mut *live, &give), (&mut *copy, &format!("COPY {taken} ({columns}) FROM STDIN"))).await?;
    copy.query(&format!("ANALYZE {taken}")).await?;
    copy.query(&contrast(pair, &taken, &difference(number))).await?;
    let counts = copy.query(&format!("SELECT {OP}, count(*) FROM {} GROUP BY 1", difference(number))).await?;
    let counts: BTreeMap<&str, u64> =
        (0..counts.rows.len()).filter_map(|row| Some((counts.at(row, 0)?, counts.at(row, 1)?.parse().ok()?))).collect();
    let count = |op: &str| counts.get(op).copied().unwrap_or_default();
    let mut found = Difference { missing: count("i"), changed: count("u"), extra: count("d"), samples: Vec::new() };
    for (op, name) in [("i", "missing"), ("u", "changed"), ("d", "extra")] {
        if count(op) > 0 && samples > 0 {
            let table = copy.query(&some(pair, (op, number, samples), &taken)).await?;
            found.samples.extend((0..table.rows.len()).map(|row| Sample {
                difference: name.to_owned(),
                key: table.at(row, 0).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default(),
                columns: table.at(row, 1).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default(),
            }));
        }
    }
    Ok(found)
}

/// Makes the table of what differs. The digest is that of the live row, which must still be there to be changed.
fn contrast(pair: &Pair, taken: &str, difference: &str) -> String {
    let (copy, keys) = (pair.copy(), pair.same_key("l", "s"));
    let (theirs, ours) = (pair.row("l."), pair.row("s."));
    format!(
        "CREATE UNLOGGED TABLE {difference} AS \
         SELECT 'i'::\"char\" AS {OP}, NULL::text AS {WAS}, {columns} FROM {copy} s WHERE NOT EXISTS (SELECT 1 FROM {taken} l WHERE {keys}) \
         UNION ALL SELECT 'u', md5({theirs}), {columns} FROM {copy} s JOIN {taken} l ON {keys} WHERE {theirs} IS DISTINCT FROM {ours} \
         UNION ALL SELECT 'd', md5({theirs}), {live} FROM {taken} l WHERE NOT EXISTS (SELECT 1 FROM {copy} s WHERE {keys})",
        columns = pair.list("s."),
        live = pair.list("l."),
    )
}

/// Some rows of one kind: the key, and of a changed one the columns that differ.
fn some(pair: &Pair, (op, number, samples): (&str, usize, u32), taken: &str) -> String {
    let plain = |name: &str| {
        let quoted = name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        quoted.map_or_else(|| name.to_owned(), |inner| inner.replace("\"\"", "\"")).replace('\'', "''")
    };
    let keys: Vec<String> = pair.live.key.iter().map(|key| format!("'{}', d.{key}", plain(key))).collect();
    let differs =
        |name: &String| format!("CASE WHEN d.{name}::text IS DISTINCT FROM l.{name}::text THEN '{}' END", plain(name));
    let columns: Vec<String> = pair.columns.iter().map(|column| differs(&column.name)).collect();
    let changed = match op {
        "u" => format!("to_json(array_remove(ARRAY[{}], NULL))", columns.join(", ")),
        _ => "'[]'".to_owned(),
    };
    format!(
        "SELECT json_build_object({}), {changed} FROM {} d LEFT JOIN {taken} l ON {} WHERE d.{OP} = '{op}' LIMIT {samples}",
        keys.join(", "),
        difference(number),
        pair.same_key("l", "d")
    )
}
