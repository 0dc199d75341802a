//! What waits for the engine that resumes a run: answers and orders that no engine has taken yet.

use super::super::{Exit, Failure, wiring};
use super::Subject;
use super::deliver::named;
use crate::base::StepId;
use crate::event::{HumanAnswer, HumanVerdict, Question};
use crate::journal::{RunDir, Verb, control};
use crate::report::mask_text;
use crate::state::RunState;

/// The verbs that wait for whoever resumes a run, oldest first; none of a run that is over or that an engine drives, which
/// takes them within a moment.
///
/// # Errors
/// Fails (exit 15) when the run's folder cannot be read.
pub fn kept(dir: &RunDir, state: &RunState) -> Result<Vec<Verb>, Failure> {
    if state.finished.is_some() || dir.is_live().map_err(wiring::runs_failure)? {
        return Ok(Vec::new());
    }
    let waiting = control::waiting(&dir.control()).map_err(|error| {
        let message = format!("`{}` cannot be read", dir.control().display());
        Failure::new(Exit::Journal, message).because(&error)
    })?;
    // What an engine took last lies there until the next one is asked for.
    let untaken = waiting.into_iter().filter(|(request, _)| !state.requests.contains(request));
    Ok(untaken.map(|(_, verb)| verb).collect())
}

/// A verb that is kept, in words: what was typed, by whom, and what was said with it.
pub fn in_words(verb: &Verb) -> String {
    let (by, said) = match verb {
        Verb::Cancel { actor, reason, .. } | Verb::Act { actor, reason, .. } => (&actor.name, reason),
        Verb::Answer { answer, .. } => (&answer.by.name, &answer.comment),
    };
    let (name, step) = named(verb);
    let step = step.map(|step| format!(" {step}")).unwrap_or_default();
    let said = said.lines().next().unwrap_or_default();
    let said = if said.is_empty() { String::new() } else { format!(": {}", mask_text(said)) };
    format!("`{name}{step}` by {by}{said}")
}

/// Holds an answer against those that are kept for the same question: a no counts above every yes, whichever came first.
///
/// # Errors
/// Refuses (exit 4) a yes beside a kept no.
pub fn beside_kept(
    subject: &Subject,
    (step, question): (&StepId, &Question),
    verdict: HumanVerdict,
) -> Result<(), Failure> {
    let run = subject.dir.id();
    let seen = question.digest();
    let may = |answer: &HumanAnswer| question.approvers.is_empty() || question.approvers.contains(&answer.by.name);
    let other = match verdict {
        HumanVerdict::Yes => HumanVerdict::No,
        HumanVerdict::No => HumanVerdict::Yes,
    };
    for verb in kept(&subject.dir, &subject.state)? {
        let counts = match &verb {
            Verb::Answer { step: of, answer } => {
                of == step && answer.seen == seen && answer.verdict == other && may(answer)
            }
            Verb::Cancel { .. } | Verb::Act { .. } => false,
        };
        match (counts, verdict) {
            (false, _) => {}
            (true, HumanVerdict::No) => {
                tell!("  {} is kept and was not taken yet: this `deny` counts above it", in_words(&verb));
            }
            (true, HumanVerdict::Yes) => {
                let message = format!("{} is kept, and a no counts above every yes", in_words(&verb));
                let retry = subject.plan.with_reason(format!("runbook retry {run} {step}"));
                return Err(Failure::new(Exit::Refused, message).help(format!(
                    "nothing was changed; `runbook resume {run}` takes that `deny`: where the step waits then, `{retry}` asks \
                     again; where it fails, a new run goes on all the same"
                )));
            }
        }
    }
    Ok(())
}
