//! WAL that its operator chose to give up, since `pg_wal` filled the disk: what is told of the gap, and how it is closed.

use crate::support::cli::{Cli, Ran};
use crate::support::postgres::Cluster;

fn site() -> (Cluster, Cli) {
    let (cluster, cli) = (Cluster::start(&[]), Cli::new());
    cli.file(
        "inventory.yaml",
        &format!(
            "version: 1\ndatabases:\n  main: {{ pgdata: {}, port: {}, socket: {}, bin: {}, store: primary, prefix: main }}\n\
             stores: {{ primary: {{ url: \"file://{}\" }} }}\nenvironments:\n  production: {{ protected: true, default: true }}\n",
            cluster.pgdata().display(),
            cluster.port(),
            cluster.socket_dir().display(),
            cluster.bin().display(),
            cluster.folder("store").display(),
        ),
    );
    (cluster, cli)
}

fn procedure(cli: &Cli, name: &str, params: &[&str]) -> Ran {
    let params = params.iter().flat_map(|param| ["-p", param]);
    let words = ["run", name, "-p", "database=main", "--confirm", "production"].into_iter().chain(params);
    cli.run(&words.collect::<Vec<_>>())
}

#[test]
fn what_was_thrown_away_by_choice_is_a_gap_until_a_new_base_backup_and_can_never_be_asked_for() {
    let (cluster, cli) = site();
    procedure(&cli, "setup-archiving", &["restart=allowed"]).ends(0);
    cluster.sql("CREATE TABLE t(n int)");
    procedure(&cli, "base-backup", &[]).ends(0);
    cluster.sql("ALTER SYSTEM SET archive_command = '/bin/true'");
    cluster.sql("SELECT pg_reload_conf()");
    let mut inside = String::new();
    for n in 0..3 {
        cluster.sql(&format!("INSERT INTO t VALUES ({n})"));
        inside = cluster.sql("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')");
        let name = cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())");
        cluster.sql("SELECT pg_switch_wal()");
        crate::support::cli::until("the server has thrown it away", || {
            cluster.sql(&format!("SELECT coalesce(last_archived_wal, '') >= '{name}' FROM pg_stat_archiver")) == "t"
        });
    }
    cli.run(&["wal", "status", "main"]).ends(2);
    procedure(&cli, "setup-archiving", &[]).ends(4).says("foreign");
    // The archiver may not have read the new command when the segment is finished that is to prove it: then that one is thrown
    // away as well, the step says so, and the next proof counts.
    if procedure(&cli, "setup-archiving", &["foreign=replace"]).code != Some(0) {
        procedure(&cli, "setup-archiving", &[]).ends(0);
    }
    let told = cli.run(&["wal", "status", "main"]).ends(2);
    assert!(told.out.contains("the newest backup does not lead to now"), "{}", told.out);
    procedure(&cli, "base-backup", &[]).ends(0);
    let told = cli.run(&["wal", "status", "main"]).ends(1);
    assert!(told.out.contains("gaps before the newest backup: 1"), "{}", told.out);
    cli.run(&["pitr", "main", "--at", &inside]).ends(4);
    let map = cli.run(&["backups", "map"]);
    assert!(map.out.contains("gap"), "{}{}", map.out, map.err);
}
