//! Every fault of a network at every request in turn: a call ends well with the right effect, or it ends with an error
//! and the key has what it had; the same call then succeeds, and nothing is left in progress.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use runbook::action::{GetOptions, PlainFacts, PutOptions, Store, StoreError};
use runbook::base::Digest;
use runbook::base::units::Span;
use runbook::language::inventory::StoreEntry;
use runbook::transfer::{Encoding, Expected, Unpacking, download};

use crate::support::fault_proxy::{Fault, FaultProxy, Seen};
use crate::support::parcel::Safe;
use crate::support::place::{all, body, content, key, noise};
use crate::support::s3::{self, S3};

/// Three parts.
const SEVERAL_PARTS: usize = (20 << 20) + 4_321;
/// Long enough for a loaded machine to say something, short enough to wait for at each request.
const STALL: Duration = Duration::from_millis(400);

type Called = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// A call, what was under `KEY` before, what is there after it, and what it may be told by.
struct Call {
    before: Option<Vec<u8>>,
    after: Option<Vec<u8>>,
    faults: Vec<Fault>,
    /// Makes the call; an answer that is wrong is a panic.
    call: Box<dyn Fn(Arc<dyn Store>) -> Called>,
}

const KEY: &str = "d/the object";

fn entry(endpoint: &str) -> StoreEntry {
    StoreEntry { stall: Some(Span(STALL)), ..s3::entry(endpoint) }
}

/// What damages a body in a way that only its digest tells.
fn all_but(left_out: &[Fault]) -> Vec<Fault> {
    Fault::ALL.into_iter().filter(|fault| !left_out.contains(fault)).collect()
}

async fn there(server: &S3) -> Option<Vec<u8>> {
    let store = server.store();
    match store.head(&key(KEY)).await {
        Ok(_) => Some(content(store.as_read(), KEY).await),
        Err(StoreError::NotFound { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

async fn set(server: &S3, bytes: Option<&Vec<u8>>) {
    let store = server.store();
    match bytes {
        Some(bytes) => store.put(&key(KEY), body(bytes.clone()), PutOptions::default()).await.map(drop).unwrap(),
        None => store.delete(&key(KEY)).await.unwrap(),
    }
}

/// Uploads under way, once whoever aborts them had time to.
async fn left(server: &S3) -> Vec<String> {
    for _ in 0..200 {
        if s3::uploads(server.folder()).is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    s3::uploads(server.folder())
}

/// Makes the call once without a fault and then with every fault at every request that it made; each time over a new
/// connection, which knows nothing of the server yet. Tells how many faults there were.
async fn ordeal(call: Call) -> usize {
    let server = S3::start();
    let upstream = server.url().trim_start_matches("http://").parse().unwrap();
    let proxy = FaultProxy::before(upstream);
    set(&server, call.before.as_ref()).await;
    (call.call)(s3::open(&entry(&proxy.endpoint()))).await.unwrap();
    let calm: Vec<Seen> = proxy.log().into_iter().map(|(seen, _)| seen).collect();
    assert!(there(&server).await == call.after);
    let (mut spoilt, mut failed) = (0, 0);
    for fault in call.faults {
        for request in &calm {
            let proxy = FaultProxy::before(upstream);
            set(&server, call.before.as_ref()).await;
            let number = request.number;
            proxy.script(move |seen| (seen.number == number).then_some(fault));
            let store = s3::open(&entry(&proxy.endpoint()));
            let what = format!("{fault:?} at {} {}", request.method, request.target);
            let began = Instant::now();
            let ended = tokio::time::timeout(Duration::from_secs(60), (call.call)(Arc::clone(&store))).await;
            let ended = ended.unwrap_or_else(|_| panic!("{what}: it never ends"));
            let found = there(&server).await;
            match &ended {
                Ok(()) => assert!(found == call.after, "{what}: it ended well without its effect"),
                Err(error) => assert!(found == call.before, "{what}: it failed and yet changed something: {error}"),
            }
            println!("{what}: {ended:?} in {:?}", began.elapsed());
            failed += usize::from(ended.is_err());
            spoilt += proxy.spoilt();
            proxy.script(|_| None);
            (call.call)(store).await.unwrap_or_else(|error| panic!("{what}: it does not recover: {error}"));
            assert!(there(&server).await == call.after, "{what}: afterwards");
            // This server cannot list uploads, so that one whose id was lost is never heard of again; Garage can.
            let is_begin = request.method == "POST" && request.target.contains("uploads");
            match left(&server).await {
                left if left.is_empty() => {}
                lost => {
                    assert!(is_begin && fault.loses_the_answer(), "{what}: left behind: {lost:?}");
                    lost.iter().for_each(|name| std::fs::remove_file(server.folder().join(name)).unwrap());
                }
            }
        }
    }
    println!("{spoilt} faults, {failed} errors");
    spoilt
}

impl Fault {
    /// Whether the server did something of which the client may not hear.
    fn loses_the_answer(self) -> bool {
        match self {
            Self::LostAnswer | Self::Truncate | Self::Flip => true,
            Self::Reset
            | Self::Stall
            | Self::InternalError
            | Self::SlowDown
            | Self::WrongRange
            | Self::Trickle
            | Self::Condition
            | Self::NotImplemented
            | Self::Forbidden => false,
        }
    }
}

fn put(size: usize, options: PutOptions) -> Call {
    let bytes = noise(7, size);
    let before = (!options.if_absent).then(|| b"what was there".to_vec());
    let call = {
        let bytes = bytes.clone();
        move |store: Arc<dyn Store>| -> Called {
            let (bytes, options) = (bytes.clone(), options.clone());
            Box::pin(async move {
                let put =
                    store.put(&key(KEY), body(bytes.clone()), options).await.map_err(|error| error.to_string())?;
                assert_eq!((put.size_bytes, put.sha256), (bytes.len() as u64, Digest::of(&bytes)));
                Ok(())
            })
        }
    };
    // No checksum covers the id of an upload in an answer: that is for TLS.
    Call { before, after: Some(bytes), faults: all_but(&[Fault::Flip]), call: Box::new(call) }
}

/// A call that changes nothing, of an object of so many bytes.
fn read<C>(size: usize, faults: Vec<Fault>, call: C) -> Call
where
    C: Fn(Arc<dyn Store>, Vec<u8>) -> Called + 'static,
{
    let bytes = noise(9, size);
    let there = Some(bytes.clone());
    Call { before: there.clone(), after: there, faults, call: Box::new(move |store| call(store, bytes.clone())) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_put_survives_every_fault() {
    assert!(ordeal(put(100_000, PutOptions::default())).await >= 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_in_parts_survives_every_fault() {
    assert!(ordeal(put(SEVERAL_PARTS, PutOptions::default())).await >= 48);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_of_what_must_not_exist_survives_every_fault() {
    let absent = || PutOptions { if_absent: true, ..PutOptions::default() };
    assert!(ordeal(put(100_000, absent())).await >= 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_in_parts_of_what_must_not_exist_survives_every_fault() {
    let absent = || PutOptions { if_absent: true, ..PutOptions::default() };
    assert!(ordeal(put(SEVERAL_PARTS, absent())).await >= 56);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_get_survives_every_fault_and_takes_no_wrong_byte() {
    let call = |store: Arc<dyn Store>, bytes: Vec<u8>| -> Called {
        Box::pin(async move {
            let facts = PlainFacts { size_bytes: bytes.len() as u64, sha256: Digest::of(&bytes) };
            let unpacking = Unpacking::of(&Encoding::default(), None, &Safe::default()).unwrap();
            let expected = Expected { stored: facts, plain: facts.into() };
            let (name, mut target) = (key(KEY), Vec::new());
            let read = download((store.as_read(), &name), &unpacking, expected, &mut target, Arc::new(|_| {})).await;
            read.map_err(|error| error.to_string())?;
            assert!(target == bytes, "it ended well with wrong bytes");
            Ok(())
        })
    };
    assert!(ordeal(read(SEVERAL_PARTS, all_but(&[]), call)).await >= 27);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ranged_get_survives_every_fault() {
    let call = |store: Arc<dyn Store>, bytes: Vec<u8>| -> Called {
        Box::pin(async move {
            let range = 5_000_000..17_000_000;
            let options = GetOptions { range: Some(range.clone()), ..GetOptions::default() };
            let told = |error: String| error;
            let stream = store.get_with(&key(KEY), options).await.map_err(|error| told(error.to_string()))?;
            let read = all(stream).await.map_err(|error| told(error.to_string()))?;
            assert!(read == bytes[5_000_000..17_000_000], "it ended well with wrong bytes");
            Ok(())
        })
    };
    // A part of an object has no digest of its own: a changed byte is for TLS and for whoever knows the whole.
    assert!(ordeal(read(SEVERAL_PARTS, all_but(&[Fault::Flip]), call)).await >= 24);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_survives_every_fault() {
    let call = |store: Arc<dyn Store>, bytes: Vec<u8>| -> Called {
        Box::pin(async move {
            let facts = store.head(&key(KEY)).await.map_err(|error| error.to_string())?;
            assert_eq!((facts.size_bytes, facts.sha256()), (bytes.len() as u64, Some(Digest::of(&bytes))));
            assert!(matches!(
                store.head(&key("none")).await,
                Err(StoreError::NotFound { .. } | StoreError::Unavailable { .. })
            ));
            Ok(())
        })
    };
    assert!(ordeal(read(100_000, all_but(&[Fault::Flip]), call)).await >= 24);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_survives_every_fault_and_is_never_short() {
    let call = |store: Arc<dyn Store>, bytes: Vec<u8>| -> Called {
        Box::pin(async move {
            let listed = store.list("d/").await.map_err(|error| error.to_string())?;
            assert_eq!(listed.len(), 1);
            assert_eq!((listed[0].key.as_str(), listed[0].size_bytes), (KEY, bytes.len() as u64));
            Ok(())
        })
    };
    assert!(ordeal(read(100_000, all_but(&[Fault::Flip]), call)).await >= 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_survives_every_fault() {
    let bytes = noise(9, 100_000);
    let call = |store: Arc<dyn Store>, bytes: Vec<u8>| -> Called {
        Box::pin(async move {
            let copied = store.copy(&key(KEY), &key("copied"), PutOptions::default()).await;
            let copied = copied.map_err(|error| error.to_string())?;
            assert_eq!((copied.size_bytes, copied.sha256), (bytes.len() as u64, Digest::of(&bytes)));
            let facts = store.head(&key("copied")).await.map_err(|error| error.to_string())?;
            assert_eq!((facts.size_bytes, facts.sha256()), (bytes.len() as u64, Some(Digest::of(&bytes))));
            Ok(())
        })
    };
    assert!(ordeal(read(bytes.len(), all_but(&[Fault::Flip]), call)).await >= 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_survives_every_fault() {
    let call = |store: Arc<dyn Store>| -> Called {
        Box::pin(async move { store.delete(&key(KEY)).await.map_err(|error| error.to_string()) })
    };
    let before = Some(noise(9, 1_000));
    let deleted = Call { before, after: None, faults: all_but(&[Fault::Flip]), call: Box::new(call) };
    assert!(ordeal(deleted).await >= 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_may_replace_nothing_gives_way_to_whoever_was_faster() {
    let (server, ours) = (S3::start(), noise(9, 1000));
    let proxy = FaultProxy::before(server.url().trim_start_matches("http://").parse().unwrap());
    set(&server, Some(&ours)).await;
    let theirs = server.folder().join(s3::BUCKET).join("below/copied");
    let is_copy = |seen: &Seen| seen.method == "PUT" && seen.target.contains("copied");
    // Another writer is there between the look and the copy, and the server heeds the condition.
    let place = theirs.clone();
    proxy.script(move |seen| {
        is_copy(seen).then(|| {
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            std::fs::write(&place, "theirs").unwrap();
            Fault::Condition
        })
    });
    let store = s3::open(&entry(&proxy.endpoint()));
    let options = || PutOptions { if_absent: true, ..PutOptions::default() };
    let refused = store.copy(&key(KEY), &key("copied"), options()).await;
    assert!(matches!(refused, Err(StoreError::Exists { .. })), "{refused:?}");
    assert_eq!(std::fs::read(&theirs).unwrap(), b"theirs");
    let asked: Vec<Seen> = proxy.log().into_iter().map(|(seen, _)| seen).filter(is_copy).collect();
    assert!(!asked.is_empty() && asked.iter().all(|seen| seen.condition.as_deref() == Some("*")), "{asked:?}");
    // A server that knows no condition is asked without.
    std::fs::remove_file(&theirs).unwrap();
    proxy.script(move |seen| (is_copy(seen) && seen.condition.is_some()).then_some(Fault::NotImplemented));
    let copied = store.copy(&key(KEY), &key("copied"), options()).await.unwrap();
    assert!(!copied.existed && copied.sha256 == Digest::of(&ours));
    let again = store.copy(&key(KEY), &key("copied"), options()).await.unwrap();
    assert!(again.existed);
}
