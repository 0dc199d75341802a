//! `backup.find`: chooses the backup to restore.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::store::by_hand::location;
use super::candidates::{Candidates, Found};
use super::find_check;
use super::leads::{self, LeadsTo, Sight};
use super::place::{Place, PlaceSpec};
use super::raw::{self, Layout, RawLocation};
use crate::action::by_hand::{command_line, remark};
use crate::action::{
    Access, Action, ActionError, ActionSpec, BackupHandle, CheckContext, EffectClass, Effects, Example, Findings,
    Idempotency, Late, ParamFault, PlanContext, ReadStore, RunContext, Surroundings, Target,
};
use crate::actions::postgres::cluster::wal_location::WalLocation;
use crate::actions::store::catalog_failed;
use crate::base::units::Span;
use crate::base::{Timestamp, clock};
use crate::catalog::attest::Level;
use crate::catalog::{self, Backup, Pick, Proven, Query};
use crate::language::inventory::Inventory;

/// Chooses a backup.
#[derive(Debug, Clone, Copy, Default)]
pub struct Find;

/// The arguments of `backup.find`. What is to be found is a `database`, or a `source` in a `store`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FindParams {
    /// Where the backups lie.
    #[serde(flatten)]
    pub place: PlaceSpec,
    /// The kind of backup. Default `postgres.base` of a database; of a source, any.
    #[serde(default)]
    pub kind: Option<String>,
    /// The tier: `daily`, `monthly` …
    #[serde(default)]
    pub tier: Option<String>,
    /// Takes only dumps of this database within its server. With `location`: dumps whose names have this before the time,
    /// needed where those of several databases lie there.
    #[serde(default)]
    pub dbname: Option<String>,
    /// Whether the `dbname` of the database's entry counts for dumps where neither `dbname` nor `id` is given. Default `ignore`.
    #[serde(default)]
    pub own_dbname: OwnDbname,
    /// Takes only backups that ended before this time, with an offset or `Z`.
    #[serde(default)]
    pub before: Option<Late<String>>,
    /// Takes only backups that had ended at this time.
    #[serde(default)]
    pub at: Option<Late<String>>,
    /// Takes only backups that ended at least this long ago.
    #[serde(default)]
    pub min_age: Option<Span>,
    /// Takes the backup with this id.
    #[serde(default)]
    pub id: Option<Late<String>>,
    /// Takes only a base backup from which a recovery gets there: the newest that ended before the target, on a timeline
    /// that leads to it, without a hole on the way. What the database's server has not archived yet counts, too. Needs
    /// `database`; excludes `before`, `at` and `pick`. For a transaction or a restore point the WAL is searched.
    #[serde(default)]
    pub leads_to: Option<LeadsTo>,
    /// Takes only backups all bytes of which were read and found right when they were last verified.
    #[serde(default)]
    pub verified: bool,
    /// Whether a restore of it must have been proven. Default `ignore`.
    #[serde(default)]
    pub proven: Proven,
    /// Takes a backup that another program made, where it lies: it is only read, in no catalog, and *unproven*. All of it is
    /// read once to describe it, and again by the step that restores it. Excludes `store`, `prefix`, `tier`, `id`,
    /// `verified` and `proven`.
    #[serde(default)]
    pub location: Option<RawLocation>,
    /// Which of those that fit: `latest` (default), `oldest`, or `random`, the same in each attempt of a run.
    #[serde(default)]
    pub pick: Choice,
}

/// Which of the backups that fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// The one that ended last.
    #[default]
    Latest,
    /// The one that ended first.
    Oldest,
    /// Any.
    Random,
}

/// Whether the `dbname` of an entry counts where no other is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OwnDbname {
    /// It does not: dumps of any database within the server are taken.
    #[default]
    Ignore,
    /// It does, unless it is `postgres`, which every server has.
    Prefer,
    /// It does.
    Require,
}

/// The outputs of `backup.find`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FindOutput {
    /// The backup, for `postgres.restore_base`, `backup.get` and `backup.verify`.
    pub backup: BackupHandle,
    /// Its id.
    pub id: String,
    /// When it began.
    #[schemars(with = "String")]
    pub started_at: Timestamp,
    /// When it ended.
    #[schemars(with = "String")]
    pub stopped_at: Timestamp,
    /// How long ago it ended.
    pub age_ms: u64,
    /// The sizes of its objects together.
    pub size_bytes: u64,
    /// The database within the server that it is a dump of; null for any other backup, and where it does not say so.
    #[serde(default)]
    pub dbname: Option<String>,
    /// Its tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// When a restore of it was last proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub proven_at: Option<Timestamp>,
    /// When it was last verified with success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub verified_at: Option<Timestamp>,
    /// Whether nobody has verified or proven it: it was found by its `location` and not in the catalog.
    #[serde(default)]
    pub unproven: bool,
    /// What the choice of a `random` one began with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<String>,
    /// The server's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_version: Option<String>,
    /// The cluster's system identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_id: Option<String>,
}

impl FindParams {
    pub(super) fn place(&self, inventory: &Inventory) -> Result<Place, ParamFault> {
        match &self.location {
            None => self.place.resolve(inventory),
            Some(raw) => {
                let (store, prefix) = (Some(raw.store.clone()), Some(raw.prefix.clone()));
                PlaceSpec { store, prefix, ..self.place.clone() }.resolve(inventory)
            }
        }
    }

    /// The arguments that are wrong whatever the store holds.
    fn faults(&self) -> Vec<ParamFault> {
        let mut faults = Vec::new();
        let others = [self.before.is_some(), self.at.is_some(), self.id.is_some()];
        if others.into_iter().filter(|given| *given).count() > 1 {
            faults.push(ParamFault::new("/id", "`before`, `at` and `id` exclude each other"));
        }
        faults.extend(leads::fault(self));
        if let Some(raw) = &self.location {
            let given = [
                ("leads_to", self.leads_to.is_some()),
                ("store", self.place.store.is_some()),
                ("prefix", self.place.prefix.is_some()),
                ("tier", self.tier.is_some()),
                ("id", self.id.is_some()),
                ("dbname", self.dbname.is_some() && raw.layout == Layout::BaseBackups),
                ("verified", self.verified),
                ("proven", self.proven != Proven::Ignore),
                ("kind", self.kind.as_deref().is_some_and(|kind| kind != raw.layout.kind())),
            ];
            let excluded = given.into_iter().filter(|(_, given)| *given).map(|(name, _)| {
                ParamFault::new(format!("/{name}"), format!("`{name}` says nothing of what another program stored"))
                    .help("remove it, or `location`; `runbook backups import` takes such backups into the catalog")
            });
            faults.extend(excluded);
        }
        for (pointer, given) in [("/before", &self.before), ("/at", &self.at)] {
            if let Some(Err(what)) = given.as_ref().and_then(Late::known).map(|text| time(text)) {
                faults.push(ParamFault::new(pointer, what));
            }
        }
        faults
    }

    /// The database within the server whose dumps are taken; `None`: any.
    fn dbname(&self, inventory: &Inventory) -> Option<String> {
        let is_of_entry =
            self.kind.as_deref() == Some(catalog::KIND_POSTGRES_DUMP) && self.id.is_none() && self.location.is_none();
        let entry = || inventory.databases.get(self.place.database.as_ref()?.as_str());
        let own = || entry().map(|entry| entry.dbname.clone()).filter(|_| is_of_entry);
        self.dbname.clone().or_else(|| match self.own_dbname {
            OwnDbname::Ignore => None,
            OwnDbname::Prefer => own().filter(|name| name != "postgres"),
            OwnDbname::Require => own(),
        })
    }

    /// The query, or the expression it waits for.
    pub(super) fn query(&self, place: &Place, about: &Surroundings) -> Result<Result<Query, &str>, ActionError> {
        if let Some(fault) = self.faults().into_iter().next() {
            return Err(ActionError::fatal(fault.message));
        }
        for late in [&self.before, &self.at, &self.id] {
            if let Some(Late::Pending(expression)) = late {
                return Ok(Err(expression));
            }
        }
        let known = |late: &Option<Late<String>>| late.as_ref().and_then(Late::known).cloned();
        let point = |late| known(late).map(|text| time(&text)).transpose().map_err(ActionError::fatal);
        let at = point(&self.at)?.map(|at| clock::after(at, Duration::from_nanos(1)));
        let aged = self.min_age.map(|age| clock::before(clock::now(), age.0));
        let raw = self.location.as_ref().map(|raw| raw.layout.kind());
        let base = raw.or(self.place.database.is_some().then_some(catalog::KIND_POSTGRES_BASE)).map(str::to_owned);
        Ok(Ok(Query {
            source: Some(place.source.clone()),
            kind: self.kind.clone().or(base),
            tier: self.tier.clone(),
            id: known(&self.id),
            dbname: self.dbname(&about.inventory),
            before: [point(&self.before)?, at, aged].into_iter().flatten().min(),
            verified: self.verified.then_some(Level::Digests),
            proven: self.proven,
            pick: match self.pick {
                Choice::Latest => Pick::Latest,
                Choice::Oldest => Pick::Oldest,
                Choice::Random => Pick::Random { seed: about.run.to_string() },
            },
        }))
    }
}

/// Reads a time, which must say its offset.
fn time(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| format!("`{text}` is not a time with an offset, such as `2026-01-28T14:30:00Z`"))
}

/// Reads and describes another program's backup.
async fn raw(
    location: &RawLocation,
    (query, place): (&Query, &Place),
    cx: &RunContext,
) -> Result<(Backup, BackupHandle), ActionError> {
    let store = cx.store(location.store.as_str())?;
    let found = raw::choose(store.as_read(), location, query).await?.ok_or_else(|| {
        ActionError::fatal(format!("nothing below `{}/` is such a backup", location.prefix))
            .help("`runbook backups import STORE PREFIX` says what lies there, and why not")
    })?;
    let message = format!("`{}` is unproven: it is read to its end to describe it", found.place());
    cx.reporter.note(message, serde_json::json!({ "place": found.place(), "unproven": true }));
    let keys = cx.about.inventory.stores.get(location.store.as_str()).and_then(|entry| entry.encryption.as_ref());
    raw::describe((store.as_read(), keys), cx.about.secrets.as_ref(), (&found, &place.source)).await
}

impl Action for Find {
    const SPEC: ActionSpec = ActionSpec {
        name: "backup.find",
        summary: "Chooses a backup by kind, tier, time and proof: the newest, the oldest, any, or one by its id.",
        effect: EffectClass::Read,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: false,
        version: 2,
        examples: &[
            Example { title: "The newest", with: "{ database: orders }" },
            Example {
                title: "The newest dump of the database that the entry names",
                with: "{ database: orders, kind: postgres.dump, own_dbname: prefer }",
            },
            Example {
                title: "The last one before a time",
                with: "{ database: orders, kind: postgres.base, before: '2026-01-28T14:30:00Z' }",
            },
            Example {
                title: "The newest from which a recovery gets to a transaction",
                with: "{ database: orders, leads_to: { xid: 7501 } }",
            },
            Example {
                title: "Any verified monthly backup of a folder, for a restore test",
                with: "{ source: media, store: offsite, tier: monthly, verified: true, pick: random }",
            },
            Example {
                title: "The newest base backup of a script, where it lies",
                with: "{ database: orders, location: { store: offsite, prefix: postgres, layout: base_backups } }",
            },
        ],
    };
    type Params = FindParams;
    type Output = FindOutput;

    fn effects(&self, params: &FindParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let mut faults = params.faults();
        match params.place(cx.inventory) {
            Ok(place) if faults.is_empty() => {
                let target = |name: &str| Target::Store { name: name.to_owned(), prefix: place.prefix.clone() };
                let effects = Effects::of(EffectClass::Read).target(Access::Read, target(&place.store));
                let further = place.wal_stores(cx.inventory);
                let further = further.chain(params.backup_destinations(&place, cx.inventory));
                let effects = further.fold(effects, |effects, name| effects.target(Access::Read, target(name)));
                let effects = match leads::location(params) {
                    Some(WalLocation { store, prefix }) => {
                        effects.target(Access::Read, Target::Store { name: store.0.clone(), prefix: prefix.clone() })
                    }
                    None => effects,
                };
                Ok(match params.place.database.as_ref().filter(|_| leads::is_asked(params)) {
                    Some(name) => effects.target(Access::Read, Target::Database { name: name.as_str().to_owned() }),
                    None => effects,
                })
            }
            Ok(_) => Err(faults),
            Err(fault) => {
                faults.push(fault);
                Err(faults)
            }
        }
    }

    fn by_hand(&self, params: &FindParams, cx: &PlanContext<'_>) -> Vec<String> {
        let Ok(place) = params.place(cx.inventory) else { return Vec::new() };
        let base = params.place.database.is_some().then_some(catalog::KIND_POSTGRES_BASE);
        let family = params.kind.as_deref().or(base).map(|kind| format!("{}/", catalog::family(kind)));
        let tier = params.tier.as_ref().map(|tier| format!("{tier}/"));
        let below = format!("{}/{}{}", place.prefix, family.unwrap_or_default(), tier.unwrap_or_default());
        let folder = location(cx.inventory, &place.store, &below);
        let before = params.before.as_ref().map(|at| format!(" that ended before {}", at.shown(Clone::clone)));
        let before = before.or_else(|| leads::words(params));
        let wanted = match &params.id {
            Some(id) => format!("the backup {}", id.shown(Clone::clone)),
            None => {
                let of = params.dbname(cx.inventory).map(|dbname| format!(" of its database {dbname}"));
                format!("the newest backup{}{}", of.unwrap_or_default(), before.unwrap_or_default())
            }
        };
        let list = if folder.contains("://") {
            remark(&format!("list {folder} with the store's own tool"))
        } else {
            command_line(["ls", "-r", &folder])
        };
        vec![list, remark(&format!("{wanted}; one without `manifest.json` is not whole; its id: ‹write it down›"))]
    }

    async fn check(&self, params: &FindParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        find_check::told(params, cx).await
    }

    async fn run(&self, params: &FindParams, cx: &RunContext) -> Result<FindOutput, ActionError> {
        let place = params.place(&cx.about.inventory).map_err(|fault| ActionError::fatal(fault.message))?;
        let mut query = params
            .query(&place, &cx.about)?
            .map_err(|expression| ActionError::fatal(format!("the value of `{expression}` is not known yet")))?;
        let store = cx.store(&place.store)?;
        let (backup, handle) = match &params.location {
            Some(location) => raw(location, (&query, &place), cx).await?,
            None => {
                let open = |name: &str| cx.store(name).map(|store| store as Arc<dyn ReadStore>);
                let among = Candidates::of(params, &place, &cx.about, open).await?;
                let mut stores = vec![Arc::clone(&store) as Arc<dyn ReadStore>];
                for name in place.wal_stores(&cx.about.inventory) {
                    stores.push(cx.store(name)? as Arc<dyn ReadStore>);
                }
                let lying = leads::location(params).map(|location| cx.store(location.store.as_str())).transpose()?;
                let lying = lying.map(|store| store as Arc<dyn ReadStore>);
                let copies = among.copies.clone();
                let sight = Sight { about: &cx.about, stores, copies, lying, files: cx.host.read_files() };
                let led = leads::narrowed(params, sight, (&among.list, query)).await?;
                let led = led.map_err(|(fact, help)| ActionError::fatal(fact).help(help))?;
                for passed in led.passed_over {
                    let message = format!("a newer one does not lead there: {passed}");
                    cx.reporter.note(message, serde_json::json!({ "passed_over": true }));
                }
                query = led.query;
                let Found { backup, elsewhere, newer, .. } = among.find(&query).await.map_err(catalog_failed)?;
                if let Some(elsewhere) = elsewhere {
                    cx.reporter.note(elsewhere, serde_json::json!({ "store": backup.store }));
                }
                if let Some(newer) = newer {
                    cx.reporter.note(newer, serde_json::json!({ "passed_over": true }));
                }
                let handle = backup.handle();
                (backup, handle)
            }
        };
        let age = clock::between(backup.manifest.stopped_at, clock::now());
        let Backup { manifest, attested, .. } = &backup;
        let passed = attested.last_verified.as_ref().filter(|note| note.holds(Level::Manifest));
        Ok(FindOutput {
            unproven: handle.described.is_some(),
            backup: handle,
            id: manifest.id.clone(),
            started_at: manifest.started_at,
            stopped_at: manifest.stopped_at,
            age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
            size_bytes: manifest.size_bytes(),
            dbname: manifest.dump.as_ref().map(|dump| dump.dbname.clone()),
            tier: manifest.tier.clone(),
            proven_at: attested.proven_at(),
            verified_at: passed.map(|note| note.at),
            seed: match &query.pick {
                Pick::Random { seed } => Some(seed.clone()),
                Pick::Latest | Pick::Oldest => None,
            },
            server_version: manifest.postgres.as_ref().map(|facts| facts.server_version.clone()),
            system_id: manifest.postgres.as_ref().map(|facts| facts.system_id.to_string()),
        })
    }
}
