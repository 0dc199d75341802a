//! What operators and approvers do to a run from another terminal.
//!
//! Each command finds its [`Subject`], makes one verb of what was typed, and hands it over with [`deliver()`], which
//! waits until the run's journal says what came of it. The engine alone judges whether something is possible; what it
//! is certain to refuse is not kept for it.

mod answer;
mod deliver;
mod dialogue;
mod kept;
mod question;
mod subject;

use crate::base::StepId;
use crate::base::units::Span;
use crate::event::OperatorVerb;
use crate::journal::Verb;
use crate::state::StepStatus;

pub use answer::{Answering, answer};
pub use deliver::{deliver, hand_over, step_of};
pub use dialogue::{Ended, Lines, Reply, Typed, converse, filled_before};
pub use kept::{in_words, kept};
pub use question::tell_question;
pub use subject::{Subject, demand_reason};

use super::{Exit, Failure, wiring};

/// Who acts, why, and how the outcome is told.
#[derive(Debug, Clone, clap::Args)]
pub struct By {
    /// Why; kept in the journal, required in a protected environment
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Who acts; default is the account
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    telling: Telling,
}

/// How the outcome of a request is awaited and told.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Telling {
    /// How long to wait for the run to take the request
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    within: Span,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Hands an operator's verb over and tells what came of it.
///
/// # Errors
/// Refuses (exit 4) a verb without a reason in a protected environment, and what the engine that resumes the run would refuse,
/// before it is kept.
pub fn act(subject: &Subject, verb: OperatorVerb, step: Option<&str>, by: &By) -> Result<Exit, Failure> {
    demand_reason(&subject.plan, &by.reason)?;
    let step = step.map(|step| subject.step(step)).transpose()?;
    step.iter().try_for_each(|step| possible(subject, &verb, step))?;
    let actor = wiring::actor_as(by.name.as_deref())?;
    let verb = Verb::Act { actor, act: verb, step, reason: by.reason.clone() };
    deliver(subject, &verb, by.telling)
}

/// Refuses at once what the engine that resumes the run would refuse: nobody leaves an approval out or takes it for given,
/// and what has ended has ended. One that drives it now says so itself.
fn possible(subject: &Subject, verb: &OperatorVerb, step: &StepId) -> Result<(), Failure> {
    if subject.dir.is_live().map_err(wiring::runs_failure)? {
        return Ok(());
    }
    let run = subject.dir.id();
    let how = match verb {
        OperatorVerb::Skip => "skipped",
        OperatorVerb::MarkDone { .. } => "marked done",
        OperatorVerb::Retry => "tried again",
        OperatorVerb::Pause | OperatorVerb::Continue | OperatorVerb::Answer | OperatorVerb::Cancel => return Ok(()),
    };
    let refused = |why: &str, help: String| {
        let message = format!("step `{step}` cannot be {how}: {why}");
        Err(Failure::new(Exit::Refused, message).help(format!("nothing was changed; {help}")))
    };
    let status = subject.state.status(step);
    if status.is_terminal() {
        return refused("it has ended", format!("`runbook show {run}` says how"));
    }
    let ends_it = matches!(verb, OperatorVerb::Skip | OperatorVerb::MarkDone { .. });
    if ends_it && subject.plan.is_approval(step) {
        let ask = subject.plan.with_reason(format!("runbook retry {run} {step}"));
        let cancel = subject.plan.with_reason(format!("runbook cancel {run}"));
        return refused(
            "it is an approval",
            match status == StepStatus::Held {
                true => format!("`{ask}` asks again, `{cancel}` ends the run"),
                false => format!(
                    "`runbook approve {run} {step} --break-glass --reason WHY` approves alone once it asks, `{cancel}` ends the run"
                ),
            },
        );
    }
    Ok(())
}
