//! Servers in containers, by a real Docker engine: stopped and started by compose, dumped, backed up and restored beside.

use std::fs;
use std::path::Path;

use crate::support::cli::Cli;
use crate::support::compose::{Mounted, Project};
use crate::support::docker::UID;
use crate::support::mount::{memory, mine};
use crate::support::recovery::Depot;
use crate::support::s3::S3;

#[test]
fn a_server_in_a_container_is_started_backed_up_drilled_restored_and_stopped() {
    let project = Project::new();
    project.step("start", "").ends(0);
    assert_eq!(project.containers(), 1);
    project.step("start", "").ends(0);
    assert_eq!(project.containers(), 1, "one that runs is left alone");
    project.sql("postgres", "CREATE DATABASE shop");
    project.sql("shop", "CREATE TABLE orders(id int PRIMARY KEY); INSERT INTO orders SELECT generate_series(1, 300)");
    project.run("daily-backup", &[]).ends(0);
    project.run("base-backup", &[]).ends(0);
    project.sql("shop", "DELETE FROM orders WHERE id > 10");
    project.cli.run(&["drill", "restore-test", "-p", "database=main"]).ends(0);
    project.run("restore-dump", &["dbname=shop", "incident_at=now"]).ends(0);
    assert_eq!(project.sql("shop", "SELECT count(*) FROM orders"), "300");
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(project.volume().join("PG_VERSION")).unwrap());
    assert_eq!(owner, UID, "the container's user is none of this machine's");
    project.step("stop", "").ends(0);
    assert_eq!(project.containers(), 0);
    let control = fs::read(project.volume().join("postmaster.pid"));
    assert!(control.is_err(), "it was stopped, not killed");
    // A container that is gone is made anew over the same volume.
    project.docker.compose(&project.cli.path(""), &["-p", "shop", "rm", "-f", "db"]);
    project.step("start", "").ends(0);
    assert_eq!(project.sql("shop", "SELECT count(*) FROM orders"), "300");
    // A file that names another volume by now changes nothing for the container that is there; one that was made by it is
    // not started over an empty volume.
    project.step("stop", "").ends(0);
    let file = project.cli.path("compose.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let text = text.replace("'data:", "'other:").replace("{ data: {} }", "{ data: {}, other: {} }");
    fs::write(&file, text).unwrap();
    project.step("start", "").ends(0);
    assert_eq!(project.sql("shop", "SELECT count(*) FROM orders"), "300");
    project.step("stop", "").ends(0);
    project.docker.compose(&project.cli.path(""), &["-p", "shop", "rm", "-f", "db"]);
    project.step("start", "").ends(10).says("the container's data lies in");
    assert_eq!(project.containers(), 0);
}

#[test]
fn a_dump_is_taken_with_the_containers_own_programs_where_this_machine_has_none() {
    if !mine("compose::a_dump_is_taken_with_the_containers_own_programs_where_this_machine_has_none") {
        return;
    }
    let bucket = S3::start();
    let depot = Depot::bucket(&bucket);
    let project = Project::over(&depot, Mounted::Data);
    project.step("start", "").ends(0);
    project.inventory_with(&depot, "");
    project.sql("postgres", "CREATE DATABASE shop");
    project.sql("shop", "CREATE TABLE orders(id int PRIMARY KEY); INSERT INTO orders SELECT generate_series(1, 300)");
    let hidden = memory(Path::new("/usr/lib/postgresql"));
    project.run("daily-backup", &[]).ends(0);
    project.step("dump", ", format: directory").ends(4).says("cannot write into a folder");
    drop(hidden);
    project.sql("shop", "DELETE FROM orders WHERE id > 10");
    project.run("restore-dump", &["dbname=shop", "incident_at=now"]).ends(0);
    assert_eq!(project.sql("shop", "SELECT count(*) FROM orders"), "300");
}

#[test]
fn what_compose_cannot_do_is_said_before_anything_happens() {
    let cli = Cli::new();
    cli.file(
        "inventory.yaml",
        "version: 1\ndatabases:\n  main: { pgdata: /srv/volume, store: primary, via: { compose: { file: /srv/compose.yaml, service: db } } }\n\
         stores: { primary: { url: \"file:///srv/store\" } }\n",
    );
    cli.file(
        "snapshot.yaml",
        "version: 1\nname: x\nsteps: [ { id: x, uses: backup.find, with: { database: main, kind: postgres.snapshot } }, \
         { id: y, uses: postgres.restore_snapshot, with: { database: main, backup: '{{ steps.x.backup }}', from: /mnt/main } } ]\n",
    );
    let ran = cli.run(&["check", "snapshot.yaml"]).ends(3);
    assert!(ran.err.contains("runs in a container"), "{}", ran.err);
    cli.file(
        "runbook.yaml",
        "version: 1\nname: x\nsteps: [ { id: x, uses: postgres.stop, with: { database: main } } ]\n",
    );
    let line = "docker compose -f /srv/compose.yaml stop -t 3600 db";
    assert!(cli.run(&["print", "runbook.yaml"]).ends(0).out.contains(line));
    cli.file(
        "inventory.yaml",
        "version: 1\ndatabases: { main: { pgdata: /srv/v, via: { compose: { file: c.yaml, service: db } } } }\n",
    );
    cli.run(&["check", "runbook.yaml"]).ends(3).says("not an absolute path");
}
