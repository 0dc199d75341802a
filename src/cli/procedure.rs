//! Which shipped runbook backs a database up or brings it back: that follows from who has its backups.

use std::collections::BTreeMap;

use serde_json::Value;

use super::again::Again;
use super::site::{self, Site};
use super::{Exit, Failure, attest, wiring};
use crate::actions::pgbackrest;
use crate::base::Timestamp;
use crate::catalog::{BackupList, Catalog, KIND_POSTGRES_DUMP, KIND_POSTGRES_SNAPSHOT, Manifest};
use crate::language::inventory::Database;
use crate::plan::INCIDENT_AT;

/// The shipped runbook that brings one database within a server back.
const OF_A_DUMP: &str = "restore-dump";
/// The shipped runbook that gives the old data up for its room.
const IN_PLACE: &str = "restore-in-place";

/// Who has the base backups of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeper {
    /// This program, in a store of the inventory.
    Store,
    /// pgBackRest, in its repository.
    PgBackRest,
    /// A provider, who keeps the server; here are its dumps.
    Provider,
}

impl Keeper {
    /// The keeper of an entry.
    pub fn of(entry: &Database) -> Self {
        match entry.is_managed() {
            true => Self::Provider,
            false if entry.sole_stanza().is_some() => Self::PgBackRest,
            false => Self::Store,
        }
    }

    /// The shipped runbook that takes a backup.
    pub fn backup(self) -> &'static str {
        match self {
            Self::Store => "base-backup",
            Self::PgBackRest => "pgbackrest-backup",
            Self::Provider => "daily-backup",
        }
    }

    /// The parameter of that runbook that says the tier: pgBackRest's are its types.
    pub fn tier(self) -> &'static str {
        match self {
            Self::Store | Self::Provider => "tier",
            Self::PgBackRest => "type",
        }
    }
}

/// Where a restore ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// As far as there is anything.
    Newest,
    /// A point in time.
    At(Timestamp),
    /// The end of a backup.
    Backup(String),
}

/// A restore that was asked for.
pub struct Asked<'a> {
    /// The database.
    pub database: &'a str,
    /// The database within the server, where one was named: only a dump is of one.
    pub dbname: Option<&'a str>,
    /// Where it ends.
    pub goal: &'a Goal,
    /// The timeline to follow, where one was named.
    pub timeline: Option<u32>,
    /// What becomes of the data that is there, where it is not to be kept.
    pub existing: Option<GivenUp>,
    /// When service was lost.
    pub incident_at: Timestamp,
    /// What commands that are printed repeat.
    pub again: &'a Again,
}

/// How the data that is there is given up for its room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum GivenUp {
    /// What differs from the backup is written over
    Delta,
    /// It is removed before the backup is written
    Replace,
}

impl GivenUp {
    /// As it is typed.
    pub fn word(self) -> &'static str {
        match self {
            Self::Delta => "delta",
            Self::Replace => "replace",
        }
    }
}

/// What a backup is that was named by its id.
enum Named {
    /// A base backup in a store of ours.
    Base,
    /// A dump of this database within the server.
    Dump(String),
    /// A dump that another program made, which does not say what it is of.
    Imported,
    /// A snapshot of a volume.
    Snapshot,
    /// One that pgBackRest has.
    OfStanza,
    /// None that is known here.
    Unknown,
}

/// A shipped runbook with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Procedure {
    /// Its name.
    pub runbook: &'static str,
    /// Its parameters.
    pub params: BTreeMap<String, Value>,
}

impl Procedure {
    fn new(runbook: &'static str, asked: &Asked<'_>) -> Self {
        let database = Value::String(asked.database.to_owned());
        let incident = Value::String(asked.incident_at.to_string());
        let params = [("database".to_owned(), database), (INCIDENT_AT.to_owned(), incident)].into();
        Self { runbook, params }
    }

    /// Whether it recovers from a store of ours and the WAL in it.
    pub fn replays_our_wal(&self) -> bool {
        ["full-db-loss", "pitr", "side-copy", IN_PLACE].contains(&self.runbook)
    }

    fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.params.insert(name.to_owned(), value.into());
        self
    }
}

/// The procedure that gives the old data up, instead of one that keeps it.
fn in_place_of(procedure: Procedure, existing: GivenUp) -> Result<Procedure, Failure> {
    match (procedure.runbook, existing) {
        ("full-db-loss" | "pitr", _) => {
            Ok(Procedure { runbook: IN_PLACE, ..procedure }.with("existing", existing.word()))
        }
        ("full-db-loss-pgbackrest", GivenUp::Delta) => Ok(procedure.with("delta", true)),
        ("full-db-loss-pgbackrest", GivenUp::Replace) => {
            Err(Failure::new(Exit::Usage, "pgBackRest restores beside the old data or over it, and removes none first")
                .help("use `--existing delta`"))
        }
        (other, _) => {
            Err(Failure::new(Exit::Usage, format!("`{other}` replaces no data directory"))
                .help("leave `--existing` out"))
        }
    }
}

/// What a store has; why it gives no answer. One that is not there at all may be a disk that is not mounted.
fn listed(site: &Site, name: &str, prefix: &str) -> Result<BackupList, String> {
    let reader = site.read_store(name).map_err(|failure| failure.in_full())?;
    let listed = wiring::block_on(async { Catalog::of(reader.as_ref()).list(prefix).await });
    listed.map_err(|failure| failure.in_full())?.map_err(|error| attest::chain(&error))
}

impl Asked<'_> {
    /// A copy beside the live database.
    ///
    /// # Errors
    /// Fails (exit 2) where nothing here can make one.
    pub fn beside(&self, site: &Site) -> Result<Procedure, Failure> {
        let why = match self.keeper(site) {
            Keeper::Store => {
                self.demand_no_dump(site)?;
                let mut copy = self.physical(Procedure::new("side-copy", self));
                copy.params.remove(INCIDENT_AT);
                return Ok(copy);
            }
            Keeper::PgBackRest => format!("pgBackRest has the backups of `{}`", self.database),
            Keeper::Provider => self.managed(),
        };
        Err(Failure::new(Exit::Usage, why)
            .help("a copy beside the live database is made of base backups in a `store` alone"))
    }

    /// Refuses the id of a dump where a copy is to be made.
    fn demand_no_dump(&self, site: &Site) -> Result<(), Failure> {
        let Goal::Backup(id) = self.goal else { return Ok(()) };
        let entry = site.inventory.databases.get(self.database);
        let found = entry.and_then(|entry| self.manifest(site, (entry, id)).0);
        if found.is_none_or(|manifest| manifest.kind != KIND_POSTGRES_DUMP) {
            return Ok(());
        }
        let fact = format!("`{id}` is a dump: a copy beside the live database is made of base backups");
        Err(Failure::new(Exit::Usage, fact).help(
            "without `--side` it is restored beside, compared and swapped in, and what it replaces is kept; `runbook drill \
             restore-dump` opens it in a throw-away server",
        ))
    }

    /// What brings the database back.
    ///
    /// # Errors
    /// Fails (exit 2) where the goal is out of reach of whoever has the backups; the help says who reaches it. So it does
    /// where one database was named and the whole server would be replaced.
    pub fn in_place(&self, site: &Site) -> Result<Procedure, Failure> {
        let procedure = self.chosen(site)?;
        if let (Some(timeline), OF_A_DUMP) = (self.timeline, procedure.runbook) {
            let fact = format!("`--timeline {timeline}`: a dump is of one moment, and no WAL is replayed after it");
            return Err(
                Failure::new(Exit::Usage, fact).help("leave `--timeline` out, or name a base backup with `--to`")
            );
        }
        let procedure = match self.existing {
            Some(existing) => in_place_of(procedure, existing)?,
            None => procedure,
        };
        match self.dbname {
            Some(name) if procedure.runbook != OF_A_DUMP => Err(self.whole(name)),
            Some(_) | None => Ok(procedure),
        }
    }

    fn chosen(&self, site: &Site) -> Result<Procedure, Failure> {
        match (self.keeper(site), self.goal) {
            (Keeper::PgBackRest, Goal::Newest | Goal::At(_) | Goal::Backup(_)) => {
                Ok(self.physical(Procedure::new("full-db-loss-pgbackrest", self)))
            }
            (Keeper::Provider, Goal::At(at)) => Err(self.provider_only(*at)),
            (Keeper::Provider, Goal::Newest) => self.dump(self.dbname_of(site)?, None),
            (keeper @ (Keeper::Provider | Keeper::Store), Goal::Backup(id)) => match self.named(site, id)? {
                Named::Dump(dbname) => self.dump(dbname, Some(id)),
                Named::Imported => self.imported(id),
                Named::Snapshot => Err(self.of_a_volume(id)),
                Named::OfStanza => Ok(self.physical(Procedure::new("full-db-loss-pgbackrest", self))),
                Named::Base | Named::Unknown if keeper == Keeper::Provider => {
                    self.dump(self.dbname_of(site)?, Some(id))
                }
                Named::Base | Named::Unknown => Ok(self.physical(Procedure::new("pitr", self))),
            },
            (Keeper::Store, Goal::Newest) => Ok(self.physical(Procedure::new("full-db-loss", self))),
            (Keeper::Store, Goal::At(_)) => Ok(self.physical(Procedure::new("pitr", self))),
        }
    }

    fn keeper(&self, site: &Site) -> Keeper {
        site.inventory.databases.get(self.database).map_or(Keeper::Store, Keeper::of)
    }

    /// The goal as the runbooks of base backups take it.
    fn physical(&self, procedure: Procedure) -> Procedure {
        let procedure = match self.timeline {
            Some(timeline) => procedure.with("timeline", timeline),
            None => procedure,
        };
        match self.goal {
            Goal::Newest => procedure,
            Goal::At(at) => procedure.with("recover_to", at.to_string()),
            Goal::Backup(id) => procedure.with("backup", id.as_str()).with("immediate", true),
        }
    }

    /// A dump: it brings back the moment it was taken at.
    fn dump(&self, dbname: String, id: Option<&str>) -> Result<Procedure, Failure> {
        if let Some(other) = self.dbname.filter(|other| *other != dbname) {
            let fact = format!("the dump is of `{dbname}`, not of `{other}`");
            return Err(Failure::new(Exit::Usage, fact).help("leave `--dbname` out, or name a backup of that one"));
        }
        let procedure = Procedure::new(OF_A_DUMP, self).with("dbname", dbname);
        Ok(match id {
            Some(id) => procedure.with("backup", id),
            None => procedure,
        })
    }

    /// A dump that another program made: whoever names it says which database it becomes.
    fn imported(&self, id: &str) -> Result<Procedure, Failure> {
        match self.dbname {
            Some(dbname) => self.dump(dbname.to_owned(), Some(id)),
            None => {
                Err(Failure::new(Exit::Usage, format!("`{id}` was imported and does not say which database it is of"))
                    .help("say with `--dbname NAME` which database within the server it becomes"))
            }
        }
    }

    /// Which database within the server is meant, where no dump says it.
    fn dbname_of(&self, site: &Site) -> Result<String, Failure> {
        let entry = site.inventory.databases.get(self.database);
        let own = entry.map(|entry| entry.dbname.as_str()).filter(|name| !name.is_empty() && *name != "postgres");
        self.dbname.or(own).map(str::to_owned).ok_or_else(|| {
            let list = self.again.line(["backups", "list", "--source", self.database]);
            Failure::new(Exit::Usage, "it is not said which database within the server is to come back")
                .help(format!("name it with `--dbname NAME`; `{list}` shows the dumps"))
        })
    }

    /// What a backup is that was named by its id. Fails where no store that answers has it, and one gives no answer: what
    /// was meant as a dump must not become a recovery of the whole server.
    fn named(&self, site: &Site, id: &str) -> Result<Named, Failure> {
        let Some(entry) = site.inventory.databases.get(self.database) else { return Ok(Named::Unknown) };
        let (found, silent) = self.manifest(site, (entry, id));
        Ok(match (found.as_ref().map(|manifest| (manifest.kind.as_str(), &manifest.dump)), silent) {
            (Some((KIND_POSTGRES_DUMP, Some(facts))), _) => Named::Dump(facts.dbname.clone()),
            (Some((KIND_POSTGRES_DUMP, None)), _) => Named::Imported,
            (Some((KIND_POSTGRES_SNAPSHOT, _)), _) => Named::Snapshot,
            (Some(_), _) => Named::Base,
            (None, _) if entry.pgbackrest.is_some() && self.has_label(site, id) => Named::OfStanza,
            (None, Some(silent)) => {
                let fact = format!("whether `{id}` is a base backup or a dump is not known: {silent}");
                let help =
                    "try again when the store answers; `--store` of `runbook backups list` shows what another one has";
                return Err(Failure::new(Exit::Refused, fact).help(help));
            }
            (None, None) => Named::Unknown,
        })
    }

    /// The manifest of a backup, in whichever store has it, the database's own first; and why the first store that gives no
    /// answer does not.
    fn manifest(&self, site: &Site, (entry, id): (&Database, &str)) -> (Option<Manifest>, Option<String>) {
        let prefix = entry.prefix.as_deref().unwrap_or(self.database);
        let others = entry.keeping().into_iter().filter(|name| entry.store.as_deref() != Some(*name));
        let mut silent = None;
        for name in entry.store.as_deref().into_iter().chain(others) {
            match listed(site, name, prefix) {
                Ok(list) => {
                    let mut manifests = list.backups.into_iter().map(|one| one.manifest);
                    if let Some(found) = manifests.find(|manifest| manifest.id == id) {
                        return (Some(found), None);
                    }
                }
                Err(why) => silent = silent.or(Some(format!("store `{name}` gives no answer: {why}"))),
            }
        }
        (None, silent)
    }

    /// Whether pgBackRest has a backup of that label.
    fn has_label(&self, site: &Site, label: &str) -> bool {
        let looked = site::machine().ok().and_then(|host| {
            let looking = async { pgbackrest::look(self.database, &site.inventory, host.as_ref()).await };
            wiring::block_on(looking).ok()?.ok()
        });
        looked.is_some_and(|standing| standing.backups.iter().any(|backup| backup.id == label))
    }

    /// A snapshot is of a volume, which only its owner can mount.
    fn of_a_volume(&self, id: &str) -> Failure {
        let message =
            format!("`{id}` is a snapshot of a volume: what it holds has to be mounted before it is restored");
        let pitr = self.again.line(["pitr", self.database]);
        Failure::new(Exit::Usage, message).help(format!(
            "mount it, then carry out a procedure like `examples/volume-restore.yaml`: `postgres.restore_snapshot` of \
             backup `{id}`, then `postgres.recover`; `{pitr}` shows what else leads back"
        ))
    }

    /// What replaces the whole server is not for who named one database of it.
    fn whole(&self, name: &str) -> Failure {
        let list = self.again.line(["backups", "list", "--source", self.database]);
        let message = format!("`--dbname {name}`: this replaces the whole server, not one database of it");
        Failure::new(Exit::Usage, message).help(format!(
            "name a dump of `{name}` by its id with `--to` (`{list}`), bring tables back with the runbook \
             `accidental-drop`, or look at a copy with `--side`; without `--dbname` the whole server goes back"
        ))
    }

    fn managed(&self) -> String {
        format!("`{}` is managed: its provider has its base backups and its WAL, here are its dumps", self.database)
    }

    fn provider_only(&self, at: Timestamp) -> Failure {
        let params = [format!("database={}", self.database), format!("before={at}"), "incident_at=now".to_owned()];
        let dbname = format!("dbname={}", self.dbname.unwrap_or("NAME"));
        let params = params.iter().chain([&dbname]).flat_map(|param| ["-p", param.as_str()]);
        let command = self.again.change(["run", OF_A_DUMP].into_iter().chain(params));
        Failure::new(Exit::Usage, self.managed()).help(format!(
            "a point in time is restored by the provider, into a new server: then set `address` to that one; the newest \
             dump from before it comes back with `{command}`"
        ))
    }
}
