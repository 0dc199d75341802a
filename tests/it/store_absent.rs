//! One of a database's stores is full or gone: the others get the backup, nothing that is well is blamed, and who lacks it is named.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::mount;
use crate::support::production::Production;

const CONFIRM: [&str; 2] = ["--confirm", "production"];

/// How many backups of a family a store has with their manifest.
fn whole(root: &Path, family: &str) -> usize {
    let Ok(ids) = fs::read_dir(root.join("main").join(family)) else { return 0 };
    // Dumps lie in the folder of their tier.
    let deep = ids.flatten().flat_map(|id| fs::read_dir(id.path()).into_iter().flatten().flatten());
    let paths: Vec<PathBuf> = deep.map(|entry| entry.path()).collect();
    let is_manifest = |path: &Path| path.file_name().is_some_and(|name| name == "manifest.json");
    paths.iter().filter(|path| is_manifest(path) || path.join("manifest.json").exists()).count()
}

fn run<'a>(runbook: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    ["run", runbook, "-p", "database=main"].iter().chain(more).chain(&CONFIRM).copied().collect()
}

#[test]
fn while_a_store_is_gone_the_other_gets_a_whole_backup_and_the_run_names_the_one_that_lacks_it() {
    let production = Production::new();
    let second = production.site.cluster.folder("second");
    let production = production.with_second(&second);
    let (cli, primary) = (&production.cli, production.site.depot.root.clone());
    let away = second.with_extension("away");
    fs::rename(&second, &away).unwrap();
    for runbook in ["base-backup", "daily-backup"] {
        cli.run(&run(runbook, &[])).ends(4).says("store `second`").says("`-p at_least=1` of `base-backup`");
    }
    assert_eq!((whole(&primary, "base"), whole(&primary, "dump")), (1, 0), "nothing was begun");
    let taken = cli.run(&run("base-backup", &["-p", "at_least=1"])).ends(5);
    taken.says("did not bring the backup into every store (store `second` lacks the backup");
    let suite = cli.run(&["report", &cli.id(), "--junit"]).ends(0);
    assert!(suite.out.contains("lacking copy") && suite.out.contains("failures=\"1\""), "{}", suite.out);
    cli.run(&run("daily-backup", &["-p", "at_least=1"])).ends(5).says("store `second` lacks the backup");
    assert_eq!((whole(&primary, "base"), whole(&primary, "dump")), (2, 1));
    assert!(!second.exists(), "nothing is made where a disk is to be mounted");
    cli.run(&["backups", "list"]).prints("postgres.dump");

    // The database's own store, which counts first, may be the one that is gone.
    fs::rename(&away, &second).unwrap();
    let hidden = primary.with_extension("away");
    fs::rename(&primary, &hidden).unwrap();
    let taken = cli.run(&["backup", "main", "--at-least", "1", CONFIRM[0], CONFIRM[1], "--wait"]).ends(5);
    taken.says("store `primary` lacks the backup");
    cli.run(&run("daily-backup", &["-p", "at_least=1"])).ends(5).says("store `primary` lacks the backup");
    assert_eq!((whole(&second, "base"), whole(&second, "dump")), (1, 1));
    fs::rename(&hidden, &primary).unwrap();
    cli.run(&["backup", "main", CONFIRM[0], CONFIRM[1], "--wait"]).ends(0);
}

/// The disk of the second store went with the server: the recovered one is not left without a backup for that.
#[test]
fn a_recovery_while_a_store_is_gone_takes_its_new_backup_into_the_other() {
    let production = Production::new();
    let second = production.site.cluster.folder("second");
    let production = production.with_second(&second);
    let (cluster, cli, primary) = (&production.site.cluster, &production.cli, production.site.depot.root.clone());
    fs::rename(&second, second.with_extension("away")).unwrap();
    cluster.kill();
    fs::remove_dir_all(cluster.pgdata()).unwrap();
    let recovered = cli.run(&run("full-db-loss", &["-p", "incident_at=now"])).ends(5);
    recovered.says("store `second` lacks the backup");
    assert_eq!(cluster.sql("SELECT count(*) FROM t"), "1000");
    assert_eq!(whole(&primary, "base"), 2);
    assert!(!second.exists(), "nothing is made where a disk is to be mounted");
}

#[test]
fn where_a_full_store_ends_the_backup_it_is_named_and_not_the_one_that_was_stopped_for_it() {
    if !mount::mine(
        "store_absent::where_a_full_store_ends_the_backup_it_is_named_and_not_the_one_that_was_stopped_for_it",
    ) {
        return;
    }
    let disk = tempfile::tempdir().unwrap();
    let second = disk.path();
    let _full = mount::sized(second, "600k");
    let production = Production::new().with_second(second);
    let (cli, primary) = (&production.cli, production.site.depot.root.clone());
    cli.file(
        "once.yaml",
        "version: 1\nname: once\nparams: { database: { type: database } }\nsteps:\n  \
         - { id: backup, uses: postgres.base_backup, with: { database: '{{ params.database }}' } }\n",
    );
    let failed = cli.run(&run("once.yaml", &[])).ends(10);
    failed.says("2 stores must have the backup, 0 have it; `second`: the database's store has no room left");
    let failed = cli.run(&["show", &cli.id()]);
    let failed = failed.prints("`primary` took it and was stopped for that").prints("at_least: 1");
    assert!(!failed.out.contains("broke off"), "{}", failed.out);
    assert_eq!(whole(&primary, "base"), 1);
    let taken = cli.run(&run("base-backup", &["-p", "at_least=1"])).ends(5);
    taken.says("store `second` lacks the backup: the database's store has no room left");
    assert_eq!((whole(&primary, "base"), whole(second, "base")), (2, 0));
}
