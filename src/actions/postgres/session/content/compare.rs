//! What differs between the facts of two databases.

use crate::catalog::{DatabaseFacts, TableFacts};

/// Tables that are named one by one; of more, their number is told.
const NAMED: usize = 20;

/// Says what differs, one fact per line; empty when nothing does. `expected` may know fewer tables (a partial dump
/// names its own only) and less of each: what it does not know is not compared.
pub(crate) fn differences(expected: &DatabaseFacts, found: &DatabaseFacts) -> Vec<String> {
    let mut told: Vec<String> = expected
        .tables
        .iter()
        .filter_map(|(name, expected)| match found.tables.get(name) {
            Some(found) => of_table(name, expected, found),
            None => Some(format!("table `{name}` with {} rows is missing", expected.rows)),
        })
        .collect();
    if let Some(schema) = expected.schema {
        let unknown = found.tables.keys().filter(|name| !expected.tables.contains_key(*name));
        told.extend(unknown.map(|name| format!("table `{name}` was not there before")));
        if found.schema.is_some_and(|found| found != schema) {
            told.push("the schema differs: a table, column, constraint, index, function, trigger or type".to_owned());
        }
    }
    told.extend(expected.materialized_views.iter().filter(|(_, rows)| **rows > 0).filter_map(|(name, rows)| {
        let empty = found.materialized_views.get(name).is_none_or(|found| *found == 0);
        empty.then(|| format!("materialized view `{name}` had {rows} rows and has none"))
    }));
    if let (Some(expected), Some(found)) = (expected.large_objects, found.large_objects)
        && expected != found
    {
        told.push(format!("there are {found} large objects, not {expected}"));
    }
    let more = told.len().saturating_sub(NAMED);
    if more > 0 {
        told.truncate(NAMED);
        told.push(format!("and {more} more differences"));
    }
    told
}

fn of_table(name: &str, expected: &TableFacts, found: &TableFacts) -> Option<String> {
    if expected.rows != found.rows {
        return Some(format!("table `{name}` has {} rows, not {}", found.rows, expected.rows));
    }
    match (&expected.hash, &found.hash) {
        (Some(expected), Some(found)) if expected != found => {
            Some(format!("table `{name}` has as many rows as before, but their content differs"))
        }
        (Some(_), None) => Some(format!("the content of table `{name}` was not hashed, so it cannot be compared")),
        (Some(_), Some(_)) | (None, Some(_) | None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::differences;
    use crate::base::Digest;
    use crate::catalog::{DatabaseFacts, TableFacts};

    fn facts(tables: &[(&str, u64, Option<&str>)]) -> DatabaseFacts {
        let table = |rows, hash: Option<&str>| TableFacts { rows, hash: hash.map(str::to_owned) };
        let tables = tables.iter().map(|(name, rows, hash)| ((*name).to_owned(), table(*rows, *hash))).collect();
        DatabaseFacts { tables, ..DatabaseFacts::default() }
    }

    #[test]
    fn what_differs_is_named_table_by_table() {
        let before = facts(&[("public.a", 3, Some("x")), ("public.b", 2, Some("y")), ("public.c", 1, None)]);
        assert!(differences(&before, &before).is_empty());
        let after = facts(&[("public.a", 2, Some("x")), ("public.b", 2, Some("z"))]);
        let told = differences(&before, &after);
        assert_eq!(told[0], "table `public.a` has 2 rows, not 3");
        assert!(told[1].contains("content differs"), "{told:?}");
        assert_eq!(told[2], "table `public.c` with 1 rows is missing");
    }

    #[test]
    fn what_was_not_looked_at_is_not_called_equal() {
        let told = differences(&facts(&[("public.a", 3, Some("x"))]), &facts(&[("public.a", 3, None)]));
        assert!(told[0].contains("cannot be compared"), "{told:?}");
    }

    #[test]
    fn other_tables_differ_only_where_the_whole_schema_was_known() {
        let (part, whole) = (facts(&[]), facts(&[("public.new", 0, None)]));
        assert!(differences(&part, &whole).is_empty());
        let known = DatabaseFacts { schema: Some(Digest::of(b"a")), ..part };
        let other = DatabaseFacts { schema: Some(Digest::of(b"b")), ..whole };
        assert_eq!(differences(&known, &other).len(), 2);
    }

    #[test]
    fn lost_large_objects_and_views_that_were_not_made_anew_are_named() {
        let with = |large, rows| DatabaseFacts {
            large_objects: large,
            materialized_views: [("public.m".to_owned(), rows)].into(),
            ..facts(&[])
        };
        assert!(differences(&with(Some(2), 3), &with(Some(2), 5)).is_empty(), "a restore makes views anew");
        assert!(differences(&with(None, 0), &with(Some(2), 0)).is_empty(), "what was not counted is not compared");
        assert_eq!(differences(&with(Some(2), 3), &with(Some(1), 0)).len(), 2);
    }

    #[test]
    fn a_flood_of_differences_is_cut_and_counted() {
        let names: Vec<String> = (0..30).map(|number| format!("public.t{number:02}")).collect();
        let before: Vec<(&str, u64, Option<&str>)> = names.iter().map(|name| (name.as_str(), 1, None)).collect();
        let told = differences(&facts(&before), &facts(&[]));
        assert_eq!((told.len(), told[20].as_str()), (21, "and 10 more differences"));
    }
}
