//! Gives a written content the object's name: durable before visible, never a clobber by accident.

use std::path::Path;
use std::sync::Arc;

use openssh_sftp_client::{Error, UnixTimeStamp};

use super::fault::{Verdict, verdict};
use super::lock::KeyLock;
use super::place::stat;
use super::session::Session;
use super::temporary::Temporary;
use crate::store::sidecar::{Known, encode, hidden_name};

/// What became of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Published {
    /// It is the object now.
    New,
    /// Another content has the name and stays.
    Taken,
}

/// Makes the content of a hidden file the object at `path`, whose name must be free.
pub(super) async fn publish_new(
    session: &Arc<Session>,
    temporary: &mut Temporary,
    path: &Path,
    content: &Known,
) -> Result<Published, Error> {
    temporary.sync().await?;
    let lock = KeyLock::take(session, path).await?;
    let published = link(session, temporary, path, content).await;
    lock.release().await;
    published
}

async fn link(
    session: &Arc<Session>,
    temporary: &mut Temporary,
    path: &Path,
    content: &Known,
) -> Result<Published, Error> {
    if stat(session, path).await?.is_some() {
        return Ok(Published::Taken);
    }
    write_known(session, path, vec![content.clone()]).await?;
    match session.link(temporary.path(), path).await {
        Ok(()) => temporary.published(),
        // Somebody wrote the file by hand, without the key's lock.
        Err(error) if verdict(&error) == Verdict::Unsaid && stat(session, path).await?.is_some() => {
            return Ok(Published::Taken);
        }
        Err(error) => return Err(error),
    }
    temporary.sync().await?;
    Ok(Published::New)
}

/// Makes the content of a hidden file the object at `path`, whatever was there.
pub(super) async fn publish_over(
    session: &Arc<Session>,
    temporary: &mut Temporary,
    path: &Path,
    (content, old): (&Known, Vec<Known>),
) -> Result<(), Error> {
    temporary.sync().await?;
    let lock = KeyLock::take(session, path).await?;
    let published = replace(session, temporary, path, (content, old)).await;
    lock.release().await;
    published
}

async fn replace(
    session: &Arc<Session>,
    temporary: &mut Temporary,
    path: &Path,
    (content, old): (&Known, Vec<Known>),
) -> Result<(), Error> {
    if let Some(there) = stat(session, path).await? {
        let before = there.modified().map_or(0, UnixTimeStamp::into_raw);
        // Whole seconds are all that the protocol knows, and they tell the contents apart.
        if temporary.written_at().await? <= before {
            temporary.set_written_at(before.saturating_add(1)).await?;
            temporary.sync().await?;
        }
        let mut both = vec![content.clone()];
        both.extend(old.into_iter().filter(|old| old.sha256 != content.sha256));
        write_known(session, path, both).await?;
    }
    session.fs().rename(temporary.path(), path).await?;
    temporary.published();
    temporary.sync().await?;
    write_known(session, path, vec![content.clone()]).await
}

/// Writes, durably, what is known of the object at `path`. The caller holds the key's lock.
pub(super) async fn write_known(session: &Arc<Session>, path: &Path, contents: Vec<Known>) -> Result<(), Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let sidecar = path.with_file_name(hidden_name(&name, "meta"));
    let mut temporary = Temporary::create(session, &sidecar).await?;
    temporary.write(&encode(contents).map_err(Error::from)?).await?;
    session.fs().rename(temporary.path(), &sidecar).await?;
    temporary.published();
    temporary.sync().await
}
