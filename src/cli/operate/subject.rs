//! The run that somebody acts on, as its journal tells it.

use crate::base::StepId;
use crate::event::Question;
use crate::journal::{RunDir, RunStatus, RunSummary};
use crate::plan::BoundPlan;
use crate::state::{RunState, StepStatus};

use super::super::{Exit, Failure, invoke, wiring};

/// A run that is not over.
pub struct Subject {
    /// Its folder.
    pub dir: RunDir,
    /// Its frozen plan.
    pub plan: BoundPlan,
    /// Where it stands.
    pub state: RunState,
}

impl Subject {
    /// Finds the run by its id, a unique beginning of it, or `last`.
    ///
    /// # Errors
    /// Refuses (exit 2) a run that is over or was never started.
    pub fn find(run: &str) -> Result<Self, Failure> {
        let dir = wiring::find_run(&wiring::runs()?, run)?;
        match RunSummary::of(&dir).status {
            RunStatus::Live | RunStatus::Suspended | RunStatus::Interrupted => {}
            RunStatus::Finished { .. } => {
                return Err(Failure::new(Exit::Usage, format!("run `{}` has ended", dir.id()))
                    .help(format!("`runbook show {}` says how; to go on after a failure, start a new run", dir.id())));
            }
            RunStatus::NeverStarted => {
                return Err(Failure::new(Exit::Usage, format!("run `{}` has not begun", dir.id()))
                    .help(format!("`runbook resume {}` starts it", dir.id())));
            }
            RunStatus::Unread { what } => {
                return Err(Failure::new(Exit::Journal, format!("run `{}` is not yours to read: {what}", dir.id()))
                    .help("ask as the user who owns it (`ls -l` of its folder tells)"));
            }
            RunStatus::Damaged { what } => {
                return Err(Failure::new(Exit::Journal, format!("run `{}` cannot be read: {what}", dir.id()))
                    .help(format!("`runbook audit verify {}` says what holds together", dir.id())));
            }
        }
        let (plan, _) = dir.plan().map_err(|error| wiring::journal_failure(&error))?;
        let history = dir.read().map_err(|error| wiring::journal_failure(&error))?;
        let state = invoke::fold(&history.events)?;
        Ok(Self { dir, plan, state })
    }

    /// Finds a step of the run, instances of a `for_each` included.
    ///
    /// # Errors
    /// Refuses (exit 2) an id that no step has, with the one that may be meant.
    pub fn step(&self, text: &str) -> Result<StepId, Failure> {
        let known = || self.plan.steps.iter().map(|step| &step.id).chain(self.state.steps.keys());
        if let Some(id) = known().find(|id| id.as_str() == text) {
            return Ok(id.clone());
        }
        let near = known().min_by_key(|id| strsim::damerau_levenshtein(id.as_str(), text));
        let near = near.filter(|id| strsim::damerau_levenshtein(id.as_str(), text) <= 1.max(text.len() / 3));
        let help = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("`runbook show {}` lists what waits", self.dir.id()),
        };
        Err(Failure::new(Exit::Usage, format!("run `{}` has no step `{text}`", self.dir.id())).help(help))
    }

    /// Finds the step that asks: the one named, or the only one.
    ///
    /// # Errors
    /// Refuses (exit 2) when it asks nothing, when nothing asks, and when several do.
    pub fn question(&self, step: Option<&str>) -> Result<(StepId, &Question), Failure> {
        let asking = self.state.steps.iter().filter(|(_, known)| known.status == StepStatus::Asking);
        let asking: Vec<(&StepId, &Question)> =
            asking.filter_map(|(id, known)| Some((id, known.question.as_ref()?))).collect();
        let names = || asking.iter().map(|(id, _)| format!("`{id}`")).collect::<Vec<_>>().join(", ");
        let Some(step) = step else {
            return match asking.as_slice() {
                [(id, question)] => Ok(((*id).clone(), question)),
                [] => Err(Failure::new(Exit::Usage, format!("no step of run `{}` asks anything", self.dir.id()))
                    .help(format!("`runbook show {}` says where it stands", self.dir.id()))),
                several => Err(Failure::new(Exit::Usage, format!("{} steps ask: {}", several.len(), names()))
                    .help("name the one that is meant")),
            };
        };
        let id = self.step(step)?;
        match asking.iter().find(|(asking, _)| **asking == id) {
            Some((_, question)) => Ok((id, question)),
            None => {
                let held = self.state.status(&id) == StepStatus::Held && self.plan.is_approval(&id);
                let help = match (held, asking.is_empty()) {
                    (true, _) => {
                        let retry = self.plan.with_reason(format!("runbook retry {} {id}", self.dir.id()));
                        format!("it was not approved and is held: `{retry}` asks again")
                    }
                    (false, true) => "no step asks".to_owned(),
                    (false, false) => format!("asking: {}", names()),
                };
                Err(Failure::new(Exit::Usage, format!("step `{id}` asks nothing now")).help(help))
            }
        }
    }
}

/// Demands a reason where the environment is protected.
///
/// # Errors
/// Refuses (exit 4) when there is none.
pub fn demand_reason(plan: &BoundPlan, reason: &str) -> Result<(), Failure> {
    if !plan.protected || !reason.trim().is_empty() {
        return Ok(());
    }
    let message = format!("the environment `{}` is protected: say why", plan.environment);
    Err(Failure::new(Exit::Refused, message).help("add `--reason TEXT`; nothing was changed"))
}
