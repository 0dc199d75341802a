//! What every store promises, one function per promise, run in every kind of place.
//!
//! `RUNBOOK_TEST_LARGE` makes the large object one of 5 GiB instead of 64 MiB.

use std::sync::Arc;
use std::time::Duration;

use runbook::action::{GetOptions, PutOptions, Store, StoreError};
use runbook::base::Digest;
use runbook::language::inventory::StoreEntry;
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;

use crate::support::place::{Flaw, Flawed, Place, Trickle, all, body, content, digest, key, leftovers, noise};

/// More than one part of any store.
const SEVERAL_PARTS: usize = (20 << 20) + 12_345;

/// One test for each promise, in one kind of place.
macro_rules! promises_of {
    ($kind:ident, $place:expr, [$($promise:ident)*]) => {
        promises_of!(#[cfg(test)] $kind, $place, [$($promise)*]);
    };
    (#[$mark:meta] $kind:ident, $place:expr, [$($promise:ident)*]) => {
        mod $kind {
            $(
                #[$mark]
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $promise() {
                    super::$promise(&$place).await;
                }
            )*
        }
    };
    ($kind:ident, $place:expr) => {
        promises_of!(#[cfg(test)] $kind, $place, [
            a_stream_of_unknown_length_comes_back_whole
            a_range_gives_exactly_those_bytes
            a_read_of_one_content_refuses_another
            the_facts_of_an_object_are_told
            thousands_of_objects_are_listed_in_order
            a_deleted_object_is_gone_and_an_absent_one_may_be_deleted
            a_copy_has_content_and_metadata
            a_taken_key_keeps_its_content
            of_two_writers_of_one_free_key_one_content_survives_whole
            odd_names_are_only_names
            an_empty_object_is_an_object
            a_large_object_comes_back
            many_writers_of_many_keys_do_not_meet
            a_writer_that_goes_away_leaves_what_was_there
            a_source_that_breaks_off_leaves_what_was_there
            a_replaced_object_is_never_read_in_two_halves
            absent_is_not_unreachable
            a_read_only_store_refuses_to_change
            a_body_that_is_not_what_was_announced_is_refused
            a_lock_that_cannot_be_had_is_refused
        ]);
    };
}

promises_of!(folder, crate::support::place::Place::folder());
promises_of!(azure, crate::support::place::Place::azure());
promises_of!(sftp, crate::support::place::Place::sftp());
// The server over a folder lists no entity tags, takes no long names, and looks and writes in two moments: what hangs on
// these is shown with the other server.
promises_of!(s3, crate::support::place::Place::s3(), [
    a_stream_of_unknown_length_comes_back_whole
    a_range_gives_exactly_those_bytes
    a_read_of_one_content_refuses_another
    thousands_of_objects_are_listed_in_order
    a_deleted_object_is_gone_and_an_absent_one_may_be_deleted
    a_copy_has_content_and_metadata
    a_taken_key_keeps_its_content
    an_empty_object_is_an_object
    a_large_object_comes_back
    many_writers_of_many_keys_do_not_meet
    a_writer_that_goes_away_leaves_what_was_there
    a_source_that_breaks_off_leaves_what_was_there
    a_replaced_object_is_never_read_in_two_halves
    absent_is_not_unreachable
    a_read_only_store_refuses_to_change
    a_body_that_is_not_what_was_announced_is_refused
]);
promises_of!(s3_of_moto, crate::support::place::Place::moto(), [
    a_read_of_one_content_refuses_another
    the_facts_of_an_object_are_told
    a_copy_has_content_and_metadata
    a_taken_key_keeps_its_content
    of_two_writers_of_one_free_key_one_content_survives_whole
    odd_names_are_only_names
    an_empty_object_is_an_object
    a_writer_that_goes_away_leaves_what_was_there
    a_source_that_breaks_off_leaves_what_was_there
    absent_is_not_unreachable
    a_body_that_is_not_what_was_announced_is_refused
]);
// A server of its own, which takes a quarter of an hour to build. It does not tell two writers of the very same moment
// apart, which is said in docs/stores.md.
promises_of!(#[ignore = "run by `make test-garage`"] garage, crate::support::place::Place::garage(), [
    a_stream_of_unknown_length_comes_back_whole
    a_range_gives_exactly_those_bytes
    a_read_of_one_content_refuses_another
    the_facts_of_an_object_are_told
    thousands_of_objects_are_listed_in_order
    a_deleted_object_is_gone_and_an_absent_one_may_be_deleted
    a_copy_has_content_and_metadata
    a_taken_key_keeps_its_content
    odd_names_are_only_names
    an_empty_object_is_an_object
    a_large_object_comes_back
    many_writers_of_many_keys_do_not_meet
    a_writer_that_goes_away_leaves_what_was_there
    a_source_that_breaks_off_leaves_what_was_there
    a_replaced_object_is_never_read_in_two_halves
    absent_is_not_unreachable
    a_read_only_store_refuses_to_change
    a_body_that_is_not_what_was_announced_is_refused
]);

async fn put(store: &dyn Store, name: &str, bytes: &[u8]) {
    store.put(&key(name), body(bytes), PutOptions::default()).await.unwrap();
}

async fn put_absent(store: &dyn Store, name: &str, bytes: &[u8]) -> Result<bool, StoreError> {
    let options = PutOptions { if_absent: true, ..PutOptions::default() };
    store.put(&key(name), body(bytes), options).await.map(|outcome| outcome.existed)
}

async fn keys(store: &dyn Store, prefix: &str) -> Vec<String> {
    store.list(prefix).await.unwrap().iter().map(|facts| facts.key.to_string()).collect()
}

/// Waits until nothing is left in the place but objects.
async fn cleared(place: &Place) {
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        while !(place.leftovers)().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(waited.await.is_ok(), "left behind: {:?}", (place.leftovers)());
}

async fn a_stream_of_unknown_length_comes_back_whole(place: &Place) {
    let (store, bytes) = (place.open(), noise(1, SEVERAL_PARTS));
    let outcome = store.put(&key("d/stream"), Trickle::of(bytes.clone()), PutOptions::default()).await.unwrap();
    assert_eq!((outcome.size_bytes, outcome.sha256), (bytes.len() as u64, Digest::of(&bytes)));
    assert!(!outcome.existed);
    assert!(content(store.as_read(), "d/stream").await == bytes);
    assert!(content(place.open().as_read(), "d/stream").await == bytes, "it is there for everybody");
    cleared(place).await;
}

async fn a_range_gives_exactly_those_bytes(place: &Place) {
    let (store, bytes) = (place.open(), noise(2, 3_000_000));
    put(&*store, "a", &bytes).await;
    let range = async |range: std::ops::Range<u64>| {
        let options = GetOptions { range: Some(range), ..GetOptions::default() };
        all(store.get_with(&key("a"), options).await?).await.map_err(|error| panic!("{error}"))
    };
    for (from, to) in [(0, 10), (0, 3_000_000), (1_234_567, 2_345_678), (2_999_999, 3_000_000), (7, 8)] {
        assert!(range(from as u64..to as u64).await.unwrap() == bytes[from..to], "{from}..{to}");
    }
    assert!(range(2_999_990..9_000_000).await.unwrap() == bytes[2_999_990..], "the end may lie beyond the object's");
    assert!(matches!(range(3_000_001..3_000_002).await, Err(StoreError::Refused { .. })), "the start may not");
}

async fn a_read_of_one_content_refuses_another(place: &Place) {
    let store = place.open();
    put(&*store, "a", b"first").await;
    let etag = store.head(&key("a")).await.unwrap().etag;
    assert!(etag.is_some());
    let pinned = async |range| {
        let options = GetOptions { if_match: etag.clone(), range, ..GetOptions::default() };
        all(store.get_with(&key("a"), options).await?).await.map_err(|error| panic!("{error}"))
    };
    assert_eq!(pinned(None).await.unwrap(), b"first");
    put(&*store, "a", b"other").await;
    assert!(matches!(pinned(None).await, Err(StoreError::Replaced { .. })));
    assert!(matches!(pinned(Some(1..3)).await, Err(StoreError::Replaced { .. })));
    assert_eq!(content(store.as_read(), "a").await, b"other");
}

async fn the_facts_of_an_object_are_told(place: &Place) {
    let (store, sha256) = (place.open(), Digest::of(b"hello"));
    let metadata = [
        ("sha256".to_owned(), sha256.to_string()),
        ("plain".to_owned(), "a value".to_owned()),
        ("with-hyphen".to_owned(), "ünïcode, \"quoted\" = yes; ".to_owned()),
    ];
    let options = PutOptions { metadata: metadata.clone().into(), ..PutOptions::default() };
    store.put(&key("d/a"), body("hello"), options).await.unwrap();
    let facts = store.head(&key("d/a")).await.unwrap();
    assert_eq!((facts.key.as_str(), facts.size_bytes, facts.sha256()), ("d/a", 5, Some(sha256)));
    for (name, value) in metadata {
        assert_eq!(facts.metadata.get(&name), Some(&value), "{name}");
    }
    let age = runbook::base::clock::now().duration_since(facts.modified_at).abs();
    assert!(age < jiff::SignedDuration::from_hours(1), "{age:?}");
    let listed = store.list("d/").await.unwrap();
    assert_eq!((&listed[0].key, listed[0].size_bytes), (&facts.key, 5));
    assert_eq!(listed[0].etag, facts.etag, "a listing pins what a head pins");
    store.put(&key("d/a"), body("other"), PutOptions::default()).await.unwrap();
    let facts = store.head(&key("d/a")).await.unwrap();
    assert!(facts.sha256().is_none_or(|told| told == Digest::of(b"other")), "no digest outlives its content");
    assert!(!facts.metadata.contains_key("plain"), "no metadata outlives its content");
}

async fn thousands_of_objects_are_listed_in_order(place: &Place) {
    let store = place.open();
    put(&*store, "wal/0", b"0").await;
    let mut names: Vec<String> = (0..5_100).map(|n| format!("wal/{:03}/{n:08}", n % 3)).collect();
    match &place.seed {
        Some(seed) => seed(&names),
        None => {
            let mut writers = JoinSet::new();
            for part in names.chunks(names.len() / 16 + 1) {
                let (store, part) = (Arc::clone(&store), part.to_vec());
                writers.spawn(async move {
                    for name in part {
                        put(&*store, &name, b"").await;
                    }
                });
            }
            writers.join_all().await;
        }
    }
    names.push("wal/0".to_owned());
    names.sort();
    assert!(keys(&*store, "").await == names);
    assert!(keys(&*store, "wal/").await == names);
    assert_eq!(keys(&*store, "wal/001/").await.len(), 1_700);
    assert_eq!(keys(&*store, "wal/00").await.len(), 5_100, "a prefix is text, no folder");
    assert_eq!(keys(&*store, "wal/001/00000001").await, ["wal/001/00000001"]);
    assert!(keys(&*store, "none/").await.is_empty());
    let level = store.browse("wal/").await.unwrap();
    assert_eq!(level.folders, ["wal/000/", "wal/001/", "wal/002/"]);
    assert_eq!(level.objects.iter().map(|facts| facts.key.as_str()).collect::<Vec<_>>(), ["wal/0"]);
    let level = store.browse("wal/002/").await.unwrap();
    assert_eq!((level.folders.len(), level.objects.len()), (0, 1_700));
    assert!(level.objects.is_sorted_by_key(|facts| facts.key.clone()));
    assert_eq!(store.browse("").await.unwrap().folders, ["wal/"]);
}

async fn a_deleted_object_is_gone_and_an_absent_one_may_be_deleted(place: &Place) {
    let store = place.open();
    put(&*store, "d/a", b"one").await;
    put(&*store, "d/b", b"two").await;
    for _ in 0..2 {
        store.delete(&key("d/a")).await.unwrap();
        assert!(matches!(store.head(&key("d/a")).await, Err(StoreError::NotFound { .. })));
        assert!(matches!(store.get(&key("d/a")).await, Err(StoreError::NotFound { .. })));
    }
    store.delete(&key("never/there")).await.unwrap();
    assert_eq!(keys(&*store, "").await, ["d/b"]);
    put(&*store, "d/a", b"again").await;
    assert_eq!(content(store.as_read(), "d/a").await, b"again");
    cleared(place).await;
}

async fn a_copy_has_content_and_metadata(place: &Place) {
    let store = place.open();
    let metadata = |value: &str| [("owner".to_owned(), value.to_owned())].into();
    let options = PutOptions { metadata: metadata("me"), ..PutOptions::default() };
    store.put(&key("from"), body("content"), options).await.unwrap();
    let copy = async |to: &str, options| store.copy(&key("from"), &key(to), options).await;
    let outcome = copy("d/to", PutOptions::default()).await.unwrap();
    assert_eq!((outcome.size_bytes, outcome.sha256), (7, Digest::of(b"content")));
    assert_eq!(content(store.as_read(), "d/to").await, b"content");
    assert_eq!(store.head(&key("d/to")).await.unwrap().metadata["owner"], "me");
    copy("d/to", PutOptions { metadata: metadata("you"), ..PutOptions::default() }).await.unwrap();
    assert_eq!(store.head(&key("d/to")).await.unwrap().metadata["owner"], "you");
    put(&*store, "taken", b"mine").await;
    let absent = PutOptions { if_absent: true, ..PutOptions::default() };
    assert!(matches!(copy("taken", absent.clone()).await, Err(StoreError::Exists { .. })));
    assert_eq!(content(store.as_read(), "taken").await, b"mine");
    assert!(copy("d/to", absent).await.unwrap().existed);
    assert!(matches!(
        store.copy(&key("none"), &key("x"), PutOptions::default()).await,
        Err(StoreError::NotFound { .. })
    ));
    cleared(place).await;
}

async fn a_taken_key_keeps_its_content(place: &Place) {
    let (store, large) = (place.open(), noise(3, SEVERAL_PARTS));
    assert!(!put_absent(&*store, "a", b"one").await.unwrap());
    assert!(put_absent(&*store, "a", b"one").await.unwrap(), "the same content is success");
    assert!(matches!(put_absent(&*store, "a", b"two").await, Err(StoreError::Exists { .. })));
    assert!(matches!(put_absent(&*store, "a", &large).await, Err(StoreError::Exists { .. })));
    assert_eq!(content(store.as_read(), "a").await, b"one");
    assert!(!put_absent(&*store, "large", &large).await.unwrap());
    assert!(put_absent(&*store, "large", &large).await.unwrap());
    assert!(matches!(put_absent(&*store, "large", b"small").await, Err(StoreError::Exists { .. })));
    assert!(content(store.as_read(), "large").await == large);
    cleared(place).await;
}

async fn of_two_writers_of_one_free_key_one_content_survives_whole(place: &Place) {
    let contents: Vec<Vec<u8>> =
        [100, 1_000_000, SEVERAL_PARTS].into_iter().zip(4..).map(|(size, seed)| noise(seed, size)).collect();
    for (one, other) in [(0, 1), (1, 2), (2, 0), (1, 1)] {
        let name = format!("race/{one}-{other}");
        let mut writers = JoinSet::new();
        // Each through a connection of its own, as two machines would.
        for which in [one, other] {
            let (store, name, bytes) = (place.open(), name.clone(), contents[which].clone());
            writers.spawn(async move { (which, put_absent(&*store, &name, &bytes).await) });
        }
        let results = writers.join_all().await;
        let winners: Vec<usize> = results.iter().filter(|r| matches!(r.1, Ok(false))).map(|r| r.0).collect();
        assert_eq!(winners.len(), 1, "{name}: {results:?}");
        for (which, result) in &results {
            match result {
                Ok(existed) => assert_eq!(*which, winners[0], "{name}: existed {existed}"),
                Err(error) => assert!(matches!(error, StoreError::Exists { .. }), "{name}: {error}"),
            }
        }
        let store = place.open();
        assert!(content(store.as_read(), &name).await == contents[winners[0]], "{name}");
        let told = store.head(&key(&name)).await.unwrap().sha256();
        assert!(told.is_none_or(|told| told == Digest::of(&contents[winners[0]])), "{name}: its digest is its own");
    }
    cleared(place).await;
}

async fn odd_names_are_only_names(place: &Place) {
    let store = place.open();
    let mut names = vec![
        "with space".to_owned(),
        "plus+plus".to_owned(),
        "100%".to_owned(),
        "%41 is not A".to_owned(),
        "a#b".to_owned(),
        "what?x=1&y=2".to_owned(),
        "ünïcödé/数据/Ω".to_owned(),
        "k=v/year=2026".to_owned(),
        "quote'\"back`tick".to_owned(),
        "(round)[square]{curly}<angle>".to_owned(),
        "tilde~star*dollar$at@colon:semi;comma,".to_owned(),
        "-dash".to_owned(),
        "...".to_owned(),
        "deep/er/and/deep/er".to_owned(),
        format!("{}/{}", "long".repeat(50), "name".repeat(50)),
    ];
    for name in &names {
        put(&*store, name, name.as_bytes()).await;
    }
    names.sort();
    assert_eq!(keys(&*store, "").await, names);
    for name in &names {
        assert_eq!(content(store.as_read(), name).await, name.as_bytes(), "{name}");
        assert_eq!(store.head(&key(name)).await.unwrap().key, key(name));
        assert_eq!(keys(&*store, name).await, std::slice::from_ref(name), "a name is its own prefix");
        store.copy(&key(name), &key("copied"), PutOptions::default()).await.unwrap();
        assert_eq!(content(store.as_read(), "copied").await, name.as_bytes(), "{name}");
    }
    assert!(matches!(store.head(&key("A is not A")).await, Err(StoreError::NotFound { .. })));
    for name in &names {
        store.delete(&key(name)).await.unwrap();
    }
    assert_eq!(keys(&*store, "").await, ["copied"]);
}

async fn an_empty_object_is_an_object(place: &Place) {
    let store = place.open();
    let outcome = store.put(&key("empty"), body(""), PutOptions::default()).await.unwrap();
    assert_eq!((outcome.size_bytes, outcome.sha256), (0, Digest::of(b"")));
    assert_eq!(content(store.as_read(), "empty").await, b"");
    assert_eq!(store.head(&key("empty")).await.unwrap().size_bytes, 0);
    assert_eq!(keys(&*store, "").await, ["empty"]);
    assert!(put_absent(&*store, "empty", b"").await.unwrap());
    assert!(matches!(put_absent(&*store, "empty", b"x").await, Err(StoreError::Exists { .. })));
}

async fn a_large_object_comes_back(place: &Place) {
    let store = place.open();
    let size: u64 = if std::env::var_os("RUNBOOK_TEST_LARGE").is_some() { 5 << 30 } else { 64 << 20 };
    let source = || Box::new(tokio::io::repeat(0).take(size));
    let began = std::time::Instant::now();
    let outcome = store.put(&key("large"), source(), PutOptions::default()).await.unwrap();
    let put_in = began.elapsed();
    assert_eq!(outcome.size_bytes, size);
    let began = std::time::Instant::now();
    assert_eq!(digest(store.get(&key("large")).await.unwrap()).await, (size, outcome.sha256));
    let rate = |time: Duration| (size >> 20) as f64 / time.as_secs_f64();
    println!("{} MiB: put {:.0} MiB/s, get {:.0} MiB/s", size >> 20, rate(put_in), rate(began.elapsed()));
    let options = GetOptions { range: Some(size - 5..size + 5), ..GetOptions::default() };
    assert_eq!(all(store.get_with(&key("large"), options).await.unwrap()).await.unwrap(), [0; 5]);
    if size == 64 << 20 {
        assert_eq!(digest(source()).await, (size, outcome.sha256));
    }
    cleared(place).await;
}

async fn many_writers_of_many_keys_do_not_meet(place: &Place) {
    let store = place.open();
    let mut writers = JoinSet::new();
    for n in 0..24_u64 {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            let bytes = noise(n, 10_000 + n as usize * 37_003);
            put(&*store, &format!("w/{n:02}"), &bytes).await;
            assert!(content(store.as_read(), &format!("w/{n:02}")).await == bytes, "{n}");
        });
    }
    writers.join_all().await;
    assert_eq!(keys(&*store, "w/").await.len(), 24);
    for n in 0..24_u64 {
        assert!(content(store.as_read(), &format!("w/{n:02}")).await == noise(n, 10_000 + n as usize * 37_003), "{n}");
    }
    cleared(place).await;
}

async fn a_writer_that_goes_away_leaves_what_was_there(place: &Place) {
    let store = place.open();
    put(&*store, "d/a", b"before").await;
    for (name, if_absent) in [("d/a", false), ("d/new", false), ("d/new", true)] {
        for bytes in [100, SEVERAL_PARTS] {
            let (body, stalled) = Flawed::after(bytes, Flaw::Stalls);
            let options = PutOptions { if_absent, ..PutOptions::default() };
            let name = key(name);
            tokio::select! {
                ended = store.put(&name, body, options) => panic!("it cannot end: {ended:?}"),
                () = stalled => {}
            }
        }
    }
    cleared(place).await;
    assert_eq!(keys(&*store, "").await, ["d/a"]);
    assert_eq!(content(store.as_read(), "d/a").await, b"before");
    put(&*store, "d/new", b"after").await;
    assert_eq!(content(store.as_read(), "d/new").await, b"after");
}

async fn a_source_that_breaks_off_leaves_what_was_there(place: &Place) {
    let store = place.open();
    put(&*store, "d/a", b"before").await;
    for (name, if_absent) in [("d/a", false), ("d/new", false), ("d/new", true)] {
        for bytes in [0, 100, SEVERAL_PARTS] {
            let (body, _) = Flawed::after(bytes, Flaw::Breaks);
            let options = PutOptions { if_absent, ..PutOptions::default() };
            let error = store.put(&key(name), body, options).await.unwrap_err();
            let chain = format!("{error}: {:?}", std::error::Error::source(&error));
            assert!(chain.contains("the source broke off"), "{chain}");
        }
    }
    cleared(place).await;
    assert_eq!(keys(&*store, "").await, ["d/a"]);
    assert_eq!(content(store.as_read(), "d/a").await, b"before");
}

async fn a_replaced_object_is_never_read_in_two_halves(place: &Place) {
    let store = place.open();
    let (old, new) = (noise(30, SEVERAL_PARTS), noise(31, SEVERAL_PARTS));
    put(&*store, "a", &old).await;
    let mut reader = store.get(&key("a")).await.unwrap();
    let mut begun = vec![0; 1000];
    reader.read_exact(&mut begun).await.unwrap();
    assert!(begun == old[..1000]);
    put(&*store, "a", &new).await;
    let mut rest = Vec::new();
    if reader.read_to_end(&mut rest).await.is_ok() {
        assert!(rest == old[1000..], "a read that ends well gives one content");
    }
    assert!(content(store.as_read(), "a").await == new);
}

async fn absent_is_not_unreachable(place: &Place) {
    let store = place.open();
    put(&*store, "there", b"x").await;
    assert!(matches!(store.head(&key("not/there")).await, Err(StoreError::NotFound { .. })));
    assert!(matches!(store.get(&key("not/there")).await, Err(StoreError::NotFound { .. })));
    assert!(matches!(store.head(&key("there/below")).await, Err(StoreError::NotFound { .. })));
    let nowhere = place.open_as(&place.nowhere);
    let unreachable = |error: StoreError| {
        assert!(matches!(error, StoreError::Unavailable { .. } | StoreError::Refused { .. }), "{error}");
    };
    unreachable(nowhere.head(&key("there")).await.unwrap_err());
    unreachable(nowhere.get(&key("there")).await.map(drop).unwrap_err());
    unreachable(nowhere.list("").await.unwrap_err());
    unreachable(nowhere.browse("").await.unwrap_err());
    unreachable(nowhere.delete(&key("there")).await.unwrap_err());
}

async fn a_read_only_store_refuses_to_change(place: &Place) {
    put(&*place.open(), "a", b"one").await;
    let store = place.open_as(&StoreEntry { read_only: true, ..place.entry.clone() });
    let refused = |error: StoreError| assert!(matches!(error, StoreError::ReadOnly { .. }), "{error}");
    refused(store.put(&key("a"), body("two"), PutOptions::default()).await.unwrap_err());
    refused(put_absent(&*store, "new", b"two").await.unwrap_err());
    refused(store.delete(&key("a")).await.unwrap_err());
    refused(store.copy(&key("a"), &key("b"), PutOptions::default()).await.unwrap_err());
    assert_eq!(content(store.as_read(), "a").await, b"one");
    assert_eq!(keys(&*store, "").await, ["a"]);
}

async fn a_lock_that_cannot_be_had_is_refused(place: &Place) {
    let store = place.open();
    put(&*store, "other", b"x").await;
    let locked_until = Some("2199-01-01T00:00:00Z".parse().unwrap());
    let options = PutOptions { locked_until, ..PutOptions::default() };
    let refused = store.put(&key("a"), body(b"locked"), options).await;
    assert!(matches!(refused, Err(StoreError::Refused { .. })), "{refused:?}");
    assert_eq!(keys(&*store, "").await, ["other"], "nobody believes in a lock that is none");
}

async fn a_body_that_is_not_what_was_announced_is_refused(place: &Place) {
    let store = place.open();
    put(&*store, "a", b"before").await;
    for bytes in [noise(40, 100), noise(41, SEVERAL_PARTS)] {
        let announced = |digest: Digest| [("sha256".to_owned(), digest.to_string())].into();
        let options = PutOptions { metadata: announced(Digest::of(b"something else")), ..PutOptions::default() };
        for (name, if_absent) in [("a", false), ("new", false), ("new", true)] {
            let options = PutOptions { if_absent, ..options.clone() };
            let refused = store.put(&key(name), body(bytes.clone()), options).await.unwrap_err();
            assert!(matches!(refused, StoreError::Refused { .. }), "{refused}");
        }
        assert_eq!(keys(&*store, "").await, ["a"]);
        assert_eq!(content(store.as_read(), "a").await, b"before");
        let options = PutOptions { metadata: announced(Digest::of(&bytes)), ..PutOptions::default() };
        store.put(&key("right"), body(bytes.clone()), options).await.unwrap();
        assert_eq!(store.head(&key("right")).await.unwrap().sha256(), Some(Digest::of(&bytes)));
        store.delete(&key("right")).await.unwrap();
    }
    cleared(place).await;
}

#[test]
fn what_is_left_behind_would_be_seen() {
    let dir = tempfile::tempdir().unwrap();
    for name in [".rb-store", "a", ".rb-meta-a", ".rb-meta-gone", ".rb-tmp-x"] {
        std::fs::write(dir.path().join(name), "").unwrap();
    }
    let mut found = leftovers(dir.path());
    found.sort();
    assert_eq!(found, [".rb-meta-gone", ".rb-tmp-x"]);
}
