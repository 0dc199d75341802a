//! Compares what lies under a key with a content that is known by size and digest.

use std::sync::Arc;

use tokio::io::AsyncReadExt as _;

use super::download::get;
use super::head::head;
use super::part::Content;
use super::session::Session;
use crate::action::{GetOptions, ObjectFacts, ObjectKey, StoreError};
use crate::base::Digest;
use crate::base::digest::Hasher;

const CHUNK_BYTES: usize = 256 << 10;

/// What a comparison found.
#[derive(Debug)]
pub(super) enum Compared {
    /// The same content.
    Same(Box<ObjectFacts>),
    /// Other content.
    Other,
    /// Nothing.
    Absent,
}

/// Compares by size and recorded digest; an object without a digest is read.
pub(super) async fn compare(session: &Arc<Session>, key: &ObjectKey, content: Content) -> Result<Compared, StoreError> {
    let facts = match head(session, key).await {
        Ok(facts) => facts,
        Err(StoreError::NotFound { .. }) => return Ok(Compared::Absent),
        Err(error) => return Err(error),
    };
    if facts.size_bytes != content.size_bytes {
        return Ok(Compared::Other);
    }
    let found = match facts.sha256() {
        Some(recorded) => recorded,
        None => digest_of(session, &facts, None).await?,
    };
    Ok(if found == content.sha256 { Compared::Same(Box::new(facts)) } else { Compared::Other })
}

/// Reads an object for its digest.
pub(super) async fn digest_of(
    session: &Arc<Session>,
    facts: &ObjectFacts,
    version: Option<&str>,
) -> Result<Digest, StoreError> {
    let options = GetOptions { if_match: facts.etag.clone(), version: version.map(str::to_owned), range: None };
    let (_, mut body) = get(Arc::clone(session), facts.key.clone(), options).await?;
    let object = session.object(&facts.key);
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let read = body.read(&mut buffer).await;
        let count = read.map_err(|error| session.asked(&object, "read", "s3:GetObject").unavailable(error))?;
        if count == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&buffer[..count]);
    }
}
