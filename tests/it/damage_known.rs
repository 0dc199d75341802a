//! Damage that shows while a backup is restored or verified is known to the next choice, in the store it was found in.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::production::Production;

const CONFIRM: [&str; 2] = ["--confirm", "production"];

/// Flips one byte in the middle of what a store has of a backup's data.
fn damage(root: &Path, id: &str) {
    let objects = fs::read_dir(root.join("main/base").join(id)).unwrap().flatten().map(|entry| entry.path());
    let data: Vec<PathBuf> =
        objects.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("base.tar")).collect();
    assert_eq!(data.len(), 1, "{data:?}");
    let mut bytes = fs::read(&data[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&data[0], bytes).unwrap();
}

/// The backups that a store has, oldest first.
fn backups(root: &Path) -> Vec<String> {
    let mut ids: Vec<String> = fs::read_dir(root.join("main/base"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    ids.sort();
    ids
}

/// What was noted of verifications of a backup, oldest first.
fn verdicts(root: &Path, id: &str) -> Vec<String> {
    let Ok(notes) = fs::read_dir(root.join("main/base").join(id).join("verified")) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = notes.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let verdict = |path: &PathBuf| {
        let note: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        note["verdict"].as_str().unwrap().to_owned()
    };
    // What the store itself keeps beside an object is hidden.
    let is_note = |path: &&PathBuf| !path.file_name().unwrap().to_string_lossy().starts_with('.');
    paths.iter().filter(is_note).map(verdict).collect()
}

/// A production whose backups go to `primary` and `second`; gives the folder of the second store.
fn twice() -> (Production, PathBuf) {
    let production = Production::new();
    let second = production.site.cluster.folder("second");
    let production = production.with_second(&second);
    (production, second)
}

fn rows(production: &Production) -> String {
    production.site.cluster.sql("SELECT count(*), sum(n) FROM t")
}

#[test]
fn a_restore_that_finds_its_backup_damaged_leaves_that_to_the_next_one_which_takes_another() {
    let production = Production::new();
    let (cli, store) = (&production.cli, production.site.depot.root.clone());
    cli.run(&["backup", "main", "--confirm", "production", "--wait"]).ends(0);
    let ids = backups(&store);
    assert_eq!(ids.len(), 2, "{ids:?}");
    damage(&store, &ids[1]);
    let planned = cli.run(&["restore", "main"]).ends(0);
    assert!(planned.out.contains(&ids[1]), "nobody knows of it yet: {}", planned.out);
    let failed = cli.run(&["restore", "main", CONFIRM[0], CONFIRM[1]]).ends(10);
    failed.says(&format!("backup `{}` is damaged in `primary`: that is kept beside it", ids[1]));
    assert_eq!(verdicts(&store, &ids[1]), ["failed"]);
    assert_eq!(rows(&production), "1000|500500", "nothing was stopped");
    let status = cli.run(&["status", "main"]).ends(2).prints("2 in all, 1 of them NOT SOUND");
    status.prints(&format!("a restore takes {}, ", ids[0])).prints(&format!("that can be restored is `{}`", ids[0]));
    let planned = cli.run(&["restore", "main"]).ends(0);
    planned.prints(&format!("backup `{}` is complete", ids[0])).prints("passed over");
    cli.run(&["restore", "main", CONFIRM[0], CONFIRM[1]]).ends(0);
    assert_eq!(rows(&production), "1000|500500");
    // Who names it all the same is warned before anything happens.
    cli.run(&["restore", "main", "--to", &ids[1]]).prints("was found damaged in store `primary`");
}

#[test]
fn damage_of_one_stores_copy_is_noted_there_and_the_whole_copy_in_the_other_is_taken_from_then_on() {
    let (production, second) = twice();
    let (cli, store) = (&production.cli, production.site.depot.root.clone());
    cli.run(&["backup", "main", "--confirm", "production", "--wait"]).ends(0);
    let newest = backups(&second).pop().unwrap();
    damage(&store, &newest);
    let restored = cli.run(&["restore", "main", CONFIRM[0], CONFIRM[1]]).ends(5);
    restored.says("its copy in store `second` is tried").says("is damaged in `primary`: that is kept");
    assert_eq!((verdicts(&store, &newest), verdicts(&second, &newest)), (vec!["failed".to_owned()], Vec::new()));
    let chosen = cli.run(&["dry-run", "full-db-loss", "-p", "database=main", "-p", "incident_at=now"]);
    // The new backup of that recovery is newer than both.
    assert!(chosen.out.contains("is complete"), "{}", chosen.out);
    let named = cli.run(&["restore", "main", "--to", &newest]);
    named.prints("its copy in store `second` is taken");
}

#[test]
fn a_verification_notes_what_it_finds_of_another_stores_copy_beside_that_copy() {
    let (production, second) = twice();
    let (cli, store) = (&production.cli, production.site.depot.root.clone());
    cli.run(&["backup", "main", "--confirm", "production", "--wait"]).ends(0);
    let (older, newest) = (backups(&store).remove(0), backups(&second).pop().unwrap());
    cli.file(
        "verify.yaml",
        "version: 1\nname: verify\nparams: { database: { type: database } }\nsteps:\n  \
         - { id: choose, uses: backup.find, with: { database: '{{ params.database }}' } }\n  \
         - { id: verify, uses: backup.verify, with: { database: '{{ params.database }}', backup: '{{ steps.choose.backup }}' } }\n",
    );
    let verify = ["run", "verify.yaml", "-p", "database=main", CONFIRM[0], CONFIRM[1]];
    damage(&store, &newest);
    cli.run(&verify).ends(10);
    assert_eq!((verdicts(&store, &newest), verdicts(&second, &newest)), (vec!["failed".to_owned()], Vec::new()));
    // The other copy is whole, which is noted beside it alone.
    cli.run(&verify).ends(0).says("holds in `second`: that is kept beside it");
    assert_eq!(verdicts(&second, &newest), ["passed"]);
    damage(&second, &newest);
    cli.run(&verify).ends(10).says("is damaged in `second`: that is kept beside it");
    assert_eq!(
        (verdicts(&store, &newest), verdicts(&second, &newest)),
        (vec!["failed".to_owned()], vec!["passed".to_owned(), "failed".to_owned()])
    );
    cli.run(&verify).ends(0);
    assert_eq!(verdicts(&store, &older), ["passed"], "the older one is taken by now");
}

#[test]
fn a_restore_test_that_went_on_with_another_copy_than_the_damaged_one_says_so_to_whoever_looks_at_its_end() {
    let (production, second) = twice();
    let (cli, store) = (&production.cli, production.site.depot.root.clone());
    cli.run(&["backup", "main", "--confirm", "production", "--wait"]).ends(0);
    let newest = backups(&second).pop().unwrap();
    damage(&store, &newest);
    let copy = format!("the copy of backup `{newest}` in store `primary`");
    let inventory = cli.read("inventory.yaml");
    let expected = "\nbackups: { base: { source: main, kind: postgres.base, store: primary, max_age: 26h } }\n";
    cli.file("inventory.yaml", &format!("{inventory}{expected}"));
    let drilled = cli.run(&["drill", "restore-test", "-p", "database=main"]).ends(5);
    drilled.says("its copy in store `second` is tried").says(&format!("{copy} is damaged"));
    let run = cli.runs().pop().unwrap().file_name().unwrap().to_string_lossy().into_owned();
    let suite = cli.run(&["report", &run, "--junit"]).ends(0);
    assert!(suite.out.contains("damaged copy") && suite.out.contains("failures=\"1\""), "{}", suite.out);
    // The drill's store is read-only: until somebody tells it, the history of runs here says so.
    let told = format!("runbook backups prove {run}");
    let status = cli.run(&["status", "main"]).prints("was found DAMAGED").prints(&told);
    assert!(status.out.contains("restored and checked"), "{}", status.out);
    cli.run(&["backups", "health"]).ends(1).prints(&format!("found {copy} damaged"));
    cli.run(&["backups", "prove", &run]).ends(0);
    assert_eq!(verdicts(&store, &newest), ["failed"]);
    let status = cli.run(&["status", "main"]).prints("NOT SOUND");
    assert!(!status.out.contains("was found DAMAGED"), "{}", status.out);
}

#[test]
fn where_no_base_backup_can_be_restored_the_sound_dumps_are_named_with_what_restores_each() {
    let production = Production::new();
    let (cli, store) = (&production.cli, production.site.depot.root.clone());
    production.site.cluster.sql("CREATE DATABASE shop");
    cli.run(&["run", "daily-backup", "-p", "database=main", CONFIRM[0], CONFIRM[1]]).ends(0);
    let id = backups(&store).remove(0);
    let whole = cli.run(&["restore", "main"]).ends(0);
    assert!(!whole.err.contains("restore-dump"), "{}", whole.err);
    damage(&store, &id);
    cli.run(&["restore", "main", CONFIRM[0], CONFIRM[1]]).ends(10);
    for more in [&[][..], &CONFIRM] {
        let mut refused = cli.run(&[&["restore", "main"][..], more].concat()).ends(4).says("RESTORE.md");
        for dbname in ["postgres", "shop"] {
            refused = refused.says(&format!("run restore-dump -p database=main -p dbname={dbname} -p backup="));
        }
    }
}

#[test]
fn a_lost_store_leads_to_the_other_one_that_has_the_backups() {
    let (production, second) = twice();
    let (cli, store) = (&production.cli, production.site.depot.root.clone());
    cli.run(&["backup", "main", "--confirm", "production", "--wait"]).ends(0);
    let newest = backups(&second).pop().unwrap();
    fs::rename(&store, store.with_extension("lost")).unwrap();
    let refused = cli.run(&["restore", "main"]).ends(4);
    refused.says(&format!("store `second` has the base backup `{newest}`")).says("say `store: second`");
    fs::rename(store.with_extension("lost"), &store).unwrap();
}

#[test]
fn what_a_drill_may_not_note_is_kept_later_by_its_run() {
    let production = Production::new();
    let (cli, store) = (&production.cli, production.site.depot.root.clone());
    let id = backups(&store).remove(0);
    damage(&store, &id);
    cli.run(&["drill", "full-db-loss", "-p", "database=main"]).says("cannot be kept there: it is read-only");
    assert_eq!(verdicts(&store, &id), Vec::<String>::new());
    cli.run(&["backups", "prove", "last"]).ends(0).prints("is damaged in `primary`");
    assert_eq!(verdicts(&store, &id), ["failed"]);
}

#[test]
fn the_plan_of_a_named_backup_proves_that_one_and_says_what_is_given_up() {
    let production = Production::new();
    let (cli, store) = (&production.cli, production.site.depot.root.clone());
    cli.run(&["backup", "main", "--confirm", "production", "--wait"]).ends(0);
    let ids = backups(&store);
    let planned = cli.run(&["restore", "main", "--to", &ids[0]]).ends(0);
    let planned = planned.prints(&format!("backup `{}` is complete", ids[0]));
    let planned = planned.prints(&format!("with backup `{}` of", ids[0])).prints("gives up").prints("all commits from");
    assert!(!planned.out.contains(&ids[1]), "{}", planned.out);
    let told = cli.run(&["restore", "main", "--to", &ids[0], "--json"]).ends(0).json();
    let gives_up = &told["recovery"]["gives_up"];
    assert!(gives_up["from"].as_str() < gives_up["to"].as_str(), "{told:#}");
    let backup = format!("backup={}", ids[0]);
    let params = ["dry-run", "full-db-loss", "-p", "database=main", "-p", "incident_at=now", "-p", &backup];
    let planned = cli.run(&params).ends(0).prints(&format!("backup `{}` is complete", ids[0]));
    assert!(!planned.out.contains(&ids[1]), "{}", planned.out);
}
