//! How what an archive has under the name of a file stands to that file: the archive never overwrites, so two servers that
//! write under one prefix meet here.
//!
//! By what is told of the plain bytes, however they are packed: no key is needed.

use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt as _};

use super::packed::plain_sha256;
use super::unfinished::Unfinished;
use crate::action::{ObjectFacts, ReadStore, StoreError};
use crate::base::Digest;
use crate::catalog::{CatalogError, wal_keys_of};
use crate::pgformat::{SegmentName, SystemId};

/// How many objects are asked for at the same time.
const WIDTH: usize = 8;

/// How an object stands to a file of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It holds the same bytes.
    Same,
    /// It says that it is only the beginning of a segment, perhaps of this one.
    Begun,
    /// It holds others.
    Other,
    /// It does not tell what it holds.
    Untold,
}

impl Standing {
    /// Judges by the metadata.
    pub(super) fn of(object: &ObjectFacts, plain: Digest) -> Self {
        match (plain_sha256(object), Unfinished::told(object)) {
            (Some(theirs), _) if theirs == plain => Self::Same,
            (_, Some(_)) => Self::Begun,
            (Some(_), None) => Self::Other,
            (None, None) => Self::Untold,
        }
    }
}

/// Tells of segments of one timeline which follow each other, by the SHA-256 of their bytes, how what a store has under
/// their names stands to them, in their order. One that is not there is not told; one that is there twice, packed in two
/// ways, may be told twice.
///
/// # Errors
/// Fails when the store does.
pub async fn standings(
    store: &dyn ReadStore,
    (prefix, system_id): (&str, SystemId),
    segments: &BTreeMap<SegmentName, Digest>,
) -> Result<Vec<(SegmentName, Standing)>, CatalogError> {
    let names: Vec<SegmentName> = segments.keys().copied().collect();
    let keys = wal_keys_of(store, prefix, system_id, &names).await?;
    let known = keys.into_iter().filter_map(|(name, key)| Some((name, *segments.get(&name)?, key)));
    let asked = known.map(|(name, plain, key)| async move { (name, plain, store.head(&key).await) });
    let mut asked = stream::iter(asked).buffered(WIDTH);
    let mut standings = Vec::new();
    while let Some((name, plain, object)) = asked.next().await {
        match object {
            Ok(object) => standings.push((name, Standing::of(&object, plain))),
            // An unfinished copy has given way meanwhile.
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(standings)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::base::Timestamp;

    fn told(metadata: &[(&str, String)]) -> Standing {
        let mut facts = ObjectFacts::new("a/b".parse().unwrap(), 7, Timestamp::UNIX_EPOCH);
        facts.metadata = metadata.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Standing::of(&facts, Digest::of(b"ours"))
    }

    #[test]
    fn what_an_object_holds_is_told_by_its_plain_bytes_however_it_is_packed() {
        let (ours, other, packed) = (Digest::of(b"ours"), Digest::of(b"other"), Digest::of(b"packed"));
        assert_eq!(told(&[("sha256", ours.to_string())]), Standing::Same);
        assert_eq!(told(&[("sha256", packed.to_string()), ("plain-sha256", ours.to_string())]), Standing::Same);
        assert_eq!(told(&[("sha256", ours.to_string()), ("plain-sha256", other.to_string())]), Standing::Other);
        assert_eq!(told(&[]), Standing::Untold);
        let begun = [("unfinished-bytes", "3".to_owned()), ("unfinished-sha256", other.to_string())];
        assert_eq!(told(&[begun.as_slice(), &[("sha256", other.to_string())]].concat()), Standing::Begun);
    }
}
