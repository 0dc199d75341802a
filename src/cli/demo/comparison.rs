//! The demo's verdict: every table held against what it was.

use super::super::{Exit, Failure};
use super::content::TABLES;

/// One table before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// How many rows it has now.
    pub rows: String,
    /// The hash of what it held.
    pub before: String,
    /// The hash of what it holds.
    pub after: String,
    /// Whether rows and hash are what they were.
    pub equal: bool,
}

/// Holds two fingerprints of the shop against each other. A table that either lacks is different.
pub fn compare(before: &str, after: &str) -> Vec<Table> {
    let find = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('|')?.split_once('|'));
        line.map(|(rows, hash)| (rows.to_owned(), hash.to_owned()))
    };
    let table = |name: &'static str| {
        let (old, new) = (find(before, name), find(after, name));
        let equal = old.is_some() && old == new;
        let shown = |found: Option<(String, String)>| found.unwrap_or_else(|| ("-".to_owned(), "-".to_owned()));
        let ((_, before), (rows, after)) = (shown(old), shown(new));
        Table { name, rows, before, after, equal }
    };
    TABLES.map(table).into()
}

/// Fails loudly when a table is not what it was.
pub fn verdict(tables: &[Table]) -> Result<(), Failure> {
    let wrong: Vec<&str> = tables.iter().filter(|table| !table.equal).map(|table| table.name).collect();
    if wrong.is_empty() && !tables.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Exit::Failed, format!("these tables did not come back as they were: {}", wrong.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::{compare, verdict};
    use crate::cli::Exit;

    const BEFORE: &str = "customers|10|111\norder_items|20|222\norders|30|333\nproducts|40|444\n";

    fn judged(after: &str) -> Result<(), String> {
        verdict(&compare(BEFORE, after)).map_err(|failure| {
            assert_eq!(failure.exit, Exit::Failed);
            failure.to_string()
        })
    }

    #[test]
    fn what_came_back_as_it_was_is_equal() {
        assert_eq!(judged(BEFORE), Ok(()));
        assert_eq!(
            compare(BEFORE, BEFORE).iter().map(|table| table.rows.as_str()).collect::<Vec<_>>(),
            ["10", "40", "30", "20"]
        );
    }

    #[test]
    fn a_missing_row_a_changed_one_and_a_missing_table_fail_the_demo_by_name() {
        let changes = [("30|333", "29|333"), ("30|333", "30|334"), ("orders|30|333\n", ""), ("30|333", "")];
        for (from, to) in changes {
            let told = judged(&BEFORE.replace(from, to)).expect_err(to);
            assert!(told.ends_with(": orders"), "{told}");
        }
        assert!(judged("").expect_err("nothing").contains("customers, products, orders, order_items"));
        assert!(verdict(&compare("", "")).is_err(), "nothing is not equal to nothing");
    }
}
