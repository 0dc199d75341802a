//! `pgbackrest.backup`: a backup into pgBackRest's repository, proven by what pgBackRest then says of it.
//!
//! The backup carries the step's key as an annotation: a step that is run again after its engine died finds the backup
//! that it made, and does not make another one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::stanza::{PROGRAM, Stanza, TELLING};
use super::view::{Listed, NOTE, StanzaStatus};
use super::{choice, info};
use crate::action::by_hand::{command_line, remark};
use crate::action::{
    Access, Action, ActionError, ActionSpec, BackupHandle, CheckContext, DatabaseRef, EffectClass, Effects, Example,
    Findings, Idempotency, ParamFault, PlanContext, RunContext, Target,
};
use crate::actions::postgres::backup::base_backup::Checkpoint;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::session::facts::{ServerFacts, archives};
use crate::actions::postgres::session::maintenance_db::MaintenanceDb;
use crate::base::Timestamp;
use crate::pgformat::SystemId;

/// Takes a backup.
#[derive(Debug, Clone, Copy, Default)]
pub struct Backup;

/// The arguments of `pgbackrest.backup`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupParams {
    /// The database of the inventory.
    pub database: DatabaseRef,
    /// `full`, `diff` (what changed since the last full one) or `incr` (default: since the last of any type). The first
    /// one of a stanza is always full.
    #[serde(default, rename = "type")]
    pub kind: BackupType,
    /// The number of the repository. Default: the first of pgBackRest's configuration.
    #[serde(default)]
    pub repo: Option<u32>,
    /// How the backup's checkpoint is made. Default `fast`.
    #[serde(default)]
    pub checkpoint: Checkpoint,
    /// What becomes of old backups afterwards: `configured` (default) removes those that pgBackRest's own retention
    /// does not keep; `never` removes nothing, for while a recovery may still need them.
    #[serde(default)]
    pub expire: Expire,
    /// How many processes copy. Default: as pgBackRest's configuration says.
    #[serde(default)]
    pub processes: Option<u32>,
}

/// What a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackupType {
    /// Everything.
    Full,
    /// What changed since the last full one.
    Diff,
    /// What changed since the last one of any type.
    #[default]
    Incr,
}

/// What becomes of old backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Expire {
    /// pgBackRest's own retention decides.
    #[default]
    Configured,
    /// They stay.
    Never,
}

/// The outputs of `pgbackrest.backup`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackupOutput {
    /// The backup.
    pub backup: BackupHandle,
    /// Its label.
    pub id: String,
    /// `full`, `diff` or `incr`.
    pub tier: String,
    /// The bytes that a restore of it writes.
    pub plain_bytes: u64,
    /// The bytes that it added to the repository.
    pub size_bytes: u64,
    /// When it ended, by the server's clock.
    #[schemars(with = "String")]
    pub stopped_at: Timestamp,
}

impl BackupType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Diff => "diff",
            Self::Incr => "incr",
        }
    }
}

impl BackupParams {
    fn options(&self, key: &str) -> Vec<String> {
        let mut options = vec![format!("--type={}", self.kind.as_str()), format!("--annotation={NOTE}={key}")];
        options.extend(self.repo.map(|repo| format!("--repo={repo}")));
        options.push(match self.checkpoint {
            Checkpoint::Fast => "--start-fast".to_owned(),
            Checkpoint::Spread => "--no-start-fast".to_owned(),
        });
        options.extend(match self.expire {
            Expire::Configured => None,
            Expire::Never => Some("--no-expire-auto".to_owned()),
        });
        options.extend(self.processes.map(|processes| format!("--process-max={processes}")));
        options
    }
}

impl Action for Backup {
    const SPEC: ActionSpec = ActionSpec {
        name: "pgbackrest.backup",
        summary: "Takes a backup with pgBackRest and proves that it is in the repository.",
        effect: EffectClass::Write,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[
            Example { title: "What changed", with: "{ database: orders }" },
            Example { title: "Everything", with: "{ database: orders, type: full, processes: 4 }" },
            Example {
                title: "After a recovery: nothing old is removed",
                with: "{ database: orders, type: full, expire: never }",
            },
        ],
    };
    type Params = BackupParams;
    type Output = BackupOutput;

    fn effects(&self, params: &BackupParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let (cluster, _) = info::stanza(&params.database, cx)?;
        if cluster.is_scratch() {
            let fault = ParamFault::new("/database", "a throw-away instance has no place in a repository");
            return Err(vec![fault.help("keep the step out of drills: `modes: [real]`")]);
        }
        let target = Target::Database { name: cluster.name.clone() };
        Ok(Effects::of(EffectClass::Write).program(PROGRAM).target(Access::Read, target).hold(cluster.name))
    }

    fn by_hand(&self, params: &BackupParams, cx: &PlanContext<'_>) -> Vec<String> {
        let Ok((_, stanza)) = info::stanza(&params.database, cx) else { return Vec::new() };
        let options: Vec<String> =
            params.options("by hand").into_iter().filter(|option| !option.starts_with("--annotation")).collect();
        vec![
            remark("as the server's user:"),
            command_line(stanza.words(("backup", &options), &[])),
            command_line(stanza.words(("info", &stanza.reading()), &[])),
        ]
    }

    async fn check(&self, params: &BackupParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let stanza = Stanza::of(&cluster)?.in_repository(params.repo);
        let standing = stanza.look(cx.host.as_ref()).await?;
        let findings = Findings::default();
        if let Some(fact) = choice::to_be_made(&standing, cx) {
            return Ok(findings.pending(fact));
        }
        // Another repository may be without a backup, or away: that of this one says whether it can be taken.
        let may = matches!(standing.code_of(stanza.repo), 0 | 2);
        if let Err(error) = choice::sound(&standing).or_else(|error| if may { Ok(()) } else { Err(error) }) {
            return Ok(findings.refuse(error.to_string(), error.info().help.clone().unwrap_or_default()));
        }
        if standing.busy && !cx.ahead {
            let fact = format!("another backup of stanza `{}` runs", standing.stanza);
            return Ok(findings.refuse(fact, "let it end, then run this again"));
        }
        if cx.ahead {
            return Ok(findings.pass(told(&standing)).pending("the server is asked when the step starts"));
        }
        let mut session = MaintenanceDb::own(&cluster, cx.about.secrets.as_ref())?.open().await?;
        let facts = ServerFacts::of(&mut session).await?;
        if let Some((fact, help)) = unfit(&facts, &standing) {
            return Ok(findings.refuse(fact, help));
        }
        Ok(findings.pass(told(&standing)).pass(format!("PostgreSQL {} archives its WAL", facts.version)))
    }

    async fn run(&self, params: &BackupParams, cx: &RunContext) -> Result<BackupOutput, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let stanza = Stanza::of(&cluster)?.in_repository(params.repo);
        let standing = stanza.look(cx.host.as_read()).await?;
        match taken(&standing, &cx.key) {
            Some(Listed { id, fault: Some(fault), .. }) => {
                let message = format!("backup `{id}`, which this step took before, has {fault}: another one is taken");
                cx.reporter.note(message, json!({ "id": id }));
            }
            Some(ours) => {
                let message = format!("backup `{}` was taken by this step before", ours.id);
                cx.reporter.note(message, json!({ "id": ours.id }));
                return output(ours, &cluster, &standing);
            }
            None => {}
        }
        let mut options = params.options(&cx.key);
        options.push(TELLING.to_owned());
        stanza.run(stanza.words(("backup", &options), &[]), cx).await?;
        let standing = stanza.look(cx.host.as_read()).await?;
        let ours = taken(&standing, &cx.key).ok_or_else(|| {
            ActionError::fatal("pgBackRest ended well, but lists no backup of this step")
                .help("look at `pgbackrest info`; annotations need pgBackRest 2.41 or later")
        })?;
        if let Some(fault) = &ours.fault {
            let help = format!(
                "the server's own data is damaged: `pgbackrest info --set={}` names the files, `pg_amcheck` the tables; a restore of \
                 the backup before, with the WAL since, has them as they were",
                ours.id
            );
            return Err(ActionError::fatal(format!("backup `{}` was taken and has {fault}", ours.id)).help(help));
        }
        let message = format!("backup `{}` ({}) added {} bytes to the repository", ours.id, ours.tier, ours.size_bytes);
        cx.reporter.note(message, json!({ "id": ours.id, "tier": ours.tier, "size_bytes": ours.size_bytes }));
        output(ours, &cluster, &standing)
    }
}

/// The newest backup that a step took: after one with wrong pages there may be another.
fn taken<'a>(standing: &'a StanzaStatus, key: &str) -> Option<&'a Listed> {
    standing.backups.iter().rfind(|backup| backup.key.as_deref() == Some(key))
}

fn output(listed: &Listed, cluster: &Cluster, standing: &StanzaStatus) -> Result<BackupOutput, ActionError> {
    Ok(BackupOutput {
        backup: listed.handle(&cluster.name, &standing.stanza)?,
        id: listed.id.clone(),
        tier: listed.tier.clone(),
        plain_bytes: listed.plain_bytes,
        size_bytes: listed.size_bytes,
        stopped_at: listed.stopped_at,
    })
}

fn told(standing: &StanzaStatus) -> String {
    match standing.newest() {
        Some(newest) => format!("stanza `{}`: the newest backup is `{}`", standing.stanza, newest.id),
        None => format!("stanza `{}` has no backup yet: this one is full", standing.stanza),
    }
}

/// Says why a server cannot be backed up into a stanza.
fn unfit(facts: &ServerFacts, standing: &StanzaStatus) -> Option<(String, &'static str)> {
    if !archives(&facts.archiving) {
        let fact = "the server archives no WAL, so no backup of it could be restored".to_owned();
        return Some((fact, "set `archive_mode` and `archive_command` (`pgbackrest … archive-push %p`)"));
    }
    let theirs = standing.system_id().filter(|theirs| *theirs != SystemId(facts.system_id))?;
    let fact = format!("stanza `{}` is of cluster {theirs}, the server of {}", standing.stanza, facts.system_id);
    Some((fact, "name the right stanza, or run `pgbackrest stanza-upgrade` after an upgrade"))
}
