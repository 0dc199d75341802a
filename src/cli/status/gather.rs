//! Puts together what is known of one database. What cannot be reached is told as such.

use std::collections::BTreeMap;

use serde::Serialize;

use super::advice;
use super::kept::Kept;
use super::past::past;
use super::readable::Locked;
use super::undumped::{self, Undumped};
use crate::action::{Mode, Secrets};
use crate::actions::postgres::recovery::server_status::{ServerStatus, look};
use crate::base::diagnostic::Code;
use crate::base::{RunId, Timestamp, clock};
use crate::catalog::health::{Health, Level};
use crate::catalog::{KIND_POSTGRES_BASE, KIND_POSTGRES_DUMP};
use crate::cli::args::{InventoryArgs, Subject};
use crate::cli::backups::expected::Expectations;
use crate::cli::forgetting::{self, Unforgotten};
use crate::cli::freezes::{self, Frozen};
use crate::cli::leftover::{self, Remains};
use crate::cli::onward::Onward;
use crate::cli::prepare::{self, RunIdentity};
use crate::cli::recovery::{self, Open};
use crate::cli::sighted::{self, Unkept};
use crate::cli::site::{self, Site};
use crate::cli::{Failure, history, wal as cli_wal, wiring};
use crate::event::{Figures, Outcome};
use crate::journal::RunStatus;
use crate::language::inventory::{Database, PgBackRest};
use crate::plan::lock_of_database;
use crate::wal;

/// The shipped runbook whose forecast is told.
const RECOVERY: &str = "full-db-loss";
/// The same of a database whose backups pgBackRest has.
const THEIR_RECOVERY: &str = "full-db-loss-pgbackrest";

/// How a database stands.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The database.
    pub database: String,
    /// The environment.
    pub environment: String,
    /// When this was found out.
    pub at: Timestamp,
    /// Its server.
    pub server: ServerStatus,
    /// Whether a provider keeps it: then its backups here are dumps.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub managed: bool,
    /// The stanza of pgBackRest that has its backups, where no store has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stanza: Option<String>,
    /// Its archiving, as `runbook wal status` judges it; absent where it has no store.
    pub wal: Option<wal::archiving_status::ArchivingStatus>,
    /// Its newest base backup, of a managed one its newest dump; absent when there is none.
    pub backup: Option<Newest>,
    /// How many of them there are.
    pub backups: usize,
    /// How many of them are known to be damaged or incomplete, or rest on one that is.
    pub unsound: usize,
    /// The newest of them that a restore can take, where the newest is not sound; absent where none can be taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restorable: Option<Restorable>,
    /// The newest volume snapshot; its recovery begins with mounting it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Newest>,
    /// That the keys here do not open its newest base backup; absent where they do, and where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locked: Option<Locked>,
    /// Why its store tells nothing; empty when it does.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub store_fault: String,
    /// The store whose backups these are, where its own one tells nothing and this one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub told_by: Option<String>,
    /// The other stores that its backups go to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<Beside>,
    /// What the inventory's `backups` expect of it, held against what there is; empty where they say nothing of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expected: Vec<Health>,
    /// That all its copies are lost with its machine, and what to do about it; absent where they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub together: Option<String>,
    /// Databases that dumps name and that the server has no more, or that are shut.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub missing: BTreeMap<String, Missing>,
    /// Databases that a managed server has and that no dump names, or only an old one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub undumped: BTreeMap<String, Undumped>,
    /// What these expectations judge.
    #[serde(skip)]
    pub limits: Limits,
    /// The last restore of a backup that was checked, whether it passed or not.
    pub proof: Option<Proven>,
    /// Copies that runs here found damaged and whose stores do not know it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<Unkept>,
    /// The last drill of its recovery.
    pub drill: Option<Drilled>,
    /// How long a recovery will take.
    pub forecast: Option<Expected>,
    /// Why the shipped recovery cannot be planned; empty when it can.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub forecast_fault: String,
    /// The recovery that is open.
    pub open: Option<Open>,
    /// Recoveries that keep its backups frozen in its stores; of other machines and state folders, too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub frozen: Vec<Frozen>,
    /// Runs that concern it and have not ended.
    pub unfinished: Vec<Unfinished>,
    /// The run that stopped its server and is over, or given up, where no later one has started it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_by: Option<Stopper>,
    /// Why its restores are refused: its entry has `erasure`, and no ledger tells whom they must forget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unforgotten: Option<Unforgotten>,
    /// What recoveries have left beside its data.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<Remains>,
    /// How bad it is, all in all: what the code of the command says.
    pub level: Level,
    /// What to do next, most urgent first.
    pub next: Vec<String>,
}

impl Status {
    /// The shipped runbook that brings it back.
    pub fn recovery(&self) -> &'static str {
        if self.stanza.is_some() { THEIR_RECOVERY } else { RECOVERY }
    }

    /// The freezes of its stores that nothing else of this tells of: their runs are not known here, or are over.
    pub fn only_frozen(&self) -> impl Iterator<Item = &Frozen> {
        let is_told = |frozen: &Frozen| {
            let is_it = |run: &RunId| run.as_str() == frozen.run;
            self.open.iter().any(|open| is_it(&open.run)) || self.unfinished.iter().any(|run| is_it(&run.run))
        };
        self.frozen.iter().filter(move |frozen| !is_told(frozen))
    }

    /// Whether its prefix holds what another cluster archived and backed up, as after `pg_upgrade`.
    pub fn is_beside_another(&self) -> bool {
        self.wal.as_ref().is_some_and(|wal| wal.figures.other_cluster.is_some())
    }
}

/// A database that dumps name and that takes no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// When its newest dump was begun.
    pub dumped_at: Timestamp,
    /// Whether it is there, and shut.
    pub is_shut: bool,
}

/// Which limits the inventory sets itself, so that the usual ones do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// How old the newest backup may be.
    pub age: bool,
    /// How long ago a restore may have been proven.
    pub proof: bool,
    /// Which databases of the server must have a dump.
    pub dbnames: bool,
}

/// A backup in a few figures.
#[derive(Debug, Serialize)]
pub struct Newest {
    /// Its id.
    pub id: String,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Its stored size.
    pub size_bytes: u64,
    /// Whether it and all that it rests on are complete, and not known to be damaged.
    pub sound: bool,
}

/// A backup that can be restored, as far as is known.
#[derive(Debug, Serialize)]
pub struct Restorable {
    /// The backup.
    #[serde(flatten)]
    pub backup: Newest,
    /// The store whose copy is read, where it is another than that of the newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
}

/// What another store has of a database's backups than the one that is told first.
#[derive(Debug, Serialize)]
pub struct Beside {
    /// The store.
    pub store: String,
    /// Why it tells nothing; empty when it does.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fault: String,
    /// The newest of them there.
    pub backup: Option<Newest>,
    /// How many there are.
    pub backups: usize,
    /// Whether that is newer than all of the store that is told first, and not there.
    pub is_ahead: bool,
}

/// A restore that was checked.
#[derive(Debug, Serialize)]
pub struct Proven {
    /// Of which backup.
    pub backup: String,
    /// When.
    pub at: Timestamp,
    /// Whether it succeeded.
    pub passed: bool,
    /// How long it took.
    pub took_ms: u64,
    /// The run that checked it, perhaps on another machine.
    pub run: String,
    /// The run that proved it, where only the history of runs on this machine knows it and the store does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unkept: Option<RunId>,
}

/// A drill that was made.
#[derive(Debug, Serialize)]
pub struct Drilled {
    /// Its run.
    pub run: RunId,
    /// When it began.
    pub at: Option<Timestamp>,
    /// How it ended.
    pub outcome: Outcome,
    /// What it measured.
    pub figures: Box<Figures>,
}

/// A forecast and what it is held against.
#[derive(Debug, Serialize)]
pub struct Expected {
    /// The median, from past runs.
    pub median_ms: u64,
    /// The 95th percentile.
    pub p95_ms: u64,
    /// From how many runs.
    pub runs: usize,
    /// The objective.
    pub rto_ms: Option<u64>,
}

/// A run that has not ended.
#[derive(Debug, Serialize)]
pub struct Unfinished {
    /// The run.
    pub run: RunId,
    /// Its runbook.
    pub name: String,
    /// Where it stands.
    pub status: RunStatus,
    /// What brings it on.
    pub onward: Onward,
    /// Whether it has stopped the database's server, and nothing of it started it again.
    pub has_stopped: bool,
}

/// A run that nobody goes on with and that left the server stopped.
#[derive(Debug, Serialize)]
pub struct Stopper {
    /// The run.
    pub run: RunId,
    /// Its runbook.
    pub name: String,
    /// How it ended; absent where it did not, and nobody goes on with it.
    pub outcome: Option<Outcome>,
}

impl Unfinished {
    /// Whether nobody goes on with it any more.
    pub fn is_given_up(&self) -> bool {
        matches!(self.onward, Onward::End | Onward::Overtaken { .. })
    }
}

/// Gathers everything of one database.
pub fn of(name: &str, site: &Site, inventory: &InventoryArgs) -> Result<Status, Failure> {
    let runs = wiring::existing_runs()?;
    let host = site::machine()?;
    let looked = wiring::block_on(look(name, &site.inventory, (host.as_ref(), site.vault.as_ref() as &dyn Secrets)))?;
    let server = looked.unwrap_or_else(|error| ServerStatus { why: error.to_string(), ..ServerStatus::default() });
    let entry = site.inventory.databases.get(name);
    let stanza = entry.and_then(Database::sole_stanza).map(|known| known.stanza.clone());
    let mut kept = match stanza.is_some() {
        true => Kept::theirs(name, site),
        false => Kept::ours(name, kind(entry), site),
    };
    let lock = entry.map(lock_of_database).unwrap_or_default();
    let history = runs.as_ref().map(|runs| past(runs, name, &lock)).transpose()?.unwrap_or_default();
    let expectations = Expectations { site, stores: &[], believed: believed(&history.proofs) };
    let expected = expectations.judged(Some(name))?;
    kept.believe(history.proofs);
    let damaged = runs.as_ref().map(|runs| sighted::unkept(runs, name, site)).transpose()?.unwrap_or_default();
    let open = runs.as_ref().map(|runs| recovery::open(runs, &lock, None)).transpose()?.flatten();
    let managed = entry.is_some_and(Database::is_managed);
    let archives = entry.is_some_and(|entry| entry.store.is_some()) && !managed;
    let wal = archives.then(|| cli_wal::standing(site, name, None)).transpose()?;
    let lacking = missing(&server, &kept.dumped);
    let at = clock::now();
    let dumped = kept.perhaps_dumped.as_ref().filter(|_| managed);
    let undumped = entry.zip(dumped).map(|(entry, dumped)| undumped::of(&server, entry, (dumped, at)));
    let mut status = Status {
        wal,
        database: name.to_owned(),
        environment: site.environment.clone(),
        at,
        server,
        managed,
        stanza,
        backup: kept.newest,
        backups: kept.count,
        unsound: kept.unsound,
        snapshot: kept.snapshot,
        restorable: kept.restorable,
        locked: kept.locked,
        store_fault: kept.fault,
        missing: lacking,
        undumped: undumped.unwrap_or_default(),
        told_by: kept.told_by,
        beside: kept.beside,
        expected,
        together: together(name, site),
        limits: limits(name, site),
        proof: kept.proof,
        damaged,
        drill: history.drill,
        forecast: None,
        forecast_fault: String::new(),
        open,
        frozen: freezes::of(name, site, runs.as_ref())?,
        unfinished: history.unfinished,
        stopped_by: history.stopped_by,
        unforgotten: forgetting::fault(name, site),
        left: leftover::of(name, &site.inventory, runs.as_ref()),
        level: Level::Ok,
        next: Vec::new(),
    };
    if !managed {
        match forecast(name, status.recovery(), (inventory, &site.environment)) {
            Ok(forecast) => status.forecast = forecast,
            Err(why) => status.forecast_fault = why,
        }
    }
    let advice = advice::of(&status, &site.again);
    status.level = advice.iter().fold(Level::Ok, |worst, one| worst.worse(one.level));
    status.next = advice.into_iter().map(|one| one.text).collect();
    Ok(status)
}

/// The databases that dumps name and that a server that answers does not have, or has shut. Its entry's own one is told as lost.
fn missing(server: &ServerStatus, dumped: &BTreeMap<String, Timestamp>) -> BTreeMap<String, Missing> {
    if !server.answers || !server.contradictions.is_empty() {
        return BTreeMap::new();
    }
    let lost = server.lost.as_ref().map(|lost| &lost.dbname);
    let gone = dumped.iter().filter(|(name, _)| lost != Some(name)).filter_map(|(name, at)| {
        let is_shut = server.shut.contains(name);
        let is_missing = is_shut || !server.databases.contains(name);
        is_missing.then(|| (name.clone(), Missing { dumped_at: *at, is_shut }))
    });
    gone.collect()
}

/// That one machine holds the database and all copies of it, where that matters.
fn together(name: &str, site: &Site) -> Option<String> {
    let environment = site.inventory.environments.get(&site.environment);
    let found = site.inventory.copies_together(name).filter(|_| environment.is_some_and(|entry| entry.protected))?;
    (found.code == Code::CopiesOnOneMachine).then(|| format!("{}: {}", found.fact, found.help))
}

/// What the inventory says of the backups that are told first: the kind that its recovery needs.
fn limits(name: &str, site: &Site) -> Limits {
    let entry = site.inventory.databases.get(name);
    let kind = match entry.and_then(Database::sole_stanza) {
        Some(_) => PgBackRest::KIND,
        None => kind(entry),
    };
    let said = || site.inventory.backups.values().filter(|one| one.source == name && one.kind == kind);
    Limits {
        age: said().any(|one| one.max_age.is_some() || one.every.is_some() || one.cron.is_some()),
        proof: said().any(|one| one.max_proof_age.is_some()),
        dbnames: said().any(|one| !one.dbnames.is_empty()),
    }
}

/// The kind of backup that its recovery needs.
fn kind(entry: Option<&Database>) -> &'static str {
    if entry.is_some_and(Database::is_managed) { KIND_POSTGRES_DUMP } else { KIND_POSTGRES_BASE }
}

/// What the history of runs alone may know to have been proven.
fn believed(proofs: &BTreeMap<String, Proven>) -> BTreeMap<&str, Timestamp> {
    let passed = proofs.iter().filter(|(_, proof)| proof.passed);
    passed.map(|(backup, proof)| (backup.as_str(), proof.at)).collect()
}

/// Forecasts the shipped recovery; `None` where it was never made.
///
/// # Errors
/// Fails with the first reason why it cannot be planned.
fn forecast(
    name: &str,
    runbook: &str,
    (inventory, environment): (&InventoryArgs, &str),
) -> Result<Option<Expected>, String> {
    let told = |failure: Failure| failure.message;
    let prepared = prepare::load_runbook(runbook, inventory).map_err(told)?;
    let subject = Subject { runbook: runbook.to_owned(), inventory: inventory.clone(), ..Subject::default() };
    let params = [("database".to_owned(), serde_json::Value::String(name.to_owned()))].into();
    let identity = RunIdentity::new(Mode::DryRun, &wiring::state_root().map_err(told)?, params);
    let bound = prepared.bound(&subject, &identity, environment.to_owned()).map_err(told)?;
    let plan = bound.map_err(|errors| errors.first().map(ToString::to_string).unwrap_or_default())?;
    let forecast = history::forecast_of(&plan, &BTreeMap::new(), BTreeMap::new()).map_err(told)?;
    let rto_ms = plan.objectives.rto.map(|rto| u64::try_from(rto.0.as_millis()).unwrap_or(u64::MAX));
    Ok((forecast.runs > 0).then_some(Expected {
        median_ms: forecast.median_ms,
        p95_ms: forecast.p95_ms,
        runs: forecast.runs,
        rto_ms,
    }))
}
