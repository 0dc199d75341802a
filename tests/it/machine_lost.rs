//! The machine is gone with everything that `setup-archiving` had put beside the data: real servers, the shipped procedures.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::cli::{Cli, Ran, until};
use crate::support::postgres::Cluster;

/// A server that archives as `setup-archiving` has it, with a base backup and a later commit.
struct Site {
    cluster: Cluster,
    cli: Cli,
}

const ROWS: &str = "SELECT string_agg(n::text, ',' ORDER BY n) FROM t";

impl Site {
    /// One with these stores; the first is that of its backups.
    fn over(stores: &[&str]) -> Self {
        let cluster = Cluster::start(&[("archive_mode", "on")]);
        let site = Self { cluster, cli: Cli::new() };
        stores.iter().for_each(|name| drop(site.cluster.folder(name)));
        site.inventory(stores, &[]);
        site.set_up(0);
        site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
        site.real(&["run", "base-backup", "-p", "database=main"]).ends(0);
        site.cluster.sql("INSERT INTO t VALUES (2)");
        site.archive();
        site
    }

    /// Writes the inventory: the stores of its WAL, and its standbys.
    fn inventory(&self, stores: &[&str], standbys: &[String]) {
        let entry = |name: &&str| format!("{name}: {{ url: \"file://{}\" }}", self.store(name).display());
        let entries: Vec<String> = stores.iter().map(entry).collect();
        self.cli.file(
            "inventory.yaml",
            &format!(
                "version: 1\ndatabases:\n  main: {{ pgdata: {}, port: {}, socket: {}, bin: {}, store: {}, wal_stores: [{}],\n    \
                 prefix: main, standbys: [{}] }}\nstores: {{ {} }}\nenvironments:\n  production: {{ protected: true, default: true }}\n",
                self.cluster.pgdata().display(),
                self.cluster.port(),
                self.cluster.socket_dir().display(),
                self.cluster.bin().display(),
                stores[0],
                stores[1..].join(", "),
                standbys.iter().map(|place| format!("\"{place}\"")).collect::<Vec<_>>().join(", "),
                entries.join(", "),
            ),
        );
    }

    fn store(&self, name: &str) -> PathBuf {
        self.cluster.dir().join(name)
    }

    fn beside(&self) -> PathBuf {
        self.cluster.dir().join("data.runbook-wal")
    }

    fn real(&self, words: &[&str]) -> Ran {
        self.cli.run(&[words, &["--confirm", "production"]].concat())
    }

    fn set_up(&self, code: i32) -> Ran {
        self.real(&["run", "setup-archiving", "-p", "database=main"]).ends(code)
    }

    /// Waits until all that was committed is archived.
    fn archive(&self) {
        let name = self.cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())");
        self.cluster.sql("SELECT pg_switch_wal()");
        let archived = format!("SELECT coalesce(last_archived_wal, '') >= '{name}' FROM pg_stat_archiver");
        until("the last commit is archived", || self.cluster.sql(&archived) == "t");
    }

    /// Takes the server, its data, what lies beside it, and the history of runs.
    fn lose(&self) {
        self.cluster.kill();
        fs::remove_dir_all(self.cluster.pgdata()).unwrap();
        fs::remove_dir_all(self.beside()).unwrap();
        fs::remove_dir_all(self.cli.state()).unwrap();
    }
}

#[test]
fn a_machine_that_is_lost_with_its_archiving_comes_back_and_archives_again_by_itself() {
    let site = Site::over(&["primary"]);
    site.lose();
    site.cli.run(&["restore", "main"]).ends(0).prints("it is written anew from the inventory");
    site.real(&["restore", "main"]).ends(0);
    assert_eq!(site.cluster.sql(ROWS), "1,2");
    let config = fs::read_to_string(site.beside().join("wal.yaml")).unwrap();
    assert!(config.contains("primary") && !config.contains("pgdata"), "{config}");
    assert!(site.cluster.sql("SELECT last_archived_wal > '00000002' FROM pg_stat_archiver") == "t");
    site.cli.run(&["wal", "status"]).ends(0);
    // On a machine where it cannot be written anew, nothing is begun.
    site.lose();
    fs::write(site.beside(), "a file where its folder should be").unwrap();
    site.real(&["restore", "main"]).ends(10).says("what `wal push` needs cannot be written").says("setup-archiving");
    assert!(!site.cluster.pgdata().exists(), "nothing was swapped in");
}

/// Two people at once, each with a state of their own: neither sees the other's locks.
#[test]
fn of_two_recoveries_that_know_nothing_of_each_other_none_moves_the_others_server_away() {
    let site = Site::over(&["primary"]);
    site.lose();
    let other = Cli::new();
    other.file("inventory.yaml", &site.cli.read("inventory.yaml"));
    let restore = ["restore", "main", "--confirm", "production"];
    let (one, two) = std::thread::scope(|scope| {
        let one = scope.spawn(|| site.cli.run(&restore));
        let two = scope.spawn(|| other.run(&restore));
        (one.join().unwrap(), two.join().unwrap())
    });
    let went_well = |ran: &Ran| matches!(ran.code, Some(0 | 5));
    let said = format!("{}\n---\n{}", one.err, two.err);
    assert!(went_well(&one) || went_well(&two), "{said}");
    assert_eq!(site.cluster.sql(ROWS), "1,2", "{said}");
    let pid = site.cluster.pid().expect("a server in the data directory");
    assert_eq!(fs::read_link(format!("/proc/{}/cwd", pid.as_raw_nonzero())).unwrap(), site.cluster.pgdata(), "{said}");
}

#[test]
fn a_store_that_left_the_inventory_is_no_reason_that_a_recovered_server_archives_nothing() {
    let site = Site::over(&["primary", "second"]);
    site.cluster.kill();
    fs::remove_dir_all(site.store("second")).unwrap();
    site.inventory(&["primary"], &[]);
    site.real(&["restore", "main"]).ends(0).says("no store of its WAL by the inventory");
    assert_eq!(site.cluster.sql(ROWS), "1,2");
    let config = fs::read_to_string(site.beside().join("wal.yaml")).unwrap();
    assert!(!config.contains("second"), "{config}");
}

#[test]
fn a_store_that_only_the_servers_own_configuration_names_goes_on_getting_wal() {
    let site = Site::over(&["primary", "second"]);
    site.cluster.kill();
    site.inventory(&["primary"], &[]);
    let words = "no store of its WAL by the inventory";
    site.cli.run(&["restore", "main"]).ends(0).prints(words).prints("it is kept as it is");
    site.real(&["restore", "main"]).ends(0).says(words).says("it is kept as it is");
    assert_eq!(site.cluster.sql(ROWS), "1,2");
    let config = fs::read_to_string(site.beside().join("wal.yaml")).unwrap();
    assert!(config.contains("second"), "{config}");
    let folders = fs::read_dir(site.store("second").join("main/wal")).unwrap().flatten();
    let newer = folders.map(|entry| entry.path().join("00000002")).find(|folder| folder.is_dir());
    assert!(newer.is_some(), "the new timeline is archived there as well");
}

#[test]
fn a_recovery_whose_server_did_not_archive_is_gone_on_with_and_nothing_is_restored_again() {
    let site = Site::over(&["primary"]);
    let gate = site.cluster.dir().join("gate");
    let command = site.cluster.sql("SHOW archive_command");
    let gated = format!("test ! -e {} && {command}", gate.display());
    site.cluster.sql(&format!("ALTER SYSTEM SET archive_command = '{}'", gated.replace('\'', "''")));
    site.cluster.sql("SELECT pg_reload_conf()");
    site.real(&["run", "base-backup", "-p", "database=main"]).ends(0);
    site.cluster.sql("INSERT INTO t VALUES (3)");
    site.archive();
    site.cluster.kill();
    fs::write(&gate, "").unwrap();
    let at = "2026-11-21T00:00:00Z";
    let words = ["run", "full-db-loss", "-p", "database=main", "-p", &format!("incident_at={at}")].map(str::to_owned);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let live = site.cli.spawn(&[&words[..], &["--confirm", "production"]].concat());
    // The first segment of the new timeline is finished by nobody but the proof.
    let ready = "SELECT count(*) > 0 FROM pg_ls_archive_statusdir() WHERE name LIKE '00000002________________.ready'";
    until("archiving is being proven", || {
        let told = site.cluster.try_sql(ready);
        told.status.success() && String::from_utf8_lossy(&told.stdout).trim() == "t"
    });
    live.signal(Signal::INT);
    live.wait().ends(12);
    let run = site.cli.runs().last().unwrap().file_name().unwrap().to_string_lossy().into_owned();
    let told = site.cli.run(&["status", "main"]);
    assert!(!told.out.contains("reason=the recovery is over"), "{}", told.out);
    fs::remove_file(&gate).unwrap();
    // A command that does more than push is not taken for ours.
    site.set_up(4).says("foreign");
    let anew = site.real(&["run", "setup-archiving", "-p", "database=main", "-p", "foreign=replace"]).ends(0);
    anew.says(&format!("the recovery of run `{run}`, which opened this server, was not proven"));
    // Started again, the server does not know any more what it has replayed.
    site.cluster.stop("immediate");
    site.cluster.up();
    let started = site.cluster.sql("SELECT pg_postmaster_start_time()");
    let again = site.real(&[&words[..], &["--from", "recover", "--of", &run]].concat()).ends(0);
    again.says("nothing is restored again");
    assert_eq!(site.cluster.sql("SELECT pg_postmaster_start_time()"), started, "it is the same server");
    assert_eq!(site.cluster.sql(ROWS), "1,2,3");
    assert!(!site.cluster.pgdata().join("runbook-restore.json").exists());
    let recovered = site.cli.runs().last().unwrap().join("attempts/recover/1/recovered.json");
    let recovered: Value = serde_json::from_slice(&fs::read(recovered).unwrap()).unwrap();
    assert!(recovered["recovered_to_time"].is_string(), "{recovered:#}");
    assert_eq!(recovered["as_of"], recovered["recovered_to_time"]);
}

#[test]
fn a_standby_that_was_promoted_is_told_before_anything_is_restored_over_what_it_took() {
    let site = Site::over(&["primary"]);
    let standby = site.cluster.standby();
    let place = format!("127.0.0.1:{}", standby.port());
    site.inventory(&["primary"], std::slice::from_ref(&place));
    site.cli.run(&["restore", "main"]).ends(0).prints("promoting it may be the faster way");
    standby.sql("SELECT pg_promote(true, 60)");
    standby.sql("INSERT INTO t VALUES (3)");
    site.cluster.kill();
    let words = format!("`{place}`, a standby of `main` by the inventory, is none any more: it is open on timeline 2");
    site.cli.run(&["restore", "main"]).ends(4).prints(&words);
    site.real(&["restore", "main"]).ends(4).says(&words);
    let told = site.cli.run(&["status", "main"]).ends(2).prints("is none any more");
    assert!(!told.out.contains("runbook restore main"), "{}", told.out);
    standby.stop("fast");
    site.real(&["restore", "main"]).ends(0);
    assert_eq!(site.cluster.sql(ROWS), "1,2");
}

#[test]
fn an_open_server_where_a_standby_was_is_ours_only_where_its_cluster_is() {
    let site = Site::over(&["primary"]);
    let (standby, stranger) = (site.cluster.standby(), Cluster::start(&[]));
    let place = |server: &Cluster| format!("127.0.0.1:{}", server.port());
    standby.sql("SELECT pg_promote(true, 60)");
    site.cluster.kill();
    fs::remove_dir_all(site.cluster.pgdata()).unwrap();
    // The newest backup tells what the data directory told.
    site.inventory(&["primary"], &[place(&stranger), place(&standby)]);
    let words = format!("`{}`, a standby of `main` by the inventory, is none any more", place(&standby));
    site.cli.run(&["restore", "main"]).ends(4).prints(&words);
    site.inventory(&["primary"], &[place(&stranger)]);
    site.cli.run(&["restore", "main"]).ends(0);
    // Without data and without a look at the backups nobody knows.
    site.cli.run(&["status", "main"]).ends(2).prints("cannot be told");
}

#[test]
fn a_promoted_standby_archives_with_the_configuration_of_its_primary() {
    let site = Site::over(&["primary"]);
    let standby = site.cluster.standby();
    site.set_up(0).says("promoted, they archive only what those say");
    site.cluster.kill();
    standby.sql("SELECT pg_promote(true, 60)");
    standby.configure(&[("archive_mode", "on")]);
    standby.stop("fast");
    standby.up();
    standby.sql("INSERT INTO t VALUES (3)");
    standby.sql("SELECT pg_switch_wal()");
    let archived = "SELECT coalesce(last_archived_wal, '') LIKE '00000002________________' FROM pg_stat_archiver";
    until("the promoted standby archives", || standby.sql(archived) == "t");
}

#[test]
fn a_prefix_that_holds_another_clusters_wal_is_refused_and_nothing_is_put_there() {
    let site = Site::over(&["primary"]);
    let other = Site { cluster: Cluster::start(&[("archive_mode", "on")]), cli: Cli::new() };
    other.inventory(&["primary"], &[]);
    let text = other.cli.read("inventory.yaml");
    let (theirs, ours) = (other.store("primary"), site.store("primary"));
    other.cli.file("inventory.yaml", &text.replace(&theirs.display().to_string(), &ours.display().to_string()));
    let before = other.cluster.sql("SHOW archive_command");
    other.set_up(4).says("holds the WAL of cluster");
    assert_eq!((other.cluster.sql("SHOW archive_command"), other.beside().exists()), (before, false));
    // As after `pg_upgrade`: no backup is begun beside it, and the advice is not to take one.
    other
        .cli
        .run(&["backup", "main", "--confirm", "production"])
        .ends(4)
        .says("`prefix` of its own")
        .says("setup-archiving");
    let told = other.cli.run(&["status", "main"]).ends(2);
    assert!(told.out.contains("holds the WAL and the backups of cluster"), "{}", told.out);
    assert!(told.out.contains("runbook run setup-archiving -p database=main"), "{}", told.out);
    assert!(!told.out.contains("there is no base backup"), "{}", told.out);
    other.cli.run(&["wal", "status", "main"]).ends(2).prints("needs a `prefix` of its own");
    // By hand, with a spool: neither what the server asks for nor what waits behind it is put there.
    let spool = other.cluster.folder("spool");
    fs::set_permissions(&spool, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    other.cluster.give(&spool);
    let config = other.cluster.pgdata().join("wal.yaml");
    let stored = format!("store: \"file://{}\"\nprefix: main\nspool: {}\n", ours.display(), spool.display());
    fs::write(&config, stored).unwrap();
    other.cluster.give(&config);
    let command = format!("{} wal push --config wal.yaml %p", env!("CARGO_BIN_EXE_runbook"));
    for _ in 0..3 {
        other.cluster.sql("SELECT txid_current()");
        other.cluster.sql("SELECT pg_switch_wal()");
    }
    other.cluster.sql(&format!("ALTER SYSTEM SET archive_command = '{command}'"));
    other.cluster.sql("SELECT pg_reload_conf()");
    until("a push was refused", || other.cluster.sql("SELECT failed_count > 0 FROM pg_stat_archiver") == "t");
    let id = other.cluster.sql("SELECT system_identifier FROM pg_control_system()");
    assert!(other.cluster.log().contains("holds the WAL of cluster"), "{}", other.cluster.log());
    assert!(!ours.join("main/wal").join(id).exists(), "nothing of the other cluster");
}
