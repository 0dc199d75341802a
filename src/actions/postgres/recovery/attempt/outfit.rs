//! What the staged folder is given for the recovery: settings, the signal, limits, the places of tablespaces.

use std::path::{Path, PathBuf};

use super::super::lost_history;
use super::super::replay_plan::ReplayPlan;
use super::Recovering;
use crate::action::{ActionError, Files};
use crate::actions::postgres::cluster::limits::{self, Configured};
use crate::actions::postgres::cluster::pg_control::{cannot, control};
use crate::actions::postgres::cluster::server::major;
use crate::actions::postgres::cluster::service_manager::Runs;
use crate::actions::postgres::cluster::settings;
use crate::actions::postgres::restore::context::RecoveryContext;
use crate::actions::postgres::restore::fetching::{self, Fetching};
use crate::actions::postgres::restore::marker::{self, Marker};
use crate::actions::postgres::restore::old::Old;
use crate::actions::postgres::restore::recovery_target::{self, Ending, RecoveryTarget};
use crate::language::inventory::is_loopback;
use crate::pgformat::{Change, Major};
use serde_json::json;

impl Recovering<'_> {
    /// Writes what the recovery needs into the staged folder.
    pub(super) fn prepare(
        &self,
        files: &dyn Files,
        staged: &Path,
        marker: &Marker,
        (plan, fetching): (&ReplayPlan, &Fetching),
    ) -> Result<(), ActionError> {
        let mut lines = vec![("restore_command".to_owned(), fetching::restore_command(&self.context.program))];
        let recovery_target = RecoveryTarget { goal: plan.goal.clone(), ..self.recovery_target.clone() };
        lines.extend(recovery_target.settings(plan.timeline));
        let of_version = of_version(&major(files, staged)?, self.recovery_target.ending);
        for (name, value) in settings::FIXED.into_iter().chain(of_version) {
            lines.push((name.to_owned(), value.to_owned()));
        }
        let auto = staged.join(settings::FILE);
        let scratch = self.context.cluster.is_scratch();
        let before = if scratch { String::new() } else { settings::restored(files, staged)? };
        fetching.place(files, staged, &self.context.owner).map_err(|error| cannot(&error))?;
        let mut contents = vec![
            (auto, settings::with_block(&before, &lines)),
            (staged.join(recovery_target.signal(&plan.goal)), String::new()),
        ];
        if let Some(side) = self.context.side(files, staged)? {
            side.write(files, &self.context.owner).map_err(|error| cannot(&error))?;
        }
        for (path, content) in contents.drain(..) {
            self.context.write(files, &path, &content).map_err(|error| cannot(&error))?;
        }
        lost_history::keep_numbers(&self.context, (files, staged), &plan.taken).map_err(|error| cannot(&error))?;
        recovery_target::remove_other_signal(files, staged, recovery_target.signal(&plan.goal))
            .map_err(|error| cannot(&error))?;
        let places: Vec<(u32, PathBuf)> =
            marker.links.iter().filter_map(|link| Some((link.tablespace()?, link.says().to_owned()))).collect();
        if places.is_empty() {
            return Ok(());
        }
        marker::write_tablespace_map(files, staged, &places, &self.context.owner).map_err(|error| cannot(&error))
    }

    /// Raises what the WAL needs higher than the restored configuration has it.
    pub(crate) async fn raise(&self, files: &dyn Files, staged: &Path, old: Option<&Old>) -> Result<(), ActionError> {
        let cluster = self.context.cluster;
        if cluster.is_scratch() {
            return Ok(());
        }
        let RecoveryContext { owner, server_host, .. } = &self.context;
        let programs = self.context.programs(files, staged)?;
        let configured = Configured { cluster, owner, programs: &programs, server_host, pgdata: staged };
        self.listen(files, &configured).await?;
        let mut needed = control(files, staged)?.limits;
        if let Some(lost) = old.and_then(|old| old.control(files)) {
            needed = limits::greatest(needed, lost.limits);
        }
        let short = configured.short_of(needed, self.context.cx.host.as_read()).await;
        if short.is_empty() {
            return Ok(());
        }
        let message = format!("the backup's configuration is raised for the replay: {}", limits::words(&short));
        self.context.cx.reporter.note(message, json!({ "settings": limits::raised(&short) }));
        let auto = staged.join(settings::FILE);
        let text = files.read(&auto, 1 << 24).map_err(|error| cannot(&error))?;
        let text = settings::within_block(&settings::text_of(&text), &limits::raised(&short));
        self.context.write(files, &auto, &text).map_err(|error| cannot(&error))
    }

    /// Has the server listen where the inventory says: what a backup brings along is of the place that it was taken at.
    async fn listen(&self, files: &dyn Files, configured: &Configured<'_>) -> Result<(), ActionError> {
        let (RecoveryContext { cluster, cx, .. }, staged) = (&self.context, configured.pgdata);
        // A port at another address may be that of what passes sessions on.
        let is_direct = cluster.socket.is_some() || cluster.entry.address.as_deref().is_none_or(is_loopback);
        if cluster.service_manager().runs() != Runs::Here || !is_direct {
            return Ok(());
        }
        let values = configured.texts(&["port", "unix_socket_directories"], cx.host.as_read()).await;
        let [Some(port), folders] = values.as_slice() else { return Ok(()) };
        // Where its configuration cannot be found from here, the server itself says so.
        let Ok(port) = port.parse::<u16>() else { return Ok(()) };
        let mut wanted = Vec::new();
        if port != cluster.port {
            wanted.push(("port", port.to_string(), cluster.port.to_string()));
        }
        if let (Some(folders), Some(socket)) = (folders, &cluster.socket) {
            let real = |folder: &Path| files.canonical(folder).unwrap_or_else(|_| folder.to_owned());
            let is_it = |folder: &str| real(Path::new(folder.trim().trim_matches('"'))) == real(socket);
            if !folders.split(',').any(is_it) {
                wanted.push(("unix_socket_directories", folders.clone(), socket.to_string_lossy().into_owned()));
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let auto = staged.join(settings::FILE);
        let mut text = settings::restored(files, staged)?;
        for (name, is, value) in wanted {
            let message = format!("`{name}` of the backup is `{is}`: it is set to `{value}`, as the inventory says");
            cx.reporter.note(message, json!({ "setting": name, "value": value }));
            text = settings::with_lasting(&text, name, &value);
        }
        self.context.write(files, &auto, &text).map_err(|error| cannot(&error))
    }
}

/// What a recovery sets in some versions only. A server that starts from a backup is spared a sync of each single file:
/// what was staged is durable already, and Linux syncs a file system at once (manual, `recovery_init_sync_method`). A
/// file that lies about opens no server that is to be looked at (manual, `promote_trigger_file`); a standby may have one.
pub(crate) fn of_version(version: &str, ending: Ending) -> Vec<(&'static str, &'static str)> {
    let has = |change: Change| Major::of_text(version).is_some_and(|major| major.has(change));
    let mut settings = Vec::new();
    if cfg!(target_os = "linux") && has(Change::SyncMethod) {
        settings.push(("recovery_init_sync_method", "syncfs"));
    }
    if !has(Change::NoTriggerFile) && ending != Ending::Standby {
        settings.push(("promote_trigger_file", ""));
    }
    settings
}
