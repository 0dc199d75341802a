//! Servers that only sessions reach: dumped and restored over TCP with TLS that proves who answers; what is impossible
//! is said when a runbook is checked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use runbook::language::inventory::StoreEntry;
use runbook::store::Opening;

use crate::support::cli::{Cli, Ran};
use crate::support::postgres::Cluster;
use crate::support::recovery::Known;

/// A server with a certificate of an authority of its own, and somebody who knows its address and nothing else.
struct Provider {
    cluster: Cluster,
    cli: Cli,
}

impl Provider {
    fn start() -> Self {
        let cluster = Cluster::create(&[], &[]);
        let keys = cluster.folder("keys");
        certify(&keys, "localhost");
        for name in ["server.key", "server.crt", "ca.crt"] {
            cluster.give(&keys.join(name));
        }
        let path = |name: &str| keys.join(name).to_string_lossy().into_owned();
        cluster.configure(&[
            ("ssl", "on"),
            ("ssl_key_file", &path("server.key")),
            ("ssl_cert_file", &path("server.crt")),
            ("listen_addresses", "localhost"),
        ]);
        let hba = "local all all trust\nhostssl all all all scram-sha-256\n";
        fs::write(cluster.pgdata().join("pg_hba.conf"), hba).unwrap();
        cluster.up();
        cluster
            .sql("SET password_encryption = 'scram-sha-256'; ALTER ROLE postgres PASSWORD 'a word that nobody sees'");
        cluster.sql("CREATE DATABASE shop");
        let provider = Self { cluster, cli: Cli::new() };
        provider.cli.file("password", "a word that nobody sees");
        provider.inventory("sslmode: verify-full, root_cert: KEYS/ca.crt");
        provider.shop("CREATE TABLE orders(id int PRIMARY KEY); INSERT INTO orders SELECT generate_series(1, 300)");
        provider
    }

    /// The inventory with further members of the database.
    fn inventory(&self, members: &str) {
        let store = self.cluster.folder("store");
        let url = format!("file://{}", store.display());
        let entry = StoreEntry { url, ..StoreEntry::default() };
        Opening::new(&entry, "primary", Arc::new(Known::default())).initialize().unwrap();
        let members = members.replace("KEYS", &self.cluster.dir().join("keys").to_string_lossy());
        self.cli.file(
            "inventory.yaml",
            &format!(
                "version: 1\ndatabases:\n  main: {{ address: localhost, port: {}, via: {{ managed: {{}} }}, password: word, bin: {}, \
                 store: primary, prefix: main, {members} }}\nsecrets: {{ word: {{ file: {} }} }}\n\
                 stores: {{ primary: {{ url: \"file://{}\" }} }}\nenvironments:\n  production: {{ protected: true, default: true }}\n  \
                 drill: {{ databases: {{ main: {{ scratch: true }} }}, stores: {{ primary: {{ read_only: true }} }} }}\n",
                self.cluster.port(),
                self.cluster.bin().display(),
                self.cli.path("password").display(),
                store.display(),
            ),
        );
    }

    #[track_caller]
    fn shop(&self, sql: &str) -> String {
        let mut command = self.cluster.command("psql");
        command
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "shop", "-h"])
            .arg(self.cluster.socket_dir());
        let output = command.args(["-p", &self.cluster.port().to_string(), "-c", sql]).output().unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    fn run(&self, words: &[&str]) -> Ran {
        let mut all = words.to_vec();
        all.extend(["-p", "database=main", "--confirm", "production"]);
        self.cli.run(&all)
    }
}

/// Makes `ca.crt`, and `server.crt` with `server.key` for a host.
fn certify(folder: &Path, host: &str) {
    let openssl = |words: &[&str]| {
        let output =
            Command::new("openssl").args(words).current_dir(folder).output().expect("openssl: run `.ci/setup escape`");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    openssl(
        &[&["req", "-x509", "-days", "2", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.crt"][..], &curve]
            .concat(),
    );
    fs::write(folder.join("names"), format!("subjectAltName=DNS:{host}\nbasicConstraints=CA:FALSE\n")).unwrap();
    let subject = format!("/CN={host}");
    openssl(&[&["req", "-new", "-subj", &subject, "-keyout", "server.key", "-out", "server.csr"][..], &curve].concat());
    openssl(&[
        "x509",
        "-req",
        "-days",
        "2",
        "-in",
        "server.csr",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-extfile",
        "names",
        "-out",
        "server.crt",
    ]);
    let key = folder.join("server.key");
    fs::set_permissions(key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

#[test]
fn a_managed_server_is_dumped_drilled_and_restored_over_tls_that_proves_who_answers() {
    let provider = Provider::start();
    provider.run(&["run", "daily-backup"]).ends(0);
    provider.shop("DELETE FROM orders WHERE id > 10");
    provider.cli.run(&["drill", "restore-dump", "-p", "database=main", "-p", "dbname=shop"]).ends(0);
    assert_eq!(provider.shop("SELECT count(*) FROM orders"), "10", "a drill changes nothing");
    provider.run(&["run", "restore-dump", "-p", "dbname=shop", "-p", "incident_at=now"]).ends(0);
    assert_eq!(provider.shop("SELECT count(*) FROM orders"), "300");
    provider.shop("DELETE FROM orders WHERE id > 20");
    let cli = &provider.cli;
    cli.run(&["backup", "main", "--tier", "monthly", "--confirm", "production"]).ends(0);
    assert_eq!(cli.status("verify[1]"), "succeeded", "what `daily-backup` does");
    provider.shop("DELETE FROM orders WHERE id > 5");
    cli.run(&["restore", "main"]).ends(2).says("--dbname NAME");
    cli.run(&["restore", "main", "--to", "5m ago"]).ends(2).says("restored by the provider").says("restore-dump");
    cli.run(&["restore", "main", "--side"]).ends(2).says("is managed");
    cli.run(&["restore", "main", "--dbname", "shop"]).ends(0).says("nothing was changed. To carry it out:");
    assert_eq!(provider.shop("SELECT count(*) FROM orders"), "5");
    cli.run(&["restore", "main", "--dbname", "shop", "--confirm", "production"]).ends(0);
    assert_eq!(provider.shop("SELECT count(*) FROM orders"), "20");
    let journals: Vec<PathBuf> = provider.cli.runs().iter().map(|run| run.join("journal.jsonl")).collect();
    let said: String = journals.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    assert!(!said.contains("a word that nobody sees"));
}

#[test]
fn one_table_comes_back_out_of_a_dump_beside_a_server_that_only_sessions_reach() {
    let provider = Provider::start();
    provider.shop("CREATE UNLOGGED TABLE cache(id int PRIMARY KEY); INSERT INTO cache VALUES (1), (2)");
    provider.run(&["run", "daily-backup"]).ends(0);
    let then =
        provider.shop("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')");
    provider.shop("DROP TABLE orders; DELETE FROM cache WHERE id = 1; CREATE TABLE later(n int)");
    // A newer dump, in which it is gone as well, is not the one that is taken.
    provider.run(&["run", "daily-backup"]).ends(0);
    let recover_to = format!("recover_to={then}");
    let words = |mode: &'static str, procedure: &'static str| {
        [mode, procedure, "-p", recover_to.as_str(), "-p", "tables=orders, cache", "-p", "kind=postgres.dump"]
    };
    let real = ["-p", "incident_at=now"];
    let unnamed = provider.run(&[&words("run", "accidental-drop")[..], &real].concat());
    assert!(unnamed.code != Some(0), "{unnamed:?}");
    unnamed.says("a dump is of one database");
    let named = ["-p", "dbname=shop"];
    let ran = provider.run(&[&words("run", "accidental-drop")[..], &named, &real].concat()).ends(0);
    // Of a dump that would be untrue.
    assert!(!format!("{ran:?}").contains("a copy of a base backup has no rows"), "{ran:?}");
    assert_eq!(provider.shop("SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM cache)"), "300|2");
    provider.cli.run(&["undo", "last", "--confirm", "production"]).ends(0);
    assert_eq!(provider.shop("SELECT to_regclass('orders') IS NULL, (SELECT count(*) FROM cache)"), "t|1");
    provider.shop("CREATE TABLE orders(id int PRIMARY KEY); INSERT INTO orders VALUES (1), (999)");
    provider.run(&[&words("run", "table-recovery")[..], &named, &real].concat()).says("accept_older=true");
    assert_eq!(provider.shop("SELECT count(*), max(id) FROM orders"), "2|999", "nothing was brought back");
    let older = ["-p", "accept_older=true"];
    provider.run(&[&words("run", "table-recovery")[..], &named, &older, &real].concat()).ends(0);
    assert_eq!(provider.shop("SELECT count(*), max(id) FROM orders"), "301|999");
}

#[test]
fn an_export_and_the_weekly_test_take_the_dump_of_the_database_that_is_wanted() {
    let provider = Provider::start();
    provider.inventory("sslmode: verify-full, root_cert: KEYS/ca.crt, dbname: shop");
    let cluster = &provider.cluster;
    for name in ["tenant_a", "tenant_z"] {
        cluster.sql(&format!("CREATE DATABASE {name}"));
    }
    // The last one is dumped last, and is the newest of all.
    provider.run(&["run", "daily-backup", "-p", "tier=monthly"]).ends(0);
    let store = cluster.dir().join("store");
    if rustix::process::geteuid().is_root() {
        // No server here is ever to read it.
        std::os::unix::fs::chown(&store, Some(0), Some(0)).unwrap();
        fs::set_permissions(&store, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    }
    let cli = &provider.cli;
    for pick in ["latest", "oldest"] {
        let pick = format!("pick={pick}");
        cli.run(&["drill", "restore-test-dump", "-p", "database=main", "-p", &pick])
            .ends(0)
            .says("restore proof of backup");
    }
    let export = |sql: &str, more: &[&str]| {
        let (to, sql) = (format!("to={}", cli.path("export.csv").display()), format!("sql={sql}"));
        let _ = fs::remove_file(cli.path("export.csv"));
        let words = ["run", "compliance-export", "-p", "kind=postgres.dump", "-p", &to, "-p", &sql];
        provider.run(&[&words[..], more].concat())
    };
    export("SELECT current_database() AS name, count(*) FROM orders", &[]).ends(0);
    assert_eq!(cli.read("export.csv"), "name,count\nshop,300\n");
    export("SELECT current_database() AS name", &["-p", "dbname=tenant_a"]).ends(0);
    assert_eq!(cli.read("export.csv"), "name\ntenant_a\n");
    let list = cli.run(&["backups", "list", "--json"]).ends(0).json();
    let mut ids = list["backups"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap());
    let last = format!("backup={}", ids.find(|id| id.ends_with(".tenant_z")).unwrap());
    export("SELECT current_database() AS name", &["-p", &last]).ends(0);
    assert_eq!(cli.read("export.csv"), "name\ntenant_z\n");
    export("SELECT 1", &["-p", "dbname=never"]).ends(4).says("of its database `never`");
}

#[test]
fn a_database_that_no_dump_names_is_told_whatever_dumps_of_others_there_are() {
    let provider = Provider::start();
    provider.inventory("sslmode: verify-full, root_cert: KEYS/ca.crt, dbname: shop");
    let (cluster, cli) = (&provider.cluster, &provider.cli);
    provider.run(&["run", "daily-backup", "-p", "exclude=shop"]).ends(0);
    let backup = "runbook backup main --confirm production";
    let own = "database `shop`, which the inventory names, has no dump";
    cli.run(&["status", "main"]).ends(2).prints(own).prints(backup);
    provider.run(&["run", "daily-backup"]).ends(0);
    let fine = cli.run(&["status", "main"]);
    assert!(!fine.out.contains("without a dump") && !fine.out.contains(own), "{}", fine.out);
    cluster.sql("CREATE DATABASE crm");
    // What a restore has put aside needs no dump, and its dump is none of the database that has its place.
    let aside = "shop_old_20260128-143002-3fa9c1";
    cluster.sql(&format!("CREATE DATABASE \"{aside}\""));
    provider.run(&["run", "daily-backup", "-p", "exclude=crm"]).ends(0);
    let told = cli.run(&["status", "main", "--json"]).ends(1).json();
    assert_eq!(told[0]["undumped"], serde_json::json!({ "crm": { "dumped_at": null, "is_own": false } }), "{told:#}");
    assert!(!told[0]["backup"]["id"].as_str().unwrap().contains("_old_"), "{told:#}");
    let next = told[0]["next"].to_string();
    assert!(next.contains("databases without a dump, `crm`: ") && !next.contains(aside), "{next}");
    provider.run(&["run", "daily-backup"]).ends(0);
    assert!(!cli.run(&["status", "main"]).out.contains("`crm`"));
}

#[test]
fn who_cannot_prove_to_be_the_server_gets_nothing() {
    let provider = Provider::start();
    provider.cli.file(
        "runbook.yaml",
        "version: 1\nname: ask\nparams: { database: { type: database } }\nsteps:\n  \
         - { id: ask, uses: postgres.query, with: { database: \"{{ params.database }}\", sql: SELECT 1 AS one } }\n",
    );
    provider.run(&["run", "runbook.yaml"]).ends(0);
    let other = provider.cluster.folder("other");
    certify(&other, "localhost");
    provider.inventory(&format!("sslmode: verify-full, root_cert: {}", other.join("ca.crt").display()));
    let ran = provider.run(&["run", "runbook.yaml"]);
    assert!(ran.code != Some(0) && ran.err.contains("certificate"), "{ran:?}");
    fs::write(other.join("ca.crt"), "no certificate\n").unwrap();
    let ran = provider.run(&["run", "runbook.yaml"]);
    assert!(ran.code != Some(0) && ran.err.contains("holds no certificate"), "{ran:?}");
}

#[test]
fn what_is_impossible_on_a_managed_server_is_said_by_check_with_what_to_do_instead() {
    let provider = Provider::start();
    let step = |action: &str, with: &str| {
        let text = format!(
            "version: 1\nname: x\nsteps:\n  - {{ id: x, uses: postgres.{action}, with: {{ database: main{with} }} }}\n"
        );
        provider.cli.file("runbook.yaml", &text);
        provider.cli.run(&["check", "runbook.yaml"]).ends(3).says("`main` is managed: nothing here can")
    };
    step("stop", "").says("stop, start or promote its server").says("the provider's own command");
    step("start", "");
    step("promote", "");
    step("base_backup", "").says("take dumps");
    step("configure_archiving", "").says("the provider archives it");
    for (action, rest) in [("restore_base", ""), ("recover", ", target: latest")] {
        let handle = if action == "recover" { "staged" } else { "backup" };
        let text = format!(
            "version: 1\nname: x\nsteps:\n  - {{ id: find, uses: backup.find, with: {{ database: main, kind: postgres.base }} }}\n  \
             - {{ id: stage, uses: postgres.restore_base, with: {{ database: main, backup: \"{{{{ steps.find.backup }}}}\" }} }}\n  \
             - {{ id: x, uses: postgres.{action}, with: {{ database: main, {handle}: \"{{{{ steps.{}.{handle} }}}}\"{rest} }} }}\n",
            if action == "recover" { "stage" } else { "find" }
        );
        provider.cli.file("runbook.yaml", &text);
        provider.cli.run(&["check", "runbook.yaml"]).ends(3).says("data directory").says("point in time");
    }
    provider.run(&["run", "base-backup"]).ends(3).says("take dumps");
}

#[test]
fn a_protected_environment_proves_every_server_across_a_network() {
    let cli = Cli::new();
    cli.file("runbook.yaml", "version: 1\nname: x\nsteps: [ { id: x, run: 'true' } ]\n");
    let check = |members: &str, environments: &str| {
        cli.file(
            "inventory.yaml",
            &format!("version: 1\ndatabases:\n  main: {{ via: {{ managed: {{}} }}, {members} }}\nenvironments: {{ {environments} }}\n"),
        );
        cli.run(&["check", "runbook.yaml"])
    };
    let protected = "production: { protected: true, default: true }";
    check("address: db.example.org", protected).ends(3).says("RB0113").says("sslmode: verify-full");
    check("address: db.example.org, sslmode: require", protected).ends(3).says("RB0113");
    check("address: db.example.org, sslmode: verify-full", protected).ends(0);
    check("address: db.example.org", "production: { default: true }").ends(0);
    check("address: 127.0.0.1", protected).ends(0);
    let moved = "production: { protected: true, default: true, databases: { main: { address: db.example.org } } }";
    check("socket: /run/postgresql", moved).ends(3).says("RB0113");
    check("address: 'db:5432'", protected).ends(3).says("the port stands under `port`");
    check("address: db, socket: /run/postgresql", protected).ends(3).says("one of `address` and `socket`");
    check("address: db, root_cert: /etc/ca.pem", "production: {}").ends(3).says("proves nothing without");
    check("address: db, pgdata: /srv/data", "production: {}").ends(3).says("a managed server has no `pgdata`");
}
