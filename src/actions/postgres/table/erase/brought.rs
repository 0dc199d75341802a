//! The tables that were brought back, as the server knows them: by number, so that no way to write a name counts, with their
//! partitions and with what they are partitions of.

use std::collections::{BTreeMap, BTreeSet};

use super::table::written;
use crate::action::ActionError;
use crate::actions::postgres::cluster::name::literal;
use crate::actions::postgres::session::connect::Session;

/// The named tables with what inherits from them; then what they inherit from, each with the named table that it stands around.
const FAMILY: &str = "WITH RECURSIVE named(oid) AS (SELECT one::oid FROM unnest(ARRAY[$]::regclass[]) one WHERE one IS NOT NULL), \
 low(oid) AS (SELECT oid FROM named UNION SELECT i.inhrelid FROM pg_inherits i JOIN low ON i.inhparent = low.oid), \
 high(oid, part) AS (SELECT oid, oid FROM named UNION SELECT i.inhparent, high.part FROM pg_inherits i JOIN high ON i.inhrelid = high.oid) \
 SELECT oid, NULL::oid FROM low UNION SELECT oid, part FROM high WHERE oid NOT IN (SELECT oid FROM low) ORDER BY 1, 2";

/// Which rows a restore brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Brought {
    /// All: nobody named tables.
    All,
    /// Those of some tables.
    Of {
        /// The named tables, and what inherits from them.
        within: BTreeSet<u32>,
        /// What the named tables are a part of, with those parts.
        around: BTreeMap<u32, Vec<u32>>,
    },
}

impl Brought {
    /// Looks at the named tables; those that are not there brought nothing.
    ///
    /// # Errors
    /// Fails as the server says.
    pub(super) async fn of(session: &mut Session, tables: &[String]) -> Result<Self, ActionError> {
        if tables.is_empty() {
            return Ok(Self::All);
        }
        let named: Vec<String> =
            tables.iter().map(|table| format!("to_regclass({})", literal(&written(table)))).collect();
        let found = session.query(&FAMILY.replace('$', &named.join(", "))).await?;
        let (mut within, mut around) = (BTreeSet::new(), BTreeMap::<u32, Vec<u32>>::new());
        for row in 0..found.rows.len() {
            let number = |column| found.at(row, column).and_then(|oid| oid.parse::<u32>().ok());
            match (number(0), number(1)) {
                (Some(oid), None) => drop(within.insert(oid)),
                (Some(oid), Some(part)) => around.entry(oid).or_default().push(part),
                (None, _) => {}
            }
        }
        Ok(Self::Of { within, around })
    }

    /// Tells which tables hold the rows of a table that came back: itself, or parts of it, or none.
    pub(super) fn parts_of(&self, oid: u32) -> Vec<u32> {
        match self {
            Self::All => vec![oid],
            Self::Of { within, .. } if within.contains(&oid) => vec![oid],
            Self::Of { around, .. } => around.get(&oid).cloned().unwrap_or_default(),
        }
    }
}
