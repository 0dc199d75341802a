//! The store over a folder, on a real one.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tokio::io::AsyncReadExt;

use crate::action::{ObjectKey, PutOptions, PutOutcome, ReadStore, Store, StoreError};
use crate::language::inventory::StoreEntry;
use crate::store::Opening;

fn entry(root: &Path) -> StoreEntry {
    StoreEntry { url: format!("file://{}", root.display()), ..StoreEntry::default() }
}

fn key(text: &str) -> ObjectKey {
    text.parse().unwrap()
}

async fn put(store: &dyn Store, name: &str, text: &str) -> Result<PutOutcome, StoreError> {
    let body = Box::new(std::io::Cursor::new(text.as_bytes().to_vec()));
    let options =
        PutOptions { if_absent: true, metadata: [("k".to_owned(), "v".to_owned())].into(), ..PutOptions::default() };
    store.put(&key(name), body, options).await
}

async fn get(store: &dyn ReadStore, name: &str) -> Result<String, StoreError> {
    let mut text = String::new();
    store.get(&key(name)).await?.read_to_string(&mut text).await.unwrap();
    Ok(text)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn an_object_comes_back_with_its_digest_and_metadata() {
    let dir = tempfile::tempdir().unwrap();
    let store = Opening::plain(&entry(dir.path()), "s").open().unwrap();
    let outcome = put(&*store, "a/b/c", "hello").await.unwrap();
    assert_eq!((outcome.size_bytes, outcome.existed), (5, false));
    assert_eq!(get(store.as_read(), "a/b/c").await.unwrap(), "hello");
    let facts = store.head(&key("a/b/c")).await.unwrap();
    assert_eq!(facts.metadata["sha256"], outcome.sha256.to_string());
    assert_eq!(facts.metadata["k"], "v");
    assert_eq!(names(&dir.path().join("a/b")), [".rb-meta-c", "c"]);
}

#[tokio::test]
async fn what_is_looked_for_by_name_is_found_as_a_listing_finds_it_and_never_where_no_store_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = Opening::plain(&entry(dir.path()), "s").open().unwrap();
    for name in ["a/b", "a/b.zst", "a/b.other", "a/b.gz/c"] {
        put(&*store, name, "x").await.unwrap();
    }
    let endings = [".zst", ".gz", "", ".age"].map(str::to_owned);
    assert_eq!(store.which("a/b", &endings).await.unwrap(), [key("a/b.zst"), key("a/b")]);
    assert_eq!(store.which("none/b", &endings).await.unwrap(), []);
    let elsewhere = Opening::plain(&entry(&dir.path().join("unmounted")), "s").open().unwrap();
    assert!(matches!(elsewhere.which("a/b", &endings).await, Err(StoreError::Unavailable { .. })));
}

#[tokio::test]
async fn other_content_is_refused_and_same_content_is_success() {
    let dir = tempfile::tempdir().unwrap();
    let store = Opening::plain(&entry(dir.path()), "s").open().unwrap();
    put(&*store, "a", "one").await.unwrap();
    assert!(matches!(put(&*store, "a", "two").await, Err(StoreError::Exists { .. })));
    assert!(put(&*store, "a", "one").await.unwrap().existed);
    assert_eq!(get(store.as_read(), "a").await.unwrap(), "one");
    fs::remove_file(dir.path().join(".rb-meta-a")).unwrap();
    assert!(put(&*store, "a", "one").await.unwrap().existed);
    assert!(store.head(&key("a")).await.unwrap().metadata.contains_key("sha256"));
}

#[tokio::test]
async fn a_replaced_object_has_the_digest_of_its_new_content() {
    let dir = tempfile::tempdir().unwrap();
    let store = Opening::plain(&entry(dir.path()), "s").open().unwrap();
    put(&*store, "a", "one").await.unwrap();
    let body = Box::new(std::io::Cursor::new(b"two".to_vec()));
    let outcome = store.put(&key("a"), body, PutOptions::default()).await.unwrap();
    assert_eq!(store.head(&key("a")).await.unwrap().metadata["sha256"], outcome.sha256.to_string());
    assert_eq!(get(store.as_read(), "a").await.unwrap(), "two");
}

#[tokio::test]
async fn a_crash_between_the_renames_of_a_replacement_leaves_the_right_digest() {
    let dir = tempfile::tempdir().unwrap();
    let store = Opening::plain(&entry(dir.path()), "s").open().unwrap();
    let first = put(&*store, "a", "one").await.unwrap();
    let old: serde_json::Value = serde_json::from_slice(&fs::read(dir.path().join(".rb-meta-a")).unwrap()).unwrap();
    let mut both = old.clone();
    let mut new = old["contents"][0].clone();
    new["sha256"] = crate::base::Digest::of(b"two").to_string().into();
    both["contents"] = serde_json::json!([new, old["contents"][0]]);
    fs::File::create(dir.path().join(".rb-meta-a")).and_then(|f| Ok(serde_json::to_writer(f, &both)?)).unwrap();
    assert_eq!(store.head(&key("a")).await.unwrap().metadata["sha256"], first.sha256.to_string());
}

#[tokio::test]
async fn a_list_shows_objects_only_sorted_and_by_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let store = Opening::plain(&entry(dir.path()), "s").open().unwrap();
    for name in ["p/b", "p/a", "p/ab/x", "q/a", "pp"] {
        put(&*store, name, name).await.unwrap();
    }
    fs::File::create(dir.path().join("p/.rb-tmp-z")).unwrap();
    let list = async |prefix: &str| -> Vec<String> {
        store.list(prefix).await.unwrap().iter().map(|facts| facts.key.to_string()).collect()
    };
    assert_eq!(list("").await, ["p/a", "p/ab/x", "p/b", "pp", "q/a"]);
    assert_eq!(list("p/").await, ["p/a", "p/ab/x", "p/b"]);
    assert_eq!(list("p/a").await, ["p/a", "p/ab/x"]);
    assert!(list("none/").await.is_empty());
}

#[tokio::test]
async fn absence_is_not_believed_without_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("mount");
    fs::create_dir(&root).unwrap();
    let read = Opening::plain(&entry(&root), "s").open_read().unwrap();
    assert!(matches!(read.head(&key("a")).await, Err(StoreError::Unavailable { .. })));
    assert!(matches!(read.list("").await, Err(StoreError::Unavailable { .. })));
    let strict = Opening::plain(&entry(&root), "s").open_existing().unwrap();
    assert!(matches!(put(&*strict, "a", "one").await, Err(StoreError::Unavailable { .. })));
    assert!(names(&root).is_empty());
    let told = read.list("").await.unwrap_err().to_string();
    assert!(
        told.contains("is there and holds no store") && told.contains("`runbook backups init` makes one"),
        "{told}"
    );
    Opening::plain(&entry(&root), "s").initialize().unwrap();
    assert!(matches!(read.head(&key("a")).await, Err(StoreError::NotFound { .. })));
    put(&*strict, "a", "one").await.unwrap();
}

#[tokio::test]
async fn a_read_only_entry_refuses_every_write() {
    let dir = tempfile::tempdir().unwrap();
    let store = Opening::plain(&StoreEntry { read_only: true, ..entry(dir.path()) }, "s").open().unwrap();
    assert!(matches!(put(&*store, "a", "one").await, Err(StoreError::ReadOnly { .. })));
    assert!(matches!(store.delete(&key("a")).await, Err(StoreError::ReadOnly { .. })));
    assert!(names(dir.path()).is_empty());
}

#[tokio::test]
async fn a_deleted_object_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let store = Opening::plain(&entry(dir.path()), "s").open().unwrap();
    put(&*store, "d/a", "one").await.unwrap();
    store.delete(&key("d/a")).await.unwrap();
    store.delete(&key("d/a")).await.unwrap();
    assert!(names(&dir.path().join("d")).is_empty());
}

#[tokio::test]
async fn of_many_writers_of_one_key_one_wins_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Opening::plain(&entry(dir.path()), "s").open().unwrap();
    let texts: Vec<String> = (0..8).map(|n| n.to_string().repeat(100_000)).collect();
    let results = [
        tokio::join!(put(&*store, "a", &texts[0]), put(&*store, "a", &texts[1]), put(&*store, "a", &texts[2])),
        tokio::join!(put(&*store, "a", &texts[3]), put(&*store, "a", &texts[4]), put(&*store, "a", &texts[0])),
    ];
    let won = results.iter().flat_map(|(a, b, c)| [a, b, c]).filter(|r| r.as_ref().is_ok_and(|o| !o.existed)).count();
    assert_eq!(won, 1);
    let text = get(store.as_read(), "a").await.unwrap();
    assert!(texts.contains(&text));
    let recorded = store.head(&key("a")).await.unwrap().metadata["sha256"].clone();
    assert_eq!(recorded, crate::base::Digest::of(text.as_bytes()).to_string());
}

#[tokio::test]
async fn a_body_that_breaks_off_leaves_no_object() {
    struct Breaks(u8);
    impl tokio::io::AsyncRead for Breaks {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            buffer: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            self.0 += 1;
            buffer.put_slice(b"half");
            let broken = Err(std::io::Error::other("line lost"));
            std::task::Poll::Ready(if self.0 > 3 { broken } else { Ok(()) })
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let store = Opening::plain(&entry(dir.path()), "s").open().unwrap();
    let result = store.put(&key("a"), Box::new(Breaks(0)), PutOptions::default()).await;
    assert!(matches!(result, Err(StoreError::Unavailable { .. })));
    assert_eq!(names(dir.path()), [".rb-store"]);
}

#[tokio::test]
async fn reserved_and_overlong_keys_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Opening::plain(&entry(dir.path()), "s").open().unwrap();
    for name in [".rb-store", "a/.rb-meta-x", &"x".repeat(250)] {
        assert!(matches!(put(&*store, name, "x").await, Err(StoreError::Refused { .. })), "{name}");
    }
    for url in ["file://relative", "file:///a/../b", "/plain"] {
        assert!(
            Opening::plain(&StoreEntry { url: url.to_owned(), ..StoreEntry::default() }, "s").open().is_err(),
            "{url}"
        );
    }
}
