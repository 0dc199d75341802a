//! What a step creates is gone in the end: at the end of its run, after a cancel, a crash, or its time.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::cli::{Cli, gated, until};
use crate::support::mount;

/// A runbook of one step that creates a file and says so, with `destroy` and what else its lease says.
fn creating(run: &str, lease: &str, rest: &str) -> Cli {
    let cli = Cli::new();
    cli.file(
        "runbook.yaml",
        &format!(
            "version: 1\nname: tried\nenvironments: {{ real: {{ default: true }}, drill: {{}} }}\nsteps:\n  - id: make\n    modes: [real, drill]\n    \
             env: {{ PLACE: {place} }}\n    run: {run}\n    creates: [ {{ name: thing, {lease} }} ]\n{rest}",
            place = cli.path("thing").display(),
        ),
    );
    cli
}

const MAKE: &str = "touch \"$PLACE\"";
const REMOVE: &str = "destroy: 'rm -f \"$PLACE\"; echo gone >>\"$PLACE.log\"'";

/// Says that it removes, and goes on once it may.
const HELD: &str = "touch removing; for _ in $(seq 2400); do test ! -e let-go || break; sleep 0.05; done";

/// How often the thing was removed.
fn removals(cli: &Cli) -> usize {
    cli.read("thing.log").lines().count()
}

fn leases(cli: &Cli, all: &str) -> Vec<Value> {
    let args: Vec<&str> = ["leases", "--json", all].into_iter().filter(|arg| !arg.is_empty()).collect();
    cli.run(&args).ends(0).json().as_array().expect("a list").clone()
}

/// How often the newest run wrote an event.
fn events(cli: &Cli, kind: &str) -> usize {
    cli.journal().iter().filter(|event| event["kind"]["type"] == kind).count()
}

#[test]
fn what_a_step_creates_is_registered_before_it_starts_and_gone_when_its_run_ends() {
    for mode in ["run", "drill"] {
        let cli = creating("'test -e \"$PLACE\" || touch \"$PLACE\"'", REMOVE, "");
        cli.run(&[mode, "runbook.yaml"]).ends(0);
        assert!(!cli.path("thing").exists());
        assert_eq!(removals(&cli), 1);
        let kinds: Vec<Value> = cli.journal().iter().map(|event| event["kind"]["type"].clone()).collect();
        let at = |kind: &str| kinds.iter().position(|known| known == kind).expect(kind);
        assert!(at("resource_registered") < at("attempt_started"));
        assert!(at("step_succeeded") < at("resource_removed") && at("resource_removed") < at("run_finished"));
        assert_eq!(leases(&cli, ""), Vec::<Value>::new());
        assert_eq!(leases(&cli, "--all")[0]["state"], "removed");
    }
}

#[test]
fn a_step_that_fails_and_a_run_that_is_cancelled_leave_nothing_of_what_they_created() {
    let cli = creating("touch \"$PLACE\"; exit 3", REMOVE, "");
    cli.run(&["run", "runbook.yaml"]).ends(10);
    assert_eq!((cli.path("thing").exists(), removals(&cli)), (false, 1));
    let cli = creating("'touch \"$PLACE\"; sleep 100'", REMOVE, "");
    let live = cli.spawn(&["run", "runbook.yaml"]);
    until("it is made", || cli.path("thing").exists());
    assert_eq!(leases(&cli, "")[0]["state"], "live");
    cli.run(&["reap", "last", "--yes"]).ends(14).says("goes on");
    live.signal(Signal::INT);
    live.wait().ends(12);
    assert_eq!((cli.path("thing").exists(), removals(&cli)), (false, 1));
}

#[test]
fn the_script_that_removes_gets_the_secrets_and_the_passed_variables_of_its_step_and_nothing_keeps_them() {
    let cli = Cli::new().var("TOKEN", "hush-hush-4711").var("SITE", "north");
    cli.file(
        "runbook.yaml",
        "version: 1\nname: tried\npass_env: [SITE]\nsecrets: { token: { env: TOKEN } }\nsteps:\n  - id: make\n    env: { KEY: \"{{ secrets.token }}\" }\n    \
         run: 'true'\n    creates: [ { name: thing, destroy: 'printf \"%s %s\" \"$KEY\" \"$SITE\" >seen; echo \"$KEY\"' } ]\n",
    );
    cli.run(&["run", "runbook.yaml"]).ends(0);
    assert_eq!(cli.read("seen"), "hush-hush-4711 north");
    let kept = std::process::Command::new("grep").args(["-r", "hush-hush"]).arg(cli.state()).output().expect("grep");
    assert_eq!(String::from_utf8_lossy(&kept.stdout), "");
}

#[test]
fn what_cannot_be_removed_is_an_exception_listed_and_reaped_by_a_run_of_its_own() {
    let cli = creating(MAKE, "destroy: 'test ! -e stuck && rm -f \"$PLACE\"'", "");
    cli.file("stuck", "");
    cli.run(&["run", "runbook.yaml"]).ends(5).says("thing").says("runbook reap");
    let run = cli.id();
    let left = leases(&cli, "");
    assert_eq!((left.len(), &left[0]["state"], &left[0]["name"]), (1, &"left_behind".into(), &"thing".into()));
    assert_eq!(left[0]["next"], format!("runbook reap {run}"));
    cli.run(&["reap", "--yes"]).ends(0).says("nothing to remove");
    cli.run(&["reap", &run]).ends(4).says("--yes");
    cli.run(&["reap", &run, "--dry-run"]).ends(0).prints("thing");
    assert!(cli.path("thing").exists() && cli.runs().len() == 1);
    cli.run(&["reap", &run, "--yes"]).ends(5);
    assert_eq!(leases(&cli, "").len(), 1);
    fs::remove_file(cli.path("stuck")).expect("it is there");
    cli.run(&["reap", &run, "--yes"]).ends(0);
    assert!(!cli.path("thing").exists());
    assert_eq!(leases(&cli, ""), Vec::<Value>::new());
    let all = leases(&cli, "--all");
    assert_eq!((all.len(), &all[0]["run"]), (1, &run.clone().into()));
    assert_ne!(all[0]["removed_by"], run);
    let runs = cli.runs().len();
    cli.run(&["reap", &run, "--yes"]).ends(0).says("nothing to remove");
    assert_eq!(cli.runs().len(), runs);
    cli.run(&["audit", "verify", "all"]).ends(0);
    cli.run(&["undo", "last"]).ends(4).says("left behind");
}

#[test]
fn a_run_killed_before_it_created_anything_or_while_it_removes_is_cleaned_up_by_resume() {
    let cli = Cli::new();
    let script = gated(&cli.path("began"), &cli.path("gate"));
    let text = format!(
        "version: 1\nname: tried\nenvironments: {{ real: {{ default: true }}, drill: {{}} }}\nsteps:\n  - id: make\n    modes: [real, drill]\n    run: |\n      {script}\n    \
         creates:\n      - name: thing\n        destroy: |\n          {HELD}; echo gone >>log\n"
    );
    cli.file("runbook.yaml", &text);
    let live = cli.spawn(&["drill", "runbook.yaml"]);
    until("it began", || cli.path("began").exists());
    assert!(live.kill());
    assert_eq!(leases(&cli, "")[0]["state"], "unfinished");
    // What was registered lives no longer than its step: that one still runs.
    cli.run(&["reap", "last", "--yes"]).ends(14).says("runs on");
    cli.file("gate", "");
    let live = cli.spawn(&["resume", "last"]);
    until("it removes", || cli.path("removing").exists());
    assert!(live.kill());
    assert_eq!(events(&cli, "resource_removed"), 0);
    cli.file("let-go", "");
    cli.run(&["resume", "last"]).ends(0);
    assert_eq!(cli.read("log").lines().last(), Some("gone"));
    assert_eq!((events(&cli, "resource_registered"), events(&cli, "resource_removed")), (1, 1));
    assert_eq!(leases(&cli, ""), Vec::<Value>::new());
}

#[test]
fn what_outlived_its_time_is_reaped_whatever_became_of_its_run_which_can_still_be_resumed() {
    let rest = "  - id: ask\n    uses: approval\n    with: { prompt: go on? }\n";
    let cli = creating(MAKE, &format!("{REMOVE}, ttl: 1s"), rest);
    cli.run(&["run", "runbook.yaml"]).ends(13);
    let run = cli.id();
    until("its time is over", || leases(&cli, "")[0]["expired"] == true);
    assert_eq!(leases(&cli, "")[0]["state"], "unfinished");
    cli.run(&["reap", "--expired", "--yes"]).ends(0);
    assert_eq!((cli.path("thing").exists(), removals(&cli)), (false, 1));
    assert_eq!(leases(&cli, ""), Vec::<Value>::new());
    cli.run(&["reap", "--yes"]).ends(0).says("nothing to remove");
    cli.run(&["resume", &run]).ends(13);
    cli.run(&["cancel", &run]).ends(0);
    cli.run(&["resume", &run]).ends(12);
    assert_eq!(leases(&cli, ""), Vec::<Value>::new());
}

#[test]
fn a_reaping_that_is_killed_is_resumed_or_made_again_and_removes_everything() {
    let cli = creating(MAKE, &format!("destroy: 'test -e may || exit 1; {HELD}; rm -f \"$PLACE\"'"), "");
    cli.run(&["run", "runbook.yaml"]).ends(5);
    let run = cli.id();
    cli.file("may", "");
    let live = cli.spawn(&["reap", &run, "--yes"]);
    until("it removes", || cli.path("removing").exists());
    assert!(live.kill());
    assert_eq!(leases(&cli, "")[0]["run"], run);
    cli.file("let-go", "");
    cli.run(&["resume", "last"]).ends(0);
    assert!(!cli.path("thing").exists());
    assert_eq!(leases(&cli, ""), Vec::<Value>::new());
}

#[test]
fn instances_of_a_fan_out_each_have_a_lease_of_their_own() {
    let cli = Cli::with(
        "version: 1\nname: tried\nsteps:\n  - id: make\n    for_each: [a, b]\n    env: { NAME: \"{{ item }}\" }\n    run: touch \"$NAME\"\n    \
         creates: [ { name: thing, destroy: 'test ! -e stuck && rm -f \"$NAME\"' } ]\n",
    );
    cli.file("stuck", "");
    cli.run(&["run", "runbook.yaml"]).ends(5);
    let left = leases(&cli, "");
    let steps: Vec<&str> = left.iter().filter_map(|lease| lease["step"].as_str()).collect();
    assert_eq!(steps.len(), 2, "{left:#?}");
    assert_ne!(steps[0], steps[1]);
    fs::remove_file(cli.path("stuck")).expect("it is there");
    cli.run(&["reap", "last", "--yes"]).ends(0);
    assert!(!cli.path("a").exists() && !cli.path("b").exists());
}

#[test]
fn a_scratch_folder_of_an_ended_run_is_reaped_and_one_of_a_run_that_goes_on_is_not() {
    let cli = creating(MAKE, REMOVE, "  - { id: ask, uses: approval, with: { prompt: go on? } }\n");
    cli.run(&["run", "runbook.yaml"]).ends(13);
    let waits = cli.state().join("scratch").join(cli.id());
    fs::create_dir_all(&waits).expect("a folder");
    let ended = creating(MAKE, REMOVE, "");
    ended.run(&["run", "runbook.yaml"]).ends(0);
    let folder = ended.state().join("scratch").join(ended.id());
    fs::create_dir_all(folder.join("deep")).expect("a folder");
    ended.run(&["reap", "--dry-run"]).ends(0).says("scratch");
    assert!(folder.exists());
    ended.run(&["reap"]).ends(0).says("scratch");
    assert!(!folder.exists());
    cli.run(&["reap", "--yes"]).ends(0);
    assert!(waits.exists());
}

/// What somebody mounted below a scratch folder, as a loop device or a share to look into, is not the run's own.
#[test]
fn what_is_mounted_below_a_scratch_folder_is_not_removed_with_it() {
    if std::env::var_os("RUNBOOK_TEST_NO_MOUNTS").is_some()
        || !mount::mine("lease::what_is_mounted_below_a_scratch_folder_is_not_removed_with_it")
    {
        return;
    }
    let ended = creating(MAKE, REMOVE, "");
    ended.run(&["run", "runbook.yaml"]).ends(0);
    let folder = ended.state().join("scratch").join(ended.id());
    let share = folder.join("deep/share");
    fs::create_dir_all(&share).expect("a folder");
    fs::write(folder.join("own"), "the run's").expect("a file");
    let mounted = mount::sized(&share, "1m");
    fs::write(share.join("precious"), "somebody's").expect("a file");
    ended.run(&["reap"]).ends(10).says("share` is mounted below it: unmount that first");
    assert_eq!(fs::read_to_string(share.join("precious")).expect("it is there"), "somebody's");
    drop(mounted);
    ended.run(&["reap"]).ends(0).says("removed the scratch folder");
    assert!(!folder.exists());
}
