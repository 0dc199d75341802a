//! A store, or the state folder, in the data that a restore would take away with everything in it.

use std::fs;
use std::process::Command;

use crate::support::production::Production;
use crate::wal_ahead;

#[test]
fn a_store_in_the_data_directory_is_refused_before_anything_stops_and_the_way_out_leads_on() {
    let production = Production::new();
    let Production { site, cli } = &production;
    let (store, pgdata) = (site.depot.root.clone(), site.cluster.pgdata());
    let inside = pgdata.join("backups");
    fs::rename(&store, &inside).unwrap();
    let text = cli.read("inventory.yaml");
    cli.file("inventory.yaml", &text.replace(&store.display().to_string(), &inside.display().to_string()));
    let (found, way) = ("lies in the data of `main`", format!("mv {0} {0}.moving", inside.display()));

    cli.run(&["check", "inventory.yaml"]).ends(0).says("RB0511").says(found);
    for (command, code) in [
        (&["restore", "main"][..], 4),
        (&["restore", "main", "--existing", "replace"][..], 4),
        (&["restore", "main", "--existing", "delta", "--confirm", "production"][..], 4),
        (&["run", "base-backup", "-p", "database=main", "--confirm", "production"][..], 4),
        (&["dry-run", "setup-archiving", "-p", "database=main"][..], 4),
        (&["drill", "full-db-loss", "-p", "database=main"][..], 4),
        (&["doctor", "--servers"][..], 4),
        (&["backups", "init"][..], 10),
    ] {
        let refused = cli.run(command).ends(code);
        let told = format!("{}{}", refused.out, refused.err);
        assert!(told.contains(found) && told.contains(&way), "{command:?}: {told}");
    }
    let rows = || site.cluster.sql("SELECT count(*), sum(n) FROM t");
    assert_eq!(rows(), "1000|500500");
    assert!(inside.join(".rb-store").exists(), "nothing was touched");

    // Whoever copies it instead of moving it has a store there still, which this inventory does not name.
    assert!(Command::new("cp").arg("-a").args([&inside, &store]).status().unwrap().success());
    cli.file("inventory.yaml", &text);
    assert!(!cli.run(&["check", "inventory.yaml"]).ends(0).err.contains("RB0511"));
    let replace = ["restore", "main", "--existing", "replace"];
    let refused = cli.run(&replace).ends(4);
    let told = format!("{}{}", refused.out, refused.err);
    assert!(told.contains("is a store (`.rb-store`)") && told.contains("only a copy"), "{told}");
    cli.run(&["restore", "main"]).ends(0);
    fs::remove_dir_all(&inside).unwrap();
    cli.run(&replace).ends(0);
    cli.run(&["backups", "init"]).ends(0);
    assert_eq!(rows(), "1000|500500");
}

#[test]
fn a_state_folder_in_the_data_directory_is_refused_before_anything_stops() {
    let Production { site, cli } = Production::new();
    let state = site.cluster.pgdata().join("state");
    let cli = cli.var("RUNBOOK_STATE", &state.display().to_string());
    let refused = cli.run(&["restore", "main", "--confirm", "production"]).ends(4);
    let told = format!("{}{}", refused.out, refused.err);
    assert!(told.contains("what this run keeps of itself") && told.contains("RUNBOOK_STATE=/path"), "{told}");
    assert_eq!(site.cluster.sql("SELECT count(*) FROM t"), "1000");
}

#[test]
fn wal_init_makes_no_store_in_the_data_by_whatever_path() {
    let site = wal_ahead::Site::with_backlog(0);
    let (pgdata, link) = (site.cluster.pgdata(), site.cluster.dir().join("link"));
    std::os::unix::fs::symlink(&pgdata, &link).unwrap();
    for folder in [pgdata.join("backups"), link.join("backups")] {
        fs::write(&site.config, format!("store: \"file://{}\"\nprefix: app\n", folder.display())).unwrap();
        let refused = site.wal(&["init"]);
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{told}");
        assert!(told.contains("where the server's data lies: name a folder outside of it"), "{told}");
        assert!(!folder.exists());
    }
}
