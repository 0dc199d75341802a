//! The names of WAL files as objects: under their own names, or packed, with an ending for each step.

use super::CatalogError;
use super::key::{history_prefix, wal_key, wal_prefix};
use crate::action::{ObjectKey, ReadStore};
use crate::pgformat::{SystemId, WalFileName};

/// How names of packed objects end: after compression, then after encryption.
const COMPRESSED: [&str; 3] = [".zst", ".gz", ".lz4"];
const ENCRYPTED: [&str; 3] = [".age", ".enc", ".gpg"];

/// Splits an object's name into the WAL file it holds and the ending that packing gave it; the ending is
/// empty when the object is the file itself. `None` for what is no WAL file.
///
/// Only segments are packed: histories and backup labels hold positions, and no key may be needed to
/// know where the WAL of a timeline ends.
#[must_use]
pub fn wal_file_of(object: &str) -> Option<(WalFileName, &str)> {
    if let Ok(name) = object.parse() {
        return Some((name, ""));
    }
    let strip = |text: &'_ str, endings: &[&str]| {
        endings.iter().find_map(|ending| Some(text.strip_suffix(ending)?.len())).unwrap_or(text.len())
    };
    let compressed = &object[..strip(object, &ENCRYPTED)];
    let (name, ending) = object.split_at(strip(compressed, &COMPRESSED));
    match name.parse().ok().filter(|_| !ending.is_empty())? {
        name @ (WalFileName::Segment(_) | WalFileName::PartialSegment(_)) => Some((name, ending)),
        WalFileName::History(_) | WalFileName::BackupHistory { .. } => None,
    }
}

/// Where a WAL file lies in an archive: what the key of its object says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalPlace {
    /// What everything of its source begins with.
    pub prefix: String,
    /// The cluster.
    pub system_id: SystemId,
    /// The file.
    pub name: WalFileName,
}

impl WalPlace {
    /// Reads a key; `None` when no WAL file of an archive lies there.
    #[must_use]
    pub fn of(object: &ObjectKey) -> Option<Self> {
        let mut parts = object.as_str().rsplitn(5, '/');
        let (file, folder, system, wal, prefix) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let (name, ending) = wal_file_of(file)?;
        let place = Self { prefix: prefix.to_owned(), system_id: system.parse().ok()?, name };
        let own = packed_wal_key(prefix, place.system_id, name, ending).ok()?;
        (wal == "wal" && !folder.is_empty() && own == *object).then_some(place)
    }
}

/// Returns the key of a file of the WAL archive that is packed with `ending`.
///
/// # Errors
/// Fails when the prefix or the ending cannot be part of a key.
pub fn packed_wal_key(
    prefix: &str,
    system_id: SystemId,
    name: WalFileName,
    ending: &str,
) -> Result<ObjectKey, CatalogError> {
    let text = format!("{}{ending}", wal_key(prefix, system_id, name)?);
    text.parse().map_err(|_| CatalogError::Key(text))
}

/// Lists the objects that hold one file of the WAL archive, however it is packed; one under its own name is first.
///
/// # Errors
/// Fails when the store does.
pub async fn wal_objects(
    store: &dyn ReadStore,
    prefix: &str,
    system_id: SystemId,
    name: WalFileName,
) -> Result<Vec<ObjectKey>, CatalogError> {
    let folder = match name {
        WalFileName::History(_) => history_prefix(prefix, system_id),
        WalFileName::Segment(_) | WalFileName::PartialSegment(_) | WalFileName::BackupHistory { .. } => {
            wal_prefix(prefix, system_id, name.timeline())
        }
    };
    Ok(store.which(&format!("{folder}{name}"), &endings_of(name)).await?)
}

/// How objects can end that hold a file; nothing first, for one under its own name.
fn endings_of(name: WalFileName) -> Vec<String> {
    let one_of = |known: &[&'static str]| [""].into_iter().chain(known.iter().copied()).collect::<Vec<_>>();
    match name {
        WalFileName::Segment(_) | WalFileName::PartialSegment(_) => {
            let encrypted = one_of(&ENCRYPTED);
            let both = |compressed: &str| encrypted.iter().map(|ending| format!("{compressed}{ending}")).collect();
            one_of(&COMPRESSED).into_iter().flat_map::<Vec<_>, _>(both).collect()
        }
        WalFileName::History(_) | WalFileName::BackupHistory { .. } => vec![String::new()],
    }
}

#[cfg(test)]
mod tests {
    use super::{WalPlace, endings_of, wal_file_of};

    const SEGMENT: &str = "000000010000000000000003";

    fn split(object: &str) -> Option<(String, &str)> {
        wal_file_of(object).map(|(name, ending)| (name.to_string(), ending))
    }

    #[test]
    fn a_packed_segment_is_known_by_its_endings() {
        for ending in ["", ".zst", ".zst.age", ".age", ".gz.gpg", ".lz4.enc"] {
            for name in [SEGMENT.to_owned(), format!("{SEGMENT}.partial")] {
                assert_eq!(split(&format!("{name}{ending}")), Some((name, ending)));
            }
        }
    }

    #[test]
    fn a_key_tells_the_archive_the_cluster_and_the_file() {
        let place = |key: &str| WalPlace::of(&key.parse().expect("a key")).map(|place| (place.prefix, place.name));
        let name = SEGMENT.parse().expect("a name");
        let key = |ending: &str| format!("a/b/wal/7123456789012345678/00000001/{SEGMENT}{ending}");
        assert_eq!(place(&key("")), Some(("a/b".to_owned(), name)));
        assert_eq!(place(&key(".zst.age")), Some(("a/b".to_owned(), name)));
        for other in [
            format!("wal/7123456789012345678/00000001/{SEGMENT}"),
            format!("a/wal/7123456789012345678/00000002/{SEGMENT}"),
            format!("a/base/7123456789012345678/00000001/{SEGMENT}"),
            format!("a/wal/main/00000001/{SEGMENT}"),
            "a/wal/cluster".to_owned(),
        ] {
            assert_eq!(place(&other), None, "{other}");
        }
    }

    #[test]
    fn every_ending_that_is_known_is_looked_for_once() {
        let parsed = |name: &str| name.parse().expect("a name");
        let (segment, history) = (parsed(SEGMENT), parsed("00000002.history"));
        let endings = endings_of(segment);
        assert_eq!((endings[0].as_str(), endings.len()), ("", 16));
        for ending in &endings {
            assert_eq!(split(&format!("{SEGMENT}{ending}")), Some((SEGMENT.to_owned(), ending.as_str())));
        }
        assert_eq!(endings_of(history), [""]);
    }

    #[test]
    fn what_is_no_wal_file_is_none_whatever_it_ends_in() {
        for object in
            ["cluster", ".zst", &format!("{SEGMENT}.tmp"), &format!("{SEGMENT}.age.zst"), "00000002.history.zst"]
        {
            assert_eq!(split(object), None, "{object}");
        }
        assert_eq!(split("00000002.history"), Some(("00000002.history".to_owned(), "")));
    }
}
