//! What runbooks of one team share: databases, services, stores, environments.
//!
//! Runbooks name entries and never repeat their paths and ports: drill isolation, protection,
//! lock names and confirmation texts follow from the name.

mod alike;
mod apart;
mod check;
mod condition;
mod enclosed;
mod environment;
mod expectation;
mod file;
mod location;
mod pgbackrest;
mod recipients;
mod retention;
mod secret;
mod spec;
mod store;
#[cfg(test)]
mod tests;
mod via;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::units::Span;

pub use apart::Together;
pub use condition::Expectation;
pub use environment::{BUILT_IN, DRILL, EnvironmentError, choose_environment};
pub use expectation::{ExpectedBackup, Schedule};
pub(super) use file::check_identifier;
pub use file::{InventoryFile, is_name};
pub use location::{BucketPlace, SCHEMES, SftpPlace, StoreLocation, StoreUrlError};
pub use pgbackrest::PgBackRest;
pub use retention::{KeepRule, KeepUntil, Retention, WalRule};
pub use secret::{AppRole, AwsSecret, Credential, SecretEntry, SecretSpec, VaultSecret};
pub use spec::file_schema;
pub(super) use spec::schema_of;
pub use store::{
    AssumedRole, Checksums, Compression, CompressionFormat, EarlierKeys, Encryption, GpgSymmetric, LockMode,
    NamedRecipient, ObjectLock, OpensslDigest, OpensslEnc, OpensslKdf, Recipient, RetrievalPolicy, RetrievalSpeed,
    ServerSideEncryption, SshAccess, StoreCredentials, StoreEntry,
};
pub use via::{Compose, DebianCluster, Managed, NoDebianCluster, PgCtl, Via, is_loopback};

/// The inventory of one environment: entries by name, already merged.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Inventory {
    /// The environment that sees it so; empty in what older versions wrote.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub environment: String,
    /// Databases by name.
    pub databases: BTreeMap<String, Database>,
    /// Services by name.
    pub services: BTreeMap<String, Service>,
    /// Stores by name.
    pub stores: BTreeMap<String, StoreEntry>,
    /// Secrets by name.
    pub secrets: BTreeMap<String, SecretEntry>,
    /// Environments by name.
    pub environments: BTreeMap<String, Environment>,
    /// Variables by name; may hold templates that read `run.*` and `vars`.
    pub vars: BTreeMap<String, Value>,
    /// How the history is proven to others.
    #[serde(default, skip_serializing_if = "AuditSettings::is_empty")]
    pub audit: AuditSettings,
    /// How long backups are kept; without it nothing is ever pruned. Each environment's own: [`Inventory::retention_in`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// The backups there must be, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub backups: BTreeMap<String, ExpectedBackup>,
}

/// How the history of runs is proven to others.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuditSettings {
    /// The store that each run and the ledger are copied to when the run has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ship: Option<String>,
    /// The SSH private key (Ed25519, unencrypted) that signs each run's head when it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sign_key: Option<PathBuf>,
    /// Whose signatures make a restore proof count, as lines of an allowed-signers file: `NAME ssh-ed25519 AAAA…`. Empty:
    /// every proof counts, signed or not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub proof_signers: Vec<String>,
}

impl AuditSettings {
    /// Tells whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One database server (for PostgreSQL: one cluster).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// The host it runs on; only `local` so far.
    pub host: String,
    /// Its data directory, an absolute path. A managed server has none; that of a server in a container is what its
    /// container says, unless it is given here.
    pub pgdata: PathBuf,
    /// Its TCP port, also part of its socket's name. Default 5432.
    pub port: u16,
    /// The folder of its socket; TCP when absent.
    pub socket: Option<PathBuf>,
    /// The host that TCP connections go to, by name or number. Default `localhost`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The database that queries run in unless they say another. Default `postgres`.
    pub dbname: String,
    /// The role to connect as. Default `postgres`.
    pub user: String,
    /// The secret that holds the role's password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// How TLS is used on TCP connections. Default `prefer`.
    pub sslmode: SslMode,
    /// The file of the certificates (PEM) that `sslmode: verify-full` trusts. Default: those of this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_cert: Option<PathBuf>,
    /// The operating-system user of the server. Default: the owner of `pgdata`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os_user: Option<String>,
    /// The folder of the server programs. Default: found by the version in `pgdata`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bin: Option<PathBuf>,
    /// How the server is stopped and started. Default `{ pg_ctl: {} }`.
    pub via: Via,
    /// The store of its backups and WAL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// The other stores that each of its backups goes to whole, below the same prefix.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub backup_stores: Vec<String>,
    /// The other stores that its WAL is archived into, below the same prefix: a recovery reads them all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub wal_stores: Vec<String>,
    /// In how many of the stores of its WAL a file must be safe, for `wal push` and for what a recovery rescues. Default:
    /// in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub wal_at_least: Option<usize>,
    /// The prefix inside the store. Default: the entry's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Its stanza, where pgBackRest backs it up: for `pgbackrest.*`, and for `runbook backups list` and `health`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pgbackrest: Option<PgBackRest>,
    /// Where a restore puts tablespaces, by name, each an absolute path. Default: where the backup had them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tablespaces: BTreeMap<String, PathBuf>,
    /// The services that use it.
    pub services: Vec<String>,
    /// Checks that prove it healthy, for `postgres.check`.
    pub checks: Vec<SqlCheck>,
    /// Its standbys as `host:port`: asked before a recovery whether promoting one is the faster way.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub standbys: Vec<String>,
    /// What may be lost of it at most, the recovery point objective: what `wal status`, `status`, `pitr` and
    /// `postgres.configure_archiving` judge by unless they are told another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpo: Option<Span>,
    /// How `postgres.erase` finds again who must be forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub erasure: Option<ErasureSettings>,
    /// In an environment's override: a throw-away instance in `run.scratch`, isolated by construction.
    pub scratch: bool,
    /// The data directory that a throw-away instance stands in for, which is only read. Set when a run is bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub live: Option<PathBuf>,
}

impl Database {
    /// The stores that its WAL lies in, that of its backups first.
    pub fn archives(&self) -> impl Iterator<Item = &str> {
        let further = self.wal_stores.iter().filter(|name| Some(*name) != self.store.as_ref());
        self.store.iter().chain(further).map(String::as_str)
    }

    /// The stores that a backup of it goes to, its own first.
    pub fn backup_destinations(&self) -> impl Iterator<Item = &str> {
        let further = self.backup_stores.iter().filter(|name| Some(*name) != self.store.as_ref());
        self.store.iter().chain(further).map(String::as_str)
    }

    /// Every store that its WAL or a backup of it lies in, once: what is frozen there is frozen in all of them.
    #[must_use]
    pub fn keeping(&self) -> BTreeSet<&str> {
        self.archives().chain(self.backup_destinations()).collect()
    }

    /// Its stanza, where pgBackRest has its backups and no store does.
    pub fn sole_stanza(&self) -> Option<&PgBackRest> {
        self.pgbackrest.as_ref().filter(|_| self.store.is_none())
    }
}

/// How who must be forgotten is found again in a restored database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErasureSettings {
    /// The secrets that hashed the subjects of the erasure ledger: the one of now, and earlier ones.
    #[schemars(length(min = 1))]
    pub keys: Vec<String>,
    /// How far apart the clocks of the machines may be that write the ledger and the data: a line that is older than the
    /// data by no more than this counts all the same, and its rows are erased again. Default `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub clock_tolerance: Option<Span>,
}

impl ErasureSettings {
    /// How far apart the clocks may be where nothing says otherwise.
    const CLOCK_TOLERANCE: Duration = Duration::from_secs(5 * 60);

    /// How far apart the clocks may be.
    #[must_use]
    pub fn clock_tolerance(&self) -> Duration {
        self.clock_tolerance.map_or(Self::CLOCK_TOLERANCE, |span| span.0)
    }
}

/// How TLS is used, as libpq names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// Never.
    Disable,
    /// When the server offers it; the certificate is not checked.
    #[default]
    Prefer,
    /// Always; the certificate is not checked.
    Require,
    /// Always; the certificate must name the host.
    VerifyFull,
}

/// One SQL statement with what it must give.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SqlCheck {
    /// A name for reports.
    pub name: String,
    /// The statement; its first column of the first row is judged.
    pub sql: String,
    /// What the value must be: `> 0`, `= 42`, `>= 1.5`, `!= ''`, `= 'text'`; absent: at least one row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
    /// The database to ask; default the entry's `dbname`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dbname: Option<String>,
}

/// A service that uses databases. Exactly one of `systemd`, `command` and `pgbouncer`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Service {
    /// The host it runs on; only `local` so far.
    pub host: String,
    /// A systemd unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub systemd: Option<String>,
    /// Commands of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<ServiceCommands>,
    /// A connection pooler: stopping pauses it, its clients wait; starting has it reconnect and resume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pgbouncer: Option<Pgbouncer>,
    /// Where it answers when it is healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// The admin console of a pgbouncer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Pgbouncer {
    /// The folder of its socket; TCP on the loopback address when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// Its port. Default 6432.
    pub port: u16,
    /// A user of its `admin_users`. Default `pgbouncer`.
    pub user: String,
    /// The secret that holds the user's password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// The databases of its configuration that are paused. Default: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<String>,
}

impl Pgbouncer {
    /// The port it has unless it says another.
    pub const PORT: u16 = 6432;
}

/// Commands that stop, start and judge a service, each an argument list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceCommands {
    /// Starts it and returns.
    pub start: Vec<String>,
    /// Stops it and returns when it has ended.
    pub stop: Vec<String>,
    /// Exit code 0 = running, 3 = stopped (the codes of LSB init scripts).
    pub status: Vec<String>,
}

/// Overrides of entries by name, and how careful to be.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Environment {
    /// Real runs want `--confirm NAME`; drills may not write to it.
    pub protected: bool,
    /// Taken when no environment is named.
    pub default: bool,
    /// Members of databases that differ, by name.
    #[schemars(with = "BTreeMap<String, Database>")]
    pub databases: BTreeMap<String, Value>,
    /// Members of services that differ, by name.
    #[schemars(with = "BTreeMap<String, Service>")]
    pub services: BTreeMap<String, Value>,
    /// Members of stores that differ, by name.
    #[schemars(with = "BTreeMap<String, StoreEntry>")]
    pub stores: BTreeMap<String, Value>,
    /// Members of expected backups that differ, by name.
    #[schemars(with = "BTreeMap<String, ExpectedBackup>")]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub backups: BTreeMap<String, Value>,
    /// What of `retention` differs: whole tiers by name, and `timezone`, `never_below`, `default` and `wal` as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Secrets that differ, by name.
    pub secrets: BTreeMap<String, SecretEntry>,
    /// Variables that differ.
    pub vars: BTreeMap<String, Value>,
}

/// How long something may take; kept here so that schemas of both file kinds share it.
pub type Budget = Span;
