//! Tables brought back from a side instance: real clusters, real accidents.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use runbook::action::{Action as _, ActionError, InstanceHandle};
use runbook::actions::postgres::{
    Dump, Query, RestoreTable, RestoreTableOutput, SideInstance, TableOutcome, TableState, TableUndo, UndoScript,
};
use runbook::base::Digest;
use runbook::event::ErrorClass;
use serde_json::{Value, json};

use crate::support::cli::until;
use crate::support::recovery::{Run, Site};

/// A shop with everything that a table can have around it.
const SHOP: &str = "
CREATE ROLE clerk; CREATE ROLE keeper;
CREATE TABLE users(id serial PRIMARY KEY, name text NOT NULL UNIQUE, age int CHECK (age > 0), upper text GENERATED ALWAYS AS (upper(name)) STORED);
COMMENT ON TABLE users IS 'who buys'; COMMENT ON COLUMN users.age IS 'in years';
CREATE INDEX users_age ON users(age);
CREATE TABLE log(what text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.log VALUES (TG_OP); RETURN NULL; END $$;
CREATE TRIGGER noted AFTER INSERT OR UPDATE OR DELETE ON users FOR EACH ROW EXECUTE FUNCTION note();
ALTER TABLE users ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON users FOR SELECT TO clerk USING (age < 50);
GRANT SELECT ON users TO clerk; ALTER TABLE users OWNER TO keeper;
CREATE TABLE orders(id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, who int NOT NULL CONSTRAINT orders_who REFERENCES users, paid numeric(10,2), doc json);
CREATE VIEW adults AS SELECT id, name FROM users WHERE age >= 18; GRANT SELECT ON adults TO clerk;
INSERT INTO users(name, age) SELECT 'user ' || n, 20 + n FROM generate_series(1, 20) n;
INSERT INTO orders(who, paid, doc) SELECT n, n * 1.10, '{\"n\": 1}' FROM generate_series(1, 20) n; TRUNCATE log;";

/// Everything about a table but its rows.
const STRUCTURE: &str = "
SELECT md5(string_agg(x, E'\\n' ORDER BY x)), count(*) FROM (
 SELECT indexdef AS x FROM pg_indexes WHERE tablename = 'users'
 UNION ALL SELECT conrelid::regclass || conname || pg_get_constraintdef(oid) || convalidated FROM pg_constraint WHERE 'users'::regclass IN (conrelid, confrelid)
 UNION ALL SELECT pg_get_triggerdef(oid) || tgenabled::text FROM pg_trigger WHERE tgrelid = 'users'::regclass AND NOT tgisinternal
 UNION ALL SELECT policyname || cmd || qual || roles::text FROM pg_policies WHERE tablename = 'users'
 UNION ALL SELECT relacl::text || relowner::regrole || relrowsecurity FROM pg_class WHERE oid = 'users'::regclass
 UNION ALL SELECT attname || format_type(atttypid, atttypmod) || attnotnull || attgenerated::text FROM pg_attribute WHERE attrelid = 'users'::regclass AND attnum > 0
 UNION ALL SELECT obj_description('users'::regclass) || col_description('users'::regclass, 3)
 UNION ALL SELECT pg_get_serial_sequence('users', 'id')
 UNION ALL SELECT pg_get_viewdef('adults'::regclass) || relacl::text FROM pg_class WHERE oid = 'adults'::regclass) y";

const ROWS: &str = "SELECT md5(string_agg(u::text, ',' ORDER BY id)), count(*) FROM users u";

/// A shop, a copy of it as it is now, and the run that both belong to.
struct Shop {
    site: Site,
}

impl Shop {
    fn new() -> Self {
        let site = Site::new();
        site.cluster.sql(SHOP);
        Self { site }
    }

    async fn copy(&self, run: &Run<'_>) -> InstanceHandle {
        let backup = run.base_backup().await.backup;
        self.copy_of(run, json!({ "database": "main", "backup": backup })).await
    }

    /// A copy of a dump.
    async fn copy_of_dump(&self, run: &Run<'_>) -> InstanceHandle {
        let dumped = Dump.run(&serde_json::from_value(json!({ "database": "main" })).unwrap(), &run.context()).await;
        let backup = dumped.unwrap_or_else(|error| panic!("{:#?}", error.info())).backup;
        self.copy_of(run, json!({ "database": "main", "backup": backup, "name": "dump" })).await
    }

    async fn copy_of(&self, run: &Run<'_>, with: Value) -> InstanceHandle {
        let params = serde_json::from_value(with).unwrap();
        let side = SideInstance::new(env!("CARGO_BIN_EXE_runbook").into()).run(&params, &run.context()).await;
        side.unwrap_or_else(|error| panic!("{:#?}", error.info())).instance
    }

    fn sql(&self, sql: &str) -> String {
        self.site.cluster.sql(sql)
    }
}

async fn try_restore(run: &Run<'_>, with: Value) -> Result<RestoreTableOutput, ActionError> {
    let mut all = json!({ "database": "main" });
    all.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
    RestoreTable.run(&serde_json::from_value(all).unwrap(), &run.context()).await
}

async fn restore(run: &Run<'_>, with: Value) -> RestoreTableOutput {
    try_restore(run, with).await.unwrap_or_else(|error| panic!("{:#?}", error.info()))
}

async fn revert(run: &Run<'_>, undo: &Option<TableUndo>) -> Result<RestoreTableOutput, ActionError> {
    try_restore(run, json!({ "mode": "revert", "undo": undo.as_ref().unwrap() })).await
}

fn counts(outcome: &TableOutcome) -> (u64, u64, u64) {
    let difference = outcome.difference.as_ref().unwrap();
    (difference.missing, difference.changed, difference.extra)
}

#[tokio::test]
async fn a_dropped_table_comes_back_whole_and_so_does_what_went_with_it() {
    let shop = Shop::new();
    let run = shop.site.run();
    let (structure, rows) = (shop.sql(STRUCTURE), shop.sql(ROWS));
    let copy = shop.copy(&run).await;
    shop.sql("DROP TABLE users CASCADE");
    let seen = restore(&run, json!({ "instance": copy, "tables": ["users", "public.orders"] })).await;
    let states: Vec<_> = seen.tables.iter().map(|one| (one.table.as_str(), one.state, one.rows_in_copy)).collect();
    assert_eq!(states, [("public.orders", TableState::There, 20), ("public.users", TableState::Gone, 20)]);
    assert_eq!((seen.missing, seen.applied, seen.undo), (20, 0, None));
    let back = restore(&run, json!({ "instance": copy, "tables": ["users"], "mode": "apply" })).await;
    assert_eq!((back.tables[0].state, back.applied), (TableState::Recreated, 20));
    assert_eq!((shop.sql(STRUCTURE), shop.sql(ROWS)), (structure, rows));
    assert_eq!(shop.sql("INSERT INTO users(name) VALUES ('new') RETURNING id"), "21");
    assert!(shop.site.said().contains("orders_who on public.orders, public.adults"), "{}", shop.site.said());
    let refused = revert(&run, &back.undo).await.unwrap_err();
    assert!(refused.to_string().contains("took nothing back"), "{refused}");
    shop.sql("DELETE FROM users WHERE name = 'new'");
    revert(&run, &back.undo).await.unwrap();
    assert_eq!(shop.sql("SELECT to_regclass('users') IS NULL AND to_regclass('adults') IS NULL"), "t");
}

/// The programs of a site, with a `pg_restore` that shows a dump as those before PostgreSQL 14 are: what attaches a partition has
/// no entry of its own, and stands in the script of the tables.
fn before_14(site: &Site) -> PathBuf {
    let (own, folder) = (site.cluster.bin(), site.cluster.folder("programs"));
    for program in fs::read_dir(own).unwrap().flatten().filter(|entry| entry.file_name() != "pg_restore") {
        std::os::unix::fs::symlink(program.path(), folder.join(program.file_name())).unwrap();
    }
    let script = "#!/bin/sh\nset -e\nlist='' shown=''\nfor word in \"$@\"; do\n  case $word in\n    --list) shown=yes ;;\n    \
         --file=*) [ -z \"$shown\" ] || list=${word#--file=} ;;\n    --use-list=*) list=${word#--use-list=} ;;\n  esac\ndone\n\
         if [ -n \"$shown\" ]; then\n  REAL \"$@\"\n  grep ' TABLE ATTACH ' \"$list\" >\"$list.attach\" || :\n  \
         grep -v ' TABLE ATTACH ' \"$list\" >\"$list.own\"\n  cat \"$list.own\" >\"$list\"\n  exit\nfi\n\
         awk -v attach=\"$list.attach\" '/ TABLE DATA / && !done { while ((getline line < attach) > 0) print line; done = 1 } { print }' \
         \"$list\" >\"$list.own\"\ncat \"$list.own\" >\"$list\"\nREAL \"$@\"\n\
         grep -v ' TABLE ATTACH ' \"$list\" >\"$list.own\"\ncat \"$list.own\" >\"$list\"\n";
    let script = script.replace("REAL", &own.join("pg_restore").display().to_string());
    fs::write(folder.join("pg_restore"), script).unwrap();
    fs::set_permissions(folder.join("pg_restore"), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

async fn restore_with(bin: &Path, run: &Run<'_>, with: Value) -> RestoreTableOutput {
    let mut all = json!({ "database": "main" });
    all.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
    let mut context = run.context();
    let mut inventory = (*context.about.inventory).clone();
    inventory.databases.get_mut("main").unwrap().bin = Some(bin.to_owned());
    context.about.inventory = Arc::new(inventory);
    let restored = RestoreTable.run(&serde_json::from_value(all).unwrap(), &context).await;
    restored.unwrap_or_else(|error| panic!("{:#?}", error.info()))
}

#[tokio::test]
async fn a_copy_of_a_base_backup_takes_no_row_of_an_unlogged_table_away_and_one_of_a_dump_brings_them_back() {
    let shop = Shop::new();
    shop.sql(
        "CREATE UNLOGGED TABLE cache(id int PRIMARY KEY, v text); INSERT INTO cache SELECT n, 'v' FROM generate_series(1, 3) n; \
         CREATE TABLE days(id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE UNLOGGED TABLE monday PARTITION OF days DEFAULT; \
         INSERT INTO days VALUES (1)",
    );
    let run = shop.site.run();
    let copy = shop.copy(&run).await;
    for (table, names) in [("cache", "public.cache"), ("days", "public.monday"), ("monday", "public.monday")] {
        for more in [json!({}), json!({ "mode": "apply", "apply": "mirror" })] {
            let mut with = json!({ "instance": copy, "tables": [table] });
            with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let error = try_restore(&run, with).await.unwrap_err();
            assert!(error.to_string().contains(&format!("{names} is UNLOGGED")), "{error}");
        }
    }
    let params = json!({ "database": "main", "instance": copy, "tables": ["cache"] });
    let told = RestoreTable.check(&serde_json::from_value(params).unwrap(), &run.check_context()).await.unwrap();
    assert!(format!("{told:?}").contains("public.cache is UNLOGGED"), "{told:?}");
    assert_eq!(shop.sql("SELECT (SELECT count(*) FROM cache), (SELECT count(*) FROM days)"), "3|1");
    let dump = shop.copy_of_dump(&run).await;
    shop.sql("DELETE FROM cache WHERE id = 1; INSERT INTO cache VALUES (9, 'late'); TRUNCATE days");
    let all = json!({ "instance": dump, "tables": ["cache", "days"], "mode": "apply", "apply": "mirror" });
    assert_eq!(restore(&run, all.clone()).await.applied, 3);
    assert_eq!(shop.sql("SELECT string_agg(id::text, ' ' ORDER BY id) FROM cache"), "1 2 3");
    shop.sql("DROP TABLE cache");
    assert_eq!(restore(&run, all).await.tables.last().unwrap().state, TableState::Recreated);
    assert_eq!(
        shop.sql("SELECT count(*), (SELECT relpersistence FROM pg_class WHERE relname = 'cache') FROM cache"),
        "3|u"
    );
}

#[tokio::test]
async fn what_attempts_did_whose_answer_was_lost_is_taken_back_with_the_rest() {
    let shop = Shop::new();
    let run = shop.site.run();
    let copy = shop.copy(&run).await;
    shop.sql("DELETE FROM orders; DELETE FROM users WHERE id <= 5");
    let now = shop.sql(ROWS);
    let attempt = async |number: u32| {
        let mut context = run.context();
        context.attempt_dir = run.dir.join("attempts").join(number.to_string());
        fs::create_dir_all(&context.attempt_dir).unwrap();
        let with = json!({ "database": "main", "instance": copy, "tables": ["users"], "mode": "apply" });
        RestoreTable.run(&serde_json::from_value(with).unwrap(), &context).await.unwrap()
    };
    assert_eq!(attempt(1).await.applied, 5);
    let late = shop.sql("DELETE FROM users WHERE id = 9 RETURNING id");
    let second = attempt(2).await;
    assert_eq!((second.applied, late.as_str()), (1, "9"));
    let paths = |undo: &Option<TableUndo>| {
        let scripts = undo.clone().unwrap().scripts.into_iter();
        scripts.map(|one| one.path.parent().unwrap().file_name().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(paths(&second.undo), ["2", "1"]);
    // One that was rolled back, as when the server died before the commit, has nothing to take back.
    let rolled_back = shop.sql("BEGIN; SELECT pg_current_xact_id(); ROLLBACK");
    let script = fs::read_to_string(run.dir.join("attempts/2/undo-rows.sql")).unwrap();
    let line = script.lines().find(|line| line.starts_with("-- transaction ")).unwrap();
    let folder = run.dir.join("attempts/3");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("undo-rows.sql"), script.replace(line, &format!("-- transaction {rolled_back}"))).unwrap();
    let fourth = attempt(4).await;
    assert_eq!((fourth.applied, paths(&fourth.undo)), (0, vec!["2".into(), "1".into()]));
    revert(&run, &fourth.undo).await.unwrap();
    assert_eq!(shop.sql("SELECT count(*) FROM users WHERE id <= 5 OR id = 9"), "0");
    shop.sql("INSERT INTO users(id, name, age) VALUES (9, 'user 9', 29)");
    assert_eq!(shop.sql(ROWS), now);
}

#[tokio::test]
async fn a_dropped_partition_comes_back_into_the_table_that_it_was_part_of() {
    let shop = Shop::new();
    shop.sql(
        "CREATE TABLE day(id int PRIMARY KEY, who int REFERENCES users, what text) PARTITION BY RANGE (id); CREATE INDEX ON day(what); \
         CREATE TABLE \"day one\" PARTITION OF day FOR VALUES FROM (0) TO (10); \
         CREATE TABLE rest PARTITION OF day DEFAULT PARTITION BY LIST (id); CREATE TABLE ten PARTITION OF rest DEFAULT; \
         CREATE INDEX ON ONLY \"day one\"(who); INSERT INTO day SELECT n, n + 1, 'row ' || n FROM generate_series(0, 15) n",
    );
    let structure = "SELECT string_agg(x, E'\\n' ORDER BY x) FROM (SELECT conrelid::regclass || conname || pg_get_constraintdef(oid) \
         || convalidated || conislocal || coninhcount || (conparentid <> 0) AS x FROM pg_constraint \
         WHERE conrelid IN (SELECT relid FROM pg_partition_tree('day')) UNION ALL SELECT indexdef FROM pg_indexes \
         WHERE tablename IN ('day', 'day one', 'rest', 'ten') UNION ALL SELECT inhrelid::regclass || ' in ' || inhparent::regclass \
         FROM pg_inherits UNION ALL SELECT relname || pg_get_expr(relpartbound, oid) FROM pg_class WHERE relispartition AND relkind IN ('r', 'p')) y";
    let rows = "SELECT string_agg(tableoid::regclass || d::text, ',' ORDER BY id) FROM day d";
    let before = (shop.sql(structure), shop.sql(rows));
    let run = shop.site.run();
    let copy = shop.copy(&run).await;
    shop.sql("DROP TABLE \"day one\"; DROP TABLE rest");
    let back =
        restore(&run, json!({ "instance": copy, "tables": ["\"day one\"", "rest", "ten"], "mode": "apply" })).await;
    assert_eq!((shop.sql(structure), shop.sql(rows)), before);
    revert(&run, &back.undo).await.unwrap();
    assert_eq!(shop.sql("SELECT count(*) FROM pg_inherits WHERE inhparent = 'day'::regclass"), "0");
    let with = json!({ "instance": copy, "tables": ["\"day one\"", "rest", "ten"], "mode": "apply" });
    let back = restore_with(&before_14(&shop.site), &run, with).await;
    assert_eq!((shop.sql(structure), shop.sql(rows)), before);
    revert(&run, &back.undo).await.unwrap();
}

/// A table, what inherits from it and what inherits from that, each with rows of its own.
const MEASURES: &str = "
CREATE TABLE measures(id serial PRIMARY KEY, at int, v text);
CREATE TABLE measures_1(PRIMARY KEY (id), CHECK (at < 100)) INHERITS (measures);
CREATE TABLE measures_2(extra int, PRIMARY KEY (id)) INHERITS (measures);
CREATE TABLE measures_2b(PRIMARY KEY (id)) INHERITS (measures_2);
INSERT INTO measures(at) VALUES (0);
INSERT INTO measures_1(at, v) SELECT n, 'v' || n FROM generate_series(1, 10) n;
INSERT INTO measures_2(at, extra) SELECT n, n FROM generate_series(1, 10) n;
INSERT INTO measures_2b(at, extra) SELECT n, n FROM generate_series(1, 5) n;";

#[tokio::test]
async fn what_inherits_from_a_table_comes_back_with_it_row_by_row_and_whole() {
    let shop = Shop::new();
    shop.sql(MEASURES);
    let rows = "SELECT count(*), md5(string_agg(tableoid::regclass || m::text, ',' ORDER BY id)) FROM measures m";
    let heirs = "SELECT string_agg(inhrelid::regclass || ' in ' || inhparent::regclass, ',' ORDER BY inhrelid::regclass::text) FROM pg_inherits \
                 WHERE inhrelid::regclass::text LIKE 'measures%' AND inhrelid::regclass::text !~ 'key'";
    let before = (shop.sql(rows), shop.sql(heirs));
    let run = shop.site.run();
    let copy = shop.copy(&run).await;
    let with = |tables: &[&str]| json!({ "instance": copy, "tables": tables, "mode": "apply" });
    shop.sql("DELETE FROM measures");
    let looked = restore(&run, json!({ "instance": copy, "tables": ["measures"] })).await;
    assert_eq!((looked.missing, looked.tables.len()), (26, 4));
    let params = json!({ "database": "main", "instance": copy, "tables": ["measures"], "mode": "apply" });
    let told = RestoreTable.check(&serde_json::from_value(params).unwrap(), &run.check_context()).await.unwrap();
    let along =
        "public.measures comes with it where the copy has it: public.measures_1, public.measures_2, public.measures_2b";
    assert!(format!("{told:?}").contains(along), "{told:?}");
    let back = restore(&run, with(&["measures"])).await;
    assert_eq!((back.applied, shop.sql(rows)), (26, before.0.clone()));
    revert(&run, &back.undo).await.unwrap();
    assert_eq!(shop.sql("SELECT count(*) FROM measures"), "0");
    // Naming all of them is the same, and so is naming one twice.
    let all = ["measures", "public.measures", "measures_1", "measures_2", "measures_2b"];
    assert_eq!((restore(&run, with(&all)).await.applied, shop.sql(rows)), (26, before.0.clone()));

    shop.sql("DROP TABLE measures CASCADE");
    let refused = try_restore(&run, with(&["measures_1"])).await.unwrap_err();
    assert!(
        refused.to_string().contains("measures_1 is a part of public.measures, which is gone as well"),
        "{refused}"
    );
    let back = restore(&run, with(&["measures"])).await;
    assert_eq!((back.gone, shop.sql(rows), shop.sql(heirs)), (4, before.0.clone(), before.1.clone()));
    revert(&run, &back.undo).await.unwrap();
    assert_eq!(shop.sql("SELECT count(*) FROM pg_class WHERE relname LIKE 'measures%'"), "0");
    assert_eq!(restore(&run, with(&all)).await.gone, 4);
    assert_eq!((shop.sql(rows), shop.sql(heirs)), before);

    // One that is gone comes with what it inherits from; what was let go and what came since is left as it is.
    shop.sql(
        "DROP TABLE measures_2b; ALTER TABLE measures_1 NO INHERIT measures; DELETE FROM measures_1 WHERE at > 5; \
         CREATE TABLE measures_3(PRIMARY KEY (id)) INHERITS (measures); INSERT INTO measures_3(at) VALUES (1)",
    );
    let back = restore(&run, with(&["measures"])).await;
    assert_eq!((back.gone, back.applied, shop.sql("SELECT count(*) FROM measures_1")), (1, 5, "5".to_owned()));
    let said = shop.site.said();
    assert!(said.contains("public.measures_1 inherited from public.measures in the copy and does not now"), "{said}");
    assert!(said.contains("public.measures_3 inherits from public.measures since"), "{said}");
    // One without a key that is not as it was is no success.
    shop.sql("ALTER TABLE measures_2b DROP CONSTRAINT measures_2b_pkey; DELETE FROM measures_2b");
    let refused = try_restore(&run, with(&["measures"])).await.unwrap_err();
    assert!(format!("{:?}", refused.info()).contains("name, in place of the parent"), "{:?}", refused.info());
}

#[tokio::test]
async fn a_table_that_is_gone_comes_back_although_rows_that_it_refers_to_are_gone_too() {
    let shop = Shop::new();
    let orders = "SELECT count(*), md5(string_agg(o::text, ',' ORDER BY id)) FROM orders o";
    let before = (shop.sql(ROWS), shop.sql(orders));
    let run = shop.site.run();
    let copy = shop.copy(&run).await;
    shop.sql("DROP TABLE orders; DELETE FROM users WHERE id <= 5");
    let alone =
        try_restore(&run, json!({ "instance": copy, "tables": ["orders"], "mode": "apply" })).await.unwrap_err();
    let order = "in two runs, first `-p 'tables=public.users'`, then `-p 'tables=public.orders'`";
    assert!(format!("{:?}", alone.info()).contains(order), "{:?}", alone.info());
    let both = json!({ "instance": copy, "tables": ["orders", "users"], "mode": "apply" });
    let back = restore(&run, both.clone()).await;
    assert_eq!((back.applied, shop.sql(ROWS), shop.sql(orders)), (25, before.0.clone(), before.1.clone()));
    revert(&run, &back.undo).await.unwrap();
    assert_eq!(shop.sql("SELECT to_regclass('orders') IS NULL, count(*) FROM users"), "t|15");
    // What an attempt committed before it failed is taken back after what the next one made.
    let attempt = async |number: u32, with: &Value| {
        let mut context = run.context();
        context.attempt_dir = run.dir.join("attempts").join(number.to_string());
        fs::create_dir_all(&context.attempt_dir).unwrap();
        let mut all = json!({ "database": "main" });
        all.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        RestoreTable.run(&serde_json::from_value(all).unwrap(), &context).await
    };
    shop.sql(
        "CREATE FUNCTION deny() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$; \
         CREATE EVENT TRIGGER denied ON ddl_command_start WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION deny()",
    );
    let failed = attempt(1, &both).await.unwrap_err();
    shop.sql("DROP EVENT TRIGGER denied");
    let said = format!("{:?}", failed.info());
    assert!(said.contains("undo-rows-before-tables.sql` would take them back"), "{said}");
    let second = attempt(2, &both).await.unwrap();
    let names = second.undo.clone().unwrap().scripts.into_iter().map(|one| one.path).collect::<Vec<_>>();
    assert!(
        names[0].ends_with("2/undo-tables.sql") && names[1].ends_with("1/undo-rows-before-tables.sql"),
        "{names:?}"
    );
    revert(&run, &second.undo).await.unwrap();
    assert_eq!(shop.sql("SELECT to_regclass('orders') IS NULL, count(*) FROM users"), "t|15");
}

#[tokio::test]
async fn large_objects_come_back_with_the_rows_that_refer_to_them_and_go_with_them() {
    let shop = Shop::new();
    shop.sql(
        "CREATE EXTENSION lo; CREATE TABLE pics(id int PRIMARY KEY, img lo, thumb oid); CREATE TABLE drawings(id int PRIMARY KEY, img lo); \
         CREATE TRIGGER manage BEFORE UPDATE OR DELETE ON pics FOR EACH ROW EXECUTE FUNCTION lo_manage(img); \
         INSERT INTO pics SELECT n, lo_from_bytea(0, convert_to(repeat('ab' || n, 2000 * n), 'UTF8')), 1259 FROM generate_series(1, 5) n; \
         UPDATE pics SET thumb = lo_create(0) WHERE id = 1; \
         INSERT INTO drawings VALUES (101, lo_from_bytea(0, convert_to(repeat('large', 300000), 'UTF8'))); \
         DO $$ DECLARE o oid; BEGIN FOR o IN SELECT img FROM pics WHERE id = 2 UNION SELECT img FROM drawings LOOP \
          EXECUTE format('GRANT SELECT ON LARGE OBJECT %s TO clerk', o); EXECUTE format('ALTER LARGE OBJECT %s OWNER TO keeper', o); \
         END LOOP; END $$",
    );
    let state = "SELECT string_agg(concat_ws('|', id, m.oid, md5(lo_get(m.oid)), pg_get_userbyid(lomowner), lomacl), ' ' ORDER BY id, m.oid) \
                 FROM (SELECT id, img FROM pics UNION ALL SELECT id, thumb FROM pics UNION ALL SELECT id, img FROM drawings) p \
                 JOIN pg_largeobject_metadata m ON m.oid = p.img";
    let before = shop.sql(state);
    let run = shop.site.run();
    let copy = shop.copy(&run).await;
    let loss = "SELECT lo_unlink(thumb) FROM pics WHERE id = 1; DELETE FROM pics WHERE id <= 3; \
                SELECT lo_unlink(img) FROM drawings; DROP TABLE drawings";
    shop.sql(loss);
    let all = shop.sql("SELECT count(*) FROM pg_largeobject_metadata");
    assert_eq!(all, "2");
    let with = json!({ "instance": copy, "tables": ["pics", "drawings"] });
    restore(&run, with.clone()).await;
    let told =
        "are gone, and come back with the rows: 3 that public.pics.img refers to, 1 that public.pics.thumb refers to";
    assert!(shop.site.said().contains(told), "{}", shop.site.said());
    let mut apply = with;
    apply["mode"] = json!("apply");
    let back = restore(&run, apply.clone()).await;
    assert_eq!((back.applied, shop.sql(state)), (4, before.clone()));
    assert!(shop.site.said().contains("large objects are back: 1 that public.drawings.img"), "{}", shop.site.said());
    // What somebody has written since stays, as a row would.
    shop.sql("SELECT lo_put(img, 0, 'x') FROM pics WHERE id = 3");
    let refused = revert(&run, &back.undo).await.unwrap_err();
    assert!(format!("{:?}", refused.info()).contains("1 large objects were changed since"), "{:?}", refused.info());
    shop.sql("SELECT lo_put(img, 0, 'a') FROM pics WHERE id = 3");
    revert(&run, &back.undo).await.unwrap();
    assert_eq!(shop.sql("SELECT count(*), (SELECT count(*) FROM pics) FROM pg_largeobject_metadata"), "2|2");
    assert_eq!((restore(&run, apply).await.applied, shop.sql(state)), (4, before));
}

#[tokio::test]
async fn policies_and_publications_come_back_with_a_table_and_what_does_not_is_named() {
    let shop = Shop::new();
    let run = shop.site.run();
    let lists_columns = shop.sql("SELECT current_setting('server_version_num')::int >= 150000") == "t";
    let (only, shown) = if lists_columns { (" (id, name)", "attnames") } else { ("", "schemaname") };
    let around = "CREATE POLICY grown ON orders AS RESTRICTIVE FOR SELECT TO clerk, keeper USING (EXISTS (SELECT 1 FROM users u WHERE u.id = who)); \
         CREATE POLICY mine ON orders FOR UPDATE TO PUBLIC USING (paid > 0) WITH CHECK (who IN (SELECT id FROM adults)); \
         CREATE PUBLICATION feed FOR TABLE users§, orders; CREATE PUBLICATION gone FOR TABLE users; \
         CREATE FUNCTION greet(users) RETURNS text LANGUAGE sql AS 'SELECT $1.name'; \
         CREATE RULE kept AS ON DELETE TO orders DO ALSO SELECT count(*) FROM users; \
         CREATE TABLE visits(n int, who users)";
    shop.sql(&around.replace('§', only));
    let policies = "SELECT string_agg(concat_ws('|', policyname, permissive, roles, cmd, qual, with_check), ' ; ' ORDER BY policyname) \
                    FROM pg_policies WHERE tablename = 'orders'";
    let published = format!(
        "SELECT string_agg(concat_ws('|', tablename, {shown}), ' ; ' ORDER BY tablename) \
         FROM pg_publication_tables WHERE pubname = 'feed'"
    );
    let before = (shop.sql(policies), shop.sql(&published), shop.sql(ROWS));
    let copy = shop.copy(&run).await;
    shop.sql("DROP TABLE users CASCADE; DROP PUBLICATION gone");
    let with = json!({ "instance": copy, "tables": ["users"], "mode": "apply" });
    let back = restore(&run, with).await;
    assert_eq!((shop.sql(policies), shop.sql(&published), shop.sql(ROWS)), before);
    let said = shop.site.said();
    let line = |words: &str| said.lines().find(|line| line.contains(words)).unwrap_or_default().to_owned();
    let company = line("with them came back");
    for name in ["policy grown on public.orders", "policy mine on public.orders", "public.users in publication feed"] {
        assert!(company.contains(name), "{company}");
    }
    let missing = line("to be made anew by hand");
    let wanted = [
        "function public.greet(public.users)",
        "rule kept on public.orders",
        "public.users in publication gone",
        "public.visits.who",
    ];
    for name in wanted {
        assert!(missing.contains(name), "{name}: {said}");
    }
    assert_eq!(
        missing.split(": ").last().unwrap().split(", ").count(),
        wanted.len(),
        "nothing else is missing: {missing}"
    );
    revert(&run, &back.undo).await.unwrap();
    assert_eq!(shop.sql("SELECT to_regclass('users') IS NULL AND to_regclass('orders') IS NOT NULL"), "t");
}

#[tokio::test]
async fn rows_that_lost_their_parent_meanwhile_are_found_before_anything_is_committed() {
    let shop = Shop::new();
    let run = shop.site.run();
    let copy = shop.copy(&run).await;
    shop.sql("DROP TABLE users CASCADE; INSERT INTO orders(who) VALUES (99)");
    let apply = json!({ "instance": copy, "tables": ["users"], "mode": "apply" });
    let error = try_restore(&run, apply.clone()).await.unwrap_err();
    let said = format!("{:?}", error.info());
    assert!(
        error.to_string().contains("rows have lost their parent: 1 rows of public.orders (`orders_who`)"),
        "{said}"
    );
    assert!(said.contains("`-p orphans=allow`"), "{said}");
    assert_eq!(shop.sql("SELECT to_regclass('users') IS NULL"), "t");
    let mut allowed = apply;
    allowed["orphans"] = json!("allow");
    let back = restore(&run, allowed.clone()).await;
    assert_eq!(back.not_valid, ["orders_who on public.orders (1 rows)"]);
    // An attempt that finds the tables there says it as well.
    assert_eq!(restore(&run, allowed).await.not_valid, back.not_valid);
    assert_eq!(shop.sql("SELECT convalidated FROM pg_constraint WHERE conname = 'orders_who'"), "f");
    assert!(shop.site.said().contains("NOT VALID: orders_who on public.orders (1 rows)"), "{}", shop.site.said());
    let refused = shop.site.cluster.try_sql("INSERT INTO orders(who) VALUES (98)");
    assert!(!refused.status.success());
}

#[tokio::test]
async fn a_materialized_view_that_comes_back_along_is_told_to_be_made_anew_and_whether_it_has_other_rows() {
    let shop = Shop::new();
    let run = shop.site.run();
    shop.sql(
        "CREATE MATERIALIZED VIEW sums AS SELECT u.id, sum(o.paid) FROM users u JOIN orders o ON o.who = u.id GROUP BY 1; \
         CREATE MATERIALIZED VIEW ages AS SELECT age FROM users; CREATE MATERIALIZED VIEW never AS SELECT id FROM users WITH NO DATA",
    );
    let copy = shop.copy(&run).await;
    shop.sql("DROP TABLE users CASCADE; DELETE FROM orders WHERE who > 5");
    let compared = restore(&run, json!({ "instance": copy, "tables": ["users"] })).await;
    assert_eq!((compared.gone, compared.refreshed.len()), (1, 0));
    let ahead = "not with those that they had: public.ages, public.never, public.sums;";
    assert!(shop.site.said().contains(ahead), "{}", shop.site.said());
    let back = restore(&run, json!({ "instance": copy, "tables": ["users"], "mode": "apply" })).await;
    assert_eq!(back.refreshed, ["public.sums (5 rows now, 20 in the copy)"]);
    let said = shop.site.said();
    assert!(said.contains("materialized view public.sums (5 rows now, 20 in the copy) was made anew"), "{said}");
    assert!(said.contains("materialized view public.ages was made anew and has the rows that it had"), "{said}");
    assert_eq!(shop.sql("SELECT count(*) FROM sums"), "5");
    assert_eq!(shop.sql("SELECT relispopulated FROM pg_class WHERE relname = 'never'"), "f");
    revert(&run, &back.undo).await.unwrap();
    assert_eq!(shop.sql("SELECT to_regclass('sums') IS NULL AND to_regclass('users') IS NULL"), "t");
}

#[tokio::test]
async fn each_way_to_apply_does_what_it_says_and_its_script_takes_it_back() {
    let shop = Shop::new();
    let run = shop.site.run();
    let then = shop.sql(ROWS);
    let copy = shop.copy(&run).await;
    shop.sql("DELETE FROM orders; DELETE FROM users WHERE id <= 3; UPDATE users SET age = 99 WHERE id = 7; INSERT INTO users(name, age) VALUES ('late', 30); TRUNCATE log");
    let now = shop.sql(ROWS);
    let with = |apply: &str| json!({ "instance": copy, "tables": ["users"], "mode": "apply", "apply": apply });
    let compared = restore(&run, json!({ "instance": copy, "tables": ["users", "orders"], "samples": 2 })).await;
    assert_eq!((counts(&compared.tables[0]), counts(&compared.tables[1])), ((3, 1, 1), (20, 0, 0)));
    let samples = compared.tables[0].difference.clone().unwrap().samples;
    assert_eq!(samples.len(), 4);
    let changed = samples.iter().find(|sample| sample.difference == "changed").unwrap();
    assert_eq!(
        (Value::Object(changed.key.clone()), changed.columns.clone()),
        (json!({ "id": 7 }), vec!["age".to_owned()])
    );
    assert_eq!(shop.sql(ROWS), now);

    let missing = restore(&run, with("missing")).await;
    assert_eq!(missing.applied, 3);
    assert_eq!(shop.sql("SELECT count(*), sum((age = 99)::int), sum((name = 'late')::int) FROM users"), "21|1|1");
    let again = restore(&run, with("missing")).await;
    assert_eq!(again.applied, 0);
    revert(&run, &missing.undo).await.unwrap();
    assert_eq!(shop.sql(ROWS), now);

    let changed = restore(&run, with("changed")).await;
    assert_eq!(shop.sql("SELECT count(*), sum((age = 99)::int), sum((name = 'late')::int) FROM users"), "21|0|1");
    revert(&run, &changed.undo).await.unwrap();
    assert_eq!(shop.sql(ROWS), now);

    let mirror = restore(&run, with("mirror")).await;
    assert_eq!((mirror.tables[0].inserted, mirror.tables[0].updated, mirror.tables[0].deleted), (3, 1, 1));
    assert_eq!(shop.sql(ROWS), then);
    shop.sql("UPDATE users SET age = 55 WHERE id = 1; TRUNCATE log");
    let refused = revert(&run, &mirror.undo).await.unwrap_err();
    assert!(format!("{:?}", refused.info()).contains("were changed since"), "{:?}", refused.info());
    shop.sql("UPDATE users SET age = 21 WHERE id = 1; TRUNCATE log");
    revert(&run, &mirror.undo).await.unwrap();
    assert_eq!(shop.sql(ROWS), now);
    assert_eq!(shop.sql("SELECT count(*) FROM log"), "0", "a user's trigger fired");
    assert_eq!(shop.sql("SELECT tgenabled FROM pg_trigger WHERE tgname = 'noted'"), "O");
    let script = &mirror.undo.as_ref().unwrap().scripts[0].path;
    fs::write(script, fs::read_to_string(script).unwrap() + "-- more").unwrap();
    let refused = revert(&run, &mirror.undo).await.unwrap_err();
    assert!(refused.to_string().contains("is not what the step wrote"), "{refused}");
}

#[tokio::test]
async fn children_and_parents_come_back_together_in_an_order_their_keys_allow_and_numbers_go_on() {
    let shop = Shop::new();
    let run = shop.site.run();
    let copy = shop.copy(&run).await;
    let orders = shop.sql("SELECT md5(string_agg(o::text, ',' ORDER BY id)) FROM orders o");
    shop.sql("TRUNCATE orders, users RESTART IDENTITY");
    let alone = json!({ "instance": copy, "tables": ["orders"], "mode": "apply" });
    let error = try_restore(&run, alone).await.unwrap_err();
    assert!(format!("{:?}", error.info()).contains("orders_who"), "{:?}", error.info());
    let both = restore(&run, json!({ "instance": copy, "tables": ["orders", "users"], "mode": "apply" })).await;
    assert_eq!(both.applied, 40);
    assert_eq!(shop.sql("SELECT md5(string_agg(o::text, ',' ORDER BY id)) FROM orders o"), orders);
    assert_eq!(shop.sql("INSERT INTO users(name) VALUES ('x') RETURNING id"), "21");
    assert_eq!(shop.sql("INSERT INTO orders(who) VALUES (1) RETURNING id"), "21");
    let refused = revert(&run, &both.undo).await.unwrap_err();
    assert!(format!("{:?}", refused.info()).contains("orders_who"), "{:?}", refused.info());
    shop.sql("DELETE FROM orders WHERE id = 21; DELETE FROM users WHERE id = 21");
    revert(&run, &both.undo).await.unwrap();
    assert_eq!(shop.sql("SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM orders)"), "0|0");
}

#[tokio::test]
async fn what_a_deletion_would_spread_to_is_refused_and_a_missing_key_is_said() {
    let shop = Shop::new();
    let run = shop.site.run();
    let copy = shop.copy(&run).await;
    shop.sql("CREATE TABLE notes(who int REFERENCES users ON DELETE CASCADE)");
    shop.sql("INSERT INTO users(name) VALUES ('late'); INSERT INTO notes SELECT max(id) FROM users");
    let mirror = json!({ "instance": copy, "tables": ["users"], "mode": "apply", "apply": "mirror" });
    let error = try_restore(&run, mirror).await.unwrap_err();
    assert!(error.to_string().contains("would change 1 rows of public.notes"), "{error}");
    assert_eq!(shop.sql("SELECT count(*) FROM notes"), "1");
    let error = try_restore(&run, json!({ "instance": copy, "tables": ["log"] })).await.unwrap_err();
    assert!(error.to_string().contains("no primary key"), "{error}");
    // What a table without a key came back with is proven all the same.
    shop.sql("ALTER TABLE log RENAME TO log_of_now");
    let log = json!({ "instance": copy, "tables": ["log"] });
    restore(&run, json!({ "instance": copy, "tables": ["log"], "mode": "apply" })).await;
    let compared = restore(&run, log).await;
    assert_eq!((compared.missing, compared.tables[0].state), (0, TableState::There));
    let error = try_restore(&run, json!({ "instance": copy, "tables": ["notes"] })).await.unwrap_err();
    assert!(error.to_string().contains("the copy has no table `public.notes`"), "{error}");
    let error = try_restore(&run, json!({ "instance": copy, "tables": ["adults"] })).await.unwrap_err();
    assert!(error.to_string().contains("is no table"), "{error}");
}

#[tokio::test]
async fn an_update_that_a_key_would_spread_is_refused_and_one_that_changes_no_key_is_not() {
    let shop = Shop::new();
    let run = shop.site.run();
    let copy = shop.copy(&run).await;
    shop.sql("CREATE TABLE badges(name text REFERENCES users(name) ON UPDATE CASCADE)");
    shop.sql("UPDATE users SET name = 'renamed' WHERE id = 4; INSERT INTO badges VALUES ('renamed')");
    let changed = json!({ "instance": copy, "tables": ["users"], "mode": "apply", "apply": "changed" });
    let error = try_restore(&run, changed.clone()).await.unwrap_err();
    assert!(error.to_string().contains("would change rows of public.badges"), "{error}");
    assert_eq!(shop.sql("SELECT name FROM badges"), "renamed");
    shop.sql(
        "DELETE FROM badges; UPDATE users SET name = 'user 4' WHERE id = 4; UPDATE users SET age = 99 WHERE id = 5",
    );
    shop.sql("INSERT INTO badges VALUES ('user 5')");
    assert_eq!(restore(&run, changed).await.applied, 1);
    assert_eq!(shop.sql("SELECT name FROM badges"), "user 5");
}

#[tokio::test]
async fn rows_with_a_column_that_came_since_are_not_deleted() {
    let shop = Shop::new();
    let run = shop.site.run();
    let copy = shop.copy(&run).await;
    shop.sql(
        "ALTER TABLE users ADD COLUMN mail text; INSERT INTO users(name, mail) VALUES ('late', 'late@example.com')",
    );
    let with = |apply: &str| json!({ "instance": copy, "tables": ["users"], "mode": "apply", "apply": apply });
    let refused = try_restore(&run, with("mirror")).await.unwrap_err();
    assert!(refused.to_string().contains("got the column mail since"), "{refused}");
    assert_eq!(restore(&run, with("changed")).await.applied, 0);
    assert_eq!(shop.sql("SELECT mail FROM users WHERE name = 'late'"), "late@example.com");
}

/// What the strategies of old do: `pg_dump -t | psql` into the table that is there restores nothing and ends well;
/// "no orphans" is read from statistics (hazards 24 and 32).
#[tokio::test]
async fn where_a_pipe_into_psql_restores_nothing_and_says_so_to_nobody_rows_come_back_and_keys_are_proved() {
    let shop = Shop::new();
    let run = shop.site.run();
    let then = shop.sql(ROWS);
    let copy = shop.copy(&run).await;
    shop.sql("SET session_replication_role = replica; DELETE FROM users WHERE id IN (4, 5)");
    let cluster = &shop.site.cluster;
    let socket = copy.socket.clone().unwrap();
    let (bin, port) = (cluster.bin().display(), copy.port);
    let piped = format!(
        "{bin}/pg_dump -h {} -p {port} -U postgres -t users postgres | {bin}/psql -q -h {} -p {} -U postgres postgres >/dev/null 2>&1; echo $?",
        socket.display(),
        cluster.socket_dir().display(),
        cluster.port()
    );
    let mut shell = Command::new("sh");
    if let Some((uid, gid)) = cluster.owner() {
        shell.uid(uid).gid(gid);
    }
    let output = shell.args(["-c", &piped]).current_dir("/").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "0");
    assert_eq!(shop.sql("SELECT count(*) FROM users"), "18");
    let back = restore(&run, json!({ "instance": copy, "tables": ["users"], "mode": "apply" })).await;
    assert_eq!((back.applied, shop.sql(ROWS)), (2, then));
    shop.sql("SET session_replication_role = replica; DELETE FROM users WHERE id = 6; DELETE FROM orders WHERE id = 7");
    let error =
        try_restore(&run, json!({ "instance": copy, "tables": ["orders"], "mode": "apply" })).await.unwrap_err();
    assert!(error.to_string().contains("orders_who"), "{error}");
    assert_eq!(shop.sql("SELECT count(*) FROM orders"), "19");
}

#[tokio::test]
async fn a_name_with_a_comma_and_capitals_is_one_name_and_one_that_wants_quotes_is_told_with_them() {
    let shop = Shop::new();
    shop.sql("CREATE TABLE \"Odd, name\"(id int PRIMARY KEY); INSERT INTO \"Odd, name\" VALUES (1); CREATE TABLE \"Mixed\"(id int PRIMARY KEY)");
    let run = shop.site.run();
    let copy = shop.copy(&run).await;
    shop.sql("DROP TABLE \"Odd, name\"; DROP TABLE \"Mixed\"");
    // As a parameter that was split at its commas gives it.
    let split = json!({ "instance": copy, "tables": ["users", "\"Odd", " name\""], "mode": "apply" });
    let back = restore(&run, split).await;
    assert_eq!((back.applied, shop.sql("SELECT count(*) FROM \"Odd, name\"").as_str()), (1, "1"));
    let error = try_restore(&run, json!({ "instance": copy, "tables": ["Mixed"] })).await.unwrap_err();
    assert!(error.info().help.clone().unwrap().contains("the copy has `public.\"Mixed\"`"), "{:?}", error.info());
    let error = try_restore(&run, json!({ "instance": copy, "tables": ["Mixed name"] })).await.unwrap_err();
    assert!(error.to_string().contains("`Mixed name` is no name of a table"), "{error}");
}

/// Months in partitions, the first with a key and a trigger setting of its own.
const MONTHS: &str = "
CREATE TABLE months(id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
CREATE TABLE january PARTITION OF months FOR VALUES FROM (0) TO (100);
CREATE TABLE february PARTITION OF months FOR VALUES FROM (100) TO (200);
CREATE TRIGGER noted AFTER INSERT OR DELETE ON months FOR EACH ROW EXECUTE FUNCTION note();
ALTER TABLE january DISABLE TRIGGER noted;
INSERT INTO months SELECT n, 'v' FROM generate_series(1, 150) n; TRUNCATE log";

#[tokio::test]
async fn a_key_to_a_partition_or_to_what_a_table_is_a_partition_of_takes_no_row_along_unseen() {
    let shop = Shop::new();
    shop.sql(MONTHS);
    let run = shop.site.run();
    let copy = shop.copy(&run).await;
    shop.sql(
        "CREATE TABLE notes(id int REFERENCES january ON DELETE CASCADE); CREATE TABLE marks(id int REFERENCES months ON DELETE SET NULL); \
         DELETE FROM months WHERE id = 1; INSERT INTO months VALUES (0, 'late'), (190, 'late')",
    );
    let mirror = |table: &str| json!({ "instance": copy, "tables": [table], "mode": "apply", "apply": "mirror" });
    shop.sql("INSERT INTO notes VALUES (0), (50)");
    for table in ["months", "january"] {
        let error = try_restore(&run, mirror(table)).await.unwrap_err();
        assert!(error.to_string().contains("would change 1 rows of public.notes (`notes_id_fkey`)"), "{error}");
    }
    shop.sql("UPDATE notes SET id = 50; INSERT INTO marks VALUES (0)");
    let error = try_restore(&run, mirror("january")).await.unwrap_err();
    assert!(error.to_string().contains("would change 1 rows of public.marks"), "{error}");
    assert_eq!(shop.sql("SELECT (SELECT count(*) FROM notes), (SELECT count(id) FROM marks)"), "2|1");
    shop.sql("UPDATE marks SET id = 50");
    let back = restore(&run, mirror("months")).await;
    assert_eq!((back.tables[0].inserted, back.tables[0].deleted), (1, 2));
    // Who refers to what came back keeps it from being taken away.
    shop.sql("INSERT INTO notes VALUES (1)");
    let refused = revert(&run, &back.undo).await.unwrap_err();
    assert!(format!("{:?}", refused.info()).contains("rows of public.notes refer to rows"), "{:?}", refused.info());
    shop.sql("DELETE FROM notes WHERE id = 1");
    revert(&run, &back.undo).await.unwrap();
    assert_eq!(shop.sql("SELECT count(*) FILTER (WHERE v = 'late'), count(*) FROM months"), "2|151");
    assert_eq!(shop.sql("SELECT (SELECT count(*) FROM notes), (SELECT count(id) FROM marks)"), "2|1");
}

#[tokio::test]
async fn a_table_and_what_refers_to_its_partition_come_back_together() {
    let shop = Shop::new();
    shop.sql(MONTHS);
    shop.sql("CREATE TABLE notes(id int PRIMARY KEY, of int REFERENCES january ON DELETE CASCADE); INSERT INTO notes VALUES (1, 1)");
    let run = shop.site.run();
    let copy = shop.copy(&run).await;
    shop.sql("DELETE FROM months WHERE id = 1; INSERT INTO months VALUES (0, 'late'); INSERT INTO notes VALUES (2, 0)");
    let both = json!({ "instance": copy, "tables": ["notes", "months"], "mode": "apply", "apply": "mirror" });
    let back = restore(&run, both).await;
    assert_eq!((back.applied, shop.sql("SELECT string_agg(of::text, ' ') FROM notes").as_str()), (4, "1"));
    revert(&run, &back.undo).await.unwrap();
    assert_eq!(shop.sql("SELECT string_agg(of::text, ' ') FROM notes"), "0");
}

#[tokio::test]
async fn a_trigger_that_was_off_on_one_partition_is_off_afterwards_and_none_fires() {
    let shop = Shop::new();
    shop.sql(MONTHS);
    shop.sql("ALTER TABLE february ENABLE ALWAYS TRIGGER noted");
    let stands = || {
        shop.sql(
            "SELECT string_agg(tgrelid::regclass || ' ' || tgenabled::text, ', ' ORDER BY tgrelid::regclass::text), (SELECT count(*) FROM log) \
             FROM pg_trigger WHERE tgname = 'noted' AND tgrelid <> 'users'::regclass",
        )
    };
    let before = stands();
    assert_eq!(before, "february A, january D, months O|0");
    let run = shop.site.run();
    let copy = shop.copy(&run).await;
    shop.sql("DELETE FROM months WHERE id IN (7, 107); TRUNCATE log");
    let back = restore(&run, json!({ "instance": copy, "tables": ["months"], "mode": "apply" })).await;
    assert_eq!((back.applied, stands()), (2, before.clone()));
    revert(&run, &back.undo).await.unwrap();
    assert_eq!((stands(), shop.sql("SELECT count(*) FROM months").as_str()), (before, "148"));
}

#[tokio::test]
async fn a_tree_that_grew_since_is_made_what_it_was_and_what_hangs_on_it_is_told() {
    let shop = Shop::new();
    shop.sql("CREATE TABLE tree(id int PRIMARY KEY, up int REFERENCES tree ON DELETE CASCADE); INSERT INTO tree VALUES (10, NULL)");
    let run = shop.site.run();
    let copy = shop.copy(&run).await;
    let mirror = json!({ "instance": copy, "tables": ["tree"], "mode": "apply", "apply": "mirror" });
    shop.sql("INSERT INTO tree VALUES (1, NULL), (2, 1), (3, 2)");
    let back = restore(&run, mirror.clone()).await;
    assert_eq!((back.applied, shop.sql("SELECT string_agg(id::text, ' ') FROM tree").as_str()), (3, "10"));
    revert(&run, &back.undo).await.unwrap();
    assert_eq!(shop.sql("SELECT string_agg(id::text, ' ' ORDER BY id) FROM tree"), "1 2 3 10");
    // What was there and hangs on what came since would go with it.
    shop.sql("UPDATE tree SET up = 3 WHERE id = 10");
    let error = try_restore(&run, mirror).await.unwrap_err();
    assert!(error.to_string().contains("would change 1 rows of public.tree"), "{error}");
    let help = error.info().help.clone().unwrap();
    assert!(
        help.contains("rows that stay refer to rows that came since") && !help.contains("name public.tree"),
        "{help}"
    );
    assert_eq!(shop.sql("SELECT count(*) FROM tree"), "4");
}

/// Waits while others go on.
async fn comes(holds: impl Fn() -> bool) {
    crate::support::host::until(|| holds().then_some(())).await;
}

/// Has commits wait for a standby that is not there, and ends that.
fn commits_wait(shop: &Shop, for_whom: &str) {
    shop.sql(&format!("ALTER SYSTEM SET synchronous_standby_names = '{for_whom}'"));
    shop.sql("SELECT pg_reload_conf()");
    until("the setting counts", || shop.sql("SHOW synchronous_standby_names") == for_whom);
}

#[tokio::test]
async fn who_cancels_while_a_commit_waits_for_a_standby_is_told_that_it_may_be_committed_and_what_takes_it_back() {
    let shop = Shop::new();
    let run = shop.site.run();
    let copy = shop.copy(&run).await;
    shop.sql("DELETE FROM orders; DELETE FROM users WHERE id <= 5");
    let now = shop.sql(ROWS);
    // Nothing but the last commit waits: the tables cannot be locked before.
    let hold = "BEGIN; LOCK TABLE users IN SHARE MODE; SELECT pg_sleep(600)";
    let mut holder = shop.site.cluster.client("postgres", hold);
    let mut holder = holder.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("the table is locked", || {
        shop.sql("SELECT count(*) FROM pg_locks WHERE relation = 'users'::regclass AND mode = 'ShareLock'") != "0"
    });
    let context = run.context();
    let (cancel, folder) = (context.cancel.clone(), context.attempt_dir.clone());
    let with = json!({ "database": "main", "instance": copy, "tables": ["users"], "mode": "apply" });
    let params = serde_json::from_value(with).unwrap();
    let waits = |what: &str| shop.sql(&format!("SELECT count(*) FROM pg_stat_activity WHERE {what}")) != "0";
    let (ended, ()) = tokio::join!(RestoreTable.run(&params, &context), async {
        comes(|| waits("wait_event_type = 'Lock'")).await;
        commits_wait(&shop, "nobody");
        shop.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()");
        comes(|| waits("wait_event = 'SyncRep'")).await;
        cancel.cancel();
    });
    holder.wait().unwrap();
    commits_wait(&shop, "");
    let error = ended.unwrap_err();
    assert_eq!(error.info().class, ErrorClass::Unknown, "{error}");
    assert!(error.to_string().contains("where commits wait for a standby it is"), "{error}");
    let script = folder.join("undo-rows.sql");
    assert!(error.info().help.clone().unwrap().contains(&script.display().to_string()), "{:?}", error.info());
    until("it is committed", || shop.sql("SELECT count(*) FROM users") == "20");
    let sha256 = Digest::of(&fs::read(&script).unwrap());
    let scripts = vec![UndoScript { path: script, sha256 }];
    let undo = TableUndo { database: "main".to_owned(), dbname: "postgres".to_owned(), scripts };
    revert(&run, &Some(undo)).await.unwrap();
    assert_eq!(shop.sql(ROWS), now);
}

#[tokio::test]
async fn who_cancels_before_anything_is_committed_is_told_that_it_is_rolled_back() {
    let shop = Shop::new();
    let run = shop.site.run();
    let copy = shop.copy(&run).await;
    let context = run.context();
    context.cancel.cancel();
    let with = json!({ "database": "main", "instance": copy, "tables": ["users"], "mode": "apply" });
    let error = RestoreTable.run(&serde_json::from_value(with).unwrap(), &context).await.unwrap_err();
    assert_eq!((error.info().class, error.info().help.clone()), (ErrorClass::Cancelled, None), "{error}");
}

#[tokio::test]
async fn a_statement_that_is_cancelled_while_its_commit_waits_is_not_told_as_rolled_back() {
    let shop = Shop::new();
    let run = shop.site.run();
    commits_wait(&shop, "nobody");
    let context = run.context();
    let cancel = context.cancel.clone();
    let with = json!({ "database": "main", "sql": "INSERT INTO log VALUES ('counted')", "effect": "write" });
    let params = serde_json::from_value(with).unwrap();
    let (ended, ()) = tokio::join!(Query.run(&params, &context), async {
        comes(|| shop.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") != "0").await;
        cancel.cancel();
    });
    commits_wait(&shop, "");
    let error = ended.unwrap_err();
    assert_eq!(error.info().class, ErrorClass::Unknown, "{error}");
    assert!(error.to_string().contains("while the statement was being committed"), "{error}");
    until("it is committed", || shop.sql("SELECT count(*) FROM log") == "1");
}
