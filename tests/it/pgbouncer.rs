//! A real pgbouncer as a service: its clients wait while the server behind it is replaced.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use runbook::action::ActionError;
use runbook::event::ErrorClass;
use runbook::language::inventory::{Database, Inventory, Pgbouncer, Service};
use serde_json::{Value, json};

use crate::support::cli::until;
use crate::support::host::{self, Bench, action};
use crate::support::postgres::{Cluster, free_port};
use crate::support::program::need;

/// A pooler in front of a cluster; gone when it is dropped.
struct Pooler {
    child: Child,
    port: u16,
    folder: PathBuf,
}

impl Pooler {
    fn before(cluster: &Cluster) -> Self {
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/opt/homebrew/bin/pgbouncer"]
            .into_iter()
            .find(|path| fs::exists(path).unwrap_or_default());
        let program = program.unwrap_or_else(|| {
            need("pgbouncer", "pgbouncer");
            "pgbouncer"
        });
        let (folder, port) = (cluster.folder("pooler"), free_port());
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).unwrap();
            cluster.give(&path);
            path
        };
        let users = write("users.txt", "\"operator\" \"open sesame\"\n\"postgres\" \"guest\"\n");
        let ini = write(
            "pgbouncer.ini",
            &format!(
                "[databases]\nmain = host={} port={} dbname=postgres\nother = host={} port={} dbname=postgres\n[pgbouncer]\n\
                 listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir = {}\nauth_type = plain\nauth_file = {}\n\
                 admin_users = operator\npool_mode = transaction\nlogfile = {}/log\n",
                cluster.socket_dir().display(),
                cluster.port(),
                cluster.socket_dir().display(),
                cluster.port(),
                folder.display(),
                users.display(),
                folder.display()
            ),
        );
        let mut command = Command::new(program);
        command.arg("-q").arg(ini).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some((uid, gid)) = cluster.owner() {
            command.uid(uid).gid(gid);
        }
        let child = command.spawn().expect("pgbouncer starts");
        let pooler = Self { child, port, folder };
        until("the pooler answers", || {
            pooler.query("main").is_ok_and(|child| child.wait_with_output().unwrap().status.success())
        });
        pooler
    }

    /// A client that asks one question.
    fn query(&self, dbname: &str) -> std::io::Result<Child> {
        Command::new("psql")
            .env("PGPASSWORD", "guest")
            .args(["-XAtq", "-w", "-h"])
            .arg(&self.folder)
            .args(["-p", &self.port.to_string(), "-U", "postgres", "-d", dbname, "-c", "SELECT 42"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    }

    /// A client that stays.
    fn session(&self, dbname: &str) -> Talk {
        let mut client = Command::new("psql")
            .env("PGPASSWORD", "guest")
            .args(["-XAtq", "-w", "-h"])
            .arg(&self.folder)
            .args(["-p", &self.port.to_string(), "-U", "postgres", "-d", dbname])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let answers = BufReader::new(client.stdout.take().unwrap());
        Talk { client, answers }
    }

    /// A statement for the admin console.
    fn console(&self, statement: &str) -> Command {
        let mut command = Command::new("psql");
        command.env("PGPASSWORD", "open sesame").args(["-XAtq", "-w", "-h"]).arg(&self.folder);
        command.args(["-p", &self.port.to_string(), "-U", "operator", "-d", "pgbouncer", "-c", statement]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command
    }

    /// Whether a database of it is paused.
    fn holds_back(&self) -> bool {
        let shown = self.console("SHOW DATABASES").output().unwrap();
        String::from_utf8_lossy(&shown.stdout).lines().any(|line| line.ends_with("|1|0"))
    }

    fn service(&self, databases: &[&str]) -> Service {
        let pgbouncer = Pgbouncer {
            port: self.port,
            user: "operator".to_owned(),
            password: Some("console".to_owned()),
            databases: databases.iter().map(|name| (*name).to_owned()).collect(),
            ..Pgbouncer::default()
        };
        Service { pgbouncer: Some(pgbouncer), ..Service::default() }
    }
}

/// A client that asks one thing after the other.
struct Talk {
    client: Child,
    answers: BufReader<ChildStdout>,
}

impl Talk {
    /// Asks, and waits until it is answered.
    fn ask(&mut self, statements: &str) {
        let input = self.client.stdin.as_mut().unwrap();
        writeln!(input, "{statements}\n\\echo answered").unwrap();
        let mut line = String::new();
        while line != "answered\n" {
            line.clear();
            assert!(self.answers.read_line(&mut line).unwrap() > 0, "the client is gone");
        }
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn inventory(service: Service) -> Inventory {
    let mut inventory = Inventory::default();
    inventory.services.insert("pool".to_owned(), service);
    let entry = Database { services: vec!["pool".to_owned()], ..Database::default() };
    inventory.databases.insert("main".to_owned(), entry);
    inventory
}

async fn run(bench: &Bench, service: &Service, name: &str, with: Value) -> Result<Value, ActionError> {
    let bench_inventory = inventory(service.clone());
    let secrets = [("console".to_owned(), "open sesame".to_owned())];
    action(name).run(&with, &bench.run_context_with(bench_inventory, secrets.into())).await
}

#[tokio::test]
async fn clients_of_a_paused_pooler_wait_until_the_server_is_back() {
    let cluster = Cluster::start(&[]);
    let pooler = Pooler::before(&cluster);
    let (bench, service) = (Bench::new(), pooler.service(&["main"]));
    let all = json!({ "services_of": "main" });
    let stopped = run(&bench, &service, "service.stop", all.clone()).await.unwrap();
    assert_eq!(stopped["services"][0], json!({ "name": "pool", "before": "running", "after": "stopped" }));
    let again = run(&bench, &service, "service.stop", all.clone()).await.unwrap();
    assert_eq!(again["services"][0]["before"], "stopped");
    let waiting = pooler.query("main").unwrap();
    let other = pooler.query("other").unwrap().wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&other.stdout), "42\n", "another database of the pooler goes on");
    cluster.stop("fast");
    cluster.up();
    let started = run(&bench, &service, "service.start", all).await.unwrap();
    assert_eq!(started["services"][0], json!({ "name": "pool", "before": "stopped", "after": "running" }));
    let answer = waiting.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&answer.stdout), "42\n", "{}", String::from_utf8_lossy(&answer.stderr));
}

#[tokio::test]
async fn a_pause_that_does_not_come_through_holds_nobody_back() {
    let cluster = Cluster::start(&[]);
    let pooler = Pooler::before(&cluster);
    let (bench, service) = (Bench::new(), pooler.service(&["main", "other"]));
    let all = |within: &str| json!({ "services_of": "main", "within": within });
    let mut busy = pooler.session("other");
    busy.ask("BEGIN; SELECT 42;");
    let error = run(&bench, &service, "service.stop", all("2s")).await.unwrap_err();
    assert!(error.info().help.as_deref().unwrap_or_default().contains("its clients go on"), "{:?}", error.info());
    for database in ["main", "other"] {
        let answer = pooler.query(database).unwrap().wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&answer.stdout), "42\n", "a new client of `{database}` gets in");
    }
    busy.ask("COMMIT; SELECT 43;");
    let stopped = run(&bench, &service, "service.stop", all("1m")).await.unwrap();
    assert_eq!(stopped["services"][0]["after"], "stopped");
    run(&bench, &service, "service.start", all("1m")).await.unwrap();
}

#[tokio::test]
async fn a_pause_that_is_cancelled_holds_nobody_back() {
    let cluster = Cluster::start(&[]);
    let pooler = Pooler::before(&cluster);
    let (bench, service) = (Bench::new(), pooler.service(&["main"]));
    let mut busy = pooler.session("main");
    busy.ask("BEGIN; SELECT 42;");
    let cancelling = async {
        host::until(|| pooler.holds_back().then_some(())).await;
        bench.cancel.cancel();
    };
    let (stopped, ()) = tokio::join!(run(&bench, &service, "service.stop", json!({ "service": "pool" })), cancelling);
    assert_eq!(stopped.unwrap_err().info().class, ErrorClass::Cancelled);
    let answer = pooler.query("main").unwrap().wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&answer.stdout), "42\n");
}

#[tokio::test]
async fn a_paused_pool_whose_transactions_still_run_is_not_stopped() {
    let cluster = Cluster::start(&[]);
    let pooler = Pooler::before(&cluster);
    let (bench, service) = (Bench::new(), pooler.service(&["main"]));
    let mut busy = pooler.session("main");
    busy.ask("BEGIN; SELECT 42;");
    let mut pausing = pooler.console("PAUSE main").spawn().unwrap();
    until("the pooler is told to pause", || pooler.holds_back());
    let one = json!({ "service": "pool" });
    let status = run(&bench, &service, "service.status", one.clone()).await.unwrap();
    assert_eq!(status["services"][0]["state"], "changing");
    let error = run(&bench, &service, "service.stop", json!({ "service": "pool", "within": "2s" })).await.unwrap_err();
    assert!(error.info().help.as_deref().unwrap_or_default().contains("RESUME"), "{:?}", error.info());
    busy.ask("COMMIT;");
    let stopped = run(&bench, &service, "service.stop", one).await.unwrap();
    assert_eq!(stopped["services"][0]["after"], "stopped");
    assert!(pausing.wait().unwrap().success(), "the other pause came through as well");
}

#[tokio::test]
async fn a_console_that_refuses_and_a_database_it_does_not_have_are_told() {
    let cluster = Cluster::start(&[]);
    let pooler = Pooler::before(&cluster);
    let bench = Bench::new();
    let one = json!({ "service": "pool" });
    let unknown = run(&bench, &pooler.service(&["orders"]), "service.status", one.clone()).await.unwrap_err();
    assert!(unknown.to_string().contains("none of the databases"), "{unknown}");
    let mut stranger = pooler.service(&[]);
    stranger.pgbouncer.as_mut().unwrap().user = "postgres".to_owned();
    let refused = run(&bench, &stranger, "service.status", one).await.unwrap_err();
    assert!(refused.info().help.as_deref().unwrap_or_default().contains("admin_users"), "{:?}", refused.info());
}
