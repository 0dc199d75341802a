//! `pgbackrest.stanza_create`: makes the stanza of a database in every repository, once.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::info;
use super::stanza::{PROGRAM, Stanza};
use super::view::StanzaStatus;
use crate::action::by_hand::{command_line, remark};
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, DatabaseRef, EffectClass, Effects, Example, Findings,
    Idempotency, ParamFault, PlanContext, RunContext, Target,
};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::session::facts::ServerFacts;
use crate::actions::postgres::session::maintenance_db::MaintenanceDb;
use crate::pgformat::SystemId;

/// Makes a stanza.
#[derive(Debug, Clone, Copy, Default)]
pub struct StanzaCreate;

/// The arguments of `pgbackrest.stanza_create`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StanzaCreateParams {
    /// The database of the inventory.
    pub database: DatabaseRef,
}

/// The outputs of `pgbackrest.stanza_create`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StanzaCreateOutput {
    /// The stanza.
    pub stanza: String,
    /// Whether it was made; an earlier one of this cluster stays as it is.
    pub made: bool,
}

impl Action for StanzaCreate {
    const SPEC: ActionSpec = ActionSpec {
        name: "pgbackrest.stanza_create",
        summary: "Makes the stanza of a database in every repository of pgBackRest; one that is there is proven to be its own.",
        effect: EffectClass::Write,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: false,
        version: 1,
        examples: &[Example { title: "Before the first backup", with: "{ database: orders }" }],
    };
    type Params = StanzaCreateParams;
    type Output = StanzaCreateOutput;

    fn effects(&self, params: &StanzaCreateParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let (cluster, _) = info::stanza(&params.database, cx)?;
        if cluster.is_scratch() {
            let fault = ParamFault::new("/database", "a throw-away instance has no stanza of its own");
            return Err(vec![fault.help("keep the step out of drills: `modes: [real]`")]);
        }
        let effects = Effects::of(EffectClass::Write).program(PROGRAM);
        Ok(effects.target(Access::Write, Target::Database { name: cluster.name }))
    }

    fn by_hand(&self, params: &StanzaCreateParams, cx: &PlanContext<'_>) -> Vec<String> {
        let Ok((_, stanza)) = info::stanza(&params.database, cx) else { return Vec::new() };
        vec![remark("as the server's user:"), command_line(stanza.words(("stanza-create", &[]), &[]))]
    }

    async fn check(&self, params: &StanzaCreateParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let standing = Stanza::of(&cluster)?.look(cx.host.as_ref()).await?;
        let name = &standing.stanza;
        let findings = Findings::default().pass(match is_there(&standing) {
            true => format!("stanza `{name}` is there and stays as it is"),
            false => format!("stanza `{name}` is not there yet: {}", standing.status),
        });
        if cx.ahead {
            return Ok(findings.pending("the server is asked when the step starts"));
        }
        let mut session = MaintenanceDb::own(&cluster, cx.about.secrets.as_ref())?.open().await?;
        let ours = SystemId(ServerFacts::of(&mut session).await?.system_id);
        let theirs = standing.system_id().filter(|theirs| *theirs != ours);
        Ok(match theirs {
            None => findings.pass(format!("the server of cluster {ours} answers")),
            Some(theirs) => findings.refuse(
                format!("stanza `{name}` is of cluster {theirs}, the server of {ours}"),
                "name the right stanza, or run `pgbackrest stanza-upgrade` after an upgrade",
            ),
        })
    }

    async fn run(&self, params: &StanzaCreateParams, cx: &RunContext) -> Result<StanzaCreateOutput, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let stanza = Stanza::of(&cluster)?;
        let before = stanza.look(cx.host.as_read()).await?;
        // One that is there is looked at by the program itself: in every repository, and against the server.
        let options = ["--log-level-console=info".to_owned()];
        stanza.run(stanza.words(("stanza-create", &options), &[]), cx).await?;
        let standing = stanza.look(cx.host.as_read()).await?;
        if !is_there(&standing) {
            let fact = format!("pgBackRest ended well, but says of stanza `{}`: {}", standing.stanza, standing.status);
            return Err(ActionError::fatal(fact).help("look at `pgbackrest info` as the server's user"));
        }
        let made = !is_there(&before);
        if made {
            let message = format!("stanza `{}` was made", standing.stanza);
            cx.reporter.note(message, json!({ "stanza": standing.stanza }));
        }
        Ok(StanzaCreateOutput { stanza: standing.stanza, made })
    }
}

/// Whether it is there in every repository, with a backup or without (the status codes of `info`).
fn is_there(standing: &StanzaStatus) -> bool {
    let codes = standing.repositories.iter().map(|one| one.code);
    let differ = standing.repositories.len() > 1 && codes.clone().all(|code| matches!(code, 0 | 2));
    matches!(standing.code, 0 | 2) || differ
}
