//! What the providers answer, sorted into passing and lasting failures, with what to do next.

use std::error::Error as _;
use std::io;

use object_store::Error;

use crate::action::{ObjectKey, StoreError};

/// Makes a store's error of an answer to `what`. Absent objects are the caller's to judge.
pub(super) fn fault(store: &str, what: &str, error: Error) -> StoreError {
    let text = words(&error);
    let refused =
        |advice: &str| StoreError::Refused { store: store.to_owned(), what: format!("{what}: {text}{advice}") };
    match &error {
        Error::PermissionDenied { .. } => {
            refused("; the credentials lack a permission, or are those of another account")
        }
        Error::Unauthenticated { .. } => refused("; the credentials are wrong or have expired"),
        Error::NotSupported { .. }
        | Error::NotImplemented { .. }
        | Error::InvalidPath { .. }
        | Error::UnknownConfigurationKey { .. } => refused(""),
        _ if is_lasting(&text) => refused(""),
        _ => StoreError::Unavailable {
            store: store.to_owned(),
            what: format!("{what}: {text}"),
            source: io::Error::other(error),
        },
    }
}

/// What is wrong with a read of one object.
pub(super) fn unread(store: &str, key: &ObjectKey, error: Error) -> StoreError {
    let (named, text) = ((store.to_owned(), key.to_string()), words(&error));
    match error {
        Error::Precondition { .. } => StoreError::Replaced { store: named.0, key: named.1 },
        _ if text.contains("BlobArchived") => {
            StoreError::Archived { store: named.0, key: named.1, class: "Archive".to_owned() }
        }
        other => fault(store, &format!("cannot read `{key}`"), other),
    }
}

/// The chain of causes in a line.
fn words(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        let words = deeper.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = deeper.source();
    }
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

/// The provider understood and said no; trying again changes nothing. Too many requests pass.
fn is_lasting(text: &str) -> bool {
    let Some((_, after)) = text.split_once("status code: ") else { return false };
    after.starts_with('4') && !["408", "429"].iter().any(|code| after.starts_with(code))
}
