//! Runs of this format that the real program made, one for each feature that left its own events in a journal. What
//! lies below `tests/fixtures` is frozen: a failure here is never mended by changing it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use runbook::event::EventKind;
use runbook::journal::{RunDir, Tail, verify_run};
use serde_json::Value;

use crate::support::cli::Cli;

/// The runs by name, how each ended, and an event without which the fixture would show nothing.
const RUNS: [(&str, &str, &str); 10] = [
    ("groups", "succeeded", "group_opened"),
    ("people", "succeeded", "step_answered"),
    ("verbs", "succeeded_with_exceptions", "operator_acted"),
    ("undo-on-failure", "failed", "b.undo"),
    ("undone", "succeeded", "run_finished"),
    ("seeds", "failed", "step_failed"),
    ("seeds", "succeeded", "step_seeded"),
    ("undone", "succeeded", "step_seeded"),
    ("amended", "succeeded", "plan_amended"),
    ("drill", "succeeded", "resource_removed"),
];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1")
}

/// Copies a folder with all that is in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let target = to.join(entry.file_name());
        match entry.file_type().expect("a type").is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).expect("copied")),
        }
    }
}

/// A user with the frozen history.
fn heir() -> Cli {
    let cli = Cli::new();
    copy(&fixtures().join("state"), &cli.state());
    cli
}

#[test]
fn every_frozen_run_is_there_and_ended_as_it_did() {
    let cli = heir();
    let listed = cli.run(&["runs", "--json"]).ends(0).json();
    let mut left: Vec<(String, String, String)> = listed
        .as_array()
        .expect("runs")
        .iter()
        .map(|run| {
            let text = |pointer: &str| run.pointer(pointer).and_then(Value::as_str).expect("a text").to_owned();
            let journal = cli.state().join("runs").join(text("/id")).join("journal.jsonl");
            (text("/name"), text("/status/outcome"), fs::read_to_string(journal).expect("a journal"))
        })
        .collect();
    for (name, outcome, kind) in RUNS {
        let same = |(its, end, journal): &(String, String, String)| {
            its == name && end == outcome && journal.contains(&format!("\"{kind}\""))
        };
        let at = left.iter().rposition(same).unwrap_or_else(|| panic!("no `{name}`, {outcome}, with `{kind}`"));
        left.remove(at);
    }
    assert_eq!(left, []);
}

#[test]
fn every_frozen_run_reads_folds_and_holds() {
    let cli = heir();
    for path in cli.runs() {
        let dir = RunDir::at(path.clone()).expect("a run");
        let history = dir.read().expect("it reads");
        assert_eq!(history.tail, Tail::Clean);
        assert!(history.events.iter().all(|event| event.kind != EventKind::Unknown), "{}", path.display());
        let audit = verify_run(&dir);
        assert!(audit.is_ok(), "{audit:#?}");
    }
    cli.run(&["audit", "verify", "all"]).ends(0);
}

#[test]
fn every_frozen_run_is_told_in_every_form() {
    let cli = heir();
    for path in cli.runs() {
        let id = path.file_name().expect("a name").to_string_lossy().into_owned();
        for args in [
            &["show", &id] as &[&str],
            &["show", &id, "--json"],
            &["audit", "show", &id],
            &["report", &id, "--html"],
            &["report", &id, "--json"],
            &["report", &id, "--junit"],
        ] {
            let told = cli.run(args).ends(0);
            assert!(told.out.len() > 100, "{args:?}: {}", told.out);
        }
        cli.run(&["logs", &id]).ends(0);
        cli.run(&["diff", &id, &id]).ends(0);
        cli.run(&["evidence", &id, "-o", &format!("{id}.tar.zst")]).ends(0);
        cli.run(&["evidence", "verify", &format!("{id}.tar.zst")]).ends(0);
    }
}

#[test]
fn evidence_that_was_made_then_still_verifies() {
    let cli = Cli::new();
    let mut verified = 0;
    for entry in fs::read_dir(fixtures().join("evidence")).expect("a folder").flatten() {
        cli.run(&["evidence".as_ref(), "verify".as_ref(), entry.path().as_os_str()]).ends(0);
        verified += 1;
    }
    assert_eq!(verified, RUNS.len());
}

/// The runbooks of the fixtures, by file.
const FILES: [(&str, &str); 9] = [
    (
        "inner.yaml",
        "version: 1\nname: inner\nsteps:\n  - { id: a, run: echo 7, outputs: { said: text } }\noutputs: { said: \"{{ steps.a.said }}\" }\n",
    ),
    (
        "groups.yaml",
        "version: 1\nname: groups\nlocks: [outer]\nsteps:\n  - { id: sub, uses: runbook, with: { path: inner.yaml } }\n  - id: each\n    for_each: { x: 1, y: 2 }\n    max_parallel: 1\n    locks: [inner]\n    run: test \"$KEY\" = x || test \"$N\" = 2\n    env: { KEY: \"{{ item_key }}\", N: \"{{ item }}\" }\n  - { id: sum, run: echo \"$S\", env: { S: \"{{ steps.sub.said }} {{ steps.each.keys|join(' ') }}\" } }\n",
    ),
    (
        "people.yaml",
        "version: 1\nname: people\nsteps:\n  - { id: declare, uses: approval, with: { prompt: Go?, approvers: [ada, bob], quorum: 2, inputs: { ticket: { type: int } } } }\n  - { id: power, uses: manual, with: { instruction: Switch it on., checklist: [the lamp is green] } }\n",
    ),
    (
        "verbs.yaml",
        "version: 1\nname: verbs\ndefaults: { retry: { max_attempts: 2, delay: 1ms } }\nsteps:\n  - { id: skipped, on_failure: pause, run: 'exit 3', retry: { max_attempts: 2, delay: 1ms } }\n  - { id: done, needs: [], on_failure: pause, run: 'exit 3', outputs: { rows: text } }\n  - { id: again, needs: [], on_failure: pause, run: 'test -e gate' }\n  - { id: last, run: 'true' }\n",
    ),
    (
        "undo-on-failure.yaml",
        "version: 1\nname: undo-on-failure\nsteps:\n  - { id: a, run: 'true', undo: { run: 'true' } }\n  - { id: b, run: 'true', undo: { run: 'true' } }\n  - { id: c, run: 'exit 1' }\nfinally:\n  - { id: f, run: 'true' }\n",
    ),
    (
        "undone.yaml",
        "version: 1\nname: undone\nsteps:\n  - { id: a, run: 'true', undo: { run: 'true' } }\n  - { id: b, run: 'true' }\n",
    ),
    (
        "seeds.yaml",
        "version: 1\nname: seeds\nsteps:\n  - { id: a, run: echo 1, outputs: { n: text } }\n  - { id: b, run: 'test -e gate2', env: { N: \"{{ steps.a.n }}\" } }\n",
    ),
    (
        "amended.yaml",
        "version: 1\nname: amended\nsteps:\n  - { id: ask, uses: approval, with: { prompt: Go? } }\n  - { id: b, run: 'exit 1' }\n",
    ),
    (
        "drill.yaml",
        "version: 1\nname: drill\nenvironments: { production: { protected: true, default: true }, drill: {} }\nobjectives: { rto: 1h }\nparams: { incident_at: { type: timestamp } }\nsteps:\n  - { id: clone, modes: [real, drill], run: 'true', creates: [ { name: copy, destroy: 'true', ttl: 1h } ] }\n  - { id: real_only, modes: [real], run: 'true' }\n",
    ),
];

/// Carries out every runbook, with the orders that people gave.
fn carry_out(cli: &Cli) {
    cli.run(&["run", "groups.yaml"]).ends(0);
    cli.run(&["run", "people.yaml"]).ends(13);
    for name in ["ada", "bob"] {
        cli.run(&["approve", "last", "--as", name, "--input", "ticket=4711", "--comment", "seen"]).ends(0);
    }
    cli.run(&["resume", "last"]).ends(13);
    cli.run(&["approve", "last", "power"]).ends(0);
    cli.run(&["resume", "last"]).ends(0);
    cli.run(&["run", "verbs.yaml"]).ends(13);
    cli.file("gate", "");
    cli.run(&["retry", "last", "again", "--reason", "mended"]).ends(0);
    cli.run(&["skip", "last", "skipped", "--reason", "not today"]).ends(0);
    cli.run(&["mark-done", "last", "done", "--output", "rows=42"]).ends(0);
    cli.run(&["resume", "last"]).ends(5);
    cli.run(&["run", "undo-on-failure.yaml", "--undo-on-failure"]).ends(10);
    cli.run(&["run", "undone.yaml"]).ends(0);
    cli.run(&["undo", "last", "--reason", "wrong one"]).ends(0);
    cli.run(&["run", "seeds.yaml"]).ends(10);
    cli.file("gate2", "");
    cli.run(&["run", "seeds.yaml", "--from", "b", "--of", "last"]).ends(0);
    cli.run(&["run", "amended.yaml"]).ends(13);
    cli.file("mended.yaml", &FILES[7].1.replace("exit 1", "true"));
    cli.run(&["approve", "last"]).ends(0);
    cli.run(&["resume", "last", "--with", "mended.yaml"]).ends(0);
    cli.run(&["drill", "drill.yaml"]).ends(0);
}

/// Makes the files anew, once per format: `cargo nextest run make_fixtures --run-ignored only`.
#[test]
#[ignore = "writes the frozen files of a format that does not exist yet"]
fn make_fixtures() {
    assert!(!fixtures().exists(), "a released format stays as it is");
    let cli = Cli::new();
    for (name, text) in FILES {
        cli.file(name, text);
    }
    carry_out(&cli);
    fs::create_dir_all(fixtures().join("evidence")).expect("a folder");
    let mut names: BTreeMap<String, u32> = BTreeMap::new();
    for run in cli.runs() {
        let id = run.file_name().expect("a name").to_string_lossy().into_owned();
        let (plan, _) = RunDir::at(run.clone()).expect("a run").plan().expect("a plan");
        let name = plan.name.clone();
        let number = names.entry(name.clone()).or_default();
        *number += 1;
        let bundle = fixtures().join("evidence").join(format!("{name}-{number}.tar.zst"));
        cli.run(&["evidence".as_ref(), id.as_ref(), "-o".as_ref(), bundle.as_os_str()]).ends(0);
        let target = fixtures().join("state/runs").join(&id);
        fs::create_dir_all(&target).expect("a folder");
        for entry in fs::read_dir(&run).expect("a folder").flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            if [".json", ".jsonl"].iter().any(|end| file.ends_with(end)) {
                fs::copy(entry.path(), target.join(file)).expect("copied");
            }
        }
        for folder in ["attempts", "blobs"].into_iter().filter(|folder| run.join(folder).is_dir()) {
            copy(&run.join(folder), &target.join(folder));
        }
    }
    fs::copy(cli.state().join("ledger.jsonl"), fixtures().join("state/ledger.jsonl")).expect("copied");
}
