//! The shipped procedures that bring tables back, executed: as drills and for real, on a throw-away production.

use std::fs;

use crate::support::cli::{gated, processes_of, until};
use crate::support::production::Production;

const ROWS: &str = "SELECT count(*), md5(string_agg(u::text, ',' ORDER BY id)) FROM users u";
const ORDERS: &str = "SELECT count(*), md5(string_agg(o::text, ',' ORDER BY id)) FROM orders o";

/// A production with users and their orders, and the moment at which all was well.
fn shop() -> (Production, String) {
    let production = Production::new();
    let cluster = &production.site.cluster;
    cluster.sql(
        "CREATE TABLE users(id serial PRIMARY KEY, name text UNIQUE); \
         CREATE TABLE orders(id serial PRIMARY KEY, who int NOT NULL REFERENCES users, paid numeric); \
         INSERT INTO users(name) SELECT 'user ' || n FROM generate_series(1, 200) n; \
         INSERT INTO orders(who, paid) SELECT n, n * 2 FROM generate_series(1, 200) n",
    );
    let then = cluster.sql("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')");
    cluster.sql("SELECT pg_sleep(0.01)");
    (production, then)
}

fn args(mode: &str, runbook: &str, then: &str, more: &[&str]) -> Vec<String> {
    let recover_to = format!("recover_to={then}");
    let mut all = vec![mode, runbook, "-p", "database=main", "-p", &recover_to, "-p", "tables=users, orders"];
    if mode == "run" {
        all.extend(["-p", "incident_at=1m ago", "--confirm", "production"]);
    }
    all.extend(more);
    all.into_iter().map(str::to_owned).collect()
}

#[test]
fn a_dropped_table_is_back_beside_a_server_that_never_stopped_and_undo_takes_it_back() {
    let (production, then) = shop();
    let cluster = &production.site.cluster;
    let (rows, pid) = (cluster.sql(ROWS), cluster.pid());
    cluster.sql("DROP TABLE users CASCADE; INSERT INTO orders(who, paid) VALUES (7, 1)");
    production.site.archive();
    production.cli.run(&args("run", "accidental-drop", &then, &[])).ends(0);
    assert_eq!((cluster.sql(ROWS), cluster.pid()), (rows, pid));
    assert_eq!(cluster.sql("SELECT count(*), max(id) FROM orders"), "201|201");
    assert!(!cluster.try_sql("INSERT INTO orders(who) VALUES (999)").status.success(), "the foreign key is not back");
    production.nothing_is_left();
    let run = production.cli.id();
    production.cli.run(&["undo", &run, "--confirm", "production"]).ends(0);
    assert_eq!(cluster.sql("SELECT to_regclass('users') IS NULL, count(*) FROM orders"), "t|201");
}

#[test]
fn what_inherits_from_a_table_and_what_it_refers_to_come_back_in_one_run_of_either_procedure() {
    let production = Production::new();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    cluster.sql(
        "CREATE TABLE measures(id int PRIMARY KEY, v text); CREATE TABLE measures_1(PRIMARY KEY (id)) INHERITS (measures); \
         CREATE TABLE measures_2(PRIMARY KEY (id)) INHERITS (measures); INSERT INTO measures_1 SELECT n, 'v' FROM generate_series(1, 600) n; \
         INSERT INTO measures_2 SELECT n, 'v' FROM generate_series(601, 1001) n; \
         CREATE TABLE users(id int PRIMARY KEY); INSERT INTO users SELECT generate_series(1, 100); \
         CREATE TABLE items(id int PRIMARY KEY, user_id int REFERENCES users); INSERT INTO items SELECT n, n FROM generate_series(1, 100) n",
    );
    let then = cluster.sql("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')");
    cluster.sql("SELECT pg_sleep(0.01); DELETE FROM measures");
    production.site.archive();
    let recover_to = format!("recover_to={then}");
    let run = |procedure: &str, tables: &str| {
        let words = ["run", procedure, "-p", "database=main", "-p", "incident_at=1m ago", "--confirm", "production"];
        cli.run(&[&words[..], &["-p", &recover_to, "-p", tables]].concat()).ends(0);
    };
    run("table-recovery", "tables=measures");
    fs::remove_dir_all(cli.state()).unwrap();
    let counted = "SELECT (SELECT count(*) FROM measures), (SELECT count(*) FROM ONLY measures_1)";
    assert_eq!(cluster.sql(counted), "1001|600");
    cluster.sql("DROP TABLE measures CASCADE; DROP TABLE items; DELETE FROM users WHERE id > 90");
    production.site.archive();
    run("accidental-drop", "tables=measures,public.items,users");
    assert_eq!(
        (cluster.sql(counted), cluster.sql("SELECT count(*) FROM users JOIN items ON user_id = users.id")),
        ("1001|600".to_owned(), "100".to_owned())
    );
    production.nothing_is_left();
}

#[test]
fn a_table_is_brought_back_as_it_was_at_a_position_and_a_moment_is_told_one_way() {
    let (production, then) = shop();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    let rows = cluster.sql(ROWS);
    // Within one moment of the clock, only the position tells what was before and what after.
    let lsn = cluster.sql("SELECT pg_current_wal_lsn()");
    cluster.sql("UPDATE users SET name = 'x' || id; DROP TABLE users CASCADE");
    production.site.archive();
    let lsn = format!("recover_to_lsn={lsn}");
    let words = ["run", "accidental-drop", "-p", "database=main", "-p", "tables=users", "-p", "incident_at=1m ago"];
    let run = |more: &[&str]| cli.run(&[&words[..], &["--confirm", "production"], more].concat());
    let neither = run(&[]).ends(4);
    assert!(format!("{}{}", neither.out, neither.err).contains("say the moment"), "{neither:?}");
    let both = run(&["-p", &lsn, "-p", &format!("recover_to={then}")]);
    assert!(matches!(both.code, Some(3 | 4)), "{both:?}");
    run(&["-p", &lsn]).ends(0);
    assert_eq!(cluster.sql(ROWS), rows);
    production.nothing_is_left();
    cli.run(&[
        "dry-run",
        "table-recovery",
        "-p",
        "database=main",
        "-p",
        "tables=users",
        "-p",
        &lsn,
        "-p",
        "incident_at=now",
    ])
    .ends(0);
    let copy = cli.run(&["run", "side-copy", "-p", "database=main", "-p", &lsn, "--confirm", "production"]).ends(13);
    copy.says("The copy of main is at ");
    cli.run(&["approve", "last", "looked"]).ends(0);
    cli.run(&["resume", "last"]).ends(0);
}

#[test]
fn what_the_tables_of_a_dropped_schema_are_made_of_is_told_at_once_with_its_definitions() {
    let production = Production::new();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    cluster.sql(
        "CREATE SCHEMA shop; CREATE DOMAIN shop.pos AS int CHECK (VALUE > 0); CREATE TYPE shop.mood AS ENUM ('good', 'bad'); \
         CREATE TYPE shop.pair AS (a shop.pos, m shop.mood); \
         CREATE FUNCTION shop.even(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 % 2 = 0'; \
         CREATE FUNCTION public.kept(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1'; \
         CREATE TABLE shop.stock(id int PRIMARY KEY, n int CHECK (shop.even(n)), p shop.pair[], k int DEFAULT public.kept(7)); \
         INSERT INTO shop.stock SELECT n, n * 2, ARRAY[ROW(n, 'good')::shop.pair] FROM generate_series(1, 50) n",
    );
    let rows = || cluster.sql("SELECT count(*), md5(string_agg(s::text, ',' ORDER BY id)) FROM shop.stock s");
    let (before, then) = (
        rows(),
        cluster.sql("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"),
    );
    cluster.sql("SELECT pg_sleep(0.01)");
    cluster.sql("DROP SCHEMA shop CASCADE");
    production.site.archive();
    let recover_to = format!("recover_to={then}");
    let words = ["run", "accidental-drop", "-p", "database=main", "-p", &recover_to, "-p", "tables=shop.stock"];
    let run = || cli.run(&[&words[..], &["-p", "incident_at=1m ago", "--confirm", "production"]].concat());
    run().ends(4).says("no schema `shop`");
    cluster.sql("CREATE SCHEMA shop");
    let failed = run().ends(10);
    let lacking = "are made of: type `shop.mood`, type `shop.pair`, type `shop.pos`, function `shop.even(integer)`; nothing was changed";
    let failed = failed.says(lacking);
    let definitions = failed.err.split('`').find(|word| word.ends_with("/needed.sql")).unwrap().to_owned();
    let text = fs::read_to_string(&definitions).unwrap();
    assert!(text.contains("CREATE DOMAIN shop.pos") && !text.contains("CREATE TABLE"), "{text}");
    // What is there already is an error that stops nothing.
    let mut psql = cluster.command("psql");
    psql.args(["-Xq", "-U", "postgres", "-d", "postgres", "-h"])
        .arg(cluster.socket_dir())
        .stdin(fs::File::open(&definitions).unwrap());
    psql.args(["-p", &cluster.port().to_string()]).output().unwrap();
    fs::remove_dir_all(cli.state()).unwrap();
    run().ends(0);
    assert_eq!(rows(), before);
    // What is there is whole, whatever it was made of when the copy was.
    cluster.sql("DROP TABLE shop.stock; ALTER TYPE shop.pair ALTER ATTRIBUTE m TYPE text; DROP TYPE shop.mood");
    fs::remove_dir_all(cli.state()).unwrap();
    run().ends(0);
    assert_eq!(cluster.sql("SELECT count(*), max((p[1]).m) FROM shop.stock"), "50|good");
}

#[test]
fn a_dropped_table_that_had_no_row_is_missing_all_the_same() {
    let production = Production::new();
    let cluster = &production.site.cluster;
    cluster.sql("CREATE TABLE hollow(id int PRIMARY KEY, v text DEFAULT 'x'); CREATE INDEX ON hollow(v)");
    let then = cluster.sql("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')");
    cluster.sql("SELECT pg_sleep(0.01)");
    cluster.sql("DROP TABLE hollow");
    production.site.archive();
    let recover_to = format!("recover_to={then}");
    for procedure in ["accidental-drop", "table-recovery"] {
        let words = ["run", procedure, "-p", "database=main", "-p", &recover_to, "-p", "tables=hollow"];
        let ran = production.cli.run(&[&words[..], &["-p", "incident_at=1m ago", "--confirm", "production"]].concat());
        let ran = ran.ends(0);
        assert!(!ran.err.contains("nothing is missing") && !ran.out.contains("nothing is missing"), "{ran:?}");
        assert_eq!(cluster.sql("SELECT count(*) FROM pg_indexes WHERE tablename = 'hollow'"), "2");
        cluster.sql("DROP TABLE hollow");
        fs::remove_dir_all(production.cli.state()).unwrap();
    }
}

#[test]
fn what_was_committed_right_before_an_accident_is_back_though_nobody_had_archived_it() {
    let (production, then) = shop();
    let cluster = &production.site.cluster;
    let rows = cluster.sql(ROWS);
    cluster.sql("DROP TABLE users CASCADE");
    let told = production.cli.run(&args("dry-run", "accidental-drop", &then, &["-p", "incident_at=1m ago"])).ends(0);
    told.prints("the live server finishes its WAL segment");
    production
        .cli
        .run(&args("run", "accidental-drop", &then, &[]))
        .ends(0)
        .says("the live server's WAL is archived up to");
    assert_eq!(cluster.sql(ROWS), rows);
    production.nothing_is_left();
}

#[test]
fn a_table_of_another_database_and_a_wrong_name_are_told_before_anything_is_restored() {
    let (production, then) = shop();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    cluster.sql("CREATE DATABASE shop");
    cluster.sql_in("shop", "CREATE TABLE items(id int PRIMARY KEY)");
    let asked = |mode: &str, tables: &str, more: &[&str]| {
        let (recover_to, tables) = (format!("recover_to={then}"), format!("tables={tables}"));
        let args = [mode, "table-recovery", "-p", "database=main", "-p", "incident_at=1m ago"];
        cli.run(&[&args[..], &["-p", &recover_to, "-p", &tables], more].concat())
    };
    let refused = asked("run", "items", &["--confirm", "production"]).ends(4);
    refused.says("but `shop` of the same server has").says("-p dbname=shop");
    let began = |kind: &serde_json::Value| kind.to_string().contains("attempt_started");
    assert!(!cli.events(0).iter().any(began), "nothing was done");
    asked("dry-run", "items", &["-p", "dbname=shop"]).ends(0);
    asked("dry-run", "items", &["-p", "dbname=postgres"]).ends(0).prints("`dbname` says `postgres`");
    asked("dry-run", "user", &[]).ends(0).prints("look at the name: `public.users` is there");
    asked("dry-run", "gone_since", &[]).ends(0).prints("it comes back whole where the copy has it");
}

#[test]
fn rows_that_lost_their_parent_are_counted_and_who_allows_them_has_a_success_with_exceptions() {
    let (production, then) = shop();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    cluster.sql("DROP TABLE users CASCADE; INSERT INTO orders(who, paid) VALUES (999, 1), (998, 2)");
    production.site.archive();
    let refused = cli.run(&args("run", "accidental-drop", &then, &[])).ends(10);
    let refused = refused
        .says("rows have lost their parent: 2 rows of public.orders (`orders_who_fkey`)")
        .says("-p orphans=allow");
    // The same command would fail again: the one that bears them stands beside it, whole.
    let told = format!("{}{}", refused.out, refused.err);
    let other = told.lines().find(|line| line.contains(" -p orphans=allow")).unwrap_or_else(|| panic!("{told}"));
    assert!(other.contains("runbook run accidental-drop -e production -p ") && other.contains("tables="), "{told}");
    assert!(!other.contains("orphans=refuse") && other.contains("--confirm production"), "{told}");
    fs::remove_dir_all(cli.state()).unwrap();
    let allowed = cli.run(&args("run", "accidental-drop", &then, &["-p", "orphans=allow"])).ends(5);
    let left = "these foreign keys are NOT VALID: orders_who_fkey on public.orders (2 rows)";
    let told = format!("{}{}", allowed.out, allowed.err);
    assert!(told[told.find("exceptions").unwrap()..].contains(left), "{told}");
    let shown = cli.shown();
    let steps = shown["steps"].as_array().unwrap();
    let proof = steps.iter().find(|step| step["id"] == "prove").unwrap()["output"]["checks"][0].clone();
    assert_eq!(proof["expected"], "all valid foreign keys hold", "{proof}");
    assert!(proof["value"].as_str().unwrap().ends_with("1 NOT VALID and not looked at"), "{proof}");
    assert_eq!(cluster.sql("SELECT count(*) FROM users"), "200");
}

#[test]
fn a_database_and_a_schema_that_are_gone_are_refused_before_anything_is_fetched() {
    let (production, then) = shop();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    cluster.sql("CREATE TABLE \"Odd, name\"(id int PRIMARY KEY)");
    let recover_to = format!("recover_to={then}");
    let asked = |mode: &str, procedure: &str, more: &[&str]| {
        let args = [mode, procedure, "-p", "database=main", "-p", "incident_at=1m ago", "-p", &recover_to];
        cli.run(&[&args[..], more].concat())
    };
    for procedure in ["accidental-drop", "table-recovery"] {
        let gone = asked("dry-run", procedure, &["-p", "dbname=billing", "-p", "tables=inv"]).ends(4);
        gone.prints("database \"billing\" does not exist").prints("restore-dump");
        let real = ["-p", "dbname=billing", "-p", "tables=inv", "--confirm", "production"];
        asked("run", procedure, &real).ends(4).says("database \"billing\" does not exist");
    }
    let began = |kind: &serde_json::Value| kind.to_string().contains("attempt_started");
    assert!(!cli.events(0).iter().any(began), "nothing was done");
    let tables = "tables=shop.stock,\"Odd, Schema\".led";
    let refused = asked("dry-run", "accidental-drop", &["-p", tables]).ends(4);
    refused.prints("has no schema `shop`").prints("has no schema `\"Odd, Schema\"`").prints("CREATE SCHEMA shop");
    // A name is what SQL takes it for.
    asked("dry-run", "accidental-drop", &["-p", "tables=\"Odd, name\",users"]).ends(0).prints("is there, with the key");
    asked("dry-run", "accidental-drop", &["-p", "tables=Odd name"]).prints("`Odd name` is no name of a table");
    cluster.sql("CREATE TABLE \"Mixed\"(id int PRIMARY KEY)");
    let meant = asked("dry-run", "accidental-drop", &["-p", "tables=Mixed"]).ends(4);
    meant.prints("`public.Mixed`, but it has `public.\"Mixed\"`").prints("-p 'tables=public.\"Mixed\"'");
}

#[test]
fn an_accident_is_drilled_on_a_stand_in_and_production_does_not_notice() {
    let (production, then) = shop();
    let cluster = &production.site.cluster;
    cluster
        .sql("DELETE FROM orders WHERE id > 100; ALTER TABLE orders DROP CONSTRAINT orders_who_fkey; DROP TABLE users");
    production.site.archive();
    let before = production.facts();
    production.cli.run(&args("drill", "accidental-drop", &then, &[])).ends(0);
    assert_eq!(production.facts(), before);
    assert_eq!(cluster.sql("SELECT to_regclass('users') IS NULL, count(*) FROM orders"), "t|100");
    production.nothing_is_left();
}

#[test]
fn a_drill_in_which_nothing_was_missing_proves_nothing_and_is_not_counted() {
    let (production, then) = shop();
    production.site.archive();
    let cli = &production.cli;
    let said = cli.run(&args("drill", "accidental-drop", &then, &[])).ends(16);
    said.says("proves nothing: nothing is missing since that moment");
    let status = cli.run(&["status", "main", "--json"]).ends(1).json();
    assert_eq!(status[0]["drill"]["outcome"], "inconclusive", "{status:#}");
    assert!(status[0]["next"].to_string().contains("the last drill ended with `inconclusive`"), "{status:#}");
    fs::remove_dir_all(cli.state()).unwrap();
    cli.run(&args("drill", "table-recovery", &then, &[])).ends(16).says("nothing differs since that moment");
    // For real it is no failure: nothing had to be brought back, and it is said.
    cli.run(&args("run", "accidental-drop", &then, &[])).ends(0).says("nothing is missing since that moment");
}

#[test]
fn rows_that_a_bad_statement_overwrote_are_what_they_were_and_what_came_since_stays() {
    let (production, then) = shop();
    let cluster = &production.site.cluster;
    let wrong = "UPDATE orders SET paid = 0; DELETE FROM orders WHERE id <= 20; INSERT INTO users(name) VALUES ('late'); \
                 INSERT INTO orders(who, paid) VALUES (201, 5)";
    cluster.sql(wrong);
    production.site.archive();
    let before = production.facts();
    production.cli.run(&args("drill", "table-recovery", &then, &[])).ends(0);
    assert_eq!(production.facts(), before);
    production.nothing_is_left();
    fs::remove_dir_all(production.cli.state()).unwrap();
    let now = (cluster.sql(ROWS), cluster.sql(ORDERS));
    production.cli.run(&args("run", "table-recovery", &then, &[])).ends(0);
    assert_eq!(cluster.sql("SELECT count(*), sum(paid), count(*) FILTER (WHERE id = 201) FROM orders"), "201|40205|1");
    let run = production.cli.id();
    production.cli.run(&["undo", &run, "--confirm", "production"]).ends(0);
    assert_eq!((cluster.sql(ROWS), cluster.sql(ORDERS)), now);
}

#[test]
fn what_was_kept_at_the_time_of_a_monthly_backup_is_exported_and_nothing_of_the_copy_stays() {
    let (production, _) = shop();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    cli.file(
        "monthly.yaml",
        "version: 1\nname: monthly\nsteps:\n  - { id: backup, uses: postgres.base_backup, with: { database: main, tier: monthly } }\n",
    );
    cli.run(&["run", "monthly.yaml", "--confirm", "production"]).ends(0);
    fs::remove_dir_all(cli.state()).unwrap();
    cluster.sql("UPDATE users SET name = 'somebody else ' || id; DELETE FROM orders");
    production.site.archive();
    let to = cli.path("export.csv");
    let to = format!("to={}", to.display());
    let sql = "sql=SELECT u.id, u.name, sum(o.paid) AS paid FROM users u JOIN orders o ON o.who = u.id WHERE u.id < 3 GROUP BY u.id ORDER BY 1";
    let export = ["compliance-export", "-p", "database=main", "-p", sql, "-p", &to];
    let before = production.facts();
    cli.run(&[&["drill"], &export[..]].concat()).ends(0);
    assert!(!cli.path("export.csv").exists());
    production.nothing_is_left();
    fs::remove_dir_all(cli.state()).unwrap();
    let done = cli.run(&[&["run"], &export[..], &["--confirm", "production"]].concat()).ends(0);
    done.says("export.csv` has 2 rows; ").says(", SHA-256 ");
    assert_eq!(cli.read("export.csv"), "id,name,paid\n1,user 1,2\n2,user 2,4\n");
    // A file that is there is told before the backup is restored, and replaced only where that is said.
    cli.file("export.csv", "another");
    let real = [&["run"], &export[..], &["--confirm", "production"]].concat();
    cli.run(&real).ends(4).says("export.csv` is there already").says("overwrite");
    fs::remove_dir_all(cli.state()).unwrap();
    cli.run(&[&real[..], &["-p", "overwrite=true"]].concat()).ends(0);
    assert_eq!(cli.read("export.csv"), "id,name,paid\n1,user 1,2\n2,user 2,4\n");
    assert_eq!(production.facts(), before);
    production.nothing_is_left();
}

#[test]
fn a_copy_whose_engine_was_killed_is_listed_and_removed_when_the_run_is_resumed() {
    let (production, _) = shop();
    production.site.archive();
    let cli = &production.cli;
    let hold = gated(&cli.path("there"), &cli.path("gate"));
    cli.file(
        "look.yaml",
        &format!(
            "version: 1\nname: look\nsteps:\n  - {{ id: choose, uses: backup.find, with: {{ database: main, kind: postgres.base }} }}\n  \
             - {{ id: side, uses: postgres.side_instance, with: {{ database: main, backup: \"{{{{ steps.choose.backup }}}}\" }} }}\n  \
             - id: hold\n    effect: read\n    run: |\n      {hold}\n"
        ),
    );
    let live = cli.spawn(&["run", "look.yaml", "--confirm", "production"]);
    until("the copy is there", || cli.path("there").exists());
    assert!(live.kill());
    let run = cli.id();
    let scratch = cli.state().join("scratch").join(&run);
    assert!(!processes_of(&scratch).is_empty(), "the copy ended with the engine");
    cli.run(&["leases"]).ends(0).prints("main/copy").prints(&format!("runbook resume {run}"));
    cli.file("gate", "");
    cli.run(&["resume", &run]).ends(0);
    assert!(processes_of(&scratch).is_empty() && !scratch.exists());
    cli.run(&["leases"]).ends(0).says("no leases");
    production.nothing_is_left();
}
