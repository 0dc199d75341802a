//! Recovery settings in `postgresql.auto.conf`: appended as a marked block, removed after promotion.
//!
//! The file belongs to the backup and holds what `ALTER SYSTEM` set, so it is never overwritten
//! (facts 2.3.2). Within it the last line of a name wins, so a block at the end decides.

use std::fmt::Write as _;
use std::path::Path;

use super::pg_control::cannot;
use crate::action::{ActionError, ReadFiles};

/// The file of settings that the server itself writes.
pub(crate) const FILE: &str = "postgresql.auto.conf";

/// The file that tells a server how to start its recovery.
pub(crate) const RECOVERY_SIGNAL: &str = "recovery.signal";
/// The file that tells a server to stay in recovery.
pub(crate) const STANDBY_SIGNAL: &str = "standby.signal";

const OPEN: &str = "# >>> runbook: recovery settings, removed after promotion";
const CLOSE: &str = "# <<< runbook";

/// Every way to say where recovery ends; the server accepts one of them only.
pub(crate) const TARGETS: [&str; 5] =
    ["recovery_target", "recovery_target_lsn", "recovery_target_name", "recovery_target_time", "recovery_target_xid"];

/// What every recovery sets, whatever its target: what the backup brought along would change how it replays, or, at each
/// restartpoint of any archive recovery, remove the archive that is replayed from (manual, `archive_cleanup_command`).
pub(crate) const FIXED: [(&str, &str); 5] = [
    ("recovery_end_command", ""),
    ("archive_cleanup_command", ""),
    ("recovery_min_apply_delay", "0"),
    ("hot_standby", "on"),
    ("wal_retrieve_retry_interval", "1s"),
];

/// Reads the settings that came with a restored data directory; nothing where the backup had no such file.
///
/// # Errors
/// Fails when the file is there and cannot be read: its settings would be lost.
pub(crate) fn restored(files: &dyn ReadFiles, pgdata: &Path) -> Result<String, ActionError> {
    let auto = pgdata.join(FILE);
    if files.facts(&auto).map_err(|error| cannot(&error))?.is_none() {
        return Ok(String::new());
    }
    files.read(&auto, 1 << 24).map(|bytes| text_of(&bytes)).map_err(|error| cannot(&error))
}

/// Behind the last character that anybody uses: `MASK` and a byte stand for a byte that is no UTF-8.
const MASK: u32 = 0x10_FF00;

/// Reads a file of settings: the server writes each value in the encoding of the database whose session set it, so it
/// need not be UTF-8, nor one encoding. [`bytes_of`] gives every byte back.
pub(crate) fn text_of(bytes: &[u8]) -> String {
    let masked = |byte: &u8| char::from_u32(MASK + u32::from(*byte)).unwrap_or(char::REPLACEMENT_CHARACTER);
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for own in chunk.valid().chars() {
            match u32::from(own) >= MASK {
                true => text.extend(own.encode_utf8(&mut [0; 4]).as_bytes().iter().map(masked)),
                false => text.push(own),
            }
        }
        text.extend(chunk.invalid().iter().map(masked));
    }
    text
}

/// Writes what [`text_of`] read, and what came to it.
pub(crate) fn bytes_of(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for one in text.chars() {
        match u32::from(one).checked_sub(MASK).and_then(|byte| u8::try_from(byte).ok()) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(one.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// Appends `settings` as a marked block. A block that is there already is replaced.
#[must_use]
pub(crate) fn with_block(content: &str, settings: &[(String, String)]) -> String {
    let mut text = without_block(content);
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(OPEN);
    text.push('\n');
    for (name, value) in settings {
        let _ = writeln!(text, "{name} = {}", quoted(value));
    }
    text.push_str(CLOSE);
    text.push('\n');
    text
}

/// Adds `settings` at the end of the marked block; a text without one gets one.
#[must_use]
pub(crate) fn within_block(content: &str, settings: &[(String, String)]) -> String {
    let Some(at) = content.rfind(CLOSE) else { return with_block(content, settings) };
    let mut text = content[..at].to_owned();
    for (name, value) in settings {
        let _ = writeln!(text, "{name} = {}", quoted(value));
    }
    text + &content[at..]
}

/// Adds a setting that outlives the recovery: in front of the marked block, behind every other line.
#[must_use]
pub(crate) fn with_lasting(content: &str, name: &str, value: &str) -> String {
    let (mut text, block) = match content.find(OPEN) {
        Some(at) => (content[..at].to_owned(), &content[at..]),
        None => (content.to_owned(), ""),
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let _ = writeln!(text, "{name} = {}", quoted(value));
    text + block
}

/// Sets what `ALTER SYSTEM` sets in a file that no server reads meanwhile: every line of the name goes, and `value`, where there is
/// one, comes in its place.
#[must_use]
pub(crate) fn put(content: &str, name: &str, value: Option<&str>) -> String {
    let is_other = |line: &&str| last_value(line, name).is_none();
    let text: String = content.split_inclusive('\n').filter(is_other).collect();
    match value {
        Some(value) => with_lasting(&text, name, value),
        None => text,
    }
}

/// Removes the marked block; everything else stays byte for byte.
#[must_use]
pub(crate) fn without_block(content: &str) -> String {
    let mut text = String::with_capacity(content.len());
    let mut inside = false;
    for line in content.split_inclusive('\n') {
        match line.trim_end() {
            OPEN => inside = true,
            CLOSE if inside => inside = false,
            _ if !inside => text.push_str(line),
            _ => {}
        }
    }
    text
}

/// Gives the value that a configuration file sets last, without what it includes.
#[must_use]
pub(crate) fn last_value(content: &str, name: &str) -> Option<String> {
    let value = |line: &str| {
        let rest = line.trim_start().strip_prefix(name)?;
        let rest = rest.strip_prefix(|next: char| next == '=' || next.is_whitespace())?;
        let rest = rest.trim_start().trim_start_matches('=').trim_start();
        let Some(quoted) = rest.strip_prefix('\'') else {
            return Some(rest.split(['#', ' ', '\t', '\r']).next().unwrap_or_default().to_owned());
        };
        let end = quoted.replace("''", "\u{0}\u{0}").find('\'').unwrap_or(quoted.len());
        Some(quoted[..end].replace("''", "'"))
    };
    content.lines().filter_map(value).next_back()
}

/// Writes a value as the server's configuration files want it.
#[must_use]
pub(crate) fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// Quotes one word for the shell that `pg_ctl` and `restore_command` go through.
#[must_use]
pub(crate) fn shell_word(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
    use super::*;

    fn settings(value: &str) -> Vec<(String, String)> {
        vec![("restore_command".to_owned(), value.to_owned())]
    }

    #[test]
    fn a_setting_is_put_into_the_file_of_a_server_that_is_down() {
        let before = "# Do not edit\nwork_mem = '17MB'\narchive_mode = 'on'\narchive_mode_of_mine.a = '1'\n";
        let after = put(before, "archive_mode", None);
        assert_eq!(after, "# Do not edit\nwork_mem = '17MB'\narchive_mode_of_mine.a = '1'\n");
        assert_eq!(
            put(&after, "work_mem", Some("it's")),
            "# Do not edit\narchive_mode_of_mine.a = '1'\nwork_mem = 'it''s'\n"
        );
        assert_eq!(put("a = 1", "b", Some("2")), "a = 1\nb = '2'\n");
    }

    #[test]
    fn what_alter_system_set_survives_the_block_and_its_removal() {
        let before = "# Do not edit this file manually!\nwork_mem = '17MB'\n";
        let during = with_block(before, &settings("cp /a/%f \"%p\""));
        assert!(during.starts_with(before));
        assert!(during.contains("restore_command = 'cp /a/%f \"%p\"'\n"));
        assert_eq!(without_block(&during), before);
    }

    #[test]
    fn every_byte_of_another_encoding_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        for bytes in [&all[..], b"search_path = 'sch\xE9ma'\n", "é \u{10FF41} \u{FFFD}".as_bytes(), b"\xF4\x8F\xBD\x81"]
        {
            assert_eq!(bytes_of(&text_of(bytes)), bytes);
        }
        let before = text_of(b"search_path = 'sch\xE9ma'\n");
        let during = with_block(&before, &settings("/é/x"));
        assert!(bytes_of(&during).starts_with(b"search_path = 'sch\xE9ma'\n# >>>"));
        assert_eq!(without_block(&during), before);
    }

    #[test]
    fn writing_the_block_twice_leaves_one() {
        let once = with_block("a = '1'\n", &settings("x"));
        assert_eq!(with_block(&once, &settings("y")).matches(OPEN).count(), 1);
    }

    #[test]
    fn what_is_added_within_the_block_goes_with_it() {
        let more = [("max_connections".to_owned(), "100".to_owned())];
        let added = within_block(&with_block("a = '1'\n", &settings("x")), &more);
        assert!(added.contains("restore_command = 'x'\nmax_connections = '100'\n# <<<"), "{added}");
        assert_eq!(without_block(&added), "a = '1'\n");
    }

    #[test]
    fn what_is_to_last_stands_before_the_block_and_outlives_it() {
        let lasting = with_lasting(&with_block("a = '1'", &settings("x")), "a", "it's 2");
        assert!(lasting.contains("a = 'it''s 2'\n# >>>"), "{lasting}");
        assert_eq!(without_block(&lasting), "a = '1'\na = 'it''s 2'\n");
        assert_eq!(with_lasting("", "a", "1"), "a = '1'\n");
    }

    #[test]
    fn a_file_without_final_newline_keeps_its_last_line_whole() {
        assert!(with_block("a = '1'", &settings("x")).starts_with("a = '1'\n# >>>"));
    }

    #[test]
    fn the_last_line_of_a_name_wins_whatever_its_form() {
        let text = "#a = 'x'\na = 'one, two' # why\nab = 3\n  a  three\n";
        assert_eq!(last_value(text, "a").as_deref(), Some("three"));
        assert_eq!(last_value("a = 'it''s, two' # 'why'\n", "a").as_deref(), Some("it's, two"));
        assert_eq!(last_value("a=1#why\n", "a").as_deref(), Some("1"));
        assert_eq!(last_value("ab = 1\n", "a"), None);
    }

    #[test]
    fn quotes_and_backslashes_are_escaped() {
        assert_eq!(quoted(r"it's \n"), r"'it''s \\n'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
    }
}
