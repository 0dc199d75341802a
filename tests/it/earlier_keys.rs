//! Keys of before: what a store has written stays readable after its `encryption` has changed.

use runbook::language::inventory::{CompressionFormat, EarlierKeys, Encryption, GpgSymmetric, OpensslEnc, StoreEntry};

use crate::support::cli::Cli;
use crate::support::parcel::{Parcel, Safe, age_keys, compressed, content, pack, to_recipients, unpack};

/// How one password is used.
const METHODS: [&str; 3] = ["passphrase", "openssl", "gpg"];

fn word(method: &str, secret: &str) -> EarlierKeys {
    let secret = secret.to_owned();
    match method {
        "passphrase" => EarlierKeys { passphrase: Some(secret), ..EarlierKeys::default() },
        "openssl" => {
            let openssl = OpensslEnc { password: secret, iterations: Some(1000), ..OpensslEnc::default() };
            EarlierKeys { openssl: Some(openssl), ..EarlierKeys::default() }
        }
        _ => EarlierKeys { gpg: Some(GpgSymmetric { passphrase: secret }), ..EarlierKeys::default() },
    }
}

fn now(keys: EarlierKeys) -> Encryption {
    let EarlierKeys { identities, passphrase, openssl, gpg } = keys;
    Encryption { identities, passphrase, openssl, gpg, ..Encryption::default() }
}

fn store(format: CompressionFormat, encryption: Encryption) -> StoreEntry {
    StoreEntry { encryption: Some(encryption), ..compressed(format) }
}

#[tokio::test]
async fn after_two_changes_of_the_method_every_backup_still_restores() {
    let ((first, to_first), (second, to_second), (_, offline)) = (age_keys(), age_keys(), age_keys());
    let safe = Safe::default().with("identity", &first).with("newer", &second).with("word", "between\n");
    let plain = content(300_000, 7);
    let age = store(CompressionFormat::Zstd, to_recipients(&[&to_first, &offline]));
    let openssl = store(CompressionFormat::Gzip, now(word("openssl", "word")));
    let mut newest = to_recipients(&[&to_second, &offline]);
    newest.identities = vec!["newer".to_owned()];
    let parcels = [pack(&age, &safe, &plain).await, pack(&openssl, &safe, &plain).await];
    let bare = store(CompressionFormat::Zstd, newest.clone());
    let error = unpack(&bare, &safe, &parcels[0]).await.unwrap_err().to_string();
    assert!(error.contains("none of the identities"), "{error}");
    let older = EarlierKeys { identities: vec!["identity".to_owned()], ..EarlierKeys::default() };
    newest.earlier = vec![word("openssl", "word"), older];
    let today = store(CompressionFormat::Zstd, newest);
    let last = pack(&today, &safe, &plain).await;
    for parcel in parcels.iter().chain([&last]) {
        assert_eq!(unpack(&today, &safe, parcel).await.unwrap(), plain);
    }
}

#[tokio::test]
async fn a_password_that_was_changed_is_told_from_the_others_by_the_beginning() {
    let safe = Safe::default().with("a", "first").with("b", "second").with("c", "third");
    let text = b"-- a dump of PostgreSQL\n".repeat(40_000);
    for method in METHODS {
        let all = |secrets: [&str; 3]| Encryption {
            earlier: secrets[1..].iter().map(|secret| word(method, secret)).collect(),
            ..now(word(method, secrets[0]))
        };
        for format in
            [CompressionFormat::None, CompressionFormat::Zstd, CompressionFormat::Gzip, CompressionFormat::Lz4]
        {
            for plain in [&b""[..], &content(1000, 3), &text] {
                let parcel = pack(&store(format, now(word(method, "b"))), &safe, plain).await;
                // Each try takes a key derivation: the order of the words has nothing to do with how long the content is.
                let orders = [["a", "b", "c"], ["c", "a", "b"], ["b", "a", "c"]];
                let orders = if plain.len() == 1000 { &orders[..] } else { &orders[..1] };
                for &order in orders {
                    let read = unpack(&store(format, all(order)), &safe, &parcel).await;
                    assert_eq!(read.unwrap(), plain, "{method} {format:?} {order:?} {}", plain.len());
                }
            }
        }
    }
}

#[tokio::test]
async fn when_none_of_several_fits_all_that_were_tried_are_named() {
    let safe = Safe::default().with("a", "first").with("b", "second").with("lost", "third");
    let without = Safe::default().with("a", "first").with("b", "second");
    for method in METHODS {
        let parcel = pack(&store(CompressionFormat::Zstd, now(word(method, "lost"))), &safe, &content(5000, 3)).await;
        let some = Encryption { earlier: vec![word(method, "b"), word(method, "lost")], ..now(word(method, "a")) };
        let error = unpack(&store(CompressionFormat::Zstd, some), &without, &parcel).await.unwrap_err().to_string();
        assert!(error.contains("tried: `a`, `b`; cannot be had: `lost`"), "{method}: {error}");
        assert!(error.contains("does not fit"), "{method}: {error}");
    }
}

#[tokio::test]
async fn a_damaged_object_is_not_taken_for_a_wrong_key() {
    let safe = Safe::default().with("a", "first").with("b", "second");
    for method in METHODS {
        let entry = store(CompressionFormat::Zstd, now(word(method, "b")));
        let parcel = pack(&entry, &safe, &content(900_000, 3)).await;
        let mut stored = parcel.stored.clone();
        let at = stored.len() / 2;
        stored[at] ^= 1;
        let both = Encryption { earlier: vec![word(method, "b")], ..now(word(method, "a")) };
        let damaged = Parcel { stored, ..parcel };
        let error = unpack(&store(CompressionFormat::Zstd, both), &safe, &damaged).await.unwrap_err().to_string();
        assert!(!error.contains("tried:"), "{method}: {error}");
    }
}

/// An inventory whose store encrypts like this.
fn inventory(cli: &Cli, encryption: &str) {
    let text = format!(
        "version: 1\nstores:\n  offsite:\n    url: file://{}\n    encryption: {encryption}\nsecrets:\n  \
         old: {{ file: {} }}\n  new: {{ file: {} }}\n",
        cli.path("stored").display(),
        cli.path("old").display(),
        cli.path("new").display()
    );
    cli.file("inventory.yaml", &text);
}

const NIGHTLY: &str = "version: 1
name: nightly
steps:
  - id: keep
    uses: backup.create
    with: { source: letters, stores: [offsite], paths: [LETTERS] }
";

#[test]
fn a_backup_of_the_old_key_is_verified_with_it_and_doctor_tells_when_it_is_lost() {
    let cli = Cli::new();
    let ((old, to_old), (new, to_new), (_, offline)) = (age_keys(), age_keys(), age_keys());
    cli.file("old", &old);
    cli.file("new", &new);
    std::fs::create_dir(cli.path("stored")).unwrap();
    std::fs::create_dir(cli.path("letters")).unwrap();
    cli.file("letters/one.txt", "dear reader\n");
    cli.file("nightly.yaml", &NIGHTLY.replace("LETTERS", &cli.path("letters").display().to_string()));
    let safe = format!("{{ key: {offline}, offline: true }}");
    inventory(&cli, &format!("{{ recipients: [{to_old}, {safe}], identities: [old] }}"));
    cli.run(&["run", "nightly.yaml"]).ends(0);
    inventory(&cli, &format!("{{ recipients: [{to_new}, {safe}], identities: [new] }}"));
    cli.run(&["backups", "verify", "--all", "--budget", "1GB", "--level", "content"])
        .ends(10)
        .says("cannot be decrypted");
    let told =
        cli.run(&["doctor", "--keys"]).ends(4).prints("what is written now can be read here").says("another key");
    assert!(told.out.contains("of `letters` is NOT read"), "{}", told.out);
    let changed =
        format!("{{ recipients: [{to_new}, {safe}], identities: [new], earlier: [{{ identities: [old] }}] }}");
    inventory(&cli, &changed);
    cli.run(&["backups", "verify", "--all", "--budget", "1GB", "--level", "content"]).ends(0);
    let told = cli.run(&["doctor", "--keys"]).ends(0).prints("earlier    `old` (age) is at hand");
    assert!(told.out.contains("of `letters` is read"), "{}", told.out);
    cli.file("old", "AGE-SECRET-KEY-1BROKEN");
    cli.run(&["doctor", "--keys"]).ends(4).prints("earlier    `old` (age) is NOT at hand");
    inventory(&cli, &changed.replace("[old]", "[odl]"));
    cli.run(&["check", "inventory.yaml"]).ends(3).says("RB0209").says("`odl`");
    inventory(&cli, &changed.replace("identities: [old]", ""));
    cli.run(&["check", "inventory.yaml"]).ends(3).says("it names no key");
}
