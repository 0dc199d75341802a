//! A production cluster with its inventory, for drills and recoveries by the real program.

use std::fs;
use std::path::{Path, PathBuf};

use runbook::language::inventory::StoreEntry;
use runbook::store::Opening;
use serde_json::Value;

use super::cli::{Cli, listing, processes_of};
use super::recovery::{Depot, Site};

/// A production cluster with a base backup and later commits, and somebody who can drill its loss.
pub struct Production {
    pub site: Site,
    pub cli: Cli,
}

impl Production {
    /// Starts it, takes a base backup with the program and commits more.
    pub fn new() -> Self {
        Self::over(Depot::default())
    }

    /// The same with its backups in a place of one's choice.
    pub fn over(depot: Depot) -> Self {
        let site = Site::over(depot, &[]);
        let cli = Cli::new();
        let secret = |(name, value): (&String, &String)| {
            let path = cli.file(&format!("secret.{name}"), value);
            format!("{name}: {{ file: {} }}", path.display())
        };
        let secrets: Vec<String> = site.depot.secrets.0.iter().map(secret).collect();
        let cluster = &site.cluster;
        cli.file(
            "inventory.yaml",
            &format!(
                "version: 1\ndatabases:\n  main: {{ pgdata: {}, port: {}, socket: {}, bin: {}, store: primary, prefix: main,\n    \
                 checks: [ {{ name: rows, sql: SELECT count(*) FROM t, expect: '= 1000' }} ] }}\nstores: {{ primary: {} }}\nsecrets: {{ {} }}\n\
                 environments:\n  production: {{ protected: true, default: true }}\n  \
                 drill: {{ databases: {{ main: {{ scratch: true }} }}, stores: {{ primary: {{ read_only: true }} }} }}\n",
                cluster.pgdata().display(),
                cluster.port(),
                cluster.socket_dir().display(),
                cluster.bin().display(),
                serde_json::to_string(&site.depot.entry).unwrap(),
                secrets.join(", "),
            ),
        );
        cluster.sql("CREATE TABLE t(n int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 500)");
        let backup = ["run", "base-backup", "-p", "database=main", "--confirm", "production"];
        cli.run(&backup).ends(0);
        fs::remove_dir_all(cli.state()).unwrap();
        cluster.sql("INSERT INTO t SELECT generate_series(501, 1000)");
        site.archive();
        Self { site, cli }
    }

    /// The same, with its backups in the folder `second` too, a store that is made for it.
    pub fn with_second(self, second: &Path) -> Self {
        let url = format!("file://{}", second.display());
        let entry = StoreEntry { url: url.clone(), ..StoreEntry::default() };
        Opening::plain(&entry, "second").initialize().unwrap();
        let text = self.cli.read("inventory.yaml");
        let text = text.replace("store: primary,", "store: primary, backup_stores: [second],");
        let text = text.replace("stores: { primary: ", &format!("stores: {{ second: {{ url: \"{url}\" }}, primary: "));
        self.cli.file("inventory.yaml", &text);
        self
    }

    /// What a drill must not change: the server, its data, its configuration, its store.
    pub fn facts(&self) -> Vec<String> {
        let mut facts = self.server_facts();
        facts.extend(listing(&self.site.cluster.dir().join("store")));
        facts
    }

    /// The same without the store: the server, its data, its configuration.
    pub fn server_facts(&self) -> Vec<String> {
        let cluster = &self.site.cluster;
        let sql = "SELECT pg_postmaster_start_time(), (SELECT system_identifier FROM pg_control_system()), \
                   (SELECT timeline_id FROM pg_control_checkpoint()), sum(n), count(*), md5(string_agg(n::text, ',' ORDER BY n)) FROM t";
        let mut facts = vec![cluster.sql(sql)];
        let top = fs::read_dir(cluster.pgdata()).unwrap().flatten();
        let mut names: Vec<String> = top.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        facts.push(names.join(" "));
        for name in ["postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "postmaster.opts", "PG_VERSION"] {
            facts.push(fs::read_to_string(cluster.pgdata().join(name)).unwrap());
        }
        let beside = fs::read_dir(cluster.dir()).unwrap().flatten();
        let mut beside: Vec<PathBuf> = beside.map(|entry| entry.path()).collect();
        beside.sort();
        facts.push(format!("{beside:?}"));
        facts
    }

    /// Demands that a drill removed everything it had registered.
    #[track_caller]
    pub fn nothing_is_left(&self) {
        let scratch = self.cli.state().join("scratch");
        let left = listing(&scratch);
        assert!(left.is_empty(), "{left:#?}");
        let running = processes_of(self.cli.dir());
        assert!(running.is_empty(), "{running:#?}");
        let kind = |event: &Value, name: &str| event["kind"]["type"] == name;
        let resources = |name: &str| {
            let mut found: Vec<String> = self
                .cli
                .journal()
                .iter()
                .filter(|event| kind(event, name))
                .map(|event| event["kind"]["resource"].to_string())
                .collect();
            found.sort();
            found.dedup();
            found
        };
        let registered = resources("resource_registered");
        assert!(!registered.is_empty());
        assert_eq!(resources("resource_removed"), registered);
    }
}
