//! One backup in several stores, one of which gives no answer once and answers a moment later: what it has committed is
//! never written over.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use runbook::action::{Action as _, ActionError, BackupHandle, ObjectKey, RunContext, Store, StoreError};
use runbook::actions::postgres::{BaseBackup, BaseBackupParams, Dump, DumpParams};
use runbook::base::Digest;
use runbook::language::inventory::StoreEntry;
use runbook::store::Opening;
use serde_json::{Value, json};

use crate::support::interposed::{Interposer, interposed};
use crate::support::recovery::{Depot, Run, Site};

/// Manifests cannot be read the first time.
struct Flapping(Arc<AtomicBool>);

impl Interposer for Flapping {
    fn before_get(&self, key: &ObjectKey) -> Result<(), StoreError> {
        if !key.as_str().ends_with("manifest.json") || self.0.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let source = std::io::Error::from(std::io::ErrorKind::TimedOut);
        Err(StoreError::Unavailable { store: "second".to_owned(), what: format!("cannot read `{key}`"), source })
    }
}

/// An attempt to which store `second` gives no answer at first.
fn flapping(run: &Run<'_>) -> RunContext {
    let context = run.context();
    let (stores, answers) = (Arc::clone(&context.stores), Arc::new(AtomicBool::new(false)));
    let open = move |name: &str| -> Result<Arc<dyn Store>, ActionError> {
        let inner = stores(name)?;
        Ok(if name == "second" { interposed(inner, Flapping(Arc::clone(&answers))) } else { inner })
    };
    RunContext { stores: Arc::new(open), ..context }
}

/// Stores `primary` and `second`, and the folder of the other.
fn site() -> (Site, PathBuf) {
    let site = Site::new();
    let folder = site.cluster.folder("second");
    let entry = StoreEntry { url: format!("file://{}", folder.display()), ..StoreEntry::default() };
    Opening::plain(&entry, "second").initialize().unwrap();
    site.beside.lock().unwrap().insert("second".to_owned(), entry);
    (site, folder)
}

/// Every object of a backup in a store with the digest of its content.
fn content(folder: &Path, backup: &BackupHandle, family: &str) -> Vec<(String, Digest)> {
    let entries = fs::read_dir(folder.join(format!("main/{family}/{}", backup.id))).unwrap();
    let one = |path: PathBuf| (path.file_name().unwrap().display().to_string(), Digest::of(&fs::read(path).unwrap()));
    let mut all: Vec<_> = entries.map(|entry| one(entry.unwrap().path())).collect();
    all.sort();
    all
}

fn with() -> Value {
    json!({ "database": "main", "stores": ["primary", "second"], "at_least": 1 })
}

async fn base(context: &RunContext) -> Vec<BackupHandle> {
    let params: BaseBackupParams = serde_json::from_value(with()).unwrap();
    let taken = BaseBackup.run(&params, context).await;
    taken.unwrap_or_else(|error| panic!("{:#?}", error.info())).copies
}

async fn dump(context: &RunContext) -> Vec<BackupHandle> {
    let params: DumpParams = serde_json::from_value(with()).unwrap();
    let dumped = Dump.run(&params, context).await;
    dumped.unwrap_or_else(|error| panic!("{:#?}", error.info())).dumps.remove(0).copies
}

#[tokio::test]
async fn a_copy_in_a_store_that_gave_no_answer_once_is_kept_as_it_is() {
    let (site, second) = site();
    let run = site.run();
    let (taken, dumped) = (base(&run.context()).await, dump(&run.context()).await);
    assert_eq!((taken.len(), dumped.len()), (2, 2), "{}", site.said());
    let before = (content(&second, &taken[0], "base"), content(&second, &dumped[0], "dump"));
    for (again, first) in [(base(&flapping(&run)).await, &taken), (dump(&flapping(&run)).await, &dumped)] {
        assert_eq!(&again, first, "{}", site.said());
    }
    assert_eq!((content(&second, &taken[0], "base"), content(&second, &dumped[0], "dump")), before);
    assert!(!site.said().contains("did not get the backup"), "{}", site.said());
}

#[tokio::test]
async fn a_copy_that_only_the_store_has_that_gave_no_answer_once_is_brought_to_the_others() {
    let (site, second) = site();
    let run = site.run();
    let taken = base(&run.context()).await;
    fs::remove_dir_all(site.depot.root.join(format!("main/base/{}", taken[0].id))).unwrap();
    let before = content(&second, &taken[0], "base");
    site.cluster.sql("CREATE TABLE later(n int)");
    let again = base(&flapping(&run)).await;
    assert_eq!(again, taken, "it is that very backup: {}", site.said());
    assert_eq!(content(&second, &taken[0], "base"), before);
    assert!(site.said().contains("store `primary` gets a copy of the backup"), "{}", site.said());
}

#[tokio::test]
async fn a_lacking_store_gets_a_base_backup_of_its_own_where_no_key_here_reads_the_one_of_the_others() {
    let mut without = Depot::default().encrypted();
    without.entry.encryption.as_mut().unwrap().identities.clear();
    // An identity of another time, which fits none of the recipients.
    let mut other = Depot::default().encrypted();
    other.secrets = Depot::default().encrypted().secrets;
    for depot in [without, other] {
        gets_one_of_its_own(depot).await;
    }
}

async fn gets_one_of_its_own(depot: Depot) {
    let site = Site::over(depot, &[]);
    let url = format!("file://{}", site.cluster.folder("second").display());
    let closed = StoreEntry { url: format!("{url}-closed"), read_only: true, ..StoreEntry::default() };
    site.beside.lock().unwrap().insert("second".to_owned(), closed);
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let run = site.run();
    let params: BaseBackupParams = serde_json::from_value(with()).unwrap();
    let attempt = async || BaseBackup.run(&params, &run.context()).await;
    assert_eq!(attempt().await.unwrap().copies.len(), 1, "{}", site.said());
    let only = StoreEntry { url: url.clone(), ..StoreEntry::default() };
    Opening::plain(&only, "second").initialize().unwrap();
    site.beside.lock().unwrap().insert("second".to_owned(), only);
    site.cluster.sql("INSERT INTO t VALUES (2)");
    let taken = attempt().await.unwrap_or_else(|error| panic!("{:#?}", error.info()));
    assert!(site.said().contains("store `second` gets a base backup of its own"), "{}", site.said());
    let [first, second] = taken.copies.as_slice() else { panic!("{taken:?}") };
    assert_eq!((second.store.as_str(), second.id.as_str()), ("second", format!("{}.second", first.id).as_str()));
    // Another attempt finds both, and takes none anew.
    assert_eq!(attempt().await.unwrap().copies, taken.copies);
    // Each is whole, and of its own moment.
    let begins = |root: &Path, id: &str| {
        let folder = root.join(format!("main/base/{id}"));
        let manifest: Value = serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap();
        for object in manifest["objects"].as_array().unwrap() {
            let stored = Digest::of(&fs::read(folder.join(object["name"].as_str().unwrap())).unwrap());
            assert_eq!(object["sha256"], stored.to_string().as_str(), "{object}");
        }
        let lsn = manifest["postgres"]["start_lsn"].as_str().unwrap().to_owned();
        site.cluster.sql(&format!("SELECT '{lsn}'::pg_lsn - '0/0'::pg_lsn")).parse::<u64>().unwrap()
    };
    let own = begins(&site.cluster.dir().join("second"), &second.id);
    assert!(begins(&site.depot.root, &first.id) < own, "{taken:?}");
}
