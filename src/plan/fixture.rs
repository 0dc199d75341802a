//! Plans for tests, built in a few lines.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::model::PlanSource;
use super::{BoundPlan, Edge, Limits, PlannedStep, Section, StepKind, Strictness, UndoPolicy};
use crate::action::{Access, Effects, Target};
use crate::base::effect::EffectClass;
use crate::base::mode::Mode;
use crate::base::units::Span;
use crate::base::{Digest, StepId, Timestamp};
use crate::event::Actor;
use crate::language::inventory::Inventory;
use crate::language::runbook::{Objectives, OnFailure, OnUnknown, Phase};

pub(crate) fn id(text: &str) -> StepId {
    text.parse().expect(text)
}

/// When the run of every fixture starts.
pub(crate) fn start() -> Timestamp {
    "2026-01-28T14:30:02Z".parse().unwrap()
}

fn minutes(count: u64) -> Span {
    Span(Duration::from_secs(count * 60))
}

/// A step without needs, effects or phase.
pub(crate) fn step(name: &str, uses: &str) -> PlannedStep {
    PlannedStep {
        id: id(name),
        name: name.to_owned(),
        description: String::new(),
        section: Section::Body,
        phase: None,
        uses: uses.to_owned(),
        with: json!({}),
        needs: Vec::new(),
        when: None,
        preconditions: Vec::new(),
        timeout_ms: None,
        stall_ms: None,
        retry: None,
        on_failure: OnFailure::Abort,
        on_unknown: OnUnknown::Ask,
        effects: Effects::of(EffectClass::Read),
        host: "local".to_owned(),
        secrets: Vec::new(),
        declares_drill: false,
        has_check: true,
        kind: StepKind::Action,
        group: None,
        for_each: None,
        item: None,
        always: false,
        locks: Vec::new(),
        creates: Vec::new(),
        fingerprint: Digest::of(name.as_bytes()),
    }
}

impl PlannedStep {
    pub(crate) fn needs(mut self, steps: &[&str]) -> Self {
        self.needs = steps.iter().map(|name| Edge { from: id(name), strictness: Strictness::Success }).collect();
        self
    }

    pub(crate) fn follows(mut self, name: &str) -> Self {
        self.needs = vec![Edge { from: id(name), strictness: Strictness::Settled }];
        self
    }

    pub(crate) fn phase(mut self, phase: &str) -> Self {
        self.phase = Some(phase.to_owned());
        self
    }

    pub(crate) fn with(mut self, with: Value) -> Self {
        self.with = with;
        self
    }

    pub(crate) fn tolerated(mut self) -> Self {
        self.on_failure = OnFailure::Continue;
        self
    }

    pub(crate) fn finally(mut self) -> Self {
        self.section = Section::Finally;
        self
    }

    fn changes(mut self, class: EffectClass, access: Access, target: Target) -> Self {
        self.effects.class = class;
        self.effects.targets.push((access, target));
        self
    }
}

/// A plan of the given steps: real, unprotected, no objectives, eight slots.
pub(crate) fn plan(steps: Vec<PlannedStep>) -> BoundPlan {
    BoundPlan {
        format: 1,
        run: "20260128-143002-3fa9c1".parse().unwrap(),
        name: "test".to_owned(),
        description: String::new(),
        owner: String::new(),
        controls: Vec::new(),
        mode: Mode::Real,
        environment: "default".to_owned(),
        protected: false,
        actor: Actor { name: "dora".to_owned(), from: "ops1".to_owned() },
        started_at: start(),
        incident_at: None,
        objectives: Objectives::default(),
        phases: Vec::new(),
        params: BTreeMap::new(),
        vars: BTreeMap::new(),
        inventory: Inventory::default(),
        scratch: PathBuf::from("/tmp/scratch"),
        steps,
        limits: Limits { max_parallel: 8 },
        locks: Vec::new(),
        queued_locks: BTreeSet::new(),
        groups: BTreeMap::new(),
        env_vars: BTreeMap::new(),
        undo: UndoPolicy::Never,
        origin: None,
        notify: Vec::new(),
        sources: Vec::new(),
    }
}

/// The shipped procedure for a lost database, bound for production.
pub(crate) fn full_db_loss() -> BoundPlan {
    let phase = |id: &str, name: &str, budget| Phase { id: id.to_owned(), name: name.to_owned(), budget: Some(budget) };
    let orders = || Target::Database { name: "orders".to_owned() };
    let backend = || Target::Service { name: "backend".to_owned() };
    let backups = Target::Store { name: "primary".to_owned(), prefix: "orders".to_owned() };
    let read = |step: PlannedStep, target| step.changes(EffectClass::Read, Access::Read, target);
    let write = |step: PlannedStep, target| step.changes(EffectClass::Write, Access::Write, target);
    let staging = Target::Path { host: "local".to_owned(), path: "/var/lib/postgresql/15/.runbook-stage".into() };
    let database = || json!({ "database": "{{ params.database }}" });
    let steps = vec![
        read(step("choose", "backup.find"), backups.clone()).phase("assess").with(database()),
        write(read(step("stage", "postgres.restore_base"), backups), staging).phase("restore").needs(&["choose"]),
        write(step("stop_apps", "service.stop"), backend()).phase("restore"),
        write(step("stop_server", "postgres.stop"), orders()).phase("restore").follows("stop_apps"),
        step("recover", "postgres.recover")
            .changes(EffectClass::Destroy, Access::Destroy, orders())
            .phase("restore")
            .needs(&["stage", "stop_server"]),
        read(step("prove", "postgres.check"), orders()).phase("verify").follows("recover"),
        write(step("start_apps", "service.start"), backend()).phase("resume").follows("prove"),
        read(step("back", "http.check"), Target::Url { prefix: "https://api.example.org/health/ready".to_owned() })
            .phase("resume")
            .follows("start_apps"),
        step("tell", "notify.command").finally(),
    ];
    let text = "version: 1\nname: full-db-loss\n".to_owned();
    BoundPlan {
        name: "full-db-loss".to_owned(),
        description: "Rebuild the database from the newest proven base backup and the archived WAL.".to_owned(),
        owner: "platform-oncall".to_owned(),
        controls: vec!["SOC2-A1.3".to_owned(), "ISO27001-A.8.13".to_owned()],
        environment: "production".to_owned(),
        protected: true,
        incident_at: Some("2026-01-28T14:00:00Z".parse().unwrap()),
        objectives: Objectives { rto: Some(minutes(240)), rpo: Some(minutes(15)) },
        phases: vec![
            phase("assess", "Declare the incident", minutes(5)),
            phase("restore", "Restore", minutes(40)),
            phase("verify", "Prove it", minutes(15)),
            phase("resume", "Back in service", minutes(10)),
        ],
        params: BTreeMap::from([("database".to_owned(), json!("orders")), ("recover_to".to_owned(), Value::Null)]),
        locks: vec!["database/orders".to_owned()],
        sources: vec![PlanSource {
            name: "runbooks/postgres/full-db-loss.yaml".to_owned(),
            digest: Digest::of(text.as_bytes()),
            text,
        }],
        ..plan(steps)
    }
}
