//! Versions, locks, classes and encryption at rest, against a server of its own process.

use runbook::action::{Availability, GetOptions, Hold, PutOptions, StoreError};
use runbook::base::clock;
use runbook::language::inventory::{LockMode, ObjectLock, RetrievalSpeed, ServerSideEncryption, StoreEntry};

use crate::support::moto::Moto;
use crate::support::place::{all, body, content, key, noise};
use crate::support::s3::{BUCKET, Behind, entry, open};

/// A server with a bucket that keeps versions and can lock them.
fn server() -> (Moto, StoreEntry) {
    let moto = Moto::start();
    Behind::at(&moto.url()).ask("PUT", BUCKET, &["x-amz-bucket-object-lock-enabled: true"]);
    let entry = entry(&moto.url());
    (moto, entry)
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_an_old_version_is_read_restored_and_deleted() {
    let (_moto, entry) = server();
    let store = open(&entry);
    let versions = store.versions().expect("versions");
    let old =
        store.put(&key("a b"), body("old"), PutOptions::default()).await.expect("put").version.expect("a version");
    store.put(&key("a b"), body("new"), PutOptions::default()).await.expect("put");
    store.delete(&key("a b")).await.expect("deleted");
    assert!(matches!(store.head(&key("a b")).await, Err(StoreError::NotFound { .. })));
    let listed = versions.list_versions("").await.expect("versions");
    let told: Vec<_> = listed.iter().map(|one| (one.latest, one.size_bytes)).collect();
    assert_eq!(told, [(true, None), (false, Some(3)), (false, Some(3))]);
    let of_old = GetOptions { version: Some(old.clone()), ..GetOptions::default() };
    assert_eq!(all(store.get_with(&key("a b"), of_old).await.expect("old")).await.expect("read"), b"old");
    versions.restore_version(&key("a b"), &old).await.expect("restored");
    assert_eq!(content(store.as_read(), "a b").await, b"old");
    versions.delete_version(&key("a b"), &old).await.expect("deleted");
    versions.delete_version(&key("a b"), &old).await.expect("again");
    assert!(versions.list_versions("").await.expect("versions").iter().all(|one| one.version != old));
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_a_locked_version_cannot_be_deleted_and_a_lock_is_never_shortened() {
    let (_moto, mut entry) = server();
    let keep = "30d".parse().expect("a span");
    entry.object_lock = Some(ObjectLock { mode: LockMode::Compliance, keep, legal_hold: false });
    let store = open(&entry);
    let locks = store.locks().expect("locks");
    let version = store.put(&key("a"), body("kept"), PutOptions::default()).await.expect("put").version.expect("one");
    let first = locks.protection(&key("a")).await.expect("a lock").locked_until.expect("a time");
    assert!(clock::between(clock::now(), first).as_secs() > 29 * 86_400);
    let refused = store.versions().expect("versions").delete_version(&key("a"), &version).await.expect_err("locked");
    assert!(
        refused.to_string().contains("it is locked, or the credentials lack `s3:DeleteObjectVersion`"),
        "{refused}"
    );
    let day = std::time::Duration::from_secs(86_400);
    locks.lock_until(&key("a"), clock::after(clock::now(), day)).await.expect("no change");
    assert_eq!(locks.protection(&key("a")).await.expect("a lock").locked_until, Some(first));
    locks.lock_until(&key("a"), clock::after(clock::now(), day * 60)).await.expect("longer");
    assert!(locks.protection(&key("a")).await.expect("a lock").locked_until > Some(first));
    locks.hold(&key("a"), Hold::On).await.expect("held");
    assert!(locks.protection(&key("a")).await.expect("a lock").legal_hold);
    locks.hold(&key("a"), Hold::Off).await.expect("lifted");
    assert!(!locks.protection(&key("a")).await.expect("a lock").legal_hold);
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_an_archived_object_is_retrieved_before_it_is_read() {
    let (_moto, entry) = server();
    let store = open(&StoreEntry { storage_class: Some("GLACIER".to_owned()), ..entry });
    store.put(&key("small"), body("cold"), PutOptions::default()).await.expect("put");
    let small = store.head(&key("small")).await.expect("facts");
    assert_eq!(small.availability, Availability::Ready, "what tells what there is stays readable");
    store.put(&key("a"), body(noise(1, 200_000)), PutOptions::default()).await.expect("put");
    let facts = store.head(&key("a")).await.expect("facts");
    assert_eq!((facts.storage_class.as_deref(), facts.availability), (Some("GLACIER"), Availability::Archived));
    let refused = store.get(&key("a")).await.map(drop);
    assert!(matches!(&refused, Err(StoreError::Archived { class, .. }) if class == "GLACIER"), "{refused:?}");
    let retrieval = store.retrieval().expect("retrieval");
    for _ in 0..2 {
        retrieval.retrieve(&key("a"), RetrievalSpeed::Standard, 3).await.expect("asked for");
    }
    let available = store.head(&key("a")).await.expect("facts").availability;
    assert!(matches!(available, Availability::ReadyUntil(_) | Availability::Retrieving), "{available:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_objects_are_tagged_and_encrypted_as_the_settings_say() {
    let (moto, entry) = server();
    let settings = [ServerSideEncryption::AES256, ServerSideEncryption::Kms("alias/backups".to_owned())];
    for (sse, header) in settings.into_iter().zip(["server-side-encryption: AES256", "aws:kms"]) {
        let tags = [("tier".to_owned(), "daily + weekly".to_owned())].into();
        let store = open(&StoreEntry { sse: Some(sse), tags, ..entry.clone() });
        for (name, size) in [("small", 10), ("large", 20 << 20)] {
            store.put(&key(name), body(noise(1, size)), PutOptions::default()).await.expect("put");
            let behind = Behind::at(&moto.url());
            let head = behind.ask("HEAD", &format!("{BUCKET}/below/{name}"), &[]);
            assert!(head.to_lowercase().contains(&header.to_lowercase()), "{head}");
            let tagging = behind.ask("GET", &format!("{BUCKET}/below/{name}?tagging"), &[]);
            assert!(tagging.contains("daily + weekly"), "{tagging}");
        }
    }
}

/// An upload that a killed writer began is listed with its size, and removed with its parts.
#[tokio::test(flavor = "multi_thread")]
async fn aws_what_a_killed_writer_began_is_listed_and_removed() {
    let (moto, entry) = server();
    let (store, behind) = (open(&entry), Behind::at(&moto.url()));
    for name in ["below/app/base/dead/base.tar.zst", "below/other/base/dead/base.tar.zst"] {
        behind.ask("POST", &format!("{BUCKET}/{name}?uploads"), &[]);
    }
    store.put(&key("app/base/whole/base.tar.zst"), body("whole"), PutOptions::default()).await.expect("put");
    let found = store.unfinished("app/").await.expect("listed");
    let [begun] = &found[..] else { panic!("{found:?}") };
    assert_eq!((begun.key.as_str(), begun.size_bytes), ("app/base/dead/base.tar.zst", 0));
    // This server does not tell the parts of an upload: nobody can say that its writer is gone.
    assert_eq!(begun.touched_at, None, "{begun:?}");
    assert!(store.discard(begun).await.expect("removed"));
    assert_eq!(behind.uploads().len(), 1, "the other's");
    assert!(store.unfinished("app/").await.expect("listed").is_empty());
    assert_eq!(content(store.as_read(), "app/base/whole/base.tar.zst").await, b"whole");
}
