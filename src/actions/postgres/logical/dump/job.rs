//! One database's dump: one snapshot, its facts, its objects, its manifest.

use std::sync::Arc;

use super::folder::Folder;
use super::params::{DumpParams, Globals};
use super::program::{self, Tables};
use super::proof::{self, Contents, Lister};
use super::shipment::{Destination, Shipment};
use crate::action::{ActionError, ByteStream, RunContext};
use crate::actions::postgres::backup::copies::{Copies, Outcome};
use crate::actions::postgres::backup::duplicate;
use crate::actions::postgres::backup::fan_out::{Seen, fan_out};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::session::client::{self, Client};
use crate::actions::postgres::session::connect::Endpoint;
use crate::actions::postgres::session::content::{Content, FactsDepth};
use crate::actions::postgres::session::dbstate;
use crate::actions::postgres::session::named_pipe::pour;
use crate::actions::postgres::session::origin::Origin;
use crate::base::Timestamp;
use crate::catalog::{
    self, Backup, BackupPlace, ContentFacts, DatabaseFacts, DatabaseState, DumpFacts, DumpFormat, Manifest, ObjectRole,
};
use crate::event::{ErrorClass, Progress};

/// The name of the roles and tablespaces in a backup.
pub(crate) const GLOBALS: &str = "globals.sql";

/// How often a dump begins anew behind somebody who waits for a table.
const ANEW: u32 = 3;

/// What dumps of one server share.
pub(super) struct Job<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) params: &'a DumpParams,
    pub(super) copies: &'a Copies<'a>,
    pub(super) client: &'a Client<'a>,
    pub(super) origin: &'a Origin,
    pub(super) program_version: &'a str,
    pub(super) cx: &'a RunContext,
}

/// What is known of a database at the moment of its dump.
struct Moment {
    started_at: Timestamp,
    state: DatabaseState,
    facts: Option<ContentFacts>,
}

/// What flowed out of a database, with the moment that it shows.
struct Flowed {
    content: Content,
    state: DatabaseState,
    brought: Brought,
    facts: DatabaseFacts,
}

/// A dump that was brought to its stores.
struct Brought {
    seen: Seen,
    /// What it holds, where it was listed on its way.
    contents: Option<Result<Contents, ActionError>>,
}

impl Job<'_> {
    /// Dumps one database into every store that does not have it yet; gives it in each store that has it.
    ///
    /// # Errors
    /// Fails when too few stores have it in the end.
    pub(super) async fn database(&self, dbname: &str) -> Result<Vec<Backup>, ActionError> {
        let cx = self.cx;
        let place = self.place(dbname);
        let mut outcome = self.copies.there(&place, cx).await?;
        let destinations = self.destinations(&place, &mut outcome).await?;
        if destinations.is_empty() {
            self.copies.judge(0, &mut outcome, cx)?;
            return Ok(outcome.backups);
        }
        if outcome.backups.is_empty() {
            self.anew((dbname, &place), destinations, &mut outcome).await?;
        } else {
            self.fill(dbname, destinations, &mut outcome).await?;
        }
        self.copies.judge(0, &mut outcome, cx)?;
        Ok(outcome.backups)
    }

    /// Brings into the stores that an earlier attempt did not reach what the others have: an id is of one moment in all
    /// stores. Where no key here reads that to pack it anew, the store gets a dump of its own moment, under its own id.
    async fn fill(
        &self,
        dbname: &str,
        destinations: Vec<Destination>,
        outcome: &mut Outcome,
    ) -> Result<(), ActionError> {
        let originals = outcome.backups.clone();
        for destination in destinations {
            match duplicate::readable(&originals, &destination.backup_store, self.cx).await {
                Ok(duplicate::Readable::By(original)) => {
                    self.copies.copy_into(outcome, (original, &destination.backup_store), self.cx).await?
                }
                Ok(duplicate::Readable::ByNoKey(why)) => self.apart(dbname, (destination, why), outcome).await?,
                Err(error) => outcome.failures.push((destination.backup_store.store.name().to_owned(), error)),
            }
        }
        Ok(())
    }

    /// Brings a dump of its own into one store, unless an earlier attempt did.
    async fn apart(
        &self,
        dbname: &str,
        (destination, why): (Destination, Option<ActionError>),
        outcome: &mut Outcome,
    ) -> Result<(), ActionError> {
        let store = destination.backup_store.store.name().to_owned();
        let place = self.place(&format!("{dbname}/{store}"));
        match destination.backup_store.committed(&place).await {
            Ok(Some(copy)) => {
                outcome.backups.push(copy);
                return Ok(());
            }
            Ok(None) => {}
            Err(error) => {
                outcome.failures.push((store, error));
                return Ok(());
            }
        }
        let why = why.map(|error| error.in_full()).unwrap_or_default();
        let id = &place.id;
        let message = format!(
            "store `{store}` gets a dump of its own, `{id}`, of this moment and not of the one that the other stores have: {why}"
        );
        self.cx.reporter.note(message, serde_json::json!({ "store": store, "backup": id, "database": dbname }));
        match self.anew((dbname, &place), vec![destination], outcome).await {
            Err(error) if error.info().class != ErrorClass::Cancelled => outcome.failures.push((store, error)),
            done => done?,
        }
        Ok(())
    }

    /// Dumps a database into stores that have no dump of that name.
    async fn anew(
        &self,
        (dbname, place): (&str, &BackupPlace),
        mut destinations: Vec<Destination>,
        outcome: &mut Outcome,
    ) -> Result<(), ActionError> {
        let cx = self.cx;
        let moment = self.objects(dbname, place, &mut destinations).await?;
        let stopped_at = self.now(dbname).await?;
        let taken = (moment.started_at, stopped_at);
        let manifest = Manifest {
            run: Some(cx.about.run.to_string()),
            tier: self.params.tier.clone(),
            environment: Some(cx.about.environment.clone()),
            dump: Some(DumpFacts {
                dbname: dbname.to_owned(),
                format: self.params.format,
                server_version: self.origin.version.clone(),
                program_version: self.program_version.to_owned(),
                system_id: self.origin.system_id,
                partial: self.params.is_partial(),
                state: moment.state,
            }),
            facts: moment.facts,
            label: self.params.label.clone(),
            ..Manifest::new(place.id.clone(), catalog::KIND_POSTGRES_DUMP, &self.cluster.name, taken)
        };
        for destination in destinations {
            let manifest = destination.objects.map(|objects| Manifest { objects, ..manifest.clone() });
            self.copies.commit(outcome, &destination.backup_store, manifest).await;
        }
        Ok(())
    }

    /// Where a dump of this step lies in each store: each attempt's is the same.
    fn place(&self, of: &str) -> BackupPlace {
        let id = catalog::backup_id(&self.cx.about.run.to_string(), &format!("{}/{of}", self.cx.step));
        let kind = (catalog::KIND_POSTGRES_DUMP, self.params.tier.as_deref());
        BackupPlace::new(self.copies.prefix, kind, &id)
    }

    /// Opens the stores that have no copy yet. One that cannot be used is noted as a failure; one that gave no answer
    /// before may have its copy, which is never written over.
    async fn destinations(&self, place: &BackupPlace, outcome: &mut Outcome) -> Result<Vec<Destination>, ActionError> {
        let mut destinations = Vec::new();
        for name in &self.copies.names {
            if outcome.has(name) {
                continue;
            }
            let opened = async {
                let destination = Destination::open(name, self.params, self.cx)?;
                self.copies.demand_mounted(&destination.backup_store, self.cx.attempt).await?;
                destination.backup_store.committed(place).await.map(|copy| (destination, copy))
            };
            match opened.await {
                Ok((destination, None)) => destinations.push(destination),
                Ok((_, Some(copy))) => outcome.backups.push(copy),
                Err(error) => outcome.failures.push(((*name).to_owned(), error)),
            }
        }
        if outcome.backups.len() + destinations.len() < self.copies.at_least {
            self.copies.judge(destinations.len(), outcome, self.cx)?;
        }
        Ok(destinations)
    }

    /// Brings the dump and the globals into the stores, with what is known of the moment.
    async fn objects(
        &self,
        dbname: &str,
        place: &BackupPlace,
        destinations: &mut [Destination],
    ) -> Result<Moment, ActionError> {
        let Flowed { mut content, state, brought, facts } = self.flow(dbname, place, destinations).await?;
        proof::judge(self.params.format, &brought.seen)?;
        let contents = self.listed(place, &brought, destinations).await?;
        let whole = !self.params.is_partial();
        let facts = match whole {
            true => facts,
            false => self.partial(&mut content, contents.as_ref()).await?,
        };
        let known = self.params.facts != FactsDepth::Off && (whole || contents.is_some());
        let (started_at, facts) = (content.taken_at(), known.then(|| content.dated(facts)));
        // What is left of the snapshot ends with the session, whatever happens.
        content.close().await?;
        if self.params.globals == Globals::Include {
            self.globals(place, destinations).await?;
        }
        Ok(Moment { started_at, state, facts })
    }

    /// Opens a moment and dumps it while the server counts: both see the same snapshot. Where the facts are of the whole
    /// database its tables are locked before: else a TRUNCATE between the dump's reading and the counting makes them wrong.
    ///
    /// Who asks for such a table between our locks and those of `pg_dump` stands in its way, as we stand in theirs: they
    /// are let through, and it begins anew.
    async fn flow(
        &self,
        dbname: &str,
        place: &BackupPlace,
        destinations: &mut [Destination],
    ) -> Result<Flowed, ActionError> {
        let depth = if self.params.is_partial() { FactsDepth::Off } else { self.params.facts };
        let tables = if depth == FactsDepth::Off { Tables::Free } else { Tables::Held };
        let mut anew = 0;
        loop {
            let session = self.endpoint(dbname)?.open().await?;
            let mut content = match tables {
                Tables::Held => Content::open_locked(session).await?,
                Tables::Free => Content::open(session).await?,
            };
            let snapshot = content.export().await?;
            let state = dbstate::read(content.session(), dbname).await?;
            let dumping = self.dump((dbname, &snapshot, tables), place, destinations);
            let error = match tokio::try_join!(dumping, content.facts(depth)) {
                Ok((brought, facts)) => return Ok(Flowed { content, state, brought, facts }),
                Err(error) if error.info().class == ErrorClass::Cancelled || tables == Tables::Free => {
                    return Err(error);
                }
                Err(error) => error,
            };
            anew += 1;
            let gave_way = match self.endpoint(dbname)?.open().await {
                Ok(mut other) => content.give_way(&mut other).await.unwrap_or(false),
                // What ended the dump tells more than that nobody answers now.
                Err(_) => false,
            };
            if anew > ANEW || !gave_way {
                return Err(error);
            }
            let message =
                "somebody waited for a table that the dump had locked: it begins anew, behind them".to_owned();
            self.cx.reporter.note(message, serde_json::json!({ "database": dbname, "why": error.to_string() }));
        }
    }

    fn endpoint(&self, dbname: &str) -> Result<Endpoint, ActionError> {
        Endpoint::of(self.cluster, Some(dbname), self.cx.about.secrets.as_ref())
    }

    async fn dump(
        &self,
        moment: (&str, &str, Tables),
        place: &BackupPlace,
        destinations: &mut [Destination],
    ) -> Result<Brought, ActionError> {
        let command = program::dump(self.client, self.params, moment)?;
        let shipment = |name| Shipment { name, role: ObjectRole::Dump, archive_of: None, place };
        let (cx, format) = (self.cx, self.params.format);
        let shipment = match format {
            DumpFormat::Directory => {
                let folder = Folder::fresh(cx)?;
                client::run(cx.host.as_ref(), command(&folder.path)).await?;
                let shipment = Shipment { archive_of: Some("database.dir"), ..shipment("database.dir.tar") };
                return self.bring(folder.archived(), &shipment, destinations).await;
            }
            DumpFormat::Custom => shipment("database.dump"),
            DumpFormat::Plain => shipment("database.sql"),
            DumpFormat::Tar => shipment("database.tar"),
        };
        pour(cx, command, |body| self.bring(body, &shipment, destinations)).await
    }

    /// Brings a dump into the stores. Where one of them cannot be read back, the dump is listed while it flows.
    async fn bring(
        &self,
        body: ByteStream,
        shipment: &Shipment<'_>,
        destinations: &mut [Destination],
    ) -> Result<Brought, ActionError> {
        let lister = self.lister();
        let is_blind = |destination: &Destination| {
            let encoding = destination.backup_store.packing.encoding();
            destination.objects.is_ok() && lister.unpacking(&destination.backup_store, encoding).is_err()
        };
        if self.params.format == DumpFormat::Plain || !destinations.iter().any(is_blind) {
            let seen = shipment.bring(body, destinations, self.cx).await?;
            return Ok(Brought { seen, contents: None });
        }
        let (tee, mut ends) = fan_out(2, Arc::default());
        let (Some(mut listened), Some(stored)) = (ends.pop(), ends.pop()) else {
            return Err(ActionError::fatal("the dump has no two ends"));
        };
        let listing = async move { lister.list(&mut listened).await.map_err(ActionError::from) };
        let (_, seen, contents) = tokio::join!(tee.pump(body), shipment.bring(stored, destinations, self.cx), listing);
        Ok(Brought { seen: seen?, contents: Some(contents) })
    }

    fn lister(&self) -> Lister<'_> {
        Lister { client: self.client, format: self.params.format, cx: self.cx }
    }

    /// Has every store's dump listed; SQL has no list.
    async fn listed(
        &self,
        place: &BackupPlace,
        brought: &Brought,
        destinations: &mut [Destination],
    ) -> Result<Option<Contents>, ActionError> {
        if self.params.format == DumpFormat::Plain {
            return Ok(None);
        }
        self.cx.reporter.progress(Progress::Doing { text: "listing what lies in the store".to_owned() });
        let lister = self.lister();
        let mut contents = None;
        for destination in destinations {
            let Some(object) = destination.objects.as_ref().ok().and_then(|objects| objects.first()) else {
                continue;
            };
            match lister.stored(&destination.backup_store, (place, object), brought.contents.as_ref()).await {
                Ok(found) => contents = contents.or(Some(found)),
                Err(error) => destination.objects = Err(error),
            }
        }
        Ok(contents)
    }

    /// The facts of a dump that leaves something out: only of the tables whose rows are in it.
    async fn partial(&self, content: &mut Content, contents: Option<&Contents>) -> Result<DatabaseFacts, ActionError> {
        if self.params.facts == FactsDepth::Off {
            return Ok(DatabaseFacts::default());
        }
        let Some(contents) = contents else {
            let message = "no facts were taken: of SQL with filters it is not known which tables are in it".to_owned();
            self.cx.reporter.note(message, serde_json::Value::Null);
            return Ok(DatabaseFacts::default());
        };
        let names: Vec<_> = content.tables().await?.into_iter().filter(|table| contents.holds(table)).collect();
        let facts = content.facts_of_untouched(&names, self.params.facts).await?;
        let lost: Vec<&str> = names.iter().map(|name| name.quoted.as_str()).collect();
        let lost: Vec<&str> = lost.into_iter().filter(|name| !facts.tables.contains_key(*name)).collect();
        if !lost.is_empty() {
            let message =
                format!("no facts of `{}`: emptied, rewritten or dropped while it was dumped", lost.join("`, `"));
            self.cx.reporter.note(message, serde_json::json!({ "tables": lost }));
        }
        Ok(facts)
    }

    async fn globals(&self, place: &BackupPlace, destinations: &mut [Destination]) -> Result<(), ActionError> {
        let cx = self.cx;
        let command = program::globals(self.client, (&self.cluster.dbname, self.origin))?;
        let shipment = Shipment { name: GLOBALS, role: ObjectRole::Globals, archive_of: None, place };
        let seen = pour(cx, command, |body| shipment.bring(body, destinations, cx)).await?;
        proof::judge_globals(&seen)?;
        if !self.origin.superuser {
            let message = format!(
                "roles were saved without their passwords: `{}` is no superuser; set them anew after a restore",
                self.cluster.user
            );
            cx.reporter.note(message, serde_json::Value::Null);
        }
        Ok(())
    }

    async fn now(&self, dbname: &str) -> Result<Timestamp, ActionError> {
        crate::actions::postgres::backup::base_backup::server_time(&mut self.endpoint(dbname)?.open().await?).await
    }
}
