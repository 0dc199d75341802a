//! Base backups as they are taken: over every way into a server, from a standby, with what lies outside the data
//! directory, and of data that is damaged; and how they are verified without a restore.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use runbook::action::{Action as _, ActionError, BackupHandle};
use runbook::actions::postgres::{
    BaseBackup, BaseBackupOutput, BaseBackupParams, RestoreBase, RestoreBaseParams, VerifyBackup, VerifyBackupOutput,
    VerifyBackupParams,
};
use runbook::base::{Timestamp, clock};
use runbook::language::inventory::{Database, SslMode, StoreEntry};
use runbook::store::Opening;
use serde_json::{Value, json};

use crate::support::cli::{Cli, Ran, listing, until};
use crate::support::postgres::free_port;
use crate::support::program::need;
use crate::support::recovery::Site;

async fn take(site: &Site, with: Value) -> Result<BaseBackupOutput, ActionError> {
    let params: BaseBackupParams = serde_json::from_value(with).unwrap();
    BaseBackup.run(&params, &site.run().context()).await
}

async fn verify(site: &Site, backup: &BackupHandle) -> Result<VerifyBackupOutput, ActionError> {
    let params = json!({ "database": backup.database, "backup": backup });
    let params: VerifyBackupParams = serde_json::from_value(params).unwrap();
    VerifyBackup.run(&params, &site.run().context()).await
}

fn manifest(site: &Site, backup: &BackupHandle) -> Value {
    let path = site.depot.root.join(format!("{}/base/{}/manifest.json", prefix(backup), backup.id));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn prefix(backup: &BackupHandle) -> &str {
    &backup.database
}

/// A cluster whose pages carry checksums, with a table that fills some.
fn with_checksums() -> Site {
    let site = Site::new();
    site.cluster.stop("fast");
    let pgdata = site.cluster.pgdata();
    site.cluster.output("pg_checksums", &["--enable", "--no-sync", "-D", pgdata.to_str().unwrap()]);
    site.cluster.up();
    site.cluster.sql("CREATE TABLE t AS SELECT n, repeat('x', 100) AS pad FROM generate_series(1, 2000) n");
    site
}

/// Flips a byte in the middle of block 1 of the table, as a disk would.
fn damage(site: &Site) {
    let path = site.cluster.pgdata().join(site.cluster.sql("SELECT pg_relation_filepath('t')"));
    site.cluster.stop("fast");
    let mut file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(8192 + 4096)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(8192 + 4096)).unwrap();
    file.write_all(&[byte[0] ^ 1]).unwrap();
    site.cluster.up();
}

#[tokio::test]
async fn a_page_with_a_wrong_checksum_is_named_and_kept_only_when_it_was_asked_for() {
    let site = with_checksums();
    let sound = take(&site, json!({ "database": "main" })).await.unwrap().backup;
    let verified = verify(&site, &sound).await.unwrap();
    assert!(verified.pages > 20 && verified.files > 900 && !verified.segments.is_empty(), "{verified:?}");
    damage(&site);
    let refused = take(&site, json!({ "database": "main" })).await.unwrap_err();
    assert!(refused.to_string().contains("block 1 of `base/") && refused.to_string().contains("`t`"), "{refused}");
    let kept = take(&site, json!({ "database": "main", "on_bad_page": "note" })).await.unwrap().backup;
    let pages = manifest(&site, &kept)["postgres"]["bad_pages"].clone();
    assert!(pages[0].as_str().is_some_and(|page| page.contains("block 1")), "{pages}");
    let fault = verify(&site, &kept).await.unwrap_err();
    assert!(fault.to_string().contains("the checksum of block 1"), "{fault}");
}

#[tokio::test]
async fn what_was_found_is_kept_and_a_cut_object_does_not_hold() {
    let site = Site::new();
    let backup = take(&site, json!({ "database": "main" })).await.unwrap().backup;
    let whole = verify(&site, &backup).await.unwrap();
    let folder = site.depot.root.join(format!("main/base/{}", backup.id));
    let kept = listing(&folder.join("verified")).into_iter().filter(|line| !line.contains("/.rb-")).count();
    assert_eq!(kept, 1, "{:#?}", listing(&folder.join("verified")));
    let object = folder.join("pg_wal.tar.zst");
    let bytes = fs::read(&object).unwrap();
    fs::write(&object, &bytes[..bytes.len() - 1]).unwrap();
    let short = verify(&site, &backup).await;
    fs::write(&object, &bytes).unwrap();
    assert!(short.is_err());
    assert!(!whole.segments.is_empty());
}

#[tokio::test]
async fn configuration_outside_the_data_directory_comes_with_the_backup() {
    let site = Site::new();
    let place = site.cluster.with_outside_hba();
    // Its only setting is overridden: it is the source of none, and no server starts without it.
    let extra = place.with_file_name("extra.conf");
    fs::write(&extra, "work_mem = '7MB'\n").unwrap();
    site.cluster.give(&extra);
    let conf = site.cluster.pgdata().join("postgresql.conf");
    let text = fs::read_to_string(&conf).unwrap();
    fs::write(&conf, format!("{text}include '{}'\n", extra.display())).unwrap();
    site.cluster.sql("ALTER SYSTEM SET work_mem = '8MB'");
    site.cluster.sql("SELECT pg_reload_conf()");
    let backup = take(&site, json!({ "database": "main" })).await.unwrap().backup;
    let manifest = manifest(&site, &backup);
    let objects = manifest["objects"].as_array().unwrap();
    let config: Vec<&Value> = objects.iter().filter(|object| object["role"] == "config").collect();
    let names: Vec<&Value> = config.into_iter().map(|object| &object["name"]).collect();
    let expected = [&extra, &place].map(|place| format!("config{}.zst", place.display()));
    assert_eq!(names, expected.iter().collect::<Vec<_>>(), "{objects:#?}");
    verify(&site, &backup).await.unwrap();
    fs::write(&place, "# edited since\n").unwrap();
    let restore = async |how: &str| {
        let params = json!({ "database": "main", "backup": backup, "config_files": how });
        let params: RestoreBaseParams = serde_json::from_value(params).unwrap();
        RestoreBase.run(&params, &site.run().context()).await.unwrap().config_files
    };
    let beside = restore("beside").await;
    assert!(fs::read_to_string(&beside[1]).unwrap().contains("trust") && beside[1] != place, "{beside:?}");
    assert!(restore("missing").await.is_empty() && restore("leave").await.is_empty());
    assert_eq!(fs::read_to_string(&place).unwrap(), "# edited since\n");
    fs::remove_file(&place).unwrap();
    assert_eq!(restore("missing").await, std::slice::from_ref(&place));
    assert!(fs::read_to_string(&place).unwrap().contains("trust"));
}

/// Lets the role `taker` in over TCP, with its password.
fn let_in(site: &mut Site, lines: &str) {
    site.cluster.sql("CREATE ROLE taker LOGIN SUPERUSER REPLICATION PASSWORD 'right'");
    let hba = site.cluster.pgdata().join("pg_hba.conf");
    fs::write(&hba, format!("local all all trust\nlocal replication all trust\n{lines}")).unwrap();
    site.cluster.sql("SELECT pg_reload_conf()");
    // The archive that the server fills: its last WAL is waited for there.
    let prefix = Some("main".to_owned());
    let (user, password) = ("taker".to_owned(), Some("pw".to_owned()));
    let entry = Database { socket: None, user, password, prefix, ..site.entry() };
    site.others.lock().unwrap().insert("tcp".to_owned(), entry);
    site.depot.secrets.0.insert("pw".to_owned(), "right".to_owned());
}

#[tokio::test]
async fn a_password_and_tcp_lead_to_the_same_backup_however_the_server_asks_for_it() {
    for (stored_as, asked_for) in [("scram-sha-256", "scram-sha-256"), ("md5", "md5"), ("scram-sha-256", "password")] {
        let mut site = Site::with(&[("password_encryption", stored_as)]);
        let lines = format!("host all all 127.0.0.1/32 {asked_for}\nhost replication all 127.0.0.1/32 {asked_for}\n");
        let_in(&mut site, &lines);
        let backup =
            take(&site, json!({ "database": "tcp" })).await.unwrap_or_else(|error| panic!("{asked_for}: {error}"));
        assert!(backup.wal_archived, "{asked_for}: {}", site.said());
        verify(&site, &backup.backup).await.unwrap();
        site.depot.secrets.0.insert("pw".to_owned(), "wrong".to_owned());
        let refused = take(&site, json!({ "database": "tcp" })).await.unwrap_err();
        assert!(refused.info().help.is_some() && !refused.to_string().contains("wrong"), "{asked_for}: {refused:?}");
    }
}

/// Makes a certificate of its own authority for a name, and has the server show it.
fn show_certificate(site: &Site, name: &str) -> PathBuf {
    need("openssl", "escape");
    let dir = site.cluster.folder("tls");
    let script = format!(
        "cd {dir} && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority \
           -addext basicConstraints=critical,CA:TRUE -keyout ca.key -out ca.crt \
         && openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout server.key -out server.csr \
         && printf 'subjectAltName=DNS:{name}\n' > names \
         && openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.crt \
         && chmod 600 server.key",
        dir = dir.display()
    );
    let made = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    for file in ["server.key", "server.crt"] {
        site.cluster.give(&dir.join(file));
    }
    let place = |file: &str| dir.join(file).display().to_string();
    let (key, certificate) = (place("server.key"), place("server.crt"));
    site.cluster.configure(&[("ssl", "on"), ("ssl_key_file", &key), ("ssl_cert_file", &certificate)]);
    site.cluster.sql("SELECT pg_reload_conf()");
    dir.join("ca.crt")
}

#[tokio::test]
async fn a_server_that_wants_tls_gets_it_and_a_certificate_of_another_name_is_refused() {
    let mut site = Site::new();
    let_in(
        &mut site,
        "hostssl all all 127.0.0.1/32 scram-sha-256\nhostssl replication all 127.0.0.1/32 scram-sha-256\n",
    );
    let authority = show_certificate(&site, "localhost");
    let encrypted = |mode: SslMode| Database { sslmode: mode, ..site.others.lock().unwrap()["tcp"].clone() };
    let modes = [("none", SslMode::Disable), ("some", SslMode::Require), ("proof", SslMode::VerifyFull)];
    let entries = modes.map(|(name, mode)| (name.to_owned(), encrypted(mode)));
    site.others.lock().unwrap().extend(entries);
    let refused = take(&site, json!({ "database": "none" })).await.unwrap_err();
    assert!(refused.to_string().contains("database"), "{refused}");
    let backup = take(&site, json!({ "database": "some" })).await.unwrap().backup;
    verify(&site, &backup).await.unwrap();
    // The authority is unknown to this machine, and so nothing is proven.
    let unknown = take(&site, json!({ "database": "proof" })).await.unwrap_err();
    assert!(unknown.info().causes.iter().any(|cause| cause.contains("certificate")), "{unknown:?}");
    // A process that knows the authority, against both names.
    assert_eq!(by_process(&site, &authority), Some(0));
    let authority = show_certificate(&site, "elsewhere.example");
    assert_eq!(by_process(&site, &authority), Some(4), "refused before the first step");
}

/// Takes a backup with `sslmode: verify-full` in a process that believes one authority only.
fn by_process(site: &Site, authority: &Path) -> Option<i32> {
    let cli = Cli::new().var("SSL_CERT_FILE", &authority.display().to_string()).var("TAKER", "right");
    let inventory = format!(
        "version: 1\ndatabases:\n  tcp: {{ pgdata: {}, port: {}, bin: {}, user: taker, password: pw, sslmode: verify-full, \
         store: here, prefix: main }}\nstores: {{ here: {{ url: 'file://{}' }} }}\nsecrets: {{ pw: {{ env: TAKER }} }}\n",
        site.cluster.pgdata().display(),
        site.cluster.port(),
        site.cluster.bin().display(),
        site.depot.root.display(),
    );
    cli.file("inventory.yaml", &inventory);
    let step =
        "version: 1\nname: take\nsteps:\n  - id: take\n    uses: postgres.base_backup\n    with: { database: tcp }\n";
    cli.file("take.yaml", step);
    let ran = cli.run(&["run", "take.yaml"]);
    eprintln!("{}{}", ran.out, ran.err);
    ran.code
}

#[tokio::test]
async fn a_backup_outlives_a_server_that_ends_idle_sessions() {
    let site = Site::with(&[("idle_session_timeout", "1s")]);
    let backup = take(&site, json!({ "database": "main", "max_rate": "8MB" })).await.unwrap().backup;
    let manifest = manifest(&site, &backup);
    let at = |name: &str| manifest[name].as_str().unwrap().parse::<Timestamp>().unwrap();
    let streamed = clock::between(at("started_at"), at("stopped_at"));
    assert!(streamed.as_millis() > 1200, "no session could have ended within {streamed:?}");
    verify(&site, &backup).await.unwrap();
}

#[tokio::test]
async fn a_rerun_whose_goal_is_met_takes_no_second_backup() {
    let site = Site::new();
    let unmounted = site.cluster.dir().join("unmounted/store");
    let entry = StoreEntry { url: format!("file://{}", unmounted.display()), ..StoreEntry::default() };
    site.beside.lock().unwrap().insert("offsite".to_owned(), entry);
    let params = json!({ "database": "main", "stores": ["primary", "offsite"], "at_least": 1 });
    let params: BaseBackupParams = serde_json::from_value(params).unwrap();
    let run = site.run();
    let first = BaseBackup.run(&params, &run.context()).await.unwrap();
    let again = BaseBackup.run(&params, &run.context()).await.unwrap();
    assert_eq!((first.copies.len(), &again), (1, &first));
    assert!(site.said().contains("store `offsite` did not get the backup"), "{}", site.said());
}

/// A standby of the site's cluster; stopped when it is dropped.
struct Standby<'a>(&'a Site, PathBuf, u16);

impl<'a> Standby<'a> {
    fn start(site: &'a Site) -> Self {
        let (dir, port) = (site.cluster.dir().join("standby"), free_port());
        let (socket, own) = (site.cluster.socket_dir(), site.cluster.port().to_string());
        let args = ["-R", "-X", "stream", "-c", "fast", "--no-sync", "-U", "postgres", "-p", &own];
        site.cluster.output(
            "pg_basebackup",
            &[&args[..], &["-h", socket.to_str().unwrap(), "-D", dir.to_str().unwrap()]].concat(),
        );
        let options = format!("-p {port} -k {} -c archive_mode=off", socket.display());
        let mut start = site.cluster.command("pg_ctl");
        start
            .args(["-w", "-t", "60", "-o", &options, "-D"])
            .arg(&dir)
            .arg("-l")
            .arg(site.cluster.dir().join("standby.log"));
        assert!(start.arg("start").stdout(Stdio::null()).status().unwrap().success());
        Self(site, dir, port)
    }
}

impl Drop for Standby<'_> {
    fn drop(&mut self) {
        let mut stop = self.0.cluster.command("pg_ctl");
        let _ = stop.args(["-w", "-m", "immediate", "stop", "-D"]).arg(&self.1).stdout(Stdio::null()).status();
    }
}

#[tokio::test]
async fn a_standby_gives_the_backup_and_the_idle_primary_its_last_wal() {
    let site = Site::new();
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let standby = Standby::start(&site);
    let entry = Database { pgdata: standby.1.clone(), port: standby.2, ..site.entry() };
    site.others.lock().unwrap().insert("standby".to_owned(), entry);
    let not = take(&site, json!({ "database": "main", "source": "main" })).await.unwrap_err();
    assert!(not.to_string().contains("is no standby"), "{not}");
    let output = take(&site, json!({ "database": "main", "source": "standby" })).await.unwrap();
    assert!(output.wal_archived, "{}", site.said());
    verify(&site, &output.backup).await.unwrap();
    drop(standby);
    site.cluster.sql("INSERT INTO t VALUES (2)");
    site.archive();
    site.cluster.kill();
    fs::remove_dir_all(site.cluster.pgdata()).unwrap();
    let run = site.run();
    let staged = run.stage(&output.backup).await;
    run.recover(&staged, json!({})).await;
    assert_eq!(site.cluster.sql("SELECT string_agg(n::text, ',' ORDER BY n) FROM t"), "1,2", "{}", site.said());
}

#[tokio::test]
async fn the_backup_of_a_standby_that_lags_tells_up_to_when_it_has_everything() {
    let site = Site::new();
    let now = "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
    let began: Timestamp = site.cluster.sql(now).parse().unwrap();
    let standby = Standby::start(&site);
    let entry = Database { pgdata: standby.1.clone(), port: standby.2, ..site.entry() };
    site.others.lock().unwrap().insert("standby".to_owned(), entry);
    let on_standby = |sql: &str| {
        let mut psql = site.cluster.command("psql");
        psql.args(["-XAtq", "-U", "postgres", "-d", "postgres", "-p", &standby.2.to_string(), "-c", sql, "-h"]);
        let said = psql.arg(site.cluster.socket_dir()).output().unwrap();
        String::from_utf8_lossy(&said.stdout).trim().to_owned()
    };
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    until("the standby has it", || {
        on_standby("SELECT pg_last_xact_replay_timestamp() IS NOT NULL AND to_regclass('t') IS NOT NULL") == "t"
    });
    on_standby("SELECT pg_wal_replay_pause()");
    until("its replay is paused", || on_standby("SELECT pg_get_wal_replay_pause_state()") == "paused");
    let lost: Timestamp = site.cluster.sql(now).parse().unwrap();
    site.cluster.sql("INSERT INTO t VALUES (2)");
    let output = take(&site, json!({ "database": "main", "source": "standby" })).await.unwrap();
    let manifest = manifest(&site, &output.backup);
    let at = |name: &str| manifest[name].as_str().unwrap().parse::<Timestamp>().unwrap();
    assert!(began < at("data_at") && at("data_at") < lost && lost < at("started_at"), "{manifest:#}");
}

/// Runs one step by the program, over the site's own store and one that is not mounted.
fn run_over_two_stores(site: &Site, step: &str) -> Ran {
    let cli = Cli::new();
    let unmounted = site.cluster.dir().join("unmounted/store");
    let inventory = format!(
        "version: 1\ndatabases:\n  main: {{ pgdata: {}, port: {}, socket: {}, bin: {}, store: here, prefix: main }}\n\
         stores:\n  here: {{ url: 'file://{}' }}\n  offsite: {{ url: 'file://{}' }}\n",
        site.cluster.pgdata().display(),
        site.cluster.port(),
        site.cluster.socket_dir().display(),
        site.cluster.bin().display(),
        site.depot.root.display(),
        unmounted.display(),
    );
    cli.file("inventory.yaml", &inventory);
    cli.file("one.yaml", &format!("version: 1\nname: one\nsteps:\n  - {{ id: take, {step} }}\n"));
    cli.run(&["run", "one.yaml"])
}

#[test]
fn a_store_that_is_down_at_the_start_costs_no_backup_as_long_as_enough_are_left() {
    let site = Site::new();
    let manifests = || site.stored().iter().filter(|name| *name == "manifest.json").count();
    for (number, action) in ["postgres.base_backup", "postgres.dump"].into_iter().enumerate() {
        let step = |at_least: u32| {
            format!("uses: {action}, with: {{ database: main, stores: [offsite, here], at_least: {at_least} }}")
        };
        run_over_two_stores(&site, &step(2)).ends(4).says("offsite");
        assert_eq!(manifests(), number, "{action}");
        let ran = run_over_two_stores(&site, &step(1)).ends(5);
        assert!(ran.err.contains("store `offsite`"), "{action}: {}", ran.err);
        assert_eq!(manifests(), number + 1, "{action}");
    }
}

#[tokio::test]
async fn an_archive_that_gives_no_answer_at_the_end_costs_no_backup() {
    let site = Site::new();
    let url = format!("file://{}", site.cluster.folder("second").display());
    let second = StoreEntry { url, ..StoreEntry::default() };
    Opening::new(&second, "second", std::sync::Arc::new(site.depot.secrets.clone())).initialize().unwrap();
    site.beside.lock().unwrap().insert("second".to_owned(), second);
    site.archive();
    // The archive cannot be listed: its folder is a link to itself.
    let (archive, aside) = (site.depot.root.join("main/wal"), site.cluster.dir().join("aside"));
    fs::rename(&archive, &aside).unwrap();
    std::os::unix::fs::symlink(&archive, &archive).unwrap();
    let taken = take(&site, json!({ "database": "main", "stores": ["second"] })).await;
    fs::remove_file(&archive).unwrap();
    fs::rename(&aside, &archive).unwrap();
    let taken = taken.unwrap_or_else(|error| panic!("{:#?}", error.info()));
    let stores: Vec<&str> = taken.copies.iter().map(|copy| copy.store.as_str()).collect();
    assert_eq!((stores.as_slice(), taken.wal_archived), (&["second"][..], false));
    assert!(site.said().contains("whether its WAL reached the archive is not known"), "{}", site.said());
}

#[tokio::test]
async fn a_backup_whose_wal_does_not_reach_the_archive_is_committed_first_and_outlives_a_cancel_of_the_wait() {
    let site = Site::new();
    site.cluster.sql("ALTER SYSTEM SET archive_command = 'false # wal push '");
    site.cluster.sql("SELECT pg_reload_conf()");
    let run = site.run();
    let cx = run.context();
    let params = serde_json::from_value(json!({ "database": "main" })).unwrap();
    let committed = async {
        while !site.stored().iter().any(|name| name == "manifest.json") {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert!(!site.said().contains("in the archive"), "it waits: {}", site.said());
        cx.cancel.cancel();
    };
    let (taken, ()) = tokio::join!(BaseBackup.run(&params, &cx), committed);
    let taken = taken.unwrap_or_else(|error| panic!("{:#?}", error.info()));
    assert!(!taken.wal_archived && site.said().contains("the backup is kept"), "{}", site.said());
    let again = BaseBackup.run(&params, &run.context()).await.unwrap();
    assert_eq!(again, taken, "the backup is there, and none is taken anew");
    verify(&site, &taken.backup).await.unwrap();
}

#[tokio::test]
async fn a_role_that_is_not_told_everything_is_warned_before_and_the_backup_says_what_it_may_lack() {
    let site = Site::new();
    site.cluster.with_outside_hba();
    site.cluster.sql("CREATE ROLE taker LOGIN REPLICATION");
    let entry = Database { user: "taker".to_owned(), ..site.entry() };
    site.others.lock().unwrap().insert("main_by_taker".to_owned(), entry);
    let params: BaseBackupParams = serde_json::from_value(json!({ "database": "main_by_taker" })).unwrap();
    let found = BaseBackup.check(&params, &site.run().check_context()).await.unwrap();
    let told = serde_json::to_string(&found.0).unwrap();
    assert!(!found.refused() && told.contains("GRANT pg_monitor"), "{told}");
    take(&site, json!({ "database": "main_by_taker" })).await.unwrap();
    assert!(site.said().contains("the role may not know where they are"), "{}", site.said());
    site.cluster.sql("GRANT pg_monitor TO taker");
    let found = BaseBackup.check(&params, &site.run().check_context()).await.unwrap();
    assert!(!serde_json::to_string(&found.0).unwrap().contains("pg_monitor"), "{found:?}");
    take(&site, json!({ "database": "main_by_taker" })).await.unwrap();
    assert!(site.stored().iter().any(|name| name == "pg_hba.conf.zst"), "{:?}", site.stored());
}
