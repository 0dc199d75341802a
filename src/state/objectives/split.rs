//! Where the time went: working, repeating, waiting for a lock or a person, or just waiting.

use std::collections::BTreeMap;
use std::time::Duration;

use super::member::instances;
use super::required;
use crate::base::Timestamp;
use crate::base::clock::between;
use crate::plan::BoundPlan;
use crate::state::{RunState, StepState, StepStatus, Stretch};

/// A stretch of time split five ways; what is none of these is waiting.
#[derive(Default)]
pub(super) struct Split {
    pub(super) total: Duration,
    pub(super) machine: Duration,
    pub(super) retry: Duration,
    pub(super) lock: Duration,
    pub(super) human: Duration,
}

/// From, to, and what it counts as.
type Interval = (Timestamp, Timestamp, Kind);

/// What an interval counts as. Where two overlap, the smaller one wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Machine,
    Retry,
    Lock,
    Human,
}

/// Splits the time from `origin` to `end` by what the required steps did in it.
///
/// Every instant counts once: as machine time when an attempt that counted, or a step's only one, was running, else as
/// retry time when another one that failed or the delay after it was, else as lock time, else as human time while a
/// person was asked or the run was paused, else as waiting.
pub(super) fn split(plan: &BoundPlan, state: &RunState, origin: Timestamp, end: Timestamp) -> Split {
    let mut edges: Vec<(Timestamp, Kind, i32)> = Vec::new();
    let members = |(step, known)| instances(step, state).filter_map(|(_, known)| known).chain(known);
    for known in required(plan, state).flat_map(members) {
        for interval in intervals(known, end) {
            add(&mut edges, interval, (origin, end));
        }
    }
    for interval in waits(&state.lock_waits, Kind::Lock, end).chain(waits(&state.pauses, Kind::Human, end)) {
        add(&mut edges, interval, (origin, end));
    }
    edges.sort_unstable();
    sweep(&edges, between(origin, end))
}

/// Adds the part of an interval that lies within the whole.
fn add(edges: &mut Vec<(Timestamp, Kind, i32)>, interval: Interval, (origin, end): (Timestamp, Timestamp)) {
    let (from, to, kind) = interval;
    let (from, to) = (from.clamp(origin, end.max(origin)), to.clamp(origin, end.max(origin)));
    if from < to {
        edges.push((from, kind, 1));
        edges.push((to, kind, -1));
    }
}

fn sweep(edges: &[(Timestamp, Kind, i32)], total: Duration) -> Split {
    let mut split = Split { total, ..Split::default() };
    let mut open: BTreeMap<Kind, i32> = BTreeMap::new();
    for (index, (at, kind, change)) in edges.iter().enumerate() {
        *open.entry(*kind).or_default() += change;
        let Some((next, _, _)) = edges.get(index + 1) else { break };
        let lasted = between(*at, *next);
        match open.iter().find(|(_, count)| **count > 0).map(|(kind, _)| kind) {
            Some(Kind::Machine) => split.machine += lasted,
            Some(Kind::Retry) => split.retry += lasted,
            Some(Kind::Lock) => split.lock += lasted,
            Some(Kind::Human) => split.human += lasted,
            None => {}
        }
    }
    split
}

fn waits(stretches: &[Stretch], kind: Kind, until: Timestamp) -> impl Iterator<Item = Interval> {
    stretches.iter().map(move |stretch| (stretch.from, stretch.until.unwrap_or(until), kind))
}

/// Gives what a step's attempts, the delays between them and its waits count as.
fn intervals(step: &StepState, until: Timestamp) -> Vec<Interval> {
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
        found.extend(without(interval, &step.person_waits));
    }
    if step.status == StepStatus::Waiting
        && let Some(ended) = step.attempts.last().and_then(|attempt| attempt.ended_at)
    {
        found.extend(without((ended, until, Kind::Retry), &step.person_waits));
    }
    found.extend(waits(&step.lock_waits, Kind::Lock, until));
    found.extend(waits(&step.person_waits, Kind::Human, until));
    found
}

/// What is left of an interval when a person was waited for in its midst: no machine worked then.
fn without((from, to, kind): Interval, waits: &[Stretch]) -> Vec<Interval> {
    let (mut left, mut from) = (Vec::new(), from);
    for wait in waits {
        if wait.from < from || wait.from >= to {
            continue;
        }
        left.push((from, wait.from, kind));
        from = wait.until.unwrap_or(to).min(to).max(from);
    }
    left.push((from, to, kind));
    left
}

fn last_kind(step: &StepState) -> Kind {
    match step.status {
        // Who failed at once, and was not tried again, has repeated nothing.
        StepStatus::Failed | StepStatus::Unknown if step.attempts.len() == 1 => Kind::Machine,
        StepStatus::Failed | StepStatus::Unknown | StepStatus::Waiting | StepStatus::Held => Kind::Retry,
        // Nothing was wrong with the work that a cancel cut short.
        StepStatus::Cancelled
        | StepStatus::Pending
        | StepStatus::Resolved
        | StepStatus::Checked
        | StepStatus::Running
        | StepStatus::Open
        | StepStatus::Asking
        | StepStatus::Succeeded
        | StepStatus::Skipped => Kind::Machine,
    }
}
