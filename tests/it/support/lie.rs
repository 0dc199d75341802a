//! What may be wrong with one segment of an archive.

/// A lie of an archive about one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// It is not there.
    Lacks,
    /// Only the beginning of it is.
    Truncates,
    /// Under its name lie the bytes of another one.
    Swaps,
    /// It is of another cluster.
    Foreign,
    /// It is a copy from when it was being written: zeros follow.
    Unfinished,
    /// The same, of a file that had held an earlier segment: its records follow.
    Older,
}

impl Lie {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Lacks, Self::Truncates, Self::Swaps, Self::Foreign, Self::Unfinished, Self::Older];

    /// What lies in the place of a segment whose own bytes and whose neighbour's are given; none where nothing does.
    pub fn told(self, own: &[u8], neighbour: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = own.to_vec();
        // Half of what is written in it.
        let copied = own.iter().rposition(|byte| *byte != 0).map_or(0, |last| last / 2);
        match self {
            Self::Lacks => return None,
            Self::Truncates => bytes.truncate(own.len() / 2),
            Self::Swaps => bytes.copy_from_slice(neighbour),
            // The system identifier of its first page.
            Self::Foreign => bytes[24] ^= 1,
            Self::Unfinished => bytes[copied..].fill(0),
            Self::Older => bytes[copied..].copy_from_slice(&neighbour[copied..]),
        }
        Some(bytes)
    }

    /// Whether a segment that nothing follows may really look like that.
    pub fn may_be_the_end(self) -> bool {
        matches!(self, Self::Lacks | Self::Unfinished | Self::Older)
    }
}
