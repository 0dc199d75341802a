//! Damage: whatever is done to the stored bytes, the end of the stream is an error, and it says which.

use runbook::language::inventory::{CompressionFormat, StoreEntry};
use runbook::transfer::{Expected, TransferError};

use crate::support::parcel::{Parcel, Safe, compressed, content, facts, locks, pack, unpack};

/// Every lock with and without compression, and compression alone.
fn ways() -> (Safe, Vec<(String, StoreEntry)>) {
    let (safe, locks) = locks();
    let mut ways = Vec::new();
    for (name, lock) in locks {
        // Their keys take a second each time; the streams behind them are the same as with others.
        if matches!(name, "age passphrase" | "openssl pbkdf2") {
            continue;
        }
        for format in [CompressionFormat::Zstd, CompressionFormat::None] {
            let entry = StoreEntry { encryption: Some(lock.clone()), ..compressed(format) };
            ways.push((format!("{name}, {format:?}"), entry));
        }
    }
    let formats = [CompressionFormat::Zstd, CompressionFormat::Gzip, CompressionFormat::Lz4, CompressionFormat::None];
    ways.extend(formats.map(|format| (format!("{format:?}"), compressed(format))));
    (safe, ways)
}

/// What is wrong, as a journey would tell it.
async fn refusal(way: &str, entry: &StoreEntry, safe: &Safe, parcel: &Parcel) -> TransferError {
    match unpack(entry, safe, parcel).await {
        Ok(_) => panic!("{way}: it was taken for sound"),
        Err(error) => TransferError::of_reading("the-object", error),
    }
}

fn with(parcel: &Parcel, stored: Vec<u8>) -> Parcel {
    Parcel { stored, ..parcel.clone() }
}

#[tokio::test]
async fn a_flipped_bit_anywhere_is_damage() {
    let (safe, ways) = ways();
    for (way, entry) in ways {
        let parcel = pack(&entry, &safe, &content(400_000, 21)).await;
        let count = parcel.stored.len();
        let places = (0..12).chain((1..8).map(|part| part * count / 8)).chain(count - 20..count);
        for at in places {
            let mut stored = parcel.stored.clone();
            stored[at] ^= 1 << (at % 8);
            let error = refusal(&way, &entry, &safe, &with(&parcel, stored)).await;
            let is_damage = matches!(&error, TransferError::Damaged { object, .. } if object == "the-object");
            // Where the format says who can read it, a flip there looks like somebody else's object.
            let is_stanza = way.starts_with("age") && at < 400 && matches!(error, TransferError::WrongKey { .. });
            assert!(is_damage || is_stanza, "{way} at {at}: {error:?}");
        }
    }
}

#[tokio::test]
async fn what_is_cut_off_is_damage() {
    let (safe, ways) = ways();
    for (way, entry) in ways {
        let parcel = pack(&entry, &safe, &content(400_000, 22)).await;
        let count = parcel.stored.len();
        for left in [0, 1, 7, 8, 15, 16, 17, 100, count / 3, 65_536, count - 17, count - 16, count - 1] {
            let cut = with(&parcel, parcel.stored[..left].to_vec());
            let error = refusal(&way, &entry, &safe, &cut).await;
            let is_cut = matches!(error, TransferError::Damaged { .. });
            // A password that does not fit and an object that is cut look alike; both are said.
            let is_unsure = matches!(&error, TransferError::WrongKey { what, .. } if what.contains("or it is damaged"));
            assert!(is_cut || is_unsure, "{way}, {left} left: {error:?}");
        }
    }
}

#[tokio::test]
async fn what_is_appended_is_damage() {
    let (safe, ways) = ways();
    for (way, entry) in ways {
        let parcel = pack(&entry, &safe, &content(300_000, 23)).await;
        for more in [vec![0], vec![0; 16], content(70_000, 1), parcel.stored.clone()] {
            let longer = with(&parcel, [parcel.stored.clone(), more].concat());
            let error = refusal(&way, &entry, &safe, &longer).await;
            assert!(matches!(error, TransferError::Damaged { .. }), "{way}: {error:?}");
        }
    }
}

#[tokio::test]
async fn another_object_in_its_place_is_damage() {
    let (safe, ways) = ways();
    for (way, entry) in ways {
        let (one, other) =
            (pack(&entry, &safe, &content(200_000, 24)).await, pack(&entry, &safe, &content(200_000, 30)).await);
        let error = refusal(&way, &entry, &safe, &with(&one, other.stored)).await;
        assert!(matches!(error, TransferError::Damaged { .. }), "{way}: {error:?}");
        let error = refusal(&way, &entry, &safe, &with(&one, vec![0; one.stored.len()])).await;
        assert!(matches!(error, TransferError::Damaged { .. }), "{way}: {error:?}");
    }
}

#[tokio::test]
async fn a_key_that_does_not_fit_is_called_so() {
    let ((safe, all), (strange, _)) = (locks(), locks());
    let strange = strange.with("word", "battery staple");
    for (name, lock) in all {
        for format in [CompressionFormat::Zstd, CompressionFormat::None] {
            let entry = StoreEntry { encryption: Some(lock.clone()), ..compressed(format) };
            let parcel = pack(&entry, &safe, &content(100_000, 26)).await;
            let error = refusal(name, &entry, &strange, &parcel).await;
            assert!(matches!(error, TransferError::WrongKey { .. }), "{name}, {format:?}: {error:?}");
            assert!(!error.to_string().contains("staple"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_password_whose_padding_fits_by_luck_is_still_found_wrong() {
    let (safe, all) = locks();
    let (_, lock) = all.into_iter().find(|(name, _)| *name == "openssl legacy").unwrap();
    let entry = StoreEntry { encryption: Some(lock), ..compressed(CompressionFormat::None) };
    let parcel = pack(&entry, &safe, &content(1_000, 27)).await;
    for number in 0..600 {
        let strange = Safe::default().with("word", &format!("word {number}"));
        let error = refusal("luck", &entry, &strange, &parcel).await;
        assert!(matches!(error, TransferError::WrongKey { .. }), "{number}: {error:?}");
    }
}

#[tokio::test]
async fn an_object_that_unpacks_to_more_than_it_should_is_stopped() {
    let entry = compressed(CompressionFormat::Zstd);
    let bomb = pack(&entry, &Safe::default(), &vec![0; 64 << 20]).await;
    let expected = Expected { plain: facts(b"little").into(), ..bomb.expected };
    let error = refusal("bomb", &entry, &Safe::default(), &Parcel { expected, ..bomb }).await;
    assert!(error.to_string().contains("more than the 6 bytes"), "{error}");
}

#[tokio::test]
async fn a_manifest_that_lies_about_the_content_is_found_out() {
    let (safe, ways) = ways();
    for (way, entry) in ways {
        let parcel = pack(&entry, &safe, &content(50_000, 28)).await;
        let expected = Expected { plain: facts(&content(50_000, 30)).into(), ..parcel.expected };
        let error = refusal(&way, &entry, &safe, &Parcel { expected, ..parcel }).await;
        assert!(error.to_string().contains("SHA-256"), "{way}: {error}");
    }
}
