//! Where the time went: working, repeating, or waiting.

use std::time::Duration;

use super::member::instances;
use super::required;
use crate::base::Timestamp;
use crate::base::clock::between;
use crate::plan::BoundPlan;
use crate::state::{RunState, StepState, StepStatus};

/// A stretch of time split three ways; what is neither machine nor retry is waiting.
pub(super) struct Split {
    pub(super) total: Duration,
    pub(super) machine: Duration,
    pub(super) retry: Duration,
}

/// What an interval counts as. Where two overlap, the smaller one wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Machine,
    Retry,
}

/// Splits the time from `origin` to `end` by what the required steps did in it.
///
/// Every instant counts once: as machine time when an attempt that counted was running, else as
/// retry time when an attempt that failed or the delay after it was, else as waiting.
pub(super) fn split(plan: &BoundPlan, state: &RunState, origin: Timestamp, end: Timestamp) -> Split {
    let mut edges: Vec<(Timestamp, Kind, i32)> = Vec::new();
    let members = |(step, known)| instances(step, state).filter_map(|(_, known)| known).chain(known);
    for known in required(plan, state).flat_map(members) {
        for (from, to, kind) in intervals(known, end) {
            let (from, to) = (from.clamp(origin, end.max(origin)), to.clamp(origin, end.max(origin)));
            if from < to {
                edges.push((from, kind, 1));
                edges.push((to, kind, -1));
            }
        }
    }
    edges.sort_unstable();
    sweep(&edges, between(origin, end))
}

fn sweep(edges: &[(Timestamp, Kind, i32)], total: Duration) -> Split {
    let mut split = Split { total, machine: Duration::ZERO, retry: Duration::ZERO };
    let (mut machines, mut retries) = (0, 0);
    for (index, (at, kind, change)) in edges.iter().enumerate() {
        match kind {
            Kind::Machine => machines += change,
            Kind::Retry => retries += change,
        }
        let Some((next, _, _)) = edges.get(index + 1) else { break };
        let lasted = between(*at, *next);
        if machines > 0 {
            split.machine += lasted;
        } else if retries > 0 {
            split.retry += lasted;
        }
    }
    split
}

/// Gives what a step's attempts and the delays between them count as.
fn intervals(step: &StepState, until: Timestamp) -> Vec<(Timestamp, Timestamp, Kind)> {
    let mut found = Vec::with_capacity(step.attempts.len());
    for (index, attempt) in step.attempts.iter().enumerate() {
        let next = step.attempts.get(index + 1);
        let interval = match next {
            Some(next) => (attempt.started_at, next.started_at, Kind::Retry),
            None => {
                let ended = attempt.ended_at.or(step.ended_at).unwrap_or(until);
                (attempt.started_at, ended, last_kind(step))
            }
        };
        found.push(interval);
    }
    if step.status == StepStatus::Waiting
        && let Some(ended) = step.attempts.last().and_then(|attempt| attempt.ended_at)
    {
        found.push((ended, until, Kind::Retry));
    }
    found
}

fn last_kind(step: &StepState) -> Kind {
    match step.status {
        StepStatus::Failed | StepStatus::Unknown | StepStatus::Waiting => Kind::Retry,
        // Nothing was wrong with the work that a cancel cut short.
        StepStatus::Cancelled
        | StepStatus::Pending
        | StepStatus::Resolved
        | StepStatus::Checked
        | StepStatus::Running
        | StepStatus::Open
        | StepStatus::Asking
        | StepStatus::Held
        | StepStatus::Succeeded
        | StepStatus::Skipped => Kind::Machine,
    }
}
