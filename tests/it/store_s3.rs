//! The way of the bytes into a bucket and back, against a server over a folder.

use std::sync::Arc;

use runbook::action::{GetOptions, PutOptions, Store, StoreError};
use runbook::base::Digest;
use tokio::io::AsyncReadExt as _;

use crate::support::cli::until;
use crate::support::place::{Flaw, Flawed, all, body, key, noise};
use crate::support::s3::{BUCKET, S3, open, uploads};

const MIB: usize = 1 << 20;

async fn read(store: &dyn Store, name: &str, options: GetOptions) -> Result<Vec<u8>, String> {
    let stream = store.get_with(&key(name), options).await.map_err(|error| error.to_string())?;
    all(stream).await.map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_put_comes_back_whatever_its_size() {
    let server = S3::start();
    let store = server.store();
    for (index, size) in [0, 1, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 16 * MIB, 16 * MIB + 1, 24 * MIB, 40 * MIB + 12_345]
        .into_iter()
        .enumerate()
    {
        let content = noise(index as u64 + 1, size);
        let name = format!("sizes/{size}");
        let known = PutOptions { size_bytes: (index % 2 == 0).then_some(size as u64), ..PutOptions::default() };
        let put = store.put(&key(&name), body(content.clone()), known).await.expect("put");
        assert_eq!((put.size_bytes, put.sha256, put.existed), (size as u64, Digest::of(&content), false));
        let facts = store.head(&key(&name)).await.expect("facts");
        assert_eq!(facts.size_bytes, size as u64);
        assert!(read(&*store, &name, GetOptions::default()).await.expect("read") == content, "{size}");
    }
    assert_eq!(uploads(server.folder()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_an_object_is_read_alone() {
    let server = S3::start();
    let store = server.store();
    let content = noise(7, 20 * MIB);
    store.put(&key("a"), body(content.clone()), PutOptions::default()).await.expect("put");
    for (start, end) in
        [(0, 1), (5, 5), (8 * MIB - 1, 8 * MIB + 1), (MIB, 19 * MIB), (20 * MIB - 3, 99 * MIB), (20 * MIB, 21 * MIB)]
    {
        let options = GetOptions { range: Some(start as u64..end as u64), ..GetOptions::default() };
        let part = read(&*store, "a", options).await.expect("read");
        assert!(part == content[start..end.min(content.len()).max(start)], "{start}..{end}");
    }
    let beyond = GetOptions { range: Some(30 << 20..31 << 20), ..GetOptions::default() };
    let said = read(&*store, "a", beyond).await.expect_err("no such byte");
    assert!(said.contains("has 20971520 bytes and no byte 31457280"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_names_come_back_as_they_were_given() {
    let server = S3::start();
    let store = server.store();
    let mut names =
        ["a b", "a+b", "100%", "a%20b", "ä/ö/漢字", "k=v&x=y?z#w", "it's \"q\"", "~tilde,comma;semi", "a\\b"];
    for name in names {
        store.put(&key(name), body(name.as_bytes()), PutOptions::default()).await.expect(name);
    }
    let listed = store.list("").await.expect("a list");
    let found: Vec<&str> = listed.iter().map(|facts| facts.key.as_str()).collect();
    names.sort_unstable();
    assert_eq!(found, names);
    for name in names {
        assert_eq!(read(&*store, name, GetOptions::default()).await.expect(name), name.as_bytes());
        store.delete(&key(name)).await.expect(name);
    }
    assert_eq!(store.list("").await.expect("a list"), []);
    store.delete(&key("never/there")).await.expect("no error");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_level_is_browsed_and_foreign_names_are_left_out() {
    let server = S3::start();
    let store = server.store();
    for name in ["x/1", "x/y/2", "x/y/3", "x/z/4", "xx"] {
        store.put(&key(name), body("1"), PutOptions::default()).await.expect("put");
    }
    std::fs::write(server.folder().join(BUCKET).join("foreign"), "not below the prefix").expect("a foreign object");
    let level = store.browse("x/").await.expect("a level");
    assert_eq!(level.objects.iter().map(|facts| facts.key.as_str()).collect::<Vec<_>>(), ["x/1"]);
    assert_eq!(level.folders, ["x/y/", "x/z/"]);
    let all = store.list("x").await.expect("a list");
    assert_eq!(all.len(), 5);
    assert!(all.iter().all(|facts| facts.size_bytes == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_fails_midway_or_is_another_leaves_nothing() {
    let server = S3::start();
    let store = server.store();
    let known = |sha256: Digest, size_bytes: u64| PutOptions {
        metadata: [("sha256".to_owned(), sha256.to_string())].into(),
        size_bytes: Some(size_bytes),
        ..PutOptions::default()
    };
    for size in [MIB, 30 * MIB] {
        let content = noise(5, size);
        let whole = size as u64;
        for (body, options, words) in [
            (
                Flawed::after(size, Flaw::Breaks).0,
                PutOptions::default(),
                "cannot read the body of `a`: the source broke off",
            ),
            (body(content.clone()), known(Digest::of(b"other"), whole), "has the digest"),
            (body(content.clone()), known(Digest::of(&content), whole + 1), "and not the"),
        ] {
            let said = store.put(&key("a"), body, options).await.expect_err(words).to_string();
            assert!(said.contains(words), "{said}");
            assert!(matches!(store.head(&key("a")).await, Err(StoreError::NotFound { .. })));
            assert_eq!(uploads(server.folder()), Vec::<String>::new());
        }
        store.put(&key("right"), body(content.clone()), known(Digest::of(&content), whole)).await.expect("put");
        let facts = store.head(&key("right")).await.expect("facts");
        assert_eq!(facts.sha256(), Some(Digest::of(&content)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_is_dropped_leaves_no_upload_behind() {
    let server = S3::start();
    let store = server.store();
    // Ends never: only the first three parts come.
    let (mut writer, reader) = tokio::io::duplex(MIB);
    let content = noise(9, 24 * MIB);
    let mut put = store.put(&key("a"), Box::new(reader), PutOptions::default());
    let write = async {
        tokio::io::AsyncWriteExt::write_all(&mut writer, &content).await.expect("written");
        until("an upload has begun", || !uploads(server.folder()).is_empty());
    };
    tokio::select! {
        ended = &mut put => panic!("{ended:?}"),
        () = write => {}
    }
    drop(put);
    drop(writer);
    tokio::task::block_in_place(|| until("nothing is left", || uploads(server.folder()).is_empty()));
    assert!(matches!(store.head(&key("a")).await, Err(StoreError::NotFound { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_exists_is_kept_unless_it_is_the_same() {
    let server = S3::start();
    let store = server.store();
    let absent = || PutOptions { if_absent: true, ..PutOptions::default() };
    for size in [100, 20 * MIB] {
        let (one, other) = (noise(1, size), noise(2, size));
        let name = key(&size.to_string());
        assert!(!store.put(&name, body(one.clone()), absent()).await.expect("put").existed);
        let again = store.put(&name, body(one.clone()), absent()).await.expect("the same");
        assert_eq!((again.existed, again.sha256), (true, Digest::of(&one)));
        let refused = store.put(&name, body(other.clone()), absent()).await;
        assert!(matches!(refused, Err(StoreError::Exists { .. })), "{refused:?}");
        assert!(read(&*store, name.as_str(), GetOptions::default()).await.expect("read") == one);
        store.put(&name, body(other.clone()), PutOptions::default()).await.expect("replaced");
        assert!(read(&*store, name.as_str(), GetOptions::default()).await.expect("read") == other);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_writers_who_must_not_replace_one_wins() {
    let server = S3::start();
    let store = server.store();
    let writers: Vec<_> = (0..8)
        .map(|seed| {
            let store = Arc::clone(&store);
            let absent = PutOptions { if_absent: true, ..PutOptions::default() };
            tokio::spawn(
                async move { store.put(&key("a"), body(noise(seed, 1000)), absent).await.map(|put| put.sha256) },
            )
        })
        .collect();
    let mut won = Vec::new();
    for writer in writers {
        match writer.await.expect("no panic") {
            Ok(sha256) => won.push(sha256),
            // This server asks and writes apart from each other: a loser may see the object change while it compares.
            Err(error) => assert!(matches!(error, StoreError::Exists { .. } | StoreError::Replaced { .. }), "{error}"),
        }
    }
    let there = read(&*store, "a", GetOptions::default()).await.expect("read");
    assert!(won.contains(&Digest::of(&there)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_replaced_while_it_is_read_is_an_error() {
    let server = S3::start();
    let store = server.store();
    let content = noise(1, 100 * MIB);
    store.put(&key("a"), body(content.clone()), PutOptions::default()).await.expect("put");
    let etag = store.head(&key("a")).await.expect("facts").etag;
    let mut stream = store.get(&key("a")).await.expect("a stream");
    let mut first = vec![0; MIB];
    stream.read_exact(&mut first).await.expect("the first bytes");
    store.put(&key("a"), body(noise(2, 100 * MIB)), PutOptions::default()).await.expect("replaced");
    let mut rest = Vec::new();
    let said = stream.read_to_end(&mut rest).await.expect_err("another object").to_string();
    assert!(said.contains("it was replaced meanwhile"), "{said}");
    let pinned = GetOptions { if_match: etag, ..GetOptions::default() };
    assert!(matches!(store.get_with(&key("a"), pinned).await.map(drop), Err(StoreError::Replaced { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_copied_with_its_metadata() {
    let server = S3::start();
    let store = server.store();
    let content = noise(1, 9 * MIB);
    let options = PutOptions { metadata: [("tier".to_owned(), "daily".to_owned())].into(), ..PutOptions::default() };
    store.put(&key("a b"), body(content.clone()), options).await.expect("put");
    let copied = store.copy(&key("a b"), &key("c+d"), PutOptions::default()).await.expect("copied");
    assert_eq!((copied.sha256, copied.size_bytes), (Digest::of(&content), content.len() as u64));
    let facts = store.head(&key("c+d")).await.expect("facts");
    assert_eq!(facts.metadata.get("tier").map(String::as_str), Some("daily"));
    assert!(read(&*store, "c+d", GetOptions::default()).await.expect("read") == content);
    let missing = store.copy(&key("none"), &key("x"), PutOptions::default()).await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_goes_over_many_pages() {
    let server = S3::start();
    let folder = server.folder().join(BUCKET).join("below/many");
    std::fs::create_dir_all(&folder).expect("a folder");
    for number in 0..5001 {
        std::fs::write(folder.join(format!("{number:05}")), "1").expect("an object");
    }
    let listed = server.store().list("many/").await.expect("a list");
    assert_eq!(listed.len(), 5001);
    assert!(listed.windows(2).all(|two| two[0].key < two[1].key));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_with_what_to_do() {
    let server = S3::start();
    let mut wrong = Vec::new();
    let mut entry = server.entry();
    entry.url = "s3://nowhere/x".to_owned();
    wrong.push((entry, "there is no bucket `nowhere`: create it, or correct the store's `url`"));
    let mut entry = server.entry();
    entry.credentials.as_mut().expect("credentials").secret_access_key = Some("wrong".to_owned());
    wrong.push((entry, "the secret access key does not belong to the access key"));
    let mut entry = server.entry();
    entry.credentials.as_mut().expect("credentials").secret_access_key = Some("none".to_owned());
    wrong.push((entry, "there is no secret `none`"));
    let mut entry = server.entry();
    entry.credentials.as_mut().expect("credentials").access_key_id = Some("key".to_owned());
    wrong.push((entry, "does not know the access key"));
    let mut entry = server.entry();
    entry.allow_regions = vec!["eu-central-1".to_owned()];
    wrong.push((entry, "lies in the region `us-east-1`; `allow_regions` has only `eu-central-1`"));
    for (entry, words) in wrong {
        let store = open(&entry);
        let head = store.head(&key("a")).await.expect_err(words);
        let deleted = store.delete(&key("a")).await.expect_err(words);
        let listed = store.list("").await.expect_err(words);
        for error in [head, deleted, listed] {
            assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
            assert!(error.to_string().contains(words), "{words}: {error}");
        }
    }
    let read_only = open(&runbook::language::inventory::StoreEntry { read_only: true, ..server.entry() });
    assert!(matches!(read_only.delete(&key("a")).await, Err(StoreError::ReadOnly { .. })));
}
