//! The stores that WAL is pushed to: one, or several of which some number must have a file.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::sync::OnceCell;

use super::acks::Freshness;
use super::command::STORE;
use super::push::{WalFile, store_file};
use super::spool::Spool;
use super::{Config, Destination, Identity, Keys, Pushed, Source, WalError};
use crate::action::{Secrets, Store};
use crate::catalog::{claim_prefix, wal_objects};
use crate::language::inventory::StoreEntry;
use crate::pgformat::WalFileName;
use crate::store::Opening;
use crate::transfer::Packing;

/// How long stores that are not needed may be later than those that are.
const LAG: Duration = Duration::from_secs(3);

/// How long a question may take; a push that goes on without its answer has all the time that a push has.
const ASKING: Duration = Duration::from_secs(5);

/// One store.
pub(super) struct TargetStore {
    /// Where it is, for people.
    pub(super) url: String,
    pub(super) store: Arc<dyn Store>,
    pub(super) packing: Packing,
    entry: StoreEntry,
    secrets: Arc<dyn Secrets>,
    claimed: OnceCell<()>,
}

/// What stores say of a file that was noted as safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// They have it.
    There,
    /// One lacks it: it became another store, or went back to an earlier state.
    Lost,
    /// One gave no answer.
    Untold,
}

/// Every store of a configuration.
pub(super) struct TargetStores {
    pub(super) all: Vec<TargetStore>,
    pub(super) prefix: String,
    pub(super) identity: Identity,
    at_least: usize,
}

/// What became of a file.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) pushed: Pushed,
    /// The stores that do not have it, by their number, and why.
    pub(super) lagging: Vec<(usize, String)>,
}

impl TargetStores {
    /// Opens the stores. Touches none of them yet.
    pub(super) fn open(config: &Config, identity: Identity) -> Result<Self, WalError> {
        let vault = config.vault() as Arc<dyn Secrets>;
        let target_stores = config.stores().map(|entry| {
            let packing = Packing::of(entry, &*vault)?;
            let store = Opening::new(entry, STORE, Arc::clone(&vault)).open_existing()?;
            let (url, secrets) = (entry.url.clone(), Arc::clone(&vault));
            Ok(TargetStore { url, store, packing, entry: entry.clone(), secrets, claimed: OnceCell::new() })
        });
        let all = target_stores.collect::<Result<Vec<TargetStore>, WalError>>()?;
        Ok(Self { all, prefix: config.prefix.clone(), identity, at_least: config.at_least() })
    }

    /// Brings a file into the stores. A success when as many have it as must, and none has another file in its place:
    /// that one would never catch up.
    pub(super) async fn push(&self, file: &WalFile) -> Result<Arrival, WalError> {
        if let [only] = self.all.as_slice() {
            return Ok(Arrival { pushed: self.bring(only, file).await?, lagging: Vec::new() });
        }
        let each = |number: usize| async move { (number, self.bring(&self.all[number], file).await) };
        let mut under_way: FuturesUnordered<_> = (0..self.all.len()).map(each).collect();
        let (mut safe, mut pushed) = (Vec::new(), Pushed::WasThere);
        let mut lagging: Vec<(usize, String)> = Vec::new();
        let mut conflict = None;
        loop {
            let is_enough = safe.len() >= self.at_least;
            let next = match is_enough {
                true => tokio::time::timeout(LAG, under_way.next()).await.unwrap_or(None),
                false => under_way.next().await,
            };
            match next {
                Some((number, Ok(did))) => {
                    safe.push(number);
                    if did == Pushed::Stored {
                        pushed = did;
                    }
                }
                Some((number, Err(error))) => {
                    let what = error.to_string();
                    if error.is_conflict() {
                        conflict.get_or_insert_with(|| (number, what.clone()));
                    }
                    lagging.push((number, what));
                }
                None => break,
            }
        }
        if let Some((number, what)) = conflict {
            return Err(WalError::Conflict { url: self.all[number].url.clone(), what });
        }
        let heard = |number: &usize| safe.contains(number) || lagging.iter().any(|(one, _)| one == number);
        let late: Vec<usize> = (0..self.all.len()).filter(|number| !heard(number)).collect();
        lagging.extend(late.into_iter().map(|number| (number, "it is late".to_owned())));
        if safe.len() >= self.at_least {
            return Ok(Arrival { pushed, lagging });
        }
        let why = self.in_words(&lagging);
        Err(WalError::TooFew { name: file.name, safe: safe.len(), wanted: self.at_least, why })
    }

    /// A file that too few stores have as long as nobody knows which of them lack it.
    pub(super) fn unnoted(&self, name: WalFileName, arrival: &Arrival, why: &str) -> WalError {
        let (safe, wanted) = (self.all.len() - arrival.lagging.len(), self.all.len());
        let why = format!("it cannot be noted that one lacks it: {why}; {}", self.in_words(&arrival.lagging));
        WalError::TooFew { name, safe, wanted, why }
    }

    /// Asks the stores that had a file when it was noted as safe whether they have it still. A folder is always asked, what lies
    /// behind a network only when the note is old: the question is a round trip. A store that is known to lack it is not asked.
    pub(super) async fn keep(&self, name: WalFileName, freshness: Freshness, spool: Option<&Spool>) -> Kept {
        let is_asked = |store: &&TargetStore| {
            let is_cheap = store.url.starts_with("file://");
            let owes = spool.is_some_and(|spool| spool.owes(&store.url, name));
            (is_cheap || freshness == Freshness::Old) && !owes
        };
        let ask = |store: &TargetStore| {
            let store = Arc::clone(&store.store);
            async move { wal_objects(store.as_read(), &self.prefix, self.identity.system_id, name).await }
        };
        let asked = join_all(self.all.iter().filter(is_asked).map(ask));
        let Ok(told) = tokio::time::timeout(ASKING, asked).await else { return Kept::Untold };
        match told.iter().any(|found| matches!(found, Ok(found) if found.is_empty())) {
            true => Kept::Lost,
            false if told.iter().all(Result::is_ok) => Kept::There,
            false => Kept::Untold,
        }
    }

    /// Tells which stores lag, and why.
    pub(super) fn in_words(&self, lagging: &[(usize, String)]) -> String {
        let words: Vec<String> =
            lagging.iter().map(|(number, why)| format!("`{}`: {why}", self.all[*number].url)).collect();
        words.join("; ")
    }

    /// Where one of the stores is read, with what this machine can read there.
    pub(super) fn source<'a>(&'a self, target_store: &'a TargetStore) -> Source<'a> {
        let keys = Keys { settings: Some(&target_store.entry), secrets: &*target_store.secrets };
        Source { store: target_store.store.as_read(), prefix: &self.prefix, identity: self.identity, keys }
    }

    /// Where one of the stores keeps the cluster's WAL.
    pub(super) fn destination<'a>(&'a self, target_store: &'a TargetStore) -> Destination<'a> {
        Destination {
            store: &*target_store.store,
            prefix: &self.prefix,
            identity: self.identity,
            packing: &target_store.packing,
        }
    }

    async fn bring(&self, target_store: &TargetStore, file: &WalFile) -> Result<Pushed, WalError> {
        let claim = || claim_prefix(&*target_store.store, &self.prefix, self.identity.system_id);
        let claimed = async { Ok(target_store.claimed.get_or_try_init(claim).await.map(drop)?) };
        store_file(self.destination(target_store), file, claimed).await
    }
}
