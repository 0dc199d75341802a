//! Journals: damaged bytes are read or named, and any chain of events that holds together is folded or refused, and
//! told by every report, without a panic.

#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use runbook::base::Timestamp;
use runbook::event::EventKind;
use runbook::journal::chain::Chain;
use runbook::journal::reader::{chain_of, scan};
use runbook::plan::BoundPlan;
use runbook::report::{Palette, json, junit, summary};
use runbook::state::RunState;

/// A recorded run of every kind of event.
const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/it/compat/format-1");

static PLAN: LazyLock<BoundPlan> = LazyLock::new(|| {
    let text = std::fs::read(Path::new(RECORDED).join("plan.json")).expect("the plan is there");
    serde_json::from_slice(&text).expect("it is a plan")
});
static STARTED: LazyLock<EventKind> = LazyLock::new(|| {
    let text = std::fs::read(Path::new(RECORDED).join("journal.jsonl")).expect("the journal is there");
    scan(&text, CHAIN.clone()).expect("it holds").events.swap_remove(0).kind
});
static CHAIN: LazyLock<Chain> = LazyLock::new(|| chain_of(Path::new(RECORDED)).expect("the plan is there"));

fn told(events: &[runbook::event::Event]) {
    let Ok(state) = RunState::fold(events) else { return };
    let places = summary::Places { run_dir: None, report: None };
    let _text = summary::render(&PLAN, &state, &places, Palette::default());
    let _report = json::render(&PLAN, &state).expect("state is JSON");
    let _suite = junit::render(&PLAN, &state);
    if let Some(last) = events.last() {
        let _figures = runbook::state::objectives::figures(&PLAN, &state, last.at);
        let decisions = runbook::engine::decide(&PLAN, &state, &PLAN.limits, last.at);
        assert_eq!(decisions, runbook::engine::decide(&PLAN, &state, &PLAN.limits, last.at));
    }
}

/// The kinds of events that lines of JSON tell, those of a recorded journal included.
fn kinds(data: &[u8]) -> impl Iterator<Item = EventKind> {
    data.split(|byte| *byte == b'\n').take(64).filter_map(|line| {
        let told = serde_json::from_slice::<serde_json::Value>(line).ok()?;
        serde_json::from_value(told.get("kind").unwrap_or(&told).clone()).ok()
    })
}

/// Kinds of events are linked into a chain that holds: one start, and nothing after an end.
fn linked(data: &[u8]) {
    let start = || Chain::start(PLAN.run.clone(), CHAIN.plan());
    let (mut chain, mut bytes, mut at) = (start(), Vec::new(), Timestamp::UNIX_EPOCH);
    let begun = std::iter::once(STARTED.clone());
    for kind in begun.chain(kinds(data).filter(|kind| !matches!(kind, EventKind::RunStarted(_)))) {
        let is_end = matches!(kind, EventKind::RunFinished { .. });
        at = at.checked_add(std::time::Duration::from_millis(1500)).unwrap_or(at);
        let Ok(event) = chain.link(at, kind) else { continue };
        bytes.extend_from_slice(&event.line);
        if is_end {
            break;
        }
    }
    told(&scan(&bytes, start()).expect("what was linked holds").events);
}

fuzz_target!(|data: &[u8]| {
    if let Ok(history) = scan(data, CHAIN.clone()) {
        told(&history.events);
    }
    linked(data);
});
