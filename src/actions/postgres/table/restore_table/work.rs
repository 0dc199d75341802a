//! One comparison, and what is applied of it.

use super::apply::{Application, Done};
use super::compare::{self, Difference};
use super::inherited::{self, Heirs};
use super::lacking;
use super::large_object::{self, Objects, Source};
use super::needed;
use super::order;
use super::pair::Pair;
use super::params::{RestoreTableMode, RestoreTableOutput, RestoreTableParams, TableOutcome, TableState};
use super::recreate::{self, Gone, Making};
use super::refreshed;
use super::shape::{Shape, qualified};
use super::trail::Trail;
use super::undo::{self, ROWS, ROWS_BEFORE, Script, TABLES, TableUndo, UndoScript};
use super::{ApplyMode, Orphans, major};
use crate::action::{ActionError, RunContext};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::name::literal;
use crate::actions::postgres::session::client::Client;
use crate::actions::postgres::session::connect::{Endpoint, Refusal, Session};
use crate::actions::postgres::session::integrity::{self, ForeignKey};
use crate::actions::postgres::session::subscription;
use crate::actions::postgres::side::record::Record;
use crate::event::Progress;

/// Where the rows of an unlogged table are.
pub(super) const UNLOGGED: &str =
    "leave it out of `tables`; a dump has its rows: take the side instance of a dump (`-p kind=postgres.dump`)";

/// Both databases, and what is to be done.
pub(super) struct Work<'a> {
    params: &'a RestoreTableParams,
    trail: &'a Trail,
    cx: &'a RunContext,
    live: &'a Cluster,
    copy: Cluster,
    sessions: (Session, Session),
    pairs: Vec<Pair>,
    gone: Vec<Shape>,
    /// Without a key, and as a whole what the copy has.
    same: Vec<Shape>,
    /// Materialized views that came back with other rows than those of the copy.
    refreshed: Vec<String>,
}

impl<'a> Work<'a> {
    /// Opens both databases and looks at the tables.
    ///
    /// # Errors
    /// Fails when the instance is no side instance, or the copy lacks a table.
    pub(super) async fn begin(
        (params, trail): (&'a RestoreTableParams, &'a Trail),
        live: &'a Cluster,
        cx: &'a RunContext,
    ) -> Result<Self, ActionError> {
        let missing = || ActionError::fatal("`instance` is missing: the side instance that the tables are taken from");
        let handle = params.instance.as_ref().ok_or_else(missing)?.get()?;
        let copy = live.clone().serving(handle, &cx.about.scratch)?;
        if copy.side.is_none() {
            let fact = format!("the instance is database `{}` itself, not a copy of it", live.name);
            return Err(ActionError::fatal(fact).help("give the output `instance` of `postgres.side_instance`"));
        }
        let secrets = cx.about.secrets.as_ref();
        let user = subscription::superuser(&copy, secrets).await?;
        let copy = Cluster { user, ..copy };
        let dbname = Some(params.dbname(live));
        let entered = Endpoint::of(live, dbname, secrets)?.ask().await.map_err(|(refusal, error)| match refusal {
            Some(Refusal::Database) => error.help(lacking::without_database(params.dbname(live))),
            Some(Refusal::Login | Refusal::Session) | None => error,
        })?;
        let mut sessions = (Endpoint::of(&copy, dbname, secrets)?.open().await?, entered);
        let is_of_dump = Record::of(&copy, cx.host.read_files().as_ref()).is_some_and(|record| record.is_of_dump());
        let mut named: Vec<Shape> = Vec::new();
        for table in &params.tables {
            let Some(then) = Shape::look(&mut sessions.0, table).await? else {
                let inside = params.dbname(live);
                let fact = format!("the copy has no table `{}` in its database `{inside}`", qualified(table));
                return Err(ActionError::fatal(fact).help(lacking::in_copy(table, &mut sessions.0).await?));
            };
            if !then.unlogged.is_empty() && !is_of_dump {
                let names = then.unlogged.join(", ");
                let fact = format!("{names} is UNLOGGED: no base backup and no WAL has its rows, so the copy has none");
                return Err(ActionError::fatal(fact).help(UNLOGGED));
            }
            if named.iter().all(|one| one.oid != then.oid) {
                named.push(then);
            }
        }
        let heirs = Heirs::of((&named, is_of_dump), &mut sessions).await?;
        for note in heirs.notes {
            cx.reporter.note(note, serde_json::Value::Null);
        }
        let (mut pairs, mut gone, mut same) = (Vec::new(), Vec::new(), Vec::new());
        for (then, is_heir) in
            named.into_iter().map(|one| (one, false)).chain(heirs.tables.into_iter().map(|one| (one, true)))
        {
            match Shape::look(&mut sessions.1, &then.name).await? {
                Some(now) if now.key.is_empty() && recreate::is_same(&then, &now, &mut sessions).await? => {
                    same.push(then);
                }
                Some(now) => pairs.push(Pair::of(then, now).map_err(|error| match is_heir {
                    true => inherited::apart(error),
                    false => error,
                })?),
                None => gone.push(then),
            }
        }
        inherited::refuse_parentless(&gone, (&mut sessions.0, &mut sessions.1)).await?;
        Ok(Self { params, trail, cx, live, copy, sessions, pairs, gone, same, refreshed: Vec::new() })
    }

    /// Compares, and applies when it was asked for.
    ///
    /// # Errors
    /// Fails without having changed anything, but for tables that were brought back whole before; the message says so.
    pub(super) async fn run(mut self) -> Result<RestoreTableOutput, ActionError> {
        let (copy, live) = (&mut self.sessions.0, &mut self.sessions.1);
        compare::begin(copy, live).await?;
        let mut outcomes = Vec::new();
        for (number, pair) in self.pairs.iter().enumerate() {
            let text = format!("comparing {}", pair.live.name);
            self.cx.reporter.progress(Progress::Doing { text });
            let difference = compare::table((&mut *copy, &mut *live), (pair, number), self.params.samples()).await?;
            let rows = rows(copy, &pair.copy).await?;
            outcomes.push(outcome(&pair.live.name, TableState::There, rows, Some(difference)));
        }
        live.query("ROLLBACK").await?;
        for table in &self.gone {
            let rows = rows(copy, table).await?;
            outcomes.push(outcome(&table.name, TableState::Gone, rows, None));
        }
        for table in &self.same {
            let rows = rows(copy, table).await?;
            outcomes.push(outcome(&table.name, TableState::There, rows, Some(Difference::default())));
        }
        self.tell(&outcomes);
        let needed = self.needed().await?;
        match (self.params.mode, needed) {
            (RestoreTableMode::Compare | RestoreTableMode::Revert, needed) => {
                if let Some((fact, help)) = needed {
                    // A step that comes between may make it; the one that brings the tables back fails otherwise.
                    self.cx.reporter.note(format!("{fact}; {help}"), serde_json::Value::Null);
                }
                self.tell_refreshed_ahead().await?;
                let mut sources = self.sources("'i', 'u'").await?;
                sources.extend(self.sources_of_gone().await?);
                let sessions = (&mut self.sessions.0, &mut self.sessions.1);
                if let Some(message) = large_object::ahead(&sources, sessions).await? {
                    self.cx.reporter.note(message, serde_json::Value::Null);
                }
                Ok(output(outcomes, None))
            }
            (RestoreTableMode::Apply, Some((fact, help))) => {
                Err(ActionError::fatal(format!("{fact}; nothing was changed")).help(help))
            }
            (RestoreTableMode::Apply, None) => self.apply(outcomes).await,
        }
    }

    /// Which large objects the rows of the differences refer to.
    async fn sources(&mut self, wanted: &str) -> Result<Vec<Source>, ActionError> {
        let mut sources = Vec::new();
        for (number, pair) in self.pairs.iter().enumerate() {
            sources.extend(large_object::of_pair((pair, number), wanted, &mut self.sessions.0).await?);
        }
        Ok(sources)
    }

    /// Which ones the rows of the tables that are gone refer to.
    async fn sources_of_gone(&mut self) -> Result<Vec<Source>, ActionError> {
        let mut sources = Vec::new();
        for table in &self.gone {
            sources.extend(large_object::of_table(table, &mut self.sessions.0).await?);
        }
        Ok(sources)
    }

    /// Says before anything is done that materialized views do not come back as they were.
    async fn tell_refreshed_ahead(&mut self) -> Result<(), ActionError> {
        if self.gone.is_empty() {
            return Ok(());
        }
        let (copy, live) = (&mut self.sessions.0, &mut self.sessions.1);
        let names = refreshed::coming(&self.gone, (copy, live)).await?;
        if let Some(message) = refreshed::ahead(&names) {
            self.cx.reporter.note(message, serde_json::json!({ "materialized_views": names }));
        }
        Ok(())
    }

    /// What the tables that are gone are made of and the live database lacks, with what to do about it.
    async fn needed(&mut self) -> Result<Option<(String, String)>, ActionError> {
        if self.gone.is_empty() {
            return Ok(None);
        }
        let (copy, live) = (&mut self.sessions.0, &mut self.sessions.1);
        let lacking = needed::lacking(&self.gone, (copy, &mut *live)).await?;
        if lacking.is_empty() {
            return Ok(None);
        }
        let major = major(live).await?;
        Ok(Some(needed::told(&lacking, (&self.copy, self.params.dbname(self.live)), &major, self.cx).await))
    }

    async fn apply(mut self, mut outcomes: Vec<TableOutcome>) -> Result<RestoreTableOutput, ActionError> {
        for pair in &self.pairs {
            if !pair.lost.is_empty() {
                let fact = format!(
                    "the live {} has no column {} any more, so its values would be lost",
                    pair.live.name,
                    pair.lost.join(", ")
                );
                return Err(ActionError::fatal(fact)
                    .help("add it again, or rename the live table and bring the copy back whole"));
            }
        }
        let mode = self.params.apply();
        self.keeps_what_came_since(mode, &outcomes)?;
        let files = self.cx.host.read_files();
        let earlier = undo::earlier(files.as_ref(), &self.cx.attempt_dir, &[ROWS, TABLES, ROWS_BEFORE]);
        let wanted: u64 = outcomes.iter().filter_map(|one| one.difference.as_ref()).map(|found| mode.rows(found)).sum();
        let mut has_tables = !self.gone.is_empty();
        let is_rows_first =
            wanted > 0 && has_tables && order::is_rows_first((&self.pairs, &self.gone), &mut self.sessions.0).await?;
        // What came last is taken back first.
        let mut scripts = Vec::new();
        if is_rows_first {
            scripts.push(self.change((ROWS_BEFORE, mode), &mut outcomes).await?);
        }
        if has_tables {
            let made = self.recreate(&mut outcomes).await;
            let made =
                made.map_err(|error| partly(error, "the rows that were to come back first have, and", &scripts))?;
            scripts.insert(0, made);
        }
        if wanted > 0 && !is_rows_first {
            let done = self.change((ROWS, mode), &mut outcomes).await;
            let done = done.map_err(|error| partly(error, "the tables that were gone are back and", &scripts))?;
            scripts.insert(0, done);
        }
        // An attempt whose commit nobody heard of has done its part all the same, and this one found only the rest. Tables that
        // this one made, no earlier one did.
        for script in earlier {
            let counts = match script.path.ends_with(TABLES) {
                true => !std::mem::replace(&mut has_tables, true),
                false => undo::counts(files.as_ref(), &script.path, &mut self.sessions.1).await,
            };
            scripts.extend(counts.then_some(script));
        }
        let undo = (!scripts.is_empty()).then(|| TableUndo {
            database: self.live.name.clone(),
            dbname: self.params.dbname(self.live).to_owned(),
            scripts,
        });
        let not_valid = self.unproven(&outcomes).await.unwrap_or_else(|error| {
            self.untold("which foreign keys are NOT VALID is not known", &error);
            Vec::new()
        });
        Ok(RestoreTableOutput { not_valid, refreshed: self.refreshed, ..output(outcomes, undo) })
    }

    /// Brings rows back into the tables that are there.
    async fn change(
        &mut self,
        (name, mode): (&str, ApplyMode),
        outcomes: &mut [TableOutcome],
    ) -> Result<UndoScript, ActionError> {
        let sources = self.sources(mode.wanted()).await?;
        let objects = Objects::of(&sources, (&mut self.sessions.0, &mut self.sessions.1)).await?;
        let script = Script::new(self.cx.host.files(), &self.cx.attempt_dir, name);
        let application = Application { pairs: &self.pairs, mode, objects: &objects, trail: self.trail };
        let done = application.run((&mut self.sessions.0, &mut self.sessions.1), &script).await?;
        // The outcomes of the pairs come first.
        for (outcome, done) in outcomes.iter_mut().zip(done) {
            let Done { inserted, updated, deleted, .. } = done;
            *outcome = TableOutcome { inserted, updated, deleted, ..outcome.clone() };
            let message = format!("{}: {inserted} rows inserted, {updated} updated, {deleted} deleted", outcome.table);
            self.cx.reporter.note(message, serde_json::json!({ "sequences_moved": done.sequences }));
        }
        self.tell_large(&objects).await?;
        script.finish()
    }

    /// Refuses to delete rows that hold more than the copy knows: no script could bring that back.
    fn keeps_what_came_since(&self, mode: ApplyMode, outcomes: &[TableOutcome]) -> Result<(), ActionError> {
        // The outcomes of the pairs come first.
        for (pair, outcome) in self.pairs.iter().zip(outcomes) {
            let gained = pair.gained();
            let deletes = outcome.difference.as_ref().is_some_and(|found| found.extra > 0);
            if mode == ApplyMode::Mirror && deletes && !gained.is_empty() {
                let columns = gained.join(", ");
                let fact =
                    format!("{} got the column {columns} since: rows that are deleted would lose it", pair.live.name);
                return Err(ActionError::fatal(fact)
                    .help("say `apply: changed`, or delete those rows by hand; nothing was changed"));
            }
        }
        Ok(())
    }

    /// Brings the tables back that are gone.
    async fn recreate(&mut self, outcomes: &mut [TableOutcome]) -> Result<UndoScript, ActionError> {
        let sources = self.sources_of_gone().await?;
        let (copy, live) = (&mut self.sessions.0, &mut self.sessions.1);
        let objects = Objects::of(&sources, (&mut *copy, &mut *live)).await?;
        let gone = Gone::of(std::mem::take(&mut self.gone), (&mut *copy, &mut *live)).await?;
        let script = Script::new(self.cx.host.files(), &self.cx.attempt_dir, TABLES);
        gone.undo(copy, (&script, &objects)).await?;
        let major = major(live).await?;
        let reach = (self.cx.host.as_read(), self.cx.about.secrets.as_ref());
        let clients = (Client::of(&self.copy, &major, reach)?, Client::of(self.live, &major, reach)?);
        let dbname = self.params.dbname(self.live);
        let making = Making {
            orphans: self.params.orphans,
            trail: self.trail,
            script: &script,
            objects: &objects,
            copy: &mut *copy,
        };
        gone.recreate((&clients.0, &clients.1), dbname, making, self.cx).await?;
        let rows = gone.prove((&mut *copy, &mut *live)).await?;
        for (table, rows) in gone.tables().iter().zip(rows) {
            let known = outcomes.iter_mut().find(|outcome| outcome.table == table.name);
            if let Some(outcome) = known {
                *outcome = TableOutcome { state: TableState::Recreated, inserted: rows, ..outcome.clone() };
            }
            let message = format!("{} is back with {rows} rows", table.name);
            self.cx.reporter.note(message, serde_json::json!({ "rows": rows }));
        }
        // The tables are back: what follows are remarks, and none of them may cost the script that takes them away again.
        let undo = script.finish()?;
        match refreshed::compare(&gone.materialized(), (&mut *copy, &mut *live)).await {
            Ok(all) => {
                for one in &all {
                    self.cx.reporter.note(one.told(), serde_json::Value::Null);
                }
                self.refreshed = all.iter().filter(|one| one.is_other()).map(refreshed::Refreshed::words).collect();
            }
            Err(error) => self.untold("the rows of materialized views could not be compared", &error),
        }
        self.tell_large(&objects).await?;
        let (copy, live) = (&mut self.sessions.0, &mut self.sessions.1);
        match gone.dependents().missing((copy, live)).await {
            Ok(missing) => self.tell_company(&gone, &missing),
            Err(error) => self.untold("what hung on them could not be compared", &error),
        }
        Ok(undo)
    }

    /// Says which large objects came back.
    async fn tell_large(&mut self, objects: &Objects) -> Result<(), ActionError> {
        let Some(message) = objects.told("are back") else { return Ok(()) };
        let others =
            objects.others(&mut self.sessions.1).await?.map_or_else(String::new, |others| format!("; {others}"));
        let stay = match self.live.entry.erasure {
            Some(_) => {
                "; those of rows that are erased again stay unless a trigger unlinks them: `vacuumlo` removes them"
            }
            None => "",
        };
        self.cx.reporter.note(format!("{message}{others}{stay}"), serde_json::Value::Null);
        Ok(())
    }

    /// Says what could not be looked at once everything was done.
    fn untold(&self, fact: &str, error: &ActionError) {
        self.cx.reporter.note(format!("{fact}: {error}"), serde_json::Value::Null);
    }

    /// Says what came back with tables, and what did not.
    fn tell_company(&self, gone: &Gone, missing: &[String]) {
        let (references, views) = (gone.references(), gone.views());
        let mut others = gone.dependents().names();
        others.retain(|name| !missing.contains(name));
        let all = [references.clone(), views.clone(), others.clone()].concat();
        if !all.is_empty() {
            let facts = serde_json::json!({ "foreign_keys": references, "views": views, "others": others });
            self.cx.reporter.note(format!("with them came back: {}", all.join(", ")), facts);
        }
        if !missing.is_empty() {
            let message = format!(
                "what hung on them in the copy and is missing in the live database, to be made anew by hand where it is still \
                 wanted: {}",
                missing.join(", ")
            );
            self.cx.reporter.note(message, serde_json::json!({ "missing": missing }));
        }
    }

    /// Finds the foreign keys to these tables that are NOT VALID and were valid in the copy, and says so: an application whose
    /// orphans were allowed, this one or an earlier attempt, left them.
    async fn unproven(&mut self, outcomes: &[TableOutcome]) -> Result<Vec<String>, ActionError> {
        if self.params.orphans == Orphans::Refuse {
            return Ok(Vec::new());
        }
        let (copy, live) = (&mut self.sessions.0, &mut self.sessions.1);
        let mut oids = Vec::new();
        for outcome in outcomes {
            let oid = live.query(&format!("SELECT to_regclass({})::oid", literal(&outcome.table))).await?;
            oids.extend(oid.first().and_then(|oid| oid.parse::<u32>().ok()));
        }
        if oids.is_empty() {
            return Ok(Vec::new());
        }
        // Then both write names in full.
        live.query("SET search_path = ''").await?;
        copy.query("SET search_path = ''").await?;
        let before = integrity::foreign_keys_to(copy, &[]).await?;
        let mut left = Vec::new();
        for ForeignKey { name, is_valid, orphans } in integrity::foreign_keys_to(live, &oids).await? {
            let was_valid = before.iter().any(|key| key.name == name && key.is_valid);
            if !is_valid && was_valid {
                left.push(format!("{name} ({} rows)", live.value(&orphans).await?));
            }
        }
        if !left.is_empty() {
            let message =
                format!("not every row has its parent, so these foreign keys are NOT VALID: {}", left.join(", "));
            self.cx.reporter.note(message, serde_json::json!({ "not_valid": left }));
        }
        Ok(left)
    }

    fn tell(&self, outcomes: &[TableOutcome]) {
        for outcome in outcomes {
            let message = match &outcome.difference {
                Some(found) if found.is_none() => {
                    format!("{} is as it is in the copy: {} rows", outcome.table, outcome.rows_in_copy)
                }
                Some(Difference { missing, changed, extra, .. }) => {
                    format!("{}: {missing} rows are missing, {changed} are others, {extra} came since", outcome.table)
                }
                None => format!("{} is gone; the copy has {} rows of it", outcome.table, outcome.rows_in_copy),
            };
            self.cx.reporter.note(message, serde_json::to_value(outcome).unwrap_or_default());
        }
    }
}

async fn rows(copy: &mut Session, table: &Shape) -> Result<u64, ActionError> {
    let count = copy.value(&format!("SELECT count(*) FROM {}{}", table.only, table.name)).await?;
    Ok(count.parse().unwrap_or_default())
}

fn outcome(table: &str, state: TableState, rows_in_copy: u64, difference: Option<Difference>) -> TableOutcome {
    TableOutcome { table: table.to_owned(), state, rows_in_copy, difference, inserted: 0, updated: 0, deleted: 0 }
}

fn output(tables: Vec<TableOutcome>, undo: Option<TableUndo>) -> RestoreTableOutput {
    let sum = |of: fn(&Difference) -> u64| tables.iter().filter_map(|one| one.difference.as_ref()).map(of).sum::<u64>();
    let gone: Vec<u64> = tables.iter().filter(|one| one.difference.is_none()).map(|one| one.rows_in_copy).collect();
    RestoreTableOutput {
        gone: gone.len() as u64,
        missing: sum(|one| one.missing) + gone.iter().sum::<u64>(),
        changed: sum(|one| one.changed),
        extra: sum(|one| one.extra),
        applied: tables.iter().map(|one| one.inserted + one.updated + one.deleted).sum(),
        not_valid: Vec::new(),
        refreshed: Vec::new(),
        tables,
        undo,
    }
}

/// Says what stays although the rest failed.
fn partly(error: ActionError, what: &str, scripts: &[UndoScript]) -> ActionError {
    let Some(script) = scripts.first() else { return error };
    let before = error.info().help.clone().map_or_else(String::new, |help| format!("{help}; "));
    error.help(format!("{before}{what} stay; `{}` would take them back", script.path.display()))
}
