//! `postgres.stop`: stops the server and proves that it is gone.

use std::path::Path;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::action::{
    Action, ActionError, ActionSpec, CheckContext, DatabaseRef, EffectClass, Effects, Example, Findings, Idempotency,
    Late, ParamFault, PlanContext, ReadFiles, RunContext,
};
use crate::actions::postgres::cluster::ha_manager;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::live;
use crate::actions::postgres::cluster::server::{Server, with_programs};
use crate::actions::postgres::cluster::service_manager;
use crate::base::clock;

/// What an attempt leaves in its folder before it tells a server to stop: what was found then.
const TOLD: &str = "told-to-stop";
/// How long a server that was told to stop is waited for after a cancel: within the grace that an attempt has.
const OUTLASTS: Duration = Duration::from_secs(8);

/// Stops a server.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stop;

/// The arguments of `postgres.stop`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StopParams {
    /// The database of the inventory.
    pub database: DatabaseRef,
    /// With `true` a server that does not run, or a data directory that is gone, is in order.
    #[serde(default)]
    pub if_running: bool,
    /// `started`: only a server that a step has started, which `started` tells. Else it is stopped in any case.
    #[serde(default)]
    pub only_if: Option<OnlyIf>,
    /// The output `started` of that step, for `only_if: started`.
    #[serde(default)]
    pub started: Option<Late<bool>>,
}

/// What must be true before a server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnlyIf {
    /// A `postgres.start` of the same run started it: it was stopped before.
    Started,
}

impl StopParams {
    /// Tells whether the server is to be left running, because it ran before the step that this reverses.
    fn leaves(&self) -> Result<bool, ActionError> {
        match (self.only_if, &self.started) {
            (None, _) => Ok(false),
            (Some(OnlyIf::Started), Some(started)) => Ok(!*started.get()?),
            (Some(OnlyIf::Started), None) => Err(ActionError::fatal("whether the step started the server is not known")
                .help("look whether the server was to run before that step; stop it by `postgres.stop` without `only_if` if not")),
        }
    }
}

/// The outputs of `postgres.stop`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StopOutput {
    /// Whether a server ran and was stopped.
    pub stopped: bool,
    /// What was found.
    pub found: String,
}

impl Action for Stop {
    const SPEC: ActionSpec = ActionSpec {
        name: "postgres.stop",
        summary: "Stops a PostgreSQL server and proves that it is gone.",
        effect: EffectClass::Write,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: false,
        version: 1,
        examples: &[
            Example { title: "Stop it if it runs", with: "{ database: orders, if_running: true }" },
            Example {
                title: "As the `undo` of a `postgres.start`: what ran before goes on running",
                with: "{ database: orders, if_running: true, only_if: started, started: '{{ steps.up.started }}' }",
            },
        ],
    };
    type Params = StopParams;
    type Output = StopOutput;

    fn effects(&self, params: &StopParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        if params.started.is_some() && params.only_if.is_none() {
            return Err(vec![ParamFault::new("/started", "`started` goes with `only_if: started`")]);
        }
        service_manager::effects(&params.database, cx)
    }

    fn by_hand(&self, params: &StopParams, cx: &PlanContext<'_>) -> Vec<String> {
        let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch);
        cluster.map(|cluster| vec![cluster.service_manager().stop_by_hand(&cluster)]).unwrap_or_default()
    }

    async fn check(&self, params: &StopParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let files = cx.host.read_files();
        let signs = live::signs(&cluster, files.as_ref()).await?;
        if !signs.is_empty() {
            Server::of(&cluster, cx.host.as_ref())?;
            if let Some(fact) = ha_manager::in_charge(&cluster, cx.host.as_ref()).await? {
                return Ok(Findings::default().refuse(fact.what, fact.help));
            }
            let words: Vec<String> = signs.iter().map(ToString::to_string).collect();
            return Ok(Findings::default().pass(format!("the server runs: {}", words.join("; "))));
        }
        let absent = format!("the server of database `{}` does not run", cluster.name);
        if params.if_running || params.only_if.is_some() || cx.ahead {
            return Ok(Findings::default().pass(absent));
        }
        Ok(Findings::default().refuse(absent, "set `if_running: true` if that is in order"))
    }

    async fn run(&self, params: &StopParams, cx: &RunContext) -> Result<StopOutput, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        if params.leaves()? {
            let found = format!("the server of database `{}` ran before that step, and goes on", cluster.name);
            return Ok(StopOutput { stopped: false, found });
        }
        let files = cx.host.read_files();
        let signs = live::signs(&cluster, files.as_ref()).await?;
        if signs.is_empty() {
            let found = match files.facts(&cluster.pgdata) {
                Ok(None) => format!("the data directory `{}` is gone", cluster.pgdata.display()),
                _ => format!("the server of database `{}` does not run", cluster.name),
            };
            if let Some(found) = told_before(files.as_ref(), &cx.attempt_dir) {
                return Ok(StopOutput { stopped: true, found });
            }
            if !params.if_running {
                return Err(ActionError::fatal(found).help("set `if_running: true` if that is in order"));
            }
            return Ok(StopOutput { stopped: false, found });
        }
        let found: String = signs.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        ha_manager::refuse(&cluster, cx.host.as_read()).await?;
        let server = Server::of(&cluster, cx.host.as_read())?;
        // Without it a later attempt would not know that this one stopped it; the server is stopped all the same.
        let _ = cx.host.files().replace(&cx.attempt_dir.join(TOLD), found.as_bytes(), 0o600);
        match server.stop(cx.host.as_ref()).await {
            Err(error) if cx.cancel.is_cancelled() => outlast(&cluster, files.as_ref(), error).await?,
            stopped => stopped?,
        }
        Ok(StopOutput { stopped: true, found })
    }
}

/// What an earlier attempt of the step found before it told the server to stop.
fn told_before(files: &dyn ReadFiles, attempt_dir: &Path) -> Option<String> {
    let attempts = files.list(attempt_dir.parent()?).ok()?;
    let mut told = attempts.iter().map(|one| attempt_dir.with_file_name(&one.name).join(TOLD));
    told.find_map(|path| Some(String::from_utf8_lossy(&files.read(&path, 4096).ok()?).into_owned()))
}

/// Waits a little for a server that was told to stop before the cancel came: nothing calls it back, and whoever undoes the
/// step must know.
async fn outlast(cluster: &Cluster, files: &dyn ReadFiles, error: ActionError) -> Result<(), ActionError> {
    let began = clock::monotonic();
    while began.elapsed() < OUTLASTS {
        if live::signs(cluster, files).await?.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let start = cluster.service_manager().start_by_hand(&with_programs(cluster, files));
    let fact = format!("the server of database `{}` was being told to stop, and is not gone yet", cluster.name);
    let help = format!("nothing calls that back; once it is down, `{start}` starts it again");
    Err(ActionError::cancelled(fact).because(&error).help(help))
}
