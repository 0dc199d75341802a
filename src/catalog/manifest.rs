//! The manifest of a backup.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ContentFacts, DumpFacts, ServerConfiguration};
use crate::action::{Encoding, Encrypted, ObjectKey, Plain};
use crate::base::{Digest, Timestamp};
use crate::language::inventory::CompressionFormat;
use crate::pgformat::{Lsn, SegmentName, SegmentSize, SystemId, Timeline};

/// The format this program writes. Readers take every format up to it.
/// 1: physical backups only, their source under the name `database`. 2: every kind, encodings, tiers, chains.
pub const FORMAT: u32 = 2;

/// The kind of a physical backup of a whole PostgreSQL cluster.
pub const KIND_POSTGRES_BASE: &str = "postgres.base";

/// The kind of a logical dump of one PostgreSQL database.
pub const KIND_POSTGRES_DUMP: &str = "postgres.dump";

/// The kind of a volume snapshot of a whole PostgreSQL cluster: the catalog holds its label, not its data.
pub const KIND_POSTGRES_SNAPSHOT: &str = "postgres.snapshot";

/// The kind of a backup of files, when its maker calls it nothing else.
pub const KIND_FILES: &str = "files";

/// What the catalog itself keeps in a backup's folder.
const RESERVED: [&str; 7] =
    ["manifest.json", "SHA256SUMS", "RESTORE.md", "restore.sh", "hold.json", "proofs", "verified"];

/// Everything known of one backup. Fields this version does not know are ignored when read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Manifest {
    /// The format of this text.
    pub format: u32,
    /// The backup's id, also the folder it lies in.
    pub id: String,
    /// Its kind: [`KIND_POSTGRES_BASE`], `postgres.dump`, `files`, or what whoever made it calls it.
    pub kind: String,
    /// What it was taken of: a database of the inventory, or the name its maker gave the data.
    #[serde(alias = "database")]
    pub source: String,
    /// The tier whose retention applies: `daily`, `monthly`, `before_deployment` …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// The environment it was taken in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// The run that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The backup of the same source that this one is an increment to: without it, this one is useless.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// When it began.
    #[schemars(with = "String")]
    pub started_at: Timestamp,
    /// Of what was read from a standby, which may lag: all that was committed before this moment, by the primary's clock,
    /// is in it. Without it `started_at` says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub data_at: Option<Timestamp>,
    /// When it ended: the earliest time it can be restored to.
    #[schemars(with = "String")]
    pub stopped_at: Timestamp,
    /// What PostgreSQL needs to know of a physical backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresFacts>,
    /// Where the data is, for a backup by a volume snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Snapshot>,
    /// Every object of it but the manifest.
    pub objects: Vec<ManifestObject>,
    /// What a restore of a dump needs to know of its database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dump: Option<DumpFacts>,
    /// Counts and hashes of its data: of a dump from its own snapshot. Those of a base backup are taken by its
    /// first proven restore, and kept with that proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<ContentFacts>,
    /// What the person who took it called it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The version of the program that took it.
    pub tool_version: String,
}

/// The cluster, the WAL and the settings a base backup depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PostgresFacts {
    /// The server's version as it says it: `15.18`.
    pub server_version: String,
    /// The cluster's identity.
    pub system_id: SystemId,
    /// The timeline it was taken on.
    pub timeline: Timeline,
    /// Where replay begins.
    pub start_lsn: Lsn,
    /// Where the data is consistent.
    pub stop_lsn: Lsn,
    /// The size of a WAL segment.
    pub segment_size: SegmentSize,
    /// Tablespaces outside the data directory.
    #[serde(default)]
    pub tablespaces: Vec<Tablespace>,
    /// Replication slots, which a backup does not contain.
    #[serde(default)]
    pub slots: Vec<Slot>,
    /// Standbys that followed the server, as it saw them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub standbys: Vec<Standby>,
    /// Whether its pages carry checksums; `None` in manifests that did not record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_checksums: Option<bool>,
    /// How the server archived its WAL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archiving: Option<ArchiveSettings>,
    /// Encoding and collation of each database: on a system with another collation version its text
    /// indexes must be rebuilt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<DatabaseLocale>,
    /// The libraries that its server loads at start, without which it does not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preload_libraries: Vec<String>,
    /// Pages whose checksum was wrong when it was taken, and that its maker wanted to keep nonetheless.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bad_pages: Vec<String>,
    /// What its server read as its configuration; `None` where the role was not told, and in manifests that did not record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<ServerConfiguration>,
}

/// A volume snapshot that holds the data of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    /// Where it is found: a volume, a device, a folder, as its maker calls it.
    pub place: String,
    /// The data directory on the server that was snapshotted.
    pub pgdata: String,
}

/// How a server archives its WAL. A library overrides the command without a word.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ArchiveSettings {
    /// `archive_mode`.
    pub mode: String,
    /// `archive_command`.
    pub command: String,
    /// `archive_library`.
    #[serde(default)]
    pub library: String,
    /// `archive_timeout`.
    #[serde(default)]
    pub timeout: String,
}

/// A database's encoding and collation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DatabaseLocale {
    /// Its name.
    pub name: String,
    /// Its encoding.
    pub encoding: String,
    /// `LC_COLLATE`.
    pub collate: String,
    /// The collation library's version when its indexes were built, where the server records it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collation_version: Option<String>,
    /// The collation library as `pg_database` has it: `c` for the C library, `i` for ICU, `b` for the server's own. Unknown
    /// before PostgreSQL 15.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
}

impl DatabaseLocale {
    /// The version of the C library that its indexes were built with, where it is that which sorts its texts.
    #[must_use]
    pub fn glibc_version(&self) -> Option<&str> {
        let named = !matches!(self.collate.as_str(), "C" | "POSIX" | "C.UTF-8" | "C.utf8");
        let version = self.collation_version.as_deref().filter(|_| named)?;
        let is_libc = match self.provider.as_deref() {
            Some(provider) => provider == "c",
            // Where nobody noted the library, the form of the version tells: ICU has others.
            None => version.starts_with("2."),
        };
        is_libc.then_some(version)
    }
}

/// A tablespace outside the data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tablespace {
    /// Its number, the name of its link in `pg_tblspc`.
    pub oid: u32,
    /// Its name.
    pub name: String,
    /// Where it lay.
    pub location: String,
}

/// A replication slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// `physical` or `logical`.
    pub kind: String,
    /// The output plugin of a logical slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// The database of a logical slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dbname: Option<String>,
}

/// A standby as its server saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Standby {
    /// The name it gave itself.
    pub name: String,
    /// Where it connected from; `None` for the server's own machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

impl std::fmt::Display for Standby {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.address {
            Some(address) => write!(f, "`{}` at {address}", self.name),
            None => write!(f, "`{}` on the same machine", self.name),
        }
    }
}

/// What an object of a backup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ObjectRole {
    /// The data directory.
    Data,
    /// One tablespace.
    Tablespace,
    /// The WAL streamed beside the backup.
    Wal,
    /// PostgreSQL's own `backup_manifest`.
    BackupManifest,
    /// A logical dump.
    Dump,
    /// Roles and tablespaces of a cluster.
    Globals,
    /// A configuration file of a server that lies outside its data directory, or is a link in it.
    Config,
    /// A file or an archive of files.
    File,
    /// Something a later version knows.
    #[serde(other)]
    Unknown,
}

/// One object of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ManifestObject {
    /// Its name below the backup's folder.
    pub name: String,
    /// Its size in bytes, as stored.
    pub size_bytes: u64,
    /// SHA-256 of its bytes, as stored.
    pub sha256: Digest,
    /// What it is.
    pub role: ObjectRole,
    /// How the stored bytes were made of the plain ones.
    #[serde(default, skip_serializing_if = "Encoding::is_plain")]
    pub encoding: Encoding,
    /// The plain bytes, where they are not the stored ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plain: Option<Plain>,
    /// The tablespace's number, for the object of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tablespace: Option<u32>,
    /// Its key in the store, where it does not lie in the backup's folder: an imported backup stays where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The folder whose content it is, where its plain bytes are a tar archive of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive_of: Option<String>,
    /// Whether the archive of the data directory holds the WAL of the backup too, which `backup_manifest` does not list:
    /// `pg_basebackup --wal-method=fetch` makes one so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub holds_wal: bool,
}

impl ManifestObject {
    /// Tells whether WAL that makes the backup consistent lies in it.
    #[must_use]
    pub fn has_wal(&self) -> bool {
        self.role == ObjectRole::Wal || self.holds_wal
    }

    /// An object that is stored as it is.
    #[must_use]
    pub fn new(name: impl Into<String>, size_bytes: u64, sha256: Digest, role: ObjectRole) -> Self {
        let encoding = Encoding::default();
        Self {
            name: name.into(),
            size_bytes,
            sha256,
            role,
            encoding,
            plain: None,
            tablespace: None,
            key: None,
            archive_of: None,
            holds_wal: false,
        }
    }

    /// Its name without what packing appended to it: `base.tar` of `base.tar.zst.age`.
    #[must_use]
    pub fn plain_name(&self) -> String {
        let cipher = self.encoding.encryption.as_ref().map(|encrypted| match encrypted {
            Encrypted::Age { .. } | Encrypted::AgePassphrase => ".age",
            Encrypted::OpensslEnc { .. } => ".enc",
            Encrypted::GpgSymmetric { .. } => ".gpg",
        });
        let format = self.encoding.compression.as_ref().and_then(|compressed| match compressed.format {
            CompressionFormat::Zstd => Some(".zst"),
            CompressionFormat::Gzip => Some(".gz"),
            CompressionFormat::Lz4 => Some(".lz4"),
            CompressionFormat::None => None,
        });
        let own = self.name.as_str();
        let outer = cipher.and_then(|suffix| own.strip_suffix(suffix)).unwrap_or(own);
        format.and_then(|suffix| outer.strip_suffix(suffix)).unwrap_or(outer).to_owned()
    }

    /// The bytes that reading it gives: decrypted and decompressed.
    #[must_use]
    pub fn plain_facts(&self) -> Plain {
        self.plain.unwrap_or(Plain { size_bytes: self.size_bytes, sha256: Some(self.sha256) })
    }
}

impl Manifest {
    /// A manifest of this program's making, with nothing but what every backup has.
    #[must_use]
    pub fn new(
        id: impl Into<String>,
        kind: &str,
        source: &str,
        (started_at, stopped_at): (Timestamp, Timestamp),
    ) -> Self {
        Self {
            format: FORMAT,
            id: id.into(),
            kind: kind.to_owned(),
            source: source.to_owned(),
            tier: None,
            environment: None,
            run: None,
            parent: None,
            started_at,
            data_at: None,
            // The server's clock may have been set back meanwhile.
            stopped_at: stopped_at.max(started_at),
            postgres: None,
            snapshot: None,
            objects: Vec::new(),
            dump: None,
            facts: None,
            label: None,
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// What PostgreSQL needs to know of a physical backup.
    ///
    /// # Errors
    /// Fails for a backup of another kind.
    pub fn cluster(&self) -> Result<&PostgresFacts, super::CatalogError> {
        self.postgres.as_ref().ok_or_else(|| super::CatalogError::Kind {
            id: self.id.clone(),
            kind: self.kind.clone(),
            wanted: KIND_POSTGRES_BASE,
        })
    }

    /// Returns the sum of its objects' sizes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.objects.iter().map(|object| object.size_bytes).sum()
    }

    /// Returns the key of one of its objects.
    ///
    /// # Errors
    /// Fails when the manifest names an object that cannot have a key.
    pub fn key_of(&self, prefix: &str, object: &ManifestObject) -> Result<ObjectKey, super::CatalogError> {
        match &object.key {
            Some(key) => key.parse().map_err(|_| super::CatalogError::Key(key.clone())),
            None => super::BackupPlace::of(prefix, self).key(&object.name),
        }
    }

    /// Tells what makes no sense in it; `None` when it can be used.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        if self.format == 0 || self.format > FORMAT {
            return Some(format!("it has format {}, known is {FORMAT}", self.format));
        }
        if self.stopped_at < self.started_at {
            return Some("it ends before it begins".to_owned());
        }
        match &self.postgres {
            Some(postgres) if postgres.stop_lsn <= postgres.start_lsn => {
                return Some("its WAL ends before it begins".to_owned());
            }
            None if [KIND_POSTGRES_BASE, KIND_POSTGRES_SNAPSHOT].contains(&self.kind.as_str()) => {
                return Some("it says nothing of the cluster it is a backup of".to_owned());
            }
            Some(_) | None => {}
        }
        let bare = |object: &&ManifestObject| !object.encoding.is_plain() && object.plain.is_none();
        if let Some(object) = self.objects.iter().find(bare) {
            return Some(format!("it does not tell the plain bytes of `{}`", object.name));
        }
        if self.objects.is_empty() {
            return Some("it names no object".to_owned());
        }
        let escaping = |folder: &String| folder.split('/').any(|part| matches!(part, "" | "." | ".."));
        if let Some(object) = self.objects.iter().find(|object| object.archive_of.as_ref().is_some_and(escaping)) {
            return Some(format!("its object `{}` leads out of the target", object.name));
        }
        let unsafe_name = |name: &str| {
            let first = name.split('/').next().unwrap_or_default();
            RESERVED.contains(&first)
                || name.contains(char::is_control)
                || name.split('/').any(|part| matches!(part, "" | "." | ".."))
        };
        self.objects.iter().find(|o| unsafe_name(&o.name)).map(|o| format!("it names the object `{}`", o.name))
    }
}

impl PostgresFacts {
    /// Returns the segments that make the backup consistent, first to last.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentName> {
        let last_byte = Lsn(self.stop_lsn.0.saturating_sub(1));
        let (first, last) = (self.segment_size.number_of(self.start_lsn), self.segment_size.number_of(last_byte));
        (first..=last).map(|number| SegmentName::new(self.timeline, number, self.segment_size)).collect()
    }

    /// Tells whether the backup cannot become consistent without this segment.
    #[must_use]
    pub fn needs(&self, segment: SegmentName) -> bool {
        let last_byte = Lsn(self.stop_lsn.0.saturating_sub(1));
        segment.timeline() == self.timeline
            && segment.end(self.segment_size) > self.start_lsn
            && segment.start(self.segment_size) <= last_byte
    }
}
