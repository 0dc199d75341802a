//! The shipped procedures that work with dumps, against a throw-away production: as drills, for real, killed, and undone.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use crate::support::cli::{Cli, listing, until};
use crate::support::recovery::{Depot, Site};

/// A production server with a database `shop`, and somebody who operates it.
struct Shop {
    site: Site,
    cli: Cli,
}

impl Shop {
    /// Starts it with three hundred orders and takes the daily backup.
    fn new() -> Self {
        let site = Site::over(Depot::default(), &[]);
        let cli = Cli::new();
        let cluster = &site.cluster;
        cli.file(
            "inventory.yaml",
            &format!(
                "version: 1\ndatabases:\n  main: {{ pgdata: {}, port: {}, socket: {}, bin: {}, store: primary, prefix: main }}\n\
                 stores: {{ primary: {} }}\nenvironments:\n  production: {{ protected: true, default: true }}\n  \
                 drill: {{ databases: {{ main: {{ scratch: true }} }}, stores: {{ primary: {{ read_only: true }} }} }}\n",
                cluster.pgdata().display(),
                cluster.port(),
                cluster.socket_dir().display(),
                cluster.bin().display(),
                serde_json::to_string(&site.depot.entry).unwrap(),
            ),
        );
        cluster.sql("CREATE ROLE app LOGIN");
        cluster.sql("CREATE DATABASE shop OWNER app");
        let shop = Self { site, cli };
        shop.sql(
            "CREATE TABLE users (id int PRIMARY KEY); CREATE TABLE orders (id int PRIMARY KEY, \
             user_id int REFERENCES users); INSERT INTO users SELECT generate_series(1, 100); \
             INSERT INTO orders SELECT n, n % 100 + 1 FROM generate_series(1, 300) n; ALTER TABLE orders OWNER TO app",
        );
        shop.cli.run(&["run", "daily-backup", "-p", "database=main", "--confirm", "production"]).ends(0);
        fs::remove_dir_all(shop.cli.state()).unwrap();
        shop
    }

    fn psql(&self, dbname: &str, sql: &str) -> std::process::Output {
        let cluster = &self.site.cluster;
        let mut command = cluster.command("psql");
        command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", dbname, "-h"]);
        command.arg(cluster.socket_dir()).args(["-p", &cluster.port().to_string(), "-c", sql]).output().unwrap()
    }

    #[track_caller]
    fn sql(&self, sql: &str) -> String {
        let output = self.psql("shop", sql);
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    fn orders(&self) -> String {
        self.sql("SELECT count(*), coalesce(sum(id), 0) FROM orders")
    }

    fn databases(&self) -> String {
        self.site
            .cluster
            .sql("SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE datname LIKE 'shop%'")
    }
}

const WHAT: [&str; 4] = ["-p", "database=main", "-p", "dbname=shop"];
const REAL: [&str; 4] = ["-p", "incident_at=now", "--confirm", "production"];

fn args<'a>(parts: &[&[&'a str]]) -> Vec<&'a str> {
    parts.concat()
}

#[test]
fn a_dump_is_drilled_beside_production_restored_into_it_and_taken_back() {
    let shop = Shop::new();
    shop.sql("DELETE FROM orders WHERE id > 10");
    let before = (shop.orders(), shop.databases());
    shop.cli.run(&args(&[&["drill", "restore-dump"], &WHAT])).ends(0);
    assert_eq!((shop.orders(), shop.databases()), before, "a drill changes nothing");
    assert!(
        !shop.cli.state().join("scratch").read_dir().is_ok_and(|mut left| left.next().is_some()),
        "something is left"
    );
    fs::remove_dir_all(shop.cli.state()).unwrap();
    shop.cli.run(&args(&[&["run", "restore-dump"], &WHAT, &REAL])).ends(0);
    assert_eq!(shop.orders(), "300|45150");
    assert_eq!(shop.sql("SELECT tableowner FROM pg_tables WHERE tablename = 'orders'"), "app");
    let run = shop.cli.id();
    assert_eq!(shop.databases(), format!("shop shop_old_{run}"));
    shop.cli.run(&["undo", &run, "--confirm", "production"]).ends(0);
    assert_eq!(shop.orders(), before.0, "the database from before has its name again");
}

#[test]
fn a_damaged_database_is_replaced_by_its_last_good_dump_and_kept_for_analysis() {
    let shop = Shop::new();
    shop.sql("UPDATE orders SET user_id = 1; DROP TABLE IF EXISTS nothing; DELETE FROM orders WHERE id % 2 = 0");
    // Somebody is still connected, and goes on trying.
    let mut still = shop.site.cluster.command("psql");
    still.args(["-XAtq", "-U", "postgres", "-d", "shop", "-h"]).arg(shop.site.cluster.socket_dir());
    let port = shop.site.cluster.port().to_string();
    let mut still =
        still.args(["-p", &port, "-c", "SELECT pg_sleep(600)"]).stderr(std::process::Stdio::null()).spawn().unwrap();
    until("the session is there", || {
        shop.site.cluster.sql("SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop' AND state = 'active'")
            == "1"
    });
    shop.cli.run(&args(&[&["run", "data-corruption"], &WHAT, &REAL])).ends(0);
    assert!(!still.wait().unwrap().success(), "the session was ended");
    assert_eq!(shop.orders(), "300|45150");
    let old = shop.databases().split(' ').find(|name| name.contains("_old_")).unwrap().to_owned();
    let kept = shop.psql(&old, "SELECT count(*), max(user_id) FROM orders");
    assert_eq!(String::from_utf8_lossy(&kept.stdout).trim(), "150|1");
    // Taken back, nothing is lost, and the summary says nothing of a loss.
    let undone = shop.cli.run(&["undo", "last", "--confirm", "production"]).ends(0);
    assert!(!undone.err.contains("commits lost"), "{}", undone.err);
    assert_eq!(shop.orders(), "150|22500");
    fs::remove_dir_all(shop.cli.state()).unwrap();
    shop.cli.run(&args(&[&["drill", "data-corruption"], &WHAT])).ends(0);
}

#[test]
fn an_engine_that_is_killed_while_it_restores_goes_on_and_swaps_once() {
    let shop = Shop::new();
    // Loading takes long enough to be hit.
    shop.sql("INSERT INTO orders SELECT n, 1 FROM generate_series(1001, 200000) n");
    shop.cli.run(&["run", "daily-backup", "-p", "database=main", "--confirm", "production"]).ends(0);
    fs::remove_dir_all(shop.cli.state()).unwrap();
    let whole = shop.orders();
    shop.sql("DELETE FROM orders");
    let live = shop.cli.spawn(&args(&[&["run", "restore-dump"], &WHAT, &REAL]));
    until("the new database is being filled", || shop.databases().contains("_runbook_"));
    assert!(live.kill(), "it was hit alive");
    assert_eq!(shop.orders(), "0|0", "nothing has taken the name");
    shop.cli.run(&["resume", "last"]).ends(0);
    assert_eq!(shop.orders(), whole);
    let run = shop.cli.id();
    assert_eq!(shop.databases(), format!("shop shop_old_{run}"));
}

#[test]
fn a_dump_is_proved_by_the_restore_test_and_a_failing_smoke_test_is_no_proof() {
    let shop = Shop::new();
    let smoke = |sql: &str| {
        let psql = shop.site.cluster.bin().join("psql");
        let path = shop.cli.file("smoke", &format!("#!/bin/sh\nexec {} -XAtqc '{sql}'\n", psql.display()));
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        format!("smoke={}", path.display())
    };
    let test = ["drill", "restore-test-dump", "-p", "database=main", "-p", "dbname=shop", "-p"];
    let good = smoke("SELECT 1 / count(*) FROM orders");
    shop.cli.run(&args(&[&test, &[&good]])).ends(0).says("restore proof of backup");
    assert!(
        !shop.cli.state().join("scratch").read_dir().is_ok_and(|mut left| left.next().is_some()),
        "something is left"
    );
    fs::remove_dir_all(shop.cli.state()).unwrap();
    let bad = smoke("SELECT 1 / count(*) FROM orders WHERE id < 0");
    shop.cli.run(&args(&[&test, &[&bad]])).ends(10).says("division by zero").says("restore proof of backup");
    // A program that goes away before it is asked says nothing of the backup, good or bad.
    fs::remove_dir_all(shop.cli.state()).unwrap();
    let gone = smoke("SELECT 1");
    let steps = serde_json::json!([
        { "id": "choose", "uses": "backup.find", "with": { "database": "main", "kind": "postgres.dump", "dbname": "shop" } },
        { "id": "load", "uses": "postgres.restore_dump", "with": { "database": "main", "backup": "{{ steps.choose.backup }}" } },
        { "id": "prove", "uses": "postgres.check", "with": { "database": "main", "instance": "{{ steps.load.instance }}",
          "backup": "{{ steps.choose.backup }}", "checks": [{ "name": "content", "facts": "counts" }] } },
        { "id": "lose", "uses": "exec", "effect": "none", "with": { "argv": ["rm", gone.trim_start_matches("smoke=")] } },
        { "id": "smoke", "uses": "postgres.check", "with": { "database": "main", "instance": "{{ steps.load.instance }}",
          "checks": [{ "name": "smoke", "smoke": { "command": [gone.trim_start_matches("smoke=")] }, "dbname": "shop" }] } },
    ]);
    let text = serde_json::json!({ "version": 1, "name": "test", "steps": steps });
    shop.cli.file("test.yaml", &text.to_string());
    let ran = shop.cli.run(&["drill", "test.yaml"]).ends(10);
    assert!(!ran.err.contains("restore proof of backup"), "{}", ran.err);
}

const FROM_A_SCRIPT: &str = "version: 1
name: from-a-script
steps:
  - id: choose
    uses: backup.find
    with: { database: main, dbname: shop, location: { store: offsite, prefix: daily, layout: dumps } }
  - id: restore
    uses: postgres.restore_dump
    with: { database: main, dbname: shop, backup: '{{ steps.choose.backup }}' }
";

#[test]
fn a_dump_of_a_script_is_restored_from_a_second_store_that_may_only_be_read() {
    let shop = Shop::new();
    let offsite = shop.site.cluster.folder("offsite");
    let daily = shop.site.cluster.folder("offsite/daily");
    let dump = format!("--file={}", daily.join("shop_20260128_020000.dump").display());
    let (socket, port) = (shop.site.cluster.socket_dir(), shop.site.cluster.port().to_string());
    let socket = socket.to_string_lossy();
    shop.site
        .cluster
        .output("pg_dump", &["--format=custom", &dump, "--host", &socket, "--port", &port, "-U", "postgres", "shop"]);
    let inventory = shop.cli.read("inventory.yaml");
    let second = format!("stores: {{ offsite: {{ url: 'file://{}', read_only: true }},", offsite.display());
    shop.cli.file("inventory.yaml", &inventory.replace("stores: { primary: {\"", &format!("{second} primary: {{\"")));
    shop.sql("DELETE FROM orders WHERE id > 10");
    shop.cli.file("restore.yaml", FROM_A_SCRIPT);
    let before = listing(&offsite);
    shop.cli.run(&["run", "restore.yaml", "--confirm", "production"]).ends(0);
    assert_eq!(shop.orders(), "300|45150");
    assert_eq!(listing(&offsite), before);
}

#[test]
fn a_role_that_may_not_create_databases_and_a_dump_that_is_gone_are_noticed_before_anything_stops() {
    let shop = Shop::new();
    shop.site.cluster.sql("CREATE ROLE keeper LOGIN NOCREATEDB; GRANT pg_read_all_data, pg_monitor TO keeper");
    let stopped = shop.cli.path("stopped");
    let sound = shop.cli.read("inventory.yaml");
    let service = format!(
        "services: {{ shop: {{ command: {{ start: [\"true\"], stop: [touch, {}], status: [\"true\"] }} }} }}\n",
        stopped.display()
    );
    let served = sound.replace("prefix: main }", "prefix: main, services: [shop] }") + &service;
    shop.cli.file("inventory.yaml", &served.replace("prefix: main,", "prefix: main, user: keeper,"));
    for runbook in ["restore-dump", "data-corruption"] {
        shop.cli.run(&args(&[&["run", runbook], &WHAT, &REAL])).ends(4).says("the role may not create databases");
    }
    shop.cli.file("inventory.yaml", &served);
    shop.site.cluster.sql("CREATE DATABASE other");
    let gone = args(&[&["run", "restore-dump", "-p", "database=main", "-p", "dbname=other"], &REAL]);
    shop.cli.run(&gone).ends(4).says("there is no backup");
    assert!(!stopped.exists(), "the services were stopped");
    assert_eq!(shop.orders(), "300|45150");
}

/// Overwrites the beginning of a table's first page, as a disk would.
fn damage(shop: &Shop, table: &str) {
    use std::os::unix::fs::FileExt as _;
    let cluster = &shop.site.cluster;
    let path = cluster.pgdata().join(shop.sql(&format!("SELECT pg_relation_filepath('{table}')")));
    cluster.stop("fast");
    fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(&[0xa5; 64], 0).unwrap();
    cluster.up();
}

#[test]
fn one_damaged_database_keeps_no_other_from_its_dump_and_is_named_with_what_to_do() {
    let shop = Shop::new();
    shop.site.cluster.sql("CREATE DATABASE zeta");
    damage(&shop, "orders");
    let restored = shop.cli.run(&args(&[&["run", "data-corruption"], &WHAT, &REAL])).ends(0);
    let old = shop.databases().split(' ').find(|name| name.contains("_old_")).unwrap().to_owned();
    restored.says(&format!("DROP DATABASE \"{old}\""));
    fs::remove_dir_all(shop.cli.state()).unwrap();
    // The shipped procedure, without the minute between its attempts.
    let text = fs::read_to_string("runbooks/postgres/daily-backup.yaml").unwrap();
    let daily = shop.cli.file("daily.yaml", &text.replace("delay: 1m", "delay: 10ms")).display().to_string();
    let daily = ["run", &daily, "-p", "database=main", "--confirm", "production"];
    let failed = shop.cli.run(&daily).ends(10);
    for said in [
        "1 of 4 databases have no dump of this run",
        &format!("`{old}`: "),
        "invalid page",
        "a dump of this run have `postgres`, `shop`, `zeta`",
        &format!("DROP DATABASE \"{old}\""),
    ] {
        assert!(failed.err.contains(said), "{said}: {}", failed.err);
    }
    // Each attempt after the first took nothing anew: one dump of each in the store.
    let of = |dbname: &str| {
        let files = listing(&shop.site.depot.root).into_iter();
        let paths = files.filter_map(|line| Some(PathBuf::from(line.split(' ').next()?)));
        let manifests = paths.filter(|path| path.ends_with("manifest.json"));
        let is_of = |path: &PathBuf| -> bool {
            let manifest: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
            manifest["dump"]["dbname"] == dbname
        };
        manifests.filter(is_of).count()
    };
    assert_eq!((of("zeta"), of("shop"), of(&old)), (1, 2, 0));
    let without = format!("exclude=playground, {old} ,");
    shop.cli.run(&args(&[&daily, &["-p", &without]])).ends(0);
    assert_eq!((of("zeta"), of(&old)), (2, 0));
    // Once it is dropped, the run that failed takes up what it lacked and reads all of them back.
    shop.site.cluster.sql(&format!("DROP DATABASE \"{old}\""));
    shop.cli.run(&daily).ends(0);
    assert_eq!(of("zeta"), 3);
}

#[test]
fn the_daily_backup_takes_templates_and_fails_for_a_database_that_takes_no_connections() {
    let shop = Shop::new();
    let cluster = &shop.site.cluster;
    cluster.sql("CREATE DATABASE forms TEMPLATE shop");
    cluster.sql("ALTER DATABASE forms IS_TEMPLATE true");
    cluster.sql("CREATE DATABASE noconn ALLOW_CONNECTIONS false");
    // What a restore put aside and somebody shut, or what it left half loaded, is nobody's loss.
    for aside in ["shop_old_20260128-143002-3fa9c1", "shop_runbook_20260128-143002-3fa9c1"] {
        cluster.sql(&format!("CREATE DATABASE \"{aside}\" ALLOW_CONNECTIONS false"));
    }
    let daily = ["run", "daily-backup", "-p", "database=main", "--confirm", "production"];
    let planned = shop.cli.run(&["dry-run", "daily-backup", "-p", "database=main"]);
    let told = format!("{}{}", planned.out, planned.err);
    assert!(
        told.contains("database `noconn` takes no connections") && told.contains("the step will fail for it"),
        "{told}"
    );
    let failed = shop.cli.run(&daily).ends(10);
    for said in [
        "1 of 4 databases have no dump of this run",
        "`noconn`: database `noconn` takes no connections (`ALLOW_CONNECTIONS false`)",
        "a dump of this run have `forms`, `postgres`, `shop`",
        "ALTER DATABASE \"noconn\" ALLOW_CONNECTIONS true",
    ] {
        assert!(failed.err.contains(said), "{said}: {}", failed.err);
    }
    assert!(!failed.err.contains("shop_old_") && !failed.err.contains("shop_runbook_"), "{}", failed.err);
    shop.cli.run(&args(&[&daily, &["-p", "exclude=noconn"]])).ends(0);
    // A template comes back as one, also over itself.
    let forms = ["-p", "database=main", "-p", "dbname=forms"];
    let restored = shop.cli.run(&args(&[&["run", "restore-dump"], &forms, &REAL])).ends(0);
    let is_template = "SELECT datistemplate FROM pg_database WHERE datname = 'forms'";
    assert_eq!(cluster.sql(is_template), "t", "{}", restored.err);
    cluster.sql("ALTER DATABASE forms IS_TEMPLATE false");
    cluster.sql("DROP DATABASE forms");
    shop.cli.run(&args(&[&["run", "restore-dump"], &forms, &REAL])).ends(0);
    assert_eq!(cluster.sql(is_template), "t");
    let orders = shop.psql("forms", "SELECT count(*) FROM orders").stdout;
    assert_eq!(String::from_utf8_lossy(&orders).trim_end(), "300");
}

impl Shop {
    /// What a script of cron left in the store, taken into the catalog; gives its id.
    fn import(&self, file: &str, content: &[u8]) -> String {
        let folder = self.site.depot.root.join("legacy");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(file), content).unwrap();
        let import =
            ["backups", "import", "primary", "legacy", "--source", "main", "--into", "main", "--write", "--json"];
        let done = self.cli.run(&import).ends(0).json();
        done["imported"][0].as_str().unwrap().to_owned()
    }

    /// What a program of PostgreSQL writes.
    fn written(&self, program: &str, args: &[&str]) -> Vec<u8> {
        let mut command = self.site.cluster.command(program);
        command.args(["-U", "postgres", "-h"]).arg(self.site.cluster.socket_dir());
        let output = command.args(["-p", &self.site.cluster.port().to_string()]).args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}

/// Where the old database is dropped first, only the first attempt sees what it had.
#[test]
fn an_imported_dump_that_replaces_a_database_keeps_what_that_had_over_its_attempts() {
    let shop = Shop::new();
    let cluster = &shop.site.cluster;
    cluster.sql("CREATE ROLE ghost");
    shop.sql("ALTER TABLE users OWNER TO ghost");
    let dump = shop.import("shop_20260128_143002.sql", &shop.written("pg_dump", &["-Fp", "shop"]));
    shop.sql("ALTER TABLE users OWNER TO app");
    cluster.sql("DROP ROLE ghost");
    cluster.sql("REVOKE CONNECT ON DATABASE shop FROM PUBLIC");
    cluster.sql("ALTER DATABASE shop SET work_mem = '17MB'");
    let state = || {
        cluster.sql(
            "SELECT pg_get_userbyid(datdba), datacl::text, setconfig FROM pg_database d \
             LEFT JOIN pg_db_role_setting ON setdatabase = d.oid AND setrole = 0 WHERE datname = 'shop'",
        )
    };
    let before = state();
    shop.cli.file(
        "replace.yaml",
        &format!(
            "version: 1\nname: replace\nsteps:\n  - {{ id: find, uses: backup.find, with: {{ database: main, kind: postgres.dump, id: \"{dump}\" }} }}\n  \
             - id: back\n    needs: [find]\n    on_failure: pause\n    uses: postgres.restore_dump\n    \
             with: {{ database: main, backup: \"{{{{ steps.find.backup }}}}\", dbname: shop, mode: replace, roles: skip }}\n"
        ),
    );
    let failed = shop.cli.run(&["run", "replace.yaml", "--confirm", "production"]).ends(13);
    failed.says("role \"ghost\" does not exist");
    cluster.sql("CREATE ROLE ghost");
    shop.cli.run(&["retry", "last", "back", "--reason", "the role is there now"]).ends(0);
    shop.cli.run(&["resume", "last"]).ends(0);
    assert_eq!((shop.orders().as_str(), state()), ("300|45150", before));
}

#[test]
fn an_imported_dump_comes_back_under_the_name_that_is_given_and_keeps_what_the_database_has_beside_it() {
    let shop = Shop::new();
    let cluster = &shop.site.cluster;
    let custom = shop.import("shop_20260128_143002.dump", &shop.written("pg_dump", &["-Fc", "shop"]));
    let text = shop.written("pg_dump", &["-Fp", "shop"]);
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(&text).unwrap();
    let plain = shop.import("shop_20260129_143002.sql.gz", &packer.finish().unwrap());
    cluster.sql("REVOKE CONNECT ON DATABASE shop FROM PUBLIC");
    cluster.sql("ALTER DATABASE shop SET work_mem = '17MB'");
    let state = || {
        cluster.sql(
            "SELECT pg_get_userbyid(datdba), datacl::text LIKE '%=T/%', setconfig FROM pg_database d \
             LEFT JOIN pg_db_role_setting ON setdatabase = d.oid AND setrole = 0 WHERE datname = 'shop'",
        )
    };
    let before = state();
    let of = |dbname: &str, id: &str| [format!("dbname={dbname}"), format!("backup={id}")];
    let run = |how: &[&str], dbname: &str, id: &str| {
        let [dbname, backup] = of(dbname, id);
        let _ = fs::remove_dir_all(shop.cli.state());
        shop.cli.run(&args(&[how, &["-p", "database=main", "-p", &dbname, "-p", &backup]]))
    };
    for id in [&custom, &plain] {
        shop.sql("DELETE FROM orders WHERE id > 10");
        let restored = run(&args(&[&["run", "restore-dump"], &REAL]), "shop", id).ends(0);
        restored.says("another program made this dump").says("are those that it has now");
        assert_eq!((shop.orders().as_str(), state()), ("300|45150", before.clone()), "{id}");
        let old = shop.databases().split(' ').find(|name| name.contains("_old_")).unwrap().to_owned();
        cluster.sql(&format!("DROP DATABASE \"{old}\""));
    }
    let drilled = run(&["drill", "restore-dump"], "shop", &custom).ends(0);
    drilled.says("in this throw-away server owners and rights are left out");
    // Of SQL text nothing can be left out: whom it names is made there.
    run(&["drill", "restore-dump"], "shop", &plain)
        .ends(0)
        .says("roles that the throw-away server lacked were made there: app");
    // One that is gone gets the name that is said, and what the dump itself says is told.
    let other = run(&args(&[&["run", "restore-dump"], &REAL]), "billing", &custom).ends(0);
    other.says("says that it is of database `shop`; it becomes `billing`").says("no database `billing` is there");
    assert_eq!(String::from_utf8_lossy(&shop.psql("billing", "SELECT count(*) FROM orders").stdout).trim(), "300");
    // Nobody takes it for a dump of some database unless it is named.
    let unnamed = ["run", "restore-dump", "-p", "database=main", "-p", "dbname=zeta"];
    let refused = shop.cli.run(&args(&[&unnamed, &REAL])).ends(4);
    refused.says("2 imported do not say which database they are of");
    let planned = shop.cli.run(&["restore", "main", "--to", &custom, "--dbname", "shop", "--json"]).ends(0);
    assert!(planned.out.contains("restore-dump"), "{}", planned.out);
    shop.cli.run(&["restore", "main", "--to", &custom]).ends(2).says("`--dbname NAME`");
    shop.cli.run(&["restore", "main", "--to", &custom, "--side"]).ends(2).says("is made of base backups");
}

#[test]
fn text_of_a_whole_server_is_not_loaded_into_one_database_and_reaches_no_other() {
    let shop = Shop::new();
    let all = shop.import("all_20260128_143002.sql", &shop.written("pg_dumpall", &["--clean", "--if-exists"]));
    shop.sql("DELETE FROM orders WHERE id > 10");
    let (before, backup) = ((shop.orders(), shop.databases()), format!("backup={all}"));
    let refused = shop.cli.run(&args(&[&["run", "restore-dump"], &WHAT, &["-p", &backup], &REAL])).ends(10);
    refused.says("makes databases itself, or goes to several");
    assert_eq!((shop.orders(), shop.databases()), before);
}
