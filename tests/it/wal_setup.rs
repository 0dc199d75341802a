//! `postgres.configure_archiving` and its shipped runbook, on real servers: what is changed, proven, refused, put back.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use runbook::action::Action as _;
use runbook::actions::postgres::{ConfigureArchiving, ConfigureArchivingParams};
use serde_json::json;

use crate::support::cli::{Cli, until};
use crate::support::postgres::Cluster;
use crate::support::recovery;

/// A server and somebody who can run runbooks against it.
struct Site {
    cluster: Cluster,
    cli: Cli,
}

impl Site {
    fn with(settings: &[(&str, &str)]) -> Self {
        let cluster = Cluster::start(settings);
        let cli = Cli::new();
        let store = cluster.folder("store");
        cli.file(
            "inventory.yaml",
            &format!(
                "version: 1\ndatabases:\n  main: {{ pgdata: {}, port: {}, socket: {}, bin: {}, store: primary, prefix: main }}\n\
                 stores: {{ primary: {{ url: \"file://{}\" }} }}\nenvironments:\n  production: {{ protected: true, default: true }}\n",
                cluster.pgdata().display(),
                cluster.port(),
                cluster.socket_dir().display(),
                cluster.bin().display(),
                store.display(),
            ),
        );
        Self { cluster, cli }
    }

    /// Runs the shipped runbook with further parameters.
    fn set_up(&self, params: &[&str], code: i32) -> crate::support::cli::Ran {
        let mut words = vec!["run", "setup-archiving", "-p", "database=main", "--confirm", "production"];
        params.iter().for_each(|param| words.extend(["-p", param]));
        self.cli.run(&words).ends(code)
    }

    fn settings(&self) -> String {
        let auto = self.cluster.pgdata().join("postgresql.auto.conf");
        fs::read_to_string(auto).unwrap().lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n")
    }

    fn folder(&self) -> PathBuf {
        self.cluster.dir().join("data.runbook-wal")
    }

    fn show(&self, name: &str) -> String {
        self.cluster.sql(&format!("SHOW {name}"))
    }
}

#[test]
fn a_server_that_archives_nothing_does_so_afterwards_and_an_undo_puts_the_settings_back() {
    let site = Site::with(&[("wal_level", "minimal"), ("max_wal_senders", "0")]);
    let before = site.settings();
    site.set_up(&[], 4).says("restart: allowed");
    assert_eq!((site.settings(), site.folder().exists()), (before.clone(), false), "a refusal changes nothing");
    site.set_up(&["restart=allowed"], 0).says("was restarted at").says("nobody was answered for");
    assert_eq!((site.show("archive_mode"), site.show("wal_level")), ("on".to_owned(), "replica".to_owned()));
    assert_eq!((site.show("archive_timeout"), site.show("max_wal_senders")), ("1min".to_owned(), "4".to_owned()));
    assert!(site.cluster.sql("SELECT archived_count > 0 FROM pg_stat_archiver") == "t");
    let config = fs::metadata(site.folder().join("wal.yaml")).unwrap();
    assert_eq!((config.mode() & 0o777, config.uid()), (0o600, fs::metadata(site.cluster.pgdata()).unwrap().uid()));
    let run = site.cli.runs().last().unwrap().file_name().unwrap().to_string_lossy().into_owned();
    site.cli.run(&["undo", &run, "--confirm", "production"]).ends(0);
    assert_eq!(
        (site.settings(), site.show("archive_mode"), site.show("wal_level")),
        (before, "off".to_owned(), "minimal".to_owned())
    );
}

/// Has the database's programs be those of its version, but for this one.
fn with_program(site: &Site, name: &str, script: &str) {
    let folder = site.cluster.folder("programs");
    for entry in fs::read_dir(site.cluster.bin()).unwrap().flatten() {
        std::os::unix::fs::symlink(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    fs::remove_file(folder.join(name)).unwrap();
    fs::write(folder.join(name), format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    let inventory = site.cli.read("inventory.yaml");
    let (own, folder) = (site.cluster.bin().display().to_string(), folder.display().to_string());
    site.cli.file("inventory.yaml", &inventory.replace(&own, &folder));
}

fn last_run(site: &Site) -> String {
    site.cli.runs().last().unwrap().file_name().unwrap().to_string_lossy().into_owned()
}

#[test]
fn a_server_that_other_programs_than_its_own_would_start_is_not_stopped() {
    let site = Site::with(&[]);
    let before = site.settings();
    with_program(&site, "postgres", "echo 'postgres (PostgreSQL) 12.1'");
    let own = format!("set `bin: {}`", fs::canonicalize(site.cluster.bin()).unwrap().display());
    site.set_up(&["restart=allowed"], 4).says("but the data is of version").says(&own);
    assert_eq!((site.settings(), site.show("archive_mode")), (before, "off".to_owned()));
}

#[test]
fn a_server_that_does_not_come_up_with_the_new_settings_gets_the_old_ones_back_and_runs() {
    let site = Site::with(&[]);
    site.cluster.sql("ALTER SYSTEM SET archive_timeout = '7min'");
    let before = site.settings();
    let real = site.cluster.bin().join("pg_ctl").display().to_string();
    let auto = site.cluster.pgdata().join("postgresql.auto.conf").display().to_string();
    with_program(
        &site,
        "pg_ctl",
        &format!(
            "if [ $1 = start ] && grep -q archive_mode {auto}; then exec {real} \"$@\" -o '-c nonsense=1'; fi; exec {real} \"$@\""
        ),
    );
    site.set_up(&["restart=allowed"], 10)
        .says("it got the old ones back, and runs again with them")
        .says("unrecognized configuration parameter \"nonsense\"");
    assert_eq!((site.settings(), site.show("archive_mode")), (before.clone(), "off".to_owned()));
    // The step told no outputs: its undo sets nothing up.
    site.cli
        .run(&["undo", &last_run(&site), "--confirm", "production"])
        .ends(10)
        .says("what was set before is not told");
    assert_eq!((site.settings(), site.show("archive_mode")), (before, "off".to_owned()));
}

#[test]
fn an_undo_puts_the_settings_of_a_server_that_is_down_back_and_leaves_it_down() {
    let site = Site::with(&[]);
    let before = site.settings();
    site.set_up(&["restart=allowed"], 0);
    assert_ne!(site.settings(), before);
    site.cluster.stop("fast");
    site.cli.run(&["undo", &last_run(&site), "--confirm", "production"]).ends(0).says("does not run: start it");
    assert_eq!(site.settings(), before);
    site.cluster.up();
    assert_eq!(site.show("archive_mode"), "off");
}

#[test]
fn a_run_that_was_killed_while_the_server_was_down_brings_it_up_again_when_it_goes_on() {
    let site = Site::with(&[]);
    let real = site.cluster.bin().join("pg_ctl").display().to_string();
    let flag = site.cluster.folder("flags").join("down");
    // The first start never comes: whoever is to make it is killed.
    with_program(
        &site,
        "pg_ctl",
        &format!(
            "if [ $1 = start ] && [ ! -e {0} ]; then echo $$ >{0}.tmp; mv {0}.tmp {0}; exec sleep 600; fi; exec {real} \"$@\"",
            flag.display()
        ),
    );
    let words = ["run", "setup-archiving", "-p", "database=main", "--confirm", "production", "-p", "restart=allowed"];
    let running = site.cli.spawn(&words);
    until("the server is to be started", || flag.exists());
    assert!(running.kill());
    site.cli.run(&["resume", &last_run(&site)]).ends(0).says("an earlier attempt of this step may have stopped it");
    let never = fs::read_to_string(&flag).unwrap().trim().parse().ok().and_then(rustix::process::Pid::from_raw);
    let _ended_already = rustix::process::kill_process(never.unwrap(), rustix::process::Signal::KILL);
    assert_eq!(site.show("archive_mode"), "on");
}

#[test]
fn senders_kept_wal_and_checkpoints_are_set_where_they_are_asked_for_and_put_back() {
    let site = Site::with(&[("archive_mode", "on"), ("max_wal_senders", "3")]);
    let names =
        ["max_wal_senders", "wal_keep_size", "checkpoint_timeout", "max_wal_size", "checkpoint_completion_target"];
    let shown = || names.map(|name| site.show(name)).join(" ");
    let (before, settings) = (shown(), site.settings());
    let asked = [
        "max_wal_senders=7",
        "wal_keep_size=48MiB",
        "checkpoint_timeout=17m",
        "max_wal_size=2GiB",
        "checkpoint_completion_target=0.7",
    ];
    site.set_up(&[asked.as_slice(), &["restart=allowed"]].concat(), 0);
    assert_eq!(shown(), "7 48MB 17min 2GB 0.7");
    let first = site.cli.runs().last().unwrap().file_name().unwrap().to_string_lossy().into_owned();
    site.cli.run(&["undo", &first, "--confirm", "production"]).ends(0);
    assert_eq!((shown(), site.settings()), (before, settings));
}

#[test]
fn a_second_run_changes_nothing_and_proves_again() {
    let site = Site::with(&[("archive_mode", "on")]);
    site.set_up(&[], 0);
    let (settings, count) = (site.settings(), site.cluster.sql("SELECT archived_count FROM pg_stat_archiver"));
    site.set_up(&[], 0);
    assert_eq!(site.settings(), settings);
    until("a segment was sent to prove it", || {
        site.cluster.sql("SELECT archived_count FROM pg_stat_archiver") != count
    });
}

#[test]
fn a_timeout_that_cannot_keep_the_promise_is_refused() {
    let site = Site::with(&[("archive_mode", "on")]);
    for (params, words) in [
        (["rpo=5m", "archive_timeout=5m"], "cannot meet an RPO of 5m"),
        (["rpo=30s", "archive_timeout=1s"], "use a standby that streams"),
        (["rpo=5m", "archive_timeout=0s"], "zero switches it off"),
        (["rpo=5m", "archive_timeout=999ms"], "at least 1s is wanted"),
        (["rpo=5m", "archive_timeout=1500ms"], "whole seconds"),
    ] {
        site.set_up(&params, 3).says(words);
    }
    let promised = site.cli.read("inventory.yaml").replace("prefix: main", "prefix: main, rpo: 1m");
    site.cli.file("inventory.yaml", &promised);
    site.set_up(&["rpo=5m"], 3).says("cannot meet an RPO of 1m");
    assert!(!site.settings().contains("archive"), "{}", site.settings());
    // What an undo would put back promises nothing.
    site.cli.file("inventory.yaml", &promised.replace("rpo: 1m", "rpo: 90s"));
    site.set_up(&["archive_timeout=30s"], 0);
    assert_eq!(site.show("archive_timeout"), "30s");
}

#[test]
fn archiving_by_another_program_stays_until_it_is_given_up_by_name() {
    let site = Site::with(&[("archive_mode", "on"), ("archive_command", "true")]);
    site.set_up(&[], 4).says("`archive_command` is `true`");
    assert_eq!(site.show("archive_command"), "true");
    site.set_up(&["foreign=replace"], 0);
    assert!(site.show("archive_command").contains("wal push"));
}

#[tokio::test]
async fn a_segment_that_still_went_to_the_command_of_before_is_followed_by_another_one() {
    let site = recovery::Site::with(&[("archive_command", "/bin/true")]);
    // What the archiver does that has not read its configuration yet: the first segment goes nowhere, and is done.
    let (folder, took) = (site.cluster.folder("bin"), site.cluster.folder("took"));
    let script = format!(
        "#!/bin/sh\nmkdir {}/first 2>/dev/null || exec {} \"$@\"\n",
        took.display(),
        env!("CARGO_BIN_EXE_runbook")
    );
    let command = folder.join("runbook");
    fs::write(&command, script).unwrap();
    fs::set_permissions(&command, fs::Permissions::from_mode(0o755)).unwrap();
    let params: ConfigureArchivingParams =
        serde_json::from_value(json!({ "database": "main", "foreign": "replace", "within": "30s" })).unwrap();
    let proven = ConfigureArchiving::new(command).run(&params, &site.run().context()).await.unwrap().segment.unwrap();
    assert!(took.join("first").exists());
    assert!(site.stored().iter().any(|name| name.starts_with(&proven)), "{proven}: {:?}", site.stored());
}

#[test]
fn archiving_is_proven_by_a_segment_of_its_own_where_the_last_one_went_to_the_command_of_before() {
    let elsewhere = tempfile::tempdir().unwrap();
    fs::set_permissions(elsewhere.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let command = format!("cp %p {}/%f", elsewhere.path().display());
    let site = Site::with(&[("archive_mode", "on"), ("archive_command", &command)]);
    site.cluster.sql("CREATE TABLE t AS SELECT 1 AS n");
    let finished = site.cluster.sql("SELECT pg_walfile_name(pg_switch_wal())");
    until("the command of before has the last segment", || elsewhere.path().join(&finished).exists());
    until("the archiver says so", || site.cluster.sql("SELECT last_archived_wal FROM pg_stat_archiver") == finished);
    // Nothing is written in between: the segment that is waited for is one that the new command is asked for.
    let next = u32::from_str_radix(&finished[16..], 16).unwrap() + 1;
    let segment = format!("{}{next:08X}", &finished[..16]);
    let ran = site.set_up(&["foreign=replace"], 0).says(&format!("`{segment}` is in the archive"));
    ran.says(&format!("before `{segment}` went elsewhere")).says("runbook backup main");
}

#[test]
fn a_library_that_archives_in_the_place_of_the_command_is_named_until_it_is_given_up() {
    let site = Site::with(&[("archive_mode", "on")]);
    if site.cluster.sql("SELECT current_setting('archive_library', true) IS NULL") == "t" {
        return;
    }
    site.set_up(&[], 0);
    let folder = site.cluster.folder("elsewhere");
    site.cluster.configure(&[("basic_archive.archive_directory", &folder.to_string_lossy())]);
    site.cluster.sql("ALTER SYSTEM SET archive_library = 'basic_archive'");
    site.cluster.sql("SELECT pg_reload_conf()");
    until("the library counts", || site.show("archive_library") == "basic_archive");
    let said = site.cli.run(&["wal", "status", "main"]);
    assert!(matches!(said.code, Some(1 | 2)), "{said:?}");
    let said = format!("{}{}", said.out, said.err);
    assert!(said.contains("`archive_library = basic_archive` overrides `archive_command`"), "{said}");
    site.set_up(&[], 4).says("`archive_library` is `basic_archive`");
    site.set_up(&["foreign=replace"], 0);
    assert_eq!(site.show("archive_library"), "");
}

#[test]
fn a_store_that_the_servers_user_cannot_use_is_found_out_before_any_setting_is_changed() {
    let site = Site::with(&[("archive_mode", "on")]);
    let before = site.settings();
    let store = site.cluster.dir().join("store");
    fs::remove_dir(&store).unwrap();
    fs::write(&store, "a file where the store should be").unwrap();
    fs::set_permissions(&store, fs::Permissions::from_mode(0o600)).unwrap();
    site.set_up(&[], 4).says("may not write into").says("install -d -o");
    assert_eq!(site.settings(), before);
}

#[test]
fn a_store_whose_folder_is_missing_is_made_for_the_servers_user_where_its_place_is_there() {
    let site = Site::with(&[("archive_mode", "on")]);
    let store = site.cluster.dir().join("store");
    fs::remove_dir(&store).unwrap();
    site.set_up(&[], 0);
    let (made, data) = (fs::metadata(&store).unwrap(), fs::metadata(site.cluster.pgdata()).unwrap());
    assert_eq!((made.mode() & 0o777, made.uid()), (0o700, data.uid()));
    // Where its place is missing too, a disk may not be mounted.
    let text = site.cli.read("inventory.yaml");
    site.cli.file("inventory.yaml", &text.replace("/store\"", "/not/mounted/store\""));
    site.set_up(&[], 4).says("nor made here").says("install -d -o");
    assert!(!site.cluster.dir().join("not").exists());
}

#[test]
fn the_command_that_is_printed_to_try_again_runs_as_it_stands_where_the_environment_is_protected() {
    let site = Site::with(&[("archive_mode", "on")]);
    let failed = site.cli.file("failing.yaml", "version: 1\nname: failing\nsteps:\n  - { id: a, run: exit 3 }\n");
    let ran = site.cli.run(&["run", &failed.display().to_string(), "--confirm", "production"]).ends(10);
    let line = ran.err.lines().find_map(|line| line.split_once("runbook run ")).map(|(_, words)| words.to_owned());
    let line = line.unwrap_or_else(|| panic!("no command in {}", ran.err));
    let words: Vec<&str> = std::iter::once("run").chain(line.split_whitespace()).collect();
    site.cli.run(&words).ends(10);
}

#[test]
fn archiving_is_proven_on_the_timeline_that_a_promotion_has_just_begun() {
    let site = Site::with(&[("archive_mode", "on"), ("shared_buffers", "64MB")]);
    site.cluster.sql("CREATE TABLE t AS SELECT generate_series(1, 200000) AS n");
    site.cluster.stop("immediate");
    let signal = site.cluster.pgdata().join("standby.signal");
    fs::write(&signal, "").unwrap();
    site.cluster.give(&signal);
    site.cluster.up();
    // What it replayed is written by a checkpoint that takes its time: until then `pg_control` tells the old timeline.
    site.cluster.sql("SELECT pg_promote()");
    assert_eq!(site.cluster.sql("SELECT timeline_id FROM pg_control_checkpoint()"), "1");
    site.set_up(&[], 0).says("`00000002");
}

#[test]
fn more_senders_than_a_standby_has_are_said_before_it_stops_replaying() {
    let site = Site::with(&[("archive_mode", "on"), ("max_wal_senders", "3")]);
    let standby = site.cluster.standby();
    until("the standby follows", || site.cluster.sql("SELECT count(*) FROM pg_stat_replication") == "1");
    site.set_up(&["restart=later"], 0).says("standbys whose own is smaller").says("raise `max_wal_senders` on each");
    drop(standby);
}
