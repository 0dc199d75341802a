//! The names of WAL files in folders of other programs.

use crate::catalog::wal_file_of;
use crate::pgformat::WalFileName;

/// What packing appends to a name, the outermost first.
const ENDINGS: [&str; 6] = [".gpg", ".age", ".enc", ".gz", ".zst", ".lz4"];

/// Splits the name of a file into the WAL file it holds and the ending that packing gave it. Others pack history and
/// backup files too. `None` for what is no WAL file.
#[must_use]
pub fn foreign_wal_file(file: &str) -> Option<(WalFileName, &str)> {
    if let Some(found) = wal_file_of(file) {
        return Some(found);
    }
    let bare = ENDINGS.iter().fold(file, |name, ending| name.strip_suffix(ending).unwrap_or(name));
    let (name, ending) = file.split_at(bare.len());
    match name.parse().ok()? {
        name @ (WalFileName::History(_) | WalFileName::BackupHistory { .. }) => Some((name, ending)),
        // The order of its endings is none that packing gives.
        WalFileName::Segment(_) | WalFileName::PartialSegment(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::foreign_wal_file;

    #[test]
    fn history_and_backup_files_are_known_packed_too_and_other_files_are_not() {
        let split = |file: &str| foreign_wal_file(file).map(|(name, ending)| (name.to_string(), ending.to_owned()));
        for name in ["00000002.history", "000000010000000000000003", "000000010000000000000003.00000028.backup"] {
            for ending in ["", ".gz", ".zst.age"] {
                assert_eq!(split(&format!("{name}{ending}")), Some((name.to_owned(), ending.to_owned())));
            }
        }
        for file in ["00000002.history.tmp", "000000010000000000000003.part", "000000010000000000000003.age.gz", ".gz"]
        {
            assert_eq!(split(file), None, "{file}");
        }
    }
}
