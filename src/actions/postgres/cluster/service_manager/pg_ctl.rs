//! `pg_ctl`, run as the server's own user.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::by_hand::as_owner;
use super::super::layout::Cluster;
use super::super::server::Server;
use super::{APPEARS_WITHIN, Configuration, ServiceManager, by_signal, clean};
use crate::action::{ActionError, CommandSpec, Host, HostError, ReadHost};
use crate::base::shell;
use crate::language::inventory::PgCtl;

/// The settings of `pg_ctl` that keep a server.
pub(super) struct ByPgCtl<'a>(pub(super) &'a PgCtl);

impl ServiceManager for ByPgCtl<'_> {
    fn program(&self) -> Option<&'static str> {
        None
    }

    fn start(&self, server: &Server<'_>, host: &dyn Host) -> Result<CommandSpec, ActionError> {
        let log = self.log(server.cluster);
        make_log_folder(server, &log, host)?;
        let mut words = server.options.clone();
        words.extend(self.0.options.clone());
        Ok(pg_ctl(server, ["start", "-W"])
            .args(["-l".to_owned(), log.to_string_lossy().into_owned()])
            .args(if words.is_empty() { Vec::new() } else { vec!["-o".to_owned(), words.join(" ")] }))
    }

    /// Prefers `pg_ctl`; a postmaster whose pid file is gone is told by a signal.
    fn stop(&self, server: &Server<'_>, host: &dyn ReadHost) -> Result<CommandSpec, ActionError> {
        // Nobody starts a thrown-away server again: it needs no checkpoint.
        let mode = if server.cluster.is_scratch() { "immediate" } else { "fast" };
        let told = by_signal(server, host.read_files().as_ref());
        Ok(told.unwrap_or_else(|| pg_ctl(server, ["stop", "-m", mode, "-w", "-t", "3600"])))
    }

    fn start_by_hand(&self, cluster: &Cluster) -> String {
        let pgdata = cluster.pgdata.to_string_lossy().into_owned();
        let log = self.log(cluster).to_string_lossy().into_owned();
        let mut words = vec!["pg_ctl", "start", "-w", "-D", &pgdata, "-l", &log];
        words.extend(self.0.options.iter().flat_map(|options| ["-o", options.as_str()]));
        as_owner(cluster, &words)
    }

    fn stop_by_hand(&self, cluster: &Cluster) -> String {
        let pgdata = cluster.pgdata.to_string_lossy().into_owned();
        as_owner(cluster, &["pg_ctl", "stop", "-m", "fast", "-w", "-D", &pgdata])
    }

    fn log(&self, cluster: &Cluster) -> PathBuf {
        self.0.log.clone().unwrap_or_else(|| cluster.pgdata.join("log/runbook-startup.log"))
    }

    fn appears_within(&self) -> Duration {
        APPEARS_WITHIN
    }

    fn words(&self, _: &Path) -> String {
        self.0.options.clone().unwrap_or_default()
    }

    fn configuration(&self) -> Configuration {
        // `pg_ctl` hands its options to a shell (`start_postmaster` in `pg_ctl.c`).
        match named(&shell::words(self.0.options.as_deref().unwrap_or_default()), "config_file") {
            None => Configuration::Inside,
            Some(file) if file.starts_with('/') && !file.contains(['$', '`']) => Configuration::At(PathBuf::from(file)),
            Some(_) => Configuration::Unsaid,
        }
    }
}

/// The value of a setting in the words of a server's command line: `-c name=value` or `--name=value`, the last one holds; in
/// names a `-` stands for a `_` (`ParseLongOption` in `guc.c`).
fn named(words: &[String], setting: &str) -> Option<String> {
    let value = |word: &String| {
        let text = word.strip_prefix("--").or_else(|| word.strip_prefix("-c")).unwrap_or(word);
        let (name, value) = text.split_once('=')?;
        (name.replace('-', "_") == setting).then(|| value.to_owned())
    };
    words.iter().filter_map(value).next_back()
}

fn pg_ctl<const N: usize>(server: &Server<'_>, words: [&str; N]) -> CommandSpec {
    let spec = server.owner.command(server.programs.path("pg_ctl")).args(words);
    clean(spec.args(["-D".to_owned(), server.cluster.pgdata.to_string_lossy().into_owned()]))
}

fn make_log_folder(server: &Server<'_>, log: &Path, host: &dyn Host) -> Result<(), ActionError> {
    let files = host.files();
    let Some(folder) = log.parent() else { return Ok(()) };
    let make = || {
        if files.facts(folder)?.is_none() {
            files.create_dir(folder, 0o700)?;
            files.chown(folder, server.owner.uid, server.owner.gid)?;
        }
        Ok(())
    };
    make().map_err(|error: HostError| {
        ActionError::fatal(format!("cannot make the folder of `{}`", log.display())).because(&error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(options: &str) -> Configuration {
        ByPgCtl(&PgCtl { options: Some(options.to_owned()), ..PgCtl::default() }).configuration()
    }

    #[test]
    fn the_configuration_is_where_the_options_of_the_server_say() {
        let at = |file: &str| Configuration::At(PathBuf::from(file));
        assert_eq!(configuration(""), Configuration::Inside);
        assert_eq!(configuration("-c work_mem=4MB -h ''"), Configuration::Inside);
        assert_eq!(configuration("-c config_file=/etc/pg/main.conf"), at("/etc/pg/main.conf"));
        assert_eq!(configuration("--config-file='/etc/p g/main.conf' -c port=1"), at("/etc/p g/main.conf"));
        assert_eq!(configuration("-cconfig_file=/a -c config_file=/b"), at("/b"));
        assert_eq!(configuration("-c config_file=$HOME/main.conf"), Configuration::Unsaid);
        assert_eq!(configuration("-c config_file=main.conf"), Configuration::Unsaid);
    }
}
