//! Major versions of PostgreSQL, and all in which they differ for this program.
//!
//! This is the one place that knows. Elsewhere nobody compares versions (`tests/it/architecture.rs`): one asks
//! [`Major::has`]. `docs/postgresql.md` shows the table, with what the server is asked instead.

use std::fmt;

/// A major version of PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Major(u16);

/// What a major version of PostgreSQL changed, as far as it makes a difference here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A base backup comes with a `backup_manifest`.
    BackupManifest,
    /// `DROP DATABASE … WITH (FORCE)` ends the database's sessions.
    DropWithForce,
    /// `recovery_init_sync_method` spares a start the sync of each single file.
    SyncMethod,
    /// The setting `archive_library`.
    ArchiveLibrary,
    /// `pg_backup_start` and `pg_backup_stop` in place of `pg_start_backup` and `pg_stop_backup`.
    BackupFunctions,
    /// `BASE_BACKUP` takes options in parentheses and sends everything in one stream.
    OneBackupStream,
    /// Replay reads WAL ahead of itself, `recovery_prefetch`.
    ReadAhead,
    /// A database keeps the version of its collation, `pg_database.datcollversion`.
    CollationVersion,
    /// A database has a locale provider, `datlocprovider` and `daticulocale`.
    LocaleProvider,
    /// A publication may name columns and a condition of a table, `prattrs` and `prqual`.
    PublicationParts,
    /// Commit records name the relations whose statistics they drop.
    DroppedStatistics,
    /// A database may be made by WAL: dropping one got another code.
    DatabaseByWal,
    /// Page images in WAL say which program compressed them.
    ImageCompression,
    /// No setting `stats_temp_directory` any more: statistics are in shared memory.
    SharedStatistics,
    /// A database may have ICU rules, `daticurules`.
    IcuRules,
    /// No setting `promote_trigger_file` any more.
    NoTriggerFile,
    /// Incremental base backups: `summarize_wal`, `UPLOAD_MANIFEST` and `pg_combinebackup`.
    IncrementalBackup,
    /// `daticulocale` is called `datlocale`.
    LocaleColumn,
    /// The setting `event_triggers`, and triggers that fire at login.
    EventTriggers,
    /// `pg_combinebackup --link`.
    CombineByLink,
    /// The number of an object with statistics is eight bytes wide in commit records.
    WideStatistics,
    /// A relation has its count of frozen pages, `pg_class.relallfrozen`.
    FrozenPages,
}

/// Magic numbers of WAL pages, `XLOG_PAGE_MAGIC` of `xlog_internal.h`.
const WAL: [(u16, Major); 6] = [
    (0xD106, Major(13)),
    (0xD10D, Major(14)),
    (0xD110, Major(15)),
    (0xD113, Major(16)),
    (0xD116, Major(17)),
    (0xD118, Major(18)),
];

/// Catalog versions of the releases, `CATALOG_VERSION_NO` of `catversion.h`.
const CATALOGS: [(u32, Major); 6] = [
    (202_007_201, Major(13)),
    (202_107_181, Major(14)),
    (202_209_061, Major(15)),
    (202_307_071, Major(16)),
    (202_406_281, Major(17)),
    (202_506_291, Major(18)),
];

impl Major {
    /// The oldest one whose data and WAL are read.
    pub const OLDEST: Self = Self(13);
    /// The newest one that is known.
    pub const NEWEST: Self = Self(18);

    /// Reads `server_version_num`: `150018` is of 15.
    #[must_use]
    pub fn of_number(version_num: u32) -> Self {
        Self(u16::try_from(version_num / 10_000).unwrap_or(u16::MAX))
    }

    /// Reads a version as a server, a program or `PG_VERSION` says it: `15.18`, `18beta1`, `15`.
    #[must_use]
    pub fn of_text(version: &str) -> Option<Self> {
        major_text(version).parse().ok().map(Self)
    }

    /// Tells who writes WAL pages with a magic number; `None` for a number that is not known.
    #[must_use]
    pub fn of_wal(magic: u16) -> Option<Self> {
        WAL.iter().find(|(known, _)| *known == magic).map(|(_, major)| *major)
    }

    /// Tells whose catalog it is; `None` for one older than all that are known.
    #[must_use]
    pub fn of_catalog(version: u32) -> Option<Self> {
        CATALOGS.iter().rev().find(|(first, _)| version >= *first).map(|(_, major)| *major)
    }

    /// Tells whether a change is in it.
    #[must_use]
    pub fn has(self, change: Change) -> bool {
        self >= change.since()
    }
}

impl fmt::Display for Major {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Change {
    /// All of them, oldest first.
    pub const ALL: &'static [Self] = &[
        Self::BackupManifest,
        Self::DropWithForce,
        Self::SyncMethod,
        Self::ArchiveLibrary,
        Self::BackupFunctions,
        Self::OneBackupStream,
        Self::ReadAhead,
        Self::CollationVersion,
        Self::LocaleProvider,
        Self::PublicationParts,
        Self::DroppedStatistics,
        Self::DatabaseByWal,
        Self::ImageCompression,
        Self::SharedStatistics,
        Self::IcuRules,
        Self::NoTriggerFile,
        Self::IncrementalBackup,
        Self::LocaleColumn,
        Self::EventTriggers,
        Self::CombineByLink,
        Self::WideStatistics,
        Self::FrozenPages,
    ];

    /// The major version that brought it.
    #[must_use]
    pub fn since(self) -> Major {
        self.facts().0
    }

    /// What is different since then.
    #[must_use]
    pub fn summary(self) -> &'static str {
        self.facts().1
    }

    /// Where PostgreSQL says so.
    #[must_use]
    pub fn source(self) -> &'static str {
        self.facts().2
    }

    fn facts(self) -> (Major, &'static str, &'static str) {
        let (since, summary, source) = match self {
            Self::BackupManifest => (13, "a base backup comes with a `backup_manifest`", "release notes 13"),
            Self::DropWithForce => (13, "`DROP DATABASE … WITH (FORCE)` ends the sessions", "release notes 13"),
            Self::SyncMethod => {
                (14, "`recovery_init_sync_method`: a start need not sync each file by itself", "release notes 14")
            }
            Self::ArchiveLibrary => (15, "`archive_library` beside `archive_command`", "release notes 15"),
            Self::BackupFunctions => (
                15,
                "`pg_backup_start`, `pg_backup_stop`; `pg_start_backup`, `pg_stop_backup` before",
                "release notes 15",
            ),
            Self::OneBackupStream => {
                let summary =
                    "`BASE_BACKUP (…)`, options in parentheses, and one stream; a stream for each archive before";
                (15, summary, "manual 15, Streaming Replication Protocol")
            }
            Self::ReadAhead => (15, "`recovery_prefetch`: replay reads WAL ahead of itself", "release notes 15"),
            Self::CollationVersion => (15, "`pg_database.datcollversion`", "release notes 15"),
            Self::LocaleProvider => {
                (15, "`pg_database.datlocprovider` and `daticulocale`, `LOCALE_PROVIDER`", "release notes 15")
            }
            Self::PublicationParts => {
                (15, "`CREATE PUBLICATION … TABLE t (columns) WHERE (…)`: `prattrs`, `prqual`", "release notes 15")
            }
            Self::DroppedStatistics => {
                (15, "commit records name the relations whose statistics they drop", "`access/xact.h` of 15")
            }
            Self::DatabaseByWal => {
                let summary =
                    "`CREATE DATABASE … STRATEGY wal_log`; a record of `DROP DATABASE` has code 0x20, 0x10 before";
                (15, summary, "release notes 15, `commands/dbcommands_xlog.h`")
            }
            Self::ImageCompression => {
                (15, "page images in WAL name LZ4 and zstd beside pglz", "release notes 15, `access/xlogrecord.h`")
            }
            Self::SharedStatistics => {
                (15, "no `stats_temp_directory`: statistics are in shared memory", "release notes 15")
            }
            Self::IcuRules => (16, "`pg_database.daticurules`, `ICU_RULES`", "release notes 16"),
            Self::NoTriggerFile => (16, "no `promote_trigger_file`, which opens a standby before", "release notes 16"),
            Self::IncrementalBackup => {
                let summary = "incremental base backups: `summarize_wal`, `UPLOAD_MANIFEST`, `pg_combinebackup`";
                (17, summary, "release notes 17")
            }
            Self::LocaleColumn => (17, "`pg_database.daticulocale` is called `datlocale`", "release notes 17"),
            Self::EventTriggers => (17, "event triggers may fire at login; `event_triggers`", "release notes 17"),
            Self::CombineByLink => (18, "`pg_combinebackup --link`", "release notes 18"),
            Self::WideStatistics => {
                let summary = "objects with statistics have numbers of eight bytes in commit records, four before";
                (18, summary, "`access/xact.h` of 18")
            }
            Self::FrozenPages => (18, "`pg_class.relallfrozen`", "release notes 18"),
        };
        (Major(since), summary, source)
    }
}

/// The major version in a version as a server, a program or `PG_VERSION` says it, as text: it names folders of programs.
#[must_use]
pub fn major_text(version: &str) -> &str {
    version.trim().split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_say_a_version_names_its_major() {
        for text in ["15.18", "15", "15\n", "15beta2", "15.18 (Debian 15.18-0+deb12u1)"] {
            assert_eq!(Major::of_text(text), Some(Major(15)), "{text}");
        }
        assert_eq!((Major::of_text("devel"), Major::of_text("")), (None, None));
        assert_eq!((Major::of_number(150_018), Major::of_number(90_624)), (Major(15), Major(9)));
        assert_eq!((Major::of_wal(0xD118), Major::of_wal(0xD119)), (Some(Major::NEWEST), None));
        assert_eq!(Major::of_catalog(202_209_061), Some(Major(15)));
        assert_eq!((Major::of_catalog(202_209_060), Major::of_catalog(1)), (Some(Major(14)), None));
    }

    #[test]
    fn changes_stand_in_the_order_in_which_they_came() {
        assert!(Change::ALL.is_sorted_by_key(|change| change.since()));
        assert!(Change::ALL.iter().all(|change| Major::NEWEST.has(*change)));
        assert!(!Major(14).has(Change::ArchiveLibrary) && Major(15).has(Change::ArchiveLibrary));
    }
}
