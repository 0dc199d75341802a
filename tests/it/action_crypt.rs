//! `crypt.*` against openssl and gpg, and against wrong keys and damage.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use runbook::action::{ActionError, ObjectKey, PutOptions, Store, StoreError};
use runbook::base::Digest;
use runbook::language::inventory::{Inventory, StoreEntry};
use runbook::store::Opening;
use serde_json::{Value, json};

use crate::support::host::{Bench, action};
use crate::support::interposed::{Interposer, interposed};
use crate::support::parcel::age_keys;

const CONTENT_BYTES: usize = 300_000;
fn inventory(bench: &Bench) -> Inventory {
    let entry = StoreEntry { url: format!("file://{}", bench.path("store").display()), ..StoreEntry::default() };
    Inventory { stores: [("primary".to_owned(), entry)].into(), ..Inventory::default() }
}

async fn run(bench: &Bench, name: &str, with: Value) -> Result<Value, ActionError> {
    let mut cx = bench.run_context(inventory(bench));
    let known = inventory(bench);
    cx.stores = Arc::new(move |name| -> Result<Arc<dyn Store>, ActionError> {
        Ok(Opening::plain(&known.stores[name], name).open().unwrap())
    });
    action(name).run(&with, &cx).await
}

/// A file of bytes that do not repeat.
fn plain(bench: &Bench) -> std::path::PathBuf {
    let mut state = 1_u64;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(CONTENT_BYTES)
    .collect();
    let path = bench.path("plain");
    fs::write(&path, bytes).unwrap();
    path
}

fn program(line: &str, folder: &Path) {
    let done = Command::new("bash").args(["-euc", line]).current_dir(folder).stdin(Stdio::null()).output().unwrap();
    assert!(
        done.status.success(),
        "`{line}`: {} (are openssl and gpg installed?)",
        String::from_utf8_lossy(&done.stderr)
    );
}

fn file(path: &Path) -> Value {
    json!({ "path": path })
}

#[tokio::test]
async fn what_is_encrypted_here_comes_back_by_every_way() {
    let bench = Bench::new();
    let from = plain(&bench);
    let digest = json!(Digest::of(&fs::read(&from).unwrap()));
    let (identity, recipient) = age_keys();
    for (at, (write, read)) in [
        (json!({ "recipients": [recipient] }), json!({ "identities": [identity] })),
        (json!({ "passphrase": "a b" }), json!({ "passphrase": "a b" })),
        (json!({ "openssl": { "password": "pw", "iterations": 20_000 } }), json!({ "openssl": { "password": "pw" } })),
        (json!({ "gpg": { "passphrase": "pw" } }), json!({ "gpg": { "passphrase": "pw" } })),
    ]
    .into_iter()
    .enumerate()
    {
        for place in
            [file(&bench.path(&format!("{at}.enc"))), json!({ "store": "primary", "key": format!("{at}.enc") })]
        {
            let with = json!({ "from": file(&from), "to": place, "by": write, "compression": "zstd" });
            let made =
                run(&bench, "crypt.encrypt", with.clone()).await.unwrap_or_else(|error| panic!("{write}: {error}"));
            assert_eq!((&made["plain_sha256"], &made["existed"]), (&digest, &json!(false)));
            let again = run(&bench, "crypt.encrypt", with).await.unwrap();
            assert_eq!((&again["sha256"], &again["existed"]), (&made["sha256"], &json!(true)), "twice is once");
            let with = json!({ "from": place, "to": file(&bench.path("back")), "by": read, "overwrite": true });
            let back = run(&bench, "crypt.decrypt", with).await.unwrap_or_else(|error| panic!("{write}: {error}"));
            assert_eq!((&back["sha256"], &back["proven"]), (&digest, &json!(true)));
            assert_eq!(fs::read(bench.path("back")).unwrap(), fs::read(&from).unwrap());
        }
        let note = fs::read_to_string(bench.path(&format!("{at}.enc.runbook.json"))).unwrap();
        assert!(!note.contains("pw") && !note.contains("a b") && !note.contains("SECRET"), "{note}");
    }
}

#[tokio::test]
async fn openssl_and_gpg_read_what_is_written_and_are_read_without_a_note() {
    let bench = Bench::new();
    let (from, dir) = (plain(&bench), bench.dir.path().to_owned());
    let whole = fs::read(&from).unwrap();
    let by = json!({ "openssl": { "password": "pw", "iterations": 20_000 } });
    let with = json!({ "from": file(&from), "to": file(&bench.path("o.enc")), "by": by });
    run(&bench, "crypt.encrypt", with).await.unwrap();
    program("openssl enc -d -aes-256-cbc -pbkdf2 -iter 20000 -pass pass:pw -in o.enc -out o.plain", &dir);
    assert_eq!(fs::read(bench.path("o.plain")).unwrap(), whole);
    let gpg = "gpg --homedir gnupg --batch --pinentry-mode loopback --passphrase pw";
    program("mkdir -m 700 gnupg", &dir);
    let with =
        json!({ "from": file(&from), "to": file(&bench.path("g.gpg")), "by": { "gpg": { "passphrase": "pw" } } });
    run(&bench, "crypt.encrypt", with).await.unwrap();
    program(&format!("{gpg} -o g.plain -d g.gpg"), &dir);
    assert_eq!(fs::read(bench.path("g.plain")).unwrap(), whole);
    program(&format!("{gpg} --symmetric --cipher-algo AES256 --compress-algo none -o foreign.gpg plain"), &dir);
    program("openssl enc -aes-256-cbc -pbkdf2 -pass pass:pw -in plain -out pbkdf2.enc", &dir);
    program("openssl enc -aes-256-cbc -md md5 -pass pass:pw -in plain -out md5.enc", &dir);
    program("gpgconf --homedir gnupg --kill all", &dir);
    for (name, by) in [
        ("foreign.gpg", json!({ "gpg": { "passphrase": "pw" } })),
        ("pbkdf2.enc", json!({ "openssl": { "password": "pw" } })),
        ("md5.enc", json!({ "openssl": { "password": "pw", "kdf": "legacy", "digest": "md5" } })),
    ] {
        let decrypt = async |more: Value| {
            let to = bench.path("out");
            let mut with = json!({ "from": file(&bench.path(name)), "to": file(&to), "by": by, "overwrite": true });
            with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            run(&bench, "crypt.decrypt", with).await
        };
        let proven =
            decrypt(json!({ "sha256": Digest::of(&whole) })).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((&proven["proven"], fs::read(bench.path("out")).unwrap() == whole), (&json!(true), true), "{name}");
        fs::remove_file(bench.path("out")).unwrap();
        assert!(decrypt(json!({ "sha256": Digest::of(b"other") })).await.is_err(), "{name}");
        assert!(!bench.path("out").exists(), "{name}");
        let bare = decrypt(json!({})).await;
        assert_eq!(bare.is_ok(), name == "foreign.gpg", "openssl proves nothing by itself: {bare:?}");
        let taken = decrypt(json!({ "unproven": true })).await.unwrap();
        assert_eq!(taken["proven"], json!(name == "foreign.gpg"));
    }
}

#[tokio::test]
async fn a_wrong_key_or_a_changed_byte_never_gets_a_name() {
    let bench = Bench::new();
    let from = plain(&bench);
    for by in [
        json!({ "passphrase": "right" }),
        json!({ "openssl": { "password": "right", "iterations": 10_000 } }),
        json!({ "gpg": { "passphrase": "right" } }),
    ] {
        let made = bench.path("made");
        let with = json!({ "from": file(&from), "to": file(&made), "by": by, "overwrite": true });
        run(&bench, "crypt.encrypt", with).await.unwrap();
        let decrypt = async |by: Value| {
            run(&bench, "crypt.decrypt", json!({ "from": file(&made), "to": file(&bench.path("out")), "by": by })).await
        };
        let wrong: Value = serde_json::from_str(&by.to_string().replace("right", "wrong")).unwrap();
        decrypt(wrong).await.expect_err("a wrong key");
        let whole = fs::read(&made).unwrap();
        for at in [0, 30, whole.len() / 2, whole.len() - 1] {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            fs::write(&made, flipped).unwrap();
            decrypt(by.clone()).await.expect_err("a flipped bit");
        }
        for length in [0, 10, whole.len() - 1] {
            fs::write(&made, &whole[..length]).unwrap();
            decrypt(by.clone()).await.expect_err("a cut file");
        }
        assert!(!bench.path("out").exists() && !bench.path(".out.runbook-part").exists(), "{by}");
        fs::write(&made, whole).unwrap();
        decrypt(by).await.unwrap();
        fs::remove_file(bench.path("out")).unwrap();
    }
}

#[tokio::test]
async fn keys_are_rotated_and_the_old_stays_until_the_new_is_proven() {
    let bench = Bench::new();
    let from = plain(&bench);
    let digest = json!(Digest::of(&fs::read(&from).unwrap()));
    let ((identity, recipient), (other, _)) = (age_keys(), age_keys());
    let (old, new) = (json!({ "store": "primary", "key": "old" }), json!({ "store": "primary", "key": "new" }));
    let by = json!({ "openssl": { "password": "pw", "iterations": 10_000 } });
    run(&bench, "crypt.encrypt", json!({ "from": file(&from), "to": old, "by": by })).await.unwrap();
    let rotate = async |more: Value| {
        let mut with = json!({ "from": old, "to": new, "old": by, "new": { "recipients": [recipient] } });
        with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        run(&bench, "crypt.rotate", with).await
    };
    let other_password = json!({ "old": { "openssl": { "password": "other", "iterations": 10_000 } } });
    let error = rotate(other_password).await.unwrap_err().to_string();
    assert!(error.contains("cannot be decrypted") && error.contains("old"), "the store is not to blame: {error}");
    let kept = rotate(json!({})).await.unwrap();
    assert_eq!((&kept["plain_sha256"], &kept["decrypted"]), (&digest, &json!(false)));
    assert!(bench.path("store/old").exists() && bench.path("store/new.runbook.json").exists());
    let wrong = json!({ "new": { "recipients": [recipient], "identities": [other] }, "keep_old": false });
    assert!(rotate(wrong).await.is_err(), "what cannot be decrypted proves nothing");
    assert!(bench.path("store/old").exists());
    let proven = json!({ "new": { "recipients": [recipient], "identities": [identity] }, "keep_old": false });
    let moved = rotate(proven.clone()).await.unwrap();
    assert_eq!((&moved["decrypted"], &moved["removed_old"]), (&json!(true), &json!(true)));
    assert_eq!(moved["sha256"], kept["sha256"], "what an earlier attempt made is not made again");
    assert!(!bench.path("store/old").exists() && !bench.path("store/old.runbook.json").exists());
    let back = json!({ "from": new, "to": file(&bench.path("back")), "by": { "identities": [identity] } });
    assert_eq!(run(&bench, "crypt.decrypt", back).await.unwrap()["sha256"], digest);
}

#[tokio::test]
async fn keys_that_make_no_sense_are_named() {
    let bench = Bench::new();
    let known = inventory(&bench);
    let cx = runbook::action::PlanContext {
        inventory: &known,
        mode: runbook::action::Mode::Real,
        scratch: bench.dir.path(),
        host: "local",
    };
    let (a, b) = (json!({ "path": "/a" }), json!({ "path": "/b" }));
    for (name, with, path) in [
        ("crypt.encrypt", json!({ "from": a, "to": b, "by": {} }), "/by"),
        (
            "crypt.encrypt",
            json!({ "from": a, "to": b, "by": { "passphrase": "x", "gpg": { "passphrase": "x" } } }),
            "/by",
        ),
        ("crypt.encrypt", json!({ "from": a, "to": a, "by": { "passphrase": "x" } }), "/to"),
        ("crypt.decrypt", json!({ "from": a, "to": b, "by": { "recipients": ["age1x"] } }), "/by"),
        (
            "crypt.rotate",
            json!({ "from": a, "to": b, "old": { "passphrase": "x" }, "new": { "recipients": ["age1x"] }, "keep_old": false }),
            "/keep_old",
        ),
    ] {
        let faults = action(name).effects(&with, &cx).unwrap_err();
        assert_eq!(faults[0].path, path, "{name} {with}: {faults:?}");
    }
}

/// A store that gives and takes, but does not answer who asks what is there.
struct Deaf;

impl Interposer for Deaf {
    fn before_head(&self, _: &ObjectKey) -> Result<(), StoreError> {
        let (store, what) = ("primary".to_owned(), "looked at an object".to_owned());
        Err(StoreError::Unavailable { store, what, source: std::io::ErrorKind::ConnectionReset.into() })
    }
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_not_taken_for_an_empty_place() {
    let bench = Bench::new();
    let (from, (_, recipient)) = (plain(&bench), age_keys());
    let known = inventory(&bench);
    let opened = Opening::plain(&known.stores["primary"], "primary").open().unwrap();
    let body = Box::new(std::io::Cursor::new(b"the only copy".to_vec()));
    opened.put(&"a.age".parse().unwrap(), body, PutOptions::default()).await.unwrap();
    let mut cx = bench.run_context(inventory(&bench));
    cx.stores = Arc::new(move |_| Ok(interposed(Arc::clone(&opened), Deaf)));
    let to = json!({ "store": "primary", "key": "a.age" });
    let with = json!({ "from": file(&from), "to": to, "by": { "recipients": [recipient] } });
    let error = action("crypt.encrypt").run(&with, &cx).await.unwrap_err();
    assert!(error.to_string().contains("cannot be reached"), "{error}");
    assert_eq!(fs::read(bench.path("store").join("a.age")).unwrap(), b"the only copy");
}
