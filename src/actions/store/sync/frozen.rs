//! What a sync may not delete: where a recovery is open, its backups stay (facts 2.10.22).

use tokio::io::AsyncReadExt as _;

use super::side::Side;
use crate::action::ActionError;
use crate::actions::store::catalog_failed;
use crate::catalog::freeze::{Freeze, FreezeNote, frozen_around};

/// The largest note that is read.
const NOTE_LIMIT: u64 = 1 << 20;

/// The recovery that is open where a sync would delete.
pub(super) async fn open(from: &Side, to: &Side) -> Result<Option<Freeze>, ActionError> {
    let Side::Store { store, prefix } = to else { return Ok(None) };
    for freeze in frozen_around(store.as_ref(), prefix).await.map_err(catalog_failed)? {
        if !is_over(from, prefix, &freeze).await? {
            return Ok(Some(freeze));
        }
    }
    Ok(None)
}

/// What to do meanwhile.
pub(super) fn help(freeze: &Freeze) -> String {
    format!("leave `delete: true` out meanwhile; {}", freeze.help())
}

/// Whether the note only lies here as a copy, and the source says that it was lifted since.
async fn is_over(from: &Side, prefix: &str, freeze: &Freeze) -> Result<bool, ActionError> {
    let key = freeze.key();
    let Some(name) = key.strip_prefix(prefix) else { return Ok(false) };
    let Some(item) = from.look(name).await? else { return Ok(false) };
    let mut text = Vec::new();
    let read = from.open(&item).await?.take(NOTE_LIMIT).read_to_end(&mut text).await;
    let note = read.ok().and_then(|_| serde_json::from_slice::<FreezeNote>(&text).ok());
    Ok(note.is_some_and(|note| note.lifted.is_some()))
}
