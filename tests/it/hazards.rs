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
    let missing: Vec<&&str> = named.iter().filter(|name| !code.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty() && named.len() > 40, "{missing:?}");
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
