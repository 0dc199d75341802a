//! One attempt: what differs is asked, told, changed and proven, or put back.

use std::sync::Arc;
use std::time::Duration;

use super::action::ConfigureArchiving;
use super::change::{SettingChange, changes, fixed_elsewhere, read};
use super::follower::Followers;
use super::params::{ConfigureArchivingOutput, ConfigureArchivingParams, Foreign, Restart};
use super::place::{self, Place, Settings};
use super::want::wanted;
use super::{apply, folder, trial};
use crate::action::{ActionError, ReadHost, ReadStore, RunContext, Store, Surroundings};
use crate::actions::postgres::cluster::container::ServerHost;
use crate::actions::postgres::cluster::enclosed;
use crate::actions::postgres::cluster::ha_manager::{self, Fact};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::live;
use crate::actions::postgres::cluster::owner::{self, Owner};
use crate::actions::postgres::cluster::server::{Server, with_programs};
use crate::actions::postgres::session::connect::Session;
use crate::actions::postgres::session::maintenance_db::MaintenanceDb;
use crate::actions::postgres::stores::tenant;
use crate::pgformat::SystemId;
use crate::wal::Invocation;

/// How long the first segment may take to reach the archive, where nothing says otherwise.
const PROVEN_WITHIN: Duration = Duration::from_secs(120);

/// One attempt: what is wanted, and what was found.
pub(super) struct Work<'a> {
    action: &'a ConfigureArchiving,
    params: &'a ConfigureArchivingParams,
    cluster: &'a Cluster,
    /// Where the server runs.
    pub(super) server_host: ServerHost,
    /// What differs from what is wanted.
    pub(super) changes: Vec<SettingChange>,
    /// What archived until now, in words, where that is another program.
    replaced: Option<String>,
    /// What of the server's configuration is written anew.
    pub(super) rewrites: Vec<String>,
    /// Why it cannot be done, with advice.
    pub(super) faults: Vec<(String, String)>,
    /// What it means for the server's standbys, with advice.
    pub(super) cautions: Vec<(String, String)>,
    /// The cluster, as far as its server told.
    system_id: Option<SystemId>,
}

impl<'a> Work<'a> {
    /// Nothing was looked at yet.
    pub(super) fn new(
        action: &'a ConfigureArchiving,
        params: &'a ConfigureArchivingParams,
        cluster: &'a Cluster,
    ) -> Self {
        let (changes, faults, cautions) = (Vec::new(), Vec::new(), Vec::new());
        let (rewrites, server_host) = (Vec::new(), ServerHost::Here);
        let (replaced, system_id) = (None, None);
        Self { action, params, cluster, server_host, changes, replaced, rewrites, faults, cautions, system_id }
    }

    fn place(&self) -> Result<Place, ActionError> {
        Place::of(self.params, self.cluster)
    }

    /// Says why the server could not run its command, with advice.
    async fn barred(&self, host: &dyn ReadHost) -> Result<Option<(String, String)>, ActionError> {
        let owner = Owner::of(self.cluster, host)?;
        let program = &self.action.program;
        if self.cluster.is_contained() {
            let folder = self.server_host.path(&self.place()?.folder);
            let lacking = folder.err().map(|error| (error.to_string(), self.server_host.lines(program)));
            return match lacking {
                Some(fault) => Ok(Some(fault)),
                None => self.server_host.barred((program, &owner), host).await,
            };
        }
        let help = "install runbook where the server's user can run it (`/usr/local/bin`, mode 0755)";
        Ok(owner::barred(program, &owner, host).await.map(|fact| (fact, help.to_owned())))
    }

    /// Says which of its stores the server's user could not write into, with advice. A container has mounts of its own.
    async fn unusable(
        &self,
        host: &dyn ReadHost,
        about: &Surroundings,
    ) -> Result<Option<(String, String)>, ActionError> {
        if self.cluster.is_contained() {
            return Ok(None);
        }
        let owner = Owner::of(self.cluster, host)?;
        let names = place::stores(self.params, self.cluster)?;
        let folders = folder::among(names.iter().filter_map(|name| about.inventory.stores.get(name)));
        Ok(folder::unusable(&folders, &owner, host).await)
    }

    /// Asks the server what differs. Changes nothing.
    pub(super) async fn looked(mut self, host: &dyn ReadHost, about: &Surroundings) -> Result<Self, ActionError> {
        let mut session = MaintenanceDb::own(self.cluster, about.secrets.as_ref())?.open().await?;
        self.server_host = ServerHost::of(self.cluster, host).await?;
        if let Some(fault) = self.barred(host).await? {
            self.faults.push(fault);
            if self.cluster.is_contained() {
                // What its command would be is not known without it.
                return Ok(self);
            }
        }
        let enclosed = enclosed::store(self.cluster, &about.inventory, host.read_files().as_ref());
        self.faults.extend(enclosed.map(|fact| (fact.what, fact.help)));
        self.faults.extend(self.unusable(host, about).await?);
        self.rewrites = self.rewritten(about);
        let command = self.place()?.command(&self.action.program, &self.server_host)?;
        let wanted = wanted(self.params, &command);
        let names: Vec<&str> = wanted.iter().map(|wanted| wanted.name).collect();
        let settings = read(&mut session, &names).await?;
        self.changes = changes(&wanted, &settings);
        let followers = Followers::of(&mut session).await?;
        self.cautions.extend(followers.left_behind(&self.changes));
        self.cautions.extend(followers.alone(&self.place()?.folder));
        let told = session.value("SELECT system_identifier FROM pg_control_system()").await;
        self.system_id = told.ok().and_then(|text| text.parse().ok());
        let mut fault = |fact: String, help: &str| self.faults.push((fact, help.to_owned()));
        if session.value("SELECT pg_is_in_recovery()").await? == "t" {
            fault(format!("`{}` is a standby", self.cluster.name), "configure archiving on the primary");
        }
        let fixed = fixed_elsewhere(&self.changes, &settings);
        if !fixed.is_empty() {
            let fact =
                format!("the server's command line sets `{}`, which `ALTER SYSTEM` cannot change", fixed.join("`, `"));
            fault(fact, "remove it where the server is started");
        }
        let there = |name: &str| settings.get(name).map(|current| current.value.as_str()).unwrap_or_default();
        let foreign = match (there("archive_library"), there("archive_command")) {
            ("", "" | "(disabled)") => None,
            ("", theirs) if Invocation::of(theirs).is_some_and(|ours| ours.is_alone()) => None,
            ("", theirs) => Some(format!("`archive_command` is `{theirs}`")),
            (library, _) => Some(format!("`archive_library` is `{library}`")),
        };
        if let Some(fact) = foreign.clone().filter(|_| self.params.foreign == Foreign::Keep) {
            fault(fact, "set `foreign: replace` when nothing relies on it any more");
        }
        let waits: Vec<&str> =
            self.changes.iter().filter(|change| change.restart).map(|change| change.name.as_str()).collect();
        if !waits.is_empty() && self.params.restart == Restart::Refused {
            let fact = format!("a restart of the server is needed for `{}`", waits.join("`, `"));
            fault(fact, "set `restart: allowed`, or `restart: later`");
        }
        self.replaced = foreign;
        let restarts = self.params.restart == Restart::Allowed && self.changes.iter().any(|change| change.restart);
        if restarts && let Err(error) = Server::of(self.cluster, host)?.verify(host).await {
            self.faults.push((error.in_full(), error.info().help.clone().unwrap_or_default()));
        }
        self.faults.extend(self.watched(host).await?);
        Ok(self)
    }

    /// What of the server's configuration is written anew. A secret that cannot be had is told when it is needed.
    fn rewritten(&self, about: &Surroundings) -> Vec<String> {
        let Ok(place) = self.place() else { return Vec::new() };
        let wanted = (self.cluster, &place, &self.server_host);
        let settings = Settings::of((self.params, self.action.program.as_path()), wanted, about);
        settings.map_or_else(|_| Vec::new(), |settings| settings.rewrites(&place))
    }

    /// The stores that the server is to archive into, as far as they can be opened; the others are made or proven later.
    pub(super) fn stores(
        &self,
        open: impl Fn(&str) -> Result<Arc<dyn ReadStore>, ActionError>,
    ) -> Result<Vec<Arc<dyn ReadStore>>, ActionError> {
        let names = place::stores(self.params, self.cluster)?;
        Ok(names.iter().filter_map(|name| open(name).ok()).collect())
    }

    /// Looks whose WAL lies there already.
    pub(super) async fn settled(mut self, stores: &[Arc<dyn ReadStore>]) -> Result<Self, ActionError> {
        let Some(server) = self.system_id else { return Ok(self) };
        let (_, prefix) = self.cluster.archive()?;
        self.faults.extend(tenant::other(stores, prefix, server).await);
        Ok(self)
    }

    /// Says what would start the server in the middle of its restart, with advice.
    async fn watched(&self, host: &dyn ReadHost) -> Result<Option<(String, String)>, ActionError> {
        if self.params.restart != Restart::Allowed || !self.changes.iter().any(|change| change.restart) {
            return Ok(None);
        }
        let told = |Fact { what, help }: Fact| (what, format!("{help}; or set `restart: later` and have it do that"));
        Ok(ha_manager::in_charge(self.cluster, host).await?.map(told))
    }

    /// The outputs, as far as nothing was done.
    pub(super) fn output(&self, before: apply::Before) -> Result<ConfigureArchivingOutput, ActionError> {
        let place = self.place()?;
        Ok(ConfigureArchivingOutput {
            changed: self.changes.clone(),
            before,
            restarted: false,
            restarted_at: None,
            down_ms: None,
            restart_needed: self.changes.iter().any(|change| change.restart),
            archive_command: place.command(&self.action.program, &self.server_host)?,
            config: place.config(),
            segment: None,
        })
    }

    /// Tells what differs.
    pub(super) fn tell(&self, cx: &RunContext) {
        for change in &self.changes {
            cx.reporter.note(change.to_string(), serde_json::json!({ "name": change.name, "restart": change.restart }));
        }
        for rewrite in &self.rewrites {
            cx.reporter.note(rewrite.clone(), serde_json::Value::Null);
        }
        for (fact, help) in &self.cautions {
            cx.reporter.note(format!("warning: {fact}; {help}"), serde_json::Value::Null);
        }
    }

    async fn session(&self, cx: &RunContext) -> Result<Session, ActionError> {
        MaintenanceDb::own(self.cluster, cx.about.secrets.as_ref())?.open().await
    }

    /// Changes what differs, and proves that a segment arrives.
    pub(super) async fn run(&self, cx: &RunContext) -> Result<ConfigureArchivingOutput, ActionError> {
        let place = self.place()?;
        let owner = Owner::of(self.cluster, cx.host.as_ref())?;
        let settings = Settings::of(
            (self.params, self.action.program.as_path()),
            (self.cluster, &place, &self.server_host),
            &cx.about,
        )?;
        place.ready(&settings, &owner, cx).await?;
        let mut session = self.session(cx).await?;
        let before = apply::noted(&mut session, &self.changes, cx).await?;
        apply::alter(&mut session, &self.changes).await?;
        self.tell(cx);
        let mut output = self.output(before)?;
        if !output.restart_needed {
            apply::until_read(&mut session, &self.changes).await?;
        }
        if output.restart_needed && self.params.restart == Restart::Later {
            let message = "the server archives nothing before it is restarted".to_owned();
            cx.reporter.note(message, serde_json::Value::Null);
            return Ok(output);
        }
        if output.restart_needed {
            drop(session);
            let (again, down) = apply::restart_or_revert(self.cluster, &output.before, cx).await?;
            session = again;
            output = output.after(down);
        }
        let names = place::stores(self.params, self.cluster)?;
        let stores = names.iter().map(|name| cx.store(name)).collect::<Result<Vec<Arc<dyn Store>>, ActionError>>()?;
        let (_, prefix) = self.cluster.archive()?;
        let within = self.params.within.map_or(PROVEN_WITHIN, |span| span.0);
        let segment = trial::prove(&mut session, (stores.as_slice(), prefix), (within, cx)).await?;
        cx.reporter
            .note(format!("`{segment}` is in the archive"), serde_json::json!({ "segment": segment.to_string() }));
        if let Some(before) = &self.replaced {
            let message = format!(
                "warning: what was written before `{segment}` went elsewhere ({before}), so older backups do not lead on: take a \
                 base backup, `runbook backup {}`",
                self.cluster.name
            );
            cx.reporter.note(message, serde_json::json!({ "first": segment.to_string() }));
        }
        output.segment = Some(segment.to_string());
        Ok(output)
    }

    /// Puts settings back; what needs a restart counts after one.
    pub(super) async fn put_back(
        &self,
        before: &apply::Before,
        cx: &RunContext,
    ) -> Result<ConfigureArchivingOutput, ActionError> {
        if live::signs(self.cluster, cx.host.read_files().as_ref()).await?.is_empty() {
            return self.put_back_unseen(before, cx);
        }
        let mut session = self.session(cx).await?;
        apply::put_back(&mut session, before).await?;
        let names: Vec<&str> = before.keys().map(String::as_str).collect();
        let waits = match names.is_empty() {
            true => false,
            false => read(&mut session, &names).await?.values().any(|current| current.pending_restart),
        };
        let mut output = ConfigureArchivingOutput { restart_needed: waits, ..self.output(before.clone())? };
        if waits && self.params.restart == Restart::Allowed {
            ha_manager::refuse(self.cluster, cx.host.as_read()).await?;
            drop(session);
            let (_, down) = apply::restart(self.cluster, cx).await?;
            output = output.after(down);
        }
        Ok(output)
    }
    /// Puts settings back where no server runs. Whoever stopped it decides when it starts.
    fn put_back_unseen(
        &self,
        before: &apply::Before,
        cx: &RunContext,
    ) -> Result<ConfigureArchivingOutput, ActionError> {
        apply::put_back_into_file(self.cluster, before, cx)?;
        let start =
            self.cluster.service_manager().start_by_hand(&with_programs(self.cluster, cx.host.read_files().as_ref()));
        let message =
            format!("the settings are put back; the server of `{}` does not run: start it: {start}", self.cluster.name);
        cx.reporter.note(message, serde_json::json!({ "settings": before.len() }));
        Ok(ConfigureArchivingOutput { restart_needed: true, ..self.output(before.clone())? })
    }
}
