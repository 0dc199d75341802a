//! Whether a body that is read is whole so far.

use std::io;

/// Whether a body that is read is whole so far. A reader that was told a failure and reads on must not be told an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whole {
    /// Every byte has come.
    SoFar,
    /// One is missing.
    Broken,
}

impl Whole {
    /// What the end of the bytes means.
    pub(super) fn end(self) -> io::Result<()> {
        match self {
            Self::SoFar => Ok(()),
            Self::Broken => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the body broke off before")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Whole;

    #[test]
    fn an_end_after_a_failure_is_a_failure() {
        assert!(Whole::SoFar.end().is_ok());
        assert!(Whole::Broken.end().is_err());
    }
}
