//! Servers that something else looks after: nothing of ours stops them, starts them, or restarts them.

use std::fs;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::cli::{Cli, Ran, until};
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

#[test]
fn a_server_that_patroni_looks_after_is_neither_stopped_nor_started_nor_restarted() {
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
    let (main, pid) = (json!({ "database": "main" }), cluster.pid());
    let manager = Manager::of(&cluster);
    let refused = |ran: Ran, code: i32| {
        let said = ran.ends(code).err.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains("looks after database `main`") && said.contains("patronictl pause"), "{said}");
        said
    };
    refused(one(&cli, "postgres.stop", &main), 4);
    let archiving = json!({ "database": "main", "restart": "allowed" });
    let said = refused(one(&cli, "postgres.configure_archiving", &archiving), 4);
    assert!(said.contains("`restart: later`"), "{said}");
    assert_eq!((cluster.sql("SHOW archive_mode"), cluster.pid()), ("off".to_owned(), pid), "it runs as it was");
    cluster.stop("fast");
    refused(one(&cli, "postgres.start", &main), 10);
    assert_eq!(cluster.pid(), None);
    drop(manager);
    one(&cli, "postgres.start", &main).ends(0);
    one(&cli, "postgres.stop", &main).ends(0);
    assert_eq!(cluster.pid(), None);
}
