//! The settings of buckets, against a real server: planned, applied, verified, and refused where backups would go.

use std::collections::BTreeMap;

use runbook::action::{
    DefaultEncryption, DefaultLock, LifecycleFilter, LifecycleRule, Moment, Store, StoreError, Versioning,
};
use runbook::catalog::freeze::{self, FreezeNote};
use runbook::store::Opening;

use crate::support::cli::Cli;
use crate::support::moto::Moto;
use crate::support::s3::{self, S3};

/// A bucket on a fresh server, as an inventory names it.
struct Place {
    moto: Moto,
    cli: Cli,
}

impl Place {
    async fn new(steps: &str) -> Self {
        let moto = Moto::start();
        moto.bucket("backups").await;
        let inventory = format!(
            "version: 1\nstores:\n  primary: {{ url: \"s3://backups/prod\", region: eu-west-1, endpoint: \"{}\" }}\nretention: {{ default: {{ keep_within: 30d }} }}\n",
            moto.url()
        );
        let cli = Cli::with(&format!("version: 1\nname: settings\nsteps:\n{steps}"))
            .var("AWS_ACCESS_KEY_ID", "x")
            .var("AWS_SECRET_ACCESS_KEY", "y");
        cli.file("inventory.yaml", &inventory);
        Self { moto, cli }
    }

    /// The store itself, past the program.
    fn store(&self) -> std::sync::Arc<dyn Store> {
        let entry = serde_json::from_value(serde_json::json!({
            "url": "s3://backups/prod", "region": "eu-west-1", "endpoint": self.moto.url(),
            "credentials": { "access_key_id": "id", "secret_access_key": "key" },
        }));
        Opening::new(&entry.unwrap(), "primary", std::sync::Arc::new(AnyKey)).open_existing().unwrap()
    }
}

struct AnyKey;

impl runbook::action::Secrets for AnyKey {
    fn get(&self, _: &str) -> Result<runbook::base::secret::SecretText, runbook::action::ActionError> {
        Ok(runbook::base::secret::SecretText::new("x".to_owned()))
    }
}

fn step(id: &str, uses: &str, with: &str) -> String {
    format!("  - {{ id: {id}, uses: {uses}, with: {with} }}\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_settings_are_applied_once_and_then_hold() {
    let settings = [
        ("versioning", "s3.versioning", ""),
        ("encryption", "s3.encryption", ""),
        ("policy", "s3.policy", ", never_delete: [ \"arn:aws:iam::111122223333:role/backup\" ]"),
        ("lifecycle", "s3.lifecycle", ", prefixes: [ { prefix: exports/, expire_after: 60d } ]"),
    ];
    let with = |mode: &str, more: &str| format!("{{ store: primary, mode: {mode}{more} }}");
    let all =
        |mode: &str| settings.iter().map(|(id, uses, more)| step(id, uses, &with(mode, more))).collect::<String>();
    let place = Place::new(&all("verify")).await;
    place.cli.run(&["run", "runbook.yaml"]).ends(10);

    let file =
        |mode: &str| place.cli.file("runbook.yaml", &format!("version: 1\nname: settings\nsteps:\n{}", all(mode)));
    file("plan");
    place.cli.run(&["run", "runbook.yaml"]).ends(0);
    let store = place.store();
    let bucket = store.bucket().unwrap();
    assert_eq!(bucket.versioning().await.unwrap(), Versioning::Off, "a plan changes nothing");

    file("apply");
    place.cli.run(&["run", "runbook.yaml"]).ends(0);
    assert_eq!(bucket.versioning().await.unwrap(), Versioning::On);
    assert_eq!(bucket.encryption().await.unwrap(), Some(DefaultEncryption::Aes256));
    assert_eq!(bucket.lifecycle().await.unwrap().rules.len(), 2);
    assert!(bucket.policy().await.unwrap().unwrap().to_string().contains("aws:SecureTransport"));
    file("verify");
    place.cli.run(&["run", "runbook.yaml"]).ends(0);

    bucket.put_versioning(Versioning::Suspended).await.unwrap();
    place.cli.run(&["run", "runbook.yaml"]).ends(10).says("is suspended; wished: on");
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_lifecycle_keeps_the_rules_of_others_and_refuses_to_delete_wal() {
    let apply = |more: &str| step("lifecycle", "s3.lifecycle", &format!("{{ store: primary, mode: apply{more} }}"));
    let place = Place::new(&apply("")).await;
    let store = place.store();
    let bucket = store.bucket().unwrap();
    let theirs = LifecycleRule {
        id: "theirs".into(),
        enabled: true,
        filter: LifecycleFilter {
            prefix: "logs/".into(),
            tags: BTreeMap::from([("k".into(), "v".into())]),
            ..LifecycleFilter::default()
        },
        expiry: Some(Moment::AfterDays(3)),
        ..LifecycleRule::default()
    };
    let mut lifecycle = bucket.lifecycle().await.unwrap();
    lifecycle.rules.push(theirs.clone());
    bucket.put_lifecycle(lifecycle).await.unwrap();
    place.cli.run(&["run", "runbook.yaml"]).ends(0);
    let rules = bucket.lifecycle().await.unwrap().rules;
    assert!(rules.contains(&theirs), "{rules:?}");
    assert!(rules.iter().any(|rule| rule.id == "runbook:primary" && rule.abort_uploads_after_days == Some(7)));

    let key = "orders/wal/7/00000001/000000010000000000000001".parse().unwrap();
    store.put(&key, Box::new(&b"segment"[..]), runbook::action::PutOptions::default()).await.unwrap();
    let text = format!(
        "version: 1\nname: settings\nsteps:\n{}",
        apply(", prefixes: [ { prefix: orders/, expire_after: 4000d } ]")
    );
    place.cli.file("runbook.yaml", &text);
    place.cli.run(&["run", "runbook.yaml"]).ends(4).says("WAL by its age alone");
    assert_eq!(bucket.lifecycle().await.unwrap().rules.len(), 2, "nothing was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_lifecycle_is_not_changed_while_a_recovery_is_open() {
    let place = Place::new(&step("lifecycle", "s3.lifecycle", "{ store: primary, mode: apply }")).await;
    let store = place.store();
    let note = FreezeNote {
        format: 1,
        run: "20260128-143002-3fa9c1".to_owned(),
        database: "orders".to_owned(),
        environment: "production".to_owned(),
        since: "2026-01-28T14:30:02Z".parse().unwrap(),
        host: None,
        lifted: None,
    };
    freeze::freeze(&*store, "", &note).await.unwrap();
    place.cli.run(&["run", "runbook.yaml"]).ends(4).says("a recovery of `orders` is open").says("lift-freeze");
    assert!(store.bucket().unwrap().lifecycle().await.unwrap().rules.is_empty(), "nothing was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_a_bucket_without_locks_says_so() {
    let place =
        Place::new(&step("lock", "s3.object_lock", "{ store: primary, mode: apply, lock: governance, keep: 3d }"))
            .await;
    let store = place.store();
    let bucket = store.bucket().unwrap();
    assert_eq!(bucket.object_lock().await.unwrap(), DefaultLock::Off);
    let refused = bucket.put_object_lock(runbook::action::LockDefault {
        mode: runbook::language::inventory::LockMode::Governance,
        days: 3,
    });
    match refused.await {
        Err(StoreError::Refused { .. }) => {
            place.cli.run(&["run", "runbook.yaml"]).ends(10).says("make a new one");
        }
        Ok(()) => assert!(matches!(bucket.object_lock().await.unwrap(), DefaultLock::Locks(_))),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_tells_what_is_too_much_and_leaves_nothing_behind() {
    let server = S3::start();
    let cli = Cli::new().var("AWS_ACCESS_KEY_ID", s3::KEY_ID).var("AWS_SECRET_ACCESS_KEY", s3::KEY);
    let store = format!(
        "version: 1\nstores: {{ primary: {{ url: \"s3://{}/prod\", region: us-east-1, endpoint: \"{}\" }} }}\n",
        s3::BUCKET,
        server.url()
    );
    cli.file("inventory.yaml", &store);
    let doctor = |role: &str| cli.run(&["doctor", "--store", "primary", "--role", role, "--json"]);
    let found = doctor("backup").ends(4).json();
    let all = found["findings"].as_array().unwrap().clone();
    let verdict = |what: &str| all.iter().find(|finding| finding["what"] == what).unwrap()["verdict"].clone();
    assert_eq!(verdict("delete"), "too_much");
    for what in ["list", "tell missing", "read", "write", "large upload", "clock"] {
        assert_eq!(verdict(what), "fine", "{what}: {found:#}");
    }
    doctor("any").ends(0);
    assert_eq!(server.store().list("").await.unwrap(), []);
}

#[test]
fn doctor_probes_a_folder_and_warns_of_a_database_on_its_device() {
    let cli = Cli::new();
    let (store, data) = (cli.path("store"), cli.path("data"));
    std::fs::create_dir_all(&data).unwrap();
    cli.file(
        "inventory.yaml",
        &format!(
            "version: 1\nstores: {{ here: {{ url: \"file://{}\" }} }}\ndatabases: {{ orders: {{ pgdata: {}, store: here }} }}\n",
            store.display(),
            data.display()
        ),
    );
    cli.run(&["doctor", "--store", "here"]).ends(4).prints("MISSING");
    std::fs::create_dir_all(&store).unwrap();
    cli.run(&["doctor", "--store", "nowhere"]).ends(2).says("known: `here`");
    // Whoever owns a folder can delete in it: that is too much only where somebody says what the credentials are for.
    cli.run(&["backups", "init", "--store", "here"]).ends(0);
    let probed = cli.run(&["doctor", "--store", "here"]).ends(0).prints("objects can be deleted");
    assert!(!probed.out.contains("TOO MUCH"), "{}", probed.out);
    cli.run(&["doctor", "--store", "here", "--role", "backup"]).ends(4).prints("TOO MUCH");
}

#[test]
fn iam_prints_the_least_and_says_why() {
    let cli = Cli::new();
    cli.file(
        "inventory.yaml",
        "version: 1\nstores: { primary: { url: \"s3://b/prod\" }, disk: { url: \"file:///srv\" } }\ndatabases: { orders: { pgdata: /data, store: primary } }\n",
    );
    let ran = cli.run(&["iam", "--role", "backup"]).ends(0).says("PrimaryList").says("left out: store `disk`");
    let policy = ran.json();
    let text = policy.to_string();
    assert!(text.contains("arn:aws:s3:::b/prod/orders/*") && !text.contains("Delete"), "{text}");
    cli.run(&["iam", "--role", "wal", "--json"]).ends(0).prints("prod/orders/wal/*");
    cli.run(&["iam", "--role", "backup", "--versions"]).ends(2).says("`--role expire`");
}
