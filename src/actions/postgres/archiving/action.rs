//! The action, its arguments and its outputs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::by_hand;
use super::super::connect::{Endpoint, Session};
use super::super::container::Abode;
use super::super::keeper::Wish;
use super::super::layout::Cluster;
use super::super::overseer::{self, Fact};
use super::super::owner::Owner;
use super::super::recover::barred;
use super::apply;
use super::change::{SettingChange, changes, fixed_elsewhere, read};
use super::folder;
use super::follower;
use super::place::{self, Place, Settings, archive_command};
use super::trial;
use super::want::{CheckpointTuning, keeps_promise, wanted};
use crate::action::by_hand::remark;
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, DatabaseRef, EffectClass, Effects, Example, Findings,
    Idempotency, Late, ParamFault, PlanContext, ReadHost, RunContext, Store, StoreRef, Surroundings, Target,
};
use crate::base::Timestamp;
use crate::base::units::{ByteSize, Span};
use crate::language::inventory::Via;

const PROVEN_WITHIN: Duration = Duration::from_secs(120);

/// Has a server archive its WAL.
#[derive(Debug, Clone)]
pub struct ConfigureArchiving {
    /// Our own program, which the server calls to archive a segment.
    program: PathBuf,
}

impl Default for ConfigureArchiving {
    /// Servers call the program that runs now.
    fn default() -> Self {
        Self { program: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/bin/runbook")) }
    }
}

/// The arguments of `postgres.configure_archiving`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigureArchivingParams {
    /// The database of the inventory; its store and prefix are where the WAL goes.
    pub database: DatabaseRef,
    /// `apply` (default) changes what differs and proves it; `plan` only tells what differs.
    #[serde(default)]
    pub mode: ArchivingMode,
    /// After how long an unfinished segment is handed over, in whole seconds. Default 1m.
    #[serde(default = "minute")]
    pub archive_timeout: Span,
    /// The most that may be lost with the machine; an `archive_timeout` that cannot keep it is refused. The `rpo`
    /// of the database in the inventory counts too, whichever is smaller.
    #[serde(default)]
    pub rpo: Option<Span>,
    /// Whether the server may be restarted, which a change of `archive_mode` or `wal_level` needs.
    #[serde(default)]
    pub restart: Restart,
    /// Whether archiving by another program may be replaced.
    #[serde(default)]
    pub foreign: Foreign,
    /// The stores that get the WAL, among them the database's own; default: its `store` and `wal_stores` of the inventory.
    #[serde(default)]
    pub stores: Option<Vec<StoreRef>>,
    /// In how many of them a segment must be safe; default: `wal_at_least` of the inventory, else all.
    #[serde(default)]
    pub at_least: Option<usize>,
    /// Connections that send WAL; a larger number stays. Default 4.
    #[serde(default)]
    pub max_wal_senders: Option<u32>,
    /// WAL that is kept for standbys that fall behind; stays as it is when left out.
    #[serde(default)]
    pub wal_keep_size: Option<ByteSize>,
    /// How checkpoints are spread; stays as it is when left out.
    #[serde(default)]
    pub checkpoint: Option<CheckpointTuning>,
    /// The folder of `wal.yaml`, its secrets and its spool. Default: `PGDATA.runbook-wal`, beside the data directory; for
    /// a container `via.compose.folder`, which is mounted there.
    #[serde(default)]
    pub folder: Option<PathBuf>,
    /// How long the first segment may take to reach the archive. Default 2m.
    #[serde(default)]
    pub within: Option<Span>,
    /// Puts settings back as the output `before` of an earlier step tells them; nothing else is done then.
    #[serde(default)]
    pub put_back: Option<Late<BTreeMap<String, Option<String>>>>,
}

fn minute() -> Span {
    Span(Duration::from_secs(60))
}

/// Whether anything is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ArchivingMode {
    /// What differs is changed.
    #[default]
    Apply,
    /// What differs is told.
    Plan,
}

/// Whether the server may be restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// No: what needs one is refused.
    #[default]
    Refused,
    /// Where a change needs it.
    Allowed,
    /// Somebody else restarts it later; archiving is not proven before.
    Later,
}

/// What becomes of archiving by another program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Foreign {
    /// It stays, and the step is refused.
    #[default]
    Keep,
    /// It is replaced: backups that rely on it get no more WAL.
    Replace,
}

/// The outputs of `postgres.configure_archiving`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigureArchivingOutput {
    /// What differed from what is wanted.
    pub changed: Vec<SettingChange>,
    /// What `ALTER SYSTEM` had set before of what was changed; null where it had set nothing.
    pub before: BTreeMap<String, Option<String>>,
    /// Whether the server was restarted.
    pub restarted: bool,
    /// When it was told to stop for that.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub restarted_at: Option<Timestamp>,
    /// For how long it answered nobody then.
    #[serde(default)]
    pub down_ms: Option<u64>,
    /// Whether something counts only after a restart that is still to be made.
    pub restart_needed: bool,
    /// The server's command.
    pub archive_command: String,
    /// The configuration that the command reads.
    pub config: PathBuf,
    /// The segment that was seen in the archive; null when nothing was proven.
    pub segment: Option<String>,
}

impl ConfigureArchivingOutput {
    fn after(self, down: apply::Down) -> Self {
        let (restarted_at, down_ms) = (Some(down.since), Some(apply::millis(down.took)));
        Self { restarted: true, restart_needed: false, restarted_at, down_ms, ..self }
    }
}

impl Action for ConfigureArchiving {
    const SPEC: ActionSpec = ActionSpec {
        name: "postgres.configure_archiving",
        summary: "Has a server archive its WAL into its store, and proves that a segment arrives.",
        effect: EffectClass::Write,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[
            Example { title: "Tell what differs", with: "{ database: orders, mode: plan }" },
            Example {
                title: "Archive at least every minute",
                with: "{ database: orders, archive_timeout: 1m, rpo: 5m, restart: allowed }",
            },
        ],
    };
    type Params = ConfigureArchivingParams;
    type Output = ConfigureArchivingOutput;

    fn effects(&self, params: &Self::Params, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let fault = |error: ActionError| vec![ParamFault::new("/database", error.to_string())];
        let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch).map_err(fault)?;
        cluster.within_reach(Wish::Archiving)?;
        if cluster.is_scratch() {
            let fact = format!("`{}` is thrown away here: it archives nothing", cluster.name);
            return Err(vec![ParamFault::new("/database", fact)]);
        }
        // What is put back is what was there, whatever it keeps.
        if params.put_back.is_none() {
            keeps_promise(params, cluster.entry.rpo).map_err(|fault| vec![fault])?;
        }
        let names = place::stores(params, &cluster).map_err(|error| {
            let fault = ParamFault::new("/stores", error.to_string());
            vec![error.info().help.iter().fold(fault, |fault, help| fault.help(help.clone()))]
        })?;
        let at_least = params.at_least.or(cluster.entry.wal_at_least);
        if at_least.is_some_and(|wanted| !(1..=names.len()).contains(&wanted)) {
            return Err(vec![ParamFault::new("/at_least", "a number from 1 to the number of stores is wanted")]);
        }
        let place = Place::of(params, &cluster).map_err(|error| vec![ParamFault::new("/folder", error.to_string())])?;
        let (_, prefix) = cluster.archive().map_err(fault)?;
        let database = Target::Database { name: cluster.name.clone() };
        if params.mode == ArchivingMode::Plan && params.put_back.is_some() {
            let fact = "`mode: plan` changes nothing, so it puts nothing back";
            return Err(vec![ParamFault::new("/put_back", fact)]);
        }
        if params.mode == ArchivingMode::Plan {
            return Ok(Effects::of(EffectClass::Read).target(Access::Read, database));
        }
        let path = Target::Path { host: cx.host.to_owned(), path: place.folder };
        let mut effects = Effects::of(EffectClass::Write).target(Access::Write, database).target(Access::Write, path);
        for name in names {
            effects = effects.target(Access::Write, Target::Store { name, prefix: prefix.to_owned() });
        }
        let inside = cluster.is_contained();
        Ok(match params.restart {
            Restart::Allowed => cluster.keeper().named(effects),
            Restart::Refused | Restart::Later if inside => cluster.keeper().named(effects),
            Restart::Refused | Restart::Later => effects,
        })
    }

    fn by_hand(&self, params: &Self::Params, cx: &PlanContext<'_>) -> Vec<String> {
        let Ok(cluster) = Cluster::of(&params.database, cx.inventory, cx.scratch) else { return Vec::new() };
        let Ok(place) = Place::of(params, &cluster) else { return Vec::new() };
        let sql = |statement: &str| by_hand::sql(&cluster, "postgres", statement);
        let mut lines = vec![remark(&format!(
            "write `{}` as docs/wal.md says, for the server's user alone",
            place.config().display()
        ))];
        let command = match &cluster.via {
            Via::Compose(compose) => {
                lines.push(remark(
                    "its container must have that folder as `/etc/runbook`, and `runbook` (docs/servers.md)",
                ));
                archive_command(&compose.program(), Path::new("/etc/runbook/wal.yaml"))
            }
            Via::PgCtl(_) | Via::Systemd(_) | Via::PgCtlcluster(_) | Via::Managed(_) => {
                archive_command(&self.program, &place.config())
            }
        };
        for wanted in wanted(params, &command) {
            lines.push(sql(&format!("ALTER SYSTEM SET {} = '{}'", wanted.name, wanted.value.replace('\'', "''"))));
        }
        lines.push(remark("restart the server if `pending_restart` is true for any of them in pg_settings; else:"));
        lines.push(sql("SELECT pg_reload_conf()"));
        lines.push(sql("SELECT txid_current(); SELECT pg_switch_wal()"));
        lines.push(remark("last_archived_wal must become that segment:"));
        lines.push(sql("SELECT last_archived_wal, last_failed_wal FROM pg_stat_archiver"));
        lines
    }

    async fn check(&self, params: &Self::Params, cx: &CheckContext) -> Result<Findings, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let findings = Findings::default();
        if params.put_back.is_some() {
            return Ok(findings.pending("the settings are put back when the step starts"));
        }
        let work = Work::new(self, params, &cluster);
        let work = match work.looked(cx.host.as_ref(), &cx.about).await {
            Ok(work) => work,
            Err(error) if cx.ahead && error.info().class == crate::event::ErrorClass::Retryable => {
                return Ok(findings.pending("the server is asked when the step starts"));
            }
            Err(error) => return Err(error),
        };
        let findings = match work.changes.as_slice() {
            [] => findings.pass(format!("`{}` is set to archive as it shall", cluster.name)),
            changes => changes.iter().fold(findings, |findings, change| findings.pass(change.to_string())),
        };
        let findings = work.caution.into_iter().fold(findings, |findings, (fact, help)| findings.warn(fact, help));
        Ok(work.faults.into_iter().fold(findings, |findings, (fact, help)| findings.refuse(fact, help)))
    }

    async fn run(&self, params: &Self::Params, cx: &RunContext) -> Result<Self::Output, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let work = Work::new(self, params, &cluster);
        if let Some(before) = &params.put_back {
            let abode = Abode::of(&cluster, cx.host.as_read()).await?;
            return Work { abode, ..work }.put_back(before.get()?, cx).await;
        }
        let work = work.looked(cx.host.as_ref(), &cx.about).await?;
        let refused = |(fact, help): &(String, String)| ActionError::fatal(fact.clone()).help(help.clone());
        if params.mode == ArchivingMode::Plan {
            work.tell(cx);
            return work.output(BTreeMap::new()).map_err(|error| work.faults.first().map_or(error, refused));
        }
        if let Some(fault) = work.faults.first() {
            return Err(refused(fault));
        }
        work.run(cx).await
    }
}

/// One attempt: what is wanted, and what was found.
struct Work<'a> {
    action: &'a ConfigureArchiving,
    params: &'a ConfigureArchivingParams,
    cluster: &'a Cluster,
    abode: Abode,
    changes: Vec<SettingChange>,
    /// Why it cannot be done, with advice.
    faults: Vec<(String, String)>,
    /// What it does to the server's standbys, with advice.
    caution: Option<(String, String)>,
}

impl<'a> Work<'a> {
    fn new(action: &'a ConfigureArchiving, params: &'a ConfigureArchivingParams, cluster: &'a Cluster) -> Self {
        Self { action, params, cluster, abode: Abode::Here, changes: Vec::new(), faults: Vec::new(), caution: None }
    }

    fn place(&self) -> Result<Place, ActionError> {
        Place::of(self.params, self.cluster)
    }

    /// Says why the server could not run its command, with advice.
    async fn barred(&self, host: &dyn ReadHost) -> Result<Option<(String, String)>, ActionError> {
        let owner = Owner::of(self.cluster, host)?;
        let program = &self.action.program;
        if self.cluster.is_contained() {
            let folder = self.abode.path(&self.place()?.folder);
            let lacking = folder.err().map(|error| (error.to_string(), self.abode.lines(program)));
            return match lacking {
                Some(fault) => Ok(Some(fault)),
                None => self.abode.barred((program, &owner), host).await,
            };
        }
        let help = "install runbook where the server's user can run it (`/usr/local/bin`, mode 0755)";
        Ok(barred(program, &owner, host).await.map(|fact| (fact, help.to_owned())))
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
    async fn looked(mut self, host: &dyn ReadHost, about: &Surroundings) -> Result<Self, ActionError> {
        let mut session = Endpoint::of(self.cluster, None, about.secrets.as_ref())?.open().await?;
        self.abode = Abode::of(self.cluster, host).await?;
        if let Some(fault) = self.barred(host).await? {
            self.faults.push(fault);
            if self.cluster.is_contained() {
                // What its command would be is not known without it.
                return Ok(self);
            }
        }
        self.faults.extend(self.unusable(host, about).await?);
        let command = self.place()?.command(&self.action.program, &self.abode)?;
        let wanted = wanted(self.params, &command);
        let names: Vec<&str> = wanted.iter().map(|wanted| wanted.name).collect();
        let settings = read(&mut session, &names).await?;
        self.changes = changes(&wanted, &settings);
        self.caution = follower::left_behind(&mut session, &self.changes).await?;
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
            ("", theirs) if theirs.contains(" wal push ") => None,
            ("", theirs) => Some(format!("`archive_command` is `{theirs}`")),
            (library, _) => Some(format!("`archive_library` is `{library}`")),
        };
        if let Some(fact) = foreign.filter(|_| self.params.foreign == Foreign::Keep) {
            fault(fact, "set `foreign: replace` when nothing relies on it any more");
        }
        let waits: Vec<&str> =
            self.changes.iter().filter(|change| change.restart).map(|change| change.name.as_str()).collect();
        if !waits.is_empty() && self.params.restart == Restart::Refused {
            let fact = format!("a restart of the server is needed for `{}`", waits.join("`, `"));
            fault(fact, "set `restart: allowed`, or `restart: later`");
        }
        if !waits.is_empty() && self.params.restart == Restart::Allowed {
            let watched = overseer::in_charge(self.cluster, host).await?;
            let help = |fact: &Fact| format!("{}; or set `restart: later` and have it restart the server", fact.help);
            self.faults.extend(watched.map(|fact| (fact.what.clone(), help(&fact))));
        }
        Ok(self)
    }

    fn output(&self, before: apply::Before) -> Result<ConfigureArchivingOutput, ActionError> {
        let place = self.place()?;
        Ok(ConfigureArchivingOutput {
            changed: self.changes.clone(),
            before,
            restarted: false,
            restarted_at: None,
            down_ms: None,
            restart_needed: self.changes.iter().any(|change| change.restart),
            archive_command: place.command(&self.action.program, &self.abode)?,
            config: place.config(),
            segment: None,
        })
    }

    /// Tells what differs.
    fn tell(&self, cx: &RunContext) {
        for change in &self.changes {
            cx.reporter.note(change.to_string(), serde_json::json!({ "name": change.name, "restart": change.restart }));
        }
        if let Some((fact, help)) = &self.caution {
            cx.reporter.note(format!("warning: {fact}; {help}"), serde_json::Value::Null);
        }
    }

    async fn session(&self, cx: &RunContext) -> Result<Session, ActionError> {
        Endpoint::of(self.cluster, None, cx.about.secrets.as_ref())?.open().await
    }

    async fn run(&self, cx: &RunContext) -> Result<ConfigureArchivingOutput, ActionError> {
        let place = self.place()?;
        let owner = Owner::of(self.cluster, cx.host.as_ref())?;
        let settings =
            Settings::of((self.params, self.action.program.as_path()), (self.cluster, &place, &self.abode), &cx.about)?;
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
            let (again, down) = apply::restart(self.cluster, cx).await?;
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
        output.segment = Some(segment.to_string());
        Ok(output)
    }

    /// Puts settings back; what needs a restart counts after one.
    async fn put_back(&self, before: &apply::Before, cx: &RunContext) -> Result<ConfigureArchivingOutput, ActionError> {
        let mut session = self.session(cx).await?;
        apply::put_back(&mut session, before).await?;
        let names: Vec<&str> = before.keys().map(String::as_str).collect();
        let waits = match names.is_empty() {
            true => false,
            false => read(&mut session, &names).await?.values().any(|current| current.pending_restart),
        };
        let mut output = ConfigureArchivingOutput { restart_needed: waits, ..self.output(before.clone())? };
        if waits && self.params.restart == Restart::Allowed {
            overseer::refuse(self.cluster, cx.host.as_read()).await?;
            drop(session);
            let (_, down) = apply::restart(self.cluster, cx).await?;
            output = output.after(down);
        }
        Ok(output)
    }
}
