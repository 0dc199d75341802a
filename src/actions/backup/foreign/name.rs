//! What the names of others' files say.

use crate::base::Timestamp;

/// Endings of encrypted files.
const ENCRYPTED: [&str; 3] = [".gpg", ".age", ".enc"];
/// Endings of compressed files.
const COMPRESSED: [&str; 3] = [".gz", ".zst", ".lz4"];
/// Endings of dumps, before compression.
const DUMPS: [&str; 5] = ["sql", "dump", "backup", "pgdump", "custom"];
/// Endings of files that say something of another file.
const BESIDE: [&str; 6] = [".sha256", ".sha512", ".md5", ".sig", ".asc", ".log"];

/// The last part of a key.
pub(super) fn file(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or_default()
}

/// A name without what compression and encryption appended to it.
pub(super) fn bare(file: &str) -> &str {
    let strip = |text: &'_ str, endings: &[&str]| {
        endings.iter().find_map(|ending| Some(text.strip_suffix(ending)?.len())).unwrap_or(text.len())
    };
    let plain = &file[..strip(file, &ENCRYPTED)];
    &plain[..strip(plain, &COMPRESSED)]
}

/// Tells a dated dump: what its name has before the time, and the time, in UTC.
pub(super) fn dated_dump(file: &str) -> Result<(String, Timestamp), String> {
    if let Some(ending) = BESIDE.iter().find(|ending| file.ends_with(*ending)) {
        return Err(format!("a `{ending}` file says something of another one; digests are made anew"));
    }
    let unknown = || "neither a dated dump, nor a part of a base backup, nor WAL".to_owned();
    let (stem, ending) = bare(file).rsplit_once('.').ok_or_else(unknown)?;
    if !DUMPS.contains(&ending) {
        return Err(unknown());
    }
    let undated = || "its name ends in no time (`NAME_YYYYMMDD_HHMMSS`), so its age is not known".to_owned();
    if !stem.is_ascii() {
        return Err(undated());
    }
    // With and without dashes in the date.
    [17, 15].into_iter().find_map(|length| stamped(stem, length)).ok_or_else(undated)
}

fn stamped(stem: &str, length: usize) -> Option<(String, Timestamp)> {
    let (name, stamp) = stem.split_at_checked(stem.len().checked_sub(length)?)?;
    let name = name.strip_suffix(['_', '-']).filter(|name| !name.is_empty())?;
    let (date, time) = stamp.split_at_checked(length - 7)?;
    let date = if length == 17 { dashed(date)? } else { date.to_owned() };
    let time = time.strip_prefix(['_', '-', 'T'])?;
    if !date.bytes().chain(time.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let text = format!("{}-{}-{}T{}:{}:{}Z", &date[..4], &date[4..6], &date[6..], &time[..2], &time[2..4], &time[4..]);
    Some((name.to_owned(), text.parse().ok()?))
}

/// `2026-01-28` without its dashes.
fn dashed(date: &str) -> Option<String> {
    let bytes = date.as_bytes();
    (bytes.get(4) == Some(&b'-') && bytes.get(7) == Some(&b'-')).then(|| date.replace('-', "")).filter(|d| d.len() == 8)
}

#[cfg(test)]
mod tests {
    use super::{bare, dated_dump};

    fn of(file: &str) -> Option<(String, String)> {
        dated_dump(file).ok().map(|(name, at)| (name, at.to_string()))
    }

    #[test]
    fn dated_dumps_are_recognised_and_nothing_else() {
        let at = |name: &str| Some((name.to_owned(), "2026-01-28T14:30:02Z".to_owned()));
        assert_eq!(of("orders_20260128_143002.sql.gz"), at("orders"));
        assert_eq!(of("my-db-20260128-143002.dump"), at("my-db"));
        assert_eq!(of("crew_2026-01-28_143002.dump"), at("crew"));
        assert_eq!(of("orders_20260128_143002.sql.gz.gpg"), at("orders"));
        for other in [
            "orders_20260128.sql",
            "orders_20261328_143002.sql",
            "_20260128_143002.sql",
            "orders_20260128_143002.txt",
            "orders_20260128_143002.sql.gz.sha256",
            "000000010000000000000002",
            "sql",
            "é_20260128_143002.sql",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn a_name_is_bare_without_what_packing_appended() {
        assert_eq!(bare("base.tar.gz.age"), "base.tar");
        assert_eq!(bare("16385.tar"), "16385.tar");
        assert_eq!(bare("backup_manifest.gpg"), "backup_manifest");
    }
}
