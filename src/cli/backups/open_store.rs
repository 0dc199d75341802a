//! The stores that a command looks into, and the backups found there.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::action::{ReadStore, Store, StoreError};
use crate::catalog::attest::Vouched;
use crate::catalog::recovery::weak_increments;
use crate::catalog::{Backup, BackupList, Catalog, CatalogError, Index};
use crate::cli::args::InventoryArgs;
use crate::cli::site::Site;
use crate::cli::{Exit, Failure, wiring};
use crate::language::inventory::StoreEntry;

/// Which stores are looked into.
#[derive(Debug, Clone, clap::Args)]
pub struct Stores {
    /// Only this store of the inventory, or `file:///absolute/path`; repeatable. Default: all of the inventory
    #[arg(long, value_name = "STORE|URL")]
    pub store: Vec<String>,
    #[command(flatten)]
    pub inventory: InventoryArgs,
    /// The environment whose stores are meant
    #[arg(short, long, value_name = "NAME")]
    pub environment: Option<String>,
}

/// One store, open for reading.
pub struct OpenStore {
    /// Its name in the inventory, or its URL.
    pub name: String,
    /// What the inventory says of it.
    pub entry: StoreEntry,
    /// What was read of it before.
    pub index: Index,
}

/// A store that gave no answer.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Unreached {
    /// The store.
    pub store: String,
    /// Why.
    pub why: String,
}

/// The stores of a site.
pub struct Shelves {
    /// The site.
    pub site: Site,
    /// The stores.
    pub open_stores: Vec<OpenStore>,
}

/// What the stores hold.
#[derive(Default)]
pub struct Found {
    /// By store.
    pub lists: Vec<(String, BackupList)>,
    /// Stores that gave no answer.
    pub unreached: Vec<Unreached>,
    /// Why an increment cannot be restored that rests on something damaged or lost; by store and id.
    pub weak: BTreeMap<(String, String), String>,
}

impl Stores {
    /// Reads the inventory and names the stores.
    ///
    /// # Errors
    /// Fails when the inventory is not sound, or has no such store.
    pub fn open_stores(&self, json: bool) -> Result<Shelves, Failure> {
        let bare = !self.store.is_empty() && self.store.iter().all(|store| store.contains("://"));
        let site = match bare {
            true => Site::bare()?,
            false => Site::read(&self.inventory, self.environment.as_deref(), json.into())?,
        };
        let names = match self.store.is_empty() {
            true => site.inventory.stores.keys().cloned().collect(),
            false => self.store.clone(),
        };
        if names.is_empty() && site.inventory.databases.values().all(|entry| entry.pgbackrest.is_none()) {
            let failure = Failure::new(Exit::Usage, "the inventory has no store");
            return Err(failure.help("name an inventory with `--inventory FILE`, or a place with `--store URL`"));
        }
        let folder = wiring::state_root()?.join("catalog");
        let open_store = |name: &String| -> Result<OpenStore, Failure> {
            let entry = match name.contains("://") {
                true => StoreEntry { url: name.clone(), ..StoreEntry::default() },
                false => site.store_entry(name)?.clone(),
            };
            Ok(OpenStore { name: name.clone(), index: Index::open(&folder, &entry.url), entry })
        };
        let open_stores = names.iter().map(open_store).collect::<Result<_, _>>()?;
        Ok(Shelves { site, open_stores })
    }
}

impl Shelves {
    /// Lists every backup of every store. A store that gives no answer does not hide the others.
    ///
    /// # Errors
    /// Fails when the runtime cannot be started.
    pub fn list(&self) -> Result<Found, Failure> {
        wiring::block_on(async {
            let mut found = Found::default();
            for open_store in &self.open_stores {
                match self.list_one(open_store).await {
                    Ok(list) => {
                        found.weak.append(&mut weak_increments(&list.backups));
                        found.lists.push((open_store.name.clone(), list));
                    }
                    Err(why) => found.unreached.push(Unreached { store: open_store.name.clone(), why }),
                }
            }
            found
        })
    }

    async fn list_one(&self, open_store: &OpenStore) -> Result<BackupList, String> {
        let store = self.reader(open_store).map_err(|failure| chain(&failure))?;
        let vouched = self.vouched(&*store).map_err(|failure| chain(&failure))?;
        let list = Catalog::of(&vouched).with_index(&open_store.index).everything().await;
        let list = list.map_err(|error| of_catalog(&error))?;
        if let Err(error) = open_store.index.save() {
            tell!("warning: what was read is not kept for the next time: {error}");
        }
        Ok(list)
    }

    /// Opens a store for reading.
    ///
    /// # Errors
    /// Fails when its entry makes no sense.
    pub fn reader(&self, open_store: &OpenStore) -> Result<Arc<dyn ReadStore>, Failure> {
        let opened = self.site.opening(&open_store.name, &open_store.entry).open_read();
        opened.map_err(|error| Failure::new(Exit::Invalid, "the store cannot be opened").because(&error))
    }

    /// Shows a store with the proofs that count: without those that no trusted signer has signed.
    ///
    /// # Errors
    /// Fails when a signer of the inventory makes no sense.
    pub fn vouched<'a>(&self, store: &'a dyn ReadStore) -> Result<Vouched<'a>, Failure> {
        Vouched::of(store, &self.site.inventory.audit.proof_signers).map_err(|error| {
            Failure::new(Exit::Invalid, "`audit.proof_signers` of the inventory makes no sense").because(&error)
        })
    }

    /// Opens a store that must exist already, for writing.
    ///
    /// # Errors
    /// Fails when its entry makes no sense.
    pub fn writer(&self, name: &str) -> Result<Arc<dyn Store>, Failure> {
        let open_store = self.open_store(name)?;
        let opened = self.site.opening(&open_store.name, &open_store.entry).open_existing();
        opened.map_err(|error| Failure::new(Exit::Invalid, "the store cannot be opened").because(&error))
    }

    /// One of the stores.
    ///
    /// # Errors
    /// Fails when it is not among them.
    pub fn open_store(&self, name: &str) -> Result<&OpenStore, Failure> {
        let found = self.open_stores.iter().find(|open_store| open_store.name == name);
        found.ok_or_else(|| Failure::new(Exit::Usage, format!("`{name}` is none of the stores")))
    }
}

impl Found {
    /// Why what a backup rests on cannot be restored; `None` where nothing is known to be wrong with it.
    pub fn weak(&self, backup: &Backup) -> Option<&str> {
        self.weak.get(&(backup.store.clone(), backup.manifest.id.clone())).map(String::as_str)
    }

    /// Every copy of the backup with this id or unique beginning of one, in every store.
    ///
    /// # Errors
    /// Fails when there is none, or when several backups begin so (exit 2).
    pub fn copies(&self, text: &str) -> Result<Vec<&Backup>, Failure> {
        let all = || self.lists.iter().flat_map(|(_, list)| &list.backups);
        let exact: Vec<&Backup> = all().filter(|backup| backup.manifest.id == text).collect();
        let found = if exact.is_empty() {
            all().filter(|backup| backup.manifest.id.starts_with(text)).collect()
        } else {
            exact
        };
        let names =
            |list: &[&Backup]| list.iter().map(|backup| (backup.place(), backup.manifest.kind.clone())).collect();
        let distinct: std::collections::BTreeSet<_> = names(&found);
        match distinct.len() {
            0 => {
                let failure = Failure::new(Exit::Usage, format!("no backup has the id `{text}`"));
                let torn = |one: &crate::catalog::DamagedBackup| one.key.as_str().split('/').any(|part| part == text);
                if let Some((store, one)) = self.damaged().find(|(_, one)| torn(one)) {
                    let fact = format!("backup `{text}` in `{store}` has a manifest that cannot be used: {}", one.why);
                    let help = "use its copy in another store, or its objects by `restore.sh` in its folder";
                    return Err(Failure::new(Exit::Failed, fact).help(help));
                }
                let help = match self.unreached.as_slice() {
                    [] => "`runbook backups list` shows them all".to_owned(),
                    [first, ..] => format!("but store `{}` gave no answer: {}", first.store, first.why),
                };
                Err(failure.help(help))
            }
            1 => Ok(found),
            count => {
                let listed = distinct.iter().map(|(place, _)| format!("`{}`", place.folder())).collect::<Vec<_>>();
                let failure =
                    Failure::new(Exit::Usage, format!("{count} backups have an id that begins with `{text}`"));
                Err(failure
                    .help(format!("they are {}; narrow it with `--store`, or give more of the id", listed.join(", "))))
            }
        }
    }

    fn damaged(&self) -> impl Iterator<Item = (&str, &crate::catalog::DamagedBackup)> {
        self.lists.iter().flat_map(|(store, list)| list.damaged.iter().map(move |one| (store.as_str(), one)))
    }

    /// Says which stores gave no answer, and how the command ends.
    pub fn finish(&self, otherwise: Exit) -> Exit {
        for unreached in &self.unreached {
            let why = crate::report::mask_text(&unreached.why);
            match why.starts_with("store `") {
                true => tell!("error: {why}"),
                false => tell!("error: store `{}` gave no answer: {why}", unreached.store),
            }
        }
        if self.unreached.is_empty() { otherwise } else { Exit::Failed }
    }
}

/// An error of a store in one line.
pub fn of_store(error: &StoreError) -> String {
    with_causes(error.to_string(), std::error::Error::source(error))
}

/// An error of the catalog in one line.
pub fn of_catalog(error: &CatalogError) -> String {
    match error {
        CatalogError::Store(error) => of_store(error),
        other => with_causes(other.to_string(), std::error::Error::source(other)),
    }
}

fn with_causes(mut words: String, mut next: Option<&(dyn std::error::Error + 'static)>) -> String {
    while let Some(cause) = next {
        // What a store says of itself has the system's answer in it already.
        let told = cause.to_string();
        if !words.ends_with(&told) {
            words = format!("{words}: {told}");
        }
        next = cause.source();
    }
    words
}

fn chain(failure: &Failure) -> String {
    match failure.causes.as_slice() {
        [] => failure.message.clone(),
        causes => causes.join(": "),
    }
}
