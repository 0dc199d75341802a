//! The history as others see it: shown, verified, signed, exported, shipped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::cli::Cli;

const HELLO: &str = "version: 1\nname: hello\nsteps:\n  - { id: a, run: echo hello }\n";

/// Runs the real `ssh-keygen`.
fn ssh_keygen(args: &[&str], input: Option<&Path>) -> bool {
    let stdin = input.map_or_else(Stdio::null, |path| fs::File::open(path).unwrap().into());
    let ran = Command::new("ssh-keygen").args(args).stdin(stdin).stdout(Stdio::null()).stderr(Stdio::null()).status();
    ran.expect("`ssh-keygen` is missing: apt-get install openssh-client").success()
}

/// A key pair in the user's folder, and the file of those who are trusted.
pub fn key(cli: &Cli, name: &str) -> (PathBuf, PathBuf) {
    let (key, signers) = (cli.dir().join(name), cli.dir().join(format!("{name}.signers")));
    assert!(ssh_keygen(&["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", key.to_str().unwrap()], None));
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    fs::write(&signers, format!("# those who sign\n{name}@example namespaces=\"runbook\" {public}")).unwrap();
    (key, signers)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn every_event_is_shown_on_a_line_of_its_own() {
    let cli = Cli::with(HELLO);
    cli.run(&["run", "runbook.yaml"]).ends(0);
    let shown = cli.run(&["audit", "show", "last"]).ends(0).prints("run_started").prints("step_succeeded").out;
    assert_eq!(shown.lines().count(), cli.journal().len());
    let lines = cli.run(&["audit", "show", "last", "--json"]).ends(0).out;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, cli.journal());
}

#[test]
fn a_signed_head_is_verified_by_us_and_by_ssh_keygen() {
    let cli = Cli::with(HELLO);
    let (key, signers) = key(&cli, "ops");
    let cli = cli.var("RUNBOOK_SIGN_KEY", text(&key));
    cli.run(&["run", "runbook.yaml"]).ends(0);
    let head = cli.only_run().join("head.json");
    let signature = head.with_extension("json.sig");
    let check = ["-Y", "verify", "-f", text(&signers), "-I", "ops@example", "-n", "runbook", "-s", text(&signature)];
    assert!(ssh_keygen(&check, Some(&head)));
    let trusted = ["audit", "verify", "all", "--allowed-signers", text(&signers)];
    cli.run(&trusted).ends(0).prints("signed by ops@example");
    cli.run(&["audit", "verify", "last"]).ends(0).prints("for which nobody vouches");

    let sound = fs::read_to_string(&head).unwrap();
    fs::write(&head, sound.replace("succeeded", "cancelled")).unwrap();
    assert!(!ssh_keygen(&check, Some(&head)));
    cli.run(&trusted).ends(15).prints("the signature does not fit").prints("another outcome");
    fs::remove_file(&head).unwrap();
    cli.run(&trusted).ends(15).prints("`head.json` is missing");
}

#[test]
fn a_head_of_another_run_does_not_pass_for_this_one() {
    let cli = Cli::with(HELLO);
    let (key, signers) = key(&cli, "ops");
    let cli = cli.var("RUNBOOK_SIGN_KEY", text(&key));
    cli.run(&["run", "runbook.yaml"]).ends(0);
    cli.run(&["run", "runbook.yaml"]).ends(0);
    let runs = cli.runs();
    for name in ["head.json", "head.json.sig"] {
        fs::copy(runs[0].join(name), runs[1].join(name)).unwrap();
    }
    let signers = text(&signers);
    let said = cli.run(&["audit", "verify", "all", "--allowed-signers", signers]).ends(15);
    said.prints("`head.json` names another run").prints("`head.json` names another last event");
}

#[test]
fn a_key_that_cannot_sign_is_a_warning_and_the_run_is_signed_later() {
    let cli = Cli::with(HELLO);
    let (good, _) = key(&cli, "ops");
    let locked = cli.dir().join("locked");
    assert!(ssh_keygen(&["-q", "-t", "ed25519", "-N", "secret", "-f", text(&locked)], None));
    let rsa = cli.dir().join("rsa");
    assert!(ssh_keygen(&["-q", "-t", "ecdsa", "-N", "", "-f", text(&rsa)], None));
    let exposed = cli.dir().join("exposed");
    fs::copy(&good, &exposed).unwrap();
    fs::set_permissions(&exposed, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let mut cli = cli;
    for (key, words) in [
        (cli.dir().join("missing"), "cannot be read"),
        (cli.path("runbook.yaml"), "read by others"),
        (locked, "encrypted"),
        (rsa, "warning: the run is not signed"),
        (exposed, "read by others"),
    ] {
        cli = cli.var("RUNBOOK_SIGN_KEY", text(&key));
        cli.run(&["run", "runbook.yaml"]).ends(0).says("warning: the run is not signed").says(words);
    }
    cli.run(&["audit", "verify", "last"]).ends(0).prints("unsigned");
    let cli = cli.var("RUNBOOK_SIGN_KEY", text(&good));
    cli.run(&["resume", "last"]).ends(0);
    cli.run(&["audit", "verify", "last"]).ends(0).prints("signed by SHA256:");
}

#[test]
fn signers_that_are_not_understood_are_trusted_with_nothing() {
    let cli = Cli::with(HELLO);
    let (key, signers) = key(&cli, "ops");
    let cli = cli.var("RUNBOOK_SIGN_KEY", text(&key));
    cli.run(&["run", "runbook.yaml"]).ends(0);
    let sound = fs::read_to_string(&signers).unwrap();
    let verify = ["audit", "verify", "last", "--allowed-signers", text(&signers)];
    fs::write(&signers, sound.replace("namespaces=\"runbook\"", "namespaces=\"git\"")).unwrap();
    cli.run(&verify).ends(0).prints("for which nobody vouches");
    fs::write(&signers, sound.replace("namespaces=\"runbook\"", "cert-authority")).unwrap();
    cli.run(&verify).ends(2).says("line 2").says("`cert-authority` is not known here");
    fs::write(&signers, "ops@example\n").unwrap();
    cli.run(&verify).ends(2).says("a key is missing");
}

#[test]
fn the_export_has_every_event_and_stops_at_a_broken_line_by_name() {
    let cli = Cli::with(HELLO);
    cli.run(&["run", "runbook.yaml"]).ends(0);
    cli.run(&["run", "runbook.yaml"]).ends(0);
    let count = |run: &Path| fs::read_to_string(run.join("journal.jsonl")).unwrap().lines().count();
    let runs = cli.runs();
    let all = cli.run(&["audit", "export"]).ends(0).out;
    assert_eq!(all.lines().count(), count(&runs[0]) + count(&runs[1]));
    for line in all.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!((&line["name"], line["event"]["hash"].is_string()), (&"hello".into(), true));
    }
    let table = cli.run(&["audit", "export", "--format", "csv"]).ends(0).out;
    assert!(table.starts_with("run,seq,at,type,step,"), "{table}");
    assert_eq!(table.split_terminator("\r\n").count(), all.lines().count() + 1);
    assert_eq!(cli.run(&["audit", "export", "--until", "1h"]).ends(0).out, "");
    assert_eq!(cli.run(&["audit", "export", "--since", "1h", "-o", "all.jsonl"]).ends(0).out, "");
    assert_eq!(cli.read("all.jsonl"), all);
    cli.run(&["audit", "export", "--since", "noon"]).ends(2).says("is not a point in time");

    let journal = runs[0].join("journal.jsonl");
    let sound = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, sound.replacen("\"stdout\":\"hello\"", "\"stdout\":\"hallo\"", 1)).unwrap();
    let broken = cli.run(&["audit", "export"]).ends(15).says("event 4 does not hold");
    assert_eq!(broken.out.lines().count(), 3 + count(&runs[1]));
    fs::remove_dir_all(&runs[0]).unwrap();
    cli.run(&["audit", "export"]).ends(15).says("its folder is gone");
}

#[test]
fn a_cell_that_a_spreadsheet_would_run_is_defused_and_quotes_are_kept() {
    let cli =
        Cli::with("version: 1\nname: hello\nsteps:\n  - { id: a, run: 'echo \"=1+1, \\\"x\\\"\" >&2; exit 1' }\n")
            .var("USER", "=cmd()");
    cli.run(&["run", "runbook.yaml"]).ends(10);
    let table = cli.run(&["audit", "export", "--format", "csv"]).ends(0).out;
    assert!(!table.contains(",=") && !table.contains("\"="), "{table}");
    assert!(table.contains("'=cmd()"), "{table}");
}

fn shipping(cli: &Cli) -> String {
    let store = cli.dir().join("offsite");
    let inventory = format!(
        "version: 1\nstores: {{ offsite: {{ url: 'file://{}' }} }}\naudit: {{ ship: offsite }}\n",
        store.display()
    );
    cli.file("inventory.yaml", &inventory);
    store.display().to_string()
}

fn objects(folder: &str) -> Vec<String> {
    let mut files: Vec<String> = crate::support::cli::listing(Path::new(folder));
    let is_object = |line: &str| {
        let path = line.split(' ').next().unwrap_or_default();
        path.contains("/runbook-audit/") && !path.contains("/.rb-") && Path::new(path).is_file()
    };
    files.retain(|line| is_object(line));
    files
}

#[test]
fn runs_and_ledger_are_shipped_once_and_what_differs_is_named() {
    let cli = Cli::with(HELLO);
    let store = shipping(&cli);
    cli.run(&["run", "runbook.yaml"]).ends(0).says("warning: the run is not copied to `offsite`");
    cli.run(&["audit", "ship"]).ends(0).prints("1 runs and 2 ledger lines shipped to `offsite`");
    let first = objects(&store);
    cli.run(&["audit", "ship"]).ends(0).prints("0 runs and 0 ledger lines shipped to `offsite`; 1 runs were there");
    assert_eq!(objects(&store), first, "nothing was written again");
    let quiet = cli.run(&["run", "runbook.yaml"]).ends(0);
    assert!(!quiet.err.contains("warning"), "{}", quiet.err);
    cli.run(&["audit", "ship"]).ends(0).prints("0 runs and 0 ledger lines shipped to `offsite`; 2 runs were there");
    for line in &first {
        assert!(objects(&store).contains(line), "{line} was replaced");
    }

    let plan = cli.runs()[0].join("plan.json");
    let sound = fs::read(&plan).unwrap();
    fs::write(&plan, [&sound[..], b" "].concat()).unwrap();
    cli.run(&["audit", "ship"]).ends(15).prints("DIFFERS").prints("is not the one that was shipped");
    fs::write(&plan, &sound).unwrap();
    let ledger = cli.state().join("ledger.jsonl");
    let lines = fs::read_to_string(&ledger).unwrap();
    let kept: Vec<&str> = lines.split_inclusive('\n').take(3).collect();
    fs::write(&ledger, kept.concat()).unwrap();
    cli.run(&["audit", "ship"]).ends(15).prints("of the ledger is not the one that was shipped, or it is gone");
}

#[test]
fn a_store_that_is_gone_changes_no_outcome_and_is_made_up_for_later() {
    let cli = Cli::with(HELLO);
    let store = shipping(&cli);
    cli.run(&["audit", "ship"]).ends(0).prints("0 runs");
    fs::remove_dir_all(&store).unwrap();
    cli.run(&["run", "runbook.yaml"]).ends(0).says("warning: the run is not copied to `offsite`");
    assert!(!Path::new(&store).exists(), "a folder that is not mounted is not made a store by itself");
    cli.run(&["audit", "ship"]).ends(0).prints("1 runs and 2 ledger lines");
    cli.run(&["audit", "ship", "--to", "nowhere"]).ends(2).says("the inventory has no store `nowhere`");
    cli.run(&["audit", "ship", "--to", &format!("file://{store}2")]).ends(0).prints("1 runs and 2 ledger lines");
}

#[test]
fn what_the_inventory_says_of_audit_is_checked() {
    let cli = Cli::with(HELLO);
    cli.file("inventory.yaml", "version: 1\naudit: { ship: nowhere, sign_key: key }\n");
    let said = cli.run(&["check", "runbook.yaml"]).ends(3);
    said.says("there is no store `nowhere`").says("`key` is not an absolute path");
    cli.file("inventory.yaml", "version: 1\naudit: { shipp: x }\n");
    cli.run(&["check", "runbook.yaml"]).ends(3).says("RB0101");
}

#[test]
fn runs_are_found_by_outcome_and_time() {
    let cli = Cli::with(HELLO);
    cli.run(&["run", "runbook.yaml"]).ends(0);
    cli.file("bad.yaml", "version: 1\nname: bad\nsteps:\n  - { id: a, run: exit 1 }\n");
    cli.run(&["run", "bad.yaml"]).ends(10);
    let count = |args: &[&str]| {
        let args: Vec<&str> = ["runs", "--json"].iter().chain(args).copied().collect();
        cli.run(&args).ends(0).json().as_array().unwrap().len()
    };
    assert_eq!((count(&[]), count(&["--outcome", "failed"]), count(&["--outcome", "succeeded"])), (2, 1, 1));
    assert_eq!((count(&["--since", "1h"]), count(&["--since", "2100-01-01T00:00:00Z"])), (2, 0));
    assert_eq!((count(&["--name", "bad"]), count(&["--limit", "1"])), (1, 1));
    cli.run(&["runs", "--outcome", "fine"]).ends(2).says("unknown variant");
}
