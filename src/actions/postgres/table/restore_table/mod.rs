//! `postgres.restore_table`: tables of a side instance, held against the live ones or brought back into them.
//!
//! A table that is gone comes back whole ([`recreate`]); of one that is there, the rows that differ are found by key
//! inside the copy ([`compare`]) and applied in one transaction that proves nobody wrote meanwhile ([`apply`]), with a
//! script that takes it back ([`undo`]). The live database is never asked for more than it must give: comparing reads
//! it once, and nothing is piped into it unseen.

mod apply;
mod around;
mod by_hand;
mod compare;
mod dependent;
mod inherited;
mod lacking;
mod large_object;
mod needed;
mod order;
mod outlook;
mod pair;
mod params;
mod partition;
mod recreate;
mod refreshed;
mod shape;
mod trail;
mod undo;
mod work;

pub use compare::{Difference, Sample};
pub use params::{
    ApplyMode, Orphans, RestoreTableMode, RestoreTableOutput, RestoreTableParams, TableOutcome, TableState,
};
pub use undo::{TableUndo, UndoScript};

use self::lacking::Lacking;
use self::trail::{Doing, Trail};
use self::work::Work;
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, CommandSpec, EffectClass, Effects, Example, Findings,
    Idempotency, Interrupted, ParamFault, PlanContext, Recovery, RunContext, Target,
};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::session::client::{self, Client};
use crate::actions::postgres::session::connect::{Endpoint, Refusal, Session};
use crate::actions::postgres::side::record::{KIND, Record};
use crate::event::ErrorClass;

/// Brings tables back.
#[derive(Debug, Clone, Copy, Default)]
pub struct RestoreTable;

impl Action for RestoreTable {
    const SPEC: ActionSpec = ActionSpec {
        name: "postgres.restore_table",
        summary: "Compares tables with a side instance by key, or brings them back from it in one transaction.",
        effect: EffectClass::Destroy,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: false,
        version: 1,
        examples: &[
            Example {
                title: "What is missing, other or new since",
                with: "{ database: orders, instance: '{{ steps.side.instance }}', tables: [users, shop.items] }",
            },
            Example {
                title: "Bring back what is missing; what is there stays as it is",
                with: "{ database: orders, instance: '{{ steps.side.instance }}', tables: [users], mode: apply }",
            },
            Example {
                title: "Make the tables what they were, row by row",
                with: "{ database: orders, instance: '{{ steps.side.instance }}', tables: [users], mode: apply, apply: mirror }",
            },
            Example {
                title: "Take it back, as the `undo` of the step",
                with: "{ database: orders, mode: revert, undo: '{{ steps.apply.undo }}' }",
            },
        ],
    };
    type Params = RestoreTableParams;
    type Output = RestoreTableOutput;

    fn effects(&self, params: &RestoreTableParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch)
            .map_err(|error| vec![ParamFault::new("/database", error.to_string())])?;
        let faults = params.faults();
        if !faults.is_empty() {
            return Err(faults);
        }
        let (class, access) = match (params.mode, params.apply()) {
            (RestoreTableMode::Compare, _) => (EffectClass::Read, Access::Read),
            (RestoreTableMode::Apply, ApplyMode::Missing) => (EffectClass::Write, Access::Write),
            (RestoreTableMode::Apply, ApplyMode::Changed | ApplyMode::Mirror) | (RestoreTableMode::Revert, _) => {
                (EffectClass::Destroy, Access::Destroy)
            }
        };
        Ok(Effects::of(class).target(access, Target::Database { name: cluster.name }))
    }

    fn by_hand(&self, params: &RestoreTableParams, cx: &PlanContext<'_>) -> Vec<String> {
        by_hand::lines(params, cx).unwrap_or_default()
    }

    async fn check(&self, params: &RestoreTableParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let findings = Findings::default();
        if cluster.is_scratch() && cx.ahead {
            return Ok(findings.pending("the server is asked when the step starts"));
        }
        let endpoint = Endpoint::of(&cluster, Some(params.dbname(&cluster)), cx.about.secrets.as_ref())?;
        let is_of_copy = match params.mode {
            RestoreTableMode::Compare | RestoreTableMode::Apply => true,
            RestoreTableMode::Revert => false,
        };
        let may_come = lacking::may_come(cx);
        let mut session = match endpoint.ask().await {
            Ok(session) => session,
            Err((Some(Refusal::Database), error)) if is_of_copy && !may_come => {
                let help = lacking::without_database(params.dbname(&cluster));
                return Ok(findings.refuse(lacking::refused(&error), help));
            }
            Err((_, error)) if cx.ahead => {
                return Ok(findings.pending(format!("{error}: it is asked again when the step starts")));
            }
            Err((_, error)) => return Err(error),
        };
        let major = major(&mut session).await?;
        let client = Client::of(&cluster, &major, (cx.host.as_ref(), cx.about.secrets.as_ref()))?;
        let mut findings = findings;
        if params.mode != RestoreTableMode::Compare {
            for program in ["pg_dump", "pg_restore", "psql"] {
                let version = client.version(program, cx.host.as_ref()).await?;
                if !version.starts_with(&major) {
                    let fact = format!("`{program}` is of version {version}, the server of {major}");
                    findings = findings.refuse(fact, "set `bin` of the database in the inventory");
                }
            }
        }
        let lacking = Lacking { params, live: &cluster, secrets: cx.about.secrets.as_ref(), may_come };
        outlook::judge((lacking, copied(params, &cluster, cx)), &mut session, findings).await
    }

    async fn run(&self, params: &RestoreTableParams, cx: &RunContext) -> Result<RestoreTableOutput, ActionError> {
        let live = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let trail = Trail::of(&live, params.dbname(&live));
        let made = async {
            match params.mode {
                RestoreTableMode::Compare | RestoreTableMode::Apply => {
                    Work::begin((params, &trail), &live, cx).await?.run().await
                }
                RestoreTableMode::Revert => revert((params, &trail), &live, cx).await,
            }
        };
        tokio::select! {
            made = made => made,
            () = cx.cancel.cancelled() => Err(trail.cancelled()),
        }
    }

    /// Comparing and applying begin anew: what an earlier attempt committed is no difference any more. A script that
    /// was cut off would refuse its own work.
    async fn recover(
        &self,
        params: &RestoreTableParams,
        _: &Interrupted,
        _: &CheckContext,
    ) -> Result<Recovery<RestoreTableOutput>, ActionError> {
        Ok(match params.mode {
            RestoreTableMode::Compare | RestoreTableMode::Apply => Recovery::Rerun,
            RestoreTableMode::Revert => Recovery::Ask {
                why: "the script that takes the tables back was cut off; it is one transaction, so it happened whole or not at all"
                    .to_owned(),
            },
        })
    }
}

/// The kind of backup that the copy is made of, as far as it is known by now.
fn copied(params: &RestoreTableParams, live: &Cluster, cx: &CheckContext) -> Option<String> {
    let instance = params.instance.as_ref()?;
    match instance.known() {
        None => cx.foreseen.beside(instance, KIND),
        Some(handle) => {
            let copy = live.clone().serving(handle, &cx.about.scratch).ok()?;
            Record::of(&copy, cx.host.read_files().as_ref())?.kind
        }
    }
}

/// Runs the scripts of an earlier application.
async fn revert(
    (params, trail): (&RestoreTableParams, &Trail),
    live: &Cluster,
    cx: &RunContext,
) -> Result<RestoreTableOutput, ActionError> {
    let Some(wanted) = &params.undo else {
        return Err(ActionError::fatal("what the step did is not known, so it cannot be taken back by itself").help(
            "if it did anything, its scripts lie in its folder below `attempts` of the run: `undo-rows.sql`, `undo-tables.sql`, \
             `undo-rows-before-tables.sql`, to be run in this order",
        ));
    };
    let wanted = wanted.get()?;
    if wanted.database != live.name {
        let fact = format!("this takes back what was done to database `{}`, not `{}`", wanted.database, live.name);
        return Err(ActionError::fatal(fact));
    }
    let files = cx.host.read_files();
    for script in &wanted.scripts {
        if undo::digest(files.as_ref(), &script.path)? != script.sha256 {
            let fact = format!("`{}` is not what the step wrote", script.path.display());
            return Err(ActionError::fatal(fact));
        }
    }
    let mut session = Endpoint::of(live, Some(&wanted.dbname), cx.about.secrets.as_ref())?.open().await?;
    let major = major(&mut session).await?;
    drop(session);
    let client = Client::of(live, &major, (cx.host.as_ref(), cx.about.secrets.as_ref()))?;
    for (number, script) in wanted.scripts.iter().enumerate() {
        let spec = client.command("psql", &wanted.dbname)?;
        let spec = spec.args(["-X", "-q", "-o", "/dev/null", "-f", &script.path.display().to_string()]);
        trail.during((Doing::TakingBack, None), psql(spec, cx)).await.map_err(|error| {
            let mut info = error.into_info();
            info.message = format!("`{}` took nothing back", script.path.display());
            if number > 0 {
                info.message = format!("{}; what was done after it is taken back", info.message);
            }
            ActionError::from(info)
                .help("rows that were changed since stop it: look at the last lines, and decide row by row")
        })?;
        trail.took_back(number + 1, wanted.scripts.len());
        let message = format!("`{}` took its changes back", script.path.display());
        cx.reporter.note(message, serde_json::json!({ "script": script.path }));
    }
    Ok(RestoreTableOutput::default())
}

/// Runs a script in one transaction. What SQL refuses it refuses again; only a lost connection is worth another try.
async fn psql(spec: CommandSpec, cx: &RunContext) -> Result<(), ActionError> {
    client::run(cx.host.as_ref(), spec).await.map_err(|error| {
        let mut info = error.into_info();
        let lost = ["server closed the connection", "connection to server"];
        let said = format!("{info:?}");
        if info.class == ErrorClass::Retryable && !lost.iter().any(|words| said.contains(words)) {
            info.class = ErrorClass::Fatal;
        }
        ActionError::from(info)
    })
}

/// The server's major version.
async fn major(session: &mut Session) -> Result<String, ActionError> {
    session.major().await.map(|major| major.to_string())
}
