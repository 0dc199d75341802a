//! What steps want of a server beyond sessions, and what some keepers cannot give: refused when a runbook is checked, with
//! what to do instead.

use super::super::layout::Cluster;
use crate::action::ParamFault;
use crate::language::inventory::Via;

/// What a step wants of a server that sessions cannot give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Stop, start or promote it.
    Power,
    /// Take a base backup.
    BaseBackup,
    /// Put data into its data directory.
    DataDirectory,
    /// Have another program work in its data directory.
    Foreign,
    /// Have it archive its WAL.
    Archiving,
    /// Open a copy of its base backup.
    Copy,
}

impl Wish {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Power => "stop, start or promote its server",
            Self::BaseBackup => "take a base backup of its server",
            Self::DataDirectory => "put data into its server's data directory",
            Self::Foreign => "have another program work in its server's data directory",
            Self::Archiving => "have its server archive WAL",
            Self::Copy => "open a base backup of its server",
        }
    }

    pub(super) fn instead(self) -> &'static str {
        match self {
            Self::Power => "use the provider's own command in an `exec` step that declares its `targets`",
            Self::BaseBackup => {
                "take dumps (`postgres.dump`, the runbook `daily-backup`), and turn on the provider's own snapshots"
            }
            Self::DataDirectory | Self::Foreign => {
                "restore a dump (`postgres.restore_dump`, the runbook `restore-dump`); for a point in time have the \
                 provider restore into a new server, and set `address` to that"
            }
            Self::Archiving => {
                "the provider archives it: set there for how long; dumps (`postgres.dump`) are the copies that leave it"
            }
            Self::Copy => "open one of its dumps (`kind: postgres.dump` of `backup.find`)",
        }
    }

    /// The way out for a server in a container; `None` where the wish can be met.
    fn beside_container(self) -> Option<&'static str> {
        match self {
            Self::Power | Self::BaseBackup | Self::DataDirectory | Self::Archiving | Self::Copy => None,
            Self::Foreign => Some(
                "the paths and the users of its image are others than this machine's: use base backups (`postgres.base_backup`, \
                 `postgres.restore_base`), which know them",
            ),
        }
    }
}

impl Cluster {
    /// Refuses a step that wants more of a server than what keeps it can give.
    ///
    /// # Errors
    /// Fails with what is impossible and what to do instead.
    pub(crate) fn within_reach(&self, wish: Wish) -> Result<(), Vec<ParamFault>> {
        let (how, help) = match &self.via {
            Via::PgCtl(_) | Via::Systemd(_) | Via::PgCtlcluster(_) => return Ok(()),
            Via::Compose(_) => match wish.beside_container() {
                Some(help) => ("runs in a container", help),
                None => return Ok(()),
            },
            Via::Managed(_) => ("is managed", wish.instead()),
        };
        let message = format!("`{}` {how}: nothing here can {}", self.name, wish.words());
        Err(vec![ParamFault::new("/database", message).help(help)])
    }

    /// Tells whether only sessions reach its server.
    pub(crate) fn is_managed(&self) -> bool {
        self.entry.is_managed() && !self.is_scratch()
    }
}
