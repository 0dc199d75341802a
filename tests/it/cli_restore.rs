//! `runbook status`, `backup` and `restore` at three in the morning: one inventory, no YAML.

use std::fs;
use std::path::Path;
use std::process::Command;

use runbook::catalog::{KIND_POSTGRES_SNAPSHOT, Manifest, Snapshot, commit};
use runbook::store::Opening;
use serde_json::Value;

use crate::support::cli::{Ran, until};
use crate::support::postgres::unprivileged;
use crate::support::production::Production;

/// The command that a plan says carries it out.
#[track_caller]
fn next(planned: &Ran) -> Vec<String> {
    let line = planned.err.lines().find_map(|line| line.strip_prefix("  runbook restore "));
    let line = line.unwrap_or_else(|| panic!("no next command in {}", planned.err));
    std::iter::once("restore").chain(line.split(' ')).map(|word| word.trim_matches('\'').to_owned()).collect()
}

fn rows(production: &Production) -> String {
    production.site.cluster.sql("SELECT count(*), sum(n) FROM t")
}

#[track_caller]
fn status(production: &Production) -> Value {
    let all = production.cli.run(&["status", "--json"]).json();
    all[0].clone()
}

#[track_caller]
fn advises(status: &Value, words: &str) {
    let next = status["next"].to_string();
    assert!(next.contains(words), "no `{words}` in {status:#}");
}

#[test]
fn a_restore_without_confirmation_changes_nothing_and_its_printed_command_brings_every_row_back() {
    let production = Production::new();
    let cluster = &production.site.cluster;
    let before = production.facts();
    let planned = production.cli.run(&["restore", "main"]).ends(0).says("nothing was changed. To carry it out:");
    let planned = planned.prints("recover `main` to").prints("segments").prints("leads there");
    assert_eq!(production.facts(), before);
    assert!(production.cli.runs().is_empty());
    let command = next(&planned);
    assert_eq!(command.last().map(String::as_str), Some("production"));
    cluster.sql("INSERT INTO t VALUES (1001); DELETE FROM t WHERE n = 1001");
    cluster.kill();
    let down = status(&production);
    assert_eq!(down["server"]["answers"], false);
    advises(&down, "runbook restore main");
    production.cli.run(&["status", "main"]).ends(2).prints("DOWN");
    production.cli.run(&command).ends(0);
    assert_eq!(rows(&production), "1000|500500");
    let up = status(&production);
    assert_eq!((&up["server"]["answers"], &up["backups"], &up["open"]), (&true.into(), &2.into(), &Value::Null));
    assert_eq!((&up["wal"]["level"], &up["wal"]["figures"]["lag_s"]), (&"ok".into(), &0.into()), "{up:#}");
    assert!(up["proof"]["passed"] == true && up["forecast"]["runs"] == 1, "{up:#}");
    let undone = production.cli.run(&["undo", "last", "--confirm", "production"]).ends(5);
    undone.says("a recovery has no undo");
    production.cli.run(&["backup", "main", "--confirm", "production"]).ends(0);
}

#[test]
fn a_server_that_knows_no_such_role_is_not_called_down_and_no_restore_is_advised() {
    let production = Production::new();
    let text = production.cli.read("inventory.yaml");
    production.cli.file("inventory.yaml", &text.replace("store: primary,", "store: primary, user: nobody_here,"));
    let told = production.cli.run(&["status", "main"]).ends(2).prints("TAKES NO SESSION: a server runs, but");
    let told = told.prints("nothing has to be restored for that");
    assert!(!told.out.contains("DOWN") && !told.out.contains("runbook restore"), "{}", told.out);
    production.cli.file("inventory.yaml", &text.replace("store: primary,", "store: primary, dbname: dropped,"));
    let told = production.cli.run(&["status", "main"]).ends(2).prints("GONE OR CLOSED: database `dropped`");
    let told = told.prints("from a dump: runbook run restore-dump").prints("runbook wal search main --drops");
    assert!(!told.out.contains("runbook restore main"), "{}", told.out);
}

#[test]
fn a_server_that_asks_for_a_password_that_nobody_gave_is_not_called_silent() {
    let production = Production::new();
    let cluster = &production.site.cluster;
    cluster.sql("ALTER ROLE postgres PASSWORD 'nobody says it'");
    fs::write(cluster.pgdata().join("pg_hba.conf"), "local all all scram-sha-256\n").unwrap();
    cluster.output("pg_ctl", &["reload", "-D", &cluster.pgdata().display().to_string()]);
    until("the server asks for it", || production.cli.run(&["status", "main"]).out.contains("TAKES NO SESSION"));
    let told = production.cli.run(&["status", "main"]).ends(2).prints("correct `user` or `password` of the entry");
    assert!(!told.out.contains("DOWN") && !told.out.contains("runbook restore"), "{}", told.out);
    production.cli.run(&["backup", "main", "--confirm", "production"]).says("asks for a login that is not there");
}

/// A `systemctl` that knows one unit and keeps its server by `pg_ctl`, as that server's user; it writes down what it was asked.
fn with_unit(production: Production, unit: &str) -> Production {
    let Production { site, cli } = production;
    let (cluster, tools) = (&site.cluster, cli.path("tools"));
    let as_owner = unprivileged()
        .map_or_else(String::new, |(uid, gid)| format!("setpriv --reuid {uid} --regid {gid} --clear-groups "));
    let pg_ctl = format!(
        "{as_owner}'{}' -s -D '{}' -l '{}'",
        cluster.bin().join("pg_ctl").display(),
        cluster.pgdata().display(),
        cluster.folder("of-systemd").join("log").display()
    );
    let script = format!(
        "#!/bin/sh\ncd /\necho \"$@\" >> '{}'\nfor last; do :; done\ntest \"$last\" = {unit} || exit 5\ncase \"$1\" in\n\
         start) exec {pg_ctl} -W start ;;\nstop) exec {pg_ctl} -m fast -w stop ;;\n*) exit 1 ;;\nesac\n",
        cli.path("asked").display()
    );
    let script = cli.file(&format!("{}/systemctl", tools.display()), &script);
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let text = cli.read("inventory.yaml");
    cli.file(
        "inventory.yaml",
        &text.replace("store: primary,", &format!("store: primary, via: {{ systemd: {unit} }},")),
    );
    Production { site, cli: cli.var("PATH", &path) }
}

#[test]
fn a_server_that_a_systemd_unit_keeps_is_stopped_and_started_through_systemctl() {
    let production = with_unit(Production::new(), "orders-db.service");
    production.site.cluster.sql("INSERT INTO t VALUES (1001); DELETE FROM t WHERE n = 1001");
    let run = ["run", "full-db-loss", "-p", "database=main", "-p", "incident_at=now", "--confirm", "production"];
    production.cli.run(&run).ends(0);
    assert_eq!(rows(&production), "1000|500500");
    let asked = production.cli.read("asked");
    let asked: Vec<&str> = asked.lines().collect();
    assert_eq!(asked, ["stop orders-db.service", "start --no-block orders-db.service"]);
}

#[test]
fn old_data_with_wal_that_no_store_may_take_is_not_moved_aside() {
    let production = Production::new();
    let cluster = &production.site.cluster;
    let text = production.cli.read("inventory.yaml");
    let closed = text.replacen("\"read_only\":false", "\"read_only\":true", 1);
    assert_ne!(closed, text);
    production.cli.file("inventory.yaml", &closed);
    cluster.sql("INSERT INTO t VALUES (1001)");
    let run = ["run", "full-db-loss", "-p", "database=main", "-p", "incident_at=now", "--confirm", "production"];
    production.cli.run(&run).ends(4).says("every store of its WAL is read-only here");
    assert_eq!(rows(&production), "1001|501501");
}

#[test]
fn a_restore_to_a_moment_leaves_out_what_came_after_and_the_wrong_word_is_refused() {
    let production = Production::new();
    let cluster = &production.site.cluster;
    let at = cluster.sql("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')");
    cluster.sql("SELECT pg_sleep(0.01)");
    cluster.sql("DELETE FROM t WHERE n > 10");
    production.site.archive();
    production
        .cli
        .run(&["restore", "main", "--to", &at, "--confirm", "prod"])
        .ends(4)
        .says("does not name the environment");
    production.cli.run(&["restore", "nobody"]).ends(2).says("known: `main`");
    production.cli.run(&["restore", "main", "--to", "2026-10-25 02:30 Europe/Berlin"]).ends(2).says("happened twice");
    assert_eq!(rows(&production), "10|55");
    let planned = production.cli.run(&["restore", "main", "--to", &at]).ends(0);
    production.cli.run(&next(&planned)).ends(0);
    assert_eq!(rows(&production), "1000|500500");
    cluster.sql("INSERT INTO t VALUES (2000)");
}

#[test]
fn a_recovery_that_fails_its_checks_waits_freezes_the_backups_and_gives_way_to_the_next() {
    let production = Production::new();
    let cluster = &production.site.cluster;
    let backup = status(&production)["backup"]["id"].as_str().unwrap().to_owned();
    // The inventory wants 1000 rows, the backup itself has 500.
    production.cli.run(&["restore", "main", "--to", &backup, "--confirm", "production"]).ends(13);
    assert_eq!(cluster.sql("SELECT pg_is_in_recovery(), count(*) FROM t"), "t|500");
    let waiting = status(&production);
    assert_eq!((&waiting["server"]["in_recovery"], &waiting["open"]["database"]), (&true.into(), &"main".into()));
    assert!(waiting["next"].to_string().contains("waits for a person"), "{waiting:#}");
    let refused = production.cli.run(&["backup", "--confirm", "production"]).ends(4);
    refused.says("no unattended backup is taken meanwhile").says("lift-freeze -p database=main");
    production.cli.run(&["restore", "main", "--confirm", "production"]).ends(0);
    assert_eq!(rows(&production), "1000|500500");
    assert_eq!(status(&production)["open"], Value::Null, "its last step lifted the freeze");
}

#[test]
fn status_judges_wal_by_the_objective_of_the_database_and_says_on_its_own_line_when_no_recovery_can_be_planned() {
    let production = Production::new();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    let sound = cli.read("inventory.yaml");
    cli.file("inventory.yaml", &sound.replace("prefix: main,", "prefix: main, rpo: 1s,"));
    cluster.configure(&[("archive_command", "false")]);
    cluster.sql("SELECT pg_reload_conf()");
    cluster.sql("INSERT INTO t VALUES (1001); SELECT pg_switch_wal()");
    until("the commit waits for longer than the objective", || {
        let now = status(&production);
        assert_eq!(now["wal"]["figures"]["rpo_s"], 1);
        now["wal"]["level"] == "critical" && now["next"].to_string().contains("runbook wal status main")
    });
    // The same figure as the command that monitoring calls.
    cli.run(&["wal", "status", "main"]).ends(2);
    cli.run(&["status", "main"]).ends(2).prints("the RPO is 1.0s");
    cli.file("inventory.yaml", &sound.replace("store: primary, prefix: main,", ""));
    let told =
        cli.run(&["status", "main"]).ends(2).prints("`full-db-loss` cannot be planned").prints("runbook dry-run");
    assert!(!told.err.contains("error:"), "{}", told.err);
}

#[test]
fn a_freeze_that_nobody_lifted_is_lifted_with_a_reason() {
    let production = Production::new();
    let backup = status(&production)["backup"]["id"].as_str().unwrap().to_owned();
    production.cli.run(&["restore", "main", "--to", &backup, "--confirm", "production"]).ends(13);
    let lift =
        ["run", "lift-freeze", "-p", "database=main", "-p", "reason=it was an exercise", "--confirm", "production"];
    production.cli.run(&lift).ends(0);
    assert_eq!(status(&production)["open"], Value::Null);
}

#[test]
fn a_copy_beside_the_live_database_can_be_looked_at_until_somebody_has() {
    let production = Production::new();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    let planned = cli.run(&["restore", "main", "--side"]).ends(0);
    cli.run(&next(&planned)).ends(13);
    cluster.sql("DELETE FROM t WHERE n > 10");
    let before = production.facts();
    let shown = cli.shown();
    let copy = shown["steps"].as_array().unwrap().iter().find(|step| step["id"] == "copy").unwrap();
    let (socket, port) = (&copy["output"]["instance"]["socket"], &copy["output"]["instance"]["port"]);
    let mut look = cluster.command("psql");
    look.args(["-XAtq", "-U", "postgres", "-d", "postgres", "-h", socket.as_str().unwrap(), "-p", &port.to_string()]);
    let seen = look.args(["-c", "SELECT count(*), sum(n) FROM t"]).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&seen.stdout).trim(),
        "1000|500500",
        "{}",
        String::from_utf8_lossy(&seen.stderr)
    );
    cli.run(&["approve", "last", "looked", "--comment", "seen"]).ends(0);
    cli.run(&["resume", "last"]).ends(0);
    assert_eq!(production.facts(), before);
    production.nothing_is_left();
}

#[tokio::test]
async fn a_snapshot_that_is_named_is_refused_with_what_restores_it() {
    let production = Production::new();
    let store = Opening::plain(&production.site.depot.entry, "primary").open().unwrap();
    let (id, at) = ("20260128-143002-3fa9c1-snapshot", "2026-01-28T14:30:02Z".parse().unwrap());
    let root = production.site.depot.root.clone();
    let base = std::fs::read_dir(root.join("main/base")).unwrap().next().unwrap().unwrap().path();
    let place = root.join("main/postgres-snapshot").join(id);
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    assert!(std::process::Command::new("cp").arg("-a").args([&base, &place]).status().unwrap().success());
    std::fs::remove_file(place.join("manifest.json")).unwrap();
    let base: Manifest = serde_json::from_slice(&std::fs::read(base.join("manifest.json")).unwrap()).unwrap();
    let manifest = Manifest::new(id.to_owned(), KIND_POSTGRES_SNAPSHOT, "main", (at, at));
    let snapshot = Some(Snapshot { place: "vg/data".to_owned(), pgdata: "/srv/data".to_owned() });
    let manifest = Manifest { postgres: base.postgres, snapshot, objects: base.objects, ..manifest };
    commit(&*store, "main", manifest).await.unwrap();
    let refused = production.cli.run(&["restore", "main", "--to", id]).ends(2);
    refused.says("is a snapshot of a volume").says("examples/volume-restore.yaml").says("postgres.restore_snapshot");
}

#[test]
fn a_restore_that_gives_the_old_data_up_brings_every_row_back_and_keeps_no_copy_of_it() {
    let production = Production::new();
    let cluster = &production.site.cluster;
    let before = production.facts();
    production.cli.run(&["restore", "main", "--existing", "delta", "--side"]).ends(2);
    for existing in ["replace", "delta"] {
        let planned = production.cli.run(&["restore", "main", "--existing", existing]).ends(0);
        let words = format!("{}{}", planned.out, planned.err);
        assert!(words.contains("is given up before the backup is there"), "{words}");
        let command = next(&planned);
        assert!(command.windows(2).any(|pair| pair == ["--existing", existing]), "{command:?}");
        if existing == "replace" {
            assert_eq!(production.facts(), before, "a plan changes nothing");
            continue;
        }
        production.cli.run(&command).ends(0);
        assert_eq!(rows(&production), "1000|500500");
        let kept = std::fs::read_dir(cluster.dir()).unwrap().flatten();
        let kept = kept.map(|entry| entry.path()).find(|path| path.to_string_lossy().contains(".runbook-old-"));
        assert!(!kept.expect("its WAL is kept").join("base").exists(), "the old data is gone");
    }
}

/// The most frequent outage: killed for its memory, a machine that was switched off, a full disk.
#[test]
fn a_server_that_crashed_is_started_before_anything_is_restored() {
    let production = Production::new();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    let plan = || {
        let planned = cli.run(&["restore", "main"]).ends(0);
        format!("{}{}", planned.out, planned.err)
    };
    let warning = "was at work until it went down, and its data looks whole";
    assert!(!plan().contains(warning), "it runs");
    cluster.sql("INSERT INTO t VALUES (1001)");
    cluster.stop("immediate");
    let down = status(&production);
    assert_eq!(down["server"]["crashed"], true, "{down:#}");
    let first = down["next"][0].as_str().unwrap();
    let (start, restore) =
        (first.find(" start -w -D "), first.find("only if it does not come up: runbook restore main"));
    assert!(first.contains("read its log, then start it: ") && start.is_some() && start < restore, "{first}");
    let planned = plan();
    assert!(planned.contains(warning) && planned.contains("read its log and start it first: `"), "{planned}");
    // What else such data may be keeps its own words.
    for name in ["standby.signal", "backup_label"] {
        let signal = cluster.pgdata().join(name);
        fs::write(&signal, "").unwrap();
        cluster.give(&signal);
        let other = status(&production);
        assert_eq!(other["server"]["crashed"], Value::Null, "{name}: {other:#}");
        assert!(!other["next"].to_string().contains("start it"), "{name}: {other:#}");
        fs::remove_file(&signal).unwrap();
    }
    for name in ["pg_wal", "base"] {
        let (own, aside) = (cluster.pgdata().join(name), cluster.dir().join("aside"));
        fs::rename(&own, &aside).unwrap();
        let lost = status(&production);
        assert_eq!(lost["server"]["crashed"], Value::Null, "{name}: {lost:#}");
        advises(&lost, "the server does not answer: runbook restore main");
        fs::rename(&aside, &own).unwrap();
    }
    cluster.up();
    assert_eq!(rows(&production), "1001|501501", "what was said is so");
}

#[test]
fn the_full_disk_of_a_server_that_is_down_is_told_first() {
    if std::env::var_os("RUNBOOK_TEST_NO_MOUNTS").is_some() {
        return;
    }
    let production = Production::new();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    cluster.stop("immediate");
    assert_eq!(status(&production)["server"]["full_disks"], Value::Null);
    let (own, aside, disk) = (cluster.pgdata().join("pg_wal"), cluster.dir().join("aside"), cli.path("disk"));
    fs::create_dir(&disk).unwrap();
    fs::rename(&own, &aside).unwrap();
    std::os::unix::fs::symlink(&disk, &own).unwrap();
    let files = fs::read_dir(&aside).unwrap().flatten().map(|entry| entry.metadata().unwrap());
    let bytes: u64 = files.filter(fs::Metadata::is_file).map(|file| file.len()).sum();
    // In a namespace of users the data of another user is closed to root.
    let script = "if [ \"$(id -u)\" = 0 ]; then user=; else user=--map-root-user; fi
        exec unshare $user --mount sh -c 'mount -t tmpfs -o size=$SIZE none \"$DISK\" && cp -r \"$WAL\"/. \"$DISK\" && exec \"$0\" status main' \"$0\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_runbook")]);
    cli.surround(&mut command);
    command.env("DISK", &disk).env("WAL", &aside).env("SIZE", (bytes + (1 << 20)).to_string());
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let full = told.find(&format!("the disk of `{}` is full (", disk.display()));
    let start = told.find("read its log, then start it: ");
    assert!(full.is_some() && full < start, "{told}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_data_directory_that_is_a_link_is_refused_with_what_the_inventory_is_to_name() {
    let production = Production::new();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    let (link, place) = (cluster.pgdata(), cluster.folder("disk").join("main"));
    cluster.stop("fast");
    fs::rename(&link, &place).unwrap();
    std::os::unix::fs::symlink(&place, &link).unwrap();
    let words = format!("name the folder itself in the inventory: `pgdata: {}`", place.display());
    for more in [&[][..], &["--existing", "delta"], &["--confirm", "production"]] {
        let refused = cli.run(&[&["restore", "main"], more].concat()).ends(4);
        let told = format!("{}{}", refused.out, refused.err);
        assert!(told.contains(&words), "{more:?}: {told}");
    }
    assert!(link.is_symlink() && place.join("PG_VERSION").exists(), "nothing was touched");
    let text = cli.read("inventory.yaml");
    let named = |path: &Path| format!("pgdata: {},", path.display());
    cli.file("inventory.yaml", &text.replacen(&named(&link), &named(&place), 1));
    cli.run(&["restore", "main", "--confirm", "production"]).ends(0);
    assert!(link.is_symlink() && place.join("PG_VERSION").exists());
    let beside = fs::read_dir(place.parent().unwrap()).unwrap().flatten().map(|entry| entry.file_name());
    assert!(beside.map(|name| name.into_string().unwrap()).any(|name| name.starts_with("main.runbook-old-")));
    assert_eq!(rows(&production), "1000|500500");
    // What starts it by the link goes on so.
    cluster.stop("fast");
    cluster.up();
    assert_eq!(rows(&production), "1000|500500");
    cli.run(&["doctor", "--servers"]).ends(0);
}
