//! `pgbackrest.info`: what pgBackRest has of a database.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::choice;
use super::stanza::{PROGRAM, Stanza};
use super::view::Listed;
use crate::action::by_hand::command_line;
use crate::action::{
    Action, ActionError, ActionSpec, BackupHandle, CheckContext, DatabaseRef, EffectClass, Effects, Example, Findings,
    Idempotency, ParamFault, PlanContext, RunContext,
};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::service_manager::Wish;
use crate::base::Timestamp;

/// Asks for the backups of a stanza.
#[derive(Debug, Clone, Copy, Default)]
pub struct Info;

/// The arguments of `pgbackrest.info`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InfoParams {
    /// The database of the inventory.
    pub database: DatabaseRef,
}

/// The outputs of `pgbackrest.info`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InfoOutput {
    /// The stanza.
    pub stanza: String,
    /// Its status in pgBackRest's words.
    pub status: String,
    /// Whether a backup runs now.
    pub busy: bool,
    /// The newest backup that nothing is known to be wrong with; null when there is none.
    pub backup: Option<BackupHandle>,
    /// When that one ended.
    #[schemars(with = "Option<String>")]
    pub stopped_at: Option<Timestamp>,
    /// All backups, oldest first.
    pub backups: Vec<InfoBackup>,
    /// The newest WAL segment in the repository.
    pub newest_wal: Option<String>,
}

/// A backup in the outputs of `pgbackrest.info`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InfoBackup {
    /// Its label.
    pub id: String,
    /// `full`, `diff` or `incr`.
    pub tier: String,
    /// When it ended.
    #[schemars(with = "String")]
    pub stopped_at: Timestamp,
    /// The bytes that a restore of it writes.
    pub plain_bytes: u64,
    /// The bytes that it added to the repository.
    pub size_bytes: u64,
    /// What is known to be wrong with it.
    pub fault: Option<String>,
}

impl Action for Info {
    const SPEC: ActionSpec = ActionSpec {
        name: "pgbackrest.info",
        summary: "Tells which backups and which WAL pgBackRest has of a database.",
        effect: EffectClass::Read,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: false,
        version: 1,
        examples: &[Example { title: "What there is", with: "{ database: orders }" }],
    };
    type Params = InfoParams;
    type Output = InfoOutput;

    fn effects(&self, params: &InfoParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        stanza(&params.database, cx)?;
        Ok(Effects::of(EffectClass::Read).program(PROGRAM))
    }

    fn by_hand(&self, params: &InfoParams, cx: &PlanContext<'_>) -> Vec<String> {
        let Ok((_, stanza)) = stanza(&params.database, cx) else { return Vec::new() };
        vec![command_line(stanza.words(("info", &stanza.reading()), &[]))]
    }

    async fn check(&self, params: &InfoParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let standing = Stanza::of(&cluster)?.look(cx.host.as_ref()).await?;
        let (stanza, status) = (&standing.stanza, &standing.status);
        if let Some(fact) = choice::to_be_made(&standing, cx) {
            return Ok(Findings::default().pending(fact));
        }
        Ok(match choice::sound(&standing) {
            Ok(()) => Findings::default().pass(format!("stanza `{stanza}` has {} backups", standing.backups.len())),
            Err(error) => {
                let help = error.info().help.clone().unwrap_or_default();
                Findings::default().warn(format!("stanza `{stanza}` of pgBackRest: {status}"), help)
            }
        })
    }

    async fn run(&self, params: &InfoParams, cx: &RunContext) -> Result<InfoOutput, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let standing = Stanza::of(&cluster)?.look(cx.host.as_read()).await?;
        let newest = standing.newest().cloned();
        let handle = newest.as_ref().map(|one| one.handle(&cluster.name, &standing.stanza)).transpose()?;
        Ok(InfoOutput {
            newest_wal: standing.archives.last().and_then(|archive| archive.newest.clone()),
            backup: handle,
            stopped_at: newest.map(|one| one.stopped_at),
            backups: standing.backups.iter().map(InfoBackup::of).collect(),
            stanza: standing.stanza,
            status: standing.status,
            busy: standing.busy,
        })
    }
}

impl InfoBackup {
    fn of(listed: &Listed) -> Self {
        Self {
            id: listed.id.clone(),
            tier: listed.tier.clone(),
            stopped_at: listed.stopped_at,
            plain_bytes: listed.plain_bytes,
            size_bytes: listed.size_bytes,
            fault: listed.fault.clone(),
        }
    }
}

/// The cluster and the stanza of a step's database.
///
/// # Errors
/// Fails when the inventory has neither.
pub(super) fn stanza(database: &DatabaseRef, cx: &PlanContext<'_>) -> Result<(Cluster, Stanza), Vec<ParamFault>> {
    let fault = |error: &ActionError| {
        let fault = ParamFault::new("/database", error.to_string());
        vec![match &error.info().help {
            Some(help) => fault.help(help.clone()),
            None => fault,
        }]
    };
    let cluster = Cluster::of(database, cx.inventory, cx.scratch).map_err(|error| fault(&error))?;
    cluster.within_reach(Wish::Foreign)?;
    let stanza = Stanza::of(&cluster).map_err(|error| fault(&error))?;
    Ok((cluster, stanza))
}
