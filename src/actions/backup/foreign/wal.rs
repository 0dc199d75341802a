//! A folder of WAL as `cp %p …/%f` or `aws s3 cp` leave it, and its way into the catalog's archive.

use std::path::Path;

use super::Reader;
use crate::action::{ActionError, ObjectFacts, Store};
use crate::pgformat::{SegmentHeader, WalFileName};
use crate::transfer::Packing;
use crate::wal::{Destination, Identity, Pushed, WalError, push_file};

/// No WAL file is larger.
const FILE_BYTES: u64 = 1 << 30;

/// A folder with WAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalFolder {
    /// The folder, with a `/` at the end.
    pub folder: String,
    /// Its files.
    pub files: Vec<(ObjectFacts, WalFileName)>,
}

/// Copies one folder's WAL into the archive of its cluster.
pub struct ForeignWal<'a> {
    reader: Reader<'a>,
    to: (&'a dyn Store, &'a str),
    packing: &'a Packing,
    /// Where a file lies for a moment.
    scratch: &'a Path,
    identity: Option<Identity>,
}

impl WalFolder {
    /// Segments first: they say whose they are, the other files do not.
    #[must_use]
    pub fn in_order(&self) -> Vec<&(ObjectFacts, WalFileName)> {
        let is_segment = |name: &WalFileName| match name {
            WalFileName::Segment(_) | WalFileName::PartialSegment(_) => true,
            WalFileName::History(_) | WalFileName::BackupHistory { .. } => false,
        };
        let mut files: Vec<_> = self.files.iter().collect();
        files.sort_by_key(|(_, name)| !is_segment(name));
        files
    }

    /// The sizes of its files together.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.files.iter().map(|(facts, _)| facts.size_bytes).sum()
    }
}

impl<'a> ForeignWal<'a> {
    /// Readies the way into the archive under a prefix of a store.
    #[must_use]
    pub fn new(reader: Reader<'a>, to: (&'a dyn Store, &'a str), packing: &'a Packing, scratch: &'a Path) -> Self {
        Self { reader, to, packing, scratch, identity: None }
    }

    /// Copies one file: judged as `wal push` judges what a server archives, and never over other content.
    ///
    /// # Errors
    /// Fails when it is not what its name says, is of another cluster than the files before, or differs from what the
    /// archive has, and when a store fails.
    pub async fn bring(&mut self, (facts, name): &(ObjectFacts, WalFileName)) -> Result<Pushed, ActionError> {
        let (_, bytes) = self.reader.small(&facts.key, FILE_BYTES).await?;
        let identity = match self.identity {
            Some(identity) => identity,
            None => identify(&bytes, *name, facts)?,
        };
        let failed = |error: std::io::Error| {
            ActionError::retryable(format!("`{}` cannot be written", self.scratch.display())).because(&error)
        };
        let path = self.scratch.join(name.to_string());
        tokio::fs::write(&path, &bytes).await.map_err(failed)?;
        let to = Destination { store: self.to.0, prefix: self.to.1, identity, packing: self.packing };
        let pushed = push_file(to, &path, *name).await;
        tokio::fs::remove_file(&path).await.map_err(failed)?;
        let pushed = pushed.map_err(|error: WalError| {
            ActionError::fatal(format!("`{}` cannot be taken into the archive: {error}", facts.key)).because(&error)
        })?;
        self.identity = Some(identity);
        Ok(pushed)
    }
}

fn identify(bytes: &[u8], name: WalFileName, facts: &ObjectFacts) -> Result<Identity, ActionError> {
    match name {
        WalFileName::Segment(_) | WalFileName::PartialSegment(_) => {}
        WalFileName::History(_) | WalFileName::BackupHistory { .. } => {
            let fact = format!("nothing says of which cluster `{}` is: no segment lies beside it", facts.key);
            return Err(ActionError::fatal(fact));
        }
    }
    let header = SegmentHeader::parse(bytes)
        .map_err(|error| ActionError::fatal(format!("`{}` is no WAL segment", facts.key)).because(&error))?;
    Ok(Identity { system_id: header.system_id, segment_size: Some(header.segment_size) })
}
