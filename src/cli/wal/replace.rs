//! Replaces damaged copies for `wal mend --digests`.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::action::{Secrets, Store, StoreError};
use crate::catalog::{CatalogError, wal_file_of};
use crate::cli::site::Site;
use crate::cli::{Exit, Failure};
use crate::pgformat::WalFileName;
use crate::transfer::Packing;
use crate::wal::{Destination, Repaired, Source, WalError, read_file, repair};

use super::mend::Archive;

/// How many files in a row a store may fail to give before the rest of it is left: it is gone, and each would be waited for.
const GONE_AFTER: usize = 3;

/// What became of the damaged copies in one store.
pub(super) struct Replaced {
    /// The store.
    pub(super) store: String,
    /// The files that were damaged when they were read.
    pub(super) damaged: Vec<WalFileName>,
    /// Those that were not replaced, and why.
    pub(super) failed: Vec<(WalFileName, String)>,
    /// The files of which nobody knows whether they are damaged, and why.
    pub(super) unread: Vec<(WalFileName, String)>,
}

/// What the files of one store are when they are read.
#[derive(Default)]
struct Looked {
    damaged: Vec<WalFileName>,
    unread: Vec<(WalFileName, String)>,
}

/// Whether damaged copies are replaced, or only named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Named.
    Plan,
    /// Replaced.
    Do,
}

/// Reads every copy of every file, and replaces those that are damaged by what another store has whole. What cannot be read
/// keeps nothing else from being replaced. A store that has nothing of either kind is not told.
///
/// # Errors
/// Fails when a store cannot be listed or cannot be written to.
pub(super) async fn replace(
    site: &Site,
    (archives, sources): (&[Archive], &[Source<'_>]),
    way: Way,
) -> Result<Vec<Replaced>, Failure> {
    let mut all = Vec::new();
    for (at, archive) in archives.iter().enumerate() {
        let Looked { damaged, unread } = look(&sources[at]).await.map_err(|error| {
            let what = format!("the WAL in store `{}` cannot be listed", archive.name);
            Failure::new(Exit::Failed, what).because(&error)
        })?;
        if damaged.is_empty() && unread.is_empty() {
            continue;
        }
        let mut replaced = Replaced { store: archive.name.clone(), damaged, failed: Vec::new(), unread };
        if way == Way::Do && !replaced.damaged.is_empty() {
            let others: Vec<Source<'_>> =
                sources.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, source)| *source).collect();
            replaced.failed = replace_in(site, (archive, &sources[at]), &others, &replaced.damaged).await?;
        }
        all.push(replaced);
    }
    Ok(all)
}

/// Replaces in one store. What fails does not keep the rest from being replaced.
async fn replace_in(
    site: &Site,
    (archive, own): (&Archive, &Source<'_>),
    others: &[Source<'_>],
    damaged: &[WalFileName],
) -> Result<Vec<(WalFileName, String)>, Failure> {
    let secrets = Arc::clone(&site.vault) as Arc<dyn Secrets>;
    let packing = Packing::of(&archive.entry, &*secrets).map_err(|error| {
        Failure::new(Exit::Invalid, format!("nothing can be packed for store `{}`", archive.name)).because(&error)
    })?;
    let store: Arc<dyn Store> = site.store(&archive.name)?;
    let to = Destination { store: &*store, prefix: own.prefix, identity: own.identity, packing: &packing };
    let mut failed = Vec::new();
    for name in damaged {
        match repair(others, to, *name).await {
            Ok(Repaired::Replaced) => {}
            Ok(Repaired::NotProven) => {
                let why = "its stored bytes match the digest beside them, or there is none: look at it by hand";
                failed.push((*name, why.to_owned()));
            }
            Err(error) => failed.push((*name, error.to_string())),
        }
    }
    Ok(failed)
}

/// Reads every file of a store: which are there and are not what was stored, and which cannot be read.
async fn look(source: &Source<'_>) -> Result<Looked, WalError> {
    let folder = format!("{}/wal/{}/", source.prefix, source.identity.system_id);
    let listed = source.store.list(&folder).await.map_err(CatalogError::from)?;
    let named = listed.iter().filter_map(|facts| wal_file_of(facts.key.as_str().rsplit('/').next()?));
    let names: BTreeSet<WalFileName> = named.map(|(name, _)| name).collect();
    let (mut looked, mut silent) = (Looked::default(), 0);
    for name in names {
        if silent >= GONE_AFTER {
            looked.unread.push((name, "it was not asked for: the store gives no answer".to_owned()));
            continue;
        }
        let read = read_file(source, name).await;
        silent = if matches!(read, Err(WalError::Store(StoreError::Unavailable { .. }))) { silent + 1 } else { 0 };
        match read {
            Ok(_) => {}
            // Pruned since it was listed.
            Err(WalError::Store(StoreError::NotFound { .. })) => {}
            Err(WalError::Damaged { .. }) => looked.damaged.push(name),
            Err(other) => looked.unread.push((name, other.to_string())),
        }
    }
    Ok(looked)
}
