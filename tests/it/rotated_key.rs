//! Keys that were rotated and entries that were renamed, on real servers: what the server goes on doing is told, and old WAL that no
//! key opens any more keeps nobody from a recovery that does not need it.

use std::fs;
use std::path::{Path, PathBuf};

use runbook::action::NoSecrets;
use runbook::language::inventory::StoreEntry;
use runbook::pgformat::{SegmentSize, WalFileName};
use runbook::transfer::Packing;
use runbook::wal::{Destination, Identity, Keys, Source, push_file, read_file};
use serde_json::json;

use crate::pitr_plan::Asked;
use crate::support::cli::{Cli, Ran};
use crate::support::parcel::{age_keys, to_recipients};
use crate::support::postgres::Cluster;
use crate::support::recovery;

/// A server whose WAL is encrypted, and somebody who can run runbooks against it.
struct Site {
    cluster: Cluster,
    cli: Cli,
    offline: String,
}

impl Site {
    fn new() -> Self {
        let cluster = Cluster::start(&[("archive_mode", "on")]);
        cluster.folder("store");
        Self { cluster, cli: Cli::new(), offline: age_keys().1 }
    }

    /// An inventory with one database of this name, and a key pair of its own. Gives the public half.
    fn inventory(&self, name: &str, more: &str, identity: &str) -> String {
        let (secret, key) = age_keys();
        self.cli.file(identity, &secret);
        self.entries(name, more, (identity, &key));
        key
    }

    fn entries(&self, name: &str, more: &str, (identity, key): (&str, &str)) {
        let encryption = format!(
            "recipients: [{{ key: {key}, name: ours }}, {{ key: {}, name: safe, offline: true }}], identities: [{identity}]",
            self.offline
        );
        self.encrypted((name, more), &encryption, identity);
    }

    /// An inventory with one database `main`, whose store is encrypted with a password.
    fn with_password(&self, password: &str) {
        self.cli.file("pw", password);
        self.encrypted(("main", ""), "passphrase: pw", "pw");
    }

    /// An inventory with one database, whose store is encrypted so; the secret that it takes is the file of its name.
    fn encrypted(&self, (name, more): (&str, &str), encryption: &str, secret: &str) {
        let Self { cluster, cli, .. } = self;
        let text = format!(
            "version: 1\ndatabases:\n  {name}: {{ pgdata: {}, port: {}, socket: {}, bin: {}, store: primary{more} }}\n\
             stores: {{ primary: {{ url: \"file://{}\", encryption: {{ {encryption} }} }} }}\n\
             secrets: {{ {secret}: {{ file: {} }} }}\n\
             backups: {{ base: {{ source: {name}, kind: postgres.base, max_age: 7d }} }}\n\
             environments:\n  production: {{ protected: true, default: true }}\n",
            cluster.pgdata().display(),
            cluster.port(),
            cluster.socket_dir().display(),
            cluster.bin().display(),
            cluster.dir().join("store").display(),
            cli.path(secret).display(),
        );
        cli.file("inventory.yaml", &text);
    }

    fn set_up(&self, name: &str) -> Ran {
        let database = format!("database={name}");
        self.cli.run(&["run", "setup-archiving", "-p", &database, "--confirm", "production"]).ends(0)
    }
}

fn words(ran: &Ran) -> String {
    format!("{}{}", ran.out, ran.err)
}

fn tells(ran: &Ran, all: &[&str]) {
    let said = words(ran);
    all.iter().for_each(|one| assert!(said.contains(one), "no `{one}` in: {said}"));
}

#[test]
fn a_server_that_encrypts_for_the_key_of_before_is_told_until_archiving_is_set_up_again() {
    let site = Site::new();
    let old = site.inventory("main", "", "first");
    site.set_up("main");
    site.cli.run(&["backup", "main", "--confirm", "production"]).ends(0);
    let before = words(&site.cli.run(&["wal", "status", "main"]).ends(0));
    assert!(!before.contains("key"), "{before}");
    let new = site.inventory("main", "", "second");
    let told = site.cli.run(&["wal", "status", "main"]).ends(1);
    tells(&told, &["WARNING", "another key than the inventory's", &old, &new, "run setup-archiving -p database=main"]);
    let told = site.cli.run(&["status", "main"]).ends(2);
    tells(&told, &["another key than the inventory's", "no backup can be read here", &old, "`earlier`", "backup main"]);
    let told = site.cli.run(&["doctor", "--store", "primary"]);
    tells(&told, &["another key than the inventory's", "setup-archiving -p database=main"]);
    let told = site.cli.run(&["doctor", "--keys"]).ends(4);
    tells(
        &told,
        &["the server of `main` encrypts its WAL for another key", &old, &new, "setup-archiving -p database=main"],
    );
    let told = site.cli.run(&["backups", "health"]).ends(1);
    tells(&told, &["WARNING", "another key than the inventory's", "setup-archiving -p database=main"]);
    let told = site.cli.run(&["dry-run", "setup-archiving", "-p", "database=main"]);
    tells(&told, &["the keys of `file://", "become the inventory's", &old, &new]);
    assert!(!words(&told).contains("is set to archive as it shall"), "{}", words(&told));
    // A backup is taken all the same, and says so.
    let taken = site.cli.run(&["backup", "main", "--confirm", "production"]).ends(0);
    tells(&taken, &["another key than the inventory's"]);
    let status = words(&site.cli.run(&["status", "main"]));
    assert!(!status.contains("can be read here"), "the newest is read: {status}");
    tells(&site.set_up("main"), &["become the inventory's"]);
    let after = words(&site.cli.run(&["wal", "status", "main"]));
    assert!(!after.contains("another key"), "{after}");
    for asked in [&["backups", "health"], &["doctor", "--keys"]] {
        let after = words(&site.cli.run(asked).ends(0));
        assert!(!after.contains("another key"), "{after}");
    }
    let told = words(&site.cli.run(&["dry-run", "setup-archiving", "-p", "database=main"]));
    assert!(told.contains("is set to archive as it shall"), "{told}");
}

/// The name of the secret stays, and what it holds does not: the server goes on with its own copy.
#[test]
fn a_password_that_changed_behind_the_name_of_its_secret_is_noticed_everywhere() {
    let site = Site::new();
    site.with_password("the first of two passwords");
    site.set_up("main");
    site.cli.run(&["backup", "main", "--confirm", "production"]).ends(0);
    let before = words(&site.cli.run(&["wal", "status", "main"]).ends(0));
    assert!(!before.contains("another password"), "{before}");
    site.with_password("the second of two passwords");
    let facts = ["with another password than secret `pw` holds now"];
    tells(&site.cli.run(&["wal", "status", "main"]).ends(1), &facts);
    tells(&site.cli.run(&["status", "main"]), &facts);
    tells(&site.cli.run(&["doctor", "--keys"]).ends(4), &facts);
    tells(&site.cli.run(&["backups", "health"]).ends(1), &facts);
    tells(&site.cli.run(&["backup", "main", "--confirm", "production"]), &facts);
    let told = site.cli.run(&["dry-run", "setup-archiving", "-p", "database=main"]);
    tells(&told, &["secret `pw` of the server becomes what the inventory's holds now"]);
    site.set_up("main");
    let after = words(&site.cli.run(&["wal", "status", "main"]));
    assert!(!after.contains("another password"), "{after}");
}

#[test]
fn a_renamed_entry_says_under_which_prefix_its_server_archives() {
    let site = Site::new();
    let key = site.inventory("dd", "", "ours");
    site.set_up("dd");
    site.cli.run(&["backup", "dd", "--confirm", "production"]).ends(0);
    site.entries("orders", "", ("ours", &key));
    let facts = ["archives under the prefix `dd`", "put `prefix: dd` into it", "setup-archiving -p database=orders"];
    tells(&site.cli.run(&["wal", "status", "orders"]).ends(2), &facts);
    tells(&site.cli.run(&["status", "orders"]).ends(2), &facts);
    let began = std::time::Instant::now();
    let taken = site.cli.run(&["backup", "orders", "--confirm", "production"]);
    tells(&taken, &facts);
    assert!(began.elapsed().as_secs() < 50, "what never comes is not waited for");
    site.entries("orders", ", prefix: dd", ("ours", &key));
    let status = words(&site.cli.run(&["wal", "status", "orders"]).ends(0));
    assert!(!status.contains("prefix"), "{status}");
}

/// The objects of segments in a site's store whose names begin like this.
fn objects(site: &recovery::Site, begin: &str) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![site.depot.root.join("main/wal")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            match entry.path().is_dir() {
                true => folders.push(entry.path()),
                // Neither the label of a backup nor an unfinished copy, which begin with the same name.
                false if name.starts_with(begin) && is_segment(&name) => found.push(entry.path()),
                false => {}
            }
        }
    }
    found
}

fn is_segment(object: &str) -> bool {
    object.get(24..).is_some_and(|ending| ending.starts_with(".zst"))
}

/// Puts a copy in the place of a segment that only somebody else can decrypt.
async fn lock(site: &recovery::Site, object: &Path) {
    let name = object.file_name().unwrap().to_string_lossy()[..24].to_owned();
    let segment: WalFileName = name.parse().unwrap();
    let store = site.run().context().store("primary").unwrap();
    let cluster = fs::read_to_string(site.depot.root.join("main/wal/cluster")).unwrap();
    let identity = Identity { system_id: cluster.trim().parse().unwrap(), segment_size: Some(SegmentSize::DEFAULT) };
    let keys = Keys { settings: None, secrets: &NoSecrets };
    let source = Source { store: store.as_read(), prefix: "main", identity, keys };
    let plain = site.cluster.dir().join(format!("plain-{name}"));
    fs::write(&plain, read_file(&source, segment).await.unwrap()).unwrap();
    fs::remove_file(object).unwrap();
    let encryption = Some(to_recipients(&[&age_keys().1]));
    let packing = Packing::of(&StoreEntry { encryption, ..site.depot.entry.clone() }, &NoSecrets).unwrap();
    push_file(Destination { store: &*store, prefix: "main", identity, packing: &packing }, &plain, segment)
        .await
        .unwrap();
}

#[tokio::test]
async fn wal_of_before_the_backup_that_no_key_opens_keeps_nobody_from_the_newest_state_or_a_time() {
    let site = recovery::Site::new();
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let first = site.run().base_backup().await.backup;
    site.cluster.sql("INSERT INTO t VALUES (2)");
    site.archive();
    // It is rescued: the first timeline has a segment of its own behind the fork.
    site.cluster.sql("INSERT INTO t VALUES (3)");
    site.cluster.stop("immediate");
    let run = site.run();
    run.recover(&run.stage(&first).await, json!({})).await;
    site.archive();
    // All of the first timeline, and of the second what ended before the backup.
    let old: Vec<PathBuf> = [objects(&site, "00000001"), objects(&site, "00000002")].concat();
    let second = site.run().base_backup().await.backup;
    site.cluster.sql("INSERT INTO t VALUES (4)");
    let time =
        site.cluster.sql("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')");
    site.cluster.sql("INSERT INTO t VALUES (5)");
    site.archive();
    site.cluster.stop("immediate");
    assert!(old.len() >= 2, "{old:?}");
    for object in &old {
        lock(&site, object).await;
    }
    // The first backup does not lead on without them, and nothing is touched.
    let run = site.run();
    let refused = run.try_recover(&run.stage(&first).await, json!({})).await.unwrap_err();
    let words = refused.in_full();
    assert!(words.contains("whether timeline 2 has newer commits is not known"), "{words}");
    assert!(words.contains("cannot be") || words.contains("is encrypted"), "{words}");
    // The second one does, to a time as well.
    let run = site.run();
    let staged = run.stage(&second).await;
    run.recover(&staged, json!({})).await;
    assert_eq!(site.cluster.sql("SELECT string_agg(n::text, ',' ORDER BY n) FROM t"), "1,2,3,4,5");
    site.cluster.stop("immediate");
    let run = site.run();
    let staged = run.stage(&second).await;
    run.recover(&staged, json!({ "target_time": time })).await;
    assert_eq!(site.cluster.sql("SELECT string_agg(n::text, ',' ORDER BY n) FROM t"), "1,2,3,4");
    let said = site.said();
    assert!(said.contains("warning: whether timeline 1 has newer commits is not known"), "{said}");
}

/// The look ahead asks for every backup at once, so it reads back behind the newest one, where the recovery does not.
#[tokio::test]
async fn a_server_that_was_idle_since_the_first_backup_under_a_new_key_has_a_plan_as_it_has_a_recovery() {
    let asked = Asked::new();
    let first = asked.site.run().base_backup().await.backup;
    asked.commit(1);
    asked.site.archive();
    asked.site.cluster.stop("immediate");
    let run = asked.site.run();
    run.recover(&run.stage(&first).await, json!({})).await;
    asked.commit(2);
    asked.site.archive();
    let old = objects(&asked.site, "0000000");
    asked.site.run().base_backup().await;
    asked.site.archive();
    for object in &old {
        lock(&asked.site, object).await;
    }
    let plan = asked.json(&["pitr", "main"], 0);
    assert_eq!(plan["replay"]["timeline"], 2, "{plan:#}");
    let restored = asked.cli.run(&["restore", "main", "--confirm", "production"]).ends(0);
    assert_eq!(asked.sql("SELECT string_agg(n::text, ',' ORDER BY n) FROM t"), "1,2", "{}", words(&restored));
}
