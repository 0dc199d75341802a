//! The architecture is linted: which room uses which, how long files are, which words are refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The layer of every room and the rooms of its own layer it may use.
const ROOMS: &[(&str, u8, &[&str])] = &[
    ("base", 0, &[]),
    ("language", 1, &[]),
    ("event", 1, &["language"]),
    ("pgformat", 1, &[]),
    ("port", 2, &["action"]),
    ("action", 2, &[]),
    ("plan", 3, &[]),
    ("state", 3, &["plan"]),
    ("engine", 4, &[]),
    ("supervisor", 5, &[]),
    ("journal", 5, &[]),
    ("host", 5, &["supervisor"]),
    ("store", 5, &[]),
    ("transfer", 5, &[]),
    ("catalog", 5, &[]),
    ("vault", 5, &[]),
    ("lock", 5, &[]),
    ("actions", 6, &["wal"]),
    ("wal", 6, &[]),
    ("notify", 6, &[]),
    ("report", 7, &[]),
    ("cli", 8, &[]),
];

/// What actions must not see, though it lies below them.
const HIDDEN_FROM_ACTIONS: &[&str] = &["port", "engine", "plan", "state", "journal", "lock"];

/// The rooms of `actions/postgres`, each of which uses only those before it.
const POSTGRES: &[&str] = &[
    "cluster",
    "session",
    "stores",
    "backup",
    "restore",
    "archiving",
    "recovery",
    "logical",
    "side",
    "table",
    "check",
    "snapshot",
];

/// Module names that carry no noun.
const REFUSED_NAMES: &[&str] = &["util", "utils", "helpers", "common", "manager", "misc"];

/// The one file that knows how PostgreSQL's versions differ.
const VERSIONS: &str = "pgformat/version.rs";

/// What a comparison of such versions looks like.
const COMPARED: &[&str] = &[
    // A name against a number or a constant.
    r"(?i:major(\(\))?|server_version|version_num|catalog_version)\s*(<=|>=|<|>|==|!=)\s*[0-9A-Z]",
    // `server_version_num`, and what is made of it.
    r"version.*\b(9[0-6]|1[0-9])0_?000\b|\b(9[0-6]|1[0-9])0_?000\.\.|/ 10_?000\b",
    // A catalog version.
    r"\b20[0-9]_[0-9]{3}_[0-9]{3}\b",
    // Text cut at its dot.
    r"version\.split\('\.'\)\.next",
];

/// Lines of one file without its tests.
const MAX_LINES: usize = 500;

fn sources() -> Vec<(PathBuf, String)> {
    fn collect(folder: &Path, into: &mut Vec<(PathBuf, String)>) {
        let mut entries: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                collect(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                into.push((path, text));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    collect(&root, &mut found);
    found.into_iter().map(|(path, text)| (path.strip_prefix(&root).unwrap().to_owned(), text)).collect()
}

fn room_of(path: &Path) -> String {
    path.components().next().unwrap().as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned()
}

/// The text before the tests, without comments.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

fn used_rooms(code: &str) -> Vec<String> {
    let mut used = Vec::new();
    for (start, _) in code.match_indices("crate::") {
        let rest = &code[start + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut word = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        used.push(std::mem::take(&mut word));
                        continue;
                    }
                    _ => {}
                }
                word.push(c);
            }
            used.push(word);
        } else {
            used.push(rest.to_owned());
        }
    }
    let first =
        |path: &String| path.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    used.iter().map(first).filter(|name| !name.is_empty()).collect()
}

#[test]
fn rooms_use_only_what_lies_below_them() {
    let layers: BTreeMap<&str, (u8, &[&str])> =
        ROOMS.iter().map(|(name, layer, same)| (*name, (*layer, *same))).collect();
    let mut broken = Vec::new();
    for (path, text) in sources() {
        let room = room_of(&path);
        if matches!(room.as_str(), "main" | "lib") || path.ends_with("tests.rs") {
            continue;
        }
        let Some((layer, same)) = layers.get(room.as_str()) else {
            broken.push(format!("{}: the room `{room}` is not in the table", path.display()));
            continue;
        };
        for used in used_rooms(&code(&text)) {
            let Some((their_layer, _)) = layers.get(used.as_str()) else { continue };
            let fits = used == room || their_layer < layer || (their_layer == layer && same.contains(&used.as_str()));
            if !fits {
                broken.push(format!(
                    "{}: `{room}` (L{layer}) uses `{used}` (L{their_layer}): downwards only",
                    path.display()
                ));
            }
            if room == "actions" && HIDDEN_FROM_ACTIONS.contains(&used.as_str()) {
                broken.push(format!("{}: actions may not see `{used}`", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

/// The rooms of `actions/postgres` that code names by their paths from the crate.
fn used_postgres_rooms(code: &str) -> Vec<String> {
    let prefix = "crate::actions::postgres::";
    let names = code.match_indices(prefix).flat_map(|(start, _)| {
        let rest = &code[start + prefix.len()..];
        let group = rest.strip_prefix('{').and_then(|group| group.split_once('}')).map(|(group, _)| group);
        group.map_or_else(|| vec![rest], |group| group.split(',').collect())
    });
    let first = |path: &str| path.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    names.map(first).filter(|name| POSTGRES.contains(&name.as_str())).collect()
}

#[test]
fn the_rooms_of_postgres_use_only_what_lies_below_them() {
    let below = Path::new("actions/postgres");
    let (mut broken, mut arrows) = (Vec::new(), 0);
    for (path, text) in sources() {
        let Ok(inside) = path.strip_prefix(below) else { continue };
        if inside == Path::new("mod.rs") {
            continue;
        }
        let room = inside.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        let Some(own) = POSTGRES.iter().position(|name| *name == room) else {
            broken.push(format!("{}: `{room}` is no room of the table", path.display()));
            continue;
        };
        let code = code(&text);
        for used in used_postgres_rooms(&code) {
            arrows += 1;
            if POSTGRES.iter().position(|name| *name == used).is_some_and(|theirs| theirs > own) {
                broken.push(format!("{}: `{room}` uses `{used}`: downwards only", path.display()));
            }
        }
        // What leads out of the room by `super` is seen by nobody who looks for its arrows.
        let is_root = inside.file_name().is_some_and(|name| name == "mod.rs");
        let depth = inside.components().count() - usize::from(is_root);
        if code.contains(&format!("use {}", "super::".repeat(depth))) {
            broken
                .push(format!("{}: leads out of `{room}` by `super`: say `crate::actions::postgres`", path.display()));
        }
    }
    assert!(arrows > 100, "only {arrows} uses were seen");
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn files_carry_one_noun_each() {
    let mut broken = Vec::new();
    for (path, text) in sources() {
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        if REFUSED_NAMES.contains(&stem.as_str())
            || path.iter().any(|part| REFUSED_NAMES.contains(&&*part.to_string_lossy()))
        {
            broken.push(format!("{}: a module is named after what it is, not `{stem}`", path.display()));
        }
        let lines = text.split("#[cfg(test)]").next().unwrap_or_default().lines().count();
        if lines > MAX_LINES && stem != "tests" {
            broken.push(format!("{}: {lines} lines, at most {MAX_LINES}", path.display()));
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn refused_words_occur_nowhere() {
    let mut broken = Vec::new();
    for (path, text) in sources() {
        let code = code(&text);
        let room = room_of(&path);
        for (number, line) in code.lines().enumerate() {
            let trimmed = line.trim();
            let mut refuse = |why: &str| broken.push(format!("{}:{}: {why}", path.display(), number + 1));
            if trimmed.contains("#[allow(") {
                refuse("use `#[expect(…, reason = …)]`");
            }
            if trimmed.contains("todo!(") || trimmed.contains("unimplemented!(") {
                refuse("nothing unfinished is kept");
            }
            if matches!(room.as_str(), "action" | "actions") && trimmed.contains("dry_run") {
                refuse("an action does not know of dry runs: it holds reading handles or it runs");
            }
            if trimmed.contains("thread::sleep") && !matches!(room.as_str(), "supervisor" | "wal") {
                refuse("blocking sleep outside the supervisor and the WAL commands");
            }
            if matches!(room.as_str(), "plan" | "state" | "event")
                && (trimmed.contains("std::fs") || trimmed.contains("std::env"))
            {
                refuse("this room does no I/O");
            }
        }
        if text.contains("TODO") || text.contains("FIXME") || text.contains("XXX") {
            broken.push(format!("{}: a note to oneself", path.display()));
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn versions_of_postgresql_are_compared_in_one_place() {
    let compared = regex_lite::Regex::new(&COMPARED.join("|")).unwrap();
    let mut broken = Vec::new();
    for (path, text) in sources().into_iter().filter(|(path, _)| !path.ends_with(VERSIONS)) {
        for (number, line) in code(&text).lines().enumerate().filter(|(_, line)| compared.is_match(line)) {
            broken.push(format!(
                "{}:{}: ask `Major::has` of src/{VERSIONS}: {}",
                path.display(),
                number + 1,
                line.trim()
            ));
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn a_comparison_of_versions_is_seen_in_every_dress() {
    let compared = regex_lite::Regex::new(&COMPARED.join("|")).unwrap();
    let dresses = [
        "if facts.version_num >= 150_000 {",
        "170_000.. => \"d.datlocale\",",
        "let version = number / 10_000;",
        "if record.major() >= 15 {",
        "if self.major <= 14 { 0x02 }",
        "if control.catalog_version >= FIFTEEN {",
        "const FIFTEEN: u32 = 202_209_061;",
        "version.parse::<u32>().is_ok_and(|major| major >= LINKS_FROM)",
        "facts.server_version.split('.').next()",
    ];
    for line in dresses {
        assert!(compared.is_match(line), "{line}");
    }
    for line in ["if table.version != 1 {", "dumped > origin.major", "if version != VERSION {", "members: 100_000 }"] {
        assert!(!compared.is_match(line), "{line}");
    }
}
