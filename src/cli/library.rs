//! Where runbooks come from: a path, `./runbooks` and its folders, then the ones shipped in the binary.

use std::path::{Path, PathBuf};

/// A shipped runbook: its path below `runbooks/` and its text.
pub struct Shipped {
    /// The path, for example `postgres/full-db-loss.yaml`.
    pub path: &'static str,
    /// The text.
    pub text: &'static str,
}

/// Every shipped runbook.
pub const SHIPPED: &[Shipped] = &[
    Shipped {
        path: "postgres/accidental-drop.yaml",
        text: include_str!("../../runbooks/postgres/accidental-drop.yaml"),
    },
    Shipped { path: "drills/quarterly-drill.yaml", text: include_str!("../../runbooks/drills/quarterly-drill.yaml") },
    Shipped {
        path: "drills/restore-test-dump.yaml",
        text: include_str!("../../runbooks/drills/restore-test-dump.yaml"),
    },
    Shipped { path: "drills/restore-test.yaml", text: include_str!("../../runbooks/drills/restore-test.yaml") },
    Shipped {
        path: "pgbackrest/full-db-loss-pgbackrest.yaml",
        text: include_str!("../../runbooks/pgbackrest/full-db-loss-pgbackrest.yaml"),
    },
    Shipped {
        path: "pgbackrest/pgbackrest-backup.yaml",
        text: include_str!("../../runbooks/pgbackrest/pgbackrest-backup.yaml"),
    },
    Shipped { path: "postgres/base-backup.yaml", text: include_str!("../../runbooks/postgres/base-backup.yaml") },
    Shipped {
        path: "postgres/compliance-export.yaml",
        text: include_str!("../../runbooks/postgres/compliance-export.yaml"),
    },
    Shipped { path: "postgres/copy-offsite.yaml", text: include_str!("../../runbooks/postgres/copy-offsite.yaml") },
    Shipped { path: "postgres/daily-backup.yaml", text: include_str!("../../runbooks/postgres/daily-backup.yaml") },
    Shipped {
        path: "postgres/data-corruption.yaml",
        text: include_str!("../../runbooks/postgres/data-corruption.yaml"),
    },
    Shipped { path: "postgres/full-db-loss.yaml", text: include_str!("../../runbooks/postgres/full-db-loss.yaml") },
    Shipped { path: "postgres/lift-freeze.yaml", text: include_str!("../../runbooks/postgres/lift-freeze.yaml") },
    Shipped { path: "postgres/pitr.yaml", text: include_str!("../../runbooks/postgres/pitr.yaml") },
    Shipped { path: "postgres/ransomware.yaml", text: include_str!("../../runbooks/postgres/ransomware.yaml") },
    Shipped {
        path: "postgres/region-failover.yaml",
        text: include_str!("../../runbooks/postgres/region-failover.yaml"),
    },
    Shipped { path: "postgres/restore-dump.yaml", text: include_str!("../../runbooks/postgres/restore-dump.yaml") },
    Shipped {
        path: "postgres/restore-in-place.yaml",
        text: include_str!("../../runbooks/postgres/restore-in-place.yaml"),
    },
    Shipped { path: "postgres/side-copy.yaml", text: include_str!("../../runbooks/postgres/side-copy.yaml") },
    Shipped {
        path: "postgres/setup-archiving.yaml",
        text: include_str!("../../runbooks/postgres/setup-archiving.yaml"),
    },
    Shipped { path: "postgres/table-recovery.yaml", text: include_str!("../../runbooks/postgres/table-recovery.yaml") },
];

/// Where a runbook was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A file.
    File(PathBuf),
    /// A shipped one, shown under this name.
    Shipped(&'static str),
}

impl Found {
    /// The name it is shown under.
    #[must_use]
    pub fn shown(&self) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Shipped(path) => Path::new("<shipped>").join(path),
        }
    }
}

/// Finds a runbook by path or name.
///
/// # Errors
/// Gives the names that exist when there is none, or all places when there are several.
pub fn find(name: &str) -> Result<Found, NotFound> {
    let path = Path::new(name);
    if let Some(shipped) = SHIPPED.iter().find(|shipped| name.strip_prefix("<shipped>/") == Some(shipped.path)) {
        return Ok(Found::Shipped(shipped.path));
    }
    let looks_like_path = name.contains('/') || path.extension().is_some();
    if path.is_file() || looks_like_path && path.exists() {
        return Ok(Found::File(path.to_owned()));
    }
    let stem = name.trim_end_matches(".yaml").trim_end_matches(".yml");
    let mut files = Vec::new();
    collect(Path::new("runbooks"), 0, &mut files);
    let matching: Vec<&PathBuf> = files.iter().filter(|file| names(file, stem)).collect();
    match matching.as_slice() {
        [one] => return Ok(Found::File((*one).clone())),
        [] => {}
        several => {
            return Err(NotFound::Several(
                name.to_owned(),
                several.iter().map(|path| path.display().to_string()).collect(),
            ));
        }
    }
    if let Some(path) = by_name(stem) {
        return Ok(Found::Shipped(path));
    }
    let mut known: Vec<String> =
        files.iter().filter_map(|file| Some(file.file_stem()?.to_string_lossy().into_owned())).collect();
    known.extend(SHIPPED.iter().filter_map(|s| Some(Path::new(s.path).file_stem()?.to_string_lossy().into_owned())));
    known.extend(beside(path));
    known.sort();
    known.dedup();
    Err(NotFound::None(name.to_owned(), known))
}

/// Files in the folder of a path that was not found, when their names are near.
fn beside(missing: &Path) -> Vec<String> {
    let folder = missing.parent().unwrap_or(Path::new(""));
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let files = std::fs::read_dir(here).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let yaml = files.filter(|file| file.extension().is_some_and(|end| end == "yaml" || end == "yml"));
    let near = yaml.filter(|file| file.file_name().is_some_and(|name| are_near(Path::new(name), missing)));
    near.filter_map(|file| Some(folder.join(file.file_name()?).display().to_string())).collect()
}

/// Whether two files are called nearly the same, whatever their folders and endings are.
pub fn are_near(one: &Path, other: &Path) -> bool {
    let stem = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let (one, other) = (stem(one), stem(other));
    strsim::damerau_levenshtein(&one, &other) <= 1.max(other.len() / 3)
}

/// Gives the text of a shipped runbook.
#[must_use]
pub fn shipped(path: &str) -> Option<&'static str> {
    SHIPPED.iter().find(|shipped| shipped.path == path).map(|shipped| shipped.text)
}

/// Finds a shipped runbook by its name.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static str> {
    let stem = name.trim_end_matches(".yaml").trim_end_matches(".yml");
    SHIPPED.iter().find(|shipped| names(Path::new(shipped.path), stem)).map(|shipped| shipped.path)
}

fn names(file: &Path, stem: &str) -> bool {
    file.file_stem().is_some_and(|name| name == stem) || file.with_extension("").ends_with(stem)
}

fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut entries: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    entries.sort();
    for entry in entries {
        if entry.is_dir() && depth < 8 {
            collect(&entry, depth + 1, files);
        } else if entry.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            files.push(entry);
        }
    }
}

/// No single runbook has that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotFound {
    /// None has it.
    #[error("there is no runbook `{0}`")]
    None(String, Vec<String>),
    /// Several have it.
    #[error("several runbooks are called `{0}`: {list}", list = .1.join(", "))]
    Several(String, Vec<String>),
}
