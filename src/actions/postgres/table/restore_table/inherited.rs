//! Tables that inherit from others (`INHERITS`, the partitions of old). Who deletes from the parent deletes their rows, and
//! who drops it drops them: so they come back with it. A key of the parent is none of theirs, and so each is compared by its own.
//!
//! What inherits since, and what does so no more, is left as it is, and that is told. A foreign table has its rows elsewhere.

use std::collections::BTreeSet;

use super::recreate::there;
use super::shape::{Shape, of, texts};
use crate::action::ActionError;
use crate::actions::postgres::session::connect::Session;

/// Everything that inherits from a table, over any number of steps, but for partitions.
const HEIRS: &str = "WITH RECURSIVE heirs(oid) AS (SELECT inhrelid FROM pg_inherits WHERE inhparent = $ \
  UNION SELECT i.inhrelid FROM pg_inherits i JOIN heirs h ON i.inhparent = h.oid) \
 SELECT format('%I.%I', n.nspname, c.relname) FROM heirs h JOIN pg_class c ON c.oid = h.oid \
 JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND NOT c.relispartition \
 AND c.relpersistence <> 't' ORDER BY 1";

/// What tables inherit from or are partitions of, where that is none of them nor one of their partitions.
const PARENTS: &str = "SELECT DISTINCT format('%I.%I', n.nspname, c.relname), format('%I.%I', pn.nspname, p.relname) \
 FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
 JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace \
 WHERE i.inhrelid = ANY (ARRAY[$]::oid[]) AND i.inhparent NOT IN (SELECT one FROM unnest(ARRAY[$]::oid[]) one \
  UNION SELECT t.relid FROM unnest(ARRAY[$]::oid[]) one, pg_partition_tree(one) t) ORDER BY 1, 2";

/// What to do about one whose rows cannot be told apart.
pub(super) const APART: &str = "it inherits from a table that is named, and is brought back with it unless it is as it was: \
 `ALTER TABLE … NO INHERIT …` has it left as it is (`… INHERIT …` makes it a part again afterwards); to have its copy whole, rename it after that \
 and name it as well; or name, in place of the parent, those that inherit from it and are wanted";

/// What comes along with tables that were named.
#[derive(Debug, Default)]
pub(super) struct Heirs {
    /// As they are in the copy.
    pub(super) tables: Vec<Shape>,
    /// What is left as it is, for people.
    pub(super) notes: Vec<String>,
}

impl Heirs {
    /// Looks in the copy for what inherits from the tables. What the live database has, it must have as an heir.
    ///
    /// # Errors
    /// Fails as a server says.
    pub(super) async fn of(
        (named, is_of_dump): (&[Shape], bool),
        (copy, live): &mut (Session, Session),
    ) -> Result<Self, ActionError> {
        let mut all = Self::default();
        let mut seen: BTreeSet<String> = named.iter().map(|one| one.name.clone()).collect();
        for parent in named {
            let then = heirs(copy, parent).await?;
            let now = match Shape::look(live, &parent.name).await? {
                Some(now) => Some(heirs(live, &now).await?),
                None => None,
            };
            for name in &then {
                let is_heir = now.as_ref().is_some_and(|now| now.contains(name));
                if seen.contains(name) {
                    continue;
                }
                if !is_heir && there(live, name).await? {
                    all.notes.push(left(name, &parent.name, now.is_none()));
                    continue;
                }
                let Some(heir) = Shape::look(copy, name).await? else { continue };
                seen.insert(name.clone());
                match heir.unlogged.is_empty() || is_of_dump {
                    true => all.tables.push(heir),
                    false => all.notes.push(format!(
                        "{name} inherits from {} and is UNLOGGED: no base backup and no WAL has its rows, so it is left as it is; a \
                         dump has them (`-p kind=postgres.dump`)",
                        parent.name
                    )),
                }
            }
            for name in now.into_iter().flatten().filter(|name| !then.contains(name) && !seen.contains(name)) {
                all.notes.push(format!("{name} inherits from {} since, so it is left as it is", parent.name));
            }
        }
        Ok(all)
    }
}

/// What inherits from a table, by name.
///
/// # Errors
/// Fails as the server says.
pub(super) async fn heirs(session: &mut Session, table: &Shape) -> Result<Vec<String>, ActionError> {
    texts(session, &of(HEIRS, table.oid)).await
}

/// Says what is there and inherits no more.
fn left(name: &str, parent: &str, is_parent_gone: bool) -> String {
    let again = match is_parent_gone {
        true => format!("; `ALTER TABLE {name} INHERIT {parent}` makes it a part of it again"),
        false => String::new(),
    };
    format!(
        "{name} inherited from {parent} in the copy and does not now, so it is left as it is: name it as well where its rows are \
         wanted{again}"
    )
}

/// Says of one that came along what there is to do.
pub(super) fn apart(error: ActionError) -> ActionError {
    error.help(format!("{APART}; nothing was changed"))
}

/// Refuses tables that cannot be made again since what they inherit from, or are a partition of, is gone as well.
///
/// # Errors
/// Fails where that is so, and as a server says.
pub(super) async fn refuse_parentless(
    gone: &[Shape],
    (copy, live): (&mut Session, &mut Session),
) -> Result<(), ActionError> {
    let oids: Vec<String> = gone.iter().map(|table| table.oid.to_string()).collect();
    let found = copy.query(&PARENTS.replace('$', &oids.join(","))).await?;
    for row in 0..found.rows.len() {
        let (Some(table), Some(parent)) = (found.at(row, 0), found.at(row, 1)) else { continue };
        if !there(live, parent).await? {
            let fact = format!("{table} is a part of {parent}, which is gone as well");
            return Err(ActionError::fatal(fact).help(format!(
                "name {parent} among the tables too: it is made first, and what is a part of it comes with it; nothing was changed"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::left;

    #[test]
    fn one_that_inherits_no_more_is_told_with_the_statement_that_makes_it_a_part_again_where_the_parent_was_dropped() {
        let kept = left("public.m_1", "public.m", false);
        assert!(kept.contains("public.m_1 inherited from public.m in the copy") && !kept.contains("ALTER"), "{kept}");
        assert!(left("public.m_1", "public.m", true).contains("`ALTER TABLE public.m_1 INHERIT public.m`"));
    }
}
