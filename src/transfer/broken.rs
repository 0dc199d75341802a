//! What is wrong with an object, on its way through a stream of bytes: the payload of an [`io::Error`].

use std::io;

use super::TransferError;

/// What is wrong with an object that was read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub(super) struct Broken {
    pub(super) kind: Kind,
    what: String,
}

/// What the finding means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The bytes are not those that were stored.
    Damaged,
    /// The key does not fit.
    WrongKey,
    /// The format cannot tell the two apart; the digest of the stored bytes can.
    Undecided,
}

impl Broken {
    pub(super) fn damaged(what: impl Into<String>) -> Self {
        Self { kind: Kind::Damaged, what: what.into() }
    }

    pub(super) fn wrong_key(what: impl Into<String>) -> Self {
        Self { kind: Kind::WrongKey, what: what.into() }
    }

    pub(super) fn undecided(what: impl Into<String>) -> Self {
        Self { kind: Kind::Undecided, what: what.into() }
    }

    /// What an error of a stream carries.
    pub(super) fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<Broken> for io::Error {
    fn from(broken: Broken) -> Self {
        Self::new(io::ErrorKind::InvalidData, broken)
    }
}

impl TransferError {
    /// Whether a stream of [`super::Unpacking::open`] failed since the bytes are not those that were stored.
    #[must_use]
    pub fn is_of_damage(source: &io::Error) -> bool {
        Broken::of(source).is_some_and(|broken| broken.kind == Kind::Damaged)
    }

    /// Names the object in what a stream of [`super::Unpacking::open`] failed with.
    #[must_use]
    pub fn of_reading(object: &str, source: io::Error) -> Self {
        let object = object.to_owned();
        let Some(broken) = Broken::of(&source) else { return Self::Io { what: "read the object", source } };
        let what = broken.to_string();
        match broken.kind {
            Kind::WrongKey | Kind::Undecided => Self::WrongKey { object, what },
            Kind::Damaged => Self::Damaged { object, what },
        }
    }
}
