//! Partitions that are gone while the table that they were part of is still there.
//!
//! `pg_dump` attaches a partition before it makes its keys and indexes, and lets the whole table's find them later. Where the
//! whole table is there already it makes them itself as it takes the partition, and the second primary key is an error. So
//! such a partition is made by itself, and attached at the end: the whole table takes the indexes that it finds (manual,
//! `ALTER TABLE`, `ATTACH PARTITION`).
//!
//! Since 14 `pg_dump` has an entry of its own for that, which is left out of the list. Before, the statement stands in the entry
//! of the table itself, in the same words, and is taken out of the script.

use std::path::{Path, PathBuf};

use super::recreate::there;
use crate::action::{ActionError, CommandSpec, Files, HostError, RunContext};
use crate::actions::postgres::cluster::name::literal;
use crate::actions::postgres::session::client::{self, Client};
use crate::actions::postgres::session::connect::Session;

/// Where partitions belong, and what they hold.
const PARTITIONS: &str = "SELECT n.nspname, c.relname, format('%I.%I', n.nspname, c.relname), \
 format('%I.%I', pn.nspname, p.relname), pg_get_expr(c.relpartbound, c.oid) \
 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_inherits i ON i.inhrelid = c.oid \
 JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace \
 WHERE c.relispartition AND c.oid = ANY (ARRAY[$]::oid[]) ORDER BY 3";

/// The indexes of a table, by their schemas and names.
const INDEXES: &str = "SELECT n.nspname, c.relname FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid \
 JOIN pg_namespace n ON n.oid = c.relnamespace WHERE x.indrelid = to_regclass($) ORDER BY 1, 2";

/// How long a list of what a dump holds can be, and the script that makes it without its rows, in bytes.
const LIST_AT_MOST: u64 = 64 << 20;

/// A partition whose whole table is there.
pub(super) struct Detached {
    /// `schema.name`, quoted.
    name: String,
    /// The whole table, quoted.
    whole: String,
    /// `FOR VALUES …` or `DEFAULT`.
    bound: String,
    /// How the entries of a dump begin that attach it, the first one, or its indexes.
    entries: Vec<String>,
}

impl Detached {
    /// Looks in the copy which of the tables are partitions of what the live database has.
    ///
    /// # Errors
    /// Fails as a server says.
    pub(super) async fn of(
        numbers: &str,
        (copy, live): (&mut Session, &mut Session),
    ) -> Result<Vec<Self>, ActionError> {
        let found = copy.query(&PARTITIONS.replace('$', numbers)).await?;
        let mut all = Vec::new();
        for row in 0..found.rows.len() {
            let text = |column| found.at(row, column).unwrap_or_default().to_owned();
            let [schema, table, name, whole, bound] = [0, 1, 2, 3, 4].map(text);
            if !there(live, &whole).await? {
                continue;
            }
            let indexes = copy.query(&INDEXES.replace('$', &literal(&name))).await?;
            let index = |row| Some(entry("INDEX", indexes.at(row, 0)?, indexes.at(row, 1)?));
            let mut entries = vec![entry("TABLE", &schema, &table)];
            entries.extend((0..indexes.rows.len()).filter_map(index));
            all.push(Self { name, whole, bound, entries });
        }
        Ok(all)
    }

    /// The statement that makes it a part again.
    pub(super) fn attach(&self) -> String {
        format!("ALTER TABLE {} ATTACH PARTITION {} {}", self.whole, self.name, self.bound)
    }

    /// Whether a dump has an entry of its own that attaches it, by its list.
    fn has_entry(&self, list: &str) -> bool {
        self.entries.first().is_some_and(|entry| list.lines().any(|line| line.contains(entry.as_str())))
    }

    /// The same as `pg_dump` writes it, with the line before it.
    fn dumped(&self) -> String {
        format!("\nALTER TABLE ONLY {} ATTACH PARTITION {} {};\n", self.whole, self.name, self.bound)
    }
}

/// What the list of a dump says of an entry that attaches something.
fn entry(kind: &str, schema: &str, name: &str) -> String {
    format!(" {kind} ATTACH {schema} {name} ")
}

/// Dumps tables as `spec` says into scripts that attach none of these partitions, and gives them in their order.
///
/// # Errors
/// Fails as `pg_dump` and `pg_restore` do, and where a partition is attached in other words than are known.
pub(super) async fn write_detached(
    detached: &[Detached],
    spec: CommandSpec,
    (copy, cx): (&Client<'_>, &RunContext),
    (files, script): (&dyn Files, &Path),
) -> Result<Vec<PathBuf>, ActionError> {
    let (dump, list) = (script.with_extension("dump"), script.with_extension("list"));
    let file = |path: &Path| format!("--file={}", path.display());
    let spec = spec.args(["--format=custom".to_owned(), "--compress=0".to_owned(), file(&dump)]);
    client::run(cx.host.as_ref(), spec).await?;
    let restore = || copy.offline("pg_restore");
    let shown = dump.display().to_string();
    client::run(cx.host.as_ref(), restore().args(["--list".to_owned(), file(&list), shown.clone()])).await?;
    let cannot = |error: HostError| ActionError::retryable("the list of a dump cannot be worked on").because(&error);
    let text = files.read(&list, LIST_AT_MOST).map_err(cannot)?;
    let text = String::from_utf8_lossy(&text);
    let is_kept =
        |line: &&str| !detached.iter().flat_map(|one| &one.entries).any(|entry| line.contains(entry.as_str()));
    let kept: String = text.lines().filter(is_kept).map(|line| format!("{line}\n")).collect();
    files.replace(&list, kept.as_bytes(), 0o600).map_err(cannot)?;
    let written = |path: &Path, sections: &[&str]| {
        let sections = sections.iter().map(|section| format!("--section={section}"));
        let words = [format!("--use-list={}", list.display()), file(path)];
        restore().args(words.into_iter().chain(sections).chain([shown.clone()]))
    };
    let within: Vec<&Detached> = detached.iter().filter(|one| !one.has_entry(&text)).collect();
    if within.is_empty() {
        client::run(cx.host.as_ref(), written(script, &[])).await?;
        return Ok(vec![script.to_owned()]);
    }
    // Rows may be many, and whatever they say is no statement: only what stands before them is worked on.
    let rest = script.with_extension("rest.sql");
    client::run(cx.host.as_ref(), written(script, &["pre-data"])).await?;
    client::run(cx.host.as_ref(), written(&rest, &["data", "post-data"])).await?;
    let text = files.read(script, LIST_AT_MOST).map_err(cannot)?;
    let text = String::from_utf8(text).map_err(|error| {
        ActionError::fatal("a partition is attached by a script that is no UTF-8 text").because(&error)
    })?;
    files.replace(script, without_attach(text, &within)?.as_bytes(), 0o600).map_err(cannot)?;
    Ok(vec![script.to_owned(), rest])
}

/// Takes the statements out of a script that attach partitions.
///
/// # Errors
/// Fails where one does not stand there once, in the words that are known.
fn without_attach(mut text: String, within: &[&Detached]) -> Result<String, ActionError> {
    for one in within {
        let statement = one.dumped();
        if text.matches(&statement).count() != 1 {
            let fact = format!("`pg_dump` attaches {} in other words than are known; nothing was made", one.name);
            return Err(ActionError::fatal(fact).help(
                "a `pg_dump` of PostgreSQL 14 or newer tells it apart: name its folder as `bin` of the database",
            ));
        }
        text = text.replace(&statement, "\n");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
    use super::{Detached, without_attach};

    #[test]
    fn what_a_table_s_own_entry_attaches_is_taken_out_once_and_nothing_else() {
        let bound = "FOR VALUES IN ('a\nb', 'select')".to_owned();
        let one = Detached {
            name: "\"Odd S\".\"pp 2\"".to_owned(),
            whole: "public.pp".to_owned(),
            bound,
            entries: vec![" TABLE ATTACH Odd S pp 2 ".to_owned()],
        };
        let made = "CREATE TABLE \"Odd S\".\"pp 2\" (\n    id integer NOT NULL\n);\n";
        let attach =
            "ALTER TABLE ONLY public.pp ATTACH PARTITION \"Odd S\".\"pp 2\" FOR VALUES IN ('a\nb', 'select');\n";
        let owner = "\n\nALTER TABLE \"Odd S\".\"pp 2\" OWNER TO postgres;\n";
        let script = format!("{made}{attach}{owner}");
        assert_eq!(without_attach(script.clone(), &[&one]).unwrap(), format!("{made}{owner}"));
        assert!(without_attach(format!("{made}{owner}"), &[&one]).is_err(), "it would be attached too early");
        assert!(without_attach(format!("{script}{attach}"), &[&one]).is_err());
        assert!(one.has_entry("2797; 0 0 TABLE ATTACH Odd S pp 2 postgres\n"));
        assert!(!one.has_entry("202; 1259 16390 TABLE Odd S pp 2 postgres\n"));
    }
}
