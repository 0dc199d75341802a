//! What surrounds a store: its way, its room, its settings, and whether it dies with the database.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::finding::{Finding, Verdict};
use super::probe::told;
use crate::action::{DefaultEncryption, DefaultLock, ReadBucket, Store, StoreError, Versioning};
use crate::base::units::ByteSize;
use crate::cli::site::Site;
use crate::language::inventory::{Database, StoreEntry};

/// What is known without asking the store.
pub(super) fn look(site: &Site, name: &str, entry: &StoreEntry) -> Vec<Finding> {
    let mut findings = vec![way(entry)];
    if let Some(folder) = entry.url.strip_prefix("file://") {
        let uses = |(_, database): &(_, &Database)| database.archives().any(|store| store == name);
        let databases = site.inventory.databases.iter().filter(uses);
        findings.extend(databases.filter_map(|(database, settings)| same_device(database, &settings.pgdata, folder)));
    }
    findings
}

/// Whether the servers that archive here do so into the stores that the inventory names: a recovery asks it, not them.
pub(super) async fn archiving(site: &Site, name: &str) -> Vec<Finding> {
    let uses = |(_, database): &(&String, &Database)| {
        database.archives().any(|store| store == name) && !database.is_managed() && !database.scratch
    };
    let mut findings = Vec::new();
    for (database, entry) in site.inventory.databases.iter().filter(uses) {
        let found = match crate::cli::wal::differences(site, database).await {
            Ok(differences) if differences.is_empty() => {
                let fact = format!("`{database}` archives into the stores that the inventory names");
                vec![Finding::new("archiving", Verdict::Fine, fact)]
            }
            Ok(differences) => {
                let advice = format!(
                    "`runbook run setup-archiving -p database={database}` writes what the inventory says; or mend the inventory"
                );
                let told = |fact| Finding::new("archiving", Verdict::Warning, fact).advise(advice.clone());
                differences.into_iter().map(told).collect()
            }
            // With one store there is little to differ: whoever probes it need not reach the server.
            Err(_) if entry.archives().count() < 2 => Vec::new(),
            Err(why) => vec![Finding::new("archiving", Verdict::Fact, why)],
        };
        findings.extend(found);
    }
    findings
}

/// How the bytes travel.
fn way(entry: &StoreEntry) -> Finding {
    let what = "way";
    if entry.url.starts_with("file://") {
        return Finding::new(what, Verdict::Fact, "a folder of this machine");
    }
    if entry.url.starts_with("sftp://") {
        return Finding::new(what, Verdict::Fine, "SSH");
    }
    match entry.endpoint.as_deref() {
        Some(endpoint) if endpoint.starts_with("http://") => {
            Finding::new(what, Verdict::Warning, format!("`{endpoint}` is not encrypted"))
                .advise("give the server a certificate and write `https://`; on loopback it does no harm")
        }
        Some(_) | None => Finding::new(what, Verdict::Fine, "TLS 1.2 or newer: nothing older is spoken here"),
    }
}

/// A backup on the database's own device is gone with it (3-2-1).
fn same_device(database: &str, pgdata: &Path, folder: &str) -> Option<Finding> {
    let device = |path: &Path| path.ancestors().find_map(|path| path.metadata().ok()).map(|facts| facts.dev());
    let (data, store) = (device(pgdata)?, device(Path::new(folder))?);
    if data != store {
        let fact = format!("another one than that of `{database}`, on the same machine");
        return Some(Finding::new("device", Verdict::Fact, fact).advise("keep a copy on another machine too"));
    }
    let fact = format!("the data of `{database}` lies on the same device: both are lost together");
    Some(Finding::new("device", Verdict::Warning, fact).advise("keep three copies on two media, one of them elsewhere"))
}

/// What the store says of itself; nothing is changed.
pub(super) async fn settings(store: &dyn Store, entry: &StoreEntry) -> Vec<Finding> {
    let mut findings = Vec::new();
    match store.capacity().await {
        Ok(Some(room)) => {
            let fact = format!("{} free of {}", ByteSize(room.free_bytes), ByteSize(room.total_bytes));
            findings.push(Finding::new("room", Verdict::Fact, fact));
        }
        Ok(None) => {}
        Err(error) => findings.push(Finding::new("room", Verdict::Warning, told(&error))),
    }
    if let Some(bucket) = store.as_read().read_bucket() {
        findings.push(region(bucket, entry).await);
        findings.push(versioning(bucket).await);
        findings.push(encryption(bucket, entry).await);
        findings.push(lock(bucket, entry).await);
        findings.push(lifecycle(bucket).await);
    }
    findings
}

/// A setting that may not be read is no fault of a role that does not need it.
fn unread(what: &'static str, error: &StoreError) -> Finding {
    Finding::new(what, Verdict::Fact, format!("cannot be read: {error}"))
}

async fn region(bucket: &dyn ReadBucket, entry: &StoreEntry) -> Finding {
    match bucket.region().await {
        Ok(region) if entry.allow_regions.is_empty() => Finding::new("region", Verdict::Fact, format!("`{region}`"))
            .advise("where law binds the data to a place, list it in `allow_regions`: anything else is then refused"),
        Ok(region) if entry.allow_regions.contains(&region) => {
            Finding::new("region", Verdict::Fine, format!("`{region}`, which `allow_regions` has"))
        }
        Ok(region) => {
            Finding::new("region", Verdict::Missing, format!("`{region}`, which `allow_regions` does not have"))
                .advise("move the bucket, or allow its region")
        }
        Err(error) => unread("region", &error),
    }
}

async fn versioning(bucket: &dyn ReadBucket) -> Finding {
    let help = "`s3.versioning` turns them on: a deletion or a replacement can then be undone";
    match bucket.versioning().await {
        Ok(Versioning::On) => Finding::new("versions", Verdict::Fine, "kept: a deletion can be undone"),
        Ok(Versioning::Suspended) => Finding::new("versions", Verdict::Warning, "suspended").advise(help),
        Ok(Versioning::Off) => Finding::new("versions", Verdict::Warning, "not kept").advise(help),
        Err(error) => unread("versions", &error),
    }
}

async fn encryption(bucket: &dyn ReadBucket, entry: &StoreEntry) -> Finding {
    match bucket.encryption().await {
        Ok(Some(DefaultEncryption::Aes256)) => {
            Finding::new("at rest", Verdict::Fine, "encrypted with a key of the store's")
        }
        Ok(Some(DefaultEncryption::Kms { .. })) => {
            Finding::new("at rest", Verdict::Fine, "encrypted with a key of the key service")
        }
        Ok(Some(DefaultEncryption::Other(name))) => {
            Finding::new("at rest", Verdict::Fine, format!("encrypted: {name}"))
        }
        Ok(None) if entry.sse.is_some() => {
            Finding::new("at rest", Verdict::Fine, "encrypted as `sse` says, not by default")
        }
        Ok(None) => Finding::new("at rest", Verdict::Warning, "not encrypted by default")
            .advise("set it with `s3.encryption`; what `encryption` of the store encrypts is safe in any case"),
        Err(error) => unread("at rest", &error),
    }
}

async fn lock(bucket: &dyn ReadBucket, entry: &StoreEntry) -> Finding {
    match (bucket.object_lock().await, entry.object_lock.is_some()) {
        (Ok(DefaultLock::Off), true) => {
            Finding::new("locks", Verdict::Missing, "the bucket cannot lock, and `object_lock` is set")
                .advise("make a new bucket with Object Lock, and copy")
        }
        (Ok(DefaultLock::Off), false) => Finding::new("locks", Verdict::Fact, "the bucket cannot lock"),
        (Ok(DefaultLock::WithoutDefault), true) => {
            Finding::new("locks", Verdict::Fine, "each object as `object_lock` says")
        }
        (Ok(DefaultLock::WithoutDefault), false) => Finding::new("locks", Verdict::Fact, "possible, none by default"),
        (Ok(DefaultLock::Locks(lock)), _) => {
            Finding::new("locks", Verdict::Fine, format!("whatever is put, for {} days", lock.days))
        }
        (Err(error), _) => unread("locks", &error),
    }
}

async fn lifecycle(bucket: &dyn ReadBucket) -> Finding {
    match bucket.lifecycle().await {
        Ok(lifecycle) => {
            let aborts = lifecycle.rules.iter().any(|rule| rule.enabled && rule.abort_uploads_after_days.is_some());
            let count = lifecycle.rules.len();
            if aborts {
                return Finding::new("lifecycle", Verdict::Fine, format!("{count} rules; unfinished uploads go"));
            }
            Finding::new(
                "lifecycle",
                Verdict::Warning,
                format!("{count} rules; unfinished uploads stay and are billed"),
            )
            .advise("`s3.lifecycle` sets the rule")
        }
        Err(error) => unread("lifecycle", &error),
    }
}
