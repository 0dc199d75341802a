//! Dumps and their restore: real databases, real damage, and everything a dump leaves out.

use std::fs;
use std::path::Path;

use runbook::action::{Action as _, ActionError, BackupHandle, RunContext};
use runbook::actions::backup::{Create, CreateParams, Verify, VerifyParams};
use runbook::actions::postgres::{
    Compared, Dump, DumpOutput, DumpParams, RestoreDump, RestoreDumpOutput, RestoreDumpParams, SwapBack, SwapBackParams,
};
use runbook::language::inventory::{Compression, CompressionFormat, Database, StoreEntry};
use runbook::pgformat::read_custom_dump;
use runbook::store::Opening;
use serde_json::{Value, json};

use crate::support::cli::{Cli, listing, until};
use crate::support::postgres::{Cluster, programs_of, server_bin};
use crate::support::recovery::{Depot, Run, Site};

const MARK: &str = "the customer is called Zdzislawa Grzeszczykiewicz";

/// What a database has that is easily lost: keys, an index, a view, a sequence, a trigger, a policy, types, rights.
const SCHEMA: &str = "CREATE TYPE mood AS ENUM ('good', 'bad');
 CREATE TABLE users (id bigserial PRIMARY KEY, name varchar(80) NOT NULL CHECK (name IN ('a', 'b') OR length(name) > 1),
   mood mood DEFAULT 'good', seen timestamptz DEFAULT now(), ratio float8, data bytea);
 CREATE TABLE orders (id int PRIMARY KEY, user_id bigint NOT NULL REFERENCES users, note text);
 CREATE INDEX orders_by_user ON orders (user_id) WHERE note IS NOT NULL;
 CREATE VIEW busy AS SELECT u.name, count(*) FROM users u JOIN orders o ON o.user_id = u.id GROUP BY 1;
 CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note := coalesce(NEW.note, 'x'); RETURN NEW; END $$;
 CREATE TRIGGER touch BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION touch();
 ALTER TABLE users ENABLE ROW LEVEL SECURITY;
 CREATE POLICY own ON users USING (name = current_user);
 CREATE TABLE \"Odd \"\"Name\" (t text);
 INSERT INTO \"Odd \"\"Name\" VALUES (E'a\\nb'), (E'a\\nb'), (NULL);
 CREATE TABLE parts (n int) PARTITION BY RANGE (n);
 CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
 INSERT INTO parts VALUES (1), (2);";

/// A server with a database `shop` that has an owner, rights, settings and a comment of its own.
fn site(depot: Depot) -> Site {
    let site = Site::over(depot, &[]);
    site.cluster.sql("CREATE ROLE app LOGIN PASSWORD 'secret'");
    site.cluster.sql("CREATE ROLE readers");
    site.cluster.sql("GRANT readers TO app");
    site.cluster.sql("CREATE DATABASE shop OWNER app CONNECTION LIMIT 40");
    site.cluster.sql("REVOKE ALL ON DATABASE shop FROM PUBLIC");
    site.cluster.sql("GRANT CONNECT ON DATABASE shop TO readers");
    site.cluster.sql("COMMENT ON DATABASE shop IS 'it''s the shop'");
    site.cluster.sql("ALTER DATABASE shop SET search_path = app, public");
    site.cluster.sql("ALTER DATABASE shop SET work_mem = '17MB'");
    site.cluster.sql("ALTER ROLE app IN DATABASE shop SET statement_timeout = '9s'");
    within(&site, "shop", &format!("SET ROLE app; SET search_path = public; {SCHEMA}"));
    within(
        &site,
        "shop",
        &format!(
            "INSERT INTO users (name, ratio, data) SELECT '{MARK} ' || n, n / 3.0, decode(md5(n::text), 'hex') FROM generate_series(1, 500) n"
        ),
    );
    within(
        &site,
        "shop",
        "INSERT INTO orders SELECT n, n, CASE n % 2 WHEN 0 THEN 'even' END FROM generate_series(1, 300) n",
    );
    within(&site, "shop", "GRANT SELECT ON orders TO readers");
    site
}

/// Runs SQL in a database of the server.
#[track_caller]
fn within(site: &Site, dbname: &str, sql: &str) -> String {
    let output = site
        .cluster
        .command("psql")
        .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", dbname, "-h"])
        .arg(site.cluster.socket_dir())
        .args(["-p", &site.cluster.port().to_string(), "-c", sql])
        .output()
        .unwrap();
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

fn with(base: Value, more: &Value) -> Value {
    let mut with = base;
    with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    with
}

async fn try_dump(run: &Run<'_>, more: Value) -> Result<DumpOutput, ActionError> {
    let with = with(json!({ "database": "main", "dbnames": ["shop"], "facts": "hashes" }), &more);
    let params: DumpParams = serde_json::from_value(with).unwrap();
    let findings = Dump.check(&params, &run.check_context()).await?;
    assert!(!findings.refused(), "{:?}", findings.0);
    Dump.run(&params, &run.context()).await
}

async fn dump(run: &Run<'_>, more: Value) -> DumpOutput {
    try_dump(run, more).await.unwrap_or_else(|error| panic!("{:#?}", error.info()))
}

async fn try_restore(run: &Run<'_>, backup: &BackupHandle, more: Value) -> Result<RestoreDumpOutput, ActionError> {
    let with = with(json!({ "database": "main", "backup": backup }), &more);
    let params: RestoreDumpParams = serde_json::from_value(with).unwrap();
    let findings = RestoreDump.check(&params, &run.check_context()).await?;
    if findings.refused() {
        return Err(ActionError::fatal(format!("refused: {:?}", findings.0)));
    }
    RestoreDump.run(&params, &run.context()).await
}

async fn restore(run: &Run<'_>, backup: &BackupHandle, more: Value) -> RestoreDumpOutput {
    try_restore(run, backup, more).await.unwrap_or_else(|error| panic!("{:#?}", error.info()))
}

/// Everything of a database that must come back, as text.
fn portrait(site: &Site, dbname: &str) -> Vec<String> {
    let state = "SELECT pg_get_userbyid(datdba), encoding, datcollate, datctype, datconnlimit, datacl, \
                 shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()";
    let settings = "SELECT setrole::regrole, setconfig FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase \
                    WHERE d.datname = current_database() ORDER BY 1";
    let relations = "SELECT relname, relkind, relowner::regrole, relacl, relrowsecurity FROM pg_class \
                     WHERE relnamespace = 'public'::regnamespace ORDER BY 1";
    let rows = "SELECT md5(string_agg(t::text, '|' ORDER BY t.id)) FROM public.users t";
    let more = "SELECT count(*), sum(user_id), min(note) FROM public.orders";
    let next = "SELECT nextval('public.users_id_seq') > 500";
    [state, settings, relations, rows, more, next].map(|sql| within(site, dbname, sql)).into()
}

#[tokio::test]
async fn a_dump_of_each_format_becomes_the_same_database_again() {
    let site = site(Depot::default());
    let before = portrait(&site, "shop");
    for (format, jobs) in
        [("custom", json!({})), ("directory", json!({ "jobs": 2 })), ("plain", json!({})), ("tar", json!({}))]
    {
        let run = site.run();
        let dumped = dump(&run, with(json!({ "format": format }), &jobs)).await;
        let one = &dumped.dumps[0];
        assert_eq!((one.dbname.as_str(), one.tables, one.rows), ("shop", 4, 805), "{format}");
        assert!(one.size_bytes < one.plain_size_bytes, "{format}: compressed once, by us");
        let look = json!({ "database": "main", "backup": dumped.backup, "level": "content" });
        let look: VerifyParams = serde_json::from_value(look).unwrap();
        let verified = Verify.run(&look, &run.context()).await.unwrap_or_else(|error| panic!("{:#?}", error.info()));
        assert_eq!((verified.verified.len(), verified.skipped.as_slice()), (1, &[][..]), "{format}");
        let restored = restore(&run, &dumped.backup, with(json!({ "mode": "beside" }), &jobs)).await;
        assert_eq!((restored.compared, restored.rows), (Compared::Hashes, 805), "{format}");
        assert_eq!(portrait(&site, &restored.dbname), before, "{format}");
    }
    let left = fs::read_dir(site.cluster.dir().join("runs")).unwrap().count();
    assert_eq!(left, 4);
    let leftovers: Vec<String> = listing(&site.cluster.dir().join("runs"));
    assert!(!leftovers.iter().any(|line| line.contains("toc.dat") || line.contains(".pipe")), "{leftovers:#?}");
}

#[tokio::test]
async fn a_restore_swaps_in_one_go_keeps_the_old_one_and_can_be_swapped_back() {
    let site = site(Depot::default());
    let run = site.run();
    let dumped = dump(&run, json!({})).await;
    let before = portrait(&site, "shop");
    within(&site, "shop", "DELETE FROM orders");
    let restored = restore(&run, &dumped.backup, json!({})).await;
    assert_eq!(portrait(&site, "shop"), before);
    let old = restored.old_dbname.unwrap();
    assert_eq!(within(&site, &old, "SELECT count(*) FROM public.orders"), "0");
    // The same step again, as after a crash before its success was written: nothing happens a second time.
    within(&site, "shop", "DELETE FROM orders WHERE id = 1");
    let again = restore(&run, &dumped.backup, json!({})).await;
    assert_eq!((again.old_dbname.as_deref(), again.compared), (Some(old.as_str()), Compared::Earlier));
    assert_eq!(within(&site, "shop", "SELECT count(*) FROM public.orders"), "299");
    let params: SwapBackParams =
        serde_json::from_value(json!({ "database": "main", "dbname": "shop", "old_dbname": old })).unwrap();
    let back = SwapBack.run(&params, &run.context()).await.unwrap();
    assert_eq!(within(&site, "shop", "SELECT count(*) FROM public.orders"), "0");
    assert_eq!(within(&site, &back.kept.unwrap(), "SELECT count(*) FROM public.orders"), "299");
    assert!(!SwapBack.run(&params, &run.context()).await.unwrap().swapped);
}

#[tokio::test]
async fn a_restore_that_cannot_be_named_leaves_the_database_open_and_goes_on_from_there() {
    let site = Site::with(&[("max_prepared_transactions", "4")]);
    site.cluster.sql("CREATE DATABASE shop");
    within(&site, "shop", "CREATE TABLE t(n int); INSERT INTO t SELECT generate_series(1, 100)");
    let run = site.run();
    let dumped = dump(&run, json!({})).await;
    within(&site, "shop", "INSERT INTO t VALUES (101)");
    within(&site, "shop", "BEGIN; INSERT INTO t VALUES (102); PREPARE TRANSACTION 'held'");
    let refused = try_restore(&run, &dumped.backup, json!({})).await.unwrap_err();
    assert!(refused.to_string().contains("prepared transactions"), "{refused}");
    // Without its check it fails at the rename: the database keeps its name, and takes sessions.
    let params: RestoreDumpParams =
        serde_json::from_value(json!({ "database": "main", "backup": dumped.backup })).unwrap();
    RestoreDump.run(&params, &run.context()).await.unwrap_err();
    assert_eq!(within(&site, "shop", "SELECT count(*) FROM t"), "101");
    within(&site, "shop", "ROLLBACK PREPARED 'held'");
    let restored = restore(&run, &dumped.backup, json!({})).await;
    assert_eq!(restored.compared, Compared::Earlier, "what was verified is not restored a second time");
    assert_eq!(within(&site, "shop", "SELECT count(*) FROM t"), "100");
    let names = site
        .cluster
        .sql("SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE datname LIKE 'shop%'");
    assert_eq!(names, format!("shop {}", restored.old_dbname.unwrap()));
}

#[tokio::test]
async fn roles_that_the_server_lacks_come_back_with_their_rights() {
    let site = site(Depot::default());
    let run = site.run();
    let dumped = dump(&run, json!({})).await;
    site.cluster.sql("DROP DATABASE shop");
    site.cluster.sql("DROP ROLE app");
    site.cluster.sql("DROP ROLE readers");
    site.cluster.sql("ALTER SYSTEM SET log_statement = 'all'");
    site.cluster.sql("ALTER SYSTEM SET log_min_duration_statement = 0");
    site.cluster.sql("SELECT pg_reload_conf()");
    until("the log is talkative", || site.cluster.sql("SHOW log_statement") == "all");
    let restored = restore(&run, &dumped.backup, json!({})).await;
    assert_eq!(restored.roles, ["app", "readers"]);
    assert_eq!(restored.old_dbname, None);
    let may = "SELECT pg_has_role('app', 'readers', 'MEMBER') AND has_table_privilege('readers', 'public.orders', 'SELECT') \
               AND (SELECT rolpassword LIKE 'SCRAM%' FROM pg_authid WHERE rolname = 'app')";
    assert_eq!(within(&site, "shop", may), "t");
    assert!(!site.cluster.log().contains("SCRAM-SHA-256$"), "a password's hash is in the server's log");
}

#[tokio::test]
async fn a_group_that_the_server_lacks_comes_back_with_its_members() {
    let site = site(Depot::default());
    site.cluster.sql("CREATE ROLE writers");
    site.cluster.sql("GRANT writers TO app");
    let run = site.run();
    let dumped = dump(&run, json!({})).await;
    site.cluster.sql("DROP DATABASE shop");
    site.cluster.sql("DROP ROLE readers");
    // Whoever took this away meant it.
    site.cluster.sql("REVOKE writers FROM app");
    let restored = restore(&run, &dumped.backup, json!({})).await;
    assert_eq!(restored.roles, ["readers"]);
    let member = |group: &str| site.cluster.sql(&format!("SELECT pg_has_role('app', '{group}', 'MEMBER')"));
    assert_eq!((member("readers").as_str(), member("writers").as_str()), ("t", "f"));
    assert!(site.said().contains("`app` is a member of `readers` again"), "{}", site.said());
}

#[tokio::test]
async fn without_roles_the_restore_is_refused_by_name_and_nothing_has_the_name() {
    let site = site(Depot::default());
    let run = site.run();
    let dumped = dump(&run, json!({})).await;
    site.cluster.sql("DROP DATABASE shop");
    site.cluster.sql("DROP ROLE app");
    let error = try_restore(&run, &dumped.backup, json!({ "roles": "skip" })).await.unwrap_err();
    assert!(error.info().help.as_ref().unwrap().contains("no_owner"), "{:#?}", error.info());
    assert_eq!(site.cluster.sql("SELECT count(*) FROM pg_database WHERE datname = 'shop'"), "0");
    let other = json!({ "roles": "skip", "no_owner": true, "no_privileges": true, "dbname": "other" });
    // Settings of a role that is not there cannot be given.
    let error = try_restore(&site.run(), &dumped.backup, other).await.unwrap_err();
    assert!(format!("{:?}", error.info()).contains("app"), "{:#?}", error.info());
}

#[tokio::test]
async fn without_its_owner_a_database_is_restored_with_the_rights_that_the_owner_had_given() {
    let site = site(Depot::default());
    let run = site.run();
    let dumped = dump(&run, json!({})).await;
    restore(&site.run(), &dumped.backup, json!({ "no_owner": true, "dbname": "other" })).await;
    let owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'other'";
    assert_eq!(site.cluster.sql(owner), "postgres");
    let may = |role: &str, right: &str| {
        site.cluster.sql(&format!("SELECT has_database_privilege('{role}', 'other', '{right}')"))
    };
    assert_eq!((may("readers", "CONNECT").as_str(), may("readers", "TEMP").as_str()), ("t", "f"));
    assert_eq!(within(&site, "other", "SELECT count(*) FROM users"), "500");
    assert_eq!(within(&site, "other", "SELECT has_table_privilege('readers', 'orders', 'SELECT')"), "t");
    // One table whose name is not what it is in SQL without quotes: its rows are compared.
    let one = json!({ "tables": ["Odd \"Name"], "no_owner": true, "no_privileges": true, "dbname": "one" });
    let odd = restore(&site.run(), &dumped.backup, one).await;
    assert_ne!(serde_json::to_value(&odd).unwrap()["compared"], "nothing", "{odd:?}");
}

#[tokio::test]
async fn a_dump_that_fails_leaves_no_backup() {
    let site = site(Depot::default());
    let run = site.run();
    let params: DumpParams = serde_json::from_value(json!({ "database": "main", "dbnames": ["missing"] })).unwrap();
    let error = Dump.run(&params, &run.context()).await.unwrap_err();
    assert!(format!("{:?}", error.info()).contains("missing"), "{:#?}", error.info());
    // A dump whose server ends its session in the middle: both ends of the stream see it.
    let lock = "BEGIN; LOCK TABLE public.orders IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(600)";
    let mut holder = site
        .cluster
        .command("psql")
        .args(["-XAtq", "-U", "postgres", "-d", "shop", "-h"])
        .arg(site.cluster.socket_dir())
        .args(["-p", &site.cluster.port().to_string(), "-c", lock])
        .spawn()
        .unwrap();
    until("the lock is held", || {
        site.cluster.sql(
            "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation IS NOT NULL",
        ) != "0"
    });
    let context = run.context();
    let params: DumpParams =
        serde_json::from_value(json!({ "database": "main", "dbnames": ["shop"], "facts": "off" })).unwrap();
    let dumping = Dump.run(&params, &context);
    let ending = tokio::task::spawn_blocking({
        let (bin, socket, port) = (site.cluster.bin().to_owned(), site.cluster.socket_dir(), site.cluster.port());
        move || {
            let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'LOCK TABLE%' AND wait_event_type = 'Lock'";
            until("`pg_dump` waits", || {
                let mut command = std::process::Command::new(bin.join("psql"));
                command.args(["-XAtq", "-U", "postgres", "-d", "postgres", "-h"]).arg(&socket);
                let output = command.args(["-p", &port.to_string(), "-c", end]).output().unwrap();
                output.stdout.starts_with(b"1")
            });
        }
    });
    let error = dumping.await.unwrap_err();
    ending.await.unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(error.to_string().contains("pg_dump"), "{:#?}", error.info());
    let stored = site.stored();
    assert!(!stored.iter().any(|name| name == "manifest.json"), "{stored:?}");
}

#[tokio::test]
async fn a_damaged_dump_is_noticed_before_anything_is_touched() {
    let site = site(Depot::default());
    let run = site.run();
    let dumped = dump(&run, json!({})).await;
    let path = listing(&site.depot.root);
    let path = path.iter().find(|line| line.contains("/database.dump.zst ")).unwrap();
    let path = path.split_whitespace().next().unwrap();
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, &bytes).unwrap();
    for mode in ["swap", "replace"] {
        let error = try_restore(&run, &dumped.backup, json!({ "mode": mode })).await.unwrap_err();
        assert!(error.info().help.is_some(), "{:#?}", error.info());
        assert_eq!(within(&site, "shop", "SELECT count(*) FROM public.orders"), "300", "{mode}");
    }
    let names = site.cluster.sql("SELECT count(*) FROM pg_database WHERE datname LIKE 'shop%'");
    assert_eq!(names, "1");
}

#[tokio::test]
async fn a_restore_killed_between_shutting_the_old_database_and_the_rename_is_resumed_to_its_end() {
    let site = site(Depot::default());
    dump(&site.run(), json!({})).await;
    within(&site, "shop", "CREATE TABLE public.later (n int)");
    let cli = Cli::new();
    let inventory = format!(
        "version: 1\ndatabases: {{ main: {{ pgdata: {}, port: {}, socket: {}, bin: {}, store: here, prefix: main }} }}\n\
         stores: {{ here: {{ url: 'file://{}' }} }}\n",
        site.cluster.pgdata().display(),
        site.cluster.port(),
        site.cluster.socket_dir().display(),
        site.cluster.bin().display(),
        site.depot.root.display(),
    );
    cli.file("inventory.yaml", &inventory);
    let steps = "version: 1\nname: back\nsteps:\n  - id: find\n    uses: backup.find\n    \
                 with: { database: main, kind: postgres.dump, dbname: shop }\n  - id: restore\n    uses: postgres.restore_dump\n    \
                 with: { database: main, backup: '{{ steps.find.backup }}', mode: swap }\n";
    cli.file("back.yaml", steps);
    // It holds what a rename needs, and nothing that shutting does.
    let hold = "BEGIN; COMMENT ON DATABASE shop IS 'held'; SELECT pg_sleep(600)";
    let mut holder = site.cluster.command("psql");
    holder.args(["-XAtq", "-U", "postgres", "-d", "postgres", "-h"]).arg(site.cluster.socket_dir());
    let mut holder = holder.args(["-p", &site.cluster.port().to_string(), "-c", hold]).spawn().unwrap();
    let held =
        "SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND granted AND mode = 'ShareUpdateExclusiveLock'";
    until("the lock is held", || site.cluster.sql(held) != "0");
    let live = cli.spawn(&["run", "back.yaml"]);
    let waits = "FROM pg_locks WHERE locktype = 'object' AND NOT granted AND mode = 'AccessExclusiveLock'";
    until("the rename waits", || site.cluster.sql(&format!("SELECT count(*) {waits}")) != "0");
    let open = "SELECT datallowconn FROM pg_database WHERE datname = 'shop'";
    assert_eq!(site.cluster.sql(open), "f");
    assert!(live.kill());
    site.cluster.sql(&format!("SELECT pg_terminate_backend(pid) {waits}"));
    site.cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'BEGIN; COMMENT%'");
    holder.wait().unwrap();
    until("nobody waits any more", || site.cluster.sql(&format!("SELECT count(*) {waits}")) == "0");
    assert_eq!(site.cluster.sql(open), "f", "between the two");
    cli.run(&["resume", "last"]).ends(0);
    assert_eq!(
        within(&site, "shop", "SELECT to_regclass('public.later') IS NULL, count(*) FROM public.orders"),
        "t|300"
    );
    let old = site.cluster.sql("SELECT datname FROM pg_database WHERE datname LIKE 'shop\\_old%' AND datallowconn");
    assert_eq!(within(&site, &old, "SELECT to_regclass('public.later') IS NOT NULL"), "t");
    assert_eq!(site.cluster.sql("SELECT count(*) FROM pg_database WHERE datname LIKE 'shop%'"), "2");
}

#[tokio::test]
async fn an_encrypted_dump_shows_nothing_and_comes_back() {
    let site = site(Depot::default().encrypted());
    let run = site.run();
    let dumped = dump(&run, json!({})).await;
    let mut looked = 0;
    for line in listing(&site.depot.root).iter().filter(|line| line.contains(" 100")) {
        let bytes = fs::read(line.split_whitespace().next().unwrap()).unwrap();
        assert!(!bytes.windows(MARK.len()).any(|part| part == MARK.as_bytes()), "{line}");
        looked += 1;
    }
    assert!(looked > 3 && site.stored().iter().any(|name| name == "database.dump.zst.age"), "{:?}", site.stored());
    assert_eq!(restore(&run, &dumped.backup, json!({ "mode": "replace" })).await.compared, Compared::Hashes);
    assert_eq!(within(&site, "shop", "SELECT count(*) FROM public.orders"), "300");
}

#[tokio::test]
async fn a_partial_dump_counts_and_compares_its_own_tables_only() {
    let site = site(Depot::default());
    let run = site.run();
    let dumped = dump(&run, json!({ "exclude_tables": ["public.parts*"], "exclude_table_data": ["orders"] })).await;
    assert_eq!((dumped.dumps[0].tables, dumped.dumps[0].rows), (2, 503));
    let restored = restore(&run, &dumped.backup, json!({ "mode": "beside" })).await;
    assert_eq!(within(&site, &restored.dbname, "SELECT count(*) FROM public.orders"), "0");
}

#[tokio::test]
async fn every_database_of_a_server_is_a_backup_of_its_own_in_every_store() {
    let site = site(Depot::default());
    let url = format!("file://{}", site.cluster.folder("second").display());
    let second = StoreEntry { url: url.clone(), ..StoreEntry::default() };
    Opening::plain(&second, "second").initialize().unwrap();
    site.beside.lock().unwrap().insert("second".to_owned(), second);
    let broken = StoreEntry { url: format!("{url}-closed"), read_only: true, ..StoreEntry::default() };
    site.beside.lock().unwrap().insert("broken".to_owned(), broken);
    let run = site.run();
    let more = json!({ "dbnames": "all", "stores": ["primary", "second", "broken"], "at_least": 2, "tier": "daily" });
    let params: DumpParams = serde_json::from_value(with(json!({ "database": "main" }), &more)).unwrap();
    let dumped = Dump.run(&params, &run.context()).await.unwrap_or_else(|error| panic!("{:#?}", error.info()));
    let names: Vec<&str> = dumped.dumps.iter().map(|one| one.dbname.as_str()).collect();
    assert_eq!(names, ["postgres", "shop"]);
    for one in &dumped.dumps {
        let stores: Vec<&str> = one.copies.iter().map(|copy| copy.store.as_str()).collect();
        assert_eq!(stores, ["primary", "second"], "{}", one.dbname);
    }
    assert!(site.said().contains("store `broken` did not get the backup"), "{}", site.said());
    // Another attempt of the same step finds both and makes none anew.
    let again = Dump.run(&params, &run.context()).await.unwrap();
    assert_eq!(again.dumps, dumped.dumps);
}

#[tokio::test]
async fn a_store_that_an_attempt_did_not_reach_gets_the_dump_that_the_others_have() {
    let site = site(Depot::default());
    let url = format!("file://{}", site.cluster.folder("second").display());
    let closed = StoreEntry { url: format!("{url}-closed"), read_only: true, ..StoreEntry::default() };
    site.beside.lock().unwrap().insert("second".to_owned(), closed);
    let run = site.run();
    let with = json!({ "database": "main", "dbnames": ["shop"], "format": "directory", "stores": ["primary", "second"], "at_least": 1 });
    let params: DumpParams = serde_json::from_value(with).unwrap();
    let dumped = Dump.run(&params, &run.context()).await.unwrap_or_else(|error| panic!("{:#?}", error.info()));
    assert_eq!(dumped.dumps[0].copies.len(), 1);
    within(&site, "shop", "DELETE FROM public.orders WHERE id % 2 = 0");
    // Packed otherwise there, and of the same moment.
    let compression = Some(Compression { format: CompressionFormat::None, level: None });
    let second = StoreEntry { url, compression, ..StoreEntry::default() };
    Opening::plain(&second, "second").initialize().unwrap();
    site.beside.lock().unwrap().insert("second".to_owned(), second);
    let dumped = Dump.run(&params, &run.context()).await.unwrap_or_else(|error| panic!("{:#?}", error.info()));
    assert!(site.said().contains("gets a copy of the backup"), "{}", site.said());
    let [first, second] = dumped.dumps[0].copies.as_slice() else { panic!("{dumped:?}") };
    assert_eq!((first.id.as_str(), second.store.as_str()), (second.id.as_str(), "second"));
    assert_eq!(dumped.dumps[0].rows, 805, "of the moment that the first one has");
    let manifest = |root: &Path| -> Value {
        let found = listing(root).into_iter().filter_map(|line| line.split_whitespace().next().map(ToOwned::to_owned));
        let path = found.into_iter().find(|path| path.ends_with("/manifest.json")).unwrap();
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    };
    let (first, second) = (manifest(&site.depot.root), manifest(&site.cluster.dir().join("second")));
    assert_eq!((&first["started_at"], &first["facts"]), (&second["started_at"], &second["facts"]));
    let dump = |manifest: &Value| manifest["objects"].as_array().unwrap()[0].clone();
    assert_eq!(dump(&first)["plain"]["sha256"], dump(&second)["sha256"], "{second:#}");
    assert_eq!(dump(&first)["archive_of"], dump(&second)["archive_of"]);
}

#[tokio::test]
async fn a_lacking_store_gets_a_dump_of_its_own_where_no_key_here_reads_the_one_of_the_others() {
    let mut depot = Depot::default().encrypted();
    depot.entry.encryption.as_mut().unwrap().identities.clear();
    let site = site(depot);
    let url = format!("file://{}", site.cluster.folder("second").display());
    let closed = StoreEntry { url: format!("{url}-closed"), read_only: true, ..StoreEntry::default() };
    site.beside.lock().unwrap().insert("second".to_owned(), closed);
    let run = site.run();
    let with = json!({ "database": "main", "dbnames": ["shop"], "stores": ["primary", "second"] });
    let params: DumpParams = serde_json::from_value(with).unwrap();
    let attempt = async || Dump.run(&params, &run.context()).await;
    attempt().await.unwrap_err();
    within(&site, "shop", "DELETE FROM public.orders WHERE id % 2 = 0");
    site.beside.lock().unwrap().insert("second".to_owned(), StoreEntry { url, ..StoreEntry::default() });
    let dumped = attempt().await.unwrap_or_else(|error| panic!("{:#?}", error.info()));
    assert!(site.said().contains("store `second` gets a dump of its own"), "{}", site.said());
    let [first, second] = dumped.dumps[0].copies.as_slice() else { panic!("{dumped:?}") };
    assert_eq!((second.store.as_str(), second.id.as_str()), ("second", format!("{}.second", first.id).as_str()));
    assert_eq!(dumped.dumps[0].rows, 805, "the first is of the moment before");
    let stored = format!("main/dump/{}/manifest.json", second.id);
    let manifest = fs::read(site.cluster.dir().join("second").join(stored)).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let rows = |table: &str| manifest["facts"]["databases"]["shop"]["tables"][table]["rows"].clone();
    assert_eq!((rows("public.orders"), rows("public.users")), (json!(150), json!(500)), "the second is of its own");
    // Another attempt finds both, and takes none anew.
    assert_eq!(attempt().await.unwrap().dumps, dumped.dumps);
}

#[tokio::test]
async fn the_format_of_a_dump_is_what_its_content_says_and_not_its_name() {
    let site = site(Depot::default());
    let run = site.run();
    for (name, format) in [("shop.sql", "-Fc"), ("shop.dump", "-Fp"), ("shop.tar", "-Fc"), ("shop", "-Ft")] {
        let path = site.cluster.folder("other").join(name);
        let (socket, port) = (site.cluster.socket_dir().display().to_string(), site.cluster.port().to_string());
        let file = path.display().to_string();
        site.cluster.output("pg_dump", &["-U", "postgres", "-h", &socket, "-p", &port, format, "-f", &file, "shop"]);
        let with = json!({ "source": "main", "kind": "postgres.dump", "paths": [path], "stores": ["primary"], "tier": "other" });
        let params: CreateParams = serde_json::from_value(with).unwrap();
        let run = site.run();
        let created = Create.run(&params, &run.context()).await.unwrap_or_else(|error| panic!("{:#?}", error.info()));
        let more = json!({ "mode": "beside", "dbname": "copy" });
        let restored = restore(&run, &created.backup, more).await;
        assert_eq!((restored.compared, restored.rows), (Compared::Nothing, 805), "{name} {format}");
        site.cluster.sql(&format!("DROP DATABASE \"{}\"", restored.dbname));
    }
    // Something that is no dump at all.
    let path = site.cluster.folder("other").join("real.dump");
    fs::write(&path, b"\x1f\x8b\x08 not even gzip").unwrap();
    let with = json!({ "source": "main", "kind": "postgres.dump", "paths": [path], "stores": ["primary"] });
    let params: CreateParams = serde_json::from_value(with).unwrap();
    let created = Create.run(&params, &run.context()).await.unwrap();
    let error = try_restore(&run, &created.backup, json!({ "dbname": "shop" })).await.unwrap_err();
    assert!(error.to_string().contains("compressed with gzip"), "{error}");
    assert_eq!(within(&site, "shop", "SELECT count(*) FROM public.orders"), "300");
}

#[tokio::test]
async fn a_part_of_a_database_never_takes_the_name_of_the_whole() {
    let site = site(Depot::default());
    let run = site.run();
    let whole = dump(&run, json!({})).await;
    let part = dump(&site.run(), json!({ "exclude_tables": ["public.parts*"] })).await;
    let asked = [(&whole, json!({ "tables": ["users"] })), (&part, json!({})), (&part, json!({ "mode": "replace" }))];
    for (dumped, more) in asked {
        let run = site.run();
        let refused = try_restore(&run, &dumped.backup, more.clone()).await.unwrap_err();
        assert!(refused.to_string().contains("name of the whole"), "{refused}");
        // Without its check it is refused as well.
        let params = with(json!({ "database": "main", "backup": dumped.backup }), &more);
        let params: RestoreDumpParams = serde_json::from_value(params).unwrap();
        let refused = RestoreDump.run(&params, &run.context()).await.unwrap_err();
        assert!(refused.to_string().contains("name of the whole"), "{refused}");
    }
    assert_eq!(within(&site, "shop", "SELECT count(*) FROM public.users"), "500");
    // A name that fits nothing is no empty database.
    let misspelt = try_restore(&site.run(), &whole.backup, json!({ "mode": "beside", "tables": ["uzers"] })).await;
    assert!(format!("{:?}", misspelt.unwrap_err().info()).contains("uzers"));
    site.cluster.sql("DROP DATABASE shop");
    restore(&site.run(), &part.backup, json!({})).await;
    assert_eq!(within(&site, "shop", "SELECT count(*) FROM public.users"), "500");
}

#[tokio::test]
async fn a_dump_goes_into_a_database_that_is_there_by_one_or_many_and_cleans_only_where_that_is_said() {
    let site = site(Depot::default());
    let then = portrait(&site, "shop");
    let backup = dump(&site.run(), json!({})).await.backup;
    let into = |more: Value| with(json!({ "mode": "into" }), &more);
    let rows = |dbname: &str| {
        within(&site, dbname, "SELECT (SELECT count(*) FROM public.users), (SELECT count(*) FROM public.orders)")
    };

    // What is there stands in the way; it is one transaction, so nothing was changed.
    within(&site, "shop", "DELETE FROM public.orders WHERE id > 100");
    let error = try_restore(&site.run(), &backup, into(json!({}))).await.unwrap_err();
    assert!(format!("{:?}", error.info()).contains("already exists"), "{:#?}", error.info());
    assert_eq!(rows("shop"), "500|100");
    // Dropped and made anew, what is there and what is not.
    let cleaned = restore(&site.run(), &backup, into(json!({ "clean": true }))).await;
    assert_eq!((cleaned.dbname.as_str(), cleaned.old_dbname, cleaned.compared), ("shop", None, Compared::Hashes));
    assert_eq!(portrait(&site, "shop"), then);
    within(&site, "shop", "DROP TABLE public.orders CASCADE");
    let error = try_restore(&site.run(), &backup, into(json!({ "clean": true }))).await.unwrap_err();
    assert!(format!("{:?}", error.info()).contains("does not exist"), "{:#?}", error.info());
    assert_eq!(
        within(&site, "shop", "SELECT count(*), to_regclass('public.orders') IS NULL FROM public.users"),
        "500|t"
    );
    restore(&site.run(), &backup, into(json!({ "clean": true, "if_exists": true }))).await;
    assert_eq!(portrait(&site, "shop"), then);
    // Into an empty one, by several connections at once; the database's own state is left as it is.
    site.cluster.sql("CREATE DATABASE other");
    let other = restore(&site.run(), &backup, into(json!({ "dbname": "other", "jobs": 3 }))).await;
    assert_eq!((other.dbname.as_str(), other.compared), ("other", Compared::Hashes));
    assert_eq!(rows("other"), "500|300");
    assert_eq!(site.cluster.sql("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'other'"), "postgres");
    // One schema of it, into a database that has it not.
    site.cluster.sql("CREATE DATABASE part");
    let part = restore(&site.run(), &backup, into(json!({ "dbname": "part", "schemas": ["public"] }))).await;
    assert_eq!((part.compared, rows("part").as_str()), (Compared::Hashes, "500|300"));
}

#[tokio::test]
async fn a_step_leaves_alone_what_another_step_of_the_same_run_restored() {
    let site = site(Depot::default());
    let run = site.run();
    let dumped = dump(&run, json!({})).await;
    let first = restore(&run, &dumped.backup, json!({ "mode": "beside" })).await;
    within(&site, &first.dbname, "CREATE TABLE public.looked_at (n int)");
    let params = json!({ "database": "main", "backup": dumped.backup, "mode": "beside" });
    let params: RestoreDumpParams = serde_json::from_value(params).unwrap();
    let second = RunContext { step: "second".parse().unwrap(), ..run.context() };
    let refused = RestoreDump.run(&params, &second).await.unwrap_err();
    assert!(refused.to_string().contains("another step of this run made it"), "{refused}");
    assert_eq!(within(&site, &first.dbname, "SELECT count(*) FROM public.looked_at"), "0");
}

#[tokio::test]
async fn sql_text_is_refused_what_only_an_archive_can_keep() {
    let site = site(Depot::default());
    let run = site.run();
    let dumped = dump(&run, json!({ "format": "plain" })).await;
    for more in [json!({ "no_privileges": true }), json!({ "mode": "into", "tables": ["users"] })] {
        let refused = try_restore(&site.run(), &dumped.backup, more).await.unwrap_err();
        assert!(refused.to_string().contains("loaded as it is"), "{refused}");
    }
}

/// The server's programs, with a `pg_dump` that says it began, and for the first time waits for a gate.
fn with_gate(site: &Site, (began, gate): (&Path, &Path)) -> Database {
    let (folder, real) = (site.cluster.folder("programs"), site.cluster.bin().join("pg_dump"));
    for entry in fs::read_dir(site.cluster.bin()).unwrap().flatten().filter(|entry| entry.file_name() != "pg_dump") {
        std::os::unix::fs::symlink(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in *--version*) exec {real} \"$@\";; esac\n\
         if mkdir {began} 2>/dev/null; then until test -e {gate}; do sleep 0.05; done; fi\nexec {real} \"$@\"\n",
        real = real.display(),
        began = began.display(),
        gate = gate.display()
    );
    let program = folder.join("pg_dump");
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    Database { bin: Some(folder), ..site.entry() }
}

/// Runs SQL in `shop` from beside, to its end.
fn asks(site: &Site, sql: &str) -> std::process::Command {
    let mut command = site.cluster.command("psql");
    command
        .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "shop", "-h"])
        .arg(site.cluster.socket_dir());
    command.args(["-p", &site.cluster.port().to_string(), "-c", sql]);
    command
}

const HOLDERS: &str =
    "SELECT count(DISTINCT pid) FROM pg_locks WHERE relation = 'public.staging'::regclass AND granted";
const WAITERS: &str = "SELECT count(*) FROM pg_locks WHERE relation = 'public.staging'::regclass AND NOT granted";

#[tokio::test]
async fn a_table_that_is_emptied_while_it_is_dumped_has_the_facts_of_its_dump() {
    let site = site(Depot::default());
    within(&site, "shop", "CREATE TABLE a_large AS SELECT n, md5(n::text) FROM generate_series(1, 400000) n");
    within(&site, "shop", "CREATE TABLE staging AS SELECT n FROM generate_series(1, 1000) n");
    let (began, gate) = (site.cluster.dir().join("began"), site.cluster.dir().join("gate"));
    site.others.lock().unwrap().insert("gated".to_owned(), with_gate(&site, (&began, &gate)));
    let count = "SELECT count(*) FROM public.staging";
    // Behind both: the session that counts and `pg_dump`.
    let (mut look, mut empty) = (asks(&site, HOLDERS), asks(&site, "TRUNCATE public.staging"));
    let behind = tokio::task::spawn_blocking(move || {
        until("both hold the table", || look.output().unwrap().stdout.starts_with(b"2"));
        assert!(empty.status().unwrap().success());
    });
    let run = site.run();
    let dumped = dump(&run, json!({})).await;
    behind.await.unwrap();
    assert_eq!(within(&site, "shop", count), "0");
    let restored = restore(&run, &dumped.backup, json!({ "mode": "beside" })).await;
    assert_eq!((restored.compared, within(&site, &restored.dbname, count).as_str()), (Compared::Hashes, "1000"));
    // Between them: each would wait for the other without an end.
    within(&site, "shop", "INSERT INTO public.staging SELECT generate_series(1, 1000)");
    let (mut look, mut empty) = (asks(&site, WAITERS), asks(&site, "TRUNCATE public.staging"));
    let between = tokio::task::spawn_blocking(move || {
        until("`pg_dump` is to begin", || began.exists());
        let mut child = empty.spawn().unwrap();
        until("the table is asked for", || look.output().unwrap().stdout.starts_with(b"1"));
        fs::write(&gate, "").unwrap();
        assert!(child.wait().unwrap().success());
    });
    let run = site.run();
    let dumped = dump(&run, json!({ "database": "gated" })).await;
    between.await.unwrap();
    assert!(site.said().contains("it begins anew, behind them"), "{}", site.said());
    let restored = restore(&run, &dumped.backup, json!({ "database": "gated", "mode": "beside" })).await;
    assert_eq!((restored.compared, within(&site, &restored.dbname, count).as_str()), (Compared::Hashes, "0"));
}

#[tokio::test]
async fn a_dump_with_a_long_table_of_contents_is_listed_also_where_no_key_reads_it() {
    let mut depot = Depot::default().encrypted();
    depot.entry.encryption.as_mut().unwrap().identities.clear();
    let site = Site::over(depot, &[]);
    let url = format!("file://{}", site.cluster.folder("open").display());
    let open = StoreEntry { url, ..StoreEntry::default() };
    Opening::new(&open, "open", std::sync::Arc::new(site.depot.secrets.clone())).initialize().unwrap();
    site.beside.lock().unwrap().insert("open".to_owned(), open);
    site.cluster.sql("CREATE DATABASE shop");
    let long = "DO $x$ BEGIN EXECUTE format('CREATE FUNCTION long() RETURNS int LANGUAGE plpgsql AS %L', \
                'BEGIN /* ' || repeat('words ', 3500000) || '*/ RETURN 1; END'); END $x$";
    within(&site, "shop", long);
    within(&site, "shop", "CREATE TABLE t AS SELECT generate_series(1, 10) AS n");
    for format in ["custom", "tar", "directory"] {
        // Only tables that are listed have facts in a part.
        let more = json!({ "format": format, "stores": ["primary", "open"], "exclude_tables": ["none_such"] });
        let dumped = dump(&site.run(), more).await;
        let one = &dumped.dumps[0];
        assert_eq!((one.copies.len(), one.tables, one.rows), (2, 1, 10), "{format}: {}", site.said());
        assert!(one.plain_size_bytes > 16 << 20, "{format}: {}", one.plain_size_bytes);
    }
    assert!(site.said().contains("no key here reads it"), "{}", site.said());
}

#[tokio::test]
async fn a_pattern_that_fits_nothing_is_refused_and_one_that_excludes_nothing_is_said() {
    let site = site(Depot::default());
    let check = async |more: Value| {
        let params = with(json!({ "database": "main", "dbnames": ["shop"] }), &more);
        let params: DumpParams = serde_json::from_value(params).unwrap();
        let found = Dump.check(&params, &site.run().check_context()).await.unwrap();
        (found.refused(), serde_json::to_string(&found.0).unwrap())
    };
    for more in [json!({ "tables": ["public.users", "public.uzers"] }), json!({ "schemas": ["publik"] })] {
        let (refused, told) = check(more.clone()).await;
        assert!(refused && told.contains("fits nothing in database `shop`"), "{more}: {told}");
    }
    let right = json!({ "tables": ["public.US*", "orders", "\"Odd \"\"Name\"", "public.parts?1"], "exclude_table_data": ["parts_1"] });
    let (refused, told) = check(right.clone()).await;
    assert!(!refused && !told.contains("excludes nothing"), "{told}");
    assert_eq!(dump(&site.run(), right).await.dumps[0].tables, 3);
    let (refused, told) = check(json!({ "exclude_table_data": ["public.userz"] })).await;
    assert!(!refused && told.contains("`public.userz` excludes nothing in database `shop`"), "{told}");
    // Without its check the dump itself finds out.
    let params = json!({ "database": "main", "dbnames": ["shop"], "tables": ["public.users", "public.uzers"] });
    let params: DumpParams = serde_json::from_value(params).unwrap();
    let error = Dump.run(&params, &site.run().context()).await.unwrap_err();
    assert!(format!("{:?}", error.info()).contains("uzers"), "{:#?}", error.info());
}

/// The versions differ in their tables of contents; a pipe cannot be gone back in, so that no position is written.
#[test]
fn custom_dumps_of_every_version_are_read_to_their_last_block_and_a_cut_off_one_is_noticed() {
    for major in [13, 14, 15, 16, 17, 18] {
        let bin = if major == 15 { server_bin() } else { programs_of(major) };
        let cluster = Cluster::create_by(bin, &[], &[]);
        cluster.up();
        cluster.sql(
            "CREATE TABLE t(n int, x text); INSERT INTO t SELECT n, repeat('x', n) FROM generate_series(1, 300) n",
        );
        cluster.sql("CREATE TABLE e(); CREATE VIEW v AS SELECT * FROM t; SELECT lo_from_bytea(0, 'large'), lo_from_bytea(0, 'larger')");
        let (socket, port) = (cluster.socket_dir().display().to_string(), cluster.port().to_string());
        let path = cluster.folder("dumps").join("t.dump");
        let file = path.display().to_string();
        let words = ["-U", "postgres", "-h", &socket, "-p", &port, "-Fc", "postgres"];
        for to_file in [true, false] {
            let bytes = match to_file {
                true => {
                    cluster.output("pg_dump", &[&words[..], &["-f", &file]].concat());
                    fs::read(&path).unwrap()
                }
                false => cluster.command("pg_dump").args(words).output().unwrap().stdout,
            };
            let read = read_custom_dump(&mut bytes.as_slice()).unwrap_or_else(|error| panic!("{major}: {error}"));
            assert_eq!(read.dbname.as_deref(), Some("postgres"), "{major}");
            assert!(read.server_version.unwrap().starts_with(&major.to_string()) && read.blocks >= 3, "{major}");
            for tenth in 1..10 {
                assert!(read_custom_dump(&mut &bytes[..bytes.len() * tenth / 10]).is_err(), "{major}: {tenth} of 10");
            }
            assert!(read_custom_dump(&mut &bytes[..bytes.len() - 1]).is_err(), "{major}");
        }
    }
}
