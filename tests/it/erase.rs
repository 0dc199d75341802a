//! `postgres.erase`: who was forgotten before is forgotten again after a restore, and nobody else.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use runbook::action::{
    Action as _, ActionError, CheckContext, ErasureKey, Findings, Forget, RunContext, Surroundings, Treatment, Word,
};
use runbook::actions::postgres::{Erase, EraseOutput, EraseParams};
use runbook::base::secret::SecretText;
use runbook::event::ErrorClass;
use runbook::journal::erasure::{ERASURE_FILE, ErasureLedger};
use runbook::language::inventory::{ErasureSettings, Inventory};
use serde_json::{Value, json};

use crate::support::cli::{Cli, until};
use crate::support::production::Production;
use crate::support::recovery::{Known, Site};

const KEY: &str = "a key of more than thirty-two bytes, for tests";

/// A cluster with people in it, and a ledger.
struct Forgetful {
    site: Site,
    ledger: ErasureLedger,
    root: tempfile::TempDir,
    tolerance: Option<&'static str>,
}

impl Forgetful {
    fn new(sql: &str) -> Self {
        let site = Site::with(&[
            ("log_statement", "all"),
            ("log_min_error_statement", "error"),
            ("max_prepared_transactions", "4"),
        ]);
        site.cluster.sql(sql);
        let root = tempfile::tempdir().unwrap();
        Self { site, ledger: ErasureLedger::below(root.path()), root, tolerance: Some("0s") }
    }

    fn forget(&self, who: &str, table: &str, column: &str, treatment: Treatment) {
        let (table, column) = (table.to_owned(), column.to_owned());
        let forget = Forget { table, column, treatment, ..lines_of(who) };
        self.ledger.add("test", forget).unwrap();
    }

    fn delete(&self, who: &str, table: &str, column: &str) {
        self.forget(who, table, column, Treatment::Delete);
    }

    fn about(&self, about: Surroundings, key: &str) -> Surroundings {
        let mut inventory = Inventory::clone(&about.inventory);
        let entry = inventory.databases.get_mut("main").unwrap();
        let clock_tolerance = self.tolerance.map(|span| span.parse().unwrap());
        entry.erasure = Some(ErasureSettings { keys: vec!["erasure".to_owned()], clock_tolerance });
        let secrets = Known(BTreeMap::from([("erasure".to_owned(), key.to_owned())]));
        Surroundings {
            inventory: Arc::new(inventory),
            secrets: Arc::new(secrets),
            erasures: Arc::new(self.ledger.clone()),
            ..about
        }
    }

    async fn erase(&self) -> Result<EraseOutput, ActionError> {
        self.erase_with(KEY).await
    }

    async fn erase_in(&self, more: Value) -> EraseOutput {
        let run = self.site.run();
        let cx = run.context();
        let cx = RunContext { about: self.about(cx.about.clone(), KEY), ..cx };
        let mut with = json!({ "database": "main" });
        with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let params: EraseParams = serde_json::from_value(with).unwrap();
        Erase.run(&params, &cx).await.unwrap()
    }

    async fn erase_with(&self, key: &str) -> Result<EraseOutput, ActionError> {
        let run = self.site.run();
        let cx = run.context();
        let cx = RunContext { about: self.about(cx.about.clone(), key), ..cx };
        Erase.run(&params(), &cx).await
    }

    async fn looked_at(&self) -> Result<Findings, ActionError> {
        let run = self.site.run();
        let cx = run.check_context();
        let cx = CheckContext { about: self.about(cx.about.clone(), KEY), ..cx };
        Erase.check(&params(), &cx).await
    }

    async fn looked_ahead(&self) -> Result<Findings, ActionError> {
        let run = self.site.run();
        let cx = run.check_context();
        let cx = CheckContext { about: self.about(cx.about.clone(), KEY), ahead: true, ..cx };
        Erase.check(&params(), &cx).await
    }

    fn sql(&self, sql: &str) -> String {
        self.site.cluster.sql(sql)
    }
}

fn params() -> EraseParams {
    serde_json::from_value(json!({ "database": "main" })).unwrap()
}

/// A line that is about somebody of `users`.
fn lines_of(who: &str) -> Forget {
    let key = ErasureKey::new(&SecretText::new(KEY.to_owned())).unwrap();
    Forget {
        subject: key.subject(who),
        key_id: key.id(),
        database: "main".to_owned(),
        dbname: None,
        table: "users".to_owned(),
        column: "email".to_owned(),
        word: Word::Forget,
        treatment: Treatment::Delete,
        reason: None,
    }
}

/// The words of an error with its causes and help.
fn words(error: &ActionError) -> String {
    format!("{:?}", error.info())
}

const PEOPLE: &str = "\
 CREATE TABLE users(id int PRIMARY KEY, email text UNIQUE NOT NULL, name text); \
 CREATE TABLE orders(id int PRIMARY KEY, who int NOT NULL REFERENCES users, mail text); \
 CREATE TABLE visits(at int, who text NOT NULL, ip inet, page text, land char(2) NOT NULL DEFAULT 'DE') PARTITION BY RANGE (at); \
 CREATE TABLE visits_1 PARTITION OF visits FOR VALUES FROM (0) TO (50); \
 CREATE TABLE visits_2 PARTITION OF visits FOR VALUES FROM (50) TO (100); \
 INSERT INTO users SELECT n, 'user' || n || '@example.org', 'user ' || n FROM generate_series(1, 20000) n; \
 INSERT INTO orders SELECT n, n, 'user' || n || '@example.org' FROM generate_series(1, 100) n; \
 INSERT INTO visits SELECT n, 'user' || n % 10 || '@example.org', '10.0.0.1', 'page ' || n FROM generate_series(0, 99) n; \
 CREATE MATERIALIZED VIEW names AS SELECT id, name FROM users; \
 CREATE VIEW shown AS SELECT * FROM names; CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS people FROM shown";

#[tokio::test]
async fn who_is_in_the_ledger_goes_with_all_copies_and_nobody_else_does() {
    let all = Forgetful::new(PEOPLE);
    // The parent first: the order that works is found.
    all.delete("user7@example.org", "users", "email");
    all.delete("user7@example.org", "orders", "mail");
    all.delete("nobody@example.org", "users", "email");
    let clear = Treatment::Anonymise(vec!["ip".to_owned(), "land".to_owned()]);
    all.forget("user7@example.org", "visits", "who", clear);
    let before = all.sql("SELECT md5(string_agg(u::text, ',' ORDER BY id)) FROM users u WHERE id <> 7");
    let counted = format!("{:?}", all.looked_at().await.unwrap());
    assert!(counted.contains("line 1: 1 rows of `postgres`, table `users` by `email`, to be erased"), "{counted}");
    assert_eq!(all.sql("SELECT count(*) FROM users"), "20000", "a check changes nothing");
    let ahead = format!("{:?}", all.looked_ahead().await.unwrap());
    assert!(ahead.contains("line 4: 10 rows without what identifies"), "a dry run counts: {ahead}");
    let done = all.erase().await.unwrap();
    let rows: Vec<(u64, u64)> = done.lines.iter().map(|line| (line.line, line.rows)).collect();
    assert_eq!(rows, [(1, 1), (2, 1), (3, 0), (4, 10)]);
    assert_eq!((done.deleted, done.anonymised, done.ledger_lines), (2, 10, 4));
    assert_eq!(done.ledger_head, Some(all.ledger.read().unwrap().head));
    assert_eq!(all.sql("SELECT count(*), min(people) FROM users, counted"), "19999|19999");
    assert_eq!(all.sql("SELECT md5(string_agg(u::text, ',' ORDER BY id)) FROM users u WHERE id <> 7"), before);
    assert_eq!(all.sql("SELECT count(*) FROM orders"), "99");
    assert_eq!(all.sql("SELECT count(*) FROM names WHERE id = 7"), "0");
    let visits = "SELECT count(*), count(ip), count(DISTINCT page), count(*) FILTER (WHERE who ~ '^erased-[0-9a-f]{16}$'), count(*) FILTER (WHERE land = 'er') FROM visits";
    assert_eq!(all.sql(visits), "100|90|100|10|10");
    let again = all.erase().await.unwrap();
    assert_eq!((again.deleted, again.anonymised), (0, 0), "twice is once");
    let said = all.site.said();
    assert!(said.contains("materialized view counted was made anew"), "{said}");
    assert!(!said.contains("example.org") && !all.site.cluster.log().contains("user7@"), "a name is in a log");
}

#[tokio::test]
async fn a_row_that_others_refer_to_stays_with_everything_else_and_the_constraint_is_named() {
    let all = Forgetful::new(
        "CREATE TABLE users(email text PRIMARY KEY); CREATE TABLE notes(id int, by text); \
         CREATE TABLE orders(id int PRIMARY KEY, mail text CONSTRAINT ordered_by REFERENCES users); \
         INSERT INTO users VALUES ('a@b'), ('c@d'); INSERT INTO notes VALUES (1, 'a@b'); INSERT INTO orders VALUES (1, 'a@b')",
    );
    all.delete("a@b", "notes", "by");
    all.delete("a@b", "users", "email");
    let error = words(&all.erase().await.unwrap_err());
    assert!(error.contains("ordered_by") && error.contains("nothing was erased") && !error.contains("a@b"), "{error}");
    assert_eq!(all.sql("SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM notes)"), "2|1");
    assert!(!all.site.cluster.log().contains("Key (email)=(a@b)"), "the server's log names a row");
    // A key that is switched off would be broken in silence.
    all.sql("ALTER TABLE users DISABLE TRIGGER ALL");
    let error = words(&all.erase().await.unwrap_err());
    assert!(error.contains("foreign key ordered_by on orders is switched off"), "{error}");
    all.sql("ALTER TABLE users ENABLE TRIGGER ALL; ALTER ROLE postgres SET session_replication_role = replica");
    let error = words(&all.erase().await.unwrap_err());
    assert!(error.contains("session_replication_role"), "{error}");
    all.sql(
        "ALTER ROLE postgres RESET session_replication_role; ALTER TABLE orders DROP CONSTRAINT ordered_by, \
             ADD CONSTRAINT ordered_by FOREIGN KEY (mail) REFERENCES users ON DELETE SET NULL",
    );
    let told = format!("{:?}", all.looked_at().await.unwrap());
    assert!(told.contains("rows that refer to it get NULL: foreign key ordered_by on orders"), "{told}");
    all.erase().await.unwrap();
    assert_eq!(all.sql("SELECT (SELECT count(*) FROM users), (SELECT count(mail) FROM orders)"), "1|0");
}

#[tokio::test]
async fn a_trigger_that_keeps_a_row_is_noticed() {
    let all = Forgetful::new(
        "CREATE TABLE users(email text PRIMARY KEY); INSERT INTO users VALUES ('a@b'); \
         CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
         CREATE TRIGGER keep BEFORE DELETE ON users FOR EACH ROW EXECUTE FUNCTION keep()",
    );
    all.delete("a@b", "users", "email");
    let error = words(&all.erase().await.unwrap_err());
    assert!(error.contains("1 rows of public.users are still there"), "{error}");
}

#[tokio::test]
async fn a_ledger_that_does_not_fit_or_does_not_hold_erases_nothing() {
    let all = Forgetful::new("CREATE TABLE users(email text, age int NOT NULL); INSERT INTO users VALUES ('a@b', 1)");
    let error = words(&all.erase().await.unwrap_err());
    assert!(error.contains("there is no erasure ledger"), "{error}");
    all.delete("a@b", "users", "email");
    let error = words(&all.erase_with("another key that is long enough to be one").await.unwrap_err());
    assert!(error.contains("line 1 of the erasure ledger was hashed with the key"), "{error}");
    all.forget("a@b", "users", "email", Treatment::Anonymise(vec!["age".to_owned()]));
    let error = words(&all.erase().await.unwrap_err());
    assert!(error.contains("column `age` of table `users` may not be NULL"), "{error}");
    for (table, column, wrong) in [("shown", "email", "no table `shown`"), ("users", "mail", "no column `mail`")] {
        let root = tempfile::tempdir().unwrap();
        let (ledger, site) = (ErasureLedger::below(root.path()), Site::new());
        let other = Forgetful { ledger, root, site, tolerance: None };
        other.sql("CREATE TABLE users(email text); INSERT INTO users VALUES ('a@b'); CREATE VIEW shown AS TABLE users");
        other.delete("a@b", "users", "email");
        other.delete("a@b", table, column);
        let error = words(&other.erase().await.unwrap_err());
        assert!(error.contains(wrong) && error.contains("line 2"), "{error}");
        assert!(words(&other.looked_at().await.unwrap_err()).contains(wrong));
        let ahead = other.looked_ahead().await.unwrap();
        assert!(!ahead.refused() && format!("{ahead:?}").contains(wrong), "a step before may bring it back: {ahead:?}");
        assert_eq!(other.sql("SELECT count(*) FROM users"), "1");
    }
    let path = all.root.path().join(ERASURE_FILE);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"users\"", "\"other\"", 1)).unwrap();
    let error = words(&all.erase().await.unwrap_err());
    assert!(error.contains("line 1 of the erasure ledger does not hold"), "{error}");
    assert_eq!(all.sql("SELECT count(email) FROM users"), "1");
}

#[tokio::test]
async fn a_table_that_did_not_exist_then_keeps_nobody_else_from_being_forgotten_and_is_told() {
    let all = Forgetful::new("CREATE TABLE users(email text); INSERT INTO users VALUES ('a@b'), ('c@d')");
    all.delete("a@b", "later", "email");
    all.delete("a@b", "users", "email");
    let told = format!("{:?}", all.looked_at().await.unwrap());
    assert!(told.contains("line 1: database `postgres` has no table `later` in this state"), "{told}");
    let done = all.erase().await.unwrap();
    let rows: Vec<(u64, u64)> = done.lines.iter().map(|line| (line.line, line.rows)).collect();
    assert_eq!((rows, done.absent.len()), (vec![(1, 0), (2, 1)], 1));
    assert_eq!(all.sql("SELECT string_agg(email, ',') FROM users"), "c@d");
    assert!(
        all.site.said().contains("if it had another name then, erase from that one by hand"),
        "{}",
        all.site.said()
    );
}

#[tokio::test]
async fn who_came_back_after_the_line_stays_and_who_was_only_restored_goes_from_the_named_tables_alone() {
    let all = Forgetful::new(
        "CREATE TABLE users(email text PRIMARY KEY); CREATE TABLE notes(by text); \
         CREATE TABLE visits(who text REFERENCES users ON DELETE CASCADE); \
         INSERT INTO users VALUES ('a@b'), ('c@d'); INSERT INTO visits VALUES ('a@b'), ('a@b'); INSERT INTO notes VALUES ('a@b')",
    );
    let now = || all.sql("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')");
    let before = now();
    all.delete("a@b", "users", "email");
    all.delete("a@b", "notes", "by");
    let after = now();
    let stays = all.erase_in(json!({ "as_of": after })).await;
    assert_eq!((stays.deleted, stays.back, stays.removed), (0, 2, 0));
    assert!(all.site.said().contains("they came back after they were forgotten"), "{}", all.site.said());
    assert_eq!(all.sql("SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM notes)"), "2|1");
    // A line that was said once more counts from then on.
    all.delete("a@b", "notes", "by");
    let goes = all.erase_in(json!({ "as_of": after, "tables": ["public.notes"] })).await;
    assert_eq!((goes.deleted, goes.back), (1, 0));
    assert_eq!(all.sql("SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM notes)"), "2|0");
    let goes = all.erase_in(json!({ "as_of": before, "tables": ["users"] })).await;
    assert_eq!((goes.deleted, goes.removed), (1, 1), "what follows in tables that are not named is not counted");
    assert_eq!(all.sql("SELECT count(*) FROM visits"), "0");
    all.sql("INSERT INTO users VALUES ('a@b'); INSERT INTO visits VALUES ('a@b'), ('a@b')");
    let goes = all.erase_in(json!({ "as_of": before, "tables": ["users", "visits"] })).await;
    assert_eq!((goes.deleted, goes.removed), (1, 3), "what a foreign key lets follow in them is counted");
}

#[tokio::test]
async fn a_line_that_is_a_little_older_than_the_data_is_carried_out_again() {
    let people = "CREATE TABLE users(email text PRIMARY KEY); INSERT INTO users VALUES ('a@b'), ('c@d')";
    let mut all = Forgetful::new(people);
    all.delete("a@b", "users", "email");
    let in_minutes = |minutes: u32| {
        let sql = format!(
            "SELECT to_char((clock_timestamp() + interval '{minutes} min') AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
        );
        json!({ "as_of": all.sql(&sql) })
    };
    let (soon, late) = (in_minutes(4), in_minutes(6));
    // Of a clock that is five minutes behind nobody can tell whether the data or the line is older.
    all.tolerance = None;
    let stays = all.erase_in(late).await;
    assert_eq!((stays.deleted, stays.back), (0, 1));
    let goes = all.erase_in(soon).await;
    assert_eq!((goes.deleted, goes.back), (1, 0));
    assert_eq!(all.sql("SELECT string_agg(email, ',') FROM users"), "c@d");
}

#[tokio::test]
async fn a_table_that_holds_nobody_who_must_go_is_not_locked() {
    let all = Forgetful::new("CREATE TABLE users(email text PRIMARY KEY); INSERT INTO users VALUES ('c@d')");
    all.delete("a@b", "users", "email");
    let mut writer = all.site.cluster.command("psql");
    writer.args(["-XAtq", "-U", "postgres", "-d", "postgres", "-h"]).arg(all.site.cluster.socket_dir());
    let statement = "BEGIN; UPDATE users SET email = 'e@f'; SELECT pg_sleep(600)";
    let port = all.site.cluster.port().to_string();
    let mut writer = writer.args(["-p", &port, "-c", statement]).stderr(std::process::Stdio::null()).spawn().unwrap();
    crate::support::cli::until("somebody writes", || {
        all.sql("SELECT count(*) FROM pg_locks WHERE relation = 'users'::regclass AND mode = 'RowExclusiveLock'") != "0"
    });
    let done = all.erase().await;
    all.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()");
    writer.wait().unwrap();
    assert_eq!(done.unwrap().deleted, 0);
}

#[tokio::test]
async fn a_prepared_transaction_that_would_bring_somebody_back_is_refused_by_its_name_until_it_is_ended() {
    let all = Forgetful::new(
        "CREATE TABLE users(email text PRIMARY KEY); CREATE TABLE users_1() INHERITS (users); CREATE TABLE other(n int); \
         INSERT INTO users VALUES ('c@d')",
    );
    all.delete("a@b", "users", "email");
    for (table, value, gid) in [("other", "1", "elsewhere"), ("users_1", "'a@b'", "p '1'")] {
        let gid = gid.replace('\'', "''");
        all.sql(&format!(
            "BEGIN; SELECT FROM users; INSERT INTO {table} VALUES ({value}); PREPARE TRANSACTION '{gid}'"
        ));
    }
    let told = words(&all.looked_at().await.unwrap_err());
    assert!(told.contains("'p ''1''' (in users_1)") && !told.contains("elsewhere"), "{told}");
    // A server that was started anew knows a prepared transaction by another number.
    for _ in 0..2 {
        let error = all.erase().await.unwrap_err();
        assert!(
            words(&error).contains("`COMMIT PREPARED 'p ''1'''` or `ROLLBACK PREPARED 'p ''1'''`"),
            "{}",
            words(&error)
        );
        all.site.cluster.stop("fast");
        all.site.cluster.up();
    }
    assert_eq!(all.erase_in(json!({ "tables": ["users"] })).await.deleted, 0);
    all.sql("COMMIT PREPARED 'p ''1'''");
    assert_eq!((all.erase().await.unwrap().deleted, all.sql("SELECT email FROM users")), (1, "c@d".to_owned()));
    all.sql("ROLLBACK PREPARED 'elsewhere'");
}

/// Visits in partitions, which the ledger names as a whole or one by one.
const VISITS: &str = "CREATE TABLE visits(at int, who text) PARTITION BY RANGE (at); \
 CREATE TABLE visits_1 PARTITION OF visits FOR VALUES FROM (0) TO (10); CREATE TABLE visits_2 PARTITION OF visits FOR VALUES FROM (10) TO (20); \
 CREATE TABLE \"Users\"(email text); INSERT INTO \"Users\" VALUES ('a@b'), ('c@d'); \
 INSERT INTO visits VALUES (1, 'a@b'), (2, 'c@d'), (11, 'a@b')";

#[tokio::test]
async fn who_came_back_with_a_partition_goes_though_the_ledger_names_the_whole_and_the_rest_is_left_alone() {
    let all = Forgetful::new(VISITS);
    all.delete("a@b", "visits", "who");
    let goes = all.erase_in(json!({ "tables": ["visits_1"] })).await;
    assert_eq!((goes.deleted, goes.removed, goes.lines.len()), (1, 1, 1));
    assert_eq!(all.sql("SELECT string_agg(at || who, ' ' ORDER BY at) FROM visits"), "2c@d 11a@b");
    let goes = all.erase_in(json!({ "tables": ["visits_2", "visits_1"] })).await;
    assert_eq!((goes.deleted, goes.lines.len()), (1, 1), "one line is told once");
    assert_eq!(all.sql("SELECT string_agg(at || who, ' ') FROM visits"), "2c@d");
}

#[tokio::test]
async fn who_came_back_with_the_whole_goes_though_the_ledger_names_a_partition() {
    let all = Forgetful::new(VISITS);
    all.delete("a@b", "visits_2", "who");
    let goes = all.erase_in(json!({ "tables": ["Visits"] })).await;
    assert_eq!((goes.deleted, goes.removed), (1, 1));
    assert_eq!(all.sql("SELECT string_agg(at || who, ' ' ORDER BY at) FROM visits"), "1a@b 2c@d");
    let other = all.erase_in(json!({ "tables": ["visits_1"] })).await;
    assert_eq!((other.deleted, other.lines.len()), (0, 0), "a partition beside it is none of it");
}

#[tokio::test]
async fn no_way_to_write_a_name_brings_back_who_was_forgotten() {
    let all = Forgetful::new(&format!("{VISITS}; CREATE TABLE users(email text); INSERT INTO users VALUES ('a@b')"));
    all.delete("a@b", "users", "email");
    all.delete("a@b", "public.\"Users\"", "email");
    for (written, left) in [("\"Users\"", "1|1"), ("public.USERS ", "0|1")] {
        let goes = all.erase_in(json!({ "tables": [written] })).await;
        assert_eq!((goes.deleted, goes.lines.len()), (1, 1), "{written}");
        assert_eq!(all.sql("SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM \"Users\")"), left);
    }
    all.sql("INSERT INTO users VALUES ('a@b')");
    let goes = all.erase_in(json!({ "tables": ["\"users\""] })).await;
    assert_eq!(goes.deleted, 1);
}

#[tokio::test]
async fn a_key_that_is_not_there_stops_what_it_is_wanted_for_and_nothing_else() {
    let all =
        Forgetful::new("CREATE TABLE users(email text); CREATE TABLE notes(by text); INSERT INTO users VALUES ('a@b')");
    let lost = ErasureKey::new(&SecretText::new(KEY.to_uppercase())).unwrap();
    let forget =
        Forget { subject: lost.subject("a@b"), key_id: lost.id(), table: "notes".to_owned(), ..lines_of("a@b") };
    all.ledger.add("test", Forget { column: "by".to_owned(), ..forget }).unwrap();
    all.delete("a@b", "users", "email");
    assert!(words(&all.erase().await.unwrap_err()).contains("was hashed with the key"));
    assert_eq!(all.erase_in(json!({ "tables": ["users"] })).await.deleted, 1);
    let notes: EraseParams = serde_json::from_value(json!({ "database": "main", "tables": ["notes"] })).unwrap();
    let run = all.site.run();
    let cx = run.context();
    let cx = RunContext { about: all.about(cx.about.clone(), KEY), ..cx };
    assert!(words(&Erase.run(&notes, &cx).await.unwrap_err()).contains("line 1 of the erasure ledger was hashed"));
}

#[tokio::test]
async fn an_erasure_that_is_cancelled_while_its_commit_waits_for_a_standby_may_be_committed() {
    let all = Forgetful::new("CREATE TABLE users(email text); INSERT INTO users VALUES ('a@b')");
    all.delete("a@b", "users", "email");
    let wait = |for_whom: &str| {
        all.sql(&format!("ALTER SYSTEM SET synchronous_standby_names = '{for_whom}'"));
        all.sql("SELECT pg_reload_conf()");
        until("the setting counts", || all.sql("SHOW synchronous_standby_names") == for_whom);
    };
    wait("nobody");
    let run = all.site.run();
    let cx = run.context();
    let cx = RunContext { about: all.about(cx.about.clone(), KEY), ..cx };
    let params = params();
    let (ended, ()) = tokio::join!(Erase.run(&params, &cx), async {
        let waits = || all.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") != "0";
        crate::support::host::until(|| waits().then_some(())).await;
        cx.cancel.cancel();
    });
    wait("");
    let error = ended.unwrap_err();
    assert_eq!(error.info().class, ErrorClass::Unknown, "{error}");
    assert!(error.to_string().contains("while the erasure was being committed"), "{error}");
    until("it is committed", || all.sql("SELECT count(*) FROM users") == "0");
}

/// Gives the production's inventory a key of the ledger.
fn forgetful(production: &Production, audit: &str) {
    let cli = &production.cli;
    let key = cli.file("erasure.key", KEY);
    let text = cli.read("inventory.yaml");
    let text = text.replace("prefix: main,", "prefix: main, erasure: { keys: [erasure], clock_tolerance: 0s },");
    let secrets = format!("secrets: {{ erasure: {{ file: {} }}, ", key.display());
    cli.file("inventory.yaml", &(text.replace("secrets: { ", &secrets) + audit));
}

fn add(cli: &Cli, who: &str) {
    say(cli, "add", ("users", "email"), who);
}

fn say(cli: &Cli, word: &str, (table, column): (&str, &str), who: &str) {
    let add = ["backups", "erase-ledger", word, "--key", "erasure", "--database", "main", "--table", table];
    cli.run(&[&add[..], &["--column", column, "--subject-key", who]].concat()).ends(0);
}

/// The notes of the run's step `forget`.
fn forgotten(cli: &Cli) -> Vec<Value> {
    let of_step = |event: &Value| event["kind"]["type"] == "step_noted" && event["kind"]["step"] == "forget";
    cli.journal().into_iter().filter(of_step).collect()
}

#[test]
fn somebody_was_forgotten_then_an_old_backup_came_back_and_they_are_gone_and_nothing_else() {
    let production = Production::new();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    cluster.sql(
        "CREATE TABLE users(email text PRIMARY KEY, name text); \
                 INSERT INTO users SELECT 'u' || n || '@example.org', 'user ' || n FROM generate_series(1, 50) n",
    );
    let with_all =
        cluster.sql("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')");
    forgetful(&production, "");
    cluster.sql("SELECT pg_sleep(0.01); DELETE FROM users WHERE email = 'u13@example.org'");
    production.site.archive();
    let to = format!("recover_to={with_all}");
    let pitr = ["pitr", "-p", "database=main", "-p", &to];
    // The ledger is asked for before anything is touched.
    cli.run(&[&["dry-run"], &pitr[..], &["-p", "incident_at=now"]].concat())
        .ends(4)
        .prints("there is no erasure ledger");
    // Who asks how it stands hears of it before the worst hour.
    cli.run(&["status", "main"]).ends(2).prints("restores are refused").prints("audit: { ship: STORE }");
    cli.run(&["backups", "erase-ledger", "list"]).ends(0).says("there is no erasure ledger");
    add(cli, "u13@example.org");
    let rest = "SELECT count(*), md5(string_agg(u::text, ',' ORDER BY email)) FROM users u";
    let rest = cluster.sql(rest);
    let before = production.facts();
    cli.run(&[&["drill"], &pitr[..]].concat()).ends(0);
    assert_eq!(production.facts(), before);
    assert!(forgotten(cli).iter().any(|event| event["kind"]["data"]["rows"] == 1), "{:?}", forgotten(cli));
    let drilled = cli.only_run();
    cli.run(&[&["run"], &pitr[..], &["-p", "incident_at=now", "--confirm", "production"]].concat()).ends(0);
    let journal =
        cli.runs().into_iter().find(|run| *run != drilled).map(|run| fs::read_to_string(run.join("journal.jsonl")));
    let journal = journal.unwrap().unwrap();
    assert!(journal.contains("line 1: 1 rows of `postgres`, table `users` by `email`"), "{journal}");
    assert!(!journal.contains("u13@"), "the journal names who was forgotten");
    assert_eq!(cluster.sql("SELECT count(*), md5(string_agg(u::text, ',' ORDER BY email)) FROM users u"), rest);
    assert_eq!(cluster.sql("SELECT sum(n) FROM t"), "500500");
}

#[test]
fn a_new_machine_forgets_by_the_ledger_that_was_shipped() {
    let production = Production::new();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    cluster.sql("CREATE TABLE users(email text PRIMARY KEY); INSERT INTO users VALUES ('a@b'), ('c@d'), ('e@f')");
    forgetful(&production, "audit: { ship: primary }\n");
    let backup = ["run", "base-backup", "-p", "database=main", "--confirm", "production"];
    cli.run(&backup).ends(0);
    let then =
        "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM pg_sleep(0.01)";
    let then = format!("recover_to={}", cluster.sql(then));
    cluster.sql("SELECT pg_sleep(0.01); DELETE FROM users WHERE email = 'a@b'");
    add(cli, "a@b");
    // The ledger is shipped with what a run leaves.
    cli.run(&backup).ends(0);
    production.site.archive();
    // The machine with the state folder burned; a drill elsewhere knows the ledger all the same.
    fs::remove_dir_all(cli.state()).unwrap();
    let drill = ["drill", "pitr", "-p", "database=main", "-p", &then];
    cli.run(&drill).ends(0);
    assert!(forgotten(cli).iter().any(|event| event["kind"]["data"]["rows"] == 1), "{:?}", forgotten(cli));
    // The ledger is shipped with each line, and the new machine goes on from what was shipped.
    fs::remove_dir_all(cli.state()).unwrap();
    cli.run(&["backups", "erase-ledger", "list"]).ends(0).prints("users.email");
    add(cli, "c@d");
    assert_eq!(ErasureLedger::below(&cli.state()).read().unwrap().lines.len(), 2);
    cli.run(&drill).ends(0);
    // A machine that began anew contradicts it, and nothing of that comes into the store before both are one.
    fs::remove_file(cli.state().join(ERASURE_FILE)).unwrap();
    ErasureLedger::below(&cli.state()).add("elsewhere", lines_of("e@f")).unwrap();
    let shipped = || fs::read_dir(production.site.depot.root.join("runbook-audit/erasure")).unwrap().count();
    let before = shipped();
    cli.run(&drill).ends(4).says("differ from line 1 on");
    cli.run(&["audit", "ship"]).ends(15).prints("runbook backups erase-ledger merge");
    cli.run(&["backups", "erase-ledger", "list"]).ends(15).says("differ from line 1 on");
    assert_eq!(shipped(), before);
    cli.run(&["backups", "erase-ledger", "merge"]).ends(0).prints("2 lines of `primary` were brought in");
    cli.run(&drill).ends(0);
    assert_eq!(ErasureLedger::below(&cli.state()).read().unwrap().in_force().len(), 3);
    // What is wholly in the store leads on from any machine.
    fs::remove_dir_all(cli.state()).unwrap();
    cli.run(&["backups", "erase-ledger", "list"]).ends(0).prints("by elsewhere");
}

#[test]
fn somebody_who_came_back_survives_a_recovery_and_an_accident_elsewhere_and_the_dropped_table_forgets_again() {
    let production = Production::new();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    cluster.sql(
        "CREATE TABLE users(email text PRIMARY KEY); CREATE TABLE notes(id int PRIMARY KEY, by text); \
         INSERT INTO notes VALUES (1, 'x@y'), (2, 'c@d')",
    );
    forgetful(&production, "");
    add(cli, "a@b");
    // Forgotten, and here again since.
    cluster.sql("SELECT pg_sleep(0.01); INSERT INTO users VALUES ('a@b')");
    production.site.archive();
    let then =
        "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM pg_sleep(0.01)";
    let then = cluster.sql(then);
    cluster.sql("SELECT pg_sleep(0.01); DELETE FROM notes WHERE id = 1");
    say(cli, "add", ("notes", "by"), "x@y");
    cluster.sql("DROP TABLE notes");
    production.site.archive();
    let to = format!("recover_to={then}");
    let real = ["-p", "incident_at=now", "--confirm", "production"];
    let accident = ["run", "accidental-drop", "-p", "database=main", "-p", &to, "-p", "tables=notes"];
    cli.run(&[&accident[..], &real].concat()).ends(0);
    assert_eq!(cluster.sql("SELECT string_agg(by, ',') FROM notes"), "c@d");
    assert_eq!(cluster.sql("SELECT count(*) FROM users"), "1", "another table is left alone");
    cluster.sql("CHECKPOINT");
    cluster.kill();
    cli.run(&[&["run", "full-db-loss", "-p", "database=main"], &real[..]].concat()).ends(0);
    assert_eq!(cluster.sql("SELECT count(*) FROM users"), "1", "who came back is not deleted");
    let recovered = cli.shown();
    let step = recovered["steps"].as_array().unwrap().iter().find(|step| step["id"] == "recover").unwrap();
    assert_eq!(step["output"]["as_of"], step["output"]["recovered_to_time"], "{recovered:#}");
    cli.run(&["backups", "erase-ledger", "list"]).ends(0).prints("main users.email");
    say(cli, "lift", ("users", "email"), "a@b");
    cli.run(&["backups", "erase-ledger", "list"]).ends(0).prints("they came back");
    let again = ["backups", "erase-ledger", "lift", "--key", "erasure", "--database", "main", "--table", "users"];
    let again = cli.run(&[&again[..], &["--column", "email", "--subject-key", "nobody"]].concat());
    again.ends(2).says("no line that counts is about this subject");
}

#[test]
fn who_was_forgotten_does_not_come_out_of_an_export_of_an_old_backup_and_the_live_database_is_not_touched() {
    let production = Production::new();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    cluster.sql("CREATE TABLE users(email text PRIMARY KEY); INSERT INTO users VALUES ('a@b'), ('c@d'), ('e@f')");
    let backup = "version: 1\nname: monthly\nsteps:\n  - { id: backup, uses: postgres.base_backup, with: { database: main, tier: monthly } }\n";
    cli.file("monthly.yaml", backup);
    cli.run(&["run", "monthly.yaml", "--confirm", "production"]).ends(0);
    production.site.archive();
    forgetful(&production, "");
    add(cli, "c@d");
    let before = production.facts();
    let to = cli.path("export.csv");
    let to = format!("to={}", to.display());
    let export =
        ["run", "compliance-export", "-p", "database=main", "-p", "sql=SELECT email FROM users ORDER BY 1", "-p", &to];
    cli.run(&[&export[..], &["--confirm", "production"]].concat()).ends(0);
    assert_eq!(cli.read("export.csv"), "email\na@b\ne@f\n");
    assert_eq!(production.facts(), before);
    assert_eq!(cluster.sql("SELECT count(*) FROM users"), "3", "the copy alone was changed");
}

#[test]
fn a_recovery_that_cannot_forget_waits_before_the_services_start_and_goes_on_when_it_can() {
    let production = Production::new();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    cluster.sql(
        "CREATE TABLE users(email text PRIMARY KEY); INSERT INTO users VALUES ('a@b'), ('c@d'); \
         CREATE TABLE notes(who text REFERENCES users); INSERT INTO notes VALUES ('c@d')",
    );
    production.site.archive();
    forgetful(&production, "");
    add(cli, "c@d");
    let run = ["run", "full-db-loss", "-p", "database=main", "-p", "incident_at=now", "--confirm", "production"];
    cli.run(&run).ends(13).says("forget");
    assert_eq!(cluster.sql("SELECT count(*) FROM users"), "2");
    cluster.sql("DELETE FROM notes");
    cli.run(&["retry", "last", "forget", "--reason", "the notes are gone"]).ends(0);
    cli.run(&["resume", "last"]).ends(0);
    assert_eq!(cluster.sql("SELECT string_agg(email, ' ') FROM users"), "a@b");
}
