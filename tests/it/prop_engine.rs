//! Random graphs with random ends against an oracle that knows nothing of the engine.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use runbook::base::EventSeq;
use runbook::engine::{Frontier, Picture, PlanIndex, decide};
use runbook::event::{CancelLevel, EventKind};
use runbook::journal::Fault;
use runbook::plan::{Edge, Strictness};
use runbook::state::{RunState, StepStatus, subject};

use crate::support::fake::Act;
use crate::support::scenario::{Played, Scenario};

/// One random step: edges to earlier steps, what it does, whether it wants to.
#[derive(Debug, Clone)]
struct Sketch {
    edges: Vec<(usize, Strictness)>,
    end: End,
    wants: bool,
    tolerated: bool,
    action: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Success,
    Slowly,
    SecondTry,
    Failure,
    Exhausted,
    Unknown,
}

impl End {
    fn acts(self) -> Vec<Act> {
        match self {
            End::Success => vec![Act::Succeed],
            End::Slowly => vec![Act::Take(Duration::from_secs(7))],
            End::SecondTry => vec![Act::Retryable, Act::Succeed],
            End::Failure => vec![Act::Fatal],
            End::Exhausted => vec![Act::Retryable],
            End::Unknown => vec![Act::Unknown],
        }
    }

    fn status(self) -> StepStatus {
        match self {
            End::Success | End::Slowly | End::SecondTry => StepStatus::Succeeded,
            End::Failure | End::Exhausted => StepStatus::Failed,
            End::Unknown => StepStatus::Unknown,
        }
    }
}

fn strictness() -> impl Strategy<Value = Strictness> {
    prop_oneof![Just(Strictness::Any), Just(Strictness::Settled), Just(Strictness::Success)]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        4 => Just(End::Success),
        2 => Just(End::Slowly),
        2 => Just(End::SecondTry),
        2 => Just(End::Failure),
        1 => Just(End::Exhausted),
        1 => Just(End::Unknown),
    ]
}

fn sketch(actions: &'static [&'static str]) -> impl Strategy<Value = Sketch> {
    let edges = prop::collection::vec((0..64_usize, strictness()), 0..4);
    let action = prop::sample::select(actions);
    (edges, end(), prop::bool::weighted(0.85), any::<bool>(), action)
        .prop_map(|(edges, end, wants, tolerated, action)| Sketch { edges, end, wants, tolerated, action })
}

fn sketches(actions: &'static [&'static str]) -> impl Strategy<Value = Vec<Sketch>> {
    prop::collection::vec(sketch(actions), 1..14).prop_map(|mut steps| {
        for (at, step) in steps.iter_mut().enumerate() {
            step.edges.iter_mut().for_each(|(from, _)| *from %= at.max(1));
            step.edges.retain(|(from, _)| *from < at);
            step.edges.sort_unstable();
            step.edges.dedup_by_key(|(from, _)| *from);
        }
        steps
    })
}

fn scenario(sketches: &[Sketch], parallel: usize) -> Scenario {
    let mut scenario = Scenario::new().parallel(parallel);
    for (at, sketch) in sketches.iter().enumerate() {
        scenario = scenario.step(&format!("s{at}"), |step| {
            let mut step = step.uses(sketch.action).does(&sketch.end.acts()).tries(2);
            let edge = |(from, strictness): &(usize, Strictness)| Edge {
                from: format!("s{from}").parse().expect("an id"),
                strictness: *strictness,
            };
            step.planned.needs = sketch.edges.iter().map(edge).collect();
            let step = if sketch.wants { step } else { step.when("false") };
            if sketch.tolerated { step.tolerated() } else { step }
        });
    }
    scenario.finally("z", |step| step.uses("fake.kept"))
}

/// What a step comes to when its needs have come to their ends.
fn fate(step: &Sketch, known: &[Option<StepStatus>], all: &[Sketch]) -> StepStatus {
    let met = step.edges.iter().all(|(from, strictness)| match (strictness, known[*from]) {
        (Strictness::Any, Some(_)) | (_, Some(StepStatus::Succeeded)) => true,
        (Strictness::Settled, Some(StepStatus::Skipped)) => true,
        (Strictness::Settled, Some(_)) => all[*from].tolerated,
        (Strictness::Success, Some(_)) | (_, None) => false,
    });
    if met && step.wants { step.end.status() } else { StepStatus::Skipped }
}

/// With one step at a time, the first step that can go, goes; an untolerated failure skips the rest.
fn oracle(all: &[Sketch]) -> Vec<StepStatus> {
    let mut known: Vec<Option<StepStatus>> = vec![None; all.len()];
    let aborted = |known: &[Option<StepStatus>]| {
        let bad = |status| matches!(status, Some(StepStatus::Failed | StepStatus::Unknown));
        known.iter().zip(all).any(|(status, step)| bad(*status) && !step.tolerated)
    };
    while !aborted(&known) {
        let open = |at: &usize| known[*at].is_none() && all[*at].edges.iter().all(|(from, _)| known[*from].is_some());
        let Some(at) = (0..all.len()).find(open) else { break };
        known[at] = Some(fate(&all[at], &known, all));
    }
    known.into_iter().map(|status| status.unwrap_or(StepStatus::Skipped)).collect()
}

fn body(played: &Played, all: &[Sketch]) -> Vec<StepStatus> {
    (0..all.len()).map(|at| played.status(&format!("s{at}"))).collect()
}

/// The journal tells the live state, and the kept summary is that of every state on the way.
pub fn replays(scenario: &Scenario, played: &Played) {
    let mut index = PlanIndex::new(Arc::new(scenario.plan.clone()));
    let limits = &scenario.plan.limits;
    let mut state = RunState::default();
    let mut frontier = Frontier::of(&index, &state);
    for event in played.journal.events() {
        let at = subject(&event.kind).and_then(|step| index.position(step));
        let step = at.map(|at| index.step(at).id.clone());
        let status = |state: &RunState| step.as_ref().map(|step| state.status(step));
        let before = status(&state);
        state.apply(&event).expect("a possible run");
        if let (EventKind::GroupOpened { instances, .. }, Some(at)) = (&event.kind, at) {
            let made = index.fan_out(at, instances);
            frontier.admit(&index, &made);
        }
        if let (Some(at), Some(before), Some(after)) = (at, before, status(&state)) {
            frontier.observe(&index, &state, (at, before, after));
        }
        let anew = PlanIndex::of(Arc::new(scenario.plan.clone()), &state);
        assert!(anew.positions().eq(index.positions()));
        assert_eq!(frontier, Frontier::of(&anew, &state));
        let picture = Picture { index: &index, frontier: &frontier, state: &state, limits };
        assert_eq!(picture.decide(event.at), decide(&scenario.plan, &state, limits, event.at));
    }
    assert_eq!(state, *played.state());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_at_a_time_every_graph_ends_as_the_oracle_says(mut all in sketches(&["fake.once", "fake.kept"])) {
        for step in &mut all {
            // A retry lets others pass, which is not this oracle's business.
            step.end = match step.end {
                End::SecondTry => End::Success,
                End::Exhausted => End::Failure,
                other => other,
            };
        }
        let scenario = scenario(&all, 1);
        let played = scenario.run();
        prop_assert_eq!(body(&played, &all), oracle(&all));
        prop_assert_eq!(played.status("z"), StepStatus::Succeeded);
        replays(&scenario, &played);
    }

    #[test]
    fn where_failures_are_tolerated_the_end_does_not_depend_on_the_order(
        mut all in sketches(&["fake.once", "fake.kept"]),
        parallel in 1..6_usize,
    ) {
        all.iter_mut().for_each(|step| step.tolerated = true);
        let scenario = scenario(&all, parallel);
        let played = scenario.run();
        prop_assert_eq!(body(&played, &all), oracle(&all));
        prop_assert!(scenario.world.most_running() <= parallel);
        replays(&scenario, &played);
    }

    #[test]
    fn a_cancel_at_any_time_settles_every_step_and_runs_finally(
        all in sketches(&["fake.once", "fake.again", "fake.kept"]),
        after_ms in 0..30_000_u64,
        level in prop_oneof![Just(CancelLevel::Graceful), Just(CancelLevel::Now)],
    ) {
        let scenario = scenario(&all, 2).cancel(Duration::from_millis(after_ms), level);
        let played = scenario.run();
        prop_assert!(played.state().finished.is_some());
        prop_assert!(body(&played, &all).into_iter().all(StepStatus::is_terminal));
        prop_assert_eq!(played.status("z"), StepStatus::Succeeded);
        replays(&scenario, &played);
    }

    #[test]
    fn two_crashes_anywhere_change_neither_the_end_nor_the_number_of_effects(
        mut all in sketches(&["fake.kept"]),
        cuts in (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<bool>()),
    ) {
        all.iter_mut().for_each(|step| step.tolerated = true);
        let whole_scenario = scenario(&all, 3);
        let whole = whole_scenario.run();
        let events = whole.journal.events().len();
        let fault = |at: usize| {
            let seq = EventSeq(u64::try_from(at + 1).expect("small"));
            if cuts.2 { Fault::CrashBefore(seq) } else { Fault::CrashAfter(seq) }
        };
        let first = cuts.0.index(events);
        let scenario = scenario(&all, 3);
        let cut = scenario.run_until(Some(fault(first)));
        let cut = scenario.resume_until(&cut, &[], Some(fault(first + cuts.1.index(events))));
        let ended = scenario.resume(&cut, &[]);
        prop_assert_eq!(ended.statuses(), whole.statuses());
        prop_assert_eq!(ended.ending().exit_code, whole.ending().exit_code);
        for (at, step) in all.iter().enumerate() {
            let effects = |scenario: &Scenario| scenario.world.effects(&format!("s{at}"));
            let (cut, uncut) = (effects(&scenario), effects(&whole_scenario));
            match step.end {
                // An attempt that was announced and never began counts as made.
                End::SecondTry | End::Exhausted => prop_assert!(cut <= uncut && (cut > 0) == (uncut > 0)),
                End::Success | End::Slowly | End::Failure | End::Unknown => prop_assert_eq!(cut, uncut),
            }
        }
        prop_assert_eq!(RunState::fold(&ended.journal.events()).expect("a possible run"), ended.state().clone());
    }
}
