//! What comes back first, tables that are gone or rows of tables that are there: each is a transaction of its own.
//!
//! A table that is gone takes its foreign keys along, and they hold only where the rows are that they lead to. So rows come
//! first where such a key leads to their table. A partition that is gone comes before the rows of the whole: they are its rows.

use super::pair::Pair;
use super::shape::{Shape, texts};
use crate::action::ActionError;
use crate::actions::postgres::session::connect::Session;
use crate::actions::postgres::table::names::bare;

/// The tables beside those that are gone that the foreign keys of these lead to, with what they are partitions of and what are theirs.
const PARENTS: &str = "WITH gone(oid) AS (SELECT one FROM unnest(ARRAY[$]::oid[]) one \
  UNION SELECT t.relid FROM unnest(ARRAY[$]::oid[]) one, pg_partition_tree(one) t) \
 SELECT DISTINCT format('%I.%I', n.nspname, c.relname) FROM pg_constraint f CROSS JOIN LATERAL (SELECT f.confrelid \
  UNION SELECT relid FROM pg_partition_tree(f.confrelid) UNION SELECT relid FROM pg_partition_ancestors(f.confrelid)) p(oid) \
 JOIN pg_class c ON c.oid = p.oid JOIN pg_namespace n ON n.oid = c.relnamespace \
 WHERE f.contype = 'f' AND f.conrelid IN (SELECT oid FROM gone) AND f.confrelid NOT IN (SELECT oid FROM gone) ORDER BY 1";

/// What those that are gone are partitions of.
const WHOLES: &str = "SELECT DISTINCT format('%I.%I', n.nspname, c.relname) FROM unnest(ARRAY[$]::oid[]) one, \
 pg_partition_ancestors(one) a JOIN pg_class c ON c.oid = a.relid JOIN pg_namespace n ON n.oid = c.relnamespace \
 WHERE a.relid <> one ORDER BY 1";

/// How the server's words begin that name the table whose row is missing.
const ABSENT: &str = "is not present in table \"";

/// The tables that the foreign keys of tables that are gone lead to, by name.
///
/// # Errors
/// Fails as the copy says.
pub(super) async fn parents(gone: &[Shape], copy: &mut Session) -> Result<Vec<String>, ActionError> {
    texts(copy, &PARENTS.replace('$', &numbers(gone))).await
}

/// Whether rows of tables that are there come back before the tables that are gone.
///
/// # Errors
/// Fails as the copy says.
pub(super) async fn is_rows_first((pairs, gone): (&[Pair], &[Shape]), copy: &mut Session) -> Result<bool, ActionError> {
    let (parents, wholes) = (parents(gone, copy).await?, texts(copy, &WHOLES.replace('$', &numbers(gone))).await?);
    let is_among = |names: &[String]| pairs.iter().any(|pair| names.contains(&pair.copy.name));
    Ok(is_among(&parents) && !is_among(&wholes))
}

/// Says in which order runs bring back what one cannot, by the words of a server that missed the row that a key leads to.
pub(super) fn in_two_runs(said: &[String], parents: &[String], gone: &[Shape]) -> Option<String> {
    let absent = said.iter().find_map(|line| line.split_once(ABSENT)?.1.split('"').next())?;
    let is_it = |parent: &&String| bare(parent).rsplit_once('.').is_some_and(|(_, own)| own == bare(absent));
    let first = parents.iter().find(is_it)?;
    let then: Vec<&str> = gone.iter().map(|table| table.name.as_str()).collect();
    Some(format!(
        "rows of {first} that it refers to are gone: bring them back in two runs, first `-p 'tables={first}'`, then \
         `-p 'tables={}'`",
        then.join(",")
    ))
}

fn numbers(tables: &[Shape]) -> String {
    let oids: Vec<String> = tables.iter().map(|table| table.oid.to_string()).collect();
    oids.join(",")
}

#[cfg(test)]
mod tests {
    use super::{Shape, in_two_runs};

    #[test]
    fn the_order_of_two_runs_is_told_by_the_names_that_they_take() {
        let gone = Shape {
            oid: 1,
            name: "public.items".to_owned(),
            only: "ONLY ",
            columns: Vec::new(),
            key: Vec::new(),
            unlogged: Vec::new(),
        };
        let said = ["DETAIL:  Key (user_id)=(100) is not present in table \"users\".".to_owned()];
        let parents = ["public.power_users".to_owned(), "shop.users".to_owned()];
        let told = in_two_runs(&said, &parents, std::slice::from_ref(&gone)).unwrap_or_default();
        assert!(told.contains("first `-p 'tables=shop.users'`, then `-p 'tables=public.items'`"), "{told}");
        assert_eq!(in_two_runs(&["syntax error".to_owned()], &parents, &[gone]), None);
    }
}
