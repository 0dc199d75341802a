//! Brings a result to its place together with its note: the note first where both are files, for what has no result
//! is nothing; last in a store, where an object without its note is known by the step's mark.

use std::io::Cursor;
use std::path::Path;

use super::note::{END, Note};
use crate::action::{
    ActionError, ByteStream, Encoding, ObjectKey, PlainFacts, PutOptions, RunContext, Store, StoreError,
};
use crate::actions::store::arrival::{Arrival, Existing};
use crate::actions::store::body::{copy, file_failed, on_files};
use crate::actions::store::carry::prove;
use crate::actions::store::place::FileSpot;
use crate::actions::store::{Proof, store_failed, transfer_failed};
use crate::base::Digest;
use crate::transfer::{Packed, TransferError};

const FILE_MODE: u32 = 0o640;
/// The metadata that tells whose unfinished work an object is.
const MARK: &str = "step";

/// What is delivered.
pub(super) struct Parcel<T> {
    /// What it is made of, for the words of an error.
    pub(super) source: String,
    /// The stored bytes.
    pub(super) body: ByteStream,
    /// Tells what they have become once they were read.
    pub(super) packed: T,
    /// How they were made.
    pub(super) encoding: Encoding,
    /// Whether an object that is there may be replaced.
    pub(super) existing: Existing,
}

/// What lies at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum There {
    /// Nothing.
    Nothing,
    /// What this very step began and did not end.
    Unfinished,
    /// Something else.
    Other,
}

impl There {
    /// Looks. A store that does not answer is a failure: nobody knows what it holds.
    pub(super) async fn at(spot: &FileSpot, cx: &RunContext) -> Result<Self, ActionError> {
        match spot {
            FileSpot::File(path) => match cx.host.files().facts(path).map_err(file_failed)? {
                None => Ok(Self::Nothing),
                Some(_) => Ok(Self::Other),
            },
            FileSpot::Object(name, key) => match cx.store(name.as_str())?.head(key).await {
                Ok(facts) if facts.metadata.get(MARK).is_some_and(|mark| mark == cx.key()) => Ok(Self::Unfinished),
                Ok(_) => Ok(Self::Other),
                Err(StoreError::NotFound { .. }) => Ok(Self::Nothing),
                Err(error) if error.is_unborn() => Ok(Self::Nothing),
                Err(error) => Err(store_failed(error)),
            },
        }
    }

    /// How a result may come to that place.
    ///
    /// # Errors
    /// Fails when something else is in the way.
    pub(super) fn way(self, to: &FileSpot) -> Result<Existing, ActionError> {
        match self {
            Self::Nothing => Ok(Existing::Keep),
            Self::Unfinished => Ok(Existing::Replace),
            Self::Other => Err(occupied(to)),
        }
    }
}

fn occupied(to: &FileSpot) -> ActionError {
    ActionError::fatal(format!("`{to}` exists with other content")).help("move it away, or say `overwrite: true`")
}

/// Stores the bytes and the note.
pub(super) async fn deliver<T: Fn() -> Option<Packed>>(
    to: &FileSpot,
    parcel: Parcel<T>,
    cx: &RunContext,
) -> Result<Note, ActionError> {
    match to {
        FileSpot::File(path) => to_file((to, path), parcel, cx).await,
        FileSpot::Object(name, key) => to_object((to, key), parcel, (&*cx.store(name.as_str())?, cx.key())).await,
    }
}

/// The note of bytes that were read.
fn note_of(packed: impl Fn() -> Option<Packed>, encoding: Encoding) -> Result<Note, ActionError> {
    let packed = packed().ok_or_else(|| ActionError::fatal("the source was not read to its end"))?;
    let stored = PlainFacts { size_bytes: packed.stored_size_bytes, sha256: packed.stored_sha256 };
    let plain = packed.plain.facts().ok_or_else(|| ActionError::fatal("no digest of the plain bytes was taken"))?;
    Ok(Note::new(encoding, plain, stored))
}

async fn to_file<T: Fn() -> Option<Packed>>(
    (to, path): (&FileSpot, &Path),
    parcel: Parcel<T>,
    cx: &RunContext,
) -> Result<Note, ActionError> {
    let (arrival, file) = Arrival::begin(cx.host.files(), path, FILE_MODE, Existing::Replace).await?;
    let written = async {
        let facts = write(&parcel.source, parcel.body, file).await?;
        let note = note_of(parcel.packed, parcel.encoding)?;
        let (beside, text) = (to.beside(END)?, note.text()?);
        if let FileSpot::File(beside) = beside {
            on_files(cx.host.files(), move |files| files.replace(&beside, &text, FILE_MODE)).await?;
        }
        Ok((facts, note))
    };
    let (facts, note) = match written.await {
        Ok(both) => both,
        Err(error) => return arrival.discard().await.and(Err(error)),
    };
    arrival.publish(facts).await?;
    Ok(note)
}

async fn to_object<T: Fn() -> Option<Packed>>(
    (to, key): (&FileSpot, &ObjectKey),
    parcel: Parcel<T>,
    (store, mark): (&dyn Store, &str),
) -> Result<Note, ActionError> {
    let metadata = [(MARK.to_owned(), mark.to_owned())].into();
    let if_absent = parcel.existing == Existing::Keep;
    let options = PutOptions { metadata, if_absent, ..PutOptions::default() };
    let put = match store.put(key, parcel.body, options).await {
        Err(StoreError::Exists { .. }) => return Err(occupied(to)),
        put => put.map_err(|error| unstored(&parcel.source, error))?,
    };
    prove((store, key), &put, Proof::ReadBack).await?;
    let note = note_of(parcel.packed, parcel.encoding)?;
    let text = note.text()?;
    if let FileSpot::Object(_, beside) = to.beside(END)? {
        let metadata = [("sha256".to_owned(), Digest::of(&text).to_string())].into();
        let options = PutOptions { metadata, ..PutOptions::default() };
        store.put(&beside, Box::new(Cursor::new(text)), options).await.map_err(store_failed)?;
    }
    Ok(note)
}

/// Stores plain bytes, without a note.
pub(super) async fn deliver_plain(
    to: &FileSpot,
    (source, body): (String, ByteStream),
    existing: Existing,
    cx: &RunContext,
) -> Result<PlainFacts, ActionError> {
    match to {
        FileSpot::File(path) => {
            let (arrival, file) = Arrival::begin(cx.host.files(), path, FILE_MODE, existing).await?;
            arrival.end(write(&source, body, file).await).await
        }
        FileSpot::Object(name, key) => {
            let store = cx.store(name.as_str())?;
            let options = PutOptions { if_absent: existing == Existing::Keep, ..PutOptions::default() };
            let put = store.put(key, body, options).await;
            let put = put.map_err(|error| unstored(&source, error))?;
            let stored = prove((&*store, key), &put, Proof::ReadBack).await?;
            Ok(PlainFacts { size_bytes: stored.size_bytes, sha256: stored.sha256 })
        }
    }
}

async fn write(source: &str, mut body: ByteStream, file: std::fs::File) -> Result<PlainFacts, ActionError> {
    let mut into = tokio::fs::File::from_std(file);
    let written = copy(&mut body, &mut into).await;
    let (size_bytes, sha256) = written.map_err(|error| broken(source, error))?;
    Ok(PlainFacts { size_bytes, sha256 })
}

/// Says why nothing was stored. A body that broke by damage or a wrong key is no failure of the store.
fn unstored(source: &str, error: StoreError) -> ActionError {
    match error {
        StoreError::Unavailable { source: cause, .. } if cause.kind() == std::io::ErrorKind::InvalidData => {
            broken(source, cause)
        }
        other => store_failed(other),
    }
}

/// Says why a stream broke: damage and wrong keys are for good.
pub(super) fn broken(place: &str, error: std::io::Error) -> ActionError {
    match TransferError::of_reading(place, error) {
        TransferError::Io { source, .. } if source.kind() == std::io::ErrorKind::InvalidData => {
            transfer_failed(TransferError::Damaged { object: place.to_owned(), what: source.to_string() })
        }
        other => transfer_failed(other),
    }
}
