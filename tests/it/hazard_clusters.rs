//! Hazards of scripts that only a real cluster shows: what would open wrong data, or stop a server for nothing.

use std::fs;

use crate::support::production::Production;

const LOSS: [&str; 8] =
    ["run", "full-db-loss", "-p", "database=main", "-p", "incident_at=now", "--confirm", "production"];
const PITR: [&str; 8] = ["run", "pitr", "-p", "database=main", "-p", "incident_at=now", "--confirm", "production"];

fn base_backup(production: &Production) -> String {
    let _ = fs::remove_dir_all(production.cli.state());
    production.cli.run(&["run", "base-backup", "-p", "database=main", "--confirm", "production"]).ends(0);
    let shown = production.cli.shown();
    let steps = shown["steps"].as_array().unwrap();
    let id = steps.iter().find_map(|step| step["output"]["backup"]["id"].as_str()).expect("a backup").to_owned();
    fs::remove_dir_all(production.cli.state()).unwrap();
    id
}

fn insert(production: &Production, rows: &str) {
    production.site.cluster.sql(&format!("INSERT INTO t SELECT generate_series({rows})"));
    production.site.archive();
}

/// The server's process and all rows.
fn serving(production: &Production) -> String {
    production.site.cluster.sql("SELECT pg_postmaster_start_time(), count(*), sum(n) FROM t")
}

#[test]
fn a_recovery_for_which_there_is_no_base_backup_stops_no_server() {
    let production = Production::new();
    let before = serving(&production);
    production.cli.run(&[&LOSS[..], &["-p", "backup=20200101"]].concat()).ends(4).says("20200101");
    assert_eq!(serving(&production), before);
    // Only a dump and the WAL archive are left: WAL cannot be replayed on a dump.
    production.cli.file(
        "dump.yaml",
        "version: 1\nname: dump\nsteps:\n  - { id: dump, uses: postgres.dump, with: { database: main } }\n",
    );
    production.cli.run(&["run", "dump.yaml", "--confirm", "production"]).ends(0);
    fs::remove_dir_all(production.site.cluster.dir().join("store/main/base")).unwrap();
    for args in [&LOSS[..], &[&PITR[..], &["-p", "recover_to=1s ago"]].concat()] {
        production.cli.run(args).ends(4).says("postgres.base");
        assert_eq!(serving(&production), before);
    }
}

#[test]
fn a_target_is_a_moment_whatever_zone_the_restored_server_lives_in() {
    let production = Production::new();
    let cluster = &production.site.cluster;
    cluster.sql("ALTER SYSTEM SET timezone = 'Asia/Tokyo'");
    cluster.sql("ALTER SYSTEM SET log_timezone = 'America/New_York'");
    cluster.sql("SELECT pg_reload_conf()");
    base_backup(&production);
    insert(&production, "1001, 1010");
    cluster.sql("DELETE FROM t WHERE n > 1000");
    let local = "SELECT to_char(clock_timestamp() AT TIME ZONE 'Asia/Tokyo', 'YYYY-MM-DD\"T\"HH24:MI:SS.US') FROM pg_sleep(0.01)";
    let local = cluster.sql(local);
    cluster.sql("DELETE FROM t WHERE n > 10");
    production.site.archive();
    let before = serving(&production);
    let without = format!("recover_to={local}");
    let refused = production.cli.run(&[&PITR[..], &["-p", &without]].concat());
    assert!(matches!(refused.code, Some(2 | 3)) && refused.err.contains("offset"), "{refused:?}");
    assert_eq!(serving(&production), before);
    production.cli.run(&[&PITR[..], &["-p", &format!("{without}+09:00")]].concat()).ends(0);
    assert_eq!(cluster.sql("SELECT count(*), max(n) FROM t"), "1000|1000");
    assert_eq!(cluster.sql("SHOW timezone"), "Asia/Tokyo");
}

#[test]
fn what_is_pruned_takes_no_wal_that_the_oldest_kept_backup_needs() {
    let production = Production::new();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    let first = fs::read_dir(cluster.dir().join("store/main/base")).unwrap().flatten().next().unwrap().path();
    let mut kept = Vec::new();
    for rows in ["1001, 1500", "1501, 2000"] {
        kept.push(base_backup(&production));
        insert(&production, rows);
    }
    let before = production.site.stored().len();
    let policy = "retention: { never_below: 1, default: { keep_last: 2 } }\n";
    cli.file("inventory.yaml", &format!("{}{policy}", cli.read("inventory.yaml")));
    cli.run(&["backups", "prune", "--yes", "--confirm", "production"]).ends(0);
    assert!(
        !first.join("manifest.json").exists() && production.site.stored().len() < before,
        "something went: {:?}",
        production.site.stored()
    );
    let rows = cluster.sql("SELECT count(*), sum(n) FROM t");
    cluster.kill();
    fs::remove_dir_all(cluster.pgdata()).unwrap();
    let text = cli.read("inventory.yaml").replace("'= 1000'", "'> 1000'");
    cli.file("inventory.yaml", &text);
    cli.run(&[&LOSS[..], &["-p", &format!("backup={}", kept[0])]].concat()).ends(0);
    assert_eq!(cluster.sql("SELECT count(*), sum(n) FROM t"), rows);
}
