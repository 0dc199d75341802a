//! Standbys that a change of their primary would stop.

use super::super::connect::Session;
use super::super::facts::standbys;
use super::change::SettingChange;
use crate::action::ActionError;

/// The setting that a standby must have at least as large as its primary (manual, "Hot Standby", "Administrator's
/// Overview").
const SENDERS: &str = "max_wal_senders";

/// Says when a change leaves the server's standbys behind, with advice: one whose value is smaller stops replaying at the
/// record that tells of the new one, and one before PostgreSQL 14 shuts down.
pub(super) async fn left_behind(
    session: &mut Session,
    changes: &[SettingChange],
) -> Result<Option<(String, String)>, ActionError> {
    let Some(change) = changes.iter().find(|change| change.name == SENDERS) else { return Ok(None) };
    let names: Vec<String> = standbys(session).await?.iter().map(|standby| format!("`{}`", standby.name)).collect();
    if names.is_empty() {
        return Ok(None);
    }
    let fact = format!(
        "`{SENDERS}` becomes {}: standbys whose own is smaller stop replaying at that point ({})",
        change.to,
        names.join(", ")
    );
    let help = format!("raise `{SENDERS}` on each of them and restart it, before this server is restarted");
    Ok(Some((fact, help)))
}
