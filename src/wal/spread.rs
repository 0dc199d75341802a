//! One WAL file into several stores where no server waits for it: what a recovery rescues, and what one store lacks
//! that others have.

use std::io::Write as _;
use std::path::Path;

use futures_util::future::join_all;

use super::packed::Source;
use super::preference::read_first;
use super::push::{Destination, Pushed, WalFile, store_file, verify};
use super::{Identity, WalError};
use crate::catalog::claim_prefix;
use crate::pgformat::WalFileName;

/// A store that did not get a file.
#[derive(Debug)]
pub struct Missed {
    /// Its name.
    pub store: String,
    /// Why.
    pub why: WalError,
}

/// Stores a file in several archives of its cluster; gives those that did not get it. Waits for each of them.
///
/// # Errors
/// Fails when fewer than `at_least` have it, and when one of them has another file in its place: that one would never
/// catch up.
pub async fn push_everywhere(
    to: &[Destination<'_>],
    at_least: usize,
    (path, name, identity): (&Path, WalFileName, &Identity),
) -> Result<Vec<Missed>, WalError> {
    let file = WalFile::look_through(path, name, identity)?;
    let brought = join_all(to.iter().map(|to| bring(*to, &file))).await;
    let (mut missed, is_several) = (Vec::new(), to.len() > 1);
    for (to, brought) in to.iter().zip(brought) {
        let Err(why) = brought else { continue };
        let store = to.store.as_read().name().to_owned();
        if why.is_conflict() && is_several {
            return Err(WalError::Conflict { url: store, what: why.to_string() });
        }
        missed.push(Missed { store, why });
    }
    let safe = to.len() - missed.len();
    if safe >= at_least {
        return Ok(missed);
    }
    if let Some(only) = missed.pop_if(|_| !is_several) {
        return Err(only.why);
    }
    Err(WalError::TooFew { name, safe, wanted: at_least, why: in_words(&missed) })
}

/// Copies a file that one of several archives has into another, packed as that one packs: read whole, held against its
/// digest and its own header, and stored as if the server had pushed it.
///
/// # Errors
/// Fails when none of them has it whole or can be decrypted here, and as a push does.
pub async fn bring_over(from: &[Source<'_>], to: Destination<'_>, name: WalFileName) -> Result<Pushed, WalError> {
    let bytes = read_first(from, name).await?;
    verify(name, &bytes, &to.identity)?;
    let file = aside(&bytes)?;
    drop(bytes);
    bring(to, &WalFile::look_through(file.path(), name, &to.identity)?).await
}

/// Writes bytes to a file, since what is pushed is one; it is gone when it is dropped.
pub(super) fn aside(bytes: &[u8]) -> Result<tempfile::NamedTempFile, WalError> {
    let between =
        |source: std::io::Error| WalError::File { operation: "write", path: "a temporary file".into(), source };
    let mut file = tempfile::NamedTempFile::new().map_err(between)?;
    file.write_all(bytes).map_err(between)?;
    Ok(file)
}

async fn bring(to: Destination<'_>, file: &WalFile) -> Result<Pushed, WalError> {
    let claimed = async { Ok(claim_prefix(to.store, to.prefix, to.identity.system_id).await?) };
    store_file(to, file, claimed).await
}

fn in_words(missed: &[Missed]) -> String {
    let words: Vec<String> = missed.iter().map(|one| format!("`{}`: {}", one.store, one.why)).collect();
    words.join("; ")
}
