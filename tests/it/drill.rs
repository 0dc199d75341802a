//! What a drill refuses, and that a real one leaves production alone.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::support::cli::{Cli, listing, until};
use crate::support::production::Production;

/// A drill of one `run` step in which the database `orders` of the protected environment is at `pg`.
fn drill(step: &str, environment: &str) -> Cli {
    let cli = Cli::new();
    cli.file("pg/main/PG_VERSION", "15\n");
    let pgdata = cli.path("pg/main");
    cli.file(
        "runbook.yaml",
        &format!(
            "version: 1\nname: tried\ndatabases: {{ orders: {{ pgdata: {0} }} }}\nstores: {{ depot: {{ url: \"file://{0}-store\" }} }}\n\
             environments: {{ production: {{ protected: true, default: true }}{environment} }}\nsteps:\n  - {{ id: a, run: touch changed{step} }}\n",
            pgdata.display()
        ),
    );
    cli
}

const DRILL: &str = ", drill: {}";

#[track_caller]
fn is_refused(cli: &Cli, words: &str) {
    let before = listing(&cli.path(""));
    cli.run(&["drill", "runbook.yaml"]).ends(4).says(words).says("nothing was changed");
    assert_eq!(listing(&cli.path("")), before);
    assert!(cli.runs().is_empty());
}

#[test]
fn a_drill_without_an_environment_of_its_own_is_refused() {
    is_refused(&drill("", ""), "no environment `drill` is defined");
}

#[test]
fn a_script_that_may_write_anywhere_is_refused_in_a_drill() {
    is_refused(&drill("", DRILL), "may write anywhere");
    drill(", modes: [real, drill]", DRILL).run(&["drill", "runbook.yaml"]).ends(0);
    drill(", effect: read", DRILL).run(&["drill", "runbook.yaml"]).ends(0);
}

#[test]
fn what_the_drill_environment_does_not_name_is_read_only_to_it() {
    is_refused(
        &drill(", targets: [ { database: orders } ]", DRILL),
        "the database `orders`, which environment `drill` does not name",
    );
    is_refused(&drill(", targets: [ { store: depot } ]", DRILL), "the store `depot`");
}

#[test]
fn a_database_that_the_drill_names_but_shares_with_production_is_refused() {
    let shared = ", drill: { databases: { orders: { port: 5433 } } }";
    is_refused(&drill(", targets: [ { database: orders } ]", shared), "of the protected environment `production`");
}

#[test]
fn a_path_that_is_contains_or_lies_inside_protected_data_is_refused() {
    for tail in ["pg/main", "pg/main/base/1", "pg"] {
        let path = |cli: &Cli| cli.path(tail).display().to_string();
        let cli = drill(", targets: [ { path: PLACE } ]", DRILL);
        let text = cli.read("runbook.yaml").replace("PLACE", &path(&cli));
        cli.file("runbook.yaml", &text);
        is_refused(&cli, "of the protected environment `production`");
    }
}

#[test]
fn a_path_of_production_is_refused_and_one_of_the_drills_own_is_not() {
    let step = ", targets: [ { path: \"{{ vars.place }}\" } ]";
    let vars = "\nvars: { place: /tmp/rb-elsewhere }\nsteps:";
    let cli = drill(step, DRILL);
    cli.file("runbook.yaml", &cli.read("runbook.yaml").replace("\nsteps:", vars));
    is_refused(&cli, "of the protected environment `production`");
    let cli = drill(step, ", drill: { vars: { place: /tmp/rb-of-the-drill } }");
    cli.file("runbook.yaml", &cli.read("runbook.yaml").replace("\nsteps:", vars));
    cli.run(&["drill", "runbook.yaml"]).ends(0);
}

#[test]
fn a_link_to_protected_data_is_seen_through() {
    let cli = drill(", targets: [ { path: PLACE } ]", DRILL);
    std::os::unix::fs::symlink(cli.path("pg"), cli.path("innocent")).unwrap();
    let text = cli.read("runbook.yaml").replace("PLACE", &cli.path("innocent/main/base").display().to_string());
    cli.file("runbook.yaml", &text);
    is_refused(&cli, "of the protected environment `production`");
}

#[test]
fn a_bind_mount_of_protected_data_is_seen_through() {
    let own_mounts = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", script]);
        command
    };
    let allowed = own_mounts("mount -t tmpfs none /mnt").output();
    if std::env::var_os("RUNBOOK_TEST_NO_MOUNTS").is_some() {
        return;
    }
    assert!(
        allowed.is_ok_and(|output| output.status.success()),
        "this machine does not let a test mount anything in a namespace of its own; set RUNBOOK_TEST_NO_MOUNTS=1 to leave bind mounts to the unit tests"
    );
    let cli = drill(", targets: [ { path: PLACE } ]", DRILL);
    fs::create_dir(cli.path("innocent")).unwrap();
    let place = cli.path("innocent");
    let text = cli.read("runbook.yaml").replace("PLACE", &place.join("base").display().to_string());
    cli.file("runbook.yaml", &text);
    let script = format!(
        "mount --bind '{}' '{}' && exec '{}' drill runbook.yaml",
        cli.path("pg/main").display(),
        place.display(),
        env!("CARGO_BIN_EXE_runbook")
    );
    let output = own_mounts(&script).current_dir(cli.path("")).env("RUNBOOK_STATE", cli.state()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("of the protected environment `production`"), "{said}");
    assert!(!cli.path("changed").exists());
}

#[test]
fn bodies_of_undo_and_of_fan_outs_and_steps_that_create_are_judged_like_any_other() {
    let cli = drill(", modes: [real, drill], undo: { run: touch undone, targets: [ { path: PLACE } ] }", DRILL);
    cli.file("runbook.yaml", &cli.read("runbook.yaml").replace("PLACE", &cli.path("pg").display().to_string()));
    is_refused(&cli, "`a.undo`");
    is_refused(&drill(", for_each: [1, 2]", DRILL), "may write anywhere");
    is_refused(&drill(", creates: [ { name: x, destroy: rm x } ]", DRILL), "may write anywhere");
    is_refused(&drill(", for_each: [1, 2], targets: [ { database: orders } ]", DRILL), "does not name");
}

#[test]
fn every_protected_environment_counts_and_not_only_the_default_one() {
    let other = ", drill: { databases: { orders: { pgdata: PLACE, port: 5440 } } }, other: { protected: true, databases: { orders: { pgdata: PLACE, port: 5450 } } }";
    let cli = drill(", targets: [ { database: orders } ]", other);
    cli.file("runbook.yaml", &cli.read("runbook.yaml").replace("PLACE", &cli.path("elsewhere").display().to_string()));
    is_refused(&cli, "of the protected environment `other`");
}

#[test]
fn a_service_of_the_drill_that_runs_the_commands_of_production_is_refused() {
    let cli = Cli::with(
        "version: 1\nname: tried\nservices: { web: { command: { start: [ctl, start], stop: [ctl, stop], status: [ctl, status] } } }\n\
         environments: { production: { protected: true, default: true }, drill: { services: { web: { command: { start: [other, start], stop: [ctl, stop], status: [other, status] } } } } }\n\
         steps:\n  - { id: a, uses: service.stop, with: { service: web } }\n",
    );
    is_refused(&cli, "service `web`");
}

#[test]
fn a_drill_says_what_became_of_each_objective() {
    let runbook = |objectives: &str| {
        format!(
            "version: 1\nname: tried\nobjectives: {{ {objectives} }}\nparams: {{ incident_at: {{ type: timestamp }} }}\nenvironments: {{ real: {{ default: true }}, drill: {{}} }}\n\
             steps:\n  - {{ id: a, run: sleep 1, modes: [real, drill] }}\n"
        )
    };
    for (objectives, code, rto, rpo) in [
        ("rto: 1h", 0, "met", "no_objective"),
        ("rto: 500ms", 16, "missed", "no_objective"),
        ("rto: 1h, rpo: 5m", 16, "met", "not_measured"),
    ] {
        let cli = Cli::with(&runbook(objectives));
        cli.run(&["drill", "runbook.yaml"]).ends(code);
        let shown = cli.shown();
        assert_eq!((&shown["verdict"]["rto"], &shown["verdict"]["rpo"]), (&rto.into(), &rpo.into()), "{objectives}");
    }
}

const LOSS: [&str; 4] = ["drill", "full-db-loss", "-p", "database=main"];

#[test]
fn a_drill_of_a_lost_database_leaves_production_as_it_was_and_nothing_behind() {
    let production = Production::new();
    let before = production.facts();
    let mut rehearsal = LOSS;
    rehearsal[0] = "dry-run";
    production.cli.run(&rehearsal).ends(0).says("nothing was written");
    assert!(!production.cli.state().exists());
    production.cli.run(&LOSS).ends(0);
    assert_eq!(production.facts(), before);
    production.nothing_is_left();
    let shown = production.cli.shown();
    assert_eq!(shown["outcome"], "succeeded");
    assert!(shown["figures"]["rto_ms"].as_u64().is_some_and(|taken| taken > 0), "{:#}", shown["figures"]);
}

#[test]
fn a_drill_that_is_killed_at_every_stage_is_finished_and_cleaned_up_by_resume() {
    let production = Production::new();
    let before = production.facts();
    let mut live = production.cli.spawn(&LOSS);
    for stage in ["stage", "recover", "prove"] {
        let at_work = |event: &Value| event["kind"]["type"] == "attempt_started" && event["kind"]["step"] == stage;
        until(stage, || !production.cli.runs().is_empty() && production.cli.journal().iter().any(at_work));
        assert!(live.kill(), "`{stage}` was over too soon");
        assert!(stage == "stage" || !listing(&production.cli.state().join("scratch")).is_empty());
        live = production.cli.spawn(&["resume", "last"]);
    }
    live.wait().ends(0);
    assert_eq!(production.facts(), before);
    production.nothing_is_left();
}
