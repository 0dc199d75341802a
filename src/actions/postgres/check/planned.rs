//! What is to be proved, decided from the arguments and the inventory alone.

use super::params::{
    AheadSequences, AllKeys, AvailableExtensions, CheckBody, CheckItem, CheckSet, EqualFacts, Newest, SameCollations,
    Smoke, ValidIndexes,
};
use crate::action::ParamFault;
use crate::actions::postgres::session::content::FactsDepth;
use crate::actions::postgres::session::integrity::Walk;
use crate::base::Digest;
use crate::language::inventory::{Database, Expectation, SqlCheck};

/// One thing to prove.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Planned {
    /// Its name in reports.
    pub(super) name: String,
    /// The database within the server, where one is named.
    pub(super) dbname: Option<String>,
    /// What it is.
    pub(super) what: What,
}

/// The kinds of checks.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum What {
    Keys,
    Indexes(Walk),
    Sequences,
    Extensions,
    Collations,
    Tables(Vec<String>),
    Rows(Vec<Threshold>),
    Facts(FactsDepth),
    Schema(Digest),
    Newest(Newest),
    Smoke(Smoke),
    Sql { sql: String, expect: Option<Expectation>, shown: String },
}

/// How many rows a table must have.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Threshold {
    /// The table, as it was written.
    pub(super) table: String,
    /// What the number must be.
    pub(super) expect: Expectation,
    /// The same as it was written.
    pub(super) shown: String,
}

const ONE_OF: &str = "a check has exactly one of `foreign_keys`, `indexes`, `tables`, `rows`, `facts`, `schema_fingerprint`, `sequences`, \
                      `extensions`, `collations`, `newest`, `smoke` and `sql`; `expect` goes with `sql`";

/// Decides what is proved.
pub(super) fn planned(items: &[CheckItem], entry: &Database) -> Result<Vec<Planned>, Vec<ParamFault>> {
    let mut checks = Vec::new();
    let mut faults = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let path = format!("/checks/{index}");
        let made: Vec<Result<Planned, String>> = match item {
            CheckItem::Set(_) | CheckItem::Of(_) => own(item, entry).map(of_inventory).collect(),
            CheckItem::One(body) => vec![one(body)],
        };
        for made in made {
            made.map(|made| checks.push(made)).unwrap_or_else(|why| faults.push(ParamFault::new(&path, why)));
        }
    }
    if faults.is_empty() { Ok(checks) } else { Err(faults) }
}

/// The conditions of the inventory that an item means.
pub(super) fn own<'a>(item: &'a CheckItem, entry: &'a Database) -> impl Iterator<Item = &'a SqlCheck> {
    entry.checks.iter().filter(move |check| match item {
        CheckItem::Set(CheckSet::Inventory) => true,
        CheckItem::Of(only) => check.dbname.as_ref().unwrap_or(&entry.dbname) == &only.inventory,
        CheckItem::One(_) => false,
    })
}

fn of_inventory(check: &SqlCheck) -> Result<Planned, String> {
    let what = sql(&check.sql, check.expect.as_deref())?;
    Ok(Planned { name: check.name.clone(), dbname: check.dbname.clone(), what })
}

fn one(body: &CheckBody) -> Result<Planned, String> {
    let given: Vec<(&str, What)> = kinds(body)?;
    let [(kind, what)] = given.as_slice() else { return Err(ONE_OF.to_owned()) };
    if body.expect.is_some() && body.sql.is_none() {
        return Err(ONE_OF.to_owned());
    }
    let name = if body.name.is_empty() { (*kind).to_owned() } else { body.name.clone() };
    Ok(Planned { name, dbname: body.dbname.clone(), what: what.clone() })
}

/// Everything that a body asks for, under the name it has without one.
fn kinds(body: &CheckBody) -> Result<Vec<(&str, What)>, String> {
    let mut given: Vec<(&str, What)> = Vec::new();
    given.extend(body.foreign_keys.map(|AllKeys::All| ("foreign_keys", What::Keys)));
    given.extend(body.indexes.map(|indexes| {
        let walk = match indexes {
            ValidIndexes::Valid => Walk::WhereInstalled,
            ValidIndexes::Heapallindexed => Walk::HeapAllIndexed,
        };
        ("indexes", What::Indexes(walk))
    }));
    given.extend(body.sequences.map(|AheadSequences::Ahead| ("sequences", What::Sequences)));
    given.extend(body.extensions.map(|AvailableExtensions::Available| ("extensions", What::Extensions)));
    given.extend(body.collations.map(|SameCollations::Same| ("collations", What::Collations)));
    given.extend(body.facts.map(|facts| {
        let depth = match facts {
            EqualFacts::Counts => FactsDepth::Counts,
            EqualFacts::Hashes => FactsDepth::Hashes,
        };
        ("facts", What::Facts(depth))
    }));
    given.extend(body.schema_fingerprint.map(|wanted| ("schema_fingerprint", What::Schema(wanted.equals))));
    given.extend(body.newest.clone().map(|newest| ("newest", What::Newest(newest))));
    if let Some(tables) = &body.tables {
        let none = "`tables` names no table".to_owned();
        given.push(("tables", What::Tables(Some(tables.clone()).filter(|tables| !tables.is_empty()).ok_or(none)?)));
    }
    if let Some(rows) = &body.rows {
        let thresholds: Result<Vec<Threshold>, String> =
            rows.iter().map(|(table, text)| threshold(table, text)).collect();
        let none = "`rows` names no table".to_owned();
        given.push(("rows", What::Rows(Some(thresholds?).filter(|rows| !rows.is_empty()).ok_or(none)?)));
    }
    if let Some(smoke) = &body.smoke {
        let none = "`command` names no program".to_owned();
        smoke.command.first().filter(|program| !program.is_empty()).ok_or(none)?;
        given.push(("smoke", What::Smoke(smoke.clone())));
    }
    if let Some(text) = &body.sql {
        given.push((text, sql(text, body.expect.as_deref())?));
    }
    Ok(given)
}

fn threshold(table: &str, text: &str) -> Result<Threshold, String> {
    let expect = text.parse::<Expectation>().map_err(|error| error.to_string())?;
    Ok(Threshold { table: table.to_owned(), expect, shown: text.to_owned() })
}

fn sql(text: &str, expect: Option<&str>) -> Result<What, String> {
    let parsed = expect.map(str::parse::<Expectation>).transpose().map_err(|error| error.to_string())?;
    let shown = expect.map_or_else(|| "at least one row".to_owned(), |expect| format!("`{expect}`"));
    Ok(What::Sql { sql: text.to_owned(), expect: parsed, shown })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
    use super::super::params::CheckParams;
    use super::*;

    fn params(checks: serde_json::Value) -> CheckParams {
        serde_json::from_value(serde_json::json!({ "database": "orders", "checks": checks })).unwrap()
    }

    #[test]
    fn the_checks_of_a_step_read_as_the_language_page_writes_them() {
        let params = params(serde_json::json!([
            "inventory", { "name": "orphans", "foreign_keys": "all" }, { "name": "indexes", "indexes": "valid" },
            { "name": "users", "sql": "SELECT 1", "expect": "> 0" }, { "indexes": "heapallindexed" },
            { "tables": ["users", "sales.orders"] }, { "rows": { "users": "> 100" } }, { "facts": "hashes" },
            { "schema_fingerprint": { "equals": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" } },
            { "sequences": "ahead" }, { "extensions": "available" }, { "collations": "same" },
            { "newest": { "table": "orders", "column": "created_at", "within": "1h" } },
            { "smoke": { "command": ["smoke", "--read"], "env": { "LEVEL": "1" } } } ]));
        let own = SqlCheck { name: "n".into(), sql: "SELECT 1".into(), expect: None, dbname: None };
        let own = Database { checks: vec![own], ..Database::default() };
        let names: Vec<String> = planned(&params.checks, &own).unwrap().into_iter().map(|check| check.name).collect();
        let kinds = [
            "indexes",
            "tables",
            "rows",
            "facts",
            "schema_fingerprint",
            "sequences",
            "extensions",
            "collations",
            "newest",
            "smoke",
        ];
        assert_eq!(names, [&["n", "orphans", "indexes", "users"][..], &kinds[..]].concat());
    }

    #[test]
    fn of_one_database_only_its_own_conditions_are_judged() {
        let check = |name: &str, dbname: Option<&str>| SqlCheck {
            name: name.into(),
            sql: "SELECT 1".into(),
            expect: None,
            dbname: dbname.map(str::to_owned),
        };
        let checks = vec![check("unsaid", None), check("shop", Some("shop")), check("crm", Some("crm"))];
        let entry = Database { checks, dbname: "shop".into(), ..Database::default() };
        let names = |dbname: &str| {
            let items = params(serde_json::json!([{ "inventory": dbname }])).checks;
            planned(&items, &entry).unwrap().into_iter().map(|check| check.name).collect::<Vec<_>>()
        };
        assert_eq!(names("shop"), ["unsaid", "shop"]);
        assert_eq!((names("crm"), names("other")), (vec!["crm".to_owned()], vec![]));
    }

    #[test]
    fn a_check_that_could_not_fail_or_is_of_two_kinds_is_a_fault_at_its_place() {
        let params = params(serde_json::json!([
            { "foreign_keys": "all", "sql": "SELECT 1" }, { "sql": "SELECT 1", "expect": "many" }, { "name": "nothing" },
            { "tables": [] }, { "rows": {} }, { "rows": { "users": "some" } }, { "smoke": { "command": [] } },
            { "indexes": "valid", "expect": "> 0" } ]));
        let faults = planned(&params.checks, &Database::default()).unwrap_err();
        let places: Vec<String> = (0..8).map(|index| format!("/checks/{index}")).collect();
        assert_eq!(faults.iter().map(|fault| fault.path.clone()).collect::<Vec<_>>(), places);
    }
}
