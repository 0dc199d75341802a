//! A recovery under a real Patroni: nothing is touched until it is paused, and it goes on with what was recovered.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use runbook::action::Action as _;
use runbook::actions::postgres::Stop;
use serde_json::{Value, json};

use crate::support::postgres::{Cluster, free_port};
use crate::support::program::need;
use crate::support::recovery::Site;

/// Patroni over a running cluster, with its own store of one member; ended without a word to the server when it is dropped.
struct Patroni<'a> {
    cluster: &'a Cluster,
    child: Child,
    /// Where it answers.
    port: u16,
}

impl<'a> Patroni<'a> {
    /// Has it take over a running server, and waits until it leads.
    fn over(cluster: &'a Cluster) -> Self {
        let (port, member) = (free_port(), free_port());
        let (api, server) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{}", cluster.port()));
        let configuration = json!({
            "scope": "main", "name": "one",
            "restapi": { "listen": api, "connect_address": api },
            "raft": { "data_dir": cluster.folder("raft"), "self_addr": format!("127.0.0.1:{member}") },
            "bootstrap": { "dcs": { "ttl": 60, "loop_wait": 1, "retry_timeout": 20 } },
            "postgresql": {
                "listen": server, "connect_address": server, "data_dir": cluster.pgdata(), "bin_dir": cluster.bin(),
                "pgpass": cluster.dir().join("pgpass"),
                "authentication": { "superuser": { "username": "postgres" }, "replication": { "username": "postgres" } },
                "parameters": { "unix_socket_directories": cluster.socket_dir(), "fsync": "off" },
            },
        });
        let path = cluster.dir().join("patroni.yml");
        fs::write(&path, configuration.to_string()).unwrap();
        cluster.give(&path);
        let log = fs::File::create(cluster.dir().join("patroni.log")).unwrap();
        let mut command = cluster.command(&need("patroni", "patroni").to_string_lossy());
        let child = command.arg(&path).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let patroni = Self { cluster, child, port };
        patroni.until("it leads", || patroni.leads());
        patroni
    }

    /// What it says of itself; null while it gives no answer.
    fn status(&self) -> Value {
        let asked = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"GET /patroni HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = asked().unwrap_or_default();
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).unwrap_or_default()
    }

    /// Whether it leads, and is not paused.
    fn leads(&self) -> bool {
        let status = self.status();
        // Versions before 4 call it otherwise.
        let leads = ["primary", "master"].iter().any(|role| status["role"] == *role);
        leads && status["pause"].is_null()
    }

    /// Runs a command of its operator.
    fn ctl(&self, command: &str) {
        let mut ctl = self.cluster.command(&need("patronictl", "patroni").to_string_lossy());
        let output = ctl.args(["-c", "patroni.yml", command, "--wait"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Writes what Patroni keeps of its settings in the data directory, which may be older than what it says.
    fn left_behind(&self, is_paused: bool) {
        let path = self.cluster.pgdata().join("patroni.dynamic.json");
        fs::write(&path, json!({ "pause": is_paused }).to_string()).unwrap();
        self.cluster.give(&path);
    }

    /// Waits; fails with what it has told when it waits in vain.
    fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !holds() {
            let log = self.cluster.dir().join("patroni.log");
            assert!(Instant::now() < end, "{what}: {}\n{}", self.status(), fs::read_to_string(log).unwrap());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Patroni<'_> {
    fn drop(&mut self) {
        let _ended_by_itself = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_recovery_waits_until_patroni_is_paused_and_patroni_goes_on_with_what_was_recovered() {
    let site = Site::new();
    let patroni = Patroni::over(&site.cluster);
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let run = site.run();
    let backup = run.base_backup().await.backup;
    site.cluster.sql("INSERT INTO t VALUES (2)");
    let before = site.cluster.sql("SELECT pg_create_restore_point('before')");
    site.cluster.sql("DELETE FROM t");
    site.archive();
    let (staged, pid) = (run.stage(&backup).await, site.cluster.pid());

    // Its API counts, not the copy in the data directory.
    patroni.left_behind(true);
    let checked = serde_json::to_string(&run.check_recover(&staged, json!({})).await.0).unwrap();
    assert!(checked.contains("looks after database `main`") && checked.contains("patronictl pause"), "{checked}");
    let stop = serde_json::from_value(json!({ "database": "main" })).unwrap();
    let refused = Stop.run(&stop, &run.context()).await.unwrap_err().to_string();
    assert!(refused.contains("looks after database `main`"), "{refused}");
    patroni.until("it leads", || patroni.leads());
    assert_eq!(site.cluster.pid(), pid, "nothing was touched");

    patroni.ctl("pause");
    patroni.left_behind(false);
    run.stop().await;
    patroni.until("it sees that the server is gone", || patroni.status()["state"] == "stopped");
    run.recover(&staged, json!({ "target_name": "before" })).await;
    assert_eq!(site.cluster.sql("SELECT array_agg(n ORDER BY n) FROM t"), "{1,2}", "as it was at {before}");
    patroni.ctl("resume");
    patroni.until("it leads again", || patroni.leads());
    site.cluster.sql("INSERT INTO t VALUES (3)");
    site.cluster.kill();
    patroni
        .until("it starts the server that crashed", || site.cluster.try_sql("CREATE TABLE proof()").status.success());
    assert_eq!(site.cluster.sql("SELECT array_agg(n ORDER BY n) FROM t"), "{1,2,3}");
    let refused = Stop.run(&stop, &run.context()).await.unwrap_err().to_string();
    assert!(refused.contains("looks after database `main`"), "it watches again: {refused}");
}
