//! A side instance: a restored cluster that cannot touch the one it was taken from (facts 2.10.7).
//!
//! It runs on a generated configuration, and what could reach out is set once more on the command
//! line, which wins over every file. Its socket lies in its own folder; it listens on no port.

use std::path::{Path, PathBuf};

use super::layout::{Cluster, Ground};
use super::limits::{self, Short};
use super::owner::Owner;
use super::settings::{last_value, quoted, shell_word};
use crate::action::{ActionError, Files, HostError, ReadFiles};
use crate::pgformat::{Change, ControlFile, ServerLimits};

/// Its generated configuration.
const CONFIG: &str = "postgresql.conf";
/// Longest path of a socket that every system takes.
const SOCKET_BYTES: usize = 103;

/// A prepared side instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Side {
    root: PathBuf,
    settings: Vec<(String, String)>,
}

impl Side {
    /// Decides the settings of a scratch cluster; `None` for a real one.
    ///
    /// # Errors
    /// Fails when the socket's path would be too long.
    pub(crate) fn of(cluster: &Cluster, control: &ControlFile) -> Result<Option<Self>, ActionError> {
        let Ground::Scratch(root) = &cluster.ground else { return Ok(None) };
        let socket = root.join("s").join(format!(".s.PGSQL.{}", cluster.port));
        if socket.as_os_str().len() > SOCKET_BYTES {
            let fact = format!("the socket's path `{}` is longer than {SOCKET_BYTES} bytes", socket.display());
            return Err(ActionError::fatal(fact).help("use a shorter state folder (`RUNBOOK_STATE`)"));
        }
        Ok(Some(Self { root: root.clone(), settings: settings(root, cluster, control) }))
    }

    /// Writes the generated files.
    ///
    /// # Errors
    /// Fails when a file cannot be written.
    pub(crate) fn write(&self, files: &dyn Files, owner: &Owner) -> Result<(), HostError> {
        for name in ["s", "log"] {
            let folder = self.root.join(name);
            if files.facts(&folder)?.is_none() {
                files.create_dir(&folder, 0o700)?;
            }
            // Also one that is there: whoever made it may have been killed before this line.
            files.chown(&folder, owner.uid, owner.gid)?;
        }
        let conf: String = self.settings.iter().map(|(name, value)| format!("{name} = {}\n", quoted(value))).collect();
        let contents = [(CONFIG, conf.as_str()), ("pg_hba.conf", "local all all trust\n"), ("pg_ident.conf", "")];
        for (name, content) in contents {
            let path = self.root.join(name);
            files.replace_for(&path, content.as_bytes(), 0o600, owner.ids())?;
        }
        Ok(())
    }

    /// The server's command line.
    pub(crate) fn options(&self) -> Vec<String> {
        let file = self.root.join(CONFIG);
        let config = ("config_file".to_owned(), path_text(&file));
        let all = std::iter::once(&config).chain(&self.settings);
        all.map(|(name, value)| format!("-c {}", shell_word(&format!("{name}={value}")))).collect()
    }
}

/// Finds the settings that the server of a side instance was given lower than the WAL needs them.
pub(crate) fn short_of(files: &dyn ReadFiles, root: &Path, needed: ServerLimits) -> Vec<Short> {
    let Ok(bytes) = files.read(&root.join(CONFIG), 1 << 20) else { return Vec::new() };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let value = |name: &str| last_value(&text, name)?.parse::<i32>().ok();
    let short = |(name, needed): (&'static str, i32)| {
        let value = value(name).filter(|value| *value < needed)?;
        Some(Short { name, value, needed })
    };
    limits::named(needed).into_iter().filter_map(short).collect()
}

fn settings(root: &Path, cluster: &Cluster, control: &ControlFile) -> Vec<(String, String)> {
    let limits = control.limits;
    let mut all: Vec<(&str, String)> = vec![
        ("archive_mode", "off".into()),
        ("archive_command", String::new()),
        ("external_pid_file", String::new()),
        ("listen_addresses", String::new()),
        ("max_logical_replication_workers", "0".into()),
        ("primary_conninfo", String::new()),
        ("primary_slot_name", String::new()),
        ("recovery_end_command", String::new()),
        ("archive_cleanup_command", String::new()),
        ("shared_preload_libraries", cluster.scratch_settings.preload.join(",")),
        ("session_preload_libraries", String::new()),
        ("local_preload_libraries", String::new()),
        ("ssl", "off".into()),
        ("port", cluster.port.to_string()),
        ("unix_socket_directories", path_text(&root.join("s"))),
        ("unix_socket_permissions", "0700".into()),
        ("hba_file", path_text(&root.join("pg_hba.conf"))),
        ("ident_file", path_text(&root.join("pg_ident.conf"))),
        ("logging_collector", "off".into()),
        ("log_destination", "stderr".into()),
        ("log_directory", path_text(&root.join("log"))),
        ("shared_buffers", cluster.scratch_settings.shared_buffers()),
        ("huge_pages", "off".into()),
        ("bonjour", "off".into()),
        ("synchronous_standby_names", String::new()),
        ("default_tablespace", String::new()),
        ("temp_tablespaces", String::new()),
        ("hot_standby", "on".into()),
        ("max_connections", limits.max_connections.to_string()),
        ("max_worker_processes", limits.max_worker_processes.to_string()),
        ("max_wal_senders", limits.max_wal_senders.to_string()),
        ("max_prepared_transactions", limits.max_prepared_transactions.to_string()),
        ("max_locks_per_transaction", limits.max_locks_per_transaction.to_string()),
    ];
    if control.has(Change::ArchiveLibrary) {
        all.push(("archive_library", String::new()));
    }
    if !control.has(Change::SharedStatistics) {
        // Files of statistics there are the live server's.
        all.push(("stats_temp_directory", "pg_stat_tmp".into()));
    }
    if !control.has(Change::NoTriggerFile) {
        all.push(("promote_trigger_file", String::new()));
    }
    if control.has(Change::EventTriggers) {
        all.push(("event_triggers", "off".into()));
    }
    if cluster.side.is_some() {
        // Looked at and thrown away: nothing of it has to survive a crash of the machine, nothing has to be tidied up, and no
        // query may take all processors. A drill writes as the real server does: its time is measured.
        all.push(("fsync", "off".into()));
        all.push(("synchronous_commit", "off".into()));
        all.push(("full_page_writes", "off".into()));
        all.push(("autovacuum", "off".into()));
        all.push(("max_parallel_workers_per_gather", "0".into()));
        all.push(("jit", "off".into()));
    }
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
