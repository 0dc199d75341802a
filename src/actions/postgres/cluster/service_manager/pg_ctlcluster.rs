//! Debian's `pg_ctlcluster`: the configuration lies in `/etc/postgresql`, the log in `/var/log/postgresql`, and where
//! systemd runs the machine its unit keeps the server (`pg_ctlcluster(1)`, `pg_wrapper(1)` of postgresql-common).

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::layout::Cluster;
use super::super::server::Server;
use super::super::settings::shell_word;
use super::{Configuration, ServiceManager, UNIT_APPEARS_WITHIN, by_signal, clean};
use crate::action::by_hand::as_root;
use crate::action::{ActionError, CommandSpec, Host, ReadHost};
use crate::language::inventory::DebianCluster;

/// There where systemd runs the machine.
const BOOTED_BY_SYSTEMD: &str = "/run/systemd/system";
/// How long its `pg_ctl` waits for a server to end, in seconds: a last checkpoint takes its time.
const STOPS_WITHIN: &str = "3600";

/// The cluster of Debian's that a server is.
pub(super) struct ByPgCtlcluster<'a>(pub(super) &'a DebianCluster);

impl ByPgCtlcluster<'_> {
    fn configuration_file(&self) -> PathBuf {
        Path::new("/etc/postgresql").join(&self.0.version).join(&self.0.name).join("postgresql.conf")
    }
}

impl ServiceManager for ByPgCtlcluster<'_> {
    fn program(&self) -> Option<&'static str> {
        Some("pg_ctlcluster")
    }

    /// With options of `pg_ctl` it would go past the unit, and the server would end with whatever started it: so the
    /// unit is started where root can, without waiting, and `pg_ctl` is told not to wait elsewhere.
    fn start(&self, _: &Server<'_>, host: &dyn Host) -> Result<CommandSpec, ActionError> {
        let booted = matches!(host.read_files().facts(Path::new(BOOTED_BY_SYSTEMD)), Ok(Some(_)));
        if booted && host.effective_uid() == 0 {
            let unit = format!("postgresql@{}-{}.service", self.0.version, self.0.name);
            return Ok(CommandSpec::new("systemctl").args(["start", "--no-block"]).arg(unit));
        }
        Ok(clean(CommandSpec::new("pg_ctlcluster").args([&self.0.version, &self.0.name, "start", "--", "-W"])))
    }

    /// It tells the unit to stop by itself where that is active.
    fn stop(&self, server: &Server<'_>, host: &dyn ReadHost) -> Result<CommandSpec, ActionError> {
        if let Some(told) = by_signal(server, host.read_files().as_ref()) {
            return Ok(told);
        }
        let spec = CommandSpec::new("pg_ctlcluster").args(["-m", "fast", &self.0.version, &self.0.name, "stop"]);
        Ok(clean(spec).env("PGCTLTIMEOUT", STOPS_WITHIN))
    }

    fn start_by_hand(&self, _: &Cluster) -> String {
        as_root(["pg_ctlcluster", &self.0.version, &self.0.name, "start"])
    }

    fn stop_by_hand(&self, _: &Cluster) -> String {
        as_root(["pg_ctlcluster", "-m", "fast", &self.0.version, &self.0.name, "stop"])
    }

    fn log(&self, _: &Cluster) -> PathBuf {
        PathBuf::from(format!("/var/log/postgresql/postgresql-{}-{}.log", self.0.version, self.0.name))
    }

    fn appears_within(&self) -> Duration {
        UNIT_APPEARS_WITHIN
    }

    /// What its file says of the data directory is of the live one.
    fn words(&self, pgdata: &Path) -> String {
        let file = shell_word(&self.configuration_file().to_string_lossy());
        format!("-c config_file={file} -c data_directory={}", shell_word(&pgdata.to_string_lossy()))
    }

    fn configuration(&self) -> Configuration {
        Configuration::At(self.configuration_file())
    }
}
