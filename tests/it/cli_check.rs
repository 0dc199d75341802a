//! What is said about a runbook before it runs.

use std::path::PathBuf;

use crate::support::cli::{Cli, listing};

fn shipped() -> Vec<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join("runbooks"), root.join("examples")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "yaml") && !path.ends_with("inventory.yaml") {
                found.push(path);
            }
        }
    }
    found
}

const HELLO: &str =
    "version: 1\nname: hello\nsteps:\n  - { id: a, run: echo a }\n  - { id: b, needs: [a], run: echo b }\n";
const UNUSED: &str =
    "version: 1\nname: warned\nparams: { who: { type: string, default: x } }\nsteps:\n  - { id: a, run: echo a }\n";

#[test]
fn every_shipped_runbook_and_example_is_sound_even_to_a_strict_reader() {
    let found = shipped();
    assert!(found.len() >= 3, "{found:?}");
    let mut args = vec![PathBuf::from("check"), "--strict".into()];
    args.extend(found);
    let ran = Cli::new().run(&args).ends(0);
    assert!(!ran.out.contains("error") && !ran.out.contains("warning"), "{}", ran.out);
}

#[test]
fn a_shipped_runbook_is_found_by_its_name() {
    Cli::new().run(&["check", "full-db-loss"]).ends(0).prints("full-db-loss: sound");
}

#[test]
fn an_inventory_with_keys_that_are_none_and_databases_that_are_one_is_warned_of_and_stops_no_restore() {
    let cli = Cli::new();
    let text = "version: 1\ndatabases:\n  orders: { pgdata: /data/main, store: primary, prefix: one }\n  \
                users: { pgdata: /data/main, store: primary, prefix: two }\n\
                stores:\n  primary: { url: \"file:///srv/b\", encryption: { recipients: [ age1qqq, { key: age1zzz, offline: true } ] } }\n\
                backups:\n  base: { source: orders, kind: postgres.bse, every: 24h }\n  other: { source: orders, kind: mysql.dump, every: 24h }\n";
    cli.file("inventory.yaml", text);
    cli.run(&["check", "inventory.yaml", "--strict"]).ends(3);
    let ran = cli.run(&["check", "inventory.yaml"]).ends(0);
    let ran = ran.says("`age1qqq` is no public key of age").says("`age1zzz` is no public key of age");
    let ran = ran.says("no backup is of the kind `postgres.bse`").says("did you mean `postgres.base`?");
    assert!(!ran.err.contains("mysql.dump`"), "{}", ran.err);
    let text = "version: 1\ndatabases:\n  users: { pgdata: /data/main, store: primary, prefix: two }\n  \
                third: { pgdata: /data/third, store: primary, prefix: two }\n  \
                orders: { pgdata: /data/third }\nstores:\n  primary: { url: \"file:///srv/b\" }\n";
    cli.file("inventory.yaml", text);
    let ran = cli.run(&["check", "inventory.yaml"]).ends(0);
    let ran = ran.says("`orders` and `third` have one data directory, `/data/third`");
    ran.says("`third` and `users` have one place for their backups");
    let key = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    let safe = "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg";
    let text = format!(
        "version: 1\ndatabases:\n  here: {{ pgdata: /data/main, port: 6001 }}\n  there: {{ pgdata: /data/main, port: 6002 }}\n\
         stores:\n  primary:\n    url: \"file:///srv/b\"\n    encryption:\n      recipients:\n        - |\n          {key}\n        - {{ key: {safe}, offline: true }}\n"
    );
    cli.file("inventory.yaml", &text);
    let ran = cli.run(&["check", "inventory.yaml"]).ends(0);
    assert!(!ran.err.contains("one data directory") && !ran.err.contains("no public key"), "{}", ran.err);
}

#[test]
fn a_broken_runbook_is_invalid_and_every_fault_has_a_place_and_a_code() {
    let cli = Cli::with(
        "version: 1\nname: broken\nsteps:\n  - { id: a, runn: echo a }\n  - { id: b, needs: [c], run: echo b }\n",
    );
    cli.run(&["check", "runbook.yaml"]).ends(3).says("runbook.yaml:4").says("runbook.yaml:5");
    let found = cli.run(&["check", "runbook.yaml", "--json"]).ends(3).json();
    let found = found.as_array().expect("a list");
    assert!(found.len() >= 2, "{found:#?}");
    for finding in found {
        assert!(finding["code"].as_str().expect("a code").starts_with("RB"), "{finding:#}");
    }
    cli.run(&["run", "runbook.yaml"]).ends(3).says("nothing was run");
    assert!(cli.runs().is_empty());
}

#[test]
fn a_warning_fails_only_a_strict_check() {
    let cli = Cli::with(UNUSED);
    cli.run(&["check", "runbook.yaml"]).ends(0).prints("1 warning");
    cli.run(&["check", "runbook.yaml", "--strict"]).ends(3);
}

#[test]
fn every_code_is_explained() {
    let cli = Cli::new();
    let codes = cli.run(&["explain"]).ends(0).out;
    assert!(codes.lines().count() > 20, "{codes}");
    for line in codes.lines().step_by(9) {
        let code = line.split_whitespace().next().expect("a code");
        cli.run(&["explain", code]).ends(0).prints(code);
    }
    cli.run(&["explain", "RB9999"]).ends(2);
}

#[test]
fn the_steps_are_drawn_in_four_forms() {
    let cli = Cli::with(HELLO);
    let tree = cli.run(&["graph", "runbook.yaml"]).ends(0).out;
    assert!(tree.lines().any(|line| line.contains('b')) && !tree.contains("digraph"), "{tree}");
    cli.run(&["graph", "runbook.yaml", "--dot"]).ends(0).prints("digraph").prints("->");
    cli.run(&["graph", "runbook.yaml", "--mermaid"]).ends(0).prints("flowchart").prints("-->");
    cli.run(&["graph", "runbook.yaml", "--svg"]).ends(0).prints("<svg").prints("</svg>");
    cli.run(&["graph", "runbook.yaml", "--svg", "-o", "plan.svg"]).ends(0);
    assert!(cli.read("plan.svg").starts_with("<svg") || cli.read("plan.svg").starts_with("<?xml"));
}

#[test]
fn wrong_usage_is_exit_code_2_and_an_unknown_name_is_answered_with_the_nearest() {
    let cli = Cli::with(HELLO);
    cli.run(&["rum"]).ends(2);
    cli.run(&["run"]).ends(2);
    cli.run(&["check", "full-db-los"]).ends(2).says("did you mean `full-db-loss`?");
    cli.run(&["run", "runbook.yaml", "-p", "nobody=1"]).ends(2);
    cli.run(&["run", "runbook.yaml", "-e", "mars"]).ends(2).says("mars");
    cli.run(&["show", "last"]).ends(2).says("there is no run `last`");
    cli.run(&["--help"]).ends(0).prints("Exit codes");
    cli.run(&["--version"]).ends(0).prints(env!("CARGO_PKG_VERSION"));
    assert!(cli.runs().is_empty());
}

#[test]
fn a_check_a_drawing_and_a_dry_run_write_nothing_anywhere() {
    let cli = Cli::new();
    cli.file("target/kept", "as it was");
    cli.file("store/x", "y");
    cli.file(
        "runbook.yaml",
        "version: 1\nname: writes\nstores: { depot: { url: \"file:///nowhere/at/all\" } }\nsteps:\n  \
         - { id: a, run: echo changed >target/kept, targets: [ { path: /tmp/x } ] }\n  \
         - { id: b, uses: exec, with: { argv: [touch, new] } }\n",
    );
    let before = listing(cli.dir());
    cli.run(&["check", "runbook.yaml"]).ends(0);
    cli.run(&["graph", "runbook.yaml"]).ends(0);
    cli.run(&["dry-run", "runbook.yaml"]).ends(0).says("nothing was written");
    let plan = cli.run(&["dry-run", "runbook.yaml", "--json"]).ends(0).json();
    assert_eq!(plan["steps"].as_array().map(Vec::len), Some(2));
    assert_eq!(listing(cli.dir()), before);
    assert!(!cli.state().exists());
}

#[test]
fn a_dry_run_refuses_what_cannot_work_and_still_writes_nothing() {
    let cli = Cli::with(
        "version: 1\nname: lacks\nsecrets: { token: { env: NOT_SET_ANYWHERE } }\nsteps:\n  \
         - { id: a, uses: checksum.verify, with: { sidecar: /nowhere/at/all } }\n  \
         - { id: b, run: 'true', env: { T: \"{{ secrets.token }}\" } }\n",
    );
    let before = listing(cli.dir());
    cli.run(&["dry-run", "runbook.yaml"]).ends(4).prints("/nowhere/at/all").prints("secret `token`");
    assert_eq!(listing(cli.dir()), before);
    cli.run(&["run", "runbook.yaml"]).ends(4);
    assert!(cli.runs().is_empty());
}

#[test]
fn a_program_that_is_not_there_refuses_the_run_before_its_first_step() {
    let cli = Cli::with(
        "version: 1\nname: lacks\nsteps:\n  - { id: a, run: touch changed }\n  \
         - { id: b, uses: exec, with: { argv: [no-such-program-here] } }\n",
    );
    cli.run(&["dry-run", "runbook.yaml"]).ends(4).prints("no-such-program-here");
    cli.run(&["run", "runbook.yaml"]).ends(4).says("no-such-program-here").says("nothing was changed");
    assert!(!cli.path("changed").exists() && cli.runs().is_empty());
}

#[test]
fn shells_and_manuals_are_written_for() {
    let cli = Cli::new();
    for shell in ["bash", "zsh", "fish"] {
        cli.run(&["completions", shell]).ends(0).prints("runbook");
    }
    cli.run(&["man"]).ends(0).prints(".TH");
    cli.run(&["actions"]).ends(0).prints("postgres.recover");
    cli.run(&["actions", "exec"]).ends(0).prints("argv");
    cli.run(&["actions", "exeq"]).ends(2).says("exec");
}

#[test]
fn parameters_come_from_a_file_and_the_command_line_wins() {
    let cli = Cli::with(
        "version: 1\nname: told\nparams:\n  who: { type: string }\n  n: { type: int, default: 1 }\nsteps:\n  \
         - { id: a, run: 'echo \"$W $N\" >said', env: { W: \"{{ params.who }}\", N: \"{{ params.n }}\" } }\n",
    );
    cli.run(&["run", "runbook.yaml"]).ends(2).says("who");
    cli.run(&["run", "runbook.yaml", "-p", "who=x", "-p", "n=many"]).ends(2).says("n");
    cli.run(&["run", "runbook.yaml", "-p", "who=x", "-p", "who=y"]).ends(2).says("given twice");
    assert!(cli.runs().is_empty());
    cli.file("params.yaml", "who: the file\nn: 2\n");
    cli.run(&["run", "runbook.yaml", "--params-file", "params.yaml", "-p", "n=3"]).ends(0);
    assert_eq!(cli.read("said"), "the file 3\n");
}
