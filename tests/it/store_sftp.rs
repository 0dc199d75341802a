//! What goes wrong between us and a real `sshd`, and what is said of it.

use runbook::action::{PutOptions, Store, StoreError};
use runbook::language::inventory::{SshAccess, StoreEntry};
use runbook::store::Opening;
use std::sync::Arc;

use crate::support::place::{body, content, key};
use crate::support::sshd::Sshd;

fn open(server: &Sshd, dir: &tempfile::TempDir, access: SshAccess) -> Arc<dyn Store> {
    let url = server.url(&dir.path().join("store"));
    let entry = StoreEntry { url, ssh: Some(access), ..StoreEntry::default() };
    Opening::plain(&entry, "remote").open().unwrap()
}

async fn refusal(store: &dyn Store) -> StoreError {
    store.put(&key("a"), body("x"), PutOptions::default()).await.unwrap_err()
}

#[tokio::test]
async fn sftp_a_stranger_is_refused_and_told_what_to_do() {
    let (server, dir) = (Sshd::start(), tempfile::tempdir().unwrap());
    for (user, known, words) in [
        ("stranger", "known", "`ssh: { identity: FILE }`"),
        ("user", "empty", "ssh-keyscan"),
        ("user", "mistaken", "find out why"),
    ] {
        let error = refusal(&*open(&server, &dir, server.access_with(user, known))).await;
        assert!(matches!(error, StoreError::Refused { .. }), "{user} {known}: {error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    assert!(!dir.path().join("store").exists(), "nothing was begun");
}

#[tokio::test]
async fn sftp_a_server_without_the_subsystem_is_named_so() {
    let (server, dir) = (Sshd::with(""), tempfile::tempdir().unwrap());
    let error = refusal(&*open(&server, &dir, server.access())).await;
    assert!(error.to_string().contains("Subsystem sftp"), "{error}");
}

#[tokio::test]
async fn sftp_a_connection_that_broke_is_made_anew() {
    let (server, dir) = (Sshd::start(), tempfile::tempdir().unwrap());
    let store = open(&server, &dir, server.access());
    store.put(&key("a"), body("one"), PutOptions::default()).await.unwrap();
    for _ in 0..3 {
        server.cut();
        assert_eq!(store.head(&key("a")).await.unwrap().size_bytes, 3, "a cheap question is asked again");
    }
    assert_eq!(content(store.as_read(), "a").await, b"one");
}

#[tokio::test]
async fn sftp_a_server_that_is_gone_is_no_empty_store() {
    let (mut server, dir) = (Sshd::start(), tempfile::tempdir().unwrap());
    let store = open(&server, &dir, server.access());
    store.put(&key("a"), body("one"), PutOptions::default()).await.unwrap();
    server.stop();
    for error in [store.head(&key("b")).await.map(drop), store.list("").await.map(drop)] {
        let error = error.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
        assert!(error.to_string().contains("does `sshd` run"), "{error}");
    }
}

#[tokio::test]
async fn sftp_what_another_program_stored_is_read_without_a_mark_of_ours_and_an_empty_folder_is_no_store() {
    let (server, dir) = (Sshd::start(), tempfile::tempdir().unwrap());
    let root = dir.path().join("theirs");
    std::fs::create_dir_all(&root).unwrap();
    let open = |read_only| {
        let entry =
            StoreEntry { url: server.url(&root), ssh: Some(server.access()), read_only, ..StoreEntry::default() };
        Opening::plain(&entry, "remote").open_read().unwrap()
    };
    assert!(
        matches!(open(true).head(&key("a")).await, Err(StoreError::Unavailable { .. })),
        "nothing is mounted there"
    );
    std::fs::write(root.join("000000010000000000000001"), "theirs").unwrap();
    assert_eq!(content(&*open(true), "000000010000000000000001").await, b"theirs");
    assert_eq!(open(true).list("").await.unwrap().len(), 1);
    assert!(matches!(open(true).head(&key("a")).await, Err(StoreError::NotFound { .. })));
    let said = open(false).head(&key("a")).await.unwrap_err().to_string();
    assert!(said.contains("`read_only: true`"), "{said}");
    assert!(!root.join(".rb-store").exists());
}

#[tokio::test]
async fn sftp_and_a_folder_are_one_store() {
    let (server, dir) = (Sshd::start(), tempfile::tempdir().unwrap());
    let there = open(&server, &dir, server.access());
    let url = format!("file://{}", dir.path().join("store").display());
    let here = Opening::plain(&StoreEntry { url, ..StoreEntry::default() }, "here").open_existing().unwrap();
    let options = PutOptions { metadata: [("who".to_owned(), "there".to_owned())].into(), ..PutOptions::default() };
    there.put(&key("d/a"), body("one"), options).await.unwrap();
    let facts = here.head(&key("d/a")).await.unwrap();
    assert_eq!((facts.metadata["who"].as_str(), facts.sha256().is_some()), ("there", true));
    here.put(&key("d/a"), body("two"), PutOptions::default()).await.unwrap();
    assert_eq!(there.head(&key("d/a")).await.unwrap().sha256(), Some(runbook::base::Digest::of(b"two")));
    assert_eq!(content(there.as_read(), "d/a").await, b"two");
}

#[tokio::test]
async fn sftp_a_few_names_are_looked_for_without_a_listing() {
    // A server that refuses to list: among very many names that takes minutes.
    let (server, dir) = (Sshd::with("Subsystem sftp internal-sftp -P opendir,readdir"), tempfile::tempdir().unwrap());
    let store = open(&server, &dir, server.access());
    let endings = ["", ".zst", ".lz4"].map(str::to_owned);
    let unborn = store.which("wal/1/segment", &endings).await.unwrap_err();
    assert!(matches!(unborn, StoreError::Unavailable { .. }), "no store is no empty one: {unborn}");
    store.put(&key("wal/1/segment.zst"), body("one"), PutOptions::default()).await.unwrap();
    assert!(store.list("wal").await.is_err(), "it would be refused");
    assert_eq!(store.which("wal/1/segment", &endings).await.unwrap(), [key("wal/1/segment.zst")]);
    assert_eq!(store.which("wal/2/segment", &endings).await.unwrap(), []);
    let (facts, _) = store.get_told(&key("wal/1/segment.zst")).await.unwrap();
    assert_eq!(facts.size_bytes, 3);
}
