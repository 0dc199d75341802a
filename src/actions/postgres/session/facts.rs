//! What a running server tells about itself before a base backup.

use serde::{Deserialize, Serialize};

use super::connect::Session;
use crate::action::ActionError;
use crate::catalog::{ArchiveSettings, DatabaseLocale, Slot, Standby, Tablespace};
use crate::pgformat::{Change, Major};

/// A server's own words.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct ServerFacts {
    /// `server_version`, for people.
    pub(crate) version: String,
    /// `server_version_num`.
    pub(crate) version_num: u32,
    /// The cluster.
    pub(crate) system_id: u64,
    /// `wal_segment_size` in bytes.
    pub(crate) wal_segment_bytes: u64,
    /// Whether pages carry checksums.
    pub(crate) data_checksums: bool,
    /// `wal_level`.
    pub(crate) wal_level: String,
    /// Whether it is a standby.
    pub(crate) in_recovery: bool,
    /// How it archives.
    pub(crate) archiving: ArchiveSettings,
    /// Replication slots: no base backup holds them (facts 2.10.21).
    pub(crate) slots: Vec<Slot>,
    /// Standbys that follow it.
    pub(crate) standbys: Vec<Standby>,
    /// Tablespaces outside the data directory.
    pub(crate) tablespaces: Vec<Tablespace>,
    /// Locale of each database, with the collation version where the server records it.
    pub(crate) databases: Vec<DatabaseLocale>,
    /// The libraries that it loads at start.
    pub(crate) preload_libraries: Vec<String>,
    /// The sum of all databases' sizes.
    pub(crate) size_bytes: u64,
}

/// Whether finished segments are given to anything (facts 2.10.14).
pub(crate) fn archives(settings: &ArchiveSettings) -> bool {
    let command = !settings.command.is_empty() && settings.command != "(disabled)";
    settings.mode != "off" && (command || !settings.library.is_empty())
}

const SETTINGS: &str = "SELECT current_setting('server_version'), current_setting('server_version_num'), \
 (SELECT system_identifier FROM pg_control_system()), \
 (SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'), current_setting('data_checksums'), \
 current_setting('wal_level'), pg_is_in_recovery(), current_setting('archive_mode'), \
 current_setting('archive_command'), current_setting('archive_library', true), current_setting('archive_timeout'), \
 (SELECT sum(pg_database_size(oid)) FROM pg_database WHERE has_database_privilege(oid, 'CONNECT')), \
 (SELECT setting FROM pg_settings WHERE name = 'shared_preload_libraries')";

const SLOTS: &str = "SELECT slot_name, slot_type, plugin, database \
 FROM pg_replication_slots WHERE NOT temporary ORDER BY 1";

/// Programs that only take a copy connect as standbys do, and so do the consumers of logical slots.
const STANDBYS: &str = "SELECT application_name, host(client_addr) FROM pg_stat_replication \
 WHERE state <> 'backup' AND application_name NOT IN ('pg_basebackup', 'pg_receivewal') \
 AND NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_type = 'logical' AND active_pid = pid) ORDER BY 1";

const TABLESPACES: &str = "SELECT oid, spcname, pg_tablespace_location(oid) FROM pg_tablespace \
 WHERE pg_tablespace_location(oid) <> '' ORDER BY 1";

impl ServerFacts {
    /// Asks a server.
    ///
    /// # Errors
    /// Fails as the server does, or when an answer makes no sense.
    pub(crate) async fn of(session: &mut Session) -> Result<Self, ActionError> {
        let settings = session.query(SETTINGS).await?;
        let text = |column: usize| settings.at(0, column).unwrap_or_default().to_owned();
        let number = |column: usize, what: &str| {
            let found = settings.at(0, column).and_then(|text| text.parse::<u64>().ok());
            found.ok_or_else(|| ActionError::fatal(format!("the server told no {what}")))
        };
        let version_num = u32::try_from(number(1, "version")?).unwrap_or_default();
        let archiving = ArchiveSettings { mode: text(7), command: text(8), library: text(9), timeout: text(10) };
        let mut facts = Self {
            version: text(0),
            version_num,
            system_id: number(2, "system identifier")?,
            wal_segment_bytes: number(3, "segment size")?,
            data_checksums: text(4) == "on",
            wal_level: text(5),
            in_recovery: text(6) == "t",
            archiving,
            size_bytes: number(11, "size")?,
            preload_libraries: names(&text(12)),
            ..Self::default()
        };
        facts.lists(session).await?;
        Ok(facts)
    }

    /// The server's major version.
    pub(crate) fn major(&self) -> Major {
        Major::of_number(self.version_num)
    }

    async fn lists(&mut self, session: &mut Session) -> Result<(), ActionError> {
        let own = |cell: &Option<String>| cell.clone().unwrap_or_default();
        for row in session.query(SLOTS).await?.rows {
            let [name, kind, plugin, dbname] = row.as_slice() else { continue };
            self.slots.push(Slot { name: own(name), kind: own(kind), plugin: plugin.clone(), dbname: dbname.clone() });
        }
        self.standbys = standbys(session).await?;
        for row in session.query(TABLESPACES).await?.rows {
            let [oid, name, location] = row.as_slice() else { continue };
            let oid = own(oid).parse().map_err(|_| ActionError::fatal("a tablespace has no number"))?;
            self.tablespaces.push(Tablespace { oid, name: own(name), location: own(location) });
        }
        let has = |change, column: &'static str| if self.major().has(change) { column } else { "NULL" };
        let version = has(Change::CollationVersion, "datcollversion");
        let provider = has(Change::LocaleProvider, "datlocprovider");
        let databases = format!(
            "SELECT datname, pg_encoding_to_char(encoding), datcollate, {version}, {provider} FROM pg_database \
             WHERE datallowconn ORDER BY 1"
        );
        for row in session.query(&databases).await?.rows {
            let [name, encoding, collate, version, provider] = row.as_slice() else { continue };
            self.databases.push(DatabaseLocale {
                name: own(name),
                encoding: own(encoding),
                collate: own(collate),
                collation_version: version.clone(),
                provider: provider.clone(),
            });
        }
        Ok(())
    }
}

/// Asks a server for the standbys that follow it.
///
/// # Errors
/// Fails as the server does.
pub(crate) async fn standbys(session: &mut Session) -> Result<Vec<Standby>, ActionError> {
    let rows = session.query(STANDBYS).await?.rows;
    let standbys = rows.iter().filter_map(|row| match row.as_slice() {
        [name, address] => Some(Standby { name: name.clone().unwrap_or_default(), address: address.clone() }),
        _ => None,
    });
    Ok(standbys.collect())
}

/// The names of a list as the configuration writes it.
fn names(list: &str) -> Vec<String> {
    let names = list.split(',').map(|name| name.trim().trim_matches('"').to_owned());
    names.filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::{ArchiveSettings, archives, names};

    #[test]
    fn preloaded_libraries_are_listed_as_the_configuration_writes_them() {
        assert_eq!(names("pg_stat_statements, \"auto_explain\""), ["pg_stat_statements", "auto_explain"]);
        assert!(names("").is_empty());
    }

    fn archiving(mode: &str, command: &str, library: &str) -> bool {
        archives(&ArchiveSettings {
            mode: mode.into(),
            command: command.into(),
            library: library.into(),
            timeout: "0".into(),
        })
    }

    #[test]
    fn archiving_is_on_with_a_command_or_a_library_only() {
        assert!(archiving("on", "cp %p /a/%f", "") && archiving("on", "", "basic_archive"));
        assert!(!archiving("off", "cp %p /a/%f", "") && !archiving("on", "", "") && !archiving("on", "(disabled)", ""));
    }
}
