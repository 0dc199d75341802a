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
async fn sftp_what_a_killed_writer_had_begun_is_listed_and_removed_unless_it_was_gone_on_with() {
    let (server, dir) = (Sshd::start(), tempfile::tempdir().unwrap());
    let store = open(&server, &dir, server.access());
    store.put(&key("app/a"), body("one"), PutOptions::default()).await.unwrap();
    // A body that never ends: its writer is at work, and then it is cut off from the server.
    let (mut feed, endless) = tokio::io::duplex(64);
    let to = key("app/base/big");
    let mut writing = Box::pin(store.put(&to, Box::new(endless), PutOptions::default()));
    let folder = dir.path().join("store/app/base");
    let half = |folder: &std::path::Path| {
        let names = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
        names.into_iter().find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(".rb-tmp-"))
    };
    let begins = async {
        tokio::io::AsyncWriteExt::write_all(&mut feed, b"half").await.unwrap();
        while half(&folder).is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! { _ = &mut writing => panic!("it has no end"), () = begins => {} }
    let path = half(&folder).unwrap();
    let kept = dir.path().join("kept");
    std::fs::hard_link(&path, &kept).unwrap();
    drop((writing, feed));
    drop(store);
    while path.exists() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    // As a killed one leaves it, eight days ago.
    std::fs::rename(&kept, &path).unwrap();
    let touch = |age_days: u64| {
        let at = std::time::SystemTime::now() - std::time::Duration::from_secs(age_days * 86_400);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
    };
    touch(8);
    for name in ["base", ".rb-tmp-by-hand"] {
        std::fs::write(folder.join(name), "not one").unwrap();
    }
    let store = open(&server, &dir, server.access());
    let found = store.unfinished("app/").await.unwrap();
    let [one] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(format!("app/base/.rb-tmp-{}", one.key.as_str().rsplit('/').next().unwrap()), one.upload);
    let age = runbook::base::Timestamp::now().duration_since(one.touched_at.unwrap());
    assert!(age.as_secs() < 600, "the clock of a server may be behind: it was begun just now, {age:?}");
    assert!(store.unfinished("other/").await.unwrap().is_empty());
    // Begun eight days ago as its name tells, too.
    let old = uuid::Uuid::new_v7(uuid::Timestamp::from_unix_time(1_700_000_000, 0, 0, 0)).simple().to_string();
    let old = folder.join(format!(".rb-tmp-{old}"));
    std::fs::rename(&path, &old).unwrap();
    let found = store.unfinished("app/").await.unwrap();
    let [one] = found.as_slice() else { panic!("{found:?}") };
    let age = runbook::base::Timestamp::now().duration_since(one.touched_at.unwrap());
    assert!(age.as_hours() >= 7 * 24, "{age:?}");
    std::fs::write(&old, "gone on with").unwrap();
    assert!(!store.discard(one).await.unwrap() && old.exists(), "somebody writes it");
    let found = store.unfinished("app/").await.unwrap();
    assert!(store.discard(&found[0]).await.unwrap() && !old.exists());
    assert!(!store.discard(&found[0]).await.unwrap(), "it is gone already");
    let astray = runbook::action::Unfinished { upload: "app/a".to_owned(), ..found[0].clone() };
    store.discard(&astray).await.unwrap_err();
    assert_eq!(content(store.as_read(), "app/a").await, b"one");
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
