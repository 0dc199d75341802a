//! Brings back tables that are gone, whole: what `pg_dump` writes of them in the copy, read by `psql` in one
//! transaction of the live database, and with it what went with them: foreign keys of other tables, views.
//!
//! `pg_restore -t` would leave out indexes and constraints; `pg_dump -t` does not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::apply::LOCK_WITHIN;
use super::dependent::Dependents;
use super::large_object::Objects;
use super::partition::Detached;
use super::shape::{Shape, texts};
use super::trail::{Doing, Trail};
use super::undo::{Script, refusing};
use super::{Orphans, order, partition, psql};
use crate::action::{ActionError, Files, RunContext};
use crate::actions::postgres::cluster::name::{ident, literal};
use crate::actions::postgres::session::client::{self, Client};
use crate::actions::postgres::session::connect::Session;
use crate::actions::postgres::session::{copying, integrity};

/// Everything that belongs to the tables in the copy: they, their partitions, and the views on them. A rule that refers to
/// them makes no other table a part of them.
pub(super) const FAMILY: &str = "WITH RECURSIVE tables AS (SELECT unnest(ARRAY[$]::oid[]) AS oid \
  UNION SELECT p.relid::oid FROM tables t, pg_partition_tree(t.oid) p), \
 family AS (SELECT oid FROM tables UNION SELECT r.ev_class FROM family f \
  JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = f.oid AND d.classid = 'pg_rewrite'::regclass \
  JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class v ON v.oid = r.ev_class AND v.relkind IN ('v', 'm')) \
 SELECT DISTINCT c.oid, format('%I.%I', n.nspname, c.relname), c.relkind FROM family f JOIN pg_class c ON c.oid = f.oid \
 JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY 3, 2";

/// Sequences that the tables' defaults use and nobody owns: `pg_dump -t` would leave them out.
const SEQUENCES: &str = "SELECT DISTINCT format('%I.%I', n.nspname, s.relname) FROM pg_attrdef ad \
 JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = ad.oid AND d.refclassid = 'pg_class'::regclass \
 JOIN pg_class s ON s.oid = d.refobjid AND s.relkind = 'S' JOIN pg_namespace n ON n.oid = s.relnamespace \
 WHERE ad.adrelid = ANY (ARRAY[$]::oid[]) AND NOT EXISTS (SELECT 1 FROM pg_depend o \
  WHERE o.classid = 'pg_class'::regclass AND o.objid = s.oid AND o.deptype IN ('a', 'i')) ORDER BY 1";

/// Foreign keys of other tables that lead here: they went with the table that was dropped.
const REFERENCES: &str = "SELECT format('%I.%I', n.nspname, r.relname), f.conname, pg_get_constraintdef(f.oid), r.relkind \
 FROM pg_constraint f JOIN pg_class r ON r.oid = f.conrelid JOIN pg_namespace n ON n.oid = r.relnamespace \
 WHERE f.contype = 'f' AND f.conparentid = 0 AND f.confrelid = ANY (ARRAY[$]::oid[]) \
 AND NOT f.conrelid = ANY (ARRAY[$]::oid[]) ORDER BY 1, 2";

const MATERIALIZED: &str = "MATERIALIZED VIEW";

/// A foreign key of another table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Lost {
    table: String,
    name: String,
    definition: String,
    partitioned: bool,
    /// Counts the rows without their parent.
    orphans: String,
}

impl Lost {
    /// Makes it again as `NOT VALID`, where its table takes such a key.
    fn making(&self) -> Option<String> {
        let Self { table, name, definition, partitioned, .. } = self;
        let unproven = if definition.ends_with(" NOT VALID") { "" } else { " NOT VALID" };
        (!partitioned).then(|| format!("ALTER TABLE {table} ADD CONSTRAINT {} {definition}{unproven}", ident(name)))
    }

    /// Proves what it says, as a block that keeps in `said` what does not hold; nothing where it was never proven.
    fn proof(&self, orphans: Orphans) -> Option<String> {
        let Self { table, name, definition, partitioned, orphans: counting } = self;
        let key = ident(name);
        let proven = match partitioned {
            true => format!("ALTER TABLE {table} ADD CONSTRAINT {key} {definition}"),
            false if definition.ends_with(" NOT VALID") => return None,
            false => format!("ALTER TABLE {table} VALIDATE CONSTRAINT {key}"),
        };
        let otherwise = match (orphans, partitioned) {
            (Orphans::Allow, false) => "NULL".to_owned(),
            (Orphans::Refuse, _) | (Orphans::Allow, true) => format!(
                "EXECUTE $count${counting}$count$ INTO n; said := said || format('; %s rows of %s (`%s`)', n, {}, {})",
                literal(table),
                literal(name)
            ),
        };
        Some(format!("BEGIN EXECUTE $key${proven}$key$; EXCEPTION WHEN foreign_key_violation THEN {otherwise}; END;"))
    }
}

/// How the server's words begin that name rows without a parent.
const PARENTLESS: &str = "rows have lost their parent: ";

/// The statements that make foreign keys again, and prove what they say unless orphans are allowed. All that do not hold are told.
fn keys(lost: &[Lost], orphans: Orphans) -> Vec<String> {
    let mut all: Vec<String> = lost.iter().filter_map(Lost::making).collect();
    let proofs: Vec<String> = lost.iter().filter_map(|one| one.proof(orphans)).collect();
    if !proofs.is_empty() {
        all.push(format!(
            "DO $runbook$ DECLARE n bigint; said text := ''; BEGIN {} IF said <> '' THEN RAISE EXCEPTION '{PARENTLESS}%', \
             substr(said, 3); END IF; END $runbook$",
            proofs.join(" ")
        ));
    }
    all
}

/// Says what `psql` could not make, and what to do.
fn unmade(error: ActionError, orphans: Orphans, (parents, gone): (&[String], &[Shape])) -> ActionError {
    let mut info = error.into_info();
    let parentless = info.output_tail.iter().find_map(|line| Some(line.split_once(PARENTLESS)?.1.to_owned()));
    let Some(found) = parentless else {
        let help = order::in_two_runs(&info.output_tail, parents, gone).map_or_else(
            || "nothing was made: everything was one transaction; the last lines say what it lacks".to_owned(),
            |help| format!("{help}; nothing was made: everything was one transaction"),
        );
        return ActionError::from(info).help(help);
    };
    info.message = format!("{PARENTLESS}{found}; nothing was made");
    ActionError::from(info).help(match orphans {
        Orphans::Refuse => {
            "`-p orphans=allow` (`orphans: allow` of the step) brings the tables back all the same and makes such a key NOT VALID, \
             so that it holds for new rows; else delete these rows, or give them another parent, first"
        }
        Orphans::Allow => {
            "a partitioned table takes no key that is NOT VALID: delete these rows, or give them another parent, first"
        }
    })
}

/// How tables are made again.
pub(super) struct Making<'a> {
    /// What becomes of rows of other tables that lost their parent.
    pub(super) orphans: Orphans,
    /// What is told of it when it is cancelled.
    pub(super) trail: &'a Trail,
    /// What takes it back.
    pub(super) script: &'a Script,
    /// What their rows refer to, and the live database lacks.
    pub(super) objects: &'a Objects,
    /// The copy that has it.
    pub(super) copy: &'a mut Session,
}

/// Tables that are gone, and what goes back with them.
pub(super) struct Gone {
    tables: Vec<Shape>,
    /// Everything that `pg_dump` is told to write.
    dumped: Vec<String>,
    views: Vec<(String, &'static str)>,
    references: Vec<Lost>,
    dependents: Dependents,
    detached: Vec<Detached>,
    /// The tables that their foreign keys lead to.
    parents: Vec<String>,
}

impl Gone {
    /// Looks in the copy for what belongs to the tables, and leaves out what the live database still has.
    ///
    /// # Errors
    /// Fails as a server says, or when a schema is gone as well.
    pub(super) async fn of(
        tables: Vec<Shape>,
        (copy, live): (&mut Session, &mut Session),
    ) -> Result<Self, ActionError> {
        let oids: Vec<String> = tables.iter().map(|table| table.oid.to_string()).collect();
        let family = copy.query(&FAMILY.replace('$', &oids.join(","))).await?;
        let (mut dumped, mut views, mut numbers, mut all) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for row in 0..family.rows.len() {
            let [Some(oid), Some(name), Some(kind)] = [0, 1, 2].map(|column| family.at(row, column)) else { continue };
            all.push(oid.to_owned());
            let view = match kind {
                "v" => Some("VIEW"),
                "m" => Some(MATERIALIZED),
                _ => None,
            };
            if view.is_none() {
                numbers.push(oid.to_owned());
            } else if there(live, name).await? {
                continue;
            }
            views.extend(view.map(|kind| (name.to_owned(), kind)));
            dumped.push(name.to_owned());
        }
        let numbers = numbers.join(",");
        for name in texts(copy, &SEQUENCES.replace('$', &numbers)).await? {
            if !there(live, &name).await? {
                dumped.push(name);
            }
        }
        let references = lost(&numbers, (&mut *copy, &mut *live)).await?;
        let detached = Detached::of(&oids.join(","), (&mut *copy, &mut *live)).await?;
        let parents = order::parents(&tables, copy).await?;
        let dependents = Dependents::of(all.join(","), (copy, live)).await?;
        Ok(Self { tables, dumped, views, references, dependents, detached, parents })
    }

    /// Makes them in the live database, in one transaction; the script that drops them again is written before.
    ///
    /// # Errors
    /// Fails as `pg_dump` or `psql` do; then nothing was made.
    pub(super) async fn recreate(
        &self,
        (copy, live): (&Client<'_>, &Client<'_>),
        dbname: &str,
        making: Making<'_>,
        cx: &RunContext,
    ) -> Result<(), ActionError> {
        let folder = Folder::make(cx)?;
        let (dump, after) = (folder.path.join("tables.sql"), folder.path.join("after.sql"));
        let file = |path: &Path| path.display().to_string();
        let tables = self.dumped.iter().map(|name| format!("--table={name}"));
        let spec = copy.command("pg_dump", dbname)?.arg("--no-password").args(tables);
        let mut scripts = match self.detached.is_empty() {
            true => {
                let spec = spec.args(["--format=plain".to_owned(), format!("--file={}", file(&dump))]);
                client::run(cx.host.as_ref(), spec).await?;
                vec![dump]
            }
            false => partition::write_detached(&self.detached, spec, (copy, cx), (&*folder.files, &dump)).await?,
        };
        let mut statements = vec![format!("SET lock_timeout = '{LOCK_WITHIN}'")];
        statements.extend(self.detached.iter().map(Detached::attach));
        statements.extend(keys(&self.references, making.orphans));
        statements.extend(self.dependents.statements());
        statements.extend(self.tables.iter().map(|table| format!("ANALYZE {}", table.name)));
        let text = statements.join(";\n") + ";\n";
        folder.files.replace(&after, text.as_bytes(), 0o600).map_err(|error| {
            ActionError::retryable(format!("`{}` cannot be written", after.display())).because(&error)
        })?;
        if !making.objects.is_none() {
            let large = folder.path.join("large.sql");
            let file = folder.files.create(&large, 0o600).map_err(|error| {
                ActionError::retryable(format!("`{}` cannot be written", large.display())).because(&error)
            })?;
            making.objects.write(file, making.copy).await?;
            scripts.insert(0, large);
        }
        let spec = live.command("psql", dbname)?.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "--single-transaction"]);
        scripts.push(after);
        let scripts = scripts.iter().flat_map(|script| ["-f".to_owned(), file(script)]);
        let spec = spec.args(["-o", "/dev/null"]).args(scripts);
        let made = making.trail.during((Doing::Making, Some(making.script.path())), psql(spec, cx)).await;
        made.map_err(|error| unmade(error, making.orphans, (&self.parents, &self.tables)))
    }

    /// Writes what drops them again, if nobody changed a row since.
    ///
    /// # Errors
    /// Fails when the script cannot be written or the copy does not answer.
    pub(super) async fn undo(
        &self,
        copy: &mut Session,
        (script, objects): (&Script, &Objects),
    ) -> Result<(), ActionError> {
        copy.query(copying::SAME_TEXT).await?;
        let mut all: Vec<String> = objects.guard().into_iter().collect();
        for table in &self.tables {
            let (state, name) = (state(table), &table.name);
            let then = copy.value(&state).await?;
            all.push(format!("LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE"));
            let differs = format!("SELECT count(*) FROM ({state}) AS x(state) WHERE state <> {}", literal(&then));
            all.push(refusing(&differs, &format!("change: the rows of {name} are not those that were brought back")));
        }
        for Lost { table, name, .. } in &self.references {
            all.push(format!("ALTER TABLE {table} DROP CONSTRAINT {}", ident(name)));
        }
        all.extend(self.dependents.removals());
        for kind in [MATERIALIZED, "VIEW"] {
            let names: Vec<&str> =
                self.views.iter().filter(|(_, own)| *own == kind).map(|(name, _)| name.as_str()).collect();
            if !names.is_empty() {
                all.push(format!("DROP {kind} {}", names.join(", ")));
            }
        }
        let names: Vec<&str> = self.tables.iter().map(|table| table.name.as_str()).collect();
        all.push(format!("DROP TABLE {}", names.join(", ")));
        all.extend(objects.removal());
        script.write_statements(&all)
    }

    /// Proves that the live tables have the rows of the copy. Gives the rows of each.
    ///
    /// # Errors
    /// Fails when they have others.
    pub(super) async fn prove(&self, (copy, live): (&mut Session, &mut Session)) -> Result<Vec<u64>, ActionError> {
        live.query(copying::SAME_TEXT).await?;
        copy.query(copying::SAME_TEXT).await?;
        let mut rows = Vec::new();
        for table in &self.tables {
            let (then, now) = (copy.value(&state(table)).await?, live.value(&state(table)).await?);
            let count = |state: &str| state.split(' ').next().unwrap_or_default().to_owned();
            if then != now {
                let fact = format!("{} has {} rows, and the copy {}, or others", table.name, count(&now), count(&then));
                return Err(
                    ActionError::fatal(fact).help("somebody has written to it since it is back; compare it again")
                );
            }
            rows.push(count(&now).parse().unwrap_or_default());
        }
        Ok(rows)
    }

    /// The foreign keys of other tables that were made again, for people.
    pub(super) fn references(&self) -> Vec<String> {
        self.references.iter().map(|lost| format!("{} on {}", lost.name, lost.table)).collect()
    }

    /// The views that were made again.
    pub(super) fn views(&self) -> Vec<String> {
        self.views.iter().map(|(name, _)| name.clone()).collect()
    }

    /// The materialized views among them.
    pub(super) fn materialized(&self) -> Vec<String> {
        let of_kind = self.views.iter().filter(|(_, kind)| *kind == MATERIALIZED);
        of_kind.map(|(name, _)| name.clone()).collect()
    }

    /// What hung on them.
    pub(super) fn dependents(&self) -> &Dependents {
        &self.dependents
    }

    /// The tables.
    pub(super) fn tables(&self) -> &[Shape] {
        &self.tables
    }
}

/// Tells whether a table of both databases has the same rows in the same columns. Without a key that is all that can be told.
///
/// # Errors
/// Fails as a server says.
pub(super) async fn is_same(
    then: &Shape,
    now: &Shape,
    (copy, live): &mut (Session, Session),
) -> Result<bool, ActionError> {
    let columns = |shape: &Shape| shape.columns.iter().map(|one| (one.name.clone(), one.kind.clone())).collect();
    let (before, after): (Vec<_>, Vec<_>) = (columns(then), columns(now));
    if before != after {
        return Ok(false);
    }
    copy.query(copying::SAME_TEXT).await?;
    live.query(copying::SAME_TEXT).await?;
    Ok(copy.value(&state(then)).await? == live.value(&state(now)).await?)
}

/// A statement that tells how many rows a table has, and a sum of their digests that no order changes.
fn state(table: &Shape) -> String {
    let columns: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
    format!(
        "SELECT count(*) || ' ' || coalesce(sum(('x' || left(md5(ROW({})::text), 15))::bit(60)::bigint::numeric), 0) FROM {}{}",
        columns.join(", "),
        table.only,
        table.name
    )
}

/// Tells whether the live database has something of this name.
pub(super) async fn there(live: &mut Session, name: &str) -> Result<bool, ActionError> {
    Ok(live.value(&format!("SELECT to_regclass({}) IS NOT NULL", literal(name))).await? == "t")
}

/// The foreign keys of tables that are still there, without those that they still have.
async fn lost(numbers: &str, (copy, live): (&mut Session, &mut Session)) -> Result<Vec<Lost>, ActionError> {
    copy.query("SET search_path = ''").await?;
    let found = copy.query(&REFERENCES.replace('$', numbers)).await?;
    let counting: BTreeMap<String, String> =
        integrity::foreign_keys_to(copy, &[]).await?.into_iter().map(|key| (key.name, key.orphans)).collect();
    let mut all = Vec::new();
    for row in 0..found.rows.len() {
        let text = |column| found.at(row, column).unwrap_or_default().to_owned();
        let (table, name) = (text(0), text(1));
        let orphans =
            counting.get(&format!("{name} on {table}")).cloned().unwrap_or_else(|| "SELECT NULL::bigint".to_owned());
        let lost = Lost { table, name, definition: text(2), partitioned: text(3) == "p", orphans };
        let wanted = format!(
            "SELECT to_regclass({0}) IS NOT NULL AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conrelid = to_regclass({0}) AND conname = {1})",
            literal(&lost.table),
            literal(&lost.name)
        );
        if live.value(&wanted).await? == "t" {
            all.push(lost);
        }
    }
    Ok(all)
}

/// A folder of the run's scratch place, gone when it is dropped.
struct Folder {
    files: std::sync::Arc<dyn Files>,
    path: PathBuf,
}

impl Folder {
    fn make(cx: &RunContext) -> Result<Self, ActionError> {
        let files = cx.host.files();
        let path = cx.about.scratch.join(format!("tables-{}", cx.step.to_string().replace('/', "+")));
        let cannot = |error: crate::action::HostError| {
            ActionError::retryable(format!("`{}` cannot be made", path.display())).because(&error)
        };
        if files.facts(&path).map_err(cannot)?.is_some() {
            files.remove_tree(&path).map_err(cannot)?;
        }
        files.create_dir(&path, 0o700).map_err(cannot)?;
        Ok(Self { files, path })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // It lies in the scratch place, which goes with the run.
        let _left = self.files.remove_tree(&self.path);
    }
}
