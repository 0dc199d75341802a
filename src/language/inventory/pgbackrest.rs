//! How pgBackRest knows a database: its stanza. All else stands in pgBackRest's own configuration.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The pgBackRest stanza of a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PgBackRest {
    /// The stanza's name.
    pub stanza: String,
    /// pgBackRest's configuration file, an absolute path. Default: where pgBackRest itself looks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<PathBuf>,
    /// The number of the repository that is read. Default: all of them, in pgBackRest's order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<u32>,
}

impl PgBackRest {
    /// The kind of its backups in lists and expectations; the tier is `full`, `diff` or `incr`.
    pub const KIND: &'static str = "pgbackrest";
}
