//! What matters most, against Garage: packed and locked objects of several parts, cut-off uploads, faults on the way.

use std::sync::Arc;
use std::time::Instant;

use runbook::action::{PlainFacts, PutOptions, StoreError};
use runbook::base::Digest;
use runbook::language::inventory::StoreEntry;
use runbook::transfer::{Expected, Packing, Unpacking, download, upload};

use crate::support::fault_proxy::{Fault, FaultProxy};
use crate::support::parcel::{Safe, age_keys, body, content, to_recipients};
use crate::support::place::{Flaw, Flawed, Place, content as content_of, key, noise};

const SIZE: usize = 96 << 20;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by `make test-garage`"]
async fn what_is_compressed_and_encrypted_comes_back_from_garage() {
    let place = Place::garage();
    let ((identity, recipient), (_, offline)) = (age_keys(), age_keys());
    let safe = Safe::default().with("identity", &identity);
    let entry = StoreEntry { encryption: Some(to_recipients(&[&recipient, &offline])), ..place.entry.clone() };
    let (store, packing) = (place.open_as(&entry), Packing::of(&entry, &safe).unwrap());
    let (plain, name) = (content(SIZE, 5), key("a/large one.zst.age"));
    let began = Instant::now();
    let put = upload((&*store, &name), body(&plain), &packing, PutOptions::default()).await.unwrap();
    println!("{} MiB up in {:?}, {} bytes stored", SIZE >> 20, began.elapsed(), put.packed.stored_size_bytes);
    let stored = PlainFacts { size_bytes: put.packed.stored_size_bytes, sha256: put.packed.stored_sha256 };
    let expected = Expected { stored, plain: put.packed.plain };
    let unpacking = Unpacking::of(packing.encoding(), entry.encryption.as_ref(), &safe).unwrap();
    let (mut back, began) = (Vec::new(), Instant::now());
    download((store.as_read(), &name), &unpacking, expected, &mut back, Arc::new(|_| {})).await.unwrap();
    println!("and back in {:?}", began.elapsed());
    assert!(back == plain);
    assert_eq!((place.leftovers)(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by `make test-garage`"]
async fn what_is_in_progress_on_garage_is_seen_and_ended() {
    let place = Place::garage();
    let store = place.open();
    let (cut_off, stalled) = Flawed::after(20 << 20, Flaw::Stalls);
    let name = key("cut off");
    let seen = async {
        stalled.await;
        (0..500).any(|_| !(place.leftovers)().is_empty())
    };
    tokio::select! {
        ended = store.put(&name, cut_off, PutOptions::default()) => panic!("it cannot end: {ended:?}"),
        seen = seen => assert!(seen, "an upload in progress is listed"),
    }
    let bytes = noise(3, 20 << 20);
    let options = PutOptions { resume: true, ..PutOptions::default() };
    store.put(&name, crate::support::place::body(bytes.clone()), options).await.unwrap();
    assert!(content_of(store.as_read(), "cut off").await == bytes);
    for _ in 0..500 {
        if (place.leftovers)().is_empty() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("left behind: {:?}", (place.leftovers)());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by `make test-garage`"]
async fn lost_answers_of_garage_lose_nothing() {
    let place = Place::garage();
    let upstream = place.entry.endpoint.as_ref().unwrap().trim_start_matches("http://").parse().unwrap();
    for (round, fault) in [Fault::LostAnswer, Fault::Reset, Fault::SlowDown, Fault::Truncate].into_iter().enumerate() {
        for number in 0..8 {
            let proxy = FaultProxy::before(upstream);
            proxy.script(move |seen| (seen.number == number).then_some(fault));
            let store = place.open_as(&StoreEntry { endpoint: Some(proxy.endpoint()), ..place.entry.clone() });
            let (bytes, name) = (noise(round as u64 * 10 + number as u64, 20 << 20), format!("{fault:?}/{number}"));
            let put = store.put(&key(&name), crate::support::place::body(bytes.clone()), PutOptions::default()).await;
            match put {
                Ok(put) => {
                    assert_eq!(put.sha256, Digest::of(&bytes));
                    assert!(content_of(place.open().as_read(), &name).await == bytes, "{name}");
                }
                Err(error) => {
                    let found = place.open().head(&key(&name)).await;
                    assert!(matches!(found, Err(StoreError::NotFound { .. })), "{name}: {error}: {found:?}");
                }
            }
            assert_eq!((place.leftovers)(), Vec::<String>::new(), "{name}");
        }
    }
}
