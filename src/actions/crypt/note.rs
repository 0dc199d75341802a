//! The note beside an encrypted file: how it was made, and what it must be.

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;

use crate::action::{ActionError, Encoding, PlainFacts, RunContext, StoreError};
use crate::actions::store::body::{broke_off, file_failed};
use crate::actions::store::place::FileSpot;
use crate::actions::store::source::Source;
use crate::actions::store::store_failed;
use crate::transfer::Expected;

/// What its name ends in.
pub(super) const END: &str = ".runbook.json";
const FORMAT: u32 = 1;
const LIMIT_BYTES: u64 = 1 << 20;

/// How an encrypted file was made. No key is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    format: u32,
    /// How the stored bytes were made of the plain ones.
    pub(super) encoding: Encoding,
    /// The plain bytes.
    pub(super) plain: PlainFacts,
    /// The stored bytes.
    pub(super) stored: PlainFacts,
}

impl Note {
    pub(super) fn new(encoding: Encoding, plain: PlainFacts, stored: PlainFacts) -> Self {
        Self { format: FORMAT, encoding, plain, stored }
    }

    pub(super) fn expected(&self) -> Expected {
        Expected { stored: self.stored, plain: self.plain.into() }
    }

    pub(super) fn text(&self) -> Result<Vec<u8>, ActionError> {
        let text = serde_json::to_vec_pretty(self);
        text.map_err(|error| ActionError::fatal("the note cannot be written").because(&error))
    }

    /// The note beside a file whose stored bytes are just what it says; `None` otherwise.
    pub(super) async fn of_whole(spot: &FileSpot, cx: &RunContext) -> Result<Option<Self>, ActionError> {
        let Some(note) = Self::beside(spot, cx).await? else { return Ok(None) };
        // A file without its note, or not there at all, is not finished.
        let there = Source::open(spot, None, cx).await.ok();
        Ok(there.filter(|there| there.facts == note.stored).map(|_| note))
    }

    /// Reads the note beside a file; `None` when there is none.
    pub(super) async fn beside(spot: &FileSpot, cx: &RunContext) -> Result<Option<Self>, ActionError> {
        let place = spot.beside(END)?;
        let bytes = match &place {
            FileSpot::File(path) => match cx.host.files().facts(path).map_err(file_failed)? {
                Some(_) => cx.host.files().read(path, LIMIT_BYTES).map_err(file_failed)?,
                None => return Ok(None),
            },
            FileSpot::Object(name, key) => {
                let store = cx.store(name.as_str())?;
                let body = match store.get(key).await {
                    Ok(body) => body,
                    Err(StoreError::NotFound { .. }) => return Ok(None),
                    // Nothing was ever stored there.
                    Err(error) if error.is_unborn() => return Ok(None),
                    Err(error) => return Err(store_failed(error)),
                };
                let mut bytes = Vec::new();
                let read = body.take(LIMIT_BYTES).read_to_end(&mut bytes).await;
                read.map_err(|error| broke_off(store.name(), key, error))?;
                bytes
            }
        };
        let note: Self = serde_json::from_slice(&bytes)
            .map_err(|error| ActionError::fatal(format!("`{place}` is damaged")).because(&error))?;
        match note.format {
            FORMAT => Ok(Some(note)),
            other => Err(ActionError::fatal(format!("`{place}` has format {other}, known is {FORMAT}"))),
        }
    }
}
