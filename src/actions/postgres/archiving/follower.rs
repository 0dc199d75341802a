//! What a change of their primary means for its standbys.

use std::path::Path;

use super::change::SettingChange;
use crate::action::ActionError;
use crate::actions::postgres::session::connect::Session;
use crate::actions::postgres::session::facts::standbys;

/// The setting that a standby must have at least as large as its primary (manual, "Hot Standby", "Administrator's
/// Overview").
const SENDERS: &str = "max_wal_senders";

/// The standbys that follow a server now.
pub(super) struct Followers {
    names: Vec<String>,
}

impl Followers {
    /// Asks a server for them.
    ///
    /// # Errors
    /// Fails as the server does.
    pub(super) async fn of(session: &mut Session) -> Result<Self, ActionError> {
        let names = standbys(session).await?.iter().map(|standby| format!("`{}`", standby.name)).collect();
        Ok(Self { names })
    }

    /// Says when a change leaves them behind, with advice: one whose value is smaller stops replaying at the record that tells
    /// of the new one, and one before PostgreSQL 14 shuts down.
    pub(super) fn left_behind(&self, changes: &[SettingChange]) -> Option<(String, String)> {
        let change = changes.iter().find(|change| change.name == SENDERS).filter(|_| !self.names.is_empty())?;
        let fact = format!(
            "`{SENDERS}` becomes {}: standbys whose own is smaller stop replaying at that point ({})",
            change.to,
            self.names.join(", ")
        );
        let help = format!("raise `{SENDERS}` on each of them and restart it, before this server is restarted");
        Some((fact, help))
    }

    /// Says that none of them archives once it is promoted unless it has what this server has, with advice: neither settings
    /// nor files beside the data directory follow a primary.
    pub(super) fn alone(&self, folder: &Path) -> Option<(String, String)> {
        if self.names.is_empty() {
            return None;
        }
        let fact = format!(
            "standbys have settings and files of their own: promoted, they archive only what those say ({})",
            self.names.join(", ")
        );
        let help = format!(
            "give each of them `runbook`, a copy of `{}` and the same `archive_command` (docs/wal.md, \"Standbys\")",
            folder.display()
        );
        Some((fact, help))
    }
}
