//! Stories of runs for tests: events in a few lines, folded by the real fold.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use serde_json::{Value, json};

use super::RunState;
use super::objectives::{figures, outcome};
use crate::base::clock::after;
use crate::base::{Attempt, Digest, EventSeq, Timestamp};
use crate::event::{ErrorClass, ErrorInfo, Event, EventKind, FORMAT, RunHeader, SkipReason, StepFinding, Verdict};
use crate::plan::BoundPlan;
use crate::plan::fixture::id;

/// What happens in a run, at seconds since its start.
pub(crate) struct Story {
    plan: BoundPlan,
    told: Vec<(Timestamp, EventKind)>,
}

impl Story {
    pub(crate) fn of(plan: &BoundPlan) -> Self {
        let header = RunHeader {
            format: FORMAT,
            name: plan.name.clone(),
            mode: plan.mode,
            environment: plan.environment.clone(),
            actor: plan.actor.clone(),
            pid: 4711,
            host: "ops1".to_owned(),
            version: "0.1.0".to_owned(),
            plan: Digest::of(b"plan"),
            incident_at: plan.incident_at,
            locks: None,
            origin: None,
        };
        Self { plan: plan.clone(), told: Vec::new() }.at(0.0, EventKind::RunStarted(Box::new(header)))
    }

    pub(crate) fn at(mut self, seconds: f64, kind: EventKind) -> Self {
        self.told.push((after(self.plan.started_at, Duration::from_secs_f64(seconds)), kind));
        self
    }

    pub(crate) fn resolved(self, step: &str, seconds: f64, with: Value) -> Self {
        let kind = EventKind::StepResolved { step: id(step), with, secrets: Vec::new(), preconditions: Vec::new() };
        self.at(seconds, kind)
    }

    pub(crate) fn checked(self, step: &str, seconds: f64, message: &str) -> Self {
        let findings =
            vec![StepFinding { verdict: Verdict::Pass, message: message.to_owned(), help: None, wait_ms: None }];
        self.at(seconds, EventKind::StepChecked { step: id(step), findings })
    }

    pub(crate) fn attempt(self, step: &str, number: u32, seconds: f64) -> Self {
        let key = format!("{}/{step}", self.plan.run);
        self.at(seconds, EventKind::AttemptStarted { step: id(step), attempt: Attempt(number), key })
    }

    pub(crate) fn attempt_failed(self, step: &str, number: u32, (from, to): (f64, f64), retry_in: f64) -> Self {
        let error = ErrorInfo {
            causes: vec!["connection reset by peer".to_owned()],
            ..ErrorInfo::new(ErrorClass::Retryable, "`base/16384/2619` cannot be read from the store")
        };
        let (elapsed_ms, retry_in_ms) = (millis(to - from), millis(retry_in));
        let attempt = Attempt(number);
        self.at(to, EventKind::AttemptFailed { step: id(step), attempt, error, elapsed_ms, retry_in_ms })
    }

    pub(crate) fn succeeded(self, step: &str, number: u32, (from, to): (f64, f64), output: Value) -> Self {
        let (attempt, elapsed_ms) = (Attempt(number), millis(to - from));
        self.at(to, EventKind::StepSucceeded { step: id(step), attempt, output, elapsed_ms })
    }

    pub(crate) fn failed(self, step: &str, (from, to): (f64, f64), error: ErrorInfo) -> Self {
        let elapsed_ms = millis(to - from);
        self.at(to, EventKind::StepFailed { step: id(step), attempt: Attempt(1), error, elapsed_ms })
    }

    pub(crate) fn skipped(self, step: &str, seconds: f64, why: SkipReason) -> Self {
        self.at(seconds, EventKind::StepSkipped { step: id(step), why })
    }

    /// Resolves, starts and ends a step in success.
    pub(crate) fn does(self, step: &str, (from, to): (f64, f64), output: Value) -> Self {
        self.resolved(step, from, json!({})).attempt(step, 1, from).succeeded(step, 1, (from, to), output)
    }

    /// Resolves, starts and ends a step in failure.
    pub(crate) fn fails(self, step: &str, (from, to): (f64, f64)) -> Self {
        let error = ErrorInfo::new(ErrorClass::Fatal, "it broke");
        self.resolved(step, from, json!({})).attempt(step, 1, from).failed(step, (from, to), error)
    }

    /// Ends the run with the outcome and figures that follow.
    pub(crate) fn finish(self, seconds: f64) -> Self {
        let state = self.state();
        let (ended, exit_code) = outcome(&self.plan, &state);
        let at = after(self.plan.started_at, Duration::from_secs_f64(seconds));
        let figures = Box::new(figures(&self.plan, &state, at));
        self.at(seconds, EventKind::RunFinished { outcome: ended, exit_code, figures })
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        let mut told = self.told.clone();
        told.sort_by_key(|(at, _)| *at);
        let mut prev = Digest::of(b"plan");
        let number = |(index, (at, kind)): (usize, (Timestamp, EventKind))| {
            let seq = EventSeq(u64::try_from(index).unwrap() + 1);
            let hash = Digest::of(format!("{seq:?}").as_bytes());
            Event { seq, at, run: self.plan.run.clone(), prev: std::mem::replace(&mut prev, hash), kind, hash }
        };
        told.into_iter().enumerate().map(number).collect()
    }

    pub(crate) fn state(&self) -> RunState {
        RunState::fold(&self.events()).expect("a story that can happen")
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of a test")]
fn millis(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}

/// The lost database comes back in 26 minutes, with one retry on the way; not yet finished.
pub(crate) fn recovered(plan: &BoundPlan) -> Story {
    let checks = json!({ "checks": [
        { "name": "users", "passed": true, "value": "48210", "expected": "> 0" },
        { "name": "orphans", "passed": true, "value": "0 rows without parent", "expected": "none" },
        { "name": "indexes", "passed": true, "value": "37 of 37", "expected": "all valid" },
    ], "passed": 3 });
    let loss = json!({ "instance": { "port": 5432 }, "timeline": 4, "loss":
        { "coverage": "to_last_flushed", "newest_commit_at": "2026-01-28T13:59:58.412Z" } });
    let stage = json!({ "database": "orders", "backup": "20260128T010000Z", "password": "\u{E000}pg_orders\u{E001}" });
    Story::of(plan)
        .does("choose", (0.2, 2.1), json!({ "backup": "20260128T010000Z" }))
        .does("stop_apps", (0.3, 8.0), json!({ "stopped": ["backend"] }))
        .does("stop_server", (8.0, 20.0), json!({ "was_running": false }))
        .resolved("stage", 2.1, stage)
        .checked("stage", 2.2, "212.4 GiB are free at `/var/lib/postgresql/15`, 118.0 GiB are needed")
        .attempt("stage", 1, 2.2)
        .attempt_failed("stage", 1, (2.2, 65.0), 2.0)
        .attempt("stage", 2, 67.0)
        .succeeded("stage", 2, (67.0, 905.0), json!({ "staged": "opaque", "files": 4117 }))
        .resolved("recover", 905.1, json!({ "database": "orders" }))
        .attempt("recover", 1, 905.2)
        .at(
            906.0,
            EventKind::StepNoted {
                step: id("recover"),
                message: "the old data directory was kept as `main.lost-20260128`".to_owned(),
                data: json!({ "path": "/var/lib/postgresql/15/main.lost-20260128" }),
            },
        )
        .succeeded("recover", 1, (905.2, 1490.0), loss)
        .does("prove", (1490.1, 1530.0), checks)
        .does("start_apps", (1530.0, 1541.0), json!({}))
        .does("back", (1541.0, 1580.0), json!({ "status": 200 }))
        .does("tell", (1580.0, 1581.0), json!({}))
}
