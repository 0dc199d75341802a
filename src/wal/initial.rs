//! Readies a place for WAL before the first segment comes.

use std::io::{self, Cursor};
use std::path::Path;
use std::sync::Arc;

use super::command::STORE;
use super::spool::lies_outside;
use super::{Config, DataFolders, Identity, WalError};
use crate::action::{ObjectKey, PutOptions, ReadStore, Secrets, Store, StoreError};
use crate::base::Digest;
use crate::catalog::{CatalogError, check_prefix, claim_prefix, wal_owner};
use crate::host::local_files;
use crate::language::inventory::{StoreEntry, StoreLocation};
use crate::pgformat::SystemId;
use crate::store::Opening;
use crate::transfer::Packing;

/// What marks a prefix: for people who look into the bucket, and proof that it can be written.
const README: &str = "The WAL archive of one PostgreSQL cluster. Written by `runbook wal push`, read by `runbook wal fetch`.\n\
                      Do not delete, rename or overwrite anything here by hand: a recovery needs every segment.\n";

/// Makes every folder a store, or proves that a bucket can be read and written and marks the prefix in it.
/// Tells in one line what there is. Settings that make no sense are found out here.
///
/// # Errors
/// Fails when the store cannot be used, or the prefix belongs to another cluster.
pub(super) fn initialize(
    config: &Config,
    pgdata: &Path,
    runtime: &tokio::runtime::Runtime,
) -> Result<String, WalError> {
    config.for_writing()?;
    if let Some(spool) = &config.spool {
        let refused = |source| WalError::File { operation: "use the spool", path: spool.clone(), source };
        lies_outside(spool, pgdata).map_err(refused)?;
    }
    config.stores().try_for_each(|entry| refuse_inside(entry, pgdata))?;
    let lines = config.stores().map(|entry| initialize_one(config, entry, (pgdata, runtime)));
    Ok(lines.collect::<Result<Vec<String>, WalError>>()?.join("; "))
}

/// A store in the data would be lost with it, and be in every base backup.
fn refuse_inside(entry: &StoreEntry, pgdata: &Path) -> Result<(), WalError> {
    let Ok(StoreLocation::Folder(folder)) = entry.url.parse::<StoreLocation>() else { return Ok(()) };
    let files = local_files();
    let pgdata = pgdata.canonicalize().unwrap_or_else(|_| pgdata.to_owned());
    let data = DataFolders::of(&pgdata, files.as_ref());
    let Some(around) = data.around(&folder, files.as_ref()) else { return Ok(()) };
    let what = format!("it lies in `{}`, where the server's data lies: name a folder outside of it", around.display());
    let source = io::Error::new(io::ErrorKind::InvalidInput, what);
    Err(WalError::File { operation: "use the store", path: folder, source })
}

fn initialize_one(
    config: &Config,
    entry: &StoreEntry,
    (pgdata, runtime): (&Path, &tokio::runtime::Runtime),
) -> Result<String, WalError> {
    let url = &entry.url;
    let vault = config.vault();
    Packing::of(entry, &*vault)?;
    let opening = Opening::new(entry, STORE, vault as Arc<dyn Secrets>);
    opening.initialize()?;
    let identity = match Identity::of(config, pgdata) {
        Ok(identity) => Some(identity),
        Err(WalError::Unidentified(_)) => None,
        Err(error) => return Err(error),
    };
    let store = opening.open_existing()?;
    if let Some(folder) = url.strip_prefix("file://") {
        if let Some(Identity { system_id, .. }) = identity {
            runtime.block_on(refuse_other(store.as_read(), &config.prefix, system_id))?;
        }
        let is_roots = std::fs::metadata(folder).is_ok_and(|facts| std::os::unix::fs::MetadataExt::uid(&facts) == 0);
        return Ok(match is_roots {
            true => format!(
                "`{url}` is a store, and it belongs to root: the server cannot write to it; `chown -R postgres {folder}`, if \
                 postgres is its user"
            ),
            false => format!("`{url}` is a store"),
        });
    }
    runtime.block_on(async {
        mark(&*store, &config.prefix).await?;
        match identity {
            Some(Identity { system_id, .. }) => {
                claim_prefix(&*store, &config.prefix, system_id).await?;
                check_prefix(store.as_read(), &config.prefix, system_id).await?;
                Ok(format!("`{url}` can be read and written; the prefix `{}` is cluster {system_id}'s", config.prefix))
            }
            None => Ok(format!(
                "`{url}` can be read and written; the prefix `{}` will be that of the first cluster that pushes",
                config.prefix
            )),
        }
    })
}

/// Nothing is claimed in a folder before its first segment comes; what is another cluster's already stays that.
async fn refuse_other(store: &dyn ReadStore, prefix: &str, ours: SystemId) -> Result<(), WalError> {
    let theirs = wal_owner(store, prefix).await?.filter(|theirs| *theirs != ours);
    theirs.map_or(Ok(()), |theirs| {
        let (prefix, theirs) = (prefix.to_owned(), theirs.to_string());
        Err(CatalogError::OtherCluster { prefix, theirs, ours }.into())
    })
}

async fn mark(store: &dyn Store, prefix: &str) -> Result<(), WalError> {
    let text = format!("{prefix}/wal/README");
    let key: ObjectKey = text.parse().map_err(|_| CatalogError::Key(text))?;
    // A listing that is not allowed would make every absence an error later.
    store.as_read().list(&format!("{prefix}/wal/README")).await?;
    let metadata = [("sha256".to_owned(), Digest::of(README.as_bytes()).to_string())].into();
    let options = PutOptions { if_absent: true, metadata, ..PutOptions::default() };
    match store.put(&key, Box::new(Cursor::new(README.as_bytes())), options).await {
        // Another version of the program wrote another text.
        Ok(_) | Err(StoreError::Exists { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
