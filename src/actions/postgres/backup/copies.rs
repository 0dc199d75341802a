//! The stores that one backup goes to, and how many of them must have it in the end.

use super::base_backup::BaseBackupParams;
use super::delivery::{self, Arrivals, BackupStore, Shortfall};
use super::duplicate;
use crate::action::{ActionError, CheckContext, Findings, PutOptions, RunContext, Store, StoreError, StoreRef};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::stores::archive;
use crate::actions::store::catalog_failed;
use crate::base::{Attempt, Digest};
use crate::catalog::{self, Backup, BackupPlace, CatalogError, Manifest, cluster_key};
use crate::event::ErrorClass;
use crate::pgformat::SystemId;
use crate::transfer::Packing;

/// What to do about a store that is not there.
fn unmounted(store: &str) -> String {
    format!(
        "mount it; a store that is used for the first time is made once with `runbook backups init --store {store}`"
    )
}

/// Where copies of a backup are wanted.
pub(crate) struct Copies<'a> {
    /// The stores, the one that counts first in front.
    pub(crate) names: Vec<&'a str>,
    /// How many must have it.
    pub(crate) at_least: usize,
    /// The prefix inside each.
    pub(crate) prefix: &'a str,
}

/// What has come of it so far.
#[derive(Default)]
pub(crate) struct Outcome {
    /// The copies there are.
    pub(crate) backups: Vec<Backup>,
    /// The stores that have none, and why.
    pub(crate) failures: Vec<(String, ActionError)>,
    /// The stores that were stopped for these failures, with nothing against them.
    pub(crate) stopped: Vec<String>,
}

impl Outcome {
    /// Whether a store has its copy.
    pub(crate) fn has(&self, store: &str) -> bool {
        self.backups.iter().any(|backup| backup.store == store)
    }
}

impl BackupStore {
    /// The copy that the store has already; `None` when it has none.
    ///
    /// # Errors
    /// Fails when it does not answer: it may have one then.
    pub(crate) async fn committed(&self, place: &BackupPlace) -> Result<Option<Backup>, ActionError> {
        committed(self.store.as_ref(), place).await.map_err(|error| archive::broken(&error))
    }
}

impl<'a> Copies<'a> {
    /// What the arguments want; without them the database's own store and its `backup_stores`.
    ///
    /// # Errors
    /// Fails when the database names no store, and when more copies are wanted than there are stores.
    pub(crate) fn of(params: &'a BaseBackupParams, cluster: &'a Cluster) -> Result<Self, ActionError> {
        Self::named((params.stores.as_deref(), params.at_least), cluster)
    }

    /// The stores of a list and how many of them must have it; without a list those of the database's entry.
    ///
    /// # Errors
    /// Fails as [`Copies::of`].
    pub(crate) fn named(
        (stores, at_least): (Option<&'a [StoreRef]>, Option<usize>),
        cluster: &'a Cluster,
    ) -> Result<Self, ActionError> {
        let (_, prefix) = cluster.archive()?;
        let mut names: Vec<&str> = Vec::new();
        for name in stores.into_iter().flatten().map(StoreRef::as_str) {
            if names.contains(&name) {
                return Err(ActionError::fatal(format!("store `{name}` is named twice")));
            }
            names.push(name);
        }
        if names.is_empty() {
            names.extend(cluster.entry.backup_destinations());
        }
        let at_least = at_least.unwrap_or(names.len());
        if at_least == 0 || at_least > names.len() {
            let fact = format!("at least {at_least} copies cannot be made in {} stores", names.len());
            return Err(ActionError::fatal(fact).help("give a number from 1 to the number of `stores`"));
        }
        Ok(Self { names, at_least, prefix })
    }

    /// Gives the stores that can take the backup now. Refuses when they are fewer than must have it; as long as they are
    /// enough, each other one is a warning: `at_least` is there for the night on which a store is down.
    pub(crate) async fn usable(&self, cx: &CheckContext, findings: Findings) -> (Vec<&'a str>, Findings) {
        let (mut usable, mut unusable) = (Vec::new(), Vec::new());
        for name in &self.names {
            match probe(name, self.prefix, cx).await {
                Ok(()) => usable.push(*name),
                Err(error) => unusable.push((*name, error)),
            }
        }
        let enough = usable.len() >= self.at_least;
        let findings = unusable.into_iter().fold(findings, |findings, (name, error)| {
            let fact = error.in_full();
            let help = error.info().help.clone().unwrap_or_else(|| "look at the store's entry".to_owned());
            match enough {
                true => findings.warn(format!("store `{name}` will not get the backup: {fact}"), help),
                false => findings.refuse(fact, with_fewer(help, usable.len())),
            }
        });
        (usable, findings)
    }

    /// The copies that an earlier attempt has committed.
    pub(crate) async fn there(&self, place: &BackupPlace, cx: &RunContext) -> Result<Outcome, ActionError> {
        let mut outcome = Outcome::default();
        for name in &self.names {
            let loaded = match cx.store(name) {
                Ok(store) => committed(store.as_ref(), place).await,
                Err(error) if self.names.len() == 1 => return Err(error),
                Err(_) => continue,
            };
            match loaded {
                Ok(copy) => outcome.backups.extend(copy),
                // Others may be enough; `ready` says of this one what it says then.
                Err(CatalogError::Store(StoreError::Unavailable { .. })) if self.at_least < self.names.len() => {}
                Err(error) => return Err(archive::broken(&error)),
            }
        }
        Ok(outcome)
    }

    /// Readies the stores that have no copy yet. Those that cannot be used are noted as failures; one that gave no answer
    /// before may turn out to have its copy, which is never written over.
    pub(crate) async fn ready(
        &self,
        outcome: &mut Outcome,
        (place, system_id): (&BackupPlace, SystemId),
        cx: &RunContext,
    ) -> Vec<BackupStore> {
        let mut backup_stores = Vec::new();
        for name in &self.names {
            if outcome.has(name) {
                continue;
            }
            let claimed = async {
                let backup_store = BackupStore::open(name, cx)?;
                self.demand_mounted(&backup_store, cx.attempt).await?;
                claim(backup_store.store.as_ref(), self.prefix, system_id).await?;
                backup_store.committed(place).await.map(|copy| (backup_store, copy))
            };
            match claimed.await {
                Ok((backup_store, None)) => backup_stores.push(backup_store),
                Ok((_, Some(copy))) => outcome.backups.push(copy),
                Err(error) => outcome.failures.push(((*name).to_owned(), error)),
            }
        }
        backup_stores
    }

    /// Refuses a store that is not there: the first write would make a new one in the folder that its disk is mounted at. Where
    /// all must have the backup, the check has refused it right before the first attempt; no check comes before a later one.
    ///
    /// # Errors
    /// Fails when it is not there.
    pub(crate) async fn demand_mounted(&self, backup_store: &BackupStore, attempt: Attempt) -> Result<(), ActionError> {
        if self.at_least == self.names.len() && attempt.0 <= 1 {
            return Ok(());
        }
        let marker = cluster_key(self.prefix).map_err(catalog_failed)?;
        match backup_store.store.as_read().head(&marker).await {
            Err(error) if error.is_unborn() => Err(archive::failed(&error).help(unmounted(backup_store.store.name()))),
            // Anything else shows when it is written to.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Copies a backup that one of the stores has into another one. What fails there is noted.
    ///
    /// # Errors
    /// Fails when it is cancelled.
    pub(crate) async fn copy_into(
        &self,
        outcome: &mut Outcome,
        (original, backup_store): (&Backup, &BackupStore),
        cx: &RunContext,
    ) -> Result<(), ActionError> {
        let manifest = duplicate::copied(original, backup_store, cx).await;
        if let Err(error) = &manifest
            && error.info().class == ErrorClass::Cancelled
        {
            return Err(error.clone());
        }
        self.commit(outcome, backup_store, manifest).await;
        Ok(())
    }

    /// Commits the backup in a store where all its objects are.
    pub(crate) async fn commit(
        &self,
        outcome: &mut Outcome,
        backup_store: &BackupStore,
        manifest: Result<Manifest, ActionError>,
    ) {
        let name = backup_store.store.name().to_owned();
        let committed = match manifest {
            Ok(manifest) => catalog::commit(backup_store.store.as_ref(), self.prefix, manifest)
                .await
                .map_err(|error| archive::broken(&error)),
            Err(error) => Err(error),
        };
        match committed {
            Ok(backup) => outcome.backups.push(backup),
            Err(error) => outcome.failures.push((name, error)),
        }
    }

    /// Notes what went wrong in the stores that did not get everything.
    pub(crate) fn fail(&self, backup_stores: &[BackupStore], arrivals: Arrivals, outcome: &mut Outcome) {
        for (backup_store, arrival) in backup_stores.iter().zip(arrivals.into_inner()) {
            let name = backup_store.store.name().to_owned();
            match arrival {
                Ok(_) => {}
                Err(Shortfall::Failed(error)) => outcome.failures.push((name, error)),
                Err(Shortfall::Stopped) => outcome.stopped.push(name),
            }
        }
    }

    /// Refuses to go on when too few stores are left, and in the end when too few have the backup.
    ///
    /// # Errors
    /// Fails with what happened in the stores that failed; worth another try when it is for one of them.
    pub(crate) fn judge(&self, hopeful: usize, outcome: &mut Outcome, cx: &RunContext) -> Result<(), ActionError> {
        if outcome.backups.len() + hopeful < self.at_least {
            return Err(match (self.names.len(), outcome.failures.pop()) {
                (1, Some((_, error))) => error,
                (_, last) => {
                    outcome.failures.extend(last);
                    self.together(outcome)
                }
            });
        }
        for (name, error) in std::mem::take(&mut outcome.failures) {
            let why = error.in_full();
            let data = serde_json::json!({ "store": name, "causes": error.info().causes,
                "lacking": { "store": name, "why": why } });
            cx.reporter.note(format!("warning: store `{name}` did not get the backup: {why}"), data);
        }
        outcome.backups.sort_by_key(|backup| self.names.iter().position(|name| backup.store == *name));
        Ok(())
    }

    fn together(&self, outcome: &Outcome) -> ActionError {
        let failed = outcome.failures.iter().map(|(name, error)| format!("`{name}`: {}", error.in_full()));
        let stopped = outcome.stopped.iter().map(|name| {
            format!("`{name}` took it and was stopped for that, since {} must have it", in_stores(self.at_least))
        });
        let told: Vec<String> = failed.chain(stopped).collect();
        let fact = format!(
            "{} must have the backup, {} have it; {}",
            in_stores(self.at_least),
            outcome.backups.len(),
            told.join("; ")
        );
        let retryable = outcome.failures.iter().any(|(_, error)| error.info().class == ErrorClass::Retryable);
        let error = if retryable { ActionError::retryable(fact) } else { ActionError::fatal(fact) };
        let mut helps: Vec<&str> =
            outcome.failures.iter().filter_map(|(_, error)| error.info().help.as_deref()).collect();
        helps.dedup();
        helps.push("a copy that is there stays and counts when the step runs again");
        error.help(with_fewer(helps.join("; "), self.names.len().saturating_sub(outcome.failures.len())))
    }
}

fn in_stores(count: usize) -> String {
    match count {
        1 => "1 store".to_owned(),
        count => format!("{count} stores"),
    }
}

/// Adds to an advice how the stores that are left get the backup meanwhile.
fn with_fewer(help: String, left: usize) -> String {
    if left == 0 {
        return help;
    }
    format!(
        "{help}; until then `at_least: {left}` keeps the backup in the others, and the run ends with exceptions: `-p at_least={left}` of \
         `base-backup` and `daily-backup`, `runbook backup --at-least {left}`"
    )
}

async fn committed(store: &dyn Store, place: &BackupPlace) -> Result<Option<Backup>, CatalogError> {
    match catalog::load(store.as_read(), place).await {
        Ok(backup) => Ok(Some(backup)),
        Err(CatalogError::Store(StoreError::NotFound { .. })) => Ok(None),
        // Nothing was written to it yet. One that does not answer may have the copy.
        Err(CatalogError::Store(error)) if error.is_unborn() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Tells whether a store answers, and whether something can be packed for it.
async fn probe(name: &str, prefix: &str, cx: &CheckContext) -> Result<(), ActionError> {
    if let Some(entry) = cx.about.inventory.stores.get(name)
        && let Err(error) = Packing::of(entry, cx.about.secrets.as_ref())
    {
        let help = "look at the store's `compression` and `encryption`";
        return Err(delivery::unpackable(name, &error).help(help));
    }
    match cx.store(name)?.browse(&format!("{prefix}/")).await {
        Ok(_) => Ok(()),
        Err(error @ StoreError::Unavailable { .. }) => {
            let told = ActionError::retryable(error.to_string()).help(unmounted(name));
            Err(std::error::Error::source(&error).into_iter().fold(told, ActionError::because))
        }
        Err(error) => Err(archive::failed(&error)),
    }
}

/// Takes the prefix for this cluster; the first write makes a new store.
async fn claim(store: &dyn Store, prefix: &str, system_id: SystemId) -> Result<(), ActionError> {
    let key = catalog::cluster_key(prefix).map_err(|error| archive::broken(&error))?;
    let text = format!("{system_id}\n").into_bytes();
    let metadata = [("sha256".to_owned(), Digest::of(&text).to_string())].into();
    let options = PutOptions { if_absent: true, metadata, ..PutOptions::default() };
    match store.put(&key, Box::new(std::io::Cursor::new(text)), options).await {
        Ok(_) | Err(StoreError::Exists { .. }) => {}
        Err(error) => return Err(archive::failed(&error)),
    }
    catalog::claim_prefix(store, prefix, system_id).await.map_err(|error| archive::broken(&error))
}
