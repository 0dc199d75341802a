//! Two objects of the same name in two archives, whose stored bytes differ.
//!
//! That is right where one was mended or packed anew, and where one is the whole segment that the other was the beginning of.

use super::packed::{Keys, Stored, plain_sha256};
use super::push::WalFile;
use super::spread::aside;
use super::unfinished::{Successor, Unfinished, successor};
use super::{Identity, WalError};
use crate::action::{ObjectKey, ReadStore};
use crate::catalog::WalPlace;
use crate::pgformat::{SegmentHeader, SegmentName, WalFileName};

/// What an object of an archive and its copy elsewhere have to do with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameConflict {
    /// The same file, packed in two ways.
    Same,
    /// The copy is the beginning of what the object is: the object may take its place.
    Continued,
    /// Two contents: nobody knows which is right.
    Other,
}

/// An object and its copy.
#[derive(Clone, Copy)]
pub struct Copied<'a> {
    /// Where the object lies.
    pub from: (&'a dyn ReadStore, &'a ObjectKey),
    /// What an encrypted object is read with.
    pub keys: Keys<'a>,
    /// Where the copy lies.
    pub to: (&'a dyn ReadStore, &'a ObjectKey),
}

impl Copied<'_> {
    /// Judges by what the metadata of both tell of their plain bytes. Only an object whose copy says that it was unfinished is
    /// read, and held against what the copy proves, by the rule of a push.
    ///
    /// # Errors
    /// Fails when a store does, and when the object is damaged or cannot be decrypted here.
    pub async fn judge(self) -> Result<NameConflict, WalError> {
        let (Some(here), Some(there)) = (WalPlace::of(self.from.1), WalPlace::of(self.to.1)) else {
            return Ok(NameConflict::Other);
        };
        if (here.system_id, here.name) != (there.system_id, there.name) {
            return Ok(NameConflict::Other);
        }
        let (object, copy) = (self.from.0.head(self.from.1).await?, self.to.0.head(self.to.1).await?);
        if plain_sha256(&object).is_some_and(|plain| Some(plain) == plain_sha256(&copy)) {
            return Ok(NameConflict::Same);
        }
        let (WalFileName::Segment(segment), Some(unfinished)) = (here.name, Unfinished::told(&copy)) else {
            return Ok(NameConflict::Other);
        };
        let Some(identity) = self.goes_on(&here, unfinished).await? else { return Ok(NameConflict::Other) };
        let is_live = !self.is_superseded((&here, &there), &identity, segment).await?;
        Ok(if is_live { NameConflict::Continued } else { NameConflict::Other })
    }

    /// Reads the object; tells its cluster when it begins with all that the copy proves.
    async fn goes_on(&self, here: &WalPlace, unfinished: Unfinished) -> Result<Option<Identity>, WalError> {
        let stored = Stored::read(self.from.0, self.from.1).await?;
        let whole = |size: u64| Ok(Vec::with_capacity(usize::try_from(size).unwrap_or_default()));
        let plain = stored.unpack(self.keys, &whole).await?;
        let header = SegmentHeader::parse(&plain)
            .map_err(|error| WalError::Mismatch { name: here.name, what: error.to_string() })?;
        let identity = Identity { system_id: here.system_id, segment_size: Some(header.segment_size) };
        let file = aside(&plain)?;
        drop(plain);
        let goes_on = WalFile::look(file.path(), here.name, &identity)?;
        Ok(unfinished.goes_on_in(&goes_on)?.then_some(identity))
    }

    /// Whether either archive knows of a timeline that went on from this one by the end of the segment.
    async fn is_superseded(
        &self,
        (here, there): (&WalPlace, &WalPlace),
        identity: &Identity,
        segment: SegmentName,
    ) -> Result<bool, WalError> {
        Ok(successor((self.from.0, &here.prefix), identity, segment).await? != Successor::Nobody
            || successor((self.to.0, &there.prefix), identity, segment).await? != Successor::Nobody)
    }
}
