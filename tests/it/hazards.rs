//! The table of hazards is true: every test it names exists, and no hazard is missing.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

/// The names of the functions of a text that are run as tests: neither helpers nor what is ignored.
fn tests_of(text: &str) -> BTreeSet<&str> {
    let (mut found, mut is_test, mut is_ignored) = (BTreeSet::new(), false, false);
    for line in text.lines().map(str::trim) {
        if line.starts_with("//") || line.starts_with("#[") {
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            is_ignored |= line.starts_with("#[ignore");
            continue;
        }
        let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        found.extend(
            function.filter(|_| is_test && !is_ignored).and_then(|rest| rest.split_once('(')).map(|(name, _)| name),
        );
        (is_test, is_ignored) = (false, false);
    }
    found
}

#[test]
fn a_helper_and_an_ignored_test_are_no_tests() {
    let text = "#[test]\nfn one() {}\n#[tokio::test]\n/// Told.\nasync fn two() {}\nfn helper() {}\n#[test]\n#[ignore = \"x\"]\nfn three() {}\n";
    assert_eq!(tests_of(text), BTreeSet::from(["one", "two"]));
}

#[test]
fn every_hazard_has_a_row_and_every_test_it_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut code, table) = (String::new(), fs::read_to_string(root.join("docs/hazards.md")).unwrap());
    sources(&root.join("tests/it"), &mut code);
    sources(&root.join("src"), &mut code);
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| H")).collect();
    let names: Vec<String> = rows.iter().map(|row| row.split('|').nth(1).unwrap().trim().to_owned()).collect();
    assert_eq!(names, (1..=46).map(|number| format!("H{number}")).collect::<Vec<_>>());
    // A test's name is a sentence: nothing else between backticks has three underscores.
    let named: BTreeSet<&str> =
        rows.iter().flat_map(|row| row.split('`')).filter(|word| word.matches('_').count() > 2).collect();
    let tests = tests_of(&code);
    let missing: Vec<&&str> = named.difference(&tests).collect();
    assert!(missing.is_empty() && named.len() > 40, "{missing:?}");
    let applies = rows.iter().filter(|row| !row.contains("| does not apply: "));
    let unproven = applies.filter(|row| !row.split('`').any(|word| tests.contains(word)));
    assert_eq!(unproven.collect::<Vec<_>>(), Vec::<&&str>::new(), "rows without a test");
}

#[test]
fn scripts_that_are_known_to_lose_data_are_named_where_they_stand() {
    let cli = crate::support::cli::Cli::with(
        "version: 1\nname: old\nsteps:\n  - id: a\n    run: |\n      # recovery.conf is gone since 12\n      true\n  - id: b\n    \
         run: |\n      touch /data/recovery.conf\n      echo \"restore_command = 'aws s3 cp s3://b/%f %p'\" >> /data/x\n  - id: c\n    \
         run: echo \"archive_command = 'aws s3 cp %p s3://b/%f'\" >> /data/x\n",
    );
    let found = cli.run(&["check", "runbook.yaml"]).ends(0);
    let said = format!("{}{}", found.out, found.err);
    assert_eq!(said.matches("RB0507").count(), 3, "{said}");
    assert!(said.contains("wal fetch") && said.contains("wal push") && said.contains("postgres.recover"), "{said}");
}

/// What `check` says of a runbook.
fn said_of(text: &str) -> String {
    let cli = crate::support::cli::Cli::with(text);
    cli.file("inventory.yaml", "version: 1\ndatabases: { main: { pgdata: /srv/main, store: s } }\nstores: { s: { url: 's3://b/x', region: x } }\n");
    let found = cli.run(&["check", "runbook.yaml"]).ends(0);
    // Without the breaks of lines.
    let said = format!("{}{}", found.out, found.err);
    said.lines().map(|line| line.trim_start_matches([' ', '|'])).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_dump_whose_failure_nobody_sees_is_named_and_a_strict_one_is_not() {
    let script =
        |lines: &str| said_of(&format!("version: 1\nname: old\nsteps:\n  - id: a\n    run: |\n      {lines}\n"));
    for (hidden, words) in [
        ("bash -c \"pg_dump orders | gzip > /b/x.gz\"", "the end of a pipe alone counts"),
        ("docker exec db sh -c 'pg_dump orders \\\n        | gzip' > /b/x.gz", "the end of a pipe alone counts"),
        ("pg_dump orders > /b/x.sql || true", "is forgiven"),
        ("find /backup/wal -type f -mtime +7 -delete", "cannot be recovered beyond its own end"),
    ] {
        let said = script(hidden);
        assert!(said.contains("RB0507") && said.contains(words), "{hidden}: {said}");
    }
    for strict in [
        "pg_dump orders | gzip > /b/x.gz",
        "bash -c \"set -o pipefail; pg_dump orders | gzip > /b/x.gz\"",
        "ssh db1 'pg_dump orders' > /b/x.sql || exit 1",
        "find /tmp/reports -mtime +7 -delete",
    ] {
        assert!(!script(strict).contains("RB0507"), "{strict}");
    }
}

#[test]
fn wal_beside_nothing_but_dumps_and_segments_too_late_for_the_rpo_are_warnings() {
    let steps = |objectives: &str, steps: &str| {
        said_of(&format!("version: 1\nname: old\n{objectives}phases: [ {{ id: p, name: P }} ]\nsteps:\n{steps}"))
    };
    let archive = "  - { id: archive, phase: p, uses: postgres.configure_archiving, with: { database: main, archive_timeout: 10m } }\n";
    let dump = "  - { id: dump, phase: p, uses: postgres.dump, with: { database: main } }\n";
    let base = "  - { id: base, phase: p, uses: postgres.base_backup, with: { database: main } }\n";
    let both = format!("{archive}{dump}");
    assert!(steps("", &both).contains("RB0508"), "{}", steps("", &both));
    assert!(!steps("", &format!("{both}{base}")).contains("RB0508"));
    let wrong = "  - { id: a, phase: p, uses: backup.find, with: { database: main, kind: postgres.dump } }\n  - { id: s, phase: p, uses: postgres.restore_base, \
                 with: { database: main, backup: '{{ steps.a.backup }}' } }\n  - { id: r, phase: p, uses: postgres.recover, with: { database: main, staged: '{{ steps.s.staged }}' } }\n";
    assert!(steps("", wrong).contains("RB0508"));
    assert!(!steps("", &wrong.replace("postgres.dump", "postgres.base")).contains("RB0508"));
    let late = steps("objectives: { rpo: 5m }\n", archive);
    assert!(late.contains("RB0509") && late.contains("at most 4m"), "{late}");
    assert!(!steps("objectives: { rpo: 11m }\n", archive).contains("RB0509"));
    assert!(!steps("", archive).contains("RB0509"));
    let script = "  - id: a\n    phase: p\n    run: echo \"archive_timeout = 3600\" >> /data/postgresql.conf\n";
    assert!(steps("objectives: { rpo: 1h }\n", script).contains("RB0509"));
}

#[test]
fn an_option_that_a_store_or_a_step_does_not_have_is_an_error_that_names_the_nearest() {
    let cli = crate::support::cli::Cli::with(
        "version: 1\nname: old\nsteps:\n  - id: a\n    uses: store.put\n    with: { from: /etc/hostname, to: { store: s, key: x }, storage_clas: GLACIER }\n",
    );
    cli.file("inventory.yaml", "version: 1\nstores: { s: { url: 's3://b/x', region: x, sse_kms_key: y } }\n");
    let said = cli.run(&["check", "runbook.yaml"]).ends(3).err;
    assert!(said.contains("sse_kms_key") && said.contains("storage_clas"), "{said}");
    assert!(said.matches("RB0101").count() >= 2, "{said}");
}
