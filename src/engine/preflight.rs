//! Every step's check before the first step, with late values pending: what a run refuses before it changes anything.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::capability::Timing;
use super::check::{Before, CheckJob};
use super::foresight::{Awaited, Foresight, awaited};
use super::resolve::{Wanted, resolve_ahead, wanted_ahead};
use super::reveal::Position;
use super::scope::Values;
use super::tasks::{TaskEnd, Tasks};
use super::{Capabilities, PlanIndex};
use crate::action::{Access, ActionError, EffectClass, Findings, Foreseen, Machine, Registry, Target, pending};
use crate::base::StepId;
use crate::event::{StepFinding, Verdict};
use crate::plan::{BoundPlan, PlannedStep, Section, StepKind, UndoPolicy};
use crate::port::Clock;
use crate::state::RunState;

/// What one check ahead found.
pub type Preflight = (StepId, Result<Findings, ActionError>);

type Checked = Result<Vec<StepFinding>, ActionError>;

/// Runs the checks of all steps that have one, at most `limits.max_parallel` at a time, in plan order of the result.
///
/// Nothing is written anywhere: checks hold reading handles only.
pub async fn preflight(
    plan: Arc<BoundPlan>,
    registry: &Registry,
    hands: Arc<dyn Capabilities>,
    clock: Arc<dyn Clock>,
) -> Vec<Preflight> {
    let index = PlanIndex::new(plan);
    let state = RunState::default();
    let values = Values { index: &index, state: &state, registry, now: clock.now() };
    let mut results: BTreeMap<usize, Result<Findings, ActionError>> = BTreeMap::new();
    let mut waiting = VecDeque::new();
    // What an undo will find is known only after what it reverses; where nothing but undoing is left, now.
    let is_due =
        |step: &PlannedStep| step.section != Section::Undo || matches!(index.plan().undo, UndoPolicy::Now { .. });
    for at in index.positions().filter(|at| index.step(*at).has_check && is_due(index.step(*at))) {
        let wanted = wanted_ahead(index.step(at), values);
        match wanted.map_err(Err).and_then(|wanted| Ok((wanted, ahead(at, values, &hands, &clock)?))) {
            Ok((Wanted::No, _)) => {}
            Ok((wanted, job)) => {
                let awaited = awaited(&job.step, &job.with, values);
                waiting.push_back(Waiting { at, wanted, job, awaited });
            }
            Err(known) => drop(results.insert(at, known)),
        }
    }
    results.extend(look(waiting, values).await);
    results.into_iter().map(|(at, result)| (index.step(at).id.clone(), result)).collect()
}

/// Makes the checks. One that waits for an output which another may foresee is made after that.
async fn look(mut waiting: VecDeque<Waiting>, values: Values<'_>) -> BTreeMap<usize, Result<Findings, ActionError>> {
    let limit = values.index.plan().limits.max_parallel.max(1);
    let (mut tasks, mut foresight, mut results) = (Tasks::new(), Foresight::default(), BTreeMap::new());
    let mut running: BTreeMap<usize, Option<Foreseen>> = BTreeMap::new();
    while !(running.is_empty() && waiting.is_empty()) {
        while running.len() < limit {
            let open: BTreeSet<usize> = running.keys().copied().chain(waiting.iter().map(|one| one.at)).collect();
            let is_free = |one: &Waiting| one.awaited.iter().all(|awaited| !open.contains(&awaited.from));
            let next = waiting.iter().position(is_free).or(running.is_empty().then_some(0));
            let Some(Waiting { at, wanted, job, awaited }) = next.and_then(|next| waiting.remove(next)) else { break };
            let foreseen = foresight.of(&awaited, job.foreseen.machine());
            let job = CheckJob { foreseen: foreseen.clone(), ..job };
            tasks.start(at, async move { judged(wanted, job.make().await) });
            // Whether a step gives anything that may not run at all is not foreseen.
            running.insert(at, Some(foreseen).filter(|_| wanted == Wanted::Yes));
        }
        let (at, end) = tasks.next().await;
        if let Some(foreseen) = running.remove(&at).flatten() {
            foresight.learn(at, &foreseen);
        }
        results.insert(at, found(end));
    }
    results
}

/// A check that is to be made.
struct Waiting {
    at: usize,
    wanted: Wanted,
    job: CheckJob,
    awaited: Vec<Awaited>,
}

/// Where earlier steps decide whether the step runs at all, its check can warn and not refuse.
fn judged(wanted: Wanted, result: Checked) -> Checked {
    if wanted != Wanted::Late {
        return result;
    }
    let help = "it matters only if the step runs, which earlier steps decide";
    let findings = match result {
        Ok(findings) => findings,
        Err(error) => return Ok(Findings::default().warn(error.to_string(), help).0),
    };
    let softened = findings.into_iter().map(|finding| match finding.verdict {
        Verdict::Refuse => StepFinding { verdict: Verdict::Warn, ..finding },
        Verdict::Pass | Verdict::Pending | Verdict::Warn => finding,
    });
    Ok(softened.collect())
}

fn found(end: TaskEnd<Checked>) -> Result<Findings, ActionError> {
    match end {
        TaskEnd::Done(result) => result.map(Findings),
        TaskEnd::Panicked(message) => Err(ActionError::fatal(format!("the check panicked: {message}"))),
        TaskEnd::Aborted => Err(ActionError::cancelled("the check was called off")),
    }
}

/// Makes the check of one step, or tells at once what is known of it.
fn ahead(
    at: usize,
    values: Values<'_>,
    hands: &Arc<dyn Capabilities>,
    clock: &Arc<dyn Clock>,
) -> Result<CheckJob, Result<Findings, ActionError>> {
    let step = values.index.step(at).clone();
    let action = values.registry.get(&step.uses);
    let action = action.ok_or_else(|| Err(ActionError::fatal(format!("there is no action `{}`", step.uses))))?;
    let with = resolve_ahead(&step, values).map_err(Err)?;
    if !late_fits(&with, &Position::root(&action.params_schema())) {
        return Err(Ok(Findings::default().pending("its arguments are known only when it starts")));
    }
    let before = done_before(at, values);
    Ok(CheckJob {
        step,
        with,
        preconditions: Vec::new(),
        registry: values.registry.clone(),
        hands: Arc::clone(hands),
        clock: Arc::clone(clock),
        timing: Timing::Ahead,
        foreseen: Foreseen::with(BTreeMap::new(), before.machine),
        before,
        aside: None,
    })
}

/// What steps before one do, those left out whose `when` is known to be false.
fn done_before(at: usize, values: Values<'_>) -> Before {
    let (mut seen, mut waiting) = (BTreeSet::new(), vec![at]);
    let mut done = Before::default();
    while let Some(at) = waiting.pop() {
        for need in &values.index.step(at).needs {
            let Some(before) = values.index.position(&need.from).filter(|before| seen.insert(*before)) else {
                continue;
            };
            waiting.push(before);
            let step = values.index.step(before);
            if !matches!(wanted_ahead(step, values), Ok(Wanted::No)) {
                add(&mut done, step);
            }
        }
    }
    done
}

fn add(done: &mut Before, step: &PlannedStep) {
    done.actions.insert(step.uses.clone());
    done.stores.extend(step.effects.targets.iter().filter_map(|(access, target)| match (access, target) {
        (Access::Write | Access::Destroy, Target::Store { name, .. }) => Some(name.clone()),
        (_, _) => None,
    }));
    let is_program = PROGRAMS.contains(&step.uses.as_str()) && step.effects.class > EffectClass::Read;
    if step.kind == StepKind::Manual || is_program {
        done.machine = Machine::MadeReady;
    }
}

/// Actions that may do anything to a machine.
const PROGRAMS: [&str; 2] = ["exec", "shell"];

/// Whether every pending value stands where the action takes one.
fn late_fits(value: &serde_json::Value, position: &Position<'_>) -> bool {
    if pending(value).is_some() {
        return position.marked("x-late");
    }
    match value {
        serde_json::Value::Array(items) => items.iter().all(|item| late_fits(item, &position.item())),
        serde_json::Value::Object(members) => {
            members.iter().all(|(name, member)| late_fits(member, &position.member(name)))
        }
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_) => true,
    }
}
