//! From a plan to a bound plan: parameters, environment and run identity are known, so every target is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::binder::{Binder, Shared};
use super::build::Plan;
use super::expand::Expanded;
use super::model::{BoundPlan, Limits, PlanSource, UndoPolicy};
use super::{lock, notify, param};
use crate::action::{Mode, PlanContext, Registry};
use crate::base::diagnostic::{SourceFile, SourceId, Sources};
use crate::base::{Digest, RunId, Timestamp};
use crate::event::Actor;
use crate::language::inventory::{Inventory, Via};
use crate::language::template::Scope;

/// The format of `plan.json`.
pub const PLAN_FORMAT: u32 = 1;

/// What a run adds to a plan.
#[derive(Debug, Clone)]
pub struct BindRequest {
    /// The run.
    pub run: RunId,
    /// Real, drill or dry run.
    pub mode: Mode,
    /// The environment's name.
    pub environment: String,
    /// Parameters given, as text or typed.
    pub params: BTreeMap<String, Value>,
    /// Variables given.
    pub vars: BTreeMap<String, Value>,
    /// Variables of the environment, as far as the runbook lists them under `pass_env`.
    pub env_vars: BTreeMap<String, String>,
    /// Who starts it.
    pub actor: Actor,
    /// The start of the run.
    pub now: Timestamp,
    /// The run's own folder for scratch files.
    pub scratch: PathBuf,
    /// How many steps may run at once.
    pub max_parallel: usize,
}

/// Why a plan cannot be bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// A parameter, variable or environment is missing, unknown or malformed. Exit code 2.
    #[error("{message}")]
    Usage {
        /// What is wrong.
        message: String,
        /// What to do next.
        help: String,
    },
    /// An argument of a step makes no sense with these values. Exit code 3.
    #[error("step `{step}`: {message}")]
    Step {
        /// The step.
        step: String,
        /// The argument, as a JSON pointer.
        pointer: String,
        /// What is wrong.
        message: String,
        /// What to do next.
        help: Option<String>,
    },
    /// An argument of a rule of `notify` makes no sense with these values. Exit code 3.
    #[error("rule {rule} of `notify` (`{uses}`): {message}")]
    Rule {
        /// Its number, from 1: the rules of the inventory come first.
        rule: usize,
        /// Its notifier.
        uses: String,
        /// The argument, as a JSON pointer.
        pointer: String,
        /// What is wrong.
        message: String,
        /// What to do next.
        help: Option<String>,
    },
}

/// Binds a plan.
///
/// # Errors
/// Gives everything that is wrong with the values, all at once.
pub fn bind(
    plan: &Plan,
    inventory: Inventory,
    registry: &Registry,
    sources: &Sources,
    request: BindRequest,
) -> Result<BoundPlan, Vec<BindError>> {
    let mut inventory = inventory;
    place_scratch(&mut inventory, &request.scratch);
    let run = run_values(plan, &request);
    let vars = param::vars(&run, &inventory, &request).map_err(|error| vec![error])?;
    let params = param::params(&plan.runbook, &inventory, (&run, &vars), &request)?;
    let env_vars = param::env_vars(&plan.runbooks(), &request)?;
    let incident_at = param::incident_at(&plan.runbook, &params, &request).map_err(|error| vec![error])?;
    let scope = Scope::new()
        .with("params", &json!(params))
        .with("vars", &json!(vars))
        .with("env_vars", &json!(env_vars))
        .with("run", &run)
        .with("objectives", &json!(plan.runbook.objectives))
        .with_secrets(inventory.secrets.keys().cloned());
    let held = lock::held(&plan.runbooks());
    let shared = Shared { run: &run, held: &held, phases: &plan.runbook.phases };
    let binder =
        Binder { plan, inventory: &inventory, registry, request: &request, scope: &scope, params: &params, shared };
    let Expanded { steps, groups } = binder.steps()?;
    let context = PlanContext { inventory: &inventory, mode: request.mode, scratch: &request.scratch, host: "local" };
    let rules = notify::bound(&plan.runbook, (&scope, &run), &context, registry)?;
    let locks = lock::of_run(&plan.runbooks(), &steps, &inventory);
    let environment = inventory.environments.get(&request.environment);
    Ok(BoundPlan {
        format: PLAN_FORMAT,
        run: request.run.clone(),
        name: plan.runbook.name.clone(),
        description: plan.runbook.description.clone(),
        owner: plan.runbook.owner.clone(),
        controls: plan.runbook.controls.clone(),
        mode: request.mode,
        protected: environment.is_some_and(|environment| environment.protected),
        environment: request.environment,
        actor: request.actor,
        started_at: request.now,
        incident_at,
        objectives: plan.runbook.objectives,
        phases: plan.runbook.phases.clone(),
        params,
        vars,
        inventory,
        scratch: request.scratch,
        steps,
        limits: Limits { max_parallel: request.max_parallel.max(1) },
        locks: locks.names,
        queued_locks: locks.queued,
        groups,
        env_vars,
        undo: UndoPolicy::Never,
        origin: None,
        notify: rules,
        sources: frozen_sources(sources, plan.file),
    })
}

/// The texts as the plan keeps them, the runbook itself first.
fn frozen_sources(sources: &Sources, runbook: SourceId) -> Vec<PlanSource> {
    let frozen = |file: &SourceFile| PlanSource {
        name: file.name.clone(),
        digest: Digest::of(file.text.as_bytes()),
        text: file.text.to_string(),
    };
    let own = sources.get(runbook).map(frozen);
    let others = sources.iter().enumerate().filter(|(at, _)| *at != runbook.0 as usize).map(|(_, file)| frozen(file));
    own.into_iter().chain(others).collect()
}

/// Gives every throw-away database its place: below the run's scratch folder, on a socket of its own.
fn place_scratch(inventory: &mut Inventory, scratch: &std::path::Path) {
    for (name, database) in inventory.databases.iter_mut().filter(|(_, database)| database.scratch) {
        let home = scratch.join(name);
        let live = std::mem::replace(&mut database.pgdata, home.join("data"));
        database.live = Some(live).filter(|live| live.is_absolute());
        database.socket = Some(home.join("s"));
        database.port = 5432;
        database.password = None;
        database.address = None;
        database.via = Via::default();
        database.services = Vec::new();
    }
}

/// The members of `run` that are known when it starts.
fn run_values(plan: &Plan, request: &BindRequest) -> Value {
    json!({
        "id": request.run.as_str(),
        "name": plan.runbook.name,
        "mode": request.mode.as_str(),
        "environment": request.environment,
        "started_at": request.now.to_string(),
        "scratch": request.scratch,
        "actor": request.actor.name,
    })
}
