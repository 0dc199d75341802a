//! `runbook cost`: what lies there by class, what it will be, what a restore costs; and where all copies lie.

use std::time::Duration;

use runbook::action::{LifecycleFilter, LifecycleRule, Moment, PutOptions, Store, Transition, Versioning};
use runbook::base::{Digest, Timestamp, clock};
use runbook::catalog::{BackupPlace, KIND_FILES, Manifest, ManifestObject, ObjectRole, commit};
use runbook::language::inventory::StoreEntry;
use serde_json::{Value, json};

use crate::support::cli::Cli;
use crate::support::moto::Moto;
use crate::support::s3::{self, BUCKET, Behind};

const SIZE: usize = 300_000;

fn days_ago(days: u64) -> Timestamp {
    clock::before(clock::now(), Duration::from_secs(days * 86_400 + 3600))
}

async fn put(store: &dyn Store, key: &str, bytes: Vec<u8>) {
    let body = Box::new(std::io::Cursor::new(bytes));
    store.put(&key.parse().unwrap(), body, PutOptions::default()).await.unwrap();
}

/// A backup of a folder that ended so many days ago. Its data is put by one store, its manifest by another.
async fn backup(data: &dyn Store, catalog: &dyn Store, days: u64) {
    increment(data, catalog, (days, None)).await;
}

/// A backup that rests on that of another day.
async fn increment(data: &dyn Store, catalog: &dyn Store, (days, parent): (u64, Option<u64>)) {
    let (id, bytes, ended) = (format!("day-{days:03}"), vec![7; SIZE], days_ago(days));
    let place = BackupPlace::new("media", (KIND_FILES, None), &id);
    put(data, place.key("files.tar").unwrap().as_str(), bytes.clone()).await;
    let mut manifest = Manifest::new(id, KIND_FILES, "media", (ended, ended));
    manifest.parent = parent.map(|days| format!("day-{days:03}"));
    manifest.objects.push(ManifestObject::new("files.tar", SIZE as u64, Digest::of(&bytes), ObjectRole::File));
    commit(catalog, "media", manifest).await.unwrap();
}

/// What is told of the only store.
fn told(cli: &Cli, more: &[&str]) -> Value {
    let all = cli.run(&[&["cost", "--json"][..], more].concat()).ends(0).json();
    assert_eq!(all["stores"].as_array().unwrap().len(), 1, "{all:#}");
    all["stores"][0].clone()
}

fn codes(place: &Value) -> Vec<&str> {
    place["warnings"].as_array().unwrap().iter().map(|one| one["code"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_has_bytes_and_no_price_and_its_outlook_follows_retention() {
    let cli = Cli::new();
    let url = format!("file://{}", cli.path("store").display());
    let inventory = |rest: &str| {
        cli.file("inventory.yaml", &format!("version: 1\nstores: {{ primary: {{ url: \"{url}\" }} }}\n{rest}\n"));
    };
    inventory("retention: { never_below: 1, default: { keep_last: 5 } }");
    let entry = StoreEntry { url: url.clone(), ..StoreEntry::default() };
    let store = runbook::store::Opening::plain(&entry, "primary").open().unwrap();
    for days in [2, 1, 0] {
        backup(&*store, &*store, days).await;
    }
    let place = told(&cli, &[]);
    assert_eq!(
        (&place["prices"], &place["now"]["month"], &place["later"]["month"]),
        (&json!(null), &json!(null), &json!(null))
    );
    let size = |when: &str| place[when]["classes"]["STANDARD"]["size_bytes"].as_u64().unwrap() / SIZE as u64;
    assert_eq!((size("now"), size("later")), (3, 5), "{place:#}");
    assert_eq!(place["restores"][0]["backup"], "day-000");
    assert_eq!(place["restores"][0]["wait_s"], 0);
    assert!(codes(&place).is_empty(), "{place:#}");
    cli.run(&["cost"]).ends(0).prints("no price").says("prices of `primary`: none known");
    inventory("");
    let unpruned = told(&cli, &["--months", "1"]);
    assert_eq!(codes(&unpruned), ["no_retention"]);
    assert!(unpruned["later"]["classes"]["STANDARD"]["size_bytes"].as_u64().unwrap() / SIZE as u64 >= 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn prices_of_ones_own_make_amounts_and_mistakes_in_them_are_named() {
    let cli = Cli::new();
    let url = format!("file://{}", cli.path("store").display());
    cli.file(
        "inventory.yaml",
        &format!(
            "version: 1\nstores: {{ primary: {{ url: \"{url}\" }} }}\nretention: {{ default: {{ keep_last: 5 }} }}\n"
        ),
    );
    let entry = StoreEntry { url, ..StoreEntry::default() };
    put(&*runbook::store::Opening::plain(&entry, "primary").open().unwrap(), "other/thing", vec![1; 1 << 20]).await;
    let table = |classes: &str| {
        format!(
            "version: 1\ncurrency: EUR\nstores:\n  primary: {{ as_of: 2026-01-01, source: our contract, classes: {classes} }}\n"
        )
    };
    cli.file("prices.yaml", &table("{ STANDARD: { gb_month: 1024 } }"));
    let place = told(&cli, &["--prices", "prices.yaml"]);
    assert!((place["now"]["month"].as_f64().unwrap() - 1.0).abs() < 1e-6, "{place:#}");
    assert_eq!(place["prices"]["currency"], "EUR");
    cli.run(&["cost", "--prices", "prices.yaml"]).ends(0).prints("1.00 EUR").says("our contract");
    cli.file("prices.yaml", &table("{ COLD: { gb_month: 1 } }"));
    let place = told(&cli, &["--prices", "prices.yaml"]);
    assert_eq!((codes(&place), &place["now"]["month"]), (vec!["no_class"], &json!(null)), "{place:#}");
    cli.file("prices.yaml", &table("{ STANDARD: { gb_moth: 1 } }"));
    cli.run(&["cost", "--prices", "prices.yaml"]).ends(3).says("gb_moth").says("runbook schema prices");
    cli.run(&["cost", "--prices", "nowhere.yaml"]).ends(2).says("nowhere.yaml");
    cli.run(&["cost", "--months", "0"]).ends(2);
    cli.run(&["cost", "--store", "primray"]).ends(2).says("known: `primary`");
}

/// A bucket with three backups whose data is archived, seen by a user.
async fn archived(rest: &str) -> (Moto, Cli) {
    let moto = Moto::start();
    Behind::at(&moto.url()).ask("PUT", BUCKET, &[]);
    let entry = s3::entry(&moto.url());
    let catalog = s3::open(&entry);
    let data = s3::open(&StoreEntry { storage_class: Some("GLACIER".to_owned()), ..entry });
    for days in [2, 1, 0] {
        backup(&*data, &*catalog, days).await;
    }
    let cli = Cli::new().var("AWS_ACCESS_KEY_ID", "x").var("AWS_SECRET_ACCESS_KEY", "y");
    let inventory = format!(
        "version: 1\nstores: {{ primary: {{ url: \"s3://{BUCKET}/below\", region: eu-west-1, endpoint: \"{}\" }} }}\n{rest}\n",
        moto.url()
    );
    cli.file("inventory.yaml", &inventory);
    (moto, cli)
}

const PRICES: &str = "version: 1\ncurrency: USD\nstores:\n  primary:\n    as_of: 2026-01-01\n    source: a test\n    egress_gb: 0.09\n    classes:\n      STANDARD: { gb_month: 0.023, get_1000: 0.0004 }\n      GLACIER: { gb_month: 0.0036, get_1000: 0.0004, retrieval: { standard: { gb: 0.01, requests_1000: 0.05 } } }\n";

#[tokio::test(flavor = "multi_thread")]
async fn aws_classes_rules_and_old_versions_of_a_bucket_are_counted() {
    let (moto, cli) = archived("retention: { never_below: 1, default: { keep_last: 10 } }").await;
    cli.file("prices.yaml", PRICES);
    let store = s3::open(&s3::entry(&moto.url()));
    let bucket = store.bucket().unwrap();
    bucket.put_versioning(Versioning::On).await.unwrap();
    for _ in 0..3 {
        put(&*store, "other/thing", vec![1; 1000]).await;
    }
    let rule = LifecycleRule {
        id: "cold".to_owned(),
        enabled: true,
        filter: LifecycleFilter { prefix: "below/media/".to_owned(), ..LifecycleFilter::default() },
        transitions: vec![Transition { when: Moment::AfterDays(5), class: "DEEP_ARCHIVE".to_owned() }],
        ..LifecycleRule::default()
    };
    bucket.put_lifecycle(runbook::action::Lifecycle { rules: vec![rule], smallest_transition: None }).await.unwrap();
    let place = told(&cli, &["--prices", "prices.yaml", "--months", "2"]);
    let now = &place["now"];
    assert_eq!(now["classes"]["GLACIER"]["size_bytes"], 3 * SIZE);
    assert_eq!(
        now["classes"]["GLACIER"]["billed_bytes"],
        3 * (SIZE + 40 * 1024),
        "an archived object has its overhead"
    );
    assert_eq!(now["deleted_and_billed"]["STANDARD"]["objects"], 2, "{now:#}");
    let deep = place["later"]["classes"]["DEEP_ARCHIVE"]["size_bytes"].as_u64().unwrap();
    assert!((4..=6).contains(&(deep / SIZE as u64)), "{place:#}");
    assert_eq!(place["later"]["month"], Value::Null, "the deepest class has no price in this table");
    let codes = codes(&place);
    for code in ["versions_for_ever", "minimum_duration", "no_class"] {
        assert!(codes.contains(&code), "{code} in {codes:?}");
    }
    let restore = &place["restores"][0];
    assert_eq!((&restore["backup"], &restore["wait_s"]), (&json!("day-000"), &json!(5 * 3600)));
    assert!(restore["retrieval"]["value"].as_f64().unwrap() > 0.0, "{restore:#}");
    let shown = cli.run(&["cost", "--prices", "prices.yaml", "--months", "2"]).ends(0);
    shown.prints("GLACIER").prints("up to 5h 00m").prints("no price").says("billed for ever").says("s3.lifecycle");
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_the_restore_of_an_increment_reads_what_it_rests_on() {
    let (moto, cli) = archived("").await;
    cli.file("prices.yaml", PRICES);
    let store = s3::open(&s3::entry(&moto.url()));
    let restore = || told(&cli, &["--prices", "prices.yaml"])["restores"][0].clone();
    let archived = restore();
    // Itself it lies where it is read at once.
    store.delete(&"media/files/day-000/manifest.json".parse().unwrap()).await.unwrap();
    increment(&*store, &*store, (0, Some(1))).await;
    let read = restore();
    assert_eq!((&read["backup"], &read["wait_s"]), (&json!("day-000"), &json!(5 * 3600)), "{read:#}");
    assert_eq!(read["size_bytes"].as_u64(), archived["size_bytes"].as_u64().map(|one| 2 * one), "{read:#}");
    // The newest whose chain is torn is no backup to restore.
    store.delete(&"media/files/day-001/manifest.json".parse().unwrap()).await.unwrap();
    assert_eq!(restore()["backup"], "day-002");
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_an_archived_backup_is_brought_back_by_a_step_before_it_is_fetched() {
    let (_moto, cli) = archived("").await;
    let steps = |retrieve: &str| {
        let into = cli.path("into");
        format!(
            "version: 1\nname: fetch\nsteps:\n  - {{ id: choose, uses: backup.find, with: {{ source: media, store: primary }} }}\n{retrieve}  \
             - {{ id: get, uses: backup.get, with: {{ source: media, store: primary, backup: \"{{{{ steps.choose.backup }}}}\", into: {} }} }}\n",
            into.display()
        )
    };
    cli.file("runbook.yaml", &steps(""));
    cli.run(&["run", "runbook.yaml"]).ends(10).says("archive");
    let retrieve = "  - { id: back, uses: backup.retrieve, with: { source: media, store: primary, backup: \"{{ steps.choose.backup }}\", every: 1s, within: 1m } }\n";
    cli.file("runbook.yaml", &steps(retrieve));
    cli.run(&["run", "runbook.yaml"]).ends(0);
    let back = &cli.shown()["steps"];
    assert!(back.to_string().contains("\"asked\":1"), "{back:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_an_archived_backup_breaks_the_objective_by_itself_and_the_forecast_says_so() {
    let (_moto, cli) = archived("").await;
    let runbook = |rto: &str| {
        format!(
            "version: 1\nname: bring-back\nobjectives: {{ rto: {rto} }}\nsteps:\n  - {{ id: choose, uses: backup.find, with: {{ source: media, store: primary }} }}\n"
        )
    };
    cli.file("runbook.yaml", &runbook("4h"));
    let dry = cli.run(&["dry-run", "runbook.yaml", "--json"]).ends(0).json();
    assert_eq!(dry["forecast"]["retrieval_ms"], 5 * 3600 * 1000, "{dry:#}");
    assert_eq!(
        (&dry["forecast"]["retrieved_for"], &dry["forecast"]["median_ms"]),
        (&json!("choose"), &json!(18_000_000))
    );
    let told = cli.run(&["dry-run", "runbook.yaml"]).ends(0);
    told.prints("over the RTO of 4h by itself").prints("3 to 5 hours").prints("store.retrieve");
    cli.run(&["dry-run", "runbook.yaml", "--strict"]).ends(4).says("exceeds the RTO of 4h");
    cli.file("runbook.yaml", &runbook("6h"));
    cli.run(&["dry-run", "runbook.yaml", "--strict"]).ends(0).prints("of an RTO of 6h");
}

#[test]
fn copies_that_are_lost_with_the_database_are_a_warning_where_it_is_protected() {
    let cli = Cli::new();
    let check = |stores: &str, production: &str| {
        let far = if stores.is_empty() { "" } else { ", backup_stores: [far]" };
        cli.file(
            "inventory.yaml",
            &format!(
                "version: 1\ndatabases: {{ orders: {{ pgdata: /srv/data, store: near{far} }} }}\nstores: {{ near: {{ url: \"file:///srv/backups\" }}{stores} }}\nenvironments: {{ production: {production} }}\n"
            ),
        );
        cli.run(&["check", "inventory.yaml"]).ends(0)
    };
    let protected = "{ protected: true, default: true }";
    let lost = check("", protected);
    lost.says("RB0505").says("every copy of the database `orders` lies on its own machine").says("store.sync");
    cli.run(&["check", "inventory.yaml", "--strict"]).ends(3);
    let second = ", far: { url: \"sftp://ops@localhost/srv/other\" }";
    check(second, protected).says("RB0505");
    for quiet in
        [check(", far: { url: \"sftp://ops@vault.example.org/srv/other\" }", protected), check("", "{ default: true }")]
    {
        assert!(!quiet.err.contains("RB0505"), "{}", quiet.err);
    }
    let read_only = ", far: { url: \"s3://a/b\", region: eu-west-1, read_only: true }";
    check(read_only, protected).says("RB0505");
    // A store that nothing is said to go to is no copy.
    let file = cli.read("inventory.yaml");
    cli.file("inventory.yaml", &file.replace(", read_only: true", "").replace(", backup_stores: [far]", ""));
    cli.run(&["check", "inventory.yaml"]).ends(0).says("RB0505").says("backup_stores");
}

#[test]
fn copies_in_one_account_and_region_are_a_note_and_never_an_error() {
    let cli = Cli::new();
    let check = |second: &str| {
        let named = if second.is_empty() { "" } else { ", wal_stores: [two]" };
        cli.file(
            "inventory.yaml",
            &format!(
                "version: 1\ndatabases: {{ orders: {{ pgdata: /srv/data, store: one{named} }} }}\nstores:\n  one: {{ url: \"s3://a/b\", region: eu-west-1 }}\n{second}environments: {{ production: {{ protected: true }} }}\n"
            ),
        );
        cli.run(&["check", "inventory.yaml", "--strict"]).ends(0)
    };
    check("").says("note[RB0506]").says("`eu-west-1`").prints("sound");
    check("  two: { url: \"s3://c/d\", region: eu-west-1 }\n").says("RB0506");
    for apart in ["region: eu-central-1", "region: eu-west-1, profile: vault"] {
        let found = check(&format!("  two: {{ url: \"s3://c/d\", {apart} }}\n"));
        assert!(!found.err.contains("RB0506"), "{}", found.err);
    }
}
