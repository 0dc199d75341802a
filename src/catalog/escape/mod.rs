//! The escape hatch: `RESTORE.md` and `restore.sh`, which restore a backup without this program.
//!
//! Both are filled from the manifest when the backup is committed. The script is POSIX sh and calls only the
//! usual programs; it verifies first, never overwrites, and says what to do next.

mod page;
mod script;
mod unpack;

use super::{BackupPlace, Manifest};

/// What is written beside the manifest, by name. A backup whose objects lie elsewhere has no script.
#[must_use]
pub fn pages(place: &BackupPlace, manifest: &Manifest) -> Vec<(&'static str, String)> {
    let mut pages = vec![("RESTORE.md", page::page(place, manifest))];
    if manifest.objects.iter().all(|object| object.key.is_none()) {
        pages.push(("restore.sh", script::script(place, manifest)));
    }
    pages
}

/// A value inside a comment or a sentence: one line, nothing a terminal obeys.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
