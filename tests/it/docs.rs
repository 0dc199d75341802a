//! What the documentation shows is true: every file in it is accepted, every link leads somewhere.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use runbook::pgformat::{Change, Major};

/// A fenced block of a document.
struct Block {
    place: String,
    info: String,
    text: String,
}

fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = vec![root.join("README.md")];
    for entry in std::fs::read_dir(root.join("docs")).expect("the folder docs") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The blocks of a document, without the indentation of the list they may stand in.
fn blocks(path: &Path) -> Vec<Block> {
    let text = std::fs::read_to_string(path).expect("a document");
    let mut found = Vec::new();
    let mut open: Option<(usize, Block)> = None;
    for (number, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(info)) => {
                let place = format!("{}:{}", path.display(), number + 1);
                open = Some((indent, Block { place, info: info.trim().to_owned(), text: String::new() }));
            }
            (Some(_), Some("")) => found.extend(open.take().map(|(_, block)| block)),
            (Some((indent, block)), _) => {
                block.text.push_str(line.get(*indent..).unwrap_or_default());
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{}: a block is not closed", path.display());
    found
}

fn runbook(folder: &Path, args: &[&str]) -> (bool, String) {
    let mut command = Command::cargo_bin("runbook").expect("the program");
    let output = command.current_dir(folder).env_remove("RUNBOOK_INVENTORY").args(args).output().expect("it runs");
    (
        output.status.success(),
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
    )
}

/// A runbook that asks nothing of an inventory.
const EMPTY: &str = "version: 1\nname: empty\nsteps:\n  - { id: nothing, run: ':' }\n";

#[test]
fn every_whole_file_in_the_documentation_is_accepted() {
    let inventory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/inventory.yaml");
    let mut checked = 0;
    for block in documents().iter().flat_map(|path| blocks(path)).filter(|block| block.info == "yaml") {
        let folder = tempfile::tempdir().expect("a folder");
        let is_runbook = block.text.lines().any(|line| line.starts_with("steps:"));
        let (runbook_text, inventory_text) = match is_runbook {
            true => (block.text.clone(), std::fs::read_to_string(&inventory).expect("the example")),
            false => (EMPTY.to_owned(), block.text.clone()),
        };
        std::fs::write(folder.path().join("x.yaml"), runbook_text).expect("written");
        std::fs::write(folder.path().join("inventory.yaml"), inventory_text).expect("written");
        let (accepted, said) = runbook(folder.path(), &["check", "--strict", "x.yaml"]);
        assert!(accepted, "{}: {said}", block.place);
        checked += 1;
    }
    assert!(checked >= 4, "only {checked} files were found");
}

#[test]
fn every_wal_configuration_in_the_documentation_is_accepted() {
    let mut checked = 0;
    for block in documents().iter().flat_map(|path| blocks(path)).filter(|block| block.info == "yaml wal") {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("wal.yaml");
        std::fs::write(&path, &block.text).expect("written");
        runbook::wal::Config::load(&path).unwrap_or_else(|error| panic!("{}: {error}", block.place));
        checked += 1;
    }
    assert!(checked >= 2, "only {checked} configurations were found");
}

#[test]
fn every_price_table_in_the_documentation_is_accepted() {
    let mut checked = 0;
    for block in documents().iter().flat_map(|path| blocks(path)).filter(|block| block.info == "yaml prices") {
        runbook::catalog::cost::PriceTable::parse(&block.text)
            .unwrap_or_else(|error| panic!("{}: {error}", block.place));
        checked += 1;
    }
    assert!(checked >= 1, "no price table was found");
}

#[test]
fn every_block_says_what_it_holds() {
    const KINDS: [&str; 9] = ["yaml", "yaml fragment", "yaml wal", "yaml prices", "sh", "sql", "ini", "text", ""];
    for block in documents().iter().flat_map(|path| blocks(path)) {
        assert!(KINDS.contains(&block.info.as_str()), "{}: `{}`", block.place, block.info);
    }
}

#[test]
fn every_link_to_a_file_leads_to_one() {
    let mut followed = 0;
    for path in documents() {
        let text = std::fs::read_to_string(&path).expect("a document");
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap_or_default();
            if target.contains("://") || target.starts_with('#') {
                continue;
            }
            let file = target.split('#').next().unwrap_or_default();
            let there = path.parent().expect("a folder").join(file);
            assert!(there.exists(), "{}: `{target}` leads nowhere", path.display());
            followed += 1;
        }
    }
    assert!(followed > 5, "only {followed} links were found");
}

#[test]
fn the_table_of_versions_is_the_one_that_the_program_goes_by() {
    let row = |change: &Change| format!("| {} | {} | {} |\n", change.since(), change.summary(), change.source());
    let rows: String = Change::ALL.iter().map(row).collect();
    let table = format!("| since | what | as told by |\n|---|---|---|\n{rows}");
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/postgresql.md")).expect("it");
    assert!(text.contains(&table), "docs/postgresql.md lacks this table:\n{table}");
    let range = format!("PostgreSQL {} to {} ", Major::OLDEST, Major::NEWEST);
    assert!(text.contains(&range), "docs/postgresql.md lacks `{range}`");
}
