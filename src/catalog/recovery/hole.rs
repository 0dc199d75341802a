//! Segments that a path needs and cannot have.

use std::fmt;

use crate::pgformat::SegmentName;

/// Why a segment cannot be replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It is not there, though something later proves that it was.
    Missing,
    /// It is there with another size than a segment has.
    WrongSize {
        /// Its stored size.
        bytes: u64,
    },
    /// It is there, but its bytes are not those that were stored.
    Damaged(String),
    /// It came with a backup, whose own recovery finds it; the archive never got it.
    OnlyIn {
        /// The backup.
        backup: String,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("missing"),
            Self::WrongSize { bytes } => write!(f, "of the wrong size, {bytes} bytes"),
            Self::Damaged(why) => write!(f, "damaged: {why}"),
            Self::OnlyIn { backup } => write!(f, "not in the archive, only inside backup `{backup}`"),
        }
    }
}

/// Consecutive segments of a path that cannot be replayed for the same reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hole {
    /// The first of them.
    pub first: SegmentName,
    /// The last of them.
    pub last: SegmentName,
    /// How many.
    pub segments: u64,
    /// What is wrong with them.
    pub fault: Fault,
}

impl fmt::Display for Hole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.segments {
            1 => write!(f, "`{}` is {}", self.first, self.fault),
            count => write!(f, "{count} segments from `{}` to `{}` are {}", self.first, self.last, self.fault),
        }
    }
}

/// How far the archive leads along one timeline without a hole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// The last segment before the first hole; `None` when even the first cannot be had.
    pub last: Option<SegmentName>,
    /// The first hole, when something later proves that WAL goes on behind it.
    pub hole: Option<Hole>,
}
