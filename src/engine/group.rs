//! Groups: a fan-out or a sub-runbook is opened, and closed when all its members have ended.

use serde_json::{Map, Value, json};

use super::drive::Driver;
use super::recover::unknown_outputs;
use super::resolve::{closing_outputs, fan_out_items};
use crate::base::clock::between;
use crate::base::{Attempt, StepId};
use crate::event::{ErrorClass, ErrorInfo, EventKind, SkipReason};
use crate::plan::PlannedStep;
use crate::state::{StepState, StepStatus};

/// How many members a message names.
const NAMED: usize = 5;

/// A member that did not do what it is for.
struct Member<'a> {
    name: &'a str,
    state: &'a StepState,
}

impl Driver {
    /// Opens a group: what a fan-out comes to is known from here on.
    pub(super) fn opened(&self, step: &StepId) -> Option<EventKind> {
        let at = self.index.position(step)?;
        let planned = self.index.step(at);
        let instances = match (&planned.for_each, self.index.is_fan_out(at)) {
            (Some(for_each), true) => {
                let items = fan_out_items(planned, &for_each.items, self.values());
                items.and_then(|items| super::item::instances(step, items).map_err(fatal))
            }
            (Some(_) | None, _) => Ok(Vec::new()),
        };
        let step = step.clone();
        Some(match instances {
            Ok(instances) => EventKind::GroupOpened { step, instances },
            Err(error) => {
                self.or_held(at, EventKind::StepFailed { step, attempt: Attempt(0), error: *error, elapsed_ms: 0 })
            }
        })
    }

    /// Ends a group by what its members came to.
    pub(super) fn closed(&self, step: &StepId) -> Option<EventKind> {
        let at = self.index.position(step)?;
        let started_at = self.state.steps.get(step)?.started_at?;
        let elapsed_ms = u64::try_from(between(started_at, self.now()).as_millis()).unwrap_or(u64::MAX);
        let (step, attempt) = (step.clone(), Attempt(1));
        let failed = |error| EventKind::StepFailed { step: step.clone(), attempt, error, elapsed_ms };
        Some(match self.verdict(at) {
            Verdict::Unknown(error) => EventKind::StepUnknown { step, attempt, error },
            Verdict::Failed(error) => failed(error),
            Verdict::Cancelled => EventKind::StepCancelled { step, attempt, confirmed: true },
            Verdict::Succeeded => match self.group_outputs(at) {
                Ok(output) => EventKind::StepSucceeded { step, attempt, output, elapsed_ms },
                Err(error) => failed(*error),
            },
        })
    }

    /// Judges a group as a run is judged: an unknown end outweighs a failure, a failure a cancel.
    fn verdict(&self, at: usize) -> Verdict {
        let members: Vec<(usize, &StepState)> =
            self.index.members(at).into_iter().filter_map(|member| self.counted(at, member)).collect();
        let what = if self.index.is_fan_out(at) { "instance" } else { "step" };
        let plural = if members.len() == 1 { "" } else { "s" };
        let told = |count: usize| format!("{count} of {} {what}{plural}", members.len());
        let which = |wanted: &dyn Fn(&StepState) -> bool| -> Vec<Member<'_>> {
            let found = members.iter().filter(|(_, state)| wanted(state));
            found.map(|(member, state)| Member { name: self.member_name(at, *member), state }).collect()
        };
        let unknown = which(&|state| state.status == StepStatus::Unknown);
        if !unknown.is_empty() {
            let message = format!("it is not known what became of {}: {}", told(unknown.len()), named(&unknown));
            return Verdict::Unknown(because(ErrorClass::Unknown, message, &unknown));
        }
        let failed = which(&|state| state.status == StepStatus::Failed);
        if !failed.is_empty() {
            let message = format!("{} failed: {}", told(failed.len()), named(&failed));
            return Verdict::Failed(because(ErrorClass::Fatal, message, &failed));
        }
        let skipped = |state: &StepState, why: &SkipReason| state.skipped.as_ref() == Some(why);
        let cancelled =
            |state: &StepState| state.status == StepStatus::Cancelled || skipped(state, &SkipReason::Cancelled);
        if !which(&cancelled).is_empty() {
            return Verdict::Cancelled;
        }
        let left_out = which(&|state| skipped(state, &SkipReason::Aborted));
        if !left_out.is_empty() {
            let message =
                format!("a failure around it ended it before {} began: {}", told(left_out.len()), named(&left_out));
            return Verdict::Failed(because(ErrorClass::Fatal, message, &[]));
        }
        Verdict::Succeeded
    }

    /// A member whose end counts: every instance, and of a sub-runbook what is neither tolerated nor made in any case.
    fn counted(&self, group: usize, member: usize) -> Option<(usize, &StepState)> {
        let free = self.index.tolerates(member) || self.index.step(member).always;
        let state = self.state.steps.get(&self.index.step(member).id)?;
        (self.index.is_fan_out(group) || !free).then_some((member, state))
    }

    /// What people know a member by: the key of an instance, the id of a step in its own file.
    fn member_name(&self, group: usize, member: usize) -> &str {
        if let Some((_, number)) = self.index.instance(member) {
            let instances = self.state.steps.get(&self.index.step(group).id).map(|state| &state.instances);
            return instances.and_then(|all| all.get(number)).map_or("", |instance| &instance.key);
        }
        let id = self.index.step(member).id.as_str();
        id.strip_prefix(self.index.step(group).id.as_str()).map_or(id, |rest| rest.trim_start_matches('/'))
    }

    fn group_outputs(&self, at: usize) -> Result<Value, Box<ErrorInfo>> {
        let planned = self.index.step(at);
        if self.index.is_fan_out(at) {
            return Ok(self.lists(at, planned));
        }
        match self.index.plan().groups.get(&planned.id) {
            Some(scope) => closing_outputs(planned, scope, self.values()),
            None => Ok(Value::Object(Map::new())),
        }
    }

    /// The outputs of a fan-out: a list of each, in the order of the items, and their keys.
    fn lists(&self, at: usize, planned: &PlannedStep) -> Value {
        let members = self.index.members(at);
        let outputs: Vec<Option<&Map<String, Value>>> = members
            .iter()
            .map(|member| self.state.steps.get(&self.index.step(*member).id)?.output.as_ref()?.as_object())
            .collect();
        let known = self.registry.get(&planned.uses).map(|action| unknown_outputs(planned, &**action));
        let mut lists: Map<String, Value> = known.and_then(|known| known.as_object().cloned()).unwrap_or_default();
        lists.extend(outputs.iter().flatten().flat_map(|output| output.keys()).map(|name| (name.clone(), Value::Null)));
        for (name, list) in &mut lists {
            let given = |output: &Option<&Map<String, Value>>| output.and_then(|output| output.get(name)).cloned();
            *list = outputs.iter().map(|output| given(output).unwrap_or(Value::Null)).collect();
        }
        let keys: Vec<&str> = members.iter().map(|member| self.member_name(at, *member)).collect();
        lists.insert("keys".to_owned(), json!(keys));
        Value::Object(lists)
    }
}

/// What a group came to.
enum Verdict {
    Unknown(ErrorInfo),
    Failed(ErrorInfo),
    Cancelled,
    Succeeded,
}

fn named(members: &[Member<'_>]) -> String {
    let names: Vec<String> = members.iter().take(NAMED).map(|member| format!("`{}`", member.name)).collect();
    match members.len().saturating_sub(NAMED) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

fn because(class: ErrorClass, message: String, members: &[Member<'_>]) -> ErrorInfo {
    let causes = members.iter().take(NAMED);
    let causes =
        causes.filter_map(|member| Some(format!("`{}`: {}", member.name, member.state.error.as_ref()?.message)));
    ErrorInfo { causes: causes.collect(), ..ErrorInfo::new(class, message) }
}

fn fatal(message: String) -> Box<ErrorInfo> {
    Box::new(ErrorInfo::new(ErrorClass::Fatal, message))
}
