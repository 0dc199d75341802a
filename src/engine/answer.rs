//! Whether an answer counts: who gives it, to what, and with which values.

use serde_json::{Map, Value};

use super::drive::Driver;
use super::people::{Verdict, verdict};
use crate::base::StepId;
use crate::event::{HumanAnswer, HumanVerdict, Initiator, Question, QuestionKind};
use crate::plan::names_entry;
use crate::state::{StepState, StepStatus};

impl Driver {
    /// Gives what was filled in, typed, or why the answer does not count.
    pub(super) fn judge_answer(&self, step: &StepId, answer: &HumanAnswer) -> Result<Map<String, Value>, String> {
        self.known(step)?;
        let nothing = || format!("step `{step}` asks nothing: it is {}", self.standing(step));
        let state = self.state.steps.get(step).filter(|state| state.status == StepStatus::Asking);
        let (state, question) = state.and_then(|state| Some((state, state.question.as_ref()?))).ok_or_else(nothing)?;
        match verdict(state) {
            Verdict::Open => {}
            // Nothing was done on that yes yet: a no still counts, and above it.
            Verdict::Yes if answer.verdict == HumanVerdict::No => {}
            Verdict::No(no) if answer.verdict == HumanVerdict::Yes => {
                let by = &no.by.name;
                return Err(format!("`{by}` has answered no to step `{step}`, and a no counts above every yes"));
            }
            Verdict::Yes | Verdict::No(_) | Verdict::Late(_) => {
                return Err(format!("the question of step `{step}` is settled already"));
            }
        }
        if answer.seen != question.digest() {
            return Err("it answers another question than the one that is open; look again and answer then".to_owned());
        }
        self.judge_person(question, state, answer)?;
        self.filled_in(question, state, answer)
    }

    fn judge_person(&self, question: &Question, state: &StepState, answer: &HumanAnswer) -> Result<(), String> {
        let name = &answer.by.name;
        match &answer.break_glass {
            Some(_) if question.kind == QuestionKind::Manual => {
                return Err("a manual step has no quorum, so there is no glass to break".to_owned());
            }
            Some(_) if answer.verdict == HumanVerdict::No => {
                return Err("one `deny` is enough: it needs no `--break-glass`".to_owned());
            }
            Some(reason) if reason.trim().is_empty() => {
                return Err("`--break-glass` needs a reason; add `--reason`".to_owned());
            }
            Some(_) => return Ok(()),
            None => {}
        }
        if !question.approvers.is_empty() && !question.approvers.contains(name) {
            return Err(format!("`{name}` may not answer; who may: {}", listed(question.approvers.iter())));
        }
        let initiator = question.initiator == Initiator::MayNotApprove && *name == self.index.plan().actor.name;
        if initiator && answer.verdict == HumanVerdict::Yes {
            return Err(format!("`{name}` started the run, so somebody else has to approve"));
        }
        let has_answered = || state.answers.iter().any(|(_, earlier)| earlier.by.name == *name);
        // Whoever said yes may still say no: that adds no second voice to a quorum.
        if answer.verdict == HumanVerdict::Yes && has_answered() {
            return Err(format!("`{name}` has answered already; somebody else has to"));
        }
        Ok(())
    }

    /// What was filled in, typed; what is required may have come with an earlier answer.
    fn filled_in(
        &self,
        question: &Question,
        state: &StepState,
        answer: &HumanAnswer,
    ) -> Result<Map<String, Value>, String> {
        if let Some(name) = answer.inputs.keys().find(|name| !question.inputs.contains_key(*name)) {
            let known = listed(question.inputs.keys());
            return Err(format!("there is no input `{name}`; known inputs: {known}"));
        }
        let mut typed = Map::new();
        for (name, param) in &question.inputs {
            let earlier = || state.answers.iter().any(|(_, earlier)| earlier.inputs.contains_key(name));
            let given = answer.inputs.get(name).filter(|given| !given.is_null());
            let value = match given.or_else(|| param.default.as_ref().filter(|_| !earlier())) {
                Some(value) => param.read(value, self.now()).map_err(|error| format!("the input `{name}`: {error}"))?,
                None if answer.verdict == HumanVerdict::No || earlier() || param.required == Some(false) => continue,
                None => return Err(format!("the input `{name}` is missing; add `--input {name}=VALUE`")),
            };
            names_entry(param.kind, &value, &self.index.plan().inventory)?;
            typed.insert(name.clone(), value);
        }
        Ok(typed)
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
