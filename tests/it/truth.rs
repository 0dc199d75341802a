//! An inventory that is wrong about its servers, held against real ones: nothing is believed, and nothing is done by it.

use runbook::base::Timestamp;
use serde_json::Value;

use crate::dry_run::fits_the_schema;
use crate::support::cli::{Cli, Ran};
use crate::support::postgres::{Cluster, free_port};
use crate::support::production::Production;

/// The contradictions that `status` tells of the only database, with the code it ends with.
fn contradictions(cli: &Cli) -> (Option<i32>, Vec<String>) {
    let told = cli.run(&["status", "--json"]);
    let wrong = told.json()[0]["server"]["contradictions"].as_array().cloned().unwrap_or_default();
    (told.code, wrong.iter().map(|one| one["what"].as_str().unwrap_or_default().to_owned()).collect())
}

/// The inventory with one member of the database's entry replaced.
fn altered(sound: &str, member: &str, value: &str) -> String {
    let at = sound.find(&format!("{member}: ")).expect("the member") + member.len() + 2;
    let end = at + sound[at..].find([',', ' ', '}']).expect("its end");
    format!("{}{value}{}", &sound[..at], &sound[end..])
}

#[test]
fn an_entry_that_is_wrong_about_its_server_is_told_and_no_procedure_begins_by_it() {
    let production = Production::new();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    let other = Cluster::start(&[]);
    let sound = cli.read("inventory.yaml");
    assert_eq!(contradictions(cli).1, Vec::<String>::new());
    cli.run(&["doctor", "--servers"]).ends(0).prints("nothing contradicts its entry");
    let nowhere = cluster.dir().join("nowhere");
    let (path, text) = (|cluster: &Cluster| cluster.pgdata().display().to_string(), |number: u16| number.to_string());
    let wrong = [
        ("port", text(free_port()), "listens on port".to_owned()),
        ("socket", other.socket_dir().display().to_string(), "has its socket in".to_owned()),
        ("pgdata", path(&other), "but `pgdata".to_owned()),
        ("pgdata", nowhere.display().to_string(), format!("works in `{}`", path(cluster))),
    ];
    let before = production.facts();
    for (member, value, words) in wrong {
        cli.file("inventory.yaml", &altered(&sound, member, &value));
        let (code, told) = contradictions(cli);
        assert!(code == Some(2) && told.iter().any(|one| one.contains(&words)), "{member}: {code:?} {told:?}");
        cli.run(&["status"]).ends(2).prints("WRONG: ").prints("in the inventory");
        cli.run(&["doctor", "--servers"]).ends(4).prints(&words);
        for procedure in [
            &["restore", "main"][..],
            &["restore", "main", "--confirm", "production"],
            &["backup", "main", "--confirm", "production"],
            &["dry-run", "pitr", "-p", "database=main", "-p", "incident_at=now", "-p", "recover_to=now"],
            &["run", "setup-archiving", "-p", "database=main", "--confirm", "production"],
        ] {
            let ran = cli.run(procedure).ends(4);
            assert!(format!("{}{}", ran.out, ran.err).contains(&words), "{procedure:?}: {}{}", ran.out, ran.err);
        }
        // A copy beside it has nothing to do with whoever answers.
        let side = cli.run(&["dry-run", "side-copy", "-p", "database=main"]).ends(0);
        assert!(!format!("{}{}", side.out, side.err).contains(&words), "{}{}", side.out, side.err);
        assert!(cli.runs().is_empty(), "{member}: a run was begun");
        assert_eq!(production.facts(), before);
    }
    // Over TCP another server answers, and says where it works.
    let tcp = altered(&sound, "port", &text(other.port()))
        .replace(&format!("socket: {}, ", cluster.socket_dir().display()), "");
    cli.file("inventory.yaml", &tcp);
    let (_, told) = contradictions(cli);
    assert!(told.iter().any(|one| one.contains("is cluster")), "{told:?}");
    assert!(told.iter().any(|one| one.contains("listens on port")), "{told:?}");
    // Where nothing is right, nothing contradicts it; but that the server runs is seen.
    let lost = altered(&altered(&sound, "pgdata", &nowhere.display().to_string()), "port", &text(free_port()));
    cli.file("inventory.yaml", &lost);
    assert_eq!(contradictions(cli), (Some(2), Vec::new()));
    cli.run(&["dry-run", "full-db-loss", "-p", "database=main", "-p", "incident_at=now"])
        .prints("servers that no entry names work in");
    cli.file("inventory.yaml", &sound);
    assert_eq!(contradictions(cli).1, Vec::<String>::new());
}

#[test]
fn a_server_that_lets_nobody_in_is_known_by_the_lock_of_its_socket() {
    let production = Production::new();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    let hba = cluster.pgdata().join("pg_hba.conf");
    std::fs::write(&hba, "local all all reject\n").unwrap();
    cluster.output("pg_ctl", &["reload", "-D", &cluster.pgdata().display().to_string()]);
    let sound = cli.read("inventory.yaml");
    cli.file("inventory.yaml", &altered(&sound, "pgdata", &cluster.dir().join("nowhere").display().to_string()));
    let (code, told) = contradictions(cli);
    assert!(code == Some(2) && told.iter().any(|one| one.contains("(process ")), "{told:?}");
    cli.file("inventory.yaml", &sound);
    assert_eq!(contradictions(cli).1, Vec::<String>::new(), "it is the right server, though it lets nobody in");
}

#[test]
fn a_replica_on_the_same_machine_is_no_contradiction_and_is_not_taken_for_its_primary() {
    let primary = Cluster::start(&[("wal_level", "replica"), ("max_wal_senders", "4")]);
    let standby = primary.standby();
    let cli = Cli::new();
    let entry = |port: u16| {
        format!(
            "version: 1\ndatabases:\n  copy: {{ pgdata: {}, port: {port}, bin: {} }}\n",
            standby.pgdata().display(),
            standby.bin().display()
        )
    };
    cli.file("inventory.yaml", &entry(standby.port()));
    assert_eq!(contradictions(&cli).1, Vec::<String>::new());
    cli.file("inventory.yaml", &entry(primary.port()));
    let (_, told) = contradictions(&cli);
    assert!(told.iter().any(|one| one.contains(&format!("listens on port {}", standby.port()))), "{told:?}");
}

#[test]
fn data_that_is_to_be_given_up_under_a_live_server_is_refused_before_the_first_step() {
    let production = Production::new();
    let cli = &production.cli;
    let steps = |stop: &str| {
        format!(
            "version: 1\nname: delta\nsteps:\n  - {{ id: choose, uses: backup.find, with: {{ database: main, kind: postgres.base }} }}\n{stop}  \
             - {{ id: stage, uses: postgres.restore_base, with: {{ database: main, backup: \"{{{{ steps.choose.backup }}}}\", existing: delta }} }}\n"
        )
    };
    cli.file("delta.yaml", &steps(""));
    let before = production.facts();
    let refused = cli.run(&["run", "delta.yaml", "--confirm", "production"]).ends(4);
    refused.says("is to be given up while its server is alive").says("postgres.stop");
    cli.run(&["dry-run", "delta.yaml"]).ends(4).prints("while its server is alive");
    assert_eq!((production.facts(), cli.runs().len()), (before, 0));
    cli.file("stopped.yaml", &steps("  - { id: stop, uses: postgres.stop, with: { database: main } }\n"));
    cli.run(&["dry-run", "stopped.yaml", "--level", "1"]).ends(0);
}

/// A command that was printed, as a shell reads it.
#[track_caller]
fn printed(text: &str, beginning: &str) -> Vec<String> {
    let line = text.lines().find_map(|line| line.find(beginning).map(|at| &line[at..]));
    let line = line.unwrap_or_else(|| panic!("no `{beginning}` in {text}")).split('`').next().unwrap_or_default();
    let mut words = vec![String::new()];
    let mut quoted = false;
    for letter in line.trim().chars() {
        match letter {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            other => words.last_mut().unwrap().push(other),
        }
    }
    words.split_off(1)
}

#[test]
fn what_is_printed_as_the_next_command_runs_as_it_stands() {
    let production = Production::new();
    let cli = &production.cli;
    let site = cli.read("inventory.yaml").replace("default: true", "default: false");
    cli.file("my site.yaml", &site.replace("environments:\n", "environments:\n  staging: { default: true }\n"));
    std::fs::remove_file(cli.path("inventory.yaml")).unwrap();
    let of = ["--inventory", "my site.yaml", "-e", "production"];
    let with = |words: &[&str]| -> Ran { cli.run(&[words, &of[..]].concat()) };
    let told = with(&["status", "main"]).ends(1);
    let drill = printed(&told.out, "runbook drill full-db-loss");
    assert_eq!(drill, ["drill", "full-db-loss", "-p", "database=main", "--inventory", "my site.yaml"]);
    let plan = printed(&with(&["pitr", "main"]).ends(0).out, "runbook run pitr");
    assert!(plan.ends_with(&["-e", "production", "--confirm", "production"].map(str::to_owned)), "{plan:?}");
    let planned = with(&["restore", "main"]).ends(0);
    cli.run(&printed(&planned.err, "runbook restore main")).ends(0);
    let machine = with(&["restore", "main", "--json"]).ends(0).json();
    assert_eq!(machine["recovery"]["possible"], true, "{machine:#}");
    fits_the_schema(&machine);
    assert!(machine["steps"].is_array() && machine["next"].as_str().unwrap().starts_with("runbook restore main"));
    production.site.cluster.kill();
    let told = with(&["status", "main"]).ends(2);
    cli.run(&printed(&told.out, "runbook restore main")).ends(0);
}

#[test]
fn a_dump_comes_back_by_its_id_and_a_name_that_is_nearly_right_is_suggested() {
    let production = Production::new();
    let cli = &production.cli;
    cli.file(
        "dump.yaml",
        "version: 1\nname: dump\nsteps:\n  - { id: dump, uses: postgres.dump, with: { database: main, dbnames: [postgres] } }\n",
    );
    cli.run(&["run", "dump.yaml", "--confirm", "production"]).ends(0);
    let all = cli.run(&["backups", "list", "--json"]).ends(0).json();
    let dumps = all["backups"].as_array().unwrap_or_else(|| panic!("{all:#}"));
    let id = dumps.iter().find(|one| one["kind"] == "postgres.dump").unwrap()["id"].as_str().unwrap();
    let (store, aside) = (production.site.depot.root.clone(), production.site.depot.root.with_extension("aside"));
    std::fs::rename(&store, &aside).unwrap();
    let silent = cli.run(&["restore", "main", "--to", id]).ends(4);
    silent.says("is not known: store `primary` gives no answer");
    std::fs::rename(&aside, &store).unwrap();
    production.site.cluster.sql("DELETE FROM t WHERE n > 10");
    cli.run(&["restore", "main", "--to", id, "--dbname", "shop"]).ends(2).says("is of `postgres`, not of `shop`");
    for more in [&[][..], &["--to", "1m ago"], &["--confirm", "production"]] {
        let whole = cli.run(&[&["restore", "main", "--dbname", "shop"], more].concat()).ends(2);
        assert!(!whole.says("replaces the whole server").says("--side").err.contains("--confirm"), "{more:?}");
    }
    let planned = cli.run(&["restore", "main", "--to", id]).ends(0);
    assert!(planned.out.contains("restore-dump in production"), "{}", planned.out);
    cli.run(&printed(&planned.err, "runbook restore main")).ends(0);
    assert_eq!(production.site.cluster.sql("SELECT count(*) FROM t"), "1000");
    cli.run(&["restore", "mian"]).ends(2).says("did you mean `main`?");
    cli.run(&["dry-run", "full-db-loss", "-p", "database=mian", "-p", "incident_at=now"])
        .ends(2)
        .says("did you mean `main`?");
}

/// Puts the proof of another machine into the store: a later restore of the same backup, which failed.
fn disprove(production: &Production) {
    let list = production.cli.run(&["backups", "list", "--json"]).ends(0).json();
    let proven = list["backups"].as_array().unwrap().iter().find(|one| !one["last_proof"].is_null()).unwrap();
    let mut proof = proven["last_proof"].clone();
    proof["verdict"] = "failed".into();
    proof["run"] = "elsewhere".into();
    proof["at"] = Timestamp::now().to_string().into();
    let folder = proven["folder"].as_str().unwrap();
    let folder = production.site.depot.root.join(folder).join("proofs");
    std::fs::write(folder.join("99990101T000000Z-elsewhere.json"), proof.to_string()).unwrap();
}

#[test]
fn status_asks_for_a_person_by_its_code_and_believes_a_drill_whose_proof_the_store_does_not_have() {
    let production = Production::new();
    let cli = &production.cli;
    let level = |code: i32| -> Value { cli.run(&["status", "main", "--json"]).ends(code).json()[0].clone() };
    let unproven = level(1);
    assert_eq!(unproven["level"], "warning");
    assert!(unproven["next"].to_string().contains("no restore was proven lately"), "{unproven:#}");
    // The store is read-only to a drill.
    cli.run(&["drill", "full-db-loss", "-p", "database=main"]).ends(0).says("runbook backups prove");
    let proven = level(0);
    assert_eq!((&proven["level"], &proven["proof"]["passed"]), (&"ok".into(), &true.into()), "{proven:#}");
    assert_eq!(proven["proof"]["unkept"].as_str(), Some(cli.id().as_str()));
    let told = cli.run(&["status", "main"]).ends(0).prints("every copy of the database `main` lies on its own machine");
    assert!(!told.err.contains("RB0505"), "said where it is asked for: {}", told.err);
    cli.run(&printed(&told.out, "runbook backups prove")).ends(0);
    assert_eq!(level(0)["proof"]["unkept"], Value::Null, "the store has it now");
    let sound = cli.read("inventory.yaml");
    let expects = |limits: &str| {
        let more =
            format!("backups: {{ nightly: {{ source: main, kind: postgres.base, {limits} }} }}\nenvironments:\n");
        cli.file("inventory.yaml", &sound.replace("environments:\n", &more));
    };
    expects("max_age: 26h, max_proof_age: 1d");
    assert_eq!(level(0)["expected"][0]["level"], "ok");
    expects("max_age: 1s");
    let late = level(2);
    assert!(late["next"].to_string().contains("`nightly`: the newest is"), "{late:#}");
    cli.file("inventory.yaml", &sound);
    disprove(&production);
    let failed = level(2);
    assert_eq!((&failed["proof"]["passed"], &failed["proof"]["run"]), (&false.into(), &"elsewhere".into()));
    cli.run(&["status", "main"]).ends(2).prints("its restore FAILED its checks").prints("in run elsewhere");
    cli.run(&["backups", "list"]).ends(0).prints("its restore FAILED its checks");
    production.site.cluster.kill();
    assert_eq!(level(2)["level"], "critical");
    cli.run(&["status", "nobody"]).ends(3).says("known: `main`");
}

#[test]
fn a_target_after_the_incident_is_warned_of() {
    let production = Production::new();
    let cli = &production.cli;
    let args = [
        "dry-run",
        "pitr",
        "-p",
        "database=main",
        "-p",
        "incident_at=2h ago",
        "-p",
        "recover_to=1m ago",
        "--level",
        "1",
    ];
    let told = cli.run(&args);
    assert!(told.out.contains("lies after the incident at"), "{}{}", told.out, told.err);
}

#[test]
fn an_undo_starts_the_server_that_was_stopped_and_no_other() {
    let production = Production::new();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    cli.file(
        "stops.yaml",
        "version: 1\nname: stops\nsteps:\n  - id: stop\n    uses: postgres.stop\n    with: { database: main, if_running: true }\n    \
         undo:\n      uses: postgres.start\n      with: { database: main, only_if: stopped, stopped: \"{{ steps.stop.stopped }}\" }\n  \
         - id: fails\n    effect: none\n    run: exit 1\n",
    );
    let run = ["run", "stops.yaml", "--confirm", "production", "--undo-on-failure"];
    cli.run(&run).ends(10);
    assert_eq!(cluster.sql("SELECT count(*) FROM t"), "1000");
    cluster.stop("fast");
    cli.run(&run).ends(10);
    assert!(!cluster.pgdata().join("postmaster.pid").exists(), "it did not run before, and was started");
}

#[test]
fn a_cancel_tells_machines_what_became_of_it() {
    let cli = Cli::with("version: 1\nname: asks\nsteps:\n  - { id: ask, uses: approval, with: { prompt: go on? } }\n");
    cli.run(&["run", "runbook.yaml"]).ends(13);
    let told = cli.run(&["cancel", "last", "--json"]).ends(0).json();
    assert_eq!((&told["verb"], &told["fate"], &told["run"]), (&"cancel".into(), &"kept".into(), &cli.id().into()));
    cli.run(&["resume", "last"]).ends(12);
}
