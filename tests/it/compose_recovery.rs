//! Servers in containers that archive, are lost with their volumes, and come back into them, by a real Docker engine.

use std::fs;

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
