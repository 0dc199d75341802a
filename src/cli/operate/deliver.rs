//! Hands a verb to a run and waits until its journal says what came of it.

use std::time::Duration;

use serde_json::json;

use super::super::{Exit, Failure, wiring};
use super::{Subject, Telling};
use crate::base::{StepId, clock};
use crate::event::{Event, EventKind};
use crate::journal::{RunDir, Verb, control, follow};
use crate::report::verb_name;

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It was carried out.
    Accepted,
    /// It is not possible as the run stands.
    Refused {
        /// Why not.
        why: String,
    },
    /// No engine drives the run: whoever resumes it takes the request first.
    Kept,
    /// The run ended before it was taken.
    Ended,
    /// The engine lives and has not taken it yet.
    Unanswered,
}

/// Sends a verb, waits for what comes of it, and tells that.
///
/// # Errors
/// Fails when the run's folder cannot be written or its journal cannot be read.
pub fn deliver(subject: &Subject, verb: &Verb, telling: Telling) -> Result<Exit, Failure> {
    let request = hand_over(&subject.dir, verb)?;
    let fate = fate(&subject.dir, &request, telling.within.0)?;
    let (name, step) = named(verb);
    if telling.json {
        let why = match &fate {
            Fate::Refused { why } => Some(why.as_str()),
            Fate::Accepted | Fate::Kept | Fate::Ended | Fate::Unanswered => None,
        };
        let mut told = json!({ "run": subject.dir.id(), "request": request, "verb": name, "fate": fate.name() });
        for (key, value) in [("step", step.map(StepId::as_str)), ("why", why)] {
            if let Some(value) = value {
                told[key] = json!(value);
            }
        }
        out!("{told}");
    } else {
        let what = step.map_or_else(|| name.to_owned(), |step| format!("{name} {step}"));
        fate.tell(&what, &subject.dir);
    }
    Ok(fate.exit())
}

/// Puts a verb where the run's engine finds it; gives the request's name.
///
/// # Errors
/// Fails (exit 15) when the run's folder cannot be written.
pub fn hand_over(dir: &RunDir, verb: &Verb) -> Result<String, Failure> {
    control::send(&dir.control(), verb).map_err(|error| {
        let help =
            format!("`{}` must be writable: act as the account or group that owns the run", dir.control().display());
        Failure::new(Exit::Journal, "the request cannot be handed over").because(&error).help(help)
    })
}

/// The verb as it is typed, and its step.
pub(super) fn named(verb: &Verb) -> (&'static str, Option<&StepId>) {
    match verb {
        Verb::Cancel { .. } => ("cancel", None),
        Verb::Act { act, step, .. } => (verb_name(act), step.as_ref()),
        Verb::Answer { step, answer } => match answer.verdict {
            crate::event::HumanVerdict::Yes => ("approve", Some(step)),
            crate::event::HumanVerdict::No => ("deny", Some(step)),
        },
    }
}

/// The step that a verb is about.
#[must_use]
pub fn step_of(verb: &Verb) -> Option<StepId> {
    named(verb).1.cloned()
}

/// Follows the journal until it holds the request, the run is left, or the time is over.
fn fate(dir: &RunDir, request: &str, within: Duration) -> Result<Fate, Failure> {
    let mut following = follow(dir.path()).map_err(|error| wiring::journal_failure(&error))?;
    let followed = wiring::block_on(async {
        let deadline = tokio::time::Instant::from_std(clock::monotonic()) + within;
        let mut fate = Fate::Kept;
        while let Ok(next) = tokio::time::timeout_at(deadline, following.next()).await {
            let Some(events) = next? else { return Ok(fate) };
            for event in &events {
                match of(event, request) {
                    None | Some(Fate::Kept | Fate::Unanswered) => {}
                    Some(Fate::Ended) => fate = Fate::Ended,
                    Some(found @ (Fate::Accepted | Fate::Refused { .. })) => return Ok(found),
                }
            }
        }
        Ok(Fate::Unanswered)
    })?;
    followed.map_err(|error| wiring::journal_failure(&error))
}

/// What an event says of a request; `None` when it is about something else.
pub(super) fn of(event: &Event, asked: &str) -> Option<Fate> {
    if let EventKind::RunFinished { .. } = &event.kind {
        return Some(Fate::Ended);
    }
    if let EventKind::OperatorActed { request, .. } = &event.kind {
        return (request == asked).then_some(Fate::Accepted);
    }
    if let EventKind::StepAnswered { answer, .. } = &event.kind {
        return (answer.request == asked).then_some(Fate::Accepted);
    }
    if let EventKind::OperatorRefused { request, why, .. } = &event.kind {
        return (request == asked).then(|| Fate::Refused { why: why.clone() });
    }
    None
}

impl Fate {
    fn name(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused { .. } => "refused",
            Self::Kept => "kept",
            Self::Ended => "ended",
            Self::Unanswered => "unanswered",
        }
    }

    /// A request that is refused, or came too late, changed nothing; one that was not taken yet waits.
    fn exit(&self) -> Exit {
        match self {
            Self::Accepted | Self::Kept => Exit::Success,
            Self::Refused { .. } | Self::Ended => Exit::Refused,
            Self::Unanswered => Exit::Suspended,
        }
    }

    fn tell(&self, what: &str, dir: &RunDir) {
        let run = dir.id();
        match self {
            Self::Accepted => tell!("`{what}`: accepted by run {run}"),
            Self::Refused { why } => tell!("refused: {why}\n  help: nothing was changed"),
            Self::Kept => tell!("`{what}` is kept: no engine drives run {run}; `runbook resume {run}` takes it"),
            Self::Ended => tell!("refused: the run ended before it was taken\n  help: `runbook show {run}` says how"),
            Self::Unanswered => tell!(
                "`{what}` was not taken yet; it is kept, and acts once as soon as it is\n  help: `runbook show {run} --follow` shows whether the run goes on"
            ),
        }
    }
}
