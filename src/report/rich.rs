//! Runs that have everything in them, for the tests of every face.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::base::clock::after;
use crate::base::{Attempt, Digest};
use crate::event::{
    Actor, ErrorClass, ErrorInfo, EventKind, HumanAnswer, HumanVerdict, Initiator, Instance, OnTimeout, OperatorVerb,
    Question, QuestionKind, SeededEnd, SkipReason,
};
use crate::plan::fixture::{full_db_loss, id, start, step};
use crate::plan::{BoundPlan, ForEach, PlannedStep, Section, StepKind, UndoPolicy};
use crate::state::fixture::Story;

fn kind(mut step: PlannedStep, kind: StepKind) -> PlannedStep {
    step.kind = kind;
    step
}

fn of(mut step: PlannedStep, group: &str) -> PlannedStep {
    step.group = Some(id(group));
    step.name = step.id.as_str().rsplit('/').next().unwrap_or_default().to_owned();
    step
}

fn each(mut step: PlannedStep) -> PlannedStep {
    step.for_each = Some(ForEach { items: json!("{{ vars.tables }}"), max_parallel: Some(2) });
    step
}

fn undo(of: &str) -> PlannedStep {
    PlannedStep { section: Section::Undo, ..step(&format!("{of}.undo"), "exec") }
}

/// A plan with a sub-runbook, a fan-out, people, locks and an undo.
pub(super) fn rich() -> BoundPlan {
    let steps = vec![
        step("choose", "backup.find").phase("assess"),
        kind(step("go", "approval").phase("assess").follows("choose"), StepKind::Approval),
        kind(step("restore", "runbook").phase("restore").follows("go"), StepKind::Runbook),
        of(step("restore/stage", "postgres.restore_base").phase("restore"), "restore"),
        of(step("restore/recover", "postgres.recover").phase("restore").follows("restore/stage"), "restore"),
        step("mirror", "exec").phase("restore").follows("restore"),
        each(step("tables", "sql").phase("verify").follows("restore")),
        step("prove", "postgres.check").phase("verify").follows("tables"),
        step("sane", "assert").phase("verify").follows("prove"),
        step("warm", "exec").phase("resume").follows("sane").tolerated(),
        step("unlock", "exec").phase("resume").follows("warm"),
        kind(step("switch", "manual").phase("resume").follows("unlock"), StepKind::Manual),
        undo("restore/stage"),
        undo("unlock"),
        step("tell", "notify.command").finally(),
    ];
    BoundPlan {
        steps,
        groups: BTreeMap::new(),
        vars: BTreeMap::from([("tables".to_owned(), json!(["orders", "users", "a|b <c>"]))]),
        undo: UndoPolicy::OnFailure,
        ..full_db_loss()
    }
}

fn actor(name: &str) -> Actor {
    Actor { name: name.to_owned(), from: format!("{name}@ops1, terminal pts/3") }
}

pub(super) fn question(kind: QuestionKind, prompt: &str) -> Question {
    Question {
        kind,
        prompt: prompt.to_owned(),
        checklist: vec!["the applications are stopped".to_owned()],
        inputs: BTreeMap::new(),
        approvers: vec!["dora".to_owned(), "@dba".to_owned()],
        quorum: 2,
        initiator: Initiator::MayNotApprove,
        until: Some(after(start(), Duration::from_secs(3600))),
        on_timeout: OnTimeout::Abort,
        timer_ms: None,
    }
}

fn answer(asked: &Question, (name, verdict, comment): (&str, HumanVerdict, &str)) -> HumanAnswer {
    HumanAnswer {
        request: format!("answer-{name}"),
        by: actor(name),
        verdict,
        comment: comment.to_owned(),
        inputs: serde_json::Map::new(),
        seen: asked.digest(),
        break_glass: None,
    }
}

impl Story {
    fn asked(self, step: &str, seconds: f64, question: &Question) -> Self {
        self.resolved(step, seconds, json!({}))
            .at(seconds, EventKind::StepAsked { step: id(step), question: Box::new(question.clone()) })
    }

    fn answered(self, step: &str, seconds: f64, answer: HumanAnswer) -> Self {
        self.at(seconds, EventKind::StepAnswered { step: id(step), answer: Box::new(answer) })
    }

    pub(super) fn opened(self, step: &str, seconds: f64, keys: &[&str]) -> Self {
        let instance = |key: &&str| Instance { step: id(step).instance(key), key: (*key).to_owned(), item: json!(key) };
        let instances = keys.iter().map(instance).collect();
        self.at(seconds, EventKind::GroupOpened { step: id(step), instances })
    }

    fn acted(self, seconds: f64, (name, verb, step): (&str, OperatorVerb, Option<&str>), reason: &str) -> Self {
        let (request, step) = (format!("act-{seconds}"), step.map(id));
        let (actor, reason) = (actor(name), reason.to_owned());
        self.at(seconds, EventKind::OperatorActed { request, actor, verb, step, reason })
    }

    fn group_done(self, step: &str, (from, to): (f64, f64), output: Value) -> Self {
        self.succeeded(step, 1, (from, to), output)
    }
}

/// As far as the second person who is asked.
pub(super) fn begun(plan: &BoundPlan) -> Story {
    let go = question(QuestionKind::Approval, "Rebuild `orders` from 20260128T010000Z?");
    let first = answer(&go, ("erin", HumanVerdict::Yes, "checked the backup's age"));
    Story::of(plan)
        .does("choose", (0.2, 2.1), json!({ "backup": "20260128T010000Z" }))
        .asked("go", 2.2, &go)
        .answered("go", 60.0, first)
}

/// Up to the fan-out, of which one instance runs.
pub(super) fn midway(plan: &BoundPlan) -> Story {
    let go = question(QuestionKind::Approval, "Rebuild `orders` from 20260128T010000Z?");
    let glass = HumanAnswer {
        break_glass: Some("nobody else can be reached, revenue stands still".to_owned()),
        ..answer(&go, ("frank", HumanVerdict::Yes, ""))
    };
    let lock = "database/orders".to_owned();
    begun(plan)
        .answered("go", 200.0, glass)
        .succeeded("go", 1, (2.2, 200.1), json!({ "approved_by": ["erin", "frank"] }))
        .at(200.2, EventKind::GroupOpened { step: id("restore"), instances: Vec::new() })
        .at(
            200.3,
            EventKind::LockAwaited {
                step: Some(id("restore/stage")),
                lock: lock.clone(),
                holder: "20260128-120000-aaaaaa".to_owned(),
            },
        )
        .at(
            240.3,
            EventKind::LockTaken {
                step: Some(id("restore/stage")),
                lock,
                over: Some("20260128-120000-aaaaaa".to_owned()),
                preempted: None,
                waited_ms: 40_000,
            },
        )
        .resolved("restore/stage", 240.4, json!({ "password": "\u{E000}pg_orders\u{E001}" }))
        .checked("restore/stage", 240.5, "212.4 GiB are free, 118.0 GiB are needed")
        .attempt("restore/stage", 1, 240.6)
        .attempt_failed("restore/stage", 1, (240.6, 300.0), 2.0)
        .attempt("restore/stage", 2, 302.0)
        .succeeded("restore/stage", 2, (302.0, 705.0), json!({ "files": 4117 }))
        .does(
            "restore/recover",
            (705.1, 900.0),
            json!({ "loss": { "coverage": "to_last_flushed",
            "newest_commit_at": "2026-01-28T13:59:58.412Z" } }),
        )
        .group_done("restore", (200.2, 900.1), json!({}))
        .acted(900.2, ("erin", OperatorVerb::Skip, Some("mirror")), "the mirror's host is down, ticket OPS-77")
        .skipped("mirror", 900.3, SkipReason::ByHand)
        .opened("tables", 900.4, &["orders", "users", "a|b <c>"])
        .does("tables[orders]", (900.5, 930.0), json!({ "rows": 48210 }))
        .resolved("tables[users]", 901.0, json!({}))
        .attempt("tables[users]", 1, 901.0)
}

/// A success with an exception of nearly every kind.
pub(super) fn rich_story(plan: &BoundPlan) -> Story {
    let checks = json!({ "checks": [
        { "name": "users", "passed": true, "value": "48210", "expected": "> 0" },
        { "name": "indexes", "passed": true, "value": "37 of 37", "expected": "all valid" } ], "passed": 2 });
    let conditions = json!({ "all": [{ "that": true, "message": "orders has rows" }] });
    let switch = Question { quorum: 1, ..question(QuestionKind::Manual, "Point the load balancer at `db2`.") };
    let done = answer(&switch, ("erin", HumanVerdict::Yes, "done, seen in the dashboard"));
    let stuck = ErrorInfo::new(ErrorClass::Fatal, "the queue cannot be unlocked: `timeout`");
    let refused = EventKind::OperatorRefused {
        request: "act-r".to_owned(),
        actor: actor("gus"),
        verb: OperatorVerb::Skip,
        step: Some(id("prove")),
        why: "it has succeeded".to_owned(),
    };
    midway(plan)
        .succeeded("tables[users]", 1, (901.0, 940.0), json!({ "rows": 7 }))
        .does("tables[a%7Cb%20%3Cc%3E]", (930.0, 951.0), json!({ "rows": 0 }))
        .group_done("tables", (900.4, 951.1), json!({ "rows": [48210, 7, 0] }))
        .does("prove", (952.0, 990.0), checks)
        .at(991.0, refused)
        .resolved("sane", 992.0, conditions)
        .attempt("sane", 1, 992.0)
        .succeeded("sane", 1, (992.0, 992.1), json!({ "held": 1 }))
        .acted(993.0, ("erin", OperatorVerb::Pause, None), "looking at the dashboards")
        .acted(1050.0, ("erin", OperatorVerb::Continue, None), "")
        .fails("warm", (1051.0, 1060.0))
        .resolved("unlock", 1060.1, json!({}))
        .attempt("unlock", 1, 1060.2)
        .at(1070.0, EventKind::StepHeld { step: id("unlock"), attempt: Attempt(1), error: stuck, elapsed_ms: 9800 })
        .acted(
            1120.0,
            ("erin", OperatorVerb::MarkDone { output: serde_json::Map::new() }, Some("unlock")),
            "unlocked from the console",
        )
        .at(
            1120.1,
            EventKind::StepSucceeded { step: id("unlock"), attempt: Attempt(0), output: json!({}), elapsed_ms: 0 },
        )
        .asked("switch", 1120.2, &switch)
        .answered("switch", 1300.0, done)
        .succeeded("switch", 1, (1120.2, 1300.0), json!({ "by": "erin" }))
        .skipped("unlock.undo", 1300.1, SkipReason::NothingToUndo)
        .skipped("restore/stage.undo", 1300.1, SkipReason::NothingToUndo)
        .at(
            1300.2,
            EventKind::StepNoted {
                step: id("restore/recover"),
                message: "the old data directory was kept as `main.lost-20260128`".to_owned(),
                data: Value::Null,
            },
        )
        .at(
            1300.3,
            EventKind::ResourceRegistered {
                step: id("prove"),
                resource: "path:/srv/scratch/verify".to_owned(),
                data: Value::Null,
                expires_at: None,
            },
        )
        .does("tell", (1300.4, 1301.0), json!({}))
        .finish(1301.0)
}

/// The proof fails, and what was done is undone.
pub(super) fn undone_story(plan: &BoundPlan) -> Story {
    let aborted = |story: Story, name: &&str| story.skipped(name, 960.0, SkipReason::Aborted);
    let story = midway(plan)
        .failed("tables[users]", (901.0, 940.0), ErrorInfo::new(ErrorClass::Fatal, "`users` has no rows"))
        .skipped("tables[a%7Cb%20%3Cc%3E]", 940.1, SkipReason::Aborted)
        .failed("tables", (900.4, 951.1), ErrorInfo::new(ErrorClass::Fatal, "1 of 3 members failed"));
    ["prove", "sane", "warm", "unlock", "switch"]
        .iter()
        .fold(story, aborted)
        .skipped("unlock.undo", 961.0, SkipReason::NothingToUndo)
        .does("restore/stage.undo", (962.0, 990.0), json!({}))
        .does("tell", (991.0, 992.0), json!({}))
        .finish(993.0)
}

/// What is taken from an earlier run.
pub(super) fn seeded_story(plan: &BoundPlan) -> Story {
    let seeded = |name: &str| EventKind::StepSeeded {
        step: id(name),
        of: "20260128-120000-aaaaaa".parse().unwrap(),
        end: SeededEnd::Succeeded,
        output: json!({}),
    };
    Story::of(plan)
        .at(0.1, seeded("choose"))
        .at(0.1, seeded("go"))
        .at(0.1, seeded("restore/stage"))
        .at(0.2, EventKind::GroupOpened { step: id("restore"), instances: Vec::new() })
        .resolved("restore/recover", 0.3, json!({}))
        .attempt("restore/recover", 1, 0.4)
}

/// A fan-out of this many instances, every hundredth of which failed; then the run's end.
pub(super) fn thousand(count: usize) -> (BoundPlan, Story) {
    let plan = crate::plan::fixture::plan(vec![each(step("copy", "exec"))]);
    let keys: Vec<String> = (0..count).map(|number| format!("segment-{number:04}")).collect();
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    let mut story = Story::of(&plan).opened("copy", 0.1, &names);
    for (number, name) in (0_u32..).zip(&names) {
        let at = 1.0 + f64::from(number) / 2.0;
        let instance = format!("copy[{name}]");
        story = match number % 100 {
            99 => story.fails(&instance, (at, at + 3.0)),
            _ => story.does(
                &instance,
                (at, at + 3.0),
                json!({ "bytes": 16_777_216, "digest": Digest::of(name.as_bytes()) }),
            ),
        };
    }
    let error = ErrorInfo::new(ErrorClass::Fatal, "members failed");
    #[expect(clippy::cast_precision_loss, reason = "seconds of a test")]
    let end = count as f64;
    (plan, story.failed("copy", (0.1, end), error).finish(end))
}
