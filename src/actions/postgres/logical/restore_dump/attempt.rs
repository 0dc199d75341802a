//! One attempt: everything is brought and proven first, then restored beside, then compared, then named.

use std::collections::{BTreeMap, BTreeSet};

use super::arrival::Arrival;
use super::load::Load;
use super::params::{RestoreDumpParams, RestoreMode, Roles};
use super::seat::{Begun, Seat, Stage};
use super::{Compared, RestoreDumpOutput, RestoredLoss, rename, roles};
use crate::action::{ActionError, BackupHandle, RunContext};
use crate::actions::backup::sighting;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::name::{ident, literal};
use crate::actions::postgres::session::attached::Attached;
use crate::actions::postgres::session::client::Client;
use crate::actions::postgres::session::connect::{Endpoint, Session};
use crate::actions::postgres::session::content::{self, Content, FactsDepth};
use crate::actions::postgres::session::dbstate::{self, Leave};
use crate::actions::postgres::session::origin::Origin;
use crate::actions::postgres::session::sessions::{self, Door};
use crate::actions::postgres::stores::readable::Reading;
use crate::catalog::{DatabaseFacts, DatabaseState, DumpFormat, Manifest};
use crate::event::{Coverage, Progress};
use crate::pgformat::Change;

/// What a restore works with.
pub(super) struct Attempt<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) params: &'a RestoreDumpParams,
    pub(super) reading: Reading<'a>,
    pub(super) handle: &'a BackupHandle,
    pub(super) seat: Seat,
    pub(super) cx: &'a RunContext,
}

/// What was found out while it was restored.
#[derive(Default)]
struct Found {
    roles: Vec<String>,
    facts: DatabaseFacts,
    compared: Compared,
}

impl Attempt<'_> {
    /// Restores.
    ///
    /// # Errors
    /// Fails when the dump is none, cannot be loaded, or what came of it is not what was dumped.
    pub(super) async fn run(&self) -> Result<RestoreDumpOutput, ActionError> {
        let mut admin = self.admin().await?;
        let mut begun = Begun::read_or_write(&mut admin, &self.seat, self.cx).await?;
        match begun.stage(&mut admin, &self.seat).await? {
            Stage::Done => return self.again(begun.had_name()).await,
            Stage::Verified => {
                return self.named(&mut admin, Found { compared: Compared::Earlier, ..Found::default() }).await;
            }
            Stage::Nothing => {}
        }
        begun.unchanged(&mut admin, &self.seat).await?;
        if let Some((fact, help)) = self.params.a_part(self.manifest()).filter(|_| begun.had_name()) {
            return Err(ActionError::fatal(fact).help(help));
        }
        let origin = Origin::of(&mut admin).await?;
        let secrets = self.cx.about.secrets.as_ref();
        let client = Client::of(self.cluster, &origin.major.to_string(), (self.cx.host.as_read(), secrets))?;
        self.doing("bringing and verifying the dump");
        let arrival = self.unless_cancelled(Arrival::of(self.reading, self.cx)).await;
        let arrival = arrival.inspect_err(|error| sighting::noted(error, self.reading.backup, self.cx))?;
        let bare = self.is_imported() && self.cluster.is_scratch() && arrival.globals.is_none();
        // Of SQL text nothing can be left out: who it gives something to is made instead.
        let named = if bare && arrival.format == DumpFormat::Plain { arrival.roles()? } else { String::new() };
        let globals = arrival.globals.as_deref().unwrap_or(&named);
        let missing_tablespaces = roles::missing_tablespaces(&mut admin, globals).await?;
        let state = self.state(&mut admin, &mut begun).await?;
        let without_roles = bare && arrival.format != DumpFormat::Plain;
        let load = Load {
            client: &client,
            params: self.params,
            arrival: &arrival,
            without_roles,
            missing_tablespaces: &missing_tablespaces,
        };
        load.prove(self.cx).await?;
        self.tell_imported(&arrival, (state.is_some(), without_roles));
        let made = match self.params.roles {
            Roles::CreateMissing => roles::create_missing(&mut admin, globals).await?,
            Roles::Skip => roles::Made::default(),
        };
        self.tell(&made, &missing_tablespaces);
        let leave = self.leave(state.as_ref(), &missing_tablespaces);
        let target = self.ready(&mut admin, (state.as_ref(), leave), &origin).await?;
        self.doing("loading the dump");
        self.unless_cancelled(load.run(target, self.cx)).await?;
        self.doing("comparing what came of it");
        let found = self.unless_cancelled(self.prove(&mut admin, target, (state.as_ref(), leave))).await?;
        let found = Found { roles: made.roles, ..found };
        if self.params.mode == RestoreMode::Into {
            return Ok(self.output(None, found));
        }
        begun.verified(&mut admin, &self.seat, self.cx).await?;
        self.named(&mut admin, found).await
    }

    /// Waits for what may be broken off at any place. What shuts a database is not: it ends by opening it again.
    async fn unless_cancelled<T>(&self, work: impl Future<Output = Result<T, ActionError>>) -> Result<T, ActionError> {
        let kept = match self.params.mode {
            RestoreMode::Swap | RestoreMode::Beside => {
                "what it has made has another name than the database; the next attempt removes it"
            }
            RestoreMode::Replace => "`mode: replace` may have dropped the old database by now; another attempt goes on",
            RestoreMode::Into => "a part of the dump may be in the database",
        };
        tokio::select! {
            done = work => done,
            () = self.cx.cancel.cancelled() => Err(ActionError::cancelled("the restore was cancelled").help(kept)),
        }
    }

    async fn admin(&self) -> Result<Session, ActionError> {
        sessions::beside(self.cluster, &self.seat.name, self.cx.about.secrets.as_ref()).await
    }

    fn manifest(&self) -> &Manifest {
        &self.reading.backup.manifest
    }

    /// Whether another program made the dump: nothing is known of it but its bytes.
    fn is_imported(&self) -> bool {
        self.manifest().dump.is_none()
    }

    /// What the database gets that lies outside a dump: as it was then, and of a dump that does not say it, as the one has
    /// it that is there.
    async fn state(&self, admin: &mut Session, begun: &mut Begun) -> Result<Option<DatabaseState>, ActionError> {
        if let Some(dump) = &self.manifest().dump {
            return Ok(Some(dump.state.clone()));
        }
        if let Some(kept) = begun.state() {
            return Ok(Some(kept.clone()));
        }
        let name = &self.seat.name;
        let is_there = sessions::number(admin, name).await?.is_some();
        let asked = self.params.mode != RestoreMode::Into && is_there;
        if !asked {
            return Ok(None);
        }
        let state = dbstate::read(admin, name).await?;
        if self.params.mode == RestoreMode::Replace {
            begun.keep(&state, self.cx)?;
        }
        Ok(Some(state))
    }

    /// Says what is not known of a dump that another program made.
    fn tell_imported(&self, arrival: &Arrival, (has_state, without_roles): (bool, bool)) {
        if !self.is_imported() {
            return;
        }
        let (name, note) = (&self.seat.name, |message: String| self.cx.reporter.note(message, serde_json::Value::Null));
        note(
            "another program made this dump: what comes of it can be compared with nothing, and whether it holds the whole \
             database is not known"
                .to_owned(),
        );
        if let Some(dumped) = arrival.dumped_dbname().filter(|dumped| dumped != name) {
            note(format!("the dump itself says that it is of database `{dumped}`; it becomes `{name}`"));
        }
        if self.params.mode != RestoreMode::Into {
            note(match has_state {
                true => format!("the owner, rights, settings and locale of `{name}` are those that it has now"),
                false => format!(
                    "no database `{name}` is there to take owner, rights, settings and locale from: it gets the server's \
                     defaults, every role may connect; `ALTER DATABASE`, `GRANT` and `REVOKE` give it its own"
                ),
            });
        }
        if without_roles {
            note(
                "nothing says which roles it needs: in this throw-away server owners and rights are left out"
                    .to_owned(),
            );
        }
    }

    fn leave(&self, state: Option<&DatabaseState>, missing_tablespaces: &BTreeSet<String>) -> Leave {
        let lacks = |name: &String| missing_tablespaces.contains(name);
        Leave {
            owner: self.params.no_owner,
            privileges: self.params.no_privileges,
            tablespace: state.and_then(|state| state.tablespace.as_ref()).is_some_and(lacks),
        }
    }

    fn doing(&self, text: &str) {
        self.cx.reporter.progress(Progress::Doing { text: text.to_owned() });
    }

    /// The server that the dump is loaded into, in words: what is made in a throw-away one is in no other.
    fn server(&self) -> &'static str {
        match (self.cluster.side.is_some(), self.cluster.is_scratch()) {
            (true, _) => "the copy beside the live server",
            (false, true) => "the throw-away server",
            (false, false) => "the server",
        }
    }

    fn tell(&self, roles::Made { roles, memberships }: &roles::Made, missing_tablespaces: &BTreeSet<String>) {
        let (reporter, server) = (&self.cx.reporter, self.server());
        if !roles.is_empty() {
            let message = format!("roles that {server} lacked were made there: {}", roles.join(", "));
            reporter.note(message, serde_json::json!({ "roles": roles }));
        }
        for (group, member) in memberships {
            let message = format!("`{member}` is a member of `{group}` again, which {server} lacked");
            reporter.note(message, serde_json::json!({ "group": group, "member": member }));
        }
        if !missing_tablespaces.is_empty() {
            let names: Vec<&str> = missing_tablespaces.iter().map(String::as_str).collect();
            let message = format!("{server} has no tablespace {}: all lies in the default one", names.join(", "));
            reporter.note(message, serde_json::json!({ "tablespaces": names }));
        }
        if !self.params.tables.is_empty() {
            let message = "single tables come without their indexes, constraints, triggers and sequences; \
                           `postgres.restore_table` brings all of it into a live database"
                .to_owned();
            reporter.note(message, serde_json::Value::Null);
        }
    }

    /// Makes the place that the dump is loaded into; gives its name.
    async fn ready(
        &self,
        admin: &mut Session,
        (state, leave): (Option<&DatabaseState>, Leave),
        origin: &Origin,
    ) -> Result<&str, ActionError> {
        let Seat { name, fresh, .. } = &self.seat;
        match self.params.mode {
            RestoreMode::Into => return Ok(name),
            // What a cut-off attempt of this run left is its own.
            RestoreMode::Swap | RestoreMode::Beside => self.discard(admin, origin).await?,
            RestoreMode::Replace => {
                self.discard(admin, origin).await?;
                if sessions::number(admin, name).await?.is_some() {
                    sessions::set(admin, name, Door::Shut).await?;
                    let gone = match sessions::vacate(admin, (name, name)).await {
                        Ok(_) => drop_database(admin, name, origin).await,
                        Err(error) => Err(error),
                    };
                    if let Err(error) = gone {
                        // It is as usable as before; what made it fail tells more than a door that stays shut.
                        let _ = sessions::set(admin, name, Door::Open).await;
                        return Err(error);
                    }
                    let message = format!("database `{name}` was dropped, as `mode: replace` says");
                    self.cx.reporter.note(message, serde_json::Value::Null);
                }
            }
        }
        let nothing = DatabaseState::default();
        let state = state.unwrap_or(&nothing);
        let made = admin.query(&dbstate::creation(fresh, state, leave, origin.major)).await;
        made.map_err(|error| {
            let mut info = error.into_info();
            info.message = format!("database `{fresh}` cannot be made as the dump's was: {}", info.message);
            let owner = &state.owner;
            ActionError::from(info).help(format!("its owner is `{owner}`; `no_owner: true` leaves that out"))
        })?;
        Ok(fresh)
    }

    /// Drops what a cut-off attempt made, with the subscriptions that it loaded.
    async fn discard(&self, admin: &mut Session, origin: &Origin) -> Result<(), ActionError> {
        let fresh = &self.seat.fresh;
        let attached = Attached::of(admin, fresh).await?;
        if attached.subscribes() {
            let mut within = Endpoint::of(self.cluster, Some(fresh), self.cx.about.secrets.as_ref())?.open().await?;
            attached.forget(&mut within).await?;
        }
        drop_database(admin, fresh, origin).await
    }

    /// Gives the database its state, and compares state and content with what was dumped.
    async fn prove(
        &self,
        admin: &mut Session,
        target: &str,
        (state, leave): (Option<&DatabaseState>, Leave),
    ) -> Result<Found, ActionError> {
        let secrets = self.cx.about.secrets.as_ref();
        let mut session = Endpoint::of(self.cluster, Some(target), secrets)?.open().await?;
        session.query("ANALYZE").await?;
        let mut wrong = Vec::new();
        if let Some(state) = state.filter(|_| self.params.mode != RestoreMode::Into) {
            dbstate::apply(admin, target, state, leave).await?;
            let now = dbstate::read(admin, target).await?;
            wrong = dbstate::differences(state, &now, leave);
            self.note_collation(state, &now);
        }
        let expected = self.expected();
        let depth = expected.as_ref().map_or(FactsDepth::Counts, FactsDepth::of);
        let mut content = Content::open(session).await?;
        let facts = content.facts(depth).await?;
        content.close().await?;
        let compared = match &expected {
            Some(expected) => {
                wrong.extend(content::differences(expected, &facts));
                if depth == FactsDepth::Hashes { Compared::Hashes } else { Compared::Counts }
            }
            None => Compared::Nothing,
        };
        if wrong.is_empty() {
            return Ok(Found { facts, compared, ..Found::default() });
        }
        let kept = match self.params.mode {
            RestoreMode::Into => format!("database `{target}` holds it"),
            RestoreMode::Swap | RestoreMode::Replace | RestoreMode::Beside => {
                format!("it is left as `{target}`, and has not taken the name `{}`", self.seat.name)
            }
        };
        let fact = format!("what was restored is not what was dumped: {}", wrong.join("; "));
        Err(ActionError::fatal(fact).help(format!("{kept}; look at it, and use another backup")))
    }

    /// What the content must be. What the arguments leave out, and a schema of another major version, is not compared.
    fn expected(&self) -> Option<DatabaseFacts> {
        let manifest = self.manifest();
        let dump = manifest.dump.as_ref()?;
        let facts = manifest.facts.as_ref()?.databases.get(&dump.dbname)?;
        if self.params.mode == RestoreMode::Into {
            return Some(DatabaseFacts { schema: None, large_objects: None, ..self.wanted(facts)? });
        }
        self.wanted(facts)
    }

    fn wanted(&self, facts: &DatabaseFacts) -> Option<DatabaseFacts> {
        if !self.params.is_partial() {
            return Some(facts.clone());
        }
        // Patterns on both sides are the program's business; bare names are compared.
        let fits = |table: &String| {
            let Some((schema, own)) = parts(table) else { return false };
            (self.params.schemas.is_empty() || self.params.schemas.contains(&schema))
                && (self.params.tables.is_empty() || self.params.tables.contains(&own))
        };
        let tables = facts.tables.iter().filter(|(name, _)| fits(name));
        let tables: BTreeMap<_, _> = tables.map(|(name, facts)| (name.clone(), facts.clone())).collect();
        (!tables.is_empty()).then(|| DatabaseFacts { tables, ..DatabaseFacts::default() })
    }

    fn note_collation(&self, then: &DatabaseState, now: &DatabaseState) {
        if let (Some(then), Some(now)) = (&then.collation_version, &now.collation_version)
            && then != now
        {
            let message = format!(
                "text sorts by collation version {now} here, {then} where it was dumped: every index was built anew, \
                 but ranges of partitions and what the application has sorted itself may differ"
            );
            self.cx.reporter.note(message, serde_json::json!({ "then": then, "now": now }));
        }
    }

    /// Gives the verified database its name.
    async fn named(&self, admin: &mut Session, found: Found) -> Result<RestoreDumpOutput, ActionError> {
        let old = match self.params.mode {
            RestoreMode::Beside | RestoreMode::Into => None,
            RestoreMode::Swap | RestoreMode::Replace => {
                let name = &self.seat.name;
                if sessions::number(admin, name).await?.is_some() {
                    self.tell_swap();
                }
                rename::swap(admin, &self.seat).await?
            }
        };
        if let Some(old) = &old {
            let message = format!(
                "`{}` is the restored database; the one before is kept as `{old}`: `DROP DATABASE {}` once it was looked \
                 at. A dump of all databases takes it along, and fails for it while its pages are damaged",
                self.seat.name,
                ident(old)
            );
            self.cx.reporter.note(message, serde_json::json!({ "kept": old }));
            Attached::tell(admin, (old, &self.seat.name), self.cx.reporter.as_ref()).await;
        }
        Ok(self.output(old, found))
    }

    /// Says what stands between two names, before it does.
    fn tell_swap(&self) {
        let name = &self.seat.name;
        let copy = if self.cluster.side.is_some() { " in the copy" } else { "" };
        let message = format!(
            "`{}` is verified and takes the name `{name}`{copy}, which is shut for that moment; should the run end here, \
             `ALTER DATABASE {} ALLOW_CONNECTIONS true` opens it",
            self.seat.fresh,
            ident(name)
        );
        self.cx.reporter.note(message, serde_json::json!({ "fresh": self.seat.fresh }));
    }

    /// The outputs of an earlier attempt that came to its end.
    async fn again(&self, had_name: bool) -> Result<RestoreDumpOutput, ActionError> {
        let kept = had_name && self.params.mode == RestoreMode::Swap;
        Ok(self.output(kept.then(|| self.seat.old.clone()), Found { compared: Compared::Earlier, ..Found::default() }))
    }

    fn output(&self, old_dbname: Option<String>, found: Found) -> RestoreDumpOutput {
        let manifest = self.manifest();
        let Seat { name, fresh, .. } = &self.seat;
        RestoreDumpOutput {
            dbname: if self.params.mode == RestoreMode::Beside { fresh.clone() } else { name.clone() },
            old_dbname,
            instance: self.cluster.instance(),
            backup: self.handle.clone(),
            taken_at: manifest.started_at,
            tables: found.facts.tables.len() as u64,
            rows: found.facts.tables.values().map(|table| table.rows).sum(),
            compared: found.compared,
            roles: found.roles,
            loss: RestoredLoss { coverage: Coverage::NewestCommit, newest_commit_at: Some(manifest.started_at) },
        }
    }
}

/// Drops a database if it is there, with its sessions where the server can do that at once. No server drops a template: it
/// is none from then on, and is one again where it stays.
pub(super) async fn drop_database(admin: &mut Session, dbname: &str, origin: &Origin) -> Result<(), ActionError> {
    let force = if origin.major.has(Change::DropWithForce) { " WITH (FORCE)" } else { "" };
    let template = format!("SELECT datistemplate FROM pg_database WHERE datname = {}", literal(dbname));
    let is_template = admin.query(&template).await?.at(0, 0) == Some("t");
    let mark = |is: bool| format!("ALTER DATABASE {} IS_TEMPLATE {is}", ident(dbname));
    if is_template {
        admin.query(&mark(false)).await?;
    }
    let dropped = admin.query(&format!("DROP DATABASE IF EXISTS {}{force}", ident(dbname))).await.map(drop);
    if dropped.is_err() && is_template {
        // What made it fail tells more than a mark that is not set again.
        let _ = admin.query(&mark(true)).await;
    }
    dropped
}

/// The schema and the table of a name as facts have it, each without the quotes of `quote_ident`.
fn parts(name: &str) -> Option<(String, String)> {
    let mut inside = false;
    let dot = name.char_indices().find(|(_, letter)| {
        inside ^= *letter == '"';
        !inside && *letter == '.'
    });
    let (at, _) = dot?;
    let bare = |part: &str| match part.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => part.to_owned(),
    };
    Some((bare(&name[..at]), bare(&name[at + 1..])))
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn a_name_of_the_facts_is_taken_apart_at_the_dot_that_is_in_no_quotes() {
        let both = |schema: &str, table: &str| Some((schema.to_owned(), table.to_owned()));
        assert_eq!(parts("public.orders"), both("public", "orders"));
        assert_eq!(parts("\"Sales.eu\".\"Order \"\"x\"\"\""), both("Sales.eu", "Order \"x\""));
        assert_eq!(parts("orders"), None);
    }
}
