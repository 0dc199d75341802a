//! Compression and encryption in one pass: what goes in comes out, whatever the settings; memory and threads are bounded.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use proptest::prelude::*;
use runbook::language::inventory::{Compression, CompressionFormat, Encryption, StoreEntry};
use runbook::transfer::{Packing, TransferError, Unpacking, public_keys};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use crate::support::parcel::{Safe, age_keys, body, compressed, content, locks, pack, to_recipients, unpack};

const FORMATS: [CompressionFormat; 4] =
    [CompressionFormat::Zstd, CompressionFormat::Gzip, CompressionFormat::Lz4, CompressionFormat::None];

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[tokio::test]
async fn every_format_and_every_lock_gives_back_what_it_was_given() {
    let (safe, locks) = locks();
    let ways = locks.into_iter().map(|(name, lock)| (name, Some(lock))).chain([("no lock", None)]);
    for (name, encryption) in ways {
        // scrypt takes a second each time, whatever the format.
        let formats = if name == "age passphrase" { &FORMATS[..1] } else { &FORMATS };
        for &format in formats {
            let entry = StoreEntry { encryption: encryption.clone(), ..compressed(format) };
            for size_bytes in [0, 1, 300_000] {
                let plain = content(size_bytes, 7);
                let parcel = pack(&entry, &safe, &plain).await;
                let found = unpack(&entry, &safe, &parcel).await;
                assert!(found.is_ok_and(|found| found == plain), "{name}, {format:?}, {size_bytes}");
            }
        }
    }
}

#[tokio::test]
async fn sizes_around_the_borders_of_blocks_come_back() {
    let (safe, locks) = locks();
    let age = Some(locks[0].1.clone());
    for format in FORMATS {
        let entry = StoreEntry { encryption: age.clone(), ..compressed(format) };
        for border in [64 << 10, 256 << 10, 1 << 20, 4 << 20, 9 << 20] {
            for size_bytes in [border - 1, border, border + 1] {
                let plain = content(size_bytes, border as u64);
                let parcel = pack(&entry, &safe, &plain).await;
                assert!(unpack(&entry, &safe, &parcel).await.unwrap() == plain, "{format:?}, {size_bytes}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_packed_is_unpacked_to_the_same_bytes(
        plain in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..2_000),
            (0_usize..3_000_000, any::<u64>()).prop_map(|(size, seed)| content(size, seed)),
        ],
        format in prop::sample::select(FORMATS.to_vec()),
        level in prop::option::of(1_i32..=9),
        lock in prop::option::of(prop::sample::select(vec![0_usize, 2, 3, 4, 5, 6])),
    ) {
        let (safe, locks) = locks();
        let level = level.filter(|_| matches!(format, CompressionFormat::Zstd | CompressionFormat::Gzip));
        let encryption = lock.map(|at| locks[at].1.clone());
        let entry = StoreEntry { compression: Some(Compression { format, level }), encryption, ..StoreEntry::default() };
        let found = runtime().block_on(async {
            let parcel = pack(&entry, &safe, &plain).await;
            unpack(&entry, &safe, &parcel).await
        });
        prop_assert!(found.is_ok_and(|found| found == plain));
    }
}

/// A source without end that tells when it was dropped.
struct Endless(Arc<AtomicBool>, Arc<AtomicU64>);

impl Drop for Endless {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl AsyncRead for Endless {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let count = buffer.remaining().min(64 << 10);
        buffer.put_slice(&content(count, 3));
        self.1.fetch_add(count as u64, Ordering::SeqCst);
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_body_that_is_dropped_ends_its_threads_and_its_source() {
    let (safe, locks) = locks();
    let entry = StoreEntry { encryption: Some(locks[0].1.clone()), ..StoreEntry::default() };
    let (dropped, given) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let source = Box::new(Endless(Arc::clone(&dropped), Arc::clone(&given)));
    let (mut sealed, _) = Packing::of(&entry, &safe).unwrap().seal(source).split();
    sealed.read_exact(&mut vec![0; 100_000]).await.unwrap();
    drop(sealed);
    while !dropped.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
    assert!(given.load(Ordering::SeqCst) < 160 << 20, "a reader that is slow stops the source");
}

#[tokio::test]
async fn a_source_that_never_gives_anything_is_let_go_of() {
    let (ours, mut theirs) = tokio::io::duplex(64);
    let (mut sealed, _) = Packing::of(&StoreEntry::default(), &Safe::default()).unwrap().seal(Box::new(ours)).split();
    let mut buffer = [0; 1];
    tokio::select! {
        biased;
        read = sealed.read(&mut buffer) => panic!("there is nothing to read: {read:?}"),
        () = tokio::task::yield_now() => {}
    }
    drop(sealed);
    assert_eq!(theirs.read(&mut buffer).await.unwrap(), 0, "the other end of the source is closed");
}

/// A source that fails after a while.
struct Failing(u64);

impl AsyncRead for Failing {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.0 == 0 {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, "the link broke")));
        }
        let count = buffer.remaining().min(usize::try_from(self.0).unwrap());
        buffer.put_slice(&vec![1; count]);
        self.0 -= count as u64;
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_source_that_fails_fails_the_body_with_its_own_error() {
    let (safe, locks) = locks();
    for encryption in locks.into_iter().map(|(_, lock)| Some(lock)).chain([None]) {
        let entry = StoreEntry { encryption, ..StoreEntry::default() };
        let packing = Packing::of(&entry, &safe).unwrap();
        let (mut sealed, packed) = packing.seal(Box::new(Failing(300_000))).split();
        let error = sealed.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (io::ErrorKind::ConnectionReset, "the link broke"));
        assert!(packed().is_none());
        assert!(sealed.read(&mut [0; 8]).await.is_err(), "asked again, it does not pretend to have ended");

        let parcel = pack(&entry, &safe, &content(2_000_000, 5)).await;
        let unpacking = Unpacking::of(&parcel.encoding, entry.encryption.as_ref(), &safe).unwrap();
        let cut = io::Cursor::new(parcel.stored[..400_000].to_vec()).chain(Failing(0));
        let error = unpacking.open(Box::new(cut), parcel.expected).read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
    }
}

#[tokio::test]
async fn progress_is_told_on_the_way() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = Arc::clone(&seen);
    let packing = Packing::of(&StoreEntry::default(), &Safe::default()).unwrap();
    let packing = packing.watched(Arc::new(move |progress| told.lock().unwrap().push(progress)), Some(3_000_000));
    let (mut sealed, packed) = packing.seal(body(&content(3_000_000, 9))).split();
    sealed.read_to_end(&mut Vec::new()).await.unwrap();
    let last = *seen.lock().unwrap().last().unwrap();
    assert_eq!((last.plain_bytes, last.total_bytes), (3_000_000, Some(3_000_000)));
    assert_eq!(last.stored_bytes, packed().unwrap().stored_size_bytes);
}

fn refusal(entry: &StoreEntry, safe: &Safe) -> String {
    match Packing::of(entry, safe) {
        Ok(_) => panic!("it makes no sense and is taken"),
        Err(TransferError::Settings(what)) => what,
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn settings_that_make_no_sense_are_refused_and_no_secret_is_shown() {
    let (identity, recipient) = age_keys();
    let encrypted = |encryption| StoreEntry { encryption: Some(encryption), ..StoreEntry::default() };
    let told = refusal(&encrypted(to_recipients(&[&identity])), &Safe::default());
    assert!(told.contains("private key") && !told.contains(&identity), "{told}");
    let told = refusal(&encrypted(to_recipients(&["age1nonsense"])), &Safe::default());
    assert!(told.contains("`age1nonsense` is no public key"), "{told}");
    let two = Encryption { passphrase: Some("word".to_owned()), ..to_recipients(&[&recipient]) };
    assert!(refusal(&encrypted(two), &Safe::default()).contains("exactly one of"));
    let empty = Safe::default().with("word", "\n");
    let by_word = Encryption { passphrase: Some("word".to_owned()), ..Encryption::default() };
    assert_eq!(refusal(&encrypted(by_word), &empty), "the secret `word` is empty");
    let level = |format, level| StoreEntry {
        compression: Some(Compression { format, level: Some(level) }),
        ..StoreEntry::default()
    };
    assert!(refusal(&level(CompressionFormat::Zstd, 23), &empty).contains("not from 1 to 19"));
    assert!(refusal(&level(CompressionFormat::Lz4, 1), &empty).contains("no levels"));
}

#[test]
fn an_identity_may_come_with_the_comments_of_age_keygen_and_is_never_shown() {
    let (identity, recipient) = age_keys();
    let text = format!("# created: 2026-11-21T08:00:00Z\n# public key: {recipient}\n{identity}\n");
    let safe = Safe::default().with("good", &text).with("cut", &identity[..50]).with("public", &recipient);
    assert_eq!(public_keys("good", &safe).unwrap(), std::slice::from_ref(&recipient));
    let cut = public_keys("cut", &safe).unwrap_err().to_string();
    assert!(cut.contains("`cut`") && cut.contains("cut or altered") && !cut.contains(&identity[..50]), "{cut}");
    assert!(public_keys("public", &safe).unwrap_err().to_string().contains("it is a public key"));
}

#[test]
fn the_name_of_an_object_says_how_it_is_packed() {
    let (safe, locks) = locks();
    let suffix = |format, lock: Option<&Encryption>| {
        let entry = StoreEntry { encryption: lock.cloned(), ..compressed(format) };
        Packing::of(&entry, &safe).unwrap().suffix()
    };
    assert_eq!(suffix(CompressionFormat::Zstd, Some(&locks[0].1)), ".zst.age");
    assert_eq!(suffix(CompressionFormat::Gzip, Some(&locks[2].1)), ".gz.enc");
    assert_eq!(suffix(CompressionFormat::Lz4, Some(&locks[6].1)), ".lz4.gpg");
    assert_eq!(suffix(CompressionFormat::None, None), "");
    assert_eq!(
        Packing::of(&StoreEntry::default(), &safe).unwrap().suffix(),
        ".zst",
        "zstd unless something else is said"
    );
}
