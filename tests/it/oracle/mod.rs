//! Random runs against the rules of the language, written down a second time.
//!
//! [`case`] draws a plan and what happens to it, [`model`] is the rules, and here the real engine plays the case on a
//! clock that never sleeps and is held against them, event by event.

mod case;
mod model;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use runbook::base::{EventSeq, Timestamp};
use runbook::engine::{Answer, Left, Start};
use runbook::event::{Event, EventKind, OperatorVerb};
use runbook::journal::Fault;
use runbook::journal::memory::MemoryJournal;
use runbook::port::{ControlRequest, Journal, JournalError};
use runbook::state::{RunState, StepStatus};

use crate::support::clock::ManualClock;
use crate::support::scenario::{Scenario, actor};

use case::{Case, Relief, Weather, case, name};
use model::Model;

/// More engines than any case needs.
const ENGINES: usize = 60;

/// A journal that remembers when each event was appended, by the monotonic clock.
#[derive(Clone)]
struct Stamped {
    inner: MemoryJournal,
    clock: ManualClock,
    stamps: Arc<Mutex<BTreeMap<EventSeq, Duration>>>,
}

impl Journal for Stamped {
    fn append(&mut self, at: Timestamp, kinds: Vec<EventKind>) -> Result<Vec<Event>, JournalError> {
        let events = self.inner.append(at, kinds)?;
        let now = self.clock.elapsed();
        self.stamps.lock().unwrap().extend(events.iter().map(|event| (event.seq, now)));
        Ok(events)
    }
    fn sync(&mut self) -> Result<(), JournalError> {
        self.inner.sync()
    }
}

/// A case while engine after engine plays it.
struct Play<'a> {
    case: &'a Case,
    scenario: Scenario,
    journal: Stamped,
    /// How often an operator was asked about each step.
    asked: BTreeMap<usize, usize>,
    /// What operators said of steps whose fate nobody knows: after how many events, of which step.
    answers: Vec<(usize, usize, OperatorVerb)>,
}

impl<'a> Play<'a> {
    fn new(case: &'a Case) -> Self {
        let scenario = case.scenario();
        let inner = MemoryJournal::new(scenario.plan.run.clone(), scenario.header().plan);
        let journal = Stamped { inner, clock: scenario.world.clock.clone(), stamps: Arc::default() };
        Self { case, scenario, journal, asked: BTreeMap::new(), answers: Vec::new() }
    }

    /// What the next engine begins with, answers of people included.
    fn start(&self, events: Vec<Event>) -> Start {
        if events.is_empty() {
            return self.scenario.start();
        }
        let given = self.answers.iter().filter(|(after, ..)| *after == events.len());
        let given: Vec<(String, Answer)> = given.map(|(_, at, verb)| (name(*at), answer(verb))).collect();
        let given: Vec<(&str, Answer)> = given.iter().map(|(step, answer)| (step.as_str(), answer.clone())).collect();
        Start::Resume(Box::new(self.scenario.takeover(events, &given)))
    }

    /// Plays to the end, whatever dies or waits for a person on the way.
    fn brought_to_its_end(&mut self) -> Result<RunState, String> {
        for engine in 0..ENGINES {
            let (events, inner) = self.journal.inner.reopen().expect("the journal holds together");
            let first = u64::try_from(events.len()).expect("few events") + 1;
            let fault = self.case.cuts.get(engine).map(|(after, durable)| match durable {
                true => Fault::CrashAfter(EventSeq(first + after)),
                false => Fault::CrashBefore(EventSeq(first + after)),
            });
            self.journal.inner = fault.into_iter().fold(inner, MemoryJournal::with_fault);
            let start = self.start(events);
            match self.scenario.drive(Box::new(self.journal.clone()), start, Vec::new()) {
                Err(_) if self.journal.inner.is_dead() => {}
                Err(error) => return Err(format!("the engine gave up: {error}")),
                Ok(ending) if ending.how == Left::Finished => return Ok(ending.state),
                Ok(ending) => self.relieve(&ending.state),
            }
        }
        Err("the run does not end".to_owned())
    }

    /// An operator says something about every step that waits for one.
    fn relieve(&mut self, state: &RunState) {
        for reason in &state.suspended {
            let at: usize = reason.step.as_str()[1..].parse().expect("a known step");
            let asked = self.asked.entry(at).or_default();
            let verb = match self.case.steps[at].reliefs.get(*asked).unwrap_or(&Relief::Skip) {
                Relief::Retry => OperatorVerb::Retry,
                Relief::Skip => OperatorVerb::Skip,
                Relief::Done => OperatorVerb::MarkDone { output: serde_json::Map::new() },
            };
            *asked += 1;
            if state.status(&reason.step) == StepStatus::Running {
                self.answers.push((self.journal.inner.events().len(), at, verb));
                continue;
            }
            let (now, request) = (self.scenario.world.clock.elapsed(), format!("{at}-{asked}"));
            let step = Some(reason.step.clone());
            let act = ControlRequest::Act { request, actor: actor(), verb, step, reason: String::new() };
            self.scenario.put(now, act);
        }
    }

    fn events(&self) -> Vec<(Duration, Event)> {
        let stamps = self.journal.stamps.lock().unwrap();
        self.journal.inner.events().into_iter().map(|event| (stamps[&event.seq], event)).collect()
    }
}

/// Of an attempt whose fate nobody knows a person can only say whether it happened.
fn answer(verb: &OperatorVerb) -> Answer {
    match verb {
        OperatorVerb::Retry => Answer::Rerun,
        _ => Answer::Done { output: BTreeMap::new() },
    }
}

/// Holds what the engine did against the rules.
fn judge(case: &Case) -> Result<(), String> {
    let mut play = Play::new(case);
    let played = play.brought_to_its_end();
    let events = play.events();
    let told = |upto: usize| {
        let lines = events[..=upto].iter().map(|(at, event)| format!("{at:?} {:?}\n", event.kind));
        lines.collect::<String>()
    };
    let state = played.map_err(|what| format!("{what}\n{}", told(events.len() - 1)))?;
    let mut model = Model::new(case);
    for (number, (at, event)) in events.iter().enumerate() {
        for (_, at, verb) in play.answers.iter().filter(|(after, ..)| *after == number) {
            let done = OperatorVerb::MarkDone { output: serde_json::Map::new() };
            model.told(*at, if *verb == OperatorVerb::Retry { OperatorVerb::Retry } else { done });
        }
        model.take(*at, &event.kind).map_err(|what| format!("{what}\n{}", told(number)))?;
        let before = number.checked_sub(1).map(|before| events[before].1.at);
        if before.is_some_and(|before| before > event.at) {
            return Err(format!("the run's time goes back\n{}", told(number)));
        }
    }
    let all = || told(events.len() - 1);
    if model.finished.is_none() {
        return Err(format!("the run has no end\n{}", all()));
    }
    let folded = RunState::fold(&events.iter().map(|(_, event)| event.clone()).collect::<Vec<_>>());
    if folded.ok().as_ref() != Some(&state) {
        return Err(format!("the journal tells another state\n{}", all()));
    }
    effects(case, &model, &state, &play.scenario).map_err(|what| format!("{what}\n{}", all()))
}

/// An attempt has its effect once at most, never unannounced, and always when it ended a step.
fn effects(case: &Case, model: &Model<'_>, state: &RunState, scenario: &Scenario) -> Result<(), String> {
    for at in 0..case.steps.len() {
        let made = scenario.world.attempts(&name(at));
        let known = state.steps.get(name(at).as_str());
        if !made.is_sorted_by(|one, next| one < next) || made.last() > Some(&model.attempts[at]) {
            return Err(format!("{} had effects in attempts {made:?} of {}", name(at), model.attempts[at]));
        }
        let by_itself = known.is_some_and(|step| match step.status {
            StepStatus::Succeeded => !step.marked_done,
            StepStatus::Failed => true,
            _ => false,
        });
        if by_itself && made.last() != Some(&model.attempts[at]) {
            return Err(format!("{} ended without the effect of attempt {}", name(at), model.attempts[at]));
        }
    }
    Ok(())
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 600, failure_persistence: None, max_shrink_iters: 4000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn an_undisturbed_run_keeps_the_rules(case in case(Weather { cancels: 0, jumps: 0, cuts: 0, pauses: 1 })) {
        judge(&case).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn a_run_that_is_cancelled_keeps_the_rules(case in case(Weather { cancels: 2, jumps: 0, cuts: 0, pauses: 1 })) {
        judge(&case).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn a_run_whose_wall_clock_is_set_keeps_the_rules(case in case(Weather { cancels: 1, jumps: 3, cuts: 0, pauses: 1 })) {
        judge(&case).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn a_run_whose_engines_die_keeps_the_rules(case in case(Weather { cancels: 1, jumps: 0, cuts: 4, pauses: 2 })) {
        judge(&case).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn a_run_that_everything_happens_to_keeps_the_rules(case in case(Weather { cancels: 2, jumps: 2, cuts: 3, pauses: 2 })) {
        judge(&case).map_err(TestCaseError::fail)?;
    }
}
