//! `backup_label` inside a base backup, and the `.backup` file that the server archives.

use super::lsn::{Lsn, Timeline};
use super::segment::SegmentName;

/// Where a base backup began, and in a `.backup` file where it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupLabel {
    /// Where replay begins.
    pub start: Lsn,
    /// The segment that holds `start`.
    pub start_segment: SegmentName,
    /// The backup's checkpoint record.
    pub checkpoint: Lsn,
    /// The timeline it began on.
    pub start_timeline: Option<Timeline>,
    /// `streamed` for `pg_basebackup`.
    pub method: Option<String>,
    /// `primary` or `standby`.
    pub from: Option<String>,
    /// The label given by who took it.
    pub label: Option<String>,
    /// When it began, as the server wrote it in its own time zone.
    pub start_time: Option<String>,
    /// Where it ended (`.backup` files only).
    pub stop: Option<Lsn>,
    /// When it ended, as the server wrote it (`.backup` files only).
    pub stop_time: Option<String>,
    /// The position of the backup this one is an increment of.
    pub incremental_from: Option<Lsn>,
}

/// The text is no `backup_label`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackupLabelError {
    /// A line that must be there is not.
    #[error("the line `{0}:` is missing")]
    Missing(&'static str),
    /// A line makes no sense.
    #[error("the value of `{key}:` makes no sense: `{value}`")]
    Bad {
        /// The line's key.
        key: &'static str,
        /// Its value.
        value: String,
    },
}

impl BackupLabel {
    /// Reads the file's content.
    ///
    /// # Errors
    /// Fails when the start or the checkpoint is missing, or a position makes no sense.
    pub fn parse(text: &str) -> Result<Self, BackupLabelError> {
        let lines: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once(": ")).collect();
        let value = |key: &'static str| lines.iter().find(|(found, _)| *found == key).map(|(_, value)| value.trim());
        let owned = |key: &'static str| value(key).map(str::to_owned);
        let position = |key: &'static str| match value(key) {
            None => Ok(None),
            Some(text) => {
                let first = text.split_whitespace().next().unwrap_or_default();
                first.parse().map(Some).map_err(|_| BackupLabelError::Bad { key, value: text.to_owned() })
            }
        };
        let need = |key: &'static str| position(key)?.ok_or(BackupLabelError::Missing(key));
        let start_line = value("START WAL LOCATION").ok_or(BackupLabelError::Missing("START WAL LOCATION"))?;
        let start_segment = start_line
            .split_once("(file ")
            .and_then(|(_, rest)| rest.strip_suffix(')'))
            .and_then(|name| name.parse().ok())
            .ok_or_else(|| BackupLabelError::Bad { key: "START WAL LOCATION", value: start_line.to_owned() })?;
        let start_timeline = match value("START TIMELINE") {
            None => None,
            Some(text) => Some(
                text.parse().map_err(|_| BackupLabelError::Bad { key: "START TIMELINE", value: text.to_owned() })?,
            ),
        };
        Ok(Self {
            start: need("START WAL LOCATION")?,
            start_segment,
            checkpoint: need("CHECKPOINT LOCATION")?,
            start_timeline,
            method: owned("BACKUP METHOD"),
            from: owned("BACKUP FROM"),
            label: owned("LABEL"),
            start_time: owned("START TIME"),
            stop: position("STOP WAL LOCATION")?,
            stop_time: owned("STOP TIME"),
            incremental_from: position("INCREMENTAL FROM LSN")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::BackupLabel;

    const LABEL: &str = "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\n\
        CHECKPOINT LOCATION: 0/2000060\nBACKUP METHOD: streamed\nBACKUP FROM: primary\n\
        START TIME: 2026-01-28 14:30:02 UTC\nLABEL: nightly: one\nSTART TIMELINE: 1\n";

    #[test]
    fn a_label_gives_its_positions() {
        let label = BackupLabel::parse(LABEL).expect("label");
        assert_eq!(label.start.to_string(), "0/2000028");
        assert_eq!(label.start_segment.to_string(), "000000010000000000000002");
        assert_eq!(label.checkpoint.to_string(), "0/2000060");
        assert_eq!(label.label.as_deref(), Some("nightly: one"));
        assert_eq!(label.stop, None);
    }

    #[test]
    fn a_label_without_a_start_is_refused() {
        assert!(BackupLabel::parse("LABEL: x\n").is_err());
        assert!(BackupLabel::parse(&LABEL.replace("0/2000060", "here")).is_err());
    }
}
