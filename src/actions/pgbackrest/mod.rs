//! pgBackRest: its backups, its repository and its restore under the same runbooks, checks and audit.
//!
//! The real program does what its users trust it with: it reads and writes its repository. Around it stand the
//! rules that hold for every recovery here. Its archive is shown as a store (`repository`), so that the one model
//! of what can be recovered decides, and the same code that lands a `postgres.recover` follows the replay, confirms the
//! point that was reached and proves the archive. Start with [`Restore`]; [`look`] is what lists and monitoring ask.
//!
//! Its commands, options and exit codes are those of its manual (<https://pgbackrest.org/command.html>).

mod backup;
mod check;
mod choice;
mod failure;
mod info;
mod remainder;
mod remnant;
mod repository;
mod restore;
mod restoring;
mod staging;
mod stanza;
mod stanza_create;
mod view;

use std::sync::Arc;

use crate::action::{ActionError, DatabaseRef, ReadFiles, ReadHost};
use crate::base::Timestamp;
use crate::language::inventory::{Database, Inventory, PgBackRest};
use crate::pgformat::SegmentName;

pub use backup::{Backup, BackupOutput, BackupParams, BackupType, Expire};
pub use check::{Check, CheckOutput, CheckParams};
pub use info::{Info, InfoOutput, InfoParams};
pub use restore::{Restore, RestoreParams};
pub use stanza_create::{StanzaCreate, StanzaCreateOutput, StanzaCreateParams};
pub use view::{Listed, StanzaStatus};

/// The kind of its backups.
pub(crate) const KIND: &str = PgBackRest::KIND;

/// Asks pgBackRest what it has of a database.
///
/// # Errors
/// Fails when the inventory names no stanza for it, and when pgBackRest gives no answer.
pub async fn look(database: &str, inventory: &Inventory, host: &dyn ReadHost) -> Result<StanzaStatus, ActionError> {
    stanza_of(database, inventory)?.look(host).await
}

/// When the newest WAL of a stanza was stored, by its repository's clock; `None` when there is none.
///
/// # Errors
/// Fails when the inventory names no stanza for the database, and when pgBackRest gives no answer.
pub async fn newest_wal_at(
    (database, standing): (&str, &StanzaStatus),
    inventory: &Inventory,
    host: &Arc<dyn ReadHost>,
) -> Result<Option<Timestamp>, ActionError> {
    repository::newest_wal_at(&stanza_of(database, inventory)?, standing, host).await
}

fn stanza_of(database: &str, inventory: &Inventory) -> Result<stanza::Stanza, ActionError> {
    let cluster = crate::actions::postgres::cluster::layout::Cluster::of(
        &DatabaseRef(database.to_owned()),
        inventory,
        std::path::Path::new("/"),
    )?;
    stanza::Stanza::of(&cluster)
}

/// The last segment of a stanza's archive, where the server's own WAL does not begin there: another program archives
/// meanwhile, and what was committed since is in neither.
#[must_use]
pub fn behind(standing: &StanzaStatus, entry: &Database, files: &dyn ReadFiles) -> Option<SegmentName> {
    remainder::behind(standing, &entry.pgdata, files)
}
