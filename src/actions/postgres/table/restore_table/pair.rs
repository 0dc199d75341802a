//! One table in the copy and in the live database, and the SQL that speaks of both.

use super::shape::{Column, Reference, Shape};
use crate::action::ActionError;

/// The column of a difference that says what is to be done: `i`, `u` or `d`.
pub(super) const OP: &str = "runbook_op";
/// The column of a difference that holds the digest of the row that must be there.
pub(super) const WAS: &str = "runbook_was";

/// A table that both have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pair {
    /// In the copy.
    pub(super) copy: Shape,
    /// In the live database.
    pub(super) live: Shape,
    /// The columns that both have.
    pub(super) columns: Vec<Column>,
    /// Columns of the copy that the live table lost.
    pub(super) lost: Vec<String>,
}

impl Pair {
    /// Holds both against each other.
    ///
    /// # Errors
    /// Fails when their rows cannot be told apart by one key, or a column has another type.
    pub(super) fn of(copy: Shape, live: Shape) -> Result<Self, ActionError> {
        if live.key.is_empty() || live.key != copy.key {
            let fact = match live.key.as_slice() {
                [] => format!("{} has no primary key and no unique index without NULLs", live.name),
                key => format!(
                    "the key of {} is ({}) now and was ({}) then",
                    live.name,
                    key.join(", "),
                    copy.key.join(", ")
                ),
            };
            return Err(ActionError::fatal(format!("{fact}: its rows cannot be told apart"))
                .help("rename the live table, and its copy is brought back whole"));
        }
        let mut columns = Vec::new();
        let mut lost = Vec::new();
        for column in &copy.columns {
            match live.columns.iter().find(|one| one.name == column.name) {
                None => lost.push(column.name.clone()),
                Some(now) if now.kind == column.kind => columns.push(now.clone()),
                Some(now) => {
                    let fact = format!(
                        "{} of {} is `{}` now and was `{}` then",
                        column.name, live.name, now.kind, column.kind
                    );
                    return Err(ActionError::fatal(fact));
                }
            }
        }
        Ok(Self { copy, live, columns, lost })
    }

    /// The common columns as a list, each behind `prefix`.
    pub(super) fn list(&self, prefix: &str) -> String {
        let all: Vec<String> = self.columns.iter().map(|column| format!("{prefix}{}", column.name)).collect();
        all.join(", ")
    }

    /// A row's text: of whatever types, two rows are the same when it is.
    pub(super) fn row(&self, prefix: &str) -> String {
        format!("ROW({})::text", self.list(prefix))
    }

    /// The condition that two rows have one key.
    pub(super) fn same_key(&self, one: &str, other: &str) -> String {
        let all: Vec<String> = self.live.key.iter().map(|key| format!("{one}.{key} = {other}.{key}")).collect();
        all.join(" AND ")
    }

    /// The live table as a source of rows.
    pub(super) fn live(&self) -> String {
        format!("{}{}", self.live.only, self.live.name)
    }

    /// The copy's table as a source of rows.
    pub(super) fn copy(&self) -> String {
        format!("{}{}", self.copy.only, self.copy.name)
    }

    /// Makes an empty table for a difference; `kept` says how long it lives.
    pub(super) fn difference(&self, name: &str, kept: &str) -> String {
        format!(
            "CREATE TEMP TABLE {name} {kept} AS SELECT NULL::\"char\" AS {OP}, NULL::text AS {WAS}, {} FROM {} WITH NO DATA",
            self.list(""),
            self.live()
        )
    }

    /// Counts the rows that are no longer as the difference found them.
    pub(super) fn moved(&self, difference: &str) -> String {
        format!(
            "SELECT count(*) FROM {difference} d LEFT JOIN {} l ON {} WHERE CASE d.{OP} WHEN 'i' THEN l.ctid IS NOT NULL \
             ELSE l.ctid IS NULL OR md5({}) <> d.{WAS} END",
            self.live(),
            self.same_key("l", "d"),
            self.row("l.")
        )
    }

    /// Carries out the deletions of a difference.
    pub(super) fn delete(&self, difference: &str) -> String {
        let (live, keys) = (self.live(), self.same_key("l", "d"));
        format!("DELETE FROM {live} l USING {difference} d WHERE d.{OP} = 'd' AND {keys}")
    }

    /// Carries out the changes of a difference; nothing for a table that is all key.
    pub(super) fn update(&self, difference: &str) -> Option<String> {
        let settable = |column: &&Column| !column.system && !self.live.key.contains(&column.name);
        let sets: Vec<String> =
            self.columns.iter().filter(settable).map(|column| format!("{0} = d.{0}", column.name)).collect();
        let (live, keys) = (self.live(), self.same_key("l", "d"));
        let sets = (!sets.is_empty()).then(|| sets.join(", "))?;
        Some(format!("UPDATE {live} l SET {sets} FROM {difference} d WHERE d.{OP} = 'u' AND {keys}"))
    }

    /// Columns that the live table got since: what deletes a row loses them, and no script holds them.
    pub(super) fn gained(&self) -> Vec<&str> {
        let common = |one: &&Column| self.columns.iter().any(|own| own.name == one.name);
        self.live.columns.iter().filter(|one| !common(one)).map(|one| one.name.as_str()).collect()
    }

    /// Counts the children that a foreign key would delete or change with the rows that a difference deletes.
    pub(super) fn followed(&self, reference: &Reference, difference: &str) -> String {
        reference.followed(difference, (OP, &self.same_key("c", "x"), &self.live.name))
    }

    /// Counts the children that a foreign key would change with the rows that a difference changes; nothing where that
    /// cannot be. They hang on what a row is now, not on what it becomes.
    pub(super) fn spread(&self, reference: &Reference, difference: &str) -> Option<String> {
        let set =
            |column: &&String| !self.live.key.contains(*column) && self.columns.iter().any(|own| own.name == **column);
        let other: Vec<String> = reference
            .columns
            .iter()
            .filter(set)
            .map(|column| format!("l.{column} IS DISTINCT FROM x.{column}"))
            .collect();
        if !reference.on_update || other.is_empty() {
            return None;
        }
        let Reference { child, joined, .. } = reference;
        Some(format!(
            "SELECT count(*) FROM (SELECT l.* FROM {} l JOIN {difference} x ON {} WHERE x.{OP} = 'u' AND ({})) d \
             JOIN {child} c ON {joined}",
            self.live(),
            self.same_key("l", "x"),
            other.join(" OR ")
        ))
    }

    /// Carries out the insertions of a difference.
    pub(super) fn insert(&self, difference: &str) -> String {
        let (name, columns) = (&self.live.name, self.list(""));
        format!(
            "INSERT INTO {name} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {difference} WHERE {OP} = 'i'"
        )
    }

    /// Fills the difference that undoes another one. What is there now must be read before it is changed.
    pub(super) fn reverse(&self, (difference, undo): (&str, &str)) -> String {
        let values: Vec<String> = self
            .columns
            .iter()
            .map(|column| format!("CASE d.{OP} WHEN 'i' THEN d.{0} ELSE l.{0} END", column.name))
            .collect();
        format!(
            "INSERT INTO {undo} SELECT CASE d.{OP} WHEN 'i' THEN 'd' WHEN 'd' THEN 'i' ELSE 'u' END::\"char\", \
             CASE WHEN d.{OP} <> 'd' THEN md5({}) END, {} FROM {difference} d LEFT JOIN {} l ON {}",
            self.row("d."),
            values.join(", "),
            self.live(),
            self.same_key("l", "d")
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
    use super::*;

    fn shape(columns: &[(&str, &str)], key: &[&str]) -> Shape {
        let column = |(name, kind): &(&str, &str)| Column { name: (*name).into(), kind: (*kind).into(), system: false };
        Shape {
            oid: 1,
            name: "public.t".into(),
            only: "ONLY ",
            columns: columns.iter().map(column).collect(),
            key: key.iter().map(|name| (*name).to_owned()).collect(),
            unlogged: Vec::new(),
        }
    }

    #[test]
    fn columns_that_came_later_are_left_alone_and_those_that_went_are_named() {
        let then = shape(&[("id", "integer"), ("old", "text")], &["id"]);
        let pair = Pair::of(then, shape(&[("id", "integer"), ("new", "text")], &["id"])).unwrap();
        assert_eq!((pair.list(""), pair.lost.clone()), ("id".to_owned(), vec!["old".to_owned()]));
        assert_eq!(pair.update("d"), None);
    }

    #[test]
    fn rows_that_nothing_tells_apart_and_changed_types_are_refused() {
        let keyless = shape(&[("n", "integer")], &[]);
        assert!(Pair::of(keyless.clone(), keyless).unwrap_err().to_string().contains("no primary key"));
        let then = shape(&[("id", "integer")], &["id"]);
        let error = Pair::of(then, shape(&[("id", "bigint")], &["id"])).unwrap_err();
        assert!(error.to_string().contains("`bigint` now and was `integer` then"), "{error}");
    }
}
