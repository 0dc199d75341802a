//! The shipped drills, carried out against a production that stays as it is.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::postgres::unprivileged;
use crate::support::production::Production;
use crate::support::program::{left_out, no_root};

const DATABASE: [&str; 2] = ["-p", "database=main"];

fn drill(production: &Production, name: &str, more: &[&str]) -> crate::support::cli::Ran {
    production.cli.run(&[&["drill", name][..], &DATABASE, more].concat())
}

/// The production, with a drill that may write its proofs beside the backups.
fn with_proofs() -> Production {
    let production = Production::new();
    let text = production.cli.read("inventory.yaml");
    production
        .cli
        .file("inventory.yaml", &text.replace("stores: { primary: { read_only: true } }", "stores: { primary: {} }"));
    production
}

#[test]
fn the_quarterly_drill_rebuilds_a_lost_server_in_time_and_changes_nothing() {
    let production = Production::new();
    let before = production.facts();
    drill(&production, "quarterly-drill", &[]).ends(0);
    assert_eq!(production.facts(), before);
    production.nothing_is_left();
    for step in ["stage", "recover", "prove"] {
        assert_eq!(production.cli.status(step), "succeeded", "{step}");
    }
}

#[test]
fn a_drill_runs_as_the_user_whose_the_data_is_and_says_before_it_begins_who_may_not_read_the_archive() {
    if left_out("RUNBOOK_TEST_NO_ROOT", no_root()) {
        return;
    }
    let (postgres, _) = unprivileged().expect("a user that servers of tests run as");
    let (owner, group) = (65534, 65534);
    assert_ne!(owner, postgres, "the servers of tests run as `postgres`");
    let production = Production::new();
    let cluster = &production.site.cluster;
    cluster.stop("fast");
    let given =
        std::process::Command::new("chown").args(["-R", &format!("{owner}:{group}")]).arg(cluster.dir()).status();
    assert!(given.unwrap().success());
    fs::set_permissions(cluster.dir().join("store"), fs::Permissions::from_mode(0o700)).unwrap();
    drill(&production, "full-db-loss", &[]).ends(0);
    production.nothing_is_left();
    let text = production
        .cli
        .read("inventory.yaml")
        .replace("main: { scratch: true }", "main: { scratch: true, os_user: postgres }");
    production.cli.file("inventory.yaml", &text);
    let told =
        production.cli.run(&["dry-run", "full-db-loss", "-e", "drill", "-p", "database=main", "-p", "incident_at=now"]);
    told.ends(4).prints("the server's user `postgres` may not read");
}

#[test]
fn a_drill_of_a_database_on_which_nobody_works_loses_nothing() {
    let production = Production::new();
    // The last commit is older than the objective, and archived: what came after is no commit.
    production.site.cluster.sql("ALTER SYSTEM SET autovacuum = off");
    production.site.cluster.sql("SELECT pg_reload_conf()");
    production.site.archive();
    production.site.cluster.sql("CHECKPOINT");
    let short = production.cli.file(
        "strict.yaml",
        &fs::read_to_string("runbooks/drills/quarterly-drill.yaml").unwrap().replace("rpo: 1h", "rpo: 1ms"),
    );
    drill(&production, &short.display().to_string(), &[]).ends(0);
    let loss = |production: &Production| {
        let ended = production.cli.journal().into_iter().rev().find(|event| event["kind"]["type"] == "run_finished");
        ended.unwrap()["kind"]["figures"]["rpo"].clone()
    };
    assert_eq!(loss(&production)["unwanted_ms"], 0);
    fs::remove_dir_all(production.cli.state()).unwrap();
    // A commit that only the live server has would be lost, and the drill says so.
    production.site.cluster.sql("CREATE TABLE late(n int)");
    drill(&production, &short.display().to_string(), &[]).ends(16);
    assert!(loss(&production)["unwanted_ms"].as_u64().is_some_and(|lost| lost > 0 && lost < 3_600_000));
}

#[test]
fn the_first_restore_test_takes_the_facts_of_a_base_backup_and_the_next_is_held_against_them() {
    let production = with_proofs();
    let cli = &production.cli;
    // The inventory expects a thousand rows; half of them came after the backup.
    let text = cli.read("inventory.yaml");
    cli.file("inventory.yaml", &text.replace("expect: '= 1000'", "expect: '= 500'"));
    drill(&production, "restore-test", &[]).ends(0).says("restore proof of backup");
    production.nothing_is_left();
    let proofs = || {
        let stored = production.site.stored();
        stored.into_iter().filter(|name| name.starts_with('2') && name.ends_with(".json")).count()
    };
    assert_eq!(proofs(), 1, "{:?}", production.site.stored());
    fs::remove_dir_all(cli.state()).unwrap();
    drill(&production, "restore-test", &["-p", "pick=random"]).ends(0);
    let journal = cli.journal();
    let told = journal.iter().any(|event| event.to_string().contains("0 differences in 1 tables"));
    assert!(told, "the second test compares");
    assert_eq!(proofs(), 2);
}

/// Whoever looks at another server of the database, or before the restore, says nothing of the backup that is restored.
#[test]
fn a_check_counts_for_the_backup_whose_data_its_own_server_had() {
    let production = with_proofs();
    let cli = &production.cli;
    let shipped = fs::read_to_string("runbooks/drills/restore-test.yaml").unwrap();
    let beside = "  - id: beside
    name: A copy beside
    phase: restore
    modes: [drill]
    uses: postgres.side_instance
    with: { database: \"{{ params.database }}\", backup: \"{{ steps.choose.backup }}\" }

  - id: glance
    name: Look at the copy
    phase: restore
    modes: [drill]
    on_failure: continue
    uses: postgres.check
    with:
      database: \"{{ params.database }}\"
      instance: \"{{ steps.beside.instance }}\"
      checks: [ { name: never, sql: \"SELECT 1\", expect: \"= 2\" } ]

  - id: stage
";
    let text = shipped.replacen("  - id: stage\n", beside, 1);
    // The server that was recovered is proven; the inventory's own checks, which expect other rows, are left out.
    let (head, rest) = text.split_once("  - id: own_checks").unwrap();
    let file = cli.file("looked.yaml", head);
    assert!(rest.contains("postgres.check"));
    drill(&production, &file.display().to_string(), &["--json"]);
    assert_eq!((cli.status("glance"), cli.status("prove")), ("failed".to_owned(), "succeeded".to_owned()));
    let mut folders = vec![production.site.depot.root.clone()];
    let mut stored: Vec<String> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            match entry.path().is_dir() {
                true => folders.push(entry.path()),
                false if folder.ends_with("proofs") && entry.file_name().to_string_lossy().starts_with('2') => {
                    stored.push(fs::read_to_string(entry.path()).unwrap());
                }
                false => {}
            }
        }
    }
    assert_eq!(stored.len(), 1, "{stored:?}");
    let proof: serde_json::Value = serde_json::from_str(&stored[0]).unwrap();
    assert_eq!((&proof["verdict"], &proof["checks"]), (&"passed".into(), &serde_json::json!(["prove"])), "{proof:#}");
}

#[test]
fn a_drill_that_is_run_for_real_is_refused_before_it_touches_anything() {
    let production = Production::new();
    let before = production.facts();
    for name in ["restore-test", "quarterly-drill"] {
        let args = ["run", name, "-p", "database=main", "-p", "incident_at=now", "--confirm", "production"];
        assert!(matches!(production.cli.run(&args).code, Some(4 | 10)));
        fs::remove_dir_all(production.cli.state()).unwrap();
    }
    assert_eq!(production.facts(), before);
}
