//! The lines that tell an event, shared by the plain face and the live one.

use super::phrase::{self, millis, one_line, skip_reason, tone};
use super::{Palette, Tone};
use crate::base::{Attempt, RunId, StepId};
use crate::event::{
    Actor, ErrorInfo, Event, EventKind, Figures, HumanAnswer, HumanVerdict, OperatorVerb, Outcome, Question,
    RecoverDecision, RunHeader, SkipReason, StepFinding, SuspendReason, Verdict,
};
use crate::plan::BoundPlan;
use crate::plan::render::NodeState;

/// Lines of output shown below an error.
const TAIL: usize = 10;

/// Gives the lines that tell an event, without the time; none for events that only machines need.
pub(super) fn lines(plan: &BoundPlan, event: &Event, palette: Palette) -> Vec<String> {
    let say = Say { plan, palette };
    match &event.kind {
        EventKind::RunStarted(header) => say.started(&event.run, header),
        EventKind::RunResumed { actor, .. } => vec![format!("↻ {} took the run over", actor.name)],
        EventKind::TailCut { bytes } => say.warn(format!("a torn line of {bytes} bytes was cut from the journal")),
        EventKind::StepChecked { step, findings } => say.findings(step, findings),
        EventKind::AttemptStarted { step, attempt, .. } => say.attempt(step, *attempt),
        EventKind::AttemptFailed { step, attempt, error, retry_in_ms, .. } => {
            let mut told = say.warn(format!("{step} attempt {attempt} failed, next in {}", millis(*retry_in_ms)));
            told.extend(below(error));
            told
        }
        EventKind::AttemptAdopted { step, attempt } => {
            vec![format!("↻ {step} attempt {attempt} still runs and is being waited for")]
        }
        EventKind::AttemptRecovered { step, attempt, decision, why } => recovered((step, *attempt), decision, why),
        EventKind::StepSucceeded { step, attempt: Attempt(0), .. } => {
            vec![say.ended(NodeState::Succeeded, step, "was marked done")]
        }
        EventKind::StepSucceeded { step, elapsed_ms, .. } if let Some(of) = step.undone() => {
            vec![say.ended(NodeState::Succeeded, &of, &format!("undone in {}", millis(*elapsed_ms)))]
        }
        EventKind::StepSucceeded { step, elapsed_ms, .. } => {
            vec![say.ended(NodeState::Succeeded, step, &format!("succeeded in {}", millis(*elapsed_ms)))]
        }
        EventKind::StepFailed { step, error, .. } => say.broke(NodeState::Failed, step, ("failed", error)),
        EventKind::StepUnknown { step, error, .. } => {
            say.broke(NodeState::Unknown, step, ("ended, and it is not known whether it took effect", error))
        }
        EventKind::StepSkipped { why: SkipReason::NothingToUndo, .. } => Vec::new(),
        EventKind::StepSkipped { step, why } => {
            vec![say.ended(NodeState::Skipped, step, &format!("skipped: {}", skip_reason(why)))]
        }
        EventKind::StepCancelled { step, confirmed: true, .. } => {
            vec![say.ended(NodeState::Cancelled, step, "cancelled")]
        }
        EventKind::StepCancelled { step, confirmed: false, .. } => {
            vec![say.ended(NodeState::Cancelled, step, "cancelled, not all of its processes are known to be gone")]
        }
        EventKind::StepStalled { step, silent_ms } => {
            say.warn(format!("{step} has been silent for {}; it runs on", millis(*silent_ms)))
        }
        EventKind::StepNoted { step, message, .. } => vec![format!("· {step}: {}", one_line(message))],
        EventKind::ObjectiveWarning { percent, elapsed_ms } => say.objective(*percent, *elapsed_ms),
        // What there is to undo is told when it is undone.
        EventKind::StepSeeded { .. } if phrase::undoes(plan).is_some() => Vec::new(),
        EventKind::StepSeeded { step, of, end, .. } => {
            let (state, ended) = phrase::seeded(*end);
            let told = format!("{} {step} {ended} in run `{of}`, and is taken from it", state.glyph());
            vec![palette.paint(Tone::Quiet, &told)]
        }
        EventKind::GroupOpened { step, instances } if !instances.is_empty() => {
            let times = phrase::counted(instances.len(), "time");
            vec![say.ended(NodeState::Running, step, &format!("is made {times}"))]
        }
        EventKind::GroupOpened { step, .. } => vec![say.ended(NodeState::Running, step, "began")],
        EventKind::StepHeld { step, error, .. } => say.broke(
            NodeState::Asking,
            step,
            ("failed, and waits for an operator: retry, skip, mark-done or cancel", error),
        ),
        EventKind::StepReleased { step } => vec![format!("↻ {step} is tried again")],
        EventKind::StepAsked { step, question } => say.asked(step, question),
        EventKind::StepAnswered { step, answer } => say.answered(step, answer),
        EventKind::StepExpired { step, after_ms } => {
            say.warn(format!("{step}: nobody answered within {}", millis(*after_ms)))
        }
        EventKind::LockAwaited { step, lock, holder } => {
            let step = step.as_ref().map_or_else(|| "the run".to_owned(), ToString::to_string);
            say.warn(format!("{step} waits for `{lock}`, held by run `{holder}`"))
        }
        EventKind::LockTaken { lock, over, preempted, .. } => say.locked(lock, over.as_deref(), preempted.as_deref()),
        EventKind::OperatorActed { actor, verb, step, reason, .. } => say.acted(actor, verb, (step.as_ref(), reason)),
        EventKind::OperatorRefused { actor, verb, why, .. } => {
            say.warn(format!("`{}` by {} was refused: {}", phrase::verb(verb), actor.name, one_line(why)))
        }
        EventKind::PlanAmended { actor, changed, .. } => {
            say.warn(format!("{} amended the plan: {} steps differ", actor.name, changed.len()))
        }
        EventKind::CancelRequested { actor, reason, .. } => say.cancel(actor, reason),
        EventKind::RunSuspended { waiting } => waiting.iter().map(|why| say.question(why)).collect(),
        EventKind::RunFinished { outcome, figures, .. } => vec![say.finished(*outcome, figures)],
        EventKind::StepResolved { .. }
        | EventKind::ResourceRegistered { .. }
        | EventKind::ResourceRemoved { .. }
        | EventKind::Unknown => Vec::new(),
    }
}

struct Say<'a> {
    plan: &'a BoundPlan,
    palette: Palette,
}

impl Say<'_> {
    fn warn(&self, text: String) -> Vec<String> {
        vec![self.palette.paint(Tone::Warn, &format!("! {text}"))]
    }

    fn started(&self, run: &RunId, header: &RunHeader) -> Vec<String> {
        let (name, actor) = (&header.name, &header.actor.name);
        let text = format!("run `{run}` of `{name}`: {}, started by {actor}", phrase::mode(self.plan));
        vec![self.palette.paint(Tone::Strong, &text)]
    }

    fn findings(&self, step: &StepId, findings: &[StepFinding]) -> Vec<String> {
        let warnings = findings.iter().filter(|finding| finding.verdict == Verdict::Warn);
        warnings.flat_map(|finding| self.warn(format!("{step}: {}", one_line(&finding.message)))).collect()
    }

    fn attempt(&self, step: &StepId, attempt: Attempt) -> Vec<String> {
        let uses = self.plan.planned(step).map_or("", |step| step.uses.as_str());
        let again = if attempt.0 > 1 { format!(", attempt {attempt}") } else { String::new() };
        vec![self.ended(NodeState::Running, step, &format!("started ({uses}{again})"))]
    }

    fn ended(&self, state: NodeState, step: &StepId, how: &str) -> String {
        format!("{} {step} {how}", self.palette.paint(tone(state), state.glyph()))
    }

    fn broke(&self, state: NodeState, step: &StepId, (how, error): (&str, &ErrorInfo)) -> Vec<String> {
        let mut told = vec![self.ended(state, step, how)];
        told.extend(below(error));
        let skipped = error.output_tail.len().saturating_sub(TAIL);
        told.extend(error.output_tail[skipped..].iter().map(|line| format!("    | {}", one_line(line))));
        told
    }

    fn objective(&self, percent: u32, elapsed_ms: u64) -> Vec<String> {
        let tone = if percent >= 100 { Tone::Bad } else { Tone::Warn };
        let text = format!("! {percent}% of the RTO are used up: {} since the incident", millis(elapsed_ms));
        vec![self.palette.paint(tone, &text)]
    }

    fn cancel(&self, actor: &Actor, reason: &str) -> Vec<String> {
        let why = if reason.is_empty() { String::new() } else { format!(": {}", one_line(reason)) };
        self.warn(format!("cancel asked for by {}{why}", actor.name))
    }

    fn asked(&self, step: &StepId, question: &Question) -> Vec<String> {
        let mut told = vec![self.palette.paint(Tone::Warn, &format!("? {step}: {}", one_line(&question.prompt)))];
        if !question.approvers.is_empty() {
            told.push(format!("    to be answered by {}", one_line(&question.approvers.join(", "))));
        }
        told.push(format!("    runbook approve {} {step}", self.plan.run));
        told
    }

    fn answered(&self, step: &StepId, answer: &HumanAnswer) -> Vec<String> {
        let verdict = match answer.verdict {
            HumanVerdict::Yes => "yes",
            HumanVerdict::No => "no",
        };
        let said = if answer.comment.is_empty() { String::new() } else { format!(": {}", one_line(&answer.comment)) };
        let told = format!("{step}: {} answered {verdict}{said}", answer.by.name);
        match &answer.break_glass {
            Some(reason) => self.warn(format!("{told} (BROKE THE GLASS: {})", one_line(reason))),
            None => vec![format!("· {told}")],
        }
    }

    fn locked(&self, lock: &str, over: Option<&str>, preempted: Option<&str>) -> Vec<String> {
        match (preempted, over) {
            (Some(run), _) => self.warn(format!("took `{lock}` from run `{run}`, which was told to make room")),
            (None, Some(run)) => self.warn(format!("took `{lock}` over from run `{run}`, whose engine is dead")),
            (None, None) => vec![format!("· holds `{lock}`")],
        }
    }

    fn acted(&self, actor: &Actor, verb: &OperatorVerb, (step, reason): (Option<&StepId>, &str)) -> Vec<String> {
        let step = step.map(|step| format!(" {step}")).unwrap_or_default();
        let why = if reason.is_empty() { String::new() } else { format!(": {}", one_line(reason)) };
        self.warn(format!("{}: `{}{step}`{why}", actor.name, phrase::verb(verb)))
    }

    fn question(&self, why: &SuspendReason) -> String {
        self.palette.paint(Tone::Warn, &format!("? {} waits for a person: {}", why.step, one_line(&why.question)))
    }

    fn finished(&self, outcome: Outcome, figures: &Figures) -> String {
        let text = format!("run {} after {}", phrase::outcome_name(outcome), millis(figures.run_ms));
        self.palette.paint(phrase::outcome_tone(outcome), &text)
    }
}

fn recovered((step, attempt): (&StepId, Attempt), decision: &RecoverDecision, why: &str) -> Vec<String> {
    let next = match decision {
        RecoverDecision::Rerun => "is made again",
        RecoverDecision::Adopt { .. } => "had taken effect and is adopted",
        RecoverDecision::Ask => "needs a person to say what became of it",
    };
    vec![format!("↻ {step} attempt {attempt} was interrupted and {next}: {}", one_line(why))]
}

fn below(error: &ErrorInfo) -> impl Iterator<Item = String> {
    phrase::error_lines(error).into_iter().map(|line| format!("    {line}"))
}
