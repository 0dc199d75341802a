//! How a server is reached beyond its sessions: what stops and starts it, and where its files are.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a server is stopped and started. Exactly one member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Via {
    /// By `pg_ctl` as the operating-system user.
    PgCtl(PgCtl),
    /// By a systemd unit.
    Systemd(String),
}

impl Default for Via {
    fn default() -> Self {
        Self::PgCtl(PgCtl::default())
    }
}

/// Settings of `pg_ctl`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PgCtl {
    /// The server's log file; default `log/runbook-startup.log` inside `pgdata`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<PathBuf>,
    /// Further server options, as `pg_ctl -o` takes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<String>,
}
