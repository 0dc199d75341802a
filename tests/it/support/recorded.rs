//! A realistic run on disk: every kind of event once or more, a plan, a ledger.

use runbook::base::{Attempt, Digest, StepId, Timestamp};
use runbook::event::{
    Actor, CancelLevel, Coverage, ErrorClass, ErrorInfo, EventKind, ExceptionKind, Figures, LossVerdict, Outcome,
    PhaseFigure, RecoverDecision, RunHeader, SkipReason, StepFinding, SuspendReason, Verdict,
};
use runbook::journal::{RunDir, Runs};
use runbook::plan::BoundPlan;
use runbook::port::Journal as _;
use serde_json::json;

/// The run's id.
pub const RUN: &str = "20260128-143002-3fa9c1";

fn id(text: &str) -> StepId {
    text.parse().unwrap()
}

fn actor() -> Actor {
    Actor { name: "ada".to_owned(), from: "db1 pts/3".to_owned() }
}

/// A plan of one step.
pub fn plan(run: &str) -> BoundPlan {
    serde_json::from_value(json!({
        "format": 1, "run": run, "name": "full-db-loss", "description": "Rebuild.", "owner": "platform-oncall",
        "controls": ["SOC2-A1.3"], "mode": "real", "environment": "prod", "protected": true,
        "actor": { "name": "ada", "from": "db1 pts/3" }, "started_at": "2026-01-28T14:30:02Z",
        "incident_at": "2026-01-28T14:21:00Z", "objectives": { "rto": "4h", "rpo": "15m" },
        "phases": [{ "id": "restore", "name": "Restore", "budget": "40m" }],
        "params": { "database": "main" }, "vars": {},
        "inventory": runbook::language::inventory::Inventory::default(),
        "scratch": "/var/lib/runbook/scratch",
        "steps": [{
            "id": "stage", "name": "stage", "description": "", "section": "body", "phase": "restore", "uses": "exec",
            "with": { "argv": ["true"] }, "needs": [], "when": null, "preconditions": [], "timeout_ms": 60000,
            "stall_ms": null, "retry": null, "on_failure": "abort", "on_unknown": "ask",
            "effects": { "class": "write", "targets": [] }, "host": "local", "secrets": [], "has_check": false, "declares_drill": false,
            "fingerprint": Digest::of(b"stage"),
        }],
        "limits": { "max_parallel": 4 }, "locks": ["database:main"], "sources": [],
    }))
    .unwrap()
}

/// Rounds of events, as an engine syncs them.
pub fn rounds(plan: Digest) -> Vec<Vec<EventKind>> {
    let mut rounds = vec![vec![started(plan)]];
    rounds.extend(first_engine());
    rounds.extend(second_engine());
    rounds.push(vec![finished()]);
    rounds
}

fn started(plan: Digest) -> EventKind {
    EventKind::RunStarted(Box::new(RunHeader {
        format: 1,
        name: "full-db-loss".to_owned(),
        mode: runbook::action::Mode::Real,
        environment: "prod".to_owned(),
        actor: actor(),
        pid: 4242,
        host: "db1".to_owned(),
        version: "0.1.0".to_owned(),
        plan,
        incident_at: Some("2026-01-28T14:21:00Z".parse().unwrap()),
        locks: None,
        origin: None,
    }))
}

fn first_engine() -> Vec<Vec<EventKind>> {
    let stage = || id("stage");
    let mut error = ErrorInfo::new(ErrorClass::Retryable, "`pg_basebackup` ended with 1").help("look at its output");
    error.exit_code = Some(1);
    error.output_tail = vec!["could not connect: «refused» — \"127.0.0.1\"\\:5432".to_owned()];
    let finding =
        StepFinding { verdict: Verdict::Warn, message: "space is tight".to_owned(), help: None, wait_ms: None };
    let with = json!({ "argv": ["pg_basebackup", "-D", "/x"], "env": { "PGPASSWORD": "\u{E000}pg\u{E001}" } });
    vec![
        vec![EventKind::StepResolved {
            step: stage(),
            with,
            secrets: vec!["pg".to_owned()],
            preconditions: vec![json!(true), json!({ "uses": "assert", "with": {} })],
        }],
        vec![
            EventKind::StepChecked { step: stage(), findings: vec![finding] },
            EventKind::AttemptStarted { step: stage(), attempt: Attempt(1), key: format!("{RUN}/stage") },
        ],
        vec![EventKind::AttemptFailed { step: stage(), attempt: Attempt(1), error, elapsed_ms: 812, retry_in_ms: 500 }],
        vec![
            EventKind::AttemptStarted { step: stage(), attempt: Attempt(2), key: format!("{RUN}/stage") },
            EventKind::ResourceRegistered {
                step: stage(),
                resource: "dir".to_owned(),
                data: json!({ "path": "/x" }),
                expires_at: None,
            },
            EventKind::StepStalled { step: stage(), silent_ms: 60_000 },
        ],
    ]
}

fn second_engine() -> Vec<Vec<EventKind>> {
    let stage = || id("stage");
    let attempt = Attempt(2);
    let unknown = ErrorInfo::new(ErrorClass::Unknown, "the engine died");
    let fatal = ErrorInfo::new(ErrorClass::Fatal, "no row");
    let output = json!({ "bytes": 16_777_216, "ratio": 0.1, "lsn": "0/3000028", "hash": "0".repeat(64) });
    let reason = SuspendReason { step: stage(), question: "did it happen?".to_owned() };
    vec![
        vec![EventKind::RunResumed { actor: actor(), pid: 4300, version: "0.1.0".to_owned() }],
        vec![EventKind::TailCut { bytes: 17 }, EventKind::AttemptAdopted { step: stage(), attempt }],
        vec![EventKind::StepUnknown { step: id("probe"), attempt, error: unknown }],
        vec![EventKind::RunSuspended { waiting: vec![reason] }],
        vec![
            EventKind::AttemptRecovered {
                step: stage(),
                attempt,
                decision: RecoverDecision::Adopt { output: output.clone() },
                why: "the marker is there".to_owned(),
            },
            EventKind::StepNoted { step: stage(), message: "moved aside".to_owned(), data: json!({ "to": "/y" }) },
            EventKind::StepSucceeded { step: stage(), attempt, output, elapsed_ms: 61_004 },
        ],
        vec![
            EventKind::StepFailed { step: id("prove"), attempt: Attempt(1), error: fatal, elapsed_ms: 4 },
            EventKind::StepSkipped { step: id("start"), why: SkipReason::Need { step: id("prove") } },
            EventKind::ResourceRemoved { resource: "dir".to_owned() },
            EventKind::ObjectiveWarning { percent: 50, elapsed_ms: 7_200_000 },
        ],
        vec![
            EventKind::CancelRequested { actor: actor(), level: CancelLevel::Graceful, reason: "wrong".to_owned() },
            EventKind::StepCancelled { step: id("watch"), attempt: Attempt(1), confirmed: true },
        ],
    ]
}

fn finished() -> EventKind {
    let figures = Figures {
        run_ms: 65_000,
        rto_ms: Some(605_000),
        rto_target_ms: Some(14_400_000),
        rpo: Some(LossVerdict {
            unwanted_ms: 0,
            chosen_ms: None,
            coverage: Coverage::ToLastFlushed,
            step: id("prove"),
            beside: false,
        }),
        rpo_target_ms: Some(900_000),
        machine_ms: 61_000,
        retry_ms: 1_312,
        lock_ms: 0,
        human_ms: 0,
        waiting_ms: 2_688,
        critical_path: vec![id("stage"), id("prove")],
        phases: vec![PhaseFigure { phase: "restore".to_owned(), elapsed_ms: 63_000, budget_ms: Some(2_400_000) }],
        exceptions: vec![(id("start"), ExceptionKind::Skipped)],
    };
    EventKind::RunFinished { outcome: Outcome::Cancelled, exit_code: 12, figures: Box::new(figures) }
}

/// Writes a whole run, anchored at both ends.
pub fn record(runs: &Runs, run: &str) -> RunDir {
    let mut created = runs.create(&plan(run)).unwrap();
    let mut last = Vec::new();
    for (second, kinds) in rounds(created.plan).into_iter().enumerate() {
        let at = Timestamp::from_second(1_769_610_602 + second as i64).unwrap();
        last = created.journal.append(at, kinds).unwrap();
        created.journal.sync().unwrap();
    }
    runs.ledger().finish(last.last().unwrap()).unwrap();
    created.dir
}
