//! Backups of other programs, imported where they lie: real folders of `pg_basebackup`, WAL that `cp` archived, dumps.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use runbook::language::inventory::{CompressionFormat, Encryption, GpgSymmetric, OpensslEnc, StoreEntry};
use runbook::store::Opening;

use crate::support::cli::{Cli, listing, until};
use crate::support::parcel::{Safe, age_keys, compressed, pack, to_recipients};
use crate::support::postgres::{Cluster, programs_of};

/// A cluster that archives with `cp`, and the folder of its store.
struct Old {
    cluster: Cluster,
    store: PathBuf,
    cli: Cli,
}

impl Old {
    fn start() -> Self {
        Self::of(Cluster::create(&[], &[]))
    }

    fn of(cluster: Cluster) -> Self {
        let store = cluster.folder("store");
        let entry = StoreEntry { url: format!("file://{}", store.display()), ..StoreEntry::default() };
        Opening::new(&entry, "primary", Arc::new(Safe::default())).initialize().unwrap();
        let wal = cluster.folder("store/wal");
        cluster.folder("store/postgres");
        let command = format!("cp %p {}/%f", wal.display());
        cluster.configure(&[("archive_mode", "on"), ("archive_command", &command)]);
        cluster.up();
        let cli = Cli::new();
        let inventory = format!(
            "version: 1\ndatabases:\n  main: {{ pgdata: {}, port: {}, socket: {}, bin: {}, store: primary, prefix: main,\n    \
             checks: [ {{ name: rows, sql: SELECT count(*) FROM t, expect: '= 1000' }} ] }}\n\
             stores: {{ primary: {{ url: 'file://{}' }} }}\nenvironments:\n  production: {{ protected: true, default: true }}\n  \
             drill: {{ databases: {{ main: {{ scratch: true }} }}, stores: {{ primary: {{ read_only: true }} }} }}\n",
            cluster.pgdata().display(),
            cluster.port(),
            cluster.socket_dir().display(),
            cluster.bin().display(),
            store.display(),
        );
        cli.file("inventory.yaml", &inventory);
        Self { cluster, store, cli }
    }

    /// Takes a base backup into a dated folder, as a script of cron does.
    fn take(&self, name: &str, more: &[&str]) -> PathBuf {
        let folder = self.store.join("postgres").join(name);
        let target = format!("--pgdata={}", folder.display());
        let (host, port) =
            (format!("--host={}", self.cluster.socket_dir().display()), format!("--port={}", self.cluster.port()));
        let mut args = vec!["--format=tar", "--checkpoint=fast", "--username=postgres", &target, &host, &port];
        args.extend(more);
        self.cluster.output("pg_basebackup", &args);
        folder
    }

    fn archive(&self) {
        let name = self.cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())");
        self.cluster.sql("SELECT pg_switch_wal()");
        let archived = format!("SELECT coalesce(last_archived_wal, '') >= '{name}' FROM pg_stat_archiver");
        until("the segment is archived", || self.cluster.sql(&archived) == "t");
    }
}

#[test]
fn a_folder_of_pg_basebackup_and_wal_of_cp_are_imported_and_recovered_to_the_newest_row() {
    let old = Old::start();
    let tablespace = old.cluster.folder("fast");
    old.cluster.sql(&format!("CREATE TABLESPACE fast LOCATION '{}'", tablespace.display()));
    old.cluster.sql("CREATE TABLE t(n int PRIMARY KEY) TABLESPACE fast");
    old.cluster.sql("INSERT INTO t SELECT generate_series(1, 500)");
    old.take("20260128_143002", &["--gzip"]);
    old.cluster.sql("INSERT INTO t SELECT generate_series(501, 1000)");
    old.archive();
    fs::write(old.store.join("postgres/20260128_143002/notes.txt"), "taken by cron").unwrap();
    let before = listing(&old.store);
    let dry = old.cli.run(&["backups", "import", "primary", "postgres", "--into", "main", "--json"]).ends(0).json();
    assert_eq!(dry["would_import"][0]["kind"], "postgres.base", "{dry:#}");
    assert_eq!(dry["left_out"][0]["key"], "postgres/20260128_143002/notes.txt", "{dry:#}");
    assert_eq!(listing(&old.store), before, "a dry import writes nothing");
    old.cli.run(&["backups", "import", "primary", "postgres", "--into", "main", "--write"]).ends(0).says("imported");
    let wal = ["backups", "import", "primary", "wal", "--into", "main", "--write"];
    old.cli.run(&wal).ends(0).says("0 were there");
    old.cli.run(&wal).ends(0).says("copied 0 WAL files");
    let after = listing(&old.store);
    let moved: Vec<&String> = before.iter().filter(|line| !line.contains("main") && !after.contains(line)).collect();
    assert!(moved.iter().all(|line| !line.contains(" 100")), "nothing is moved or changed: {moved:#?}");
    let listed = old.cli.run(&["backups", "list", "--json"]).ends(0).json();
    let id = listed["backups"][0]["id"].as_str().unwrap().to_owned();
    old.cli.run(&["backups", "verify", &id, "--level", "content"]).ends(0);
    // Its store is read-only to the drill: what it proved is kept by whoever may write there.
    let drilled = old.cli.run(&["drill", "full-db-loss", "-p", "database=main"]).ends(0);
    drilled.says("is not kept in `primary`: it is read-only in this environment").says("runbook backups prove");
    let proven = || {
        let listed = old.cli.run(&["backups", "list"]).ends(0);
        format!("{}{}", listed.out, listed.err).contains("proven")
    };
    assert!(!proven());
    old.cli.run(&["backups", "prove", "last", "--environment", "drill"]).ends(10).says("--environment");
    old.cli.run(&["backups", "prove", "last"]).ends(0).prints(&format!("`{id}` in `primary`: proven"));
    assert!(proven());
}

#[test]
fn a_base_backup_with_its_wal_fetched_into_it_is_imported_verified_without_an_archive_and_recovered() {
    let old = Old::start();
    old.cluster.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) n");
    let folder = old.take("fetched", &["--wal-method=fetch", "--gzip"]);
    assert!(!folder.join("pg_wal.tar.gz").exists());
    let dry = old.cli.run(&["backups", "import", "primary", "postgres", "--into", "main", "--json"]).ends(0).json();
    assert_eq!(dry["would_import"][0]["key"], "postgres/fetched/", "{dry:#}");
    old.cli.run(&["backups", "import", "primary", "postgres", "--into", "main", "--write"]).ends(0).says("imported");
    let listed = old.cli.run(&["backups", "list", "--json"]).ends(0).json();
    let id = listed["backups"][0]["id"].as_str().unwrap().to_owned();
    old.cli.run(&["backups", "verify", &id, "--level", "content"]).ends(0);
    old.cli.file(
        "verify.yaml",
        "version: 1\nname: verify\nsteps: [ { id: verify, uses: postgres.verify_backup, with: { database: main } } ]\n",
    );
    old.cli.run(&["run", "verify.yaml", "--confirm", "production"]).ends(0);
    old.archive();
    old.cli.run(&["backups", "import", "primary", "wal", "--into", "main", "--write"]).ends(0);
    old.cli.run(&["drill", "full-db-loss", "-p", "database=main"]).ends(0);
}

#[test]
fn a_base_backup_that_nothing_proves_whole_or_that_is_damaged_is_left_out_with_the_reason() {
    let old = Old::start();
    old.cluster.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) n");
    old.take("bare", &["--no-manifest"]);
    let torn = old.take("torn", &[]);
    let gone = old.take("gone", &[]);
    let mut bytes = fs::read(torn.join("base.tar")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(torn.join("base.tar"), bytes).unwrap();
    fs::write(gone.join("base.tar"), vec![0; 10240]).unwrap();
    let ran = old.cli.run(&["backups", "import", "primary", "postgres", "--into", "main", "--write"]).ends(10);
    let ran = ran.says("`postgres/torn/`").says("is damaged").says("`postgres/gone/`").says("is missing");
    ran.says("`postgres/bare/base.tar`: its folder has no `backup_manifest`");
    let listed = old.cli.run(&["backups", "list", "--json"]).ends(0).json();
    assert_eq!(listed["backups"].as_array().unwrap().len(), 0, "{listed:#}");
}

#[test]
fn an_increment_of_pg_basebackup_is_no_backup_by_itself() {
    let old = Old::of(Cluster::create_by(programs_of(18), &[("summarize_wal", "on")], &[]));
    old.cluster.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) n");
    let full = old.take("full", &[]);
    old.cluster.sql("UPDATE t SET n = n + 1 WHERE n = 7");
    old.take("increment", &[&format!("--incremental={}", full.join("backup_manifest").display())]);
    let import = ["backups", "import", "primary", "postgres", "--into", "main", "--write"];
    let ran = old.cli.run(&import).ends(10).says("`postgres/increment/`").says("it is an increment to a backup");
    ran.says("pg_combinebackup");
    let listed = old.cli.run(&["backups", "list", "--json"]).ends(0).json();
    assert_eq!(listed["backups"].as_array().unwrap().len(), 1, "{listed:#}");
    assert_eq!(listed["backups"][0]["label"], "imported from postgres/full/", "{listed:#}");
}

#[test]
fn what_a_script_left_that_failed_is_no_dump() {
    let cli = scripted(&["prod/daily/orders_20260128_143002.sql"]);
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packer, b"").unwrap();
    let daily = cli.path("stored/prod/daily");
    fs::write(daily.join("orders_20260129_143002.sql.gz"), packer.finish().unwrap()).unwrap();
    fs::write(daily.join("orders_20260130_143002.sql"), &DUMP[..DUMP.len() - 30]).unwrap();
    let import = ["backups", "import", "offsite", "prod/daily", "--write"];
    let ran = cli.run(&import).ends(10).says("`prod/daily/orders_20260129_143002.sql.gz`").says("it is empty");
    ran.says("`prod/daily/orders_20260130_143002.sql`").says("without the closing line");
    let listed = cli.run(&["backups", "list", "--json"]).ends(0).json();
    assert_eq!(listed["backups"].as_array().unwrap().len(), 1, "{listed:#}");
}

#[test]
fn wal_of_another_cluster_or_under_a_wrong_name_does_not_get_into_the_archive() {
    let old = Old::start();
    old.cluster.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) n");
    old.archive();
    let folder = old.store.join("wal");
    let mut names: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    fs::copy(&names[0], folder.join("0000000100000000000000F0")).unwrap();
    fs::write(folder.join("0000000100000000000000F1"), "rubbish").unwrap();
    let ran = old.cli.run(&["backups", "import", "primary", "wal", "--into", "main", "--write"]).ends(10);
    ran.says("`wal/0000000100000000000000F0`").says("`wal/0000000100000000000000F1`");
    let stored = listing(&old.store.join("main"));
    assert!(!stored.iter().any(|line| line.contains("00F0") || line.contains("00F1")), "{stored:#?}");
    assert!(stored.iter().any(|line| line.contains("000000010000000000000001")), "{stored:#?}");
}

const DUMP: &str = "--\n-- PostgreSQL database dump\n--\nSELECT 1;\n--\n-- PostgreSQL database dump complete\n--\n\n";

#[tokio::test]
async fn encrypted_dumps_are_imported_with_the_keys_of_the_store() {
    let (identity, recipient) = age_keys();
    let safe = Safe::default().with("identity", &identity).with("word", "correct horse").with("old", "battery");
    let openssl = |secret: &str, iterations| Encryption {
        openssl: Some(OpensslEnc { password: secret.to_owned(), iterations, ..OpensslEnc::default() }),
        ..Encryption::default()
    };
    let gpg = Encryption { gpg: Some(GpgSymmetric { passphrase: "word".to_owned() }), ..Encryption::default() };
    let cli = Cli::new();
    fs::create_dir_all(cli.path("stored/daily")).unwrap();
    for (name, format, how) in [
        ("a_20260128_143002.sql.gz.age", CompressionFormat::Gzip, to_recipients(&[&recipient])),
        ("b_20260128_143002.sql.zst.gpg", CompressionFormat::Zstd, gpg),
        ("c_20260128_143002.sql.enc", CompressionFormat::None, openssl("word", Some(10_000))),
        ("d_20260128_143002.sql.gz.enc", CompressionFormat::Gzip, openssl("old", Some(1000))),
        ("e_20260128_143002.sql.enc", CompressionFormat::None, openssl("identity", Some(10_000))),
    ] {
        let entry = StoreEntry { encryption: Some(how), ..compressed(format) };
        fs::write(cli.path("stored/daily").join(name), pack(&entry, &safe, DUMP.as_bytes()).await.stored).unwrap();
    }
    for (name, value) in &safe.0 {
        cli.file(name, value);
    }
    let file = |name: &str| format!("{name}: {{ file: {} }}", cli.path(name).display());
    let inventory = format!(
        "version: 1\nstores:\n  offsite:\n    url: file://{}\n    encryption:\n      openssl: {{ password: word }}\n      \
         earlier:\n        - {{ openssl: {{ password: old, iterations: 1000 }} }}\n        - {{ identities: [identity] }}\n        \
         - {{ gpg: {{ passphrase: word }} }}\nsecrets: {{ {}, {}, {} }}\n",
        cli.path("stored").display(),
        file("word"),
        file("old"),
        file("identity"),
    );
    cli.file("inventory.yaml", &inventory);
    let entry = StoreEntry { url: format!("file://{}", cli.path("stored").display()), ..StoreEntry::default() };
    Opening::new(&entry, "offsite", Arc::new(Safe::default())).initialize().unwrap();
    let ran = cli.run(&["backups", "import", "offsite", "daily", "--source", "orders", "--write"]).ends(10);
    ran.says("left out `daily/e_20260128_143002.sql.enc`").says("cannot be decrypted");
    let listed = cli.run(&["backups", "list", "--json"]).ends(0).json();
    assert_eq!(listed["backups"].as_array().unwrap().len(), 4, "{listed:#}");
    cli.run(&["backups", "verify", "--all", "--budget", "1GB", "--level", "content"]).ends(0);
}

const LOSS: &str = "version: 1
name: from-a-script
phases: [ { id: restore, name: Restore } ]
steps:
  - id: choose
    phase: restore
    uses: backup.find
    with: { database: main, location: { store: LOCATION, prefix: postgres, layout: base_backups } }
  - id: stage
    phase: restore
    uses: postgres.restore_base
    with: { database: main, backup: '{{ steps.choose.backup }}' }
  - id: recover
    phase: restore
    needs: [stage]
    uses: postgres.recover
    with: { database: main, staged: '{{ steps.stage.staged }}' }
  - id: prove
    phase: restore
    uses: postgres.check
    with: { database: main, instance: '{{ steps.recover.instance }}', checks: [inventory] }
";

#[test]
fn a_base_backup_is_used_where_it_lies_with_the_wal_that_was_imported() {
    let old = Old::start();
    old.cluster.sql("CREATE TABLE t(n int PRIMARY KEY)");
    old.cluster.sql("INSERT INTO t SELECT generate_series(1, 500)");
    old.take("20260127_143002", &["--gzip"]);
    old.cluster.sql("INSERT INTO t SELECT generate_series(501, 700)");
    old.take("20260128_143002", &[]);
    old.cluster.sql("INSERT INTO t SELECT generate_series(701, 1000)");
    old.archive();
    old.cli.run(&["backups", "import", "primary", "wal", "--into", "main", "--write"]).ends(0);
    let before = listing(&old.store);
    old.cli.file("loss.yaml", &LOSS.replace("LOCATION", "primary"));
    let ran = old.cli.run(&["drill", "loss.yaml"]).ends(0);
    assert!(ran.err.contains("unproven") || ran.out.contains("unproven"), "{ran:?}");
    let changed: Vec<String> = before.into_iter().filter(|line| line.contains("postgres")).collect();
    let after = listing(&old.store);
    assert!(changed.iter().all(|line| after.contains(line)), "{changed:#?}");
    let chosen = &old.cli.shown()["steps"];
    assert!(chosen.to_string().contains("postgres.20260128_143002"), "{chosen:#}");
    old.cli.file("loss.yaml", &LOSS.replace("layout: base_backups", "layout: base_backups }, tier: daily, x: { y: 1"));
    old.cli.run(&["check", "loss.yaml"]).ends(3);
}

/// Somebody with a store `offsite` in which these dumps of scripts lie.
fn scripted(dumps: &[&str]) -> Cli {
    let cli = Cli::new();
    for key in dumps {
        cli.file(&format!("stored/{key}"), DUMP);
    }
    let url = format!("file://{}", cli.path("stored").display());
    cli.file("inventory.yaml", &format!("version: 1\nstores: {{ offsite: {{ url: '{url}' }} }}\n"));
    let entry = StoreEntry { url, ..StoreEntry::default() };
    Opening::new(&entry, "offsite", Arc::new(Safe::default())).initialize().unwrap();
    cli
}

const FOUND: &str = "version: 1
name: from-a-script
steps:
  - id: choose
    uses: backup.find
    with: { source: orders, WHICH location: { store: offsite, prefix: daily, layout: dumps } }
  - id: verify
    uses: backup.verify
    with: { source: orders, store: offsite, backup: '{{ steps.choose.backup }}' }
";

#[test]
fn of_dumps_in_one_folder_those_that_are_named_are_chosen_and_nothing_is_written_there() {
    let cli = scripted(&[
        "daily/orders_20260127_020000.sql",
        "daily/orders_20260128_020000.sql",
        "daily/crew_20260128_030000.sql",
    ]);
    let before = listing(&cli.path("stored"));
    let run = |which: &str| {
        cli.file("find.yaml", &FOUND.replace("WHICH", which));
        cli.run(&["run", "find.yaml"])
    };
    let told = run("");
    assert_ne!(told.code, Some(0), "{told:?}");
    told.says("dumps of several databases: `crew`, `orders`").says("say `dbname`");
    // Those of the other database do not count even where only they are old enough.
    assert_ne!(run("before: '2026-01-27T01:00:00Z',").code, Some(0));
    run("dbname: orders,").ends(0);
    let chosen = cli.shown()["steps"].to_string();
    assert!(chosen.contains("orders_20260128_020000") && !chosen.contains("crew_"), "{chosen}");
    run("dbname: order,").says("nothing below `daily/`");
    assert_eq!(listing(&cli.path("stored")), before);
}

#[test]
fn a_manifest_of_another_program_hides_no_dump_and_a_damaged_one_is_named() {
    let cli = scripted(&["prod/daily/orders_20260128_143002.sql", "prod/dump/torn/orders_20260128_143002.sql"]);
    cli.file("stored/prod/daily/manifest.json", "{}");
    cli.file("stored/prod/db-manifest.json", "{}");
    cli.file("stored/prod/dump/torn/manifest.json", "{");
    for prefix in ["prod", "prod/"] {
        let dry = cli.run(&["backups", "import", "offsite", prefix, "--json"]).ends(0).json();
        let found = dry["would_import"].as_array().unwrap();
        assert_eq!(found.len(), 1, "{dry:#}");
        let left = dry["left_out"].as_array().unwrap();
        let left = left.iter().map(|one| (one["key"].as_str().unwrap(), one["why"].as_str().unwrap()));
        let left: std::collections::BTreeMap<&str, &str> = left.collect();
        let keys: Vec<&str> = left.keys().copied().collect();
        assert_eq!(keys, ["prod/daily/manifest.json", "prod/db-manifest.json", "prod/dump/torn/manifest.json"]);
        assert!(left["prod/dump/torn/manifest.json"].contains("whose manifest cannot be used"), "{left:?}");
    }
    cli.run(&["backups", "import", "offsite", "prod/daily/", "--json"]).ends(0).prints("orders_20260128_143002.sql");
    cli.run(&["backups", "import", "offsite", "/prod"]).ends(2).says("cannot begin an object's key");
}
