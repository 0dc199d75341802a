//! What brings a database back where `runbook restore` cannot: it brings back base backups of servers that are kept here.

use super::again::Again;
use super::site::Site;
use super::{Exit, Failure, wiring};
use crate::catalog::attest::Vouched;
use crate::catalog::{Catalog, KIND_POSTGRES_DUMP};
use crate::language::inventory::Inventory;

/// The shipped runbook that brings back a dump.
const OF_DUMPS: &str = "restore-dump";

/// A restore that was asked for.
pub struct Asked<'a> {
    /// The database.
    pub database: &'a str,
    /// The id of a backup, where one was named.
    pub backup: Option<&'a str>,
    /// What commands that are printed repeat.
    pub again: &'a Again,
}

impl Asked<'_> {
    /// Says what restores a managed server; `None` for any other one.
    pub fn managed(&self, seen: &Inventory) -> Option<Failure> {
        let entry = seen.databases.get(self.database).filter(|entry| entry.is_managed())?;
        let fact = format!(
            "`{}` is managed: its provider has its base backups and its WAL, here are its dumps",
            self.database
        );
        let dbname = if entry.dbname.is_empty() { "postgres" } else { &entry.dbname };
        let command = self.command(dbname);
        Some(Failure::new(Exit::Usage, fact).help(format!(
            "a dump comes back with `{command}`; a point in time is restored by the provider, into a new server: then set \
             `address` to that one"
        )))
    }

    /// Says what restores the backup that was named, where that is a dump. A store that gives no answer says nothing.
    pub fn dump(&self, site: &Site) -> Option<Failure> {
        let (id, entry) = (self.backup?, site.inventory.databases.get(self.database)?);
        let prefix = entry.prefix.as_deref().unwrap_or(self.database);
        let reader = site.read_store(entry.store.as_deref()?).ok()?;
        let vouched = Vouched::of(reader.as_ref(), &site.inventory.audit.proof_signers).ok()?;
        let listed = wiring::block_on(async { Catalog::of(&vouched).list(prefix).await }).ok()?.ok()?;
        let is_meant = |known: &str, kind: &str| known == id && kind == KIND_POSTGRES_DUMP;
        let found = listed.backups.into_iter().find(|one| is_meant(&one.manifest.id, &one.manifest.kind))?;
        let dbname = found.manifest.dump.map(|facts| facts.dbname)?;
        let fact = format!("backup `{id}` is a dump of `{dbname}`, no base backup");
        Some(Failure::new(Exit::Usage, fact).help(format!(
            "`{}` brings it back; with `dry-run` instead of `run` it changes nothing",
            self.command(&dbname)
        )))
    }

    fn command(&self, dbname: &str) -> String {
        let params = [format!("database={}", self.database), format!("dbname={dbname}"), "incident_at=now".to_owned()];
        let backup = self.backup.map(|id| format!("backup={id}"));
        let params: Vec<String> = params.into_iter().chain(backup).collect();
        let params = params.iter().flat_map(|param| ["-p", param.as_str()]);
        self.again.change(["run", OF_DUMPS].into_iter().chain(params))
    }
}
