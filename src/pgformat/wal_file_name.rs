//! Names that PostgreSQL archives and asks for.

use std::fmt;
use std::str::FromStr;

use super::lsn::Timeline;
use super::segment::{SegmentName, hex8};

/// A file of the WAL archive, by its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum WalFileName {
    /// A whole segment.
    Segment(SegmentName),
    /// The last, unfinished segment of a timeline that ended; used by hand only.
    PartialSegment(SegmentName),
    /// The history of a timeline.
    History(Timeline),
    /// Where a base backup began and ended.
    BackupHistory {
        /// The segment the backup began in.
        segment: SegmentName,
        /// The byte inside that segment.
        offset: u32,
    },
}

/// The text is no name of a WAL archive's file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the name of a WAL segment, `.partial`, `.history` or `.backup` file")]
pub struct ParseWalFileNameError(String);

impl WalFileName {
    /// Returns the timeline in the name.
    #[must_use]
    pub fn timeline(self) -> Timeline {
        match self {
            Self::Segment(segment) | Self::PartialSegment(segment) | Self::BackupHistory { segment, .. } => {
                segment.timeline()
            }
            Self::History(timeline) => timeline,
        }
    }
}

impl fmt::Display for WalFileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(segment) => segment.fmt(f),
            Self::PartialSegment(segment) => write!(f, "{segment}.partial"),
            Self::History(timeline) => f.write_str(&timeline.history_file()),
            Self::BackupHistory { segment, offset } => write!(f, "{segment}.{offset:08X}.backup"),
        }
    }
}

impl FromStr for WalFileName {
    type Err = ParseWalFileNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseWalFileNameError(text.to_owned());
        if let Some(stem) = text.strip_suffix(".history") {
            return hex8(stem).filter(|number| *number > 0).map(|n| Self::History(Timeline(n))).ok_or_else(bad);
        }
        if let Some(stem) = text.strip_suffix(".partial") {
            return stem.parse().map(Self::PartialSegment).map_err(|_| bad());
        }
        if let Some(stem) = text.strip_suffix(".backup") {
            let (segment, offset) = stem.split_once('.').ok_or_else(bad)?;
            let segment = segment.parse().map_err(|_| bad())?;
            return hex8(offset).map(|offset| Self::BackupHistory { segment, offset }).ok_or_else(bad);
        }
        text.parse().map(Self::Segment).map_err(|_| bad())
    }
}

#[cfg(test)]
mod tests {
    use super::WalFileName;

    #[test]
    fn every_kind_reads_back_from_its_text() {
        for text in [
            "000000010000000000000007",
            "000000010000000000000007.partial",
            "00000002.history",
            "000000010000000000000002.00000028.backup",
        ] {
            let name: WalFileName = text.parse().expect(text);
            assert_eq!(name.to_string(), text);
        }
    }

    #[test]
    fn foreign_names_are_refused() {
        for text in [
            "",
            ".history",
            "RECOVERYXLOG",
            "00000000.history",
            "../00000002.history",
            "000000010000000000000002.backup",
        ] {
            assert!(text.parse::<WalFileName>().is_err(), "{text}");
        }
    }
}
