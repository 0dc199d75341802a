//! Large objects that rows refer to by their number, in columns of the types `oid` and `lo`: no table holds them, and whoever deletes
//! rows mostly unlinks them, by the trigger `lo_manage` or with `vacuumlo`. What the copy has of them and the live
//! database lacks comes back in the transaction of the rows, under its number, with its owner and its rights.
//!
//! A number of no large object of the copy is something else. One that the live database has is left as it is, whatever it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Write as _};

use super::compare::difference;
use super::pair::{OP, Pair};
use super::shape::{Shape, of, texts};
use super::undo::refusing;
use crate::action::ActionError;
use crate::actions::postgres::cluster::name::literal;
use crate::actions::postgres::session::connect::Session;
use crate::actions::postgres::session::copying;

/// The columns that hold numbers of large objects, or other ones.
const COLUMNS: &str = "SELECT quote_ident(a.attname) FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
 WHERE a.attrelid = $ AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND 'oid'::regtype IN (t.oid, t.typbasetype) \
 ORDER BY a.attnum";

/// What is known of large objects in the copy. The rights of the owner come with the ownership.
const FACTS: &str = "SELECT m.oid, s.size, #, quote_ident(pg_get_userbyid(m.lomowner)), \
  (SELECT json_agg(format('GRANT %s ON LARGE OBJECT %s TO %s%s', a.privilege_type, m.oid, \
    CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END, \
    CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)) FROM aclexplode(m.lomacl) a WHERE a.grantee <> m.lomowner) \
 FROM pg_largeobject_metadata m CROSS JOIN LATERAL (SELECT m.oid, coalesce((SELECT p.pageno::bigint \
   * (current_setting('block_size')::bigint / 4) + length(p.data) FROM pg_largeobject p WHERE p.loid = m.oid \
   ORDER BY p.pageno DESC LIMIT 1), 0) AS size) s WHERE m.oid = ANY ('{$}'::oid[]) ORDER BY m.oid";

/// A digest of the large object `s.oid` of `s.size` bytes, a piece at a time; one that has grown has another.
const DIGEST: &str = "(SELECT md5(string_agg(md5(pg_catalog.lo_get(s.oid, g, 1048576)), '' ORDER BY g)) \
 FROM generate_series(0::bigint, s.size, 1048576) g)";

/// The most that are taken away again in one transaction: each takes a lock that a server has room for some 6400 of by default
/// (`vacuumlo`, `--limit`).
const MOST_REMOVED: usize = 5000;

/// Where its content waits in the live database.
const PAGES: &str = "pg_temp.runbook_pages";

/// Which large objects rows refer to.
pub(super) struct Source {
    table: String,
    column: String,
    /// Gives their numbers, out of the copy.
    numbers: String,
}

/// A large object of the copy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Object {
    oid: String,
    size: String,
    digest: String,
    owner: String,
    rights: Vec<String>,
}

/// Large objects that rows refer to and the live database lacks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Objects {
    all: Vec<Object>,
    /// How many of them each column refers to.
    columns: Vec<(usize, String)>,
}

/// What the rows of a difference refer to that are inserted or overwritten.
///
/// # Errors
/// Fails as the copy says.
pub(super) async fn of_pair(
    (pair, number): (&Pair, usize),
    wanted: &str,
    copy: &mut Session,
) -> Result<Vec<Source>, ActionError> {
    let mut columns = texts(copy, &of(COLUMNS, pair.copy.oid)).await?;
    columns.retain(|column| pair.columns.iter().any(|one| one.name == *column));
    let source = |column: String| Source {
        numbers: format!("SELECT {column}::oid FROM {} WHERE {OP} IN ({wanted}) AND {OP} <> 'd'", difference(number)),
        table: pair.copy.name.clone(),
        column,
    };
    Ok(columns.into_iter().map(source).collect())
}

/// What the rows of a whole table refer to.
///
/// # Errors
/// Fails as the copy says.
pub(super) async fn of_table(table: &Shape, copy: &mut Session) -> Result<Vec<Source>, ActionError> {
    let source = |column: String| Source {
        numbers: format!("SELECT {column}::oid FROM {}{}", table.only, table.name),
        table: table.name.clone(),
        column,
    };
    Ok(texts(copy, &of(COLUMNS, table.oid)).await?.into_iter().map(source).collect())
}

/// Finds the numbers of large objects that the copy has and the live database lacks, with how many each column refers to.
async fn lacking(
    sources: &[Source],
    (copy, live): (&mut Session, &mut Session),
) -> Result<(Vec<(usize, String)>, BTreeSet<String>), ActionError> {
    let (mut columns, mut numbers) = (Vec::new(), BTreeSet::new());
    for Source { table, column, numbers: asked } in sources {
        let known = format!(
            "SELECT DISTINCT v.oid FROM ({asked}) v(oid) JOIN pg_largeobject_metadata m ON m.oid = v.oid ORDER BY 1"
        );
        let known = texts(copy, &known).await?.join(",");
        let lacking = format!(
            "SELECT one FROM unnest('{{{known}}}'::oid[]) one \
             WHERE NOT EXISTS (SELECT 1 FROM pg_largeobject_metadata m WHERE m.oid = one)"
        );
        let lacking = texts(live, &lacking).await?;
        if !lacking.is_empty() {
            columns.push((lacking.len(), format!("{table}.{column}")));
        }
        numbers.extend(lacking);
    }
    Ok((columns, numbers))
}

/// Says before anything is done which large objects are gone; nothing where none is.
///
/// # Errors
/// Fails as a server says.
pub(super) async fn ahead(
    sources: &[Source],
    sessions: (&mut Session, &mut Session),
) -> Result<Option<String>, ActionError> {
    let (columns, _) = lacking(sources, sessions).await?;
    Ok(told(&columns, "of the copy are gone, and come back with the rows"))
}

fn told(columns: &[(usize, String)], what: &str) -> Option<String> {
    let columns: Vec<String> =
        columns.iter().map(|(count, column)| format!("{count} that {column} refers to")).collect();
    (!columns.is_empty()).then(|| format!("large objects {what}: {}", columns.join(", ")))
}

impl Objects {
    /// Looks in the copy for the large objects, and leaves out what the live database has.
    ///
    /// # Errors
    /// Fails as a server says.
    pub(super) async fn of(
        sources: &[Source],
        (copy, live): (&mut Session, &mut Session),
    ) -> Result<Self, ActionError> {
        let (columns, numbers) = lacking(sources, (&mut *copy, live)).await?;
        if numbers.is_empty() {
            return Ok(Self::default());
        }
        let oids: Vec<String> = numbers.into_iter().collect();
        let found = copy.query(&FACTS.replace('#', DIGEST).replace('$', &oids.join(","))).await?;
        let object = |row: usize| {
            let text = |column| found.at(row, column).unwrap_or_default().to_owned();
            let rights = serde_json::from_str(&text(4)).unwrap_or_default();
            Object { oid: text(0), size: text(1), digest: text(2), owner: text(3), rights }
        };
        Ok(Self { all: (0..found.rows.len()).map(object).collect(), columns })
    }

    /// Whether there are none.
    pub(super) fn is_none(&self) -> bool {
        self.all.is_empty()
    }

    /// How many each column refers to, for people; nothing where there are none.
    pub(super) fn told(&self, what: &str) -> Option<String> {
        told(&self.columns, what)
    }

    /// Brings their content into a place of the live session.
    ///
    /// # Errors
    /// Fails as a server says.
    pub(super) async fn load(&self, (copy, live): (&mut Session, &mut Session)) -> Result<(), ActionError> {
        if self.is_none() {
            return Ok(());
        }
        live.query(&format!("CREATE TEMP TABLE {}", Self::place())).await?;
        copying::copy((copy, &self.content()), (live, &format!("COPY {PAGES} FROM STDIN"))).await.map(drop)
    }

    /// Writes them as a script that makes them, within a transaction of `psql`.
    ///
    /// # Errors
    /// Fails as the copy says, or when it cannot be written.
    pub(super) async fn write(&self, to: File, copy: &mut Session) -> Result<(), ActionError> {
        let mut to = BufWriter::new(to);
        let head = format!(
            "SET statement_timeout = 0;\nCREATE TEMP TABLE {} ON COMMIT DROP;\nCOPY {PAGES} FROM stdin;\n",
            Self::place()
        );
        to.write_all(head.as_bytes()).map_err(unwritten)?;
        copying::write((copy, &self.content()), &mut to, unwritten).await?;
        let text = self.making().join(";\n");
        to.write_all(format!("\\.\n{text};\n").as_bytes()).map_err(unwritten)?;
        to.flush().map_err(unwritten)
    }

    /// The statements that make them of what was loaded. Whoever owned them makes them: a change of the owner would take a lock
    /// for each. Where that role is gone, or ours may not act for it, they are our own: their rows need them.
    pub(super) fn making(&self) -> Vec<String> {
        if self.is_none() {
            return Vec::new();
        }
        let mut owned: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for object in &self.all {
            owned.entry(&object.owner).or_default().push(&object.oid);
        }
        let made = |(owner, oids): (&&str, &Vec<&str>)| {
            let create = format!("PERFORM pg_catalog.lo_create(one) FROM unnest('{{{}}}'::oid[]) one", oids.join(","));
            format!(
                "DO $large$ BEGIN BEGIN IF NOT pg_catalog.pg_has_role({owner}, 'USAGE') THEN RAISE insufficient_privilege; END IF; \
                 EXECUTE {set}; {create}; RESET ROLE; EXCEPTION WHEN insufficient_privilege OR undefined_object OR \
                 invalid_parameter_value THEN {create}; END; END $large$",
                owner = literal(&unquoted(owner)),
                set = literal(&format!("SET LOCAL ROLE {owner}")),
            )
        };
        let mut all: Vec<String> = owned.iter().map(made).collect();
        all.push(format!("DO $large$ BEGIN PERFORM pg_catalog.lo_put(loid, at, data) FROM {PAGES}; END $large$"));
        let rights: Vec<String> = self.all.iter().flat_map(|object| &object.rights).map(|one| literal(one)).collect();
        if !rights.is_empty() {
            // Whoever had a right may be gone.
            all.push(format!(
                "DO $large$ DECLARE one text; BEGIN FOREACH one IN ARRAY ARRAY[{}]::text[] LOOP BEGIN EXECUTE one; \
                 EXCEPTION WHEN undefined_object OR insufficient_privilege THEN NULL; END; END LOOP; END $large$",
                rights.join(", ")
            ));
        }
        all
    }

    /// Says how many of them belong to another role than in the copy; nothing where none does.
    ///
    /// # Errors
    /// Fails as the server says.
    pub(super) async fn others(&self, live: &mut Session) -> Result<Option<String>, ActionError> {
        if self.is_none() {
            return Ok(None);
        }
        let owners: Vec<String> = self.all.iter().map(|one| literal(&unquoted(&one.owner))).collect();
        let count = format!(
            "SELECT count(*) FROM unnest({}, ARRAY[{}]::text[]) AS s(oid, owner) JOIN pg_largeobject_metadata m ON m.oid = s.oid \
             WHERE pg_get_userbyid(m.lomowner) <> s.owner",
            self.oids(),
            owners.join(", ")
        );
        let count = live.value(&count).await?;
        Ok((count != "0").then(|| {
            format!(
                "{count} of them belong to this session's role: their owner is gone, or the role may not act for it"
            )
        }))
    }

    /// Counts those that are there and hold something else.
    pub(super) fn changed(&self) -> String {
        let list = |of: fn(&Object) -> &str| self.all.iter().map(of).collect::<Vec<_>>().join(",");
        format!(
            "SELECT count(*) FROM unnest({}, '{{{}}}'::bigint[], '{{{}}}'::text[]) AS s(oid, size, was) WHERE CASE WHEN \
             EXISTS (SELECT 1 FROM pg_catalog.pg_largeobject_metadata m WHERE m.oid = s.oid) THEN {DIGEST} <> s.was END",
            self.oids(),
            list(|one| &one.size),
            list(|one| &one.digest)
        )
    }

    /// The statement that stops a script where somebody has written to one since.
    pub(super) fn guard(&self) -> Option<String> {
        (!self.is_none()).then(|| refusing(&self.changed(), "large objects were changed since"))
    }

    /// The statement that takes them away again; none for so many that it would take more locks than there are.
    pub(super) fn removal(&self) -> Option<String> {
        (1..=MOST_REMOVED).contains(&self.all.len()).then(|| {
            format!(
                "DO $large$ BEGIN PERFORM pg_catalog.lo_unlink(m.oid) FROM pg_catalog.pg_largeobject_metadata m \
                 WHERE m.oid = ANY ({}); END $large$",
                self.oids()
            )
        })
    }

    /// Proves that the live database has them as the copy does.
    ///
    /// # Errors
    /// Fails when it has not.
    pub(super) async fn prove(&self, live: &mut Session) -> Result<(), ActionError> {
        if self.is_none() {
            return Ok(());
        }
        let there = format!("SELECT count(*) FROM pg_largeobject_metadata m WHERE m.oid = ANY ({})", self.oids());
        let (there, changed) = (live.value(&there).await?, live.value(&self.changed()).await?);
        if there != self.all.len().to_string() || changed != "0" {
            let fact = format!(
                "{} large objects were to come back, {there} are there, and {changed} of them hold something else",
                self.all.len()
            );
            return Err(ActionError::fatal(fact).help("nothing was changed"));
        }
        Ok(())
    }

    fn place() -> String {
        format!("{PAGES} (loid oid, at bigint, data bytea)")
    }

    /// Gives their content out of the copy.
    fn content(&self) -> String {
        format!(
            "COPY (SELECT loid, pageno::bigint * (current_setting('block_size')::bigint / 4), data FROM pg_largeobject \
             WHERE loid = ANY ({})) TO STDOUT",
            self.oids()
        )
    }

    fn oids(&self) -> String {
        let oids: Vec<&str> = self.all.iter().map(|one| one.oid.as_str()).collect();
        format!("'{{{}}}'::oid[]", oids.join(","))
    }
}

/// A name without the quotes that `quote_ident` put around it.
fn unquoted(name: &str) -> String {
    let inner = name.strip_prefix('"').and_then(|name| name.strip_suffix('"'));
    inner.map_or_else(|| name.to_owned(), |inner| inner.replace("\"\"", "\""))
}

fn unwritten(error: std::io::Error) -> ActionError {
    ActionError::retryable("the script that makes large objects cannot be written").because(&error)
}

#[cfg(test)]
mod tests {
    use super::{Object, Objects};

    #[test]
    fn each_owner_makes_its_own_and_nothing_is_done_for_none() {
        let one = Object {
            oid: "7".to_owned(),
            size: "3".to_owned(),
            digest: "d".to_owned(),
            owner: "\"the \"\"keeper\"".to_owned(),
            rights: vec!["GRANT SELECT ON LARGE OBJECT 7 TO clerk".to_owned()],
        };
        let two = Object { oid: "8".to_owned(), owner: "app".to_owned(), rights: Vec::new(), ..one.clone() };
        let objects = Objects { all: vec![one.clone(), two], columns: vec![(1, "public.pics.img".to_owned())] };
        let [theirs, apps, content, rights] = objects.making().try_into().expect("four statements");
        assert!(
            theirs.contains("unnest('{7}'::oid[])") && theirs.contains("pg_has_role('the \"keeper', 'USAGE')"),
            "{theirs}"
        );
        assert!(theirs.contains("EXECUTE 'SET LOCAL ROLE \"the \"\"keeper\"'"), "{theirs}");
        assert!(apps.contains("unnest('{8}'::oid[])") && content.contains("lo_put"), "{apps} {content}");
        assert!(rights.contains("'GRANT SELECT ON LARGE OBJECT 7 TO clerk'"), "{rights}");
        let many = Objects { all: vec![one; 5001], columns: Vec::new() };
        assert!(objects.removal().is_some() && many.removal().is_none() && many.guard().is_some());
        assert_eq!(
            objects.told("are back").as_deref(),
            Some("large objects are back: 1 that public.pics.img refers to")
        );
        let none = Objects::default();
        assert!(none.making().is_empty() && none.guard().is_none() && none.told("are back").is_none());
    }
}
