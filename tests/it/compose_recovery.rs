//! Servers in containers that archive, are lost with their volumes, and come back into them, by a real Docker engine.

use std::fs;
use std::path::PathBuf;

use crate::support::cli::until;
use crate::support::compose::{Mounted, Project};
use crate::support::recovery::Depot;
use crate::support::s3::S3;

/// What must be the same before and after.
const FACTS: &str = "SELECT (SELECT count(*) || ',' || sum(abalance) FROM pgbench_accounts), count(*), sum(delta), \
 md5(string_agg(aid::text, ',' ORDER BY mtime, aid)) FROM pgbench_history";

/// A server that archives, has a base backup and has written since; and its facts.
fn written(project: &Project) -> String {
    project.step("start", "").ends(0);
    project.run("setup-archiving", &["restart=allowed"]).ends(0);
    project.client("pgbench", &["-i", "-q", "postgres"]);
    project.run("base-backup", &[]).ends(0);
    project.client("pgbench", &["-c", "2", "-t", "250", "postgres"]);
    project.archive();
    project.sql("postgres", FACTS)
}

#[test]
fn a_lost_volume_comes_back_with_every_row_and_its_container_archives_again() {
    let bucket = S3::start();
    let project = Project::over(&Depot::bucket(&bucket).encrypted(), Mounted::Runbook);
    let facts = written(&project);
    assert_eq!(project.sql("postgres", "SELECT count(*) FROM pgbench_history"), "500");
    project.cli.run(&["drill", "full-db-loss", "-p", "database=main"]).ends(0);
    project.lose();
    project.run("full-db-loss", &["incident_at=now"]).ends(0);
    assert_eq!(project.sql("postgres", FACTS), facts);
    assert_eq!(project.foreign_files(), Vec::<String>::new(), "the container's user owns every file");
    let left = fs::read_dir(project.volume()).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap());
    let left: Vec<String> = left.filter(|name| name.contains("staged") || name.starts_with("runbook-")).collect();
    assert!(left.is_empty(), "{left:?}");
    project.client("pgbench", &["-c", "1", "-t", "10", "postgres"]);
    project.archive();
    assert_eq!(project.sql("postgres", "SELECT timeline_id FROM pg_control_checkpoint()"), "2");
}

/// What a run stages in the volume.
fn staged(project: &Project) -> Option<PathBuf> {
    let entries = fs::read_dir(project.volume()).ok()?.flatten().map(|entry| entry.path());
    entries.into_iter().find(|path| path.to_string_lossy().contains("pgsql_tmp.runbook-staged-"))
}

#[test]
fn a_killed_engine_goes_on_with_the_recovery_of_a_container_where_it_was() {
    let bucket = S3::start();
    let project = Project::over(&Depot::bucket(&bucket), Mounted::Runbook);
    let facts = written(&project);
    fs::remove_dir_all(project.cli.state()).unwrap();
    project.lose();
    let gone = project.docker.docker(&["volume", "rm", "shop_data"]);
    assert!(gone.status.success(), "{}", String::from_utf8_lossy(&gone.stderr));
    let first = project.cli.spawn(&Project::words("full-db-loss", &["incident_at=now"]));
    until("something is staged", || staged(&project).is_some_and(|folder| folder.join("base").exists()));
    assert!(first.kill());
    let id = project.cli.id();
    let second = project.cli.spawn(&["resume", &id]);
    until("the swap is done", || project.volume().join("runbook-restore.json").exists());
    assert!(second.kill());
    project.cli.run(&["resume", &id]).ends(0);
    assert_eq!(project.sql("postgres", FACTS), facts);
    assert_eq!((project.containers(), project.foreign_files()), (1, Vec::new()));
    project.archive();
}

#[test]
fn a_container_can_be_looked_at_where_it_pauses_and_its_old_data_may_be_given_up() {
    let bucket = S3::start();
    let project = Project::over(&Depot::bucket(&bucket), Mounted::Runbook);
    written(&project);
    let moment = project
        .sql("postgres", "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')");
    project.sql("postgres", "DELETE FROM pgbench_history");
    project.archive();
    let choose = "id: choose, uses: backup.find, with: { database: main, kind: postgres.base }";
    let stop = "id: stop, uses: postgres.stop, with: { database: main }";
    let stage = |existing: &str| {
        format!(
            "id: stage, uses: postgres.restore_base, with: {{ database: main, backup: '{{{{ steps.choose.backup }}}}', existing: {existing} }}"
        )
    };
    let look = format!(
        "id: look, uses: postgres.recover, with: {{ database: main, staged: '{{{{ steps.stage.staged }}}}', target_time: '{moment}', action: pause }}"
    );
    let rows = "id: rows, uses: postgres.check, with: { database: main, instance: '{{ steps.look.instance }}', \
                checks: [ { name: rows, sql: SELECT count(*) FROM pgbench_history, expect: '= 500' } ] }";
    let open = "id: open, uses: postgres.recover, with: { database: main, instance: '{{ steps.look.instance }}', target: here }";
    let beside =
        "id: stage, uses: postgres.restore_base, with: { database: main, backup: '{{ steps.choose.backup }}' }";
    let since = project.docker.moment();
    project.steps(&[choose, beside]).ends(0);
    assert_eq!(project.docker.made_since(&since), "", "what it needs is tried inside the container that runs");
    let (delta, replace) = (stage("delta"), stage("replace"));
    project.steps(&[choose, stop, &delta, &look, rows, open]).ends(0);
    assert_eq!(project.sql("postgres", "SELECT count(*) FROM pgbench_history"), "500");
    let recover = "id: recover, uses: postgres.recover, with: { database: main, staged: '{{ steps.stage.staged }}', timeline: 1 }";
    project.steps(&[choose, stop, &replace, recover]).ends(0);
    assert_eq!(
        project.sql("postgres", "SELECT count(*) FROM pgbench_history"),
        "0",
        "the first timeline ends after the loss"
    );
    assert_eq!(project.foreign_files(), Vec::<String>::new());
    project.archive();
}

#[test]
fn what_a_container_lacks_is_said_before_anything_stops() {
    let bucket = S3::start();
    let depot = Depot::bucket(&bucket);
    let project = Project::over(&depot, Mounted::Data);
    project.step("start", "").ends(0);
    project.run("base-backup", &[]).ends(0);
    let lacks = |ran: crate::support::cli::Ran| {
        let ran = ran.ends(4);
        assert!(ran.err.contains(":/usr/local/bin/runbook:ro") && ran.err.contains(":/etc/runbook"), "{}", ran.err);
    };
    lacks(project.run("setup-archiving", &["restart=allowed"]));
    lacks(project.run("full-db-loss", &["incident_at=now"]));
    assert_eq!(project.containers(), 1, "it was not stopped");
    let id = String::from_utf8(project.docker.docker(&["ps", "-q"]).stdout).unwrap();
    assert!(project.docker.docker(&["exec", id.trim(), "mkdir", "/tmp/space"]).status.success());
    project.sql("postgres", "CREATE TABLESPACE space LOCATION '/tmp/space'");
    project.run("base-backup", &[]).ends(0);
    let choose = "id: choose, uses: backup.find, with: { database: main, kind: postgres.base }";
    let stage = "id: stage, uses: postgres.restore_base, with: { database: main, backup: '{{ steps.choose.backup }}' }";
    project.steps(&[choose, stage]).ends(4).says("leads to `/tmp/space` in the container");
    assert_eq!(staged(&project), None);
    project.inventory_with(&depot, "pgdata: /srv/other, ");
    let ran = project.run("setup-archiving", &["restart=allowed"]).ends(4);
    let volume = project.volume().display().to_string();
    assert!(ran.err.contains("/srv/other") && ran.err.contains(&volume), "{}", ran.err);
    // What is left out is what the container says.
    project.inventory_with(&depot, "");
    lacks(project.run("full-db-loss", &["incident_at=now"]));
    project.step("stop", "").ends(0);
    assert_eq!(project.containers(), 0);
    project.docker.compose(&project.cli.path(""), &["-p", "shop", "rm", "-f", "db"]);
    project.step("start", "").ends(4).says("has no container");
}
