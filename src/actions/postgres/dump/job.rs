//! One database's dump: one snapshot, its facts, its objects, its manifest.

use super::super::client::{self, Client};
use super::super::connect::Endpoint;
use super::super::content::{Content, FactsDepth};
use super::super::copies::{Copies, Outcome};
use super::super::dbstate;
use super::super::fan::Seen;
use super::super::layout::Cluster;
use super::super::spout::pour;
use super::folder::Folder;
use super::origin::Origin;
use super::params::{DumpParams, Globals};
use super::program;
use super::proof::{self, Contents, Lister};
use super::shipment::{Berth, Shipment};
use crate::action::{ActionError, RunContext};
use crate::base::Timestamp;
use crate::catalog::{
    self, Backup, BackupPlace, ContentFacts, DatabaseFacts, DatabaseState, DumpFacts, DumpFormat, Manifest, ObjectRole,
};
use crate::event::Progress;

/// The name of the roles and tablespaces in a backup.
pub(crate) const GLOBALS: &str = "globals.sql";

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

impl Job<'_> {
    /// Dumps one database into every store that does not have it yet; gives it in each store that has it.
    ///
    /// # Errors
    /// Fails when too few stores have it in the end.
    pub(super) async fn database(&self, dbname: &str) -> Result<Vec<Backup>, ActionError> {
        let cx = self.cx;
        let id = catalog::backup_id(&cx.about.run.to_string(), &format!("{}/{dbname}", cx.step));
        let kind = (catalog::KIND_POSTGRES_DUMP, self.params.tier.as_deref());
        let place = BackupPlace::new(self.copies.prefix, kind, &id);
        let mut outcome = self.copies.there(&place, cx).await?;
        if outcome.backups.len() == self.copies.names.len() {
            return Ok(outcome.backups);
        }
        let mut berths = self.berths(&mut outcome)?;
        let moment = self.objects(dbname, &place, &mut berths).await?;
        let stopped_at = self.now(dbname).await?;
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
            ..Manifest::new(id, kind.0, &self.cluster.name, (moment.started_at, stopped_at))
        };
        for berth in berths {
            let manifest = berth.objects.map(|objects| Manifest { objects, ..manifest.clone() });
            self.copies.commit(&mut outcome, &berth.depot, manifest).await;
        }
        self.copies.judge(0, &mut outcome, cx)?;
        Ok(outcome.backups)
    }

    /// Opens the stores that have no copy yet. One that cannot be used is noted as a failure.
    fn berths(&self, outcome: &mut Outcome) -> Result<Vec<Berth>, ActionError> {
        let mut berths = Vec::new();
        for name in &self.copies.names {
            if outcome.backups.iter().any(|backup| backup.store == *name) {
                continue;
            }
            match Berth::open(name, self.params, self.cx) {
                Ok(berth) => berths.push(berth),
                Err(error) => outcome.failures.push(((*name).to_owned(), error)),
            }
        }
        if outcome.backups.len() + berths.len() < self.copies.at_least {
            self.copies.judge(berths.len(), outcome, self.cx)?;
        }
        Ok(berths)
    }

    /// Brings the dump and the globals into the stores, with what is known of the moment.
    async fn objects(&self, dbname: &str, place: &BackupPlace, berths: &mut [Berth]) -> Result<Moment, ActionError> {
        let secrets = self.cx.about.secrets.as_ref();
        let session = Endpoint::of(self.cluster, Some(dbname), secrets)?.open().await?;
        let mut content = Content::open(session).await?;
        let snapshot = content.export().await?;
        let state = dbstate::read(content.session(), dbname).await?;
        let whole = !self.params.is_partial();
        let depth = if whole { self.params.facts } else { FactsDepth::Off };
        // The server counts while the dump flows: both see the same snapshot.
        let dumping = self.dump((dbname, &snapshot), place, berths);
        let (seen, facts) = tokio::try_join!(dumping, content.facts(depth))?;
        proof::judge(self.params.format, &seen)?;
        let contents = self.listed(place, &seen, berths).await?;
        let facts = match whole {
            true => facts,
            false => self.partial(&mut content, contents.as_ref()).await?,
        };
        let known = self.params.facts != FactsDepth::Off && (whole || contents.is_some());
        let (started_at, facts) = (content.taken_at(), known.then(|| content.dated(facts)));
        // What is left of the snapshot ends with the session, whatever happens.
        content.close().await?;
        if self.params.globals == Globals::Include {
            self.globals(place, berths).await?;
        }
        Ok(Moment { started_at, state, facts })
    }

    async fn dump(
        &self,
        (dbname, snapshot): (&str, &str),
        place: &BackupPlace,
        berths: &mut [Berth],
    ) -> Result<Seen, ActionError> {
        let command = program::dump(self.client, self.params, (dbname, snapshot))?;
        let shipment = |name| Shipment { name, role: ObjectRole::Dump, archive_of: None, place };
        let (cx, format) = (self.cx, self.params.format);
        let shipment = match format {
            DumpFormat::Directory => {
                let folder = Folder::fresh(cx)?;
                client::run(cx.host.as_ref(), command(&folder.path)).await?;
                let shipment = Shipment { archive_of: Some("database.dir"), ..shipment("database.dir.tar") };
                return shipment.bring(folder.archived(), berths, cx).await;
            }
            DumpFormat::Custom => shipment("database.dump"),
            DumpFormat::Plain => shipment("database.sql"),
            DumpFormat::Tar => shipment("database.tar"),
        };
        pour(cx, command, |body| shipment.bring(body, berths, cx)).await
    }

    /// Has every store's dump listed; SQL has no list.
    async fn listed(
        &self,
        place: &BackupPlace,
        seen: &Seen,
        berths: &mut [Berth],
    ) -> Result<Option<Contents>, ActionError> {
        if self.params.format == DumpFormat::Plain {
            return Ok(None);
        }
        self.cx.reporter.progress(Progress::Doing { text: "listing what lies in the store".to_owned() });
        let lister = Lister { client: self.client, format: self.params.format, cx: self.cx };
        let mut contents = None;
        for berth in berths {
            let Some(object) = berth.objects.as_ref().ok().and_then(|objects| objects.first()) else { continue };
            match lister.stored(&berth.depot, (place, object), seen).await {
                Ok(found) => contents = contents.or(Some(found)),
                Err(error) => berth.objects = Err(error),
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
        content.facts_of(&names, self.params.facts).await
    }

    async fn globals(&self, place: &BackupPlace, berths: &mut [Berth]) -> Result<(), ActionError> {
        let cx = self.cx;
        let command = program::globals(self.client, (&self.cluster.dbname, self.origin))?;
        let shipment = Shipment { name: GLOBALS, role: ObjectRole::Globals, archive_of: None, place };
        let seen = pour(cx, command, |body| shipment.bring(body, berths, cx)).await?;
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
        let endpoint = Endpoint::of(self.cluster, Some(dbname), self.cx.about.secrets.as_ref())?;
        super::super::base_backup::server_time(&mut endpoint.open().await?).await
    }
}
