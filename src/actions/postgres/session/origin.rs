//! The server that dumps are taken of, as far as a role without special rights may know it.

use super::connect::Session;
use crate::action::ActionError;
use crate::pgformat::{Major, SystemId};

/// What a server tells everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Its version: `15.18`.
    pub(crate) version: String,
    /// Its major version.
    pub(crate) major: Major,
    /// The port that it listens on itself, which another may be published for.
    pub(crate) port: String,
    /// Whether our role is a superuser.
    pub(crate) superuser: bool,
    /// The cluster, where the role may know it.
    pub(crate) system_id: Option<SystemId>,
}

const ABOUT: &str = "SELECT current_setting('server_version'), current_setting('server_version_num'), \
 (SELECT rolsuper FROM pg_roles WHERE rolname = current_user), current_setting('port')";

impl Origin {
    /// Asks a server.
    ///
    /// # Errors
    /// Fails as the server does, or when an answer makes no sense.
    pub(crate) async fn of(session: &mut Session) -> Result<Self, ActionError> {
        let about = session.query(ABOUT).await?;
        let version = about.at(0, 0).unwrap_or_default().split_whitespace().next().unwrap_or_default().to_owned();
        let number = about.at(0, 1).and_then(|text| text.parse().ok());
        let major = number.map(Major::of_number).ok_or_else(|| ActionError::fatal("the server told no version"))?;
        let port = about.at(0, 3).unwrap_or("5432").to_owned();
        let superuser = about.at(0, 2) == Some("t");
        // Managed servers keep it to themselves.
        let system_id = session.value("SELECT system_identifier FROM pg_control_system()").await.ok();
        let system_id = system_id.and_then(|text| text.parse().ok()).map(SystemId);
        Ok(Self { version, major, port, superuser, system_id })
    }
}
