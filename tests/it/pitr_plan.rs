//! `runbook pitr`, `backups map` and `wal status|verify|search` over a real cluster and what became of its archive.

use std::fs;
use std::path::PathBuf;

use runbook::base::Timestamp;
use serde_json::{Value, json};

use crate::support::cli::{Cli, until};
use crate::support::recovery::Site;

/// A cluster that archives, with a person who asks about it.
pub struct Asked {
    pub site: Site,
    pub cli: Cli,
}

impl Asked {
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// The same with settings of the server.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        let site = Site::with(settings);
        let asked = Self { site, cli: Cli::new() };
        asked.about("postgres");
        asked.sql("CREATE TABLE t(n int PRIMARY KEY)");
        asked
    }

    /// Writes the inventory, with one of the cluster's databases.
    pub fn about(&self, dbname: &str) {
        let Site { cluster, depot, .. } = &self.site;
        let text = format!(
            "version: 1\ndatabases:\n  main: {{ pgdata: {}, port: {}, socket: {}, bin: {}, store: primary, prefix: main, \
             dbname: {dbname} }}\nstores: {{ primary: {} }}\nenvironments: {{ production: {{ protected: true, default: true }} }}\n",
            cluster.pgdata().display(),
            cluster.port(),
            cluster.socket_dir().display(),
            cluster.bin().display(),
            serde_json::to_string(&depot.entry).unwrap(),
        );
        self.cli.file("inventory.yaml", &text);
    }

    pub fn sql(&self, sql: &str) -> String {
        self.site.cluster.sql(sql)
    }

    /// Commits a row, and gives the server's time right after.
    pub fn commit(&self, n: u32) -> Timestamp {
        self.sql(&format!("INSERT INTO t VALUES ({n})"));
        let at = "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
        self.sql(at).parse().unwrap()
    }

    async fn backup(&self) -> String {
        self.site.run().base_backup().await.backup.id
    }

    pub fn json(&self, args: &[&str], code: i32) -> Value {
        let ran = self.cli.run(&[args, &["--json"]].concat());
        let ran = ran.ends(code);
        serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {}\n{}", ran.out, ran.err))
    }

    /// The object that holds a segment, however it is packed.
    pub fn object(&self, segment: &str) -> PathBuf {
        let mut folders = vec![self.site.depot.root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if entry.path().is_dir() {
                    folders.push(entry.path());
                } else if name.starts_with(segment) && !name.ends_with(".backup") {
                    return entry.path();
                }
            }
        }
        panic!("`{segment}` is not archived")
    }

    /// The segment that holds what was written last, before it is archived.
    pub fn current(&self) -> String {
        self.sql("SELECT pg_walfile_name(pg_current_wal_lsn())")
    }

    fn lose(&self, segment: &str) {
        fs::remove_file(self.object(segment)).unwrap();
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_time_gets_its_backup_its_segments_and_the_command_that_carries_it_out() {
    let asked = Asked::new();
    asked.commit(1);
    let first = asked.backup().await;
    let between = asked.commit(2);
    asked.commit(3);
    asked.site.archive();
    let second = asked.backup().await;
    asked.commit(4);
    asked.site.archive();
    let plan = asked.json(&["pitr", "main", "--at", &between.to_string()], 0);
    assert_eq!(text(&plan["backup"]["id"]), first);
    assert!(plan["stop"]["next"]["xid"].as_u64() > plan["stop"]["last"]["xid"].as_u64(), "{plan:#}");
    assert!(text(&plan["command"]).contains(&format!("recover_to={between}")), "{plan:#}");
    assert!(text(&plan["command"]).contains("--confirm production"), "{plan:#}");
    assert_eq!(plan["timeline"], 1);
    assert!(plan["passed_over"].as_array().unwrap().iter().any(|one| text(&one["id"]) == second), "{plan:#}");
    // The same plan for people, and the newest from the newest backup.
    asked.cli.run(&["pitr", "main", "--at", &between.to_string()]).ends(0).prints("next");
    assert_eq!(text(&asked.json(&["pitr", "main"], 0)["backup"]["id"]), second);
    // Before every backup there is nothing, and nothing after the present.
    let refused = asked.json(&["pitr", "main", "--at", "2020-01-01T00:00:00Z"], 4);
    assert_eq!(refused["instead"].as_array().unwrap().len(), 1, "{refused:#}");
    asked.cli.run(&["pitr", "main", "--at", "2120-01-01T00:00:00Z"]).ends(2).says("still to come");
    // After the newest commit the archive is complete: its end is told the server, and the moment stays in the command.
    let now = asked.json(&["pitr", "main", "--at", "now"], 0);
    assert!(text(&now["command"]).contains("recover_to="), "{now:#}");
    assert_eq!(now["goal"], "the end of the archived WAL", "{now:#}");
    assert!(text(&now["notes"][0]).contains("recovering to its end"), "{now:#}");
}

#[tokio::test]
async fn a_transaction_without_a_commit_of_its_own_is_refused_and_the_one_that_it_is_a_part_of_is_named() {
    let asked = Asked::new();
    let backup = asked.site.run().base_backup().await.backup;
    let failing = "DO $$ BEGIN INSERT INTO t VALUES (1); RAISE EXCEPTION 'by <%>', txid_current(); END $$";
    let said = String::from_utf8_lossy(&asked.site.cluster.try_sql(failing).stderr).into_owned();
    let undone = said.split_once("by <").and_then(|(_, rest)| rest.split('>').next()).unwrap().to_owned();
    let nested = "DO $$ BEGIN INSERT INTO t VALUES (2); BEGIN INSERT INTO t VALUES (3); \
                  EXCEPTION WHEN unique_violation THEN NULL; END; END $$";
    asked.sql(nested);
    let by = |n: u32| asked.sql(&format!("SELECT xmin FROM t WHERE n = {n}"));
    let (whole, part) = (by(2), by(3));
    asked.commit(4);
    let why = |xid: &str| text(&asked.json(&["pitr", "main", "--xid", xid], 4)["why"]);
    assert!(why(&undone).contains("was rolled back: there is no such commit"), "{}", why(&undone));
    let told = format!("transaction {part} is a part of transaction {whole}");
    assert!(why(&part).contains(&told) && why(&part).contains(&format!("`--xid {whole}`")), "{}", why(&part));
    asked.json(&["pitr", "main", "--xid", &whole], 0);
    // A recovery that nobody looked ahead for says the same before anything is swapped.
    let run = asked.site.run();
    let staged = run.stage(&backup).await;
    run.stop().await;
    for (xid, words) in [(&undone, "was rolled back"), (&part, told.as_str())] {
        let target = json!({ "target_xid": xid.parse::<u64>().unwrap() });
        let error = run.try_recover(&staged, target).await.unwrap_err();
        assert!(error.info().message.contains(words), "{:?}", error.info());
    }
    run.recover(&staged, json!({ "target_xid": whole.parse::<u64>().unwrap() })).await;
    assert_eq!(asked.sql("SELECT string_agg(n::text, ',' ORDER BY n) FROM t"), "2,3");
}

#[tokio::test]
async fn a_tablespace_on_another_disk_is_counted_there() {
    let asked = Asked::new();
    let disk = tempfile::Builder::new().prefix("rb").tempdir_in("/dev/shm").unwrap();
    asked.site.cluster.give(disk.path());
    let place = disk.path().display().to_string();
    asked.sql(&format!("CREATE TABLESPACE apart LOCATION '{place}'"));
    asked.sql("CREATE TABLE wide TABLESPACE apart AS SELECT repeat('x', 1000) AS x FROM generate_series(1, 5000)");
    asked.backup().await;
    let plan = asked.json(&["pitr", "main"], 0);
    let other = &plan["other_disks"][0];
    assert_eq!(text(&other["path"]), place, "{plan:#}");
    let needed = |disk: &Value| disk["needed_bytes"].as_u64().unwrap();
    assert!(needed(other) > 5_000_000 && other["free_bytes"].as_u64().is_some(), "{plan:#}");
    // The data directory's disk holds the rest, and the WAL.
    let (all, wal) = (plan["backup"]["plain_bytes"].as_u64().unwrap(), plan["replay"]["bytes"].as_u64().unwrap());
    let segment = wal / plan["replay"]["segments"].as_u64().unwrap();
    assert_eq!(needed(&plan["disk"]), all - needed(other) + wal + 4 * segment, "{plan:#}");
    asked.cli.run(&["pitr", "main"]).ends(0).prints(&format!("of tablespaces at `{place}`"));
    asked.sql("DROP TABLE wide");
    asked.sql("DROP TABLESPACE apart");
}

#[tokio::test]
async fn a_mistake_that_nobody_has_archived_yet_stays_out_of_the_recovery_that_is_printed() {
    let asked = Asked::new();
    asked.backup().await;
    let good = asked.commit(1);
    asked.sql("UPDATE t SET n = -1");
    let plan = asked.json(&["pitr", "main", "--at", &good.to_string()], 0);
    assert!(text(&plan["command"]).contains(&format!("recover_to={good}")), "{plan:#}");
    assert_eq!(plan["goal"], format!("`{good}`"), "the server's own WAL tells what came after: {plan:#}");
    assert!(plan["notes"].to_string().contains("the server still has them"), "{plan:#}");
    let command: Vec<String> = text(&plan["command"]).split(' ').skip(1).map(str::to_owned).collect();
    asked.cli.run(&command).ends(0);
    assert_eq!(asked.sql("SELECT n FROM t"), "1");
}

#[tokio::test]
async fn a_lost_segment_is_a_gap_in_the_map_and_in_the_plan_and_lost_to_verify() {
    let asked = Asked::new();
    let first = asked.backup().await;
    let before = asked.commit(1);
    asked.site.archive();
    asked.commit(2);
    let lost = asked.current();
    asked.site.archive();
    let inside = asked.commit(3);
    asked.site.archive();
    let second = asked.backup().await;
    let after = asked.commit(4);
    asked.site.archive();
    asked.lose(&lost);
    let map = asked.json(&["backups", "map", "main"], 0);
    let spans = map[0]["lanes"][0]["spans"].as_array().unwrap().clone();
    let states: Vec<String> = spans.iter().map(|span| text(&span["state"])).collect();
    assert_eq!(states, ["recoverable", "gap", "recoverable"], "{map:#}");
    assert!(text(&spans[1]["why"][0]).contains(&lost), "{map:#}");
    let within = |span: &Value, at: Timestamp| {
        let moment = |key: &str| text(&span[key]).parse::<Timestamp>().unwrap();
        moment("from_at") <= at && at <= moment("to_at")
    };
    assert!(within(&spans[1], inside) && !within(&spans[0], inside) && !within(&spans[2], inside), "{map:#}");
    // The commit before the hole is the last that counts of the first interval.
    assert!(text(&spans[0]["to_at"]).parse::<Timestamp>().unwrap() <= before, "{map:#}");
    assert_eq!(text(&asked.json(&["pitr", "main", "--at", &after.to_string()], 0)["backup"]["id"]), second);
    let refused = asked.json(&["pitr", "main", "--at", &inside.to_string()], 4);
    assert!(text(&refused["why"]).contains(&lost), "{refused:#}");
    let verified = asked.json(&["wal", "verify", "main"], 10);
    let stretch = verified[0]["timelines"].as_array().unwrap().iter().find(|one| one["status"] == "MISSING_LOST");
    assert_eq!(text(&stretch.expect("a lost stretch")["first"]), lost);
    let lead = verified[0]["backups"].as_array().unwrap().iter().find(|one| text(&one["id"]) == first).unwrap().clone();
    assert_eq!((&lead["consistent"], lead["hole"].is_string()), (&json!(true), true), "{verified:#}");
    // The picture, in the terminal and as a page.
    asked.cli.run(&["backups", "map", "main"]).ends(0).prints("GAP").prints(&lost).prints("▼");
    asked.cli.run(&["backups", "map", "main", "--svg", "map.svg"]).ends(0);
    assert!(asked.cli.read("map.svg").contains("class=\"gap\""));
}

#[tokio::test]
async fn a_hole_that_the_servers_own_wal_does_not_close_is_refused_before_it_stops_and_the_printed_way_leads_to_it() {
    let asked = Asked::with(&[("wal_keep_size", "512MB")]);
    asked.backup().await;
    asked.commit(1);
    asked.site.archive();
    asked.commit(2);
    let lost = asked.current();
    asked.site.archive();
    asked.commit(3);
    asked.site.archive();
    let own = asked.site.cluster.pgdata().join("pg_wal").join(&lost);
    asked.lose(&lost);
    // While the server has it, nothing stands against the recovery: it is rescued first.
    asked.cli.run(&["restore", "main"]).ends(0);
    fs::remove_file(&own).unwrap();
    let started = asked.sql("SELECT pg_postmaster_start_time()");
    let planned = asked.cli.run(&["restore", "main"]).ends(4);
    let said = format!("{}{}", planned.out, planned.err);
    assert!(said.contains("nor does the server's own `pg_wal`") && said.contains(&lost), "{said}");
    assert!(said.contains("wal_store=STORE"), "{said}");
    asked.cli.run(&["restore", "main", "--confirm", "production"]).ends(4);
    assert_eq!(asked.sql("SELECT pg_postmaster_start_time()"), started, "the server was never stopped");
    let command = said.split('`').find(|part| part.starts_with("runbook run pitr ")).expect("a command").to_owned();
    let command: Vec<String> = command.split(' ').skip(1).map(str::to_owned).collect();
    asked.cli.run(&command).ends(0);
    assert_eq!(asked.sql("SELECT max(n) FROM t"), "1", "all that lies before the hole");
}

#[tokio::test]
async fn the_printed_command_has_the_place_of_another_programs_wal() {
    let asked = Asked::with(&[("wal_keep_size", "512MB")]);
    asked.backup().await;
    asked.commit(1);
    let moved = asked.current();
    asked.site.archive();
    let at = asked.commit(2);
    asked.commit(3);
    asked.site.archive();
    asked.lose(&moved);
    // What another program archived, as it lies.
    let folder = asked.site.depot.root.join("old/wal");
    fs::create_dir_all(&folder).unwrap();
    fs::copy(asked.site.cluster.pgdata().join("pg_wal").join(&moved), folder.join(&moved)).unwrap();
    asked.site.cluster.give(&folder);
    asked.site.cluster.give(&folder.join(&moved));
    fs::remove_file(asked.site.cluster.pgdata().join("pg_wal").join(&moved)).unwrap();
    let at = at.to_string();
    asked.json(&["pitr", "main", "--at", &at], 4);
    let plan = asked.json(&["pitr", "main", "--at", &at, "--wal-location", "primary/old/wal"], 0);
    let command = text(&plan["command"]);
    assert!(command.contains("-p wal_store=primary -p wal_folder=old/wal"), "{command}");
    let command: Vec<String> = command.split(' ').skip(1).map(str::to_owned).collect();
    asked.cli.run(&command).ends(0);
    assert_eq!(asked.sql("SELECT max(n) FROM t"), "2");
}

#[tokio::test]
async fn a_second_recovery_follows_the_timeline_that_was_live_and_a_position_on_two_is_refused() {
    let asked = Asked::new();
    let backup = asked.site.run().base_backup().await;
    let early = asked.commit(1);
    let later = asked.commit(2);
    let position = asked.sql("SELECT pg_current_wal_lsn()");
    asked.commit(3);
    asked.site.archive();
    // The second in which a server was promoted is on either timeline: no target of this test lies in it.
    asked.sql("SELECT pg_sleep(1.1)");
    let run = asked.site.run();
    run.stop().await;
    let staged = run.stage(&backup.backup).await;
    run.recover(&staged, json!({ "target_time": early.to_string() })).await;
    assert_eq!(asked.sql("SELECT string_agg(n::text, ',') FROM t"), "1");
    asked.sql("SELECT pg_sleep(1.1); INSERT INTO t SELECT generate_series(100, 20000)");
    let on_two = asked.commit(4);
    asked.site.archive();
    let timeline = |at: Timestamp| asked.json(&["pitr", "main", "--at", &at.to_string()], 0)["timeline"].clone();
    assert_eq!(timeline(later), 1, "the moment was on the first timeline, which the first attempt left");
    assert_eq!(timeline(on_two), 2);
    let gone = |at: Timestamp| asked.json(&["pitr", "main", "--at", &at.to_string()], 0)["gives_up_timelines"].clone();
    assert_eq!(
        (gone(later), gone(on_two)),
        (json!(["2"]), json!([])),
        "what was committed on the second goes as a whole"
    );
    let refused = asked.json(&["pitr", "main", "--lsn", &position], 4);
    assert!(text(&refused["why"]).contains("several timelines"), "{refused:#}");
    assert_eq!(asked.json(&["pitr", "main", "--lsn", &position, "--timeline", "1"], 0)["timeline"], 1);
    let map = asked.json(&["backups", "map", "main"], 0);
    let lanes = map[0]["lanes"].as_array().unwrap();
    assert_eq!((lanes.len(), &lanes[1]["left"]), (2, &json!(1)), "{map:#}");
    assert!(
        lanes.iter().all(|lane| lane["spans"].as_array().unwrap().iter().all(|span| span["state"] == "recoverable"))
    );
    let status = asked.json(&["wal", "status", "main"], 0);
    assert_eq!((&status[0]["figures"]["timeline"], &status[0]["figures"]["timelines"]), (&json!(2), &json!([1, 2])));
}

#[tokio::test]
async fn a_dropped_table_is_found_and_the_command_leads_to_just_before_it() {
    let asked = Asked::new();
    let backup = asked.site.run().base_backup().await;
    asked.sql("CREATE TABLE gone AS SELECT generate_series(1, 300) AS n");
    let oid = asked.sql("SELECT 'gone'::regclass::oid");
    asked.sql("DELETE FROM gone WHERE n <= 40");
    let before = asked.json(&["wal", "search", "main", "--relation", "gone"], 0);
    let changes = before["found"].as_array().unwrap();
    assert_eq!(changes.last().unwrap()["rows"], json!({ "inserted": 0, "updated": 0, "deleted": 40 }), "{before:#}");
    assert_eq!(changes.last().unwrap()["archived"], false, "only the server has it yet: {before:#}");
    asked.sql("DROP TABLE gone");
    asked.commit(9);
    asked.site.archive();
    let drops = asked.json(&["wal", "search", "main", "--drops", "--between", "1h ago", "now"], 0);
    let drop = drops["found"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(drop["what"], "dropped", "{drops:#}");
    assert!(
        drop["dropped"].as_array().unwrap().iter().any(|one| one["oid"]
            .as_u64()
            .map(|found| found.to_string())
            .as_deref()
            == Some(oid.as_str())),
        "{drops:#}"
    );
    let again = asked.json(&["wal", "search", "main", "--relation", &oid], 0);
    assert_eq!(again["found"].as_array().unwrap().last().unwrap()["xid"], drop["xid"]);
    // The command is carried out: the table is there, with what was deleted from it before.
    let command = text(&drop["commands"][0]);
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    let plan = asked.json(&words, 0);
    assert_eq!(text(&plan["backup"]["id"]), backup.backup.id);
    let lsn = text(&drop["before"]);
    let run = asked.site.run();
    run.stop().await;
    let staged = run.stage(&backup.backup).await;
    run.recover(&staged, json!({ "target_lsn": lsn, "timeline": 1 })).await;
    assert_eq!(asked.sql("SELECT count(*) FROM gone"), "260");
}

#[tokio::test]
async fn what_was_dropped_is_told_by_its_names_and_what_no_source_names_by_its_number() {
    let asked = Asked::with(&[("wal_compression", "on")]);
    asked.sql("CREATE DATABASE shop");
    let shop = |sql: &str| asked.site.cluster.sql_in("shop", sql);
    shop("CREATE TABLE users (id serial PRIMARY KEY, name text)");
    shop(
        "CREATE SCHEMA \"Old Stock\"; CREATE TABLE \"Old Stock\".\"a,b\" (n int); CREATE VIEW v AS SELECT id FROM users",
    );
    asked.backup().await;
    let database = asked.sql("SELECT oid FROM pg_database WHERE datname = 'shop'");
    let said = || {
        let drops = asked.json(&["wal", "search", "main", "--drops"], 0);
        drops["found"].as_array().unwrap().last().unwrap().clone()
    };
    // The rows are older than the checkpoint: their page is in the WAL, compressed by the server.
    let oid = shop("SELECT 'users'::regclass::oid");
    asked.sql("CHECKPOINT");
    shop("ALTER TABLE users RENAME TO users_gone");
    shop("DROP TABLE users_gone CASCADE");
    let drop = said();
    let words = text(&drop["words"]);
    let table = format!("table public.users_gone ({oid}, with its index, its TOAST table)");
    assert!(words.contains(&format!(" dropped in database `shop` ({database}): {table}, view public.v (")), "{words}");
    assert!(words.contains("sequence public.users_id_seq (") && !words.contains("no source"), "{words}");
    let only = text(drop["commands"].as_array().unwrap().last().unwrap());
    assert!(only.contains("accidental-drop") && only.contains("-p dbname=shop -p tables=public.users_gone"), "{only}");
    // A schema that went along, and names that must be quoted.
    asked.sql("CHECKPOINT");
    shop("DROP SCHEMA \"Old Stock\" CASCADE");
    let drop = said();
    assert!(text(&drop["words"]).contains("table \"Old Stock\".\"a,b\" ("), "{drop:#}");
    assert_eq!((&drop["relations"][0]["schema"], &drop["relations"][0]["name"]), (&json!("Old Stock"), &json!("a,b")));
    shop("CREATE TABLE days (d date) PARTITION BY RANGE (d); CREATE TABLE today PARTITION OF days DEFAULT");
    shop("DROP TABLE days");
    let drop = said();
    assert!(
        text(&drop["words"]).contains("partitioned table public.days (")
            && text(&drop["words"]).contains(", with a partition)"),
        "{drop:#}"
    );
    assert!(text(drop["commands"].as_array().unwrap().last().unwrap()).contains("tables=public.days "), "{drop:#}");
    // A table that gets a new file still is: it is named all the same.
    shop("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)");
    shop("TRUNCATE kept");
    assert!(text(&said()["words"]).contains("by TRUNCATE or a rewrite: table public.kept ("), "{:#}", said());
    // What rewrites a table makes another one for a while, which nobody has dropped; one transaction may do both.
    let all = || asked.json(&["wal", "search", "main", "--drops"], 0)["found"].as_array().unwrap().len();
    shop("INSERT INTO kept VALUES (1)");
    shop("VACUUM FULL kept");
    assert!(text(&said()["words"]).contains("by TRUNCATE or a rewrite: table public.kept ("), "{:#}", said());
    let before = all();
    shop("BEGIN; CREATE TABLE passing (n int); DROP TABLE passing; COMMIT");
    assert_eq!(all(), before, "{:#}", said());
    shop("CREATE TABLE goes (n int)");
    shop("BEGIN; TRUNCATE kept; DROP TABLE goes; COMMIT");
    let (words, drop) = (text(&said()["words"]), said());
    assert!(
        words.contains(": table public.goes (") && words.contains("; and removed files of public.kept by"),
        "{words}"
    );
    assert!(text(drop["commands"].as_array().unwrap().last().unwrap()).contains("tables=public.goes "), "{drop:#}");
    // A window that begins behind the checkpoint: the rows are looked for in what is before it.
    shop("CREATE TABLE early (n int)");
    for n in 100..105 {
        asked.commit(n);
        asked.sql("SELECT pg_switch_wal()");
    }
    let begin = asked.commit(106).to_string();
    shop("DROP TABLE early");
    let narrow = asked.json(&["wal", "search", "main", "--drops", "--between", &begin, "now"], 0);
    assert_eq!(narrow["found"].as_array().unwrap().len(), 1, "{narrow:#}");
    assert!(text(&narrow["found"][0]["words"]).contains(": table public.early ("), "{narrow:#}");
    // Nobody knows where the rows of this one lie.
    shop("CREATE TABLE late (n int)");
    let oid = shop("SELECT 'late'::regclass::oid");
    shop("VACUUM FULL pg_class");
    shop("DROP TABLE late");
    let words = text(&said()["words"]);
    assert!(words.contains(&format!("`shop` ({database}): {oid} (no source knows its name)")), "{words}");
    // The server has a database no more; what it was called is in the row that was deleted.
    asked.sql("ALTER DATABASE shop RENAME TO shop_of_june");
    asked.sql("DROP DATABASE shop_of_june");
    let words = text(&said()["words"]);
    assert!(words.contains(&format!("dropped database `shop_of_june` ({database})")), "{words}");
    let printed = asked.cli.run(&["wal", "search", "main", "--drops"]).ends(0);
    assert!(printed.out.contains("dropped database `shop_of_june`"), "{}", printed.out);
}

#[tokio::test]
async fn a_table_is_told_from_its_twin_in_another_database_and_followed_back_over_two_truncates() {
    let asked = Asked::new();
    asked.backup().await;
    asked.sql("CREATE TABLE twin(n int)");
    asked.sql("CREATE DATABASE other TEMPLATE postgres");
    let elsewhere = |sql: &str| {
        let (socket, port) = (asked.site.cluster.socket_dir(), asked.site.cluster.port().to_string());
        asked
            .site
            .cluster
            .output("psql", &["-h", socket.to_str().unwrap(), "-p", &port, "-U", "postgres", "-d", "other", "-c", sql])
    };
    elsewhere("INSERT INTO twin SELECT generate_series(1, 1000)");
    let (oid, database) = (
        asked.sql("SELECT 'twin'::regclass::oid"),
        asked.sql("SELECT oid FROM pg_database WHERE datname = 'postgres'"),
    );
    asked.sql("INSERT INTO twin SELECT generate_series(1, 7)");
    let inserted = |found: &Value| -> u64 {
        found["found"].as_array().unwrap().iter().map(|one| one["rows"]["inserted"].as_u64().unwrap()).sum()
    };
    let search = |relation: &str| asked.json(&["wal", "search", "main", "--relation", relation], 0);
    let first = search("twin");
    assert_eq!((inserted(&first), first["notes"].as_array().unwrap().len()), (7, 0), "{first:#}");
    assert_eq!(inserted(&search(&oid)), 1007, "a number alone may be anybody's");
    assert_eq!(inserted(&search(&format!("{database}/{oid}"))), 7);
    asked.sql("TRUNCATE twin");
    asked.sql("INSERT INTO twin SELECT generate_series(1, 5)");
    asked.sql("TRUNCATE twin");
    let before_third = asked.commit(1);
    asked.sql("INSERT INTO twin SELECT generate_series(1, 3)");
    asked.site.archive();
    let all = search("twin");
    assert_eq!(inserted(&all), 15, "{all:#}");
    assert_eq!(all["found"].as_array().unwrap().iter().filter(|one| one["what"] == "replaced").count(), 2, "{all:#}");
    assert!(all["notes"].to_string().contains("got a new file"), "{all:#}");
    let window = ["wal", "search", "main", "--relation", "twin", "--between", "1h ago", &before_third.to_string()];
    let earlier = asked.json(&window, 0);
    assert_eq!(inserted(&earlier), 12, "what followed tells which file it had then: {earlier:#}");
}

#[tokio::test]
async fn the_stop_of_a_time_is_found_behind_many_segments_without_a_commit() {
    let asked = Asked::new();
    asked.backup().await;
    let quiet = |count: u32| {
        for _ in 0..count {
            asked.sql("SELECT pg_logical_emit_message(false, 'quiet', 'x')");
            asked.sql("SELECT pg_switch_wal()");
        }
    };
    let mut times = Vec::new();
    for (n, between) in [(1, 6), (2, 1), (3, 3)] {
        times.push(asked.commit(n));
        quiet(between);
    }
    asked.site.archive();
    for (n, at) in [(2, times[0]), (3, times[1])] {
        let xid = asked.sql(&format!("SELECT xmin FROM t WHERE n = {n}"));
        let plan = asked.json(&["pitr", "main", "--at", &at.to_string()], 0);
        assert_eq!(plan["stop"]["next"]["xid"].to_string(), xid, "{plan:#}");
    }
}

#[test]
fn a_table_of_another_database_is_found_once_that_database_is_named() {
    let asked = Asked::new();
    asked.sql("CREATE DATABASE shop");
    asked.site.cluster.sql_in("shop", "CREATE TABLE users(n int); INSERT INTO users VALUES (1), (2)");
    asked.site.archive();
    let search = ["wal", "search", "main", "--relation", "users"];
    asked.cli.run(&search).ends(10).says("the database `postgres` of the live server has no `users`").says("--dbname");
    let found = asked.json(&[&search[..], &["--dbname", "shop"]].concat(), 0);
    assert_eq!(found["found"][0]["rows"]["inserted"], 2, "{found:#}");
}

#[tokio::test]
async fn transactions_and_restore_points_are_found_by_their_names() {
    let asked = Asked::with(&[("max_prepared_transactions", "3")]);
    asked.backup().await;
    asked.sql("SELECT pg_create_restore_point('before-release')");
    asked.sql("BEGIN; INSERT INTO t VALUES (7); PREPARE TRANSACTION 'p'");
    let xid = asked.sql("SELECT transaction FROM pg_prepared_xacts");
    asked.commit(8);
    asked.sql("COMMIT PREPARED 'p'");
    asked.site.archive();
    let ended = asked.json(&["wal", "search", "main", "--xid", &xid], 0);
    assert_eq!(ended["found"].as_array().unwrap().len(), 1, "{ended:#}");
    let plan = asked.json(&["pitr", "main", "--xid", &xid], 0);
    assert!(text(&plan["command"]).contains(&format!("recover_to_xid={xid}")), "{plan:#}");
    let plan = asked.json(&["pitr", "main", "--name", "before-release"], 0);
    assert!(text(&plan["command"]).contains("recover_to_name=before-release "), "{plan:#}");
    asked.json(&["pitr", "main", "--name", "nobody-made-it"], 4);
}

#[test]
fn status_tells_lag_by_position_and_sees_failures_that_the_server_hides() {
    let asked = Asked::new();
    asked.commit(1);
    asked.site.archive();
    let fine = asked.json(&["wal", "status", "main", "--rpo", "1h"], 0);
    assert_eq!(fine[0]["level"], "ok", "{fine:#}");
    assert_eq!(fine[0]["figures"]["lag_s"], 0, "nothing was committed since: {fine:#}");
    asked.cli.run(&["wal", "status", "main"]).ends(0).prints("OK - main is archived to").prints("'main_lag'=0s");
    // A commit waits. With an objective it must have missed by now, that is critical.
    asked.commit(2);
    asked.sql("SELECT pg_sleep(1.1)");
    let waits = asked.json(&["wal", "status", "main", "--rpo", "1h"], 0);
    assert!(waits[0]["figures"]["lag_s"].as_u64() >= Some(1), "{waits:#}");
    // A command that exits above 125 ends the archiver, and its failure is counted nowhere.
    asked.sql("ALTER SYSTEM SET archive_command = 'exit 254'");
    asked.sql("SELECT pg_reload_conf()");
    let segment = asked.current();
    asked.sql("SELECT pg_stat_reset_shared('archiver'), pg_switch_wal()");
    let ready = asked.site.cluster.pgdata().join(format!("pg_wal/archive_status/{segment}.ready"));
    until("the segment is to be archived", || ready.exists());
    let earlier = std::time::SystemTime::now() - std::time::Duration::from_secs(180);
    fs::File::options().append(true).open(&ready).unwrap().set_modified(earlier).unwrap();
    let hidden = asked.json(&["wal", "status", "main"], 2);
    assert!(hidden[0]["findings"].to_string().contains("the server counts no failure since"), "{hidden:#}");
    assert_eq!(asked.sql("SELECT failed_count FROM pg_stat_archiver"), "0");
    // Archiving that only says it did.
    asked.sql("ALTER SYSTEM SET archive_command = 'true'");
    asked.sql("SELECT pg_reload_conf()");
    asked.site.archive();
    let lies = asked.json(&["wal", "status", "main"], 2);
    assert!(lies[0]["findings"].to_string().contains("the archive does not have it"), "{lies:#}");
    // None at all.
    asked.site.cluster.stop("fast");
    let gone = asked.json(&["wal", "status", "main"], 3);
    assert!(gone[0]["findings"].to_string().contains("gives no answer"), "{gone:#}");
    asked.cli.run(&["wal", "status", "nobody"]).ends(3).says("no database `nobody`");
}

#[test]
fn a_file_of_the_right_name_that_is_another_segment_hides_no_commit_that_waits() {
    let asked = Asked::new();
    let (pgdata, elsewhere) = (asked.site.cluster.pgdata(), asked.site.cluster.folder("elsewhere"));
    let earlier = asked.current();
    asked.commit(1);
    fs::create_dir(elsewhere.join("pg_wal")).unwrap();
    let kept = elsewhere.join("pg_wal/earlier");
    fs::copy(pgdata.join("pg_wal").join(earlier), &kept).unwrap();
    asked.site.archive();
    asked.commit(2);
    asked.sql("SELECT pg_sleep(1.1)");
    // The server runs elsewhere, and the folder of that name here is not its own.
    fs::rename(kept, elsewhere.join("pg_wal").join(asked.current())).unwrap();
    let inventory = fs::read_to_string(asked.cli.path("inventory.yaml")).unwrap();
    let moved = inventory.replace(&pgdata.display().to_string(), &elsewhere.display().to_string());
    asked.cli.file("inventory.yaml", &moved);
    let waits = asked.json(&["wal", "status", "main", "--rpo", "1h"], 0);
    assert!(waits[0]["figures"]["lag_s"].as_u64().unwrap() >= 1, "{waits:#}");
}

#[tokio::test]
async fn every_segment_is_read_and_a_flipped_bit_is_a_hole_from_then_on() {
    let asked = Asked::new();
    asked.backup().await;
    asked.commit(1);
    asked.site.archive();
    asked.commit(2);
    let damaged = asked.current();
    asked.site.archive();
    let behind = asked.commit(3);
    asked.commit(4);
    asked.site.archive();
    assert!(asked.json(&["wal", "verify", "main", "--digests"], 0)[0]["read_bytes"].as_u64() > Some(1 << 24));
    asked.json(&["pitr", "main", "--at", &behind.to_string()], 0);
    let path = asked.object(&damaged);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    // Names and sizes alone do not show it; reading does.
    asked.json(&["wal", "verify", "main"], 0);
    let verified = asked.json(&["wal", "verify", "main", "--digests"], 10);
    let stretch = verified[0]["timelines"].as_array().unwrap().iter().find(|one| one["status"] == "DAMAGED");
    assert_eq!(text(&stretch.expect("a damaged one")["first"]), damaged, "{verified:#}");
    fs::remove_file(&path).unwrap();
    fs::write(path.with_file_name(&damaged), [0; 1000]).unwrap();
    let verified = asked.json(&["wal", "verify", "main"], 10);
    assert!(verified.to_string().contains("WRONG_SIZE"), "{verified:#}");
    asked.cli.run(&["wal", "verify", "main"]).ends(10).prints(&damaged).prints("WRONG_SIZE");
    let refused = asked.json(&["pitr", "main", "--at", &behind.to_string()], 4);
    assert!(text(&refused["why"]).contains("wrong size"), "{refused:#}");
}

#[tokio::test]
async fn a_server_on_another_machine_is_told_of_whether_the_archive_leads_there_or_not() {
    let asked = Asked::new();
    asked.backup().await;
    asked.commit(1);
    asked.site.archive();
    let socket = format!("socket: {}", asked.site.cluster.socket_dir().display());
    let inventory = fs::read_to_string(asked.cli.path("inventory.yaml")).unwrap();
    let moved = inventory.replace(&socket, "address: db.example.org, sslmode: verify-full");
    assert_ne!(moved, inventory);
    asked.cli.file("inventory.yaml", &moved);
    let plan = asked.json(&["pitr", "main"], 0);
    assert!(plan["notes"].to_string().contains("is on another machine"), "{plan:#}");
    asked.cli.run(&["pitr", "main", "--at", "2020-01-01T00:00:00Z"]).ends(4).says("is on another machine");
}

#[test]
fn a_segment_that_is_archived_while_the_archive_is_looked_at_is_not_called_lost() {
    let asked = Asked::new();
    asked.site.archive();
    let is_done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (asked, done) = (&asked, &is_done);
        scope.spawn(move || {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                asked.sql("SELECT pg_logical_emit_message(true, 'busy', 'x')");
                asked.sql("SELECT pg_switch_wal()");
            }
        });
        let told: Vec<String> = (0..15).map(|_| asked.cli.run(&["wal", "status", "main", "--json"]).out).collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        for status in told {
            assert!(!status.contains("the archive does not have it"), "{status}");
        }
    });
}
