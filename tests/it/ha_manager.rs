//! Servers that something else looks after: nothing of ours stops them, starts them, or restarts them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::cli::{Cli, Ran, until};
use crate::support::mount;
use crate::support::postgres::Cluster;

/// What looks after a cluster, as far as can be seen from outside: a script of the name, behind an interpreter's option.
pub struct Manager(Child);

impl Manager {
    pub fn of(cluster: &Cluster) -> Self {
        let (config, script) = (cluster.dir().join("patroni.yml"), cluster.dir().join("patroni"));
        fs::write(&config, format!("postgresql:\n  data_dir: {}\n", cluster.pgdata().display())).unwrap();
        fs::write(&script, "exec 3>\"$1.began\"\nread never\n").unwrap();
        let mut command = Command::new("sh");
        let child =
            command.args(["-u", "-o", "noglob"]).args([&script, &config]).stdin(Stdio::piped()).spawn().unwrap();
        let manager = Self(child);
        until("it runs", || cluster.dir().join("patroni.yml.began").exists());
        manager
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ended_by_itself = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs one action.
fn one(cli: &Cli, uses: &str, with: &Value) -> Ran {
    let text = json!({ "version": 1, "name": "one", "steps": [{ "id": "one", "uses": uses, "with": with }] });
    cli.file("one.yaml", &text.to_string());
    cli.run(&["run", "one.yaml"])
}

/// A server and an inventory that names it.
fn site() -> (Cluster, Cli) {
    let (cluster, cli) = (Cluster::start(&[]), Cli::new());
    cli.file(
        "inventory.yaml",
        &format!(
            "version: 1\ndatabases:\n  main: {{ pgdata: {}, port: {}, socket: {}, bin: {}, store: primary, prefix: main }}\n\
             stores: {{ primary: {{ url: \"file://{}\" }} }}\n",
            cluster.pgdata().display(),
            cluster.port(),
            cluster.socket_dir().display(),
            cluster.bin().display(),
            cluster.folder("store").display(),
        ),
    );
    (cluster, cli)
}

/// Says that something else is in charge, and what to do about it.
fn refused(ran: Ran, code: i32, way_out: &str) -> String {
    let said = ran.ends(code).err.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("looks after database `main`") && said.contains(way_out), "{said}");
    said
}

#[test]
fn a_server_that_patroni_looks_after_is_neither_stopped_nor_started_nor_restarted() {
    let (cluster, cli) = site();
    let (main, pid) = (json!({ "database": "main" }), cluster.pid());
    let manager = Manager::of(&cluster);
    let paused = "patronictl pause";
    refused(one(&cli, "postgres.stop", &main), 4, paused);
    let archiving = json!({ "database": "main", "restart": "allowed" });
    let said = refused(one(&cli, "postgres.configure_archiving", &archiving), 4, paused);
    assert!(said.contains("`restart: later`"), "{said}");
    assert_eq!((cluster.sql("SHOW archive_mode"), cluster.pid()), ("off".to_owned(), pid), "it runs as it was");
    cluster.stop("fast");
    refused(one(&cli, "postgres.start", &main), 10, paused);
    assert_eq!(cluster.pid(), None);
    drop(manager);
    one(&cli, "postgres.start", &main).ends(0);
    one(&cli, "postgres.stop", &main).ends(0);
    assert_eq!(cluster.pid(), None);
}

/// A process that has another one's command line as long as it lives, in this test's own mounts.
struct Disguised(Child, #[expect(dead_code, reason = "it ends with the process")] mount::Mount);

impl Disguised {
    fn of(cli: &Cli, work: &Path, line: &str) -> Self {
        let process = Command::new("cat").stdin(Stdio::piped()).current_dir(work).spawn().unwrap();
        let seen = mount::bind_of(&cli.file("cmdline", line), Path::new(&format!("/proc/{}/cmdline", process.id())));
        Self(process, seen)
    }
}

impl Drop for Disguised {
    fn drop(&mut self) {
        let _ended_by_itself = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Pacemaker is known by a process and two places of the whole system, which only this test sees: another one that runs
/// meanwhile must not find it.
#[test]
fn a_server_that_pacemaker_looks_after_is_not_stopped_until_it_is_in_maintenance() {
    if !mount::mine("ha_manager::a_server_that_pacemaker_looks_after_is_not_stopped_until_it_is_in_maintenance") {
        return;
    }
    let (cluster, cli) = site();
    let _own = mount::memory(Path::new("/var/lib"));
    let cib = Path::new("/var/lib/pacemaker/cib/cib.xml");
    fs::create_dir_all(cib.parent().unwrap()).unwrap();
    let resource = |pgdata: &Path| {
        let value = format!("<nvpair id=\"d\" name=\"pgdata\" value=\"{}\"/>", pgdata.display());
        fs::write(cib, format!("<cib><configuration><resources>{value}</resources></configuration></cib>")).unwrap();
    };
    // What `crm_attribute` of Pacemaker 2.1.5 prints.
    let (answer, programs) = (cli.path("answer"), cli.path("programs"));
    fs::create_dir(&programs).unwrap();
    let script =
        format!("#!/bin/sh\n[ \"$*\" = '--query --quiet --name maintenance-mode' ] && cat {}\n", answer.display());
    fs::write(programs.join("crm_attribute"), script).unwrap();
    fs::set_permissions(programs.join("crm_attribute"), fs::Permissions::from_mode(0o755)).unwrap();
    let cli = cli.var("PATH", &format!("{}:{}", programs.display(), std::env::var("PATH").unwrap()));
    let _seen = Disguised::of(&cli, cluster.dir(), "/usr/sbin/pacemakerd\0-f\0");

    let (main, pid, maintenance) = (json!({ "database": "main" }), cluster.pid(), "maintenance-mode=true");
    resource(&cluster.pgdata());
    // Without an answer it counts as at work.
    refused(one(&cli, "postgres.stop", &main), 4, maintenance);
    fs::write(&answer, "false\n").unwrap();
    refused(one(&cli, "postgres.stop", &main), 4, maintenance);
    assert_eq!(cluster.pid(), pid, "it runs as it was");
    fs::write(&answer, "true\n").unwrap();
    one(&cli, "postgres.stop", &main).ends(0);
    fs::remove_file(&answer).unwrap();
    refused(one(&cli, "postgres.start", &main), 10, maintenance);
    // It looks after another server.
    resource(Path::new("/srv/other"));
    one(&cli, "postgres.start", &main).ends(0);
}

#[test]
fn a_configuration_that_is_named_as_seen_from_where_patroni_works_is_read() {
    if !mount::mine("ha_manager::a_configuration_that_is_named_as_seen_from_where_patroni_works_is_read") {
        return;
    }
    let ((cluster, cli), work) = (site(), tempfile::tempdir().unwrap());
    let _seen = Disguised::of(&cli, work.path(), "/usr/bin/python3\0/usr/bin/patroni\0etc/patroni.yml\0");
    let main = json!({ "database": "main" });
    // Without a configuration it counts as in charge of every server.
    refused(one(&cli, "postgres.stop", &main), 4, "patronictl pause");
    fs::create_dir(work.path().join("etc")).unwrap();
    let looks_after = |pgdata: &Path| {
        let text = format!("postgresql:\n  data_dir: {}\n", pgdata.display());
        fs::write(work.path().join("etc/patroni.yml"), text).unwrap();
    };
    looks_after(&cluster.pgdata());
    refused(one(&cli, "postgres.stop", &main), 4, "patronictl pause");
    looks_after(Path::new("/srv/other"));
    one(&cli, "postgres.stop", &main).ends(0);
}
