//! `pgbackrest.check`: proves that WAL travels from the server into every repository.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::stanza::{PROGRAM, Stanza};
use super::{choice, info};
use crate::action::by_hand::{command_line, remark};
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, DatabaseRef, EffectClass, Effects, Example, Findings,
    Idempotency, ParamFault, PlanContext, RunContext, Target,
};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::session::maintenance_db::MaintenanceDb;
use crate::base::units::Span;

/// Proves archiving.
#[derive(Debug, Clone, Copy, Default)]
pub struct Check;

/// The arguments of `pgbackrest.check`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckParams {
    /// The database of the inventory.
    pub database: DatabaseRef,
    /// How long the WAL may take to arrive. Default: as pgBackRest's configuration says, `60s`.
    #[serde(default)]
    pub within: Option<Span>,
}

/// The outputs of `pgbackrest.check`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckOutput {
    /// The stanza.
    pub stanza: String,
    /// The newest WAL segment that was then in the repository.
    pub newest_wal: Option<String>,
}

impl CheckParams {
    fn options(&self) -> Vec<String> {
        let timeout = self.within.map(|span| format!("--archive-timeout={}", span.0.as_secs().max(1)));
        timeout.into_iter().chain(["--log-level-console=info".to_owned()]).collect()
    }
}

impl Action for Check {
    const SPEC: ActionSpec = ActionSpec {
        name: "pgbackrest.check",
        summary: "Has the server finish a WAL segment and proves that it arrives in every repository of pgBackRest.",
        effect: EffectClass::Write,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: false,
        version: 1,
        examples: &[
            Example { title: "After it was set up", with: "{ database: orders }" },
            Example { title: "A repository far away", with: "{ database: orders, within: 5m }" },
        ],
    };
    type Params = CheckParams;
    type Output = CheckOutput;

    fn effects(&self, params: &CheckParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let (cluster, _) = info::stanza(&params.database, cx)?;
        if cluster.is_scratch() {
            let fault = ParamFault::new("/database", "a throw-away instance archives nothing");
            return Err(vec![fault.help("keep the step out of drills: `modes: [real]`")]);
        }
        let effects = Effects::of(EffectClass::Write).program(PROGRAM);
        Ok(effects.target(Access::Write, Target::Database { name: cluster.name }))
    }

    fn by_hand(&self, params: &CheckParams, cx: &PlanContext<'_>) -> Vec<String> {
        let Ok((_, stanza)) = info::stanza(&params.database, cx) else { return Vec::new() };
        vec![remark("as the server's user:"), command_line(stanza.words(("check", &params.options()), &[]))]
    }

    async fn check(&self, params: &CheckParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let stanza = Stanza::of(&cluster)?;
        let standing = stanza.look(cx.host.as_ref()).await?;
        if let Some(fact) = choice::to_be_made(&standing, cx) {
            return Ok(Findings::default().pending(fact));
        }
        if matches!(standing.code, 1 | 3) {
            let fact = format!("stanza `{}` of pgBackRest: {}", standing.stanza, standing.status);
            let help = "name the right stanza, or make it with `pgbackrest.stanza_create`";
            // A program of one's own may make it before.
            let findings = Findings::default();
            return Ok(if cx.ahead { findings.warn(fact, help) } else { findings.refuse(fact, help) });
        }
        if cx.ahead {
            return Ok(Findings::default().pending("the server is asked when the step starts"));
        }
        MaintenanceDb::own(&cluster, cx.about.secrets.as_ref())?.open().await?;
        Ok(Findings::default().pass(format!("the server answers, and stanza `{}` is there", standing.stanza)))
    }

    async fn run(&self, params: &CheckParams, cx: &RunContext) -> Result<CheckOutput, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let stanza = Stanza::of(&cluster)?;
        stanza.run(stanza.words(("check", &params.options()), &[]), cx).await?;
        let standing = stanza.look(cx.host.as_read()).await?;
        let newest_wal = standing.archives.last().and_then(|archive| archive.newest.clone());
        Ok(CheckOutput { stanza: standing.stanza, newest_wal })
    }
}
